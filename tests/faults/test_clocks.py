"""Clocks that are set, and processes that stand still: nothing is leased twice, nothing stale is accepted.

The clock is one of the test's, in this process and in a daemon's; a whole farm under libfaketime is run where that is
installed. Who stands still is stopped by SIGSTOP.
"""

import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import pytest
from disturbing import SetClock, written
from farm_shots import StandingClock, fault, new_job, new_shot
from farmhouse import FULL, Farm, assert_nothing_lost_nothing_twice, books, many_shots, undisturbed
from figures import record
from submissions import Cut, planned_shot, sealed

from scail2_farm.documents import DoneSaid
from scail2_farm.farm.book import LONGEST_WAIT_S
from scail2_farm.farm.dispatch import Heard
from scail2_farm.farm.host import boot_id, process_start
from scail2_farm.farm.ledger import Ledger, NewShot
from scail2_farm.farm.places import Places
from scail2_farm.farm.premises import Heardable, Premises
from scail2_farm.farm.rendering import Rendering
from scail2_farm.settings import Settings

HERE = Path(__file__).resolve().parent
WORKER = (sys.executable, "-m", "scail2_farm", "worker")
DAY_S = 86400.0
JUMPS = (DAY_S, -2 * DAY_S, 3600.0, -3600.0, 0.5, -0.5)
"""A day on, two back, the two nights of summer time, and what a time server sets right."""
QUIET_S = 5.0
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


# --------------------------------------------------------------------------- the ledger's clock


@dataclass
class Desk:
    """A ledger on a clock that can be set, with one segment to render."""

    ledger: Ledger
    clock: StandingClock

    def lease(self, worker: str = "render-1"):
        return self.ledger.lease(worker, boot="b", pid=1, pid_start="s", free_memory=1, free_disk=1)


@pytest.fixture
def desk(tmp_path):
    clock = StandingClock()
    ledger = Ledger(tmp_path / "ledger.db", clock=clock)
    ledger.accept(new_job("CUT"), [new_shot("SH010", "a")], supersede=False)
    yield Desk(ledger, clock)
    ledger.close()


@pytest.mark.parametrize("jump", JUMPS)
def test_a_lease_outlives_any_clock_and_a_lost_one_is_refused(desk, jump):
    first = desk.lease()
    desk.clock.jump(jump)
    assert desk.lease("render-2") is None, "leased twice"
    assert desk.ledger.beat(first.key, first.token, step=1, of=4)
    assert desk.ledger.release(first.key, first.token, "lost")
    second = desk.lease("render-2")
    assert (second.key, second.token) == (first.key, first.token + 1)
    desk.clock.jump(-jump)
    assert not desk.ledger.beat(first.key, first.token, step=2, of=4)
    assert not desk.ledger.publish(first.key, first.token)
    assert not desk.ledger.finish(first.key, first.token, seconds=1, steps_seconds=(), peak_bytes=0)
    assert desk.ledger.fail(first.key, first.token, "crash", fault()) is None
    assert not desk.ledger.release(first.key, first.token, "lost")
    assert desk.ledger.publish(second.key, second.token)
    assert desk.ledger.finish(second.key, second.token, seconds=1, steps_seconds=(), peak_bytes=0)
    assert Counter(event.what for event in desk.ledger.events())["done"] == 1


@pytest.mark.parametrize("kind", ["storage", "crash"])
@pytest.mark.parametrize("jump", JUMPS)
def test_a_clock_that_is_set_stretches_no_wait(desk, kind, jump):
    lease = desk.lease()
    desk.ledger.fail(lease.key, lease.token, kind, fault())
    assert desk.lease() is None
    desk.clock.jump(jump)
    waited = 0.0
    while desk.lease() is None:
        desk.clock.pass_by(10)
        waited += 10
        assert waited <= LONGEST_WAIT_S
    if abs(jump) >= 3600:
        assert waited == 0, "so far off it is no wait at all"


# --------------------------------------------------------------------------- a report that comes too late


