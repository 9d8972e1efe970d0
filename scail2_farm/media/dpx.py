"""DPX files (SMPTE ST 268): what a header says, the codes of the pixels, and the same file with some codes changed.

Hides where the fields lie and how codes are packed into words. A file is changed in its own bytes: header, user data
and padding stay as they are, and of the pixels only the words that hold a changed code. So what is delivered is the
plate's own file in all that the matte does not touch.

Our own reader and not OpenImageIO's, because that expands codes to 16 bits and writes a header of its own. Where the
standard is read in several ways (lines that do not end on a word, the order of 10-bit luma), this reads as FFmpeg does.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from scail2_farm.frames import exact_rate
from scail2_farm.media.broken import Broken

HEADER_BYTES = 2048
DESCRIPTORS = {6: ("Y",), 50: ("R", "G", "B"), 51: ("R", "G", "B", "A"), 52: ("A", "B", "G", "R")}
TRANSFERS = {
    1: "Printing density",
    2: "Linear",
    3: "Logarithmic",
    4: "Unspecified video",
    5: "SMPTE 274M",
    6: "ITU-R 709-4",
    7: "ITU-R 601-5 system B or G",
    8: "ITU-R 601-5 system M",
    9: "Composite video (NTSC)",
    10: "Composite video (PAL)",
    13: "ADX",
}
RGB, REC709, LINEAR, USER_DEFINED = 50, 6, 2, 0
TAGGED = {  # (transfer, colorimetric) of the spaces the header has a word for
    "g24_rec709_display": (REC709, REC709),
    "ocio:itu709_rec709_scene": (REC709, REC709),
    "lin_rec709_scene": (LINEAR, REC709),
}
FIX = "write it as DPX of one element: RGB, RGBA, ABGR or luma of 8, 10, 12 or 16 bits, not encoded"

# offsets of the fields that are read or written here
FILE_SIZE, CREATOR, PROJECT, IMAGE, ELEMENT, ASPECT = 16, 160, 260, 768, 780, 1628
KEY_CODE, FRAME_POSITION, FILM_RATE, TIMECODE, VIDEO_RATE = 1664, 1712, 1724, 1920, 1940
VIDEO_END = 1972  # of the fields of the television header
TEXT_PLACES = (  # text, user bits and reserved bytes: what is 0 where it says nothing
    *((8, 16), (36, 660), (820, 852), (1432, 1620), (1644, 1712), (1732, 1920), (1924, 1932), (1972, 2048)),
)
TEXTS = {CREATOR: 100, PROJECT: 200}  # bytes of the texts
UNDEFINED = 0xFFFFFFFF
DIGITS, DROP_FRAME = 0x3F7F7F7F, 0x40  # of a timecode; the bits between are flags


@dataclass(frozen=True, slots=True)
class Layout:
    """How codes lie in a line: in groups of `words`, the codes of a group at `places` (word, shift).

    `line` is the bytes of a line, `stride` those from one line to the next.
    """

    offset: int
    dtype: np.dtype[Any]
    bits: int
    words: int
    places: tuple[tuple[int, int], ...]
    line: int
    stride: int


@dataclass(frozen=True, slots=True)
class DpxHeader:
    """What a file says about itself; `order` is ">" or "<". A field left blank or undefined is None."""

    order: Literal[">", "<"]
    width: int
    height: int
    channels: tuple[str, ...]
    layout: Layout
    pixel_aspect: float
    rate: Fraction | None
    digits: int | None
    transfer: str | None

    def timecode(self, rate: Fraction) -> str | None:
        """HH:MM:SS:FF (`;` before FF when drop-frame), or None.

        Of the tens of frames two bits are the digit and the next is the drop-frame flag, as in SMPTE ST 12. Above 30
        frames a second the flag's place is a digit's, and no timecode is drop-frame.
        """
        if self.digits is None:
            return None
        drop = rate <= 30 and bool(self.digits & DROP_FRAME)
        digits = self.digits & ~DROP_FRAME if rate <= 30 else self.digits
        hours, minutes, seconds, frames = (f"{digits >> shift & 0xFF:02x}" for shift in (24, 16, 8, 0))
        return f"{hours}:{minutes}:{seconds}{';' if drop else ':'}{frames}"


# --------------------------------------------------------------------------- the header


def parse(head: bytes, size: int) -> DpxHeader:
    """What the first HEADER_BYTES of a file of `size` bytes say, and that all its pixels are there.

    Raises Broken.
    """
    order = ">" if head[:4] == b"SDPX" else "<"
    if head[:4] not in (b"SDPX", b"XPDS"):
        raise Broken("is not a DPX file")
    if len(head) < ELEMENT + 72:
        raise Broken("is cut short in its header")

    def field(layout: str, place: int) -> Any:
        there = place + struct.calcsize(layout) <= len(head) and place + 4 <= max(offset, ELEMENT + 72)
        return struct.unpack_from(order + layout, head, place)[0] if there else None

    (offset,) = struct.unpack_from(f"{order}I", head, 4)
    orientation, elements, width, height = struct.unpack_from(f"{order}HHII", head, IMAGE)
    sign, descriptor, transfer = field("I", ELEMENT), field("B", ELEMENT + 20), field("B", ELEMENT + 21)
    bits, packing, encoding = field("B", ELEMENT + 23), field("H", ELEMENT + 24), field("H", ELEMENT + 26)
    data, padding = field("I", ELEMENT + 28), field("I", ELEMENT + 32)
    if not (0 < width < 2**16 and 0 < height < 2**16):
        raise Broken(f"has an impossible size of {width}x{height}")
    odd = _odd(orientation=orientation, elements=elements, sign=sign, descriptor=descriptor, encoding=encoding)
    if odd:
        raise Broken(odd, fix=FIX)
    channels = DESCRIPTORS[descriptor]
    start = data if data not in (0, UNDEFINED) else offset
    padding = 0 if padding == UNDEFINED else padding
    codes, is_luma = width * len(channels), channels == ("Y",)
    layout = _layout(order, codes, bits, packing, luma=is_luma)
    filled = _layout(order, codes, bits, 1, luma=is_luma).line
    if bits == 10 and packing == 0 and size - start == filled * height != (layout.line + padding) * height:
        what = "says that its codes of 10 bits are packed, and is as long as if they were filled"
        raise Broken(what, fix="write it again as DPX of 10 bits, filled, method A")
    layout = _placed(layout, start, height, padding, size=size, said=field("I", FILE_SIZE))
    horizontal, vertical = field("I", ASPECT), field("I", ASPECT + 4)
    return DpxHeader(
        order=order,
        width=width,
        height=height,
        channels=channels,
        layout=layout,
        pixel_aspect=_aspect(horizontal, vertical),
        rate=_rate(field("f", VIDEO_RATE)) or _rate(field("f", FILM_RATE)),
        digits=_digits(field("I", TIMECODE), head[TIMECODE:VIDEO_END]),
        transfer=TRANSFERS.get(transfer),
    )


def _odd(*, orientation: int, elements: int, sign: int, descriptor: int, encoding: int) -> str:
    """What kind of DPX this is that is not read; empty when it is read."""
    if elements != 1:
        return f"is DPX of {elements} image elements"
    if orientation not in (0, 0xFFFF):
        return f"is DPX whose lines do not run left to right and top to bottom (orientation {orientation})"
    if encoding not in (0, 0xFFFF):
        return "is DPX in run-length encoding" if encoding == 1 else f"is DPX in an unknown encoding ({encoding})"
    if descriptor not in DESCRIPTORS:
        is_video = 100 <= descriptor <= 103
        return "is DPX of YCbCr" if is_video else f"is DPX of channels this reader does not know ({descriptor})"
    return "is DPX of signed codes" if sign == 1 else ""


def _aspect(horizontal: int | None, vertical: int | None) -> float:
    if horizontal in (None, 0, UNDEFINED) or vertical in (None, 0, UNDEFINED):
        return 1.0
    aspect = horizontal / vertical
    return aspect if 0.01 < aspect < 100 else 1.0


def _rate(value: float | None) -> Fraction | None:
    return exact_rate(value) if value is not None and math.isfinite(value) and 1 <= value <= 1000 else None


def _digits(value: int | None, television: bytes) -> int | None:
    """The timecode when it is one; zero in a television header that is all zero is one never filled in."""
    if value is None or value == UNDEFINED or not any(television):
        return None
    value &= DIGITS
    return value if all(value >> shift & 15 <= 9 for shift in range(0, 32, 4)) else None


# --------------------------------------------------------------------------- the pixels


def _layout(order: str, codes: int, bits: int, packing: int, *, luma: bool) -> Layout:
    """The layout of a line of `codes`, as if the pixels began at 0."""
    filled_a = packing == 1
    if not (bits in (8, 16) or (bits in (10, 12) and packing in (0, 1, 2))):
        raise Broken(f"is DPX of {bits} bits in packing {packing}", fix=FIX)
    if bits in (8, 16) or (bits == 12 and packing):
        dtype = np.dtype(np.uint8 if bits == 8 else f"{order}u2")
        places, words, size = ((0, 4 if bits == 12 and filled_a else 0),), 1, dtype.itemsize
        line = codes * size
    elif packing:
        pad = 2 if filled_a else 0
        shifts = (pad, pad + 10, pad + 20) if luma else (pad + 20, pad + 10, pad)
        dtype, words, places = np.dtype(f"{order}u4"), 1, tuple((0, shift) for shift in shifts)
        line = -(-codes // 3) * 4
    else:
        dtype, words = np.dtype(f"{order}u4"), bits // math.gcd(bits, 32)
        places = tuple(divmod(index * bits, 32) for index in range(words * 32 // bits))
        line = -(-codes * bits // 32) * 4
    return Layout(0, dtype, bits, words, places, line, line)


def _placed(layout: Layout, offset: int, height: int, padding: int, *, size: int, said: int) -> Layout:
    """The layout in a file of `size` bytes, whose header says it has `said`.

    Lines of 8 and 16 bits end on a word of 32 bits by the standard, and do not by many writers: the length tells.
    """
    there = size - offset
    loose, aligned = layout.line + padding, -(-layout.line // 4) * 4 + padding
    is_loose = there == loose * height or (said == size and there < aligned * height)
    stride = loose if is_loose else aligned
    if offset < ELEMENT + 72 or there < stride * (height - 1) + layout.line:
        wanted = offset + stride * height
        raise Broken(f"is incomplete: it has {size} bytes, its header speaks of {wanted}")
    return Layout(offset, layout.dtype, layout.bits, layout.words, layout.places, layout.line, stride)


def _lines(file: bytes | bytearray, header: DpxHeader) -> np.ndarray:
    """The lines in a file's own bytes, (H, bytes) uint8 without padding between them."""
    layout = header.layout
    shape, strides = (header.height, layout.line), (layout.stride, 1)
    return np.ndarray(shape, np.uint8, buffer=file, offset=layout.offset, strides=strides)


