"""Assignment rules: who plays whom in each clip of the cut, and how it was decided.

Rules are read in order and all that match add up; the first that names a character, or sets a setting, is believed.
What a character says of himself counts less than the rules, a `shots` entry more. Colours belong to characters and
never to positions in a shot: a character has one colour in the whole show. A colour said in the manifest or in a marker
holds for every shot, one said in the library where these say none, and the others get what is left, in library order.
Beyond six characters a colour is given out again, to one who never meets its first holder.

What the schema has and this version does not do is refused by name, with file and line; nothing is left out silently.
Every fault is gathered; none stops the reading.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from scail2_farm.documents import (
    PRESET_NUMBERS,
    SLOTS,
    CastRule,
    Character,
    CharacterLibrary,
    Chosen,
    Loaded,
    MatteSource,
    Performance,
    SegmentSettings,
    Settled,
    ShotManifest,
    ShotOverride,
    Slot,
)
from scail2_farm.editorial.rules import Named, Names, Rule, Seen
from scail2_farm.editorial.timeline import LONGEST_ID, Clip, Edit
from scail2_farm.errors import CharacterUnknown, FarmError, MatteMismatch, SubmissionInvalid, Where

State = Literal["rendered", "uncast", "skipped"]
Step = str | int
READ_MATTES = ("sequence", "whole_frame")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A character in a shot: the colour that stands for him, and where his matte is said to be.

    `matte` is None when neither the rule nor the library gives one. A relative matte path belongs to the manifest
    when `matte_from_manifest`, else to the library. `where` is the place of the manifest that cast him; `role` whose
    movements he takes in the performance that drives the shot, if one does.
    """

    id: str
    slot: Slot
    matte: MatteSource | None
    matte_from_manifest: bool
    where: Where
    role: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Casting:
    """What happens to one clip of the cut, or to one explicit shot (`clip` is None), and why.

    `rules` are the rules that matched: where they stand, and what matched and whom they cast, in words.
    `settings` are in force for the whole shot; `segments`, the first that fits, in a part of it. `reason` is for
    people, of a shot that is not rendered; `notes` are readings worth telling. `override` is the `shots` entry;
    `performance` what drives the characters, None when the plate does.
    """

    shot: str
    clip: Clip | None
    state: State
    settings: Settled
    members: tuple[Member, ...] = ()
    rules: tuple[tuple[Where, str], ...] = ()
    segments: tuple[SegmentSettings, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""
    override: ShotOverride | None = None
    performance: Performance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """One Casting per clip of the edit in cut order, then one per explicit shot; every fault of the casting.

    `notes` are readings worth telling that are of no single clip: rules that match none.
    """

    castings: tuple[Casting, ...]
    notes: tuple[str, ...] = ()
    faults: tuple[FarmError, ...] = ()


def cast_clips(
    edit: Edit | None, manifest: Loaded[ShotManifest] | None, library: Loaded[CharacterLibrary] | None
) -> Cast:
    """Who plays whom in every clip.

    Faults of the clips themselves stay with them (Clip.fault). Without a manifest or a library every clip is uncast.
    """
    clips = edit.clips if edit is not None else ()
    if manifest is None or library is None:
        reason = "there is no manifest" if manifest is None else "the character library cannot be read"
        return Cast(castings=tuple(_Caster.unread(clip, reason) for clip in clips))
    return _Caster(edit, manifest, library).cast()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A character as some place of the manifest asks for him, or a marker for which that place sends."""

    id: str
    slot: Slot | None
    matte: MatteSource | None
    place: tuple[Step, ...]
    marker: str | None = None
    named: Named | None = None
    role: str | None = None


@dataclass(frozen=True, slots=True)
class _Draft:
    """A Casting before the whole show's colours are known."""

    shot: str
    clip: Clip | None
    wanted: tuple[_Wanted, ...]
    settings: Settled
    rules: tuple[tuple[Where, str], ...]
    matched: tuple[int, ...]
    notes: tuple[str, ...]
    skipped: str | None
    override: ShotOverride | None


class _Caster:
    """The casting of one submission."""

    def __init__(self, edit: Edit | None, manifest: Loaded[ShotManifest], library: Loaded[CharacterLibrary]):
        self.edit = edit
        self.manifest = manifest
        self.library = library
        self.faults: list[FarmError] = []
        self.rules = [Rule(entry, index, manifest, edit) for index, entry in enumerate(manifest.document.cast)]
        self.entries: dict[str, int] = {}
        for index, shot in enumerate(manifest.document.shots):
            self.entries.setdefault(shot.id, index)
        self.named: dict[str, list[Clip]] = {}
        for clip in self._clips:
            for key in {clip.id, clip.name}:
                self.named.setdefault(key, []).append(clip)
        self.folded = {clip.name: clip.name.casefold() for clip in self._clips}
        self.names = Names(library.document.characters)
        self.parts: dict[tuple[int, tuple[str, ...]], tuple[tuple[_Wanted, ...], str]] = {}
        self.misnamed: dict[_Wanted, list[Clip]] = {}
        self.marked: dict[tuple[str, Slot | None], tuple[_Wanted, Clip]] = {}
        self.members: dict[tuple[str, tuple[Step, ...], str | None], Member] = {}
        self.settled: dict[tuple[object, ...], tuple[Settled, tuple[str, ...]]] = {}

    @staticmethod
    def unread(clip: Clip, reason: str) -> Casting:
        """The casting of a clip nothing is known about."""
        if clip.skipped is not None:
            return Casting(shot=clip.id, clip=clip, state="skipped", settings=Settled(), reason=clip.skipped)
        return Casting(shot=clip.id, clip=clip, state="uncast", settings=Settled(), reason=reason)

    def cast(self) -> Cast:
        self._refuse_unread()
        self._check_shots()
        self._check_ids()
        drafts = [self._draft(clip) for clip in self._clips]
        drafts += [self._explicit(index) for index, shot in enumerate(self._shots) if self._is_explicit(shot)]
        self.faults += [fault for rule in self.rules for fault in rule.faults]
        self._check_markers()
        rendered = [draft for draft in drafts if draft.skipped is None and draft.wanted]
        self._check_members(rendered)
        self._check_performances(rendered)
        colors = self._colors(rendered)
        castings = tuple(self._settle(draft, colors) for draft in drafts)
        if not self.faults and not any(casting.state == "rendered" for casting in castings):
            what = "the manifest casts nobody: no clip of the cut is matched by a rule that names a character"
            fix = "write a rule, for example  cast: [{when: {clip: '*'}, characters: [{id: hero}]}]"
            self.faults.append(SubmissionInvalid(what, fix=fix, where=self.manifest.where("cast")))
        matched = {index for draft in drafts for index in draft.matched}
        idle = [rule for rule in self.rules if rule.index not in matched and not rule.faults]
        notes = tuple(f"the rule at {rule.where} matches no clip{self._other_case(rule)}" for rule in idle)
        return Cast(castings=castings, notes=notes, faults=tuple(self.faults))

    def _other_case(self, rule: Rule) -> str:
        """What an idle rule's `clip` would match in any case, as the end of a sentence."""
        glob = rule.entry.when.clip
        if glob is None:
            return ""
        folded = glob.casefold()
        names = (name for name, in_any_case in self.folded.items() if fnmatchcase(in_any_case, folded))
        alike = next((name for name in names if not fnmatchcase(name, glob)), None)
        return "" if alike is None else f": '{glob}' differs from {alike} only in upper and lower case"

    @property
    def _clips(self) -> tuple[Clip, ...]:
        return self.edit.clips if self.edit is not None else ()

    @property
    def _shots(self) -> tuple[ShotOverride, ...]:
        return self.manifest.document.shots

    # ------------------------------------------------------------------- faults of the documents

    def _refuse(self, words: str, *place: Step, loaded: Loaded[CharacterLibrary] | None = None, **more: str) -> None:
        where = (loaded or self.manifest).where(*place, field=".".join(str(step) for step in place), **more)
        self.faults.append(
            SubmissionInvalid(
                f"this version does not {words}",
                why="it is in the schema for a later version, and is refused rather than left out",
                fix="remove it, or say it in a way this version reads",
                where=where,
            )
        )

    def _refuse_unread(self) -> None:
        """What the schema has and this version does not do."""
        document = self.manifest.document
        if document.retime != "keep":
            self._refuse(f"do `retime: {document.retime}` yet", "retime")
        if document.numbering != "plate":
            self._refuse(f"do `numbering: {document.numbering}` yet", "numbering")
        if self.edit is not None and document.rate is not None and document.rate != self.edit.rate:
            what = f"the manifest says {document.rate} frames a second, the edit {self.edit.rate}"
            fix = "remove `rate:`; only an EDL has none of its own"
            self.faults.append(SubmissionInvalid(what, fix=fix, where=self.manifest.where("rate", field="rate")))
        for wanted in self._all_wanted():
            self._refuse_matte(wanted.matte, self.manifest, *wanted.place, "matte")

    def _refuse_matte(
        self, matte: MatteSource | None, loaded: Loaded[ShotManifest] | Loaded[CharacterLibrary], *place: Step
    ) -> None:
        if matte is not None and matte.kind not in READ_MATTES:
            library = self.library if loaded is self.library else None
            self._refuse(f"read `{matte.kind}` mattes yet", *place, matte.kind, loaded=library)

    def _all_wanted(self) -> Iterator[_Wanted]:
        """Every character the manifest itself names, with his place in it."""
        for kind, entries in (("cast", self.manifest.document.cast), ("shots", self._shots)):
            for index, entry in enumerate(entries):
                yield from _wanted(entry, kind, index)

    def _check_ids(self) -> None:
        for wanted in self._all_wanted():
            if wanted.id not in self.library.document.characters:
                self.faults.append(
                    CharacterUnknown(
                        f"{wanted.id} is not in the character library",
                        fix=self._nearest_characters(wanted.id),
                        where=self.manifest.where(*wanted.place, "id", character=wanted.id),
                    )
                )

    def _nearest_characters(self, written: str) -> str:
        return f"nearest names in {self.library.path.name}: {', '.join(self.names.nearest(written))}"

    def _check_shots(self) -> None:
        """`shots` entries that name no clip, or name themselves badly."""
        seen: set[str] = set()
        ids = {clip.id.casefold() for clip in self._clips}
        for index, shot in enumerate(self._shots):
            where = self.manifest.where("shots", index, "id", shot=shot.id)
            if shot.id.casefold() in seen:
                what = f"the shot {shot.id} is given twice in `shots`"
                self.faults.append(SubmissionInvalid(what, fix="keep one of the two entries", where=where))
            seen.add(shot.id.casefold())
            matches = shot.id in self.named
            if shot.media is not None and matches:
                what = f"{shot.id} is a clip of the edit and has media of its own in `shots`"
                fix = "leave out `media` to change the clip, or give the explicit shot another id"
                self.faults.append(SubmissionInvalid(what, fix=fix, where=where))
            elif shot.media is not None and shot.id.casefold() in ids:
                what = f"{shot.id} differs from a clip of the edit only in upper and lower case"
                self.faults.append(SubmissionInvalid(what, fix="give the explicit shot another id", where=where))
            elif shot.media is None and not matches:
                self.faults.append(SubmissionInvalid(self._no_such_shot(shot), fix=self._nearest(shot), where=where))
            if shot.media is not None and not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9._-]{{,{LONGEST_ID - 1}}}", shot.id):
                what = f"{shot.id!r} cannot name a folder of takes"
                fix = f"use up to {LONGEST_ID} letters, digits, dots, underscores and hyphens, a letter or digit first"
                self.faults.append(SubmissionInvalid(what, fix=fix, where=where))
            if shot.range is not None:
                self._check_range(shot, index)

    def _check_range(self, shot: ShotOverride, index: int) -> None:
        where = self.manifest.where("shots", index, "range", shot=shot.id)
        if shot.media is None:
            what = "`range` belongs to shots with `media`; the frames of a clip are the cut's"
            self.faults.append(SubmissionInvalid(what, fix="remove `range`, or trim the clip in the edit", where=where))
        elif shot.range is not None and shot.range[1] < shot.range[0]:
            what = f"the range {shot.range[0]}-{shot.range[1]} ends before it begins"
            self.faults.append(SubmissionInvalid(what, fix="write [first, last], both included", where=where))

    def _no_such_shot(self, shot: ShotOverride) -> str:
        if self.edit is None:
            return f"the shot {shot.id} has no `media`, and there is no timeline to find it in"
        return f"no clip of the edit is called {shot.id}, and it has no `media` of its own"

    def _nearest(self, shot: ShotOverride) -> str:
        names = list(dict.fromkeys(name for clip in self._clips for name in (clip.id, clip.name) if name))
        near = difflib.get_close_matches(shot.id, names, n=3, cutoff=0.4)
        return f"nearest clips: {', '.join(near)}" if near else "give the shot `media`, or the id of a clip"

    def _is_explicit(self, shot: ShotOverride) -> bool:
        return shot.media is not None and shot.id not in self.named

    # ------------------------------------------------------------------- one shot

    def _draft(self, clip: Clip) -> _Draft:
        """What the rules and the `shots` entry say about a clip."""
        seen = Seen(clip)
        notes: list[str] = []
        matched: list[Rule] = []
        for rule in self.rules:
            if rule.matches(seen, notes):
                matched.append(rule)
                if rule.entry.stop:
                    break
        wanted: list[_Wanted] = []
        rules: list[tuple[Where, str]] = []
        for rule in matched:
            cast, says = self._part(rule, seen, notes)
            wanted += cast
            rules.append((rule.where, says))
        entry = self.entries.get(clip.id, self.entries.get(clip.name))
        override = None if entry is None else self._shots[entry]
        if override is not None and entry is not None:
            rules.append((self.manifest.where("shots", entry), f"shot {override.id}"))
            if override.characters is not None:
                wanted = list(_wanted(override, "shots", entry))
        skipped = clip.skipped or self._skip(matched, override, entry)
        cast_once = _first_of_each(wanted)
        settings, disputes = self._settings(matched, entry, cast_once)
        return _Draft(
            shot=clip.id,
            clip=clip,
            wanted=cast_once,
            settings=settings,
            rules=tuple(rules),
            matched=tuple(rule.index for rule in matched),
            notes=() if skipped else (*notes, *disputes),
            skipped=skipped,
            override=override,
        )

    def _part(self, rule: Rule, seen: Seen, notes: list[str]) -> tuple[tuple[_Wanted, ...], str]:
        """Whom a rule casts in a clip it matches, and its words; the same for all clips with the same markers."""
        markers = rule.markers(seen)
        if (rule.index, markers) not in self.parts:
            cast = tuple(self._cast_by(rule, markers))
            self.parts[rule.index, markers] = cast, f"{rule.words(markers)}: {_does(rule.entry, cast)}"
        cast, says = self.parts[rule.index, markers]
        if rule.entry.characters == "from-marker" and seen.clip.skipped is None:
            for one in cast:
                if one.named is not None and one.named.wrong:
                    self.misnamed.setdefault(one, []).append(seen.clip)
                self.marked.setdefault((one.id, one.slot), (one, seen.clip))
            if rule.asks_for_markers and not cast:
                notes.append(f"no marker that {rule.where} is about names a character (CHAR:id)")
        return cast, says

    def _cast_by(self, rule: Rule, markers: Sequence[str]) -> Iterator[_Wanted]:
        """The characters a rule lists, or those that markers name for it."""
        if rule.entry.characters != "from-marker":
            yield from _wanted(rule.entry, "cast", rule.index)
            return
        for marker in markers:
            for named in self.names.named_by(marker):
                yield _Wanted(named.id, named.slot, None, ("cast", rule.index, "characters"), marker, named)

    def _check_markers(self) -> None:
        """Characters and colours in the names of markers that are none."""
        for one, clips in self.misnamed.items():
            name = clips[0].name or clips[0].id
            more = f" and of {len(clips) - 1} more" if len(clips) > 1 else ""
            of = f"the marker '{one.marker}' of {name}{more}"
            where = self.manifest.where(*one.place, clip=name, character=one.id)
            if one.named is not None and one.named.known:
                what = f"{of} gives {one.id} the colour '{one.named.color}', which is none of the model's"
                fix = f"write one of {', '.join(SLOTS)} after `=`, or leave the colour out"
                self.faults.append(SubmissionInvalid(what, fix=fix, where=where))
            else:
                what = f"{of} names {one.id}, and there is no such character in the library"
                self.faults.append(CharacterUnknown(what, fix=self._nearest_characters(one.id), where=where))

    def _skip(self, matched: Sequence[Rule], override: ShotOverride | None, entry: int | None) -> str | None:
        """Why a clip is skipped; a `shots` entry that says `skip` or names characters outranks a rule."""
        if override is not None and entry is not None and override.skip:
            return f"skipped by {_line(self.manifest.where('shots', entry))}"
        if override is not None and ("skip" in override.model_fields_set or override.characters is not None):
            return None
        by = next((rule for rule in matched if rule.entry.skip), None)
        return None if by is None else f"skipped by {_line(by.where)}"

    def _explicit(self, index: int) -> _Draft:
        """A shot that is in no edit. Rules are about clips and do not reach it."""
        shot = self._shots[index]
        where = self.manifest.where("shots", index)
        wanted = _first_of_each(_wanted(shot, "shots", index))
        settings, disputes = self._settings((), index, wanted)
        return _Draft(
            shot=shot.id,
            clip=None,
            wanted=wanted,
            settings=settings,
            rules=((where, f"shot {shot.id}"),),
            matched=(),
            notes=() if shot.skip else disputes,
            skipped=f"skipped by {_line(where)}" if shot.skip else None,
            override=shot,
        )

    def _settings(
        self, matched: Sequence[Rule], entry: int | None, wanted: Sequence[_Wanted]
    ) -> tuple[Settled, tuple[str, ...]]:
        """The settings of a shot, and notes of what its characters disagree about; worked out once per combination."""
        key = (entry, tuple(rule.index for rule in matched), tuple(one.id for one in wanted))
        if key not in self.settled:
            override = None if entry is None else self._shots[entry]
            characters = self.library.document.characters
            cast = {one.id: characters[one.id] for one in wanted if one.id in characters}
            rules = [rule.entry for rule in matched]
            settings, notes = _settled(self.manifest.document.defaults, cast, rules, override)
            overlaps = () if override is None else tuple(_overlaps(override.segments))
            self.settled[key] = settings, (*notes, *overlaps)
        return self.settled[key]

    def _check_members(self, rendered: Sequence[_Draft]) -> None:
        """More identities than the model tells apart, and mattes of the library this version does not read."""
        told: set[str] = set()
        for draft in rendered:
            if len(draft.wanted) > len(SLOTS):
                seventh = draft.wanted[len(SLOTS)]
                self.faults.append(
                    SubmissionInvalid(
                        f"of {len(draft.wanted)} characters {seventh.id} is the seventh",
                        why=f"the model tells {len(SLOTS)} identities apart, one colour each",
                        fix="split the shot, or cast fewer characters in it",
                        where=self.manifest.where(*seventh.place, shot=draft.shot, character=seventh.id),
                    )
                )
            for wanted in draft.wanted:
                character = self.library.document.characters.get(wanted.id)
                if character is None or wanted.matte is not None or wanted.id in told:
                    continue
                told.add(wanted.id)
                self._refuse_matte(character.matte, self.library, "characters", wanted.id, "matte")
            if draft.settings.driving is None:
                self._check_undriven(draft)

    def _check_undriven(self, draft: _Draft) -> None:
        """What makes sense only where a performance says who is where."""
        for wanted in draft.wanted:
            if wanted.role is not None:
                where = self._cast_at(wanted, draft)
                what = f"{wanted.id} is to take the role {wanted.role}, and no performance drives the shot"
                fix = "add `driving:` to the shot, to its rule or to `defaults`, or remove `role`"
                self.faults.append(SubmissionInvalid(what, fix=fix, where=where))
            character = self.library.document.characters.get(wanted.id)
            matte = wanted.matte or (character.matte if character is not None else None)
            if matte is not None and matte.whole_frame and len(draft.wanted) > 1:
                where = self._cast_at(wanted, draft)
                what = f"the whole frame is {wanted.id}, and {len(draft.wanted) - 1} more are in the shot"
                fix = f"give {wanted.id} a matte of his own: `matte: {{sequence: ...}}`"
                self.faults.append(MatteMismatch(what, fix=fix, where=where))

    def _cast_at(self, wanted: _Wanted, draft: _Draft) -> Where:
        return self.manifest.where(*wanted.place, shot=draft.shot, character=wanted.id)

    # ------------------------------------------------------------------- performances

    def _performance(self, settings: Settled) -> Performance | None:
        """What drives the characters of a shot; None for the plate, and for a name nobody knows."""
        driving = settings.driving
        if driving is None:
            return None
        return driving.performance or self.library.document.performances.get(str(driving.name))

    def _check_performances(self, rendered: Sequence[_Draft]) -> None:
        """Performances nobody knows, roles they lack, and mattes of theirs that this version does not read."""
        known = self.library.document.performances
        told: set[object] = set()
        for draft in rendered:
            driving, performance = draft.settings.driving, self._performance(draft.settings)
            place = self._driving_place(draft)
            if driving is None or (place, draft.wanted) in told:
                continue
            told.add((place, draft.wanted))
            if performance is None:
                near = difflib.get_close_matches(str(driving.name), known, n=3, cutoff=0.4) or list(known)
                fix = f"performances in {self.library.path.name}: {', '.join(near) or 'none'}"
                what = f"the character library has no performance called {driving.name}"
                where = self.manifest.where(*place, "name", shot=draft.shot)
                self.faults.append(SubmissionInvalid(what, fix=fix, where=where))
                continue
            self._check_roles(draft, performance)
            self._check_modes(draft)
            if place in told:
                continue
            told.add(place)
            library = self.library if driving.name is not None else None
            within = ("performances", driving.name) if driving.name is not None else (*place, "performance")
            for role, matte in performance.roles.items():
                self._refuse_matte(matte, library or self.manifest, *within, "roles", role)

    def _check_roles(self, draft: _Draft, performance: Performance) -> None:
        """Characters of a shot that have no role in its performance, or another's, or share the whole frame."""
        taken: dict[str, str] = {}
        for wanted in draft.wanted:
            role = _role(wanted, performance, len(draft.wanted))
            where = self._cast_at(wanted, draft)
            names = ", ".join(performance.roles)
            if role is None:
                asked = f"the role {wanted.role}" if wanted.role is not None else f"a role for {wanted.id}"
                what = f"the performance {performance.media} has not got {asked}"
                fix = f"say whose movements {wanted.id} takes: `role:` with one of {names}"
                self.faults.append(SubmissionInvalid(what, fix=fix, where=where))
            elif role in taken:
                what = f"{taken[role]} and {wanted.id} both take the role {role}"
                fix = f"give one of them another of the roles {names}"
                self.faults.append(SubmissionInvalid(what, fix=fix, where=where))
            elif performance.roles[role].whole_frame and len(draft.wanted) > 1:
                what = f"the role {role} is the whole frame of {performance.media}, and others are in the shot"
                self.faults.append(MatteMismatch(what, fix="give each role a matte of its own", where=where))
            else:
                taken[role] = wanted.id

    def _check_modes(self, draft: _Draft) -> None:
        """Segments of a driven shot in another mode than its own: of the two, one takes the whole frame."""
        if draft.override is None:
            return
        own = draft.settings.mode or "replacement"
        for entry in draft.override.segments:
            if entry.mode not in (None, own):
                index = self.entries[draft.override.id]
                what = f"the shot {draft.shot} is driven by a performance in {own}, and a part of it is {entry.mode}"
                where = self.manifest.where("shots", index, "segments", shot=draft.shot)
                fix = "say one mode for the whole shot"
                self.faults.append(SubmissionInvalid(what, fix=fix, where=where))

    def _driving_place(self, draft: _Draft) -> tuple[Step, ...]:
        """Where the manifest says what drives a shot."""
        driving = draft.settings.driving
        if draft.override is not None and draft.override.driving == driving:
            return "shots", self.entries[draft.override.id], "driving"
        entries = self.manifest.document.cast
        by = next((index for index in draft.matched if entries[index].driving == driving), None)
        return ("defaults", "driving") if by is None else ("cast", by, "driving")

    # ------------------------------------------------------------------- colours

    def _colors(self, rendered: Sequence[_Draft]) -> Mapping[str, Slot]:
        """The colour of every character of the library.

        A colour said in the manifest or a marker is kept, then one said in the library; the others get what is left,
        in library order. When all six are given out, one gets the first colour that nobody he meets has.
        """
        characters = self.library.document.characters
        colors: dict[str, Slot] = {id: one.slot for id, one in characters.items() if one.slot is not None}
        colors |= self._said_colors()
        company: Mapping[str, set[str]] | None = None
        for id in characters:
            if id in colors:
                continue
            taken = set(colors.values())
            if len(taken) == len(SLOTS):
                company = _company(rendered) if company is None else company
                taken = {colors[other] for other in company.get(id, ()) if other in colors}
            free: list[Slot] = [slot for slot in SLOTS if slot not in taken]
            colors[id] = free[0] if free else SLOTS[0]
        return colors

    def _said_colors(self) -> dict[str, Slot]:
        """The colours said in the manifest and in markers; a second colour for a character is a fault."""
        said: dict[str, tuple[Slot, str]] = {}
        told: set[tuple[str, Slot]] = set()
        manifest = ((wanted, None) for wanted in self._all_wanted())
        for wanted, clip in (*manifest, *self.marked.values()):
            id, slot = wanted.id, wanted.slot
            if slot is None or id not in self.library.document.characters:
                continue
            place = (*wanted.place, "slot")
            by = "here" if clip is None else f"by the marker '{wanted.marker}' of {clip.name or clip.id}"
            first, there = said.setdefault(id, (slot, f"at {self.manifest.where(*place)}" if clip is None else by))
            if slot != first and (id, slot) not in told:
                told.add((id, slot))
                self.faults.append(
                    SubmissionInvalid(
                        f"{id} is {slot} {by}, and {first} {there}",
                        why="a character has one colour in the whole show; it is what he is known by in every shot",
                        fix=f"give {id} the same colour in both places, or say it in one of them alone",
                        where=self.manifest.where(*place, character=id),
                    )
                )
        return {id: slot for id, (slot, _) in said.items()}

    def _settle(self, draft: _Draft, colors: Mapping[str, Slot]) -> Casting:
        performance, people = self._performance(draft.settings), len(draft.wanted)
        members = tuple(
            self._member(one, colors, None if performance is None else _role(one, performance, people))
            for one in draft.wanted
            if one.id in colors
        )
        state: State = "skipped" if draft.skipped else "rendered" if members else "uncast"
        reason = draft.skipped or ""
        if state == "uncast":
            unknown = [one.id for one in draft.wanted]
            reason = "no rule matches it" if not draft.rules else "the rules that match name no character"
            reason = f"{', '.join(unknown)}: not in the library" if unknown else reason
        if state == "rendered":
            self._check_colors(draft.shot, members)
        return Casting(
            shot=draft.shot,
            clip=draft.clip,
            state=state,
            members=members,
            settings=draft.settings,
            rules=draft.rules,
            segments=draft.override.segments if draft.override is not None else (),
            notes=draft.notes,
            reason=reason,
            override=draft.override,
            performance=performance,
        )

    def _member(self, wanted: _Wanted, colors: Mapping[str, Slot], role: str | None) -> Member:
        """A character as he is in every shot in which this place of the manifest casts him in this role."""
        key = (wanted.id, wanted.place, role)
        if key not in self.members:
            own = self.library.document.characters[wanted.id].matte
            self.members[key] = Member(
                id=wanted.id,
                slot=colors[wanted.id],
                matte=wanted.matte or own,
                matte_from_manifest=wanted.matte is not None,
                where=self.manifest.where(*wanted.place, character=wanted.id),
                role=role,
            )
        return self.members[key]

    def _check_colors(self, shot: str, members: Sequence[Member]) -> None:
        holders: dict[Slot, Member] = {}
        for member in members[: len(SLOTS)]:
            first = holders.setdefault(member.slot, member)
            if first is not member:
                free = [slot for slot in SLOTS if slot not in {one.slot for one in members}]
                self.faults.append(
                    SubmissionInvalid(
                        f"{first.id} and {member.id} both have {member.slot}",
                        why="in a shot each character has a colour of his own; the model tells them apart by it",
                        fix=f"give one of them another `slot:` for the whole show (free here: {', '.join(free)})",
                        where=replace(member.where, shot=shot),
                    )
                )


