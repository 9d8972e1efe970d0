"""Drawn clips in which people are replaced: what the miniature is trained on, tested on and shown with.

A `Scene` is a description without a size: a backdrop, people who walk and wave, who plays whom, and the references.
It is drawn at any size, from any frame, for any length: `Scene.draw` gives the sRGB arrays of the model's canvas with
the true answer beside them, `Scene.plate` the same pictures in linear light with highlights and soft mattes.
The same seed always describes the same scene. numpy alone, so that tests can import it.

Lengths are in units of the picture's height, the origin is top left, time is in frames. Figures are capsules painted
back to front with edges one pixel soft; a character has the actor's motion and proportions, and other clothes.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Colour = tuple[float, float, float]  # sRGB, 0..1
Tones = tuple[Colour, Colour]  # the two colours of a striped piece of clothing

SLOTS = 6  # identity colours there are; slot 1 is the first of them, 0 is nobody
MOST_PEOPLE = 4


# --------------------------------------------------------------------------- descriptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Clothes and head: what tells one person from another."""

    shirt: Tones
    trousers: Tones
    head: Tones  # face and hair
    bands: float  # stripes on the shirt


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """Where a person is and what the limbs do, at any frame."""

    centre: float  # of the walk, as a share of the picture's width
    swing: float  # of the walk to either side, likewise
    period: float  # frames there and back
    phase: float  # of the walk, in turns
    stride: float  # frames a double step takes
    ground: float  # where the feet stand, in heights
    height: float  # of the person, in heights
    waving: bool  # the front arm is up


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody in the driving clip; a bystander has no character and no slot."""

    motion: Motion
    actor: Look
    character: Look | None
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """A round soft light on the backdrop; `power` is linear and may be far above 1."""

    x: float
    y: float
    radius: float
    power: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Backdrop:
    """A wall from `top` to `bottom` with boards on it, a floor below the horizon, and lights."""

    top: Colour
    bottom: Colour
    floor: Colour
    horizon: float
    boards: tuple[tuple[float, float, Colour], ...]  # left and right as shares of the width
    lights: tuple[Light, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A scene drawn for the model: arrays at the canvas size, and what a perfect model would answer."""

    driving: Floats  # (px, H, W, 3) sRGB 0..1
    labels: Bytes  # (px, H, W): the slot of the person seen in each pixel, 0 for backdrop and bystanders
    reference: Floats  # (H, W, 3)
    reference_labels: Bytes  # (H, W)
    target: Floats  # (px, H, W, 3)
    bystanders: NDArray[np.bool_]  # (px, H, W): a person without a slot is seen here
    slots: tuple[int, ...]
    replace: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plate:
    """A scene drawn as a camera would deliver it."""

    rgb: Floats  # (frames, H, W, 3) linear light, sRGB primaries; lights exceed 1
    mattes: dict[int, Floats]  # slot -> (frames, H, W) coverage 0..1 with soft edges, occluders taken out
    target: Floats  # (frames, H, W, 3) the same with the characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything about a clip but its size and length."""

    people: tuple[Person, ...]  # back to front
    backdrop: Backdrop
    replace: bool  # else the characters stay in the world of their references
    order: tuple[int, ...]  # index into `people` of each column of the reference, left to right
    stage: tuple[Colour, ...]  # plain colour behind each column; in animation the first two are the world's gradient
    portrait: float | None  # width over height of a reference picture; None: it has the shape of its column

    @property
    def cast(self) -> tuple[Person, ...]:
        """The people who are replaced."""
        return tuple(person for person in self.people if person.character is not None)

    def exchanged(self) -> Scene:
        """The same pictures with the mask colours of the references exchanged (three or more: passed round)."""
        cast = [index for index, person in enumerate(self.people) if person.character is not None]
        onward = dict(zip(cast, cast[1:] + cast[:1], strict=True))  # whose character I play now
        backward = {origin: player for player, origin in onward.items()}
        people = tuple(
            replace(person, character=self.people[onward[index]].character) if index in onward else person
            for index, person in enumerate(self.people)
        )
        return replace(self, people=people, order=tuple(backward[index] for index in self.order))

    def draw(self, *, width: int, height: int, frames: int, first: int = 0) -> Clip:
        """The clip at the model's canvas size; `first` is the frame it starts at, so that pieces join."""
        times = np.arange(first, first + frames, dtype=np.float32)
        wall = to_srgb(paint_backdrop(self.backdrop, width=width, height=height))
        reference, reference_labels, world = self.references(width=width, height=height)
        driving = np.empty((frames, height, width, 6), np.float32)  # the driving clip and its answer, painted together
        driving[..., :3] = wall
        driving[..., 3:] = wall if self.replace else world
        labels = np.zeros((frames, height, width), np.uint8)
        bystanders = np.zeros((frames, height, width), np.bool_)
        for person in self.people:
            answer = person.character or (person.actor if self.replace else None)
            for box, alpha, tone, piece in _pieces(person.motion, person.actor.bands, times, width, height):
                colours = _tones(person.actor, piece), None if answer is None else _tones(answer, piece)
                _lay(driving[box], alpha, tone, colours)
                solid = alpha > 0.5
                labels[box][solid] = person.slot
                bystanders[box][solid] = person.slot == 0
        return Clip(
            driving=np.ascontiguousarray(driving[..., :3]),
            labels=labels,
            reference=reference,
            reference_labels=reference_labels,
            target=np.ascontiguousarray(driving[..., 3:]),
            bystanders=bystanders,
            slots=tuple(person.slot for person in self.cast),
            replace=self.replace,
        )

    def references(self, *, width: int, height: int) -> tuple[Floats, Bytes, Floats]:
        """The composed reference (H, W, 3), its labels (H, W), and the same picture with nobody in it.

        Equal columns, one a character: the farm places them like the performers, which binds as well.
        """
        rgb = np.empty((height, width, 3), np.float32)
        empty = np.empty((height, width, 3), np.float32)
        labels = np.zeros((height, width), np.uint8)
        edges = [round(index * width / len(self.order)) for index in range(len(self.order) + 1)]
        for column, (index, left, right) in enumerate(zip(self.order, edges, edges[1:], strict=False)):
            person = self.people[index]
            assert person.character is not None
            across, tall = right - left, height
            if self.portrait is not None:
                scale = min(across / self.portrait, height)
                across, tall = min(right - left, round(scale * self.portrait)), min(height, round(scale))
            picture, mask, plain = self._portrait(column, person.character, across, tall)
            pad = ((height - tall) // 2, (right - left - across) // 2)
            around = ((pad[0], height - tall - pad[0]), (pad[1], right - left - across - pad[1]))
            rgb[:, left:right] = np.pad(picture, (*around, (0, 0)), mode="edge")
            empty[:, left:right] = np.pad(plain, (*around, (0, 0)), mode="edge")
            labels[:, left:right][np.pad(mask, around) >= 0.5] = person.slot
        return rgb, labels, empty

    def portraits(self, *, width: int, height: int) -> dict[int, tuple[Floats, Floats]]:
        """Each character's own reference picture by slot: sRGB (height, width, 3) and its mask (height, width)."""
        pictures: dict[int, tuple[Floats, Floats]] = {}
        for column, index in enumerate(self.order):
            look = self.people[index].character
            assert look is not None
            pictures[self.people[index].slot] = self._portrait(column, look, width, height)[:2]
        return pictures

    def _portrait(self, column: int, look: Look, width: int, height: int) -> tuple[Floats, Floats, Floats]:
        """A character standing still: picture, mask 0..1, and the picture without the character."""
        behind = (self.stage[column], self.stage[column]) if self.replace else self.stage[:2]
        down = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None, None]
        top, bottom = np.array(behind, np.float32)
        plain = np.broadcast_to(top + down * (bottom - top), (height, width, 3)).astype(np.float32)
        # as tall as the picture allows without losing the arms
        tall = min(0.9, 0.9 * width / height / 0.48)
        pose = replace(STANDING, height=tall, ground=0.5 + tall / 2)
        picture, mask = plain[None].copy(), np.zeros((1, height, width), np.float32)
        for box, alpha, tone, piece in _pieces(pose, look.bands, np.zeros(1, np.float32), width, height):
            _lay(picture[box], alpha, tone, (_tones(look, piece),))
            mask[box] = np.maximum(mask[box], alpha)
        return picture[0], mask[0], plain

    def plate(self, *, width: int, height: int, frames: int, first: int = 0) -> Plate:
        """The clip in linear light at plate size, a matte for each slot, and the drawn answer."""
        times = np.arange(first, first + frames, dtype=np.float32)
        wall = paint_backdrop(self.backdrop, width=width, height=height)
        rgb = np.concatenate([np.broadcast_to(wall, (frames, *wall.shape))] * 2, axis=-1)
        if not self.replace:
            rgb[..., 3:] = to_linear(self.references(width=width, height=height)[2])
        mattes = {person.slot: np.zeros((frames, height, width), np.float32) for person in self.cast}
        for person in self.people:
            answer = person.character or (person.actor if self.replace else None)
            for box, alpha, tone, piece in _pieces(person.motion, person.actor.bands, times, width, height):
                colours = _tones(person.actor, piece), None if answer is None else _tones(answer, piece)
                _lay(rgb[box], alpha, tone, tuple(None if pair is None else _linear(pair) for pair in colours))
                for slot, matte in mattes.items():
                    matte[box] += alpha * ((1.0 if slot == person.slot else 0.0) - matte[box])
        return Plate(rgb=np.ascontiguousarray(rgb[..., :3]), mattes=mattes, target=np.ascontiguousarray(rgb[..., 3:]))


