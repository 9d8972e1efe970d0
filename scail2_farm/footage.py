"""Footage looked at before a cut uses it: what `probe` tells of a file, a sequence or a folder.

Looked at the way plan does, by the same readers and the same rules of colour, so that what is told here is what a
submission will find. Nothing is a fault here that a manifest can still say or mend: a space that nobody names, numbers
missing from a sequence and frames unlike the others are told as warnings. What cannot be read is a fault.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Literal

from scail2_farm.errors import (
    ColorSpaceUnknown,
    FarmError,
    InputError,
    PlateMissing,
    PlateUnreadable,
    Where,
    storage_error,
)
from scail2_farm.frames import FramePattern, FrameRange, describe_frames, paddings, timecode
from scail2_farm.media import color, mattes, plates, stills
from scail2_farm.media.color import ColorDecision, Said
from scail2_farm.media.plates import PlateProbe
from scail2_farm.media.spaces import ColorConfig, load_config
from scail2_farm.words import counted

COLUMNS = ("name", "frames", "missing", "size", "rate", "color space", "kind")
"""What a folder's table tells of each thing in it."""
FRAME_SUFFIXES = tuple(suffix for suffix, kind in plates.SUFFIXES.items() if kind != "movie")
"""Of files that are frames of a plate, or mattes."""
STILL_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Of files that can be a character's reference."""
STILL_TYPES = ("uint8", "uint16")
MOST_HEADERS = 400
"""Frames of a sequence whose headers are all read; of a longer one, so many spread over it."""
MOST_LAYERS = 8
"""Layers named in a line; the others are counted."""

Source = Path | FramePattern
Use = Literal["plate", "matte", "reference"]

