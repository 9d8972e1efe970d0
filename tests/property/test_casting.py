"""Casting for any rules and clips: one casting a clip, never a traceback, and what a reading by brute force says."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from scail2_farm.documents import CharacterLibrary, Loaded, ShotManifest
from scail2_farm.editorial.cast import Casting, cast_clips
from scail2_farm.editorial.rates import Time
from scail2_farm.editorial.retimes import Sampling
from scail2_farm.editorial.timeline import Clip, Edit, Marker, read_edit
from scail2_farm.errors import FarmError

RATE = 24
NAMES = ["A_010", "A_020", "B_010", "b_010", "", "名[1]"]
MARKERS = {"CHAR:HERO": ["hero"], "char:villain=RED": ["villain"], "CHAR:hero, extra": ["hero", "extra"], "note": []}
METADATA = [{}, {"a": {"b": 1}}, {"a.b": "1", "a": {"b": "2"}}, {"a": [{"b": True}, None]}, {"a": {"b": {"c": 1.0}}}]
SEEDS = st.none() | st.integers(0, 3)


@cache
def template() -> tuple[Edit, Clip]:
    """An edit read from a file and a clip of it, to make others of."""

    def span(start: int) -> dict[str, Any]:
        def time(value: int) -> dict[str, Any]:
            return {"OTIO_SCHEMA": "RationalTime.1", "rate": RATE, "value": value}

        return {"OTIO_SCHEMA": "TimeRange.1", "start_time": time(start), "duration": time(10)}

    item = {"metadata": {}, "source_range": None, "effects": [], "markers": [], "enabled": True}
    media = {"OTIO_SCHEMA": "ExternalReference.1", "metadata": {}, "name": "", "available_range": span(0)}
    clip = item | {
        "OTIO_SCHEMA": "Clip.2",
        "name": "A",
        "media_references": {"DEFAULT_MEDIA": media | {"available_image_bounds": None, "target_url": "a.mov"}},
        "active_media_reference_key": "DEFAULT_MEDIA",
    }
    track = item | {"OTIO_SCHEMA": "Track.1", "name": "V1", "kind": "Video", "children": [clip]}
    stack = item | {"OTIO_SCHEMA": "Stack.1", "name": "tracks", "children": [track]}
    cut = {"OTIO_SCHEMA": "Timeline.1", "metadata": {}, "name": "cut", "global_start_time": None, "tracks": stack}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cut.otio"
        path.write_text(json.dumps(cut))
        edit = read_edit(path)
    return edit, edit.clips[0]


@st.composite
def clips(draw: st.DrawFn, index: int) -> Clip:
    _, clip = template()
    assert clip.media is not None
    markers = draw(
        st.lists(st.tuples(st.sampled_from(sorted(MARKERS)), st.sampled_from(["RED", "blue", ""])), max_size=3)
    )
    rate = draw(st.sampled_from([24, 25]))
    placed = draw(st.booleans())
    used = draw(st.integers(1, 60))
    return replace(
        clip,
        id=f"S{index}",
        name=draw(st.sampled_from(NAMES)),
        track=draw(st.sampled_from(["V1", "V2"])),
        skipped=draw(st.sampled_from([None, None, None, "the clip is disabled"])),
        media=draw(st.sampled_from([None, clip.media, replace(clip.media, url="file:///p/A%20.mov")])),
        metadata=draw(st.sampled_from(METADATA)),
        markers=tuple(Marker(name=name, color=color, on="clip") for name, color in markers),
        record_start=draw(st.integers(0, 200)) if placed else None,
        record_count=draw(st.integers(1, 60)) if placed else 0,
        rate=Fraction(rate),
        source_start=Time(Fraction(draw(st.integers(0, 200))), Fraction(rate)) if placed else None,
        source_count=used,
        sampling=Sampling(length=Fraction(used)),
    )


EDITS = st.integers(0, 4).flatmap(lambda count: st.tuples(*(clips(index) for index in range(count))))

CODE = st.integers(0, 8 * RATE - 1).map(lambda frame: f"00:00:{frame // RATE:02d}:{frame % RATE:02d}")
RANGE = st.one_of(
    CODE.map(lambda code: f"{code}+"),
    CODE.map(lambda code: f"-{code}"),
    st.tuples(CODE, CODE).filter(lambda codes: codes[0] < codes[1]).map("-".join),
)
CONDITIONS = {
    "clip": st.sampled_from(["*", "A_*", "[AB]_010", "名*", "?_020"]),
    "track": st.sampled_from(["V1", "V*", "v1"]),
    "marker": st.sampled_from(["char:*", "NOTE", "*villain*"]),
    "color": st.sampled_from(["red", "BLUE"]),
    "record_tc": RANGE,
    "source_tc": RANGE,
    "media": st.sampled_from(["*.mov", "*/p/*", "A .mov", "a.mov", "*%20*"]),
    "metadata": st.sampled_from(["a", "a.b", "a.b.c", "a.0.b", "a.1", "x"]),
    "equals": st.sampled_from(["1", "true", "null", "2"]),
}
MEMBERS = st.lists(st.sampled_from(["hero", "villain", "extra", "nobody"]), max_size=3).map(
    lambda ids: [{"id": id} for id in ids]
)


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    keys = draw(st.sets(st.sampled_from(sorted(CONDITIONS)), min_size=1, max_size=3))
    keys |= {"metadata"} if "equals" in keys else set()
    return {
        "when": {key: draw(CONDITIONS[key]) for key in keys},
        "characters": draw(st.one_of(MEMBERS, MEMBERS, st.just("from-marker"))),
        "seed": draw(SEEDS),
        "skip": draw(st.integers(0, 5)) == 0,
        "stop": draw(st.integers(0, 3)) == 0,
    }


@st.composite
def manifests(draw: st.DrawFn) -> Loaded[ShotManifest]:
    shots = [
        {"id": id, "seed": draw(SEEDS)}
        | draw(st.sampled_from([{}, {"skip": True}, {"skip": False}, {"characters": [{"id": "extra"}]}]))
        for id in draw(st.sets(st.sampled_from(["S0", "S2", "A_010"])))
    ]
    document = {
        "schema": "scail2-farm/shot-manifest@1",
        "characters": "c.yaml",
        "defaults": {"seed": draw(SEEDS)},
        "cast": draw(st.lists(rules(), max_size=5)),
        "shots": shots,
    }
    lines = {("cast", index): index for index in range(5)}  # so that where a rule stands says which it is
    return Loaded(Path("m.yaml"), ShotManifest.model_validate(document), lines)


@st.composite
def libraries(draw: st.DrawFn) -> Loaded[CharacterLibrary]:
    people = {id: {"references": [{"image": "a.png"}], "seed": draw(SEEDS)} for id in ("hero", "villain", "extra")}
    document = {"schema": "scail2-farm/characters@1", "characters": people}
    return Loaded(Path("c.yaml"), CharacterLibrary.model_validate(document), {})


# ----------------------------------------------------------------------- the same by brute force


def overlaps(text: str, start: int | None, count: int, rate: int) -> bool:
    """Whether any of the frames lies in the range, each asked by itself."""
    if start is None:
        return False

    def frame(code: str) -> int:
        hours, minutes, seconds, frames = (int(part) for part in code.split(":"))
        return (hours * 3600 + minutes * 60 + seconds) * rate + frames

    into, _, out = text.rstrip("+").partition("-")
    return any((not into or frame(into) <= n) and (not out or n < frame(out)) for n in range(start, start + count))


def flattened(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted path of a tree of metadata, and what lies there."""
    if path:
        yield path, value
    branches = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in branches:
        yield from flattened(inside, f"{path}.{key}" if path else str(key))


