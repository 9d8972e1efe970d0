"""Assignment rules: who plays whom in each clip of the cut, and how it was decided.

Rules are read in order and all that match add up; the first that names a character, or sets a setting, is believed.
A `shots` entry outranks them. Colours belong to characters and never to positions in a shot: the whole library is
given its colours at once, in library order, so that a character keeps his colour from shot to shot. Beyond six
characters a colour is given out again, to one who never meets its first holder.

What the schema has and this version does not do is refused by name, with file and line; nothing is left out silently.
Every fault is gathered; none stops the reading.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from scail2_farm.documents import (
    SLOTS,
    CastMember,
    CastRule,
    CharacterLibrary,
    Loaded,
    MatteSource,
    Settled,
    ShotManifest,
    ShotOverride,
    Slot,
)
from scail2_farm.editorial.timeline import LONGEST_ID, Clip, Edit
from scail2_farm.errors import CharacterUnknown, FarmError, SubmissionInvalid, Where

State = Literal["rendered", "uncast", "skipped"]
Step = str | int

_UNREAD_CONDITIONS = ("track", "marker", "color", "record_tc", "source_tc", "media", "metadata", "equals")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A character in a shot: the colour that stands for him, and where his matte is said to be.

    `matte` is None when neither the rule nor the library gives one. A relative matte path belongs to the manifest
    when `matte_from_manifest`, else to the library.
    """

    id: str
    slot: Slot
    matte: MatteSource | None
    matte_from_manifest: bool
    where: Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Casting:
    """What happens to one clip of the cut, or to one explicit shot (`clip` is None), and why.

    `rules` are the rules that matched: where they stand, and what they say. `reason` is for people, of a shot that is
    not rendered. `override` is the `shots` entry.
    """

    shot: str
    clip: Clip | None
    state: State
    settings: Settled
    members: tuple[Member, ...] = ()
    rules: tuple[tuple[Where, str], ...] = ()
    reason: str = ""
    override: ShotOverride | None = None


def cast_clips(
    edit: Edit | None, manifest: Loaded[ShotManifest] | None, library: Loaded[CharacterLibrary] | None
) -> tuple[tuple[Casting, ...], list[FarmError]]:
    """One Casting per clip of the edit in cut order, then one per explicit shot; and every fault of the casting.

    Faults of the clips themselves stay with them (Clip.fault). Without a manifest or a library every clip is uncast.
    """
    clips = edit.clips if edit is not None else ()
    if manifest is None or library is None:
        reason = "there is no manifest" if manifest is None else "the character library cannot be read"
        return tuple(_Caster.unread(clip, reason) for clip in clips), []
    caster = _Caster(edit, manifest, library)
    castings = caster.cast()
    return castings, caster.faults


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A character as some place of the manifest asks for him."""

    member: CastMember
    place: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A Casting before the whole show's colours are known."""

    shot: str
    clip: Clip | None
    wanted: tuple[_Wanted, ...]
    settings: Settled
    rules: tuple[tuple[Where, str], ...]
    skipped: str | None
    override: ShotOverride | None


