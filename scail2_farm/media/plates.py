"""Plates: probe one, check its frames, open it, read frame n, write a frame in the plate's own class.

Hides what a plate is made of. A plate is an EXR sequence (a FramePattern or one file) or a movie; frames are
numbered as the pattern counts its files, and from 0 in a movie. A movie's frames are delivered as float EXR: half would
not hold what our decode of 12-bit video gives, and the contract is that pixels outside the matte equal that decode.

Frames that the media lacks may be stood in for, when the caller names them: by the frame before, or by black. What
stands in is a frame of the plate's own class, with a header from its neighbour.
"""

from __future__ import annotations

import difflib
import re
from bisect import bisect
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np

from scail2_farm.errors import FarmError, InputError, PlateMissing, PlateUnreadable, Where
from scail2_farm.frames import FramePattern, FrameRange, describe_frames, frame_at
from scail2_farm.media import exr, movies

MOVIE_SUFFIXES = (".mov", ".mp4", ".mxf", ".mkv")


@dataclass(frozen=True, slots=True)
class ColorTag:
    """What a file itself says about its colour: the attribute that says it, and the value."""

    source: Literal["colorInteropID", "acesImageContainerFlag", "chromaticities", "nclc"]
    value: str

    def __str__(self) -> str:
        return f"{self.source} {self.value}"


@dataclass(frozen=True, slots=True)
class PlateProbe:
    """What a plate is, without its pixels."""

    kind: Literal["exr", "movie"]
    source: str
    width: int
    height: int
    pixel_aspect: float
    rate: Fraction | None
    frames: FrameRange
    missing: tuple[int, ...]
    timecode_start: int | None
    drop_frame: bool
    pixel_type: str
    color_tag: ColorTag | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlateFrame:
    """One frame: `rgb` (H, W, 3) float32 over the display window; `native` is an EXR's own bits, None for a movie.

    `stood_in`: the media lacks this frame; pixels and header are made from another.
    """

    number: int
    rgb: np.ndarray
    native: exr.ExrPixels | None
    stood_in: bool = False

    @property
    def covered(self) -> np.ndarray:
        """Where the file has pixels at all, (H, W) bool: a data window may be smaller than the display window."""
        covered = np.ones(self.rgb.shape[:2], np.bool_)
        if self.native is not None:
            covered[:] = False
            covered[self.native.display.overlap(self.native.data)[0]] = True
        return covered


class Plate:
    """An open plate. A context manager; reading frames in order is the fast way.

    `stand_ins` are the frames to be read in place of others, `black` whether only their size and class are wanted.
    """

    def __init__(
        self,
        source: FramePattern | Path,
        movie: movies.MovieReader | None,
        *,
        stand_ins: Mapping[int, int],
        black: bool,
    ):
        self._source = source
        self._movie = movie
        self._stand_ins = stand_ins
        self._black = black

    def read(self, n: int) -> PlateFrame:
        """Frame n as the pattern counts it, from 0 in a movie; what stands in for it when it was said to be missing.

        Raises PlateMissing, PlateUnreadable, StorageError.
        """
        stood_in = n in self._stand_ins
        black = stood_in and self._black
        there = self._stand_ins.get(n, n)
        if self._movie is not None:
            rgb = self._movie.read(there)
            return PlateFrame(n, np.zeros_like(rgb) if black else rgb, None, stood_in)
        pixels = exr.read(_file(self._source, there))
        pixels = exr.blackened(pixels) if black else pixels
        return PlateFrame(n, exr.display_rgb(pixels), pixels, stood_in)

    def close(self) -> None:
        """Close the movie; a sequence holds nothing open."""
        if self._movie is not None:
            self._movie.close()

    def __enter__(self) -> Plate:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()


def open_plate(
    source: Path | FramePattern,
    *,
    missing: Collection[int] = (),
    stand_in: Literal["hold", "black"] | None = None,
) -> Plate:
    """Open a plate for reading frames; with `stand_in`, the frames in `missing` are stood in for.

    `hold` gives the nearest frame before that there is, else the first after; `black` is 0 in every channel.

    Raises PlateMissing, PlateUnreadable, StorageError.
    """
    gone = missing if stand_in else ()
    black = stand_in == "black"
    if not _is_movie(source):
        return Plate(source, None, stand_ins=_stand_ins(source, gone, _on_disk(source) if gone else ()), black=black)
    movie = movies.MovieReader(Path(str(source)))
    return Plate(source, movie, stand_ins=_stand_ins(source, gone, range(movie.count)), black=black)


