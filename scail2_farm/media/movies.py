"""Movies: read any frame exactly, and write the review movie.

Hides FFmpeg. Frame n is the n-th presentation time of the stream, from a table made by reading every packet once;
a frame is found by seeking back to a key frame and decoding until the time is equal. Dividing by the rate instead
lands on the wrong frame three times in four in long-GOP files (colour.md §4).

Colour tags are taken from the container first and from the decoded frame second: DNxHR in .mov decodes as BT.709
whatever its container says.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Lock
from typing import Any

import av
import av.error
import numpy as np
from av.stream import Disposition

from scail2_farm.documents import written_whole
from scail2_farm.errors import PlateMissing, PlateUnreadable, Where, storage_error
from scail2_farm.frames import exact_rate
from scail2_farm.media import yuv

UNSAID = (0, 2)  # reserved and unspecified in ISO 23091-2
MATRICES: dict[int, yuv.Matrix] = {1: "709", 5: "601", 6: "601", 9: "2020"}
FULL_RANGE = 2
HD_LINES = 720  # an untagged movie with as many lines is taken for BT.709, with fewer for BT.601 (colour.md)
PACKED_RGB = {
    "rgb24": "rgb", "bgr24": "bgr", "rgba": "rgba", "bgra": "bgra", "argb": "argb", "abgr": "abgr",
    "rgb0": "rgb0", "bgr0": "bgr0", "0rgb": "0rgb", "0bgr": "0bgr", "rgb48le": "rgb", "rgb48be": "rgb",
    "bgr48le": "bgr", "rgba64le": "rgba", "rgba64be": "rgba", "bgra64le": "bgra",
}  # fmt: skip
PACKED_YUV = {"uyvy422": (1, 0, 2), "yuyv422": (0, 1, 3)}  # offsets of luma, Cb, Cr
SEMI_PLANAR = {"nv12": 0, "p010le": 6, "p012le": 4, "p016le": 0, "nv16": 0, "p210le": 6}  # unused low bits
OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": "mov,matroska,mxf"}


@dataclass(frozen=True, slots=True)
class _Tags:
    primaries: int
    transfer: int
    matrix: int
    range: int

    @classmethod
    def of(cls, source: Any) -> _Tags:
        """The tags of a codec context or a frame."""
        return cls(int(source.color_primaries), int(source.color_trc), int(source.colorspace), int(source.color_range))

    def over(self, other: _Tags) -> _Tags:
        """These tags where they say something, else the other's."""
        return _Tags(
            other.primaries if self.primaries in UNSAID else self.primaries,
            other.transfer if self.transfer in UNSAID else self.transfer,
            other.matrix if self.matrix in UNSAID else self.matrix,
            other.range if self.range == 0 else self.range,
        )


