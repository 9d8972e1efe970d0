"""Who plays whom: rules, overrides, colours, and every refusal with its file and line."""

from pathlib import Path

import pytest
from cuts import clip, cut, span, track, written

from scail2_farm.documents import CharacterLibrary, Loaded, ShotManifest, load_document
from scail2_farm.editorial.cast import Casting, cast_clips
from scail2_farm.editorial.timeline import Edit, read_edit
from scail2_farm.errors import CharacterUnknown, FarmError, SubmissionInvalid

NAMES = ("AGM_010", "AGM_020", "AGM_030_NOFX", "BTY_010")
CAST = "cast: [{when: {clip: '*'}, characters: [{id: hero}]}]"


def library(tmp_path: Path, *ids: str, **more: str) -> Loaded[CharacterLibrary]:
    lines = ["schema: scail2-farm/characters@1", "characters:"]
    for id in ids or ("hero", "villain", "extra"):
        said = more.get(id, "references: [{image: a.png}], matte: {sequence: 'm/{shot}_{character}.####.png'}")
        lines.append(f"  {id}: {{{said}}}")
    path = tmp_path / "characters.yaml"
    path.write_text("\n".join(lines))
    loaded, faults = load_document(path, CharacterLibrary)
    assert loaded is not None, faults
    return loaded


def manifest(tmp_path: Path, text: str) -> Loaded[ShotManifest]:
    path = tmp_path / "cut.shots.yaml"
    path.write_text(f"schema: scail2-farm/shot-manifest@1\ncharacters: characters.yaml\n{text}\n")
    loaded, faults = load_document(path, ShotManifest)
    assert loaded is not None, faults
    return loaded


def edit(tmp_path: Path, *names: str) -> Edit:
    clips = [clip(name, source=span(86400 + n, 10)) for n, name in enumerate(names or NAMES)]
    return read_edit(written(cut(track(*clips)), tmp_path))


def cast(tmp_path: Path, text: str, *ids: str, **more: str) -> tuple[dict[str, Casting], list[FarmError]]:
    found = cast_clips(edit(tmp_path), manifest(tmp_path, text), library(tmp_path, *ids, **more))
    return {casting.shot: casting for casting in found.castings}, list(found.faults)


def good(tmp_path: Path, text: str, *ids: str, **more: str) -> dict[str, Casting]:
    castings, faults = cast(tmp_path, text, *ids, **more)
    assert faults == []
    return castings


def who(casting: Casting) -> dict[str, str]:
    return {member.id: member.slot for member in casting.members}


# ----------------------------------------------------------------------- rules


def test_rules_add_up_and_the_first_wins_per_character(tmp_path: Path):
    found = good(
        tmp_path,
        "cast:\n"
        "- {when: {clip: 'AGM_*'}, characters: [{id: hero, matte: {sequence: 'own.####.png'}}]}\n"
        "- {when: {clip: '*_010'}, characters: [{id: hero}, {id: villain}]}",
    )
    first = found["AGM_010"]
    assert who(first) == {"hero": "blue", "villain": "red"}
    assert first.members[0].matte is not None
    assert first.members[0].matte.sequence == "own.####.png"
    assert [member.matte_from_manifest for member in first.members] == [True, False]
    assert [(where.line, says) for where, says in first.rules] == [
        (4, "clip 'AGM_*': hero"),
        (5, "clip '*_010': hero, villain"),
    ]
    assert who(found["BTY_010"]) == {"hero": "blue", "villain": "red"}
    assert [found[name].state for name in ("AGM_010", "AGM_020", "AGM_030_NOFX", "BTY_010")] == ["rendered"] * 4


def test_globs_heed_case_and_a_clip_no_rule_matches_is_uncast(tmp_path: Path):
    found = good(tmp_path, "cast: [{when: {clip: 'AGM_010'}, characters: [{id: hero}]}, {when: {clip: 'bty*'}}]")
    assert found["BTY_010"].state == "uncast"
    assert found["BTY_010"].reason == "no rule matches it"


def test_a_rule_that_names_nobody_leaves_the_clip_uncast(tmp_path: Path):
    found = good(tmp_path, "cast: [{when: {clip: '*'}, seed: 3}, {when: {clip: 'AGM_010'}, characters: [{id: hero}]}]")
    assert found["AGM_010"].settings.seed == 3
    assert found["BTY_010"].reason == "the rules that match name no character"


