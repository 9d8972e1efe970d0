"""From a submission to a plan: the edit read, the cast settled, every shot planned, every fault told at once.

Nothing is rendered and nothing is repaired here. Shots themselves are `shots`' affair, and known by content they
become in `seal`.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from scail2_farm.documents import CharacterLibrary, Loaded, PlateSource, ShotManifest, load_document
from scail2_farm.editorial.cast import Casting, cast_clips
from scail2_farm.editorial.timeline import Edit, read_edit
from scail2_farm.errors import FarmError, SubmissionInvalid, Where, storage_error
from scail2_farm.frames import FrameRange, timecode
from scail2_farm.search import Index
from scail2_farm.shots import Shot, ShotPlanner


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """One step of planning: what is being looked at, and how far along."""

    what: str
    done: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a submission comes to; `notes` are readings of the edit and the rules worth telling."""

    name: str
    folder: Path
    edit: Edit | None
    manifest: Loaded[ShotManifest] | None
    castings: tuple[Casting, ...]
    shots: tuple[Shot, ...]
    notes: tuple[str, ...]
    faults: tuple[FarmError, ...]
    deliver_to: Path

    def as_json(self) -> dict[str, object]:
        """The plan as `check --json` and `submit --json` print it."""
        renders = {use.casting.shot: shot.id for shot in self.shots for use in shot.uses}
        return {
            "clips": [_casting_json(casting, renders.get(casting.shot)) for casting in self.castings],
            "shots": [_shot_json(shot) for shot in self.shots],
            "notes": list(self.notes),
        }


def find_manifest(submission: Path) -> Path | None:
    """The manifest beside an edit: EDIT_STEM.shots.yaml, .yml or .json; None when there is none.

    A returned cut (EDIT_STEM.scail2.otio) has the manifest of the cut it came from.
    """
    stem = job_name(submission)
    names = (submission.with_name(f"{stem}.shots{suffix}") for suffix in (".yaml", ".yml", ".json"))
    return next((name for name in names if name.is_file()), None)


def job_name(submission: Path) -> str:
    """What a submission's products are called: its stem, without the marks of a manifest or a returned cut."""
    return submission.stem.removesuffix(".shots").removesuffix(".scail2")


def is_manifest(path: Path) -> bool:
    """Whether a submission is a manifest rather than an edit; OpenTimelineIO JSON is an edit by any name."""
    suffix = path.suffix.lower()
    if suffix != ".json" or not path.is_file():
        return suffix in (".yaml", ".yml", ".json")
    try:
        with path.open("rb") as file:
            return b'"OTIO_SCHEMA"' not in file.read(1 << 16)
    except OSError as error:
        raise storage_error(error, path) from error


def plan(
    submission: Path,
    *,
    manifest: Path | None = None,
    timeline: str | None = None,
    rate: Fraction | None = None,
    search: Sequence[Path] = (),
    casting_required: bool = True,
) -> Generator[Probing, None, Plan]:
    """Plan an edit, or a manifest that names one or lists explicit shots.

    `timeline` chooses one of several, `rate` is what an edit without a rate of its own is read at (else the manifest
    says), `search` are folders in which offline media is looked for, beside those of the manifest.
    `casting_required` is False for `check`, where an edit without a manifest is listed and no fault.

    Yields what is being probed; returns the Plan with every fault found. Raises SubmissionInvalid for a path that is
    not UTF-8, since no document could name it.
    """
    submission = submission.absolute()
    _utf8(submission)
    faults: list[FarmError] = []
    manifest = submission if is_manifest(submission) else (manifest or find_manifest(submission))
    if manifest is None and casting_required:
        faults.append(_no_manifest(submission))
    loaded: Loaded[ShotManifest] | None = None
    library: Loaded[CharacterLibrary] | None = None
    if manifest is not None:
        yield Probing(what=manifest.name, done=0, of=1)
        loaded, library = _documents(manifest.absolute(), faults, named=manifest != submission)
    edit_path = _edit_path(submission, loaded)
    edit: Edit | None = None
    if edit_path is not None:
        yield Probing(what=edit_path.name, done=0, of=1)
        edit = _read_edit(edit_path, loaded, timeline, rate, faults)
    castings: tuple[Casting, ...] = ()
    notes: list[str] = list(edit.notes) if edit is not None else []
    if edit is not None or edit_path is None:
        cast = cast_clips(edit, loaded, library)
        castings = cast.castings
        notes += cast.notes
        faults += cast.faults
    if manifest is not None and loaded is None:
        castings = tuple(replace(casting, reason="the manifest cannot be read") for casting in castings)
    shots: tuple[Shot, ...] = ()
    if loaded is not None and library is not None:
        shots = yield from _shots(castings, loaded, library, search, notes, faults)
    name = job_name(edit_path or submission)
    folder = (edit_path or submission).parent
    to = loaded.document.deliver.to if loaded is not None else None
    deliver_to = Path(os.path.normpath(_root(loaded) / to)) if loaded is not None and to else folder
    return Plan(
        name=name,
        folder=folder,
        edit=edit,
        manifest=loaded,
        castings=castings,
        shots=shots,
        notes=tuple(notes),
        faults=tuple(_told_once(faults)),
        deliver_to=deliver_to / f"{name}.scail2",
    )


