"""Every frame is the one asked for: read in any order, of every kind of movie, by the index burned into its pixels."""

import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from movie_clips import Clip, index_of

from scail2_farm.media.movies import MovieReader

DNX = (256, 128)
LONG = {"bf": "3", "g": "24", "preset": "fast"}
X265 = "log-level=none:bframes=3:keyint=24:min-keyint=24"
MPEG2 = {"bf": "2", "g": "12", "b": "2M"}
CLIPS: dict[str, Clip] = {
    "prores.mov": Clip(encoder="prores_ks", pixel_format="yuv422p10le", options={"profile": "hq"}),
    "prores_alpha.mov": Clip(encoder="prores_ks", pixel_format="yuva444p10le", options={"profile": "4444"}),
    "prores.mkv": Clip(encoder="prores_ks", pixel_format="yuv422p10le"),
    "prores.mxf": Clip(encoder="prores_ks", pixel_format="yuv422p10le", rate=Fraction(25)),
    "dnxhr_sq.mov": Clip(encoder="dnxhd", pixel_format="yuv422p", options={"profile": "dnxhr_sq"}, size=DNX),
    "dnxhr_hqx.mov": Clip(encoder="dnxhd", pixel_format="yuv422p10le", options={"profile": "dnxhr_hqx"}, size=DNX),
    "dnxhr_444.mov": Clip(encoder="dnxhd", pixel_format="yuv444p10le", options={"profile": "dnxhr_444"}, size=DNX),
    "dnxhr_hq.mxf": Clip(
        encoder="dnxhd", pixel_format="yuv422p", options={"profile": "dnxhr_hq"}, size=DNX, rate=Fraction(25)
    ),
    "h264.mp4": Clip(encoder="libx264", options={"bf": "3", "g": "250", "preset": "fast"}),
    "h264_open.mov": Clip(encoder="libx264", options=LONG | {"x264-params": "open-gop=1"}),
    "h264_10.mov": Clip(encoder="libx264", pixel_format="yuv420p10le", options=LONG),
    "h264_mbaff.mp4": Clip(encoder="libx264", options=LONG | {"x264-params": "tff=1"}, size=(64, 64)),
    "hevc.mp4": Clip(encoder="libx265", options={"x265-params": X265 + ":open-gop=0"}),
    "hevc_open.mkv": Clip(encoder="libx265", pixel_format="yuv420p10le", options={"x265-params": X265 + ":open-gop=1"}),
    "hevc_radl.mp4": Clip(encoder="libx265", options={"x265-params": X265 + ":open-gop=0:radl=2"}),
    "offset.mov": Clip(encoder="prores_ks", pixel_format="yuv422p10le", time_of=lambda index: index + 50050),
    "vfr.mov": Clip(encoder="prores_ks", pixel_format="yuv422p10le", time_of=lambda index: index + index // 3),
    "fragments.mp4": Clip(encoder="libx264", options=LONG, flags={"movflags": "frag_keyframe+empty_moov"}),
    "fragments.mov": Clip(
        encoder="prores_ks", pixel_format="yuv422p10le", flags={"movflags": "frag_every_frame+empty_moov"}
    ),
    "offset.mkv": Clip(encoder="libx264", options=LONG, time_of=lambda index: index + 50050),
    "offset.mp4": Clip(encoder="libx264", options=LONG, time_of=lambda index: index + 50050),
    "offset.ts": Clip(encoder="libx264", options=LONG, time_of=lambda index: index + 50050),
    "vfr.mp4": Clip(encoder="libx264", options=LONG, time_of=lambda index: index + index // 3 + index // 7),
    "vfr_fine.mp4": Clip(
        encoder="libx265",
        options={"x265-params": X265},
        time_base=Fraction(1, 90000),
        time_of=lambda index: index * 3003 + (index * 7919) % 2000,
    ),
    "h264.ts": Clip(encoder="libx264", options=LONG),
    "h264_open.mts": Clip(encoder="libx264", options=LONG | {"x264-params": "open-gop=1"}, format="mpegts"),
    "h264_refresh.ts": Clip(encoder="libx264", options=LONG | {"intra-refresh": "1"}),
    "hevc.m2ts": Clip(
        encoder="libx265", options={"x265-params": X265}, format="mpegts", flags={"mpegts_m2ts_mode": "1"}
    ),
    "mpeg2.ts": Clip(encoder="mpeg2video", options=MPEG2, rate=Fraction(25)),
    "mpeg2.mxf": Clip(encoder="mpeg2video", options=MPEG2, rate=Fraction(25)),
    "mpeg2.mov": Clip(encoder="mpeg2video", options=MPEG2, rate=Fraction(30000, 1001)),
    "ffv1.mkv": Clip(encoder="ffv1", pixel_format="yuv444p10le"),
    "ffv1_16.mkv": Clip(encoder="ffv1", pixel_format="yuv444p16le", options={"g": "10"}),
    "ffv1.avi": Clip(encoder="ffv1", pixel_format="yuv422p10le"),
    "v210.mov": Clip(encoder="v210", pixel_format="yuv422p10le"),
    "mjpeg.avi": Clip(encoder="mjpeg", pixel_format="yuvj422p", tags=(1, 1, 1, 2)),
    "png.mov": Clip(encoder="png", pixel_format="rgb48be", tags=(2, 2, 2, 0)),
    "qtrle.mov": Clip(encoder="qtrle", pixel_format="rgb24", tags=(2, 2, 2, 0)),
    "rgb.mkv": Clip(encoder="ffv1", pixel_format="gbrp12le", tags=(2, 2, 2, 0)),
    "h264_rgb.mov": Clip(encoder="libx264rgb", pixel_format="rgb24", options=LONG | {"crf": "5"}, tags=(2, 2, 2, 0)),
}


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_is_the_one_asked_for(tmp_path, name):
    clip = CLIPS[name]
    random = [int(n) for n in np.random.default_rng(5).integers(0, clip.count, 20)]
    orders = (random, range(clip.count), range(clip.count - 1, -1, -1), range(0, clip.count, 7))
    with MovieReader(clip.write(tmp_path / name)) as movie:
        assert (movie.count, (movie.width, movie.height)) == (clip.count, clip.size)
        if "vfr" not in name:
            assert movie.rate == clip.rate
        for order in orders:
            assert [index_of(movie.read(n)) for n in order] == list(order)


@pytest.mark.parametrize("name", ["prores.mov", "h264.ts", "hevc_open.mkv"])
def test_several_threads_read_one_movie(tmp_path, name):
    clip = CLIPS[name]
    order = [int(n) for n in np.random.default_rng(3).permutation(clip.count)]
    start = threading.Barrier(4)

    def read(mine: list[int]) -> list[int]:
        start.wait()
        return [index_of(movie.read(n)) for n in mine]

    with MovieReader(clip.write(tmp_path / name)) as movie, ThreadPoolExecutor(4) as pool:
        parts = [order[part::4] for part in range(4)]
        assert list(pool.map(read, parts)) == parts
