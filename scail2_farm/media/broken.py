"""What is wrong with a picture file, in words that follow its name; who reads it says whose fault that is."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from scail2_farm.errors import PlateMissing, PlateUnreadable, Where, storage_error


class Broken(Exception):
    """What is wrong with a file; `fix` is the instruction that goes with it, None for the caller's own."""

    def __init__(self, what: str, *, fix: str | None = None):
        super().__init__(what)
        self.fix = fix


class Absent(Broken):
    """There is no such file."""


@contextmanager
def plate_faults(path: Path) -> Generator[None]:
    """Says of the plate `path` what goes wrong while it is read: PlateMissing, PlateUnreadable or StorageError."""
    where = Where(file=str(path))
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise PlateMissing(f"{path.name} is not there", where=where) from None
    except IsADirectoryError:
        raise PlateMissing(f"{path.name} is a folder", where=where) from None
    except OSError as error:
        raise storage_error(error, path) from error
    except Broken as fault:
        raise PlateUnreadable(f"{path.name} {fault}", fix=fault.fix, where=where) from None
