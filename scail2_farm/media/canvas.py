"""Plate geometry <-> the model's canvas: the size, the resize, the padding; and references placed on it.

The canvas keeps the plate's display aspect: the picture lies in its middle (the active box) and its edge is
repeated around it, because the model fills black bars with inventions. Resizing is Pillow's bicubic in float, which
filters when it reduces: OpenCV's does not, and aliases two hundred times as much (colour.md §5); so does a box
reduction before it (Pillow's reducing_gap), sixteen times. Down in linear light and up in log: no ringing around
highlights, and the energy of small lights kept. What bicubic overshoots is clamped: on the way to the model to the
range of the plate, on the way back to that of the samples around.

On the way to the model numpy adds up the rows, by Pillow's own weights, and Pillow reduces what is left across: 30 ms
for a 4K plate, where Pillow alone takes 70. By einsum, because BLAS would start threads of its own.

The way back is made tile by tile, on a grid that is the plate's: a part of the plate costs what it measures, and has
the bits it has in the whole.

The matte tells the model where a character goes, but the reference tells it how large: a portrait that fills the
picture came out 1.71 times too large, one of the performer's height 1.003 times (users.md §3). So all characters of a
shot are composed into one reference, each as tall as the performer and with the feet where the performer's are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
from PIL import Image

from scail2_farm.media.mattes import THRESHOLD, Box, box

STEP = 32  # both sides of the model's picture are multiples of it
LARGEST = 65504.0  # what an infinite plate value becomes on its way to the model
FAINT = 0.01  # coverage from which a pixel of a still shows its character
RING = 3  # pixels around a character into which the filter carries his colours
TILE = 256  # a side, in plate pixels, of what is enlarged at once: it stays in the cache
STRIP = 32  # canvas lines of what is reduced at once: memory of this size is used again, larger is zeroed anew
HALF_BITS = np.int32(-0x70000001)  # all but the 3 that float32 has more in its exponent
HALF_SCALE = np.float32(2.0**112)  # so far apart are the exponents' biases
TOE = np.float32(0.0078125)  # where the log curve begins to be straight, in linear light,
CODED_TOE = np.float32(0.155251141552511)  # and as it codes it


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
        size = _largest(width * pixel_aspect / height, area)
        return cls.around(width, height, pixel_aspect=pixel_aspect, size=size)

    @classmethod
    def around(cls, width: int, height: int, *, pixel_aspect: float, size: tuple[int, int]) -> Canvas:
        """The canvas of this `size` (width, height) for a plate: the plate in its middle, as large as it holds it."""
        across, tall = size
        aspect = width * pixel_aspect / height
        shown_width = max(1, min(across, round(min(across, tall * aspect))))
        shown_height = max(1, min(tall, round(min(tall, across / aspect))))
        active = ((across - shown_width) // 2, (tall - shown_height) // 2, shown_width, shown_height)
        return cls(across, tall, active, width, height)

    def to_canvas(self, rgb: np.ndarray) -> np.ndarray:
        """A plate picture (H, W, 3) as the model's, (height, width, 3) float32; NaN and Inf do not spread.

        A picture of the active size goes through unchanged. Another is reduced in the encoding it has (linear light
        stays linear), and what the filter overshoots is clamped to the range of the plate, per channel.
        """
        self._expect(rgb)
        _, _, width, height = self.active
        if (width, height) == (self.plate_width, self.plate_height):
            return self._padded(finite(rgb))
        shown = np.empty((height, width, 3), np.float32)
        least, greatest = np.full(3, np.inf, np.float32), np.full(3, -np.inf, np.float32)
        strips = _strips(height, self.plate_height)
        rows = np.empty((max(strip.seen.stop - strip.seen.start for strip in strips), self.plate_width), np.float32)
        lines = np.empty((STRIP, self.plate_width), np.float32)
        for strip in strips:
            for index in range(3):
                seen, low, high = _bounded(rgb[strip.seen, :, index], out=rows[: strip.seen.stop - strip.seen.start])
                least[index], greatest[index] = min(least[index], low), max(greatest[index], high)
                made = lines[: len(strip.lines)]
                for line, (beneath, weights) in zip(made, strip.lines, strict=True):
                    np.einsum("y,yx->x", weights, seen[beneath], out=line)
                shown[strip.place, :, index] = _resized(made, width, len(made))
        return self._padded(np.clip(shown, least, greatest, out=shown))

    def labels_to_canvas(self, labels: np.ndarray) -> np.ndarray:
        """A label map (H, W) uint8 of the plate as the model's, by nearest: labels are never blended."""
        self._expect(labels)
        _, _, width, height = self.active
        return self._padded(resize_nearest(labels, width, height))

    def from_another(self, rgb: np.ndarray, other: Canvas) -> np.ndarray:
        """A picture of another canvas of the same plate (its height, width, 3) as this one's, in the range it has."""
        if (other.width, other.height, other.active) == (self.width, self.height, self.active):
            return rgb
        left, top, width, height = other.active
        shown = rgb[top : top + height, left : left + width]
        _, _, width, height = self.active
        return self._padded(np.clip(resize(shown, width, height), shown.min(), shown.max()))

    def from_canvas(self, rgb: np.ndarray, *, log: bool, box: Box | None = None) -> np.ndarray:
        """What a canvas picture (height, width, 3) shows of the plate, in the plate's size: (H, W, 3) float32.

        With `box`, in plate pixels, only that part of it, (h, w, 3), bit for bit as in the whole. `log` enlarges in a
        log encoding, for scene-linear values. What the filter overshoots is clamped to the range of the neighbouring
        samples; a picture of the plate's size comes through unchanged. The array is stored plane by plane.
        """
        if rgb.shape != (self.height, self.width, 3):
            raise ValueError(f"a canvas of {self.width}x{self.height} does not hold a picture of {rgb.shape}")
        wanted = self._within(box)
        left, top, width, height = self.active
        shown = np.moveaxis(rgb[top : top + height, left : left + width], 2, 0).astype(np.float32, order="C")
        if (width, height) == (self.plate_width, self.plate_height):
            left, top, width, height = wanted
            return np.moveaxis(shown[:, top : top + height, left : left + width], 0, 2)
        coded = log and width <= self.plate_width and height <= self.plate_height
        planes = np.empty((3, wanted[3], wanted[2]), np.float32)
        for plane, samples in zip(planes, to_log(shown) if coded else shown, strict=True):
            self._enlarge(samples, wanted, out=plane)
            if coded:
                from_log(plane, out=plane)
        return np.moveaxis(planes, 0, 2)

    def beneath(self, box: Box) -> tuple[slice, slice]:
        """The rows and columns of a canvas picture on which `from_canvas` of this box depends."""
        left, top, across, tall = self.active
        rows = _span(box[1], box[1] + box[3], extent=self.plate_height, samples=tall)
        columns = _span(box[0], box[0] + box[2], extent=self.plate_width, samples=across)
        return slice(top + rows.start, top + rows.stop), slice(left + columns.start, left + columns.stop)

    def _enlarge(self, samples: np.ndarray, wanted: Box, *, out: np.ndarray) -> None:
        """The `wanted` part of a plane of the active box (height, width) in the plate's size, into `out`."""
        tall, across = samples.shape
        left, top, width, height = wanted
        rows = _nearest(tall, self.plate_height)[top : top + height]
        columns = _nearest(across, self.plate_width)[left : left + width]
        around = _local_range(samples, -(-tall // self.plate_height), -(-across // self.plate_width))
        lowest, highest = (bound.take(columns, axis=1) for bound in around)
        for down in _tiles(top, height, extent=self.plate_height, samples=tall):
            for along in _tiles(left, width, extent=self.plate_width, samples=across):
                seen = np.ascontiguousarray(samples[down.seen, along.seen])
                part = (along.begin, down.begin, along.end, down.end)
                grown = _resized(seen, along.size, down.size, part=part)[down.wanted, along.wanted]
                near = rows[down.place], along.place
                np.clip(grown, lowest[near], highest[near], out=out[down.place, along.place])

    def _within(self, box: Box | None) -> Box:
        """The box, or the whole plate; raises ValueError for one that is not inside."""
        left, top, width, height = box or (0, 0, self.plate_width, self.plate_height)
        if min(left, top) < 0 or min(width, height) < 1:
            raise ValueError(f"{box} is no box of a plate")
        if left + width > self.plate_width or top + height > self.plate_height:
            raise ValueError(f"{box} reaches beyond the plate of {self.plate_width}x{self.plate_height}")
        return left, top, width, height

    def _expect(self, picture: np.ndarray) -> None:
        if picture.shape[:2] != (self.plate_height, self.plate_width):
            raise ValueError(f"{picture.shape} is not a picture of {self.plate_width}x{self.plate_height}")

    def _padded(self, shown: np.ndarray) -> np.ndarray:
        left, top, width, height = self.active
        return pad_edges(shown, left, top, self.width - left - width, self.height - top - height)


@lru_cache(maxsize=256)
def _largest(aspect: float, area: int) -> tuple[int, int]:
    """The size of `Canvas.fit`, worked out once: a long cut asks for every segment."""
    best: tuple[float, int, int, int] | None = None
    for across in range(STEP, area // STEP + 1, STEP):
        down = area // across // STEP * STEP
        shown = min(across, down * aspect)
        for tall in {down, max(STEP, min(down, -(-int(shown / aspect) // STEP) * STEP))}:
            fits = min(across, tall * aspect)
            candidate = (fits * fits / aspect, -across * tall, across, tall)
            best = max(best, candidate) if best else candidate
    assert best is not None, "the area holds at least one step"
    return best[2:]


# --------------------------------------------------------------------------- references


@dataclass(frozen=True, slots=True, kw_only=True)
class Portrait:
    """A performer's still: `image` (H, W, 3) sRGB in 0..1, `mask` (H, W) where white is the character (None: all is).

    `slot` is the character's number in label maps; `seen` the box of the performer in plate pixels, None for one who
    is never seen.
    """

    image: np.ndarray
    mask: np.ndarray | None
    slot: int
    seen: Box | None = None

    def __post_init__(self) -> None:
        if self.mask is not None and self.mask.shape != self.image.shape[:2]:
            raise ValueError(f"the mask {self.mask.shape} is not of the image's size {self.image.shape[:2]}")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the still."""
        return self.image.shape[1], self.image.shape[0]

    @property
    def coverage(self) -> np.ndarray:
        """How much of each pixel is the character, (H, W, 1) float32."""
        mask = np.ones(self.image.shape[:2], np.float32) if self.mask is None else self.mask
        return mask.astype(np.float32, copy=False)[..., None]

    @property
    def character(self) -> Box:
        """The character's box in the still."""
        found = box(self.coverage[..., 0])
        if found is None:
            raise ValueError(f"the mask of slot {self.slot} has no white in it")
        return found


def scale_off(size: tuple[int, int], character: Box, *, seen: Box, canvas: Canvas) -> float:
    """How many times the performer's height a character would have, were his still letterboxed into the canvas.

    `size` (width, height) is the still's, `character` his box in it, `seen` the performer's in plate pixels.
    """
    scale = min(canvas.width / size[0], canvas.height / size[1])
    return character[3] * scale / (seen[3] * canvas.active[3] / canvas.plate_height)


def compose(portraits: Sequence[Portrait], canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """One reference picture of all characters, each where `arrange` puts him.

    Around them is what surrounds the first one in his still, its edges repeated; the others are pasted by their masks.
    Returns the picture (height, width, 3) float32 sRGB and its labels (height, width) uint8, 0 for background.
    """
    labels = np.zeros((canvas.height, canvas.width), np.uint8)
    places = arrange(portraits, canvas)
    rgb = _surrounded(portraits[0], places[0], canvas)
    for portrait, place in zip(portraits[1:], places[1:], strict=True):
        _paste(rgb, portrait, place)
    for portrait, (left, top, width, height) in zip(portraits, places, strict=True):
        labels[top : top + height, left : left + width][_solid(portrait, width, height)] = portrait.slot
    return rgb, labels


def extra_view(portrait: Portrait, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Another view of a character: the still letterboxed into the canvas, black wherever he is not.

    Returns the picture (height, width, 3) float32 sRGB and its labels (height, width) uint8.
    """
    rgb = np.zeros((canvas.height, canvas.width, 3), np.float32)
    labels = np.zeros((canvas.height, canvas.width), np.uint8)
    left, top, width, height = place = _whole_pixels([_in_column(portrait, 0, 1, canvas)], canvas)[0]
    _paste(rgb, portrait, place)
    labels[top : top + height, left : left + width][_solid(portrait, width, height)] = portrait.slot
    return rgb, labels


# --------------------------------------------------------------------------- who stands where


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stand:
    """Where a character is wanted on the canvas: middle, ground line, size; in pixels, not whole ones."""

    centre: float
    ground: float
    width: float
    height: float


def arrange(portraits: Sequence[Portrait], canvas: Canvas) -> list[Box]:
    """The box of each character on the canvas.

    As tall as the performer was when first seen, on the performer's ground line, about the performer's middle. One who
    is never seen takes the mean height and ground line of the others and the widest gap between them; when nobody is
    seen, each still is letterboxed in a column of its own. Then nobody is cropped and nobody overlaps: who would leave
    the canvas is moved inside, who would cover another is moved apart, left and right kept; where that cannot be, all
    are reduced by one factor.
    """
    if not portraits:
        raise ValueError("a reference picture needs at least one character")
    if all(portrait.seen is None for portrait in portraits):
        columns = len(portraits)
        wanted = [_in_column(portrait, index, columns, canvas) for index, portrait in enumerate(portraits)]
        return _whole_pixels(wanted, canvas)
    known = [_as_seen(portrait, canvas) for portrait in portraits if portrait.seen is not None]
    height = sum(stand.height for stand in known) / len(known)
    ground = sum(stand.ground for stand in known) / len(known)
    stands: list[_Stand] = []
    for portrait in portraits:
        if portrait.seen is not None:
            stands.append(_as_seen(portrait, canvas))
            continue
        across = portrait.character[2] * height / portrait.character[3]
        known.append(_Stand(centre=_widest_gap(known, canvas.width), ground=ground, width=across, height=height))
        stands.append(known[-1])
    return _whole_pixels(stands, canvas)


def _as_seen(portrait: Portrait, canvas: Canvas) -> _Stand:
    assert portrait.seen is not None, "only who is seen has a place of his own"
    left, top, width, height = portrait.seen
    across, down = canvas.active[2] / canvas.plate_width, canvas.active[3] / canvas.plate_height
    _, _, own_width, own_height = portrait.character
    return _Stand(
        centre=canvas.active[0] + (left + width / 2) * across,
        ground=canvas.active[1] + (top + height) * down,
        width=own_width * height * down / own_height,
        height=height * down,
    )


def _in_column(portrait: Portrait, column: int, columns: int, canvas: Canvas) -> _Stand:
    """Where the character is when the whole still is letterboxed in one of equal columns."""
    left, top, width, height = portrait.character
    room = canvas.width / columns
    scale = min(room / portrait.size[0], canvas.height / portrait.size[1])
    return _Stand(
        centre=(column + 0.5) * room + (left + width / 2 - portrait.size[0] / 2) * scale,
        ground=canvas.height / 2 + (top + height - portrait.size[1] / 2) * scale,
        width=width * scale,
        height=height * scale,
    )


def _widest_gap(stands: Sequence[_Stand], width: int) -> float:
    """The middle of the widest stretch of the canvas that nobody stands in; the leftmost of equals."""
    spans = sorted((stand.centre - stand.width / 2, stand.centre + stand.width / 2) for stand in stands)
    gaps: list[tuple[float, float]] = []
    edge = 0.0
    for left, right in [*spans, (width, width)]:
        gaps.append((edge, left))
        edge = max(edge, right)
    left, right = max(gaps, key=lambda gap: gap[1] - gap[0])
    return (left + right) / 2


def _whole_pixels(stands: Sequence[_Stand], canvas: Canvas) -> list[Box]:
    """Boxes of whole pixels for these stands, inside the canvas and apart."""
    sizes = _sizes(stands, 1.0)
    if sum(width for width, _ in sizes) > canvas.width or max(height for _, height in sizes) > canvas.height:
        across, tallest = sum(stand.width for stand in stands), max(stand.height for stand in stands)
        sizes = _sizes(stands, min(1.0, (canvas.width - len(stands)) / across, canvas.height / tallest))
    order = sorted(range(len(stands)), key=lambda index: stands[index].centre)
    lefts = _apart(
        [stands[index].centre - sizes[index][0] / 2 for index in order],
        [sizes[index][0] for index in order],
        canvas.width,
    )
    boxes: dict[int, Box] = {}
    for index, left in zip(order, lefts, strict=True):
        width, height = sizes[index]
        top = min(max(round(stands[index].ground) - height, 0), canvas.height - height)
        boxes[index] = (left, top, width, height)
    return [boxes[index] for index in range(len(stands))]


def _sizes(stands: Sequence[_Stand], factor: float) -> list[tuple[int, int]]:
    return [(max(1, round(stand.width * factor)), max(1, round(stand.height * factor))) for stand in stands]


def _apart(lefts: Sequence[float], widths: Sequence[int], room: int) -> list[int]:
    """Where boxes begin that want to begin at `lefts`, in that order, without overlap, within 0..room.

    Together they move the least (in squares): less the widths before it, no box may begin before the one on its left,
    and whoever would, shares the mean with him (pool adjacent violators).
    """
    pools: list[tuple[float, int]] = []
    before = 0
    for left, width in zip(lefts, widths, strict=True):
        pools.append((left - before, 1))
        before += width
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (one, few), (other, more) = pools[-2:]
            pools[-2:] = [((one * few + other * more) / (few + more), few + more)]
    slack = [round(min(max(mean, 0), room - before)) for mean, count in pools for _ in range(count)]
    return [free + sum(widths[:index]) for index, free in enumerate(slack)]


# --------------------------------------------------------------------------- stills on the canvas


def _surrounded(portrait: Portrait, place: Box, canvas: Canvas) -> np.ndarray:
    """The still with its character at `place`, (height, width, 3), its edges repeated where it does not reach.

    Where the still cuts through the character, the edge beside him is repeated, not he.
    """
    values = np.concatenate([portrait.image.astype(np.float32, copy=False), portrait.coverage], axis=-1)
    shown, left, top = _spread(values, portrait.character, place, (canvas.width, canvas.height))
    rgb, taken = np.clip(shown[..., :3], 0.0, 1.0), shown[..., 3] > FAINT
    ground = rgb.copy()
    sides = [(ground[0], taken[0]), (ground[-1], taken[-1]), (ground[:, 0], taken[:, 0]), (ground[:, -1], taken[:, -1])]
    for line, inside in sides:
        along = np.arange(len(line))
        away = np.abs(along[:, None] - np.flatnonzero(inside)).min(axis=1, initial=len(line))
        free = np.flatnonzero(away > RING)
        if free.size:
            line[:] = line[free[np.abs(along[:, None] - free).argmin(axis=1)]]
    height, width = taken.shape
    padded = pad_edges(ground, left, top, canvas.width - left - width, canvas.height - top - height)
    padded[top : top + height, left : left + width] = rgb
    return padded


def _paste(rgb: np.ndarray, portrait: Portrait, place: Box) -> None:
    """Lay the character over a picture, in place.

    Colours are weighted by coverage in the resize, so that nothing from outside the mask bleeds into the edges.
    """
    weight = np.clip(portrait.coverage, 0.0, 1.0)
    values = np.concatenate([portrait.image * weight, weight], axis=-1).astype(np.float32, copy=False)
    shown, left, top = _spread(values, portrait.character, place, (rgb.shape[1], rgb.shape[0]))
    alpha = shown[..., 3:]
    color = np.clip(shown[..., :3] / np.maximum(alpha, FAINT), 0.0, 1.0)
    under = rgb[top : top + shown.shape[0], left : left + shown.shape[1]]
    under += np.clip(alpha, 0.0, 1.0) * (color - under)


def _spread(values: np.ndarray, character: Box, place: Box, size: tuple[int, int]) -> tuple[np.ndarray, int, int]:
    """What a canvas of `size` shows of a still (H, W, channels) whose `character` box lies at `place`; and its place.

    Returns (h, w, channels) float32, and the left and top of it on the canvas.
    """
    spans: list[tuple[int, int, float, float]] = []
    for axis, extent in enumerate((values.shape[1], values.shape[0])):
        begin, length, at, wide = character[axis], character[axis + 2], place[axis], place[axis + 2]
        pixel = length / wide  # of the canvas, in pixels of the still
        first = max(0, at - begin * wide // length)
        last = min(size[axis], at + wide + (extent - begin - length) * wide // length)
        start, end = begin + (first - at) * pixel, begin + (last - at) * pixel
        spans.append((first, last, max(0.0, start), min(float(extent), end)))
    (left, right, x0, x1), (top, bottom, y0, y1) = spans
    return resize(values, right - left, bottom - top, part=(x0, y0, x1, y1)), left, top


def _solid(portrait: Portrait, width: int, height: int) -> np.ndarray:
    """Where the character is in his own box at this size, (height, width) bool, never nowhere."""
    left, top, across, tall = portrait.character
    white = portrait.coverage[top : top + tall, left : left + across, 0] >= THRESHOLD
    solid = resize_nearest(white, width, height)
    return solid if solid.any() else np.ones_like(solid)


# --------------------------------------------------------------------------- pixels


def finite(rgb: np.ndarray) -> np.ndarray:
    """The picture as float32 without NaN (0) and Inf (the largest half, of its sign); itself when it has none."""
    picture = np.ascontiguousarray(rgb, np.float32)
    if np.isfinite(picture).all():
        return picture
    return np.nan_to_num(picture, nan=0.0, posinf=LARGEST, neginf=-LARGEST)


def _bounded(plane: np.ndarray, *, out: np.ndarray) -> tuple[np.ndarray, float, float]:
    """A plane of any float type as `finite` gives it, in `out` where it is made; its least and greatest value."""
    seen = _widened(plane, out=out)
    least, greatest = seen.min(), seen.max()
    if least >= -LARGEST and greatest <= LARGEST:  # not so when one is NaN
        return seen, least, greatest
    seen = finite(plane)
    return seen, seen.min(), seen.max()


def _widened(plane: np.ndarray, *, out: np.ndarray) -> np.ndarray:
    """A plane of any float type as float32, contiguous, in `out` where it must be made; half NaN and Inf are huge.

    A half's bits are moved to where float32 has them, and its exponent is put right by a multiplication: a seventh of
    the time numpy's own cast takes.
    """
    if plane.dtype == np.float32 and plane.flags.c_contiguous:
        return plane
    if plane.dtype != np.float16:
        np.copyto(out, plane)
        return out
    bits = out.view(np.int32)
    np.copyto(bits, plane.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, HALF_BITS, out=bits)
    return np.multiply(out, HALF_SCALE, out=out)


def resize(
    rgb: np.ndarray, width: int, height: int, *, part: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """(H, W, channels) float32 by antialiased bicubic; the very same array when the size is the same.

    `part` (left, top, right, bottom, not only whole pixels) is what is resized of it; else all is.
    """
    tall, across = rgb.shape[:2]
    if (tall, across) == (height, width) and part in (None, (0, 0, across, tall)):
        return rgb
    planes = (np.ascontiguousarray(rgb[..., index]) for index in range(rgb.shape[2]))
    return np.stack([_resized(plane, width, height, part=part) for plane in planes], axis=-1)


def _resized(
    plane: np.ndarray, width: int, height: int, *, part: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """One channel (H, W) float32, contiguous, by Pillow."""
    return np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC, box=part))


def resize_nearest(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W) or (H, W, channels) of any type; each new pixel is the old one its centre falls in."""
    return values.take(_nearest(values.shape[1], width), axis=1).take(_nearest(values.shape[0], height), axis=0)


def _nearest(samples: int, extent: int) -> np.ndarray:
    """The sample that the centre of each of `extent` pixels falls in."""
    return ((np.arange(extent) + 0.5) * samples / extent).astype(np.intp)


def _span(first: int, last: int, *, extent: int, samples: int) -> slice:
    """The samples that the filter sees for the pixels first..last of `extent`."""
    pixel = samples / extent
    reach = 2 * max(1.0, pixel) + 1
    return slice(max(0, int((first + 0.5) * pixel - reach)), min(samples, int((last - 0.5) * pixel + reach) + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tile:
    """One side of a tile: what is resized to it, and which of its pixels are wanted where."""

    size: int
    seen: slice  # of the samples
    begin: float  # where the tile begins and ends in what is seen
    end: float
    wanted: slice  # of the tile
    place: slice  # in the part that is made


def _tiles(first: int, count: int, *, extent: int, samples: int, step: int = TILE) -> list[_Tile]:
    """The tiles of a line of `extent` pixels, made of so many samples, that hold some of these."""
    tiles: list[_Tile] = []
    for start in range(first // step * step, first + count, step):
        stop = min(start + step, extent)
        seen = _span(start, stop, extent=extent, samples=samples)
        begin, end = (edge * samples / extent - seen.start for edge in (start, stop))
        near, far = max(start, first), min(stop, first + count)
        wanted, place = slice(near - start, far - start), slice(near - first, far - first)
        tiles.append(_Tile(size=stop - start, seen=seen, begin=begin, end=end, wanted=wanted, place=place))
    return tiles


@dataclass(frozen=True, slots=True)
class _Strip:
    """Lines of the canvas that are reduced at once: the rows of the plate they see, and where the lines are placed.

    Of each line: which of these rows it is made of, and their weights.
    """

    seen: slice
    place: slice
    lines: tuple[tuple[slice, np.ndarray], ...]


@lru_cache(maxsize=16)
def _strips(height: int, samples: int) -> tuple[_Strip, ...]:
    """The strips of so many canvas lines, made of so many rows.

    The weights are Pillow's: what it makes of pictures in which one row is 1.
    """
    strips: list[_Strip] = []
    for tile in _tiles(0, height, extent=height, samples=samples, step=STRIP):
        count = tile.seen.stop - tile.seen.start
        rows = np.eye(count, dtype=np.float32)
        lines: list[tuple[slice, np.ndarray]] = []
        for weights in _resized(rows, count, tile.size, part=(0, tile.begin, count, tile.end)):
            first, last = np.flatnonzero(weights)[[0, -1]]
            beneath = slice(first, last + 1)
            lines.append((beneath, weights[beneath].copy()))
        strips.append(_Strip(tile.seen, tile.place, tuple(lines)))
    return tuple(strips)


def pad_edges(values: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """The picture with its edge repeated this far out on each side."""
    around = ((top, bottom), (left, right)) + ((0, 0),) * (values.ndim - 2)
    return np.pad(values, around, mode="edge")


def to_log(linear: np.ndarray) -> np.ndarray:
    """Scene-linear to the ACEScct curve (S-2016-001); straight below its toe, so negatives survive."""
    above = np.maximum(linear, TOE)
    return np.where(
        linear <= TOE,
        np.float32(10.5402377416545) * linear + np.float32(0.0729055341958355),
        (np.log2(above) + np.float32(9.72)) / np.float32(17.52),
    ).astype(np.float32)


def from_log(coded: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """The inverse of `to_log`; `out` may be `coded` itself."""
    straight = coded <= CODED_TOE
    toe = (coded[straight] - np.float32(0.0729055341958355)) / np.float32(10.5402377416545)
    linear = np.multiply(coded, np.float32(17.52), out=out, dtype=np.float32)
    linear -= np.float32(9.72)
    np.exp2(linear, out=linear)
    linear[straight] = toe
    return linear


def _local_range(plane: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest of each sample of a plane and those up to so many rows and columns away."""
    tall, across = plane.shape
    wide = np.pad(plane, ((0, 0), (columns, columns)), mode="edge")

    def spread(choose: np.ufunc) -> np.ndarray:
        lines = reduce(choose, (wide[:, shift : shift + across] for shift in range(2 * columns + 1)))
        lines = np.pad(lines, ((rows, rows), (0, 0)), mode="edge")
        return reduce(choose, (lines[shift : shift + tall] for shift in range(2 * rows + 1)))

    return spread(np.minimum), spread(np.maximum)
