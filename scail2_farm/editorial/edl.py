"""CMX 3600 lists: the text put plainly for the adapter, and what the adapter loses put back.

An EDL says neither its rate nor which bytes it is written in, and the adapter gives up, or reads something else, where
real lists depart from the book: a fade in at the head, two channels under one event number, a dissolve whose first
line has a length, locators and speed lines in drop frame, media named for the outgoing clip of a dissolve. Each event
is taken apart here, written out as the adapter knows it, and found again afterwards by a comment of our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from scail2_farm.editorial.nle import adapter, gap, is_a, linear, rational_time, timelines, translated, unknown_curve
from scail2_farm.editorial.otiojson import Node, unreadable
from scail2_farm.errors import TimelineUnreadable
from scail2_farm.frames import exact_rate, frame_at

ADAPTER = ("cmx_3600", "otio-cmx3600-adapter")
DEFAULT_RATE = Fraction(24)
DROP_RATE = Fraction(30000, 1001)
MOST_BYTES = 32 << 20
MOST_EVENTS, MOST_REMARKS, LONGEST_LINE = 20_000, 1000, 2000  # lists have 999 or 9999 events; an event a few remarks
OUR_MARK = "\ue000"  # opens the comment that numbers an event; in no real list
HEAD = f"{OUR_MARK} head"
SPACE = "\ue001"  # a space in the name of a reel, which the adapter splits lines at
_ASIDES = ("*", ">>>", "REM", "#", ";", "//")  # open a line before the first event that is of no event

_FORM = re.compile(r"\d{1,9}\s", re.ASCII)
_TIME = re.compile(r"\d{1,2}:\d\d:\d\d[:;.,]\d\d+")
_KIND = re.compile(r"C|D|W\d{1,3}", re.ASCII)
_SPEED = re.compile(
    r"\*?\s*M2:?\s+(?:(?P<reel>.*\S)\s+)?(?P<speed>-?(?:\d{1,6}(?:\.\d{0,9})?|\.\d{1,9}))(?:\s+(?P<time>[\d:;.,]{11,}))?$"
)
_BREAKS = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # end a line for Python, and in no list
_CLIP_NAME = re.compile(r"\*?\s*FROM CLIP NAME:?\s*(.*)")
_TO_NAME = re.compile(r"\*?\s*TO CLIP NAME:?\s*(.*)")
_FROM_MEDIA = re.compile(r"\*?\s*FROM (?:CLIP|FILE)(?! NAME| IS ):?\s*(.*)")
_TO_MEDIA = re.compile(r"\*?\s*TO (?:CLIP|FILE)(?! NAME| IS ):?\s*(.*)")
_IS_CLIP = re.compile(r"\*?\s*REEL\s+\S+\s+IS CLIP\s+(.*)")
_NUMBERS = re.compile(r"\.\[(\d+)-(\d+)\]\.\w+$")  # of a sequence, as the adapter finds them
_LOCATOR = re.compile(r"\*?\s*LOC:?\s*\d{1,2}:\d\d:\d\d[:;.,]\d\d\s+\w*\s+(\S+)")
_FREEZE = re.compile(r"\*?\s*\* FREEZE FRAME")
_MARKER = re.compile(r"\|C:\S*\s*\|M:")  # Resolve exports its timeline markers as a list of events
_REMARK = re.compile(
    r"\*\s*(?:COMMENT\s*:\s*)?(?!COMMENT\s*:)(\S+)(?<!:)(?:\s|$)|(\S+)$"
)  # a bare line counts when it is one word
_NO_NAME = re.compile(  # what stands after `*` and is no shot's name
    r"\*\s*(?:LOC|ASC_|FROM|TO |SOURCE|BLEND|EFFECT|FREEZE|KEY|FCM|SPLIT|OTIO|AUDIO|VIDEO|REPAIR|REEL|REM\b|\*|\ue000)"
)


@dataclass(frozen=True, slots=True)
class _Form:
    """One form statement: its line in the file and its fields, the four times last."""

    line: int
    text: str
    fields: tuple[str, ...]
    drop: bool

    @property
    def reel(self) -> str:
        return self.fields[1]

    @property
    def channel(self) -> str:
        """The channels as the adapter knows them: A12V and VA1A2 are pictures with sound, like its own AA/V."""
        written = self.fields[2].upper()
        if "V" not in written or not written.strip("V0123456789"):
            return written
        sound = set(re.findall(r"\d", written.replace("AA", "12")))
        return {"": "B", "1": "B", "2": "A2/V"}.get("".join(sound), "AA/V")

    @property
    def is_sound(self) -> bool:
        """Whether the event has no picture."""
        return self.channel.startswith("A") and "V" not in self.channel

    @property
    def is_blend(self) -> bool:
        return self.fields[3] != "C"

    @property
    def times(self) -> tuple[str, ...]:
        return self.fields[-4:]


@dataclass(frozen=True, slots=True)
class _Event:
    """A clip of the list: its form, the form it blends from, what is remarked about it, its times in frames."""

    form: _Form
    before: _Form | None
    comments: tuple[str, ...]
    times: tuple[int, int, int, int]

    @property
    def source(self) -> int:
        return self.times[1] - self.times[0]

    @property
    def record(self) -> int:
        return self.times[3] - self.times[2]

    @property
    def speed(self) -> re.Match[str] | None:
        """The speed line: of several, the one that names the reel."""
        found = [match for comment in self.comments if (match := _SPEED.match(comment))]
        named = [match for match in found if (match["reel"] or "").strip() == self.form.reel]
        return (named or found or [None])[-1]

    @property
    def retimed(self) -> bool:
        return self.speed is not None or any(_FREEZE.match(comment) for comment in self.comments)

    def is_odd(self, rate: Fraction) -> bool:
        """Whether the durations of source and record differ in a way the remarks do not explain."""
        if self.form.is_sound or (self.retimed and (self.speed is None or self.record <= 1)):
            return False
        if self.speed is None:
            return self.source != self.record
        scalar = abs(float(self.speed["speed"])) / round(rate)
        return bool(scalar) and abs(self.record * scalar - self.source) > max(2, self.source * 0.03)

    def said(self, pattern: re.Pattern[str]) -> str:
        """The last remark of a kind, empty without one."""
        return next((match[1].strip() for said in reversed(self.comments) if (match := pattern.match(said))), "")


@dataclass(slots=True)
class _List:
    """An EDL taken apart."""

    path: Path
    rate: Fraction
    header: list[str] = field(default_factory=list[str])
    events: list[_Event] = field(default_factory=list[_Event])
    notes: list[str] = field(default_factory=list[str])

    def refuse(self, what: str, form: _Form | None = None, fix: str | None = None) -> TimelineUnreadable:
        words = f"{what}: {form.text!r}" if form else what
        return unreadable(words, self.path, form.line if form else None, fix)


def read_edl(path: Path, raw: bytes, rate: Fraction | None) -> tuple[Node, tuple[str, ...], bool]:
    """The list as OTIO JSON, what is worth telling, and whether its record timecode is drop frame.

    Raises TimelineUnreadable, and SettingsInvalid without the adapter.
    """
    cmx = adapter(*ADAPTER, path)
    if len(raw) > MOST_BYTES:
        raise unreadable(f"{path.name} is {len(raw) >> 20} MB long, which no EDL is", path)
    lines = _lines(_text(raw, path))
    drop = any(";" in time for _, text in lines if _FORM.match(text) for time in _TIME.findall(text))
    said_drop = any(re.match(r"FCM:?\s*DROP", text) for _, text in lines)
    edl = _List(path, exact_rate(rate) if rate else _own_rate(lines) if drop or said_drop else DEFAULT_RATE)
    if rate is None:
        why = "its timecode is drop frame" if drop or said_drop else "an EDL does not say its rate"
        edl.notes.append(f"read at {float(edl.rate):.5g} frames a second: {why}; --rate gives another")
    can_drop = edl.rate in (DROP_RATE, 2 * DROP_RATE)
    if said_drop and not drop and not can_drop:
        edl.notes.append(f"FCM: DROP FRAME is not used: at {float(edl.rate):.5g} frames a second there is none")
    _take_apart(edl, lines, can_drop=can_drop)
    if all(any(_MARKER.search(said) for said in event.comments) for event in edl.events):
        what = f"{path.name} is a list of timeline markers, not a cut"
        raise unreadable(what, path, fix="export the timeline itself: File > Export > Timeline, as OTIO or EDL")
    if rate is None and edl.rate == DEFAULT_RATE:
        _check_rate(edl, lines)
    _check_order(edl, cmx.channel_map)
    document = _through(cmx, edl)
    _mend(edl, document)
    return document, tuple(edl.notes), drop or (said_drop and can_drop)


def _own_rate(lines: list[tuple[int, str]]) -> Fraction:
    """The rate of a drop-frame list: 59.94 when it counts more than 30 frames a second."""
    frames = (int(time[-2:]) for _, text in lines if _FORM.match(text) for time in _TIME.findall(text))
    return DROP_RATE if max(frames, default=0) < 30 else 2 * DROP_RATE


def _check_rate(edl: _List, lines: list[tuple[int, str]]) -> None:
    """Refuse the default rate where durations differ at it that agree at another: the list is of that rate."""
    odd = sum(event.is_odd(edl.rate) for event in edl.events)
    for rate in (25, 30) if odd else ():
        other = _List(edl.path, Fraction(rate))
        try:
            _take_apart(other, lines, can_drop=False)
        except TimelineUnreadable:
            continue
        if not any(event.is_odd(other.rate) for event in other.events):
            what = f"{odd} events of {edl.path.name} do not add up at 24 frames a second, and do at {rate}"
            raise unreadable(what, edl.path, fix=f"pass --rate {rate}; --rate 24 reads it as it is")


# --------------------------------------------------------------------------- the text


def _text(raw: bytes, path: Path) -> str:
    """The characters of a list: UTF-8, else Windows-1252, else Latin-1; DOS padding dropped."""
    raw = raw.rstrip(b"\0\x1a").replace(b"\x1a", b"")
    if b"\0" in raw:
        raise unreadable(f"{path.name} is not text: it is no EDL, or damaged", path)
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


def _lines(text: str) -> list[tuple[int, str]]:
    """The lines that say something, counted from 1; CR, LF and CRLF end a line, and nothing else does."""
    counted = enumerate(re.split("\r\n|\r|\n", text), start=1)
    return [(number, plain) for number, line in counted if (plain := _BREAKS.sub(" ", line).strip())]


def _take_apart(edl: _List, lines: list[tuple[int, str]], *, can_drop: bool) -> None:
    drop = False
    forms: list[_Form] = []
    comments: list[str] = []
    for number, text in lines:
        if text.startswith("FCM"):
            drop = can_drop and re.match(r"FCM:?\s*DROP", text) is not None
        elif text.startswith("SPLIT"):
            continue
        elif _FORM.match(text):
            form = _form(edl, number, text, drop=drop)
            if forms and int(forms[-1].fields[0]) != int(form.fields[0]):
                edl.events += _events(edl, forms, comments)
                forms, comments = [], []
            forms.append(form)
        elif forms:
            comments.append(text)
            if len(comments) > MOST_REMARKS or len(text) > LONGEST_LINE:
                what = f"{edl.path.name} has more remarks on one event than any EDL"
                raise unreadable(what, edl.path, number, "export the list again")
        elif text.startswith("TITLE:"):
            edl.header.append(text)
        elif text.startswith(_ASIDES):
            continue
        else:
            fix = "remove the line, or export the list again as CMX 3600"
            raise unreadable(f"{edl.path.name} is no EDL from here on: {text[:80]!r}", edl.path, number, fix)
    edl.events += _events(edl, forms, comments)
    if len(edl.events) > MOST_EVENTS:
        what = f"{edl.path.name} has {len(edl.events)} events; {MOST_EVENTS} are read"
        raise unreadable(what, edl.path, fix="export a list per reel")
    if not edl.events:
        raise unreadable(f"{edl.path.name} holds no events", edl.path, fix="export a CMX 3600 list of the timeline")


def _form(edl: _List, number: int, text: str, *, drop: bool) -> _Form:
    """Take a form statement apart from its end: a reel may have spaces in it."""
    *head, source_in, source_out, record_in, record_out = text.split()
    length = [head.pop()] if len(head) > 4 and head[-1].isdecimal() and _KIND.fullmatch(head[-2]) else []
    number_of, *reel, channel, kind = head if len(head) > 3 else ["", "", "", ""]
    fields = (number_of, " ".join(reel), channel, kind, *length, source_in, source_out, record_in, record_out)
    form = _Form(number, text, fields, drop)
    if not _KIND.fullmatch(kind) or (kind != "C" and not length):
        what = f"{edl.path.name} has an event that is neither a cut, a dissolve nor a wipe"
        raise edl.refuse(what, form, "export a CMX 3600 list; keys and layers go into lists of their own")
    return form


def _events(edl: _List, forms: list[_Form], comments: list[str]) -> Iterator[_Event]:
    """The clips of one event number: a cut, a blend with the line before it, or the same on several channels."""
    waiting: dict[str, _Form] = {}
    outgoing: dict[str, _Form] = {}
    for form in forms:
        if form.channel == "NONE":
            continue
        if form.is_blend:
            other = waiting.get(form.channel) or outgoing.get(form.channel)
            own = [said for said in comments if other is None or not _is_speed_of(said, other, form)]
            yield _event(edl, form, waiting.pop(form.channel, None), own)
            continue
        if form.channel in waiting:
            yield _event(edl, waiting.pop(form.channel), None, comments)
        times = _times(edl, form)
        blends = (other for other in forms if other.is_blend and other.channel == form.channel)
        blend = next((other for other in blends if other.line > form.line), None)
        if blend is not None and times[3] == times[2]:
            waiting[form.channel] = form
        elif blend is not None:
            outgoing[form.channel] = form
            yield _event(edl, form, None, [said for said in comments if _is_outgoing(said, form, blend)])
        else:
            yield _event(edl, form, None, comments)


def _is_outgoing(said: str, form: _Form, blend: _Form) -> bool:
    """Whether a remark on a blend is about the clip it leads from."""
    return bool(_CLIP_NAME.match(said) or _FROM_MEDIA.match(said)) or _is_speed_of(said, form, blend)


def _is_speed_of(said: str, form: _Form, other: _Form) -> bool:
    """Whether a remark is the speed line of `form`, and not of the other clip of a blend.

    A speed line names its reel, and where both are of one reel the source time it begins at.
    """
    speed = _SPEED.match(said)
    if speed is None or (speed["reel"] or "").strip() != form.reel:
        return False
    if form.reel != other.reel:
        return True
    begins = [re.sub(r"\D", "", time or "") for time in (speed["time"], form.times[0], other.times[0])]
    return begins[0] == begins[1] != begins[2]


def _event(edl: _List, form: _Form, before: _Form | None, comments: list[str]) -> _Event:
    return _Event(form, before, tuple(comments), _times(edl, form))


def _times(edl: _List, form: _Form) -> tuple[int, int, int, int]:
    """Source in and out, record in and out, in frames since midnight."""
    counted: list[int] = []
    for time in form.times:
        if time.isdecimal() and len(time) < 10:
            counted.append(int(time))
            continue
        try:
            counted.append(frame_at(_written(time, edl.rate, drop=form.drop), edl.rate))
        except ValueError as error:
            raise edl.refuse(str(error), form, _rate_fix(edl, form)) from None
    if counted[1] < counted[0] or counted[3] < counted[2]:
        raise edl.refuse("an event ends before it begins", form)
    return counted[0], counted[1], counted[2], counted[3]


def _rate_fix(edl: _List, form: _Form) -> str:
    if any(";" in time for time in form.times):
        return "pass --rate 29.97 (or 59.94): drop-frame timecode exists at no other rate"
    most = max((int(time[-2:]) for time in form.times if _TIME.fullmatch(time)), default=0)
    fitting = next((rate for rate in (25, 30, 50, 60) if rate > most), None)
    if fitting is None or fitting <= edl.rate:
        return "correct the timecode, or export the list again"
    return f"pass --rate {fitting}, or write  rate: {fitting}  in the manifest"


def _written(time: str, rate: Fraction, *, drop: bool) -> str:
    """A timecode with `;` where it is drop frame, `:` where it is not."""
    plain = f"{time[:-3]}:{time[-2:]}"
    if ";" not in time and "," not in time and not drop:
        return plain
    dropped = f"{time[:-3]};{time[-2:]}"
    if ";" in time or "," in time:
        return dropped
    try:
        frame_at(dropped, rate)
    except ValueError:
        return plain  # FCM says drop frame, and drop frame has no such frame
    return dropped


def _check_order(edl: _List, channels: Mapping[str, list[str]]) -> None:
    """Put the events in record order; raises for two that lie over one another."""
    ordered = sorted(edl.events, key=lambda event: event.times[2])
    if ordered != edl.events:
        edl.notes.append("the events are not in record order; they are read in it")
        edl.events = ordered
    ends: dict[str, tuple[int, _Form]] = {}
    hidden: list[_Event] = []
    for event in edl.events:
        for track in channels.get(event.form.channel, [event.form.channel]):
            end, other = ends.get(track, (0, event.form))
            if event.times[2] < end and event.form.is_sound:
                hidden.append(event)
                break
            if event.times[2] < end:
                what = f"two events lie over one another on {track} (the other is on line {other.line})"
                raise edl.refuse(what, event.form, "export one list per video track")
            ends[track] = event.times[3], event.form
    if hidden:
        edl.notes.append(f"{len(hidden)} events of sound lie over others and are left out")
        edl.events = [event for event in edl.events if event not in hidden]
    wrong = [event for event in edl.events if event.source != event.record and not event.retimed]
    wrong = [event for event in wrong if not event.form.is_sound]
    if wrong:
        shown = ", ".join(str(event.form.line) for event in wrong[:5]) + (" ..." if len(wrong) > 5 else "")
        what = f"source and record durations differ without a speed line in {len(wrong)} events (line {shown})"
        edl.notes.append(f"{what}: the source is believed, and record times after them may move")


# --------------------------------------------------------------------------- through the adapter and back


def _through(cmx: object, edl: _List) -> Node:
    """The adapter's reading of the list; the event that it cannot read is found by reading each alone."""
    ignore = any(event.source != event.record and not event.retimed for event in edl.events)

    def read(first: int, count: int) -> Node:
        text = "\n".join([*edl.header, *_plain(edl, range(first, first + count))])
        return translated(
            edl.path,
            lambda: cmx.read_from_string(text, rate=float(edl.rate), ignore_timecode_mismatch=ignore),  # type: ignore[attr-defined]
        )

    try:
        return read(0, len(edl.events))
    except TimelineUnreadable as fault:
        for index, event in enumerate(edl.events):
            try:
                read(index, 1)
            except TimelineUnreadable as alone:
                raise edl.refuse(alone.what, event.form) from None
        raise fault from None


