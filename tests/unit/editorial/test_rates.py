"""The two-candidate rule on the numbers real applications wrote, and the frames a clip shows."""

from fractions import Fraction

import pytest

from scail2_farm.editorial.rates import Time, ceiled, frame_of, offset, sampled, shown
from scail2_farm.frames import FrameRange


def at(value: float, rate: float) -> Time:
    return Time.read(value, rate)


@pytest.mark.parametrize(
    ("time", "origin", "frames"),
    [
        (at(1937905.9906, 23.976024627), at(1937896, 23.976), 8),  # Hiero: by seconds, with the rates as written
        (at(86400, 23.976), at(86400, 24000 / 1001), 0),  # one hour: by count
        (at(1937896, 24000 / 1001), at(1937896, 23.976), 0),  # 22 hours: by count
        (at(86412, 24), at(86400, 24), 12),
        (at(883159, 23.976), at(883750, 24), 293),  # AYON: 24 fps timecode in a 23.976 timeline, file 884043
        (at(90032, 25), at(86400, 24), 30),  # AYON: a 24 fps movie with timecode in a 25 fps timeline
        (at(86313.93631368632, 24000 / 1001), at(86400, 24), 0),
        (at(10.4999, 24), at(0, 24), 10),
        (at(19.99999, 24), at(0, 24), 20),
        (at(-5, 24), at(0, 24), -5),
    ],
)
def test_an_offset_is_the_candidate_nearer_to_a_whole_frame(time: Time, origin: Time, frames: int):
    assert frame_of(offset(time, origin)) == frames


def test_one_frame_each_at_equal_rates_whatever_the_fraction():
    assert sampled(Fraction(104999, 10000), count=20, step=Fraction(1)) == FrameRange(10, 20)


@pytest.mark.parametrize(
    ("first", "count", "step", "last"),
    [
        (Fraction(0), 24, Fraction(2), 46),  # 48 in 24: frames really sampled
        (Fraction(0), 104, Fraction(24, 25), 98),  # AYON legacy_img_sequence: 104 frames at 25 show 1000-1098 at 24
        (Fraction(4, 100), 108, Fraction(1001, 1000), 107),  # AYON img_seq_24_to_23.976: 108 frames
        (Fraction(10), 24, Fraction(1, 2), 21),
    ],
)
def test_other_rates_show_the_frames_sampled(first: Fraction, count: int, step: Fraction, last: int):
    start = frame_of(first)
    assert sampled(first, count=count, step=step) == FrameRange.from_last(start, last)


@pytest.mark.parametrize(
    ("first", "length", "step", "last"),
    [
        (Fraction(10), Fraction(20), Fraction(1), 29),
        (Fraction(10), Fraction(17, 2), Fraction(1), 18),  # 18.5
        (Fraction(10), Fraction(20), Fraction(1001, 1000), 29),  # 30.02 is 30
        (Fraction(21, 2), Fraction(1), Fraction(1), 11),  # 10.5 .. 11.5
        (Fraction(0), Fraction(101), Fraction(1, 100), 1),  # 1.01: the last one sampled is 1
        (Fraction(10), Fraction(0), Fraction(1), 10),
    ],
)
def test_what_a_retime_shows_reaches_to_the_frame_its_end_falls_in(
    first: Fraction, length: Fraction, step: Fraction, last: int
):
    assert shown(first, length=length, step=step) == FrameRange.from_last(frame_of(first), last)


@pytest.mark.parametrize(("frames", "whole"), [("4.019", 4), ("4.03", 5), ("3.99", 4), ("-0.5", 0), ("8", 8)])
def test_frames_rounded_up(frames: str, whole: int):
    assert ceiled(Fraction(frames)) == whole


@pytest.mark.parametrize(
    ("value", "rate"),
    [
        (float("nan"), 24.0),
        (float("inf"), 24.0),
        (1.0, 0.0),
        (1.0, -24.0),
        (1.0, 1e-9),
        (1.0, float("nan")),
        ("1", 24.0),
        (True, 24.0),
        (1.0, None),
        (1e300, 24.0),
        (10**400, 24.0),
        (1.0, 10**400),
        (1.0, [24.0]),
    ],
)
def test_what_is_no_time_is_refused(value: object, rate: object):
    with pytest.raises(ValueError):
        Time.read(value, rate)


def test_later_keeps_the_written_rate():
    moved = at(10, 23.976).later(Fraction(1001, 24000))
    assert (moved.value, moved.rate) == (11, Fraction("23.976"))