# --------------------------------------------------------------------------- making them up


def scene(
    seed: int | Sequence[int],
    *,
    characters: int = 2,
    replace: bool = True,
    bystanders: int = 0,
    aspect: float = 1.0,
    portrait: float | None = None,
) -> Scene:
    """A scene from a seed. `aspect` is width over height of the picture, which decides how tall people can be.

    Slots are drawn at random of the six, the order of the references too, and every look in a scene, replaced or
    replacing, has a hue of its own. Raises ValueError when the people do not fit.
    """
    if not 1 <= characters <= MOST_PEOPLE or not 0 <= bystanders <= 2:
        raise ValueError(f"a scene has 1 to {MOST_PEOPLE} characters and up to 2 bystanders")
    rng = np.random.default_rng(seed)
    slots = rng.permutation(SLOTS)[:characters] + 1
    looks = iter(_looks(rng, 2 * characters + bystanders))
    motions = _motions(rng, characters + bystanders, aspect)
    unmasked = set(rng.permutation(characters + bystanders)[:bystanders].tolist())
    people: list[Person] = []
    for index, motion in enumerate(motions):
        if index in unmasked:
            people.append(Person(motion=motion, actor=next(looks), character=None, slot=0))
        else:
            slot = int(slots[sum(person.slot > 0 for person in people)])
            people.append(Person(motion=motion, actor=next(looks), character=next(looks), slot=slot))
    cast = [index for index, person in enumerate(people) if person.slot]
    return Scene(
        people=tuple(people),
        backdrop=_backdrop(rng),
        replace=replace,
        order=tuple(int(index) for index in rng.permutation(cast)),
        stage=tuple(_muted(rng) for _ in range(max(2, characters))),
        portrait=portrait,
    )


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 1.0), min(value, 1.0))


