"""An OpenTimelineIO media linker: clips of any cut show the takes that scail2-farm delivered for them.

A guest in a host's Python: standard library and opentimelineio only, Python 3.9, copied beside plugin_manifest.json.
README.md one folder up says how it is installed, what its arguments are and when a take is a clip's.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import opentimelineio as otio
from opentimelineio.opentime import RationalTime as Time
from opentimelineio.opentime import TimeRange as Range

KEY = "scail2_farm"  # the farm's metadata on a media reference
SCHEMA = "scail2-farm/take@1"
FOLDERS = "SCAIL2_TAKES"
NUMBER = re.compile(r"#+|%0?\d*d|<f\d+>|\[(-?\d+)-(-?\d+)\]")


class Take(NamedTuple):
    """A delivered version: its folder and its take.json."""

    folder: Path
    record: dict[str, Any]

    @property
    def names(self) -> set[str]:
        """The clips it was rendered for."""
        return {use["clip"] for use in self.record["uses"] if use["clip"]}

    @property
    def movie(self) -> bool:
        """Whether its plate is a movie, whose frames have no numbers of their own."""
        return self.record["plate"]["kind"] == "movie"


class Media(NamedTuple):
    """What a clip's own reference says: its address, and which file of a sequence is at what time.

    `first` is the file number at `start`, numbers are `step` apart; None where the reference does not say.
    """

    path: PurePosixPath
    first: int | None
    step: int
    start: Time | None
    length: float


def link_media_reference(in_clip, media_linker_argument_map):
    """The newest take of a clip as a media reference; the clip's own reference when there is none.

    Arguments: `takes`, a NAME.scail2 folder or a list of them; `timeline`, the path of the cut: media is found beside
    it, and so are the takes when `takes` is not given; `style`, "frames" (the default) or "movie". Raises ValueError
    for arguments that are none of these, and when nothing says where takes are.
    """
    arguments = dict(media_linker_argument_map)
    style = arguments.pop("style", "frames")
    timeline = arguments.pop("timeline", None)
    takes = arguments.pop("takes", None)
    if arguments or style not in ("frames", "movie"):
        known = "`takes`, `timeline` and `style` (frames or movie)"
        raise ValueError(f"scail2_takes knows {known}, not {arguments or style}")
    beside = Path(timeline).absolute().parent if timeline else None
    found = [take for folder in _folders(takes, beside) for take in _takes(folder)]
    own = _own_reference(in_clip)
    newest = _newest(in_clip, own, [take for take in found if style == "frames" or take.record["movie"]], beside)
    if newest is None:
        return in_clip.media_reference
    return _reference(*newest, own, style, beside)


# ---------------------------------------------------------------- takes on disk


def _folders(given: Any, beside: Path | None) -> list[Path]:
    """The folders that hold takes."""
    if given is None and beside is not None:
        return sorted(beside.glob("*.scail2"))
    if given is None:
        given = [name for name in os.environ.get(FOLDERS, "").split(os.pathsep) if name]
        if not given:
            raise ValueError(f"nothing says where the takes are: give `takes` or `timeline`, or set {FOLDERS}")
    folders = [Path(folder).absolute() for folder in ([given] if isinstance(given, (str, Path)) else given)]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder of takes (NAME.scail2)")
    return folders


def _takes(folder: Path) -> Iterator[Take]:
    """Every delivered version under a NAME.scail2; an unreadable record is told and left out."""
    for path in sorted(folder.glob("shots/*/v*/take.json")):
        if not re.fullmatch(r"v\d{3,}", path.parent.name):
            continue  # a version that is still being written
        status = path.stat()
        record = _record(path, status.st_mtime_ns, status.st_size)
        if record is not None:
            yield Take(path.parent, record)


@functools.cache
def _record(path: Path, _changed: int, _size: int) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"scail2_takes: {path} cannot be read and is left out: {error}", file=sys.stderr)
        return None
    if record.get("schema") != SCHEMA:
        print(f"scail2_takes: {path} is {record.get('schema')}, not {SCHEMA}, and is left out", file=sys.stderr)
        return None
    return record


# ---------------------------------------------------------------- what a clip shows


def _own_reference(clip):
    """The clip's media without us: what was active before a returned cut made a take active."""
    active = clip.media_reference
    ours = active.metadata.get(KEY) if active is not None else None
    return clip.media_references().get(ours.get("active_before")) if ours else active


def _media(reference) -> Media | None:
    """A reference taken apart; None when it has no address."""
    available = getattr(reference, "available_range", None)
    start, length = (available.start_time, available.duration.value) if available is not None else (None, 0)
    if isinstance(reference, otio.schema.ImageSequenceReference):
        name = f"{reference.name_prefix}#{reference.name_suffix}"
        path = PurePosixPath(_address(reference.target_url_base), name)
        return Media(path, reference.start_frame, reference.frame_step, start, length)
    if isinstance(reference, otio.schema.ExternalReference) and reference.target_url:
        path = PurePosixPath(_address(reference.target_url))
        numbers = NUMBER.search(path.name)
        return Media(path, int(numbers[1]) if numbers and numbers[1] else None, 1, start, length)
    return None


def _address(url: str) -> str:
    """A URL or bare path as a path with forward slashes; %04d is a frame number, not a quoted character."""
    local = re.sub(r"^file:(//(localhost)?(?=/))?", "", url)
    return unquote(re.sub(r"%(?=0[1-9]d)", "%25", local)).replace("\\", "/")


def _numberless(path: PurePosixPath) -> PurePosixPath:
    """The path of a sequence with the number in its name as one #."""
    tokens = list(NUMBER.finditer(path.name))
    return path.with_name(path.name[: tokens[-1].start()] + "#" + path.name[tokens[-1].end() :]) if tokens else path


