# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (mlx.nn has no stubs, and those of mlx.core leave the axes of reshape and transpose untyped)
"""The diffusion transformer of SCAIL-2, read top to bottom (engine.md §2).

One sample at a time: the packed sequence `[extra refs | ref | video | driving]` is (L, dim), without a batch axis.
Batching the two guidance passes was measured slower and larger (performance.md §2), so there is none to carry.

What does not change between solver steps is made once and handed in: a `Scene` (embedded references and driving
video, rotary table) for a segment, and the keys and values of the cross-attention for a text and an image. A block is
streamed: keys and values exist at full length, everything else for `rows` tokens at a time, evaluated as it goes. The
sequence is cut at the borders of its sources, so the last block computes queries for the video alone.

The residual stream, norms, modulation, rotation, embeddings and head are float32. The large products of the blocks and
their attention are computed in the type asked for (`compute`): a Linear works in the type of what it is given, and its
weights stay as stored until they are used. No attention here has a mask, and no product more rows than `rows`: both
have been wrong on some devices beyond 32,768 (performance.md §6).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
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
CONTEXT = ("k", "v", "k_img", "v_img")  # Linears of a cross-attention that read nothing but text and image
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


def as_keys(parts: list[mx.array]) -> mx.array:
    """A sequence in parts, (tokens, heads, head_dim) each, as attention wants it: (1, heads, tokens, head_dim)."""
    return mx.contiguous(mx.concatenate([part.swapaxes(0, 1)[None] for part in parts], axis=2))


class Linear(nn.Linear):
    """A Linear that computes in the type of its input, whatever type its weights are stored in."""

    def __call__(self, x: mx.array) -> mx.array:
        return mx.addmm(self.bias.astype(x.dtype), x, self.weight.astype(x.dtype).T)


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
        return mx.addmm(self.bias.astype(x.dtype), x, weight.astype(x.dtype).T)


class PatchStem(nn.Module):
    """Patches of 1x2x2 to tokens: a convolution whose kernel is its stride, so a Linear on patch vectors.

    The weight (O, I, 1, 2, 2) is in torch order: within a patch the channel is slowest.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = mx.zeros((outputs, inputs, 1, 2, 2))
        self.bias = mx.zeros((outputs,))

    @staticmethod
    def patches(x: mx.array) -> mx.array:
        """(C, T, h, w) -> (T*gh*gw, C*4)."""
        channels, frames, height, width = x.shape
        patches = x.reshape(channels, frames, height // 2, 2, width // 2, 2).transpose(1, 2, 4, 0, 3, 5)
        return patches.reshape(-1, channels * 4)

    def tokens(self, patches: mx.array) -> mx.array:
        """(rows, C*4) -> (rows, dim)."""
        return patches @ self.weight.reshape(self.bias.size, -1).T + self.bias

    def __call__(self, x: mx.array) -> mx.array:
        return self.tokens(self.patches(x))


class Attention(nn.Module):
    """What both attentions own; q and k are normalised over the full width, before the heads part."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q = Linear(config.dim, config.dim)
        self.k = Linear(config.dim, config.dim)
        self.v = Linear(config.dim, config.dim)
        self.o = Linear(config.dim, config.dim)
        self.norm_q = nn.RMSNorm(config.dim, config.eps)
        self.norm_k = nn.RMSNorm(config.dim, config.eps)

    def heads(self, x: mx.array) -> mx.array:
        """(rows, dim) -> (rows, heads, head_dim)."""
        return x.reshape(x.shape[0], self.num_heads, -1)

    def normed(self, norm: nn.RMSNorm, x: mx.array) -> mx.array:
        """Normalised in float32 over the full width, then cut into heads."""
        return self.heads(norm(x.astype(mx.float32)))


class SelfAttention(Attention):
    """Attention over the whole sequence."""

    def keys_values(self, x: mx.array, phases: Phases) -> KeysValues:
        """Rotated keys, and values, of some rows: (rows, heads, head_dim) each, in the type of x."""
        return rotate(self.normed(self.norm_k, self.k(x)), *phases).astype(x.dtype), self.heads(self.v(x))

    def __call__(self, x: mx.array, phases: Phases, sequence: KeysValues) -> mx.array:
        q = rotate(self.normed(self.norm_q, self.q(x)), *phases).astype(x.dtype)
        return self.o(attend(q, *sequence))


class CrossAttention(Attention):
    """Attention over the text and, separately, over the reference image; the two answers are summed."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config)
        self.k_img = Linear(config.dim, config.dim)
        self.v_img = Linear(config.dim, config.dim)
        self.norm_k_img = nn.RMSNorm(config.dim, config.eps)

    def text(self, context: mx.array) -> KeysValues:
        """Keys and values of the embedded text, in the type of `context`."""
        keys = self.normed(self.norm_k, self.k(context)).astype(context.dtype)
        return as_keys([keys]), as_keys([self.heads(self.v(context))])

    def image(self, context: mx.array) -> KeysValues:
        """Keys and values of the embedded image, in the type of `context`."""
        keys = self.normed(self.norm_k_img, self.k_img(context)).astype(context.dtype)
        return as_keys([keys]), as_keys([self.heads(self.v_img(context))])

    def __call__(self, x: mx.array, text: KeysValues, image: KeysValues) -> mx.array:
        q = self.normed(self.norm_q, self.q(x)).astype(x.dtype)
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
            Linear(config.dim, config.ffn_dim),
            GELUTanh(),
            Linear(config.ffn_dim, config.dim),
        ]

    def sequence(self, chunks: list[mx.array], phases: list[Phases], e: mx.array, compute: mx.Dtype) -> KeysValues:
        """Keys and values of the whole sequence, the only tensors at full length."""
        shift, scale = (self.modulation[0] + e)[:2]
        keys: list[mx.array] = []
        values: list[mx.array] = []
        for x, turn in zip(chunks, phases, strict=True):
            part = self.self_attn.keys_values(modulated(x, shift, scale, self.eps).astype(compute), turn)
            evaluate(*part)
            keys.append(part[0])
            values.append(part[1])
        return _joined(keys), _joined(values)

    def __call__(
        self, x: mx.array, phases: Phases, e: mx.array, sequence: KeysValues, text: KeysValues, image: KeysValues
    ) -> mx.array:
        """The new x of some rows, (rows, dim) float32; e (6, dim) is the projected time embedding.

        Products are computed in the type of the keys.
        """
        compute = sequence[0].dtype
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = self.modulation[0] + e
        x = x + self.self_attn(modulated(x, shift_a, scale_a, self.eps).astype(compute), phases, sequence) * gate_a
        evaluate(x)
        x = x + self.cross_attn(self.norm3(x).astype(compute), text, image)
        evaluate(x)
        x = x + run(self.ffn, modulated(x, shift_f, scale_f, self.eps).astype(compute)) * gate_f
        evaluate(x)
        return x


