"""Takes in the cut: only our reference is added, everything else comes back as it was, and OpenTimelineIO reads it."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import opentimelineio as otio
import pytest
from cuts import clip, cut, effect, gap, lookup, movie, sequence, span, speed, stack, time, track, transition, written

from scail2_farm.editorial.takes import TakeLink, link_takes, write_edit
from scail2_farm.editorial.timeline import Used, read_edit
from scail2_farm.errors import ShareUnavailable, TimelineUnreadable
from scail2_farm.frames import FrameRange

Node = dict[str, Any]


def take(folder: Path, used: Used, *, first: int, count: int, first_file: int | None = None) -> TakeLink:
    return TakeLink(
        folder=folder,
        prefix="SH010_scail2_v001.",
        padding=4,
        suffix=".exr",
        first_file=first if first_file is None else first_file,
        count=count,
        start=used.time_of(first),
        metadata={"take": "abc", "version": 1, "shot": "SH010"},
    )


def linked(path: Path, *, first: int, count: int, first_file: int | None = None, **probed: Any) -> tuple[Node, Any]:
    """The first clip's media references after linking, and the clip as OpenTimelineIO has it."""
    edit = read_edit(path)
    used = edit.clips[0].used(**probed)
    link = take(path.parent / "cut.scail2" / "v001", used, first=first, count=count, first_file=first_file)
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
    used = read_edit(path).clips[0].used(**probed).frames
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
    assert again.clips[0].used().frames == FrameRange(1011, 20)
    link = take(tmp_path / "cut.scail2" / "v002", again.clips[0].used(), first=1003, count=36)
    second = link_takes(again, {again.clips[0].id: link})
    references = second["tracks"]["children"][0]["children"][0]["media_references"]
    assert list(references) == ["main", "proxy", "scail2_farm"]
    assert references["scail2_farm"]["target_url_base"] == "cut.scail2/v002/"
    assert references["scail2_farm"]["metadata"]["scail2_farm"]["active_before"] == "main"
    assert (
        first["tracks"]["children"][0]["children"][0]["media_references"]["scail2_farm"]["target_url_base"]
        == "cut.scail2/v001/"
    )


def retimed(*effects: Node) -> Node:
    return cut(track(clip(source=span(86410, 10), effects=list(effects))))


@pytest.mark.parametrize(
    ("document", "count"),
    [
        (retimed(speed(2.0)), 20),
        (retimed(speed(-1.5)), 15),
        (retimed(effect("FreezeFrame.1", time_scalar=0.0)), 1),
        (retimed(lookup(-2, 0, 1, 4, 4, 4, 4, 4, 4, 4)), 16),  # -2 .. 9 + 4
        (cut(track(clip(source=span(86410, 10)), transition(), gap(10))), 14),
        (cut(track(stack(clip(source=span(86400, 30)), effects=[speed(2.0)], source=span(5, 10)))), 20),
        (cut(track(clip(source=span(4, 10), media=sequence(available=span(1001, 40))))), 10),
        (cut(track(clip(source=span(86410, 10), media=sequence(available=span(86400, 48), frame_step=3)))), 10),
    ],
)
def test_a_returned_cut_needs_the_same_frames_and_finds_them_at_the_same_times(
    tmp_path: Path, document: Node, count: int
):
    """Whatever retimes it: the take covers the needed frames in the time the plate had, and the next read agrees."""
    path = written(document, tmp_path)
    used = read_edit(path).clips[0].used()
    assert used.frames.count == count
    _, found = linked(path, first=used.frames.first, count=used.frames.count)
    again = read_edit(tmp_path / "cut.scail2.otio").clips[0]
    assert again.used() == used
    available = found.media_reference.available_range
    assert (available.start_time.value, available.duration.value) == (float(used.start.value), count)
    assert found.media_reference.frame_for_time(available.start_time) == used.frames.first


def test_a_take_has_the_step_of_its_plate(tmp_path: Path):
    """One file is one frame of it, also in OpenTimelineIO's own counting."""
    media = sequence(available=span(86400, 48), frame_step=2)
    path = written(cut(track(clip(source=span(86410, 4), media=media))), tmp_path)
    edit = read_edit(path)
    (plate,) = edit.clips
    used = plate.used()
    assert plate.media is not None
    assert plate.media.pattern is not None
    numbers = [plate.media.pattern.number(frame) for frame in used.frames.numbers]
    assert numbers == [1021, 1023, 1025, 1027]
    link = take(tmp_path / "t", used, first=used.frames.first, count=4, first_file=numbers[0])
    document = link_takes(edit, {plate.id: replace(link, frame_step=2)})
    write_edit(document, tmp_path / "out.otio")
    (found,) = otio.adapters.read_from_file(str(tmp_path / "out.otio")).find_clips()
    reference = found.media_reference
    assert reference.number_of_images_in_sequence() == 4
    urls = [reference.target_url_for_image_number(index) for index in range(4)]
    assert urls == [f"t/SH010_scail2_v001.{number}.exr" for number in numbers]
    times = [reference.presentation_time_for_image_number(index).rescaled_to(24).value for index in range(4)]
    assert times == [86410, 86411, 86412, 86413]


def test_the_cut_goes_back_to_the_media_it_came_with_even_when_other_media_was_preferred(tmp_path: Path):
    media = {"main": movie(available=span(86400, 48)), "full": sequence(available=span(86400, 48))}
    node = clip(source=span(86410, 20), media_references=media, active_media_reference_key="main")
    path = written(cut(track(node)), tmp_path)
    edit = read_edit(path, prefer=("fu*",))
    document = link_takes(edit, {"SH010": take(tmp_path / "t", edit.clips[0].used(), first=1011, count=20)})
    reference = document["tracks"]["children"][0]["children"][0]["media_references"]["scail2_farm"]
    assert reference["metadata"]["scail2_farm"]["active_before"] == "main"
    again = read_edit(written(document, tmp_path, "again.otio"))
    assert again.clips[0].media is not None
    assert again.clips[0].media.key == "main"


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
    link = take(Path("/far/a b"), edit.clips[0].used(), first=1001, count=48)
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
