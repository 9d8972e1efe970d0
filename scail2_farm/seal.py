"""Shots known by content: every input read, every segment given its key.

A segment is known by the plate's frames, mattes, references, settings and weights that its window sees, and by the
segment before it; never by a path, a shot's id or a clip's name, nor by what of its shot lies outside the window. The
same segment, in whatever cut it stands, is rendered once, and a shot that changed from its first changed segment on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from scail2_farm.digests import Digests, sha256_of_several, sha256_text
from scail2_farm.documents import (
    CanvasSize,
    FileDigest,
    Moment,
    PlateSource,
    Sampler,
    SealedSegment,
    SealedShot,
    Span,
    Use,
)
from scail2_farm.errors import FrameTruncated, ShareUnavailable, Where, storage_error
from scail2_farm.frames import FramePattern, FrameRange
from scail2_farm.media import mattes
from scail2_farm.media.plates import nearest
from scail2_farm.plan import Probing
from scail2_farm.settings import SNAPSHOT_FILES
from scail2_farm.shots import Grid, Shot
from scail2_farm.shots import Use as PlannedUse

RENDER_VERSION = 2
"""Raised whenever the same segment would come out with other pixels; part of every segment's key."""

SAVED_EVERY_S = 30.0
"""How much of the work of hashing may be lost by SIGKILL."""

MOST_NAMED = 3
"""Changed files that one line names; the others are counted."""


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
        if keys.of(segment, index, weights=found.sha256, previous=previous) == segment.key:
            return
    names = [path.name for path in suspects]
    told = names[:MOST_NAMED] or [Path(shot.plate.path).name, *(Path(one.matte).name for one in shot.performers)]
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
        frames=Span.of(shot.frames),
        handles_asked=shot.handles_asked,
        handles_given=shot.handles_given,
        plate=shot.plate,
        color=shot.color,
        output=shot.output,
        performers=shot.performers,
        segmenting=shot.segmenting,
        segments=segments,
        weights=weights,
        inputs=keys.inputs(shot.frames.numbers, segments),
    )


def _use(use: PlannedUse, first: int) -> Use:
    if use.clip is None or use.used is None:
        return Use(clip=None, cut=Span.of(use.frames))
    start = use.used.time_of(first)
    moment = Moment(value=start.value, rate=start.rate)
    return Use(clip=use.clip.name, clip_id=use.clip.id, cut=Span.of(use.frames), start=moment)


def _segments(shot: Shot, keys: _Keys, weights: str) -> tuple[SealedSegment, ...]:
    """The segments of the windows that save the most frames of earlier takes, the equal ones before others."""

    def saved(segments: Sequence[SealedSegment]) -> int:
        return sum(segment.keep.count for segment in segments if segment.key in shot.rendered)

    grids = (Grid(windows=shot.windows, scenes=shot.scenes), *shot.grids)
    return max((_keyed(shot, grid, keys, weights) for grid in grids), key=saved)


def _keyed(shot: Shot, grid: Grid, keys: _Keys, weights: str) -> tuple[SealedSegment, ...]:
    found: list[SealedSegment] = []
    for index, (window, scene) in enumerate(zip(grid.windows, grid.scenes, strict=True)):
        segment = SealedSegment(
            key="",
            window=_span(window.frames, shot.frames.first),
            overlap=window.overlap,
            keep=_span(window.keep, shot.frames.first),
            leave=shot.segmenting.overlap,
            mode=scene.mode,
            prompt=scene.prompt,
            negative_prompt=scene.negative_prompt,
            seed=scene.seed,
            sampler=scene.sampler,
            loras=scene.loras,
            canvas=scene.canvas,
        )
        key = keys.of(segment, index, weights=weights, previous=found[-1].key if found else None)
        found.append(segment.model_copy(update={"key": key}))
    return tuple(found)


def _span(frames: FrameRange, origin: int) -> Span:
    return Span(first=origin + frames.first, count=frames.count)


# --------------------------------------------------------------------------- keys


