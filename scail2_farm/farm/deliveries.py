"""Rendered shots and finished jobs on their way back to the edit, one at a time, in a child process."""

from __future__ import annotations

import logging

from scail2_farm.documents import (
    REPORT,
    DeliverTask,
    DoneSaid,
    FailedSaid,
    Fault,
    ReturnTask,
    Said,
    StepSaid,
    Submission,
)
from scail2_farm.errors import EngineFailed, FrameTruncated, Where
from scail2_farm.farm.book import doubled
from scail2_farm.farm.dispatch import Child, Gone, Noise, cannot_start
from scail2_farm.farm.ledger import Delivery, Kind, Return
from scail2_farm.farm.premises import MOST_LOSSES, Premises
from scail2_farm.farm.receipts import on_a_farm

log = logging.getLogger(__name__)

SLOT = "deliver"


class Deliveries:
    """The slot that delivers."""

    def __init__(self, premises: Premises):
        self._premises = premises
        self._child = premises.child(SLOT)
        self._shot: Delivery | None = None
        self._return: Return | None = None
        self._waits: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._losses = 0
        self._not_before = float("-inf")
        self._watch = premises.watch(silent=True)  # copying and writing a movie say nothing

    @property
    def slots(self) -> tuple[str, ...]:
        """The children this room answers for."""
        return (SLOT,)

    def child(self, slot: str) -> Child:
        """The child of a slot."""
        return self._child

    @property
    def busy(self) -> bool:
        """Whether anything is on its way."""
        return self._shot is not None or self._return is not None

    def give(self) -> None:
        """Let the child go on, if it is idle."""
        if self.busy:
            if self._watch.verdict(self._child):
                self._child.kill()
            return
        if self._premises.clock.monotonic() < self._not_before:
            return
        ledger, places = self._premises.ledger, self._premises.places
        shot = ledger.to_deliver()
        back = ledger.to_return(except_for=self._resting()) if shot is None else None
        if shot is None and back is None:
            return
        if not self._child.ready(places.log(SLOT)):
            return
        if shot is not None:
            self._shot = shot
            task = DeliverTask(
                shot=shot.document, work=str(places.work), to=shot.deliver_to, raw=shot.raw, movie=shot.movie
            )
            self._child.give(task, log=places.log(f"{shot.job}.{shot.shot_name}.deliver"))
        elif back is not None:
            self._return = back
            task = ReturnTask(
                submission=Submission.model_validate_json(back.submission),
                plan=str(places.plan(back.job)),
                takes=back.takes,
                faults=back.faults,
            )
            self._child.give(task, log=places.log(f"{back.job}.return"))

    def heard(self, slot: str, said: Said | Gone | Noise) -> None:
        """What the child said, or that it is gone."""
        if isinstance(said, StepSaid) or not self.busy:
            return
        if isinstance(said, Noise):
            self._child.kill()
            return
        lost = isinstance(said, Gone) and said.from_outside and self._losses < MOST_LOSSES
        if lost:  # the ledger still has it to deliver, or to return
            self._shot = self._return = None
            self._losses += 1
            wait = 0.0 if self._losses == 1 else self._premises.settings.retry_s
            self._not_before = self._premises.clock.monotonic() + wait
            return
        if self._shot is not None:
            self._shot_ended(self._shot, said)
            self._shot = None
        elif self._return is not None:
            self._return_ended(self._return, said)
            self._return = None
        self._losses = 0

    def end(self) -> None:
        """Stop at once; what was on its way is taken up by the next farm."""
        self._child.kill()

    def _shot_ended(self, shot: Delivery, said: DoneSaid | FailedSaid | Gone) -> None:
        ledger = self._premises.ledger
        facts = {"job": shot.job, "shot": shot.shot_name}
        match said:
            case DoneSaid():
                ledger.delivered(shot.shot, folder=said.folder, version=said.version)
                log.info("a shot is delivered", extra=facts | {"event": "delivered", "folder": said.folder})
            case _:
                kind, fault = self._failure(f"{shot.job}.{shot.shot_name}.deliver", said)
                log.warning("a shot could not be delivered", extra=facts | {"event": "held", "what": fault.what})
                if not self._spoiled(shot, fault):
                    ref, by_itself = f"{shot.job}/{shot.shot_name}", kind in ("storage", "setup")
                    ledger.delivery_failed(shot.shot, kind, on_a_farm(fault, ref=ref, by_itself=by_itself))

    def _spoiled(self, shot: Delivery, fault: Fault) -> bool:
        """Whether a segment is not as its report says; the one who found it took the report away.

        Of a take that is on disk none needs to be there, so without that word nobody looks.
        """
        places = self._premises.places
        if not isinstance(fault.error(), FrameTruncated):
            return False
        gone = [one.key for one in shot.document.segments if not (places.segment(one.key) / REPORT).is_file()]
        for key in gone:
            self._premises.ledger.spoiled(key)
        return bool(gone)

    def _return_ended(self, back: Return, said: DoneSaid | FailedSaid | Gone) -> None:
        ledger = self._premises.ledger
        match said:
            case DoneSaid():
                ledger.returned(back.job, path=said.folder or None)
                self._failures.pop(back.job, None)
                log.info("a cut is returned", extra={"event": "returned", "job": back.job, "path": said.folder})
            case _:
                _, fault = self._failure(f"{back.job}.return", said)
                log.warning("a cut is not returned yet", extra={"event": "held", "job": back.job, "what": fault.what})
                ledger.return_failed(back.job, on_a_farm(fault, ref=back.job, by_itself=True))
                failures = self._failures[back.job] = self._failures.get(back.job, 0) + 1
                wait = doubled(self._premises.settings.retry_s, failures - 1)
                self._waits[back.job] = self._premises.clock.monotonic() + wait

    def _resting(self) -> frozenset[str]:
        """Jobs whose cut is tried again later."""
        now = self._premises.clock.monotonic()
        self._waits = {job: until for job, until in self._waits.items() if until > now}
        return frozenset(self._waits)

    def _failure(self, name: str, said: FailedSaid | Gone) -> tuple[Kind, Fault]:
        """What sort of failure it is, and its fault; `name` is the log's."""
        if isinstance(said, FailedSaid):
            return said.kind, said.fault
        written = self._premises.places.log(name)
        if said.gave_up:
            return "setup", Fault.of(cannot_start(SLOT, said, written))
        what = f"delivering ended by signal {said.signal}" if said.signal else "delivering ended without a word"
        return "crash", Fault.of(EngineFailed(what, where=Where(file=str(written))))
