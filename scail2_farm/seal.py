"""Shots known by content: every input read, every segment given its key.

A segment is known by the plate's frames, mattes, references, settings and weights that its window sees, and by the
segment before it; never by a path, a shot's id or a clip's name, nor by what of its shot lies outside the window. The
same segment, in whatever cut it stands, is rendered once, and a shot that changed from its first changed segment on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from scail2_farm.digests import Digests, sha256_of_several, sha256_text
from scail2_farm.documents import (
    CanvasSize,
    FileDigest,
    Matted,
    Moment,
    PlateColor,
    PlateSource,
    Sampler,
    Scene,
    SealedSegment,
    SealedShot,
    Span,
    Use,
)
from scail2_farm.errors import FrameTruncated, ShareUnavailable, Where, storage_error
from scail2_farm.frames import FramePattern
from scail2_farm.media import mattes
from scail2_farm.media.plates import nearest
from scail2_farm.plan import Probing
from scail2_farm.settings import SNAPSHOT_FILES
from scail2_farm.shots import Grid, Shot
from scail2_farm.shots import Use as PlannedUse

RENDER_VERSION = 3
"""Raised whenever the same segment would come out with other pixels; part of every segment's key."""

SAVED_EVERY_S = 30.0
"""How much of the work of hashing may be lost by SIGKILL."""

MOST_NAMED = 3
"""Changed files that one line names; the others are counted."""

KEPT = 4096
"""Spans that many shots and segments of a long cut have in common."""


def memory_of(work: Path) -> Digests:
    """The digests of inputs that the jobs of a work folder remember."""
    return Digests(work / "digests.json")