def _looks(rng: np.random.Generator, count: int) -> list[Look]:
    """Looks whose hues lie evenly round the circle, bright and deep by turns of chance."""
    hues = (rng.permutation(max(count, 6))[:count] + rng.uniform(-0.15, 0.15, count)) / max(count, 6) + rng.random()
    looks: list[Look] = []
    for hue in hues:
        value = rng.uniform(0.65, 1.0)
        legs, lean = hue + rng.uniform(-0.09, 0.09), rng.choice([-0.07, 0.07])
        leg_value = rng.uniform(0.35, 0.85)
        looks.append(
            Look(
                shirt=(_hsv(hue, 0.9, value), _hsv(hue + lean, 0.95, 0.5 * value)),
                trousers=(_hsv(legs, 0.85, leg_value), _hsv(legs + lean, 0.9, 0.6 * leg_value)),
                head=(_hsv(hue + rng.uniform(-0.05, 0.05), 0.5, rng.uniform(0.8, 1.0)), _hsv(hue, 0.8, 0.3)),
                bands=float(rng.choice([0.45, 0.65, 0.9])),
            )
        )
    return looks


def _muted(rng: np.random.Generator) -> Colour:
    return _hsv(rng.random(), rng.uniform(0.0, 0.3), rng.uniform(0.25, 0.85))