class _Caster:
    """The casting of one submission."""

    def __init__(self, edit: Edit | None, manifest: Loaded[ShotManifest], library: Loaded[CharacterLibrary]):
        self.edit = edit
        self.manifest = manifest
        self.library = library
        self.faults: list[FarmError] = []

    @staticmethod
    def unread(clip: Clip, reason: str) -> Casting:
        """The casting of a clip nothing is known about."""
        if clip.skipped is not None:
            return Casting(shot=clip.id, clip=clip, state="skipped", settings=Settled(), reason=clip.skipped)
        return Casting(shot=clip.id, clip=clip, state="uncast", settings=Settled(), reason=reason)

    def cast(self) -> tuple[Casting, ...]:
        self._refuse_unread()
        self._check_shots()
        self._check_characters()
        drafts = [self._draft(clip) for clip in self._clips]
        drafts += [self._explicit(index) for index, shot in enumerate(self._shots) if self._is_explicit(shot)]
        rendered = [draft for draft in drafts if draft.skipped is None and draft.wanted]
        self._check_members(rendered)
        colors = self._colors(rendered)
        castings = tuple(self._settle(draft, colors) for draft in drafts)
        if not self.faults and not any(casting.state == "rendered" for casting in castings):
            what = "the manifest casts nobody: no clip of the cut is matched by a rule that names a character"
            fix = "write a rule, for example  cast: [{when: {clip: '*'}, characters: [{id: hero}]}]"
            self.faults.append(SubmissionInvalid(what, fix=fix, where=self.manifest.where("cast")))
        return castings

    @property
    def _clips(self) -> tuple[Clip, ...]:
        return self.edit.clips if self.edit is not None else ()

    @property
    def _shots(self) -> tuple[ShotOverride, ...]:
        return self.manifest.document.shots

    @property
    def _rules(self) -> tuple[CastRule, ...]:
        return self.manifest.document.cast

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
        if document.color.config != "builtin":
            self._refuse("read a color config other than `builtin` yet", "color", "config")
        if document.deliver.format != "plate":
            self._refuse(f"deliver `{document.deliver.format}` frames yet", "deliver", "format")
        if self.edit is not None and document.rate is not None and document.rate != self.edit.rate:
            what = f"the manifest says {document.rate} frames a second, the edit {self.edit.rate}"
            fix = "remove `rate:`; an .otio file has its own"
            self.faults.append(SubmissionInvalid(what, fix=fix, where=self.manifest.where("rate", field="rate")))
        self._refuse_settings(document.defaults, "defaults")
        for index, rule in enumerate(self._rules):
            for condition in _UNREAD_CONDITIONS:
                if getattr(rule.when, condition) is not None:
                    self._refuse(f"read `{condition}` rules yet", "cast", index, "when", condition)
            if rule.characters == "from-marker":
                self._refuse("read `characters: from-marker` yet", "cast", index, "characters")
            self._refuse_settings(rule, "cast", index)
        for index, shot in enumerate(self._shots):
            self._refuse_settings(shot, "shots", index)
        for wanted in self._all_wanted():
            self._refuse_matte(wanted.member.matte, self.manifest, *wanted.place, "matte")

    def _refuse_settings(self, settings: Settled, *place: Step) -> None:
        if settings.preset == "lightning":
            self._refuse("render the `lightning` preset yet (it needs a LoRA)", *place, "preset")

    def _refuse_matte(
        self, matte: MatteSource | None, loaded: Loaded[ShotManifest] | Loaded[CharacterLibrary], *place: Step
    ) -> None:
        if matte is not None and matte.kind != "sequence":
            library = self.library if loaded is self.library else None
            self._refuse(f"read `{matte.kind}` mattes yet", *place, matte.kind, loaded=library)

    def _refuse_character(self, id: str) -> None:
        """What a character who is cast asks for and this version does not do."""
        character = self.library.document.characters[id]
        place = ("characters", id)
        if len(character.references) > 1:
            words = "use more than one reference per character yet"
            self._refuse(words, *place, "references", 1, loaded=self.library, character=id)
        if character.lora:
            self._refuse("load a character's `lora` yet", *place, "lora", loaded=self.library, character=id)

    def _all_wanted(self) -> Iterator[_Wanted]:
        """Every character the manifest names, with his place in it."""
        for kind, entries in (("cast", self._rules), ("shots", self._shots)):
            for index, entry in enumerate(entries):
                yield from _wanted(entry, kind, index)

    def _check_characters(self) -> None:
        known = list(self.library.document.characters)
        cast: dict[str, None] = {}
        for wanted in self._all_wanted():
            if wanted.member.id in known:
                cast[wanted.member.id] = None
                continue
            near = difflib.get_close_matches(wanted.member.id, known, n=3, cutoff=0.4) or known[:6]
            self.faults.append(
                CharacterUnknown(
                    f"{wanted.member.id} is not in the character library",
                    fix=f"nearest names in {self.library.path.name}: {', '.join(near)}",
                    where=self.manifest.where(*wanted.place, "id", character=wanted.member.id),
                )
            )
        for id in cast:
            self._refuse_character(id)

    def _check_shots(self) -> None:
        """`shots` entries that name no clip, or name themselves badly."""
        seen: dict[str, int] = {}
        for index, shot in enumerate(self._shots):
            where = self.manifest.where("shots", index, "id", shot=shot.id)
            if shot.id.casefold() in seen:
                what = f"the shot {shot.id} is given twice in `shots`"
                self.faults.append(SubmissionInvalid(what, fix="keep one of the two entries", where=where))
            seen[shot.id.casefold()] = index
            matches = self._clips_of(shot)
            if shot.media is not None and matches:
                what = f"{shot.id} is a clip of the edit and has media of its own in `shots`"
                fix = "leave out `media` to change the clip, or give the explicit shot another id"
                self.faults.append(SubmissionInvalid(what, fix=fix, where=where))
            elif shot.media is not None and shot.id.casefold() in {clip.id.casefold() for clip in self._clips}:
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

    def _clips_of(self, shot: ShotOverride) -> list[Clip]:
        return [clip for clip in self._clips if shot.id in (clip.id, clip.name)]

    def _is_explicit(self, shot: ShotOverride) -> bool:
        return shot.media is not None and not self._clips_of(shot)

    # ------------------------------------------------------------------- one shot

    def _draft(self, clip: Clip) -> _Draft:
        """What the rules and the `shots` entry say about a clip."""
        matched: list[tuple[int, CastRule]] = []
        for index, rule in enumerate(self._rules):
            if rule.when.clip is None or not fnmatchcase(clip.name, rule.when.clip):
                continue
            if any(getattr(rule.when, condition) is not None for condition in _UNREAD_CONDITIONS):
                continue  # refused by name; whom it would match is not known
            matched.append((index, rule))
            if rule.stop:
                break
        entry = self._entry(clip)
        override = None if entry is None else self._shots[entry]
        wanted = [one for index, rule in matched for one in _wanted(rule, "cast", index)]
        rules = [(self.manifest.where("cast", index), _says(rule)) for index, rule in matched]
        skipped = clip.skipped
        if override is not None and entry is not None:
            rules.append((self.manifest.where("shots", entry), f"shot {override.id}"))
            if override.characters is not None:
                wanted = list(_wanted(override, "shots", entry))
        if skipped is None:
            skipped = self._skip(matched, override, entry)
        levels = [self.manifest.document.defaults, *(rule for _, rule in matched)]
        settings = _settled(levels[0], levels[1:], override)
        return _Draft(clip.id, clip, _first_of_each(wanted), settings, tuple(rules), skipped, override)

    def _entry(self, clip: Clip) -> int | None:
        """The `shots` entry of a clip: by its id, else by its name."""
        found = (index for key in (clip.id, clip.name) for index, shot in enumerate(self._shots) if shot.id == key)
        return next(found, None)

    def _skip(
        self, matched: Sequence[tuple[int, CastRule]], override: ShotOverride | None, entry: int | None
    ) -> str | None:
        """Why a clip is skipped; a `shots` entry that says `skip` or names characters outranks a rule."""
        if override is not None and entry is not None and override.skip:
            return f"skipped by {self.manifest.where('shots', entry)}"
        if override is not None and ("skip" in override.model_fields_set or override.characters is not None):
            return None
        by = next((index for index, rule in matched if rule.skip), None)
        return None if by is None else f"skipped by {self.manifest.where('cast', by)}"

    def _explicit(self, index: int) -> _Draft:
        """A shot that is in no edit. Rules are about clips and do not reach it."""
        shot = self._shots[index]
        where = self.manifest.where("shots", index)
        wanted = _first_of_each(_wanted(shot, "shots", index))
        settings = _settled(self.manifest.document.defaults, (), shot)
        skipped = f"skipped by {where}" if shot.skip else None
        return _Draft(shot.id, None, wanted, settings, ((where, f"shot {shot.id}"),), skipped, shot)

    def _check_members(self, rendered: Sequence[_Draft]) -> None:
        """More identities than the model tells apart, and mattes of the library this version does not read."""
        told: set[str] = set()
        for draft in rendered:
            if len(draft.wanted) > len(SLOTS):
                seventh = draft.wanted[len(SLOTS)]
                self.faults.append(
                    SubmissionInvalid(
                        f"{draft.shot} has {len(draft.wanted)} characters; {seventh.member.id} is the seventh",
                        why=f"the model tells {len(SLOTS)} identities apart, one colour each",
                        fix="split the shot, or cast fewer characters in it",
                        where=self.manifest.where(*seventh.place, shot=draft.shot, character=seventh.member.id),
                    )
                )
            for wanted in draft.wanted:
                character = self.library.document.characters.get(wanted.member.id)
                if character is None or wanted.member.matte is not None or wanted.member.id in told:
                    continue
                told.add(wanted.member.id)
                self._refuse_matte(character.matte, self.library, "characters", wanted.member.id, "matte")

    # ------------------------------------------------------------------- colours

    def _colors(self, rendered: Sequence[_Draft]) -> Mapping[str, Slot]:
        """The colour of every character of the library.

        A colour said in the library is kept, then one said in the manifest; the others get what is left, in library
        order. When all six are given out, one gets the first colour that nobody he meets has.
        """
        colors: dict[str, Slot] = {}
        characters = self.library.document.characters
        for id, character in characters.items():
            if character.slot is not None:
                colors[id] = character.slot
        for wanted in self._all_wanted():
            if wanted.member.slot is not None and wanted.member.id in characters:
                colors.setdefault(wanted.member.id, wanted.member.slot)
        for id in characters:
            if id in colors:
                continue
            taken = set(colors.values())
            if len(taken) == len(SLOTS):
                taken = {colors[other] for other in _company(id, rendered) if other in colors}
            free: list[Slot] = [slot for slot in SLOTS if slot not in taken]
            colors[id] = free[0] if free else SLOTS[0]
        return colors

    def _settle(self, draft: _Draft, colors: Mapping[str, Slot]) -> Casting:
        members = tuple(self._member(one, colors) for one in draft.wanted if one.member.id in colors)
        state: State = "skipped" if draft.skipped else "rendered" if members else "uncast"
        reason = draft.skipped or ""
        if state == "uncast":
            unknown = [one.member.id for one in draft.wanted]
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
            reason=reason,
            override=draft.override,
        )

    def _member(self, wanted: _Wanted, colors: Mapping[str, Slot]) -> Member:
        own = self.library.document.characters[wanted.member.id].matte
        return Member(
            id=wanted.member.id,
            slot=wanted.member.slot or colors[wanted.member.id],
            matte=wanted.member.matte or own,
            matte_from_manifest=wanted.member.matte is not None,
            where=self.manifest.where(*wanted.place, character=wanted.member.id),
        )

    def _check_colors(self, shot: str, members: Sequence[Member]) -> None:
        holders: dict[Slot, Member] = {}
        for member in members[: len(SLOTS)]:
            first = holders.setdefault(member.slot, member)
            if first is not member:
                free = [slot for slot in SLOTS if slot not in {one.slot for one in members}]
                self.faults.append(
                    SubmissionInvalid(
                        f"{first.id} and {member.id} both have {member.slot} in {shot}",
                        why="in a shot each character has a colour of his own; the model tells them apart by it",
                        fix=f"give one of them another `slot:` (free here: {', '.join(free)})",
                        where=member.where,
                    )
                )


