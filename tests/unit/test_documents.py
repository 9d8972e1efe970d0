import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from scail2_farm.documents import (
    CharacterLibrary,
    Fault,
    Moment,
    ShotManifest,
    document_text,
    load_document,
    read_document,
    write_text,
)
from scail2_farm.errors import PlateMissing, StorageError, SubmissionInvalid, Where

MANIFEST = """\
schema: scail2-farm/shot-manifest@1
characters: library.yaml
rate: 23.976
path_map: [{from: 'P:\\show', to: /mnt/show}]
defaults: {mode: replacement, size: 832x480, seed: 3}
cast:
  - {when: {clip: 'A*'}, characters: [{id: hero, matte: {sequence: 'm.####.png'}}]}
  - when: {record_tc: 01:02:03:04-01:02:05:00}
    characters: from-marker
"""


def load(tmp_path: Path, text: str, name: str = "m.yaml", model: type[Any] = ShotManifest):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return load_document(path, model)


def test_a_manifest_knows_its_lines(tmp_path):
    loaded, faults = load(tmp_path, MANIFEST)
    assert faults == []
    assert loaded is not None
    assert loaded.document.defaults.size == (832, 480)
    assert loaded.document.cast[1].when.record_tc == "01:02:03:04-01:02:05:00"
    assert loaded.where("cast", 1, "when", "clip").line == 8
    assert loaded.where("cast", 0, "characters", 0).line == 7


@pytest.mark.parametrize(
    ("line", "said", "fix", "at"),
    [
        ("handels: {head: 2}", "unknown key `handels`", "did you mean `handles`?", 10),
        ("defaults: {sede: 1}", "the key `defaults` is given twice", "keep one of the two", 10),
        ("tracks: {inclde: ['V*']}", "unknown key `inclde`", "did you mean `include`?", 10),
        ("handles: {head: -1}", "this must be 0 or more (got '-1')", "schema", 10),
        ("handles: {head: 2000}", "this must be 1000 or less (got '2000')", "schema", 10),
        ("handles: {head: }", "this must be a whole number (got nothing)", "schema", 10),
        ("shots: [{id: a, range: [1, x]}]", "this must be a whole number (got 'x')", "schema", 10),
        ("shots: [{id: a, range: [1]}]", "this list has too few entries", "add what is missing", 10),
        ("shots: [{id: a, range: [1, 2, 3]}]", "this must not have more than 2 entries", "schema", 10),
        ("shots: [{id: a, shift: 0}]", "this must be more than 0", "schema", 10),
        ("shots: [{id: a, guidance: high}]", "this must be a number (got 'high')", "schema", 10),
        ("shots: [{id: a, skip: perhaps}]", "this must be true or false (got 'perhaps')", "schema", 10),
        ("shots: [{id: ''}]", "this must not be empty", "schema", 10),
        (
            "shots: [{id: a, characters: [{id: b, matte: {color_id: {path: p, color: red}}}]}]",
            "a colour is written #rrggbb",
            "schema",
            10,
        ),
        ("shots: [{id: a, preset: qualty}]", "'paper' (got 'qualty')", "did you mean `quality`?", 10),
        ("shots: [{id: a, mode: Replacment}]", "this must be 'replacement' or", "did you mean `replacement`?", 10),
        ("numbering: 1002", "this must be 'plate' or '1001'", "did you mean `1001`?", 10),
        ("numbering: frames", "this must be 'plate' or '1001'", "schema", 10),
    ],
)
def test_faults_say_where_and_what(tmp_path, line, said, fix, at):
    _, faults = load(tmp_path, MANIFEST + line + "\n")
    assert len(faults) == 1
    assert said in faults[0].what
    assert fix in faults[0].fix
    assert faults[0].where.line == at
    assert faults[0].code == "SF-SUBMISSION-INVALID"


