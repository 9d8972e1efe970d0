"""Tensor archives: read exactly, never run, and every broken or hostile one a single clear error."""

from __future__ import annotations

import json
import os
import random
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from torch_archives import Storage, Tensor, bfloat16, pickled, tensor, write_archive, write_members

from scail2_farm.engine.pickles import open_archive
from scail2_farm.errors import ShareUnavailable, WeightsMismatch

NUMBERS = np.random.default_rng(4).standard_normal((6, 8)).astype(np.float32)
HEAD = b"\x80\x02"
GLOBAL = b"ctorch._utils\n_rebuild_tensor_v2\n"
FLOAT = b"ctorch\nFloatStorage\n"


def text(words: str) -> bytes:
    return b"X" + struct.pack("<I", len(words)) + words.encode()


def storage(key: str = "0", count: bytes = b"K\x04", kind: bytes = FLOAT) -> bytes:
    return b"(" + text("storage") + kind + text(key) + text("cpu") + count + b"tQ"


def view(
    held: bytes | None = None,
    *,
    first: bytes = b"K\x00",
    shape: bytes = b"K\x04\x85",
    strides: bytes = b"K\x01\x85",
    more: bytes = b"",
) -> bytes:
    """A tensor of four numbers in the storage 0."""
    rest = first + shape + strides + b"\x89ccollections\nOrderedDict\n)R" + more
    return GLOBAL + b"(" + (storage() if held is None else held) + rest + b"tR"


def entry(value: bytes, *, name: str = "a") -> bytes:
    """A program that states one entry of a dict."""
    return HEAD + b"}" + text(name) + value + b"s."


def written(path: Path, program: bytes, **fields: Any) -> Path:
    return write_members(path / "made.pt", program, {"0": NUMBERS[0, :4].tobytes()}, **fields)


