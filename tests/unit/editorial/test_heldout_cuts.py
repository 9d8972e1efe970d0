"""Cuts as other people's exporters write them: what they mean, or words about why not."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from scail2_farm.editorial.timeline import Clip, read_edit
from scail2_farm.errors import TimelineUnreadable

HEAD = "TITLE: held\nFCM: NON-DROP FRAME\n\n"

Node = dict[str, Any]


def read(folder: Path, text: str, name: str = "cut.edl", rate: int | None = None) -> list[Clip]:
    (folder / name).write_text(text)
    return list(read_edit(folder / name, rate=None if rate is None else Fraction(rate)).clips)


def refused(folder: Path, text: str, words: str, name: str = "cut.edl") -> TimelineUnreadable:
    with pytest.raises(TimelineUnreadable, match=words) as fault:
        read(folder, text, name)
    assert fault.value.fix
    return fault.value


def shown(clip: Clip) -> tuple[str, float | None, int | None]:
    return clip.name, None if clip.source_start is None else float(clip.source_start.value), clip.source_count


# --------------------------------------------------------------------------- EDL


def test_a_speed_line_is_of_the_reel_it_names(tmp_path: Path):
    fade = "001  LEAD V C 01:00:00:00 01:00:04:00 00:00:00:00 00:00:02:00\n"
    fade += "001  BL   V D 012 00:00:00:00 00:00:01:00 00:00:02:00 00:00:03:00\n"
    fade += "* FROM CLIP NAME: lead\nM2   LEAD  048.0  01:00:00:00\n"
    lead, black = read(tmp_path, HEAD + fade, rate=24)
    assert (lead.speed, lead.source_count, black.speed) == (2, 96, 1)


def test_the_speed_of_the_clip_a_blend_leads_from_is_not_that_of_the_next(tmp_path: Path):
    text = "001  ONE V C 01:00:00:00 01:00:04:00 00:00:00:00 00:00:02:00\nM2   ONE  048.0  01:00:00:00\n"
    text += "002  ONE V C 01:00:04:00 01:00:04:00 00:00:02:00 00:00:02:00\n"
    text += "002  TWO V D 012 02:00:00:00 02:00:02:00 00:00:02:00 00:00:04:00\nM2   ONE  048.0  01:00:04:00\n"
    first, second = read(tmp_path, HEAD + text, rate=24)
    assert [clip.speed for clip in (first, second)] == [2, 1]


def test_two_speeds_of_one_reel_are_told_apart_by_their_times(tmp_path: Path):
    text = "001  ONE V C 01:00:00:00 01:00:04:00 00:00:00:00 00:00:02:00\n"
    text += "001  ONE V D 012 02:00:00:00 02:00:01:00 00:00:02:00 00:00:04:00\n"
    text += "M2   ONE  048.0  01:00:00:00\nM2   ONE  012.0  02:00:00:00\n"
    first, second = read(tmp_path, HEAD + text, rate=24)
    assert [(clip.speed, clip.source_count) for clip in (first, second)] == [(2, 96), (Fraction(1, 2), 24)]


@pytest.mark.parametrize("channel", ["A1234V", "VA1A2", "A12V", "A2/V", "b", "v", "V2", "A3/V"])
def test_a_channel_with_pictures_is_pictures(tmp_path: Path, channel: str):
    (clip,) = read(tmp_path, f"{HEAD}001  AX {channel} C 01:00:00:00 01:00:01:00 00:00:00:00 00:00:01:00\n", rate=24)
    assert shown(clip) == ("001", 86400, 24)


def test_a_reel_may_have_spaces(tmp_path: Path):
    text = "001  A001 C002 V C 01:00:00:00 01:00:02:00 00:00:00:00 00:00:01:00\nM2   A001 C002  048.0  01:00:00:00\n"
    text += "002  A001 C002 V C 01:00:02:00 01:00:02:00 00:00:01:00 00:00:01:00\n"
    text += "002  B 7 V W001 012 02:00:00:00 02:00:01:00 00:00:01:00 00:00:02:00\n"
    first, second = read(tmp_path, HEAD + text, rate=24)
    assert [(clip.reel, clip.speed) for clip in (first, second)] == [("A001 C002", 2), ("B 7", 1)]


def test_remarks_before_the_first_event_are_of_no_event(tmp_path: Path):
    text = HEAD + "* WARNING: two tracks left out\n>>> SOURCE A B\n\n001  AX V C 00 0024 0 24\n"
    assert read(tmp_path, text.replace("00 0024", "0 24"), rate=24)[0].name == "001"


def test_a_cut_may_give_a_length_of_0(tmp_path: Path):
    (clip,) = read(tmp_path, HEAD + "001  AX V C 000 01:00:00:00 01:00:01:00 00:00:00:00 00:00:01:00\n", rate=24)
    assert clip.source_count == 24


def test_a_key_is_refused_as_one(tmp_path: Path):
    text = HEAD + "002  AX V K B 00:00:01:00 00:00:02:00 01:00:00:00 01:00:01:00\n"
    text += "002  AX V K 000 00:00:03:00 00:00:03:00 01:00:00:00 01:00:00:00\n"
    assert refused(tmp_path, text, "neither a cut, a dissolve nor a wipe").where.line == 4


def test_sound_that_lies_over_sound_does_not_stand_in_the_way(tmp_path: Path):
    text = HEAD + "001  AX V C 01:00:00:00 01:00:01:00 00:00:00:00 00:00:01:00\n"
    text += "002  AX A C 01:00:00:00 01:00:02:00 00:00:00:00 00:00:02:00\n"
    text += "003  AX A C 01:00:00:00 01:00:02:00 00:00:01:00 00:00:03:00\n"
    (tmp_path / "cut.edl").write_text(text)
    edit = read_edit(tmp_path / "cut.edl", rate=Fraction(24))
    assert [shown(clip) for clip in edit.clips] == [("001", 86400, 24)]
    assert edit.notes == ("1 events of sound lie over others and are left out",)


def test_resolves_markers_are_no_cut(tmp_path: Path):
    text = HEAD + "001  001 V C 01:00:01:00 01:00:01:01 01:00:01:00 01:00:01:01\n |C:ResolveColorBlue |M:Look |D:1\n"
    refused(tmp_path, text, "a list of timeline markers")


@pytest.mark.parametrize(
    "text",
    [
        "001  AX V C 06:42:50:18 06:42:52:13 01:00:00:00 01:00:01:20\n",  # 45 frames at 25, 43 and 44 at 24
        "001  AX V C 01:00:39:20 01:01:19:20 01:00:00:00 01:00:40:00\nM2   AX  -025.0  01:00:39:20\n",
    ],
)
def test_a_list_that_adds_up_at_another_rate_only_asks_for_it(tmp_path: Path, text: str):
    assert "--rate 25" in str(refused(tmp_path, HEAD + text, "do not add up at 24").fix)
    assert len(read(tmp_path, HEAD + text, rate=25)) == len(read(tmp_path, HEAD + text, rate=24)) == 1


def test_drop_frame_beyond_30_frames_is_59_94(tmp_path: Path):
    (clip,) = read(tmp_path, "TITLE: x\n001  AX V C 00:00:59;58 00:01:00;05 01:00:59;58 01:01:00;05\n")
    assert (clip.rate, clip.source_count) == (Fraction(60000, 1001), 3)


def test_names_come_from_what_names_a_clip(tmp_path: Path):
    one = HEAD + "001  AX V C 0 24 0 24\n"
    assert read(tmp_path, f"{one}* REEL AX IS CLIP 28661.mov\n", rate=24)[0].name == "28661.mov"
    assert read(tmp_path, f"{one}* Descript:\n* LOC: 1:00:00:00 RED SH_0010\n", rate=24)[0].name == "SH_0010"
    (clip,) = read(tmp_path, f"{one}* LOC: 1:00:00:00 RED SH_0010\n", rate=24)
    assert [marker.name for marker in clip.markers] == ["SH_0010"]


# --------------------------------------------------------------------------- FCPXML

MEDIA = (
    '<format id="r1" frameDuration="1/25s"/><format id="r9" frameDuration="1/50s"/>'
    '<asset id="r2" name="a" src="file:///m/a.mov" start="100s" duration="60s" hasVideo="1" hasAudio="1" format="r1"/>'
    '<asset id="r3" name="s" src="file:///m/s.mp4" start="0s" duration="60s" hasAudio="1"/>'
    '<asset id="r4" name="f" src="file:///m/f.mov" start="0s" duration="60s" hasVideo="1" format="r9"/>'
)


def fcpx(spine: str, project: str = '<sequence format="r1" tcStart="0s"><spine>{}</spine></sequence>') -> str:
    body = project.format(spine)
    event = f'<event name="E"><project name="P">{body}</project></event>'
    return f'<fcpxml version="1.8"><resources>{MEDIA}</resources>{event}</fcpxml>'


def placed(clips: list[Clip]) -> list[tuple[str, float, int | None, int | None]]:
    return [
        (clip.name, float(clip.source_start.value), clip.source_count, clip.record_start)
        for clip in clips
        if clip.source_start
    ]


def test_the_sound_inside_a_clip_is_no_clip_of_its_own(tmp_path: Path):
    sound = '<audio ref="r2" lane="-1" offset="100s" duration="60s"/>'
    video = f'<video ref="r2" offset="100s" start="100s" duration="60s">{sound}</video>'
    spine = f'<clip name="one" offset="0s" start="102s" duration="2s">{video}</clip>'
    spine += f'<clip name="two" offset="2s" start="110s" duration="1s">{video}</clip>'
    clips = read(tmp_path, fcpx(spine), "cut.fcpxml")
    assert placed(clips) == [("one", 2550, 50, 0), ("two", 2750, 25, 50)]


def test_a_clip_starts_in_the_time_of_its_own_and_not_of_its_media(tmp_path: Path):
    spine = (
        '<clip name="one" offset="0s" start="1s" duration="2s"><video ref="r2" offset="0s" start="104s" duration="9s"/>'
    )
    spine += '<marker start="2s" duration="1/25s" value="SH"/></clip>'
    (clip,) = read(tmp_path, fcpx(spine), "cut.fcpxml")
    assert placed([clip]) == [("one", 2625, 50, 0)]
    assert [marker.name for marker in clip.markers] == ["SH"]


def test_a_storyline_stands_where_it_is_connected(tmp_path: Path):
    inner = (
        '<spine lane="1" offset="103s"><asset-clip ref="r4" name="in" offset="1s" start="5s" duration="1s"/></spine>'
    )
    spine = f'<asset-clip ref="r2" name="out" offset="0s" start="101s" duration="8s">{inner}</asset-clip>'
    spine += '<asset-clip ref="r2" name="next" offset="8s" start="101s" duration="1s"/>'
    clips = read(tmp_path, fcpx(spine), "cut.fcpxml")
    assert placed(clips) == [("out", 2525, 200, 0), ("next", 2525, 25, 200), ("in", 250, 50, 75)]
    assert [clip.track for clip in clips] == ["0", "0", "1"]


def test_a_gap_before_media_of_another_rate_lasts_as_long_as_it_does(tmp_path: Path):
    spine = '<gap offset="0s" duration="4s"/><asset-clip ref="r4" name="f" offset="4s" start="5s" duration="1s"/>'
    assert placed(read(tmp_path, fcpx(spine), "cut.fcpxml")) == [("f", 250, 50, 100)]


def test_sound_between_pictures_has_a_track_of_its_own(tmp_path: Path):
    spine = '<asset-clip ref="r3" name="song" offset="0s" duration="9s"/>'
    spine += '<asset-clip ref="r2" name="one" offset="0s" duration="2s"/>'
    clips = read(tmp_path, fcpx(spine), "cut.fcpxml")
    assert placed(clips) == [("one", 2500, 50, 0)]


def test_a_project_without_a_storyline_is_told(tmp_path: Path):
    refused(tmp_path, fcpx("", project=""), "without a storyline", "cut.fcpxml")


def test_a_cut_without_pictures_says_so(tmp_path: Path):
    (tmp_path / "cut.fcpxml").write_text(fcpx(""))
    assert read_edit(tmp_path / "cut.fcpxml").notes == ("the timeline holds no clips with a picture",)


# --------------------------------------------------------------------------- FCP 7 XML

RATE = "<rate><timebase>24</timebase><ntsc>FALSE</ntsc></rate>"


def item(number: int, first: int, last: int, inside: str) -> str:
    return (
        f'<clipitem id="i{number}"><name>clip{number}</name>{RATE}<start>{first}</start><end>{last}</end>'
        f"<in>10</in><out>{10 + last - first}</out>{inside}</clipitem>"
    )


def file(number: int) -> str:
    return f'<file id="f{number}"><name>a</name><pathurl>file:///m/{number}.mov</pathurl>{RATE}<duration>99</duration></file>'


def sequence(name: str, items: str) -> str:
    track = f"<track>{items}</track>"
    return f'<sequence id="{name}"><name>{name}</name>{RATE}<media><video>{track}</video></media></sequence>'


def test_clips_inside_nested_sequences_are_found(tmp_path: Path):
    nested = sequence("nest", item(1, 0, 20, file(1)) + item(2, 20, 60, file(2)))
    text = f'<xmeml version="4">{sequence("top", item(3, 0, 30, nested))}</xmeml>'
    clips = read(tmp_path, text, "cut.xml")
    assert [(*shown(clip), clip.record_start) for clip in clips] == [("clip1", 20, 10, 0), ("clip2", 10, 20, 10)]


def test_sequences_nested_by_name_are_found(tmp_path: Path):
    bin = f"<bin><children>{sequence('nest', item(1, 0, 60, file(1)))}</children></bin>"
    top = sequence("top", item(3, 0, 30, '<sequence id="nest"/>'))
    text = f'<xmeml version="4">{top}{bin}</xmeml>'
    (tmp_path / "cut.xml").write_text(text)
    (clip,) = read_edit(tmp_path / "cut.xml", timeline="top").clips
    assert shown(clip) == ("clip1", 20, 30)
    (clip,) = read_edit(tmp_path / "cut.xml", timeline="nest").clips
    assert shown(clip) == ("clip1", 10, 60)


def test_a_bin_without_a_sequence_is_told(tmp_path: Path):
    text = '<xmeml version="5"><bin><children><clip id="m"><name>c</name></clip></children></bin></xmeml>'
    refused(tmp_path, text, "holds no sequence", "cut.xml")


def test_a_sequence_nested_in_itself_is_refused(tmp_path: Path):
    one, two = (sequence(name, item(1, 0, 30, f'<sequence id="{other}"/>')) for name, other in ("ab", "ba"))
    refused(tmp_path, f'<xmeml version="4">{one}{two}</xmeml>', "in itself", "cut.xml")


def test_sequences_that_multiply_are_refused(tmp_path: Path):
    many = "".join(item(n, 30 * n, 30 * n + 30, '<sequence id="{}"/>') for n in range(30))
    nests = [sequence(f"s{n}", many.replace("{}", f"s{n + 1}")) for n in range(5)]
    text = f'<xmeml version="4">{"".join(nests)}{sequence("s5", item(1, 0, 30, file(1)))}</xmeml>'
    refused(tmp_path, text, "nests more than", "cut.xml")


def test_a_clip_of_nothing_is_offline(tmp_path: Path):
    text = f'<xmeml version="4">{sequence("top", item(1, 0, 30, "") + item(2, 30, 40, file(2)))}</xmeml>'
    clips = read(tmp_path, text, "cut.xml")
    assert [(shown(clip), clip.offline) for clip in clips] == [(("clip1", 10, 30), True), (("clip2", 10, 10), False)]


# --------------------------------------------------------------------------- OTIO


def seconds(rate: float, available: float) -> str:
    def time(value: float, rate: float) -> Node:
        return {"OTIO_SCHEMA": "RationalTime.1", "value": value, "rate": rate}

    def span(start: float, length: float, rate: float) -> Node:
        return {"OTIO_SCHEMA": "TimeRange.1", "start_time": time(start, rate), "duration": time(length, rate)}

    media = {
        "OTIO_SCHEMA": "ExternalReference.1",
        "target_url": "/m/a.mov",
        "available_range": span(0, 10 * available, available),
    }
    clip = {"OTIO_SCHEMA": "Clip.1", "name": "c", "source_range": span(1.5, 2.25, rate), "media_reference": media}
    track = {"OTIO_SCHEMA": "Track.1", "kind": "Video", "children": [clip]}
    return json.dumps({"OTIO_SCHEMA": "Timeline.1", "tracks": {"OTIO_SCHEMA": "Stack.1", "children": [track]}})


def test_a_source_range_in_seconds_is_counted_in_frames_of_its_media(tmp_path: Path):
    (clip,) = read(tmp_path, seconds(1, 24), "cut.otio")
    assert shown(clip) == ("c", 36, 54)


def test_a_cut_that_counts_only_seconds_says_so(tmp_path: Path):
    (clip,) = read(tmp_path, seconds(1, 1), "cut.otio")
    assert "no rate of pictures" in str(clip.fault)
