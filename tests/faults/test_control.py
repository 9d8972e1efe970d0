"""What operators ask of a running farm: pause, cancel, retry, priorities, drain; and what it answers, in words."""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from farmhouse import FULL, Books, Farm, books, farm_error, many_shots, pictures, undisturbed
from figures import record
from submissions import Cut

from scail2_farm.errors import FarmNotRunning, FarmRunning
from scail2_farm.farm.host import process_start

POINTS, SHOTS, SEGMENTS_OF_A_SHOT = (50, 16, 4) if FULL else (10, 3, 2)
SEGMENTS = SHOTS * SEGMENTS_OF_A_SHOT
AHEAD = 2
"""Segments' worth of points that may come before anything is rendered."""
LONGEST_S = 1.0
"""Before a point, after something is at work."""
GONE_WITHIN_S = 10.0
SLOW_STEPS = 20
"""Of a segment that is to be found in the middle."""

Command = Callable[..., Any]
"""The command line in this process: exit code, what it prints and what it says on stderr."""


# --------------------------------------------------------------------------- at random moments

INCONSISTENT = {
    "a lease without its attempt": """
        SELECT key FROM segment WHERE state IN ('leased', 'publishing') AND NOT EXISTS (
            SELECT 1 FROM attempt WHERE attempt.id = segment.attempt AND attempt.token = segment.token
                AND attempt.t1 IS NULL)""",
    "an attempt that lasts without a lease": """
        SELECT id FROM attempt WHERE t1 IS NULL AND NOT EXISTS (
            SELECT 1 FROM segment WHERE segment.attempt = attempt.id AND segment.state IN ('leased', 'publishing'))""",
    "a segment before its turn": """
        SELECT segment.key FROM segment JOIN segment AS before ON before.id = segment.prev
        WHERE segment.state IN ('ready', 'leased', 'publishing', 'done') AND before.state <> 'done'""",
    "a segment that waits, and nobody wants it": """
        SELECT key FROM segment WHERE state IN ('ready', 'blocked', 'held') AND NOT EXISTS (
            SELECT 1 FROM chain JOIN shot ON shot.id = chain.shot
            WHERE chain.segment = segment.id AND shot.state IN ('open', 'held'))""",
    "a segment that is wanted, and does not wait": """
        SELECT key FROM segment WHERE state = 'cancelled' AND EXISTS (
            SELECT 1 FROM chain JOIN shot ON shot.id = chain.shot
            WHERE chain.segment = segment.id AND shot.state IN ('open', 'held'))""",
    "a paused segment that is ready": "SELECT key FROM segment WHERE paused = 1 AND state IN ('ready', 'blocked')",
    "a shot that is rendered in part": """
        SELECT name FROM shot WHERE state = 'rendered' AND found = 0 AND EXISTS (
            SELECT 1 FROM chain JOIN segment ON segment.id = chain.segment
            WHERE chain.shot = shot.id AND segment.state <> 'done')""",
    "an open shot with nothing left": """
        SELECT name FROM shot WHERE state = 'open' AND NOT EXISTS (
            SELECT 1 FROM chain JOIN segment ON segment.id = chain.segment
            WHERE chain.shot = shot.id AND segment.state <> 'done')""",
    "a shot that is done and nowhere": "SELECT name FROM shot WHERE state = 'done' AND folder IS NULL",
}
"""What no ledger may ever hold, between any two transactions."""


def inconsistencies(ledger: Books) -> list[str]:
    found = [f"{what}: {row}" for what, query in INCONSISTENT.items() for row in ledger.rows(query)]
    found += [str(row) for row in ledger.rows("PRAGMA foreign_key_check")]
    return found if ledger.integrity == "ok" else [*found, ledger.integrity]


@dataclass(frozen=True)
class AtWork:
    """A segment in the middle: its attempt, and the process that is at it."""

    attempt: int
    shot: str
    index: int
    pid: int
    pid_start: str

    @property
    def alive(self) -> bool:
        return process_start(self.pid) == self.pid_start