def refusal(path: Path) -> str:
    """What opening a file is refused with."""
    with pytest.raises(WeightsMismatch) as caught:
        open_archive(path)
    assert caught.value.where.file == str(path)
    assert caught.value.what.startswith(path.name)
    return caught.value.what


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_torch_writes_is_read_exactly(tmp_path: Path, protocol: int) -> None:
    """Every type; views with strides and offsets; one storage of several tensors; parameters; nested containers."""
    base = tensor(NUMBERS)
    kinds = {
        str(np.dtype(kind)): np.arange(6).astype(kind).reshape(2, 3)
        for kind in ("float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
    }
    nested = {"list": [tensor(NUMBERS[:1]), {"x": tensor(np.full((), 2.5, np.float32))}], "pair": (3, tensor(NUMBERS))}
    content: dict[Any, Any] = {
        "module": OrderedDict((name, tensor(array)) for name, array in kinds.items()),
        "views": {
            "base": base,
            "turned": Tensor(base.storage, (8, 6), (1, 8)),
            "slice": Tensor(base.storage, (3, 3), (8, 2), 17),
            "row": Tensor(base.storage, (8,), (1,), 24),
            "empty": Tensor(base.storage, (0, 3)),
            "parameter": tensor(NUMBERS, parameter=True),
        },
        7: nested,
        "half": bfloat16(NUMBERS),
        "double": tensor(NUMBERS.astype(np.float64)),
        "untyped": Tensor(Storage("U16", np.arange(5, dtype=np.uint16).tobytes(), typed=False), (5,)),
        "iteration": 12,
        "args": {"lr": 0.1, "name": "a", "none": None, "many": [1, 2**40, -3, True]},
    }
    expected = {f"module.{name}": array for name, array in kinds.items()} | {
        "views.base": NUMBERS,
        "views.turned": NUMBERS.T,
        "views.slice": NUMBERS[2:5, 1:7:2],
        "views.row": NUMBERS[3],
        "views.empty": np.empty((0, 3), np.float32),
        "views.parameter": NUMBERS,
        "7.list.0": NUMBERS[:1],
        "7.list.1.x": np.full((), 2.5, np.float32),
        "7.pair.1": NUMBERS,
        "double": NUMBERS,
        "untyped": np.arange(5, dtype=np.uint16),
    }
    with open_archive(write_archive(tmp_path / "all.pt", content, protocol=protocol)) as archive:
        assert set(archive.names()) == {*expected, "half"}
        assert archive.ignored == ("7.pair.0", "iteration", "args")
        for name, array in expected.items():
            read = np.array(archive.tensor(name))
            assert (read.dtype, read.shape, archive.shape(name)) == (array.dtype, array.shape, array.shape)
            assert np.array_equal(read, array), name
        half = archive.tensor("half")
        assert (half.dtype, archive.dtype("half")) == (mx.bfloat16, "BF16")
        assert mx.array_equal(half, mx.array(NUMBERS).astype(mx.bfloat16)).item()
        assert sum(archive.check()) == archive.stored_bytes()


def test_rows_are_read_alone(tmp_path: Path) -> None:
    base = tensor(NUMBERS)
    with open_archive(write_archive(tmp_path / "a.pt", {"a": base, "t": Tensor(base.storage, (8, 6), (1, 8))})) as it:
        assert np.array_equal(np.array(it.tensor("a", first=2, count=3)), NUMBERS[2:5])
        assert np.array_equal(np.array(it.tensor("t", first=5, count=2)), NUMBERS.T[5:7])
        assert it.tensor("a", first=6, count=0).shape == (0, 8)
        with pytest.raises(IndexError, match="no rows 4 to 7"):
            it.tensor("a", first=4, count=3)
        with pytest.raises(KeyError):
            it.tensor("b")


def test_numbers_are_read_on_demand(tmp_path: Path) -> None:
    """Of two million numbers, those of one row are held."""
    path = write_archive(tmp_path / "a.pt", {"a": tensor(np.zeros((2000, 1000), np.float32))})
    tracemalloc.start()
    with open_archive(path) as archive:
        archive.tensor("a", first=1999, count=1)
        most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 20


CANARY = "canary"
FOREIGN = {
    "a call": (HEAD + b"cposix\nsystem\n" + text(f"touch {CANARY}") + b"\x85R.", "wants to run posix.system"),
    "os": (HEAD + b"cos\nsystem\n" + text(f"touch {CANARY}") + b"\x85R.", "wants to run os.system"),
    "by stack": (b"\x80\x04" + text("os") + text("system") + b"\x93" + text("x") + b"\x85R.", "wants to run os.system"),
    "only named": (entry(b"cbuiltins\neval\n"), "wants to run builtins.eval"),
    "an instance": (HEAD + b"(" + text(f"touch {CANARY}") + b"ios\nsystem\n.", "wants to run os.system"),
    "an instance of ours": (HEAD + b"(icollections\nOrderedDict\n.", "wants to make an object (instruction INST)"),
    "an object": (HEAD + b"(ccollections\nOrderedDict\no.", "wants to make an object (instruction OBJ)"),
    "a new object": (HEAD + b"ccollections\nOrderedDict\n)\x81.", "wants to make an object (instruction NEWOBJ)"),
    "new with names": (HEAD + b"ccollections\nOrderedDict\n)}\x92.", "(instruction NEWOBJ_EX)"),
    "an extension": (HEAD + b"\x82\x01.", "wants to make an object (instruction EXT1)"),
    "in a dotted name": (b"\x80\x04" + text("torch") + text("os.system") + b"\x93.", "wants to run torch.os.system"),
    "of a loader": (entry(b"ctorch.storage\n_load_from_bytes\n"), "wants to run torch.storage._load_from_bytes"),
    "a dtype called": (entry(b"ctorch\nfloat32\n)R"), "calls torch.float32 with what torch does not give it"),
    "a storage called": (entry(FLOAT + b"K\x04\x85R"), "calls torch.FloatStorage"),
    "a text called": (entry(text("os.system") + b")R"), "calls what is no function"),
    "a tensor called": (entry(view() + b")R"), "calls what is no function"),
    "the memo called": (HEAD + b"K\x05q\x00h\x00)R.", "calls what is no function"),
    "an ordered dict of items": (entry(b"ccollections\nOrderedDict\n](K\x01K\x02\x86e\x85R"), "calls collections"),
    "a state": (HEAD + b"}}" + text("__setstate__") + text("x") + b"sb.", "wants to set the state of an object"),
    "a state of a tensor": (entry(view() + b"}b"), "wants to set the state of an object"),
    "a name of control codes": (entry(b"c\x1b[2J\nx\n"), r"wants to run \x1b[2J.x"),
    "a name without end": (HEAD + b"cos\n" + b"s" * 5000 + b"\n.", "wants to run os.sss"),
    "a name of no text": (b"\x80\x04K\x01K\x02\x93.", "wants to run what it has no name for"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_nothing_is_run(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program, words = FOREIGN[case]
    said = refusal(written(tmp_path, program))
    assert words in said
    assert len(said) < 300
    assert said.isprintable()
    assert not (tmp_path / CANARY).exists()


DAMAGED = {
    "no storage": (entry(text("x") + b"Q"), "speaks of something outside itself"),
    "a storage of another kind": (entry(view(storage(kind=b"ctorch\nfloat32\n"))), "outside itself"),
    "a storage of less than nothing": (entry(view(storage(count=b"J\xff\xff\xff\xff"))), "outside itself"),
    "a storage not there": (entry(view(storage("../../etc/passwd"))), "data/../../etc/passwd is not in the archive"),
    "a storage cut short": (entry(view(storage(count=b"K\x05"))), "20 bytes are announced, 16 are there"),
    "absurd storage": (entry(view(storage(count=b"\x8a\x08" + b"\xff" * 7 + b"\x07"))), "a is cut short"),
    "beyond": (entry(view(first=b"K\x01")), "[4] reaches beyond the 16 bytes"),
    "far beyond": (entry(view(strides=b"\x8a\x07" + b"\xff" * 6 + b"\x01\x85")), "reaches beyond"),
    "repeated": (entry(view(shape=b"J\xff\xff\xff\x7f\x85", strides=b"K\x00\x85")), "repeats the 16 bytes"),
    "negative": (entry(view(shape=b"J\xff\xff\xff\xff\x85")), "of an impossible shape"),
    "backwards": (entry(view(strides=b"J\xff\xff\xff\xff\x85")), "of an impossible shape"),
    "of text": (entry(view(shape=text("4") + b"\x85")), "of an impossible shape"),
    "of no shape": (entry(view(shape=b"K\x04")), "of an impossible shape"),
    "two shapes": (entry(view(strides=b"K\x01K\x01\x86")), "of an impossible shape"),
    "of many axes": (entry(view(shape=b"(" + b"K\x01" * 40 + b"t", strides=b"(" + b"K\x00" * 40 + b"t")), "impossible"),
    "negated": (entry(view(more=b"}" + text("neg") + b"\x88s")), "negated or conjugated"),
    "no tensors": (HEAD + b"}.", "holds no tensors"),
    "no name": (HEAD + view() + b".", "is one tensor without a name"),
    "a name twice": (
        HEAD + b"}" + text("a.b") + view() + b"s" + text("a") + b"}" + text("b") + view() + b"ss.",
        "holds two tensors named a.b",
    ),
    "cut short": (entry(view())[:-20], "its pickle is cut short"),
    "no end": (entry(view())[:-1], "its pickle is cut short"),
    "an empty stack": (HEAD + b"0.", "instruction b'0'"),
    "too few": (HEAD + b"\x87.", "makes no sense"),
    "no mark": (HEAD + b"t.", "makes no sense"),
    "nothing remembered": (HEAD + b"h\x05.", "makes no sense"),
    "no utf-8": (HEAD + b"X\x02\x00\x00\x00\xff\xff.", "makes no sense"),
    "entries in a list": (HEAD + b"]K\x01K\x02s.", "into what is no dict"),
    "items in a dict": (HEAD + b"}K\x01a.", "appends to what is no list"),
    "a key without a value": (HEAD + b"}(K\x01u.", "into what is no dict"),
    "a tuple as a key": (HEAD + b"}K\x01\x85K\x02s.", "a key that is neither"),
    "a long key": (entry(b"N", name="k" * 2000), "a key that is neither"),
    "a key of control codes": (entry(view(), name="\x1b[2J"), "a key that is neither"),
    "a large key": (HEAD + b"}\x8a\x09" + b"\xff" * 8 + b"\x00K\x01s.", "a key that is neither"),
    "an old instruction": (HEAD + b"I12\n.", "instruction b'I'"),
    "a set": (b"\x80\x04\x8f.", "which torch does not write"),
    "a huge text": (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x00a.", "its pickle is cut short"),
    "huge bytes": (b"\x80\x04\x8e" + b"\xff" * 8 + b"a.", "its pickle is cut short"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_pickle_that_states_no_tensors_is_told(tmp_path: Path, case: str) -> None:
    program, words = DAMAGED[case]
    assert words in refusal(written(tmp_path, program))


def doubled(times: int) -> bytes:
    """A list that holds a list twice, which holds a list twice: few instructions, and no end of names."""
    program = view()
    for _ in range(times):
        program = b"](" + program + b"q\x00h\x00e"
    return program


HUGE = {
    "deep": (entry(b"]" * 300 + view() + b"a" * 300), "nested too deeply"),
    "deep tuples": (entry(view() + b"\x85" * 100_000), "nested too deeply"),
    "in itself": (HEAD + b"]q\x00h\x00a.", "nested too deeply"),
    "doubled": (entry(doubled(40)), "repeats itself without end"),
    "many instructions": (HEAD + b"}" * (1 << 18), "more than any model needs"),
    "many empty things": (HEAD + b"(" + b"}" * 260_000 + b"t.", "repeats itself without end"),
    "a large pickle": (HEAD + b"B" + struct.pack("<I", 17 << 20) + bytes(17 << 20) + b".", "more than any model needs"),
}


@pytest.mark.parametrize("case", HUGE)
def test_no_program_takes_much(tmp_path: Path, case: str) -> None:
    """Seconds and some megabytes, whatever the file says."""
    program, words = HUGE[case]
    path = written(tmp_path, program)
    began = time.process_time()
    tracemalloc.start()
    try:
        assert words in refusal(path)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 10
    assert most < 64 << 20


def test_a_far_place_in_the_memo_takes_nothing(tmp_path: Path) -> None:
    """A pickle may count what it remembers from four billion on; Python's own reader would make room for them all."""
    path = written(tmp_path, entry(view() + b"r\xff\xff\xff\xff"))
    tracemalloc.start()
    with open_archive(path) as archive:
        assert np.array_equal(np.array(archive.tensor("a")), NUMBERS[0, :4])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 20


# --------------------------------------------------------------------------- the archive


def test_another_order_of_bytes_and_another_format_are_refused(tmp_path: Path) -> None:
    good = entry(view())
    assert "is big-endian" in refusal(written(tmp_path, good, said={"byteorder": b"big"}))
    assert "unheard of" in refusal(written(tmp_path, good, said={"byteorder": b"middle"}))
    assert "of format b'2'" in refusal(written(tmp_path, good, said={".format_version": b"2"}))
    with open_archive(written(tmp_path, good, said={"byteorder": b"", ".format_version": b""})) as older:
        assert older.names() == ["a"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a tensor archive"),
        (b"PK\3\4", "is cut short"),
        (b"hello", "is not a tensor archive"),
        (bytes.fromhex("80028a0a6cfc9c46f9206aa850192e80024de9032e"), "before version 1.6"),
        (struct.pack("<Q", 12) + json.dumps({"a": 1}).encode(), "is a safetensors file under another name"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    assert words in refusal(tmp_path / "a.pt")


def test_other_zip_archives_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for names, compression, words in (
        (["a/data.pkl", "b/data.pkl"], zipfile.ZIP_STORED, "it holds 2 data.pkl"),
        (["readme.txt"], zipfile.ZIP_STORED, "it holds no data.pkl"),
        (["a/data.pkl"], zipfile.ZIP_DEFLATED, "holds a/data.pkl compressed"),
    ):
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name in names:
                archive.writestr(name, b"x" * 100)
        assert words in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"x")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a/data.pkl", b"x")
    assert "a/data.pkl is in it twice" in refusal(path)


def test_archives_beyond_four_gigabytes_are_read(tmp_path: Path) -> None:
    """Sizes and places stand in wider records there. The file is a hole, and takes no room."""
    count = 2_300_000_000
    large = Tensor(Storage("BF16", 2 * count), (count,))
    path = write_archive(tmp_path / "a.pt", {"large": large, "small": tensor(NUMBERS[0, :4])})
    assert path.stat().st_blocks * 512 < 1 << 20 < 4 << 30 < path.stat().st_size
    with open_archive(path) as archive:
        assert archive.shape("large") == (count,)
        assert not archive.tensor("large", first=count - 3, count=3).any().item()
        assert np.array_equal(np.array(archive.tensor("small")), NUMBERS[0, :4])


def test_a_file_that_cannot_be_read_is_no_archive_that_is_wrong(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.pt", tmp_path):
        with pytest.raises(ShareUnavailable):
            open_archive(path)


def test_checksums_are_compared_where_there_are_any(tmp_path: Path) -> None:
    """Torch can leave them out; then they are all 0."""
    for checksums in (True, False):
        path = written(tmp_path, entry(view()), checksums=checksums)
        content, numbers = path.read_bytes(), NUMBERS[0, :4].tobytes()
        path.write_bytes(content.replace(numbers, numbers[:-1] + b"\0"))
        with open_archive(path) as archive:
            if checksums:
                with pytest.raises(WeightsMismatch, match="the checksum is another for a"):
                    list(archive.check())
            else:
                assert list(archive.check()) == [16]
    assert "data.pkl has another checksum" in refusal(
        _changed(written(tmp_path, entry(view())), b"_rebuild", b"_robuild")
    )


def _changed(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    return path


def test_a_file_that_shrinks_while_it_is_open_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, entry(view()))
    with open_archive(path) as archive:
        os.truncate(path, 500)
        with pytest.raises(WeightsMismatch, match="ends before its tensors do"):
            archive.tensor("a")


# --------------------------------------------------------------------------- chance


def tried(path: Path) -> bool:
    """Read everything in a file; whether it could be, all else but one clear error failing the test."""
    said = ""
    try:
        with open_archive(path) as archive:
            for name in archive.names():
                archive.tensor(name)
            list(archive.check())
    except WeightsMismatch as error:
        said = error.what
    assert said.isprintable()
    assert len(said) < 10_000
    return not said


def test_every_truncation_is_told(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.pt", {"a": tensor(NUMBERS), "b": bfloat16(NUMBERS[0])})
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert not tried(path)


def test_mutations_are_read_or_told(tmp_path: Path) -> None:
    """Bytes changed, cut out, doubled: the archive is as it was, or refused in words."""
    chance = random.Random(5)
    content = {"a": tensor(NUMBERS), "module": OrderedDict(b=bfloat16(NUMBERS[0]), c={"d": 3}), "e": [1, (2, "f")]}
    path = write_archive(tmp_path / "a.pt", content)
    whole = path.read_bytes()
    read = 0
    for _ in range(1500):
        mutant = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at, length = chance.randrange(len(mutant)), chance.choice((1, 1, 1, 2, 4, 8))
            if chance.random() < 0.8:
                mutant[at : at + length] = chance.randbytes(length)
            else:
                mutant[at:at] = mutant[chance.randrange(len(mutant)) :][:length]
        path.write_bytes(mutant)
        read += tried(path)
    assert 0 < read < 1500


PIECES = [
    *(bytes([code]) for code in b"}])(tuesabRQ.N\x88\x85\x86\x87\x93\x94\x81oi"),
    *(b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"K\x04", b"J\xff\xff\xff\xff", b"G" + bytes(8), b"\x8a\x01\x02"),
    *(GLOBAL, FLOAT, b"ccollections\nOrderedDict\n", b"cos\nsystem\n", b"ctorch\nSize\n", text("a"), text("storage")),
    *(storage(), view(), view(storage("1")), b"ctorch._utils\n_rebuild_parameter\n"),
]


def test_programs_made_by_chance_are_read_or_told(tmp_path: Path) -> None:
    chance = random.Random(6)
    good, _ = pickled({"a": 1})
    assert good[:2] == HEAD
    read = 0
    for _ in range(1500):
        program = HEAD + b"}" + b"".join(chance.choices(PIECES, k=chance.randint(1, 12)))
        if chance.random() < 0.5:
            program += text("z") + view() + b"s."
        read += tried(written(tmp_path, program))
    assert 0 < read < 1500