WHOLE = """\
schema: scail2-farm/shot-manifest@1
characters: library.yaml
missing: hold
strict: true
include_disabled: true
media:
  prefer: ['*_plate']
  search: [plates]
tracks:
  include: ['V*']
  exclude: []
cast:
  - when:
      clip: '*'
      track: 'V*'
      marker: 'CHAR:*'
      color: RED
      record_tc: 01:00:00:00+
      source_tc: -01:00:00:00
      media: '*.exr'
      metadata: a.b
      equals: c
    characters:
      - id: hero
        slot: blue
        matte:
          sequence: m.####.png
    prompt_append: rain
    segment:
      length: 81
      overlap: 5
    skip: false
    stop: false
shots:
  - id: A
    media: p.####.exr
    range: [1, 9]
    segments:
      - frames: [1, 5]
        prompt: dusk
        negative_prompt: blur
        guidance: 5
        preset: fast
        size: 832x480
        solver: unipc
        steps: 8
        seed: 1
        mode: replacement
        shift: 3
"""
PEOPLE = """\
schema: scail2-farm/characters@1
characters:
  hero:
    references:
      - image: a.png
        mask: m.png
        primary: true
        view: front
    loras:
      - path: l.safetensors
        strength: 0.5
    matte:
      cryptomatte:
        path: c.exr
        layer: l
        names: [hero]
    mode: animation
    preset: fast
    negative_prompt: blur
    seed: 3
    size: 832x480
    solver: euler
    steps: 8
    shift: 3
    guidance: 5
    consent: MS-1
"""


@pytest.mark.parametrize(
    ("text", "model", "number"),
    [
        pytest.param(text, model, number, id=f"{model.__name__}-{number}-{line.strip(' -').partition(':')[0]}")
        for text, model in ((WHOLE, ShotManifest), (PEOPLE, CharacterLibrary))
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() != "hero:"
    ],
)
def test_a_typo_in_any_key_names_the_key_and_its_line(tmp_path, text: str, model: type[Any], number: int):
    lines = text.splitlines()
    key = lines[number - 1].strip(" -").partition(":")[0]
    typo = f"{key[:-1]}j{key[-1]}"
    lines[number - 1] = lines[number - 1].replace(key, typo, 1)
    _, faults = load(tmp_path, "\n".join(lines), model=model)
    (fault,) = [fault for fault in faults if fault.what == f"unknown key `{typo}`"]
    assert fault.fix == f"did you mean `{key}`?"
    assert (fault.where.file, fault.where.line) == (str(tmp_path / "m.yaml"), number)


@pytest.mark.parametrize(("text", "model"), [(WHOLE, ShotManifest), (PEOPLE, CharacterLibrary)])
def test_what_the_typos_are_made_in_has_no_fault(tmp_path, text: str, model: type[Any]):
    loaded, faults = load(tmp_path, text, model=model)
    assert faults == []
    assert loaded is not None


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        (WHOLE.replace("[1, 5]", "[5, 1]"), "the frames are written [first, last], both included", 39),
        (WHOLE.replace("      - frames: [1, 5]\n        prompt", "      - prompt"), "the key `frames` is missing", 39),
        (WHOLE.replace("missing: hold", "missing: grey"), "'error', 'hold' or 'black'", 3),
        (WHOLE.replace("      metadata: a.b\n", ""), "`equals` compares a `metadata` key, and none is named", 13),
        (
            PEOPLE.replace("view: front", "view: x\n      - {image: b.png, primary: true}"),
            "one reference is the primary",
            3,
        ),
    ],
)
def test_new_keys_that_cannot_be_meant(tmp_path, text: str, what: str, line: int):
    _, faults = load(tmp_path, text, model=CharacterLibrary if "characters@1" in text else ShotManifest)
    (fault,) = faults
    assert what in fault.what
    assert fault.where.line == line


