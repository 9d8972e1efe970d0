# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (mlx.nn has no stubs, and those of mlx.core leave the axes of reshape and transpose untyped)
"""Pictures to latents and back: the Wan 2.1 video autoencoder, streamed (engine.md §5).

A stream is a sequence of chunks (1 frame, then 4 by 4 in pixels; 1 by 1 in latents) and a `Past`: what each causal
convolution remembers of its last two input frames. Decoding goes depth first: after every temporal upsampling one
frame is carried to the end before the next, and encoding carries one frame at a time as far as the first temporal
downsampling; so memory does not depend on the length of a shot, and at full size only one frame exists. Frames before
a stream's start are zeros, and a tap that would read only those is not computed.

Activations are channels-last, (frames, h, w, C); a causal convolution is one 2-D convolution for each time tap, which
needs a third of the scratch of a 3-D one. Differs from the reference in nothing but the order of sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import mlx.core as mx
from mlx import nn

from scail2_farm.engine.backend import Layer, evaluate
from scail2_farm.engine.config import VAEConfig

Past = dict[int, mx.array]  # by id of the convolution: its last input frames, at most two


def _padded_sum(total: mx.array | None, part: mx.array, lead: int) -> mx.array:
    """Add `part` to the last frames of `total`, `lead` frames from the start."""
    if lead:
        part = mx.pad(part, [(lead, 0), (0, 0), (0, 0), (0, 0)])
    return part if total is None else total + part


class Pointwise(nn.Module):
    """A convolution of one pixel; the weight keeps the stored axes, (O, 1, .., I)."""

    def __init__(self, inputs: int, outputs: int, *, axes: int) -> None:
        super().__init__()
        self.weight = mx.zeros((outputs, *([1] * axes), inputs))
        self.bias = mx.zeros((outputs,))

    def __call__(self, x: mx.array) -> mx.array:
        return mx.addmm(self.bias, x, self.weight.reshape(self.bias.size, -1).T)


class CausalConv(nn.Module):
    """A 3-D convolution that only looks back in time."""

    def __init__(self, inputs: int, outputs: int, *, kernel: tuple[int, int, int] = (3, 3, 3)) -> None:
        super().__init__()
        self.weight = mx.zeros((outputs, *kernel, inputs))
        self.bias = mx.zeros((outputs,))

    def tap(self, frames: mx.array, k: int) -> mx.array:
        """What the k-th time tap makes of `frames`."""
        weight = self.weight[:, k]  # (O, kh, kw, I)
        if weight.shape[1:3] == (1, 1):
            return frames @ weight[:, 0, 0].T
        return mx.conv2d(frames, weight, padding=(weight.shape[1] // 2, weight.shape[2] // 2))

    def __call__(self, x: mx.array, past: Past) -> mx.array:
        taps, count = self.weight.shape[1], x.shape[0]
        before = past.get(id(self), x[:0])
        frames = mx.concatenate([before, x])
        kept = max(0, taps - 1 - count)  # of what was remembered; joined anew, for a slice of `frames` keeps all alive
        past[id(self)] = mx.concatenate([before[max(0, before.shape[0] - kept) :], x[1 - taps :]])
        missing = taps - 1 + count - frames.shape[0]  # zero frames before the start of the stream
        total: mx.array | None = None
        for k in range(taps):
            first = k - missing  # the frame that tap k reads for the first output
            if first + count > 0:
                total = _padded_sum(total, self.tap(frames[max(first, 0) : first + count], k), max(-first, 0))
                evaluate(total)  # the scratch of a convolution is many times its output: one at a time
        assert total is not None  # the last tap always reads
        return total + self.bias


class ChannelNorm(nn.Module):
    """x / |x| over channels, times sqrt(C) and gamma: an RMS norm, its epsilon being the reference's clamp of |x|."""

    def __init__(self, channels: int, *, axes: int) -> None:
        super().__init__()
        self.gamma = mx.ones((channels, *([1] * axes)))

    def __call__(self, x: mx.array) -> mx.array:
        return mx.fast.rms_norm(x, self.gamma.reshape(-1), 1e-24 / self.gamma.size)


