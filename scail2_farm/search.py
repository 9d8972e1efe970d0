"""Offline media, found again under folders: by reel and timecode, then by name.

A cut whose media is offline (an EDL names reels and times, and no files; a project names disks of another machine)
still says what it used. The folders are walked once; of every movie and image sequence the header is read for its reel.
Only what could be a clip's media is probed. One that fits is taken, several are a fault that lists them, and none
leaves the clip as it was. Media that is where the edit says is never searched for.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

from scail2_farm.editorial.clips import Clip
from scail2_farm.editorial.rates import Time, offset
from scail2_farm.errors import ClipUnsupported, FarmError, InputError, PlateMissing, Where, storage_error
from scail2_farm.frames import FramePattern, paddings
from scail2_farm.media.plates import SUFFIXES, PlateProbe, probe
from scail2_farm.media.reels import reel_of

MOST_FILES = 500_000
LEAST_REEL = 6  # characters of a reel that another may go on from: lists cut reels to 8 or 32
NO_REELS = ("AX", "BL", "BLACK", "BARS")  # what lists write where there is no reel

_NUMBERED = re.compile(r"(.*?)(?:(?<=[._])-)?(\d+)(\.(?:exr|dpx|tiff?|png))", re.IGNORECASE)

Source = Path | FramePattern


@dataclass(frozen=True, slots=True)
class _Found:
    """A movie or sequence under the folders, its name without number and suffix, and the reel it says."""

    source: Source
    name: str
    reel: str | None

    def is_reel(self, reel: str) -> bool:
        return any(_same_reel(reel, mine) for mine in (self.reel, self.name) if mine)


@dataclass(slots=True)
class Index:
    """The media under some folders. `notes` tell what could not be read, and what nearly was a clip's media."""

    folders: Sequence[Path]
    notes: list[str] = field(default_factory=list[str])
    _found: list[_Found] = field(default_factory=list[_Found])
    _of_reel: dict[str, list[_Found]] = field(default_factory=dict[str, list[_Found]])
    _of_name: dict[str, list[_Found]] = field(default_factory=dict[str, list[_Found]])
    _there: dict[Source, bool] = field(default_factory=dict[Source, bool])
    _walked: bool = False
    _probed: dict[tuple[Source, Fraction], PlateProbe | None] = field(
        default_factory=dict[tuple[Source, Fraction], "PlateProbe | None"]
    )

    def scan(self) -> Iterator[str]:
        """Walk the folders and read the headers, saying what is looked at; run to its end before anything is asked.

        Hidden folders and our own (*.scail2) are left out. Raises PlateMissing for a folder that is not there or
        holds too much, StorageError for one that cannot be read.
        """
        files: list[Path] = []
        for folder, inside in _walk(self.folders, self.notes):
            files += inside
            if len(files) > MOST_FILES:
                what = f"there are more than {MOST_FILES} files under {', '.join(map(str, self.folders))}"
                raise PlateMissing(what, fix="search folders that are nearer to the media")
            yield str(folder)
        for source in _sources(files):
            yield str(source)
            name = source.prefix.rstrip("._- ") if isinstance(source, FramePattern) else source.stem
            try:
                reel = reel_of(source)
            except FarmError as fault:
                self.notes.append(f"left out of the search: {fault.what}")
                continue
            self._found.append(_Found(source, name, reel))
            self._of_name.setdefault(name.casefold(), []).append(self._found[-1])
        self._walked = True

    def wants(self, clip: Clip) -> bool:
        """Whether a clip's media is to be searched for: the edit names none, or none that is on this machine.

        Each address is looked at once. Raises StorageError.
        """
        if clip.fault is not None:
            return isinstance(clip.fault, PlateMissing)
        media = clip.media
        source = None if media is None else media.pattern or media.path
        if source is None:
            return False
        if source not in self._there:
            self._there[source] = bool(source.on_disk()) if isinstance(source, FramePattern) else source.exists()
        return not self._there[source]

    def relinked(self, clip: Clip) -> Clip:
        """The clip as it is, or when it `wants` media and the folders were walked, with that found.

        Raises PlateMissing when several files fit, or none.
        """
        if not self._walked or not self.wants(clip):
            return clip
        found = self.find(clip)
        if found is None:
            raise self._in_vain(clip)
        return clip.with_media(found)

    def _in_vain(self, clip: Clip) -> PlateMissing:
        """The fault of a clip whose media is not under the folders either."""
        fault, media = clip.fault, clip.media
        named = media.pattern or media.path if media is not None else None
        what = fault.what if fault is not None else f"the media {named} is not there"
        fix = fault.fix if fault is not None and "--search" not in fault.fix else _SEARCH_ELSEWHERE
        under = ", ".join(map(str, self.folders))
        return PlateMissing(
            f"{what}; not found under {under}", why=fault.why if fault else None, fix=fix, where=clip.where
        )

    def find(self, clip: Clip) -> Source | None:
        """The clip's media; None when there is nothing that could be it. Raises PlateMissing when several files fit."""
        names = _names(clip)
        reel = (clip.reel or "").strip()
        if reel and reel.upper() not in NO_REELS:
            if reel not in self._of_reel:
                self._of_reel[reel] = [found for found in self._found if found.is_reel(reel)]
            of_reel = self._of_reel[reel]
            by_reel = [found for found in of_reel if self._covers(clip, found.source, by_timecode=True)]
            if of_reel and not by_reel:
                self._tell_uncovered(clip, of_reel)
            if len(by_reel) > 1:
                by_reel = [found for found in by_reel if found.name.casefold() in names] or by_reel
            if by_reel:
                return _only(clip, by_reel, f"are of reel {reel} and cover its timecode")
        by_name = [found for name in sorted(names) for found in self._of_name.get(name, ())]
        if len(by_name) > 1:
            by_name = [found for found in by_name if self._covers(clip, found.source, by_timecode=False)] or by_name
        return _only(clip, by_name, "have its name") if by_name else None

    def _tell_uncovered(self, clip: Clip, of_reel: list[_Found]) -> None:
        """What is of the clip's reel and does not cover it; the usual reason is a list read at another rate."""
        probed = (self._probe(found.source, clip.rate) for found in of_reel)
        rates = sorted({one.rate for one in probed if one is not None and one.rate is not None} - {clip.rate})
        shown = ", ".join(str(found.source) for found in of_reel[:3])
        words = f"{clip.name or clip.id}: of its reel and not of its time, or too short: {shown}"
        if rates:
            at = ", ".join(f"{float(rate):.5g}" for rate in rates)
            words += (
                f" (at {at} frames a second; the clip is read at {float(clip.rate):.5g}, and --rate says otherwise)"
            )
        self.notes.append(words)

    def _covers(self, clip: Clip, source: Source, *, by_timecode: bool) -> bool:
        """Whether a source holds every frame the clip uses; `by_timecode`: at the times the clip says."""
        probed = self._probe(source, clip.rate)
        if probed is None:
            return False
        if by_timecode and not _has_start(clip, source, probed):
            return False
        try:
            clip.with_media(source).used(probed.frames, probed.timecode_start, missing="error")
        except PlateMissing:
            return False
        except ClipUnsupported:
            return True  # the media is found; the clip's own fault is told by whoever renders it
        return True

    def _probe(self, source: Source, rate: Fraction) -> PlateProbe | None:
        if (source, rate) not in self._probed:
            try:
                self._probed[source, rate] = probe(source, rate=rate)
            except InputError as fault:
                self.notes.append(f"left out of the search: {fault.what}")
                self._probed[source, rate] = None
        return self._probed[source, rate]


