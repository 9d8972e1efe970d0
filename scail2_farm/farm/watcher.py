"""One farm watches one folder, and what wakes it.

The lock beside the ledger keeps two farms of one machine apart; machines that share a volume see only ROOT/.farm/
watcher.json. Clocks of machines differ, so nobody's time is believed: whoever finds another's record watches whether it
changes. A record that does not is taken over, and its owner, should he wake, finds that it is not his any more. In
between a drop could be seen by two; it is still claimed by one, since a file can be renamed away once.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from scail2_farm.documents import write_bytes
from scail2_farm.errors import FarmRunning, Where, storage_error
from scail2_farm.farm.host import Clock, boot_id, process_start
from scail2_farm.farm.places import POLLS_TO_DIE, watcher_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """Who watches; `beat` in UTC seconds is for people, `beats` for other machines."""

    host: str
    boot: str
    pid: int
    pid_start: str
    generation: int
    poll_s: float
    beats: int
    beat: float

    def is_by(self, other: _Record) -> bool:
        """Whether both are by one watcher."""
        mine = (self.host, self.boot, self.pid, self.pid_start, self.generation)
        return mine == (other.host, other.boot, other.pid, other.pid_start, other.generation)


_RECORD = TypeAdapter(_Record)


class Watcher:
    """This process's claim to be the one that watches a farm's inbox."""

    def __init__(self, root: Path, *, clock: Clock, poll_s: float):
        self._root, self._path, self._clock = root, watcher_of(root), clock
        pid = os.getpid()
        self._own = _Record(
            host=platform.node() or "a machine without a name",
            boot=boot_id(),
            pid=pid,
            pid_start=process_start(pid) or "",
            generation=0,
            poll_s=poll_s,
            beats=0,
            beat=0.0,
        )

    def hold(self) -> None:
        """Become the watcher; of a machine that may be gone this is known after three polls without a beat.

        Raises FarmRunning, StorageError.
        """
        found = self._read()
        if found is not None and self._lives(found):
            raise self._taken(found)
        self._own = replace(self._own, generation=found.generation + 1 if found else 1)
        self._write()

    def beat(self) -> None:
        """Say that this process still watches, every poll.

        Raises FarmRunning when another has taken the folder, and StorageError.
        """
        found = self._read()
        if found is not None and not found.is_by(self._own):
            raise self._taken(found)
        self._write()

    def release(self) -> None:
        """Leave the folder to whoever comes next.

        Raises StorageError.
        """
        found = self._read()
        if found is not None and found.is_by(self._own):
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                raise storage_error(error, self._path) from error

    def _lives(self, found: _Record) -> bool:
        if found.boot == self._own.boot:
            return process_start(found.pid) == found.pid_start
        for _ in range(POLLS_TO_DIE):
            threading.Event().wait(max(found.poll_s, self._own.poll_s))
            now = self._read()
            if now is None:
                return False
            if now != found:
                return True
        return False

    def _taken(self, by: _Record) -> FarmRunning:
        ago = self._clock.wall() - by.beat
        seen = f"{ago:.0f} s ago" if ago >= 0 else "a moment ago"
        return FarmRunning(
            f"{self._root} is watched by a farm on {by.host} (process {by.pid}), last seen {seen}",
            fix=f"use that farm, or stop it on {by.host} first (`kill {by.pid}`) and start this one again",
            where=Where(file=str(self._path)),
        )

    def _read(self) -> _Record | None:
        """The record that is there; one that cannot be understood is nobody's."""
        try:
            return _RECORD.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            log.warning("watcher record not understood", extra={"event": "watcher", "file": str(self._path)})
            return None
        except OSError as error:
            raise storage_error(error, self._path) from error

    def _write(self) -> None:
        self._own = replace(self._own, beats=self._own.beats + 1, beat=self._clock.wall())
        write_bytes(self._path, _RECORD.dump_json(self._own))


class _Rings(FileSystemEventHandler):
    def __init__(self, bell: threading.Event):
        self._bell = bell

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._bell.set()


def wakeups(root: Path, *, network: bool) -> threading.Event:
    """An event that is set when something happens in the inbox: a hint to look now, never a reason to believe anything.

    Of a network volume, and where the system has no watches left, it is never set: polling alone finds everything.
    """
    bell = threading.Event()
    if not network:
        try:
            observer = Observer()
            observer.schedule(_Rings(bell), str(root / "inbox"))
            observer.start()
        except OSError as error:
            log.warning("inbox is polled only", extra={"event": "wakeups", "why": str(error)})
    return bell
