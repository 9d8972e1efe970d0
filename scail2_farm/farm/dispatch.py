"""Child processes: tasks out, words in, and nothing started twice.

A child is one process of one slot. It gets a Task as a line on its stdin and says Said lines on its stdout; what it
writes on stderr is kept in the log of the task. It dies when its stdin ends, so also with this process; and it holds
its slot's lock, which it inherits, so that as long as an orphan lives nothing can be started in its place.

Each wait has a thread of its own: for words, for log, for a task to be taken, for the end. All that they learn goes
through one queue; a Child changes only where its owner calls it (`hear` is how he tells it what came).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Literal, Protocol

from pydantic import TypeAdapter, ValidationError

from scail2_farm.documents import Said, StepSaid, Task
from scail2_farm.errors import HostUnsupported, ResourceError, Where, storage_error
from scail2_farm.farm.host import FROM_OUTSIDE, Clock, boot_id, end_process, process_start

log = logging.getLogger(__name__)

LOG_BYTES = 16 << 20
"""The most one log takes on disk: its first half, and of the rest the last."""
MOST_LINE = 1 << 20
CHUNK = 1 << 16
TOLD_OF_NOISE = 200
READ_AFTER_S = 2.0
"""How long after a child's end its last words and log are waited for; somebody it started may hold the pipes."""

AWAY_S = 10.0
"""Between two looks at the children; beyond it the one who looks was himself stopped or asleep."""
BACK_S = 60.0
"""After that, how long he reads what was said meanwhile before he judges."""
TOO_FAST = 0.1
"""Share of the time expected below which a segment was not rendered but something else."""
SHORT_S = 5.0
"""An expectation too small for that to mean anything."""

_Words: TypeAdapter[Said] = TypeAdapter(Said)


class OrphanAlive(Exception):
    """Somebody holds the slot's lock: a child of an earlier farm still lives, and nothing may be started beside it.

    Control flow, not an error. `pid` is what the lock file says, None when it says nothing.
    """

    def __init__(self, slot: str, pid: int | None):
        super().__init__(f"the lock of {slot} is held by {'an unknown process' if pid is None else f'process {pid}'}")
        self.slot, self.pid = slot, pid


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A child ended: with an exit status, or by a signal."""

    rc: int | None
    signal: int | None

    @property
    def from_outside(self) -> bool:
        """Whether somebody ended it, rather than what it did: also a system that is short of memory."""
        return self.signal in FROM_OUTSIDE

    @property
    def gave_up(self) -> bool:
        """Whether it left with a status of failure: what Python does when it cannot load what it is to run."""
        return self.rc not in (None, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """A child said something that is no Said; nothing it says after that is listened to."""

    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What was heard of a child: `serial` counts the processes of its slot, `at` is monotonic."""

    slot: str
    serial: int
    at: float
    said: Said | Gone | Noise


class Events(Protocol):
    """Where it is put what was heard: a queue of Heard, and maybe of other things."""

    def put(self, item: Heard, /) -> None: ...


# --------------------------------------------------------------------------- locks


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The process a lock file names."""

    pid: int
    pid_start: str
    boot: str


def orphans(locks: Path, slot: str) -> bool:
    """Whether somebody holds a slot's lock.

    Raises StorageError.
    """
    try:
        os.close(_locked(locks, slot))
    except OrphanAlive:
        return True
    return False


def holder(locks: Path, slot: str) -> Holder | None:
    """The process that the slot's lock was last given to; None when its file does not say."""
    try:
        found = json.loads(_lock_path(locks, slot).read_bytes())
        return Holder(pid=int(found["pid"]), pid_start=str(found["pid_start"]), boot=str(found["boot"]))
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def cannot_start(slot: str, gone: Gone, log: Path) -> HostUnsupported:
    """What is to be said of a child that gave up before it said a word."""
    return HostUnsupported(
        f"{slot} ends with code {gone.rc} before it says a word",
        why="the installation is broken, or was while it was started; no shot is to blame",
        fix=f"look at {log}, and mend the installation; the farm goes on by itself",
        where=Where(file=str(log)),
    )


def end_orphans(locks: Path) -> list[Holder]:
    """SIGKILL to every child that an earlier farm left behind, as its lock tells; who they were.

    They end by themselves, but one that is stopped never does. Raises StorageError.
    """
    slots = [path.stem for path in sorted(locks.glob("*.lock"))]
    known = [holder(locks, slot) for slot in slots if orphans(locks, slot)]
    return [one for one in known if one is not None and end_process(one.pid, one.pid_start, one.boot)]


def _lock_path(locks: Path, slot: str) -> Path:
    return locks / f"{slot}.lock"