def _wanted(entry: CastRule | ShotOverride, kind: str, index: int) -> Iterator[_Wanted]:
    """The characters an entry lists itself."""
    characters = entry.characters
    if characters is None or isinstance(characters, str):
        return
    for number, member in enumerate(characters):
        yield _Wanted(member.id, member.slot, member.matte, (kind, index, "characters", number), role=member.role)


def _role(wanted: _Wanted, performance: Performance, people: int) -> str | None:
    """Whose movements a character takes: the role he is given, that of his id, or the only one; None of none."""
    roles = performance.roles
    if wanted.role is not None:
        return wanted.role if wanted.role in roles else None
    if wanted.id in roles:
        return wanted.id
    return next(iter(roles)) if people == len(roles) == 1 else None


def _first_of_each(wanted: Iterable[_Wanted]) -> tuple[_Wanted, ...]:
    first: dict[str, _Wanted] = {}
    for one in wanted:
        first.setdefault(one.id, one)
    return tuple(first.values())


def _company(rendered: Sequence[_Draft]) -> Mapping[str, set[str]]:
    """Everybody each character shares a shot with."""
    found: dict[str, set[str]] = {}
    for ids in {frozenset(one.id for one in draft.wanted) for draft in rendered}:
        for id in ids:
            found.setdefault(id, set()).update(ids - {id})
    return found


