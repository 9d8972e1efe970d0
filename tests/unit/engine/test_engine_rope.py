"""Rotary phases: lanes, positions and the shorter phases of the driving video (engine.md §2.4)."""

from __future__ import annotations

import itertools

import mlx.core as mx
import numpy as np
import pytest

from scail2_farm.engine.rope import Grid, axis_phases, lane_pairs, rope_table, rotate


def test_lanes() -> None:
    """64 pairs part as 22, 21, 21; narrow heads follow the same rule."""
    assert [lane_pairs(head_dim) for head_dim in (128, 32, 24, 16)] == [(22, 21, 21), (6, 5, 5), (4, 4, 4), (4, 2, 2)]


def _token(position: tuple[int, int, int], head_dim: int) -> list[complex]:
    """The phases of one token, lane by lane, straight from the formula."""
    lanes: list[complex] = []
    for where, pairs in zip(position, lane_pairs(head_dim), strict=True):
        lanes += [np.exp(1j * where * 10000.0 ** (-2 * j / (2 * pairs))) for j in range(pairs)]
    return lanes


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("extra", [0, 2])
def test_positions_are_those_of_the_table(replace: bool, extra: int) -> None:
    """Each segment of the sequence stands at the time, row and column of the published table."""
    grid = Grid(frames=3, rows=2, columns=4, extra=extra, replace=replace)
    down, start = (120, extra) if replace else (0, extra + 1)
    still = [_token((t, y + down, x), 32) for t in range(extra + 1) for y in range(2) for x in range(4)]
    video = [_token((start + t, y, x), 32) for t in range(3) for y in range(2) for x in range(4)]
    driving = [
        np.mean([_token((start + t, y, x + 120), 32) for y in (0, 1) for x in (first, first + 1)], axis=0)
        for t, first in itertools.product(range(3), (0, 2))
    ]
    cos, sin = rope_table(grid, 32)
    expected = np.array([*still, *video, *driving])
    assert expected.shape == (grid.still + grid.video + grid.driving, 16)
    np.testing.assert_allclose(np.array(cos), np.real(expected), atol=1e-6)
    np.testing.assert_allclose(np.array(sin), np.imag(expected), atol=1e-6)


def test_driving_phases_are_shorter() -> None:
    """Modulus cos(w/2) on row and column lanes, 1 on time lanes; not normalised."""
    grid = Grid(frames=2, rows=4, columns=4, extra=0, replace=True)
    cos, sin = rope_table(grid, 128)
    modulus = np.hypot(np.array(cos), np.array(sin))
    np.testing.assert_allclose(modulus[: grid.still + grid.video], 1, atol=1e-6)
    shorter = np.cos(10000.0 ** (-np.arange(21) / 21) / 2)
    expected = np.concatenate([np.ones(22), shorter, shorter])
    np.testing.assert_allclose(modulus[grid.still + grid.video :], np.tile(expected, (grid.driving, 1)), atol=1e-6)
    assert shorter[0] == pytest.approx(0.87758, abs=1e-5)


def test_rotation_turns_adjacent_pairs() -> None:
    """Lanes 2j and 2j+1 are one complex number times the phase."""
    rng = np.random.default_rng(0)
    x, phase = rng.standard_normal((3, 2, 8)).astype(np.float32), np.exp(1j * rng.standard_normal((3, 4)))
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * phase[:, None]
    cos, sin = (mx.array(part(phase).astype(np.float32)) for part in (np.real, np.imag))
    y = np.array(rotate(mx.array(x), cos, sin))
    np.testing.assert_allclose(y[..., 0::2] + 1j * y[..., 1::2], turned, atol=1e-6)


def test_no_place_beyond_the_table() -> None:
    """Position 8192 does not exist, and a grid must have halves."""
    axis_phases(np.array([8191]), 4)
    with pytest.raises(ValueError, match="8192"):
        axis_phases(np.array([8192]), 4)
    with pytest.raises(ValueError, match="3x4"):
        Grid(frames=1, rows=3, columns=4, extra=0, replace=False)
