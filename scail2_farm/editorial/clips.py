"""A clip of the cut, and the plate frames it needs.

What the edit says is settled when it is read; what the media really holds is known once it is probed. `Clip.used`
brings the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

from scail2_farm.documents import MOST_HANDLES, Handles, Missing
from scail2_farm.editorial.otiojson import Place
from scail2_farm.editorial.rates import Time, ceiled, frame_of, offset
from scail2_farm.editorial.retimes import MOST_UNKNOWN, Sampling
from scail2_farm.errors import ClipUnsupported, FarmError, PlateMissing, Where
from scail2_farm.frames import FramePattern, FrameRange


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaReference:
    """The source media of a clip: a movie or still (`path`) or an image sequence (`pattern`).

    `frames` are frames of the pattern, or frames from 0 of a movie; None when the edit does not say. `start` is the
    time of the first of them in the media's own time, as written; None without an available range. Neither path nor
    pattern is given when the clip has a fault that says why.
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
class Marker:
    """A marker that is on a clip or touches it; `color` is as written, empty when none is."""

    name: str
    color: str
    on: Literal["clip", "track", "timeline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """The plate frames a clip needs rendered, without handles.

    `frames` may reach beyond the media where a policy stands in for it. `start` is the time of the first of them in
    the coordinates of the cut's source range. `notes` tell what was clamped or stood in for.
    """

    frames: FrameRange
    start: Time
    notes: tuple[str, ...] = ()

    def time_of(self, frame: int) -> Time:
        """The time of any plate frame, as a media reference that begins there gives it."""
        return Time(self.start.value + (frame - self.frames.first), self.start.rate)


class _Origin(NamedTuple):
    """Plate frame `frame` is at `time`."""

    frame: int
    time: Time


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One video clip of the cut, rendered or not.

    `id` is unique in the edit and fit for file names, `place` the path in the JSON document, `path` the names of the
    compounds around it inside its track. `record_start` counts timeline frames from the timeline's own start, None
    when an earlier clip has no known length; `record_count` is 0 until then. `source_start` and `source_count` are the
    media the cut shows (trimmed by every compound around the clip, counted through every retime), in the clip's own
    rate; None means all of media of unknown length. `speed` is the product of every time scalar on the clip and the
    compounds around it: 0 a freeze, None a curve. `policy` is what the sequence itself says of missing frames,
    `space` the colour space of the media in the edit's words. `offline` says that there is no media to be found
    (`faults` holds its PlateMissing). `notes` are readings worth telling.
    """

    id: str
    name: str
    track: str
    track_index: int
    path: tuple[str, ...] = ()
    place: Place
    enabled: bool
    skipped: str | None
    media: MediaReference | None
    offline: bool = False
    policy: Missing = "error"
    faults: tuple[FarmError, ...]
    notes: tuple[str, ...]
    markers: tuple[Marker, ...] = ()
    reel: str | None = None
    space: str | None = None
    record_start: int | None
    record_count: int
    rate: Fraction
    source_start: Time | None
    source_count: int | None
    speed: Fraction | None = Fraction(1)
    sampling: Sampling = field(default=Sampling(), repr=False)
    relative: bool
    metadata: Mapping[str, object]
    file: str

    @property
    def fault(self) -> FarmError | None:
        """The first reason why this clip cannot be rendered, None when there is none."""
        return self.faults[0] if self.faults else None

    @property
    def where(self) -> Where:
        """The clip as the place of a fault."""
        return Where(file=self.file, clip=self.name or self.id)

    def used(
        self,
        probed: FrameRange | None = None,
        probed_start: int | None = None,
        *,
        rate: Fraction | None = None,
        missing: Missing | None = None,
        strict: bool = False,
    ) -> Used:
        """The plate frames the cut needs, in the plate's numbering: frames of the pattern, or from 0 of a movie.

        `probed` is what the media really holds and `probed_start` the timecode of its first frame in frames since
        midnight. Without an available range in the edit both decide where the media starts; nothing is taken for 0.
        `rate` is what the media itself says it runs at, believed where the edit says nothing of it; a clip read at 24
        whose media says 23.976 is a rounded word for one rate, and is counted frame by frame. `missing` is the policy
        for frames beyond the media (default: the sequence's own); a transition beyond it is cut short, and with
        `strict` a fault. Raises ClipUnsupported or PlateMissing.
        """
        if self.faults:
            raise self.faults[0]
        media = self.media
        assert media is not None, "a clip without media has a fault"
        notes: list[str] = []
        if media.rate is None and rate is not None and round(rate) != round(self.rate):
            media = replace(media, rate=rate)
            notes.append(f"its media runs at {float(rate):.5g} frames a second, the clip at {float(self.rate):.5g}")
        limits = probed if probed is not None else media.frames
        if self.source_start is None or self.sampling.kind == "whole":
            return self._whole(media, limits, probed, probed_start)
        step = self._media_rate(media) / self.rate
        readings = [
            (origin, self.sampling.needed(origin.frame + offset(self.source_start, origin.time), step))
            for origin in self._origins(media, probed, probed_start)
        ]
        if not readings:
            raise self._missing(f"which file of {media.url} is the first cannot be told from the edit")
        origin, needed = next((one for one in readings if limits is None or limits.covers(one[1])), readings[0])
        if limits is not None and not limits.covers(needed):
            policy = missing or self.policy
            if policy == "error" or not limits.intersection(needed).count:
                raise self._beyond(needed, limits)
            notes.append(f"the cut uses {_past(needed, limits)}: {_STAND_INS[policy]}")
        frames = needed if limits is None else self._reached(needed, limits, step, strict, notes)
        if limits is None:
            frames = needed.grown(*self.sampling.reach(step)).grown(*self.sampling.spare(step))
        start = Time(origin.time.value + (frames.first - origin.frame), origin.time.rate)
        return Used(frames=frames, start=start, notes=tuple(notes))

    def handles(self, asked: Handles) -> Handles:
        """The handles asked for, in plate frames: what a faster clip shows in that time, none for a freeze.

        At most MOST_HANDLES. In reverse the frames before the cut are the plate's later ones.
        """
        if self.speed is None or self.speed == 1:
            return asked
        head, tail = (min(ceiled(n * abs(self.speed)), MOST_HANDLES) for n in (asked.head, asked.tail))
        return Handles(head=tail, tail=head) if self.speed < 0 else Handles(head=head, tail=tail)

    def with_media(self, found: Path | FramePattern) -> Clip:
        """The clip with media that was searched for in place of what the edit could not name."""
        pattern = found if isinstance(found, FramePattern) else None
        path = None if isinstance(found, FramePattern) else found
        before = self.media or MediaReference(key="", url="")
        media = replace(before, url=str(found), path=path, pattern=pattern, frames=None)
        faults = tuple(fault for fault in self.faults if not isinstance(fault, PlateMissing))
        notes = (*self.notes, f"its media was found by searching: {found}")
        return replace(self, media=media, offline=False, faults=faults, notes=notes)

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

    # ------------------------------------------------------------------- where the media starts

    def _media_rate(self, media: MediaReference) -> Fraction:
        return media.start.exact if media.start is not None else media.rate or self.rate

    def _origins(self, media: MediaReference, probed: FrameRange | None, probed_start: int | None) -> Iterator[_Origin]:
        """The possible meanings of the cut's source range, the likeliest first."""
        if media.start is not None:
            first = self._first_frame(media, media.start, probed, probed_start)
            if first is not None:
                yield _Origin(first, Time(Fraction(0), media.start.rate) if self.relative else media.start)
            return
        if probed is None:
            raise self._missing("the edit gives no available range, and the media was not probed")
        assert self.source_start is not None
        rate = self._media_rate(media)
        written = self.source_start.rate if self.source_start.exact == rate else rate
        if probed_start is not None:
            yield _Origin(probed.first, Time(Fraction(probed_start), written))
        if media.pattern is not None:
            yield _Origin(0, Time(Fraction(0), written))
        elif probed_start is None:
            yield _Origin(probed.first, Time(Fraction(0), written))

    def _first_frame(
        self, media: MediaReference, start: Time, probed: FrameRange | None, probed_start: int | None
    ) -> int | None:
        """The plate frame that the available range starts at."""
        length = media.length or 0
        if media.frames is not None and (media.pattern is not None or probed is None or length >= probed.count):
            return media.frames.first
        if probed is None:
            raise self._missing("the first number of the sequence is not in the edit, and it was not probed")
        if probed_start is not None:  # the edit knows a part of the media: its timecode says which
            within = frame_of(offset(start, Time(Fraction(probed_start), start.rate)))
            if 0 <= within <= probed.count - length:
                return probed.first + within
        if media.frames is not None:
            return media.frames.first
        number = frame_of(start.value)
        if media.pattern is not None and probed.covers(FrameRange(number, length)):
            return number
        return probed.first if probed.count == length else None

    # ------------------------------------------------------------------- how far it reaches

    def _whole(
        self, media: MediaReference, limits: FrameRange | None, probed: FrameRange | None, probed_start: int | None
    ) -> Used:
        """All of the media, or the one frame of it that a freeze shows."""
        if limits is None:
            raise self._missing("the edit does not say how long the media is, and it was not probed")
        if self.sampling.limited and limits.count > MOST_UNKNOWN:
            raise ClipUnsupported(
                f"the clip is retimed by a curve that is not in the edit, and its media has {limits.count} frames",
                why=f"all of the media is rendered for such a clip, up to {MOST_UNKNOWN} frames",
                fix="bake the retime into new media, or trim the media, and relink the clip",
                where=self.where,
            )
        frames = FrameRange(limits.first, min(1, limits.count)) if self.sampling.kind == "freeze" else limits
        start = Time(Fraction(0), self._media_rate(media))
        if media.start is not None or self.source_start is not None:
            origin = next(self._origins(media, probed, probed_start), None)
            if origin is None:
                raise self._missing(f"which file of {media.url} is the first cannot be told from the edit")
            start = Time(origin.time.value + frames.first - origin.frame, origin.time.rate)
        return Used(frames=frames, start=start)

    def _reached(
        self, needed: FrameRange, limits: FrameRange, step: Fraction, strict: bool, notes: list[str]
    ) -> FrameRange:
        """The needed frames and what transitions reach further, as far as there is media."""
        wanted = needed.grown(*self.sampling.reach(step))
        if wanted != needed:
            clamped = _within(wanted, limits, needed)
            if clamped != wanted:
                what = f"a transition reaches {_past(wanted, limits)}"
                if strict:
                    fix = "shorten the transition, or relink the clip to longer media"
                    raise PlateMissing(f"{what} ({limits})", fix=fix, where=self.where)
                notes.append(f"{what}: it is cut short there")
            wanted = clamped
        return _within(wanted.grown(*self.sampling.spare(step)), limits, wanted)

    def _missing(self, what: str) -> PlateMissing:
        url = self.media.url if self.media else ""
        return PlateMissing(f"{what} ({url})" if url not in what else what, where=self.where)

    def _beyond(self, used: FrameRange, limits: FrameRange) -> PlateMissing:
        return PlateMissing(
            f"the cut uses frames {used}, the media has {limits}: missing {_ends(used, limits)}",
            fix="relink the clip to media that covers the cut, trim the clip, or say `missing: hold` in the manifest",
            where=self.where,
        )


_STAND_INS: Mapping[Missing, str] = {"hold": "the nearest frame is held", "black": "they are black", "error": ""}


def _within(wanted: FrameRange, limits: FrameRange, kept: FrameRange) -> FrameRange:
    """What of `wanted` lies in the media; all of `kept` stays, whatever the media has."""
    first = max(wanted.first, min(limits.first, kept.first))
    return FrameRange.from_last(first, min(wanted.last, max(limits.last, kept.last)))


def _ends(wanted: FrameRange, limits: FrameRange) -> str:
    """How many frames of `wanted` lie before and after `limits`, in words."""
    sides = zip(_outside(wanted, limits), ("head", "tail"), strict=True)
    return " and ".join(f"{count} at the {end}" for count, end in sides if count)


def _past(wanted: FrameRange, limits: FrameRange) -> str:
    """How far `wanted` goes beyond the media, in words."""
    sides = zip(_outside(wanted, limits), ("before the media's first", "past the media's last"), strict=True)
    return " and ".join(f"{count} frame{'s' if count > 1 else ''} {side}" for count, side in sides if count)


def _outside(wanted: FrameRange, limits: FrameRange) -> tuple[int, int]:
    """How many frames of `wanted` lie before and after `limits`."""
    head, tail = limits.first - wanted.first, wanted.last - limits.last
    return min(wanted.count, max(0, head)), min(wanted.count, max(0, tail))
