"""The canvas: its size, and pictures, labels and references on it."""

import numpy as np
import pytest
from PIL import Image

from scail2_farm.media import canvas as module
from scail2_farm.media.canvas import Canvas, compose_references, fit_still

MEASURED = [  # colour.md §5
    (1920, 1080, 1.0, (832, 480), (832, 468)),
    (3840, 2160, 1.0, (832, 480), (832, 468)),
    (4096, 2160, 1.0, (864, 448), (850, 448)),
    (4096, 1716, 1.0, (960, 416), (960, 402)),
    (2048, 1556, 2.0, (1024, 384), (1011, 384)),
    (4448, 3096, 1.0, (736, 512), (736, 512)),
    (1440, 1080, 1.0, (704, 544), (704, 528)),
    (1080, 1920, 1.0, (480, 832), (468, 832)),
    (720, 576, 16 / 15, (704, 544), (704, 528)),
]


@pytest.mark.parametrize(("width", "height", "aspect", "size", "shown"), MEASURED)
def test_canvas_of_the_usual_plates(width, height, aspect, size, shown):
    found = Canvas.fit(width, height, pixel_aspect=aspect, budget=(832, 480))
    assert (found.width, found.height) == size
    left, top, *active = found.active
    assert tuple(active) == shown
    assert abs(2 * left + active[0] - found.width) <= 1
    assert abs(2 * top + active[1] - found.height) <= 1
    assert Canvas.fit(width, height, pixel_aspect=aspect, budget=(480, 832)) == found, "only the area counts"


def test_a_small_budget_is_filled():
    found = Canvas.fit(192, 128, pixel_aspect=1.0, budget=(96, 64))
    assert (found.width, found.height, found.active) == (96, 64, (0, 0, 96, 64))
    with pytest.raises(ValueError):
        Canvas.fit(192, 128, pixel_aspect=1.0, budget=(31, 32))


def test_the_same_size_is_the_same_bits():
    canvas = Canvas.fit(96, 64, pixel_aspect=1.0, budget=(96, 64))
    picture = np.random.default_rng(0).normal(size=(64, 96, 3)).astype(np.float32)
    for log in (True, False):
        there = canvas.to_canvas(picture)
        assert np.array_equal(there.view(np.uint32), picture.view(np.uint32))
        assert np.array_equal(canvas.from_canvas(there, log=log).view(np.uint32), picture.view(np.uint32))


def test_reducing_filters_and_a_plain_field_stays_plain():
    canvas = Canvas.fit(800, 480, pixel_aspect=1.0, budget=(160, 96))
    field = np.full((480, 800, 3), 0.37, np.float32)
    assert np.allclose(canvas.to_canvas(field), 0.37, atol=1e-6)
    checks = np.indices((480, 800)).sum(axis=0) % 2
    shown = canvas.to_canvas(np.repeat(checks[..., None], 3, axis=2).astype(np.float32))
    assert np.abs(shown[4:-4, 4:-4] - 0.5).max() < 0.01, "a pattern finer than the canvas becomes its mean"


def test_the_edge_is_repeated_around_the_picture():
    canvas = Canvas.fit(192, 108, pixel_aspect=1.0, budget=(96, 64))
    _, top, _, height = canvas.active
    assert (canvas.width, canvas.height, top > 0) == (96, 64, True)
    picture = np.random.default_rng(1).random((108, 192, 3)).astype(np.float32)
    shown = canvas.to_canvas(picture)
    assert (shown[:top] == shown[top]).all()
    assert (shown[top + height :] == shown[top + height - 1]).all()
    back = canvas.from_canvas(shown, log=False)
    assert back.shape == picture.shape


def test_highlights_do_not_ring_below_black_nor_spread_nan():
    canvas = Canvas.fit(192, 128, pixel_aspect=1.0, budget=(96, 64))
    plate = np.full((128, 192, 3), 0.01, np.float32)
    plate[60:64, 90:94] = 500.0
    plate[10, 10] = np.nan
    plate[20, 20] = np.inf
    shown = canvas.to_canvas(plate)
    assert np.isfinite(shown).all()
    assert shown.min() >= 0.0
    assert np.isnan(plate[10, 10]).all(), "the plate itself is left alone"


