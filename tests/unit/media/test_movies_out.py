"""Movies written: every codec read back, its tags in container and stream, its timecode, and the plate's sound."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from movie_clips import index_of, picture

from scail2_farm.documents import MovieCodec
from scail2_farm.errors import DiskFull, PlateMissing, PlateUnreadable, SubmissionInvalid
from scail2_farm.frames import FrameRange
from scail2_farm.media import movies, yuv
from scail2_farm.media.movies import MovieReader, movie_suffix, write_movie
from scail2_farm.media.sound import Sound

CODECS: tuple[tuple[MovieCodec, str, str, int], ...] = (
    ("prores", "ProRes 422 HQ", "yuv422p10le", 10),
    ("prores4444", "ProRes 4444", "yuv444p12le", 12),
    ("dnxhr", "DNxHR HQX", "yuv422p10le", 10),
    ("h264", "H.264 High", "yuv420p", 8),
)


def gradient(index: int, width: int, height: int) -> np.ndarray:
    x = np.linspace(0, 0.6, width, dtype=np.float32)[None, :, None]
    y = np.linspace(0, 0.2, height, dtype=np.float32)[:, None, None]
    tint = np.array([1.0, 0.8, 0.6], np.float32)
    return (x + y + index * 0.01) * tint


@pytest.mark.parametrize(
    ("rate", "code"),
    [
        (Fraction(24), "01:00:00:00"),
        (Fraction(24000, 1001), "10:20:30:12"),
        (Fraction(30000, 1001), "00:59:59;28"),
        (Fraction(25), None),
        (Fraction(60), "09:59:59:58"),
    ],
)
@pytest.mark.parametrize(("codec", "name", "pixel_format", "bits"), CODECS)
def test_a_movie_reads_back(tmp_path, codec, name, pixel_format, bits, rate, code):
    frames = [gradient(index, 256, 128) for index in range(7)]
    path = tmp_path / f"v001{movie_suffix(codec)}"
    written = write_movie(path, iter(frames), rate=rate, timecode=code, codec=codec, pixel_aspect=2.0)
    assert (written.frames, written.notes) == (7, ())
    with MovieReader(path) as movie:
        assert (movie.count, movie.rate, movie.timecode, movie.pixel_aspect) == (7, rate, code, 2.0)
        assert (movie.codec, movie.pixel_format, movie.bits, movie.has_alpha) == (name, pixel_format, bits, False)
        assert (movie.nclc, movie.warnings, movie.audio) == ("1/1/1", (), ())
        for index in (6, 0, 3):
            error = np.abs(movie.read(index) - frames[index])
            assert error.mean() < (1.2 if bits == 8 else 0.3) / 219
            assert error.max() < (6 if bits == 8 else 1.5) / 219
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("codec", [row[0] for row in CODECS])
@pytest.mark.parametrize("suffix", [".mov", ".mp4"])
def test_tags_stand_in_the_container_and_in_the_stream(tmp_path, codec, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".mp4" and codec != "h264":
        with pytest.raises(ValueError, match="ends in"):
            write_movie(path, [np.ones((128, 256, 3))], rate=Fraction(24), timecode=None, codec=codec)
        return
    write_movie(
        path, [np.ones((128, 256, 3)) * [1.5, 1.0, 1.0]], rate=Fraction(24), timecode="00:00:00:00", codec=codec
    )
    written = path.read_bytes()
    kind = b"nclx" if suffix == ".mp4" else b"nclc"
    assert written.count(b"colr" + kind + bytes([0, 1, 0, 1, 0, 1])) == 1
    assert written.count(b"tmcd") >= 2
    assert (written.index(b"moov") < written.index(b"mdat")) == (codec == "h264")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert movies._Tags.of(stream.codec_context) == movies._Tags(1, 1, 1, 1)
        frame = next(container.decode(video=0))
        assert movies._Tags.of(frame) == movies._Tags(1, 1, 1, 1)
        assert not frame.interlaced_frame
        bits = frame.format.components[0].bits
        luma = np.frombuffer(bytes(frame.planes[0]), np.uint8 if bits == 8 else np.dtype("<u2"))
        assert abs(int(luma[0]) - (235 << (bits - 8))) <= 1 << max(0, bits - 10)


@pytest.mark.parametrize("pixel_format", ["yuv422p10le", "yuv444p10le", "yuv420p"])
def test_what_is_given_to_the_encoder_are_the_codes_of_the_oracle(media, pixel_format):
    bits = 8 if pixel_format == "yuv420p" else 10
    cases = json.loads((media / "oracle/yuv.json").read_text())["cases"]
    (case,) = (c for c in cases if (c["matrix"], c["bits"], c["legal"]) == ("ITU-R BT.709", bits, True))
    kind = np.dtype(np.uint8) if bits == 8 else np.dtype("<u2")
    for rgb, expected in zip(case["rgb"], case["codes"], strict=True):
        video = movies._video_frame(np.tile(rgb, (6, 8, 1)), pixel_format)
        for plane, code in zip(video.planes, expected, strict=True):
            rows = np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width]
            assert (rows == code).all()


def test_halved_chroma_lies_where_it_is_read(tmp_path):
    """Written and read back without a codec, a ramp of chroma is the same ramp."""
    ramp = np.linspace(0.2, 0.6, 32)[None, :, None] * np.array([1.0, 0.5, 0.2]) + np.zeros((16, 1, 1))
    for pixel_format in ("yuv422p10le", "yuv420p"):
        video = movies._video_frame(ramp, pixel_format)
        back = movies._rgb(video, movies._Tags(1, 1, 1, 1), "left", Path("made"))
        step = 1 / 219 if pixel_format == "yuv420p" else 1 / 876
        assert np.abs(back - ramp)[:, 2:-2].max() < 1.6 * step


@pytest.mark.parametrize("codec", [row[0] for row in CODECS])
def test_odd_sizes_are_padded_by_the_edge_where_chroma_is_halved(tmp_path, codec):
    frame = gradient(0, 257, 121)
    path = tmp_path / f"odd{movie_suffix(codec)}"
    write_movie(path, [frame], rate=Fraction(24), timecode=None, codec=codec)
    with MovieReader(path) as movie:
        assert (movie.width, movie.height) == ((257, 121) if codec == "prores4444" else (258, 122))
        assert np.abs(movie.read(0)[:121, :257] - frame).max() < 6 / 219


def test_a_picture_too_small_for_the_codec_is_refused_before_it_is_written(tmp_path):
    movies.check_size("dnxhr", width=256, height=120)
    with pytest.raises(SubmissionInvalid, match="255x120"):
        movies.check_size("dnxhr", width=255, height=120)
    with pytest.raises(SubmissionInvalid, match="64x48 cannot be dnxhr"):
        write_movie(tmp_path / "a.mov", [gradient(0, 64, 48)], rate=Fraction(24), timecode=None, codec="dnxhr")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("codec", [row[0] for row in CODECS if row[0] != "dnxhr"])
def test_the_least_picture_is_written(tmp_path, codec):
    path = tmp_path / f"a{movie_suffix(codec)}"
    write_movie(path, [gradient(0, 16, 16)] * 3, rate=Fraction(24), timecode=None, codec=codec)
    with MovieReader(path) as movie:
        assert (movie.count, movie.width, movie.height) == (3, 16, 16)


@pytest.mark.parametrize("codec", ["prores", "h264"])
def test_a_movie_that_fails_leaves_nothing(tmp_path, codec):
    path = tmp_path / f"a{movie_suffix(codec)}"

    def frames():
        yield gradient(0, 32, 16)
        raise RuntimeError("the frame after does not read")

    with pytest.raises(RuntimeError):
        write_movie(path, frames(), rate=Fraction(24), timecode=None, codec=codec)
    with pytest.raises(ValueError):
        write_movie(path, [], rate=Fraction(24), timecode=None, codec=codec)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("codec", ["prores", "h264"])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, codec):
    path = tmp_path / f"a{movie_suffix(codec)}"
    path.with_name(path.name + ".part").symlink_to("/dev/full")
    noise = np.random.default_rng(1).random((240, 320, 3))
    with pytest.raises(DiskFull):
        write_movie(path, [noise] * 30, rate=Fraction(24), timecode=None, codec=codec)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------- the plate's sound

HERTZ = 48000
RATE = Fraction(25)
PLATES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "pcm.mov": ("prores_ks", "yuv422p10le", ("pcm_s24le", "pcm_s16le")),
    "aac.mp4": ("libx264", "yuv420p", ("aac",)),
    "pcm.mxf": ("mpeg2video", "yuv420p", ("pcm_s24le",)),
    "two.ts": ("libx264", "yuv420p", ("mp2", "aac")),
    "offset.mkv": ("libx264", "yuv420p", ("pcm_s16le",)),
    "flac.mkv": ("ffv1", "yuv422p10le", ("flac",)),
}

SOUND_WORDS = {"pcm_s24le": "PCM 24 bit", "pcm_s16le": "PCM 16 bit", "aac": "AAC", "mp2": "MP2", "flac": "FLAC"}


def loud(frame: int) -> bool:
    """Whether a frame of the plate below is loud; no stretch of 20 frames is like another."""
    return bool((frame * frame) % 7 < 3)


def plate_with_sound(path: Path, encoder: str, pixel_format: str, sounds: tuple[str, ...], count: int = 300) -> Path:
    """A plate whose frames show their index, and sound as `loud` says."""
    shift = 500 if path.name == "offset.mkv" else 0
    samples = np.arange(count * HERTZ // int(RATE))
    pattern = np.array([0.8 if loud(frame) else 0.01 for frame in range(count)])
    tone = np.sin(samples * 2 * np.pi * 1000 / HERTZ) * pattern[samples * int(RATE) // HERTZ]
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(encoder, rate=RATE, options={"bf": "2"} if "264" in encoder else {})
        video.width, video.height, video.pix_fmt = 64, 48, pixel_format
        video.codec_context.time_base = 1 / RATE
        streams: list[Any] = [container.add_stream(name, rate=HERTZ) for name in sounds]
        for stream in streams:
            stream.codec_context.layout = "stereo"
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index % 256), format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = index + shift, 1 / RATE
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for stream in streams:
            size = stream.codec_context.frame_size or 1024
            for at in range(0, len(tone), size):
                part = sound_frame(tone[at : at + size], stream.codec_context.format)
                part.pts, part.time_base = at + int(shift * HERTZ / RATE), Fraction(1, HERTZ)
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
    return path


def sound_frame(tone: np.ndarray, sample_format: Any) -> av.AudioFrame:
    kinds: dict[str, tuple[type, int]] = {
        "s16": (np.int16, 2**15 - 1),
        "s32": (np.int32, 2**31 - 2**8),
        "flt": (np.float32, 1),
    }
    kind, scale = kinds[sample_format.name.removesuffix("p")]
    values = (tone * scale).astype(kind)
    array = np.stack([values] * 2) if sample_format.is_planar else values.repeat(2)[None]
    frame = av.AudioFrame.from_ndarray(array, format=sample_format.name, layout="stereo")
    frame.sample_rate = HERTZ
    return frame


def heard(path: Path, number: int, count: int) -> list[bool]:
    """Whether each frame of a movie is loud in its middle."""
    sound = np.zeros(2 * count * HERTZ // int(RATE))
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.audio[number]):
            assert frame.pts is not None
            assert frame.time_base is not None
            at = round(frame.pts * frame.time_base * HERTZ)
            array = frame.to_ndarray().astype(np.float64)
            values = array[0] if frame.format.is_planar else array[0][::2]
            values /= {"s16": 2**15, "s32": 2**31, "flt": 1}[frame.format.name.removesuffix("p")]
            sound[max(0, at) : at + len(values)] = values[max(0, -at) :]
    middles = sound[: count * HERTZ // int(RATE)].reshape(count, -1)[:, 600:1300]
    return [bool(level > 0.2) for level in np.sqrt((middles**2).mean(axis=1))]


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The plates with sound, by name."""
    folder = tmp_path_factory.mktemp("plates")
    return {name: plate_with_sound(folder / name, *how) for name, how in PLATES.items()}


