"""What is to be done, what is being done and what was: jobs, shots, segments, and every attempt at them.

One SQLite file on a local disk, opened by the daemon's main thread alone. Every method is one transaction: it has
happened whole, with the events that tell of it and the words hooks are owed, or it has not happened. Segments are
known by content and belong to nobody: shots of several jobs may want the same one, and it is rendered once.

A lease is fenced, not timed: whoever speaks of a segment names the token it was leased under, and only the newest
token is heard. Who lives is for the daemon to know (it holds their pipes and locks), so no wall clock decides it; the
instants stored here only delay, and one that a changed clock has put far ahead counts as passed.

`ledger.sql` has the tables and every query, `sql` runs them, `book` draws the consequences, `orders` is what an
operator may ask, `standing` what can be told.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scail2_farm.documents import Failure, Fault, MovieCodec, SealedShot
from scail2_farm.farm.book import LONGEST_WAIT_S, Book, JobState, ShotState, doubled, log_name
from scail2_farm.farm.host import Clock
from scail2_farm.farm.orders import Orders
from scail2_farm.farm.sql import Database
from scail2_farm.farm.standing import Standing, Status

VERSION = 1
"""Of the tables; raised with every change of them."""

RENDERS = "render-*"
"""Slots that render; of the others none counts when a worker is to be the last one left."""

MOST_TRIES = 3
RETRY_S = 60.0
BACK_OFF_SHARE = 1 / 6
"""Of that wait, how long an engine that failed is left alone the first time."""
SHOT_FAILURES = 2
WORKER_FAILURES = 3
FORGIVEN_AFTER_S = 5 * 3600.0
PATIENCE = 5
"""Holds in a row after which a cut is returned without the shot; with it when it comes."""
OUTBOX_WAITS_S = (5.0, 3600.0)

Kind = Literal[Failure, "timeout", "stalled"]
Verdict = Literal["retry", "careful", "held", "failed"]
Released = Literal["lost", "cancelled", "drained"]
DropState = Literal["claimed", "accepted", "rejected"]
WorkerState = Literal["idle", "busy", "offline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """What became of something dropped, known by its content."""

    sha256: str
    name: str
    state: DropState
    job: str | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A submission as it is accepted. `folder` is its plan's; `submission` a Submission as JSON.

    `seen` is the ledger's `mark` from before the plan looked at the disk: what came to be known since outranks it.
    0 when that was not kept: then the ledger's word stands throughout.
    """

    id: str
    name: str
    sha256: str
    priority: int
    folder: str
    deliver_to: str
    cut: str | None
    raw: bool
    movie: MovieCodec | None
    submission: str
    warnings: tuple[str, ...]
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewShot:
    """A planned shot. `finished` says of each segment whether it is on disk, `delivered` whether the take is.

    `work` is each segment's, as needs.work_of has it; `need_memory` and `need_disk` are bytes of a segment;
    `seed` is the one that was asked for by `retry`.
    """

    document: SealedShot
    finished: tuple[bool, ...]
    delivered: bool
    work: tuple[float, ...]
    need_memory: int
    need_disk: int
    seed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHeld:
    """A shot that could not be planned."""

    shot: str
    fault: Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What accepting came to: segments `queued` to be rendered and `found` done; shots JOB/SHOT of earlier revisions.

    `superseded` will not be finished there; `removed` have no shot of their name in the new revision.
    """

    job: str
    revision: int
    shots: int
    queued: int
    found: int
    held: int
    superseded: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A segment and the right to render it: `shot` is a row's number, `index` counts from 0."""

    attempt: int
    key: str
    token: int
    job: str
    shot: int
    shot_name: str
    index: int
    document: SealedShot
    careful: bool
    work: float
    tries: int
    losses: int

    @property
    def log(self) -> str:
        """The stem of its log's name."""
        return log_name(self.attempt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A lease that lasts, and who has it."""

    lease: Lease
    state: Literal["leased", "publishing"]
    worker: str
    boot: str
    pid: int
    pid_start: str
    step: int
    of: int
    began: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A shot to deliver."""

    shot: int
    job: str
    shot_name: str
    document: SealedShot
    deliver_to: str
    raw: bool
    movie: MovieCodec | None
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """A cut to return: the folders of its takes in the order of the cut, and what became of the other shots."""

    job: str
    name: str
    revision: int
    submission: str
    folder: str
    cut: str | None
    deliver_to: str
    takes: tuple[str, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Shots of a job to plan again, with the seeds that outrank the manifest's, of every shot that has one."""

    job: str
    submission: str
    folder: str
    shots: tuple[str, ...]
    seeds: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened: `subject` is JOB, JOB/SHOT or JOB/SHOT/INDEX, or a key."""

    seq: int
    at: float
    actor: str
    what: str
    subject: str
    data: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """What a hook is to be told next."""

    seq: int
    url: str
    tries: int
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job."""

    id: str
    name: str
    revision: int
    state: JobState
    paused: bool
    priority: int
    sha256: str
    folder: str
    deliver_to: str
    cut: str | None
    raw: bool
    movie: MovieCodec | None
    submission: str
    warnings: tuple[str, ...]
    returned: str | None
    fault: Fault | None
    """Why its cut could not be returned, last time."""
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotRow:
    """A shot of a job. `by_itself`: it is held and goes on without being asked to."""

    id: int
    job: str
    name: str
    state: ShotState
    paused: bool
    reason: str
    fault: Fault | None
    by_itself: bool
    segments: int
    segments_done: int
    version: int | None
    folder: str | None
    seed: int | None


def removed_words(shot: str, *, cancelled: bool) -> str:
    """What is told of a shot JOB/SHOT that an earlier revision had under way and the new one has not."""
    became = "is cancelled" if cancelled else "goes on; `supersede: true` in the manifest would cancel it"
    return f"{shot} is not in this cut any more and {became}"


class Ledger:
    """The ledger in a file; opening it sets every worker offline.

    Raises SettingsInvalid (a network volume, a newer version), HostUnsupported and StorageError. Every method raises
    DiskFull or ShareUnavailable when the disk does; then nothing of it has happened.
    """

    def __init__(self, path: Path, *, clock: Clock, hooks: Sequence[str] = (), retry_s: float = RETRY_S):
        self._database = Database(path, named=Path(__file__).with_suffix(".sql"), version=VERSION)
        self._book = Book(self._database, clock=clock, hooks=hooks, retry_s=retry_s)
        self._back_off_s = retry_s * BACK_OFF_SHARE
        self._orders = Orders(self._book)
        self._standing = Standing(self._book, renders=RENDERS, forgiven_after_s=FORGIVEN_AFTER_S)
        with self._book.turn():
            self._database.run("everybody-offline")

    def close(self) -> None:
        """Let the file go."""
        self._database.close()

    def integrity(self) -> list[str]:
        """What is wrong with the file; nothing when it is whole."""
        return self._database.integrity()

    # ------------------------------------------------------------------- drops

    def drop(self, sha256: str) -> Drop | None:
        """What became of content dropped before; None when it never was."""
        with self._database.reading():
            row = self._database.one("drop", sha256=sha256)
        return Drop(**dict(row)) if row else None

    def note_drop(self, sha256: str, *, name: str, state: DropState, job: str | None = None) -> None:
        """Remember what becomes of a drop."""
        with self._book.turn() as now:
            self._note_drop(now, sha256, name=name, state=state, job=job)

    def _note_drop(self, now: float, sha256: str, *, name: str, state: DropState, job: str | None) -> None:
        self._database.run("note-drop", sha256=sha256, name=name, state=state, job=job, at=now)
        self._book.event(now, f"drop-{state}", job=job, facts={"name": name, "sha256": sha256})

    # ------------------------------------------------------------------- jobs

    def mark(self) -> int:
        """Where the ledger is now: the newest event's number."""
        with self._database.reading():
            return self._mark()

    def next_job(self, name: str) -> str:
        """What the next job of a name is to be called: NAME, then NAME.r2, NAME.r3 and so on."""
        with self._database.reading():
            number = self._revisions(name) + 1
            while self._database.one("job", id=name if number == 1 else f"{name}.r{number}") is not None:
                number += 1
            return name if number == 1 else f"{name}.r{number}"

    def is_newest(self, job: str) -> bool:
        """Whether a job is the last revision of its cut: of its name, delivered there; an unknown one is not."""
        with self._database.reading():
            return self._database.one("newest", id=job) is not None

    def receipt_of(self, job: JobRow) -> str:
        """What the receipt of a job is called: its name; of another show's cut of that name, its first revision."""
        with self._database.reading():
            row = self._database.one("first-of", name=job.name, deliver_to=job.deliver_to)
        return job.name if row is None or row["first"] else str(row["id"])

    def accept(
        self, job: NewJob, shots: Iterable[NewShot], held: Iterable[NewHeld] = (), *, supersede: bool
    ) -> Accepted:
        """Take a job in, all of it or none; `shots` is read once, in the order of the cut.

        What earlier revisions have under way is theirs no longer where this one has a shot of the name; with
        `supersede` neither is the rest. Revisions are counted as they are accepted, whatever the jobs are called.
        Raises ValueError when there is a job of that id.
        """
        with self._book.turn() as now:
            if self._database.one("job", id=job.id) is not None:
                raise ValueError(f"there is a job {job.id!r} already")
            revision = self._revisions(job.name) + 1
            turn = self._insert_job(now, job, revision)
            count = 0
            for count, new in enumerate(shots, 1):
                self._insert_shot(turn, new, position=count, job=job)
            waiting = list(held)
            for position, one in enumerate(waiting, count + 1):
                fault = one.fault.model_dump_json()
                self._database.run(
                    "insert-held", job=turn, name=one.shot, position=position, priority=job.priority, fault=fault
                )
            self._database.run("touch-job", job=turn)
            queued, found = self._counted(turn)
            facts = {"name": job.name, "revision": revision, "shots": count + len(waiting), "held": len(waiting)}
            self._book.event(now, "accepted", job=job.id, facts=facts | {"queued": queued, "found": found})
            for one in waiting:
                facts = {"fault": one.fault.model_dump(mode="json")}
                self._book.event(now, "held", job=job.id, shot=one.shot, facts=facts)
            superseded, removed = self._supersede(now, turn, job, everything=supersede)
            if removed:
                warnings = (*job.warnings, *(removed_words(shot, cancelled=supersede) for shot in removed))
                self._database.run("warn-of-job", turn=turn, warnings=json.dumps(warnings))
            self._note_drop(now, job.sha256, name=job.name, state="accepted", job=job.id)
            return Accepted(
                job=job.id,
                revision=revision,
                shots=count,
                queued=queued,
                found=found,
                held=len(waiting),
                superseded=superseded,
                removed=removed,
            )

    def replan(self, job: str, shots: Iterable[NewShot], held: Iterable[NewHeld] = (), *, seen: int) -> Accepted:
        """Take in what planning a Retry came to: its shots are open again, or held with why they cannot be.

        Shots that are not waiting for it any more, or by now for another seed, are passed over. Raises ValueError
        for an unknown job.
        """
        with self._book.turn() as now:
            row = self._database.one("job", id=job)
            if row is None:
                raise ValueError(f"there is no job {job!r}")
            taken: list[int] = []
            for new in shots:
                shot = self._retried(row["turn"], new.document.id)
                if shot is not None and shot["seed"] == new.seed:
                    self._replace(now, shot, new, seen=seen)
                    taken.append(shot["id"])
            waiting = 0
            for one in held:
                shot = self._retried(row["turn"], one.shot)
                if shot is not None:
                    self._book.move(now, shot, "held", "held", fault=one.fault)
                    waiting += 1
            queued, found = self._counted(row["turn"], shots=taken)
            return Accepted(
                job=job,
                revision=row["revision"],
                shots=len(taken),
                queued=queued,
                found=found,
                held=waiting,
                superseded=(),
                removed=(),
            )

    def job(self, id: str) -> JobRow | None:
        """A job by its name."""
        with self._database.reading():
            row = self._database.one("job", id=id)
        return _job_row(row) if row else None

    def jobs(self, *, state: JobState | None = None) -> list[JobRow]:
        """Jobs in the order they were accepted."""
        with self._database.reading():
            return [_job_row(row) for row in self._database.each("jobs", state=state)]

    def shots(self, job: str) -> list[ShotRow]:
        """The shots of a job in the order of the cut; none of an unknown one."""
        with self._database.reading():
            row = self._database.one("job", id=job)
            return [_shot_row(shot) for shot in self._database.each("shots", job=row["turn"])] if row else []

    def _mark(self) -> int:
        row = self._database.one("mark")
        assert row is not None
        return int(row["seq"])

    def _revisions(self, name: str) -> int:
        row = self._database.one("revisions", name=name)
        assert row is not None
        return int(row["count"])

    def _insert_job(self, now: float, job: NewJob, revision: int) -> int:
        return self._database.insert(
            "insert-job",
            id=job.id,
            name=job.name,
            revision=revision,
            priority=job.priority,
            sha256=job.sha256,
            folder=job.folder,
            deliver_to=job.deliver_to,
            cut=job.cut,
            raw=job.raw,
            movie=job.movie,
            submission=job.submission,
            warnings=json.dumps(job.warnings),
            at=now,
        )

    def _insert_shot(self, turn: int, new: NewShot, *, position: int, job: NewJob) -> None:
        document = self._database.insert("insert-document", text=new.document.model_dump_json(by_alias=True))
        shot = self._database.insert(
            "insert-shot",
            job=turn,
            name=new.document.id,
            position=position,
            priority=job.priority,
            state="rendered" if new.delivered else "open",
            found=new.delivered,
            segments=len(new.document.segments),
            document=document,
            need_memory=new.need_memory,
            need_disk=new.need_disk,
            seed=new.seed,
        )
        self._insert_chain(shot, new, seen=job.seen)

    def _insert_chain(self, shot: int, new: NewShot, *, seen: int) -> None:
        previous: int | None = None
        told = zip(new.document.segments, new.finished, new.work, strict=True)
        for index, (segment, finished, work) in enumerate(told):
            row = self._database.one(
                "know-segment", key=segment.key, prev=previous, finished=finished, work=work, seen=seen
            )
            assert row is not None
            previous = int(row["id"])
            self._database.run("insert-chain", shot=shot, idx=index, segment=previous)

    def _retried(self, turn: int, name: str) -> sqlite3.Row | None:
        shot = self._database.one("shot-named", job=turn, name=name)
        return shot if shot is not None and shot["state"] == "retrying" else None

    def _replace(self, now: float, shot: sqlite3.Row, new: NewShot, *, seen: int) -> None:
        self._database.run("touch-shot", shot=shot["id"])
        self._database.run("cut-chain", shot=shot["id"])
        document = self._database.insert("insert-document", text=new.document.model_dump_json(by_alias=True))
        self._database.run(
            "replace-document",
            shot=shot["id"],
            state="rendered" if new.delivered else "open",
            found=new.delivered,
            segments=len(new.document.segments),
            document=document,
            need_memory=new.need_memory,
            need_disk=new.need_disk,
        )
        self._insert_chain(shot["id"], new, seen=seen)
        self._database.run("forget-blocks", shot=shot["id"])
        self._database.run("touch-shot", shot=shot["id"])
        self._book.event(now, "replanned", job=shot["job_id"], shot=shot["name"], facts={"key": new.document.key})

    def _counted(self, turn: int, *, shots: Sequence[int] | None = None) -> tuple[int, int]:
        """Segments of a job (or of these shots of it) that are to be rendered, and that are done."""
        these = None if shots is None else json.dumps(shots)
        row = self._database.one("count-segments", job=turn, these=these)
        assert row is not None
        return row["all_of_them"] - row["done"], row["done"]

    def _supersede(
        self, now: float, turn: int, job: NewJob, *, everything: bool
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        superseded: list[str] = []
        removed: list[str] = []
        for old in self._database.all("earlier-shots", name=job.name, deliver_to=job.deliver_to, turn=turn):
            name = f"{old['job_id']}/{old['name']}"
            if old["new"] is None:
                removed.append(name)
                if not everything:
                    continue
                reason = f"{job.id} does not have it"
            else:
                superseded.append(name)
                reason = f"goes on in {job.id}" if old["same"] else f"superseded by {job.id}"
            self._book.move(now, old, "cancelled", "cancelled", reason=reason)
        self._database.run("shots-become", name=job.name, deliver_to=job.deliver_to, turn=turn)
        return tuple(superseded), tuple(removed)

    # ------------------------------------------------------------------- scheduling

    def any_ready(self) -> bool:
        """Whether there is anything a worker could be given now, or a hold that ends."""
        with self._database.reading():
            row = self._database.one("any-ready", now=self._book.clock.wall(), longest=LONGEST_WAIT_S)
        return bool(row and row["found"])

    def lease(
        self, worker: str, *, boot: str, pid: int, pid_start: str, free_memory: int, free_disk: int
    ) -> Lease | None:
        """The next segment for a worker, in the fair order, as far as it fits; None when there is none for it now."""
        self._standing.looked(memory=free_memory, disk=free_disk)
        with self._book.turn() as now:
            self._book.wake(now)
            self._database.run("worker-known", slot=worker)
            self._database.run("worker-online", slot=worker)
            if self._is_blocked(now, worker):
                return None
            found = self._choose(now, worker, free_memory=free_memory, free_disk=free_disk)
            if found is None:
                return None
            attempt = self._database.insert(
                "insert-attempt",
                segment=found["segment"],
                shot=found["shot"],
                idx=found["idx"],
                worker=worker,
                boot=boot,
                pid=pid,
                pid_start=pid_start,
                now=now,
            )
            self._database.run("lease-segment", segment=found["segment"], attempt=attempt)
            self._database.run("worker-at", slot=worker, shot=found["shot"])
            row = self._database.one("running-at", attempt=attempt)
            assert row is not None
            if self._database.run("job-started", turn=row["turn"]):
                self._book.event(now, "started", job=row["job"])
            facts = {"attempt": attempt, "token": row["token"], "careful": bool(row["careful"])}
            self._tell(now, "leased", row, facts=facts)
            return _lease(row)

    def beat(self, key: str, token: int, *, step: int, of: int) -> bool:
        """A worker is at a step; False when the segment is not its any more."""
        with self._book.turn():
            return self._database.run("beat", key=key, token=token, step=step, of=of) == 1

    def publish(self, key: str, token: int) -> bool:
        """The frames are about to be put in place; False when the segment is another's. Asked twice it is as once."""
        with self._book.turn() as now:
            row = self._database.one("holder", key=key, token=token)
            if row is None:
                return False
            if row["state"] == "leased":
                self._database.run("publish", segment=row["segment"])
                self._tell(now, "publishing", row)
            return True

    def finish(self, key: str, token: int, *, seconds: float, steps_seconds: Sequence[float], peak_bytes: int) -> bool:
        """The frames are in place; False when the segment is another's. `seconds` 0 is not measured."""
        with self._book.turn() as now:
            row = self._database.one("holder", key=key, token=token)
            if row is None:
                return False
            steps = list(steps_seconds)
            self._end_attempt(
                now,
                row,
                "done",
                seconds=seconds,
                step_seconds=sum(steps) / len(steps) if steps else None,
                peak_bytes=peak_bytes,
            )
            seq = self._tell(now, "done", row, facts={"seconds": seconds, "peak_bytes": peak_bytes})
            self._database.run("finish-segment", segment=row["segment"], told=seq)
            self._database.run("forget-holds", segment=row["segment"])
            self._database.run("worker-forgiven", slot=row["worker"])
            self._database.run("forget-block", worker=row["worker"], shot=row["shot"])
            self._database.run("touch-segment", segment=row["segment"])
            return True

    def fail(
        self, key: str, token: int, kind: Kind, fault: Fault, *, rc: int | None = None, signal: int | None = None
    ) -> Verdict | None:
        """A worker did not do it; what is done about it, or None when the segment is another's.

        `held` shots go on by themselves (setup, storage) or when they are retried (changed).
        """
        with self._book.turn() as now:
            row = self._database.one("holder", key=key, token=token)
            if row is None:
                return None
            self._end_attempt(now, row, kind, rc=rc, signal=signal, fault=fault)
            counted = kind in ("memory", "guard", "engine", "crash", "timeout", "stalled")
            tries = int(row["tries"]) + counted
            verdict = _verdict(kind, tries=tries, careful=bool(row["careful"]))
            self._database.run(
                "give-back",
                segment=row["segment"],
                state="failed" if verdict == "failed" else "cancelled",
                tries=tries,
                lost=0,
                careful=bool(row["careful"]) or verdict == "careful",
                not_before=now + doubled(self._back_off_s, tries - 1) if verdict == "retry" else 0.0,
                fault=fault.model_dump_json(),
            )
            self._database.run("touch-segment", segment=row["segment"])
            facts = {"kind": kind, "verdict": verdict, "fault": fault.model_dump(mode="json")}
            self._tell(now, "segment-failed", row, facts=facts)
            if counted or kind == "setup":  # a worker that cannot even start must not keep the others from the shot
                self._blame(now, row["worker"], row["shot"])
            for shot in self._database.all("shots-that-want", segment=row["segment"]):
                self._judge(now, shot, kind, verdict, fault)
            return verdict

    def release(self, key: str, token: int, reason: Released) -> bool:
        """A segment comes back and nobody is blamed; False when it is another's."""
        with self._book.turn() as now:
            row = self._database.one("holder", key=key, token=token)
            if row is None:
                return False
            self._end_attempt(now, row, reason)
            self._database.run(
                "give-back",
                segment=row["segment"],
                state="cancelled",
                tries=row["tries"],
                lost=reason == "lost",
                careful=row["careful"],
                not_before=0.0,
                fault=None,
            )
            self._database.run("touch-segment", segment=row["segment"])
            self._tell(now, "released", row, facts={"reason": reason})
            return True

    def running(self) -> list[Running]:
        """Everything that is leased or being published."""
        with self._database.reading():
            rows = self._database.all("running")
        return [_running(row) for row in rows]

    def unwanted(self) -> list[Lease]:
        """What is leased and wanted by nobody any more: paused, cancelled, planned again."""
        with self._database.reading():
            return [_lease(row) for row in self._database.all("unwanted")]

    def spoiled(self, key: str) -> None:
        """The files of a segment are not what its report says: it is to be rendered again, for every shot that waits.

        A segment somebody is at is left to him.
        """
        with self._book.turn() as now:
            row = self._database.one("segment", key=key)
            if row is None or row["state"] in ("leased", "publishing"):
                return
            seq = self._book.event(now, "spoiled", facts={"key": key})
            self._database.run("reopen-segment", segment=row["id"], told=seq)
            self._database.run("touch-segment", segment=row["id"])
            self._database.run("reopen-found", segment=row["id"])

    def expected_seconds(self, work: float) -> float | None:
        """What so much work takes one worker here, as measured last; None before anything was."""
        with self._database.reading():
            pace = self._standing.pace()
        return None if pace is None else work / pace

    def _choose(self, now: float, worker: str, *, free_memory: int, free_disk: int) -> sqlite3.Row | None:
        """The first of the queue, unless the worker's own chain goes on at the same priority, or it is another's."""
        fits = {
            "worker": worker,
            "now": now,
            "longest": LONGEST_WAIT_S,
            "forgiven": now + FORGIVEN_AFTER_S,
            "free_memory": free_memory,
            "free_disk": free_disk,
        }
        first = self._database.one("lease", **fits, renders=RENDERS, least=0, most=100, shy=False)
        if first is None:
            return None
        priority = int(first["priority"])
        own = self._database.one("lease-of-chain", **fits, least=priority)
        if own is not None:
            return own
        if not first["of_another"]:
            return first
        return self._database.one("lease", **fits, renders=RENDERS, least=priority, most=priority, shy=True) or first

    def _is_blocked(self, now: float, worker: str) -> bool:
        """Whether a worker may not be given anything: it failed too often, and another one is there."""
        row = self._database.one(
            "worker-blocked", slot=worker, now=now, forgiven=now + FORGIVEN_AFTER_S, renders=RENDERS
        )
        assert row is not None
        if row["blocked_until"] > 0 and not row["blocked"]:
            self._database.run("worker-forgiven", slot=worker)
            self._book.event(now, "worker-forgiven", actor=worker)
        return bool(row["blocked"] and row["others"])

    def _blame(self, now: float, worker: str, shot: int) -> None:
        """Count a failure against a worker: at one shot, and in a row; the last one left is never blocked."""
        until = now + FORGIVEN_AFTER_S
        at_shot = self._database.one("shot-failed-on", worker=worker, shot=shot)
        in_a_row = self._database.one("worker-failed", slot=worker)
        assert at_shot is not None
        assert in_a_row is not None
        if at_shot["failures"] >= SHOT_FAILURES:
            self._database.run("block-shot", worker=worker, shot=shot, until=until)
        row = self._database.one("worker-blocked", slot=worker, now=now, forgiven=until, renders=RENDERS)
        assert row is not None
        if in_a_row["failures"] >= WORKER_FAILURES and row["others"] and not row["blocked"]:
            self._database.run("block-worker", slot=worker, until=until)
            self._book.event(now, "worker-blocked", actor=worker, facts={"failures": in_a_row["failures"]})

    def _judge(self, now: float, shot: sqlite3.Row, kind: Kind, verdict: Verdict, fault: Fault) -> None:
        """What the failure of a segment is for a shot that wants it."""
        if verdict == "failed":
            self._book.move(now, shot, "failed", "failed", fault=fault)
        elif verdict == "held" and kind == "changed":
            self._book.move(now, shot, "held", "held", fault=fault)
        elif verdict == "held" and (shot["state"] == "open" or shot["by_itself"]):
            self._book.hold_for_a_while(now, shot, fault)

    def _end_attempt(
        self,
        now: float,
        row: sqlite3.Row,
        what: str,
        *,
        rc: int | None = None,
        signal: int | None = None,
        fault: Fault | None = None,
        seconds: float | None = None,
        step_seconds: float | None = None,
        peak_bytes: int | None = None,
    ) -> None:
        self._database.run(
            "end-attempt",
            attempt=row["attempt"],
            now=now,
            **{"class": what},
            rc=rc,
            signal=signal,
            fault=fault.model_dump_json() if fault else None,
            seconds=seconds,
            step_seconds=step_seconds,
            peak_bytes=peak_bytes,
        )

    def _tell(self, now: float, what: str, row: sqlite3.Row, *, facts: Mapping[str, object] | None = None) -> int:
        """An event of a segment somebody has."""
        return self._book.event(
            now,
            what,
            job=row["job"],
            shot=row["name"],
            segment=row["idx"] + 1,
            actor=row["worker"],
            facts={"key": row["key"], **(facts or {})},
        )

    # ------------------------------------------------------------------- deliveries

    def to_deliver(self) -> Delivery | None:
        """The next shot to deliver; the same one until `delivered` or `delivery_failed` is said of it."""
        with self._book.turn() as now:
            self._book.wake(now)
            row = self._database.one("to-deliver", now=now, longest=LONGEST_WAIT_S)
        if row is None:
            return None
        return Delivery(
            shot=row["shot"],
            job=row["job"],
            shot_name=row["name"],
            document=SealedShot.model_validate_json(row["text"], by_alias=True, by_name=False),
            deliver_to=row["deliver_to"],
            raw=bool(row["raw"]),
            movie=row["movie"],
            tries=row["tries"],
        )

    def delivered(self, shot: int, *, folder: str, version: int) -> bool:
        """The take is in place; False when the shot was cancelled or is planned again meanwhile."""
        with self._book.turn() as now:
            row = self._rendered(shot)
            if row is None:
                return False
            self._database.run("deliver-shot", shot=shot, folder=folder, version=version)
            self._database.run("job-changed", turn=row["job"])
            self._database.run("touch-shot", shot=shot)
            facts = {"folder": folder, "version": version}
            self._book.event(now, "shot-done", job=row["job_id"], shot=row["name"], facts=facts)
            return True

    def delivery_failed(self, shot: int, kind: Kind, fault: Fault) -> Verdict | None:
        """The take is not in place; what is done about it, or None when nobody waits for it any more."""
        with self._book.turn() as now:
            row = self._rendered(shot)
            if row is None:
                return None
            tries = int(row["tries"]) + 1
            verdict: Verdict = "retry" if kind in ("memory", "guard") else _verdict(kind, tries=tries, careful=False)
            if tries >= MOST_TRIES and verdict == "retry":
                verdict = "failed"
            if verdict == "retry":
                wait = now + doubled(self._back_off_s, tries - 1)
                text = fault.model_dump_json()
                self._database.run("delivery-again", shot=shot, not_before=wait, fault=text)
                facts = {"kind": kind, "fault": fault.model_dump(mode="json")}
                self._book.event(now, "delivery-failed", job=row["job_id"], shot=row["name"], facts=facts)
            elif verdict == "held" and kind != "changed":
                self._book.hold_for_a_while(now, row, fault)
            else:
                self._book.move(now, row, "failed" if verdict == "failed" else "held", verdict, fault=fault)
            return verdict

    def to_return(self, *, except_for: Collection[str] = ()) -> Return | None:
        """A cut that is to be returned: its job has nothing left to run, and it would show something new.

        Only the newest revision of a cut has one. Jobs that nobody waits for any more are closed on the way.
        """
        with self._book.turn() as now:
            for row in self._database.all("to-close"):
                state: JobState = "cancelled" if row["cancelled"] else "failed" if row["failed"] else "done"
                self._database.run("set-job-state", turn=row["turn"], state=state)
                self._book.event(now, "closed", job=row["id"], facts={"state": state})
            waiting = self._database.all("to-return", patience=PATIENCE)
            row = next((row for row in waiting if row["id"] not in except_for), None)
            if row is None:
                return None
            self._database.run("ask-return", turn=row["turn"])
            takes = tuple(str(take["folder"]) for take in self._database.all("takes", job=row["turn"]))
            texts = [str(one["fault"]) for one in self._database.all("faults", job=row["turn"])]
            return Return(
                job=row["id"],
                name=row["name"],
                revision=row["revision"],
                submission=row["submission"],
                folder=row["folder"],
                cut=row["cut"],
                deliver_to=row["deliver_to"],
                takes=takes,
                faults=tuple(Fault.model_validate_json(text) for text in texts),
            )

    def returned(self, job: str, *, path: str | None) -> None:
        """A cut is returned as it was asked for; with nothing left in the job it is done, or failed.

        Raises ValueError for an unknown job.
        """
        with self._book.turn() as now:
            row = self._known_job(job)
            self._database.run("return-job", turn=row["turn"], path=path)
            self._book.event(now, "returned", job=job, facts={"path": path})
            count = self._database.one("left-over", job=row["turn"])
            assert count is not None
            if row["state"] != "open" or count["left_over"]:
                return
            state: JobState = "failed" if count["failed"] else "done"
            self._database.run("set-job-state", turn=row["turn"], state=state)
            facts = {"returned": path, "shots": count["shots"], "failed": count["failed"]}
            self._book.event(now, "failed" if count["failed"] else "job-done", job=job, facts=facts)

    def return_failed(self, job: str, fault: Fault) -> None:
        """A cut could not be returned; it is still to be. Raises ValueError for an unknown job."""
        with self._book.turn() as now:
            row = self._known_job(job)
            self._database.run("return-failed", turn=row["turn"], fault=fault.model_dump_json())
            what = "return-failed" if row["fault"] else "held"  # hooks are told of the first
            self._book.event(now, what, job=job, facts={"fault": fault.model_dump(mode="json")})

    def _rendered(self, shot: int) -> sqlite3.Row | None:
        row = self._database.one("shot", shot=shot)
        return row if row is not None and row["state"] == "rendered" else None

    def _known_job(self, id: str) -> sqlite3.Row:
        row = self._database.one("job", id=id)
        if row is None:
            raise ValueError(f"there is no job {id!r}")
        return row

    # ------------------------------------------------------------------- what an operator asks

    def pause(self, ref: str) -> list[str]:
        """Begin nothing more of a job, shot or segment, and stop what runs of it; sentences of what was done.

        `ref` is JOB, JOB/SHOT, JOB/SHOT/INDEX (from 1), or begins with SHOT. Raises SubmissionInvalid for one that is
        unknown or could be several.
        """
        return self._orders.pause(ref)

    def resume(self, ref: str) -> list[str]:
        """Let it go on where it was; raises as `pause`."""
        return self._orders.resume(ref)

    def cancel(self, ref: str) -> list[str]:
        """Give a job or a shot up; takes that are delivered stay. Raises as `pause`."""
        return self._orders.cancel(ref)

    def retry(self, ref: str, *, seed: int | None = None) -> list[str]:
        """Have shots planned and rendered again that failed, wait or were cancelled.

        Done ones are looked at when they are named, or their whole job is done: where nothing changed they are found as
        they are, and a seed makes another take. Raises as `pause`.
        """
        return self._orders.retry(ref, seed=seed)

    def prioritise(self, ref: str, priority: int) -> list[str]:
        """Give a job or a shot another priority, 0..100; raises as `pause`."""
        return self._orders.prioritise(ref, priority)

    def retrying(self) -> list[Retry]:
        """Shots that are to be planned again, by job."""
        with self._database.reading():
            rows = self._database.all("retrying")
            jobs = {str(row["job"]): row for row in rows}
            found: list[Retry] = []
            for job, first in jobs.items():
                turn = self._known_job(job)["turn"]
                found.append(
                    Retry(
                        job=job,
                        submission=first["submission"],
                        folder=first["folder"],
                        shots=tuple(str(row["name"]) for row in rows if row["job"] == job),
                        seeds={str(row["name"]): int(row["seed"]) for row in self._database.all("seeds", job=turn)},
                    )
                )
        return found

    def status(self) -> Status:
        """How things stand: open jobs and those closed last, what runs, who works, and how long it will take."""
        with self._database.reading():
            return self._standing.status(self._book.clock.wall())

    def why(self, ref: str) -> list[str]:
        """Why a job, shot or segment is not running, or what became of it, in sentences; raises as `pause`."""
        with self._database.reading():
            return self._standing.why(self._orders.find(ref), self._book.clock.wall())

    def no_room(self) -> tuple[str, str] | None:
        """The job whose segment is next and does not fit into memory or disk, and the sentence that says so."""
        with self._database.reading():
            return self._standing.no_room()

    # ------------------------------------------------------------------- workers, events, outbox

    def worker(self, slot: str, *, state: WorkerState, pid: int | None = None) -> None:
        """What a child process is at; slots named `render-...` count as workers that render."""
        with self._book.turn():
            self._database.run("worker", slot=slot, state=state, pid=pid)

    def events(self, *, since: int = 0, limit: int = 1000, job: str | None = None) -> list[Event]:
        """What happened after event `since`, the oldest first."""
        with self._database.reading():
            if job is None:
                rows = self._database.all("events", since=since, limit=limit)
            else:
                rows = self._database.all("events-of-job", since=since, limit=limit, job=job)
        return [_event(row) for row in rows]

    def latest(self, job: str, *, most: int) -> list[Event]:
        """The last things that happened to a job, the oldest first."""
        with self._database.reading():
            rows = self._database.all("last-events-of-job", job=job, most=most)
        return [_event(row) for row in rows]

    def outbox(self) -> list[Outgoing]:
        """What each hook is to be told next, when it is time to."""
        now, longest = self._book.clock.wall(), OUTBOX_WAITS_S[1]
        found: list[Outgoing] = []
        with self._database.reading():
            for url in dict.fromkeys(self._book.hooks):
                row = self._database.one("outbox-first", url=url)
                if row is not None and not now < row["not_before"] <= now + longest:
                    found.append(Outgoing(seq=row["seq"], url=url, tries=row["tries"], body=row["body"]))
        return found

    def sent(self, seq: int, url: str) -> None:
        """A hook was told."""
        with self._book.turn():
            self._database.run("outbox-sent", seq=seq, url=url)

    def unsent(self, seq: int, url: str, *, why: str) -> None:
        """A hook could not be told; it is tried again after 5 s, each time after twice as long, at most 1 h."""
        with self._book.turn() as now:
            row = self._database.one("outbox-tries", seq=seq, url=url)
            if row is not None:
                shortest, longest = OUTBOX_WAITS_S
                wait = doubled(shortest, int(row["tries"]), longest_s=longest)
                self._database.run("outbox-unsent", seq=seq, url=url, not_before=now + wait, why=why)

    # ------------------------------------------------------------------- garbage

    def scratch(self) -> set[str]:
        """Keys of segments whose folders are needed still."""
        with self._database.reading():
            return {str(row["key"]) for row in self._database.each("scratch")}

    def swept(self, folders: Iterable[str]) -> None:
        """These folders of the work folder go, named by their keys' beginnings: their segments are not done any more.

        What nobody reads again goes with them.
        """
        with self._book.turn() as now:
            rows = [row for name in folders for row in self._database.all("segments-in", folder=name)]
            idle = [row for row in rows if row["state"] not in ("leased", "publishing")]
            if idle:
                seq = self._book.event(now, "swept", facts={"segments": len(idle)})
                for row in idle:
                    self._database.run("reopen-segment", segment=row["id"], told=seq)
                    self._database.run("touch-segment", segment=row["id"])
            self._database.run("sweep-documents")


def _verdict(kind: Kind, *, tries: int, careful: bool) -> Verdict:
    """What is done about a failure; `tries` counts this one."""
    match kind:
        case "input":
            return "failed"
        case "changed" | "setup" | "storage":
            return "held"
        case "memory" | "guard":
            return "failed" if careful else "careful"
        case _:
            return "failed" if tries >= MOST_TRIES else "retry"


def _lease(row: sqlite3.Row) -> Lease:
    return Lease(
        attempt=row["attempt"],
        key=row["key"],
        token=row["token"],
        job=row["job"],
        shot=row["shot"],
        shot_name=row["name"],
        index=row["idx"],
        document=SealedShot.model_validate_json(row["text"], by_alias=True, by_name=False),
        careful=bool(row["careful"]),
        work=row["work"],
        tries=row["tries"],
        losses=row["losses"],
    )


def _running(row: sqlite3.Row) -> Running:
    return Running(
        lease=_lease(row),
        state=row["state"],
        worker=row["worker"],
        boot=row["boot"],
        pid=row["pid"],
        pid_start=row["pid_start"],
        step=row["step"],
        of=row["steps"],
        began=row["t0"],
    )


def _event(row: sqlite3.Row) -> Event:
    return Event(
        seq=row["seq"],
        at=row["at"],
        actor=row["actor"],
        what=row["what"],
        subject=row["subject"],
        data=json.loads(row["facts"]),
    )


def _job_row(row: sqlite3.Row) -> JobRow:
    return JobRow(
        id=row["id"],
        name=row["name"],
        revision=row["revision"],
        state=row["state"],
        paused=bool(row["paused"]),
        priority=row["priority"],
        sha256=row["sha256"],
        folder=row["folder"],
        deliver_to=row["deliver_to"],
        cut=row["cut"],
        raw=bool(row["raw"]),
        movie=row["movie"],
        submission=row["submission"],
        warnings=tuple(json.loads(row["warnings"])),
        returned=row["returned"],
        fault=Fault.model_validate_json(row["fault"]) if row["fault"] else None,
        at=row["at"],
    )


def _shot_row(row: sqlite3.Row) -> ShotRow:
    return ShotRow(
        id=row["id"],
        job=row["job_id"],
        name=row["name"],
        state=row["state"],
        paused=bool(row["paused"]),
        reason=row["reason"],
        fault=Fault.model_validate_json(row["fault"]) if row["fault"] else None,
        by_itself=bool(row["by_itself"]),
        segments=row["segments"],
        segments_done=row["done"],
        version=row["version"],
        folder=row["folder"],
        seed=row["seed"],
    )
