"""The latent the miniature is trained on: 16 numbers for each cell of 8x8 pixels and 4 frames, by linear algebra.

A video autoencoder trained from nothing spends its time on grey; the principal components of drawn cells are there in
seconds and reconstruct about as well. The transformer learns on these codes, the autoencoder learns to make and to
read them, and neither waits for the other. Twelve numbers are spatial and mean the same in a stream's first frame,
which is coded alone, and in a later group of four, where they code the mean; the other four are more of space in the
first frame and change over time in a group. Codes are divided by the root of their spread, not by the spread: a
whitened code would make the loss care for texture as much as for colour.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

CODES, SPATIAL = 16, 12
SIDE, GROUP = 8, 4


@dataclass(frozen=True, slots=True)
class Cells:
    """A fitted code. Pictures are in [-1, 1], channels last; a code is (frames, h, w, 16)."""

    mean: Floats  # (192,)
    space: Floats  # (16, 192) orthonormal; the last four serve first frames only
    time: Floats  # (4, 768) orthonormal, of what the spatial codes leave of a group
    scale_first: Floats  # (16,) a coefficient divided by this is its code
    scale_later: Floats  # (16,)

    def encode(self, video: Floats) -> Floats:
        """(px, H, W, 3) with px = 4n+1 to (1+n, H/8, W/8, 16)."""
        cells = to_cells(video) - self.mean  # (px, h, w, 192)
        first = cells[:1] @ self.space.T
        parts = [first / self.scale_first]
        if len(video) > 1:
            groups = cells[1:].reshape(-1, GROUP, *cells.shape[1:])
            spatial = groups.mean(axis=1) @ self.space[:SPATIAL].T
            rest = groups - (spatial @ self.space[:SPATIAL])[:, None]
            temporal = np.moveaxis(rest, 1, -2).reshape(*spatial.shape[:3], -1) @ self.time.T
            parts.append(np.concatenate([spatial, temporal], axis=-1) / self.scale_later)
        return np.concatenate(parts).astype(np.float32)

    def decode(self, codes: Floats) -> Floats:
        """(1+n, h, w, 16) to (1+4n, 8h, 8w, 3), not clamped."""
        first = (codes[:1] * self.scale_first) @ self.space
        parts = [first]
        if len(codes) > 1:
            coefficients = codes[1:] * self.scale_later
            spatial = coefficients[..., :SPATIAL] @ self.space[:SPATIAL]
            temporal = (coefficients[..., SPATIAL:] @ self.time).reshape(*spatial.shape[:3], GROUP, -1)
            groups = np.moveaxis(temporal + spatial[..., None, :], -2, 1)
            parts.append(groups.reshape(-1, *first.shape[1:]))
        return from_cells(np.concatenate(parts) + self.mean).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write the arrays to a .npz file."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Cells:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            return cls(**{field.name: stored[field.name] for field in fields(cls)})


def fit(videos: list[Floats]) -> Cells:
    """The code that keeps most of these videos, each (4n+1, H, W, 3) in [-1, 1]."""
    stills = np.concatenate([to_cells(video).reshape(-1, 3 * SIDE * SIDE) for video in videos])
    mean = stills.mean(axis=0)
    space = _components(stills - mean, CODES)
    rests: list[Floats] = []
    spatials: list[Floats] = []
    for video in videos:
        cells = to_cells(video)[1:] - mean
        groups = np.moveaxis(cells.reshape(-1, GROUP, *cells.shape[1:]), 1, -2)  # (n, h, w, 4, 192)
        spatial = groups.mean(axis=-2) @ space[:SPATIAL].T
        spatials.append(spatial.reshape(-1, SPATIAL))
        rests.append((groups - (spatial @ space[:SPATIAL])[..., None, :]).reshape(-1, GROUP * mean.size))
    rest = np.concatenate(rests)
    time = _components(rest, CODES - SPATIAL)
    root_first = np.sqrt(((stills - mean) @ space.T).std(axis=0))
    root_later = np.sqrt(np.concatenate([np.concatenate(spatials), rest @ time.T], axis=1).std(axis=0))
    unit = np.sqrt(np.mean(root_later**2))  # codes of unit power on the whole
    later = np.concatenate([root_first[:SPATIAL], root_later[SPATIAL:]])
    return Cells(mean, space, time, (root_first * unit).astype(np.float32), (later * unit).astype(np.float32))


def _components(rows: Floats, count: int) -> Floats:
    """The leading principal directions of rows, (count, width)."""
    _, vectors = np.linalg.eigh((rows.T @ rows).astype(np.float64))
    return np.ascontiguousarray(vectors[:, ::-1][:, :count].T).astype(np.float32)


def to_cells(video: Floats) -> Floats:
    """(px, H, W, 3) to (px, H/8, W/8, 192)."""
    pixels, height, width, _ = video.shape
    parts = video.reshape(pixels, height // SIDE, SIDE, width // SIDE, SIDE, 3).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(pixels, height // SIDE, width // SIDE, -1)


def from_cells(cells: NDArray[np.floating]) -> NDArray[np.floating]:
    """The inverse of `to_cells`."""
    pixels, rows, columns, _ = cells.shape
    parts = cells.reshape(pixels, rows, columns, SIDE, SIDE, 3).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(parts.reshape(pixels, rows * SIDE, columns * SIDE, 3))
