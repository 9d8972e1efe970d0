"""Video code values <-> RGB, by our own matrix in float.

Why not swscale: untagged input decodes as BT.601 whatever its size, its white is 65280 of 65535, and it clips
super-white (colour.md §4). Here black is 0.0, white is 1.0, and what lies beyond survives.

Chroma is taken to be sited on the left luma sample across and midway between two lines down (H.264, HEVC, ProRes,
DNx: the default of all of them). It is interpolated linearly on reading and filtered 1-2-1 on writing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Matrix = Literal["601", "709", "2020"]
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


def chroma_to_full(plane: np.ndarray, *, width: int, height: int) -> np.ndarray:
    """A chroma plane at half width, or half width and height, interpolated to full size as float32."""
    full = plane.astype(np.float32)
    if full.shape[0] != height:
        full = _double_midway(full)[:height]
    if full.shape[1] != width:
        full = _double_left(full)[:, :width]
    return full


def chroma_to_half_width(plane: np.ndarray) -> np.ndarray:
    """A full-size chroma plane of even width at half width: 1-2-1 around every second sample."""
    before = np.concatenate([plane[:, :1], plane[:, 1:-1:2]], axis=1)
    return (before + 2 * plane[:, 0::2] + plane[:, 1::2]) / 4


def _levels(bits: int, *, legal: bool) -> tuple[float, float, float, float]:
    """Black, the range of luma, the neutral chroma and the range of chroma, in code values."""
    if legal:
        step = 1 << (bits - 8)
        return 16.0 * step, 219.0 * step, 128.0 * step, 224.0 * step
    return 0.0, (1 << bits) - 1.0, float(1 << (bits - 1)), (1 << bits) - 1.0


def _double_left(plane: np.ndarray) -> np.ndarray:
    """Twice the columns: each sample, then its mean with the next."""
    after = np.concatenate([plane[:, 1:], plane[:, -1:]], axis=1)
    full = np.empty((plane.shape[0], plane.shape[1] * 2), plane.dtype)
    full[:, 0::2] = plane
    full[:, 1::2] = (plane + after) / 2
    return full


def _double_midway(plane: np.ndarray) -> np.ndarray:
    """Twice the lines: three quarters of the sample and a quarter of its neighbour above, then below."""
    above = np.concatenate([plane[:1], plane[:-1]])
    below = np.concatenate([plane[1:], plane[-1:]])
    full = np.empty((plane.shape[0] * 2, plane.shape[1]), plane.dtype)
    full[0::2] = plane * 0.75 + above * 0.25
    full[1::2] = plane * 0.75 + below * 0.25
    return full