def _used(clip, start: Time) -> tuple[int, int] | None:
    """The first and last frame a clip uses, counted from `start` in its rate; None when the clip has no range.

    Dissolves and constant speeds are counted in, those of compounds too. Of a curve only the first frame is known.
    """
    try:
        shown = clip.visible_range()
    except otio.exceptions.OTIOError:
        return None
    first = (_at(shown.start_time, start.rate) - start).value
    speed, item = 1.0, clip
    while item is not None:
        for effect in item.effects:
            if isinstance(effect, otio.schema.LinearTimeWarp):
                speed *= abs(effect.time_scalar)
            elif isinstance(effect, otio.schema.TimeEffect):
                speed = 0.0
        item = item.parent()
    past = first + max(1.0, _at(shown.duration, start.rate).value * speed)
    return math.floor(first + 1e-4), math.ceil(past - 1e-4) - 1


def _at(time: Time, rate: float) -> Time:
    """A time at another rate; by count when both are one rate written in two ways (23.976 and 24000/1001)."""
    return Time(time.value, rate) if abs(time.rate - rate) < 0.006 else time.rescaled_to(rate)


# ---------------------------------------------------------------- which take is a clip's


def _newest(clip, own, takes: list[Take], beside: Path | None) -> tuple[Take, Time] | None:
    """The newest take that holds all a clip uses, and the time of its first frame in the clip's media."""
    media = _media(own)
    same = [(take, _start_by_media(take, media)) for take in takes if media and _same_media(take, media, clip, beside)]
    named = [take for take in takes if clip.name in take.names]
    alone = len({take.folder.parent for take in named}) == 1
    for likely in (same, [(take, _start_by_timecode(take)) for take in named if alone]):
        found = [(take, start) for take, start in likely if start is not None and _covers(take, start, clip)]
        if found:
            return max(found, key=lambda pair: _age(pair[0], clip.name))
    return None


def _age(take: Take, name: str) -> tuple[bool, str, int]:
    """What takes of one source are sorted by: rendered for this clip, then when it was finished."""
    return name in take.names, take.record["finished"], take.record["version"]


def _same_media(take: Take, media: Media, clip, beside: Path | None) -> bool:
    """Whether a take was rendered from this media: the same address, or media of the same name for the same clip."""
    plate, path = PurePosixPath(take.record["plate"]["path"]), media.path
    if not take.movie:
        plate, path = _numberless(plate), _numberless(path)
    if path.name != plate.name or media.step != take.record["plate"]["step"]:
        return False
    whole = os.path.normpath(beside / path) if beside else str(path)
    tail = path.parts
    return whole == str(plate) or (len(tail) > 1 and plate.parts[-len(tail) :] == tail) or clip.name in take.names


def _start_by_media(take: Take, media: Media) -> Time | None:
    """The time of a take's first frame by the numbers of the media it was rendered from, else by timecode."""
    if media.start is not None and take.movie:
        return Time(media.start.value + take.record["frames"]["first"] - _first_known(take, media), media.start.rate)
    if media.start is not None and media.first is not None:
        return Time(media.start.value + (take.record["first_file"] - media.first) // media.step, media.start.rate)
    return _start_by_timecode(take)


def _first_known(take: Take, media: Media) -> int:
    """The frame of a movie that its available range starts at: by timecode when the cut knows a part of the movie."""
    plate = take.record["plate"]
    within = round(media.start.value) - (plate["timecode_start"] or 0) if media.start is not None else 0
    return within if 0 < within <= plate["frames"]["count"] - media.length else 0


def _start_by_timecode(take: Take) -> Time | None:
    """The time of a take's first frame by its plate's timecode; None without one."""
    plate = take.record["plate"]
    if plate["timecode_start"] is None:
        return None
    above, _, below = plate["rate"].partition("/")
    past = take.record["frames"]["first"] - plate["frames"]["first"]
    return Time(plate["timecode_start"] + past, int(above) / int(below or 1))


def _covers(take: Take, start: Time, clip) -> bool:
    """Whether a take from `start` holds every frame a clip uses."""
    used = _used(clip, start)
    return used is not None and used[0] >= 0 and used[1] < take.record["frames"]["count"]


# ---------------------------------------------------------------- the reference


def _reference(take: Take, start: Time, own, style: str, beside: Path | None):
    """A take as media, in the time of the media it stands for."""
    record = take.record
    available = Range(start, Time(record["frames"]["count"], start.rate))
    metadata = {KEY: {"take": record["key"], "shot": record["shot"], "version": record["version"]}}
    base = _url(take.folder, beside)
    if style == "movie":
        return otio.schema.ExternalReference(base + quote(record["movie"]), available, metadata)
    prefix, hashes, suffix = record["pattern"].partition("####")
    return otio.schema.ImageSequenceReference(
        target_url_base=base,
        name_prefix=prefix,
        name_suffix=suffix,
        start_frame=record["first_file"],
        frame_step=record["plate"]["step"],
        rate=start.rate * record["plate"]["step"],  # at `rate` itself OpenTimelineIO plays every step-th file only
        frame_zero_padding=len(hashes),
        missing_frame_policy=otio.schema.ImageSequenceReference.MissingFramePolicy.error,
        available_range=available,
        metadata=metadata,
        available_image_bounds=own.available_image_bounds if own is not None else None,
    )


def _url(folder: Path, beside: Path | None) -> str:
    """The address of a folder, relative to the cut when it lies beside it."""
    if beside is not None and beside in folder.parents:
        return quote(folder.relative_to(beside).as_posix()) + "/"
    return folder.as_uri() + "/"
