"""Packed snapshots: what is packed, how near it is to the dense one, and what is refused."""

import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, cast

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import save_file

from scail2_farm.engine.config import DiTConfig
from scail2_farm.engine.dit import DiT, PackedLinear
from scail2_farm.engine.quantize import packed, quantize_snapshot
from scail2_farm.engine.store import Progress, Stored, TensorFile
from scail2_farm.engine.weights import FILES, open_snapshot, shapes_of, verify
from scail2_farm.errors import DiskFull, WeightsMismatch

INPUTS, OUTPUTS = 128, 192


def quantize(source: Path, target: Path, *, bits: int) -> list[Progress]:
    return list(quantize_snapshot(source, target, bits=bits))


def packed_linear(weight: mx.array, bits: int) -> PackedLinear:
    layer = PackedLinear(INPUTS, OUTPUTS, bits)
    parts = mx.quantize(weight, group_size=64, bits=bits)
    layer.weight, layer.scales, layer.biases = parts
    layer.bias = mx.arange(OUTPUTS) / OUTPUTS
    return layer


@pytest.mark.parametrize(("bits", "most"), [(8, 6e-3), (4, 0.12)])
def test_a_packed_linear_is_near_the_dense_one(bits: int, most: float):
    rng = np.random.default_rng(3)
    weight = mx.array(rng.standard_normal((OUTPUTS, INPUTS)).astype(np.float32))
    x = mx.array(rng.standard_normal((37, INPUTS)).astype(np.float32))
    layer = packed_linear(weight, bits)
    dense = np.array(x @ weight.T + layer.bias)
    error = np.linalg.norm(np.array(layer(x)) - dense) / np.linalg.norm(dense)
    assert 0 < error < most
    again = mx.quantized_matmul(x, layer.weight, layer.scales, layer.biases, transpose=True, group_size=64, bits=bits)
    assert np.abs(np.array(layer(x)) - np.array(again + layer.bias)).max() < 1e-4


@pytest.mark.parametrize("bits", [4, 8])
def test_every_linear_of_the_blocks_is_packed_and_nothing_else(snapshot_folder: Path, tmp_path: Path, bits: int):
    target = tmp_path / "packed"
    quantize(snapshot_folder, target, bits=bits)
    opened = open_snapshot(target)
    assert len(opened.dit_config.packed) == 12 * opened.dit_config.num_layers
    assert {found for _, found in opened.dit_config.packed} == {bits}
    dit = opened.dit()
    assert isinstance(dit.blocks[0].self_attn.q, PackedLinear)
    assert isinstance(dit.blocks[-1].ffn[2], PackedLinear)
    assert not isinstance(dit.text_embedding[0], PackedLinear)
    assert (target / "dit.safetensors").stat().st_size < (snapshot_folder / "dit.safetensors").stat().st_size


def test_other_files_are_the_same(snapshot_folder: Path, tmp_path: Path):
    quantize(snapshot_folder, tmp_path / "packed", bits=8)
    for name in ("vae.safetensors", "t5_encoder.safetensors", "clip.safetensors", "tokenizer.json"):
        assert (tmp_path / "packed" / name).read_bytes() == (snapshot_folder / name).read_bytes()


def test_packing_twice_and_other_bits_are_refused(snapshot_folder: Path, tmp_path: Path):
    quantize(snapshot_folder, tmp_path / "packed", bits=8)
    with pytest.raises(WeightsMismatch, match="packed already"):
        quantize(tmp_path / "packed", tmp_path / "again", bits=4)
    with pytest.raises(ValueError, match="not 6"):
        quantize(snapshot_folder, tmp_path / "six", bits=6)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"bits": 4, "group_size": 64}, "says 4 bits, but dit.safetensors holds 48 others"),
        (None, "says nothing of quantization, but dit.safetensors holds 48 others"),
    ],
)
def test_a_request_for_another_tier_is_an_error(snapshot_folder: Path, tmp_path: Path, written: object, words: str):
    target = tmp_path / "packed"
    quantize(snapshot_folder, target, bits=8)
    document = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(document | {"quantization": written}))
    with pytest.raises(WeightsMismatch, match=words):
        open_snapshot(target)


