# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (mlx.core leaves some of its answers untyped)
"""A dense snapshot as a packed one: the Linears of the transformer's blocks in 4 or 8 bits (engine.md §2.2).

Tensor by tensor: a packed weight replaces its dense one before the next is read. A Linear whose inputs are no multiple
of the group stays dense, and so does everything outside the blocks.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import cast

import mlx.core as mx

from scail2_farm.engine.backend import evaluate
from scail2_farm.engine.dit import GROUP
from scail2_farm.engine.weights import BITS, CONFIG, DIT, FILES, PACKABLE, open_snapshot
from scail2_farm.errors import WeightsMismatch, Where


def quantize_snapshot(source: Path, target: Path, *, bits: int) -> None:
    """Write a packed copy of a dense snapshot into a new folder; `bits` is 4 or 8.

    Raises WeightsMissing and WeightsMismatch for the source (also when it is packed already), FileExistsError when
    `target` exists, ValueError for other bits.
    """
    if bits not in BITS:
        raise ValueError(f"weights are packed in {' or '.join(map(str, BITS))} bits, not {bits}")
    if open_snapshot(source).dit_config.packed:
        raise WeightsMismatch("the snapshot is packed already", where=Where(file=str(source)))
    target.mkdir(parents=True)
    tensors = cast("dict[str, mx.array]", mx.load(str(source / DIT)))
    for name in list(tensors):
        base = name.removesuffix(".weight")
        if name.endswith(".weight") and PACKABLE.fullmatch(base) and tensors[name].shape[1] % GROUP == 0:
            dense = tensors.pop(name).astype(mx.float32)
            weight, scales, biases = mx.quantize(dense, group_size=GROUP, bits=bits)
            parts = {"weight": weight, "scales": scales.astype(mx.bfloat16), "biases": biases.astype(mx.bfloat16)}
            evaluate(parts)
            tensors |= {f"{base}.{part}": array for part, array in parts.items()}
    mx.save_safetensors(str(target / DIT), tensors)
    for file in FILES:
        if file not in (CONFIG, DIT):
            shutil.copyfile(source / file, target / file)
    document = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    document["quantization"] = {"bits": bits, "group_size": GROUP}
    (target / CONFIG).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
