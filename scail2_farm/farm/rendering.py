"""Segments through child processes: leased, rendered into a stage, looked at by another process, published by a rename.

Every step of it may be the last one: what is known is in the ledger and on disk, and `recover` goes on from there. A
child that dies takes nothing with it but the segment it was at. What the guards refuse twice is kept as evidence.
"""

from __future__ import annotations

import logging
import os
import signal
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from scail2_farm import evidence
from scail2_farm.documents import (
    REPORT,
    CheckTask,
    DoneSaid,
    FailedSaid,
    Fault,
    RenderTask,
    Said,
    StepSaid,
    sync_folder,
)
from scail2_farm.errors import EngineFailed, GuardFailed, ResourceError, ShareUnavailable, Where, storage_error
from scail2_farm.farm.dispatch import Child, Gone, Noise, cannot_start, orphans
from scail2_farm.farm.host import free_bytes, memory_bytes, memory_kills
from scail2_farm.farm.ledger import Kind, Lease, WorkerState
from scail2_farm.farm.premises import MOST_LOSSES, Premises
from scail2_farm.farm.receipts import on_a_farm

log = logging.getLogger(__name__)

BEAT_EVERY_S = 1.0
ASKED_AGAIN_S = 1.0
"""How long a worker rests for which nothing of all that is ready was, unless something happens: it is a walk through
the whole queue."""
MEMORY_SHARE = 0.9
"""Of the machine's memory, what its engines may hold together."""


@dataclass(slots=True, kw_only=True)
class _Turn:
    """A segment at work in a child; `ending` is why we ended it, when we did."""

    lease: Lease
    folder: Path
    beaten: float = 0.0
    memory_kills: int = 0
    """How often this machine had ended a process for want of memory when the segment was begun."""
    spoke: bool = False
    ending: tuple[Kind, Fault] | None = None
    cancelled: bool = False


@dataclass(slots=True, kw_only=True)
class _HandedIn:
    """A segment that its worker calls done."""

    lease: Lease
    folder: Path
    done: DoneSaid
    losses: int = 0
    """How often whoever looked at it was ended from outside, or hung."""
    not_before: float = float("-inf")
    why: str = ""
    """What it waits for, when it waits."""