def seal(shots: Sequence[Shot], *, weights: Path, work: Path) -> Generator[Probing | SealedShot, None, None]:
    """Read every input of the shots by content and give each segment its key; what was read is remembered in `work`.

    Of the windows that go on from earlier takes those are chosen that save the most frames; equal ones when none does.
    Yields what is being read, and every shot once, in their order. Raises StorageError when an input cannot be read any
    more.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, work) from error
    digests = memory_of(work)
    yield Probing(what=weights.name, done=0, of=len(shots) + 1)
    snapshot = digests.of_folder(weights, SNAPSHOT_FILES)
    inputs = _Inputs(digests)
    saved = time.monotonic()
    try:
        for done, shot in enumerate(shots):
            yield Probing(what=shot.id, done=done + 1, of=len(shots) + 1)
            yield _sealed(shot, snapshot, inputs)
            if time.monotonic() - saved > SAVED_EVERY_S:
                digests.save()
                saved = time.monotonic()
    finally:
        digests.save()


def is_away(folder: Path) -> bool:
    """Whether a folder that held files is gone, or empty: its volume is away, and where that was mounted is left."""
    try:
        return not any(folder.iterdir())
    except OSError:
        return True


def unchanged(shot: SealedShot, index: int, *, digests: Digests) -> None:
    """Make sure that all a segment is rendered from is still what it was when the shot was sealed.

    `digests` is the memory that sealing left (`memory_of`), or files are read again and cannot always be named. Raises
    FrameTruncated with the files that changed or went, ShareUnavailable when their volume is away, StorageError.
    """
    segment = shot.segments[index]
    keys = _Keys(shot, _Inputs(digests))
    weights = Path(shot.weights.path)
    files = [*(weights / name for name in SNAPSHOT_FILES), *keys.files(segment)]
    suspects = [path for path in files if digests.changed(path)]
    for path in suspects:
        if is_away(path.parent):
            raise ShareUnavailable(f"{path.parent} is not there any more", where=Where(file=str(path), shot=shot.id))
    if all(path.is_file() for path in suspects):
        previous = shot.segments[index - 1].key if index else None
        found = digests.of_folder(weights, SNAPSHOT_FILES)
        cell = _Cell(index, segment.window, segment.overlap, segment.keep, segment.leave)
        if keys.of(cell, segment, weights=found.sha256, previous=previous) == segment.key:
            return
    names = [path.name for path in suspects]
    driving = shot.driving
    moving = () if driving is None else (driving.clip.path, *(role.matte for role in driving.roles))
    known = (shot.plate.path, *(one.matte for one in shot.performers), *moving)
    told = names[:MOST_NAMED] or [Path(path).name for path in known if path is not None]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    raise FrameTruncated(
        f"{', '.join(told)}{more} changed since the shot was planned",
        why="a segment is rendered from what it was planned with, or not at all",
        fix="submit again: what changed is rendered anew, from its first segment on",
        where=Where(file=str(suspects[0]) if suspects else shot.plate.path, shot=shot.id),
    )


# --------------------------------------------------------------------------- one shot


def _sealed(shot: Shot, weights: FileDigest, inputs: _Inputs) -> SealedShot:
    keys = _Keys(shot, inputs)
    segments = _segments(shot, keys, weights.sha256)
    return SealedShot(
        id=shot.id,
        uses=tuple(_use(use, shot.frames.first) for use in shot.uses),
        frames=_span(shot.frames.first, shot.frames.count),
        handles_asked=shot.handles_asked,
        handles_given=shot.handles_given,
        plate=shot.plate,
        color=shot.color,
        output=shot.output,
        performers=shot.performers,
        driving=shot.driving,
        segmenting=shot.segmenting,
        segments=segments,
        weights=weights,
        inputs=keys.inputs(shot.frames.numbers, segments),
    )


def _use(use: PlannedUse, first: int) -> Use:
    cut = _span(use.frames.first, use.frames.count)
    if use.clip is None or use.used is None:
        return Use(clip=None, cut=cut)
    start = use.used.time_of(first)
    moment = Moment(value=start.value, rate=start.rate)
    return Use(clip=use.clip.name, clip_id=use.clip.id, cut=cut, start=moment)


def _segments(shot: Shot, keys: _Keys, weights: str) -> tuple[SealedSegment, ...]:
    """The segments of the windows that save the most frames of earlier takes, the equal ones before others."""

    def saved(segments: Sequence[SealedSegment]) -> int:
        return sum(segment.keep.count for segment in segments if segment.key in shot.rendered)

    grids = (Grid(windows=shot.windows, scenes=shot.scenes), *shot.grids)
    return max((_keyed(shot, grid, keys, weights) for grid in grids), key=saved)


def _keyed(shot: Shot, grid: Grid, keys: _Keys, weights: str) -> tuple[SealedSegment, ...]:
    found: list[SealedSegment] = []
    for index, (window, scene) in enumerate(zip(grid.windows, grid.scenes, strict=True)):
        cell = _Cell(
            number=index,
            window=_span(shot.frames.first + window.frames.first, window.frames.count),
            overlap=window.overlap,
            keep=_span(shot.frames.first + window.keep.first, window.keep.count),
            leave=shot.segmenting.overlap,
        )
        segment = SealedSegment(
            key=keys.of(cell, scene, weights=weights, previous=found[-1].key if found else None),
            window=cell.window,
            overlap=cell.overlap,
            keep=cell.keep,
            leave=cell.leave,
            mode=scene.mode,
            prompt=scene.prompt,
            negative_prompt=scene.negative_prompt,
            seed=scene.seed,
            sampler=scene.sampler,
            loras=scene.loras,
            canvas=scene.canvas,
        )
        found.append(segment)
    return tuple(found)


class _Cell(NamedTuple):
    """A window of a shot, and its place in it, as a SealedSegment has them."""

    number: int
    window: Span
    overlap: int
    keep: Span
    leave: int


@lru_cache(maxsize=KEPT)
def _span(first: int, count: int) -> Span:
    """One span for all that covers the same frames in a long cut."""
    return Span(first=first, count=count)


# --------------------------------------------------------------------------- keys

_sorted_json = json.JSONEncoder(sort_keys=True).encode


class _Keys:
    """What the segments of one shot are known by; a shot that is sealed and one that is to be are asked alike."""

    def __init__(self, shot: Shot | SealedShot, inputs: _Inputs):
        self._shot, self._inputs = shot, inputs
        self._tracks = [inputs.plate(shot.plate), *inputs.matted(shot.performers, shot.plate)]
        if (driving := shot.driving) is not None:
            moving = (inputs.plate(driving.clip), *inputs.matted(driving.roles, driving.clip))
            self._tracks += [track.moved(driving.offset) for track in moving]
        self._common: str | None = None

    def of(self, cell: _Cell, scene: Scene, *, weights: str, previous: str | None) -> str:
        """The key of the segment that renders `scene` over a window. Raises StorageError."""
        if self._common is None:
            self._common = sha256_text(_sorted_json(self._shot_known()))
        window, keep, seen = cell.window, cell.keep, _seen(cell.window, cell.keep)
        place = cell.number, window.first, window.count, cell.overlap, keep.first, keep.count, cell.leave
        shown = (",".join(self._inputs.known(track, seen)) for track in self._tracks)
        said = scene.mode, scene.prompt, scene.negative_prompt, scene.seed
        rendered = _scene_known(*said, scene.sampler, scene.canvas)  # pyright: ignore[reportArgumentType] (frozen documents have a hash)
        loras = str([(self._inputs.file(lora.path).sha256, lora.strength) for lora in scene.loras])
        lines = self._common, weights, previous or "", str(place), rendered, loras, *shown
        return sha256_text("\n".join(lines))  # a line holds no other: texts from outside are JSON in it

    def _shot_known(self) -> dict[str, object]:
        """What all segments have in common: the plate's class and colour, and who is put in.

        Of a person the colour, the place and the stills; what he is called is in the prompt alone. Media has its place
        in time, but no end: what a window does not see is not in its key.
        """
        plate, driving = self._shot.plate, self._shot.driving

        def content(path: str | None) -> str | None:
            return self._inputs.file(path).sha256 if path else None

        return {
            "render": RENDER_VERSION,
            **_clip_known(plate, self._shot.color),
            "driving": None if driving is None else _clip_known(driving.clip, driving.color),
            "output": self._shot.output.model_dump(),
            "timecode": None if plate.timecode_start is None else plate.timecode_start - plate.frames.first,
            "performers": [
                {
                    "slot": performer.slot,
                    "whole": performer.matte is None,
                    "seen": None if performer.seen is None else performer.seen.model_dump(),
                    "references": [[content(r.image), content(r.mask)] for r in performer.references],
                }
                for performer in self._shot.performers
            ],
        }

    def _stills(self) -> Iterator[str]:
        for performer in self._shot.performers:
            for reference in performer.references:
                yield reference.image
                if reference.mask:
                    yield reference.mask

    def files(self, segment: SealedSegment) -> list[Path]:
        """Every file a segment is rendered from, once; weights apart."""
        seen = _seen(segment.window, segment.keep)
        shown = (track.file(frame) for track in self._tracks for frame in track.read(seen))
        others = (*self._stills(), *(lora.path for lora in segment.loras))
        return list(dict.fromkeys((*shown, *map(Path, others))))

    def inputs(self, frames: range, segments: Sequence[SealedSegment]) -> tuple[FileDigest, ...]:
        """Every input by content, once: a sequence as its pattern, by the digests of what is read of it.

        Raises StorageError.
        """
        found: dict[str, FileDigest] = {}
        sequences: dict[str, dict[str, str]] = {}
        for track in self._tracks:
            if isinstance(track.source, FramePattern):
                sequences.setdefault(track.path, {}).update(map(track.files.__getitem__, track.read(frames)))
            else:
                found[track.path] = self._inputs.file(track.path)
        for pattern, digests in sequences.items():
            found[pattern] = FileDigest(path=pattern, sha256=sha256_of_several(digests))
        for other in (*self._stills(), *(lora.path for segment in segments for lora in segment.loras)):
            if other not in found:
                found[other] = self._inputs.file(other)
        return tuple(found.values())


def _clip_known(clip: PlateSource, color: PlateColor) -> dict[str, object]:
    """The class and the colour of a plate or a performance."""
    beside = {"path", "frames", "timecode_start", "missing", "stand_in"}
    return {
        "color": [color.digest or color.config, color.space, color.tone],
        "plate": clip.model_dump(mode="json", exclude=beside),
    }


@lru_cache(maxsize=256)
def _scene_known(mode: str, prompt: str, negative_prompt: str, seed: int, sampler: Sampler, canvas: CanvasSize) -> str:
    """What a segment is rendered with, as a line; what the numbers of its sampler are called is not in it."""
    numbers = sampler.model_dump(exclude={"preset"})
    return _sorted_json([mode, prompt, negative_prompt, seed, numbers, canvas.model_dump(mode="json")])


def _seen(window: Span, keep: Span) -> range:
    """The plate frames a window shows; beyond what it keeps the last is repeated."""
    return range(window.first, keep.first + keep.count)


# --------------------------------------------------------------------------- inputs


_File = tuple[str, str]
"""The name of a frame's file, and its digest."""


