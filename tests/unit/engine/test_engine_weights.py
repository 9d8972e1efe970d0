"""Snapshots: their layout, strict loading, digests and the tiny one (engine.md §1)."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from scail2_farm import engine
from scail2_farm.engine.backend import flat
from scail2_farm.engine.config import CLIPConfig, DiTConfig, UMT5Config, VAEConfig
from scail2_farm.engine.dit import DiT
from scail2_farm.engine.store import SUMS, Progress, sums_text
from scail2_farm.engine.umt5 import UMT5
from scail2_farm.engine.vae import VAEDecoder, VAEEncoder
from scail2_farm.engine.weights import FILES, Shapes, Verified, clip_shapes, found, open_snapshot, shapes_of, verify
from scail2_farm.errors import WeightsMismatch, WeightsMissing

Tensors = dict[str, np.ndarray]


@pytest.fixture
def copy(snapshot_folder: Path, tmp_path: Path) -> Path:
    """A snapshot to be changed."""
    return Path(shutil.copytree(snapshot_folder, tmp_path / "copy"))


def edit(folder: Path, part: str, change: Callable[[Tensors], object]) -> None:
    path = folder / f"{part}.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def configure(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("shapes", "tensors", "parameters"),
    [
        (lambda: shapes_of(DiT(DiTConfig())), 1307, 16_395_544_384),
        (lambda: shapes_of(VAEEncoder(VAEConfig())) | shapes_of(VAEDecoder(VAEConfig())), 194, 126_892_531),
        (lambda: shapes_of(UMT5(UMT5Config())), 242, 5_680_910_336),
        (lambda: clip_shapes(CLIPConfig()), 392, 632_076_800),
    ],
    ids=["dit", "vae", "t5_encoder", "clip"],
)
def test_the_published_inventory(shapes: Callable[[], Shapes], tensors: int, parameters: int) -> None:
    """The networks at their default sizes own exactly the tensors of the published snapshot."""
    found = shapes()
    assert (len(found), sum(math.prod(shape) for shape in found.values())) == (tensors, parameters)


def test_every_fault_is_listed_at_once(copy: Path) -> None:
    """Missing, unexpected and wrongly shaped names of all files stand in one error."""
    edit(copy, "dit", lambda t: t.pop("blocks.2.norm3.weight"))
    edit(copy, "dit", lambda t: t.update({"blocks.0.self_attn.q.scales": np.zeros((1, 1), np.float32)}))
    edit(copy, "vae", lambda t: t.update({"decoder.conv1.bias": np.zeros(3, np.float32)}))
    edit(copy, "t5_encoder", lambda t: t.pop("norm.weight"))
    edit(copy, "clip", lambda t: t.pop("transformer.2.mlp.0.bias"))
    with pytest.raises(WeightsMismatch) as caught:
        engine.load(copy)
    told = str(caught.value)
    for words in (
        "dit.safetensors: 1 missing: blocks.2.norm3.weight",
        "1 unexpected: blocks.0.self_attn.q.scales",
        "1 packed, but not of type U32: blocks.0.self_attn.q.weight (F32)",
        "vae.safetensors: 1 of another shape: decoder.conv1.bias is [3], not [32]",
        "t5_encoder.safetensors: 1 missing: norm.weight",
        "clip.safetensors: 1 missing: transformer.2.mlp.0.bias",
    ):
        assert words in told


def test_missing_files_are_all_named(copy: Path) -> None:
    """An incomplete folder and an absent one are told apart."""
    (copy / "clip.safetensors").unlink()
    (copy / "tokenizer.json").unlink()
    with pytest.raises(WeightsMissing, match=r"it lacks clip\.safetensors, tokenizer\.json"):
        engine.load(copy)
    with pytest.raises(WeightsMissing, match="the folder does not exist"):
        engine.load(copy / "nowhere")


@pytest.mark.parametrize("part", ["dit", "vae", "t5_encoder", "clip"])
def test_broken_files_are_named(copy: Path, part: str) -> None:
    """A file cut short, and one that never was one."""
    path = copy / f"{part}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsMismatch, match=rf"{part}\.safetensors is cut short"):
        engine.load(copy)
    path.write_text("<html>404</html>")
    with pytest.raises(WeightsMismatch, match=rf"{part}\.safetensors is cut short or not a safetensors file"):
        engine.load(copy)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"quantization": {"bits": 4, "group_size": 64}}, "says 4 bits, but nothing in dit.safetensors is packed"),
        ({"quantization": {"bits": 6}}, "quantization is {'bits': 6}"),
        ({"quantization": {"bits": True}}, "quantization is {'bits': True}"),
        ({"quantization": {"bits": 8, "group_size": 32}}, "'group_size': 32"),
        ({"quantization": "q8"}, "quantization is 'q8'"),
        ({"model_type": "t2v"}, "model_type 't2v'"),
        ({"num_layers": 5}, "num_layers is 5, but dit.safetensors holds 4"),
        ({"num_heads": 3}, "dim 128 cannot be cut into 3 heads"),
        ({"dim": "128"}, "dim is '128'"),
        ({"text_len": True}, "text_len is True"),
        ({"eps": 0}, "eps is 0"),
        ({"in_dim": 36}, "not (20, 28, 16)"),
        ({"clip_heads": 3}, "width 64 cannot be cut into 3 heads"),
        ({"ffn_dim": 512}, "blocks.0.ffn.0.weight is [256, 128], not [512, 128]"),
        ({"dim": 256}, "dit.safetensors is another model's, of 4 layers, dim 128, ffn_dim 256"),
    ],
)
def test_malformed_configs(copy: Path, fields: dict[str, object], words: str) -> None:
    """Each fault of config.json is told in its own words."""
    configure(copy, **fields)
    with pytest.raises(WeightsMismatch) as caught:
        engine.load(copy)
    assert words in caught.value.what


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_configs_that_are_none(copy: Path, text: str) -> None:
    """Text that is not a JSON object is refused by name."""
    (copy / "config.json").write_text(text)
    with pytest.raises(WeightsMismatch, match=r"config\.json is not"):
        engine.load(copy)


def test_optional_fields_take_the_published_sizes(copy: Path) -> None:
    """What a config leaves out is that of the 14B network, which this one is not."""
    configure(copy)
    path = copy / "config.json"
    fields = json.loads(path.read_text())
    del fields["text_len"], fields["eps"]
    path.write_text(json.dumps(fields))
    config = open_snapshot(copy).dit_config
    assert (config.text_len, config.eps) == (512, 1e-6)


def test_parts_must_fit_one_another(copy: Path, tmp_path: Path) -> None:
    """A text encoder of another width, or with fewer words than the tokenizer, is refused."""
    edit(
        copy,
        "t5_encoder",
        lambda t: t.update({"token_embedding.weight": t["token_embedding.weight"][:100, :32].copy()}),
    )
    with pytest.raises(WeightsMismatch) as caught:
        engine.load(copy)
    assert "reads text of width 64, t5_encoder.safetensors writes 32" in caught.value.what
    assert "it gives 512 ids, t5_encoder.safetensors knows 100" in caught.value.what


def test_other_types_are_refused(copy: Path) -> None:
    """Integers are not weights; packed tensors would be read as such."""
    edit(copy, "dit", lambda t: t.update({"head.head.bias": np.zeros(64, np.uint32)}))
    with pytest.raises(WeightsMismatch, match=r"1 not of a float type: head\.head\.bias \(U32\)"):
        engine.load(copy)


def test_unknown_names_are_tolerated_in_clip_alone(copy: Path) -> None:
    """Some conversions of the tower carry a log_scale."""
    edit(copy, "clip", lambda t: t.update({"log_scale": np.zeros(1, np.float32)}))
    assert len(flat(engine.load(copy).snapshot.clip().parameters())) == len(clip_shapes(CLIPConfig(num_layers=3))) - 15


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_16_bit_snapshots(copy: Path, dtype: mx.Dtype) -> None:
    """Published tiers are 16 bits; transformer and text encoder stay so, the autoencoder is widened."""
    for name in FILES[1:5]:
        tensors = {
            key: array.astype(dtype) for key, array in cast("dict[str, mx.array]", mx.load(str(copy / name))).items()
        }
        mx.save_safetensors(str(copy / name), tensors)
    snapshot = open_snapshot(copy)
    assert {array.dtype for array in flat(snapshot.dit().parameters()).values()} == {dtype}
    assert {array.dtype for array in flat(snapshot.umt5().parameters()).values()} == {dtype}
    assert {array.dtype for array in flat(snapshot.vae_decoder().parameters()).values()} == {mx.float32}
    assert {array.dtype for array in flat(snapshot.clip().parameters()).values()} == {mx.float32}
    assert snapshot.umt5()([5, 1]).dtype == mx.float32


def test_the_tiny_snapshot_is_reproducible(snapshot_folder: Path, tmp_path: Path) -> None:
    """The same seed gives the same bytes in another process; another seed gives other weights."""
    code = "import sys, pathlib, scail2_farm.engine as e; e.write_tiny_snapshot(pathlib.Path(sys.argv[1]), seed=1)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again")], check=True, timeout=60)

    def digests(folder: Path) -> list[str]:
        return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES]

    assert digests(tmp_path / "again") == digests(snapshot_folder)
    engine.write_tiny_snapshot(tmp_path / "other", seed=2)
    different = [a != b for a, b in zip(digests(tmp_path / "other"), digests(snapshot_folder), strict=True)]
    assert different == [name.endswith(".safetensors") for name in FILES]
    assert sum((snapshot_folder / name).stat().st_size for name in FILES) < 12_000_000


def test_the_tiny_snapshot_is_written_into_an_empty_folder(tmp_path: Path) -> None:
    """Nothing is ever overwritten."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        engine.write_tiny_snapshot(tmp_path, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_tiny_linears_can_be_packed(snapshot_folder: Path) -> None:
    """Widths of the transformer's Linears are multiples of 64, the group of the packed snapshots."""
    shapes = {name: array.shape for name, array in load_file(snapshot_folder / "dit.safetensors").items()}
    linears = [shape for name, shape in shapes.items() if name.startswith("blocks.") and len(shape) == 2]
    assert len(linears) == 4 * 12
    assert all(width % 64 == 0 for shape in linears for width in shape)


