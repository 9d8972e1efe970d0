"""Plates, mattes and stills that change under a job, and volumes of them that go away."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from farmhouse import Farm, books, pictures
from PIL import Image
from submissions import FIRST_FILE, FIRST_TC, Cut, matte_pixels, plate_pixels, read_exr, write_exr

FRAMES = 13
"""Two segments: the first sees frames 0 to 8, the second 4 to 12."""
PLATE_LATE, MATTE, STILL, TOUCHED, PLATE_EARLY = "SH0010", "SH0020", "SH0030", "SH0040", "SH0050"
ONLY_FIRST, ONLY_SECOND = 2, 12


@pytest.fixture
def cut(tmp_path, weights) -> Cut:
    """Five shots; in one of them somebody else stands."""
    cut = Cut(tmp_path / "show", weights)
    cut.manifest["handles"] = {"head": 0, "tail": 0}
    for name, slot, color in (("ada", "blue", (220, 30, 30)), ("bob", "red", (30, 200, 40))):
        cut.character(name, slot, color)
    for number, shot in enumerate((PLATE_LATE, MATTE, STILL, TOUCHED, PLATE_EARLY)):
        cut.plate(shot, FRAMES, seed=number)
        cut.matte(shot, "bob" if shot == STILL else "ada", FRAMES, (10 + number, 10, 20, 30))
        cut.clip(shot, first=0, count=FRAMES, available=FRAMES)
    cut.manifest["cast"] = [
        {"when": {"clip": shot}, "characters": [{"id": "bob" if shot == STILL else "ada"}]}
        for shot in (PLATE_LATE, MATTE, STILL, TOUCHED, PLATE_EARLY)
    ]
    return cut


def plate_file(cut: Cut, shot: str, frame: int) -> Path:
    return cut.folder / "plates" / shot / f"{shot}.{FIRST_FILE + frame}.exr"


def change_plate(cut: Cut, shot: str, frame: int) -> np.ndarray:
    """Put another picture there; which."""
    picture = plate_pixels(99, frame)
    write_exr(plate_file(cut, shot, frame), picture, frame=FIRST_TC + frame)
    return picture


def corner(cut: Cut, shot: str, frame: int, version: int = 1) -> np.ndarray:
    """Delivered pixels that no matte covers: the plate's own."""
    return read_exr(cut.frame(shot, FIRST_FILE + frame, version))[:8, :8]


def attempts(farm: Farm) -> Counter[tuple[str, int, str]]:
    """How often a segment of a shot was begun, by what became of it."""
    query = "SELECT shot.name, attempt.idx + 1, class FROM attempt JOIN shot ON shot.id = attempt.shot"
    return Counter((str(shot), int(index), str(what)) for shot, index, what in books(farm).rows(query))


def states(farm: Farm) -> dict[str, str]:
    return dict(books(farm).rows("SELECT name, state FROM shot"))


def trouble(farm: Farm) -> dict[str, dict[str, Any]]:
    return {one["shot"]: one for one in farm.receipt().get("trouble", [])}