def _locked(locks: Path, slot: str) -> int:
    """A descriptor that holds the slot's lock, and passes to no child unless it is given.

    Raises OrphanAlive, StorageError.
    """
    path = _lock_path(locks, slot)
    try:
        locks.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        known = holder(locks, slot)
        raise OrphanAlive(slot, known and known.pid) from None
    except OSError as error:
        os.close(descriptor)
        raise storage_error(error, path) from error
    return descriptor


# --------------------------------------------------------------------------- children


class Child:
    """The process of a slot, started and started again; one task at a time."""

    def __init__(
        self,
        slot: str,
        *,
        locks: Path,
        command: Sequence[str],
        events: Events,
        clock: Clock,
        environment: Mapping[str, str] | None = None,
    ):
        self.slot = slot
        self.serial = 0
        self.busy: Task | None = None
        """The task that was given and not answered yet."""
        self.began = 0.0
        """Monotonic: when it was given."""
        self.since = 0.0
        """Monotonic: when the child last said a word or was given a task."""
        self._locks, self._command, self._environment = locks, tuple(command), environment
        self._events, self._clock = events, clock
        self._process: _Process | None = None

    @property
    def ending(self) -> bool:
        """Whether it was told to end and its end is not heard of yet; what it is given now is lost."""
        return self._process is not None and self._process.ending

    def ready(self, log: Path) -> bool:
        """Whether it can be given a task now; one that is not alive is started for it.

        Not while it ends, nor while one of an earlier farm lives, which ends by itself: ask again. Raises StorageError
        and ResourceError as `start` does.
        """
        if self.alive:
            return not self.ending
        try:
            self.start(log)
        except OrphanAlive:
            return False
        return True

    @property
    def alive(self) -> bool:
        """Whether it was started and its end has not been heard."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """Its process; 0 when it is not alive."""
        return self._process.popen.pid if self._process else 0

    @property
    def pid_start(self) -> str:
        """When that process began, as host.process_start has it; empty when it has ended."""
        return self._process.pid_start if self._process else ""

    def start(self, log: Path) -> None:
        """Start the process; what it writes until its first task is given goes to `log`.

        Raises OrphanAlive when the slot's lock is held, StorageError, and ResourceError when there is no room for a
        process more.
        """
        assert self._process is None, f"{self.slot} is alive"
        lock = _locked(self._locks, self.slot)
        try:
            os.ftruncate(lock, 0)
            popen = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=(lock,),
                env=None if self._environment is None else dict(self._environment),
                start_new_session=True,  # what a terminal sends to the farm is the farm's to decide on
            )
            pid_start = process_start(popen.pid) or ""
            named = {"pid": popen.pid, "pid_start": pid_start, "boot": boot_id()}
            with contextlib.suppress(OSError):  # a full disk; then nobody knows whom to end, and all wait for him
                os.write(lock, json.dumps(named).encode())
        except OSError as error:
            raise ResourceError(
                f"no process can be started for {self.slot}: {error}",
                fix="end other programs, or give the farm fewer workers",
            ) from error
        finally:
            os.close(lock)  # ours alone: the lock is now exactly as long-lived as the child and whom it leaves behind
        self.serial += 1
        self.since = self._clock.monotonic()
        self._process = _Process(
            slot=self.slot,
            serial=self.serial,
            popen=popen,
            pid_start=pid_start,
            events=self._events,
            clock=self._clock,
        )
        self._process.listen(log)

    def give(self, task: Task, log: Path) -> None:
        """Give it a task, and its stderr a log; returns at once. One that has died meanwhile is heard of as Gone."""
        assert self._process is not None, f"{self.slot} is not alive"
        assert self.busy is None, f"{self.slot} is busy"
        line = json.dumps(task.model_dump(mode="json", by_alias=True), ensure_ascii=False)
        self.busy = task
        self.began = self.since = self._clock.monotonic()
        self._process.tasks.put((line.encode() + b"\n", log))

    def hear(self, heard: Heard) -> bool:
        """Take in what came through the queue; False when it is of an earlier process, or answers no task."""
        if heard.slot != self.slot or heard.serial != self.serial or self._process is None:
            return False
        match heard.said:
            case Gone():
                self._process, self.busy = None, None
            case Noise():
                pass
            case said:
                if self.busy is None:
                    log.warning(
                        "a child answers what nobody asked",
                        extra={"event": "odd", "slot": self.slot, "said": said.said},
                    )
                    return False
                self.since = heard.at
                if not isinstance(said, StepSaid):
                    self.busy = None
        return True

    def stop(self) -> None:
        """End its input, which ends it, whatever it does; Gone is heard."""
        if self._process is not None:
            self._process.ending = True
            self._process.tasks.put(None)

    def kill(self) -> None:
        """SIGKILL to it and to whom it started; Gone is heard."""
        if self._process is not None and self._process.popen.poll() is None:
            self._process.ending = True
            with contextlib.suppress(ProcessLookupError, PermissionError):  # as macOS answers for one just ended
                os.killpg(self._process.popen.pid, signal.SIGKILL)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; whether it ended in time. Gone is still to be heard."""
        if self._process is None:
            return True
        self._process.ended.wait(timeout_s)
        return self._process.ended.is_set()