def nearest(frame: int, there: Sequence[int]) -> int | None:
    """The last of the frames `there`, which are in order, that is not after `frame`, else the first; None of none."""
    return there[max(0, bisect(there, frame) - 1)] if there else None


def _stand_ins(source: Path | FramePattern, missing: Collection[int], there: Iterable[int]) -> dict[int, int]:
    """For each missing frame the one that stands in; raises PlateMissing when there is none at all."""
    gone = frozenset(missing)
    left = [n for n in there if n not in gone] if gone else []
    found = {n: other for n in gone if (other := nearest(n, left)) is not None}
    if len(found) < len(gone):
        raise PlateMissing(f"{Path(str(source)).name} has no frame that could stand in", where=Where(file=str(source)))
    return found


# --------------------------------------------------------------------------- probing


def probe(path: Path | FramePattern, *, frames: FrameRange | None = None, rate: Fraction | None = None) -> PlateProbe:
    """What a plate is: size, rate, frames, timecode, type, and what it says about its colour.

    Of a sequence one file is examined, the first of `frames` that exists (else the first there is); `missing` are
    the frames of `frames` that are not on disk (without `frames`, the holes between the first and the last).
    `rate` is used to read the timecode of frames that do not carry their own rate.

    Raises PlateMissing when there is nothing, PlateUnreadable for what is not a complete picture of a supported
    kind, StorageError.
    """
    if _is_movie(path):
        return _probe_movie(Path(str(path)))
    return _probe_sequence(path, frames, rate)


def _is_movie(source: Path | FramePattern) -> bool:
    """True for a movie, False for EXR; raises for every other name."""
    name = source.name if isinstance(source, Path) else source.suffix
    suffix = Path(f"x{name}").suffix.lower()
    if suffix == ".exr":
        return False
    if isinstance(source, Path) and suffix in MOVIE_SUFFIXES:
        return True
    where = Where(file=str(source))
    if isinstance(source, Path) and source.is_dir():
        raise PlateMissing(
            f"{source.name} is a folder", fix="name a movie, or a sequence as NAME.####.exr", where=where
        )
    what = f"{Path(str(source)).name}: {suffix or 'a name without a suffix'} is not a supported kind of plate"
    fix = f"supply an EXR sequence or a movie ({', '.join(MOVIE_SUFFIXES)})"
    raise PlateUnreadable(what, fix=fix, where=where)


def _file(source: Path | FramePattern, n: int) -> Path:
    """The file of frame n; one plain file is the frame its name ends with (0 when it has no number)."""
    if isinstance(source, FramePattern):
        return source.path(n)
    if n != _own_number(source):
        raise PlateMissing(f"{source.name} is frame {_own_number(source)}, not {n}", where=Where(file=str(source)))
    return source


def _number(source: Path | FramePattern, n: int) -> int:
    """The number in the file name of frame n."""
    return source.number(n) if isinstance(source, FramePattern) else n


def _own_number(path: Path) -> int:
    match = re.search(r"(?:^|[._])(-?\d+)$", path.stem)
    return int(match[1]) if match else 0


def _on_disk(source: Path | FramePattern) -> list[int]:
    if isinstance(source, FramePattern):
        return source.on_disk()
    return [_own_number(source)] if source.is_file() else []


