"""Takes in the cut: only our reference is added, everything else comes back as it was, and OpenTimelineIO reads it."""

import copy
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import opentimelineio as otio
import pytest
from cuts import clip, cut, gap, movie, sequence, span, stack, time, track, written

from scail2_farm.editorial.takes import TakeLink, link_takes, write_edit
from scail2_farm.editorial.timeline import read_edit
from scail2_farm.errors import ShareUnavailable, TimelineUnreadable
from scail2_farm.frames import FrameRange

Node = dict[str, Any]


def take(folder: Path, *, cut: FrameRange, first: int, count: int, first_file: int | None = None) -> TakeLink:
    return TakeLink(
        folder=folder,
        prefix="SH010_scail2_v001.",
        padding=4,
        suffix=".exr",
        first_file=first if first_file is None else first_file,
        count=count,
        first_plate_frame=first,
        cut=cut,
        rate=Fraction(24),
        metadata={"take": "abc", "version": 1, "shot": "SH010"},
    )


def linked(path: Path, *, first: int, count: int, first_file: int | None = None, **probed: Any) -> tuple[Node, Any]:
    """The first clip's media references after linking, and the clip as OpenTimelineIO has it."""
    edit = read_edit(path)
    used = edit.clips[0].used_frames(**probed)
    link = take(path.parent / "cut.scail2" / "v001", cut=used, first=first, count=count, first_file=first_file)
    document = link_takes(edit, {edit.clips[0].id: link})
    returned = path.with_name("cut.scail2.otio")
    write_edit(document, returned)
    loaded = otio.adapters.read_from_file(str(returned))
    return document, next(iter(loaded.find_clips()))


def test_a_take_is_active_beside_the_plate_and_its_frames_meet_the_cut(tmp_path: Path):
    path = written(cut(track(clip(source=span(86410, 20)))), tmp_path)
    document, found = linked(path, first=1003, count=36)
    reference = found.media_reference
    assert found.active_media_reference_key == "scail2_farm"
    assert set(found.media_references()) == {"DEFAULT_MEDIA", "scail2_farm"}
    assert reference.target_url_base == "cut.scail2/v001/"
    assert reference.available_range == otio.opentime.TimeRange(
        otio.opentime.RationalTime(86402, 24), otio.opentime.RationalTime(36, 24)
    )
    assert reference.frame_for_time(found.source_range.start_time) == 1011
    assert reference.metadata["scail2_farm"]["active_before"] == "DEFAULT_MEDIA"
    assert json.loads(path.read_text()) == read_edit(path).document
    assert document["tracks"]["children"][0]["children"][0]["source_range"] == span(86410, 20)


def test_a_movie_keeps_its_time_and_gets_numbers(tmp_path: Path):
    media = movie("file:///p/a%20b.mov", available=span(86400, 96))
    path = written(cut(track(clip(source=span(86410, 20), media=media))), tmp_path)
    document, found = linked(path, first=2, count=36, first_file=1001)
    assert found.media_reference.frame_for_time(found.source_range.start_time) == 1009
    kept = document["tracks"]["children"][0]["children"][0]["media_references"]["DEFAULT_MEDIA"]
    assert kept == media


@pytest.mark.parametrize(
    ("node", "probed", "first"),
    [
        (clip(source=span(4, 10), media=sequence(available=span(1001, 40))), {}, 1001),
        (clip(source=span(1011, 10), media=sequence()), {"probed": FrameRange(1001, 40)}, 1005),
        (clip(source=span(86410, 10), media=sequence()), {"probed": FrameRange(1001, 40), "probed_start": 86400}, 1005),
        (
            clip(source=span(86400, 10, 23.976), media=sequence(available=span(86400, 40, 24000 / 1001))),
            {},
            1001,
        ),
        (
            clip(
                source=span(909986.0387191772, 10, 23.976024627685547),
                media=sequence(available=span(948674, 301, 25.0)),
            ),
            {},
            1170,
        ),
        (clip(), {}, 1001),
    ],
)
def test_the_cut_shows_the_same_frames_of_the_take(tmp_path: Path, node: Node, probed: Node, first: int):
    path = written(cut(track(node)), tmp_path)
    _, found = linked(path, first=first, count=30, **probed)
    used = read_edit(path).clips[0].used_frames(**probed)
    at = found.source_range.start_time if found.source_range else found.media_reference.available_range.start_time
    assert found.media_reference.frame_for_time(at) == used.first


