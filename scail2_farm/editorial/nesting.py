"""What the compounds around an item show of it: trims, retimes and transitions, one inside the other.

Times are exact seconds. An item lasts as long in its parent as its source range says; a retime changes what it shows
in that time. So a compound trimmed to 10 seconds at double speed lasts 10 and shows 20 of its own, from the start of
its source range. Applications do not agree on that for compounds: some stretch the items instead and leave the trim
alone. `Part.plain` is what they show, and the wider of the two is rendered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor

from scail2_farm.editorial.rates import WHOLE, Range, Time, ceiled
from scail2_farm.editorial.retimes import Sampling, Warp

Span = tuple[Fraction, Fraction]
"""From, until."""

NONE = Fraction(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is shown of an item: `seconds` from `head` after its own start, and where in the record.

    `before` and `after` are what transitions show further. `plain` is what would be shown without retimes. `cut` says
    that a compound hides something of the item, `doubtful` that only without retimes any of it is shown.
    """

    head: Fraction
    seconds: Fraction
    before: Fraction = NONE
    after: Fraction = NONE
    plain: Span | None = None
    record: Span | None = None
    cut: bool = False
    doubtful: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """The compounds around an item, in the own time of the innermost.

    Record time of an own time is `origin` + time * `pace`; `origin` is None when it is not known. `window` is what is
    shown, `reach` what is shown with transitions, `plain` what would be shown without retimes; None is all. A frozen
    compound shows the one moment `window[0]` for the record span `held`. `edges` is how far transitions reach beyond
    the first and the last item. `speed` is the product of the speeds, None with a curve; `retimed` says that there
    are any, whatever they come to.
    """

    origin: Fraction | None
    pace: Fraction = Fraction(1)
    window: Span | None = None
    reach: Span | None = None
    plain: Span | None = None
    held: Span | None = None
    frozen: bool = False
    edges: Span = (NONE, NONE)
    speed: Fraction | None = Fraction(1)
    retimed: bool = False

    def part(self, at: Fraction | None, length: Fraction, before: Fraction, after: Fraction) -> Part | None:
        """What is shown of an item that lasts `length` from `at`; None when nothing is."""
        if at is None or not (self.frozen or self.window or self.reach or self.plain):
            record = self.recorded((at, at + length)) if at is not None else None
            return Part(head=NONE, seconds=length, before=before, after=after, record=record)
        whole = at, at + length
        wide = _common((at - before, at + length + after), self.reach)
        if self.frozen:
            assert self.window is not None
            moment = self.window[0]
            inside = wide[0] <= moment < wide[1]
            return Part(head=moment - at, seconds=NONE, record=self.held, cut=True) if inside else None
        shown = _common(whole, self.window)
        plain = _common(whole, self.plain)
        if shown[1] <= shown[0]:
            shown = wide
        doubtful = shown[1] <= shown[0]
        if doubtful:
            shown = wide = plain
        if shown[1] <= shown[0]:
            return None
        return Part(
            head=shown[0] - at,
            seconds=shown[1] - shown[0],
            before=max(NONE, shown[0] - wide[0]),
            after=max(NONE, wide[1] - shown[1]),
            plain=(plain[0] - at, plain[1] - at) if self.retimed and plain[1] > plain[0] else None,
            record=self.recorded(shown),
            cut=shown != whole,
            doubtful=doubtful,
        )

    def recorded(self, span: Span) -> Span | None:
        """Where in the record an own span stands."""
        if self.held is not None:
            return self.held
        if self.origin is None:
            return None
        if self.pace == 1:
            return self.origin + span[0], self.origin + span[1]
        first, last = sorted((self.origin + span[0] * self.pace, self.origin + span[1] * self.pace))
        return first, last

    def entered(
        self, *, at: Fraction | None, length: Fraction | None, trim: Range | None, warp: Warp, before: Span
    ) -> Around:
        """The compounds around the items of a compound that stands `at` here and lasts `length`.

        `before` is how far transitions reach past its two ends. Raises ValueError, in words, for what cannot be
        reckoned.
        """
        speed = None if self.speed is None or warp.speed is None else self.speed * warp.speed
        begins = trim.start.seconds if trim is not None else NONE
        if warp.speed is None:
            return self._bent(at, length, trim, warp, before)
        if warp.speed == 0:
            return self._frozen(at, length, begins, before)
        rate = abs(warp.speed)
        back = warp.speed < 0
        if back and length is None:
            raise ValueError("a reversed compound of unknown length")
        lasts = length or NONE
        place = at or NONE

        def own(moment: Fraction) -> Fraction:
            return begins + ((place + lasts - moment) if back else (moment - place)) * rate

        def mapped(span: Span | None) -> Span | None:
            if span is None:
                return None
            if not back:
                return own(span[0]), own(span[1])
            frames = trim.rate if trim is not None else Fraction(24)
            until = place + ceil((span[1] - place) * frames) / frames  # of a frame seen in part any part may be
            return own(until), own(span[0])

        head, tail = (before[1], before[0]) if back else before
        window = reach = plain = None
        if length is not None and (trim is not None or rate != 1):
            window = begins, begins + lasts * rate
            reach = window[0] - head * rate, window[1] + tail * rate
        if trim is not None:
            plain = begins, begins + trim.duration.seconds
        if at is None and (self.window is not None or self.frozen):
            raise ValueError("an unknown place in a trimmed compound")
        if self.frozen:
            assert self.window is not None
            if back:
                raise ValueError("it is reversed inside a frozen one, and which frame that shows cannot be told")
            moment = own(self.window[0])
            window, reach, plain = (moment, moment), None, None
        elif at is not None:
            window = _both(window, mapped(self.window))
            reach = _both(reach, mapped(self.reach))
            shift = begins - place
            plain = _both(plain, None if self.plain is None else (self.plain[0] + shift, self.plain[1] + shift))
        pace = self.pace / (-rate if back else rate)
        origin = None
        if self.origin is not None and at is not None:
            zero = place + (lasts if back else 0) - begins / (-rate if back else rate)
            origin = self.origin + self.pace * zero
        edges = head * rate, tail * rate
        return Around(
            origin=origin,
            pace=pace,
            window=window,
            reach=reach,
            plain=plain,
            held=self.held,
            frozen=self.frozen,
            edges=edges,
            speed=speed,
            retimed=self.retimed or warp.speed != 1,
        )

    def _frozen(self, at: Fraction | None, length: Fraction | None, begins: Fraction, before: Span) -> Around:
        """Inside a freeze: one moment, unless the frozen compound itself is not shown."""
        held, moment, reach = self.held, (begins, begins), None
        if at is not None and length is not None:
            part = self.part(at, length, *before)
            held = part.record if part is not None else None
            reach = moment if part is None else None  # a span without length holds nothing
        return replace(self, window=moment, reach=reach, plain=None, held=held, frozen=True, speed=NONE, retimed=True)

    def _bent(
        self, at: Fraction | None, length: Fraction | None, trim: Range | None, warp: Warp, before: Span
    ) -> Around:
        """Inside a curve: everything between its lowest and highest point may be shown, at any time."""
        if self.frozen:
            raise ValueError("a curve in a frozen compound")
        window = reach = None
        if not warp.unknown:
            if trim is None:
                raise ValueError("a curve on a compound without a source range")
            low, high = warp.positions(0, max(1, ceil(trim.duration.value)) - 1)
            begins = trim.start.seconds
            window = begins + low / trim.rate, begins + (high + 1) / trim.rate
            reach = window[0] - before[0], window[1] + before[1]
        held = self.held
        if at is not None and length is not None:
            part = self.part(at, length, *before)
            held = part.record if part is not None else None
            if part is None:
                window = reach = NONE, NONE  # the compound itself is not shown
        return replace(self, window=window, reach=reach, plain=None, held=held, edges=before, speed=None, retimed=True)


