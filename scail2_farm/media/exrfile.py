"""The bytes of an OpenEXR file around its pixels: headers, tables of chunks, and where the chunks stand.

Hides the format. It is read by hand, and not by the OpenEXR library, because a header is to be judged before any
library allocates what it asks for, and given back byte for byte, whatever it says. Nothing here decodes a pixel.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, BinaryIO

import numpy as np

from scail2_farm.media.broken import Broken

MAGIC = 20000630
MAX_PIXELS = 2**28  # a 16K frame is half of it; beyond, a header is taken for broken
MAX_OFFSET = 2**29  # of a window; OpenEXR knows no coordinates beyond twice that
MAX_EMPTY_PIXELS = 2**25  # an 8K frame; what a display window may be without pixels to show in it
TILED = ("tiledimage", "deeptile")
PIXEL_TYPES = ("uint", "half", "float")
BYTES = {"uint": 4, "half": 2, "float": 4}
# By code: the name; the lines of a chunk (measured, OpenEXR 3.5); the most bytes of pixels that one byte can hold, by
# the format itself: runs of 128 in two bytes, of 261 halves in nine bits, deflate's 1032 and so on.
COMPRESSIONS = (
    ("none", 1, 1),
    ("rle", 1, 64),
    ("zips", 1, 1032),
    ("zip", 16, 1032),
    ("piz", 32, 464),
    ("pxr24", 16, 1376),
    ("b44", 32, 3),
    ("b44a", 32, 11),
    ("dwaa", 32, inf),
    ("dwab", 256, inf),
    ("htj2k256", 256, inf),
    ("htj2k32", 32, inf),
    ("lj2k", 256, inf),
    ("zstd", 1, inf),
)

UNSAFE = ("lj2k",)  # OpenEXR 3.5.3 writes beyond its memory when one byte of such a chunk is wrong

Attributes = Mapping[str, tuple[str, bytes]]  # (type, raw bytes) by name


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
    sampling: tuple[int, int] = (1, 1)
    perceptually_linear: bool = False


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
    attributes: Attributes

    @property
    def is_deep(self) -> bool:
        """Whether the part holds deep samples."""
        return self.storage.startswith("deep")

    @property
    def is_tiled(self) -> bool:
        """Whether the part is stored in tiles."""
        return self.storage in TILED

    @property
    def tile(self) -> tuple[int, int, int]:
        """Width, height and level mode of the tiles; raises Broken when the part has no valid ones."""
        tile = self.numbers("tiles", "<IIB")
        if tile is None or not (0 < tile[0] <= 2**16 and 0 < tile[1] <= 2**16):
            raise Broken("is damaged in its tile description")
        return tile[0], tile[1], tile[2] & 0x0F

    @property
    def chunk_size(self) -> tuple[int, int]:
        """Width and height of a chunk: a tile, or as many whole lines as the compression takes."""
        return self.tile[:2] if self.is_tiled else (self.data.width, COMPRESSIONS[self.compression][1])

    @property
    def bytes_unpacked(self) -> int:
        """What the pixels of all channels take uncompressed."""
        widths = (BYTES[channel.pixel_type] / (channel.sampling[0] * channel.sampling[1]) for channel in self.channels)
        return int(sum(widths) * self.data.width * self.data.height)

    @property
    def pixel_type(self) -> str:
        """The type of R, G and B; "mixed" when they differ."""
        types = {channel.pixel_type for channel in self.channels if channel.name in ("R", "G", "B")}
        return types.pop() if len(types) == 1 else "mixed"

    @property
    def compression_name(self) -> str:
        """The compression as people call it."""
        return COMPRESSIONS[self.compression][0]

    def text(self, name: str) -> str | None:
        """A string attribute, or None."""
        kind, raw = self.attributes.get(name, ("", b""))
        return raw.decode("utf-8", "replace") if kind == "string" else None

    def numbers(self, name: str, layout: str) -> tuple[Any, ...] | None:
        """A numeric attribute unpacked by a struct layout, or None when it is absent or of another size."""
        _, raw = self.attributes.get(name, ("", b""))
        return struct.unpack(layout, raw) if raw and len(raw) == struct.calcsize(layout) else None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand in a file; `tables` are the places of the chunks of each part, in the order of their rows."""

    parts: tuple[PartHeader, ...]
    multi_part: bool
    header_bytes: int
    tables: tuple[np.ndarray, ...]


