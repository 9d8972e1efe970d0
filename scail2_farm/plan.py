"""From a submission to a plan: the edit read, the cast settled, every shot planned, every fault told at once.

Nothing is rendered and nothing is repaired here. Shots themselves are `shots`' affair, and known by content they
become in `seal`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from scail2_farm.documents import (
    CanvasSize,
    CharacterLibrary,
    Driving,
    Loaded,
    MovieCodec,
    PlateSource,
    Sampler,
    Scene,
    ShotManifest,
    load_document,
)
from scail2_farm.editorial.cast import Casting, cast_clips
from scail2_farm.editorial.formats import BUNDLES
from scail2_farm.editorial.paths import is_relative
from scail2_farm.editorial.timeline import Edit, read_edit
from scail2_farm.errors import (
    FarmError,
    MatteMismatch,
    PlateMissing,
    PlateUnreadable,
    ShareUnavailable,
    StorageError,
    SubmissionInvalid,
    Where,
    storage_error,
)
from scail2_farm.frames import FrameRange, timecode
from scail2_farm.search import Index
from scail2_farm.shots import Shot, ShotPlanner
from scail2_farm.versions import takes

HOLDING = (PlateMissing, PlateUnreadable, MatteMismatch, StorageError)
"""What stops one shot of a dropped submission, and no other: it may be mended while those are rendered."""

MOST_TOLD = 3
"""Paths or faults that one line names; the others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """One step of planning: what is being looked at, and how far along."""

    what: str
    done: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a submission comes to; `notes` are readings of the edit and the rules worth telling.

    With any of `faults` nothing is rendered. Of a dropped submission `held` are the shots that cannot be, each with
    what is wrong with it, while the others can. `deliver_to` holds shots/ and sheets/; `cut` is where the returned cut
    goes, None without an edit.
    """

    name: str
    folder: Path
    edit: Edit | None
    manifest: Loaded[ShotManifest] | None
    castings: tuple[Casting, ...]
    shots: tuple[Shot, ...]
    notes: tuple[str, ...]
    faults: tuple[FarmError, ...]
    held: Mapping[str, FarmError]
    deliver_to: Path
    cut: Path | None

    @property
    def movie(self) -> MovieCodec | None:
        """The codec of the review movies; None when none are wanted."""
        wanted = self.manifest.document.deliver.movie if self.manifest else "prores"
        return None if wanted == "none" else wanted

    def as_json(self) -> dict[str, object]:
        """The plan as `check --json` and `submit --json` print it."""
        return {name: list(rows) for name, rows in self._rows().items()}

    def pieces(self) -> Iterator[str]:
        """That document as text, a row at a time: of a long cut it is too much to be held at once."""
        before, encode = "{", json.JSONEncoder(ensure_ascii=False).encode
        for name, rows in self._rows().items():
            yield f"{before}{json.dumps(name)}: ["
            yield from (f"{',' if number else ''}\n{encode(row)}" for number, row in enumerate(rows))
            before = "\n],\n"
        yield "\n]}\n"

    def _rows(self) -> dict[str, Iterator[object]]:
        renders = {use.casting.shot: shot.id for shot in self.shots for use in shot.uses}
        return {
            "clips": (_casting_json(casting, renders.get(casting.shot)) for casting in self.castings),
            "shots": (_shot_json(shot) for shot in self.shots),
            "notes": iter(self.notes),
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
    dropped: bool = False,
    home: Path | None = None,
    fallback: Path | None = None,
    seeds: Mapping[str, int] | None = None,
    loras: Mapping[str, Path] | None = None,
) -> Generator[Probing, None, Plan]:
    """Plan an edit, or a manifest that names one or lists explicit shots.

    `timeline` chooses one of several, `rate` is what an edit without a rate of its own is read at (else the manifest
    says), `search` are folders in which offline media is looked for, beside those of the manifest.
    `casting_required` is False for `check`, where an edit without a manifest is listed and no fault.

    `dropped`: the submission does not lie where it was made. Relative paths are taken in `home`, the folder it was made
    in, or under `source_dir`; where neither is known they are a fault. What stops one shot alone goes to Plan.held.
    Takes and the returned cut go to `deliver.to`, else `home`, else `source_dir`, else `fallback`.

    `seeds` are by shot, and outrank all that the manifest says of it. `loras` are the files of adapters by the names
    that manifests and presets call them.

    Yields what is being probed; returns the Plan with every fault found. Raises SubmissionInvalid for a path that is
    not UTF-8, since no document could name it.
    """
    read = _Reading(submission=submission.absolute(), moved=dropped, home=home)
    _utf8(read.submission)
    read.find_manifest(manifest, required=casting_required)
    if read.manifest is not None:
        yield Probing(what=read.manifest.name, done=0, of=1)
        read.read_manifest()
        read.read_library()
    loaded, library = read.loaded, read.library
    if read.edit_path is not None:
        yield Probing(what=read.edit_path.name, done=0, of=1)
        read.read_edit(timeline, rate)
    faults, edit = read.faults, read.edit
    castings: tuple[Casting, ...] = ()
    notes: list[str] = list(edit.notes) if edit is not None else []
    if edit is not None or (read.edit_path is None and (loaded is None or loaded.document.timeline is None)):
        cast = cast_clips(edit, loaded, library)
        castings = cast.castings
        notes += cast.notes
        faults += cast.faults
    if read.manifest is not None and loaded is None:
        castings = tuple(replace(casting, reason="the manifest cannot be read") for casting in castings)
    name = job_name(read.edit_path or read.submission)
    folder = (read.edit_path or read.submission).parent
    to = read.deliver_to(fallback)
    shots: tuple[Shot, ...] = ()
    held: Mapping[str, FarmError] = {}
    if lost := list(read.lost_paths(castings, search)):
        faults.append(_nowhere(lost, read.manifest))
    elif loaded is not None and library is not None:
        root = read.root or folder  # without a root every path is absolute
        takes_in = to / f"{name}.scail2"
        shots, own = yield from _shots(castings, loaded, library, root, search, takes_in, loras or {}, notes, faults)
        held = _held(own) if dropped else {}
        faults += [fault for fault in own if not (dropped and isinstance(fault, HOLDING))]
        shots = tuple(_seeded(shot, seeds or {}) for shot in shots if shot.id not in held)
    return Plan(
        name=name,
        folder=folder,
        edit=edit,
        manifest=loaded,
        castings=castings,
        shots=shots,
        notes=tuple(notes),
        faults=tuple(_told_once(faults)),
        held=held,
        deliver_to=to / f"{name}.scail2",
        cut=None if read.edit_path is None else (to if dropped else folder) / f"{name}.scail2.otio",
    )


def edit_of(
    submission: Path,
    *,
    manifest: Path | None = None,
    timeline: str | None = None,
    rate: Fraction | None = None,
    dropped: bool = False,
    home: Path | None = None,
) -> Edit | None:
    """The edit of a submission as `plan` reads it, to be returned with takes; None when it has none.

    Raises FarmError when it no longer reads.
    """
    read = _Reading(submission=submission.absolute(), moved=dropped, home=home)
    read.find_manifest(manifest, required=False)
    if read.manifest is not None:
        read.read_manifest()
    if read.edit_path is not None:
        read.read_edit(timeline, rate)
    if read.faults:
        raise read.faults[0]
    return read.edit


# --------------------------------------------------------------------------- the files of a submission


@dataclass(slots=True, kw_only=True)
class _Reading:
    """The files of a submission, read one after the other; `faults` gathers what is wrong with them.

    `moved`: it does not lie where it was made, so its own folder says nothing; `home`, when it is known, does.
    """

    submission: Path
    moved: bool
    home: Path | None
    manifest: Path | None = None
    loaded: Loaded[ShotManifest] | None = None
    library: Loaded[CharacterLibrary] | None = None
    edit: Edit | None = None
    faults: list[FarmError] = field(default_factory=list[FarmError])

    @property
    def root(self) -> Path | None:
        """What relative paths in the manifest are taken in: its source_dir, else its home; None: nothing says."""
        home = self.home if self.moved else (self.manifest or self.submission).parent
        source = self.loaded.document.source_dir if self.loaded is not None else None
        return home if source is None else _within(home, source)

    @property
    def edit_path(self) -> Path | None:
        """The edit: the submission, or what its manifest names."""
        return self._timeline if is_manifest(self.submission) else self.submission

    @property
    def _timeline(self) -> Path | None:
        """The edit that the manifest names."""
        named = self.loaded.document.timeline if self.loaded is not None else None
        return None if named is None else _within(self.root, named)

    @property
    def media_folder(self) -> Path | None:
        """What relative addresses in the edit are taken in; the edit's own folder when it was not moved."""
        assert self.edit_path is not None, "asked of an edit"
        if self.loaded is not None and self.loaded.document.source_dir is not None:
            return self.root
        return self.home if self.moved and self._timeline != self.edit_path else self.edit_path.parent

    def find_manifest(self, named: Path | None, *, required: bool) -> None:
        """The manifest: the submission itself, the one that is `named`, or the one beside it."""
        found = self.submission if is_manifest(self.submission) else named or find_manifest(self.submission)
        if found is not None:
            self.manifest = found.absolute()
        elif required:
            self.faults.append(no_manifest(self.submission))

    def read_manifest(self) -> None:
        """The manifest as a document."""
        assert self.manifest is not None, "asked of a manifest"
        self.loaded, found = load_document(self.manifest, ShotManifest)
        lacking = self.manifest != self.submission and not self.manifest.exists()  # it was named by a flag
        self.faults += [_manifest_missing(fault) for fault in found] if lacking else found

    def read_library(self) -> None:
        """The character library that the manifest names.

        Raises ShareUnavailable for a submission that was moved when its `source_dir` is away: it can wait.
        """
        if self.loaded is None:
            return
        away = _away(self.loaded, self.root)
        if away is not None and self.moved:
            raise away
        if away is not None:
            self.faults.append(away)
            return
        written = self.loaded.document.characters
        path = _within(self.root, written)
        if path is not None:  # else it is told with the other paths that lead nowhere
            self.library, found = load_document(path, CharacterLibrary)
            self.faults += [_library_missing(self.loaded, path, fault) for fault in found]

    def read_edit(self, timeline: str | None, rate: Fraction | None) -> None:
        """The edit, read as the manifest says."""
        path, folder = self.edit_path, self.media_folder
        assert path is not None, "asked of an edit"
        document = self.loaded.document if self.loaded is not None else None
        try:
            if document is None:
                edit = read_edit(path, timeline=timeline, source_dir=folder, rate=rate)
            else:
                edit = read_edit(
                    path,
                    timeline=timeline,
                    tracks=document.tracks,
                    path_map=document.path_map,
                    source_dir=folder,
                    rate=rate or document.rate,
                    prefer=document.media.prefer,
                    include_disabled=document.include_disabled,
                )
        except FarmError as fault:
            self.faults.append(fault)
        else:
            lost = folder is None and path.suffix.lower() not in BUNDLES
            self.edit = replace(edit, folder=None) if lost else edit

    def deliver_to(self, fallback: Path | None) -> Path:
        """The folder in which takes get one of the submission's name."""
        own = (self.edit_path or self.submission).parent
        to = self.loaded.document.deliver.to if self.loaded is not None else None
        if to is not None:
            return _within(self.root, to) or own
        return (self.home or self.root or fallback or own) if self.moved else own

    def lost_paths(self, castings: Iterable[Casting], search: Sequence[Path]) -> Iterator[str]:
        """Relative paths of which nothing says where they begin, each with the place that gives it.

        Media of the edit that is searched for may be anywhere.
        """
        if self.loaded is None:
            return
        document = self.loaded.document
        if self.root is None:
            paths = _paths(document, timeline=self.manifest == self.submission)
            yield from (f"{path} ({place})" for place, path in paths if _within(None, path) is None)
            media = ((shot.id, shot.media) for shot in document.shots if shot.media is not None)
            yield from (f"{url} (the media of {shot})" for shot, url in media if is_relative(url))
            for level in (document.defaults, *document.cast, *document.shots):
                own = level.driving.performance if level.driving is not None else None
                if own is not None:
                    mattes = (matte.sequence for matte in own.roles.values() if matte.sequence is not None)
                    yield from (f"{url} (of a performance)" for url in (own.media, *mattes) if is_relative(url))
        if self.edit is None or self.edit.folder is not None or search or document.media.search:
            return
        for casting in castings:
            clip = casting.clip if casting.state == "rendered" else None
            if clip is not None and clip.media is not None and is_relative(clip.media.url):
                yield f"{clip.media.url} (the media of {casting.shot})"


