"""Where everything of a farm lies (house.md §4), and the one process that holds it."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scail2_farm.documents import segment_folder
from scail2_farm.errors import FarmRunning, Where, storage_error
from scail2_farm.evidence import EVIDENCE
from scail2_farm.farm.host import refuse_network_volume

LOCK = "lock"
SUBMISSION = "submission.json"
"""What `submit --farm` writes beside the files it brings."""
POLLS_TO_DIE = 3
"""A record of who watches a farm that has not changed for so many polls is a dead one's."""


def own_of(root: Path) -> Path:
    """The own folder of the farm in `root`."""
    return root / ".farm"


def submitted_of(root: Path) -> Path:
    """Where `submit --farm` brings what it submits, a folder each."""
    return own_of(root) / "submitted"


def requests_of(root: Path) -> Path:
    """Where the farm in `root` is asked."""
    return own_of(root) / "control" / "requests"


def replies_of(root: Path) -> Path:
    """Where it answers."""
    return own_of(root) / "control" / "replies"


def watcher_of(root: Path) -> Path:
    """The record of who watches the farm in `root`."""
    return own_of(root) / "watcher.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The folders of a farm: `root` is where people drop and find, `state` a folder on a local disk for the ledger."""

    root: Path
    state: Path

    @classmethod
    def of(cls, root: Path, *, ledger: Path | None) -> Places:
        """The places of a farm in `root`; its ledger is in ROOT/.farm unless another folder is named.

        Raises SettingsInvalid when the ledger would lie on a network volume.
        """
        root = root.absolute()
        state = (ledger or own_of(root)).absolute()
        refuse_network_volume(state)
        return cls(root=root, state=state)

    @property
    def inbox(self) -> Path:
        """Where people drop."""
        return self.root / "inbox"

    @property
    def accepted(self) -> Path:
        """What was dropped, by job."""
        return self.root / "accepted"

    @property
    def own(self) -> Path:
        """The farm's own folder."""
        return own_of(self.root)

    @property
    def submitted(self) -> Path:
        """What `submit --farm` brings, a folder each."""
        return submitted_of(self.root)

    @property
    def work(self) -> Path:
        """Rendered segments, each in a folder named by its key; KEY.TOKEN while it is being rendered."""
        return self.own / "work"

    @property
    def evidence(self) -> Path:
        """What segments left that the guards refused twice, a folder each."""
        return self.own / EVIDENCE

    @property
    def trash(self) -> Path:
        """What is being removed."""
        return self.own / "trash"

    @property
    def database(self) -> Path:
        """The ledger itself."""
        return self.state / "ledger.db"

    @property
    def locks(self) -> Path:
        """A lock of each child process; held as long as the child lives."""
        return self.state / "locks"

    def free_job(self, wanted: str) -> str:
        """A job's name that no earlier job's files have, also one of a ledger that is gone: NAME, NAME.r2, NAME.r3.

        Names that differ by case alone are one. Raises StorageError.
        """
        try:
            taken = {folder.name.casefold() for folder in self.accepted.iterdir()}
        except OSError as error:
            raise storage_error(error, self.accepted) from error
        name, _, revision = wanted.rpartition(".r")
        name, number = (name, int(revision)) if name and revision.isdecimal() else (wanted, 1)
        while wanted.casefold() in taken:
            number += 1
            wanted = f"{name}.r{number}"
        return wanted

    def log(self, name: str) -> Path:
        """The log of an attempt or a task."""
        return self.own / "logs" / f"{name}.log"

    def plan(self, name: str) -> Path:
        """What planning a submission leaves."""
        return self.own / "plans" / name

    def returned(self, name: str) -> Path:
        """Where takes go that no manifest and no home has another place for."""
        return self.root / "returned" / name

    def segment(self, key: str) -> Path:
        """A rendered segment."""
        return segment_folder(self.work, key)

    def stage(self, key: str, token: int) -> Path:
        """A segment while it is being rendered under a token."""
        return self.work / f"{segment_folder(self.work, key).name}.{token}"

    def make(self) -> None:
        """Make the folders.

        Raises StorageError.
        """
        named = (self.inbox, self.accepted, self.root / "rejected", self.root / "returned", self.root / "STATUS")
        own = tuple(self.own / name for name in ("claimed", "submitted", "work", EVIDENCE, "logs", "plans", "trash"))
        for folder in (*named, *own, requests_of(self.root), replies_of(self.root), self.state, self.locks):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise storage_error(error, folder) from error


def hold(places: Places) -> IO[bytes]:
    """The lock of a farm's one process; closing it lets go.

    Raises FarmRunning when another process has it, and StorageError.
    """
    path = places.state / LOCK
    try:
        lock = path.open("ab")
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held_by = path.read_text(encoding="ascii", errors="replace").strip()
        lock.close()
        what = f"a farm is already running in {places.root}{f' (process {held_by})' if held_by else ''}"
        raise FarmRunning(what, where=Where(file=str(path))) from None
    except OSError as error:
        lock.close()
        raise storage_error(error, path) from error
    lock.truncate(0)
    lock.write(str(os.getpid()).encode("ascii"))
    lock.flush()
    return lock
