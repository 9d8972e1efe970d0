"""Published checkpoints into snapshots: byte for byte what a snapshot of the same weights is, or one clear error."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors import TensorSpec, serialize_file
from safetensors.numpy import load_file, save_file
from torch_archives import Tensor, bfloat16, tensor, write_archive, write_members

from scail2_farm.engine import convert
from scail2_farm.engine.config import DiTConfig
from scail2_farm.engine.convert import import_checkpoints, names_of_transformer
from scail2_farm.engine.dit import DiT
from scail2_farm.engine.quantize import quantize_snapshot
from scail2_farm.engine.weights import FILES, open_snapshot, shapes_of
from scail2_farm.errors import FarmError, WeightsMismatch, WeightsMissing

Arrays = dict[str, np.ndarray]
Checkpoint = dict[str, Tensor]

DIT, VAE = "model/1/fsdp2_rank_0000_checkpoint.pt", "Wan2.1_VAE.pth"
T5 = "umt5-xxl/models_t5_umt5-xxl-enc-bf16.pth"
CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
PREFIX = "model.diffusion_model."
BESIDE = ("num_heads", "text_len", "eps", "clip_heads")


def transformer(arrays: Arrays) -> Arrays:
    """A transformer under the names of its authors: the table of engine.md §11 read from right to left."""
    theirs: Arrays = {}
    heads = (("patch_embedding_pose", "mixins.patch_embed.proj_pose"), ("time_projection.1", "adaln_projection.1"))
    heads += (("patch_embedding_mask", "mixins.patch_embed.proj_mask"), ("time_embedding", "time_embed"))
    heads += (("patch_embedding", "mixins.patch_embed.proj"), ("img_emb.proj", "clip_proj.proj"))
    heads += (("head.modulation", "mixins.final_layer.adaLN_modulation"), ("text_embedding", "text_embedding"))
    heads += (("head.head", "mixins.final_layer.linear"),)
    for name, array in arrays.items():
        if not name.startswith("blocks."):
            ours, other = next(pair for pair in heads if name == pair[0] or name.startswith(pair[0] + "."))
            theirs[PREFIX + other + name.removeprefix(ours)] = array
    for block in range(len([name for name in arrays if name.endswith("norm3.bias")])):
        mine = {
            name.removeprefix(f"blocks.{block}."): each
            for name, each in arrays.items()
            if name.startswith(f"blocks.{block}.")
        }
        layer, mixin = f"{PREFIX}transformer.layers.{block}", f"{PREFIX}mixins.adaln_layer"
        for kind in ("weight", "bias"):
            joined = {f"{layer}.attention.query_key_value": [f"self_attn.{one}" for one in "qkv"]}
            joined[f"{layer}.cross_attention.key_value"] = ["cross_attn.k", "cross_attn.v"]
            joined[f"{mixin}.clip_feature_key_value_list.{block}"] = ["cross_attn.k_img", "cross_attn.v_img"]
            joined |= {f"{layer}.attention.dense": ["self_attn.o"], f"{layer}.cross_attention.query": ["cross_attn.q"]}
            joined |= {f"{layer}.cross_attention.dense": ["cross_attn.o"], f"{layer}.mlp.dense_h_to_4h": ["ffn.0"]}
            joined |= {f"{layer}.mlp.dense_4h_to_h": ["ffn.2"], f"{layer}.post_cross_attention_layernorm": ["norm3"]}
            theirs |= {
                f"{name}.{kind}": np.concatenate([mine[f"{one}.{kind}"] for one in ours])
                for name, ours in joined.items()
            }
        norms = {"query": "self_attn.norm_q", "key": "self_attn.norm_k", "cross_query": "cross_attn.norm_q"}
        norms |= {"cross_key": "cross_attn.norm_k", "clip_feature_key": "cross_attn.norm_k_img"}
        theirs |= {
            f"{mixin}.{name}_layernorm_list.{block}.weight": mine[f"{ours}.weight"] for name, ours in norms.items()
        }
        theirs[f"{mixin}.adaLN_modulations.{block}"] = mine["modulation"]
    return theirs


def rounded(array: np.ndarray) -> np.ndarray:
    """The bits of the nearest bfloat16, of two the even one: written down without MLX."""
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


@pytest.fixture(scope="module")
def weights(snapshot_folder: Path) -> dict[str, Arrays]:
    """The tensors of the tiny snapshot, by file; not to be changed."""
    return {part: load_file(snapshot_folder / f"{part}.safetensors") for part in ("dit", "vae", "t5_encoder", "clip")}


@pytest.fixture(scope="module")
def direct(weights: dict[str, Arrays], snapshot_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny snapshot in the published types, written by the library: transformer and text encoder in bfloat16."""
    folder = tmp_path_factory.mktemp("direct")
    for part, arrays in weights.items():
        if part in ("vae", "clip"):
            save_file(arrays, folder / f"{part}.safetensors")
            continue
        halves = {name: rounded(array) for name, array in arrays.items()}  # alive while they are pointed at
        specs = {
            name: TensorSpec(dtype="bfloat16", shape=list(bits.shape), data_ptr=bits.ctypes.data, data_len=bits.nbytes)
            for name, bits in halves.items()
        }
        serialize_file(specs, folder / f"{part}.safetensors")
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(snapshot_folder / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def published(weights: dict[str, Arrays], snapshot_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as their authors would have published them; not to be changed."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "model/1").mkdir(parents=True)
    (folder / "umt5-xxl").mkdir()
    module = OrderedDict((name, tensor(array)) for name, array in transformer(weights["dit"]).items())
    notes = {"iteration": 1, "optimizer": {"state": [tensor(np.ones(3, np.float32))]}, "args": {"lr": 1e-5}}
    write_archive(folder / DIT, {"module": module, **notes})
    turned = {
        name: np.moveaxis(array, -1, 1) if name.endswith("weight") and array.ndim > 3 else array
        for name, array in weights["vae"].items()
    }
    write_archive(folder / VAE, OrderedDict((name, tensor(array)) for name, array in turned.items()))
    text = {name.replace("gate_proj", "gate.0"): bfloat16(array) for name, array in weights["t5_encoder"].items()}
    write_archive(folder / T5, text)
    clip = {f"visual.{name}": tensor(array) for name, array in weights["clip"].items()}
    clip |= {"textual.head.weight": tensor(np.ones((2, 2), np.float16)), "log_scale": tensor(np.ones((), np.float32))}
    write_archive(folder / CLIP, clip)
    shutil.copyfile(snapshot_folder / "tokenizer.json", folder / "umt5-xxl/tokenizer.json")
    sizes = json.loads((snapshot_folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({name: sizes[name] for name in BESIDE}))
    return folder


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    """Published checkpoints to be changed."""
    return Path(shutil.copytree(published, tmp_path / "copy"))


def edit(folder: Path, weights: dict[str, Arrays], change: Callable[[Checkpoint], object]) -> None:
    """Write the transformer again, changed; names are given without their prefix."""
    module = {name.removeprefix(PREFIX): tensor(array) for name, array in transformer(weights["dit"]).items()}
    change(module)
    write_archive(folder / DIT, {"module": {PREFIX + name: each for name, each in module.items()}})


def nothing_written(folder: Path) -> bool:
    return [path.name for path in folder.iterdir() if path.name not in ("copy", "source")] == []


@pytest.mark.parametrize(("bits", "slices"), [(None, 1000), (None, 32 << 20), (4, 20_000), (8, 32 << 20)])
def test_an_import_is_the_direct_snapshot_byte_for_byte(
    published: Path, direct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int | None, slices: int
) -> None:
    """Also when the rows of a tensor are read in several goes."""
    monkeypatch.setattr(convert, "SLICE", slices)
    expected = direct
    if bits:
        expected = tmp_path / "packed"
        list(quantize_snapshot(direct, expected, bits=bits))
    steps = list(import_checkpoints(published, tmp_path / "made", bits=bits))
    made = {name: (tmp_path / "made" / name).read_bytes() for name in FILES}
    assert [name for name in FILES if made[name] != (expected / name).read_bytes()] == []
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == sorted([*FILES, "SHA256SUMS"])
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path / "made", check=True)
    assert len(open_snapshot(tmp_path / "made").dit_config.packed) == (48 if bits else 0)
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].done == steps[-1].of


def test_one_tensor_is_in_memory_at_a_time(
    published: Path, weights: dict[str, Arrays], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "SLICE", 4096)
    largest = max(array.nbytes for arrays in weights.values() for array in arrays.values())
    total = sum(array.nbytes for arrays in weights.values() for array in arrays.values())
    assert 2.5 * largest < total / 4
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    list(import_checkpoints(published, tmp_path / "made"))
    assert mx.get_peak_memory() - before <= 2.5 * largest


def test_the_table_is_the_published_transformer() -> None:
    """987 tensors hold the 1307 of the snapshot, each once."""
    names = names_of_transformer(40)
    ours = [one for several in names.values() for one in several]
    assert (len(names), len(ours)) == (987, 1307)
    assert set(ours) == shapes_of(DiT(DiTConfig())).keys()


def test_what_the_tensors_cannot_tell_is_that_of_the_14b_model(copy: Path, tmp_path: Path) -> None:
    (copy / "config.json").unlink()
    list(import_checkpoints(copy, tmp_path / "made"))
    said = json.loads((tmp_path / "made/config.json").read_text())
    assert (said["dim"], said["num_heads"], said["text_len"], said["clip_heads"]) == (128, 1, 512, 1)


def test_an_image_tower_alone_is_read_as_well(
    copy: Path, direct: Path, weights: dict[str, Arrays], tmp_path: Path
) -> None:
    """Published with SCAIL-2 is CLIP's visual half alone."""
    (copy / CLIP).unlink()
    tower = {name: tensor(array) for name, array in weights["clip"].items()}
    write_archive(copy / CLIP.replace(".pth", "-onlyvisual.pth"), tower)
    list(import_checkpoints(copy, tmp_path / "made"))
    assert (tmp_path / "made/clip.safetensors").read_bytes() == (direct / "clip.safetensors").read_bytes()


def test_every_missing_file_is_named_with_where_it_belongs(copy: Path, tmp_path: Path) -> None:
    for name in (VAE, CLIP, "umt5-xxl/tokenizer.json"):
        (copy / name).unlink()
    with pytest.raises(WeightsMissing) as caught:
        import_checkpoints(copy, tmp_path / "made")
    for words in ("Wan2.1_VAE.pth", "models_clip_open-clip", "umt5-xxl/tokenizer.json (from google/umt5-xxl"):
        assert words in caught.value.what or words in caught.value.fix
    assert "fsdp2" not in caught.value.what
    with pytest.raises(WeightsMissing, match=r"there is no folder .*nowhere"):
        import_checkpoints(tmp_path / "nowhere", tmp_path / "made")


def test_several_of_a_kind_and_shards_are_refused(copy: Path, tmp_path: Path) -> None:
    shutil.copyfile(copy / DIT, copy / "model/1/fsdp2_rank_0001_checkpoint.pt")
    with pytest.raises(WeightsMismatch, match="in 2 parts"):
        import_checkpoints(copy, tmp_path / "made")
    shutil.copyfile(copy / VAE, copy / "umt5-xxl" / VAE)
    with pytest.raises(WeightsMismatch, match=r"several of a kind.*umt5-xxl/Wan2.1_VAE.pth"):
        import_checkpoints(copy, tmp_path / "made")
    assert nothing_written(tmp_path)


def test_names_that_are_unknown_or_missing_are_told_at_once(
    copy: Path, weights: dict[str, Arrays], tmp_path: Path
) -> None:
    def change(module: Checkpoint) -> None:
        module["mixins.adaln_layer.novelty.0.weight"] = tensor(np.ones(2, np.float32))
        del module["transformer.layers.2.mlp.dense_4h_to_h.bias"]
        module["time_embed.0.bias"] = tensor(np.ones(128, np.int64))

    edit(copy, weights, change)
    write_archive(
        copy / CLIP, {"visual.head": tensor(np.ones((64, 64), np.float32)), "teacher.x": bfloat16(np.ones(2))}
    )
    with pytest.raises(WeightsMismatch) as caught:
        import_checkpoints(copy, tmp_path / "made")
    for words in (
        "1 unknown: module.model.diffusion_model.mixins.adaln_layer.novelty.0.weight",
        "1 missing: transformer.layers.2.mlp.dense_4h_to_h.bias",
        "module.model.diffusion_model.time_embed.0.bias is of type I64",
        "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth: 1 unknown: teacher.x",
    ):
        assert words in caught.value.what
    assert nothing_written(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("transformer.layers.1.attention.query_key_value.weight", (385, 128), "cannot be cut into 3"),
        ("mixins.adaln_layer.adaLN_modulations.3", (1, 5, 128), r"blocks.3.modulation is \[1, 5, 128\], not"),
        ("mixins.patch_embed.proj.weight", (128, 36, 1, 2, 2), r"in_dim, mask_dim and out_dim are \(36, 28, 16\)"),
        ("clip_proj.proj.0.weight", (7,), "reads image features of width 7"),
    ],
)
def test_a_wrong_shape_is_told_before_numbers_are_read(
    copy: Path, weights: dict[str, Arrays], tmp_path: Path, name: str, shape: tuple[int, ...], words: str
) -> None:
    edit(copy, weights, lambda module: module.update({name: tensor(np.ones(shape, np.float32))}))
    with pytest.raises(WeightsMismatch, match=words):
        next(step for step in import_checkpoints(copy, tmp_path / "made") if step.what.startswith("checking"))
    assert nothing_written(tmp_path)


