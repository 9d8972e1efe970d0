"""Cuts built by hand: the JSON an NLE would write, one function a thing."""

import json
from pathlib import Path
from typing import Any

Node = dict[str, Any]


def time(value: float, rate: float = 24.0) -> Node:
    return {"OTIO_SCHEMA": "RationalTime.1", "rate": rate, "value": value}


def span(start: float, count: float, rate: float = 24.0) -> Node:
    return {"OTIO_SCHEMA": "TimeRange.1", "start_time": time(start, rate), "duration": time(count, rate)}


def sequence(base: str = "plates", *, available: Node | None = None, first: int = 1001, **more: Any) -> Node:
    return {
        "OTIO_SCHEMA": "ImageSequenceReference.1",
        "metadata": {},
        "name": "",
        "available_range": available,
        "available_image_bounds": None,
        "target_url_base": base,
        "name_prefix": "p.",
        "name_suffix": ".exr",
        "start_frame": first,
        "frame_step": 1,
        "rate": 24.0,
        "frame_zero_padding": 4,
        "missing_frame_policy": "error",
    } | more


def movie(url: str = "a.mov", *, available: Node | None = None) -> Node:
    return {
        "OTIO_SCHEMA": "ExternalReference.1",
        "metadata": {},
        "name": "",
        "available_range": available,
        "available_image_bounds": None,
        "target_url": url,
    }


def clip(name: str = "SH010", *, source: Node | None = None, media: Node | None = None, **more: Any) -> Node:
    return {
        "OTIO_SCHEMA": "Clip.2",
        "metadata": {},
        "name": name,
        "source_range": source,
        "effects": [],
        "markers": [],
        "enabled": True,
        "media_references": {"DEFAULT_MEDIA": media or sequence(available=span(86400, 48))},
        "active_media_reference_key": "DEFAULT_MEDIA",
    } | more


def gap(count: float, rate: float = 24.0) -> Node:
    return item("Gap.1", source=span(0, count, rate))


def effect(schema: str, **more: Any) -> Node:
    return {"OTIO_SCHEMA": schema, "metadata": {}, "name": "fx", "effect_name": schema} | more


def speed(scalar: float) -> Node:
    return effect("LinearTimeWarp.1", time_scalar=scalar)


def lookup(*offsets: float) -> Node:
    return effect("TimeEffect.1", metadata={"lookup": list(offsets)})


def marker(name: str, at: float, count: float = 1, *, color: str = "RED") -> Node:
    return {
        "OTIO_SCHEMA": "Marker.2",
        "metadata": {},
        "name": name,
        "color": color,
        "marked_range": span(at, count),
        "comment": "",
    }


def transition(before: float = 4, after: float = 4, *, kind: str = "SMPTE_Dissolve") -> Node:
    return {
        "OTIO_SCHEMA": "Transition.1",
        "metadata": {},
        "name": "",
        "transition_type": kind,
        "in_offset": time(before),
        "out_offset": time(after),
    }


def item(schema: str, *, source: Node | None = None, name: str = "", **more: Any) -> Node:
    return {
        "OTIO_SCHEMA": schema,
        "metadata": {},
        "name": name,
        "source_range": source,
        "effects": [],
        "markers": [],
        "enabled": True,
    } | more


def track(*children: Node, name: str = "V1", source: Node | None = None, **more: Any) -> Node:
    return item("Track.1", name=name, source=source, children=list(children), kind="Video") | more


def stack(*children: Node, name: str = "compound", **more: Any) -> Node:
    return item("Stack.1", name=name, children=list(children), **more)


def cut(*tracks: Node, start: Node | None = None, name: str = "cut") -> Node:
    return {
        "OTIO_SCHEMA": "Timeline.1",
        "metadata": {},
        "name": name,
        "global_start_time": start,
        "tracks": stack(*tracks, name="tracks"),
    }


def written(document: object, folder: Path, name: str = "cut.otio") -> Path:
    path = folder / name
    path.write_text(json.dumps(document), encoding="utf-8")
    return path
