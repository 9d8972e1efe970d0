"""A tiny snapshot, an engine on it, and segments small enough to render in a blink."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scail2_farm import engine

HEIGHT, WIDTH = 32, 64
SAMPLING = {field.name for field in dataclasses.fields(engine.Sampling)}


@pytest.fixture(scope="session")
def snapshot_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny snapshot; not to be changed."""
    folder = tmp_path_factory.mktemp("snapshot")
    engine.write_tiny_snapshot(folder, seed=1)
    return folder


@pytest.fixture(scope="session")
def loaded(snapshot_folder: Path) -> engine.Engine:
    return engine.load(snapshot_folder)


@pytest.fixture(scope="session")
def segment() -> Callable[..., engine.SegmentInputs]:
    """A segment of `pixels` frames of 64x32; any field of SegmentInputs, and those of Sampling, may be given."""

    def make(pixels: int = 5, **fields: Any) -> engine.SegmentInputs:
        walk: dict[str, Any] = {"solver": "euler", "steps": 2, "shift": 5.0, "guidance": 1.0}
        walk |= {name: fields.pop(name) for name in SAMPLING & fields.keys()}
        replace = fields.setdefault("replace", True)
        slots = fields.pop("slots", ("blue",))
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        moving = [(x - 15 - 2 * t) ** 2 + (y - 16) ** 2 < 80 for t in range(pixels)]
        labels = np.array(moving, dtype=np.uint8)
        driving = [np.stack([y / HEIGHT, x / WIDTH, disc], axis=-1) for disc in moving]
        picture = np.stack([x / WIDTH, y / HEIGHT, 0.5 + 0.5 * np.sin(x / 5)], axis=-1)
        standing = ((x - 32) ** 2 + (y - 16) ** 2 < 120).astype(np.uint8)
        driving_back, reference_back = (
            engine.driving_background(replace=replace),
            engine.reference_background(replace=replace),
        )
        values: dict[str, Any] = {
            "driving": np.array(driving, dtype=np.float32),
            "driving_mask": engine.paint(labels, background=driving_back, slots=slots),
            "reference": picture.astype(np.float32),
            "reference_mask": engine.paint(standing, background=reference_back, slots=slots),
            "prompt": "a woman in a red coat",
            "sampling": engine.Sampling(**walk),
            "seed": 3,
        }
        return engine.SegmentInputs(**(values | fields))

    return make


@pytest.fixture(scope="session")
def render(loaded: engine.Engine) -> Callable[..., engine.SegmentResult]:
    """Render a segment to its end."""

    def run(inputs: engine.SegmentInputs, using: engine.Engine | None = None, **injected: Any) -> engine.SegmentResult:
        steps = (using or loaded).render(inputs, **injected)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return stop.value

    return run