class ResidualBlock(nn.Module):
    """Two normalised causal convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual: list[Layer | CausalConv] = [
            ChannelNorm(inputs, axes=3),
            nn.SiLU(),
            CausalConv(inputs, outputs),
            ChannelNorm(outputs, axes=3),
            nn.SiLU(),
            nn.Identity(),  # the dropout of training
            CausalConv(outputs, outputs),
        ]
        if inputs != outputs:
            self.shortcut = Pointwise(inputs, outputs, axes=3)

    def __call__(self, x: mx.array, past: Past) -> mx.array:
        y = x
        for layer in self.residual:
            y = layer(y, past) if isinstance(layer, CausalConv) else layer(y)
        return y + (self.shortcut(x) if "shortcut" in self else x)


class AttentionBlock(nn.Module):
    """One head of attention over the pixels of each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, axes=2)
        self.to_qkv = Pointwise(channels, 3 * channels, axes=2)
        self.proj = Pointwise(channels, channels, axes=2)

    def __call__(self, x: mx.array, past: Past) -> mx.array:
        frames, height, width, channels = x.shape
        qkv = self.to_qkv(self.norm(x)).reshape(frames, 1, height * width, 3 * channels)
        q, k, v = mx.split(qkv, 3, axis=-1)  # (frames, 1 head, h*w, C)
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=channels**-0.5)
        return x + self.proj(y.reshape(x.shape))


class Downsample(nn.Module):
    """Half the size; with `temporal` also half the frames, except the first, which stays alone."""

    def __init__(self, channels: int, *, temporal: bool) -> None:
        super().__init__()
        self.temporal = temporal
        self.resample = [nn.Identity(), nn.Conv2d(channels, channels, 3, stride=2)]
        if temporal:
            self.time_conv = CausalConv(channels, channels, kernel=(3, 1, 1))

    def __call__(self, x: mx.array, past: Past) -> mx.array:
        x = self.resample[1](mx.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)]))  # one row below, one column right
        if not self.temporal:
            return x
        conv = self.time_conv
        last = past.get(id(conv))
        past[id(conv)] = x[-1:]
        if last is None:
            return x
        frames = mx.concatenate([last, x])
        count = (frames.shape[0] - 3) // 2 + 1
        return sum((conv.tap(frames[k : k + 2 * count - 1 : 2], k) for k in range(3)), conv.bias)


