"""The ledger's rules, one by one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from farm_shots import StandingClock, chain, fault, new_job, new_shot

from scail2_farm.errors import DiskFull, FarmError, SettingsInvalid, ShareUnavailable, SubmissionInvalid
from scail2_farm.farm import ledger as module
from scail2_farm.farm.ledger import Accepted, Kind, Lease, Ledger, NewHeld, NewShot

HOOK, OTHER_HOOK = "https://hooks.example/farm", "https://hooks.example/other"
GB = 10**9


class Farm:
    """A ledger, its clock, and what a daemon would say to it."""

    def __init__(self, folder: Path, hooks: tuple[str, ...] = (), *, retry_s: float = module.RETRY_S):
        self.path = folder / "ledger.db"
        self.hooks = hooks
        self.clock = StandingClock()
        self.ledger = Ledger(self.path, clock=self.clock, hooks=hooks, retry_s=retry_s)

    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger(self.path, clock=self.clock, hooks=self.hooks)

    def accept(
        self,
        name: str,
        *shots: NewShot,
        held: tuple[NewHeld, ...] = (),
        supersede: bool = False,
        priority: int = 50,
        seen: int = 0,
    ) -> Accepted:
        job = new_job(name, self.ledger.next_job(name), priority=priority, seen=seen)
        return self.ledger.accept(job, shots, held, supersede=supersede)

    def lease(self, worker: str = "render-1", *, memory: int = 96 * GB, disk: int = 100 * GB) -> Lease | None:
        return self.ledger.lease(worker, boot="boot", pid=17, pid_start="1234", free_memory=memory, free_disk=disk)

    def leased(self, worker: str = "render-1") -> Lease:
        found = self.lease(worker)
        assert found is not None
        return found

    def finish(self, lease: Lease, *, seconds: float = 20.0) -> bool:
        return self.ledger.finish(lease.key, lease.token, seconds=seconds, steps_seconds=(5.0, 5.0), peak_bytes=7)

    def fail(self, lease: Lease, kind: Kind, what: str = "it broke") -> str | None:
        return self.ledger.fail(lease.key, lease.token, kind, fault(what, "SF-ENGINE-FAILED"))

    def render(self, worker: str = "render-1") -> list[str]:
        """Render everything there is; SHOT/INDEX of each segment in order."""
        done: list[str] = []
        while (lease := self.lease(worker)) is not None:
            done.append(f"{lease.job}/{lease.shot_name}/{lease.index + 1}")
            assert self.finish(lease)
        return done

    def deliver(self) -> list[str]:
        done: list[str] = []
        while (shot := self.ledger.to_deliver()) is not None:
            done.append(f"{shot.job}/{shot.shot_name}")
            folder = f"{shot.deliver_to}/shots/{shot.shot_name}/v001"
            assert self.ledger.delivered(shot.shot, folder=folder, version=1)
        return done

    def shots(self, job: str) -> dict[str, str]:
        return {shot.name: shot.state for shot in self.ledger.shots(job)}

    def segments(self) -> dict[str, str]:
        with sqlite3.connect(self.path) as connection:
            found = dict(connection.execute("SELECT key, state FROM segment").fetchall())
        connection.close()
        return found

    def state(self, letters: str) -> str:
        return self.segments()[chain(letters)[-1]]

    def told(self, *, hook: str = HOOK) -> list[str]:
        """What a hook is told, in order: EVENT JOB/SHOT."""
        found: list[str] = []
        while next_one := [one for one in self.ledger.outbox() if one.url == hook]:
            body = json.loads(next_one[0].body)
            found.append(" ".join([body["event"], "/".join(filter(None, (body["job"], body["shot"])))]))
            self.ledger.sent(next_one[0].seq, hook)
        return found

    def what(self) -> list[str]:
        return [f"{event.what} {event.subject}".strip() for event in self.ledger.events(limit=100_000)]


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    found = Farm(tmp_path, hooks=(HOOK,))
    yield found
    assert found.ledger.integrity() == []
    found.ledger.close()


# --------------------------------------------------------------------------- taking jobs in


def test_a_job_is_taken_in_whole(farm: Farm):
    accepted = farm.accept("CUT", new_shot("SH010", "abc"), new_shot("SH020", "xy"))
    assert (accepted.job, accepted.revision, accepted.shots, accepted.queued, accepted.found) == ("CUT", 1, 2, 5, 0)
    assert farm.shots("CUT") == {"SH010": "open", "SH020": "open"}
    assert [farm.state(letters) for letters in ("a", "ab", "abc", "x", "xy")] == ["ready"] + ["blocked"] * 2 + [
        "ready",
        "blocked",
    ]
    assert farm.ledger.jobs()[0].deliver_to == "/show/CUT.scail2"
    assert farm.ledger.job("CUT") == farm.ledger.jobs(state="open")[0]
    assert farm.ledger.job("NONE") is None
    assert farm.ledger.shots("NONE") == []


def test_a_job_that_ends_in_the_middle_was_never_there(farm: Farm):
    def shots() -> Iterator[NewShot]:
        yield new_shot("SH010", "abc")
        raise OSError("the plan cannot be read on")

    before = farm.what()
    with pytest.raises(OSError, match="read on"):
        farm.ledger.accept(new_job("CUT"), shots(), supersede=False)
    assert farm.ledger.jobs() == []
    assert farm.segments() == {}
    assert farm.what() == before
    assert farm.accept("CUT", new_shot("SH010", "abc")).queued == 3


def test_a_drop_is_known_by_its_content(farm: Farm):
    assert farm.ledger.drop("f00") is None
    farm.ledger.note_drop("f00", name="CUT.otio", state="claimed")
    farm.clock.pass_by(60)
    farm.ledger.note_drop("f00", name="CUT.otio", state="rejected")
    drop = farm.ledger.drop("f00")
    assert drop is not None
    assert (drop.state, drop.job, drop.at) == ("rejected", None, farm.clock.wall() - 60)
    farm.accept("CUT", new_shot("SH010", "a"))
    accepted = farm.ledger.drop(new_job("CUT").sha256)
    assert accepted is not None
    assert (accepted.state, accepted.job) == ("accepted", "CUT")


def test_names_of_jobs(farm: Farm):
    assert [farm.accept("CUT").job for _ in range(3)] == ["CUT", "CUT.r2", "CUT.r3"]
    assert farm.accept("CUT.r4").job == "CUT.r4"
    assert farm.accept("CUT").job == "CUT.r5", "a name that is taken is passed over"
    assert [farm.accept(name).job for name in ("Reel", "reel")] == ["Reel", "reel.r2"], (
        "folders of two jobs never differ by case alone"
    )


def test_a_job_may_be_accepted_before_the_one_that_was_named_before_it(farm: Farm):
    for turn, id in enumerate(("CUT.r2", "CUT", "CUT.r7"), 1):
        accepted = farm.ledger.accept(new_job("CUT", id), [new_shot("SH010", "abc"[:turn])], supersede=False)
        assert (accepted.job, accepted.revision) == (id, turn)
        assert [job.id for job in farm.ledger.jobs() if farm.ledger.is_newest(job.id)] == [id]
    assert not farm.ledger.is_newest("NONE")
    assert farm.ledger.next_job("CUT") == "CUT.r4"
    assert farm.render() == ["CUT.r7/SH010/1", "CUT.r7/SH010/2", "CUT.r7/SH010/3"]
    farm.deliver()
    back = farm.ledger.to_return()
    assert back is not None
    assert (back.job, back.revision) == ("CUT.r7", 3)
    with pytest.raises(ValueError, match="there is a job 'cut' already"):
        farm.ledger.accept(new_job("cut"), [], supersede=False)


def test_what_is_on_disk_is_found(farm: Farm):
    accepted = farm.accept("CUT", new_shot("SH010", "abc", finished=2), new_shot("SH020", "xy", finished=2))
    assert (accepted.queued, accepted.found) == (1, 4)
    assert farm.shots("CUT") == {"SH010": "open", "SH020": "rendered"}
    assert farm.render() == ["CUT/SH010/3"]


def test_a_segment_is_rendered_once_for_all_who_want_it(farm: Farm):
    farm.accept("ONE", new_shot("SH010", "abc"))
    farm.accept("TWO", new_shot("SH900", "abd"))
    assert farm.render() == ["ONE/SH010/1", "ONE/SH010/2", "ONE/SH010/3", "TWO/SH900/3"]
    assert farm.shots("ONE") | farm.shots("TWO") == {"SH010": "rendered", "SH900": "rendered"}


def test_a_shot_is_rendered_with_the_last_segment_another_job_had(farm: Farm):
    farm.accept("ONE", new_shot("SH010", "ab"))
    lease = farm.leased()
    farm.accept("TWO", new_shot("SH900", "a"))
    assert farm.finish(lease)
    assert farm.shots("TWO") == {"SH900": "rendered"}
    assert farm.accept("THREE", new_shot("SH1", "a"), seen=0).found == 1, "known to the ledger, whatever the plan saw"


def test_what_was_rendered_while_a_plan_was_made_is_not_rendered_again(farm: Farm):
    farm.accept("ONE", new_shot("SH010", "ab"))
    seen = farm.ledger.mark()
    assert farm.finish(farm.leased())
    accepted = farm.accept("TWO", new_shot("SH900", "ab", finished=0), seen=seen)
    assert (accepted.queued, accepted.found) == (1, 1)
    assert farm.state("a") == "done"


def test_what_a_later_plan_misses_on_disk_is_rendered_again(farm: Farm):
    farm.accept("ONE", new_shot("SH010", "ab"))
    farm.render()
    assert farm.shots("ONE") == {"SH010": "rendered"}
    farm.ledger.note_drop("f00", name="TWO", state="claimed")
    accepted = farm.accept("TWO", new_shot("SH900", "ab", finished=0), seen=farm.ledger.mark())
    assert (accepted.queued, accepted.found) == (2, 0)
    assert farm.shots("ONE") == {"SH010": "open"}, "whoever waited for the files waits again"
    assert farm.render() == ["ONE/SH010/1", "ONE/SH010/2"]
    assert farm.shots("ONE") | farm.shots("TWO") == {"SH010": "rendered", "SH900": "rendered"}


def test_what_failed_or_was_cancelled_is_tried_anew_by_another_job(farm: Farm):
    farm.accept("ONE", new_shot("SH010", "ab"))
    farm.accept("TWO", new_shot("SH020", "x"))
    assert farm.fail(farm.leased(), "input") == "failed"
    farm.ledger.cancel("TWO")
    assert (farm.state("a"), farm.state("ab"), farm.state("x")) == ("failed", "cancelled", "cancelled")
    farm.accept("THREE", new_shot("SH900", "ab"), new_shot("SH910", "x"))
    assert farm.render() == ["THREE/SH900/1", "THREE/SH900/2", "THREE/SH910/1"]
    assert farm.shots("ONE") == {"SH010": "failed"}


def test_a_take_that_is_there_is_only_delivered_again(farm: Farm):
    accepted = farm.accept("CUT", new_shot("SH010", "ab", delivered=True))
    assert (accepted.queued, accepted.found) == (0, 2)
    assert farm.lease() is None
    assert farm.deliver() == ["CUT/SH010"]
    assert farm.shots("CUT") == {"SH010": "done"}


def test_a_take_that_was_there_and_is_spoiled_is_rendered(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab", delivered=True))
    farm.ledger.spoiled(chain("a")[0])
    assert farm.shots("CUT") == {"SH010": "open"}
    assert farm.render() == ["CUT/SH010/1", "CUT/SH010/2"]
    assert farm.shots("CUT") == {"SH010": "rendered"}


def test_a_shot_that_cannot_be_planned_waits_and_the_others_do_not(farm: Farm):
    held = (NewHeld(shot="SH020", fault=fault()),)
    accepted = farm.accept("CUT", new_shot("SH010", "a"), held=held)
    assert (accepted.shots, accepted.held) == (1, 1)
    assert farm.shots("CUT") == {"SH010": "open", "SH020": "held"}
    farm.render()
    farm.deliver()
    back = farm.ledger.to_return()
    assert back is not None
    assert back.faults == (fault(),)
    farm.ledger.returned("CUT", path="/show/CUT.scail2.otio")
    job = farm.ledger.job("CUT")
    assert job is not None
    assert job.state == "open", "it waits to be retried"


# --------------------------------------------------------------------------- revisions


def test_a_revision_takes_over_what_it_has(farm: Farm):
    farm.accept("CUT", *(new_shot(f"SH0{n}0", letters) for n, letters in enumerate(("a", "bc", "de", "f"), 1)))
    farm.render()
    farm.ledger.delivered(farm.ledger.shots("CUT")[0].id, folder="/takes/SH010/v001", version=1)
    later = farm.accept("CUT", new_shot("SH010", "a"), new_shot("SH020", "bc"), new_shot("SH030", "dx"))
    assert later.job == "CUT.r2"
    assert later.superseded == ("CUT/SH020", "CUT/SH030")
    assert later.removed == ("CUT/SH040",)
    reasons = {shot.name: (shot.state, shot.reason) for shot in farm.ledger.shots("CUT")}
    assert reasons == {
        "SH010": ("done", ""),
        "SH020": ("cancelled", "goes on in CUT.r2"),
        "SH030": ("cancelled", "superseded by CUT.r2"),
        "SH040": ("rendered", ""),
    }
    assert (later.queued, later.found) == (1, 4)
    assert farm.render() == ["CUT.r2/SH030/2"]
    assert farm.ledger.retry("CUT/SH030")[0].startswith("CUT/SH030 goes on in CUT.r2")


def test_a_revision_goes_on_with_what_is_being_rendered(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"), new_shot("SH020", "xy"))
    same, other = farm.leased("render-1"), farm.leased("render-2")
    farm.accept("CUT", new_shot("SH010", "ab"), new_shot("SH020", "z"))
    assert [lease.key for lease in farm.ledger.unwanted()] == [other.key]
    assert farm.finish(same)
    assert farm.ledger.release(other.key, other.token, "cancelled")
    assert farm.state("x") == "cancelled"
    assert farm.render() == ["CUT.r2/SH010/2", "CUT.r2/SH020/1"]


def test_a_revision_that_supersedes_cancels_what_it_does_not_have(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"), new_shot("SH020", "b"), held=(NewHeld(shot="SH030", fault=fault()),))
    later = farm.accept("CUT", new_shot("SH010", "a"), supersede=True)
    assert later.removed == ("CUT/SH020", "CUT/SH030")
    assert farm.shots("CUT") == dict.fromkeys(("SH010", "SH020", "SH030"), "cancelled")
    assert farm.state("b") == "cancelled"


def test_only_the_newest_revision_is_returned(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"), new_shot("SH020", "b"))
    farm.accept("CUT", new_shot("SH010", "a"))
    assert farm.render() == ["CUT/SH020/1", "CUT.r2/SH010/1"]
    assert farm.deliver() == ["CUT/SH020", "CUT.r2/SH010"]
    back = farm.ledger.to_return()
    assert back is not None
    assert (back.job, back.revision, back.takes) == ("CUT.r2", 2, ("/show/CUT.scail2/shots/SH010/v001",))
    farm.ledger.returned("CUT.r2", path="/show/CUT.scail2.otio")
    assert {job.id: job.state for job in farm.ledger.jobs()} == {"CUT": "done", "CUT.r2": "done"}
    assert farm.ledger.to_return() is None


# --------------------------------------------------------------------------- the queue


def test_the_order_is_fair(farm: Farm):
    farm.accept("FIRST", new_shot("SH010", "ab"), new_shot("SH020", "c"))
    farm.accept("SECOND", new_shot("SH010", "x"))
    farm.accept("URGENT", new_shot("SH010", "u"), priority=90)
    assert farm.render() == ["URGENT/SH010/1", "FIRST/SH010/1", "FIRST/SH010/2", "FIRST/SH020/1", "SECOND/SH010/1"]


def test_priorities_change_the_order_of_jobs_and_shots(farm: Farm):
    farm.accept("FIRST", new_shot("SH010", "ab"), new_shot("SH020", "c"))
    farm.accept("SECOND", new_shot("SH900", "x"))
    assert farm.ledger.prioritise("SECOND", 70) == ["SECOND has priority 70"]
    assert farm.ledger.prioritise("SH020", 80) == ["FIRST/SH020 has priority 80"]
    assert farm.render() == ["FIRST/SH020/1", "SECOND/SH900/1", "FIRST/SH010/1", "FIRST/SH010/2"]
    with pytest.raises(SubmissionInvalid, match="priority is 101"):
        farm.ledger.prioritise("FIRST", 101)


def test_what_does_not_fit_is_passed_over(farm: Farm):
    farm.accept("CUT", new_shot("BIG", "ab", memory=64 * GB), new_shot("WIDE", "c", disk=50 * GB), new_shot("S", "d"))
    small = farm.lease(memory=32 * GB, disk=10 * GB)
    assert small is not None
    assert small.shot_name == "S"
    assert farm.finish(small)
    assert farm.lease(memory=32 * GB, disk=10 * GB) is None
    assert any("needs 64.0 GB of memory, and 32.0 GB" in said for said in farm.ledger.why("BIG"))
    assert any("needs 50.0 GB of disk space, and 10.0 GB" in said for said in farm.ledger.why("WIDE"))
    assert farm.leased().shot_name == "BIG"


def test_a_worker_goes_on_with_its_chain(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"), new_shot("SH020", "xy"), new_shot("SH030", "m"))
    first, second = farm.leased("render-1"), farm.leased("render-2")
    assert (first.shot_name, second.shot_name) == ("SH010", "SH020")
    assert farm.finish(first)
    third = farm.leased("render-3")
    assert third.shot_name == "SH030", "the chain is left to the worker that is at it"
    assert farm.finish(second)
    assert farm.leased("render-2").shot_name == "SH020", "its own chain, though another comes first in the queue"
    assert farm.finish(third)
    assert farm.leased("render-3").shot_name == "SH010", "there is nothing else"


def test_an_urgent_shot_outranks_a_workers_own_chain(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"))
    assert farm.finish(farm.leased())
    farm.accept("URGENT", new_shot("SH900", "u"), priority=90)
    assert farm.leased().shot_name == "SH900"


def test_a_chain_of_a_worker_that_is_gone_is_anybodys(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"), new_shot("SH020", "x"))
    assert farm.finish(farm.leased("render-1"))
    farm.ledger.worker("render-1", state="offline")
    assert farm.leased("render-2").shot_name == "SH010"


def test_the_queue_is_walked_and_never_sorted(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"))
    named = module.__file__.replace(".py", ".sql")
    text = Path(named).read_text(encoding="utf-8")
    connection = sqlite3.connect(farm.path)
    for name in ("lease", "lease-of-chain", "to-deliver"):
        query = re.split(r"^-- name: (\S+)$", text, flags=re.MULTILINE)
        query = dict(zip(query[1::2], query[2::2], strict=True))[name]
        values = dict.fromkeys(re.findall(r":(\w+)", query), 0)
        plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
        assert not any("TEMP B-TREE" in step for step in plan), plan
        assert not any(re.match(r"SCAN (shot|segment|chain)$", step) for step in plan), plan
    connection.close()


# --------------------------------------------------------------------------- leases and tokens


def test_only_the_newest_token_is_heard(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"))
    stale = farm.leased()
    assert farm.ledger.beat(stale.key, stale.token, step=1, of=4)
    assert farm.ledger.release(stale.key, stale.token, "lost")
    assert not farm.ledger.beat(stale.key, stale.token, step=2, of=4), "given back"
    newest = farm.leased("render-2")
    assert (newest.key, newest.token, newest.losses) == (stale.key, stale.token + 1, 1)
    before = farm.what()
    assert not farm.ledger.beat(stale.key, stale.token, step=3, of=4)
    assert not farm.ledger.publish(stale.key, stale.token)
    assert not farm.finish(stale)
    assert farm.fail(stale, "crash") is None
    assert not farm.ledger.release(stale.key, stale.token, "lost")
    assert farm.what() == before
    assert farm.ledger.publish(newest.key, newest.token)
    assert farm.ledger.publish(newest.key, newest.token), "after a crash it is said again"
    assert farm.finish(newest)
    assert not farm.finish(newest)
    assert not farm.ledger.beat("0" * 64, 1, step=1, of=1)


def test_a_lease_outlives_every_clock(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"))
    lease = farm.leased()
    for hours in (24, -72, 24):
        farm.clock.jump(hours * 3600)
        assert farm.lease("render-2") is None
    assert farm.finish(lease)


def test_what_runs_is_known_after_a_crash(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"), new_shot("SH020", "b"))
    one, two = farm.leased("render-1"), farm.leased("render-2")
    farm.ledger.beat(one.key, one.token, step=3, of=8)
    farm.ledger.publish(two.key, two.token)
    farm.reopen()
    running = {found.worker: found for found in farm.ledger.running()}
    assert running["render-1"].lease == one
    assert (running["render-1"].step, running["render-1"].of, running["render-1"].state) == (3, 8, "leased")
    assert (running["render-2"].lease.key, running["render-2"].state) == (two.key, "publishing")
    assert (running["render-1"].pid, running["render-1"].pid_start, running["render-1"].boot) == (17, "1234", "boot")
    assert farm.finish(two)
    assert farm.ledger.release(one.key, one.token, "lost")
    assert farm.render() == ["CUT/SH010/1"]


def test_an_uncommitted_word_is_not_said(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"))
    code = """
