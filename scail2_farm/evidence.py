"""What a segment leaves that the guards refused twice: what was made, and why it was refused, where people can look.

A folder for each, SHOT-SEGMENT-KEY, its segments counted from 1::

    FAULT.txt       what, why, fix and where, as the user is told
    segment.json    what was to be rendered
    frames/  comp_matte/  raw/  history.npy  report.json    what was handed in, as far as it was

It is the folder the last attempt worked in, renamed: nothing is copied, and nothing is kept of the attempt before. The
same segment refused again takes the place of what was kept of it; what was kept of another is never touched. A disk
without room keeps none.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from scail2_farm.documents import KINDS, Segment, document_text, write_text
from scail2_farm.errors import DiskFull, FarmError, StorageError, Where, storage_error

EVIDENCE = "evidence"
"""The folder of all of them, in a work folder or in a farm's own."""
NAME = re.compile(r".+-[1-9][0-9]*-[0-9a-f]{8}")
FAULT = "FAULT.txt"
SEGMENT = "segment.json"
LOOKED_AT = ("frames", "raw", "comp_matte")
"""What people look at, the most telling first."""
DAY_S = 86400.0


def folder_of(segment: Segment, *, root: Path) -> Path:
    """Where what a segment leaves is kept."""
    return root / f"{segment.shot}-{segment.index + 1}-{segment.key[:8]}"


def keep(
    fault: FarmError,
    *,
    segment: Segment,
    root: Path,
    kept_free: int = 0,
    discard: Callable[[Path], object] = shutil.rmtree,
) -> FarmError:
    """Keep what an attempt left in its segment's folder below `root`, on the same volume; the fault that names it.

    `kept_free` are bytes that stay free on the disk, `discard` removes what was kept before. Where nothing can be kept
    the fault says why, and the attempt's folder is still there. Keeping the same attempt again changes nothing.
    """
    stage, folder = Path(segment.folder), folder_of(segment, root=root)
    try:
        kept = not stage.is_dir() and _holds(folder, segment)
        told = _told(fault, segment, found=folder if kept else stage, folder=folder)
        if not kept:
            _check_free(stage.parent, kept_free)
            _complete(stage, segment, told)
            root.mkdir(parents=True, exist_ok=True)
            coming = folder.with_name(f".{folder.name}")
            if coming.exists():
                shutil.rmtree(coming)
            stage.rename(coming)
            if folder.exists():
                discard(folder)
            coming.rename(folder)
    except (OSError, StorageError, UnicodeError) as error:
        lost = storage_error(error, root) if isinstance(error, OSError) else error
        what = lost.what if isinstance(lost, StorageError) else str(lost)
        why = f"{fault.why}; what it made could not be kept: {what}"
        return type(fault)(fault.what, why=why, fix=fault.fix, where=_without(fault.where, stage))
    return told


def sweep(root: Path, *, older_than_days: float) -> list[StorageError]:
    """Remove what was kept below `root` longer ago than that; what could not be. Links are not followed."""
    until, faults = time.time() - older_than_days * DAY_S, list[StorageError]()
    try:
        kept = sorted(root.iterdir()) if root.is_dir() and not root.is_symlink() else []
    except OSError as error:
        return [storage_error(error, root)]
    for folder in kept:
        try:
            own = NAME.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink()
            if own and folder.stat().st_mtime < until:
                shutil.rmtree(folder)
        except OSError as error:
            faults.append(storage_error(error, folder))
    return faults


def _holds(folder: Path, segment: Segment) -> bool:
    """Whether what is kept is this very attempt's: its document names the folder it worked in."""
    path = folder / SEGMENT
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace") == document_text(segment)


def _check_free(folder: Path, kept_free: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < kept_free:
        what = f"the disk has {free / 1e9:.2f} GB free, and {kept_free / 1e9:.2f} GB stay free"
        raise DiskFull(what, where=Where(file=str(folder)))


def _complete(stage: Path, segment: Segment, told: FarmError) -> None:
    """Put the words beside what was handed in; folders of which nothing was made say nothing and go."""
    stage.mkdir(exist_ok=True)
    for kind in KINDS:
        if (stage / kind).is_dir() and not any((stage / kind).iterdir()):
            (stage / kind).rmdir()
    write_text(stage / SEGMENT, document_text(segment))
    write_text(stage / FAULT, f"{told}\n")


def _told(fault: FarmError, segment: Segment, *, found: Path, folder: Path) -> FarmError:
    """The fault with what is to be looked at: what an attempt left lies in `found`, and will in `folder`."""
    shown = next((kind for kind in LOOKED_AT if (found / kind).is_dir() and any((found / kind).iterdir())), None)
    if shown is None:
        fix = f"{fault.fix}; no picture was made: {FAULT} in {folder} says where it stopped, {SEGMENT} what was asked"
    else:
        fix = f"look at {shown}/ in {folder}, which is what was refused; then {fault.fix}"
    where, stage = fault.where, Path(segment.folder)
    if where.file is None:
        where = replace(where, file=str(folder))
    elif (file := Path(where.file)).is_relative_to(stage):
        inner = file.relative_to(stage)
        where = replace(where, file=str(folder / inner if (found / inner).exists() else folder))
    return type(fault)(fault.what, why=fault.why, fix=fix, where=replace(where, shot=where.shot or segment.shot))


def _without(where: Where, stage: Path) -> Where:
    """A place that names no file of a folder that goes."""
    return replace(where, file=None) if where.file and Path(where.file).is_relative_to(stage) else where
