"""Cuts in every format, with the oddities their adapters lose or fail on."""

import copy
import json
import os
import re
import shutil
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import cuts
import opentimelineio as otio
import pytest

from scail2_farm.editorial.formats import SUFFIXES, Opened, mark_curves, open_cut
from scail2_farm.editorial.paths import local_path
from scail2_farm.editorial.timeline import read_edit
from scail2_farm.errors import DiskFull, PlateMissing, SettingsInvalid, TimelineUnreadable
from scail2_farm.frames import FrameRange

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "formats"
NTSC = Fraction(30000, 1001)

Node = dict[str, Any]


def nodes(node: Node, schema: str = "Clip") -> list[Node]:
    found = [node] if str(node.get("OTIO_SCHEMA")).partition(".")[0] == schema else []
    children = [node["tracks"]] if "tracks" in node else node.get("children") or []
    return found + [deep for child in children for deep in nodes(child, schema)]


def used(clip: Node) -> tuple[str, float, float]:
    trim = clip["source_range"]
    return clip["name"], trim["start_time"]["value"], trim["duration"]["value"]


def media(clip: Node) -> Node:
    return clip["media_references"][clip["active_media_reference_key"]]


def retimes(clip: Node) -> list[tuple[str, Any]]:
    return [(effect["OTIO_SCHEMA"], effect.get("time_scalar")) for effect in clip["effects"]]


def edl(folder: Path, text: str | bytes, name: str = "cut.edl") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def opened(folder: Path, text: str | bytes, rate: int | Fraction = 24) -> Opened:
    return open_cut(edl(folder, text), rate=Fraction(rate))


def refused(path: Path, words: str, *, rate: Fraction | None = None) -> TimelineUnreadable:
    with pytest.raises(TimelineUnreadable, match=words) as fault:
        open_cut(path, rate=rate)
    assert fault.value.where.file == str(path)
    assert fault.value.fix
    return fault.value


PLAIN = """TITLE: plain
FCM: NON-DROP FRAME
001  A001C001 V     C        10:00:00:00 10:00:02:00 01:00:00:00 01:00:02:00
* FROM CLIP NAME:  SH010
* LOC: 01:00:01:00 RED     CHAR:HERO
002  A001C002 V     C        10:00:10:00 10:00:11:00 01:00:02:00 01:00:03:00
* FROM CLIP NAME:  SH020
* COMMENT: keep it
"""
PLAIN_CLIPS = [("SH010", 864000, 48), ("SH020", 864240, 24)]


# --------------------------------------------------------------------------- EDL: bytes and lines


@pytest.mark.parametrize("ending", ["\r", "\r\n", "\n"], ids=["cr", "crlf", "lf"])
@pytest.mark.parametrize("before", ["", "\ufeff"], ids=["plain", "bom"])
def test_line_ends_and_byte_order_marks(tmp_path: Path, ending: str, before: str):
    cut = opened(tmp_path, before + PLAIN.replace("\n", ending))
    assert [used(clip) for clip in nodes(cut.document)] == PLAIN_CLIPS
    assert cut.document["name"] == "plain"
    assert cut.document["global_start_time"]["value"] == 86400
    assert not cut.drop_frame
    assert cut.notes == ()
    first, second = nodes(cut.document)
    assert [marker["name"] for marker in first["markers"]] == ["CHAR:HERO"]
    assert second["metadata"]["cmx_3600"] == {"comments": ["COMMENT: keep it"], "reel": "A001C002"}


def test_old_encodings_and_dos_padding(tmp_path: Path):
    text = PLAIN.replace("SH010", "caf\u00e9\u2026").encode("cp1252") + b"\x1a\x1a\0\0"
    assert nodes(opened(tmp_path, text).document)[0]["name"] == "caf\u00e9\u2026"


def test_the_rate_is_asked_for_told_and_named(tmp_path: Path):
    (note,) = open_cut(edl(tmp_path, PLAIN)).notes
    assert "24 frames a second" in note
    assert "--rate" in note
    text = PLAIN.replace("10:00:11:00 01:00:02:00 01:00:03:00", "10:00:10:24 01:00:02:00 01:00:02:24")
    fault = refused(edl(tmp_path, text), "10:00:10:24")
    assert "--rate 25" in fault.fix
    assert fault.where.line == 6
    cut = opened(tmp_path, text, 25)
    assert used(nodes(cut.document)[1]) == ("SH020", 36010 * 25, 24)