def test_frames_of_an_old_token_are_refused_whatever_the_clock_says(tmp_path, weights):
    cut = many_shots(Cut(tmp_path / "show", weights), 1, frames=5, handles=0)
    off, events = tmp_path / "off", SimpleQueue[Heardable]()
    written(off, "0")
    clock = SetClock(off)
    places = Places.of(tmp_path / "farm", ledger=None)
    places.make()
    ledger = Ledger(places.database, clock=clock)
    (shot,) = sealed([planned_shot(cut)], weights=weights, work=places.work)
    new = NewShot(document=shot, finished=(False,), delivered=False, work=(1.0,), need_memory=0, need_disk=0, seed=None)
    ledger.accept(new_job("CUT"), [new], supersede=False)
    settings = Settings(min_free_gb=0)
    room = Rendering(
        Premises(
            places=places,
            settings=settings,
            weights=weights,
            ledger=ledger,
            clock=clock,
            boot=boot_id(),
            command=WORKER,
            events=events,
        )
    )

    def hear_of(slot: str) -> None:
        """Let the room go on until a child of it is done."""
        while True:
            room.watch()
            room.give(more=False)
            heard = events.get(timeout=60)
            assert isinstance(heard, Heard)
            assert room.child(heard.slot).hear(heard)
            room.heard(heard.slot, heard.said)
            if isinstance(heard.said, DoneSaid):
                assert heard.slot == slot
                return

    try:
        room.give(more=True)
        (running,) = ledger.running()
        lease = running.lease
        stage = places.stage(lease.key, lease.token)
        written(off, str(DAY_S))
        hear_of("render-1")
        assert (stage / "report.json").is_file()
        assert ledger.release(lease.key, lease.token, "lost")
        other = ledger.lease("render-9", boot="b", pid=1, pid_start="s", free_memory=1 << 40, free_disk=1 << 40)
        assert other is not None
        assert (other.key, other.token) == (lease.key, lease.token + 1)
        written(off, str(-2 * DAY_S))
        hear_of("check")
        assert not stage.exists()
        assert not places.segment(lease.key).exists()
        assert [(one.lease.token, one.state) for one in ledger.running()] == [(other.token, "leased")]
        assert Counter(event.what for event in ledger.events())["done"] == 0
    finally:
        room.end()
        for slot in room.slots:
            room.child(slot).wait(10)
        ledger.close()


# --------------------------------------------------------------------------- a farm's clock


def long_shot(folder: Path, weights: Path) -> Cut:
    """One shot of several segments that take a while."""
    cut = many_shots(Cut(folder, weights), 1, frames=33 if FULL else 21, handles=0)
    cut.manifest["defaults"]["steps"] = 6
    return cut


@pytest.fixture
def cut(tmp_path, weights) -> Cut:
    return long_shot(tmp_path / "show", weights)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory, weights) -> dict[str, str]:
    """Its frames."""
    return undisturbed(long_shot(tmp_path_factory.mktemp("undisturbed") / "show", weights))


def through_the_jumps(farm: Farm, cut: Cut, clock: Path, wanted: dict[str, str], off: dict[float, str]) -> None:
    """Drop a cut; set the clock on in its first segment, back in a later one, and see it returned."""
    farm.drop(cut)
    farm.until(lambda: farm.receipt() and books(farm).attempts, "segment begun")
    written(clock, off[DAY_S])
    done = sum(books(farm).done.values())
    farm.until(lambda: sum(books(farm).done.values()) > done, "segment after the jump")
    written(clock, off[-2 * DAY_S])
    assert farm.returned()["state"] == "done"
    assert farm.end() == 0
    ledger = books(farm)
    instants = [at for (at,) in ledger.rows("SELECT at FROM event ORDER BY seq")]
    assert max(instants) - instants[0] > DAY_S / 2
    assert instants[-1] - instants[0] < -DAY_S
    assert ledger.attempts == sum(ledger.done.values()), "something was rendered twice"
    assert ledger.integrity == "ok"
    assert_nothing_lost_nothing_twice(farm, cut=cut, wanted=wanted)


