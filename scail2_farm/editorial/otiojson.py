"""The JSON of an OpenTimelineIO file: read leniently, typed strictly, and shown to OpenTimelineIO itself.

The parsed JSON is what is read and what is written back: rewriting it through OpenTimelineIO's objects would upgrade
schemas and add fields, and editing their maps in place can crash (editorial.md §2.1). OpenTimelineIO is only asked
whether it can load a document, in a copy that spells newer markers and unknown effects the way 0.18 knows them.
"""

from __future__ import annotations

import ctypes
import difflib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import opentimelineio as otio

from scail2_farm.editorial.paths import exists
from scail2_farm.editorial.rates import Range, Time
from scail2_farm.errors import TimelineUnreadable, Where, storage_error

NESTED = frozenset((dict, list))
"""What JSON nests, asked of the type itself: of a long cut a million times."""

DEFAULT_KEY = "DEFAULT_MEDIA"
MOST_LEVELS = 256  # of JSON nesting; OpenTimelineIO accepts thousands, an edit needs tens

Place = tuple[str | int, ...]
Node = dict[str, Any]

COMPOSITIONS = {"Stack": 1, "Track": 1, "Sequence": 1}
ITEMS = COMPOSITIONS | {"Clip": 2, "Gap": 1, "Filler": 1}
MEDIA = {
    "ExternalReference": 1,
    "ImageSequenceReference": 1,
    "GeneratorReference": 1,
    "MissingReference": 1,
    "MediaReference": 1,
}
EFFECTS = {"Effect": 1, "TimeEffect": 1, "LinearTimeWarp": 1, "FreezeFrame": 1}
COLLECTIONS = {"SerializableCollection": 1, "SerializeableCollection": 1}