def test_drop_frame_by_semicolons_and_by_the_header(tmp_path: Path):
    header = PLAIN.replace("NON-DROP", "DROP").replace("01:00:02:00 01:00:03:00", "01:10:00:00 01:10:01:00")
    semicolons = re.sub(r"(\d\d:\d\d:\d\d):(\d\d)", r"\1;\2", header.replace("FCM: DROP FRAME\n", ""))
    for text in (header, semicolons):
        cut = open_cut(edl(tmp_path, text))
        assert cut.drop_frame
        assert any("29.97" in note for note in cut.notes)
        assert cut.document["global_start_time"] == {
            "OTIO_SCHEMA": "RationalTime.1",
            "rate": float(NTSC),
            "value": 107892,
        }
        (gap,) = nodes(cut.document, "Gap")
        first, second = nodes(cut.document)
        assert gap["source_range"]["duration"]["value"] == 17982 - 60  # ten minutes of drop frame
        assert first["markers"][0]["name"] == "CHAR:HERO"
        assert (first["source_range"]["duration"]["value"], second["source_range"]["duration"]["value"]) == (60, 30)
    fault = refused(edl(tmp_path, semicolons), "drop-frame", rate=Fraction(25))
    assert "--rate 29.97" in fault.fix


def test_a_header_of_drop_frame_at_24_is_told(tmp_path: Path):
    cut = opened(tmp_path, PLAIN.replace("NON-DROP", "DROP"))
    assert not cut.drop_frame
    assert any("DROP FRAME is not used" in note for note in cut.notes)


# --------------------------------------------------------------------------- EDL: what the adapter loses

REVERSE = """TITLE: speeds
001  A V C 10:00:00:00 10:00:02:00 01:00:00:00 01:00:02:00
M2   A       -024.0                10:00:00:00
* FROM CLIP NAME: reverse
002  B V C 10:00:00:00 10:00:04:00 01:00:02:00 01:00:04:00
M2   B       048.0                10:00:00:00
* FROM CLIP NAME: twice
003  C V C 10:00:00:00 10:00:04:00 01:00:04:00 01:00:05:00
M2   C       048.0                10:00:00:00
* FROM CLIP NAME: contradiction
004  D V C 10:00:00:00 10:00:01:00 01:00:05:00 01:00:06:00
M2   D       024.0                10:00:00:00
* FROM CLIP NAME: plain
"""


def test_speeds(tmp_path: Path):
    theirs: Any = otio.adapters.read_from_string(REVERSE, "cmx_3600")
    assert not theirs.tracks[0][0].effects, "the adapter keeps a reverse at full speed now; _mend_speed need not"
    cut = opened(tmp_path, REVERSE)
    found = {clip["name"]: retimes(clip) for clip in nodes(cut.document)}
    assert found == {
        "reverse": [("LinearTimeWarp.1", -1.0)],
        "twice": [("LinearTimeWarp.1", 2.0)],
        "contradiction": [("TimeEffect.1", None)],
        "plain": [],
    }
    assert used(nodes(cut.document)[1]) == ("twice", 864000, 48)  # the record's length
    assert [note for note in cut.notes if "line 8" in note]


def test_speed_lines_count_in_the_nominal_rate_and_may_be_drop_frame(tmp_path: Path):
    pulled = opened(tmp_path, REVERSE, Fraction(24000, 1001))
    assert retimes(nodes(pulled.document)[1]) == [("LinearTimeWarp.1", 2.0)]
    text = "001 A V C 10:00:00;00 10:00:04;00 01:00:00;00 01:00:02;00\nM2 A 060.0 10:00:00;00\n"
    assert retimes(nodes(opened(tmp_path, text, NTSC).document)[0]) == [("LinearTimeWarp.1", 2.0)]


