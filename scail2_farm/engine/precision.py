# pyright: reportUnknownMemberType=false
# (mlx.core leaves some of its answers untyped)
"""In what numbers the network multiplies, and whether this machine gets them right.

A policy is the type of the large products and of attention inside the blocks; residual stream, norms, softmax, solver
and autoencoder stay float32 in each. Measured against float32 (relative, twelve layers of random weights): bf16 4e-3,
f16 5e-4. f16 is the nearer one and the faster one on M1 and M2; it can overflow, which the guard on every step finds.

Kernels for many rows have been wrong on some GPUs, versions and systems without an error (performance.md §6): packed
products beyond 32,767 rows, maskless 16-bit attention of builds for an older system, masked attention over more than
32K keys. So the engine works on at most 8192 rows at a time, never masks, and unpacks weights; and what it does rely
on is tried once for each version of MLX, system and chip. That float32 on an M5 is TF32 (8e-4) is no fault here: the
limit allows it; set MLX_ENABLE_TF32=0 in the environment where a comparison needs all 24 bits. On a CPU the kernels
are the ones the parity tests hold, and the trial is skipped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast, get_args

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from scail2_farm.engine.backend import evaluate
from scail2_farm.errors import HostUnsupported, storage_error

log = logging.getLogger(__name__)

Doubles = NDArray[np.float64]
Answer = Callable[[mx.array], mx.array]
Precision = Literal["f32", "bf16", "f16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
COMPUTE: dict[Precision, mx.Dtype] = {"f32": mx.float32, "bf16": mx.bfloat16, "f16": mx.float16}
LIMITS: dict[Precision, float] = {"f32": 2e-3, "bf16": 2e-2, "f16": 4e-3}
"""How far a kernel may be from the exact answer, relative: several times its rounding, far below any wrong answer."""

MOST_ROWS = 8192  # worked on at a time on any device
TRIED_ROWS, TRIED_WIDTH, TRIED_COMPARED = 33_000, 128, 64
PACKED_BITS, PACKED_GROUP = 4, 64


def _gemm(x: mx.array, weight: mx.array) -> mx.array:
    return x @ weight.T


def _packed(x: mx.array, weight: mx.array, scales: mx.array, biases: mx.array) -> mx.array:
    return mx.quantized_matmul(x, weight, scales, biases, transpose=True, group_size=PACKED_GROUP, bits=PACKED_BITS)


def _attention(q: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    return mx.fast.scaled_dot_product_attention(q, keys, values, scale=q.shape[-1] ** -0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """What is tried."""

    gemm: Callable[[mx.array, mx.array], mx.array] = _gemm  # (rows, in), (out, in) -> (rows, out)
    packed: Callable[[mx.array, mx.array, mx.array, mx.array], mx.array] = _packed
    attention: Callable[[mx.array, mx.array, mx.array], mx.array] = _attention  # (1, 1, rows, width) each


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One kernel in one type against the exact answer."""

    kernel: str  # gemm, packed or attention
    precision: Precision
    rows: int  # of the sequence
    at_once: int  # of them in one call
    error: float  # relative, or infinite when an answer is not finite

    @property
    def right(self) -> bool:
        """Whether the kernel can be relied on."""
        return self.error <= LIMITS[self.precision]

    @property
    def relied_on(self) -> bool:
        """Whether the engine uses it: products and attention piece by piece, never a packed product."""
        return self.kernel != "packed" and self.at_once <= MOST_ROWS

    def __str__(self) -> str:
        verdict = "right" if self.right else "wrong"
        used = "used" if self.relied_on else "not used"
        return (
            f"{self.kernel} in {self.precision}, {self.rows} rows {self.at_once} at a time: {verdict}, "
            f"off by {self.error:.1e} where {LIMITS[self.precision]:.0e} is allowed ({used})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found out about a machine; `skipped` says why nothing was tried."""

    machine: str
    trials: tuple[Trial, ...] = ()
    skipped: str | None = None

    def faults(self, precision: Precision) -> tuple[Trial, ...]:
        """What the engine would rely on under this policy and cannot."""
        needed = {"f32", precision}  # the residual stream is float32 in each
        return tuple(
            trial for trial in self.trials if trial.precision in needed and trial.relied_on and not trial.right
        )

    def require(self, precision: Precision) -> None:
        """Raise HostUnsupported when this machine computes this policy wrongly."""
        if faults := self.faults(precision):
            trusted = [other for other in PRECISIONS if not self.faults(other)]
            raise HostUnsupported(
                f"{self.machine} cannot be trusted with {precision}: {'; '.join(map(str, faults))}",
                why="a kernel that is wrong for many rows ruins pictures without an error",
                fix=f"use precision {' or '.join(trusted)}" if trusted else "update mlx and the system, or use a CPU",
            )

    def __str__(self) -> str:
        if self.skipped:
            return f"self-test skipped: {self.skipped}"
        return f"self-test of {self.machine}:\n" + "\n".join(f"  {trial}" for trial in self.trials)


def machine() -> str:
    """MLX's version, the system and the chip: what a finding belongs to."""
    chip = cast("dict[str, Any]", mx.device_info()).get("device_name") or platform.processor() or platform.machine()
    return f"mlx {version('mlx')}, {platform.platform()}, {chip}"


def self_test(
    *,
    device: mx.Device | None = None,
    rows: int = TRIED_ROWS,
    width: int = TRIED_WIDTH,
    compared: int = TRIED_COMPARED,
    at_once: int = MOST_ROWS,
    kernels: Kernels | None = None,
) -> Findings:
    """Try products, packed products and attention over `rows` rows in every type against float64.

    `compared` rows are looked at: the first, the last, those where 16 bits end, and some between.
    """
    kernels = kernels or Kernels()
    looked_at = _looked_at(rows, compared)
    trials: list[Trial] = []
    with mx.stream(device or mx.default_device()):
        for precision in PRECISIONS:
            operands = _Operands(rows, width, COMPUTE[precision])
            for kernel, (answer, exact) in operands.questions(kernels, looked_at).items():
                for size in sorted({rows, min(at_once, rows)}):
                    made = operands.by_pieces(answer, size)[mx.array(looked_at)]
                    error = _relative(_wide(made), exact)
                    trials.append(Trial(kernel=kernel, precision=precision, rows=rows, at_once=size, error=error))
    return Findings(machine=machine(), trials=tuple(trials))


class _Operands:
    """Random operands of one type, and the same numbers in float64."""

    def __init__(self, rows: int, width: int, compute: mx.Dtype) -> None:
        rng = np.random.default_rng(7)
        self.x, self.weight = (
            mx.array(rng.standard_normal(shape).astype(np.float32)).astype(compute)
            for shape in ((rows, width), (width, width))
        )
        self.parts = mx.quantize(self.weight, group_size=PACKED_GROUP, bits=PACKED_BITS)

    def questions(self, kernels: Kernels, looked_at: NDArray[np.int64]) -> dict[str, tuple[Answer, Doubles]]:
        """For each kernel, how it answers for some rows, and the exact answer for those looked at."""
        x, weight = _wide(self.x), _wide(self.weight)
        packed, scales, biases = self.parts
        wide = (part.astype(mx.float32) for part in (scales, biases))
        unpacked = _wide(mx.dequantize(packed, *wide, group_size=PACKED_GROUP, bits=PACKED_BITS))
        sequence = self.x[None, None]
        scores = x[looked_at] @ x.T / x.shape[1] ** 0.5
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        return {
            "gemm": (lambda rows: kernels.gemm(rows, self.weight), x[looked_at] @ weight.T),
            "packed": (lambda rows: kernels.packed(rows, *self.parts), x[looked_at] @ unpacked.T),
            "attention": (
                lambda rows: kernels.attention(rows[None, None], sequence, sequence)[0, 0],
                shares / shares.sum(axis=1, keepdims=True) @ x,
            ),
        }

    def by_pieces(self, answer: Answer, size: int) -> mx.array:
        """The answer for all rows, `size` of them at a time."""
        parts: list[mx.array] = []
        for first in range(0, self.x.shape[0], size):
            parts.append(answer(self.x[first : first + size]))
            evaluate(parts[-1])
        return mx.concatenate(parts)


def _wide(array: mx.array) -> Doubles:
    return np.array(array.astype(mx.float32)).astype(np.float64)


def _looked_at(rows: int, compared: int) -> NDArray[np.int64]:
    """A quarter each: the first, the last, those around the end of 16 bits (or the middle), and evenly between."""
    quarter = compared // 4
    edge = 1 << 15 if rows > 1 << 15 else rows // 2
    spread = np.linspace(0, rows - 1, quarter, dtype=np.int64)
    near = np.arange(edge - quarter // 2, edge + quarter // 2)
    return np.unique(np.concatenate([np.arange(quarter), near, np.arange(rows - quarter, rows), spread]))


def _relative(made: Doubles, exact: Doubles) -> float:
    if not np.isfinite(made).all():
        return math.inf
    return float(np.linalg.norm(made - exact) / np.linalg.norm(exact))


def findings_here(cache: Path | None) -> Findings:
    """The findings about this machine, from the folder `cache` when it was tried before; nothing is tried on a CPU."""
    if mx.default_device().type == mx.DeviceType.cpu:
        return Findings(machine=machine(), skipped="mlx computes on the CPU here, and it tries the kernels of GPUs")
    path = cache / f"self-test-{hashlib.sha256(machine().encode()).hexdigest()[:16]}.json" if cache else None
    known = recalled(path) if path else None
    findings = known or self_test()
    log.info("self-test", extra={"event": "self_test", "findings": str(findings), "recalled": known is not None})
    if path and not known:
        record(findings, path)
    return findings


def record(findings: Findings, path: Path) -> None:
    """Write findings as JSON, whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(asdict(findings), indent=2) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error


def recalled(path: Path) -> Findings | None:
    """Findings written before; None when there are none, or the file is damaged or of another machine."""
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        trials = tuple(Trial(**trial) for trial in written.pop("trials"))
        findings = Findings(**written, trials=trials)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        log.warning("a damaged self-test is made again", extra={"event": "self_test_damaged", "file": str(path)})
        return None
    except OSError as error:
        raise storage_error(error, path) from error
    return findings if findings.machine == machine() else None
