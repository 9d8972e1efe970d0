"""What an operator may ask of the ledger: to find a job, shot or segment by name; pause, resume, cancel, retry it.

A pause is remembered beside the state of what is paused, for each of job, shot and segment: resuming takes the one
pause back and nothing else, so everything is where it was. Asking twice is as asking once.
"""

from __future__ import annotations

import difflib
import sqlite3
from dataclasses import dataclass

from scail2_farm.errors import SubmissionInvalid
from scail2_farm.farm.book import Book, JobState

OPERATOR = "operator"
NAMED = "a job is named JOB, a shot JOB/SHOT or SHOT, a segment JOB/SHOT/INDEX or SHOT/INDEX with its number from 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a reference names: rows of a job, and of a shot of it, and of a segment of that."""

    job: sqlite3.Row
    shot: sqlite3.Row | None = None
    segment: sqlite3.Row | None = None

    def __str__(self) -> str:
        parts = [str(self.job["id"])]
        if self.shot is not None:
            parts.append(str(self.shot["name"]))
        if self.segment is not None:
            parts.append(str(self.segment["idx"] + 1))
        return "/".join(parts)


class Orders:
    """The verbs of `scail2-farm job`; each answers in sentences."""

    def __init__(self, book: Book):
        self._book = book
        self._database = book.database

    # ------------------------------------------------------------------- names

    def find(self, ref: str) -> Target:
        """The rows behind JOB, JOB/SHOT, JOB/SHOT/INDEX, SHOT or SHOT/INDEX; used inside a transaction.

        Raises SubmissionInvalid for a reference that names nothing, or could name several.
        """
        parts = ref.strip("/").split("/")
        job = self._database.one("job", id=parts[0])
        if job is None:
            shot = self._shot_of_any_job(parts[0])
            job = self._database.one("job", id=shot["job_id"])
            assert job is not None
            rest = parts[1:]
        elif len(parts) == 1:
            return Target(job=job)
        else:
            shot = self._database.one("shot-named", job=job["turn"], name=parts[1])
            if shot is None:
                raise self._unknown(f"{job['id']} has no shot {parts[1]!r}", parts[1], job=job)
            rest = parts[2:]
        if not rest:
            return Target(job=job, shot=shot)
        return Target(job=job, shot=shot, segment=self._segment(shot, "/".join(rest)))

    def _segment(self, shot: sqlite3.Row, written: str) -> sqlite3.Row:
        found = None
        if written.isdecimal() and len(written) < 10:  # SQLite's integers end somewhere
            found = self._database.one("segment-of", shot=shot["id"], idx=int(written) - 1)
        if found is None:
            count = int(shot["segments"])
            has = f"segments 1 to {count}" if count > 1 else "one segment" if count else "no segments"
            what = f"{shot['job_id']}/{shot['name']} has no segment {written!r}"
            raise SubmissionInvalid(what, why=NAMED, fix=f"it has {has}")
        return found

    def _shot_of_any_job(self, name: str) -> sqlite3.Row:
        """The shot of a name in the one open job that has it; with none open, in the newest of the one name."""
        all_of_them = self._database.all("shots-by-name", name=name)
        current = [shot for shot in all_of_them if shot["became"] is None] or all_of_them[-1:]
        found = [shot for shot in current if shot["job_state"] == "open"] or current
        if len(found) == 1:
            return found[0]
        if not found:
            raise self._unknown(f"there is no job and no shot {name!r}", name, job=None)
        which = ", ".join(f"{shot['job_id']}/{name}" for shot in found[:10])
        raise SubmissionInvalid(f"{len(found)} jobs have a shot {name!r}", why=NAMED, fix=f"say which one: {which}")

    def _unknown(self, what: str, name: str, *, job: sqlite3.Row | None) -> SubmissionInvalid:
        known = [str(row["name"]) for row in self._database.all("known-names", job=job["turn"] if job else None)]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        if near:
            fix = f"did you mean {' or '.join(near)}?"
        else:
            fix = f"known here: {', '.join(known[:10])}" if known else "`scail2-farm status` lists what the farm has"
        return SubmissionInvalid(what, why=NAMED, fix=fix)

    # ------------------------------------------------------------------- pause and resume

    def pause(self, ref: str) -> list[str]:
        """Begin nothing more of it."""
        with self._book.turn() as now:
            return self._set_pause(now, self.find(ref), paused=True)

    def resume(self, ref: str) -> list[str]:
        """Take the pause back."""
        with self._book.turn() as now:
            target = self.find(ref)
            return self._set_pause(now, target, paused=False) + self._other_pauses(target)

    def _set_pause(self, now: float, target: Target, *, paused: bool) -> list[str]:
        row = target.segment or target.shot or target.job
        if paused and row["state"] in ("done", "failed", "cancelled"):
            return [f"{target} is {row['state']} already; there is nothing to pause"]
        if bool(row["paused"]) == paused:
            return [f"{target} is {'paused already' if paused else 'not paused'}"]
        told: list[str] = []
        if target.segment is not None:
            self._database.run("pause-segment", segment=row["id"], paused=paused)
            self._database.run("touch-segment", segment=row["id"])
            assert target.shot is not None
            others = [one["name"] for one in self._database.all("sharers", segment=row["id"], shot=target.shot["id"])]
            if others and paused:
                told.append(f"{', '.join(others[:10])} wants the same segment and waits with it")
        elif target.shot is not None:
            self._database.run("pause-shot", shot=row["id"], paused=paused)
        else:
            self._database.run("pause-job", turn=row["turn"], paused=paused)
            self._database.run("pause-shots-of-job", turn=row["turn"], paused=paused)
        self._tell(now, target, "paused" if paused else "resumed")
        if not paused:
            return [f"{target} goes on"]
        return [f"{target} is paused; `scail2-farm job resume {target}` lets it go on", *told]

    def _other_pauses(self, target: Target) -> list[str]:
        told: list[str] = []
        if target.shot is not None and target.job["paused"]:
            told.append(f"the job {target.job['id']} is paused still")
        if target.segment is not None and target.shot is not None and target.shot["paused"]:
            told.append(f"the shot {target.shot['name']} is paused still")
        return told

    # ------------------------------------------------------------------- cancel

    def cancel(self, ref: str) -> list[str]:
        """Give a job or a shot up."""
        with self._book.turn() as now:
            target = self.find(ref)
            if target.shot is None:
                return self._cancel_job(now, target.job)
            told = self._cancel_shot(now, target.shot, reason=f"an operator cancelled {target}")
            if target.segment is not None:
                told.append("a shot without one of its segments cannot be delivered, so the shot is cancelled")
            return told

    def _cancel_job(self, now: float, job: sqlite3.Row) -> list[str]:
        if job["state"] != "open":
            return [f"{job['id']} is {job['state']} already"]
        for shot in self._database.all("shots-of-job", job=job["turn"]):
            if shot["state"] not in ("done", "failed", "cancelled"):
                self._cancel_shot(now, shot, reason="an operator cancelled its job")
        self._set_job(now, job, "cancelled", "job-cancelled")
        return [f"{job['id']} is cancelled; takes that were delivered stay"]

    def _cancel_shot(self, now: float, shot: sqlite3.Row, *, reason: str) -> list[str]:
        name = f"{shot['job_id']}/{shot['name']}"
        if shot["state"] in ("done", "failed", "cancelled"):
            return [f"{name} is {shot['state']} already"]
        self._book.move(now, shot, "cancelled", "cancelled", reason=reason, actor=OPERATOR)
        return [f"{name} is cancelled; `scail2-farm job retry {name}` takes it up again"]

    # ------------------------------------------------------------------- retry and priority

    def retry(self, ref: str, *, seed: int | None) -> list[str]:
        """Have shots planned and rendered again.

        Raises SubmissionInvalid also for a seed that is to be a whole job's.
        """
        with self._book.turn() as now:
            target = self.find(ref)
            if target.shot is not None:
                told = [self._retry_shot(now, target.shot, seed=seed)]
            elif seed is not None:
                what = f"{target} is a job, and a seed is one shot's"
                fix = f"name the shot: scail2-farm job retry {target}/SHOT --seed {seed}"
                raise SubmissionInvalid(what, why="another seed makes another take of one shot", fix=fix)
            else:
                shots = self._database.all("shots-of-job", job=target.job["turn"])
                again = [shot for shot in shots if shot["state"] in ("failed", "held", "cancelled")]
                if not again and target.job["state"] == "done":
                    again = shots
                told = [self._retry_shot(now, shot, seed=None) for shot in again]
                told = told or [f"{target} has no shot that failed, is held or was cancelled; nothing to retry"]
            waits = self._database.all("shots-of-job", job=target.job["turn"])
            if target.job["state"] != "open" and any(shot["state"] == "retrying" for shot in waits):
                self._set_job(now, target.job, "open", "reopened")
            return told + self._other_pauses(target)

    def _retry_shot(self, now: float, shot: sqlite3.Row, *, seed: int | None) -> str:
        name = f"{shot['job_id']}/{shot['name']}"
        if shot["became"] is not None:
            later = self._database.one("job-of-turn", turn=shot["became"])
            assert later is not None
            return f"{name} goes on in {later['id']}: `scail2-farm job retry {later['id']}/{shot['name']}`"
        if shot["state"] in ("open", "rendered") and seed is None:
            waited = self._database.run("forget-backoffs", shot=shot["id"])
            waited += self._database.run("forget-wait", shot=shot["id"])
            if not waited:
                return f"{name} is under way; nothing to retry"
            self._book.event(now, "goes-on", job=shot["job_id"], shot=shot["name"], actor=OPERATOR)
            return f"{name} is tried again at once"
        self._database.run("retry-shot", shot=shot["id"], seed=seed)
        reason = "" if seed is None else f"with seed {seed}"
        self._book.move(now, shot, "retrying", "retrying", reason=reason, actor=OPERATOR)
        if shot["state"] == "done" and seed is None:
            seeds = f"another seed makes another take: scail2-farm job retry {name} --seed N"
            return f"{name} is looked at again, and rendered where its media has changed; {seeds}"
        return f"{name} is planned again{f' with seed {seed}' if seed is not None else ''} and then rendered"

    def prioritise(self, ref: str, priority: int) -> list[str]:
        """Give a job or a shot another priority; a segment has its shot's."""
        if not 0 <= priority <= 100:
            what = f"the priority is {priority}"
            raise SubmissionInvalid(what, why="priorities are 0 to 100, the highest first", fix="give one of these")
        with self._book.turn() as now:
            target = self.find(ref)
            if target.shot is not None:
                self._database.run("prioritise-shot", shot=target.shot["id"], priority=priority)
                name = f"{target.job['id']}/{target.shot['name']}"
            else:
                self._database.run("prioritise-job", turn=target.job["turn"], priority=priority)
                self._database.run("prioritise-shots-of-job", turn=target.job["turn"], priority=priority)
                name = str(target)
            self._tell(now, target, "prioritised", priority=priority)
            return [f"{name} has priority {priority}"]

    def _set_job(self, now: float, job: sqlite3.Row, state: JobState, what: str) -> None:
        self._database.run("set-job-state", turn=job["turn"], state=state)
        self._book.event(now, what, job=job["id"], actor=OPERATOR)

    def _tell(self, now: float, target: Target, what: str, **facts: object) -> None:
        self._book.event(
            now,
            what,
            job=target.job["id"],
            shot=target.shot["name"] if target.shot is not None else None,
            segment=target.segment["idx"] + 1 if target.segment is not None else None,
            actor=OPERATOR,
            facts=facts,
        )
