# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (mlx.nn has no stubs, and those of mlx.core leave the axes of reshape and transpose untyped)
"""A snapshot on disk: what is in it, and its parts loaded strictly (engine.md §1).

A snapshot is a flat folder, or one of the folders q4, q8 and bf16 of a root: its tiers. `open_snapshot` and `verify`
read only config.json, the tokenizer and the headers of the four tensor files, compare every name, shape and type with
the networks they should fill, and tell all that is wrong at once; gigabytes are read when a part is asked for, or when
`verify` is asked to hash them. Sizes come from config.json and, where it is silent, from shapes. Convolutions are
stored in torch order in the DiT and in CLIP, channels-last in the VAE; nothing is guessed or turned round here, and
the layouts of other ports are refused by name.

16-bit tensors are accepted. The DiT and UMT5 keep them as stored (a network of 14B would double), and arithmetic
widens them to float32; the VAE and CLIP are cast to float32 on load.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast

import mlx.core as mx
from mlx import nn
from safetensors import SafetensorError, safe_open

from scail2_farm.engine.backend import evaluate, flat
from scail2_farm.engine.clip import Block as CLIPBlock
from scail2_farm.engine.clip import CLIPVisual
from scail2_farm.engine.config import CLIPConfig, DiTConfig, UMT5Config, VAEConfig
from scail2_farm.engine.dit import GROUP, DiT
from scail2_farm.engine.store import SUMS, Progress, counted_bytes, hashed, read_sums, told
from scail2_farm.engine.tokenizer import PromptTokenizer
from scail2_farm.engine.umt5 import UMT5
from scail2_farm.engine.vae import VAEDecoder, VAEEncoder
from scail2_farm.errors import SetupError, WeightsMismatch, WeightsMissing, Where, storage_error

Shape = tuple[int, ...]
Shapes = dict[str, Shape]
Part = TypeVar("Part", bound=nn.Module)
Tier = Literal["q4", "q8", "bf16"]
TIERS: tuple[Tier, ...] = ("q4", "q8", "bf16")

CONFIG, DIT, VAE, T5, CLIP, TOKENIZER = (
    *("config.json", "dit.safetensors", "vae.safetensors", "t5_encoder.safetensors", "clip.safetensors"),
    "tokenizer.json",
)
FILES = (CONFIG, DIT, VAE, T5, CLIP, TOKENIZER)
FLOATS = ("F32", "F16", "BF16")
PACKABLE = re.compile(r"blocks\.\d+\.(self_attn\.[qkvo]|cross_attn\.(q|k|v|o|k_img|v_img)|ffn\.[02])")
"""The Linears of the transformer that may be stored packed."""
BITS = (4, 8)
TENSORS = (DIT, VAE, T5, CLIP)
SIGNS = {
    DIT: "time_projection.1.weight",
    VAE: "decoder.conv1.weight",
    T5: "token_embedding.weight",
    CLIP: "cls_embedding",
}
"""A tensor by which each file is known, whatever it is called."""
STEMS = ("patch_embedding_pose.weight", "patch_embedding_mask.weight")
"""What SCAIL-2 has and the other Wan models have not."""
ELSEWHERE = ("umt5.safetensors", "quant.json")
"""Files of another port's layout, whose names and orders of axes differ (engine.md §1.3)."""
PORTED = re.compile(r"\.layers\.|^visual\.")
SPARE_IDS = 0.01  # of the text encoder's words that its own tokenizer leaves unused: the table is padded
ENCODER_NAMES = ("encoder.", "conv1.")
SHOWN = 24  # names of one kind in a message


def shapes_of(module: nn.Module) -> Shapes:
    """Every parameter a module owns, by its stored name."""
    return {name: tuple(array.shape) for name, array in flat(module.parameters()).items()}