@pytest.mark.parametrize("name", PLATES)
@pytest.mark.parametrize("codec", ["prores", "h264"])
@pytest.mark.parametrize("first", [0, 13, 251])
def test_the_plates_sound_is_copied_in_sync(tmp_path, plates, name, codec, first):
    path = tmp_path / f"take{movie_suffix(codec)}"
    frames = (picture(n) / 255 for n in range(20))
    sound = Sound(path=plates[name], frames=FrameRange(first, 20))
    written = write_movie(path, frames, rate=RATE, timecode="01:00:00:00", codec=codec, audio=sound)
    with MovieReader(path) as movie:
        assert (movie.count, movie.rate, movie.timecode) == (20, RATE, "01:00:00:00")
        assert [index_of(movie.read(n)) for n in range(20)] == list(range(20))
        if name == "flac.mkv" and codec == "prores":
            assert written.notes == ("audio stream 1 of flac.mkv is left out: a .mov movie cannot hold its flac",)
            assert movie.audio == ()
            return
        assert written.notes == ()
        named = [SOUND_WORDS[kind] for kind in PLATES[name][2]]
        if codec == "h264":
            named = [word.replace("MP2", "MP3") for word in named]  # .mp4 has one name for both
        assert movie.audio == tuple(f"{word}, 48000 Hz, stereo" for word in named)
    with av.open(str(path)) as container:
        for stream in container.streams.audio:
            assert stream.duration is not None
            assert stream.time_base is not None
            packet = 0.1 if name == "flac.mkv" else 0.03
            assert 0 <= float(stream.duration * stream.time_base - 20 / RATE) < packet
    for number in range(len(PLATES[name][2])):
        assert heard(path, number, 20) == [loud(first + n) for n in range(20)]


