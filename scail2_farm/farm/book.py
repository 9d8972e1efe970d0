"""The ledger's grammar: one way to write an event, one way to move a shot, and what follows from it.

A segment that nobody has is what the shots that want it, its pause and the segment before it make of it; a shot is
rendered when all its segments are done. So nobody sets such a state: what was `touch`ed is settled at the end of the
transaction, by the same two queries whatever happened.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from scail2_farm.documents import Fault
from scail2_farm.farm.host import Clock, iso
from scail2_farm.farm.sql import Database

JobState = Literal["open", "done", "failed", "cancelled"]
ShotState = Literal["open", "rendered", "done", "failed", "held", "cancelled", "retrying"]
SegmentState = Literal["blocked", "ready", "leased", "publishing", "done", "failed", "held", "cancelled"]

HOOKED = frozenset({"accepted", "started", "shot-done", "job-done", "failed", "held"})
"""Events that hooks are told."""

HELD_AGAIN = "held-again"

LONGEST_WAIT_S = 600.0
"""Nothing waits longer by itself: an instant further ahead was written by a clock that has been set back since."""


def doubled(first_s: float, times: int, *, longest_s: float = LONGEST_WAIT_S) -> float:
    """A wait that was doubled so many times, in seconds; at most `longest_s`, however often that was."""
    return min(first_s * 2 ** min(times, 16), longest_s)


def log_name(attempt: int) -> str:
    """The stem of the name of an attempt's log."""
    return f"{attempt:08d}"


class Book:
    """The tables, and the few moves everything else is made of. Every method is used inside a transaction."""

    def __init__(self, database: Database, *, clock: Clock, hooks: Sequence[str], retry_s: float):
        self.database = database
        self.clock = clock
        self.hooks = tuple(hooks)
        self.retry_s = retry_s

    @contextmanager
    def turn(self) -> Generator[float]:
        """A transaction and its instant; what was touched is settled before it is committed.

        Raises DiskFull and ShareUnavailable.
        """
        now = self.clock.wall()
        with self.database.transaction():
            self.database.run("forget-touched")
            yield now
            self.settle(now)

    def event(
        self,
        now: float,
        what: str,
        *,
        job: str | None = None,
        shot: str | None = None,
        segment: int | None = None,
        actor: str = "farm",
        facts: Mapping[str, object] | None = None,
    ) -> int:
        """Write what happened, and to each hook what it is to be told; the event's number. `segment` counts from 1."""
        told = dict(facts or {})
        subject = "/".join(str(part) for part in (job, shot, segment) if part is not None)
        seq = self.database.insert(
            "write-event", at=now, actor=actor, what=what, job=job, subject=subject, facts=json.dumps(told)
        )
        if what in HOOKED:
            body = {"seq": seq, "event": what, "job": job, "shot": shot, "at": iso(now), "facts": told}
            for url in self.hooks:
                self.database.insert("write-outbox", url=url, seq=seq, body=json.dumps(body))
        return seq

    def move(
        self,
        now: float,
        shot: sqlite3.Row,
        state: ShotState,
        what: str,
        *,
        reason: str = "",
        fault: Fault | None = None,
        not_before: float | None = None,
        holds: int = 0,
        actor: str = "farm",
    ) -> None:
        """Bring a shot into a state and tell of it as `what`; its segments follow.

        With `not_before` it goes on by itself then. A returned cut that would show something else is out of date.
        """
        self.database.run(
            "move-shot",
            shot=shot["id"],
            state=state,
            reason=reason,
            fault=fault.model_dump_json() if fault else None,
            by_itself=not_before is not None,
            not_before=not_before or 0.0,
            holds=holds,
        )
        facts: dict[str, object] = {"reason": reason} if reason else {}
        if fault:
            facts["fault"] = fault.model_dump(mode="json")
        if not_before is not None:
            facts["tried_again"] = iso(not_before)
        self.event(now, what, job=shot["job_id"], shot=shot["name"], actor=actor, facts=facts)
        if state in ("failed", "held", "cancelled") and what != HELD_AGAIN:
            self.database.run("job-changed", turn=shot["job"])
        self.database.run("touch-shot", shot=shot["id"])

    def hold_for_a_while(self, now: float, shot: sqlite3.Row, fault: Fault) -> None:
        """Hold a shot that goes on by itself; the next hold in a row is twice as long. Hooks are told of the first."""
        holds = int(shot["holds"])
        wait = doubled(self.retry_s, holds)
        what = HELD_AGAIN if holds else "held"
        self.move(now, shot, "held", what, reason="by itself", fault=fault, not_before=now + wait, holds=holds + 1)

    def wake(self, now: float) -> None:
        """Let shots go on whose time has come."""
        for shot in self.database.all("due-shots", now=now, longest=LONGEST_WAIT_S):
            self.move(now, shot, "rendered" if shot["found"] else "open", "goes-on", holds=shot["holds"])
        self.settle(now)

    def settle(self, now: float) -> None:
        """Draw the consequences for what was touched."""
        for shot in self.database.all("settle-shots"):
            what = "shot-rendered" if shot["state"] == "rendered" else "shot-opened"
            self.event(now, what, job=shot["job_id"], shot=shot["name"])
            self.database.run("touch-shot", shot=shot["id"])
        self.database.run("settle-segments")
        self.database.run("forget-touched")
