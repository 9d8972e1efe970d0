"""How far packed weights and 16-bit products are from the reference, relative, on a golden file of two samples."""

from __future__ import annotations

from pathlib import Path

import pytest
from parity_harness import Golden, dit_sample, torch_order

# isort: split
import mlx.core as mx
import numpy as np

from scail2_farm.engine.config import DiTConfig
from scail2_farm.engine.dit import GROUP, DiT
from scail2_farm.engine.precision import COMPUTE, Precision
from scail2_farm.engine.weights import PACKABLE, fill

GOLDEN = Path(__file__).parent / "golden" / "dit_batch2.safetensors"
MOST = {
    None: {"f32": 1e-5, "bf16": 6e-3, "f16": 8e-4},
    8: dict.fromkeys(COMPUTE, 2e-2),
    4: dict.fromkeys(COMPUTE, 0.15),
}


def network(golden: Golden, bits: int | None) -> DiT:
    """The file's network; Linears of the blocks whose inputs are whole groups are packed."""
    stored = torch_order(golden.group("w."))
    packed: list[tuple[str, int]] = []
    for name in list(stored):
        base = name.removesuffix(".weight")
        if bits and name.endswith(".weight") and PACKABLE.fullmatch(base) and stored[name].shape[1] % GROUP == 0:
            weight, *scales = mx.quantize(stored.pop(name), group_size=GROUP, bits=bits)
            scales, biases = (part.astype(mx.bfloat16) for part in scales)
            stored |= {f"{base}.weight": weight, f"{base}.scales": scales, f"{base}.biases": biases}
            packed.append((base, bits))
    assert len(packed) == (24 if bits else 0)
    return fill(DiT(golden.sized(DiTConfig, packed=tuple(packed))), stored, file=golden.path.name)


@pytest.mark.parametrize("bits", [None, 8, 4])
@pytest.mark.parametrize("precision", ["f32", "bf16", "f16"])
def test_the_error_of_a_policy(bits: int | None, precision: Precision) -> None:
    """Q8 stays within 2e-2, also with 16-bit products, and each policy errs about as much as it must."""
    golden = Golden.read(GOLDEN)
    dit = network(golden, bits)
    made = np.stack([dit_sample(golden, dit, sample, False, COMPUTE[precision]) for sample in range(2)])
    exact = golden.arrays["out.video"]
    error = float(np.linalg.norm(made - exact) / np.linalg.norm(exact))
    assert MOST[bits][precision] / 40 < error < MOST[bits][precision]