def _within(folder: Path | None, path: str) -> Path | None:
    """A path that may be relative to a folder; None for a relative one without a folder."""
    if folder is None and not Path(path).is_absolute():
        return None
    return Path(os.path.normpath((folder or Path("/")) / path))


def _paths(document: ShotManifest, *, timeline: bool) -> Iterator[tuple[str, str]]:
    """The paths that a manifest gives, each after the key that gives it; `timeline`: also that of the edit."""
    keys = {
        "source_dir": document.source_dir,
        "timeline": document.timeline if timeline else None,
        "characters": document.characters,
        "deliver.to": document.deliver.to,
    }
    yield from ((key, path) for key, path in keys.items() if path is not None)
    yield from (("media.search", folder) for folder in document.media.search)
    yield from (("path_map", mapping.to) for mapping in document.path_map)
    for entry in (*document.cast, *document.shots):
        for member in entry.characters if isinstance(entry.characters, tuple) else ():
            if member.matte is not None and member.matte.sequence is not None:
                yield f"the matte of {member.id}", member.matte.sequence


def _nowhere(lost: Sequence[str], manifest: Path | None) -> FarmError:
    """The fault of relative paths in a submission that was moved."""
    known = list(dict.fromkeys(lost))
    more = f" and {len(known) - MOST_TOLD} more" if len(known) > MOST_TOLD else ""
    are = "are relative paths" if len(known) > 1 else "is a relative path"
    name = manifest.name if manifest is not None else "the manifest"
    return SubmissionInvalid(
        f"{', '.join(known[:MOST_TOLD])}{more} {are}, and nothing says what to",
        why="a file is moved out of the inbox when it is claimed: what lay beside it is found by `source_dir` alone",
        fix=f"add `source_dir: /the/folder/the/edit/was/in` to {name}, or write these paths absolute",
        where=Where(file=str(manifest) if manifest is not None else None, field="source_dir"),
    )