def test_frames_held_beyond_the_plates_end_are_silent(tmp_path, plates):
    take = tmp_path / "take.mov"
    sound = Sound(path=plates["pcm.mov"], frames=FrameRange(290, 20))
    assert write_movie(take, [gradient(0, 64, 48)] * 20, rate=RATE, timecode=None, audio=sound).notes == ()
    assert heard(take, 0, 20) == [loud(n) for n in range(290, 300)] + [False] * 10


def test_a_plate_without_sound_gives_none_and_what_is_no_plate_an_error(tmp_path):
    plate, take, text = tmp_path / "plate.mov", tmp_path / "take.mov", tmp_path / "text.mov"
    write_movie(plate, [gradient(0, 64, 48)] * 5, rate=RATE, timecode=None)
    sound = Sound(path=plate, frames=FrameRange(1, 4))
    assert write_movie(take, [gradient(0, 64, 48)] * 4, rate=RATE, timecode=None, audio=sound).notes == ()
    with MovieReader(take) as movie:
        assert (movie.count, movie.audio) == (4, ())
    text.write_text("no movie")
    for path, error in ((tmp_path / "none.mov", PlateMissing), (text, PlateUnreadable)):
        sound = Sound(path=path, frames=FrameRange(3, 4))
        with pytest.raises(error):
            write_movie(tmp_path / "b.mov", [gradient(0, 64, 48)], rate=RATE, timecode=None, audio=sound)
    assert not (tmp_path / "b.mov").exists()


def test_codes_stay_off_the_reserved_ends_in_what_is_written():
    video = movies._video_frame(np.tile([[[2.0, -1.0, 2.0]]], (4, 4, 1)), "yuv420p")
    expected = yuv.from_rgb(np.array([1.0, 0.0, 1.0]), matrix="709", bits=8, legal=True)
    for plane, code in zip(video.planes, expected, strict=True):
        assert bytes(plane)[0] == round(float(code))
