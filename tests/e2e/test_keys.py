"""A segment is known by content: what changes its pixels changes its key, and nothing else does."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from submissions import Cut, planned_shot, read_exr, sealed, span, write_exr

from scail2_farm.digests import Digests, sha256_of
from scail2_farm.documents import SealedShot
from scail2_farm.errors import FrameTruncated, ShareUnavailable
from scail2_farm.frames import FrameRange
from scail2_farm.seal import memory_of, unchanged
from scail2_farm.shots import Shot
from scail2_farm.windows import continued


def sealed_shot(cut: Cut, shot: Shot | None = None) -> SealedShot:
    """The one shot of a submission."""
    (found,) = sealed([shot or planned_shot(cut)], weights=cut.weights, work=cut.folder / "work")
    return found


def keys(cut: Cut, shot: Shot | None = None) -> list[str]:
    """The keys of the one shot's segments."""
    return [segment.key for segment in sealed_shot(cut, shot).segments]


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


@pytest.mark.parametrize(("frame", "changed"), [(1002, 3), (1007, 3), (1011, 2), (1015, 1), (1001, 0), (1016, 0)])
def test_a_changed_matte_changes_its_segment_and_those_after(one_shot: Cut, frame, changed):
    before = keys(one_shot)
    one_shot.matte("SH010", "ada", 1, (22, 11, 20, 30), first=frame)
    after = keys(one_shot)
    assert [a == b for a, b in zip(before, after, strict=True)] == [True] * (3 - changed) + [False] * changed


@pytest.mark.parametrize("count", range(1, 15))
def test_what_lies_behind_a_window_is_not_in_its_key(one_shot: Cut, count):
    """The windows of a longer shot keep their keys where a shorter one has them whole."""
    long = planned_shot(one_shot)
    cells = continued(long.windows, count, length=9, overlap=5)
    assert cells is not None
    frames = FrameRange(long.frames.first, count)
    short = replace(long, frames=frames, windows=cells, scenes=long.scenes[: len(cells)])
    whole = [cell.keep.last < count for cell in long.windows[: len(cells)]]
    assert (
        [a == b for a, b in zip(keys(one_shot, short), keys(one_shot, long), strict=False)]
        == [cell == own for cell, own in zip(cells, long.windows, strict=False)]
        == whole
    )


def test_one_that_is_longer_keeps_the_keys_of_the_shorter(one_shot: Cut):
    long = planned_shot(one_shot)
    one_shot.clips[0]["source_range"] = span(86403, 7)
    short = planned_shot(one_shot)
    cells = continued(short.windows, long.frames.count, length=9, overlap=5)
    assert cells is not None
    own = (*short.scenes, *(len(cells) - len(short.scenes)) * long.scenes[-1:])
    extended = keys(one_shot, replace(long, windows=cells, scenes=own))
    assert extended[: len(short.windows)] == keys(one_shot, short)
    assert len(extended) > len(short.windows)


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


# --------------------------------------------------------------------------- inputs of a sealed shot


def test_inputs_are_told_once_a_source(one_shot: Cut):
    shot = sealed_shot(one_shot)
    names = ["SH010.####.exr", "ada.####.png", "ada.png", "ada_mask.png"]
    assert [Path(file.path).name for file in shot.inputs] == names
    plates = one_shot.folder / "plates/SH010"
    lines = "".join(f"{sha256_of(plates / name)}  {name}\n" for name in (f"SH010.{n}.exr" for n in range(1002, 1016)))
    assert shot.inputs[0].sha256 == sha256(lines.encode()).hexdigest()
    assert shot.inputs[2].sha256 == sha256_of(one_shot.folder / "refs/ada.png")


def test_a_use_knows_its_clip_and_where_the_take_begins_in_it(one_shot: Cut):
    (use,) = sealed_shot(one_shot).uses
    assert (use.clip, use.clip_id, use.cut.first) == ("SH010", "SH010", 1004)
    assert use.start is not None
    assert (use.start.value, use.start.rate) == (86401, 24)