def test_skip_and_stop(tmp_path: Path):
    found = good(
        tmp_path,
        "cast:\n"
        "- {when: {clip: '*_NOFX'}, skip: true}\n"
        "- {when: {clip: 'AGM_*'}, characters: [{id: hero}], stop: true}\n"
        "- {when: {clip: '*'}, characters: [{id: villain}], skip: false}",
    )
    assert found["AGM_030_NOFX"].state == "skipped"
    assert "cut.shots.yaml:4" in found["AGM_030_NOFX"].reason
    assert list(who(found["AGM_010"])) == ["hero"]
    assert list(who(found["BTY_010"])) == ["villain"]


def test_a_clip_that_is_not_in_the_cut_is_skipped_with_its_reason(tmp_path: Path):
    path = written(cut(track(clip("A", enabled=False), clip("B"))), tmp_path)
    found = cast_clips(read_edit(path), manifest(tmp_path, CAST), library(tmp_path))
    assert found.faults == ()
    assert (found.castings[0].state, found.castings[0].reason) == ("skipped", "the clip is disabled")


def test_settings_run_from_defaults_over_rules_to_the_shot(tmp_path: Path):
    found = good(
        tmp_path,
        "defaults: {seed: 1, prompt: street, prompt_append: dusk, preset: fast}\n"
        "cast:\n"
        "- {when: {clip: 'AGM_*'}, characters: [{id: hero}], seed: 2, prompt_append: rain}\n"
        "- {when: {clip: '*'}, characters: [{id: hero}], seed: 3, steps: 9}\n"
        "shots: [{id: AGM_010, seed: 4, prompt_append: fog}]",
    )
    settings = found["AGM_010"].settings
    assert (settings.seed, settings.steps, settings.prompt, settings.preset) == (4, 9, "street", "fast")
    assert settings.prompt_append == "dusk, rain, fog"
    assert found["AGM_020"].settings.seed == 2
    assert found["BTY_010"].settings.seed == 3


def test_a_characters_own_settings_lie_between_the_defaults_and_the_rules(tmp_path: Path):
    found = good(
        tmp_path,
        "defaults: {seed: 1, steps: 8, preset: fast, size: 640x352}\n"
        "cast:\n"
        "- {when: {clip: 'AGM_010'}, characters: [{id: hero}], steps: 9}\n"
        "- {when: {clip: '*'}, characters: [{id: hero}]}\n"
        "shots: [{id: BTY_010, seed: 5}]",
        hero="references: [{image: a.png}], prompt: a man, seed: 3, steps: 30, mode: animation, negative_prompt: blur",
    )
    first = found["AGM_010"].settings
    assert (first.seed, first.steps, first.mode, first.preset, first.size) == (3, 9, "animation", "fast", (640, 352))
    assert (first.prompt, first.negative_prompt) == (None, "blur")
    assert found["AGM_020"].settings.steps == 30
    assert (found["BTY_010"].settings.seed, found["BTY_010"].settings.steps) == (5, 30)
    assert all(casting.notes == () for casting in found.values())


def test_of_two_characters_the_first_cast_is_believed_and_a_note_names_both(tmp_path: Path):
    found = good(
        tmp_path,
        "cast:\n"
        "- {when: {clip: 'BTY*'}, seed: 7}\n"
        "- {when: {clip: '*'}, characters: [{id: villain}, {id: hero}, {id: extra}]}\n",
        hero="references: [{image: a.png}], seed: 3, mode: animation",
        villain="references: [{image: a.png}], seed: 9, mode: animation",
    )
    assert found["AGM_010"].settings.seed == 9
    assert found["AGM_010"].notes == ("villain, hero ask for different `seed`: villain is cast first, and is believed",)
    assert (found["BTY_010"].settings.seed, found["BTY_010"].notes) == (7, ())


def test_rules_that_match_no_clip_are_told(tmp_path: Path):
    loaded = manifest(
        tmp_path,
        "cast:\n"
        "- {when: {clip: 'AGM_*'}, characters: [{id: hero}], stop: true}\n"
        "- {when: {clip: 'AGM_010'}, characters: [{id: villain}]}\n"
        "- {when: {clip: 'BTY*'}, seed: 1}\n"
        "- {when: {clip: 'bty*'}, seed: 1}",
    )
    found = cast_clips(edit(tmp_path), loaded, library(tmp_path))
    assert found.faults == ()
    assert [[where.line for where, _ in casting.rules] for casting in found.castings] == [[4], [4], [4], [6]]
    path = tmp_path / "cut.shots.yaml"
    assert found.notes == (
        f"the rule at {path}:5 matches no clip",
        f"the rule at {path}:7 matches no clip: 'bty*' differs from BTY_010 only in upper and lower case",
    )


