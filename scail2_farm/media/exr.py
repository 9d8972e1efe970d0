"""OpenEXR files: examined before they are trusted, read whole, written back bit for bit.

Hides the OpenEXR library and two of its habits: it does not raise on broken pixels (it drops the part), and a
nasty header can make it ask for any amount of memory. So every file goes through `examine` first, our own reader
of the header and the chunk table: no zero offset, and the last chunk ends where the file ends (colour.md §8). It
costs a tenth of a millisecond, so planning can afford it for every frame of a plate. A flipped bit inside a chunk
passes it and is found by decoding.

OpenEXR and not OpenImageIO, because it keeps each channel in its own type (OpenImageIO would turn Cryptomatte ids
and depth into half) and gives back every bit of every half, NaN payloads included. Files are written with ZIP:
lossless, and read everywhere.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import OpenEXR

from scail2_farm.documents import written_whole
from scail2_farm.errors import PlateMissing, PlateUnreadable, Where, storage_error

MAX_PIXELS = 2**28  # a 16K frame is half of it; beyond, a header is taken for broken
PIXEL_TYPES = ("uint", "half", "float")
BYTES = {"uint": 4, "half": 2, "float": 4}
LINES_PER_CHUNK = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256, 256, 32, 256, 1)  # by compression code; measured, OpenEXR 3.5
SHARED_BY_PARTS = ("timeCode", "chromaticities")  # OpenEXR: the same in every part or in none
TIMES = ("timeCode", "keyCode")  # what a header says of its own frame and of no other
OURS = "scail2_farm:"  # how the names of our own attributes begin


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels in the file's own coordinates."""

    left: int
    top: int
    width: int
    height: int

    def overlap(self, other: Window) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The rows and columns that both windows hold, as slices into this window and into the other."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        width = max(0, min(self.left + self.width, other.left + other.width) - left)
        height = max(0, min(self.top + self.height, other.top + other.height) - top)

        def slices(window: Window) -> tuple[slice, slice]:
            row, column = (top - window.top, left - window.left) if width and height else (0, 0)
            return slice(row, row + height), slice(column, column + width)

        return slices(self), slices(other)


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel as the header lists it."""

    name: str
    pixel_type: str
    sampling: tuple[int, int]


@dataclass(frozen=True, slots=True)
class PartHeader:
    """What a part of a file says about itself; `attributes` are (type, raw bytes) by name."""

    name: str
    storage: str
    channels: tuple[Channel, ...]
    compression: int
    data: Window
    display: Window
    pixel_aspect: float
    attributes: Mapping[str, tuple[str, bytes]]

    @property
    def is_deep(self) -> bool:
        """Whether the part holds deep samples."""
        return self.storage.startswith("deep")

    @property
    def is_tiled(self) -> bool:
        """Whether the part is stored in tiles."""
        return self.storage in ("tiledimage", "deeptile")

    @property
    def bytes_unpacked(self) -> int:
        """What the pixels of all channels take uncompressed."""
        widths = (BYTES[channel.pixel_type] / (channel.sampling[0] * channel.sampling[1]) for channel in self.channels)
        return int(sum(widths) * self.data.width * self.data.height)

    @property
    def pixel_type(self) -> str:
        """The widest type among R, G and B."""
        types = {channel.pixel_type for channel in self.channels if channel.name in "RGB"}
        return "float" if "float" in types else "half"

    def text(self, name: str) -> str | None:
        """A string attribute, or None."""
        kind, raw = self.attributes.get(name, ("", b""))
        return raw.decode("utf-8", "replace") if kind == "string" else None

    def numbers(self, name: str, layout: str) -> tuple[Any, ...] | None:
        """A numeric attribute unpacked by a struct layout, or None when it is absent or of another size."""
        _, raw = self.attributes.get(name, ("", b""))
        return struct.unpack(layout, raw) if raw and len(raw) == struct.calcsize(layout) else None


@dataclass(frozen=True, slots=True)
class ExrPixels:
    """A file as read: every part with every channel in its own type. `picture` is the index of the R, G, B part."""

    parts: tuple[Any, ...]
    picture: int
    display: Window
    data: Window


# --------------------------------------------------------------------------- examining


class _Broken(Exception):
    """What is wrong with a file, in words that follow its name."""


class _Header:
    """Reads the front of a file and never past its end."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.size = os.fstat(file.fileno()).st_size

    def take(self, count: int) -> bytes:
        if count < 0 or count > self.size - self.file.tell():
            raise _Broken("is cut short or damaged in its header")
        return self.file.read(count)

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def word(self) -> str:
        """Text up to a zero byte; at most 255 bytes."""
        start = self.file.tell()
        ahead = self.file.read(256)
        letters, end, _ = ahead.partition(b"\0")
        if not end:
            raise _Broken(f"is {'' if len(ahead) == 256 else 'cut short or '}damaged in its header")
        self.file.seek(start + len(letters) + 1)
        return letters.decode("utf-8", "replace")