class MovieReader:
    """An open movie: what it is, and any frame of it.

    Raises PlateMissing, PlateUnreadable, StorageError on opening.
    """

    def __init__(self, path: Path):
        self.path = path
        self._where = Where(file=str(path))
        self._lock = Lock()  # one decoder, however many threads read
        self._container = self._open()
        try:
            self._stream = self._video_stream()
            self._container_tags = _Tags.of(self._stream.codec_context)
            self._times, self._keys = self._read_times()
            self.rate = self._read_rate()
            self.timecode = self._read_timecode()
            self._decoded: Iterator[Any] = iter(())
            self._position = len(self._times)  # the frame the decoder gives next; past the end: seek first
            first = self._find(0)
            self._tags = self._container_tags.over(_Tags.of(first))
            self.bits = _bits(first.format, path)
            self.width, self.height = int(first.width), int(first.height)
            aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
            self.pixel_aspect = float(aspect) if aspect else 1.0
            self.warnings = tuple(self._doubts(first))
        except BaseException:
            self._container.close()
            raise

    @property
    def count(self) -> int:
        """How many frames there are."""
        return len(self._times)

    @property
    def nclc(self) -> str | None:
        """The colour tags as primaries/transfer/matrix; None when neither primaries nor transfer is said."""
        tags = self._tags
        if tags.primaries in UNSAID and tags.transfer in UNSAID:
            return None
        return f"{tags.primaries}/{tags.transfer}/{tags.matrix}"

    def read(self, n: int) -> np.ndarray:
        """Frame n, counted from 0: (H, W, 3) float32 RGB in the movie's own encoding, not clipped; alpha is ignored.

        Raises PlateMissing, PlateUnreadable.
        """
        if not 0 <= n < self.count:
            raise PlateMissing(f"{self.path.name} has {self.count} frames; {n} is not there", where=self._where)
        with self._lock:
            frame = self._find(n)
        if (frame.width, frame.height) != (self.width, self.height):
            raise PlateUnreadable(f"{self.path.name} changes its size at frame {n}", where=self._where)
        return _rgb(frame, self._tags, self.path)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __enter__(self) -> MovieReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------- opening

    def _open(self) -> Any:
        if not self.path.is_file():
            raise PlateMissing(f"{self.path.name} is not there", where=self._where)
        try:
            return av.open(f"file:{self.path.absolute()}", options=dict(OPEN_OPTIONS))
        except (av.error.InvalidDataError, av.error.EOFError, ValueError) as error:
            raise self._unreadable(f"is not a complete movie: {error}") from None
        except OSError as error:
            raise storage_error(error, self.path) from error

    def _unreadable(self, what: str, fix: str | None = None) -> PlateUnreadable:
        return PlateUnreadable(f"{self.path.name} {what}", fix=fix, where=self._where)

    def _video_stream(self) -> Any:
        for stream in self._container.streams.video:
            if not stream.disposition & Disposition.attached_pic:
                if stream.codec_context is None:
                    raise self._unreadable("is in a codec this machine cannot decode")
                stream.thread_type = "AUTO"
                return stream
        raise self._unreadable("holds no video")

    def _read_times(self) -> tuple[list[int], list[int]]:
        """The presentation time of every frame, in order, and the indices of the key frames."""
        times: dict[int, bool] = {}
        packets = 0
        try:
            for packet in self._container.demux(self._stream):
                packets += packet.size > 0
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None or packet.is_corrupt:
                    raise self._unreadable("has a packet that is damaged or has no time")
                times[packet.pts] = packet.is_keyframe
        except (av.error.InvalidDataError, OSError) as error:
            raise self._unreadable(f"does not read to its end: {error}") from None
        if packets < self._stream.frames:
            raise self._unreadable(f"is cut short: {packets} of {self._stream.frames} frames are there")
        if not times:
            raise self._unreadable("holds no frames")
        ordered = sorted(times)
        return ordered, [index for index, time in enumerate(ordered) if times[time]]

    def _read_rate(self) -> Fraction:
        """The exact rate: one frame per step of the table where all steps are equal, else the average."""
        steps = {later - earlier for earlier, later in itertools.pairwise(self._times)}
        if len(steps) == 1:
            return exact_rate(1 / (steps.pop() * Fraction(self._stream.time_base)))
        rate = self._stream.average_rate or self._stream.guessed_rate
        if not rate:
            raise self._unreadable("does not say its frame rate")
        return exact_rate(rate)

    def _read_timecode(self) -> str | None:
        streams = [self._stream, *self._container.streams.data]
        places = [stream.metadata for stream in streams] + [self._container.metadata]
        return next((place["timecode"] for place in places if place.get("timecode")), None)

    def _doubts(self, first: Any) -> Iterator[str]:
        """What the user should know about how the movie is read."""
        if first.rotation:
            raise self._unreadable(
                f"asks to be turned by {first.rotation} degrees", "bake the rotation into the picture"
            )
        own = _Tags.of(first)
        said = self._container_tags.matrix
        if not first.format.is_rgb and self._tags.matrix in UNSAID:
            yield f"the movie does not say its matrix: read as BT.{_matrix(self._tags, self.height)}, legal range"
        if said not in UNSAID and own.matrix not in UNSAID and said != own.matrix:
            yield f"container and frames disagree about the matrix ({said}, {own.matrix}): the container is believed"
        if first.interlaced_frame:
            yield "the movie is interlaced: fields are not separated"
        steps = Fraction(1, 1) / self.rate / Fraction(self._stream.time_base)
        start = self._times[0]
        if any(abs(time - start - steps * n) > max(steps / 2, 1) for n, time in enumerate(self._times)):
            yield "the movie has a variable frame rate: frames are taken one for one"

    # ------------------------------------------------------------------- finding a frame

    def _find(self, n: int) -> Any:
        """The decoded frame n: go on from where the decoder stands, else from the key frame, else from ever earlier."""
        wanted = self._times[n]
        before = bisect_right(self._keys, n)
        key = self._keys[before - 1] if before else 0
        if key <= self._position <= n and (frame := self._decode_until(wanted)) is not None:
            self._position = n + 1
            return frame
        for start in dict.fromkeys((key, max(0, key - 50), 0)):
            self._seek(start)
            if (frame := self._decode_until(wanted)) is not None:
                self._position = n + 1
                return frame
        raise self._unreadable(f"does not give its frame {n} (counted from 0)")

    def _seek(self, n: int) -> None:
        self._container.seek(self._times[n], backward=True, any_frame=False, stream=self._stream)
        self._decoded = self._container.decode(self._stream)

    def _decode_until(self, wanted: int) -> Any:
        """The frame of that time, or None when the decoder is past it or at the end."""
        self._position = self.count
        try:
            for frame in self._decoded:
                if frame.pts == wanted:
                    if frame.is_corrupt:
                        raise self._unreadable(f"is damaged at time {frame.time:.3f} s")
                    return frame
                if frame.pts is not None and frame.pts > wanted:
                    return None
        except av.error.FFmpegError as error:
            raise self._unreadable(f"does not decode: {error}") from None
        return None


