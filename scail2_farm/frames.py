"""Frames, rates and names of frames: integers and exact fractions, never float seconds.

Ranges are (first, count); an end is never stored. Rates are Fractions: 23.976 read from a file *is*
24000/1001. A FramePattern is one numbered image sequence on disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from scail2_farm.errors import storage_error

SNAP = 0.006  # how far a written rate may lie from an exact one (editorial.md §2.6)


@dataclass(frozen=True, slots=True, order=True)
class FrameRange:
    """`count` consecutive frames from `first`; count >= 0."""

    first: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"a range cannot hold {self.count} frames")

    @classmethod
    def from_last(cls, first: int, last: int) -> FrameRange:
        """The range first..last, both included."""
        return cls(first, last - first + 1)

    @property
    def last(self) -> int:
        """The last frame number; first - 1 for an empty range."""
        return self.first + self.count - 1

    @property
    def numbers(self) -> range:
        """Every frame number in order."""
        return range(self.first, self.first + self.count)

    def __contains__(self, frame: object) -> bool:
        return isinstance(frame, int) and self.first <= frame <= self.last

    def grown(self, head: int, tail: int) -> FrameRange:
        """The range with `head` frames more before and `tail` more after."""
        if not (head or tail):
            return self
        return FrameRange(self.first - head, self.count + head + tail)

    def moved(self, by: int) -> FrameRange:
        """As many frames, that many later."""
        return FrameRange(self.first + by, self.count)

    def intersection(self, other: FrameRange) -> FrameRange:
        """The frames in both; an empty range at the later start when there are none."""
        first = max(self.first, other.first)
        return FrameRange(first, max(0, min(self.last, other.last) - first + 1))

    def covers(self, other: FrameRange) -> bool:
        """Whether every frame of `other` is in this range."""
        return other.count == 0 or (self.first <= other.first and other.last <= self.last)

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" if self.count != 1 else str(self.first)


def describe_frames(frames: Iterable[int], *, most: int = 5) -> str:
    """Frame numbers as a person writes them: '1001-1004, 1009 and 3 more'."""
    runs: list[list[int]] = []
    for frame in sorted(frames):
        if runs and frame == runs[-1][1] + 1:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    shown = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs[:most])
    left = sum(b - a + 1 for a, b in runs[most:])
    return f"{shown} and {left} more" if left else shown


@lru_cache(typed=True)
def exact_rate(written: str | float | int | Fraction) -> Fraction:
    """The exact rate behind a written one: an integer or n*1000/1001 within 0.006, else the number itself.

    Raises ValueError for anything that is not a positive finite number.
    """
    rate = Fraction(str(written)) if isinstance(written, str | float) else Fraction(written)
    if rate <= 0:
        raise ValueError(f"{written} is not a frame rate")
    whole = Fraction(round(rate))
    pulled = Fraction(round(rate * 1001 / 1000) * 1000, 1001)
    near = min((whole, pulled), key=lambda candidate: abs(candidate - rate))
    return near if near > 0 and abs(near - rate) <= Fraction(SNAP) else rate.limit_denominator(100_000)


def timecode(frame: int, rate: Fraction, *, drop: bool = False) -> str:
    """Frame count since midnight as HH:MM:SS:FF (`;` before FF when drop-frame); wraps at 24 hours.

    Raises ValueError when drop-frame is asked for a rate other than 29.97 or 59.94.
    """
    fps = max(1, round(rate))
    if drop:
        dropped = 2 * fps // 30
        if rate.denominator != 1001 or fps % 30:
            raise ValueError(f"drop-frame timecode does not exist at {rate}")
        per_minute = fps * 60 - dropped
        per_ten = per_minute * 10 + dropped
        frame %= per_ten * 144
        tens, rest = divmod(frame, per_ten)
        frame += dropped * 9 * tens + (dropped * ((rest - dropped) // per_minute) if rest > dropped else 0)
    seconds, ff = divmod(frame % (fps * 86400), fps)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{';' if drop else ':'}{ff:02d}"


def frame_at(code: str, rate: Fraction) -> int:
    """The frame count since midnight of a timecode; `;` or `,` before the frames means drop-frame.

    Raises ValueError for a malformed timecode or one that does not exist at this rate.
    """
    match = re.fullmatch(r"(\d{1,2}):(\d{2}):(\d{2})([:;.,])(\d{2,3})", code.strip())
    if not match:
        raise ValueError(f"{code!r} is not a timecode HH:MM:SS:FF")
    hours, minutes, seconds, ff = (int(match[group]) for group in (1, 2, 3, 5))
    fps = round(rate)
    if minutes > 59 or seconds > 59 or ff >= fps:
        raise ValueError(f"timecode {code} does not exist at {float(rate):g} frames a second")
    frame = ((hours * 60 + minutes) * 60 + seconds) * fps + ff
    if match[4] in ";,":
        dropped = 2 * fps // 30
        if rate.denominator != 1001 or fps % 30 or (minutes % 10 and not seconds and ff < dropped):
            raise ValueError(f"drop-frame timecode {code} does not exist at {float(rate):g} frames a second")
        total = hours * 60 + minutes
        frame -= dropped * (total - total // 10)
    return frame


@dataclass(frozen=True, slots=True)
class FramePattern:
    """A numbered image sequence: folder / prefix + zero-padded number + suffix.

    Frames are counted one by one. Of a sequence whose numbers are `step` apart, frame `origin` is the file of that
    number, the next frame the file `step` numbers on.
    """

    folder: Path
    prefix: str
    padding: int
    suffix: str
    step: int = 1
    origin: int = 0

    @classmethod
    def parse(cls, text: str, *, folder: Path | None = None) -> FramePattern | None:
        """Read `name.####.exr`, `name.%04d.exr`, `name.[1001-1099].exr` or `name.<f4>.exr`; None for any other name.

        A relative path is taken beside `folder` when it is given.
        """
        return _pattern(text if folder is None else str(folder / text))

    def counted(self, *, step: int, origin: int) -> FramePattern:
        """The same files, their frames counted by this step from this origin."""
        same = step == self.step and origin == self.origin
        return self if same else replace(self, step=step, origin=origin)

    def number(self, frame: int) -> int:
        """The number in the file name of one frame."""
        return self.origin + (frame - self.origin) * self.step

    def name(self, frame: int) -> str:
        """The file name of one frame; a minus sign stands before the padding."""
        number = self.number(frame)
        return f"{self.prefix}{'-' if number < 0 else ''}{abs(number):0{self.padding}d}{self.suffix}"

    def path(self, frame: int) -> Path:
        """The file of one frame."""
        return self.folder / self.name(frame)

    def on_disk(self) -> list[int]:
        """The frames that exist, in order; empty when the folder is absent.

        Raises StorageError.
        """
        number = re.compile(re.escape(self.prefix) + r"(-?\d+)" + re.escape(self.suffix))
        try:
            with os.scandir(self.folder) as entries:
                names = [entry.name for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise storage_error(error, self.folder) from error
        counted = ((name, int(match[1]) - self.origin) for name in names if (match := number.fullmatch(name)))
        frames = ((name, self.origin + past // self.step) for name, past in counted if past % self.step == 0)
        return sorted(frame for name, frame in frames if name == self.name(frame))

    @property
    def name_with_hashes(self) -> str:
        """The name as people write it, the number as ####."""
        return f"{self.prefix}{'#' * self.padding}{self.suffix}"

    def __str__(self) -> str:
        return str(self.folder / self.name_with_hashes)


def paddings(numbers: Iterable[str]) -> list[int]:
    """The widths that numbers in file names are padded to: those of ones with zeros before them, else the shortest."""
    written = list(numbers)
    padded = sorted({len(number) for number in written if number.startswith("0") and len(number) > 1})
    return padded or [min(map(len, written))]


@lru_cache(maxsize=4096)
def _pattern(text: str) -> FramePattern | None:
    """FramePattern.parse, once for a text that a long cut has in every clip."""
    path = Path(text)
    matches = list(re.finditer(r"#+|%0?(\d*)d|\[(-?\d+)-(-?\d+)\]|<f(\d+)>", path.name))
    if not matches:
        return None
    match = matches[-1]  # a shot's name before the number may hold a # or brackets of its own
    token = match[0]
    if token.startswith("#"):
        padding = len(token)
    elif token.startswith("%"):
        padding = int(match[1] or 1)
    elif token.startswith("["):
        padding = len(match[2].lstrip("-"))
    else:
        padding = int(match[4])
    return FramePattern(path.parent, path.name[: match.start()], max(1, padding), path.name[match.end() :])