def _plain(edl: _List, indices: range) -> Iterator[str]:
    """The events as the adapter knows them: numbered one by one, every blend with a line before it."""
    begun: set[str] = set()
    number = 0
    for index in indices:
        event = edl.events[index]
        form = event.form
        times = [_written(time, edl.rate, drop=form.drop) if ":" in time else time for time in form.times]
        number += 1
        if form.is_blend:
            start = times[2]
            if form.channel not in begun:
                yield f"{number:06d} BL {form.channel} C 00:00:00:00 00:00:00:00 {start} {start}"
                yield f"* FROM CLIP NAME: {HEAD}"
                number += 1
            before = _plain_reel(event.before.reel if event.before else form.reel)
            yield f"{number:06d} {before} {form.channel} C {times[0]} {times[0]} {start} {start}"
        begun.add(form.channel)
        length = form.fields[4:-4] if form.is_blend else ()
        yield " ".join([f"{number:06d}", _plain_reel(form.reel), form.channel, form.fields[3], *length, *times])
        yield f"* {OUR_MARK} {index}"
        yield from (_plain_comment(edl, event, comment) for comment in event.comments)


def _plain_reel(reel: str) -> str:
    return reel.replace(" ", SPACE)


def _plain_comment(edl: _List, event: _Event, comment: str) -> str:
    """A remark with its timecode in the only form the adapter reads, and one speed line per event."""
    speed = _SPEED.match(comment)
    if speed is not None:
        believed = event.speed
        assert believed is not None
        at = re.sub("[;.,]", ":", believed["time"] or "00:00:00:00")
        return f"M2 {_plain_reel((believed['reel'] or '').strip())} {believed['speed']} {at}"
    if re.match(r"\*?\s*M2\b", comment):
        raise edl.refuse(f"the speed line {comment!r} cannot be read", event.form)
    if re.match(r"\*?\s*FROM CLIP IS ", comment):  # FROM CLIP IS A STILL: the adapter takes it for an address
        return f"* NOTE: {comment.lstrip('* ')}"
    if re.match(r"\*?\s*LOC\b", comment):
        return _TIME.sub(lambda match: re.sub("[;.,]", ":", match[0]).zfill(11), comment, count=1)
    return comment


