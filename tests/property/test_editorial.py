"""Promises of the editorial wing for any input: no traceback, nothing lost, takes in step with the cut."""

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from scail2_farm.documents import PathMapping
from scail2_farm.editorial.paths import folder_url, local_path, locate
from scail2_farm.editorial.rates import Time, frame_of, offset, sampled
from scail2_farm.editorial.takes import TakeLink, link_takes, write_edit
from scail2_farm.editorial.timeline import Used, read_edit
from scail2_farm.errors import FarmError
from scail2_farm.frames import FrameRange, exact_rate

Node = dict[str, Any]


def attempt(call: Callable[[], Any]) -> Any:
    """What a call gives, or the fault it raises; anything else it raises fails the test."""
    try:
        return call()
    except FarmError as fault:
        return fault


EXAMPLES = 60  # of whole cuts, which are slow to make
RATES = st.sampled_from([23.976, 23.976024627685547, 24000 / 1001, 24.0, 25.0, 29.97, 30.0, 48.0, 59.94, 119.88])
FRAMES = st.integers(-100, 2_100_000)


def time(value: object, rate: object) -> Node:
    return {"OTIO_SCHEMA": "RationalTime.1", "rate": rate, "value": value}


def span(start: object, count: object, rate: object) -> Node:
    return {"OTIO_SCHEMA": "TimeRange.1", "start_time": time(start, rate), "duration": time(count, rate)}


@st.composite
def ranges(draw: st.DrawFn, *, wild: bool = True) -> Node | None:
    if draw(st.integers(0, 4)) == 0:
        return None
    odd = st.sampled_from([float("nan"), float("inf"), -1.0, 0.0, 1e18, 7])
    number = st.one_of(FRAMES.map(float), odd) if wild else FRAMES.map(float)
    rate = st.one_of(RATES, st.sampled_from([0.0, -24.0, float("nan")])) if wild else RATES
    if draw(st.booleans()):
        rate = RATES
    return span(draw(number), draw(st.one_of(st.integers(0, 400).map(float), number)), draw(rate))


def references() -> st.SearchStrategy[Node | None]:
    sequence = st.builds(
        lambda available, start, padding, step, base: {
            "OTIO_SCHEMA": "ImageSequenceReference.1",
            "metadata": {},
            "name": "",
            "available_range": available,
            "available_image_bounds": None,
            "target_url_base": base,
            "name_prefix": "p.",
            "name_suffix": ".exr",
            "start_frame": start,
            "frame_step": step,
            "rate": 24.0,
            "frame_zero_padding": padding,
            "missing_frame_policy": "error",
        },
        ranges(),
        st.integers(-5, 90_000),
        st.sampled_from([0, 4, 7, 99]),
        st.sampled_from([1, 1, 1, 2]),
        st.sampled_from(["plates", "file:///p", "C:\\p", "s3://b", ""]),
    )
    movie = st.builds(
        lambda available, url: {
            "OTIO_SCHEMA": "ExternalReference.1",
            "metadata": {},
            "name": "",
            "available_range": available,
            "available_image_bounds": None,
            "target_url": url,
        },
        ranges(),
        st.sampled_from(["a.mov", "p.####.exr", "p.[1001-1100].exr", "", "http://h/a.mov", "t.png"]),
    )
    missing = st.just({"OTIO_SCHEMA": "MissingReference.1", "metadata": {}, "name": "", "available_range": None})
    return st.one_of(sequence, sequence, movie, movie, missing, st.none())


def speed(scalar: float) -> Node:
    return {
        "OTIO_SCHEMA": "LinearTimeWarp.1",
        "name": "",
        "metadata": {},
        "effect_name": "",
        "time_scalar": scalar,
    }


def lookup(offsets: list[float] | None) -> Node:
    metadata: Node = {} if offsets is None else {"lookup": offsets}
    return {"OTIO_SCHEMA": "TimeEffect.1", "name": "", "metadata": metadata, "effect_name": "TimeWarp"}


def transition(before: float, after: float) -> Node:
    return {
        "OTIO_SCHEMA": "Transition.1",
        "metadata": {},
        "name": "",
        "transition_type": "SMPTE_Dissolve",
        "in_offset": time(before, 24.0),
        "out_offset": time(after, 24.0),
    }