def _probe_sequence(source: Path | FramePattern, frames: FrameRange | None, rate: Fraction | None) -> PlateProbe:
    there = _on_disk(source)
    if not there:
        raise PlateMissing(f"there is no file {Path(str(source)).name}{_near(source)}", where=Where(file=str(source)))
    disk = FrameRange.from_last(there[0], there[-1])
    wanted = frames or disk
    known = set(there)
    looked_at = next((n for n in wanted.numbers if n in known), there[0])
    path = _file(source, looked_at)
    parts = exr.examine(path)
    part = parts[exr.picture_part(parts, path)]
    warnings = [
        f"colour attributes contradict one another: {words}" for words in [exr.color_contradictions(part)] if words
    ]
    own_rate = exr.rate_of(part)
    start, drop = None, False
    if (exact := own_rate or rate) and (code := exr.timecode_of(part, exact)):
        try:
            start, drop = frame_at(code, exact) - (looked_at - disk.first), ";" in code
        except ValueError as error:
            warnings.append(f"its timecode is not used: {error}")
    tag = exr.color_words(part)
    return PlateProbe(
        kind="exr",
        source=str(source),
        width=part.display.width,
        height=part.display.height,
        pixel_aspect=part.pixel_aspect,
        rate=own_rate,
        frames=disk,
        missing=tuple(n for n in wanted.numbers if n not in known),
        timecode_start=start,
        drop_frame=drop,
        pixel_type=part.pixel_type,
        color_tag=None if tag is None else _tag(*tag),
        warnings=tuple(warnings),
    )


def _tag(source: str, value: str) -> ColorTag:
    if source == "colorInteropID":
        return ColorTag("colorInteropID", value)
    if source == "acesImageContainerFlag":
        return ColorTag("acesImageContainerFlag", value)
    return ColorTag("chromaticities", value)


def _near(source: Path | FramePattern) -> str:
    """What stands in the folder instead, as the end of a sentence."""
    folder = source.folder if isinstance(source, FramePattern) else source.parent
    if not folder.is_dir():
        return f": the folder {folder} is not there"
    wanted = source.name(1001) if isinstance(source, FramePattern) else source.name
    near = difflib.get_close_matches(wanted, sorted(entry.name for entry in folder.iterdir()), n=1)
    return f"; the nearest name there is {near[0]}" if near else ""


def _probe_movie(path: Path) -> PlateProbe:
    with movies.MovieReader(path) as movie:
        movie.read(0)
        warnings = list(movie.warnings)
        start, drop = None, False
        if movie.timecode:
            try:
                start, drop = frame_at(movie.timecode, movie.rate), movie.timecode[-3] in ";,"
            except ValueError as error:
                warnings.append(f"its timecode is not used: {error}")
        return PlateProbe(
            kind="movie",
            source=str(path),
            width=movie.width,
            height=movie.height,
            pixel_aspect=movie.pixel_aspect,
            rate=movie.rate,
            frames=FrameRange(0, movie.count),
            missing=(),
            timecode_start=start,
            drop_frame=drop,
            pixel_type=f"uint{movie.bits}",
            color_tag=ColorTag("nclc", movie.nclc) if movie.nclc else None,
            warnings=tuple(warnings),
        )


def check_frames(
    path_or_pattern: Path | FramePattern, frames: FrameRange, *, size: tuple[int, int], missing: Collection[int] = ()
) -> list[FarmError]:
    """Every fault of the frames a shot needs: absent, incomplete, or not of `size` (width, height).

    In place of the frames in `missing`, those that stand in for them are needed. One fault per kind with the numbers
    it concerns, never one per frame. Nothing is decoded except in a movie, of which the first and the last frame are.
    """
    where = Where(file=str(path_or_pattern))
    try:
        if _is_movie(path_or_pattern):
            return _check_movie(Path(str(path_or_pattern)), frames, size, missing)
        there = _on_disk(path_or_pattern)
        needed = _needed(path_or_pattern, frames, missing, there)
    except FarmError as fault:
        return [fault]
    known = set(there)
    absent = [n for n in needed if n not in known]
    unreadable: dict[str, list[int]] = {}
    other_size: dict[tuple[int, int], list[int]] = {}
    faults: list[FarmError] = []
    for n in (n for n in needed if n in known):
        path = _file(path_or_pattern, n)
        try:
            parts = exr.examine(path)
            part = parts[exr.picture_part(parts, path)]
        except InputError as fault:
            unreadable.setdefault(fault.what.removeprefix(path.name).strip(), []).append(n)
            continue
        except FarmError as fault:
            faults.append(fault)
            continue
        if (part.display.width, part.display.height) != size:
            other_size.setdefault((part.display.width, part.display.height), []).append(n)
    name = Path(str(path_or_pattern)).name

    def said(numbers: Sequence[int]) -> str:
        listed = describe_frames(_number(path_or_pattern, n) for n in numbers)
        return f"{'frame' if len(numbers) == 1 else 'frames'} {listed}"

    if absent:
        numbers = describe_frames(_number(path_or_pattern, n) for n in absent)
        what = f"{name}: {len(absent)} of {frames.count} frames are not there: {numbers}"
        faults.append(PlateMissing(what, where=where))
    for reason, numbers in unreadable.items():
        faults.append(PlateUnreadable(f"{name}: {said(numbers)}: {reason}", where=where))
    for (width, height), numbers in other_size.items():
        what = f"{name}: {said(numbers)}: {width}x{height}, the plate is {size[0]}x{size[1]}"
        faults.append(PlateUnreadable(what, fix="write all frames of the plate in one size", where=where))
    return faults


