"""Movies read: tags, time and pixels as the file says, and words for what cannot be read.

Which frame is given when is tested in test_movies_seek.py.
"""

import dataclasses
import json
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from movie_clips import index_of
from test_movies_seek import CLIPS

from scail2_farm.errors import PlateMissing, PlateUnreadable
from scail2_farm.media import movies, yuv
from scail2_farm.media.movies import MovieReader


def planes_movie(path: Path, pixel_format: str, codes, *, tags, size=(32, 16)) -> Path:
    """A lossless movie of one frame, given as the code value of each plane, or of each of its columns."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = tags
        frame = av.VideoFrame(width, height, pixel_format)
        for plane, code in zip(frame.planes, codes, strict=True):
            kind = np.dtype(np.uint8) if frame.format.components[0].bits == 8 else np.dtype("<u2")
            rows = np.zeros((plane.height, plane.line_size // kind.itemsize), kind)
            rows[:, : plane.width] = code
            plane.update(rows.tobytes())
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
    codes = [int(np.rint(v[0])) for v in yuv.from_rgb(rgb, matrix=name, bits=bits, legal=legal)]
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
    rgb = movies._rgb(frame, movies._Tags(1, 1, 1, 1), "left", Path("made"))
    expected = yuv.to_rgb(np.array([[60]]), np.array([[90]]), np.array([[150]]), matrix="709", bits=8, legal=True)
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
    rgb = movies._rgb(frame, movies._Tags(2, 2, 2, 0), "left", Path("made"))
    assert np.allclose(rgb, (1.0, (top // 3) / top, (top // 5) / top), atol=1e-6)


def test_an_untagged_movie_is_709_from_720_lines_and_601_below(tmp_path):
    rgb = np.array([[0.7, 0.3, 0.2]])
    cases: tuple[tuple[tuple[int, int], yuv.Matrix], ...] = (((64, 720), "709"), ((64, 576), "601"))
    for size, name in cases:
        codes = [int(np.rint(v[0])) for v in yuv.from_rgb(rgb, matrix=name, bits=10, legal=True)]
        path = planes_movie(tmp_path / f"{name}.mkv", "yuv444p10le", codes, tags=(2, 2, 2, 0), size=size)
        with MovieReader(path) as movie:
            assert np.abs(movie.read(0) - rgb).max() < 0.003
            assert movie.nclc is None
            assert [f"BT.{name}" in words for words in movie.warnings] == [True]


def test_a_matrix_nobody_reads_is_refused_in_words(tmp_path):
    path = planes_movie(tmp_path / "ycgco.mkv", "yuv444p10le", (500, 500, 500), tags=(1, 1, 8, 1))
    with MovieReader(path) as movie, pytest.raises(PlateUnreadable, match="matrix 8"):
        movie.read(0)


def test_what_is_no_movie_is_refused(tmp_path):
    with pytest.raises(PlateMissing):
        MovieReader(tmp_path / "none.mov")
    with pytest.raises(PlateMissing):
        MovieReader(tmp_path)
    for name, content, words in (
        ("empty.mov", b"", "holds nothing"),
        ("list.mov", b"#EXTM3U\nhttp://example.com/a.ts\n", "a playlist"),
        ("exr.mov", b"\x76\x2f\x31\x01" + bytes(500), "an EXR picture"),
        ("png.mp4", b"\x89PNG\r\n\x1a\n" + bytes(500), "a PNG picture"),
        ("wave.mxf", b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(500), "sound alone"),
        ("zeros.mkv", bytes(5000), "not a complete movie"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PlateUnreadable, match=words):
            MovieReader(tmp_path / name)


def test_a_movie_under_another_containers_name_is_read(tmp_path):
    path = CLIPS["ffv1.mkv"].write(tmp_path / "whole.mkv")
    with MovieReader(path.rename(tmp_path / "whole.mov")) as movie:
        assert index_of(movie.read(41)) == 41


@pytest.mark.parametrize("name", ["prores.mov", "dnxhr_hq.mxf", "h264.mp4", "hevc.mp4", "mpeg2.mxf", "ffv1.avi"])
def test_a_movie_cut_short_is_refused(tmp_path, name):
    whole = CLIPS[name].write(tmp_path / name).read_bytes()
    for part in (0, 0.02, 0.3, 0.6, 0.9):
        (tmp_path / f"cut-{name}").write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(PlateUnreadable):
            MovieReader(tmp_path / f"cut-{name}")


@pytest.mark.parametrize("name", ["prores.mov", "h264.mp4"])
@pytest.mark.parametrize("part", [0.5, 0.97])
def test_a_movie_cut_inside_its_frames_is_refused(tmp_path, name, part):
    """The index first, the frames after: such a file opens although frames are missing."""
    clip = dataclasses.replace(CLIPS[name], flags={"movflags": "faststart"})
    whole = clip.write(tmp_path / name).read_bytes()
    assert whole.index(b"moov") < whole.index(b"mdat")
    (tmp_path / f"cut-{name}").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(PlateUnreadable, match=r"cut short|cut off"):
        MovieReader(tmp_path / f"cut-{name}")


def test_a_cut_matroska_movie_has_the_frames_it_has_and_says_so(tmp_path):
    """Matroska does not count its frames: what is there is exact, and planning compares counts."""
    whole = CLIPS["ffv1.mkv"].write(tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    with MovieReader(tmp_path / "whole.mkv") as movie:
        assert movie.warnings == ()
    with MovieReader(tmp_path / "cut.mkv") as movie:
        assert 5 < movie.count < 60
        assert any("may be cut short" in words for words in movie.warnings)
        for n in range(movie.count - 1):
            assert index_of(movie.read(n)) == n


@pytest.mark.parametrize("name", ["h264.ts", "mpeg2.ts"])
def test_a_transport_stream_cut_anywhere_begins_where_it_can_be_decoded(tmp_path, name):
    whole = CLIPS[name].write(tmp_path / name).read_bytes()
    (tmp_path / "cut.ts").write_bytes(whole[len(whole) // 188 // 2 * 188 :])
    with MovieReader(tmp_path / "cut.ts") as movie:
        assert any("left out" in words for words in movie.warnings)
        first = index_of(movie.read(0))
        assert first > 20
        assert [index_of(movie.read(n)) for n in (9, 3, 0, movie.count - 1)] == [first + 9, first + 3, first, 59]


def test_damaged_bytes_give_a_picture_or_an_error_in_words(tmp_path):
    random = np.random.default_rng(11)
    for name in ("prores.mov", "h264.mp4", "hevc_open.mkv", "mpeg2.ts", "dnxhr_hq.mxf", "ffv1.avi"):
        whole = CLIPS[name].write(tmp_path / name).read_bytes()
        told = 0
        for _ in range(12):
            broken = bytearray(whole)
            for place in random.integers(0, len(broken), 12):
                broken[place] = random.integers(0, 256)
            (tmp_path / f"x{name}").write_bytes(broken)
            try:
                with MovieReader(tmp_path / f"x{name}") as movie:
                    for n in range(0, movie.count, 5):
                        assert movie.read(n).shape == (movie.height, movie.width, 3)
            except PlateUnreadable as error:
                told += name in error.what
        assert told, name


# ------------------------------------------------------------------- what a movie says


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "bits", "alpha"),
    [
        ("prores.mov", "ProRes 422 HQ", "yuv422p10le", 10, False),
        ("prores_alpha.mov", "ProRes 4444", "yuva444p12le", 12, True),
        ("dnxhr_sq.mov", "DNxHR SQ", "yuv422p", 8, False),
        ("dnxhr_hqx.mov", "DNxHR HQX", "yuv422p10le", 10, False),
        ("dnxhr_444.mov", "DNxHR 444", "yuv444p10le", 10, False),
        ("dnxhr_hq.mxf", "DNxHR HQ", "yuv422p", 8, False),
        ("h264_10.mov", "H.264 High 10", "yuv420p10le", 10, False),
        ("hevc_open.mkv", "HEVC Main 10", "yuv420p10le", 10, False),
        ("mpeg2.mxf", "MPEG-2 Main", "yuv420p", 8, False),
        ("ffv1_16.mkv", "FFV1", "yuv444p16le", 16, False),
        ("v210.mov", "uncompressed v210", "yuv422p10le", 10, False),
        ("rgb.mkv", "FFV1", "gbrp12le", 12, False),
    ],
)
def test_the_codec_is_told_as_people_call_it(tmp_path, name, codec, pixel_format, bits, alpha):
    with MovieReader(CLIPS[name].write(tmp_path / name)) as movie:
        assert (movie.codec, movie.pixel_format) == (codec, pixel_format)
        assert (movie.bits, movie.has_alpha, movie.audio, movie.warnings) == (bits, alpha, (), ())


@pytest.mark.parametrize(
    ("name", "rate", "code"),
    [
        ("prores.mov", Fraction(30000, 1001), "01:00:00;02"),
        ("h264.mp4", Fraction(24), "10:11:12:13"),
        ("mpeg2.mxf", Fraction(30000, 1001), "00:59:59;28"),
        ("dnxhr_hq.mxf", Fraction(25), "23:00:00:24"),
    ],
)
def test_timecode_is_read_where_each_container_keeps_it(tmp_path, name, rate, code):
    clip = dataclasses.replace(CLIPS[name], rate=rate, timecode=code, count=12)
    with MovieReader(clip.write(tmp_path / name)) as movie:
        assert (movie.timecode, movie.rate) == (code, rate)


@pytest.mark.parametrize("siting", ["left", "centre", "topleft", "top"])
def test_chroma_is_interpolated_from_where_the_file_says_it_lies(tmp_path, siting):
    """A ramp of chroma, sampled where each siting puts its samples, reads back as that ramp."""
    number = {"left": 0, "centre": 1, "topleft": 2, "top": 3}[siting]
    options = {"qp": "0", "x264-params": f"chromaloc={number}"}
    across = 0.0 if siting in ("left", "topleft") else 0.5
    down = 0.0 if siting in ("topleft", "top") else 0.5
    x, y = np.meshgrid(np.arange(16) * 2 + across, np.arange(16) * 2 + down)
    ramp = 40 + 2 * x + 2 * y
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = context.color_range = 1
        frame = av.VideoFrame(32, 32, "yuv420p")
        for plane, values in zip(frame.planes, (np.full((32, 32), 120), ramp, ramp), strict=True):
            rows = np.zeros((plane.height, plane.line_size), np.uint8)
            rows[:, : plane.width] = values
            plane.update(rows.tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    luma_x, luma_y = np.meshgrid(np.arange(32), np.arange(32))
    chroma = 40 + 2 * luma_x + 2 * luma_y
    expected = yuv.to_rgb(np.full((32, 32), 120), chroma, chroma, matrix="709", bits=8, legal=True)
    with MovieReader(tmp_path / "a.mp4") as movie:
        assert np.abs(movie.read(0) - expected)[2:-2, 2:-2].max() < 1e-5


def test_interlace_alpha_aperture_and_mastering_are_told(tmp_path):
    with MovieReader(CLIPS["h264_mbaff.mp4"].write(tmp_path / "fields.mp4")) as movie:
        assert [words for words in movie.warnings if "interlaced (top field first)" in words]
    whole = CLIPS["prores.mov"].write(tmp_path / "whole.mov").read_bytes()
    clap = struct.pack(">I4s8I", 40, b"clap", 60, 1, 44, 1, 0, 1, 0, 1)
    (tmp_path / "clap.mov").write_bytes(inserted(whole, clap))
    with MovieReader(tmp_path / "clap.mov") as movie:
        assert movie.warnings == ("the movie says a clean aperture of 60x44 at 2,2: all 64x48 are read",)
        assert movie.read(3).shape == (48, 64, 3)
    mastering = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
    clip = dataclasses.replace(
        CLIPS["hevc_open.mkv"],
        tags=(9, 16, 9, 1),
        options={"x265-params": f"log-level=none:{mastering}"},
    )
    with MovieReader(clip.write(tmp_path / "hdr.mp4")) as movie:
        assert movie.nclc == "9/16/9"
        assert [words for words in movie.warnings if "mastering display" in words]


def inserted(movie: bytes, atom: bytes) -> bytes:
    """A ProRes .mov whose picture description holds one atom more; the index stands behind the frames."""
    result, at, places = bytearray(movie), 0, []
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"apch"):
        at = result.index(name, at)
        places.append(at - 4)
    (size,) = struct.unpack_from(">I", result, places[-1])
    result[places[-1] + size : places[-1] + size] = atom
    for place in places:
        struct.pack_into(">I", result, place, struct.unpack_from(">I", result, place)[0] + len(atom))
    return bytes(result)


def test_dnxhr_is_believed_by_its_container(tmp_path):
    clip = dataclasses.replace(CLIPS["dnxhr_hqx.mov"], tags=(9, 16, 9, 1), count=2)
    with MovieReader(clip.write(tmp_path / "pq.mov")) as movie:
        assert movie.nclc == "9/16/9"
        assert movie.warnings == ("container and frames disagree about the matrix (9, 1): the container is believed",)


def test_a_movie_to_be_turned_is_refused(tmp_path):
    with av.open(str(tmp_path / "turned.mov"), "w") as container:
        stream = container.add_stream("prores_ks", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv422p10le"
        stream.set_display_rotation(90)
        frame = av.VideoFrame(64, 48, "yuv422p10le")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(PlateUnreadable, match="turned by") as told:
        MovieReader(tmp_path / "turned.mov")
    assert "bake" in told.value.fix


@pytest.mark.parametrize("name", ["h264.mp4", "prores.mov", "dnxhr_hqx.mov", "hevc.mp4"])
def test_a_trimmed_movie_has_the_frames_its_edit_keeps(tmp_path, name):
    """Trimmed without encoding again, a movie keeps the frames back to the key frame, and its edit list hides them."""
    whole = CLIPS[name].write(tmp_path / name)
    with av.open(str(whole)) as source, av.open(str(tmp_path / f"trim-{name}"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.pts is not None and packet.dts is not None:
                earlier = round(10 * Fraction(1001, 24000) / packet.time_base)
                packet.pts, packet.dts = packet.pts - earlier, packet.dts - earlier
                packet.stream = stream
                target.mux(packet)
    with MovieReader(tmp_path / f"trim-{name}") as movie:
        assert movie.count == 50
        assert [index_of(movie.read(n)) for n in (0, 49, 20, 1)] == [10, 59, 30, 11]


def test_a_movie_without_pictures_is_refused(tmp_path):
    with av.open(str(tmp_path / "sound.mov"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2000), np.int16), format="s16", layout="stereo")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(PlateUnreadable, match="holds no video"):
        MovieReader(tmp_path / "sound.mov")
    with av.open(str(tmp_path / "none.mov"), "w") as container:
        stream = container.add_stream("prores_ks", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv422p10le"
        container.start_encoding()
    with pytest.raises(PlateUnreadable):
        MovieReader(tmp_path / "none.mov")


def test_codes_in_a_file_are_decoded_within_a_fiftieth_of_a_code(tmp_path, media):
    """Against the inverse of the definition in float64; the codes are those of the oracle."""
    weights = {
        "ITU-R BT.601": (6, 0.299, 0.114),
        "ITU-R BT.709": (1, 0.2126, 0.0722),
        "ITU-R BT.2020": (9, 0.2627, 0.0593),
    }
    for index, case in enumerate(json.loads((media / "oracle/yuv.json").read_text())["cases"]):
        number, red, blue = weights[case["matrix"]]
        bits, legal, codes = case["bits"], case["legal"], np.array(case["codes"])
        luma = np.array([red, 1 - red - blue, blue])
        encode = np.stack([luma, (np.eye(3)[2] - luma) / (2 * (1 - blue)), (np.eye(3)[0] - luma) / (2 * (1 - red))])
        scale = 2 ** (bits - 8) * np.array([219, 224, 224]) if legal else np.full(3, 2**bits - 1)
        zero = 2 ** (bits - 8) * np.array([16 * legal, 128, 128])
        expected = np.linalg.solve(encode, ((codes - zero) / scale).T).T
        pixel_format = {8: "yuv444p", 10: "yuv444p10le", 12: "yuv444p12le"}[bits]
        path = planes_movie(
            tmp_path / f"{index}.mkv", pixel_format, codes.T, tags=(1, 1, number, 1 if legal else 2), size=(24, 2)
        )
        with MovieReader(path) as movie:
            assert np.abs(movie.read(0) - expected).max() * 255 <= 0.02
            assert np.abs(movie.read(0)[0] - np.array(case["rgb"])).max() < 1.6 / scale[0]


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
