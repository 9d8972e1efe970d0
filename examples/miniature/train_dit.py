# pyright: reportMissingImports=false
# (PyTorch is there for training alone)
"""Training of the transformer on coded clips, against the clock.

    python train.py dit --work DIR --minutes 45

The rate falls to nothing at the end of a wall-clock budget, whatever the machine. Stopping and starting again goes on
from the last checkpoint.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from clips import SHARD
from network import DiT
from optimise import Average, Muon
from safetensors.torch import load_file
from torch import Tensor

MUON_RATE, ADAM_RATE = 0.012, 3e-3
TOKENS = 2300  # in a batch, about
MATTE_WEIGHT = 3.0
GUIDED, GUIDANCE = (2, 3, 4), 0.05  # blocks whose heads are shown where to look, and its weight in the loss
HISTORY = 2  # latent frames a continued segment is given
CONTINUED, WORN = 0.5, 0.15  # share of the longer samples that are continued, and the most noise on what they are given
OWN = 0.7  # share of those that are given what the network itself made
Batch = dict[str, Tensor]


class Samples:
    """The training set in memory; looks again for shards that were written since."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read: dict[str, list[Path]] = {}
        self.arrays: dict[str, dict[str, list[Tensor]]] = {}

    def refresh(self) -> int:
        """Take in new shards; answers how many samples there are."""
        for path in sorted(self.folder.glob("*-*.npz")):
            kind = path.name.split("-")[0]
            if path in self.read.setdefault(kind, []) or path.name.endswith(".part.npz"):
                continue
            with np.load(path) as stored:
                for name in stored.files:
                    self.arrays.setdefault(kind, {}).setdefault(name, []).append(torch.from_numpy(stored[name]))
            self.read[kind].append(path)
        return sum(len(paths) for paths in self.read.values()) * SHARD

    def take(self, kind: str, frames: int, rng: np.random.Generator, *, count: int) -> Batch:
        """Random samples of a kind, cut to their first `frames` latent frames."""
        shards = self.arrays[kind]
        picks = [(int(rng.integers(len(shards["target"]))), int(rng.integers(SHARD))) for _ in range(count)]
        batch = {name: torch.stack([parts[a][b] for a, b in picks]) for name, parts in shards.items()}
        return prepare(batch, frames, rng)


def prepare(batch: Batch, frames: int, rng: np.random.Generator) -> Batch:
    """Stored arrays as the network takes them, a colour dealt to every slot; see `clips.sample` for what comes in."""
    count = len(batch["replace"])
    replace = batch["replace"].bool()
    colours = torch.from_numpy(np.stack([rng.permutation(6) for _ in range(count)]) + 1)

    def coloured(mask: Tensor, background: Tensor) -> Tensor:
        """(B, ..., 7) with slots in any order to the seven classes."""
        index = torch.cat([torch.zeros(count, 1, dtype=torch.long), colours], dim=1)
        index = index.reshape(count, *([1] * (mask.ndim - 2)), 7).expand(mask.shape)
        classes = torch.gather(mask.float(), -1, index)
        shown = background.float().reshape(count, *([1] * (mask.ndim - 1)))
        return torch.cat([classes[..., :1] * shown, classes[..., 1:]], dim=-1)

    reference_mask = coloured(batch["reference_mask"], ~replace)  # (B, h, w, 7)
    driving_mask = coloured(batch["driving_mask"][:, :frames], replace)  # (B, T, 4, h, w, 7)
    return {
        "target": batch["target"][:, :frames].float().permute(0, 4, 1, 2, 3),
        "matte": batch["matte"][:, None, :frames].float(),
        "reference": batch["reference"].float().permute(0, 3, 1, 2)[:, :, None],
        "reference_mask": reference_mask.permute(0, 3, 1, 2).repeat(1, 4, 1, 1)[:, :, None],
        "driving": batch["driving"][:, :frames].float().permute(0, 4, 1, 2, 3),
        "driving_mask": driving_mask.permute(0, 2, 5, 1, 3, 4).flatten(1, 2),
        "replace": replace,
    }


SEEN = ("reference", "reference_mask", "driving", "driving_mask", "replace")


