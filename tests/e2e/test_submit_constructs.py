"""Small cuts of one construct each, through `submit`: every frame a player asks for is there, and is the right one.

A player finds frames by OpenTimelineIO's own arithmetic, on the returned cut and on the cut that was submitted; both
must lead to the same number, and the picture outside the matte must be that frame of the plate.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import opentimelineio as otio
import pytest
from submissions import FIRST_FILE, FIRST_TC, HEIGHT, WIDTH, Cut, plate_pixels, read_exr, span, time

PLATE = 24  # frames of the plate


@pytest.fixture
def scene(cut: Cut) -> Cut:
    """One plate of 24 frames with one character; the clips are the test's."""
    cut.character("ada", "blue", (220, 30, 30))
    cut.plate("SH010", PLATE)
    cut.matte("SH010", "ada", PLATE, (20, 10, 20, 30))
    cut.manifest["handles"] = {"head": 0, "tail": 0}
    cut.manifest["defaults"] |= {"steps": 1, "segment": {"length": 5, "overlap": 1}}
    cut.manifest["cast"] = [{"when": {"clip": "SH*"}, "characters": [{"id": "ada"}]}]
    return cut


def warp(scalar: float) -> dict[str, Any]:
    return {
        "OTIO_SCHEMA": "LinearTimeWarp.1",
        "metadata": {},
        "name": "",
        "effect_name": "LinearTimeWarp",
        "time_scalar": scalar,
    }


def dissolve(before: float, after: float) -> dict[str, Any]:
    return {
        "OTIO_SCHEMA": "Transition.1",
        "metadata": {},
        "name": "",
        "transition_type": "SMPTE_Dissolve",
        "in_offset": time(before),
        "out_offset": time(after),
    }


