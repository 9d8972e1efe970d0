"""Offline media found again: by reel and timecode, then by name; never by guessing."""

import json
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from scail2_farm import search
from scail2_farm.editorial.clips import Clip
from scail2_farm.editorial.timeline import read_edit
from scail2_farm.errors import PlateMissing
from scail2_farm.frames import FramePattern, timecode
from scail2_farm.media import exr
from scail2_farm.media.movies import write_movie
from scail2_farm.media.reels import reel_of
from scail2_farm.search import Index

RATE = Fraction(24)
HOUR = 86400
GRAY = np.full((32, 32, 3), 0.5, np.float32)


OFFLINE_SEQUENCE = {
    "OTIO_SCHEMA": "Timeline.1",
    "name": "cut",
    "tracks": {
        "OTIO_SCHEMA": "Stack.1",
        "children": [
            {
                "OTIO_SCHEMA": "Track.1",
                "kind": "Video",
                "children": [
                    {
                        "OTIO_SCHEMA": "Clip.2",
                        "name": "SH010",
                        "source_range": {
                            "OTIO_SCHEMA": "TimeRange.1",
                            "start_time": {"OTIO_SCHEMA": "RationalTime.1", "rate": 24.0, "value": 1003.0},
                            "duration": {"OTIO_SCHEMA": "RationalTime.1", "rate": 24.0, "value": 5.0},
                        },
                        "active_media_reference_key": "DEFAULT_MEDIA",
                        "media_references": {
                            "DEFAULT_MEDIA": {
                                "OTIO_SCHEMA": "ImageSequenceReference.1",
                                "target_url_base": "/gone",
                                "name_prefix": "PL01.",
                                "name_suffix": ".exr",
                                "start_frame": 1001,
                                "frame_step": 1,
                                "rate": 24.0,
                                "frame_zero_padding": 4,
                                "missing_frame_policy": "error",
                            }
                        },
                    }
                ],
            }
        ],
    },
}


