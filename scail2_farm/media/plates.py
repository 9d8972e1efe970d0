"""Plates: probe one, check its frames, open it, read frame n, write a frame in the plate's own class.

Hides what a plate is made of. A plate is a sequence of EXR, DPX, TIFF or PNG (a FramePattern or one file) or a movie;
frames are numbered as the pattern counts its files, and from 0 in a movie. A movie's frames are delivered as float
EXR: half would not hold what our decode of 12-bit video gives, and the contract is that pixels outside the matte equal
that decode. Frames may be read by several threads at once.

Frames that the media lacks may be stood in for, when the caller names them: by the frame before, or by black. What
stands in is a frame of the plate's own class, with a header from its neighbour.
"""

from __future__ import annotations

import difflib
import re
from bisect import bisect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, get_args

import numpy as np

from scail2_farm.documents import Compression, FrameFormat, PlateKind
from scail2_farm.errors import FarmError, InputError, PlateMissing, PlateUnreadable, Where
from scail2_farm.frames import FramePattern, FrameRange, describe_frames, frame_at
from scail2_farm.media import exr, movies, rasters

SUFFIXES: dict[str, PlateKind] = {
    ".exr": "exr",
    ".dpx": "dpx",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".png": "png",
    **dict.fromkeys(movies.SUFFIXES, "movie"),
}
SUPPLY = f"supply EXR, DPX, TIFF or PNG, or a movie ({', '.join(movies.SUFFIXES)})"
REFUSED = {  # kinds that people do bring, and what to bring instead
    ".cin": ("a Cineon file", "write it as DPX of 10 bits: the codes stay the same"),
    ".jpg": ("a JPEG", "supply the picture it was made from, as EXR, DPX, TIFF or PNG"),
    ".jpeg": ("a JPEG", "supply the picture it was made from, as EXR, DPX, TIFF or PNG"),
    **dict.fromkeys((".ari", ".arx", ".braw", ".cine", ".crm", ".dng", ".nev", ".r3d"), ("camera raw",
        "develop it to EXR or DPX in the camera's own log space")),
}  # fmt: skip


ColorSource = Literal[
    "colorInteropID", "acesImageContainerFlag", "chromaticities", "nclc", "cICP", "iCCP", "sRGB", "gAMA", "dpx"
]


@dataclass(frozen=True, slots=True)
class ColorTag:
    """What a file itself says about its colour: the attribute that says it, and the value.

    Of "dpx" the value is the header's word for the transfer (`Logarithmic`, `ITU-R 709-4`), of "iCCP" what an ICC
    profile calls itself, whichever kind of file it is in.
    """

    source: ColorSource
    value: str

    def __str__(self) -> str:
        return f"{self.source} {self.value}"


@dataclass(frozen=True, slots=True)
class PlateProbe:
    """What a plate is, without its pixels.

    `data_window` is (left, top, width, height) from the corner of the display window, None when it is the same.
    `channels` are (name, type), a channel of another part as PART:NAME. `pixel_type` is that of the picture: half,
    float, mixed or uintN. `compression`, `codec` and `audio`, a line a stream, are as people call them.
    """

    kind: PlateKind
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
    data_window: tuple[int, int, int, int] | None = None
    channels: tuple[tuple[str, str], ...] = ()
    alpha: Literal["unassociated", "associated"] | None = None
    compression: str | None = None
    codec: str | None = None
    audio: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlateFrame:
    """One frame: `rgb` (H, W, 3) half or float32 over the display window, in the plate's own encoding.

    Integers are code / largest code. `native` is the file's own bits, None for a movie. `stood_in`: the media lacks
    this frame; pixels and header are made from another.
    """

    number: int
    rgb: np.ndarray
    native: exr.ExrPixels | rasters.RasterPixels | None
    stood_in: bool = False

    @property
    def covered(self) -> np.ndarray:
        """Where the file has pixels at all, (H, W) bool: a data window may be smaller than the display window."""
        covered = np.ones(self.rgb.shape[:2], np.bool_)
        if isinstance(self.native, exr.ExrPixels):
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
            frame = PlateFrame(n, self._movie.read(there), None)
        else:
            frame = read_frame(_file(self._source, there), number=n)
        return replace(_blackened(frame) if black else frame, stood_in=stood_in)

    def close(self) -> None:
        """Close the movie; a sequence holds nothing open."""
        if self._movie is not None:
            self._movie.close()

    def __enter__(self) -> Plate:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()