def test_a_farm_whose_clock_is_set_on_and_back(cut, wanted, tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("0")
    off = {jump: str(jump) for jump in JUMPS}
    with Farm(tmp_path / "farm", cut.weights, {"CLOCK": str(clock)}, script=HERE / "disturbing.py") as farm:
        through_the_jumps(farm, cut, clock, wanted, off)
    record("clock +24 h and -48 h during leases", stale_accepted=0, twice=0)


@pytest.mark.skipif(LIBRARY is None or not FULL, reason="part of the full run, where libfaketime is installed")
def test_a_farm_under_libfaketime(cut, wanted, tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    off = {DAY_S: "+1d", -2 * DAY_S: "-2d"}
    with Farm(tmp_path / "farm", cut.weights, environment) as farm:
        through_the_jumps(farm, cut, clock, wanted, off)


# --------------------------------------------------------------------------- who stands still


def renderer(farm: Farm) -> int:
    """The process that renders; 0 when there is none."""
    return next((pid for pid, slot in farm.children().items() if slot == "render-1"), 0)


def stopped_at_work(farm: Farm) -> int:
    """Stop the process that renders in the middle of a segment; which process it is."""

    def at() -> list[tuple[object, ...]]:
        query = (
            "SELECT attempt FROM segment JOIN worker ON slot = 'render-1' WHERE segment.state = 'leased' AND pid > 0"
        )
        return books(farm).rows(query)

    while True:
        before = farm.until(at, "segment begun")
        pid = renderer(farm)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.5)  # until what it said before is taken in
        if at() == before:
            return pid
        os.kill(pid, signal.SIGCONT)


def classes(farm: Farm) -> Counter[str]:
    """Attempts that are over, by what became of them."""
    return Counter(str(one) for (one,) in books(farm).rows("SELECT class FROM attempt WHERE class IS NOT NULL"))


def test_who_stands_still_is_told_from_who_was_not_looked_at(cut, wanted, tmp_path):
    environment = {"SCAIL2_QUIET_MINUTES": str(QUIET_S / 60)}
    with Farm(tmp_path / "farm", cut.weights, environment) as farm:
        assert farm.process is not None
        farm.drop(cut)
        farm.until(farm.receipt, "receipt")
        first = stopped_at_work(farm)
        farm.until(lambda: classes(farm)["stalled"], "end of the one that hangs")
        farm.until(lambda: process_start(first) is None, "the end of its process")

        second = stopped_at_work(farm)
        os.kill(farm.process.pid, signal.SIGSTOP)  # and with it the whole farm: as if the machine slept
        time.sleep(1.2 * QUIET_S)
        os.kill(farm.process.pid, signal.SIGCONT)
        done = classes(farm)["done"]
        time.sleep(0.3)
        os.kill(second, signal.SIGCONT)
        farm.until(lambda: classes(farm)["done"] > done, "segment that is done after it")
        assert classes(farm)["stalled"] == 1
        assert renderer(farm) == second, "a child was condemned for the absence of its farm"

        third = stopped_at_work(farm)
        idle = [pid for pid in farm.children() if pid != third]
        assert idle, "one that looks at frames waits for the next segment"
        for pid in idle:
            os.kill(pid, signal.SIGSTOP)
        farm.kill()
        orphans = {pid: process_start(pid) for pid in (third, *idle)}
        assert all(orphans.values()), "they are stopped, and cannot see that nobody is there"
        farm.start()
        farm.until(lambda: all(process_start(pid) != start for pid, start in orphans.items()), "end of the orphans")
        assert farm.returned()["state"] == "done"
        assert farm.end() == 0
        ended = classes(farm)
        assert ended == {"stalled": 1, "lost": 1, "done": ended["done"]}
        assert_nothing_lost_nothing_twice(farm, cut=cut, wanted=wanted)
        record("processes that stand still", stalled=1, slept=1, orphans=1, late_accepted=0)