def movie(path: Path, *, start: int = HOUR, count: int = 20, rate: Fraction = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_movie(path, [GRAY] * count, rate=rate, timecode=timecode(start, rate))
    return path


def tagged(path: Path, reel: str) -> Path:
    """The same movie with a reel in its metadata."""
    plain = path.with_name("plain.mov")
    path.rename(plain)
    with av.open(str(plain)) as source, av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as target:
        video = source.streams.video[0]
        stream = target.add_stream_from_template(video)
        target.metadata.update(reel_name=reel, timecode=video.metadata["timecode"])
        for packet in source.demux(video):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    plain.unlink()
    return path


def frames(folder: Path, prefix: str, first: int, count: int, **attributes: object) -> FramePattern:
    folder.mkdir(parents=True, exist_ok=True)
    pattern = FramePattern(folder, prefix, 4, ".exr")
    for number in range(first, first + count):
        exr.write_rgb(pattern.path(number), GRAY, attributes=attributes)
    return pattern


def scanned(*folders: Path) -> Index:
    index = Index(folders)
    assert list(index.scan()), "the search looked at nothing"
    return index


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    folder = tmp_path / "edit"
    folder.mkdir()
    return folder


def offline(
    folder: Path, reel: str, start: int = HOUR + 5, count: int = 10, *, name: str = "SH010", more: str = ""
) -> Clip:
    """The one clip of an EDL."""
    times = (timecode(frame, RATE) for frame in (start, start + count, HOUR, HOUR + count))
    path = folder / "cut.edl"
    path.write_text(f"TITLE: x\n001 {reel} V C {' '.join(times)}\n* FROM CLIP NAME: {name}\n{more}")
    (clip,) = read_edit(path, rate=RATE).clips
    assert clip.offline
    return clip


def test_a_movie_by_reel_and_timecode(lists: Path, tmp_path: Path):
    wanted = movie(tmp_path / "media" / "deep" / "A001_C002_0101AB.mov")
    movie(tmp_path / "media" / "A001_C003_0101AB.mov")
    movie(tmp_path / "media" / "later" / "A001_C002_0101AC.mov", start=2 * HOUR)
    index = scanned(tmp_path / "media")
    for reel in ("A001_C002_0101AB", "a001c002", "A001C002"):
        clip = offline(lists, reel)
        assert index.find(clip) == wanted
    found = index.relinked(clip)
    assert found.fault is None
    assert not found.offline
    used = found.used(search.probe(wanted).frames, HOUR)
    assert (used.frames.first, used.frames.count) == (5, 10)


def test_media_at_another_rate_than_the_list_was_read_at_is_told(lists: Path, tmp_path: Path):
    wanted = movie(tmp_path / "media" / "A001C002.mov", rate=Fraction(24000, 1001))
    index = scanned(tmp_path / "media")
    assert index.find(offline(lists, "A001C002")) is None
    (note,) = index.notes
    assert str(wanted) in note
    assert "at 23.976 frames a second; the clip is read at 24" in note
    (clip,) = read_edit(lists / "cut.edl", rate=Fraction(24000, 1001)).clips
    assert index.find(clip) == wanted


@pytest.mark.parametrize(("start", "count"), [(HOUR - 5, 10), (HOUR + 15, 10), (HOUR - 5, 3)])
def test_a_reel_that_does_not_cover_the_clip_is_not_it(lists: Path, tmp_path: Path, start: int, count: int):
    movie(tmp_path / "media" / "A001C002.mov")
    clip = offline(lists, "A001C002", start, count)
    index = scanned(tmp_path / "media")
    assert index.find(clip) is None
    with pytest.raises(PlateMissing) as fault:
        index.relinked(clip)
    assert fault.value.what == (
        f"the clip's media is offline; reel A001C002, source timecode {timecode(start, RATE)}; "
        f"not found under {tmp_path / 'media'}"
    )
    assert fault.value.where == clip.where
    assert "--search" not in fault.value.fix
    assert Index([tmp_path / "media"]).relinked(clip) is clip, "folders that were not walked say nothing"


def test_a_reel_in_the_metadata_of_a_movie(lists: Path, tmp_path: Path):
    wanted = tagged(movie(tmp_path / "media" / "transcode 7.mov"), "B012_C001")
    assert reel_of(wanted) == "B012_C001"
    movie(tmp_path / "media" / "other.mov")
    assert scanned(tmp_path / "media").find(offline(lists, "B012C001")) == wanted


def test_a_sequence_by_the_reel_and_timecode_in_its_headers(lists: Path, tmp_path: Path):
    first = timecode(HOUR, RATE)
    attributes = {"reelName": "C003R1AB", "timeCode": first, "framesPerSecond": RATE}
    wanted = frames(tmp_path / "media", "plate_v001.", 1001, 20, **attributes)
    frames(tmp_path / "media", "clean_v001.", 1001, 20)
    clip = scanned(tmp_path / "media").relinked(offline(lists, "C003R1AB"))
    assert clip.media is not None
    assert clip.media.pattern == wanted
    probed = search.probe(wanted)
    assert clip.used(probed.frames, probed.timecode_start).frames.first == 1006


def test_a_sequence_numbered_by_its_timecode(lists: Path, tmp_path: Path):
    wanted = frames(tmp_path / "media", "D001C001.", HOUR, 20)
    wanted = FramePattern(wanted.folder, wanted.prefix, 5, wanted.suffix)
    assert scanned(tmp_path / "media").find(offline(lists, "D001C001")) == wanted


def test_by_name_when_no_reel_helps(lists: Path, tmp_path: Path):
    wanted = movie(tmp_path / "media" / "Sh010.mov")
    index = scanned(tmp_path / "media")
    for reel in ("AX", "Z999"):
        assert index.find(offline(lists, reel)) == wanted
    assert index.find(offline(lists, "AX", name="SH010.mov")) == wanted
    assert index.find(offline(lists, "AX", name="SH01")) is None
    assert index.find(offline(lists, "AX", name="x", more="*SOURCE FILE: SH010\n")) == wanted


def test_by_the_name_in_the_address_of_missing_media(lists: Path, tmp_path: Path):
    wanted = frames(tmp_path / "media", "PL01.", 1001, 20)
    path = lists / "cut.otio"
    path.write_text(json.dumps(OFFLINE_SEQUENCE))
    (clip,) = read_edit(path).clips
    assert scanned(tmp_path / "media").find(clip) == wanted


def test_several_that_fit_are_a_fault_that_lists_them(lists: Path, tmp_path: Path):
    one, other = movie(tmp_path / "media" / "a" / "A001C002.mov"), movie(tmp_path / "media" / "b" / "A001C002.mov")
    index = scanned(tmp_path / "media")
    clip = offline(lists, "A001C002")
    for asked in (clip, offline(lists, "AX", name="A001C002")):
        with pytest.raises(PlateMissing) as fault:
            index.find(asked)
        assert f"{one}, {other}" in fault.value.what
        assert fault.value.where == asked.where
    assert scanned(tmp_path / "media" / "b").find(clip) == other


def test_of_several_of_a_reel_the_one_with_the_name(lists: Path, tmp_path: Path):
    movie(tmp_path / "media" / "A001C002_1.mov")
    wanted = movie(tmp_path / "media" / "A001C002_2.mov")
    clip = offline(lists, "A001C002", name="A001C002_2")
    assert scanned(tmp_path / "media").find(clip) == wanted


def test_short_reels_match_whole_or_not_at_all(lists: Path, tmp_path: Path):
    movie(tmp_path / "media" / "SC0110.mov")
    assert scanned(tmp_path / "media").find(offline(lists, "SC01")) is None
    wanted = movie(tmp_path / "media" / "SC01.mov")
    assert scanned(tmp_path / "media").find(offline(lists, "SC01")) == wanted


def test_links_hidden_folders_and_our_own(lists: Path, tmp_path: Path):
    media = tmp_path / "media"
    wanted = movie(media / "A001C002.mov")
    for folder in (".trash", "cut.scail2"):
        (media / folder).mkdir()
        os.link(wanted, media / folder / wanted.name)
    (media / "loop").symlink_to(media, target_is_directory=True)
    (media / "dangling").symlink_to(media / "nowhere")
    index = scanned(media, media)
    assert index.find(offline(lists, "A001C002")) == wanted
    assert index.notes == []


def test_broken_media_is_told_and_left_out(lists: Path, tmp_path: Path):
    wanted = movie(tmp_path / "media" / "A001C002.mov")
    (tmp_path / "media" / "A001C002_x.mov").write_bytes(b"not a movie")
    (tmp_path / "media" / "p.1001.exr").write_bytes(b"not a picture")
    index = scanned(tmp_path / "media")
    assert index.find(offline(lists, "A001C002")) == wanted
    assert len(index.notes) == 2


def test_a_search_in_vain_names_the_folders_and_keeps_a_better_fix(tmp_path: Path):
    (tmp_path / "media").mkdir()
    index = Index([tmp_path / "media"])
    list(index.scan())
    path = tmp_path / "cut.otio"
    text = json.dumps(OFFLINE_SEQUENCE)
    faults: list[PlateMissing] = []
    for folder in ("/gone", "P:/gone"):
        path.write_text(text.replace("/gone", folder))
        (clip,) = read_edit(path).clips
        with pytest.raises(PlateMissing) as fault:
            index.relinked(clip)
        faults.append(fault.value)
    assert [fault.what for fault in faults] == [
        f"the media /gone/PL01.####.exr is not there; not found under {tmp_path / 'media'}",
        f"P:/gone is a path of another machine; not found under {tmp_path / 'media'}",
    ]
    assert faults[0].fix == "search the folder that holds it, or relink the clip and export the timeline again"
    assert "path_map" in faults[1].fix


def test_a_file_is_no_folder_to_search(tmp_path: Path):
    (tmp_path / "a.mov").touch()
    with pytest.raises(PlateMissing, match=r"a\.mov is a file, and folders are searched"):
        list(Index([tmp_path / "a.mov"]).scan())


def test_what_cannot_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(PlateMissing, match="nowhere"):
        list(Index([tmp_path / "nowhere"]).scan())
    monkeypatch.setattr(search, "MOST_FILES", 2)
    for name in ("a.mov", "b.mov", "c.mov"):
        (tmp_path / name).touch()
    with pytest.raises(PlateMissing, match="more than 2 files"):
        list(Index([tmp_path]).scan())


def test_the_order_is_the_same_every_time(tmp_path: Path):
    for name in ("b/x.mov", "a/y.mov", "z.mov"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    looked = list(Index([tmp_path]).scan())
    names = ["", "/a", "/b", "/z.mov", "/a/y.mov", "/b/x.mov"]
    assert looked == [f"{tmp_path}{name}" for name in names]


def test_paddings_of_sequences(tmp_path: Path):
    for name in (
        "a.0999.exr",
        "a.1000.exr",
        "a.10000.exr",
        "b.9.exr",
        "b.10.exr",
        "c.-0003.exr",
        "d.001.exr",
        "d.0001.exr",
    ):
        (tmp_path / name).touch()
    found = {str(source) for source in search._sources(sorted(tmp_path.iterdir()))}
    names = ("a.####.exr", "b.#.exr", "c.####.exr", "d.###.exr", "d.####.exr")
    assert found == {f"{tmp_path}/{name}" for name in names}
