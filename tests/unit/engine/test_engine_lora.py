"""LoRA files: every spelling read alike, worn as if merged, taken off without a trace; odd ones refused in words."""

from __future__ import annotations

import json
import logging
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from scail2_farm.engine import Engine
from scail2_farm.engine.backend import flat
from scail2_farm.engine.config import DiTConfig
from scail2_farm.engine.dit import DiT, Linear, PackedLinear
from scail2_farm.engine.lora import Adapter, Attached, attach, read_lora
from scail2_farm.engine.weights import fill
from scail2_farm.errors import WeightsMismatch, WeightsMissing

Tensors = dict[str, mx.array]

FRAMES, HEIGHT, WIDTH = 2, 4, 8  # of the latent
RANK = 6
SAT_NAMES = {  # of a block's Linears, in the published files (engine.md §10.1)
    "self_attn.q": "attention.query_key_value.lora_layer.0",
    "self_attn.k": "attention.query_key_value.lora_layer.1",
    "self_attn.v": "attention.query_key_value.lora_layer.2",
    "self_attn.o": "attention.dense.lora_layer",
    "cross_attn.q": "cross_attention.query.lora_layer",
    "cross_attn.k": "cross_attention.key_value.lora_layer.0",
    "cross_attn.v": "cross_attention.key_value.lora_layer.1",
    "cross_attn.o": "cross_attention.dense.lora_layer",
    "ffn.0": "mlp.dense_h_to_4h.lora_layer",
    "ffn.2": "mlp.dense_4h_to_h.lora_layer",
}
LINEARS = (*SAT_NAMES, "cross_attn.k_img", "cross_attn.v_img")


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> mx.array:
    return mx.array((scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32))


@pytest.fixture(scope="module")
def network(loaded: Engine) -> DiT:
    """Four blocks of width 128, in float32; every test leaves it as it was."""
    return loaded.snapshot.dit()


@pytest.fixture(scope="module")
def packed(network: DiT) -> DiT:
    """The same with the Linears of its blocks in 8 bits."""
    return in_bits(network, 8)


def in_bits(network: DiT, bits: int) -> DiT:
    tensors = flat(network.parameters())
    linears = [f"blocks.{block}.{name}" for block in range(network.config.num_layers) for name in LINEARS]
    for name in linears:
        parts = mx.quantize(tensors[f"{name}.weight"], group_size=64, bits=bits)
        tensors |= {f"{name}.{part}": array for part, array in zip(("weight", "scales", "biases"), parts, strict=True)}
    return fill(DiT(replace(network.config, packed=tuple((name, bits) for name in linears))), tensors, file="packed")


def unpacked(network: DiT) -> Tensors:
    """All tensors of a network, packed ones as dense float32."""
    tensors = flat(network.parameters())
    for name, bits in network.config.packed:
        weight, scales, biases = (tensors.pop(f"{name}.{part}") for part in ("weight", "scales", "biases"))
        tensors[f"{name}.weight"] = mx.dequantize(weight, scales, biases, group_size=64, bits=bits)
    return tensors