def test_unknown_keys_alone_do_not_hide_the_rest(tmp_path):
    text = MANIFEST.replace("clip: 'A*'", "clip: 'A*', clyp: x") + "handels: {head: 2}\n"
    loaded, faults = load(tmp_path, text)
    assert [fault.what for fault in faults] == ["unknown key `clyp`", "unknown key `handels`"]
    assert loaded is not None
    assert loaded.document.cast[0].when.clip == "A*"
    assert loaded.document.handles.head == 8


def test_all_faults_at_once(tmp_path):
    _, faults = load(tmp_path, MANIFEST.replace("mode: replacement", "mode: replace") + "a: 1\nb: 2\n")
    assert len(faults) == 3


def test_one_fault_inside_a_rule_is_told_once(tmp_path):
    _, faults = load(tmp_path, MANIFEST.replace("sequence: 'm.####.png'", "sequence: m, auto: sam"))
    assert [fault.what for fault in faults] == [
        "a matte has exactly one of sequence, color_id, cryptomatte, whole_frame, auto"
    ]
    assert faults[0].where.line == 7


@pytest.mark.parametrize(
    "text", ["", "[]", "- a\n", "schema: other@1\ncharacters: x\n", "a: [", "\tx: 1", "schema: \x00"]
)
def test_other_files_are_refused_in_words(tmp_path, text):
    loaded, faults = load(tmp_path, text)
    assert loaded is None
    assert faults
    assert all(isinstance(fault, SubmissionInvalid) for fault in faults)


def test_json_is_the_same_document(tmp_path):
    hero = '{"ev\\ud83d\\ude00\\/": {"references": [{"image": "a.png"}]}}'
    text = f'{{"schema":\t"scail2-farm/characters@1", "characters": {hero}}}'
    loaded, faults = load(tmp_path, text, "c.json", CharacterLibrary)
    assert faults == []
    assert loaded is not None
    assert list(loaded.document.characters) == ["ev\U0001f600/"]
    _, faults = load(tmp_path, '{\n "schema": 1,\n', "c.json", CharacterLibrary)
    assert faults[0].where.line in (2, 3)


def test_what_is_written_is_read(tmp_path):
    loaded, _ = load(tmp_path, MANIFEST)
    assert loaded is not None
    path = tmp_path / "out.json"
    write_text(path, document_text(loaded.document))
    again, faults = load_document(path, ShotManifest)
    assert faults == []
    assert again is not None
    assert again.document == loaded.document
    assert list(tmp_path.glob("*.part")) == []
    assert read_document(path, ShotManifest) == loaded.document


def test_a_document_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"schema": "scail2-farm/take@1"}))
    with pytest.raises(SubmissionInvalid, match="not a"):
        read_document(path, ShotManifest)


def test_writing_where_nothing_can_be_written(tmp_path):
    with pytest.raises(StorageError):
        write_text(tmp_path / "none" / "x.json", "{}")


def test_a_moment_is_as_the_cut_has_it():
    """Rates of documents people write are read tolerantly; a time of the cut goes back into the cut as it came."""
    written = Moment(value=Fraction(172803, 2), rate=Fraction("23.976024627685547"))
    assert Moment.model_validate_json(written.model_dump_json()) == written
    assert written.rate != Fraction(24000, 1001)


@pytest.mark.parametrize(
    ("half", "told"), [("\udce9", "\\xe9"), ("\ud83d", "\\ud83d"), ("\U0001f3ac é", "\U0001f3ac é")]
)
def test_a_fault_is_text_whatever_a_file_is_called(half, told):
    error = PlateMissing(f"caf{half}.exr is gone", fix=f"find {half}", where=Where(file=f"/a/caf{half}.exr", frame=3))
    fault = Fault.of(error)
    assert (fault.what, fault.fix, fault.why) == (f"caf{told}.exr is gone", f"find {told}", error.why)
    assert fault.where == {"file": f"/a/caf{told}.exr", "frame": 3}
    assert Fault.model_validate_json(fault.model_dump_json()) == fault
