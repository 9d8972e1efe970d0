"""The engine against the reference, file by file, and the harness against itself."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from parity_harness import Arrays, Comparison, Golden, answers, compare, judge
from safetensors.numpy import save_file

OWN = Path(__file__).parent / "golden"
NETWORKS = ("dit_animation", "dit_replacement", "dit_history", "dit_additional_refs", "dit_batch2")
OTHERS = ("cfg_segment", "clip_visual", "mask_pack", "rope_tables", "umt5", "vae_decode", "vae_encode")
SOLVERS = ("dpmpp_16", "euler_6", "unipc_8", "unipc_40")


def test_file(golden_file: Path, tmp_path: Path, comparisons: dict[str, list[Comparison]]) -> None:
    """Every expected tensor is met; and were any one of them moved, or not a number, the file would fail."""
    golden = Golden.read(golden_file)
    made = answers(golden, tmp_path)
    comparisons[golden_file.name] = found = compare(golden, made)
    judge(golden, found)
    for comparison in found:
        for wrong in (_moved(3 * comparison.tolerance or 1.0), _not_a_number):
            copy = write_copy(golden, tmp_path / "moved.safetensors", {comparison.tensor: wrong})
            with pytest.raises(AssertionError, match=comparison.tensor):
                judge(golden, compare(Golden.read(copy), made))


def _moved(distance: float) -> Callable[[Arrays, str], None]:
    def change(arrays: Arrays, name: str) -> None:
        arrays[name].reshape(-1)[0] += distance

    return change


def _not_a_number(arrays: Arrays, name: str) -> None:
    arrays[name].reshape(-1)[0] = np.nan


def write_copy(
    golden: Golden,
    path: Path,
    changes: dict[str, Callable[[Arrays, str], None]],
    *,
    kind: str | None = None,
) -> Path:
    """The file again, with some of its expectations changed in place or its kind replaced."""
    arrays = {name: np.array(array) for name, array in golden.arrays.items()}
    for name, change in changes.items():
        change(arrays, f"out.{name}")
    save_file(
        arrays,
        path,
        metadata={
            "kind": kind or golden.kind,
            "config": json.dumps(golden.config),
            "tolerance": json.dumps(golden.tolerance),
        },
    )
    return path


def test_a_folder_of_wrong_expectations_fails_file_by_file(tmp_path: Path) -> None:
    """The command a stranger would use, on our files with every expectation moved by 3 tolerances, and a new kind."""
    names: list[str] = []
    for path in sorted(OWN.glob("*.safetensors")):
        golden = Golden.read(path)
        worst = {
            name: _moved(3 * max([value for value in golden.tolerance.values() if isinstance(value, float)]))
            for name in golden.group("out.")
        }
        names.append(write_copy(golden, tmp_path / path.name, worst).name)
    known = Golden.read(OWN / "rope_tables.safetensors")
    names.append(write_copy(known, tmp_path / "unheard_of.safetensors", {}, kind="unheard_of").name)

    command = [sys.executable, "-m", "pytest", str(Path(__file__).parent), "--golden", str(tmp_path)]
    ran = subprocess.run(
        [*command, "-k", "test_file", "-q", "-rf", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout
    assert f"{len(names)} failed" in ran.stdout, ran.stdout
    for name in names:
        assert f"FAILED {Path(__file__).name}::test_file[{name}]" in ran.stdout.replace("tests/parity/", ""), name


def test_our_copy_is_whole() -> None:
    """The files here are those whose digests came with them."""
    lines = [line.split() for line in (OWN / "SHA256SUMS").read_text().splitlines()]
    listed = {name: digest for digest, name in lines}
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in OWN.glob("*.safetensors")}
    assert digests == {name: digest for name, digest in listed.items() if name.endswith(".safetensors")}
    assert set(digests) == {f"{name}.safetensors" for name in (*NETWORKS, *OTHERS, *SOLVERS)}


def test_the_pitfalls_name_tests_that_exist() -> None:
    """README.md speaks of files and tests; each is there."""
    text = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    unit = Path(__file__).parents[1] / "unit" / "engine"
    named = re.findall(r"`(test_engine_\w+\.py)::(\w+)`", text)
    assert len(named) > 8
    for file, name in named:
        assert f"def {name}(" in (unit / file).read_text(encoding="utf-8"), f"{file}::{name} is in README.md alone"
    for name in re.findall(r"`((?:dit|vae|rope|mask|clip|cfg|umt5|unipc|dpmpp|euler)_\w+)`", text):
        assert (OWN / f"{name}.safetensors").is_file(), f"{name} is in README.md alone"


def test_an_expectation_nobody_computes_is_a_failure() -> None:
    """A file that expects a tensor the engine does not give fails instead of passing in part."""
    golden = Golden.read(OWN / "rope_tables.safetensors")
    golden.arrays["out.anim_d16.tangent"] = np.zeros(3, dtype=np.float32)
    with pytest.raises(AssertionError, match=r"nothing is compared with out\.anim_d16\.tangent"):
        compare(golden, answers(golden, OWN))
