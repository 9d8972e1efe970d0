"""Predicted against measured peaks of memory over a grid of small networks and shapes, and the published model's.

    python benchmarks/memory.py [--json]

A case is a fresh engine on a snapshot of random weights that renders one segment of one step; the measure is MLX's own
peak, the prediction is made before anything is read. Widths, packing, precision, pieces, canvas, frames, references,
history and guidance vary, so that each of the large stages is the worst of some case. The published model is predicted
only: for a CPU by what was measured here, for a GPU by the same without scores and unrolled inputs.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scail2_farm import engine

# isort: split
import mlx.core as mx
import numpy as np
from safetensors.numpy import save_file

from scail2_farm.engine.config import CLIPConfig, DiTConfig, UMT5Config, VAEConfig
from scail2_farm.engine.dit import CONTEXT, DiT
from scail2_farm.engine.memory import Device, Footprint, Forecast, predict
from scail2_farm.engine.precision import Precision
from scail2_farm.engine.quantize import quantize_snapshot
from scail2_farm.engine.tiny import DIT_SIZES, random_tensors
from scail2_farm.engine.weights import PACKABLE, shapes_of

SMALL = DIT_SIZES
WIDE = replace(DIT_SIZES, dim=512, ffn_dim=1408, num_layers=2)
HEADS = replace(DIT_SIZES, dim=128, ffn_dim=1024, num_layers=2, num_heads=16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One segment on one network."""

    sizes: DiTConfig = SMALL
    bits: int | None = None
    precision: Precision = "f32"
    rows: int = 1024
    shape: engine.Shape


CASES = (
    Case(shape=engine.Shape(width=64, height=64, frames=5)),
    Case(shape=engine.Shape(width=96, height=128, frames=1)),
    Case(shape=engine.Shape(width=160, height=128, frames=17, guidance=4.0)),
    Case(shape=engine.Shape(width=256, height=256, frames=5, extra_references=2)),
    Case(bits=8, rows=256, shape=engine.Shape(width=128, height=128, frames=9, history=5)),
    Case(sizes=WIDE, rows=256, shape=engine.Shape(width=64, height=64, frames=5)),
    Case(sizes=WIDE, rows=256, precision="bf16", shape=engine.Shape(width=96, height=64, frames=33)),
    Case(sizes=WIDE, bits=4, rows=128, precision="f16", shape=engine.Shape(width=96, height=64, frames=17)),
    Case(sizes=HEADS, shape=engine.Shape(width=128, height=128, frames=33)),
    Case(sizes=HEADS, shape=engine.Shape(width=192, height=128, frames=33, extra_references=1, history=5, guidance=4)),
    Case(sizes=HEADS, precision="bf16", shape=engine.Shape(width=160, height=128, frames=49)),
    Case(sizes=HEADS, precision="f16", rows=2048, shape=engine.Shape(width=160, height=160, frames=33)),
)


def write_snapshot(folder: Path, sizes: DiTConfig, *, bits: int | None = None) -> Path:
    """A tiny snapshot whose transformer has other sizes; packed when `bits` are given."""
    dense = folder / "dense"
    engine.write_tiny_snapshot(dense, seed=1)
    save_file(random_tensors(shapes_of(DiT(sizes)), np.random.default_rng(1)), dense / "dit.safetensors")
    document = json.loads((dense / "config.json").read_text())
    given = {name: value for name, value in asdict(sizes).items() if name in document}
    (dense / "config.json").write_text(json.dumps(document | given))
    if bits is None:
        return dense
    for _ in quantize_snapshot(dense, folder / "packed", bits=bits):
        pass
    return folder / "packed"


def inputs_of(shape: engine.Shape) -> engine.SegmentInputs:
    """A grey segment of this shape, one step."""
    frames, still = (shape.frames, shape.height, shape.width, 3), (shape.height, shape.width, 3)
    grey, none = np.full(still, 0.5, np.float32), np.zeros(still, np.uint8)
    return engine.SegmentInputs(
        driving=np.full(frames, 0.5, np.float32),
        driving_mask=np.zeros(frames, np.uint8),
        reference=grey,
        reference_mask=none,
        extra_references=((grey, none),) * shape.extra_references,
        history=np.full((shape.history, *still), 0.5, np.float32) if shape.history else None,
        prompt="a woman in a red coat",
        replace=True,
        sampling=engine.Sampling(solver="unipc", steps=1, shift=5.0, guidance=shape.guidance),
        seed=1,
    )


