# pyright: reportMissingImports=false
# (PyTorch is there for training alone)
"""The optimiser: Muon for the matrices of the blocks, AdamW for the rest, and a running average of it all.

Muon steps along the nearest orthogonal matrix to the momentum, found by a few Newton-Schulz iterations; matrices of one
shape are iterated together. At this size it needs about half the steps of AdamW alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NEWTON = (3.4445, -4.7750, 2.0315)


def orthogonal(g: Tensor, *, iterations: int = 4) -> Tensor:
    """The nearest (semi-)orthogonal matrices, roughly, to a stack (n, rows, columns)."""
    a, b, c = NEWTON
    tall = g.shape[1] > g.shape[2]
    x = g.transpose(1, 2) if tall else g
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(iterations):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    return x.transpose(1, 2) if tall else x


class Muon:
    """Nesterov momentum, made orthogonal, for parameters of two axes."""

    def __init__(self, parameters: list[nn.Parameter], *, momentum: float = 0.95) -> None:
        self.momentum = momentum
        self.groups: dict[torch.Size, list[nn.Parameter]] = {}
        for parameter in parameters:
            self.groups.setdefault(parameter.shape, []).append(parameter)
        self.buffers = {shape: torch.zeros(len(group), *shape) for shape, group in self.groups.items()}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update; the gradients are left as they are."""
        for shape, group in self.groups.items():
            gradient = torch.stack([parameter.grad for parameter in group])  # type: ignore[misc]
            buffer = self.buffers[shape].mul_(self.momentum).add_(gradient)
            update = orthogonal(gradient + self.momentum * buffer)
            scale = rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for parameter, change in zip(group, update.unbind(), strict=True):
                parameter.add_(change, alpha=-scale)


class Average:
    """A running average of a module's parameters, warmed up over the first steps."""

    def __init__(self, module: nn.Module) -> None:
        self.values = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int, *, decay: float = 0.998) -> None:
        """Take in the present parameters."""
        keep = min(decay, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(self.values.values()), list(module.state_dict().values()), 1 - keep)