class _Keys:
    """What the segments of one shot are known by; a shot that is sealed and one that is to be are asked alike."""

    def __init__(self, shot: Shot | SealedShot, inputs: _Inputs):
        self._shot, self._inputs = shot, inputs
        self._plate = inputs.plate(shot.plate)
        self._mattes = [
            inputs.mattes(performer.mattes(shot.plate), performer.matte_offset, shot.plate)
            for performer in shot.performers
        ]
        self._common: str | None = None

    def of(self, segment: SealedSegment, index: int, *, weights: str, previous: str | None) -> str:
        """The key of a segment; its own is not looked at. Raises StorageError."""
        if self._common is None:
            self._common = sha256_text(json.dumps(self._shot_known(), sort_keys=True))
        window, keep, seen = segment.window, segment.keep, _seen(segment)
        place = index, window.first, window.count, segment.overlap, keep.first, keep.count, segment.leave
        shown = (",".join(self._inputs.known(track, seen)) for track in (self._plate, *self._mattes))
        said = segment.mode, segment.prompt, segment.negative_prompt, segment.seed
        scene = _scene_known(*said, segment.sampler, segment.canvas)  # pyright: ignore[reportArgumentType] (frozen documents have a hash)
        loras = str([(self._inputs.file(lora.path), lora.strength) for lora in segment.loras])
        lines = self._common, weights, previous or "", str(place), scene, loras, *shown
        return sha256_text("\n".join(lines))  # a line holds no other: texts from outside are JSON in it

    def _shot_known(self) -> dict[str, object]:
        """What all segments have in common: the plate's class and colour, and who is put in.

        Of a person the colour, the place and the stills; what he is called is in the prompt alone. Media has its place
        in time, but no end: what a window does not see is not in its key.
        """
        plate, color, file = self._shot.plate, self._shot.color, self._inputs.file
        beside = {"path", "frames", "timecode_start", "missing", "stand_in"}
        return {
            "render": RENDER_VERSION,
            "color": [color.digest or color.config, color.space, color.tone],
            "output": self._shot.output.model_dump(),
            "plate": plate.model_dump(mode="json", exclude=beside),
            "timecode": None if plate.timecode_start is None else plate.timecode_start - plate.frames.first,
            "performers": [
                {
                    "slot": performer.slot,
                    "seen": None if performer.seen is None else performer.seen.model_dump(),
                    "references": [[file(r.image), file(r.mask) if r.mask else None] for r in performer.references],
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
        seen = _seen(segment)
        shown = (track.file(frame) for track in (self._plate, *self._mattes) for frame in track.read(seen))
        others = (*self._stills(), *(lora.path for lora in segment.loras))
        return list(dict.fromkeys((*shown, *map(Path, others))))

    def inputs(self, frames: range, segments: Sequence[SealedSegment]) -> tuple[FileDigest, ...]:
        """Every input by content, once: a sequence as its pattern, by the digests of what is read of it.

        Raises StorageError.
        """
        found: dict[str, FileDigest] = {}
        sequences: dict[str, dict[str, str]] = {}
        for track in (self._plate, *self._mattes):
            if isinstance(track.source, FramePattern):
                sequences.setdefault(str(track.source), {}).update(self._inputs.files(track, frames))
            else:
                path = str(track.source)
                found[path] = FileDigest(path=path, sha256=self._inputs.file(path))
        for pattern, digests in sequences.items():
            found[pattern] = FileDigest(path=pattern, sha256=sha256_of_several(digests))
        for other in (*self._stills(), *(lora.path for segment in segments for lora in segment.loras)):
            if other not in found:
                found[other] = FileDigest(path=other, sha256=self._inputs.file(other))
        return tuple(found.values())


@lru_cache(maxsize=256)
def _scene_known(mode: str, prompt: str, negative_prompt: str, seed: int, sampler: Sampler, canvas: CanvasSize) -> str:
    """What a segment is rendered with, as a line; what the numbers of its sampler are called is not in it."""
    numbers = sampler.model_dump(exclude={"preset"})
    return json.dumps([mode, prompt, negative_prompt, seed, numbers, canvas.model_dump(mode="json")], sort_keys=True)


def _seen(segment: SealedSegment) -> range:
    """The plate frames a window shows; beyond what it keeps the last is repeated."""
    return range(segment.window.first, segment.keep.first + segment.keep.count)


# --------------------------------------------------------------------------- inputs


class _Frame(NamedTuple):
    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Track:
    """A sequence or a movie as a shot reads it: `offset` is added to the plate's frame.

    `others` are read in place of frames that are not there, or nothing (None); `marked` when that is told of them.
    `frames` are the files of a sequence that are known by now.
    """

    source: Path | FramePattern
    offset: int = 0
    others: Mapping[int, int | None] = field(default_factory=dict[int, "int | None"])
    marked: bool = False
    frames: dict[int, _Frame] = field(default_factory=dict[int, _Frame])

    def read(self, frames: range) -> list[int]:
        """What is read of the source for these frames of the plate, each once."""
        own = range(frames.start + self.offset, frames.stop + self.offset)
        if not self.others:
            return list(own)
        return list(dict.fromkeys(n for frame in own if (n := self.others.get(frame, frame)) is not None))

    def file(self, frame: int) -> Path:
        """The file of one frame of the source."""
        return self.source.path(frame) if isinstance(self.source, FramePattern) else self.source


class _Inputs:
    """The inputs of a cut by content, each looked at once however many shots read it."""

    def __init__(self, digests: Digests):
        self._digests = digests
        self._files: dict[str, str] = {}
        self._frames: dict[FramePattern, dict[int, _Frame]] = {}
        self._tracks: dict[tuple[object, ...], _Track] = {}

    def file(self, path: str) -> str:
        """The digest of a file; raises StorageError."""
        if path not in self._files:
            self._files[path] = self._digests.of(Path(path)).sha256
        return self._files[path]

    def files(self, track: _Track, frames: range) -> list[_Frame]:
        """The files of a sequence that are read for these frames of the plate, each once; raises StorageError."""
        known, read = track.frames, track.read(frames)
        for frame in read:
            if frame not in known:
                path = track.file(frame)
                known[frame] = _Frame(path.name, self._digests.of(path).sha256)
        return [known[frame] for frame in read]

    def known(self, track: _Track, frames: range) -> list[str]:
        """What each of these frames of the plate is known by: its file, or the movie's and its place in it.

        Empty where nothing is read. Raises StorageError.
        """
        if isinstance(track.source, FramePattern):
            found = self.files(track, frames)
            if not track.others:
                return [frame.sha256 for frame in found]
            names = {frame: track.frames[frame].sha256 for frame in track.read(frames)}
        else:
            movie = self.file(str(track.source))
            names = {frame: f"{movie} {frame}" for frame in track.read(frames)}
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
            self._tracks[place] = _Track(source=source, others=others, marked=True, frames=self._of(source))
        return self._tracks[place]

    def mattes(self, pattern: FramePattern, offset: int, plate: PlateSource) -> _Track:
        """The mattes of one performer; raises StorageError."""
        place = pattern, offset, plate.missing, plate.stand_in
        if place not in self._tracks:
            others = mattes.stand_ins(pattern, [n + offset for n in plate.missing], plate.stand_in)
            self._tracks[place] = _Track(source=pattern, offset=offset, others=others, frames=self._of(pattern))
        return self._tracks[place]

    def _of(self, source: Path | FramePattern) -> dict[int, _Frame]:
        """What is known of a source by now, whoever reads it."""
        return self._frames.setdefault(source, {}) if isinstance(source, FramePattern) else {}


def _there(plate: PlateSource) -> list[int]:
    """The frames that may stand in for a missing one."""
    source, gone = plate.source, set(plate.missing)
    known = source.on_disk() if isinstance(source, FramePattern) else plate.frames.range.numbers
    return [n for n in known if n not in gone]
