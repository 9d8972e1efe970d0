"""Colour masks and their 28 channels (engine.md §3)."""

from __future__ import annotations

import numpy as np
import pytest

from scail2_farm.engine import masks

WHITE_CHANNELS = [0, 7, 14, 21]


def flat(value: tuple[int, int, int], pixels: int = 5, height: int = 64, width: int = 64) -> np.ndarray:
    return np.full((pixels, height, width, 3), value, dtype=np.uint8)


@pytest.mark.parametrize(
    ("colour", "index"),
    [
        ((255, 255, 255), 0),
        (masks.IDENTITIES["red"], 1),
        (masks.IDENTITIES["green"], 2),
        (masks.IDENTITIES["blue"], 3),
        (masks.IDENTITIES["yellow"], 4),
        (masks.IDENTITIES["magenta"], 5),
        (masks.IDENTITIES["cyan"], 6),
    ],
)
def test_a_flat_colour_fills_its_class(colour: tuple[int, int, int], index: int) -> None:
    """A colour all over is 1 in its channel of every frame slot and 0 elsewhere; T is 2 for 5 frames."""
    packed = masks.pack(flat(colour))
    assert packed.shape == (28, 2, 8, 8)
    assert packed.dtype == np.float32
    assert packed[[index + 7 * slot for slot in range(4)]].min() == 1.0
    assert packed.sum() == 4 * 2 * 64


def test_black_is_no_class() -> None:
    """Black lights no channel, on either route."""
    assert not masks.pack(flat((0, 0, 0))).any()
    assert not masks.pack_half(flat((0, 0, 0))).any()


def test_the_threshold_is_strict() -> None:
    """225 is off and 226 is on."""
    assert not masks.pack(flat((225, 225, 225))).any()
    assert masks.pack(flat((226, 226, 226)))[WHITE_CHANNELS].all()
    assert masks.pack(flat((226, 225, 0)))[[1, 8, 15, 22]].all()


def test_half_size_averages_before_the_threshold() -> None:
    """A 2x2 block is on when its sum is above 900: four 226s, or 255s beside one 136, not beside one 135."""
    assert not masks.pack_half(flat((225, 225, 225))).any()
    for odd_one, on in ((135, False), (136, True)):
        mask = flat((255, 255, 255))
        mask[:, ::2, ::2] = odd_one
        assert masks.pack_half(mask).any() == on
    assert masks.pack_half(flat((255, 0, 0))).shape == (28, 2, 4, 4)


def test_frames_go_to_their_slots() -> None:
    """Red on frame 1 of 5 alone is channel 1 of the second latent frame; frame 0 fills all four slots of the first."""
    mask = flat((0, 0, 0))
    mask[1, ..., 0] = 255
    packed = masks.pack(mask)
    assert np.argwhere(packed.any(axis=(2, 3))).tolist() == [[1, 1]]
    mask = flat((0, 0, 0))
    mask[0, ..., 0] = 255
    assert np.argwhere(masks.pack(mask).any(axis=(2, 3))).tolist() == [[1, 0], [8, 0], [15, 0], [22, 0]]


def test_coverage_is_a_fraction() -> None:
    """A cell tells how much of its 8x8 pixels is covered."""
    mask = flat((0, 0, 0), pixels=1)
    mask[0, 0, :3] = 255
    assert masks.pack(mask)[0, 0, 0, 0] == 3 / 64


def test_sizes_off_the_grid_pool_what_they_touch() -> None:
    """36 rows make 5 cells, which overlap by the pixel they share; each row of the pooling matrix is a mean."""
    matrix = masks.area_pooling(36)
    assert matrix.shape == (5, 36)
    assert [int((row > 0).sum()) for row in matrix] == [8, 8, 8, 8, 8]
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)


def test_wrong_lengths_and_sizes_are_refused() -> None:
    """Frames come in 4n+1; an odd size has no half."""
    with pytest.raises(ValueError, match="4n\\+1"):
        masks.pack(flat((0, 0, 0), pixels=4))
    with pytest.raises(ValueError, match="halved"):
        masks.pack_half(flat((0, 0, 0), height=33))


def test_painting() -> None:
    """Labels become the colours of their slots over a background, and only known labels do."""
    labels = np.array([[0, 1], [2, 6]], dtype=np.uint8)
    assert masks.paint(labels, background=masks.WHITE).tolist() == [
        [[255, 255, 255], [0, 0, 255]],
        [[255, 0, 0], [255, 255, 0]],
    ]
    assert masks.paint(labels[:1], background=masks.BLACK, slots=["cyan"]).tolist() == [[[0, 0, 0], [0, 255, 255]]]
    with pytest.raises(ValueError, match="label 6"):
        masks.paint(labels, background=masks.BLACK, slots=["cyan", "red"])
    with pytest.raises(KeyError, match="orange"):
        masks.paint(labels[:1], background=masks.BLACK, slots=["orange"])


def test_backgrounds_are_opposites() -> None:
    """The world that stays is white: the plate's in replacement, the reference's in animation."""
    assert masks.driving_background(replace=True) == masks.reference_background(replace=False) == (255, 255, 255)
    assert masks.driving_background(replace=False) == masks.reference_background(replace=True) == (0, 0, 0)
