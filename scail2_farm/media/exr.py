"""OpenEXR files: examined before they are trusted, read whole, written back bit for bit.

Hides the OpenEXR library and its habits: it does not raise on broken pixels (it drops the part), a nasty header can
make it ask for any amount of memory, and it refuses headers that say nothing wrong (text that is not UTF-8, an empty
list) or turns what they say (48/2 into 24/1). So the library gets the pixels and we keep the headers: it is given
each file with a plain header in place of the file's own, and what it writes gets the plate's own header back, byte
for byte (`with_header`).

Every file goes through `examine` first, our own reader of the header and the chunk table: no zero offset, and the
last chunk ends where the file ends (colour.md §8). It costs a tenth of a millisecond, so planning can afford it for
every frame of a plate. A flipped bit inside a chunk passes it and is found by decoding.

OpenEXR and not OpenImageIO, because it keeps each channel in its own type (OpenImageIO would turn Cryptomatte ids
and depth into half) and gives back every bit of every half, NaN payloads included. Files are written with ZIP unless
another compression is asked for: lossless, and read everywhere. Luma and chroma (Y, RY, BY) are refused: a colour
inside the matte and one outside it share a chroma sample, so the one cannot be written and the other kept. So is gray
(Y alone), where a person in colour has no place.
"""

from __future__ import annotations

import io
import itertools
import re
import struct
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import OpenEXR

from scail2_farm.documents import Compression, written_whole
from scail2_farm.errors import PlateUnreadable, Where
from scail2_farm.media.broken import Broken, plate_faults
from scail2_farm.media.exrfile import (
    COMPRESSIONS,
    Attributes,
    Channel,
    Layout,
    PartHeader,
    Window,
    check_chunks,
    first_chunk,
    header_bytes,
    plain_header,
    read_layout,
    with_header,
)

LOSSY_NAMES = ("R", "G", "B", "Y", "RY", "BY")  # DWAA changes the channels whose last name is one of these
UNPROVEN_BYTES = 2**28  # beyond, a header is believed only after a chunk of each part has been decoded
SHARED_BY_PARTS = ("timeCode", "chromaticities", "colorInteropID")  # OpenEXR: the same in every part or in none
MADE_ANEW = ("channels", "compression", "lineOrder", "chunkCount")  # what tells how the pixels are stored
TIMES = ("timeCode", "keyCode")  # what a header says of its own frame and of no other
OURS = "scail2_farm:"  # how the names of our own attributes begin


@dataclass(frozen=True, slots=True)
class Part:
    """A part as read: its header, and the pixels of every channel in its own type."""

    header: PartHeader
    planes: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class ExrPixels:
    """A file as read. `picture` is the index of the part with R, G and B."""

    parts: tuple[Part, ...]
    picture: int

    @property
    def display(self) -> Window:
        """The display window of the picture."""
        return self.parts[self.picture].header.display

    @property
    def data(self) -> Window:
        """The data window of the picture."""
        return self.parts[self.picture].header.data


# --------------------------------------------------------------------------- examining


def examine(path: Path) -> tuple[PartHeader, ...]:
    """The headers of a complete OpenEXR file; no pixel is decoded.

    Raises PlateMissing, PlateUnreadable for a file that is not OpenEXR, damaged or incomplete, StorageError.
    """
    with plate_faults(path), path.open("rb") as file:
        return read_layout(file).parts