def _motions(rng: np.random.Generator, count: int, aspect: float) -> list[Motion]:
    """Places beside each other, walks that may cross; who stands lower is nearer, taller and in front."""
    room = min(1.0, 1.5 * aspect / count)
    places = (rng.permutation(count) + 0.5 + rng.uniform(-0.15, 0.15, count)) / count
    grounds = np.sort(rng.uniform(0.86, 0.97, count))
    motions: list[Motion] = []
    for place, ground in zip(places, grounds, strict=True):
        reach = min(place, 1 - place) if count == 1 else 0.5 / count
        motions.append(
            Motion(
                centre=float(place),
                swing=float(rng.uniform(0.2, 1.3 if rng.random() < 0.35 else 0.8) * reach),
                period=float(rng.uniform(48, 110)),
                phase=float(rng.random()),
                stride=float(rng.uniform(14, 24)),
                ground=float(ground),
                height=float(rng.uniform(0.68, 0.9) * max(room, 0.72)),
                waving=bool(rng.random() < 0.4),
            )
        )
    return motions


def _backdrop(rng: np.random.Generator) -> Backdrop:
    top, bottom = _muted(rng), _muted(rng)
    boards: list[tuple[float, float, Colour]] = []
    for _ in range(rng.integers(0, 4)):
        left, wide = rng.random(), rng.uniform(0.12, 0.3)
        boards.append((float(left - wide / 2), float(left + wide / 2), _muted(rng)))
    lights = tuple(
        Light(x=rng.random(), y=rng.uniform(0.03, 0.3), radius=rng.uniform(0.03, 0.07), power=rng.uniform(0.5, 6.0))
        for _ in range(rng.integers(0, 3))
    )
    return Backdrop(
        top=top,
        bottom=bottom,
        floor=_muted(rng),
        horizon=float(rng.uniform(0.68, 0.85)),
        boards=tuple(boards),
        lights=lights,
    )


STANDING = Motion(centre=0.5, swing=0.0, period=60.0, phase=0.0, stride=20.0, ground=0.95, height=0.9, waving=False)


# --------------------------------------------------------------------------- light


