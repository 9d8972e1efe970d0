"""The farm's one process: it opens the ledger, gives every room its turn, and answers what is asked.

::

    inbox/ ── Intake ── ledger ── Rendering ── Deliveries ── the cut, returned
               plan                render-N      deliver
                                   check

One thread does everything that changes anything; children, hooks and the inbox put what they have to say into its
queue. What cannot be written to the ledger just now (its disk is full) is kept and written when it can be: nothing
new is begun before.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType

from scail2_farm.documents import Fault, Reply, Request
from scail2_farm.errors import FarmError, ResourceError, StorageError, SubmissionInvalid, storage_error
from scail2_farm.farm import garbage
from scail2_farm.farm.control import Desk
from scail2_farm.farm.deliveries import Deliveries
from scail2_farm.farm.dispatch import Heard, end_orphans
from scail2_farm.farm.host import Awake, Clock, SystemClock, boot_id, filesystem_is_network
from scail2_farm.farm.hotfolder import HotFolder
from scail2_farm.farm.intake import Intake
from scail2_farm.farm.ledger import Ledger
from scail2_farm.farm.outbox import Outbox, Sent, Unsent
from scail2_farm.farm.places import Places, hold
from scail2_farm.farm.premises import Heardable, Looked, Premises
from scail2_farm.farm.reads import Reader
from scail2_farm.farm.receipts import Receipts
from scail2_farm.farm.rendering import Rendering
from scail2_farm.settings import Settings

log = logging.getLogger(__name__)

WORKER = (sys.executable, "-m", "scail2_farm", "worker")
TURN_S, LOOKS = 0.1, 5
"""How long the queue is waited for in a turn, and how often it is seen meanwhile whether somebody asks something."""
STUCK_S = 5.0
"""How long after a failure of the ledger's disk it is tried again, at most."""
TIDY_EVERY_S, EMPTIED_EVERY_S = 3600.0, 10.0
EMPTIED_WITHIN_S = 5.0
"""How long the trash may keep a farm that ends; the next one goes on with it."""


def up(
    root: Path,
    *,
    settings: Settings,
    weights: Path,
    suffixes: Sequence[str],
    command: Sequence[str] = WORKER,
    clock: Clock | None = None,
) -> None:
    """Run the farm in `root` until it is asked to end: SIGTERM or SIGINT, once to finish what is being rendered.

    `suffixes` are those of edits, `command` is what starts a child process. Raises FarmRunning, SettingsInvalid,
    StorageError.
    """
    clock = clock or SystemClock()
    places = Places.of(root, ledger=settings.ledger)
    places.make()
    with hold(places):
        network = filesystem_is_network(places.root)
        reader = Reader()
        hotfolder = HotFolder(
            places.root,
            clock=clock,
            network=network,
            suffixes=suffixes,
            unreadable=reader.unreadable,
            settle_s=settings.settle_s,
            poll_s=settings.poll_s,
        )
        hotfolder.hold()
        ledger = Ledger(places.database, clock=clock, hooks=settings.hooks, retry_s=settings.retry_s)
        try:
            premises = Premises(
                places=places,
                settings=settings,
                weights=weights,
                ledger=ledger,
                clock=clock,
                boot=boot_id(),
                command=command,
                events=SimpleQueue(),
            )
            daemon = Daemon(premises, hotfolder)
            with _signals(daemon.asked_to_end):
                daemon.run()
        finally:
            ledger.close()
            hotfolder.release()


