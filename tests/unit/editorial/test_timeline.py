"""Reading cuts: what is in them, which plate frames they use, what is refused and in which words."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from cuts import clip, cut, effect, gap, item, marker, movie, sequence, span, stack, time, track, transition, written

from scail2_farm.documents import Tracks
from scail2_farm.editorial.timeline import Clip, Edit, read_edit
from scail2_farm.errors import PlateMissing, TimelineUnreadable
from scail2_farm.frames import FrameRange

Node = dict[str, Any]


def read(tmp_path: Path, *children: Node, **more: Any) -> Edit:
    return read_edit(written(cut(track(*children), start=time(86400)), tmp_path), **more)


def only(tmp_path: Path, node: Node, **more: Any) -> Clip:
    (found,) = read(tmp_path, node, **more).clips
    return found


# ----------------------------------------------------------------------- frames


def test_a_sequence_is_counted_in_its_file_numbers(tmp_path: Path):
    found = only(tmp_path, clip(source=span(86410, 20)))
    assert found.used().frames == FrameRange(1011, 20)
    assert found.media is not None
    assert found.media.frames == FrameRange(1001, 48)
    assert found.media.pattern is not None
    assert found.media.pattern.path(1011) == tmp_path / "plates" / "p.1011.exr"
    assert found.media_timecode(FrameRange(1003, 10)) == 86402


def test_a_movie_is_counted_from_0(tmp_path: Path):
    found = only(tmp_path, clip(source=span(86410, 20), media=movie(available=span(86400, 48))))
    assert found.used().frames == FrameRange(10, 20)
    assert found.media is not None
    assert found.media.path == tmp_path / "a.mov"


def test_without_a_source_range_all_of_the_media_is_used(tmp_path: Path):
    found = only(tmp_path, clip())
    assert found.used().frames == FrameRange(1001, 48)
    assert found.record_count == 48


def test_numbers_without_padding_and_below_zero(tmp_path: Path):
    media = sequence(available=span(0, 6), first=-3, frame_zero_padding=0)
    found = only(tmp_path, clip(source=span(0, 6), media=media))
    assert found.used().frames == FrameRange(-3, 6)
    assert found.media is not None
    assert found.media.pattern is not None
    assert found.media.pattern.name(-3) == "p.-3.exr"


def test_the_rate_of_the_sequence_itself_is_not_believed(tmp_path: Path):
    found = only(tmp_path, clip(source=span(86402, 4), media=sequence(available=span(86400, 20), first=1, rate=1.0)))
    assert found.used().frames == FrameRange(3, 4)
    assert found.media is not None
    assert found.media.rate == 24


def test_a_relative_source_range_is_read_as_such_and_told(tmp_path: Path):
    found = only(tmp_path, clip(source=span(4, 10), media=sequence(available=span(1001, 40))))
    assert found.used().frames == FrameRange(1005, 10)
    assert found.notes == ("the source range counts from the start of the media",)


def test_a_source_range_before_the_media_is_not_taken_for_relative(tmp_path: Path):
    found = only(tmp_path, clip(source=span(997, 10), media=sequence(available=span(1001, 40))))
    with pytest.raises(
        PlateMissing, match="the cut uses frames 997-1006, the media has 1001-1040: missing 4 at the head"
    ):
        found.used()


@pytest.mark.parametrize(
    ("source", "missing"), [(span(86440, 20), "12 at the tail"), (span(86390, 80), "10 at the head and 22 at the tail")]
)
def test_a_cut_beyond_the_media_is_counted(tmp_path: Path, source: Node, missing: str):
    found = only(tmp_path, clip(source=source))
    assert found.fault is None
    with pytest.raises(PlateMissing, match=missing) as fault:
        found.used()
    assert fault.value.where.clip == "SH010"


def test_rates_written_differently_are_one_rate(tmp_path: Path):
    found = only(
        tmp_path, clip(source=span(86400, 24, 23.976), media=sequence(available=span(86400, 48, 24000 / 1001)))
    )
    assert found.rate == Fraction(24000, 1001)
    assert found.used().frames == FrameRange(1001, 24)
    assert found.notes == ()


def test_mixed_rates_are_told(tmp_path: Path):
    found = only(tmp_path, clip(source=span(0, 24), media=movie(available=span(0, 96, 48.0))))
    assert found.used().frames == FrameRange(0, 47)
    assert found.notes == ("48 in 24",)


# ----------------------------------------------------------------------- media the edit does not measure


def test_an_unmeasured_sequence_starts_at_its_timecode_or_at_its_numbers(tmp_path: Path):
    on_disk = FrameRange(1001, 40)
    by_number = only(tmp_path, clip(source=span(1011, 6), media=sequence()))
    assert by_number.used(on_disk).frames == FrameRange(1011, 6)
    by_timecode = only(tmp_path, clip(source=span(86410, 6), media=sequence()))
    assert by_timecode.used(on_disk, 86400).frames == FrameRange(1011, 6)
    assert by_number.used(on_disk, 86400).frames == FrameRange(1011, 6)


def test_nothing_is_taken_for_0(tmp_path: Path):
    found = only(tmp_path, clip(source=span(0, 6), media=sequence()))
    with pytest.raises(PlateMissing, match="the cut uses frames 0-5, the media has 1001-1040"):
        found.used(FrameRange(1001, 40))
    film = only(tmp_path, clip(source=span(0, 6), media=movie()))
    with pytest.raises(PlateMissing, match="missing 6 at the head"):
        film.used(FrameRange(0, 40), 86400)
    assert film.used(FrameRange(0, 40)).frames == FrameRange(0, 6)
    with pytest.raises(PlateMissing, match="was not probed"):
        film.used()


def test_media_of_unknown_length_is_used_whole_when_probed(tmp_path: Path):
    found = only(tmp_path, clip(media=movie()))
    assert found.record_count == 0
    assert found.used(FrameRange(0, 33)).frames == FrameRange(0, 33)
    with pytest.raises(PlateMissing, match="not probed"):
        found.used()


def test_an_address_with_a_pattern_finds_its_first_number(tmp_path: Path):
    numbered = only(tmp_path, clip(source=span(86410, 5), media=movie("p.[1001-1048].exr", available=span(86400, 48))))
    assert numbered.used().frames == FrameRange(1011, 5)
    hashes = only(tmp_path, clip(source=span(86410, 5), media=movie("p.####.exr", available=span(86400, 48))))
    assert hashes.used(FrameRange(1001, 48)).frames == FrameRange(1011, 5)
    with pytest.raises(PlateMissing, match="cannot be told"):
        hashes.used(FrameRange(1001, 60))
    own = only(tmp_path, clip(source=span(1010, 5), media=movie("p.####.exr", available=span(1005, 20))))
    assert own.used(FrameRange(1001, 60)).frames == FrameRange(1010, 5)


def test_a_part_of_a_movie_is_found_by_its_timecode(tmp_path: Path):
    found = only(tmp_path, clip(source=span(86460, 10), media=movie(available=span(86448, 48))))
    assert found.used(FrameRange(0, 200), 86400).frames == FrameRange(60, 10)
    assert found.used(FrameRange(0, 48), 86448).frames == FrameRange(12, 10)


def test_a_probe_that_is_shorter_than_the_edit_says_is_a_fault(tmp_path: Path):
    found = only(tmp_path, clip(source=span(86430, 18)))
    with pytest.raises(PlateMissing, match="the media has 1001-1040: missing 8 at the tail"):
        found.used(FrameRange(1001, 40))


# ----------------------------------------------------------------------- the walk


def test_clips_come_from_the_bottom_track_up_and_in_time(tmp_path: Path):
    document = cut(
        track(gap(10), clip("A"), clip("B"), name="PLATES"),
        track(clip("C"), name=""),
        track(clip("sound"), name="A1", kind="Audio"),
        start=time(86400),
    )
    edit = read_edit(written(document, tmp_path))
    assert [(c.name, c.track, c.track_index, c.record_start, c.record_count) for c in edit.clips] == [
        ("A", "PLATES", 1, 86410, 48),
        ("B", "PLATES", 1, 86458, 48),
        ("C", "V2", 2, 86400, 48),
    ]
    assert edit.clips[1].place == ("tracks", "children", 0, "children", 2)
    assert (edit.rate, edit.start, edit.name) == (24, 86400, "cut")


def test_tracks_are_chosen_by_name(tmp_path: Path):
    path = written(
        cut(track(clip("A"), name="PLATES"), track(clip("B"), name="REF"), track(clip("C"), name="")), tmp_path
    )
    edit = read_edit(path, tracks=Tracks(include=("P*", "V*", "REF"), exclude=("REF",)))
    assert {c.name: c.skipped for c in edit.clips} == {
        "A": None,
        "B": "the track REF is left out by `tracks`",
        "C": None,
    }


def test_compounds_trim_what_is_in_them(tmp_path: Path):
    inner = track(clip("A"), clip("B"), clip("C"), name="inner", source=span(60, 30))
    edit = read(tmp_path, gap(5), stack(inner, source=span(10, 30)))
    a, b, c = edit.clips
    assert a.skipped == "trimmed out by the compound"
    assert b.used().frames == FrameRange(1001 + 22, 20)
    assert (b.record_start, b.record_count) == (86405, 20)
    assert c.skipped == "trimmed out by the compound"


def test_a_clip_trimmed_at_both_ends_by_two_compounds(tmp_path: Path):
    inner = stack(clip("A", source=span(86404, 40)), source=span(5, 30), name="inner")
    (found,) = read(tmp_path, track(inner, name="outer", source=span(2, 10))).clips
    assert found.used().frames == FrameRange(1001 + 4 + 5 + 2, 10)
    assert found.source_count == 10


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (clip(enabled=False), "the clip is disabled"),
        (stack(clip(), enabled=False, name="Scene"), "Scene is disabled"),
        (clip(source=span(86400, 0)), "the clip has no frames"),
        (
            clip(
                media={"OTIO_SCHEMA": "GeneratorReference.1", "available_range": span(0, 9), "generator_kind": "bars"}
            ),
            "a generator has no media to render from",
        ),
    ],
)
def test_what_is_skipped_stays_in_the_list_with_its_reason(tmp_path: Path, node: Node, reason: str):
    if "media_references" in node:
        reference = node["media_references"]["DEFAULT_MEDIA"]
        reference.setdefault("parameters", {})
    (found,) = read(tmp_path, node).clips
    assert found.skipped == reason


def test_a_disabled_track_is_skipped(tmp_path: Path):
    edit = read_edit(written(cut(track(clip(), enabled=False, name="V1")), tmp_path))
    assert edit.clips[0].skipped == "V1 is disabled"


def test_a_clip_without_a_length_leaves_later_places_open(tmp_path: Path):
    first, second = read(tmp_path, clip("A", media=movie()), clip("B")).clips
    assert (first.record_start, second.record_start, second.record_count) == (86400, None, 48)


# ----------------------------------------------------------------------- constructs


def test_effects_that_leave_time_alone_are_none(tmp_path: Path):
    plain = [effect("LinearTimeWarp.1", time_scalar=1.0), effect("Effect.1"), effect("TimeEffect.1", enabled=False)]
    found = only(tmp_path, clip(source=span(86400, 10), effects=plain))
    assert (found.speed, found.used().frames) == (1, FrameRange(1001, 10))
    unknown = only(tmp_path, clip(effects=[{"OTIO_SCHEMA": "AcmeGlow.1", "amount": 3}]))
    assert unknown.fault is None
    assert unknown.notes == ("the effect AcmeGlow.1 is not known and taken to leave time alone",)


def test_every_construct_that_cannot_be_told_is_told_at_once(tmp_path: Path):
    warp = [effect("LinearTimeWarp.1", time_scalar=float("nan"))]
    media = sequence(available=span(86400, 24), frame_step=0)
    blend = transition(float("nan"), 4)
    first, second = read(tmp_path, clip("A", effects=warp, media=media), transition(-4, -4), clip("B"), blend).clips
    assert first.fault is not None
    assert first.fault.what == (
        "the clip has a SMPTE_Dissolve beside it of which its out_offset is negative; "
        "a LinearTimeWarp (fx) of nan, which is no speed; an image sequence with a frame_step of 0"
    )
    assert second.fault is not None
    assert "its in_offset is negative" in second.fault.what


def test_a_still_is_not_a_plate(tmp_path: Path):
    found = only(tmp_path, clip(source=span(0, 40), media=movie("title.png", available=span(0, 1))))
    assert found.fault is not None
    assert "one still picture (title.png)" in found.fault.what


def linked_to_first(tmp_path: Path, *, available: Node | None, count: int = 6, **more: Any) -> Clip:
    media = movie("SH010.1001.exr", available=available)
    return only(tmp_path, clip(source=span(86404, count), media=media, **more))


@pytest.mark.parametrize("available", [span(86400, 12), None])
def test_a_link_to_the_first_file_is_the_sequence(tmp_path: Path, available: Node | None):
    for number in range(1001, 1013):
        (tmp_path / f"SH010.{number}.exr").touch()
    found = linked_to_first(tmp_path, available=available)
    assert found.used(FrameRange(1001, 12), 86400).frames == FrameRange(1005, 6)
    assert found.notes == ("SH010.1001.exr is read as the sequence SH010.####.exr from 1001",)


@pytest.mark.parametrize(
    ("available", "count", "more"),
    [
        (span(86400, 1), 6, {}),
        (None, 1, {}),
        (span(86400, 12), 6, {"effects": [effect("FreezeFrame.1", time_scalar=0)]}),
        (span(86400, 12), 6, {"metadata": {"fcp_xml": {"stillframe": "TRUE"}}}),
    ],
)
def test_a_numbered_still_among_others_stays_a_still(
    tmp_path: Path, available: Node | None, count: int, more: dict[str, Any]
):
    for number in range(1001, 1013):
        (tmp_path / f"SH010.{number}.exr").touch()
    found = linked_to_first(tmp_path, available=available, count=count, **more)
    assert found.fault is not None
    assert found.fault.what == "the clip has one still picture (SH010.1001.exr) as its media"


def test_a_link_to_a_first_file_without_the_others_says_how_to_link(tmp_path: Path):
    for number in range(1001, 1012):
        (tmp_path / f"SH010.{number}.exr").touch()
    found = linked_to_first(tmp_path, available=span(86400, 12))
    assert found.fault is not None
    assert found.fault.what == "the clip has one still picture (SH010.1001.exr) for 12 frames, and no SH010.1012.exr"
    assert found.fault.fix == "link the sequence as SH010.####.exr, or export it as a movie and link that"


def test_times_that_are_none_are_faults_of_their_clip(tmp_path: Path):
    edit = read(tmp_path, clip("A", source=span(float("nan"), 10)), clip("B", source=span(86400, 10)))
    assert edit.clips[0].fault is not None
    assert "its start_time cannot be used: nan" in edit.clips[0].fault.what
    assert edit.clips[1].used().frames == FrameRange(1001, 10)


# ----------------------------------------------------------------------- media references


def test_an_old_clip_is_read(tmp_path: Path):
    node = clip(source=span(86400, 10)) | {
        "OTIO_SCHEMA": "Clip.1",
        "media_reference": sequence(available=span(86400, 48)),
    }
    del node["media_references"], node["active_media_reference_key"]
    assert only(tmp_path, node).used().frames == FrameRange(1001, 10)


@pytest.mark.parametrize(
    "more",
    [
        {"active_media_reference_key": "gone"},
        {"media_references": None},
        {"media_references": {}},
        {"media_references": {"DEFAULT_MEDIA": None}},
        {"media_references": {"DEFAULT_MEDIA": {"OTIO_SCHEMA": "MissingReference.1"}}},
    ],
)
def test_a_clip_without_media_is_listed_with_a_fault(tmp_path: Path, more: Node):
    found = only(tmp_path, clip(source=span(0, 10)) | more)
    assert isinstance(found.fault, PlateMissing)
    assert found.record_count == 10


def test_our_own_take_is_never_the_plate(tmp_path: Path):
    take = sequence("takes", available=span(86400, 48)) | {"metadata": {"scail2_farm": {"active_before": "main"}}}
    references = {"other": movie(), "main": sequence(available=span(86400, 48)), "scail2_farm": take}
    more = {"media_references": references, "active_media_reference_key": "scail2_farm"}
    found = only(tmp_path, clip(source=span(86400, 4)) | more)
    assert found.media is not None
    assert found.media.key == "main"
    take["metadata"] = {"scail2_farm": {"active_before": "gone"}}
    assert only(tmp_path, clip(source=span(86400, 4)) | more).fault is not None
    del references["other"]
    found = only(tmp_path, clip(source=span(86400, 4)) | more)
    assert found.media is not None
    assert found.media.key == "main"


def test_a_reference_of_our_name_that_is_not_ours_is_never_replaced(tmp_path: Path):
    found = only(tmp_path, clip(media_references={"DEFAULT_MEDIA": sequence(), "scail2_farm": movie()}))
    assert found.fault is not None
    assert "that is none of our takes" in found.fault.what


def test_relative_media_is_found_under_the_source_folder(tmp_path: Path):
    found = only(tmp_path, clip(), source_dir=Path("/show/media"))
    assert found.media is not None
    assert found.media.pattern is not None
    assert found.media.pattern.folder == Path("/show/media/plates")


@pytest.mark.parametrize("url", ["", "  "])
def test_media_without_an_address_is_offline(tmp_path: Path, url: str):
    found = only(tmp_path, clip(source=span(86410, 10), media=movie(url)))
    assert found.offline
    assert isinstance(found.fault, PlateMissing)
    assert found.fault.what == "the media reference has no address; source timecode 01:00:00:10"
    assert found.with_media(Path("/m/a.mov")).used(FrameRange(0, 20), 86400).frames == FrameRange(10, 10)
    known = only(tmp_path, clip(source=span(86410, 10), media=movie("s3://b/k.mov")))
    assert not known.offline


REELS: list[tuple[Node, Node, str | None]] = [
    ({"cmx_3600": {"reel": "A099_C005"}}, {}, "A099_C005"),
    ({}, {"fcp_xml": {"timecode": {"reel": {"name": "B001"}}}}, "B001"),
    ({"fcp_xml": {"file": {"timecode": {"reel": {"name": "B002"}}}}}, {}, "B002"),
    ({"ALE": {"Tape": " C003 "}}, {}, "C003"),
    ({"AAF": {"UserComments": {"Tape": "D004"}}}, {}, "D004"),
    ({}, {"AAF": {"EssenceDescription": {"ClassName": "TapeDescriptor"}, "Name": "E005"}}, "E005"),
    ({}, {"AAF": {"EssenceDescription": {"ClassName": "CDCIDescriptor"}, "Name": "x.mxf"}}, None),
    ({"cmx_3600": {"reel": ""}}, {"fcp_xml": {"timecode": {"reel": {"name": None}}}}, None),
    ({"cmx_3600": "reel"}, {}, None),
]


@pytest.mark.parametrize(("own", "of_media", "reel"), REELS)
def test_the_reel_is_read_where_adapters_leave_it(tmp_path: Path, own: Node, of_media: Node, reel: str | None):
    media = movie(available=span(0, 48)) | {"metadata": of_media}
    assert only(tmp_path, clip(source=span(0, 10), media=media, metadata=own)).reel == reel


# ----------------------------------------------------------------------- markers


def test_markers_of_compounds_mark_what_they_touch(tmp_path: Path):
    """A compound trimmed to 10 frames from 5 at double speed shows its own 5 .. 24."""
    marks = [marker("early", 3), marker("A", 9, 3), marker("both", 9, 8), marker("late", 26)]
    inner = track(clip("A", source=span(86400, 15)), clip("B", source=span(86400, 15)), name="in")
    warp = [effect("LinearTimeWarp.1", time_scalar=2.0)]
    edit = read(tmp_path, gap(7), stack(inner, source=span(5, 10), effects=warp, markers=marks))
    told = {found.name: [(one.name, one.on) for one in found.markers] for found in edit.clips}
    assert told == {"A": [("A", "timeline"), ("both", "timeline")], "B": [("both", "timeline")]}


def test_markers_on_the_gaps_of_a_track_without_pictures_are_the_timelines(tmp_path: Path):
    empty = gap(100) | {"markers": [marker("CHAR:hero", 20)]}
    document = cut(
        track(clip("A", source=span(86400, 15)), clip("B", source=span(86400, 15))),
        track(empty, name="markers", kind="AAF_DataEssenceTrack"),
        track(gap(100) | {"markers": [marker("sound", 1)]}, name="A1", kind="Audio"),
        start=time(86400),
    )
    first, second = read_edit(written(document, tmp_path)).clips
    assert first.markers == ()
    assert [(one.name, one.on) for one in second.markers] == [("CHAR:hero", "timeline")]


def test_a_marker_at_no_time_is_told_and_a_clips_own_counts_all_the_same(tmp_path: Path):
    nowhere = marker("x", float("nan"))
    edit = read_edit(written(cut(track(clip("A", markers=[nowhere]), markers=[nowhere])), tmp_path))
    assert [one.name for one in edit.clips[0].markers] == ["x"]
    assert edit.notes == ("the marker 'x' stands at no time and marks no clip (tracks.children.0.markers.0)",)


# ----------------------------------------------------------------------- ids


def test_ids_are_slugs_and_unique_whatever_the_names(tmp_path: Path):
    names = ["../../etc/evil", "名前 q", "", "", "dup", "DUP", "dup", "x" * 300]
    edit = read(tmp_path, *(clip(name, source=span(86400 + n, 4)) for n, name in enumerate(names)))
    ids = [found.id for found in edit.clips]
    assert ids[:3] == ["etc_evil", "q", "clip"]
    assert len({one.casefold() for one in ids}) == len(ids)
    assert all(len(one) <= 90 and one.replace("-", "a").replace(".", "a").replace("_", "a").isalnum() for one in ids)


def test_the_first_rendered_clip_keeps_the_plain_id_and_others_keep_theirs_when_moved(tmp_path: Path):
    a, b, c = (clip("S", source=span(86400 + n, 4)) for n in range(3))
    first = read(tmp_path, a | {"enabled": False}, b, c).clips
    second = read(tmp_path, b, gap(7), c).clips
    assert [found.id for found in first][1] == "S"
    assert {found.id for found in second} == {first[1].id, first[2].id}


# ----------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ('{"OTIO_SCHEMA": "Timeline.1", "tracks": {\n"children": [', "is cut short"),
        ('{"OTIO_SCHEMA": "Timeline.1",\n oops}', "is not valid JSON"),
        ('{"a": 1, "a": 2}', "is given twice"),
        ('{"a": 1}', "not OpenTimelineIO"),
        ("[1, 2]", "not OpenTimelineIO"),
        ('{"OTIO_SCHEMA": "Clip.2"}', "holds a Clip.2 and no timeline"),
        ('{"OTIO_SCHEMA": "SerializableCollection.1", "children": [{"OTIO_SCHEMA": "Clip.2"}]}', r"\(1 Clip.2\)"),
        ('{"OTIO_SCHEMA": "Timeline.9"}', "which this version does not know"),
        ('{"OTIO_SCHEMA": "Timeline.1"}', "OpenTimelineIO cannot load"),
        ("[" * 100_000, "nested deeper than 256"),
        ('{"OTIO_SCHEMA": ' + "[" * 300 + "]" * 300 + "}", "nested deeper than 256"),
    ],
)
def test_a_file_that_is_no_timeline_says_what_it_is(tmp_path: Path, text: str, words: str):
    path = tmp_path / "cut.otio"
    path.write_text(text)
    with pytest.raises(TimelineUnreadable, match=words):
        read_edit(path)


def test_the_line_of_broken_json_is_told(tmp_path: Path):
    path = tmp_path / "cut.otio"
    path.write_text('{"OTIO_SCHEMA": "Timeline.1",\n\n oops}')
    with pytest.raises(TimelineUnreadable) as fault:
        read_edit(path)
    assert fault.value.where.line == 3


def test_bytes_that_are_not_text_are_refused(tmp_path: Path):
    path = tmp_path / "cut.otio"
    path.write_bytes(b'{\n"a": "\xff"}')
    with pytest.raises(TimelineUnreadable, match="not UTF-8") as fault:
        read_edit(path)
    assert fault.value.where.line == 2


def test_half_a_surrogate_pair_is_refused(tmp_path: Path):
    path = written(cut(track(clip("\ud800"))), tmp_path)
    with pytest.raises(TimelineUnreadable, match="not Unicode"):
        read_edit(path)


def test_a_file_that_is_absent_is_told(tmp_path: Path):
    with pytest.raises(TimelineUnreadable, match="is not there"):
        read_edit(tmp_path / "none.otio")


def test_a_byte_order_mark_and_odd_numbers_are_read(tmp_path: Path):
    text = json.dumps(cut(track(clip(metadata={"a": "Inf, -NaN", "big": 2**80}))))
    text = text.replace('"big"', '"i": Inf, "m": -Inf, "n": NaN, "j": -Infinity, "k": -NaN, "big"')
    path = tmp_path / "cut.otio"
    path.write_text(text, encoding="utf-8-sig")
    metadata = read_edit(path).clips[0].metadata
    assert metadata["a"] == "Inf, -NaN"
    assert (metadata["i"], metadata["m"], metadata["j"]) == (float("inf"), float("-inf"), float("-inf"))
    assert metadata["big"] == 2**80


def collection(*timelines: Node) -> Node:
    return {"OTIO_SCHEMA": "SerializableCollection.1", "metadata": {}, "name": "bin", "children": list(timelines)}


def test_one_of_several_timelines_is_chosen_by_name(tmp_path: Path):
    path = written(collection(cut(track(clip("A")), name="one"), cut(track(clip("B")), name="two")), tmp_path)
    with pytest.raises(TimelineUnreadable, match="holds 2 timelines: 'one', 'two'"):
        read_edit(path)
    edit = read_edit(path, timeline="two")
    assert edit.clips[0].name == "B"
    assert edit.clips[0].place[:2] == ("children", 1)
    with pytest.raises(TimelineUnreadable) as fault:
        read_edit(path, timeline="three")
    assert "'one', 'two'" in fault.value.fix


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (track({"OTIO_SCHEMA": "Acme.1"}), "is a 'Acme.1', which this version does not know"),
        (track(clip() | {"OTIO_SCHEMA": "Clip.3"}), "is a 'Clip.3'"),
        (track(clip(media={"OTIO_SCHEMA": "CloudReference.1"})), "is a 'CloudReference.1'"),
        (track(clip(source={"OTIO_SCHEMA": "Range.1"})), "is a 'Range.1'"),
        (track(clip() | {"name": 3}), "`name`"),
        (track(clip(enabled="no")), "which is not true or false"),
        (track() | {"children": {}}, "which is not a list"),
        (track(None), "where OpenTimelineIO has an object"),  # type: ignore[arg-type]
    ],
)
def test_a_strange_thing_is_named_with_its_place(tmp_path: Path, node: Node, words: str):
    with pytest.raises(TimelineUnreadable, match=words) as fault:
        read_edit(written(cut(node), tmp_path))
    assert "tracks.children.0" in fault.value.what


def test_the_rate_is_the_timelines_then_that_of_most_clips(tmp_path: Path):
    clips = [clip(source=span(0, 10, 25.0)), clip(source=span(0, 10, 30.0)), clip(source=span(0, 10, 25.0))]
    assert read_edit(written(cut(track(*clips)), tmp_path)).rate == 25
    assert read_edit(written(cut(track(*clips), start=time(0, 23.98)), tmp_path)).rate == Fraction(24000, 1001)
    assert read_edit(written(cut(), tmp_path)).clips == ()


def test_an_old_schema_spelling_is_read(tmp_path: Path):
    node = item("Sequence.1", name="V1", kind="Video", children=[item("Filler.1", source=span(0, 3)), clip()])
    assert read_edit(written(cut(node), tmp_path)).clips[0].record_start == 3
