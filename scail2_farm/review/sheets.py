"""The sheet of a shot: before, after, a wipe between them, what changed, and who is where, a row per frame.

One picture answers the first questions of a review: is the right person replaced, does the join hold, is the rest
untouched, do the mattes fit. Pictures come in as the plate has them and are reduced before they are converted: a
display transform of every pixel of a frame takes a second, of a tile a twentieth. Only the difference is not
averaged: each of its pixels shows the one, of all it covers, that changed most, so that a single changed pixel of a
4K frame is seen. Pillow and numpy only; the way to a display is the caller's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
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

GAIN = 4.0
COLUMNS = ("before", "after", "wipe: before | after", f"difference x{GAIN:g}", "mattes", "performance")
TILE_WIDTH, TILE_WIDEST, TILE_TALLEST = 320, 464, 480
RING = 8  # pixels of a tile around what changed outside the matte
TOUCHED = 0.12  # how bright the least difference is shown: what was touched at all can be seen
GROUND, TEXT, QUIET = (32, 32, 32), (226, 226, 226), (150, 150, 150)
OUTLINE, ALARM, LINE = (70, 110, 150), (255, 90, 0), (255, 255, 255)
MATTE_STRENGTH = 0.6
WIPE_MARGIN = 0.15  # of what was replaced, left free around it
BRIGHTEST = 65504.0  # what an infinite value counts as where pixels are averaged
ROUNDING = 1 / 128  # a change as small is a frame of another class than the plate's, rounded

Display = Callable[[np.ndarray], np.ndarray]
"""(..., 3) float32 as the plate has it -> (..., 3) display-referred in 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performed:
    """What moved the characters in one frame in place of the plate: (H, W, 3) float32 as its clip has it, and roles.

    `labels` (H, W) uint8 are the slot numbers of those who take them.
    """

    picture: np.ndarray
    labels: np.ndarray
    to_display: Display
    pixel_aspect: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRow:
    """One frame: its label, and a tile (h, w, 3) uint8 per column; `stray`: it changed where it must not have.

    A frame that its own plate moves has none for a performance, the last column.
    """

    label: str
    tiles: tuple[np.ndarray, ...]
    stray: bool