def picture_part(parts: Sequence[PartHeader], path: Path) -> int:
    """The index of the first part with R, G and B.

    Raises PlateUnreadable, in words, when there is none or when a part could not be given back as it was.
    """
    for index, part in enumerate(parts):
        kinds = {channel.name: channel for channel in part.channels}
        if any(part.is_deep for part in parts) or not {"R", "G", "B"} <= kinds.keys():
            continue
        rgb = [kinds[name] for name in "RGB"]
        if all(channel.sampling == (1, 1) and channel.pixel_type != "uint" for channel in rgb):
            return index
    names = {channel.name for part in parts for channel in part.channels}
    if any(part.is_deep for part in parts):
        what, fix = "holds deep samples", "flatten it and write R, G and B"
    elif names >= {"Y", "RY", "BY"}:
        what = "is stored as luma and chroma (Y, RY, BY), which cannot be changed in one place and kept in another"
        fix = "write it as R, G and B"
    elif names >= {"R", "G", "B"}:
        what, fix = (
            "has R, G and B that are subsampled, integer or in separate parts",
            "write R, G and B as half or float",
        )
    else:
        what = f"has no R, G and B channels (it has {', '.join(sorted(names)[:8])})"
        fix = "write the picture, a gray one too, as channels R, G and B; other layers and parts are kept"
    raise PlateUnreadable(f"{path.name} {what}", fix=fix, where=Where(file=str(path)))


# --------------------------------------------------------------------------- what a header says


def color_words(part: PartHeader) -> tuple[str, str] | None:
    """What the header says about its colour space, as (attribute, value); None when it says nothing.

    The value of `chromaticities` is the interop id they stand for, or the eight numbers when there is none.
    """
    interop = part.text("colorInteropID")
    if interop and interop != "unknown":
        return "colorInteropID", interop
    if part.numbers("acesImageContainerFlag", "<i") == (1,):
        return "acesImageContainerFlag", "lin_ap0_scene"
    chromaticities = part.numbers("chromaticities", "<8f")
    if chromaticities is None:
        return None
    known: str | None = OpenEXR.chromaticitiesToColorInteropID(chromaticities)
    return "chromaticities", known or " ".join(f"{value:.4g}" for value in chromaticities)


def color_contradictions(part: PartHeader) -> str:
    """What OpenEXR finds contradictory in a header's colour attributes; empty for nothing."""
    found = _color_warnings(part.attributes, part.attributes)
    return "; ".join(OpenEXR.colorMetadataWarningToString(flag) for flag in _flags(found))


def _flags(found: int) -> list[int]:
    return [1 << bit for bit in range(found.bit_length()) if found >> bit & 1]


def _color_warnings(attributes: Attributes, first: Attributes) -> int:
    """The flags of OpenEXR.checkColorMetadata for a part, given the attributes of the file's first part as well."""
    return OpenEXR.checkColorMetadata(_color_header(attributes), _color_header(first))


def _color_header(attributes: Attributes) -> dict[str, object]:
    header: dict[str, object] = {}
    for name, kind, layout in _COLOR_ATTRIBUTES:
        found, raw = attributes.get(name, ("", b""))
        if found == kind == "string":
            header[name] = raw.decode("utf-8", "replace")
        elif found == kind and len(raw) == struct.calcsize(layout):
            numbers = struct.unpack(layout, raw)
            header[name] = numbers[0] if len(numbers) == 1 else numbers
    return header


_COLOR_ATTRIBUTES = (
    ("colorInteropID", "string", ""),
    ("chromaticities", "chromaticities", "<8f"),
    ("acesImageContainerFlag", "int", "<i"),
    ("whiteLuminance", "float", "<f"),
    ("adoptedNeutral", "v2f", "<2f"),
)


def channel_list(parts: Sequence[PartHeader], picture: int) -> tuple[tuple[str, str], ...]:
    """Every channel with its type: by its own name in the picture's part, which comes first, as PART:NAME in others."""
    listed = [(channel.name, channel.pixel_type) for channel in parts[picture].channels]
    for index, part in enumerate(parts):
        if index != picture:
            listed += [(f"{part.name}:{channel.name}", channel.pixel_type) for channel in part.channels]
    return tuple(listed)