def velocity(network: DiT) -> np.ndarray:
    scene = network.scene(
        reference=normal(16, 1, HEIGHT, WIDTH, seed=1),
        reference_mask=normal(28, 1, HEIGHT, WIDTH, seed=2),
        driving=normal(16, FRAMES, HEIGHT // 2, WIDTH // 2, seed=3),
        driving_mask=normal(28, FRAMES, HEIGHT // 2, WIDTH // 2, seed=4),
        replace=True,
    )
    text, image = network.text_cache(normal(5, 64, seed=5)), network.image_cache(normal(257, 64, seed=6))
    return np.array(network(normal(16, FRAMES, HEIGHT, WIDTH), 700.0, scene, text=text, image=image, rows=64))


def pairs(network: DiT, *, names: tuple[str, ...] = LINEARS, rank: int = RANK, seed: int = 1) -> Tensors:
    """A low-rank pair for the named Linears of every block, by the network's names."""
    tensors = unpacked(network)
    made: Tensors = {}
    for block in range(network.config.num_layers):
        for name in names:
            outputs, inputs = tensors[f"blocks.{block}.{name}.weight"].shape
            seed += 1
            made[f"blocks.{block}.{name}.lora_down.weight"] = normal(rank, inputs, seed=seed, scale=inputs**-0.5)
            made[f"blocks.{block}.{name}.lora_up.weight"] = normal(outputs, rank, seed=-seed % 997, scale=0.1)
    return made


def distilled(network: DiT) -> Tensors:
    """What the lightx2v files hold besides: differences of biases, norms, modulations, embeddings and head."""
    own = flat(network.parameters())
    wanted = {
        **{f"blocks.{block}.{name}.diff_b": f"blocks.{block}.{name}.bias" for block in range(4) for name in LINEARS},
        **{f"blocks.{block}.norm3.diff": f"blocks.{block}.norm3.weight" for block in range(4)},
        **{f"blocks.{block}.norm3.diff_b": f"blocks.{block}.norm3.bias" for block in range(4)},
        **{f"blocks.{block}.diff_m": f"blocks.{block}.modulation" for block in range(4)},
        "blocks.0.self_attn.norm_q.diff": "blocks.0.self_attn.norm_q.weight",
        "blocks.0.cross_attn.norm_k_img.diff": "blocks.0.cross_attn.norm_k_img.weight",
        "img_emb.proj.0.diff": "img_emb.proj.0.weight",
        "img_emb.proj.4.diff_b": "img_emb.proj.4.bias",
        "patch_embedding.diff": "patch_embedding.weight",
        "patch_embedding_mask.diff_b": "patch_embedding_mask.bias",
        "time_projection.1.diff": "time_projection.1.weight",
        "head.head.diff": "head.head.weight",
        "head.diff_m": "head.modulation",
    }
    return {key: normal(*own[name].shape, seed=9 + n, scale=0.05) for n, (key, name) in enumerate(wanted.items())}


def saved(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    mx.save_safetensors(str(path), tensors, metadata or {})
    return path


def archived(path: Path, tensors: Tensors, *, under: str | None = "module") -> Path:
    """A file as torch.save writes it, with a bookkeeping entry beside the tensors."""
    types = {mx.float32: (b"Float", mx.uint32), mx.bfloat16: (b"BFloat16", mx.uint16)}

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def whole(*values: int) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    with zipfile.ZipFile(path, "w") as archive:
        entries = b""
        for index, (name, array) in enumerate(tensors.items()):
            kind, bits = types[array.dtype]
            archive.writestr(f"lora/data/{index}", np.array(array.view(bits)).tobytes())
            storage = b"(" + text("storage") + b"ctorch\n" + kind + b"Storage\n" + text(str(index)) + text("cpu")
            storage += b"J" + struct.pack("<i", array.size) + b"tQ"
            strides = [int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim)]
            entries += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0"
            entries += whole(*array.shape) + whole(*strides) + b"\x89ccollections\nOrderedDict\n)RtR"
        program = b"}(" + entries + b"u"
        if under:
            program = b"}(" + text(under) + program + text("global_steps") + b"K\7u"
        archive.writestr("lora/data.pkl", b"\x80\2" + program + b".")
    return path


def in_sat(tensors: Tensors) -> Tensors:
    """Pairs and bias differences renamed as the SAT training code names them."""
    renamed: Tensors = {}
    for key, array in tensors.items():
        _, block, rest = key.split(".", 2)
        name = next(name for name in SAT_NAMES if rest.startswith(name + "."))
        tail = rest.removeprefix(name).replace(".lora_", ".")
        renamed[f"model.diffusion_model.transformer.layers.{block}.{SAT_NAMES[name]}{tail}"] = array
    return renamed


@contextmanager
def worn(network: DiT, *adapters: tuple[Adapter, float]) -> Iterator[Attached]:
    attached = attach(network, adapters)
    try:
        yield attached
    finally:
        attached.remove()


def merged(network: DiT, *files: tuple[Tensors, float]) -> DiT:
    """A dense network with the files' changes in its weights (engine.md §10.2), reckoned here and in float64."""
    tensors = {name: np.array(array, dtype=np.float64) for name, array in unpacked(network).items()}
    for changes, strength in files:
        arrays = {key: np.array(array.astype(mx.float32), dtype=np.float64) for key, array in changes.items()}
        for key, array in arrays.items():
            if key.endswith(".lora_down.weight"):
                module = key.removesuffix(".lora_down.weight")
                tensors[f"{module}.weight"] += strength * arrays[f"{module}.lora_up.weight"] @ array
            for role, name in ((".diff", ".weight"), (".diff_b", ".bias"), (".diff_m", ".modulation")):
                if key.endswith(role):
                    tensors[key.removesuffix(role) + name] += strength * array
    dense = {name: mx.array(array.astype(np.float32)) for name, array in tensors.items()}
    return fill(DiT(replace(network.config, packed=())), dense, file="merged")


def apart(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("strength", [1.0, 0.8, -0.5, 1.7])
def test_worn_is_merged(network: DiT, tmp_path: Path, strength: float) -> None:
    """Pairs and differences of every kind, on the whole transformer."""
    tensors = pairs(network) | distilled(network)
    adapter = read_lora(saved(tmp_path / "lora.safetensors", tensors))
    with worn(network, (adapter, strength)):
        found = velocity(network)
    assert apart(found, velocity(merged(network, (tensors, strength)))) < 1e-5
    assert apart(found, velocity(network)) > 0.01


@pytest.mark.parametrize("bits", [4, 8])
def test_worn_on_packed_weights_is_merged_on_unpacked_ones(network: DiT, tmp_path: Path, bits: int) -> None:
    small = in_bits(network, bits)
    tensors = pairs(network) | distilled(network)
    adapter = read_lora(saved(tmp_path / "lora.safetensors", tensors))
    with worn(small, (adapter, 0.8)) as attached:
        found = velocity(small)
    assert apart(found, velocity(merged(small, (tensors, 0.8)))) < 1e-5
    assert apart(found, velocity(small)) > 0.01
    assert attached.report[0].pairs == 4 * len(LINEARS)


@pytest.mark.parametrize("name", ["network", "packed"])
def test_taken_off_leaves_no_trace(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    bare: DiT = request.getfixturevalue(name)
    adapter = read_lora(saved(tmp_path / "lora.safetensors", pairs(bare) | distilled(bare)))
    tensors, layers, before = flat(bare.parameters()), dict(bare.named_modules()), velocity(bare).tobytes()
    kinds = {key: type(layer) for key, layer in layers.items()}
    attached = attach(bare, [(adapter, 0.7)])
    assert velocity(bare).tobytes() != before
    attached.remove()
    attached.remove()
    assert velocity(bare).tobytes() == before
    after = flat(bare.parameters())
    assert after.keys() == tensors.keys()
    assert all(after[key] is array for key, array in tensors.items())
    now = dict(bare.named_modules())
    assert all(now[key] is layer and type(layer) is kinds[key] for key, layer in layers.items())
    assert all(vars(layer).keys() == vars(type(layer)(4, 4)).keys() for layer in now.values() if type(layer) is Linear)


def test_no_strength_is_the_bare_network(network: DiT, tmp_path: Path) -> None:
    adapter = read_lora(saved(tmp_path / "lora.safetensors", pairs(network) | distilled(network)))
    tensors, before = flat(network.parameters()), velocity(network).tobytes()
    with worn(network, (adapter, 0.0)) as attached:
        assert velocity(network).tobytes() == before
        assert all(array is tensors[name] for name, array in flat(network.parameters()).items())
        assert type(network.blocks[0].self_attn.q) is Linear
        assert (attached.report[0].pairs, attached.report[0].diffs, attached.report[0].biases) == (0, 0, 0)
        assert attached.key == ""


def test_the_tree_of_parameters_is_the_bare_one(packed: DiT, tmp_path: Path) -> None:
    """A worn network is saved and filled strictly as a bare one, and its layers are of their own kind."""
    adapter = read_lora(saved(tmp_path / "lora.safetensors", pairs(packed)))
    bare = flat(packed.parameters())
    with worn(packed, (adapter, 1.0)):
        assert flat(packed.parameters()).keys() == bare.keys()
        assert isinstance(packed.blocks[0].ffn[0], PackedLinear)
        before = velocity(packed)
        fill(packed, {name: mx.array(array) for name, array in bare.items()}, file="again")
        np.testing.assert_array_equal(velocity(packed), before)


def test_several_at_once(network: DiT, tmp_path: Path) -> None:
    """Strengths add up, the order does not matter, and a second set is refused while one is worn."""
    one, two = pairs(network) | distilled(network), pairs(network, names=("ffn.2",), rank=3, seed=70)
    a, b = read_lora(saved(tmp_path / "a.safetensors", one)), read_lora(saved(tmp_path / "b.safetensors", two))
    with worn(network, (a, 0.6), (b, -1.2)) as attached:
        there, key = velocity(network), attached.key
        with pytest.raises(ValueError, match="wears adapters already"):
            attach(network, [])
    with worn(network, (b, -1.2), (a, 0.6)) as attached:
        back = velocity(network)
        assert attached.key == key
    assert apart(there, back) < 1e-6
    assert apart(there, velocity(merged(network, (one, 0.6), (two, -1.2)))) < 1e-5
    with worn(network, (a, 0.25), (a, 0.75)):
        twice = velocity(network)
    with worn(network, (a, 1.0)) as attached:
        assert apart(twice, velocity(network)) < 1e-5
        assert attached.key != key


def test_a_strength_is_a_number(network: DiT, tmp_path: Path) -> None:
    adapter = read_lora(saved(tmp_path / "lora.safetensors", pairs(network)))
    with pytest.raises(ValueError, match="not nan"):
        attach(network, [(adapter, float("nan"))])


def spellings(tensors: Tensors) -> dict[str, Tensors]:
    def renamed(prefix: str, down: str = "lora_down", up: str = "lora_up", under: bool = False) -> Tensors:
        names: Tensors = {}
        for key, array in tensors.items():
            module, _, role = key.partition(".lora_")
            role = {"down.weight": f"{down}.weight", "up.weight": f"{up}.weight"}[role]
            names[f"{prefix}{module.replace('.', '_') if under else module}.{role}"] = array
        return names

    return {
        "bare": renamed(""),
        "comfy": renamed("diffusion_model."),
        "wan": renamed("model.diffusion_model."),
        "diffusers": renamed("transformer.", "lora_A", "lora_B"),
        "peft": renamed("base_model.model.", "lora_A", "lora_B"),
        "peft of a wrapped model": renamed(
            "base_model.model.model.diffusion_model.", "lora_A.default", "lora_B.default"
        ),
        "kohya": renamed("lora_unet_", under=True),
    }


def test_every_spelling_is_read_alike(network: DiT, tmp_path: Path) -> None:
    tensors = pairs(network)
    plain = pairs(network, names=tuple(SAT_NAMES))
    files = {name: (saved(tmp_path / f"{name}.safetensors", t), tensors) for name, t in spellings(tensors).items()}
    for under in (None, "module", "state_dict", "model"):
        files[f"sat {under}"] = (archived(tmp_path / f"{under}.pt", in_sat(plain), under=under), plain)
    for name, (path, wanted) in files.items():
        adapter = read_lora(path)
        found = {
            f"{module}.lora_{role}.weight": array
            for module, change in adapter.modules.items()
            for role, array in (("down", change.down), ("up", change.up))
            if array is not None
        }
        assert found.keys() == wanted.keys(), name
        assert all(bool(mx.array_equal(found[key], array)) for key, array in wanted.items()), name


def test_the_published_layout_of_forty_blocks(tmp_path: Path) -> None:
    """400 pairs in bfloat16 and a few biases, as the DPO file of SAT has them, at a small width."""
    wide = DiT(DiTConfig(dim=16, ffn_dim=32, num_heads=2, text_len=4, text_dim=8, clip_dim=8, freq_dim=8))
    tensors = {key: array.astype(mx.bfloat16) for key, array in pairs(wide, names=tuple(SAT_NAMES), rank=2).items()}
    tensors["blocks.39.ffn.2.diff_b"] = normal(16)
    adapter = read_lora(archived(tmp_path / "dpo.pt", in_sat(tensors)))
    assert adapter.nbytes == sum(array.nbytes for array in tensors.values())
    with worn(wide, (adapter, 1.0)) as attached:
        report = attached.report[0]
        assert (report.pairs, report.diffs, report.biases, dict(report.skipped)) == (400, 0, 1, {})
        assert str(report) == "dpo.pt at 1: 400 pairs, 0 differences, 1 biases"
        x = normal(3, 16, seed=5)
        down, up = (tensors[f"blocks.39.self_attn.k.lora_{role}.weight"].astype(mx.float32) for role in ("down", "up"))
        layer = wide.blocks[39].self_attn.k
        wanted = np.array(x @ layer.weight.T + layer.bias + x @ down.T @ up.T)
        np.testing.assert_allclose(np.array(layer(x)), wanted, atol=1e-6)


def test_factors_stay_as_stored(network: DiT, tmp_path: Path) -> None:
    """They are neither widened nor copied, and what they add is of the type that is computed in."""
    tensors = {key: array.astype(mx.bfloat16) for key, array in pairs(network).items()}
    adapter = read_lora(saved(tmp_path / "lora.safetensors", tensors))
    change = adapter.modules["blocks.1.cross_attn.k"]
    with worn(network, (adapter, 0.3)):
        pair = network.blocks[1].cross_attn.k.pairs.worn[0]  # pyright: ignore[reportOptionalMemberAccess]
        assert pair.down is change.down
        assert pair.up is change.up
        assert pair.down.dtype == mx.bfloat16
        exact = network.text_cache(normal(5, 64, seed=5))[1]
        for compute, most in ((mx.float16, 3e-3), (mx.bfloat16, 3e-2)):
            kept = network.text_cache(normal(5, 64, seed=5), compute=compute)[1]
            assert kept[0].dtype == compute
            assert apart(np.array(kept[1].astype(mx.float32)), np.array(exact[1])) < most


def test_cached_keys_are_made_with_the_adapter_on(network: DiT, tmp_path: Path) -> None:
    """So whoever keeps them must tell adapters apart."""
    adapter = read_lora(saved(tmp_path / "lora.safetensors", pairs(network, names=("cross_attn.v_img",))))
    bare = network.image_cache(normal(257, 64))
    with worn(network, (adapter, 1.0)):
        other = network.image_cache(normal(257, 64))
    assert apart(np.array(other[2][1]), np.array(bare[2][1])) > 0.01


@pytest.mark.parametrize(
    ("tensors", "metadata", "scale"),
    [
        ({}, {}, 1.0),
        ({"alpha": 3.0}, {}, 0.5),
        ({"alpha": 3.0}, {"ss_network_alpha": "12"}, 0.5),
        ({}, {"ss_network_alpha": "12"}, 2.0),
        ({}, {"ss_network_alpha": "None"}, 1.0),
        ({}, {"lora_adapter_metadata": json.dumps({"r": 6, "lora_alpha": 18})}, 3.0),
        ({}, {"lora_adapter_metadata": json.dumps({"transformer.r": 6, "transformer.lora_alpha": 18})}, 3.0),
        ({}, {"lora_adapter_metadata": json.dumps({"lora_alpha": 18, "use_rslora": True})}, 18 / 6**0.5),
    ],
)
def test_alpha(tmp_path: Path, tensors: Mapping[str, float], metadata: dict[str, str], scale: float) -> None:
    """Of the module, else of the file, else the rank."""
    stored = {"blocks.0.ffn.0.lora_down.weight": normal(6, 4), "blocks.0.ffn.0.lora_up.weight": normal(8, 6)}
    stored |= {f"blocks.0.ffn.0.{role}": mx.array(value) for role, value in tensors.items()}
    adapter = read_lora(saved(tmp_path / "lora.safetensors", stored, metadata))
    assert adapter.modules["blocks.0.ffn.0"].scale == pytest.approx(scale)


def test_a_stem_wears_a_pair_as_a_difference(network: DiT, tmp_path: Path) -> None:
    """A convolution's factors, (rank, in, 1, 2, 2) and (out, rank, 1, 1, 1)."""
    down, up = normal(3, 28, 1, 2, 2, seed=3), normal(128, 3, 1, 1, 1, seed=4, scale=0.1)
    name = "patch_embedding_mask"
    stored = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    adapter = read_lora(saved(tmp_path / "lora.safetensors", stored))
    with worn(network, (adapter, 0.5)):
        found = velocity(network)
    product = (up.reshape(128, 3) @ down.reshape(3, -1)).reshape(128, 28, 1, 2, 2)
    assert apart(found, velocity(merged(network, ({f"{name}.diff": product}, 0.5)))) < 1e-6


def test_small_differences_are_not_rounded_away(network: DiT, tmp_path: Path) -> None:
    """In a 16-bit snapshot gains, biases and modulations become float32; matrices stay 16 bits wide."""
    tensors = {name: array.astype(mx.bfloat16) for name, array in flat(network.parameters()).items()}
    half = fill(DiT(network.config), tensors, file="half")
    stored = {"blocks.0.norm3.diff": mx.full((128,), 1e-3), "text_embedding.0.diff": normal(128, 64)}
    adapter = read_lora(saved(tmp_path / "lora.safetensors", stored))
    with worn(half, (adapter, 1.0)):
        gain, own = half.blocks[0].norm3.weight, tensors["blocks.0.norm3.weight"].astype(mx.float32)
        np.testing.assert_allclose(np.array(gain - own), 1e-3, rtol=1e-3)
        weight = half.text_embedding[0].weight  # pyright: ignore[reportFunctionMemberAccess]
        wanted = (tensors["text_embedding.0.weight"].astype(mx.float32) + normal(128, 64)).astype(mx.bfloat16)
        assert bool(mx.array_equal(weight, wanted))
    assert half.blocks[0].norm3.weight is tensors["blocks.0.norm3.weight"]


@pytest.mark.parametrize(("channels", "words"), [(36, "image-to-video"), (16, "text-to-video")])
@pytest.mark.parametrize("paired", [False, True])
def test_the_stem_of_another_wan_is_left_out_whole(
    network: DiT, tmp_path: Path, caplog: pytest.LogCaptureFixture, channels: int, words: str, paired: bool
) -> None:
    stem = {"patch_embedding.diff_b": normal(128)}
    if paired:
        stem["patch_embedding.lora_down.weight"] = normal(3, channels, 1, 2, 2)
        stem["patch_embedding.lora_up.weight"] = normal(128, 3)
    else:
        stem["patch_embedding.diff"] = normal(128, channels, 1, 2, 2)
    rest = {"head.head.diff_b": normal(64)}
    adapter = read_lora(saved(tmp_path / "lora.safetensors", stem | rest))
    weight, bias = network.patch_embedding.weight, network.patch_embedding.bias
    with caplog.at_level(logging.WARNING), worn(network, (adapter, 1.0)) as attached:
        assert network.patch_embedding.weight is weight
        assert network.patch_embedding.bias is bias
        found = velocity(network)
    assert apart(found, velocity(merged(network, (rest, 1.0)))) < 1e-5
    reason = f"it reads the {channels} channels of a Wan 2.1 {words} model, this network reads 20"
    assert attached.report[0].skipped == {"patch_embedding": reason}
    assert caplog.messages == ["a part of a LoRA is left out"]
    alone = read_lora(saved(tmp_path / "alone.safetensors", stem))
    with pytest.raises(WeightsMismatch, match=f"nothing in it can be attached.*{words}"):
        attach(network, [(alone, 1.0)])


Q = "blocks.0.self_attn.q"
PAIR = {f"{Q}.lora_down.weight": normal(2, 128), f"{Q}.lora_up.weight": normal(128, 2)}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({f"{Q}.lokr_w1": normal(2, 2), f"{Q}.lokr_w2": normal(64, 64)}, "it is LoKr, not low-rank pairs"),
        ({f"{Q}.hada_w1_a": normal(2, 2)}, "it is LoHa, not low-rank pairs"),
        (PAIR | {f"{Q}.dora_scale": normal(128, 1)}, "it is DoRA, not low-rank pairs"),
        (PAIR | {"lora_te_text_model_0.lora_up.weight": normal(4, 2)}, "1 of its 3 tensors are unknown: lora_te"),
        (PAIR | {"blocks.0.self_attn.query.diff_b": normal(128)}, "unknown: blocks.0.self_attn.query.diff_b"),
        ({"double_blocks.0.img_attn.lora_A.weight": normal(2, 9)}, "nothing in it matches this network"),
        ({"layers.0.attention.query_key_value.lora_layer.3.up.weight": normal(2, 2)}, "nothing in it matches"),
        ({"layers.0.attention.query_key_value.lora_layer.up.weight": normal(2, 2)}, "nothing in it matches"),
        ({f"{Q}.weight": normal(128, 128)}, "nothing in it matches this network"),
        ({f"{Q}.lora_down.weight": normal(2, 128)}, f"{Q} has no up factor"),
        ({f"{Q}.lora_up.weight": normal(128, 2)}, f"{Q} has no down factor"),
        ({f"{Q}.alpha": mx.array(4.0)}, f"{Q} has no down and no up factor"),
        (PAIR | {f"{Q}.lora_up.weight": normal(128, 3)}, f"the factors of {Q} have no rank in common"),
        (PAIR | {f"{Q}.lora_up.weight": normal(128)}, f"the factors of {Q} have no rank in common"),
        (PAIR | {f"{Q}.alpha": normal(2)}, rf"the alpha of {Q} is \[2\], not one number"),
        (PAIR | {f"{Q}.alpha": mx.array(float("inf"))}, f"no finite fraction: {Q}.alpha"),
        (PAIR | {f"{Q}.lora_up.weight": mx.full((128, 2), float("nan"))}, f"no finite fraction: {Q}.lora_up"),
        (PAIR | {f"{Q}.diff_b": mx.zeros((128,), mx.int32)}, f"no finite fraction: {Q}.diff_b"),
        (PAIR | {f"model.{name}": array for name, array in PAIR.items()}, f"{Q} has two tensors for its down"),
    ],
)
def test_what_is_no_lora_for_this_network_is_refused(tmp_path: Path, tensors: Tensors, words: str) -> None:
    path = saved(tmp_path / "lora.safetensors", tensors)
    with pytest.raises(WeightsMismatch, match=words) as caught:
        read_lora(path)
    assert caught.value.where.file == str(path)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"ss_network_alpha": "many"}, "could not convert"),
        ({"ss_network_alpha": "nan"}, "not a finite number"),
        ({"lora_adapter_metadata": "{"}, "its metadata cannot be followed"),
        ({"lora_adapter_metadata": "[" * 100_000}, "its metadata cannot be followed"),
        ({"lora_adapter_metadata": json.dumps({"lora_alpha": 10**400})}, "its metadata cannot be followed"),
        ({"lora_adapter_metadata": "[]"}, "is no object"),
        ({"lora_adapter_metadata": json.dumps({"lora_alpha": [1]})}, "not a number"),
        ({"lora_adapter_metadata": json.dumps({"use_dora": True})}, "use_dora is True, which is not applied"),
        ({"lora_adapter_metadata": json.dumps({"alpha_pattern": {"q": 1}})}, "alpha_pattern is"),
    ],
)
def test_metadata_that_cannot_be_followed_is_refused(tmp_path: Path, metadata: dict[str, str], words: str) -> None:
    with pytest.raises(WeightsMismatch, match=words):
        read_lora(saved(tmp_path / "lora.safetensors", PAIR, metadata))