def verified(folder: Path) -> tuple[list[Progress], Verified]:
    """A deep verification and what it said on the way."""
    steps, told = verify(folder, deep=True), []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as stop:
            return told, stop.value


def test_a_deep_verification_hashes_every_file(copy: Path) -> None:
    """Hashes are told, and compared where SHA256SUMS says what they should be."""
    expected = {name: hashlib.sha256((copy / name).read_bytes()).hexdigest() for name in FILES}
    steps, told = verified(copy)
    assert (told.digests, told.faults) == (expected, ())
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert (done[0], done[-1], {step.of for step in steps}) == (0, told.bytes, {told.bytes})
    (copy / SUMS).write_text(f"{'0' * 64}  notes.txt\n" + sums_text(expected))
    assert verified(copy)[1].error is None
    edit(copy, "vae", lambda t: t["conv1.bias"].__iadd__(1))
    told = verified(copy)[1].error
    assert isinstance(told, WeightsMismatch)
    assert told.what == "the content of vae.safetensors is not what SHA256SUMS says"


def test_a_verification_as_json(copy: Path) -> None:
    """Every file with its size, tensors and digest; null where there is none."""
    document = verified(copy)[1].as_json()
    assert json.loads(json.dumps(document)) == document
    assert (document["tier"], document["bits"], document["faults"]) == ("f32", None, [])
    files = cast("dict[str, dict[str, object]]", document["files"])
    assert list(files) == list(FILES)
    assert files["config.json"]["tensors"] is None
    assert files["clip.safetensors"]["tensors"] == 44


