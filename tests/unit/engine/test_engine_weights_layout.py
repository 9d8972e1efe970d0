"""The published layout at its real size: sparse files whose headers promise every tensor, and each way to break one.

A safetensors header says what follows it; a file as long as that, and empty, is all that `verify` may look at.
"""

from __future__ import annotations

import json
import math
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from scail2_farm.engine.config import CLIPConfig, DiTConfig, UMT5Config, VAEConfig
from scail2_farm.engine.dit import DiT
from scail2_farm.engine.umt5 import UMT5
from scail2_farm.engine.vae import VAEDecoder, VAEEncoder
from scail2_farm.engine.weights import (
    CLIP,
    DIT,
    FILES,
    T5,
    VAE,
    Verified,
    clip_shapes,
    open_snapshot,
    shapes_of,
    verify,
)
from scail2_farm.errors import WeightsMismatch, WeightsMissing

Layout = dict[str, tuple[str, tuple[int, ...]]]

BYTES = {"U32": 4, "F32": 4, "BF16": 2, "I64": 8}
LINEARS = (
    *("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "cross_attn.q", "cross_attn.k", "cross_attn.v"),
    *("cross_attn.o", "cross_attn.k_img", "cross_attn.v_img", "ffn.0", "ffn.2"),
)
CONFIG: dict[str, object] = {
    "_class_name": "WanSCAILModel",
    "_diffusers_version": "0.30.0",
    "model_type": "i2v",
    "dim": 5120,
    "ffn_dim": 13824,
    "num_layers": 40,
    "num_heads": 40,
    "in_dim": 20,
    "mask_dim": 28,
    "out_dim": 16,
    "freq_dim": 256,
    "text_len": 512,
    "eps": 1e-6,
}
PUBLISHED = {  # bytes of tensors, engine.md §1.1
    "q4": 9_578_237_568,
    "q8": 17_652_272_768,
    "bf16": 32_791_088_768,
    VAE: 507_570_124,
    T5: 11_361_820_672,
    CLIP: 2_528_307_200,
}
WORDS = 256_300  # of google/umt5-xxl; the table of its encoder has 256,384 rows


def dense(dtype: str, shapes: dict[str, tuple[int, ...]]) -> Layout:
    return {name: (dtype, shape) for name, shape in shapes.items()}


def transformer(bits: int | None, config: DiTConfig | None = None) -> Layout:
    config = config or DiTConfig()
    names = [f"blocks.{block}.{linear}" for block in range(config.num_layers) for linear in LINEARS] if bits else []
    shapes = shapes_of(DiT(DiTConfig(packed=tuple((name, bits or 0) for name in names))) if bits else DiT(config))
    integers = {f"{name}.weight" for name in names}
    return {name: ("U32" if name in integers else "BF16", shape) for name, shape in shapes.items()}


def write_sparse(path: Path, layout: Layout) -> int:
    """A file of the right length with nothing in it but its header; returns the bytes the tensors take."""
    end, fields = 0, {}
    for name, (dtype, shape) in layout.items():
        start, end = end, end + BYTES[dtype] * math.prod(shape)
        fields[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(fields).encode()
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end)
    return end


def write_words(path: Path, count: int, *, all_of_them: bool = False) -> None:
    """A tokenizer with ids up to `count`: with a word for each, as the real one, or with three and the last."""
    first = ["<pad>", "</s>", "<unk>"]
    if all_of_them:
        model = models.Unigram(
            [(word, 0.0) for word in first] + [(f"▁{i}", -i / 1000) for i in range(3, count)], unk_id=2
        )
    else:
        model = models.WordLevel({word: i for i, word in enumerate(first)} | {"last": count - 1}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])  # pyright: ignore
    path.unlink(missing_ok=True)
    tokenizer.save(str(path))


