"""Any cut as OTIO JSON, whatever application wrote it, or refused in words.

A file is known by its suffix and must begin as that kind of file does. .otio is read as it is; bundles, lists and XML
have modules of their own; what a foreign adapter is known to lose is put back there, or told in a note.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from scail2_farm.editorial import bundles
from scail2_farm.editorial.edl import read_edl
from scail2_farm.editorial.nle import adapter, is_a, items, timelines, translated, unknown_curve
from scail2_farm.editorial.otiojson import Node, absent, parse, unreadable
from scail2_farm.editorial.paths import exists
from scail2_farm.editorial.suffixes import SUFFIXES
from scail2_farm.editorial.xmlcuts import read_xml
from scail2_farm.errors import storage_error

BUNDLES = frozenset({".otioz", ".otiod"})  # they hold media, addressed from where the bundle was opened
AAF = ("AAF", "otio-aaf-adapter")

_SAVE_AS = "export the timeline as OpenTimelineIO (.otio), FCP 7 XML (.xml), an AAF or an EDL"
_REFUSED = {
    ".ale": ("an Avid log: clips without a timeline", "export the sequence as an AAF or EDL"),
    ".prproj": ("a Premiere project", "export the sequence: File > Export > Final Cut Pro XML"),
    ".aep": ("an After Effects project", "submit the cut it was made for"),
    ".drp": ("a Resolve project", "export the timeline: File > Export > Timeline, as OTIO"),
    ".drt": ("a Resolve timeline", "export the timeline: File > Export > Timeline, as OTIO"),
    ".hrox": ("a Hiero project", "export the sequence as OTIO"),
    ".avb": ("an Avid bin", "export the sequence as an AAF"),
    ".xges": ("a GStreamer project", _SAVE_AS),
    ".mlt": ("an MLT project (Shotcut, Kdenlive)", "export the timeline as an EDL"),
    ".kdenlive": ("a Kdenlive project", "export the timeline as OTIO (Kdenlive 25.04 and later)"),
    ".fcpbundle": ("a Final Cut Pro library", "export the project: File > Export XML"),
    ".imovielibrary": ("an iMovie library", "send the movie to Final Cut Pro and export XML from there"),
    ".yaml": ("YAML", "name the edit; a manifest goes with --manifest"),
    ".yml": ("YAML", "name the edit; a manifest goes with --manifest"),
}
_BEGINNINGS = (
    (b"PK\x03\x04", "a zip file", (".otioz",)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an AAF or another Microsoft container", (".aaf",)),
    (b"\x1f\x8b", "a compressed file", ()),
    (b"<", "XML", (".xml", ".fcpxml")),
    (b"TITLE:", "an EDL", (".edl",)),
    (b"{", "JSON", (".otio", ".json")),
)
_BINARY = (b"RIFF", b"\0\0\0", b"\x89PNG", b"\xff\xd8\xff", b"\x06\x0e\x2b\x34", b"%PDF")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A cut as OTIO JSON. `folder` is what its relative media is taken beside; `drop_frame` its record timecode."""

    document: Node
    folder: Path
    notes: tuple[str, ...] = ()
    drop_frame: bool = False


def open_cut(path: Path, *, rate: Fraction | None = None) -> Opened:
    """Read a cut; `rate` is an EDL's, which does not say its own (24 by default, told in a note).

    Media inside an .otioz is unpacked beside it, into NAME.scail2/media. Raises TimelineUnreadable, StorageError, and
    SettingsInvalid when the adapter of a foreign format is not installed.
    """
    suffix = path.suffix.lower()
    folder = path.absolute().parent
    if suffix not in SUFFIXES:
        raise _unknown(path)
    if suffix == ".otiod" and path.exists():
        document, notes = bundles.read_folder(path)
        return Opened(document=document, folder=folder, notes=notes)
    if suffix == ".fcpxmld" and path.is_dir():
        return _with_text(path / "Info.fcpxml", path, rate)
    if suffix in (".otioz", ".aaf", ".otio", ".json"):
        _check_beginning(path, suffix)
    if suffix == ".otioz":
        document, notes = bundles.read_zip(path)
        return Opened(document=document, folder=folder, notes=notes)
    if suffix in (".otio", ".json"):
        return Opened(document=parse(path), folder=folder)
    if suffix == ".aaf":
        return _read_aaf(path)
    return _with_text(path, path, rate)


def _with_text(file: Path, path: Path, rate: Fraction | None) -> Opened:
    """A list or an XML cut."""
    _check_beginning(file, file.suffix.lower())
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise storage_error(error, file) from error
    read = read_edl(file, raw, rate) if file.suffix.lower() == ".edl" else read_xml(file, raw)
    document, notes, drop = read
    return Opened(document=document, folder=path.absolute().parent, notes=notes, drop_frame=drop)