# --------------------------------------------------------------------------- reading


def read_layout(file: BinaryIO) -> Layout:
    header = _Header(file)
    parts, multi_part = _read_parts(header)
    if any(part.tile[2] for part in parts if part.is_tiled):
        raise Broken("is a mip-mapped texture, not a plate")
    header_bytes = file.tell()
    tables = [_chunk_table(header, part, multi_part=multi_part) for part in parts]
    _check_last_chunk(header, parts, tables, multi_part=multi_part)
    return Layout(tuple(parts), multi_part, header_bytes, tuple(tables))


class _Header:
    """Reads the front of a file and never past its end."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)

    def take(self, count: int) -> bytes:
        if count < 0 or count > self.size - self.file.tell():
            raise Broken("is cut short or damaged in its header")
        return self.file.read(count)

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def word(self) -> str:
        """Text up to a zero byte; at most 255 bytes."""
        start = self.file.tell()
        ahead = self.file.read(256)
        letters, end, _ = ahead.partition(b"\0")
        if not end:
            raise Broken(f"is {'' if len(ahead) == 256 else 'cut short or '}damaged in its header")
        self.file.seek(start + len(letters) + 1)
        return letters.decode("utf-8", "surrogateescape")


def _read_parts(header: _Header) -> tuple[list[PartHeader], bool]:
    """The part headers, and whether the file is in multi-part form."""
    magic, version = header.unpack("<II")
    if magic != MAGIC:
        raise Broken("is not an OpenEXR file")
    flags = version >> 8
    if version & 0xFF > 2 or flags & ~0x1E:
        raise Broken(f"is of an OpenEXR version this reader does not know ({version & 0xFF})")
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
        if multi_part and not {"name", "type"} <= attributes.keys():
            raise Broken("has a part without a name or a type")
        by_flag = "tiledimage" if tiled else "scanlineimage"
        parts.append(_part(attributes, by_flag if not (multi_part or non_image) else None))
        if not multi_part:
            break
    if not parts:
        raise Broken("holds no picture")
    return parts, multi_part


def _part(attributes: dict[str, tuple[str, bytes]], storage: str | None) -> PartHeader:
    def numbers(name: str, layout: str) -> tuple[Any, ...]:
        raw = attributes.get(name, ("", b""))[1]
        if len(raw) != struct.calcsize(layout):
            raise Broken(f"has no valid {name} in its header")
        return struct.unpack(layout, raw)

    def window(name: str) -> Window:
        left, top, right, bottom = numbers(name, "<4i")
        found = Window(left, top, right - left + 1, bottom - top + 1)
        if found.width < 1 or found.height < 1 or found.width * found.height > MAX_PIXELS:
            raise Broken(f"has an impossible {name} of {found.width}x{found.height}")
        if max(abs(left), abs(top)) > MAX_OFFSET:
            raise Broken(f"has an impossible {name} that begins at {left}, {top}")
        return found

    if "channels" not in attributes:
        raise Broken("lists no channels")
    named = attributes["type"][1].decode("ascii", "replace") if "type" in attributes else "scanlineimage"
    name = attributes.get("name", ("", b""))[1].decode("utf-8", "replace")
    (compression,) = numbers("compression", "<B")
    if compression >= len(COMPRESSIONS):
        raise Broken(f"uses a compression this reader does not know (code {compression})")
    if COMPRESSIONS[compression][0] in UNSAFE:
        raise Broken("is compressed as LJ2K, whose decoder a damaged file can bring down", fix="write it with ZIP")
    storage = storage or named
    if numbers("lineOrder", "<B")[0] > (2 if storage in TILED else 1):
        raise Broken("has an impossible order of lines")
    (aspect,) = numbers("pixelAspectRatio", "<f")
    if not (0.01 < aspect < 100):
        raise Broken(f"has an impossible pixel aspect of {aspect}")
    data, display = window("dataWindow"), window("displayWindow")
    if display.width * display.height > max(MAX_EMPTY_PIXELS, 4 * data.width * data.height):
        raise Broken(f"has an impossible displayWindow of {display.width}x{display.height}")
    return PartHeader(
        name=name,
        storage=storage,
        channels=tuple(_channels(attributes["channels"][1])),
        compression=compression,
        data=data,
        display=display,
        pixel_aspect=aspect,
        attributes=attributes,
    )


def _channels(raw: bytes) -> list[Channel]:
    channels: dict[str, Channel] = {}
    place = 0
    while place < len(raw) and raw[place]:
        end = raw.find(b"\0", place)
        if end < 0 or end + 17 > len(raw):
            raise Broken("is damaged in its list of channels")
        pixel_type, linear, x, y = struct.unpack_from("<iB3xii", raw, end + 1)
        try:
            name = raw[place:end].decode()
        except UnicodeDecodeError:
            raise Broken("has a channel whose name is not UTF-8") from None
        if not 0 <= pixel_type <= 2 or x < 1 or y < 1 or name in channels or not name.isprintable():
            raise Broken("is damaged in its list of channels")
        channels[name] = Channel(name, PIXEL_TYPES[pixel_type], (x, y), bool(linear))
        place = end + 17
    if not channels:
        raise Broken("lists no channels")
    return list(channels.values())


def _chunk_table(header: _Header, part: PartHeader, *, multi_part: bool) -> np.ndarray:
    """The places of a part's chunks, all of them inside the file."""
    count = _chunk_count(part, multi_part=multi_part)
    table = np.frombuffer(header.take(count * 8 if count > 0 else -1), "<u8")
    if table.min() < 8 or table.max() >= header.size:
        raise Broken("is incomplete: its table of chunks is not filled, or points past its end")
    return table.astype(np.int64)


