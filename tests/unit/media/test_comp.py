"""The matte comp."""

import numpy as np
import OpenEXR
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as some

from scail2_farm.media import mattes, plates
from scail2_farm.media.comp import comp

SIZE = (6, 9)
any_floats = some.arrays(np.uint32, (*SIZE, 3)).map(lambda bits: bits.view(np.float32))
light = some.arrays(np.float32, (*SIZE, 3), elements=st.floats(-100, 100, width=32))
coverage = some.arrays(np.float32, SIZE, elements=st.sampled_from([0.0, 1.0, 1e-6]), fill=st.just(0.0)) | some.arrays(
    np.float32, SIZE, elements=st.floats(0, 1, width=32)
)


def test_only_the_matte_decides():
    plate = np.array([[[-0.0, 0.1, np.nan]] * 4], np.float32)
    generated = np.array([[[0.3, 0.7, 0.9]] * 4], np.float32)
    matte = np.array([[0.0, 1.0, 0.25, 1e-6]], np.float32)
    result = comp(plate, generated, matte)
    assert np.array_equal(result[0, 0].view(np.uint32), plate[0, 0].view(np.uint32))
    assert np.array_equal(result[0, 1], generated[0, 1])
    assert np.allclose(result[0, 2, :2], (0.075, 0.25))
    assert np.isfinite(result[0, 1:]).all(), "a plate value that is no number gives way inside the matte"


@given(plate=any_floats, generated=light, matte=coverage)
def test_a_comp_of_what_the_matte_reaches_is_the_whole_comp(plate, generated, matte):
    whole = comp(plate, generated, matte)
    assert np.array_equal(whole.view(np.uint32)[matte == 0], plate.view(np.uint32)[matte == 0])
    assert np.isfinite(whole[matte > 0]).all()
    box = mattes.reach(matte)
    if box is None:
        assert np.array_equal(whole.view(np.uint32), plate.view(np.uint32))
        return
    left, top, width, height = box
    part = comp(plate, generated[top : top + height, left : left + width], matte, box=box)
    assert np.array_equal(part.view(np.uint32), whole.view(np.uint32))


def test_a_plate_stored_plane_by_plane_is_comped_alike():
    random = np.random.default_rng(0)
    plate, generated = random.random((2, *SIZE, 3), dtype=np.float32)
    matte = np.clip(random.random(SIZE, dtype=np.float32) * 3 - 1, 0, 1)
    planes = np.moveaxis(np.ascontiguousarray(np.moveaxis(plate, 2, 0)), 0, 2)
    assert np.array_equal(comp(planes, generated, matte), comp(plate, generated, matte))


def test_arguments_are_left_alone_and_sizes_must_agree():
    plate, generated = np.zeros((2, 2, 3), np.float32), np.ones((2, 2, 3), np.float32)
    comp(plate, generated, np.full((2, 2), 0.5, np.float32))
    assert not plate.any()
    with pytest.raises(ValueError):
        comp(plate, generated, np.ones((2, 3), np.float32))
    with pytest.raises(ValueError):
        comp(plate, generated[:1], np.ones((2, 2), np.float32))
    with pytest.raises(ValueError):
        comp(plate, generated, np.ones((2, 2), np.float32), box=(0, 0, 1, 2))
    with pytest.raises(ValueError):
        comp(plate, generated, np.ones((2, 2), np.float32), box=(1, 1, 2, 2))


WINDOWS = {  # of the data, where the display window is 40x24 at (0, 0)
    "inside": ((5, 3), (30, 20)),
    "overscan": ((-6, -4), (45, 27)),
    "beyond one corner": ((25, -2), (50, 10)),
    "apart": ((60, 2), (99, 25)),
}


@pytest.mark.parametrize("window", WINDOWS)
def test_where_the_file_has_no_pixels_nothing_is_generated(exr_file, tmp_path, window):
    (left, top), (right, bottom) = WINDOWS[window]
    random = np.random.default_rng(0)
    stored = random.random((bottom - top + 1, right - left + 1, 3), dtype=np.float32).astype(np.float16)
    corners = {
        "dataWindow": (np.array([left, top], np.int32), np.array([right, bottom], np.int32)),
        "displayWindow": (np.array([0, 0], np.int32), np.array([39, 23], np.int32)),
    }
    source = exr_file("plate.exr", corners, {name: stored[..., index] for index, name in enumerate("RGB")})
    matte = np.zeros((24, 40), np.float32)
    matte[:18, 2:33] = random.random((18, 31), dtype=np.float32)
    with plates.open_plate(source) as plate:
        frame = plate.read(plates.probe(source).frames.first)
    wanted = np.where(frame.covered, matte, np.float32(0))
    shown, box = frame.rgb, mattes.reach(wanted)
    if box is not None:
        shown = comp(frame.rgb, np.full((box[3], box[2], 3), 9.0, np.float32), wanted, box=box)
    assert (shown[~frame.covered] == 0).all()
    target = tmp_path / "out.exr"
    plates.write(target, frame, rgb=shown, where=wanted > 0, attributes={}, form=plates.Form())
    written = OpenEXR.File(str(target), separate_channels=True)
    assert [corner.tolist() for corner in written.header()["dataWindow"]] == [[left, top], [right, bottom]]
    assert [corner.tolist() for corner in written.header()["displayWindow"]] == [[0, 0], [39, 23]]
    within = np.zeros(stored.shape[:2], np.float32)
    rows, columns = slice(max(top, 0), min(bottom, 23) + 1), slice(max(left, 0), min(right, 39) + 1)
    if columns.start < columns.stop:
        within[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = matte[rows, columns]
    assert within.any() == (window != "apart")
    for index, name in enumerate("RGB"):
        values = written.channels()[name].pixels
        assert np.array_equal(values.view(np.uint16)[within == 0], stored[..., index].view(np.uint16)[within == 0])
        assert (values[within > 0.01] > stored[..., index][within > 0.01]).all()
