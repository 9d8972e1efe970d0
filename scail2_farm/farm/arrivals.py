"""What lies in the inbox, and whether each file of it is all there (farm.md §7, rules 2 to 4).

Proofs, the strongest first. (A) A sidecar written last, FILE.sha256 or FILE.ready, and the content is what it says.
(B) The file was seen under a temporary name and was renamed: one more unchanged look. (C) Size, times and file number
equal over four looks and the settling time, and then it must parse in full: a copy may stall for longer than any
window. Lists and YAML parse when they are cut short, so without a line end at their end they settle three times as
long; what that lets through (a cut between two lines) only planning can see, which holds cut and manifest against each
other. Time is the monotonic clock's; the times of files are only compared with themselves, as clocks of shares differ.

A file is hashed and parsed once for each version of it, told by its stat.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, cast

from scail2_farm.documents import Fault, ShotManifest, load_document
from scail2_farm.errors import FarmError, StorageError, SubmissionInvalid, Where
from scail2_farm.farm.host import Clock

LOOKS = 4
SETTLE_S, SETTLE_NETWORK_S = 20.0, 60.0
CUT_SHORT = 3  # times as long for text without a line end at its end
MISMATCH_S = 60.0
UNPARSED_S = 600.0
SMALL_BYTES = 64 << 20  # hashed against its sidecar on every change; what is larger only once it stands still
MOST_SIDECAR_BYTES = 8 << 20
CHUNK = 1 << 20

SIDECARS = (".sha256", ".ready")
MANIFESTS = (".shots.yaml", ".shots.yml", ".shots.json")
TEMPORARY = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".inprogress", ".hlock", ".lock")
JUNK = frozenset({"icon\r", "thumbs.db", "desktop.ini", "rejected.txt"})  # the last is our own receipt, dragged along
SILENT = frozenset({".edl", ".yaml", ".yml"})  # these parse when they are cut short
ALIAS = b"book\0\0\0\0mark"  # a Finder alias begins so

Kind = Literal["edit", "manifest", "sidecar", "link", "folder", "odd", "other"]
Stamp = tuple[int, ...]
"""Size, mtime_ns, ctime_ns, file number; of a folder: bytes, a hash over those of all that is in it, its number."""


# --------------------------------------------------------------------------- names


def shown(name: str) -> str:
    """A file's name as sentences and documents can hold it: one line, valid UTF-8."""
    if name.isprintable():
        return name
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def same(name: str) -> str:
    """What two names have in common that some file system holds for one: NFC, and no case."""
    return unicodedata.normalize("NFC", name).casefold()


def drop_name(name: str) -> str:
    """What a drop is called: the file's stem in NFC, without the marks of a manifest or a returned cut."""
    stem = Path(name).stem
    for mark in (".shots", ".scail2"):
        stem = stem[: -len(mark)] if stem.lower().endswith(mark) else stem
    return shown(unicodedata.normalize("NFC", stem))


def ignored(name: str) -> bool:
    """Whether a name is that of a file under way, of a lock, or of what file managers leave behind."""
    low = name.lower()
    return name.startswith((".", "~")) or low in JUNK or low.endswith(TEMPORARY)


