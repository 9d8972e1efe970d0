"""From castings to shots: media found and probed, every frame covered, mattes and references looked at.

A shot is one render. It may be shown by several clips of the cut: uses of one source with the same cast and settings
whose frames touch, handles included, are one chain of segments, and every clip of them points to its take. What is
wrong is gathered per shot; nothing is repaired here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Literal

from scail2_farm.documents import (
    PRESET_NUMBERS,
    Box,
    CanvasSize,
    CharacterLibrary,
    Directed,
    Driving,
    Handles,
    Loaded,
    Lora,
    LoraFile,
    Matted,
    MatteSource,
    Missing,
    Mode,
    Output,
    Performer,
    PlateColor,
    PlateSource,
    Precision,
    Preset,
    Reference,
    Sampler,
    Scene,
    Segmenting,
    SegmentSettings,
    Settled,
    ShotManifest,
    Solver,
    Span,
    Take,
    TakeSegment,
)
from scail2_farm.editorial.cast import Casting, Member
from scail2_farm.editorial.clips import Clip, Used
from scail2_farm.editorial.paths import local_path, locate
from scail2_farm.editorial.rates import frame_of
from scail2_farm.editorial.timeline import slug
from scail2_farm.errors import (
    ColorSpaceUnknown,
    FarmError,
    MatteMismatch,
    PlateMissing,
    SubmissionInvalid,
    WeightsMissing,
    Where,
)
from scail2_farm.frames import FramePattern, FrameRange, frame_at, timecode
from scail2_farm.media import mattes, movies, plates, stills
from scail2_farm.media.canvas import Canvas, scale_off
from scail2_farm.media.color import ColorDecision, ModelColor, Said, decide, doubts
from scail2_farm.media.spaces import ColorConfig, load_config
from scail2_farm.search import Source
from scail2_farm.windows import Window, continued, windows

PRESETS: Mapping[Preset, tuple[Solver, int, float, float]] = {
    # solver, steps, shift, guidance (engine.md §7.9; SCAIL-2 command line, its sampler paper and the community's turbo)
    "preview": ("euler", 6, 5.0, 1.0),
    "lightning": ("unipc", 8, 1.0, 1.0),
    "fast": ("dpmpp", 16, 5.0, 5.0),
    "quality": ("unipc", 40, 3.0, 5.0),
    "paper": ("euler", 50, 5.0, 4.0),
}

PRESET_LORAS: Mapping[Preset, tuple[tuple[str, float], ...]] = {
    "preview": (("dpo", 1.0), ("lightx2v", 0.8)),
    "lightning": (("lightx2v", 1.0),),
    "fast": (("dpo", 1.0),),
    "quality": (("dpo", 1.0),),
    "paper": (("dpo", 1.0),),
}
"""The adapters of a preset by the names of the settings: Bias-Aware DPO, and the distilled one for few steps."""
DISTILLED = "lightx2v"
MANY = 3  # identities, from which a distilled adapter is known to mix them up (users.md, pain 3)
DEFAULT_SIZE = (832, 480)
PRESET_SIZES: Mapping[Preset, tuple[int, int]] = {"preview": (512, 288)}
"""The sizes of presets that have one of their own, where none is said."""
KEPT = 4096  # documents that many shots of a long cut have in common
SCALE_TOLERANCE = 1.15  # beyond it a reference as given would make the character visibly too large or too small


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One place that shows a shot: a clip of the cut, or an explicit shot (`clip` is None).

    `frames` are the plate frames it shows; `used` says them of a clip, with their place in the cut's time.
    """

    casting: Casting
    frames: FrameRange
    used: Used | None

    @property
    def clip(self) -> Clip | None:
        """The clip of the cut."""
        return self.casting.clip


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The windows of a shot, and what each is rendered with."""

    windows: tuple[Window, ...]
    scenes: tuple[Scene, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One render, and every use of it; `id` is that of the first use. `scenes` are the windows' own.

    `grids` are other windows, which go on from those of earlier takes, the newest first; `rendered` are the keys of the
    segments that these takes hold. Sealing knows which windows save the most.
    """

    id: str
    uses: tuple[Use, ...]
    plate: PlateSource
    color: PlateColor
    output: Output
    performers: tuple[Performer, ...]
    driving: Driving | None = None
    frames: FrameRange
    handles_asked: Handles
    handles_given: Handles
    segmenting: Segmenting
    windows: tuple[Window, ...]
    scenes: tuple[Scene, ...]
    grids: tuple[Grid, ...] = ()
    rendered: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()


# --------------------------------------------------------------------------- settings


def sampler(settings: Settled) -> Sampler:
    """The numbers of the preset in force, with what the manifest overrides.

    Raises SubmissionInvalid when the pose is shown at none of the steps.
    """
    preset: Preset = settings.preset or "quality"
    solver, steps, shift, guidance = PRESETS[preset]
    return _sampler(
        preset,
        settings.solver or solver,
        settings.steps or steps,
        settings.shift or shift,
        guidance if settings.guidance is None else settings.guidance,
        settings.precision or "f32",
        1.0 if settings.pose_strength is None else settings.pose_strength,
        settings.pose_start or 0.0,
        settings.pose_end or 1.0,
    )


@lru_cache(maxsize=KEPT)
def _sampler(
    preset: Preset,
    solver: Solver,
    steps: int,
    shift: float,
    guidance: float,
    precision: Precision,
    strength: float,
    start: float,
    end: float,
) -> Sampler:
    if not any(start <= step / steps < end for step in range(steps)):
        raise SubmissionInvalid(
            f"none of {steps} steps is between `pose_start` {start} and `pose_end` {end}",
            why="the model would be shown nobody's movements",
            fix="start earlier, end later, or take more steps",
        )
    return Sampler(
        preset=preset,
        solver=solver,
        steps=steps,
        shift=shift,
        guidance=guidance,
        precision=precision,
        pose_strength=strength,
        pose_start=start,
        pose_end=end,
    )


def settled(settings: Settled, own: SegmentSettings | None) -> Settled:
    """A shot's settings in a segment that an override, if any, is for; what the override says outranks.

    A preset of its own starts from its own numbers.
    """
    if own is None:
        return settings
    said: dict[str, object] = {key: None for key in PRESET_NUMBERS if own.preset is not None}
    said |= {key: value for key in Directed.model_fields if (value := getattr(own, key)) is not None}
    if own.prompt_append and settings.prompt_append:
        said["prompt_append"] = f"{settings.prompt_append}, {own.prompt_append}"
    return settings.model_copy(update=said)


