"""Who is seen where: mean colours inside mattes, which tell one drawn person from another."""

import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scail2_farm import engine

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "miniature"))

from scenes import Clip

Floats = NDArray[np.float32]
SAMPLING = engine.Sampling(solver="euler", steps=6, shift=5.0, guidance=1.0)


def played(
    loaded: engine.Engine, clip: Clip, *, seed: int = 1, segment: int = 0, history: Floats | None = None
) -> Floats:
    """The model's answer to a drawn clip: (frames, H, W, 3) in 0..1, history dropped."""
    inputs = engine.SegmentInputs(
        driving=clip.driving,
        driving_mask=engine.paint(clip.labels, background=engine.driving_background(replace=clip.replace)),
        reference=clip.reference,
        reference_mask=engine.paint(
            clip.reference_labels, background=engine.reference_background(replace=clip.replace)
        ),
        history=history,
        prompt="",
        replace=clip.replace,
        sampling=SAMPLING,
        seed=seed,
        segment=segment,
    )
    with closing(loaded.render(inputs)) as steps:
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return stop.value.frames


def mean_color(frames: Floats, where: NDArray[np.bool_]) -> Floats:
    """The mean colour of frames (n, H, W, 3) where `where` (n, H, W), on a scale of 255."""
    return frames[where].mean(axis=0) * 255


def distance(one: Floats, other: Floats) -> float:
    """How far two mean colours are apart, per channel."""
    return float(np.abs(one - other).mean())


def seen(frames: Floats, labels: NDArray[np.uint8], looks: Mapping[str, Floats]) -> dict[int, str]:
    """For each slot in `labels`, which of the looks (mean colours by name) its pixels are nearest to."""
    found: dict[int, str] = {}
    for slot in sorted(set(np.unique(labels).tolist()) - {0}):
        color = mean_color(frames, labels == slot)
        found[slot] = min(looks, key=lambda name: distance(color, looks[name]))
    return found