def written(value: Any) -> str:
    """A single value of metadata as the file has it."""
    return value if isinstance(value, str) else json.dumps(value).removesuffix(".0")


def holds(when: dict[str, Any], clip: Clip) -> bool:
    """Whether a rule's conditions, None where not given, all hold of a clip."""
    url = clip.media.url if clip.media else ""
    tests = {
        "clip": lambda glob: fnmatchcase(clip.name, glob),
        "track": lambda glob: fnmatchcase(clip.track, glob),
        "record_tc": lambda text: overlaps(text, clip.record_start, clip.record_count, RATE),
        "source_tc": lambda text: overlaps(text, *source(clip)),
        "media": lambda glob: (
            clip.media is not None
            and any(fnmatchcase(form, glob) for form in (url, url.split("/")[-1], str(clip.media.path), "a.mov"))
        ),
        "metadata": lambda path: any(
            found == path
            and (when["equals"] is None or (not isinstance(value, dict | list) and when["equals"] == written(value)))
            for found, value in flattened(clip.metadata)
        ),
    }
    if any(when[key] is not None and not test(when[key]) for key, test in tests.items()):
        return False
    return bool(marked(when, clip)) or (when["marker"] is None and when["color"] is None)


def source(clip: Clip) -> tuple[int | None, int, int]:
    """The first frame, count and rate of what a clip shows of its media: all ten frames when nothing is said."""
    if clip.source_start is not None:
        return int(clip.source_start.value), clip.source_count or 0, int(clip.rate)
    return (None if clip.media is None else 0), 10, RATE


def marked(when: dict[str, Any], clip: Clip) -> list[str]:
    """The names of the markers a rule is about."""
    return [
        marker.name
        for marker in clip.markers
        if when["color"] in (None, marker.color.lower(), marker.color.upper())
        and (when["marker"] is None or fnmatchcase(marker.name.lower(), when["marker"].lower()))
    ]


