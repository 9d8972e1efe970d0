"""The backend is opened first, its absence is explained, and a fast BLAS is welcome but not needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scail2_farm import engine
from scail2_farm.engine import backend
from scail2_farm.errors import HostUnsupported

WITHOUT_MLX = """
import sys
sys.modules["mlx.core"] = None
from scail2_farm.errors import HostUnsupported
try:
    import scail2_farm.engine
except HostUnsupported as error:
    print(error)
"""

WITHOUT_OPENBLAS = """
import ctypes, pathlib, sys
import numpy as np
found = ctypes.CDLL

def absent(name, *rest, **more):
    if name and "openblas" in str(name):
        raise OSError(f"{name}: cannot open shared object file")
    return found(name, *rest, **more)

ctypes.CDLL = absent
from scail2_farm import engine
arrays = np.load(sys.argv[2])
sampling = engine.Sampling(solver="unipc", steps=2, shift=5.0, guidance=2.0)
inputs = engine.SegmentInputs(**arrays, prompt="a", replace=True, seed=0, sampling=sampling)
steps = engine.load(pathlib.Path(sys.argv[1])).render(inputs)
while True:
    try:
        next(steps)
    except StopIteration as stop:
        np.save(sys.argv[3], stop.value.frames)
        break
"""


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def test_no_backend_names_both_commands() -> None:
    """Importing the engine where mlx cannot be imported tells how to install it."""
    told = run(WITHOUT_MLX)
    assert "SF-HOST-UNSUPPORTED" in told
    assert "pip install 'scail2-farm[cpu]'" in told
    assert "pip install 'scail2-farm[cuda]'" in told


def test_a_device_that_cannot_compute_is_told(monkeypatch: pytest.MonkeyPatch, snapshot_folder: Path) -> None:
    """A wheel for a device this machine lacks fails at load, not in the middle of a shot."""

    def broken(*arrays: object) -> None:
        raise RuntimeError("no CUDA-capable device is detected")

    monkeypatch.setattr(backend, "evaluate", broken)
    with pytest.raises(HostUnsupported, match=r"no CUDA-capable device"):
        engine.load(snapshot_folder)


def test_pictures_are_the_same_without_openblas(
    snapshot_folder: Path,
    tmp_path: Path,
    segment: Callable[..., engine.SegmentInputs],
    render: Callable[..., engine.SegmentResult],
) -> None:
    """The reference BLAS of the wheel gives the same frames, only later."""
    inputs = segment(prompt="a", seed=0, sampling=engine.Sampling(solver="unipc", steps=2, shift=5.0, guidance=2.0))
    arrays = {name: getattr(inputs, name) for name in ("driving", "driving_mask", "reference", "reference_mask")}
    np.savez(tmp_path / "inputs.npz", **arrays)
    run(WITHOUT_OPENBLAS, str(snapshot_folder), str(tmp_path / "inputs.npz"), str(tmp_path / "frames.npy"))
    np.testing.assert_allclose(np.load(tmp_path / "frames.npy"), render(inputs).frames, atol=2e-3)
