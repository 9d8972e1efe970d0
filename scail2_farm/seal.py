"""Shots known by content: every input read, every segment given its key and its folder.

A segment is known by the plate's frames, mattes, references, settings and weights, and by the segment before it; never
by a path, a shot's id or a clip's name. The same segment, in whatever cut it stands, is rendered once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scail2_farm.digests import Digests, sha256_text
from scail2_farm.documents import FileDigest, Performer, PlateSource, Segment, Span
from scail2_farm.errors import WeightsMissing, Where, storage_error
from scail2_farm.frames import FramePattern, FrameRange
from scail2_farm.media import mattes
from scail2_farm.media.plates import nearest
from scail2_farm.plan import Probing
from scail2_farm.shots import Shot

RENDER_VERSION = 2
"""Raised whenever the same segment would come out with other pixels; part of every segment's key."""

SNAPSHOT_FILES = (
    "config.json",
    "dit.safetensors",
    "vae.safetensors",
    "t5_encoder.safetensors",
    "clip.safetensors",
    "tokenizer.json",
)

SAVED_EVERY_S = 30.0
"""How much of the work of hashing may be lost by SIGKILL."""

BUILT_IN_WEIGHTS: Mapping[str, Path] = {"miniature": Path(__file__).parent / "engine" / "miniature"}
"""Snapshots known by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A shot whose inputs are known by content: its segments can be rendered anywhere."""

    shot: Shot
    segments: tuple[Segment, ...]
    inputs: tuple[FileDigest, ...]

    @property
    def key(self) -> str:
        """What the take is known by: the key of the last segment."""
        return self.segments[-1].key


def check_weights(named: str | None) -> Path:
    """The snapshot folder behind a name or a path, complete as far as files go.

    `miniature` is the small trained snapshot that comes with the package; a folder of that name is `./miniature`.
    Raises WeightsMissing.
    """
    if named is None:
        raise WeightsMissing("no weights are named")
    folder = BUILT_IN_WEIGHTS.get(named, Path(named)).absolute()
    missing = [name for name in SNAPSHOT_FILES if not (folder / name).is_file()]
    if missing:
        what = f"{', '.join(missing)} not found" if folder.is_dir() else "the weights folder is not there"
        raise WeightsMissing(what, where=Where(file=str(folder)))
    return folder


