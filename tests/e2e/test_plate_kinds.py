"""Every kind of plate through `submit`, and what is delivered read by others: OpenEXR, OpenImageIO and FFmpeg."""

import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import OpenEXR
import opentimelineio as otio
import pytest
from submissions import (
    FIRST_FILE,
    FIRST_TC,
    HEIGHT,
    WIDTH,
    Cut,
    integers,
    plate_pixels,
    read_exr,
    read_image,
    submitted,
    write_exr,
    write_image,
)

from scail2_farm.documents import MovieCodec
from scail2_farm.job import Rendering
from scail2_farm.media.plates import open_plate

FRAMES = 5
SDR = {"color": {"defaults": dict.fromkeys(("dpx", "tiff", "png", "exr"), "Rec.1886 Rec.709 - Display")}}
LOG = {"color": {"defaults": {"dpx": "ARRI LogC3 (EI800)"}}}
RASTERS: dict[str, tuple[str, int, int]] = {  # suffix, bits, channels
    "dpx10": (".dpx", 10, 3),
    "dpx16": (".DPX", 16, 3),
    "tiff16 with alpha": (".tif", 16, 4),
    "tiff8": (".tiff", 8, 3),
    "png16 with alpha": (".png", 16, 4),
    "png8": (".png", 8, 3),
}
MOVIES: dict[str, tuple[str, str, str, dict[str, str], tuple[int, int]]] = {  # name, encoder, pixels, options, size
    "prores": ("A001 take#1.mov", "prores_ks", "yuv422p10le", {"profile": "3"}, (WIDTH, HEIGHT)),
    "prores4444": ("plate.mov", "prores_ks", "yuv444p10le", {"profile": "4"}, (WIDTH, HEIGHT)),
    "dnxhr": ("plate.mxf", "dnxhd", "yuv422p10le", {"profile": "dnxhr_hqx"}, (256, 120)),
    "h264": ("plate.mp4", "libx264", "yuv420p", {"bf": "2", "g": "5"}, (WIDTH, HEIGHT)),
    "hevc10": ("plate.mov", "libx265", "yuv420p10le", {"x265-params": "log-level=error"}, (WIDTH, HEIGHT)),
    "ffv1": ("plate.mkv", "ffv1", "gbrp10le", {}, (WIDTH, HEIGHT)),
}
FORMATS: dict[str, tuple[str, int]] = {  # suffix, bits
    "exr-half": (".exr", 16),
    "exr-float": (".exr", 32),
    "dpx10": (".dpx", 10),
    "tiff16": (".tif", 16),
    "png16": (".png", 16),
}


def submit(cut: Cut, farm: Any, *arguments: str) -> dict[str, Any]:
    """The report of a submission that went well."""
    said = farm("submit", cut.write(), "--weights", cut.weights, "--json", *arguments)
    assert said.code == 0, said.err + said.out
    assert said.document["faults"] == []
    return said.document


def planned(document: dict[str, Any]) -> str:
    """All that the plan tells a submitter, in one text."""
    return json.dumps(document["plan"], ensure_ascii=False)


def numbers(count: int = FRAMES) -> range:
    return range(FIRST_FILE, FIRST_FILE + count)


def same_outside(cut: Cut, shot: str, number: int, before: np.ndarray, after: np.ndarray) -> None:
    """Outside the matte every bit of the plate, where it is whole another picture."""
    matte = cut.comp_matte(shot, number)
    assert after.dtype == before.dtype
    assert after.shape == before.shape
    assert 0 < (matte > 0).sum() < matte.size
    unsigned = {2: np.uint16, 4: np.uint32, 1: np.uint8}[before.dtype.itemsize]
    before, after = (np.ascontiguousarray(picture).view(unsigned) for picture in (before, after))
    assert (after[matte == 0] == before[matte == 0]).all()
    assert (after[matte == 1] != before[matte == 1]).any(axis=-1).mean() > 0.9


