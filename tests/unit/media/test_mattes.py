"""Mattes: read, checked, and made into identity map and comp matte."""

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from scail2_farm.documents import SLOTS
from scail2_farm.errors import MatteMismatch
from scail2_farm.frames import FramePattern, FrameRange
from scail2_farm.media import exr, mattes

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def save(path, pixels, mode=None):
    Image.fromarray(pixels, mode).save(path) if mode else Image.fromarray(pixels).save(path)
    return path


def test_every_png_of_a_matte_reads_the_same(tmp_path):
    expected = (RAMP / 255).astype(np.float32)
    rgb = np.repeat(RAMP[..., None], 3, axis=2)
    transparent = np.dstack([rgb, np.zeros_like(RAMP)])
    for name, pixels in {"gray": RAMP, "rgb": rgb, "rgba": transparent}.items():
        read = mattes.read_matte(save(tmp_path / f"{name}.png", pixels))
        assert read.dtype == np.float32
        assert np.array_equal(read, expected), name
    deep = RAMP.astype(np.uint16) * 257
    assert np.array_equal(mattes.read_matte(save(tmp_path / "deep.png", deep)), expected)
    one = save(tmp_path / "one.png", RAMP > 99)
    assert np.array_equal(mattes.read_matte(one), (RAMP > 99).astype(np.float32))


def test_coloured_png_gives_its_luma(tmp_path):
    pixels = np.zeros((1, 3, 3), np.uint8)
    pixels[0, range(3), range(3)] = 255
    assert np.allclose(mattes.read_matte(save(tmp_path / "c.png", pixels)), [[0.2126, 0.7152, 0.0722]])


@pytest.mark.parametrize(
    ("names", "source"),
    [("Y", "Y"), ("A", "A"), ("R", "R"), ("RGBA", "RGB"), ("ZA", "A"), ("YA", "Y"), (("matte.hero",), "matte.hero")],
)
def test_exr_mattes(exr_file, names, source):
    value = (RAMP / 255).astype(np.float16)
    planes = {name: (value if name in source or name == source else np.ones_like(value)) for name in names}
    assert np.array_equal(mattes.read_matte(exr_file("m.exr", None, planes)), value.astype(np.float32))


def test_an_exr_in_colour_gives_its_luma_and_in_gray_that_gray(exr_file):
    value = (RAMP / 255).astype(np.float16)
    gray = dict.fromkeys("RGB", value)
    assert np.array_equal(mattes.read_matte(exr_file("gray.exr", None, gray)), value.astype(np.float32))
    coloured = mattes.read_matte(exr_file("coloured.exr", None, gray | {"G": np.zeros_like(value)}))
    assert np.allclose(coloured, value * np.float32(0.2126 + 0.0722), atol=1e-6)


def test_an_exr_that_has_no_matte_is_refused(exr_file):
    value = np.zeros((4, 4), np.float16)
    with pytest.raises(MatteMismatch, match=r"none of Y, R G B or A, and more than one channel \(Z, id\)"):
        mattes.read_matte(exr_file("m.exr", None, {"Z": value, "id": value.astype(np.uint32)}))


def test_real_reference_mattes(media):
    for path in sorted((media / "cryptomatte/reference_arnold").glob("*.exr")):
        read = mattes.read_matte(path)
        assert read.shape == (180, 320)
        assert 0 < read.mean() < 1
        assert mattes.matte_size(path) == (320, 180)