def test_a_file_that_many_shots_read_is_looked_at_once(one_shot: Cut, monkeypatch: pytest.MonkeyPatch):
    shot = planned_shot(one_shot)
    looked: list[Path] = []
    of = Digests.of

    def counted(digests: Digests, path: Path):
        looked.append(path)
        return of(digests, path)

    monkeypatch.setattr(Digests, "of", counted)
    found = sealed([shot, replace(shot, id="SH020")], weights=one_shot.weights, work=one_shot.folder / "work")
    assert len(found) == 2
    assert len(looked) == len(set(looked))
    assert len([path for path in looked if path.suffix == ".exr"]) == 14


def damage_plate(cut: Cut) -> str:
    write_exr(cut.folder / "plates/SH010/SH010.1011.exr", np.zeros((48, 80, 3), np.float16), frame=86410)
    return "SH010.1011.exr"


def damage_matte(cut: Cut) -> str:
    cut.matte("SH010", "ada", 1, (1, 1, 5, 5), first=1011)
    return "ada.1011.png"


def damage_reference(cut: Cut) -> str:
    (cut.folder / "refs/ada.png").unlink()
    return "ada.png"


def take_a_frame_away(cut: Cut) -> str:
    (cut.folder / "plates/SH010/SH010.1011.exr").unlink()
    return "SH010.1011.exr"


@pytest.mark.parametrize(
    ("damage", "seen_by"),
    [(damage_plate, (1, 2)), (damage_matte, (1, 2)), (damage_reference, (0, 1, 2)), (take_a_frame_away, (1, 2))],
)
def test_inputs_that_changed_since_are_named(one_shot: Cut, damage: Callable[[Cut], str], seen_by: tuple[int, ...]):
    shot, work = sealed_shot(one_shot), one_shot.folder / "work"
    for index in range(3):
        unchanged(shot, index, digests=memory_of(work))
    name = damage(one_shot)
    for index in range(3):
        if index not in seen_by:
            unchanged(shot, index, digests=memory_of(work))
            continue
        with pytest.raises(FrameTruncated, match=rf"what  {name} changed since the shot was planned") as told:
            unchanged(shot, index, digests=memory_of(work))
        assert (Path(told.value.where.file or "").name, told.value.where.shot) == (name, "SH010")


def test_without_a_memory_the_sources_are_named(one_shot: Cut):
    shot = sealed_shot(one_shot)
    damage_plate(one_shot)
    with pytest.raises(FrameTruncated, match=r"what  SH010\.####\.exr, ada\.####\.png changed"):
        unchanged(shot, 1, digests=Digests(one_shot.folder / "none.json"))


def test_weights_that_changed_are_inputs_too(one_shot: Cut, tmp_path: Path):
    weights = tmp_path / "weights"
    shutil.copytree(one_shot.weights, weights)
    (shot,) = sealed([planned_shot(one_shot)], weights=weights, work=tmp_path / "work")
    (weights / "tokenizer.json").write_text((weights / "tokenizer.json").read_text() + " ")
    with pytest.raises(FrameTruncated, match=r"what  tokenizer\.json changed"):
        unchanged(shot, 0, digests=memory_of(tmp_path / "work"))


def test_a_disk_that_went_away_is_no_change(one_shot: Cut):
    shot = sealed_shot(one_shot)
    (one_shot.folder / "plates").rename(one_shot.folder / "unmounted")
    with pytest.raises(ShareUnavailable):
        unchanged(shot, 0, digests=memory_of(one_shot.folder / "work"))
    (one_shot.folder / "unmounted").rename(one_shot.folder / "plates")
    unchanged(shot, 0, digests=memory_of(one_shot.folder / "work"))


def test_frames_that_are_held_are_looked_at_where_they_are_read(one_shot: Cut):
    one_shot.manifest["missing"] = "hold"
    for path in ("plates/SH010/SH010.1012.exr", "mattes/SH010/ada.1012.png"):
        (one_shot.folder / path).unlink()
    shot = sealed_shot(one_shot)
    unchanged(shot, 2, digests=memory_of(one_shot.folder / "work"))
    damage_plate(one_shot)
    with pytest.raises(FrameTruncated, match=r"what  SH010\.1011\.exr changed"):
        unchanged(shot, 2, digests=memory_of(one_shot.folder / "work"))
