"""A night: cuts dropped one after another into a farm whose processes keep dying; in the morning all are back."""

import random
import time
from collections import Counter
from pathlib import Path

import opentimelineio as otio
from farmhouse import (
    FULL,
    VICTIMS,
    Farm,
    assert_at_rest,
    assert_nothing_lost_nothing_twice,
    books,
    many_shots,
    undisturbed,
)
from figures import record
from submissions import Cut

DROPS, SHOTS_OF_A_DROP, SEGMENTS_OF_A_SHOT, EVENING_S = (6, 2, 6, 60.0) if FULL else (4, 1, 2, 6.0)
SHOTS = DROPS * SHOTS_OF_A_DROP
KILLS_A_SEGMENT = 2
LONGEST_S = 1.5
"""Between two kills."""


def test_a_night(tmp_path, weights):
    cuts = {f"night{number}": _show(tmp_path, weights, number) for number in range(1, DROPS + 1)}
    wanted = {name: undisturbed(cut) for name, cut in cuts.items()}
    with Farm(tmp_path / "farm", weights) as farm:
        killed = _night(farm, cuts, random.Random(5))
        for name in cuts:
            farm.returned(name, within_s=120)
        farm.up()
        assert farm.end() == 0
    assert killed.total() > DROPS
    assert len(killed) > 1, f"only these were killed: {killed}"
    assert not FULL or set(killed) == set(VICTIMS)
    for name, cut in cuts.items():
        assert_nothing_lost_nothing_twice(farm, cut=cut, wanted=wanted[name], job=name)
        assert _linked(cut.folder / f"{name}.scail2.otio") == {
            clip["name"]: cut.folder / f"{name}.scail2" / "shots" / clip["name"] / "v001" for clip in cut.clips
        }
    ledger = books(farm)
    assert ledger.integrity == "ok"
    again = ledger.attempts - ledger.done.total()
    assert again <= killed.total()
    assert_at_rest(farm, *(cut.folder for cut in cuts.values()))
    record("night", shots=SHOTS, drops=DROPS, kills=killed.total(), by_kind=dict(killed), rendered_again=again)


def _night(farm: Farm, cuts: dict[str, Cut], chance: random.Random) -> Counter[str]:
    """Drop the cuts over the evening and kill at random until all is rendered; how often each was killed."""
    killed: Counter[str] = Counter()
    began, waiting = time.monotonic(), list(cuts.items())
    while waiting or farm.rendered < SHOTS * SEGMENTS_OF_A_SHOT:
        if waiting and time.monotonic() - began >= EVENING_S * (len(cuts) - len(waiting)) / len(cuts):
            name, cut = waiting.pop(0)
            farm.drop(cut, name)
        if killed.total() < DROPS + KILLS_A_SEGMENT * farm.rendered:
            time.sleep(chance.random() * LONGEST_S)
            killed[farm.kill_any(chance)] += 1
        else:
            time.sleep(0.02)
    return killed


def _show(folder: Path, weights: Path, number: int) -> Cut:
    """The cut of one drop, with shots that no other has."""
    cut = Cut(folder / f"show{number}", weights)
    first = 1 + (number - 1) * SHOTS_OF_A_DROP
    return many_shots(cut, SHOTS_OF_A_DROP, frames=5 + 4 * SEGMENTS_OF_A_SHOT, handles=0, first=first)


def _linked(returned: Path) -> dict[str, Path]:
    """The folders of the media that OpenTimelineIO finds active, by clip; every frame of them is there."""
    found: dict[str, Path] = {}
    for clip in otio.adapters.read_from_file(str(returned)).find_clips():
        take = clip.media_reference
        assert isinstance(take, otio.schema.ImageSequenceReference)
        assert take.available_range == clip.source_range  # without handles
        files = [
            returned.parent / take.target_url_for_image_number(number)
            for number in range(take.number_of_images_in_sequence())
        ]
        assert all(file.is_file() for file in files)
        found[clip.name] = files[0].parent
    return found