def test_faults_are_gathered(tmp_path: Path) -> None:
    tensors = PAIR | {"blocks.1.ffn.0.lora_down.weight": normal(2, 128), "nobody.knows.diff": normal(1)}
    with pytest.raises(WeightsMismatch, match=r"nobody\.knows\.diff; blocks\.1\.ffn\.0 has no up factor"):
        read_lora(saved(tmp_path / "lora.safetensors", tensors))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="there is no LoRA file"):
        read_lora(tmp_path / "gone.safetensors")
    whole = saved(tmp_path / "whole.safetensors", PAIR).read_bytes()
    for name, content in {"short": whole[:-9], "empty": b"", "text": b"a picture of a LoRA, not one" * 9}.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
        with pytest.raises(WeightsMismatch, match=f"{name}.safetensors is neither"):
            read_lora(tmp_path / f"{name}.safetensors")
    (tmp_path / "named.pt").write_bytes(whole)
    with pytest.raises(WeightsMismatch, match="safetensors"):
        read_lora(tmp_path / "named.pt")
    with pytest.raises(WeightsMismatch, match="it holds no tensors"):
        read_lora(saved(tmp_path / "none.safetensors", {}))


def test_an_archive_that_changed_is_refused(network: DiT, tmp_path: Path) -> None:
    path = archived(tmp_path / "dpo.pt", in_sat(pairs(network, names=("ffn.0",))))
    content = bytearray(path.read_bytes())
    content[200] ^= 1  # a mantissa: all numbers stay finite
    path.write_bytes(content)
    with pytest.raises(WeightsMismatch, match="checksum"):
        read_lora(path)