def _words(lines: np.ndarray, layout: Layout) -> np.ndarray:
    """(rows, groups, words) in this machine's order; a last group that the line cuts short is filled with 0."""
    words = np.ascontiguousarray(lines).view(layout.dtype)
    short = -words.shape[1] % layout.words
    words = np.pad(words, ((0, 0), (0, short))) if short else words
    return words.reshape(len(lines), -1, layout.words).astype(layout.dtype.newbyteorder("="))


def _unpacked(words: np.ndarray, layout: Layout) -> np.ndarray:
    """The codes in `words`, (rows, groups, codes of a group)."""
    size, mask = layout.dtype.itemsize * 8, (1 << layout.bits) - 1
    codes = np.empty((*words.shape[:2], len(layout.places)), np.uint8 if layout.bits == 8 else np.uint16)
    for index, (word, shift) in enumerate(layout.places):
        value = words[..., word] >> shift
        if shift + layout.bits > size:
            value |= words[..., word + 1] << (size - shift)
        codes[..., index] = value & mask
    return codes


def _pack(words: np.ndarray, codes: np.ndarray, layout: Layout) -> None:
    """Put `codes` into `words`; the bits that belong to no code stay."""
    size, mask = layout.dtype.itemsize * 8, (1 << layout.bits) - 1
    full = (1 << size) - 1
    for index, (word, shift) in enumerate(layout.places):
        value = codes[..., index].astype(words.dtype)
        words[..., word] = words[..., word] & (full ^ (mask << shift & full)) | value << shift
        if shift + layout.bits > size:
            below = size - shift
            words[..., word + 1] = words[..., word + 1] & (full ^ mask >> below) | value >> below


