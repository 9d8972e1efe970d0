"""Plans of small cuts, nothing rendered: which media, which frames, and every fault once."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from submissions import FIRST_FILE, FIRST_TC, HEIGHT, WIDTH, Cut, finish, plate_pixels, sealed, span, time, write_exr

from scail2_farm.errors import PlateMissing
from scail2_farm.media import exr
from scail2_farm.media.movies import write_movie
from scail2_farm.plan import Plan, plan


def planned(cut: Cut, **more: Any) -> Plan:
    return finish(plan(cut.write(), **more))


def faultless(cut: Cut, **more: Any) -> Plan:
    found = planned(cut, **more)
    assert not found.faults, [str(fault) for fault in found.faults]
    return found


def media_of(clip: dict[str, Any]) -> dict[str, Any]:
    return clip["media_references"]["DEFAULT_MEDIA"]


# --------------------------------------------------------------------------- which media


def test_media_that_is_there_is_never_searched_for(one_shot: Cut):
    for number in range(16):
        path = one_shot.folder / f"proxies/SH010/SH010.{FIRST_FILE + number}.exr"
        write_exr(path, plate_pixels(9, number), frame=FIRST_TC + number)
    lost = one_shot.clip("SH020", first=3, count=5, available=16)
    lost["media_references"]["DEFAULT_MEDIA"] = {"OTIO_SCHEMA": "MissingReference.1", "metadata": {}, "name": ""}
    one_shot.manifest["media"] = {"search": ["proxies"]}
    found = planned(one_shot)
    assert [type(fault) for fault in found.faults] == [PlateMissing], "SH020 is not under the folder"
    (shot,) = found.shots
    assert Path(shot.plate.path).parent == one_shot.folder / "plates/SH010"


def test_media_whose_address_leads_nowhere_is_searched_for(one_shot: Cut):
    (one_shot.folder / "plates").rename(one_shot.folder / "moved")
    (shot,) = faultless(one_shot, search=[one_shot.folder / "moved"]).shots
    assert Path(shot.plate.path).parent == one_shot.folder / "moved/SH010"
    assert f"its media was found by searching: {shot.plate.path}" in shot.warnings
    media_of(one_shot.clips[0])["target_url_base"] = "P:\\show\\plates\\SH010"
    (shot,) = faultless(one_shot, search=[one_shot.folder / "moved"]).shots
    assert Path(shot.plate.path).parent == one_shot.folder / "moved/SH010"


def test_a_sequence_counted_in_two_ways_is_two_plates(one_shot: Cut):
    stepped = one_shot.clip("SH010", first=1, count=4, available=8)
    media_of(stepped)["frame_step"] = 2
    one_shot.manifest["handles"] = {"head": 0, "tail": 0}
    one, other = faultless(one_shot).shots
    assert (one.plate.step, one.plate.frames.count, str(one.frames)) == (1, 16, "1004-1013")
    assert (other.plate.step, other.plate.frames.count, str(other.frames)) == (2, 8, "1002-1005")


# --------------------------------------------------------------------------- which frames


def test_the_rate_of_media_without_a_range_is_its_own(cut: Cut):
    cut.character("ada", "blue", (220, 30, 30))
    write_movie(cut.folder / "a.mov", [np.full((HEIGHT, WIDTH, 3), 0.5)] * 24, rate=Fraction(48), timecode=None)
    cut.matte("SH010", "ada", 24, (20, 10, 20, 30))
    clip = cut.clip("SH010", first=0, count=4, available=24)
    clip["source_range"] = span(2, 4)
    clip["media_references"]["DEFAULT_MEDIA"] = {
        "OTIO_SCHEMA": "ExternalReference.1",
        "target_url": "a.mov",
        "available_range": None,
        "metadata": {},
    }
    cut.manifest["handles"] = {"head": 0, "tail": 0}
    cut.manifest["cast"] = [{"when": {"clip": "SH*"}, "characters": [{"id": "ada"}]}]
    (shot,) = faultless(cut).shots
    assert str(shot.frames) == "4-10", "4 frames of 24 a second are every second of 48"
    assert any("48" in warning and "24" in warning for warning in shot.warnings)


def test_the_timecode_of_a_frame_that_does_not_say_its_rate(one_shot: Cut):
    for number in range(16):
        path = one_shot.folder / f"plates/SH010/SH010.{FIRST_FILE + number}.exr"
        code = {"timeCode": f"01:00:00:{number:02d}", "colorInteropID": "lin_ap1_scene"}
        exr.write_rgb(path, plate_pixels(0, number).astype(np.float32), attributes=code)
    media_of(one_shot.clips[0])["available_range"] = None
    (shot,) = faultless(one_shot).shots
    assert shot.plate.timecode_start == FIRST_TC
    assert str(shot.uses[0].frames) == "1004-1013"


def test_a_timecode_keeps_its_digits_at_another_rate(one_shot: Cut):
    clip = one_shot.clips[0]
    for written in (clip["source_range"], media_of(clip)["available_range"]):
        frames = written["start_time"]["value"] - FIRST_TC
        written["start_time"] = time(90000 + frames, 25.0)
        written["duration"]["rate"] = 25.0
    media_of(clip)["rate"] = 25.0
    rows: Any = faultless(one_shot).as_json()["shots"]
    (row,) = rows
    assert (row["rate"], row["timecode"]) == ("25", "01:00:00:01"), "the file says 24, and 01:00:00:00"
    assert disagreements(row["warnings"]) == [
        "the cut says that its media runs at 25 frames a second, the file says 24; the cut is believed"
    ]


def disagreements(warnings: Any) -> list[str]:
    return [warning for warning in warnings if "the file says" in warning]


def test_a_timecode_that_the_file_has_otherwise_is_told(one_shot: Cut):
    clip = one_shot.clips[0]
    (shot,) = faultless(one_shot).shots
    assert disagreements(shot.warnings) == []
    for written in (clip["source_range"], media_of(clip)["available_range"]):
        written["start_time"]["value"] += 10
    (shot,) = faultless(one_shot).shots
    (told,) = disagreements(shot.warnings)
    assert "first frame of its media is at 01:00:00:10, the file says 01:00:00:00" in told
    assert str(shot.uses[0].frames) == "1004-1013"


@pytest.mark.parametrize("start", [0, FIRST_FILE])
def test_a_media_start_that_counts_frames_is_no_timecode(one_shot: Cut, start: int):
    clip = one_shot.clips[0]
    media_of(clip)["available_range"]["start_time"]["value"] = start
    clip["source_range"]["start_time"]["value"] = start + 3
    (shot,) = faultless(one_shot).shots
    assert disagreements(shot.warnings) == []


@pytest.mark.parametrize("shift", [0, 7])
def test_the_timecode_of_a_movie_the_cut_knows_a_part_of(cut: Cut, shift: int):
    cut.character("ada", "blue", (220, 30, 30))
    picture = np.full((HEIGHT, WIDTH, 3), 0.5)
    write_movie(cut.folder / "a.mov", [picture] * 24, rate=Fraction(24), timecode="01:00:00:00")
    cut.matte("SH010", "ada", 24, (20, 10, 20, 30))
    clip = cut.clip("SH010", first=shift, count=4, available=10)
    clip["media_references"]["DEFAULT_MEDIA"] = {
        "OTIO_SCHEMA": "ExternalReference.1",
        "target_url": "a.mov",
        "available_range": span(FIRST_TC + shift, 12),
        "metadata": {},
    }
    cut.manifest["cast"] = [{"when": {"clip": "SH*"}, "characters": [{"id": "ada"}]}]
    (shot,) = faultless(cut).shots
    assert shot.uses[0].frames.first == shift
    assert disagreements(shot.warnings) == []


def test_handles_of_a_fast_clip_are_bounded(one_shot: Cut):
    warp = {"OTIO_SCHEMA": "LinearTimeWarp.1", "metadata": {}, "name": "", "effect_name": "", "time_scalar": 200.0}
    one_shot.clips[0] |= {"source_range": span(FIRST_TC, 1), "effects": [warp]}
    one_shot.manifest |= {"handles": {"head": 8, "tail": 8}, "missing": "hold"}
    (shot,) = faultless(one_shot).shots
    assert shot.handles_asked.head == 1000


def test_a_range_that_ends_before_it_begins(one_shot: Cut):
    one_shot.matte("X010", "ada", 16, (20, 10, 20, 30))
    one_shot.manifest["shots"] = [
        {"id": "X010", "media": "plates/SH010/SH010.####.exr", "range": [1009, 1005], "characters": [{"id": "ada"}]}
    ]
    (fault,) = planned(one_shot).faults
    assert "ends before it begins" in fault.what
    assert fault.where.line


def test_media_of_another_machine_is_told_with_its_line(one_shot: Cut):
    one_shot.manifest["shots"] = [{"id": "X010", "media": "P:\\show\\a.####.exr", "characters": [{"id": "ada"}]}]
    (fault,) = planned(one_shot).faults
    assert "path_map" in fault.fix
    lines = (one_shot.folder / "edit.shots.yaml").read_text().splitlines()
    assert fault.where.line
    assert "id: X010" in lines[fault.where.line - 1]


def test_a_shot_with_no_frame_of_its_media_is_not_made_up(one_shot: Cut):
    one_shot.manifest["missing"] = "hold"
    one_shot.manifest["shots"] = [
        {"id": "X010", "media": "plates/SH010/SH010.####.exr", "range": [2001, 2005], "characters": [{"id": "ada"}]}
    ]
    faults = planned(one_shot).faults
    assert any("2001-2005" in fault.what and "5 missing" in fault.what for fault in faults)


# --------------------------------------------------------------------------- settings in a part of a shot


def test_segments_are_named_by_the_numbers_of_the_files(one_shot: Cut):
    media_of(one_shot.clips[0])["frame_step"] = 2
    media_of(one_shot.clips[0])["available_range"] = span(FIRST_TC, 8)
    one_shot.clips[0]["source_range"] = span(FIRST_TC + 1, 6)
    one_shot.manifest["handles"] = {"head": 0, "tail": 0}
    one_shot.manifest["defaults"]["segment"] = {"length": 5, "overlap": 1}
    one_shot.manifest["shots"] = [
        {"id": "SH010", "segments": [{"frames": [1013, 1013], "seed": 3}, {"frames": [2001, 2009], "seed": 4}]}
    ]
    found = faultless(one_shot)
    (shot,) = found.shots
    assert str(shot.frames) == "1002-1007", "the files 1003 to 1013, two apart"
    rows: Any = found.as_json()["shots"]
    assert (rows[0]["frames"], rows[0]["step"]) == ({"first": 1003, "count": 6}, 2)
    assert [part["first"] for part in rows[0]["segments"]] == [1003, 1013]
    assert [scene.seed for scene in shot.scenes] == [11, 3]
    assert [warning for warning in shot.warnings if "decides no segment" in warning] == [
        "`segments` [2001, 2009] decides no segment of the shot"
    ]


QUALITY = ("quality", "unipc", 40, 3.0)


@pytest.mark.parametrize("level", ["character", "rule", "shot", "segment"])
def test_a_preset_starts_from_its_own_numbers_again(one_shot: Cut, level: str):
    """What the defaults say of steps and shift was said of their preset."""
    one_shot.manifest["defaults"] |= {"steps": 2, "shift": 7.0, "solver": "euler"}
    said = {"preset": "quality", "guidance": 2.0}
    if level == "character":
        one_shot.library["characters"]["ada"] |= said
    elif level == "rule":
        one_shot.manifest["cast"][0] |= said
    elif level == "shot":
        one_shot.manifest["shots"] = [{"id": "SH010", **said}]
    else:
        one_shot.manifest["shots"] = [{"id": "SH010", "segments": [{"frames": [1001, 1016], **said}]}]
    (shot,) = faultless(one_shot).shots
    sampler = shot.scenes[0].sampler
    assert (sampler.preset, sampler.solver, sampler.steps, sampler.shift) == QUALITY
    assert sampler.guidance == 2.0, "said with the preset"


def test_numbers_said_nearer_than_the_preset_stay(one_shot: Cut):
    one_shot.library["characters"]["ada"]["shift"] = 9.0
    one_shot.manifest["cast"][0]["preset"] = "quality"
    one_shot.manifest["shots"] = [{"id": "SH010", "steps": 12, "segments": [{"frames": [1001, 1004], "shift": 1.5}]}]
    (shot,) = faultless(one_shot).shots
    first, last = shot.scenes[0].sampler, shot.scenes[-1].sampler
    assert (first.preset, first.steps, first.shift) == ("quality", 12, 1.5)
    assert (last.preset, last.steps, last.shift) == ("quality", 12, 3.0)


def test_stills_out_of_scale_share_a_line(one_shot: Cut):
    one_shot.character("bo", "red", (1, 2, 3))
    one_shot.matte("SH010", "bo", 16, (40, 10, 8, 12))
    one_shot.manifest["cast"][0]["characters"].append({"id": "bo"})
    (shot,) = faultless(one_shot).shots
    (told,) = [warning for warning in shot.warnings if "reframed" in warning]
    assert told.startswith("ada.png and bo.png as they are would make ada 1.30x and bo ")


# --------------------------------------------------------------------------- every fault once


def many(cut: Cut, count: int) -> None:
    """The shot again as others, each with a matte of its own name."""
    for index in range(count):
        cut.clip("SH010", first=3, count=10, available=16)["name"] = f"SH{index + 20:03d}"
    cut.library["characters"]["ada"]["matte"] = {"sequence": "mattes/SH010/{character}.####.png"}


FAULTS: dict[str, tuple[Any, str, str]] = {
    "a still": (lambda cut: (cut.folder / "refs/ada.png").unlink(), "ada.png is not there", "library.yaml"),
    "no matte": (
        lambda cut: cut.library["characters"]["ada"].pop("matte"),
        "no matte is given for ada",
        "edit.shots.yaml",
    ),
    "a matte without numbers": (
        lambda cut: cut.library["characters"]["ada"].update(matte={"sequence": "{shot}.png"}),
        "the matte {shot}.png is not a numbered sequence",
        "library.yaml",
    ),
    "a kind of matte": (
        lambda cut: cut.library["characters"]["ada"].update(matte={"auto": "people"}),
        "this version does not read `auto` mattes yet",
        "library.yaml",
    ),
    "colours": (
        lambda cut: (
            cut.character("bo", "blue", (1, 2, 3), matte={"sequence": "mattes/SH010/ada.####.png"}),
            cut.manifest["cast"][0]["characters"].append({"id": "bo"}),
        ),
        "ada and bo both have blue",
        "edit.shots.yaml",
    ),
}


@pytest.mark.parametrize("broken", FAULTS)
def test_a_fault_of_many_shots_is_told_once_with_its_line(one_shot: Cut, broken: str):
    breaking, words, file = FAULTS[broken]
    many(one_shot, 3)
    breaking(one_shot)
    (fault,) = planned(one_shot).faults
    assert fault.what.startswith(words)
    assert Path(fault.where.file or "").name == file
    assert fault.where.line
    if fault.where.shot is not None:
        assert fault.where.shot == "SH010"
        assert fault.what.endswith("(so in 3 more shots)")


def test_a_plate_of_many_shots_that_is_not_there_is_told_once(one_shot: Cut):
    many(one_shot, 3)
    for number in range(16):
        (one_shot.folder / f"plates/SH010/SH010.{FIRST_FILE + number}.exr").unlink()
    (fault,) = planned(one_shot).faults
    assert fault.what.endswith("(so in 3 more shots)")
    assert str(one_shot.folder / "plates/SH010/SH010.####.exr") == fault.where.file


# --------------------------------------------------------------------------- how much is looked at


def test_a_folder_is_listed_once_for_all_its_holes(one_shot: Cut, monkeypatch: pytest.MonkeyPatch):
    """Of a long sequence with many holes each is stood in for; nothing may be looked up hole by hole."""
    one_shot.manifest["missing"] = "hold"
    for number in range(1006, 1012):
        (one_shot.folder / f"plates/SH010/SH010.{number}.exr").unlink()
        (one_shot.folder / f"mattes/SH010/ada.{number}.png").unlink()
    listed: list[Path] = []
    listing = os.scandir

    def counted(path: Path) -> Any:
        listed.append(Path(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", counted)
    (shot,) = faultless(one_shot).shots
    sealed([shot], weights=one_shot.weights, work=one_shot.folder / "work")
    assert list(shot.plate.missing) == list(range(1006, 1012))
    assert listed.count(one_shot.folder / "mattes/SH010") == 3, "checked, looked through, sealed"


def test_digests_are_written_once_for_many_shots(one_shot: Cut, monkeypatch: pytest.MonkeyPatch):
    for index in range(4):
        one_shot.clip("SH010", first=3, count=3 + index, available=16)["name"] = f"SH{index + 20:03d}"
        one_shot.matte(f"SH{index + 20:03d}", "ada", 16, (20, 10, 20, 30))
    shots = faultless(one_shot).shots
    assert len(shots) == 5
    written: list[str] = []
    replacing = os.replace

    def counted(source: Any, target: Any) -> None:
        written.append(Path(target).name)
        replacing(source, target)

    monkeypatch.setattr(os, "replace", counted)
    sealed(shots, weights=one_shot.weights, work=one_shot.folder / "work")
    assert written == ["digests.json"]