def _wanted(entry: CastRule | ShotOverride, kind: str, index: int) -> Iterator[_Wanted]:
    characters = entry.characters
    if characters is None or isinstance(characters, str):
        return
    for number, member in enumerate(characters):
        yield _Wanted(member, (kind, index, "characters", number))


def _first_of_each(wanted: Iterable[_Wanted]) -> tuple[_Wanted, ...]:
    first: dict[str, _Wanted] = {}
    for one in wanted:
        first.setdefault(one.member.id, one)
    return tuple(first.values())


def _company(id: str, rendered: Sequence[_Draft]) -> set[str]:
    """Everybody a character shares a shot with."""
    shots = ({one.member.id for one in draft.wanted} for draft in rendered)
    return {other for ids in shots if id in ids for other in ids if other != id}


def _says(rule: CastRule) -> str:
    """A rule in words."""
    characters = rule.characters
    says = [characters if isinstance(characters, str) else ", ".join(member.id for member in characters)]
    settings = [key for key in Settled.model_fields if getattr(rule, key) is not None]
    says += [f"sets {', '.join(settings)}"] if settings else []
    does = "skip" if rule.skip else " and ".join(part for part in says if part)
    return f"clip '{rule.when.clip}': {does or 'nothing'}{', stop' if rule.stop else ''}"


def _settled(defaults: Settled, rules: Sequence[Settled], override: ShotOverride | None) -> Settled:
    """Defaults < rules < shot; of several rules the first that sets a setting. What is appended to prompts adds up."""
    said: dict[str, object] = {}
    outranking = [*([override] if override is not None else []), *rules, defaults]
    for key in Settled.model_fields:
        said[key] = next((value for level in outranking if (value := getattr(level, key)) is not None), None)
    appended = [level.prompt_append for level in (defaults, *rules, override) if level is not None]
    said["prompt_append"] = ", ".join(text for text in appended if text) or None
    return Settled.model_validate({key: value for key, value in said.items() if value is not None})
