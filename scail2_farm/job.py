"""The corridor walked once, in this process: a plan in; takes, sheets and the returned cut out.

A job that is stopped, even by SIGKILL, goes on at its first unfinished segment when it is submitted again: finished
segments are found by their keys, finished takes by theirs. A shot that fails does not stop the others.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from scail2_farm import deliver, engine, render
from scail2_farm.documents import Report, Take, write_text
from scail2_farm.editorial.takes import TakeLink, link_takes, write_edit
from scail2_farm.errors import DeliveryBusy, FarmError, SetupError, ShareUnavailable, Where, storage_error
from scail2_farm.plan import Plan, Probing
from scail2_farm.seal import Sealed, seal


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """How far the job is: one step of one segment."""

    shot: str
    segment: int
    segments: int
    step: int
    steps: int
    done: float
    """Share of the whole job's work, 0..1."""
    eta_s: float | None
    """Seconds left at the pace measured so far; None before there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeLacking:
    """The take of a shot is on disk, but not as it is asked for; `warning` says what is wrong and what is done."""

    shot: str
    warning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotDone:
    """A shot is delivered; `again` when the take was there already."""

    shot: str
    take: Take
    folder: Path
    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotFailed:
    """A shot could not be rendered or delivered."""

    shot: str
    fault: FarmError


Event = Probing | TakeLacking | Rendering | ShotDone | ShotFailed


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a job."""

    plan: Plan
    done: list[ShotDone] = field(default_factory=list[ShotDone])
    faults: list[FarmError] = field(default_factory=list[FarmError])
    warnings: list[str] = field(default_factory=list[str])
    returned: Path | None = None

    def as_json(self) -> dict[str, object]:
        """The outcome as `submit --json` prints it and report.json keeps it."""
        return {
            "plan": self.plan.as_json(),
            "faults": [fault.as_json() for fault in (*self.plan.faults, *self.faults)],
            "warnings": self.warnings,
            "takes": [
                {
                    "shot": shot.shot,
                    "version": shot.take.version,
                    "key": shot.take.key,
                    "folder": str(shot.folder),
                    "frames": shot.take.frames.model_dump(),
                    "rendered_before": shot.again,
                }
                for shot in self.done
            ],
            "returned": str(self.returned) if self.returned else None,
        }


def run(plan: Plan, *, weights: Path, raw: bool) -> Generator[Event, None, Outcome]:
    """Render and deliver every shot of a faultless plan, then return the cut.

    Yields what happens. Raises FarmError only for what stops the whole job (weights, disk, another job at work here).
    """
    outcome = Outcome(plan=plan)
    work = plan.deliver_to / ".work"
    if plan.edit is not None and not os.access(plan.folder, os.W_OK):
        what = f"{plan.folder} cannot be written to, and the returned cut belongs there"
        raise ShareUnavailable(
            what,
            why="told before anything is rendered, not after",
            fix="make it writable, or copy the edit and its manifest elsewhere",
            where=Where(file=str(plan.folder)),
        )
    with _alone(work):
        shots = yield from seal(plan.shots, weights=weights, work=work)
        wishes = deliver.Wishes(raw=raw, movie=plan.manifest is None or plan.manifest.document.deliver.movie != "none")
        there = yield from _there(shots, outcome, wishes)
        left = [sealed for sealed in shots if sealed.shot.id not in there]
        if left:
            deliver.check_room(left, folders=[work])
        yield from _shots(shots, there, _Pace(left), weights, outcome, wishes)
        if not outcome.faults:
            _sweep(work)
        try:
            outcome.returned = _return_cut(plan, outcome.done)
        except FarmError as fault:  # the takes are safe, and are told of
            outcome.faults.append(fault)
        write_text(plan.deliver_to / "report.json", json.dumps(outcome.as_json(), indent=2, ensure_ascii=False) + "\n")
    return outcome


def _there(
    shots: Sequence[Sealed], outcome: Outcome, wishes: deliver.Wishes
) -> Generator[Event, None, dict[str, tuple[Take, deliver.Earlier]]]:
    """The takes that need not be rendered, by shot; what is wrong with those on disk is told before anything is."""
    there: dict[str, tuple[Take, deliver.Earlier]] = {}
    for sealed in shots:
        found = deliver.earlier(sealed, folder=outcome.plan.deliver_to, wishes=wishes)
        if found is None:
            continue
        if found.words:
            outcome.warnings.append(f"{sealed.shot.id}: {found.words}")
            yield TakeLacking(shot=sealed.shot.id, warning=found.words)
        if found.usable is not None:
            there[sealed.shot.id] = found.usable, found
    return there