# --------------------------------------------------------------------------- shots


def _shots(
    castings: Sequence[Casting],
    manifest: Loaded[ShotManifest],
    library: Loaded[CharacterLibrary],
    root: Path,
    search: Sequence[Path],
    deliver_to: Path,
    loras: Mapping[str, Path],
    notes: list[str],
    faults: list[FarmError],
) -> Generator[Probing, None, tuple[tuple[Shot, ...], list[FarmError]]]:
    """Every shot that can be rendered, and what is wrong with the others; a fault of the search goes to `faults`."""
    wanted = [casting for casting in castings if casting.state == "rendered"]
    folders = [*search, *(Path(os.path.normpath(root / one)) for one in manifest.document.media.search)]
    index = Index(folders)
    try:
        if folders and any(casting.clip is not None and index.wants(casting.clip) for casting in wanted):
            for looked in index.scan():
                yield Probing(what=looked, done=0, of=1)
    except FarmError as fault:
        faults.append(fault)
    planner = ShotPlanner(
        manifest=manifest,
        library=library,
        root=root,
        find=index.relinked,
        takes=lambda shot: (take for _, take in takes(deliver_to, shot) if take is not None),
        loras=loras,
    )
    for done, casting in enumerate(wanted):
        yield Probing(what=casting.shot, done=done, of=len(wanted))
        planner.add(casting)
    shots: list[Shot] = []
    for name, shot in planner.shots():
        yield Probing(what=name, done=len(shots), of=len(wanted))
        shots += [shot] if shot is not None else []
    notes += [*index.notes, *planner.notes]
    return tuple(shots), planner.faults


