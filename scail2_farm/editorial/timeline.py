"""Any cut as our Edit: every video clip of it, rendered or not, with the plate frames it uses.

The parsed JSON is walked, whatever file it came from (`formats`). OpenTimelineIO is asked whether it can load it as
well, so that nothing is rendered for a cut that cannot be returned (`takes` writes it back). What cannot be rendered
exactly is a fault of its clip, and matters only if the clip is cast.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from scail2_farm.documents import PathMapping, Tracks
from scail2_farm.editorial.clips import Clip, Marker, MediaReference, Used
from scail2_farm.editorial.formats import BUNDLES, Opened, open_cut
from scail2_farm.editorial.nesting import Around, Span, sample
from scail2_farm.editorial.otiojson import (
    COMPOSITIONS,
    EFFECTS,
    ITEMS,
    Node,
    Place,
    bindings_fault,
    choose_timeline,
    dict_of,
    flag_of,
    list_of,
    marker_of,
    parse,
    range_of,
    schema_of,
    spelled,
    text_of,
    time_of,
    unreadable,
)
from scail2_farm.editorial.rates import Range, Time
from scail2_farm.editorial.retimes import MOST_UNKNOWN, Sampling, Warp, read_warp
from scail2_farm.editorial.sources import KEY, Source, Sources, is_ours, reel_of, space_of
from scail2_farm.errors import ClipUnsupported, FarmError, Where
from scail2_farm.frames import timecode

__all__ = ["KEY", "LONGEST_ID", "Clip", "Edit", "Marker", "MediaReference", "Used", "is_ours", "read_edit", "slug"]

LONGEST_ID = 80
NONE = Fraction(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Our reading of one timeline.

    `rate` is the timeline's (of its start time, else of most of its clips, 24 for a cut that has no time at all),
    `start` its first frame, 0 when it gives none. `document` is the cut as OTIO JSON and is never changed; relative
    addresses in it are taken in `folder`, None when nothing says where that is. `notes` are readings worth telling
    that are of no single clip.
    """

    path: Path
    folder: Path | None
    name: str
    rate: Fraction
    start: int
    clips: tuple[Clip, ...]
    document: Node
    notes: tuple[str, ...] = ()
    drop_frame: bool = False


# --------------------------------------------------------------------------- reading the file


def read_edit(
    path: Path,
    *,
    timeline: str | None = None,
    tracks: Tracks | None = None,
    path_map: Sequence[PathMapping] = (),
    source_dir: Path | None = None,
    rate: Fraction | None = None,
    prefer: Sequence[str] = (),
    include_disabled: bool = False,
) -> Edit:
    """Read a cut; `timeline` chooses one by name when the file holds several, `rate` is that of an EDL.

    Relative media, and a relative `to` of `path_map`, is taken under `source_dir`, else beside the file; that of a
    bundle is where it was opened. `tracks` chooses video tracks by name; a track without a name is called V1, V2 from
    the bottom. `prefer` are globs over the keys of media references, the best first: such a reference is rendered from
    in place of the active one. Raises TimelineUnreadable, StorageError, or SettingsInvalid when an adapter is not
    installed.
    """
    opened = open_cut(path, rate=rate)
    place, node = choose_timeline(opened.document, timeline, path)
    folder = opened.folder / source_dir if source_dir and path.suffix.lower() not in BUNDLES else opened.folder
    reading = _Reading(
        path=path,
        sources=Sources(path, folder, tuple(path_map), prefer),
        tracks=tracks or Tracks(),
        include_disabled=include_disabled,
    )
    theirs = bindings_fault(opened.document, path)  # asked first, while little memory is held, and told after our own
    edit = reading.read(opened, place, node)
    if theirs is not None:
        raise theirs
    return edit


