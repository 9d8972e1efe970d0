"""The corridor walked once, in this process: a plan in; takes, sheets and the returned cut out.

A job that is stopped, even by SIGKILL, goes on at its first unfinished segment when it is submitted again: finished
segments are found by their keys, in the work folder or in an earlier version of the shot, finished takes by theirs. A
segment counts once the guards have looked at it and its inputs are still what they were; one that they refuse twice is
kept as evidence. A shot that fails does not stop the others.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Generator, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from scail2_farm import deliver, engine, evidence, guards, render
from scail2_farm.digests import Digests
from scail2_farm.documents import REPORT, SealedShot, Segment, Take, segment_folder, write_text
from scail2_farm.editorial.takes import link_takes, write_edit
from scail2_farm.errors import (
    FarmError,
    FrameTruncated,
    GuardFailed,
    SetupError,
    ShareUnavailable,
    Where,
    storage_error,
)
from scail2_farm.evidence import EVIDENCE
from scail2_farm.plan import Plan, Probing
from scail2_farm.seal import memory_of, seal, unchanged
from scail2_farm.settings import load_settings


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
    with deliver.alone(plan.deliver_to):
        shots: list[SealedShot] = []
        for step in seal(plan.shots, weights=weights, work=work):
            if isinstance(step, SealedShot):
                shots.append(step)
            else:
                yield step
        wishes = deliver.Wishes(raw=raw, movie=plan.movie)
        there = yield from _there(shots, outcome, wishes)
        left = [shot for shot in shots if shot.id not in there]
        for done, shot in enumerate(left):
            yield Probing(what=shot.id, done=done, of=len(left))
            deliver.restore(shot, folder=plan.deliver_to, work=work, wishes=wishes)
        if left:
            deliver.check_room(left, folders=[work])
        stuck = evidence.sweep(work / EVIDENCE, older_than_days=load_settings().scratch_days)
        outcome.warnings += [f"old evidence could not be removed: {fault.what} ({fault.where.file})" for fault in stuck]
        furnace = _Furnace(weights=weights, work=work, digests=memory_of(work), pace=_Pace(left, work))
        yield from _shots(shots, there, furnace, outcome, wishes)
        if not outcome.faults:
            _sweep(work)
        try:
            outcome.returned = _return_cut(plan, outcome.done)
        except FarmError as fault:  # the takes are safe, and are told of
            outcome.faults.append(fault)
        write_text(plan.deliver_to / REPORT, json.dumps(outcome.as_json(), indent=2, ensure_ascii=False) + "\n")
    return outcome


def _there(shots: Sequence[SealedShot], outcome: Outcome, wishes: deliver.Wishes) -> Generator[Event, None, set[str]]:
    """The shots that need not be rendered; what is wrong with the takes on disk is told before anything is."""
    there: set[str] = set()
    for shot in shots:
        found = deliver.earlier(shot, folder=outcome.plan.deliver_to, wishes=wishes)
        if found is None:
            continue
        if found.words:
            outcome.warnings.append(f"{shot.id}: {found.words}")
            yield TakeLacking(shot=shot.id, warning=found.words)
        if found.usable is not None:
            there.add(shot.id)
    return there


def _shots(
    shots: Sequence[SealedShot], there: Set[str], furnace: _Furnace, outcome: Outcome, wishes: deliver.Wishes
) -> Generator[Event, None, None]:
    for shot in shots:
        again = shot.id in there
        try:
            if not again:
                for index in range(len(shot.segments)):
                    yield from furnace.render(shot, index)
                yield Probing(what=f"delivering {shot.id}", done=0, of=1)
            take, folder = deliver.deliver(shot, folder=outcome.plan.deliver_to, work=furnace.work, wishes=wishes)
        except SetupError:
            raise
        except FarmError as fault:
            fault.where = fault.where if fault.where.shot else replace(fault.where, shot=shot.id)
            outcome.faults.append(fault)
            yield ShotFailed(shot=shot.id, fault=fault)
            continue
        done = ShotDone(shot=shot.id, take=take, folder=folder, again=again)
        outcome.done.append(done)
        yield done


@dataclass(slots=True, kw_only=True)
class _Furnace:
    """What renders the segments of a job, one after the other; the weights are opened when the first must be."""

    weights: Path
    work: Path
    digests: Digests
    pace: _Pace
    engine: engine.Engine | None = None

    def render(self, shot: SealedShot, index: int) -> Generator[Event, None, None]:
        """Render a segment that is not in the work folder yet, look at it, and put it there.

        One that the guards refuse is tried once more, in the careful policy, and is evidence when they refuse it again.
        Raises FarmError.
        """
        final = shot.segment(index, work=self.work)
        if render.finished(Path(final.folder), final.key) is None:
            if not render.suits(self.engine, final):
                yield Probing(what=f"loading {self.weights.name}", done=0, of=1)
                self.engine = None  # two do not fit
                self.engine = render.engine_for(final)
            folder = Path(final.folder)
            stage = shot.segment(index, work=self.work, folder=render.stage_of(folder))
            unchanged(shot, index, digests=self.digests)
            try:
                yield from self._stage(shot, stage, self.engine)
            except GuardFailed:
                render.forget(Path(stage.folder))
                yield from self._once_more(shot, stage, self.engine)
            render.publish(Path(stage.folder), folder)
        self.pace.finish(shot, index)

    def _once_more(self, shot: SealedShot, stage: Segment, loaded: engine.Engine) -> Generator[Event, None, None]:
        try:
            with loaded.careful():
                yield from self._stage(shot, stage, loaded)
        except GuardFailed as refused:
            told = evidence.keep(refused, segment=stage, root=self.work / EVIDENCE)
            render.forget(Path(stage.folder))  # where nothing could be kept
            raise told from refused

    def _stage(self, shot: SealedShot, stage: Segment, loaded: engine.Engine) -> Generator[Event, None, None]:
        """Render one segment, telling every step, and look at it; closing the job closes the engine."""
        try:
            with closing(render.render(stage, engine=loaded)) as steps:
                for step in steps:
                    done, eta = self.pace.at(shot, stage.index, step.step / step.of)
                    yield Rendering(
                        shot=shot.id,
                        segment=stage.index,
                        segments=stage.count,
                        step=step.step,
                        steps=step.of,
                        done=done,
                        eta_s=eta,
                    )
            guards.check(stage)
            unchanged(shot, stage.index, digests=self.digests)
        except FrameTruncated:
            render.forget(Path(stage.folder))
            raise


class _Pace:
    """The job's work in frames x steps, how much of it is done, and the time the rest will take at the pace so far."""

    def __init__(self, shots: Sequence[SealedShot], work: Path):
        self._todo: dict[str, float] = {}
        for shot in shots:
            for segment in shot.segments:
                pixels = segment.canvas.width * segment.canvas.height * segment.window.count
                self._todo[segment.key] = float(pixels * (segment.sampler.steps + 4))
        self._total = sum(self._todo.values())
        for shot in shots:
            for segment in shot.segments:
                if render.finished(segment_folder(work, segment.key), segment.key) is not None:
                    self._todo[segment.key] = 0.0
        self._found = self._total - sum(self._todo.values())
        self._done = self._found
        self._started = time.monotonic()

    def at(self, shot: SealedShot, index: int, share: float) -> tuple[float, float | None]:
        """The share of the job that is done with this share of a segment done, and the seconds left."""
        done = self._done + self._todo[shot.segments[index].key] * share
        rendered = done - self._found
        elapsed = time.monotonic() - self._started
        left = elapsed / rendered * (self._total - done) if rendered > 0 else None
        return (done / self._total if self._total else 1.0), left

    def finish(self, shot: SealedShot, index: int) -> None:
        """Count a segment as done, once."""
        self._done += self._todo.get(shot.segments[index].key, 0.0)
        self._todo[shot.segments[index].key] = 0.0


# --------------------------------------------------------------------------- the returned cut


def _return_cut(plan: Plan, done: Sequence[ShotDone]) -> Path | None:
    """Write NAME.scail2.otio beside the edit, the takes linked; None without an edit or a take."""
    edit = plan.edit
    if edit is None or not done:
        return None
    links = deliver.links((shot.take, shot.folder) for shot in done)
    path = plan.folder / f"{plan.name}.scail2.otio"
    write_edit(link_takes(edit, links, beside=plan.folder), path)
    return path


# --------------------------------------------------------------------------- the work folder


def _sweep(work: Path) -> None:
    """Remove the segments of a job whose takes are all delivered; what an earlier one left as evidence stays."""
    try:
        for entry in work.iterdir():
            if entry.is_dir() and entry.name != EVIDENCE:
                shutil.rmtree(entry)
    except OSError as error:
        raise storage_error(error, work) from error