def _held(faults: Iterable[FarmError]) -> dict[str, FarmError]:
    """The shots that faults of theirs alone stop; the first fault of a shot tells the others too."""
    of_shot: dict[str, list[FarmError]] = {}
    for fault in faults:
        if isinstance(fault, HOLDING) and fault.where.shot is not None:
            of_shot.setdefault(fault.where.shot, []).append(fault)
    held: dict[str, FarmError] = {}
    for shot, own in of_shot.items():
        fault, words = own[0], list(dict.fromkeys(one.what for one in own))
        more = f"; and {len(words) - MOST_TOLD} more" if len(words) > MOST_TOLD else ""
        what = "; ".join(words[:MOST_TOLD]) + more
        held[shot] = type(fault)(what, why=fault.why, fix=fault.fix, where=fault.where)
    return held


def _seeded(shot: Shot, seeds: Mapping[str, int]) -> Shot:
    """The shot with the seed that outranks its own, if there is one, in every segment."""
    if shot.id not in seeds:
        return shot
    said = {"seed": seeds[shot.id]}

    def scenes(own: Iterable[Scene]) -> tuple[Scene, ...]:
        return tuple(scene.model_copy(update=said) for scene in own)

    grids = tuple(replace(grid, scenes=scenes(grid.scenes)) for grid in shot.grids)
    return replace(shot, scenes=scenes(shot.scenes), grids=grids)


