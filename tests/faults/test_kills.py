"""kill -9 of every process of a farm at random moments: nothing is lost, nothing is done twice, no byte is wrong."""

import random
import time
from collections import Counter

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

KILLS, SHOTS, SEGMENTS_OF_A_SHOT = (1000, 60, 4) if FULL else (60, 12, 2)
SEGMENTS = SHOTS * SEGMENTS_OF_A_SHOT
AHEAD = 3
"""Segments' worth of kills that may come before anything is rendered."""
LONGEST_S = 1.0
"""Between two kills."""
PLANNING_S = 0.4
"""Less than planning takes."""


def test_killed_at_random(tmp_path, weights):
    cut = many_shots(Cut(tmp_path / "show", weights), SHOTS, frames=5 + 4 * SEGMENTS_OF_A_SHOT, handles=0)
    wanted = undisturbed(cut)
    with Farm(tmp_path / "farm", weights) as farm:
        farm.drop(cut)
        killed = _kill(farm, random.Random(20260727))
        assert farm.returned(within_s=120)["segments"] == {"done": SEGMENTS, "of": SEGMENTS}
        farm.up()
        assert farm.end() == 0
    assert killed.total() == KILLS
    assert set(killed) == {*VICTIMS, "plan"}, f"only these were killed: {killed}"
    assert_nothing_lost_nothing_twice(farm, cut=cut, wanted=wanted)
    ledger = books(farm)
    assert ledger.integrity == "ok"
    assert ledger.states == Counter(done=SEGMENTS)
    again = ledger.attempts - SEGMENTS
    assert 0 < again <= KILLS
    assert_at_rest(farm, cut.folder)
    record("kills", kills=KILLS, by_kind=dict(killed), segments=SEGMENTS, frames=len(wanted), rendered_again=again)


def _kill(farm: Farm, chance: random.Random) -> Counter[str]:
    """Kill at random moments while everything is rendered: the kills keep up with the segments, and wait for them."""
    killed: Counter[str] = Counter()
    for _ in range(2):
        farm.until(lambda: "plan" in farm.children().values(), "child that plans")
        time.sleep(chance.random() * PLANNING_S)
        killed["plan"] += farm.kill_child("plan")
    while killed.total() < KILLS:
        farm.until(lambda: killed.total() * SEGMENTS < KILLS * (farm.rendered + AHEAD), "segment between kills")
        if killed.total() * SEGMENTS > KILLS * farm.rendered:
            time.sleep(chance.random() * LONGEST_S)
        killed[farm.kill_any(chance)] += 1
    return killed