def test_an_old_clip_becomes_what_opentimelineio_makes_of_it(tmp_path: Path):
    node = clip(source=span(86400, 10)) | {
        "OTIO_SCHEMA": "Clip.1",
        "media_reference": sequence(available=span(86400, 48)),
    }
    del node["media_references"], node["active_media_reference_key"]
    path = written(cut(track(node)), tmp_path)
    document, _ = linked(path, first=1001, count=10)
    changed = document["tracks"]["children"][0]["children"][0]
    assert changed["OTIO_SCHEMA"] == "Clip.2"
    assert "media_reference" not in changed
    assert changed["media_references"]["DEFAULT_MEDIA"] == node["media_reference"]


def test_a_returned_cut_can_be_submitted_again(tmp_path: Path):
    media = {"main": sequence(available=span(86400, 48)), "proxy": movie()}
    node = clip(source=span(86410, 20), media_references=media, active_media_reference_key="main")
    path = written(cut(track(node)), tmp_path)
    first, _ = linked(path, first=1003, count=36)
    again = read_edit(tmp_path / "cut.scail2.otio")
    assert again.clips[0].media is not None
    assert again.clips[0].media.key == "main"
    assert again.clips[0].used_frames() == FrameRange(1011, 20)
    link = take(tmp_path / "cut.scail2" / "v002", cut=FrameRange(1011, 20), first=1003, count=36)
    second = link_takes(again, {again.clips[0].id: link})
    references = second["tracks"]["children"][0]["children"][0]["media_references"]
    assert list(references) == ["main", "proxy", "scail2_farm"]
    assert references["scail2_farm"]["target_url_base"] == "cut.scail2/v002/"
    assert references["scail2_farm"]["metadata"]["scail2_farm"]["active_before"] == "main"
    assert (
        first["tracks"]["children"][0]["children"][0]["media_references"]["scail2_farm"]["target_url_base"]
        == "cut.scail2/v001/"
    )


def test_only_the_rendered_clip_changes(tmp_path: Path):
    other = clip("B", metadata={"nan": float("inf"), "big": 2**70, "名": "é"})
    document = cut(track(clip("A"), gap(3), stack(track(other))), start=time(86400, 23.976))
    path = written(document, tmp_path)
    changed, _ = linked(path, first=1001, count=48)
    expected = copy.deepcopy(document)
    place = expected["tracks"]["children"][0]["children"][0]
    place["media_references"]["scail2_farm"] = changed["tracks"]["children"][0]["children"][0]["media_references"][
        "scail2_farm"
    ]
    place["active_media_reference_key"] = "scail2_farm"
    assert changed == expected
    assert read_edit(tmp_path / "cut.scail2.otio").document == expected


def test_a_take_elsewhere_is_addressed_absolutely(tmp_path: Path):
    edit = read_edit(written(cut(track(clip())), tmp_path))
    link = take(Path("/far/a b"), cut=FrameRange(1001, 48), first=1001, count=48)
    document = link_takes(edit, {"SH010": link})
    reference = document["tracks"]["children"][0]["children"][0]["media_references"]["scail2_farm"]
    assert reference["target_url_base"] == "file:///far/a%20b/"


def test_the_picture_bounds_of_the_plate_go_with_the_take(tmp_path: Path):
    bounds = {
        "OTIO_SCHEMA": "Box2d.1",
        "min": {"OTIO_SCHEMA": "V2d.1", "x": 0.0, "y": 0.0},
        "max": {"OTIO_SCHEMA": "V2d.1", "x": 16.0, "y": 9.0},
    }
    media = sequence(available=span(86400, 48), available_image_bounds=bounds)
    path = written(cut(track(clip(media=media))), tmp_path)
    _, found = linked(path, first=1001, count=48)
    assert found.media_reference.available_image_bounds.max.x == 16


def test_what_does_not_read_back_is_not_written(tmp_path: Path):
    document = cut(track(clip()))
    document["tracks"]["children"][0]["children"].append({"OTIO_SCHEMA": "Acme.1"})
    with pytest.raises(TimelineUnreadable, match="cannot load"):
        write_edit(document, tmp_path / "out.otio")
    broken = cut(track(clip(metadata={"a": object()})))
    with pytest.raises(TimelineUnreadable, match="cannot be written"):
        write_edit(broken, tmp_path / "out.otio")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_told(tmp_path: Path):
    with pytest.raises(ShareUnavailable):
        write_edit(cut(track(clip())), tmp_path / "gone" / "out.otio")
