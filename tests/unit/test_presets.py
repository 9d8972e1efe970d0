"""The presets are the table of their numbers, and each number gives way to one that is said."""

import pytest

from scail2_farm.documents import Preset, SegmentSettings, Settled
from scail2_farm.shots import PRESET_LORAS, PRESET_SIZES, PRESETS, sampler, settled

TABLE: dict[Preset, tuple[tuple[str, int, float, float], dict[str, float], tuple[int, int] | None]] = {
    "preview": (("euler", 6, 5.0, 1.0), {"dpo": 1.0, "lightx2v": 0.8}, (512, 288)),
    "lightning": (("unipc", 8, 1.0, 1.0), {"lightx2v": 1.0}, None),
    "fast": (("dpmpp", 16, 5.0, 5.0), {"dpo": 1.0}, None),
    "quality": (("unipc", 40, 3.0, 5.0), {"dpo": 1.0}, None),
    "paper": (("euler", 50, 5.0, 4.0), {"dpo": 1.0}, None),
}
"""Solver, steps, shift and guidance; adapters and their strengths; the size where it is not the job's."""

ANOTHER = {"euler": "unipc", "unipc": "dpmpp", "dpmpp": "euler"}


def said_of(preset: Preset) -> dict[str, object]:
    """Numbers that the preset has not."""
    return {"solver": ANOTHER[TABLE[preset][0][0]], "steps": 3, "shift": 7.5, "guidance": 0.0}


def test_the_table_is_whole():
    assert PRESETS.keys() == PRESET_LORAS.keys() == TABLE.keys()
    for preset, (numbers, loras, size) in TABLE.items():
        assert PRESETS[preset] == numbers
        assert dict(PRESET_LORAS[preset]) == loras
        assert PRESET_SIZES.get(preset) == size


@pytest.mark.parametrize("preset", TABLE)
def test_a_preset_is_its_numbers(preset: Preset):
    found = sampler(Settled(preset=preset))
    assert found.preset == preset
    assert (found.solver, found.steps, found.shift, found.guidance) == TABLE[preset][0]


@pytest.mark.parametrize("number", ["solver", "steps", "shift", "guidance"])
@pytest.mark.parametrize("preset", TABLE)
def test_a_number_that_is_said_is_that_one_alone(preset: Preset, number: str):
    own, value = sampler(Settled(preset=preset)).model_dump(), said_of(preset)[number]
    said = sampler(Settled.model_validate({"preset": preset, number: value})).model_dump()
    assert said == own | {number: value}
    assert said != own


@pytest.mark.parametrize("preset", TABLE)
def test_a_preset_of_a_segment_starts_from_its_own_numbers(preset: Preset):
    shot = Settled.model_validate({"preset": "quality", **said_of(preset)})
    own = SegmentSettings(frames=(1, 2), preset=preset)
    assert sampler(settled(shot, own)) == sampler(Settled(preset=preset))
    more = SegmentSettings.model_validate({"frames": (1, 2), "preset": preset, "steps": 9})
    assert sampler(settled(shot, more)) == sampler(Settled(preset=preset, steps=9))