def expected(
    clip: Clip, manifest: ShotManifest, library: CharacterLibrary
) -> tuple[list[int], str, list[str], int | None]:
    """The rules that match, the state, who is cast and the seed."""
    matched: list[int] = []
    for index, rule in enumerate(manifest.cast):
        if holds(rule.when.model_dump(), clip):
            matched.append(index)
            if rule.stop:
                break
    rules = [manifest.cast[index] for index in matched]
    shot = next((shot for key in (clip.id, clip.name) for shot in manifest.shots if shot.id == key), None)
    ids: list[str] = []
    for rule in rules:
        if rule.characters == "from-marker":
            ids += [id for name in marked(rule.when.model_dump(), clip) for id in MARKERS[name]]
        else:
            ids += [member.id for member in rule.characters]
    skip = any(rule.skip for rule in rules)
    if shot is not None and shot.characters is not None:
        ids, skip = [member.id for member in shot.characters], False
    if shot is not None and "skip" in shot.model_fields_set:
        skip = shot.skip
    ids = [id for id in dict.fromkeys(ids) if id in library.characters]
    levels = [*([shot] if shot else []), *rules, *(library.characters[id] for id in ids), manifest.defaults]
    seed = next((level.seed for level in levels if level.seed is not None), None)
    state = "skipped" if clip.skipped or skip else "rendered" if ids else "uncast"
    return matched, state, ids, seed


@settings(max_examples=400, deadline=None)
@given(EDITS, manifests(), libraries())
def test_casting_is_what_reading_the_rules_one_by_one_says(
    found: tuple[Clip, ...], manifest: Loaded[ShotManifest], library: Loaded[CharacterLibrary]
):
    edit = replace(template()[0], clips=found, rate=Fraction(RATE))
    cast = cast_clips(edit, manifest, library)
    assert [casting.shot for casting in cast.castings] == [clip.id for clip in found]
    assert all(isinstance(fault, FarmError) and fault.where.file for fault in cast.faults)
    idle = set(range(len(manifest.document.cast)))
    for casting, clip in zip(cast.castings, found, strict=True):
        matched, state, ids, seed = expected(clip, manifest.document, library.document)
        assert [where.line for where, _ in casting.rules if where.line is not None] == matched
        assert casting.state == state
        assert [member.id for member in casting.members] == ids
        assert casting.settings.seed == seed
        assert (casting.reason == "") == (state == "rendered")
        idle -= set(matched)
    assert len(cast.notes) == len(idle)
    assert one_color_each(cast.castings)


def one_color_each(castings: tuple[Casting, ...]) -> bool:
    colors = {(member.id, member.slot) for casting in castings for member in casting.members}
    return len(colors) == len({id for id, _ in colors})


WILD = st.text(min_size=1, max_size=12) | st.sampled_from(
    ["CHAR:", "CHAR:=", "char:hero=,;=x", "[", "[!]", "**", "99:99:99:99+", "-00:00:00;00", "\x00", "a..b", "..", "ß"]
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_nothing_written_in_rules_markers_or_metadata_is_a_traceback(data: st.DataObject):
    edit, clip = template()
    markers = tuple(Marker(name=data.draw(WILD), color=data.draw(WILD), on="clip") for _ in range(2))
    wild = replace(clip, name=data.draw(WILD), markers=markers, metadata={data.draw(WILD): [data.draw(WILD)]})
    keys = sorted(set(CONDITIONS) - {"equals"})
    allowed = WILD.filter(lambda text: "\0" not in text)
    when = {key: data.draw(allowed) for key in data.draw(st.sets(st.sampled_from(keys), min_size=1))}
    rule = {"when": when, "characters": data.draw(st.sampled_from(["from-marker", [{"id": "hero"}]]))}
    sure = {"when": {"clip": "*"}, "characters": "from-marker"}
    document = {"schema": "scail2-farm/shot-manifest@1", "characters": "c.yaml", "cast": [rule, sure]}
    manifest = Loaded(Path("m.yaml"), ShotManifest.model_validate(document), {})
    people = {id: {"references": [{"image": "a.png"}]} for id in ("hero", "ß")}
    library = CharacterLibrary.model_validate({"schema": "scail2-farm/characters@1", "characters": people})
    cast = cast_clips(replace(edit, clips=(wild,)), manifest, Loaded(Path("c.yaml"), library, {}))
    assert [casting.shot for casting in cast.castings] == [wild.id]
    assert any(says.startswith("clip '*': ") for _, says in cast.castings[0].rules)
    assert all(fault.what and fault.fix for fault in cast.faults)
