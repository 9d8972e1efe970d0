"""Each number of each preset gives way at each level, and what was in force is in the plan and in take.json."""

import copy
from pathlib import Path
from typing import Any

import pytest
from submissions import FIRST_FILE, FIRST_TC, Cut, finish, plate_pixels, write_exr, write_lora

from scail2_farm.documents import Preset
from scail2_farm.plan import plan
from scail2_farm.shots import DEFAULT_SIZE, PRESET_LORAS, PRESET_SIZES, PRESETS, Shot

ANOTHER = {"euler": "unipc", "unipc": "dpmpp", "dpmpp": "euler"}
NUMBERS = ("solver", "steps", "shift", "guidance", "loras", "size")
IN_SAMPLER = {"preset", "solver", "steps", "shift", "guidance"}
LEVELS = ("show", "shot", "segment")
SECOND = [1006, 1009]
"""Frames of the second segment alone."""


@pytest.fixture(scope="module")
def loras(tmp_path_factory) -> dict[str, Path]:
    """Files of the adapters that presets and this module name."""
    folder = tmp_path_factory.mktemp("loras")
    names = ("dpo", "lightx2v", "relight")
    return {name: write_lora(folder / f"{name}.safetensors", seed=seed) for seed, name in enumerate(names)}


@pytest.fixture
def two_segments(cut: Cut) -> Cut:
    """A 16:9 shot of two segments, nothing said but the preset and the windows."""
    cut.played("SH010", 9, size=(64, 36))
    for index in range(9):
        picture = plate_pixels(0, index)[:36, :64]
        write_exr(cut.plate_file("SH010", FIRST_FILE + index), picture, frame=FIRST_TC + index)
    cut.manifest |= {"handles": {"head": 0, "tail": 0}}
    cut.manifest["defaults"] = {"seed": 1, "segment": {"length": 5, "overlap": 1}}
    return cut


def other_than(preset: Preset, number: str) -> Any:
    """What no segment of this preset would have."""
    if number == "solver":
        return ANOTHER[PRESETS[preset][0]]
    return {
        "steps": 3,
        "shift": 7.5,
        "guidance": 0.0,
        "loras": [{"name": "relight", "strength": 0.3}],
        "size": "96x64",
    }[number]


def said_at(level: str, preset: Preset, said: dict[str, Any], *, manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest with the preset for the show, and numbers said at a level."""
    found = copy.deepcopy(manifest)
    found["defaults"]["preset"] = preset
    if level == "show":
        found["defaults"] |= said
    elif level == "shot":
        found["shots"] = [{"id": "SH010", **said}]
    else:
        found["shots"] = [{"id": "SH010", "segments": [{"frames": SECOND, **said}]}]
    return found


def planned(cut: Cut, manifest: dict[str, Any], loras: dict[str, Path]) -> Shot:
    own, cut.manifest = cut.manifest, manifest
    found = finish(plan(cut.write(), loras=loras))
    cut.manifest = own
    assert not found.faults, found.faults
    (shot,) = found.shots
    return shot


def in_force(shot: Shot, index: int) -> dict[str, Any]:
    """What a segment of a plan is rendered with, in the words of a manifest."""
    scene = shot.scenes[index]
    loras = [{"name": Path(one.path).stem, "strength": one.strength} for one in scene.loras]
    numbers = scene.sampler.model_dump(include={"solver", "steps", "shift", "guidance"})
    return numbers | {"loras": loras, "size": f"{scene.canvas.width}x{scene.canvas.height}"}


def by_default(preset: Preset) -> dict[str, Any]:
    solver, steps, shift, guidance = PRESETS[preset]
    width, height = PRESET_SIZES.get(preset, DEFAULT_SIZE)
    loras = [{"name": name, "strength": strength} for name, strength in PRESET_LORAS[preset]]
    return {
        "solver": solver, "steps": steps, "shift": shift, "guidance": guidance,
        "loras": loras, "size": f"{width}x{height}",
    }  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
def test_each_number_gives_way_at_each_level(preset: Preset, two_segments: Cut, loras):
    bare = planned(two_segments, said_at("show", preset, {}, manifest=two_segments.manifest), loras)
    assert len(bare.windows) == 2
    own = [in_force(bare, index) for index in (0, 1)]
    assert own == [by_default(preset)] * 2
    for level in LEVELS:
        for number in NUMBERS:
            said = {number: other_than(preset, number)}
            assert own[0][number] != said[number]
            shot = planned(two_segments, said_at(level, preset, said, manifest=two_segments.manifest), loras)
            found = [in_force(shot, index) for index in (0, 1)]
            assert found == [own[0] | said if level != "segment" else own[0], own[1] | said], (level, number)


def test_what_was_in_force_is_in_the_take(two_segments: Cut, loras, farm, monkeypatch: pytest.MonkeyPatch):
    """Numbers of the show, the shot and a segment, through a real submit."""
    monkeypatch.setenv("SCAIL2_LORAS", " ".join(f"{name}={path}" for name, path in loras.items()))
    two_segments.manifest["defaults"] |= {"preset": "quality", "steps": 2, "size": "64x32"}
    own = {"preset": "preview", "steps": 1, "guidance": 1.5, "loras": [{"name": "relight", "strength": 0.3}]}
    segment = own | {"frames": SECOND, "size": "96x64"}
    two_segments.manifest["shots"] = [{"id": "SH010", "shift": 4.5, "segments": [segment]}]
    said = farm("submit", two_segments.write(), "--weights", two_segments.weights, "--json")
    assert said.code == 0, said.err
    first, second = two_segments.take("SH010").segments
    assert first.sampler.model_dump(include=IN_SAMPLER) == {
        "preset": "quality", "solver": "unipc", "steps": 2, "shift": 4.5, "guidance": 5.0,
    }  # fmt: skip
    assert second.sampler.model_dump(include=IN_SAMPLER) == {
        "preset": "preview", "solver": "euler", "steps": 1, "shift": 5.0, "guidance": 1.5,
    }  # fmt: skip
    assert [(one.path, one.strength) for one in first.loras] == [(str(loras["dpo"]), 1.0)]
    assert [(one.path, one.strength) for one in second.loras] == [(str(loras["relight"]), 0.3)]
    assert [(one.canvas.width, one.canvas.height) for one in (first, second)] == [(64, 32), (96, 64)]
