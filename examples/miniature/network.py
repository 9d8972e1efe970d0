# pyright: reportMissingImports=false
# (PyTorch is there for training alone)
"""The two networks in PyTorch, for training alone: the arithmetic of the engine, batched, with gradients.

Parameters carry the names and shapes of the published snapshot wherever both have them; `snapshot.py` writes what is
left. Attention over text and image is trained as one constant a block: the encoders of the miniature say nothing, and
attention over 769 rows would cost more than all else. README.md says how near the forward passes are to the engine's.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DIM, FFN, LAYERS, HEADS, FREQ = 192, 512, 6, 6, 256
LATENT, MASK = 16, 28
GUIDES = 2  # heads of a block that can be shown where to look
SHIFT = 120


# --------------------------------------------------------------------------- transformer


def _axis(positions: Tensor, pairs: int) -> Tensor:
    turns = 10000.0 ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
    return torch.polar(torch.ones(1, dtype=torch.float64), positions.double()[:, None] * turns)


def _packed(time: Tensor, row: Tensor, column: Tensor) -> Tensor:
    shape = (len(time), len(row), len(column))
    lanes = (time[:, None, None], row[None, :, None], column[None, None])
    return torch.cat([lane.expand(*shape, lane.shape[-1]) for lane in lanes], dim=-1).flatten(0, 2)


def phases(frames: int, rows: int, columns: int, *, replace: bool) -> Tensor:
    """The turn of every token of `[ref | video | driving]`, (L, head_dim/2) complex64."""
    pairs = DIM // HEADS // 2
    space = DIM // HEADS // 6
    moving = torch.arange(frames) + (0 if replace else 1)
    down = SHIFT if replace else 0
    time = _axis(moving, pairs - 2 * space)
    row, column = _axis(torch.arange(rows), space), _axis(torch.arange(columns), space)
    still = _packed(_axis(torch.zeros(1), pairs - 2 * space), _axis(torch.arange(rows) + down, space), column)

    def half(turns: Tensor) -> Tensor:
        return turns.unflatten(0, (-1, 2)).mean(dim=1)

    right = half(_axis(torch.arange(columns) + SHIFT, space))
    return torch.cat([still, _packed(time, row, column), _packed(time, half(row), right)]).to(torch.complex64)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn adjacent pairs of x (B, L, heads, head_dim); cos and sin are (B, L, 1, head_dim/2)."""
    real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=-1).flatten(-2)


