"""The model's windows over a shot: equal ones, or those of an earlier take as far as they go.

Frames are counted from the shot's first. `keep` ranges follow one another and cover the shot exactly; what a window
has beyond what it keeps repeats the last kept frame, and its result is dropped. So a window is the same whatever
becomes of the shot behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from scail2_farm.frames import FrameRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One segment of a shot: the model's window, and what is kept of it after `overlap` frames of history."""

    frames: FrameRange
    keep: FrameRange
    overlap: int


@lru_cache(maxsize=1024)
def windows(count: int, *, length: int, overlap: int) -> tuple[Window, ...]:
    """The equal windows of a shot of `count` frames (engine.md §8.2, policy `equal`), reckoned once a length.

    The fewest windows, all of one 4n + 1 length that is at most `length`; each shares `overlap` frames with the one
    before. The last may reach beyond the shot.
    """
    if count < 1:
        raise ValueError("a shot has at least one frame")
    number = max(1, -(-(count - overlap) // (length - overlap)))
    longest = -(-(count + overlap * (number - 1)) // number)
    equal = (longest + 2) // 4 * 4 + 1
    found: list[Window] = []
    kept = 0
    for index in range(number):
        first = index * (equal - overlap)
        until = min(first + equal, count)
        history = overlap if index else 0
        found.append(Window(frames=FrameRange(first, equal), keep=FrameRange(kept, until - kept), overlap=history))
        kept = until
    return tuple(found)


def continued(grid: Sequence[Window], count: int, *, length: int, overlap: int) -> tuple[Window, ...] | None:
    """The windows of an earlier take (`grid`), for a shot of the same first frame that now has `count` frames.

    Frames behind its end are an equal run of their own from its last `overlap` frames, which are kept with every
    take; None when it has fewer. A shot that became shorter has the windows that still begin inside, the last one cut
    to the least that covers what is left of it.
    """
    until = grid[-1].keep.last + 1
    if count <= until:
        inside = [window for window in grid if window.keep.first < count]
        return (*inside[:-1], _cut(inside[-1], count - inside[-1].keep.first))
    if until < overlap:
        return None
    run = windows(count - until + overlap, length=length, overlap=overlap)
    first = replace(run[0], keep=FrameRange(overlap, run[0].keep.count - overlap), overlap=overlap)
    return (*grid, *(_later(window, until - overlap) for window in (first, *run[1:])))


def _cut(window: Window, kept: int) -> Window:
    """The window with its first `kept` frames, and no longer than they need; itself when it keeps no more."""
    if kept >= window.keep.count:
        return window
    least = (window.overlap + kept + 2) // 4 * 4 + 1
    return replace(window, frames=FrameRange(window.frames.first, least), keep=FrameRange(window.keep.first, kept))


def _later(window: Window, by: int) -> Window:
    frames, keep = window.frames, window.keep
    return replace(window, frames=replace(frames, first=frames.first + by), keep=replace(keep, first=keep.first + by))