class Rendering:
    """The render slots and the slot that looks at what they hand in."""

    def __init__(self, premises: Premises):
        self._premises = premises
        self._slots = tuple(f"render-{number}" for number in range(1, premises.settings.workers + 1))
        self._children: dict[str, Child] = {slot: premises.child(slot) for slot in (*self._slots, "check")}
        self._turns: dict[str, _Turn] = {}
        self._handed_in: deque[_HandedIn] = deque()
        self._checking: _HandedIn | None = None
        self._memory = int(memory_bytes() * MEMORY_SHARE) // len(self._slots)
        self._watch = premises.watch()
        self._told: dict[str, WorkerState] = {}
        self._nothing: dict[str, tuple[int, float]] = {}
        """Slots that were given nothing: at which mark of the ledger, and until when they do not ask again."""

    @property
    def slots(self) -> tuple[str, ...]:
        """The children this room answers for."""
        return tuple(self._children)

    def child(self, slot: str) -> Child:
        """The child of a slot."""
        return self._children[slot]

    @property
    def busy(self) -> bool:
        """Whether anything is being rendered or looked at."""
        return bool(self._turns or self._handed_in or self._checking)

    @property
    def looked_at(self) -> set[tuple[str, str, int]]:
        """Job, shot and number (from 1) of the segments that are rendered and not published yet."""
        waiting = [*self._handed_in, *([self._checking] if self._checking else [])]
        return {(one.lease.job, one.lease.shot_name, one.lease.index + 1) for one in waiting}

    # ------------------------------------------------------------------- after a crash

    def recover(self) -> bool:
        """Take up what an earlier daemon left; False while one of its children still lives.

        What was handed in whole is looked at and published; the rest is ready again, and nobody is blamed.
        """
        ledger, places = self._premises.ledger, self._premises.places
        left = [running for running in ledger.running() if running.lease.key not in self._at_work()]
        for running in left:
            if orphans(places.locks, running.worker):
                return False
        for running in left:
            lease = running.lease
            folder = next(
                (
                    f
                    for f in (places.segment(lease.key), places.stage(lease.key, lease.token))
                    if (f / REPORT).is_file()
                ),
                None,
            )
            if folder is None:
                ledger.release(lease.key, lease.token, "lost")
            else:
                self._handed_in.append(_HandedIn(lease=lease, folder=folder, done=DoneSaid()))
        return True

    def _at_work(self) -> set[str]:
        keys = {turn.lease.key for turn in self._turns.values()} | {one.lease.key for one in self._handed_in}
        return keys | ({self._checking.lease.key} if self._checking else set())

    # ------------------------------------------------------------------- giving work

    def give(self, *, more: bool) -> None:
        """Let idle children go on; `more` allows new segments to be begun."""
        self._look_at_next()
        if more:
            for slot in self._slots:
                if slot not in self._turns:
                    self._begin(slot)

    def _begin(self, slot: str) -> None:
        ledger, places, child = self._premises.ledger, self._premises.places, self._children[slot]
        now = self._premises.clock.monotonic()
        mark, until = self._nothing.get(slot, (-1, now))
        if now < until and ledger.mark() == mark:
            return
        if not ledger.any_ready():
            self._tell(slot, "idle" if child.alive else "offline")
            return
        if not child.ready(places.log(slot)):
            return
        if not places.work.is_dir():
            raise ShareUnavailable(f"{places.work} is not there any more", where=Where(file=str(places.work)))
        room = free_bytes(places.work) - self._premises.kept_free
        lease = ledger.lease(
            slot,
            boot=self._premises.boot,
            pid=child.pid or 0,
            pid_start=child.pid_start or "",
            free_memory=self._memory,
            free_disk=max(0, room),
        )
        if lease is None:
            self._tell(slot, "idle")
            self._nothing[slot] = ledger.mark(), now + ASKED_AGAIN_S
            return
        published = places.segment(lease.key)
        if (published / REPORT).is_file():  # rendered before, by whomever
            self._handed_in.append(_HandedIn(lease=lease, folder=published, done=DoneSaid()))
            return
        stage = places.stage(lease.key, lease.token)
        task = RenderTask(
            shot=lease.document,
            index=lease.index,
            work=str(places.work),
            folder=str(stage),
            careful=lease.careful,
        )
        self._turns[slot] = _Turn(lease=lease, folder=stage, beaten=now, memory_kills=memory_kills())
        child.give(task, log=places.log(lease.log))
        facts = {
            "event": "started",
            "job": lease.job,
            "shot": lease.shot_name,
            "segment": lease.index + 1,
            "slot": slot,
        }
        log.info("a segment is started", extra=facts)
        self._tell(slot, "busy")  # last: a ledger that cannot be written to just now must not lose the lease

    def _tell(self, slot: str, state: WorkerState) -> None:
        """Tell the ledger what a worker is at, when it is something else."""
        if self._told.get(slot) != state:
            self._premises.ledger.worker(slot, state=state, pid=self._children[slot].pid)
            self._told[slot] = state

    def _look_at_next(self) -> None:
        now = self._premises.clock.monotonic()
        one = next((one for one in self._handed_in if one.not_before <= now), None)
        child, places = self._children["check"], self._premises.places
        if self._checking is not None or one is None:
            return
        if not child.ready(places.log("check")):
            return
        self._handed_in.remove(one)
        self._checking = one
        task = CheckTask(shot=one.lease.document, index=one.lease.index, work=str(places.work), folder=str(one.folder))
        child.give(task, log=places.log(f"{one.lease.log}.check"))

    # ------------------------------------------------------------------- hearing of it

    def heard(self, slot: str, said: Said | Gone | Noise) -> None:
        """What a child of this room said, or that it is gone."""
        if slot == "check":
            self._checked(said)
            return
        turn = self._turns.get(slot)
        if turn is None:
            return
        match said:
            case StepSaid():
                turn.spoke = True
                self._beat(slot, turn, said)
            case DoneSaid():
                self._done(slot, turn, said)
            case FailedSaid():
                self._failed(turn, said.kind, said.fault)
                del self._turns[slot]
            case Noise():
                turn.ending = turn.ending or ("engine", _noise(said))
                self._children[slot].kill()
            case Gone():
                self._gone(slot, turn, said)

    def _beat(self, slot: str, turn: _Turn, said: StepSaid) -> None:
        now = self._premises.clock.monotonic()
        if now - turn.beaten < BEAT_EVERY_S and said.step != said.of:
            return
        turn.beaten = now
        if not self._premises.ledger.beat(turn.lease.key, turn.lease.token, step=said.step, of=said.of):
            turn.cancelled = True  # somebody else has it: what this one makes is refused anyway
            self._children[slot].kill()

    def _done(self, slot: str, turn: _Turn, said: DoneSaid) -> None:
        expected = self._premises.ledger.expected_seconds(turn.lease.work)
        if expected is not None and self._watch.suspiciously_fast(said.seconds, expected):
            what = f"it was done in {said.seconds:.1f} s, where this machine needs about {expected:.0f} s"
            self._failed(turn, "guard", Fault.of(GuardFailed(what, where=Where(shot=turn.lease.shot_name))))
        else:
            self._handed_in.append(_HandedIn(lease=turn.lease, folder=turn.folder, done=said))
        del self._turns[slot]

    def _gone(self, slot: str, turn: _Turn, gone: Gone) -> None:
        lease, ledger = turn.lease, self._premises.ledger
        if turn.cancelled:
            ledger.release(lease.key, lease.token, "cancelled")
            self._discard(turn.folder)
        elif turn.ending is not None:
            kind, fault = turn.ending
            self._failed(turn, kind, fault, gone=gone)
        elif gone.signal == signal.SIGKILL and memory_kills() > turn.memory_kills:
            what = f"the system ended the engine in segment {lease.index + 1}: there was no memory left"
            self._failed(turn, "memory", Fault.of(ResourceError(what, where=Where(shot=lease.shot_name))), gone=gone)
        elif gone.gave_up and not turn.spoke:
            written = self._premises.places.log(lease.log)
            self._failed(turn, "setup", Fault.of(cannot_start(slot, gone, written)), gone=gone)
        elif gone.from_outside and lease.losses < MOST_LOSSES:
            ledger.release(lease.key, lease.token, "lost")
            self._discard(turn.folder)
        else:
            self._failed(turn, "crash", self._crashed(lease, gone), gone=gone)
        del self._turns[slot]

    def _failed(self, turn: _Turn, kind: Kind, fault: Fault, *, gone: Gone | None = None) -> None:
        lease = turn.lease
        ref = f"{lease.job}/{lease.shot_name}"
        fault = on_a_farm(fault, ref=ref, by_itself=kind in ("storage", "setup"))
        fault = self._with_evidence(turn, fault) if kind == "guard" and lease.careful else self._to_last(turn, fault)
        verdict = self._premises.ledger.fail(
            lease.key,
            lease.token,
            kind,
            fault,
            rc=gone.rc if gone else None,
            signal=gone.signal if gone else None,
        )
        facts = {"event": "failed", "job": lease.job, "shot": lease.shot_name, "segment": lease.index + 1}
        log.warning("a segment failed", extra=facts | {"kind": kind, "what": fault.what, "verdict": verdict})
        self._discard(turn.folder)

    def _checked(self, said: Said | Gone | Noise) -> None:
        one = self._checking
        if one is None or isinstance(said, StepSaid):
            return
        match said:
            case DoneSaid():
                self._publish(one)
            case FailedSaid(kind="storage" | "memory" | "setup"):
                self._look_again(one, said.fault.what)  # it is rendered: what a disk or a share does is waited for
            case FailedSaid(kind="changed"):
                self._failed(_Turn(lease=one.lease, folder=one.folder), "changed", said.fault)
            case FailedSaid():
                self._failed(_Turn(lease=one.lease, folder=one.folder), "guard", said.fault)
            case Noise():
                self._children["check"].kill()
                return
            case Gone() if said.from_outside and one.losses < MOST_LOSSES:
                one.losses += 1
                self._look_again(one, "who looked at it was ended", at_once=one.losses == 1)
            case Gone() if said.gave_up:
                fault = cannot_start("check", said, self._premises.places.log(f"{one.lease.log}.check"))
                self._look_again(one, fault.what)
            case Gone():
                what = "looking at the rendered frames ended the process that did"
                fault = Fault.of(GuardFailed(what, where=Where(shot=one.lease.shot_name, file=str(one.folder))))
                self._failed(_Turn(lease=one.lease, folder=one.folder), "guard", fault)
        self._checking = None

    def _look_again(self, one: _HandedIn, why: str, *, at_once: bool = False) -> None:
        """Keep what is rendered, and look at it later."""
        wait = 0.0 if at_once else self._premises.settings.retry_s
        one.not_before, one.why = self._premises.clock.monotonic() + wait, why
        self._handed_in.append(one)

    def waits(self, ref: str) -> list[str]:
        """What is rendered of a job or shot and cannot be looked at just now, in sentences."""
        waiting = [one for one in self._handed_in if one.why]
        return [
            f"{lease.job}/{lease.shot_name}/{lease.index + 1} is rendered and waits to be looked at: {one.why}"
            for one in waiting
            if (lease := one.lease).job in ref or lease.shot_name in ref
        ]

    def _publish(self, one: _HandedIn) -> None:
        """Rename the stage and tell the ledger; whatever of it was done before a crash is found done."""
        lease, ledger, places = one.lease, self._premises.ledger, self._premises.places
        if not ledger.publish(lease.key, lease.token):
            self._discard(one.folder)
            return
        final = places.segment(lease.key)
        try:
            if one.folder != final and one.folder.is_dir():
                if final.exists():
                    self._discard(final)
                one.folder.rename(final)
                sync_folder(places.work)
        except OSError as error:
            fault = Fault.of(storage_error(error, final))
            self._failed(_Turn(lease=lease, folder=one.folder), "storage", fault)
            return
        ledger.finish(
            lease.key,
            lease.token,
            seconds=one.done.seconds,
            steps_seconds=one.done.steps_seconds,
            peak_bytes=one.done.peak_bytes,
        )
        facts = {"event": "finished", "job": lease.job, "shot": lease.shot_name, "segment": lease.index + 1}
        log.info("a segment is rendered", extra=facts | {"seconds": round(one.done.seconds, 3)})

    # ------------------------------------------------------------------- watching

    def watch(self) -> None:
        """End what hangs, and what nobody wants any more."""
        if self._checking is not None and self._watch.verdict(self._children["check"]):
            self._children["check"].kill()
        if self._turns:
            unwanted = {(lease.key, lease.token) for lease in self._premises.ledger.unwanted()}
            for slot, turn in self._turns.items():
                child = self._children[slot]
                if turn.cancelled or turn.ending is not None:
                    continue
                if (turn.lease.key, turn.lease.token) in unwanted:
                    turn.cancelled = True
                    child.kill()
                elif verdict := self._watch.verdict(child):
                    turn.ending = (verdict, self._hung(turn.lease, verdict))
                    child.kill()

    def end(self) -> None:
        """Stop at once: what is being rendered is given back, and nobody is blamed."""
        for slot, child in self._children.items():
            child.kill()
            turn = self._turns.pop(slot, None)
            if turn is not None:
                self._premises.ledger.release(turn.lease.key, turn.lease.token, "drained")
                self._discard(turn.folder)

    def _crashed(self, lease: Lease, gone: Gone) -> Fault:
        how = f"by signal {gone.signal}" if gone.signal else f"with code {gone.rc}"
        return self._engine_fault(lease, f"the engine ended {how} in the middle of segment {lease.index + 1}")

    def _hung(self, lease: Lease, verdict: str) -> Fault:
        settings = self._premises.settings
        if verdict == "timeout":
            what = f"segment {lease.index + 1} was not done in {settings.render_hours:g} hours (`render_hours`)"
        else:
            what = f"segment {lease.index + 1} made no step for {settings.quiet_minutes:g} minutes (`quiet_minutes`)"
        return self._engine_fault(lease, what)

    def _engine_fault(self, lease: Lease, what: str) -> Fault:
        written = self._premises.places.log(lease.log)
        return Fault.of(EngineFailed(what, where=Where(shot=lease.shot_name, file=str(written))))

    def _with_evidence(self, turn: _Turn, fault: Fault) -> Fault:
        """Keep what was refused twice, before the ledger is told where: if we die in between, it is made again."""
        lease, places = turn.lease, self._premises.places
        told = evidence.keep(
            fault.error(),
            segment=lease.document.segment(lease.index, work=places.work, folder=turn.folder),
            root=places.evidence,
            kept_free=self._premises.kept_free,
            discard=self._discard,
        )
        return Fault.of(told)

    def _to_last(self, turn: _Turn, fault: Fault) -> Fault:
        """A fault that names what will still be there: of a stage, which goes, the log of who made it."""
        file = fault.where.get("file")
        if file is None or not Path(str(file)).is_relative_to(turn.folder):
            return fault
        written = str(self._premises.places.log(turn.lease.log))
        return fault.model_copy(update={"where": fault.where | {"file": written}})

    def _discard(self, folder: Path) -> None:
        """Out of the way at once; the daemon empties the trash when there is time."""
        try:
            if folder.exists():
                name = f"{folder.name}.{os.getpid()}.{self._premises.clock.monotonic():.6f}"
                folder.rename(self._premises.places.trash / name)
        except OSError as error:
            what = storage_error(error, folder).what
            log.warning("litter stays until the next start", extra={"event": "litter", "what": what})


def _noise(noise: Noise) -> Fault:
    return Fault.of(EngineFailed(f"the engine said what no worker says: {noise.line[:80]!r}"))
