"""Which clips a cast rule is for: every `when` is compiled once, then asked of each clip.

Globs heed upper and lower case, over media too: the disks of a farm do, and two plates may differ in nothing else.
Marker names and colours are compared in any case, because EDLs upper-case them. OUT of a timecode range is not
included, as in an EDL. A range that cannot be asked of a clip, because the edit does not say where the clip lies, does
not hold, and the casting has a note of it.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Literal

from scail2_farm.documents import SLOTS, CastRule, Loaded, ShotManifest, Slot, When
from scail2_farm.editorial.rates import frame_of
from scail2_farm.editorial.timeline import Clip, Edit, Marker, MediaReference
from scail2_farm.errors import FarmError, SubmissionInvalid, Where
from scail2_farm.frames import FrameRange, frame_at

Clock = Literal["record_tc", "source_tc"]
MOST_TOLD = 3  # marker names in the words of a rule

_CODE = r"\d{1,2}:\d{2}:\d{2}[:;.,]\d{2,3}"
_RANGE = re.compile(rf"\s*(?:(?P<into>{_CODE})\s*(?:\+|-\s*(?P<out>{_CODE}))|-\s*(?P<until>{_CODE}))\s*")
_CHARACTER = re.compile(r"(?<![^\W_])CHAR\s*:", re.IGNORECASE)


# --------------------------------------------------------------------------- a clip, as rules see it


class Seen:
    """What rules compare of a clip, each worked out once, when the first rule asks for it."""

    def __init__(self, clip: Clip):
        self.clip = clip

    @cached_property
    def markers(self) -> tuple[tuple[str, str, Marker], ...]:
        """The clip's markers, the name and the colour of each before it in folded case."""
        return tuple((marker.name.casefold(), marker.color.casefold(), marker) for marker in self.clip.markers)

    @cached_property
    def addresses(self) -> tuple[str, ...]:
        """What its media is called."""
        return _addresses(self.clip.media) if self.clip.media is not None else ()

    @property
    def record(self) -> FrameRange | None:
        """Its frames in the timeline's timecode; None when the edit does not say."""
        first, count = self.clip.record_start, self.clip.record_count
        return FrameRange(first, count) if first is not None and count > 0 else None

    @cached_property
    def source(self) -> tuple[FrameRange | None, Fraction]:
        """Its frames in the media's timecode, None when the edit does not say, and their rate."""
        return _source(self.clip)


def _addresses(media: MediaReference) -> tuple[str, ...]:
    """The media's address as written, its path on this machine, and the bare name of each."""
    forms = [media.url, re.split(r"[\\/]", media.url)[-1]]
    if media.path is not None:
        forms += [str(media.path), media.path.name]
    if media.pattern is not None:
        forms += [str(media.pattern), media.pattern.name_with_hashes]
    return tuple(dict.fromkeys(form for form in forms if form))


def _source(clip: Clip) -> tuple[FrameRange | None, Fraction]:
    """The frames of the media's timecode that the cut shows, through every retime, and their rate."""
    start, media = clip.source_start, clip.media
    if start is not None and clip.sampling.kind != "whole":
        frames = clip.sampling.needed(start.value, start.exact / clip.rate)
        return frames if frames.count else None, start.exact
    if media is None or media.start is None or media.length is None:
        return None, clip.rate
    return FrameRange(frame_of(media.start.value), media.length), media.start.exact


# --------------------------------------------------------------------------- timecode ranges


@dataclass(frozen=True, slots=True)
class TimecodeRange:
    """IN-OUT, IN+ or -OUT as written; None for the end that is open."""

    text: str
    into: str | None
    out: str | None

    @classmethod
    def read(cls, text: str) -> TimecodeRange:
        """The range in a text.

        Raises ValueError when it is none.
        """
        match = _RANGE.fullmatch(text)
        if match is None:
            raise ValueError("a range is written IN-OUT, IN+ or -OUT, each a timecode HH:MM:SS:FF")
        into, out = match["into"], match["out"] or match["until"]
        if into and out and _is_drop(into) != _is_drop(out):
            raise ValueError(f"one of {into} and {out} is drop-frame and the other is not")
        return cls(text.strip(), into, out)

    def frames(self, rate: Fraction, *, drop: bool) -> tuple[int | None, int | None]:
        """The first frame of the range and the first after it, since midnight.

        `drop` says that the clock is drop-frame even where it is written with colons, as in an EDL under FCM. Raises
        ValueError for a timecode that does not exist at the rate, and for a range without a frame.
        """
        first, end = (
            None if code is None else frame_at(_dropped(code) if drop else code, rate) for code in (self.into, self.out)
        )
        if first is not None and end is not None and end <= first:
            raise ValueError(
                f"{self.text} holds no frame: OUT comes after IN (past midnight hours count on: 24:00:00:00)"
            )
        return first, end


def _is_drop(code: str) -> bool:
    return ";" in code or "," in code


def _dropped(code: str) -> str:
    head, _, frames = re.split(r"([:;.,])(?=\d+$)", code)
    return f"{head};{frames}"


