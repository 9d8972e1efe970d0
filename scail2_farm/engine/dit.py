# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (mlx.nn has no stubs, and those of mlx.core leave the axes of reshape and transpose untyped)
"""The diffusion transformer of SCAIL-2, read top to bottom (engine.md §2).

One sample at a time: the packed sequence `[extra refs | ref | video | driving]` is (L, dim), without a batch axis.
Batching the two guidance passes was measured slower and larger (performance.md §2), so there is none to carry.

What does not change between solver steps is made once and handed in: a `Scene` (embedded references and driving
video, rotary table) for a segment, and the keys and values of the cross-attention for a text and an image. A block is
streamed: keys and values exist at full length, everything else for `rows` tokens at a time, evaluated as it goes. The
sequence is cut at the borders of its sources, so the last block computes queries for the video alone.

Arithmetic is float32. 16-bit weights stay as stored and are widened where they are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx import nn

from scail2_farm.engine.backend import Layer, evaluate
from scail2_farm.engine.config import DiTConfig
from scail2_farm.engine.rope import Grid, rope_table, rotate

KeysValues = tuple[mx.array, mx.array]  # (1, heads, tokens, head_dim) each
Cache = list[KeysValues]  # one entry a block
Phases = tuple[mx.array, mx.array]  # cosines and sines, (tokens, head_dim/2) each

GROUP = 64  # inputs that share a scale in a packed weight
GELU_SLOPE = 2 * (2 / np.pi) ** 0.5


class GELUTanh(nn.Module):
    """The tanh GELU as x * sigmoid(..), which is the same function with fewer passes over memory."""

    def __call__(self, x: mx.array) -> mx.array:
        return x * mx.sigmoid(float(GELU_SLOPE) * (x + 0.044715 * x * x * x))


def run(layers: list[Layer], x: mx.array) -> mx.array:
    """Apply layers in order."""
    for layer in layers:
        x = layer(x)
    return x


def modulated(x: mx.array, shift: mx.array, scale: mx.array, eps: float) -> mx.array:
    """Layer norm without parameters of its own, then scale and shift, as one fused call."""
    return mx.fast.layer_norm(x, scale.astype(mx.float32) + 1, shift.astype(mx.float32), eps)


def attend(q: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """Softmax attention of q (rows, heads, head_dim) over all keys: (rows, dim)."""
    rows, heads, head_dim = q.shape
    y = mx.fast.scaled_dot_product_attention(q.swapaxes(0, 1)[None], keys, values, scale=head_dim**-0.5)
    return y[0].swapaxes(0, 1).reshape(rows, heads * head_dim)


def as_keys(x: mx.array) -> mx.array:
    """(tokens, heads, head_dim) as attention wants it: (1, heads, tokens, head_dim)."""
    return mx.contiguous(x.swapaxes(0, 1)[None])


class PackedLinear(nn.Module):
    """A Linear whose weight is stored as 4- or 8-bit integers in groups of 64 inputs (engine.md §2.2).

    The weight is unpacked for each use and multiplied densely: a packed product is slower for thousands of rows on
    every device measured (performance.md §5), and the unpacked weight lives for one product only.
    """

    def __init__(self, inputs: int, outputs: int, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.weight = mx.zeros((outputs, inputs * bits // 32), mx.uint32)
        self.scales = mx.zeros((outputs, inputs // GROUP))
        self.biases = mx.zeros((outputs, inputs // GROUP))
        self.bias = mx.zeros((outputs,))

    def __call__(self, x: mx.array) -> mx.array:
        scales, biases = self.scales.astype(mx.float32), self.biases.astype(mx.float32)
        weight = mx.dequantize(self.weight, scales, biases, group_size=GROUP, bits=self.bits)
        return mx.addmm(self.bias, x, weight.T)


class PatchStem(nn.Module):
    """Patches of 1x2x2 to tokens: a convolution whose kernel is its stride, so a Linear on patch vectors.

    The weight (O, I, 1, 2, 2) is in torch order: within a patch the channel is slowest.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = mx.zeros((outputs, inputs, 1, 2, 2))
        self.bias = mx.zeros((outputs,))

    def __call__(self, x: mx.array) -> mx.array:
        channels, frames, height, width = x.shape
        patches = x.reshape(channels, frames, height // 2, 2, width // 2, 2).transpose(1, 2, 4, 0, 3, 5)
        patches = patches.reshape(-1, channels * 4)  # (T*gh*gw, C*4)
        return patches @ self.weight.reshape(self.bias.size, -1).T + self.bias


class Attention(nn.Module):
    """What both attentions own; q and k are normalised over the full width, before the heads part."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q = nn.Linear(config.dim, config.dim)
        self.k = nn.Linear(config.dim, config.dim)
        self.v = nn.Linear(config.dim, config.dim)
        self.o = nn.Linear(config.dim, config.dim)
        self.norm_q = nn.RMSNorm(config.dim, config.eps)
        self.norm_k = nn.RMSNorm(config.dim, config.eps)

    def heads(self, x: mx.array) -> mx.array:
        """(rows, dim) -> (rows, heads, head_dim)."""
        return x.reshape(x.shape[0], self.num_heads, -1)


class SelfAttention(Attention):
    """Attention over the whole sequence."""

    def keys_values(self, x: mx.array, phases: Phases) -> KeysValues:
        """Rotated keys, and values, of some rows: (rows, heads, head_dim) each."""
        return rotate(self.heads(self.norm_k(self.k(x))), *phases), self.heads(self.v(x))

    def __call__(self, x: mx.array, phases: Phases, sequence: KeysValues) -> mx.array:
        return self.o(attend(rotate(self.heads(self.norm_q(self.q(x))), *phases), *sequence))


class CrossAttention(Attention):
    """Attention over the text and, separately, over the reference image; the two answers are summed."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config)
        self.k_img = nn.Linear(config.dim, config.dim)
        self.v_img = nn.Linear(config.dim, config.dim)
        self.norm_k_img = nn.RMSNorm(config.dim, config.eps)

    def text(self, context: mx.array) -> KeysValues:
        """Keys and values of the embedded text."""
        return as_keys(self.heads(self.norm_k(self.k(context)))), as_keys(self.heads(self.v(context)))

    def image(self, context: mx.array) -> KeysValues:
        """Keys and values of the embedded image."""
        return as_keys(self.heads(self.norm_k_img(self.k_img(context)))), as_keys(self.heads(self.v_img(context)))

    def __call__(self, x: mx.array, text: KeysValues, image: KeysValues) -> mx.array:
        q = self.heads(self.norm_q(self.q(x)))
        return self.o(attend(q, *text) + attend(q, *image))


class Block(nn.Module):
    """Modulated self-attention, plain cross-attention, modulated feed-forward."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.modulation = mx.zeros((1, 6, config.dim))
        self.self_attn = SelfAttention(config)
        self.cross_attn = CrossAttention(config)
        self.norm3 = nn.LayerNorm(config.dim, config.eps)
        self.ffn: list[Layer] = [
            nn.Linear(config.dim, config.ffn_dim),
            GELUTanh(),
            nn.Linear(config.ffn_dim, config.dim),
        ]

    def sequence(self, chunks: list[mx.array], phases: list[Phases], e: mx.array) -> KeysValues:
        """Keys and values of the whole sequence, the only tensors at full length."""
        shift, scale = (self.modulation[0] + e)[:2]
        parts = [
            self.self_attn.keys_values(modulated(x, shift, scale, self.eps), turn)
            for x, turn in zip(chunks, phases, strict=True)
        ]
        keys, values = (as_keys(mx.concatenate(list(part))) for part in zip(*parts, strict=True))
        evaluate(keys, values)
        return keys, values

    def __call__(
        self, x: mx.array, phases: Phases, e: mx.array, sequence: KeysValues, text: KeysValues, image: KeysValues
    ) -> mx.array:
        """The new x of some rows, (rows, dim); e (6, dim) is the projected time embedding."""
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = self.modulation[0] + e
        x = x + self.self_attn(modulated(x, shift_a, scale_a, self.eps), phases, sequence) * gate_a
        x = x + self.cross_attn(self.norm3(x), text, image)
        return x + run(self.ffn, modulated(x, shift_f, scale_f, self.eps)) * gate_f


class Head(nn.Module):
    """Tokens to patches of velocity; uses the time embedding before its projection."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.modulation = mx.zeros((1, 2, config.dim))
        self.head = nn.Linear(config.dim, config.out_dim * 4)

    def __call__(self, x: mx.array, e: mx.array) -> mx.array:
        shift, scale = self.modulation[0] + e
        return self.head(modulated(x, shift, scale, self.eps))


class ImageEmbedding(nn.Module):
    """CLIP features to the width of the transformer; its norms have their own epsilon."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.proj: list[Layer] = [
            nn.LayerNorm(config.clip_dim, 1e-5),
            nn.Linear(config.clip_dim, config.clip_dim),
            nn.GELU(),  # exact, unlike every other one here
            nn.Linear(config.clip_dim, config.dim),
            nn.LayerNorm(config.dim, 1e-5),
        ]

    def __call__(self, x: mx.array) -> mx.array:
        return run(self.proj, x)


@dataclass(frozen=True, slots=True)
class Scene:
    """What stays the same through the steps of a segment."""

    grid: Grid
    still: mx.array  # ((n+1)*gh*gw, dim): extra references, then the reference, embedded
    driving: mx.array  # (T*gh*gw/4, dim): the driving video, embedded
    history_mask: mx.array  # (4, T, h, w): 1 where the latent is given
    table: Phases  # of the whole sequence


def timestep_embedding(timestep: float, width: int) -> mx.array:
    """Cosines, then sines, of the timestep at width/2 frequencies: (1, width)."""
    half = width // 2
    angles = timestep * 10000.0 ** (-np.arange(half, dtype=np.float64) / half)
    return mx.array(np.concatenate([np.cos(angles), np.sin(angles)])[None].astype(np.float32))


class DiT(nn.Module):
    """Noisy latent, scene and context to velocity."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.patch_embedding = PatchStem(config.in_dim, dim)
        self.patch_embedding_pose = PatchStem(config.in_dim, dim)
        self.patch_embedding_mask = PatchStem(config.mask_dim, dim)
        self.text_embedding: list[Layer] = [nn.Linear(config.text_dim, dim), GELUTanh(), nn.Linear(dim, dim)]
        self.time_embedding: list[Layer] = [nn.Linear(config.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim)]
        self.time_projection: list[Layer] = [nn.SiLU(), nn.Linear(dim, 6 * dim)]
        self.img_emb = ImageEmbedding(config)
        self.blocks = [Block(config) for _ in range(config.num_layers)]
        self.head = Head(config)
        for name, bits in config.packed:
            self._pack(name, bits)

    def _pack(self, name: str, bits: int) -> None:
        """Make the Linear of this name one that is stored packed."""
        keys: list[Any] = [int(step) if step.isdigit() else step for step in name.split(".")]
        parent: Any = self
        for key in keys[:-1]:
            parent = parent[key]
        outputs, inputs = cast("tuple[int, int]", parent[keys[-1]].weight.shape)
        parent[keys[-1]] = PackedLinear(inputs, outputs, bits)

    def text_cache(self, text: mx.array) -> Cache:
        """Cross-attention keys and values of a text (rows, text_dim), for every block.

        The text is padded with zero rows to `text_len` before it is embedded, and the padding is attended to.
        """
        if text.shape[0] > self.config.text_len:
            raise ValueError(f"a text of {text.shape[0]} rows is longer than {self.config.text_len}")
        padded = mx.pad(text, [(0, self.config.text_len - text.shape[0]), (0, 0)])
        context = run(self.text_embedding, padded)
        return [self._kept(block.cross_attn.text(context)) for block in self.blocks]

    def image_cache(self, features: mx.array) -> Cache:
        """Cross-attention keys and values of CLIP features (257, clip_dim), for every block."""
        context = self.img_emb(features)
        return [self._kept(block.cross_attn.image(context)) for block in self.blocks]

    @staticmethod
    def _kept(pair: KeysValues) -> KeysValues:
        evaluate(*pair)
        return pair

    def scene(
        self,
        *,
        reference: mx.array,
        reference_mask: mx.array,
        driving: mx.array,
        driving_mask: mx.array,
        replace: bool,
        history_mask: mx.array | None = None,
        extra: tuple[tuple[mx.array, mx.array], ...] = (),
    ) -> Scene:
        """Embed what a segment holds still.

        Latents are (16, frames, h, w) and packed masks (28, frames, h, w): one frame for each reference, T frames of
        half the size for the driving video. `extra` are pairs of reference and mask, in order.
        """
        _, _, height, width = reference.shape
        frames = driving.shape[1]
        grid = Grid(frames=frames, rows=height // 2, columns=width // 2, extra=len(extra), replace=replace)
        latents = mx.concatenate([*(latent for latent, _ in extra), reference], axis=1)
        masks = mx.concatenate([*(mask for _, mask in extra), reference_mask], axis=1)
        still = self.patch_embedding(self._given(latents)) + self.patch_embedding_mask(masks)
        moving = self.patch_embedding_pose(self._given(driving)) + self.patch_embedding_mask(driving_mask)
        if history_mask is None:
            history_mask = mx.zeros((4, frames, height, width))
        table = rope_table(grid, self.config.head_dim)
        evaluate(still, moving, history_mask, *table)
        return Scene(grid, still, moving, history_mask, table)

    @staticmethod
    def _given(latent: mx.array) -> mx.array:
        """A clean latent with its four mask channels of ones."""
        return mx.concatenate([latent, mx.ones((4, *latent.shape[1:]))])

    def __call__(
        self, latent: mx.array, timestep: float, scene: Scene, *, text: Cache, image: Cache, rows: int
    ) -> mx.array:
        """The velocity (16, T, h, w) of a noisy latent; `rows` tokens are worked on at a time."""
        grid = scene.grid
        # the mask of a frame to be made is all zero, and what the mask stem makes of zeros is its bias
        video = self.patch_embedding(mx.concatenate([latent, scene.history_mask])) + self.patch_embedding_mask.bias
        e = run(self.time_embedding, timestep_embedding(timestep, self.config.freq_dim))  # (1, dim)
        e6 = run(self.time_projection, e).reshape(6, -1)  # (6, dim)

        chunks, phases, made = self._cut((scene.still, video, scene.driving), scene.table, rows)
        del video
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            sequence = block.sequence(chunks, phases, e6)
            for at in made if index == last else range(len(chunks)):
                chunks[at] = block(chunks[at], phases[at], e6, sequence, text[index], image[index])
                evaluate(chunks[at])
        patches = mx.concatenate([self.head(chunks[at], e) for at in made])
        return self._unpatched(patches, grid)

    @staticmethod
    def _cut(
        sources: tuple[mx.array, mx.array, mx.array], table: Phases, rows: int
    ) -> tuple[list[mx.array], list[Phases], range]:
        """The sequence in chunks of at most `rows` tokens of one source; the last answer says which are the video."""
        chunks: list[mx.array] = []
        phases: list[Phases] = []
        borders: list[int] = []
        offset = 0
        for tokens in sources:
            borders.append(len(chunks))
            for first in range(0, tokens.shape[0], rows):
                chunk = tokens[first : first + rows]
                span = slice(offset + first, offset + first + chunk.shape[0])
                chunks.append(chunk)
                phases.append((table[0][span], table[1][span]))
            offset += tokens.shape[0]
        return chunks, phases, range(borders[1], borders[2])

    def _unpatched(self, patches: mx.array, grid: Grid) -> mx.array:
        """(T*gh*gw, 2*2*16), channel fastest -> (16, T, h, w)."""
        x = patches.reshape(grid.frames, grid.rows, grid.columns, 2, 2, self.config.out_dim)
        return x.transpose(5, 0, 1, 3, 2, 4).reshape(self.config.out_dim, grid.frames, grid.rows * 2, grid.columns * 2)