def test_a_packed_weight_without_its_scales_is_named(snapshot_folder: Path, tmp_path: Path):
    target = tmp_path / "packed"
    quantize(snapshot_folder, target, bits=8)
    tensors = dict(mx.load(str(target / "dit.safetensors")))  # pyright: ignore
    del tensors["blocks.1.ffn.0.scales"]  # pyright: ignore
    shutil.move(target / "dit.safetensors", tmp_path / "whole")
    mx.save_safetensors(str(target / "dit.safetensors"), tensors)  # pyright: ignore
    with pytest.raises(WeightsMismatch, match=r"blocks\.1\.ffn\.0\.weight"):
        open_snapshot(target)


def drained(folder: Path) -> tuple[str, ...]:
    """What a deep verification finds wrong."""
    steps = verify(folder, deep=True)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value.faults


def test_a_packed_snapshot_is_of_16_bits_and_carries_its_digests(snapshot_folder: Path, tmp_path: Path):
    """As published: integers and bfloat16; packed from the rounded weights, the rest rounded."""
    quantize(snapshot_folder, tmp_path / "q4", bits=4)
    dense, found = (
        cast("dict[str, mx.array]", mx.load(str(folder / "dit.safetensors")))
        for folder in (snapshot_folder, tmp_path / "q4")
    )
    assert {str(array.dtype) for array in found.values()} == {"mlx.core.uint32", "mlx.core.bfloat16"}
    assert len(found) == len(dense) + 2 * 48
    name = "blocks.2.ffn.0"
    expected = mx.quantize(dense[f"{name}.weight"].astype(mx.bfloat16), group_size=64, bits=4)
    for part, array in zip(("weight", "scales", "biases"), expected, strict=True):
        assert mx.array_equal(found[f"{name}.{part}"], array)
    assert mx.array_equal(found["head.modulation"], dense["head.modulation"].astype(mx.bfloat16))
    assert drained(tmp_path / "q4") == ()
    sums = (tmp_path / "q4" / "SHA256SUMS").read_text().splitlines()
    assert sorted(FILES) == [line.split()[1] for line in sums]


def test_a_linear_of_another_width_stays_dense():
    """Groups are of 64 inputs; nothing is padded."""
    assert list(packed("blocks.0.ffn.2.weight", mx.ones((64, 96)), bits=8)) == ["blocks.0.ffn.2.weight"]


def test_progress_runs_to_its_end(snapshot_folder: Path, tmp_path: Path):
    steps = quantize(snapshot_folder, tmp_path / "q8", bits=8)
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert {step.of for step in steps} == {done[-1]}


class Wide(NamedTuple):
    """A snapshot whose transformer is of some size, and the bytes of its largest tensor."""

    folder: Path
    largest: int