def views(parts: Sequence[PartHeader]) -> tuple[str, ...]:
    """The names of the views a file holds (left, right), the first being the default; empty when it names none."""
    kind, raw = parts[0].attributes.get("multiView", ("", b""))
    found = _texts(raw) if kind == "stringvector" else []
    found += [view for part in parts if (view := part.text("view"))]
    return tuple(dict.fromkeys(found))


def _texts(raw: bytes) -> list[str]:
    """The texts of a stringvector: each a length and its bytes."""
    texts: list[str] = []
    while len(raw) >= 4:
        end = 4 + struct.unpack_from("<I", raw)[0]
        texts.append(raw[4:end].decode("utf-8", "replace"))
        raw = raw[end:]
    return texts


def rate_of(part: PartHeader) -> Fraction | None:
    """The framesPerSecond attribute, or None."""
    rate = part.numbers("framesPerSecond", "<iI")
    return Fraction(rate[0], rate[1]) if rate and rate[0] > 0 and rate[1] > 0 else None


def timecode_of(part: PartHeader, rate: Fraction) -> str | None:
    """The timeCode attribute as HH:MM:SS:FF (`;` before FF when drop-frame), or None.

    Above 30 frames a second the attribute counts pairs of frames and its field bit tells the second of a pair
    (SMPTE ST 12-1).
    """
    code = part.numbers("timeCode", "<II")
    if code is None:
        return None
    bits = code[0]
    fields = ((bits >> shift & mask) * 10 + (bits >> low & 15) for shift, mask, low in _TIMECODE_DIGITS)
    hours, minutes, seconds, frames = fields
    if rate > 30:
        frames = frames * 2 + bool(bits & _SECOND_OF_PAIR)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{';' if bits & _DROP_FRAME else ':'}{frames:02d}"


_TIMECODE_DIGITS = ((28, 3, 24), (20, 7, 16), (12, 7, 8), (4, 3, 0))  # tens: shift and mask, units: shift
_DROP_FRAME, _SECOND_OF_PAIR = 1 << 6, 1 << 15


# --------------------------------------------------------------------------- reading


def read(path: Path) -> ExrPixels:
    """Read a plate frame whole.

    Raises PlateMissing, PlateUnreadable, StorageError.
    """
    with plate_faults(path), path.open("rb") as file:
        layout = read_layout(file)
        picture = picture_part(layout.parts, path)
        return ExrPixels(_decode(_content(file), layout), picture)


def read_rgb(path: Path) -> np.ndarray:
    """The picture of a file in its display window, as display_rgb gives it.

    Raises PlateMissing, PlateUnreadable, StorageError.
    """
    return display_rgb(read(path))


def read_channels(path: Path) -> tuple[Window, Window, dict[str, np.ndarray]]:
    """The data window, the display window and the full-size channels of the first part, each in its own type.

    Raises PlateMissing, PlateUnreadable, StorageError.
    """
    with plate_faults(path), path.open("rb") as file:
        layout = read_layout(file)
        if any(part.is_deep for part in layout.parts):
            raise Broken("holds deep samples")
        first = _decode(_content(file), layout)[0]
    full = {channel.name for channel in first.header.channels if channel.sampling == (1, 1)}
    return first.header.data, first.header.display, {name: first.planes[name] for name in sorted(full)}


def display_rgb(pixels: ExrPixels) -> np.ndarray:
    """The picture in its display window, (H, W, 3); black where the data window does not reach.

    Half or float as the file is, and stored plane by plane: a 4K frame of halves is widened where it is used.
    """
    shown, stored = pixels.display.overlap(pixels.data)
    planes = [pixels.parts[pixels.picture].planes[name][stored] for name in "RGB"]
    size = pixels.display.height, pixels.display.width
    made = np.empty if planes[0].shape == size else np.zeros
    rgb = made((3, *size), np.result_type(*planes))
    for target, plane in zip(rgb, planes, strict=True):
        target[shown] = plane
    return np.moveaxis(rgb, 0, -1)


