"""From a submission to shots and segments: every frame covered, every input probed, every fault told at once.

Nothing is rendered and nothing is repaired here. A shot is a clip that was cast; its segments are the model's
windows, and padding to the model's 4n + 1 frames is this module's affair alone. A segment is known by content
(frames, mattes, references, settings, weights, and the segment before it), never by a path or a clip's name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path

from scail2_farm.digests import Digests, sha256_text
from scail2_farm.documents import (
    CanvasSize,
    CharacterLibrary,
    FileDigest,
    Handles,
    Loaded,
    Mode,
    Performer,
    PlateColor,
    PlateSource,
    Preset,
    Sampler,
    Segment,
    Segmenting,
    Settled,
    ShotManifest,
    Solver,
    Span,
    load_document,
)
from scail2_farm.editorial.cast import Casting, Member, cast_clips
from scail2_farm.editorial.paths import locate
from scail2_farm.editorial.timeline import Clip, Edit, read_edit, slug
from scail2_farm.errors import (
    FarmError,
    MatteMismatch,
    PlateMissing,
    SubmissionInvalid,
    WeightsMissing,
    Where,
    storage_error,
)
from scail2_farm.frames import FramePattern, FrameRange, timecode
from scail2_farm.media import mattes, plates, stills
from scail2_farm.media.canvas import Canvas
from scail2_farm.media.color import decide

RENDER_VERSION = 1
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

PRESETS: Mapping[Preset, tuple[Solver, int, float, float]] = {
    # solver, steps, shift, guidance (engine.md §7.9; SCAIL-2 command line, its sampler paper and the community's turbo)
    "preview": ("euler", 6, 5.0, 1.0),
    "lightning": ("unipc", 8, 1.0, 1.0),
    "fast": ("dpmpp", 16, 5.0, 5.0),
    "quality": ("unipc", 40, 3.0, 5.0),
    "paper": ("euler", 50, 5.0, 4.0),
}

DEFAULT_SIZE = (832, 480)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """One step of planning: what is being looked at, and how far along."""

    what: str
    done: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A clip that will be rendered."""

    id: str
    casting: Casting
    clip: Clip | None
    plate: PlateSource
    color: PlateColor
    canvas: CanvasSize
    performers: tuple[Performer, ...]
    settings: Settled
    sampler: Sampler
    prompt: str
    cut: FrameRange
    frames: FrameRange
    handles_asked: Handles
    handles_given: Handles
    windows: tuple[Window, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One segment of a shot, in frames counted from the shot's first: the model's window and what is kept of it."""

    frames: FrameRange
    keep: FrameRange
    overlap: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a submission comes to."""

    name: str
    folder: Path
    edit: Edit | None
    manifest: Loaded[ShotManifest] | None
    castings: tuple[Casting, ...]
    shots: tuple[Shot, ...]
    faults: tuple[FarmError, ...]
    deliver_to: Path

    def as_json(self) -> dict[str, object]:
        """The plan as `check --json` and `submit --json` print it."""
        return {
            "clips": [_casting_json(casting) for casting in self.castings],
            "shots": [_shot_json(s) for s in self.shots],
        }


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


# --------------------------------------------------------------------------- windows


def windows(count: int, *, length: int, overlap: int) -> tuple[Window, ...]:
    """The equal windows of a shot of `count` frames (engine.md §8.2, policy `equal`).

    The fewest windows, all of one 4n + 1 length that is at most `length`; each shares `overlap` frames with the one
    before. The last may reach beyond the shot: the renderer repeats the shot's last frame there and drops the result.
    `keep` ranges follow one another and cover the shot exactly.
    """
    if count < 1:
        raise ValueError("a shot has at least one frame")
    number = max(1, -(-(count - overlap) // (length - overlap)))
    longest = -(-(count + overlap * (number - 1)) // number)
    equal = (longest + 2) // 4 * 4 + 1
    found: list[Window] = []
    kept = 0
    for index in range(number):
        first = index * (equal - overlap)
        until = min(first + equal, count)
        history = overlap if index else 0
        found.append(Window(frames=FrameRange(first, equal), keep=FrameRange(kept, until - kept), overlap=history))
        kept = until
    return tuple(found)


# --------------------------------------------------------------------------- the plan


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
    """Whether a submission is a manifest rather than an edit."""
    return path.suffix.lower() in (".yaml", ".yml", ".json")


def plan(
    submission: Path, *, manifest: Path | None = None, timeline: str | None = None, casting_required: bool = True
) -> Generator[Probing, None, Plan]:
    """Plan an edit, or a manifest that names one or lists explicit shots.

    Yields what is being probed; returns the Plan with every fault found. `casting_required` is False for `check`,
    where an edit without a manifest is listed and no fault. Raises SubmissionInvalid for a path that is not UTF-8,
    since no document could name it.
    """
    faults: list[FarmError] = []
    submission = submission.absolute()
    try:
        str(submission).encode("utf-8")
    except UnicodeEncodeError:
        what = f"the path {os.fsencode(submission)!r} is not UTF-8 text"
        raise SubmissionInvalid(what, fix="rename the file or folder, and submit it again") from None
    manifest = submission if is_manifest(submission) else (manifest or find_manifest(submission))
    loaded: Loaded[ShotManifest] | None = None
    library: Loaded[CharacterLibrary] | None = None
    if manifest is None:
        if casting_required:
            faults.append(_no_manifest(submission))
    else:
        yield Probing(what=manifest.name, done=0, of=1)
        loaded, found = load_document(manifest.absolute(), ShotManifest)
        faults += found
    if loaded is not None:
        written = loaded.document.characters
        library, found = load_document(_root(loaded) / written, CharacterLibrary)
        faults += [_library_missing(loaded, written, library_fault) for library_fault in found]
    edit_path = _edit_path(submission, loaded)
    edit: Edit | None = None
    if edit_path is not None:
        yield Probing(what=edit_path.name, done=0, of=1)
        edit = _read_edit(edit_path, loaded, timeline, faults)
    castings: tuple[Casting, ...] = ()
    if edit is not None or edit_path is None:
        castings, found = cast_clips(edit, loaded, library)
        faults += found if loaded is not None and library is not None else []
    if manifest is not None and loaded is None:
        castings = tuple(replace(casting, reason="the manifest cannot be read") for casting in castings)
    shots: list[Shot] = []
    if loaded is not None and library is not None:
        wanted = [casting for casting in castings if casting.state == "rendered"]
        probed: dict[str, plates.PlateProbe | FarmError] = {}
        stills_read: dict[str, list[FarmError]] = {}
        for done, casting in enumerate(wanted):
            yield Probing(what=casting.shot, done=done, of=len(wanted))
            shot = _Shot(casting, edit, loaded, library, probed, stills_read)
            planned = shot.plan()
            faults += shot.faults
            if planned is not None:
                shots.append(planned)
    name = job_name(edit_path or submission)
    folder = (edit_path or submission).parent
    to = loaded.document.deliver.to if loaded is not None else None
    deliver_to = (
        Path(os.path.normpath(_root(loaded) / to)) if loaded is not None and to else folder
    ) / f"{name}.scail2"
    return Plan(
        name=name,
        folder=folder,
        edit=edit,
        manifest=loaded,
        castings=castings,
        shots=tuple(shots),
        faults=tuple(_told_once(faults)),
        deliver_to=deliver_to,
    )


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
    path: Path, loaded: Loaded[ShotManifest] | None, timeline: str | None, faults: list[FarmError]
) -> Edit | None:
    document = loaded.document if loaded is not None else None
    source_dir = loaded.beside(document.source_dir) if loaded is not None and document and document.source_dir else None
    try:
        return read_edit(
            path,
            timeline=timeline,
            tracks=document.tracks if document else None,
            path_map=document.path_map if document else (),
            source_dir=source_dir,
        )
    except FarmError as fault:
        faults.append(fault)
        return None


def _told_once(faults: Iterable[FarmError]) -> list[FarmError]:
    seen: dict[tuple[str, str, str], FarmError] = {}
    for fault in faults:
        seen.setdefault((fault.code, fault.what, str(fault.where)), fault)
    return list(seen.values())


@dataclass(slots=True)
class _Shot:
    """The planning of one shot: probes its inputs and gathers its faults."""

    casting: Casting
    edit: Edit | None
    manifest: Loaded[ShotManifest]
    library: Loaded[CharacterLibrary]
    probed: dict[str, plates.PlateProbe | FarmError]
    stills: dict[str, list[FarmError]]
    faults: list[FarmError] = field(default_factory=list[FarmError])
    warnings: list[str] = field(default_factory=list[str])

    def plan(self) -> Shot | None:
        """The shot, or None when a fault makes it unrenderable."""
        try:
            source, cut = self._media()
        except FarmError as fault:
            self.faults.append(self._placed(fault))
            return None
        probe = self._probe(source)
        if probe is None:
            return None
        try:
            cut = cut if cut is not None else self._used(probe)
            self._inside(cut, probe)
            rate = self._rate(probe)
            color = decide(manifest_space=self._space(source), probe=probe)
        except FarmError as fault:
            self.faults.append(self._placed(fault))
            return None
        asked = self.manifest.document.handles
        given = Handles(
            head=max(0, min(asked.head, cut.first - probe.frames.first)),
            tail=max(0, min(asked.tail, probe.frames.last - cut.last)),
        )
        frames = cut.grown(given.head, given.tail)
        try:
            checked = plates.check_frames(source, frames, size=(probe.width, probe.height))
        except FarmError as fault:
            checked = [fault]
        self.faults += [self._placed(fault) for fault in checked]
        performers = self._performers(probe, frames)
        if self.faults or len(performers) < len(self.casting.members):
            return None
        settings = self.casting.settings
        segmenting = settings.segment or Segmenting()
        size = settings.size or DEFAULT_SIZE
        canvas = Canvas.fit(probe.width, probe.height, pixel_aspect=probe.pixel_aspect, budget=size)
        return Shot(
            id=self.casting.shot,
            casting=self.casting,
            clip=self.casting.clip,
            plate=PlateSource(
                kind=probe.kind,
                path=str(source),
                frames=Span(first=probe.frames.first, count=probe.frames.count),
                width=probe.width,
                height=probe.height,
                pixel_aspect=probe.pixel_aspect,
                rate=rate,
                timecode_start=self._timecode(probe),
                drop_frame=probe.drop_frame,
            ),
            color=PlateColor(config=color.config, space=color.space, decided_by=color.decided_by),
            canvas=CanvasSize(width=canvas.width, height=canvas.height, active=canvas.active),
            performers=performers,
            settings=settings,
            sampler=sampler(settings),
            prompt=_prompt(settings, performers),
            cut=cut,
            frames=frames,
            handles_asked=asked,
            handles_given=given,
            windows=windows(frames.count, length=segmenting.length, overlap=segmenting.overlap),
            warnings=(*probe.warnings, *(self.casting.clip.notes if self.casting.clip else ()), *self.warnings),
        )

    def _placed(self, fault: FarmError) -> FarmError:
        """The fault with the shot's name on it."""
        if fault.where.shot is None:
            fault.where = replace(fault.where, shot=self.casting.shot)
        return fault

    # ------------------------------------------------------------------- the plate

    def _media(self) -> tuple[Path | FramePattern, FrameRange | None]:
        """The plate's file or sequence, and the cut's frames when the edit alone decides them."""
        override = self.casting.override
        if self.casting.clip is None and override is not None and override.media is not None:
            path_map = self.manifest.document.path_map
            found = locate(override.media, folder=_root(self.manifest), path_map=path_map)
            source = found.pattern or found.path
            assert source is not None, "an address is a file or a sequence"
            return source, FrameRange.from_last(*override.range) if override.range else found.frames
        clip = self.casting.clip
        assert clip is not None, "a casting is a clip of the edit or an explicit shot"
        if clip.fault is not None:
            raise clip.fault
        media = clip.media
        assert media is not None, "a clip without media has a fault"
        source = media.pattern or media.path
        assert source is not None, "a media reference has a file or a sequence"
        return source, None

    def _probe(self, source: Path | FramePattern) -> plates.PlateProbe | None:
        key = str(source)
        if key not in self.probed:
            try:
                self.probed[key] = plates.probe(source)
            except FarmError as fault:
                self.probed[key] = fault
        found = self.probed[key]
        if isinstance(found, FarmError):
            self.faults.append(
                type(found)(
                    found.what, why=found.why, fix=found.fix, where=replace(found.where, shot=self.casting.shot)
                )
            )
            return None
        return found

    def _used(self, probe: plates.PlateProbe) -> FrameRange:
        """The plate frames the cut uses."""
        clip = self.casting.clip
        if clip is None:
            return probe.frames
        return clip.used_frames(probed=probe.frames, probed_start=probe.timecode_start)

    def _inside(self, cut: FrameRange, probe: plates.PlateProbe) -> None:
        if cut.count and probe.frames.covers(cut):
            return
        lost = cut.count - cut.intersection(probe.frames).count
        raise PlateMissing(
            f"the cut uses frames {cut}, the plate has {probe.frames}: {lost} missing", where=Where(file=probe.source)
        )

    def _space(self, source: Path | FramePattern) -> str | None:
        """The colour space the manifest gives this media; the first glob that matches."""
        names = (str(source), str(source).replace("\\", "/").rsplit("/", 1)[-1])
        spaces = self.manifest.document.color.spaces
        return next((s.space for s in spaces if any(fnmatchcase(name, s.media) for name in names)), None)

    def _rate(self, probe: plates.PlateProbe) -> Fraction:
        """The plate's rate: the edit's word for its media, then the file's, then the manifest's.

        A drop-frame timecode exists at the file's own rate alone, whatever an edit rounds it to.
        """
        if probe.drop_frame and probe.rate is not None:
            return probe.rate
        clip = self.casting.clip
        if clip is not None and clip.media is not None and clip.media.rate is not None:
            return clip.media.rate
        rate = probe.rate or self.manifest.document.rate
        if rate is None:
            raise SubmissionInvalid("the plate does not say its frame rate", fix="add `rate:` to the manifest")
        return rate

    def _timecode(self, probe: plates.PlateProbe) -> int | None:
        """Frames since midnight of the plate's first frame: the file's word, else the edit's."""
        if probe.timecode_start is not None:
            return probe.timecode_start
        clip = self.casting.clip
        return clip.media_timecode(probe.frames) if clip is not None else None

    # ------------------------------------------------------------------- who plays

    def _performers(self, probe: plates.PlateProbe, frames: FrameRange) -> tuple[Performer, ...]:
        found: list[Performer] = []
        for member in self.casting.members:
            character = self.library.document.characters[member.id]
            reference = character.references[0]
            image = self.library.beside(reference.image)
            mask = self.library.beside(reference.mask) if reference.mask else None
            if member.id not in self.stills:
                self.stills[member.id] = self._reference_faults(member.id, image, mask)
            self.faults += self.stills[member.id]
            matte = self._matte(member, probe, frames)
            if matte is not None:
                found.append(
                    Performer(
                        id=member.id,
                        slot=member.slot,
                        image=str(image),
                        mask=str(mask) if mask else None,
                        prompt=character.prompt,
                        matte=str(matte[0]),
                        matte_offset=matte[1],
                        consent=character.consent,
                    )
                )
        return tuple(found)

    def _reference_faults(self, character: str, image: Path, mask: Path | None) -> list[FarmError]:
        """What is wrong with a character's reference; both pictures are decoded, once a submission."""
        place = self.library.where("characters", character, "references", character=character)
        try:
            picture = stills.read_still(image).rgb
            white = stills.read_mask(mask) if mask is not None else None
        except FarmError as fault:
            fault.where = place
            return [fault]
        if mask is None or white is None:
            return []
        if white.shape != picture.shape[:2]:
            what = f"{image.name} and its mask {mask.name} differ in size"
            return [SubmissionInvalid(what, fix="export both at one size", where=place)]
        if not (white >= mattes.THRESHOLD).any():
            what = f"the mask {mask.name} has no white in it: nothing of {image.name} is the character"
            return [SubmissionInvalid(what, fix="export the mask with the character in white", where=place)]
        return []

    def _matte(self, member: Member, probe: plates.PlateProbe, frames: FrameRange) -> tuple[FramePattern, int] | None:
        """The matte sequence of a member and its offset, checked frame for frame; None after a fault."""
        written = member.matte
        root = _root(self.manifest) if member.matte_from_manifest else self.library.path.parent
        where = Where(shot=self.casting.shot, character=member.id)
        if written is None:
            what = "no matte is given"
            fix = "add `matte: {sequence: ...}` to the cast rule or to the character"
            self.faults.append(MatteMismatch(what, fix=fix, where=where))
            return None
        if written.sequence is None:
            return None  # the casting has refused it by name
        clip = self.casting.clip
        shot = slug(clip.name) if clip is not None else self.casting.shot
        text = written.sequence.replace("{shot}", shot).replace("{character}", member.id)
        pattern = FramePattern.parse(os.path.normpath(root / text))
        if pattern is None:
            what = f"the matte {text} is not a numbered sequence"
            self.faults.append(MatteMismatch(what, fix="write the frame number as ####", where=where))
            return None
        faults: list[FarmError] = []
        offset = 0
        try:
            offset = _matte_offset(pattern, probe)
            wanted = FrameRange(frames.first + offset, frames.count)
            faults += mattes.check_matte(pattern, wanted, size=(probe.width, probe.height))
            if not faults and not mattes.anyone(pattern, wanted):
                what = f"the matte of {member.id} is black in all {wanted.count} frames: nothing is replaced by it"
                self.warnings.append(f"{what} ({pattern.name_with_hashes}; the alpha of a matte is not read)")
        except FarmError as fault:
            faults.append(fault)
        for fault in faults:
            fault.where = replace(fault.where, shot=self.casting.shot, character=member.id)
        self.faults += faults
        return None if faults else (pattern, offset)


def _matte_offset(pattern: FramePattern, probe: plates.PlateProbe) -> int:
    """What is added to a plate's frame to get its matte's number.

    A sequence's mattes have its own numbers. A movie has none: its mattes are one per frame from its first. Raises
    MatteMismatch when they are not.
    """
    on_disk = pattern.on_disk()
    if probe.kind == "exr" or not on_disk:
        return 0
    if len(on_disk) != probe.frames.count:
        raise MatteMismatch(
            f"the matte {pattern.name_with_hashes} has {len(on_disk)} frames, the movie {probe.frames.count}",
            why="a movie's mattes are matched one per frame, from its first frame on",
            fix="export the matte for the whole movie, one file a frame",
            where=Where(file=str(pattern)),
        )
    return on_disk[0] - probe.frames.first


def sampler(settings: Settled) -> Sampler:
    """The numbers of the preset in force, with what the manifest overrides."""
    preset: Preset = settings.preset or "quality"
    solver, steps, shift, guidance = PRESETS[preset]
    return Sampler(
        preset=preset,
        solver=settings.solver or solver,
        steps=settings.steps or steps,
        shift=settings.shift or shift,
        guidance=guidance if settings.guidance is None else settings.guidance,
    )


def _prompt(settings: Settled, performers: Sequence[Performer]) -> str:
    """The prompt of a shot: the scene, then a line a character, then what the rule appends."""
    parts = [settings.prompt or "", *(performer.prompt for performer in performers), settings.prompt_append or ""]
    return ". ".join(part.strip().rstrip(".") for part in parts if part.strip())


def _casting_json(casting: Casting) -> dict[str, object]:
    clip = casting.clip
    found: dict[str, object] = {"shot": casting.shot, "state": casting.state}
    if clip is not None:
        found |= {
            "name": clip.name,
            "track": clip.track,
            "record": {"first": clip.record_start, "count": clip.record_count},
            "media": clip.media.url if clip.media else None,
        }
    if casting.state == "rendered":
        found["rules"] = [{"where": str(where), "says": says} for where, says in casting.rules]
        found["characters"] = [{"id": member.id, "slot": member.slot} for member in casting.members]
    else:
        found["reason"] = casting.reason
    return found


def _shot_json(shot: Shot) -> dict[str, object]:
    rate, start = shot.plate.rate, shot.plate.timecode_start
    return {
        "shot": shot.id,
        "plate": shot.plate.path,
        "rate": str(rate),
        "size": [shot.plate.width, shot.plate.height],
        "timecode": None
        if start is None
        else timecode(start + shot.frames.first - shot.plate.frames.first, rate, drop=shot.plate.drop_frame),
        "cut": {"first": shot.cut.first, "count": shot.cut.count},
        "frames": {"first": shot.frames.first, "count": shot.frames.count},
        "handles": shot.handles_given.model_dump(),
        "handles_asked": shot.handles_asked.model_dump(),
        "color": shot.color.model_dump(),
        "canvas": shot.canvas.model_dump(mode="json"),
        "mode": mode_of(shot.settings),
        "prompt": shot.prompt,
        "seed": shot.settings.seed or 0,
        "sampler": shot.sampler.model_dump(),
        "characters": [{"id": p.id, "slot": p.slot, "matte": p.matte, "reference": p.image} for p in shot.performers],
        "segments": [{"first": shot.frames.first + w.keep.first, "count": w.keep.count} for w in shot.windows],
        "warnings": list(shot.warnings),
    }


def mode_of(settings: Settled) -> Mode:
    """Replacement unless the manifest says otherwise."""
    return settings.mode or "replacement"


# --------------------------------------------------------------------------- sealing: known by content


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

    single = shot.plate.kind == "movie" or Path(shot.plate.path).is_file()  # whatever its name looks like
    plate = None if single else FramePattern.parse(shot.plate.path)
    performers: list[dict[str, object]] = []
    matte_digests: list[list[str]] = []
    for performer in shot.performers:
        pattern = FramePattern.parse(performer.matte)
        assert pattern is not None, "planning let only sequences through"
        performers.append(
            {
                "slot": performer.slot,
                "image": digest(performer.image),
                "mask": digest(performer.mask) if performer.mask else None,
            }
        )
        matte_digests.append([digest(pattern.path(n + performer.matte_offset)) for n in shot.frames.numbers])
    frames = [digest(plate.path(n)) if plate else f"{digest(shot.plate.path)} {n}" for n in shot.frames.numbers]
    common: dict[str, object] = {
        "render": RENDER_VERSION,
        "weights": snapshot.sha256,
        "mode": mode_of(shot.settings),
        "prompt": shot.prompt,
        "negative": shot.settings.negative_prompt or "",
        "seed": shot.settings.seed or 0,
        "sampler": shot.sampler.model_dump(exclude={"preset"}),
        "canvas": shot.canvas.model_dump(mode="json"),
        "color": shot.color.model_dump(include={"config", "space"}),
        "plate": shot.plate.model_dump(mode="json", exclude={"path", "frames", "timecode_start"}),
        "timecode": None if shot.plate.timecode_start is None else shot.plate.timecode_start - shot.plate.frames.first,
        "numbers": [shot.frames.first, shot.frames.count],
    }
    segments: list[Segment] = []
    for index, window in enumerate(shot.windows):
        first, until = window.frames.first, window.frames.first + window.frames.count
        content: dict[str, object] = common | {
            "index": index,
            "window": [first, window.frames.count, window.keep.first, window.keep.count, window.overlap],
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
                leave=(shot.settings.segment or Segmenting()).overlap,
                plate=shot.plate,
                color=shot.color,
                canvas=shot.canvas,
                mode=mode_of(shot.settings),
                prompt=shot.prompt,
                negative_prompt=shot.settings.negative_prompt or "",
                seed=shot.settings.seed or 0,
                sampler=shot.sampler,
                performers=shot.performers,
                weights=snapshot,
                folder=str(work / key[:24]),
                history=segments[-1].folder if segments else None,
            )
        )
    return Sealed(shot=shot, segments=tuple(segments), inputs=tuple(inputs.values()))


def _span(frames: FrameRange, origin: int) -> Span:
    return Span(first=origin + frames.first, count=frames.count)
