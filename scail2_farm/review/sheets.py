"""The contact sheet of a shot: before, after, what changed, and who is where, a row per frame.

One picture answers the first three questions of a review: is the right person replaced, is the rest untouched, do
the mattes fit. Pillow and numpy only; pictures come in as a display shows them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SLOT_COLORS: Mapping[str, tuple[int, int, int]] = {
    "blue": (64, 104, 255),
    "red": (240, 64, 56),
    "green": (56, 200, 88),
    "magenta": (224, 72, 216),
    "cyan": (48, 204, 216),
    "yellow": (236, 208, 56),
}
"""How a slot is shown, in the order of the numbers 1 to 6 of a label map; softer than the model's pure colours."""

COLUMNS = ("before", "after", "difference x8", "mattes")
GAIN = 8.0
TILE_WIDTH, TILE_WIDEST, TILE_TALLEST = 320, 480, 480
TOUCHED = 0.12  # how bright the least difference is shown: what was touched at all can be seen
GROUND, TEXT, QUIET = (32, 32, 32), (226, 226, 226), (150, 150, 150)
MATTE_STRENGTH = 0.6


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One frame: `before` and `after` (H, W, 3) display-referred in 0..1, `labels` (H, W) uint8 slot numbers."""

    label: str
    before: np.ndarray
    after: np.ndarray
    labels: np.ndarray


def write_sheet(
    path: Path, *, title: str, rows: Sequence[SheetRow], cast: Mapping[str, str], pixel_aspect: float = 1.0
) -> None:
    """Write the sheet as PNG; `cast` is slot names (SLOT_COLORS) by character. It appears whole.

    Raises OSError as it is: a sheet is written beside a delivery that is already safe. ValueError without rows.
    """
    sheet = draw_sheet(title=title, rows=rows, cast=cast, pixel_aspect=pixel_aspect)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            sheet.save(file, format="PNG")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def draw_sheet(
    *, title: str, rows: Sequence[SheetRow], cast: Mapping[str, str], pixel_aspect: float = 1.0
) -> Image.Image:
    """The sheet as a picture: a title, a heading per column, four tiles per row with its frame, and a legend."""
    if not rows:
        raise ValueError("a sheet has at least one row")
    tall, across = rows[0].before.shape[:2]
    tile_width, tile_height = _tile_size(across, tall, pixel_aspect)
    em = max(15, min(20, tile_width // 22))
    small, large = ImageFont.load_default(em), ImageFont.load_default(em * 3 // 2)
    margin, gap = em * 3 // 2, em // 2 + 2
    left = margin + gap + max(round(small.getlength(row.label)) for row in rows)
    lefts = [left + index * (tile_width + gap) for index in range(len(COLUMNS))]
    headings, top = margin + em * 2, margin + em * 7 // 2
    width, height = lefts[-1] + tile_width + margin, top + len(rows) * (tile_height + gap) + em * 3
    sheet = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((margin, margin - em // 2), _shortened(title, large, width - 2 * margin), TEXT, large)
    for x, column in zip(lefts, COLUMNS, strict=True):
        draw.text((x, headings), column, QUIET, small)
    for index, row in enumerate(rows):
        y = top + index * (tile_height + gap)
        draw.text((margin, y + tile_height // 2), row.label, TEXT, small, anchor="lm")
        for x, picture in zip(lefts, _tiles(row), strict=True):
            sheet.paste(_fitted(picture, tile_width, tile_height), (x, y))
    _draw_legend(draw, small, em, y=height - em * 2 + gap // 2, left=left, right=width - margin, cast=cast)
    return sheet


def _tile_size(width: int, height: int, pixel_aspect: float) -> tuple[int, int]:
    """Large pictures are reduced, small ones enlarged by a whole factor so that their pixels stay sharp."""
    width = max(1, round(width * pixel_aspect))
    if width < TILE_WIDTH and height < TILE_TALLEST:
        times = max(1, min(-(-TILE_WIDTH // width), TILE_TALLEST // height))
        return width * times, height * times
    scale = min(TILE_WIDEST / width, TILE_TALLEST / height, 1.0)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _tiles(row: SheetRow) -> tuple[np.ndarray, ...]:
    """The four pictures of a row, display-referred."""
    if not row.before.shape == row.after.shape == (*row.labels.shape, 3):
        raise ValueError(f"before {row.before.shape}, after {row.after.shape} and labels {row.labels.shape} differ")
    difference = np.abs(row.after - row.before).max(axis=2, keepdims=True)
    shown = np.where(difference > 0, np.maximum(difference * GAIN, TOUCHED), 0.0)
    return row.before, row.after, np.repeat(shown, 3, axis=2), _painted(row.before, row.labels)


def _painted(picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The picture in gray with each character's slot colour over it, and a full-strength line at its edge."""
    gray = (picture @ np.array([0.2126, 0.7152, 0.0722])) * 0.7
    painted = np.repeat(gray[..., None], 3, axis=2)
    colors = np.array([(0, 0, 0), *SLOT_COLORS.values()], np.float64)[labels] / 255.0
    inside = labels > 0
    painted[inside] = painted[inside] * (1 - MATTE_STRENGTH) + colors[inside] * MATTE_STRENGTH
    around = np.pad(labels, 1, mode="edge")
    neighbours = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    edge = inside & np.logical_or.reduce([neighbour != labels for neighbour in neighbours])
    painted[edge] = colors[edge]
    return painted


def _fitted(picture: np.ndarray, width: int, height: int) -> Image.Image:
    codes = np.rint(np.clip(np.nan_to_num(picture), 0.0, 1.0) * 255).astype(np.uint8)
    enlarged = width >= codes.shape[1]
    return Image.fromarray(codes).resize(
        (width, height), Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX
    )


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    em: int,
    *,
    y: int,
    left: int,
    right: int,
    cast: Mapping[str, str],
) -> None:
    x = left
    for place, (character, slot) in enumerate(cast.items()):
        room = (right - x) // (len(cast) - place) - em * 3
        name = _shortened(character, font, room)
        draw.rectangle((x, y - em // 2, x + em, y + em // 2), fill=SLOT_COLORS[slot])
        draw.text((x + em * 3 // 2, y), name, TEXT, font, anchor="lm")
        x += em * 3 + round(font.getlength(name))


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