_SEARCH_ELSEWHERE = "search the folder that holds it, or relink the clip and export the timeline again"


def _has_start(clip: Clip, source: Source, probed: PlateProbe) -> bool:
    """Whether the first frame the clip uses is in the media by its timecode, or by its file numbers without one."""
    if clip.source_start is None:
        return False
    rate = probed.rate or clip.rate
    if probed.timecode_start is not None:
        position = offset(clip.source_start, Time(Fraction(probed.timecode_start), rate))
        return 0 <= round(position) < probed.frames.count
    return (
        isinstance(source, FramePattern) and round(offset(clip.source_start, Time(Fraction(0), rate))) in probed.frames
    )


def _only(clip: Clip, candidates: list[_Found], words: str) -> Source:
    if len(candidates) == 1:
        return candidates[0].source
    shown = ", ".join(str(found.source) for found in candidates[:6])
    more = f" and {len(candidates) - 6} more" if len(candidates) > 6 else ""
    raise PlateMissing(
        f"{len(candidates)} sources under the searched folders {words}: {shown}{more}",
        why="media is never chosen by guessing",
        fix="search a folder that holds only one of them, or relink the clip",
        where=clip.where,
    )


# --------------------------------------------------------------------------- names


def _plain(reel: str) -> str:
    """A reel as lists leave it: upper case, no punctuation."""
    return re.sub(r"[\W_]+", "", reel.upper())