def test_windows_values_beyond_and_values_that_are_none(exr_file):
    values = np.array([[-0.2, 0.5], [1.3, 1.0]], np.float32)
    window = {
        "dataWindow": (np.array([1, 1], np.int32), np.array([2, 2], np.int32)),
        "displayWindow": (np.array([0, 0], np.int32), np.array([3, 3], np.int32)),
    }
    read = mattes.read_matte(exr_file("m.exr", window, {"Y": values}))
    assert read.tolist() == [[0, 0, 0, 0], [0, 0, 0.5, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    values[0, 0] = np.nan
    with pytest.raises(MatteMismatch, match="not numbers"):
        mattes.read_matte(exr_file("nan.exr", window, {"Y": values}))


def test_damaged_mattes_are_told(tmp_path, exr_file, media, capfd):
    whole = save(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    (tmp_path / "flipped.png").write_bytes(flipped)
    (tmp_path / "text.png").write_text("white")
    exr_whole = exr_file("m.exr", None, {"Y": RAMP.astype(np.float16)}).read_bytes()
    (tmp_path / "cut.exr").write_bytes(exr_whole[:-10])
    (tmp_path / "matte.jpg").write_bytes(b"x")
    for name in ("cut.png", "flipped.png", "text.png", "cut.exr", "none.png", "none.exr", "matte.jpg"):
        with pytest.raises(MatteMismatch, match=name):
            mattes.read_matte(tmp_path / name)
    for name in ("cut.png", "text.png", "cut.exr", "none.png", "none.exr", "matte.jpg"):
        with pytest.raises(MatteMismatch, match=name):
            mattes.matte_size(tmp_path / name)
    with pytest.raises(MatteMismatch, match="deep"):
        mattes.read_matte(media / "exr/Trunks.exr")


def test_a_sequence_is_checked_frame_for_frame(tmp_path):
    pattern = FramePattern(tmp_path, "sh010_ada.", 4, ".png")
    for n in range(1001, 1007):
        save(pattern.path(n), RAMP)
    assert mattes.check_matte(pattern, FrameRange(1001, 6), size=(8, 6)) == []
    pattern.path(1002).write_bytes(pattern.path(1002).read_bytes()[:-5])
    save(pattern.path(1004), RAMP[:3])
    faults = mattes.check_matte(pattern, FrameRange(1000, 9), size=(8, 6))
    assert [fault.what for fault in faults] == [
        "the matte sh010_ada.####.png has 6 of 9 frames; not there: 1000, 1007-1008",
        "the matte sh010_ada.####.png at 1002 is cut short",
        "the matte sh010_ada.####.png at 1004 is 8x3, the plate 8x6",
    ]
    assert {fault.code for fault in faults} == {"SF-MATTE-MISMATCH"}


def test_frames_the_plate_lacks_may_lack_a_matte(tmp_path):
    pattern = FramePattern(tmp_path, "ada.", 4, ".png")
    for n in (1001, 1002, 1005):
        save(pattern.path(n), RAMP)
    assert mattes.check_matte(pattern, FrameRange(1001, 5), size=(8, 6), missing=(1003, 1004)) == []
    (fault,) = mattes.check_matte(pattern, FrameRange(1001, 6), size=(8, 6), missing=(1003, 1004))
    assert fault.what == "the matte ada.####.png has 3 of 4 frames; not there: 1006"
    assert fault.fix == "export ada.####.png for frames 1001-1002, 1005-1006"
    save(pattern.path(1004), RAMP[:3])
    (fault,) = mattes.check_matte(pattern, FrameRange(1001, 5), size=(8, 6), missing=(1003, 1004))
    assert "at 1004 is 8x3" in fault.what, "a matte that is there is looked at"


def test_a_matte_with_a_step_is_told_by_its_numbers(tmp_path):
    pattern = FramePattern(tmp_path, "ada.", 4, ".png", step=2, origin=1001)
    for n in (1001, 1003, 1007):
        save(tmp_path / f"ada.{n}.png", RAMP)
    (fault,) = mattes.check_matte(pattern, FrameRange(1001, 4), size=(8, 6))
    assert fault.what == "the matte ada.####.png has 3 of 4 frames; not there: 1005"


def test_the_matte_of_a_frame_the_plate_lacks(tmp_path):
    pattern = FramePattern(tmp_path, "ada.", 4, ".png")
    for n in (1001, 1002, 1005, 1009):
        save(pattern.path(n), RAMP)
    lacking = (1002, 1003, 1004, 999)
    assert mattes.stand_ins(pattern, lacking, "hold") == {1003: 1001, 1004: 1001, 999: 1001}, "1002 has its own"
    assert mattes.stand_ins(pattern, lacking, "black") == {1003: None, 1004: None, 999: None}
    assert mattes.stand_ins(pattern, (), "hold") == {}


def test_the_box_of_the_white():
    matte = np.zeros((6, 8), np.float32)
    assert mattes.box(matte) is None
    matte[2:5, 3:7] = 0.5
    matte[0, 0] = 0.49
    assert mattes.box(matte) == (3, 2, 4, 3)
    matte[5, 7] = 1.0
    assert mattes.box(matte) == (3, 2, 5, 4)


def test_what_a_matte_reaches_is_all_that_is_not_black():
    matte = np.zeros((6, 8), np.float32)
    assert mattes.reach(matte) is None
    matte[4, 2] = 1e-6
    assert mattes.reach(matte) == (2, 4, 1, 1)
    matte[0, 7] = 1.0
    assert mattes.reach(matte) == (2, 0, 6, 5)
    assert mattes.reach(np.ones((6, 8), np.float32)) == (0, 0, 8, 6)


def walk(tmp_path, seen: dict[int, tuple[int, int]], count: int) -> FramePattern:
    """Mattes from 1001 with one white pixel (column, row) at the frames named."""
    pattern = FramePattern(tmp_path, "walk.", 4, ".png")
    for n in range(1001, 1001 + count):
        pixels = np.zeros((6, 8), np.uint8)
        if n in seen:
            pixels[seen[n][1], seen[n][0]] = 255
        save(pattern.path(n), pixels)
    return pattern


def test_presence_reads_no_file_twice_and_no_further_than_needed(tmp_path):
    pattern = walk(tmp_path, {1003: (2, 4), 1004: (3, 4), 1008: (5, 1)}, 9)
    pattern.path(1005).unlink()
    presence = mattes.Presence(pattern)
    assert presence.first_seen(FrameRange(1001, 9)) == (1003, (2, 4, 1, 1))
    for n in (1001, 1002, 1003):
        pattern.path(n).unlink()
    assert presence.first_seen(FrameRange(1001, 9)) == (1003, (2, 4, 1, 1)), "remembered"
    assert presence.anyone(FrameRange(1001, 9))
    assert not presence.anyone(FrameRange(1001, 2))
    assert presence.anyone(FrameRange(1006, 4))
    assert not presence.anyone(FrameRange(1006, 2))
    assert presence.anyone(FrameRange(1005, 9)), "what is known is asked before a file is read"
    assert presence.box(1004) == (3, 4, 1, 1)
    with pytest.raises(MatteMismatch, match="is not there"):
        presence.anyone(FrameRange(1005, 3))


def test_presence_where_the_plate_has_no_frames(tmp_path):
    pattern = walk(tmp_path, {1002: (0, 0)}, 2)
    held = mattes.Presence(pattern, mattes.stand_ins(pattern, (1003, 1004), "hold"))
    assert held.anyone(FrameRange(1003, 2))
    assert held.first_seen(FrameRange(1003, 2)) == (1003, (0, 0, 1, 1))
    black = mattes.Presence(pattern, mattes.stand_ins(pattern, (1003, 1004), "black"))
    assert not black.anyone(FrameRange(1003, 2))


def test_slots_are_numbered_in_the_order_of_the_manifest():
    assert tuple(mattes.SLOT_NUMBERS) == SLOTS
    assert list(mattes.SLOT_NUMBERS.values()) == [1, 2, 3, 4, 5, 6]


def test_identity_map_and_comp_matte():
    ada = np.array([[1.0, 0.5, 0.49, 0.0]], np.float32)
    bob = np.array([[0.0, 0.9, 0.2, 0.6]], np.float32)
    assert mattes.identity_map([ada, bob], [1, 4]).tolist() == [[1, 4, 0, 4]]
    assert mattes.identity_map([bob, ada], [4, 1]).tolist() == [[1, 1, 0, 4]]
    assert mattes.comp_matte([ada, bob]).tolist() == np.array([[1.0, 0.9, 0.49, 0.6]], np.float32).tolist()
    for slots in ([1], [1, 7], [0, 1]):
        with pytest.raises(ValueError):
            mattes.identity_map([ada, bob], slots)


def test_what_the_comp_used_is_what_is_delivered(tmp_path):
    matte = mattes.comp_matte([np.random.default_rng(0).random((5, 7)).astype(np.float32)])
    exr.write_matte(tmp_path / "m.exr", matte, attributes={})
    assert np.array_equal(mattes.read_matte(tmp_path / "m.exr"), matte)
    assert OpenEXR.File(str(tmp_path / "m.exr")).header()["compression"] == OpenEXR.ZIP_COMPRESSION
