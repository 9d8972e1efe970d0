"""Movies: read any frame exactly, and write a movie of frames.

Hides FFmpeg. Frame n is the n-th presentation time of the stream, from a table: the container's own index where every
frame is a key frame, else made by reading every packet once. A frame is found by decoding from the very packet of its
key frame until the time is equal. Dividing by the rate instead lands on the wrong frame three times in four in
long-GOP files (colour.md §4), and a seek in MPEG-TS may land behind the key frame.

Read in order, frames are decoded ahead by the codec's own threads, while the caller turns planes into RGB outside the
lock; a thread of ours on top gave nothing (measured).

Colour tags are taken from the container first and from the decoded frame second: DNxHR in .mov decodes as BT.709
whatever its container says.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Literal

import av
import av.error
import numpy as np
from av.sidedata.sidedata import Type as SideType
from av.stream import Discard, Disposition

from scail2_farm.documents import MovieCodec, written_whole
from scail2_farm.errors import FarmError, PlateMissing, PlateUnreadable, SubmissionInvalid, Where, storage_error
from scail2_farm.frames import exact_rate
from scail2_farm.media import yuv
from scail2_farm.media.containers import header_of, opened, packets_of
from scail2_farm.media.sound import Sound, SoundCopy

SUFFIXES = (".mov", ".mp4", ".mxf", ".mkv", ".ts", ".mts", ".m2ts", ".avi")
UNSAID = (0, 2)  # reserved and unspecified in ISO 23091-2
MATRICES: dict[int, yuv.Matrix] = {1: "709", 5: "601", 6: "601", 9: "2020"}
LEGAL_RANGE, FULL_RANGE = 1, 2
SEEK_EARLIER_S = 2
HD_LINES = 720  # an untagged movie with as many lines is taken for BT.709, with fewer for BT.601 (colour.md)
SITINGS: dict[tuple[int, int], yuv.Siting] = {(1, 2): "left", (2, 2): "centre", (1, 1): "topleft", (2, 1): "top"}
"""By Matroska's ChromaSitingHorz and ChromaSitingVert (RFC 9559): 1 on a luma sample, 2 midway."""
FIELD_ORDERS = {2: "top field first", 3: "bottom field first", 4: "top field first", 5: "bottom field first"}
PACKED_RGB = {
    "rgb24": "rgb", "bgr24": "bgr", "rgba": "rgba", "bgra": "bgra", "argb": "argb", "abgr": "abgr",
    "rgb0": "rgb0", "bgr0": "bgr0", "0rgb": "0rgb", "0bgr": "0bgr", "rgb48le": "rgb", "rgb48be": "rgb",
    "bgr48le": "bgr", "rgba64le": "rgba", "rgba64be": "rgba", "bgra64le": "bgra",
}  # fmt: skip
PACKED_YUV = {"uyvy422": (1, 0, 2), "yuyv422": (0, 1, 3)}  # offsets of luma, Cb, Cr
SEMI_PLANAR = {"nv12": 0, "p010le": 6, "p012le": 4, "p016le": 0, "nv16": 0, "p210le": 6}  # unused low bits
CODEC_NAMES = {
    "h264": "H.264", "hevc": "HEVC", "mpeg2video": "MPEG-2", "mpeg4": "MPEG-4", "ffv1": "FFV1", "mjpeg": "Motion JPEG",
    "cfhd": "CineForm", "qtrle": "Animation", "png": "PNG", "jpeg2000": "JPEG 2000", "huffyuv": "HuffYUV",
    "dvvideo": "DV", "vp9": "VP9", "av1": "AV1", "libdav1d": "AV1", "rawvideo": "uncompressed",
    "v210": "uncompressed v210", "r210": "uncompressed r210",
}  # fmt: skip
PRORES_NAMES = {"HQ": "422 HQ", "Standard": "422", "LT": "422 LT", "Proxy": "422 Proxy", "XQ": "4444 XQ"}
NO_MOVIES = {
    b"\x76\x2f\x31\x01": "an EXR picture", b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture",
    b"II*\x00": "a TIFF picture", b"MM\x00*": "a TIFF picture", b"SDPX": "a DPX picture", b"XPDS": "a DPX picture",
    b"WAVE": "sound alone", b"fLaC": "sound alone", b"ID3": "sound alone", b"#EXTM3U": "a playlist",
}  # fmt: skip
"""What files that are no movies have in their first bytes."""


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
    """An open movie: what it is, and any frame of it. Several threads may read.

    `codec` as people call it, `pixel_format` as FFmpeg does; `bits` per component; `audio` one line per stream.
    Raises PlateMissing, PlateUnreadable, StorageError on opening.
    """

    def __init__(self, path: Path):
        self.path = path
        self._where = Where(file=str(path))
        self._lock = Lock()  # one decoder, however many threads read
        self._container, self._stream = self._open()
        try:
            self._time_base = Fraction(self._stream.time_base)
            self._container_tags = _Tags.of(self._stream.codec_context)
            self._header = header_of(self._stream)
            self._times, self._keys = self._read_times()
            self._decoded: Iterator[Any] = iter(())
            self._position = len(self._times)  # the frame the decoder gives next; past the end: seek first
            self._latest: tuple[int, Any] | None = None
            first = self._first_frame()
            dropped = self._drop_before(first.pts)
            self.rate = self._read_rate()
            self.timecode = self._read_timecode()
            self._tags = self._container_tags.over(_Tags.of(first))
            self._siting: yuv.Siting = SITINGS.get(self._header.siting, "left")
            self.bits = _bits(first.format, path)
            self.pixel_format: str = first.format.name
            self.has_alpha = any(component.is_alpha for component in first.format.components)
            self.width, self.height = int(first.width), int(first.height)
            aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
            self.pixel_aspect = float(aspect) if aspect else 1.0
            self.codec = _codec_words(self._stream.codec_context)
            self.audio = tuple(_sound_words(stream) for stream in self._container.streams.audio)
            self.warnings = tuple(self._doubts(first, dropped))
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

        Raises PlateMissing, PlateUnreadable, StorageError.
        """
        if not 0 <= n < self.count:
            raise PlateMissing(f"{self.path.name} has {self.count} frames; {n} is not there", where=self._where)
        with self._lock:
            frame = self._find(n)
        if (frame.width, frame.height) != (self.width, self.height):
            raise self._unreadable(f"changes its size at frame {n}")
        return _rgb(frame, self._tags, self._siting, self.path)

    def span(self, first: int, count: int) -> tuple[Fraction, Fraction]:
        """When frame `first` begins and the last of `count` ends, in seconds of the container's clock.

        Frames before the first and after the last are counted on at the rate.
        """
        return self._begin(first), self._begin(first + count)

    def _begin(self, n: int) -> Fraction:
        there = min(max(n, 0), self.count - 1)
        return self._times[there] * self._time_base + (n - there) / self.rate

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._container.close()

    def __enter__(self) -> MovieReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()

    # ------------------------------------------------------------------- opening

    def _open(self) -> tuple[Any, Any]:
        """The container and its picture stream."""
        if not self.path.is_file():
            raise PlateMissing(f"{self.path.name} is not there", where=self._where)
        try:
            container = opened(self.path)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise self._fault(error, "is not a complete movie") from None
        try:
            return container, self._video_stream(container)
        except BaseException:
            container.close()
            raise

    def _unreadable(self, what: str, fix: str | None = None) -> PlateUnreadable:
        return PlateUnreadable(f"{self.path.name} {what}", fix=fix, where=self._where)

    def _fault(self, error: Exception, what: str) -> FarmError:
        """The error to raise for one of FFmpeg's: of the disk when the file cannot be read by other means either."""
        try:
            with self.path.open("rb") as file:
                start = file.read(16)
                file.seek(self.path.stat().st_size // 2)
                file.read(1)
        except OSError as disk:
            return storage_error(disk, self.path)
        held = "nothing" if not start else next((words for magic, words in NO_MOVIES.items() if magic in start), None)
        reason = f"it holds {held}" if held else getattr(error, "strerror", None) or error
        return self._unreadable(f"{what}: {reason}")

    def _video_stream(self, container: Any) -> Any:
        found = None
        for stream in container.streams:
            if found is None and stream.type == "video" and not stream.disposition & Disposition.attached_pic:
                found = stream
            else:
                stream.discard = Discard.all
        if found is None:
            raise self._unreadable("holds no video")
        if found.codec_context is None:
            raise self._unreadable(
                "is in a codec this machine cannot decode", "export it as ProRes, DNxHR, H.264 or HEVC"
            )
        found.thread_type = "AUTO"
        found.codec_context.options = {"err_detect": "explode"}  # a damaged frame is an error, never mended by guessing
        return found

    def _read_times(self) -> tuple[list[int], list[int]]:
        """The presentation time of every frame and of every key frame, in order.

        A key frame that the container's edit leaves out is among the latter alone.
        """
        indexed = self._indexed_times()
        if indexed is not None:
            return indexed, indexed
        times: set[int] = set()
        keys: set[int] = set()
        packets = 0
        try:
            for packet in packets_of(self._container, self._stream):
                if not packet.size:
                    continue
                packets += 1
                if packet.is_corrupt:
                    raise self._unreadable("holds a frame that is damaged or cut off")
                if packet.pts is None:
                    raise self._unreadable("holds a frame that has no time")
                if packet.is_keyframe:
                    keys.add(packet.pts)
                if packet.is_discard:
                    continue
                if packet.pts in times:
                    raise self._unreadable("has two frames at one time")
                times.add(packet.pts)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise self._fault(error, "does not read to its end") from None
        if not times or not keys:
            raise self._unreadable("holds no key frame" if times else "holds no frames")
        self._require_whole(packets, times)
        return sorted(times), sorted(keys)

    def _require_whole(self, packets: int, times: set[int]) -> None:
        """Refuse a movie that has fewer frames than its container says, where it says so."""
        there, expected, kind = packets, self._stream.frames, self._container.format.name
        if "mov" in kind:  # its index is of the edit, `frames` of all that is stored
            expected = sum(entry.size > 0 for entry in self._stream.index_entries)
        elif kind == "avi":  # it counts frames that are left out, too
            there = max(times) + 1
        elif kind == "mxf" and max(times) - min(times) == len(times) - 1:  # its unit of time is the frame
            expected = self._stream.duration or 0
        if there < expected:
            raise self._unreadable(f"is cut short: {there} of {expected} frames are there")

    def _indexed_times(self) -> list[int] | None:
        """The times of the container's own index, when each sample has one and is a key frame; else None."""
        entries, context = self._stream.index_entries, self._stream.codec_context
        if "mov" not in self._container.format.name or not context.codec.intra_only:
            return None
        if not len(entries) or not self._stream.frames or not all(entry.size for entry in entries):
            return None
        size = self.path.stat().st_size
        there = sum(entry.pos + entry.size <= size for entry in entries)
        if there < len(entries):
            raise self._unreadable(f"is cut short: {there} of {len(entries)} frames are there")
        times = [entry.timestamp for entry in entries if not entry.is_discard]
        try:
            packet = next(packet for packet in packets_of(self._container, self._stream) if not packet.is_discard)
        except (av.error.FFmpegError, StopIteration, ValueError, OSError):
            return None
        rising = all(earlier < later for earlier, later in itertools.pairwise(times))
        return times if rising and packet.pts == times[0] else None

    def _first_frame(self) -> Any:
        """The first frame that decodes. An MPEG-TS cut anywhere, or an open GOP, begins with frames that cannot."""
        if not self._start_at(self._keys[0]) or (first := self._decode_from(self._times[0])) is None:
            raise self._unreadable("does not give its first frame")
        return first

    def _drop_before(self, first: int) -> int:
        """Leave the frames before this time out of the table; how many they are. None of them is a key frame."""
        dropped = bisect_left(self._times, first)
        if not set(self._keys).isdisjoint(self._times[:dropped]) or self._times[dropped : dropped + 1] != [first]:
            raise self._unreadable("does not give its first frame")
        self._times = self._times[dropped:]
        self._position = 1
        return dropped

    def _read_rate(self) -> Fraction:
        """The exact rate: one frame per step of the table where all steps are equal, else the average."""
        steps = {later - earlier for earlier, later in itertools.pairwise(self._times)}
        if len(steps) == 1:
            return exact_rate(1 / (steps.pop() * self._time_base))
        rate = self._stream.average_rate or self._stream.guessed_rate
        if not rate:
            raise self._unreadable("does not say its frame rate")
        return exact_rate(rate)

    def _read_timecode(self) -> str | None:
        streams = [self._stream, *self._container.streams.data]
        places = [stream.metadata for stream in streams] + [self._container.metadata]
        return next((place["timecode"] for place in places if place.get("timecode")), None)

    def _doubts(self, first: Any, dropped: int) -> Iterator[str]:
        """What the user should know about how the movie is read."""
        if first.rotation:
            raise self._unreadable(
                f"asks to be turned by {first.rotation} degrees", "bake the rotation into the picture"
            )
        pictures = sum(not stream.disposition & Disposition.attached_pic for stream in self._container.streams.video)
        if pictures > 1:
            yield f"the movie holds {pictures} picture streams: the first is read"
        if dropped:
            yield f"the movie begins with {dropped} frames that need others before them: they are left out"
        yield from self._color_doubts(first)
        if first.interlaced_frame or self._stream.codec_context.field_order in FIELD_ORDERS:
            order = FIELD_ORDERS.get(self._stream.codec_context.field_order, "field order not said")
            yield f"the movie is interlaced ({order}): fields are not separated"
        said, there = self._said_duration(), self._times[-1] * self._time_base + 1 / self.rate
        if said > there:
            yield f"the movie ends at {float(there):.2f} s and says it lasts {float(said):.2f} s: it may be cut short"
        if any(self._header.crop):
            left, top, right, bottom = self._header.crop
            size = f"{self.width - left - right}x{self.height - top - bottom}"
            yield f"the movie says a clean aperture of {size} at {left},{top}: all {self.width}x{self.height} are read"
        step = 1 / self.rate / self._time_base
        start = self._times[0]
        if any(abs(time - start - step * n) > max(step / 2, 1) for n, time in enumerate(self._times)):
            yield "the movie has a variable frame rate: frames are taken one for one"

    def _said_duration(self) -> Fraction:
        """How long Matroska's tags say the picture lasts, less a frame and a half for roundings; else 0."""
        match = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", self._stream.metadata.get("DURATION", ""))
        if not match:
            return Fraction(0)
        return int(match[1]) * 3600 + int(match[2]) * 60 + Fraction(match[3]) - Fraction(3, 2) / self.rate

    def _color_doubts(self, first: Any) -> Iterator[str]:
        own, said = _Tags.of(first), self._container_tags.matrix
        if not first.format.is_rgb and self._tags.matrix in UNSAID:
            legal = "full" if _is_full(self._tags, first.format) else "legal"
            yield f"the movie does not say its matrix: read as BT.{_matrix(self._tags, self.height)}, {legal} range"
        if first.format.is_rgb and self._tags.range == LEGAL_RANGE:
            yield "the movie is RGB and tagged legal range: it is read as full range"
        if said not in UNSAID and own.matrix not in UNSAID and said != own.matrix:
            yield f"container and frames disagree about the matrix ({said}, {own.matrix}): the container is believed"
        if SideType.MASTERING_DISPLAY_METADATA in {part.type for part in first.side_data}:
            yield "the movie describes its mastering display: that is not used"

    # ------------------------------------------------------------------- finding a frame

    def _find(self, n: int) -> Any:
        """The decoded frame n: go on from where the decoder stands, else from its key frame, else from ever earlier."""
        if self._latest is not None and self._latest[0] == n:
            return self._latest[1]
        wanted = self._times[n]
        behind = max(0, bisect_right(self._keys, wanted) - 1)
        near = self._position <= n and self._keys[behind] <= self._times[self._position]
        frame = self._decode_until(wanted) if near else None
        for start in dict.fromkeys((behind, max(0, behind - 1), 0)) if frame is None else ():
            if self._start_at(self._keys[start]) and (frame := self._decode_until(wanted)) is not None:
                break
        if frame is None:
            raise self._unreadable(f"does not give its frame {n} (counted from 0)")
        self._position = n + 1
        self._latest = (n, frame)
        return frame

    def _start_at(self, time: int) -> bool:
        """Make the decoder begin with the very packet of the key frame of that time; False when it is not found."""
        self._position = self.count
        earlier = time - round(SEEK_EARLIER_S / self._time_base)
        for rewind in (lambda: self._seek(time), lambda: self._seek(earlier), self._reopen):
            rewind()
            try:
                packets = packets_of(self._container, self._stream)
                for packet in packets:
                    if packet.pts == time:
                        self._decoded = self._decode(packet, packets)
                        return True
                    if packet.dts is not None and packet.dts > time:
                        break
            except (av.error.FFmpegError, ValueError, OSError) as error:
                raise self._fault(error, "does not read to its end") from None
        return False

    def _seek(self, time: int) -> None:
        try:
            self._container.seek(time, backward=True, any_frame=False, stream=self._stream)
        except (av.error.FFmpegError, ValueError, OSError):
            self._reopen()

    def _reopen(self) -> None:
        """Read from the start again."""
        self._container.close()
        self._container, self._stream = self._open()

    def _decode(self, first: Any, rest: Iterator[Any]) -> Iterator[Any]:
        """The frames of these packets, of the first one's time and later.

        What is shown before it may need frames from before it, and not decode: that is no fault.
        """
        begun = False
        for packet in itertools.chain([first], rest):
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, ValueError, OSError) as error:
                if begun:
                    raise self._fault(error, "does not decode") from None
                continue
            begun = begun or any(frame.pts is not None and frame.pts >= first.pts for frame in frames)
            yield from frames

    def _decode_from(self, time: int) -> Any:
        """The first frame of that time or later that the decoder gives, or None."""
        for frame in self._decoded:
            if frame.pts is not None and frame.pts >= time:
                if frame.is_corrupt:
                    raise self._unreadable(f"is damaged at time {frame.time:.3f} s")
                return frame
        return None

    def _decode_until(self, wanted: int) -> Any:
        """The frame of that time, or None when the decoder is past it or at the end."""
        self._position = self.count
        frame = self._decode_from(wanted)
        return frame if frame is not None and frame.pts == wanted else None


