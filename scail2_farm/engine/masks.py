"""Who is where, as the network reads it: colour masks and their 28 channels (engine.md §3).

A mask is an RGB picture in seven saturated colours. Each of 7 colour classes becomes a coverage map at 1/8 size, and 4
frames of them stack into 28 channels. Thresholds are taken on the 8-bit values, in integers: the usual float
normalisation puts the value 225 on either side of the threshold depending on how it is written.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

IDENTITIES: dict[str, tuple[int, int, int]] = {
    "blue": (0, 0, 255),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
    "yellow": (255, 255, 0),
}
WHITE, BLACK = (255, 255, 255), (0, 0, 0)  # this background is, or is not, to be seen in the output

THRESHOLD = 225  # an 8-bit channel is on strictly above this
NO_CLASS = 7
# class of a pixel by 4*red + 2*green + blue: white, red, green, blue, yellow, magenta, cyan are 0..6, black is none
CLASS = np.array([NO_CLASS, 3, 2, 6, 1, 5, 4, 0], dtype=np.uint8)


def driving_background(*, replace: bool) -> tuple[int, int, int]:
    """The colour behind the performers: white when the plate's world stays (replacement), else black."""
    return WHITE if replace else BLACK


def reference_background(*, replace: bool) -> tuple[int, int, int]:
    """The colour behind the character of a reference: the opposite of the driving mask's."""
    return BLACK if replace else WHITE


def paint(labels: Bytes, *, background: tuple[int, int, int], slots: Sequence[str] = tuple(IDENTITIES)) -> Bytes:
    """Colour a label map: 0 is the background, k the k-th of `slots`. (..., H, W) uint8 -> (..., H, W, 3) uint8.

    Raises ValueError for a label without a slot and KeyError for a slot that is not one of the six colours.
    """
    if labels.size and labels.max() > len(slots):
        raise ValueError(f"label {labels.max()} has no slot; there are {len(slots)}")
    return np.array([background, *(IDENTITIES[slot] for slot in slots)], dtype=np.uint8)[labels]


def area_pooling(size: int) -> Floats:
    """The matrix that takes `size` pixels to ceil(size/8) cells, each the mean of the pixels it touches.

    (cells, size) float32. At a multiple of 8 every cell is the mean of 8 pixels, exactly.
    """
    cells = -(-size // 8)
    matrix = np.zeros((cells, size), dtype=np.float32)
    for cell in range(cells):
        first, end = cell * size // cells, -(-(cell + 1) * size // cells)
        matrix[cell, first:end] = 1 / (end - first)
    return matrix


def _coverage(on: NDArray[np.bool_]) -> Floats:
    """Colour classes of (px, H, W, 3) switches, pooled to 28 channels over groups of 4 frames: (28, T, h, w)."""
    pixels = len(on)
    if pixels % 4 != 1:
        raise ValueError(f"a mask track has 4n+1 frames, not {pixels}")
    classes = CLASS[(on * np.array([4, 2, 1], dtype=np.uint8)).sum(axis=-1, dtype=np.uint8)]  # (px, H, W)
    down, right = area_pooling(on.shape[1]), area_pooling(on.shape[2]).T
    cover = np.stack([down @ (classes == c).astype(np.float32) @ right for c in range(NO_CLASS)], axis=1)
    groups = np.concatenate([cover[:1], cover[:1], cover[:1], cover])  # the first frame fills its group alone
    packed = groups.reshape(-1, 4 * NO_CLASS, *cover.shape[2:])  # (T, 4*7, h, w)
    return np.ascontiguousarray(packed.swapaxes(0, 1))


def pack(rgb: Bytes) -> Floats:
    """A mask track (px, H, W, 3) uint8 as the network reads it: (28, T, H/8, W/8) float32, T = 1 + (px-1)/4."""
    return _coverage(rgb > THRESHOLD)


def pack_half(rgb: Bytes) -> Floats:
    """The same at half size, for the driving mask: 2x2 means first, then the threshold. (28, T, H/16, W/16)."""
    pixels, height, width, _ = rgb.shape
    if height % 2 or width % 2:
        raise ValueError(f"a mask of {width}x{height} cannot be halved")
    sums = rgb.reshape(pixels, height // 2, 2, width // 2, 2, 3).sum(axis=(2, 4), dtype=np.uint16)
    return _coverage(sums > 4 * THRESHOLD)