def _mend(edl: _List, document: Node) -> None:
    """What the adapter does not say, put into its reading: start, speeds, media of blends, names."""
    for timeline in timelines(document):
        tracks: list[Node] = timeline["tracks"]["children"]
        starts = [start for track in tracks if (start := _record_start(track)) is not None]
        begins = min(starts, default=0)
        for track in tracks:
            start = _record_start(track)
            if start is not None and start > begins:
                track["children"].insert(0, gap(start - begins, edl.rate))
            track["source_range"] = None
            _mend_track(edl, track)
        timeline["global_start_time"] = rational_time(begins, edl.rate)


def _record_start(track: Node) -> int | None:
    """The record frame a track begins at, which the adapter writes as a negative start."""
    trim = track.get("source_range")
    if trim is None:
        return 0 if track["children"] else None
    return -round(trim["start_time"]["value"])


def _mend_track(edl: _List, track: Node) -> None:
    children: list[Node] = track["children"]
    for index, node in enumerate(children):
        if not is_a(node, "Clip"):
            continue
        event = _own_event(edl, node)
        if event is None:
            continue
        _mend_speed(edl, node, event)
        _mend_range(node, event)
        if index and is_a(children[index - 1], "Transition"):
            _mend_media(node, event)
        said = node["metadata"].get("cmx_3600", {})
        if SPACE in said.get("reel", ""):
            said["reel"] = event.form.reel
        if not event.said(_TO_NAME) and (event.form.is_blend or not event.said(_CLIP_NAME)):
            node["name"] = _name(event)
    track["children"] = [node for node in children if node.get("name") != HEAD]