@pytest.mark.parametrize("log", [True, False])
def test_enlarging_does_not_overshoot(log):
    canvas = Canvas.fit(384, 256, pixel_aspect=1.0, budget=(96, 64))
    step = np.zeros((64, 96, 3), np.float32)
    step[:, 48:] = 16.0
    grown = canvas.from_canvas(step, log=log)
    assert grown.min() >= -1e-7
    assert grown.max() <= 16.0 * (1 + 1e-5)
    assert np.allclose(grown[:, :180], 0.0, atol=1e-6)
    assert np.allclose(grown[:, 204:], 16.0, rtol=1e-5)
    assert np.abs(np.diff(grown[100, :, 0])).max() < 16.0, "the edge is interpolated, not stepped"


def test_there_and_back_keeps_place_and_size():
    canvas = Canvas.fit(200, 120, pixel_aspect=1.0, budget=(128, 96))
    y, x = np.mgrid[:120, :200]
    blob = np.exp(-(((x - 130) / 12) ** 2 + ((y - 40) / 9) ** 2)).astype(np.float32)
    back = canvas.from_canvas(canvas.to_canvas(np.repeat(blob[..., None], 3, axis=2)), log=False)[..., 0]
    for axis, place in ((x, 130), (y, 40)):
        assert abs((back * axis).sum() / back.sum() - place) < 0.05


def test_labels_are_never_blended():
    canvas = Canvas.fit(190, 110, pixel_aspect=1.0, budget=(96, 64))
    labels = np.zeros((110, 190), np.uint8)
    labels[:, 95:] = 6
    labels[40:80, 20:60] = 1
    shown = canvas.labels_to_canvas(labels)
    assert shown.dtype == np.uint8
    assert shown.shape == (canvas.height, canvas.width)
    assert set(np.unique(shown)) == {0, 1, 6}
    with pytest.raises(ValueError):
        canvas.labels_to_canvas(labels[:50])


def test_nearest_is_pillows_nearest():
    values = np.random.default_rng(0).integers(0, 255, (37, 53), np.uint8)
    for size in ((20, 11), (106, 74), (53, 37)):
        expected = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.NEAREST))
        assert np.array_equal(module.resize_nearest(values, *size), expected)


def test_the_log_curve_is_acescct():
    linear = np.array([-0.01, 0.0, 0.0078125, 0.18, 1.0, 16.0, 222.86], np.float32)
    coded = module.to_log(linear)
    expected = [-0.032496, 0.0729055, 0.1552511, 0.4135884, 0.5547945, 0.7831050, 1.0]
    assert np.allclose(coded, expected, atol=2e-5)
    assert np.allclose(module.from_log(coded), linear, rtol=1e-5, atol=1e-7)


# ------------------------------------------------------------------- references


def test_a_still_is_letterboxed_and_never_cropped():
    image = np.zeros((200, 100, 3), np.float32)
    image[..., 0] = 1.0
    image[:4], image[-4:] = (0, 1, 0), (0, 0, 1)
    mask = np.zeros((200, 100), np.float32)
    mask[50:150, 25:75] = 1.0
    shown, inside = fit_still(image, mask, 96, 64)
    assert shown.shape == (64, 96, 3)
    assert shown[0, 48, 1] > 0.5
    assert shown[-1, 48, 2] > 0.5
    assert np.allclose(shown[32, :20], shown[32, 48]), "the edge is repeated beside it"
    rows, columns = np.nonzero(inside)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 47, 40, 55)
    shown, inside = fit_still(image, None, 96, 64)
    assert inside.sum() == 32 * 64, "without a mask the whole image is the character, and only it"
    with pytest.raises(ValueError):
        fit_still(image, mask[:10], 96, 64)


def test_characters_stand_side_by_side_in_the_order_given():
    canvas = Canvas.fit(192, 128, pixel_aspect=1.0, budget=(96, 64))
    stills = [np.full((64, 30, 3), level, np.float32) for level in (0.2, 0.5, 0.8)]
    rgb, labels = compose_references([(stills[0], None, 3), (stills[1], None, 1), (stills[2], None, 6)], canvas)
    assert rgb.shape == (64, 96, 3)
    assert labels.dtype == np.uint8
    for column, (slot, level) in enumerate(((3, 0.2), (1, 0.5), (6, 0.8))):
        part = slice(column * 32, column * 32 + 32)
        assert set(np.unique(labels[:, part])) == {0, slot}
        assert np.allclose(rgb[:, part], level, atol=1e-6)
    alone, labels = compose_references([(stills[1], np.ones((64, 30)), 2)], canvas)
    assert (labels == 2).sum() == 64 * 30
    assert np.allclose(alone, 0.5, atol=1e-6)
    with pytest.raises(ValueError):
        compose_references([], canvas)
