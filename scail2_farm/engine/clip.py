# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (mlx.nn has no stubs, and those of mlx.core leave the axes of reshape and transpose untyped)
"""What the reference looks like: the CLIP vision tower and the resize before it (engine.md §4.4, §4.5).

The answer is the hidden state after the last block but one: no final norm, no pooling, so those weights are never
loaded. The picture is stretched to a square by a bicubic kernel of a = -0.75 without antialiasing; libraries differ
in both, so the taps are made here: weights in float64, of positions in float32 because those of the reference are (in
float64 the difference grows with the picture, to 1e-4 at 300x400).
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from mlx import nn

from scail2_farm.engine.backend import Layer, evaluate
from scail2_farm.engine.config import CLIPConfig

BICUBIC_A = -0.75


def bicubic_taps(source: int, target: int) -> mx.array:
    """The matrix (target, source) of one axis: half-pixel centres, taps beyond the border clamped to it."""
    a = BICUBIC_A
    scale, half = np.float32(source) / np.float32(target), np.float32(0.5)
    centres = (scale * (np.arange(target, dtype=np.float32) + half) - half).astype(np.float64)
    first = np.floor(centres).astype(np.int64)
    matrix = np.zeros((target, source), dtype=np.float64)
    for tap in range(-1, 3):
        distance = np.abs(centres - first - tap)
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        column = np.clip(first + tap, 0, source - 1)
        np.add.at(matrix, (np.arange(target), column), np.where(distance <= 1, near, far))
    return mx.array(matrix.astype(np.float32))


def resize(image: mx.array, height: int, width: int) -> mx.array:
    """Stretch (H, W, C) to (height, width, C); values may overshoot."""
    rows, columns = bicubic_taps(image.shape[0], height), bicubic_taps(image.shape[1], width)
    planes = rows @ image.transpose(2, 0, 1) @ columns.T  # (C, height, width)
    return planes.transpose(1, 2, 0)


class Attention(nn.Module):
    """Self-attention with q, k and v stacked in one projection."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.to_qkv = nn.Linear(config.dim, 3 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)

    def __call__(self, x: mx.array) -> mx.array:
        tokens, dim = x.shape
        qkv = self.to_qkv(x).reshape(tokens, 3, self.num_heads, -1).transpose(1, 2, 0, 3)[:, None]
        q, k, v = qkv  # (1, heads, tokens, head_dim)
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5)
        return self.proj(y.swapaxes(1, 2).reshape(tokens, dim))


class Block(nn.Module):
    """Attention and a two-layer perceptron with the exact GELU."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, config.eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.dim, config.eps)
        self.mlp: list[Layer] = [
            nn.Linear(config.dim, config.mlp_dim),
            nn.GELU(),
            nn.Linear(config.mlp_dim, config.dim),
        ]

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.attn(self.norm1(x))
        y = self.norm2(x)
        for layer in self.mlp:
            y = layer(y)
        return x + y


class PatchEmbedding(nn.Module):
    """Square patches to tokens; the weight (O, 3, p, p) is stored in torch order and has no bias."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.weight = mx.zeros((config.dim, 3, config.patch_size, config.patch_size))

    def __call__(self, pixels: mx.array) -> mx.array:
        dim, channels, patch, _ = self.weight.shape
        rows, columns = pixels.shape[0] // patch, pixels.shape[1] // patch
        x = pixels.reshape(rows, patch, columns, patch, channels).transpose(0, 2, 4, 1, 3)
        return x.reshape(rows * columns, -1) @ self.weight.reshape(dim, -1).T  # (patches, dim)


class CLIPVisual(nn.Module):
    """The tower without its last block, final norm and head."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = PatchEmbedding(config)
        self.cls_embedding = mx.zeros((1, 1, config.dim))
        self.pos_embedding = mx.zeros((1, config.tokens, config.dim))
        self.pre_norm = nn.LayerNorm(config.dim, config.eps)
        self.transformer = [Block(config) for _ in range(config.num_layers - 1)]

    def pixels(self, image: mx.array) -> mx.array:
        """The square the tower looks at: (H, W, 3) in [-1, 1] -> (224, 224, 3), normalised."""
        size = self.config.image_size
        unit = resize(image, size, size) * 0.5 + 0.5
        return (unit - mx.array(self.config.mean)) / mx.array(self.config.std)

    def __call__(self, image: mx.array) -> mx.array:
        """The features of a picture (H, W, 3) in [-1, 1]: (257, dim)."""
        x = mx.concatenate([self.cls_embedding[0], self.patch_embedding(self.pixels(image))])
        x = self.pre_norm(x + self.pos_embedding[0])
        for block in self.transformer:
            x = block(x)
            evaluate(x)
        return x