def seal(shots: Sequence[Shot], *, weights: Path, work: Path) -> Generator[Probing, None, tuple[Sealed, ...]]:
    """Read every input of the shots by content and give each segment its key and its folder under `work`.

    Yields what is being read; raises StorageError when an input cannot be read any more.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, work) from error
    digests = Digests(work / "digests.json")
    yield Probing(what=weights.name, done=0, of=len(shots) + 1)
    snapshot = digests.of_folder(weights, SNAPSHOT_FILES)
    sealed: list[Sealed] = []
    saved = time.monotonic()
    try:
        for done, shot in enumerate(shots):
            yield Probing(what=shot.id, done=done + 1, of=len(shots) + 1)
            sealed.append(_seal_shot(shot, snapshot, digests, work))
            if time.monotonic() - saved > SAVED_EVERY_S:
                digests.save()
                saved = time.monotonic()
    finally:
        digests.save()
    return tuple(sealed)


def _seal_shot(shot: Shot, snapshot: FileDigest, digests: Digests, work: Path) -> Sealed:
    known = _Known(digests)
    frames = known.plate(shot)
    people = [known.person(performer) for performer in shot.performers]
    shown = [known.mattes(performer, shot) for performer in shot.performers]
    common: dict[str, object] = {
        "render": RENDER_VERSION,
        "weights": snapshot.sha256,
        "color": shot.color.model_dump(include={"config", "space"}),
        "plate": shot.plate.model_dump(mode="json", exclude={"path", "frames", "timecode_start", "missing"}),
        "timecode": None if shot.plate.timecode_start is None else shot.plate.timecode_start - shot.plate.frames.first,
        "numbers": [shot.frames.first, shot.frames.count],
        "performers": people,
    }
    segments: list[Segment] = []
    for index, window in enumerate(shot.windows):
        first, until = window.frames.first, window.frames.first + window.frames.count
        content = common | _settings_known(shot, index)
        content["frames"] = frames[first:until]
        content["mattes"] = [of_one[first:until] for of_one in shown]
        content["previous"] = segments[-1].key if segments else None
        key = sha256_text(json.dumps(content, sort_keys=True))
        history = segments[-1].folder if segments else None
        segments.append(_segment(shot, index, key=key, weights=snapshot, folder=work / key[:24], history=history))
    return Sealed(shot=shot, segments=tuple(segments), inputs=tuple(known.inputs.values()))


@dataclass(slots=True)
class _Known:
    """The inputs of a shot, by content; `inputs` are all that were read, by path."""

    digests: Digests
    inputs: dict[str, FileDigest] = field(default_factory=dict[str, FileDigest])

    def file(self, path: Path | str) -> str:
        """The digest of a file, read once."""
        if str(path) not in self.inputs:
            self.inputs[str(path)] = self.digests.of(Path(path))
        return self.inputs[str(path)].sha256

    def plate(self, shot: Shot) -> list[str | None]:
        """What each frame is known by: its file, or the movie's and its place in it; black by nothing."""
        plate, source = shot.plate, shot.plate.source
        lacking, there = frozenset(plate.missing), _there(plate)

        def one(frame: int) -> str:
            return self.file(source.path(frame)) if isinstance(source, FramePattern) else f"{self.file(source)} {frame}"

        found: list[str | None] = []
        for frame in shot.frames.numbers:
            if frame not in lacking:
                found.append(one(frame))
                continue
            other = None if plate.stand_in == "black" else nearest(frame, there)
            found.append(None if other is None else f"held {one(other)}")
        return found

    def person(self, performer: Performer) -> dict[str, object]:
        """Who is put in: colour, place and stills; what he is called is in the prompt alone."""
        return {
            "slot": performer.slot,
            "seen": None if performer.seen is None else performer.seen.model_dump(),
            "references": [[self.file(r.image), self.file(r.mask) if r.mask else None] for r in performer.references],
        }

    def mattes(self, performer: Performer, shot: Shot) -> list[str | None]:
        """The matte of each frame; None where nobody is."""
        pattern, offset = performer.mattes(shot.plate), performer.matte_offset
        others = mattes.stand_ins(pattern, [n + offset for n in shot.plate.missing], shot.plate.stand_in)
        read = (others.get(n + offset, n + offset) for n in shot.frames.numbers)
        return [None if n is None else self.file(pattern.path(n)) for n in read]


def _settings_known(shot: Shot, index: int) -> dict[str, object]:
    """What a segment's own settings and its window add to its key, and how much it leaves to the next."""
    window, scene = shot.windows[index], shot.scenes[index]
    leaves = shot.windows[index + 1].overlap if index + 1 < len(shot.windows) else 0
    return {
        "index": index,
        "window": [window.frames.first, window.frames.count, window.keep.first, window.keep.count, window.overlap],
        "leaves": leaves,
        "mode": scene.mode,
        "prompt": scene.prompt,
        "negative": scene.negative_prompt,
        "seed": scene.seed,
        "sampler": scene.sampler.model_dump(exclude={"preset"}),
        "canvas": scene.canvas.model_dump(mode="json"),
    }


def _segment(shot: Shot, index: int, *, key: str, weights: FileDigest, folder: Path, history: str | None) -> Segment:
    window, scene = shot.windows[index], shot.scenes[index]
    return Segment(
        key=key,
        shot=shot.id,
        index=index,
        count=len(shot.windows),
        window=_span(window.frames, shot.frames.first),
        shot_frames=Span.of(shot.frames),
        overlap=window.overlap,
        keep=_span(window.keep, shot.frames.first),
        leave=shot.leave,
        plate=shot.plate,
        color=shot.color,
        canvas=scene.canvas,
        mode=scene.mode,
        prompt=scene.prompt,
        negative_prompt=scene.negative_prompt,
        seed=scene.seed,
        sampler=scene.sampler,
        performers=shot.performers,
        weights=weights,
        folder=str(folder),
        history=history,
    )


def _there(plate: PlateSource) -> list[int]:
    """The frames that may stand in for a missing one; none when nothing is missing."""
    if not plate.missing:
        return []
    source, gone = plate.source, set(plate.missing)
    known = source.on_disk() if isinstance(source, FramePattern) else plate.frames.range.numbers
    return [n for n in known if n not in gone]


def _span(frames: FrameRange, origin: int) -> Span:
    return Span(first=origin + frames.first, count=frames.count)
