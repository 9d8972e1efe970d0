"""Small movies for the tests: each frame shows its own index as eight blocks, black or white, which codecs survive."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

BITS = 8


def picture(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """(H, W, 3) uint8: the index in binary, four blocks above and four below, the lowest bit first."""
    gray = np.zeros((height, width), np.uint8)
    for bit in range(BITS):
        top, left = bit // 4 * height // 2, bit % 4 * width // 4
        gray[top : top + height // 2, left : left + width // 4] = 200 if index >> bit & 1 else 50
    return np.repeat(gray[..., None], 3, axis=-1)


def index_of(rgb: np.ndarray) -> int:
    """The index that a decoded frame shows."""
    height, width = rgb.shape[:2]
    found = 0
    for bit in range(BITS):
        top, left = bit // 4 * height // 2, bit % 4 * width // 4
        middle = rgb[top + height // 8 : top + height * 3 // 8, left + width // 16 : left + width * 3 // 16]
        found |= int(middle.mean() > 0.5) << bit
    return found


@dataclass(frozen=True, kw_only=True)
class Clip:
    """How a clip is made; `time_of` gives a frame's time in frames."""

    encoder: str
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] = (64, 48)
    rate: Fraction = Fraction(24000, 1001)
    count: int = 60
    time_base: Fraction | None = None
    time_of: Callable[[int], int] = lambda index: index
    tags: tuple[int, int, int, int] = (1, 1, 1, 1)
    timecode: str | None = None
    format: str | None = None
    flags: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        base = self.time_base or 1 / self.rate
        with av.open(str(path), "w", format=self.format, container_options=dict(self.flags)) as container:
            stream: Any = container.add_stream(self.encoder, rate=self.rate, options=dict(self.options))
            stream.width, stream.height, stream.pix_fmt = *self.size, self.pixel_format
            context = stream.codec_context
            context.time_base = base
            context.color_primaries, context.color_trc, context.colorspace, context.color_range = self.tags
            if self.timecode:
                stream.metadata["timecode"] = self.timecode
            for index in range(self.count):
                frame = av.VideoFrame.from_ndarray(picture(index, *self.size), format="rgb24")
                frame = frame.reformat(format=self.pixel_format, dst_colorspace="ITU709")
                frame.pts, frame.time_base = self.time_of(index), base
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path
