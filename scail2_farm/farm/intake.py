"""What was dropped or submitted, until its shots are in the ledger.

A claimed submission gets its job's name and its place in accepted/ first, and is planned from there: what is planned
must not move any more. A folder in accepted/ that the ledger has no job for was cut short, and is planned again; so a
ledger that was lost costs a look at everything, and nothing is rendered twice.

One submission is planned at a time, in a child process: a timeline that ends its reader ends the child. The inbox is
looked at in a thread of its own, since it hashes and parses what lies there.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scail2_farm.documents import (
    PLANNED,
    PLANNED_SHOTS,
    DoneSaid,
    FailedSaid,
    Fault,
    Held,
    Planned,
    PlannedShot,
    PlanTask,
    Reply,
    Said,
    StepSaid,
    Submission,
    read_document,
)
from scail2_farm.errors import FarmError, SubmissionInvalid, TimelineUnreadable, Where, storage_error
from scail2_farm.farm import needs
from scail2_farm.farm.arrivals import same
from scail2_farm.farm.dispatch import Child, Gone, Noise, cannot_start
from scail2_farm.farm.hotfolder import Claim, HotFolder, Refused, filed
from scail2_farm.farm.ledger import NewHeld, NewJob, NewShot, Retry, removed_words
from scail2_farm.farm.places import SUBMISSION
from scail2_farm.farm.premises import MOST_LOSSES, Looked, Premises
from scail2_farm.farm.receipts import Receipts, on_a_farm
from scail2_farm.farm.watcher import wakeups
from scail2_farm.words import counted

log = logging.getLogger(__name__)

SLOT = "plan"
MOST_CRASHES = 2
ANSWERS_KEPT = 100
PART_OLD_S = 3600.0
"""A submission that is still being brought after so long is not."""


@dataclass(slots=True, kw_only=True)
class _Planning:
    """A submission in accepted/ on its way to be a job, or shots of a job that are planned anew (`retry`)."""

    job: str
    submission: Submission
    claim: Claim | None = None
    retry: Retry | None = None
    brought: str | None = None
    """The folder `submit --farm` brought it in, by which its answer is known."""
    seen: int = 0
    """The ledger's mark when planning began: what happened after it, planning has not seen."""
    crashes: int = 0
    losses: int = 0
    not_before: float = float("-inf")


