"""No interleaving of jobs, leases, crashes, words of the dead and orders of the living loses or repeats a segment.

The machine plays the daemon, its workers and its operator against one ledger file, with a model of what is on disk.
`SCAIL2_LEDGER_EXAMPLES` and `SCAIL2_LEDGER_STEPS` make it longer.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from farm_shots import StandingClock, chain, fault, new_job, new_shot
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scail2_farm.farm.ledger import Kind, Lease, Ledger, NewHeld, NewShot, Retry

JOBS, SHOTS, WORKERS = ("CUT", "LIST"), ("SH010", "SH020", "SH030"), ("render-1", "render-2", "render-3")
LETTERS = st.sampled_from(["a", "ab", "aba", "abb", "b", "ba"])
WORDS = st.sampled_from(["beat", "publish", "done", "done", "done", "lost", "cancelled", "drained", "failed", "failed"])
WANTED = "shot.state IN ('open', 'held')"

BROKEN = {
    "a segment is ready before the one before it is done": """
        SELECT s.key FROM segment s JOIN segment p ON p.id = s.prev WHERE s.state = 'ready' AND p.state <> 'done'""",
    "a segment is blocked though the one before it is done": """
        SELECT s.key FROM segment s LEFT JOIN segment p ON p.id = s.prev
        WHERE s.state = 'blocked' AND (p.id IS NULL OR p.state = 'done')""",
    "a segment waits that nobody wants": f"""
        SELECT key FROM segment s WHERE state IN ('ready', 'blocked', 'held') AND NOT EXISTS (
            SELECT 1 FROM chain JOIN shot ON shot.id = chain.shot WHERE chain.segment = s.id AND {WANTED})""",
    "a segment is failed or cancelled that somebody wants": f"""
        SELECT key FROM segment s JOIN chain ON chain.segment = s.id JOIN shot ON shot.id = chain.shot
        WHERE s.state IN ('failed', 'cancelled') AND {WANTED}""",
    "a segment is held without a pause, or paused and given out": """
        SELECT key FROM segment WHERE (state = 'held') <> paused AND state IN ('held', 'ready', 'blocked')""",
    "an open shot has nothing left, or no way on": """
        SELECT name FROM shot WHERE state = 'open' AND NOT EXISTS (
            SELECT 1 FROM chain JOIN segment s ON s.id = chain.segment
            WHERE chain.shot = shot.id AND s.state IN ('ready', 'leased', 'publishing', 'held'))""",
    "a rendered shot lacks a segment": """
        SELECT name FROM shot JOIN chain ON chain.shot = shot.id JOIN segment s ON s.id = chain.segment
        WHERE shot.state = 'rendered' AND NOT shot.found AND s.state <> 'done'""",
    "somebody has a segment without an attempt that lasts": """
        SELECT key FROM segment s LEFT JOIN attempt a ON a.id = s.attempt AND a.class IS NULL AND a.token = s.token
        WHERE (s.state IN ('leased', 'publishing')) <> (a.id IS NOT NULL)""",
    "an attempt lasts that is not the newest": """
        SELECT a.id FROM attempt a JOIN segment s ON s.id = a.segment
        WHERE a.class IS NULL AND s.attempt IS NOT a.id""",
    "a shot of a closed job is not closed": """
        SELECT shot.name FROM shot JOIN job ON job.turn = shot.job
        WHERE job.state <> 'open' AND shot.state NOT IN ('done', 'failed', 'cancelled')""",
    "a pause of a job is not its shots'": """
        SELECT shot.name FROM shot JOIN job ON job.turn = shot.job WHERE shot.job_paused <> job.paused""",
}
"""What must never be, and the query that finds it."""


@dataclass(frozen=True)
class Planned:
    """What a plan saw, before it is accepted."""

    name: str
    shots: tuple[NewShot, ...]
    held: tuple[NewHeld, ...]
    seen: int


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.db"
        self.clock = StandingClock()
        self.ledger = self.opened()
        self.letters: dict[tuple[str, str], str] = {}
        self.disk: set[str] = set()
        self.takes: set[str] = set()
        self.leases: dict[str, Lease] = {}
        self.stale: list[Lease] = []
        self.planned: list[Planned] = []
        self.replans: list[tuple[Retry, int, tuple[NewShot, ...]]] = []
        self.events = 0

    def opened(self) -> Ledger:
        """The ledger, without waiting for a disk: that the power may go is tried elsewhere."""
        ledger = Ledger(self.path, clock=self.clock, hooks=("https://hooks.example/farm",))
        ledger._database._connection.execute("PRAGMA synchronous = OFF")
        return ledger

    def teardown(self) -> None:
        try:
            self.drain()
            assert self.ledger.integrity() == []
        finally:
            self.ledger.close()
            self.folder.cleanup()

    def rows(self, query: str) -> list[Any]:
        return self.ledger._database._connection.execute(query).fetchall()

    def shot(self, name: str, letters: str, *, seed: int | None = None) -> NewShot:
        """A shot as a plan sees it now."""
        keys = chain(letters)
        there = [key in self.disk for key in keys]
        whole = new_shot(name, letters, delivered=keys[-1] in self.takes, seed=seed)
        return NewShot(
            document=whole.document,
            finished=tuple(there),
            delivered=whole.delivered,
            work=whole.work,
            need_memory=0,
            need_disk=0,
            seed=seed,
        )

    def some_ref(self, data: st.DataObject) -> str:
        """A job, a shot or a segment."""
        job = data.draw(st.sampled_from([job.id for job in self.ledger.jobs()]))
        shots = self.ledger.shots(job)
        if not shots or data.draw(st.integers(0, 7)) == 0:
            return job
        shot = data.draw(st.sampled_from(shots))
        index = data.draw(st.none() | st.integers(1, shot.segments)) if shot.segments else None
        return "/".join([job, shot.name, *([str(index)] if index else [])])

    # ------------------------------------------------------------------- jobs

    @initialize(letters=LETTERS)
    def begin(self, letters: str) -> None:
        self.planned.append(Planned("CUT", (self.shot("SH010", letters),), (), self.ledger.mark()))
        self.accept(supersede=False)

    @precondition(lambda self: len(self.planned) < 2 and len(self.letters) < 30)
    @rule(
        name=st.sampled_from(JOBS),
        cut=st.dictionaries(st.sampled_from(SHOTS), LETTERS | LETTERS | st.none(), min_size=2),
        later=st.booleans(),
    )
    def plan(self, name: str, cut: dict[str, str | None], later: bool) -> None:
        seen = self.ledger.mark()
        shots = tuple(self.shot(shot, letters) for shot, letters in cut.items() if letters is not None)
        held = tuple(NewHeld(shot=shot, fault=fault()) for shot, letters in cut.items() if letters is None)
        self.planned.append(Planned(name, shots, held, seen))
        if not later:
            self.accept(supersede=False)

    @precondition(lambda self: self.planned)
    @rule(supersede=st.booleans())
    def accept(self, supersede: bool) -> None:
        plan = self.planned.pop(0)
        job = new_job(plan.name, self.ledger.next_job(plan.name), seen=plan.seen)
        self.ledger.accept(job, plan.shots, plan.held, supersede=supersede)
        for new in plan.shots:
            self.letters[job.id, new.document.id] = _letters(new)
        for one in plan.held:
            self.letters[job.id, one.shot] = "ab"

    # ------------------------------------------------------------------- workers

    @rule(workers=st.lists(st.sampled_from(WORKERS), min_size=1, max_size=4))
    def lease(self, workers: list[str]) -> None:
        for worker in workers:
            found = self.ledger.lease(worker, boot="b", pid=1, pid_start="s", free_memory=1, free_disk=1)
            if found is None:
                continue
            assert found.key not in self.leases, "leased twice"
            assert found.document.segments[found.index].key == found.key
            job = self.ledger.job(found.job)
            assert job is not None
            assert not job.paused
            assert not {shot.name: shot for shot in self.ledger.shots(found.job)}[found.shot_name].paused
            assert not self.rows(f"SELECT 1 FROM segment WHERE key = '{found.key}' AND paused")
            self.leases[found.key] = found

    def over(self, lease: Lease) -> None:
        del self.leases[lease.key]
        self.stale.append(lease)

    def finished(self, lease: Lease) -> None:
        assert self.ledger.finish(lease.key, lease.token, seconds=1.0, steps_seconds=(0.5,), peak_bytes=1)
        assert lease.key not in self.disk, "done twice"
        self.disk.add(lease.key)
        self.over(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), words=st.lists(WORDS, min_size=1, max_size=4))
    def workers_speak(self, data: st.DataObject, words: list[str]) -> None:
        for word in words:
            if not self.leases:
                break
            lease = self.leases[data.draw(st.sampled_from(sorted(self.leases)))]
            match word:
                case "beat":
                    assert self.ledger.beat(lease.key, lease.token, step=3, of=8)
                case "publish":
                    assert self.ledger.publish(lease.key, lease.token)
                case "done":
                    self.finished(lease)
                case "lost" | "cancelled" | "drained":
                    assert self.ledger.release(lease.key, lease.token, word)
                    self.over(lease)
                case _:
                    kind = data.draw(st.sampled_from(get_args(Kind)))
                    assert self.ledger.fail(lease.key, lease.token, kind, fault()) is not None
                    self.over(lease)

    @rule(worker=st.sampled_from(WORKERS), segments=st.integers(1, 6))
    def a_worker_works(self, worker: str, segments: int) -> None:
        for _ in range(segments):
            before = set(self.leases)
            self.lease([worker])
            for key in self.leases.keys() - before:
                self.finished(self.leases[key])

    @rule(worker=st.sampled_from(WORKERS), state=st.sampled_from(["idle", "offline"]))
    def the_daemon_looks_around(self, worker: str, state: Any) -> None:
        self.ledger.worker(worker, state=state)
        for lease in self.ledger.unwanted():
            assert self.ledger.release(lease.key, lease.token, "cancelled")
            self.over(lease)

    @invariant()
    def the_dead_are_not_heard(self) -> None:
        before = self.ledger.mark()
        for lease in self.stale[-3:]:
            assert not self.ledger.beat(lease.key, lease.token, step=1, of=8)
            assert not self.ledger.publish(lease.key, lease.token)
            assert not self.ledger.finish(lease.key, lease.token, seconds=1.0, steps_seconds=(), peak_bytes=1)
            assert self.ledger.fail(lease.key, lease.token, "input", fault()) is None
            assert not self.ledger.release(lease.key, lease.token, "lost")
        assert self.ledger.mark() == before

    # ------------------------------------------------------------------- deliveries

    @rule(kinds=st.lists(st.none() | st.sampled_from(get_args(Kind)), min_size=1, max_size=4))
    def deliver(self, kinds: list[Kind | None]) -> None:
        for kind in kinds:
            shot = self.ledger.to_deliver()
            if shot is None:
                break
            lacking = [one.key for one in shot.document.segments if one.key not in self.disk]
            if kind is not None:
                assert self.ledger.delivery_failed(shot.shot, kind, fault()) is not None
            elif shot.document.key in self.takes or not lacking:
                assert self.ledger.delivered(shot.shot, folder=f"/takes/{shot.shot_name}", version=1)
                self.takes.add(shot.document.key)
            else:
                for key in lacking:
                    self.ledger.spoiled(key)
        back = self.ledger.to_return()
        if back is not None:
            assert not any(other.name == back.name and other.revision > back.revision for other in self.ledger.jobs())
            self.ledger.returned(back.job, path=back.cut)

    # ------------------------------------------------------------------- the operator

    @rule(
        data=st.data(),
        verb=st.sampled_from(["pause", "pause and resume", "resume", "resume", "cancel", "retry", "why"]),
    )
    def the_operator_asks(self, data: st.DataObject, verb: str) -> None:
        ref = self.some_ref(data)
        match verb:
            case "pause":
                self.twice(self.ledger.pause, ref)
            case "resume":
                self.twice(self.ledger.resume, ref)
            case "cancel":
                self.twice(self.ledger.cancel, ref)
            case "retry":
                seed = data.draw(st.none() | st.integers(1, 2)) if "/" in ref else None
                self.ledger.retry(ref, seed=seed)
            case "why":
                assert self.ledger.why(ref)
                self.ledger.status().as_json()
            case _:
                self.changes_its_mind(ref)

    def twice(self, verb: Callable[[str], list[str]], ref: str) -> None:
        assert verb(ref)
        before = self.ledger.mark()
        assert verb(ref)
        assert self.ledger.mark() == before

    def changes_its_mind(self, ref: str) -> None:
        everything = "SELECT 1, id, state, paused FROM segment UNION SELECT 2, id, state, paused + job_paused FROM shot"
        before = [tuple(row) for row in self.rows(everything)]
        if "is paused;" in self.ledger.pause(ref)[0]:
            self.ledger.resume(ref)
        assert [tuple(row) for row in self.rows(everything)] == before

    @rule(wait=st.booleans())
    def plan_again(self, wait: bool) -> None:
        if wait or not self.replans:
            seen = self.ledger.mark()
            for retry in self.ledger.retrying():
                self.replans.append((retry, seen, tuple(self.planned_again(retry, name) for name in retry.shots)))
        if not wait:
            for retry, seen, shots in self.replans:
                self.ledger.replan(retry.job, shots, seen=seen)
            self.replans.clear()

    def planned_again(self, retry: Retry, name: str) -> NewShot:
        seed, letters = retry.seeds.get(name), self.letters[retry.job, name]
        return self.shot(name, letters if seed is None else f"{letters}{seed}", seed=seed)

    # ------------------------------------------------------------------- the world

    @rule(seconds=st.sampled_from([15.0, 70.0, 700.0, 6 * 3600.0]), hours=st.sampled_from([0, 0, 0, 24, -48]))
    def time_passes(self, seconds: float, hours: int) -> None:
        self.clock.pass_by(seconds)
        self.clock.jump(hours * 3600)

    @rule(data=st.data(), how=st.sampled_from(["spoiled", "swept", "gone"]))
    def files_go(self, data: st.DataObject, how: str) -> None:
        idle = self.disk - self.leases.keys() - (self.ledger.scratch() if how == "swept" else set())
        if not idle:
            return
        key = data.draw(st.sampled_from(sorted(idle)))
        self.disk.discard(key)
        if how == "spoiled":
            self.ledger.spoiled(key)
        elif how == "swept":
            self.ledger.swept([key])

    @rule()
    def the_daemon_dies(self) -> None:
        connection = self.ledger._database._connection
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE segment SET state = 'done', token = token + 1")
        connection.execute("UPDATE shot SET state = 'done'")
        self.ledger.close()
        self.ledger = self.opened()
        assert {(one.lease.key, one.lease.token) for one in self.ledger.running()} == {
            (lease.key, lease.token) for lease in self.leases.values()
        }

    # ------------------------------------------------------------------- what always holds

    @invariant()
    def nothing_is_broken(self) -> None:
        for what, query in BROKEN.items():
            assert self.rows(query) == [], what
        assert not self.ledger._database.busy

    @invariant()
    def what_happened_stays(self) -> None:
        count, newest = self.rows("SELECT count(*), coalesce(max(seq), 0) FROM event")[0]
        assert count == newest
        assert newest >= self.events
        self.events = newest

    def drain(self) -> None:
        """With every pause taken back and the machine left alone, everything that is wanted gets done."""
        for lease in list(self.leases.values()):
            assert self.ledger.release(lease.key, lease.token, "lost")
            self.over(lease)
        for (ref,) in self.rows("SELECT id FROM job WHERE paused"):
            self.ledger.resume(ref)
        for job in self.ledger.jobs():
            for shot in self.ledger.shots(job.id):
                if shot.paused:
                    self.ledger.resume(f"{job.id}/{shot.name}")
        paused = """SELECT job.id || '/' || shot.name || '/' || (idx + 1) FROM segment s JOIN chain ON segment = s.id
                    JOIN shot ON shot.id = shot JOIN job ON turn = shot.job WHERE s.paused"""
        for (ref,) in self.rows(paused):
            self.ledger.resume(ref)
        for _ in range(200):
            self.clock.pass_by(700)
            self.replans.clear()
            self.plan_again(wait=False)
            self.lease(list(WORKERS))
            for lease in list(self.leases.values()):
                self.finished(lease)
            self.deliver([None] * 4)
            self.nothing_is_broken()
            if not self.rows("SELECT 1 FROM shot WHERE state IN ('open', 'rendered', 'retrying') OR by_itself"):
                break
        left = self.rows("SELECT name, state FROM shot WHERE state NOT IN ('done', 'failed', 'cancelled', 'held')")
        assert [tuple(row) for row in left] == []
        assert self.ledger.running() == []


def _letters(new: NewShot) -> str:
    """The letters of a shot's chain."""
    known = {chain(letters): letters for letters in ("a", "ab", "aba", "abb", "b", "ba")}
    return known[tuple(segment.key for segment in new.document.segments)]


LedgerMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("SCAIL2_LEDGER_EXAMPLES", "100")),
    stateful_step_count=int(os.environ.get("SCAIL2_LEDGER_STEPS", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

TestLedgerMachine = LedgerMachine.TestCase