def _own_event(edl: _List, node: Node) -> _Event | None:
    """The event a clip was read from; our number is taken off it."""
    said = node["metadata"].get("cmx_3600", {})
    numbers = [text for text in said.get("comments", []) if text.startswith(OUR_MARK)]
    if not numbers:
        return None
    said["comments"] = [text for text in said["comments"] if not text.startswith(OUR_MARK)]
    if not said["comments"]:
        del said["comments"]
    if not said:
        del node["metadata"]["cmx_3600"]
    return edl.events[int(numbers[0].split()[1])]


def _mend_speed(edl: _List, node: Node, event: _Event) -> None:
    """The speed line, in frames a second of the nominal rate.

    The adapter drops it from an event as long on both sides (a reverse at full speed is), and takes 24 for faster
    than 23.976. A speed that does not lead from the source in to the source out is part of a curve.
    """
    speed = event.speed
    if speed is None or any(is_a(effect, "FreezeFrame") for effect in node["effects"]) or event.record <= 1:
        return
    scalar = float(speed["speed"]) / round(edl.rate)
    node["effects"] = []
    shown = event.record * abs(scalar)
    if event.source != event.record and abs(shown - event.source) > max(2, event.source * 0.03) and scalar:
        words = f"the speed line says {scalar:.3g} times, the source {event.source / event.record:.3g}"
        node["effects"].append(unknown_curve(words))
        edl.notes.append(f"line {event.form.line}: {words}: it is taken for a curve")
    elif abs(scalar - 1) > 0.0005:
        node["effects"].append(linear(scalar))


