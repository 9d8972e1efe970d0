"""Asking a running farm: a request is a file in its folder, the answer is another.

Files, and not a socket: a socket's path is too long for many show folders, does not cross a share, and the files are
the one interface that everything else here has. A request that nobody answered is taken back, so that it is never
done later by surprise.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from scail2_farm.documents import Reply, Request, Submission, document_text, read_document, write_text
from scail2_farm.errors import FarmNotRunning, SubmissionInvalid, Where, storage_error
from scail2_farm.farm.host import boot_id, iso, process_start
from scail2_farm.farm.places import POLLS_TO_DIE, SUBMISSION, replies_of, requests_of, submitted_of, watcher_of

_WATCHER = TypeAdapter(dict[str, object])
ASKED_AGAIN_EVERY_S = 0.02
LOOKED_EVERY_S = 0.5
ANSWERED_WITHIN_S = 30.0
BEATS_WITHIN_S = 60.0
"""A farm that has not beaten for so long is taken for gone, unless it answers."""


def ask(root: Path, request: Request, *, within_s: float = ANSWERED_WITHIN_S) -> Reply:
    """The farm's answer to a request.

    Raises FarmNotRunning when there is none in time, and StorageError.
    """
    if not requests_of(root).is_dir():
        raise FarmNotRunning(
            f"there is no farm in {root}",
            fix=f"start one with `scail2-farm up {root}`, or name the folder of one with --farm",
            where=Where(file=str(root)),
        )
    name = f"{uuid.uuid4().hex}.json"
    asked, answer = requests_of(root) / name, replies_of(root) / name
    write_text(asked, document_text(request))
    looked, until = float("-inf"), time.monotonic() + within_s
    while (now := time.monotonic()) < until:
        if answer.is_file():
            reply = read_document(answer, Reply)
            answer.unlink(missing_ok=True)
            return reply
        if now - looked >= LOOKED_EVERY_S:
            looked = now
            if not _beats(root) and not answer.is_file():
                break
        time.sleep(ASKED_AGAIN_EVERY_S)
    try:
        asked.unlink()
    except FileNotFoundError:
        what = f"the farm in {root} took the request but has not answered in {within_s:.0f} s"
        raise FarmNotRunning(
            what, fix="look at its terminal or log, then ask again", where=Where(file=str(root))
        ) from None
    except OSError as error:
        raise storage_error(error, asked) from error
    if _beats(root):
        raise FarmNotRunning(
            f"the farm in {root} is there and has not answered in {within_s:.0f} s; the request was taken back",
            why="its process is stopped, or has more to do than it can",
            fix="look at its terminal or log, then ask again",
            where=Where(file=str(root)),
        )
    raise FarmNotRunning(
        f"no farm is running in {root}{_last_seen(root)}",
        fix=f"start it with `scail2-farm up {root}`",
        where=Where(file=str(root)),
    )


def bring(root: Path, submission: Submission) -> str:
    """Copy an edit and its manifest into a farm, whole or not at all; the name by which it is asked for.

    Raises StorageError.
    """
    name = uuid.uuid4().hex
    folder = submitted_of(root) / name
    part = folder.with_name(f"{name}.part")
    try:
        part.mkdir(parents=True)
        for path in (submission.edit, submission.manifest):
            if path is not None and Path(path).is_dir():
                shutil.copytree(path, part / Path(path).name)
            elif path is not None:
                shutil.copyfile(path, part / Path(path).name)
        write_text(part / SUBMISSION, document_text(submission))
        part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise storage_error(error, part) from error
    return name


class Desk:
    """The daemon's side: requests as they come, each answered once."""

    def __init__(self, root: Path):
        self._requests, self._replies = requests_of(root), replies_of(root)
        self._looked_at = 0
        for folder in (self._requests, self._replies):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def knocked(self) -> bool:
        """Whether something was put there since the last look, as far as its folder says; costs next to nothing."""
        return self._changed() != self._looked_at

    def _changed(self) -> int:
        """When the folder changed last; 0 when it does not say, and nothing can be read there either."""
        try:
            return self._requests.stat().st_mtime_ns
        except OSError:
            return 0

    def asked(self) -> Iterator[tuple[str, Request | SubmissionInvalid]]:
        """Every request that lies there with its name; what is no request is told to whoever asked."""
        self._looked_at = self._changed()
        for path in sorted(self._requests.glob("*.json")):
            try:
                yield path.name, read_document(path, Request)
            except SubmissionInvalid as fault:
                yield path.name, fault

    def answer(self, name: str, reply: Reply) -> None:
        """Put the answer there; the request is gone first, so that it is never done twice.

        Raises StorageError.
        """
        try:
            (self._requests / name).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, self._requests / name) from error
        write_text(self._replies / name, document_text(reply))


def _watcher(root: Path) -> Mapping[str, object]:
    try:
        return _WATCHER.validate_json(watcher_of(root).read_bytes())
    except (OSError, ValidationError):
        return {}


def _beats(root: Path) -> bool:
    """Whether a farm said not long ago that it watches this folder."""
    found = _watcher(root)
    beat, poll_s, pid = found.get("beat"), found.get("poll_s"), found.get("pid")
    if not isinstance(beat, int | float) or not isinstance(poll_s, int | float) or not isinstance(pid, int):
        return False
    within_s = BEATS_WITHIN_S
    if found.get("boot") == boot_id():
        if process_start(pid) == found.get("pid_start"):
            return True
        within_s = POLLS_TO_DIE * poll_s  # not at once: a container shares the machine and not its processes
    return abs(time.time() - beat) < within_s


def _last_seen(root: Path) -> str:
    found = _watcher(root)
    beat, host = found.get("beat"), found.get("host")
    if not isinstance(beat, int | float):
        return ""
    return f"; the last one was on {host}, seen at {iso(beat)}"