@pytest.fixture(scope="module")
def wide(snapshot_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Wide:
    """Four blocks of width 512 in float32, all zeros: a file of 120 MB."""
    folder = tmp_path_factory.mktemp("wide") / "dense"
    shutil.copytree(snapshot_folder, folder)
    document = json.loads((folder / "config.json").read_text()) | {"dim": 512, "ffn_dim": 4096}
    (folder / "config.json").write_text(json.dumps(document))
    sizes = DiTConfig(
        **{name: document[name] for name in ("dim", "ffn_dim", "num_layers", "num_heads")}, text_dim=64, clip_dim=64
    )
    layout = {name: Stored("F32", shape) for name, shape in shapes_of(DiT(sizes)).items()}
    (folder / "dit.safetensors").unlink()
    with TensorFile(folder / "dit.safetensors", layout) as file:
        for name, one in layout.items():
            file.write(name, mx.zeros(one.shape))
    return Wide(folder, max(one.bytes for one in layout.values()))


MEASURE = """
import re, resource, sys
from pathlib import Path
from scail2_farm.engine.quantize import quantize_snapshot
import mlx.core as mx
def rss():  # Linux hands the peak of the parent down to its child in ru_maxrss
    if sys.platform == "darwin": return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
steps = quantize_snapshot(Path(sys.argv[1]), Path(sys.argv[2]), bits=8)
mx.eval(mx.quantize(mx.zeros((64, 64)), bits=8)); mx.clear_cache(); mx.reset_peak_memory()
before = rss()
for step in steps: pass
print(mx.get_peak_memory(), rss() - before)
"""


def test_memory_holds_one_tensor_at_a_time(wide: Wide, tmp_path: Path):
    """As measured by MLX and by the system: far less than the file that is written, whatever its size."""
    command = [sys.executable, "-c", MEASURE, str(wide.folder), str(tmp_path / "q8")]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    peak, grown = map(int, said.stdout.split())
    assert peak < 2 * wide.largest
    assert grown < 3 * wide.largest < (tmp_path / "q8" / "dit.safetensors").stat().st_size
    assert drained(tmp_path / "q8") == ()


KILLED = """
import sys
from pathlib import Path
from scail2_farm.engine.quantize import quantize_snapshot
for number, _ in enumerate(quantize_snapshot(Path(sys.argv[1]), Path(sys.argv[2]), bits=4)):
    if number == 5: print("there", flush=True); sys.stdin.read()
"""


def test_a_killed_run_leaves_nothing_under_the_name_and_the_next_begins_anew(snapshot_folder: Path, tmp_path: Path):
    """SIGKILL in the middle of the transformer."""
    target = tmp_path / "q4"
    command = [sys.executable, "-c", KILLED, str(snapshot_folder), str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"there\n"
        with pytest.raises(FileExistsError, match="being written by another process"):
            quantize(snapshot_folder, target, bits=4)
        process.send_signal(signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == ["q4.part"]
    quantize(snapshot_folder, target, bits=4)
    assert [path.name for path in tmp_path.iterdir()] == ["q4"]
    assert drained(target) == ()


def test_a_closed_run_leaves_nothing(snapshot_folder: Path, tmp_path: Path):
    steps = quantize_snapshot(snapshot_folder, tmp_path / "q4", bits=4)
    next(steps)
    steps.close()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(snapshot_folder: Path, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is there already"):
        quantize_snapshot(snapshot_folder, tmp_path, bits=4)


def test_a_disk_without_room_is_told_before_anything_is_written(
    snapshot_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 1_000_000))  # type: ignore[attr-defined]
    with pytest.raises(DiskFull, match=r"q4 takes 0\.0 GB, and 0\.0 GB are free"):
        quantize_snapshot(snapshot_folder, tmp_path / "q4", bits=4)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_files():
    """No file may grow beyond a megabyte: what a full disk says, from the system itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_a_disk_that_fills_up_leaves_nothing(snapshot_folder: Path, tmp_path: Path):
    with pytest.raises(DiskFull, match="no space left") as caught:
        quantize(snapshot_folder, tmp_path / "q8", bits=8)
    assert "run the command again" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_file_is_what_the_library_writes(tmp_path: Path):
    """Byte for byte, in whatever order the tensors come."""
    rng = np.random.default_rng(1)
    tensors = {"b": rng.random((3, 5), np.float32), "a": rng.random(7, np.float32), "c": rng.random((), np.float32)}
    save_file(tensors, tmp_path / "theirs")
    with TensorFile(tmp_path / "ours", {name: Stored("F32", array.shape) for name, array in tensors.items()}) as file:
        for name in ("c", "b", "a"):
            file.write(name, mx.array(tensors[name]))
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_tensor_file_is_complete_or_an_error(tmp_path: Path):
    """Each tensor once, as promised."""
    layout = {"a": Stored("BF16", (2,)), "b": Stored("BF16", (2,))}
    with TensorFile(tmp_path / "file", layout) as file:
        file.write("a", mx.zeros(2, mx.bfloat16))
        for name, tensor, words in (
            ("a", mx.zeros(2, mx.bfloat16), "a is written twice"),
            ("c", mx.zeros(2, mx.bfloat16), "c is not in the layout"),
            ("b", mx.zeros(3, mx.bfloat16), r"b is .* \[3\], not"),
            ("b", mx.zeros(2), "b is mlx.core.float32"),
        ):
            with pytest.raises(ValueError, match=words):
                file.write(name, tensor)
        file.write("b", mx.zeros(2, mx.bfloat16))
    with pytest.raises(ValueError, match="2 tensors were not written: a, b"), TensorFile(tmp_path / "other", layout):
        pass
