# pyright: reportUnknownMemberType=false
# (mlx.core leaves the axes of moveaxis untyped)
"""The checkpoints of SCAIL-2 as its authors published them, made into a snapshot (engine.md §11).

Five files become six: a transformer of another library's names (some tensors of which are two or three of ours, one
below the other), the VAE, the text encoder and CLIP of Wan 2.1, and a tokenizer. `import_checkpoints` first writes the
headers of the snapshot, which say every name, shape and type, and has them audited as `open_snapshot` audits any
other; only then are numbers read, one tensor at a time, each into its place.

Sizes come from the tensors. What tensors cannot tell (the heads of attention, the length of text) is that of the 14B
model unless a config.json beside the checkpoints says otherwise.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import mlx.core as mx

from scail2_farm.engine.backend import evaluate
from scail2_farm.engine.config import CLIPConfig, DiTConfig
from scail2_farm.engine.dit import GROUP
from scail2_farm.engine.pickles import TensorArchive, open_archive
from scail2_farm.engine.quantize import packed, packed_layout
from scail2_farm.engine.store import (
    SUMS,
    Progress,
    Stored,
    TensorFile,
    copied,
    counted_bytes,
    hashed,
    new_folder,
    require_new,
    require_room,
    sums_text,
    told,
)
from scail2_farm.engine.weights import (
    BITS,
    CLIP,
    CONFIG,
    DIT,
    FLOATS,
    T5,
    TENSORS,
    TOKENIZER,
    VAE,
    clip_shapes,
    open_snapshot,
)
from scail2_farm.errors import WeightsMismatch, WeightsMissing, Where

SHOWN = 24  # names of one kind in a message
SLICE = 32 << 20  # bytes of float32 that are read at once
STORED_TYPES = {DIT: "BF16", VAE: "F32", T5: "BF16", CLIP: "F32"}
MLX_TYPES = {"BF16": mx.bfloat16, "F32": mx.float32}
RELEASE, WAN = "zai-org/SCAIL-2", "Wan-AI/Wan2.1-I2V-14B-720P"
"""The repositories of the authors of SCAIL-2, and of the model it was made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A file that is looked for: what it is and is called, by which patterns, and where people get it."""

    what: str
    name: str
    patterns: tuple[str, ...]
    source: str


WANTED = {
    DIT: _Wanted(
        what="the transformer",
        name="model/1/fsdp2_rank_0000_checkpoint.pt",
        patterns=("**/fsdp2_rank_0000_checkpoint.pt", "**/mp_rank_00_model_states.pt"),
        source=RELEASE,
    ),
    VAE: _Wanted(what="the VAE", name="Wan2.1_VAE.pth", patterns=("**/Wan2.1_VAE.pth",), source=f"{RELEASE} or {WAN}"),
    T5: _Wanted(
        what="the text encoder",
        name="models_t5_umt5-xxl-enc-bf16.pth",
        patterns=("**/models_t5_umt5-xxl-enc-*.pth",),
        source=f"{RELEASE} or {WAN}",
    ),
    CLIP: _Wanted(
        what="the image encoder",
        name="models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
        patterns=("**/models_clip_open-clip-*.pth",),
        source=f"{RELEASE}, there called -onlyvisual.pth, or {WAN}",
    ),
    TOKENIZER: _Wanted(
        what="the tokenizer",
        name="umt5-xxl/tokenizer.json",
        patterns=("**/umt5-xxl/tokenizer.json", "tokenizer.json"),
        source=f"google/umt5-xxl, or google/umt5-xxl in {WAN}",
    ),
}

PREFIX = re.compile(r"(?:module\.)?model\.diffusion_model\.")
PAIRS = {
    "mixins.patch_embed.proj": "patch_embedding",
    "mixins.patch_embed.proj_pose": "patch_embedding_pose",
    "mixins.patch_embed.proj_mask": "patch_embedding_mask",
    "time_embed.0": "time_embedding.0",
    "time_embed.2": "time_embedding.2",
    "adaln_projection.1": "time_projection.1",
    "text_embedding.0": "text_embedding.0",
    "text_embedding.2": "text_embedding.2",
    "clip_proj.proj.0": "img_emb.proj.0",
    "clip_proj.proj.1": "img_emb.proj.1",
    "clip_proj.proj.3": "img_emb.proj.3",
    "clip_proj.proj.4": "img_emb.proj.4",
    "mixins.final_layer.linear": "head.head",
}
"""Modules with a weight and a bias."""
BLOCK_PAIRS = {
    "transformer.layers.{}.attention.query_key_value": ("self_attn.q", "self_attn.k", "self_attn.v"),
    "transformer.layers.{}.attention.dense": ("self_attn.o",),
    "transformer.layers.{}.cross_attention.query": ("cross_attn.q",),
    "transformer.layers.{}.cross_attention.key_value": ("cross_attn.k", "cross_attn.v"),
    "transformer.layers.{}.cross_attention.dense": ("cross_attn.o",),
    "mixins.adaln_layer.clip_feature_key_value_list.{}": ("cross_attn.k_img", "cross_attn.v_img"),
    "transformer.layers.{}.post_cross_attention_layernorm": ("norm3",),
    "transformer.layers.{}.mlp.dense_h_to_4h": ("ffn.0",),
    "transformer.layers.{}.mlp.dense_4h_to_h": ("ffn.2",),
}
"""The same of every block; where there are several of ours, the rows are theirs one after the other."""
BLOCK_WEIGHTS = {
    "mixins.adaln_layer.query_layernorm_list.{}.weight": "self_attn.norm_q.weight",
    "mixins.adaln_layer.key_layernorm_list.{}.weight": "self_attn.norm_k.weight",
    "mixins.adaln_layer.cross_query_layernorm_list.{}.weight": "cross_attn.norm_q.weight",
    "mixins.adaln_layer.cross_key_layernorm_list.{}.weight": "cross_attn.norm_k.weight",
    "mixins.adaln_layer.clip_feature_key_layernorm_list.{}.weight": "cross_attn.norm_k_img.weight",
    "mixins.adaln_layer.adaLN_modulations.{}": "modulation",
}
BLOCK = re.compile(r"mixins\.adaln_layer\.adaLN_modulations\.\d+")


def names_of_transformer(blocks: int) -> dict[str, tuple[str, ...]]:
    """Every tensor of the published transformer, without its prefix, and the tensors of ours it holds."""
    names: dict[str, tuple[str, ...]] = {"mixins.final_layer.adaLN_modulation": ("head.modulation",)}
    for kind in ("weight", "bias"):
        names |= {f"{source}.{kind}": (f"{ours}.{kind}",) for source, ours in PAIRS.items()}
        for block in range(blocks):
            names |= {
                f"{source.format(block)}.{kind}": tuple(f"blocks.{block}.{one}.{kind}" for one in ours)
                for source, ours in BLOCK_PAIRS.items()
            }
    for block in range(blocks):
        names |= {source.format(block): (f"blocks.{block}.{ours}",) for source, ours in BLOCK_WEIGHTS.items()}
    return names


def import_checkpoints(source: Path, target: Path, *, bits: int | None = None) -> Generator[Progress, None, None]:
    """Make a snapshot of the published checkpoints in a folder, as its progress is asked for.

    The transformer is stored in bfloat16, or packed in 4 or 8 `bits` from that. The snapshot appears under its name
    when it is complete, with SHA256SUMS; until then it is TARGET.part. What can be told without reading numbers is
    raised before the generator is handed out: WeightsMissing naming every file that is not there, WeightsMismatch with
    everything wrong in those that are, FileExistsError when `target` holds anything, DiskFull when the snapshot would
    not fit, and ValueError for other bits. While it runs, WeightsMismatch for damaged numbers, and StorageError.
    """
    if bits not in (None, *BITS):
        raise ValueError(f"weights are packed in {' or '.join(map(str, BITS))} bits, not {bits}")
    require_new(target)
    files = _found(source)
    plan = _planned(files, source / CONFIG, bits=bits)
    require_room(target, sum(one.bytes for layout in plan.layouts.values() for one in layout.values()))
    return _writing(plan, target)


MOST_TOLD = 3  # files that one line names; the others are counted


def _found(source: Path) -> dict[str, Path]:
    """The five files, by what they become; raises WeightsMissing and WeightsMismatch."""
    where = Where(file=str(source))
    found: dict[str, Path] = {}
    missing: list[_Wanted] = []
    several: list[str] = []
    with told(source):
        for file, wanted in WANTED.items():
            matches: list[Path] = []
            for pattern in wanted.patterns:
                matches = matches or sorted(source.glob(pattern))
            if not matches:
                missing.append(wanted)
            elif len(matches) > 1:
                names = ", ".join(str(path.relative_to(source)) for path in matches[:MOST_TOLD])
                more = f" and {len(matches) - MOST_TOLD} more" if len(matches) > MOST_TOLD else ""
                several.append(f"{wanted.what}: {names}{more}")
            else:
                found[file] = matches[0]
        shards = sorted(found[DIT].parent.glob("fsdp2_rank_*_checkpoint.pt")) if DIT in found else []
    if missing:
        raise WeightsMissing(
            f"{source} lacks {', '.join(f'{wanted.what} ({wanted.name})' for wanted in missing)}"
            if source.is_dir()
            else f"there is no folder {source}",
            why="a snapshot is made of five files, looked for in this folder and all folders in it",
            fix="put into it " + "; ".join(f"{wanted.name} (from {wanted.source})" for wanted in missing),
            where=where,
        )
    if several:
        raise WeightsMismatch(
            f"{source} holds several of a kind, {'; '.join(several)}",
            why="which of them is meant is not guessed",
            fix="leave one of each, or name a folder that holds one",
            where=where,
        )
    if len(shards) > 1:
        raise WeightsMismatch(
            f"the transformer is in {len(shards)} parts, one of each rank it was trained on",
            why="the published checkpoint is one file; what training wrote in parts is put together by its own tools",
            fix=f"use {RELEASE}, or save your own training as one rank",
            where=Where(file=str(found[DIT].parent)),
        )
    return found


# --------------------------------------------------------------------------- planning


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where a tensor of ours is found: the name of theirs, and which of so many equal parts of its rows."""

    name: str
    part: int = 0
    parts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A snapshot to be: the files it is made of, where each tensor is found, and how the tensor files are laid out."""

    files: Mapping[str, Path]
    rows: Mapping[str, Mapping[str, _Rows]]
    layouts: Mapping[str, Mapping[str, Stored]]
    document: Mapping[str, object]
    bits: int | None


def _planned(files: Mapping[str, Path], beside: Path, *, bits: int | None) -> _Plan:
    """Read what the checkpoints hold; raises WeightsMismatch with everything that is wrong, and StorageError."""
    rows: dict[str, dict[str, _Rows]] = {}
    layouts: dict[str, dict[str, Stored]] = {}
    unreadable: list[WeightsMismatch] = []
    faults: list[str] = []
    for file in TENSORS:
        try:
            with open_archive(files[file]) as archive:
                rows[file], wrong = _sources(file, archive)
                layouts[file], odd = _layout(file, archive, rows[file])
        except WeightsMismatch as error:
            unreadable.append(error)
        else:
            faults += [f"{files[file].name}: {fault}" for fault in (*wrong, *odd)]
    if len(unreadable) == 1 and not faults:
        raise unreadable[0]
    faults += [error.what for error in unreadable]
    document, wrong = _document(layouts, beside) if not unreadable else ({}, [])
    faults += wrong
    if faults:
        raise WeightsMismatch(
            "; ".join(faults),
            why="checkpoints are imported strictly: every file whole, every tensor known, none missing",
            fix=f"use the files of {RELEASE} as they are",
            where=Where(file=str(files[DIT])),
        )
    if bits is not None:
        shapes = {name: mx.zeros(one.shape, mx.bfloat16) for name, one in layouts[DIT].items()}  # never evaluated
        layouts[DIT] = packed_layout(shapes, bits=bits)
        document["quantization"] = {"bits": bits, "group_size": GROUP}
    return _Plan(files=files, rows=rows, layouts=layouts, document=document, bits=bits)


def _sources(file: str, archive: TensorArchive) -> tuple[dict[str, _Rows], list[str]]:
    """Where each tensor of a file of ours is found in its archive, and what is unknown or missing there."""
    names = archive.names()
    if file == VAE:
        return {name: _Rows(name) for name in names}, []
    if file == T5:
        return {name.replace(".ffn.gate.0.", ".ffn.gate_proj."): _Rows(name) for name in names}, []
    if file == CLIP:
        prefix = "visual." if any(name.startswith("visual.") for name in names) else ""  # a tower alone has none
        others = [name for name in names if not name.startswith(prefix)]
        unknown = [name for name in others if not name.startswith("textual.") and name != "log_scale"]
        faults = [f"{len(unknown)} unknown: {_listed(unknown)}"] if unknown else []
        return {name.removeprefix(prefix): _Rows(name) for name in names if name.startswith(prefix)}, faults
    weights = [name for name in names if name.startswith("module.")] or names  # beside them, what training noted
    stripped = {match.string[match.end() :]: name for name in weights if (match := PREFIX.match(name))}
    known = names_of_transformer(sum(1 for name in stripped if BLOCK.fullmatch(name)))
    unknown = [name for name in weights if not (match := PREFIX.match(name)) or name[match.end() :] not in known]
    missing = [name for name in known if name not in stripped]
    kinds = (("unknown", unknown), ("missing", missing))
    found = {
        ours: _Rows(stripped[theirs], part, len(several))
        for theirs, several in known.items()
        for part, ours in enumerate(several)
        if theirs in stripped
    }
    return found, [f"{len(names)} {kind}: {_listed(names)}" for kind, names in kinds if names]


def _layout(file: str, archive: TensorArchive, rows: Mapping[str, _Rows]) -> tuple[dict[str, Stored], list[str]]:
    """How each tensor will be stored, and which cannot be."""
    layout: dict[str, Stored] = {}
    faults: list[str] = []
    for name, source in rows.items():
        shape, dtype = archive.shape(source.name), archive.dtype(source.name)
        if dtype not in (*FLOATS, "F64"):
            faults.append(f"{source.name} is of type {dtype}, which is no type of weights")
        if not math.prod(shape) or not shape:
            faults.append(f"{source.name} {list(shape)} is empty, or a lone number")
        if source.parts > 1 and (not shape or shape[0] % source.parts):
            faults.append(f"{source.name} {list(shape)} cannot be cut into {source.parts}")
        elif source.parts > 1:
            shape = (shape[0] // source.parts, *shape[1:])
        if _is_turned(file, name, shape):
            shape = (shape[0], *shape[2:], shape[1])
        layout[name] = Stored(STORED_TYPES[file], shape)
    return layout, faults


def _is_turned(file: str, name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is a convolution of the VAE, stored channels-last; its gains have as many axes and are not."""
    return file == VAE and name.endswith(".weight") and len(shape) in (4, 5)