def _common(one: Span, other: Span | None) -> Span:
    return one if other is None else (max(one[0], other[0]), min(one[1], other[1]))


def _both(one: Span | None, other: Span | None) -> Span | None:
    return other if one is None else _common(one, other)


def sample(part: Part, trim: Range, warp: Warp, *, around: Around, own_trim: bool) -> tuple[Time, Sampling]:
    """The source start and the sampling of the shown part of a clip.

    Without a source range of its own (`own_trim` False) `trim` is all of the media, which no retime reaches beyond.
    Raises ValueError, in words, for a curve that cannot be followed.
    """
    rate, count = trim.rate, trim.duration.value
    if warp.unknown:
        return trim.start, Sampling(kind="whole", length=count, limited=True)
    if warp.speed is None:
        return trim.start, _curved(part, trim, warp, around)
    if warp.speed == 0:
        return trim.start, Sampling(kind="freeze")
    if not around.retimed and warp.speed == 1:
        length = part.seconds * rate if part.cut else count
        steady = max(length, Fraction(1)) if part.cut and length > WHOLE else length
        reach = Sampling(length=steady, before=part.before * rate, after=part.after * rate)
        return (trim.start.later(part.head) if part.cut else trim.start), reach
    if not around.frozen:
        return _spanned(part, trim, warp.speed, around, own_trim)
    head, speed = part.head * rate, abs(warp.speed)
    if warp.speed > 0:
        return trim.start.later(head * speed / rate), Sampling(kind="freeze")
    low, high = (ceil(count - head) - 1) * speed, (count - head) * speed  # between two frames it may show either
    return trim.start.later(low / rate), Sampling(kind="span", length=high - low)


