"""Plates of integers, DPX, TIFF and PNG: examined, read, and written back with only the matte's pixels changed.

Hides which of the three a file is. What is kept besides the pixels is the file's own: a DPX is its own bytes with some
codes changed, a PNG has its own chunks, a TIFF its own tags (`dpx`, `png`, `tiff`). All is read as it is stored:
alpha stays unassociated where it is, nothing is turned, scaled or converted; and what could not be given back so is
refused in words. Any number of threads may read at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Literal, assert_never

import numpy as np
import OpenImageIO as oiio

from scail2_farm.documents import written_whole
from scail2_farm.media import dpx, png, tiff
from scail2_farm.media.broken import Broken, plate_faults
from scail2_farm.media.exr import OURS
from scail2_farm.media.stills import whiteness

SUFFIXES = (".dpx", ".tif", ".tiff", ".png")
MAX_PIXELS = 2**28  # a 16K frame is half of it; beyond, a header is taken for broken
WHITES = {"uint8": 255, "uint10": 1023, "uint12": 4095, "uint16": 65535, "float": 1}

Format = Literal["dpx10", "tiff16", "png16"]


@dataclass(frozen=True, slots=True)
class RasterHeader:
    """What a file says about itself; `own` is that in the words of its kind.

    `channels` are Y or R, G, B, and A or `channelN` of others, in the order of the file. `color` is (source, value).
    """

    kind: Literal["dpx", "tiff", "png"]
    width: int
    height: int
    channels: tuple[str, ...]
    pixel_type: str
    pixel_aspect: float
    alpha: Literal["associated", "unassociated"] | None
    compression: str | None
    color: tuple[str, str] | None
    own: dpx.DpxHeader | png.PngHeader | tiff.TiffHeader

    @property
    def rate(self) -> Fraction | None:
        """The rate a DPX header says, or None."""
        return self.own.rate if isinstance(self.own, dpx.DpxHeader) else None

    def timecode(self, rate: Fraction) -> str | None:
        """The timecode a DPX header says, HH:MM:SS:FF (`;` before FF when drop-frame), or None."""
        return self.own.timecode(rate) if isinstance(self.own, dpx.DpxHeader) else None

    @property
    def bytes_unpacked(self) -> int:
        """What the pixels take uncompressed."""
        depth = {"uint8": 1, "float": 4}.get(self.pixel_type, 2)
        return self.width * self.height * len(self.channels) * depth


@dataclass(frozen=True, slots=True)
class RasterPixels:
    """A file as read: `codes` (H, W, channels) in its own type, and what is needed to write it again.

    `kept` is the whole file for DPX, what OpenImageIO read in the header for TIFF, nothing for PNG.
    """

    header: RasterHeader
    codes: np.ndarray
    kept: bytes | oiio.ImageSpec | None


# --------------------------------------------------------------------------- examining and reading


def examine(path: Path) -> RasterHeader:
    """What a complete DPX, TIFF or PNG says about itself, by its suffix; no pixel is decoded.

    Raises PlateMissing, PlateUnreadable for a file that is damaged, incomplete, or of a form that could not be given
    back, StorageError.
    """
    with plate_faults(path), path.open("rb") as file:
        header = _examined(file, path.suffix.lower())
        if not 0 < header.width * header.height <= MAX_PIXELS:
            raise Broken(f"has an impossible size of {header.width}x{header.height}")
        return header


def _examined(file: BinaryIO, suffix: str) -> RasterHeader:
    size = os.fstat(file.fileno()).st_size
    if suffix == ".dpx":
        own = dpx.parse(file.read(dpx.HEADER_BYTES), size)
        color = ("dpx", own.transfer) if own.transfer else None
        return _header("dpx", own, f"uint{own.layout.bits}", _alpha(own.channels), "none", color)
    if suffix == ".png":
        own = png.parse(file, size)
        return _header("png", own, f"uint{own.bits}", _alpha(own.channels), "zip", png.color(own))
    own = tiff.parse(file, size)
    profile = own.tags.get(tiff.PROFILE)
    color = ("iCCP", png.profile_words(profile[2]) or "a profile without a name") if profile else None
    return _header("tiff", own, own.pixel_type, own.alpha, own.compression, color)


def _alpha(channels: tuple[str, ...]) -> Literal["unassociated"] | None:
    return "unassociated" if "A" in channels else None


def _header(
    kind: Literal["dpx", "tiff", "png"],
    own: dpx.DpxHeader | png.PngHeader | tiff.TiffHeader,
    pixel_type: str,
    alpha: Literal["associated", "unassociated"] | None,
    compression: str,
    color: tuple[str, str] | None,
) -> RasterHeader:
    return RasterHeader(
        kind=kind,
        width=own.width,
        height=own.height,
        channels=own.channels,
        pixel_type=pixel_type,
        pixel_aspect=own.pixel_aspect,
        alpha=alpha,
        compression=compression,
        color=color,
        own=own,
    )


def read(path: Path) -> RasterPixels:
    """Read a plate frame whole.

    Raises PlateMissing, PlateUnreadable, StorageError.
    """
    header = examine(path)
    with plate_faults(path):
        if isinstance(header.own, dpx.DpxHeader):
            file = path.read_bytes()
            own = dpx.parse(file[: dpx.HEADER_BYTES], len(file))
            return RasterPixels(header, dpx.decode(file, own), file)
        codes, spec = _decoded(path, header)
        return RasterPixels(header, codes, spec if header.kind == "tiff" else None)


def _decoded(path: Path, header: RasterHeader) -> tuple[np.ndarray, oiio.ImageSpec]:
    as_stored = oiio.ImageSpec()
    as_stored["oiio:UnassociatedAlpha"] = 1
    image = oiio.ImageInput.open(str(path), as_stored)
    if image is None:
        raise Broken(f"does not open: {_first_line(oiio.geterror())}")
    try:
        spec = image.spec()
        codes = image.read_image(spec.format)
        error = image.geterror()
        if codes is None or error:
            raise Broken(f"does not decode: {_first_line(error)}")
        codes = codes.reshape(spec.height, spec.width, spec.nchannels)
        expected = np.dtype(np.float32 if header.pixel_type == "float" else header.pixel_type)
        if codes.shape != (header.height, header.width, len(header.channels)) or codes.dtype != expected:
            raise Broken(f"does not decode to what its header says ({codes.shape}, {codes.dtype})")
        return codes, spec
    finally:
        image.close()


def _first_line(error: str) -> str:
    return error.strip().splitlines()[0] if error.strip() else "the file is damaged"


def display_rgb(pixels: RasterPixels) -> np.ndarray:
    """The picture (H, W, 3) float32: codes by the largest code, gray in all three channels; float as it is."""
    names = pixels.header.channels
    order = [names.index(name) for name in (("Y",) * 3 if "Y" in names else "RGB")]
    rgb = pixels.codes[..., order].astype(np.float32)
    white = WHITES[pixels.header.pixel_type]
    return rgb if white == 1 else np.divide(rgb, np.float32(white), out=rgb)


def read_rgb(path: Path) -> np.ndarray:
    """The picture of a file, (H, W, 3) float32, as `display_rgb` has it.

    Raises PlateMissing, PlateUnreadable, StorageError.
    """
    return display_rgb(read(path))


def blackened(pixels: RasterPixels) -> RasterPixels:
    """The same file with 0 in every pixel of every channel."""
    black, kept, own = np.zeros_like(pixels.codes), pixels.kept, pixels.header.own
    if isinstance(own, dpx.DpxHeader):
        assert isinstance(kept, bytes)
        kept = bytes(dpx.rewritten(kept, own, black, np.ones(len(black), np.bool_)))
    return replace(pixels, codes=black, kept=kept)


# --------------------------------------------------------------------------- writing


def write_back(
    path: Path,
    pixels: RasterPixels,
    *,
    rgb: np.ndarray,
    where: np.ndarray,
    attributes: Mapping[str, object],
    own_time: bool = True,
) -> None:
    """Write a file as it was read, with the colours replaced where `where` is true.

    `rgb` (H, W, 3) float32 and `where` (H, W) bool cover the picture. Values become codes by rounding, clipped to the
    range of the codes, and 0 when they are no number; a gray plate gets the luma. All other codes and channels are as
    they were. A DPX header says the time and rate of `attributes` where it says none itself, and ours as creator and
    project where those are empty; a PNG carries our attributes as text, a TIFF as its description when it has none.
    Without `own_time` the time in a DPX header is another frame's and is not kept.

    Raises StorageError.
    """
    if rgb.shape != (*pixels.codes.shape[:2], 3) or where.shape != rgb.shape[:2] or where.dtype != np.bool_:
        raise ValueError(f"rgb {rgb.shape} and where {where.shape} {where.dtype} do not fit {pixels.codes.shape}")
    codes = _replaced(pixels, rgb, where)
    own = pixels.header.own
    ours = {name: value for name, value in attributes.items() if name.startswith(OURS)}
    with written_whole(path) as part:
        if isinstance(own, dpx.DpxHeader):
            assert isinstance(pixels.kept, bytes)
            rows = np.asarray(where.any(axis=1))
            file = dpx.rewritten(pixels.kept, own, codes[rows], rows)
            if not own_time:
                dpx.forget_time(file, own)
            dpx.fill_in(file, own, attributes=attributes, texts=_dpx_texts(attributes))
            part.write_bytes(file)
        elif isinstance(own, png.PngHeader):
            part.write_bytes(png.encoded(codes, own.with_texts(ours)))
        else:
            assert isinstance(pixels.kept, oiio.ImageSpec)
            tiff.write(part, codes, spec=pixels.kept)
            tiff.put_tags(part, own.tags, description=_lines(ours))


def _replaced(pixels: RasterPixels, rgb: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The codes of a file with those of `rgb` where `where` is true."""
    names, codes = pixels.header.channels, pixels.codes.copy()
    chosen = rgb[where]
    if "Y" in names:
        chosen = whiteness(chosen, ("R", "G", "B"))[:, None]
    for index, name in enumerate("Y" if "Y" in names else "RGB"):
        codes[..., names.index(name)][where] = _codes(chosen[:, index], pixels.header.pixel_type)
    return codes