def test_a_checkpoint_named_by_mistake_is_not_read(network: DiT, tmp_path: Path) -> None:
    """Its names are enough; the numbers, damaged here, are never looked at."""
    checkpoint = {f"model.diffusion_model.{name}": array for name, array in flat(network.parameters()).items()}
    path = archived(tmp_path / "model.pt", checkpoint)
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsMismatch, match="nothing in it matches this network"):
        read_lora(path)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (
            {f"{Q}.lora_down.weight": normal(2, 96), f"{Q}.lora_up.weight": normal(96, 2)},
            r"another network: 1 sizes differ: blocks\.0\.self_attn\.q\.weight is \[96, 96\] there and \[128, 128\]",
        ),
        ({f"{Q}.diff_b": normal(96)}, r"self_attn\.q\.bias is \[96\] there and \[128\] here"),
        ({"blocks.0.diff_m": normal(1, 6, 96)}, r"modulation is \[1, 6, 96\] there and \[1, 6, 128\] here"),
        ({"blocks.0.self_attn.norm_q.diff_b": normal(128)}, r"norm_q\.bias is \[128\] there and nothing here"),
        ({"blocks.0.norm3.lora_A.weight": normal(2, 128), "blocks.0.norm3.lora_B.weight": normal(128, 2)}, "norm3"),
        ({"patch_embedding.diff": normal(128, 24, 1, 2, 2)}, r"\[128, 24, 1, 2, 2\] there"),
        ({"patch_embedding.diff": normal(96, 36, 1, 2, 2), "head.diff_m": normal(1, 2, 96)}, r"head\.modulation"),
        ({"blocks.29.norm3.diff": normal(128)}, "for another network: for 30 blocks, this one has 4"),
    ],
)
def test_a_lora_for_another_architecture_is_refused(
    network: DiT, packed: DiT, tmp_path: Path, tensors: Tensors, words: str
) -> None:
    """Nothing is attached of it, nor of the one beside it."""
    adapter = read_lora(saved(tmp_path / "other.safetensors", tensors))
    fitting = read_lora(saved(tmp_path / "fitting.safetensors", pairs(network)))
    for bare in (network, packed):
        before = flat(bare.parameters())
        with pytest.raises(WeightsMismatch, match=words) as caught:
            attach(bare, [(fitting, 1.0), (adapter, 1.0)])
        assert caught.value.where.file == str(adapter.path)
        assert all(array is before[name] for name, array in flat(bare.parameters()).items())
        assert type(bare.blocks[0].ffn[0]) in (Linear, PackedLinear)


