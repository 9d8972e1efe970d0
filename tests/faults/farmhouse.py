"""A real farm in a process of its own, for tests that disturb it: drops, questions, kills, and what it left behind."""

import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scail2_farm.digests import sha256_of
from scail2_farm.documents import Reply, Request
from scail2_farm.errors import FarmError, FarmRunning
from scail2_farm.farm.control import ask
from scail2_farm.farm.dispatch import holder, orphans
from scail2_farm.farm.garbage import SEGMENT
from scail2_farm.farm.host import end_process, process_start
from scail2_farm.farm.places import Places, hold

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
from submissions import Cut

FULL = bool(os.environ.get("SCAIL2_FULL"))
"""Whether the figures of the issue are asked for in full: `make faults`."""

QUICK = {
    "SCAIL2_SETTLE_S": "0.3",
    "SCAIL2_POLL_S": "0.1",
    "SCAIL2_RETRY_S": "0.5",
    "SCAIL2_MIN_FREE_GB": "0",
}
"""Waits as short as a test can bear; nothing else differs from a farm in use."""

VICTIMS = ("daemon", "render", "render", "check", "check", "deliver", "deliver")
"""The processes of a farm at work, by how often they are ended."""
FOUND_WITHIN_S = 1.0
"""How long a child that is to be ended is waited for; then it is the daemon's turn."""