def loss_of(model: DiT, batch: Batch, rng: np.random.Generator, *, sigma: float | None = None) -> Tensor:
    """Velocity error, matte cells weighted; with a `sigma` given no history either."""
    target = batch["target"]
    count, _, frames, *_ = target.shape
    u = torch.from_numpy(rng.random(count, dtype=np.float32)) if sigma is None else torch.full((count,), sigma)
    level = 3 * u / (1 + 2 * u) if sigma is None else u
    noise = torch.from_numpy(rng.standard_normal(target.shape, dtype=np.float32))
    wide = level[:, None, None, None, None]
    latent = (1 - wide) * target + wide * noise
    given = torch.zeros(count, 1, frames, 1, 1)
    if frames > HISTORY and sigma is None:
        chosen = torch.from_numpy(rng.random(count) < CONTINUED)
        given[chosen, :, :HISTORY] = 1
        blur = torch.from_numpy(rng.random(count, dtype=np.float32) * WORN)[:, None, None, None, None]
        clean = target + blur * torch.from_numpy(rng.standard_normal(target.shape, dtype=np.float32))
        own = chosen & torch.from_numpy(rng.random(count) < OWN)
        if own.any():
            clean[own] = guessed(model, {name: value[own] for name, value in batch.items()}, rng)
        latent = torch.where(given > 0, clean, latent)
    history_mask = given.expand(count, 1, *target.shape[2:]).repeat(1, 4, 1, 1, 1)
    seen = {name: batch[name] for name in SEEN}
    velocity = model(latent, 1000 * level, history_mask=history_mask, **seen)
    weight = (1 + (MATTE_WEIGHT - 1) * batch["matte"]) * (1 - given)
    loss = (weight * (velocity - (noise - target)) ** 2).sum() / (weight.sum() * target.shape[1])
    return loss + GUIDANCE * astray(model, batch) if sigma is None else loss


@torch.no_grad()
def guessed(model: DiT, batch: Batch, rng: np.random.Generator) -> Tensor:
    """The clip as the network guesses it from noise in one step: what it is given of itself along a chain.

    Given only clean history it trusts all of it, and seven segments lose what each of them loses.
    """
    target = batch["target"]
    level = torch.from_numpy(rng.uniform(0.5, 1.0, len(target)).astype(np.float32))
    wide = level[:, None, None, None, None]
    latent = (1 - wide) * target + wide * torch.from_numpy(rng.standard_normal(target.shape, dtype=np.float32))
    history_mask = torch.zeros(len(target), 4, *target.shape[2:])
    seen = {name: batch[name] for name in SEEN}
    return latent - wide * model(latent, 1000 * level, history_mask=history_mask, **seen)


def astray(model: DiT, batch: Batch) -> Tensor:
    """How far the guided heads are from looking at the reference that has the token's own mask colour.

    Left alone, who belongs to which colour is found late and suddenly: 61,000 samples had not begun it. Shown to two
    heads of three blocks, it was found within 19,000 more. Cross-entropy, over the tokens of people, of the attention
    that falls on reference tokens of each colour; a driving mask cell is as large as a video token.
    """
    mine = batch["driving_mask"].unflatten(1, (4, 7)).mean(dim=1)[:, 1:].flatten(2)  # (B, 6, video)
    theirs = batch["reference_mask"][:, 1:7, 0].unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean(dim=(3, 5))
    theirs = theirs.flatten(2).transpose(1, 2)  # (B, ref, 6)
    still = theirs.shape[1]
    total = torch.zeros(())
    for index in GUIDED:
        looks = model.blocks[index].self_attn.guides[:, :, still : still + mine.shape[2], :still]
        found = (looks @ theirs[:, None]).transpose(2, 3)  # (B, heads, 6, video)
        total = total - (mine[:, None] * torch.log(found + 1e-5)).sum() / (mine.sum() * looks.shape[1] + 1)
    return total / len(GUIDED)


@torch.no_grad()
def sample(model: DiT, batch: Batch, *, steps: int, shift: float, seed: int) -> Tensor:
    """Latents (B, 16, T, h, w) by Euler steps."""
    x = torch.randn(batch["target"].shape, generator=torch.Generator().manual_seed(seed))
    u = 1 - torch.arange(steps + 1) / steps
    sigmas = shift * u / (1 + (shift - 1) * u)
    seen = {name: batch[name] for name in SEEN}
    history_mask = torch.zeros(len(x), 4, *x.shape[2:])
    for here, there in pairwise(sigmas.tolist()):
        x = x + (there - here) * model(x, torch.full((len(x),), 1000 * here), history_mask=history_mask, **seen)
    return x


