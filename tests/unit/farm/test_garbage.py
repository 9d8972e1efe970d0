import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scail2_farm.errors import SettingsInvalid, ShareUnavailable
from scail2_farm.farm import garbage
from scail2_farm.farm.garbage import Garbage, Stage
from scail2_farm.farm.places import Places, replies_of

NOW = 2_000_000_000.0
DAY = 86400.0


def key(number: int) -> str:
    return f"{number:064x}"[::-1]


@pytest.fixture
def places(tmp_path) -> Places:
    places = Places(root=tmp_path / "farm", state=tmp_path / "farm" / ".farm")
    places.make()
    return places


def write(path: Path, *, days_old: float = 0.0, content: bytes = b"12345") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    aged(path, days_old)
    aged(path.parent, days_old)
    return path


def aged(path: Path, days: float) -> None:
    os.utime(path, (NOW - days * DAY, NOW - days * DAY))


def segment(places: Places, number: int, *, days_old: float, token: int | None = None) -> Path:
    """A rendered segment of two files and 15 bytes; with a token a stage."""
    folder = places.segment(key(number)) if token is None else places.stage(key(number), token)
    write(folder / "frames" / "1001.exr", days_old=days_old, content=b"0123456789")
    write(folder / "report.json", days_old=days_old)
    return folder


def found(places: Places, **wishes) -> list[Path]:
    asked = {"needed": set(), "keep_stages": set(), "keep": set(), "now": NOW, "older_than_s": 14 * DAY} | wishes
    return [piece.path for piece in garbage.find(places, **asked)]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --------------------------------------------------------------------------- finding


def test_an_empty_farm_has_none(tmp_path):
    assert found(Places(root=tmp_path, state=tmp_path)) == []


def test_stages_are_read_by_name(places):
    stage = segment(places, 1, days_old=0, token=12)
    segment(places, 2, days_old=0)
    write(places.work / f"{key(3)[:24]}.7")  # a file
    for name in (f"{key(4)[:24]}.x", f"{key(4)[:23]}.1", f"{key(4)[:24]}.1.part", "frames"):
        (places.work / name).mkdir()
    assert garbage.stages(places.work) == [Stage(path=stage, folder=key(1)[:24], token=12)]


def test_stages_go_at_any_age_but_those_to_keep(places):
    litter, whole = segment(places, 1, days_old=0, token=1), segment(places, 1, days_old=0, token=2)
    ahead = segment(places, 2, days_old=-3, token=1)
    segment(places, 3, days_old=400)
    assert found(places, keep_stages={whole.name}, older_than_s=math.inf) == [litter, ahead]


def test_rendered_segments_go_when_nobody_needs_them_and_they_are_old(places):
    old, _needed, _young = (segment(places, n, days_old=days) for n, days in ((1, 15), (2, 15), (3, 13)))
    assert garbage.find(places, needed={key(2)}, keep_stages=set(), keep=set(), now=NOW, older_than_s=14 * DAY) == [
        Garbage(path=old, bytes=15, why="a rendered segment that no open shot needs, 15 days old")
    ]


def test_a_segment_is_as_young_as_the_newest_in_it(places):
    folder = segment(places, 1, days_old=15)
    (folder / "report.json").write_bytes(b"anew")
    aged(folder / "report.json", 1)
    aged(folder, 15)
    assert found(places) == []


def test_bytes_are_what_is_freed(places, tmp_path):
    folder = segment(places, 1, days_old=15)
    os.link(folder / "frames" / "1001.exr", tmp_path / "delivered.exr")
    [piece] = garbage.find(places, needed=set(), keep_stages=set(), keep=set(), now=NOW, older_than_s=14 * DAY)
    assert piece.bytes == 5


def test_plans_logs_and_answers_go_by_age_and_name(places):
    plan = write(places.plan("SH.log") / "planned.json", days_old=20).parent
    write(places.plan("open") / "planned.json", days_old=20)
    write(places.plan("young") / "planned.json", days_old=2)
    log = write(places.log("7"), days_old=20)
    tail = write(places.log("7").with_name("7.log.tail"), days_old=20)
    write(places.log("8"), days_old=20)
    before = write(places.log("7").with_name("7.log.before"), days_old=20)
    for kept in ("8.log.old", "8.log.before"):
        write(places.log("8").with_name(kept), days_old=20)
    write(places.log("9"), days_old=2)
    answer = write(replies_of(places.root) / "a.json", days_old=20)
    write(replies_of(places.root) / "b.json", days_old=2)
    assert found(places, keep={"open", "8"}) == [plan, log, before, tail, answer]