@dataclass(slots=True, kw_only=True)
class _Process:
    """One process of a slot, and the threads that wait on it; each owns one pipe and closes it."""

    slot: str
    serial: int
    popen: subprocess.Popen[bytes]
    pid_start: str
    events: Events
    ending: bool = False
    clock: Clock
    tasks: SimpleQueue[tuple[bytes, Path] | None] = field(default_factory=SimpleQueue[tuple[bytes, Path] | None])
    ended: threading.Event = field(default_factory=threading.Event)

    def listen(self, log: Path) -> None:
        """Start the threads."""
        stdin, stdout, stderr = self.popen.stdin, self.popen.stdout, self.popen.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        kept = _Log(log, stderr)
        self._thread("tasks", self._write_tasks, stdin, kept)
        readers = self._thread("words", self._read_words, stdout, kept), self._thread("log", kept.read_all)
        self._thread("end", self._await_end, readers)

    def _thread(self, name: str, target: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, name=f"{self.slot} {name}", daemon=True)
        thread.start()
        return thread

    def _tell(self, said: Said | Gone | Noise) -> None:
        self.events.put(Heard(slot=self.slot, serial=self.serial, at=self.clock.monotonic(), said=said))

    def _write_tasks(self, stdin: IO[bytes], kept: _Log) -> None:
        with stdin, contextlib.suppress(BrokenPipeError):  # whoever has died is heard of as Gone
            while (item := self.tasks.get()) is not None:
                line, path = item
                kept.turn_to(path)
                rest = memoryview(line)
                while rest:
                    rest = rest[stdin.write(rest) :]

    def _read_words(self, stdout: IO[bytes], kept: _Log) -> None:
        with stdout:
            listening = True
            begun = bytearray()
            while chunk := os.read(stdout.fileno(), CHUNK):
                if not listening:
                    continue  # but read, so that it does not stand still: it is the owner who ends it
                *lines, rest = chunk.split(b"\n")
                for line in lines:
                    listening = listening and self._say(bytes(begun + line), kept)
                    begun.clear()
                begun += rest
                if len(begun) > MOST_LINE:
                    listening = listening and self._say(bytes(begun), kept)
            if begun and listening:
                self._say(bytes(begun), kept)

    def _say(self, line: bytes, kept: _Log) -> bool:
        """Tell of one line, after what was logged before it; whether it was a word."""
        try:
            said = _Words.validate_json(line if len(line) <= MOST_LINE else b"")
        except ValidationError:
            self._tell(Noise(line=line[:TOLD_OF_NOISE].decode("utf-8", errors="replace")))
            return False
        if not isinstance(said, StepSaid):
            kept.catch_up()
        self._tell(said)
        return True

    def _await_end(self, readers: Sequence[threading.Thread]) -> None:
        status = self.popen.wait()
        until = time.monotonic() + READ_AFTER_S
        for reader in readers:
            reader.join(max(0.0, until - time.monotonic()))
        self.tasks.put(None)
        self._tell(Gone(rc=status if status >= 0 else None, signal=-status if status < 0 else None))
        self.ended.set()


