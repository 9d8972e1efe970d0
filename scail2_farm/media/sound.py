"""The sound of a plate, for the movie that takes its place: audio packets by stream copy.

Only the packets that sound during the frames are copied, and their times are moved with the picture's: the first may
begin before the first frame, which the container's edit list says. Nothing is decoded or encoded again, so what is
heard is what the plate holds.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
from av.stream import Discard

from scail2_farm.errors import PlateUnreadable, Where
from scail2_farm.frames import FrameRange
from scail2_farm.media.containers import opened, packets_of

FIRST_PACKETS = 2000  # as many are looked at for one of each stream
PLAIN_LAYOUTS = {1: "mono", 2: "stereo"}
EARLIER_S = 5  # how far before the first frame reading begins: seeks land where there is a key frame, or nearby


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """The sound of these frames, counted from 0, of the movie at `path`."""

    path: Path
    frames: FrameRange


class SoundCopy:
    """The audio packets of a movie between two times in seconds of its clock. A context manager.

    `notes` say which streams were left out. Raises PlateUnreadable when the movie does not open.
    """

    def __init__(self, path: Path, *, start: Fraction, end: Fraction):
        self._path, self._start, self._end = path, start, end
        self._targets: dict[int, Any] = {}
        self._notes: list[str] = []
        self._container = _opened(path)
        self._packets = self._read()
        self._next: tuple[Fraction, Any] | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, a line each."""
        return tuple(self._notes)

    def add_streams(self, container: Any) -> None:
        """Give `container`, which writes a movie, a stream for each of ours that it can hold."""
        kind = container.format.name
        firsts = _first_packets(self._path)
        for number, stream in enumerate(self._container.streams.audio, start=1):
            if not _holds(kind, stream, firsts.get(stream.index)):
                codec = stream.codec_context.name if stream.codec_context else "an unknown codec"
                words = (
                    f"a .{kind} movie cannot hold its {codec}" if stream.index in firsts else "no packet of it reads"
                )
                self._notes.append(f"audio stream {number} of {self._path.name} is left out: {words}")
                continue
            self._targets[stream.index] = _like(container, stream)

    def copy(self, container: Any, *, until: Fraction | None) -> None:
        """Write the packets that begin before this many seconds from the first frame; None: all that are left."""
        while self._targets and (following := self._next or next(self._packets, None)) is not None:
            self._next = following
            begin, packet = following
            if until is not None and begin >= until:
                return
            self._next = None
            source = packet.stream_index
            packet.stream = self._targets[source]
            try:
                container.mux(packet)
            except (av.error.InvalidDataError, av.error.ArgumentError) as error:
                del self._targets[source]
                self._notes.append(f"the sound of {self._path.name} stops after {float(begin):.2f} s: {error}")

    def __enter__(self) -> SoundCopy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._container.close()

    def _read(self) -> Iterator[tuple[Fraction, Any]]:
        """Each packet to be copied with the seconds from the first frame at which it begins."""
        over: set[int] = set()
        try:
            early = int((self._start - EARLIER_S) * av.time_base)
            if early > (self._container.start_time or 0):
                self._container.seek(early, backward=True)
            for packet in packets_of(self._container, self._container.streams.audio):
                if not packet.size or packet.pts is None or packet.stream_index not in self._targets:
                    continue
                base = Fraction(packet.time_base)
                begin = packet.pts * base
                if begin >= self._end:
                    over.add(packet.stream_index)
                    if over.issuperset(self._targets) or begin >= self._end + EARLIER_S:
                        return
                elif begin + (packet.duration or 0) * base > self._start:
                    ticks = round(self._start / base)
                    packet.dts = (packet.pts if packet.dts is None else packet.dts) - ticks
                    packet.pts -= ticks
                    yield begin - self._start, packet
        except (av.error.FFmpegError, ValueError) as error:
            self._notes.append(f"the sound of {self._path.name} is cut short: it does not read on: {error}")


def _opened(path: Path) -> Any:
    """A movie open for reading its sound alone."""
    try:
        container = opened(path)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        what = f"the sound of {path.name} does not open: {error}"
        raise PlateUnreadable(what, where=Where(file=str(path))) from None
    for stream in container.streams:
        if stream.type != "audio":
            stream.discard = Discard.all
    return container


def _first_packets(path: Path) -> dict[int, Any]:
    """A packet of each audio stream that has one near the start of the movie and reads."""
    firsts: dict[int, Any] = {}
    with _opened(path) as container:
        streams = container.streams.audio
        try:
            for packet in itertools.islice(packets_of(container, streams), FIRST_PACKETS) if streams else ():
                if packet.size:
                    firsts.setdefault(packet.stream_index, packet)
                if len(firsts) == len(streams):
                    break
        except (av.error.FFmpegError, ValueError):
            return firsts
    return firsts


def _like(container: Any, stream: Any) -> Any:
    """A new stream of `container` for packets of this one."""
    target = container.add_stream_from_template(stream, opaque=True)
    channels = stream.codec_context.layout.nb_channels
    if channels in PLAIN_LAYOUTS and stream.codec_context.layout.name not in PLAIN_LAYOUTS.values():
        target.codec_context.layout = PLAIN_LAYOUTS[channels]  # MXF and Matroska only count them; .mp4 wants a name
    if "language" in stream.metadata:
        target.metadata["language"] = stream.metadata["language"]
    target.disposition = stream.disposition
    return target


def _holds(kind: str, stream: Any, packet: Any) -> bool:
    """Whether a container can hold a stream: by writing a movie of this one packet to memory."""
    if stream.codec_context is None or packet is None:
        return False
    try:
        with av.open(io.BytesIO(), "w", format=kind) as trial:
            packet.stream = _like(trial, stream)
            trial.mux(packet)
    except (av.error.FFmpegError, ValueError):
        return False
    return True