@pytest.mark.parametrize(
    ("remark", "available"),
    [
        ("/p/SH010.[1001-1012].exr", None),  # all of the plate: the event is somewhere in it
        ("/p/SH010.[1005-1010].exr", (86404, 6)),  # what the event shows
        ("/p/SH010.####.exr", None),
        ("/p/SH010.mov", None),
    ],
)
def test_media_is_never_taken_to_begin_where_an_event_begins(
    tmp_path: Path, remark: str, available: tuple[float, float] | None
):
    text = f"001 A V C 01:00:00:04 01:00:00:10 01:00:00:00 01:00:00:06\n* FROM CLIP: {remark}\n"
    (clip,) = nodes(opened(tmp_path, text).document)
    known = media(clip)["available_range"]
    assert (known and (known["start_time"]["value"], known["duration"]["value"])) == available


def test_an_event_inside_a_sequence_is_placed_by_the_timecode_of_the_plate(tmp_path: Path):
    text = "001 A V C 01:00:00:04 01:00:00:10 01:00:00:00 01:00:00:06\n* FROM CLIP: /p/SH010.[1001-1012].exr\n"
    (clip,) = read_edit(edl(tmp_path, text), rate=Fraction(24)).clips
    assert clip.used(FrameRange(1001, 12), 86400).frames == FrameRange(1005, 6)
    with pytest.raises(PlateMissing):  # a plate without timecode cannot say where
        clip.used(FrameRange(1001, 12))


DISSOLVE = """TITLE: dissolve
001  A V C 10:00:00:00 10:00:02:00 01:00:00:00 01:00:02:00
* FROM CLIP NAME: one
* FROM CLIP: /media/one.mov
002  A V C 10:00:02:00 10:00:02:00 01:00:02:00 01:00:02:00
002  B V D 012 11:00:00:00 11:00:02:00 01:00:02:00 01:00:04:00
* FROM CLIP NAME: one
* TO CLIP NAME: two
* FROM CLIP: /media/one.mov
"""


def test_media_of_the_clip_a_dissolve_leads_to(tmp_path: Path):
    theirs: Any = otio.adapters.read_from_string(DISSOLVE, "cmx_3600")
    assert theirs.tracks[0][2].media_reference.target_url == "/media/one.mov"  # of the clip it comes from
    first, second = nodes(opened(tmp_path, DISSOLVE).document)
    assert media(first)["target_url"] == "/media/one.mov"
    assert (second["name"], media(second)["OTIO_SCHEMA"]) == ("two", "MissingReference.1")
    named = opened(tmp_path, DISSOLVE + "* TO CLIP: /media/two.mov\n")
    assert media(nodes(named.document)[1])["target_url"] == "/media/two.mov"
    for cut in (opened(tmp_path, DISSOLVE), named):
        otio.adapters.read_from_string(json.dumps(cut.document), "otio_json")


def test_a_fade_in_at_the_head(tmp_path: Path):
    text = DISSOLVE.split("001", maxsplit=1)[0] + DISSOLVE[DISSOLVE.index("002") :].replace("002  A", "002  BL")
    with pytest.raises(otio.exceptions.OTIOError, match="beginning of a track"):
        otio.adapters.read_from_string(text, "cmx_3600")
    cut = opened(tmp_path, text)
    assert [used(clip) for clip in nodes(cut.document)] == [("two", 950400, 48)]
    assert [node["out_offset"]["value"] for node in nodes(cut.document, "Transition")] == [12]
    assert cut.document["global_start_time"]["value"] == 86400 + 48


def test_a_dissolve_whose_first_line_has_a_length_or_is_not_there(tmp_path: Path):
    joined = "TITLE: x\n" + "".join(
        f"{line}\n"
        for line in (
            "000  Z V C 10:00:00:00 10:00:01:00 00:59:59:00 01:00:00:00",
            "* FROM CLIP NAME: zero",
            "001  A V C 10:00:00:00 10:00:02:00 01:00:00:00 01:00:02:00",
            "001  B V D 012 11:00:00:00 11:00:02:00 01:00:02:00 01:00:04:00",
            "* FROM CLIP NAME: one",
            "* TO CLIP NAME: two",
        )
    )
    theirs: Any = otio.adapters.read_from_string(joined, "cmx_3600")
    assert [clip.name for clip in theirs.find_clips()] == ["zero", "two"]  # one is lost, and nothing said
    cut = opened(tmp_path, joined)
    assert [used(clip)[0] for clip in nodes(cut.document)] == ["zero", "one", "two"]
    assert [used(clip)[1:] for clip in nodes(cut.document)[1:]] == [(864000, 48), (950400, 48)]
    assert len(nodes(cut.document, "Transition")) == 1
    alone = DISSOLVE.replace("002  A V C 10:00:02:00 10:00:02:00 01:00:02:00 01:00:02:00\n", "")
    assert len(nodes(opened(tmp_path, alone).document, "Transition")) == 1


