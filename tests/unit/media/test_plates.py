"""Plates: probed, checked, opened, read, and written in their own class."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import OpenEXR
import pytest

from scail2_farm.errors import DiskFull, PlateMissing, PlateUnreadable
from scail2_farm.frames import FramePattern, FrameRange, frame_at
from scail2_farm.media import exr, movies, plates, rasters

OWN = plates.Form()


@pytest.fixture
def sequence(exr_file, tmp_path) -> FramePattern:
    """sh010.1001-1006.exr, 24 frames a second, each with its own timecode."""
    for index in range(6):
        code = OpenEXR.TimeCode(1, 0, 0, index, False, False, False, False, False, False, *[0] * 8)
        header = {"timeCode": code, "framesPerSecond": Fraction(24), "colorInteropID": "lin_ap1_scene"}
        exr_file(f"sh010.{1001 + index}.exr", header)
    return FramePattern(tmp_path, "sh010.", 4, ".exr")


@pytest.fixture
def movie(tmp_path) -> Path:
    frames = [np.full((24, 40, 3), 0.1 * index) for index in range(8)]
    movies.write_movie(tmp_path / "plate.mov", frames, rate=Fraction(30000, 1001), timecode="00:10:00;02")
    return tmp_path / "plate.mov"


def test_a_sequence_is_probed(sequence):
    assert plates.probe(sequence) == plates.PlateProbe(
        kind="exr",
        source=str(sequence),
        width=40,
        height=24,
        pixel_aspect=1.0,
        rate=Fraction(24),
        frames=FrameRange(1001, 6),
        missing=(),
        timecode_start=86400,
        drop_frame=False,
        pixel_type="half",
        color_tag=plates.ColorTag("colorInteropID", "lin_ap1_scene"),
        warnings=(),
        channels=(("B", "half"), ("G", "half"), ("R", "half")),
        compression="zip",
    )


def test_timecode_is_that_of_the_first_file_whichever_was_looked_at(sequence):
    sequence.path(1003).unlink()
    probe = plates.probe(sequence, frames=FrameRange(1003, 5))
    assert probe.timecode_start == 86400
    assert probe.frames == FrameRange(1001, 6)
    assert probe.missing == (1003, 1007)
    assert plates.probe(sequence).missing == (1003,)


def test_a_rate_from_outside_reads_the_timecode(exr_file):
    code = OpenEXR.TimeCode(0, 10, 0, 2, True, False, False, False, False, False, *[0] * 8)
    path = exr_file("one.0007.exr", {"timeCode": code})
    assert plates.probe(path).timecode_start is None
    probe = plates.probe(path, rate=Fraction(30000, 1001))
    assert (probe.timecode_start, probe.drop_frame, probe.rate) == (
        frame_at("00:10:00;02", Fraction(30000, 1001)),
        True,
        None,
    )
    refused = plates.probe(path, rate=Fraction(24))
    assert refused.timecode_start is None
    assert "drop-frame" in refused.warnings[0]


def test_windows_aspect_and_type(media, exr_file, picture):
    probe = plates.probe(media / "exr/t08.exr")
    assert (probe.width, probe.height, probe.frames) == (501, 401, FrameRange(0, 1))
    assert probe.data_window == (30, 40, 400, 300)
    wide = {name: picture[..., 0].astype(np.float32) for name in "RGB"}
    probe = plates.probe(exr_file("wide.exr", {"pixelAspectRatio": 2.0}, wide))
    assert (probe.pixel_aspect, probe.pixel_type, probe.color_tag) == (2.0, "float", None)


def test_a_movie_is_probed(movie):
    probe = plates.probe(movie)
    assert (probe.kind, probe.width, probe.height) == ("movie", 40, 24)
    assert (probe.frames, probe.missing, probe.rate) == (FrameRange(0, 8), (), Fraction(30000, 1001))
    assert (probe.timecode_start, probe.drop_frame) == (frame_at("00:10:00;02", Fraction(30000, 1001)), True)
    assert (probe.pixel_type, probe.color_tag) == ("uint10", plates.ColorTag("nclc", "1/1/1"))
    assert probe.channels == (("R", "uint10"), ("G", "uint10"), ("B", "uint10"))
    assert probe.codec is not None
    assert probe.codec.startswith("ProRes")


def test_what_is_not_there_is_told_with_what_is(sequence, tmp_path):
    with pytest.raises(PlateMissing, match=r"nearest name there is sh010\.1001\.exr"):
        plates.probe(FramePattern(tmp_path, "sh01O.", 4, ".exr"))
    with pytest.raises(PlateMissing, match="the folder"):
        plates.probe(FramePattern(tmp_path / "plates", "sh010.", 4, ".exr"))
    with pytest.raises(PlateMissing):
        plates.probe(tmp_path / "none.mov")
    with pytest.raises(PlateMissing, match="folder"):
        plates.probe(tmp_path)


@pytest.mark.parametrize(
    ("name", "said", "fix"),
    [
        ("noname", "a name without a suffix is not a supported kind", "supply EXR, DPX, TIFF or PNG, or a movie"),
        ("still.jpg", "a JPEG is not a supported kind", "the picture it was made from"),
        ("scan.CIN", "a Cineon file is not a supported kind", "DPX of 10 bits"),
        ("shot.r3d", "camera raw is not a supported kind", "develop it"),
        ("still.png", "is not a PNG file", "write the plate again"),
        ("scan.dpx", "is not a DPX file", "write the plate again"),
        ("scan.tiff", "is not a TIFF file", "write the plate again"),
    ],
)
def test_other_kinds_are_refused_in_words(tmp_path, name, said, fix):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(PlateUnreadable, match=said) as caught:
        plates.probe(tmp_path / name)
    assert fix in caught.value.fix
    assert [fault.code for fault in plates.check_frames(tmp_path / name, FrameRange(0, 1), size=(4, 4))] == [
        "SF-PLATE-UNREADABLE"
    ]


def test_all_faults_of_a_sequence_at_once_one_per_kind(sequence, exr_file, picture):
    assert plates.check_frames(sequence, FrameRange(1001, 6), size=(40, 24)) == []
    for n in (1002, 1003):
        whole = sequence.path(n).read_bytes()
        sequence.path(n).write_bytes(whole[:-50])
    smaller = dict.fromkeys("RGB", picture[:10, :20, 0])
    exr_file("sh010.1005.exr", None, smaller)
    exr_file("sh010.1006.exr", None, {"Y": picture[..., 0]})
    faults = plates.check_frames(sequence, FrameRange(1000, 9), size=(40, 24))
    absent, cut, gray, small = (fault.what for fault in faults)
    assert absent == "sh010.####.exr: 3 of 9 frames are not there: 1000, 1007-1008"
    assert cut.startswith("sh010.####.exr: frames 1002-1003: is incomplete")
    assert gray.startswith("sh010.####.exr: frame 1006: ")
    assert small == "sh010.####.exr: frame 1005: 20x10, the plate is 40x24"
    assert all(fault.where.file == str(sequence) for fault in faults)


def test_an_odd_first_frame_is_told_as_the_odd_one(sequence, exr_file, picture):
    exr_file("sh010.1001.exr", None, dict.fromkeys("RGB", picture[:10, :20, 0]))
    probe = plates.probe(sequence)
    assert (probe.width, probe.height) == (20, 10)
    (fault,) = plates.check_frames(sequence, FrameRange(1001, 6), size=(20, 10))
    assert fault.what == "sh010.####.exr: frame 1001: 20x10, the plate is 40x24"
    exr_file("sh010.1001.exr", None, dict.fromkeys("RGB", picture[..., 0].astype(np.float32)))
    (fault,) = plates.check_frames(sequence, FrameRange(1001, 6), size=(40, 24))
    assert fault.what == "sh010.####.exr: frame 1001: float, the plate is half"
    (fault,) = plates.check_frames(sequence, FrameRange(1002, 5), size=(20, 10))
    assert fault.what == "sh010.####.exr: frames 1002-1006: 40x24, the plate is 20x10"


def test_faults_of_a_movie(movie):
    assert plates.check_frames(movie, FrameRange(0, 8), size=(40, 24)) == []
    (fault,) = plates.check_frames(movie, FrameRange(6, 4), size=(40, 24))
    assert fault.what == "plate.mov has 8 frames; 8-9 are not there (counted from 0)"
    (fault,) = plates.check_frames(movie, FrameRange(0, 8), size=(1920, 1080))
    assert "is 40x24" in fault.what


def test_the_largest_frame_is_counted(sequence, movie):
    assert plates.frame_bytes(sequence, FrameRange(1001, 6)) == 24 * 40 * 3 * 2
    assert plates.frame_bytes(movie, FrameRange(0, 8)) is None


def test_frames_are_read_by_their_numbers(sequence, movie, picture, tmp_path):
    with plates.open_plate(sequence) as plate:
        frame = plate.read(1004)
        assert frame.number == 1004
        assert np.array_equal(frame.rgb, picture.astype(np.float32))
        assert frame.covered.all()
        with pytest.raises(PlateMissing):
            plate.read(1007)
    with plates.open_plate(movie) as plate:
        assert [round(float(plate.read(n).rgb.mean()), 1) for n in (7, 0, 3)] == [0.7, 0.0, 0.3]
        assert plate.read(0).native is None
        assert plate.read(0).covered.all()
    with plates.open_plate(sequence.path(1002)) as plate:
        assert plate.read(1002).rgb.shape == (24, 40, 3)
        with pytest.raises(PlateMissing, match="is frame 1002, not 1003"):
            plate.read(1003)


def test_the_frame_before_stands_in_or_the_first_after(sequence, exr_file, picture):
    other = dict.fromkeys("RGB", picture[..., 0])
    exr_file("sh010.1002.exr", None, other)
    for n in (1001, 1003, 1004):
        sequence.path(n).unlink()
    lacking = (1001, 1003, 1004, 1007)
    with plates.open_plate(sequence, missing=lacking, stand_in="hold") as plate:
        shown = {n: plate.read(n) for n in range(1001, 1008)}
    assert [n for n, frame in shown.items() if frame.stood_in] == list(lacking)
    assert all(frame.number == n for n, frame in shown.items())
    for held, there in {1001: 1002, 1003: 1002, 1004: 1002, 1007: 1006}.items():
        assert np.array_equal(shown[held].rgb, shown[there].rgb), held
    assert not np.array_equal(shown[1002].rgb, shown[1006].rgb)
    with plates.open_plate(sequence, missing=lacking) as plate, pytest.raises(PlateMissing):
        plate.read(1003)
    (fault,) = plates.check_frames(sequence, FrameRange(1001, 7), size=(40, 24), missing=(1001, 1003))
    assert fault.what == "sh010.####.exr: 2 of 7 frames are not there: 1004, 1007"
    assert plates.check_frames(sequence, FrameRange(1001, 7), size=(40, 24), missing=lacking) == []
    sequence.path(1002).write_bytes(b"cut short")
    (fault,) = plates.check_frames(sequence, FrameRange(1003, 2), size=(40, 24), missing=lacking)
    assert "frame 1002: " in fault.what, "what stands in is looked at, wherever it is"


def test_black_is_of_the_plates_class(exr_file, tmp_path, picture):
    planes = {"R": picture[..., 0], "G": picture[..., 1], "B": picture[..., 2]}
    planes |= {"A": np.ones_like(picture[..., 0]), "Z": picture[..., 0].astype(np.float32)}
    code = OpenEXR.TimeCode(1, 0, 0, 0, False, False, False, False, False, False, *[0] * 8)
    exr_file("sh020.0001.exr", {"cameraLabel": "A", "timeCode": code}, planes)
    pattern = FramePattern(tmp_path, "sh020.", 4, ".exr")
    with plates.open_plate(pattern, missing=(2,), stand_in="black") as plate:
        frame = plate.read(2)
        assert plate.read(1).rgb.max() > 0
    assert (frame.rgb == 0).all()
    assert frame.covered.all()
    where = np.zeros((24, 40), np.bool_)
    where[:2] = True
    plates.write(tmp_path / "out.exr", frame, rgb=np.ones_like(frame.rgb), where=where, attributes={}, form=OWN)
    written = OpenEXR.File(str(tmp_path / "out.exr"), separate_channels=True)
    kinds = {name: channel.pixels.dtype for name, channel in written.channels().items()}
    assert kinds == {"R": "float16", "G": "float16", "B": "float16", "A": "float16", "Z": "float32"}
    assert (written.channels()["R"].pixels == where).all()
    assert (written.channels()["Z"].pixels == 0).all()
    assert written.header()["cameraLabel"] == "A"
    assert "timeCode" not in written.header(), "the neighbour's time is not this frame's"


def test_a_held_frame_has_its_own_time(sequence, tmp_path):
    sequence.path(1004).unlink()
    where = np.zeros((24, 40), np.bool_)
    attributes = {"timeCode": "01:00:00:03", "framesPerSecond": Fraction(24)}
    with plates.open_plate(sequence, missing=(1004,), stand_in="hold") as plate:
        for n in (1003, 1004):
            frame = plate.read(n)
            plates.write(tmp_path / f"out.{n}.exr", frame, rgb=frame.rgb, where=where, attributes=attributes, form=OWN)
    codes = [exr.timecode_of(exr.examine(tmp_path / f"out.{n}.exr")[0], Fraction(24)) for n in (1003, 1004)]
    assert codes == ["01:00:00:02", "01:00:00:03"], "a frame of its own keeps its header's, a held one is given its own"
    assert OpenEXR.File(str(tmp_path / "out.1004.exr")).header()["colorInteropID"] == "lin_ap1_scene"


def test_beyond_a_movies_end_its_last_frame_stands_in(movie):
    with plates.open_plate(movie, missing=(8, 9), stand_in="hold") as plate:
        assert round(float(plate.read(9).rgb.mean()), 1) == 0.7
        assert plate.read(9).stood_in
        assert not plate.read(7).stood_in
    with plates.open_plate(movie, missing=(8,), stand_in="black") as plate:
        assert (plate.read(8).rgb == 0).all()
        assert plate.read(8).rgb.shape == (24, 40, 3)
    assert plates.check_frames(movie, FrameRange(6, 4), size=(40, 24), missing=(8, 9)) == []
    (fault,) = plates.check_frames(movie, FrameRange(6, 4), size=(40, 24), missing=(9,))
    assert "8 are not there" in fault.what


def test_a_plate_with_nothing_to_stand_in_is_refused(sequence, tmp_path):
    empty = FramePattern(tmp_path, "sh030.", 4, ".exr")
    with pytest.raises(PlateMissing, match="no frame that could stand in"):
        plates.open_plate(empty, missing=(1,), stand_in="hold")
    (fault,) = plates.check_frames(empty, FrameRange(1, 1), size=(40, 24), missing=(1,))
    assert fault.code == "SF-PLATE-MISSING"


def test_file_numbers_with_a_step_are_counted_one_by_one(exr_file, tmp_path, picture):
    for n in (1001, 1003, 1007):
        exr_file(f"sh040.{n}.exr", None, dict.fromkeys("RGB", np.full((24, 40), n % 100, np.float16)))
    pattern = FramePattern(tmp_path, "sh040.", 4, ".exr", step=2, origin=1001)
    with plates.open_plate(pattern, missing=(1003,), stand_in="hold") as plate:
        assert [float(plate.read(n).rgb.max()) for n in range(1001, 1005)] == [1, 3, 3, 7]
    (fault,) = plates.check_frames(pattern, FrameRange(1001, 4), size=(40, 24))
    assert fault.what == "sh040.####.exr: 1 of 4 frames are not there: 1005"
    assert plates.frame_bytes(pattern, FrameRange(1001, 4), missing=(1003,)) == 24 * 40 * 3 * 2


def test_what_the_file_does_not_cover_is_known(media):
    with plates.open_plate(media / "exr/t08.exr") as plate:
        covered = plate.read(0).covered
    assert covered[40:340, 30:430].all()
    assert covered.sum() == 300 * 400


def test_an_exr_frame_is_written_in_its_own_class(sequence, tmp_path, picture):
    where = np.zeros((24, 40), np.bool_)
    where[5:10, 5:10] = True
    with plates.open_plate(sequence) as plate:
        frame = plate.read(1001)
        attributes = {"timeCode": "01:00:00:00", "framesPerSecond": Fraction(24), "scail2_farm:seed": "7"}
        rgb = np.full(frame.rgb.shape, 3.0, np.float32)
        plates.write(tmp_path / "out.exr", frame, rgb=rgb, where=where, attributes=attributes, form=OWN)
    written = OpenEXR.File(str(tmp_path / "out.exr"), separate_channels=True)
    red = written.channels()["R"].pixels
    assert red.dtype == np.float16
    assert np.array_equal(red[~where].view(np.uint16), picture[..., 0][~where].view(np.uint16))
    assert (red[where] == 3).all()
    assert written.header()["framesPerSecond"] == Fraction(24)
    assert written.header()["scail2_farm:seed"] == "7"
    assert written.header()["colorInteropID"] == "lin_ap1_scene"


def test_a_movie_frame_becomes_float_exr_equal_to_its_decode(movie, tmp_path):
    where = np.zeros((24, 40), np.bool_)
    where[:3] = True
    with plates.open_plate(movie) as plate:
        frame = plate.read(5)
        rgb = np.full(frame.rgb.shape, 0.123, np.float32)
        attributes = {"colorInteropID": "g24_rec709_display", "pixelAspectRatio": 2.0}
        plates.write(tmp_path / "out.exr", frame, rgb=rgb, where=where, attributes=attributes, form=OWN)
        with pytest.raises(ValueError):
            plates.write(tmp_path / "bad.exr", frame, rgb=rgb[:5], where=where, attributes={}, form=OWN)
    written = exr.read_rgb(tmp_path / "out.exr")
    assert np.array_equal(written[~where], frame.rgb[~where])
    assert (written[where] == np.float32(0.123)).all()
    part = exr.examine(tmp_path / "out.exr")[0]
    assert (part.pixel_type, part.pixel_aspect) == ("float", 2.0)
    assert exr.color_words(part) == ("colorInteropID", "g24_rec709_display")


def test_a_full_disk_is_told_and_leaves_nothing(sequence, tmp_path):
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "out.exr.part").symlink_to("/dev/full")
    with plates.open_plate(sequence) as plate:
        frame = plate.read(1001)
    where = np.ones((24, 40), np.bool_)
    with pytest.raises(DiskFull):
        plates.write(folder / "out.exr", frame, rgb=frame.rgb, where=where, attributes={}, form=OWN)
    assert not list(folder.iterdir())


# --------------------------------------------------------------------------- DPX, TIFF, PNG; other forms

FORMATS = {"dpx10": ".dpx", "tiff16": ".tif", "png16": ".png"}


@pytest.fixture(params=FORMATS)
def scanned(request, tmp_path) -> FramePattern:
    """sc010.0101-0104 of each kind, 24 frames a second, timecode where the kind has it; all frames differ."""
    pattern = FramePattern(tmp_path, "sc010_", 4, FORMATS[request.param])
    for index in range(4):
        rgb = np.random.default_rng(index).random((24, 40, 3)).astype(np.float32)
        attributes = {"timeCode": f"02:00:00:{index:02d}", "framesPerSecond": Fraction(24), "pixelAspectRatio": 2.0}
        rasters.write_rgb(pattern.path(101 + index), rgb, format=request.param, attributes=attributes)
    return pattern


def test_integer_sequences_are_probed_checked_and_read(scanned):
    probe = plates.probe(scanned)
    kind, pixel_type = {
        ".dpx": ("dpx", "uint10"),
        ".tif": ("tiff", "uint16"),
        ".png": ("png", "uint16"),
    }[scanned.suffix]
    assert (probe.kind, probe.pixel_type, probe.pixel_aspect) == (kind, pixel_type, 2.0)
    assert (probe.width, probe.height, probe.frames) == (40, 24, FrameRange(101, 4))
    assert probe.channels == tuple((name, pixel_type) for name in "RGB")
    assert (probe.alpha, probe.data_window, probe.color_tag) == (None, None, None)
    is_dpx = kind == "dpx"
    assert (probe.rate, probe.timecode_start) == ((Fraction(24), 2 * 3600 * 24) if is_dpx else (None, None))
    assert plates.check_frames(scanned, FrameRange(101, 4), size=(40, 24)) == []
    assert plates.frame_bytes(scanned, FrameRange(101, 4)) == 40 * 24 * 3 * 2
    whole = scanned.path(102).read_bytes()
    scanned.path(102).write_bytes(whole[:-40])
    scanned.path(103).unlink()
    missing, cut = plates.check_frames(scanned, FrameRange(101, 4), size=(40, 24))
    assert "1 of 4 frames are not there: 103" in missing.what
    assert "frame 102: is " in cut.what


def test_integer_frames_are_written_in_their_own_class(scanned, tmp_path):
    where = np.zeros((24, 40), np.bool_)
    where[5:10, 5:10] = True
    suffix = OWN.suffix(scanned)
    assert suffix == scanned.suffix
    with plates.open_plate(scanned) as plate:
        frame = plate.read(102)
    rgb = np.full(frame.rgb.shape, 0.5, np.float32)
    out = tmp_path / f"out{suffix}"
    plates.write(out, frame, rgb=rgb, where=where, attributes={"scail2_farm:seed": "7"}, form=OWN)
    written = plates.read_rgb(out)
    assert np.array_equal(written[~where], frame.rgb[~where])
    assert np.abs(written[where] - 0.5).max() < 1 / 1023
    assert plates.probe(out).pixel_type == plates.probe(scanned).pixel_type
    assert frame.covered.all()


def test_integer_frames_are_stood_in_for(scanned, tmp_path):
    scanned.path(103).unlink()
    where = np.zeros((24, 40), np.bool_)
    where[:2] = True
    for how in ("hold", "black"):
        with plates.open_plate(scanned, missing=(103,), stand_in=how) as plate:
            frame, before = plate.read(103), plate.read(102)
        assert frame.stood_in
        assert np.array_equal(frame.rgb, before.rgb if how == "hold" else np.zeros_like(before.rgb))
        out = tmp_path / f"out{scanned.suffix}"
        attributes = {"timeCode": "02:00:00:02", "framesPerSecond": Fraction(24)}
        plates.write(out, frame, rgb=np.ones_like(frame.rgb), where=where, attributes=attributes, form=OWN)
        written = plates.read_rgb(out)
        assert np.array_equal(written[~where], frame.rgb[~where])
        assert (written[where] == 1).all()
        if scanned.suffix == ".dpx":
            assert plates.probe(out).timecode_start == 2 * 3600 * 24 + 2


def test_frames_are_read_by_several_threads(scanned, sequence, movie):
    for source, first, count in ((scanned, 101, 4), (sequence, 1001, 6), (movie, 0, 8)):
        with plates.open_plate(source) as plate, ThreadPoolExecutor(4) as threads:
            numbers = list(range(first, first + count)) * 5
            alone = {n: plate.read(n).rgb for n in set(numbers)}
            for n, frame in zip(numbers, threads.map(plate.read, numbers), strict=True):
                assert np.array_equal(frame.rgb, alone[n])


@pytest.mark.parametrize(
    ("format", "suffix", "pixel_type"),
    [
        ("exr-half", ".exr", "half"),
        ("exr-float", ".exr", "float"),
        ("dpx10", ".dpx", "uint10"),
        ("tiff16", ".tif", "uint16"),
        ("png16", ".png", "uint16"),
    ],
)
def test_a_frame_is_written_in_another_form(sequence, movie, tmp_path, format, suffix, pixel_type):
    form = plates.Form(format=format)
    assert not form.exact
    where = np.zeros((24, 40), np.bool_)
    for source, number in ((sequence, 1002), (movie, 3)):
        assert form.suffix(source) == suffix
        with plates.open_plate(source) as plate:
            frame = plate.read(number)
        rgb = np.random.default_rng(1).random(frame.rgb.shape).astype(np.float32)
        attributes = {"timeCode": "01:00:00:01", "framesPerSecond": Fraction(24), "colorInteropID": "lin_rec709_scene"}
        out = tmp_path / f"out{suffix}"
        plates.write(out, frame, rgb=rgb, where=where, attributes=attributes, form=form)
        probe = plates.probe(out)
        assert probe.pixel_type == pixel_type
        step = {"half": 2**-11, "float": 0, "uint10": 0.5001 / 1023, "uint16": 0.5001 / 65535}[pixel_type]
        assert np.abs(plates.read_rgb(out) - rgb).max() <= step
        if suffix in (".exr", ".dpx"):
            assert (probe.rate, probe.timecode_start) == (Fraction(24), 3600 * 24 + 1)


def test_the_plates_own_form(sequence, movie, tmp_path):
    assert OWN.exact
    assert OWN.suffix(movie) == OWN.suffix(sequence) == ".exr"
    assert OWN.suffix(tmp_path / "one_0001.TIFF") == ".TIFF"
    assert OWN.suffix(FramePattern(tmp_path, "a.", 4, "_left.dpx")) == ".dpx"
    assert not plates.Form(compression="dwaa").exact
    for name in ("zips", "piz", "none"):
        with plates.open_plate(sequence) as plate:
            frame = plate.read(1001)
        where = np.zeros((24, 40), np.bool_)
        form = plates.Form(compression=name)
        plates.write(tmp_path / "out.exr", frame, rgb=frame.rgb, where=where, attributes={}, form=form)
        assert plates.probe(tmp_path / "out.exr").compression == name


def test_real_integer_plates_are_probed(media):
    scan = plates.probe(media / "dpx/dpx_nuke_10bits_rgb.dpx")
    assert (scan.kind, scan.pixel_type, scan.width, scan.height) == ("dpx", "uint10", 512, 512)
    assert (scan.rate, scan.timecode_start, scan.color_tag) == (None, None, None)
    flower = plates.probe(media / "tif/flower-rgb-contig-16.tif")
    assert (flower.kind, flower.pixel_type, flower.width, flower.height) == ("tiff", "uint16", 73, 43)
    assert flower.compression == "none"
    with pytest.raises(PlateUnreadable, match="Cineon"):
        plates.probe(media / "dpx/checker.cin")