def compared(case: Case, folder: Path) -> tuple[Forecast, int]:
    """The forecast of a case, and the peak measured above what the process held before."""
    mx.clear_cache()
    before = mx.get_active_memory()
    loaded = engine.load(write_snapshot(folder, case.sizes, bits=case.bits), precision=case.precision)
    loaded.rows = case.rows
    forecast = predict(Footprint.of(loaded.snapshot), case.shape, rows=case.rows, precision=case.precision)
    steps = loaded.render(inputs_of(case.shape))
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return forecast, stop.value.peak_bytes - before


def published(bits: int | None) -> Footprint:
    """The footprint of the 14B snapshot, from its layout alone."""
    dit = DiTConfig()
    names = [name.removesuffix(".weight") for name in shapes_of(DiT(dit)) if name.endswith(".weight")]
    dit = replace(dit, packed=tuple((name, bits) for name in names if bits and PACKABLE.fullmatch(name)))
    packed = {f"{name}.weight" for name, _ in dit.packed}
    sizes = {name: math.prod(shape) * (4 if name in packed else 2) for name, shape in shapes_of(DiT(dit)).items()}
    context = tuple(f"blocks.{block}.cross_attn.{key}." for block in range(dit.num_layers) for key in CONTEXT)
    return Footprint(
        dit=dit,
        vae=VAEConfig(),
        umt5=UMT5Config(),
        clip=CLIPConfig(),
        dit_bytes=sum(sizes.values()),
        context_bytes=sum(size for name, size in sizes.items() if name.startswith(context)),
        stored_width=0 if bits else 2,
        umt5_bytes=11_361_820_672,
        umt5_width=2,
        clip_bytes=2_528_307_200,
    )


def predictions() -> Iterator[dict[str, Any]]:
    """The published model at its usual sizes."""
    tiers: tuple[tuple[int | None, Precision], ...] = ((4, "f32"), (4, "bf16"), (8, "bf16"), (None, "bf16"))
    devices: tuple[Device, ...] = ("gpu", "cpu")
    for bits, precision in tiers:
        for width, height in ((512, 288), (832, 480), (1280, 704)):
            shape = engine.Shape(width=width, height=height, frames=81, history=5, guidance=5.0)
            for device in devices:
                rows = 4096 if device == "gpu" else 1024
                found = [
                    predict(published(bits), shape, rows=rows, precision=precision, device=device, resident=resident)
                    for resident in (False, True)
                ]
                stages = found[0].stages | found[1].stages
                yield {
                    "tier": f"q{bits}" if bits else "bf16",
                    "precision": precision,
                    "shape": str(shape),
                    "device": device,
                    "predicted_gb": {stage: round(size / 1e9, 1) for stage, size in stages.items()},
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as scratch:
            forecast, peak = compared(case, Path(scratch))
        rows.append(
            {
                "network": f"dim {case.sizes.dim}, heads {case.sizes.num_heads}, "
                + (f"q{case.bits}" if case.bits else "dense"),
                "policy": f"{case.precision}, {case.rows} rows",
                "shape": str(case.shape),
                "worst": forecast.worst,
                "predicted_bytes": forecast.peak,
                "measured_bytes": peak,
                "error": round(forecast.peak / peak - 1, 4),
            }
        )
    foreseen = list(predictions())
    if asked.json:
        print(json.dumps({"measured": rows, "predicted": foreseen}, indent=2))
        return
    for row in rows:
        print(
            f"{row['network']:<26} {row['policy']:<16} {row['shape']:<22} {row['worst']:<8} "
            f"{row['predicted_bytes'] / 1e6:8.1f} MB predicted {row['measured_bytes'] / 1e6:8.1f} measured "
            f"{row['error']:+.1%}"
        )
    for row in foreseen:
        stages = ", ".join(f"{stage} {size}" for stage, size in row["predicted_gb"].items())
        print(f"{row['tier']} {row['precision']} {row['shape']} {row['device']}, predicted GB: {stages}")


if __name__ == "__main__":
    main()