def patches(x: Tensor) -> Tensor:
    """(B, C, T, h, w) to (B, T*gh*gw, C*4), channel slowest."""
    batch, channels, frames, height, width = x.shape
    parts = x.reshape(batch, channels, frames, height // 2, 2, width // 2, 2).permute(0, 2, 3, 5, 1, 4, 6)
    return parts.reshape(batch, -1, channels * 4)


class Stem(nn.Module):
    """Patches of 1x2x2 to tokens."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(DIM, inputs, 1, 2, 2) * (4 * inputs) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(DIM))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(patches(x), self.weight.flatten(1), self.bias)


class SelfAttention(nn.Module):
    """Attention with norms on queries and keys over the full width."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(DIM, DIM) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(DIM, 1e-6), nn.RMSNorm(DIM, 1e-6)
        self.guides: Tensor | None = None  # (B, GUIDES, asked, L) attention of the last pass
        with torch.no_grad():  # to begin with, a token looks for its like
            self.k.weight.copy_(self.q.weight)
            self.k.bias.copy_(self.q.bias)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, asked: slice) -> Tensor:
        q = rotate(self.norm_q(self.q(x[:, asked])).unflatten(-1, (HEADS, -1)), cos[:, asked], sin[:, asked])
        k = rotate(self.norm_k(self.k(x)).unflatten(-1, (HEADS, -1)), cos, sin)
        v = self.v(x).unflatten(-1, (HEADS, -1))
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        # plain products and softmax train faster on a CPU than the fused call
        weights = torch.softmax(q @ k.transpose(-1, -2) * (DIM // HEADS) ** -0.5, dim=-1)
        self.guides = weights[:, :GUIDES] if self.training else None
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Self-attention, the constant that stands for cross-attention, feed-forward."""

    def __init__(self) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.randn(1, 6, DIM) * DIM**-0.5)
        self.self_attn = SelfAttention()
        self.constant = nn.Parameter(torch.zeros(DIM))
        self.ffn = nn.Sequential(nn.Linear(DIM, FFN), nn.GELU(approximate="tanh"), nn.Linear(FFN, DIM))

    def forward(self, x: Tensor, e: Tensor, cos: Tensor, sin: Tensor, asked: slice) -> Tensor:
        m = (self.modulation + e).unsqueeze(2).unbind(1)  # six of (B, 1, DIM)
        y = self.self_attn(F.layer_norm(x, (DIM,), eps=1e-6) * (1 + m[1]) + m[0], cos, sin, asked)
        x = x[:, asked] + y * m[2] + self.constant
        return x + self.ffn(F.layer_norm(x, (DIM,), eps=1e-6) * (1 + m[4]) + m[3]) * m[5]


class Head(nn.Module):
    """Tokens to velocity."""

    def __init__(self) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.randn(1, 2, DIM) * DIM**-0.5)
        self.head = nn.Linear(DIM, LATENT * 4)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        shift, scale = (self.modulation + e[:, None]).unsqueeze(2).unbind(1)
        return self.head(F.layer_norm(x, (DIM,), eps=1e-6) * (1 + scale) + shift)


class DiT(nn.Module):
    """Noisy latent and scene to velocity; latents are (B, 16, T, h, w), masks (B, 28, T, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embedding, self.patch_embedding_pose = Stem(LATENT + 4), Stem(LATENT + 4)
        self.patch_embedding_mask = Stem(MASK)
        self.time_embedding = nn.Sequential(nn.Linear(FREQ, DIM), nn.SiLU(), nn.Linear(DIM, DIM))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(DIM, 6 * DIM))
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.head = Head()
        self._tables: dict[tuple[int, int, int], Tensor] = {}

    def table(self, frames: int, rows: int, columns: int, replace: Tensor) -> tuple[Tensor, Tensor]:
        key = (frames, rows, columns)
        if key not in self._tables:
            both = [phases(frames, rows, columns, replace=flag) for flag in (False, True)]
            self._tables[key] = torch.view_as_real(torch.stack(both))
        chosen = self._tables[key][replace.long()].unsqueeze(2)  # (B, L, 1, pairs, 2)
        return chosen[..., 0].contiguous(), chosen[..., 1].contiguous()

    def forward(
        self,
        latent: Tensor,
        timestep: Tensor,
        *,
        reference: Tensor,
        reference_mask: Tensor,
        driving: Tensor,
        driving_mask: Tensor,
        history_mask: Tensor,
        replace: Tensor,
    ) -> Tensor:
        batch, _, frames, height, width = latent.shape
        rows, columns = height // 2, width // 2

        def given(x: Tensor) -> Tensor:
            return torch.cat([x, x.new_ones(batch, 4, *x.shape[2:])], dim=1)

        still = self.patch_embedding(given(reference)) + self.patch_embedding_mask(reference_mask)
        video = self.patch_embedding(torch.cat([latent, history_mask], dim=1)) + self.patch_embedding_mask.bias
        moving = self.patch_embedding_pose(given(driving)) + self.patch_embedding_mask(driving_mask)
        x = torch.cat([still, video, moving], dim=1)
        half = torch.arange(FREQ // 2, dtype=torch.float64) / (FREQ // 2)
        angles = timestep.double()[:, None] * 10000.0**-half
        e = self.time_embedding(torch.cat([angles.cos(), angles.sin()], dim=1).float())
        e6 = self.time_projection(e).unflatten(1, (6, DIM))
        cos, sin = self.table(frames, rows, columns, replace)
        made = slice(still.shape[1], still.shape[1] + video.shape[1])
        for block in self.blocks[:-1]:
            x = block(x, e6, cos, sin, slice(None))
        x = self.head(self.blocks[-1](x, e6, cos, sin, made), e)
        x = x.reshape(batch, frames, rows, columns, 2, 2, LATENT).permute(0, 6, 1, 2, 4, 3, 5)
        return x.reshape(batch, LATENT, frames, height, width)


# --------------------------------------------------------------------------- autoencoder


class CausalConv(nn.Conv3d):
    """A convolution that looks back in time only."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int] = (3, 3, 3)) -> None:
        super().__init__(inputs, outputs, kernel, padding=(0, kernel[1] // 2, kernel[2] // 2))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 0, 0, 0, self.kernel_size[0] - 1, 0)))


class ChannelNorm(nn.Module):
    """Length over channels brought to sqrt(C), times gamma."""

    def __init__(self, channels: int, axes: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *([1] * axes)))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-20) * self.gamma


class ResidualBlock(nn.Module):
    """Two normalised causal convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            ChannelNorm(inputs, 3),
            nn.SiLU(),
            CausalConv(inputs, outputs),
            ChannelNorm(outputs, 3),
            nn.SiLU(),
            nn.Identity(),
            CausalConv(outputs, outputs),
        )
        if inputs != outputs:
            self.shortcut = nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x) + (self.shortcut(x) if hasattr(self, "shortcut") else x)


def by_frame(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer of pictures to each frame of (B, C, T, h, w)."""
    batch = x.shape[0]
    return layer(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, -1)).transpose(1, 2)


class AttentionBlock(nn.Module):
    """One head over the pixels of each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, 2)
        self.to_qkv, self.proj = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def frame(self, x: Tensor) -> Tensor:
        q, k, v = self.to_qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        weights = torch.softmax(q @ k.transpose(1, 2) * x.shape[1] ** -0.5, dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(x.shape))

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        y = self.frame(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, -1)).transpose(1, 2)
        return x + y