def at_work(ledger: Books) -> AtWork | None:
    rows = ledger.rows(
        "SELECT attempt.id, shot.name, attempt.idx + 1, pid, pid_start FROM attempt JOIN shot ON shot.id = attempt.shot"
        " WHERE t1 IS NULL"
    )
    return AtWork(*rows[0]) if rows else None


def is_at(work: AtWork | None, ref: str) -> bool:
    """Whether the segment at work is one of a job, shot or segment."""
    return work is not None and f"edit/{work.shot}/{work.index}/".startswith(f"{ref}/")


def _all_done(ledger: Books) -> bool:
    return ledger.states == Counter(done=SEGMENTS)


def stopped_and_alive(ledger: Books) -> list[int]:
    """Engines that were stopped, and live."""
    rows = ledger.rows("SELECT pid, pid_start FROM attempt WHERE class = 'cancelled'")
    return [pid for pid, start in rows if process_start(pid) == start]


def test_pause_and_cancel_at_random_moments(tmp_path, weights):
    cut = many_shots(Cut(tmp_path / "show", weights), SHOTS, frames=5 + 4 * SEGMENTS_OF_A_SHOT, handles=0)
    wanted = undisturbed(cut)
    chance = random.Random(7)
    asked: Counter[str] = Counter()
    worst = 0.0
    with Farm(tmp_path / "farm", weights) as running:
        running.drop(cut)
        ledger = books(running)
        running.until(lambda: running.receipt().get("state") == "open", "job")
        while asked.total() < POINTS:
            running.until(lambda: asked.total() * SEGMENTS < POINTS * (running.rendered + AHEAD), "segment")
            now = running.until(lambda: at_work(ledger) or _all_done(ledger), "segment at work")
            if not isinstance(now, AtWork):
                break  # a quick machine, that was asked too late
            time.sleep(chance.random() * LONGEST_S)
            now = at_work(ledger) or now
            verb = ("pause", "cancel")[asked.total() % 2]
            ref = ("edit", f"edit/{now.shot}", f"edit/{now.shot}/{now.index}")[asked.total() // 2 % 3]
            began = time.monotonic()
            (said, *_) = running.ask(verb, ref).said
            asked[verb] += 1
            running.until(lambda ref=ref: not is_at(at_work(ledger), ref), f"rest of {ref}")
            running.until(lambda: not stopped_and_alive(ledger), "end of its engine")
            worst = max(worst, time.monotonic() - began)
            assert inconsistencies(ledger) == []
            if " already" in said:
                continue
            word = {"pause": "paused", "cancel": "cancelled"}[verb]
            why = "\n".join(running.ask("why", ref).said)
            assert word in why or "is done" in why or "is rendered" in why, why
            running.ask({"pause": "resume", "cancel": "retry"}[verb], ref if verb == "pause" else ref.rsplit("/", 1)[0])
            assert inconsistencies(ledger) == []
        # what was cancelled last is told as cancelled for a moment after it is wanted again
        running.until(lambda: running.receipt()["state"] == "done", "return", within_s=300 if FULL else 120)
        receipt = running.receipt()
        assert running.end() == 0
    assert receipt["shots"] == {"done": SHOTS}
    assert pictures(cut.folder / "edit.scail2") == wanted
    assert inconsistencies(ledger) == []
    assert set(ledger.done.values()) == {1}
    assert ledger.states == Counter(done=SEGMENTS)
    ended = Counter(dict(ledger.rows("SELECT class, count(*) FROM attempt GROUP BY class")))
    assert set(ended) == {"cancelled", "done"}
    assert ended["done"] == SEGMENTS, "what was rendered is not rendered again"
    assert POINTS // 2 <= asked.total() <= POINTS, f"the job was over after {asked.total()} questions of {POINTS}"
    assert asked.total() // 2 <= ended["cancelled"] <= POINTS, f"too few were stopped in the middle: {ended}"
    assert worst < GONE_WITHIN_S
    record("control", points=POINTS, stopped=ended["cancelled"], worst_stop_s=round(worst, 3), asked=dict(asked))


# --------------------------------------------------------------------------- a farm whose job is done


@pytest.fixture(scope="module")
def settled(tmp_path_factory, weights) -> Iterator[tuple[Farm, Cut]]:
    """A farm that runs and has rendered two shots; it keeps no scratch."""
    folder = tmp_path_factory.mktemp("settled")
    cut = many_shots(Cut(folder / "show", weights), 2, frames=5, handles=0)
    with Farm(folder / "farm", weights, environment={"SCAIL2_SCRATCH_DAYS": "0"}) as running:
        running.drop(cut)
        assert running.returned()["state"] == "done"
        yield running, cut


def linked(cut: Cut, name: str = "edit") -> dict[str, str]:
    """The take that each clip of the returned cut shows."""
    document = json.loads((cut.folder / f"{name}.scail2.otio").read_text())
    (track,) = document["tracks"]["children"]
    shown = {clip["name"]: clip["media_references"][clip["active_media_reference_key"]] for clip in track["children"]}
    return {clip: media["target_url_base"] for clip, media in shown.items()}


def bytes_under(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_another_seed_makes_another_version(settled):
    running, cut = settled
    ledger, first = books(running), bytes_under(cut.version("SH0010"))
    before = ledger.attempts
    (said,) = running.ask("retry", "SH0010", seed=99).said
    assert said == "edit/SH0010 is planned again with seed 99 and then rendered"
    running.until(lambda: "v002" in linked(cut)["SH0010"], "cut with v002")
    take = json.loads((cut.version("SH0010", 2) / "take.json").read_text())
    assert {segment["seed"] for segment in take["segments"]} == {99}
    assert json.loads(first["take.json"][1])["segments"][0]["seed"] == 11
    assert bytes_under(cut.version("SH0010")) == first
    assert linked(cut) == {"SH0010": "edit.scail2/shots/SH0010/v002/", "SH0020": "edit.scail2/shots/SH0020/v001/"}
    assert not cut.version("SH0020", 2).exists()
    frames = pictures(cut.folder / "edit.scail2")
    for number in range(1001, 1006):
        one, other = (f"SH0010/SH0010_scail2_v{version}.{number}.exr" for version in ("001", "002"))
        assert frames[one] != frames[other]
    assert ledger.attempts == before + 1

    running.until(lambda: running.receipt()["takes"][0]["version"] == 2, "receipt of v002")
    running.ask("retry", "SH0010", seed=99)
    running.until(lambda: ledger.told("shot-done")["edit/SH0010"] == 3, "the same take again")
    assert ledger.attempts == before + 1, "it is known"
    assert not cut.version("SH0010", 3).exists()


def test_priorities_change_the_order(settled, farm: Command):
    running, cut = settled
    other = many_shots(Cut(cut.folder.with_name("other"), cut.weights), 3, frames=5, handles=0, first=10)
    running.drop(other, "other")
    running.until(lambda: farm_error(lambda: _granted(running, "pause", "other")) is None, "job to pause")
    where = ("--farm", running.root)
    status = farm("status", *where).out
    assert "nothing is being rendered; `scail2-farm why JOB` says why" in status
    assert "│ other │ paused │ 0/3" in status
    assert farm("why", "SH0110", *where).out.splitlines()[:2] == [
        "other/SH0110 is not finished: 0 of 1 segment rendered",
        "the job is paused: `scail2-farm job resume other` lets it go on",
    ]
    assert farm("job", "priority", "other/SH0120", 80, *where).out == "other/SH0120 has priority 80\n"
    assert farm("job", "priority", "SH0110", 60, *where).out == "other/SH0110 has priority 60\n"
    assert farm("job", "resume", "other", *where).out == "other goes on\n"
    assert running.returned("other")["state"] == "done"
    order = books(running).rows(
        "SELECT shot.name FROM attempt JOIN shot ON shot.id = attempt.shot"
        " WHERE class = 'done' AND shot.name IN ('SH0100', 'SH0110', 'SH0120') ORDER BY attempt.id"
    )
    assert [name for (name,) in order] == ["SH0120", "SH0110", "SH0100"]


def _granted(running: Farm, verb: str, ref: str) -> tuple[str, ...]:
    reply = running.ask(verb, ref)
    if reply.fault is not None:
        raise reply.fault.error()
    return reply.said


def test_what_is_done_is_told(settled, farm: Command):
    running, cut = settled
    where = ("--farm", running.root)
    status = farm("status", *where)
    assert status.code == 0
    assert f"{running.root}: nothing to do" in status.out
    assert "│ edit  │ done  │ 2/2" in status.out
    document = farm("status", *where, "--json").document
    assert document["jobs"][0]["shots"] == {"done": 2}
    assert document["running"] == []
    assert document["root"] == str(running.root)
    assert not document["draining"]
    job, returned = farm("why", "edit", *where).out.splitlines()
    assert job == "edit is done: 2 shots, 2 done"
    assert returned == f"its cut was returned: {cut.folder / 'edit.scail2.otio'}"
    shot, *attempts = farm("why", "SH0020", *where).out.splitlines()
    assert shot == f"edit/SH0020 is done: v001 in {cut.version('SH0020')}"
    assert len(attempts) == 1
    assert "done after" in attempts[0]
    assert farm("why", "SH0020", *where, "--json").document == {"said": [shot, *attempts]}
    assert farm("job", "pause", "SH0020", *where).out == "edit/SH0020 is done already; there is nothing to pause\n"
    assert farm("job", "cancel", "edit", *where).out == "edit is done already\n"


def test_what_is_not_known_is_told(settled, farm: Command):
    where = ("--farm", settled[0].root)
    for arguments, what in (
        (("why", "SH9999"), "there is no job and no shot 'SH9999'"),
        (("job", "pause", "edit/SH0030"), "edit has no shot 'SH0030'"),
        (("job", "cancel", "edit/SH0010/2"), "edit/SH0010 has no segment '2'"),
        (("job", "retry", "edit", "--seed", 3), "edit is a job, and a seed is one shot's"),
    ):
        said = farm(*arguments, *where)
        assert said.code == 3
        assert f"what  {what}\n" in said.err
    assert "did you mean SH0020 or SH0010?" in farm("why", "edit/SH0030", *where).err


def test_garbage_is_shown_and_then_removed(settled, farm: Command):
    running, cut = settled
    running.returned()
    frames, work = pictures(cut.folder / "edit.scail2"), running.places.work
    kept = {path.name for path in work.iterdir()}
    where = ("--farm", running.root)
    shown = farm("gc", "--dry-run", *where).out.splitlines()
    assert {path.name for path in work.iterdir()} == kept, "it only looks"
    assert any("a rendered segment that no open shot needs" in line for line in shown)
    assert shown[-1].endswith(" would be removed")
    listed = farm("gc", "--dry-run", *where, "--json").document
    assert listed["removed"] == []
    assert {one["path"] for one in listed["found"]} >= {str(path) for path in work.glob("*/")}
    removed = farm("gc", *where).out.splitlines()
    assert removed[-1].endswith(" removed")
    assert not list(work.glob("*/"))
    assert pictures(cut.folder / "edit.scail2") == frames
    assert farm("gc", "--dry-run", *where).out.splitlines()[-1].startswith("0 things, ")
    assert inconsistencies(books(running)) == []
    before = books(running).attempts
    running.ask("retry", "SH0020", seed=11)
    running.until(lambda: books(running).told("shot-done")["edit/SH0020"] == 2, "the same take again")
    assert books(running).attempts == before, "its version has it all"


def test_a_second_daemon_is_refused(settled):
    running, cut = settled
    second = Farm(running.root, cut.weights)
    second.start()
    assert second.process is not None
    try:
        assert second.process.wait(60) == FarmRunning.exit_code
    finally:
        second.kill()
    assert running.process is not None
    assert f"a farm is already running in {running.root} (process {running.process.pid})" in running.said
    assert "use the farm that is running, or stop it first" in running.said
    assert running.alive
    assert running.ask("status").document["jobs"]


# --------------------------------------------------------------------------- ending


def test_drain_and_stop(tmp_path, weights, farm: Command):
    cut = many_shots(Cut(tmp_path / "show", weights), 2, frames=9, handles=0)
    cut.manifest["defaults"]["steps"] = 200  # long enough for the questions in between, also on a quick machine
    with Farm(tmp_path / "farm", weights) as running:
        running.drop(cut)
        ledger = books(running)
        running.until(lambda: _answers(running) and at_work(ledger), "segment at work")
        assert running.process is not None
        running.process.send_signal(signal.SIGTERM)
        status = running.until(lambda: _draining(running), "farm that ends")
        assert status["running"], "what is being rendered goes on"
        assert running.ask("why", "SH0020").said[0] == "the farm is ending: it begins nothing new"
        assert "rendering; ending when what runs is done" in " ".join(
            farm("status", "--farm", running.root).out.split()
        )
        assert running.process.wait(60) == 0
        assert ledger.rows("SELECT class FROM attempt") == [("done",)]
        assert ledger.states == {"done": 1, "ready": 1}
        assert not running.children()

        running.start()
        now = running.until(lambda: _answers(running) and at_work(ledger), "segment at work")
        for _ in range(2):
            os.kill(running.process.pid, signal.SIGTERM)
            running.until(lambda: _draining(running) or not running.alive, "farm that ends")
        began = time.monotonic()
        assert running.process.wait(60) == 0
        assert time.monotonic() - began < 5
        assert not now.alive
        assert ledger.rows("SELECT class FROM attempt") == [("done",), ("drained",)]
        assert inconsistencies(ledger) == []

        running.start()
        assert running.returned()["state"] == "done"
        assert running.end() == 0
    assert ledger.rows("SELECT class, count(*) FROM attempt GROUP BY class") == [("done", 2), ("drained", 1)]
    assert {key.partition("/")[0] for key in pictures(cut.folder / "edit.scail2")} == {"SH0010", "SH0020"}


def _answers(running: Farm) -> bool:
    return farm_error(lambda: running.ask("status")) is None


def _status(running: Farm) -> dict[str, Any]:
    return running.ask("status").document


def _draining(running: Farm) -> dict[str, Any] | None:
    try:
        found = _status(running)
    except FarmNotRunning:  # it may end while it is asked
        return None
    return found if found["draining"] else None


def test_a_farm_that_is_not_running_says_so(tmp_path, weights, farm: Command):
    running = Farm(tmp_path / "farm", weights)
    where = ("--farm", running.root)
    said = farm("status", *where)
    assert said.code == FarmNotRunning.exit_code
    assert f"what  there is no farm in {running.root}\n" in said.err
    assert f"start one with `scail2-farm up {running.root}`" in said.err
    with running:
        running.until(lambda: _answers(running), "farm that answers")
        assert running.end() == 0
        began = time.monotonic()
        said = farm("why", "SH0010", *where)
        assert said.code == FarmNotRunning.exit_code
        assert f"what  no farm is running in {running.root}\n" in said.err
        running.start()
        running.until(lambda: _answers(running), "farm that answers")
        running.kill()
        said = farm("job", "pause", "SH0010", *where)
        assert said.code == FarmNotRunning.exit_code
        assert f"what  no farm is running in {running.root}; the last one was on " in said.err
        assert not list((running.places.own / "control" / "requests").iterdir()), "nothing is left to be done later"
        assert time.monotonic() - began < 30, "it is not waited for"
    said = farm("status")
    assert said.code == 4
    assert "name its folder: --farm ROOT, SCAIL2_FARM or `farm` in the settings file" in said.err