def test_picture_and_sound_under_one_number(tmp_path: Path):
    text = """TITLE: both
001  A V C 10:00:00:00 10:00:02:00 01:00:00:00 01:00:02:00
001  A A C 10:00:00:00 10:00:02:00 01:00:00:00 01:00:02:00
* FROM CLIP NAME: one
SPLIT:    AUDIO DELAY=  00:00:00:12
002  B V C 11:00:00:00 11:00:01:00 01:00:02:00 01:00:03:00
002  B A C 11:00:00:12 11:00:01:00 01:00:02:12 01:00:03:00
* FROM CLIP NAME: two
"""
    with pytest.raises(AttributeError):
        otio.adapters.read_from_string(text, "cmx_3600")
    video, audio = opened(tmp_path, text).document["tracks"]["children"]
    assert [used(clip) for clip in nodes(video)] == [("one", 864000, 48), ("two", 950400, 24)]
    assert [used(clip) for clip in nodes(audio)] == [("one", 864000, 48), ("two", 950412, 12)]


def test_tracks_that_begin_later_keep_their_place(tmp_path: Path):
    text = """TITLE: tracks
001  A V  C 10:00:00:00 10:00:02:00 01:00:00:00 01:00:02:00
002  B V2 C 11:00:00:00 11:00:01:00 01:00:01:00 01:00:02:00
"""
    low, high = opened(tmp_path, text).document["tracks"]["children"]
    assert (low["source_range"], high["source_range"]) == (None, None)
    assert len(nodes(low, "Gap")) == 0
    assert [gap["source_range"]["duration"]["value"] for gap in nodes(high, "Gap")] == [24]


def test_events_out_of_order_and_over_one_another(tmp_path: Path):
    head, first, second = re.split(r"^(?=00[12])", PLAIN, flags=re.MULTILINE)
    cut = opened(tmp_path, head + second + first)
    assert [used(clip) for clip in nodes(cut.document)] == PLAIN_CLIPS
    assert any("record order" in note for note in cut.notes)
    over = edl(tmp_path, PLAIN.replace("01:00:02:00 01:00:03:00", "01:00:01:00 01:00:02:00"))
    assert refused(over, "lie over one another").where.line == 6


def test_names_of_events_without_one(tmp_path: Path):
    text = """TITLE: names
001  R1 V C 10:00:00:00 10:00:01:00 01:00:00:00 01:00:01:00
* LOC: 01:00:00:10 RED  SH010 do this
*not_this
002  R2 V C 10:00:00:00 10:00:01:00 01:00:01:00 01:00:02:00
*079_HA_0010
003  R3 V C 10:00:00:00 10:00:01:00 01:00:02:00 01:00:03:00
* COMMENT: SH030 more words
004  R4 V C 10:00:00:00 10:00:01:00 01:00:03:00 01:00:04:00
* FROM CLIP IS A STILL
* COMMENT:
005  AX V C 10:00:00:00 10:00:01:00 01:00:04:00 01:00:05:00
006  R6 V C 10:00:00:00 10:00:01:00 01:00:05:00 01:00:06:00
* FROM CLIP NAME: given
*not_this
"""
    clips = nodes(opened(tmp_path, text).document)
    assert [clip["name"] for clip in clips] == ["SH010", "079_HA_0010", "SH030", "R4", "005", "given"]
    assert clips[1]["metadata"]["cmx_3600"]["comments"] == ["079_HA_0010"]
    assert {media(clip)["OTIO_SCHEMA"] for clip in clips} == {"MissingReference.1"}
    assert "\ue000" not in json.dumps([clip["metadata"] for clip in clips], ensure_ascii=False)