def test_sums_that_are_none(copy: Path) -> None:
    """A line that cannot be read is told, not passed over."""
    (copy / SUMS).write_text("<html>\n")
    assert verified(copy)[1].faults == ("SHA256SUMS: line 1 is not a sha256 and a file name",)


def test_a_file_without_tensors(copy: Path) -> None:
    """Whole, and empty."""
    save_file({}, copy / "clip.safetensors")
    with pytest.raises(WeightsMismatch, match=r"clip\.safetensors holds no tensors"):
        open_snapshot(copy)


def test_snapshots_are_found(snapshot_folder: Path, tmp_path: Path) -> None:
    """A place, the folders in it and their tiers; the broken are told, the unfinished left out."""
    shutil.copytree(snapshot_folder, tmp_path / "flat")
    shutil.copytree(snapshot_folder, tmp_path / "broken")
    shutil.copytree(snapshot_folder, tmp_path / "unfinished.part")
    shutil.copytree(snapshot_folder, tmp_path / "root" / "bf16")
    (tmp_path / "root" / "q4").mkdir()
    (tmp_path / "broken" / "vae.safetensors").unlink()
    told = {one.folder.relative_to(tmp_path): one for one in found([tmp_path, tmp_path / "flat", tmp_path / "nowhere"])}
    assert list(told) == [Path("broken"), Path("flat"), Path("root/bf16")]
    assert told[Path("flat")].error is None
    assert told[Path("flat")].tier == "f32"
    assert isinstance(told[Path("broken")].error, WeightsMissing)
    assert told[Path("root/bf16")].faults == ("the folder is called bf16, but dit.safetensors holds f32 weights",)
