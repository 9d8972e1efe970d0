# pyright: reportUnknownMemberType=false
# (mlx.core leaves some of its answers untyped)
"""Snapshots being written: folders that appear whole, tensor files filled one tensor at a time, digests beside them.

A safetensors file is a header that says where each tensor lies, and the tensors. `TensorFile` writes the header first,
so that the tensors can follow in any order, one in memory at a time; where they lie depends on their names and types
alone. The libraries write such a file from a dictionary of all tensors, which is the size of the model.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
import struct
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import mlx.core as mx

from scail2_farm.errors import DiskFull, StorageError, Where, storage_error

SUMS = "SHA256SUMS"
CHUNK = 4 << 20
TYPES = {"U32": mx.uint32, "F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}
FIX = "free some space, or correct the path or its permissions, and run the command again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is being read or written, and how many bytes of all are done."""

    what: str
    done: int
    of: int


@dataclass(frozen=True, slots=True)
class Stored:
    """How a tensor is stored: its type as safetensors spells it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """What it takes in the file."""
        return TYPES[self.dtype].size * math.prod(self.shape)


class TensorFile:
    """A safetensors file of a known layout, filled in any order; used as a context, which ends with a complete file."""

    def __init__(self, path: Path, layout: Mapping[str, Stored]) -> None:
        self._path, self._layout = path, layout
        self._offsets: dict[str, int] = {}
        end = 0
        for name in sorted(layout, key=lambda name: (-TYPES[layout[name].dtype].size, name)):  # widest first: aligned
            self._offsets[name] = end
            end += layout[name].bytes
        fields = {
            name: {
                "dtype": layout[name].dtype,
                "shape": list(layout[name].shape),
                "data_offsets": [start, start + layout[name].bytes],
            }
            for name, start in self._offsets.items()
        }
        header = json.dumps(fields, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        self._head = struct.pack("<Q", len(header)) + header
        self.bytes = len(self._head) + end
        self._left = set(layout)

    def write(self, name: str, tensor: mx.array) -> None:
        """Put a tensor in its place.

        Raises ValueError when it is unknown, written already, or not of the promised type and shape; OSError.
        """
        promised = self._layout.get(name)
        if promised is None or name not in self._left:
            raise ValueError(f"{name} is {'written twice' if promised else 'not in the layout of the file'}")
        if tuple(tensor.shape) != promised.shape or tensor.dtype != TYPES[promised.dtype]:
            raise ValueError(f"{name} is {tensor.dtype} {list(tensor.shape)}, not {promised}")
        self._left.remove(name)
        self._file.seek(len(self._head) + self._offsets[name])
        if tensor.size:
            self._file.write(memoryview(cast(Any, tensor.reshape(-1).view(mx.uint8))))

    def __enter__(self) -> TensorFile:
        """Begin a new file; raises OSError."""
        with contextlib.ExitStack() as stack:
            self._file = stack.enter_context(self._path.open("xb"))
            self._file.write(self._head)
            self._file.truncate(self.bytes)
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; raises ValueError when a tensor was never written, OSError."""
        self._file.close()
        if error is None and self._left:
            raise ValueError(f"{len(self._left)} tensors were not written: {', '.join(sorted(self._left))}")


@contextlib.contextmanager
def new_folder(target: Path, *, keep: bool = False) -> Generator[Path]:
    """A folder that appears whole or not at all: the TARGET.part handed out is synced with its files, and renamed.

    What an earlier run left there is removed first, and after an exception nothing is left; with `keep` both stay, for
    a run that goes on where the last one stopped. Raises FileExistsError when `target` holds anything or another
    process is writing it, and StorageError.
    """
    require_new(target)
    part = target.with_name(f"{target.name}.part")
    with told(part):
        part.mkdir(parents=True, exist_ok=True)
        held = os.open(part, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileExistsError(f"{part} is being written by another process") from None
        try:
            with told(part):
                if not keep:
                    _emptied(part)
                yield part
                for path in (*part.iterdir(), part):
                    _sync(path)
                part.rename(target)
                _sync(target.parent)
        except BaseException:
            if not keep:
                shutil.rmtree(part, ignore_errors=True)
            raise
    finally:
        os.close(held)


def require_new(target: Path) -> None:
    """Raise FileExistsError when `target` is anything but absent or an empty folder."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} is there already; a snapshot is written into a new or an empty folder")


def require_room(target: Path, needed: int) -> None:
    """Raise DiskFull when the disk of a folder to be made has no room for so many bytes."""
    place = next(parent for parent in target.absolute().parents if parent.is_dir())
    with told(place):
        free = shutil.disk_usage(place).free
    if needed > free:
        what = f"{target.name} takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
        raise DiskFull(what, why="a snapshot is begun only where all of it fits", fix=FIX, where=Where(file=str(place)))


@contextlib.contextmanager
def told(path: Path) -> Generator[None]:
    """OSErrors of the disk as StorageErrors whose fix is about snapshots, not frames."""
    try:
        yield
    except OSError as error:
        fault = storage_error(error, error.filename or path)
        raise type(fault)(fault.what, why=StorageError.__doc__, fix=FIX, where=fault.where) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _emptied(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def hashed(path: Path, *, kind: str = "sha256", opening: bytes = b"") -> Generator[int, None, str]:
    """The digest of `opening` and a file's content; yields the number of bytes of each piece read. Raises OSError."""
    digest = hashlib.new(kind, opening)
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
            yield len(piece)
    return digest.hexdigest()


def copied(source: Path, target: Path) -> Generator[int, None, str]:
    """Copy a file and answer its sha256; yields the number of bytes of each piece. Raises OSError."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("xb") as writing:
        while piece := reading.read(CHUNK):
            digest.update(piece)
            writing.write(piece)
            yield len(piece)
    return digest.hexdigest()


def counted_bytes(
    pieces: Generator[int, None, str], *, what: str, done: int, of: int
) -> Generator[Progress, None, tuple[str, int]]:
    """The pieces of `hashed` or `copied` as Progress; answers the digest, and `done` with what was read."""
    while True:
        try:
            done += next(pieces)
        except StopIteration as stop:
            return stop.value, done
        yield Progress(what=what, done=done, of=of)


def sums_text(digests: Mapping[str, str]) -> str:
    """The content of SHA256SUMS, as `sha256sum --check` reads it."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def read_sums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """What SHA256SUMS says of these files; empty when there is none.

    Raises OSError, and ValueError for a line that is not a digest and a name.
    """
    path = folder / SUMS
    if not path.is_file():
        return {}
    wanted = set(names)
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        digest, _, name = line.partition(" ")
        if not line.strip():
            continue
        if len(digest) != 64 or not set(digest.lower()) <= set("0123456789abcdef") or not name.strip():
            raise ValueError(f"line {number} is not a sha256 and a file name")
        if name.lstrip(" *") in wanted:
            found[name.lstrip(" *")] = digest.lower()
    return found
