"""Packed snapshots: what is packed, how near it is to the dense one, and what is refused."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from scail2_farm.engine.dit import PackedLinear
from scail2_farm.engine.quantize import quantize_snapshot
from scail2_farm.engine.weights import open_snapshot
from scail2_farm.errors import WeightsMismatch

INPUTS, OUTPUTS = 128, 192


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
    quantize_snapshot(snapshot_folder, target, bits=bits)
    opened = open_snapshot(target)
    assert len(opened.dit_config.packed) == 12 * opened.dit_config.num_layers
    assert {found for _, found in opened.dit_config.packed} == {bits}
    dit = opened.dit()
    assert isinstance(dit.blocks[0].self_attn.q, PackedLinear)
    assert isinstance(dit.blocks[-1].ffn[2], PackedLinear)
    assert not isinstance(dit.text_embedding[0], PackedLinear)
    assert (target / "dit.safetensors").stat().st_size < (snapshot_folder / "dit.safetensors").stat().st_size


def test_other_files_are_the_same(snapshot_folder: Path, tmp_path: Path):
    quantize_snapshot(snapshot_folder, tmp_path / "packed", bits=8)
    for name in ("vae.safetensors", "t5_encoder.safetensors", "clip.safetensors", "tokenizer.json"):
        assert (tmp_path / "packed" / name).read_bytes() == (snapshot_folder / name).read_bytes()


def test_packing_twice_and_other_bits_are_refused(snapshot_folder: Path, tmp_path: Path):
    quantize_snapshot(snapshot_folder, tmp_path / "packed", bits=8)
    with pytest.raises(WeightsMismatch, match="packed already"):
        quantize_snapshot(tmp_path / "packed", tmp_path / "again", bits=4)
    with pytest.raises(ValueError, match="not 6"):
        quantize_snapshot(snapshot_folder, tmp_path / "six", bits=6)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"bits": 4, "group_size": 64}, "says 4 bits, but dit.safetensors holds 48 others"),
        (None, "says nothing of quantization, but dit.safetensors holds 48 others"),
    ],
)
def test_a_request_for_another_tier_is_an_error(snapshot_folder: Path, tmp_path: Path, written: object, words: str):
    target = tmp_path / "packed"
    quantize_snapshot(snapshot_folder, target, bits=8)
    document = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(document | {"quantization": written}))
    with pytest.raises(WeightsMismatch, match=words):
        open_snapshot(target)


def test_a_packed_weight_without_its_scales_is_named(snapshot_folder: Path, tmp_path: Path):
    target = tmp_path / "packed"
    quantize_snapshot(snapshot_folder, target, bits=8)
    tensors = dict(mx.load(str(target / "dit.safetensors")))  # pyright: ignore
    del tensors["blocks.1.ffn.0.scales"]  # pyright: ignore
    shutil.move(target / "dit.safetensors", tmp_path / "whole")
    mx.save_safetensors(str(target / "dit.safetensors"), tensors)  # pyright: ignore
    with pytest.raises(WeightsMismatch, match=r"blocks\.1\.ffn\.0\.weight"):
        open_snapshot(target)