def differences(expected: Shapes, found: Shapes, *, tolerate_unknown: bool = False) -> list[str]:
    """What is missing, unexpected or of another shape, as sentences; empty when all is well."""
    missing = [name for name in expected if name not in found]
    unexpected = [] if tolerate_unknown else [name for name in found if name not in expected]
    wrong = [
        f"{name} is {list(found[name])}, not {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
    return [f"{len(names)} {kind}: {_listed(names)}" for kind, names in kinds if names]


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more


def fill(module: Part, tensors: Mapping[str, mx.array], *, file: str) -> Part:
    """Put tensors into a module, strictly, and read them one by one; raises WeightsMismatch naming `file`."""
    found = {name: tuple(array.shape) for name, array in tensors.items()}
    if wrong := differences(shapes_of(module), found):
        raise WeightsMismatch("; ".join(f"{file}: {fault}" for fault in wrong), where=Where(file=file))
    for array in tensors.values():
        evaluate(array)  # one at a time: a device watchdog ends a command that reads gigabytes
    module.load_weights(list(tensors.items()))
    return module


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A checked snapshot; each method reads one part, anew each time."""

    folder: Path
    dit_config: DiTConfig
    vae_config: VAEConfig
    umt5_config: UMT5Config
    clip_config: CLIPConfig
    tokenizer: PromptTokenizer

    def dit(self) -> DiT:
        """The transformer, in its stored types."""
        return fill(DiT(self.dit_config), self._read(DIT), file=DIT)

    def vae_encoder(self) -> VAEEncoder:
        """The reading half of the autoencoder."""
        names = {name: array for name, array in self._read(VAE).items() if name.startswith(ENCODER_NAMES)}
        return fill(VAEEncoder(self.vae_config), _widened(names), file=VAE)

    def vae_decoder(self) -> VAEDecoder:
        """The making half of the autoencoder."""
        names = {name: array for name, array in self._read(VAE).items() if not name.startswith(ENCODER_NAMES)}
        return fill(VAEDecoder(self.vae_config), _widened(names), file=VAE)

    def umt5(self) -> UMT5:
        """The text encoder, in its stored types."""
        return fill(UMT5(self.umt5_config), self._read(T5), file=T5)

    def clip(self) -> CLIPVisual:
        """The vision tower, without what is never run."""
        tower = CLIPVisual(self.clip_config)
        stored = self._read(CLIP)
        return fill(tower, _widened({name: stored[name] for name in shapes_of(tower)}), file=CLIP)

    def _read(self, file: str) -> dict[str, mx.array]:
        path = self.folder / file
        where = Where(file=str(path))
        if not path.is_file():
            raise WeightsMissing(f"{file} is no longer in the snapshot folder", where=where)
        try:
            return cast("dict[str, mx.array]", mx.load(str(path)))
        except RuntimeError as error:
            raise WeightsMismatch(f"{file} cannot be read: {error}", where=where) from error


def _widened(tensors: Mapping[str, mx.array]) -> dict[str, mx.array]:
    return {name: array.astype(mx.float32) for name, array in tensors.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was found in a snapshot folder, and all that is wrong with it."""

    folder: Path
    tier: str | None
    """`q4` or `q8` when packed, else the type of the dense weights: bf16, f16, f32; None when that cannot be told."""
    bits: int | None
    """Of the packed Linears; None when nothing is packed, or not all alike."""
    tensors: Mapping[str, int]
    """How many each file holds, of those that could be read."""
    sizes: Mapping[str, int]
    """Bytes of each file that is there."""
    digests: Mapping[str, str]
    """The sha256 of each file; empty unless they were asked for."""
    missing: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(self.sizes.values())

    @property
    def error(self) -> SetupError | None:
        """Everything wrong as one error: WeightsMissing where files are, else WeightsMismatch; None for a good one."""
        told = list(self.faults)
        if self.missing:
            told.insert(0, f"{self.folder} is not a snapshot: it lacks {', '.join(self.missing)}")
        kind = WeightsMissing if self.missing else WeightsMismatch
        return kind("; ".join(told), where=Where(file=str(self.folder))) if told else None

    def as_json(self) -> dict[str, object]:
        """As it stands in --json output."""
        files = {
            name: {"bytes": size, "tensors": self.tensors.get(name), "sha256": self.digests.get(name)}
            for name, size in self.sizes.items()
        }
        return {
            "folder": str(self.folder),
            "tier": self.tier,
            "bits": self.bits,
            "bytes": self.bytes,
            "files": files,
            "faults": [self.error.as_json()] if self.error else [],
        }


def open_snapshot(folder: Path) -> Snapshot:
    """Check a snapshot folder without reading its tensors.

    `folder` holds the files, or one folder that does, named after its tier. Raises WeightsMissing naming every file
    that is not there, or the tiers when there are several, and WeightsMismatch, with everything wrong in those that
    are: malformed or unsupported config.json, broken files, and names, shapes and types that do not fit.
    """
    audit = _Audit(folder_of(folder, tier=None), None)
    parts = audit.parts()
    if error := audit.verified().error:
        raise error
    return Snapshot(audit.folder, **parts)


def verify(folder: Path, *, tier: Tier | None = None, deep: bool = False) -> Generator[Progress, None, Verified]:
    """Compare a snapshot with the published layout by its headers alone; `deep` hashes every file as well.

    Hashes are compared with SHA256SUMS where there is one. Raises WeightsMissing when there is no such folder or tier,
    and StorageError; all else is told in what is returned.
    """
    audit = _Audit(folder_of(folder, tier=tier), tier)
    yield Progress(what="headers", done=0, of=sum(audit.sizes.values()))
    audit.parts()
    digests: dict[str, str] = {}
    done = 0
    with told(audit.folder):
        for name in audit.sizes if deep else ():
            pieces = hashed(audit.folder / name)
            digests[name], done = yield from counted_bytes(pieces, what=name, done=done, of=sum(audit.sizes.values()))
    audit.compare_sums(digests)
    return audit.verified(digests)


def audited(folder: Path, *, tier: Tier | None = None) -> Verified:
    """What `verify` says of the headers in a folder that holds the files itself. Raises StorageError."""
    audit = _Audit(folder, tier)
    audit.parts()
    return audit.verified()


def found(places: Iterable[Path]) -> Iterator[Verified]:
    """The snapshots in these folders, in the folders in them, and in the tier folders of both, each verified.

    What is still being written (NAME.part) is left out. Raises StorageError.
    """
    seen: set[Path] = set()
    for place in places:
        with told(place):
            below = sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
            tiers = [path / tier for path in (place, *below) for tier in TIERS if (path / tier).is_dir()]
        for folder in (place, *below, *tiers):
            known = folder.resolve() in seen or folder.suffix == ".part" or folder.parent.suffix == ".part"
            seen.add(folder.resolve())
            if not known and (folder / DIT).is_file():
                yield audited(folder)


def folder_of(folder: Path, *, tier: Tier | None = None) -> Path:
    """Where the files of a snapshot lie: `folder` itself, or the folder of a tier in it.

    Raises WeightsMissing when there is no such folder or tier, or when there are several and none is named.
    """
    held = [name for name in TIERS if (folder / name).is_dir()]
    if tier in held:
        return folder / tier
    flat = any((folder / file).is_file() for file in (CONFIG, *TENSORS))
    if flat or (folder.is_dir() and not held):
        return folder
    where = Where(file=str(folder))
    if not folder.is_dir():
        raise WeightsMissing(f"{folder} is not a snapshot: the folder does not exist", where=where)
    if tier is None and len(held) == 1:
        return folder / held[0]
    what = f"it holds {' and '.join(held)}" + (f", not {tier}" if tier else ", and none of them was named")
    raise WeightsMissing(
        f"{folder} is the root of several snapshots: {what}" if tier is None else f"{tier} is not in {folder}: {what}",
        why="a snapshot is never packed or unpacked on the way: the tier that is asked for must be there",
        fix=f"name one of them, for example {folder / held[0]}",
        where=where,
    )


class _Tensor(Protocol):
    def get_shape(self) -> list[int]: ...
    def get_dtype(self) -> str: ...


class _Header(Protocol):
    """What is used of a safetensors reader, which has no types of its own."""

    def keys(self) -> list[str]: ...
    def get_slice(self, name: str) -> _Tensor: ...


class _Audit:
    """One reading of a snapshot folder, gathering faults. A part whose sizes cannot be read answers None."""

    def __init__(self, folder: Path, tier: Tier | None) -> None:
        self.folder = folder
        self.asked = tier
        self.faults: list[str] = []
        self.tensors: dict[str, int] = {}
        self.types: dict[str, Counter[str]] = {}
        self.bits_found: set[int] = set()
        with told(folder):
            self.sizes = {name: (folder / name).stat().st_size for name in FILES if (folder / name).is_file()}

    def parts(self) -> dict[str, Any]:
        """Read everything; the fields of a Snapshot but its folder, each None where it could not be read."""
        document = self.config()
        clip, umt5, vae = self.clip(document), self.umt5(), self.vae()
        dit = self.dit(document)
        tokenizer = self.tokenizer(dit, umt5)
        if dit and umt5 and dit.text_dim != umt5.dim:
            self.faults.append(f"{DIT} reads text of width {dit.text_dim}, {T5} writes {umt5.dim}")
        if dit and clip and dit.clip_dim != clip.dim:
            self.faults.append(f"{DIT} reads image features of width {dit.clip_dim}, {CLIP} writes {clip.dim}")
        strange = [name for name in ELSEWHERE if (self.folder / name).is_file()]
        if strange and len(self.sizes) < len(FILES):
            self.faults.append(f"{_listed(strange)} is of another port's layout, which is not read")
        self.compare_tier()
        return {
            "dit_config": dit,
            "vae_config": vae,
            "umt5_config": umt5,
            "clip_config": clip,
            "tokenizer": tokenizer,
        }

    def verified(self, digests: Mapping[str, str] | None = None) -> Verified:
        return Verified(
            folder=self.folder,
            tier=self.tier,
            bits=next(iter(self.bits_found)) if len(self.bits_found) == 1 else None,
            tensors=self.tensors,
            sizes=self.sizes,
            digests=digests or {},
            missing=tuple(name for name in FILES if name not in self.sizes),
            faults=tuple(self.faults),
        )

    @property
    def tier(self) -> str | None:
        """As the tensors have it, whatever config.json and the folder say."""
        floats = Counter({kind: count for kind, count in self.types.get(DIT, Counter()).items() if kind in FLOATS})
        if len(self.bits_found) > 1 or not floats:
            return None
        return f"q{next(iter(self.bits_found))}" if self.bits_found else floats.most_common(1)[0][0].lower()

    def compare_tier(self) -> None:
        named = self.asked or (self.folder.name if self.folder.name in TIERS else None)
        if named and self.tier and self.tier != named:
            asked = f"{named} was asked for" if self.asked else f"the folder is called {named}"
            self.faults.append(f"{asked}, but {DIT} holds {self.tier} weights")

    def compare_sums(self, digests: Mapping[str, str]) -> None:
        try:
            with told(self.folder):
                written = read_sums(self.folder, FILES)
        except ValueError as error:
            self.faults.append(f"{SUMS}: {error}")
            return
        wrong = [name for name, digest in digests.items() if written.get(name, digest) != digest]
        if wrong:
            self.faults.append(f"the content of {_listed(wrong)} is not what {SUMS} says")

    def config(self) -> dict[str, object]:
        path = self.folder / CONFIG
        if CONFIG not in self.sizes:
            return {}
        try:
            document: object = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise storage_error(error, path) from error
        except ValueError as error:
            self.faults.append(f"{CONFIG} is not JSON: {error}")
            return {}
        if not isinstance(document, dict):
            self.faults.append(f"{CONFIG} is not a JSON object")
            return {}
        fields = cast("dict[str, object]", document)
        if fields.get("model_type", "i2v") != "i2v":
            self.faults.append(f"{CONFIG} has model_type {fields['model_type']!r}, not 'i2v'")
        return fields

    def number(self, document: Mapping[str, object], field: str, default: int) -> int:
        value = document.get(field, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.faults.append(f"{CONFIG}: {field} is {value!r}, not a positive whole number")
            return default
        return value

    def header(self, file: str) -> Shapes:
        """Names and shapes of a tensor file, empty when it is none or holds another part.

        Its types and its completeness are checked on the way.
        """
        if file not in self.sizes:
            return {}
        try:
            with safe_open(self.folder / file, framework="np") as opened:  # pyright: ignore[reportUnknownVariableType]
                tensors = cast("_Header", opened)
                views = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 - not a mapping
                shapes = {name: tuple(view.get_shape()) for name, view in views.items()}
                types = {name: view.get_dtype() for name, view in views.items()}
        except SafetensorError as error:
            self.faults.append(f"{file} is cut short or not a safetensors file: {error}")
            return {}
        except OSError as error:
            raise storage_error(error, self.folder / file) from error
        self.tensors[file], self.types[file] = len(shapes), Counter(types.values())
        if not shapes:
            self.faults.append(f"{file} holds no tensors")
        if SIGNS[file] not in shapes:
            if other := next((other for other, sign in SIGNS.items() if sign in shapes), None):
                self.faults.append(f"{file} holds what belongs in {other}")
                return {}
            if ported := [name for name in shapes if PORTED.search(name)]:
                self.faults.append(f"{file} is in another port's layout, which is not read: {_listed(ported[:3])}")
                return {}
        self.check_types(file, types)
        return shapes

    def check_types(self, file: str, types: Mapping[str, str]) -> None:
        packed = {f"{name.removesuffix('.scales')}.weight" for name in types if name.endswith(".scales")}
        wanted = {name: ("U32",) if name in packed else FLOATS for name in types}
        for kinds, words in ((FLOATS, "not of a float type"), (("U32",), "packed, but not of type U32")):
            wrong = [
                f"{name} ({types[name]})" for name, fit in wanted.items() if fit == kinds and types[name] not in fit
            ]
            if wrong:
                self.faults.append(f"{file}: {len(wrong)} {words}: {_listed(wrong)}")

    def compare(self, file: str, expected: Shapes, found: Shapes, *, tolerate_unknown: bool = False) -> None:
        faults = differences(expected, found, tolerate_unknown=tolerate_unknown)
        self.faults += [f"{file}: {fault}" for fault in faults]

    def sized(self, file: str, found: Shapes, ranks: Mapping[str, int]) -> bool:
        """Whether the tensors that tell a part's sizes are there with the right number of axes."""
        unclear = [name for name, rank in ranks.items() if len(found.get(name, ())) != rank]
        if unclear and found:
            self.faults.append(f"{file}: the sizes of the network cannot be read, for want of {_listed(unclear)}")
        return not unclear

    def bits(self, document: Mapping[str, object]) -> int | None:
        """The bits config.json says packed weights have; None for a dense snapshot."""
        try:
            return bits_said(document)
        except ValueError as error:
            self.faults.append(str(error))
            return None

    def packed(self, document: Mapping[str, object], found: Shapes) -> tuple[tuple[str, int], ...]:
        """The packed Linears of the transformer: those that have scales; their bits follow from the shapes."""
        said, faults = self.bits(document), len(self.faults)
        packed: dict[str, int] = {}
        for name in (name.removesuffix(".scales") for name in found if name.endswith(".scales")):
            weight, scales = found.get(f"{name}.weight", ()), found[f"{name}.scales"]
            if not PACKABLE.fullmatch(name) or len(weight) != 2 or len(scales) != 2:
                continue  # compared with the network, its tensors are unexpected or of another shape
            packed[name] = weight[1] * 32 // max(1, scales[1] * GROUP)
        self.bits_found = set(packed.values())
        odd = [f"{name} ({bits} bits)" for name, bits in packed.items() if bits != said]
        if odd and len(self.faults) == faults:
            words = "says nothing of quantization" if said is None else f"says {said} bits"
            self.faults.append(f"{CONFIG} {words}, but {DIT} holds {len(odd)} others: {_listed(odd)}")
        elif len(self.bits_found) > 1:
            self.faults.append(f"{DIT} mixes Linears of {' and of '.join(map(str, sorted(self.bits_found)))} bits")
        if said is not None and not packed:
            self.faults.append(f"{CONFIG} says {said} bits, but nothing in {DIT} is packed")
        return tuple((name, bits) for name, bits in packed.items() if bits in BITS)

    def dit(self, document: Mapping[str, object]) -> DiTConfig | None:
        found = self.header(DIT)
        if found and (lacking := [name for name in STEMS if name not in found]):
            self.faults.append(f"{DIT} is another model's, {_looks(found)}: it has no {_listed(lacking)}")
            return None
        sizes = {"text_embedding.0.weight": 2, "img_emb.proj.0.weight": 1}
        default = DiTConfig()
        names = ("dim", "ffn_dim", "num_layers", "num_heads", "in_dim", "mask_dim", "out_dim", "freq_dim", "text_len")
        fields = {name: self.number(document, name, cast(int, getattr(default, name))) for name in names}
        eps = document.get("eps", default.eps)
        if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 < eps < 1:
            self.faults.append(f"{CONFIG}: eps is {eps!r}, not a small positive number")
            eps = default.eps
        if not self.sized(DIT, found, sizes):
            return None
        config = DiTConfig(
            **cast("dict[str, Any]", fields),
            eps=eps,
            text_dim=found["text_embedding.0.weight"][1],
            clip_dim=found["img_emb.proj.0.weight"][0],
        )
        wrong = _impossible(config)
        layers = _layers(found, "blocks")
        if layers != config.num_layers:
            wrong.append(f"num_layers is {config.num_layers}, but {DIT} holds {layers} ({_looks(found)})")
        if wrong:
            self.faults += [f"{CONFIG}: {fault}" for fault in wrong]
            return None
        config = replace(config, packed=self.packed(document, found))
        expected = shapes_of(DiT(config))
        wrong = [name for name, shape in expected.items() if found.get(name, shape) != shape]
        if 2 * len(wrong) > len(expected):
            self.faults.append(
                f"{DIT} is another model's, {_looks(found)}; {CONFIG} says dim {config.dim}, ffn_dim {config.ffn_dim}"
            )
            return None
        self.compare(DIT, expected, found)
        return config

    def vae(self) -> VAEConfig | None:
        found = self.header(VAE)
        if not self.sized(VAE, found, {"encoder.conv1.weight": 5}):
            return None
        config = VAEConfig(dim=found["encoder.conv1.weight"][0])
        self.compare(VAE, shapes_of(VAEEncoder(config)) | shapes_of(VAEDecoder(config)), found)
        return config

    def umt5(self) -> UMT5Config | None:
        found = self.header(T5)
        table, q, fc1 = (f"blocks.0.{name}.weight" for name in ("pos_embedding.embedding", "attn.q", "ffn.fc1"))
        if not self.sized(T5, found, {"token_embedding.weight": 2, table: 2, q: 2, fc1: 2}):
            return None
        vocab_size, dim = found["token_embedding.weight"]
        config = UMT5Config(
            vocab_size=vocab_size,
            dim=dim,
            dim_attn=found[q][0],
            dim_ffn=found[fc1][0],
            num_heads=found[table][1],
            num_layers=_layers(found, "blocks"),
            num_buckets=found[table][0],
        )
        if config.dim_attn % config.num_heads:
            self.faults.append(
                f"{T5}: attention of width {config.dim_attn} cannot be cut into {config.num_heads} heads"
            )
            return None
        self.compare(T5, shapes_of(UMT5(config)), found)
        return config

    def clip(self, document: Mapping[str, object]) -> CLIPConfig | None:
        found = self.header(CLIP)
        patch, mlp = "patch_embedding.weight", "transformer.0.mlp.0.weight"
        if not self.sized(CLIP, found, {patch: 4, mlp: 2, "head": 2}):
            return None
        config = CLIPConfig(
            dim=found[patch][0],
            mlp_dim=found[mlp][0],
            num_heads=self.number(document, "clip_heads", CLIPConfig().num_heads),
            num_layers=_layers(found, "transformer"),
            out_dim=found["head"][1],
        )
        if config.dim % config.num_heads:
            self.faults.append(f"{CLIP}: width {config.dim} cannot be cut into {config.num_heads} heads (clip_heads)")
            return None
        self.compare(CLIP, clip_shapes(config), found, tolerate_unknown=True)
        return config

    def tokenizer(self, dit: DiTConfig | None, umt5: UMT5Config | None) -> PromptTokenizer | None:
        if TOKENIZER not in self.sizes:
            return None
        try:
            tokenizer = PromptTokenizer(self.folder / TOKENIZER, text_len=(dit or DiTConfig()).text_len)
        except ValueError as error:
            self.faults.append(f"{TOKENIZER}: {error}")
            return None
        if umt5 and not (1 - SPARE_IDS) * umt5.vocab_size <= tokenizer.vocab_size <= umt5.vocab_size:
            self.faults.append(
                f"{TOKENIZER} is of another vocabulary: it gives {tokenizer.vocab_size} ids, "
                f"{T5} knows {umt5.vocab_size}"
            )
        return tokenizer


def bits_said(document: Mapping[str, object]) -> int | None:
    """The bits a config.json says packed weights have, None for a dense snapshot. Raises ValueError when malformed."""
    written = document.get("quantization")
    if written is None:
        return None
    said = cast("dict[str, object]", written) if isinstance(written, dict) else {}
    bits, group = said.get("bits"), said.get("group_size", GROUP)
    if isinstance(bits, bool) or bits not in BITS or isinstance(group, bool) or group != GROUP:
        wanted = f'{{"bits": 4 or 8, "group_size": {GROUP}}}'
        raise ValueError(f"{CONFIG}: quantization is {written!r}, not {wanted}")
    return cast(int, bits)


def _looks(found: Shapes) -> str:
    """What the shapes of a transformer say of it, for who must find out where it came from."""
    shown = {
        "dim": found.get("blocks.0.norm3.weight", found.get("head.modulation", ()))[-1:],
        "ffn_dim": found.get("blocks.0.ffn.0.bias", ()),
        "in_dim": found.get("patch_embedding.weight", ())[1:2],
    }
    sizes = [f"{name} {size[0]}" for name, size in shown.items() if size]
    return ", ".join([f"of {_layers(found, 'blocks')} layers", *sizes])


def _impossible(config: DiTConfig) -> list[str]:
    """What the pipeline could not work with."""
    wrong: list[str] = []
    if config.dim % config.num_heads or config.head_dim % 2:
        wrong.append(f"dim {config.dim} cannot be cut into {config.num_heads} heads of an even width")
    latent = VAEConfig().z_dim
    channels = (config.in_dim, config.mask_dim, config.out_dim)
    if channels != (latent + 4, 28, latent):
        wrong.append(f"in_dim, mask_dim and out_dim are {channels}, not {(latent + 4, 28, latent)}")
    if config.freq_dim % 2:
        wrong.append(f"freq_dim is {config.freq_dim}, which is odd")
    return wrong


def _layers(found: Iterable[str], prefix: str) -> int:
    """How many numbered layers the names speak of."""
    pattern = re.compile(rf"{prefix}\.(\d+)\.")
    return len({match[1] for name in found if (match := pattern.match(name))})


def clip_shapes(config: CLIPConfig) -> Shapes:
    """Every tensor the tower's file must hold: those of the tower, and the last block, norm and head never loaded."""
    dim, last = config.dim, f"transformer.{config.num_layers - 1}"
    block = {f"{last}.{name}": shape for name, shape in shapes_of(CLIPBlock(config)).items()}
    unused: Shapes = {"post_norm.weight": (dim,), "post_norm.bias": (dim,), "head": (dim, config.out_dim)}
    return shapes_of(CLIPVisual(config)) | block | unused