def _joined(parts: list[mx.array]) -> mx.array:
    """The parts as one array; they are freed before it is handed out."""
    whole = as_keys(parts)
    evaluate(whole)
    parts.clear()
    return whole


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
    driving: mx.array  # (T*gh*gw/4, dim): the driving video, embedded; (0, dim) where it is left out
    history_mask: mx.array  # (4, T, h, w): 1 where the latent is given
    table: Phases  # of the whole sequence

    def without_driving(self) -> Scene:
        """The same for the sequence `[extra refs | ref | video]`; its arrays are views of these and take no memory."""
        length = self.grid.still + self.grid.video
        cos, sin = self.table
        return Scene(self.grid, self.still, self.driving[:0], self.history_mask, (cos[:length], sin[:length]))


def timestep_embedding(timestep: float, width: int) -> mx.array:
    """Cosines, then sines, of the timestep at width/2 frequencies: (1, width)."""
    half = width // 2
    angles = timestep * 10000.0 ** (-np.arange(half, dtype=np.float64) / half)
    return mx.array(np.concatenate([np.cos(angles), np.sin(angles)])[None].astype(np.float32))


def _chunks(tokens: mx.array, rows: int) -> list[mx.array]:
    """In order, at most `rows` at a time."""
    return [tokens[first : first + rows] for first in range(0, tokens.shape[0], rows)]