def _unknown(path: Path) -> Exception:
    what, fix = _REFUSED.get(path.suffix.lower(), ("", _SAVE_AS))
    if not what and not exists(path):
        return absent(path)
    if not what:
        read = ", ".join(SUFFIXES)
        kind = "a folder" if path.is_dir() else f"no kind of cut ({path.suffix or 'no suffix'}; read are {read})"
        return unreadable(f"{path.name} is {kind}", path, fix=fix)
    return unreadable(f"{path.name} is {what}, which is not read", path, fix=fix)


def _check_beginning(path: Path, suffix: str) -> None:
    """Refuse a file that is absent, empty, a folder, or begins as another kind does."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise absent(path) from None
    except IsADirectoryError:
        raise unreadable(f"{path.name} is a folder, where {SUFFIXES[suffix]} is a file", path) from None
    except OSError as error:
        raise storage_error(error, path) from error
    if not head:
        raise unreadable(f"{path.name} is empty", path)
    plain = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for beginning, kind, suffixes in _BEGINNINGS:
        if plain.startswith(beginning) and suffix not in suffixes:
            fix = (
                f"rename it to {path.stem}{suffixes[0]} if it was only misnamed, else {_SAVE_AS}" if suffixes else None
            )
            raise unreadable(f"{path.name} is {kind}, and not {SUFFIXES[suffix]}", path, fix=fix)
    needed = {".aaf": b"\xd0\xcf\x11\xe0", ".otioz": b"PK"}.get(suffix, b"")
    if not plain.startswith(needed) or head.startswith(_BINARY):
        raise unreadable(f"{path.name} does not begin as {SUFFIXES[suffix]} does", path)


# --------------------------------------------------------------------------- AAF


def _read_aaf(path: Path) -> Opened:
    aaf = adapter(*AAF, path)
    document = translated(path, lambda: aaf.read_from_file(str(path)))
    notes = mark_curves(document)
    return Opened(document=document, folder=path.absolute().parent, notes=notes, drop_frame=_aaf_drops(path, aaf))


def mark_curves(document: Node) -> tuple[str, ...]:
    """Make the motion effects that an AAF's adapter reads only in part unknown curves; notes tell each kind once."""
    curves: dict[str, list[str]] = {}
    for timeline in timelines(document):
        for node in items(timeline["tracks"]):
            for index, effect in enumerate(node.get("effects") or []):
                words = _unread_motion(node, effect)
                if words:
                    node["effects"][index] = unknown_curve(words) | {"metadata": effect["metadata"]}
                    curves.setdefault(words, []).append(str(node.get("name")))
    return tuple(
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {words}: it is taken for a curve"
        for words, names in curves.items()
    )


def _unread_motion(node: Node, effect: Node) -> str:
    """What of an Avid motion effect the adapter's one speed leaves out, in words; empty when it is the whole of it.

    Of the graphs of speed, of speed and offset, and of position the adapter reads only the slope of an offset graph
    of two points.
    """
    if not is_a(effect, "LinearTimeWarp", "FreezeFrame"):
        return ""
    told = effect["metadata"].get("AAF", {}).get("Parameters", {})
    graphs = {name: _points(told.get(name)) for name in told}
    if graphs.get("PARAM_OFFSET_MAP_U"):
        return "a motion effect with a graph of position"
    if len({value for _, value in graphs.get("PARAM_SPEED_MAP_U", [])}) > 1:
        return "a motion effect with a graph of changing speed"
    offsets = graphs.get("PARAM_SPEED_OFFSET_MAP_U", [])
    trim = node.get("source_range")
    if len(offsets) != 2 or trim is None:
        return ""
    (time, value), scalar = offsets[0], effect["time_scalar"]
    begins = value - scalar * time
    expected = 0 if scalar >= 0 else trim["duration"]["value"] * -scalar - 1
    return "" if abs(begins - expected) <= 1 else f"a motion effect that begins {begins - expected:+.3g} frames away"


def _points(graph: Any) -> list[tuple[float, float]]:
    values = graph.get("keyframe_values") if isinstance(graph, dict) else None
    return [(float(time), float(value)) for time, value in values or []]


def _aaf_drops(path: Path, aaf: Any) -> bool:
    """Whether the timecode of an AAF's sequences is drop frame, which the adapter does not say."""
    found: list[bool] = []

    def read() -> Any:
        with aaf.aaf2.open(str(path)) as opened:
            for mob in [*opened.content.toplevel()] or [*opened.content.compositionmobs()]:
                found.extend(bool(timecode.drop) for slot in mob.slots for timecode in _timecodes(slot.segment, aaf))
        return aaf.otio.schema.Timeline()

    translated(path, read)
    return any(found)


def _timecodes(segment: Any, aaf: Any) -> Iterator[Any]:
    if isinstance(segment, aaf.aaf2.components.Timecode):
        yield segment
    elif isinstance(segment, aaf.aaf2.components.Sequence):
        for component in segment.components:
            yield from _timecodes(component, aaf)