# --------------------------------------------------------------------------- planes to RGB


def _bits(pixel_format: Any, path: Path) -> int:
    """Bits per component; refuses in words what has no plain RGB or YCbCr planes."""
    name = pixel_format.name
    bits = max(component.bits for component in pixel_format.components)
    packed = name in PACKED_RGB or name in PACKED_YUV or name in SEMI_PLANAR
    planar = (
        pixel_format.is_planar
        and not pixel_format.has_palette
        and 8 <= bits <= 16
        and len({component.plane for component in pixel_format.components}) == len(pixel_format.components)
    )
    if not (packed or planar or name in ("gray", "gray10le", "gray12le", "gray16le")):
        what = f"{path.name}: pixel format {name} is not supported"
        raise PlateUnreadable(what, fix="export it as 8 to 16 bit RGB or YCbCr", where=Where(file=str(path)))
    return bits


def _matrix(tags: _Tags, lines: int) -> yuv.Matrix:
    return MATRICES.get(tags.matrix, "709" if lines >= HD_LINES else "601")


def _rgb(frame: Any, tags: _Tags, path: Path) -> np.ndarray:
    pixel_format = frame.format
    bits = max(component.bits for component in pixel_format.components)
    planes = _planes(frame, bits)
    if pixel_format.is_rgb:
        return np.stack(planes, axis=-1).astype(np.float32) / np.float32((1 << bits) - 1)
    if tags.matrix not in UNSAID and tags.matrix not in MATRICES:
        what = f"{path.name} is coded by matrix {tags.matrix}, which is not supported"
        raise PlateUnreadable(what, fix="export it as BT.601, BT.709 or BT.2020", where=Where(file=str(path)))
    legal = tags.range != FULL_RANGE and not pixel_format.name.startswith("yuvj")
    height, width = planes[0].shape
    neutral = np.full((1, 1), 1 << (bits - 1), np.uint16)
    chroma = [yuv.chroma_to_full(plane, width=width, height=height) for plane in planes[1:3]] or [
        np.broadcast_to(neutral, (height, width))
    ] * 2
    return yuv.to_rgb(planes[0], chroma[0], chroma[1], matrix=_matrix(tags, height), bits=bits, legal=legal)