def submit_again(cut: Cut, farm: Any) -> None:
    """Nothing is rendered for a shot that is delivered, whatever became of the work folder."""
    shutil.rmtree(cut.folder / "edit.scail2" / ".work")
    before = {path: path.stat().st_mtime_ns for path in (cut.folder / "edit.scail2/shots").rglob("*") if path.is_file()}
    (take,) = submit(cut, farm)["takes"]
    assert (take["rendered_before"], take["version"]) == (True, 1)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def returned(cut: Cut, suffix: str, first: int = FIRST_FILE, count: int = FRAMES) -> None:
    """The returned cut shows the delivered frames, as OpenTimelineIO reads it."""
    (clip,) = otio.adapters.read_from_file(str(cut.folder / "edit.scail2.otio")).find_clips()
    reference = clip.media_reference
    assert (reference.name_suffix, reference.start_frame) == (suffix, first)
    assert reference.number_of_images_in_sequence() == count
    assert all((cut.folder / reference.target_url_for_image_number(index)).is_file() for index in range(count))
    assert reference.frame_for_time(clip.source_range.start_time) == first


# --------------------------------------------------------------------------- EXR


def test_every_half_value_comes_back(cut: Cut, farm, media):
    original = read_exr(media / "exr/AllHalfValues.exr")
    assert len(np.unique(original[..., 0].view(np.uint16))) == 65536
    for index, number in enumerate(numbers()):
        write_exr(cut.plate_file("SH010", number), np.roll(original, 7 * index, axis=0), frame=FIRST_TC + index)
    cut.played("SH010", FRAMES, size=(256, 256), box=(0, 0, 60, 256))
    document = submit(cut, farm)
    assert "of its pixels come back" in planned(document)
    for number in numbers():
        after = read_exr(cut.frame("SH010", number))
        same_outside(cut, "SH010", number, read_exr(cut.plate_file("SH010", number)), after)
        assert np.isfinite(after[cut.comp_matte("SH010", number) > 0]).all()
    assert cut.take("SH010").exact
    submit_again(cut, farm)


def test_float_pixels_come_back(cut: Cut, farm):
    for index, number in enumerate(numbers()):
        rgb = plate_pixels(3, index).astype(np.float32) * np.float32(1 + 2**-20)
        rgb[30:34].view(np.uint32)[:] = np.arange(4 * WIDTH * 3, dtype=np.uint32).reshape(4, WIDTH, 3) * 4473924 + 1
        write_exr(cut.plate_file("SH010", number), rgb, frame=FIRST_TC + index)
    cut.played("SH010", FRAMES)
    submit(cut, farm)
    for number in numbers():
        before = read_exr(cut.plate_file("SH010", number))
        assert np.isnan(before).any()
        same_outside(cut, "SH010", number, before, read_exr(cut.frame("SH010", number)))
    submit_again(cut, farm)


def odd_parts(index: int) -> list[OpenEXR.Part]:
    """A picture of half floats with depth beside it, and a part of ids; with attributes that few files have."""
    rng = np.random.default_rng(index)
    code = OpenEXR.TimeCode(1, 0, 0, index, 0, 1, 0, 1, 0, 0, 7, 6, 5, 4, 3, 2, 1, 0)
    header: dict[str, Any] = {
        "colorInteropID": "lin_ap1_scene",
        "framesPerSecond": Fraction(24000, 1001),
        "timeCode": code,
        "keyCode": OpenEXR.KeyCode(1, 2, 3, 4, 5, 6, 64),
        "owner": "Zürich, 2ème équipe",
        "isoSpeed": 800.0,
        "scene number": 12,
        "worldToCamera": np.arange(16, dtype=np.float32).reshape(4, 4),
        "lens": np.array([1.5, -0.0, 3.25], np.float32),
        "type": OpenEXR.scanlineimage,
        "compression": OpenEXR.PIZ_COMPRESSION,
    }
    picture = {
        "RGB": plate_pixels(index, index),
        "A": rng.random((HEIGHT, WIDTH)).astype(np.float16),
        "Z": rng.random((HEIGHT, WIDTH)).astype(np.float32) * 1e9,
        "crypto00.R": rng.integers(0, 2**32, (HEIGHT, WIDTH), np.uint32).view(np.float32),
    }
    ids = {"id": rng.integers(0, 2**32, (HEIGHT, WIDTH), np.uint32)}
    about = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIPS_COMPRESSION, "note": "of the ids"}
    return [OpenEXR.Part(header, picture, "beauty"), OpenEXR.Part(about, ids, "ids")]


