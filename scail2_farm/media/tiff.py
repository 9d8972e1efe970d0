"""TIFF files: what their tags say, and a file made of tags and codes.

Hides the directory of tags. OpenImageIO decodes and encodes the pixels, in the plate's own compression; then the
plate's own tags are put back in place of what it made of them, all but those that tell where the pixels lie. So the
resolution, the profile, the text and tags that nobody here knows stay as they were.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import OpenImageIO as oiio

from scail2_farm.media.broken import Broken

# the tags that are read here, by their names in the specification
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION = 256, 257, 258, 259, 262, 270
STRIPS, ORIENTATION, SAMPLES, STRIP_BYTES, X_RESOLUTION, Y_RESOLUTION = 273, 274, 277, 279, 282, 283
UNIT, TILES, TILE_BYTES, SUB_FILES, EXTRA_SAMPLES, SAMPLE_FORMAT, PROFILE = 296, 324, 325, 330, 338, 339, 34675
STRUCTURE = frozenset(  # what tells how the pixels lie, and what points into the file
    (*(WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, 266, STRIPS, SAMPLES, 278, STRIP_BYTES, 284, 317, 322, 323),
     *(TILES, TILE_BYTES, SUB_FILES, SAMPLE_FORMAT, 347, 34665, 34853, 40965))
)  # fmt: skip
LAYERS = 37724  # of Photoshop, which would show them in place of the picture
COMPRESSIONS = {1: "none", 5: "lzw", 8: "zip", 32946: "zip", 32773: "packbits"}
PHOTOMETRICS = {0: "white is zero", 3: "a palette", 4: "a transparency mask", 5: "CMYK", 6: "YCbCr", 8: "CIE L*a*b*"}
UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
SIZES = UNITS | {5: 8, 10: 8}  # bytes of one value by type; of a fraction each half is a unit
MOST_PACKED = 2000  # how much smaller than their pixels strips can be at most
FIX = "write it as one picture of gray or RGB, 8 or 16 bits or 32-bit float, not compressed or by LZW, ZIP or PackBits"

PixelType = Literal["uint8", "uint16", "float"]
PIXEL_TYPES: dict[tuple[int, int], PixelType] = {(8, 1): "uint8", (16, 1): "uint16", (32, 3): "float"}  # bits, form
Tags = Mapping[int, tuple[int, int, bytes]]  # type, count and little-endian values by tag


@dataclass(frozen=True, slots=True)
class TiffHeader:
    """What a file says about itself; `big` files have 64-bit offsets."""

    width: int
    height: int
    channels: tuple[str, ...]
    pixel_type: PixelType
    alpha: Literal["associated", "unassociated"] | None
    compression: str
    tags: Tags
    order: Literal["<", ">"]
    big: bool

    @property
    def pixel_aspect(self) -> float:
        """The width of a pixel by its height; 1 when the file does not say."""
        across, down = (numbers(self.tags, tag) for tag in (X_RESOLUTION, Y_RESOLUTION))
        if len(across) != 2 or len(down) != 2 or 0 in (*across, *down):
            return 1.0
        aspect = down[0] * across[1] / (down[1] * across[0])
        return aspect if 0.1 < aspect < 10 else 1.0


def numbers(tags: Tags, tag: int) -> tuple[int, ...]:
    """The whole numbers of a tag, of a fraction both halves; empty when it is absent or of another type."""
    kind, _, raw = tags.get(tag, (0, 0, b""))
    letter = {1: "B", 3: "H", 4: "I", 5: "I", 13: "I", 16: "Q"}.get(kind)
    return struct.unpack(f"<{len(raw) // UNITS[kind]}{letter}", raw) if letter else ()


# --------------------------------------------------------------------------- reading


def parse(file: BinaryIO, size: int) -> TiffHeader:
    """What the tags of a file of `size` bytes say, and that all its pixels are there; none is decoded.

    Raises Broken.
    """
    front = file.read(16).ljust(16, b"\0")
    order: Literal["<", ">"] | None = "<" if front[:2] == b"II" else ">" if front[:2] == b"MM" else None
    version = struct.unpack(f"{order}H", front[2:4])[0] if order else 0
    if order is None or version not in (42, 43):
        raise Broken("is not a TIFF file")
    big = version == 43
    place = struct.unpack_from(f"{order}Q", front, 8)[0] if big else struct.unpack_from(f"{order}I", front, 4)[0]
    tags, following = _directory(file, place, size, order=order, big=big)
    if following or SUB_FILES in tags:
        raise Broken("holds more than one picture (pages or a thumbnail)", fix=FIX)
    header = _header(tags, order=order, big=big)
    _check_pixels(header, size)
    return header


def _directory(file: BinaryIO, place: int, size: int, *, order: str, big: bool) -> tuple[Tags, int]:
    """The tags of the directory at `place`, and the place of the directory after it (0 for none)."""

    def take(count: int, place: int) -> bytes:
        if place < 8 or place + count > size:
            raise Broken("is incomplete or damaged: its directory lies past its end")
        file.seek(place)
        return file.read(count)

    counter, entry, pointer = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    start = place + struct.calcsize(f"={counter}")
    (entries,) = struct.unpack(f"{order}{counter}", take(start - place, place))
    length = struct.calcsize(f"={entry}")
    if entries > 4096:
        raise Broken("is damaged in its directory")
    listed = take(entries * length, start)
    tags: dict[int, tuple[int, int, bytes]] = {}
    for tag, kind, count, raw in struct.iter_unpack(f"{order}{entry}", listed):
        if kind not in SIZES:
            continue
        wanted = SIZES[kind] * count
        if wanted > len(raw):
            raw = take(wanted, struct.unpack(f"{order}{pointer}", raw)[0])
        tags[tag] = kind, count, _turned(raw[:wanted], kind, order)
    (following,) = struct.unpack(f"{order}{pointer}", take(8 if big else 4, start + len(listed)))
    return tags, following


def _turned(raw: bytes, kind: int, order: str) -> bytes:
    """Values between a byte order and little-endian."""
    return raw if order == "<" else np.frombuffer(raw, f">u{UNITS[kind]}").astype(f"<u{UNITS[kind]}").tobytes()


def _header(tags: Tags, *, order: Literal["<", ">"], big: bool) -> TiffHeader:
    def one(tag: int, otherwise: int) -> int:
        return (*numbers(tags, tag), otherwise)[0]

    samples, photometric, code = one(SAMPLES, 1), one(PHOTOMETRIC, -1), one(COMPRESSION, 1)
    bits, kinds = set(numbers(tags, BITS)) or {1}, set(numbers(tags, SAMPLE_FORMAT)) or {1}
    color = {1: ("Y",), 2: ("R", "G", "B")}.get(photometric, ())
    pixel_type = PIXEL_TYPES.get((max(bits), max(kinds)))
    if not color or len(color) > samples:
        raise Broken(f"is TIFF of {PHOTOMETRICS.get(photometric, 'unknown colours')}", fix=FIX)
    if len(bits) > 1 or len(kinds) > 1 or pixel_type is None:
        form = {1: "", 2: " signed", 3: " float"}.get(max(kinds), " undefined")
        raise Broken(f"is TIFF of {' and '.join(map(str, sorted(bits)[:4]))} bits{form}", fix=FIX)
    if code not in COMPRESSIONS:
        raise Broken(f"is compressed in a way that could not be given back (code {code})", fix=FIX)
    if one(ORIENTATION, 1) != 1:
        what = f"is to be turned when it is shown (orientation {one(ORIENTATION, 1)})"
        raise Broken(what, fix="write it the way up it is seen, with orientation 1")
    if not 0 < samples - len(color) + 1 <= 64:
        raise Broken(f"has {samples} channels", fix=FIX)
    extra = (*numbers(tags, EXTRA_SAMPLES), *[0] * samples)[: samples - len(color)]
    alphas = [index for index, kind in enumerate(extra) if kind in (1, 2)][:1]
    others = ("A" if index in alphas else f"channel{len(color) + index}" for index in range(len(extra)))
    return TiffHeader(
        width=one(WIDTH, 0),
        height=one(HEIGHT, 0),
        channels=(*color, *others),
        pixel_type=pixel_type,
        alpha=("associated" if extra[alphas[0]] == 1 else "unassociated") if alphas else None,
        compression=COMPRESSIONS[code],
        tags=tags,
        order=order,
        big=big,
    )


def _check_pixels(header: TiffHeader, size: int) -> None:
    """Every strip or tile lies inside the file, and together they can hold the picture."""
    tiled = TILES in header.tags
    places = numbers(header.tags, TILES if tiled else STRIPS)
    lengths = numbers(header.tags, TILE_BYTES if tiled else STRIP_BYTES)
    if not places or len(places) != len(lengths):
        raise Broken("is damaged: it does not tell where its pixels lie")
    if any(place < 8 or place + length > size for place, length in zip(places, lengths, strict=True)):
        raise Broken("is incomplete: some of its pixels lie past its end")
    depth = {"uint8": 1, "uint16": 2, "float": 4}[header.pixel_type]
    wanted = header.width * header.height * len(header.channels) * depth
    if not wanted or sum(lengths) * (1 if header.compression == "none" else MOST_PACKED) < wanted:
        raise Broken("is incomplete: it has too few bytes for its size")


# --------------------------------------------------------------------------- writing


def new_spec(width: int, height: int) -> oiio.ImageSpec:
    """What OpenImageIO is to write for a new file: RGB of 16 bits, ZIP."""
    spec = oiio.ImageSpec(width, height, 3, oiio.UINT16)
    spec["compression"] = "zip"
    return spec


def new_tags(*, pixel_aspect: float) -> Tags:
    """The tags of a new file: the shape of a pixel, as a resolution without a unit."""
    aspect = Fraction(pixel_aspect).limit_denominator(1000)
    across, down = (struct.pack("<II", 1, 1), struct.pack("<II", aspect.numerator, aspect.denominator))
    return {X_RESOLUTION: (5, 1, across), Y_RESOLUTION: (5, 1, down), UNIT: (3, 1, struct.pack("<H", 1))}


def write(path: Path, codes: np.ndarray, *, spec: oiio.ImageSpec) -> None:
    """Write `codes` (H, W, channels) as `spec` says.

    Raises OSError.
    """
    output = oiio.ImageOutput.create("tiff")
    assert output is not None, "OpenImageIO has TIFF in it"
    if not (output.open(str(path), spec) and output.write_image(codes) and output.close()):
        raise _disk_fault(path, output.geterror() or oiio.geterror())
    try:
        with path.open("rb") as file:
            parse(file, os.fstat(file.fileno()).st_size)
    except Broken as fault:  # the library does not notice every write that failed
        raise _disk_fault(path, str(fault)) from None


def _text(text: str) -> tuple[int, int, bytes]:
    raw = text.encode("ascii", "replace") + b"\0"
    return 2, len(raw), raw


def _disk_fault(path: Path, error: str) -> OSError:
    """The system's own error where a file could not be written: the library does not tell it, so we ask again."""
    try:
        with path.open("ab") as file:
            file.write(bytes(2**20))
    except OSError as found:
        return found
    return OSError(errno.EIO, error.strip() or "it could not be written")


