# pyright: reportUnknownMemberType=false
# (mlx.core leaves some of its answers untyped)
"""How much memory a segment will take, said before anything is loaded.

The peak of a stage is what is resident, what lives at the full length of the sequence or the full size of a frame, and
what one piece of work needs for itself. The first two are counted; the last was measured on a CPU and is the same
multiple of its piece at every size, because every piece is evaluated before the next is begun. `benchmarks/memory.py`
compares with mx.get_peak_memory over a grid. Figures for a GPU are predicted, not measured: there attention keeps no
scores and a convolution no unrolled input, and MLX may hold back freed buffers up to its cache limit.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import mlx.core as mx

from scail2_farm.engine.config import CLIPConfig, DiTConfig, UMT5Config, VAEConfig
from scail2_farm.engine.dit import CONTEXT
from scail2_farm.engine.precision import COMPUTE, Precision
from scail2_farm.engine.vae import VAEDecoder, VAEEncoder
from scail2_farm.engine.weights import CLIP, DIT, T5, Snapshot, shapes_of
from scail2_farm.errors import ResourceError

Device = Literal["cpu", "gpu"]

CACHE_LIMIT_BYTES = 2 << 30  # of freed buffers that MLX may hold back

CANVASES = ((1280, 704), (896, 512), (832, 480), (512, 512), (512, 288))
"""What is offered when a size does not fit, width by height; turned for an upright one."""

LENGTHS = (81, 65, 49, 33, 17, 5)

# Measured work of one piece. Of a block, in float32 rows of the width of the network:
ATTENTION, PROJECTION, FEED_FORWARD = {4: 14.0, 2: 13.5}, {4: 20.6, 2: 16.5}, {4: 5.0, 2: 6.0}
WIDENED = 2  # weights of a Linear in another type than the stored one, at a time
UNPACKED = 16  # bytes of a number of a packed weight while it is unpacked
# Of the autoencoder, in float32 frames of full size and least width; then what of it is the unrolled input on a CPU:
DECODED, DECODED_FIRST, ENCODED, ENCODED_FIRST = 66.4, 44.0, 34.5, 17.4
UNROLLED_DECODED, UNROLLED_ENCODED = 18.0, 9.0
PICTURES = 2.5  # copies of a video of pixels on its way to the encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What decides the memory of a segment, but for the weights."""

    width: int
    height: int
    frames: int  # 4n+1
    extra_references: int = 0
    history: int = 0
    guidance: float = 1.0

    @property
    def latents(self) -> int:
        """Latent frames."""
        return (self.frames + 3) // 4

    @property
    def sources(self) -> tuple[int, int, int]:
        """Tokens of the references, the video and the driving video."""
        frame = self.height // 16 * (self.width // 16)
        return (1 + self.extra_references) * frame, self.latents * frame, self.latents * frame // 4

    def __str__(self) -> str:
        return f"{self.width}x{self.height}, {self.frames} frames"


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """The sizes of a snapshot: its networks, and the bytes of their tensors as they are held."""

    dit: DiTConfig
    vae: VAEConfig
    umt5: UMT5Config
    clip: CLIPConfig
    dit_bytes: int
    context_bytes: int  # of these, let go of when the keys and values of prompt and reference are made
    stored_width: int  # bytes of a dense weight of the blocks; 0 when they are packed
    umt5_bytes: int
    umt5_width: int
    clip_bytes: int

    @classmethod
    def of(cls, snapshot: Snapshot) -> Footprint:
        """Of a snapshot on disk, from the headers of its files."""
        dit, umt5, clip = (dict(_stored(snapshot.folder / file)) for file in (DIT, T5, CLIP))
        config = snapshot.dit_config
        layers = tuple(f"blocks.{block}.cross_attn.{key}." for block in range(config.num_layers) for key in CONTEXT)
        weight, outputs = dit["blocks.0.self_attn.q.weight"], config.dim**2
        return cls(
            dit=config,
            vae=snapshot.vae_config,
            umt5=snapshot.umt5_config,
            clip=snapshot.clip_config,
            dit_bytes=sum(dit.values()),
            context_bytes=sum(size for name, size in dit.items() if name.startswith(layers)),
            stored_width=weight // outputs if weight % outputs == 0 and weight // outputs in (2, 4) else 0,
            umt5_bytes=sum(umt5.values()),
            umt5_width=umt5["norm.weight"] // snapshot.umt5_config.dim,
            clip_bytes=sum(clip.values()),
        )


