"""The other end of dispatch: a process that does one task after another, where the farm meets the corridor.

Tasks come in on stdin, a line each; Said lines go out on stdout. When stdin ends, nobody is there any more who could
want what is being done: the process ends itself at once, in the middle of whatever it computes. All that libraries
print goes to stderr, which is the log of the task.

The corridor is imported when a task needs it, so that a child that only looks at frames never opens the engine.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from pydantic import TypeAdapter

from scail2_farm.documents import (
    PLAN,
    PLANNED,
    PLANNED_SHOTS,
    REPORT,
    CheckTask,
    DeliverTask,
    DoneSaid,
    FailedSaid,
    Failure,
    Fault,
    Held,
    MovieCodec,
    Planned,
    PlannedShot,
    PlanTask,
    RenderTask,
    ReturnTask,
    Said,
    SealedShot,
    StepSaid,
    Submission,
    Take,
    Task,
    document_text,
    read_document,
    segment_folder,
    write_text,
    written_whole,
)
from scail2_farm.errors import (
    EngineFailed,
    FarmError,
    FrameTruncated,
    GuardFailed,
    InputError,
    ResourceError,
    SetupError,
    ShareUnavailable,
    StorageError,
    Where,
    storage_error,
)
from scail2_farm.farm.journal import log_as_json
from scail2_farm.settings import check_weights

if TYPE_CHECKING:
    from scail2_farm.documents import Report, Segment
    from scail2_farm.editorial.takes import Rebased
    from scail2_farm.engine import Engine
    from scail2_farm.plan import Plan, Probing

log = logging.getLogger(__name__)
R = TypeVar("R")

STEPS_A_SECOND = 5
"""How often what is being looked at is told; steps of a segment are told each."""

_Tasks: TypeAdapter[Task] = TypeAdapter(Task)


def main() -> None:
    """Do the tasks that come on stdin until it ends."""
    tasks, words = _own_pipes()
    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read_tasks, args=(tasks, lines), name="tasks", daemon=True).start()
    faulthandler.enable()
    log_as_json(sys.stderr)
    worker = Worker(words)
    while True:
        worker.do(lines.get())


def _own_pipes() -> tuple[int, int]:
    """The descriptors of stdin and stdout, moved to where no library and no child of ours finds them."""
    tasks, words = os.dup(0), os.dup(1)  # dup'ed descriptors are not inherited
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return tasks, words


def _read_tasks(tasks: int, lines: SimpleQueue[bytes]) -> None:
    try:
        with os.fdopen(tasks, "rb") as pipe:
            for line in pipe:
                lines.put(line)
    finally:
        os.kill(os.getpid(), signal.SIGKILL)  # no exit handler, no thread at work and no library has a say in it


class Worker:
    """Does tasks and says on the descriptor `words` what becomes of them; the engine stays between segments."""

    def __init__(self, words: int):
        self._words = words
        self._engine: Engine | None = None
        self._told = float("-inf")

    def do(self, line: bytes) -> None:
        """Do the task of one line; whatever becomes of it is said."""
        said: DoneSaid | FailedSaid
        task: Task | None = None
        self._told = float("-inf")
        try:
            task = _Tasks.validate_json(line)
            log.info("a task is begun", extra={"event": "begun", "task": task.task})
            said = self._done(task)
            log.info("a task is done", extra={"event": "done", "task": task.task})
        except FarmError as error:
            said = FailedSaid(fault=Fault.of(error), kind=failure(error, work=_work(task)))
            log.warning("a task failed", extra={"event": "failed", **error.as_json()}, exc_info=True)
        except MemoryError as error:
            said = FailedSaid(fault=Fault.of(ResourceError(f"no memory left: {error}")), kind="memory")
            log.exception("a task found no memory", extra={"event": "failed"})
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            said = FailedSaid(fault=Fault.of(EngineFailed(what, fix="report it with the log")), kind="crash")
            log.exception("a task crashed", extra={"event": "crashed"})
        sys.stdout.flush()  # the log's end comes before the word that ends it
        self._say(said)

    def _done(self, task: Task) -> DoneSaid:
        match task:
            case PlanTask():
                with _rings_left():
                    return self._plan(task)
            case RenderTask():
                return self._render(task)
            case CheckTask():
                return self._check(task)
            case DeliverTask():
                return self._deliver(task)
            case ReturnTask():
                return self._return(task)

    # ------------------------------------------------------------------- saying

    def _say(self, said: Said) -> None:
        rest = memoryview(said.model_dump_json(by_alias=True).encode() + b"\n")
        while rest:
            rest = rest[os.write(self._words, rest) :]

    def _tell(self, what: str, done: int, of: int) -> None:
        """Say what is being looked at, now and then."""
        now = time.monotonic()
        if now - self._told >= 1 / STEPS_A_SECOND:
            self._told = now
            self._say(StepSaid(what=what, step=done, of=of))

    def _watched(self, steps: Generator[Probing, None, R]) -> R:
        """A generator of the corridor run to its result, telling what it looks at."""
        with closing(steps):
            while True:
                try:
                    step = next(steps)
                except StopIteration as stop:
                    return stop.value
                self._tell(step.what, step.done, step.of)

    # ------------------------------------------------------------------- segments

    def _render(self, task: RenderTask) -> DoneSaid:
        """A segment, from inputs that were what they were planned to be before it and are so after it."""
        from scail2_farm import seal
        from scail2_farm.render import forget, render

        work, shot = Path(task.work), task.shot
        segment = shot.segment(task.index, work=work, folder=Path(task.folder))
        digests = seal.memory_of(work)
        seal.unchanged(shot, task.index, digests=digests)
        engine = self._loaded(segment)
        rendering = closing(render(segment, engine=engine))
        with _as_planned(), engine.careful() if task.careful else nullcontext(), rendering as steps:
            while True:
                try:
                    step = next(steps)
                except StopIteration as stop:
                    report: Report = stop.value
                    break
                self._say(StepSaid(what=shot.id, step=step.step, of=step.of, seconds=step.seconds))
        try:
            seal.unchanged(shot, task.index, digests=digests)
        except FarmError:
            forget(Path(task.folder))  # whoever finds it must not take it for a segment
            raise
        return DoneSaid(
            folder=task.folder,
            seconds=report.seconds,
            steps_seconds=report.steps_seconds,
            peak_bytes=report.peak_bytes,
        )

    def _loaded(self, segment: Segment) -> Engine:
        """The engine a segment needs; that of another snapshot or precision is let go of first."""
        from scail2_farm.render import engine_for, suits

        if not suits(self._engine, segment):
            self._engine = None
            self._say(StepSaid(what=f"loading {Path(segment.weights.path).name}", step=0, of=segment.sampler.steps))
            self._engine = engine_for(segment)
        return self._engine

    def _check(self, task: CheckTask) -> DoneSaid:
        """What a worker handed in, looked at by another process; its inputs must still be what was planned."""
        from scail2_farm import guards, seal

        seal.unchanged(task.shot, task.index, digests=seal.memory_of(Path(task.work)))
        with _as_planned():
            guards.check(task.shot.segment(task.index, work=Path(task.work), folder=Path(task.folder)))
        return DoneSaid(folder=task.folder)

    # ------------------------------------------------------------------- before and after

    def _plan(self, task: PlanTask) -> DoneSaid:
        """The plan of a submission, its shots sealed, a line each; PLANNED appears last."""
        from scail2_farm.plan import plan

        submission = task.submission
        path, manifest, home = _files(submission)
        found = self._watched(
            plan(
                path,
                manifest=manifest,
                timeline=submission.timeline,
                rate=submission.rate,
                search=[Path(one) for one in submission.search],
                dropped=True,
                home=home,
                fallback=Path(task.returned),
                seeds=task.seeds,
                loras={name: Path(path) for name, path in task.loras.items()},
            )
        )
        said = found.manifest.document if found.manifest else None
        movie = found.movie
        folder = Path(task.folder)
        _make(folder)
        with written_whole(folder / PLANNED_SHOTS) as part, part.open("w", encoding="utf-8") as lines:
            if not found.faults:
                for shot in self._planned_shots(found, task, movie=movie):
                    lines.write(shot.model_dump_json(by_alias=True) + "\n")
        with written_whole(folder / PLAN) as part, part.open("w", encoding="utf-8") as text:
            text.writelines(found.pieces())
        planned = Planned(
            faults=tuple(Fault.of(fault) for fault in found.faults),
            held=tuple(Held(shot=shot, fault=Fault.of(fault)) for shot, fault in found.held.items()),
            notes=found.notes,
            warnings=tuple(f"{shot.id}: {warning}" for shot in found.shots for warning in shot.warnings),
            shots=0 if found.faults else len(found.shots),
            deliver_to=str(found.deliver_to),
            cut=str(found.cut) if found.cut else None,
            movie=movie,
            supersede=said is not None and said.supersede,
        )
        if planned.shots or planned.held:
            _make(found.deliver_to)  # from now on, where it is not there, its volume is away
        write_text(folder / PLANNED, document_text(planned))
        return DoneSaid(folder=task.folder)

    def _planned_shots(self, found: Plan, task: PlanTask, *, movie: MovieCodec | None) -> Iterator[PlannedShot]:
        """The shots of a plan by content; what earlier versions hold of them is put back into the work folder."""
        from scail2_farm import deliver, seal
        from scail2_farm.render import finished

        work, wishes = Path(task.work), deliver.Wishes(raw=task.submission.raw, movie=movie)
        for step in seal.seal(found.shots, weights=check_weights(task.weights), work=work):
            if not isinstance(step, SealedShot):
                self._tell(step.what, step.done, step.of)
                continue
            earlier = deliver.earlier(step, folder=found.deliver_to, wishes=wishes)
            if earlier is not None and earlier.usable is not None:
                keys = (segment.key for segment in step.segments)
                whole = tuple(finished(segment_folder(work, key), key) is not None for key in keys)
                yield PlannedShot(shot=step, finished=whole, delivered=True)
            else:
                whole = deliver.restore(step, folder=found.deliver_to, work=work, wishes=wishes)
                yield PlannedShot(shot=step, finished=whole, delivered=False)

    def _deliver(self, task: DeliverTask) -> DoneSaid:
        """A shot as its next version, or the one that it is already, in a folder that planning has made.

        Where that is not there any more its volume is away, and what lies under its name is another disk. A shot of
        which anything changed since it was planned is not delivered: its segments show the one and the other.
        """
        from scail2_farm import deliver, seal

        if not Path(task.to).is_dir():
            raise ShareUnavailable(
                f"the delivery folder {task.to} is not there any more",
                fix="reconnect its volume, or make the folder again; the farm goes on by itself",
                where=Where(file=task.to, shot=task.shot.id),
            )
        self._tell(f"delivering {task.shot.id}", 0, 1)
        digests, wishes = seal.memory_of(Path(task.work)), deliver.Wishes(raw=task.raw, movie=task.movie)
        with _as_planned():
            for index in range(len(task.shot.segments)):
                seal.unchanged(task.shot, index, digests=digests)
            with deliver.alone(Path(task.to)):
                take, folder = deliver.deliver(task.shot, folder=Path(task.to), work=Path(task.work), wishes=wishes)
        return DoneSaid(folder=str(folder), version=take.version)

    def _return(self, task: ReturnTask) -> DoneSaid:
        """The cut with the takes linked, and the report beside them; without an edit or a take the report alone."""
        from scail2_farm import deliver
        from scail2_farm.editorial.takes import link_takes, rebased, write_edit
        from scail2_farm.plan import edit_of
        from scail2_farm.versions import TAKE

        planned = read_document(Path(task.plan) / PLANNED, Planned)
        takes = [(_lean(read_document(Path(one) / TAKE, Take)), Path(one)) for one in task.takes]
        cut: Path | None = None
        moved: tuple[Rebased, ...] = ()
        if planned.cut is not None and takes:
            cut = Path(planned.cut)
            self._tell(f"writing {cut.name}", 0, 1)
            submission = task.submission
            path, manifest, home = _files(submission)
            edit = edit_of(
                path,
                manifest=manifest,
                timeline=submission.timeline,
                rate=submission.rate,
                dropped=True,
                home=home,
            )
            assert edit is not None, "a plan without an edit has no cut"
            edit, moved = rebased(edit, beside=cut.parent)
            write_edit(link_takes(edit, deliver.links(takes), beside=cut.parent), cut)
        self._report(task, planned, takes, cut, moved)
        return DoneSaid(folder="" if cut is None else str(cut))

    def _report(
        self,
        task: ReturnTask,
        planned: Planned,
        takes: Sequence[tuple[Take, Path]],
        cut: Path | None,
        moved: Sequence[Rebased],
    ) -> None:
        """What became of a job, as `submit` in place leaves it; `rebased` are addresses that had to change."""
        report: dict[str, object] = {
            "faults": [fault.model_dump(mode="json") for fault in task.faults],
            "warnings": list(planned.warnings),
            "takes": [
                {
                    "shot": take.shot,
                    "version": take.version,
                    "key": take.key,
                    "folder": str(place),
                    "frames": take.frames.model_dump(),
                }
                for take, place in takes
            ],
            "returned": None if cut is None else str(cut),
            "rebased": [{"written": one.written, "now": one.now} for one in moved],
        }
        plan = Path(task.plan) / PLAN
        try:
            read = plan.open(encoding="utf-8")
        except OSError as error:
            raise storage_error(error, plan) from error
        with read, written_whole(Path(planned.deliver_to) / REPORT) as part, part.open("w", encoding="utf-8") as text:
            text.write('{"plan": ')
            shutil.copyfileobj(read, text)  # as it was written: that of a long cut is too much to be held at once
            text.write("," + json.dumps(report, indent=2, ensure_ascii=False)[1:] + "\n")


def failure(error: FarmError, *, work: str | None) -> Failure:
    """What sort of failure an error is, which decides what becomes of the task.

    `changed`: an input is not what it was. A file in `work` that is not is a matter of the farm's own storage, and one
    whose folder is gone too is on a volume that is away.
    """
    from scail2_farm.seal import is_away

    match error:
        case InputError():
            return "input"
        case SetupError():
            return "setup"
        case FrameTruncated():
            if error.where.file is None:
                return "storage"
            file = Path(error.where.file)
            ours = work is not None and file.is_relative_to(work)
            return "storage" if ours or is_away(file.parent) else "changed"
        case StorageError():
            return "storage"
        case ResourceError():
            return "memory"
        case GuardFailed():
            return "guard"
        case _:
            return "engine"


def _files(submission: Submission) -> tuple[Path, Path | None, Path | None]:
    """What is submitted, the manifest beside it when that is an edit, and the folder relative paths are taken in."""
    manifest, home = Path(submission.manifest), Path(submission.home) if submission.home else None
    return (manifest, None, home) if submission.edit is None else (Path(submission.edit), manifest, home)


def _lean(take: Take) -> Take:
    """A take without its files, which of ten thousand takes are a million."""
    return take.model_copy(update={"files": ()})


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error


@contextmanager
def _as_planned() -> Generator[None]:
    """What was fit to be planned with and is not any more was changed, or taken away, since."""
    try:
        yield
    except InputError as fault:
        raise FrameTruncated(fault.what, where=fault.where) from fault


def _work(task: Task | None) -> str | None:
    """The work folder of a task that has one."""
    return None if task is None or isinstance(task, ReturnTask) else task.work


@contextmanager
def _rings_left() -> Generator[None]:
    """Objects that refer to one another in a ring stay for a while: a plan makes none, and looking for some among its
    million objects again and again takes a quarter of its time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
