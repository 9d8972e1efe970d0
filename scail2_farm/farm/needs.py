"""What a segment will take of this machine: work, memory, disk. Estimates, from its document alone.

Memory is what the engine was measured to hold at once (performance.md §4): the weights of one stage, and so many
copies of every token's features. What was measured on this machine outranks it; the ledger knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scail2_farm.documents import SealedShot

NETWORK = "dit.safetensors"
STEPS_AROUND = 4
"""Encoding, decoding and writing cost about as much as so many solver steps."""
COPIES_OF_FEATURES = 9
"""Float32 arrays of (tokens, width) that the transformer holds at its fullest, weights apart."""
BYTES_OF_A_PIXEL = 26_000
"""What decoding holds for a pixel of the canvas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Of a weights folder what memory depends on: the transformer's width, and the bytes of each file by its name."""

    width: int
    sizes: Mapping[str, int]


def snapshot(weights: str) -> Snapshot | None:
    """A weights folder as it is now; None when it cannot be read, which the engine will tell."""
    folder = Path(weights)
    try:
        width = int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["dim"])
        return Snapshot(width=width, sizes={path.name: path.stat().st_size for path in folder.glob("*.safetensors")})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def work_of(shot: SealedShot, index: int, *, weights: Snapshot | None) -> float:
    """What rendering a segment costs, in pixels x frames x steps x MB of the network: times at one pace are as this is.

    A network of less than 1 MB, or of which nothing is known, counts as one of 1 MB.
    """
    own = shot.segments[index]
    frames = float(own.canvas.width * own.canvas.height * own.window.count * (own.sampler.steps + STEPS_AROUND))
    return frames * max(1.0, (weights.sizes.get(NETWORK, 0) if weights else 0) / 1e6)


def memory_of(shot: SealedShot, index: int, *, weights: Snapshot | None) -> int:
    """Bytes the engine is expected to hold at once; 0 when nothing is known of the weights."""
    if weights is None:
        return 0
    own, sizes = shot.segments[index], weights.sizes
    rows, columns = own.canvas.height // 16, own.canvas.width // 16
    latent_frames = (own.window.count + 3) // 4
    extra = sum(len(performer.references) - 1 for performer in shot.performers)
    tokens = rows * columns * (1 + extra + latent_frames) + rows * columns * latent_frames // 4
    network = sizes.get(NETWORK, 0) + COPIES_OF_FEATURES * tokens * weights.width * 4
    decoder = sizes.get("vae.safetensors", 0) + BYTES_OF_A_PIXEL * own.canvas.width * own.canvas.height
    return max(network, decoder, sizes.get("t5_encoder.safetensors", 0), sizes.get("clip.safetensors", 0))


def disk_of(shot: SealedShot, index: int) -> int:
    """Bytes a segment leaves in the work folder, counted uncompressed: frames, mattes, the model's own, history."""
    own = shot.segments[index]
    plate, canvas = shot.plate.width * shot.plate.height, own.canvas.width * own.canvas.height
    return own.keep.count * (plate * (12 + 2) + canvas * 12) + own.leave * canvas * 12