def read_fragment(path: Path, *, path_map: Sequence[PathMapping] = ()) -> Edit:
    """A file that holds a lone clip, track or stack, read as if it stood in a timeline of its own.

    A submission is never one; studios keep such files, and their pipelines' expectations are tested against them.
    Raises as read_edit does.
    """
    node = parse(path)
    schema = schema_of(node, ITEMS, path, ())
    track = node if schema != "Clip" else {"OTIO_SCHEMA": "Track.1", "kind": "Video", "name": "", "children": [node]}
    stack: Node = {"OTIO_SCHEMA": "Stack.1", "name": "tracks", "children": [track]}
    document: Node = {"OTIO_SCHEMA": "Timeline.1", "name": path.stem, "tracks": stack}
    folder = path.absolute().parent
    reading = _Reading(path=path, sources=Sources(path, folder, tuple(path_map), ()), tracks=Tracks())
    return reading.read(Opened(document=document, folder=folder), (), document)


# --------------------------------------------------------------------------- walking the cut


@dataclass(frozen=True, slots=True, kw_only=True)
class _Within:
    """Where an item stands: its track, the compounds around it, and what it inherits from them."""

    around: Around
    track: str = ""
    track_index: int = 0
    path: tuple[str, ...] = ()
    skipped: str | None = None
    constructs: tuple[str, ...] = ()
    unknown: bool = False
    lanes: tuple[_Lane, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spot:
    """Where an item stands in its compound: seconds `at`, None when unknown, and what transitions reach past it."""

    at: Fraction | None = NONE
    before: Fraction = NONE
    after: Fraction = NONE
    constructs: tuple[str, ...] = ()


_AT_THE_START = _Spot()


class _Lane:
    """The markers of one track or stack, found by the record time they touch."""

    def __init__(self, marked: list[tuple[Fraction, Fraction, Marker]]):
        self.marked = sorted(marked, key=lambda one: one[:2])
        self.starts = [first for first, _, _ in self.marked]
        self.longest = max(until - first for first, until, _ in self.marked)

    def touching(self, record: Span) -> Iterator[Marker]:
        """The markers that touch a record span; a point touches the span it is in."""
        first, until = record
        for index in range(bisect_left(self.starts, first - self.longest), bisect_left(self.starts, until)):
            start, end, marker = self.marked[index]
            if end > first or start == first:
                yield marker


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One pass over a timeline's video tracks."""

    path: Path
    sources: Sources
    tracks: Tracks
    include_disabled: bool = False
    clips: list[tuple[Clip, Span | None, Fraction | None]] = field(
        default_factory=list[tuple[Clip, "Span | None", "Fraction | None"]]
    )
    rates: Counter[Fraction] = field(default_factory=Counter["Fraction"])
    lengths: dict[int, Fraction | None] = field(default_factory=dict[int, "Fraction | None"])
    notes: list[str] = field(default_factory=list[str])

    def read(self, opened: Opened, place: Place, timeline: Node) -> Edit:
        stack = timeline.get("tracks")
        place = (*place, "tracks")
        if stack is not None:
            schema_of(stack, {"Stack": 1}, self.path, place)
        try:
            start = time_of(timeline, "global_start_time", self.path, place[:-1])
        except ValueError as error:
            raise unreadable(f"the timeline has no usable start: {error}", self.path) from None
        begins = start.seconds if start else NONE
        self._tracks(stack or {}, place, begins)
        usual = self.rates.most_common(1)
        rate = start.exact if start else usual[0][0] if usual else Fraction(24)
        if not self.clips:
            self.notes.append("the timeline holds no clips with a picture")
        return Edit(
            path=self.path,
            folder=self.sources.folder,
            name=text_of(timeline, "name", self.path, place[:-1]) or self.path.stem,
            rate=rate,
            start=round(begins * rate),
            clips=tuple(
                _finished(id, *draft, rate)
                for id, draft in zip(_ids([clip for clip, _, _ in self.clips]), self.clips, strict=True)
            ),
            document=opened.document,
            notes=(*opened.notes, *self.notes),
            drop_frame=opened.drop_frame,
        )

    def _tracks(self, stack: Node, place: Place, begins: Fraction) -> None:
        """The top of the cut: its tracks from bottom to top."""
        outside = _Within(around=Around(origin=begins))
        top = self._compound(stack, place, _AT_THE_START, outside) if stack else outside
        top = replace(top, path=(), lanes=self._timeline_lane(stack, place, top, begins))
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
            self._item(child, spot, _AT_THE_START, within)

    def _ignored(self, child: object, place: Place) -> bool:
        """Whether an item is a track of sound or other essence."""
        schema = schema_of(child, ITEMS | {"Transition": 1}, self.path, place)
        assert isinstance(child, dict)
        if schema not in ("Track", "Sequence"):
            return schema == "Transition"
        return (text_of(child, "kind", self.path, place) or "Video") != "Video"

    def _item(self, node: Node, place: Place, spot: _Spot, within: _Within) -> None:
        schema = schema_of(node, ITEMS, self.path, place)
        if schema == "Clip":
            self._clip(node, place, spot, within)
        elif schema in COMPOSITIONS:
            top = len(place) > 2 and place[-3] == "tracks"
            inside = self._compound(node, place, spot, within)
            name = text_of(node, "name", self.path, place)
            inside = replace(inside, path=within.path if top or not name else (*within.path, name))
            self._children(node, place, schema, inside)

    def _children(self, node: Node, place: Place, schema: str, inside: _Within) -> None:
        """The items of a compound: one after the other in a track, on top of one another in a stack."""
        children = list_of(node, "children", self.path, place)
        one_after_other = schema != "Stack"
        head, tail = inside.around.edges
        spots = [index for index, child in enumerate(children) if not self._ignored(child, (*place, "children", index))]
        at: Fraction | None = NONE
        for index in spots:
            child, where = children[index], (*place, "children", index)
            spot = _Spot(before=head, after=tail) if head or tail else _AT_THE_START
            if one_after_other:
                before = head if index == spots[0] else NONE
                after = tail if index == spots[-1] else NONE
                spot = self._between(children, index, place, _Spot(at=at, before=before, after=after))
            self._item(child, where, spot, inside)
            if one_after_other:
                length = self._length(child, where)
                at = None if at is None or length is None else at + length

    def _between(self, children: list[Any], index: int, place: Place, spot: _Spot) -> _Spot:
        """A place in a track with what the transitions either side of it show of the item there."""
        for near, key in ((index - 1, "in_offset"), (index + 1, "out_offset")):
            if not 0 <= near < len(children):
                continue
            node, where = children[near], (*place, "children", near)
            if not isinstance(node, dict) or not str(node.get("OTIO_SCHEMA")).startswith("Transition."):
                continue
            try:
                reach = time_of(node, key, self.path, where)
                seconds = reach.seconds if reach is not None else NONE
                if seconds < 0:
                    raise ValueError(f"its {key} is negative")
            except ValueError as error:
                kind = text_of(node, "transition_type", self.path, where) or "transition"
                spot = replace(spot, constructs=(*spot.constructs, f"a {kind} beside it of which {error}"))
                continue
            if key == "in_offset":
                spot = replace(spot, before=max(spot.before, seconds))
            else:
                spot = replace(spot, after=max(spot.after, seconds))
        return spot

    def _compound(self, node: Node, place: Place, spot: _Spot, within: _Within) -> _Within:
        """What a compound does to the items in it."""
        name = text_of(node, "name", self.path, place) or spelled(place)
        warp, strange = read_warp(node, self.path, place)
        constructs = [*within.constructs, *spot.constructs]
        constructs += [f"{words} on the compound {name} around it" for words in strange]
        skipped = within.skipped
        if not flag_of(node, "enabled", self.path, place) and not self.include_disabled:
            skipped = skipped or f"{name} is disabled"
        around, trim = within.around, None
        try:
            trim = range_of(node, "source_range", self.path, place)
            reach = spot.before, spot.after
            length = self._length(node, place)
            around = around.entered(at=spot.at, length=length, trim=trim, warp=warp, before=reach)
        except ValueError as error:
            constructs.append(f"the compound {name} around it: {error}")
        inside = replace(
            within,
            around=around,
            skipped=skipped,
            constructs=tuple(constructs),
            unknown=within.unknown or warp.unknown,
        )
        on: Literal["track", "timeline"] = (
            "timeline" if schema_of(node, ITEMS, self.path, place) == "Stack" else "track"
        )
        marked = [] if place[-1] == "tracks" else list(self._marked(node, place, around, on))
        return replace(inside, lanes=(*within.lanes, _Lane(marked))) if marked else inside

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
            key, reference = self.sources.chosen(node, place)
            if reference is None:
                return None
            available = range_of(reference, "available_range", self.path, (*place, key))
            return available.duration.seconds if available else None
        if schema in ("Gap", "Filler"):
            return NONE
        lengths: list[Fraction] = []
        for index, child in enumerate(list_of(node, "children", self.path, place)):
            spot = (*place, "children", index)
            if schema_of(child, ITEMS | {"Transition": 1}, self.path, spot) == "Transition":
                continue
            length = self._length(child, spot)
            if length is None:
                return None
            lengths.append(length)
        return max(lengths, default=NONE) if schema == "Stack" else sum(lengths, NONE)

    # ------------------------------------------------------------------- markers

    def _timeline_lane(self, stack: Node, place: Place, top: _Within, begins: Fraction) -> tuple[_Lane, ...]:
        """The markers of the timeline itself; Avid keeps some on the gaps of a track without pictures.

        They count from the timeline's first frame; some applications count them from midnight as the record does.
        """
        marked = list(self._marked(stack, place, top.around, "timeline"))
        for index, track in enumerate(list_of(stack, "children", self.path, place)):
            where = (*place, "children", index)
            if self._ignored(track, where) and text_of(track, "kind", self.path, where) != "Audio":
                for number, gap in enumerate(list_of(track, "children", self.path, where)):
                    if isinstance(gap, dict) and str(gap.get("OTIO_SCHEMA")).startswith("Gap."):
                        marked += self._marked(gap, (*where, "children", number), top.around, "timeline")
        length = self._length(stack, place) if stack and marked and begins else None
        if length is not None:
            until = begins + length
            marked = [
                (first - begins, last - begins, marker)
                if first >= until and first - begins < until
                else (first, last, marker)
                for first, last, marker in marked
            ]
        return (_Lane(marked),) if marked else ()

    def _marked(
        self, node: Node, place: Place, around: Around, on: Literal["clip", "track", "timeline"]
    ) -> Iterator[tuple[Fraction, Fraction, Marker]]:
        """The markers of an item and the record span each stands on, where that can be told."""
        if not node.get("markers"):
            return
        for index, marker in enumerate(list_of(node, "markers", self.path, place)):
            spot = (*place, "markers", index)
            name, color = marker_of(marker, self.path, spot)
            try:
                marked = range_of(marker, "marked_range", self.path, spot)
            except ValueError:
                marked = None
            first = marked.start.seconds if marked is not None else NONE
            span = around.recorded((first, first + marked.duration.seconds)) if marked is not None else None
            if span is not None:
                yield (*span, Marker(name=name, color=color, on=on))
            else:
                self.notes.append(f"the marker {name!r} stands at no time and marks no clip ({spelled(spot)})")

    def _markers(self, node: Node, place: Place, within: _Within, record: Span | None) -> tuple[Marker, ...]:
        """A clip's own markers, whatever their time (EDLs put record timecode there), then those it touches."""
        own: list[Marker] = []
        if node.get("markers"):
            for index, marker in enumerate(list_of(node, "markers", self.path, place)):
                name, color = marker_of(marker, self.path, (*place, "markers", index))
                own.append(Marker(name=name, color=color, on="clip"))
        if record is not None:
            for lane in reversed(within.lanes):
                own += lane.touching(record)
        return tuple(own)

    # ------------------------------------------------------------------- one clip

    def _clip(self, node: Node, place: Place, spot: _Spot, within: _Within) -> None:
        name = text_of(node, "name", self.path, place)
        source = self.sources.read(node, place)
        warp, strange = read_warp(node, self.path, place)
        constructs = [*within.constructs, *spot.constructs, *strange, *source.constructs]
        notes = [*source.notes, *self._unknown_effects(node, place)]
        enabled = flag_of(node, "enabled", self.path, place)
        skipped = within.skipped
        if not enabled and not self.include_disabled:
            skipped = skipped or "the clip is disabled"
        skipped = skipped or source.skipped
        try:
            trim = range_of(node, "source_range", self.path, place)
        except ValueError as error:
            constructs.append(str(error))
            trim = None
        if trim is not None:
            self.rates[trim.rate] += 1
        shown = _Shown(source.media, trim, warp, within, spot)
        try:
            shown.reckon()
        except ValueError as error:
            constructs.append(str(error))
        relative = shown.relative
        if relative:
            notes.append("the source range counts from the start of the media")
        media, rate = source.media, shown.rate
        if media is not None and media.rate is not None and rate is not None and media.rate != rate:
            notes.append(f"{float(media.rate):.6g} in {float(rate):.6g}")
        reel = reel_of(node, source.reference)
        where = Where(file=str(self.path), clip=name or spelled(place))
        clip = Clip(
            id="",
            name=name,
            track=within.track,
            track_index=within.track_index,
            path=within.path,
            place=place,
            enabled=enabled,
            skipped=skipped or shown.skipped,
            media=media,
            offline=source.offline,
            policy=source.policy,
            faults=tuple(self._faults(source, constructs, where, shown, reel)),
            notes=(*notes, *shown.notes),
            markers=self._markers(node, place, within, shown.record),
            reel=reel,
            space=space_of(node, source.reference),
            record_start=None,
            record_count=0,
            rate=rate or NONE,  # the timeline's, which is known at the end
            source_start=shown.start,
            source_count=shown.sampling.count if shown.start is not None else None,
            speed=shown.speed,
            sampling=shown.sampling,
            relative=relative,
            metadata=dict_of(node, "metadata", self.path, place),
            file=str(self.path),
        )
        self.clips.append((clip, shown.record, shown.seconds))

    def _faults(
        self, source: Source, constructs: list[str], where: Where, shown: _Shown, reel: str | None
    ) -> Iterator[FarmError]:
        if constructs:
            yield ClipUnsupported(
                f"the clip has {'; '.join(constructs)}",
                fix="bake or remove it, or leave the clip uncast",
                where=where,
            )
        for fault in source.faults:
            if source.offline and shown.start is not None:
                code = timecode(round(shown.start.value), shown.start.exact)
                known = f"reel {reel}, source timecode {code}" if reel else f"source timecode {code}"
                fault = type(fault)(f"{fault.what}; {known}", why=fault.why, fix=fault.fix)
            fault.where = where
            yield fault

    def _unknown_effects(self, node: Node, place: Place) -> list[str]:
        """The effects this version has never heard of; like an NLE's own they are taken to leave time alone."""
        if not node.get("effects"):
            return []
        schemas = [str(effect["OTIO_SCHEMA"]) for effect in list_of(node, "effects", self.path, place)]
        unknown = [schema for schema in schemas if schema.partition(".")[0] not in EFFECTS]
        return [f"the effect {schema} is not known and taken to leave time alone" for schema in unknown]


def _finished(id: str, clip: Clip, span: Span | None, seconds: Fraction | None, rate: Fraction) -> Clip:
    """The clip with its id and its place in the record, once the whole cut is read."""
    first = None if span is None else round(span[0] * rate)
    length = seconds if span is None or seconds is None else span[1] - span[0]
    own = clip.rate or (clip.media.rate if clip.media and clip.media.rate else rate)
    count = 0 if length is None else round(length * rate)
    return replace(clip, id=id, record_start=first, record_count=count, rate=own)


# --------------------------------------------------------------------------- what is shown of one clip


_WHOLE = Sampling(kind="whole")
SLOWEST_PICTURES = 4
"""Frames a second; times at fewer count seconds."""


@dataclass(slots=True)
class _Shown:
    """What the cut shows of a clip: its start in its own time, how its media is sampled, and where in the record.

    `start` is None when the edit does not say how long the clip is.
    """

    media: MediaReference | None
    trim: Range | None
    warp: Warp
    within: _Within
    spot: _Spot
    start: Time | None = None
    sampling: Sampling = _WHOLE
    rate: Fraction | None = None
    record: Span | None = None
    seconds: Fraction | None = None
    skipped: str | None = None
    relative: bool = False
    notes: list[str] = field(default_factory=list[str])

    @property
    def speed(self) -> Fraction | None:
        """The clip's own speed times that of the compounds around it; None for a curve."""
        around = self.within.around.speed
        return None if around is None or self.warp.speed is None else around * self.warp.speed

    def reckon(self) -> None:
        """Find all of it. Raises ValueError, in words, for what cannot be told."""
        own_trim, trim = self.trim is not None, self.trim
        if trim is None and self.media is not None and self.media.start is not None and self.media.length is not None:
            trim = Range(self.media.start, Time(Fraction(self.media.length), self.media.start.rate))
        around = self.within.around
        if trim is None:
            self._unmeasured(around)
            return
        trim = self._at_picture_rate(trim)
        self.rate = trim.rate
        self.start, self.seconds = trim.start, trim.duration.seconds
        if trim.frames < 1:
            self.skipped = "the clip has no frames"
            self.record = self._whole_record(NONE)
            self.sampling = Sampling()
            return
        if self.spot.at is None and (around.window is not None or around.frozen):
            raise ValueError("an unknown place in a trimmed compound")
        part = around.part(self.spot.at, self.seconds, self.spot.before, self.spot.after)
        if part is None or (not part.seconds and not around.frozen):
            self.skipped = "trimmed out by the compound"
            self.record = self._whole_record(self.seconds)
            self.sampling = Sampling()
            self.seconds = NONE
            return
        self.record, self.seconds = part.record, part.seconds
        self.start, self.sampling = sample(part, trim, self.warp, around=around, own_trim=own_trim)
        self.relative = self.media is not None and _is_relative(self.start, trim, self.media)
        self._tell(own_trim, trim)
        if part.doubtful or any(self.sampling.slack):
            self.notes.append(_DOUBT)

    def _at_picture_rate(self, trim: Range) -> Range:
        """A source range that counts seconds (some writers give the rate 1) in frames of its media."""
        if trim.rate >= SLOWEST_PICTURES:
            return trim
        rate = self.media.rate if self.media is not None else None
        if rate is None or rate < SLOWEST_PICTURES:
            raise ValueError(f"times of {float(trim.rate):g} frames a second, which is no rate of pictures")
        start, length = trim.start.seconds * rate, trim.duration.seconds * rate
        return Range(Time(start, rate), Time(length, rate))

    def _unmeasured(self, around: Around) -> None:
        """A clip of which neither the cut nor its media says the length: all of its media."""
        if around.window is not None or around.frozen:
            raise ValueError("no length of its own, in a trimmed compound")
        if self.spot.at is not None and around.origin is not None:
            self.record = around.recorded((self.spot.at, self.spot.at))
        if self.warp.speed == 0:
            self.sampling = Sampling(kind="freeze")
        elif self.warp.unknown:
            self.sampling = Sampling(kind="whole", limited=True)

    def _whole_record(self, length: Fraction) -> Span | None:
        if self.spot.at is None:
            return None
        place = self.within.around.recorded((self.spot.at, self.spot.at + length))
        return None if place is None else (place[0], place[0])

    def _tell(self, own_trim: bool, trim: Range) -> None:
        if self.warp.unknown:
            self.notes.append("its retime is a curve that is not in the edit: all of its media is rendered")
        elif self.within.unknown:
            self.notes.append(
                "a compound around it is retimed by a curve that is not in the edit: all of it is rendered"
            )
            if trim.frames > MOST_UNKNOWN:
                raise ValueError(f"{trim.frames} frames in a compound retimed by a curve that is not in the edit")
        elif not own_trim and self.sampling.kind == "span":
            self.notes.append("it is retimed and has no source range: all of its media is rendered")


_DOUBT = "applications disagree what a retimed compound shows of its items: what any of them shows is rendered"


def _is_relative(start: Time, trim: Range, media: MediaReference) -> bool:
    """Whether a source range counts from 0 while the media counts from its first file number (older AYON exports)."""
    if media.start is None or media.pattern is None or media.frames is None:
        return False
    if media.start.value != media.frames.first or trim.start.seconds >= media.start.seconds:
        return False
    return 0 <= start.seconds * media.start.exact < media.frames.count


# --------------------------------------------------------------------------- shot ids


def slug(name: str) -> str:
    """A name as letters, digits, dots, underscores and hyphens; `clip` when nothing of it is left."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")
    return kept[:LONGEST_ID].rstrip("._-") or "clip"


def _ids(clips: Sequence[Clip]) -> list[str]:
    """The shot id of each clip.

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
    return [ids[index] for index in range(len(clips))]