# --------------------------------------------------------------------------- content


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a file or a folder holds: `parts` are the digests by path inside a folder, "" of a file."""

    sha256: str
    parts: Mapping[str, str]
    line_end: bool = True


def content_of(path: Path) -> Content:
    """Read a file, or every file of a folder, without following links.

    Raises OSError.
    """
    if not stat.S_ISDIR(path.lstat().st_mode):
        sha256, line_end = _hashed(path)
        return Content(sha256=sha256, parts={"": sha256}, line_end=line_end)
    parts: dict[str, str] = {}
    for inside, found in _tree(path):
        if stat.S_ISLNK(found.st_mode):
            parts[inside] = hashlib.sha256(os.fsencode((path / inside).readlink())).hexdigest()
        else:
            parts[inside] = _hashed(path / inside)[0]
    lines = "".join(f"{digest}  {inside}\n" for inside, digest in parts.items())
    return Content(sha256=hashlib.sha256(os.fsencode(lines)).hexdigest(), parts=parts)


def _hashed(path: Path) -> tuple[str, bool]:
    """The sha256 of a file, and whether it ends with a line end. Raises OSError."""
    digest, last = hashlib.sha256(), b""
    with _opened(path) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            last = chunk[-1:]
    return digest.hexdigest(), last in (b"\n", b"\r")


def _opened(path: Path) -> FileIO:
    """A file to read from; a pipe or a link that took its place is an OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    file = os.fdopen(descriptor, "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError(f"{path.name} is no file")
    return file


def _tree(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file and link in a folder by its path inside, in order; what file managers leave is passed over.

    Raises OSError.
    """

    def fail(error: OSError) -> None:
        raise error

    for where, folders, files in os.walk(folder, onerror=fail):
        folders.sort()
        linked = [name for name in folders if (Path(where) / name).is_symlink()]
        for name in sorted([*files, *linked]):
            if not name.startswith(".") and name.lower() not in JUNK:
                path = Path(where) / name
                yield path.relative_to(folder).as_posix(), path.lstat()


# --------------------------------------------------------------------------- sidecars

_VOUCHED = re.compile(r"(?:([0-9]{1,18})\s+)?(\\?)([0-9a-fA-F]{64})(?:\s+\*?(.+))?")


def vouched(text: str, target: str) -> dict[str, tuple[int | None, str]]:
    """What a sidecar says of its target: size, if it does, and sha256, by path inside a folder, "" of a file.

    It is what `sha256sum` prints, `SIZE SHA256`, or JSON with `sha256` and `size`. Lines about other files say nothing.
    """
    if text.lstrip().startswith("{"):
        return _vouched_json(text)
    said: dict[str, tuple[int | None, str]] = {}
    wanted = unicodedata.normalize("NFC", target)
    for line in text.splitlines():
        match = _VOUCHED.fullmatch(line.strip())
        if match is None:
            continue
        size, escaped, digest, name = match.groups()
        inside = "" if name is None else _inside(_unescaped(name) if escaped else name, wanted)
        if inside is not None:
            said[inside] = (int(size) if size else None, digest.lower())
    return said


def _vouched_json(text: str) -> dict[str, tuple[int | None, str]]:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    told = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    digest, size = told.get("sha256"), told.get("size")
    if not isinstance(digest, str) or re.fullmatch("[0-9a-fA-F]{64}", digest) is None:
        return {}
    return {"": (size if isinstance(size, int) else None, digest.lower())}


def _unescaped(name: str) -> str:
    return re.sub(r"\\([\\nr])", lambda match: {"\\": "\\", "n": "\n", "r": "\r"}[match[1]], name)


def _inside(name: str, target: str) -> str | None:
    """The path inside the target that a line of a sidecar is about; None when it is about another file."""
    steps = unicodedata.normalize("NFC", name).split("/")
    if target not in steps:
        return None
    return "/".join(steps[steps.index(target) + 1 :])


# --------------------------------------------------------------------------- arrivals


@dataclass(slots=True, kw_only=True)
class Arrival:
    """One version of a name in the inbox: since when and over how many looks it stands, and what it holds.

    `drop` is what the drop it belongs to is called; `since` is monotonic, `changed` the same moment in UTC seconds;
    `faults` is what parsing came to, None before; `document` what a manifest says, `said` what a sidecar says.
    """

    name: str
    drop: str
    kind: Kind
    stamp: Stamp
    since: float
    changed: float
    first_seen: float
    renamed_in: bool
    looks: int = 1
    content: Content | None = None
    faults: tuple[Fault, ...] | None = None
    document: ShotManifest | None = None
    said: Mapping[str, tuple[int | None, str]] | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stamp[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an arrival is: complete; `unfit` for the faults given; or else what it waits for, in a sentence."""

    state: Literal["complete", "unfit", "arriving", "waiting", "ignored"]
    why: str = ""
    faults: tuple[Fault, ...] = ()


COMPLETE = Verdict(state="complete")


class Inbox:
    """One flat folder, looked at again and again; folders in it, links and what is ignored are never entered."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock,
        settle_s: float,
        suffixes: Collection[str],
        unreadable: Callable[[Path], FarmError | None],
    ):
        self.folder = folder
        self._clock, self._settle_s, self._suffixes, self._unreadable = clock, settle_s, suffixes, unreadable
        self._here: dict[str, Arrival] = {}
        self._sidecars: dict[str, list[Arrival]] = {}
        self._temporary: dict[int, tuple[str, int]] = {}
        self._forgotten: SimpleQueue[str] = SimpleQueue()

    def __iter__(self) -> Iterator[Arrival]:
        """Everything that is there but sidecars, in the order it came."""
        return (one for one in self._here.values() if one.kind != "sidecar")

    def sidecars(self, name: str) -> list[Arrival]:
        """The sidecars of a file, whether it is there or not."""
        return self._sidecars.get(name, [])

    def lonely(self) -> Iterator[tuple[str, Arrival]]:
        """Sidecars of files that are not there, with the names of those files."""
        return ((name, one) for name, found in self._sidecars.items() if name not in self._here for one in found)

    def forget(self, name: str) -> None:
        """Take what lies here under a name for new at the next look; may be called from any thread."""
        self._forgotten.put(name)

    # ----------------------------------------------------------------------- looking

    def look(self) -> None:
        """See what is there now.

        Raises OSError.
        """
        found: dict[str, os.stat_result] = {}
        temporary: dict[int, tuple[str, int]] = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if ignored(entry.name):
                    temporary[status.st_ino] = (entry.name, status.st_size)
                else:
                    found[entry.name] = status
        while not self._forgotten.empty():
            self._here.pop(self._forgotten.get(), None)
        came = sorted(found.keys() - self._here.keys())
        stayed = [name for name in self._here if name in found]
        self._temporary = {number: was for number, was in self._temporary.items() if number not in temporary}
        self._here = {name: self._seen(name, found[name]) for name in (*stayed, *came)}
        self._temporary = temporary
        self._attach()

    def _seen(self, name: str, status: os.stat_result) -> Arrival:
        """The version of a name that is there: the one known, looked at once more, or a new one."""
        known = self._here.get(name)
        stamp = self._stamp(name, status)
        if known is not None and known.stamp == stamp:
            known.looks += 1
            return known
        renamed = (known is None or known.stamp[-1] != stamp[-1]) and self._was_temporary(name, status)
        kind, wall = self._kind(name, status.st_mode), self._clock.wall()
        return Arrival(
            name=name,
            drop=drop_name(name) if kind in ("edit", "manifest") else shown(name),
            kind=kind,
            stamp=stamp,
            since=self._clock.monotonic(),
            changed=wall,
            first_seen=wall if known is None else known.first_seen,
            renamed_in=renamed,
        )

    def _was_temporary(self, name: str, status: os.stat_result) -> bool:
        """Whether this very file lay here under a temporary name made of its own.

        File systems use file numbers again: one that is smaller than it was is another.
        """
        before = self._temporary.get(status.st_ino)
        return before is not None and name in before[0] and status.st_size >= before[1]

    def _kind(self, name: str, mode: int) -> Kind:
        low = name.lower()
        if stat.S_ISLNK(mode):
            return "link"
        known = low.endswith(tuple(self._suffixes))
        if stat.S_ISDIR(mode):
            return "edit" if known else "folder"
        if not stat.S_ISREG(mode):
            return "odd"
        if not _is_text(name):
            return "other"
        if low.endswith(SIDECARS):
            return "sidecar"
        return "manifest" if low.endswith(MANIFESTS) else "edit" if known else "other"

    def _stamp(self, name: str, status: os.stat_result) -> Stamp:
        if not stat.S_ISDIR(status.st_mode):
            return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
        if self._kind(name, status.st_mode) == "folder":
            return 0, status.st_ino
        try:
            inside = [
                (path, one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino)
                for path, one in _tree(self.folder / name)
            ]
        except OSError as error:
            return 1, hash(str(error)), status.st_ino  # told when it is read
        return sum(one[1] for one in inside), hash(tuple(inside)), status.st_ino

    def _attach(self) -> None:
        """Every sidecar to its file; a file whose name another file system would hold for the same is the next best."""
        self._sidecars = {}
        alike: dict[str, list[str]] | None = None
        for one in self._here.values():
            if one.kind != "sidecar":
                continue
            target = one.name.rpartition(".")[0]
            if target not in self._here:
                if alike is None:
                    alike = {}
                    for name in self._here:
                        alike.setdefault(same(name), []).append(name)
                found = alike.get(same(target), [])
                target = found[0] if len(found) == 1 else target
            self._sidecars.setdefault(target, []).append(one)

    # ----------------------------------------------------------------------- judging

    def judge(self, one: Arrival) -> Verdict:
        """Whether an arrival is all there."""
        name = shown(one.name)
        if one.kind == "link":
            return _ignored(f"{name} is a link, which is not followed: put the file itself here")
        if one.kind == "folder":
            return _ignored(f"{name} is a folder; folders are not looked into: put its files here, not the folder")
        if one.kind == "odd":
            return _ignored(f"{name} is no file")
        if one.size == 0:
            return _arriving(f"{name} is empty so far")
        try:
            sidecars = self.sidecars(one.name)
            return self._vouched(one, sidecars) if sidecars else self._settled(one)
        except FileNotFoundError:
            return _arriving(f"{name} was moved while it was looked at")
        except PermissionError as error:
            fix = f"give the user the farm runs as the right to read it (chmod a+rX {name})"
            return Verdict(state="waiting", why=f"{name} cannot be read ({error.strerror}): {fix}")
        except OSError as error:
            return Verdict(state="waiting", why=f"{name} cannot be read now ({error.strerror or error})")
        except StorageError as fault:
            return Verdict(
                state="waiting", why=f"{name} cannot be read now ({fault.what}); it is tried again by itself"
            )

    def _vouched(self, one: Arrival, sidecars: list[Arrival]) -> Verdict:
        """By what its sidecars say."""
        name = shown(one.name)
        for sidecar in sidecars:
            beside = shown(sidecar.name)
            if sidecar.said is None:
                sidecar.said = vouched(_text(self.folder / sidecar.name), one.name)
            said = sidecar.said
            if not said:
                why = f"{beside} holds no sha256 of {name}"
                fix = f"write it anew: sha256sum {name} > {beside}; or leave it out"
                return self._mismatch(one, sidecar, why, fix)
            size = said.get("", (None, ""))[0]
            if size not in (None, one.size):
                why = f"{name} has {one.size} bytes, and {beside} says {size}"
                return self._mismatch(one, sidecar, why, "copy it again, and its sidecar after it")
            if one.content is None and one.size > SMALL_BYTES and one.looks < 2:
                return _arriving(f"{name} is arriving: it is compared with {beside} once it stands still")
            content = self._content(one)
            if content is None:
                return _arriving(f"{name} changed while it was read")
            if {inside: digest for inside, (_, digest) in said.items()} != content.parts:
                why = f"{name} is not what {beside} says"
                return self._mismatch(one, sidecar, why, "copy it again, and its sidecar after it")
        faults = self._parse(one) if one.kind == "manifest" else ()
        return Verdict(state="unfit", faults=faults) if faults else COMPLETE

    def _mismatch(self, one: Arrival, sidecar: Arrival, what: str, fix: str) -> Verdict:
        last = max(one, sidecar, key=lambda either: either.since)
        if self._clock.monotonic() - last.since < MISMATCH_S:
            return _arriving(
                f"{what} (yet): rejected at {_time(last.changed + MISMATCH_S)} unless one of the two changes"
            )
        why = "what a sidecar vouches for is taken only when it is exactly that"
        return _unfit(SubmissionInvalid(what, why=why, fix=fix, where=Where(file=one.name)))

    def _settled(self, one: Arrival) -> Verdict:
        """By a rename, or by standing still and parsing in full."""
        name, path = shown(one.name), self.folder / one.name
        quiet = self._clock.monotonic() - one.since
        renamed = one.renamed_in and one.looks >= 2
        if not renamed and (one.looks < LOOKS or quiet < self._settle_s):
            sooner = f"; at once with {name}.sha256 beside it" if one.kind != "other" else ""
            return _arriving(f"{name} is arriving: taken when nothing of it changes for {self._settle_s:g} s{sooner}")
        if one.kind == "other":
            return self._other(one)
        if one.content is None and _is_alias(path):
            return _ignored(f"{name} is an alias, which is not followed: put the file itself here")
        content = self._content(one)
        if content is None:
            return _arriving(f"{name} changed while it was read")
        cut_short = path.suffix.lower() in SILENT and not content.line_end
        if cut_short and not renamed and quiet < CUT_SHORT * self._settle_s:
            long = f"taken when nothing of it changes for {CUT_SHORT * self._settle_s:g} s"
            return _arriving(f"{name} does not end with a line end and may be cut short: {long}")
        faults = self._parse(one)
        if not faults:
            return COMPLETE
        if renamed or quiet >= UNPARSED_S:
            return Verdict(state="unfit", faults=faults)
        return _arriving(
            f"{name} cannot be read whole, perhaps because it is still being copied: {_said(faults[0])}. Rejected at "
            f"{_time(one.changed + UNPARSED_S)} unless it changes. Otherwise: {faults[0].fix}"
        )

    def _content(self, one: Arrival) -> Content | None:
        """What an arrival holds, read once for each version; None when it changed meanwhile. Raises OSError."""
        if one.content is None:
            path = self.folder / one.name
            content = content_of(path)
            if self._stamp(one.name, path.lstat()) != one.stamp:
                return None
            one.content = content
        return one.content

    def _parse(self, one: Arrival) -> tuple[Fault, ...]:
        """What keeps an edit or a manifest from being read whole, asked once for each version of it.

        A manifest with keys that are not known is whole: planning tells them with all else. Raises StorageError when
        that cannot be known now.
        """
        if one.faults is not None:
            return one.faults
        path = self.folder / one.name
        if one.kind == "manifest":
            loaded, found = load_document(path, ShotManifest)
            one.document = None if loaded is None else loaded.document
            found = [] if loaded is not None else found
        else:
            fault = self._unreadable(path)
            found = [] if fault is None else [fault]
        for fault in found:
            if isinstance(fault, StorageError):
                raise fault  # of the moment, not of the file
        one.faults = tuple(Fault.of(fault) for fault in found)
        return one.faults

    def _other(self, one: Arrival) -> Verdict:
        """What is neither a cut nor a manifest nor a sidecar. Raises OSError, StorageError."""
        name, low = shown(one.name), one.name.lower()
        if not _is_text(one.name):
            fix = "rename it (letters of any language are fine, but not this encoding) and put it here again"
            return _unfit(SubmissionInvalid(f"the name {name} is not UTF-8 text", fix=fix, where=Where(file=name)))
        if low.endswith((".yaml", ".yml")):
            return _unfit(
                SubmissionInvalid(
                    f"{name} is not called like a manifest",
                    why="a manifest is called like its cut: NAME.shots.yaml for NAME.otio; no other YAML is taken",
                    fix="rename a manifest so; a character library stays where it is: the manifest names it in "
                    "`characters:` with its whole path, or beside `source_dir`",
                    where=Where(file=name),
                )
            )
        if _is_alias(self.folder / one.name):
            return _ignored(f"{name} is an alias, which is not followed: put the file itself here")
        kinds = ", ".join(sorted(self._suffixes))
        fault = self._unreadable(self.folder / one.name) or SubmissionInvalid(
            f"{name} is neither a cut nor a manifest",
            why="an inbox is for cuts and their manifests; media stays where it is",
            fix=f"put a cut here ({kinds}) and its manifest, NAME.shots.yaml",
            where=Where(file=name),
        )
        return _unfit(fault)


def _time(wall: float) -> str:
    """The time of day of an instant in UTC seconds."""
    return datetime.fromtimestamp(wall, UTC).strftime("%H:%M:%S UTC")


def _said(fault: Fault) -> str:
    """What is wrong, and in which line."""
    line = fault.where.get("line")
    return fault.what if line is None else f"{fault.what} (line {line})"


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_alias(path: Path) -> bool:
    if path.is_dir():
        return False
    with _opened(path) as file:
        return file.read(len(ALIAS)) == ALIAS


def _text(sidecar: Path) -> str:
    with _opened(sidecar) as file:
        return file.read(MOST_SIDECAR_BYTES).decode("utf-8-sig", "replace")


def _arriving(why: str) -> Verdict:
    return Verdict(state="arriving", why=why)


def _ignored(why: str) -> Verdict:
    return Verdict(state="ignored", why=why)


def _unfit(fault: FarmError) -> Verdict:
    return Verdict(state="unfit", faults=(Fault.of(fault),))