class Daemon:
    """The rooms of a farm and the loop that gives them their turns."""

    def __init__(self, premises: Premises, hotfolder: HotFolder):
        self._premises, self._hotfolder = premises, hotfolder
        self._receipts = Receipts(hotfolder=hotfolder, ledger=premises.ledger, clock=premises.clock)
        self._intake = Intake(premises, hotfolder, self._receipts)
        self._rendering = Rendering(premises)
        self._deliveries = Deliveries(premises)
        self._rooms = {slot: room for room in (self._intake, self._rendering, self._deliveries) for slot in room.slots}
        secret = premises.settings.hook_secret or ""
        self._outbox = Outbox(premises.events, secret=secret) if premises.settings.hooks else None
        self._desk = Desk(premises.places.root)
        self._pending: deque[Heardable] = deque()
        self._stuck_until = float("-inf")
        self._asked = 0
        self._recovered = False
        self._awake = Awake()
        self._emptying: threading.Thread | None = None
        self._tidied = self._beaten = self._emptied = float("-inf")

    def asked_to_end(self) -> None:
        """Begin nothing more; asked twice, stop at once."""
        self._asked += 1

    def run(self) -> None:
        """Until asked to end and nothing is being rendered any more."""
        self._end_orphans()
        self._clean()
        self._intake.recover()
        self._receipts.begin()
        self._intake.watch()
        log.info("the farm is up", extra={"event": "up", "root": str(self._premises.places.root)})
        try:
            while not self._ended():
                self._turn()
        finally:
            for room in (self._intake, self._rendering, self._deliveries):
                self._kept(room.end, waits=False)
            self._awake.stop()
            if self._outbox is not None:
                self._outbox.stop()
            self._kept(lambda: self._receipts.write(now=True), waits=False)
            if self._emptying is not None:
                self._emptying.join(EMPTIED_WITHIN_S)
            log.info("the farm is down", extra={"event": "down"})

    def _ended(self) -> bool:
        return self._asked > 1 or (self._asked == 1 and not self._rendering.busy and not self._deliveries.busy)

    # ------------------------------------------------------------------- one turn

    def _turn(self) -> None:
        self._listen()
        while self._pending and self._now() >= self._stuck_until:
            try:
                self._handle(self._pending[0])
            except (StorageError, ResourceError, OSError) as error:
                self._rest(self._said(error))
            else:
                self._pending.popleft()
        self._kept(self._answer, waits=False)
        if not self._pending and self._now() >= self._stuck_until:
            self._kept(self._go_on)
        self._beat()
        if any(room.busy for room in (self._intake, self._rendering, self._deliveries)):
            self._awake.start()
        else:
            self._awake.stop()

    def _listen(self) -> None:
        """What was heard since the last turn, after what could not be written down yet."""
        event = self._waited_for()
        while event is not None:
            if not isinstance(event, Heard) or self._rooms[event.slot].child(event.slot).hear(event):
                self._pending.append(event)
            try:
                event = self._premises.events.get_nowait()
            except Empty:
                event = None

    def _waited_for(self) -> Heardable | None:
        """The first event of a turn; None when there is none in time, or somebody asks something before."""
        for _ in range(LOOKS):
            try:
                return self._premises.events.get(timeout=TURN_S / LOOKS)
            except Empty:
                if self._desk.knocked:
                    break
        return None

    def _handle(self, event: Heardable) -> None:
        """Give an event to the room it is for; one that fails is handled again from its beginning."""
        ledger = self._premises.ledger
        match event:
            case Heard():
                self._rooms[event.slot].heard(event.slot, event.said)
            case Looked():
                self._intake.looked(event)
            case Sent():
                ledger.sent(event.seq, event.url)
            case Unsent():
                ledger.unsent(event.seq, event.url, why=event.why)
        if isinstance(event, Sent | Unsent) and self._outbox is not None:
            self._outbox.heard(event)

    def _go_on(self) -> None:
        """Every room's turn to begin something."""
        more = self._asked == 0
        if not self._recovered:
            self._recovered = self._rendering.recover()
        self._rendering.watch()
        self._rendering.give(more=more and self._recovered)
        if more:
            self._deliveries.give()
            self._intake.give()
        if self._outbox is not None:
            for outgoing in self._premises.ledger.outbox():
                self._outbox.post(outgoing)
        self._receipts.write()
        if self._now() - self._emptied > EMPTIED_EVERY_S:
            self._emptied = self._now()
            self._empty()
        if self._now() - self._tidied > TIDY_EVERY_S and self._tidy(dry_run=False) is not None:
            self._tidied = self._now()

    def _kept(self, work: Callable[[], None], *, waits: bool = True) -> None:
        """Do something as far as the disks let it; what nothing else depends on is not waited for."""
        try:
            work()
        except (StorageError, ResourceError, OSError) as error:
            fault = self._said(error)
            if waits:
                self._rest(fault)
            else:
                log.warning("this machine has no room for it now", extra={"event": "no-room", "what": fault.what})

    def _said(self, error: StorageError | ResourceError | OSError) -> FarmError:
        """What went wrong, in our words; shares fail in ways that no single place foresees."""
        return storage_error(error, self._premises.places.root) if isinstance(error, OSError) else error

    def _rest(self, fault: FarmError) -> None:
        self._stuck_until = self._now() + min(STUCK_S, self._premises.settings.retry_s)
        facts = {"event": "stuck", "code": fault.code, "what": fault.what, "fix": fault.fix}
        what = "a disk" if isinstance(fault, StorageError) else "memory"
        log.error("the farm waits for %s; it goes on by itself", what, extra=facts)

    def _beat(self) -> None:
        if self._now() - self._beaten >= self._hotfolder.poll_s:
            self._beaten = self._now()
            self._kept(self._hotfolder.beat, waits=False)

    def _now(self) -> float:
        return self._premises.clock.monotonic()

    # ------------------------------------------------------------------- what is asked

    def _answer(self) -> None:
        for name, asked in self._desk.asked():
            reply: Reply | None
            if isinstance(asked, Request):
                try:
                    reply = self._done(asked)
                except FarmError as fault:
                    reply = Reply(fault=Fault.of(fault))
            else:
                reply = Reply(fault=Fault.of(asked))
            if reply is not None:
                self._desk.answer(name, reply)
                if isinstance(asked, Request) and asked.verb == "submitted":
                    self._intake.answers.pop(asked.ref or "", None)

    def _done(self, asked: Request) -> Reply | None:
        """The answer to a request; None while there is none yet, and it is asked again."""
        ledger, ref = self._premises.ledger, asked.ref or ""
        match asked.verb:
            case "status":
                return Reply(document=self._status())
            case "why":
                return Reply(said=tuple(self._why(ref)))
            case "submitted":
                self._intake.submitted()
                return self._intake.answer(ref)
            case "pause":
                return Reply(said=tuple(ledger.pause(ref)))
            case "resume":
                return Reply(said=tuple(ledger.resume(ref)))
            case "cancel":
                return Reply(said=tuple(ledger.cancel(ref)))
            case "retry":
                return Reply(said=tuple(ledger.retry(ref, seed=asked.seed)))
            case "priority":
                return Reply(said=tuple(ledger.prioritise(ref, asked.priority if asked.priority is not None else 50)))
            case "gc":
                return self._tidy(dry_run=asked.dry_run)

    def _status(self) -> dict[str, object]:
        """The ledger's standing, and what only this process knows."""
        found, looked_at = self._premises.ledger.status(), self._rendering.looked_at
        running = tuple(
            replace(one, state="looked at") if (one.job, one.shot, one.segment) in looked_at else one
            for one in found.running
        )
        told = replace(found, running=running).as_json()
        return told | {"draining": self._asked > 0, "root": str(self._premises.places.root)}

    def _why(self, ref: str) -> list[str]:
        """The ledger's reasons, after those that hold everything up."""
        above: list[str] = []
        if self._asked:
            above.append("the farm is ending: it begins nothing new")
        if self._now() < self._stuck_until:
            above.append("the farm waits for a disk or for memory; it goes on by itself")
        if not self._recovered:
            above.append("an engine of an earlier farm still runs; nothing is begun before it is gone")
        try:
            return above + self._premises.ledger.why(ref) + self._rendering.waits(ref)
        except SubmissionInvalid:
            told = self._hotfolder.status(ref)
            if "why" not in told:
                raise
            return [*above, f"{ref} is no job yet, {told.get('state')}: {told['why']}"]

    # ------------------------------------------------------------------- garbage

    def _end_orphans(self) -> None:
        for one in end_orphans(self._premises.places.locks):
            log.warning("ended a child that had outlived its farm", extra={"event": "orphan", "pid": one.pid})

    def _clean(self) -> None:
        """At start: what was being removed, and stages that nobody renders any more."""
        places, ledger = self._premises.places, self._premises.ledger
        kept = {places.stage(one.lease.key, one.lease.token).name for one in ledger.running()}
        now = self._premises.clock.wall()
        self._remove(
            garbage.find(places, needed=set(), keep_stages=kept, keep=set(), now=now, older_than_s=float("inf"))
        )

    def _tidy(self, *, dry_run: bool) -> Reply | None:
        """Remove what nobody needs any more, and say what that is; None while what is being planned may need it."""
        if self._intake.busy:
            return None
        places, ledger = self._premises.places, self._premises.ledger
        running = ledger.running()
        logs = {name for one in running for name in (one.lease.log, f"{one.lease.log}.check")}
        found = garbage.find(
            places,
            needed=ledger.scratch(),
            keep_stages={places.stage(one.lease.key, one.lease.token).name for one in running},
            keep={job.id for job in ledger.jobs(state="open")} | {"farm", *self._rooms} | logs,
            now=self._premises.clock.wall(),
            older_than_s=self._premises.settings.scratch_days * 86400,
        )
        if not dry_run:
            ledger.swept(one.path.name for one in found if garbage.SEGMENT.fullmatch(one.path.name))
            self._remove(found)
        freed = sum(one.bytes for one in found)
        lines = [f"{one.path}: {one.bytes / 1e6:.1f} MB, {one.why}" for one in found]
        words = "would be removed" if dry_run else "removed"
        told = [{"path": str(one.path), "bytes": one.bytes, "why": one.why} for one in found]
        removed = [] if dry_run else [str(one.path) for one in found]
        document: dict[str, object] = {"removed": removed, "found": told, "bytes": freed}
        return Reply(said=(*lines, f"{len(found)} things, {freed / 1e9:.2f} GB {words}"), document=document)

    def _remove(self, found: Sequence[garbage.Garbage]) -> None:
        """Out of the way at once; deleted later."""
        _tell_of_litter(garbage.set_aside(found, places=self._premises.places))
        self._empty()

    def _empty(self) -> None:
        """Empty the trash, in a thread that may take as long as it takes."""
        if self._emptying is not None and self._emptying.is_alive():
            return
        places = self._premises.places
        work = lambda: _tell_of_litter(garbage.empty(places))  # noqa: E731
        self._emptying = threading.Thread(target=work, name="trash", daemon=True)
        self._emptying.start()


def _tell_of_litter(faults: Sequence[FarmError]) -> None:
    for fault in faults:
        log.warning("litter stays", extra={"event": "litter", "what": fault.what})


@contextmanager
def _signals(asked_to_end: Callable[[], None]) -> Generator[None]:
    def ask(number: int, frame: FrameType | None) -> None:
        asked_to_end()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