@dataclass(frozen=True, slots=True)
class Course:
    """A shape of batch, and its weight in the mixture at the start and at the end."""

    kind: str
    frames: int
    tokens: int
    early: float
    late: float


COURSES = (
    # stills first: who goes where is learnt on them at half the price
    Course("64x64x9", 1, 36, 0.50, 0.06),
    Course("96x64x17", 1, 54, 0.30, 0.06),
    Course("64x64x9", 3, 76, 0.12, 0.28),
    Course("96x64x17", 3, 114, 0.03, 0.10),
    Course("96x64x17", 5, 174, 0.03, 0.28),
    Course("64x96x9", 3, 114, 0.01, 0.11),
    Course("96x96x9", 3, 171, 0.01, 0.11),
)


def course(progress: float, rng: np.random.Generator, known: set[str]) -> Course:
    """The shape of the next batch: stills above all for the first third, everything from the middle on."""
    late = min(max((progress - 0.35) / 0.2, 0.0), 1.0)
    weights = [(c.early * (1 - late) + c.late * late) * (c.kind in known) for c in COURSES]
    return COURSES[int(rng.choice(len(COURSES), p=np.array(weights) / sum(weights)))]


def split(model: DiT) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """Matrices of the blocks, and all else."""
    named = list(model.named_parameters())
    inner = [p for name, p in named if name.startswith("blocks.") and p.ndim == 2]
    chosen = {id(p) for p in inner}
    return inner, [p for _, p in named if id(p) not in chosen]


def stored(snapshot: Path) -> dict[str, Tensor]:
    """What a snapshot's transformer says of the network's parameters, in 32-bit floats."""
    tensors = load_file(snapshot / "dit.safetensors")
    named = {name.replace(".cross_attn.o.bias", ".constant"): value.float() for name, value in tensors.items()}
    return {name: named[name] for name in DiT().state_dict()}


def train_dit(
    folder: Path, *, minutes: float, seed: int, start: Path | None = None, every: float = 90.0, report=None
) -> None:
    """Train until `minutes` of computing have passed, all runs together; `report(model, step)` at checkpoints.

    With `start`, a snapshot's folder, its weights are trained on: the mixture is the late one from the first step.
    """
    torch.manual_seed(seed)
    samples, model = Samples(folder / "set"), DiT()
    if start:
        model.load_state_dict(stored(start))
    inner, outer = split(model)
    muon, adam = Muon(inner), torch.optim.AdamW(outer, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    average = Average(model)
    step, spent, seen = 0, 0.0, 0
    path = folder / "dit.pt"
    if path.exists():
        state = torch.load(path)
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        muon.buffers, average.values = state["muon"], state["average"]
        step, spent, seen = state["step"], state["spent"], state["seen"]
    rng = np.random.default_rng([seed, step])
    samples.refresh()
    budget, losses = minutes * 60, []
    began = saved = time.monotonic() - spent
    while (passed := time.monotonic() - began) < budget:
        progress = passed / budget
        chosen = course(1.0 if start else progress, rng, set(samples.arrays))
        batch = samples.take(chosen.kind, chosen.frames, rng, count=round(TOKENS / chosen.tokens))
        loss = loss_of(model, batch, rng)
        for p in (*inner, *outer):
            p.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(outer, 1.0)
        rate = min((step + 1) / 100, 1.0, (1 - progress) / 0.45)
        for group in adam.param_groups:
            group["lr"] = rate * ADAM_RATE
        adam.step()
        muon.step(rate * MUON_RATE)
        average.update(model, step)
        losses.append(loss.item())
        step, seen = step + 1, seen + len(batch["replace"])
        now = time.monotonic()
        if now - saved > every or now - began >= budget:
            saved = now
            held = samples.refresh()
            state = {"model": model.state_dict(), "adam": adam.state_dict(), "muon": muon.buffers}
            state |= {"average": average.values, "step": step, "spent": now - began, "seen": seen}
            torch.save(state, path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
            text = f"{(now - began) / 60:6.1f} min  step {step}  samples {seen}  set {held}  loss {np.mean(losses):.4f}"
            losses = []
            if report:
                smooth = DiT()
                smooth.load_state_dict(average.values)
                text += "  " + report(smooth, step)
            print(text, flush=True)
            with (folder / "dit.log").open("a") as log:
                log.write(text + "\n")
    np.savez(folder / "dit.npz", **{key: value.numpy() for key, value in average.values.items()})
