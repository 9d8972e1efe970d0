"""OTIO bundles: a cut with its media, in a folder (.otiod) or a zip file (.otioz).

Read here and not by OpenTimelineIO, whose 0.18 leaves image sequences out of bundles and says nothing (editorial.md
§1). The cut is returned beside the bundle, so the addresses that lie inside it are written anew from there; the media
of a zip file is unpacked into the submission's own folder first.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from scail2_farm.documents import written_whole
from scail2_farm.editorial.otiojson import Node, parse, unreadable
from scail2_farm.errors import DiskFull, FarmError, TimelineUnreadable, Where, storage_error

CONTENT = "content.otio"
MOST_CONTENT_BYTES = 1 << 30
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]+://|file:", re.IGNORECASE)


def read_folder(path: Path) -> tuple[Node, tuple[str, ...]]:
    """The cut of an .otiod folder, its media addressed from beside the folder.

    Raises TimelineUnreadable, StorageError.
    """
    if not path.is_dir():
        raise unreadable(f"{path.name} is a file; an .otiod bundle is a folder", path)
    content = path / CONTENT
    if not content.is_file():
        raise unreadable(f"{path.name} holds no {CONTENT}", path, fix="export the bundle again")
    document = parse(content)
    try:
        inside = {found.relative_to(path).as_posix() for found in path.rglob("*") if found.is_file()}
    except OSError as error:
        raise storage_error(error, path) from error
    prefix = quote(path.name) + "/"
    left_out = _rebase(document, inside, lambda address: prefix + address)
    return document, _notes(path, left_out)


def read_zip(path: Path) -> tuple[Node, tuple[str, ...]]:
    """The cut of an .otioz file; the media it refers to is unpacked into NAME.scail2/media, unless it is there.

    Raises TimelineUnreadable, StorageError.
    """
    try:
        with zipfile.ZipFile(path) as bundle:
            members = _members(bundle, path)
            document = _content(bundle, members, path)
            folder = path.absolute().with_suffix(".scail2")
            prefix = quote(folder.name) + "/media/"
            wanted: set[str] = set()
            left_out = _rebase(document, members, lambda address: prefix + _in_media(address), wanted)
            _unpack(bundle, [members[name] for name in sorted(wanted)], folder / "media", path)
    except FarmError:
        raise
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise unreadable(f"{path.name} is no whole zip file: {str(error)[:200]}", path) from None
    except OSError as error:
        raise storage_error(error, path) from error
    return document, _notes(path, left_out)


def _members(bundle: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The files of a zip by name; raises for one that would be written elsewhere."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in bundle.infolist():
        if _ABSOLUTE.match(member.filename) or ".." in re.split(r"[/\\]", member.filename):
            what = f"{path.name} holds {member.filename[:80]!r}, which lies outside the bundle"
            raise unreadable(what, path, fix="do not trust this file; export the bundle again")
        if member.flag_bits & 1:
            raise unreadable(f"{path.name} is encrypted", path, fix="export the bundle without a password")
        if not member.is_dir():
            members[member.filename] = member
    return members


def _content(bundle: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], path: Path) -> Node:
    member = members.get(CONTENT)
    if member is None:
        raise unreadable(f"{path.name} holds no {CONTENT}", path, fix="export the bundle again")
    if member.file_size > MOST_CONTENT_BYTES:
        raise unreadable(f"the {CONTENT} in {path.name} would be {member.file_size >> 20} MB", path)
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / CONTENT
        unpacked.write_bytes(bundle.read(member))
        try:
            return parse(unpacked)
        except TimelineUnreadable as fault:
            fault.where = Where(file=str(path), line=fault.where.line)
            raise


def _in_media(address: str) -> str:
    """Where under the unpacked media a file of the bundle lies; what was beside `media` goes into a folder apart."""
    return address.removeprefix("media/") if address.startswith("media/") else f"_/{address}"


def _unpack(bundle: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path, path: Path) -> None:
    """Write the members that are not there yet, each whole; the room is asked for first."""
    targets = [(member, folder / _in_media(member.filename)) for member in members]
    missing = [(member, to) for member, to in targets if not to.is_file() or to.stat().st_size != member.file_size]
    needed = sum(member.file_size for member, _ in missing)
    free = shutil.disk_usage(path.absolute().parent).free
    if needed > free:
        what = f"the media in {path.name} takes {needed / 1e9:.1f} GB, {folder.parent.parent} has {free / 1e9:.1f} GB"
        raise DiskFull(what, where=Where(file=str(path)))
    for member, target in missing:
        target.parent.mkdir(parents=True, exist_ok=True)
        with bundle.open(member) as source, written_whole(target) as part, part.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)


# --------------------------------------------------------------------------- addresses


def _references(node: Any) -> Iterator[Node]:
    """Every media reference with an address."""
    if isinstance(node, list):
        for child in node:
            yield from _references(child)
    elif isinstance(node, dict):
        if str(node.get("OTIO_SCHEMA")).partition(".")[0] in ("ExternalReference", "ImageSequenceReference"):
            yield node
        for key, child in node.items():
            if key != "metadata":
                yield from _references(child)


def _rebase(
    document: Node, inside: Iterable[str], rebased: Callable[[str], str], wanted: set[str] | None = None
) -> list[str]:
    """Write the addresses that are relative to the bundle anew; returns those of which nothing is inside.

    `wanted` collects the files referred to.
    """
    names = sorted(inside)
    known = set(names)
    left_out: dict[str, None] = {}
    for reference in _references(document):
        sequence = str(reference["OTIO_SCHEMA"]).startswith("ImageSequenceReference")
        key = "target_url_base" if sequence else "target_url"
        written = reference.get(key)
        if not isinstance(written, str) or _ABSOLUTE.match(written) or not (written or sequence):
            continue
        address = posixpath.normpath(written.replace("\\", "/")) if written else ""
        if address == ".." or address.startswith("../"):
            continue  # beside the bundle, as written
        address = "" if address == "." else address
        found = _frames(reference, address, names) if sequence else _file(address, known)
        if not found:
            left_out[written or str(reference.get("name_prefix"))] = None
        if wanted is not None:
            wanted.update(found)
        reference[key] = rebased(address + "/" if sequence and address else address)
    return list(left_out)


def _file(address: str, known: set[str]) -> list[str]:
    return next(([name] for name in (address, unquote(address)) if name in known), [])


def _frames(reference: Node, address: str, names: list[str]) -> list[str]:
    """The files of an image sequence that are in a bundle."""
    prefix, suffix = str(reference.get("name_prefix") or ""), str(reference.get("name_suffix") or "")
    for base in dict.fromkeys((address, unquote(address))):
        start = posixpath.join(base, prefix)
        number = re.compile(re.escape(start) + r"-?\d+" + re.escape(suffix))
        found = [name for name in names if number.fullmatch(name)]
        if found:
            return found
    return []


def _notes(path: Path, left_out: list[str]) -> tuple[str, ...]:
    if not left_out:
        return ()
    shown = ", ".join(left_out[:5]) + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else "")
    return (f"{path.name} does not hold the media {shown} (OpenTimelineIO 0.18 leaves image sequences out)",)