# ----------------------------------------------------------------------- shots entries


def test_a_shots_entry_outranks_the_rules(tmp_path: Path):
    found = good(
        tmp_path,
        "cast: [{when: {clip: 'AGM*'}, characters: [{id: hero}]}, {when: {clip: '*_NOFX'}, skip: true}]\n"
        "shots:\n"
        "- {id: AGM_010, characters: [{id: villain, slot: cyan}]}\n"
        "- {id: AGM_020, skip: true}\n"
        "- {id: AGM_030_NOFX, characters: [{id: hero}]}",
    )
    assert who(found["AGM_010"]) == {"villain": "cyan"}
    assert found["AGM_010"].override is not None
    assert found["AGM_020"].state == "skipped"
    assert found["AGM_030_NOFX"].state == "rendered"
    assert found["AGM_010"].rules[-1][1] == "shot AGM_010"


def test_a_shots_entry_finds_clips_by_id_and_by_name(tmp_path: Path):
    path = written(cut(track(clip("two words"), clip("two words", source=span(86400, 5)))), tmp_path)
    both = read_edit(path)
    text = "shots: [{id: two words, characters: [{id: hero}]}, {id: two_words, characters: [{id: villain}]}]"
    found = cast_clips(both, manifest(tmp_path, text), library(tmp_path))
    assert found.faults == ()
    assert [list(who(casting)) for casting in found.castings] == [["villain"], ["hero"]]


def test_explicit_shots_need_no_edit(tmp_path: Path):
    text = "shots: [{id: X_010, media: 'p.[1001-1050].exr', range: [1005, 1010], characters: [{id: hero}]}]"
    cast_ = cast_clips(None, manifest(tmp_path, text), library(tmp_path))
    assert cast_.faults == ()
    (found,) = cast_.castings
    assert (found.shot, found.state, found.clip) == ("X_010", "rendered", None)
    assert found.override is not None
    assert found.override.range == (1005, 1010)


def test_segments_of_a_shots_entry_go_through_and_overlaps_are_told(tmp_path: Path):
    found = good(
        tmp_path,
        f"{CAST}\n"
        "shots:\n"
        "- id: AGM_010\n"
        "  segments: [{frames: [1, 9], seed: 1}, {frames: [10, 19], seed: 2}, {frames: [5, 12], seed: 3}]\n"
        "- {id: X, media: a.mov, characters: [{id: hero}], segments: [{frames: [0, 0], prompt: rain}]}",
    )
    assert [(entry.frames, entry.seed) for entry in found["AGM_010"].segments] == [
        ((1, 9), 1),
        ((10, 19), 2),
        ((5, 12), 3),
    ]
    assert found["AGM_010"].notes == (
        "`segments` [1, 9] and [5, 12] both hold frames 5-9: the first is believed",
        "`segments` [10, 19] and [5, 12] both hold frames 10-12: the first is believed",
    )
    assert [entry.prompt for entry in found["X"].segments] == ["rain"]
    assert found["AGM_020"].segments == found["X"].notes == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("shots: [{id: AGM_01O}]", "no clip of the edit is called AGM_01O"),
        ("shots: [{id: AGM_010}, {id: AGM_010}]", "given twice"),
        ("shots: [{id: AGM_010, media: a.mov}]", "is a clip of the edit and has media of its own"),
        ("shots: [{id: agm_010, media: a.mov}]", "only in upper and lower case"),
        ("shots: [{id: AGM_010, range: [1, 2]}]", "`range` belongs to shots with `media`"),
        ("shots: [{id: X, media: a.mov, range: [9, 2]}]", "ends before it begins"),
        ("shots: [{id: '../x', media: a.mov}]", "cannot name a folder"),
        ("rate: 25", "the manifest says 25 frames a second, the edit 24"),
    ],
)
def test_entries_that_cannot_be_meant(tmp_path: Path, text: str, words: str):
    _, faults = cast(tmp_path, f"{CAST}\n{text}")
    (fault,) = faults
    assert isinstance(fault, SubmissionInvalid)
    assert words in fault.what
    assert fault.where.line == 4


