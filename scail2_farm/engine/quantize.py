# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (mlx.core leaves some of its answers untyped)
"""A dense snapshot as a packed one: the Linears of the transformer's blocks in 4 or 8 bits (engine.md §2.2, §11).

Everything is rounded to bfloat16 first, as the published snapshots are, and packed from that. Tensor by tensor: each is
in its place on disk before the next is read, so that memory never holds more than one. A Linear whose inputs are no
multiple of the group stays dense, and so does everything outside the blocks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import cast

import mlx.core as mx

from scail2_farm.engine.dit import GROUP
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
)
from scail2_farm.engine.weights import BITS, CONFIG, DIT, FILES, PACKABLE, open_snapshot
from scail2_farm.errors import WeightsMismatch, Where


def quantize_snapshot(source: Path, target: Path, *, bits: int) -> Generator[Progress, None, None]:
    """Write a packed copy of a dense snapshot into a new folder, as its progress is asked for; `bits` is 4 or 8.

    The copy appears under its name when it is complete, with SHA256SUMS; until then it is TARGET.part. What is wrong
    with the request is raised before the generator is handed out: WeightsMissing and WeightsMismatch for the source
    (also when it is packed already), FileExistsError when `target` holds anything, DiskFull when it would not fit, and
    ValueError for other bits. While it runs, StorageError.
    """
    if bits not in BITS:
        raise ValueError(f"weights are packed in {' or '.join(map(str, BITS))} bits, not {bits}")
    snapshot = open_snapshot(source)
    if snapshot.dit_config.packed:
        raise WeightsMismatch(
            "the snapshot is packed already",
            why="packing twice adds the errors of both",
            fix="name the dense snapshot (bf16), or use this one as it is",
            where=Where(file=str(snapshot.folder)),
        )
    require_new(target)
    others = [name for name in FILES if name not in (CONFIG, DIT)]
    tensors = cast("dict[str, mx.array]", mx.load(str(snapshot.folder / DIT)))  # read when each is asked for
    layout = packed_layout(tensors, bits=bits)
    needed = sum(one.bytes for one in layout.values())
    needed += sum((snapshot.folder / name).stat().st_size for name in others)
    require_room(target, needed)
    return _writing(snapshot.folder, target, tensors, layout, bits=bits)


def packed_layout(tensors: Mapping[str, mx.array], *, bits: int) -> dict[str, Stored]:
    """How each tensor of a transformer is stored when its Linears are packed."""
    layout: dict[str, Stored] = {}
    for name, tensor in tensors.items():
        if _packable(name, tensor):
            base, (outputs, inputs) = name.removesuffix(".weight"), tensor.shape
            layout[name] = Stored("U32", (outputs, inputs * bits // 32))
            layout |= {f"{base}.{part}": Stored("BF16", (outputs, inputs // GROUP)) for part in ("scales", "biases")}
        else:
            layout[name] = Stored("BF16", tuple(tensor.shape))
    return layout


def packed(name: str, tensor: mx.array, *, bits: int) -> dict[str, mx.array]:
    """A dense tensor of the transformer as it is stored, by name: itself in bfloat16, or weight, scales and biases."""
    rounded = tensor.astype(mx.bfloat16)
    if not _packable(name, tensor):
        return {name: rounded}
    base = name.removesuffix(".weight")
    weight, scales, biases = mx.quantize(rounded, group_size=GROUP, bits=bits)
    return {name: weight, f"{base}.scales": scales, f"{base}.biases": biases}


def _packable(name: str, tensor: mx.array) -> bool:
    linear = name.endswith(".weight") and PACKABLE.fullmatch(name.removesuffix(".weight"))
    return bool(linear) and tensor.shape[1] % GROUP == 0


def _writing(
    source: Path, target: Path, tensors: dict[str, mx.array], layout: Mapping[str, Stored], *, bits: int
) -> Generator[Progress, None, None]:
    """Pack the transformer and hash it from the disk, then copy the rest."""
    others = {name: (source / name).stat().st_size for name in FILES if name not in (CONFIG, DIT)}
    document = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    document["quantization"] = {"bits": bits, "group_size": GROUP}
    config = (json.dumps(document, indent=2) + "\n").encode()
    digests = {CONFIG: hashlib.sha256(config).hexdigest()}
    with new_folder(target) as part:
        (part / CONFIG).write_bytes(config)
        done, of = 0, 2 * (file := TensorFile(part / DIT, layout)).bytes + sum(others.values())
        with file:
            for name in list(tensors):
                for stored, tensor in packed(name, tensors.pop(name), bits=bits).items():
                    file.write(stored, tensor)
                    done += tensor.nbytes
                    del tensor
                mx.clear_cache()  # what was freed is not held back for the next, which is of another size
                yield Progress(what=f"packing {DIT}", done=done, of=of)
        pieces = hashed(part / DIT)
        digests[DIT], done = yield from counted_bytes(pieces, what=f"reading {DIT} again", done=file.bytes, of=of)
        for name in others:
            pieces = copied(source / name, part / name)
            digests[name], done = yield from counted_bytes(pieces, what=f"copying {name}", done=done, of=of)
        (part / SUMS).write_text(sums_text(digests), encoding="utf-8")
