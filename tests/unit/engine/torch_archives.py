"""Tensor archives as torch writes them, without torch: for tests of what reads them.

Python's own pickler writes the pickle, memo and all; modules that bear torch's names stand where it looks names up, for
as long as it writes. Compared with torch 2.13: the files are the same byte for byte, but for the id torch gives each.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import sys
import types
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import numpy as np

STORAGES = {
    "F64": "DoubleStorage",
    "F32": "FloatStorage",
    "F16": "HalfStorage",
    "BF16": "BFloat16Storage",
    "I64": "LongStorage",
    "I32": "IntStorage",
    "I16": "ShortStorage",
    "I8": "CharStorage",
    "U8": "ByteStorage",
    "BOOL": "BoolStorage",
}
SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
ALIGNMENT, FULL = 64, 0xFFFFFFFF
FLAGS = 0x808  # names in UTF-8, sizes and checksums behind the content


@dataclass(eq=False)
class Storage:
    """A run of numbers that tensors are views of; a number for a content is a hole of so many bytes."""

    dtype: str
    content: bytes | int
    typed: bool = True

    @property
    def count(self) -> int:
        size = self.content if isinstance(self.content, int) else len(self.content)
        return size // (SIZES[self.dtype] if self.typed else 1)


@dataclass(eq=False)
class Tensor:
    """A view of a storage; contiguous and from its start unless told otherwise."""

    storage: Storage
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    first: int = 0
    parameter: bool = False

    def steps(self) -> tuple[int, ...]:
        return self.strides or tuple(math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape)))


def tensor(array: np.ndarray, *, dtype: str | None = None, **fields: Any) -> Tensor:
    """A tensor of its own storage; `dtype` BF16 takes the bits as uint16."""
    kind = dtype or {"f": "F", "i": "I", "u": "U", "b": "BOOL"}[array.dtype.kind] + (
        "" if array.dtype.kind == "b" else str(array.dtype.itemsize * 8)
    )
    return Tensor(Storage(kind, np.ascontiguousarray(array).tobytes()), array.shape, **fields)


def bfloat16(array: np.ndarray, **fields: Any) -> Tensor:
    """A tensor of float32 numbers, rounded."""
    bits = np.array(mx.array(array.astype(np.float32)).astype(mx.bfloat16).view(mx.uint16))
    return tensor(bits, dtype="BF16", **fields)


class _Names:
    """Modules of torch's names, in which the pickler finds what it is given."""

    def __init__(self) -> None:
        self.modules = {name: types.ModuleType(name) for name in ("torch", "torch._utils", "torch.storage")}

    def named(self, module: str, name: str) -> Any:
        home = self.modules[module]
        if not hasattr(home, name):
            setattr(home, name, type(name, (), {"__module__": module, "__qualname__": name}))
        return getattr(home, name)


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, protocol: int, names: _Names) -> None:
        super().__init__(file, protocol)
        self.names = names
        self.storages: list[Storage] = []
        self.keys: dict[int, str] = {}

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Storage):
            return None
        if id(obj) not in self.keys:
            self.keys[id(obj)] = str(len(self.storages))
            self.storages.append(obj)
        module, name = ("torch", STORAGES[obj.dtype]) if obj.typed else ("torch.storage", "UntypedStorage")
        return ("storage", self.names.named(module, name), self.keys[id(obj)], "cpu", obj.count)

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            name = "_rebuild_tensor_v2" if obj.storage.typed else "_rebuild_tensor_v3"
            arguments = (obj.storage, obj.first, obj.shape, obj.steps(), False, OrderedDict())
            if not obj.storage.typed:
                arguments = (*arguments, self.names.named("torch", f"uint{8 * SIZES[obj.storage.dtype]}"))
            plain = Tensor(obj.storage, obj.shape, obj.steps(), obj.first)
            if obj.parameter:
                return self.names.named("torch._utils", "_rebuild_parameter"), (plain, True, OrderedDict())
            return self.names.named("torch._utils", name), arguments
        return NotImplemented


def pickled(content: Any, *, protocol: int = 2) -> tuple[bytes, list[Storage]]:
    """The data.pkl of what torch.save would be given, and the storages it speaks of."""
    file, names = io.BytesIO(), _Names()
    pickler = _Pickler(file, protocol, names)
    with patch.dict(sys.modules, names.modules):
        pickler.dump(content)
    return file.getvalue(), pickler.storages


def write_archive(path: Path, content: Any, *, protocol: int = 2) -> Path:
    """Write what torch.save(content, path) would write."""
    program, storages = pickled(content, protocol=protocol)
    return write_members(path, program, {str(key): storage.content for key, storage in enumerate(storages)})


def write_members(
    path: Path,
    program: bytes,
    storages: Mapping[str, bytes | int],
    *,
    said: Mapping[str, bytes] | None = None,
    checksums: bool = True,
) -> Path:
    """An archive of a given pickle; holes have no checksum. `said` replaces small members, empty ones are left out."""
    small = {".format_version": b"1", ".storage_alignment": b"64", "byteorder": b"little", **(said or {})}
    members: dict[str, bytes | int] = {
        "data.pkl": program,
        **{name: words for name, words in small.items() if words},
        **{f"data/{key}": content for key, content in storages.items()},
        "version": b"3\n",
        ".data/serialization_id": b"0" * 40,
    }
    directory = bytearray()
    with path.open("wb") as file:
        for name, content in members.items():
            full = f"{path.stem}/{name}".encode()
            size = content if isinstance(content, int) else len(content)
            checksum = 0 if isinstance(content, int) or not checksums else zlib.crc32(content)
            start = file.tell()
            padding = -(start + 30 + len(full) + 4) % ALIGNMENT
            file.write(struct.pack("<4s3H4xIII2H", b"PK\3\4", 0, FLAGS, 0, 0, 0, 0, len(full), 4 + padding) + full)
            file.write(struct.pack("<2sH", b"FB", padding) + b"Z" * padding)
            if isinstance(content, int):
                file.seek(size, 1)
            else:
                file.write(content)
            file.write(struct.pack("<4sIQQ" if size > FULL else "<4sIII", b"PK\7\x08", checksum, size, size))
            directory += _entry(full, checksum, size, start)
        count, length, start = len(members), len(directory), file.tell()
        file.write(directory + struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 0x31E, 45, 0, 0, count, count, length, start))
        file.write(struct.pack("<4sIQI", b"PK\6\7", 0, start + length, 1))
        file.write(struct.pack("<4s4xHHIIH", b"PK\5\6", count, count, length, min(start, FULL), 0))
    return path


def _entry(name: bytes, checksum: int, size: int, start: int) -> bytes:
    """An entry of the directory; what does not fit in 32 bits stands in a record behind it."""
    wide = [number for number in (size, size, start) if number >= FULL]
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    sizes = (checksum, min(size, FULL), min(size, FULL), len(name), len(extra))
    return struct.pack("<4s4H4xIIIHH10xI", b"PK\1\2", 0, 0, FLAGS, 0, *sizes, min(start, FULL)) + name + extra
