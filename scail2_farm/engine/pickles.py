"""Tensor archives of torch (.pt and .pth files), read without torch and without running anything (engine.md §10.4).

Such a file is a zip archive: `NAME/data.pkl`, a pickle that says which tensors there are, and `NAME/data/N`, the
numbers, stored as they are. A pickle is a program, and loading one runs what its author wrote. So it is not loaded:
the machine below knows the few instructions that state containers and tensors, calls nothing, imports nothing, and
refuses every other instruction and every other name. (Narrowing `pickle.Unpickler` was the other way. It still
allocates what the program asks for and hashes what it nests, which a hostile file can use to end the process.)

The zip directory is read here as well, because only stored members can be read in place and because its size must be
bounded. Opening a file reads its directory and its pickle; numbers are read when they are asked for.
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
import zlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from scail2_farm.errors import WeightsMismatch, Where, storage_error

BYTES = 16 << 20
"""The largest pickle and the largest zip directory that are read; those of the 14B model are below 1 MB."""
INSTRUCTIONS = 1 << 18  # a tensor takes 25
NAMES = 1 << 22  # characters of all names together, counting 16 more for each
NAME = 1 << 10  # characters of one key
DEPTH, AXES = 64, 16
LARGEST = 1 << 60  # of sizes, strides and offsets
CHUNK = 16 << 20
SHOWN = 24  # faults in a message

NUMBERS: dict[str, type[np.generic]] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
"""The types of numbers by their safetensors names, and how numpy holds them; it has no bfloat16, and holds the bits."""

ORDERED, SIZE, PARAMETER = "collections.OrderedDict", "torch.Size", "torch._utils._rebuild_parameter"
TENSOR, TENSOR_OF_TYPE = "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3"
UNTYPED = "torch.storage.UntypedStorage"
STORAGES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}
TYPES = {
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int64": "I64",
    "torch.int32": "I32",
    "torch.int16": "I16",
    "torch.int8": "I8",
    "torch.uint64": "U64",
    "torch.uint32": "U32",
    "torch.uint16": "U16",
    "torch.uint8": "U8",
    "torch.bool": "BOOL",
}
GLOBALS = {ORDERED, SIZE, PARAMETER, TENSOR, TENSOR_OF_TYPE, UNTYPED, *STORAGES, *TYPES}
"""Every name a pickle may speak of."""

LEGACY = b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""How files began before they were zip archives: a pickle of a magic number."""
FIX = (
    "use the file as its author published it; a file of your own, load in torch and save again as a dict of plain "
    "tensors: torch.save(tensors, path)"
)


class _Refused(Exception):
    """Why a file is not read, in words; never leaves this module."""


def open_archive(path: Path) -> TensorArchive:
    """Open a tensor archive and read what tensors it holds; close it, or use it as a context.

    Raises WeightsMismatch when the file is no such archive, is damaged, or wants to do anything else than state tensors
    (naming what), and StorageError when it cannot be read.
    """
    with contextlib.ExitStack() as stack:
        try:
            archive = TensorArchive(path, stack.enter_context(path.open("rb", buffering=0)))
        except OSError as error:
            raise storage_error(error, path) from error
        except _Refused as error:
            raise _mismatch(path, str(error)) from None
        stack.pop_all()
        return archive


def _mismatch(path: Path, why: str) -> WeightsMismatch:
    return WeightsMismatch(
        f"{path.name} {why}",
        why="tensor archives are read, never run: each holds plain tensors, whole and in bounds, and nothing else",
        fix=FIX,
        where=Where(file=str(path)),
    )


