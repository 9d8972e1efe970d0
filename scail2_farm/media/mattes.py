"""Mattes: where one character is, frame by frame; and the identity map and comp matte made from them.

White is the character. A PNG of 8 or 16 bits gives its gray, or the Rec.709 luma of its R, G and B; alpha is never
read, because an opaque alpha around a matte is far more common than a matte in it. An EXR gives the first it has of
Y, its one channel, the luma of R, G and B, A. Values beyond 0..1 (filters ring) are clamped; NaN or Inf is a fault.
Code values are coverage: nothing is linearised.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Literal

import numpy as np

from scail2_farm.errors import FarmError, InputError, MatteMismatch, Where, storage_error
from scail2_farm.frames import FramePattern, FrameRange, describe_frames
from scail2_farm.media import exr, stills
from scail2_farm.media.broken import Broken
from scail2_farm.media.plates import nearest

Box = tuple[int, int, int, int]
"""A rectangle of pixels: left, top, width, height."""

SLOT_NUMBERS: Mapping[str, int] = {"blue": 1, "red": 2, "green": 3, "magenta": 4, "cyan": 5, "yellow": 6}
"""The number an identity map holds for each slot; 0 is background."""

THRESHOLD = 0.5
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def matte_size(path: Path) -> tuple[int, int]:
    """Width and height of one complete matte file; no pixel is decoded.

    Raises MatteMismatch when it is absent, cut short, damaged or of another kind; StorageError.
    """
    if path.suffix.lower() == ".exr":
        part = _examined(path)
        _read_from(path, [channel.name for channel in part.channels if channel.sampling == (1, 1)])
        return part.display.width, part.display.height
    if path.suffix.lower() != ".png":
        raise _mismatch(path, "is not a PNG or an EXR")
    try:
        with path.open("rb") as file:
            head = file.read(24)
            file.seek(0, 2)
            file.seek(max(0, file.tell() - len(PNG_END)))
            tail = file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise _mismatch(path, "is not there") from None
    except IsADirectoryError:
        raise _mismatch(path, "is a folder") from None
    except OSError as error:
        raise storage_error(error, path) from error
    if len(head) < 24 or not head.startswith(PNG_SIGNATURE) or head[12:16] != b"IHDR":
        raise _mismatch(path, "is not a PNG")
    if tail != PNG_END:
        raise _mismatch(path, "is cut short")
    width, height = struct.unpack(">II", head[16:24])
    return int(width), int(height)


def read_matte(path: Path) -> np.ndarray:
    """One matte, (H, W) float32 in 0..1.

    Raises MatteMismatch when it is absent, damaged, of another kind or not finite; StorageError.
    """
    if path.suffix.lower() == ".exr":
        matte = _read_exr(path)
    elif path.suffix.lower() == ".png":
        try:
            pixels, names = stills.read_raster(path)
        except Broken as fault:
            raise _mismatch(path, str(fault)) from None
        matte = stills.whiteness(pixels, names)
    else:
        raise _mismatch(path, "is not a PNG or an EXR")
    if not np.isfinite(matte).all():
        raise _mismatch(path, "holds values that are not numbers")
    return np.clip(matte, 0.0, 1.0, out=matte)


def _examined(path: Path) -> exr.PartHeader:
    try:
        return exr.examine(path)[0]
    except InputError as fault:
        raise _mismatch(path, fault.what.removeprefix(path.name).strip()) from None


def _read_exr(path: Path) -> np.ndarray:
    try:
        data, display, channels = exr.read_channels(path)
    except InputError as fault:
        raise _mismatch(path, fault.what.removeprefix(path.name).strip()) from None
    names = _read_from(path, list(channels))
    value = channels[names[0]]
    if not all(np.array_equal(value, channels[name]) for name in names[1:]):
        value = stills.whiteness(np.stack([channels[name] for name in names], axis=-1), names)
    matte = np.zeros((display.height, display.width), np.float32)
    shown, stored = display.overlap(data)
    matte[shown] = value[stored]
    return matte


def _read_from(path: Path, channels: Sequence[str]) -> tuple[str, ...]:
    """The channels of an EXR a matte is read from: one, or R, G and B."""
    if not channels:
        raise _mismatch(path, "has no channel of full size")
    if "Y" in channels or len(channels) == 1:
        return ("Y",) if "Y" in channels else (channels[0],)
    if {"R", "G", "B"} <= set(channels):
        return ("R", "G", "B")
    if "A" in channels:
        return ("A",)
    listed = ", ".join(sorted(channels)[:8])
    raise _mismatch(path, f"has none of Y, R G B or A, and more than one channel ({listed})")


def _mismatch(path: Path, what: str) -> MatteMismatch:
    return MatteMismatch(f"the matte {path.name} {what}", where=Where(file=str(path)))


def check_matte(
    pattern: FramePattern, frames: FrameRange, *, size: tuple[int, int], missing: Collection[int] = ()
) -> list[FarmError]:
    """Every fault of a matte sequence over `frames` (its own, counted from it): missing, damaged, or not of `size`.

    Frames in `missing` may be absent: the plate lacks them, and something stands in. One fault per kind with the
    numbers it concerns; a folder that cannot be listed is the only one.
    """
    where = Where(file=str(pattern))
    try:
        known, lacking = set(pattern.on_disk()), frozenset(missing)
    except FarmError as fault:
        return [fault]
    wanted = [n for n in frames.numbers if n in known or n not in lacking]
    absent = [n for n in wanted if n not in known]
    damaged: dict[str, list[int]] = {}
    other: dict[tuple[int, int], list[int]] = {}
    faults: list[FarmError] = []
    for n in (n for n in wanted if n in known):
        path = pattern.path(n)
        try:
            found = matte_size(path)
        except MatteMismatch as fault:
            damaged.setdefault(fault.what.removeprefix(f"the matte {path.name}").strip(), []).append(n)
            continue
        except FarmError as fault:
            faults.append(fault)
            continue
        if found != size:
            other.setdefault(found, []).append(n)

    def said(numbers: Sequence[int]) -> str:
        return describe_frames(pattern.number(n) for n in numbers)

    name = pattern.name_with_hashes
    if absent:
        what = f"the matte {name} has {len(wanted) - len(absent)} of {len(wanted)} frames; not there: {said(absent)}"
        faults.append(MatteMismatch(what, fix=f"export {name} for frames {said(wanted)}", where=where))
    for reason, numbers in damaged.items():
        what = f"the matte {name} at {said(numbers)} {reason}"
        faults.append(MatteMismatch(what, fix=f"export frames {said(numbers)} again", where=where))
    for (width, height), numbers in other.items():
        what = f"the matte {name} at {said(numbers)} is {width}x{height}, the plate {size[0]}x{size[1]}"
        faults.append(MatteMismatch(what, fix=f"export it at {size[0]}x{size[1]}", where=where))
    return faults


def stand_ins(
    pattern: FramePattern, missing: Collection[int], stand_in: Literal["hold", "black"] | None
) -> dict[int, int | None]:
    """What is read in place of the frames in `missing`, which the plate lacks, that have no matte either.

    The frame that stands in (`hold`), or None: nobody is there. Every other frame of a matte is itself. Raises
    StorageError.
    """
    if not missing:
        return {}
    there, lacking = pattern.on_disk(), frozenset(missing)
    held = [n for n in there if n not in lacking] if stand_in == "hold" else []
    return {n: nearest(n, held) for n in lacking.difference(there)}


# --------------------------------------------------------------------------- where somebody is


def box(matte: np.ndarray) -> Box | None:
    """The smallest rectangle around the white (>= 0.5) of a matte (H, W); None when there is none."""
    return _around(matte >= THRESHOLD)


def reach(matte: np.ndarray) -> Box | None:
    """The smallest rectangle around all of a matte (H, W) that is not 0; None when there is nothing."""
    return _around(matte > 0.0)


def _around(white: np.ndarray) -> Box | None:
    rows = np.flatnonzero(white.any(axis=1))
    if not rows.size:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(white[top:bottom].any(axis=0))
    left = int(columns[0])
    return left, top, int(columns[-1]) - left + 1, bottom - top


class Presence:
    """Where one character is, frame by frame of the mattes; each file is read when it is first asked about, and once.

    Some frames are others, or nobody (`stand_ins`). Asking raises MatteMismatch, StorageError.
    """

    def __init__(self, pattern: FramePattern, stand_ins: Mapping[int, int | None] | None = None):
        self._pattern = pattern
        self._stand_ins = stand_ins or {}
        self._boxes: dict[int, Box | None] = {}

    def box(self, frame: int) -> Box | None:
        """The box of the white at one frame, None when there is none."""
        shown = self._stand_ins.get(frame, frame)
        if shown is not None and shown not in self._boxes:
            self._boxes[shown] = box(read_matte(self._pattern.path(shown)))
        return None if shown is None else self._boxes[shown]

    def first_seen(self, frames: FrameRange) -> tuple[int, Box] | None:
        """The first of `frames` with white in it, and where; None when there is none. Reads no further than that."""
        found = ((n, box) for n in frames.numbers if (box := self.box(n)) is not None)
        return next(found, None)

    def anyone(self, frames: FrameRange) -> bool:
        """Whether there is white anywhere in `frames`; reads no further than the first, and nothing if it is known."""
        known = any(self._boxes.get(n) is not None for n in frames.numbers)
        return known or self.first_seen(frames) is not None


# --------------------------------------------------------------------------- several mattes, one frame


def identity_map(mattes: Sequence[np.ndarray], slots: Sequence[int]) -> np.ndarray:
    """Who is where, (H, W) uint8: 0 is background, else the slot number (SLOT_NUMBERS) of the matte that is >= 0.5.

    Where mattes overlap the later one wins.
    """
    if len(mattes) != len(slots) or not mattes:
        raise ValueError(f"{len(mattes)} mattes for {len(slots)} slots")
    labels = np.zeros(mattes[0].shape, np.uint8)
    for matte, slot in zip(mattes, slots, strict=True):
        if slot not in SLOT_NUMBERS.values():
            raise ValueError(f"there is no slot {slot}")
        labels[matte >= THRESHOLD] = slot
    return labels


def comp_matte(mattes: Sequence[np.ndarray]) -> np.ndarray:
    """The union of the mattes, (H, W) float32: at each pixel the greatest."""
    return reduce(np.maximum, (matte.astype(np.float32, copy=False) for matte in mattes))
