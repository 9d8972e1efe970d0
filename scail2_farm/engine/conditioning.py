"""What the encoders said, kept on disk by what it was said of.

UMT5 is larger than the packed network, and a farm asks it the same few questions: the shots of a cut share prompts,
the segments and takes of a shot share everything. An entry is one answer (rows of float32) in one file, named after
the digest of all that decides it; a damaged one is as good as none. The folder may be shared by processes. It saves
time and nothing else, so a disk that fails here is told in the log and fails nothing.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save  # pyright: ignore[reportUnknownVariableType]

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

LIMIT_BYTES = 2 << 30  # some two hundred of the longest prompts
ROWS, DIGEST, SUFFIX = "rows", "digest", ".safetensors"
ABANDONED_S = 3600.0  # a .part older than this was left by a process that died


class Answers:
    """A folder of answers, bounded: the ones unused longest go first."""

    def __init__(self, folder: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def get(self, key: str) -> Floats | None:
        """The answer kept under a key; None when there is none, or what is there is damaged."""
        path = self.folder / (key + SUFFIX)
        try:
            content = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("an answer cannot be read", extra={"event": "answer_unreadable", "error": str(error)})
            return None
        try:
            kept = cast("dict[str, Floats]", load(content))
            rows, digest = kept[ROWS], kept[DIGEST]
        except (SafetensorError, KeyError):
            rows = digest = None
        if rows is None or digest is None or digest.tobytes() != _digest(rows) or rows.dtype != np.float32:
            log.warning("a damaged answer is made again", extra={"event": "answer_damaged", "file": str(path)})
            return None
        return rows

    def put(self, key: str, rows: Floats) -> None:
        """Keep an answer, whole or not at all, and let go of the oldest beyond the limit."""
        path = self.folder / (key + SUFFIX)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        content = save({ROWS: rows, DIGEST: np.frombuffer(_digest(rows), dtype=np.uint8)})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            self._trim()
        except OSError as error:
            log.warning("an answer cannot be kept", extra={"event": "answer_not_kept", "error": str(error)})
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _trim(self) -> None:
        kept: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another process lets go of it too
                stat = path.stat()
                if path.suffix == SUFFIX:
                    kept.append((stat.st_mtime, stat.st_size, path))
                elif path.suffix == ".part" and time.time() - stat.st_mtime > ABANDONED_S:
                    path.unlink()
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept)[:-1]:  # never the newest
            if total <= self.limit_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size


def _digest(rows: Floats) -> bytes:
    return hashlib.sha256(f"{rows.shape}".encode() + np.ascontiguousarray(rows).tobytes()).digest()
