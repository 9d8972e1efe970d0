"""LoRAs through `submit`: by path and by name, in the preset and in its place, in the keys and in the takes."""

from pathlib import Path

import numpy as np
import pytest
from submissions import Cut, read_exr, write_lora

from scail2_farm.documents import Take, read_document


@pytest.fixture
def cut(one_shot: Cut) -> Cut:
    """One shot of one segment."""
    one_shot.manifest["handles"] = {"head": 0, "tail": 0}
    one_shot.clips[0]["source_range"]["duration"]["value"] = 5
    return one_shot


def rendered(cut: Cut, farm, version: int) -> tuple[Take, np.ndarray]:
    """The take that submitting comes to, and the model's own first frame."""
    said = farm("submit", cut.write(), "--weights", cut.weights, "--keep", "raw", "--json")
    assert said.code == 0, said.err
    folder = cut.version("SH010", version)
    take = read_document(folder / "take.json", Take)
    return take, read_exr(folder / f"raw/SH010_scail2_v{version:03d}_raw.{take.first_file:04d}.exr")


def test_a_lora_by_its_path(cut: Cut, farm):
    bare, without = rendered(cut, farm, 1)
    assert bare.segments[0].loras == ()
    lora = write_lora(cut.folder / "loras/look.safetensors", seed=1)
    cut.manifest["defaults"]["loras"] = [{"path": "loras/look.safetensors", "strength": 0.8}]
    worn, within = rendered(cut, farm, 2)
    assert [(Path(one.path), one.strength) for one in worn.segments[0].loras] == [(lora, 0.8)]
    assert str(lora) in {file.path for file in worn.inputs}
    assert np.abs(within - without).max() > 0.01
    assert worn.key != bare.key


def test_a_changed_file_is_another_take_and_its_name_is_not(cut: Cut, farm):
    write_lora(cut.folder / "a.safetensors", seed=1)
    cut.manifest["defaults"]["loras"] = [{"path": "a.safetensors"}]
    first, _ = rendered(cut, farm, 1)
    (cut.folder / "a.safetensors").rename(cut.folder / "b.safetensors")
    cut.manifest["defaults"]["loras"] = [{"path": "b.safetensors"}]
    again, _ = rendered(cut, farm, 1)
    assert again.key == first.key
    write_lora(cut.folder / "b.safetensors", seed=2)
    other, _ = rendered(cut, farm, 2)
    assert other.key != first.key


def test_strength_nought_is_the_bare_network(cut: Cut, farm):
    _, without = rendered(cut, farm, 1)
    write_lora(cut.folder / "a.safetensors", seed=1)
    cut.manifest["defaults"]["loras"] = [{"path": "a.safetensors", "strength": 0}]
    _, within = rendered(cut, farm, 2)
    assert np.array_equal(without, within)


def test_a_preset_wears_what_the_settings_name(cut: Cut, farm, monkeypatch: pytest.MonkeyPatch):
    bare, without = rendered(cut, farm, 1)
    dpo = write_lora(cut.folder / "models/dpo.safetensors", seed=3)
    monkeypatch.setenv("SCAIL2_LORAS", f"dpo={dpo}")
    worn, within = rendered(cut, farm, 2)
    assert [(one.path, one.strength) for one in worn.segments[0].loras] == [(str(dpo), 1.0)]
    assert np.abs(within - without).max() > 0.01
    cut.manifest["defaults"]["loras"] = []
    none, _ = rendered(cut, farm, 1)
    assert none.key == bare.key, "said to be none: as before"


def test_lightning_needs_its_lora(cut: Cut, farm, monkeypatch: pytest.MonkeyPatch):
    cut.manifest["defaults"] = {key: cut.manifest["defaults"][key] for key in ("size", "seed", "segment", "prompt")}
    cut.manifest["defaults"]["preset"] = "lightning"
    said = farm("check", cut.write(), "--json")
    assert (said.code, said.codes) == (4, ["SF-WEIGHTS-MISSING"])
    assert "lightx2v" in said.err
    monkeypatch.setenv("SCAIL2_LORAS", f"lightx2v={write_lora(cut.folder / 'l.safetensors', seed=4)}")
    take, _ = rendered(cut, farm, 1)
    (segment,) = take.segments
    assert (segment.sampler.solver, segment.sampler.steps, segment.sampler.shift) == ("unipc", 8, 1.0)
    assert [one.strength for one in segment.loras] == [1.0]


@pytest.mark.parametrize(
    ("lora", "code", "exit_code", "mention"),
    [
        ({"path": "nowhere.safetensors"}, "SF-SUBMISSION-INVALID", 3, "nowhere.safetensors"),
        ({"name": "relight"}, "SF-WEIGHTS-MISSING", 4, "relight"),
        ({"path": "wide.safetensors"}, "SF-WEIGHTS-MISMATCH", 4, "wide.safetensors"),
        ({"path": "refs/ada.png"}, "SF-WEIGHTS-MISMATCH", 4, "ada.png"),
    ],
)
def test_a_lora_that_cannot_be_worn_is_told(cut: Cut, farm, lora, code, exit_code, mention):
    write_lora(cut.folder / "wide.safetensors", seed=5, dim=256)
    cut.manifest["defaults"]["loras"] = [lora]
    said = farm("submit", cut.write(), "--weights", cut.weights, "--json")
    assert (said.code, said.codes) == (exit_code, [code]), said.err
    assert mention in said.err
    assert not cut.version("SH010").exists()