class _Clock:
    """One timecode condition, asked at the rate of each clip; `fault` is the first thing that is wrong with it."""

    def __init__(self, clock: Clock, text: str, edit: Edit | None, where: Where):
        self.fault: FarmError | None = None
        self._clock: Clock = clock
        self._where = where
        self._edit = edit
        self._codes: TimecodeRange | None = None
        self._limits: dict[tuple[int, int], tuple[int | None, int | None] | None] = {}
        try:
            self._codes = TimecodeRange.read(text)
        except ValueError as error:
            self._tell(error, "write it, for example, as 01:02:00:00-01:02:30:00 or 01:02:00:00+")
        if clock == "record_tc" and edit is not None:
            self._at(edit.rate, "the timeline")

    def holds(self, seen: Seen, notes: list[str]) -> bool:
        """Whether any frame of a clip lies in the range; when its place is not known, that is added to `notes`."""
        clip = seen.clip
        on_record = self._clock == "record_tc"
        frames = seen.record if on_record else seen.source[0]
        if frames is None:
            of = "place in the timeline" if on_record else "time in its media"
            where = replace(self._where, field=None)
            notes.append(f"`{self._clock}` at {where} is not asked: the edit does not say the clip's {of}")
            return False
        rate = self._edit.rate if on_record and self._edit is not None else seen.source[1]
        limits = self._at(rate, f"the media of {clip.name or clip.id}", quiet=clip.skipped is not None)
        if limits is None:
            return False
        first, end = limits
        return (first is None or frames.last >= first) and (end is None or frames.first < end)

    def _at(self, rate: Fraction, of: str, *, quiet: bool = False) -> tuple[int | None, int | None] | None:
        """The range in frames of a rate; None, and a fault unless `quiet`, when it does not exist there."""
        if self._codes is None:
            return None
        key = rate.as_integer_ratio()  # which is quicker to look up than a Fraction
        if key not in self._limits:
            drop = self._clock == "record_tc" and self._edit is not None and self._edit.drop_frame
            try:
                self._limits[key] = self._codes.frames(rate, drop=drop)
            except ValueError as error:
                if quiet:
                    return None
                self._limits[key] = None
                self._tell(error, f"write it in the timecode of {of}, which has {float(rate):g} frames a second")
        return self._limits[key]

    def _tell(self, error: ValueError, fix: str) -> None:
        self.fault = self.fault or SubmissionInvalid(f"`{self._clock}`: {error}", fix=fix, where=self._where)


# --------------------------------------------------------------------------- rules


class Rule:
    """One entry of `cast`, ready to be asked of clips; its conditions belong to one edit, None when there is none."""

    def __init__(self, entry: CastRule, index: int, manifest: Loaded[ShotManifest], edit: Edit | None):
        self.entry = entry
        self.index = index
        self.where = manifest.where("cast", index)
        self._marked = _marked(entry.when)
        self._tests = tuple(_tests(entry.when))
        clocks: tuple[Clock, ...] = ("record_tc", "source_tc")
        self._clocks = tuple(
            _Clock(clock, text, edit, manifest.where("cast", index, "when", clock, field=f"cast.{index}.when.{clock}"))
            for clock in clocks
            if (text := getattr(entry.when, clock)) is not None
        )

    @property
    def faults(self) -> list[FarmError]:
        """What was found wrong with the conditions; complete when every clip has been asked."""
        return [clock.fault for clock in self._clocks if clock.fault is not None]

    def matches(self, seen: Seen, notes: list[str]) -> bool:
        """Whether every condition holds of a clip; what cannot be asked of it is added to `notes`."""
        if self._marked is not None and not any(self._marked(name, color) for name, color, _ in seen.markers):
            return False
        for test in self._tests:
            if not test(seen):
                return False
        return all(clock.holds(seen, notes) for clock in self._clocks)

    @property
    def asks_for_markers(self) -> bool:
        """Whether a marker's name or colour is a condition."""
        return self._marked is not None

    def markers(self, seen: Seen) -> tuple[str, ...]:
        """The names of the clip's markers that the rule is about: all of them when it has no condition on them."""
        if self._marked is None and self.entry.characters != "from-marker":
            return ()
        marked = self._marked
        names = (marker.name for name, color, marker in seen.markers if marked is None or marked(name, color))
        return tuple(dict.fromkeys(names))

    def words(self, markers: Sequence[str]) -> str:
        """The conditions in words, with the names of the markers that met them."""
        when = self.entry.when
        said = [f"{key} '{value}'" for key in ("clip", "track") if (value := getattr(when, key)) is not None]
        if self._marked is not None:
            named = "marker" if when.marker is None else f"marker '{when.marker}'"
            of = "" if when.color is None else f" in {when.color}"
            more = f" and {len(markers) - MOST_TOLD} more" if len(markers) > MOST_TOLD else ""
            said.append(f"{named}{of} ({', '.join(markers[:MOST_TOLD])}{more})")
        said += [f"{key} {value}" for key in ("record_tc", "source_tc") if (value := getattr(when, key)) is not None]
        said += [] if when.media is None else [f"media '{when.media}'"]
        if when.metadata is not None:
            said.append(f"metadata {when.metadata}" + ("" if when.equals is None else f" = '{when.equals}'"))
        return ", ".join(said)