def compound(*children: dict[str, Any], source: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    inner = {"OTIO_SCHEMA": "Track.1", "kind": "Video", "name": "inner", "children": list(children), "effects": []}
    inner |= {"metadata": {}, "source_range": None, "markers": [], "enabled": True}
    outer = {"OTIO_SCHEMA": "Stack.1", "name": "compound", "children": [inner], "metadata": {}, "markers": []}
    return outer | {"source_range": source, "effects": [], "enabled": True} | more


def clips(path: Path) -> Iterator[Any]:
    timeline: Any = otio.adapters.read_from_file(str(path))
    yield from timeline.find_clips()


def sampled(clip: Any) -> list[int]:
    """The plate numbers a player shows for a clip, one a record frame, dissolves included, worked out anew."""
    speed = Fraction(1)
    item = clip
    while item is not None and not isinstance(item, otio.schema.Timeline):
        for effect in getattr(item, "effects", []):
            speed *= Fraction(effect.time_scalar)
        item = item.parent()
    start = Fraction(clip.source_range.start_time.value) - FIRST_TC
    count = int(clip.source_range.duration.value)
    before = after = 0
    track = clip.parent()
    index = track.index(clip)
    if index > 0 and isinstance(track[index - 1], otio.schema.Transition):
        before = int(track[index - 1].in_offset.value)
    if index + 1 < len(track) and isinstance(track[index + 1], otio.schema.Transition):
        after = int(track[index + 1].out_offset.value)
    return [FIRST_FILE + floor(start + k * abs(speed)) for k in range(-before, count + after)]


def delivered(clip: Any, number: int, beside: Path) -> Path:
    """The file a player opens for a plate number, by the time it stands for."""
    reference = clip.media_reference
    assert isinstance(reference, otio.schema.ImageSequenceReference)
    assert clip.active_media_reference_key == "scail2_farm"
    when = otio.opentime.RationalTime(FIRST_TC + number - FIRST_FILE, 24)
    frame = reference.frame_for_time(when)
    url = reference.target_url_for_image_number(frame - reference.start_frame)
    return beside / url


def expect_all(cut: Cut, *, folder: str = "SH010", seed: int = 0) -> set[int]:
    """Every frame of every linked clip is there and is the plate's outside the matte; answers the numbers shown."""
    shown: set[int] = set()
    for original, returned in zip(clips(cut.folder / "edit.otio"), clips(cut.folder / "edit.scail2.otio"), strict=True):
        if returned.active_media_reference_key != "scail2_farm":
            continue
        assert returned.source_range == original.source_range
        assert [effect.to_json_string() for effect in returned.effects] == [
            e.to_json_string() for e in original.effects
        ]
        for number in sampled(original):
            path = delivered(returned, number, cut.folder)
            assert int(path.name.split(".")[-2]) == number
            outside = np.ones((HEIGHT, WIDTH), bool)
            index = number - FIRST_FILE
            outside[10:40, min(20 + index, WIDTH - 20) : min(20 + index, WIDTH - 20) + 20] = False
            wanted = plate_pixels(seed, index)
            assert np.array_equal(read_exr(path).view(np.uint16)[outside], wanted.view(np.uint16)[outside]), path.name
            shown.add(number)
    assert shown
    return shown


def submit(cut: Cut, farm: Any) -> dict[str, Any]:
    said = farm("submit", cut.write(), "--weights", cut.weights, "--json")
    assert said.code == 0, said.err
    return said.document


def test_a_clip_at_double_speed(scene, farm):
    scene.clip("SH010", first=3, count=7, available=PLATE, effects=[warp(2.0)])
    document = submit(scene, farm)
    assert document["plan"]["shots"][0]["uses"] == [{"shot": "SH010", "cut": {"first": 1004, "count": 14}}]
    assert expect_all(scene) == set(range(1004, 1018, 2))


def test_a_reversed_clip_at_half_speed(scene, farm):
    scene.clip("SH010", first=4, count=10, available=PLATE, effects=[warp(-0.5)])
    submit(scene, farm)
    assert expect_all(scene) == set(range(1005, 1010))


def test_a_freeze_frame_is_one_frame(scene, farm):
    freeze = warp(0.0) | {"OTIO_SCHEMA": "FreezeFrame.1", "effect_name": "FreezeFrame"}
    scene.clip("SH010", first=6, count=12, available=PLATE, effects=[freeze])
    document = submit(scene, farm)
    assert document["takes"][0]["frames"] == {"first": 1007, "count": 1}
    assert expect_all(scene) == {1007}


def test_a_dissolve_needs_frames_beyond_the_cut(scene, farm):
    scene.clip("SH010", first=0, count=6, available=PLATE)
    scene.clips.append(dissolve(2, 3))
    scene.clip("SH010", first=14, count=6, available=PLATE)
    document = submit(scene, farm)
    assert [take["frames"] for take in document["takes"]] == [{"first": 1001, "count": 9}, {"first": 1013, "count": 8}]
    assert expect_all(scene) == set(range(1001, 1010)) | set(range(1013, 1021))


def test_a_trimmed_and_retimed_compound(scene, farm):
    inner = scene.clip("SH010", first=2, count=16, available=PLATE)
    scene.clips.clear()
    scene.clips.append(compound(inner, source=span(4, 4), effects=[warp(2.0)]))
    document = submit(scene, farm)
    (shot,) = document["plan"]["shots"]
    # the compound shows 4 frames at double speed: 8 of its own from its frame 4, which is the clip's plate frame 7
    assert shot["uses"][0]["cut"] == {"first": 1007, "count": 8}
    (returned,) = clips(scene.folder / "edit.scail2.otio")
    for number in range(1007, 1015):
        assert delivered(returned, number, scene.folder).is_file()


def test_holes_are_held_and_told_of(scene, farm):
    for number in (1006, 1007):
        (scene.folder / "plates" / "SH010" / f"SH010.{number}.exr").unlink()
        (scene.folder / "mattes" / "SH010" / f"ada.{number}.png").unlink()
    scene.clip("SH010", first=2, count=8, available=PLATE)
    scene.manifest["missing"] = "hold"
    document = submit(scene, farm)
    assert document["plan"]["shots"][0]["stood_in"] == [1006, 1007]
    held, source = (scene.frame("SH010", number) for number in (1007, 1005))
    assert np.array_equal(read_exr(held)[:8].view(np.uint16), read_exr(source)[:8].view(np.uint16))
    (returned,) = clips(scene.folder / "edit.scail2.otio")
    assert all(delivered(returned, number, scene.folder).is_file() for number in range(1003, 1011))


def test_two_uses_whose_handles_touch_are_one_render(scene, farm):
    scene.manifest["handles"] = {"head": 2, "tail": 2}
    scene.clip("SH010", first=2, count=5, available=PLATE)
    scene.clip("SH010", first=11, count=5, available=PLATE)
    document = submit(scene, farm)
    assert len(document["takes"]) == 1
    assert document["takes"][0]["frames"] == {"first": 1001, "count": 18}
    first, second = document["plan"]["clips"]
    assert first["render"] == second["render"] == "SH010"
    assert expect_all(scene) == set(range(1003, 1008)) | set(range(1012, 1017))


def test_two_uses_apart_are_two_renders(scene, farm):
    scene.clip("SH010", first=0, count=5, available=PLATE)
    scene.clip("SH010", first=6, count=5, available=PLATE)
    assert len(submit(scene, farm)["takes"]) == 2
    assert expect_all(scene) == set(range(1001, 1006)) | set(range(1007, 1012))


def test_a_sequence_of_every_second_number(scene, farm):
    folder = scene.folder / "plates" / "SH010"
    for number in range(FIRST_FILE + 1, FIRST_FILE + PLATE, 2):
        (folder / f"SH010.{number}.exr").unlink()
        (scene.folder / "mattes" / "SH010" / f"ada.{number}.png").unlink()
    clip = scene.clip("SH010", first=2, count=6, available=PLATE // 2)
    clip["media_references"]["DEFAULT_MEDIA"]["frame_step"] = 2
    document = submit(scene, farm)
    assert document["plan"]["shots"][0]["step"] == 2
    numbers = [1005, 1007, 1009, 1011, 1013, 1015]
    files = sorted(scene.version("SH010").glob("*.exr"))
    assert [int(path.name.split(".")[-2]) for path in files] == numbers
    (returned,) = clips(scene.folder / "edit.scail2.otio")
    reference = returned.media_reference
    for index, number in enumerate(numbers):
        frame = reference.frame_for_time(otio.opentime.RationalTime(FIRST_TC + 2 + index, 24))
        assert frame == number
        wanted = plate_pixels(0, number - FIRST_FILE)
        assert np.array_equal(read_exr(scene.frame("SH010", number))[:8], wanted[:8])