def test_black_is_nothing_to_render(tmp_path: Path):
    text = "001 BL V C 00:00:00:00 00:00:01:00 01:00:00:00 01:00:01:00\n"
    (clip,) = nodes(opened(tmp_path, text).document)
    assert media(clip)["OTIO_SCHEMA"] == "GeneratorReference.1"


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("TITLE: x\nnonsense\n", "no EDL from here on", 2),
        ("TITLE: x\n", "no events", None),
        (PLAIN.replace("V     C ", "V     K "), "neither a cut, a dissolve nor a wipe", 3),
        (PLAIN.replace("10:00:02:00", "10:60:02:00"), "10:60:02:00", 3),
        (PLAIN.replace("10:00:02:00", "09:00:02:00"), "ends before it begins", 3),
        (PLAIN.replace("* COMMENT: keep it", "M2 A fast"), "speed line", 6),
        (PLAIN.replace("* COMMENT: keep it", "* ASC_SOP (nonsense)"), "ASC_SOP", 6),
        (PLAIN.replace("10:00:10:00", "9" * 5000), "is not a timecode", 6),
        (PLAIN + "* more\n" * 2000, "more remarks", 1007),
        (PLAIN + "* " + "M2 " * 100_000, "more remarks", 9),
    ],
)
def test_a_broken_list_is_refused_with_its_line(tmp_path: Path, text: str, words: str, line: int | None):
    assert refused(edl(tmp_path, text), words).where.line == line


# --------------------------------------------------------------------------- FCP 7 XML and FCPXML


def test_time_remaps_and_disabled_clips_of_fcp7():
    theirs: Any = otio.adapters.read_from_file(str(FIXTURES / "retimes.xml"))
    assert [type(effect).__name__ for clip in theirs.find_clips() for effect in clip.effects] == ["Effect"] * 3
    cut = open_cut(FIXTURES / "retimes.xml")
    assert cut.drop_frame
    clips = {clip["name"]: clip for clip in nodes(cut.document)}
    assert {name: [schema for schema, _ in retimes(clip)] for name, clip in clips.items()} == {
        "plain": ["Effect.1"],
        "twice": ["TimeEffect.1"],
        "backwards": ["TimeEffect.1"],
        "off": [],
    }
    assert {name: clip["enabled"] for name, clip in clips.items()} == dict.fromkeys(clips, True) | {"off": False}
    assert len(cut.notes) == 2
    otio.adapters.read_from_string(json.dumps(cut.document), "otio_json")


def test_a_final_cut_project_at_23_976():
    cut = open_cut(FIXTURES / "project.fcpxml")
    timeline = cut.document
    assert timeline["OTIO_SCHEMA"].startswith("Timeline.")
    start = {"OTIO_SCHEMA": "RationalTime.1", "rate": 24000 / 1001, "value": 86400.0}
    assert timeline["global_start_time"] == start
    low, high = timeline["tracks"]["children"]
    assert [(used(clip), clip["enabled"]) for clip in nodes(low)] == [
        (("plain", 86400, 48), True),
        (("ramp", 24, 48), True),
        (("off", 96, 12), False),
    ]
    assert [gap["source_range"]["duration"]["value"] for gap in nodes(low, "Gap")] == [36]
    assert [used(clip) for clip in nodes(high)] == [("over", 24, 12)]
    assert [gap["source_range"]["duration"]["value"] for gap in nodes(high, "Gap")] == [24]
    rates = {clip["source_range"]["duration"]["rate"] for clip in nodes(timeline)}
    assert rates == {24000 / 1001}
    plain, ramp, _ = nodes(low)
    assert media(plain)["available_range"]["start_time"]["value"] == 86400
    assert media(plain)["target_url"] == "file:///media/A001.mov"
    assert retimes(ramp) == [("TimeEffect.1", None)]
    assert [marker["name"] for marker in plain["markers"]] == ["CHAR:hero"]
    assert [marker["name"] for marker in nodes(high)[0]["markers"]] == ["CHAR:villain"]
    assert any("1 transitions" in note for note in cut.notes)
    otio.adapters.read_from_string(json.dumps(timeline), "otio_json")


