"""The canvas: its size, and pictures, labels and references on it."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scail2_farm.media import canvas as module
from scail2_farm.media.canvas import Canvas, Portrait, arrange, compose, extra_view, scale_off
from scail2_farm.media.mattes import Box, box

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


def test_a_canvas_of_another_size_hands_its_picture_over():
    wide = Canvas.fit(192, 108, pixel_aspect=1.0, budget=(96, 64))
    small = Canvas.fit(192, 108, pixel_aspect=1.0, budget=(64, 32))
    assert Canvas.around(192, 108, pixel_aspect=1.0, size=(96, 64)) == wide
    y, x = np.mgrid[:108, :192].astype(np.float32)
    plate = np.stack([x / 191, y / 107, np.full_like(x, 0.25)], axis=-1)
    there, straight = small.from_another(wide.to_canvas(plate), wide), small.to_canvas(plate)
    assert there.shape == (small.height, small.width, 3)
    left, top, width, height = small.active
    inner = slice(top + 1, top + height - 1), slice(left + 1, left + width - 1)
    assert np.abs(there - straight)[inner].max() < 0.02
    picture = np.random.default_rng(0).random((64, 96, 3)).astype(np.float32)
    assert wide.from_another(picture, wide) is picture
    turned = small.from_another(picture, wide)
    assert picture.min() <= turned.min() <= turned.max() <= picture.max()


# ------------------------------------------------------------------- references

CANVAS = Canvas.fit(1920, 1080, pixel_aspect=1.0, budget=(832, 480))  # 832x480, the plate in 832x468
GREY, RED, GREEN = (0.5, 0.5, 0.5), (0.9, 0.1, 0.1), (0.1, 0.8, 0.1)


def portrait(
    slot: int, color, seen, *, size=(200, 300), character=(60, 40, 80, 220), behind=GREY, masked: bool = True
) -> Portrait:
    """A still of one colour in which a box of another is the character."""
    left, top, width, height = character
    image = np.empty((size[1], size[0], 3), np.float32)
    image[:] = behind
    image[top : top + height, left : left + width] = color
    mask = np.zeros((size[1], size[0]), np.float32)
    mask[top : top + height, left : left + width] = 1.0
    return Portrait(image=image, mask=mask if masked else None, slot=slot, seen=seen)


def labelled(labels: np.ndarray, slot: int) -> Box:
    found = box((labels == slot).astype(np.float32))
    assert found is not None
    return found


def test_a_character_is_as_tall_as_the_performer_with_the_feet_on_his_ground():
    seen = (700, 200, 300, 700)  # of 1080: 303 of the canvas's 480
    rgb, labels = compose([portrait(2, RED, seen)], CANVAS)
    assert (rgb.shape, rgb.dtype) == ((480, 832, 3), np.float32)
    assert (labels.shape, labels.dtype, set(np.unique(labels))) == ((480, 832), np.uint8, {0, 2})
    left, top, width, height = labelled(labels, 2)
    assert height == round(700 * 468 / 1080)
    assert top + height == 6 + 900 * 468 // 1080
    assert abs(left + width / 2 - 850 * 832 / 1920) <= 0.5
    assert width == round(height * 80 / 220)
    inside = labels == 2
    assert np.allclose(rgb[top + 2 : top + height - 2, left + 2 : left + width - 2], RED, atol=1e-5)
    assert np.allclose(rgb[top + height + 4 :], GREY, atol=1e-5), "what surrounds him is repeated to the border"
    assert inside.sum() == width * height


def test_a_still_larger_than_the_canvas_loses_only_background():
    made = portrait(1, RED, (800, 300, 200, 400), size=(4000, 3000), character=(1900, 1400, 200, 400))
    rgb, labels = compose([made], CANVAS)
    assert labelled(labels, 1)[3] == round(400 * 468 / 1080)
    assert np.allclose(rgb[0, 0], GREY, atol=1e-5)


def test_a_character_cut_by_the_edge_of_his_still_does_not_run_on_below_it():
    bust = portrait(1, RED, (700, 100, 400, 700), size=(200, 200), character=(50, 60, 100, 140))
    rgb, labels = compose([bust], CANVAS)
    _, top, _, height = labelled(labels, 1)
    assert top + height < 480
    assert np.allclose(rgb[top + height :], GREY, atol=1e-3)


def test_one_who_is_never_seen_alone_is_letterboxed():
    rgb, labels = compose([portrait(3, RED, None)], CANVAS)
    assert labelled(labels, 3) == (352, 64, 128, 352)  # 200x300 in 832x480 is 1.6 times as large
    assert np.allclose(rgb[240, :300], GREY, atol=1e-5)


def test_several_are_pasted_over_the_first_ones_background_without_a_fringe():
    first = portrait(1, RED, (300, 300, 200, 600))
    other = portrait(
        5, GREEN, (1300, 200, 250, 700), behind=(1.0, 1.0, 1.0), size=(900, 1400), character=(301, 99, 377, 1201)
    )
    rgb, labels = compose([first, other], CANVAS)
    assert set(np.unique(labels)) == {0, 1, 5}
    assert rgb[:, 416:].max() <= GREEN[1] + 0.01, "nothing of the white around the other one is left"
    left, top, width, height = labelled(labels, 5)
    assert height == round(700 * 468 / 1080)
    ring = rgb[top - 3 : top + height + 3, left - 3 : left + width + 3]
    assert (ring >= np.minimum(GREY, GREEN) - 2e-3).all()
    assert (ring <= np.maximum(GREY, GREEN) + 2e-3).all(), "edges lie between character and background"


def test_a_still_without_a_mask_is_the_character_whole():
    made = portrait(4, RED, (1200, 400, 300, 400), masked=False)
    rgb, labels = compose([portrait(1, GREEN, (300, 300, 200, 600)), made], CANVAS)
    left, top, width, height = labelled(labels, 4)
    assert (height, width) == (round(400 * 468 / 1080), round(400 * 468 / 1080 * 200 / 300))
    assert (labels == 4).sum() == width * height
    assert np.allclose(rgb[top + 1, left + 1], GREY, atol=1e-5)


def test_performers_who_cross_are_moved_apart_and_keep_their_sides():
    seens = [(900, 200, 300, 800), (930, 200, 300, 800), (890, 200, 300, 800)]
    boxes = arrange([portrait(slot, RED, seen) for slot, seen in zip((1, 2, 3), seens, strict=True)], CANVAS)
    one, two, three = boxes
    assert three[0] + three[2] == one[0]
    assert one[0] + one[2] == two[0]
    assert {height for *_, height in boxes} == {round(800 * 468 / 1080)}
    wanted = sum((left + width / 2) for left, _, width, _ in seens) / 3 * 832 / 1920
    assert abs(sum(left + width / 2 for left, _, width, _ in boxes) / 3 - wanted) <= 1, (
        "together they stay where they were"
    )
    same = [(900, 200, 300, 800)] * 2
    first, second = arrange([portrait(slot, RED, seen) for slot, seen in zip((4, 1), same, strict=True)], CANVAS)
    assert first[0] < second[0], "of two at one place the first stands left"


def test_one_who_leaves_the_frame_is_moved_inside():
    ((left, top, width, height),) = arrange([portrait(1, RED, (1800, 500, 120, 580))], CANVAS)
    assert left + width == 832
    assert top + height == 6 + 468


def test_a_group_that_does_not_fit_is_reduced_by_one_factor():
    wide = [portrait(slot, RED, (600 * slot, 80, 300, 250 * slot), character=(0, 60, 200, 100)) for slot in (1, 2, 3)]
    boxes = arrange(wide, CANVAS)
    assert sum(width for _, _, width, _ in boxes) <= 832
    heights = [height for *_, height in boxes]
    factor = heights[2] / (750 * 468 / 1080)
    assert factor < 0.9
    assert heights == [round(250 * slot * 468 / 1080 * factor) for slot in (1, 2, 3)]


def test_one_who_is_never_seen_stands_in_the_widest_gap():
    seens = [(100, 300, 200, 600), None, (600, 200, 200, 800)]
    boxes = arrange([portrait(slot, RED, seen) for slot, seen in zip((1, 2, 3), seens, strict=True)], CANVAS)
    _, unseen, right = boxes
    assert abs(unseen[3] - 700 * 468 / 1080) <= 0.5
    assert abs(unseen[1] + unseen[3] - (6 + 950 * 468 / 1080)) <= 1
    gap = right[0] + right[2], 832
    assert abs(unseen[0] + unseen[2] / 2 - sum(gap) / 2) <= 1


def test_when_nobody_is_seen_each_has_a_column():
    boxes = arrange([portrait(slot, RED, None) for slot in (6, 1)], CANVAS)
    assert boxes == [(144, 64, 128, 352), (560, 64, 128, 352)]


seen_boxes = st.tuples(st.integers(-200, 1900), st.integers(-200, 1060), st.integers(1, 1900), st.integers(1, 1080))


@st.composite
def casts(draw):
    """One to six performers: stills of any size, characters of any box in them, seen anywhere or never."""
    found: list[Portrait] = []
    for slot in draw(st.permutations([1, 2, 3, 4, 5, 6]))[: draw(st.integers(1, 6))]:
        width, height = draw(st.integers(1, 90)), draw(st.integers(1, 90))
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        character = (left, top, draw(st.integers(1, width - left)), draw(st.integers(1, height - top)))
        seen = draw(st.none() | seen_boxes)
        masked = draw(st.booleans())
        found.append(portrait(slot, RED, seen, size=(width, height), character=character, masked=masked))
    return found


@settings(deadline=None, max_examples=150)
@given(cast=casts(), budget=st.sampled_from([(832, 480), (96, 64), (64, 128), (32, 32)]))
def test_whoever_plays_is_whole_apart_and_of_the_right_height(cast, budget):
    canvas = Canvas.fit(1920, 1080, pixel_aspect=1.0, budget=budget)
    boxes = arrange(cast, canvas)
    assert boxes == arrange(cast, canvas)
    for left, top, width, height in boxes:
        assert min(left, top) >= 0
        assert min(width, height) >= 1
        assert left + width <= canvas.width
        assert top + height <= canvas.height
    along = sorted(boxes)
    assert all(one[0] + one[2] <= other[0] for one, other in itertools.pairwise(along))
    down, across = canvas.active[3] / 1080, canvas.active[2] / 1920
    factors = []
    for made, (_, _, width, height) in zip(cast, boxes, strict=True):
        if made.seen is not None:
            factors.append(((height - 1) / (made.seen[3] * down), (height + 0.5) / (made.seen[3] * down)))
        *_, own_width, own_height = made.character
        if min(width, height) > 1:
            assert (width - 0.51) / (height + 0.51) <= own_width / own_height <= (width + 0.51) / (height - 0.51)
    if factors:
        highest_low = max(low for low, _ in factors)
        assert highest_low <= min(high for _, high in factors), "one factor for all"
        assert highest_low <= 1
    centres = [made.seen[0] + made.seen[2] / 2 for made in cast if made.seen is not None]
    lefts = [place[0] for made, place in zip(cast, boxes, strict=True) if made.seen is not None]
    in_order = [lefts[index] for index in sorted(range(len(centres)), key=lambda index: centres[index] * across)]
    assert in_order == sorted(in_order)


@settings(deadline=None, max_examples=40)
@given(cast=casts(), seed=st.integers(0, 99))
def test_every_character_is_in_the_picture(cast, seed):
    canvas = Canvas.fit(1920, 1080, pixel_aspect=1.0, budget=(96, 64))
    random = np.random.default_rng(seed)
    ragged: list[Portrait] = []
    for made in cast:
        specks = None if made.mask is None else np.where(random.random(made.mask.shape) < 0.1, 1.0, 0.0)
        if specks is not None:
            specks[random.integers(specks.shape[0]), random.integers(specks.shape[1])] = 1.0
        ragged.append(Portrait(image=made.image, mask=specks, slot=made.slot, seen=made.seen))
    rgb, labels = compose(ragged, canvas)
    assert rgb.min() >= 0.0
    assert rgb.max() <= 1.0
    assert set(np.unique(labels)) - {0} == {made.slot for made in cast}
    for made, (left, top, width, height) in zip(ragged, arrange(ragged, canvas), strict=True):
        assert (labels == made.slot).sum() == (labels[top : top + height, left : left + width] == made.slot).sum()


def test_a_reference_picture_needs_characters_and_masks_that_fit():
    with pytest.raises(ValueError, match="at least one"):
        compose([], CANVAS)
    with pytest.raises(ValueError, match="not of the image's size"):
        Portrait(image=np.zeros((4, 4, 3), np.float32), mask=np.zeros((4, 5), np.float32), slot=1)
    with pytest.raises(ValueError, match="no white"):
        compose([Portrait(image=np.zeros((4, 4, 3), np.float32), mask=np.zeros((4, 4), np.float32), slot=1)], CANVAS)


def test_how_far_off_a_still_as_it_is_would_be():
    close_up = scale_off((1000, 1000), (100, 70, 800, 930), seen=(900, 700, 100, 367), canvas=CANVAS)
    assert close_up == pytest.approx(0.93 * 480 / (367 * 468 / 1080))
    assert scale_off((832, 480), (0, 0, 832, 240), seen=(0, 0, 1, 1080), canvas=CANVAS) == pytest.approx(240 / 468)


def test_an_extra_view_is_letterboxed_on_black():
    rgb, labels = extra_view(portrait(5, RED, None, behind=(1.0, 1.0, 1.0)), CANVAS)
    assert labelled(labels, 5) == (352, 64, 128, 352)
    assert rgb.dtype == np.float32
    assert np.allclose(rgb[labels == 5][1000], RED, atol=1e-5)
    assert (rgb[labels == 0] <= np.array(RED, np.float32) * 0.6 + 1e-5).all(), "of the white around only edges are left"
    assert (rgb[:60] == 0).all()
    rgb, labels = extra_view(portrait(1, RED, None, masked=False), CANVAS)
    assert labelled(labels, 1) == (256, 0, 320, 480)
    assert (rgb[:, :250] == 0).all()