class _Log:
    """What a child writes on stderr, on disk: of more than LOG_BYTES the first half and, of the rest, the last.

    That last part is kept in two files that take turns, NAME.old and NAME.tail, and put behind the first when the log
    is closed. A log of that name is continued; one that is long already is put aside as NAME.before. A disk that cannot
    be written to costs the log and nothing else.
    """

    def __init__(self, path: Path, stderr: IO[bytes]):
        self._stderr = stderr
        self._lock = threading.Lock()  # over reading, and saying which log it is for
        os.set_blocking(stderr.fileno(), False)
        self._open(path)

    def read_all(self) -> None:
        """Write down what comes until no more can come, then close the log and the pipe."""
        coming = select.poll()
        coming.register(self._stderr, select.POLLIN)
        while True:
            coming.poll()
            with self._lock:
                try:
                    if chunk := os.read(self._stderr.fileno(), CHUNK):
                        self._write(chunk)
                        continue
                except BlockingIOError:  # another thread has read it
                    continue
                self._close()
                self._stderr.close()
                return

    def catch_up(self) -> None:
        """Write down what is in the pipe by now."""
        with self._lock:
            self._catch_up()

    def turn_to(self, path: Path) -> None:
        """What is in the pipe by now is the old log's, all after it the new one's."""
        with self._lock:
            self._catch_up()
            if not self._stderr.closed:
                self._close()
                self._open(path)

    def _catch_up(self) -> None:
        if self._stderr.closed:
            return
        with contextlib.suppress(BlockingIOError):  # the pipe is empty
            for _ in range(LOG_BYTES // CHUNK):  # a child that never pauses is not waited for
                self._write(os.read(self._stderr.fileno(), CHUNK))

    def _open(self, path: Path) -> None:
        self._path = path
        self._old, self._tail = path.with_name(f"{path.name}.old"), path.with_name(f"{path.name}.tail")
        self._file: IO[bytes] | None = None
        self._warned = False
        self._written, self._first = 0, LOG_BYTES // 2
        with self._lost_at_most():
            path.parent.mkdir(exist_ok=True)
            self._join(b"[some of this log was left out here]")  # as a crash left it
            if path.exists() and path.stat().st_size > LOG_BYTES // 2:
                os.replace(path, path.with_name(f"{path.name}.before"))
            self._file = path.open("ab", buffering=0)
            self._first -= self._file.tell()
        self._room = self._first

    def _write(self, chunk: bytes) -> None:
        self._written += len(chunk)
        while chunk:
            if self._room == 0:
                self._turn_tail()
            now, chunk = chunk[: self._room], chunk[self._room :]
            self._room -= len(now)
            with self._lost_at_most():
                if self._file is not None:
                    self._file.write(now)

    def _turn_tail(self) -> None:
        self._room = LOG_BYTES // 4
        with self._lost_at_most():
            if self._file is not None:
                self._file.close()
                self._file = None
            if self._tail.exists():
                os.replace(self._tail, self._old)
            self._file = self._tail.open("wb", buffering=0)

    def _close(self) -> None:
        with self._lost_at_most():
            if self._file is not None:
                self._file.close()
            kept = self._first + sum(part.stat().st_size for part in (self._old, self._tail) if part.exists())
            lost = self._written - kept
            self._join(b"[%d bytes of this log were left out here]" % lost if lost > 0 else b"")

    def _join(self, between: bytes) -> None:
        """Put the last part behind the first."""
        parts = [part for part in (self._old, self._tail) if part.exists()]
        if parts:
            with self._path.open("ab") as whole:
                whole.write(b"\n%s\n" % between if between else b"")
                for part in parts:
                    with part.open("rb") as file:
                        shutil.copyfileobj(file, whole, CHUNK)
        for part in parts:
            part.unlink()

    @contextlib.contextmanager
    def _lost_at_most(self) -> Generator[None]:
        """Lets work go on without its log, and says so once."""
        try:
            yield
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning(
                    "a log cannot be written", extra={"event": "no-log", "why": str(storage_error(error, self._path))}
                )


# --------------------------------------------------------------------------- judging


class Watched(Protocol):
    """What a Watch looks at: a Child."""

    @property
    def busy(self) -> object: ...

    @property
    def began(self) -> float: ...

    @property
    def since(self) -> float: ...


class Watch:
    """Tells a child that hangs from one that is at work.

    By the monotonic clock alone. Time in which nobody looked (this process stopped, the machine asleep) is nobody's
    fault: what was said meanwhile is read first, and silence is counted anew.
    """

    def __init__(self, clock: Clock, *, wall_s: float, quiet_s: float):
        self._clock, self._wall_s, self._quiet_s = clock, wall_s, quiet_s
        self._looked = self._back = float("-inf")

    def verdict(self, child: Watched) -> Literal["timeout", "stalled"] | None:
        """`timeout`: its task takes longer than any should; `stalled`: it has said nothing for too long.

        To be asked at least every AWAY_S seconds while a child is busy, after what it said was taken in.
        """
        now = self._clock.monotonic()
        if now - self._looked > min(AWAY_S, self._quiet_s / 2):
            self._back = now
        self._looked = now
        if child.busy is None or now - self._back < min(BACK_S, self._quiet_s, self._wall_s):
            return None
        if now - child.began > self._wall_s:
            return "timeout"
        return "stalled" if now - max(child.since, self._back) > self._quiet_s else None

    @staticmethod
    def suspiciously_fast(seconds: float, expected_s: float) -> bool:
        """Whether a segment was done in so small a part of the time expected that it was not rendered."""
        return expected_s > SHORT_S and seconds < TOO_FAST * expected_s
