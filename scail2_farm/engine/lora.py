# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (mlx.nn has no stubs, and those of mlx.core leave some answers untyped)
"""LoRA files: read, checked against the transformer, worn by it and taken off again (engine.md §10).

::

    file ── read_lora ── Adapter ─┐ low-rank pairs        ── beside a Linear, dense or packed, in every forward
                                  ├ differences, matrices ── added in float32 to the dense tensor, then cast back
    (strengths) ──────── attach ──┴ differences, the rest ── added in float32, and kept so: 16 bits would round a
                                                             difference of a thousandth away beside a gain of one

What a file changes is W + strength * (alpha/rank) * up @ down + strength * diff. Pairs are never merged: packed weights
would have to be packed again, and what a snapshot holds stays as it is, so that taking an adapter off is exact. Factors
stay in their stored type and are widened where they are used. The scale is applied to the few numbers between down and
up, and pairs of several files are applied one after the other, so that no factor is rounded or copied for either
(concatenating them along the rank was measured no faster).

A Linear that wears pairs stays the same object at the same place and only its class is another meanwhile. Names and
parameters of the network are therefore those of the bare one, for strict loading, saving and whoever holds the layer.
The tensors that differences change are replaced, and put back by `Attached.remove`.

Every name of a file must be understood and every shape must fit, or nothing is attached. The one exception: the stem of
another Wan 2.1 (an image-to-video model reads 36 channels, this one 20) is left out whole, and said.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import mlx.core as mx
from mlx import nn
from safetensors import SafetensorError, safe_open

from scail2_farm.engine.backend import evaluate, flat
from scail2_farm.engine.dit import GROUP, DiT
from scail2_farm.engine.pickles import open_archive
from scail2_farm.errors import WeightsMismatch, WeightsMissing, Where, storage_error

log = logging.getLogger(__name__)

PREFIXES = (
    *("model.diffusion_model.", "base_model.model.", "diffusion_model.", "transformer.", "state_dict.", "lora_unet_"),
    *("module.", "model."),
)
"""What names may begin with, longest first; stripped until none fits."""
BLOCK_MODULES = (
    *("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "self_attn.norm_q", "self_attn.norm_k"),
    *("cross_attn.q", "cross_attn.k", "cross_attn.v", "cross_attn.o", "cross_attn.k_img", "cross_attn.v_img"),
    *("cross_attn.norm_q", "cross_attn.norm_k", "cross_attn.norm_k_img", "norm3", "ffn.0", "ffn.2", "modulation"),
)
OTHER_MODULES = (
    *("patch_embedding", "patch_embedding_pose", "patch_embedding_mask", "text_embedding.0", "text_embedding.2"),
    *("time_embedding.0", "time_embedding.2", "time_projection.1", "head.head", "head.modulation"),
    *("img_emb.proj.0", "img_emb.proj.1", "img_emb.proj.3", "img_emb.proj.4"),
)
SAT_MODULES = {
    "attention.query_key_value": ("self_attn.q", "self_attn.k", "self_attn.v"),
    "attention.dense": ("self_attn.o",),
    "cross_attention.query": ("cross_attn.q",),
    "cross_attention.key_value": ("cross_attn.k", "cross_attn.v"),
    "cross_attention.dense": ("cross_attn.o",),
    "mlp.dense_h_to_4h": ("ffn.0",),
    "mlp.dense_4h_to_h": ("ffn.2",),
}
"""The names of the SAT training code; a fused Linear has one numbered pair for each of its parts."""
ROLES = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".down.weight": "down",  # after SAT's `lora_layer`
    ".up.weight": "up",
    ".alpha": "alpha",
    ".diff": "diff",
    ".diff_b": "diff_b",
    ".diff_m": "diff_m",  # of a modulation, which lightx2v names by its owner
}
OTHER_KINDS = {
    ".lokr_": "LoKr",
    ".hada_": "LoHa",
    ".oft_": "OFT",
    ".boft_": "BOFT",
    ".dora_scale": "DoRA",
    ".lora_magnitude_vector": "DoRA",
    ".lora_mid": "a LoRA of convolutions",
}
"""Adapters of other kinds, by a part of their tensors' names."""
OTHER_STEMS = {16: "text-to-video", 36: "image-to-video"}
"""Input channels of the `patch_embedding` of other Wan 2.1 models."""
STEM = "patch_embedding"
ARCHIVES = (".pt", ".pth", ".bin", ".ckpt")
FLOATS = (mx.float32, mx.float16, mx.bfloat16)
SHOWN = 8  # names of one kind in a message
WORN = "_adapters"  # the mark of a network that wears some