@dataclass(frozen=True, slots=True)
class _Cells:
    """A picture divided into the cells that become the pixels of a tile: where rows and columns of cells begin."""

    rows: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(cls, shape: tuple[int, int], size: tuple[int, int]) -> _Cells:
        """Cells of a picture of `shape` (H, W) for a tile of `size` (w, h); never smaller than a pixel."""
        (tall, across), (width, height) = shape, size
        height, width = min(height, tall), min(width, across)
        return cls(np.arange(height) * tall // height, np.arange(width) * across // width)

    def greatest(self, values: np.ndarray) -> np.ndarray:
        """The greatest value in every cell of (H, W) values."""
        return np.maximum.reduceat(np.maximum.reduceat(values, self.rows, axis=0), self.columns, axis=1)

    def places_of_greatest(self, values: np.ndarray) -> np.ndarray:
        """Where in the flat picture the greatest of every cell stands; values are float32 and not negative."""
        order = np.ascontiguousarray(values).view(np.uint32).astype(np.uint64) << np.uint64(32)  # as floats are ordered
        order |= np.arange(values.size, dtype=np.uint64).reshape(values.shape)
        return (self.greatest(order) & np.uint64(0xFFFFFFFF)).astype(np.int64)


# --------------------------------------------------------------------------- the tiles of a frame


def sheet_row(
    label: str,
    *,
    before: np.ndarray,
    after: np.ndarray,
    labels: np.ndarray,
    matte: np.ndarray,
    to_display: Display,
    pixel_aspect: float = 1.0,
    exact: bool = True,
    performed: Performed | None = None,
) -> SheetRow:
    """The tiles of one frame.

    `before` and `after` (H, W, 3) float32 as the plate has them, `labels` (H, W) uint8 slot numbers, `matte` (H, W)
    the comp matte: where it is 0, no bit of an `exact` frame may differ. Of one that is not, a change as small as
    rounding to 10 bits counts as none. Raises ValueError for pictures that do not agree.
    """
    before, after = (np.ascontiguousarray(picture, np.float32) for picture in (before, after))
    if not before.shape == after.shape == (*labels.shape, 3) or matte.shape != labels.shape:
        shapes = f"before {before.shape}, after {after.shape}, labels {labels.shape} and matte {matte.shape}"
        raise ValueError(f"{shapes} differ")
    size = _tile_size(before.shape[1], before.shape[0], pixel_aspect)
    cells = _Cells.of(labels.shape, size)
    change = _change(before, after, exact=exact)
    stray = (change > 0) & (matte <= 0) if exact else np.zeros_like(labels, np.bool_)
    shown = to_display(_reduced(before, size))
    difference = _difference(before, after, change, cells, to_display)
    replaced = (labels > 0) | (change > 0)
    part = _around(replaced, size)
    tiles = (
        _fitted(shown, size),
        _fitted(to_display(_reduced(after, size)), size),
        _wipe(before, after, replaced, part, size, to_display),
        _fitted(_outlined(difference, cells.greatest(matte > 0), cells.greatest(stray)), size),
        _framed(_fitted(_painted(shown, cells.greatest(labels)), size), part, labels.shape),
        *(() if performed is None else (_performance(performed, size),)),
    )
    return SheetRow(label=label, tiles=tiles, stray=bool(stray.any()))


def _tile_size(width: int, height: int, pixel_aspect: float) -> tuple[int, int]:
    """Large pictures are reduced, small ones enlarged by a whole factor so that their pixels stay sharp."""
    width = max(1, round(width * pixel_aspect))
    if width < TILE_WIDTH and height < TILE_TALLEST:
        times = max(1, min(-(-TILE_WIDTH // width), TILE_TALLEST // height))
        return width * times, height * times
    scale = min(TILE_WIDEST / width, TILE_TALLEST / height, 1.0)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _reduced(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture (H, W, 3) averaged down to a tile's size in its own light; it is not enlarged."""
    tall, across = picture.shape[:2]
    size = min(size[0], across), min(size[1], tall)
    planes = (np.nan_to_num(picture[..., index], nan=0.0, posinf=BRIGHTEST, neginf=0.0) for index in range(3))
    if size == (across, tall):
        return np.stack(list(planes), axis=2)
    reduced = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX)) for plane in planes]
    return np.stack(reduced, axis=2)


def _change(before: np.ndarray, after: np.ndarray, *, exact: bool) -> np.ndarray:
    """How much each pixel changed, (H, W) float32 in 0..1, light and log codes alike enough; 0 where it did not."""
    touched = (before.view(np.uint32) != after.view(np.uint32)).any(axis=2)
    old, new = before[touched], after[touched]
    with np.errstate(invalid="ignore", over="ignore"):  # a plate may hold NaN and Inf; they count as the greatest
        much = np.nan_to_num(np.abs(new - old) / (0.18 + np.abs(new) + np.abs(old)), nan=1.0, posinf=1.0).max(axis=1)
    change = np.zeros(touched.shape, np.float32)
    change[touched] = np.maximum(much, np.float32(1e-30)) if exact else np.where(much > ROUNDING, much, 0.0)
    return change


def _difference(
    before: np.ndarray, after: np.ndarray, change: np.ndarray, cells: _Cells, to_display: Display
) -> np.ndarray:
    """How different the pixel of every cell looks that changed most, times GAIN, 0..1; what changed is not black."""
    places = cells.places_of_greatest(change)
    old, new = (picture.reshape(-1, 3)[places] for picture in (before, after))
    changed = change.reshape(-1)[places] > 0
    difference = np.zeros(places.shape, np.float32)
    if changed.any():
        apart = np.abs(to_display(new[changed]) - to_display(old[changed])).max(axis=1)
        difference[changed] = np.clip(apart * GAIN, TOUCHED, 1.0)
    return difference


def _outlined(difference: np.ndarray, matte: np.ndarray, stray: np.ndarray) -> np.ndarray:
    """The difference as a picture: a line just outside the matte; what changed out there in a ring, to be found."""
    picture = np.repeat(difference[..., None], 3, axis=2)
    picture[_grown(matte) & ~matte & (difference == 0)] = np.array(OUTLINE) / 255.0
    ring = _grown(stray, RING) & ~_grown(stray, RING - 2)
    picture[ring | stray] = np.array(ALARM) / 255.0
    return picture


def _grown(where: np.ndarray, times: int = 1) -> np.ndarray:
    """Where (h, w) bool and so many pixels around it."""
    for _ in range(times if where.any() else 0):
        around = np.pad(where, 1)
        where = np.logical_or.reduce([around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:], where])
    return where


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


def _performance(performed: Performed, size: tuple[int, int]) -> np.ndarray:
    """What moved the characters, painted with who takes which role, in the middle of a tile."""
    height, width = performed.labels.shape
    scale = min(size[0] / (width * performed.pixel_aspect), size[1] / height)
    own = max(1, round(width * performed.pixel_aspect * scale)), max(1, round(height * scale))
    shown = performed.to_display(_reduced(np.ascontiguousarray(performed.picture, np.float32), own))
    labels = _Cells.of(performed.labels.shape, own).greatest(performed.labels)
    tile = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - own[0]) // 2, (size[1] - own[1]) // 2
    tile[top : top + own[1], left : left + own[0]] = _fitted(_painted(shown, labels), own)
    return tile


# --------------------------------------------------------------------------- the wipe