@dataclass
class Farm:
    """A farm in `root`; `script` runs it in place of the command line, with the same arguments."""

    root: Path
    weights: Path
    environment: dict[str, str] = field(default_factory=dict)
    script: Path | None = None
    arguments: Sequence[str] = ()
    ledger: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Farm":
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.kill()
        for slot in self.children().values():
            self.kill_child(slot)  # they end by themselves; a test that failed may have found that they do not

    def start(self) -> None:
        """Start the daemon; it takes up what it finds."""
        command = [str(self.script)] if self.script else ["-m", "scail2_farm", "up"]
        self.root.mkdir(parents=True, exist_ok=True)
        ledger = [] if self.ledger is None else ["--ledger", str(self.ledger)]
        with (self.root.parent / f"{self.root.name}.said").open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, *command, str(self.root), "--weights", str(self.weights), *ledger, *self.arguments],
                stdout=said,
                stderr=said,
                env=os.environ | QUICK | self.environment,
                start_new_session=True,
            )

    @property
    def places(self) -> Places:
        return Places.of(self.root, ledger=self.ledger)

    @property
    def said(self) -> str:
        """All that its daemons printed."""
        return (self.root.parent / f"{self.root.name}.said").read_text(encoding="utf-8", errors="replace")

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def rendered(self) -> int:
        """Segments that are in their place."""
        work = self.places.work
        return sum(1 for path in work.iterdir() if SEGMENT.fullmatch(path.name)) if work.is_dir() else 0

    def kill(self) -> None:
        """SIGKILL to the daemon alone; its children must see to themselves."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def end(self, *, within_s: float = 60.0) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(within_s)

    # ------------------------------------------------------------------- what people do

    def drop(self, cut: Cut, name: str = "edit") -> None:
        """Drop a cut and its manifest, each renamed in whole."""
        inbox = self.root / "inbox"
        inbox.mkdir(parents=True, exist_ok=True)
        cut.manifest["source_dir"] = str(cut.folder)
        edit = cut.write()
        for path, wanted in ((edit, f"{name}.otio"), (edit.with_name("edit.shots.yaml"), f"{name}.shots.yaml")):
            part = inbox / f"{wanted}.part"
            part.write_bytes(path.read_bytes())
            part.rename(inbox / wanted)

    def ask(self, verb: str, ref: str | None = None, **more: Any) -> Reply:
        """The farm's answer."""
        return ask(self.root, Request(verb=verb, ref=ref, **more))  # pyright: ignore[reportArgumentType]

    def receipt(self, name: str = "edit") -> dict[str, Any]:
        """STATUS/NAME.status.json; empty before there is one."""
        path = self.root / "STATUS" / f"{name}.status.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    # ------------------------------------------------------------------- waiting

    def until(self, true: Callable[[], Any], what: str, *, within_s: float = 60.0) -> Any:
        """Wait until something holds; what it was is returned. A daemon that ended is an error at once."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            found = true()
            if found:
                return found
            assert self.process is None or self.process.poll() is None, f"the farm ended:\n{self.said[-4000:]}"
            time.sleep(0.02)
        raise AssertionError(f"no {what} within {within_s} s\n{self.receipt()}\n{self.said[-4000:]}")

    def returned(self, name: str = "edit", *, within_s: float = 60.0) -> dict[str, Any]:
        """Wait until a job is at its end; its receipt."""
        over = ("done", "failed", "cancelled", "rejected")
        self.until(lambda: self.receipt(name).get("state") in over, f"end of {name}", within_s=within_s)
        return self.receipt(name)

    def up(self) -> None:
        """Wait until the farm that was started does what it is asked."""
        assert self.process is not None
        pid, watcher = self.process.pid, self.places.own / "watcher.json"
        self.until(lambda: watcher.is_file() and json.loads(watcher.read_bytes())["pid"] == pid, "farm that watches")
        self.ask("status")

    def alone(self, *, within_s: float = 60.0) -> None:
        """Wait until the children of a daemon that is gone are gone too."""
        assert not self.alive
        until = time.monotonic() + within_s
        while self.children():
            assert time.monotonic() < until, f"{self.children()} have outlived their farm"
            time.sleep(0.02)

    # ------------------------------------------------------------------- what runs

    def children(self) -> dict[int, str]:
        """The child processes of this farm that live, also those of daemons that are gone: pid -> slot."""
        found: dict[int, str] = {}
        for lock in self.places.locks.glob("*.lock"):
            known = holder(lock.parent, lock.stem)
            if known is not None and process_start(known.pid) == known.pid_start:
                found[known.pid] = lock.stem
        return found

    def kill_child(self, slot: str) -> bool:
        """SIGKILL to the child of a slot (a prefix is enough); False when there is none."""
        for pid, name in self.children().items():
            known = holder(self.places.locks, name)
            if name.startswith(slot) and known is not None and known.pid == pid:
                return end_process(pid, known.pid_start, known.boot)
        return False

    def kill_any(self, chance: random.Random) -> str:
        """SIGKILL to one of its processes, of which a daemon is started again; which it was."""
        kind = chance.choice(VICTIMS)
        until = time.monotonic() + FOUND_WITHIN_S
        while kind != "daemon" and time.monotonic() < until:
            if self.kill_child(kind):
                return kind
            time.sleep(0.02)
        self.kill()
        self.start()
        return "daemon"


# --------------------------------------------------------------------------- what it left


@dataclass
class Books:
    """The ledger of a farm, read as it lies."""

    path: Path

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as ledger:
            return ledger.execute(query).fetchall()

    @property
    def integrity(self) -> str:
        return self.rows("PRAGMA integrity_check")[0][0]

    @property
    def attempts(self) -> int:
        """How often a segment was begun."""
        return self.rows("SELECT count(*) FROM attempt")[0][0]

    @property
    def done(self) -> Counter[str]:
        """How often each segment (JOB/SHOT/INDEX) was called done."""
        return self.told("done")

    @property
    def states(self) -> Counter[str]:
        """Segments by state."""
        return Counter(dict(self.rows("SELECT state, count(*) FROM segment GROUP BY state")))

    def told(self, what: str) -> Counter[str]:
        """How often an event happened, by its subject."""
        return Counter(subject for (subject,) in self.rows(f"SELECT subject FROM event WHERE what = '{what}'"))


def books(farm: Farm) -> Books:
    return Books(farm.places.database)


def pictures(folder: Path) -> dict[str, str]:
    """Every delivered frame and matte under a delivery by what take.json says; every file is checked against it."""
    found: dict[str, str] = {}
    for record in sorted(folder.glob("shots/*/v*/take.json")):
        take = json.loads(record.read_text())
        for file in take["files"]:
            assert sha256_of(record.parent / file["path"]) == file["sha256"], f"{file['path']} was damaged"
            if file["path"].endswith(".exr"):
                found[f"{take['shot']}/{file['path']}"] = file["sha256"]
    return found


def assert_nothing_lost_nothing_twice(farm: Farm, *, cut: Cut, wanted: dict[str, str], job: str = "edit") -> None:
    """A job of a farm that is down: done, each segment, shot and cut of it once, each frame as it is wanted."""
    delivery, ledger = cut.folder / f"{job}.scail2", books(farm)
    assert farm.receipt(job)["state"] == "done", farm.receipt(job)
    assert pictures(delivery) == wanted
    shots = {clip["name"] for clip in cut.clips}
    assert {path.name for path in (delivery / "shots").iterdir()} == shots
    assert {path.name for path in (delivery / "shots").glob("*/*")} == {"v001"}
    assert [path.name for path in cut.folder.glob(f"{job}.scail2*.otio")] == [f"{job}.scail2.otio"]

    def of_job(what: str) -> Counter[str]:
        return Counter({one: times for one, times in ledger.told(what).items() if one.split("/")[0] == job})

    done = of_job("done")
    assert {one.split("/")[1] for one in done} == shots
    assert set(done.values()) == {1}, done
    assert of_job("shot-done") == Counter(f"{job}/{shot}" for shot in shots)
    for what in ("accepted", "returned", "job-done"):
        assert of_job(what) == Counter([job]), what


def assert_at_rest(farm: Farm, *deliveries: Path) -> None:
    """A farm that was started again and ended leaves no process, no stage, no half file and no rubbish."""
    assert not list(_still_running(farm))
    farm.start()
    farm.up()
    assert farm.end() == 0, farm.said[-4000:]
    assert not list(_still_running(farm))
    own = farm.places.own
    litter = [path for path in farm.places.work.iterdir() if not re.fullmatch(r"[0-9a-f]{24}|digests\.json", path.name)]
    for name in ("trash", "claimed", "submitted", "control/requests", "control/replies"):
        litter += (own / name).iterdir()
    for place in (farm.root, *deliveries):
        litter += place.rglob("*.part")
    assert litter == []


def _still_running(farm: Farm) -> Iterator[str]:
    """Who of a farm that is down still lives: whoever does holds a lock."""
    places = farm.places
    yield from (lock.stem for lock in places.locks.glob("*.lock") if orphans(places.locks, lock.stem))
    try:
        hold(places).close()
    except FarmRunning:
        yield "daemon"


# --------------------------------------------------------------------------- what is dropped


def undisturbed(cut: Cut) -> dict[str, str]:
    """The frames of the same cut, rendered in place in one go, beside its media; then taken away again."""
    cut.write()
    done = cut.run("submit", "edit.otio", "--weights", str(cut.weights))
    assert done.returncode == 0, done.stderr
    frames = pictures(cut.folder / "edit.scail2")
    shutil.rmtree(cut.folder / "edit.scail2")
    (cut.folder / "edit.scail2.otio").unlink()
    return frames


def many_shots(cut: Cut, count: int, *, frames: int = 14, handles: int = 2, first: int = 1) -> Cut:
    """A cut of several short shots with one character, each of several segments; `first` is the first one's number."""
    cut.character("ada", "blue", (220, 30, 30))
    cut.manifest["handles"] = {"head": handles, "tail": handles}
    for number in range(first, first + count):
        shot = f"SH{number:03d}0"
        cut.plate(shot, frames + 2 * handles, seed=number)
        cut.matte(shot, "ada", frames + 2 * handles, (10 + number % 30, 10, 20, 30))
        cut.clip(shot, first=handles, count=frames, available=frames + 2 * handles)
    cut.manifest["cast"] = [{"when": {"clip": "SH*"}, "characters": [{"id": "ada"}]}]
    return cut


def farm_error(call: Callable[[], Any]) -> FarmError | None:
    """The FarmError a call ends with, or None."""
    try:
        call()
    except FarmError as fault:
        return fault
    return None