def test_a_shot_without_media_and_without_an_edit(tmp_path: Path):
    found = cast_clips(None, manifest(tmp_path, "shots: [{id: X, characters: [{id: hero}]}]"), library(tmp_path))
    assert "there is no timeline to find it in" in found.faults[0].what


def test_the_nearest_clips_are_named(tmp_path: Path):
    _, faults = cast(tmp_path, f"{CAST}\nshots: [{{id: AGM_01}}]")
    assert "AGM_010" in faults[0].fix


# ----------------------------------------------------------------------- refusals by name


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (CAST + "\nretime: bake", "`retime: bake`"),
        (CAST + "\nnumbering: '1001'", "`numbering: 1001`"),
        ("cast: [{when: {clip: '*'}, characters: [{id: hero, matte: {auto: yes}}]}]", "`auto` mattes"),
    ],
)
def test_what_this_version_does_not_do_is_refused_by_name(tmp_path: Path, text: str, word: str):
    _, faults = cast(tmp_path, text)
    (fault,) = faults
    assert isinstance(fault, SubmissionInvalid)
    assert "this version does not" in fault.what
    assert word in fault.what
    assert str(fault.where.file).endswith("cut.shots.yaml")
    assert fault.where.line in (3, 4)


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (
            "references: [{image: a.png}], matte: {color_id: {path: 'i.####.exr', color: '#0000ff'}}",
            "`color_id` mattes",
        ),
        (
            "references: [{image: a.png}], matte: {cryptomatte: {path: c.exr, layer: l, names: [n]}}",
            "`cryptomatte` mattes",
        ),
    ],
)
def test_what_a_character_asks_for_is_refused_only_when_he_is_cast(tmp_path: Path, said: str, word: str):
    _, faults = cast(tmp_path, CAST, "hero", "villain", hero=said)
    (fault,) = faults
    assert word in fault.what
    assert str(fault.where.file).endswith("characters.yaml")
    assert fault.where.line == 3
    assert good(tmp_path, CAST, "hero", "villain", villain=said)


def test_a_matte_in_the_rule_stands_for_the_characters_own(tmp_path: Path):
    said = "references: [{image: a.png}], matte: {auto: people}"
    text = "cast: [{when: {clip: '*'}, characters: [{id: hero, matte: {sequence: 'm.####.png'}}]}]"
    assert good(tmp_path, text, "hero", hero=said)


def test_an_unknown_character_lists_the_nearest(tmp_path: Path):
    castings, faults = cast(tmp_path, "cast:\n- {when: {clip: '*'}, characters: [{id: herro}, {id: villain}]}")
    (fault,) = faults
    assert isinstance(fault, CharacterUnknown)
    assert "hero" in fault.fix
    assert (fault.where.line, fault.where.character) == (4, "herro")
    assert castings["AGM_010"].members[0].where.line == 4
    assert list(who(castings["AGM_010"])) == ["villain"]


def test_a_manifest_that_casts_nobody_is_one_fault(tmp_path: Path):
    _, faults = cast(tmp_path, "cast: [{when: {clip: 'ZZZ*'}, characters: [{id: hero}]}]")
    (fault,) = faults
    assert "casts nobody" in fault.what


def test_every_fault_is_gathered(tmp_path: Path):
    text = (
        "retime: bake\n"
        "cast:\n"
        "- {when: {record_tc: noon}, characters: [{id: hero}]}\n"
        "- {when: {clip: '*'}, characters: [{id: nobody}, {id: hero, slot: red}, {id: villain, slot: red}]}\n"
        "shots: [{id: NONE}]"
    )
    _, faults = cast(tmp_path, text)
    assert len([fault for fault in faults if "both have red" in fault.what]) == len(NAMES)
    assert len([fault for fault in faults if "both have red" not in fault.what]) == 4


# ----------------------------------------------------------------------- colours

SEVEN = ("a", "b", "c", "d", "e", "f", "g")


def test_colours_belong_to_characters_in_library_order(tmp_path: Path):
    found = good(
        tmp_path,
        "cast:\n"
        "- {when: {clip: 'AGM*'}, characters: [{id: extra}]}\n"
        "- {when: {clip: 'BTY*'}, characters: [{id: villain}]}",
    )
    assert who(found["AGM_010"]) == {"extra": "green"}
    assert who(found["BTY_010"]) == {"villain": "red"}