def _wipe(
    before: np.ndarray,
    after: np.ndarray,
    replaced: np.ndarray,
    part: tuple[slice, slice],
    size: tuple[int, int],
    to_display: Display,
) -> np.ndarray:
    """The tile of a part of the picture: the frame before left of a line, the one after right of it.

    The line goes through the column with the most of it, which is through somebody.
    """
    counts = replaced[part].sum(axis=0)
    fullest = np.flatnonzero(counts == counts.max())
    longest = max(np.split(fullest, np.flatnonzero(np.diff(fullest) > 1) + 1), key=len)
    line = int(longest[len(longest) // 2])
    picture = after[part].copy()
    picture[:, :line] = before[part][:, :line]
    tile = _fitted(to_display(_reduced(picture, size)), size)
    tile[:, line * size[0] // picture.shape[1]] = LINE
    return tile


def _around(replaced: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the part that the wipe shows: all of `replaced`, as near as the tile holds it.

    It has the shape of the picture, and is not smaller than the tile, nor than the picture when that is.
    """
    tall, across = replaced.shape
    ys, xs = np.flatnonzero(replaced.any(axis=1)), np.flatnonzero(replaced.any(axis=0))
    if not ys.size:
        return slice(0, tall), slice(0, across)
    extents = ((int(ys[0]), int(ys[-1]) + 1, tall), (int(xs[0]), int(xs[-1]) + 1, across))
    share = max((last - first) * (1 + 2 * WIPE_MARGIN) / whole for first, last, whole in extents)
    share = min(1.0, max(share, size[1] / tall, size[0] / across))

    def part(first: int, last: int, whole: int) -> slice:
        length = max(1, round(whole * share))
        start = min(max(0, (first + last - length) // 2), whole - length)
        return slice(start, start + length)

    return part(*extents[0]), part(*extents[1])


def _framed(tile: np.ndarray, part: tuple[slice, slice], shape: tuple[int, int]) -> np.ndarray:
    """The tile of the whole picture with a frame around the part the wipe shows, unless it shows all."""
    if (part[0].stop - part[0].start, part[1].stop - part[1].start) != shape:
        (top, bottom), (left, right) = (
            (one.start * length // whole, one.stop * length // whole - 1)
            for one, length, whole in zip(part, tile.shape, shape, strict=False)
        )
        tile[[top, bottom], left : right + 1] = QUIET
        tile[top : bottom + 1, [left, right]] = QUIET
    return tile


# --------------------------------------------------------------------------- the sheet


def write_sheet(path: Path, *, title: str, rows: Sequence[SheetRow], cast: Mapping[str, str]) -> None:
    """Write the sheet as PNG; `cast` is slot names (SLOT_COLORS) by character. It appears whole.

    Raises OSError as it is: a sheet is written beside a delivery that is already safe. ValueError without rows.
    """
    sheet = draw_sheet(title=title, rows=rows, cast=cast)
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


def draw_sheet(*, title: str, rows: Sequence[SheetRow], cast: Mapping[str, str]) -> Image.Image:
    """The sheet as a picture: a title, a heading per column, a tile per column and frame, and a legend."""
    if not rows:
        raise ValueError("a sheet has at least one row")
    tile_height, tile_width = rows[0].tiles[0].shape[:2]
    em = max(13, min(20, tile_width // 18))
    small, large = ImageFont.load_default(em), ImageFont.load_default(em * 3 // 2)
    margin, gap = em * 3 // 2, em // 2 + 2
    left = margin + gap + max(round(small.getlength(row.label)) for row in rows)
    columns = COLUMNS[: len(rows[0].tiles)]
    lefts = [left + index * (tile_width + gap) for index in range(len(columns))]
    headings, top = margin + em * 2, margin + em * 7 // 2
    width, height = lefts[-1] + tile_width + margin, top + len(rows) * (tile_height + gap) + em * 3
    sheet = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((margin, margin - em // 2), _shortened(title, large, width - 2 * margin), TEXT, large)
    for x, column in zip(lefts, columns, strict=True):
        draw.text((x, headings), _shortened(column, small, tile_width), QUIET, small)
    for index, row in enumerate(rows):
        y = top + index * (tile_height + gap)
        draw.text((margin, y + tile_height // 2), row.label, ALARM if row.stray else TEXT, small, anchor="lm")
        for x, tile in zip(lefts, row.tiles, strict=True):
            sheet.paste(Image.fromarray(tile), (x, y))
    entries = [(character, SLOT_COLORS[slot]) for character, slot in cast.items()]
    if any(row.stray for row in rows):
        entries.append(("changed outside the matte", ALARM))
    _draw_legend(draw, small, em, y=height - em * 2 + gap // 2, left=left, right=width - margin, entries=entries)
    return sheet


def _fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture in 0..1 as a tile, its pixels enlarged where it is smaller."""
    codes = np.rint(np.clip(np.nan_to_num(picture), 0.0, 1.0) * 255).astype(np.uint8)
    return np.array(Image.fromarray(codes).resize(size, Image.Resampling.NEAREST))


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    em: int,
    *,
    y: int,
    left: int,
    right: int,
    entries: Sequence[tuple[str, tuple[int, int, int]]],
) -> None:
    x = left
    for place, (words, color) in enumerate(entries):
        room = (right - x) // (len(entries) - place) - em * 3
        name = _shortened(words, font, room)
        draw.rectangle((x, y - em // 2, x + em, y + em // 2), fill=color)
        draw.text((x + em * 3 // 2, y), name, TEXT, font, anchor="lm")
        x += em * 3 + round(font.getlength(name))


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
