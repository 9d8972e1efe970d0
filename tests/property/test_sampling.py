"""The frames a clip needs, against a player written another way: every frame the cut shows is among them.

The player walks the cut down for one record frame at a time, as editorial.md §3 says an NLE does: an item lasts as long
as its source range, its own time runs at the product of its scalars, in reverse from its last frame, a freeze stands on
its first, a lookup adds to the frame's number, and a transition shows both of its neighbours at once.
"""

import json
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from math import floor, prod
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from scail2_farm.editorial.takes import TakeLink, link_takes, write_edit
from scail2_farm.editorial.timeline import Used, read_edit
from scail2_farm.frames import FrameRange

Node = dict[str, Any]
Hits = Iterator[tuple[str, Fraction]]

RATES = (24.0, 25.0, 30.0)


def time(value: float, rate: float) -> Node:
    return {"OTIO_SCHEMA": "RationalTime.1", "rate": rate, "value": float(value)}


def span(start: float, count: float, rate: float) -> Node:
    return {"OTIO_SCHEMA": "TimeRange.1", "start_time": time(start, rate), "duration": time(count, rate)}


SCALARS = st.lists(st.sampled_from([0.5, 0.75, 1.5, 2.0, 3.0, -1.0, -0.5, -2.0, 0.0]), max_size=2)


@st.composite
def warps(draw: st.DrawFn, count: int, *, curves: bool) -> list[Node]:
    kind = draw(st.sampled_from(["none", "none", "speed", "speed", "curve"]))
    shared = {"metadata": {}, "name": "", "effect_name": ""}
    if kind == "speed":
        return [{"OTIO_SCHEMA": "LinearTimeWarp.1", "time_scalar": s} | shared for s in draw(SCALARS)]
    if kind == "curve" and curves:
        offsets = st.floats(-20, 20, allow_nan=False).map(lambda value: round(value, 3))
        lookup = draw(st.lists(offsets, min_size=count, max_size=count))
        return [{"OTIO_SCHEMA": "TimeEffect.1"} | shared | {"metadata": {"lookup": lookup}}]
    return []


def lone_clip(source: Node, available: Node, effects: list[Node]) -> Node:
    reference = {
        "OTIO_SCHEMA": "ImageSequenceReference.1",
        "metadata": {},
        "name": "",
        "available_range": available,
        "available_image_bounds": None,
        "target_url_base": "plates",
        "name_prefix": "p.",
        "name_suffix": ".exr",
        "start_frame": 0,
        "frame_step": 1,
        "rate": 24.0,
        "frame_zero_padding": 4,
        "missing_frame_policy": "error",
    }
    return {
        "OTIO_SCHEMA": "Clip.2",
        "metadata": {},
        "name": "",
        "source_range": source,
        "effects": effects,
        "markers": [],
        "enabled": True,
        "media_references": {"DEFAULT_MEDIA": reference},
        "active_media_reference_key": "DEFAULT_MEDIA",
    }


@st.composite
def clips(draw: st.DrawFn, rate: float) -> Node:
    count = draw(st.integers(1, 12))
    source = span(10_000 + draw(st.integers(0, 9)), count, rate)
    return lone_clip(source, span(0, 20_000, rate), draw(warps(count, curves=True)))


@st.composite
def compounds(draw: st.DrawFn, rate: float, depth: int) -> Node:
    schema = draw(st.sampled_from(["Stack.1", "Track.1", "Track.1"]))
    children: list[Node] = []
    for _ in range(draw(st.integers(1, 4))):
        children.append(draw(items(rate, depth)))
        if schema == "Track.1" and draw(st.integers(0, 3)) == 0:
            offsets = [time(draw(st.integers(0, 4)), rate) for _ in range(2)]
            blend = {"OTIO_SCHEMA": "Transition.1", "metadata": {}, "name": "", "transition_type": "SMPTE_Dissolve"}
            children.append(blend | {"in_offset": offsets[0], "out_offset": offsets[1]})
    trimmed, count = draw(st.booleans()), draw(st.integers(1, 20))
    return {
        "OTIO_SCHEMA": schema,
        "metadata": {},
        "name": "compound",
        "source_range": span(draw(st.integers(0, 8)), count, rate) if trimmed else None,
        "effects": draw(warps(count, curves=trimmed)),
        "markers": [],
        "enabled": True,
        "children": children,
    } | ({"kind": "Video"} if schema == "Track.1" else {})


