"""Pictures the media tests share: real ones beside the repository, small ones made here."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import OpenEXR
import pytest


@pytest.fixture
def picture() -> np.ndarray:
    """A small scene-linear picture (24, 40, 3) half with values over a wide range."""
    random = np.random.default_rng(7)
    return np.exp2(random.uniform(-8, 4, (24, 40, 3))).astype(np.float16)


@pytest.fixture
def exr_file(tmp_path: Path, picture: np.ndarray) -> Callable[..., Path]:
    """Writes an EXR by the library alone: exr_file(name, header, channels) with R, G and B by default."""

    def write(name: str = "plate.exr", header: dict | None = None, channels: dict | None = None) -> Path:
        planes = {"R": picture[..., 0], "G": picture[..., 1], "B": picture[..., 2]} if channels is None else channels
        planes = {key: np.ascontiguousarray(value) for key, value in planes.items()}
        full = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage} | (header or {})
        OpenEXR.File(full, planes).write(str(tmp_path / name))
        return tmp_path / name

    return write
