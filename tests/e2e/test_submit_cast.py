"""Who is said, seen and shown in each segment: prompts, overrides, references."""

from typing import Any

import numpy as np
import pytest
from PIL import Image
from submissions import FIRST_FILE, HEIGHT, WIDTH, Cut, read_exr

COUNT = 14


@pytest.fixture
def two(cut: Cut) -> Cut:
    """Ada in every frame, Ben only in the last four of 14; segments of 5 frames that share one."""
    cut.character("ada", "blue", (220, 30, 30))
    cut.character("ben", None, (30, 30, 220))
    cut.plate("SH010", COUNT)
    cut.matte("SH010", "ada", COUNT, (4, 10, 20, 30))
    folder = cut.folder / "mattes" / "SH010"
    for index in range(COUNT):
        matte = np.zeros((HEIGHT, WIDTH), np.uint8)
        if index >= COUNT - 4:
            matte[12:36, 50:62] = 255
        Image.fromarray(matte).save(folder / f"ben.{FIRST_FILE + index}.png")
    cut.manifest["handles"] = {"head": 0, "tail": 0}
    cut.manifest["defaults"] |= {"steps": 1, "segment": {"length": 5, "overlap": 1}}
    cut.clip("SH010", first=0, count=COUNT, available=COUNT)
    cut.manifest["cast"] = [{"when": {"clip": "*"}, "characters": [{"id": "ada"}, {"id": "ben"}]}]
    return cut


def segments(cut: Cut, farm: Any) -> list[dict[str, Any]]:
    said = farm("check", cut.write(), "--json")
    assert said.code == 0, said.err
    (shot,) = said.document["plan"]["shots"]
    return shot["segments"]


def test_a_characters_line_is_said_only_where_he_is_seen(two: Cut, farm):
    found = segments(two, farm)
    assert [(segment["first"], segment["count"]) for segment in found] == [(1001, 5), (1006, 4), (1010, 4), (1014, 1)]
    ada, both = "a stage. ada in plain clothes", "a stage. ada in plain clothes. ben in plain clothes"
    assert [segment["prompt"] for segment in found] == [ada, ada, both, both]


def test_a_segment_outranks_the_shot_and_the_shot_the_rule(two: Cut, farm):
    two.library["characters"]["ada"] |= {"seed": 3, "mode": "animation"}
    two.manifest["defaults"] |= {"mode": "replacement"}
    two.manifest["cast"][0] |= {"seed": 5, "prompt": "a wood"}
    two.manifest["shots"] = [
        {
            "id": "SH010",
            "seed": 7,
            "prompt_append": "at dusk",
            "segments": [{"frames": [1007, 1008], "seed": 9, "prompt_append": "it rains", "size": "96x64"}],
        }
    ]
    found = segments(two, farm)
    assert [segment["seed"] for segment in found] == [7, 9, 7, 7]
    assert {segment["mode"] for segment in found} == {"animation"}
    assert found[1]["prompt"] == "a wood. ada in plain clothes. at dusk, it rains"
    assert found[0]["prompt"] == "a wood. ada in plain clothes. at dusk"
    assert [segment["canvas"]["width"] for segment in found] == [64, 96, 64, 64]


def test_a_larger_segment_in_the_middle_of_a_chain_renders(two: Cut, farm):
    two.manifest["shots"] = [{"id": "SH010", "segments": [{"frames": [1007, 1008], "size": "96x64"}]}]
    said = farm("submit", two.write(), "--weights", two.weights, "--keep", "raw", "--json")
    assert said.code == 0, said.err
    shapes = {
        number: read_exr(two.version("SH010") / f"raw/SH010_scail2_v001_raw.{number}.exr").shape[:2]
        for number in (1001, 1006, 1009, 1010)
    }
    assert shapes[1006] == shapes[1009] != shapes[1001]
    assert shapes[1001] == shapes[1010]
    frames = sorted(two.version("SH010").glob("*.exr"))
    assert len(frames) == COUNT


def test_an_extra_view_is_seen_by_the_model_and_part_of_the_key(two: Cut, farm):
    assert farm("submit", two.write(), "--weights", two.weights).code == 0
    before = read_exr(two.frame("SH010", 1003)).copy()
    entry = two.library["characters"]["ada"]
    side = np.full((64, 48, 3), 119, np.uint8)
    side[10:60, 18:30] = (30, 220, 30)
    mask = np.zeros((64, 48), np.uint8)
    mask[10:60, 18:30] = 255
    Image.fromarray(side).save(two.folder / "refs" / "ada_side.png")
    Image.fromarray(mask).save(two.folder / "refs" / "ada_side_mask.png")
    entry["references"] = [
        {"image": "refs/ada_side.png", "mask": "refs/ada_side_mask.png", "view": "side"},
        entry["references"][0] | {"primary": True},
    ]
    said = farm("submit", two.write(), "--weights", two.weights, "--json")
    assert said.code == 0, said.err
    assert said.document["takes"][0]["version"] == 2
    (shot,) = said.document["plan"]["shots"]
    ada = next(character for character in shot["characters"] if character["id"] == "ada")
    assert [path.rsplit("/", 1)[-1] for path in ada["references"]] == ["ada.png", "ada_side.png"]
    assert (read_exr(two.frame("SH010", 1003, 2)) != before).any()


def test_a_reference_out_of_scale_is_warned_of_with_its_factor(two: Cut, farm):
    said = farm("check", two.write(), "--json")
    (shot,) = said.document["plan"]["shots"]
    # the still's figure is 52 of 64 lines high; letterboxed into 64x32 it is 26 lines, and Ben's matte 24 of 48 is 16
    (warning,) = [warning for warning in shot["warnings"] if "ben.png" in warning]
    assert "1.62x" in warning
    assert "reframed" in warning


def test_the_same_frames_elsewhere_are_not_rendered_again(two: Cut, farm):
    """Two shots whose plates and mattes are the same files by content are one render, whatever they are called."""
    two.plate("SH020", COUNT)
    for name in ("ada", "ben"):
        for number in range(FIRST_FILE, FIRST_FILE + COUNT):
            source = two.folder / "mattes" / "SH010" / f"{name}.{number}.png"
            target = two.folder / "mattes" / "SH020" / source.name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(source.read_bytes())
    two.clip("SH020", first=0, count=COUNT, available=COUNT)
    said = farm("submit", two.write(), "--weights", two.weights, "--json")
    assert said.code == 0, said.err
    first, second = said.document["takes"]
    assert first["key"] == second["key"]
    assert said.err.count("segment 1/4") == 1, "the second shot finds the first one's segments"
    assert read_exr(two.frame("SH010", 1005)).tobytes() == read_exr(two.frame("SH020", 1005)).tobytes()