def _chunk_count(part: PartHeader, *, multi_part: bool) -> int:
    if multi_part or part.is_deep:
        raw = part.attributes.get("chunkCount", ("", b""))[1]
        if len(raw) != 4:
            raise Broken("has no chunk count in its header")
        return struct.unpack("<i", raw)[0]
    width, height = part.chunk_size
    return -(-part.data.width // width) * -(-part.data.height // height)


def _check_last_chunk(
    header: _Header, parts: Sequence[PartHeader], tables: Sequence[np.ndarray], *, multi_part: bool
) -> None:
    """The last chunk ends where the file ends."""
    last, owner = max((int(table.max()), index) for index, table in enumerate(tables))
    header.file.seek(last + (4 if multi_part else 0))
    header.take(16 if parts[owner].is_tiled else 4)
    if parts[owner].is_deep:
        table, packed, _ = header.unpack("<QQQ")
        length = table + packed
    else:
        (length,) = header.unpack("<i")
    if header.file.tell() + length != header.size:
        raise Broken("is incomplete: its last chunk does not end where the file ends")


def check_chunks(raw: memoryview, layout: Layout) -> None:
    """Every chunk of a whole file names the part and the place it is listed for, and ends inside the file."""
    for index, (part, table) in enumerate(zip(layout.parts, layout.tables, strict=True)):
        chunk = np.arange(len(table))
        width, height = part.chunk_size
        if part.is_tiled:
            across = -(-part.data.width // width)
            place = [chunk % across, chunk // across, 0 * chunk, 0 * chunk]
        else:
            place = [part.data.top + chunk * height]
        expected = np.stack([*([0 * chunk + index] if layout.multi_part else []), *place], axis=-1)
        head = 4 * expected.shape[1] + 4
        if int(table.max()) + head > len(raw):
            raise Broken("does not decode: a chunk is cut short")
        found = np.frombuffer(raw, np.uint8)[table[:, None] + np.arange(head)].view("<i4")
        sizes = found[:, -1]
        if not np.array_equal(found[:, :-1], expected):
            raise Broken("does not decode: its chunks are not where its header says")
        if sizes.min() < 0 or (table + head + sizes).max() > len(raw):
            raise Broken("does not decode: a chunk is cut short")
        if int(sizes.sum()) * COMPRESSIONS[part.compression][2] < part.bytes_unpacked:
            raise Broken("does not decode: its chunks cannot hold the pixels its header promises")


# --------------------------------------------------------------------------- writing


def plain_header(layout: Layout) -> bytes:
    """The header of a file with nothing in it that decoding does not need."""
    headers = [_plain(part, str(index)) for index, part in enumerate(layout.parts)]
    return header_bytes(headers, multi_part=layout.multi_part, tiled=layout.parts[0].is_tiled)


def _plain(part: PartHeader, name: str) -> dict[str, tuple[str, bytes]]:
    data = part.data
    corners = struct.pack("<4i", data.left, data.top, data.left + data.width - 1, data.top + data.height - 1)
    own = ("channels", "compression", "lineOrder", "tiles", "chunkCount")
    return {
        "name": ("string", name.encode()),
        "type": ("string", part.storage.encode()),
        "dataWindow": ("box2i", corners),
        "displayWindow": ("box2i", bytes(16)),
        "lineOrder": ("lineOrder", b"\0"),
        "pixelAspectRatio": ("float", struct.pack("<f", 1)),
        "screenWindowCenter": ("v2f", bytes(8)),
        "screenWindowWidth": ("float", struct.pack("<f", 1)),
    } | {name: part.attributes[name] for name in own if name in part.attributes}


def header_bytes(headers: Sequence[Attributes], *, multi_part: bool, tiled: bool) -> bytes:
    """A file up to its table of chunks. `tiled` is said of a file of one part alone."""
    names = [word for header in headers for name, (kind, _) in header.items() for word in (name, kind)]
    long_names = any(len(_name_bytes(name)) > 31 for name in names)
    flags = 0x10 * multi_part | 0x04 * long_names | 0x02 * (tiled and not multi_part)
    pieces = [struct.pack("<II", MAGIC, 2 | flags << 8)]
    for header in headers:
        for name, (kind, raw) in header.items():
            pieces.append(_name_bytes(name) + b"\0" + _name_bytes(kind) + b"\0" + struct.pack("<i", len(raw)) + raw)
        pieces.append(b"\0")
    return b"".join([*pieces, b"\0" * multi_part])


def _name_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def with_header(file: bytes | memoryview, layout: Layout, header: bytes) -> list[bytes | memoryview]:
    """The pieces of a file with another header: its table of chunks is moved, the chunks are the same."""
    table = np.concatenate(layout.tables) + (len(header) - layout.header_bytes)
    chunks = memoryview(file)[layout.header_bytes + table.nbytes :]
    return [header, table.astype("<u8").tobytes(), chunks]


def first_chunk(raw: memoryview, layout: Layout, index: int) -> bytes:
    """A file of one part, made of the first chunk of a part of `raw`: what its header says of it, in little."""
    part = layout.parts[index]
    start = int(layout.tables[index][0]) + (4 if layout.multi_part else 0)
    head = 20 if part.is_tiled else 8
    (size,) = struct.unpack_from("<i", raw, start + head - 4)
    width, height = part.chunk_size
    window = replace(part.data, width=min(width, part.data.width), height=min(height, part.data.height))
    header = header_bytes([_plain(replace(part, data=window), "")], multi_part=False, tiled=part.is_tiled)
    return header + struct.pack("<Q", len(header) + 8) + raw[start : start + head + size]
