"""The versions of a shot on disk: FOLDER/shots/SHOT/vNNN, each with the record of its take."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from scail2_farm.documents import Take, read_document
from scail2_farm.errors import SubmissionInvalid, storage_error

TAKE = "take.json"


def version_folder(folder: Path, shot: str, version: int) -> Path:
    """Where one version of a shot is, in the folder that holds shots/."""
    return folder / "shots" / shot / f"v{version:03d}"


def newest_version(folder: Path, shot: str) -> int:
    """The number of the newest version of a shot; 0 when there is none.

    Raises StorageError.
    """
    return max(_numbers(folder, shot), default=0)


def takes(folder: Path, shot: str) -> Iterator[tuple[Path, Take | None]]:
    """Every version of a shot, the newest first: its folder, and its take; None where the record cannot be read.

    Raises StorageError.
    """
    for number in sorted(_numbers(folder, shot), reverse=True):
        version = version_folder(folder, shot, number)
        try:
            yield version, read_document(version / TAKE, Take)
        except SubmissionInvalid:
            yield version, None


def _numbers(folder: Path, shot: str) -> list[int]:
    place = f"{folder}/shots/{shot}"  # asked for ten thousand shots that have none
    try:
        with os.scandir(place) as entries:
            names = [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise storage_error(error, Path(place)) from error
    return [int(name[1:]) for name in names if re.fullmatch(r"v\d{3,}", name)]
