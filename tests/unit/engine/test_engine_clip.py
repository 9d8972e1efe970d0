"""The resize before the vision tower, and what the tower leaves out (engine.md §4.4, §4.5)."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from scail2_farm.engine import Engine
from scail2_farm.engine.clip import bicubic_taps, resize


@pytest.mark.parametrize(("source", "target"), [(61, 224), (224, 61), (3, 2), (400, 224)])
def test_taps_are_a_mean(source: int, target: int) -> None:
    """Each row sums to 1 over at most 4 pixels: no antialiasing, however much is thrown away."""
    taps = np.array(bicubic_taps(source, target))
    assert taps.shape == (target, source)
    np.testing.assert_allclose(taps.sum(axis=1), 1, atol=1e-6)
    assert (taps != 0).sum(axis=1).max() <= 4


def test_halving_has_the_known_kernel() -> None:
    """Half-way between pixels, a = -0.75 weighs the four neighbours -3/32, 19/32, 19/32, -3/32; borders are clamped."""
    taps = np.array(bicubic_taps(8, 4)) * 32
    np.testing.assert_allclose(taps[1], [0, -3, 19, 19, -3, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(taps[0], [16, 19, -3, 0, 0, 0, 0, 0], atol=1e-5)


def test_the_same_size_is_the_same_picture() -> None:
    """Axes are not mixed up, and nothing is smoothed."""
    picture = np.random.default_rng(0).standard_normal((6, 9, 3)).astype(np.float32)
    np.testing.assert_array_equal(np.array(resize(mx.array(picture), 6, 9)), picture)
    assert resize(mx.array(picture), 4, 5).shape == (4, 5, 3)


def test_positions_are_float32() -> None:
    """The weights of 400 pixels to 224 are those of positions rounded like the reference's, and not of exact ones."""
    taps = np.array(bicubic_taps(400, 224))
    scale = np.float32(400) / np.float32(224)
    single = scale * (np.arange(224, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    double = (np.arange(224) + 0.5) * 400 / 224 - 0.5
    rows = np.arange(1, 223)

    def nearest_weight(positions: np.ndarray) -> np.ndarray:
        """Of the pixel below each position: 1.25t^3 - 2.25t^2 + 1."""
        t = positions.astype(np.float64)[rows] % 1
        return (1.25 * t - 2.25) * t**2 + 1

    stored = taps[rows, np.floor(double[rows]).astype(int)]
    assert np.abs(stored - nearest_weight(single)).max() < 2e-7
    assert np.abs(stored - nearest_weight(double)).max() > 5e-6


def test_features_come_before_the_last_block(loaded: Engine) -> None:
    """Three blocks are stored, two are owned; 257 rows, which the picture decides."""
    tower = loaded.snapshot.clip()
    assert len(tower.transformer) == loaded.snapshot.clip_config.num_layers - 1 == 2
    dark, bright = (np.array(tower(mx.full((32, 64, 3), value))) for value in (-0.8, 0.8))
    assert dark.shape == (257, 64)
    assert np.abs(dark - bright).mean() > 0.01