# --------------------------------------------------------------------------- in words


def _codec_words(context: Any) -> str:
    """A codec and its profile, as people call them."""
    name, profile = context.codec.name, context.profile
    if name == "prores":
        return f"ProRes {PRORES_NAMES.get(profile, profile or '422')}"
    if name == "dnxhd":
        return (profile or "DNxHD").replace("DNXHD", "DNxHD").replace("DNXHR", "DNxHR")
    return " ".join(word for word in (CODEC_NAMES.get(name, name), profile) if word)


def _sound_words(stream: Any) -> str:
    """An audio stream in a line: codec, rate, channels."""
    context = stream.codec_context
    if context is None:
        return "in a codec this machine cannot decode"
    pcm = re.fullmatch(r"pcm_[a-z](\d+)\w*", context.name)
    codec = f"PCM {pcm[1]} bit" if pcm else context.name.removesuffix("float").upper()
    return f"{codec}, {context.sample_rate} Hz, {context.layout.name}"


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


def _is_full(tags: _Tags, pixel_format: Any) -> bool:
    return tags.range == FULL_RANGE or pixel_format.name.startswith("yuvj")


def _rgb(frame: Any, tags: _Tags, siting: yuv.Siting, path: Path) -> np.ndarray:
    pixel_format = frame.format
    bits = max(component.bits for component in pixel_format.components)
    planes = _planes(frame, bits)
    if pixel_format.is_rgb:
        return np.stack(planes, axis=-1).astype(np.float32) / np.float32((1 << bits) - 1)
    if tags.matrix not in UNSAID and tags.matrix not in MATRICES:
        what = f"{path.name} is coded by matrix {tags.matrix}, which is not supported"
        raise PlateUnreadable(what, fix="export it as BT.601, BT.709 or BT.2020", where=Where(file=str(path)))
    legal = not _is_full(tags, pixel_format)
    height, width = planes[0].shape
    neutral = np.full((1, 1), 1 << (bits - 1), np.uint16)
    chroma = [yuv.chroma_to_full(plane, width=width, height=height, siting=siting) for plane in planes[1:3]]
    chroma = chroma or [np.broadcast_to(neutral, (height, width))] * 2
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


