# pyright: reportUnknownMemberType=false
# (the stubs of mlx.core leave the axes of reshape and transpose untyped)
"""Where a token stands, as a rotation: rotary phases of the packed sequence (engine.md §2.4).

The sequence is `[extra refs | ref | video | driving]`. Each head is adjacent pairs of lanes, real and imaginary; the
first pairs turn with time, the next with the row, the last with the column. Tables are made on the host in float64
and stored as float32 cosines and sines: float32 phases drift visibly at positions past a hundred.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

THETA = 10000.0
POSITIONS = 8192  # length of the official table; nothing may stand beyond it
REF_ROW_SHIFT = 120  # replacement: references stand below the video
DRIVING_COLUMN_SHIFT = 120  # always: the driving video stands right of the video

Phases = NDArray[np.complex128]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The packed sequence in tokens: `frames` latent frames of `rows` x `columns`, and `extra` references."""

    frames: int
    rows: int
    columns: int
    extra: int
    replace: bool

    def __post_init__(self) -> None:
        if self.rows % 2 or self.columns % 2:
            raise ValueError(f"a token grid of {self.rows}x{self.columns} cannot be halved; both sides must be even")

    @property
    def still(self) -> int:
        """Tokens of all references."""
        return (self.extra + 1) * self.rows * self.columns

    @property
    def video(self) -> int:
        """Tokens of the video being made."""
        return self.frames * self.rows * self.columns

    @property
    def driving(self) -> int:
        """Tokens of the driving video, which has half the rows and columns."""
        return self.video // 4


def lane_pairs(head_dim: int) -> tuple[int, int, int]:
    """Pairs of lanes for time, row and column: 22, 21, 21 of the 64 pairs at head_dim 128."""
    spatial = head_dim // 6
    return head_dim // 2 - 2 * spatial, spatial, spatial


def axis_phases(positions: NDArray[np.int64], pairs: int) -> Phases:
    """exp(i p w_j) with w_j = theta^(-j/pairs): (positions, pairs) complex128."""
    if positions.max() >= POSITIONS:
        raise ValueError(f"position {positions.max()} lies beyond the {POSITIONS} positions of the rotary table")
    frequencies = THETA ** (-np.arange(pairs, dtype=np.float64) / pairs)
    return np.exp(1j * positions[:, None] * frequencies)


def _halved(phases: Phases) -> Phases:
    """The mean of neighbours; a lane turns with one axis only, so the 2x2 mean of the grid falls apart into these."""
    return phases.reshape(-1, 2, phases.shape[-1]).mean(axis=1)


def _packed(time: Phases, row: Phases, column: Phases) -> Phases:
    shape = (len(time), len(row), len(column))
    lanes = [
        np.broadcast_to(time[:, None, None], (*shape, time.shape[-1])),
        np.broadcast_to(row[None, :, None], (*shape, row.shape[-1])),
        np.broadcast_to(column[None, None, :], (*shape, column.shape[-1])),
    ]
    return np.concatenate(lanes, axis=-1).reshape(len(time) * len(row) * len(column), -1)  # (T*H*W, head_dim/2)


def rope_table(grid: Grid, head_dim: int) -> tuple[mx.array, mx.array]:
    """Cosines and sines of every token, (L, head_dim/2) float32 each; driving tokens have a modulus below 1."""
    pairs_time, pairs_row, pairs_column = lane_pairs(head_dim)
    references = np.arange(grid.extra + 1)
    moving = np.arange(grid.frames) + grid.extra + (0 if grid.replace else 1)
    rows, columns = np.arange(grid.rows), np.arange(grid.columns)
    down = REF_ROW_SHIFT if grid.replace else 0

    time, row = axis_phases(moving, pairs_time), axis_phases(rows, pairs_row)
    column = axis_phases(columns, pairs_column)
    still = _packed(axis_phases(references, pairs_time), axis_phases(rows + down, pairs_row), column)
    video = _packed(time, row, column)
    right = axis_phases(columns + DRIVING_COLUMN_SHIFT, pairs_column)
    driving = _packed(time, _halved(row), _halved(right))
    table = np.concatenate([still, video, driving])
    return mx.array(table.real.astype(np.float32)), mx.array(table.imag.astype(np.float32))


def rotate(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """Turn each adjacent pair of lanes of x (L, heads, head_dim) by its token's phase."""
    pairs = x.reshape(*x.shape[:-1], -1, 2)  # (L, heads, head_dim/2, 2)
    real, imaginary = pairs[..., 0], pairs[..., 1]
    c, s = cos[:, None], sin[:, None]  # (L, 1, head_dim/2)
    return mx.stack([real * c - imaginary * s, real * s + imaginary * c], axis=-1).reshape(x.shape)