def _planes(frame: Any, bits: int) -> list[np.ndarray]:
    """R, G, B or luma, Cb, Cr as 2-D arrays of code values; alpha left out."""
    pixel_format, name = frame.format, frame.format.name
    kind = np.dtype(np.uint8) if bits == 8 else np.dtype(">u2" if pixel_format.is_big_endian else "<u2")

    def plane(index: int, samples: int = 1) -> np.ndarray:
        source = frame.planes[index]
        rows = np.frombuffer(source, kind).reshape(source.height, source.line_size // kind.itemsize)
        return rows[:, : source.width * samples]

    if name in PACKED_RGB:
        order = PACKED_RGB[name]
        return [plane(0, len(order))[:, order.index(letter) :: len(order)] for letter in "rgb"]
    if name in PACKED_YUV:
        luma, cb, cr = PACKED_YUV[name]
        samples = plane(0, 2)
        return [samples[:, luma::2], samples[:, cb::4], samples[:, cr::4]]
    if name in SEMI_PLANAR:
        shift = SEMI_PLANAR[name]
        pairs = plane(1, 2)
        return [part >> shift for part in (plane(0), pairs[:, 0::2], pairs[:, 1::2])]
    return [plane(component.plane) for component in pixel_format.components if not component.is_alpha]


# --------------------------------------------------------------------------- the review movie


def write_movie(
    path: Path, frames: Iterable[np.ndarray], *, rate: Fraction, timecode: str | None, pixel_aspect: float = 1.0
) -> int:
    """Write display-referred RGB frames as a ProRes 422 HQ .mov, tagged BT.709, legal range; returns how many.

    Each frame is (H, W, 3) float, all of one size; values are clipped to 0..1. An odd width or height is padded by
    repeating the edge, since 4:2:2 has none. `timecode` is HH:MM:SS:FF with `;` before FF when drop-frame.

    Raises StorageError; the movie appears whole or not at all. ValueError when there are no frames.
    """
    with written_whole(path) as part, av.open(f"file:{part.absolute()}", "w", format="mov") as container:
        return _encode(container, frames, rate, timecode, pixel_aspect)


def _encode(
    container: Any, frames: Iterable[np.ndarray], rate: Fraction, timecode: str | None, pixel_aspect: float
) -> int:
    stream: Any = None
    count = 0
    for count, rgb in enumerate(frames, start=1):
        video = _video_frame(rgb)
        if stream is None:
            stream = container.add_stream("prores_ks", rate=rate, options={"profile": "hq", "vendor": "apl0"})
            stream.width, stream.height, stream.pix_fmt = video.width, video.height, video.format.name
            context = stream.codec_context
            context.time_base = 1 / rate
            context.sample_aspect_ratio = Fraction(pixel_aspect).limit_denominator(1000)
            context.color_primaries = context.color_trc = context.colorspace = context.color_range = 1
            if timecode is not None:
                stream.metadata["timecode"] = timecode
        video.pts, video.time_base = count - 1, 1 / rate
        container.mux(stream.encode(video))
    if stream is None:
        raise ValueError("a movie has at least one frame")
    container.mux(stream.encode(None))
    return count


def _video_frame(rgb: np.ndarray) -> Any:
    height, width = rgb.shape[:2]
    even = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    luma, cb, cr = yuv.from_rgb(np.clip(even, 0.0, 1.0), matrix="709", bits=10, legal=True)
    video: Any = av.VideoFrame(even.shape[1], even.shape[0], "yuv422p10le")
    for index, plane in enumerate((luma, yuv.chroma_to_half_width(cb), yuv.chroma_to_half_width(cr))):
        target = video.planes[index]
        rows = np.zeros((target.height, target.line_size // 2), "<u2")
        rows[:, : target.width] = yuv.to_codes(plane, bits=10)
        target.update(rows.tobytes())
    video.color_primaries = video.color_trc = video.colorspace = video.color_range = 1
    return video