def read_frame(path: Path, *, number: int = 0) -> PlateFrame:
    """The frame in one still file, of a plate or delivered.

    Raises PlateMissing, PlateUnreadable, StorageError.
    """
    if kind_of(path) == "exr":
        pixels = exr.read(path)
        return PlateFrame(number, exr.display_rgb(pixels), pixels)
    codes = rasters.read(path)
    return PlateFrame(number, rasters.display_rgb(codes), codes)


def _blackened(frame: PlateFrame) -> PlateFrame:
    """The frame with 0 in every pixel of every channel of its file."""
    native = frame.native
    native = exr.blackened(native) if isinstance(native, exr.ExrPixels) else native
    native = rasters.blackened(native) if isinstance(native, rasters.RasterPixels) else native
    return replace(frame, rgb=np.zeros_like(frame.rgb), native=native)


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
    if kind_of(source) != "movie":
        stand_ins = _stand_ins(source, gone, _on_disk(source) if gone else ())
        return Plate(source, None, stand_ins=stand_ins, black=black)
    movie = movies.MovieReader(Path(str(source)))
    try:
        stand_ins = _stand_ins(source, gone, range(movie.count))
    except FarmError:
        movie.close()
        raise
    return Plate(source, movie, stand_ins=stand_ins, black=black)


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
    kind = kind_of(path)
    if kind == "movie":
        return _probe_movie(Path(str(path)))
    there = _on_disk(path)
    if not there:
        raise PlateMissing(f"there is no file {Path(str(path)).name}{_near(path)}", where=Where(file=str(path)))
    disk = FrameRange.from_last(there[0], there[-1])
    wanted, known = frames or disk, set(there)
    looked_at = next((n for n in wanted.numbers if n in known), there[0])
    file = _file(path, looked_at)
    found = _probe_exr(file, rate) if kind == "exr" else _probe_raster(file, rate)
    start = found.timecode_start
    return replace(
        found,
        source=str(path),
        frames=disk,
        missing=tuple(n for n in wanted.numbers if n not in known),
        timecode_start=None if start is None else start - (looked_at - disk.first),
    )


def kind_of(source: Path | FramePattern) -> PlateKind:
    """The kind of a plate by its name.

    Raises PlateMissing for a folder, PlateUnreadable for a name of any other kind, with what to supply instead.
    """
    suffix = _suffix(source)
    kind = SUFFIXES.get(suffix.lower())
    if kind is not None and (kind != "movie" or isinstance(source, Path)):
        return kind
    where = Where(file=str(source))
    if isinstance(source, Path) and source.is_dir():
        raise PlateMissing(
            f"{source.name} is a folder", fix="name a movie, or a sequence as NAME.####.exr", where=where
        )
    named = suffix or "a name without a suffix"
    called, fix = REFUSED.get(suffix.lower(), (named, SUPPLY))
    raise PlateUnreadable(f"{Path(str(source)).name}: {called} is not a supported kind of plate", fix=fix, where=where)


def _suffix(source: Path | FramePattern) -> str:
    return Path(f"x{source.name if isinstance(source, Path) else source.suffix}").suffix


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


def _probe_exr(path: Path, rate: Fraction | None) -> PlateProbe:
    """One EXR file as a plate of that frame alone; `rate` is for a file that does not say its own."""
    parts = exr.examine(path)
    picture = exr.picture_part(parts, path)
    part = parts[picture]
    display, data = part.display, part.data
    start, drop, doubts = _first_time(partial(exr.timecode_of, part), exr.rate_of(part) or rate)
    if words := exr.color_contradictions(part):
        doubts = (f"colour attributes contradict one another: {words}", *doubts)
    if len(views := exr.views(parts)) > 1:
        doubts = (*doubts, f"it holds the views {', '.join(views)}; only the picture of the first is changed")
    window = (data.left - display.left, data.top - display.top, data.width, data.height)
    return PlateProbe(
        kind="exr",
        source=str(path),
        width=display.width,
        height=display.height,
        pixel_aspect=part.pixel_aspect,
        rate=exr.rate_of(part),
        frames=FrameRange(0, 1),
        missing=(),
        timecode_start=start,
        drop_frame=drop,
        pixel_type=part.pixel_type,
        color_tag=_tag(exr.color_words(part)),
        warnings=doubts,
        data_window=None if window == (0, 0, display.width, display.height) else window,
        channels=exr.channel_list(parts, picture),
        alpha="associated" if any(channel.name == "A" for channel in part.channels) else None,
        compression=part.compression_name,
    )


