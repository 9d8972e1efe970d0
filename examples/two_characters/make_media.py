"""Draw the plates, mattes and references of this example: scene-linear EXRs of two people on a stage.

The figures are those the miniature was trained on (`../miniature/scenes.py`), drawn at plate size in linear light with
lamps above 1.0. Every run writes the same pictures, tagged and timecoded as a camera transfer would leave them.
"""

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import OpenEXR
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "miniature"))

from scenes import Scene, scene  # noqa: E402

WIDTH, HEIGHT = 384, 256
FIRST_FILE, RATE = 1001, 24
SLOTS = {"ada": 1, "ben": 2}  # blue and red, as the library says
LENGTHS = {"SH010": 48, "SH020": 44}


def shots() -> dict[str, Scene]:
    """The two shots: both people on one stage, then one of them alone on another."""
    both = scene(37, characters=2, aspect=WIDTH / HEIGHT)
    people = tuple(replace(person, slot=slot) for person, slot in zip(both.people, SLOTS.values(), strict=True))
    both = replace(both, people=people)
    alone = scene(8, characters=1, aspect=WIDTH / HEIGHT)
    ben = people[1]
    same = replace(alone.people[0], actor=ben.actor, character=ben.character, slot=ben.slot)
    return {"SH010": both, "SH020": replace(alone, people=(same,))}


def write_plate(path: Path, rgb: np.ndarray, frame: int) -> None:
    """One half-float EXR with the tags a transfer leaves; `frame` counts from 01:00:00:00."""
    seconds, ff = divmod(frame, RATE)
    header = {
        "compression": OpenEXR.ZIP_COMPRESSION,
        "type": OpenEXR.scanlineimage,
        "framesPerSecond": Fraction(RATE),
        "colorInteropID": "lin_rec709_scene",
        "timeCode": OpenEXR.TimeCode(1, seconds // 60, seconds % 60, ff, *[0] * 14),
    }
    with OpenEXR.File(header, {"RGB": rgb.astype(np.float16)}) as file:
        file.write(str(path))


def write_image(path: Path, picture: np.ndarray) -> None:
    """One 8-bit PNG of values 0..1, gray or RGB."""
    Image.fromarray(np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)).save(path)


def make_shot(shot: str, drawn: Scene) -> None:
    """Plates and mattes of one shot."""
    for folder in ("plates", "mattes"):
        (HERE / folder / shot).mkdir(parents=True, exist_ok=True)
    plate = drawn.plate(width=WIDTH, height=HEIGHT, frames=LENGTHS[shot])
    for index, rgb in enumerate(plate.rgb):
        write_plate(HERE / "plates" / shot / f"{shot}_plate.{FIRST_FILE + index}.exr", rgb, index)
    for character, slot in SLOTS.items():
        for index, matte in enumerate(plate.mattes.get(slot, ())):
            write_image(HERE / "mattes" / shot / f"{character}.{FIRST_FILE + index}.png", matte)
    print(f"{shot}: {len(plate.rgb)} plates, mattes of {len(plate.mattes)}")


def make_references(drawn: Scene) -> None:
    """A still of each character, and where they are in it."""
    folder = HERE / "library" / "refs"
    folder.mkdir(parents=True, exist_ok=True)
    portraits = drawn.portraits(width=192, height=256)
    for character, slot in SLOTS.items():
        picture, mask = portraits[slot]
        write_image(folder / f"{character}.png", picture)
        write_image(folder / f"{character}_mask.png", mask)


def main() -> None:
    """Draw everything this example needs."""
    for shot, drawn in shots().items():
        make_shot(shot, drawn)
    make_references(shots()["SH010"])


if __name__ == "__main__":
    main()
