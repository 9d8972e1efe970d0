from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scail2_farm.frames import FramePattern, FrameRange, describe_frames, exact_rate, frame_at, timecode

RATES = [Fraction(24), Fraction(25), Fraction(30), Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)]


@pytest.mark.parametrize(
    ("written", "exact"),
    [
        (24, Fraction(24)),
        ("23.976", Fraction(24000, 1001)),
        (23.976024627685547, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        ("24000/1001", Fraction(24000, 1001)),
        (119.88, Fraction(120000, 1001)),
        (48000.0, Fraction(48000)),
        (12.5, Fraction(25, 2)),
    ],
)
def test_rates_are_read_tolerantly(written, exact):
    assert exact_rate(written) == exact


@pytest.mark.parametrize("written", [0, -24, "0"])
def test_no_rate_at_all(written):
    with pytest.raises(ValueError):
        exact_rate(written)


@given(frame=st.integers(0, 24 * 86400 - 1), rate=st.sampled_from(RATES))
def test_timecode_there_and_back(frame, rate):
    assert frame_at(timecode(frame, rate), rate) == frame


@given(frame=st.integers(0, 2_589_407), rate=st.sampled_from([Fraction(30000, 1001), Fraction(60000, 1001)]))
def test_drop_frame_there_and_back(frame, rate):
    assert frame_at(timecode(frame, rate, drop=True), rate) == frame


def test_drop_frame_keeps_the_clock():
    rate = Fraction(30000, 1001)
    assert timecode(1799, rate, drop=True) == "00:00:59;29"
    assert timecode(1800, rate, drop=True) == "00:01:00;02"
    assert timecode(17982, rate, drop=True) == "00:10:00;00"
    assert timecode(107892, rate, drop=True) == "01:00:00;00"


@pytest.mark.parametrize("code", ["01:00:00", "1:00:00:24", "00:61:00:00", "00:01:00;00", "x"])
def test_timecodes_that_do_not_exist(code):
    with pytest.raises(ValueError):
        frame_at(code, Fraction(30000, 1001) if ";" in code else Fraction(24))


@pytest.mark.parametrize(
    ("text", "frame", "name"),
    [
        ("a/sh.####.exr", 1001, "sh.1001.exr"),
        ("a/sh.%04d.exr", 7, "sh.0007.exr"),
        ("a/sh.[1001-1099].exr", 1050, "sh.1050.exr"),
        ("a/sh_<f4>.exr", 3, "sh_0003.exr"),
        ("a/sh.%d.exr", 12, "sh.12.exr"),
        ("a/sh.####.exr", -3, "sh.-0003.exr"),
        ("a/sh.####.exr", 123456, "sh.123456.exr"),
    ],
)
def test_frame_names(text, frame, name):
    pattern = FramePattern.parse(text)
    assert pattern is not None
    assert pattern.path(frame) == Path("a") / name


def test_a_movie_is_no_pattern():
    assert FramePattern.parse("a/sh010_v001.mov") is None


def test_frames_on_disk_in_number_order(tmp_path):
    pattern = FramePattern.parse("f.##.exr", folder=tmp_path)
    assert pattern is not None
    for frame in (9, 10, 100, -1):
        pattern.path(frame).touch()
    (tmp_path / "f.1.exr").touch()
    (tmp_path / "f.09.exr.part").touch()
    assert pattern.on_disk() == [-1, 9, 10, 100]
    assert FramePattern.parse("f.##.exr", folder=tmp_path / "none").on_disk() == []  # pyright: ignore


def test_the_last_number_sign_of_a_name_is_the_frames():
    pattern = FramePattern.parse("/p/sh#1_[2-3].%04d.exr")
    assert pattern is not None
    assert pattern.name(7) == "sh#1_[2-3].0007.exr"
    assert FramePattern.parse(str(pattern)) == pattern


def test_the_same_files_counted_by_another_step():
    every = FramePattern(Path("/show"), "p.", 4, ".exr")
    second = every.counted(step=2, origin=1001)
    assert [second.name(frame) for frame in (1000, 1001, 1003)] == ["p.0999.exr", "p.1001.exr", "p.1005.exr"]
    assert second.counted(step=1, origin=0) == every == every.counted(step=1, origin=0)


def test_a_slow_rate_has_a_timecode():
    assert timecode(61, Fraction(1, 4)) == "00:01:01:00"


@given(a=st.integers(-50, 50), n=st.integers(0, 60), b=st.integers(-50, 50), m=st.integers(0, 60))
def test_ranges_meet_where_sets_meet(a, n, b, m):
    one, two = FrameRange(a, n), FrameRange(b, m)
    assert set(one.intersection(two).numbers) == set(one.numbers) & set(two.numbers)
    assert one.covers(two) == (set(two.numbers) <= set(one.numbers))


def test_frames_as_a_person_writes_them():
    assert describe_frames([1001, 1002, 1003, 1009]) == "1001-1003, 1009"
    assert describe_frames(range(0, 40, 2)) == "0, 2, 4, 6, 8 and 15 more"
