# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (mlx.nn has no stubs, and those of mlx.core leave the axes of reshape and transpose untyped)
"""What the prompt means: the UMT5 encoder (engine.md §6).

Token ids are encoded at their true length, without padding and so without a mask: the same rows, sooner. Attention is
not scaled, and each layer owns a table of position biases. Weights may be stored in 16 bits; activations are float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import mlx.core as mx
import numpy as np
from mlx import nn
from numpy.typing import NDArray

from scail2_farm.engine.backend import Layer, evaluate
from scail2_farm.engine.config import UMT5Config

gelu = cast("Layer", nn.gelu_approx)  # the tanh one


def position_buckets(length: int, *, num_buckets: int, max_distance: int) -> NDArray[np.int32]:
    """Bucket of key position minus query position, (query, key): half for the past, half for the future.

    Near distances have a bucket each, far ones share buckets on a logarithmic scale, decided in whole numbers.
    """
    half = num_buckets // 2
    near = half // 2
    far = half - near
    # distance n is in bucket near+k or beyond from n >= near * (max_distance/near)^(k/far)
    edges = [near**far * max_distance**k for k in range(1, far)]

    def bucket(distance: int) -> int:
        if distance < near:
            return distance
        return near + sum(distance**far * near**k >= edge for k, edge in enumerate(edges, 1))

    buckets = np.array([bucket(distance) for distance in range(length)])
    relative = np.arange(length)[None, :] - np.arange(length)[:, None]
    return (buckets[np.abs(relative)] + half * (relative > 0)).astype(np.int32)


class PositionBias(nn.Module):
    """One layer's table of biases, (buckets, heads)."""

    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.num_buckets, config.num_heads)

    def __call__(self, buckets: mx.array) -> mx.array:
        return self.embedding(buckets).astype(mx.float32).transpose(2, 0, 1)  # (heads, L, L)


class Attention(nn.Module):
    """Unscaled self-attention with a position bias."""

    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q = nn.Linear(config.dim, config.dim_attn, bias=False)
        self.k = nn.Linear(config.dim, config.dim_attn, bias=False)
        self.v = nn.Linear(config.dim, config.dim_attn, bias=False)
        self.o = nn.Linear(config.dim_attn, config.dim, bias=False)

    def __call__(self, x: mx.array, bias: mx.array) -> mx.array:
        length = x.shape[0]
        heads = [y.reshape(1, length, self.num_heads, -1).swapaxes(1, 2) for y in (self.q(x), self.k(x), self.v(x))]
        q, k, v = heads  # (1, heads, L, head_dim)
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=1.0, mask=bias[None])
        return self.o(y.swapaxes(1, 2).reshape(length, -1))


class FeedForward(nn.Module):
    """A gated layer."""

    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.dim, config.dim_ffn, bias=False)
        self.fc1 = nn.Linear(config.dim, config.dim_ffn, bias=False)
        self.fc2 = nn.Linear(config.dim_ffn, config.dim, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.fc2(self.fc1(x) * gelu(self.gate_proj(x)))


class Block(nn.Module):
    """Attention and feed-forward, each on a normalised input."""

    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(config.dim, config.eps)
        self.attn = Attention(config)
        self.norm2 = nn.RMSNorm(config.dim, config.eps)
        self.ffn = FeedForward(config)
        self.pos_embedding = PositionBias(config)

    def __call__(self, x: mx.array, buckets: mx.array) -> mx.array:
        x = x + self.attn(self.norm1(x), self.pos_embedding(buckets))
        return x + self.ffn(self.norm2(x))


class UMT5(nn.Module):
    """Token ids to context rows."""

    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = [Block(config) for _ in range(config.num_layers)]
        self.norm = nn.RMSNorm(config.dim, config.eps)

    def __call__(self, ids: Sequence[int]) -> mx.array:
        """(len(ids), dim) float32."""
        config = self.config
        grid = position_buckets(len(ids), num_buckets=config.num_buckets, max_distance=config.max_distance)
        buckets = mx.array(grid)
        x = self.token_embedding(mx.array(list(ids))).astype(mx.float32)
        for block in self.blocks:
            x = block(x, buckets)
            evaluate(x)
        return self.norm(x)
