"""A cut as strips on channels, the way an NLE's importer builds it: read from OTIO JSON with the standard library.

Nothing of scail2_farm and no OpenTimelineIO: this runs in Blender's Python too, and is a reading of its own. It knows
whole frames of one rate, clips of image sequences and gaps; anything else is a KeyError or a ValueError.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote


@dataclass(frozen=True)
class Strip:
    """A sequence on a channel: its files in order, of which `count` from `index` on show from record frame `record`."""

    name: str
    channel: int
    record: int
    files: tuple  # of Path
    index: int
    count: int


def read_strips(edit: Path) -> list:
    """Every Strip of a cut; channels count from 1 at the bottom, record frames from 0."""
    tracks = json.loads(edit.read_text(encoding="utf-8"))["tracks"]["children"]
    return [strip for channel, track in enumerate(tracks, start=1) for strip in _track(track, channel, edit.parent)]


def _track(track: dict, channel: int, folder: Path) -> list:
    found, record = [], 0
    for item in track["children"]:
        count = _frames(item["source_range"]["duration"])
        if item["OTIO_SCHEMA"].startswith("Clip."):
            found.append(_strip(item, channel, record, count, folder))
        elif not item["OTIO_SCHEMA"].startswith("Gap."):
            raise ValueError(f"{item['OTIO_SCHEMA']} is neither a clip nor a gap")
        record += count
    return found


def _strip(clip: dict, channel: int, record: int, count: int, folder: Path) -> Strip:
    media = clip["media_references"][clip["active_media_reference_key"]]
    available = media["available_range"]
    index = _frames(clip["source_range"]["start_time"]) - _frames(available["start_time"])
    length = _frames(available["duration"])
    if not 0 <= index <= length - count:
        raise ValueError(f"{clip['name']} shows {count} frames from {index} of {length}")
    numbers = (media["start_frame"] + step * media["frame_step"] for step in range(length))
    base = folder / unquote(media["target_url_base"])
    names = (f"{media['name_prefix']}{n:0{media['frame_zero_padding']}d}{media['name_suffix']}" for n in numbers)
    files = tuple(base / name for name in names)
    return Strip(name=clip["name"], channel=channel, record=record, files=files, index=index, count=count)


def _frames(time: dict) -> int:
    if time["value"] != int(time["value"]):
        raise ValueError(f"{time['value']} is not a whole frame")
    return int(time["value"])