def _read_parts(header: _Header) -> tuple[list[PartHeader], bool]:
    """The part headers, and whether the file is in multi-part form."""
    magic, version = header.unpack("<II")
    if magic != 20000630:
        raise _Broken("is not an OpenEXR file")
    flags = version >> 8
    if version & 0xFF > 2 or flags & ~0x1E:
        raise _Broken(f"is of an OpenEXR version this reader does not know ({version & 0xFF})")
    tiled, non_image, multi_part = bool(flags & 0x02), bool(flags & 0x08), bool(flags & 0x10)
    parts: list[PartHeader] = []
    while True:
        attributes: dict[str, tuple[str, bytes]] = {}
        while name := header.word():
            kind = header.word()
            (length,) = header.unpack("<i")
            attributes[name] = kind, header.take(length)
        if not attributes and multi_part:
            break
        by_flag = "tiledimage" if tiled else "scanlineimage"
        parts.append(_part(attributes, by_flag if not (multi_part or non_image) else None))
        if not multi_part:
            break
    if not parts:
        raise _Broken("holds no picture")
    return parts, multi_part


def _part(attributes: dict[str, tuple[str, bytes]], storage: str | None) -> PartHeader:
    def numbers(name: str, layout: str) -> tuple[Any, ...]:
        raw = attributes.get(name, ("", b""))[1]
        if len(raw) != struct.calcsize(layout):
            raise _Broken(f"has no valid {name} in its header")
        return struct.unpack(layout, raw)

    def window(name: str) -> Window:
        left, top, right, bottom = numbers(name, "<4i")
        found = Window(left, top, right - left + 1, bottom - top + 1)
        if found.width < 1 or found.height < 1 or found.width * found.height > MAX_PIXELS:
            raise _Broken(f"has an impossible {name} of {found.width}x{found.height}")
        return found

    if "channels" not in attributes:
        raise _Broken("lists no channels")
    named = attributes["type"][1].decode("ascii", "replace") if "type" in attributes else "scanlineimage"
    name = attributes.get("name", ("", b""))[1].decode("utf-8", "replace")
    (compression,) = numbers("compression", "<B")
    if compression >= len(LINES_PER_CHUNK):
        raise _Broken(f"uses a compression this reader does not know (code {compression})")
    (aspect,) = numbers("pixelAspectRatio", "<f")
    if not (0.01 < aspect < 100):
        raise _Broken(f"has an impossible pixel aspect of {aspect}")
    return PartHeader(
        name=name,
        storage=storage or named,
        channels=tuple(_channels(attributes["channels"][1])),
        compression=compression,
        data=window("dataWindow"),
        display=window("displayWindow"),
        pixel_aspect=aspect,
        attributes=attributes,
    )