def test_an_unknown_tensor_of_the_image_tower_is_refused(
    copy: Path, weights: dict[str, Arrays], tmp_path: Path
) -> None:
    clip = {f"visual.{name}": tensor(array) for name, array in weights["clip"].items()}
    write_archive(copy / CLIP, clip | {"visual.transformer.0.gate": bfloat16(np.ones(2))})
    with pytest.raises(WeightsMismatch, match=r"1 unexpected: transformer\.0\.gate"):
        list(import_checkpoints(copy, tmp_path / "made"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"dim": 5120}', "says dim 5120, their tensors 128"),
        ('{"num_heads": 5, "clip_heads": 2}', "dim 128 cannot be cut into 5 heads"),
        ('{"num_heads": "four"}', "num_heads is 'four', not a positive whole number"),
        ("{", "is not JSON"),
    ],
)
def test_a_config_beside_that_does_not_fit_is_refused(copy: Path, tmp_path: Path, text: str, words: str) -> None:
    (copy / "config.json").write_text(text)
    with pytest.raises(WeightsMismatch, match=words):
        list(import_checkpoints(copy, tmp_path / "made"))


def test_changed_numbers_are_told_and_nothing_is_left(copy: Path, weights: dict[str, Arrays], tmp_path: Path) -> None:
    path = copy / VAE
    numbers = np.moveaxis(weights["vae"]["decoder.conv1.weight"], -1, 1).tobytes()
    content = path.read_bytes()
    assert content.count(numbers) == 1
    path.write_bytes(content.replace(numbers, numbers[:-1] + bytes([numbers[-1] ^ 1])))
    with pytest.raises(WeightsMismatch, match=r"Wan2.1_VAE.pth .* checksum is another for decoder.conv1.weight"):
        list(import_checkpoints(copy, tmp_path / "made"))
    assert nothing_written(tmp_path)


