"""Shots known by content: every input read, every segment given its key and its folder.

A segment is known by the plate's frames, mattes, references, settings and weights, and by the segment before it; never
by a path, a shot's id or a clip's name. The same segment, in whatever cut it stands, is rendered once.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scail2_farm.digests import Digests, sha256_text
from scail2_farm.documents import FileDigest, PlateSource, Segment, Span
from scail2_farm.errors import WeightsMissing, Where, storage_error
from scail2_farm.frames import FramePattern, FrameRange
from scail2_farm.media.mattes import matte_frame
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
    for done, shot in enumerate(shots):
        yield Probing(what=shot.id, done=done + 1, of=len(shots) + 1)
        sealed.append(_seal_shot(shot, snapshot, digests, work))
        digests.save()
    return tuple(sealed)


def _seal_shot(shot: Shot, snapshot: FileDigest, digests: Digests, work: Path) -> Sealed:
    inputs: dict[str, FileDigest] = {}

    def digest(path: Path | str) -> str:
        found = inputs.setdefault(str(path), digests.of(Path(path)))
        return found.sha256

    plate, source = shot.plate, shot.plate.source
    there = _there(plate)

    def known_by(frame: int) -> str | None:
        """What a frame of the plate is known by: its file, or the movie's and its place in it; black by nothing."""
        lacking = frame in plate.missing
        shown = (None if plate.stand_in == "black" else nearest(frame, there)) if lacking else frame
        if shown is None:
            return None
        return digest(source.path(shown)) if isinstance(source, FramePattern) else f"{digest(source)} {shown}"

    frames = [known_by(n) for n in shot.frames.numbers]
    performers: list[dict[str, object]] = []
    matte_digests: list[list[str | None]] = []
    for performer in shot.performers:
        performers.append(
            {
                "slot": performer.slot,
                "seen": None if performer.seen is None else performer.seen.model_dump(),
                "references": [[digest(r.image), digest(r.mask) if r.mask else None] for r in performer.references],
            }
        )
        pattern, offset = performer.mattes(plate), performer.matte_offset
        missing = [n + offset for n in plate.missing]
        shown = [
            matte_frame(pattern, n + offset, missing=missing, stand_in=plate.stand_in) for n in shot.frames.numbers
        ]
        matte_digests.append([None if n is None else digest(pattern.path(n)) for n in shown])
    common: dict[str, object] = {
        "render": RENDER_VERSION,
        "weights": snapshot.sha256,
        "color": shot.color.model_dump(include={"config", "space"}),
        "plate": plate.model_dump(mode="json", exclude={"path", "frames", "timecode_start", "missing"}),
        "timecode": None if plate.timecode_start is None else plate.timecode_start - plate.frames.first,
        "numbers": [shot.frames.first, shot.frames.count],
    }
    segments: list[Segment] = []
    for index, (window, scene) in enumerate(zip(shot.windows, shot.scenes, strict=True)):
        first, until = window.frames.first, window.frames.first + window.frames.count
        content: dict[str, object] = common | {
            "index": index,
            "window": [first, window.frames.count, window.keep.first, window.keep.count, window.overlap],
            "mode": scene.mode,
            "prompt": scene.prompt,
            "negative": scene.negative_prompt,
            "seed": scene.seed,
            "sampler": scene.sampler.model_dump(exclude={"preset"}),
            "canvas": scene.canvas.model_dump(mode="json"),
            "frames": frames[first:until],
            "performers": performers,
            "mattes": [of_one[first:until] for of_one in matte_digests],
            "previous": segments[-1].key if segments else None,
        }
        key = sha256_text(json.dumps(content, sort_keys=True))
        segments.append(
            Segment(
                key=key,
                shot=shot.id,
                index=index,
                count=len(shot.windows),
                window=_span(window.frames, shot.frames.first),
                shot_frames=Span(first=shot.frames.first, count=shot.frames.count),
                overlap=window.overlap,
                keep=_span(window.keep, shot.frames.first),
                leave=shot.leave,
                plate=plate,
                color=shot.color,
                canvas=scene.canvas,
                mode=scene.mode,
                prompt=scene.prompt,
                negative_prompt=scene.negative_prompt,
                seed=scene.seed,
                sampler=scene.sampler,
                performers=shot.performers,
                weights=snapshot,
                folder=str(work / key[:24]),
                history=segments[-1].folder if segments else None,
            )
        )
    return Sealed(shot=shot, segments=tuple(segments), inputs=tuple(inputs.values()))


def _there(plate: PlateSource) -> list[int]:
    """The frames that may stand in for a missing one; none when nothing is missing."""
    if not plate.missing:
        return []
    source, gone = plate.source, set(plate.missing)
    whole = FrameRange(plate.frames.first, plate.frames.count)
    known = source.on_disk() if isinstance(source, FramePattern) else whole.numbers
    return [n for n in known if n not in gone]


def _span(frames: FrameRange, origin: int) -> Span:
    return Span(first=origin + frames.first, count=frames.count)