def items(rate: float, depth: int) -> st.SearchStrategy[Node]:
    gap = {
        "OTIO_SCHEMA": "Gap.1",
        "metadata": {},
        "name": "",
        "source_range": span(0, 3, rate),
        "effects": [],
        "markers": [],
        "enabled": True,
    }
    found = [clips(rate), clips(rate), st.just(gap)]
    return st.one_of(*found, compounds(rate, depth - 1)) if depth else st.one_of(*found)


@st.composite
def cuts(draw: st.DrawFn) -> Node:
    rate = draw(st.sampled_from(RATES))
    tracks = [draw(compounds(rate, 2)) | {"OTIO_SCHEMA": "Track.1", "kind": "Video"} for _ in range(2)]
    top = {"OTIO_SCHEMA": "Stack.1", "metadata": {}, "name": "tracks", "source_range": None}
    document = {"OTIO_SCHEMA": "Timeline.1", "metadata": {}, "name": "cut", "global_start_time": time(0, rate)}
    stack = top | {"effects": draw(warps(0, curves=False)), "markers": [], "enabled": True, "children": tracks}
    named(stack, [0])
    return document | {"tracks": json.loads(json.dumps(stack))}


def named(node: Node, counter: list[int]) -> None:
    """Give every clip a name of its own."""
    for index, child in enumerate(node.get("children", [])):
        node["children"][index] = child = dict(child)
        if child["OTIO_SCHEMA"] == "Clip.2":
            counter[0] += 1
            child["name"] = f"c{counter[0]}"
        named(child, counter)


# ----------------------------------------------------------------------- the player


def is_blend(node: Node) -> bool:
    return node["OTIO_SCHEMA"] == "Transition.1"


def length(node: Node) -> Fraction:
    """The frames an item lasts."""
    if node["source_range"] is not None:
        return Fraction(node["source_range"]["duration"]["value"])
    lengths = [length(child) for child in node["children"] if not is_blend(child)]
    return max(lengths) if node["OTIO_SCHEMA"] == "Stack.1" else sum(lengths, Fraction(0))


def own_time(node: Node, moment: Fraction) -> Fraction:
    """The frame of its own that an item shows `moment` frames after its start."""
    begins = Fraction(node["source_range"]["start_time"]["value"]) if node["source_range"] else Fraction(0)
    lookups = [effect["metadata"]["lookup"] for effect in node["effects"] if "lookup" in effect["metadata"]]
    if lookups:
        (lookup,) = lookups
        nearest = min(max(floor(moment), 0), len(lookup) - 1)
        return begins + moment + Fraction(str(lookup[nearest]))
    scalar = prod(Fraction(str(effect["time_scalar"])) for effect in node["effects"])
    if scalar >= 0:
        return begins + moment * scalar
    left = length(node) - 1 - moment if moment.denominator == 1 else length(node) - moment - Fraction(1, 1000)
    return begins + left * -scalar


def played(node: Node, moment: Fraction) -> Hits:
    """Every clip an item shows at a moment of its parent's time, and the position in its media."""
    if node["OTIO_SCHEMA"] == "Gap.1":
        return
    own = own_time(node, moment)
    if node["OTIO_SCHEMA"] == "Clip.2":
        yield node["name"], own
        return
    at = Fraction(0)
    children = node["children"]
    for index, child in enumerate(children):
        if is_blend(child):
            continue
        before = after = Fraction(0)
        if node["OTIO_SCHEMA"] == "Track.1":
            if index and is_blend(children[index - 1]):
                before = Fraction(children[index - 1]["in_offset"]["value"])
            if index + 1 < len(children) and is_blend(children[index + 1]):
                after = Fraction(children[index + 1]["out_offset"]["value"])
        if at - before <= own < at + length(child) + after:
            yield from played(child, own - at)
        if node["OTIO_SCHEMA"] == "Track.1":
            at += length(child)