def put_tags(path: Path, tags: Tags, *, description: str) -> None:
    """Give a file that `write` wrote other tags: `tags`, and of its own those that tell how the pixels lie.

    The description is written where `tags` has none; Photoshop's layers, which show the plate as it was, are left out.
    Raises OSError.
    """
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        own = parse(file, size)
        kept = {tag: value for tag, value in tags.items() if tag not in STRUCTURE and (own.big or value[0] < 16)}
        kept.pop(LAYERS, None)
        if description:
            kept.setdefault(DESCRIPTION, _text(description))
        merged = kept | {tag: value for tag, value in own.tags.items() if tag in STRUCTURE}
        place = size + size % 2
        file.seek(place)
        file.write(_listed(merged, place, own))
        file.seek(8 if own.big else 4)
        file.write(struct.pack(f"{own.order}{'Q' if own.big else 'I'}", place))


def _listed(tags: Tags, place: int, form: TiffHeader) -> bytes:
    """A directory that stands at `place`, with its values behind it."""
    counter, pointer = ("Q", "Q") if form.big else ("H", "I")
    inline = 8 if form.big else 4
    listed = struct.pack(f"{form.order}{counter}", len(tags))
    behind = b""
    start = place + len(listed) + len(tags) * (4 + 2 * inline) + inline
    for tag, (kind, count, raw) in sorted(tags.items()):
        value = _turned(raw, kind, form.order)
        if len(value) > inline:
            where = start + len(behind)
            behind += value + b"\0" * (len(value) % 2)
            value = struct.pack(f"{form.order}{pointer}", where)
        listed += struct.pack(f"{form.order}HH{pointer}", tag, kind, count) + value.ljust(inline, b"\0")
    return listed + bytes(inline) + behind
