"""Movies: any frame exactly, tags and time as the file says, and the review movie read back."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from scail2_farm.errors import DiskFull, PlateMissing, PlateUnreadable
from scail2_farm.media import movies
from scail2_farm.media.movies import MovieReader, write_movie

WIDTH, HEIGHT, COUNT = 96, 64, 40
CODECS = {
    "prores.mov": ("prores_ks", "yuv422p10le", {"profile": "hq"}),
    "h264.mov": ("libx264", "yuv420p", {"bf": "3", "g": "12", "crf": "10"}),
    "h264.mp4": ("libx264", "yuv420p", {"bf": "3", "g": "250", "crf": "10"}),
    "hevc.mkv": ("libx265", "yuv420p10le", {"x265-params": "bframes=3:keyint=10:log-level=none", "crf": "10"}),
    "ffv1.mkv": ("ffv1", "yuv444p10le", {}),
    "mpeg2.mxf": ("mpeg2video", "yuv420p", {"bf": "2", "g": "12", "b": "4M"}),
    "mjpeg.mov": ("mjpeg", "yuvj422p", {"q:v": "1"}),
    "rgb.mkv": ("ffv1", "gbrp10le", {}),
}


def burned(index: int, count: int = COUNT) -> np.ndarray:
    """A gray frame whose brightness tells its index: full-scale 8-bit code 30 + 4 * index, on a soft ramp."""
    gray = np.full((HEIGHT, WIDTH, 3), 30 + 4 * index, np.uint8)
    gray[:, :16] = np.arange(16, dtype=np.uint8)[None, :, None] * 8
    return gray


def index_of(rgb: np.ndarray) -> int:
    return round((float(rgb[20:50, 30:80].mean()) * 255 - 30) / 4)


def make(path: Path, name: str, *, rate=Fraction(24), offset=0, uneven=False, index_first=False) -> Path:
    codec, pixel_format, options = CODECS[name]
    tags = (1, 1, 1, 1)
    with av.open(str(path), "w", options={"movflags": "faststart"} if index_first else {}) as container:
        stream = container.add_stream(codec, rate=rate, options=dict(options))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        context = stream.codec_context
        context.time_base = 1 / rate
        if "gbr" not in pixel_format:
            context.color_primaries, context.color_trc, context.colorspace = tags[:3]
            context.color_range = 2 if pixel_format.startswith("yuvj") else tags[3]
        for index in range(COUNT):
            frame = av.VideoFrame.from_ndarray(burned(index), format="rgb24")
            frame = frame.reformat(
                format=pixel_format, dst_colorspace="ITU709", dst_color_range=context.color_range or 1
            )
            frame.pts = index + offset + (index // 3 if uneven else 0)
            frame.time_base = 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", CODECS)
def test_every_frame_is_the_one_asked_for(tmp_path, name):
    rate = Fraction(25) if name.endswith("mxf") else Fraction(24000, 1001)
    path = make(tmp_path / name, name, rate=rate)
    order = [int(n) for n in np.random.default_rng(5).integers(0, COUNT, 14)]
    with MovieReader(path) as movie:
        assert (movie.count, movie.width, movie.height) == (COUNT, WIDTH, HEIGHT)
        assert movie.rate == rate
        for n in [*order, 0, COUNT - 1, 20, 19, 21, 22]:
            assert index_of(movie.read(n)) == n
        with pytest.raises(PlateMissing):
            movie.read(COUNT)
        with pytest.raises(PlateMissing):
            movie.read(-1)


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mkv"])
def test_a_movie_that_does_not_start_at_zero(tmp_path, name):
    path = make(tmp_path / name, name, offset=1234)
    with MovieReader(path) as movie:
        assert movie.count == COUNT
        assert [index_of(movie.read(n)) for n in (33, 2, 17, 0)] == [33, 2, 17, 0]


def test_an_uneven_rate_is_told_and_frames_are_taken_one_for_one(tmp_path):
    with MovieReader(make(tmp_path / "uneven.mp4", "h264.mp4", uneven=True)) as movie:
        assert any("variable frame rate" in words for words in movie.warnings)
        assert [index_of(movie.read(n)) for n in (30, 7, 0, 39)] == [30, 7, 0, 39]


@pytest.mark.parametrize("name", ["prores.mov", "hevc.mkv", "ffv1.mkv", "mjpeg.mov", "rgb.mkv"])
def test_even_rates_are_not_called_uneven(tmp_path, name):
    with MovieReader(make(tmp_path / name, name, rate=Fraction(24000, 1001))) as movie:
        assert not any("variable" in words for words in movie.warnings)


def planes_movie(path: Path, pixel_format: str, codes, *, tags, size=(32, 16)) -> Path:
    """A lossless movie of one flat colour, given as code values of its planes."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = tags
        frame = av.VideoFrame(width, height, pixel_format)
        for plane, code in zip(frame.planes, codes, strict=True):
            kind = np.uint8 if frame.format.components[0].bits == 8 else np.dtype("<u2")
            plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, code, kind).tobytes())
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p10le", "yuv422p10le", "yuv422p12le"])
@pytest.mark.parametrize(("matrix", "name"), [(1, "709"), (6, "601"), (9, "2020")])
@pytest.mark.parametrize("legal", [True, False])
def test_depth_subsampling_matrix_and_range_follow_the_tags(tmp_path, pixel_format, matrix, name, legal):
    bits = 10 if "10" in pixel_format else 12 if "12" in pixel_format else 8
    rgb = np.array([[0.7, 0.3, 0.2]])
    codes = [int(np.rint(v[0])) for v in movies.yuv.from_rgb(rgb, matrix=name, bits=bits, legal=legal)]
    tags = (1, 1, matrix, 1 if legal else 2)
    with MovieReader(planes_movie(tmp_path / "flat.mkv", pixel_format, codes, tags=tags)) as movie:
        assert movie.bits == bits
        assert np.abs(movie.read(0) - rgb).max() < 2.0 / (219 << (bits - 8))
        assert movie.warnings == ()