def _stored(path: Path) -> Iterator[tuple[str, int]]:
    """Every tensor of a safetensors file, with its bytes; the file was audited before."""
    with path.open("rb") as file:
        header = cast("dict[str, Any]", json.loads(file.read(int.from_bytes(file.read(8), "little"))))
    for name, tensor in header.items():
        if name != "__metadata__":
            first, end = cast("tuple[int, int]", tensor["data_offsets"])
            yield name, end - first


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The peak of each stage in bytes; `device` says what it was reckoned for."""

    stages: dict[str, int]  # text, image, encode, prepare, denoise, decode
    device: Device

    @property
    def peak(self) -> int:
        """The most of all stages."""
        return max(self.stages.values())

    @property
    def worst(self) -> str:
        """The stage that takes it."""
        return max(self.stages, key=lambda stage: self.stages[stage])

    def __str__(self) -> str:
        basis = "" if self.device == "cpu" else ", predicted"
        return f"{gigabytes(self.peak)} at its peak ({self.worst}{basis})"


def gigabytes(size: int) -> str:
    """In words."""
    return f"{size / 1e9:.2f} GB"


def predict(
    footprint: Footprint,
    shape: Shape,
    *,
    rows: int,
    precision: Precision = "f32",
    device: Device = "cpu",
    resident: bool = False,
    adapters: int = 0,
) -> Forecast:
    """The peak of each stage of a segment, worked on `rows` tokens at a time.

    `resident`: the network is there from a segment before, with the same prompt and reference, and stays.
    `adapters` are the bytes it wears.
    """
    work = _Work(footprint, shape, rows, COMPUTE[precision].size, device)
    network = adapters + footprint.dit_bytes - footprint.context_bytes + work.caches()
    held = network if resident else 0
    stages = {
        "encode": held + work.encode(),
        "denoise": network + work.latents() + work.scene() + work.denoise(),
        "decode": network + work.latents() + work.decode(),
    }
    if not resident:
        stages |= {
            "text": work.text(),
            "image": work.image(),
            "prepare": network + footprint.context_bytes + work.prepare() + work.latents(),
        }
    if device == "gpu":
        stages = {stage: size + CACHE_LIMIT_BYTES for stage, size in stages.items()}
    return Forecast(stages=stages, device=device)


@dataclass(frozen=True, slots=True)
class _Work:
    """What stages need beyond the weights of others, in bytes."""

    footprint: Footprint
    shape: Shape
    rows: int
    compute: int  # bytes of a number in the products
    device: Device

    def text(self) -> int:
        """The text encoder, over the longest prompt."""
        config, length = self.footprint.umt5, self.footprint.dit.text_len
        block = 4 * config.dim * config.dim_attn + 3 * config.dim * config.dim_ffn
        widened = 0 if self.footprint.umt5_width == 4 else 4 * block
        activations = 4 * length * (3 * config.dim_ffn + 6 * config.dim) + 8 * config.num_heads * length**2
        return self.footprint.umt5_bytes + widened + activations

    def image(self) -> int:
        """The vision tower, and the picture it looks at."""
        config = self.footprint.clip
        activations = (
            4 * config.tokens * (2 * config.mlp_dim + 8 * config.dim) + 4 * config.num_heads * config.tokens**2
        )
        pixels = 12 * (self.shape.height * self.shape.width + 2 * config.image_size * self.shape.width)
        return self.footprint.clip_bytes + activations + 2 * pixels

    def latents(self) -> int:
        """Latents and packed masks of the segment, the noise and what the solver remembers."""
        still, video, driving = self.shape.sources
        return 4 * 4 * ((still + driving) * 44 + video * (5 * 16 + 4) + self.shape.history // 4 * 64)

    def scene(self) -> int:
        """Embedded references and driving video, and the rotary table."""
        still, video, driving = self.shape.sources
        config = self.footprint.dit
        return 4 * ((still + driving) * config.dim + (still + video + driving) * config.head_dim)

    def caches(self) -> int:
        """Keys and values of prompt and reference, for every block."""
        config, texts = self.footprint.dit, 2 if self.shape.guidance > 1 else 1
        tokens = texts * config.text_len + self.footprint.clip.tokens
        return 2 * config.num_layers * tokens * config.dim * self.compute

    def prepare(self) -> int:
        """Making them."""
        config = self.footprint.dit
        tokens = max(config.text_len, self.footprint.clip.tokens)
        return 4 * tokens * config.dim * 6 + self._widened(config.dim**2)

    def _widened(self, numbers: int) -> int:
        """Weights in the type of the products, where they are stored in another."""
        if not self.footprint.stored_width:
            return numbers * (UNPACKED + (self.compute if self.compute != 4 else 0))  # it is float32 first
        return 0 if self.footprint.stored_width == self.compute else WIDENED * numbers * self.compute

    def denoise(self) -> int:
        """One pass of the network: the sequence, its keys and values, and the worst of what one piece needs."""
        config, sources = self.footprint.dit, self.shape.sources
        length, rows = sum(sources), min(self.rows, max(sources))
        row, sequence = 4 * config.dim * rows, length * config.dim * self.compute
        scores = config.num_heads * rows * length * self.compute if self.device == "cpu" else 0
        square, wide = self._widened(config.dim**2), self._widened(config.dim * config.ffn_dim)
        hidden = 2 * rows * config.ffn_dim * self.compute
        piece = max(
            sequence,  # keys or values in parts, while they are joined
            ATTENTION[self.compute] * row + scores + square,
            PROJECTION[self.compute] * row + square,
            FEED_FORWARD[self.compute] * row + hidden + wide,
        )
        return 4 * length * config.dim + 2 * sequence + int(piece)

    def _frame(self) -> int:
        return 4 * self.shape.width * self.shape.height * self.footprint.vae.dim

    def encode(self) -> int:
        """The reading half of the autoencoder over references, driving video at half size, and history."""
        pixels = 12 * self.shape.width * self.shape.height
        unrolled = 0 if self.device == "cpu" else UNROLLED_ENCODED

        def stream(frames: int) -> float:
            return ((ENCODED if frames > 1 else ENCODED_FIRST) - unrolled) * self._frame()

        still = stream(1) + PICTURES * pixels
        driving = PICTURES * self.shape.frames * pixels
        history = stream(self.shape.history) + PICTURES * self.shape.history * pixels if self.shape.history else 0
        streamed = stream(self.shape.frames) / 4 + self.shape.frames * pixels / 4
        return _halves(self.footprint.vae)[0] + self.latents() // 2 + int(max(still, driving, streamed, history))

    def decode(self) -> int:
        """The making half of the autoencoder."""
        units = DECODED if self.shape.latents > 1 else DECODED_FIRST
        unrolled = 0 if self.device == "cpu" else UNROLLED_DECODED
        return _halves(self.footprint.vae)[1] + int((units - unrolled) * self._frame())


@cache
def _halves(config: VAEConfig) -> tuple[int, int]:
    """Bytes of the reading and the making half of the autoencoder, which are float32."""

    def size(half: VAEEncoder | VAEDecoder) -> int:
        sizes = (math.prod(shape) for shape in shapes_of(half).values())
        return 4 * sum(sizes)

    return size(VAEEncoder(config)), size(VAEDecoder(config))


def admit(
    footprint: Footprint,
    shape: Shape,
    *,
    available: int,
    rows: int,
    precision: Precision = "f32",
    device: Device = "cpu",
    adapters: int = 0,
) -> Forecast:
    """The forecast of a segment that fits into `available` bytes, the first of a shot and the following ones.

    Raises ResourceError, with the sizes that would fit, for one that does not.
    """

    def forecast(of: Shape) -> Forecast:
        both = (
            predict(footprint, of, rows=rows, precision=precision, device=device, resident=resident, adapters=adapters)
            for resident in (False, True)
        )
        return max(both, key=lambda found: found.peak)

    found = forecast(shape)
    if found.peak <= available:
        return found
    fitting = [size for size in _others(shape) if forecast(size).peak <= available]
    longest = {(size.width, size.height): size for size in reversed(fitting)}
    offered = " or ".join(str(size) for size in reversed(longest.values()))
    raise ResourceError(
        f"a segment of {shape} takes {found}; {gigabytes(available)} are there",
        why="it would fail in the middle, after everything was read",
        fix=f"render at {offered}"
        if offered
        else "use a smaller tier of the weights (q4), or a machine with more memory",
    )


def _others(shape: Shape) -> Iterator[Shape]:
    """The sizes offered instead: the same canvas shorter, then the usual ones, each from the longest."""
    upright = shape.height > shape.width
    usual = ((height, width) if upright else (width, height) for width, height in CANVASES)
    for width, height in dict.fromkeys(((shape.width, shape.height), *usual)):
        for frames in (shape.frames, *(length for length in LENGTHS if length < shape.frames)):
            if width * height <= shape.width * shape.height and frames > shape.history:
                yield replace(shape, width=width, height=height, frames=frames)


def device_kind() -> Device:
    """What MLX computes on here."""
    return "gpu" if mx.default_device().type == mx.DeviceType.gpu else "cpu"


def available_bytes() -> int:
    """What this machine can give to a segment: the recommended working set of a GPU, else what is free, or all."""
    if device_kind() == "gpu":
        told = cast("dict[str, int]", mx.device_info())
        return told.get("max_recommended_working_set_size") or told["memory_size"]
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = (line.split() for line in meminfo.read_text(encoding="ascii").splitlines())
    free = next(int(words[1]) << 10 for words in lines if words[0] == "MemAvailable:")
    return free + mx.get_active_memory() + mx.get_cache_memory()