def _shots(
    castings: Sequence[Casting],
    manifest: Loaded[ShotManifest],
    library: Loaded[CharacterLibrary],
    search: Sequence[Path],
    notes: list[str],
    faults: list[FarmError],
) -> Generator[Probing, None, tuple[Shot, ...]]:
    """Every shot that can be rendered; what is wrong with the others goes to `faults`."""
    wanted = [casting for casting in castings if casting.state == "rendered"]
    folders = [*search, *(Path(os.path.normpath(_root(manifest) / one)) for one in manifest.document.media.search)]
    index = Index(folders)
    try:
        if folders and any(casting.clip is not None and index.wants(casting.clip) for casting in wanted):
            for looked in index.scan():
                yield Probing(what=looked, done=0, of=1)
    except FarmError as fault:
        faults.append(fault)
    planner = ShotPlanner(manifest=manifest, library=library, root=_root(manifest), find=index.relinked)
    for done, casting in enumerate(wanted):
        yield Probing(what=casting.shot, done=done, of=len(wanted))
        planner.add(casting)
    shots: list[Shot] = []
    for name, shot in planner.shots():
        yield Probing(what=name, done=len(shots), of=len(wanted))
        shots += [shot] if shot is not None else []
    faults += planner.faults
    notes += index.notes
    return tuple(shots)


def _utf8(submission: Path) -> None:
    try:
        str(submission).encode("utf-8")
    except UnicodeEncodeError:
        what = f"the path {os.fsencode(submission)!r} is not UTF-8 text"
        raise SubmissionInvalid(what, fix="rename the file or folder, and submit it again") from None


def _documents(
    manifest: Path, faults: list[FarmError], *, named: bool
) -> tuple[Loaded[ShotManifest] | None, Loaded[CharacterLibrary] | None]:
    """The manifest and the character library it names; faults of both go to `faults`.

    `named`: the manifest is not the submission itself; one that is not there was then named by a flag.
    """
    loaded, found = load_document(manifest, ShotManifest)
    faults += [_manifest_missing(fault) for fault in found] if named and not manifest.exists() else found
    if loaded is None:
        return None, None
    written = loaded.document.characters
    library, found = load_document(_root(loaded) / written, CharacterLibrary)
    faults += [_library_missing(loaded, written, fault) for fault in found]
    return loaded, library


def _root(loaded: Loaded[ShotManifest]) -> Path:
    """What relative paths in the manifest are relative to: its source_dir, else its own folder."""
    source = loaded.document.source_dir
    return loaded.beside(source) if source else loaded.path.parent


def _no_manifest(submission: Path) -> FarmError:
    name = f"{job_name(submission)}.shots.yaml"
    return SubmissionInvalid(
        f"there is no manifest for {submission.name}",
        why="without a manifest nobody is cast, and nothing would be rendered",
        fix=f"write {name} beside it, or name one with --manifest",
        where=Where(file=str(submission)),
    )


def _manifest_missing(fault: FarmError) -> FarmError:
    return type(fault)(fault.what, why=fault.why, fix="correct --manifest, or put the file there", where=fault.where)


def _library_missing(loaded: Loaded[ShotManifest], written: str, fault: FarmError) -> FarmError:
    if fault.what.endswith("is not there"):
        return SubmissionInvalid(
            f"the character library {written} is not there",
            fix="correct `characters:`; a relative path is taken beside the manifest, or under `source_dir`",
            where=loaded.where("characters", field="characters"),
        )
    return fault