def test_a_colour_that_is_said_is_kept_and_left_to_its_owner(tmp_path: Path):
    said = "references: [{image: a.png}], slot: blue"
    found = good(
        tmp_path,
        "cast: [{when: {clip: '*'}, characters: [{id: extra, slot: red}, {id: hero}, {id: villain}]}]",
        villain=said,
    )
    assert who(found["AGM_010"]) == {"extra": "red", "hero": "green", "villain": "blue"}


def test_a_colour_said_for_one_shot_is_the_shows(tmp_path: Path):
    found = good(
        tmp_path,
        "cast: [{when: {clip: '*'}, characters: [{id: hero}]}]\n"
        "shots: [{id: AGM_020, characters: [{id: hero, slot: yellow}]}]",
        hero="references: [{image: a.png}], slot: red",
    )
    assert {who(casting)["hero"] for casting in found.values()} == {"yellow"}


def test_a_second_colour_for_a_character_is_a_fault_with_both_places(tmp_path: Path):
    castings, faults = cast(
        tmp_path,
        "cast:\n"
        "- {when: {clip: 'AGM*'}, characters: [{id: hero, slot: red}]}\n"
        "- {when: {clip: 'BTY*'}, characters: [{id: hero, slot: red}]}\n"
        "shots: [{id: AGM_020, characters: [{id: hero, slot: yellow}]}]",
    )
    (fault,) = faults
    assert isinstance(fault, SubmissionInvalid)
    assert fault.what == f"hero is yellow here, and red at {tmp_path / 'cut.shots.yaml'}:4"
    assert (fault.where.line, fault.where.character) == (6, "hero")
    assert {who(casting)["hero"] for casting in castings.values()} == {"red"}


def test_two_of_one_library_colour_who_meet_are_told_apart_in_the_manifest(tmp_path: Path):
    said = "references: [{image: a.png}], slot: red"
    text = "cast: [{when: {clip: 'BTY*'}, characters: [{id: hero}, {id: villain}]}]"
    _, faults = cast(tmp_path, text, hero=said, villain=said)
    (fault,) = faults
    assert (fault.what, fault.where.shot) == ("hero and villain both have red", "BTY_010")
    found = good(tmp_path, text.replace("{id: villain}", "{id: villain, slot: cyan}"), hero=said, villain=said)
    assert who(found["BTY_010"]) == {"hero": "red", "villain": "cyan"}


def test_two_who_ask_for_one_colour_in_a_shot(tmp_path: Path):
    _, faults = cast(
        tmp_path, "cast: [{when: {clip: 'BTY*'}, characters: [{id: hero, slot: red}, {id: villain, slot: red}]}]"
    )
    (fault,) = faults
    assert (fault.what, fault.where.shot) == ("hero and villain both have red", "BTY_010")
    assert "free here: blue, green" in fault.fix


def test_a_seventh_of_the_show_shares_a_colour_with_one_he_never_meets(tmp_path: Path):
    found = good(
        tmp_path,
        "cast: [{when: {clip: 'AGM*'}, characters: [{id: a}, {id: g}]}, {when: {clip: 'BTY*'}, characters: [{id: b}]}]",
        *SEVEN,
    )
    assert who(found["AGM_010"]) == {"a": "blue", "g": "red"}
    assert who(found["BTY_010"]) == {"b": "red"}


def test_a_seventh_in_a_shot_is_named(tmp_path: Path):
    members = ", ".join(f"{{id: {id}}}" for id in SEVEN)
    _, faults = cast(tmp_path, f"cast: [{{when: {{clip: 'BTY*'}}, characters: [{members}]}}]", *SEVEN)
    (fault,) = faults
    assert (fault.what, fault.where.shot) == ("of 7 characters g is the seventh", "BTY_010")
    assert fault.where.character == "g"


# ----------------------------------------------------------------------- without documents


def test_without_a_manifest_or_a_library_every_clip_is_listed(tmp_path: Path):
    cut_ = edit(tmp_path)
    found = cast_clips(cut_, None, None)
    assert found.faults == found.notes == ()
    assert {casting.state for casting in found.castings} == {"uncast"}
    found = cast_clips(cut_, manifest(tmp_path, CAST), None)
    assert found.castings[0].reason == "the character library cannot be read"
