"""The two XML cuts of Apple's: what their adapters lose silently is found in the XML and put into the reading.

FCP 7 XML (`xmeml`; Premiere, Resolve and Hiero write it): the adapter makes a plain effect of a time remap and leaves
disabled clips on. FCPXML: it counts 23.976 as 23, starts a timeline an hour late, and does not know retimes, disabled
clips, transitions, multicam and synchronised clips, or whose a marker is. The XML is therefore put plainly first, every
timed element carrying a number as a marker by which its reading is found again.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.parsers import expat

from scail2_farm.editorial.nle import adapter, gap, is_a, items, timelines, translated, unknown_curve
from scail2_farm.editorial.otiojson import MOST_LEVELS, Node, unreadable
from scail2_farm.frames import exact_rate

FCP7 = ("fcp_xml", "otio-fcp-adapter")
FCPX = ("fcpx_xml", "otio-fcpx-xml-adapter")
MOST_BYTES = 256 << 20
MOST_NESTED = 10_000
ELEMENTS = {
    "kdenlivedoc": "a Kdenlive project",
    "mlt": "an MLT project (Kdenlive, Shotcut)",
    "ges": "a GStreamer project",
    "PremiereData": "a Premiere project",
    "AfterEffectsProject": "an After Effects project",
}


def read_xml(path: Path, raw: bytes) -> tuple[Node, tuple[str, ...], bool]:
    """An FCP 7 XML or FCPXML cut as OTIO JSON, what is worth telling, and whether its timecode is drop frame.

    Raises TimelineUnreadable, and SettingsInvalid without the adapter.
    """
    if len(raw) > MOST_BYTES:
        fix = "export the one sequence, not the project"
        raise unreadable(f"{path.name} is {len(raw) >> 20} MB long; {MOST_BYTES >> 20} are read", path, fix=fix)
    root = _checked_root(path, raw)
    if root == "xmeml":
        return _read_fcp7(path, raw)
    if root == "fcpxml":
        return _read_fcpx(path, raw)
    what = ELEMENTS.get(root, f"XML of another kind (<{root[:40]}>)")
    fix = "export the timeline as OpenTimelineIO (.otio), FCP 7 XML (.xml) or FCPXML (.fcpxml)"
    raise unreadable(f"{path.name} is {what}, which is not read", path, fix=fix)


def _checked_root(path: Path, raw: bytes) -> str:
    """The root element of XML that is safe to parse: whole, of a sane depth, and without entities of its own."""
    parser = expat.ParserCreate()
    root: list[str] = []
    depth = 0

    def begin(name: str, _: dict[str, str]) -> None:
        nonlocal depth
        if not root:
            root.append(name)
        depth += 1
        if depth > MOST_LEVELS:
            raise unreadable(f"{path.name} is nested deeper than {MOST_LEVELS} elements", path)

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def entity(*_: object) -> None:
        why = f"{path.name} declares entities of its own, which no NLE writes"
        raise unreadable(why, path, parser.CurrentLineNumber, "export the cut again")

    parser.StartElementHandler, parser.EndElementHandler, parser.EntityDeclHandler = begin, end, entity
    try:
        parser.Parse(raw, True)
    except expat.ExpatError as error:
        words = expat.errors.messages[error.code]
        raise unreadable(f"{path.name} is not complete XML: {words}", path, error.lineno) from None
    except (ValueError, LookupError) as error:  # an encoding expat does not know
        raise unreadable(f"{path.name} is not complete XML that can be read: {error}", path) from None
    return root[0]


# --------------------------------------------------------------------------- FCP 7


def _read_fcp7(path: Path, raw: bytes) -> tuple[Node, tuple[str, ...], bool]:
    fcp = adapter(*FCP7, path)
    root = ElementTree.fromstring(raw)
    if root.find("./sequence") is None and root.find(".//children/sequence") is None:
        fix = "export the sequence (File > Export > Final Cut Pro XML), not clips or a bin"
        raise unreadable(f"{path.name} holds no sequence", path, fix=fix)
    _lift_nested(root, path)
    _name_offline(root)
    text = ElementTree.tostring(root, encoding="unicode")
    document = translated(path, lambda: fcp.read_from_string(text))
    notes: list[str] = []
    drop = False
    for timeline in timelines(document):
        told = timeline["metadata"].get("fcp_xml", {})
        for kind in ("video", "audio"):
            told.pop(kind, None)
        timecode = told.get("timecode")
        drop = drop or (isinstance(timecode, dict) and timecode.get("displayformat") == "DF")
        for node in items(timeline["tracks"]):
            _mend_fcp7(node, notes)
    return document, tuple(notes), drop


def _lift_nested(root: ElementTree.Element, path: Path) -> None:
    """The tracks of nested sequences where the adapter looks for them: it finds none inside their `media`.

    A sequence that is nested by its name only is given whole in its place.
    """
    named = {sequence.get("id"): sequence for sequence in root.iter("sequence") if sequence.find("media") is not None}
    sizes: dict[ElementTree.Element, int] = {}

    def size(sequence: ElementTree.Element, within: tuple[ElementTree.Element, ...]) -> int:
        """The clips in a sequence and all that are nested in it; raises for too many, or for one in itself."""
        if sequence not in sizes:
            nested = [whole for item in sequence.iter("clipitem") if (whole := _nested(item, named)) is not None]
            if sequence in within or len(within) > MOST_LEVELS // 8:
                what = f"{path.name} nests the sequence {sequence.findtext('name')!r} in itself, or too deeply"
                raise unreadable(what, path, fix="flatten the nested sequences and export again")
            sizes[sequence] = 1 + len(nested) + sum(size(whole, (*within, sequence)) for whole in nested)
        if sizes[sequence] > MOST_NESTED:
            raise unreadable(f"{path.name} nests more than {MOST_NESTED} sequences", path)
        return sizes[sequence]

    for item in list(root.iter("clipitem")):
        sequence, whole = item.find("sequence"), _nested(item, named)
        if sequence is None or whole is None:
            continue
        size(whole, ())
        if whole is not sequence:
            sequence.attrib.pop("id")
            sequence.extend(child for child in whole if child.tag in ("name", "rate"))
        sequence.extend(child for child in whole.iterfind("media/*") if child.tag in ("video", "audio"))


def _nested(item: ElementTree.Element, named: dict[str | None, ElementTree.Element]) -> ElementTree.Element | None:
    """The sequence a clip stands for, whole; None for a clip of media."""
    sequence = item.find("sequence")
    if sequence is None or sequence.find("media") is not None:
        return sequence
    return named.get(sequence.get("id")) if sequence.get("id") else None


def _name_offline(root: ElementTree.Element) -> None:
    """A clip of nothing (offline, an adjustment layer) given a file that names nothing, without which it is refused."""
    for number, item in enumerate(root.iter("clipitem")):
        if item.find("file") is None and item.find("sequence") is None:
            ElementTree.SubElement(item, "file", {"id": f"offline-{number}"})


def _mend_fcp7(node: Node, notes: list[str]) -> None:
    said = node["metadata"].get("fcp_xml", {})
    if isinstance(said, dict) and str(said.get("enabled")).strip().upper() == "FALSE":
        node["enabled"] = False
    for index, effect in enumerate(node.get("effects") or []):
        told = effect["metadata"].get("fcp_xml", {})
        if told.get("effectid") != "timeremap" or _at_full_speed(told):
            continue
        words = f"{effect['name'] or 'Time Remap'} (speed {_parameter(told, 'speed') or 'unknown'})"
        node["effects"][index] = unknown_curve(words) | {"metadata": effect["metadata"]}
        notes.append(f"{node['name']}: {words}: FCP 7 XML does not say which frames are used; it is taken for a curve")


def _at_full_speed(told: Node) -> bool:
    """Whether a time remap changes nothing."""
    variable, reverse = (str(_parameter(told, name) or "").upper() for name in ("variablespeed", "reverse"))
    try:
        full = float(_parameter(told, "speed") or "nan") == 100
    except ValueError:
        return False
    return full and variable in ("", "0", "FALSE") and reverse in ("", "0", "FALSE")


def _parameter(told: Node, name: str) -> str | None:
    parameters = told.get("parameter", [])
    for parameter in parameters if isinstance(parameters, list) else [parameters]:
        if isinstance(parameter, dict) and parameter.get("parameterid") == name:
            value = parameter.get("value")
            return value if isinstance(value, str) else None
    return None


# --------------------------------------------------------------------------- FCPXML

OWNER = "\ue000"  # ends a marker's own name; the number of the element it belongs to follows
TAG = "\ue001"  # opens the name of the marker that numbers an element
TIMED = ("clip", "asset-clip", "ref-clip")
STORY = (*TIMED, "spine", "gap", "title", "generator", "video", "audio")  # stand in a storyline, or are connected to it
SOUND = " sound"  # ends the lane of what has no picture
REFUSED = {"mc-clip": "multicam clips", "sync-clip": "synchronised clips", "audition": "auditions"}
_SECONDS = re.compile(r"-?\d{1,18}(/\d{1,18}|\.\d{1,18})?s?")
TIMES = ("start", "duration", "offset", "tcStart")
NUDGE = Fraction(1, 10**6)  # seconds; the adapter cuts fractions off floats, and would lose a frame


@dataclass(frozen=True, slots=True)
class _Timed:
    """What the adapter does not read of one element.

    `at` and `length` are seconds in its sequence, which has `rate` frames a second.
    """

    enabled: bool
    retimed: bool
    at: Fraction
    length: Fraction | None
    rate: Fraction


def _read_fcpx(path: Path, raw: bytes) -> tuple[Node, tuple[str, ...], bool]:
    fcpx = adapter(*FCPX, path)
    root = ElementTree.fromstring(raw)
    projects = list(root.iter("project"))
    if not projects:
        fix = "export the project (File > Export XML), not clips or an event without one"
        raise unreadable(f"{path.name} holds clips, and no timeline", path, fix=fix)
    _refuse_unread(root, path)
    empty = [project.get("name", "") for project in projects if project.find("./sequence/spine") is None]
    if empty:
        what = f"{path.name} has a project without a storyline ({empty[0]!r})"
        raise unreadable(what, path, fix="export the project (File > Export XML) from Final Cut Pro again")
    _name_media(root)
    _read_generators_as_gaps(root)
    notes = list(_lost(root))
    pulled = _count_plainly(root, path)
    starts = [_start(project.find("sequence"), root) for project in projects]
    _begin_compounds_at_zero(root)
    _read_clips_as_media(root)
    for sequence in root.iter("sequence"):
        _lay_out(sequence, root)
    drop = any(sequence.get("tcFormat") == "DF" for project in projects for sequence in project.iter("sequence"))
    timed = _number(root)
    plain = ElementTree.Element("fcpxml", {"version": root.get("version", "1.8")})
    plain.extend(root.findall("resources"))
    ElementTree.SubElement(plain, "event", {"name": path.stem}).extend(projects)
    text = ElementTree.tostring(plain, encoding="unicode")
    document = translated(path, lambda: fcpx.read_from_string(text))
    for timeline, start in zip(timelines(document), starts, strict=True):
        if start is not None:
            timeline["global_start_time"] = start
        for node in list(items(timeline["tracks"])):
            if is_a(node, "Track"):
                _space(node, timed)
        for node in items(timeline["tracks"]):
            _mend_fcpx(node, timed)
            if is_a(node, "Stack"):
                node["children"].sort(key=lambda track: _lane_order(track["name"]))
                for track in node["children"]:
                    track["kind"] = "Audio" if track["name"].endswith(SOUND) else "Video"
    if pulled:
        _at_pulled_rates(document)
    children = document["children"]
    return children[0] if len(children) == 1 else document, tuple(notes), drop


def _refuse_unread(root: ElementTree.Element, path: Path) -> None:
    found = Counter(words for tag, words in REFUSED.items() for _ in root.iter(tag))
    if found:
        what = ", ".join(f"{count} {words}" for words, count in found.items())
        fix = "break them apart in Final Cut Pro, or export .otio or FCP 7 XML from another application"
        raise unreadable(f"{path.name} has {what}, which are not read from FCPXML", path, fix=fix)


def _lost(root: ElementTree.Element) -> Iterator[str]:
    """What is left out of the reading and does not change which frames are rendered, in words."""
    for tag, words in (
        ("transition", "transitions: handles cover them, and the returned cut has cuts in their place"),
        ("title", "titles"),
        ("generator", "generators"),
    ):
        count = sum(1 for _ in root.iter(tag))
        if count:
            yield f"FCPXML is read without its {count} {words}"


def _name_media(root: ElementTree.Element) -> None:
    """Addresses where the adapter looks for them; from FCPXML 1.9 on they stand in a media-rep."""
    for asset in root.iter("asset"):
        files = sorted(asset.findall("media-rep"), key=lambda file: file.get("kind") != "original-media")
        address = next((file.get("src") for file in files if file.get("src")), None)
        if address and not asset.get("src"):
            asset.set("src", address)


def _seconds(written: str | None) -> Fraction | None:
    """A time as FCPXML writes it: 1001/24000s, 5s; None without one."""
    if written is None:
        return None
    if not _SECONDS.fullmatch(written.strip()):
        raise ValueError(f"{written[:40]!r} is no time")
    return Fraction(written.strip().removesuffix("s"))


def _count_plainly(root: ElementTree.Element, path: Path) -> bool:
    """Times made such that the adapter, which counts in whole frames a second, counts right.

    Of 24000/1001, 30000/1001 and 60000/1001 frames a second it would make 23, 29 and 59. Where all formats are of that
    family every time is shortened by 1000/1001: the same frames at 24, 30 and 60, told as true.
    """
    try:
        formats = {format.get("id"): _seconds(format.get("frameDuration")) for format in root.iter("format")}
        rates = {exact_rate(1 / duration) for duration in formats.values() if duration}
        sequences = (formats.get(sequence.get("format")) for sequence in root.findall(".//project/sequence"))
        usual = next((duration for duration in sequences if duration), Fraction(1, 24))  # of stills, which have none
        pulled = {rate.denominator == 1001 for rate in rates}
        if len(pulled) > 1 or any(rate.denominator not in (1, 1001) for rate in rates):
            shown = ", ".join(f"{float(rate):.5g}" for rate in sorted(rates))
            raise unreadable(
                f"{path.name} mixes frame rates its adapter cannot count together ({shown})",
                path,
                fix="export the timeline as OpenTimelineIO (.otio) or FCP 7 XML from another application",
            )
        scale = Fraction(1000, 1001) if True in pulled else Fraction(1)
        for element in root.iter():
            for key in TIMES:
                seconds = _seconds(element.get(key))
                if seconds is not None:
                    element.set(key, _as_time(seconds * scale))
        for format in root.iter("format"):
            duration = _seconds(format.get("frameDuration")) or usual
            format.set("frameDuration", f"100/{round(1 / (duration * scale)) * 100}s")
    except (ValueError, ZeroDivisionError) as error:
        raise unreadable(f"{path.name} has a time that cannot be read: {error}", path) from None
    return True in pulled


def _as_time(seconds: Fraction) -> str:
    return f"{seconds.numerator}/{seconds.denominator}s"


def _start(sequence: ElementTree.Element | None, root: ElementTree.Element) -> Node | None:
    """A project's start timecode as a timeline's start, its spine counted from 0 instead; None without one."""
    written = _begin_at_zero(sequence)
    if sequence is None or written is None:
        return None
    formats = {format.get("id"): _seconds(format.get("frameDuration")) for format in root.iter("format")}
    rate = 1 / (formats.get(sequence.get("format")) or Fraction(1, 24))
    return {"OTIO_SCHEMA": "RationalTime.1", "rate": float(rate), "value": float(round(written * rate))}


def _begin_at_zero(sequence: ElementTree.Element | None) -> Fraction | None:
    """Count a spine from 0 in place of its start timecode, which is returned, in seconds."""
    written = None if sequence is None else _seconds(sequence.get("tcStart"))
    if sequence is not None and written:
        for element in sequence.findall("./spine/*"):
            _shift(element, "offset", -written)
    return written


def _begin_compounds_at_zero(root: ElementTree.Element) -> None:
    for media in root.findall("./resources/media"):
        sequence = media.find("sequence")
        written = _begin_at_zero(sequence)
        if not written:
            continue
        for element in root.iter("ref-clip"):
            if element.get("ref") == media.get("id"):
                _shift(element, "start", -written)


def _shift(element: ElementTree.Element, key: str, by: Fraction) -> None:
    seconds = _seconds(element.get(key))
    if seconds is not None:
        element.set(key, _as_time(seconds + by))


def _read_generators_as_gaps(root: ElementTree.Element) -> None:
    """Elements of no media, which the adapter fails on, made ones it passes over; stills made clips.

    A `video` that is no part of a `clip` has a place and a length of its own, as an asset-clip does.
    """
    effects = {effect.get("id") for effect in root.iter("effect")}
    for parent in list(root.iter()):
        for element in parent:
            if element.get("ref") in effects:
                del element.attrib["ref"]
                element.tag = "generator" if element.tag in ("video", "audio") else element.tag
            elif element.tag == "video" and (parent.tag not in ("clip", "video") or element.get("lane")):
                element.tag = "asset-clip"


def _read_clips_as_media(root: ElementTree.Element) -> None:
    """Make a `clip` that holds a video an asset-clip of that video, in the time of its media.

    The adapter takes the sound inside a clip for a clip of its own, and the start of a clip for that of its media. An
    asset-clip that does not say its start and duration has those of its asset.
    """
    assets = {asset.get("id"): asset for asset in root.iter("asset")}
    for asset in assets.values():
        if asset.get("hasVideo") is None and not _has_sound(asset):
            asset.set("hasVideo", "1")
    for element in root.iter("clip"):
        video = next((child for child in element.findall("video") if not child.get("lane")), None)
        if video is None or video.get("ref") is None:
            continue
        shift = (_seconds(video.get("start")) or Fraction(0)) - (_seconds(video.get("offset")) or Fraction(0))
        element.set("start", element.get("start", "0s"))
        _shift(element, "start", shift)
        for child in element:
            _shift(child, "start" if child.tag.endswith("marker") else "offset", shift)
        element.remove(video)
        element.extend(child for child in video if child.tag != "audio")
        element.tag = "asset-clip"
        element.set("ref", video.get("ref", ""))
    for element in root.iter("asset-clip"):
        asset = assets.get(element.get("ref"))
        for key in ("start", "duration") if asset is not None else ():
            if element.get(key) is None and asset is not None and asset.get(key) is not None:
                element.set(key, str(asset.get(key)))


def _has_sound(asset: ElementTree.Element) -> bool:
    return any(asset.get(key) not in (None, "0") for key in ("hasAudio", "audioSources", "audioChannels"))


@dataclass(frozen=True, slots=True)
class _Placed:
    """An item of a storyline in the time of its sequence, on a lane named from the primary storyline up."""

    element: ElementTree.Element
    at: Fraction
    lane: tuple[str, ...]


def _lay_out(sequence: ElementTree.Element, root: ElementTree.Element) -> None:
    """Put every item of a sequence on its spine, at its own time and lane: the adapter mistakes both of nested ones."""
    spine = sequence.find("spine")
    if spine is None:
        return
    silent = {asset.get("id") for asset in root.iter("asset") if asset.get("hasVideo", "0") == "0"}
    placed = list(_placed(spine, Fraction(0), ()))
    for child in list(spine):
        spine.remove(child)
    for item in placed:
        element = item.element
        for child in list(element):
            if child.tag in STORY:
                element.remove(child)
        sound = element.tag == "clip" or element.get("ref") in silent or element.get("srcEnable") == "audio"
        element.set("offset", _as_time(item.at))
        element.set("lane", "/".join(item.lane or ("0",)) + (SOUND if sound else ""))
        if element.tag == "clip" and element.find("audio") is None:
            continue
        spine.append(element)


def _placed(spine: ElementTree.Element, begins: Fraction, lane: tuple[str, ...]) -> Iterator[_Placed]:
    """The timed items of a storyline whose time 0 is `begins`, and what is connected to them."""
    after = Fraction(0)
    for element in spine:
        if element.tag not in STORY:
            continue
        offset = _seconds(element.get("offset"))
        offset = after if offset is None else offset
        after = offset + (_seconds(element.get("duration")) or Fraction(0))
        yield from _connected(element, begins + offset, lane)


def _connected(element: ElementTree.Element, at: Fraction, lane: tuple[str, ...]) -> Iterator[_Placed]:
    if element.tag in TIMED:
        yield _Placed(element, at, lane)
    start = _seconds(element.get("start")) or Fraction(0)
    for child in element:
        if child.tag not in STORY or element.tag == "clip":
            continue
        begins = at + (_seconds(child.get("offset")) or Fraction(0)) - start
        above = (*lane, child.get("lane", "0"))
        if child.tag == "spine":
            yield from _placed(child, begins, above)
        else:
            yield from _connected(child, begins, above)


def _lane_order(name: str) -> tuple[int, ...]:
    """Where a track stands from the bottom: connected clips above or below what they are connected to."""
    numbers = [int(lane) for lane in name.removesuffix(SOUND).split("/") if re.fullmatch(r"-?\d{1,9}", lane)]
    return (*numbers, *[0] * (MOST_LEVELS - len(numbers)))


def _number(root: ElementTree.Element) -> list[_Timed]:
    """Give each timed element a marker that numbers it, its own markers that number, and what it leaves unsaid."""
    timed: list[_Timed] = []
    rates: dict[ElementTree.Element, Fraction] = {}
    formats = {format.get("id"): _seconds(format.get("frameDuration")) for format in root.iter("format")}
    for sequence in root.iter("sequence"):
        rates |= dict.fromkeys(
            sequence.findall("./spine/*"), 1 / (formats.get(sequence.get("format")) or Fraction(1, 24))
        )
    for element in list(root.iter()):
        if element.tag not in TIMED:
            continue
        conform = element.find("conform-rate")
        scaled = conform is not None and conform.get("scaleEnabled", "1") != "0"
        retimed = scaled or element.find("timeMap") is not None
        for marker in element.findall("marker"):
            marker.set("value", f"{marker.get('value', '')}{OWNER}{len(timed)}")
        tag = ElementTree.Element("marker", {"start": "0s", "duration": "0s", "value": f"{TAG}{len(timed)}"})
        element.insert(0, tag)
        timed.append(
            _Timed(
                enabled=element.get("enabled") != "0",
                retimed=retimed,
                at=_seconds(element.get("offset")) or Fraction(0),
                length=_seconds(element.get("duration")),
                rate=rates.get(element, Fraction(24)),
            )
        )
    for element in root.iter():
        for key in (key for key in TIMES if element.get(key) is not None):
            seconds = _seconds(element.get(key)) or Fraction(0)
            element.set(key, _as_time(seconds + NUDGE) if seconds > 0 else _as_time(seconds))
    return timed


def _own_number(node: Node) -> str | None:
    return next((marker["name"][1:] for marker in node.get("markers", []) if marker["name"].startswith(TAG)), None)


def _space(track: Node, timed: list[_Timed]) -> None:
    """Gaps between the items of a track as the XML has them, and lengths rounded and not cut to frames.

    The adapter counts the frames of a gap at the rate of the media after it.
    """
    spaced: list[Node] = []
    after = Fraction(0)
    for node in track["children"]:
        own = _own_number(node)
        if own is None:
            continue
        element = timed[int(own)]
        duration = node["source_range"]["duration"]
        if element.length is not None:
            duration["value"] = float(round(element.length * Fraction(str(duration["rate"]))))
        missing = round((element.at - after) * element.rate)
        if missing > 0:
            spaced.append(gap(missing, element.rate))
            after += missing / element.rate
        spaced.append(node)
        after += Fraction(str(duration["value"])) / Fraction(str(duration["rate"]))
    track["children"] = spaced


def _mend_fcpx(node: Node, timed: list[_Timed]) -> None:
    """A reading with what its element says, and its own markers only."""
    own = _own_number(node)
    if own is None:
        return
    kept: list[Node] = []
    for marker in node["markers"]:
        name, found, owner = marker["name"].partition(OWNER)
        if found and owner == own:
            kept.append(marker | {"name": name})
    node["markers"] = kept
    element = timed[int(own)]
    node["enabled"] = element.enabled
    if element.retimed:
        node["effects"].append(unknown_curve("timeMap"))


def _at_pulled_rates(node: Any) -> None:
    """The times of a document at n*1000/1001 frames a second, which were read at n."""
    if isinstance(node, list):
        for child in node:
            _at_pulled_rates(child)
    elif isinstance(node, dict):
        if str(node.get("OTIO_SCHEMA")).startswith("RationalTime."):
            node["rate"] = float(Fraction(round(node["rate"]) * 1000, 1001))
        for child in node.values():
            _at_pulled_rates(child)
