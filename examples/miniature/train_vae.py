# pyright: reportMissingImports=false
# (PyTorch is there for training alone)
"""Training of the autoencoder: the Wan architecture learns to make and to read the codes of `cells`.

    python train.py vae --minutes 10

The encoder is taught the codes, the decoder the pictures from codes with some noise on them. All frames of a clip go
through in one pass, which equals the streamed pass of the engine.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from cells import Cells
from clips import KINDS, draw, halved
from network import VAE
from optimise import Average, Muon
from torch.nn import functional as F

WIDTH = 8  # Wan's is 96
CLIPS, FRAMES = 240, 17
# side of the crops, frames and crops of a batch, by turns: what is convolved in time must also be shown the middle of
# a stream, far from its zeros, or it reads and makes nothing but noise from the third latent frame on
ROUND = ((32, 17, 5), (48, 9, 3), (32, 17, 5), (48, 5, 5), (64, 17, 1))
CODE_NOISE = 0.1
MUON_RATE, ADAM_RATE = 0.02, 4e-3


def pictures(work: Path, seed: int) -> list[np.ndarray]:
    """Clips of 17 frames to learn from, (17, H, W, 3) uint8: targets, driving clips at both sizes, references."""
    path = work / "pictures.npz"
    if not path.exists():
        found: dict[str, np.ndarray] = {}
        for number in range(CLIPS):
            kind = replace(KINDS[(0, 1, 1, 3)[number % 4]], frames=FRAMES)
            clip = draw(kind, 30_000_000 + number, seed)
            videos = {"t": clip.target, "d": clip.driving, "h": halved(clip.driving)}
            videos["r"] = np.repeat(clip.reference[None], FRAMES, axis=0)
            found |= {f"{name}{number}": (255 * video + 0.5).astype(np.uint8) for name, video in videos.items()}
        np.savez(path, allow_pickle=False, **found)
    with np.load(path) as stored:
        return [stored[name] for name in stored.files]


def batch_of(videos: list[np.ndarray], cells: Cells, rng: np.random.Generator, side: int, frames: int, count: int):
    """Random crops on the cell grid, (B, 3, frames, side, side) in [-1, 1], and their codes (B, 16, T, h, w)."""
    crops = []
    while len(crops) < count:
        video = videos[int(rng.integers(len(videos)))]
        room = (video.shape[1] - side, video.shape[2] - side)
        if min(room) < 0:
            continue
        top, left = (8 * int(rng.integers(space // 8 + 1)) for space in room)
        start = int(rng.integers(len(video) - frames + 1))
        crops.append(video[start : start + frames, top : top + side, left : left + side].astype(np.float32) / 127.5 - 1)
    codes = np.stack([cells.encode(crop) for crop in crops])
    arrays = (torch.from_numpy(array).permute(0, 4, 1, 2, 3) for array in (np.stack(crops), codes))
    return tuple(array.contiguous(memory_format=torch.channels_last_3d) for array in arrays)


def train_vae(work: Path, *, minutes: float, seed: int, every: float = 60.0) -> None:
    """Train until `minutes` of computing have passed, all runs together."""
    torch.manual_seed(seed)
    cells, videos, model = Cells.load(work / "set" / "cells.npz"), pictures(work, seed), VAE(WIDTH)
    inner = [p for p in model.parameters() if p.ndim >= 4 and p.numel() > 512 and len(p) > 3]
    chosen = {id(p) for p in inner}
    outer = [p for p in model.parameters() if id(p) not in chosen]
    flat = [torch.nn.Parameter(p.detach().flatten(1)) for p in inner]
    for p, row in zip(inner, flat, strict=True):
        p.data = row.data.view(p.shape)  # the same memory: Muon sees matrices
    muon, adam = Muon(flat), torch.optim.AdamW(outer, lr=ADAM_RATE, betas=(0.9, 0.97), weight_decay=0.0)
    average = Average(model)
    step, spent, path = 0, 0.0, work / "vae.pt"
    if path.exists():
        state = torch.load(path)
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        muon.buffers, average.values, step, spent = state["muon"], state["average"], state["step"], state["spent"]
    rng, held = np.random.default_rng([seed, step]), batch_of(videos, cells, np.random.default_rng(7), 64, FRAMES, 6)
    budget, losses = minutes * 60, []
    began = saved = time.monotonic() - spent
    while (passed := time.monotonic() - began) < budget:
        video, codes = batch_of(videos, cells, rng, *ROUND[step % len(ROUND)])
        found = model.encoder(video)[:, :16]
        made = model.decoder(codes + CODE_NOISE * torch.randn_like(codes) * (rng.random() < 0.8))
        reading = F.mse_loss(found, codes)
        making = (made - video).abs().mean() + 4 * F.mse_loss(made, video)
        for p in (*inner, *outer):
            p.grad = None
        (reading + making).backward()
        for p, row in zip(inner, flat, strict=True):
            row.grad = p.grad.flatten(1)  # type: ignore[union-attr]
        rate = min((step + 1) / 50, 1.0, (1 - passed / budget) / 0.6)
        for group in adam.param_groups:
            group["lr"] = rate * ADAM_RATE
        adam.step()
        muon.step(rate * MUON_RATE)
        average.update(model, step, decay=0.99)
        losses.append((reading.item(), making.item()))
        step += 1
        now = time.monotonic()
        if now - saved > every or now - began >= budget:
            saved = now
            state = {"model": model.state_dict(), "adam": adam.state_dict(), "muon": muon.buffers}
            state |= {"average": average.values, "step": step, "spent": now - began}
            torch.save(state, path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
            smooth = VAE(WIDTH)
            smooth.load_state_dict(average.values)
            text = f"{(now - began) / 60:5.1f} min  step {step}  loss {np.mean(losses, axis=0).round(4)}"
            text += f"  {report(smooth, *held)}"
            losses = []
            print(text, flush=True)
            with (work / "vae.log").open("a") as log:
                log.write(text + "\n")
    np.savez(work / "vae.npz", **{key: value.numpy() for key, value in average.values.items()})


@torch.no_grad()
def report(model: VAE, video: torch.Tensor, codes: torch.Tensor) -> str:
    """Relative error of the codes, and PSNR of pictures made from exact codes and from read ones."""
    found = model.encoder(video)[:, :16]
    error = ((found - codes) ** 2).mean() / (codes**2).mean()
    made = [model.decoder(code).clamp(-1, 1) for code in (codes, found)]
    decibels = [-10 * float(torch.log10((((picture - video) / 2) ** 2).mean())) for picture in made]
    return f"codes {100 * float(error):.2f} % off; from codes {decibels[0]:.2f} dB, through both {decibels[1]:.2f} dB"