def _cut(table: Phases, chunks: list[mx.array]) -> list[Phases]:
    """The phases of each chunk."""
    ends = list(accumulate(chunk.shape[0] for chunk in chunks))
    return [
        (table[0][end - chunk.shape[0] : end], table[1][end - chunk.shape[0] : end])
        for chunk, end in zip(chunks, ends, strict=True)
    ]


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
        self.context_dropped = False
        # a tuple is no part of the tree: these are the Linears themselves, whatever may wrap them there later
        layers = [cast("nn.Module", block.cross_attn[key]) for block in self.blocks for key in CONTEXT]
        self._context = tuple(layers)

    def _pack(self, name: str, bits: int) -> None:
        """Make the Linear of this name one that is stored packed."""
        keys: list[Any] = [int(step) if step.isdigit() else step for step in name.split(".")]
        parent: Any = self
        for key in keys[:-1]:
            parent = parent[key]
        outputs, inputs = cast("tuple[int, int]", parent[keys[-1]].weight.shape)
        parent[keys[-1]] = PackedLinear(inputs, outputs, bits)

    def drop_context(self) -> None:
        """Let go of the weights that make keys and values of text and image: a quarter of all (performance.md §2).

        What is cached serves on; another text or image needs the network read anew.
        """
        for layer in self._context:
            for name in ("weight", "scales", "biases", "bias"):
                if name in layer:
                    layer[name] = mx.zeros((0,))
        self.context_dropped = True

    def text_cache(self, text: mx.array, *, compute: mx.Dtype = mx.float32) -> Cache:
        """Cross-attention keys and values of a text (rows, text_dim), for every block, in the type `compute`.

        The text is padded with zero rows to `text_len` before it is embedded, and the padding is attended to.
        """
        if text.shape[0] > self.config.text_len:
            raise ValueError(f"a text of {text.shape[0]} rows is longer than {self.config.text_len}")
        padded = mx.pad(text, [(0, self.config.text_len - text.shape[0]), (0, 0)])
        context = run(self.text_embedding, padded).astype(compute)
        return [self._kept(block.cross_attn.text(context)) for block in self.blocks]

    def image_cache(self, features: mx.array, *, compute: mx.Dtype = mx.float32) -> Cache:
        """Cross-attention keys and values of CLIP features (257, clip_dim), for every block, in the type `compute`."""
        context = self.img_emb(features).astype(compute)
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
        """The velocity (16, T, h, w) of a noisy latent; `rows` tokens are worked on at a time.

        The blocks compute in the type of the cached keys and values.
        """
        grid = scene.grid
        e = run(self.time_embedding, timestep_embedding(timestep, self.config.freq_dim))  # (1, dim)
        e6 = run(self.time_projection, e).reshape(6, -1)  # (6, dim)
        evaluate(e, e6)
        before, made, after = (
            _chunks(scene.still, rows),
            self._embedded(latent, scene, rows),
            _chunks(scene.driving, rows),
        )
        video = range(len(before), len(before) + len(made))
        chunks = [*before, *made, *after]
        del before, made, after  # each chunk is let go of when the first block has answered
        phases = _cut(scene.table, chunks)
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            sequence = block.sequence(chunks, phases, e6, text[index][0].dtype)
            for at in video if index == last else range(len(chunks)):
                chunks[at] = block(chunks[at], phases[at], e6, sequence, text[index], image[index])
            del sequence  # before the next is made
        velocity = mx.concatenate([self.head(chunks[at], e) for at in video])
        return self._unpatched(velocity, grid)

    def _embedded(self, latent: mx.array, scene: Scene, rows: int) -> list[mx.array]:
        """The video in chunks; the mask of what is to be made is all zero, and its stem makes its bias of that."""
        chunks: list[mx.array] = []
        for patches in _chunks(self.patch_embedding.patches(mx.concatenate([latent, scene.history_mask])), rows):
            chunks.append(self.patch_embedding.tokens(patches) + self.patch_embedding_mask.bias)
            evaluate(chunks[-1])
        return chunks

    def _unpatched(self, patches: mx.array, grid: Grid) -> mx.array:
        """(T*gh*gw, 2*2*16), channel fastest -> (16, T, h, w)."""
        x = patches.reshape(grid.frames, grid.rows, grid.columns, 2, 2, self.config.out_dim)
        return x.transpose(5, 0, 1, 3, 2, 4).reshape(self.config.out_dim, grid.frames, grid.rows * 2, grid.columns * 2)
