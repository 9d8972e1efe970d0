"""Footage: what is told of a file, a sequence and a folder before a cut uses it."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from scail2_farm import footage
from scail2_farm.errors import ColorSpaceUnknown, PlateMissing, PlateUnreadable, ShareUnavailable
from scail2_farm.footage import look, sources, stepped
from scail2_farm.frames import FramePattern, timecode
from scail2_farm.media import exr, movies

RATE = Fraction(24000, 1001)


def drawn(width=48, height=32):
    return np.full((height, width, 3), 0.25, np.float32)


def frame(
    path,
    *,
    size=(48, 32),
    at=None,
    space: str | None = "lin_ap1_scene",
    pixel_type: Literal["half", "float"] = "half",
):
    """An EXR frame; `at` is the number of frames its timecode is after 01:00:00:00."""
    attributes = {}
    if space is not None:
        attributes["colorInteropID"] = space
    if at is not None:
        attributes |= {"timeCode": timecode(86400 + at, RATE), "framesPerSecond": RATE}
    exr.write_rgb(path, drawn(*size), attributes=attributes, pixel_type=pixel_type)
    return path


@pytest.fixture
def sequence(tmp_path):
    """sh010.1001-1006.exr without 1004, 23.976, ACEScg, timecode from 01:00:00:00."""
    for number in (1001, 1002, 1003, 1005, 1006):
        frame(tmp_path / f"sh010.{number}.exr", at=number - 1001)
    return FramePattern(tmp_path, "sh010.", 4, ".exr")


def looked(asked, **more):
    """What was found; and that machines are told of it too."""
    steps = look(str(asked), **more)
    while True:
        try:
            assert next(steps)
        except StopIteration as stop:
            found = stop.value
            json.dumps(found.as_json())
            return found


def only(asked, **more):
    found = looked(asked, **more)
    assert found.faults == ()
    (one,) = found.found
    return one


# --------------------------------------------------------------------------- sequences


def test_a_sequence_is_told_in_words_an_artist_reads(sequence):
    rows = dict(only(sequence).rows())
    assert rows["frames"] == "1001-1006, 5 of 6 frames"
    assert rows["missing"] == "1004"
    assert rows["size"] == "48x32"
    assert rows["rate"] == "23.976 (24000/1001)"
    assert rows["timecode"] == "01:00:00:00 to 01:00:00:05"
    assert rows["type"] == "16-bit float"
    assert rows["channels"] == "R G B half"
    assert rows["alpha"] == "none"
    assert rows["color space"].startswith("ACEScg (the file")
    assert rows["kind"] == "EXR, zip"
    assert "warning" not in rows
    assert "can be" not in rows
    assert "data window" not in rows


@pytest.mark.parametrize("written", ["sh010.####.exr", "sh010.%04d.exr", "sh010.[1001-1006].exr", "sh010.<f4>.exr"])
def test_a_sequence_may_be_written_as_elsewhere(sequence, written):
    found = only(sequence.folder / written)
    assert found.probe.missing == (1004,)
    assert found.as_json()["frames"] == {"first": 1001, "count": 6, "step": 1, "missing": [1004]}


def test_the_frames_a_name_says_are_those_that_are_looked_for(sequence):
    found = only(sequence.folder / "sh010.[0999-1002].exr")
    assert dict(found.rows())["frames"] == "999-1002, 2 of 4 frames"
    assert found.probe.missing == (999, 1000)
    assert found.timecodes[1] == "01:00:00:01"


def test_one_file_of_a_sequence_is_told_with_the_sequence(sequence):
    found = only(sequence.path(1003))
    assert found.name == "sh010.1003.exr"
    assert dict(found.rows())["timecode"] == "01:00:00:02"
    assert "frames" not in dict(found.rows())
    assert found.sequence.name == "sh010.####.exr"
    assert dict(found.sequence.rows())["missing"] == "1004"
    assert found.as_json()["sequence"]["frames"]["count"] == 6


@pytest.mark.parametrize("names", [("plate_v001.exr", "plate_v002.exr"), ("t05.exr", "t08.exr"), ("sh.1001.exr",)])
def test_versions_and_short_numbers_in_names_are_not_frames(tmp_path, names):
    for name in names:
        frame(tmp_path / name)
    found = only(tmp_path / names[0])
    assert found.sequence is None
    assert found.name == names[0]


def test_every_second_number_is_a_sequence_without_holes(tmp_path):
    for number in (1001, 1003, 1007):
        frame(tmp_path / f"sh010.{number}.exr")
    found = only(tmp_path / "sh010.####.exr")
    assert dict(found.rows())["frames"] == "1001-1007 by 2, 3 of 4 frames"
    assert dict(found.rows())["missing"] == "1005"
    assert found.as_json()["frames"] == {"first": 1001, "count": 4, "step": 2, "missing": [1005]}


def test_two_files_far_apart_say_nothing_of_a_step(tmp_path):
    for number in (1001, 1051):
        frame(tmp_path / f"sh010.{number}.exr")
    assert stepped(FramePattern(tmp_path, "sh010.", 4, ".exr")).step == 1


def test_frames_unlike_the_others_are_told_with_all_that_they_differ_in(sequence):
    for number in (1005, 1006):
        frame(sequence.path(number), size=(64, 32), at=number - 1001, pixel_type="float")
    found = only(sequence)
    assert (found.width, found.height) == (48, 32)
    (warning,) = found.warnings
    assert "frames 1005-1006: size 64x32 (48x32), type 32-bit float (16-bit float)" in warning


def test_a_timecode_that_does_not_run_on_is_told(sequence):
    frame(sequence.path(1005), at=40)
    frame(sequence.path(1006), at=41)
    assert [warning for warning in only(sequence).warnings if "timecode" in warning] == [
        "the timecode does not run on at frame 1005"
    ]


@pytest.mark.parametrize("number", [1001, 1003, 1006])
def test_a_broken_frame_is_a_fault_and_the_rest_is_told(sequence, number):
    path = sequence.path(number)
    path.write_bytes(path.read_bytes()[:-40])
    found = looked(sequence)
    (fault,) = found.faults
    assert isinstance(fault, PlateUnreadable)
    assert f"sh010.####.exr: frame {number}: " in fault.what
    (one,) = found.found
    assert one.timecodes == ("01:00:00:00", "01:00:00:05")


def test_of_a_long_sequence_some_headers_are_read_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(footage, "MOST_HEADERS", 5)
    for number in range(1001, 1013):
        frame(tmp_path / f"sh010.{number}.exr")
    steps = list(look(str(tmp_path / "sh010.####.exr")))
    assert steps == [f"sh010.{n}.exr ({i}/5)" for i, n in enumerate((1001, 1003, 1006, 1009, 1012), 1)]
    assert only(tmp_path / "sh010.####.exr").warnings == ("5 of 12 frames were looked at, spread over them",)


# --------------------------------------------------------------------------- windows, aspects, rates


def test_windows_are_told_where_they_differ(exr_windows):
    rows = dict(only(exr_windows).rows())
    assert rows["size"] == "40x24, pixel aspect 2: shown 3.33:1"
    assert rows["data window"] == "50x30 at -5,-3 of the frame"


def test_channels_are_told_by_layer_and_a_rate_from_outside_reads_the_timecode(exr_windows):
    found = only(exr_windows)
    assert dict(found.rows())["channels"] == "R G B A half, Z float, crypto00: R G B A float"
    assert dict(found.rows())["rate"].startswith("not said")
    assert found.timecodes is None
    found = only(exr_windows, rate=Fraction(25))
    assert dict(found.rows())["timecode"] == "10:20:30:12"
    assert found.as_json()["rate"] == "25"
    assert {"name": "crypto00.A", "type": "float"} in found.as_json()["channels"]


@pytest.fixture
def exr_windows(tmp_path):
    """Squeezed by 2, a data window larger than the display window, with depth and ids, timecode without a rate."""

    def plane(kind):
        return np.zeros((30, 50), kind)

    channels = {name: plane(np.float16) for name in "RGBA"} | {"Z": plane(np.float32)}
    channels |= {f"crypto00.{name}": plane(np.float32) for name in "RGBA"}
    header = {
        "dataWindow": (np.array([-5, -3], np.int32), np.array([44, 26], np.int32)),
        "displayWindow": (np.array([0, 0], np.int32), np.array([39, 23], np.int32)),
        "pixelAspectRatio": 2.0,
        "timeCode": OpenEXR.TimeCode(10, 20, 30, 12, *[False] * 6, *[0] * 8),
        "type": OpenEXR.scanlineimage,
    }
    OpenEXR.File(header, channels).write(str(tmp_path / "window.exr"))
    return tmp_path / "window.exr"


# --------------------------------------------------------------------------- colour


def test_a_space_nobody_says_is_a_warning_with_what_to_write(tmp_path):
    found = only(frame(tmp_path / "plate.exr", space=None))
    assert found.color is None
    assert dict(found.rows())["color space"] == "not said"
    assert "spaces: [{media: " in dict(found.rows())["warning"]
    assert found.as_json()["color"] is None
    assert found.as_json()["warnings"] == [found.unsaid]


def test_a_frame_and_its_sequence_ask_for_the_space_in_the_same_words(sequence):
    for number in sequence.on_disk():
        frame(sequence.path(number), at=number - 1001, space=None)
    found = only(sequence.path(1002))
    assert found.unsaid == found.sequence.unsaid
    assert "media: 'sh010.####.exr'" in found.unsaid


def test_a_tag_that_stands_for_no_space_is_told(tmp_path):
    chromaticities = (0.9, 0.1, 0.1, 0.9, 0.2, 0.1, 0.3, 0.3)
    channels = {name: np.zeros((24, 40), np.float16) for name in "RGB"}
    OpenEXR.File({"chromaticities": chromaticities, "type": OpenEXR.scanlineimage}, channels).write(
        str(tmp_path / "odd.exr")
    )
    found = only(tmp_path / "odd.exr")
    assert dict(found.rows())["color space"].startswith("not known (the file: chromaticities 0.9")
    assert found.cells()[footage.COLUMNS.index("color space")] == "not known"


def test_a_space_that_is_said_decides_and_a_wrong_one_is_a_fault(tmp_path):
    path = frame(tmp_path / "plate.exr", space=None)
    found = only(path, space="ARRI LogC3 (EI800)")
    assert found.color.space == "ARRI LogC3 (EI800)"
    assert "manifest" in found.color.decided_by
    wrong = looked(path, space="ARRI LogX")
    assert wrong.found == ()
    (fault,) = wrong.faults
    assert isinstance(fault, ColorSpaceUnknown)


# --------------------------------------------------------------------------- movies, stills, mattes


@pytest.fixture
def movie(tmp_path):
    path = tmp_path / "plate.mov"
    movies.write_movie(path, [drawn() for _ in range(8)], rate=Fraction(30000, 1001), timecode="00:10:00;02")
    return path


def test_a_movie_is_told_with_its_codec_and_sound(movie):
    found = only(movie)
    rows = dict(found.rows())
    assert rows["kind"].startswith("movie, ")
    assert "ProRes" in rows["kind"]
    assert rows["frames"] == "8, counted from 0"
    assert rows["rate"] == "29.97 (30000/1001)"
    assert rows["timecode"] == "00:10:00;02 to 00:10:00;09, drop-frame"
    assert rows["type"] == "10-bit"
    assert rows["audio"] == "none"
    assert rows["color space"].startswith("Rec.1886 Rec.709 - Display")
    assert found.as_json()["timecode"] == {"first": "00:10:00;02", "last": "00:10:00;09", "drop_frame": True}


def test_a_reference_is_told(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "ada.jpg")
    found = only(tmp_path / "ada.jpg")
    assert found.uses == ("reference",)
    assert found.rows() == [("size", "40x30"), ("can be", "a reference")]


def test_a_png_can_be_a_plate_or_a_reference(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "ada.png")
    found = only(tmp_path / "ada.png", space="sRGB - Display")
    assert found.uses == ("plate", "reference")
    assert dict(found.rows())["can be"] == "a plate or a reference"
    assert dict(found.rows())["type"] == "8-bit"


def test_what_is_no_plate_can_be_a_matte(tmp_path):
    exr.write_matte(tmp_path / "ada.1001.exr", np.zeros((30, 40), np.float32), attributes={})
    exr.write_matte(tmp_path / "ada.1002.exr", np.zeros((30, 40), np.float32), attributes={})
    found = only(tmp_path / "ada.####.exr")
    assert found.uses == ("matte",)
    assert dict(found.rows())["size"] == "40x30"
    assert dict(found.rows())["warning"].startswith("not a plate: ")


def test_what_is_nothing_is_a_fault(tmp_path):
    (tmp_path / "notes.exr").write_text("not a picture")
    found = looked(tmp_path / "notes.exr")
    assert found.found == ()
    assert [type(fault) for fault in found.faults] == [PlateUnreadable]
    assert [type(fault) for fault in looked(tmp_path / "absent.exr").faults] == [PlateMissing]
    assert [type(fault) for fault in looked(tmp_path / "absent.####.exr").faults] == [PlateMissing]
    assert [type(fault) for fault in looked(tmp_path / ("x" * 300)).faults] == [ShareUnavailable]
    (tmp_path / "edit.otio").write_text("{}")
    assert [type(fault) for fault in looked(tmp_path / "edit.otio").faults] == [PlateUnreadable]


# --------------------------------------------------------------------------- folders


def test_a_folder_is_told_by_what_is_in_it(sequence, movie):
    frame(sequence.folder / "clean.exr", space=None)
    (sequence.folder / "broken.exr").write_text("not a picture")
    (sequence.folder / "notes.txt").write_text("hello")
    (sequence.folder / ".hidden.exr").write_text("hello")
    found = looked(sequence.folder)
    assert [one.name for one in found.found] == ["clean.exr", "plate.mov", "sh010.####.exr"]
    assert [fault.where.file for fault in found.faults] == [str(sequence.folder / "broken.exr")]
    cells = dict(zip(footage.COLUMNS, found.found[2].cells(), strict=True))
    assert cells == {
        "name": "sh010.####.exr",
        "frames": "1001-1006",
        "missing": "1",
        "size": "48x32",
        "rate": "23.976",
        "color space": "ACEScg",
        "kind": "EXR, zip",
    }


def test_an_empty_folder_is_a_fault_that_says_what_is_below(tmp_path):
    (tmp_path / "day1").mkdir()
    (fault,) = looked(tmp_path).faults
    assert isinstance(fault, PlateMissing)
    assert "1 folder in it" in fault.what


def test_files_are_sequences_where_they_are_numbered(tmp_path):
    names = ["a.0998.dpx", "a.0999.dpx", "b.998.exr", "b.1002.exr", "c_v001.png", "c_v002.png", "d.1001.exr", "e.mov"]
    names += ["f0001.tif", "f0002.tif", "0001.png", "0002.png"]
    for name in names:
        (tmp_path / name).touch()
    found = [Path(str(source)).name for source in sources(tmp_path.iterdir())]
    assert found == [
        "####.png",
        "a.####.dpx",
        "b.###.exr",
        "c_v001.png",
        "c_v002.png",
        "d.1001.exr",
        "e.mov",
        "f####.tif",
    ]
