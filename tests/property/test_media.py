"""Promises of the media wing, for any picture, size and matte."""

import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import OpenEXR
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some

from scail2_farm.frames import timecode
from scail2_farm.media import exr, mattes
from scail2_farm.media.canvas import Canvas
from scail2_farm.media.comp import comp

SIZE = (5, 7)
floats = some.arrays(np.float32, (*SIZE, 3), elements=st.floats(-100, 100, width=32))
coverage = some.arrays(np.float32, SIZE, elements=st.sampled_from([0.0, 1.0]) | st.floats(0, 1, width=32))
RATES = [Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(48), Fraction(60000, 1001)]


@settings(deadline=None, max_examples=60)
@given(plate=some.arrays(np.uint16, (*SIZE, 3)), rgb=floats, matte=coverage)
def test_outside_the_matte_every_bit_of_a_plate_is_kept(plate, rgb, matte):
    """Any 16 bits are a half: NaN payloads, infinities, -0.0 and denormals included."""
    halves = plate.view(np.float16)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "plate.exr"), Path(folder, "out.exr")
        planes = {name: np.ascontiguousarray(halves[..., index]) for index, name in enumerate("RGB")}
        OpenEXR.File({"type": OpenEXR.scanlineimage}, planes).write(str(source))
        pixels = exr.read(source)
        with np.errstate(invalid="ignore"):
            merged = comp(exr.display_rgb(pixels), rgb, matte)
        exr.write_back(target, pixels, rgb=merged, where=matte > 0, attributes={})
        written = OpenEXR.File(str(target), separate_channels=True).channels()
    for index, name in enumerate("RGB"):
        kept = written[name].pixels.view(np.uint16)
        assert np.array_equal(kept[matte == 0], plate[..., index][matte == 0])
        assert np.array_equal(written[name].pixels[matte == 1], rgb[..., index][matte == 1].astype(np.float16))


@given(plate=floats, generated=floats, matte=coverage)
def test_the_comp_lies_between_plate_and_generated(plate, generated, matte):
    result = comp(plate, generated, matte)
    slack = 1e-5 * (np.abs(plate) + np.abs(generated)) + 1e-30
    assert (result >= np.minimum(plate, generated) - slack).all()
    assert (result <= np.maximum(plate, generated) + slack).all()
    assert np.array_equal(result[matte == 0], plate[matte == 0])
    assert np.array_equal(result[matte == 1], generated[matte == 1])


@given(
    width=st.integers(16, 8192),
    height=st.integers(16, 8192),
    aspect=st.sampled_from([1.0, 2.0, 0.5, 16 / 15, 1.4587]),
    budget=st.sampled_from([(832, 480), (1280, 704), (96, 64), (256, 256)]),
)
@settings(deadline=None)
def test_a_canvas_holds_the_plate_whole_and_keeps_its_aspect(width, height, aspect, budget):
    canvas = Canvas.fit(width, height, pixel_aspect=aspect, budget=budget)
    left, top, across, tall = canvas.active
    assert canvas.width % 32 == canvas.height % 32 == 0
    assert canvas.width * canvas.height <= budget[0] * budget[1]
    assert min(left, top) >= 0
    assert left + across <= canvas.width
    assert top + tall <= canvas.height
    assert across == canvas.width or tall == canvas.height
    exact = width * aspect / height
    assert (across - 0.5) / (tall + 0.5) <= exact * 1.0001 or tall == 1 or across == 1
    assert (across + 0.5) / max(tall - 0.5, 0.5) >= exact * 0.9999 or tall == 1 or across == 1


@settings(deadline=None, max_examples=30)
@given(width=st.integers(40, 150), height=st.integers(40, 150), seed=st.integers(0, 99), log=st.booleans())
def test_canvas_and_back_is_the_plates_size_and_range(width, height, seed, log):
    canvas = Canvas.fit(width, height, pixel_aspect=1.0, budget=(96, 64))
    plate = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    shown = canvas.to_canvas(plate)
    assert shown.shape == (canvas.height, canvas.width, 3)
    back = canvas.from_canvas(np.clip(shown, 0, 1), log=log)
    assert back.shape == plate.shape
    assert back.min() >= -1e-5
    assert back.max() <= 1.1
    labels = np.random.default_rng(seed).integers(0, 7, (height, width), np.uint8)
    assert set(np.unique(canvas.labels_to_canvas(labels))) <= set(np.unique(labels))


@given(
    first=coverage,
    second=coverage,
    slots=st.permutations([1, 2, 3, 4, 5, 6]),
)
def test_someone_is_where_a_matte_says_so_and_nowhere_else(first, second, slots):
    labels = mattes.identity_map([first, second], slots[:2])
    union = mattes.comp_matte([first, second])
    assert np.array_equal(labels > 0, union >= 0.5)
    assert (labels[second >= 0.5] == slots[1]).all()
    assert (labels[(first >= 0.5) & (second < 0.5)] == slots[0]).all()


@settings(deadline=None, max_examples=40)
@given(rate=st.sampled_from(RATES), frame=st.integers(0, 24 * 3600 * 20))
def test_any_timecode_survives_a_header(rate, frame):
    code = timecode(frame, rate, drop=rate in (Fraction(30000, 1001), Fraction(60000, 1001)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "raw.exr")
        exr.write_rgb(path, np.zeros((1, 1, 3)), attributes={"timeCode": code, "framesPerSecond": rate})
        assert exr.timecode_of(exr.examine(path)[0], rate) == code
