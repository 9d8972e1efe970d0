"""A segment is known by content: what changes its pixels changes its key, and nothing else does."""

import shutil

import numpy as np
import pytest
from submissions import Cut, finish, read_exr, span, write_exr

from scail2_farm.plan import plan
from scail2_farm.seal import seal


def keys(cut: Cut) -> list[str]:
    """The keys of the one shot's segments."""
    planned = finish(plan(cut.write()))
    assert not planned.faults, planned.faults
    (sealed,) = finish(seal(planned.shots, weights=cut.weights, work=cut.folder / "work"))
    return [segment.key for segment in sealed.segments]


def test_moved_and_renamed_it_is_the_same(one_shot: Cut, tmp_path):
    before = keys(one_shot)
    assert len(set(before)) == 3
    moved = Cut(tmp_path / "elsewhere", one_shot.weights)
    shutil.copytree(one_shot.folder, moved.folder, dirs_exist_ok=True)
    moved.clips, moved.manifest, moved.library = one_shot.clips, one_shot.manifest, one_shot.library
    assert keys(moved) == before
    moved.clips[0]["name"] = "SH010_renamed"
    moved.library["characters"]["ada"]["matte"]["sequence"] = "mattes/SH010/{character}.####.png"
    assert keys(moved) == before


@pytest.mark.parametrize(("frame", "changed"), [(1002, 3), (1007, 3), (1011, 2), (1015, 1), (1001, 0), (1016, 0)])
def test_a_changed_frame_changes_its_segment_and_those_after(one_shot: Cut, frame, changed):
    before = keys(one_shot)
    path = one_shot.folder / f"plates/SH010/SH010.{frame}.exr"
    rgb = np.array(read_exr(path))
    rgb[20, 20] = 0.5
    write_exr(path, rgb, frame=86400 + frame - 1001)
    after = keys(one_shot)
    assert [a == b for a, b in zip(before, after, strict=True)] == [True] * (3 - changed) + [False] * changed


CHANGES = {
    "seed": lambda cut: cut.manifest["defaults"].update(seed=12),
    "prompt": lambda cut: cut.manifest["defaults"].update(prompt="rain"),
    "mode": lambda cut: cut.manifest["defaults"].update(mode="animation"),
    "steps": lambda cut: cut.manifest["defaults"].update(steps=3),
    "size": lambda cut: cut.manifest["defaults"].update(size="96x64"),
    "handles": lambda cut: cut.manifest.update(handles={"head": 1, "tail": 2}),
    "slot": lambda cut: cut.library["characters"]["ada"].update(slot="red"),
    "character prompt": lambda cut: cut.library["characters"]["ada"].update(prompt="a man"),
    "reference": lambda cut: cut.character("ada", "blue", (1, 2, 3)),
    "matte": lambda cut: cut.matte("SH010", "ada", 16, (21, 10, 20, 30)),
    "space": lambda cut: cut.manifest.update(color={"spaces": [{"media": "*", "space": "ACES2065-1"}]}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_decides_pixels_decides_the_key(one_shot: Cut, change):
    before = keys(one_shot)
    CHANGES[change](one_shot)
    assert not set(keys(one_shot)) & set(before)


def test_what_does_not_decide_pixels_does_not(one_shot: Cut):
    before = keys(one_shot)
    one_shot.library["characters"]["ada"].update(consent="MS-2026-041", name="Ada")
    one_shot.manifest["deliver"] = {"movie": "none"}
    one_shot.manifest["defaults"].update(preset="paper", solver="euler", shift=5.0, guidance=1.0, steps=2)
    assert keys(one_shot) == before


def test_how_much_a_segment_leaves_to_the_next_is_in_its_key(one_shot: Cut):
    one_shot.manifest["handles"] = {"head": 0, "tail": 0}
    one_shot.clips[0]["source_range"] = span(86403, 13)
    before = keys(one_shot)
    one_shot.manifest["defaults"]["segment"] = {"length": 9, "overlap": 1}
    after = keys(one_shot)
    assert len(before) == len(after) == 2
    assert before[0] != after[0], "its history has another length"


def test_a_policy_for_holes_that_are_not_there_is_not_in_the_key(one_shot: Cut):
    before = keys(one_shot)
    one_shot.manifest["missing"] = "hold"
    assert keys(one_shot) == before


def test_a_held_frame_is_not_a_frame_of_the_same_bits(one_shot: Cut):
    one_shot.manifest["missing"] = "hold"
    folder = one_shot.folder / "plates/SH010"
    (folder / "SH010.1012.exr").unlink()
    (folder / "SH010.1006.exr").unlink()
    before = keys(one_shot)
    shutil.copy(folder / "SH010.1005.exr", folder / "SH010.1006.exr")
    assert keys(one_shot)[0] != before[0], "it has a timecode of its own"
