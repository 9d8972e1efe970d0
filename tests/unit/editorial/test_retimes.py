"""What effects say about an item's time, and what a compound shows of its items, without a cut around them."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from cuts import effect, lookup, speed

from scail2_farm.editorial.nesting import Around, Part, sample
from scail2_farm.editorial.rates import Range, Time
from scail2_farm.editorial.retimes import PLAIN, Sampling, Warp, read_warp
from scail2_farm.frames import FrameRange

Node = dict[str, Any]
CUT = Path("cut.otio")


def warp(*effects: Node) -> tuple[Warp, list[str]]:
    return read_warp({"effects": list(effects)}, CUT, ())


def trim(start: int, count: float, rate: int = 24) -> Range:
    return Range(Time(Fraction(start), Fraction(rate)), Time(Fraction(count), Fraction(rate)))


def seconds(frames: float) -> Fraction:
    return Fraction(frames) / 24


NO_REACH = seconds(0), seconds(0)

# ----------------------------------------------------------------------- effects


@pytest.mark.parametrize(
    ("effects", "product"),
    [
        ([], 1),
        ([effect("Effect.1")], 1),
        ([effect("AcmeGlow.1")], 1),
        ([speed(2.0), effect("Effect.1"), speed(-0.25)], Fraction(-1, 2)),
        ([speed(0.8545454551724138)], Fraction("0.8545454551724138")),
        ([effect("FreezeFrame.1", time_scalar=7.0)], 0),
        ([effect("FreezeFrame.1"), speed(3.0)], 0),
        ([speed(2.0) | {"enabled": False}], 1),
        ([effect("LinearTimeWarp.1")], 1),
    ],
)
def test_scalars_multiply(effects: list[Node], product: Fraction):
    assert warp(*effects) == (Warp(speed=Fraction(product)), [])


def test_an_item_without_effects_is_plain():
    assert read_warp({"effects": None}, CUT, ()) == (PLAIN, [])


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (speed(float("inf")), "a LinearTimeWarp (fx) of inf, which is no speed"),
        (speed(float("nan")), "of nan, which is no speed"),
        (speed(10**400), "which is no speed"),
        (effect("LinearTimeWarp.1", time_scalar=True), "of True, which is no speed"),
        (speed(1e5), "a speed of 100000, more than 1000 times"),
        (effect("TimeEffect.1", metadata={"lookup": []}), "a TimeEffect (fx) with a lookup that is no list of frames"),
        (effect("TimeEffect.1", metadata={"lookup": "1 2"}), "no list of frames"),
        (lookup(0, float("nan")), "of nan, which is no number of frames in its lookup"),
    ],
)
def test_what_is_no_retime_is_named(one: Node, words: str):
    _, (strange,) = warp(one)
    assert words in strange


def test_a_curve_without_numbers_is_unknown_whatever_is_beside_it():
    found, strange = warp(speed(2.0), effect("TimeEffect.1"), lookup(1, 2))
    assert (found.speed, found.unknown, strange) == (None, True, [])


@pytest.mark.parametrize(
    ("effects", "frames", "low", "high"),
    [
        ([lookup(-5, -3.944, 1, 2)], (0, 3), -5, 5),  # -5, -2.944, 3, 5
        ([lookup(-5, -3.944, 1, 2)], (2, 2), 3, 3),
        ([speed(2.0), lookup(0, 0, 1, 0)], (0, 3), 0, 6),  # 0 1 3 3 at double speed
        ([lookup(0, 0, 10, 0, 0, 0, 0), speed(2.0)], (0, 3), 0, 12),  # frames 0 2 4 6 of the lookup: 0 12 4 6
        ([lookup(0, 5, 0, 0), lookup(0, 0.5, -1, -3)], (0, 2), 0, 6),  # 1.5 is between 1 + 5 and 2
        ([speed(0.0), lookup(3, 9)], (0, 1), 0, 0),
        ([lookup(3, 9), speed(0.0)], (0, 1), 3, 3),
    ],
)
def test_lookups_compose_from_the_media_outwards(effects: list[Node], frames: tuple[int, int], low: float, high: float):
    found, strange = warp(*effects)
    assert strange == []
    assert found.positions(*frames) == (low, high)


@pytest.mark.parametrize(
    "effects", [[lookup(0, 1), speed(2.0)], [lookup(0, 1), lookup(0, 3)], [lookup(0, 1), lookup(-1, 0)]]
)
def test_a_lookup_that_does_not_reach_is_refused(effects: list[Node]):
    with pytest.raises(ValueError, match="a TimeWarp of 2 frames that has none for frame"):
        warp(*effects)[0].positions(0, 1)


# ----------------------------------------------------------------------- what a sampling needs


@pytest.mark.parametrize(
    ("sampling", "first", "step", "frames"),
    [
        (Sampling(length=Fraction(10)), Fraction(5), Fraction(1), FrameRange(5, 10)),
        (Sampling(length=Fraction(10)), Fraction(5), Fraction(2), FrameRange(5, 19)),
        (Sampling(kind="span", length=Fraction(10)), Fraction(5), Fraction(2), FrameRange(5, 20)),
        (Sampling(kind="freeze"), Fraction(11, 2), Fraction(2), FrameRange(5, 1)),
        (Sampling(kind="curve", low=Fraction(-3, 2), high=Fraction(4)), Fraction(10), Fraction(1), FrameRange(8, 7)),
        # at other rates a lookup is read both ways: 8 .. 14 in frames of the media, 7 .. 18 in frames of the cut
        (Sampling(kind="curve", low=Fraction(-3, 2), high=Fraction(4)), Fraction(10), Fraction(2), FrameRange(7, 12)),
    ],
)
def test_the_frames_a_sampling_needs(sampling: Sampling, first: Fraction, step: Fraction, frames: FrameRange):
    assert sampling.needed(first, step) == frames


# ----------------------------------------------------------------------- compounds


def test_a_compound_shows_its_source_range_times_its_speed():
    around = Around(origin=seconds(100)).entered(
        at=seconds(10), length=seconds(20), trim=trim(5, 20), warp=Warp(speed=Fraction(3, 2)), before=NO_REACH
    )
    assert around.window == (seconds(5), seconds(35))
    part = around.part(seconds(30), seconds(10), seconds(0), seconds(0))
    assert part is not None
    assert (part.head, part.seconds) == (0, seconds(5))
    # own 30 is (30 - 5) / 1.5 into the compound, which stands at 110 in the record
    assert part.record == (seconds(110) + seconds(25) / Fraction(3, 2), seconds(130))


def test_in_reverse_the_record_runs_the_other_way():
    around = Around(origin=seconds(0)).entered(
        at=seconds(0),
        length=seconds(20),
        trim=trim(0, 20),
        warp=Warp(speed=Fraction(-1)),
        before=(seconds(2), seconds(0)),
    )
    part = around.part(seconds(0), seconds(5), seconds(0), seconds(0))
    assert part is not None
    assert part.record == (seconds(15), seconds(20))
    assert around.edges == (0, seconds(2))  # what comes before it is its end


def test_a_freeze_shows_one_item_for_all_of_its_time():
    around = Around(origin=seconds(0)).entered(
        at=seconds(3), length=seconds(12), trim=trim(7, 12), warp=Warp(speed=Fraction(0)), before=NO_REACH
    )
    assert around.part(seconds(0), seconds(7), seconds(0), seconds(0)) is None
    shown = around.part(seconds(7), seconds(9), seconds(0), seconds(0))
    assert shown == Part(head=seconds(0), seconds=seconds(0), record=(seconds(3), seconds(15)), cut=True)


def test_a_frozen_compound_that_is_trimmed_out_shows_nothing():
    outer = Around(origin=seconds(0)).entered(
        at=seconds(0), length=seconds(5), trim=trim(0, 5), warp=PLAIN, before=NO_REACH
    )
    frozen = outer.entered(
        at=seconds(8), length=seconds(4), trim=trim(0, 4), warp=Warp(speed=Fraction(0)), before=NO_REACH
    )
    assert frozen.part(seconds(0), seconds(9), seconds(0), seconds(0)) is None


@pytest.mark.parametrize(
    ("around", "more", "words"),
    [
        (Around(origin=None), {"length": None, "warp": Warp(speed=Fraction(-1))}, "unknown length"),
        (Around(origin=None, window=(seconds(0), seconds(4))), {"at": None}, "an unknown place in a trimmed compound"),
        (
            Around(origin=None),
            {"trim": None, "warp": Warp(speed=None, steps=((Fraction(0),),))},
            "without a source range",
        ),
        (
            Around(origin=None, window=NO_REACH, frozen=True),
            {"warp": Warp(speed=Fraction(-2))},
            "reversed inside a frozen one",
        ),
        (Around(origin=None, window=NO_REACH, frozen=True), {"warp": Warp(speed=None)}, "curve in a frozen"),
    ],
)
def test_what_cannot_be_reckoned_is_said(around: Around, more: dict[str, Any], words: str):
    plain: dict[str, Any] = {"at": seconds(0), "length": seconds(9), "trim": trim(0, 9), "warp": PLAIN}
    with pytest.raises(ValueError, match=words):
        around.entered(before=NO_REACH, **(plain | more))


def test_a_reversed_clip_is_trimmed_from_its_other_end():
    part = Part(head=seconds(2), seconds=seconds(3), cut=True)
    start, found = sample(part, trim(100, 10), Warp(speed=Fraction(-2)), around=Around(origin=None), own_trim=True)
    assert (start.value, found.length) == (100 + (10 - 5) * 2, 6)