def same_value(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray | list | tuple):
        return len(one) == len(other) and all(same_value(a, b) for a, b in zip(one, other, strict=True))
    plain = isinstance(one, str | int | float | Fraction)
    return bool(one == other) if plain else repr(one) == repr(other)


def test_other_parts_channels_and_attributes_are_kept(cut: Cut, farm):
    cut.plate_file("SH010", FIRST_FILE).parent.mkdir(parents=True)
    for index, number in enumerate(numbers()):
        OpenEXR.File(odd_parts(index)).write(str(cut.plate_file("SH010", number)))
    cut.manifest["deliver"] = {"compression": "zstd"}
    cut.played("SH010", FRAMES)
    submit(cut, farm)
    for number in numbers():
        before, after = (
            OpenEXR.File(str(path), separate_channels=True)
            for path in (cut.plate_file("SH010", number), cut.frame("SH010", number))
        )
        assert [part.header["name"] for part in after.parts] == ["beauty", "ids"]
        for old, new in zip(before.parts, after.parts, strict=True):
            assert new.header["compression"] == OpenEXR.Compression.ZSTD_COMPRESSION
            for name, value in old.header.items():
                assert name in ("compression", "chunkCount") or same_value(value, new.header[name]), name
            assert old.channels.keys() == new.channels.keys()
            for name in old.channels.keys() - {"R", "G", "B"}:
                was, now = old.channels[name].pixels, new.channels[name].pixels
                assert was.dtype == now.dtype
                assert was.tobytes() == now.tobytes()
        was, now = (np.stack([f.parts[0].channels[c].pixels for c in "RGB"], axis=-1) for f in (before, after))
        same_outside(cut, "SH010", number, was, now)
    submit_again(cut, farm)


def write_windowed(cut: Cut, window: tuple[int, int, int, int], others: dict[str, type]) -> None:
    """An anamorphic EXR plate whose data window (left, top, width, height) is counted from its picture's corner."""
    left, top, width, height = window
    rng = np.random.default_rng(5)
    cut.plate_file("SH010", FIRST_FILE).parent.mkdir(parents=True)
    for index, number in enumerate(numbers()):
        header = {
            "colorInteropID": "lin_ap1_scene",
            "framesPerSecond": Fraction(25),
            "timeCode": OpenEXR.TimeCode(10, 11, 12, index, *[0] * 14),
            "pixelAspectRatio": 2.0,
            "displayWindow": (np.array([100, 50], np.int32), np.array([100 + WIDTH - 1, 50 + HEIGHT - 1], np.int32)),
            "dataWindow": (
                np.array([100 + left, 50 + top], np.int32),
                np.array([100 + left + width - 1, 50 + top + height - 1], np.int32),
            ),
            "type": OpenEXR.scanlineimage,
        }
        channels = {name: rng.random((height, width)).astype(kind) for name, kind in others.items()}
        rgb = (0.2 + 0.01 * index + rng.random((height, width, 3)) * 0.2).astype(np.float16)
        OpenEXR.File(header, channels | {"RGB": rgb}).write(str(cut.plate_file("SH010", number)))


@pytest.mark.parametrize("window", [(-6, -4, 92, 56), (10, 4, 50, 40)], ids=["overscan", "smaller"])
def test_windows_and_pixel_aspect_are_kept(cut: Cut, farm, window):
    left, top, width, height = window
    write_windowed(cut, window, {})
    cut.played("SH010", FRAMES, box=(5, 2, 30, 44))
    submit(cut, farm)
    x, y = max(left, 0), max(top, 0)
    right, bottom = min(left + width, WIDTH), min(top + height, HEIGHT)
    for number in numbers():
        before, after = (
            OpenEXR.File(str(path)) for path in (cut.plate_file("SH010", number), cut.frame("SH010", number))
        )
        for name in ("dataWindow", "displayWindow", "pixelAspectRatio", "timeCode", "framesPerSecond"):
            assert same_value(before.parts[0].header[name], after.parts[0].header[name]), name
        matte = cut.comp_matte("SH010", number)
        assert matte.shape == (HEIGHT, WIDTH)
        covered = np.zeros_like(matte, bool)
        covered[y:bottom, x:right] = True
        assert not matte[~covered].any()
        was, now = (file.channels()["RGB"].pixels.view(np.uint16) for file in (before, after))
        wide = np.zeros((height, width), np.float32)
        wide[y - top : bottom - top, x - left : right - left] = matte[y:bottom, x:right]
        assert (was[wide == 0] == now[wide == 0]).all()
        assert (was[wide == 1] != now[wide == 1]).any(axis=-1).mean() > 0.9
    canvas = cut.take("SH010").segments[0].canvas
    assert canvas.active[2] / canvas.active[3] == pytest.approx(2 * WIDTH / HEIGHT, rel=0.1)
    submit_again(cut, farm)