def test_rgb_planes_and_alpha_are_read_as_they_are(tmp_path):
    tags = (2, 2, 2, 0)
    with MovieReader(planes_movie(tmp_path / "gbr.mkv", "gbrp10le", (100, 200, 1023), tags=tags)) as movie:
        assert np.allclose(movie.read(0)[0, 0] * 1023, (1023, 100, 200), atol=1e-3)
    path = planes_movie(tmp_path / "alpha.mkv", "yuva444p10le", (940, 512, 512, 3), tags=(1, 1, 1, 1))
    with MovieReader(path) as movie:
        assert np.allclose(movie.read(0), 1.0, atol=1e-6)


@pytest.mark.parametrize(
    ("pixel_format", "codes"),
    [
        ("nv12", {0: [60], 1: [90, 150]}),
        ("p010le", {0: [240 << 6], 1: [360 << 6, 600 << 6]}),
        ("uyvy422", {0: [90, 60, 150, 60]}),
        ("yuyv422", {0: [60, 90, 60, 150]}),
        ("yuv420p", {0: [60], 1: [90], 2: [150]}),
    ],
)
def test_every_layout_gives_the_same_picture(pixel_format, codes):
    frame = av.VideoFrame(34, 16, pixel_format)
    for index, values in codes.items():
        kind = np.dtype("<u2") if pixel_format == "p010le" else np.dtype(np.uint8)
        count = frame.planes[index].buffer_size // kind.itemsize
        frame.planes[index].update(np.resize(np.array(values, kind), count).tobytes())
    rgb = movies._rgb(frame, movies._Tags(1, 1, 1, 1), Path("made"))
    expected = movies.yuv.to_rgb(
        np.array([[60]]), np.array([[90]]), np.array([[150]]), matrix="709", bits=8, legal=True
    )
    assert rgb.shape == (16, 34, 3)
    assert np.allclose(rgb, expected, atol=1e-6)