def test_evidence_goes_by_age_alone(places):
    old = write(places.evidence / "SH010-1-1a2b3c4d" / "FAULT.txt", days_old=15).parent
    write(places.evidence / "SH010-2-1a2b3c4d" / "FAULT.txt", days_old=13)
    [piece] = garbage.find(
        places, needed={key(1)}, keep_stages=set(), keep={"SH010"}, now=NOW, older_than_s=14 * DAY
    )  # fmt: skip
    assert piece == Garbage(path=old, bytes=5, why="evidence of a segment that was refused twice, 15 days old")
    assert found(places, older_than_s=math.inf) == [], "a farm that starts keeps it"
    assert garbage.set_aside([piece], places=places) == []
    assert [path.name for path in places.evidence.iterdir()] == ["SH010-2-1a2b3c4d"]


def test_strangers_are_left_alone(places):
    for path in (
        places.evidence / "notes of the artist" / "x",
        places.work / "digests.json",
        places.work / "notes" / "x",
        places.own / "claimed" / "20250101-abc-cut" / "cut.otio",
        places.own / "logs" / "night.txt",
        places.own / "watcher.json",
        places.accepted / "JOB" / "cut.otio",
        places.inbox / "cut.otio",
        places.returned("JOB") / "shots" / "SH010" / "v001" / "history" / "0.npy",
        places.root / "rejected" / "x" / "cut.otio",
        places.root / "STATUS" / "cut.status.json",
    ):
        write(path, days_old=999)
    assert found(places, older_than_s=0) == []


def test_links_are_not_followed(places, tmp_path):
    outside = tmp_path / "outside"
    write(outside / "precious.exr", days_old=999)
    for link in (
        places.segment(key(1)),
        places.stage(key(1), 1),
        places.plan("x"),
        places.log("x"),
        replies_of(places.root) / "x",
    ):
        link.symlink_to(outside)
    assert found(places) == []
    folder = segment(places, 2, days_old=20)
    (folder / "away").symlink_to(outside)
    aged(folder, 20)
    pieces = garbage.find(places, needed=set(), keep_stages=set(), keep=set(), now=NOW, older_than_s=14 * DAY)
    assert [piece.path for piece in pieces] == [folder]
    assert pieces[0].bytes < 100
    assert garbage.set_aside(pieces, places=places) + garbage.empty(places) == []
    assert not folder.exists()
    assert everything(outside) == {"precious.exr": b"12345"}


@pytest.mark.parametrize("name", ["work", "evidence", "plans", "logs", "control", "control/replies", "trash", "."])
def test_a_farm_folder_behind_a_link_is_refused(places, tmp_path, name):
    own = places.own / name
    own.rename(tmp_path / "elsewhere")
    own.symlink_to(tmp_path / "elsewhere")
    segment(places, 1, days_old=0, token=1)
    before = everything(tmp_path)
    with pytest.raises(SettingsInvalid, match="link") as fault:
        found(places)
    assert fault.value.where.file == str(own)
    for act in (lambda: garbage.empty(places), lambda: garbage.set_aside([], places=places)):
        with pytest.raises(SettingsInvalid, match="link"):
            act()
    assert everything(tmp_path) == before


# --------------------------------------------------------------------------- removing


def test_removed_is_what_was_found_and_nothing_else(places):
    litter, old, young = (
        segment(places, 1, days_old=0, token=1),
        segment(places, 1, days_old=20),
        segment(places, 2, days_old=1),
    )
    pieces = garbage.find(places, needed=set(), keep_stages=set(), keep=set(), now=NOW, older_than_s=14 * DAY)
    assert [piece.path for piece in pieces] == [litter, old]
    assert garbage.set_aside(pieces, places=places) == []
    assert sorted(places.work.iterdir()) == [young]
    assert len(list(places.trash.iterdir())) == 2
    assert garbage.empty(places) == []
    assert list(places.trash.iterdir()) == []
    assert len(everything(young)) == 2