def configure(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    document = json.loads(path.read_text()) | fields if path.is_file() else fields
    path.unlink(missing_ok=True)  # another name of the same file stays as it is
    path.write_text(json.dumps(document))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the three published tiers."""
    root = tmp_path_factory.mktemp("published")
    parts: dict[str, Layout] = {
        VAE: dense("F32", shapes_of(VAEEncoder(VAEConfig())) | shapes_of(VAEDecoder(VAEConfig()))),
        T5: dense("BF16", shapes_of(UMT5(UMT5Config()))),
        CLIP: dense("F32", clip_shapes(CLIPConfig())),
    }
    for tier, bits in (("q4", 4), ("q8", 8), ("bf16", None)):
        (root / tier).mkdir()
        for file, layout in parts.items():
            assert write_sparse(root / tier / file, layout) == PUBLISHED[file]
        assert write_sparse(root / tier / DIT, transformer(bits)) == PUBLISHED[tier]
        quantization = {"quantization": {"bits": bits, "group_size": 64}} if bits else {}
        configure(root / tier, **CONFIG, **quantization)
    write_words(root / "q4" / "tokenizer.json", WORDS, all_of_them=True)
    for tier in ("q8", "bf16"):
        os.link(root / "q4" / "tokenizer.json", root / tier / "tokenizer.json")
    return root


@pytest.fixture
def q4(root: Path, tmp_path: Path) -> Path:
    """A folder with the files of the Q4 tier under other names, to be broken one by one."""
    for name in FILES[:-1]:
        os.link(root / "q4" / name, tmp_path / name)
    write_words(tmp_path / "tokenizer.json", WORDS)
    return tmp_path


def verified(folder: Path, **options: object) -> Verified:
    steps = verify(folder, **options)  # pyright: ignore[reportArgumentType]
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


@pytest.mark.parametrize(("tier", "bits", "tensors"), [("q4", 4, 2267), ("q8", 8, 2267), ("bf16", None, 1307)])
def test_each_published_tier_is_whole_and_told_in_two_seconds(root: Path, tier: str, bits: int | None, tensors: int):
    """Names, shapes, types, counts and bytes from the headers alone; the seconds are the process's own."""
    began = time.process_time()
    told = verified(root, tier=tier)
    seconds = time.process_time() - began
    assert told.faults == ()
    assert told.error is None
    assert (told.folder, told.tier, told.bits) == (root / tier, tier, bits)
    assert told.tensors == {DIT: tensors, VAE: 194, T5: 242, CLIP: 392}
    assert 0 < told.bytes - sum(PUBLISHED[name] for name in (tier, VAE, T5, CLIP)) < 20e6  # headers, words, config
    assert seconds < 2


def test_a_root_is_asked_by_tier(root: Path, tmp_path: Path):
    """Without a name one tier alone is taken; several are told, and so is one that is not there."""
    with pytest.raises(WeightsMissing, match="it holds q4 and q8 and bf16, and none of them was named"):
        open_snapshot(root)
    (tmp_path / "q8").symlink_to(root / "q8")
    with pytest.raises(WeightsMissing, match=r"q4 is not in .*: it holds q8, not q4"):
        verified(tmp_path, tier="q4")
    assert open_snapshot(tmp_path).folder == tmp_path / "q8"


def test_another_tier_than_the_folder_holds_is_refused(q4: Path, root: Path, tmp_path: Path):
    """Asked for by name, said by the name of the folder, or a flat folder beside tiers."""
    assert "q8 was asked for, but dit.safetensors holds q4 weights" in verified(q4, tier="q8").faults[0]
    (tmp_path / "bf16").mkdir()
    for name in FILES:
        os.link(q4 / name, tmp_path / "bf16" / name)
    assert "the folder is called bf16, but dit.safetensors holds q4 weights" in verified(tmp_path / "bf16").faults[0]
    (tmp_path / "q8").symlink_to(root / "q8")
    assert verified(tmp_path, tier="q8").folder == tmp_path / "q8"
    assert verified(tmp_path).tier == "q4"


Break = Callable[[Path], object]


def redo(bits: int | None, change: Callable[[Layout], object]) -> Break:
    def write(folder: Path) -> None:
        layout = transformer(bits)
        change(layout)
        write_sparse(folder / DIT, layout)

    return write


def swap(layout: Layout, *names: str, bits: int) -> None:
    for name in names:
        dtype, (outputs, _) = layout[f"{name}.weight"]
        layout[f"{name}.weight"] = (dtype, (outputs, layout[f"{name}.scales"][1][1] * 64 * bits // 32))


def cut(folder: Path) -> None:
    length = (folder / T5).stat().st_size
    (folder / T5).unlink()
    write_sparse(folder / T5, dense("BF16", shapes_of(UMT5(UMT5Config()))))
    os.truncate(folder / T5, length - 4096)


def put(folder: Path, file: str, under: str) -> None:
    (folder / under).unlink()
    os.link(folder / file, folder / under)


SMALL = DiTConfig(dim=1536, ffn_dim=8960, num_layers=40, num_heads=12)
T2V = ("patch_embedding_pose", "patch_embedding_mask", "img_emb", "k_img", "v_img")

BROKEN: dict[str, tuple[Break, str]] = {
    "a tensor is missing": (
        redo(4, lambda t: t.pop("blocks.7.norm3.weight")),
        "dit.safetensors: 1 missing: blocks.7.norm3.weight",
    ),
    "a tensor too many": (
        redo(4, lambda t: t.update({"blocks.40.norm.weight": ("BF16", (5120,))})),
        "num_layers is 40, but dit.safetensors holds 41",
    ),
    "an unknown tensor": (
        redo(4, lambda t: t.update({"head.bias": ("BF16", (64,))})),
        "dit.safetensors: 1 unexpected: head.bias",
    ),
    "a wrong shape": (
        redo(4, lambda t: t.update({"head.modulation": ("BF16", (1, 6, 5120))})),
        "dit.safetensors: 1 of another shape: head.modulation is [1, 6, 5120], not [1, 2, 5120]",
    ),
    "a wrong type": (
        redo(4, lambda t: t.update({"head.head.bias": ("I64", (64,))})),
        "dit.safetensors: 1 not of a float type: head.head.bias (I64)",
    ),
    "packed floats": (
        redo(4, lambda t: t.update({"blocks.0.ffn.0.weight": ("F32", (13824, 640))})),
        "dit.safetensors: 1 packed, but not of type U32: blocks.0.ffn.0.weight (F32)",
    ),
    "no scales": (
        redo(4, lambda t: t.pop("blocks.3.ffn.2.scales")),
        "dit.safetensors: 1 not of a float type: blocks.3.ffn.2.weight (U32)",
    ),
    "cut short": (cut, "t5_encoder.safetensors is cut short"),
    "a swapped shard": (
        lambda folder: put(folder, VAE, CLIP),
        "clip.safetensors holds what belongs in vae.safetensors",
    ),
    "a smaller model": (
        lambda folder: write_sparse(folder / DIT, transformer(None, SMALL)),
        "dit.safetensors is another model's, of 40 layers, dim 1536, ffn_dim 8960, in_dim 20; config.json says dim 51",
    ),
    "a text-to-video model": (
        lambda folder: (
            write_sparse(
                folder / DIT,
                {
                    name: (dtype, (shape[0], 16, *shape[2:]) if name == "patch_embedding.weight" else shape)
                    for name, (dtype, shape) in transformer(None, SMALL).items()
                    if not any(part in name for part in T2V)
                },
            ),
            configure(folder, model_type="t2v", dim=1536, in_dim=16),
        ),
        "ffn_dim 8960, in_dim 16: it has no patch_embedding_pose.weight, patch_embedding_mask.weight",
    ),
    "channels of another model": (
        lambda folder: configure(folder, in_dim=36),
        "in_dim, mask_dim and out_dim are (36, 28, 16), not (20, 28, 16)",
    ),
    "other bits than config.json": (
        redo(8, lambda t: None),
        "config.json says 4 bits, but dit.safetensors holds 480 others",
    ),
    "bits mixed": (
        redo(4, lambda t: swap(t, "blocks.0.ffn.0", "blocks.39.self_attn.q", bits=8)),
        "says 4 bits, but dit.safetensors holds 2 others: blocks.0.ffn.0 (8 bits), blocks.39.self_attn.q (8 bits)",
    ),
    "dense under a packed config": (
        redo(None, lambda t: None),
        "config.json says 4 bits, but nothing in dit.safetensors is packed",
    ),
    "malformed quantization": (
        lambda folder: configure(folder, quantization={"bits": "4"}),
        "config.json: quantization is {'bits': '4'}",
    ),
    "a missing file": (lambda folder: (folder / VAE).unlink(), "it lacks vae.safetensors"),
    "words of mT5": (
        lambda folder: write_words(folder / "tokenizer.json", 250_100),
        "tokenizer.json is of another vocabulary: it gives 250100 ids, t5_encoder.safetensors knows 256384",
    ),
    "another port": (
        redo(
            None,
            lambda t: [
                t.update({n.replace("projection.", "projection.layers."): t.pop(n)}) for n in [*t] if "proj" in n
            ],
        ),
        "dit.safetensors is in another port's layout, which is not read: time_projection.layers.1.",
    ),
    "files of another port": (
        lambda folder: (folder / T5).rename(folder / "umt5.safetensors"),
        "it lacks t5_encoder.safetensors; umt5.safetensors is of another port's layout, which is not read",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_each_broken_snapshot_is_refused_by_name(q4: Path, kind: str):
    """One clear error, which `verify` tells and `open_snapshot` raises."""
    make, words = BROKEN[kind]
    make(q4)
    told = verified(q4)
    assert told.error is not None
    assert words in told.error.what
    assert len(told.error.what) < 2500
    with pytest.raises((WeightsMismatch, WeightsMissing)) as caught:
        open_snapshot(q4)
    assert caught.value.what == told.error.what


def test_all_that_is_wrong_is_told_together(q4: Path):
    """A missing file hides nothing of the others."""
    (q4 / "tokenizer.json").unlink()
    redo(4, lambda t: t.pop("head.modulation"))(q4)
    configure(q4, text_len=0)
    put(q4, T5, CLIP)
    told = verified(q4).error
    assert isinstance(told, WeightsMissing)
    for words in ("lacks tokenizer.json", "1 missing: head.modulation", "text_len is 0", "belongs in t5_encoder"):
        assert words in told.what


def test_a_logarithm_in_clip_is_tolerated(q4: Path):
    """The sizes that are published cannot exclude it (engine.md §17)."""
    write_sparse(q4 / CLIP, {**dense("F32", clip_shapes(CLIPConfig())), "log_scale": ("F32", ())})
    told = verified(q4)
    assert (told.faults, told.tensors[CLIP]) == ((), 393)