def blackened(pixels: ExrPixels) -> ExrPixels:
    """The same file with 0 in every pixel of every channel."""

    def black(part: Part) -> Part:
        return replace(part, planes={name: np.zeros_like(plane) for name, plane in part.planes.items()})

    return replace(pixels, parts=tuple(black(part) for part in pixels.parts))


def _content(file: io.BufferedReader) -> memoryview:
    """A file whole, in numpy's memory: that comes in huge pages where the system has them, in 10 ms and not 25."""
    content = np.empty(file.seek(0, io.SEEK_END), np.uint8).data
    file.seek(0)
    return content[: file.readinto(content)]


def _decode(raw: memoryview, layout: Layout) -> tuple[Part, ...]:
    """The pixels of a file; nothing large is allocated on the word of a header that its chunks do not bear out."""
    check_chunks(raw, layout)
    count = len(layout.parts)
    if sum(part.bytes_unpacked for part in layout.parts) > UNPROVEN_BYTES:
        for index in range(count):
            _library_planes(io.BytesIO(first_chunk(raw, layout, index)), 1)
    planes = _library_planes(_Pieces(with_header(raw, layout, plain_header(layout))), count)
    return tuple(Part(*part) for part in zip(layout.parts, planes, strict=True))


class _Pieces:
    """A file in memory that is made of pieces, which are not joined: a frame has hundreds of megabytes."""

    def __init__(self, pieces: Sequence[bytes | memoryview]):
        self._pieces = [memoryview(piece) for piece in pieces]
        self._starts = [0, *itertools.accumulate(len(piece) for piece in self._pieces)]
        self._place = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes, as io reads."""
        end = self._starts[-1] if size < 0 else min(self._place + size, self._starts[-1])
        found: list[memoryview] = []
        while self._place < end:
            index = bisect_right(self._starts, self._place) - 1
            until = min(end, self._starts[index + 1])
            found.append(self._pieces[index][self._place - self._starts[index] : until - self._starts[index]])
            self._place = until
        return b"".join(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, as io seeks."""
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._starts[-1]}[whence]
        return self._place

    def tell(self) -> int:
        """Where it stands."""
        return self._place


def _library_planes(file: io.BytesIO | _Pieces, count: int) -> list[dict[str, np.ndarray]]:
    """The channels of each of the `count` parts, decoded. Of damaged pixels the library prints to stdout and stderr."""
    try:
        parts = OpenEXR.File(file, separate_channels=True).parts
    except (RuntimeError, ValueError) as error:
        raise Broken(f"does not decode: {error}") from None
    if len(parts) != count:
        raise Broken("does not decode: its pixels are damaged")
    return [{name: channel.pixels for name, channel in part.channels.items()} for part in parts]


# --------------------------------------------------------------------------- headers


def _encoded(attributes: Mapping[str, object]) -> dict[str, tuple[str, bytes]]:
    """Attributes as a header holds them; a timeCode is text, and counts pairs of frames above 30 a second."""
    rate = attributes.get("framesPerSecond")
    in_pairs = isinstance(rate, Fraction) and rate > 30
    return {
        name: ("timecode", _timecode(str(value), in_pairs=in_pairs)) if name == "timeCode" else _attribute(value)
        for name, value in attributes.items()
    }


def _attribute(value: object) -> tuple[str, bytes]:
    match value:
        case str():
            return "string", value.encode()
        case int():
            return "int", struct.pack("<i", value)
        case float():
            return "float", struct.pack("<f", value)
        case Fraction():
            return "rational", struct.pack("<iI", value.numerator, value.denominator)
        case _:
            raise TypeError(f"no attribute is made of {value!r}")