def test_removing_twice_is_removing_once(places):
    pieces = [Garbage(path=segment(places, 1, days_old=0, token=1), bytes=0, why="")]
    assert garbage.set_aside(pieces, places=places) == []
    assert garbage.set_aside(pieces, places=places) == []


def test_the_trash_is_made_when_it_is_missing(places):
    places.trash.rmdir()
    assert garbage.empty(places) == []
    assert garbage.set_aside([Garbage(path=segment(places, 1, days_old=0), bytes=0, why="")], places=places) == []
    assert list(places.work.iterdir()) == []


def test_nothing_outside_is_removed(places, tmp_path):
    outside = write(tmp_path / "elsewhere" / "x")
    for path in (
        outside,
        places.inbox,
        places.work,
        places.own,
        places.work / "..",
        places.work / "a" / "b",
        places.accepted / "x",
    ):
        with pytest.raises(ValueError, match="not the farm's"):
            garbage.set_aside([Garbage(path=path, bytes=0, why="")], places=places)
    assert outside.exists()


def test_what_cannot_be_removed_is_told_and_keeps_nothing_else(places):
    stuck, loose = places.work / ("x" * 300), segment(places, 2, days_old=0, token=1)
    [fault] = garbage.set_aside([Garbage(path=path, bytes=0, why="") for path in (stuck, loose)], places=places)
    assert isinstance(fault, ShareUnavailable)
    assert fault.where.file == str(stuck)
    assert not loose.exists()


REMOVES = """
import math, os, sys
from pathlib import Path
from scail2_farm.farm import garbage
from scail2_farm.farm.places import Places
places = Places(root=Path(sys.argv[1]), state=Path(sys.argv[1]))
while sys.stdin.readline():
    if farm := os.fork():
        sys.stdin.readline()
        print(os.waitpid(farm, 0)[1], flush=True)
        continue
    kept = set(sys.argv[2:])
    found = garbage.find(places, needed=set(), keep_stages=kept, keep=set(), now=0.0, older_than_s=math.inf)
    print(os.getpid(), len(found), flush=True)
    garbage.set_aside(found, places=places)
    garbage.empty(places)
    os._exit(0)
"""
"""For a line a farm, forked so that it starts at once: it says its process and what it found, and removes it. With
the next line its exit status is asked for; until then nobody else has its number."""
STAGES, FILES = 40, 60
RENAMES_TAKE_S = 0.002


def test_killed_while_removing(places):
    """P13: at whatever moment it is killed, a folder under its own name is whole or gone."""
    chance = random.Random(13)
    needed = segment(places, 999, days_old=0)
    whole = segment(places, 998, days_old=0, token=3)
    frame = write(places.root / "frame.exr")
    live = [places.stage(key(number), 1) for number in range(STAGES)]
    names = {f"{number}.exr" for number in range(FILES)}
    all_of_it_takes_s, cut_short = 0.0, 0
    command = [sys.executable, "-c", REMOVES, places.root, whole.name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as farms:
        assert farms.stdin
        assert farms.stdout
        for turn in range(21):
            for stage in live:
                if not stage.exists():
                    stage.mkdir()
                    for name in names:
                        os.link(frame, stage / name)  # much faster than a file each
            farms.stdin.write("\n")
            farm, count = map(int, farms.stdout.readline().split())
            assert count == STAGES
            began = time.monotonic()
            if turn:
                time.sleep(chance.random() * chance.choice((RENAMES_TAKE_S, all_of_it_takes_s)))
                os.kill(farm, signal.SIGKILL)
            farms.stdin.write("\n")
            assert int(farms.stdout.readline()) in ((signal.SIGKILL, 0) if turn else (0,))
            all_of_it_takes_s = all_of_it_takes_s or time.monotonic() - began
            left = [stage for stage in live if stage.exists()]
            cut_short += bool(left) or any(places.trash.iterdir())
            assert all({path.name for path in stage.iterdir()} == names for stage in left)
            assert len(everything(needed)) == len(everything(whole)) == 2
            assert garbage.empty(places) == []
            assert list(places.trash.iterdir()) == []
            assert {path.name for path in places.work.iterdir()} == {path.name for path in (needed, whole, *left)}
        farms.stdin.close()
    assert cut_short >= 5
