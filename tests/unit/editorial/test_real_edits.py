"""Cuts that other people's applications wrote: nothing is lost in reading, and nothing but our take changes."""

import copy
import os
from pathlib import Path
from typing import Any

import opentimelineio as otio
import pytest

from scail2_farm.editorial.takes import TakeLink, link_takes, write_edit
from scail2_farm.editorial.timeline import Edit, read_edit
from scail2_farm.errors import FarmError
from scail2_farm.frames import FrameRange

EDITORIAL = Path(__file__).resolve().parents[4] / "shared" / "editorial"
FILES = sorted(EDITORIAL.rglob("*.otio"))
NEWER = {"premiere_example.otio", "unknown_effect.otio"}  # OpenTimelineIO 0.18 itself refuses these as they are

Node = dict[str, Any]


def test_the_files_are_there():
    if not FILES:
        reason = "the folder shared/editorial is not beside the repository"
        if os.environ.get("SCAIL2_REQUIRE_ALL"):
            pytest.fail(reason)
        pytest.skip(reason)
    assert len(FILES) >= 20


def video_clips(item: Any) -> list[Any]:
    """The clips of a cut's video tracks, as OpenTimelineIO has them."""
    if isinstance(item, otio.schema.Clip):
        return [item]
    if isinstance(item, otio.schema.Track) and item.kind != otio.schema.TrackKind.Video:
        return []
    if isinstance(item, otio.schema.Stack | otio.schema.Track):
        return [clip for child in item for clip in video_clips(child)]
    return []


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_clip_opentimelineio_finds_is_in_the_edit(path: Path):
    edit = read_edit(path)
    if path.name in NEWER:
        with pytest.raises((otio.exceptions.OTIOError, ValueError)):
            otio.adapters.read_from_file(str(path))
        assert edit.clips
        return
    timeline: Any = otio.adapters.read_from_file(str(path))
    theirs = video_clips(timeline.tracks)
    assert [clip.name for clip in edit.clips] == [clip.name for clip in theirs]
    for ours, other in zip(edit.clips, theirs, strict=True):
        compare(ours, other, timeline, edit)


def compare(ours: Any, theirs: Any, timeline: Any, edit: Edit) -> None:
    """The same place in the cut and the same media range as OpenTimelineIO's own arithmetic gives."""
    nested = len(ours.place) > 5 or ours.speed != 1
    if theirs.source_range is not None and not nested:
        assert ours.source_start is not None
        assert float(ours.source_start.value) == theirs.source_range.start_time.value
        assert ours.source_count == round(theirs.source_range.duration.value)
    if ours.record_start is not None and ours.skipped != "trimmed out by the compound":
        track = theirs.parent()
        while not (isinstance(track, otio.schema.Track) and track.parent() is timeline.tracks):
            track = track.parent()
        try:
            start = theirs.transformed_time(theirs.trimmed_range().start_time, track)
        except (otio.exceptions.OTIOError, ValueError):
            return  # an earlier clip has no length for OpenTimelineIO
        if not nested:
            begins = timeline.global_start_time
            record = start.rescaled_to(float(edit.rate)).value + (begins.value if begins else 0)
            assert ours.record_start == pytest.approx(record, abs=0.51)


def takes(edit: Edit, folder: Path) -> dict[str, TakeLink]:
    links: dict[str, TakeLink] = {}
    for clip in edit.clips:
        try:
            used = clip.used()
        except FarmError:
            continue
        if clip.skipped is None:
            frames = used.frames.grown(2, 2)
            links[clip.id] = TakeLink(
                folder=folder / clip.id / "v001",
                prefix=f"{clip.id}_scail2_v001.",
                padding=4,
                suffix=".exr",
                first_file=frames.first,
                count=frames.count,
                start=used.time_of(frames.first),
                metadata={"shot": clip.id},
            )
    return links


