"""One SQLite file on a local disk: named queries, one transaction at a time, and failures in the farm's words.

A file of queries is text under lines `-- name: NAME`; the one named `schema` makes the tables. Nothing is ever left
half done: whatever ends a transaction other than its commit undoes it.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from scail2_farm.errors import DiskFull, HostUnsupported, SettingsInvalid, ShareUnavailable, StorageError, Where
from scail2_farm.farm.host import refuse_network_volume

OLDEST_SQLITE = (3, 37, 0)
"""The first with tables whose columns hold what they say."""
BUSY_S = 2.0
WAL_KEPT_BYTES = 64 << 20
WAL_PAGES = 2000
"""Written before the log is taken into the file: 8 MB, so that not one claim in a hundred waits for it."""
NO_ROOM_BYTES = 1 << 20

UNAVAILABLE: Mapping[int, str] = {
    sqlite3.SQLITE_IOERR: "its disk does not read or write",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_READONLY: "it cannot be written to",
    sqlite3.SQLITE_PERM: "it may not be opened",
    sqlite3.SQLITE_BUSY: "another program holds it",
    sqlite3.SQLITE_LOCKED: "another program holds it",
    sqlite3.SQLITE_PROTOCOL: "another program holds it",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is not a ledger",
}
"""What SQLite's primary codes mean to whoever runs the farm; every other code is a fault of ours."""

Value = str | int | float | bool | None


@cache
def queries(path: Path) -> Mapping[str, str]:
    """The queries of a file, by name; read once."""
    parts = re.split(r"^-- name: (\S+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


class Database:
    """An open file of tables. `named` is its file of queries, `version` what `schema` in it makes.

    Raises SettingsInvalid on a network volume or when a newer version wrote the file, HostUnsupported and StorageError.
    """

    def __init__(self, path: Path, *, named: Path, version: int):
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            needed = ".".join(map(str, OLDEST_SQLITE))
            raise HostUnsupported(
                f"this Python has SQLite {sqlite3.sqlite_version}; {needed} or newer is needed",
                fix="install a Python from python.org, uv or the system's packages of the last years",
            )
        refuse_network_volume(path.parent)
        self.path = path
        self._queries = queries(named)
        with self._told():
            self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        try:
            with self._told():
                self._prepare(version)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All that is run inside, or nothing of it.

        Raises DiskFull and ShareUnavailable.
        """
        yield from self._between("BEGIN IMMEDIATE")

    @contextmanager
    def reading(self) -> Generator[None]:
        """One state of the tables for all that is read inside; nothing is written.

        Raises ShareUnavailable.
        """
        yield from self._between("BEGIN")

    def run(self, name: str, /, **values: Value) -> int:
        """Run a query; how many rows it changed."""
        return self._connection.execute(self._queries[name], values).rowcount

    def insert(self, name: str, /, **values: Value) -> int:
        """Run an insert; the number of the new row."""
        row = self._connection.execute(self._queries[name], values).lastrowid
        assert row is not None
        return row

    def one(self, name: str, /, **values: Value) -> sqlite3.Row | None:
        """The first row of a query."""
        return next(iter(self.all(name, **values)), None)

    def all(self, name: str, /, **values: Value) -> list[sqlite3.Row]:
        """The rows of a query."""
        return self._connection.execute(self._queries[name], values).fetchall()

    def each(self, name: str, /, **values: Value) -> Iterator[sqlite3.Row]:
        """The rows of a query, one by one."""
        yield from self._connection.execute(self._queries[name], values)

    @property
    def busy(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    def integrity(self) -> list[str]:
        """What is wrong with the file; nothing when it is whole.

        Raises ShareUnavailable.
        """
        with self._told():
            found = [str(row[0]) for row in self._connection.execute("PRAGMA integrity_check")]
            strays = [f"{row[0]} {row[1]} names a {row[2]} that is not there" for row in self._strays()]
        return [line for line in found if line != "ok"] + strays

    def _strays(self) -> Iterator[sqlite3.Row]:
        yield from self._connection.execute("PRAGMA foreign_key_check")

    def _between(self, begin: str) -> Generator[None]:
        with self._told():
            self._connection.execute(begin)
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _prepare(self, version: int) -> None:
        """Settings of the connection, and the tables when the file is new."""
        run = self._connection.execute
        for setting in ("synchronous = FULL", "fullfsync = 1", "checkpoint_fullfsync = 1", "foreign_keys = ON"):
            run(f"PRAGMA {setting}")
        found = int(run("PRAGMA user_version").fetchone()[0])
        if found > version or (found == 0 and run("SELECT count(*) FROM sqlite_schema").fetchone()[0]):
            what = f"written by a newer scail2-farm (its version is {found}, this one reads {version})"
            raise SettingsInvalid(
                f"the ledger was {what}" if found else f"{self.path.name} is a database of something else",
                why="a ledger is never read in part",
                fix="start the newer scail2-farm, or name another folder with --ledger DIR",
                where=Where(file=str(self.path)),
            )
        run("PRAGMA journal_mode = WAL")
        run(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
        run(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        run("PRAGMA temp_store = MEMORY")
        if found < version:
            with self.transaction():
                for statement in _statements(self._queries["schema"]):
                    run(statement)
                run(f"PRAGMA user_version = {version}")
        for statement in _statements(self._queries["scratch-tables"]):
            run(statement)

    @contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            fault = self._fault(error)
            if fault is None:
                raise
            raise fault from error

    def _fault(self, error: sqlite3.DatabaseError) -> StorageError | None:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        where = Where(file=str(self.path))
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _no_room(self.path.parent)):
            return DiskFull(
                f"no space left for the ledger in {self.path.parent}",
                why="what cannot be written down is not done: the farm waits, and nothing is lost",
                fix="free some space; the farm goes on by itself",
                where=where,
            )
        if code not in UNAVAILABLE:
            return None
        fix = "see that its folder is on a sound local disk that may be written to, then start the farm again"
        return ShareUnavailable(f"the ledger cannot be used: {UNAVAILABLE[code]} ({error})", fix=fix, where=where)


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: a transaction runs no scripts."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _no_room(folder: Path) -> bool:
    """Whether the disk of a folder is full; a folder that is gone is not."""
    try:
        return shutil.disk_usage(folder).free < NO_ROOM_BYTES
    except OSError:
        return False