def test_no_frame_is_lost_in_the_floats_of_the_adapter(tmp_path: Path):
    text = (FIXTURES / "project.fcpxml").read_text().replace("1001/24000s", "1/25s").replace("24024/24000s", "29/25s")
    text = re.sub(r"(\d+)/(24000|1000)s", "10s", text)
    path = tmp_path / "cut.fcpxml"
    path.write_text(text)
    starts = {clip["name"]: used(clip)[1] for clip in nodes(open_cut(path).document)}
    assert (starts["over"], starts["ramp"]) == (29, 29)  # 29/25 s * 25 is less than 29 in floats


def test_an_fcpxml_bundle(tmp_path: Path):
    bundle = tmp_path / "reel.fcpxmld"
    bundle.mkdir()
    shutil.copy(FIXTURES / "project.fcpxml", bundle / "Info.fcpxml")
    assert len(nodes(open_cut(bundle).document)) == 4
    assert open_cut(bundle).folder == tmp_path


@pytest.mark.parametrize("name", ["cut.xml", "cut.fcpxml"])
def test_xml_is_read_by_its_root_and_not_its_suffix(tmp_path: Path, name: str):
    for fixture, count in (("retimes.xml", 4), ("project.fcpxml", 4)):
        shutil.copy(FIXTURES / fixture, tmp_path / name)
        assert len(nodes(open_cut(tmp_path / name).document)) == count


def test_what_fcpxml_is_refused_for(tmp_path: Path):
    text = (FIXTURES / "project.fcpxml").read_text()
    path = tmp_path / "cut.fcpxml"
    path.write_text(text.replace("<video ref", "<sync-clip/><mc-clip/><video ref"))
    assert "1 multicam clips, 1 synchronised clips" in refused(path, "not read").what
    path.write_text(text.replace("<resources>", '<resources><format id="r9" frameDuration="100/2500s"/>'))
    refused(path, "mixes frame rates")
    path.write_text(text.replace("project", "thing"))
    refused(path, "no timeline")
    for time in ("nonsense", "1e999999999s", "1/0s"):
        path.write_text(text.replace("48048/24000s", time))
        refused(path, "a time that cannot be read")


def test_entity_bombs_and_other_junk(tmp_path: Path):
    path = tmp_path / "cut.xml"
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><xmeml>&b;</xmeml>'
    path.write_text(bomb)
    refused(path, "declares entities")
    path.write_text("<xmeml>" + "<a>" * 5000)
    refused(path, "nested deeper")
    path.write_text("<xmeml><sequence>")
    refused(path, "not complete XML")
    path.write_bytes(b"<?xml version='1.0' encoding='shift_jis'?><xmeml/>")
    refused(path, "not complete XML")
    path.write_text("<xmeml version='4'/>")
    refused(path, "holds no sequence")
    path.write_text("<mlt/>")
    assert "Shotcut" in refused(path, "not read").what


# --------------------------------------------------------------------------- bundles


def bundled(address: str = "media/a.mov") -> Node:
    return cuts.cut(
        cuts.track(
            cuts.clip("movie", source=cuts.span(0, 10), media=cuts.movie(address)),
            cuts.clip("frames", source=cuts.span(0, 2), media=cuts.sequence("media/seq", available=cuts.span(0, 2))),
            cuts.clip("gone", source=cuts.span(0, 2), media=cuts.movie("media/gone.mov")),
            cuts.clip("elsewhere", source=cuts.span(0, 2), media=cuts.movie("file:///show/b.mov")),
        )
    )


MEMBERS = {"media/a.mov": b"movie", "media/seq/p.1001.exr": b"one", "media/seq/p.1002.exr": b"two", "media/x.mov": b"x"}


def zipped(path: Path, document: Node | None, members: dict[str, bytes] = MEMBERS) -> Path:
    with zipfile.ZipFile(path, "w") as bundle:
        if document is not None:
            bundle.writestr("content.otio", json.dumps(document))
        for name, content in members.items():
            bundle.writestr(name, content)
    return path


def addresses(cut: Opened) -> list[str]:
    return [media(clip).get("target_url") or media(clip)["target_url_base"] for clip in nodes(cut.document)]


