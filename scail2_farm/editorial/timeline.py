"""Any cut as our Edit: every video clip of it, rendered or not, with the plate frames it uses.

The parsed JSON (`otiojson`) is walked. OpenTimelineIO is asked whether it can load the file as well, so that nothing is
rendered for a cut that cannot be returned (`takes` writes it back). What this version cannot render exactly is a fault
of its clip, and matters only if the clip is cast.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any

from scail2_farm.documents import PathMapping, Tracks
from scail2_farm.editorial.otiojson import (
    COMPOSITIONS,
    DEFAULT_KEY,
    EFFECTS,
    ITEMS,
    MEDIA,
    Node,
    Place,
    choose_timeline,
    dict_of,
    flag_of,
    list_of,
    load_through_bindings,
    mistyped,
    parse,
    range_of,
    schema_of,
    spelled,
    text_of,
    time_of,
    unreadable,
    whole_of,
)
from scail2_farm.editorial.paths import MOST_DIGITS, MOVIES, local_path, locate
from scail2_farm.editorial.rates import Range, Time, frame_of, offset, sampled
from scail2_farm.errors import ClipUnsupported, FarmError, PlateMissing, TimelineUnreadable, Where
from scail2_farm.frames import FramePattern, FrameRange

KEY = "scail2_farm"  # our media reference, and our metadata on it
LONGEST_ID = 80
STILLS = frozenset({".png", ".jpg", ".jpeg", ".exr", ".dpx", ".tif", ".tiff", ".tga", ".bmp", ".psd", ".gif"})


# --------------------------------------------------------------------------- what an edit is


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaReference:
    """The source media of a clip: a movie or still (`path`) or an image sequence (`pattern`).

    `frames` are file numbers of a sequence, or frames from 0 of a movie; None when the edit does not say. `start` is
    the time of the first of them in the media's own time, as written; None without an available range. Neither path
    nor pattern is given when the clip has a fault that says why.
    """

    key: str
    url: str
    path: Path | None = None
    pattern: FramePattern | None = None
    rate: Fraction | None = None
    frames: FrameRange | None = None
    start: Time | None = None
    length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One video clip of the cut, rendered or not.

    `id` is unique in the edit and fit for file names, `place` the path in the JSON document. `record_start` counts
    timeline frames from the timeline's own start, None when an earlier clip has no known length; `record_count` is 0
    until then. `source_start` and `source_count` are what the cut uses (trimmed by every compound around the clip),
    in the clip's own rate; None means all of media of unknown length. `notes` are readings worth telling.
    """

    id: str
    name: str
    track: str
    track_index: int
    place: Place
    enabled: bool
    skipped: str | None
    media: MediaReference | None
    faults: tuple[FarmError, ...]
    notes: tuple[str, ...]
    record_start: int | None
    record_count: int
    rate: Fraction
    source_start: Time | None
    source_count: int | None
    relative: bool
    metadata: Mapping[str, object]
    file: str

    @property
    def fault(self) -> FarmError | None:
        """The first reason why this clip cannot be rendered, None when there is none."""
        return self.faults[0] if self.faults else None

    def used_frames(self, probed: FrameRange | None = None, probed_start: int | None = None) -> FrameRange:
        """The plate frames the cut uses, in the plate's numbering: file numbers, or frames from 0 of a movie.

        `probed` is what the media really holds and `probed_start` the timecode of its first frame in frames since
        midnight. Without an available range in the edit both decide where the media starts; nothing is taken for 0.
        Raises ClipUnsupported or PlateMissing.
        """
        if self.faults:
            raise self.faults[0]
        media = self.media
        assert media is not None, "a clip without media has a fault"
        if self.source_start is None or self.source_count is None:
            if probed is None:
                raise self._missing("the edit does not say how long the media is, and it was not probed")
            return probed
        readings = list(self._readings(media, self.source_start, probed, probed_start))
        if not readings:
            raise self._missing(f"which file of {media.url} is the first cannot be told from the edit")
        limits = probed if probed is not None else media.frames
        if limits is None:
            return readings[0]
        fitting = next((used for used in readings if limits.covers(used)), None)
        if fitting is None:
            raise self._beyond(readings[0], limits)
        return fitting

    def media_timecode(self, frames: FrameRange) -> int | None:
        """The timecode of the plate's `frames.first` in frames since midnight, as the edit has it.

        None without one: an available range that starts at 0 or at the sequence's own first number counts frames.
        """
        media = self.media
        if media is None or media.start is None or media.frames is None or media.start.value < 1:
            return None
        if media.pattern is not None and media.start.value == media.frames.first:
            return None
        return frame_of(media.start.value) + frames.first - media.frames.first

    def _readings(
        self, media: MediaReference, start: Time, probed: FrameRange | None, probed_start: int | None
    ) -> Iterator[FrameRange]:
        """The possible meanings of the cut's start, the likeliest first."""
        if media.start is not None:
            first = self._first_number(media, media.start, probed, probed_start)
            if first is not None:
                step = media.start.exact / self.rate
                position = offset(start, Time(Fraction(0), media.start.rate) if self.relative else media.start)
                yield sampled(first + position, count=self.source_count or 0, step=step)
            return
        if probed is None:
            raise self._missing("the edit gives no available range, and the media was not probed")
        rate = media.rate or self.rate
        step = rate / self.rate
        origins: list[tuple[int, int]] = []
        if probed_start is not None:
            origins.append((probed_start, probed.first))
        if media.pattern is not None:
            origins.append((0, 0))
        elif probed_start is None:
            origins.append((0, probed.first))
        for value, first in origins:
            position = first + offset(start, Time(Fraction(value), rate))
            yield sampled(position, count=self.source_count or 0, step=step)

    def _first_number(
        self, media: MediaReference, start: Time, probed: FrameRange | None, probed_start: int | None
    ) -> int | None:
        """The plate frame that the available range starts at."""
        length = media.length or 0
        if media.frames is not None:
            if media.pattern is None and probed is not None and probed_start is not None and length < probed.count:
                # the edit knows a part of the movie: its timecode says which
                within = frame_of(offset(start, Time(Fraction(probed_start), start.rate)))
                if 0 <= within <= probed.count - length:
                    return probed.first + within
            return media.frames.first
        if probed is None:
            raise self._missing("the first number of the sequence is not in the edit, and it was not probed")
        number = frame_of(start.value)
        if probed.covers(FrameRange(number, length)):
            return number
        return probed.first if probed.count == length else None

    def _missing(self, what: str) -> PlateMissing:
        url = self.media.url if self.media else ""
        return PlateMissing(f"{what} ({url})" if url not in what else what, where=self.where)

    def _beyond(self, used: FrameRange, limits: FrameRange) -> PlateMissing:
        head = min(used.count, max(0, limits.first - used.first))
        tail = min(used.count, max(0, used.last - limits.last))
        ends = [f"{count} at the {end}" for count, end in ((head, "head"), (tail, "tail")) if count]
        return PlateMissing(
            f"the cut uses frames {used}, the media has {limits}: missing {' and '.join(ends)}",
            fix="relink the clip to media that covers the cut, or trim the clip",
            where=self.where,
        )

    @property
    def where(self) -> Where:
        """The clip as the place of a fault."""
        return Where(file=self.file, clip=self.name or self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Our reading of one timeline.

    `rate` is the timeline's (of its start time, else of most of its clips, 24 for a cut that has no time at all),
    `start` its first frame, 0 when it gives none. `document` is the parsed file and is never changed.
    """

    path: Path
    name: str
    rate: Fraction
    start: int
    clips: tuple[Clip, ...]
    document: Node


# --------------------------------------------------------------------------- reading the file


def read_edit(
    path: Path,
    *,
    timeline: str | None = None,
    tracks: Tracks | None = None,
    path_map: Sequence[PathMapping] = (),
    source_dir: Path | None = None,
) -> Edit:
    """Read a cut; `timeline` chooses one by name when the file holds several.

    Relative media is taken under `source_dir`, else beside the file. `tracks` chooses video tracks by name; a track
    without a name is called V1, V2 from the bottom. Raises TimelineUnreadable or StorageError.
    """
    if path.suffix.lower() != ".otio":
        raise TimelineUnreadable(
            f"{path.name} is not an .otio file",
            why="this version reads OpenTimelineIO files (.otio)",
            fix="export the timeline as OpenTimelineIO (.otio) from the NLE",
            where=Where(file=str(path)),
        )
    document = parse(path)
    place, node = choose_timeline(document, timeline, path)
    folder = path.absolute().parent
    reading = _Reading(path, folder / source_dir if source_dir else folder, tuple(path_map), tracks or Tracks())
    edit = reading.read(document, place, node)
    load_through_bindings(document, path)
    return edit


# --------------------------------------------------------------------------- walking the cut


@dataclass(frozen=True, slots=True, kw_only=True)
class _Within:
    """What the compounds around an item do to it.

    `origin` is the record time of the compound's own zero, `window` the visible part of its own time (None: all), both
    in seconds. `skipped` and `constructs` are inherited reasons.
    """

    track: str
    track_index: int
    origin: Fraction | None
    window: tuple[Fraction, Fraction] | None = None
    skipped: str | None = None
    constructs: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reading:
    """One pass over a timeline's video tracks."""

    path: Path
    folder: Path
    path_map: tuple[PathMapping, ...]
    tracks: Tracks
    clips: list[tuple[Clip, Fraction | None, Fraction | None]] = field(
        default_factory=list[tuple[Clip, "Fraction | None", "Fraction | None"]]
    )
    rates: Counter[Fraction] = field(default_factory=Counter["Fraction"])
    lengths: dict[int, Fraction | None] = field(default_factory=dict[int, "Fraction | None"])

    def read(self, document: Node, place: Place, timeline: Node) -> Edit:
        stack = timeline.get("tracks")
        place = (*place, "tracks")
        if stack is not None:
            schema_of(stack, {"Stack": 1}, self.path, place)
        try:
            start = time_of(timeline, "global_start_time", self.path, place[:-1])
        except ValueError as error:
            raise unreadable(f"the timeline has no usable start: {error}", self.path) from None
        begins = start.seconds if start else Fraction(0)
        self._tracks(stack or {}, place, begins)
        usual = self.rates.most_common(1)
        rate = start.exact if start else usual[0][0] if usual else Fraction(24)
        placed = [
            replace(
                clip,
                record_start=None if record is None else round(record * rate),
                record_count=0 if length is None else round(length * rate),
                rate=clip.rate or (clip.media.rate if clip.media and clip.media.rate else rate),
            )
            for clip, record, length in self.clips
        ]
        return Edit(
            path=self.path,
            name=text_of(timeline, "name", self.path, place[:-1]) or self.path.stem,
            rate=rate,
            start=round(begins * rate),
            clips=_with_ids(placed),
            document=document,
        )

    def _tracks(self, stack: Node, place: Place, begins: Fraction) -> None:
        """The top of the cut: its tracks from bottom to top."""
        top = self._compound(stack, place, at=Fraction(0), within=_Within(track="", track_index=0, origin=begins))
        number = 0
        for index, child in enumerate(list_of(stack, "children", self.path, place)):
            spot = (*place, "children", index)
            if self._ignored(child, spot):
                continue
            number += 1
            name = text_of(child, "name", self.path, spot) or f"V{number}"
            within = replace(top, track=name, track_index=number)
            chosen = any(fnmatchcase(name, glob) for glob in self.tracks.include)
            if not chosen or any(fnmatchcase(name, glob) for glob in self.tracks.exclude):
                within = replace(within, skipped=within.skipped or f"the track {name} is left out by `tracks`")
            self._item(child, spot, at=Fraction(0), within=within)

    def _ignored(self, child: object, place: Place) -> bool:
        """Whether an item is a track of sound or other essence."""
        schema = schema_of(child, ITEMS | {"Transition": 1}, self.path, place)
        assert isinstance(child, dict)
        kind = text_of(child, "kind", self.path, place) or "Video"
        return schema == "Transition" or (schema in ("Track", "Sequence") and kind != "Video")

    def _item(self, node: Node, place: Place, *, at: Fraction | None, within: _Within) -> None:
        schema = schema_of(node, ITEMS, self.path, place)
        if schema == "Clip":
            self._clip(node, place, at=at, within=within)
        elif schema in COMPOSITIONS:
            inside = self._compound(node, place, at=at, within=within)
            self._children(node, place, schema, inside)

    def _children(self, node: Node, place: Place, schema: str, inside: _Within) -> None:
        """The items of a compound: one after the other in a track, on top of one another in a stack."""
        children = list_of(node, "children", self.path, place)
        one_after_other = schema != "Stack"
        at: Fraction | None = Fraction(0)
        for index, child in enumerate(children):
            spot = (*place, "children", index)
            if self._ignored(child, spot):
                continue
            within = inside
            if one_after_other:
                blends = tuple(self._blends(children, index, place))
                within = replace(inside, constructs=inside.constructs + blends) if blends else inside
            self._item(child, spot, at=at, within=within)
            if one_after_other:
                length = self._length(child, spot)
                at = None if at is None or length is None else at + length

    def _blends(self, children: list[Any], index: int, place: Place) -> Iterator[str]:
        """The transitions either side of an item of a track."""
        for near, side in ((index - 1, "head"), (index + 1, "tail")):
            if 0 <= near < len(children):
                spot = (*place, "children", near)
                if schema_of(children[near], ITEMS | {"Transition": 1}, self.path, spot) == "Transition":
                    kind = text_of(children[near], "transition_type", self.path, spot) or "transition"
                    yield f"a {kind} at its {side}"

    def _compound(self, node: Node, place: Place, *, at: Fraction | None, within: _Within) -> _Within:
        """What a compound does to the items in it."""
        name = text_of(node, "name", self.path, place) or spelled(place)
        constructs = list(within.constructs)
        constructs += [f"{effect} on the compound {name} around it" for effect in self._retimes(node, place)]
        if at is None and within.window is not None:
            constructs.append(f"an item without a length before {name}, in a trimmed compound")
        skipped = within.skipped
        if not flag_of(node, "enabled", self.path, place):
            skipped = skipped or f"{name} is disabled"
        try:
            trim = range_of(node, "source_range", self.path, place) if node else None
        except ValueError as error:
            constructs.append(f"the compound {name}: {error}")
            trim = None
        begins = trim.start.seconds if trim else Fraction(0)
        window: tuple[Fraction, Fraction] | None = None
        if trim is not None:
            window = begins, begins + trim.duration.seconds
        if within.window is not None and at is not None:
            low, high = (edge - at + begins for edge in within.window)
            window = (low, high) if window is None else (max(low, window[0]), min(high, window[1]))
        if len(constructs) > len(within.constructs):
            window = None  # under a retime the trim is not in the items' own time; nothing is left out by it
        origin = None if at is None or within.origin is None else within.origin + at - begins
        return replace(within, origin=origin, window=window, skipped=skipped, constructs=tuple(constructs))

    def _retimes(self, node: Node, place: Place) -> Iterator[str]:
        """The effects of an item that change its time, in words."""
        for index, effect in enumerate(list_of(node, "effects", self.path, place)):
            spot = (*place, "effects", index)
            if not isinstance(effect, dict) or not isinstance(effect.get("OTIO_SCHEMA"), str):
                raise mistyped(self.path, place, "effects", effect, "a list of effects")
            schema = effect["OTIO_SCHEMA"].partition(".")[0]
            if schema not in EFFECTS or schema == "Effect" or not flag_of(effect, "enabled", self.path, spot):
                continue
            schema_of(effect, EFFECTS, self.path, spot)
            scalar = effect.get("time_scalar", 0 if schema == "FreezeFrame" else 1)
            if schema == "FreezeFrame":
                yield "a FreezeFrame"
            elif schema != "LinearTimeWarp":
                yield f"a {schema} ({text_of(effect, 'name', self.path, spot) or 'no name'})"
            elif isinstance(scalar, bool) or scalar != 1:
                yield f"a LinearTimeWarp of {scalar}"

    def _unknown_effects(self, node: Node, place: Place) -> list[str]:
        """The effects this version has never heard of; like an NLE's own they are taken to leave time alone."""
        schemas = [str(effect["OTIO_SCHEMA"]) for effect in list_of(node, "effects", self.path, place)]
        unknown = [schema for schema in schemas if schema.partition(".")[0] not in EFFECTS]
        return [f"the effect {schema} is not known and taken to leave time alone" for schema in unknown]

    def _length(self, node: Node, place: Place) -> Fraction | None:
        """The seconds an item lasts in its parent; None when the file does not say."""
        if id(node) not in self.lengths:
            try:
                self.lengths[id(node)] = self._measure(node, place)
            except ValueError:
                self.lengths[id(node)] = None
        return self.lengths[id(node)]

    def _measure(self, node: Node, place: Place) -> Fraction | None:
        schema = schema_of(node, ITEMS, self.path, place)
        trim = range_of(node, "source_range", self.path, place)
        if trim is not None:
            return trim.duration.seconds
        if schema == "Clip":
            key, reference = self._source(node, place)
            if reference is None:
                return None
            available = range_of(reference, "available_range", self.path, (*place, key))
            return available.duration.seconds if available else None
        if schema in ("Gap", "Filler"):
            return Fraction(0)
        lengths: list[Fraction] = []
        for index, child in enumerate(list_of(node, "children", self.path, place)):
            spot = (*place, "children", index)
            if schema_of(child, ITEMS | {"Transition": 1}, self.path, spot) == "Transition":
                continue
            length = self._length(child, spot)
            if length is None:
                return None
            lengths.append(length)
        return max(lengths, default=Fraction(0)) if schema == "Stack" else sum(lengths, Fraction(0))

    # ------------------------------------------------------------------- one clip

    def _clip(self, node: Node, place: Place, *, at: Fraction | None, within: _Within) -> None:
        where = Where(file=str(self.path), clip=text_of(node, "name", self.path, place) or spelled(place))
        faults: list[FarmError] = []
        notes: list[str] = []
        constructs = [*within.constructs, *self._retimes(node, place)]
        key, reference = self._source(node, place)
        media = self._media(node, key, reference, place, constructs, faults, notes)
        enabled = flag_of(node, "enabled", self.path, place)
        skipped = within.skipped or (None if enabled else "the clip is disabled")
        if reference is not None and str(reference["OTIO_SCHEMA"]).startswith("GeneratorReference."):
            skipped = skipped or "a generator has no media to render from"
            constructs.append("a generator as its media")
        notes += self._unknown_effects(node, place)
        try:
            trim = range_of(node, "source_range", self.path, place)
        except ValueError as error:
            constructs.append(str(error))
            trim = None
        if trim is not None:
            self.rates[trim.duration.exact] += 1
        used = self._used(trim, media, at, within, constructs)
        if used is not None and used.frames < 1:
            skipped = skipped or (
                "the clip has no frames" if trim and trim.frames < 1 else "trimmed out by the compound"
            )
        record = None
        if within.origin is not None and at is not None:
            record = within.origin + at + (used.head if used else 0)
        relative = bool(used and media and _is_relative(used, media))
        if relative:
            notes.append("the source range counts from the start of the media")
        if used and media and media.rate is not None and media.rate != used.rate:
            notes.append(f"{float(media.rate):.6g} in {float(used.rate):.6g}")
        if constructs:
            faults.insert(0, _unsupported(constructs, where))
        clip = Clip(
            id="",
            name=text_of(node, "name", self.path, place),
            track=within.track,
            track_index=within.track_index,
            place=place,
            enabled=enabled,
            skipped=skipped,
            media=media,
            faults=tuple(_placed(fault, where) for fault in faults),
            notes=tuple(notes),
            record_start=None,
            record_count=0,
            rate=used.rate if used else Fraction(0),  # the timeline's, which is known at the end
            source_start=used.start if used else None,
            source_count=used.frames if used else None,
            relative=relative,
            metadata=dict_of(node, "metadata", self.path, place),
            file=str(self.path),
        )
        if not clip.faults and media is not None and media.frames is not None and clip.source_start is not None:
            clip = _checked(clip)
        self.clips.append((clip, record, used.seconds if used else None))

    def _used(
        self,
        trim: Range | None,
        media: MediaReference | None,
        at: Fraction | None,
        within: _Within,
        constructs: list[str],
    ) -> _Used | None:
        """What of the clip is seen through every compound around it; None when its length is not in the file."""
        if trim is None and media is not None and media.start is not None and media.length is not None:
            trim = Range(media.start, Time(Fraction(media.length), media.start.rate))
        if trim is None:
            if within.window is not None:
                constructs.append("no length of its own, in a trimmed compound")
            return None
        head, seconds = Fraction(0), trim.duration.seconds
        if within.window is not None and at is not None:
            low, high = within.window
            head = max(Fraction(0), low - at)
            seconds = max(Fraction(0), min(high, at + seconds) - max(low, at))
        elif within.window is not None:
            constructs.append("an unknown place in a trimmed compound")
        rate = trim.duration.exact
        return _Used(trim.start.later(head), round(seconds * rate), rate, head, seconds)

    def _source(self, node: Node, place: Place) -> tuple[str, Node | None]:
        """The key and the media reference the cut was made with: the active one, and never one of our own takes."""
        if schema_of(node, {"Clip": 2}, self.path, place) and node["OTIO_SCHEMA"] == "Clip.1":
            return DEFAULT_KEY, self._reference(node.get("media_reference"), (*place, "media_reference"))
        key = text_of(node, "active_media_reference_key", self.path, place) or DEFAULT_KEY
        references = dict_of(node, "media_references", self.path, place)
        active = references.get(key)
        ours = _our_metadata(active)
        if ours is not None:
            before = ours.get("active_before")
            others = [name for name, reference in references.items() if not is_ours(reference)]
            for candidate in (before, DEFAULT_KEY, others[0] if len(others) == 1 else None):
                if candidate in others:
                    key, active = str(candidate), references[candidate]
                    break
            else:
                return key, None
        return key, self._reference(active, (*place, "media_references", key))

    def _reference(self, reference: object, place: Place) -> Node | None:
        if reference is None:
            return None
        schema_of(reference, MEDIA, self.path, place)
        assert isinstance(reference, dict)
        return reference

    def _media(
        self,
        node: Node,
        key: str,
        reference: Node | None,
        place: Place,
        constructs: list[str],
        faults: list[FarmError],
        notes: list[str],
    ) -> MediaReference | None:
        """The clip's media, with what is wrong with it in `constructs`, `faults` and `notes`."""
        references = dict_of(node, "media_references", self.path, place)
        if KEY in references and references[KEY] is not None and not is_ours(references[KEY]):
            constructs.append(f"a media reference named {KEY} that is none of our takes")
        if reference is None:
            known = ", ".join(repr(name) for name in references) or "none"
            faults.append(
                PlateMissing(f"the clip has no media under {key!r} (media references: {known})", fix="relink the clip")
            )
            return None
        schema = reference["OTIO_SCHEMA"].partition(".")[0]
        spot = (*place, "media_references", key)
        try:
            available = range_of(reference, "available_range", self.path, spot)
        except ValueError as error:
            constructs.append(f"media of which {error}")
            available = None
        if available is not None and available.frames < 1:
            notes.append("the available range is empty and not used")
            available = None
        start, length = (available.start, available.frames) if available else (None, None)
        if available and available.duration.exact != available.start.exact:
            length = round(available.duration.seconds * available.start.exact)
        media = MediaReference(key=key, url="", rate=start.exact if start else None, start=start, length=length)
        try:
            if schema == "ExternalReference":
                return self._external(reference, spot, media, constructs)
            if schema == "ImageSequenceReference":
                return self._sequence(reference, spot, media, constructs)
        except PlateMissing as fault:
            faults.append(fault)
            return replace(media, url=self._url(reference, spot))
        if schema != "GeneratorReference":
            name = text_of(reference, "name", self.path, spot)
            what = f"the media is offline ({schema}{f' {name!r}' if name else ''})"
            faults.append(PlateMissing(what, fix="relink the clip and export the timeline again"))
        return media

    def _url(self, reference: Node, place: Place) -> str:
        return text_of(reference, "target_url", self.path, place) or text_of(
            reference, "target_url_base", self.path, place
        )

    def _external(self, reference: Node, place: Place, media: MediaReference, constructs: list[str]) -> MediaReference:
        url = text_of(reference, "target_url", self.path, place)
        found = locate(url, folder=self.folder, path_map=self.path_map)
        if found.path is not None and found.path.suffix.lower() in STILLS - MOVIES:
            constructs.append(f"one still picture ({found.path.name}) as its media")
        frames = FrameRange(0, media.length) if media.length is not None and found.pattern is None else None
        if found.frames is not None:
            frames = found.frames if media.length is None else FrameRange(found.frames.first, media.length)
        return replace(media, url=url, path=found.path, pattern=found.pattern, frames=frames)

    def _sequence(self, reference: Node, place: Place, media: MediaReference, constructs: list[str]) -> MediaReference:
        base = text_of(reference, "target_url_base", self.path, place)
        prefix = text_of(reference, "name_prefix", self.path, place)
        suffix = text_of(reference, "name_suffix", self.path, place)
        first = whole_of(reference, "start_frame", 1, self.path, place)
        step = whole_of(reference, "frame_step", 1, self.path, place)
        padding = whole_of(reference, "frame_zero_padding", 0, self.path, place)
        if step != 1:
            constructs.append(f"an image sequence with a frame_step of {step}")
        if not 0 <= padding <= MOST_DIGITS or "\0" in prefix + suffix or "/" in suffix:
            raise PlateMissing(f"{prefix}#{suffix} with {padding} digits is no name of an image sequence")
        folder = local_path(base or ".", folder=self.folder, path_map=self.path_map)
        start = folder / prefix if "/" in prefix else folder
        pattern = FramePattern(start.parent, start.name, max(1, padding), suffix)
        if start is folder:
            pattern = FramePattern(folder, prefix, max(1, padding), suffix)
        rate = media.rate
        if rate is None:
            written = reference.get("rate")
            try:
                rate = Time.read(0, written).exact if written is not None else None
            except ValueError:
                rate = None
            rate = rate if rate is not None and rate > 1 else None  # 1.0 stands in real files that are not 1 fps
        frames = FrameRange(first, media.length) if media.length is not None else None
        name = f"{base}{'' if not base or base.endswith('/') else '/'}{prefix}{'#' * max(1, padding)}{suffix}"
        return replace(media, url=name, pattern=pattern, rate=rate, frames=frames)


@dataclass(frozen=True, slots=True)
class _Used:
    """What the cut shows of a clip: its start in the clip's time, frames at `rate`, and what a compound cut off."""

    start: Time
    frames: int
    rate: Fraction
    head: Fraction
    seconds: Fraction


def _our_metadata(reference: object) -> Node | None:
    """What we wrote on a reference of ours; None for any other."""
    metadata = reference.get("metadata") if isinstance(reference, dict) else None
    ours = metadata.get(KEY) if isinstance(metadata, dict) else None
    return ours if isinstance(ours, dict) else None


def is_ours(reference: object) -> bool:
    """Whether a media reference is a take of ours."""
    return _our_metadata(reference) is not None


def _is_relative(used: _Used, media: MediaReference) -> bool:
    """Whether a source range counts from 0 while the media counts from its first file number (older AYON exports)."""
    if media.start is None or media.pattern is None or media.frames is None:
        return False
    if media.start.value != media.frames.first or used.start.seconds >= media.start.seconds:
        return False
    return 0 <= used.start.seconds * media.start.exact < media.frames.count


def _unsupported(constructs: Sequence[str], where: Where) -> ClipUnsupported:
    return ClipUnsupported(
        f"the clip has {'; '.join(constructs)}",
        why="this version renders clips at their own speed, without transitions, and never silently the wrong frames",
        fix="bake or remove it, or leave the clip uncast",
        where=where,
    )


def _placed(fault: FarmError, where: Where) -> FarmError:
    fault.where = where
    return fault


def _checked(clip: Clip) -> Clip:
    """The clip with a fault when the cut uses frames the edit says the media does not have."""
    try:
        clip.used_frames()
    except FarmError as fault:
        return replace(clip, faults=(fault,))
    return clip


# --------------------------------------------------------------------------- shot ids


def slug(name: str) -> str:
    """A name as letters, digits, dots, underscores and hyphens; `clip` when nothing of it is left."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")
    return kept[:LONGEST_ID].rstrip("._-") or "clip"


def _with_ids(clips: Sequence[Clip]) -> tuple[Clip, ...]:
    """Each clip with its shot id.

    Of clips whose names come to one slug, the first that is rendered keeps it; the others get a hash of what they
    show, so that their ids outlive a re-order. Letter case does not tell two ids apart, as on most disks.
    """
    order = sorted(range(len(clips)), key=lambda index: (clips[index].skipped is not None, index))
    taken: set[str] = set()
    ids: dict[int, str] = {}
    for index in order:
        clip = clips[index]
        plain = slug(clip.name)
        candidate, again = plain, 0
        while candidate.casefold() in taken:
            media = clip.media.url if clip.media else ""
            content = f"{clip.name}|{media}|{clip.source_start}|{clip.source_count}|{again}"
            candidate = f"{plain}-{hashlib.sha256(content.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"
            again += 1
        taken.add(candidate.casefold())
        ids[index] = candidate
    return tuple(replace(clip, id=ids[index]) for index, clip in enumerate(clips))
