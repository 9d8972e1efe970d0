"""The hot folder: what is dropped in the inbox becomes a claim of ours, whole, once, and is never lost (farm.md §7).

A drop is a cut with its manifest, in either order, or a manifest alone that needs no cut from here. When `arrivals`
finds it all there it is claimed: renamed, file by file, into a folder of its own in .farm/claimed, which holds a record
of what belongs in it before the first file comes. So a claim cut off anywhere is completed from the two listings, or
put back, with no database. The first rename decides between watchers that race; afterwards everything is hashed once
more, since whoever wrote the file may still be writing it. From there the folder is renamed as a whole: to
accepted/JOB, to accepted/JOB/again/N, or to rejected/NAME with a REJECTED.txt.

Nothing dropped is deleted or written over. Only folders that did not exist before are renamed into, and a file that
goes back to the inbox goes by a link, which refuses a name that is taken.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count, takewhile
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from scail2_farm.digests import sha256_text
from scail2_farm.documents import Fault, Submission, read_document, write_bytes, write_text
from scail2_farm.errors import (
    FarmError,
    SettingsInvalid,
    ShareUnavailable,
    StorageError,
    SubmissionInvalid,
    Where,
    storage_error,
)
from scail2_farm.farm.arrivals import SETTLE_NETWORK_S, SETTLE_S, Inbox, Verdict, content_of, shown
from scail2_farm.farm.host import Clock, iso
from scail2_farm.farm.pairing import Drop, drops
from scail2_farm.farm.places import SUBMISSION, own_of
from scail2_farm.farm.watcher import Watcher

log = logging.getLogger(__name__)

STATUS_SCHEMA = "scail2-farm/status@1"
POLL_S = 5.0
TORN_TOLD = 3  # times that a drop changes while it is taken before its editor is told to close it
RECORD = ".claim.json"
REJECTED = "REJECTED.txt"
LONGEST_NAME = 255 - len(".part")  # bytes, of what is written beside itself first


# --------------------------------------------------------------------------- what a look comes to


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A drop that is ours, in a folder of its own, by whose `id` it is known wherever that goes.

    `sha256` is over the contents of cut and manifest, whatever they are called. `edit` lies elsewhere when the
    manifest's `timeline` names a cut elsewhere.
    """

    id: str
    name: str
    sha256: str
    folder: Path
    files: tuple[Path, ...]
    edit: Path | None
    manifest: Path

    def at(self, folder: Path) -> Claim:
        """The same after its folder was renamed."""

        def moved(path: Path) -> Path:
            return folder / path.name if path.parent == self.folder else path

        return replace(
            self,
            folder=folder,
            files=tuple(moved(path) for path in self.files),
            edit=None if self.edit is None else moved(self.edit),
            manifest=moved(self.manifest),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A drop that cannot be one, in a folder of its own; it goes to rejected/ with its faults."""

    id: str
    name: str
    folder: Path
    files: tuple[Path, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What is to be told of a drop that stays in the inbox, or went from it; `since` in UTC seconds."""

    name: str
    state: Literal["arriving", "waiting", "ignored", "gone"]
    why: str
    since: float

    @property
    def document(self) -> dict[str, object]:
        """What `write_status` takes."""
        return {"state": self.state, "why": self.why, "since": iso(self.since)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    name: str
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What belongs in a claimed folder, written before anything is in it; with faults it is refused."""

    id: str
    name: str
    sha256: str
    files: tuple[_File, ...]
    edit: str | None
    manifest: str | None
    faults: tuple[Fault, ...]


_RECORD = TypeAdapter(_Record)
_STATUS = TypeAdapter(dict[str, object])


def _faulty(id_: str, name: str, faults: Iterable[FarmError]) -> _Record:
    """The record of what is refused."""
    told = tuple(Fault.of(fault) for fault in faults)
    return _Record(id=id_, name=name, sha256="", files=(), edit=None, manifest=None, faults=told)


def _refused(record: _Record, folder: Path) -> Refused:
    """What is refused, by its record and where it lies. Raises OSError."""
    return Refused(id=record.id, name=record.name, folder=folder, files=_inside(folder), faults=record.faults)


def _claim_of(record: _Record, folder: Path) -> Claim:
    """A claim by its record and where it lies. Raises OSError."""
    assert record.manifest is not None, "only what is refused has none"
    return Claim(
        id=record.id,
        name=record.name,
        sha256=record.sha256,
        folder=folder,
        files=_inside(folder),
        edit=None if record.edit is None else folder / record.edit,  # an absolute one is itself
        manifest=folder / record.manifest,
    )


class HotFolder:
    """The inbox of a farm and the folders that what was dropped goes on to.

    `poll` may hash and parse for long; it may run in a thread of its own while another thread calls the rest. What is
    a cut by its suffix is in `suffixes`; `unreadable` says what keeps one from being read whole, or raises a
    StorageError when it cannot say now; it writes nothing beside the cut.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock,
        network: bool,
        suffixes: Collection[str],
        unreadable: Callable[[Path], FarmError | None],
        settle_s: float | None = None,
        poll_s: float | None = None,
    ):
        """Make the folders.

        Raises SettingsInvalid when they lie on several volumes, StorageError.
        """
        self.poll_s = POLL_S if poll_s is None else poll_s
        self.inbox, self._accepted, self._rejected = root / "inbox", root / "accepted", root / "rejected"
        self._status, self._claimed = root / "STATUS", own_of(root) / "claimed"
        self.network, self._clock, self._suffixes = network, clock, tuple(suffixes)
        _make((self.inbox, self._accepted, self._rejected, self._status, self._claimed))
        settle = (SETTLE_NETWORK_S if network else SETTLE_S) if settle_s is None else settle_s
        self._inbox = Inbox(self.inbox, clock=clock, settle_s=settle, suffixes=suffixes, unreadable=unreadable)
        self._watcher = Watcher(root, clock=clock, poll_s=self.poll_s)
        self._torn: Counter[str] = Counter()
        self._told: dict[str, Waiting] = {}
        self._unfinished: list[Path] = []

    # ----------------------------------------------------------------------- one watcher

    def hold(self) -> None:
        """Become the one that watches this inbox; see `Watcher.hold`. Raises FarmRunning, StorageError."""
        self._watcher.hold()

    def beat(self) -> None:
        """Say that it is still watched, every `poll_s`. Raises FarmRunning when another took over, StorageError."""
        self._watcher.beat()

    def release(self) -> None:
        """Let go of it. Raises StorageError."""
        self._watcher.release()

    # ----------------------------------------------------------------------- a look

    def poll(self) -> list[Claim | Refused | Waiting]:
        """Look once: what was claimed and refused, in the order it came, and what is to be told anew of the rest.

        Raises StorageError when the inbox cannot be looked at.
        """
        try:
            self._inbox.look()
        except OSError as error:
            raise storage_error(error, self.inbox) from error
        verdicts = {one.name: self._inbox.judge(one) for one in self._inbox}
        order = {name: place for place, name in enumerate(verdicts)}
        found, news = self._finish(), _News()
        for drop in sorted(drops(self._inbox), key=lambda drop: min(order[part.name] for part in drop.parts)):
            for part in drop.parts:
                news.belongs[part.drop] = drop.name
                news.belongs |= {shown(one.name): drop.name for one in self._inbox.sidecars(part.name)}
            found += self._decide(drop, [verdicts[part.name] for part in drop.parts], news)
        for target, sidecar in self._inbox.lonely():
            why = f"{shown(sidecar.name)} waits for {shown(target)}, the file it is about: put it beside it"
            news.tell(shown(sidecar.name), "waiting", why, sidecar.first_seen)
        return [*found, *self._changed(news)]

    def _decide(self, drop: Drop, verdicts: Sequence[Verdict], news: _News) -> list[Claim | Refused]:
        since = min(part.first_seen for part in drop.parts)
        ready = True
        for verdict in verdicts:
            if verdict.state != "complete" and verdict.state != "unfit":
                news.tell(drop.name, verdict.state, self._torn_words(drop) + verdict.why, since)
                ready = False
        faults = [fault for verdict in verdicts for fault in verdict.faults]
        faults += [Fault.of(fault) for fault in _too_long(drop.name, self.inbox)]
        if ready and drop.missing and not faults:
            news.tell(drop.name, "waiting", drop.missing, since)
            ready = False
        if not ready:
            return []
        try:
            got = self._claim(drop, faults)
        except (OSError, FarmError) as error:
            why = error.what if isinstance(error, FarmError) else error.strerror or str(error)
            news.tell(drop.name, "waiting", f"it cannot be taken now: {why}", since)
            return []
        if got is None:
            news.tell(drop.name, "arriving", "it changed while it was being taken", since)
        return [] if got is None else [got]

    def _torn_words(self, drop: Drop) -> str:
        times = self._torn[drop.name]
        if times < TORN_TOLD:
            return ""
        return f"it was still being written {times} times when it was taken: close it where it is written; "

    def _changed(self, news: _News) -> list[Waiting]:
        """What is not told yet."""
        changed = [waiting for name, waiting in news.told.items() if self._told.get(name) != waiting]
        for name, before in self._told.items():
            with_ = news.belongs.get(name)
            if name in news.told or with_ == name:
                continue
            why = "it was taken out of the inbox before it was complete"
            if with_ is not None:
                why = f"it goes with {with_}: see {filed(with_, '.status.json')}"
            changed.append(Waiting(name=name, state="gone", why=why, since=before.since))
            self._torn.pop(name, None)
        self._told = news.told
        return changed

    # ----------------------------------------------------------------------- claiming

    def claimed(self) -> list[Claim | Refused]:
        """What was claimed before and has not gone on; what was claimed in part is completed, or put back.

        Call it once, at start. Raises StorageError.
        """
        try:
            for torn in self._status.glob("*.part"):
                torn.unlink()  # a receipt of ours that was being written
            self._unfinished = sorted(folder for folder in self._claimed.iterdir() if folder.is_dir())
        except OSError as error:
            raise storage_error(error, self._claimed) from error
        return self._finish()

    def unchanged(self, claim: Claim) -> bool:
        """Whether a claimed drop still holds what it was claimed for: its writer may have kept it open.

        Raises StorageError.
        """
        try:
            return self._is_whole(self._record(claim.folder), claim.folder)
        except OSError as error:
            raise storage_error(error, claim.folder) from error

    def put_back(self, claim: Claim) -> None:
        """Put a drop that changed back into the inbox; if its name is taken there, the next look refuses it.

        Raises StorageError.
        """
        self._torn[claim.name] += 1
        try:
            refused = self._put_back(claim.folder)
        except OSError as error:
            raise storage_error(error, claim.folder) from error
        if refused is not None:
            self._unfinished.append(refused.folder)

    def found_in(self, folder: Path) -> Claim | Refused:
        """What lies in a folder that was accepted, or that `submit --farm` brought (with its submission.json).

        Raises StorageError.
        """
        try:
            record = self._record(folder) or self._brought(folder)
            return _refused(record, folder) if record.faults else _claim_of(record, folder)
        except OSError as error:
            raise storage_error(error, folder) from error

    def _claim(self, drop: Drop, faults: Sequence[Fault]) -> Claim | Refused | None:
        """Take a drop; None when it went away or changed. Raises OSError, StorageError, SettingsInvalid."""
        record = self._new_record(drop, faults)
        folder = self._claimed / record.id
        folder.mkdir()
        self._unfinished.append(folder)  # until it is settled what becomes of it
        write_bytes(folder / RECORD, _RECORD.dump_json(record, indent=1))
        names = [part.name for part in drop.parts]
        names += [sidecar.name for name in names for sidecar in self._inbox.sidecars(name)]
        failed: OSError | None = None
        try:
            for name in names:
                (self.inbox / name).rename(folder / name)
        except OSError as error:
            failed = error
        got = self._look_again(folder, record) if failed is None else self._put_back(folder)
        self._unfinished.remove(folder)
        if failed is None or got is not None or isinstance(failed, FileNotFoundError):
            return got
        raise _volumes(self.inbox, self._claimed) if failed.errno == errno.EXDEV else failed

    def _look_again(self, folder: Path, record: _Record) -> Claim | Refused | None:
        """What lies in a claimed folder, if it is what was claimed; else it is put back. Raises OSError."""
        if record.faults:
            return _refused(record, folder)
        if not self._is_whole(record, folder):
            self._torn[record.name] += 1
            return self._put_back(folder)
        self._torn.pop(record.name, None)
        return _claim_of(record, folder)

    def _brought(self, folder: Path) -> _Record:
        """The record of a submission that was brought, put beside it; one with a fault for what is none.

        Raises OSError, StorageError.
        """
        try:
            submission = read_document(folder / SUBMISSION, Submission)
        except SubmissionInvalid as fault:
            return _faulty(folder.name, folder.name, [fault])
        faults = list(_amiss(submission, folder))
        if faults:
            return _faulty(folder.name, folder.name, faults)
        written = [path and Path(path).name for path in (submission.edit, submission.manifest)]
        digests = [path and content_of(folder / path).sha256 for path in written]
        wishes = submission.model_dump_json(by_alias=True, exclude={"name", "edit", "manifest", "priority"})
        record = _Record(
            id=folder.name,
            name=shown(submission.name),
            sha256=_drop_sha256(digests[0], digests[1], wishes),
            files=tuple(_File(name=name, sha256=sha256) for name, sha256 in zip(written, digests, strict=True) if name),
            edit=written[0],
            manifest=written[1],
            faults=(),
        )
        write_bytes(folder / RECORD, _RECORD.dump_json(record, indent=1))
        return record

    def _new_record(self, drop: Drop, faults: Sequence[Fault]) -> _Record:
        edit, manifest = drop.edit, drop.manifest
        digests = [part.content.sha256 if part and part.content else None for part in (edit, manifest)]
        sidecars = [one for part in drop.parts for one in self._inbox.sidecars(part.name)]
        hashed = [*zip((edit, manifest), digests, strict=True)]
        hashed += [(one, _digest(self.inbox / one.name)) for one in sidecars]
        of_cut = digests[0] if drop.elsewhere is None else self._elsewhere(drop.elsewhere)
        sha256 = "" if faults else _drop_sha256(of_cut, digests[1])
        now = datetime.fromtimestamp(self._clock.wall(), UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        stem = filed(f"{now}-{sha256[:12] or 'refused'}-{drop.name}")
        return _Record(
            id=next(place.name for place in _places(self._claimed, stem) if not os.path.lexists(place)),
            name=drop.name,
            sha256=sha256,
            files=tuple(_File(name=one.name, sha256=sha256) for one, sha256 in hashed if one),
            edit=edit.name if edit is not None else drop.elsewhere and str(drop.elsewhere),
            manifest=manifest and manifest.name,
            faults=tuple(faults),
        )

    def _elsewhere(self, cut: Path) -> str | None:
        """The sha256 of a cut outside the inbox; None for what is no cut or cannot be read: planning tells that."""
        real = Path(os.path.realpath(cut))
        try:
            if real.is_dir() and not cut.name.lower().endswith(self._suffixes):
                return None
            return content_of(real).sha256
        except OSError:
            return None

    def _record(self, folder: Path) -> _Record | None:
        try:
            return _RECORD.validate_json((folder / RECORD).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def _is_whole(self, record: _Record | None, folder: Path) -> bool:
        """Whether everything of a record is in its folder, byte for byte. Raises OSError."""
        here = {path.name for path in _inside(folder)}
        return record is not None and all(
            one.name in here and one.sha256 in (None, content_of(folder / one.name).sha256) for one in record.files
        )

    def _finish(self) -> list[Claim | Refused]:
        """Go on with folders in which something was left undone; what fails now is tried at the next look."""
        found: list[Claim | Refused] = []
        for folder in tuple(self._unfinished):
            try:
                got = self._recover(folder)
            except (OSError, StorageError) as error:
                log.warning("claimed drop not recovered yet", extra={"event": "claimed", "why": str(error)})
                continue
            self._unfinished.remove(folder)
            found += [] if got is None else [got]
        return found

    def _recover(self, folder: Path) -> Claim | Refused | None:
        """Complete a claim from what is still in the inbox, or put it back. Raises OSError, StorageError."""
        for own in (RECORD, REJECTED):
            (folder / f"{own}.part").unlink(missing_ok=True)
        record = self._record(folder)
        here = {path.name for path in _inside(folder)}
        if record is None or not here:
            return self._put_back(folder)
        for name in sorted(here):
            if _is_one(folder / name, self.inbox / name):
                (folder / name).unlink()  # it was being put back: what it is called in the inbox is the same file
                here.discard(name)
        for one in record.files:
            left = self.inbox / one.name
            if one.name not in here and one.sha256 is not None and one.sha256 == _digest(left):
                left.rename(folder / one.name)
        return self._look_again(folder, record)

    def _put_back(self, folder: Path) -> Refused | None:
        """Put what lies in a claimed folder back, the file that decides last; Refused when a name is taken.

        Raises OSError, StorageError.
        """
        record = self._record(folder)
        order = [one.name for one in record.files] if record is not None else []
        files = sorted(_inside(folder), key=lambda path: order.index(path.name) if path.name in order else -1)
        taken: list[str] = []
        for path in reversed(files):
            try:
                _move(path, self.inbox / path.name)
            except FileExistsError:
                taken.append(shown(path.name))
            self._inbox.forget(path.name)
        if taken:
            return self._refuse(folder, record, taken)
        for own in folder.iterdir():
            own.unlink()
        folder.rmdir()
        return None

    def _refuse(self, folder: Path, record: _Record | None, taken: Sequence[str]) -> Refused:
        """Refuse what cannot go back, since a new file of its name is in the inbox."""
        fault = SubmissionInvalid(
            f"{', '.join(taken)} changed while it was being taken, and another of that name was dropped meanwhile",
            why="neither is written over: the newer one in the inbox counts",
            fix="nothing, if the newer one is right; else drop the right one",
        )
        refused = _faulty(folder.name, record.name if record is not None else taken[0], [fault])
        write_bytes(folder / RECORD, _RECORD.dump_json(refused, indent=1))
        return _refused(refused, folder)

    # ----------------------------------------------------------------------- going on

    def accept(self, claim: Claim, job: str) -> Path:
        """Put a claimed drop into accepted/JOB, or JOB.2 when that is another's; the same place when asked again.

        Raises StorageError.
        """
        self._unreject(claim.name)
        return self._keep(claim, _places(self._accepted, job))

    def duplicate(self, claim: Claim, job: str) -> Path:
        """Put a drop that was accepted before as a job into accepted/JOB/again/N; the same place when asked again.

        Raises StorageError.
        """
        again = self._accepted / filed(job) / "again"
        self._unreject(claim.name)
        known = sum(1 for _ in again.iterdir()) if again.is_dir() and self._lies(claim) else 0
        return self._keep(claim, (again / str(number) for number in count(known + 1)))

    def reject(self, claim: Claim | Refused, faults: Sequence[Fault]) -> Path:
        """Put a drop into rejected/NAME with its REJECTED.txt, and the same words into STATUS/NAME.REJECTED.txt.

        Raises StorageError.
        """
        places = _places(self._rejected, claim.name)
        if self._lies(claim):
            place = next(place for place in places if not os.path.lexists(place))
            text = self._rejection(claim, faults, place)
            write_text(self._status / filed(claim.name, f".{REJECTED}"), text)
            write_text(claim.folder / REJECTED, text)
            if isinstance(claim, Refused) and not (claim.folder / RECORD).exists():  # it was brought as it is
                record = _faulty(claim.id, claim.name, [fault.error() for fault in faults])
                write_bytes(claim.folder / RECORD, _RECORD.dump_json(record, indent=1))
            places = iter((place,))
        return self._keep(claim, places)

    def write_status(self, name: str, document: Mapping[str, object]) -> None:
        """Write STATUS/NAME.status.json; schema and name are added.

        Raises StorageError.
        """
        told = {"schema": STATUS_SCHEMA, "name": name} | dict(document)
        write_text(self._status / filed(name, ".status.json"), json.dumps(told, indent=2, ensure_ascii=False) + "\n")

    def status(self, name: str) -> Mapping[str, object]:
        """What STATUS/NAME.status.json says; nothing when it is not there, or not whole JSON.

        Raises StorageError.
        """
        path = self._status / filed(name, ".status.json")
        try:
            return _STATUS.validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return {}
        except OSError as error:
            raise storage_error(error, path) from error

    def _unreject(self, name: str) -> None:
        """What was rejected under this name before is not the last word any more."""
        told = self._status / filed(name, f".{REJECTED}")
        try:
            told.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, told) from error

    def _lies(self, claim: Claim | Refused) -> bool:
        """Whether a drop is still in its folder, whose name may be another's by now.

        Raises StorageError.
        """
        try:
            record = self._record(claim.folder)
            return claim.folder.is_dir() if record is None else record.id == claim.id
        except OSError as error:
            raise storage_error(error, claim.folder) from error

    def _keep(self, claim: Claim | Refused, places: Iterable[Path]) -> Path:
        """Rename a claimed folder to the first place that is free, or find where it was renamed to before.

        Raises StorageError.
        """
        try:
            if not self._lies(claim):
                return self._kept(claim, places)
            place = next(place for place in places if not os.path.lexists(place))
            place.parent.mkdir(parents=True, exist_ok=True)
            claim.folder.rename(place)
        except OSError as error:
            raise storage_error(error, claim.folder) from error
        return place

    def _kept(self, claim: Claim | Refused, places: Iterable[Path]) -> Path:
        for place in takewhile(os.path.lexists, places):
            record = self._record(place)
            if record is not None and record.id == claim.id:
                return place
        raise ShareUnavailable(f"{claim.folder} is gone", where=Where(file=str(claim.folder)))

    def _rejection(self, claim: Claim | Refused, faults: Sequence[Fault], place: Path) -> str:
        """REJECTED.txt."""
        now = datetime.fromtimestamp(self._clock.wall(), UTC).strftime("%Y-%m-%d %H:%M UTC")
        files = ", ".join(shown(path.name) for path in claim.files)
        kept = f"rejected/{place.name}/"
        lines = [
            f"{claim.name} was not accepted. Nothing of it is rendered.",
            "",
            f"Files:     {files}",
            f"Rejected:  {now}",
            f"Kept in:   {kept} (nothing was deleted)",
            "",
        ]
        lines.append("This is wrong:" if len(faults) == 1 else f"These {len(faults)} things are wrong:")
        for number, fault in enumerate(faults, 1):
            where = self._place_of(fault, claim.folder)
            lines += ["", f"{number}. {fault.what}{f'  ({where})' if where else ''}"]
            lines += [f"   why: {fault.why}", f"   fix: {fault.fix}"]
        return "\n".join([*lines, "", "When it is mended, drop the files into the inbox again.", ""])

    def _place_of(self, fault: Fault, folder: Path) -> str:
        """Where a fault is; a file that was dropped by its name alone, since it moves."""
        where = fault.error().where
        if where.file and any(Path(where.file).is_relative_to(own) for own in (self.inbox, folder)):
            where = replace(where, file=Path(where.file).name)
        return shown(str(where))


# --------------------------------------------------------------------------- telling


class _News:
    """What one look has to tell, a name at a time, and which names go with which drop."""

    def __init__(self) -> None:
        self.told: dict[str, Waiting] = {}
        self.belongs: dict[str, str] = {}

    def tell(self, name: str, state: Literal["arriving", "waiting", "ignored"], why: str, since: float) -> None:
        before = self.told.get(name)
        if before is not None:
            states: tuple[Literal["arriving", "waiting", "ignored"], ...] = ("arriving", "waiting", "ignored")
            state = next(one for one in states if one in (state, before.state))
            why, since = f"{before.why}; {why}", min(since, before.since)
        self.told[name] = Waiting(name=name, state=state, why=why, since=since)


# --------------------------------------------------------------------------- files


def filed(name: str, ending: str = "") -> str:
    """A file's name for the thing of a name: as it is, or shortened with a hash where no file could be called so."""
    encoded = name.encode("utf-8")
    room = LONGEST_NAME - len(ending.encode("utf-8"))
    if len(encoded) > room:
        mark = "~" + hashlib.sha256(encoded).hexdigest()[:8]
        name = encoded[: room - len(mark)].decode("utf-8", "ignore") + mark
    return name + ending


def _places(parent: Path, name: str) -> Iterator[Path]:
    """NAME, NAME.2, NAME.3 and so on in a folder."""
    yield parent / filed(name)
    yield from (parent / filed(name, f".{number}") for number in count(2))


def _too_long(name: str, folder: Path) -> Iterator[FarmError]:
    """What keeps a cut from being returned under its name: the longest file it would be in is NAME.scail2.otio.part."""
    longest = LONGEST_NAME - len(".scail2.otio")
    if len(os.fsencode(name)) > longest:
        yield SubmissionInvalid(
            f"the name of the cut is too long: {len(os.fsencode(name))} bytes, at most {longest} can be returned",
            why="the returned cut is called NAME.scail2.otio, and no disk takes longer names",
            fix="drop it under a shorter name",
            where=Where(file=str(folder / name)),
        )


def _amiss(submission: Submission, folder: Path) -> Iterator[FarmError]:
    """What keeps a submission that was brought into a folder from being taken: names of it become those of our files.

    Raises OSError.
    """
    where = Where(file=str(folder / SUBMISSION))
    yield from _too_long(submission.name, folder)
    kept = {
        field: path and Path(path).name
        for field, path in (("edit", submission.edit), ("manifest", submission.manifest))
    }
    for field, name in {"name": submission.name, **kept}.items():
        if name is None:
            continue
        if name in ("", ".", "..") or "/" in name:
            written = str(getattr(submission, field))
            yield SubmissionInvalid(
                f"the submission's `{field}` is {shown(written)}, which no file can be called by",
                why="a submission is kept in folders of the farm under its own names, and never leads out of them",
                fix="submit the cut and its manifest as files, and name the cut without `/`",
                where=replace(where, field=field),
            )
        elif field != "name" and not _is_plain(folder / name):
            yield SubmissionInvalid(
                f"{shown(name)} was not brought with the submission that names it",
                why="a submission is taken with its cut and its manifest, or not at all",
                fix="submit it again",
                where=replace(where, field=field),
            )


def _is_plain(path: Path) -> bool:
    """Whether there is a file or a folder itself, and no link to one. Raises OSError."""
    return not path.is_symlink() and (path.is_file() or path.is_dir())


def _inside(folder: Path) -> tuple[Path, ...]:
    """What was dropped, of what lies in a claimed folder."""
    own = (REJECTED, f"{REJECTED}.part")
    return tuple(sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in own))


def _digest(path: Path) -> str:
    """The sha256 of a file or folder; empty when there is none or it cannot be read."""
    try:
        return content_of(path).sha256
    except OSError:
        return ""


def _drop_sha256(cut: str | None, manifest: str | None, *wishes: str) -> str:
    """What a drop is known by: the contents of its cut and its manifest, and what was wished besides."""
    return sha256_text("\n".join((cut or "", manifest or "", *wishes)))


def _is_one(one: Path, other: Path) -> bool:
    """Whether two names are one file."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def _move(source: Path, target: Path) -> None:
    """Rename without ever replacing anything.

    A link refuses a name that is taken, and so does a folder of which something is in it. Volumes that know no links
    are few: there a file that appears at the target within a moment would be replaced, and only people and this one
    watcher put anything there. Raises FileExistsError and other OSErrors.
    """
    if not source.is_dir():
        try:
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            if not _is_one(source, target):
                raise
        except FileNotFoundError:
            raise
        except OSError:
            _move_unlinked(source, target)
            return
        source.unlink()
        return
    _move_unlinked(source, target)


def _move_unlinked(source: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)


def _make(folders: Sequence[Path]) -> None:
    """Make folders that files can be renamed between.

    Raises SettingsInvalid, StorageError.
    """
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if folder.stat().st_dev != folders[0].stat().st_dev:
                raise _volumes(folders[0], folder)
        except OSError as error:
            raise storage_error(error, folder) from error


def _volumes(one: Path, other: Path) -> SettingsInvalid:
    return SettingsInvalid(
        f"{one} and {other} lie on different volumes",
        why="what is dropped is renamed, never copied: only so it is taken whole or not at all",
        fix="make the folders of a farm plain folders of one volume",
        where=Where(file=str(other)),
    )
