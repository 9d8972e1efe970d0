"""From noise to picture: the three solvers and their schedules (engine.md §7).

With sigma from 1 down to 0, x = (1-sigma)*x0 + sigma*noise and the network answers v = noise - x0. Schedules and
coefficients are float64 on the host (a float32 schedule lands on the other side of an integer timestep); only the
tensor sums are float32. A solver counts its own steps: looking a timestep up breaks when two round to one integer.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

import mlx.core as mx
import numpy as np

SolverName = Literal["unipc", "dpmpp", "euler"]
TRAIN_STEPS = 1000
UNIPC_SIGMA_MAX = float(np.float32(0.999))


class Solver(Protocol):
    """A schedule and the state of one run along it."""

    sigmas: tuple[float, ...]  # steps + 1 of them, the last is 0
    timesteps: tuple[float, ...]  # what the network is told at each step

    def step(self, x: mx.array, velocity: mx.array) -> mx.array:
        """The sample at the next sigma, from the sample and the network's answer at this one."""
        ...


def solver_for(name: SolverName, *, steps: int, shift: float) -> Solver:
    """A fresh solver. Raises ValueError for an unknown name, fewer than one step or a shift that is not positive."""
    solvers = {"unipc": UniPC, "dpmpp": DPMpp, "euler": Euler}
    if name not in solvers:
        raise ValueError(f"solver {name!r} is not one of {', '.join(solvers)}")
    if steps < 1 or not shift > 0:
        raise ValueError(f"a schedule needs at least 1 step and a positive shift, not {steps} and {shift}")
    return solvers[name](steps=steps, shift=shift)


def _schedule(steps: int, shift: float, sigma_max: float) -> tuple[float, ...]:
    noise = [sigma_max * (1 - k / steps) for k in range(steps)]
    return (*(shift * u / (1 + (shift - 1) * u) for u in noise), 0.0)


def _stored(sigmas: tuple[float, ...]) -> tuple[float, ...]:
    """Sigmas as the official solvers keep them: rounded to float32."""
    return tuple(float(np.float32(sigma)) for sigma in sigmas)


def _whole(sigmas: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(math.trunc(TRAIN_STEPS * sigma)) for sigma in sigmas[:-1])


def _log_snr(sigma: float) -> float:
    """lambda = ln((1-sigma)/sigma); minus infinity at pure noise."""
    return math.log1p(-sigma) - math.log(sigma) if sigma < 1 else -math.inf


class Euler:
    """One straight step along the velocity; the timestep is not rounded (the diffusers convention)."""

    def __init__(self, *, steps: int, shift: float) -> None:
        exact = _schedule(steps, shift, 1.0)
        self.sigmas = _stored(exact)
        self.timesteps = tuple(TRAIN_STEPS * sigma for sigma in exact[:-1])
        self._at = 0

    def step(self, x: mx.array, velocity: mx.array) -> mx.array:
        """x + (next sigma - sigma) * v."""
        here, there = self.sigmas[self._at : self._at + 2]
        self._at += 1
        return x + (there - here) * velocity


class DPMpp:
    """DPM-Solver++ 2M, midpoint, predicting x0. First order wherever a log-SNR is infinite, and at the end."""

    def __init__(self, *, steps: int, shift: float) -> None:
        exact = _schedule(steps, shift, 1.0)
        self.sigmas, self.timesteps = _stored(exact), _whole(exact)
        self._at = 0
        self._before: mx.array | None = None

    def step(self, x: mx.array, velocity: mx.array) -> mx.array:
        """The exponential integrator with one remembered x0."""
        i, before = self._at, self._before
        here, there = self.sigmas[i : i + 2]
        clean = x - here * velocity
        self._at, self._before = i + 1, clean
        if there == 0:
            return clean
        h = _log_snr(there) - _log_snr(here)
        e = math.expm1(-h)  # -1 at pure noise, where h is infinite
        moved = (there / here) * x - ((1 - there) * e) * clean
        if before is None or self.sigmas[i - 1] == 1:
            return moved
        ratio = (_log_snr(here) - _log_snr(self.sigmas[i - 1])) / h
        return moved - (0.5 * (1 - there) * e / ratio) * (clean - before)


class UniPC:
    """UniPC of order 2, bh2, predicting x0, in closed form: each step first corrects the last one, then predicts."""

    def __init__(self, *, steps: int, shift: float) -> None:
        exact = _schedule(steps, shift, UNIPC_SIGMA_MAX)
        self.sigmas, self.timesteps = _stored(exact), _whole(exact)
        self._at = 0
        self._order = 0  # of the last prediction
        self._sample: mx.array | None = None  # what the last prediction started from
        self._clean: list[mx.array] = []  # the last two x0 predictions, older first

    def step(self, x: mx.array, velocity: mx.array) -> mx.array:
        """Correct x with the x0 it led to (which is not computed again), then predict the next x."""
        i, steps = self._at, len(self.timesteps)
        clean = x - self.sigmas[i] * velocity
        if self._sample is not None:
            x = self._corrected(self._sample, clean)
        self._clean = [*self._clean[-1:], clean]
        self._order = min(2, steps - i, i + 1)
        self._sample = x
        self._at = i + 1
        return self._predicted(x)

    def _corrected(self, start: mx.array, clean: mx.array) -> mx.array:
        here, there = self.sigmas[self._at - 1 : self._at + 1]
        h = _log_snr(there) - _log_snr(here)
        phi = math.expm1(-h)
        last = self._clean[-1]
        moved = (there / here) * start - ((1 - there) * phi) * last
        if self._order == 1:
            return moved - (0.5 * (1 - there) * phi) * (clean - last)
        ratio = (_log_snr(self.sigmas[self._at - 2]) - _log_snr(here)) / h
        k1 = phi / -h - 1
        k2 = k1 / -h - 0.5
        b1, b2 = k1 / phi, 2 * k2 / phi
        older = (b1 - b2) / (1 - ratio)
        newer = b1 - older
        slope = (self._clean[-2] - last) * (1 / ratio)
        return moved - ((1 - there) * phi) * (older * slope + newer * (clean - last))

    def _predicted(self, x: mx.array) -> mx.array:
        here, there = self.sigmas[self._at - 1 : self._at + 1]
        clean = self._clean[-1]
        if there == 0:
            return clean
        h = _log_snr(there) - _log_snr(here)
        phi = math.expm1(-h)
        moved = (there / here) * x - ((1 - there) * phi) * clean
        if self._order == 1:
            return moved
        ratio = (_log_snr(self.sigmas[self._at - 2]) - _log_snr(here)) / h
        return moved - (0.5 * (1 - there) * phi / ratio) * (self._clean[-2] - clean)