class Intake:
    """The hot folder, the submissions of `submit --farm`, and the retries, through the plan slot."""

    def __init__(self, premises: Premises, hotfolder: HotFolder, receipts: Receipts):
        self._premises, self._hotfolder, self._receipts = premises, hotfolder, receipts
        self._child = premises.child(SLOT)
        self._claims: deque[Claim] = deque()
        self._brought: dict[Path, str] = {}
        self.answers: dict[str, Reply] = {}
        """What became of the submissions that were brought, by their folder; taken by whoever tells it."""
        self._begun: deque[_Planning] = deque()
        self._planning: _Planning | None = None
        self._resting: dict[str, float] = {}
        self._watch = premises.watch()
        self._stop = threading.Event()
        self._looking = threading.Thread(target=self._look, name="inbox", daemon=True)

    @property
    def slots(self) -> tuple[str, ...]:
        """The children this room answers for."""
        return (SLOT,)

    def child(self, slot: str) -> Child:
        """The child of a slot."""
        return self._child

    @property
    def busy(self) -> bool:
        """Whether a submission is being planned."""
        return self._planning is not None

    # ------------------------------------------------------------------- taking

    def recover(self) -> None:
        """Take up what an earlier farm had claimed or accepted and not brought into the ledger."""
        places = self._premises.places
        known = {same(filed(job.id)) for job in self._premises.ledger.jobs()}
        for folder in sorted(places.accepted.iterdir(), key=lambda folder: (len(folder.name), folder.name)):
            if folder.is_dir() and same(folder.name) not in known:
                found = self._hotfolder.found_in(folder)
                if isinstance(found, Claim):
                    planning = _Planning(job=folder.name, submission=_submission(found), claim=found, brought=found.id)
                    self._begun.append(planning)
        for found in self._hotfolder.claimed():
            self._take(found)
        for part in places.submitted.glob("*.part"):
            if self._premises.clock.wall() - part.stat().st_mtime > PART_OLD_S:
                shutil.rmtree(part)
        self.submitted()

    def watch(self) -> None:
        """Begin to look at the inbox."""
        self._looking.start()

    def _look(self) -> None:
        """The inbox's thread: what it finds goes to the farm's one queue."""
        woken = wakeups(self._premises.places.root, network=self._hotfolder.network)
        while not self._stop.is_set():
            try:
                found = tuple(self._hotfolder.poll())
            except FarmError as fault:
                self._premises.events.put(Looked(fault=fault))
            except Exception:  # files of anybody: one that this trips over must not end the looking
                log.exception("the inbox could not be looked at", extra={"event": "inbox"})
            else:
                if found:
                    self._premises.events.put(Looked(found=found))
            woken.wait(self._hotfolder.poll_s)
            if woken.is_set():  # events are hints, and come in swarms
                self._stop.wait(min(0.2, self._hotfolder.poll_s))
                woken.clear()

    def looked(self, looked: Looked) -> None:
        """What a look at the inbox came to."""
        if looked.fault is not None:
            log.warning("the inbox cannot be looked at", extra={"event": "inbox", "what": looked.fault.what})
        for found in looked.found:
            if isinstance(found, Claim | Refused):
                self._take(found)
            else:
                self._receipts.waiting(found)

    def submitted(self) -> None:
        """Take what `submit --farm` has brought."""
        for folder in sorted(self._premises.places.submitted.iterdir()):
            if folder.is_dir() and folder.suffix != ".part" and folder not in self._brought:
                found = self._hotfolder.found_in(folder)
                self._brought[folder] = folder.name
                self._take(found)

    def answer(self, brought: str) -> Reply | None:
        """What became of a submission that was brought; None while that is not known yet."""
        known = self.answers.get(brought)
        waits = [*self._begun, *([self._planning] if self._planning else [])]
        if known is not None or brought in self._brought.values() or any(one.brought == brought for one in waits):
            return known
        return Reply(said=("it was taken before the farm was started again: `scail2-farm status` has it",))

    def _take(self, found: Claim | Refused) -> None:
        if isinstance(found, Refused):
            self._reject(found, found.faults, self._brought.pop(found.folder, None))
        elif found not in self._claims:  # a look that could not be written down to its end is handled again
            self._claims.append(found)

    # ------------------------------------------------------------------- planning

    def give(self) -> None:
        """Let the child go on, if it is idle."""
        if self._planning is not None:
            if self._watch.verdict(self._child):
                self._child.kill()
            return
        planning = self._next()
        if planning is None:
            if self._child.alive:
                self._child.stop()  # what it holds of the last cut goes with it
            return
        places = self._premises.places
        if not self._child.ready(places.log(SLOT)):
            return
        planning.seen = self._premises.ledger.mark()
        if planning in self._begun:
            self._begun.remove(planning)
        self._planning = planning
        task = PlanTask(
            submission=planning.submission,
            weights=str(self._premises.weights),
            work=str(places.work),
            folder=str(places.plan(planning.job)),
            returned=str(places.returned(planning.submission.name)),
            seeds=dict(planning.retry.seeds) if planning.retry is not None else {},
            loras={name: str(path.absolute()) for name, path in self._premises.settings.loras.items()},
        )
        self._child.give(task, log=places.log(f"{planning.job}.plan"))

    def _next(self) -> _Planning | None:
        """What is to be planned next; it stays where it waits until that is begun."""
        now = self._premises.clock.monotonic()
        planning = self._waiting(now)
        while planning is None and self._claims:
            self._accept(self._claims[0])
            planning = self._waiting(now)
        if planning is not None:
            return planning
        begun = {planning.job for planning in self._begun}
        for retry in self._premises.ledger.retrying():
            if retry.job not in begun and self._resting.get(retry.job, now) <= now:
                submission = Submission.model_validate_json(retry.submission)
                return _Planning(job=retry.job, submission=submission, retry=retry)
        return None

    def _waiting(self, now: float) -> _Planning | None:
        """The first of what is accepted whose time has come; what is a job by now waits no more."""
        for planning in tuple(self._begun):
            if planning.not_before > now:
                continue
            if planning.claim is None or not self._known(planning.claim, planning.brought):
                return planning
            self._begun.remove(planning)
        return None

    def _accept(self, claim: Claim) -> None:
        """Give the first claim a name and a place of its own, unless its content is a job already, or still changes."""
        ledger, places = self._premises.ledger, self._premises.places
        brought = self._brought.get(claim.folder)
        accepted: _Planning | None = None
        if brought is None and claim.folder.is_dir() and not self._hotfolder.unchanged(claim):
            self._hotfolder.put_back(claim)
        elif not self._known(claim, brought):
            ledger.note_drop(claim.sha256, name=claim.name, state="claimed")
            job = places.free_job(ledger.next_job(claim.name))
            said = _submission(claim)
            kept = claim.at(self._hotfolder.accept(claim, job))
            accepted = _Planning(job=job, submission=_at(said, kept), claim=kept, brought=brought)
        self._claims.popleft()
        self._brought.pop(claim.folder, None)
        if accepted is not None:
            self._begun.append(accepted)
            self._receipts.planning(claim.name, accepted.job)

    def _known(self, claim: Claim, brought: str | None) -> bool:
        """Whether the content of a claim is a job already; the files then lie beside the job's."""
        drop = self._premises.ledger.drop(claim.sha256)
        if drop is None or drop.state != "accepted" or drop.job is None:
            return False
        self._hotfolder.duplicate(claim, drop.job)
        self._receipts.duplicate(claim.name, drop.job)
        job = self._premises.ledger.job(drop.job)
        state = f", which is {job.state}" if job else ""
        words = f"nothing is queued: {claim.name} has the very cut and manifest of job {drop.job}{state}; "
        words += f"`scail2-farm job retry {drop.job}` looks at its inputs again"
        self._tell(brought, Reply(said=(words,), document={"duplicate_of": drop.job}))
        log.info("a drop is known already", extra={"event": "duplicate", "job": drop.job})
        return True

    def heard(self, slot: str, said: Said | Gone | Noise) -> None:
        """What the child said, or that it is gone."""
        planning = self._planning
        match said:
            case StepSaid():
                return
            case _ if planning is None:
                return
            case Noise():
                self._child.kill()
                return
            case DoneSaid():
                self._planned(planning)
            case FailedSaid(kind="storage" | "setup" | "memory"):
                self._again(planning, said.fault)
            case FailedSaid(kind="crash"):
                self._crashed(planning, said.fault)
            case FailedSaid():
                self._refused(planning, [said.fault])
            case Gone() if said.from_outside and planning.losses < MOST_LOSSES:
                self._lost(planning)
            case Gone() if said.gave_up:
                written = self._premises.places.log(f"{planning.job}.plan")
                self._again(planning, Fault.of(cannot_start(SLOT, said, written)))
            case Gone():
                what = f"reading {planning.submission.name} ended the process that did"
                where = Where(file=planning.submission.edit)
                self._crashed(planning, Fault.of(TimelineUnreadable(what, where=where)))
        self._planning = None

    def _planned(self, planning: _Planning) -> None:
        folder = self._premises.places.plan(planning.job)
        planned = read_document(folder / PLANNED, Planned)
        if planned.faults:
            self._refused(planning, planned.faults)
        elif planning.retry is not None:
            self._replan(planning, planning.retry, planned, folder)
        elif planned.shots or planned.held:
            self._into_ledger(planning, planned, folder)
        else:
            what = "nobody is cast in any clip of it, so there is nothing to render"
            nobody = SubmissionInvalid(what, where=Where(file=planning.submission.manifest))
            self._refused(planning, [Fault.of(nobody)])

    def _into_ledger(self, planning: _Planning, planned: Planned, folder: Path) -> None:
        submission, claim = planning.submission, planning.claim
        assert claim is not None, "what is no retry was claimed"
        job = NewJob(
            id=planning.job,
            name=claim.name,
            sha256=claim.sha256,
            priority=submission.priority,
            folder=str(folder),
            deliver_to=planned.deliver_to,
            cut=planned.cut,
            raw=submission.raw,
            movie=planned.movie,
            submission=submission.model_dump_json(by_alias=True),
            warnings=(*planned.notes, *planned.warnings),
            seen=planning.seen,
        )
        held = [_held(planning.job, one) for one in planned.held]
        told = self._premises.ledger.accept(job, self._shots(folder, {}), held, supersede=planned.supersede)
        self._receipts.changed(planning.job, name=claim.name)
        shots, segments = counted(told.shots, "shot"), counted(told.queued, "segment")
        words = f"{planning.job} is accepted: {shots}, {segments} to render, {told.found} found"
        held_words = [f"{one.shot} is held: {one.fault.what}" for one in planned.held]
        left = [f"{shot} was under way and is replaced" for shot in told.superseded]
        left += [removed_words(shot, cancelled=planned.supersede) for shot in told.removed]
        self._tell(planning.brought, Reply(said=(words, *held_words, *left), document=dataclasses.asdict(told)))
        facts = {"event": "planned", "job": planning.job, "shots": told.shots, "queued": told.queued}
        log.info("a job is accepted", extra=facts | {"found": told.found, "held": told.held})

    def _replan(self, planning: _Planning, retry: Retry, planned: Planned, folder: Path) -> None:
        wanted = set(retry.shots)
        shots = (shot for shot in self._shots(folder, retry.seeds) if shot.document.id in wanted)
        held = [_held(retry.job, one) for one in planned.held if one.shot in wanted]
        self._premises.ledger.replan(retry.job, shots, held, seen=planning.seen)
        self._receipts.changed(retry.job)

    def _shots(self, folder: Path, seeds: Mapping[str, int]) -> Iterator[NewShot]:
        """The planned shots, read one by one."""
        path = folder / PLANNED_SHOTS
        snapshot = cache(needs.snapshot)
        try:
            with path.open("rb") as lines:
                for line in lines:
                    one = PlannedShot.model_validate_json(line, by_alias=True, by_name=False)
                    yield _new_shot(one, seeds, weights=snapshot(one.shot.weights.path))
        except OSError as error:
            raise storage_error(error, path) from error

    def _refused(self, planning: _Planning, faults: Sequence[Fault]) -> None:
        if planning.retry is not None:
            held = [NewHeld(shot=shot, fault=faults[0]) for shot in planning.retry.shots]
            self._premises.ledger.replan(planning.retry.job, [], held, seen=planning.seen)
            self._receipts.changed(planning.retry.job)
        elif planning.claim is not None:
            self._reject(planning.claim, faults, planning.brought)

    def _reject(self, found: Claim | Refused, faults: Sequence[Fault], brought: str | None = None) -> None:
        folder = self._hotfolder.reject(found, faults)
        if isinstance(found, Claim):
            self._premises.ledger.note_drop(found.sha256, name=found.name, state="rejected")
        self._receipts.rejected(found.name, faults, folder)
        told = [fault.model_dump(mode="json") for fault in faults]
        self._tell(brought, Reply(fault=faults[0], document={"faults": told, "folder": str(folder)}))
        log.warning("a drop is rejected", extra={"event": "rejected", "drop": found.name, "faults": len(faults)})

    def _tell(self, brought: str | None, reply: Reply) -> None:
        if brought is not None:
            self.answers[brought] = reply
        while len(self.answers) > ANSWERS_KEPT:
            del self.answers[next(iter(self.answers))]

    def _again(self, planning: _Planning, fault: Fault) -> None:
        """Later once more: nothing is wrong with the submission."""
        later = self._premises.clock.monotonic() + self._premises.settings.retry_s
        if planning.retry is not None:
            self._resting[planning.retry.job] = later
        elif planning.claim is not None:
            planning.not_before = later
            self._receipts.planning(planning.claim.name, planning.job, why=f"{fault.what}; tried again by itself")
            self._begun.append(planning)

    def _lost(self, planning: _Planning) -> None:
        """Once more; from the second time on after a while, so that others have their turn."""
        planning.losses += 1
        wait = 0.0 if planning.losses == 1 else self._premises.settings.retry_s
        planning.not_before = self._premises.clock.monotonic() + wait
        self._begun.append(planning)

    def _crashed(self, planning: _Planning, fault: Fault) -> None:
        planning.crashes += 1
        if planning.crashes < MOST_CRASHES:
            self._begun.appendleft(planning)
        else:
            self._refused(planning, [fault])

    def end(self) -> None:
        """Stop at once; what was being planned lies in accepted/, and the next farm takes it up."""
        self._stop.set()
        self._child.kill()