def decode(file: bytes, header: DpxHeader) -> np.ndarray:
    """The codes of a file, (H, W, channels) uint8 or uint16."""
    codes = _unpacked(_words(_lines(file, header), header.layout), header.layout)
    count = header.width * len(header.channels)
    return codes.reshape(header.height, -1)[:, :count].reshape(header.height, header.width, -1)


def rewritten(file: bytes, header: DpxHeader, codes: np.ndarray, rows: np.ndarray) -> bytearray:
    """A file with other codes in the lines where `rows` (H) bool is true: `codes` (rows, W, channels)."""
    changed, layout = bytearray(file), header.layout
    if not rows.any():
        return changed
    lines = _lines(changed, header)
    words = _words(lines[rows], layout)
    packed = _unpacked(words, layout)
    packed.reshape(len(words), -1)[:, : header.width * len(header.channels)] = codes.reshape(len(words), -1)
    _pack(words, packed, layout)
    lines[rows] = words.astype(layout.dtype).reshape(len(words), -1).view(np.uint8)[:, : layout.line]
    return changed


# --------------------------------------------------------------------------- what is written into a header


def forget_time(file: bytearray, header: DpxHeader) -> None:
    """Leave undefined what a header says of its own frame alone: timecode, key code, place in the sequence."""
    if header.layout.offset < HEADER_BYTES:
        return
    file[KEY_CODE : KEY_CODE + 16] = bytes(16)
    for place in (FRAME_POSITION, TIMECODE):
        struct.pack_into("<I", file, place, UNDEFINED)