def _same_reel(one: str, other: str) -> bool:
    """Whether two reels are one, though either may be cut short."""
    short, long = sorted((_plain(one), _plain(other)), key=len)
    return bool(short) and (short == long or (len(short) >= LEAST_REEL and long.startswith(short)))


def _names(clip: Clip) -> set[str]:
    """The names the clip's media could have, without number and suffix, in lower case."""
    written = [clip.name]
    if clip.media is not None and clip.media.url:
        written.append(re.split(r"[\\/]", clip.media.url)[-1])
    written += _source_files(clip)
    names: set[str] = set()
    for name in written:
        pattern = FramePattern.parse(name)
        numbered = _NUMBERED.fullmatch(name)
        names.add(name)
        if _is_media(name):
            names.add(name.rpartition(".")[0])
        if pattern is not None:
            names.add(pattern.prefix.rstrip("._- "))
        elif numbered is not None:
            names.add(numbered[1].rstrip("._- "))
    return {name.casefold() for name in names if name}


def _source_files(clip: Clip) -> Iterator[str]:
    """The files an EDL names in remarks beside an event (* SOURCE FILE: A001C002_180830_R0AB)."""
    said = clip.metadata.get("cmx_3600")
    remarks = cast("dict[str, object]", said).get("comments") if isinstance(said, dict) else None
    for remark in cast("list[object]", remarks) if isinstance(remarks, list) else []:
        match = re.match(r"SOURCE FILE:\s*(\S.*)", str(remark))
        if match is not None:
            yield match[1]


# --------------------------------------------------------------------------- folders


def _walk(folders: Iterable[Path], notes: list[str]) -> Iterator[tuple[Path, list[Path]]]:
    """Every folder once, in order of name, with the movies and EXR files in it."""
    seen: set[tuple[int, int]] = set()
    for top in folders:
        if not top.is_dir():
            what = f"{top} is a file, and folders are searched" if top.exists() else f"the folder {top} is not there"
            raise PlateMissing(what, fix="correct --search DIR", where=Where(file=str(top)))
        waiting = [top.absolute()]
        while waiting:
            folder = waiting.pop()
            try:
                identity = folder.stat()
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
                inside = [entry for entry in entries if not entry.name.startswith(".")]
                below = [Path(entry.path) for entry in inside if entry.is_dir() and not entry.name.endswith(".scail2")]
                files = [Path(entry.path) for entry in inside if _is_media(entry.name) and entry.is_file()]
            except OSError as error:
                if folder == top.absolute():
                    raise storage_error(error, folder) from error
                notes.append(f"left out of the search: {folder}: {error.strerror}")
                continue
            if (identity.st_dev, identity.st_ino) in seen:
                continue  # a link back, or one folder under two names
            seen.add((identity.st_dev, identity.st_ino))
            yield folder, files
            waiting += reversed(below)


def _is_media(name: str) -> bool:
    return name.lower().endswith(tuple(SUFFIXES))


def _sources(files: Iterable[Path]) -> Iterator[Source]:
    """Movies as they are, numbered frames as sequences; in the order of `files`."""
    sequences: dict[tuple[Path, str, str], list[str]] = defaultdict(list)
    movies: list[Path] = []
    for path in files:
        match = _NUMBERED.fullmatch(path.name)
        if match is not None:
            sequences[path.parent, match[1], match[3]].append(match[2])
        elif SUFFIXES.get(path.suffix.lower()) == "movie":
            movies.append(path)
    yield from movies
    for (folder, prefix, suffix), numbers in sequences.items():
        for padding in paddings(numbers):
            yield FramePattern(folder, prefix, padding, suffix)