def prompt_of(settings: Settled, performers: Iterable[Performer]) -> str:
    """The scene, then a line for each of these performers, then what the rules append."""
    parts = [settings.prompt or "", *(performer.prompt for performer in performers), settings.prompt_append or ""]
    return ". ".join(part.strip().rstrip(".") for part in parts if part.strip())


# --------------------------------------------------------------------------- planning


_Found = tuple[FramePattern | None, int]
"""A matte sequence counted as its clip is, and what is added to a frame of the clip; None: the whole frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Driven:
    """A performance that drives a use: `offset` is added to a plate frame, `mattes` are of the cast's roles in it."""

    name: str
    source: Source
    probe: plates.PlateProbe
    decision: ColorDecision
    offset: int
    mattes: tuple[_Found, ...]
    notes: tuple[str, ...]

    @property
    def frames(self) -> FrameRange:
        """The plate frames it has an answer to."""
        return self.probe.frames.moved(-self.offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """One use, its inputs found, before it is joined with others of the same source."""

    use: Use
    source: Source
    probe: plates.PlateProbe
    decision: ColorDecision
    rate: Fraction
    timecode: int | None
    mattes: tuple[_Found, ...]
    driven: _Driven | None
    frames: FrameRange
    asked: Handles
    stand_in: Missing
    notes: tuple[str, ...]

    @property
    def identity(self) -> tuple[object, ...]:
        """What two uses must have in common to be one render."""
        casting, color = self.use.casting, self.decision
        who = tuple((member.id, member.slot, matte) for member, matte in zip(casting.members, self.mattes, strict=True))
        return (
            self.source,
            (color.config, color.config_digest, color.space),
            self.rate,
            self.timecode,
            self.stand_in,
            who,
            self.driven and (self.driven.source, self.driven.offset, self.driven.mattes, self.driven.decision.space),
            casting.settings.model_dump_json(),
            tuple(entry.model_dump_json() for entry in casting.segments),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finish:
    """A plate's way to the model and back, what it is delivered as, and what is lost by both, in words."""

    color: PlateColor
    output: Output
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figure:
    """The character in a still: the still's size (width, height), and the character's box in it."""

    size: tuple[int, int]
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """Where a performer is in what drives him: `offset` is added to a plate frame, `box` is where he is first seen.

    Without a presence he is the whole frame.
    """

    presence: mattes.Presence | None
    offset: int
    box: tuple[int, int, int, int] | None

    def anyone(self, frames: FrameRange) -> bool:
        """Whether he is seen in any of these plate frames; raises MatteMismatch for a matte that no longer reads."""
        return self.presence is None or self.presence.anyone(frames.moved(self.offset))


_Checked = tuple[Literal["plate", "matte"], FramePattern, tuple[int, int]]
"""A sequence of which frames are looked at, what for, and their size (width, height)."""


@dataclass(slots=True, kw_only=True)
class ShotPlanner:
    """Turns castings into shots, looking at every plate, still and matte once; `faults` gathers what is wrong.

    `find` gives the clip with its media found elsewhere, when it is not where the edit says; `takes` the takes that a
    shot has on disk, the newest first; `loras` are the files of adapters by the names the settings have for them.
    """

    manifest: Loaded[ShotManifest]
    library: Loaded[CharacterLibrary]
    root: Path
    find: Callable[[Clip], Clip]
    takes: Callable[[str], Iterable[Take]]
    loras: Mapping[str, Path]
    faults: list[FarmError] = field(default_factory=list[FarmError])
    _drafts: list[_Draft] = field(default_factory=list[_Draft])
    _probed: dict[tuple[Source, Fraction | None], plates.PlateProbe | FarmError] = field(
        default_factory=dict[tuple[Source, "Fraction | None"], "plates.PlateProbe | FarmError"]
    )
    _figures: dict[tuple[str, str | None], _Figure | FarmError] = field(
        default_factory=dict[tuple[str, "str | None"], "_Figure | FarmError"]
    )
    _offsets: dict[tuple[FramePattern, Source], int] = field(default_factory=dict[tuple[FramePattern, Source], int])
    _whole: dict[_Checked, set[int]] = field(default_factory=dict[_Checked, set[int]])
    _plates: dict[tuple[object, ...], PlateSource] = field(default_factory=dict[tuple[object, ...], PlateSource])
    _stills: dict[str, tuple[Reference, ...]] = field(default_factory=dict[str, tuple[Reference, ...]])
    _presences: dict[FramePattern, mattes.Presence] = field(default_factory=dict[FramePattern, mattes.Presence])
    _decisions: dict[tuple[Source, str | None, str | None], ColorDecision] = field(
        default_factory=dict[tuple[Source, "str | None", "str | None"], ColorDecision]
    )
    _finishes: dict[tuple[Source, ColorDecision], _Finish] = field(
        default_factory=dict[tuple[Source, ColorDecision], "_Finish"]
    )
    _config: ColorConfig | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be told once for all shots."""
        return self._config.warnings if self._config is not None else ()

    def add(self, casting: Casting) -> None:
        """Take in a casting that is to be rendered."""
        for member in casting.members:
            for still in self._references(member.id):
                self._look_at(casting, member, still)
        try:
            draft = self._draft(casting)
        except FarmError as fault:
            self._blame(casting, fault)
        else:
            self._drafts += [draft] if draft is not None else []

    def shots(self) -> Iterable[tuple[str, Shot | None]]:
        """Every shot in cut order, or None where a fault makes it unrenderable; each is planned as it is asked for."""
        for group in _joined(self._drafts):
            yield group[0].use.casting.shot, self._shot(group)

    def _blame(self, casting: Casting, fault: FarmError, *, character: str | None = None) -> None:
        """Keep a fault with the shot's name on it; whoever tells them, tells one that several shots have once."""
        where = replace(fault.where, shot=fault.where.shot or casting.shot)
        where = replace(where, character=where.character or character)
        self.faults.append(type(fault)(fault.what, why=fault.why, fix=fault.fix, where=where))

    # ------------------------------------------------------------------- one use

    def _draft(self, casting: Casting) -> _Draft | None:
        """The use with its inputs found; None when there is none of them, which is told."""
        document = self.manifest.document
        clip = casting.clip
        if clip is not None:
            found = self.find(clip)
            if found.fault is not None:
                raise found.fault
            if found is not clip:
                casting, clip = replace(casting, clip=found), found
        source, given = self._media(casting)
        probe = self._probe(source, self._said_rate(clip))
        rate = self._rate(clip, probe)
        start = _counted_at(rate, probe, self._said_rate(clip))
        notes = [*probe.warnings, *casting.notes]
        if clip is not None:
            used = clip.used(
                probe.frames,
                start,
                rate=probe.rate if probe.kind == "movie" else None,
                missing=document.missing,
                strict=document.strict,
            )
            use = Use(casting=casting, frames=used.frames, used=used)
            notes += [*clip.notes, *used.notes, *_disagreements(clip, used, probe)]
            asked, stand_in = clip.handles(document.handles), document.missing or clip.policy
        else:
            use = Use(casting=casting, frames=given or probe.frames, used=None)
            asked, stand_in = document.handles, document.missing or "error"
        there = probe.frames.intersection(use.frames).count
        if not there or (stand_in == "error" and there < use.frames.count):
            raise _beyond(use.frames, probe)
        if casting.settings.driving is not None and any(member.role is None for member in casting.members):
            return None  # casting has told whose movements are not there
        driven = self._driven(casting, use.frames, rate)
        moving = probe.frames if driven is None else probe.frames.intersection(driven.frames)
        head = max(0, min(asked.head, use.frames.first - moving.first))
        tail = max(0, min(asked.tail, moving.last - use.frames.last))
        decision = self._decision(clip, source, probe)
        notes += [*decision.warnings, *(driven.notes if driven is not None else ())]
        matted = [self._matte(casting, member, source, probe) for member in casting.members]
        found = tuple(matte for matte in matted if matte is not None)
        if len(found) < len(matted):
            return None
        return _Draft(
            use=use,
            source=source,
            probe=probe,
            decision=decision,
            rate=rate,
            timecode=start if start is not None or clip is None else clip.media_timecode(probe.frames),
            mattes=found,
            driven=driven,
            frames=use.frames.grown(head, tail),
            asked=asked,
            stand_in=stand_in,
            notes=tuple(notes),
        )

    def _media(self, casting: Casting) -> tuple[Source, FrameRange | None]:
        """The plate's file or sequence, and the frames an explicit shot says."""
        override, clip = casting.override, casting.clip
        if clip is None:
            assert override is not None, "a casting is a clip of the edit or an explicit shot"
            assert override.media is not None, "an explicit shot has media"
            try:
                found = locate(override.media, folder=self.root, path_map=self.manifest.document.path_map)
            except PlateMissing as fault:
                (where, _), *_ = casting.rules  # the entry of `shots`
                raise PlateMissing(fault.what, why=fault.why, fix=fault.fix, where=where) from None
            source = found.pattern or found.path
            assert source is not None, "an address is a file or a sequence"
            first, last = override.range or (0, -1)
            return source, FrameRange.from_last(first, last) if first <= last else found.frames
        assert clip.media is not None, "a clip without media has a fault"
        source = clip.media.pattern or clip.media.path
        assert source is not None, "a media reference has a file or a sequence"
        return source, None

    def _probe(self, source: Source, rate: Fraction | None) -> plates.PlateProbe:
        """What a plate is; `rate` is that of a timecode in frames that do not say their own."""
        found = self._probed.get((source, rate))
        if found is None:
            try:
                found = plates.probe(source, rate=rate)
            except FarmError as fault:
                found = fault
            self._probed[source, rate] = found
        if isinstance(found, FarmError):
            raise found
        return found

    def _decision(
        self, clip: Clip | None, source: Source, probe: plates.PlateProbe, *, space: str | None = None
    ) -> ColorDecision:
        """The colour space of a plate, in the config of the show; decided once for what an edit says of one plate.

        `space` is what is said of a performance beside its media.
        """
        editorial = clip.space if clip is not None else None
        known = source, editorial, space
        if known in self._decisions:
            return self._decisions[known]
        said = Said(
            manifest=space or self._space(source),
            editorial=editorial,
            default=self.manifest.document.color.defaults.of(probe.kind),
        )
        if self._config is None:
            written = self.manifest.document.color.config
            ours = written == "builtin" or written.startswith("ocio://")
            try:
                self._config = load_config(written if ours else Path(os.path.normpath(self.root / written)))
            except FarmError as fault:
                where = self.manifest.where("color", "config", field="color.config")
                raise type(fault)(fault.what, why=fault.why, fix=fault.fix, where=where) from None
        self._decisions[known] = decide(probe, said=said, config=self._config)
        return self._decisions[known]

    def _space(self, source: Source) -> str | None:
        """The colour space the manifest gives this media; the first glob that matches."""
        spaces = self.manifest.document.color.spaces
        if not spaces:
            return None
        names = (str(source), Path(str(source)).name)
        return next((s.space for s in spaces if any(fnmatchcase(name, s.media) for name in names)), None)

    def _said_rate(self, clip: Clip | None) -> Fraction | None:
        """The rate of a plate that does not say its own: the edit's word for it, or for the clip, or the manifest's."""
        if clip is None:
            return self.manifest.document.rate
        return clip.media.rate if clip.media is not None and clip.media.rate is not None else clip.rate

    def _rate(self, clip: Clip | None, probe: plates.PlateProbe) -> Fraction:
        """The plate's rate: the edit's word for its media, then the file's, then what is said in its stead.

        A drop-frame timecode exists at the file's own rate alone, whatever an edit rounds it to.
        """
        if probe.drop_frame and probe.rate is not None:
            return probe.rate
        if clip is not None and clip.media is not None and clip.media.rate is not None:
            return clip.media.rate
        rate = probe.rate or self._said_rate(clip)
        if rate is None:
            what, where = "the plate does not say its frame rate", Where(file=probe.source)
            raise SubmissionInvalid(what, fix="add `rate:` to the manifest", where=where)
        return rate

    def _matte(self, casting: Casting, member: Member, source: Source, probe: plates.PlateProbe) -> _Found | None:
        """Where the plate gives way to a member; None after a fault, and for a kind of matte that casting has refused.

        Where a performance moves the characters in a world of their own, the whole frame does, unless the manifest says
        a matte: the library's is of where he is in plates.
        """
        moved = casting.performance is not None and casting.settings.mode == "animation"
        written = member.matte if member.matte_from_manifest or not moved else MatteSource(whole_frame=True)
        root = self.root if member.matte_from_manifest else self.library.path.parent

        def where() -> Where:
            place = self.library.where("characters", member.id, "matte", "sequence")
            return member.where if member.matte_from_manifest else place

        try:
            if written is None:
                fix = "add `matte: {sequence: ...}` to the cast rule or to the character"
                raise MatteMismatch(f"no matte is given for {member.id}", fix=fix, where=member.where)
            text = self._filled(written.sequence or "", casting).replace("{character}", member.id)
            return self._found(written, root / text, source, probe, where=where)
        except FarmError as fault:
            self._blame(casting, fault, character=member.id)
            return None

    def _found(
        self, written: MatteSource, path: Path, source: Source, probe: plates.PlateProbe, *, where: Callable[[], Where]
    ) -> _Found | None:
        """The sequence of a matte for a clip; None for a kind of matte that casting has refused.

        Raises MatteMismatch for what is no sequence, or not one of the clip.
        """
        if written.whole_frame:
            return None, 0
        if written.sequence is None:
            return None
        pattern = FramePattern.parse(os.path.normpath(path))
        if pattern is None:
            what = f"the matte {written.sequence} is not a numbered sequence"
            raise MatteMismatch(what, fix="write the frame number as ####", where=where())
        key = (pattern, source)
        if key not in self._offsets:
            self._offsets[key] = _matte_offset(pattern, probe)
        offset = self._offsets[key]
        if isinstance(source, FramePattern):
            pattern = pattern.counted(step=source.step, origin=source.origin + offset)
        return pattern, offset

    def _filled(self, text: str, casting: Casting) -> str:
        """A path of the manifest or the library, for one shot."""
        return text.replace("{shot}", slug(casting.clip.name) if casting.clip is not None else casting.shot)

    # ------------------------------------------------------------------- what drives

    def _driven(self, casting: Casting, cut: FrameRange, rate: Fraction) -> _Driven | None:
        """The performance that drives a use of a plate at this rate, found and looked at; None for the plate itself.

        Raises PlateMissing for one that is not there or does not last, MatteMismatch, and as `plates.probe` does.
        """
        performance, choice = casting.performance, casting.settings.driving
        if performance is None or choice is None:
            return None
        root = self.root if choice.name is None else self.library.path.parent
        name = choice.name or Path(performance.media).name
        try:
            media = self._filled(performance.media, casting)
            found = locate(media, folder=root, path_map=self.manifest.document.path_map)
            source = found.pattern or found.path
            assert source is not None, "an address is a file or a sequence"
            probe = self._probe(source, self._said_rate(casting.clip))
            there = probe.frames if found.frames is None else probe.frames.intersection(found.frames)
            probe = replace(probe, frames=there)
            first = there.first if choice.start_frame is None else choice.start_frame
            wanted = FrameRange(first, cut.count)
            lost = cut.count - wanted.intersection(there).count
            if lost:
                what = f"the shot takes its frames {wanted}, it has {there if there.count else 'none'}: {lost} missing"
                raise PlateMissing(what, where=Where(file=probe.source))
            mattes = [self._role_matte(casting, member, root, source, probe) for member in casting.members]
            decision = self._decision(None, source, probe, space=performance.space)
        except FarmError as fault:
            raise _of_performance(fault, name, space=performance.space) from None
        known = tuple(matte for matte in mattes if matte is not None)
        if len(known) < len(mattes):
            return None
        notes = [f"the performance {name}: {note}" for note in (*probe.warnings, *decision.warnings)]
        notes += [f"the performance {name}: {note}" for note in _as_taken(casting, probe, rate)]
        return _Driven(
            name=name,
            source=source,
            probe=probe,
            decision=decision,
            offset=first - cut.first,
            mattes=known,
            notes=tuple(notes),
        )

    def _role_matte(
        self, casting: Casting, member: Member, root: Path, source: Source, probe: plates.PlateProbe
    ) -> _Found | None:
        """Where the one whose movements a member takes is in a performance; None after a fault of casting."""
        performance, role = casting.performance, member.role
        assert performance is not None, "only who is driven has a role"
        assert role is not None, "casting has found the roles"
        written = performance.roles[role]
        text = self._filled(written.sequence or ".", casting).replace("{role}", role)
        path = local_path(text, folder=root, path_map=self.manifest.document.path_map)
        return self._found(written, path, source, probe, where=lambda: member.where)

    def _driving(self, driven: _Driven, rate: Fraction) -> Driving:
        """What drives a shot as the renderer opens it."""
        probe = driven.probe
        clip = PlateSource(
            kind=probe.kind,
            path=str(driven.source),
            frames=Span.of(probe.frames),
            width=probe.width,
            height=probe.height,
            pixel_aspect=probe.pixel_aspect,
            rate=probe.rate or rate,
            timecode_start=None,
        )
        roles = tuple(
            Matted(matte=None if pattern is None else str(pattern), matte_offset=offset)
            for pattern, offset in driven.mattes
        )
        return Driving(clip=clip, color=self._color(driven.decision), offset=driven.offset, roles=roles)

    # ------------------------------------------------------------------- characters

    def _look_at(self, casting: Casting, member: Member, still: Reference) -> None:
        """Find the character in a still; both pictures are decoded once a submission."""
        key = still.image, still.mask
        if key not in self._figures:
            try:
                self._figures[key] = _figure(Path(still.image), Path(still.mask) if still.mask else None)
            except FarmError as fault:
                self._figures[key] = fault
        found = self._figures[key]
        if isinstance(found, FarmError):
            character = self.library.document.characters[member.id]
            index = character.references.index(character.ordered[self._references(member.id).index(still)])
            place = self.library.where("characters", member.id, "references", index, character=member.id)
            self._blame(casting, type(found)(found.what, why=found.why, fix=found.fix, where=place))

    def _performers(
        self, draft: _Draft, frames: FrameRange, holes: Sequence[int], warnings: list[str]
    ) -> tuple[tuple[Performer, ...], list[_Seen]]:
        """Who plays in a shot and where each is first seen, every matte checked frame for frame."""
        casting, driven = draft.use.casting, draft.driven
        performers: list[Performer] = []
        places: list[_Seen] = []
        for index, member in enumerate(casting.members):
            character = self.library.document.characters[member.id]
            nobody = "nothing is replaced by it"
            found = self._seen(draft, member, draft.mattes[index], draft.probe, frames, warnings, nobody, holes=holes)
            seen = found
            if driven is not None:
                moving = frames.moved(driven.offset)
                nobody = f"nobody in the performance {driven.name} moves him"
                seen = self._seen(draft, member, driven.mattes[index], driven.probe, moving, warnings, nobody)
                seen = seen and replace(seen, offset=seen.offset + driven.offset)
            if seen is None or found is None:
                continue
            places.append(seen)
            pattern, offset = draft.mattes[index]
            performers.append(
                Performer(
                    id=member.id,
                    slot=member.slot,
                    references=self._references(member.id),
                    seen=None if seen.box is None else _box(seen.box),
                    prompt=character.prompt,
                    matte=None if pattern is None else str(pattern),
                    matte_offset=offset,
                    consent=character.consent,
                )
            )
        return tuple(performers), places

    def _seen(
        self,
        draft: _Draft,
        member: Member,
        found: _Found,
        probe: plates.PlateProbe,
        frames: FrameRange,
        warnings: list[str],
        nobody: str,
        *,
        holes: Sequence[int] = (),
    ) -> _Seen | None:
        """Where a performer is in a clip, over these frames of it; None when a fault of his matte is told.

        `nobody` says what it comes to when he is never seen.
        """
        pattern, offset = found
        if pattern is None:
            return _Seen(presence=None, offset=0, box=(0, 0, probe.width, probe.height))
        stand_in = None if draft.stand_in == "error" else draft.stand_in
        wanted = frames.moved(offset)
        allowed = [hole + offset for hole in holes]
        faults = self._check_matte(pattern, wanted, allowed, size=(probe.width, probe.height))
        if not faults:
            try:
                presence = self._presence(pattern, allowed, stand_in)
                first = presence.first_seen(wanted)
            except FarmError as fault:
                faults = [fault]
            else:
                if first is None:
                    what = f"the matte of {member.id} is black in all {wanted.count} frames: {nobody}"
                    warnings.append(f"{what} ({pattern.name_with_hashes}; the alpha of a matte is not read)")
                return _Seen(presence=presence, offset=offset, box=None if first is None else first[1])
        for fault in faults:
            self._blame(draft.use.casting, fault, character=member.id)
        return None

    def _check_clip(
        self, source: Source, probe: plates.PlateProbe, frames: FrameRange, holes: Sequence[int] = ()
    ) -> list[FarmError]:
        """What is wrong with the plate or the performance of a shot."""
        size = probe.width, probe.height

        def check(some: FrameRange) -> list[FarmError]:
            return plates.check_frames(source, some, size=size, missing=holes)

        if holes or not isinstance(source, FramePattern):
            return check(frames)
        return self._once(("plate", source, size), frames, check)

    def _check_matte(
        self, pattern: FramePattern, frames: FrameRange, allowed: Sequence[int], *, size: tuple[int, int]
    ) -> list[FarmError]:
        """What is wrong with a matte, of which the `allowed` frames may be absent."""

        def check(some: FrameRange) -> list[FarmError]:
            return mattes.check_matte(pattern, some, size=size, missing=allowed)

        return check(frames) if allowed else self._once(("matte", pattern, size), frames, check)

    def _once(
        self, what: _Checked, frames: FrameRange, check: Callable[[FrameRange], list[FarmError]]
    ) -> list[FarmError]:
        """What is wrong with frames of a sequence; those that were whole for one shot are not read for another."""
        whole = self._whole.setdefault(what, set())
        if whole.issuperset(frames.numbers):
            return []
        new = [frame for frame in frames.numbers if frame not in whole]
        if check(FrameRange.from_last(new[0], new[-1])):
            return check(frames)  # told of the shot's frames
        whole.update(new)
        return []

    def _references(self, character: str) -> tuple[Reference, ...]:
        """The stills of a character, the primary one first."""
        if character not in self._stills:
            self._stills[character] = tuple(
                Reference(
                    image=str(self.library.beside(reference.image)),
                    mask=str(self.library.beside(reference.mask)) if reference.mask else None,
                )
                for reference in self.library.document.characters[character].ordered
            )
        return self._stills[character]

    def _presence(
        self, pattern: FramePattern, allowed: Sequence[int], stand_in: Literal["hold", "black"] | None
    ) -> mattes.Presence:
        """Where somebody is; each matte is read once for all shots, but for those that lack some."""
        if allowed:
            return mattes.Presence(pattern, mattes.stand_ins(pattern, allowed, stand_in))
        return self._presences.setdefault(pattern, mattes.Presence(pattern))

    # ------------------------------------------------------------------- one shot

    def _shot(self, group: Sequence[_Draft]) -> Shot | None:
        """The shot of uses that are one render; None when a fault makes it unrenderable."""
        first = group[0]
        casting, probe = first.use.casting, first.probe
        frames = _union(draft.frames for draft in group)
        cut = _union(draft.use.frames for draft in group)
        holes = () if first.stand_in == "error" else _holes(frames, probe)
        known = len(self.faults)
        for fault in self._check_clip(first.source, probe, frames, holes):
            self._blame(casting, fault)
        driven = first.driven
        if driven is not None:
            moving = frames.moved(driven.offset)
            for fault in self._check_clip(driven.source, driven.probe, moving):
                self._blame(casting, _of_performance(fault, driven.name))
        warnings = list(dict.fromkeys(note for draft in group for note in draft.notes))
        performers, places = self._performers(first, frames, holes, warnings)
        if len(self.faults) > known:
            return None
        plate = self._plate(first, holes)
        segmenting = casting.settings.segment or Segmenting()
        cells = windows(frames.count, length=segmenting.length, overlap=segmenting.overlap)
        try:
            overrides = [_override(casting, frames, window, plate) for window in cells]
            scenes = self._scenes(casting, frames, cells, plate, performers, places)
            others, rendered = self._earlier(casting.shot, frames, segmenting)
            grids = tuple(
                Grid(windows=other, scenes=self._scenes(casting, frames, other, plate, performers, places))
                for other in others
                if other != cells
            )
            finish = self._finish(first, plate, cut)
        except FarmError as fault:
            self._blame(casting, fault)
            return None
        idle = (entry.frames for entry in casting.segments if entry not in overrides)
        warnings += [f"`segments` [{low}, {high}] decides no segment of the shot" for low, high in idle]
        driving = None if driven is None else self._driving(driven, first.rate)
        warnings += self._out_of_scale(performers, plate if driving is None else driving.clip, scenes[0].canvas)
        warnings += [*finish.warnings, *self._of_loras(casting, scenes, performers)]
        if holes:
            warnings.append(f"{len(holes)} frames the media lacks are stood in for ({first.stand_in})")
        return Shot(
            id=casting.shot,
            uses=tuple(draft.use for draft in group),
            plate=plate,
            color=finish.color,
            output=finish.output,
            performers=performers,
            driving=driving,
            frames=frames,
            handles_asked=first.asked,
            handles_given=Handles(head=cut.first - frames.first, tail=frames.last - cut.last),
            segmenting=segmenting,
            windows=cells,
            scenes=scenes,
            grids=grids,
            rendered=rendered,
            warnings=tuple(warnings),
        )

    def _earlier(
        self, shot: str, frames: FrameRange, segmenting: Segmenting
    ) -> tuple[list[tuple[Window, ...]], frozenset[str]]:
        """Windows that go on from those of the shot's takes, the newest first, and the keys of the takes' segments."""
        found: dict[tuple[Window, ...], None] = {}
        keys: set[str] = set()
        for take in self.takes(shot):
            keys.update(segment.key for segment in take.segments)
            if take.frames.first != frames.first or take.segmenting != segmenting:
                continue
            grid = [_window(segment, frames.first) for segment in take.segments]
            other = continued(grid, frames.count, length=segmenting.length, overlap=segmenting.overlap)
            if other is not None:
                found[other] = None
        return list(found), frozenset(keys)

    def _plate(self, draft: _Draft, holes: tuple[int, ...]) -> PlateSource:
        """The plate as the renderer opens it; without holes nothing is said of what would stand in for them."""
        probe, source = draft.probe, draft.source
        stand_in = draft.stand_in if draft.stand_in != "error" and holes else None
        same = source, draft.rate, draft.timecode, holes, stand_in
        if same not in self._plates:
            self._plates[same] = PlateSource(
                kind=probe.kind,
                path=str(source),
                frames=Span.of(probe.frames),
                width=probe.width,
                height=probe.height,
                pixel_aspect=probe.pixel_aspect,
                rate=draft.rate,
                timecode_start=draft.timecode,
                drop_frame=probe.drop_frame,
                step=source.step if isinstance(source, FramePattern) else 1,
                origin=source.origin if isinstance(source, FramePattern) else 0,
                missing=holes,
                stand_in=stand_in,
            )
        return self._plates[same]

    def _scenes(
        self,
        casting: Casting,
        frames: FrameRange,
        cells: Iterable[Window],
        plate: PlateSource,
        performers: Sequence[Performer],
        places: Sequence[_Seen],
    ) -> tuple[Scene, ...]:
        """What each window is rendered with; raises MatteMismatch for a matte that no longer reads, and as _files."""
        found: list[Scene] = []
        for window in cells:
            own = settled(casting.settings, _override(casting, frames, window, plate))
            found.append(_scene(own, self._files(own), frames, window, plate, performers, places))
        return tuple(found)

    def _files(self, own: Settled) -> tuple[LoraFile, ...]:
        """The adapters in force: those that are said, else the preset's as far as this machine has them.

        Raises SubmissionInvalid for a file that is not there, WeightsMissing for a name the settings do not have.
        """
        if own.loras is None:
            preset: Preset = own.preset or "quality"
            wanted = PRESET_LORAS[preset]
            if preset == "lightning" and DISTILLED not in self.loras:
                raise WeightsMissing(
                    f"the preset lightning needs the LoRA {DISTILLED}",
                    why="eight steps without guidance are made for it",
                    fix=f'name its file in the settings: loras = {{{DISTILLED} = "/models/..."}}; or choose preview',
                )
            there = ((self._named(name), strength) for name, strength in wanted if name in self.loras)
            return tuple(LoraFile(path=str(path), strength=strength) for path, strength in there)
        return tuple(LoraFile(path=str(self._file_of(lora)), strength=lora.strength) for lora in own.loras)

    def _named(self, name: str) -> Path:
        path = self.loras.get(name)
        if path is None:
            known = ", ".join(self.loras) or "none"
            fix = f'name its file in the settings: loras = {{{name} = "/models/..."}} (there: {known})'
            raise WeightsMissing(f"the settings have no LoRA called {name}", fix=fix)
        if not path.is_file():
            what = f"the file of the LoRA {name} is not there"
            raise WeightsMissing(what, fix="correct `loras` in the settings", where=Where(file=str(path)))
        return path

    def _file_of(self, lora: Lora) -> Path:
        if lora.path is None:
            assert lora.name is not None, "a LoRA has a path or a name"
            return self._named(lora.name)
        places = [Path(os.path.normpath(folder / lora.path)) for folder in (self.root, self.library.path.parent)]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            what = f"the LoRA {lora.path} is not there"
            fix = "put it beside the manifest or the character library, or correct its `path`"
            raise SubmissionInvalid(what, fix=fix, where=Where(file=str(places[0])))
        return found

    def _of_loras(self, casting: Casting, scenes: Sequence[Scene], performers: Sequence[Performer]) -> list[str]:
        """Warnings of adapters: a preset's own that this machine lacks, and too many people for a distilled one."""
        found: list[str] = []
        preset: Preset = casting.settings.preset or "quality"
        if casting.settings.loras is None and preset != "preview":
            lacking = [name for name, _ in PRESET_LORAS[preset] if name not in self.loras]
            found += [f"the preset {preset} is meant with the LoRA {name}, which the settings lack" for name in lacking]
        distilled = {str(self.loras[DISTILLED])} if DISTILLED in self.loras else set[str]()
        if len(performers) >= MANY and any(lora.path in distilled for scene in scenes for lora in scene.loras):
            found.append(f"{len(performers)} people with the distilled LoRA {DISTILLED}: it is known to mix them up")
        return found

    def _color(self, decision: ColorDecision) -> PlateColor:
        """The decision as the renderer is told it."""
        return PlateColor(
            config=decision.config,
            digest=decision.config_digest,
            space=decision.space,
            decided_by=decision.decided_by,
            tone=self.manifest.document.color.tone,
        )

    def _finish(self, draft: _Draft, plate: PlateSource, cut: FrameRange) -> _Finish:
        """What a shot of this plate goes by and comes back as; a frame of each plate is tried once.

        Raises SubmissionInvalid for a review movie in a codec that does not hold the picture, and what reading the
        frame raises.
        """
        known = draft.source, draft.decision
        if known not in self._finishes:
            output, costs = self._output(draft)
            middle = cut.first + cut.count // 2
            frame = next((n for n in (middle, *cut.numbers) if n not in plate.missing), middle)
            with plates.open_plate(draft.source, missing=plate.missing, stand_in=plate.stand_in) as opened:
                picture = opened.read(frame).rgb
            doubt = doubts(ModelColor(draft.decision, tone=self.manifest.document.color.tone), picture)
            warnings = (*costs, doubt) if doubt is not None else tuple(costs)
            self._finishes[known] = _Finish(color=self._color(draft.decision), output=output, warnings=warnings)
        return self._finishes[known]

    def _output(self, draft: _Draft) -> tuple[Output, list[str]]:
        """What the shot is delivered as, and what another class than the plate's costs.

        Raises SubmissionInvalid for a review movie in a codec that does not hold the picture.
        """
        said = self.manifest.document.deliver
        if said.movie != "none":
            movies.check_size(said.movie, width=draft.probe.width, height=draft.probe.height)
        form = plates.Form(format=said.format, compression=said.compression)
        packed = form.suffix(draft.source).lower() == ".exr"
        output = Output(format=said.format, compression=said.compression) if packed else Output(format=said.format)
        costs: list[str] = []
        if output.format != "plate":
            costs.append(
                f"delivered as {output.format}, not in the plate's own class: not bit-exact outside the mattes"
            )
            if not packed and draft.decision.encoding == "scene-linear":
                costs.append(
                    f"{draft.decision.space} goes beyond 1.0, and {output.format} does not: brighter light is lost"
                )
        elif output.compression == "dwaa":
            costs.append("delivered in dwaa, which loses: not bit-exact outside the mattes")
        if left := _left_out(draft.probe, output):
            costs.append(f"delivered frames have R, G and B alone; left out: {', '.join(left)}")
        return output, costs

    def _out_of_scale(self, performers: Sequence[Performer], plate: PlateSource, canvas: CanvasSize) -> list[str]:
        """A warning of the references that would make their characters too large or too small as they are, if any."""
        off: list[tuple[str, str]] = []
        size = canvas.width, canvas.height
        fitted = _fitted(plate.width, plate.height, plate.pixel_aspect, size)
        for performer in performers:
            reference = performer.references[0]
            figure = self._figures.get((reference.image, reference.mask))
            if not isinstance(figure, _Figure) or performer.seen is None:
                continue
            factor = scale_off(figure.size, figure.box, seen=performer.seen.sides, canvas=fitted)
            if not 1 / SCALE_TOLERANCE <= factor <= SCALE_TOLERANCE:
                off.append((Path(reference.image).name, f"{performer.id} {factor:.2f}x"))
        if not off:
            return []
        names, sizes = (" and ".join(words) for words in zip(*off, strict=True))
        if len(off) == 1:
            return [f"{names} as it is would make {sizes} the performer's size; it is reframed"]
        return [f"{names} as they are would make {sizes} the performers' size; they are reframed"]


# --------------------------------------------------------------------------- what drafts come to


def _joined(drafts: Sequence[_Draft]) -> list[list[_Draft]]:
    """Uses that are one render, in the order of their first use: of one identity, their frames touching."""
    order = {id(draft): index for index, draft in enumerate(drafts)}
    by_identity: dict[tuple[object, ...], list[_Draft]] = {}
    for draft in drafts:
        by_identity.setdefault(draft.identity, []).append(draft)
    groups: list[list[_Draft]] = []
    for same in by_identity.values():
        until: int | None = None
        for draft in sorted(same, key=lambda draft: draft.frames):
            if until is None or draft.frames.first > until + 1:
                groups.append([])
                until = draft.frames.last
            groups[-1].append(draft)
            until = max(until, draft.frames.last)
    for group in groups:
        group.sort(key=lambda draft: order[id(draft)])
    return sorted(groups, key=lambda group: order[id(group[0])])


def _union(ranges: Iterable[FrameRange]) -> FrameRange:
    """The range that covers these."""
    known = list(ranges)
    return FrameRange.from_last(min(r.first for r in known), max(r.last for r in known))


def _holes(frames: FrameRange, probe: plates.PlateProbe) -> tuple[int, ...]:
    """The frames of a shot that the media lacks."""
    lacking = set(probe.missing)
    return tuple(frame for frame in frames.numbers if frame not in probe.frames or frame in lacking)


def _left_out(probe: plates.PlateProbe, output: Output) -> list[str]:
    """What of a plate the delivered frames do not hold: in its own class a movie's alpha, in another much more."""
    if output.format == "plate" and probe.kind != "movie":
        return []
    left = [name for name, _ in probe.channels if name not in ("R", "G", "B", "Y")]
    window = probe.data_window
    if window is not None and (
        min(window[:2]) < 0 or window[0] + window[2] > probe.width or window[1] + window[3] > probe.height
    ):
        left.append("overscan")
    return left


def _beyond(cut: FrameRange, probe: plates.PlateProbe) -> PlateMissing:
    lost = cut.count - cut.intersection(probe.frames).count
    return PlateMissing(
        f"the cut uses frames {cut}, the plate has {probe.frames}: {lost} missing",
        fix="relink the clip to media that covers the cut, trim it, or say `missing: hold` in the manifest",
        where=Where(file=probe.source),
    )


def _counted_at(rate: Fraction, probe: plates.PlateProbe, said: Fraction | None) -> int | None:
    """The timecode of a plate's first frame in frames of `rate` since midnight; None without one.

    Its digits are those in the file, which counts at a rate of its own, or at what is `said` of it; digits that do not
    exist at `rate` are none.
    """
    start, own = probe.timecode_start, probe.rate or said
    if start is None or own is None or round(own) == round(rate):
        return start
    try:
        return frame_at(timecode(start, own, drop=probe.drop_frame), rate)
    except ValueError:
        return None


def _of_performance(fault: FarmError, name: str, *, space: str | None = None) -> FarmError:
    """A fault of a performance, in words that are not about plates."""
    fix = fault.fix
    if isinstance(fault, PlateMissing):
        fix = "correct `media` or `start_frame`, trim the clip in the edit, or write what is missing of the performance"
    elif isinstance(fault, ColorSpaceUnknown):
        fix = "name one of the config in `space:` of the performance" + (f", in place of {space}" if space else "")
    return type(fault)(f"the performance {name}: {fault.what}", why=fault.why, fix=fix, where=fault.where)


def _as_taken(casting: Casting, probe: plates.PlateProbe, rate: Fraction) -> Iterable[str]:
    """What of a performance is not taken as somebody might expect."""
    if probe.alpha is not None:
        yield "its alpha is not read; the model sees what lies under it"
    if probe.rate is not None and round(probe.rate) != round(rate):
        yield f"it runs at {float(probe.rate):.5g} frames a second, the plate at {float(rate):.5g}; taken one for one"
    if casting.clip is not None and casting.clip.speed != 1:
        yield "the clip is retimed; its frames go with those of the plate, not with the cut"


def _disagreements(clip: Clip, used: Used, probe: plates.PlateProbe) -> Iterable[str]:
    """What the edit and the file say differently of one plate: its rate, and the timecode of its first frame.

    Timecodes are compared by their digits, at the rate each is counted at. A media start that counts frames is none.
    """
    media = clip.media
    assert media is not None, "a clip without media has a fault"
    if media.rate is not None and probe.rate is not None and round(media.rate) != round(probe.rate):
        believed = "file" if probe.drop_frame else "cut"
        says = f"the cut says that its media runs at {float(media.rate):.5g} frames a second, the file says"
        yield f"{says} {float(probe.rate):.5g}; the {believed} is believed"
    if probe.timecode_start is None or media.start is None or clip.media_timecode(probe.frames) is None:
        return
    origin = media.start.value if clip.relative else 0
    first, counted = frame_of(origin + used.start.value) - (used.frames.first - probe.frames.first), media.start.exact
    cut, own = timecode(first, counted), probe.rate or media.rate or clip.rate
    file = timecode(probe.timecode_start, own, drop=probe.drop_frame)
    dropped = probe.drop_frame and first == probe.timecode_start  # some editors write its digits, others its count
    if cut != file.replace(";", ":") and not dropped:
        what = f"the cut says that the first frame of its media is at {cut}, the file says {file}"
        yield f"{what}; frames are counted as the cut says"


def _matte_offset(pattern: FramePattern, probe: plates.PlateProbe) -> int:
    """What is added to a plate's frame to get its matte's number.

    A sequence's mattes have its own numbers. A movie has none: its mattes are one per frame from its first. Raises
    MatteMismatch when they are not.
    """
    if probe.kind != "movie":
        return 0
    on_disk = pattern.on_disk()
    if not on_disk:
        return 0
    if len(on_disk) != probe.frames.count:
        raise MatteMismatch(
            f"the matte {pattern.name_with_hashes} has {len(on_disk)} frames, the movie {probe.frames.count}",
            why="a movie's mattes are matched one per frame, from its first frame on",
            fix="export the matte for the whole movie, one file a frame",
            where=Where(file=str(pattern)),
        )
    return on_disk[0] - probe.frames.first


def _figure(image: Path, mask: Path | None) -> _Figure:
    """The character in a still.

    Raises SubmissionInvalid for a mask that does not fit or holds nobody, and what reading a still raises.
    """
    picture = stills.read_still(image).rgb
    size = picture.shape[1], picture.shape[0]
    if mask is None:
        return _Figure(size=size, box=(0, 0, *size))
    white = stills.read_mask(mask)
    if white.shape != picture.shape[:2]:
        what = f"{image.name} and its mask {mask.name} differ in size"
        raise SubmissionInvalid(what, fix="export both at one size")
    box = mattes.box(white)
    if box is None:
        what = f"the mask {mask.name} has no white in it: nothing of {image.name} is the character"
        raise SubmissionInvalid(what, fix="export the mask with the character in white")
    return _Figure(size=size, box=box)


def _box(box: tuple[int, int, int, int]) -> Box:
    left, top, width, height = box
    return Box(left=left, top=top, width=width, height=height)


def _override(casting: Casting, frames: FrameRange, window: Window, plate: PlateSource) -> SegmentSettings | None:
    """The first override for what a segment hands in; people write the numbers that files have."""
    if not casting.segments:
        return None
    first = frames.first + window.keep.first
    shown = FrameRange.from_last(plate.number(first), plate.number(first + window.keep.count - 1))
    return next((one for one in casting.segments if FrameRange.from_last(*one.frames).intersection(shown).count), None)


def _window(segment: TakeSegment, origin: int) -> Window:
    """The window of a take's segment, in frames counted from the take's first."""
    return Window(
        frames=FrameRange(segment.window.first - origin, segment.window.count),
        keep=FrameRange(segment.frames.first - origin, segment.frames.count),
        overlap=segment.overlap,
    )


def _scene(
    own: Settled,
    loras: tuple[LoraFile, ...],
    frames: FrameRange,
    window: Window,
    plate: PlateSource,
    performers: Sequence[Performer],
    places: Sequence[_Seen],
) -> Scene:
    """What one segment is rendered with: its own settings, and a line of the prompt for everybody it shows.

    Raises MatteMismatch for a matte that no longer reads.
    """
    shown = FrameRange.from_last(frames.first + window.frames.first, frames.first + window.keep.last)
    seen = [
        performer
        for performer, place in zip(performers, places, strict=True)
        if performer.prompt and place.anyone(shown)
    ]
    size = own.size or PRESET_SIZES.get(own.preset or "quality", DEFAULT_SIZE)
    canvas = _canvas(plate.width, plate.height, plate.pixel_aspect, size)
    said = own.mode or "replacement", prompt_of(own, seen), own.negative_prompt or "", own.seed or 0
    return _scene_of(*said, sampler(own), loras, canvas)  # pyright: ignore[reportArgumentType] (frozen documents have a hash)


@lru_cache(maxsize=KEPT)
def _scene_of(
    mode: Mode,
    prompt: str,
    negative: str,
    seed: int,
    sampler: Sampler,
    loras: tuple[LoraFile, ...],
    canvas: CanvasSize,
) -> Scene:
    """One scene for all the windows that are rendered alike."""
    said = {"mode": mode, "prompt": prompt, "negative_prompt": negative, "seed": seed}
    return Scene.model_validate(said | {"sampler": sampler, "loras": loras, "canvas": canvas})


@lru_cache(maxsize=KEPT)
def _fitted(width: int, height: int, pixel_aspect: float, size: tuple[int, int]) -> Canvas:
    return Canvas.around(width, height, pixel_aspect=pixel_aspect, size=size)


@lru_cache(maxsize=KEPT)
def _canvas(width: int, height: int, pixel_aspect: float, budget: tuple[int, int]) -> CanvasSize:
    canvas = Canvas.fit(width, height, pixel_aspect=pixel_aspect, budget=budget)
    return CanvasSize(width=canvas.width, height=canvas.height, active=canvas.active)
