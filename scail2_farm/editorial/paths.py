"""Addresses as edits write them, and the files they stand for on this machine.

Applications disagree about what a media address is: a URL, a bare path, a drive letter inside a URL, a share.
OpenTimelineIO's own reading loses drives, shares and everything after a `#` (editorial.md §2.5), so the forms are
taken apart here. Nothing is opened; whether a file or folder exists is asked only where the writing is ambiguous.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from scail2_farm.documents import PathMapping
from scail2_farm.errors import PlateMissing
from scail2_farm.frames import FramePattern, FrameRange

MOST_DIGITS = 20  # padding of a frame number; more is a mistake, and would make names of that length

MOVIES = frozenset({".mov", ".mp4", ".m4v", ".mxf", ".mkv", ".avi", ".webm", ".y4m", ".mpg", ".ts", ".braw", ".r3d"})

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_ANY_SCHEME = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+:", re.IGNORECASE)  # urn: as well
_DRIVE = re.compile(r"([A-Za-z]):(?=[\\/]|$)")
_PRINTF = re.compile(r"%(?=0[1-9]d)")  # %04d is a frame number, never the control character 0x04
_BRACKETS = re.compile(r"\[(-?\d{1,18})-(-?\d{1,18})\]")
_WIDE = re.compile(r"%0?(\d+)d|<f(\d+)>|(#+)|\[(\d+)-")


@dataclass(frozen=True, slots=True)
class Located:
    """A movie or still (`path`), or an image sequence (`pattern`, with the numbers its name gives)."""

    path: Path | None = None
    pattern: FramePattern | None = None
    frames: FrameRange | None = None


@dataclass(frozen=True, slots=True)
class _Form:
    """An address taken apart: `windows` for drives and shares, else a POSIX path; slashes forward."""

    text: str
    windows: bool = False

    @property
    def absolute(self) -> bool:
        return self.windows or self.text.startswith("/")

    @property
    def key(self) -> str:
        """What prefixes are compared by: drives and shares in any case."""
        return self.text.casefold() if self.windows else self.text


def local_path(url: str, *, folder: Path, path_map: Sequence[PathMapping] = ()) -> Path:
    """The file or folder of a written address; a relative one is taken beside `folder`, and so is a relative `to`.

    Raises PlateMissing for an address that is not on a local disk, cannot be a path, or needs a `path_map` entry.
    """
    _refuse_unwritable(url)
    scheme = _SCHEME.match(url)
    if scheme and scheme[1].lower() != "file":
        raise PlateMissing(
            f"{url} is not local",
            why=f"media is read from disks and shares; {scheme[1]} addresses are not fetched",
            fix="copy the media to a disk this machine can read and relink the clip",
        )
    if url[:5].lower() == "file:":
        return _here(_file_url(_decoded(url[5:], url)), url, folder, path_map)
    written = _here(_bare(url), url, folder, path_map)
    if "%" not in url or exists(written):
        return written
    decoded = _here(_bare(_decoded(url, url)), url, folder, path_map)
    if exists(decoded) or (exists(decoded.parent) and not exists(written.parent)):
        return decoded
    return written


def locate(url: str, *, folder: Path, path_map: Sequence[PathMapping] = ()) -> Located:
    """The movie, still or image sequence of a written address.

    `name.%04d.exr`, `name.####.exr`, `name.[1001-1099].exr` and `name.<f4>.exr` are sequences, unless a file of
    exactly that name exists or the suffix is a movie's. Raises PlateMissing as local_path does.
    """
    path = local_path(url, folder=folder, path_map=path_map)
    if path.suffix.lower() in MOVIES or exists(path):
        return Located(path=path)
    for digits in _WIDE.finditer(path.name):
        if len(digits[3] or digits[4] or "") > MOST_DIGITS or len(digits[1] or digits[2] or "") > 2:
            raise PlateMissing(f"{url} pads its frame numbers to more than {MOST_DIGITS} digits")
    pattern = FramePattern.parse(str(path))
    if pattern is None:
        return Located(path=path)
    numbers = _BRACKETS.search(path.name)
    if numbers is None:
        return Located(pattern=pattern)
    first, last = int(numbers[1]), int(numbers[2])
    if last < first:
        raise PlateMissing(f"{url} counts its frames backwards", fix=f"write [{last}-{first}]")
    return Located(pattern=pattern, frames=FrameRange.from_last(first, last))


def folder_url(folder: Path, *, beside: Path) -> str:
    """The address of a folder, with a slash at its end: relative when it lies inside `beside`, else file://."""
    folder, beside = folder.absolute(), beside.absolute()
    if folder.is_relative_to(beside) and folder != beside:
        return _plain_escapes(quote(os.fsencode(folder.relative_to(beside).as_posix()))) + "/"
    return _plain_escapes(folder.as_uri().rstrip("/")) + "/"