def fill_in(file: bytearray, header: DpxHeader, *, attributes: Mapping[str, object], texts: Mapping[int, str]) -> None:
    """Write the time, the rate and the `texts` (by place) where a header says none; what it says already stands.

    `attributes`: timeCode as 'HH:MM:SS:FF', framesPerSecond as Fraction.
    """
    for place, text in texts.items():
        if file[place] in (0, 0xFF):
            room = TEXTS[place]
            file[place : place + room] = text.encode("ascii", "replace")[: room - 1].ljust(room, b"\0")
    if header.layout.offset < HEADER_BYTES:
        return
    rate, code = attributes.get("framesPerSecond"), attributes.get("timeCode")
    if isinstance(rate, Fraction) and header.rate is None:
        for place in (FILM_RATE, VIDEO_RATE):
            struct.pack_into(f"{header.order}f", file, place, float(rate))
    digits = _digits_of(code, rate) if isinstance(code, str) else None
    known = struct.unpack_from(f"{header.order}I", file, TIMECODE)[0]
    if digits is not None and (header.digits is None or known == UNDEFINED):
        struct.pack_into(f"{header.order}I", file, TIMECODE, digits)


def _digits_of(code: str, rate: object) -> int | None:
    """The eight digits of a timecode; None for drop-frame above 30 frames a second, which they cannot say."""
    drop = ";" in code
    if drop and not (isinstance(rate, Fraction) and rate <= 30):
        return None
    return int(code.replace(":", "").replace(";", ""), 16) | (DROP_FRAME if drop else 0)


def new_file(codes: np.ndarray, *, attributes: Mapping[str, object], texts: Mapping[int, str]) -> bytearray:
    """A big-endian file of `codes` (H, W, 3) in 10 bits, RGB, filled method A.

    Attributes besides those of `fill_in`: pixelAspectRatio as float, colorInteropID as str, which becomes the transfer
    and the colorimetric word where DPX has one and is left user-defined where it has none.
    """
    height, width = codes.shape[:2]
    size = HEADER_BYTES + width * height * 4
    file = bytearray(b"\xff" * HEADER_BYTES + bytes(width * height * 4))
    for start, end in TEXT_PLACES:
        file[start:end] = bytes(end - start)
    transfer, colorimetric = TAGGED.get(str(attributes.get("colorInteropID")), (USER_DEFINED, USER_DEFINED))
    struct.pack_into(">4sI8sIIIII", file, 0, b"SDPX", HEADER_BYTES, b"V2.0", size, 1, 1664, 384, 0)
    struct.pack_into(">HHII", file, IMAGE, 0, 1, width, height)
    element = (0, 0, math.nan, 1023, math.nan, RGB, transfer, colorimetric, 10, 1, 0, HEADER_BYTES, 0, 0)
    struct.pack_into(">IIfIfBBBBHHIII", file, ELEMENT, *element)
    aspect = Fraction(str(attributes.get("pixelAspectRatio", 1.0))).limit_denominator(10_000)
    struct.pack_into(">II", file, ASPECT, aspect.numerator, aspect.denominator)
    header = parse(bytes(file[:HEADER_BYTES]), size)
    fill_in(file, header, attributes=attributes, texts=texts)
    return rewritten(bytes(file), header, codes, np.ones(height, np.bool_))
