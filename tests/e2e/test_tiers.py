"""A root of tiers through `submit` and `up`: the tier that is asked for is the folder that is rendered with."""

import sys
from pathlib import Path

import pytest
from submissions import Cut

from scail2_farm.engine.quantize import quantize_snapshot

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "faults"))
from farmhouse import Farm


@pytest.fixture(scope="module")
def root(tmp_path_factory, weights) -> Path:
    """The small snapshot in 8 and in 4 bits."""
    folder = tmp_path_factory.mktemp("published")
    for bits in (8, 4):
        for _ in quantize_snapshot(weights, folder / f"q{bits}", bits=bits):
            pass
    return folder


@pytest.fixture
def cut(cut: Cut) -> Cut:
    """One short shot."""
    cut.plate("SH010", 5)
    cut.played("SH010", 5)
    cut.manifest["handles"] = {"head": 0, "tail": 0}
    return cut


def test_a_tier_is_said_by_option_environment_or_folder(cut: Cut, root, farm, monkeypatch: pytest.MonkeyPatch):
    edit = cut.write()
    said = farm("submit", edit, "--weights", root, "--tier", "q8", "--json")
    assert said.code == 0, said.err
    assert cut.take("SH010").weights.path == str(root / "q8")
    said = farm("submit", edit, "--weights", root / "q8", "--json")
    assert said.document["takes"][0]["rendered_before"], "it is the same snapshot, however it is named"
    monkeypatch.setenv("SCAIL2_WEIGHTS", str(root))
    monkeypatch.setenv("SCAIL2_TIER", "q4")
    said = farm("submit", edit, "--json")
    assert said.code == 0, said.err
    assert cut.take("SH010", 2).weights.path == str(root / "q4")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), "SF-WEIGHTS-MISSING", "holds tiers (q4, q8), and none is named"),
        (("--tier", "bf16"), "SF-WEIGHTS-MISSING", "holds tiers (q4, q8), not bf16"),
        (("--weights", "q4", "--tier", "q8"), "SF-WEIGHTS-MISMATCH", "q8 was asked for"),
    ],
)
def test_a_tier_that_is_not_there_is_told_before_anything(cut: Cut, root, farm, monkeypatch, arguments, code, words):
    monkeypatch.setenv("SCAIL2_WEIGHTS", str(root))
    monkeypatch.chdir(root)
    said = farm("submit", cut.write(), *arguments, "--json")
    assert (said.code, said.codes) == (4, [code])
    assert words in said.document["faults"][0]["what"]
    assert not (cut.folder / "edit.scail2").exists()
    said = farm("up", cut.folder / "farm", *arguments)
    assert said.code == 4
    assert code in said.err
    assert words in said.err
    assert not (cut.folder / "farm").exists()


def test_a_farm_renders_with_the_tier_it_was_started_with(cut: Cut, root, tmp_path):
    with Farm(tmp_path / "farm", root, arguments=("--tier", "q8")) as running:
        running.drop(cut)
        assert running.returned()["state"] == "done"
        assert running.end() == 0, running.said[-4000:]
    assert cut.take("SH010").weights.path == str(root / "q8")
