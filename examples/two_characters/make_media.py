"""Draw the plates, mattes and references of this example: scene-linear EXRs of two people crossing a stage.

Everything is computed from the frame number, so every run writes the same pictures. The plates are ACEScg half floats
with lights above 1.0, tagged and timecoded as a camera transfer would leave them; the mattes are soft-edged PNGs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import OpenEXR
from PIL import Image

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT = 384, 256
FINE = 2  # samples per pixel and axis, for soft edges
FIRST_FILE = 1001
SHOTS = {"SH010": (48, ("ada", "ben")), "SH020": (44, ("ben",))}


@dataclass(frozen=True)
class Look:
    """What a person wears: colours of head, shirt, sleeves and trousers, linear RGB."""

    head: tuple[float, float, float]
    shirt: tuple[float, float, float]
    sleeve: tuple[float, float, float]
    trousers: tuple[float, float, float]


ACTORS = {
    "ada": Look((0.45, 0.28, 0.20), (0.30, 0.32, 0.34), (0.20, 0.21, 0.22), (0.10, 0.10, 0.12)),
    "ben": Look((0.50, 0.33, 0.25), (0.22, 0.20, 0.15), (0.26, 0.22, 0.16), (0.14, 0.12, 0.10)),
}
CHARACTERS = {
    "ada": Look((0.60, 0.30, 0.18), (0.75, 0.05, 0.04), (0.80, 0.45, 0.05), (0.03, 0.04, 0.30)),
    "ben": Look((0.30, 0.18, 0.10), (0.03, 0.40, 0.12), (0.05, 0.55, 0.60), (0.45, 0.40, 0.30)),
}


def limb(x: np.ndarray, y: np.ndarray, start: Sequence[float], end: Sequence[float], radius: float) -> np.ndarray:
    """Where a thick line with round ends is."""
    (ax, ay), (bx, by) = start, end
    along = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2 + 1e-9), 0, 1)
    return (x - ax - along * (bx - ax)) ** 2 + (y - ay - along * (by - ay)) ** 2 <= radius**2


def figure(x: np.ndarray, y: np.ndarray, look: Look, center: float, ground: float, tall: float, stride: float):
    """A walking figure: (colour of every sample, where it is). `stride` is the phase of the step in radians."""
    hip, neck, top = ground - 0.47 * tall, ground - 0.80 * tall, ground - 0.90 * tall
    swing, wide = 0.16 * tall * np.sin(stride), 0.055 * tall
    parts = [
        (limb(x, y, (center, hip), (center + swing, ground - wide), wide), look.trousers),
        (limb(x, y, (center, hip), (center - swing, ground - wide), wide), look.trousers),
        (limb(x, y, (center, neck + wide), (center - swing, hip), 0.8 * wide), look.sleeve),
        (limb(x, y, (center, neck + 1.5 * wide), (center, hip), 1.9 * wide), look.shirt),
        (limb(x, y, (center, neck + wide), (center + swing, hip), 0.8 * wide), look.sleeve),
        (limb(x, y, (center, top), (center, top - 0.01), 1.5 * wide), look.head),
    ]
    color = np.zeros((*x.shape, 3), np.float32)
    where = np.zeros(x.shape, bool)
    for inside, paint in parts:
        color[inside] = paint
        where |= inside
    return color, where


def around(center: float, ground: float, tall: float) -> tuple[slice, slice]:
    """The samples a figure can reach."""
    top, left, right = ground - 1.05 * tall, center - 0.35 * tall, center + 0.35 * tall
    rows, columns = (
        slice(max(0, int(top * FINE)), int(ground * FINE) + FINE),
        slice(max(0, int(left * FINE)), int(right * FINE)),
    )
    return rows, columns


def stage(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A lit wall with two lamps well above 1.0, and a floor."""
    wall = 0.10 + 0.12 * np.exp(-((x - WIDTH * 0.5) ** 2) / (WIDTH * 0.35) ** 2)
    color = np.stack([wall * 1.05, wall, wall * 0.9], axis=-1)
    boards = 0.05 + 0.02 * (np.floor(x / 24) % 2)
    color = np.where((y > HEIGHT * 0.78)[..., None], np.stack([boards * 1.5, boards, boards * 0.6], axis=-1), color)
    for lamp in (0.18, 0.82):
        near = (x - WIDTH * lamp) ** 2 + (y - HEIGHT * 0.12) ** 2
        color = color + 6.0 * np.exp(-near / 60.0)[..., None] * np.array([1.0, 0.85, 0.6])
    return color.astype(np.float32)