def _curved(part: Part, trim: Range, warp: Warp, around: Around) -> Sampling:
    """Through a lookup: from the lowest to the highest frame it shows; in a transition it goes on at its own speed."""
    rate = trim.rate
    head, end = part.head * rate, ceiled(trim.duration.value) - 1
    until = head + part.seconds * rate
    first, last = floor(head - part.before * rate), max(floor(head), ceiled(until + part.after * rate) - 1)
    if around.retimed and not around.frozen:
        first, last = min(first, 0), max(last, end)
    low, high = warp.positions(min(max(first, 0), end), min(max(last, 0), end))
    before, after = Fraction(max(-first, 0)), Fraction(max(last - end, 0))
    if until <= 0 or head > end:  # only a transition shows it
        return Sampling(kind="curve", low=low - before, high=high + after)
    return Sampling(kind="curve", low=low, high=high, before=before, after=after)


def _spanned(part: Part, trim: Range, warp: Fraction, around: Around, own_trim: bool) -> tuple[Time, Sampling]:
    """At a speed of its own or of the compounds around it."""
    rate, count, speed = trim.rate, trim.duration.value, abs(warp)
    head, length = part.head * rate, part.seconds * rate
    if not own_trim and not part.cut:
        head, length, speed = NONE, count, Fraction(1)
    low, high = head * speed, (head + length) * speed
    wide = (low, high)
    if part.plain is not None and around.speed is not None:
        first, until = part.plain[0] * rate, part.plain[1] * rate
        wide = min(low, first * speed), max(high, (first + (until - first) * max(1, abs(around.speed))) * speed)
    before, after = part.before * rate * speed, part.after * rate * speed
    slack = low - wide[0], wide[1] - high
    if warp < 0:
        until = max(head + length, min(count, Fraction(ceil(head + length))))  # any part of its first frame
        low, high = count * speed - until * speed, count * speed - low
        before = after = max(before, after)  # applications disagree at which end of a reversed clip a transition is
        both = slack[0] + slack[1]
        slack = both, both
    if not own_trim:
        low, high = min(low, count), min(high, count)
    found = Sampling(kind="span", length=high - low, before=before, after=after, slack=slack)
    return trim.start.later(low / rate), found