def _probe_raster(path: Path, rate: Fraction | None) -> PlateProbe:
    """One DPX, TIFF or PNG as a plate of that frame alone; `rate` is for a file that does not say its own."""
    header = rasters.examine(path)
    start, drop, doubts = _first_time(header.timecode, header.rate or rate)
    return PlateProbe(
        kind=header.kind,
        source=str(path),
        width=header.width,
        height=header.height,
        pixel_aspect=header.pixel_aspect,
        rate=header.rate,
        frames=FrameRange(0, 1),
        missing=(),
        timecode_start=start,
        drop_frame=drop,
        pixel_type=header.pixel_type,
        color_tag=_tag(header.color),
        warnings=doubts,
        channels=tuple((name, header.pixel_type) for name in header.channels),
        alpha=header.alpha,
        compression=header.compression,
    )


def _first_time(
    timecode: Callable[[Fraction], str | None], rate: Fraction | None
) -> tuple[int | None, bool, tuple[str, ...]]:
    """The frame count of a file's timecode, whether it is drop-frame, and why it is not used."""
    if rate is None or (code := timecode(rate)) is None:
        return None, False, ()
    try:
        return frame_at(code, rate), ";" in code, ()
    except ValueError as error:
        return None, False, (f"its timecode is not used: {error}",)


def _tag(said: tuple[str, str] | None) -> ColorTag | None:
    sources: dict[str, ColorSource] = {source: source for source in get_args(ColorSource)}
    return ColorTag(sources[said[0]], said[1]) if said else None


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
            channels=tuple((name, f"uint{movie.bits}") for name in ("RGBA" if movie.has_alpha else "RGB")),
            alpha="unassociated" if movie.has_alpha else None,
            codec=movie.codec,
            audio=movie.audio,
        )


def check_frames(
    path_or_pattern: Path | FramePattern, frames: FrameRange, *, size: tuple[int, int], missing: Collection[int] = ()
) -> list[FarmError]:
    """Every fault of the frames a shot needs: absent, incomplete, not of `size` (width, height), or not of one type.

    In place of the frames in `missing`, those that stand in for them are needed. One fault per kind with the numbers
    it concerns, never one per frame. Nothing is decoded except in a movie, of which the first and the last frame are.
    """
    where = Where(file=str(path_or_pattern))
    try:
        kind = kind_of(path_or_pattern)
        if kind == "movie":
            return _check_movie(Path(str(path_or_pattern)), frames, size, missing)
        there = _on_disk(path_or_pattern)
        needed = _needed(path_or_pattern, frames, missing, there)
    except FarmError as fault:
        return [fault]
    known = set(there)
    absent = [n for n in needed if n not in known]
    unreadable: dict[str, list[int]] = {}
    sizes: dict[str, list[int]] = {}
    types: dict[str, list[int]] = {}
    faults: list[FarmError] = []
    for n in (n for n in needed if n in known):
        path = _file(path_or_pattern, n)
        try:
            its_size, its_type, _ = _outline(path, kind)
        except InputError as fault:
            unreadable.setdefault(fault.what.removeprefix(path.name).strip(), []).append(n)
            continue
        except FarmError as fault:
            faults.append(fault)
            continue
        sizes.setdefault(its_size, []).append(n)
        types.setdefault(its_type, []).append(n)
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
    for numbers, found, usual in (*_odd_ones(sizes, f"{size[0]}x{size[1]}"), *_odd_ones(types, None)):
        what = f"{name}: {said(numbers)}: {found}, the plate is {usual}"
        faults.append(PlateUnreadable(what, fix="write all frames of the plate in one size and one type", where=where))
    return faults


def _odd_ones(found: Mapping[str, list[int]], planned: str | None) -> list[tuple[list[int], str, str]]:
    """The frames that are not what they should be, with what they are and what they should be.

    That is what was planned for, or what most of them are when some are what was planned: it was the first frame that
    was looked at then, and it may be the odd one.
    """
    if not found:
        return []
    usual = max(found, key=lambda value: (len(found[value]), value == planned))
    wanted = usual if planned is None or planned in found else planned
    return [(numbers, value, wanted) for value, numbers in found.items() if value != wanted]


def _outline(path: Path, kind: PlateKind) -> tuple[str, str, int]:
    """The size as WxH, the type and the uncompressed bytes of a file.

    Raises PlateMissing, PlateUnreadable, StorageError.
    """
    if kind != "exr":
        header = rasters.examine(path)
        return f"{header.width}x{header.height}", header.pixel_type, header.bytes_unpacked
    parts = exr.examine(path)
    part = parts[exr.picture_part(parts, path)]
    unpacked = sum(one.bytes_unpacked for one in parts)
    return f"{part.display.width}x{part.display.height}", part.pixel_type, unpacked