def samples(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample positions in pixels, FINE x FINE a pixel."""
    y, x = np.mgrid[0 : height * FINE, 0 : width * FINE].astype(np.float32)
    return (x + 0.5) / FINE, (y + 0.5) / FINE


def pixels(fine: np.ndarray) -> np.ndarray:
    """The mean of each pixel's samples."""
    height, width = fine.shape[0] // FINE, fine.shape[1] // FINE
    return fine.reshape(height, FINE, width, FINE, -1).mean(axis=(1, 3))


def places(shot: str, person: str, at: float) -> tuple[float, float, float]:
    """Where a person stands in a shot at 0..1 of it: centre, ground, height in pixels."""
    if shot == "SH020":
        return WIDTH * (0.30 + 0.35 * at), HEIGHT * 0.95, HEIGHT * 0.82
    if person == "ada":
        return WIDTH * (0.22 + 0.25 * at), HEIGHT * 0.90, HEIGHT * 0.62
    return WIDTH * (0.80 - 0.22 * at), HEIGHT * 0.93, HEIGHT * 0.70


def write_plate(path: Path, rgb: np.ndarray, frame: int) -> None:
    """One half-float EXR with the tags a transfer leaves."""
    seconds, ff = divmod(frame, 24)
    header = {
        "compression": OpenEXR.ZIP_COMPRESSION,
        "type": OpenEXR.scanlineimage,
        "framesPerSecond": Fraction(24),
        "colorInteropID": "lin_ap1_scene",
        "timeCode": OpenEXR.TimeCode(1, seconds // 60, seconds % 60, ff, *[0] * 14),
    }
    with OpenEXR.File(header, {"RGB": rgb.astype(np.float16)}) as file:
        file.write(str(path))


def write_gray(path: Path, coverage: np.ndarray) -> None:
    """One 8-bit matte."""
    Image.fromarray(np.round(coverage[..., 0] * 255).astype(np.uint8)).save(path)


def make_shot(shot: str, count: int, people: Sequence[str]) -> None:
    """Plates and mattes of one shot."""
    for folder in ("plates", "mattes"):
        (HERE / folder / shot).mkdir(parents=True, exist_ok=True)
    x, y = samples(WIDTH, HEIGHT)
    background = stage(x, y)
    for index in range(count):
        frame, picture = FIRST_FILE + index, background.copy()
        covered: dict[str, np.ndarray] = {}
        for person in people:
            spot = places(shot, person, index / (count - 1))
            box = around(*spot)
            color, inside = figure(x[box], y[box], ACTORS[person], *spot, stride=index * 2 * np.pi / 20)
            picture[box][inside] = color[inside]
            for earlier in covered.values():
                earlier[box][inside] = False
            covered[person] = np.zeros(x.shape, bool)
            covered[person][box] = inside
        write_plate(HERE / "plates" / shot / f"{shot}_plate.{frame}.exr", pixels(picture), index)
        for person, where in covered.items():
            write_gray(HERE / "mattes" / shot / f"{person}.{frame}.png", pixels(where[..., None].astype(np.float32)))


def make_reference(person: str) -> None:
    """A still of a character, sRGB, and where they are in it."""
    folder = HERE / "library" / "refs"
    folder.mkdir(parents=True, exist_ok=True)
    width, height = 192, 256
    x, y = samples(width, height)
    color, where = figure(x, y, CHARACTERS[person], width / 2, height * 0.95, height * 0.88, stride=0.9)
    linear = pixels(np.where(where[..., None], color, np.float32(0.18)))
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    Image.fromarray(np.round(encoded * 255).astype(np.uint8)).save(folder / f"{person}.png")
    write_gray(folder / f"{person}_mask.png", pixels(where[..., None].astype(np.float32)))


def main() -> None:
    """Draw everything this example needs."""
    for person in CHARACTERS:
        make_reference(person)
    for shot, (count, people) in SHOTS.items():
        make_shot(shot, count, people)
        print(f"{shot}: {count} plates and {count * len(people)} mattes")


if __name__ == "__main__":
    main()
