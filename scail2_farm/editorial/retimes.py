"""What time effects do to an item, and which of its media's frames are then shown.

A retime stays on its clip: the frames it needs are rendered at the speed they were shot, and the NLE plays them as it
did. So a speed is never applied here, only counted through: `Warp` is what the effects of one item say, `Sampling`
the media a clip shows once every compound, retime and transition around it is reckoned with.

Effects are listed from the media outwards: of several, the first is nearest to the media. A position counts frames of
the item's own rate from the start of its source range.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any, Literal

from scail2_farm.editorial.otiojson import EFFECTS, Node, Place, dict_of, flag_of, list_of, mistyped, schema_of, text_of
from scail2_farm.editorial.rates import ceiled, frame_of, sampled, shown
from scail2_farm.frames import FrameRange

MOST_UNKNOWN = 1000
"""Frames of media rendered whole for a time effect of which nothing is known; longer media is refused."""

FASTEST = 1000
"""Times the speed it was shot at; more is a mistake."""

LARGEST = 10**6
"""Frames or times in an effect; more is a mistake."""

Lookup = tuple[Fraction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Warp:
    """The time effects of one item.

    `speed` is the product of the scalars, negative in reverse, 0 for a freeze; None when a curve is among them.
    `steps` are then the scalars and lookups in order, empty when a curve gives no numbers.
    """

    speed: Fraction | None = Fraction(1)
    steps: tuple[Fraction | Lookup, ...] = ()

    @property
    def unknown(self) -> bool:
        """Whether the item is retimed by a curve the edit does not give."""
        return self.speed is None and not self.steps

    def positions(self, first: int, last: int) -> tuple[Fraction, Fraction]:
        """The lowest and the highest position that the item's frames first..last show, through its curves.

        A fractional position between two entries of a lookup may show what either shows. Raises ValueError, in words,
        for a frame that a lookup has no entry for.
        """
        shown_at = [self._position(frame) for frame in range(first, last + 1)]
        return min(low for low, _ in shown_at), max(high for _, high in shown_at)

    def _position(self, frame: int) -> tuple[Fraction, Fraction]:
        low = high = Fraction(frame)
        for step in reversed(self.steps):
            if isinstance(step, Fraction):
                low, high = sorted((low * step, high * step))
                continue
            if low < 0 or ceil(high) >= len(step):
                raise ValueError(f"a TimeWarp of {len(step)} frames that has none for frame {floor(max(low, high))}")
            near = range(floor(low), ceil(high) + 1)
            low, high = min(n + step[n] for n in near), max(n + step[n] for n in near)
        return low, high


PLAIN = Warp()


def read_warp(node: Node, path: Any, place: Place) -> tuple[Warp, list[str]]:
    """An item's time effects, and in words those that cannot be read; disabled ones change nothing."""
    if not node.get("effects"):
        return PLAIN, []
    steps: list[Fraction | Lookup] = []
    strange: list[str] = []
    unknown = False
    for index, effect in enumerate(list_of(node, "effects", path, place)):
        spot = (*place, "effects", index)
        if not isinstance(effect, dict) or not isinstance(effect.get("OTIO_SCHEMA"), str):
            raise mistyped(path, place, "effects", effect, "a list of effects")
        schema = effect["OTIO_SCHEMA"].partition(".")[0]
        if schema not in EFFECTS or schema == "Effect" or not flag_of(effect, "enabled", path, spot):
            continue
        schema_of(effect, EFFECTS, path, spot)
        name = text_of(effect, "name", path, spot) or text_of(effect, "effect_name", path, spot) or "no name"
        lookup = dict_of(effect, "metadata", path, spot).get("lookup") if schema == "TimeEffect" else None
        try:
            if schema == "TimeEffect" and lookup is None:
                unknown = True
            else:
                steps.append(_lookup(lookup) if schema == "TimeEffect" else _scalar(effect, schema))
        except ValueError as error:
            strange.append(f"a {schema} ({name}) {error}")
    curved = unknown or any(not isinstance(step, Fraction) for step in steps)
    speed = Fraction(1)
    for step in steps:
        speed *= step if isinstance(step, Fraction) else 1
    if not curved and abs(speed) > FASTEST:
        strange.append(f"a speed of {float(speed):g}, more than {FASTEST} times")
    if not curved:
        return Warp(speed=speed), strange
    return Warp(speed=None, steps=() if unknown else tuple(steps)), strange


def _scalar(effect: Node, schema: str) -> Fraction:
    if schema == "FreezeFrame":
        return Fraction(0)
    scalar = effect.get("time_scalar", 1)
    return _number(scalar, "which is no speed")


def _lookup(written: object) -> Lookup:
    if not isinstance(written, list) or not written:
        raise ValueError("with a lookup that is no list of frames")
    values: list[object] = written
    return tuple(_number(value, "which is no number of frames in its lookup") for value in values)


def _number(written: object, fault: str) -> Fraction:
    if isinstance(written, bool) or not isinstance(written, int | float) or not abs(written) <= LARGEST:
        raise ValueError(f"of {str(written)[:40]}, {fault}")
    return Fraction(str(written))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The media a clip shows, in frames of its own rate from its source start.

    `kind` says how `length` is counted: `frames` one for one, `span` as a retime samples it, `freeze` one frame only,
    `curve` from `low` to `high`, `whole` all the media there is (at most MOST_UNKNOWN frames when `limited`).
    `before` and `after` are what transitions reach further, `slack` what is rendered only because applications
    disagree: both are cut short where the media ends.
    """

    kind: Literal["frames", "span", "freeze", "curve", "whole"] = "frames"
    length: Fraction = Fraction(0)
    low: Fraction = Fraction(0)
    high: Fraction = Fraction(0)
    before: Fraction = Fraction(0)
    after: Fraction = Fraction(0)
    slack: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))
    limited: bool = False

    @property
    def count(self) -> int:
        """The media frames shown, in the clip's own rate."""
        if self.kind == "freeze":
            return 1
        if self.kind == "curve":
            return ceil(self.high) - floor(self.low) + 1
        return round(self.length) if self.kind == "frames" else ceiled(self.length)

    def needed(self, first: Fraction, step: Fraction) -> FrameRange:
        """The media frames the cut cannot do without; `first` is where its source start lies, counted in them.

        `step` is how many media frames one of the clip's lasts.
        """
        if self.kind == "freeze":
            return FrameRange(frame_of(first), 1)
        if self.kind == "curve":
            return self._curved(first, step)
        if self.kind == "frames":
            return sampled(first, count=self.count, step=step)
        return shown(first, length=self.length, step=step)

    def reach(self, step: Fraction) -> tuple[int, int]:
        """Media frames that transitions need before and after those."""
        return _covering(self.before, step), _covering(self.after, step)

    def spare(self, step: Fraction) -> tuple[int, int]:
        """Media frames rendered before and after all of these in case they are shown."""
        return _covering(self.slack[0], step), _covering(self.slack[1], step)

    def _curved(self, first: Fraction, step: Fraction) -> FrameRange:
        """A lookup counts frames of the media to some applications and frames of the cut to others: both are kept."""
        start = frame_of(first)
        low, high = floor(start + self.low), ceil(start + self.high)
        if step == 1:
            return FrameRange.from_last(low, max(low, high))
        low = min(low, frame_of(first + self.low * step))
        return FrameRange.from_last(low, max(low, high, frame_of(first + self.high * step)))


def _covering(frames: Fraction, step: Fraction) -> int:
    """The media frames that cover so many frames of the clip; most clips have none beyond their cut."""
    return ceiled(frames * step) if frames else 0
