"""What each condition of `when` holds of, characters named by markers, and how both go wrong."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from cuts import Node, clip, cut, gap, item, movie, sequence, span, time, track, written

from scail2_farm.documents import CharacterLibrary, Loaded, ShotManifest, load_document
from scail2_farm.editorial.cast import Casting, cast_clips
from scail2_farm.editorial.rules import Named, Names, TimecodeRange
from scail2_farm.editorial.timeline import Edit, read_edit
from scail2_farm.errors import CharacterUnknown, FarmError, SubmissionInvalid

HOUR = 86400  # frames at 24


def marker(name: str, color: str = "RED") -> Node:
    return {
        "OTIO_SCHEMA": "Marker.2",
        "metadata": {},
        "name": name,
        "color": color,
        "comment": "",
        "marked_range": span(HOUR, 1),
    }


def plain_cut() -> Node:
    """Two tracks from 01:00:00:00: A, B and C, each one second with a second between them; D above A."""
    ayon = {"ayon": {"productName": "plateMain", "frames": [1001, 1012.0], "final": True, "a.b": {"c": None}}}
    low = track(
        clip("A_010", source=span(10 * HOUR, 24), metadata=ayon, markers=[marker("CHAR:HERO"), marker("note", "BLUE")]),
        gap(24),
        clip("B_010", source=span(10 * HOUR + 100, 24), markers=[marker("Char:villain", "green")]),
        gap(24),
        clip(
            "C_010",
            source=span(12 * HOUR, 24),
            media=movie("file:///p/A099_C005_0101%20a.mov", available=span(12 * HOUR, 24)),
            metadata={"ayon.productName": "plateMain", "ayon": {"productName": "other"}},
        ),
        name="PLATES",
    )
    high = track(clip("D_010", source=span(10 * HOUR + 20, 24)), name="FX")
    return cut(low, high, start=time(HOUR))


def library(folder: Path, *ids: str) -> Loaded[CharacterLibrary]:
    path = folder / "characters.yaml"
    people = "".join(f"  {id}: {{references: [{{image: a.png}}]}}\n" for id in ids or ("hero", "villain", "Old Man"))
    path.write_text(f"schema: scail2-farm/characters@1\ncharacters:\n{people}")
    loaded, faults = load_document(path, CharacterLibrary)
    assert loaded is not None, faults
    return loaded


def cast(
    folder: Path, rules: str, *, document: Node | None = None, ids: tuple[str, ...] = ()
) -> tuple[dict[str, Casting], list[FarmError]]:
    """The castings by shot, and the faults, of `cast:` entries that start on line 4 of the manifest."""
    path = folder / "cut.shots.yaml"
    path.write_text(f"schema: scail2-farm/shot-manifest@1\ncharacters: characters.yaml\ncast:\n{rules}\n")
    manifest, faults = load_document(path, ShotManifest)
    assert manifest is not None, faults
    edit = read_edit(written(document or plain_cut(), folder))
    found = cast_clips(edit, manifest, library(folder, *ids))
    return {casting.shot: casting for casting in found.castings}, list(found.faults)


def matched(folder: Path, when: str, *, document: Node | None = None) -> str:
    """The first letters of the clips a condition holds of."""
    castings, faults = cast(folder, f"- {{when: {when}, characters: [{{id: hero}}]}}", document=document)
    assert [fault for fault in faults if "casts nobody" not in fault.what] == []
    return "".join(shot[0] for shot, casting in castings.items() if casting.rules)


def who(casting: Casting) -> dict[str, str]:
    return {member.id: member.slot for member in casting.members}


# ----------------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("when", "letters"),
    [
        ("{clip: '*'}", "ABCD"),
        ("{clip: '[AB]_*'}", "AB"),
        ("{clip: 'a_*'}", ""),
        ("{track: PLATES}", "ABC"),
        ("{track: plates}", ""),
        ("{track: 'F?'}", "D"),
        ("{marker: 'char:*'}", "AB"),
        ("{marker: 'CHAR:V*'}", "B"),
        ("{color: red}", "A"),
        ("{color: GREEN}", "B"),
        ("{marker: 'CHAR:*', color: Green}", "B"),
        ("{marker: note, color: RED}", ""),  # A has both, on two markers
        ("{marker: note, color: BLUE}", "A"),
        ("{media: '*/plates/p.####.exr'}", "ABD"),
        ("{media: 'plates/p.*'}", "ABD"),
        ("{media: 'p.####.exr'}", "ABD"),
        ("{media: 'P.*'}", ""),
        ("{media: 'file:///p/*%20a.mov'}", "C"),
        ("{media: '/p/A099_C005_*'}", "C"),
        ("{media: 'A099_C005_0101 a.mov'}", "C"),
        ("{media: '*/A099_C005_*'}", "C"),
        ("{metadata: ayon}", "AC"),
        ("{metadata: ayon.productName}", "AC"),
        ("{metadata: ayon.productName, equals: plateMain}", "AC"),
        ("{metadata: ayon.productName, equals: PlateMain}", ""),
        ("{metadata: ayon.final, equals: true}", "A"),
        ("{metadata: ayon.frames.0, equals: 1001}", "A"),
        ("{metadata: ayon.frames.1, equals: 1012}", "A"),
        ("{metadata: ayon.frames.2}", ""),
        ("{metadata: ayon.frames, equals: '[1001, 1012.0]'}", ""),
        ("{metadata: ayon.a.b.c}", "A"),
        ("{metadata: ayon.a.b.c, equals: 'null'}", "A"),
        ("{metadata: ayon.a.b.c.d}", ""),
        ("{clip: '*', track: PLATES, media: '*.mov'}", "C"),
        ("{track: PLATES, color: GREEN, clip: 'A*'}", ""),
    ],
)
def test_every_condition_given_must_hold(tmp_path: Path, when: str, letters: str):
    assert matched(tmp_path, when) == letters


@pytest.mark.parametrize(
    ("when", "letters"),
    [
        ("{record_tc: '01:00:00:00-01:00:02:00'}", "AD"),  # OUT is not included
        ("{record_tc: '01:00:00:23-01:00:02:01'}", "ABD"),
        ("{record_tc: '01:00:01:00-01:00:02:00'}", ""),
        ("{record_tc: '01:00:02:23+'}", "BC"),
        ("{record_tc: ' 01:00:03:00 + '}", "C"),
        ("{record_tc: '-01:00:00:01'}", "AD"),
        ("{record_tc: '-01:00:00:00'}", ""),
        ("{record_tc: '00:00:00:00-24:00:00:00'}", "ABCD"),
        ("{source_tc: '10:00:00:23+'}", "ABCD"),
        ("{source_tc: '10:00:01:00-10:00:04:04'}", "D"),
        ("{source_tc: '10:00:01:00 - 10:00:04:05'}", "BD"),
        ("{source_tc: '12:00:00:00+'}", "C"),
        ("{source_tc: '-10:00:00:20'}", "A"),
        ("{source_tc: '-10:00:00:21', track: FX}", "D"),
        ("{source_tc: '10:00:00:00+', record_tc: '-01:00:02:00'}", "AD"),
    ],
)
def test_a_timecode_range_holds_of_a_clip_with_any_frame_in_it(tmp_path: Path, when: str, letters: str):
    assert matched(tmp_path, when) == letters


@pytest.mark.parametrize(
    ("when", "letters"),
    [
        ("{record_tc: '01:01:00;02+'}", "B"),
        ("{record_tc: '01:00:59;29-01:01:00;02'}", "A"),
        ("{record_tc: '01:01:00;02-01:01:00;03'}", "B"),
        ("{record_tc: '01:00:59:28+'}", ""),  # without drop frame the hour is 108 frames on
        ("{source_tc: '00:00:00;00-00:00:00;01'}", "AB"),
    ],
)
def test_drop_frame_timecode(tmp_path: Path, when: str, letters: str):
    last = 107892 + 60 * 30 - 1  # 01:00:59;29
    clips = (clip(name, source=span(0, 1, 29.97), media=movie(available=span(0, 1, 29.97))) for name in "AB")
    document = cut(track(*clips), start=time(last, 29.97))
    assert matched(tmp_path, when, document=document) == letters


def test_source_timecode_counts_at_the_rate_of_the_clip(tmp_path: Path):
    media = sequence(available=span(90000, 250, 25.0))
    document = cut(track(clip("A", source=span(90000 + 24, 25, 25.0), media=media)), start=time(0))
    assert matched(tmp_path, "{source_tc: '-01:00:00:24'}", document=document) == ""
    assert matched(tmp_path, "{source_tc: '01:00:00:24-01:00:01:00'}", document=document) == "A"


def test_a_clip_under_a_retime_shows_more_of_its_source(tmp_path: Path):
    fast = item("LinearTimeWarp.1") | {"time_scalar": 3.0, "effect_name": "LinearTimeWarp"}
    media = sequence(available=span(HOUR, 100))
    document = cut(track(clip("A", source=span(HOUR, 24), media=media, effects=[fast])))
    assert matched(tmp_path, "{source_tc: '01:00:02:20+'}", document=document) == "A"
    assert matched(tmp_path, "{source_tc: '01:00:03:00+'}", document=document) == ""


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ("{record_tc: noon}", "a range is written IN-OUT, IN+ or -OUT"),
        ("{record_tc: '01:00:00:00'}", "a range is written IN-OUT, IN+ or -OUT"),
        ("{source_tc: '-'}", "a range is written IN-OUT, IN+ or -OUT"),
        ("{record_tc: '01:00:00:24+'}", "timecode 01:00:00:24 does not exist at 24 frames a second"),
        ("{record_tc: '01:61:00:00+'}", "timecode 01:61:00:00 does not exist"),
        ("{record_tc: '01:00:00;00+'}", "drop-frame timecode 01:00:00;00 does not exist at 24"),
        ("{record_tc: '01:00:00:00-01:00:00;10'}", "one of 01:00:00:00 and 01:00:00;10 is drop-frame"),
        ("{record_tc: '01:00:02:00-01:00:01:00'}", "holds no frame"),
        ("{record_tc: '01:00:02:00-01:00:02:00'}", "holds no frame"),
        ("{source_tc: '01:00:00:24+'}", "timecode 01:00:00:24 does not exist at 24 frames a second"),
    ],
)
def test_a_range_that_cannot_be_meant_is_told_once(tmp_path: Path, when: str, words: str):
    rules = f"- {{when: {{clip: 'A*'}}, characters: [{{id: hero}}]}}\n- {{when: {when}, characters: [{{id: villain}}]}}"
    castings, faults = cast(tmp_path, rules)
    (fault,) = faults
    assert isinstance(fault, SubmissionInvalid)
    assert words in fault.what
    assert fault.what.startswith("`record_tc`: " if "record" in when else "`source_tc`: ")
    assert (fault.where.file, fault.where.line) == (str(tmp_path / "cut.shots.yaml"), 5)
    assert [list(who(casting)) for casting in castings.values() if casting.members] == [["hero"]]


def test_a_source_code_is_judged_only_where_the_rule_reaches(tmp_path: Path):
    media = sequence(available=span(0, 250, 25.0))
    document = cut(
        track(
            clip("A", source=span(0, 25, 25.0), media=media),
            clip("B"),
            clip("C", enabled=False),
        )
    )
    _, faults = cast(
        tmp_path,
        "- {when: {clip: 'A', source_tc: '-00:00:00:24'}, characters: [{id: hero}]}\n"
        "- {when: {clip: 'C', source_tc: '-00:00:00:24'}, characters: [{id: hero}]}",
        document=document,
    )
    assert faults == []


def test_a_range_that_cannot_be_asked_is_noted(tmp_path: Path):
    nowhere = {"OTIO_SCHEMA": "MissingReference.1", "metadata": {}, "name": "", "available_range": None}
    document = cut(track(clip("A", media=nowhere), clip("B", source=span(HOUR, 24))))
    castings, _ = cast(
        tmp_path,
        "- {when: {clip: B, record_tc: '-24:00:00:00'}, characters: [{id: hero}]}\n"
        "- {when: {source_tc: '00:00:00:00+'}, characters: [{id: villain}]}",
        document=document,
    )
    rule = tmp_path / "cut.shots.yaml"
    assert castings["A"].notes == (
        f"`source_tc` at {rule}:5 is not asked: the edit does not say the clip's time in its media",
    )
    assert castings["B"].notes == (
        f"`record_tc` at {rule}:4 is not asked: the edit does not say the clip's place in the timeline",
    )
    assert (who(castings["A"]), list(who(castings["B"]))) == ({}, ["villain"])


def test_the_words_of_a_rule_say_what_matched(tmp_path: Path):
    castings, faults = cast(
        tmp_path,
        "- {when: {clip: 'A*', track: PLATES, marker: '*', color: RED}, characters: from-marker}\n"
        "- {when: {record_tc: '01:00:00:00+', source_tc: '10:00:00:00+'}, seed: 3}\n"
        "- {when: {media: '*.exr', clip: 'A*', metadata: ayon.final, equals: true}, skip: true, stop: true}\n"
        "- {when: {color: green}}\n"
        "- {when: {track: FX}, characters: [{id: villain}, {id: hero}], seed: 1}",
    )
    assert faults == []
    assert [says for _, says in castings["D_010"].rules][-1] == "track 'FX': villain, hero and sets seed"
    assert [says for _, says in castings["A_010"].rules] == [
        "clip 'A*', track 'PLATES', marker '*' in RED (CHAR:HERO): hero",
        "record_tc 01:00:00:00+, source_tc 10:00:00:00+: sets seed",
        "clip 'A*', media '*.exr', metadata ayon.final = 'true': skip, stop",
    ]
    assert castings["B_010"].rules[-1][1] == "marker in green (Char:villain): nothing"
    assert castings["A_010"].reason == "skipped by cut.shots.yaml:6"


# ----------------------------------------------------------------------- characters named by markers


def marked(*names: str) -> Node:
    """One clip a name, each with one marker; several names after `|` are several markers."""
    return cut(
        track(*(clip(f"S{n}", markers=[marker(one) for one in name.split("|")]) for n, name in enumerate(names)))
    )


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("CHAR:hero", ["hero"]),
        ("char : HERO", ["hero"]),
        ("SH010 CHAR:hero", ["hero"]),
        ("CHAR:hero CHAR:villain=red", ["hero", "villain=red"]),
        ("CHAR:hero,villain = RED", ["hero", "villain=red"]),
        ("CHAR: hero; CHAR: villain", ["hero", "villain"]),
        ("CHAR:hero villain", ["hero", "villain"]),
        ("CHAR:OLD MAN=blue hero", ["Old Man=blue", "hero"]),
        ("CHAR:hero CHAR:hero", ["hero"]),
        ("hero", []),
        ("CHAR:", []),
        ("CHARACTER:hero", []),
        ("XCHAR:hero", []),
    ],
)
def test_the_characters_of_a_markers_name(name: str, found: list[str]):
    named = Names(["hero", "villain", "Old Man"]).named_by(name)
    assert [one.id + (f"={one.slot}" if one.color is not None else "") for one in named] == found
    assert not any(one.wrong for one in named)


def test_ids_that_differ_in_case_must_be_written_as_they_are():
    names = Names(["Hero", "hero"])
    assert names.named_by("CHAR:hero") == (Named("hero", True, None, None),)
    assert names.named_by("CHAR:HERO") == (Named("HERO", False, None, None),)
    assert names.nearest("HERO") == ["Hero", "hero"]


def test_from_marker_casts_whom_the_matching_markers_name(tmp_path: Path):
    document = marked("CHAR:HERO|note", "CHAR:villain=RED", "note", "CHAR:hero CHAR:villain")
    castings, faults = cast(tmp_path, "- {when: {marker: 'CHAR:*'}, characters: from-marker}", document=document)
    assert faults == []
    assert [who(casting) for casting in castings.values()] == [
        {"hero": "blue"},
        {"villain": "red"},
        {},
        {"hero": "blue", "villain": "red"},
    ]
    (member,) = castings["S0"].members
    assert (member.where.file, member.where.line) == (str(tmp_path / "cut.shots.yaml"), 4)
    assert (member.matte, member.matte_from_manifest) == (None, False)
    assert castings["S3"].rules[0][1] == "marker 'CHAR:*' (CHAR:hero CHAR:villain): hero, villain"
    assert castings["S2"].state == "uncast"


def test_from_marker_without_a_marker_condition_reads_all_markers(tmp_path: Path):
    document = marked("note|CHAR:hero|CHAR:villain", "note")
    castings, faults = cast(tmp_path, "- {when: {clip: 'S*'}, characters: from-marker}", document=document)
    assert faults == []
    assert list(who(castings["S0"])) == ["hero", "villain"]
    assert (castings["S1"].state, castings["S1"].notes) == ("uncast", ())


def test_only_the_markers_the_rule_is_about_are_read(tmp_path: Path):
    spots = [marker("CHAR:hero", "RED"), marker("CHAR:villain", "BLUE")]
    castings, faults = cast(
        tmp_path,
        "- {when: {color: blue}, characters: from-marker}",
        document=cut(track(clip("S0", markers=spots))),
    )
    assert faults == []
    assert list(who(castings["S0"])) == ["villain"]


def test_a_marker_that_names_nobody_is_noted(tmp_path: Path):
    castings, _ = cast(tmp_path, "- {when: {marker: 'HERO'}, characters: from-marker}", document=marked("hero"))
    rule = tmp_path / "cut.shots.yaml"
    assert castings["S0"].notes == (f"no marker that {rule}:4 is about names a character (CHAR:id)",)


def test_an_unknown_character_in_a_marker_names_the_clip_and_the_nearest(tmp_path: Path):
    castings, faults = cast(
        tmp_path,
        "- {when: {marker: 'CHAR:*'}, characters: from-marker}",
        document=marked("CHAR:HERRO", "CHAR:HERRO", "CHAR:villain"),
    )
    (fault,) = faults
    assert isinstance(fault, CharacterUnknown)
    assert fault.what.startswith("the marker 'CHAR:HERRO' of S0 and of 1 more names HERRO")
    assert "hero" in fault.fix
    assert (fault.where.line, fault.where.clip, fault.where.character) == (4, "S0", "HERRO")
    assert castings["S0"].reason == "HERRO: not in the library"


@pytest.mark.parametrize(("name", "color"), [("CHAR:hero=purple", "purple"), ("CHAR:hero=", "")])
def test_an_unknown_colour_in_a_marker_is_a_fault(tmp_path: Path, name: str, color: str):
    _, faults = cast(tmp_path, "- {when: {clip: '*'}, characters: from-marker}", document=marked(name))
    (fault,) = faults
    assert isinstance(fault, SubmissionInvalid)
    assert fault.what == f"the marker '{name}' of S0 gives hero the colour '{color}', which is none of the model's"
    assert "blue, red, green, magenta, cyan, yellow" in fault.fix


@pytest.mark.parametrize(
    ("rules", "names", "what"),
    [
        (
            "- {when: {clip: '*'}, characters: from-marker}",
            ("CHAR:hero=red", "CHAR:hero=cyan"),
            "hero is cyan by the marker 'CHAR:hero=cyan' of S1, and red by the marker 'CHAR:hero=red' of S0",
        ),
        (
            "- {when: {clip: '*'}, characters: from-marker}",
            ("CHAR:hero=red CHAR:hero=cyan",),
            "hero is cyan by the marker 'CHAR:hero=red CHAR:hero=cyan' of S0, and red by the marker ",
        ),
        (
            "- {when: {clip: S0}, characters: [{id: hero, slot: blue}]}\n- {when: {clip: S0}, characters: from-marker}",
            ("CHAR:hero=red",),
            "hero is red by the marker 'CHAR:hero=red' of S0, and blue at ",
        ),
    ],
)
def test_two_colours_for_a_character_of_the_show(tmp_path: Path, rules: str, names: tuple[str, ...], what: str):
    _, faults = cast(tmp_path, rules, document=marked(*names))
    (fault,) = faults
    assert isinstance(fault, SubmissionInvalid)
    assert fault.what.startswith(what)
    assert (fault.where.line, fault.where.character) == (3 + rules.count("\n") + 1, "hero")


def test_a_marker_of_a_clip_that_is_not_rendered_is_no_fault(tmp_path: Path):
    document = cut(track(clip("A", markers=[marker("CHAR:herro=purple")], enabled=False), clip("B")))
    _, faults = cast(
        tmp_path,
        "- {when: {clip: A}, characters: from-marker}\n- {when: {clip: B}, characters: [{id: hero}]}",
        document=document,
    )
    assert faults == []


def test_what_a_character_named_by_a_marker_asks_for_is_refused(tmp_path: Path):
    path = tmp_path / "characters.yaml"
    path.write_text(
        "schema: scail2-farm/characters@1\ncharacters:\n"
        "  hero: {references: [{image: a.png}], loras: [{path: l.safetensors}], matte: {auto: people}}\n"
    )
    people, _ = load_document(path, CharacterLibrary)
    manifest_path = tmp_path / "m.yaml"
    manifest_path.write_text(
        "schema: scail2-farm/shot-manifest@1\ncharacters: characters.yaml\n"
        "cast: [{when: {clip: '*'}, characters: from-marker}]\n"
    )
    manifest, _ = load_document(manifest_path, ShotManifest)
    faults = cast_clips(read_edit(written(marked("CHAR:hero"), tmp_path)), manifest, people).faults
    assert [fault.what.partition("not ")[2] for fault in faults] == [
        "read `auto` mattes yet",
    ]
    assert {fault.where.line for fault in faults} == {3}


# ----------------------------------------------------------------------- timecode ranges by themselves


def test_an_edit_in_drop_frame_is_counted_so_with_colons_too():
    rate = Fraction(30000, 1001)
    codes = TimecodeRange.read("01:00:00:00-01:00:01:00")
    assert codes.frames(rate, drop=False) == (108000, 108030)
    assert codes.frames(rate, drop=True) == (107892, 107922)
    assert TimecodeRange.read("01:00:00;00+").frames(rate, drop=False) == (107892, None)
    with pytest.raises(ValueError, match="drop-frame timecode 01:01:00;00 does not exist"):
        TimecodeRange.read("01:01:00:00+").frames(rate, drop=True)


def test_the_record_range_of_a_drop_frame_edit_is_read_as_drop_frame(tmp_path: Path):
    document = cut(
        track(clip("A", source=span(0, 30, 29.97), media=movie(available=span(0, 30, 29.97)))),
        start=time(107892, 29.97),
    )
    path = tmp_path / "m.yaml"
    path.write_text(
        "schema: scail2-farm/shot-manifest@1\ncharacters: characters.yaml\n"
        "cast: [{when: {record_tc: '01:00:00:00+'}, characters: [{id: hero}]}]\n"
    )
    manifest, _ = load_document(path, ShotManifest)
    edit: Edit = read_edit(written(document, tmp_path))
    for drop, states in ((False, ["uncast"]), (True, ["rendered"])):
        found = cast_clips(replace(edit, drop_frame=drop), manifest, library(tmp_path))
        assert [casting.state for casting in found.castings] == states