WHY = "a LoRA is applied whole or not at all: every tensor known, finite and of the right shape"
FIX = "use a LoRA made for SCAIL-2 or for Wan 2.1 14B, as low-rank pairs in a .safetensors or SAT .pt file"
FIX_PATH = "correct the path of the LoRA, or leave it out"

BLOCK = re.compile(r"blocks[._](\d{1,4})[._](.+)")
SAT = re.compile(r"layers\.(\d{1,4})\.(.+)\.lora_layer(?:\.(\d))?")
_IN_BLOCK = {name.replace(".", "_"): name for name in BLOCK_MODULES}
_ELSEWHERE = {name.replace(".", "_"): name for name in OTHER_MODULES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a file says of one module: a pair, differences, or both; `scale` is alpha/rank."""

    down: mx.array | None = None  # (rank, inputs)
    up: mx.array | None = None  # (outputs, rank)
    scale: float = 1.0
    diff: mx.array | None = None  # as the weight, or as the modulation
    diff_b: mx.array | None = None  # as the bias


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA file that was read; its factors are in memory, in their stored types."""

    path: Path
    digest: str  # sha256 of the file
    modules: Mapping[str, Change]  # by the network's own names

    @property
    def nbytes(self) -> int:
        """Of all its factors and differences."""
        arrays = (a for c in self.modules.values() for a in (c.down, c.up, c.diff, c.diff_b) if a is not None)
        return sum(array.nbytes for array in arrays)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worn:
    """What was attached of one file, and what was not."""

    file: str
    digest: str
    strength: float
    pairs: int
    diffs: int
    biases: int
    skipped: Mapping[str, str]  # modules, with the reason

    def __str__(self) -> str:
        told = f"{self.file} at {self.strength:g}: {self.pairs} pairs, {self.diffs} differences, {self.biases} biases"
        return told + "".join(f"; {module} left out: {reason}" for module, reason in self.skipped.items())


# ---- reading


def read_lora(path: Path) -> Adapter:
    """Read a LoRA file completely and check that it is whole.

    Raises WeightsMissing when there is no such file, StorageError when it cannot be read, and WeightsMismatch, with
    every fault in it, when it is no LoRA for this kind of network.
    """
    where = Where(file=str(path))
    if not path.is_file():
        raise WeightsMissing(
            f"there is no LoRA file {path}",
            why="a take is rendered with every LoRA it names",
            fix=FIX_PATH,
            where=where,
        )
    modules, faults = _archived(path) if path.suffix.lower() in ARCHIVES else _stored(path)
    if faults:
        raise WeightsMismatch(f"{path.name}: {'; '.join(faults)}", why=WHY, fix=FIX, where=where)
    return Adapter(path=path, digest=_sha256(path), modules=MappingProxyType(modules))


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise storage_error(error, path) from error


def _archived(path: Path) -> tuple[dict[str, Change], list[str]]:
    """What a torch archive changes, and all that is wrong with it; such files have no metadata."""
    with open_archive(path) as archive:
        if all(map(_address, archive.names())):  # a whole checkpoint named by mistake is not read for its checksums
            for _ in archive.check():
                pass
        return _modules(archive.names(), archive.tensor, {})


def _stored(path: Path) -> tuple[dict[str, Change], list[str]]:
    """The same of a safetensors file."""
    try:
        # its check of the header is the stricter one
        with safe_open(path, framework="numpy") as file:  # pyright: ignore[reportUnknownVariableType]
            metadata = cast("dict[str, str] | None", file.metadata())
        tensors = cast("dict[str, mx.array]", mx.load(str(path), format="safetensors"))  # each is read when used
        return _modules(list(tensors), tensors.__getitem__, metadata or {})
    except (SafetensorError, RuntimeError) as error:
        raise WeightsMismatch(
            f"{path.name} is neither a safetensors file nor a torch archive ({', '.join(ARCHIVES)}): {error}",
            why=WHY,
            fix=FIX,
            where=Where(file=str(path)),
        ) from error
    except OSError as error:
        raise storage_error(error, path) from error


def _address(key: str) -> tuple[str, str] | None:
    """The module a tensor of a file is for, by the network's name, and its role there; None for an unknown name."""
    suffix = next((suffix for suffix in ROLES if key.endswith(suffix)), None)
    if suffix is None:
        return None
    name, role = key.removesuffix(suffix), ROLES[suffix]
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    if role == "diff_m":
        name, role = f"{name}.modulation", "diff"
    module = _sat_module(name) or _module(name)
    return (module, role) if module else None


def _module(name: str) -> str | None:
    """A name with dots or, as kohya writes it, with underscores."""
    if block := BLOCK.fullmatch(name):
        inner = _IN_BLOCK.get(block[2].replace(".", "_"))
        return f"blocks.{int(block[1])}.{inner}" if inner else None
    return _ELSEWHERE.get(name.replace(".", "_"))


def _sat_module(name: str) -> str | None:
    layer = SAT.fullmatch(name)
    if layer is None:
        return None
    parts, part = SAT_MODULES.get(layer[2], ()), int(layer[3] or 0)
    if part >= len(parts) or (layer[3] is None and len(parts) > 1):
        return None
    return f"blocks.{int(layer[1])}.{parts[part]}"


def _modules(
    names: Sequence[str], read: Callable[[str], mx.array], metadata: Mapping[str, str]
) -> tuple[dict[str, Change], list[str]]:
    """What a file changes, by module, and all that is wrong with it; tensors of unknown names are not read."""
    found: dict[str, dict[str, mx.array]] = {}
    unknown: list[str] = []
    odd: list[str] = []
    faults: list[str] = [] if names else ["it holds no tensors"]
    for key in names:
        address = _address(key)
        if address is None:
            unknown.append(key)
            continue
        module, role = address
        if role in found.setdefault(module, {}):
            faults.append(f"{module} has two tensors for its {role}")
        found[module][role] = array = read(key)
        if not _usable(array):
            odd.append(key)
    if unknown:
        faults.append(_unknown(unknown, len(names)))
    if odd:
        faults.append(f"{len(odd)} tensors hold what is no finite fraction: {_listed(odd)}")
    alpha, root = None, False
    try:
        alpha, root = _metadata_alpha(metadata)
    except (ValueError, OverflowError, RecursionError) as error:
        faults.append(f"its metadata cannot be followed: {error}")
    changes = {module: _change(module, roles, alpha, root, faults) for module, roles in found.items()}
    return changes, faults


def _usable(array: mx.array) -> bool:
    """Whether all of a tensor are finite numbers in floating point; reads it."""
    return array.dtype in FLOATS and bool(mx.all(mx.isfinite(array)).item())


def _unknown(names: Sequence[str], of: int) -> str:
    kinds = sorted({kind for name in names for part, kind in OTHER_KINDS.items() if part in name})
    if kinds:
        return f"it is {' and '.join(kinds)}, not low-rank pairs, and cannot be applied: {_listed(names)}"
    if len(names) == of:
        return f"nothing in it matches this network; its tensors are for another model: {_listed(names)}"
    return f"{len(names)} of its {of} tensors are unknown: {_listed(names)}"


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more


def _metadata_alpha(metadata: Mapping[str, str]) -> tuple[float | None, bool]:
    """The alpha of a whole file, as PEFT or kohya note it, and whether it is divided by the root of the rank.

    Raises ValueError for what cannot be read or is not applied here.
    """
    if "lora_adapter_metadata" not in metadata:
        alpha = metadata.get("ss_network_alpha")
        return (None if alpha in (None, "None") else _number(alpha)), False
    document = json.loads(metadata["lora_adapter_metadata"])
    if not isinstance(document, dict):
        raise ValueError("lora_adapter_metadata is no object")
    said = {key.rpartition(".")[2]: value for key, value in cast("dict[str, object]", document).items()}
    for name in ("use_dora", "alpha_pattern"):
        if said.get(name):
            raise ValueError(f"{name} is {said[name]}, which is not applied here")
    alpha = said.get("lora_alpha")
    return (None if alpha is None else _number(alpha)), bool(said.get("use_rslora"))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"alpha is {value!r}, not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"alpha is {value!r}, not a finite number")
    return number


def _change(
    module: str, roles: Mapping[str, mx.array], file_alpha: float | None, root: bool, faults: list[str]
) -> Change:
    """One module's tensors as a Change; what does not fit together is added to `faults`."""
    down, up = roles.get("down"), roles.get("up")
    bare = Change(diff=roles.get("diff"), diff_b=roles.get("diff_b"))
    if down is None or up is None:
        if {"down", "up", "alpha"} & roles.keys():
            missing = [name for name in ("down", "up") if name not in roles]
            faults.append(f"{module} has no {' and no '.join(missing)} factor")
        return bare
    if min(down.ndim, up.ndim) < 2 or not down.size or not up.size or down.shape[0] != up.size // up.shape[0]:
        faults.append(f"the factors of {module} have no rank in common: {list(down.shape)} and {list(up.shape)}")
        return bare
    alpha, rank = roles.get("alpha"), down.shape[0]
    if alpha is not None and alpha.size != 1:
        faults.append(f"the alpha of {module} is {list(alpha.shape)}, not one number")
        return bare
    said = cast("float", alpha.item()) if alpha is not None else file_alpha
    scale = 1.0 if said is None else said / (math.sqrt(rank) if root else rank)
    return replace(bare, down=_matrix(down), up=_matrix(up), scale=scale)


def _matrix(array: mx.array) -> mx.array:
    """(n, ...) as (n, m): a factor of a convolution whose kernel is its stride is one of a Linear on patches."""
    return array if array.ndim == 2 else array.reshape(array.shape[0], -1)


# ---- attaching


@dataclass(frozen=True, slots=True)
class Pair:
    """A low-rank product that is added to what a Linear answers."""

    down: mx.array  # (rank, inputs)
    up: mx.array  # (outputs, rank)
    scale: float  # strength * alpha/rank

    def __call__(self, x: mx.array, y: mx.array) -> mx.array:
        """y + scale * (x @ down^T) @ up^T, in the type of x."""
        inner = (x @ self.down.T.astype(x.dtype)) * self.scale
        return mx.addmm(y, inner, self.up.T.astype(x.dtype))


@dataclass(frozen=True, slots=True)
class Pairs:
    """All that one Linear wears. No list of arrays, so the network's parameters do not show it."""

    worn: tuple[Pair, ...]

    def __call__(self, x: mx.array, y: mx.array) -> mx.array:
        for pair in self.worn:
            y = pair(x, y)
        return y


@functools.cache
def _wearing(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of a layer of this kind while it wears pairs."""

    class Wearing(kind):
        bare = kind
        pairs: Pairs

        def __call__(self, x: mx.array) -> mx.array:
            return self.pairs(x, cast("mx.array", super().__call__(x)))

    return Wearing


@dataclass(slots=True, kw_only=True, eq=False)
class Attached:
    """What a network wears, until `remove`."""

    report: tuple[Worn, ...]
    _dit: DiT | None
    _linears: list[str]
    _tensors: list[tuple[str, mx.array, mx.array]]  # names, with the network's own and what was put there

    @property
    def key(self) -> str:
        """The same for the same files at the same strengths, in any order; empty for a bare network."""
        return "+".join(sorted(f"{worn.digest}*{worn.strength!r}" for worn in self.report if worn.strength))

    def remove(self) -> None:
        """Make the network what it was, bit for bit; nothing happens the second time.

        A tensor that was dropped or read anew in the meantime is left as it is.
        """
        if self._dit is None:
            return
        for name in self._linears:
            layer = _at(self._dit, name)
            del layer.pairs
            layer.__class__ = layer.bare
        for name, own, put in self._tensors:
            owner, _, key = name.rpartition(".")
            holder = _at(self._dit, owner)
            if holder[key] is put:
                holder[key] = own
        delattr(self._dit, WORN)
        self._dit, self._linears, self._tensors = None, [], []


def attach(dit: DiT, adapters: Sequence[tuple[Adapter, float]]) -> Attached:
    """Make a network wear adapters at their strengths: any finite numbers; 0 attaches nothing of that file.

    All files are checked before anything is changed. Raises WeightsMismatch for files that do not fit the network,
    with the faults of every file, and ValueError when the network wears some already or has dropped a part.
    """
    if hasattr(dit, WORN):
        raise ValueError("this network wears adapters already; remove them first")
    if dit.context_dropped:
        raise ValueError("this network has dropped a part of its weights; read it anew")
    if odd := [strength for _, strength in adapters if not math.isfinite(strength)]:
        raise ValueError(f"a strength is a finite number, not {odd[0]}")
    tensors = flat(dit.parameters())
    skipped = _checked([adapter for adapter, _ in adapters], tensors)
    pairs: dict[str, list[Pair]] = {}
    deltas: dict[str, mx.array] = {}
    report: list[Worn] = []
    for (adapter, strength), out in zip(adapters, skipped, strict=True):
        worn = {module: change for module, change in adapter.modules.items() if strength and module not in out}
        for module, change in worn.items():
            _collect(module, change, strength, tensors, pairs=pairs, deltas=deltas)
        report.append(_worn(adapter, strength, list(worn.values()), out))
    put = [(name, tensors[name], _added(name, tensors[name], deltas.pop(name))) for name in list(deltas)]
    for name, worn_by in pairs.items():
        layer = _at(dit, name)
        layer.__class__ = _wearing(cast("type[nn.Module]", layer.__class__))
        layer.pairs = Pairs(tuple(worn_by))
    for name, _, new in put:
        owner, _, key = name.rpartition(".")
        _at(dit, owner)[key] = new
    setattr(dit, WORN, True)
    return Attached(report=tuple(report), _dit=dit, _linears=list(pairs), _tensors=put)


def _at(dit: DiT, name: str) -> Any:
    """The part of the network at a dotted name."""
    part: Any = dit
    for step in name.split("."):
        part = part[int(step) if step.isdigit() else step]
    return part


def _collect(
    module: str,
    change: Change,
    strength: float,
    tensors: Mapping[str, mx.array],
    *,
    pairs: dict[str, list[Pair]],
    deltas: dict[str, mx.array],
) -> None:
    """Add one module's change to what Linears will wear and to what tensors will gain, in float32."""
    gains = [(_weight(module), change.diff), (f"{module}.bias", change.diff_b)]
    if change.down is not None and change.up is not None:
        weight = tensors[f"{module}.weight"]
        if weight.ndim == 2:
            pairs.setdefault(module, []).append(Pair(change.down, change.up, strength * change.scale))
        else:  # a stem makes its patches itself
            product = change.up.astype(mx.float32) @ change.down.astype(mx.float32)
            gains.append((f"{module}.weight", change.scale * product.reshape(weight.shape)))
    for name, gain in gains:
        if gain is not None:
            deltas[name] = deltas.get(name, mx.array(0.0)) + strength * gain.astype(mx.float32)


def _weight(module: str) -> str:
    """The tensor that a module's difference is for."""
    return module if module.endswith(".modulation") else f"{module}.weight"


def _added(name: str, own: mx.array, delta: mx.array) -> mx.array:
    """The network's own tensor with what it gains: weights of more than one axis in their type, all else float32."""
    gained = own.astype(mx.float32) + delta
    if name.endswith(".weight") and own.ndim > 1:
        gained = gained.astype(own.dtype)
    evaluate(gained)
    return gained


def _worn(adapter: Adapter, strength: float, changes: Sequence[Change], skipped: Mapping[str, str]) -> Worn:
    worn = Worn(
        file=adapter.path.name,
        digest=adapter.digest,
        strength=strength,
        pairs=sum(change.down is not None for change in changes),
        diffs=sum(change.diff is not None for change in changes),
        biases=sum(change.diff_b is not None for change in changes),
        skipped=skipped,
    )
    if skipped and strength:
        log.warning("a part of a LoRA is left out", extra={"event": "lora_part_left_out", "lora": str(worn)})
    return worn


def _checked(adapters: Sequence[Adapter], tensors: Mapping[str, mx.array]) -> list[dict[str, str]]:
    """The modules of each adapter that are left out, with the reason; raises WeightsMismatch for what does not fit."""
    faults: list[str] = []
    files: list[str] = []
    skipped: list[dict[str, str]] = []
    for adapter in adapters:
        reason = _other_stem(adapter.modules[STEM], tensors) if STEM in adapter.modules else None
        skipped.append({STEM: reason} if reason else {})
        rest = {module: change for module, change in adapter.modules.items() if module not in skipped[-1]}
        told = _misfits(rest, tensors) if rest else [f"nothing in it can be attached: of its {STEM}, {reason}"]
        faults += [f"{adapter.path.name}: {fault}" for fault in told]
        files += [str(adapter.path)] * bool(told)
    if faults:
        raise WeightsMismatch("; ".join(faults), why=WHY, fix=FIX, where=Where(file=", ".join(files)))
    return skipped


def _other_stem(change: Change, tensors: Mapping[str, mx.array]) -> str | None:
    """Why the stem of another Wan 2.1 model is left out; None when it is no such stem."""
    _, own, *kernel = tensors[f"{STEM}.weight"].shape
    if change.diff is not None:
        channels = change.diff.shape[1] if change.diff.ndim > 1 else 0
    else:
        channels = change.down.shape[1] // math.prod(kernel) if change.down is not None else own
    if channels == own or channels not in OTHER_STEMS:
        return None
    return f"it reads the {channels} channels of a Wan 2.1 {OTHER_STEMS[channels]} model, this network reads {own}"


def _misfits(modules: Mapping[str, Change], tensors: Mapping[str, mx.array]) -> list[str]:
    """Why changes do not fit a network of these tensors, as sentences; empty when they do."""
    own = _blocks(tensors)
    within = {module: change for module, change in modules.items() if _blocks([module]) <= own}
    sizes = [fault for module, change in within.items() for fault in _other_sizes(module, change, tensors)]
    full = [module for module, change in within.items() if change.diff is not None and f"{module}.scales" in tensors]
    faults: list[str] = []
    if len(within) < len(modules):
        faults.append(f"it is for another network: for {_blocks(modules)} blocks, this one has {own}")
    if sizes:
        faults.append(f"it is for another network: {len(sizes)} sizes differ: {_listed(sizes)}")
    if full:
        faults.append(
            f"it holds full differences of {len(full)} weights that this snapshot holds packed, and they are not "
            f"packed again in silence; use the bf16 snapshot, or the LoRA as low-rank pairs: {_listed(full)}"
        )
    return faults


def _blocks(names: Iterable[str]) -> int:
    """How many blocks names speak of, counted to the last one."""
    return max((int(block[1]) + 1 for name in names if (block := BLOCK.match(name))), default=0)


def _other_sizes(module: str, change: Change, tensors: Mapping[str, mx.array]) -> list[str]:
    """Where a change has another shape than the network's tensor, as if that were dense."""
    found: dict[str, tuple[int, ...]] = {}
    if change.diff_b is not None:
        found[f"{module}.bias"] = change.diff_b.shape
    if change.diff is not None:
        found[_weight(module)] = change.diff.shape
    wrong = [(name, shape, own) for name, shape in found.items() if (own := _dense(name, tensors)) != shape]
    if change.down is not None and change.up is not None:
        shape, own = (change.up.shape[0], change.down.shape[1]), _dense(f"{module}.weight", tensors)
        if len(own) < 2 or shape != (own[0], math.prod(own[1:])):
            wrong.append((f"{module}.weight", shape, own))
    return [f"{name} is {list(shape)} there and {list(own) or 'nothing'} here" for name, shape, own in wrong]


def _dense(name: str, tensors: Mapping[str, mx.array]) -> tuple[int, ...]:
    """The shape of a tensor, of a packed weight when unpacked; empty when there is no such tensor."""
    if name not in tensors:
        return ()
    scales = tensors.get(f"{name.removesuffix('.weight')}.scales") if name.endswith(".weight") else None
    return tensors[name].shape if scales is None else (scales.shape[0], scales.shape[1] * GROUP)