class _Files(dict[int, _File]):
    """The files of a sequence by their frames, each read when it is first asked for, which raises StorageError."""

    def __init__(self, pattern: FramePattern, digests: Digests):
        super().__init__()
        self._pattern, self._digests = pattern, digests

    def __missing__(self, frame: int) -> _File:
        path = self._pattern.path(frame)
        self[frame] = path.name, self._digests.of(path).sha256
        return self[frame]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Track:
    """A sequence or a movie as a shot reads it: `offset` is added to the plate's frame.

    `others` are read in place of frames that are not there, or nothing (None); `marked` when that is told of them.
    `path` is that of the source in words; `files` are those of a sequence, and empty for a movie.
    """

    source: Path | FramePattern
    path: str
    files: Mapping[int, _File]
    offset: int = 0
    others: Mapping[int, int | None] = field(default_factory=dict[int, "int | None"])
    marked: bool = False

    def moved(self, offset: int) -> _Track:
        """The same, of which each frame is read that is `offset` later."""
        return replace(self, offset=self.offset + offset)

    def read(self, frames: range) -> Sequence[int]:
        """What is read of the source for these frames of the plate, each once."""
        own = range(frames.start + self.offset, frames.stop + self.offset)
        if not self.others:
            return own
        return list(dict.fromkeys(n for frame in own if (n := self.others.get(frame, frame)) is not None))

    def file(self, frame: int) -> Path:
        """The file of one frame of the source."""
        return self.source.path(frame) if isinstance(self.source, FramePattern) else self.source