def _mend_range(node: Node, event: _Event) -> None:
    """The range of a sequence, which the adapter takes from the event and begins at the first number of the remark.

    That is right of a remark as long as the event. One of the whole plate leaves the place to the plate's timecode.
    """
    media = node["media_references"]["DEFAULT_MEDIA"]
    numbers = (match for said in event.comments if (match := _NUMBERS.search(said)))
    if not any(int(match[2]) - int(match[1]) + 1 == event.source for match in numbers):
        media["available_range"] = None


def _mend_media(node: Node, event: _Event) -> None:
    """The media of the clip a blend leads to: FROM names the outgoing one's, which the adapter takes for this one's."""
    media = node["media_references"]["DEFAULT_MEDIA"]
    if is_a(media, "GeneratorReference"):
        return
    address = event.said(_TO_MEDIA)
    schema = "ExternalReference.1" if address else "MissingReference.1"
    kept = {key: media.get(key) for key in ("metadata", "name", "available_range", "available_image_bounds")}
    found: Node = {"OTIO_SCHEMA": schema, **kept, "available_range": None}
    node["media_references"]["DEFAULT_MEDIA"] = found | ({"target_url": address} if address else {})


def _name(event: _Event) -> str:
    """A name for a clip without one: locator, remark, media, reel, then the event's number."""
    locator = event.said(_LOCATOR)
    remarks = (_REMARK.match(said) for said in event.comments if not _NO_NAME.match(said))
    remark = next((match[1] or match[2] for match in remarks if match), "")
    media = re.split(r"[\\/]", event.said(_TO_MEDIA if event.form.is_blend else _FROM_MEDIA))[-1].rsplit(".", 1)[0]
    reel = event.form.reel if event.form.reel not in ("AX", "BL", "BLACK", "BARS") else ""
    return locator or event.said(_IS_CLIP) or remark or media or reel or event.form.fields[0]
