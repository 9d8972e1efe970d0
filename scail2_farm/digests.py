"""Files by content: sha256, remembered by path, size and modification time.

A plate of a thousand frames is hashed once, not on every submit. The memory is a JSON file in the work folder; a
missing or damaged one costs time, never correctness, so it is read forgivingly and written whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from scail2_farm.documents import FileDigest, write_text
from scail2_farm.errors import storage_error

_Memory = TypeAdapter(dict[str, tuple[int, int, str]])
CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, read in pieces.

    Raises StorageError.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise storage_error(error, path) from error
    return digest.hexdigest()


def sha256_text(text: str) -> str:
    """The sha256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_of_several(digests: Mapping[str, str]) -> str:
    """One digest over those of several files by name: of `DIGEST  NAME` lines in the order of the names."""
    return sha256_text("".join([f"{digest}  {name}\n" for name, digest in sorted(digests.items())]))


class Digests:
    """The digests of one job's inputs."""

    def __init__(self, memory: Path):
        self._path = memory
        self._known: dict[str, tuple[int, int, str]] = {}
        if memory.is_file():
            try:
                self._known = _Memory.validate_json(memory.read_bytes())
            except ValidationError:
                self._known = {}  # hashed again; nothing else depends on it

    def of(self, path: Path) -> FileDigest:
        """The digest of one file.

        Raises StorageError when it cannot be read.
        """
        try:
            stat = path.stat()
        except OSError as error:
            raise storage_error(error, path) from error
        known = self._known.get(str(path))
        if known is None or known[:2] != (stat.st_size, stat.st_mtime_ns):
            known = (stat.st_size, stat.st_mtime_ns, sha256_of(path))
            self._known[str(path)] = known
        return FileDigest(path=str(path), sha256=known[2])

    def of_folder(self, folder: Path, names: Iterable[str]) -> FileDigest:
        """One digest over named files of a folder."""
        digests = {name: self.of(folder / name).sha256 for name in names}
        return FileDigest(path=str(folder), sha256=sha256_of_several(digests))

    def changed(self, path: Path) -> bool:
        """Whether a file is gone, or is not of the size and time that are remembered; False for one nobody knows.

        Raises StorageError.
        """
        known = self._known.get(str(path))
        try:
            stat = path.stat()
        except FileNotFoundError:
            return True
        except OSError as error:
            raise storage_error(error, path) from error
        return known is not None and known[:2] != (stat.st_size, stat.st_mtime_ns)

    def save(self) -> None:
        """Remember what was hashed.

        Raises StorageError.
        """
        write_text(self._path, json.dumps(self._known))
