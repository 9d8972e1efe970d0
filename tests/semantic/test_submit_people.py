"""From OTIO and manifest to EXR: the right person is in the right matte of what is delivered.

A wrong cast rule or a swapped slot changes these pixels: the same submission with the two mattes exchanged is shown to
give the exchanged people.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from people import mean_color, seen
from PIL import Image
from scenes import Scene, scene

E2E = Path(__file__).resolve().parents[1] / "e2e"
sys.path.insert(0, str(E2E))

from submissions import Cut, read_exr, write_exr  # noqa: E402

from scail2_farm.media.color import ModelColor, Said, decide  # noqa: E402
from scail2_farm.media.plates import probe  # noqa: E402
from scail2_farm.media.spaces import load_config  # noqa: E402

WIDTH, HEIGHT, FRAMES = 192, 128, 9
NAMES = {1: "ada", 2: "ben"}


def drawn_scene() -> Scene:
    """Two people whose slots are 1 and 2."""
    import dataclasses

    made = scene(404, characters=2, aspect=WIDTH / HEIGHT)
    people = tuple(dataclasses.replace(p, slot=slot) for p, slot in zip(made.people, NAMES, strict=True))
    return dataclasses.replace(made, people=people, order=(0, 1))


def submission(folder: Path, drawn: Scene) -> Cut:
    """The scene as plates, mattes, references, a cut and a manifest."""
    cut = Cut(folder, Path("miniature"))
    plate = drawn.plate(width=WIDTH, height=HEIGHT, frames=FRAMES)
    for index, rgb in enumerate(plate.rgb):
        path = folder / f"plates/SH010/SH010.{1001 + index}.exr"
        write_exr(path, rgb.astype(np.float16), frame=86400 + index, tag="lin_rec709_scene")
    for slot, name in NAMES.items():
        (folder / "mattes/SH010").mkdir(parents=True, exist_ok=True)
        for index, matte in enumerate(plate.mattes[slot]):
            pixels = np.round(matte * 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"mattes/SH010/{name}.{1001 + index}.png")
        cut.character(name, {1: "blue", 2: "red"}[slot], (0, 0, 0))
        picture, mask = drawn.portraits(width=96, height=128)[slot]
        for suffix, image in (("", picture), ("_mask", mask)):
            Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)).save(
                folder / f"refs/{name}{suffix}.png"
            )
    cut.clip("SH010", first=0, count=FRAMES, available=FRAMES)
    cut.manifest["defaults"] |= {"size": "96x64", "steps": 6, "segment": {"length": 9, "overlap": 5}}
    cut.manifest["cast"] = [{"when": {"clip": "SH010"}, "characters": [{"id": name} for name in NAMES.values()]}]
    return cut


def delivered_people(cut: Cut, drawn: Scene) -> dict[int, str]:
    """Whom the delivered frames show in each matte, as a display shows them."""
    from scail2_farm.frames import FramePattern

    pattern = FramePattern.parse(str(cut.folder / "plates/SH010/SH010.####.exr"))
    assert pattern is not None
    color = ModelColor(decide(probe(pattern), said=Said(), config=load_config(None)))
    frames = np.stack(
        [color.to_model(read_exr(cut.frame("SH010", 1001 + i)).astype(np.float32)) for i in range(FRAMES)]
    )
    plate = drawn.plate(width=WIDTH, height=HEIGHT, frames=FRAMES)
    labels = np.zeros(frames.shape[:3], np.uint8)
    for slot, matte in plate.mattes.items():
        labels[matte >= 0.99] = slot
    named: dict[str, np.ndarray] = {}
    actors = np.stack([color.to_model(rgb) for rgb in plate.rgb])
    for slot, name in NAMES.items():
        picture, mask = drawn.portraits(width=96, height=128)[slot]
        named[name] = mean_color(picture[None], mask[None] >= 0.99)
        named[f"{name}'s actor"] = mean_color(actors, labels == slot)
    return seen(frames, labels, named)


@pytest.mark.parametrize("exchanged", [False, True], ids=["as cast", "mattes exchanged"])
def test_the_right_person_is_delivered_in_the_right_matte(exchanged, tmp_path, farm):
    drawn = drawn_scene()
    cut = submission(tmp_path / "show", drawn)
    if exchanged:
        for one, other in (("ada", "ben"), ("ben", "ada")):
            cut.library["characters"][one]["matte"]["sequence"] = f"mattes/{{shot}}/{other}.####.png"
    said = farm("submit", cut.write(), "--weights", "miniature", "--json")
    assert said.code == 0, said.err
    assert delivered_people(cut, drawn) == ({1: "ben", 2: "ada"} if exchanged else {1: "ada", 2: "ben"})


@pytest.mark.parametrize("exchanged", [False, True], ids=["as cast", "roles exchanged"])
def test_a_stored_performance_moves_whoever_takes_its_roles(exchanged, tmp_path, farm):
    """The plate is gray and has no mattes: all that is seen comes from the performance and the references."""
    drawn = drawn_scene()
    cut = submission(tmp_path / "show", drawn)
    for kind in ("plates", "mattes"):
        (cut.folder / kind / "SH010").rename(cut.folder / f"duet_{kind}")
    gray = np.full((HEIGHT, WIDTH, 3), 0.2, np.float16)
    for index in range(FRAMES):
        path = cut.folder / f"plates/SH010/SH010.{1001 + index}.exr"
        write_exr(path, gray, frame=86400 + index, tag="lin_rec709_scene")
    roles = {"left": "ada", "right": "ben"}
    cut.library["performances"] = {
        "duet": {
            "media": "duet_plates/SH010.####.exr",
            "roles": {role: {"sequence": f"duet_mattes/{name}.####.png"} for role, name in roles.items()},
        }
    }
    cut.manifest["defaults"] |= {"mode": "animation", "driving": {"name": "duet"}}
    cast = zip(("ben", "ada") if exchanged else ("ada", "ben"), roles, strict=True)
    cut.manifest["cast"][0]["characters"] = [{"id": name, "role": role} for name, role in cast]
    said = farm("submit", cut.write(), "--weights", "miniature", "--json")
    assert said.code == 0, said.err
    assert delivered_people(cut, drawn) == ({1: "ben", 2: "ada"} if exchanged else {1: "ada", 2: "ben"})
