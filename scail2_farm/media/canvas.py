"""Plate geometry <-> the model's canvas: the size, the resize, the padding; and references fitted to it.

The canvas keeps the plate's display aspect: the picture lies in its middle (the active box) and its edge is
repeated around it, because the model fills black bars with inventions. Resizing is Pillow's bicubic in float, which
filters when it reduces: OpenCV's does not, and aliases two hundred times as much (colour.md §5). Down in linear light
and up in log: no ringing around highlights, and the energy of small lights kept. What a bicubic enlargement overshoots
is clamped to the range of the samples around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

STEP = 32  # both sides of the model's picture are multiples of it
LARGEST = 65504.0  # what an infinite plate value becomes on its way to the model


@dataclass(frozen=True, slots=True)
class Canvas:
    """The model's picture, and where the plate lies in it; `active` is left, top, width, height."""

    width: int
    height: int
    active: tuple[int, int, int, int]
    plate_width: int
    plate_height: int

    @classmethod
    def fit(cls, width: int, height: int, *, pixel_aspect: float, budget: tuple[int, int]) -> Canvas:
        """The canvas for a plate of this size: sides multiples of 32, area within that of `budget` (width, height).

        Of all such canvases the one that shows the plate largest at its display aspect; of equals, the smallest.
        """
        area = budget[0] * budget[1]
        if min(width, height) < 1 or area < STEP * STEP:
            raise ValueError(f"no canvas for a plate of {width}x{height} within {budget[0]}x{budget[1]}")
        aspect = width * pixel_aspect / height
        best: tuple[float, int, int, int] | None = None
        for across in range(STEP, area // STEP + 1, STEP):
            down = area // across // STEP * STEP
            shown = min(across, down * aspect)
            for tall in {down, max(STEP, min(down, -(-int(shown / aspect) // STEP) * STEP))}:
                fits = min(across, tall * aspect)
                candidate = (fits * fits / aspect, -across * tall, across, tall)
                best = max(best, candidate) if best else candidate
        assert best is not None, "the area holds at least one step"
        across, tall = best[2:]
        shown_width = max(1, min(across, round(min(across, tall * aspect))))
        shown_height = max(1, min(tall, round(min(tall, across / aspect))))
        active = ((across - shown_width) // 2, (tall - shown_height) // 2, shown_width, shown_height)
        return cls(across, tall, active, width, height)

    def to_canvas(self, rgb: np.ndarray) -> np.ndarray:
        """A plate picture (H, W, 3) as the model's, (height, width, 3) float32; NaN and Inf do not spread.

        A picture of the active size goes through unchanged. Linear light stays linear, and is clamped to >= 0 where
        the filter rings and the plate had nothing below.
        """
        self._expect(rgb)
        clean = finite(rgb)
        _, _, width, height = self.active
        shown = resize(clean, width, height)
        if shown is not clean:
            floor = np.minimum(clean.min(axis=(0, 1)), 0.0).astype(np.float32)
            shown = np.maximum(shown, floor)
        return self._padded(shown)

    def labels_to_canvas(self, labels: np.ndarray) -> np.ndarray:
        """A label map (H, W) uint8 of the plate as the model's, by nearest: labels are never blended."""
        self._expect(labels)
        _, _, width, height = self.active
        return self._padded(resize_nearest(labels, width, height))

    def from_canvas(self, rgb: np.ndarray, *, log: bool) -> np.ndarray:
        """The active box of a canvas picture (height, width, 3) at the plate's size, float32.

        `log` enlarges in a log encoding, for scene-linear values. What an enlargement overshoots is clamped to the
        range of the neighbouring samples; a picture of the plate's size comes through unchanged.
        """
        if rgb.shape != (self.height, self.width, 3):
            raise ValueError(f"a canvas of {self.width}x{self.height} does not hold a picture of {rgb.shape}")
        left, top, width, height = self.active
        shown = np.ascontiguousarray(rgb[top : top + height, left : left + width], np.float32)
        if (width, height) == (self.plate_width, self.plate_height):
            return shown
        if self.plate_width < width or self.plate_height < height:
            return np.maximum(resize(shown, self.plate_width, self.plate_height), np.minimum(shown.min(), 0.0))
        samples = to_log(shown) if log else shown
        lowest, highest = _local_range(samples)
        grown = resize(samples, self.plate_width, self.plate_height)
        np.maximum(grown, resize_nearest(lowest, self.plate_width, self.plate_height), out=grown)
        np.minimum(grown, resize_nearest(highest, self.plate_width, self.plate_height), out=grown)
        return from_log(grown) if log else grown

    def _expect(self, picture: np.ndarray) -> None:
        if picture.shape[:2] != (self.plate_height, self.plate_width):
            raise ValueError(f"{picture.shape} is not a picture of {self.plate_width}x{self.plate_height}")

    def _padded(self, shown: np.ndarray) -> np.ndarray:
        left, top, width, height = self.active
        return pad_edges(shown, left, top, self.width - left - width, self.height - top - height)


# --------------------------------------------------------------------------- references


def fit_still(image: np.ndarray, mask: np.ndarray | None, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """A reference (H, W, 3) letterboxed into width x height, never cropped, its edge repeated around it.

    The mask (H, W) comes along by nearest, 0 around; without a mask the whole image is the character. Returns the
    picture, float32 in 0..1, and the mask, (height, width) bool.
    """
    tall, across = image.shape[:2]
    if mask is not None and mask.shape != (tall, across):
        raise ValueError(f"the mask {mask.shape} is not of the image's size {(tall, across)}")
    scale = min(width / across, height / tall)
    shown_width, shown_height = max(1, round(across * scale)), max(1, round(tall * scale))
    left, top = (width - shown_width) // 2, (height - shown_height) // 2
    right, bottom = width - left - shown_width, height - top - shown_height
    shown = np.clip(resize(image.astype(np.float32, copy=False), shown_width, shown_height), 0.0, 1.0)
    inside = np.ones((tall, across), np.uint8) if mask is None else (mask >= 0.5).astype(np.uint8)
    placed = np.pad(resize_nearest(inside, shown_width, shown_height), ((top, bottom), (left, right)))
    return pad_edges(shown, left, top, right, bottom), placed.astype(np.bool_)


def compose_references(
    references: Sequence[tuple[np.ndarray, np.ndarray | None, int]], canvas: Canvas
) -> tuple[np.ndarray, np.ndarray]:
    """One reference picture of all characters: (image (H, W, 3), mask (H, W) or None, slot number) each.

    A single character has the whole canvas; several stand side by side in equal columns, in the order given.
    Returns the picture (height, width, 3) float32 sRGB and its labels (height, width) uint8, 0 for background.
    """
    if not references:
        raise ValueError("a reference picture needs at least one character")
    rgb = np.empty((canvas.height, canvas.width, 3), np.float32)
    labels = np.zeros((canvas.height, canvas.width), np.uint8)
    edges = [round(index * canvas.width / len(references)) for index in range(len(references) + 1)]
    for (image, mask, slot), left, right in zip(references, edges, edges[1:], strict=False):
        shown, inside = fit_still(image, mask, right - left, canvas.height)
        rgb[:, left:right] = shown
        labels[:, left:right][inside] = slot
    return rgb, labels


# --------------------------------------------------------------------------- pixels


def finite(rgb: np.ndarray) -> np.ndarray:
    """The picture as float32 without NaN (0) and Inf (the largest half, of its sign); itself when it has none."""
    picture = rgb.astype(np.float32, copy=False)
    if np.isfinite(picture).all():
        return picture
    return np.nan_to_num(picture, nan=0.0, posinf=LARGEST, neginf=-LARGEST)


def resize(rgb: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W, channels) float32 by antialiased bicubic; the very same array when the size is the same."""
    if rgb.shape[:2] == (height, width):
        return rgb
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(rgb[..., index])).resize((width, height), Image.Resampling.BICUBIC)
        )
        for index in range(rgb.shape[2])
    ]
    return np.stack(planes, axis=-1)


def resize_nearest(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W) or (H, W, channels) of any type; each new pixel is the old one its centre falls in."""
    rows = ((np.arange(height) + 0.5) * values.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * values.shape[1] / width).astype(np.intp)
    return values[rows[:, None], columns[None, :]]


def pad_edges(values: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """The picture with its edge repeated this far out on each side."""
    around = ((top, bottom), (left, right)) + ((0, 0),) * (values.ndim - 2)
    return np.pad(values, around, mode="edge")


def to_log(linear: np.ndarray) -> np.ndarray:
    """Scene-linear to the ACEScct curve (S-2016-001); straight below its toe, so negatives survive."""
    above = np.maximum(linear, np.float32(0.0078125))
    return np.where(
        linear <= 0.0078125,
        np.float32(10.5402377416545) * linear + np.float32(0.0729055341958355),
        (np.log2(above) + np.float32(9.72)) / np.float32(17.52),
    ).astype(np.float32)


def from_log(coded: np.ndarray) -> np.ndarray:
    """The inverse of `to_log`."""
    toe = np.float32(0.155251141552511)
    return np.where(
        coded <= toe,
        (coded - np.float32(0.0729055341958355)) / np.float32(10.5402377416545),
        np.exp2(np.maximum(coded, toe) * np.float32(17.52) - np.float32(9.72)),
    ).astype(np.float32)


def _local_range(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest of each sample and its eight neighbours, per channel."""

    def spread(values: np.ndarray, choose: np.ufunc) -> np.ndarray:
        for axis in (0, 1):
            lines = np.moveaxis(values, axis, 0)
            before, after = np.concatenate([lines[:1], lines[:-1]]), np.concatenate([lines[1:], lines[-1:]])
            values = np.moveaxis(choose(choose(before, lines), after), 0, axis)
        return values

    return spread(rgb, np.minimum), spread(rgb, np.maximum)