def _codes(values: np.ndarray, pixel_type: str) -> np.ndarray:
    if pixel_type == "float":
        return values.astype(np.float32)
    white = WHITES[pixel_type]
    whole = np.rint(np.clip(np.nan_to_num(values, nan=0.0), 0, 1) * np.float32(white))
    return whole.astype(np.uint8 if white == 255 else np.uint16)


def _dpx_texts(attributes: Mapping[str, object]) -> dict[int, str]:
    """The creator and the project a DPX header gets when it has none."""
    ours = {name.removeprefix(OURS): str(value) for name, value in attributes.items() if name.startswith(OURS)}
    if not ours:
        return {}
    version = ours.pop("version", "")
    project = " ".join(f"{name}={value}" for name, value in ours.items())
    return {dpx.CREATOR: f"{OURS[:-1]} {version}".strip(), dpx.PROJECT: project}


def _lines(attributes: Mapping[str, object]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in attributes.items())


def write_rgb(path: Path, rgb: np.ndarray, *, format: Format, attributes: Mapping[str, object]) -> None:
    """Write an (H, W, 3) picture as a new file: 10-bit DPX, or TIFF (ZIP) or PNG of 16 bits.

    Values in 0..1 become codes by rounding, others the nearest code. Attributes: timeCode as 'HH:MM:SS:FF' (`;` before
    FF when drop-frame), framesPerSecond as Fraction, pixelAspectRatio as float, colorInteropID and our own as str. In
    a DPX header each has its field, the colour when it is one of the few the format has a word for; TIFF and PNG carry
    all of them as text, PNG the colour as cICP or sRGB where there is a code for it.

    Raises StorageError.
    """
    codes = _codes(np.ascontiguousarray(rgb, np.float32), "uint10" if format == "dpx10" else "uint16")
    height, width = codes.shape[:2]
    with written_whole(path) as part:
        if format == "dpx10":
            file = dpx.new_file(codes, attributes=attributes, texts=_dpx_texts(attributes))
            part.write_bytes(file)
        elif format == "tiff16":
            tiff.write(part, codes, spec=tiff.new_spec(width, height))
            tags = tiff.new_tags(pixel_aspect=float(str(attributes.get("pixelAspectRatio", 1.0))))
            tiff.put_tags(part, tags, description=_lines(attributes))
        elif format == "png16":
            part.write_bytes(png.encoded(codes, png.new_header(width, height, attributes)))
        else:
            assert_never(format)
