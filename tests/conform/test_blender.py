"""Blender conforms a returned cut: its sequence editor shows the delivered EXR frames bit for bit.

Blender is a Python package that wants another numpy than ours: `make blender` gives it an environment of its own.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from returned import Returned, absent
from submissions import HEIGHT, WIDTH, read_exr

HERE = Path(__file__).resolve().parent
PYTHON = Path(os.environ.get("SCAIL2_BPY_PYTHON", HERE.parents[1] / ".venv-bpy" / "bin" / "python"))


@pytest.fixture
def blender(tmp_path):
    """Conform a cut in Blender: the picture of every record frame, float32."""
    if not PYTHON.is_file():
        absent(f"no Blender at {PYTHON}: run `make blender`, or set SCAIL2_BPY_PYTHON to a Python that imports bpy")

    def conform(edit: Path) -> list[np.ndarray]:
        out = tmp_path / edit.stem
        arguments = [PYTHON, HERE / "blender_conform.py", edit, f"{WIDTH}x{HEIGHT}", out]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return [read_exr(path) for path in sorted(out.glob("*.exr"))]

    return conform


def test_blender_shows_every_delivered_frame_where_the_cut_says(returned: Returned, blender):
    assert returned.differing(blender(returned.edit)) == []


def test_blender_shows_a_clip_that_slipped_by_one_frame(returned: Returned, blender):
    edit, where = returned.slipped()
    assert returned.differing(blender(edit)) == where