def _line(where: Where) -> str:
    """FILE:LINE, the file by its name alone."""
    return replace(where, file=Path(where.file).name if where.file else None).line_of_file


def _does(entry: CastRule, cast: Sequence[_Wanted]) -> str:
    """What a rule does to a clip, in words."""
    settings = [key for key in Settled.model_fields if getattr(entry, key) is not None]
    says = [", ".join(dict.fromkeys(one.id for one in cast)), f"sets {', '.join(settings)}" if settings else ""]
    does = "skip" if entry.skip else " and ".join(part for part in says if part)
    return f"{does or 'nothing'}{', stop' if entry.stop else ''}"


def _settled(
    defaults: Settled, cast: Mapping[str, Character], rules: Sequence[Settled], override: ShotOverride | None
) -> tuple[Settled, list[str]]:
    """Defaults < characters < rules < shot, and notes of what characters disagree about and nobody settles.

    Of several rules, and of several characters in the order they are cast, the first that sets a setting. What is
    appended to prompts adds up. A preset starts from its own numbers: those of levels it outranks are not heard.
    """
    said: dict[str, Any] = {}
    notes: list[str] = []
    outranking = [*([override] if override is not None else []), *rules]
    upto = next((n + 1 for n, level in enumerate(outranking) if level.preset is not None), None)
    people = cast if upto is None else {}
    base = defaults if upto is None and all(one.preset is None for one in cast.values()) else Settled()
    for key in Settled.model_fields:
        levels = (outranking[:upto], people, base) if key in PRESET_NUMBERS else (outranking, cast, defaults)
        heard, asking, last = levels
        value = next((value for level in heard if (value := getattr(level, key)) is not None), None)
        if value is None and key in Chosen.model_fields:
            asked = {id: value for id, one in asking.items() if (value := getattr(one, key)) is not None}
            value = next(iter(asked.values()), None)
            if any(other != value for other in asked.values()):
                first = next(iter(asked))
                notes.append(f"{', '.join(asked)} ask for different `{key}`: {first} is cast first, and is believed")
        said[key] = value if value is not None else getattr(last, key)
    if said["driving"] is not None and said["driving"].plate:
        said["driving"] = None
    appended = [level.prompt_append for level in (defaults, *rules, override) if level is not None]
    said["prompt_append"] = ", ".join(text for text in appended if text) or None
    return Settled.model_validate({key: value for key, value in said.items() if value is not None}), notes


def _overlaps(segments: Sequence[SegmentSettings]) -> Iterator[str]:
    """Notes of frames that two entries of `segments` are for."""
    for number, later in enumerate(segments):
        for earlier in segments[:number]:
            first, last = max(earlier.frames[0], later.frames[0]), min(earlier.frames[1], later.frames[1])
            if first <= last:
                spans = " and ".join(f"[{one.frames[0]}, {one.frames[1]}]" for one in (earlier, later))
                yield f"`segments` {spans} both hold frames {first}-{last}: the first is believed"