def item(schema: str) -> st.SearchStrategy[Node]:
    effects = st.sampled_from(
        [
            [],
            [],
            [speed(2.0)],
            [speed(-0.5), speed(3.0)],
            [speed(0.0)],
            [lookup([0.0, -1.5, 3.0] * 140)],
            [lookup(None)],
            [{"OTIO_SCHEMA": "AcmeGlow.1"}],
        ]
    )
    return st.builds(
        lambda source, enabled, name, effects: {
            "OTIO_SCHEMA": schema,
            "metadata": {},
            "name": name,
            "source_range": source,
            "effects": copy.deepcopy(effects),
            "markers": [],
            "enabled": enabled,
        },
        ranges(),
        st.sampled_from([True, True, True, False]),
        st.sampled_from(["SH010", "SH020", "", "名", "a/b"]),
        effects,
    )


def clips() -> st.SearchStrategy[Node]:
    return st.builds(
        lambda one, kept, active: (
            one
            | {
                "media_references": {key: value for key, value in kept.items() if value is not None},
                "active_media_reference_key": active,
            }
        ),
        item("Clip.2"),
        st.dictionaries(st.sampled_from(["DEFAULT_MEDIA", "proxy"]), references(), min_size=1),
        st.sampled_from(["DEFAULT_MEDIA", "DEFAULT_MEDIA", "proxy"]),
    )