def _submission(claim: Claim) -> Submission:
    """A claim as it is to be read: what `submit --farm` wrote beside its files, or what the files say."""
    written = claim.folder / SUBMISSION
    if not written.is_file() or claim.edit == written:
        return _at(Submission(name=claim.name, manifest=str(claim.manifest)), claim)
    return _at(read_document(written, Submission), claim)


def _at(submission: Submission, claim: Claim) -> Submission:
    """The submission with the files where the claim has them."""
    edit = str(claim.edit) if claim.edit else None
    return submission.model_copy(update={"name": claim.name, "edit": edit, "manifest": str(claim.manifest)})


def _held(job: str, held: Held) -> NewHeld:
    return NewHeld(shot=held.shot, fault=on_a_farm(held.fault, ref=f"{job}/{held.shot}", by_itself=False))


def _new_shot(one: PlannedShot, seeds: Mapping[str, int], *, weights: needs.Snapshot | None) -> NewShot:
    shot = one.shot
    every = range(len(shot.segments))
    return NewShot(
        document=shot,
        finished=one.finished,
        delivered=one.delivered,
        work=tuple(needs.work_of(shot, index, weights=weights) for index in every),
        need_memory=max(needs.memory_of(shot, index, weights=weights) for index in every),
        need_disk=max(needs.disk_of(shot, index) for index in every),
        seed=seeds.get(shot.id),
    )