def parse(path: Path) -> Node:
    """The JSON of a file, tolerant of what OpenTimelineIO writes: Inf, NaN, big integers, a byte order mark."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise absent(path) from None
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise unreadable(f"{path.name} is not UTF-8 text", path, line) from None
    if "Inf" in text or "-NaN" in text:
        text = _TOKENS.sub(_token, text)
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        cut = not text[error.pos :].strip() or error.msg.startswith("Unterminated string")
        what = f"{path.name} is cut short" if cut else f"{path.name} is not valid JSON: {error.msg}"
        raise unreadable(what if text.strip() else f"{path.name} is empty", path, error.lineno) from None
    except RecursionError:
        raise _too_deep(path) from None
    except ValueError as error:
        raise unreadable(f"{path.name} cannot be read: {error}", path) from None
    if levels(document) > MOST_LEVELS:
        raise _too_deep(path)
    if not isinstance(document, dict) or not isinstance(document.get("OTIO_SCHEMA"), str):
        raise unreadable(f"{path.name} is JSON, but not OpenTimelineIO", path, 1)
    return document


_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*+"|(-?)\b(Inf(?:inity)?|NaN)\b')


def _token(match: re.Match[str]) -> str:
    if match[2] is None:
        return match[0]
    return "NaN" if match[2] == "NaN" else f"{match[1]}Infinity"


def _object(pairs: list[tuple[str, Any]]) -> Node:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} is given twice in one object")
    return found


def levels(document: object) -> int:
    """How deep objects and lists are nested, counted as far as it matters."""
    levels = 0
    layer: list[Any] = [document] if isinstance(document, dict | list) else []
    while layer and levels <= MOST_LEVELS:
        levels += 1
        layer = [
            child
            for node in layer
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
    return levels


def unreadable(what: str, path: Path, line: int | None = None, fix: str | None = None) -> TimelineUnreadable:
    """The fault of a file that cannot be read."""
    return TimelineUnreadable(what, fix=fix, where=Where(file=str(path), line=line))


def absent(path: Path) -> TimelineUnreadable:
    """The fault of a path that leads nowhere."""
    if not (exists(path.parent) and path.parent.is_dir()):
        return unreadable(f"{path.name} is not there", path, fix=f"correct the path: {path.parent} is no folder")
    names = sorted(entry.name for entry in path.parent.iterdir()) if os.access(path.parent, os.R_OK) else []
    near = difflib.get_close_matches(path.name, names, n=1)
    named = f"; the nearest name in its folder is {near[0]}" if near else ""
    return unreadable(f"{path.name} is not there", path, fix=f"correct the path{named}")


def _too_deep(path: Path) -> TimelineUnreadable:
    return unreadable(
        f"{path.name} is nested deeper than {MOST_LEVELS} levels",
        path,
        fix="flatten the compound clips and export again",
    )


def choose_timeline(document: Node, wanted: str | None, path: Path) -> tuple[Place, Node]:
    """The one timeline to read, and where it stands."""
    found = list(_timelines(document, (), path))
    names = ", ".join(repr(text_of(node, "name", path, place)) for place, node in found)
    if not found:
        inside = Counter(str(one.get("OTIO_SCHEMA")) for one in document.get("children") or [] if isinstance(one, dict))
        listed = ", ".join(f"{count} {schema}" for schema, count in inside.items())
        what = f"{path.name} holds a {document['OTIO_SCHEMA']}{f' ({listed})' if listed else ''} and no timeline"
        raise unreadable(what, path, fix="export the whole timeline, not a clip, a track or a bin")
    chosen = [(place, node) for place, node in found if wanted is None or text_of(node, "name", path, place) == wanted]
    if not chosen:
        raise unreadable(f"no timeline is named {wanted!r}", path, fix=f"choose one of: {names}")
    if len(chosen) > 1:
        what = f"{path.name} holds {len(chosen)} timelines{'' if wanted is None else ' of that name'}: {names}"
        fix = "name one with --timeline NAME" if wanted is None else "give them different names and export again"
        raise unreadable(what, path, fix=fix)
    return chosen[0]


def _timelines(node: Node, place: Place, path: Path) -> Iterator[tuple[Place, Node]]:
    name = str(node.get("OTIO_SCHEMA")).partition(".")[0]
    if name == "Timeline":
        schema_of(node, {"Timeline": 1}, path, place)
        yield place, node
    elif name in COLLECTIONS:
        schema_of(node, COLLECTIONS, path, place)
        for index, child in enumerate(list_of(node, "children", path, place)):
            if isinstance(child, dict):
                yield from _timelines(child, (*place, "children", index), path)


# --------------------------------------------------------------------------- typed access to the JSON


def spelled(place: Place) -> str:
    """A place in the document as people read it: tracks.children.0."""
    return ".".join(str(step) for step in place) or "the top"


def mistyped(path: Path, place: Place, key: str, value: object, wanted: str) -> TimelineUnreadable:
    """The fault of a value that is of another kind than OpenTimelineIO writes there."""
    return unreadable(f"`{key}` of {spelled(place)} is {str(value)[:60]!r}, which is not {wanted}", path)


def text_of(node: Node, key: str, path: Path, place: Place) -> str:
    """A text; empty when absent. Raises TimelineUnreadable, as all of these do, for a value of another kind."""
    value = node.get(key)
    if value is not None and not isinstance(value, str):
        raise mistyped(path, place, key, value, "text")
    return value or ""


def list_of(node: Node, key: str, path: Path, place: Place) -> list[Any]:
    """A list; empty when absent."""
    value = node.get(key)
    if value is not None and not isinstance(value, list):
        raise mistyped(path, place, key, value, "a list")
    return value or []


def dict_of(node: Node, key: str, path: Path, place: Place) -> Node:
    """An object; empty when absent."""
    value = node.get(key)
    if value is not None and not isinstance(value, dict):
        raise mistyped(path, place, key, value, "an object")
    return value or {}


def flag_of(node: Node, key: str, path: Path, place: Place) -> bool:
    """A flag; true when absent."""
    value = node.get(key)
    if value is not None and not isinstance(value, bool):
        raise mistyped(path, place, key, value, "true or false")
    return value is not False


def whole_of(node: Node, key: str, default: int, path: Path, place: Place) -> int:
    """A whole number, also one written as a float."""
    value = node.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > 10**15:
        raise mistyped(path, place, key, value, "a whole number")
    if value != int(value):
        raise mistyped(path, place, key, value, "a whole number")
    return int(value)


def schema_of(node: object, known: Mapping[str, int], path: Path, place: Place) -> str:
    """The schema name of a typed thing; `known` gives the newest version read of each."""
    if not isinstance(node, dict):
        raise unreadable(f"{spelled(place)} is {str(node)[:60]!r}, where OpenTimelineIO has an object", path)
    name, version = _name_and_version(str(node.get("OTIO_SCHEMA")))
    if name not in known or not 1 <= version <= known[name]:
        raise unreadable(
            f"{spelled(place)} is a {str(node.get('OTIO_SCHEMA'))[:60]!r}, which this version does not know",
            path,
            fix=f"export the timeline again without it; read here: {', '.join(known)}",
        )
    return name


@lru_cache(maxsize=256)
def _name_and_version(schema: str) -> tuple[str, int]:
    """The two parts of a schema, 0 for no version; a long cut has the same dozen a hundred thousand times."""
    name, _, version = schema.partition(".")
    return name, int(version[:9]) if version.isdecimal() else 0


def time_of(node: Node, key: str, path: Path, place: Place) -> Time | None:
    """A RationalTime; raises ValueError for one that is no usable time."""
    value = node.get(key)
    if value is None:
        return None
    schema_of(value, {"RationalTime": 1}, path, (*place, key))
    try:
        return Time.read(value.get("value"), value.get("rate"))
    except ValueError as error:
        raise ValueError(f"its {key} cannot be used: {error}") from None


def range_of(node: Node, key: str, path: Path, place: Place) -> Range | None:
    """A TimeRange; raises ValueError for one that is no usable range."""
    value = node.get(key)
    if value is None:
        return None
    schema_of(value, {"TimeRange": 1}, path, (*place, key))
    start = time_of(value, "start_time", path, (*place, key))
    duration = time_of(value, "duration", path, (*place, key))
    if duration is None or duration.value < 0:
        raise ValueError(f"its {key} has no usable duration")
    return Range(start or Time(Fraction(0), duration.rate), duration)


def marker_of(node: object, path: Path, place: Place) -> tuple[str, str]:
    """A marker's name and colour; a newer marker's colour is an object with a name."""
    if not isinstance(node, dict) or not str(node.get("OTIO_SCHEMA")).startswith("Marker."):
        raise unreadable(f"{spelled(place)} is {str(node)[:60]!r}, where OpenTimelineIO has a marker", path)
    color: object = node.get("color")
    if isinstance(color, dict):
        return text_of(node, "name", path, place), text_of(color, "name", path, (*place, "color"))
    return text_of(node, "name", path, place), text_of(node, "color", path, place)


# --------------------------------------------------------------------------- OpenTimelineIO's own opinion


def load_through_bindings(document: Node, path: Path) -> Any:
    """The document as OpenTimelineIO's objects, as for_bindings spells it.

    Raises TimelineUnreadable in its words.
    """
    try:
        text = json.dumps(for_bindings(document), ensure_ascii=False)
        text.encode("utf-8")
        return otio.adapters.read_from_string(text, "otio_json")
    except UnicodeEncodeError:
        raise unreadable(f"{path.name} holds half a surrogate pair, which is not Unicode", path) from None
    except (otio.exceptions.OTIOError, ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        raise unreadable(f"OpenTimelineIO cannot load {path.name}: {str(error)[:300]}", path) from None


def bindings_fault(document: Node, path: Path) -> TimelineUnreadable | None:
    """What OpenTimelineIO has against the document, in its words."""
    try:
        load_through_bindings(document, path)
    except TimelineUnreadable as fault:
        return fault
    _give_back_memory()
    return None


def _give_back_memory() -> None:
    """Return to the system what the C library keeps of OpenTimelineIO's objects: 10 kB a clip, never used again."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def for_bindings(node: Any) -> Any:
    """A document in the words of OpenTimelineIO 0.18: newer markers, unknown effects and null references put plainly.

    Only for asking it; the file keeps them as they came (editorial.md §2.2, §2.3). What needs no change is shared.
    """
    if isinstance(node, list):
        children: list[Any] = [for_bindings(child) if type(child) in NESTED else child for child in node]
        return children if any(new is not old for new, old in zip(children, node, strict=True)) else node
    changed: Node = {}
    for key, value in node.items():
        if type(value) in NESTED and (new := for_bindings(value)) is not value:
            changed[key] = new
    schema, version = _name_and_version(str(node.get("OTIO_SCHEMA")))
    if schema == "Marker" and version not in (1, 2):
        color = node.get("color")
        changed |= {"OTIO_SCHEMA": "Marker.2", "color": color.get("name") or "" if isinstance(color, dict) else color}
    if schema == "Clip" and version == 2:
        references = changed.get("media_references", node.get("media_references"))
        if references is None or (isinstance(references, dict) and None in references.values()):
            kept = {key: value for key, value in (references or {}).items() if value is not None}
            changed["media_references"] = kept
        if not node.get("active_media_reference_key"):
            changed["active_media_reference_key"] = DEFAULT_KEY
    if schema in ITEMS and node.get("effects") and isinstance(node["effects"], list):
        changed["effects"] = [_known_effect(effect) for effect in changed.get("effects", node["effects"])]
    return node | changed if changed else node


def _known_effect(effect: Any) -> Any:
    if not isinstance(effect, dict) or not isinstance(effect.get("OTIO_SCHEMA"), str):
        return effect
    if effect["OTIO_SCHEMA"].partition(".")[0] in EFFECTS:
        return effect
    return {"OTIO_SCHEMA": "Effect.1", "name": effect.get("name"), "effect_name": "", "metadata": {}}
