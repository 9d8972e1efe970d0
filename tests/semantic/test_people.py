"""The miniature replaces the right people: mean colours inside mattes, on fixed drawn scenes.

Limits are looser than what evaluate.py measures on many clips, and far from what a swapped slot, a wrong mode or a lost
history gives.
"""

import dataclasses

import numpy as np
import pytest
from people import distance, mean_color, played, seen
from scenes import Clip, scene

from scail2_farm import engine
from scail2_farm.settings import check_weights

SIZE = {"width": 96, "height": 64}
SEEDS = (101, 202)


@pytest.fixture(scope="module")
def miniature() -> engine.Engine:
    return engine.load(check_weights("miniature"))


def looks(clip: Clip) -> dict[str, np.ndarray]:
    """Mean colours by name: every character, every actor and the surroundings."""
    found: dict[str, np.ndarray] = {}
    for slot in clip.slots:
        found[f"character {slot}"] = mean_color(clip.target, clip.labels == slot)
        found[f"actor {slot}"] = mean_color(clip.driving, clip.labels == slot)
    return found


@pytest.mark.parametrize("replace", [True, False], ids=["replacement", "animation"])
@pytest.mark.parametrize("characters", [1, 2])
def test_each_character_is_in_its_own_matte(miniature, characters, replace):
    to_character: list[float] = []
    to_actor: list[float] = []
    for seed in SEEDS:
        clip = scene(seed, characters=characters, replace=replace, aspect=1.5).draw(**SIZE, frames=9)
        frames = played(miniature, clip)
        named = looks(clip)
        assert seen(frames, clip.labels, named) == {slot: f"character {slot}" for slot in clip.slots}, seed
        for slot in clip.slots:
            color = mean_color(frames, clip.labels == slot)
            to_character.append(distance(color, named[f"character {slot}"]))
            to_actor.append(distance(color, named[f"actor {slot}"]))
    assert np.mean(to_character) < 20
    assert np.mean(to_character) < 0.5 * np.mean(to_actor)


def test_exchanged_reference_colors_exchange_the_people(miniature):
    for seed in SEEDS:
        drawn = scene(seed, characters=2, aspect=1.5)
        clip = drawn.draw(**SIZE, frames=9)
        other = drawn.exchanged().draw(**SIZE, frames=9)
        assert (clip.driving == other.driving).all()
        assert (clip.reference == other.reference).all()
        named = {name: color for name, color in looks(clip).items() if name.startswith("character")}
        one, two = clip.slots
        assert seen(played(miniature, clip), clip.labels, named) == {one: f"character {one}", two: f"character {two}"}
        assert seen(played(miniature, other), clip.labels, named) == {one: f"character {two}", two: f"character {one}"}


def test_a_bystander_is_left_alone(miniature):
    for seed in SEEDS:
        clip = scene(seed, characters=1, bystanders=1, aspect=1.5).draw(**SIZE, frames=9)
        frames = played(miniature, clip)
        color = mean_color(frames, clip.bystanders)
        themselves = distance(color, mean_color(clip.driving, clip.bystanders))
        (slot,) = clip.slots
        assert themselves < distance(color, mean_color(clip.target, clip.labels == slot)), seed
        assert themselves < 25


def test_a_chain_of_segments_keeps_the_people(miniature):
    drawn = scene(SEEDS[0], characters=2, aspect=1.5)
    known = played(miniature, drawn.draw(**SIZE, frames=9))
    for segment in range(1, 4):
        clip = drawn.draw(**SIZE, frames=9, first=4 * segment)
        fresh = played(miniature, clip, segment=segment, history=known[-5:])
        known = np.concatenate([known, fresh])
    assert len(known) == 9 + 3 * 4
    whole = drawn.draw(**SIZE, frames=len(known))
    last = dataclasses.replace(whole, labels=whole.labels[-4:], target=whole.target[-4:], driving=whole.driving[-4:])
    assert seen(known[-4:], last.labels, looks(last)) == {slot: f"character {slot}" for slot in last.slots}