def _edit_path(submission: Path, loaded: Loaded[ShotManifest] | None) -> Path | None:
    if not is_manifest(submission):
        return submission
    if loaded is not None and loaded.document.timeline:
        return Path(os.path.normpath(_root(loaded) / loaded.document.timeline))
    return None


def _read_edit(
    path: Path,
    loaded: Loaded[ShotManifest] | None,
    timeline: str | None,
    rate: Fraction | None,
    faults: list[FarmError],
) -> Edit | None:
    try:
        if loaded is None:
            return read_edit(path, timeline=timeline, rate=rate)
        document = loaded.document
        return read_edit(
            path,
            timeline=timeline,
            tracks=document.tracks,
            path_map=document.path_map,
            source_dir=loaded.beside(document.source_dir) if document.source_dir else None,
            rate=rate or document.rate,
            prefer=document.media.prefer,
            include_disabled=document.include_disabled,
        )
    except FarmError as fault:
        faults.append(fault)
        return None


def _told_once(faults: Iterable[FarmError]) -> list[FarmError]:
    """One fault for one cause: what several shots suffer from is told of the first, with the number of the others."""
    alike: dict[tuple[str, str, Where], list[FarmError]] = {}
    for fault in faults:
        alike.setdefault((fault.code, fault.what, replace(fault.where, shot=None)), []).append(fault)
    told: list[FarmError] = []
    for same in alike.values():
        fault, others = same[0], len({fault.where.shot for fault in same}) - 1
        what = f"{fault.what} (so in {others} more shot{'s' if others > 1 else ''})" if others else fault.what
        told.append(type(fault)(what, why=fault.why, fix=fault.fix, where=fault.where))
    return told


def _casting_json(casting: Casting, render: str | None) -> dict[str, object]:
    clip = casting.clip
    found: dict[str, object] = {"shot": casting.shot, "state": casting.state}
    if clip is not None:
        found |= {
            "name": clip.name,
            "track": clip.track,
            "path": list(clip.path),
            "record": {"first": clip.record_start, "count": clip.record_count},
            "media": clip.media.url if clip.media else None,
            "speed": None if clip.speed is None else float(clip.speed),
            "notes": list(clip.notes),
        }
    if casting.state == "rendered":
        found["render"] = render
        found["rules"] = [{"where": where.line_of_file, "says": says} for where, says in casting.rules]
        found["characters"] = [
            {"id": member.id, "slot": member.slot, "cast_by": member.where.line_of_file} for member in casting.members
        ]
    else:
        found["reason"] = casting.reason
    return found


def _shot_json(shot: Shot) -> dict[str, object]:
    """A shot as people count it: by the numbers its files have, `step` apart."""
    plate = shot.plate
    start = plate.timecode_start
    first = None if start is None else start + shot.frames.first - plate.frames.first
    return {
        "shot": shot.id,
        "plate": plate.path,
        "rate": str(plate.rate),
        "size": [plate.width, plate.height],
        "timecode": None if first is None else timecode(first, plate.rate, drop=plate.drop_frame),
        "uses": [{"shot": use.casting.shot, "cut": _numbers_json(plate, use.frames)} for use in shot.uses],
        "frames": _numbers_json(plate, shot.frames),
        "step": plate.step,
        "stood_in": [plate.number(frame) for frame in plate.missing],
        "handles": shot.handles_given.model_dump(),
        "handles_asked": shot.handles_asked.model_dump(),
        "color": shot.color.model_dump(),
        "characters": [
            {
                "id": performer.id,
                "slot": performer.slot,
                "matte": performer.matte,
                "references": [reference.image for reference in performer.references],
            }
            for performer in shot.performers
        ],
        "segments": [
            _numbers_json(plate, FrameRange(shot.frames.first + window.keep.first, window.keep.count))
            | {
                "mode": scene.mode,
                "prompt": scene.prompt,
                "seed": scene.seed,
                "sampler": scene.sampler.model_dump(),
                "canvas": scene.canvas.model_dump(mode="json"),
            }
            for window, scene in zip(shot.windows, shot.scenes, strict=True)
        ],
        "warnings": list(shot.warnings),
    }


def _numbers_json(plate: PlateSource, frames: FrameRange) -> dict[str, object]:
    return {"first": plate.number(frames.first), "count": frames.count}