def frame_bytes(
    path_or_pattern: Path | FramePattern, frames: FrameRange, *, missing: Collection[int] = ()
) -> int | None:
    """What the largest of these frames takes uncompressed in the plate's own class; None for a movie.

    In place of the frames in `missing`, those that stand in for them are looked at. Raises PlateMissing,
    PlateUnreadable, StorageError.
    """
    kind = kind_of(path_or_pattern)
    if kind == "movie":
        return None
    needed = _needed(path_or_pattern, frames, missing, _on_disk(path_or_pattern) if missing else ())
    return max((_outline(_file(path_or_pattern, n), kind)[2] for n in needed), default=0)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What frames are delivered as; `plate` is the plate's own class. `compression` is that of EXR."""

    format: FrameFormat = "plate"
    compression: Compression = "zip"

    @property
    def exact(self) -> bool:
        """Whether pixels outside the matte come back as the plate's own bits."""
        return self.format == "plate" and self.compression != "dwaa"

    def suffix(self, source: Path | FramePattern) -> str:
        """The suffix of the files that a plate is delivered as."""
        by_format = {"dpx10": ".dpx", "tiff16": ".tif", "png16": ".png"}
        if self.format == "plate" and kind_of(source) != "movie":
            return _suffix(source)
        return by_format.get(self.format, ".exr")


def write(
    path: Path,
    frame: PlateFrame,
    *,
    rgb: np.ndarray,
    where: np.ndarray,
    attributes: Mapping[str, object],
    form: Form,
) -> None:
    """Write a frame as `form` says, with R, G and B replaced by `rgb` where `where` is true.

    `rgb` (H, W, 3) float32 and `where` (H, W) bool cover the display window. In the plate's own class everything else
    of the file (other pixels, channels, parts, attributes) is written as it was read, bit for bit; only the
    compression of an EXR is the form's. Of a frame that was stood in for, the time is that of `attributes` alone: its
    header is another frame's. A movie's frame becomes a float EXR whose other pixels equal our decode. In any other
    form all of `rgb` is converted to its numbers; colours are not.

    Attributes: timeCode as 'HH:MM:SS:FF' (`;` before FF when drop-frame), framesPerSecond as Fraction, colorInteropID
    and our own as str, pixelAspectRatio as float. A plate's own class keeps what its header says itself; a movie's
    frames and other forms have these alone.

    Raises StorageError; the file appears whole or not at all.
    """
    if rgb.shape != frame.rgb.shape or where.shape != rgb.shape[:2] or where.dtype != np.bool_:
        raise ValueError(f"rgb {rgb.shape} and where {where.shape} {where.dtype} do not fit {frame.rgb.shape}")
    if form.format == "plate":
        _write_own(path, frame, rgb=rgb, where=where, attributes=attributes, compression=form.compression)
    elif form.format == "exr-half" or form.format == "exr-float":
        pixel_type = "half" if form.format == "exr-half" else "float"
        exr.write_rgb(path, rgb, attributes=attributes, pixel_type=pixel_type, compression=form.compression)
    else:
        rasters.write_rgb(path, rgb, format=form.format, attributes=attributes)


def _write_own(
    path: Path,
    frame: PlateFrame,
    *,
    rgb: np.ndarray,
    where: np.ndarray,
    attributes: Mapping[str, object],
    compression: Compression,
) -> None:
    native = frame.native
    if isinstance(native, exr.ExrPixels):
        without = exr.TIMES if frame.stood_in else ()
        exr.write_back(
            path, native, rgb=rgb, where=where, attributes=attributes, compression=compression, without=without
        )
    elif isinstance(native, rasters.RasterPixels):
        own_time = not frame.stood_in
        rasters.write_back(path, native, rgb=rgb, where=where, attributes=attributes, own_time=own_time)
    else:
        merged = np.where(where[..., None], rgb, frame.rgb)
        exr.write_rgb(path, merged, attributes=attributes, compression=compression)


def read_rgb(path: Path) -> np.ndarray:
    """The picture of a still file of any kind that is written here, (H, W, 3) half or float32 in its own encoding.

    Raises PlateMissing, PlateUnreadable, StorageError.
    """
    return read_frame(path).rgb
