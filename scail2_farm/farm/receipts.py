"""STATUS/NAME.status.json: what became of a drop, where whoever dropped it looks. Written whole, when it changed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scail2_farm.documents import Fault
from scail2_farm.farm.host import Clock, iso
from scail2_farm.farm.hotfolder import HotFolder, Waiting
from scail2_farm.farm.ledger import JobRow, Ledger, ShotRow

WRITTEN_EVERY_S = 1.0
TIMES_AS_LONG = 20
"""A receipt of ten thousand takes is some work: after writing, nothing is written for so many times as long."""
_AGAIN = re.compile(r"submit( it| the edit)? again")
MOST_TOLD = 100
EVENTS_TOLD = 50


@dataclass(slots=True, kw_only=True)
class Receipts:
    """The receipts of a farm; those of jobs are written by `write`, at most once a second."""

    hotfolder: HotFolder
    ledger: Ledger
    clock: Clock
    _due: set[str] = field(default_factory=set[str])
    _heard: int = 0
    _not_before: float = float("-inf")
    _no_room: tuple[str, str] | None = None
    """The job that has no room just now, and in which words."""

    def waiting(self, waiting: Waiting) -> None:
        """A drop that is not claimed yet, and why."""
        self.hotfolder.write_status(waiting.name, waiting.document)

    def planning(
        self, name: str, job: str, *, why: str = "its timeline, plates, mattes and stills are looked at"
    ) -> None:
        """A drop that is being planned, or waits for it."""
        self.hotfolder.write_status(name, {"state": "planning", "why": why, "job": job})

    def rejected(self, name: str, faults: Sequence[Fault], folder: Path) -> None:
        """A drop that is not rendered; the words for people are in REJECTED.txt."""
        told = [fault.model_dump(mode="json") for fault in faults]
        why = f"{faults[0].what}; {faults[0].fix}"
        self.hotfolder.write_status(name, {"state": "rejected", "why": why, "faults": told, "folder": str(folder)})

    def duplicate(self, name: str, job: str) -> None:
        """A drop whose very content is a job already; where that job has the receipt of this name, it has it again."""
        row = self.ledger.job(job)
        if row is not None and row.name == name and self.ledger.is_newest(job):
            self.changed(job, name=name)
            return
        why = (
            f"duplicate of {job}: the same cut with the same manifest; `scail2-farm job retry {job}` looks at it again"
        )
        self.hotfolder.write_status(name, {"state": "duplicate", "why": why, "job": job})

    def changed(self, job: str, *, name: str | None = None) -> None:
        """The receipt of this job is out of date; with a name, those of all jobs of that name."""
        self._due.add(job)
        if name is not None:
            self._due |= {row.id for row in self.ledger.jobs() if row.name == name}

    def write(self, *, now: bool = False) -> None:
        """Write what is out of date."""
        began = self.clock.monotonic()
        if not now and began < self._not_before:
            return
        self._not_before = began + WRITTEN_EVERY_S
        for event in self.ledger.events(since=self._heard):
            self._heard = event.seq
            self._due.add(event.subject.partition("/")[0])
        self._look_for_room()
        while self._due:
            job = next(iter(self._due))
            document = self._document(job)
            row = self.ledger.job(job)
            if row is not None and document is not None:
                self.hotfolder.write_status(self.ledger.receipt_of(row), document)
            self._due.discard(job)
        spent = self.clock.monotonic() - began
        self._not_before = began + max(WRITTEN_EVERY_S, TIMES_AS_LONG * spent)

    def _look_for_room(self) -> None:
        told, self._no_room = self._no_room, self.ledger.no_room()
        jobs = {one[0] for one in (told, self._no_room) if one is not None}
        if told is None or self._no_room is None or len(jobs) > 1:
            self._due |= jobs

    def begin(self) -> None:
        """Bring up to date what the farm before did not come to tell; what was told is not told again."""
        self._heard = self.ledger.mark()
        self._due |= {job.id for job in self.ledger.jobs() if job.state == "open" or self._is_out_of_date(job)}

    def _is_out_of_date(self, job: JobRow) -> bool:
        """Whether the receipt is this job's, and of before its end."""
        told = self.hotfolder.status(self.ledger.receipt_of(job))
        return told.get("job") == job.id and told.get("state") != job.state

    def _held_up(self, job: JobRow) -> list[str]:
        """What keeps a job as a whole, in sentences."""
        found = [self._no_room[1]] if self._no_room is not None and self._no_room[0] == job.id else []
        if job.fault is not None and job.state == "open":
            found.append(f"its cut could not be returned: {job.fault.what}; {job.fault.fix}")
        return found

    def _document(self, job: str) -> Mapping[str, object] | None:
        row = self.ledger.job(job)
        if row is None or not self.ledger.is_newest(job):
            return None  # a later revision of the same name has the receipt
        shots = self.ledger.shots(job)
        counts: dict[str, int] = {}
        for shot in shots:
            counts[shot.state] = counts.get(shot.state, 0) + 1
        trouble = [shot for shot in shots if shot.state in ("held", "failed", "cancelled")]
        return {
            "job": job,
            "revision": row.revision,
            "state": "paused" if row.paused and row.state == "open" else row.state,
            "why": "; ".join([_in_words(counts, shots), *self._held_up(row)]),
            "at": iso(self.clock.wall()),
            "accepted": iso(row.at),
            "shots": counts,
            "segments": {"done": sum(s.segments_done for s in shots), "of": sum(s.segments for s in shots)},
            "trouble": [_trouble(shot) for shot in trouble[:MOST_TOLD]],
            "more_trouble": max(0, len(trouble) - MOST_TOLD),
            "takes": [
                {"shot": shot.name, "version": shot.version, "folder": shot.folder}
                for shot in shots
                if shot.state == "done"
            ],
            "warnings": list(row.warnings[:MOST_TOLD]),
            "more_warnings": max(0, len(row.warnings) - MOST_TOLD),
            "deliver_to": row.deliver_to,
            "returned": row.returned,
            "events": [
                {"at": iso(event.at), "event": event.what, "subject": event.subject}
                for event in self.ledger.latest(job, most=EVENTS_TOLD)
            ],
        }


def _in_words(counts: Mapping[str, int], shots: list[ShotRow]) -> str:
    done, all_of_them = counts.get("done", 0), len(shots)
    words = f"{done} of {all_of_them} shots are back"
    more = [f"{counts[state]} {state}" for state in ("held", "failed", "cancelled") if counts.get(state)]
    return f"{words}, {', '.join(more)}" if more else words


def _trouble(shot: ShotRow) -> dict[str, object]:
    return {
        "shot": shot.name,
        "state": shot.state,
        "why": _why(shot),
        "fault": shot.fault.model_dump(mode="json") if shot.fault else None,
        "goes_on_by_itself": shot.by_itself,
    }


def _why(shot: ShotRow) -> str:
    """Why a shot is not back, and what to do about it."""
    if shot.fault is None:
        return shot.reason
    if shot.by_itself:
        return f"{shot.fault.what}; it goes on by itself"
    retry = f"`scail2-farm job retry {shot.job}/{shot.name}`"
    return f"{shot.fault.what}; {shot.fault.fix}{'' if retry in shot.fault.fix else f'; then {retry}'}"


def on_a_farm(fault: Fault, *, ref: str, by_itself: bool) -> Fault:
    """A fault whose advice is that of a farm, where submitting the same cut again queues nothing."""
    advice = "wait: it goes on by itself" if by_itself else f"run `scail2-farm job retry {ref}`"
    return fault.model_copy(update={"fix": _AGAIN.sub(advice, fault.fix)})
