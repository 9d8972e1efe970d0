"""Video code values <-> RGB, by our own matrix in float.

Why not swscale: untagged input decodes as BT.601 whatever its size, its white is 65280 of 65535, and it clips
super-white (colour.md §4). Here black is 0.0, white is 1.0, and what lies beyond survives.

Chroma is interpolated linearly on reading, from where its samples lie: on the left luma sample across and midway
between two lines down, unless the file says another siting. It is written at that same siting ("left": H.264, HEVC,
ProRes, DNx), filtered 1-2-1 across and 1-1 down.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Matrix = Literal["601", "709", "2020"]
Siting = Literal["left", "centre", "topleft", "top"]
"""Where a chroma sample lies: on a luma sample across (left, topleft) and down (topleft, top), else midway of two."""
LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {
    "601": (0.299, 0.114),
    "709": (0.2126, 0.0722),
    "2020": (0.2627, 0.0593),
}
"""Red and blue weights of luma; green is the rest."""


def to_rgb(luma: np.ndarray, cb: np.ndarray, cr: np.ndarray, *, matrix: Matrix, bits: int, legal: bool) -> np.ndarray:
    """Full-size planes of code values -> (H, W, 3) float32; not clipped."""
    red, blue = LUMA_WEIGHTS[matrix]
    black, luma_range, centre, chroma_range = _levels(bits, legal=legal)
    y = luma.astype(np.float32) - np.float32(black)
    u = cb.astype(np.float32) - np.float32(centre)
    v = cr.astype(np.float32) - np.float32(centre)
    y *= np.float32(1 / luma_range)
    rgb = np.empty((*luma.shape, 3), np.float32)
    rgb[..., 0] = y + np.float32(2 * (1 - red) / chroma_range) * v
    rgb[..., 2] = y + np.float32(2 * (1 - blue) / chroma_range) * u
    green = 1 - red - blue
    u *= np.float32(2 * (1 - blue) * blue / green / chroma_range)
    v *= np.float32(2 * (1 - red) * red / green / chroma_range)
    rgb[..., 1] = y - u - v
    return rgb


def from_rgb(rgb: np.ndarray, *, matrix: Matrix, bits: int, legal: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(..., 3) RGB -> full-size luma, Cb and Cr code values as float64, neither rounded nor clipped."""
    red, blue = LUMA_WEIGHTS[matrix]
    black, luma_range, centre, chroma_range = _levels(bits, legal=legal)
    r, g, b = (rgb[..., index].astype(np.float64) for index in range(3))
    y = red * r + (1 - red - blue) * g + blue * b
    cb = (b - y) / (2 * (1 - blue))
    cr = (r - y) / (2 * (1 - red))
    return y * luma_range + black, cb * chroma_range + centre, cr * chroma_range + centre


def to_codes(values: np.ndarray, *, bits: int) -> np.ndarray:
    """Code values rounded to integers and clipped to what the interface allows (the reserved ends stay free)."""
    reserved = 1 << (bits - 8)
    return np.clip(np.rint(values), reserved, (1 << bits) - 1 - reserved).astype(np.uint16)


def chroma_to_full(plane: np.ndarray, *, width: int, height: int, siting: Siting = "left") -> np.ndarray:
    """A chroma plane at half or quarter width, half height, or both, interpolated to full size as float32."""
    full = plane.astype(np.float32)
    while full.shape[0] < height:
        full = _doubled(full, axis=0, on_luma=siting in ("topleft", "top"))
    full = full[:height]
    while full.shape[1] < width:
        full = _doubled(full, axis=1, on_luma=siting in ("left", "topleft"))
    return full[:, :width]


def chroma_to_half_width(plane: np.ndarray) -> np.ndarray:
    """A full-size chroma plane of even width at half width: 1-2-1 around every second sample."""
    before = np.concatenate([plane[:, :1], plane[:, 1:-1:2]], axis=1)
    return (before + 2 * plane[:, 0::2] + plane[:, 1::2]) / 4


def chroma_to_half_height(plane: np.ndarray) -> np.ndarray:
    """A chroma plane of even height at half height: the mean of two lines, midway between them."""
    return (plane[0::2] + plane[1::2]) / 2


def _levels(bits: int, *, legal: bool) -> tuple[float, float, float, float]:
    """Black, the range of luma, the neutral chroma and the range of chroma, in code values."""
    if legal:
        step = 1 << (bits - 8)
        return 16.0 * step, 219.0 * step, 128.0 * step, 224.0 * step
    return 0.0, (1 << bits) - 1.0, float(1 << (bits - 1)), (1 << bits) - 1.0


def _doubled(plane: np.ndarray, *, axis: int, on_luma: bool) -> np.ndarray:
    """Twice the lines (axis 0) or columns (1), from samples lying on every second of them, else midway between two."""
    full = np.empty([size * (1 + (axis == index)) for index, size in enumerate(plane.shape)], plane.dtype)
    few, many = plane.swapaxes(0, axis), full.swapaxes(0, axis)
    if on_luma:
        many[0::2] = few
        many[1:-1:2] = (few[:-1] + few[1:]) * 0.5
        many[-1] = few[-1]
    else:
        quarter = few * 0.25
        many[0::2] = many[1::2] = few - quarter
        many[2::2] += quarter[:-1]
        many[1:-1:2] += quarter[1:]
        many[0], many[-1] = few[0], few[-1]
    return full