def test_an_import_that_is_given_up_leaves_nothing(published: Path, tmp_path: Path) -> None:
    steps = import_checkpoints(published, tmp_path / "made")
    assert next(step for step in steps if step.what.startswith("writing")).done > 0
    assert (tmp_path / "made.part").is_dir()
    steps.close()
    assert nothing_written(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from scail2_farm.engine.convert import import_checkpoints
for step in import_checkpoints(Path(sys.argv[1]), Path(sys.argv[2])):
    if step.what.startswith("writing t5"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_import_that_is_killed_leaves_nothing_under_the_name(published: Path, direct: Path, tmp_path: Path) -> None:
    """What it left beside is in nobody's way."""
    target = tmp_path / "made"
    killed = subprocess.run([sys.executable, "-c", KILLED, published, target], check=False)
    assert killed.returncode == -9
    assert not target.exists()
    list(import_checkpoints(published, target))
    assert (target / "dit.safetensors").read_bytes() == (direct / "dit.safetensors").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_requests_that_cannot_be_met_are_refused_at_once(published: Path, direct: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not 6"):
        import_checkpoints(published, tmp_path / "made", bits=6)
    with pytest.raises(FileExistsError):
        import_checkpoints(published, direct)


def test_a_checkpoint_that_wants_to_run_something_is_refused(copy: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    program = b"\x80\x02cposix\nsystem\nX" + len(f"touch {canary}").to_bytes(4, "little") + f"touch {canary}".encode()
    write_members(copy / T5, program + b"\x85R.", {})
    with pytest.raises(FarmError, match=r"wants to run posix\.system"):
        import_checkpoints(copy, tmp_path / "made")
    assert not canary.exists()
    (copy / VAE).write_bytes((copy / VAE).read_bytes()[:-1000])
    with pytest.raises(WeightsMismatch, match=r"Wan2.1_VAE.pth is cut short.*wants to run posix\.system"):
        import_checkpoints(copy, tmp_path / "made")
    assert nothing_written(tmp_path)
