"""What becomes of a plate on its way to the canvas and back: any size, any pixel aspect, any part of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scail2_farm.media import canvas as module
from scail2_farm.media.canvas import Canvas
from scail2_farm.media.mattes import Box

BUDGET = (96, 64)
PLATES = {  # width, height, pixel aspect: the odd ones of the trade, a tenth as large
    "HD": (192, 108, 1.0),
    "DCI 4K": (410, 216, 1.0),
    "anamorphic scan": (205, 156, 2.0),
    "open gate": (445, 310, 1.0),
    "upright": (108, 192, 1.0),
    "PAL": (72, 58, 16 / 15),
    "scope": (410, 172, 1.0),
    "wider than the canvas, and not as tall": (160, 40, 0.5),
    "tiny": (31, 7, 1.0),
    "one pixel": (1, 1, 1.0),
    "one line": (200, 1, 1.0),
}
LARGE = Canvas.fit(803, 301, pixel_aspect=1.0, budget=(320, 160))  # several tiles, and none of them ends with it


def canvas_of(name: str) -> Canvas:
    width, height, aspect = PLATES[name]
    return Canvas.fit(width, height, pixel_aspect=aspect, budget=BUDGET)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def test_the_plates_are_of_every_kind():
    canvases = {name: canvas_of(name) for name in PLATES}
    assert canvases["upright"].height > canvases["upright"].width
    across, tall = (canvases["anamorphic scan"].active[axis] for axis in (2, 3))
    assert across / tall == pytest.approx(205 * 2 / 156, rel=0.03), "it is shown at its display aspect"
    mixed = canvases["wider than the canvas, and not as tall"]
    assert mixed.active[2] < mixed.plate_width
    assert mixed.active[3] > mixed.plate_height
    assert canvases["tiny"].active[2] > 31, "a tiny plate is enlarged for the model"


@pytest.mark.parametrize("name", PLATES)
def test_a_plain_field_is_the_same_bits_there_and_back(name):
    canvas = canvas_of(name)
    field = np.broadcast_to(np.array([0.37, -0.02, 65504.0], np.float32), (canvas.plate_height, canvas.plate_width, 3))
    shown = canvas.to_canvas(field)
    assert shown.shape == (canvas.height, canvas.width, 3)
    assert (shown == field[0, 0]).all()
    back = canvas.from_canvas(shown, log=False)
    assert back.shape == field.shape
    assert back.dtype == np.float32
    assert (back == field[0, 0]).all()
    assert np.allclose(canvas.from_canvas(shown, log=True), field[0, 0], rtol=2e-6, atol=1e-8), (
        "but for the log's float"
    )


@pytest.mark.parametrize("name", [name for name, (width, height, _) in PLATES.items() if min(width, height) > 50])
def test_the_picture_stays_where_it_is(name):
    canvas = canvas_of(name)
    left, top, across, tall = canvas.active

    def blob(width: int, height: int) -> np.ndarray:
        y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
        plane = np.exp(-(((x[None] - 0.62) / 0.06) ** 2) - ((y[:, None] - 0.41) / 0.07) ** 2)
        return np.repeat(plane[..., None], 3, axis=2).astype(np.float32)

    def centre(plane: np.ndarray) -> tuple[float, float]:
        plane = plane.astype(np.float64)
        y, x = (
            (np.arange(plane.shape[0]) + 0.5) @ plane.sum(axis=1),
            plane.sum(axis=0) @ (np.arange(plane.shape[1]) + 0.5),
        )
        return x / plane.sum() / plane.shape[1], y / plane.sum() / plane.shape[0]

    shown = canvas.to_canvas(blob(canvas.plate_width, canvas.plate_height))
    assert centre(shown[top : top + tall, left : left + across, 0]) == pytest.approx((0.62, 0.41), abs=2e-5)
    onto = np.zeros((canvas.height, canvas.width, 3), np.float32)
    onto[top : top + tall, left : left + across] = blob(across, tall)
    assert centre(canvas.from_canvas(onto, log=False)[..., 0]) == pytest.approx((0.62, 0.41), abs=2e-5)


@pytest.mark.parametrize("name", PLATES)
@pytest.mark.parametrize("log", [False, True])
def test_nothing_on_the_way_back_is_beyond_the_samples_around_it(name, log):
    canvas = canvas_of(name)
    left, top, across, tall = canvas.active
    picture = noise(canvas.height, canvas.width, 3) ** 8 * 20  # specks of light
    back = canvas.from_canvas(picture, log=log)
    samples = picture[top : top + tall, left : left + across]
    wide, high = -(-across // canvas.plate_width), -(-tall // canvas.plate_height)
    for y in range(0, canvas.plate_height, 3):
        row = int((y + 0.5) * tall / canvas.plate_height)
        lines = samples[max(0, row - high) : row + high + 1]
        for x in range(0, canvas.plate_width, 7):
            column = int((x + 0.5) * across / canvas.plate_width)
            around = lines[:, max(0, column - wide) : column + wide + 1].reshape(-1, 3)
            assert (back[y, x] >= around.min(axis=0) * (1 - 3e-6) - 1e-8).all()
            assert (back[y, x] <= around.max(axis=0) * (1 + 3e-6) + 1e-8).all()


@pytest.mark.parametrize("name", PLATES)
def test_nothing_on_the_way_to_the_model_is_beyond_the_plate(name):
    canvas = canvas_of(name)
    plate = np.where(noise(canvas.plate_height, canvas.plate_width, 3) < 0.9, 0.1, 300.0).astype(np.float32)
    plate[..., 1] *= -1
    shown = canvas.to_canvas(plate)
    assert (shown.min(axis=(0, 1)) >= plate.min(axis=(0, 1))).all()
    assert (shown.max(axis=(0, 1)) <= plate.max(axis=(0, 1))).all()


def test_what_is_finer_than_the_canvas_does_not_alias():
    canvas = Canvas.fit(1024, 540, pixel_aspect=1.0, budget=(256, 128))
    left, top, across, tall = canvas.active
    y, x = np.mgrid[:540, :1024] - np.array([270, 512])[:, None, None]
    zone = 0.5 + 0.5 * np.cos((x * x + y * y) * np.pi / 1024)  # as fine as the plate can hold at its left and right
    shown = canvas.to_canvas(np.repeat(zone[..., None], 3, axis=2).astype(np.float32))
    fine = shown[top : top + tall, left : left + across, 0][4:-4, 4 : across // 5]
    assert np.abs(fine.mean() - 0.5) < 2e-4
    assert fine.std() < 1.5e-3


# --------------------------------------------------------------------------- a part of the plate


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    left, top = draw(st.integers(0, LARGE.plate_width - 1)), draw(st.integers(0, LARGE.plate_height - 1))
    width = draw(st.integers(1, LARGE.plate_width - left) | st.just(LARGE.plate_width - left))
    return left, top, width, draw(st.integers(1, LARGE.plate_height - top) | st.just(LARGE.plate_height - top))


MODEL_PICTURE = noise(LARGE.height, LARGE.width, 3) ** 4 * 16 - 0.05
WHOLE = {log: LARGE.from_canvas(MODEL_PICTURE, log=log) for log in (False, True)}


@settings(deadline=None, max_examples=60)
@given(box=boxes(), log=st.booleans())
def test_a_part_has_the_bits_it_has_in_the_whole(box, log):
    left, top, width, height = box
    expected = WHOLE[log][top : top + height, left : left + width]
    unseen = np.full_like(MODEL_PICTURE, np.nan)
    unseen[LARGE.beneath(box)] = MODEL_PICTURE[LARGE.beneath(box)]
    for picture in (MODEL_PICTURE, unseen):
        part = LARGE.from_canvas(picture, log=log, box=box)
        assert part.shape == (height, width, 3)
        assert np.array_equal(part.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("name", PLATES)
def test_a_part_of_any_plate(name):
    canvas = canvas_of(name)
    picture = noise(canvas.height, canvas.width, 3)
    whole = canvas.from_canvas(picture, log=True)
    width, height = canvas.plate_width, canvas.plate_height
    for box in (
        (0, 0, 1, 1),
        (width - 1, height - 1, 1, 1),
        (width // 3, height // 4, -(-width // 2), -(-height // 2)),
    ):
        unseen = np.full_like(picture, np.nan)
        unseen[canvas.beneath(box)] = picture[canvas.beneath(box)]
        left, top, across, tall = box
        part = canvas.from_canvas(unseen, log=True, box=box)
        assert np.array_equal(part, whole[top : top + tall, left : left + across])


def test_a_part_of_a_plate_of_the_canvas_size():
    canvas = Canvas.fit(96, 64, pixel_aspect=1.0, budget=BUDGET)
    picture = noise(64, 96, 3)
    assert np.array_equal(canvas.from_canvas(picture, log=True, box=(90, 3, 6, 61)), picture[3:, 90:])


@pytest.mark.parametrize("box", [(-1, 0, 4, 4), (0, 0, 0, 4), (800, 0, 4, 4), (0, 300, 1, 2)])
def test_a_part_that_is_not_of_the_plate(box):
    with pytest.raises(ValueError, match=r"box of a plate|beyond the plate"):
        LARGE.from_canvas(MODEL_PICTURE, log=False, box=box)


def test_the_whole_is_pillows_in_one_piece():
    left, top, across, tall = LARGE.active
    plane = np.ascontiguousarray(MODEL_PICTURE[top : top + tall, left : left + across, 0])
    size = (LARGE.plate_width, LARGE.plate_height)
    pillow = np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC))
    around = np.stack([np.roll(np.pad(plane, 2, mode="edge"), (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)])
    lowest, highest = (module.resize_nearest(bound[2:-2, 2:-2], *size) for bound in (around.min(0), around.max(0)))
    assert np.abs(WHOLE[False][..., 0] - np.clip(pillow, lowest, highest)).max() < 16 * 1e-5, (
        "but for the float32 of its boxes"
    )


def test_the_way_to_the_model_is_pillows_in_one_piece():
    left, top, across, tall = LARGE.active
    assert tall > module.STRIP, "it is made in several"
    plate = noise(LARGE.plate_height, LARGE.plate_width, 3)
    pillow = np.asarray(Image.fromarray(plate[..., 2].copy()).resize((across, tall), Image.Resampling.BICUBIC))
    shown = LARGE.to_canvas(plate)[top : top + tall, left : left + across, 2]
    assert np.abs(shown - pillow.clip(plate[..., 2].min(), plate[..., 2].max())).max() < 1e-5


def test_halves_come_as_their_floats_do():
    """Every half there is, NaN, Inf and the smallest too; strips with and without what is not finite."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(64, 1024, 1)
    finite = np.where(np.isfinite(halves), halves, np.float16(0.5))
    canvas = Canvas.fit(1024, 192, pixel_aspect=1.0, budget=(512, 96))
    assert canvas.active[3] > 2 * module.STRIP
    plate = np.repeat(np.concatenate([finite, halves, np.flip(finite)]), 3, axis=2)
    expected = canvas.to_canvas(plate.astype(np.float32))
    assert np.isfinite(expected).all()
    for stored in (plate, np.moveaxis(np.moveaxis(plate, 2, 0).copy(), 0, 2)):
        assert np.array_equal(canvas.to_canvas(stored), expected)


def test_light_beyond_any_half_is_kept():
    canvas = Canvas.fit(192, 128, pixel_aspect=1.0, budget=BUDGET)
    plate = np.full((128, 192, 3), 1e6, np.float32)
    assert (canvas.to_canvas(plate) == 1e6).all()
    plate[0, 0] = np.nan
    assert (canvas.to_canvas(plate)[40:, 40:] == 1e6).all()


@pytest.mark.parametrize(("width", "height"), [(400, 97), (97, 400), (64, 33), (33, 64), (1000, 1000), (5, 3)])
def test_any_plate_is_reduced_as_pillow_reduces_it(width, height):
    canvas = Canvas.fit(width, height, pixel_aspect=1.0, budget=(128, 96))
    left, top, across, tall = canvas.active
    plate = noise(height, width, 3) ** 8 * 20
    pillow = np.asarray(Image.fromarray(plate[..., 1].copy()).resize((across, tall), Image.Resampling.BICUBIC))
    shown = canvas.to_canvas(plate)[top : top + tall, left : left + across, 1]
    assert np.abs(shown - pillow.clip(plate[..., 1].min(), plate[..., 1].max())).max() < 20 * 1e-5, (
        "but for the float32 of its boxes"
    )
