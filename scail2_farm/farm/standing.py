"""How things stand: the figures of `status`, and the sentences of `why`. Reads the ledger, changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from scail2_farm.documents import Fault
from scail2_farm.farm.book import LONGEST_WAIT_S, Book, JobState, ShotState, log_name
from scail2_farm.farm.host import iso
from scail2_farm.farm.orders import Target
from scail2_farm.words import counted

MEASURED = 50
"""Attempts whose pace counts, the last ones."""
CLOSED_SHOWN = 10
TOLD = 10
"""Shots and attempts that are told one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """A job in figures; `eta_s` is until its last open shot is rendered, with everything before it in the queue."""

    id: str
    state: JobState
    paused: bool
    priority: int
    at: float
    shots: dict[ShotState, int]
    segments: int
    segments_done: int
    eta_s: float | None
    returned: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningStatus:
    """A segment at work; it is number `segment` of `segments`, at `step` of `of` steps."""

    job: str
    shot: str
    segment: int
    segments: int
    worker: str
    state: str
    step: int
    of: int
    began: float
    eta_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """A child process; `blocked_until` when it failed too often."""

    slot: str
    state: str
    pid: int | None
    blocked_until: float | None
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The farm at one instant."""

    at: float
    jobs: tuple[JobStatus, ...]
    running: tuple[RunningStatus, ...]
    workers: tuple[WorkerStatus, ...]
    eta_s: float | None

    def as_json(self) -> dict[str, object]:
        """As `status --json` prints it; instants are UTC, ISO 8601."""
        document = asdict(self)
        document["at"] = iso(self.at)
        for told, job in zip(document["jobs"], self.jobs, strict=True):
            told["at"] = iso(job.at)
        for told, running in zip(document["running"], self.running, strict=True):
            told["began"] = iso(running.began)
        for told, worker in zip(document["workers"], self.workers, strict=True):
            told["blocked_until"] = None if worker.blocked_until is None else iso(worker.blocked_until)
        return document


class Standing:
    """What can be told of the ledger; every method is used inside a transaction."""

    def __init__(self, book: Book, *, renders: str, forgiven_after_s: float):
        self._database = book.database
        self._renders = renders
        self._forgiven_after_s = forgiven_after_s
        self._free: tuple[int, int] | None = None

    def looked(self, *, memory: int, disk: int) -> None:
        """Remember what was free when a worker last asked for a segment."""
        self._free = memory, disk

    def pace(self) -> float | None:
        """Work per second of one worker, as measured last; None before anything was."""
        row = self._database.one("measured", most=MEASURED)
        return row["work"] / row["seconds"] if row and row["seconds"] and row["work"] else None

    def no_room(self) -> tuple[str, str] | None:
        """The job of the next segment in the queue, and what of this machine it lacks; None when it lacks nothing."""
        row = self._database.one("next-in-queue")
        said = None if row is None else next(self._does_not_fit(row), None)
        return None if row is None or said is None else (str(row["job_id"]), f"{row['name']} waits: {said}")

    # ------------------------------------------------------------------- figures

    def status(self, now: float) -> Status:
        """The farm as it is."""
        workers = tuple(self._worker(row, now) for row in self._database.all("status-workers"))
        rendering = sum(self._live(row) for row in self._database.all("status-workers"))
        pace = self.pace()
        left = {int(row["turn"]): float(row["work"]) for row in self._database.all("status-work")}
        before, jobs = 0.0, list[JobStatus]()
        for row in self._database.all("status-jobs", most=CLOSED_SHOWN):
            own = left.get(row["turn"], 0.0)
            before += own
            eta = before / pace / max(1, rendering) if pace and own else None
            jobs.append(self._job(row, eta_s=eta))
        everything = sum(left.values())
        return Status(
            at=now,
            jobs=tuple(jobs),
            running=tuple(self._running(row, now, pace) for row in self._database.all("status-running")),
            workers=workers,
            eta_s=everything / pace / max(1, rendering) if pace and everything else None,
        )

    def _job(self, row: sqlite3.Row, *, eta_s: float | None) -> JobStatus:
        counts = self._database.all("status-shots", job=row["turn"])
        finished = sum(count["segments"] for count in counts if count["state"] in ("rendered", "done"))
        open_ones = self._database.one("status-segments", job=row["turn"])
        assert open_ones is not None
        return JobStatus(
            id=row["id"],
            state=row["state"],
            paused=bool(row["paused"]),
            priority=row["priority"],
            at=row["at"],
            shots={count["state"]: count["shots"] for count in counts},
            segments=sum(count["segments"] for count in counts),
            segments_done=finished + open_ones["done"],
            eta_s=eta_s,
            returned=row["returned"],
        )

    def _running(self, row: sqlite3.Row, now: float, pace: float | None) -> RunningStatus:
        done = row["step"] / row["steps"] if row["steps"] else 0.0
        return RunningStatus(
            job=row["job"],
            shot=row["name"],
            segment=row["idx"] + 1,
            segments=row["segments"],
            worker=row["worker"],
            state=row["state"],
            step=row["step"],
            of=row["steps"],
            began=row["t0"],
            eta_s=row["work"] * (1 - done) / pace if pace else None,
        )

    def _worker(self, row: sqlite3.Row, now: float) -> WorkerStatus:
        blocked = now <= row["blocked_until"] <= now + self._forgiven_after_s
        return WorkerStatus(
            slot=row["slot"],
            state=row["state"],
            pid=row["pid"],
            blocked_until=row["blocked_until"] if blocked else None,
            failures=row["failures"],
        )

    def _live(self, row: sqlite3.Row) -> bool:
        return str(row["slot"]).startswith(self._renders.rstrip("*")) and row["state"] in ("idle", "busy")

    # ------------------------------------------------------------------- sentences

    def why(self, target: Target, now: float) -> list[str]:
        """Why it is not running, or what became of it; the most telling sentence first."""
        if target.shot is None:
            return list(self._why_job(target.job, now))
        if target.segment is not None and target.shot["state"] in ("open", "held"):
            name = f"{target}"
            said = [*self._pauses(target.job, target.shot)]
            said += self._why_segment(name, target.shot, target.segment, now)
            return [*said, *self._attempts("attempts", segment=target.segment["id"])]
        said = list(self._why_shot(target.job, target.shot, now))
        return [*said, *self._attempts("attempts-of-shot", shot=target.shot["id"])]

    def _why_job(self, job: sqlite3.Row, now: float) -> Iterator[str]:
        name = job["id"]
        counts = {str(row["state"]): int(row["shots"]) for row in self._database.all("status-shots", job=job["turn"])}
        parts = [f"{counts[state]} {said}" for state, said in SHOTS.items() if state in counts]
        total = sum(counts.values())
        yield f"{name} is {job['state']}: {counted(total, 'shot')}{f', {_listed(parts)}' if parts else ''}"
        if job["state"] == "open" and job["paused"]:
            yield f"it is paused: `scail2-farm job resume {name}` lets it go on"
        if job["returned"]:
            yield f"its cut was returned: {job['returned']}"
        if job["fault"]:
            yield f"its cut could not be returned: {_fault(job['fault'])}"
        for shot in self._database.all("shots-in-trouble", job=job["turn"], most=TOLD):
            yield next(self._why_shot(job, shot, now))
        first = self._database.one("first-shot", job=job["turn"])
        if job["state"] != "open" or job["paused"]:
            return
        running = [row for row in self._database.all("status-running") if row["turn"] == job["turn"]]
        for row in running:
            yield f"{name}/{row['name']}/{row['idx'] + 1} is being rendered by {row['worker']}{_step(row)}"
        if first is not None and not running:
            yield from self._why_shot(job, first, now)
        elif job["fault"] or counts.keys() & {"retrying", "held"}:
            return
        elif first is None and job["changes"] > job["answered"]:
            yield "every shot is finished; its cut is about to be returned"

    def _why_shot(self, job: sqlite3.Row, shot: sqlite3.Row, now: float) -> Iterator[str]:
        name = f"{job['id']}/{shot['name']}"
        match shot["state"]:
            case "done":
                yield f"{name} is done: v{shot['version']:03d} in {shot['folder']}"
            case "failed":
                yield f"{name} failed: {_fault(shot['fault'], retry=name)}"
            case "cancelled":
                again = "" if shot["became"] is not None else f"; `scail2-farm job retry {name}` takes it up again"
                yield f"{name} is cancelled: {shot['reason']}{again}"
            case "retrying":
                seed = f" {shot['reason']}" if shot["reason"] else ""
                yield f"{name} is being planned again{seed}; it goes on when that is done"
            case "held" if shot["by_itself"]:
                again = _wait(now, shot["not_before"])
                yield f"{name} is held and tried again by itself {again}: {_fault(shot['fault'])}"
            case "held":
                yield f"{name} is held: {_fault(shot['fault'], retry=name)}"
            case "rendered":
                yield from self._why_not_delivered(name, shot, now)
            case _:
                yield from self._why_open(name, job, shot, now)
        yield from self._pauses(job, shot) if shot["state"] not in ("done", "failed", "cancelled") else ()

    def _why_not_delivered(self, name: str, shot: sqlite3.Row, now: float) -> Iterator[str]:
        place = {key: shot[key] for key in ("priority", "job", "position")}
        row = self._database.one("deliveries-ahead", **place)
        ahead = int(row["shots"]) if row else 0
        before = f"; {counted(ahead, 'shot')} before it" if ahead else ""
        yield f"{name} is rendered and waits to be delivered{before}"
        if now < shot["not_before"] <= now + LONGEST_WAIT_S:
            yield f"delivering it is tried again {_wait(now, shot['not_before'])}: {_fault(shot['fault'])}"

    def _why_open(self, name: str, job: sqlite3.Row, shot: sqlite3.Row, now: float) -> Iterator[str]:
        segments = self._database.all("segments-of", shot=shot["id"])
        left = [segment for segment in segments if segment["state"] != "done"]
        yield f"{name} is not finished: {len(segments) - len(left)} of {counted(len(segments), 'segment')} rendered"
        if left:
            at_work = [one for one in left if one["state"] in ("leased", "publishing")]
            first = (at_work or left)[0]
            if at_work or not (job["paused"] or shot["paused"]):  # else the pause is told, which is all it waits for
                yield from self._why_segment(f"{name}/{first['idx'] + 1}", shot, first, now)

    def _why_segment(self, name: str, shot: sqlite3.Row, segment: sqlite3.Row, now: float) -> Iterator[str]:
        match segment["state"]:
            case "leased":
                row = next(row for row in self._database.all("status-running") if row["segment"] == segment["id"])
                yield f"{name} is being rendered by {row['worker']}{_step(row)}"
                if segment["paused"]:
                    yield "it is paused and being stopped"
            case "publishing":
                yield f"{name} is rendered; its frames are being put in place"
            case "done":
                yield f"{name} is rendered"
            case "blocked":
                yield f"{name} waits for the segment before it, {name.rpartition('/')[0]}/{segment['idx']}"
            case "held":
                yield f"{name} is paused: `scail2-farm job resume {name}` lets it go on"
            case "failed":
                yield f"{name} failed: {_fault(segment['fault'])}"
            case "cancelled":
                yield f"{name} is wanted by no shot that is open"
            case _:
                yield from self._why_ready(name, shot, segment, now)

    def _why_ready(self, name: str, shot: sqlite3.Row, segment: sqlite3.Row, now: float) -> Iterator[str]:
        if now < segment["not_before"] <= now + LONGEST_WAIT_S:
            failed, again = counted(segment["tries"], "time"), _wait(now, segment["not_before"])
            yield f"{name} failed {failed} and is tried again {again}: {_fault(segment['fault'])}"
            return
        place = {key: shot[key] for key in ("priority", "job", "position")}
        row = self._database.one("ahead", **place)
        ahead = int(row["segments"]) if row else 0
        if ahead:
            yield f"{name} is ready and waits for its turn: {counted(ahead, 'segment')} before it in the queue"
        else:
            yield f"{name} is ready and the next in the queue"
        yield from self._does_not_fit(shot)
        yield from self._lacks_workers(shot, now)

    def _does_not_fit(self, shot: sqlite3.Row) -> Iterator[str]:
        if self._free is None:
            return
        for what, needed, free in zip(
            ("memory", "disk space"), (shot["need_memory"], shot["need_disk"]), self._free, strict=True
        ):
            if needed > free:
                yield f"it needs {_bytes(needed)} of {what}, and {_bytes(free)} were there for it last"

    def _lacks_workers(self, shot: sqlite3.Row, now: float) -> Iterator[str]:
        live = [row for row in self._database.all("status-workers") if self._live(row)]
        if not live:
            yield "no worker is running"
        for row in live:
            worker = self._worker(row, now)
            if worker.blocked_until is not None:
                until = iso(worker.blocked_until)
                yield f"{worker.slot} failed {counted(worker.failures, 'time')} in a row and rests until {until}"
        for row in self._database.all("blocks", shot=shot["id"], now=now, forgiven=now + self._forgiven_after_s):
            failed = counted(row["failures"], "time")
            yield f"{row['worker']} failed at this shot {failed}; until {iso(row['until'])} others are preferred"
        if live and all(row["state"] == "busy" for row in live):
            yield f"every worker is busy ({len(live)})"

    def _pauses(self, job: sqlite3.Row, shot: sqlite3.Row) -> Iterator[str]:
        if job["paused"]:
            yield f"the job is paused: `scail2-farm job resume {job['id']}` lets it go on"
        if shot["paused"]:
            name = f"{job['id']}/{shot['name']}"
            yield f"the shot is paused: `scail2-farm job resume {name}` lets it go on"

    def _attempts(self, query: str, **of: int) -> Iterator[str]:
        for row in self._database.all(query, most=TOLD, **of):
            seconds = max(0.0, row["t1"] - row["t0"])
            what = f": {Fault.model_validate_json(row['fault']).what}" if row["fault"] else ""
            place = f"attempt at segment {row['idx'] + 1} on {row['worker']}, {iso(row['t0'])}"
            yield f"{place}: {row['class']} after {_spell(seconds)}{what} (.farm/logs/{log_name(row['id'])}.log)"


SHOTS = {
    "open": "to be rendered",
    "rendered": "to be delivered",
    "done": "done",
    "failed": "failed",
    "held": "held",
    "cancelled": "cancelled",
    "retrying": "being planned again",
}
"""What a number of shots in a state is."""


def _fault(text: str | None, *, retry: str | None = None) -> str:
    """A fault in a line: what, and what to do; with `retry`, how that shot is taken up again, unless it says so."""
    if text is None:
        return "no reason was given"
    fault = Fault.model_validate_json(text)
    words, command = f"{fault.what} ({fault.code}); {fault.fix}", f"`scail2-farm job retry {retry}`"
    return words if retry is None or command in words else f"{words}; then {command}"


def _bytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.2f} MB"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _step(row: sqlite3.Row) -> str:
    return f", step {row['step']} of {row['steps']}" if row["steps"] else ""


def _wait(now: float, until: float) -> str:
    return f"in {_spell(until - now)}" if now < until <= now + LONGEST_WAIT_S else "at once"


def _spell(seconds: float) -> str:
    """Seconds as a person says them: 12 s, 3 min, 2 h 5 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
