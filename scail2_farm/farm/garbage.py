"""What a farm need not keep, and how it goes.

Finding is a look and a list, so that it can be shown before anything happens. Removing is a rename into the trash
and a deletion there: whatever dies in between, a folder under its own name is whole or gone, and what is in the trash
is deleted at the next start.

Only the farm's own folders are looked at, and in them only names that the farm gives: what people dropped and what
was delivered, with the history a longer shot starts from, is no garbage however old. Links are never followed.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from scail2_farm.errors import SettingsInvalid, StorageError, Where, storage_error
from scail2_farm.evidence import NAME as EVIDENCE
from scail2_farm.farm.places import Places, replies_of

SEGMENT = re.compile(r"[0-9a-f]{24}")
STAGE = re.compile(r"([0-9a-f]{24})\.([0-9]+|stage)")
LOG = re.compile(r"(.+?)\.log(\.tail|\.old|\.before)?")
DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A segment's folder as one attempt left it, KEY24.TOKEN, or as it is put back: KEY24.stage (no token)."""

    path: Path
    folder: str
    token: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """A file or folder that may go; `bytes` is what that frees, so without files that have another name elsewhere."""

    path: Path
    bytes: int
    why: str


# --------------------------------------------------------------------------- finding


def stages(work: Path) -> list[Stage]:
    """Every stage in a work folder, by name. At start none of them is being rendered.

    Raises StorageError.
    """
    found = ((entry, STAGE.fullmatch(entry.name)) for entry in _entries(work))
    return [
        Stage(path=Path(entry.path), folder=match[1], token=None if match[2] == "stage" else int(match[2]))
        for entry, match in found
        if match and entry.is_dir(follow_symlinks=False)
    ]


def find(
    places: Places, *, needed: Set[str], keep_stages: Set[str], keep: Set[str], now: float, older_than_s: float
) -> list[Garbage]:
    """What may be removed, nothing of it touched.

    Stages go whatever their age, but those named in `keep_stages` (KEY24.TOKEN): at start the ones that hold a whole
    segment, later those that are being rendered. What is older than `older_than_s` at `now` (UTC seconds) goes too:
    rendered segments whose keys are not in `needed`, plans and logs whose names are not in `keep`, evidence, replies
    nobody took. With math.inf it is stages alone. Raises StorageError, and SettingsInvalid when a folder of the farm
    is a link.
    """
    swept = _swept(places)
    left = [stage.path for stage in stages(swept.work) if stage.path.name not in keep_stages]
    found = [_judged(path, "left by an attempt that came to nothing", now=now, older_than_s=-math.inf) for path in left]
    if older_than_s < math.inf:
        idle = _idle(swept, segments={places.segment(key).name for key in needed}, keep=keep)
        found += [_judged(path, why, now=now, older_than_s=older_than_s) for path, why in idle]
    return [garbage for garbage in found if garbage]


class _Swept(NamedTuple):
    """The folders that are looked at, and nothing else is removed from."""

    work: Path
    evidence: Path
    plans: Path
    logs: Path
    replies: Path


def _swept(places: Places) -> _Swept:
    own = places.work, places.evidence, places.plan("-").parent, places.log("-").parent
    folders = _Swept(*own, replies_of(places.root))
    for folder in (*folders, places.trash):
        below = folder.relative_to(places.own).parts
        for part in (places.own.joinpath(*below[:depth]) for depth in range(len(below) + 1)):
            if part.is_symlink():
                raise SettingsInvalid(
                    f"{part} is a link, and nothing is removed behind a link",
                    fix="put a real folder there, or mount the other disk under the farm's root",
                    where=Where(file=str(part)),
                )
    return folders


def _idle(swept: _Swept, *, segments: Set[str], keep: Set[str]) -> Iterator[tuple[Path, str]]:
    """What nothing needs whatever its age, and why: `segments` and `keep` name what is needed."""
    for entry in _entries(swept.work):
        if SEGMENT.fullmatch(entry.name) and entry.name not in segments and entry.is_dir(follow_symlinks=False):
            yield Path(entry.path), "a rendered segment that no open shot needs"
    for entry in _entries(swept.evidence):
        if EVIDENCE.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            yield Path(entry.path), "evidence of a segment that was refused twice"
    for entry in _entries(swept.plans):
        if entry.name not in keep and entry.is_dir(follow_symlinks=False):
            yield Path(entry.path), "the plan of something finished"
    for entry in _entries(swept.logs):
        match = LOG.fullmatch(entry.name)
        if match and match[1] not in keep and entry.is_file(follow_symlinks=False):
            yield Path(entry.path), "the log of something finished"
    for entry in _entries(swept.replies):
        if entry.is_file(follow_symlinks=False):
            yield Path(entry.path), "an answer that nobody took"


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name; nothing when it is not there."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(error, folder) from error


def _judged(path: Path, why: str, *, now: float, older_than_s: float) -> Garbage | None:
    """The garbage that a file or folder is; None when it is too young, or has just gone."""
    try:
        written = [entry.stat(follow_symlinks=False).st_mtime for entry in _entries(path)] if path.is_dir() else []
        age = now - max([path.lstat().st_mtime, *written])
        if age <= older_than_s:
            return None
        days = "" if older_than_s < 0 else f", {age / DAY_S:.0f} days old"
        return Garbage(path=path, bytes=sum(_freed(path)), why=why + days)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, path) from error


def _freed(path: Path) -> Iterator[int]:
    found = path.lstat()
    if stat.S_ISDIR(found.st_mode):
        for entry in _entries(path):
            yield from _freed(Path(entry.path))
    elif found.st_nlink == 1:
        yield found.st_size


# --------------------------------------------------------------------------- removing


def set_aside(garbage: Iterable[Garbage], *, places: Places) -> list[StorageError]:
    """The first half, one rename each: afterwards none of it is there under its name.

    What could not be removed is told, and does not keep the rest. The ledger is first told of the keys whose folders
    go (`swept`): a folder it does not count on is no loss, a loss it does not know of is one. Raises StorageError when
    there can be no trash, and SettingsInvalid as `find` does.
    """
    folders = _swept(places)
    try:
        places.trash.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, places.trash) from error
    faults: list[StorageError] = []
    for piece in garbage:
        if piece.path.parent not in folders or piece.path.name in ("", ".."):
            raise ValueError(f"{piece.path} is not the farm's to remove")
        try:
            piece.path.rename(places.trash / uuid.uuid4().hex)
        except FileNotFoundError:
            continue  # gone by itself: an answer was taken
        except OSError as error:
            faults.append(storage_error(error, piece.path))
    return faults


def empty(places: Places) -> list[StorageError]:
    """The second half, which takes its time: delete what lies in the trash, also what a kill left there earlier.

    Faults are those of `set_aside`.
    """
    _swept(places)
    faults: list[StorageError] = []
    for entry in _entries(places.trash):
        try:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                Path(entry.path).unlink(missing_ok=True)
        except OSError as error:
            faults.append(storage_error(error, entry.path))
    return faults
