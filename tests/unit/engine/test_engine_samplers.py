"""Schedules and trajectories of the three solvers (engine.md §7.2, §7.6)."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
import pytest

from scail2_farm.engine.samplers import SolverName, solver_for

UNIPC_8 = (0.999800, 0.972006, 0.937265, 0.892602, 0.833055, 0.749700, 0.624687, 0.416389, 0)
DPMPP_8 = (1, 0.972222, 0.9375, 0.892857, 0.833333, 0.75, 0.625, 0.416667, 0)


@pytest.mark.parametrize(
    ("name", "sigmas", "timesteps"),
    [
        ("unipc", UNIPC_8, (999, 972, 937, 892, 833, 749, 624, 416)),
        ("dpmpp", DPMPP_8, (1000, 972, 937, 892, 833, 750, 625, 416)),
        ("euler", DPMPP_8, tuple(1000 * sigma for sigma in DPMPP_8[:-1])),
    ],
)
def test_schedules(name: SolverName, sigmas: tuple[float, ...], timesteps: tuple[float, ...]) -> None:
    """Eight steps at shift 5; whole timesteps but for Euler."""
    solver = solver_for(name, steps=8, shift=5.0)
    assert solver.sigmas == pytest.approx(sigmas, abs=1e-6)
    assert solver.timesteps == (pytest.approx(timesteps, abs=1e-3) if name == "euler" else timesteps)


def test_long_schedules() -> None:
    """Forty UniPC steps at shift 5 and 3 begin and end as published."""
    five, three = (solver_for("unipc", steps=40, shift=shift).timesteps for shift in (5.0, 3.0))
    assert (five[:5], five[-3:]) == ((999, 994, 989, 983, 978), (288, 208, 113))
    assert (three[:5], three[-3:]) == ((999, 991, 982, 973, 963), (195, 136, 71))


@pytest.mark.parametrize(
    ("name", "steps", "after", "expected"),
    [
        ("unipc", 8, 1, (1.003800, -0.517756, 0.251690, 1.963046)),
        ("unipc", 8, 4, (1.023769, -0.607116, 0.263672, 1.803073)),
        ("unipc", 8, 8, (1.158114, -1.073727, 0.440152, 1.323266)),
        ("unipc", 40, 40, (1.158831, -1.029522, 0.478058, 1.387434)),
        ("dpmpp", 8, 1, (1.003792, -0.517751, 0.251683, 1.963062)),
        ("dpmpp", 8, 8, (1.158058, -1.074595, 0.437878, 1.322230)),
        ("dpmpp", 16, 16, (1.158926, -1.044223, 0.466066, 1.373504)),
    ],
)
def test_trajectories(name: SolverName, steps: int, after: int, expected: tuple[float, ...]) -> None:
    """Four numbers along v(x, t) = 0.3x - 0.7 sin(2x) + 0.2t/1000."""
    solver = solver_for(name, steps=steps, shift=5.0)
    x = mx.array([1.0, -0.5, 0.25, 2.0])
    for timestep in solver.timesteps[:after]:
        x = solver.step(x, 0.3 * x - 0.7 * mx.sin(2 * x) + 0.2 * timestep / 1000)
    np.testing.assert_allclose(np.array(x), expected, atol=3e-6)


@pytest.mark.parametrize("name", ["unipc", "dpmpp", "euler"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_perfect_answer_is_reached(name: SolverName, steps: int) -> None:
    """A network that always knows x0 leads there in any number of steps."""
    clean, noise = mx.array([0.3, -1.2]), mx.array([1.5, 0.4])
    solver = solver_for(name, steps=steps, shift=3.0)
    x = (1 - solver.sigmas[0]) * clean + solver.sigmas[0] * noise
    for _ in solver.timesteps:
        x = solver.step(x, noise - clean)
    np.testing.assert_allclose(np.array(x), np.array(clean), atol=1e-5)


@pytest.mark.parametrize("shift", [0.0, -1.0, math.nan])
def test_impossible_shifts(shift: float) -> None:
    """A shift is positive."""
    with pytest.raises(ValueError, match="positive shift"):
        solver_for("euler", steps=4, shift=shift)


def test_impossible_schedules() -> None:
    """No steps, or a solver nobody knows, are refused by name."""
    with pytest.raises(ValueError, match="at least 1 step"):
        solver_for("unipc", steps=0, shift=5.0)
    with pytest.raises(ValueError, match="unipc, dpmpp, euler"):
        solver_for("heun", steps=4, shift=5.0)  # pyright: ignore[reportArgumentType]