def to_linear(srgb: NDArray[np.floating]) -> Floats:
    """sRGB values to linear light."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(linear: Floats) -> Floats:
    """Linear light to sRGB values, highlights clipped at 1."""
    light = np.clip(linear, 0.0, 1.0)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)


def _linear(tones: Tones) -> Tones:
    light, dark = to_linear(np.array(tones, np.float32)).tolist()
    return tuple(light), tuple(dark)


def _ramp(distance: NDArray[np.floating]) -> Floats:
    """Coverage from a distance in pixels, negative inside: one pixel soft."""
    return np.clip(np.float32(0.5) - distance.astype(np.float32, copy=False), np.float32(0), np.float32(1))


def paint_backdrop(backdrop: Backdrop, *, width: int, height: int) -> Floats:
    """The backdrop in linear light, (height, width, 3); lights exceed 1."""
    y = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None, None]
    x = ((np.arange(width, dtype=np.float32) + 0.5) / width)[None, :, None]
    top, bottom, floor = (np.array(c, np.float32) for c in (backdrop.top, backdrop.bottom, backdrop.floor))
    wall = np.broadcast_to(top + np.minimum(y / backdrop.horizon, 1) * (bottom - top), (height, width, 3)).copy()
    for left, right, colour in backdrop.boards:
        cover = _ramp(np.maximum((left - x) * width, (x - right) * width))
        wall += 0.6 * cover * (np.array(colour, np.float32) - wall)
    wall += _ramp((backdrop.horizon - y) * height) * (floor * (0.6 + 0.5 * y) - wall)
    light = to_linear(np.clip(wall, 0, 1))
    for lamp in backdrop.lights:
        away = ((x - lamp.x) * width / height) ** 2 + (y - lamp.y) ** 2
        light += np.float32(lamp.power) * np.exp(-away / np.float32(lamp.radius**2))
    return light.astype(np.float32)


# --------------------------------------------------------------------------- figures

Box = tuple[slice, slice, slice]  # frames, rows, columns
Piece = str  # "shirt", "trousers" or "head"


def _tones(look: Look, piece: Piece) -> Tones:
    return {"shirt": look.shirt, "trousers": look.trousers, "head": look.head}[piece]


def _lay(picture: Floats, alpha: Floats, tone: Floats, layers: Sequence[Tones | None]) -> None:
    """Paint one piece over a picture (frames, rows, columns, 3 a layer), in place; a layer of None stays."""
    for index, tones in enumerate(layers):
        if tones is None:
            continue
        for channel in range(3):
            plane = picture[..., 3 * index + channel]
            light, dark = np.float32(tones[0][channel]), np.float32(tones[1][channel])
            plane += alpha * (dark + tone * (light - dark) - plane)


def _pieces(
    motion: Motion, bands: float, times: Floats, width: int, height: int
) -> Iterator[tuple[Box, Floats, Floats, Piece]]:
    """The pieces of a person, back to front: where, coverage, share of the lighter tone, and which clothing."""
    for piece, start, end, radius, stripes in _skeleton(motion, bands, times, width / height):
        ends = np.stack([start, end]) * height  # (2, frames, 2) pixels
        thick = radius * height
        low = np.floor(ends.min(axis=(0, 1)) - thick - 1).astype(int)
        high = np.ceil(ends.max(axis=(0, 1)) + thick + 1).astype(int)
        left, right = max(low[0], 0), min(high[0], width)
        top, bottom = max(low[1], 0), min(high[1], height)
        if left >= right or top >= bottom:
            continue
        x = (np.arange(left, right, dtype=np.float32) + 0.5)[None, None, :]
        y = (np.arange(top, bottom, dtype=np.float32) + 0.5)[None, :, None]
        ax, ay, bx, by = (v[:, None, None] for v in (*ends[0].T, *(ends[1] - ends[0]).T))
        length = np.maximum(bx * bx + by * by, np.float32(1e-6))
        px, py = x - ax, y - ay
        along = (px * bx + py * by) / length
        near = np.clip(along, np.float32(0), np.float32(1))
        alpha = _ramp(np.sqrt((px - near * bx) ** 2 + (py - near * by) ** 2) - np.float32(thick))
        # stripes run across the piece, their edges one pixel soft; half a stripe of the light tone comes first
        wave = np.abs((along * np.float32(stripes) + np.float32(0.75)) % 1 - np.float32(0.5)) - np.float32(0.25)
        tone = _ramp(wave * np.sqrt(length) / np.float32(stripes))
        yield (slice(None), slice(top, bottom), slice(left, right)), alpha, tone, piece


def _skeleton(
    motion: Motion, bands: float, times: Floats, aspect: float
) -> Iterator[tuple[Piece, Floats, Floats, float, float]]:
    """Capsules back to front: clothing, its two ends (frames, 2) in heights, radius, number of stripes."""
    turn = 2 * np.pi * (times / motion.period + motion.phase)
    across = aspect * (motion.centre + motion.swing * np.sin(turn))
    step = 2 * np.pi * times / motion.stride + 7 * motion.phase
    still = motion.swing == 0
    tall = motion.height
    swing = np.zeros_like(times) if still else np.sin(step)
    hip = motion.ground - 0.44 * tall - (0.0 if still else 0.012 * tall * np.abs(np.cos(step)))

    def at(dx: NDArray[np.floating] | float, dy: NDArray[np.floating] | float) -> Floats:
        return np.stack(np.broadcast_arrays(across + tall * dx, hip + tall * dy), axis=-1).astype(np.float32)

    spread = 0.07 if still else 0.045
    for side in (-1, 1):
        foot = side * spread + 0.1 * side * swing
        yield "trousers", at(side * 0.05, 0.0), at(foot, 0.37), 0.066 * tall, 1.0
    for side, lifted in ((-1, False), (1, motion.waving)):
        shoulder = at(side * 0.13, -0.24)
        if lifted:
            angle = 0.5 + 0.35 * np.sin(2 * step + 1)
            hand = at(0.13 + 0.27 * np.sin(angle), -0.24 - 0.27 * np.cos(angle))
        else:
            reach = 0.5 if still else 0.28
            hand = at(side * (0.13 + 0.26 * np.sin(reach)) - 0.1 * side * swing, -0.24 + 0.26 * np.cos(reach))
        yield "shirt", shoulder, hand, 0.048 * tall, 1.0
    yield "shirt", at(0.0, -0.22), at(0.0, -0.02), 0.135 * tall, bands
    yield "head", at(0.0, -0.435), at(0.0, -0.455), 0.1 * tall, 0.05  # face below, hair above