def test_a_full_difference_of_packed_weights_is_refused(network: DiT, packed: DiT, tmp_path: Path) -> None:
    """On dense ones it is added."""
    tensors = {f"{Q}.diff": normal(128, 128, scale=0.1), f"{Q}.diff_b": normal(128)}
    adapter = read_lora(saved(tmp_path / "lora.safetensors", tensors))
    with pytest.raises(WeightsMismatch, match=r"1 weights that this snapshot holds packed.*bf16 snapshot"):
        attach(packed, [(adapter, 1.0)])
    with worn(network, (adapter, 1.0)) as attached:
        found = velocity(network)
    assert apart(found, velocity(merged(network, (tensors, 1.0)))) < 1e-5
    assert (attached.report[0].pairs, attached.report[0].diffs, attached.report[0].biases) == (0, 1, 1)


def test_a_network_that_dropped_its_context_cannot_be_dressed(loaded: Engine, tmp_path: Path) -> None:
    """One that wears something can drop it, go on, and be undressed."""
    dit = loaded.snapshot.dit()
    adapter = read_lora(saved(tmp_path / "lora.safetensors", pairs(dit) | distilled(dit)))
    attached = attach(dit, [(adapter, 1.0)])
    dit.drop_context()
    attached.remove()
    assert dit.blocks[0].cross_attn.k.bias.size == 0
    with pytest.raises(ValueError, match="read it anew"):
        attach(dit, [(adapter, 1.0)])
