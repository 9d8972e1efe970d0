"""Still pictures: the references characters are made from, and the raster files mattes may come in.

PNG, JPEG and TIFF of 8 or 16 bits by OpenImageIO, with unassociated alpha (it would premultiply by default). A
reference is display-referred: its code values are taken as sRGB, which is what the model was trained on. The
orientation a camera noted is applied, since a reference lying on its side is never what was meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import OpenImageIO as oiio

from scail2_farm.errors import SubmissionInvalid, Where, storage_error
from scail2_farm.media.broken import Absent, Broken

STILL_FORMATS = ("png", "jpeg", "tiff")
FIX = "export the picture again as PNG, JPEG or TIFF of 8 or 16 bits"


@dataclass(frozen=True, slots=True)
class Still:
    """A reference: `rgb` (H, W, 3) float32 sRGB in 0..1, `alpha` (H, W) float32 or None when the file has none."""

    rgb: np.ndarray
    alpha: np.ndarray | None


def read_still(path: Path) -> Still:
    """Read a reference image.

    Raises SubmissionInvalid when it is absent, damaged or of another kind; StorageError.
    """
    try:
        pixels, names = read_raster(path)
    except Broken as fault:
        raise _unusable(path, fault, key="image") from None
    alpha = pixels[..., names.index("A")] if "A" in names else None
    color = [index for index, name in enumerate(names) if name != "A"]
    rgb = pixels[..., color[:3]] if len(color) >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    return Still(np.ascontiguousarray(rgb), None if alpha is None else np.ascontiguousarray(alpha))


def read_mask(path: Path) -> np.ndarray:
    """Read the mask of a reference, (H, W) float32 in 0..1: white is the character, alpha is not read.

    Raises SubmissionInvalid, StorageError.
    """
    try:
        pixels, names = read_raster(path)
    except Broken as fault:
        raise _unusable(path, fault, key="mask") from None
    return whiteness(pixels, names)


def _unusable(path: Path, fault: Broken, *, key: str) -> SubmissionInvalid:
    """The fault of a still or mask that the library names with `key`."""
    fix = f"put {path} there, or correct `{key}:`" if isinstance(fault, Absent) else FIX
    return SubmissionInvalid(f"{path.name} {fault}", fix=fix, where=Where(file=str(path)))


def read_raster(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """The pixels (H, W, channels) float32 in 0..1 of a PNG, JPEG or TIFF, and the channel names (Y or R, G, B; A).

    Raises Broken, StorageError.
    """
    image = _open(path)
    try:
        spec = image.spec()
        pixels = image.read_image(spec.format)
        error = image.geterror()
        if pixels is None or error:
            raise Broken(f"does not decode: {_first_line(error)}")
        white = 255 if pixels.dtype == np.uint8 else 65535
        values = pixels.astype(np.float32) / np.float32(white)  # OpenImageIO's own conversion is a bit off in places
        return _upright(values, _orientation(spec)), tuple(spec.channelnames)
    finally:
        image.close()


def whiteness(pixels: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """How white each pixel is, (H, W) float32: a gray channel as it is, of R, G and B the Rec.709 luma; never alpha.

    Gray written as three equal channels gives exactly that gray.
    """
    if len([name for name in names if name != "A"]) < 3:
        return np.ascontiguousarray(pixels[..., 0], np.float32)
    red, green, blue = (pixels[..., index].astype(np.float32) for index in range(3))
    gray = (red == green) & (green == blue)
    if gray.all():
        return red
    luma = np.float32(0.2126) * red + np.float32(0.7152) * green + np.float32(0.0722) * blue
    return np.where(gray, red, luma)


def _open(path: Path) -> oiio.ImageInput:
    wanted = oiio.ImageSpec()
    wanted["oiio:UnassociatedAlpha"] = 1
    try:
        path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError):
        raise Absent("is not there") from None
    except IsADirectoryError:
        raise Broken("is a folder") from None
    except OSError as error:
        raise storage_error(error, path) from error
    image = oiio.ImageInput.open(str(path), wanted)
    if image is None:
        raise Broken(f"does not open: {_first_line(oiio.geterror())}")
    spec = image.spec()
    if image.format_name() not in STILL_FORMATS or str(spec.format) not in ("uint8", "uint16"):
        image.close()
        raise Broken(f"is {image.format_name()} of type {spec.format}; PNG, JPEG or TIFF of 8 or 16 bits is read")
    if spec.width * spec.height > 2**28 or spec.nchannels > 5:
        image.close()
        raise Broken(f"is not a still picture ({spec.width}x{spec.height}, {spec.nchannels} channels)")
    return image


def _first_line(error: str) -> str:
    return error.strip().splitlines()[0] if error.strip() else "the file is damaged"


def _orientation(spec: oiio.ImageSpec) -> int:
    return int(spec.get_int_attribute("Orientation", 1))


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The picture as the EXIF orientation (1 to 8) says it is to be shown."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
