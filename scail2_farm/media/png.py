"""PNG files: what their chunks say, and a file made of chunks and codes.

Hides the chunks. A plate is written with its own chunks around new pixels, so that its colour tags, resolution, text
and whatever else it carries stay byte for byte, and a file that says nothing of its colour goes on saying nothing.
That is why the writer is ours: OpenImageIO gives every file colour chunks of its own. It decodes them well.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from scail2_farm.media.broken import Broken

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: ("Y",), 2: ("R", "G", "B"), 4: ("Y", "A"), 6: ("R", "G", "B", "A")}
MOST_PACKED = 1032  # how much smaller than its content a deflate stream can be at most
INTENTS = ("perceptual", "relative colorimetric", "saturation", "absolute colorimetric")
TAGGED = {  # the chunk that names a space
    "srgb_rec709_display": (b"sRGB", bytes([0])),
    "g24_rec709_display": (b"cICP", bytes([1, 1, 0, 1])),
    "srgb_p3d65_display": (b"cICP", bytes([12, 13, 0, 1])),
    "pq_rec2020_display": (b"cICP", bytes([9, 16, 0, 1])),
    "hlg_rec2020_display": (b"cICP", bytes([9, 18, 0, 1])),
}
REC709 = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)  # white, red, green, blue, in cHRM's units
SIZES = {b"cICP": 4, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9}  # of the chunks that are read here
FIX = "write it as PNG of 8 or 16 bits, gray or RGB, with or without alpha"

Chunk = tuple[bytes, bytes]  # its name and its content


@dataclass(frozen=True, slots=True)
class PngHeader:
    """What a file says about itself; `before` and `after` are its chunks around the pixels."""

    width: int
    height: int
    bits: int
    channels: tuple[str, ...]
    before: tuple[Chunk, ...] = ()
    after: tuple[Chunk, ...] = ()

    def with_texts(self, texts: Mapping[str, object]) -> PngHeader:
        """The header with texts in place of those of the same names."""
        before, after = (
            tuple(one for one in chunks if _name(one) not in texts) for chunks in (self.before, self.after)
        )
        return replace(
            self, before=before + tuple(_text(name, str(value)) for name, value in texts.items()), after=after
        )

    def chunk(self, name: bytes) -> bytes | None:
        """The content of the first chunk of a name, or None."""
        return next((content for known, content in self.before + self.after if known == name), None)

    @property
    def pixel_aspect(self) -> float:
        """The width of a pixel by its height; 1 when the file does not say."""
        across, down, _ = struct.unpack(">IIB", self.chunk(b"pHYs") or bytes(9))
        aspect = down / across if across else 0
        return aspect if 0.1 < aspect < 10 else 1.0


def parse(file: BinaryIO, size: int) -> PngHeader:
    """What the chunks of a file of `size` bytes say, and that all of them are there; no pixel is decoded.

    Raises Broken.
    """
    if file.read(8) != SIGNATURE:
        raise Broken("is not a PNG file")
    header: PngHeader | None = None
    around: tuple[list[Chunk], list[Chunk]] = ([], [])
    packed, name = 0, b""
    while name != b"IEND":
        front = file.read(8)
        length, name = struct.unpack(">I4s", front) if len(front) == 8 else (size, b"")
        if length + 4 > size - file.tell():
            raise Broken("is incomplete: it ends in the middle of a chunk")
        if name == b"IDAT":
            packed += length
            file.seek(length + 4, 1)
            continue
        content = file.read(length)
        whole = zlib.crc32(content, zlib.crc32(name)) == struct.unpack(">I", file.read(4))[0]
        if not whole or length != SIZES.get(name, length):
            raise Broken(f"is damaged in its {name.decode() if name.isalpha() else 'header or a'} chunk")
        if name == b"IHDR":
            header = _header(content)
        elif name != b"IEND":
            around[packed > 0].append((name, content))
    if header is None:
        raise Broken("is damaged: it has no header")
    if packed * MOST_PACKED < header.width * header.height * len(header.channels) * header.bits // 8:
        raise Broken("is damaged: its pixels are too few bytes for its size")
    header = replace(header, before=tuple(around[0]), after=tuple(around[1]))
    _refuse_odd(header)
    return header


def _header(content: bytes) -> PngHeader:
    if len(content) != 13:
        raise Broken("is damaged in its header")
    width, height, bits, kind = struct.unpack(">IIBB3x", content)
    if kind == 3 or bits not in (8, 16) or kind not in CHANNELS:
        raise Broken("is PNG with a palette" if kind == 3 else f"is PNG of {bits} bits", fix=FIX)
    return PngHeader(width, height, bits, CHANNELS[kind])


def _refuse_odd(header: PngHeader) -> None:
    if header.chunk(b"acTL") is not None:
        raise Broken("is an animated PNG", fix="write its frames as a sequence of PNG files")
    if header.chunk(b"tRNS") is not None:
        raise Broken("is PNG with one colour that is transparent", fix="write it with an alpha channel")
    if (code := header.chunk(b"cICP")) and not code[3]:
        raise Broken("is PNG of narrow range (cICP)", fix="write it in full range")


def color(header: PngHeader) -> tuple[str, str] | None:
    """What the file says about its colour, as (chunk, value), by the precedence of the PNG specification.

    cICP: primaries/transfer/matrix as in movies; iCCP: what the profile calls itself; sRGB: the rendering intent;
    gAMA: the number, when the primaries are not said or are those of Rec.709.
    """
    if code := header.chunk(b"cICP"):
        return "cICP", "/".join(str(number) for number in code[:3])
    if profile := header.chunk(b"iCCP"):
        name, _, packed = profile.partition(b"\0")
        return "iCCP", _profile_words(packed[1:]) or name.decode("latin-1")
    if intent := header.chunk(b"sRGB"):
        return "sRGB", INTENTS[min(intent[0], len(INTENTS) - 1)]
    gamma, primaries = header.chunk(b"gAMA"), header.chunk(b"cHRM") or struct.pack(">8I", *REC709)
    if gamma and np.allclose(np.frombuffer(primaries, ">u4"), REC709, rtol=0, atol=500):
        return "gAMA", f"{int.from_bytes(gamma) / 100000:g}"
    return None


def _profile_words(packed: bytes) -> str:
    try:
        return profile_words(zlib.decompressobj().decompress(packed, 2**22))
    except zlib.error:
        return ""


def profile_words(profile: bytes) -> str:
    """What an ICC profile calls itself; empty when it cannot be read."""
    place = profile.find(b"desc", 132)
    if len(profile) < 144 or place < 0 or place + 12 > len(profile):
        return ""
    start, length = struct.unpack_from(">II", profile, place + 4)
    said = profile[start : start + length]
    if said[:4] == b"desc" and len(said) >= 12:
        (count,) = struct.unpack_from(">I", said, 8)
        return said[12 : 12 + count].split(b"\0")[0].decode("latin-1")
    if said[:4] == b"mluc" and len(said) >= 28:
        count, begin = struct.unpack_from(">II", said, 20)
        return said[begin : begin + count].decode("utf-16-be", "replace").rstrip("\0")
    return ""


def _text(name: str, value: str) -> Chunk:
    return b"iTXt", name.encode("latin-1", "replace")[:79] + b"\0\0\0\0\0" + value.encode()


def _name(chunk: Chunk) -> str:
    """The name of a text; empty for other chunks."""
    kind, content = chunk
    return content.partition(b"\0")[0].decode("latin-1") if kind in (b"tEXt", b"zTXt", b"iTXt") else ""


def new_header(width: int, height: int, attributes: Mapping[str, object]) -> PngHeader:
    """The header of a new file of RGB in 16 bits.

    All attributes become text; colorInteropID a colour chunk besides, where there is one that says the same, and
    pixelAspectRatio the physical size of a pixel.
    """
    said = TAGGED.get(str(attributes.get("colorInteropID")))
    aspect = Fraction(str(attributes.get("pixelAspectRatio", 1.0))).limit_denominator(10_000)
    shape = (b"pHYs", struct.pack(">IIB", aspect.denominator, aspect.numerator, 0))
    before = (*([said] if said else []), *([shape] if aspect != 1 else []))
    return PngHeader(width, height, 16, CHANNELS[2], before).with_texts(attributes)


def encoded(codes: np.ndarray, header: PngHeader) -> bytes:
    """A file of `codes` (H, W, channels) uint8 or uint16 as the header says; compressed for speed, lossless."""
    depth = header.bits // 8
    kind = next(kind for kind, names in CHANNELS.items() if names == header.channels)
    lines = np.ascontiguousarray(codes, f">u{depth}").view(np.uint8).reshape(header.height, -1)
    filtered = np.empty((header.height, 1 + lines.shape[1]), np.uint8)
    filtered[:, 0] = 2  # every line as the difference to the one above
    filtered[0, 1:] = lines[0]
    np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    pixels = packer.compress(filtered.data) + packer.flush()
    front = struct.pack(">IIBBBBB", header.width, header.height, header.bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", front), *header.before, (b"IDAT", pixels), *header.after, (b"IEND", b"")]
    return SIGNATURE + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))
