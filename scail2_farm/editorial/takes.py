"""The same cut back, takes linked: only the media references of rendered clips change.

A take is one more media reference under our key, made active; the plate stays under its own. Its available range lies
in the time of the media it replaces, so the cut's source ranges need no edit. What is written is first loaded by
OpenTimelineIO, which knows what other tools will see.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import opentimelineio as otio

from scail2_farm.documents import write_text
from scail2_farm.editorial.otiojson import DEFAULT_KEY, Node, Place, for_bindings, load_through_bindings, unreadable
from scail2_farm.editorial.paths import absolute_url, folder_url, is_relative
from scail2_farm.editorial.rates import Time
from scail2_farm.editorial.sources import KEY, active_key, is_ours
from scail2_farm.editorial.timeline import Clip, Edit
from scail2_farm.errors import PlateMissing, storage_error


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeLink:
    """A take as the cut refers to it: `count` files from number `first_file` in `folder`, `frame_step` numbers apart.

    `start` is the time of its first frame in the coordinates of the cut's source range: Used.time_of(first frame).
    """

    folder: Path
    prefix: str
    padding: int
    suffix: str
    first_file: int
    count: int
    start: Time
    frame_step: int = 1
    metadata: Mapping[str, object] = field(default_factory=dict[str, object])


def link_takes(edit: Edit, takes: Mapping[str, TakeLink], *, beside: Path | None = None) -> Node:
    """The cut's document with each take as the active media of its clip; `takes` is by clip id.

    Only `media_references` and `active_media_reference_key` of those clips change (a Clip.1 becomes the Clip.2
    OpenTimelineIO would make of it); the rest is shared with edit.document, which is not changed. Takes under `beside`
    (by default the edit's folder) are referred to relatively. Raises KeyError for an id the edit does not have.
    """
    beside = (beside or edit.path.parent).absolute()
    clips = {clip.id: clip for clip in edit.clips}
    document = edit.document
    for shot, take in takes.items():
        clip = clips[shot]
        document = _changed(document, clip.place, _Link(clip, take, beside))
    return document


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebased:
    """An address of the cut that was relative as `written`, and what it is `now`."""

    written: str
    now: str


def rebased(edit: Edit, *, beside: Path) -> tuple[Edit, tuple[Rebased, ...]]:
    """The edit as its cut can be written into the folder `beside`, and the addresses that are other than before.

    In another folder than it was made for, a relative address of media would lead elsewhere: it becomes the file://
    address of what it stands for, which holds in every folder, also when that cut is submitted again. All others, and
    all of them in the edit's own folder or where nobody knows it, stay as they are.
    """
    if edit.folder is None or edit.folder.absolute() == beside.absolute():
        return edit, ()
    known: dict[tuple[str, str], str] = {}
    document = _with_addresses(edit.document, edit.folder.absolute(), known)
    found = tuple(Rebased(written=written, now=now) for (_, written), now in known.items() if now != written)
    return replace(edit, document=document), found


_ADDRESSES = {"ExternalReference": "target_url", "ImageSequenceReference": "target_url_base"}


def _with_addresses(node: Any, folder: Path, known: dict[tuple[str, str], str]) -> Any:
    """A copy in which no media reference has a relative address; what needs no change is shared."""
    if isinstance(node, list):
        children = [_with_addresses(child, folder, known) for child in node]
        return children if any(new is not old for new, old in zip(children, node, strict=True)) else node
    if not isinstance(node, dict):
        return node
    inner = ((key, value, _with_addresses(value, folder, known)) for key, value in node.items() if key != "metadata")
    changed: Node = {key: new for key, value, new in inner if new is not value}
    key = _ADDRESSES.get(str(node.get("OTIO_SCHEMA")).partition(".")[0])
    written = None if key is None else node.get(key) or ""
    if key is not None and isinstance(written, str):
        if (key, written) not in known:
            known[key, written] = _from_anywhere(written, folder, is_folder=key == "target_url_base")
        if known[key, written] != written:
            changed[key] = known[key, written]
    return node | changed if changed else node


def _from_anywhere(url: str, folder: Path, *, is_folder: bool) -> str:
    """An address that leads from everywhere where this one leads from `folder`."""
    named = url or ("." if is_folder else "")  # a sequence without a folder lies in that one
    if not is_relative(named):
        return url
    try:
        return absolute_url(named, folder=folder) + ("/" if is_folder else "")
    except PlateMissing:  # nowhere, as written
        return url


@dataclass(frozen=True, slots=True)
class _Link:
    clip: Clip
    take: TakeLink
    beside: Path

    def __call__(self, node: Node) -> Node:
        references: Node = dict(node.get("media_references") or {})
        if node["OTIO_SCHEMA"] == "Clip.1":
            references = {DEFAULT_KEY: node.get("media_reference")}
        source = self.clip.media.key if self.clip.media else DEFAULT_KEY
        before = active_key(node) if node["OTIO_SCHEMA"] != "Clip.1" else DEFAULT_KEY
        references.pop(KEY, None)
        references[KEY] = self._reference(references.get(source) or {}, before)
        found: Node = {}
        for key, value in node.items():
            if key == "media_reference" and node["OTIO_SCHEMA"] == "Clip.1":
                continue
            found[key] = "Clip.2" if key == "OTIO_SCHEMA" else value
        return found | {"media_references": references, "active_media_reference_key": KEY}

    def _reference(self, source: Node, before: str) -> Node:
        """The take's reference; `before` is the key that was active in the cut as it was submitted.

        OpenTimelineIO plays a sequence whose numbers are n apart n times slower than its own `rate`, which is
        therefore n times that of the media: one file is one frame of it.
        """
        take = self.take
        rate = float(take.start.rate)
        return {
            "OTIO_SCHEMA": "ImageSequenceReference.1",
            "metadata": {KEY: dict(take.metadata) | {"active_before": before}},
            "name": f"{take.prefix}{'#' * take.padding}{take.suffix}",
            "available_range": {
                "OTIO_SCHEMA": "TimeRange.1",
                "duration": {"OTIO_SCHEMA": "RationalTime.1", "rate": rate, "value": float(take.count)},
                "start_time": {"OTIO_SCHEMA": "RationalTime.1", "rate": rate, "value": float(take.start.value)},
            },
            "available_image_bounds": source.get("available_image_bounds"),
            "target_url_base": folder_url(take.folder, beside=self.beside),
            "name_prefix": take.prefix,
            "name_suffix": take.suffix,
            "start_frame": take.first_file,
            "frame_step": take.frame_step,
            "rate": rate * take.frame_step,
            "frame_zero_padding": take.padding,
            "missing_frame_policy": "error",
        }


def _changed(node: Any, place: Place, change: Callable[[Node], Node]) -> Any:
    """A copy of a document that differs at one place; all else is shared."""
    if not place:
        return change(node)
    step, rest = place[0], place[1:]
    copy: Any = list(node) if isinstance(node, list) else dict(node)
    copy[step] = _changed(copy[step], rest, change)
    return copy


def write_edit(document: Node, path: Path) -> None:
    """Write a cut so that it appears whole, after OpenTimelineIO has read it back with every clip and every take.

    Raises TimelineUnreadable when it does not read back, and StorageError.
    """
    try:
        text = json.dumps(document, indent=4, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise unreadable(f"the returned cut cannot be written: {error}", path) from None
    wanted = [_told(node) for node in _clip_nodes(for_bindings(document))]
    loaded = load_through_bindings(document, path)
    found = [_told_by_bindings(clip) for clip in loaded.find_clips()]
    if found != wanted:
        what = f"the returned cut reads back with other clips or takes ({len(found)} clips, {len(wanted)} written)"
        raise unreadable(what, path, fix="report this with the timeline that was submitted")
    write_text(path, text)
    try:
        again = path.read_text(encoding="utf-8")
    except OSError as error:
        raise storage_error(error, path) from error
    if again != text:
        raise unreadable(
            f"{path.name} does not read back as it was written", path, fix="check the disk and submit again"
        )


def _clip_nodes(node: Any) -> Iterator[Node]:
    """Every clip of a document in order, wherever OpenTimelineIO looks for clips."""
    if str(node.get("OTIO_SCHEMA")).startswith("Clip."):
        yield node
    children = node.get("children") or []
    for child in [*children, node["tracks"]] if isinstance(node.get("tracks"), dict) else children:
        if isinstance(child, dict):
            yield from _clip_nodes(child)


def _told(node: Node) -> tuple[object, ...]:
    """What must read back of a clip: its name, its active key and our take."""
    reference = (node.get("media_references") or {}).get(KEY) or {}
    active = node.get("active_media_reference_key", DEFAULT_KEY)
    if not is_ours(reference) or "target_url_base" not in reference:
        return node.get("name") or "", active, None
    start, duration = reference["available_range"]["start_time"], reference["available_range"]["duration"]
    name = reference["target_url_base"], reference["name_prefix"], reference["name_suffix"], reference["start_frame"]
    name = (*name, reference["frame_step"])
    return node.get("name") or "", active, (*name, start["value"], start["rate"], duration["value"])


def _told_by_bindings(clip: Any) -> tuple[object, ...]:
    reference = clip.media_references().get(KEY)
    active = clip.active_media_reference_key
    if not isinstance(reference, otio.schema.ImageSequenceReference) or KEY not in reference.metadata:
        return clip.name, active, None
    available = reference.available_range
    name = reference.target_url_base, reference.name_prefix, reference.name_suffix, reference.start_frame
    name = (*name, reference.frame_step)
    return clip.name, active, (*name, available.start_time.value, available.start_time.rate, available.duration.value)