class TensorArchive:
    """An open archive: tensors by their nested names, joined with dots.

    `ignored` names what is in the archive and is no tensor, each container that holds none as one.
    """

    def __init__(self, path: Path, file: io.FileIO) -> None:
        """Read directory and pickle of an open file; raises _Refused and OSError (see `open_archive`)."""
        self.path = path
        self._file = file
        self._members = _members(file)
        self._top = self._named_top()
        self._require_known_form()
        program = self._content("data.pkl", most=BYTES)
        self._views, self.ignored = _flattened(_Machine(program).run())
        if faults := [f"{name} {fault}" for name, view in self._views.items() if (fault := self._fault(view))]:
            raise _Refused(f"is damaged: {_listed(faults, '; ')}")

    def names(self) -> list[str]:
        """Every tensor, in the order of the archive."""
        return list(self._views)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; raises KeyError for a name that is not there, as all that follows."""
        return self._views[name].shape

    def dtype(self, name: str) -> str:
        """The type of a tensor as safetensors names it: F32, BF16, ..."""
        return self._views[name].dtype

    def tensor(self, name: str, *, first: int = 0, count: int | None = None) -> mx.array:
        """Read a tensor in its stored type, or `count` of its rows from `first` on; doubles come as float32.

        No more of the file is read than the rows span. Raises IndexError for rows that are not there, WeightsMismatch
        when the file was cut short meanwhile, and StorageError.
        """
        view = self._views[name]
        if count is not None:
            if not (view.shape and 0 <= first <= first + count <= view.shape[0]):
                raise IndexError(f"{name} {list(view.shape)} has no rows {first} to {first + count}")
            view = replace(view, first=view.first + first * view.strides[0], shape=(count, *view.shape[1:]))
        array = mx.array(self._numbers(view))
        return array.view(mx.bfloat16) if view.dtype == "BF16" else array

    def check(self) -> Generator[int]:
        """Read all numbers once and compare them with the archive's checksums, yielding how many bytes were read.

        Raises WeightsMismatch naming the tensors that changed, and StorageError. An archive written without checksums
        (torch can leave them 0) passes.
        """
        buffer = memoryview(bytearray(CHUNK))
        faults: list[str] = []
        for name, member in self._held():
            found = 0
            for offset in range(0, member.size, CHUNK):
                piece = buffer[: min(CHUNK, member.size - offset)]
                self._read_into(member.start + offset, piece)
                found = zlib.crc32(piece, found)
                yield len(piece)
            if member.checksum not in (0, found):
                faults.append(name)
        if faults:
            raise _mismatch(self.path, f"is damaged: the checksum is another for {_listed(faults, ', ')}")

    def stored_bytes(self) -> int:
        """How many bytes `check` reads."""
        return sum(member.size for _, member in self._held())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> TensorArchive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _numbers(self, view: _View) -> NDArray[Any]:
        """A tensor as NUMBERS holds its type."""
        dtype = np.dtype(NUMBERS[view.dtype])
        if not math.prod(view.shape):
            return np.empty(view.shape, dtype)
        span = np.empty(view.last - view.first, dtype)
        start = self._member(view).start + view.first * dtype.itemsize
        self._read_into(start, memoryview(cast("Any", span)).cast("B"))
        strides = [step * dtype.itemsize for step in view.strides]
        return np.lib.stride_tricks.as_strided(span, view.shape, strides)

    def _member(self, view: _View) -> _Member:
        return self._members[f"{self._top}/data/{view.key}"]

    def _held(self) -> list[tuple[str, _Member]]:
        """Every stored member that tensors lie in, with the first of them."""
        first: dict[str, str] = {}
        for name, view in self._views.items():
            first.setdefault(view.key, name)
        return [(name, self._member(self._views[name])) for name in first.values()]

    def _named_top(self) -> str:
        """The folder all members lie in."""
        tops = [name.removesuffix("/data.pkl") for name in self._members if name.endswith("/data.pkl")]
        if len(tops) != 1:
            raise _Refused(f"is a zip archive, but not of tensors: it holds {len(tops) or 'no'} data.pkl")
        return tops[0]

    def _require_known_form(self) -> None:
        """Refuse another order of bytes and another format; old archives say neither."""
        order = self._content("byteorder", most=16, default=b"little")
        if order != b"little":
            said = "big-endian, which is not read" if order == b"big" else f"of the byte order {order!r}, unheard of"
            raise _Refused(f"is {said}; save it on a machine of today")
        version = self._content(".format_version", most=16, default=b"1").strip()
        if version != b"1":
            raise _Refused(f"is of format {version!r}, and only 1 is known")

    def _content(self, name: str, *, most: int, default: bytes = b"") -> bytes:
        """A small member, whole and checked, or what stands for one that is not there."""
        member = self._members.get(f"{self._top}/{name}")
        if member is None:
            return default
        if member.size > most:
            raise _Refused(f"has a {name} of {member.size} bytes, more than any model needs")
        content = bytearray(member.size)
        self._read_into(member.start, memoryview(content))
        if member.checksum not in (0, zlib.crc32(content)):
            raise _Refused(f"is damaged: {name} has another checksum than the archive says")
        return bytes(content)

    def _fault(self, view: _View) -> str | None:
        """What is wrong with where a tensor says it lies."""
        member = self._members.get(f"{self._top}/data/{view.key}")
        if member is None:
            return f"has no numbers: data/{_shown(view.key)} is not in the archive"
        size = np.dtype(NUMBERS[view.dtype]).itemsize
        if view.stored_bytes > member.size:
            return f"is cut short: {view.stored_bytes} bytes are announced, {member.size} are there"
        if math.prod(view.shape) and view.last * size > view.stored_bytes:
            return f"{list(view.shape)} reaches beyond the {view.stored_bytes} bytes it is a view of"
        if math.prod(view.shape) * size > view.stored_bytes:
            return f"{list(view.shape)} repeats the {view.stored_bytes} bytes it is a view of"
        return None

    def _read_into(self, start: int, buffer: memoryview) -> None:
        """Fill a buffer from a place in the file; reads of more than 2 GB come in pieces."""
        try:
            self._file.seek(start)
            while len(buffer):
                if not (read := self._file.readinto(buffer)):
                    raise _mismatch(self.path, "is cut short: it ends before its tensors do")
                buffer = buffer[read:]
        except OSError as error:
            raise storage_error(error, self.path) from error


# --------------------------------------------------------------------------- the zip archive


@dataclass(frozen=True, slots=True)
class _Member:
    """A file stored in the archive: where its bytes start and how many they are."""

    start: int
    size: int
    checksum: int


def _members(file: io.FileIO) -> dict[str, _Member]:
    """The stored files of a zip archive by name, each within the file."""
    length = file.seek(0, io.SEEK_END)
    _require_zip(_at(file, 0, min(64, length)))
    count, size, start = _directory(file, length)
    if size > BYTES or start + size > length:
        raise _Refused("is damaged: its directory lies outside the file, or is larger than any model needs")
    directory = _at(file, start, size)
    members: dict[str, _Member] = {}
    at = 0
    try:
        for _ in range(count):
            name, member, at = _entry(file, directory, at)
            if name in members:
                raise _Refused(f"is damaged: {_shown(name)} is in it twice")
            if member.start + member.size > length:
                raise _Refused(f"is cut short: {_shown(name)} ends beyond the file")
            members[name] = member
    except (struct.error, UnicodeDecodeError):
        raise _Refused("is damaged: its directory cannot be read") from None
    return members


def _require_zip(head: bytes) -> None:
    if head.startswith(b"PK\3\4"):
        return
    if head.startswith(LEGACY):
        raise _Refused("is in the format torch had before version 1.6, which is not read")
    if head[8:9] == b"{":
        raise _Refused("is a safetensors file under another name; name it .safetensors")
    raise _Refused("is not a tensor archive of torch: no zip file begins like this")


def _directory(file: io.FileIO, length: int) -> tuple[int, int, int]:
    """How many entries the directory has, how many bytes, and where it starts."""
    reach = min(length, 22 + 0xFFFF)
    tail = _at(file, length - reach, reach)
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) - end < 22:
        raise _Refused("is cut short: the directory at its end is missing; copy or download it again")
    _, count, size, start = struct.unpack_from("<HHII", tail, end + 8)
    locator = tail[max(0, end - 20) : end]
    if locator.startswith(b"PK\6\7"):
        (at,) = struct.unpack_from("<Q", locator, 8)
        record = _at(file, at, 56) if at + 56 <= length else b""
        if not record.startswith(b"PK\6\6"):
            raise _Refused("is damaged: the directory at its end leads nowhere")
        count, size, start = struct.unpack_from("<QQQ", record, 32)
    return count, size, start


def _entry(file: io.FileIO, directory: bytes, at: int) -> tuple[str, _Member, int]:
    """The entry at a place in the directory, and where the next one is."""
    fields = struct.unpack_from("<4s4xHH4xIIIHHH8xI", directory, at)
    mark, flags, method, checksum, packed, size, name_length, extra_length, comment_length, header = fields
    if mark != b"PK\1\2":
        raise _Refused("is damaged: its directory cannot be read")
    names, extras = at + 46, at + 46 + name_length
    name = directory[names:extras].decode("utf-8")
    size, packed, header = _wide(directory[extras : extras + extra_length], size, packed, header)
    if method or flags & 1 or packed != size:
        raise _Refused(f"holds {_shown(name)} compressed or encrypted, which torch never does")
    local = _at(file, header, 30)
    if not local.startswith(b"PK\3\4"):
        raise _Refused(f"is damaged: {_shown(name)} is not where the directory says")
    start = header + 30 + sum(struct.unpack_from("<HH", local, 26))
    return name, _Member(start, size, checksum), extras + extra_length + comment_length


def _wide(extra: bytes, *narrow: int) -> list[int]:
    """Fields of 32 bits, those that are full taken from the zip64 record of an entry."""
    wide = b""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            wide = extra[4 : 4 + length]
        extra = extra[4 + length :]
    numbers: list[int] = []
    for number in narrow:
        if number == 0xFFFFFFFF:
            (number,) = struct.unpack_from("<Q", wide)
            wide = wide[8:]
        numbers.append(number)
    return numbers


def _at(file: io.FileIO, start: int, count: int) -> bytes:
    """Bytes of the file; fewer where it ends."""
    if start >= LARGEST:
        return b""
    file.seek(start)
    return file.read(count)


# --------------------------------------------------------------------------- the pickle


@dataclass(frozen=True, slots=True)
class _Global:
    """One of GLOBALS, spoken of; it is a word and can do nothing."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """A run of numbers: its member in the archive and its bytes; without a type when the tensor says it."""

    key: str
    dtype: str | None
    stored_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """A tensor: a view of a storage; `first` and `strides` count numbers, not bytes."""

    key: str
    dtype: str
    stored_bytes: int
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def last(self) -> int:
        """One past the furthest number, where there is any."""
        return self.first + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True)) + 1


class _Ordered(dict[object, object]):
    """An OrderedDict; torch hangs notes on those of modules, which are dropped."""


CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False}
EMPTY: dict[bytes, Callable[[], object]] = {b"}": dict, b"]": list, b")": tuple}
FIXED = {b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d"}
TEXTS = {b"X": "<I", b"\x8c": "<B", b"\x8d": "<Q"}
STRINGS = {b"C": "<B", b"B": "<I", b"\x8e": "<Q"}
PUTS, GETS = {b"q": "<B", b"r": "<I"}, {b"h": "<B", b"j": "<I"}
SHORT_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
SKIPPED = {b"\x80": 1, b"\x95": 8}  # the protocol, and the length of a frame
BUILDERS = {b"o": "OBJ", b"\x81": "NEWOBJ", b"\x92": "NEWOBJ_EX", b"\x82": "EXT1", b"\x83": "EXT2", b"\x84": "EXT4"}


class _Machine:
    """The instructions of protocols 2 to 5 that state plain values, containers and tensors."""

    def __init__(self, program: bytes) -> None:
        self._program = program
        self._at = 0
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def run(self) -> object:
        """What the program states; raises _Refused."""
        try:
            for _ in range(INSTRUCTIONS):
                code = self._take(1)
                if code == b".":
                    return self._stack.pop()
                self._step(code)
        except (IndexError, KeyError, struct.error, UnicodeDecodeError):
            raise _Refused("is damaged: its pickle makes no sense") from None
        raise _Refused(f"states its tensors in more than {INSTRUCTIONS} instructions, more than any model needs")

    def _step(self, code: bytes) -> None:
        """One instruction; here those of plain values and the memo, in `_build` those of containers and tensors."""
        push = self._stack.append
        if code in CONSTANTS:
            push(CONSTANTS[code])
        elif code in EMPTY:
            push(EMPTY[code]())
        elif code in FIXED:
            push(self._number(FIXED[code]))
        elif code in TEXTS:
            push(self._take(self._number(TEXTS[code])).decode("utf-8", "surrogatepass"))
        elif code in STRINGS:
            push(self._take(self._number(STRINGS[code])))
        elif code in PUTS:
            self._memo[self._number(PUTS[code])] = self._stack[-1]
        elif code in GETS:
            push(self._memo[self._number(GETS[code])])
        elif code in SHORT_TUPLES:
            push(tuple(self._stack.pop() for _ in range(SHORT_TUPLES[code]))[::-1])
        elif code in SKIPPED:
            self._take(SKIPPED[code])
        else:
            self._build(code)

    def _build(self, code: bytes) -> None:
        stack = self._stack
        match code:
            case b"(":
                self._marks.append(len(stack))
            case b"t":
                stack.append(tuple(self._since_mark()))
            case b"\x94":
                self._memo[len(self._memo)] = stack[-1]
            case b"\x8a":
                stack.append(int.from_bytes(self._take(self._number("<B")), "little", signed=True))
            case b"a" | b"e":
                items = [stack.pop()] if code == b"a" else self._since_mark()
                self._list().extend(items)
            case b"s" | b"u":
                items = [stack.pop(), stack.pop()][::-1] if code == b"s" else self._since_mark()
                self._set(items)
            case b"c":
                stack.append(_named(self._line(), self._line()))
            case b"\x93":
                name, module = stack.pop(), stack.pop()
                stack.append(_named(module, name))
            case b"Q":
                stack.append(_storage(stack.pop()))
            case b"R":
                arguments, called = stack.pop(), stack.pop()
                stack.append(_rebuilt(called, arguments))
            case b"b":
                notes = stack.pop()
                if not (isinstance(stack[-1], _Ordered) and isinstance(notes, dict)):
                    raise _Refused("wants to set the state of an object (instruction BUILD)")
            case _:
                self._refuse(code)

    def _refuse(self, code: bytes) -> NoReturn:
        if code == b"i":
            _named(self._line(), self._line())
        if code in BUILDERS or code == b"i":
            raise _Refused(f"wants to make an object (instruction {BUILDERS.get(code, 'INST')})")
        raise _Refused(f"uses the pickle instruction {code!r}, which torch does not write")

    def _take(self, count: int) -> bytes:
        taken = self._program[self._at : self._at + count]
        if len(taken) < count:
            raise _Refused("is damaged: its pickle is cut short")
        self._at += count
        return taken

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _line(self) -> str:
        end = self._program.find(b"\n", self._at)
        return self._take((end if end >= 0 else len(self._program)) + 1 - self._at)[:-1].decode("utf-8")

    def _since_mark(self) -> list[object]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _list(self) -> list[object]:
        if not isinstance(self._stack[-1], list):
            raise _Refused("is damaged: its pickle appends to what is no list")
        return cast("list[object]", self._stack[-1])

    def _set(self, items: Sequence[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise _Refused("is damaged: its pickle puts entries into what is no dict")
        entries = cast("dict[object, object]", target)
        for key, value in zip(items[::2], items[1::2], strict=True):
            short = isinstance(key, str) and len(key) <= NAME and key.isprintable()
            if not short and not (isinstance(key, int) and abs(key) < 1 << 48):
                raise _Refused("has an entry under a key that is neither a short text nor a number")
            entries[key] = value


def _named(module: object, name: object) -> _Global:
    """A name the pickle speaks of; every one that is not of GLOBALS is refused."""
    full = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else ""
    if full not in GLOBALS:
        raise _Refused(f"wants to run {_shown(full) or 'what it has no name for'}")
    return _Global(full)


def _storage(claim: object) -> _Storage:
    """The storage that a persistent id names: ('storage', type, key, device, count)."""
    match claim:
        case ("storage", _Global(name), str() as key, str(), int() as count) if 0 <= count < LARGEST:
            if name == UNTYPED:
                return _Storage(key, None, count)
            if name in STORAGES:
                dtype = STORAGES[name]
                return _Storage(key, dtype, count * np.dtype(NUMBERS[dtype]).itemsize)
        case _:
            pass
    raise _Refused("speaks of something outside itself that is no storage of numbers")


def _rebuilt(called: object, arguments: object) -> object:
    """What one of the five known functions would make of its arguments, made here; every other call is refused."""
    name = called.name if isinstance(called, _Global) else None
    given = cast("tuple[object, ...]", arguments) if isinstance(arguments, tuple) else (None,)
    match given:
        case () if name == ORDERED:
            return _Ordered()
        case (size,) if name == SIZE and isinstance(size, tuple):
            return cast("object", size)
        case (_View() as view, _, _) if name == PARAMETER:
            return view
        case (_Storage() as storage, first, shape, strides, _, _, *notes) if name == TENSOR:
            return _view(storage, storage.dtype, first, shape, strides, notes)
        case (_Storage() as storage, first, shape, strides, _, _, _Global(kind), *notes) if name == TENSOR_OF_TYPE:
            return _view(storage, TYPES.get(kind), first, shape, strides, notes)
        case _:
            raise _Refused(f"calls {name or 'what is no function'} with what torch does not give it")


def _view(
    storage: _Storage, dtype: str | None, first: object, shape: object, strides: object, notes: Sequence[object]
) -> _View:
    if dtype is None or any(notes):  # a note says that the numbers are to be negated or conjugated
        raise _Refused("holds a tensor of a kind that is not read: of no number type, negated or conjugated")
    sizes, steps = _whole(shape), _whole(strides)
    if len(sizes) != len(steps):
        raise _Refused("holds a tensor of an impossible shape")
    (start,) = _whole((first,))
    return _View(
        key=storage.key, dtype=dtype, stored_bytes=storage.stored_bytes, first=start, shape=sizes, strides=steps
    )


def _whole(numbers: object) -> tuple[int, ...]:
    """A tuple of whole numbers, none negative or absurd."""
    if isinstance(numbers, tuple):
        found = cast("tuple[object, ...]", numbers)
        whole = tuple(number for number in found if isinstance(number, int) and 0 <= number < LARGEST)
        if len(whole) == len(found) <= AXES:
            return whole
    raise _Refused("holds a tensor of an impossible shape")


def _flattened(root: object) -> tuple[dict[str, _View], tuple[str, ...]]:
    """Tensors by dotted name, and the names of what else there is."""
    views: dict[str, _View] = {}
    left = NAMES

    def walk(value: object, name: str, depth: int) -> list[str] | None:
        """The names of what is no tensor in a value; None when none of it is."""
        nonlocal left
        left -= 16 + len(name)
        if left < 0 or depth > DEPTH:
            raise _Refused("is nested too deeply, or repeats itself without end")
        if isinstance(value, _View):
            if not name or name in views:
                raise _Refused(f"holds two tensors named {name}" if name else "is one tensor without a name")
            views[name] = value
            return []
        parts = _parts(value)
        found = [(part, walk(each, f"{name}.{part}" if name else part, depth + 1)) for part, each in parts]
        if all(other is None for _, other in found):
            return None
        prefix = f"{name}." if name else ""
        return [each for part, other in found for each in ([prefix + part] if other is None else other)]

    ignored = walk(root, "", 0)
    if not views:
        raise _Refused("holds no tensors")
    return views, tuple(ignored or ())


def _parts(value: object) -> list[tuple[str, object]]:
    """What a container holds, by name; nothing for all else."""
    if isinstance(value, dict):
        return [(str(key), each) for key, each in cast("dict[object, object]", value).items()]
    if isinstance(value, list | tuple):
        return [(str(index), each) for index, each in enumerate(cast("Sequence[object]", value))]
    return []


def _shown(name: str) -> str:
    """A name out of a file, fit for a message."""
    safe = name if name.isprintable() else ascii(name)[1:-1]
    return safe if len(safe) <= 120 else f"{safe[:120]}..."


def _listed(names: Sequence[str], between: str) -> str:
    more = f"{between}and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return between.join(names[:SHOWN]) + more