# --------------------------------------------------------------------------- DPX, TIFF, PNG


def rasters_cut(cut: Cut, kind: str, count: int = FRAMES, **more: Any) -> str:
    """A submission with a plate of one of RASTERS; its suffix."""
    suffix, bits, channels = RASTERS[kind]
    said: dict[str, Any] = {"dpx__FrameRate": ("float", 24.0), "dpx__Copyright": "a grip"} if "dpx" in kind else {}
    for index, number in enumerate(numbers(count)):
        if said:
            said["dpx__TimeCode"] = f"01:00:00:{index:02d}"
        path = cut.plate_file("SH010", number, suffix)
        write_image(path, integers(bits, channels, index), bits=bits, **said)
    cut.manifest |= SDR
    cut.played("SH010", count, suffix=suffix, **more)
    return suffix


@pytest.mark.parametrize("kind", list(RASTERS))
def test_integers_come_back(cut: Cut, farm, kind):
    suffix = rasters_cut(cut, kind)
    submit(cut, farm, "--keep", "raw")
    for number in numbers():
        before, said = read_image(cut.plate_file("SH010", number, suffix))
        after, says = read_image(cut.frame("SH010", number, suffix=suffix))
        assert before.shape[2] == RASTERS[kind][2]
        same_outside(cut, "SH010", number, before, after)
        assert (before[..., 3:] == after[..., 3:]).all()
        for name in ("oiio:BitsPerSample", "dpx:TimeCode", "dpx:FrameRate", "dpx:Copyright", "oiio:ColorSpace"):
            assert says.getattribute(name) == said.getattribute(name), name
    take = cut.take("SH010")
    assert (take.exact, take.pattern, take.first_file) == (True, f"SH010_scail2_v001.####{suffix}", FIRST_FILE)
    returned(cut, suffix)

    # the model's own frames and the mattes are EXR, whatever the plate
    version = cut.version("SH010")
    assert sorted(path.name for path in version.iterdir() if path.is_dir()) == ["comp_matte", "history", "raw"]
    raw = OpenEXR.File(str(version / "raw" / f"SH010_scail2_v001_raw.{FIRST_FILE}.exr"))
    assert raw.parts[0].header["colorInteropID"] == "srgb_rec709_display"
    canvas = take.segments[0].canvas
    assert raw.channels()["RGB"].pixels.shape == (canvas.height, canvas.width, 3)
    assert len(list((version / "comp_matte").glob("*.exr"))) == FRAMES
    submit_again(cut, farm)


def test_the_packing_of_exr_says_nothing_of_other_frames(cut: Cut, farm):
    rasters_cut(cut, "dpx10")
    (take,) = submit(cut, farm)["takes"]
    cut.manifest["deliver"] = {"compression": "dwaa"}
    document = submit(cut, farm)
    assert (document["takes"][0]["key"], document["takes"][0]["rendered_before"]) == (take["key"], True)
    assert "dwaa" not in planned(document)
    assert cut.take("SH010").exact


