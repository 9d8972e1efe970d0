"""Whether an edit is whole: read in a process of its own, since a hostile file may end its reader.

`python -m scail2_farm.farm.reads EDIT` prints nothing for a file that reads, else the fault as JSON.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

from scail2_farm.documents import Fault
from scail2_farm.errors import FarmError, ShareUnavailable, TimelineUnreadable, Where
from scail2_farm.farm.host import FROM_OUTSIDE

LONGEST_S = 300.0
FAULTY = 3
"""What the process that reads returns for a fault of the file."""


class Reader:
    """Reads edits, one at a time."""

    def unreadable(self, path: Path) -> FarmError | None:
        """What is wrong with an edit as a file; None when it reads to its end.

        Raises ShareUnavailable when the process that reads could not do its work, which says nothing of the file.
        """
        command = [sys.executable, "-m", "scail2_farm.farm.reads", str(path)]
        where = Where(file=str(path))
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            return TimelineUnreadable(f"{path.name} was not read in {LONGEST_S:.0f} s", where=where)
        except OSError as error:
            raise _unread(f"the process that reads it did not start: {error.strerror or error}", path) from error
        if done.returncode == 0:
            return None
        if done.returncode == FAULTY:
            return Fault.model_validate_json(done.stdout).error()
        if -done.returncode in FROM_OUTSIDE:
            name = signal.Signals(-done.returncode).name
            raise _unread(f"the process that reads it was ended from outside, by {name}", path)
        if done.returncode > 0:
            said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:300]
            raise _unread(f"the process that reads it failed: {said or done.returncode}", path)
        return TimelineUnreadable(f"reading {path.name} ended the process that did ({done.returncode})", where=where)


def _unread(what: str, path: Path) -> ShareUnavailable:
    return ShareUnavailable(
        what,
        why="whether a cut is whole is known only when it was read to its end",
        fix="nothing, when the machine was short of memory; else repair the installation of scail2-farm",
        where=Where(file=str(path)),
    )


def main() -> int:
    """Read the edit that is named; 0 when it is whole, 3 with its fault on stdout when not."""
    path = Path(sys.argv[1])
    answer = os.dup(1)
    os.dup2(2, 1)  # adapters and the libraries they load print where they like
    fault = _fault_of(path)
    if fault is None:
        return 0
    with os.fdopen(answer, "w", encoding="utf-8") as stdout:
        stdout.write(Fault.of(fault).model_dump_json())
    return FAULTY


def _fault_of(path: Path) -> FarmError | None:
    """What is wrong with an edit as a file; raises what is wrong with this machine."""
    from scail2_farm.editorial.formats import open_cut

    try:
        if path.suffix.lower() == ".otioz":  # opened later, where its media may be unpacked
            _whole_zip(path)
        else:
            open_cut(path)
    except TimelineUnreadable as fault:
        return fault
    except FarmError:
        return None  # whole as a file; what else is wrong with it, planning tells
    except (ImportError, MemoryError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - what a parser trips over is the file's
        said = f"{type(error).__name__}: {str(error)[:200]}"
        return TimelineUnreadable(f"{path.name} cannot be read: {said}", where=Where(file=str(path)))
    return None


def _whole_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as bundle:
            bad = bundle.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise TimelineUnreadable(f"{path.name} is no whole zip file: {error}", where=Where(file=str(path))) from None
    if bad is not None:
        raise TimelineUnreadable(f"{path.name} holds a damaged file: {bad}", where=Where(file=str(path)))


if __name__ == "__main__":
    sys.exit(main())