import os, sys
from pathlib import Path
from farm_shots import StandingClock
from scail2_farm.farm.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), clock=StandingClock())
with ledger._book.turn() as now:
    ledger._book.event(now, "half-said")
    ledger._database.run("cut-chain", shot=1)
    os.kill(os.getpid(), 9)
"""
    before = farm.what()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    died = subprocess.run([sys.executable, "-c", code, str(farm.path)], env=environment, check=False)
    assert died.returncode == -9
    farm.reopen()
    assert farm.what() == before
    assert farm.render() == ["CUT/SH010/1", "CUT/SH010/2"]


# --------------------------------------------------------------------------- failures


def test_an_input_fault_fails_the_shot_at_once(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"), new_shot("SH020", "x"))
    assert farm.fail(farm.leased(), "input", "the plate does not decode") == "failed"
    shot = farm.ledger.shots("CUT")[0]
    assert shot.state == "failed"
    assert shot.fault == fault("the plate does not decode", "SF-ENGINE-FAILED")
    assert (farm.state("a"), farm.state("ab")) == ("failed", "cancelled")
    assert farm.render() == ["CUT/SH020/1"], "other shots go on"


def test_a_changed_input_holds_the_shot_until_it_is_retried(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"))
    assert farm.fail(farm.leased(), "changed", "a frame changed") == "held"
    farm.clock.pass_by(10 * 3600)
    assert farm.lease() is None
    shot = farm.ledger.shots("CUT")[0]
    assert (shot.state, shot.by_itself) == ("held", False)
    farm.ledger.retry("SH010")
    farm.ledger.replan("CUT", [new_shot("SH010", "nm")], seen=farm.ledger.mark())
    assert farm.render() == ["CUT/SH010/1", "CUT/SH010/2"]


@pytest.mark.parametrize("kind", ["setup", "storage"])
def test_a_disk_that_is_away_is_waited_for(farm: Farm, kind: Kind):
    farm.accept("CUT", new_shot("SH010", "a"))
    for wait in (60, 120, 240, 480, 600, 600):
        lease = farm.leased()
        assert lease.tries == 0, "it is nobody's fault"
        assert farm.fail(lease, kind) == "held"
        assert farm.ledger.shots("CUT")[0].by_itself
        farm.clock.pass_by(wait - 1)
        assert farm.lease() is None
        farm.clock.pass_by(1)
    assert farm.finish(farm.leased())
    assert farm.shots("CUT") == {"SH010": "rendered"}
    assert farm.told() == ["accepted CUT", "started CUT", "held CUT/SH010"], "a hook is told of the first hold"


def test_a_disk_may_be_away_for_a_year(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"))
    with sqlite3.connect(farm.path) as connection:
        connection.execute("UPDATE shot SET holds = 100000")
    connection.close()
    assert farm.fail(farm.leased(), "storage") == "held"
    farm.clock.pass_by(599)
    assert farm.lease() is None
    farm.clock.pass_by(1)
    farm.leased()


def test_no_wait_is_so_long_that_it_counts_as_none(tmp_path: Path):
    farm = Farm(tmp_path, retry_s=36_000.0)
    farm.accept("CUT", new_shot("SH010", "a"))
    assert farm.fail(farm.leased(), "engine") == "retry"
    assert farm.lease() is None
    farm.clock.pass_by(600)
    farm.leased()
    farm.ledger.close()


@pytest.mark.parametrize("kind", ["engine", "crash", "timeout", "stalled"])
def test_an_engine_has_three_tries(farm: Farm, kind: Kind):
    farm.accept("CUT", new_shot("SH010", "ab"))
    for wait in (10, 20):
        assert farm.fail(farm.leased(), kind) == "retry"
        farm.clock.pass_by(wait - 1)
        assert farm.lease() is None
        farm.clock.pass_by(1)
    assert farm.leased().tries == 2
    running = farm.ledger.running()[0].lease
    assert farm.fail(running, kind) == "failed"
    assert farm.shots("CUT") == {"SH010": "failed"}


@pytest.mark.parametrize("kind", ["memory", "guard"])
def test_what_is_too_big_or_no_picture_has_one_careful_try(farm: Farm, kind: Kind):
    farm.accept("CUT", new_shot("SH010", "ab"))
    first = farm.leased()
    assert not first.careful
    assert farm.fail(first, kind) == "careful"
    second = farm.leased()
    assert second.careful
    assert farm.fail(second, kind) == "failed"
    farm.accept("TWO", new_shot("SH900", "ab"))
    assert not farm.leased().careful, "a new job, a new start"


@pytest.mark.parametrize("reason", ["lost", "cancelled", "drained"])
def test_what_is_given_back_is_not_counted(farm: Farm, reason: module.Released):
    farm.accept("CUT", new_shot("SH010", "a"))
    for losses in range(10):
        lease = farm.leased()
        assert (lease.tries, lease.losses) == (0, losses if reason == "lost" else 0)
        assert farm.ledger.release(lease.key, lease.token, reason)
    assert farm.render() == ["CUT/SH010/1"]


def test_a_failed_segment_fails_all_who_want_it_and_no_other(farm: Farm):
    farm.accept("ONE", new_shot("SH010", "ab"))
    farm.accept("TWO", new_shot("SH900", "ac"), new_shot("SH910", "x"))
    farm.accept("THREE", new_shot("SH1", "a"))
    assert farm.finish(farm.leased())
    assert farm.shots("THREE") == {"SH1": "rendered"}
    lease = farm.leased()
    assert (lease.shot_name, lease.index) == ("SH010", 1)
    assert farm.fail(lease, "input") == "failed"
    assert farm.shots("ONE") | farm.shots("TWO") == {"SH010": "failed", "SH900": "open", "SH910": "open"}
    assert farm.render() == ["TWO/SH900/2", "TWO/SH910/1"]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_of_failure_is_kept_with_its_attempt(farm: Farm, kind: Kind):
    farm.accept("CUT", new_shot("SH010", "a"))
    lease = farm.leased()
    farm.clock.pass_by(30)
    verdict = farm.ledger.fail(lease.key, lease.token, kind, fault(f"{kind} it was"), rc=-9, signal=9)
    assert verdict in get_args(module.Verdict)
    said = farm.ledger.why("SH010")
    assert any(f"{kind} after 30 s: {kind} it was" in one and f"(.farm/logs/{lease.log}.log)" in one for one in said), (
        said
    )


def test_a_changed_input_holds_all_who_want_it(farm: Farm):
    farm.accept("ONE", new_shot("SH010", "ab"))
    farm.accept("TWO", new_shot("SH900", "ac"))
    assert farm.fail(farm.leased(), "changed") == "held"
    assert farm.shots("ONE") | farm.shots("TWO") == {"SH010": "held", "SH900": "held"}
    assert farm.state("a") == "ready", "it waits for them"
    farm.accept("THREE", new_shot("SH1", "a"))
    assert farm.fail(farm.leased(), "input") == "failed"
    assert farm.shots("ONE") | farm.shots("TWO") | farm.shots("THREE") == dict.fromkeys(
        ("SH010", "SH900", "SH1"), "failed"
    )


def test_a_take_that_was_there_waits_for_its_disk_as_it_was(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab", delivered=True))
    shot = farm.ledger.to_deliver()
    assert shot is not None
    farm.ledger.delivery_failed(shot.shot, "storage", fault())
    farm.clock.pass_by(60)
    assert farm.lease() is None
    assert farm.deliver() == ["CUT/SH010"]


# --------------------------------------------------------------------------- workers


def test_a_worker_that_fails_twice_at_a_shot_is_not_given_it(farm: Farm):
    for worker in ("render-1", "render-2"):
        farm.ledger.worker(worker, state="idle")
    farm.accept("CUT", new_shot("SH010", "a"))
    for _ in range(2):
        assert farm.fail(farm.leased("render-1"), "crash") == "retry"
        farm.clock.pass_by(60)
    assert farm.lease("render-1") is None
    assert any("render-1 failed at this shot 2 times" in said for said in farm.ledger.why("SH010"))
    assert farm.leased("render-2").shot_name == "SH010"


def test_a_worker_alone_goes_on_with_what_it_failed_at(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"))
    for worker in ("check", "deliver", "plan"):
        farm.ledger.worker(worker, state="idle")
    assert farm.fail(farm.leased(), "crash") == "retry"
    farm.clock.pass_by(60)
    assert farm.fail(farm.leased(), "crash") == "retry"
    farm.clock.pass_by(60)
    assert farm.leased().tries == 2


def test_a_shot_is_taken_up_again_when_the_other_worker_goes(farm: Farm):
    farm.ledger.worker("render-2", state="idle")
    farm.accept("CUT", new_shot("SH010", "a"))
    for _ in range(2):
        farm.fail(farm.leased("render-1"), "crash")
        farm.clock.pass_by(60)
    assert farm.lease("render-1") is None
    farm.ledger.worker("render-2", state="offline")
    assert farm.leased("render-1").shot_name == "SH010"


def test_a_worker_that_keeps_failing_rests_and_the_last_one_never(farm: Farm):
    for worker in ("render-1", "render-2"):
        farm.ledger.worker(worker, state="idle")
    farm.accept("CUT", *(new_shot(f"SH{n:03d}", letter) for n, letter in enumerate("abcdefghijkl")))
    for _ in range(3):
        farm.fail(farm.leased("render-1"), "crash")
    assert farm.lease("render-1") is None
    blocked = {worker.slot: worker.blocked_until is not None for worker in farm.ledger.status().workers}
    assert blocked == {"render-1": True, "render-2": False}
    for _ in range(4):
        farm.fail(farm.leased("render-2"), "crash")
    assert farm.lease("render-2") is not None
    farm.clock.pass_by(5 * 3600 + 1)
    assert farm.lease("render-1") is not None, "forgiven"
    assert "worker-forgiven" in [event.what for event in farm.ledger.events()]


def test_a_done_segment_forgives(farm: Farm):
    farm.ledger.worker("render-2", state="idle")
    farm.accept("CUT", *(new_shot(f"SH{n:03d}", letter) for n, letter in enumerate("abcdefgh")))
    for _ in range(2):
        farm.fail(farm.leased(), "crash")
        farm.fail(farm.leased(), "crash")
        assert farm.finish(farm.leased())
    assert farm.lease() is not None


def test_a_block_written_before_the_clock_was_set_back_is_over(farm: Farm):
    farm.ledger.worker("render-2", state="idle")
    farm.accept("CUT", *(new_shot(f"SH{n:03d}", letter) for n, letter in enumerate("abcdefgh")))
    for _ in range(3):
        farm.fail(farm.leased(), "crash")
    assert farm.lease() is None
    farm.clock.jump(-48 * 3600)
    assert farm.lease() is not None


# --------------------------------------------------------------------------- clocks


@pytest.mark.parametrize("hours", [24, -48])
def test_waiting_survives_a_clock_that_jumps(farm: Farm, hours: float):
    farm.accept("CUT", new_shot("SH010", "a"), new_shot("SH020", "b"), new_shot("SH030", "c", finished=1))
    assert farm.fail(farm.leased(), "crash") == "retry"
    assert farm.fail(farm.leased(), "storage") == "held"
    shot = farm.ledger.to_deliver()
    assert shot is not None
    assert farm.ledger.delivery_failed(shot.shot, "storage", fault()) == "held"
    assert farm.lease() is None
    assert not farm.ledger.any_ready()
    farm.clock.jump(hours * 3600)
    assert farm.ledger.any_ready()
    assert sorted(farm.render()) == ["CUT/SH010/1", "CUT/SH020/1"]
    assert sorted(farm.deliver()) == ["CUT/SH010", "CUT/SH020", "CUT/SH030"]


# --------------------------------------------------------------------------- pause, resume, cancel


@pytest.mark.parametrize("ref", ["CUT", "CUT/SH010", "SH010", "CUT/SH010/2", "SH010/2"])
def test_a_pause_is_remembered_apart_from_the_state(farm: Farm, ref: str):
    farm.accept("CUT", new_shot("SH010", "abc"))
    assert farm.finish(farm.leased())
    before, states = farm.segments(), farm.shots("CUT")
    assert len(farm.ledger.pause(ref)) == 1
    events = farm.what()
    assert "paused already" in farm.ledger.pause(ref)[0]
    assert farm.what() == events
    assert farm.lease() is None
    assert any("`scail2-farm job resume " in said for said in farm.ledger.why(ref))
    farm.reopen()
    assert farm.lease() is None
    farm.ledger.resume(ref)
    events = farm.what()
    assert "is not paused" in farm.ledger.resume(ref)[0]
    assert farm.what() == events
    assert (farm.segments(), farm.shots("CUT")) == (before, states)
    assert farm.render() == ["CUT/SH010/2", "CUT/SH010/3"]


@pytest.mark.parametrize("ref", ["CUT", "CUT/SH010", "CUT/SH010/1"])
def test_what_is_paused_in_the_middle_is_stopped_and_goes_on_where_it_was(farm: Farm, ref: str):
    farm.accept("CUT", new_shot("SH010", "ab"))
    lease = farm.leased()
    assert farm.ledger.unwanted() == []
    farm.ledger.pause(ref)
    assert farm.ledger.unwanted() == [lease]
    assert farm.ledger.release(lease.key, lease.token, "cancelled")
    assert farm.state("a") == ("held" if ref.endswith("1") else "ready")
    assert farm.lease() is None
    farm.ledger.resume(ref)
    assert farm.render() == ["CUT/SH010/1", "CUT/SH010/2"]


def test_a_pause_waits_for_nobody_elses_segments(farm: Farm):
    farm.accept("ONE", new_shot("SH010", "a"))
    farm.accept("TWO", new_shot("SH900", "a"))
    lease = farm.leased()
    farm.ledger.pause("ONE")
    assert farm.ledger.unwanted() == [], "another job wants it"
    assert farm.finish(lease)
    assert farm.deliver() == ["TWO/SH900"], "a paused shot is not delivered either"
    assert farm.ledger.resume("ONE") == ["ONE goes on"]
    assert farm.deliver() == ["ONE/SH010"]


def test_a_paused_segment_says_who_waits_with_it(farm: Farm):
    farm.accept("ONE", new_shot("SH010", "a"))
    farm.accept("TWO", new_shot("SH900", "a"))
    assert farm.ledger.pause("ONE/SH010/1")[1] == "TWO/SH900 wants the same segment and waits with it"


def test_resuming_a_shot_says_that_its_job_is_paused_still(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"))
    farm.ledger.pause("CUT")
    farm.ledger.pause("SH010")
    assert farm.ledger.resume("SH010") == ["CUT/SH010 goes on", "the job CUT is paused still"]
    assert farm.lease() is None


def test_cancelling_a_job_leaves_what_others_want(farm: Farm):
    farm.accept("ONE", new_shot("SH010", "ab"), new_shot("SH020", "x"))
    farm.accept("TWO", new_shot("SH900", "ac"))
    lease = farm.leased()
    farm.ledger.cancel("ONE")
    events = farm.what()
    assert farm.ledger.cancel("ONE") == ["ONE is cancelled already"]
    assert farm.what() == events
    assert farm.ledger.unwanted() == []
    assert (farm.state("a"), farm.state("ab"), farm.state("ac"), farm.state("x")) == (
        "leased",
        "cancelled",
        "blocked",
        "cancelled",
    )
    assert farm.finish(lease)
    assert farm.render() == ["TWO/SH900/2"]


def test_what_is_cancelled_in_the_middle_is_unwanted(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"))
    lease = farm.leased()
    farm.ledger.cancel("SH010/2")
    assert farm.shots("CUT") == {"SH010": "cancelled"}
    assert farm.ledger.unwanted() == [lease]
    assert farm.ledger.release(lease.key, lease.token, "cancelled")
    assert farm.state("a") == "cancelled"
    assert farm.ledger.to_return() is None
    job = farm.ledger.job("CUT")
    assert job is not None
    assert job.state == "cancelled", "nothing of it is left"


def test_what_is_planned_again_is_cancelled_with_its_job(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"), new_shot("SH020", "b"))
    farm.ledger.retry("SH010", seed=1)
    farm.ledger.cancel("CUT")
    assert farm.shots("CUT") == {"SH010": "cancelled", "SH020": "cancelled"}
    assert farm.ledger.retrying() == []
    assert farm.ledger.retry("CUT")[0] == "CUT/SH010 is planned again and then rendered"
    job = farm.ledger.job("CUT")
    assert job is not None
    assert job.state == "open"


def test_a_pause_ends_with_what_was_finished_in_spite_of_it(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"))
    lease = farm.leased()
    farm.ledger.pause("SH010/1")
    assert farm.finish(lease)
    assert "is done already" in farm.ledger.pause("SH010/1")[0]
    farm.ledger.spoiled(lease.key)
    assert farm.render() == ["CUT/SH010/1", "CUT/SH010/2"]


def test_a_shot_that_is_cancelled_late_is_not_delivered(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"))
    farm.render()
    shot = farm.ledger.to_deliver()
    assert shot is not None
    farm.ledger.cancel("CUT")
    assert not farm.ledger.delivered(shot.shot, folder="/takes/v001", version=1)
    assert farm.ledger.delivery_failed(shot.shot, "storage", fault()) is None


# --------------------------------------------------------------------------- retry


def test_a_retry_plans_again_and_a_seed_makes_another_take(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"), new_shot("SH020", "x"))
    farm.render()
    farm.deliver()
    back = farm.ledger.to_return()
    assert back is not None
    farm.ledger.returned("CUT", path="/show/CUT.scail2.otio")
    assert "another seed makes another take" in farm.ledger.retry("SH010")[0]
    assert farm.ledger.retry("SH010", seed=7) == ["CUT/SH010 is planned again with seed 7 and then rendered"]
    (retry,) = farm.ledger.retrying()
    assert (retry.job, retry.shots, retry.seeds) == ("CUT", ("SH010",), {"SH010": 7})
    assert farm.ledger.to_return() is None
    accepted = farm.ledger.replan("CUT", [new_shot("SH010", "AB", seed=7)], seen=farm.ledger.mark())
    assert (accepted.shots, accepted.queued) == (1, 2)
    assert farm.ledger.retrying() == []
    assert farm.render() == ["CUT/SH010/1", "CUT/SH010/2"]
    shot = farm.ledger.to_deliver()
    assert shot is not None
    assert farm.ledger.delivered(shot.shot, folder="/takes/SH010/v002", version=2)
    back = farm.ledger.to_return()
    assert back is not None
    assert back.takes == ("/takes/SH010/v002", "/show/CUT.scail2/shots/SH020/v001")
    farm.ledger.returned("CUT", path="/show/CUT.scail2.otio")
    job = farm.ledger.job("CUT")
    assert job is not None
    assert job.state == "done"


def test_a_plan_for_another_seed_is_passed_over(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"))
    farm.ledger.retry("SH010", seed=5)
    farm.ledger.retry("SH010", seed=7)
    assert farm.ledger.replan("CUT", [new_shot("SH010", "b", seed=5)], seen=0).shots == 0
    assert farm.ledger.replan("CUT", [new_shot("SH010", "c", seed=7)], seen=0).shots == 1
    farm.ledger.retry("SH010", seed=8)
    farm.ledger.cancel("SH010")
    assert farm.ledger.replan("CUT", [new_shot("SH010", "d", seed=8)], seen=0).shots == 0
    assert farm.shots("CUT") == {"SH010": "cancelled"}
    with pytest.raises(ValueError, match="no job 'NONE'"):
        farm.ledger.replan("NONE", [], seen=0)


def test_what_cannot_be_planned_again_is_held(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"))
    farm.fail(farm.leased(), "input")
    farm.ledger.retry("CUT")
    accepted = farm.ledger.replan("CUT", [], [NewHeld(shot="SH010", fault=fault("still gone"))], seen=0)
    assert accepted.held == 1
    assert farm.shots("CUT") == {"SH010": "held"}
    assert any("still gone" in said for said in farm.ledger.why("CUT"))


def test_a_retry_takes_up_what_failed_is_held_or_was_cancelled(farm: Farm):
    shots = [new_shot(f"SH0{n}0", letter) for n, letter in enumerate("abcd", 1)]
    farm.accept("CUT", *shots, held=(NewHeld(shot="SH050", fault=fault()),))
    farm.fail(farm.leased(), "input")
    farm.ledger.cancel("SH020")
    assert farm.finish(farm.leased())
    farm.deliver()
    assert len(farm.ledger.retry("CUT")) == 3
    assert farm.shots("CUT") == {
        "SH010": "retrying",
        "SH020": "retrying",
        "SH030": "done",
        "SH040": "open",
        "SH050": "retrying",
    }
    assert farm.ledger.retrying()[0].shots == ("SH010", "SH020", "SH050")
    farm.reopen()
    assert len(farm.ledger.retrying()) == 1
    farm.ledger.replan("CUT", [shots[0], shots[1], new_shot("SH050", "e")], seen=0)
    assert farm.render() == ["CUT/SH010/1", "CUT/SH020/1", "CUT/SH040/1", "CUT/SH050/1"]
    with pytest.raises(SubmissionInvalid, match="a seed is one shot's"):
        farm.ledger.retry("CUT", seed=3)
    assert "nothing to retry" in farm.ledger.retry("CUT")[0]


def test_a_retry_forgets_what_is_waited_for(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"), new_shot("SH020", "b"))
    farm.fail(farm.leased(), "crash")
    assert farm.finish(farm.leased())
    shot = farm.ledger.to_deliver()
    assert shot is not None
    assert farm.ledger.delivery_failed(shot.shot, "crash", fault()) == "retry"
    assert farm.lease() is None
    assert farm.ledger.to_deliver() is None
    assert farm.ledger.retry("SH010") == ["CUT/SH010 is tried again at once"]
    assert farm.ledger.retry("SH020") == ["CUT/SH020 is tried again at once"]
    assert farm.ledger.retry("SH020") == ["CUT/SH020 is under way; nothing to retry"]
    assert farm.leased().tries == 0
    assert farm.ledger.to_deliver() is not None


def test_a_segment_that_runs_while_its_shot_is_planned_again(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"))
    old = farm.leased()
    farm.ledger.retry("SH010", seed=9)
    assert farm.ledger.unwanted() == [old]
    farm.ledger.replan("CUT", [new_shot("SH010", "AB", seed=9)], seen=0)
    (running,) = farm.ledger.running()
    assert running.lease.document.segments[0].key == old.key, "the document it was leased with"
    farm.ledger.swept([])
    assert farm.ledger.running() == [running]
    assert farm.ledger.release(old.key, old.token, "cancelled")
    assert farm.state("a") == "cancelled"
    assert farm.render() == ["CUT/SH010/1", "CUT/SH010/2"]
    assert farm.state("AB") == "done"


# --------------------------------------------------------------------------- delivery and return


def test_deliveries_come_in_the_fair_order(farm: Farm):
    farm.accept("ONE", new_shot("SH010", "a", finished=1), new_shot("SH020", "b", finished=1))
    farm.accept("TWO", new_shot("SH900", "c", finished=1), priority=80)
    assert farm.deliver() == ["TWO/SH900", "ONE/SH010", "ONE/SH020"]
    shot = farm.ledger.shots("ONE")[0]
    assert (shot.state, shot.version, shot.folder) == ("done", 1, "/show/ONE.scail2/shots/SH010/v001")


@pytest.mark.parametrize(
    ("kind", "verdicts"),
    [
        ("input", ["failed"]),
        ("changed", ["held"]),
        ("crash", ["retry", "retry", "failed"]),
        ("memory", ["retry", "retry", "failed"]),
        ("guard", ["retry", "retry", "failed"]),
        ("storage", ["held"] * 8),
        ("setup", ["held"] * 8),
    ],
)
def test_failed_deliveries(farm: Farm, kind: Kind, verdicts: list[str]):
    farm.accept("CUT", new_shot("SH010", "a", finished=1))
    for verdict in verdicts:
        shot = farm.ledger.to_deliver()
        assert shot is not None
        assert farm.ledger.delivery_failed(shot.shot, kind, fault()) == verdict
        assert farm.ledger.to_deliver() is None
        farm.clock.pass_by(600)
    final = {"failed": "failed", "held": "held"}[verdicts[-1]]
    assert farm.shots("CUT") == {"SH010": final}
    if kind in ("storage", "setup"):
        assert farm.deliver() == ["CUT/SH010"]


def test_a_spoiled_segment_is_rendered_again_and_nothing_else(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "abc"), new_shot("SH020", "abd"))
    farm.render()
    farm.ledger.spoiled(chain("ab")[1])
    assert farm.shots("CUT") == {"SH010": "open", "SH020": "open"}
    assert (farm.state("ab"), farm.state("abc")) == ("ready", "done")
    assert farm.render() == ["CUT/SH020/2"], "by the worker whose chain it is"
    assert farm.shots("CUT") == {"SH010": "rendered", "SH020": "rendered"}
    farm.ledger.spoiled("0" * 64)


def test_a_cut_is_returned_when_nothing_is_left_to_run(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"), new_shot("SH020", "b"))
    assert farm.ledger.to_return() is None
    farm.fail(farm.leased(), "input", "no such file")
    farm.render()
    assert farm.ledger.to_return() is None
    farm.deliver()
    back = farm.ledger.to_return()
    assert back is not None
    assert (back.job, back.cut, back.folder) == ("CUT", "/show/CUT.scail2.otio", "/show/plans/CUT")
    assert back.takes == ("/show/CUT.scail2/shots/SH020/v001",)
    assert [one.what for one in back.faults] == ["no such file"]
    assert farm.ledger.to_return() == back, "until it is returned"
    assert farm.ledger.to_return(except_for=["CUT"]) is None
    farm.ledger.return_failed("CUT", fault("the share is gone"))
    assert any("the share is gone" in said for said in farm.ledger.why("CUT"))
    farm.ledger.returned("CUT", path="/show/CUT.scail2.otio")
    assert farm.ledger.to_return() is None
    job = farm.ledger.job("CUT")
    assert job is not None
    assert (job.state, job.returned) == ("failed", "/show/CUT.scail2.otio")
    with pytest.raises(ValueError, match="no job 'NONE'"):
        farm.ledger.returned("NONE", path=None)


def test_what_changes_while_a_cut_is_returned_is_returned_after_it(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"), held=(NewHeld(shot="SH020", fault=fault()),))
    farm.render()
    farm.deliver()
    assert farm.ledger.to_return() is not None
    farm.ledger.cancel("SH020")
    farm.ledger.returned("CUT", path="/show/CUT.scail2.otio")
    job = farm.ledger.job("CUT")
    assert job is not None
    assert job.state == "done"


def test_a_cut_is_returned_without_a_shot_whose_disk_stays_away_and_later_with_it(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"), new_shot("SH020", "b", finished=1))
    farm.deliver()
    for hold in range(1, 9):
        farm.fail(farm.leased(), "storage", "the share is away")
        back = farm.ledger.to_return()
        if hold < module.PATIENCE:
            assert back is None
        elif hold == module.PATIENCE:
            assert back is not None
            assert len(back.takes) == 1
            farm.ledger.returned("CUT", path="/show/CUT.scail2.otio")
        else:
            assert back is None, "it would show nothing new"
        farm.clock.pass_by(600)
    farm.render()
    farm.deliver()
    back = farm.ledger.to_return()
    assert back is not None
    assert len(back.takes) == 2


def test_a_manifest_alone_has_no_cut_and_is_done_all_the_same(farm: Farm):
    farm.ledger.accept(new_job("LIST", cut=None), [new_shot("SH010", "a", finished=1)], supersede=False)
    farm.accept("EMPTY")
    farm.deliver()
    for job in ("LIST", "EMPTY"):
        back = farm.ledger.to_return()
        assert back is not None
        assert back.job == job
        farm.ledger.returned(job, path=None)
    assert {job.state for job in farm.ledger.jobs()} == {"done"}


def test_a_paused_job_is_not_returned(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a", finished=1))
    farm.deliver()
    farm.ledger.pause("CUT")
    assert farm.ledger.to_return() is None
    farm.ledger.resume("CUT")
    assert farm.ledger.to_return() is not None


# --------------------------------------------------------------------------- references


def test_a_name_that_is_nothing_is_answered_with_near_ones(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"))
    for ref, near in {"CUD": "CUT", "SH011": "SH010", "CUT/SH01O": "SH010"}.items():
        with pytest.raises(SubmissionInvalid) as raised:
            farm.ledger.pause(ref)
        assert f"did you mean {near}?" in raised.value.fix
    with pytest.raises(SubmissionInvalid, match="has no segment '3'") as raised:
        farm.ledger.pause("CUT/SH010/3")
    assert raised.value.fix == "it has segments 1 to 2"
    for written in ("0", "9" * 20, "9" * 5000):
        with pytest.raises(SubmissionInvalid, match="has no segment"):
            farm.ledger.why(f"CUT/SH010/{written}")
    with pytest.raises(SubmissionInvalid, match="no job and no shot ''"):
        farm.ledger.why("")


def test_a_name_that_two_jobs_have_is_asked_for_in_full(farm: Farm):
    farm.accept("ONE", new_shot("SH010", "a"))
    farm.accept("TWO", new_shot("SH010", "b"))
    with pytest.raises(SubmissionInvalid) as raised:
        farm.ledger.cancel("SH010")
    assert raised.value.fix == "say which one: ONE/SH010, TWO/SH010"
    farm.ledger.cancel("ONE")
    assert farm.ledger.pause("SH010")[0].startswith("TWO/SH010 is paused")


def test_a_bare_name_is_the_newest_revisions(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"))
    farm.accept("CUT", new_shot("SH010", "b"))
    assert farm.ledger.pause("SH010")[0].startswith("CUT.r2/SH010 is paused")


# --------------------------------------------------------------------------- status and why


def test_status_counts_and_foretells(farm: Farm):
    farm.accept("ONE", new_shot("SH010", "ab", work=100.0), new_shot("SH020", "x", work=50.0))
    farm.accept("TWO", new_shot("SH900", "ac", work=100.0))
    empty = farm.ledger.status()
    assert empty.eta_s is None
    assert farm.ledger.expected_seconds(100.0) is None
    assert farm.finish(farm.leased(), seconds=20.0)
    assert farm.ledger.expected_seconds(100.0) == 20.0
    lease = farm.leased()
    farm.ledger.beat(lease.key, lease.token, step=2, of=8)
    status = farm.ledger.status()
    one, two = status.jobs
    assert (one.id, one.shots, one.segments, one.segments_done) == ("ONE", {"open": 2}, 3, 1)
    assert (two.id, two.shots, two.segments, two.segments_done) == ("TWO", {"open": 1}, 2, 1)
    assert one.eta_s == pytest.approx((75 + 50) / 5)
    assert two.eta_s == pytest.approx((75 + 50 + 100) / 5)
    assert status.eta_s == two.eta_s
    (running,) = status.running
    assert (running.job, running.shot, running.segment, running.segments) == ("ONE", "SH010", 2, 2)
    assert (running.step, running.of, running.eta_s) == (2, 8, pytest.approx(15.0))
    farm.ledger.worker("render-2", state="idle", pid=4)
    assert farm.ledger.status().eta_s == pytest.approx((75 + 50 + 100) / 5 / 2)
    document = json.loads(json.dumps(status.as_json()))
    assert document["jobs"][0]["at"].endswith("+00:00")
    assert document["running"][0]["worker"] == "render-1"


def test_a_time_that_was_not_measured_does_not_count(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"))
    assert farm.finish(farm.leased(), seconds=0.0)
    assert farm.ledger.expected_seconds(1.0) is None
    assert farm.ledger.status().eta_s is None


def _held_by_itself(farm: Farm) -> None:
    farm.fail(farm.leased(), "storage", "the share is away")


def _retrying(farm: Farm) -> None:
    farm.ledger.retry("SH010", seed=3)


def _rendered(farm: Farm) -> None:
    farm.render()


def _delivery_waits(farm: Farm) -> None:
    farm.render()
    farm.ledger.delivery_failed(farm.ledger.shots("CUT")[0].id, "crash", fault("the codec died"))


def _done(farm: Farm) -> None:
    farm.render()
    farm.deliver()


def _backing_off(farm: Farm) -> None:
    farm.fail(farm.leased(), "crash", "it died")


def _leased(farm: Farm) -> None:
    lease = farm.leased()
    farm.ledger.beat(lease.key, lease.token, step=2, of=8)


def _publishing(farm: Farm) -> None:
    lease = farm.leased()
    farm.ledger.publish(lease.key, lease.token)


WHYS: dict[str, tuple[Callable[[Farm], object], str, str]] = {
    "ready": (lambda farm: None, "SH010", "CUT/SH010/1 is ready and the next in the queue"),
    "no worker": (lambda farm: None, "SH010", "no worker is running"),
    "turn": (lambda farm: None, "SH020", "waits for its turn: 1 segment before it in the queue"),
    "blocked": (lambda farm: None, "SH010/2", "CUT/SH010/2 waits for the segment before it, CUT/SH010/1"),
    "leased": (_leased, "SH010", "is being rendered by render-1, step 2 of 8"),
    "leased segment": (_leased, "SH010/1", "is being rendered by render-1"),
    "busy": (_leased, "SH020", "every worker is busy (1)"),
    "running job": (_leased, "CUT", "CUT/SH010/1 is being rendered by render-1, step 2 of 8"),
    "publishing": (_publishing, "SH010", "its frames are being put in place"),
    "backing off": (_backing_off, "SH010", "failed 1 time and is tried again in 10 s: it died"),
    "held by itself": (_held_by_itself, "SH010", "tried again by itself in 60 s: the share is away"),
    "held by itself, job": (_held_by_itself, "CUT", "CUT/SH010 is held and tried again by itself in 60 s"),
    "changed": (lambda farm: farm.fail(farm.leased(), "changed"), "SH010", "then `scail2-farm job retry CUT/SH010`"),
    "failed": (lambda farm: farm.fail(farm.leased(), "input"), "SH010", "CUT/SH010 failed: it broke"),
    "failed segment": (lambda farm: farm.fail(farm.leased(), "input"), "SH010/1", "CUT/SH010 failed: it broke"),
    "failed job": (lambda farm: farm.fail(farm.leased(), "input"), "CUT", "1 to be rendered and 1 failed"),
    "cancelled": (
        lambda farm: farm.ledger.cancel("SH010"),
        "SH010",
        "is cancelled: an operator cancelled CUT/SH010; `scail2-farm job retry",
    ),
    "cancelled job": (lambda farm: farm.ledger.cancel("CUT"), "CUT", "CUT is cancelled: 2 shots"),
    "retrying": (_retrying, "SH010", "is being planned again with seed 3"),
    "rendered": (_rendered, "SH010", "CUT/SH010 is rendered and waits to be delivered"),
    "deliveries": (_rendered, "SH020", "waits to be delivered; 1 shot before it"),
    "delivery waits": (_delivery_waits, "SH010", "delivering it is tried again in 10 s: the codec died"),
    "done": (_done, "SH010", "CUT/SH010 is done: v001 in /show/CUT.scail2/shots/SH010/v001"),
    "done job": (_done, "CUT", "every shot is finished; its cut is about to be returned"),
    "paused": (lambda farm: farm.ledger.pause("SH010"), "SH010", "the shot is paused: `scail2-farm job resume"),
    "paused job": (lambda farm: farm.ledger.pause("CUT"), "CUT", "it is paused: `scail2-farm job resume CUT`"),
    "paused segment": (lambda farm: farm.ledger.pause("SH010/1"), "SH010", "CUT/SH010/1 is paused"),
}


@pytest.mark.parametrize("case", WHYS)
def test_every_state_has_a_sentence(farm: Farm, case: str):
    farm.accept("CUT", new_shot("SH010", "ab"), new_shot("SH020", "x"))
    bring, ref, expected = WHYS[case]
    bring(farm)
    said = farm.ledger.why(ref)
    assert any(expected in sentence for sentence in said), said


# --------------------------------------------------------------------------- events and hooks


def test_events_are_never_taken_back(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a"))
    connection = sqlite3.connect(farm.path)
    for statement in ("DELETE FROM event", "UPDATE event SET what = 'nothing'"):
        with pytest.raises(sqlite3.IntegrityError, match="what happened is never"):
            connection.execute(statement)
    connection.close()


def test_every_transition_is_told_once_and_in_order(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"))
    farm.accept("OTHER", new_shot("SH1", "x"))
    farm.render()
    farm.deliver()
    farm.ledger.to_return()
    farm.ledger.returned("CUT", path="/show/CUT.scail2.otio")
    told = [f"{event.what} {event.subject}" for event in farm.ledger.events(job="CUT")]
    assert told == [
        "accepted CUT",
        "drop-accepted CUT",
        "started CUT",
        "leased CUT/SH010/1",
        "done CUT/SH010/1",
        "leased CUT/SH010/2",
        "done CUT/SH010/2",
        "shot-rendered CUT/SH010",
        "shot-done CUT/SH010",
        "returned CUT",
        "job-done CUT",
    ]
    everything = farm.ledger.events()
    assert [event.seq for event in everything] == sorted(event.seq for event in everything)
    assert farm.ledger.events(since=everything[3].seq, limit=2) == everything[4:6]
    assert farm.ledger.mark() == everything[-1].seq


def test_hooks_are_told_in_order_until_they_hear(tmp_path: Path):
    farm = Farm(tmp_path, hooks=(HOOK, OTHER_HOOK))
    farm.accept("CUT", new_shot("SH010", "a"), held=(NewHeld(shot="SH020", fault=fault()),))
    farm.render()
    farm.deliver()
    first, other = farm.ledger.outbox()
    assert (first.url, other.url, first.seq) == (HOOK, OTHER_HOOK, other.seq)
    body = json.loads(first.body)
    assert body == {
        "seq": first.seq,
        "event": "accepted",
        "job": "CUT",
        "shot": None,
        "at": "2026-09-21T14:13:20+00:00",
        "facts": {"name": "CUT", "revision": 1, "shots": 2, "held": 1, "queued": 1, "found": 0},
    }
    waits = []
    for _ in range(14):
        farm.ledger.unsent(first.seq, HOOK, why="500")
        assert [one.url for one in farm.ledger.outbox()] == [OTHER_HOOK], "the others of this hook wait behind it"
        began = farm.clock.wall()
        while HOOK not in [one.url for one in farm.ledger.outbox()]:
            farm.clock.pass_by(5)
        waits.append(farm.clock.wall() - began)
    assert waits[:4] == [5, 10, 20, 40]
    assert max(waits) == 3600
    farm.reopen()
    assert farm.told() == ["accepted CUT", "held CUT/SH020", "started CUT", "shot-done CUT/SH010"]
    assert farm.told(hook=OTHER_HOOK) == ["accepted CUT", "held CUT/SH020", "started CUT", "shot-done CUT/SH010"]
    farm.ledger.sent(first.seq, HOOK)
    farm.ledger.unsent(first.seq, HOOK, why="told already")
    assert farm.ledger.outbox() == []
    farm.ledger.close()


# --------------------------------------------------------------------------- garbage


def test_scratch_that_is_needed_is_known(farm: Farm):
    farm.accept("ONE", new_shot("SH010", "ab"), new_shot("SH020", "x"))
    farm.accept("TWO", new_shot("SH900", "ac"))
    farm.ledger.cancel("TWO")
    assert farm.ledger.scratch() == {*chain("ab"), *chain("x")}
    lease = farm.leased()
    farm.ledger.cancel("ONE")
    assert farm.ledger.scratch() == {lease.key}


def test_what_is_swept_is_rendered_again_when_it_is_wanted_again(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "ab"))
    farm.render()
    farm.deliver()
    farm.ledger.to_return()
    farm.ledger.returned("CUT", path=None)
    assert farm.ledger.scratch() == set()
    farm.ledger.swept([*chain("ab"), "0" * 64])
    assert (farm.state("a"), farm.state("ab")) == ("cancelled", "cancelled")
    assert farm.ledger.status().jobs[0].segments_done == 2, "the shot is done all the same"
    accepted = farm.accept("TWO", new_shot("SH900", "ab"))
    assert (accepted.queued, accepted.found) == (2, 0)
    assert farm.render() == ["TWO/SH900/1", "TWO/SH900/2"]


def test_documents_of_closed_jobs_are_swept(farm: Farm):
    farm.accept("CUT", new_shot("SH010", "a", finished=1))
    farm.deliver()
    farm.ledger.to_return()
    farm.ledger.returned("CUT", path=None)
    farm.accept("OTHER", new_shot("SH1", "b"))
    farm.ledger.swept([])
    connection = sqlite3.connect(farm.path)
    assert connection.execute("SELECT count(*) FROM document").fetchone() == (1,)
    connection.close()
    farm.ledger.retry("CUT/SH010", seed=1)
    farm.ledger.replan("CUT", [new_shot("SH010", "A", seed=1)], seen=0)
    assert farm.render() == ["CUT/SH010/1", "OTHER/SH1/1"]


# --------------------------------------------------------------------------- the file


def _fill(farm: Farm) -> None:
    connection = farm.ledger._database._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")


def _free(farm: Farm) -> None:
    farm.ledger._database._connection.execute("PRAGMA max_page_count = 1073741823")


def _until_full(farm: Farm) -> str:
    """Go on until something says that the disk is full; which verb it was."""
    number = 0
    while True:
        number += 1
        verb, lease = "lease", None
        try:
            lease = farm.lease()
            verb = "finish"
            assert lease is not None
            farm.finish(lease)
            verb = "note"
            farm.ledger.note_drop(hashlib.sha256(str(number).encode()).hexdigest(), name="x" * 500, state="claimed")
        except DiskFull:
            return verb


def test_a_full_disk_is_waited_for(farm: Farm):
    farm.accept("CUT", *(new_shot(f"SH{n:03d}", chr(0x100 + n) * 3) for n in range(200)))
    seen: set[str] = set()
    for _ in range(6):
        _fill(farm)
        before = farm.what()
        seen.add(_until_full(farm))
        assert not farm.ledger._database.busy
        assert farm.what()[: len(before)] == before
        assert farm.ledger.status().jobs[0].id == "CUT"
        assert farm.ledger.integrity() == []
        _free(farm)
        for running in farm.ledger.running():
            assert farm.finish(running.lease)
    assert seen & {"lease", "finish"}
    farm.render()
    assert set(farm.shots("CUT").values()) == {"rendered"}


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs root on Linux")
def test_a_small_disk_that_is_full(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        farm = Farm(disk)
        farm.accept("CUT", *(new_shot(f"SH{n:03d}", chr(0x100 + n) * 3) for n in range(60)))
        weight = disk / "weight"
        with weight.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        verb = _until_full(farm)
        assert verb in ("lease", "finish", "note")
        assert not farm.ledger._database.busy
        assert farm.ledger.status().jobs[0].id == "CUT"
        assert farm.ledger.integrity() == []
        weight.unlink()
        for running in farm.ledger.running():
            assert farm.finish(running.lease)
        farm.render()
        assert set(farm.shots("CUT").values()) == {"rendered"}
        farm.reopen()
        assert farm.ledger.integrity() == []
        farm.ledger.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path):
    Farm(tmp_path).ledger.close()
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.execute(f"PRAGMA user_version = {module.VERSION + 1}")
    connection.close()
    with pytest.raises(SettingsInvalid, match="written by a newer scail2-farm"):
        Farm(tmp_path)


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path):
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.execute("CREATE TABLE photographs (name TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(SettingsInvalid, match="a database of something else"):
        Farm(tmp_path)
    (tmp_path / "ledger.db").write_bytes(b"not a database at all" * 500)
    with pytest.raises(ShareUnavailable, match="it is not a ledger"):
        Farm(tmp_path)


def test_a_folder_that_is_gone_is_told(tmp_path: Path):
    with pytest.raises(ShareUnavailable, match="it cannot be opened"):
        Farm(tmp_path / "nowhere")


def test_a_ledger_that_somebody_holds_is_told(farm: Farm):
    other = sqlite3.connect(farm.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ShareUnavailable, match="another program holds it"):
        farm.accept("CUT", new_shot("SH010", "a"))
    other.execute("ROLLBACK")
    other.close()
    farm.accept("CUT", new_shot("SH010", "a"))


def test_the_ledger_survives_the_power(farm: Farm):
    ask = farm.ledger._database._connection.execute
    settings = {name: ask(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "fullfsync")}
    assert settings == {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1}


def test_errors_can_be_acted_on(farm: Farm):
    with pytest.raises(FarmError) as raised:
        farm.ledger.pause("nothing")
    assert raised.value.fix
    assert raised.value.why