def frame_bytes(
    path_or_pattern: Path | FramePattern, frames: FrameRange, *, missing: Collection[int] = ()
) -> int | None:
    """What the largest of these frames takes uncompressed in the plate's own class; None for a movie.

    In place of the frames in `missing`, those that stand in for them are looked at. Raises PlateMissing,
    PlateUnreadable, StorageError.
    """
    if _is_movie(path_or_pattern):
        return None
    needed = _needed(path_or_pattern, frames, missing, _on_disk(path_or_pattern) if missing else ())
    sizes = (sum(part.bytes_unpacked for part in exr.examine(_file(path_or_pattern, n))) for n in needed)
    return max(sizes, default=0)


def _needed(
    source: Path | FramePattern, frames: FrameRange, missing: Collection[int], there: Iterable[int]
) -> list[int]:
    """The frames that are read for `frames`, in order: themselves, or what stands in."""
    stand_ins = _stand_ins(source, missing, there)
    return sorted({stand_ins.get(n, n) for n in frames.numbers})


def _check_movie(path: Path, frames: FrameRange, size: tuple[int, int], missing: Collection[int]) -> list[FarmError]:
    where = Where(file=str(path))
    with movies.MovieReader(path) as movie:
        if (movie.width, movie.height) != size:
            what = f"{path.name} is {movie.width}x{movie.height}, the plate is {size[0]}x{size[1]}"
            return [PlateUnreadable(what, fix="submit again with the movie as it is now", where=where)]
        needed = _needed(path, frames, missing, range(movie.count))
        beyond = [n for n in needed if not 0 <= n < movie.count]
        if beyond:
            what = f"{path.name} has {movie.count} frames; {describe_frames(beyond)} are not there (counted from 0)"
            return [PlateMissing(what, where=where)]
        for n in {needed[0], needed[-1]} if needed else set[int]():
            movie.read(n)
    return []


# --------------------------------------------------------------------------- writing


def write_exr(
    path: Path, frame: PlateFrame, *, rgb: np.ndarray, where: np.ndarray, attributes: Mapping[str, object]
) -> None:
    """Write a frame in the plate's own class, with R, G and B replaced by `rgb` where `where` is true.

    `rgb` (H, W, 3) float32 and `where` (H, W) bool cover the display window. Everything else of an EXR plate (other
    pixels, channels, parts, attributes) is written as it was read, bit for bit; lossy compression becomes ZIP. Of a
    frame that was stood in for, the time is that of `attributes` alone: its header is another frame's. A movie's frame
    becomes a float EXR whose other pixels equal our decode. Attributes: timeCode as 'HH:MM:SS:FF' (`;`
    before FF when drop-frame), framesPerSecond as Fraction, colorInteropID and our own as str, pixelAspectRatio
    as float (for a movie; an EXR keeps its own).

    Raises StorageError; the file appears whole or not at all.
    """
    if frame.native is not None:
        not_its_own = exr.TIMES if frame.stood_in else ()
        exr.write_back(path, frame.native, rgb=rgb, where=where, attributes=attributes, without=not_its_own)
        return
    if rgb.shape != frame.rgb.shape or where.shape != rgb.shape[:2] or where.dtype != np.bool_:
        raise ValueError(f"rgb {rgb.shape} and where {where.shape} {where.dtype} do not fit {frame.rgb.shape}")
    merged = frame.rgb.copy()
    merged[where] = rgb[where]
    exr.write_rgb(path, merged, attributes=attributes)