# --------------------------------------------------------------------------- faults


def _utf8(submission: Path) -> None:
    try:
        str(submission).encode("utf-8")
    except UnicodeEncodeError:
        what = f"the path {os.fsencode(submission)!r} is not UTF-8 text"
        raise SubmissionInvalid(what, fix="rename the file or folder, and submit it again") from None


def no_manifest(submission: Path) -> FarmError:
    """What is said of an edit without a manifest."""
    name = f"{job_name(submission)}.shots.yaml"
    return SubmissionInvalid(
        f"there is no manifest for {submission.name}",
        why="without a manifest nobody is cast, and nothing would be rendered",
        fix=f"write {name} beside it, or name one with --manifest",
        where=Where(file=str(submission)),
    )


def _manifest_missing(fault: FarmError) -> FarmError:
    return type(fault)(fault.what, why=fault.why, fix="correct --manifest, or put the file there", where=fault.where)


def _away(loaded: Loaded[ShotManifest], root: Path | None) -> ShareUnavailable | None:
    """What is said when the `source_dir` of a manifest is not there; None when it is, or none is named."""
    if loaded.document.source_dir is None or root is None or root.is_dir():
        return None
    return ShareUnavailable(
        f"the source_dir {root} is not there",
        why="relative paths are taken in it",
        fix="mount its volume, or correct `source_dir`, and submit again",
        where=loaded.where("source_dir", field="source_dir"),
    )


def _library_missing(loaded: Loaded[ShotManifest], path: Path, fault: FarmError) -> FarmError:
    if fault.what.endswith("is not there"):
        return SubmissionInvalid(
            f"the character library {path} is not there",
            fix="correct `characters:`; a relative path is taken beside the manifest, or under `source_dir`",
            where=loaded.where("characters", field="characters"),
        )
    return fault


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
        "driving": None if shot.driving is None else _driving_json(shot.driving, shot.frames),
        "segments": [
            _numbers_json(plate, window.keep.moved(shot.frames.first))
            | {
                "mode": scene.mode,
                "prompt": scene.prompt,
                "seed": scene.seed,
                "loras": [lora.model_dump() for lora in scene.loras],
            }
            | _scene_json(scene.sampler, scene.canvas)  # pyright: ignore[reportArgumentType] (frozen documents have a hash)
            for window, scene in zip(shot.windows, shot.scenes, strict=True)
        ],
        "warnings": list(shot.warnings),
    }


def _driving_json(driving: Driving, frames: FrameRange) -> dict[str, object]:
    """The performance that moves a shot's characters: its clip, and its frames for those of the shot."""
    clip = driving.clip
    return {
        "media": clip.path,
        "frames": _numbers_json(clip, frames.moved(driving.offset)),
        "color": driving.color.model_dump(),
        "mattes": [role.matte for role in driving.roles],
    }


@lru_cache(maxsize=64)
def _scene_json(sampler: Sampler, canvas: CanvasSize) -> dict[str, object]:
    """What ten thousand segments have in common."""
    return {"sampler": sampler.model_dump(), "canvas": canvas.model_dump(mode="json")}


def _numbers_json(plate: PlateSource, frames: FrameRange) -> dict[str, object]:
    return {"first": plate.number(frames.first), "count": frames.count}