def is_relative(url: str) -> bool:
    """Whether an address is taken beside a folder; one that cannot be a path is not."""
    if _ANY_SCHEME.match(url):
        return False
    try:
        _refuse_unwritable(url)
        form = _file_url(_decoded(url[5:], url)) if url[:5].lower() == "file:" else _bare(url)
    except PlateMissing:
        return False
    return not form.absolute


def absolute_url(url: str, *, folder: Path) -> str:
    """The file:// address of what a relative address stands for beside `folder`.

    Where a name with percent escapes is there neither as written nor decoded, it is decoded, as in any URL. Raises
    PlateMissing for what cannot be a path.
    """
    path = local_path(url, folder=folder)
    if "%" in url and url[:5].lower() != "file:" and not exists(path):
        decoded = _here(_bare(_decoded(url, url)), url, folder, ())
        path = decoded if decoded.parent == path.parent or not exists(path.parent) else path
    return _plain_escapes(path.as_uri())


def _plain_escapes(url: str) -> str:
    """An address in which an escaped control character before a d is no frame number."""
    return re.sub("(%0[1-9])d", r"\1%64", url)


def _refuse_unwritable(url: str) -> None:
    if not url.strip():
        raise PlateMissing("the media reference has no address", fix="relink the clip and export the timeline again")
    try:
        url.encode("utf-8")
    except UnicodeEncodeError:
        raise PlateMissing(f"the address {url!r} is not valid Unicode", fix="relink the clip") from None
    if "\0" in url:
        raise PlateMissing(f"the address {url!r} holds a null character", fix="relink the clip")


def _decoded(text: str, url: str) -> str:
    try:
        decoded = unquote(_PRINTF.sub("%25", text), errors="strict")
    except UnicodeDecodeError:
        raise PlateMissing(f"the percent escapes of {url} are not UTF-8", fix="relink the clip") from None
    if "\0" in decoded:
        raise PlateMissing(f"the address {url} holds a null character", fix="relink the clip")
    return decoded


def _file_url(rest: str) -> _Form:
    """What follows `file:`, decoded."""
    if rest.lower().startswith("//localhost/"):
        rest = rest[len("//localhost") :]
    body = rest.lstrip("/")
    slashes = len(rest) - len(body)
    if _DRIVE.match(body):
        return _bare(body)
    if slashes == 2 and body.split("/", 1)[0] not in (".", ".."):
        return _bare("//" + body)
    if slashes >= 4:
        return _bare("//" + body)
    return _Form(_single("/" + body)) if slashes in (1, 3) else _bare(body)


def _bare(text: str) -> _Form:
    """A path without a scheme."""
    drive = _DRIVE.match(text)
    if drive:
        return _Form(_single(drive[1].upper() + ":/" + text[2:].replace("\\", "/").lstrip("/")), windows=True)
    if text.startswith(("\\\\", "//")):
        return _Form("//" + _single(text.replace("\\", "/").lstrip("/")), windows=True)
    if text.startswith("/"):
        return _Form(_single(text))
    return _Form(text if "/" in text else text.replace("\\", "/"))


def _single(text: str) -> str:
    return re.sub("/{2,}", "/", text)


def _here(form: _Form, url: str, folder: Path, path_map: Sequence[PathMapping]) -> Path:
    """The path of an address on this machine."""
    if not form.absolute:
        return Path(os.path.normpath(folder / form.text))
    best: tuple[int, Path] | None = None
    for mapping in path_map:
        there = _bare(mapping.from_) if mapping.from_[:5].lower() != "file:" else _file_url(mapping.from_[5:])
        prefix = there.key.rstrip("/")
        if there.windows != form.windows or not (form.key.rstrip("/") + "/").startswith(prefix + "/"):
            continue
        if best is None or len(prefix) > best[0]:
            rest = form.text[len(there.text.rstrip("/")) :].lstrip("/")
            to = Path(mapping.to)
            to = to if to.is_absolute() else Path(os.path.normpath(folder / to))
            best = len(prefix), to / rest
    if best is not None:
        return best[1]
    if form.windows:
        raise _unmapped(form, url)
    return Path(form.text)


def _unmapped(form: _Form, url: str) -> PlateMissing:
    parts = [part for part in form.text.split("/") if part]
    if form.text.startswith("//"):
        prefix = "\\\\" + "\\".join(parts[:2])
    else:
        prefix = parts[0] + "\\" + (parts[1] if len(parts) > 2 else "")
    quoted = prefix.replace("'", "''")
    return PlateMissing(
        f"{url} is a path of another machine",
        why="drive letters and shares are found here only through `path_map`",
        fix=f"add to the manifest  path_map: [{{from: '{quoted}', to: /folder/on/this/machine}}]",
    )


def exists(path: Path) -> bool:
    """Whether something is there; False for a path that cannot be one, or cannot be looked at."""
    try:
        path.stat()
    except OSError:
        return False
    return True