def _timecode(code: str, *, in_pairs: bool) -> bytes:
    match = re.fullmatch(r"(\d\d):(\d\d):(\d\d)([:;])(\d\d)", code)
    if not match:
        raise ValueError(f"{code!r} is not a timecode HH:MM:SS:FF")
    *fields, frames = (int(match[group]) for group in (1, 2, 3, 5))
    frames, second_of_pair = divmod(frames, 2) if in_pairs else (frames, 0)
    bits = _DROP_FRAME * (match[4] == ";") | _SECOND_OF_PAIR * second_of_pair
    for value, (shift, _, low) in zip((*fields, frames), _TIMECODE_DIGITS, strict=True):
        bits |= value // 10 << shift | value % 10 << low
    return struct.pack("<II", bits, 0)


# --------------------------------------------------------------------------- writing


def write_back(
    path: Path,
    pixels: ExrPixels,
    *,
    rgb: np.ndarray,
    where: np.ndarray,
    attributes: Mapping[str, object],
    compression: Compression = "zip",
    without: Collection[str] = (),
) -> None:
    """Write a file as it was read, with R, G and B replaced where `where` is true.

    `rgb` (H, W, 3) and `where` (H, W) bool cover the display window. A pixel outside the data window has no place
    in the file and stays unwritten. Values are converted to each channel's own type, half clamped to its finite
    range. All parts are compressed alike, whatever the file came in, except with "dwaa": that is for the picture alone,
    and only when no other channel of its part would be changed (a Cryptomatte is named .R .G .B); else ZIP stays.

    Attributes go to the picture's part, those that OpenEXR wants shared to every part. What the file says already
    stands; only our own attributes are replaced, and those named in `without` are left out of it. A colorInteropID
    that would contradict what the file says of its colours is not added.

    Raises StorageError.
    """
    size = (pixels.display.height, pixels.display.width)
    if rgb.shape != (*size, 3) or where.shape != size or where.dtype != np.bool_:
        raise ValueError(f"rgb {rgb.shape} and where {where.shape} {where.dtype} do not fit the picture {size}")
    shown, stored = pixels.display.overlap(pixels.data)
    chosen = where[shown]
    parts = list(pixels.parts)
    picture = parts[pixels.picture]
    planes = dict(picture.planes)
    for index, name in enumerate("RGB"):
        planes[name] = planes[name].copy()
        planes[name][stored][chosen] = _cast(rgb[shown][..., index][chosen], planes[name].dtype)
    parts[pixels.picture] = replace(picture, planes=planes)
    kept = [
        {name: value for name, value in part.header.attributes.items() if name not in (*MADE_ANEW, *without)}
        for part in parts
    ]
    added = _additions(kept, pixels.picture, _encoded(attributes))
    codes = [_code(part.header, compression, index == pixels.picture) for index, part in enumerate(parts)]
    _write(path, parts, codes, [{**old, **new} for old, new in zip(kept, added, strict=True)])


def _additions(kept: Sequence[Attributes], picture: int, ours: Attributes) -> list[dict[str, tuple[str, bytes]]]:
    """What is added to each part: what the file does not say itself, and what is our own."""
    said = {name for header in kept for name in header}
    added: list[dict[str, tuple[str, bytes]]] = [{} for _ in kept]
    for name, value in ours.items():
        if name in SHARED_BY_PARTS:
            owners = [] if name in said else added
        else:
            owners = [added[picture]] if name.startswith(OURS) or name not in kept[picture] else []
        for header in owners:
            header[name] = value

    def contradictions(headers: Sequence[Attributes]) -> list[int]:
        return [_color_warnings(header, headers[0]) for header in headers]

    merged = [{**old, **new} for old, new in zip(kept, added, strict=True)]
    if contradictions(merged) != contradictions(kept):
        for header in added:
            header.pop("colorInteropID", None)
    return added


def _code(part: PartHeader, compression: Compression, is_picture: bool) -> int:
    """The compression code of a part: what was asked for, but no loss where none was asked for."""
    others = [channel.name for channel in part.channels if channel.name not in ("R", "G", "B")]
    at_risk = any(name.rpartition(".")[2].upper() in LOSSY_NAMES for name in others)
    if compression == "dwaa" and (not is_picture or at_risk):
        compression = "zip"
    return next(code for code, (name, *_) in enumerate(COMPRESSIONS) if name == compression)