def _channels(raw: bytes) -> list[Channel]:
    channels: list[Channel] = []
    place = 0
    while place < len(raw) and raw[place]:
        end = raw.find(b"\0", place)
        if end < 0 or end + 17 > len(raw):
            raise _Broken("is damaged in its list of channels")
        pixel_type, _, x, y = struct.unpack_from("<iB3xii", raw, end + 1)
        if not 0 <= pixel_type <= 2 or x < 1 or y < 1:
            raise _Broken("is damaged in its list of channels")
        channels.append(Channel(raw[place:end].decode("utf-8", "replace"), PIXEL_TYPES[pixel_type], (x, y)))
        place = end + 17
    return channels


def _chunk_count(part: PartHeader, *, multi_part: bool) -> int:
    if multi_part or part.is_deep:
        raw = part.attributes.get("chunkCount", ("", b""))[1]
        if len(raw) != 4:
            raise _Broken("has no chunk count in its header")
        return struct.unpack("<i", raw)[0]
    if part.is_tiled:
        width, height, _ = _tile(part)
        return -(-part.data.width // width) * -(-part.data.height // height)
    return -(-part.data.height // LINES_PER_CHUNK[part.compression])


def _tile(part: PartHeader) -> tuple[int, int, int]:
    tile = part.numbers("tiles", "<IIB")
    if tile is None or not (0 < tile[0] <= 2**16 and 0 < tile[1] <= 2**16):
        raise _Broken("is damaged in its tile description")
    return tile[0], tile[1], tile[2] & 0x0F


def _check_chunks(header: _Header, parts: list[PartHeader], *, multi_part: bool) -> None:
    """The chunk table of every part is complete and the last chunk ends where the file ends."""
    last, owner = -1, parts[0]
    for part in parts:
        count = _chunk_count(part, multi_part=multi_part)
        offsets = np.frombuffer(header.take(count * 8 if count > 0 else -1), "<u8")
        if offsets.min() < 8 or offsets.max() >= header.size:
            raise _Broken("is incomplete: its table of chunks is not filled, or points past its end")
        if int(offsets.max()) > last:
            last, owner = int(offsets.max()), part
    header.file.seek(last + (4 if multi_part else 0))
    header.take(16 if owner.is_tiled else 4)
    if owner.is_deep:
        table, packed, _ = header.unpack("<QQQ")
        length = table + packed
    else:
        (length,) = header.unpack("<i")
    if header.file.tell() + length != header.size:
        raise _Broken("is incomplete: its last chunk does not end where the file ends")


def examine(path: Path) -> tuple[PartHeader, ...]:
    """The headers of a complete OpenEXR file; no pixel is decoded.

    Raises PlateMissing, PlateUnreadable for a file that is not OpenEXR, damaged or incomplete, StorageError.
    """
    where = Where(file=str(path))
    try:
        with path.open("rb") as file:
            header = _Header(file)
            parts, multi_part = _read_parts(header)
            tiles = [_tile(part) for part in parts if part.is_tiled]
            if any(mode for *_, mode in tiles):
                raise _Broken("is a mip-mapped texture, not a plate")
            _check_chunks(header, parts, multi_part=multi_part)
    except (FileNotFoundError, NotADirectoryError):
        raise PlateMissing(f"{path.name} is not there", where=where) from None
    except IsADirectoryError:
        raise PlateMissing(f"{path.name} is a folder", where=where) from None
    except OSError as error:
        raise storage_error(error, path) from error
    except _Broken as fault:
        raise PlateUnreadable(f"{path.name} {fault}", where=where) from None
    return tuple(parts)


def picture_part(parts: tuple[PartHeader, ...], path: Path) -> int:
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
        what, fix = "is stored as luma and chroma (Y, RY, BY)", "write it as R, G and B"
    elif names >= {"R", "G", "B"}:
        what, fix = (
            "has R, G and B that are subsampled, integer or in separate parts",
            "write R, G and B as half or float",
        )
    else:
        what, fix = f"has no R, G and B channels (it has {', '.join(sorted(names)[:8])})", "write R, G and B channels"
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
    header: dict[str, object] = {}
    if (interop := part.text("colorInteropID")) is not None:
        header["colorInteropID"] = interop
    if (chromaticities := part.numbers("chromaticities", "<8f")) is not None:
        header["chromaticities"] = chromaticities
    if (flag := part.numbers("acesImageContainerFlag", "<i")) is not None:
        header["acesImageContainerFlag"] = flag[0]
    found = OpenEXR.checkColorMetadata(header)
    return OpenEXR.colorMetadataWarningToString(found) if found else ""


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
        frames = frames * 2 + (bits >> 15 & 1)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{';' if bits >> 6 & 1 else ':'}{frames:02d}"


_TIMECODE_DIGITS = ((28, 3, 24), (20, 7, 16), (12, 7, 8), (4, 3, 0))  # tens: shift and mask, units: shift


# --------------------------------------------------------------------------- reading


def read(path: Path) -> ExrPixels:
    """Read a plate frame whole.

    Raises PlateMissing, PlateUnreadable, StorageError.
    """
    headers = examine(path)
    picture = picture_part(headers, path)
    parts = _decode(path, headers)
    return ExrPixels(parts, picture, headers[picture].display, headers[picture].data)


def _decode(path: Path, headers: tuple[PartHeader, ...]) -> tuple[Any, ...]:
    where = Where(file=str(path))
    try:
        parts = tuple(OpenEXR.File(str(path), separate_channels=True).parts)
    except (RuntimeError, ValueError) as error:
        raise PlateUnreadable(f"{path.name} does not decode: {error}", where=where) from None
    if len(parts) != len(headers):
        raise PlateUnreadable(f"{path.name} does not decode: its pixels are damaged", where=where)
    return parts


def read_rgb(path: Path) -> np.ndarray:
    """The picture of a file in its display window, (H, W, 3) float32; black where the data window does not reach.

    Raises PlateMissing, PlateUnreadable, StorageError.
    """
    return display_rgb(read(path))


def read_channels(path: Path) -> tuple[Window, Window, dict[str, np.ndarray]]:
    """The data window, the display window and the full-size channels of the first part, each in its own type.

    Raises PlateMissing, PlateUnreadable, StorageError.
    """
    headers = examine(path)
    if headers[0].is_deep:
        raise PlateUnreadable(f"{path.name} holds deep samples", where=Where(file=str(path)))
    full = {channel.name for channel in headers[0].channels if channel.sampling == (1, 1)}
    part = _decode(path, headers)[0]
    return headers[0].data, headers[0].display, {name: part.channels[name].pixels for name in sorted(full)}


def display_rgb(pixels: ExrPixels) -> np.ndarray:
    """The picture in its display window, (H, W, 3) float32; black where the data window does not reach."""
    rgb = np.zeros((pixels.display.height, pixels.display.width, 3), np.float32)
    shown, stored = pixels.display.overlap(pixels.data)
    channels = pixels.parts[pixels.picture].channels
    for index, name in enumerate("RGB"):
        rgb[shown][..., index] = channels[name].pixels[stored]
    return rgb


def blackened(pixels: ExrPixels) -> ExrPixels:
    """The same file with 0 in every pixel of every channel."""

    def black(channel: Any) -> Any:
        plane = np.zeros_like(channel.pixels)
        return OpenEXR.Channel(plane, channel.xSampling, channel.ySampling, bool(channel.pLinear))

    parts = (
        OpenEXR.Part(dict(part.header), {name: black(channel) for name, channel in part.channels.items()}, part.name())
        for part in pixels.parts
    )
    return replace(pixels, parts=tuple(parts))


# --------------------------------------------------------------------------- writing


def write_back(
    path: Path,
    pixels: ExrPixels,
    *,
    rgb: np.ndarray,
    where: np.ndarray,
    attributes: Mapping[str, object],
    without: Collection[str] = (),
) -> None:
    """Write a file as it was read, with R, G and B replaced where `where` is true; ZIP throughout.

    `rgb` (H, W, 3) and `where` (H, W) bool cover the display window. A pixel outside the data window has no place
    in the file and stays unwritten. Values are converted to each channel's own type, half clamped to its finite
    range. Attributes go to the picture's part; timeCode and chromaticities to every part, as OpenEXR wants. What the
    file says already stands; only our own attributes are replaced, and those named in `without` are left out of it.

    Raises StorageError.
    """
    size = (pixels.display.height, pixels.display.width)
    if rgb.shape != (*size, 3) or where.shape != size or where.dtype != np.bool_:
        raise ValueError(f"rgb {rgb.shape} and where {where.shape} {where.dtype} do not fit the picture {size}")
    shown, stored = pixels.display.overlap(pixels.data)
    chosen = where[shown]
    values = _header_values(attributes)
    parts: list[Any] = []
    for index, part in enumerate(pixels.parts):
        stale = {"channels", "chunkCount", *without}
        header = {name: value for name, value in part.header.items() if name not in stale}
        header["compression"] = OpenEXR.ZIP_COMPRESSION
        is_picture = index == pixels.picture
        for name, value in values.items():
            if (is_picture or name in SHARED_BY_PARTS) and (name not in header or name.startswith(OURS)):
                header[name] = value
        channels: dict[str, Any] = {}
        for name, channel in part.channels.items():
            plane = channel.pixels
            if is_picture and name in ("R", "G", "B"):
                plane = plane.copy()
                plane[stored][chosen] = _cast(rgb[shown][..., "RGB".index(name)][chosen], plane.dtype)
            channels[name] = OpenEXR.Channel(plane, channel.xSampling, channel.ySampling, bool(channel.pLinear))
        parts.append(OpenEXR.Part(header, channels, part.name()))
    _write(path, parts)


def _cast(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if dtype == np.float16:
        values = np.clip(values, -65504.0, 65504.0)
    return values.astype(dtype)


def write_rgb(path: Path, rgb: np.ndarray, *, attributes: Mapping[str, object]) -> None:
    """Write an (H, W, 3) picture as float EXR with channels R, G and B.

    Raises StorageError.
    """
    planes = {name: np.ascontiguousarray(rgb[..., index], np.float32) for index, name in enumerate("RGB")}
    _write(path, [_new_part(planes, attributes)])


def write_matte(path: Path, matte: np.ndarray, *, attributes: Mapping[str, object]) -> None:
    """Write an (H, W) matte as float EXR with the one channel Y; float, so that the value used is the value kept.

    Raises StorageError.
    """
    _write(path, [_new_part({"Y": np.ascontiguousarray(matte, np.float32)}, attributes)])


def _new_part(planes: dict[str, np.ndarray], attributes: Mapping[str, object]) -> Any:
    header: dict[str, object] = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    return OpenEXR.Part(header | _header_values(attributes), planes)


def _header_values(attributes: Mapping[str, object]) -> dict[str, object]:
    """Attributes as the library takes them: a timeCode written as text becomes its own type."""
    values = dict(attributes)
    code, rate = values.get("timeCode"), values.get("framesPerSecond")
    if isinstance(code, str):
        values["timeCode"] = _timecode(code, in_pairs=isinstance(rate, Fraction) and rate > 30)
    return values


def _timecode(code: str, *, in_pairs: bool) -> Any:
    match = re.fullmatch(r"(\d\d):(\d\d):(\d\d)([:;])(\d\d)", code)
    if not match:
        raise ValueError(f"{code!r} is not a timecode HH:MM:SS:FF")
    hours, minutes, seconds, frames = (int(match[group]) for group in (1, 2, 3, 5))
    frames, second_of_pair = divmod(frames, 2) if in_pairs else (frames, 0)
    drop, field = match[4] == ";", bool(second_of_pair)
    return OpenEXR.TimeCode(hours, minutes, seconds, frames, drop, False, field, False, False, False, *[0] * 8)


def _write(path: Path, parts: list[Any]) -> None:
    with written_whole(path) as part, part.open("wb") as file:
        OpenEXR.File(parts).write(file)