def test_an_otioz_is_unpacked_beside_it(tmp_path: Path):
    cut = open_cut(zipped(tmp_path / "My Cut.otioz", bundled()))
    assert cut.folder == tmp_path
    unpacked = tmp_path / "My Cut.scail2" / "media"
    assert {str(found.relative_to(unpacked)) for found in unpacked.rglob("*") if found.is_file()} == {
        "a.mov",
        "seq/p.1001.exr",
        "seq/p.1002.exr",
    }
    assert addresses(cut)[-1] == "file:///show/b.mov"
    movie, frames, gone = (local_path(address, folder=cut.folder) for address in addresses(cut)[:3])
    assert movie.read_bytes() == b"movie"
    assert (frames / "p.1002.exr").read_bytes() == b"two"
    assert gone == unpacked / "gone.mov"
    (note,) = cut.notes
    assert "media/gone.mov" in note
    assert "a.mov" not in note.replace("gone.mov", "")


def test_members_of_one_name_do_not_meet(tmp_path: Path):
    document = cuts.cut(cuts.track(cuts.clip(media=cuts.movie("media/a.mov")), cuts.clip(media=cuts.movie("a.mov"))))
    cut = open_cut(zipped(tmp_path / "cut.otioz", document, {"media/a.mov": b"one", "a.mov": b"two"}))
    found = [local_path(address, folder=cut.folder).read_bytes() for address in addresses(cut)]
    assert found == [b"one", b"two"]


def test_unpacked_media_is_kept_and_cut_short_media_is_not(tmp_path: Path):
    path = zipped(tmp_path / "cut.otioz", bundled())
    open_cut(path)
    movie, frame = (tmp_path / "cut.scail2" / "media" / name for name in ("a.mov", "seq/p.1001.exr"))
    os.utime(movie, (1, 1))
    frame.write_bytes(b"o")
    open_cut(path)
    assert movie.stat().st_mtime == 1
    assert frame.read_bytes() == b"one"


def test_zip_files_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "cut.otioz"
    refused(zipped(path, None), "no content.otio")
    for name in ("../out.mov", "/out.mov", "C:\\out.mov", "media/..\\..\\out.mov"):
        refused(zipped(path, bundled(), MEMBERS | {name: b"x"}), "outside the bundle")
    whole = zipped(path, bundled()).read_bytes()
    path.write_bytes(whole[:-40])
    refused(path, "no whole zip file")
    path.write_bytes(whole.replace(b"movie", b"mowie", 1))
    refused(path, "no whole zip file")
    assert not list(tmp_path.rglob("a.mov*"))
    path.write_text("{}")
    refused(path, "is JSON")
    zipped(path, bundled())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 0))  # type: ignore[attr-defined]
    shutil.rmtree(tmp_path / "cut.scail2", ignore_errors=True)
    with pytest.raises(DiskFull, match=r"cut\.otioz"):
        open_cut(path)
    assert not (tmp_path / "cut.scail2").exists()


def test_a_broken_cut_in_a_zip_is_placed_in_the_zip(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "cut.otioz", "w") as bundle:
        bundle.writestr("content.otio", '{"OTIO_SCHEMA": ')
    assert "content.otio is cut short" in refused(tmp_path / "cut.otioz", "cut short").what


def test_an_otiod_folder(tmp_path: Path):
    bundle = tmp_path / "My #1.otiod"
    for name, content in MEMBERS.items():
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_bytes(content)
    document = bundled("./media/a.mov")
    (bundle / "content.otio").write_text(json.dumps(document))
    cut = open_cut(bundle)
    assert cut.folder == tmp_path
    movie, frames, gone = (local_path(address, folder=cut.folder) for address in addresses(cut)[:3])
    assert movie.read_bytes() == b"movie"
    assert (frames / "p.1001.exr").read_bytes() == b"one"
    assert gone == bundle / "media" / "gone.mov"
    plain = copy.deepcopy(cut.document)
    for clip, original in zip(nodes(plain), nodes(document), strict=True):
        clip["media_references"] = original["media_references"]
    assert plain == document
    (bundle / "content.otio").unlink()
    refused(bundle, "no content.otio")


