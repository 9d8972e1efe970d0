"""This machine: its clocks, its processes, its memory and disks, and whether it may fall asleep.

Asked of Linux by /proc and of macOS by its own small commands, so that the farm's first process loads nothing for it.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from scail2_farm.errors import SettingsInvalid, Where, storage_error

log = logging.getLogger(__name__)

NETWORK_KINDS = frozenset({
    "9p", "acfs", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs4", "prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "webdav",
    "fuse.ceph", "fuse.davfs2", "fuse.glusterfs", "fuse.gvfsd-fuse", "fuse.rclone", "fuse.s3fs", "fuse.smbnetfs",
    "fuse.sshfs", "fuse.vmhgfs-fuse",
})  # fmt: skip
"""File systems on which the locks and the shared memory of a database cannot be relied on."""
FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""What ends a process that did nothing for it: people send these, and a system that is short of memory."""


class Clock(Protocol):
    """What time it is: `wall` in UTC seconds, which may jump; `monotonic` in seconds, which never goes back."""

    def wall(self) -> float: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The clocks of this machine."""

    def wall(self) -> float:
        """UTC seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()


def iso(at: float) -> str:
    """An instant, in UTC seconds, as people and documents have it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


# --------------------------------------------------------------------------- processes


def boot_id() -> str:
    """What tells this run of the machine from every other: process numbers mean something within one only."""
    if sys.platform == "linux":
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return _answer("sysctl", "-n", "kern.bootsessionuuid")


def process_start(pid: int) -> str | None:
    """When a process began, as the system counts it: with its number and the boot it is one process for ever.

    None when there is no such process, or when it has ended and nobody has asked how.
    """
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, *rest = stat.rpartition(")")[2].split()  # the name before it may hold anything
        return None if state in "ZX" else rest[18]
    return start_by_ps(pid)


def start_by_ps(pid: int) -> str | None:
    """As process_start, where only `ps` knows."""
    found = subprocess.run(
        ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LC_ALL": "C", "TZ": "UTC"},
    ).stdout.split(maxsplit=1)
    return None if len(found) < 2 or found[0].startswith("Z") else found[1].strip()


def end_process(pid: int, pid_start: str, boot: str) -> bool:
    """SIGKILL to exactly this process; False when it is gone, or when its number is another's by now."""
    if boot != boot_id() or process_start(pid) != pid_start:
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


# --------------------------------------------------------------------------- memory and disks


def memory_bytes() -> int:
    """The memory this machine has."""
    if sys.platform == "linux":
        return memory_by_meminfo(Path("/proc/meminfo").read_text(encoding="ascii"))
    return int(_answer("sysctl", "-n", "hw.memsize"))


def memory_by_meminfo(meminfo: str) -> int:
    """The bytes of memory that /proc/meminfo tells of."""
    found = re.search(r"^MemTotal:\s+(\d+) kB$", meminfo, re.MULTILINE)
    assert found is not None, "/proc/meminfo says how much there is"
    return int(found[1]) * 1024


def memory_kills() -> int:
    """How many processes this machine has ended for want of memory since it was started; 0 where it does not say."""
    if sys.platform != "linux":
        return 0
    found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) if found else 0


def free_bytes(path: Path) -> int:
    """The room on the disk a path is on, or would be on.

    Raises StorageError.
    """
    place = _nearest(path)
    try:
        return shutil.disk_usage(place).free
    except OSError as error:
        raise storage_error(error, place) from error


def filesystem_is_network(path: Path) -> bool:
    """Whether a path is, or would be, on another machine's disk."""
    place = _nearest(path)
    if sys.platform == "linux":
        kind = kind_by_mountinfo(place, Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace"))
    else:
        kind = kind_by_mount(place, _answer("mount"))
    return kind in NETWORK_KINDS


def refuse_network_volume(folder: Path) -> None:
    """Raises SettingsInvalid when a folder for the ledger is, or would be, on another machine's disk."""
    if filesystem_is_network(folder):
        raise SettingsInvalid(
            f"the ledger would lie on a network volume: {folder}",
            why="its locks and its shared memory cannot be relied on over a network; it would be damaged",
            fix="name a folder on a local disk: --ledger DIR, SCAIL2_LEDGER or `ledger` in the settings file",
            where=Where(file=str(folder)),
        )


def kind_by_mountinfo(place: Path, mountinfo: str) -> str:
    """The kind of file system at a resolved path, as /proc/self/mountinfo tells it; later lines lie over earlier."""
    mounts: list[tuple[str, str]] = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        mounts.append((_unescaped(before.split()[4]), after.split()[0]))
    return _kind_at(place, mounts)


def kind_by_mount(place: Path, mount: str) -> str:
    """The kind of file system at a resolved path, as macOS's `mount` tells it."""
    return _kind_at(place, re.findall(r"^.+? on (/.*) \((\w+)[,)].*$", mount, re.MULTILINE))


def _kind_at(place: Path, mounts: list[tuple[str, str]]) -> str:
    kind, deepest = "", -1
    for point, name in mounts:
        depth = len(Path(point).parts)
        if depth >= deepest and place.is_relative_to(point):
            kind, deepest = name, depth
    return kind


def _unescaped(written: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), written)


def _nearest(path: Path) -> Path:
    """The path itself, else the nearest folder above it that is there; links followed."""
    path = path.absolute()
    return next(one for one in (path, *path.parents) if one.exists()).resolve()


def _answer(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


# --------------------------------------------------------------------------- sleep


def awake_command(platform: str, pid: int) -> tuple[str, ...]:
    """What keeps a machine from sleeping until its own input ends, or the process `pid` does."""
    if platform == "darwin":
        return "caffeinate", "-i", "-w", str(pid)
    why = "segments are being rendered"
    return "systemd-inhibit", "--what=sleep:idle", "--who=scail2-farm", f"--why={why}", "--mode=block", "cat"


class Awake:
    """The machine kept awake between `start` and `stop`, or until this process ends, however it ends.

    Where that cannot be had, it is said once and nothing else happens.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._told = False

    def start(self) -> None:
        """Keep the machine awake; again is once."""
        if self._child is not None:
            return
        try:
            self._child = subprocess.Popen(
                awake_command(sys.platform, os.getpid()),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            self._tell(str(error))
            return
        threading.Thread(target=self._wait, args=(self._child,), name="awake", daemon=True).start()

    def stop(self) -> None:
        """Let the machine sleep when it likes."""
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        child.stdin.close()
        child.terminate()
        child.wait()

    def _wait(self, child: subprocess.Popen[bytes]) -> None:
        status = child.wait()
        if self._child is child:
            self._tell(f"{awake_command(sys.platform, os.getpid())[0]} ended with {status}")

    def _tell(self, why: str) -> None:
        if not self._told:
            self._told = True
            log.warning("the machine cannot be kept awake", extra={"event": "no-awake", "why": why})