@pytest.mark.parametrize("stand_in", ["hold", "black"])
def test_missing_dpx_frames_are_stood_in_for(cut: Cut, farm, stand_in):
    suffix = rasters_cut(cut, "dpx10", 7)
    cut.manifest["missing"] = stand_in
    for number in (FIRST_FILE + 3, FIRST_FILE + 4):
        cut.plate_file("SH010", number, suffix).unlink()
    document = submit(cut, farm)
    assert f"2 frames the media lacks are stood in for ({stand_in})" in planned(document)
    held, _ = read_image(cut.plate_file("SH010", FIRST_FILE + 2, suffix))
    for index in (3, 4):
        after, says = read_image(cut.frame("SH010", FIRST_FILE + index, suffix=suffix))
        before = held if stand_in == "hold" else np.zeros_like(held)
        matte = cut.comp_matte("SH010", FIRST_FILE + index)
        assert (after[matte == 0] == before[matte == 0]).all()
        assert says.getattribute("dpx:TimeCode") == f"01:00:00:{index:02d}"
    assert cut.take("SH010").stood_in == (FIRST_FILE + 3, FIRST_FILE + 4)
    submit_again(cut, farm)


# --------------------------------------------------------------------------- movies


def write_plate_movie(path: Path, kind: str, count: int = FRAMES, *, sound: np.ndarray | None = None) -> None:
    """A movie of `integers`, tagged BT.709, from 01:00:00:00; with sound (samples at 48 kHz) beside it."""
    _, encoder, pixel_format, options, size = MOVIES[kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(encoder, rate=Fraction(24), options=options)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        context = stream.codec_context
        context.time_base = Fraction(1, 24)
        context.color_primaries, context.color_trc = 1, 1
        context.colorspace = 0 if pixel_format.startswith("gbr") else 1
        context.color_range = 2 if pixel_format.startswith("gbr") else 1
        stream.metadata["timecode"] = "01:00:00:00"
        samples = np.zeros(0, np.int16) if sound is None else sound
        audio: Any = container.add_stream("pcm_s16le", rate=48000, layout="mono") if len(samples) else None
        for index in range(count):
            codes = integers(10, 3, index, size)
            if pixel_format == "gbrp10le":
                frame = av.VideoFrame(*size, pixel_format)
                for plane, channel in zip(frame.planes, (1, 2, 0), strict=True):
                    lines = np.zeros((size[1], plane.line_size // 2), np.uint16)
                    lines[:, : size[0]] = codes[..., channel]
                    plane.update(lines.tobytes())
            else:
                frame = av.VideoFrame.from_ndarray((codes >> 2).astype(np.uint8), format="rgb24")
                frame = frame.reformat(format=pixel_format, dst_colorspace="ITU709")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for at in range(0, len(samples), 1000):
            part = av.AudioFrame.from_ndarray(samples[None, at : at + 1000], format="s16", layout="mono")
            part.sample_rate, part.pts, part.time_base = 48000, at, Fraction(1, 48000)
            container.mux(audio.encode(part))
        container.mux(audio.encode(None) if audio is not None else [])


@pytest.mark.parametrize("kind", list(MOVIES))
def test_movies_come_back_as_our_decode(cut: Cut, farm, kind):
    name, _, _, _, size = MOVIES[kind]
    movie = cut.folder / "media" / name
    write_plate_movie(movie, kind)
    cut.played("SH010", FRAMES, movie=f"media/{name.replace(' ', '%20').replace('#', '%23')}", size=size)
    submit(cut, farm)
    with open_plate(movie) as plate:
        for index, number in enumerate(numbers()):
            before = plate.read(index).rgb
            codes = integers(10, 3, index, size) / 1023
            assert np.abs(before[4:-4] - codes[4:-4]).mean() < (1e-7 if kind == "ffv1" else 0.03)
            same_outside(cut, "SH010", number, before, read_exr(cut.frame("SH010", number)))
            header = OpenEXR.File(str(cut.frame("SH010", number))).parts[0].header
            assert header["colorInteropID"] == "g24_rec709_display"
            assert header["framesPerSecond"] == Fraction(24)
            code = header["timeCode"]
            assert (code.hours, code.minutes, code.seconds, code.frame) == (1, 0, 0, index)
    assert cut.take("SH010").exact
    returned(cut, ".exr")
    submit_again(cut, farm)


def test_frames_beyond_the_end_of_a_movie_are_held(cut: Cut, farm):
    movie = cut.folder / "plate.mkv"
    write_plate_movie(movie, "ffv1")
    cut.played("SH010", FRAMES, movie="plate.mkv")
    cut.clips[0]["source_range"]["duration"]["value"] = 7
    cut.manifest["missing"] = "hold"
    submit(cut, farm)
    assert cut.take("SH010").stood_in == (5, 6)
    with open_plate(movie) as plate:
        last = plate.read(4).rgb
    for number in (FIRST_FILE + 5, FIRST_FILE + 6):
        after = read_exr(cut.frame("SH010", number))
        assert (after[cut.comp_matte("SH010", number) == 0] == last[cut.comp_matte("SH010", number) == 0]).all()
        assert OpenEXR.File(str(cut.frame("SH010", number))).parts[0].header["timeCode"].frame == number - FIRST_FILE


def heard(path: Path) -> np.ndarray:
    """The samples of a movie's sound, from its time 0."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.audio
        assert stream.codec_context.name == "pcm_s16le"
        frames = list(container.decode(stream))
    places = [round((frame.time or 0) * 48000) for frame in frames]
    found = np.zeros(places[-1] + frames[-1].samples, np.int16)
    for place, frame in zip(places, frames, strict=True):
        samples = frame.to_ndarray().ravel()
        found[max(0, place) : place + len(samples)] = samples[max(0, -place) :]
    return found


def test_the_sound_of_the_plate_is_in_its_review_movie(cut: Cut, farm):
    sound = np.random.default_rng(1).integers(-20000, 20000, 2000 * 14).astype(np.int16)
    write_plate_movie(cut.folder / "media/plate.mov", "prores", 14, sound=sound)
    cut.played("SH010", 14, movie="media/plate.mov")
    cut.clips.clear()
    reference = {
        "OTIO_SCHEMA": "ExternalReference.1",
        "metadata": {},
        "name": "",
        "available_range": None,
        "available_image_bounds": None,
        "target_url": "media/plate.mov",
    }
    cut.manifest["handles"] = {"head": 1, "tail": 1}
    cut.clip("SH010", first=6, count=4, available=14, media_references={"DEFAULT_MEDIA": reference})
    submit(cut, farm)
    take = cut.take("SH010")
    assert (take.frames.first, take.frames.count, take.notes) == (5, 6, ())
    movie = cut.version("SH010") / "SH010_scail2_v001.mov"
    assert take.movie == movie.name
    with av.open(str(movie)) as container:
        video = container.streams.video[0]
        assert video.metadata["timecode"] == "01:00:00:05"
        assert [round((frame.time or 0) * 24, 6) for frame in container.decode(video)] == list(range(6))
    assert (heard(movie)[: 6 * 2000] == sound[5 * 2000 : 11 * 2000]).all()


# --------------------------------------------------------------------------- takes on disk


@pytest.mark.parametrize("kind", ["dpx10", "tiff8", "h264"])
def test_a_segment_is_put_back_from_a_take_that_lost_a_frame(cut: Cut, farm, kind):
    """Only the segment of the lost frame is rendered; the other is taken from the version that lost it."""
    if kind in RASTERS:
        suffix = rasters_cut(cut, kind, 13)
    else:
        suffix = ".exr"
        write_plate_movie(cut.folder / "plate.mp4", kind, 13)
        cut.played("SH010", 13, movie="plate.mp4")
    submit(cut, farm)
    lost = cut.frame("SH010", FIRST_FILE + 12, suffix=suffix)
    lost.unlink()
    shutil.rmtree(cut.folder / "edit.scail2" / ".work")
    outcome, events = submitted(cut)
    assert not outcome.faults
    assert {event.segment for event in events if isinstance(event, Rendering)} == {1}
    for number in numbers(9):
        names = [cut.frame("SH010", number, version, suffix) for version in (1, 2)]
        assert names[0].read_bytes() == names[1].read_bytes()


def test_a_form_that_was_delivered_is_found_again(cut: Cut, farm):
    rasters_cut(cut, "dpx10")
    takes: list[tuple[int, bool]] = []
    for form in ("plate", "exr-half", "plate", "exr-half"):
        cut.manifest["deliver"] = {"format": form, "movie": "none"}
        (take,) = submit(cut, farm)["takes"]
        takes.append((take["version"], take["rendered_before"]))
        returned(cut, ".dpx" if form == "plate" else ".exr")
    assert takes == [(1, False), (2, False), (1, True), (2, True)]


def test_one_cut_of_every_kind(cut: Cut, farm):
    """Each shot comes back as its own kind, in one returned cut."""
    cut.plate("SH010", FRAMES)
    cut.played("SH010", FRAMES)
    suffixes = {"SH010": ".exr"}
    for place, (suffix, bits, channels) in enumerate(RASTERS.values(), 2):
        shot = f"SH0{place}0"
        for index, number in enumerate(numbers()):
            write_image(cut.plate_file(shot, number, suffix), integers(bits, channels, index), bits=bits)
        cut.played(shot, FRAMES, suffix=suffix)
        suffixes[shot] = suffix
    write_plate_movie(cut.folder / "plate.mkv", "ffv1")
    cut.played("SH080", FRAMES, movie="plate.mkv")
    suffixes["SH080"] = ".exr"
    cut.manifest |= SDR
    assert [take["shot"] for take in submit(cut, farm)["takes"]] == list(suffixes)
    clips = list(otio.adapters.read_from_file(str(cut.folder / "edit.scail2.otio")).find_clips())
    assert {clip.name: clip.media_reference.name_suffix for clip in clips} == suffixes
    for clip in clips:
        files = [clip.media_reference.target_url_for_image_number(index) for index in range(FRAMES)]
        assert all((cut.folder / file).is_file() for file in files)


# --------------------------------------------------------------------------- other forms


@pytest.mark.parametrize("plate", ["exr", "dpx"])
@pytest.mark.parametrize("form", list(FORMATS))
def test_frames_are_delivered_in_another_form(cut: Cut, farm, plate, form):
    if plate == "exr":
        cut.plate("SH010", FRAMES)
        cut.played("SH010", FRAMES)
    else:
        rasters_cut(cut, "dpx10")
    cut.manifest["deliver"] = {"format": form, "movie": "none"}
    document = submit(cut, farm)
    told = planned(document)
    assert f"delivered as {form}, not in the plate's own class" in told
    assert ("brighter light is lost" in told) == (plate == "exr" and not form.startswith("exr"))
    suffix, bits = FORMATS[form]
    take = cut.take("SH010")
    assert (take.exact, take.movie, take.output.format) == (False, None, form)
    for index, number in enumerate(numbers()):
        if plate == "exr":
            before = read_exr(cut.plate_file("SH010", number)).astype(np.float64)
        else:
            before = read_image(cut.plate_file("SH010", number, ".dpx"))[0] / 1023
        outside = cut.comp_matte("SH010", number) == 0
        path = cut.frame("SH010", number, suffix=suffix)
        if suffix == ".exr":
            after, header = read_exr(path), OpenEXR.File(str(path)).parts[0].header
            assert (after.dtype, header["timeCode"].frame) == (f"float{bits}", index)
            assert np.allclose(after[outside], before[outside], rtol=2**-11, atol=2**-24)
        else:
            after, spec = read_image(path)
            white = 2**bits - 1
            assert (after.dtype, spec.getattribute("oiio:BitsPerSample") or 16) == ("uint16", bits)
            assert np.abs(after[outside] - before[outside].clip(0, 1) * white).max() <= 0.51
            if form == "dpx10":
                assert spec.getattribute("dpx:TimeCode") == f"01:00:00:{index:02d}"
    returned(cut, suffix)
    submit_again(cut, farm)


@pytest.mark.parametrize(
    ("window", "left"), [((0, 0, WIDTH, HEIGHT), ""), ((-6, -4, 92, 56), ", overscan")], ids=["plain", "overscan"]
)
def test_what_another_form_does_not_hold_is_told(cut: Cut, farm, window, left):
    write_windowed(cut, window, {"A": np.float16, "Z": np.float32})
    cut.played("SH010", FRAMES)
    cut.manifest["deliver"] = {"format": "exr-half"}
    told = f"delivered frames have R, G and B alone; left out: A, Z{left}"
    assert f'"{told}"' in planned(submit(cut, farm))
    assert OpenEXR.File(str(cut.frame("SH010", FIRST_FILE))).channels().keys() == {"RGB"}
    cut.manifest["deliver"] = {"format": "plate"}
    assert "left out" not in planned(submit(cut, farm))


COMPRESSIONS = {
    "zip": OpenEXR.ZIP_COMPRESSION,
    "zips": OpenEXR.ZIPS_COMPRESSION,
    "piz": OpenEXR.PIZ_COMPRESSION,
    "zstd": OpenEXR.Compression.ZSTD_COMPRESSION,
    "none": OpenEXR.NO_COMPRESSION,
    "dwaa": OpenEXR.DWAA_COMPRESSION,
}


@pytest.mark.parametrize("compression", list(COMPRESSIONS))
def test_frames_are_packed_as_asked(cut: Cut, farm, compression):
    cut.plate("SH010", FRAMES)
    cut.played("SH010", FRAMES)
    cut.manifest["deliver"] = {"compression": compression, "movie": "none"}
    told = planned(submit(cut, farm))
    path = cut.frame("SH010", FIRST_FILE)
    assert OpenEXR.File(str(path)).parts[0].header["compression"] == COMPRESSIONS[compression]
    exact = compression != "dwaa"
    assert cut.take("SH010").exact == exact
    assert ("dwaa" in told) == (not exact)
    before, after = read_exr(cut.plate_file("SH010", FIRST_FILE)), read_exr(path)
    if exact:
        same_outside(cut, "SH010", FIRST_FILE, before, after)
    else:
        outside = cut.comp_matte("SH010", FIRST_FILE) == 0
        assert np.abs(before[outside].astype(float) - after[outside]).mean() < 0.01


def test_review_movies_of_every_codec_lie_side_by_side(cut: Cut, farm):
    for index, number in enumerate(numbers()):
        rgb = np.repeat(np.repeat(plate_pixels(0, index), 4, axis=0), 4, axis=1)
        write_exr(cut.plate_file("SH010", number), rgb, frame=FIRST_TC + index)
    cut.played("SH010", FRAMES, size=(4 * WIDTH, 4 * HEIGHT), box=(80, 40, 80, 120))
    codecs: dict[MovieCodec, tuple[str, str, str]] = {
        "prores4444": ("_4444.mov", "prores", "yuv444p12le"),
        "dnxhr": ("_dnxhr.mov", "dnxhd", "yuv422p10le"),
        "h264": (".mp4", "h264", "yuv420p"),
        "prores": (".mov", "prores", "yuv422p10le"),
    }
    frames: dict[Path, int] = {}
    for count, (codec, (ending, decoder, pixel_format)) in enumerate(codecs.items()):
        cut.manifest["deliver"] = {"movie": codec}
        (take,) = submit(cut, farm)["takes"]
        assert (take["version"], take["rendered_before"]) == (1, count > 0)
        movie = cut.version("SH010") / f"SH010_scail2_v001{ending}"
        assert cut.take("SH010").movie == movie.name
        with av.open(str(movie)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == (decoder, pixel_format)
            assert stream.metadata["timecode"] == "01:00:00:00"
            assert sum(1 for _ in container.decode(stream)) == FRAMES
        here = {path: path.stat().st_mtime_ns for path in cut.version("SH010").rglob("*.exr")}
        assert frames in ({}, here)
        frames = here
    movies = sorted(path.name for path in cut.version("SH010").iterdir() if path.suffix in (".mov", ".mp4"))
    assert movies == sorted(f"SH010_scail2_v001{ending}" for ending, _, _ in codecs.values())
    known = {file.path for file in cut.take("SH010").files}
    assert known >= set(movies)
    cut.manifest["deliver"] = {"movie": "none"}
    (take,) = submit(cut, farm)["takes"]
    assert (take["version"], take["rendered_before"]) == (1, True)


def test_a_picture_too_small_for_the_review_movie_is_refused(cut: Cut, farm):
    cut.plate("SH010", FRAMES)
    cut.played("SH010", FRAMES)
    cut.manifest["deliver"] = {"movie": "dnxhr"}
    said = farm("check", cut.write(), "--json")
    assert (said.code, said.codes) == (3, ["SF-SUBMISSION-INVALID"])
    (fault,) = said.document["faults"]
    assert "80x48 cannot be dnxhr" in fault["what"]
    assert fault["where"]["shot"] == "SH010"