def _document(layouts: Mapping[str, Mapping[str, Stored]], beside: Path) -> tuple[dict[str, object], list[str]]:
    """The snapshot's config.json, and where the one beside the checkpoints does not agree with them."""

    def size(file: str, name: str, axis: int) -> int:
        shape = layouts[file][name].shape if name in layouts[file] else ()
        return shape[axis] if axis < len(shape) else 0

    dim, default, tower = size(DIT, "patch_embedding.weight", 0), DiTConfig(), CLIPConfig()
    sizes = {
        "dim": dim,
        "ffn_dim": size(DIT, "blocks.0.ffn.0.weight", 0),
        "num_layers": sum(1 for name in layouts[DIT] if name.endswith(".modulation") and name.startswith("blocks.")),
        "num_heads": max(1, dim // default.head_dim),
        "in_dim": size(DIT, "patch_embedding.weight", 1),
        "mask_dim": size(DIT, "patch_embedding_mask.weight", 1),
        "out_dim": size(DIT, "head.head.weight", 0) // 4,  # a token is 2x2 latent pixels
        "freq_dim": size(DIT, "time_embedding.0.weight", 1),
        "text_len": default.text_len,
        "eps": default.eps,
        "clip_heads": max(1, size(CLIP, "patch_embedding.weight", 0) * tower.num_heads // tower.dim),
    }
    if not beside.is_file():
        return {"model_type": "i2v", **sizes}, []
    try:
        with told(beside):
            said = cast("object", json.loads(beside.read_text(encoding="utf-8")))
    except ValueError as error:
        return {}, [f"{CONFIG} beside the checkpoints is not JSON: {error}"]
    given = cast("dict[str, object]", said) if isinstance(said, dict) else {}
    untold = ("num_heads", "text_len", "eps", "clip_heads")
    faults = [
        f"{CONFIG} beside the checkpoints says {field} {given[field]}, their tensors {found}"
        for field, found in sizes.items()
        if field in given and field not in untold and given[field] != found
    ]
    return {"model_type": "i2v", **sizes, **{field: given[field] for field in untold if field in given}}, faults


# --------------------------------------------------------------------------- writing


def _writing(plan: _Plan, target: Path) -> Generator[Progress, None, None]:
    """Audit the headers, compare the checksums of the checkpoints, convert, hash what was written."""
    digests: dict[str, str] = {}
    with new_folder(target) as part, contextlib.ExitStack() as stack:
        (part / CONFIG).write_text(json.dumps(plan.document, indent=2) + "\n", encoding="utf-8")
        archives = {file: stack.enter_context(open_archive(plan.files[file])) for file in TENSORS}
        with contextlib.ExitStack() as filling:
            outputs = {file: filling.enter_context(TensorFile(part / file, plan.layouts[file])) for file in TENSORS}
            done, of = 0, _work(plan, part, archives)
            pieces = copied(plan.files[TOKENIZER], part / TOKENIZER)
            digests[TOKENIZER], done = yield from counted_bytes(pieces, what=TOKENIZER, done=done, of=of)
            _audit(part, plan)
            for archive in archives.values():
                for read in archive.check():
                    done += read
                    yield Progress(what=f"checking {archive.path.name}", done=done, of=of)
            for file, output in outputs.items():
                for size in _converted(file, archives[file], plan, output):
                    done += size
                    yield Progress(what=f"writing {file}", done=done, of=of)
        for file in (*TENSORS, CONFIG):
            pieces = hashed(part / file)
            digests[file], done = yield from counted_bytes(pieces, what=f"reading {file} again", done=done, of=of)
        (part / SUMS).write_text(sums_text(digests), encoding="utf-8")


def _work(plan: _Plan, part: Path, archives: Mapping[str, TensorArchive]) -> int:
    """How many bytes are read and written once the headers are: checking, writing, hashing."""
    checked = sum(archive.stored_bytes() for archive in archives.values())
    written = sum(one.bytes for layout in plan.layouts.values() for one in layout.values())
    again = sum((part / file).stat().st_size for file in (*TENSORS, CONFIG))
    return plan.files[TOKENIZER].stat().st_size + checked + written + again


def _audit(part: Path, plan: _Plan) -> None:
    """Open what will be the snapshot by its headers; raises WeightsMismatch about the checkpoints it comes from."""
    names = ", ".join(f"{file} is made of {path.name}" for file, path in plan.files.items())
    try:
        snapshot = open_snapshot(part)
        unknown = plan.layouts[CLIP].keys() - clip_shapes(snapshot.clip_config).keys()
        what = f"{CLIP}: {len(unknown)} unexpected: {_listed(sorted(unknown))}" if unknown else ""
    except WeightsMismatch as error:
        what = error.what
    if what:
        raise WeightsMismatch(
            f"the checkpoints make no snapshot: {what}",
            why=f"checkpoints are imported strictly: every tensor known, none missing, every shape right; {names}",
            fix=f"use the files of {RELEASE} as they are",
            where=Where(file=str(plan.files[DIT])),
        )


def _converted(file: str, archive: TensorArchive, plan: _Plan, output: TensorFile) -> Generator[int]:
    """Read, convert and write the tensors of a file, yielding the bytes written; one is in memory at a time."""
    for name, source in plan.rows[file].items():
        tensor = _read(archive, source, MLX_TYPES[STORED_TYPES[file]])
        if _is_turned(file, name, tuple(tensor.shape)):
            tensor = mx.moveaxis(tensor, 1, -1)
        parts = packed(name, tensor, bits=plan.bits) if file == DIT and plan.bits else {name: tensor}
        del tensor
        yield _written(parts, output)


def _read(archive: TensorArchive, source: _Rows, dtype: mx.Dtype) -> mx.array:
    """A tensor, or its part of one, in another type; so many rows at a time that the wider type is never held whole."""
    shape = archive.shape(source.name)
    rows = shape[0] // source.parts
    most = max(1, SLICE // (4 * math.prod(shape[1:])))
    pieces: list[mx.array] = []
    for at in range(0, rows, most):
        count = min(most, rows - at)
        pieces.append(archive.tensor(source.name, first=source.part * rows + at, count=count).astype(dtype))
        evaluate(pieces[-1])
    return pieces[0] if len(pieces) == 1 else mx.concatenate(pieces)


def _written(parts: dict[str, mx.array], output: TensorFile) -> int:
    """Write arrays, let go of each, and answer the bytes of all."""
    size = 0
    while parts:
        name, array = parts.popitem()
        output.write(name, array)
        size += array.nbytes
        del array
        mx.clear_cache()  # what was freed is not held back for the next, which is of another size
    return size


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