def _glob(pattern: str) -> Callable[[str], object]:
    return re.compile(fnmatch.translate(pattern)).match


def _tests(when: When) -> Iterator[Callable[[Seen], bool]]:
    """The conditions on what a clip is called, the cheapest first."""
    if when.track is not None:
        track = _glob(when.track)
        yield lambda seen: track(seen.clip.track) is not None
    if when.clip is not None:
        clip = _glob(when.clip)
        yield lambda seen: clip(seen.clip.name) is not None
    if when.media is not None:
        media = _glob(when.media)
        yield lambda seen: any(media(address) is not None for address in seen.addresses)
    if when.metadata is not None:
        path, equals = when.metadata.split("."), when.equals
        yield lambda seen: _has(seen.clip.metadata, path, equals)


def _marked(when: When) -> Callable[[str, str], bool] | None:
    """Whether a folded name and colour are those of one marker the rule is about; None when it names neither."""
    if when.marker is None and when.color is None:
        return None
    named = _glob(when.marker.casefold()) if when.marker is not None else None
    wanted = when.color.casefold() if when.color is not None else None
    return lambda name, color: (named is None or named(name) is not None) and wanted in (None, color)


def _has(metadata: Mapping[str, object], path: Sequence[str], equals: str | None) -> bool:
    """Whether a dotted path leads anywhere, or to a value of this text."""
    return any(equals is None or _text(value) == equals for value in _values(metadata, path))


def _values(found: object, steps: Sequence[str]) -> Iterator[object]:
    """What a dotted path leads to, the longest keys tried first: a key may hold dots of its own."""
    if not steps:
        yield found
    elif isinstance(found, dict):
        for length in range(len(steps), 0, -1):
            key = ".".join(steps[:length])
            if key in found:
                yield from _values(found[key], steps[length:])
    elif isinstance(found, list) and re.fullmatch(r"[0-9]{1,9}", steps[0]) and int(steps[0]) < len(found):
        yield from _values(found[int(steps[0])], steps[1:])


def _text(value: object) -> str | None:
    """A metadata value as a person writes it: true, 1001, plateMain; None for a group of values."""
    match value:
        case str():
            return value
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case int() | float():
            return str(value)
        case _:
            return None


# --------------------------------------------------------------------------- characters in marker names


@dataclass(frozen=True, slots=True)
class Named:
    """A character in a marker's name.

    `id` is the library's when it is `known`, else as written; `color` is what stands after `=`, None without one, and
    `slot` the colour of the model it means, None when it means none.
    """

    id: str
    known: bool
    color: str | None
    slot: Slot | None

    @property
    def wrong(self) -> bool:
        """Whether the id or the colour is none."""
        return not self.known or (self.color is not None and self.slot is None)


class Names:
    """The ids of a library, found in the names of markers in any case."""

    def __init__(self, ids: Iterable[str]):
        self._folded: dict[str, list[str]] = {}
        for id in ids:
            self._folded.setdefault(id.casefold(), []).append(id)
        self._read: dict[str, tuple[Named, ...]] = {}

    def named_by(self, marker: str) -> tuple[Named, ...]:
        """The characters of a marker's name: CHAR:hero, CHAR:villain=red, several after commas or spaces.

        Every word after CHAR: is a character, what stands before the first CHAR: a remark. An id of several words is
        found as a whole.
        """
        if marker not in self._read:
            self._read[marker] = tuple(dict.fromkeys(self._words(marker)))
        return self._read[marker]

    def nearest(self, written: str) -> list[str]:
        """The ids most like a written one; the first six when none is like it."""
        near = difflib.get_close_matches(written.casefold(), self._folded, n=3, cutoff=0.4)
        return [id for folded in near or list(self._folded)[:6] for id in self._folded[folded]]

    def _words(self, marker: str) -> Iterator[Named]:
        for part in _CHARACTER.split(marker)[1:]:
            for item in re.split(r"[,;]", re.sub(r"\s*=\s*", "=", part)):
                words = item.split()
                while words:
                    run = next((count for count in range(len(words), 1, -1) if self._is_one(words[:count])), 1)
                    yield self._named(" ".join(words[:run]))
                    del words[:run]

    def _is_one(self, words: Sequence[str]) -> bool:
        """Whether several words are one id, only the last of them with a colour."""
        return "=" not in " ".join(words[:-1]) and " ".join(words).partition("=")[0].casefold() in self._folded

    def _named(self, text: str) -> Named:
        written, colored, color = text.partition("=")
        alike = self._folded.get(written.casefold(), [])
        id = alike[0] if len(alike) == 1 else written or text
        slot: Slot | None = next((slot for slot in SLOTS if slot == color.casefold()), None)
        return Named(id, id in alike, color if colored else None, slot)