def test_media_beside_a_bundle_stays_as_written(tmp_path: Path):
    document = cuts.cut(cuts.track(cuts.clip(media=cuts.movie("../plates/a.mov"))))
    assert addresses(open_cut(zipped(tmp_path / "cut.otioz", document))) == ["../plates/a.mov"]


# --------------------------------------------------------------------------- what is no cut


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cut.otio", b"", "is empty"),
        ("cut.edl", b"", "is empty"),
        ("cut.otio", b"<?xml version='1.0'?><xmeml/>", "is XML"),
        ("cut.otio", b"PK\x03\x04rest", "a zip file"),
        ("cut.otio", b"TITLE: x", "is an EDL"),
        ("cut.edl", b"\0\1\2\3" * 50, "is not text|does not begin"),
        ("cut.edl", b"TITLE: x\n001 \0 V", "not text"),
        ("cut.edl", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "AAF"),
        ("cut.edl", b"RIFF1234AVI ", "does not begin"),
        ("cut.xml", b"TITLE: x", "is an EDL"),
        ("cut.aaf", b"TITLE: x", "is an EDL"),
        ("cut.aaf", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "cannot be read"),
        ("cut.otiod", b"x", "is a file"),
        ("cut.prproj", b"\x1f\x8b", "Premiere project"),
        ("cut.DRP", b"x", "Resolve project"),
        ("cut.ale", b"Heading", "Avid log"),
        ("cut.json", b"{}", "JSON"),
        ("cut", b"x", "no kind of cut"),
    ],
)
def test_other_files_are_refused_in_words(tmp_path: Path, name: str, content: bytes, words: str):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, words)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_not_there_and_a_folder_in_its_place(tmp_path: Path, suffix: str):
    path = tmp_path / f"cut{suffix}"
    assert refused(path, "is not there").fix == "correct the path"
    path.mkdir()
    with pytest.raises(TimelineUnreadable):
        open_cut(path)


def test_an_otio_is_read_as_it_is(tmp_path: Path):
    document = bundled()
    cut = open_cut(cuts.written(document, tmp_path))
    assert (cut.document, cut.folder, cut.notes, cut.drop_frame) == (document, tmp_path, (), False)


def test_without_the_adapter_the_operator_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def absent(name: str) -> None:
        raise otio.exceptions.NotSupportedError(f"adapter not supported: {name}")

    monkeypatch.setattr(otio.adapters, "from_name", absent)
    with pytest.raises(SettingsInvalid, match="otio-cmx3600-adapter") as fault:
        open_cut(edl(tmp_path, PLAIN))
    assert "scail2-farm[nle]" in fault.value.fix


def test_a_mistyped_path_is_corrected_and_not_exported_again(tmp_path: Path):
    edl(tmp_path, PLAIN, "reel_3.edl")
    for name in ("reel3.edl", "reel_3.edll", "reel_3.otio"):
        near = "correct the path; the nearest name in its folder is reel_3.edl"
        assert refused(tmp_path / name, f"{name} is not there").fix == near
    assert refused(tmp_path / f"{'x' * 300}.edll", "is not there").fix == "correct the path"
    assert "is no folder" in refused(tmp_path / "reel_3.edl" / "a.edll", "is not there").fix
    missing = tmp_path / "cuts" / "reel_3.edl"
    assert refused(missing, "is not there").fix == f"correct the path: {missing.parent} is no folder"


def test_a_motion_effect_of_many_clips_is_told_once():
    graph = {"AAF": {"Parameters": {"PARAM_OFFSET_MAP_U": {"keyframe_values": [[0, 0], [10, 20]]}}}}
    clips = [cuts.clip(name, effects=[cuts.speed(2) | {"metadata": graph}]) for name in ("A", "B", "C")]
    document = cuts.cut(cuts.track(*clips, cuts.clip("D", effects=[cuts.speed(2)])))
    assert mark_curves(document) == ("A and 2 more: a motion effect with a graph of position: it is taken for a curve",)
    effects = [clip["effects"][0]["OTIO_SCHEMA"] for clip in nodes(document)]
    assert effects == ["TimeEffect.1"] * 3 + ["LinearTimeWarp.1"]