class Upsample(nn.Module):
    """Twice the size at half the channels; with `temporal` also twice the frames, except the first of a stream."""

    def __init__(self, channels: int, *, temporal: bool) -> None:
        super().__init__()
        self.resample = [nn.Identity(), nn.Conv2d(channels, channels // 2, 3, padding=1)]
        if temporal:
            self.time_conv = CausalConv(channels, 2 * channels, kernel=(3, 1, 1))

    def in_time(self, x: mx.array, past: Past) -> mx.array:
        """(frames, h, w, C) to twice the frames; a stream's first chunk passes unchanged and is not remembered."""
        if "time_conv" not in self:
            return x
        if id(self.time_conv) not in past:
            past[id(self.time_conv)] = x[:0]
            return x
        frames, height, width, channels = x.shape
        y = self.time_conv(x, past).reshape(frames, height, width, 2, channels)  # even frames, then odd ones
        return y.transpose(0, 3, 1, 2, 4).reshape(2 * frames, height, width, channels)

    def in_space(self, x: mx.array) -> mx.array:
        """(frames, h, w, C) to (frames, 2h, 2w, C/2)."""
        return self.resample[1](mx.repeat(mx.repeat(x, 2, axis=1), 2, axis=2))


def _head(inputs: int, outputs: int) -> list[Layer | CausalConv]:
    return [ChannelNorm(inputs, axes=3), nn.SiLU(), CausalConv(inputs, outputs)]


def _run_head(head: list[Layer | CausalConv], x: mx.array, past: Past) -> mx.array:
    for layer in head:
        x = layer(x, past) if isinstance(layer, CausalConv) else layer(x)
    return x


class Encoder(nn.Module):
    """One chunk of pixels to twice the latent channels."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [config.dim * mult for mult in (1, *config.dim_mult)]
        self.conv1 = CausalConv(3, widths[0])
        self.downsamples: list[ResidualBlock | Downsample] = []
        for level, (inputs, outputs) in enumerate(pairwise(widths)):
            for block in range(config.num_res_blocks):
                self.downsamples.append(ResidualBlock(outputs if block else inputs, outputs))
            if level < len(config.dim_mult) - 1:
                self.downsamples.append(Downsample(outputs, temporal=config.temporal_downsample[level]))
        top = widths[-1]
        self.middle = [ResidualBlock(top, top), AttentionBlock(top), ResidualBlock(top, top)]
        self.head = _head(top, 2 * config.z_dim)

    def __call__(self, x: mx.array, past: Past) -> mx.array:
        layers = self.downsamples
        joint = next(at for at, layer in enumerate(layers) if isinstance(layer, Downsample) and layer.temporal)
        frames: list[mx.array] = []
        for frame in mx.split(x, x.shape[0]):  # frames are large until they are first joined in time: one after another
            frame = self.conv1(frame, past)
            for layer in layers[:joint]:
                frame = layer(frame, past)
                evaluate(frame, *past.values())
            frames.append(frame)
        x = mx.concatenate(frames)
        for layer in (*layers[joint:], *self.middle):
            x = layer(x, past)
        return _run_head(self.head, x, past)


class Decoder(nn.Module):
    """One latent frame to its pixel frames, one at a time."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [config.dim * mult for mult in (config.dim_mult[-1], *reversed(config.dim_mult))]
        temporal = config.temporal_downsample[::-1]
        self.conv1 = CausalConv(config.z_dim, widths[0])
        top = widths[0]
        self.middle = [ResidualBlock(top, top), AttentionBlock(top), ResidualBlock(top, top)]
        self.upsamples: list[ResidualBlock | Upsample] = []
        for level, (inputs, outputs) in enumerate(pairwise(widths)):
            arriving = inputs // 2 if level else inputs  # each upsampling halved the channels
            for block in range(config.num_res_blocks + 1):
                self.upsamples.append(ResidualBlock(outputs if block else arriving, outputs))
            if level < len(config.dim_mult) - 1:
                self.upsamples.append(Upsample(outputs, temporal=temporal[level]))
        self.head = _head(widths[-1], 3)

    def __call__(self, x: mx.array, past: Past) -> Iterator[mx.array]:
        x = self.conv1(x, past)
        for layer in self.middle:
            x = layer(x, past)
        yield from self._frames(x, 0, past)

    def _frames(self, x: mx.array, at: int, past: Past) -> Iterator[mx.array]:
        """Carry x (1, h, w, C) through the layers from `at`; where it becomes two frames, one after the other."""
        for index in range(at, len(self.upsamples)):
            layer = self.upsamples[index]
            if isinstance(layer, ResidualBlock):
                x = layer(x, past)
                evaluate(x, *past.values())
                continue
            x = layer.in_time(x, past)
            if x.shape[0] > 1:
                evaluate(x, *past.values())
                for frame in mx.split(x, x.shape[0]):
                    yield from self._frames(layer.in_space(frame), index + 1, past)
                return
            x = layer.in_space(x)
        frame = _run_head(self.head, x, past)
        evaluate(frame, *past.values())
        yield frame


class VAEEncoder(nn.Module):
    """The half of the autoencoder that reads pictures."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.conv1 = Pointwise(2 * config.z_dim, 2 * config.z_dim, axes=3)

    def moments(self, video: mx.array) -> mx.array:
        """Mean and log-variance before normalisation: (px, H, W, 3) in [-1, 1] -> (T, h, w, 2*z), px = 4n+1."""
        pixels = video.shape[0]
        if pixels % 4 != 1:
            raise ValueError(f"the encoder reads 4n+1 frames, not {pixels}")
        past: Past = {}
        chunks: list[mx.array] = []
        for first in (0, *range(1, pixels, 4)):
            chunk = self.conv1(self.encoder(video[first : first + 4] if first else video[:1], past))
            evaluate(chunk, *past.values())
            chunks.append(chunk)
        return mx.concatenate(chunks)

    def __call__(self, video: mx.array) -> mx.array:
        """The latent the transformer reads: (px, H, W, 3) in [-1, 1] -> (z, T, H/8, W/8), the normalised mean."""
        mean = self.moments(video)[..., : self.config.z_dim]
        latent = (mean - mx.array(self.config.mean)) / mx.array(self.config.std)
        return latent.transpose(3, 0, 1, 2)


class VAEDecoder(nn.Module):
    """The half of the autoencoder that makes pictures."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.conv2 = Pointwise(config.z_dim, config.z_dim, axes=3)
        self.decoder = Decoder(config)

    def __call__(self, latent: mx.array) -> Iterator[mx.array]:
        """Frames in order, each (H, W, 3) and not yet clamped: 1 + 4*(T-1) of them from a latent (z, T, h, w)."""
        x = latent.transpose(1, 2, 3, 0) * mx.array(self.config.std) + mx.array(self.config.mean)
        x = self.conv2(x)
        evaluate(x)
        past: Past = {}
        for frame in mx.split(x, x.shape[0]):
            for pixels in self.decoder(frame, past):
                yield pixels[0]