class Downsample(nn.Module):
    """Half the size; `temporal`: half the frames after the first, which stays alone."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(channels, channels, 3, stride=2))
        if temporal:
            self.time_conv = nn.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = by_frame(self.resample, x)
        if not hasattr(self, "time_conv") or x.shape[2] == 1:
            return x
        return torch.cat([x[:, :, :1], self.time_conv(x)], dim=2)


class Upsample(nn.Module):
    """Twice the size at half the channels; `temporal`: twice the frames after the first."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(channels, channels // 2, 3, padding=1)
        )
        if temporal:
            self.time_conv = CausalConv(channels, 2 * channels, (3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "time_conv") and x.shape[2] > 1:
            even, odd = self.time_conv(x[:, :, 1:]).chunk(2, dim=1)  # the first frame is no part of the context
            x = torch.cat([x[:, :, :1], torch.stack([even, odd], dim=3).flatten(2, 3)], dim=2)
        return by_frame(self.resample, x)


def _head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(ChannelNorm(inputs, 3), nn.SiLU(), CausalConv(inputs, outputs))


class Encoder(nn.Module):
    """(B, 3, px, H, W) in [-1, 1] to (B, 32, T, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * mult for mult in (1, 1, 2, 4, 4)]
        self.conv1 = CausalConv(3, widths[0])
        layers: list[nn.Module] = []
        for level, (inputs, outputs) in enumerate(pairwise(widths)):
            layers += [ResidualBlock(inputs, outputs), ResidualBlock(outputs, outputs)]
            if level < 3:
                layers.append(Downsample(outputs, level > 0))
        self.downsamples = nn.Sequential(*layers)
        top = widths[-1]
        self.middle = nn.Sequential(ResidualBlock(top, top), AttentionBlock(top), ResidualBlock(top, top))
        self.head = _head(top, 2 * LATENT)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.downsamples(self.conv1(x))))


class Decoder(nn.Module):
    """(B, 16, T, h, w) to (B, 3, px, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * mult for mult in (4, 4, 4, 2, 1)]
        self.conv1 = CausalConv(LATENT, widths[0])
        top = widths[0]
        self.middle = nn.Sequential(ResidualBlock(top, top), AttentionBlock(top), ResidualBlock(top, top))
        layers: list[nn.Module] = []
        for level, (inputs, outputs) in enumerate(pairwise(widths)):
            arriving = inputs // 2 if level else inputs
            layers += [ResidualBlock(outputs if block else arriving, outputs) for block in range(3)]
            if level < 3:
                layers.append(Upsample(outputs, level < 2))
        self.upsamples = nn.Sequential(*layers)
        self.head = _head(widths[-1], 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.upsamples(self.middle(self.conv1(x))))


class VAE(nn.Module):
    """Both halves; `conv1` and `conv2` of the snapshot are made when it is written."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(width), Decoder(width)