_NUMBERED = re.compile(r"((?:.*[._ -])?)-?(\d+)(\.\w+)|(.*?(?<![vV\d]))(\d{4,})(\.\w+)")  # after a v: a version
_BRACKETS = re.compile(r"\[(-?\d+)-(-?\d+)\]")
_DECIDED = ("config", "config_digest", "space", "kind", "decided_by", "encoding", "interop_id")
_TYPES = {"half": "16-bit float", "float": "32-bit float", "mixed": "16- and 32-bit float"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage:
    """One movie, sequence or picture.

    `probe` and `color` are None of what is no plate; `color` also where nobody says the space, and `unsaid` then tells
    what to do. `sequence` is the one that a single file belongs to.
    """

    source: Source
    uses: tuple[Use, ...]
    width: int
    height: int
    probe: PlateProbe | None = None
    color: ColorDecision | None = None
    rate: Fraction | None = None
    unsaid: str = ""
    warnings: tuple[str, ...] = ()
    sequence: Footage | None = None

    @property
    def name(self) -> str:
        """The name of the file, or of the files with #### for the number."""
        return Path(str(self.source)).name

    @property
    def step(self) -> int:
        """How far apart the numbers of a sequence's files are."""
        return self.source.step if isinstance(self.source, FramePattern) else 1

    def number(self, frame: int) -> int:
        """The number in the name of the file of a frame."""
        return self.source.number(frame) if isinstance(self.source, FramePattern) else frame

    @property
    def timecodes(self) -> tuple[str, str] | None:
        """The timecode of the first and of the last frame, None where the media does not say it."""
        probe = self.probe
        if probe is None or probe.timecode_start is None or self.rate is None:
            return None
        ends = (probe.timecode_start, probe.timecode_start + probe.frames.count - 1)
        first, last = (timecode(end, self.rate, drop=probe.drop_frame) for end in ends)
        return first, last

    def cells(self) -> tuple[str, ...]:
        """The same in a line of a folder's table, a cell for each of COLUMNS."""
        probe = self.probe
        if probe is None:
            return self.name, "", "", f"{self.width}x{self.height}", "", "", " or ".join(self.uses)
        frames = "".join(words for _, words in _rows_of_frames(self, probe)[:1]).partition(", ")[0]
        missing = str(len(probe.missing) or "")
        rate = _rate(self.rate).partition(" ")[0] if self.rate else ""
        space = self.color.space if self.color else f"not {'said' if probe.color_tag is None else 'known'}"
        return self.name, frames, missing, f"{self.width}x{self.height}", rate, space, _kind(probe)

    def rows(self) -> list[tuple[str, str]]:
        """What there is to tell, in lines of a name and words."""
        rows: list[tuple[str, str]] = []
        if self.probe is not None:
            rows = _rows_of_plate(self, self.probe)
        else:
            rows.append(("size", f"{self.width}x{self.height}"))
        if self.uses != ("plate",):
            rows.append(("can be", " or ".join(f"a {use}" for use in self.uses)))
        return rows + [("warning", warning) for warning in self._all_warnings()]

    def _all_warnings(self) -> list[str]:
        return [*([self.unsaid] if self.unsaid else []), *self.warnings]

    def as_json(self) -> dict[str, object]:
        """The same for machines: a rate as a fraction, frames as first and count, missing ones by their numbers."""
        found: dict[str, object] = {"source": str(self.source), "uses": list(self.uses)}
        found |= {"width": self.width, "height": self.height}
        if self.probe is not None:
            found |= _json_of_plate(self, self.probe)
        found["warnings"] = self._all_warnings()
        if self.sequence is not None:
            found["sequence"] = self.sequence.as_json()
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was found under a name, and what of it cannot be read."""

    asked: str
    found: tuple[Footage, ...]
    faults: tuple[FarmError, ...]

    def as_json(self) -> dict[str, object]:
        """The document of `probe --json`."""
        found = [footage.as_json() for footage in self.found]
        return {"asked": self.asked, "found": found, "faults": [fault.as_json() for fault in self.faults]}


# --------------------------------------------------------------------------- looking


def look(
    asked: str, *, rate: Fraction | None = None, space: str | None = None, config: ColorConfig | None = None
) -> Generator[str, None, Looked]:
    """What a file, a sequence or a folder is; yields what is looked at, and returns what was found.

    `asked` is a path, or a sequence as FramePattern reads it; one file of a sequence is told with the sequence, and
    a folder by what is directly in it. `rate` reads the timecode of frames that do not say theirs; `space` is what a
    manifest would say. Faults are gathered, none is raised.
    """
    looker = _Looker(rate, Said(manifest=space), config or load_config(None))
    found: list[Footage] = []
    path = Path(asked).absolute()
    try:
        pattern = None if path.exists() else FramePattern.parse(str(path))
        if path.is_dir():
            found += yield from looker.folder(path)
        elif pattern is not None:
            found.append((yield from looker.sequence(pattern, _range_of(path.name))))
        else:
            found.append((yield from looker.file(path)))
    except FarmError as fault:
        looker.faults.append(fault)
    except OSError as error:
        looker.faults.append(storage_error(error, path))
    return Looked(asked=asked, found=tuple(found), faults=tuple(looker.faults))


def _range_of(name: str) -> FrameRange | None:
    """The frames that a name says itself, as name.[1001-1099].exr does."""
    said = _BRACKETS.findall(name)
    first, last = map(int, said[-1]) if said else (0, -1)
    return FrameRange.from_last(first, last) if first <= last else None


class _Looker:
    """Looks at one thing after the other, by the same rules, and keeps the faults of what cannot be read."""

    def __init__(self, rate: Fraction | None, said: Said, config: ColorConfig):
        self._rate, self._said, self._config = rate, said, config
        self.faults: list[FarmError] = []

    def folder(self, folder: Path) -> Generator[str, None, list[Footage]]:
        """The movies, sequences and pictures directly in a folder; faults of single ones are kept.

        Raises PlateMissing for a folder without any, StorageError.
        """
        try:
            entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
            files = [entry for entry in entries if entry.is_file()]
        except OSError as error:
            raise storage_error(error, folder) from error
        found: list[Footage] = []
        media = list(sources(file for file in files if is_picture(file.name)))
        for source in media:
            try:
                if isinstance(source, FramePattern):
                    found.append((yield from self.sequence(source, None)))
                else:
                    yield source.name
                    found.append(self._picture(source))
            except FarmError as fault:
                self.faults.append(fault)
        if not media:
            below = len(entries) - len(files)
            what = f"{folder.name or folder} holds no movie, sequence or picture"
            more = f"; there are {counted(below, 'folder')} in it, which are not looked into" if below else ""
            raise PlateMissing(what + more, fix="name the folder that the files are in", where=Where(file=str(folder)))
        return found

    def file(self, path: Path) -> Generator[str, None, Footage]:
        """One file, and the sequence it belongs to. Raises FarmError."""
        yield path.name
        siblings = _numbered(path)
        if siblings is None or len(siblings.on_disk()) < 2:
            return self._picture(path)
        footage = self._picture(path, called=str(siblings))
        return replace(footage, sequence=(yield from self.sequence(siblings, None)))

    def sequence(self, pattern: FramePattern, wanted: FrameRange | None) -> Generator[str, None, Footage]:
        """A sequence, by the headers of its frames; of one whose name says its frames, those. Raises FarmError."""
        pattern = pattern if wanted else stepped(pattern)
        there = pattern.on_disk()
        if not there:
            return self._plate(pattern, plates.probe(pattern), ())  # which says what is there instead
        frames = wanted or FrameRange.from_last(there[0], there[-1])
        probes: dict[int, PlateProbe] = {}
        broken: dict[str, list[int]] = defaultdict(list)
        inside = [n for n in there if n in frames] or there
        looked_at = _spread(inside)
        for index, frame in enumerate(looked_at):
            path = pattern.path(frame)
            yield f"{path.name} ({index + 1}/{len(looked_at)})"
            try:
                probes[frame] = plates.probe(path, rate=self._rate)
            except InputError as fault:
                broken[fault.what.removeprefix(path.name).strip()].append(pattern.number(frame))
        faults = [_broken(pattern, numbers, reason) for reason, numbers in broken.items()]
        if not probes:
            return self._matte(pattern, faults[0])
        self.faults += faults
        sample, probe = next(iter(probes.items()))
        start = probe.timecode_start
        whole = replace(
            probe,
            source=str(pattern),
            frames=frames,
            missing=tuple(sorted(set(frames.numbers).difference(there))),
            timecode_start=None if start is None else start - (sample - frames.first),
        )
        few = len(looked_at) < len(inside)
        said = [f"{len(looked_at)} of {len(inside)} frames were looked at, spread over them"] if few else []
        return self._plate(pattern, whole, (*said, *_unlike(probes, pattern), *_time_jumps(probes, pattern)))

    def _picture(self, path: Path, *, called: str | None = None) -> Footage:
        """One file, whatever it can be used for; a manifest would call it by `called`. Raises FarmError."""
        if path.suffix.lower() in (".jpg", ".jpeg"):
            height, width = stills.read_still(path).rgb.shape[:2]
            return Footage(source=path, uses=("reference",), width=width, height=height)
        try:
            probe = plates.probe(path, rate=self._rate)
            return self._plate(path, replace(probe, source=called or str(path)), ())
        except PlateUnreadable as fault:
            return self._matte(path, fault)

    def _matte(self, source: Source, no_plate: PlateUnreadable) -> Footage:
        """What is no plate but a matte; raises why it is no plate when it is neither."""
        path = source if isinstance(source, Path) else source.path(source.on_disk()[0])
        try:
            height, width = mattes.read_matte(path).shape
        except InputError:
            raise no_plate from None
        uses: tuple[Use, ...] = ("matte",)
        if isinstance(source, Path) and path.suffix.lower() in STILL_SUFFIXES:
            uses = ("matte", "reference")
        warnings = (f"not a plate: {no_plate.what}",)
        return Footage(source=source, uses=uses, width=width, height=height, warnings=warnings)

    def _plate(self, source: Source, probe: PlateProbe, warnings: Sequence[str]) -> Footage:
        decision, unsaid = self._color(probe)
        uses: tuple[Use, ...] = ("plate",)
        if isinstance(source, Path) and source.suffix.lower() in STILL_SUFFIXES and probe.pixel_type in STILL_TYPES:
            uses = ("plate", "reference")
        return Footage(
            source=source,
            uses=uses,
            width=probe.width,
            height=probe.height,
            probe=probe,
            color=decision,
            rate=probe.rate or self._rate,
            unsaid=unsaid,
            warnings=(*probe.warnings, *(decision.warnings if decision else ()), *warnings),
        )

    def _color(self, probe: PlateProbe) -> tuple[ColorDecision | None, str]:
        """The space and how it was decided, or what to do where nobody says it; raises for a space that was said."""
        try:
            return color.decide(probe, said=self._said, config=self._config), ""
        except ColorSpaceUnknown as unknown:
            if self._said.manifest is not None:
                raise
            return None, f"{unknown.what}; {unknown.fix}"


def is_picture(name: str) -> bool:
    """Whether a file of this name is a movie, a frame or a still that is read here."""
    return name.lower().endswith((*plates.SUFFIXES, *STILL_SUFFIXES))


def sources(files: Iterable[Path]) -> Iterator[Source]:
    """Files as what they are together: numbered frames as sequences, all else one by one; in order of name."""
    sequences: dict[tuple[Path, str, str], list[Path]] = defaultdict(list)
    found: list[Source] = []
    for path in files:
        pattern = _numbered(path)
        if pattern is None:
            found.append(path)
        else:
            sequences[pattern.folder, pattern.prefix, pattern.suffix].append(path)
    for (folder, prefix, suffix), paths in sequences.items():
        if len(paths) == 1:
            found += paths
            continue
        numbers = (path.name.removeprefix(prefix).removesuffix(suffix).lstrip("-") for path in paths)
        found += [FramePattern(folder, prefix, padding, suffix) for padding in paddings(numbers)]
    yield from sorted(found, key=str)


def _numbered(path: Path) -> FramePattern | None:
    """The sequence that a file is one frame of, by its name; None for a name that says no frame.

    A number stands alone before the suffix, or has four digits or more; after a v it is a version.
    """
    match = _NUMBERED.fullmatch(path.name)
    if match is None or not path.name.lower().endswith(FRAME_SUFFIXES):
        return None
    prefix, number, suffix = match.groups()[:3] if match[2] else match.groups()[3:]
    return FramePattern(path.parent, prefix, len(number), suffix)


def stepped(pattern: FramePattern) -> FramePattern:
    """The sequence as it counts its frames: three files or more whose numbers are all n apart are every n-th."""
    there = pattern.on_disk()
    step = math.gcd(*(later - earlier for earlier, later in pairwise(there))) if len(there) > 2 else 1
    return replace(pattern, step=step, origin=there[0]) if step > 1 else pattern


def _spread(frames: Sequence[int]) -> list[int]:
    """The frames whose headers are read: all, or so many from the first to the last."""
    if len(frames) <= MOST_HEADERS:
        return list(frames)
    return [frames[index * (len(frames) - 1) // (MOST_HEADERS - 1)] for index in range(MOST_HEADERS)]


# --------------------------------------------------------------------------- frames unlike the others

_TRAITS: Mapping[str, Callable[[PlateProbe], str]] = {
    "size": lambda probe: f"{probe.width}x{probe.height}",
    "pixel aspect": lambda probe: f"{probe.pixel_aspect:g}",
    "type": lambda probe: _type(probe.pixel_type),
    "channels": lambda probe: _channels(probe.channels),
    "alpha": lambda probe: probe.alpha or "none",
    "compression": lambda probe: probe.compression or "none",
    "rate": lambda probe: _rate(probe.rate) if probe.rate else "not said",
    "color": lambda probe: str(probe.color_tag or "not said"),
}


def _unlike(probes: Mapping[int, PlateProbe], pattern: FramePattern) -> Iterator[str]:
    """A warning for frames that are unlike the most of them, with all that they differ in."""
    found = {frame: [of(probe) for of in _TRAITS.values()] for frame, probe in probes.items()}
    usual = [Counter(values).most_common(1)[0][0] for values in zip(*found.values(), strict=True)]
    same: dict[str, list[int]] = defaultdict(list)
    for frame, values in found.items():
        differs = [
            f"{trait} {value} ({norm})"
            for trait, value, norm in zip(_TRAITS, values, usual, strict=True)
            if value != norm
        ]
        if differs:
            same[", ".join(differs)].append(pattern.number(frame))
    for differs, numbers in same.items():
        yield f"unlike the others (in brackets), {_frames(numbers)}: {differs}"


def _time_jumps(probes: Mapping[int, PlateProbe], pattern: FramePattern) -> Iterator[str]:
    """A warning where the timecodes of the frames do not run on."""
    starts = [
        (frame, probe.timecode_start - frame) for frame, probe in probes.items() if probe.timecode_start is not None
    ]
    jumps = [pattern.number(frame) for (_, before), (frame, after) in pairwise(starts) if before != after]
    if jumps:
        yield f"the timecode does not run on at {_frames(jumps)}"


def _broken(pattern: FramePattern, numbers: Sequence[int], reason: str) -> PlateUnreadable:
    what = f"{pattern.name_with_hashes}: {_frames(numbers)}: {reason}"
    return PlateUnreadable(what, where=Where(file=str(pattern)))


def _frames(numbers: Sequence[int]) -> str:
    return f"{'frame' if len(numbers) == 1 else 'frames'} {describe_frames(numbers)}"


# --------------------------------------------------------------------------- words


def _rows_of_plate(footage: Footage, probe: PlateProbe) -> list[tuple[str, str]]:
    rows = [("kind", _kind(probe)), *_rows_of_frames(footage, probe)]
    shown = probe.width * probe.pixel_aspect / probe.height
    aspect = "" if probe.pixel_aspect == 1 else f", pixel aspect {probe.pixel_aspect:g}: shown {shown:.2f}:1"
    rows.append(("size", f"{probe.width}x{probe.height}{aspect}"))
    if probe.data_window is not None:
        left, top, width, height = probe.data_window
        rows.append(("data window", f"{width}x{height} at {left},{top} of the frame"))
    if footage.rate or probe.kind in ("exr", "dpx"):
        rows.append(("rate", _rate(footage.rate) if footage.rate else "not said (--rate 24 reads a timecode)"))
    if footage.timecodes is not None:
        first, last = footage.timecodes
        drop = ", drop-frame" if probe.drop_frame else ""
        rows.append(("timecode", f"{first} to {last}{drop}" if first != last else f"{first}{drop}"))
    rows.append(("type", _type(probe.pixel_type)))
    if probe.channels:
        rows.append(("channels", _channels(probe.channels)))
    if probe.kind != "movie" or probe.alpha:
        rows.append(("alpha", probe.alpha or "none"))
    if probe.kind == "movie":
        rows.append(("audio", "; ".join(probe.audio) or "none"))
    if footage.color is not None:
        rows.append(("color space", f"{footage.color.space} ({footage.color.decided_by})"))
    else:
        tag = probe.color_tag
        rows.append(("color space", "not said" if tag is None else f"not known (the file: {tag})"))
    return rows


def _rows_of_frames(footage: Footage, probe: PlateProbe) -> list[tuple[str, str]]:
    frames, step = probe.frames, footage.step
    if isinstance(footage.source, Path) and probe.kind != "movie":
        return []
    if probe.kind == "movie":
        return [("frames", f"{frames.count}, counted from 0")]
    first, last = footage.number(frames.first), footage.number(frames.last)
    by = f" by {step}" if step != 1 else ""
    missing = describe_frames((footage.number(frame) for frame in probe.missing), most=12)
    of = f"{frames.count - len(probe.missing)} of " if missing else ""
    rows = [("frames", f"{first}-{last}{by}, {of}{counted(frames.count, 'frame')}")]
    return [*rows, ("missing", missing)] if missing else rows


def _kind(probe: PlateProbe) -> str:
    """What holds it and how it is packed: EXR, zip; movie, ProRes 422 HQ."""
    name = "movie" if probe.kind == "movie" else probe.kind.upper()
    packed = "uncompressed" if probe.compression == "none" else probe.compression
    return ", ".join(filter(None, (name, probe.codec, packed)))


def _type(pixel_type: str) -> str:
    return _TYPES.get(pixel_type) or f"{pixel_type.removeprefix('uint')}-bit"


def _rate(rate: Fraction) -> str:
    """A rate as people say it, and exactly where that is another: 24; 23.976 (24000/1001)."""
    exact = f" ({rate})" if rate.denominator != 1 else ""
    return f"{float(rate):.3f}".rstrip("0").rstrip(".") + exact


def _channels(channels: Sequence[tuple[str, str]]) -> str:
    """Channels by layer: R G B A half, Z float, crypto00: R G B A float."""
    layers: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, kind in channels:
        layer, _, leaf = name.rpartition(".") if "." in name else name.rpartition(":")
        layers[layer, kind].append(leaf)
    words: list[str] = []
    for (layer, kind), leaves in layers.items():
        ordered = sorted(leaves, key=lambda leaf: ("RGBA".find(leaf.upper()) % 5, leaf))
        words.append(f"{layer + ': ' if layer else ''}{' '.join(ordered)} {kind}")
    words.sort(key=lambda one: not one.startswith("R G B"))
    more = f" and {counted(len(words) - MOST_LAYERS, 'layer')} more" if len(words) > MOST_LAYERS else ""
    return ", ".join(words[:MOST_LAYERS]) + more


def _json_of_plate(footage: Footage, probe: PlateProbe) -> dict[str, object]:
    codes, tag, decision = footage.timecodes, probe.color_tag, footage.color
    return {
        "kind": probe.kind,
        "pixel_aspect": probe.pixel_aspect,
        "data_window": None if probe.data_window is None else list(probe.data_window),
        "rate": None if footage.rate is None else str(footage.rate),
        "frames": {
            "first": footage.number(probe.frames.first),
            "count": probe.frames.count,
            "step": footage.step,
            "missing": [footage.number(frame) for frame in probe.missing],
        },
        "timecode": None if codes is None else {"first": codes[0], "last": codes[1], "drop_frame": probe.drop_frame},
        "pixel_type": probe.pixel_type,
        "channels": [{"name": name, "type": kind} for name, kind in probe.channels],
        "alpha": probe.alpha,
        "compression": probe.compression,
        "codec": probe.codec,
        "audio": list(probe.audio),
        "color_tag": None if tag is None else {"source": tag.source, "value": tag.value},
        "color": None if decision is None else {key: getattr(decision, key) for key in _DECIDED},
    }
