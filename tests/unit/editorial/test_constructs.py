"""Every construct of editorial.md §3 in a file of its own, and the plate frames it comes to, worked out by hand.

Unless it says otherwise the media of a fixture is p.1001.exr to p.1048.exr, with timecode 86400 (an hour at 24) on the
first, and clip A is 10 frames from 86410, which is p.1011.exr; B is 10 frames from 86420, p.1021.exr.
"""

from pathlib import Path
from typing import Any

import pytest
from cuts import clip, cut, stack, track, written

from scail2_farm.documents import Handles, Missing
from scail2_farm.editorial.timeline import Clip, read_edit
from scail2_farm.errors import ClipUnsupported, FarmError, PlateMissing, TimelineUnreadable
from scail2_farm.frames import FramePattern, FrameRange

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "editorial"
PROBED = FrameRange(1001, 48)


def clips(name: str, **more: Any) -> dict[str, Clip]:
    return {clip.name: clip for clip in read_edit(FIXTURES / f"{name}.otio", **more).clips}


def told(clip: Clip) -> FrameRange | str:
    """The frames a clip needs, or in words why there are none."""
    if clip.skipped is not None:
        return clip.skipped
    try:
        return clip.used().frames
    except FarmError as fault:
        return fault.what


def span(first: int, last: int) -> FrameRange:
    return FrameRange.from_last(first, last)