def test_a_changed_input_holds_its_shot_and_a_retry_takes_it_as_it_is_now(cut, tmp_path):
    with Farm(tmp_path / "farm", cut.weights) as farm:
        farm.drop(cut)
        farm.until(lambda: farm.receipt().get("state") == "open", "job")
        farm.ask("pause", "edit")
        farm.until(lambda: not books(farm).states["leased"], "rest")
        before = attempts(farm)

        late = change_plate(cut, PLATE_LATE, ONLY_SECOND)
        matte = cut.folder / "mattes" / MATTE / f"ada.{FIRST_FILE}.png"
        Image.fromarray(matte_pixels((40, 5, 30, 40))).save(matte)
        still = cut.folder / "refs" / "bob.png"
        Image.fromarray(np.full((64, 48, 3), (30, 30, 200), np.uint8)).save(still)
        for path in (plate_file(cut, TOUCHED, ONLY_FIRST), cut.folder / "mattes" / TOUCHED / f"ada.{FIRST_FILE}.png"):
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
            os.utime(path, ns=(1, 1))
        farm.ask("pause", f"edit/{PLATE_EARLY}/2")
        farm.ask("resume", "edit")
        farm.until(lambda: attempts(farm)[PLATE_EARLY, 1, "done"], "first segment")
        early = change_plate(cut, PLATE_EARLY, ONLY_FIRST)
        farm.ask("resume", f"edit/{PLATE_EARLY}/2")

        named = {
            PLATE_LATE: plate_file(cut, PLATE_LATE, ONLY_SECOND),
            MATTE: matte,
            STILL: still,
            PLATE_EARLY: plate_file(cut, PLATE_EARLY, ONLY_FIRST),
        }
        farm.until(lambda: farm.receipt().get("returned"), "returned cut")
        assert states(farm) == dict.fromkeys(named, "held") | {TOUCHED: "done"}
        farm.until(lambda: trouble(farm).keys() == named.keys(), "receipt")
        for shot, path in named.items():
            told = trouble(farm)[shot]
            assert told["fault"]["code"] == "SF-FRAME-TRUNCATED"
            assert path.name in told["fault"]["what"]
            assert told["fault"]["where"]["file"] == str(path)
            assert not told["goes_on_by_itself"]
        assert [path.name for path in (cut.folder / "edit.scail2" / "shots").glob("*/v*")] == ["v001"]
        report = json.loads((cut.folder / "edit.scail2" / "report.json").read_text())
        assert ([take["shot"] for take in report["takes"]], len(report["faults"])) == ([TOUCHED], 4)
        first = attempts(farm) - before
        assert {one: times for one, times in first.items() if one[2] == "changed"} == {
            (PLATE_LATE, 2, "changed"): 1,
            (MATTE, 1, "changed"): 1,
            (STILL, 1, "changed"): 1,
        }

        told = farm.ask("retry", "edit").said
        assert len([line for line in told if "planned again" in line]) == 4
        assert farm.returned()["state"] == "done"
        again = attempts(farm) - before - first
        whole = {(shot, index, "done"): 1 for shot in (MATTE, STILL, PLATE_EARLY) for index in (1, 2)}
        assert again == whole | {(PLATE_LATE, 2, "done"): 1}, "each from its first changed segment on"
        assert (corner(cut, PLATE_LATE, ONLY_SECOND) == late[:8, :8]).all()
        assert (corner(cut, PLATE_EARLY, ONLY_FIRST) == early[:8, :8]).all()

        earlier = attempts(farm)
        changed = change_plate(cut, TOUCHED, ONLY_SECOND)
        assert "looked at again" in farm.ask("retry", "edit").said[0]
        farm.until(lambda: cut.version(TOUCHED, 2).is_dir() and farm.receipt()["state"] == "done", "second version")
        assert attempts(farm) - earlier == {(TOUCHED, 2, "done"): 1}
        assert (corner(cut, TOUCHED, ONLY_SECOND, version=2) == changed[:8, :8]).all()
        assert (corner(cut, TOUCHED, ONLY_SECOND) != changed[:8, :8]).any(), "a version is never overwritten"
        versions = Counter(path.name for path in (cut.folder / "edit.scail2" / "shots").glob("*/v*"))
        assert versions == {"v001": 5, "v002": 1}
        edit = (cut.folder / "edit.scail2.otio").read_text()
        assert f"{TOUCHED}/v002" in edit
        assert f"{TOUCHED}/v001" not in edit
        assert farm.end() == 0
        assert len(pictures(cut.folder / "edit.scail2")) == 6 * 2 * FRAMES
        assert books(farm).integrity == "ok"


def test_a_volume_of_inputs_that_is_away_is_waited_for(tmp_path, weights):
    cut = Cut(tmp_path / "show", weights)
    cut.manifest["handles"] = {"head": 0, "tail": 0}
    cut.manifest["deliver"] = {"to": str(tmp_path / "to")}
    cut.character("ada", "blue", (220, 30, 30))
    cut.plate("SH010", 5)
    cut.matte("SH010", "ada", 5, (20, 10, 20, 30))
    cut.clip("SH010", first=0, count=5, available=5)
    cut.manifest["cast"] = [{"when": {"clip": "SH*"}, "characters": [{"id": "ada"}]}]
    plates, to = cut.folder / "plates" / "SH010", tmp_path / "to" / "edit.scail2"

    def pull(place: Path, *, leaves_its_place: bool = False) -> None:
        place.rename(place.with_name("pulled"))
        if leaves_its_place:
            place.mkdir()

    def plug(place: Path) -> None:
        if place.exists():
            place.rmdir()  # and nothing was written there
        place.with_name("pulled").rename(place)

    def waits_for(place: Path) -> bool:
        one = trouble(farm).get("SH010", {})
        return bool(one.get("goes_on_by_itself")) and str(place) in one["fault"]["what"]

    with Farm(tmp_path / "farm", weights, {"SCAIL2_RETRY_S": "0.1"}) as farm:
        farm.drop(cut)
        farm.until(to.is_dir, "plan")
        pull(to)
        pull(plates)
        farm.until(lambda: waits_for(plates), "hold for the plates before rendering")
        plug(plates)
        farm.until(lambda: waits_for(to), "hold for the delivery")
        pull(plates, leaves_its_place=True)
        plug(to)
        farm.until(lambda: waits_for(plates), "hold for the plates before delivering")
        assert not list(to.glob("shots/*/*"))
        plug(plates)
        assert farm.returned()["state"] == "done"
        assert farm.end() == 0
        assert books(farm).done == {"edit/SH010/1": 1}
        assert len(pictures(to)) == 2 * 5
