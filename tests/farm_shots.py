"""Sealed shots for the ledger's tests: small documents whose segments are known by letters.

`chain("abc")` is three segments, each known by itself and those before it: "ab" and "ac" share their first one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction

from scail2_farm.documents import (
    CanvasSize,
    Fault,
    FileDigest,
    Handles,
    Performer,
    PlateColor,
    PlateSource,
    Reference,
    Sampler,
    SealedSegment,
    SealedShot,
    Span,
    Use,
)
from scail2_farm.farm.ledger import NewJob, NewShot


class StandingClock:
    """A clock that stands until it is moved, and whose wall may be set back."""

    def __init__(self, wall: float = 1_790_000_000.0):
        self._wall = wall
        self._monotonic = 0.0

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def pass_by(self, seconds: float) -> None:
        self._wall += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        self._wall += seconds


def chain(letters: str) -> tuple[str, ...]:
    """The keys of a chain, one for each letter."""
    return tuple(hashlib.sha256(letters[: end + 1].encode()).hexdigest() for end in range(len(letters)))


def sealed(name: str, keys: Sequence[str]) -> SealedShot:
    """A shot with these segments, each of 5 frames."""
    canvas = CanvasSize(width=64, height=32, active=(0, 0, 64, 32))
    sampler = Sampler(preset="preview", solver="unipc", steps=4, shift=5.0, guidance=1.0)
    segments = tuple(
        SealedSegment(
            mode="replacement",
            prompt="a person walks",
            negative_prompt="",
            seed=1,
            sampler=sampler,
            canvas=canvas,
            key=key,
            window=Span(first=1001 + 4 * index, count=5),
            overlap=1 if index else 0,
            keep=Span(first=1001 + 4 * index + bool(index), count=4 + (not index)),
            leave=5,
        )
        for index, key in enumerate(keys)
    )
    frames = Span(first=1001, count=4 * len(keys) + 1)
    return SealedShot(
        id=name,
        uses=(Use(clip=name, cut=frames),),
        frames=frames,
        handles_asked=Handles(),
        handles_given=Handles(head=0, tail=0),
        plate=PlateSource(
            kind="exr",
            path=f"/plates/{name}.####.exr",
            frames=frames,
            width=64,
            height=36,
            rate=Fraction(24),
            timecode_start=None,
        ),
        color=PlateColor(config="builtin", space="ACEScg", decided_by="test"),
        performers=(
            Performer(
                id="hero",
                slot="blue",
                references=(Reference(image="/hero.png", mask=None),),
                seen=None,
                prompt="",
                matte="/mattes/hero.####.png",
                matte_offset=0,
            ),
        ),
        segments=segments,
        weights=FileDigest(path="/weights", sha256="0" * 64),
        inputs=(),
    )


def new_job(name: str, id: str | None = None, *, priority: int = 50, seen: int = 0, cut: str | None = "") -> NewJob:
    """A job; its cut is returned beside it unless `cut` says otherwise."""
    own = id or name
    return NewJob(
        id=own,
        name=name,
        sha256=hashlib.sha256(own.encode()).hexdigest(),
        priority=priority,
        folder=f"/show/plans/{own}",
        deliver_to=f"/show/{name}.scail2",
        cut=f"/show/{name}.scail2.otio" if cut == "" else cut,
        raw=False,
        movie="prores",
        submission="{}",
        warnings=(),
        seen=seen,
    )


def new_shot(
    name: str,
    letters: str,
    *,
    finished: int = 0,
    delivered: bool = False,
    work: float = 10.0,
    memory: int = 0,
    disk: int = 0,
    seed: int | None = None,
) -> NewShot:
    """A shot whose first `finished` segments are on disk."""
    return NewShot(
        document=sealed(name, chain(letters)),
        finished=tuple(index < finished for index in range(len(letters))),
        delivered=delivered,
        work=(work,) * len(letters),
        need_memory=memory,
        need_disk=disk,
        seed=seed,
    )


def fault(what: str = "the plate is gone", code: str = "SF-PLATE-MISSING") -> Fault:
    """A fault."""
    return Fault(code=code, what=what, why="because", fix="put it back")
