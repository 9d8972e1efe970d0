"""Times as edits write them, and the plate frames they stand for.

Applications write one rate in several ways (23.976, 23.976024627685547, 24000/1001), and an hour of timecode turns
the difference into frames. Always snapping a rate is wrong and never snapping is wrong, so an offset is computed both
ways and the one nearer to a whole frame is believed (the two-candidate rule, editorial.md §2.6). Values stay exact
fractions until a frame is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor, isfinite

from scail2_farm.frames import FrameRange, exact_rate

WHOLE = Fraction(2, 100)  # an offset this near to a whole frame is that frame
NUDGE = Fraction(1, 10_000)  # added before a fraction is floored
LARGEST = 10**15  # values beyond it are no times: a double cannot count frames there
SLOWEST, FASTEST = Fraction(1, 100), Fraction(10**6)


@dataclass(frozen=True, slots=True)
class Time:
    """A count at a rate, both as written; `exact` is the rate that is meant."""

    value: Fraction
    rate: Fraction

    @classmethod
    def read(cls, value: object, rate: object) -> Time:
        """The time of two JSON numbers.

        Raises ValueError for anything that is not a finite count at a usable rate.
        """
        try:
            return _read(value, rate)
        except TypeError:
            raise ValueError(f"{rate!r} is not a frame rate") from None  # a list or an object

    @property
    def exact(self) -> Fraction:
        """The rate that is meant: 23.976 is 24000/1001."""
        return self.rate if self.rate.denominator == 1 else _exact(self.rate)

    @property
    def seconds(self) -> Fraction:
        """The time at the exact rate."""
        return self.value / self.exact

    def later(self, seconds: Fraction) -> Time:
        """The same written rate, `seconds` on."""
        return Time(self.value + seconds * self.exact, self.rate)


@dataclass(frozen=True, slots=True)
class Range:
    """A start and a length, each at its own rate, as an edit writes them."""

    start: Time
    duration: Time

    @property
    def frames(self) -> int:
        """The rounded length in frames of its own rate."""
        return round(self.duration.value)

    @property
    def rate(self) -> Fraction:
        """The exact rate its frames are counted at."""
        return self.duration.exact


def offset(time: Time, origin: Time) -> Fraction:
    """How many frames of `origin`'s rate `time` lies after `origin`, by the two-candidate rule; not rounded."""
    if time.rate == origin.rate == time.exact:
        return time.value - origin.value
    by_seconds = (time.value / time.rate - origin.value / origin.rate) * origin.exact
    if time.exact != origin.exact:
        return by_seconds
    by_count = time.value - origin.value
    return by_count if _from_whole(by_count) < _from_whole(by_seconds) else by_seconds


def frame_of(position: Fraction) -> int:
    """The frame a fractional position falls in: the whole one within 0.02, else the one it has begun."""
    if position.denominator == 1:
        return int(position)
    near = round(position)
    return near if abs(position - near) <= WHOLE else floor(position + NUDGE)


def sampled(first: Fraction, *, count: int, step: Fraction) -> FrameRange:
    """The media frames shown by `count` frames of a clip, from position `first`, each `step` media frames apart.

    With equal rates the step is 1 and exactly `count` frames are used.
    """
    start = frame_of(first)
    if count < 1:
        return FrameRange(start, 0)
    if step == 1:
        return FrameRange(start, count)
    return FrameRange.from_last(start, max(start, frame_of(first + (count - 1) * step)))


def shown(first: Fraction, *, length: Fraction, step: Fraction) -> FrameRange:
    """The media frames that `length` frames of a clip lie on, from position `first`, each `step` media frames long.

    What a retime needs: the frame its start falls in up to the one its end falls in, so that blending between frames
    finds both; every frame that is sampled is among them.
    """
    start = frame_of(first)
    until = ceil(_settled(first + length * step))
    return FrameRange.from_last(start, max(start, until - 1, frame_of(first + (ceil(_settled(length)) - 1) * step)))


def ceiled(frames: Fraction) -> int:
    """Frames rounded up; what is within 0.02 of a whole number is that number."""
    return ceil(_settled(frames))


def _settled(position: Fraction) -> Fraction:
    if position.denominator == 1:
        return position
    near = round(position)
    return Fraction(near) if abs(position - near) <= WHOLE else position


@lru_cache(maxsize=256)
def _exact(rate: Fraction) -> Fraction:
    """exact_rate, once per rate: a long cut asks tens of thousands of times for the same few."""
    return exact_rate(rate)


def _from_whole(position: Fraction) -> Fraction:
    return abs(position - round(position)) if position.denominator > 1 else Fraction(0)


@lru_cache(maxsize=4096, typed=True)
def _read(value: object, rate: object) -> Time:
    """Time.read, once for a time that is read again at once; a cut repeats its lengths, too."""
    return Time(_number(value), _rate(rate))


def _number(written: object) -> Fraction:
    if isinstance(written, bool) or not isinstance(written, int | float):
        raise ValueError(f"{written!r} is not a number")
    if abs(written) > LARGEST or not isfinite(written):
        raise ValueError(f"{written} is not a number of frames")
    return Fraction(int(written)) if written == int(written) else Fraction(str(written))


@lru_cache(maxsize=256, typed=True)
def _rate(written: object) -> Fraction:
    rate = _number(written)
    if not SLOWEST <= rate <= FASTEST:
        raise ValueError(f"{written} is not a frame rate")
    return rate