def compound(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    track = st.builds(
        lambda one, inside, kind: one | {"children": inside, "kind": kind},
        item("Track.1"),
        st.lists(st.one_of(children, children, BLENDS), max_size=5),
        st.sampled_from(["Video", "Video", "Audio"]),
    )
    stack = st.builds(lambda one, inside: one | {"children": inside}, item("Stack.1"), st.lists(children, max_size=3))
    return st.one_of(track, stack)


BLENDS = st.builds(transition, st.sampled_from([0.0, 3.0, -2.0, 90.0]), st.sampled_from([0.0, 5.0]))
CHILDREN = st.recursive(st.one_of(clips(), clips(), item("Gap.1")), compound, max_leaves=8)

CUTS = st.builds(
    lambda tracks, start: {
        "OTIO_SCHEMA": "Timeline.1",
        "metadata": {},
        "name": "cut",
        "global_start_time": start,
        "tracks": {
            "OTIO_SCHEMA": "Stack.1",
            "metadata": {},
            "name": "tracks",
            "source_range": None,
            "effects": [],
            "markers": [],
            "enabled": True,
            "children": tracks,
        },
    },
    st.lists(compound(CHILDREN), max_size=3),
    st.one_of(st.none(), RATES.map(lambda rate: time(86400.0, rate))),
)


def clip_nodes(node: Node) -> Iterator[Node]:
    if node["OTIO_SCHEMA"] == "Clip.2":
        yield node
    if node.get("kind", "Video") == "Video":
        for child in node.get("children", []):
            yield from clip_nodes(child)


def take(shot: str, used: Used, folder: Path) -> TakeLink:
    frames = used.frames.grown(3, 3)
    return TakeLink(
        folder=folder / "cut.scail2" / shot,
        prefix=f"{shot}.",
        padding=4,
        suffix=".exr",
        first_file=frames.first,
        count=frames.count,
        start=used.time_of(frames.first),
        metadata={"shot": shot},
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(CUTS)
def test_any_cut_is_read_linked_and_restored(document: Node):
    """Every clip is listed; linking changes only the linked clips, and taking the takes out again restores the cut."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "cut.otio"
        path.write_text(json.dumps(document), encoding="utf-8")
        edit = read_edit(path)
        nodes = [node for track in document["tracks"]["children"] for node in clip_nodes(track)]
        assert [clip.name for clip in edit.clips] == [node["name"] for node in nodes]
        assert len({clip.id.casefold() for clip in edit.clips}) == len(edit.clips)
        probed = FrameRange(1001, 100)
        links: dict[str, TakeLink] = {}
        uses: dict[str, Used] = {}
        for clip in edit.clips:
            try:
                used = clip.used(probed=probed if clip.media and clip.media.frames is None else None)
            except FarmError:
                continue
            uses[clip.id] = used
            links[clip.id] = take(clip.id, used, folder)
        linked = link_takes(edit, links)
        write_edit(linked, folder / "out.otio")
        again = read_edit(folder / "out.otio")
        for clip in again.clips:
            if clip.id in uses:
                assert clip.used(probed=probed if clip.media and clip.media.frames is None else None) == uses[clip.id]
        plain = copy.deepcopy(again.document)
        for clip in again.clips:
            node: Any = plain
            for step in clip.place:
                node = node[step]
            taken = node["media_references"].pop("scail2_farm", None)
            assert (taken is not None) == (clip.id in links)
            if taken is not None:
                node["active_media_reference_key"] = taken["metadata"]["scail2_farm"]["active_before"]
        assert json.dumps(plain, sort_keys=True) == json.dumps(document, sort_keys=True)


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), ranges()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(CUTS, st.data())
def test_a_spoilt_cut_is_never_a_traceback(document: Node, data: st.DataObject):
    """One value anywhere is replaced by anything: the cut is read, or refused in words."""
    node: Any = document
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        child = node[key]
        if isinstance(child, dict | list) and child and data.draw(st.integers(0, 3)):
            node = child
            continue
        node[key] = data.draw(ANYTHING)
        break
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "cut.otio"
        path.write_text(json.dumps(document), encoding="utf-8")
        edit = attempt(lambda: read_edit(path))
        if isinstance(edit, FarmError):
            assert edit.what
            return
        for clip in edit.clips:
            used = attempt(partial(clip.used, probed=FrameRange(1001, 50), probed_start=86400))
            assert isinstance(used, Used) or used.what


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_bytes_that_are_no_timeline_are_refused(raw: bytes):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "cut.otio"
        path.write_bytes(raw)
        fault = attempt(lambda: read_edit(path))
        assert fault.code == "SF-TIMELINE-UNREADABLE"


@given(st.integers(0, 2_100_000), st.integers(-500, 5_000), RATES)
def test_an_offset_of_whole_frames_is_those_frames(start: int, count: int, rate: float):
    origin = Time.read(float(start), rate)
    assert frame_of(offset(Time.read(float(start + count), rate), origin)) == count


@given(st.integers(0, 90_000), st.integers(0, 500), RATES)
def test_the_exact_spelling_of_a_rate_counts_like_any_other(start: int, count: int, rate: float):
    """An hour in, media at n*1000/1001 and a clip at the rounded rate still agree on the frame."""
    origin = Time(Fraction(start), exact_rate(rate))
    assert frame_of(offset(Time.read(float(start + count), rate), origin)) == count


@given(
    st.fractions(-1000, 1000, max_denominator=1000),
    st.integers(1, 500),
    st.sampled_from(["1", "1001/1000", "2", "1/2"]),
)
def test_sampling_shows_as_many_frames_as_there_are(first: Fraction, count: int, step: str):
    found = sampled(first, count=count, step=Fraction(step))
    assert found.first == frame_of(first)
    assert 1 <= found.count <= int(count * Fraction(step)) + 1
    if step == "1":
        assert found.count == count


URLS = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="fileC:/\\#%[]0123456789d<>.-ah", max_size=40),
    st.text(max_size=30).map(lambda text: f"file://{text}"),
)
MAP = (PathMapping.model_validate({"from": "C:\\", "to": "/mnt/c"}),)


@settings(max_examples=400, deadline=None)
@given(URLS)
def test_any_address_is_a_path_or_a_fault(url: str):
    for read in (local_path, locate):
        found = attempt(partial(read, url, folder=Path("/nowhere"), path_map=MAP))
        assert not isinstance(found, FarmError) or (found.what and found.fix)


@given(
    st.lists(
        st.text(min_size=1, max_size=12).filter(lambda part: part.strip(".") and not set(part) & {"/", "\0"}),
        min_size=1,
    )
)
def test_a_folder_address_reads_back(parts: list[str]):
    folder = Path("/nowhere").joinpath(*parts)
    try:
        str(folder).encode("utf-8")
    except UnicodeEncodeError:
        return
    assert local_path(folder_url(folder, beside=Path("/elsewhere")), folder=Path("/x")) == folder