@settings(max_examples=250, deadline=None)
@given(cuts())
def test_every_frame_the_cut_shows_is_among_the_frames_needed(document: Node):
    """With retimes, transitions and nesting in any order; the returned cut needs the same frames, and covers them."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "cut.otio"
        path.write_text(json.dumps(document), encoding="utf-8")
        edit = read_edit(path)
        found = {clip.name: clip for clip in edit.clips}
        shown: dict[str, set[int]] = {}
        for moment in range(int(length(document["tracks"]))):
            for clip, position in played(document["tracks"], Fraction(moment)):
                shown.setdefault(clip, set()).add(floor(position))
        links: dict[str, TakeLink] = {}
        uses: dict[str, Used] = {}
        for clip in edit.clips:
            if clip.fault is not None:
                assert any(words in clip.fault.what for words in ("reversed inside a frozen one", "curve in a frozen"))
                continue
            if clip.name in shown:
                assert clip.skipped is None, (clip.name, sorted(shown[clip.name]))
            if clip.skipped is not None:
                continue
            used = uses[clip.name] = clip.used()
            assert shown.get(clip.name, set()) <= set(used.frames.numbers), clip.name
            assert used.start.value == used.frames.first
            links[clip.id] = TakeLink(
                folder=Path(name) / clip.id,
                prefix="t.",
                padding=4,
                suffix=".exr",
                first_file=used.frames.first,
                count=used.frames.count,
                start=used.start,
            )
        write_edit(link_takes(edit, links), Path(name) / "out.otio")
        assert {
            clip.name: clip.used() for clip in read_edit(Path(name) / "out.otio").clips if clip.name in uses
        } == uses
        assert set(found) >= set(shown)


@given(
    st.integers(0, 500),
    st.integers(1, 400),
    st.sampled_from([24.0, 23.976, 25.0, 29.97, 48.0, 59.94]),
    st.sampled_from([24.0, 23.976, 25.0, 29.97, 48.0, 59.94]),
    st.sampled_from([1.0, 0.5, 2.0, -1.0, 1.25]),
)
@settings(max_examples=100, deadline=None)
def test_frames_in_are_frames_out_for_every_pair_of_rates(
    head: int, count: int, rate: float, own: float, scalar: float
):
    """At one rate and speed exactly the frames of the cut; else every frame that is sampled, and never two more."""
    with tempfile.TemporaryDirectory() as name:
        warp = {"OTIO_SCHEMA": "LinearTimeWarp.1", "time_scalar": scalar, "metadata": {}, "name": "", "effect_name": ""}
        node = lone_clip(span(head, count, rate), span(0, 10_000, own), [warp])
        top = {"OTIO_SCHEMA": "Stack.1", "metadata": {}, "name": "tracks", "source_range": None, "effects": []}
        track = top | {"OTIO_SCHEMA": "Track.1", "kind": "Video", "markers": [], "enabled": True, "children": [node]}
        timeline = {"OTIO_SCHEMA": "Timeline.1", "metadata": {}, "name": "cut", "global_start_time": None}
        path = Path(name) / "cut.otio"
        document = timeline | {"tracks": top | {"markers": [], "enabled": True, "children": [track]}}
        path.write_text(json.dumps(document), encoding="utf-8")
        frames = read_edit(path).clips[0].used().frames
    step = Fraction(round(own * 1001), 1000 * 1001) if own == round(own) else Fraction(round(own), 1001)
    other = Fraction(round(rate * 1001), 1000 * 1001) if rate == round(rate) else Fraction(round(rate), 1001)
    pace = step / other * abs(Fraction(scalar))
    begins = head * step / other
    sampled = {floor(begins + k * pace + Fraction(1, 100)) for k in range(count)}
    if pace == 1 and own == rate:
        assert frames == FrameRange(head, count)
    assert sampled <= set(frames.grown(1, 1).numbers)
    assert frames.count <= count * pace + 2