def at(document: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        document = document[step]
    return document


def without_takes(document: Node, original: Node, places: list[tuple[str | int, ...]]) -> Node:
    """The document with every linked clip put back; a Clip.1 that became a Clip.2 is compared by its media."""
    plain = copy.deepcopy(document)
    for place in places:
        node, before = at(plain, place), at(original, place)
        taken = node["media_references"].pop("scail2_farm")
        node["active_media_reference_key"] = taken["metadata"]["scail2_farm"]["active_before"]
        if before["OTIO_SCHEMA"] == "Clip.1":
            assert node["OTIO_SCHEMA"] == "Clip.2"
            assert list(node["media_references"]) == ["DEFAULT_MEDIA"]
            node["OTIO_SCHEMA"] = "Clip.1"
            node["media_reference"] = node.pop("media_references")["DEFAULT_MEDIA"]
            del node["active_media_reference_key"]
    return plain


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_read_link_write_read_changes_nothing_but_our_takes(path: Path, tmp_path: Path):
    edit = read_edit(path)
    before = copy.deepcopy(edit.document)
    links = takes(edit, tmp_path / "cut.scail2")
    document = link_takes(edit, links, beside=tmp_path)
    returned = tmp_path / "cut.scail2.otio"
    write_edit(document, returned)
    assert edit.document == before
    again = read_edit(returned, source_dir=path.parent)
    assert again.document == document
    places = [clip.place for clip in edit.clips if clip.id in links]
    assert without_takes(again.document, before, places) == before
    for first, second in zip(edit.clips, again.clips, strict=True):
        assert first.id == second.id
        assert (first.media and first.media.url) == (second.media and second.media.url)
        if first.id in links:
            assert second.used().frames == first.used().frames
    if path.name not in NEWER:
        timeline: Any = otio.adapters.read_from_file(str(returned))
        loaded = {clip.media_reference.name for clip in timeline.find_clips() if clip.media_reference}
        assert {f"{link.prefix}####{link.suffix}" for link in links.values()} <= loaded


EXPECTED = {
    # file -> clip -> the plate frames the cut uses, worked out by hand from the file's own numbers
    "made/assignments": {"SHOW_010_0010": FrameRange(1009, 48), "temp_comp": FrameRange(0, 40)},
    "made/rates": {
        "23.976": FrameRange(1001, 24),
        "23.98": FrameRange(0, 24),
        "24_in_23.976": FrameRange(1001, 24),
        "48_in_24": FrameRange(0, 47),
        "fractional": FrameRange(10, 20),
    },
    "made/sequence_policies": {
        "error": FrameRange(1001, 10),
        "hold": FrameRange(1001, 10),
        "black": FrameRange(1001, 10),
        "step2": FrameRange(1001, 10),
        "pad0": FrameRange(1001, 10),
        "pad7": FrameRange(1001, 10),
        "negative_start": FrameRange(-3, 6),
        "relative_source_range": FrameRange(1005, 10),
        "isr_rate_1": FrameRange(1, 10),
    },
    "made/retimes": {
        "half": FrameRange(1009, 10),  # 20 frames at half speed, from 86408
        "double": FrameRange(1009, 40),
        "reverse": FrameRange(1009, 20),
        "freeze": FrameRange(1031, 1),
        "two_warps": FrameRange(1009, 20),
        "curve": FrameRange(1009, 6),  # 0 + 0, 1 + 1, 2 + 2, 3 + 2, 4 + 1
        "inside": FrameRange(1010, 30),  # 20 frames from 5 at 1.5, of a clip that starts at 86404
    },
    "made/transitions": {
        "A": FrameRange(1011, 36),  # 6 out
        "B": FrameRange(1005, 44),  # 6 in, 8 out
        "C": FrameRange(1003, 30),
        "no_handle": FrameRange(1001, 30),  # 5 out, where the media ends
        "E": FrameRange(1001, 33),  # 5 in, before the media begins; 3 out
        "F": FrameRange(1008, 23),
    },
    "made/multi_refs": {"AGM_104_TCC_0010": FrameRange(12, 48)},
    "otio/simple_cut": {"Clip-001": FrameRange(3, 3), "Clip-004": FrameRange(0, 6)},
    "xges/image_sequence_example": {"sample_sequence": FrameRange(1011, 30)},
}


@pytest.mark.skipif(not FILES, reason="the folder shared/editorial is not beside the repository")
@pytest.mark.parametrize("name", EXPECTED)
def test_the_plate_frames_of_real_cuts(name: str):
    edit = read_edit(EDITORIAL / f"{name}.otio")
    clips = {clip.id: clip for clip in edit.clips}
    assert {id: clips[id].used().frames for id in EXPECTED[name]} == EXPECTED[name]