class _Inputs:
    """The inputs of a cut by content, each looked at once however many shots read it."""

    def __init__(self, digests: Digests):
        self._digests = digests
        self._known: dict[str, FileDigest] = {}
        self._files: dict[FramePattern, _Files] = {}
        self._tracks: dict[tuple[object, ...], _Track] = {}

    def file(self, path: str) -> FileDigest:
        """A file by content; raises StorageError."""
        if path not in self._known:
            self._known[path] = FileDigest(path=path, sha256=self._digests.of(Path(path)).sha256)
        return self._known[path]

    def known(self, track: _Track, frames: range) -> list[str]:
        """What each of these frames of the plate is known by: its file, or the movie's and its place in it.

        Empty where nothing is read. Raises StorageError.
        """
        read, files = track.read(frames), track.files
        if isinstance(track.source, FramePattern):
            if not track.others:
                return [sha256 for _, sha256 in map(files.__getitem__, read)]
            names = {frame: files[frame][1] for frame in read}
        else:
            movie = self.file(track.path).sha256
            names = {frame: f"{movie} {frame}" for frame in read}
        told: list[str] = []
        for frame in range(frames.start + track.offset, frames.stop + track.offset):
            shown = track.others.get(frame, frame)
            held = "held " if track.marked and frame in track.others else ""
            told.append("" if shown is None else f"{held}{names[shown]}")
        return told

    def plate(self, plate: PlateSource) -> _Track:
        """The plate of a shot; raises StorageError."""
        place = plate.path, plate.step, plate.origin, plate.missing, plate.stand_in
        if place not in self._tracks:
            source, there = plate.source, _there(plate) if plate.stand_in == "hold" else ()
            others = {frame: nearest(frame, there) for frame in plate.missing}
            self._tracks[place] = self._track(source, others=others, marked=True)
        return self._tracks[place]

    def matted(self, people: Sequence[Matted], clip: PlateSource) -> Iterator[_Track]:
        """The mattes of people in a clip, but of those who are the whole frame; raises StorageError."""
        for one in people:
            pattern = one.mattes(clip)
            if pattern is not None:
                yield self._matte(pattern, one.matte_offset, clip)

    def _matte(self, pattern: FramePattern, offset: int, plate: PlateSource) -> _Track:
        place = pattern, offset, plate.missing, plate.stand_in
        if place not in self._tracks:
            others = mattes.stand_ins(pattern, [n + offset for n in plate.missing], plate.stand_in)
            self._tracks[place] = self._track(pattern, others=others, offset=offset)
        return self._tracks[place]

    def _track(
        self, source: Path | FramePattern, *, others: Mapping[int, int | None], offset: int = 0, marked: bool = False
    ) -> _Track:
        """A source as a shot reads it, with what is known of its files by now, whoever read them."""
        files: Mapping[int, _File] = {}
        if isinstance(source, FramePattern):
            files = self._files.setdefault(source, _Files(source, self._digests))
        return _Track(source=source, path=str(source), files=files, offset=offset, others=others, marked=marked)


def _there(plate: PlateSource) -> list[int]:
    """The frames that may stand in for a missing one."""
    source, gone = plate.source, set(plate.missing)
    known = source.on_disk() if isinstance(source, FramePattern) else plate.frames.range.numbers
    return [n for n in known if n not in gone]
