"""Cuts other people's applications wrote, in their own formats: read as the adapters read them, or refused in words."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import opentimelineio as otio
import pytest

from scail2_farm.editorial.formats import SUFFIXES, open_cut
from scail2_farm.errors import TimelineUnreadable

Node = dict[str, Any]

NEWER = {"premiere_example.otio", "unknown_effect.otio", "pxy5.edl"}  # OpenTimelineIO itself refuses these as they are
UNREADABLE = {"25fps.edl", "timecode_mismatch.edl"}
NESTED = {"premiere_example.xml"}  # the adapter finds no clips inside its nested sequences
NAMELESS = {"dissolve_test_4.edl", "DD_509_LOCKED_VFX_LINK.edl"}  # where the adapter has only the event's number
COUNTS = {".otio": 22, ".edl": 22, ".aaf": 8, ".xml": 5, ".fcpxml": 2}


def video_clips(node: Node) -> list[Node]:
    schema = str(node.get("OTIO_SCHEMA")).partition(".")[0]
    if schema == "Clip":
        return [node]
    if schema == "Track" and node["kind"] != "Video":
        return []
    children = [node["tracks"]] if schema == "Timeline" else node.get("children") or []
    return [clip for child in children for clip in video_clips(child)]


def told(clip: Node) -> tuple[Any, ...]:
    trim = clip["source_range"]
    if trim is None:
        return clip["name"], None
    start, length = trim["start_time"], trim["duration"]
    return clip["name"], (start["value"], start["rate"], length["value"], length["rate"])


@pytest.mark.parametrize("suffix", COUNTS)
def test_every_cut_opens_with_the_clips_its_adapter_finds_or_is_refused_in_words(suffix: str, editorial: Path):
    files = sorted(path for path in editorial.rglob(f"*{suffix}"))
    assert len(files) >= COUNTS[suffix]
    opened = 0
    for path in files:
        if path.name in UNREADABLE:
            with pytest.raises(TimelineUnreadable) as refused:
                open_cut(path)
            assert refused.value.where.line
            continue
        cut = open_cut(path)
        assert cut.folder == path.parent
        ours = [told(clip) for clip in video_clips(cut.document)]
        opened += 1
        if path.name in NEWER:
            assert ours
            continue
        theirs_object: Any = otio.adapters.read_from_file(str(path))
        theirs = [told(clip) for clip in video_clips(json.loads(theirs_object.to_json_string()))]
        if path.name in NAMELESS:
            assert [name for name, _ in ours] != [name for name, _ in theirs]
            ours, theirs = [("", trim) for _, trim in ours], [("", trim) for _, trim in theirs]
        if path.name in NESTED:
            assert set(theirs) < set(ours)
            continue
        assert ours == theirs, path.name
    assert opened >= COUNTS[suffix] - len(UNREADABLE)


def test_every_other_file_is_refused_in_words(editorial: Path):
    files = [path for path in editorial.rglob("*") if path.is_file() and path.suffix not in SUFFIXES]
    assert len(files) > 5
    for path in files:
        with pytest.raises(TimelineUnreadable) as refused:
            open_cut(path)
        assert path.name in refused.value.what
        assert refused.value.fix


def test_a_25_fps_list_says_which_rate_to_pass_and_opens_with_it(editorial: Path):
    path = editorial / "cmx3600" / "25fps.edl"
    with pytest.raises(TimelineUnreadable, match="24") as refused:
        open_cut(path)
    assert "--rate 25" in refused.value.fix
    assert (refused.value.where.line, path.read_text().splitlines()[12][:3]) == (13, "004")
    cut = open_cut(path, rate=Fraction(25))
    assert [clip["source_range"]["duration"]["value"] for clip in video_clips(cut.document)] == [161, 200, 86, 49]


def test_source_and_record_of_different_lengths_are_told_and_the_source_is_believed(editorial: Path):
    cut = open_cut(editorial / "cmx3600" / "timecode_mismatch.edl", rate=Fraction(25))
    assert any("source and record durations differ" in note and "line 13" in note for note in cut.notes)
    assert video_clips(cut.document)[3]["source_range"]["duration"]["value"] == 49


def test_record_starts_become_the_start_of_the_timeline(editorial: Path):
    folder = editorial
    for path, start in (("cmx3600/screening_example.edl", 86243), ("sg-otio/079_HA_V05.edl", 518400)):
        timeline = open_cut(folder / path).document
        assert timeline["global_start_time"] == {"OTIO_SCHEMA": "RationalTime.1", "rate": 24.0, "value": start}
        assert [track["source_range"] for track in timeline["tracks"]["children"]] == [None]


def test_speeds_and_freezes_of_a_real_list(editorial: Path):
    cut = open_cut(editorial / "cmx3600" / "speed_effects_small.edl")
    effects = [
        [(effect["OTIO_SCHEMA"], effect["time_scalar"]) for effect in clip["effects"]]
        for clip in video_clips(cut.document)
    ]
    assert effects == [
        [],
        [("FreezeFrame.1", 0.0)],
        [],  # one frame of a freeze is a frame
        [],
        [("LinearTimeWarp.1", pytest.approx(47.6 / 24))],
    ]


def test_a_reverse_that_does_not_say_its_frames_is_a_curve(editorial: Path):
    cut = open_cut(editorial / "sg-otio" / "079_HA_V05.edl")
    (clip,) = [clip for clip in video_clips(cut.document) if clip["effects"]]
    assert clip["effects"][0]["OTIO_SCHEMA"] == "TimeEffect.1"
    assert any("line 53" in note and "curve" in note for note in cut.notes)


def test_an_avid_position_graph_is_a_curve_and_a_slope_is_not(editorial: Path):
    cut = open_cut(editorial / "aaf" / "misc_speed_effects.aaf")
    schemas = [effect["OTIO_SCHEMA"] for clip in video_clips(cut.document) for effect in clip["effects"]]
    assert schemas == ["FreezeFrame.1"] + ["LinearTimeWarp.1"] * 7 + ["TimeEffect.1"]


def test_drop_frame_of_an_aaf(editorial: Path):
    folder = editorial / "aaf"
    assert open_cut(folder / "2997fps-DFTC.aaf").drop_frame
    assert not open_cut(folder / "multitrack.aaf").drop_frame


def test_adapters_print_nothing(capsys: pytest.CaptureFixture[str], editorial: Path):
    for path in sorted((editorial / "aaf").glob("*.aaf")):
        open_cut(path)
    assert capsys.readouterr() == ("", "")