# --------------------------------------------------------------------------- movies out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Coding:
    encoder: str
    pixel_format: Literal["yuv422p10le", "yuv444p10le", "yuv420p"]
    options: dict[str, str]
    suffixes: tuple[str, ...] = (".mov",)
    least: tuple[int, int] = (16, 16)


CODINGS: dict[MovieCodec, _Coding] = {
    "prores": _Coding(encoder="prores_ks", pixel_format="yuv422p10le", options={"profile": "hq", "vendor": "apl0"}),
    "prores4444": _Coding(
        encoder="prores_ks", pixel_format="yuv444p10le", options={"profile": "4444", "vendor": "apl0"}
    ),
    "dnxhr": _Coding(encoder="dnxhd", pixel_format="yuv422p10le", options={"profile": "dnxhr_hqx"}, least=(256, 120)),
    "h264": _Coding(
        encoder="libx264",
        pixel_format="yuv420p",
        options={"profile": "high", "crf": "16"},
        suffixes=(".mp4", ".mov"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """How many frames a movie got, and what its reader should know of it: a line each."""

    frames: int
    notes: tuple[str, ...] = ()


def movie_suffix(codec: MovieCodec) -> str:
    """The suffix of a movie's file: .mov, of H.264 .mp4 (which may be .mov as well)."""
    return CODINGS[codec].suffixes[0]


def check_size(codec: MovieCodec, *, width: int, height: int) -> None:
    """Raises SubmissionInvalid for a picture the codec cannot hold."""
    least = CODINGS[codec].least
    if width < least[0] or height < least[1]:
        what = f"a movie of {width}x{height} cannot be {codec}: that takes {least[0]}x{least[1]} and more"
        raise SubmissionInvalid(what, fix="name another codec for the movie, such as prores or h264")


def write_movie(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    rate: Fraction,
    timecode: str | None,
    pixel_aspect: float = 1.0,
    codec: MovieCodec = "prores",
    audio: Sound | None = None,
) -> Written:
    """Write display-referred RGB frames as ProRes 422 HQ, ProRes 4444, DNxHR HQX or H.264 High, BT.709, legal range.

    Each frame is (H, W, 3) float, all of one size; values are clipped to 0..1. An odd width or height is padded by
    repeating the edge where chroma is halved. `timecode` is HH:MM:SS:FF with `;` before FF when drop-frame. `audio`
    is copied packet by packet, every stream the container can hold; what it cannot is left out and noted.

    Raises StorageError, SubmissionInvalid for a size the codec cannot hold, and what opening the audio's movie raises;
    the movie appears whole or not at all. ValueError when there are no frames or the suffix is of another container.
    """
    coding = CODINGS[codec]
    if path.suffix.lower() not in coding.suffixes:
        raise ValueError(f"a movie in {codec} ends in {' or '.join(coding.suffixes)}, not {path.suffix}")
    container_format = path.suffix.lower().removeprefix(".")
    flags = {"movflags": "+faststart"} if codec == "h264" else {}
    with _sound_of(audio) as sound, written_whole(path) as part:
        address = f"file:{part.absolute()}"
        with av.open(address, "w", format=container_format, container_options=flags) as container:
            movie = _MovieWriter(container, codec, rate, timecode, Fraction(pixel_aspect).limit_denominator(1000))
            for rgb in frames:
                movie.add(rgb, sound)
            movie.finish(sound)
    return Written(frames=movie.count, notes=sound.notes if sound else ())


def _sound_of(audio: Sound | None) -> SoundCopy | nullcontext[None]:
    """The sound of the plate's frames, open."""
    if audio is None:
        return nullcontext()
    with MovieReader(audio.path) as plate:
        start, end = plate.span(audio.frames.first, audio.frames.count)
    return SoundCopy(audio.path, start=start, end=end)


class _MovieWriter:
    """One movie being written: frames, and the sound that goes with each."""

    def __init__(self, container: Any, codec: MovieCodec, rate: Fraction, timecode: str | None, pixel_aspect: Fraction):
        self.count = 0
        self._container = container
        self._codec: MovieCodec = codec
        self._rate = rate
        self._timecode = timecode
        self._pixel_aspect = pixel_aspect
        self._stream: Any = None

    def add(self, rgb: np.ndarray, sound: SoundCopy | None) -> None:
        """Encode the next frame."""
        coding = CODINGS[self._codec]
        video = _video_frame(rgb, coding.pixel_format)
        if self._stream is None:
            check_size(self._codec, width=rgb.shape[1], height=rgb.shape[0])
            self._stream = self._begin(video, coding)
            if sound is not None:
                sound.add_streams(self._container)
        video.pts, video.time_base = self.count, 1 / self._rate
        self.count += 1
        self._container.mux(self._stream.encode(video))
        if sound is not None:
            sound.copy(self._container, until=self.count / self._rate)

    def finish(self, sound: SoundCopy | None) -> None:
        """Encode what the encoder still holds."""
        if self._stream is None:
            raise ValueError("a movie has at least one frame")
        self._container.mux(self._stream.encode(None))
        if sound is not None:
            sound.copy(self._container, until=None)

    def _begin(self, video: Any, coding: _Coding) -> Any:
        """The picture's stream."""
        stream = self._container.add_stream(coding.encoder, rate=self._rate, options=dict(coding.options))
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, coding.pixel_format
        stream.thread_type = "AUTO"
        context = stream.codec_context
        context.time_base = 1 / self._rate
        context.sample_aspect_ratio = self._pixel_aspect
        context.color_primaries = context.color_trc = context.colorspace = context.color_range = 1
        if self._timecode is not None:
            stream.metadata["timecode"] = self._timecode
        return stream


def _video_frame(rgb: np.ndarray, pixel_format: str) -> Any:
    """RGB as a frame of legal BT.709 codes: (H, W, 3) float clipped to 0..1."""
    bits = 10 if pixel_format.endswith("10le") else 8
    wide, high = pixel_format.startswith(("yuv422", "yuv420")), pixel_format.startswith("yuv420")
    height, width = rgb.shape[:2]
    even = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if wide else rgb
    planes = yuv.from_rgb(np.clip(even, 0.0, 1.0), matrix="709", bits=bits, legal=True)
    video: Any = av.VideoFrame(even.shape[1], even.shape[0], pixel_format)
    kind = np.dtype(np.uint8) if bits == 8 else np.dtype("<u2")
    for index, full in enumerate(planes):
        plane = yuv.chroma_to_half_width(full) if index and wide else full
        plane = yuv.chroma_to_half_height(plane) if index and high else plane
        target = video.planes[index]
        rows = np.zeros((target.height, target.line_size // kind.itemsize), kind)
        rows[:, : target.width] = yuv.to_codes(plane, bits=bits)
        target.update(rows.tobytes())
    video.color_primaries = video.color_trc = video.colorspace = video.color_range = 1
    return video
