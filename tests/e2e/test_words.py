"""What the command line tells people: short tables, paths from the edit's folder, everything once."""

import json
import os
from typing import Any

import pytest
from submissions import Cut

NARROW = {**os.environ, "COLUMNS": "80"}


def told(cut: Cut, *arguments: str) -> str:
    """What `check` says of a submission, on a terminal of 80 columns."""
    return cut.run("check", str(cut.folder / "edit.otio"), *arguments, environment=NARROW).stdout


def rows(words: str) -> list[list[str]]:
    """The cells of every line of the table, headings left out."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in words.split("\n") if line.startswith("│")]


def uncast(cut: Cut, names: list[str]) -> None:
    """More clips of the one plate."""
    for name in names:
        cut.clip("SH010", first=3, count=10, available=16, name=name)


def test_clips_nobody_plays_in_share_a_line(one_shot):
    uncast(one_shot, [f"X{number:03d}" for number in range(200)])
    one_shot.write()
    words = told(one_shot)
    assert rows(words) == [
        ["SH010", "V1", "ada (blue)", "edit.shots.yaml:16: clip 'SH*':"],
        ["", "", "", "ada"],
        ["X000 to X199 (200)", "V1", "[uncast]", "no rule matches it"],
    ]
    assert words.startswith("edit: 201 clips\n")
    assert words.endswith("nobody is cast in 200 clips\n1 shot to render, 0 faults\n")


def test_who_cast_a_character_is_said_where_several_rules_match(one_shot):
    one_shot.manifest["cast"].append({"when": {"track": "V1"}, "characters": [{"id": "ada"}], "seed": 3})
    one_shot.write()
    line = "".join(cells[2] for cells in rows(told(one_shot)))
    assert line.replace(" ", "") == "ada(blue)byedit.shots.yaml:19"


def test_a_shot_is_told_with_its_plate_stills_mattes_and_settings(one_shot):
    one_shot.manifest["shots"] = [{"id": "SH010", "segments": [{"frames": [1002, 1002], "prompt": "rain", "seed": 4}]}]
    one_shot.write()
    words = told(one_shot)
    assert str(one_shot.folder) not in words
    second = "replacement at 64x32, preview euler 2 steps, seed 11, prompt 'a stage. ada in plain clothes'"
    assert words.split("└")[1].split("\n")[1:-1] == [
        "SH010: frames 1002-1015 (14, handles 2/2), 3 segments",
        "  plate plates/SH010/SH010.####.exr",
        "  80x48, ACEScg (the file: colorInteropID lin_ap1_scene)",
        "  ada (blue): refs/ada.png, matte mattes/SH010/ada.####.png",
        "  frames 1002-1010: replacement at 64x32, preview euler 2 steps, seed 4, prompt 'rain. ada in plain clothes'",
        f"  frames 1011-1015: {second}",
        "  warning: ada.png as it is would make ada 1.30x the performer's size; it is reframed",
        "1 shot to render, 0 faults",
    ]


def test_a_clip_whose_name_is_no_file_name_is_shown_with_it(one_shot):
    one_shot.clips[0]["name"] = "SH*/[red]"
    one_shot.manifest["cast"] = []
    one_shot.write()
    assert rows(told(one_shot))[0][0] == "SH_red (SH*/[red])"


def test_an_edit_without_a_manifest_says_which_it_looked_for(one_shot):
    one_shot.write()
    (one_shot.folder / "edit.shots.yaml").unlink()
    assert "none of edit.shots.yaml, edit.shots.yml, edit.shots.json is in " in told(one_shot)


def test_an_edit_that_cannot_be_read_has_no_table(one_shot):
    one_shot.write()
    (one_shot.folder / "edit.otio").write_text("{")
    assert told(one_shot) == "edit: 0 clips\n0 shots to render, 1 fault\n"


def test_a_warning_of_several_shots_is_told_once(one_shot):
    for name in ("SH020", "SH030"):
        one_shot.plate(name, 16)
        one_shot.matte(name, "ada", 16, (20, 30, 5, 10))
        one_shot.clip(name, first=3, count=2, available=16)
    one_shot.write()
    ran = one_shot.run("submit", str(one_shot.folder / "edit.otio"), "--weights", str(one_shot.weights))
    assert ran.returncode == 0, ran.stderr
    (warning,) = [line for line in ran.stderr.split("\n") if line.startswith("scail2-farm: warning: SH020")]
    assert "SH020, SH030: ada.png as it is " in warning


@pytest.mark.parametrize("command", ["check", "submit"])
def test_where_no_plan_can_be_made_json_is_printed_all_the_same(one_shot, command):
    edit = one_shot.write()
    odd = edit.parent / os.fsdecode(b"\xff") / "edit.otio"
    odd.parent.mkdir()
    odd.write_bytes(edit.read_bytes())
    ran = one_shot.run(command, str(odd), "--json")
    document: dict[str, Any] = json.loads(ran.stdout)
    assert document["plan"] is None
    assert [fault["code"] for fault in document["faults"]] == ["SF-SUBMISSION-INVALID"]
    assert ran.returncode == 3


def test_an_edit_that_may_not_be_read_is_a_fault_and_no_usage_error(one_shot):
    edit = one_shot.write()
    edit.chmod(0)
    if os.access(edit, os.R_OK):
        pytest.skip("this user may read everything")
    ran = one_shot.run("check", str(edit))
    assert "SF-SHARE-UNAVAILABLE" in ran.stderr
    assert ran.returncode == 5