EXPECTED: dict[str, dict[str, FrameRange | str]] = {
    # a retime: floor(start) .. ceil(start + duration * speed) - 1
    "retime_2x": {"A": span(1011, 1030)},  # 10 * 2 = 20 frames
    "retime_half": {"A": span(1011, 1015)},  # 10 / 2 = 5
    "retime_fraction": {"A": span(1011, 1019)},  # 8.5 frames touch 9
    "retime_reverse": {"A": span(1011, 1020)},  # the same set as forwards
    "retime_reverse_fast": {"A": span(1011, 1025)},  # 15
    "retime_several": {"A": span(1011, 1040)},  # 2 * 1.5 * 10 = 30
    "retime_zero": {"A": span(1011, 1011)},
    "retime_no_source_range": {"A": span(1001, 1048)},  # nothing lies beyond the media
    "freeze_frame": {"A": span(1011, 1011)},
    # a lookup: start + k + lookup[k], here from 1011
    "timewarp_lookup": {"A": span(1009, 1016)},  # -1.5 .. 4.4, so floor -2 and ceil 5
    "timewarp_two_lookups": {"A": span(1011, 1015)},  # outer 0 1 2 2 2; inner of these 0 2 4 4 4
    "timewarp_and_speed": {"A": span(1011, 1021)},  # 0 1 2 3 5, at double speed 0 .. 10
    "timewarp_too_short": {"A": "the clip has a TimeWarp of 3 frames that has none for frame 3"},
    "timewarp_unknown": {"A": span(1001, 1048)},  # all of the media
    "timewarp_unknown_long": {
        "A": "the clip is retimed by a curve that is not in the edit, and its media has 1001 frames"
    },
    # retimes of compounds: the compound lasts as long as its source range, and shows that much times the speed
    "compound_retimed": {"A": span(1006, 1025)},  # 10 frames from 5 show 5 .. 24 of A, which starts at 1001
    # 4 from 3 show 3 .. 11, at half speed from 2 that is 3.5 .. 7.5; without the retimes 5 .. 9: both are kept
    "compound_retimed_twice": {"A": span(1004, 1010)},
    "compound_reversed": {"A": span(1021, 1030), "B": span(1011, 1020)},  # own 10 .. 29
    # where applications disagree both are kept: at half speed 20 frames show 10 (only A), or A and B at half speed
    "compound_slowed": {"A": span(1001, 1010), "B": span(1011, 1020)},
    "compound_frozen": {"A": "trimmed out by the compound", "B": span(1012, 1012)},  # 4 is frame 1 of B
    "compound_timewarp": {"A": span(1003, 1010), "B": span(1011, 1017)},  # own 2 + 0 .. 2 + 4 + 10
    "retime_on_track": {"A": span(1011, 1030)},
    "retime_on_timeline": {"A": span(1011, 1030)},
    # transitions: A shows out_offset (4) more at its tail, B in_offset (3) more at its head
    "dissolve": {"A": span(1011, 1024), "B": span(1018, 1030)},
    "wipe": {"A": span(1011, 1024), "B": span(1018, 1030)},
    "transition_custom": {"A": span(1011, 1024), "B": span(1018, 1030)},
    "dissolve_retimed": {"A": span(1011, 1038), "B": span(1018, 1033)},  # 20 + 4 * 2; reversed: 3 at either end
    "dissolve_beyond_media": {"A": span(1039, 1048), "B": span(1018, 1030)},  # 2 of 4 are there
    "dissolve_of_compounds": {"A": span(1011, 1024), "B": span(1021, 1030)},  # own 8 - 3 .. 15, B is 6 .. 15
    "nested_stack": {"A": span(1005, 1010), "B": span(1011, 1014), "C": span(1025, 1030)},  # 4 .. 13 of each track
    # what is not rendered
    "gap": {"A": span(1011, 1020), "B": span(1021, 1030)},
    "generator": {"bars": "a generator has no media to render from", "A": span(1011, 1020)},
    "disabled_clip": {"A": "the clip is disabled", "B": span(1021, 1030)},
    "disabled_track": {"A": span(1011, 1020), "B": "V2 is disabled"},
    "sound_only": {"A": "its media is sound", "B": span(1021, 1030)},
    "missing_media": {
        "A": "the clip's media is offline (A001C002.mov); reel A001, source timecode 01:00:00:10",
        "B": span(1021, 1030),
    },
    # rates
    "rate_24_in_23976": {"A": span(1001, 1024)},  # 86313.936 frames of 23.976 are 86400 of 24
    "rate_spelled_differently": {"A": span(1001, 1024)},  # by count
    "rate_hiero": {"A": span(1009, 1018)},  # by seconds: 8 frames in
    "rate_48_in_24": {"A": span(1001, 1019)},  # every second of 19
    "rate_twice": {"A": span(1006, 1009)},  # 10 frames of 24 are 5 of 12; 8 show 4
    "drop_frame": {"A": span(2799, 2808)},  # frames are counted through; 1798 in
    "fractional_start": {"A": span(1011, 1020)},  # 10.4999 is in frame 10; 10.0003 are 10
    # the media ends first
    "beyond_media": {"A": "the cut uses frames 1041-1052, the media has 1001-1048: missing 4 at the tail"},
    "before_media": {"A": "the cut uses frames 998-1009, the media has 1001-1048: missing 3 at the head"},
    "sequence_holes": {"A": span(1041, 1052), "B": span(1041, 1052)},  # the sequences say hold, black
    # numbering
    "frame_step": {"A": span(1011, 1014)},
    "negative_numbers": {"A": span(-3, 2)},
    "padding_0": {"A": span(8, 13)},
    "padding_7": {"A": span(948674, 948679)},
    "relative_source_range": {"A": span(1005, 1014)},
    "no_source_range": {"A": span(1001, 1048)},
    "no_available_range": {"A": "the edit gives no available range, and the media was not probed (plates/p.####.exr)"},
    "several_references": {"A": span(10, 19)},  # of the active one, a movie
    "unknown_effect": {"A": span(1011, 1020)},
    "marker_3": {"A": span(1011, 1020)},
    "markers": {"A": span(1011, 1020), "B": span(1021, 1030)},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_construct_comes_to_these_frames(name: str):
    assert {key: told(clip) for key, clip in clips(name).items()} == EXPECTED[name]


def test_every_fixture_is_in_the_table_or_has_its_own_test():
    refused = {"two_timelines", "unknown_media"}
    assert {path.stem for path in FIXTURES.glob("*.otio")} == set(EXPECTED) | refused


@pytest.mark.parametrize(
    ("name", "clip", "speed", "handles"),
    [
        ("retime_2x", "A", 2, Handles(head=16, tail=8)),
        ("retime_half", "A", 0.5, Handles(head=4, tail=2)),
        ("retime_reverse_fast", "A", -1.5, Handles(head=6, tail=12)),  # the frames before the cut are the later ones
        ("retime_several", "A", 3, Handles(head=24, tail=12)),
        ("freeze_frame", "A", 0, Handles(head=0, tail=0)),
        ("timewarp_lookup", "A", None, Handles(head=8, tail=4)),
        ("compound_retimed_twice", "A", 1, Handles(head=8, tail=4)),
        ("compound_reversed", "B", -1, Handles(head=4, tail=8)),
        ("compound_frozen", "B", 0, Handles(head=0, tail=0)),
        ("compound_timewarp", "A", None, Handles(head=8, tail=4)),
        ("dissolve", "A", 1, Handles(head=8, tail=4)),
    ],
)
def test_speeds_and_the_handles_they_need(name: str, clip: str, speed: float | None, handles: Handles):
    found = clips(name)[clip]
    assert found.speed == speed
    assert found.handles(Handles(head=8, tail=4)) == handles


def test_a_transition_beyond_the_media_is_told_and_with_strict_a_fault():
    found = clips("dissolve_beyond_media")["A"]
    assert found.used().notes == ("a transition reaches 2 frames past the media's last: it is cut short there",)
    assert found.used(FrameRange(1001, 60)).notes == ()
    with pytest.raises(PlateMissing, match="2 frames past the media's last"):
        found.used(strict=True)
    assert found.used(FrameRange(1001, 60), strict=True).frames == span(1039, 1050)


@pytest.mark.parametrize("missing", ["hold", "black"])
def test_frames_beyond_the_media_are_stood_in_for_when_asked(missing: Missing):
    used = clips("beyond_media")["A"].used(missing=missing)
    assert used.frames == span(1041, 1052)
    words = {"hold": "the nearest frame is held", "black": "they are black"}
    assert used.notes == (f"the cut uses 4 frames past the media's last: {words[missing]}",)


def test_the_policy_of_a_sequence_holds_until_the_submission_has_its_own():
    found = clips("sequence_holes")
    assert [found["A"].policy, found["B"].policy] == ["hold", "black"]
    assert "is held" in found["A"].used().notes[0]
    assert "are black" in found["B"].used().notes[0]
    with pytest.raises(PlateMissing, match="missing 4 at the tail"):
        found["A"].used(missing="error")


def test_nothing_is_held_where_there_is_nothing_at_all():
    with pytest.raises(PlateMissing, match="missing 12 at the tail"):
        clips("sequence_holes")["A"].used(FrameRange(1001, 10))


def test_a_curve_that_is_not_in_the_edit_takes_all_of_what_is_probed():
    found = clips("timewarp_unknown")["A"]
    assert found.used(FrameRange(1001, 1000)).frames == FrameRange(1001, 1000)
    with pytest.raises(ClipUnsupported, match="its media has 1001 frames") as fault:
        found.used(FrameRange(1001, 1001))
    assert "bake" in fault.value.fix


def test_a_retimed_compound_says_that_more_is_rendered():
    assert any("applications disagree" in note for note in clips("compound_slowed")["B"].notes)
    assert any("applications disagree" in note for note in clips("retime_on_track")["A"].notes)
    assert clips("compound_slowed")["A"].notes == ()
    assert clips("compound_retimed")["A"].notes == ()


def test_files_of_a_stepped_sequence():
    found = clips("frame_step")["A"]
    assert found.media is not None
    pattern = found.media.pattern
    assert pattern is not None
    assert [pattern.name(frame) for frame in found.used().frames.numbers] == [
        f"p.{number}.exr" for number in (1021, 1023, 1025, 1027)
    ]


@pytest.mark.parametrize(("name", "file"), [("padding_0", "p.8.exr"), ("padding_7", "p.0948674.exr")])
def test_padding(name: str, file: str):
    media = clips(name)["A"].media
    assert media is not None
    assert media.pattern is not None
    assert media.frames is not None
    assert media.pattern.name(media.frames.first) == file


def test_disabled_clips_and_tracks_are_rendered_when_asked():
    assert clips("disabled_clip", include_disabled=True)["A"].skipped is None
    assert clips("disabled_track", include_disabled=True)["B"].skipped is None
    assert not clips("disabled_clip", include_disabled=True)["A"].enabled


def test_preferred_media_comes_before_the_active_one():
    found = clips("several_references", prefer=("none*", "pl*"))["A"]
    assert found.media is not None
    assert found.media.key == "plate"
    assert found.used().frames == span(1011, 1020)
    assert found.notes == ("rendered from the media reference 'plate', which is not the cut's own",)
    active = clips("several_references", prefer=("none*",))["A"]
    assert active.media is not None
    assert active.media.key == "proxy"


def test_offline_media_that_is_found_is_counted_by_timecode_or_number():
    found = clips("missing_media")["A"]
    assert (found.offline, found.reel) == (True, "A001")
    film = found.with_media(Path("/media/A001C002.mov"))
    assert (film.offline, film.fault) == (False, None)
    assert film.used(FrameRange(0, 100), 86400).frames == FrameRange(10, 10)
    frames = found.with_media(FramePattern(Path("/media"), "A001C002.", 7, ".exr"))
    assert frames.used(FrameRange(86400, 48)).frames == FrameRange(86410, 10)
    with pytest.raises(PlateMissing, match="the media has 0-99"):
        film.used(FrameRange(0, 100), 90000)


def test_media_without_an_available_range_is_counted_by_what_is_probed():
    assert clips("no_available_range")["A"].used(PROBED).frames == span(1010, 1019)


def test_markers_of_clips_tracks_and_the_timeline():
    found = clips("markers")
    told = {key: [(m.name, m.color, m.on) for m in clip.markers] for key, clip in found.items()}
    # A is frames 0 .. 9 of the timeline, the gap 10 .. 19, B 20 .. 29; the timeline starts at 86400
    assert told == {
        "A": [("CHAR:hero", "RED", "clip"), ("act 2", "GREEN", "timeline")],
        "B": [("on B", "BLUE", "track"), ("act 2", "GREEN", "timeline"), ("record time", "CYAN", "timeline")],
    }
    (newer,) = clips("marker_3")["A"].markers
    assert (newer.name, newer.color, newer.on) == ("CHAR:hero", "RED", "clip")


def test_the_compounds_around_a_clip_and_its_place_in_the_record():
    found = clips("nested_stack")
    assert found["A"].path == ("Scene 5", "V1")
    assert [(c.record_start, c.record_count) for c in found.values()] == [(86405, 6), (86411, 4), (86405, 6)]


def test_one_of_two_timelines_is_named():
    with pytest.raises(TimelineUnreadable, match="2 timelines: 'one', 'two'"):
        clips("two_timelines")
    assert list(clips("two_timelines", timeline="two")) == ["B"]


def test_media_of_an_unknown_kind_is_refused_with_its_place():
    with pytest.raises(TimelineUnreadable, match=r"media_references\.DEFAULT_MEDIA is a 'CloudReference\.1'"):
        clips("unknown_media")


def test_an_absurdly_nested_cut_is_refused(tmp_path: Path):
    node = clip()
    for _ in range(200):
        node = stack(node)
    with pytest.raises(TimelineUnreadable, match="nested deeper than 256 levels"):
        read_edit(written(cut(track(node)), tmp_path))
