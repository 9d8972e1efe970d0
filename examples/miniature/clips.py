"""The training set: scenes drawn once, coded, and kept as small arrays grouped by shape.

A sample holds what the transformer sees and what it should answer, all on the latent grid, so that a step of training
draws nothing. Masks are kept as coverage by slot; which colour a slot has is dealt anew each time a sample is used.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cells import Cells, fit
from scenes import SLOTS, Clip, scene

ROOMY = 96  # pixels across from which four people fit


@dataclass(frozen=True, slots=True)
class Kind:
    """How many clips of one shape the set holds."""

    width: int
    height: int
    frames: int
    clips: int

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{self.width}x{self.height}x{self.frames}"


KINDS = (
    Kind(64, 64, 9, 7500),
    Kind(96, 64, 17, 5000),
    Kind(64, 96, 9, 2250),
    Kind(96, 96, 9, 2250),
)
SHARD = 250


def draw(kind: Kind, number: int, seed: int) -> Clip:
    """The clip of this number; the mix of people, modes and references is decided here."""
    rng = np.random.default_rng([seed, kind.width, kind.height, number])
    most = 4 if kind.width >= ROOMY else 3
    characters = int(rng.choice(4, p=[0.27, 0.45, 0.22, 0.06]) + 1)
    drawn = scene(
        [seed, 1, kind.width, kind.height, number],
        characters=min(characters, most),
        replace=bool(rng.random() < 0.75),
        bystanders=int(characters < 4 and rng.random() < 0.15),
        aspect=kind.width / kind.height,
        portrait=float(rng.uniform(0.55, 0.9)) if rng.random() < 0.4 else None,
    )
    return drawn.draw(width=kind.width, height=kind.height, frames=kind.frames, first=int(rng.integers(200)))


def halved(video: np.ndarray) -> np.ndarray:
    """The mean of each 2x2 pixels, as the engine reads a driving clip."""
    px, height, width, channels = video.shape
    return video.reshape(px, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


def pooled(shares: np.ndarray) -> np.ndarray:
    """(px, H, W) to (px, H/8, W/8) means."""
    px, height, width = shares.shape
    return shares.reshape(px, height // 8, 8, width // 8, 8).mean(axis=(2, 4), dtype=np.float32)


def grouped(frames: np.ndarray) -> np.ndarray:
    """(px, ...) to (T, 4, ...): the first frame fills its group alone."""
    return np.concatenate([frames[:1]] * 3 + [frames]).reshape(-1, 4, *frames.shape[1:])


def coverage(labels: np.ndarray) -> np.ndarray:
    """Labels (px, H, W) to the share of each of 0..6 in each cell, (px, h, w, 7); other labels count as nothing."""
    return np.stack([pooled(labels == slot) for slot in range(SLOTS + 1)], axis=-1)


def halved_labels(labels: np.ndarray, *, replace: bool) -> np.ndarray:
    """The driving mask at half size, by what the engine's threshold leaves of the mean of four colours.

    A colour channel is on where it is on in all four pixels. White gives way to any colour, so in replacement the edge
    of a person stays with the person; in animation it is nobody's. Where people touch it is nobody's here, while two
    real colours may share a channel: the one place where this differs from the engine.
    """
    quads = labels.reshape(len(labels), labels.shape[1] // 2, 2, labels.shape[2] // 2, 2)
    quads = quads.transpose(0, 1, 3, 2, 4).reshape(len(labels), labels.shape[1] // 2, labels.shape[2] // 2, 4)
    highest = quads.max(axis=-1)
    same = (quads == highest[..., None]) | ((quads == 0) & replace)
    return np.where(same.all(axis=-1), highest, SLOTS + 1)


def sample(clip: Clip, cells: Cells) -> dict[str, np.ndarray]:
    """The arrays of one clip; latents (T, h, w, 16), masks (T, 4, h, w, 7) with the background first."""
    driving = halved(clip.driving * 2 - 1)
    return {
        "target": cells.encode(clip.target * 2 - 1).astype(np.float16),
        "reference": cells.encode(clip.reference[None] * 2 - 1).astype(np.float16)[0],
        "driving": cells.encode(driving).astype(np.float16),
        "reference_mask": coverage(clip.reference_labels[None]).astype(np.float16)[0],
        "driving_mask": grouped(coverage(halved_labels(clip.labels, replace=clip.replace))).astype(np.float16),
        "matte": grouped(pooled(clip.labels > 0)).mean(axis=1).astype(np.float16),
        "replace": np.array(clip.replace),
    }


def fit_cells(folder: Path, *, seed: int, clips: int = 120) -> None:
    """Fit the code on clips of every kind and write it, unless it is there."""
    path = folder / "cells.npz"
    if path.exists():
        return
    videos: list[np.ndarray] = []
    for kind in KINDS:
        for number in range(clips // len(KINDS)):
            clip = draw(kind, 10_000_000 + number, seed)
            videos += [clip.target * 2 - 1, halved(clip.driving * 2 - 1)]
            videos += [np.repeat(clip.reference[None] * 2 - 1, 5, axis=0)]
    fit(videos).save(path)


def write_shard(folder: Path, kind: Kind, first: int, seed: int) -> None:
    """Draw and write samples `first` up to `first + SHARD`, unless they are there."""
    path = folder / f"{kind.name}-{first:06}.npz"
    if path.exists():
        return
    cells = Cells.load(folder / "cells.npz")
    samples = [sample(draw(kind, first + index, seed), cells) for index in range(SHARD)]
    part = path.with_suffix(".part.npz")
    np.savez(part, allow_pickle=False, **{name: np.stack([one[name] for one in samples]) for name in samples[0]})
    part.rename(path)


def write_all(folder: Path, *, seed: int, processes: int) -> None:
    """Write the whole set, shards of all kinds by turns, so that a part of it is already a mixture."""
    folder.mkdir(parents=True, exist_ok=True)
    fit_cells(folder, seed=seed)
    shards = [(first / kind.clips, kind, first) for kind in KINDS for first in range(0, kind.clips, SHARD)]
    jobs = [(folder, kind, first, seed) for _, kind, first in sorted(shards, key=lambda shard: shard[0])]
    with multiprocessing.Pool(processes) as pool:
        pool.starmap(write_shard, jobs, chunksize=1)