@pytest.mark.parametrize("pixel_format", ["rgb24", "bgr24", "rgba", "argb", "bgr0", "rgb48le", "rgb48be", "rgba64le"])
def test_every_packed_rgb_gives_the_same_picture(pixel_format):
    top = 65535 if "48" in pixel_format or "64" in pixel_format else 255
    kind = np.dtype(np.uint8) if top == 255 else np.dtype(">u2" if pixel_format.endswith("be") else "<u2")
    order = movies.PACKED_RGB[pixel_format]
    values = {"r": top, "g": top // 3, "b": top // 5, "a": 1, "0": 7}
    frame = av.VideoFrame(32, 16, pixel_format)
    count = frame.planes[0].buffer_size // kind.itemsize
    frame.planes[0].update(np.resize(np.array([values[letter] for letter in order], kind), count).tobytes())
    rgb = movies._rgb(frame, movies._Tags(2, 2, 2, 0), Path("made"))
    assert np.allclose(rgb, (1.0, (top // 3) / top, (top // 5) / top), atol=1e-6)


def test_an_untagged_movie_is_709_from_720_lines_and_601_below(tmp_path):
    rgb = np.array([[0.7, 0.3, 0.2]])
    cases: tuple[tuple[tuple[int, int], movies.yuv.Matrix], ...] = (((64, 720), "709"), ((64, 576), "601"))
    for size, name in cases:
        codes = [int(np.rint(v[0])) for v in movies.yuv.from_rgb(rgb, matrix=name, bits=10, legal=True)]
        path = planes_movie(tmp_path / f"{name}.mkv", "yuv444p10le", codes, tags=(2, 2, 2, 0), size=size)
        with MovieReader(path) as movie:
            assert np.abs(movie.read(0) - rgb).max() < 0.003
            assert movie.nclc is None
            assert [f"BT.{name}" in words for words in movie.warnings] == [True]


def test_a_matrix_nobody_reads_is_refused_in_words(tmp_path):
    path = planes_movie(tmp_path / "ycgco.mkv", "yuv444p10le", (500, 500, 500), tags=(1, 1, 8, 1))
    with MovieReader(path) as movie, pytest.raises(PlateUnreadable, match="matrix 8"):
        movie.read(0)


def test_what_is_no_movie_is_refused(tmp_path, media):
    with pytest.raises(PlateMissing):
        MovieReader(tmp_path / "none.mov")
    (tmp_path / "text.mov").write_text("#EXTM3U\nhttp://example.com/a.ts\n")
    with pytest.raises(PlateUnreadable):
        MovieReader(tmp_path / "text.mov")
    whole = make(tmp_path / "whole.mov", "prores.mov").read_bytes()
    for part in (0.3, 0.9):
        (tmp_path / "cut.mov").write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(PlateUnreadable):
            MovieReader(tmp_path / "cut.mov")


@pytest.mark.parametrize("name", ["prores.mov", "h264.mp4"])
@pytest.mark.parametrize("part", [0.5, 0.97])
def test_a_movie_cut_inside_its_frames_is_refused(tmp_path, name, part):
    """The index first, the frames after: such a file opens although frames are missing."""
    whole = make(tmp_path / name, name, index_first=True).read_bytes()
    assert whole.index(b"moov") < whole.index(b"mdat")
    (tmp_path / f"cut-{name}").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(PlateUnreadable):
        MovieReader(tmp_path / f"cut-{name}")


def test_a_cut_matroska_movie_has_the_frames_it_has(tmp_path):
    """Matroska does not say how many frames there should be: what is there is exact, and planning compares counts."""
    whole = make(tmp_path / "whole.mkv", "ffv1.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    with MovieReader(tmp_path / "cut.mkv") as movie:
        assert 5 < movie.count < COUNT
        for n in range(movie.count - 1):
            assert index_of(movie.read(n)) == n


def test_real_movies(media):
    with MovieReader(media / "mov/misc_speed_effects_aaf.mov") as movie:
        assert (movie.count, movie.width, movie.height, movie.rate) == (72, 1920, 1080, 24)
        assert movie.timecode == "01:00:00:00"
        assert movie.nclc == "1/1/1"
        assert movie.pixel_aspect == 0.75
        late = movie.read(70)
        assert np.array_equal(movie.read(70), late)
    with MovieReader(media / "mov/ayon_sh010_plateP01.mov") as movie:
        assert (movie.count, movie.bits, movie.rate, movie.nclc) == (1, 10, Fraction(24000, 1001), None)
        assert [("BT.709" in words) for words in movie.warnings] == [True]


# ------------------------------------------------------------------- the review movie


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
def test_the_review_movie_reads_back(tmp_path, rate, code):
    frames = [gradient(index, 64, 48) for index in range(7)]
    assert write_movie(tmp_path / "v001.mov", iter(frames), rate=rate, timecode=code) == 7
    with MovieReader(tmp_path / "v001.mov") as movie:
        assert (movie.count, movie.rate, movie.timecode) == (7, rate, code)
        assert (movie.nclc, movie.bits, movie.warnings) == ("1/1/1", 10, ())
        for index in (6, 0, 3):
            error = np.abs(movie.read(index) - frames[index])
            assert error.mean() < 1 / 876
            assert error.max() < 6 / 876
    assert not list(tmp_path.glob("*.part"))


def test_the_review_movie_is_prores_hq_in_legal_range(tmp_path):
    write_movie(tmp_path / "a.mov", [np.ones((16, 32, 3)) * [1.5, 1.0, 1.0]], rate=Fraction(24), timecode=None)
    with av.open(str(tmp_path / "a.mov")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.profile, context.pix_fmt) == ("prores", "HQ", "yuv422p10le")
        assert context.color_range == 1
        luma = np.frombuffer(bytes(next(container.decode(video=0)).planes[0]), "<u2")
        assert abs(int(luma[0]) - 940) <= 1


def test_odd_sizes_are_padded_by_the_edge(tmp_path):
    frame = gradient(0, 33, 17)
    write_movie(tmp_path / "odd.mov", [frame], rate=Fraction(24), timecode=None, pixel_aspect=2.0)
    with MovieReader(tmp_path / "odd.mov") as movie:
        assert (movie.width, movie.height, movie.pixel_aspect) == (34, 18, 2.0)
        assert np.abs(movie.read(0)[:17, :33] - frame).max() < 6 / 876


def test_a_movie_that_fails_leaves_nothing(tmp_path):
    def frames():
        yield gradient(0, 32, 16)
        raise RuntimeError("the frame after does not read")

    with pytest.raises(RuntimeError):
        write_movie(tmp_path / "a.mov", frames(), rate=Fraction(24), timecode=None)
    with pytest.raises(ValueError):
        write_movie(tmp_path / "a.mov", [], rate=Fraction(24), timecode=None)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    (tmp_path / "a.mov.part").symlink_to("/dev/full")
    frames = [gradient(index, 320, 240) for index in range(30)]
    with pytest.raises(DiskFull):
        write_movie(tmp_path / "a.mov", frames, rate=Fraction(24), timecode=None)
    assert not list(tmp_path.iterdir())