def _shots(
    shots: Sequence[Sealed],
    there: Mapping[str, tuple[Take, deliver.Earlier]],
    pace: _Pace,
    weights: Path,
    outcome: Outcome,
    wishes: deliver.Wishes,
) -> Generator[Event, None, None]:
    loaded: engine.Engine | None = None
    for sealed in shots:
        known = there.get(sealed.shot.id)
        try:
            if known is not None:
                take, earlier = known
                found = deliver.refresh(sealed, take, earlier), earlier.folder
            else:
                reports: list[Report] = []
                for segment in sealed.segments:
                    report = render.finished(segment)
                    if report is None:
                        if loaded is None:
                            yield Probing(what=f"loading {weights.name}", done=0, of=1)
                            loaded = engine.load(weights)
                        report = yield from _segment(sealed, segment.index, loaded, pace)
                    reports.append(report)
                    pace.finish(sealed, segment.index)
                yield Probing(what=f"delivering {sealed.shot.id}", done=0, of=1)
                found = deliver.deliver(sealed, reports, folder=outcome.plan.deliver_to, wishes=wishes)
        except SetupError:
            raise
        except FarmError as fault:
            fault.where = fault.where if fault.where.shot else replace(fault.where, shot=sealed.shot.id)
            outcome.faults.append(fault)
            yield ShotFailed(shot=sealed.shot.id, fault=fault)
            continue
        done = ShotDone(shot=sealed.shot.id, take=found[0], folder=found[1], again=known is not None)
        outcome.done.append(done)
        yield done


def _segment(sealed: Sealed, index: int, loaded: engine.Engine, pace: _Pace) -> Generator[Event, None, Report]:
    """Render one segment, telling every step; closing the job closes the engine."""
    segment = sealed.segments[index]
    with closing(render.render(segment, engine=loaded)) as steps:
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                report: Report = stop.value
                return report
            done, eta = pace.at(sealed, index, step.step / step.of)
            yield Rendering(
                shot=sealed.shot.id,
                segment=index,
                segments=len(sealed.segments),
                step=step.step,
                steps=step.of,
                done=done,
                eta_s=eta,
            )


class _Pace:
    """The job's work in frames x steps, how much of it is done, and the time the rest will take at the pace so far."""

    def __init__(self, shots: Sequence[Sealed]):
        self._todo: dict[str, float] = {}
        for sealed in shots:
            for segment in sealed.segments:
                pixels = segment.canvas.width * segment.canvas.height * segment.window.count
                self._todo[segment.key] = float(pixels * (segment.sampler.steps + 4))
        self._total = sum(self._todo.values())
        for sealed in shots:
            for segment in sealed.segments:
                if render.finished(segment) is not None:
                    self._todo[segment.key] = 0.0
        self._found = self._total - sum(self._todo.values())
        self._done = self._found
        self._started = time.monotonic()

    def at(self, sealed: Sealed, index: int, share: float) -> tuple[float, float | None]:
        """The share of the job that is done with this share of a segment done, and the seconds left."""
        done = self._done + self._todo[sealed.segments[index].key] * share
        rendered = done - self._found
        elapsed = time.monotonic() - self._started
        left = elapsed / rendered * (self._total - done) if rendered > 0 else None
        return (done / self._total if self._total else 1.0), left

    def finish(self, sealed: Sealed, index: int) -> None:
        """Count a segment as done, once."""
        self._done += self._todo.get(sealed.segments[index].key, 0.0)
        self._todo[sealed.segments[index].key] = 0.0


# --------------------------------------------------------------------------- the returned cut


def _return_cut(plan: Plan, done: Sequence[ShotDone]) -> Path | None:
    """Write NAME.scail2.otio beside the edit, the takes linked; None without an edit or a take."""
    edit = plan.edit
    if edit is None or not done:
        return None
    shots = {shot.id: shot for shot in plan.shots}
    links: dict[str, TakeLink] = {}
    for shot in done:
        take = shot.take
        for use in shots[shot.shot].uses:
            if use.clip is None or use.used is None:
                continue
            links[use.clip.id] = TakeLink(
                folder=shot.folder,
                prefix=take.pattern.partition("####")[0],
                padding=4,
                suffix=".exr",
                first_file=take.first_file,
                frame_step=take.plate.step,
                count=take.frames.count,
                start=use.used.time_of(take.frames.first),
                metadata={
                    "take": take.key,
                    "shot": take.shot,
                    "version": take.version,
                    "movie": take.movie,
                },
            )
    path = plan.folder / f"{plan.name}.scail2.otio"
    write_edit(link_takes(edit, links, beside=plan.folder), path)
    return path


# --------------------------------------------------------------------------- the work folder


@contextmanager
def _alone(work: Path) -> Generator[None]:
    """Hold the work folder: two jobs never render into one delivery at the same time.

    Raises DeliveryBusy when another process holds it, StorageError when it cannot be made.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = (work / "lock").open("w")
    except OSError as error:
        raise storage_error(error, work) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DeliveryBusy("this cut is being rendered by another process", where=Where(file=str(work))) from None
        except OSError as error:  # some network file systems know no locks
            raise storage_error(error, work) from error
        yield


def _sweep(work: Path) -> None:
    """Remove the segments of a job whose takes are all delivered."""
    try:
        for entry in work.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
    except OSError as error:
        raise storage_error(error, work) from error
