"""Movie containers as PyAV opens them, and what it does not tell of them.

Hides two of its corners: it ends a walk through an MPEG-TS with an IndexError when a stream begins late, and it has no
word for chroma siting and clean aperture.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error

OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": "mov,matroska,mxf,mpegts,avi"}
"""What is opened as a movie: these containers, on disk, fetching nothing from elsewhere."""


def opened(path: Path) -> Any:
    """The container at `path`, for reading. Raises what PyAV raises: FFmpegError, ValueError, OSError."""
    return av.open(f"file:{path.absolute()}", options=dict(OPEN_OPTIONS), metadata_errors="replace")


def packets_of(container: Any, streams: Any) -> Iterator[Any]:
    """The packets of one or more streams from where the container stands; then one without bytes, of each."""
    try:
        yield from container.demux(streams)
    except IndexError:  # a stream that began late is to be flushed, which PyAV never made; all others have been
        return


@dataclass(frozen=True, slots=True)
class Header:
    """What Matroska writes of a stream: chroma siting across and down (1 on luma, 2 midway, 0 not said), and crop.

    The crop is left, top, right, bottom in pixels: a .mov calls it clean aperture.
    """

    siting: tuple[int, int] = (0, 0)
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)


def header_of(stream: Any) -> Header:
    """Chroma siting and clean aperture of a stream, which PyAV does not give: they are read off a header written of it.

    Of a codec that Matroska does not hold (DNxHR), nothing is known.
    """
    file = io.BytesIO()
    try:
        with av.open(file, "w", format="matroska") as container:
            container.add_stream_from_template(stream, opaque=True)
            container.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return Header()
    values = dict(_numbers(file.getvalue()))
    return Header(
        (values.get(0x55B7, 0), values.get(0x55B8, 0)),
        (values.get(0x54CC, 0), values.get(0x54BB, 0), values.get(0x54DD, 0), values.get(0x54AA, 0)),
    )


def _numbers(header: bytes) -> Iterator[tuple[int, int]]:
    """Id and value of the numbers below the picture track of a Matroska header (RFC 8794)."""
    inside = {0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x55B0}  # Segment, Tracks, TrackEntry, Video, Colour
    at = 0
    while at < len(header):
        width = 9 - header[at].bit_length()
        element = int.from_bytes(header[at : at + width])
        at += width
        width = 9 - header[at].bit_length()
        size = int.from_bytes(header[at : at + width]) & ((1 << 7 * width) - 1)
        at += width
        if element not in inside:
            if size <= 8:
                yield element, int.from_bytes(header[at : at + size])
            at += size