def _cast(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if dtype == np.float16:
        values = np.clip(values, -65504.0, 65504.0)
    return values.astype(dtype)


def write_rgb(
    path: Path,
    rgb: np.ndarray,
    *,
    attributes: Mapping[str, object],
    pixel_type: Literal["float", "half"] = "float",
    compression: Compression = "zip",
) -> None:
    """Write an (H, W, 3) picture as EXR with channels R, G and B; half is clamped to its finite range.

    Raises StorageError.
    """
    dtype = np.dtype(np.float16 if pixel_type == "half" else np.float32)
    planes = {name: np.ascontiguousarray(_cast(rgb[..., index], dtype)) for index, name in enumerate("RGB")}
    _write_new(path, planes, attributes, compression)


def write_matte(path: Path, matte: np.ndarray, *, attributes: Mapping[str, object]) -> None:
    """Write an (H, W) matte as float EXR with the one channel Y; float, so that the value used is the value kept.

    Raises StorageError.
    """
    _write_new(path, {"Y": np.ascontiguousarray(matte, np.float32)}, attributes, "zip")


def _write_new(
    path: Path, planes: Mapping[str, np.ndarray], attributes: Mapping[str, object], compression: Compression
) -> None:
    height, width = next(iter(planes.values())).shape
    window = Window(0, 0, width, height)
    channels = tuple(Channel(name, "half" if plane.dtype == np.float16 else "float") for name, plane in planes.items())
    header = PartHeader("", "scanlineimage", channels, 0, window, window, 1.0, {})
    _write(path, [Part(header, planes)], [_code(header, compression, True)], [_encoded(attributes)])


def _write(path: Path, parts: Sequence[Part], codes: Sequence[int], said: Sequence[Attributes]) -> None:
    """Write parts with what their headers say besides how the pixels are stored."""
    content = io.BytesIO()
    names = [str(index) for index in range(len(parts))] if len(parts) > 1 else [""]
    display = parts[0].header.display
    made = [_library_part(*part, display) for part in zip(names, parts, codes, strict=True)]
    OpenEXR.File(made).write(content)
    layout = read_layout(content)
    headers = [{**part.attributes, **header} for part, header in zip(layout.parts, said, strict=True)]
    header = header_bytes(headers, multi_part=layout.multi_part, tiled=layout.parts[0].is_tiled)
    with written_whole(path) as part, part.open("wb") as file:
        file.writelines(with_header(content.getbuffer(), layout, header))


def _library_part(name: str, part: Part, code: int, display: Window) -> Any:
    header: dict[str, object] = {
        "compression": OpenEXR.Compression(code),
        "type": OpenEXR.tiledimage if part.header.is_tiled else OpenEXR.scanlineimage,
        "dataWindow": _corners(part.header.data),
        "displayWindow": _corners(display),
        "lineOrder": OpenEXR.LineOrder((part.header.numbers("lineOrder", "<B") or (0,))[0]),
    }
    if level := part.header.numbers("dwaCompressionLevel", "<f"):
        header["dwaCompressionLevel"] = level[0]
    if part.header.is_tiled:
        tiles = OpenEXR.TileDescription()
        tiles.xSize, tiles.ySize, _ = part.header.tile
        header["tiles"] = tiles
    channels = {
        channel.name: OpenEXR.Channel(part.planes[channel.name], *channel.sampling, channel.perceptually_linear)
        for channel in part.header.channels
    }
    return OpenEXR.Part(header, channels, name)


def _corners(window: Window) -> tuple[np.ndarray, np.ndarray]:
    right, bottom = window.left + window.width - 1, window.top + window.height - 1
    return np.array([window.left, window.top], np.int32), np.array([right, bottom], np.int32)
