"""Disks that are full and volumes that go away: the farm says so, loses nothing, and goes on by itself.

Real small disks are mounted for it, which takes root; where that is forbidden these tests are skipped, also when all
is required: no machine that builds this can be made to allow it.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from disturbing import FILLER, fill
from farm_shots import new_job, new_shot
from farmhouse import FULL, Farm, books, many_shots, pictures
from figures import record
from submissions import Cut

from scail2_farm.errors import DiskFull
from scail2_farm.farm.host import SystemClock, boot_id
from scail2_farm.farm.ledger import Ledger
from scail2_farm.farm.places import Places
from scail2_farm.farm.premises import Premises
from scail2_farm.farm.rendering import Rendering
from scail2_farm.settings import Settings

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "disturbing.py"
FRAMES = 81 if FULL else 9
SEGMENT = {"length": FRAMES, "overlap": 5}
FIRST = 1001


@dataclass
class Disks:
    """Disks of a test, unmounted with it."""

    folder: Path
    mounted: list[Path] = field(default_factory=list)

    def small(self, name: str, size: str) -> Path:
        """A disk of this size."""
        place = self.folder / name
        place.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size}", "scail2-farm-test", str(place))
        self.mounted.append(place)
        return place

    def plug(self, volume: Path, place: Path) -> None:
        """Mount a volume at a place; pulled and plugged again it holds what it held."""
        place.mkdir(exist_ok=True)
        self._mount("--bind", str(volume), str(place))
        self.mounted.append(place)

    def pull(self, place: Path) -> None:
        """Unmount what was mounted last at a place, as soon as nobody uses it."""
        until = time.monotonic() + 20
        while (done := subprocess.run(["umount", str(place)], capture_output=True, text=True, check=False)).returncode:
            assert time.monotonic() < until, done.stderr
            time.sleep(0.05)
        self.mounted.remove(place)

    def _mount(self, *arguments: str) -> None:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"disks cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disks(tmp_path) -> Iterator[Disks]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux may mount the small disks of this test")
    folder = tmp_path / "disks"
    folder.mkdir()
    found = Disks(folder)
    try:
        yield found
    finally:
        for place in reversed(found.mounted):
            subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def show(tmp_path, weights) -> Cut:
    """An empty submission whose shots are one segment each."""
    cut = Cut(tmp_path / "show", weights)
    cut.manifest["defaults"]["segment"] = SEGMENT
    return cut


def shots(farm: Farm) -> dict[str, tuple[str, bool, int, str]]:
    """Of each shot its state, whether it goes on by itself, how often in a row it was held, and its fault."""
    rows = books(farm).rows("SELECT name, state, by_itself, holds, coalesce(fault, '') FROM shot")
    return {
        str(name): (str(state), bool(by_itself), int(holds), str(fault))
        for name, state, by_itself, holds, fault in rows
    }


def held(farm: Farm, shot: str, code: str, *, times: int = 1) -> bool:
    """Whether a shot is held for this fault and goes on by itself."""
    state, by_itself, holds, fault = shots(farm)[shot]
    assert state != "failed", fault
    return state == "held" and by_itself and holds >= times and code in fault


def trouble(farm: Farm, shot: str) -> dict[str, Any]:
    """What the receipt says of a shot that is in trouble."""
    return next((one for one in farm.receipt().get("trouble", []) if one["shot"] == shot), {})


# --------------------------------------------------------------------------- the ledger's


def test_a_full_disk_of_the_ledger_is_waited_for(disks, tmp_path, weights):
    small = disks.small("ledger", "6m")
    cut = many_shots(Cut(tmp_path / "show", weights), 2, frames=14, handles=0)
    with Farm(tmp_path / "farm", weights, ledger=small / "state") as farm:
        farm.until(lambda: "the farm is up" in farm.said and books(farm).rows("SELECT 1 FROM worker"), "farm at rest")

        def waits(times: int) -> bool:
            return farm.said.count("waits for a disk") >= times

        fill(small)
        farm.drop(cut)
        farm.until(lambda: waits(2), "word of the full disk")
        assert not list((farm.root / "inbox").iterdir()), "it is claimed, but cannot be noted"
        (small / FILLER).unlink()

        farm.until(lambda: farm.receipt().get("state") == "open" and books(farm).attempts, "segment begun")
        told = farm.said.count("waits for a disk")
        fill(small)
        farm.until(lambda: waits(told + 1), "word of the full disk")
        begun = books(farm).attempts
        assert any("waits for a disk" in line for line in farm.ask("why", "edit").said)
        refused = farm.ask("pause", "edit")
        assert refused.fault is not None
        assert refused.fault.code == "SF-DISK-FULL"
        farm.until(lambda: waits(told + 4), "more tries")
        assert books(farm).attempts == begun, "nothing is begun that cannot be written down"
        assert books(farm).integrity == "ok"
        (small / FILLER).unlink()
        assert farm.returned()["state"] == "done"
        assert farm.end() == 0
        assert len(pictures(cut.folder / "edit.scail2")) == 2 * 2 * 14
        ledger = books(farm)
        assert (ledger.integrity, ledger.attempts) == ("ok", sum(ledger.done.values()))
        assert set(ledger.done.values()) == {1}
        record("the ledger's disk full", attempts=ledger.attempts, segments=len(ledger.done), lost=0)


def test_a_lease_survives_a_disk_that_is_full_right_after_it(disks, tmp_path, monkeypatch):
    small = disks.small("ledger", "6m")
    places = Places.of(tmp_path / "farm", ledger=small / "state")
    places.make()
    ledger = Ledger(places.database, clock=SystemClock())
    ledger.accept(new_job("CUT"), [new_shot("SH010", "a")], supersede=False)
    own = Ledger.worker

    def full(*arguments: Any, **named: Any) -> None:
        fill(small)
        own(*arguments, **named)

    monkeypatch.setattr(Ledger, "worker", full)
    room = Rendering(
        Premises(
            places=places,
            settings=Settings(min_free_gb=0),
            weights=tmp_path,
            ledger=ledger,
            clock=SystemClock(),
            boot=boot_id(),
            command=(sys.executable, "-c", "import sys; sys.stdin.read()"),
            events=SimpleQueue(),
        )
    )
    try:
        with pytest.raises(DiskFull):
            room.give(more=True)
        assert room.busy, "the lease was given, and nobody knows of it"
        assert [one.worker for one in ledger.running()] == ["render-1"]
        (small / FILLER).unlink()
    finally:
        room.end()
        assert room.child("render-1").wait(20)
    assert ledger.running() == []
    ledger.close()


# --------------------------------------------------------------------------- the farm's own


def test_a_full_disk_of_the_farm_holds_the_shot_at_any_frame(disks, show, tmp_path):
    volume = disks.small("volume", "96m")
    at = [FIRST, FIRST + FRAMES // 2, FIRST + FRAMES - 1]
    plan = tmp_path / "fill_at"
    plan.write_text("".join(f"rendered {number}\n" for number in at))
    cut = many_shots(show, 1, frames=FRAMES, handles=0)
    environment = {"FILL": str(volume), "FILL_AT": str(plan), "SCAIL2_MIN_FREE_GB": "0.05"}
    ballast = volume / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, (96 << 20) - 50_000_000 - 300_000)
    state = tmp_path / "state"
    with Farm(volume / "farm", show.weights, environment, script=SCRIPT, ledger=state) as farm:
        farm.drop(cut)
        farm.until(lambda: "waits: it needs" in farm.receipt().get("why", ""), "word of the room it lacks")
        assert "MB of disk space, and 0." in farm.receipt()["why"]
        assert any("MB of disk space" in line for line in farm.ask("why", "SH0010").said)
        assert (farm.receipt()["state"], books(farm).attempts) == ("open", 0)
        ballast.unlink()
        for number, left in zip(at, (2, 1, 0), strict=True):
            farm.until(lambda left=left: len(plan.read_text().splitlines()) == left, f"full disk at {number}")
            farm.until(lambda: held(farm, "SH0010", "SF-DISK-FULL"), "hold")
            assert not list(farm.places.work.glob("*/report.json"))
            (volume / FILLER).unlink()
        assert farm.returned()["state"] == "done"
        assert "waits: it needs" not in farm.receipt()["why"]
        assert farm.end() == 0
        ledger = books(farm)
        classes = Counter(one for (one,) in ledger.rows("SELECT class FROM attempt"))
        assert classes == {"storage": 3, "done": 1}
        assert ledger.integrity == "ok"
        assert len(pictures(cut.folder / "edit.scail2")) == 2 * FRAMES
        assert [path.name for path in farm.places.work.iterdir() if "." in path.name] == ["digests.json"]
        record("the farm's disk full", frames=[number - FIRST + 1 for number in at], held=3, lost=0)


# --------------------------------------------------------------------------- where takes go


def test_a_delivery_volume_that_is_full_or_away_holds_the_shot(disks, show, tmp_path):
    volume, place = disks.small("volume", "64m"), tmp_path / "deliveries"
    disks.plug(volume, place)
    at = [FIRST, FIRST + FRAMES // 2, FIRST + FRAMES - 1]
    plan = tmp_path / "fill_at"
    plan.write_text("".join(f"delivered {number}\n" for number in at))
    cut = many_shots(show, 2, frames=FRAMES, handles=0)
    cut.manifest["deliver"] = {"to": str(place)}
    to = place / "edit.scail2"
    environment = {"FILL": str(volume), "FILL_AT": str(plan), "SCAIL2_RETRY_S": "0.05"}
    with Farm(tmp_path / "farm", show.weights, environment, script=SCRIPT) as farm:
        farm.drop(cut)
        farm.until(lambda: farm.receipt().get("state") == "open", "job")
        farm.ask("pause", "SH0020")
        for number, left in zip(at, (2, 1, 0), strict=True):
            farm.until(lambda left=left: len(plan.read_text().splitlines()) == left, f"full disk at {number}")
            before = shots(farm)["SH0010"][2]
            farm.until(lambda before=before: held(farm, "SH0010", "SF-DISK-FULL", times=before + 1), "hold")
            farm.until(lambda: trouble(farm, "SH0010").get("goes_on_by_itself"), "word of it in the receipt")
            assert trouble(farm, "SH0010")["fault"]["code"] == "SF-DISK-FULL"
            assert not list(to.glob("shots/*/*")), "nothing half-written is left"
            (volume / FILLER).unlink()
        farm.until(lambda: shots(farm)["SH0010"][0] == "done", "delivery")

        disks.pull(place)
        farm.ask("resume", "SH0020")
        farm.until(lambda: held(farm, "SH0020", "SF-SHARE-UNAVAILABLE"), "hold")
        (said, *_) = (line for line in farm.ask("why", "SH0020").said if "held" in line)
        assert str(to) in said
        assert "reconnect its volume" in said
        farm.until(lambda: books(farm).told("return-failed"), "cut that cannot be returned either")
        assert list(place.iterdir()) == [], "nothing is written under where a volume was"
        disks.plug(volume, place)
        assert farm.returned()["state"] == "done"
        assert farm.end() == 0
        ledger = books(farm)
        assert ledger.done == Counter(["edit/SH0010/1", "edit/SH0020/1"])
        ((begun,),) = ledger.rows("SELECT count(*) FROM attempt WHERE class <> 'cancelled'")  # the pause may end one
        assert (ledger.integrity, begun) == ("ok", 2)
        assert len(pictures(to)) == 2 * 2 * FRAMES
        assert (place / "edit.scail2.otio").is_file()
        record("the delivery volume full and away", frames=[number - FIRST + 1 for number in at], held=4, lost=0)
