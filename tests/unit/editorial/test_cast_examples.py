"""examples/cast_rules: a manifest a rule, each casts whom its README and expected.json say."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from scail2_farm.documents import CastRule, CharacterLibrary, Loaded, ShotManifest, When, load_document
from scail2_farm.editorial.cast import Casting, cast_clips
from scail2_farm.editorial.timeline import Edit, read_edit

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "cast_rules"
NAMES = sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != "characters.yaml")


@cache
def edit() -> Edit:
    return read_edit(FOLDER / "edit.otio")


def manifest(name: str) -> Loaded[ShotManifest]:
    loaded, faults = load_document(FOLDER / name, ShotManifest)
    assert faults == []
    assert loaded is not None
    return loaded


@cache
def library() -> Loaded[CharacterLibrary]:
    loaded, faults = load_document(FOLDER / "characters.yaml", CharacterLibrary)
    assert faults == []
    assert loaded is not None
    return loaded


def described(casting: Casting) -> Any:
    """A casting as expected.json has it."""
    if casting.state != "rendered":
        return casting.reason.replace(f"{FOLDER}/", "")
    said = casting.settings.model_dump(mode="json", exclude_none=True)
    parts = [entry.model_dump(mode="json", exclude_none=True) for entry in casting.segments]
    return (
        {"cast": {member.id: member.slot for member in casting.members}} | said | ({"segments": parts} if parts else {})
    )


def told() -> dict[str, dict[str, list[str]]]:
    """Whom each manifest casts, by the table of the README."""
    rows = re.findall(r"^\| `(\S+)` \|[^|]+\| ([^|]+) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    return {
        name: {clip: re.findall(r"\w+", ids) for clip, ids in re.findall(r"(\w+): ([\w, ]+)", row)}
        for name, row in rows
    }


@pytest.mark.parametrize("name", NAMES)
def test_an_example_casts_whom_it_says(name: str):
    found = cast_clips(edit(), manifest(name), library())
    assert found.faults == found.notes == ()
    assert {casting.shot: described(casting) for casting in found.castings} == json.loads(
        (FOLDER / "expected.json").read_text()
    )[name]
    rendered = [casting for casting in found.castings if casting.state == "rendered"]
    assert {casting.shot: [member.id for member in casting.members] for casting in rendered} == told()[name]


def test_every_rule_kind_has_an_example():
    documents = {name: manifest(name).document for name in NAMES}
    rules = [rule for document in documents.values() for rule in document.cast]
    assert {key for rule in rules for key in rule.when.model_fields_set} == set(When.model_fields)
    assert {key for rule in rules for key in rule.model_fields_set} >= set(CastRule.__annotations__)
    assert any(rule.characters == "from-marker" for rule in rules)
    shots = [shot for document in documents.values() for shot in document.shots]
    assert {"skip", "characters", "segments", "seed"} <= {key for shot in shots for key in shot.model_fields_set}
    assert set(told()) == set(NAMES) == set(json.loads((FOLDER / "expected.json").read_text()))
