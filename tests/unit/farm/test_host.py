import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scail2_farm.farm import host

MOUNTINFO = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 22 0:25 / /mnt/show rw,relatime shared:2 - nfs4 server:/show rw,vers=4.2
32 31 8:1 / /mnt/show/local\\040disk rw - ext4 /dev/sdb1 rw
33 22 0:30 / /mnt/bay rw - autofs systemd-1 rw
34 22 0:31 / /mnt/bay rw master:4 - cifs //nas/bay rw
35 22 0:40 / /home/ada/there rw - fuse.sshfs ada@there: rw
"""

MOUNT = """\
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse, protect)
//ada@nas._smb._tcp.local/show on /Volumes/show (smbfs, nodev, nosuid, mounted by ada)
nas:/bay (old) on /Volumes/bay on two (nfs)
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/srv/farm", "ext4"),
        ("/mnt/show", "nfs4"),
        ("/mnt/show/a/b", "nfs4"),
        ("/mnt/shows", "ext4"),
        ("/mnt/show/local disk/x", "ext4"),
        ("/mnt/bay/x", "cifs"),
        ("/home/ada/there", "fuse.sshfs"),
    ],
)
def test_the_deepest_and_newest_mount_counts(place: str, kind: str):
    assert host.kind_by_mountinfo(Path(place), MOUNTINFO) == kind
    assert (kind in host.NETWORK_KINDS) == (kind != "ext4")


@pytest.mark.parametrize(
    ("place", "kind"),
    [("/Users/ada", "apfs"), ("/Volumes/show/edit", "smbfs"), ("/Volumes/bay on two", "nfs"), ("/Volumes/bay", "apfs")],
)
def test_mounts_of_a_mac(place: str, kind: str):
    assert host.kind_by_mount(Path(place), MOUNT) == kind
    assert (kind in host.NETWORK_KINDS) == (kind != "apfs")


def test_a_folder_that_is_not_there_yet_is_on_the_disk_it_would_be_on(tmp_path):
    assert host.filesystem_is_network(tmp_path / "a" / "b") is host.filesystem_is_network(tmp_path)
    assert 0 < host.free_bytes(tmp_path / "a" / "b") <= shutil.disk_usage(tmp_path).total


def test_memory_of_linux_is_in_bytes():
    text = "MemTotal:       24683512 kB\nMemFree:        1 kB\nMemAvailable:   12000000 kB\nHugePages_Total:  0\n"
    assert host.memory_by_meminfo(text) == 24683512 * 1024


def test_this_machine_says_what_it_has():
    assert host.memory_bytes() > 1 << 20
    assert host.memory_kills() >= 0
    assert host.boot_id() == host.boot_id()


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_a_process_is_known_by_number_start_and_boot():
    child = sleeper()
    start = host.process_start(child.pid)
    assert start
    assert host.process_start(child.pid) == start
    assert not host.end_process(child.pid, start + "0", host.boot_id())
    assert not host.end_process(child.pid, start, "another boot")
    assert child.poll() is None
    assert host.end_process(child.pid, start, host.boot_id())
    while host.process_start(child.pid) is not None:  # until it has ended, though nobody asked how
        time.sleep(0.01)
    assert not host.end_process(child.pid, start, host.boot_id())
    assert child.wait() == -9
    assert host.process_start(child.pid) is None


@pytest.mark.skipif(shutil.which("ps") is None, reason="this machine has no ps")
def test_ps_knows_a_process_too():
    child = sleeper()
    start = host.start_by_ps(child.pid)
    assert start
    assert len(start.split()) == 5, "a day, a month, a day, a time, a year"
    assert host.start_by_ps(child.pid) == start
    child.kill()
    until(lambda: host.start_by_ps(child.pid) is None)
    child.wait()
    assert host.start_by_ps(child.pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="a Mac's ps prints no names here")
def test_a_process_of_any_name_is_known(tmp_path):
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to(shutil.which("sleep") or "sleep")
    child = subprocess.Popen([odd, "60"])
    try:
        assert (host.process_start(child.pid) or "").isdecimal()
    finally:
        child.kill()
        child.wait()


# --------------------------------------------------------------------------- sleep


def test_a_mac_stays_awake_as_long_as_the_farm_lives():
    assert host.awake_command("darwin", 7) == ("caffeinate", "-i", "-w", "7")


@pytest.fixture
def commands(tmp_path, monkeypatch) -> Path:
    """A folder of commands that goes before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def command(folder: Path, body: str) -> None:
    path = folder / host.awake_command(sys.platform, 0)[0]
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def until(true, within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_awake_holds_until_it_is_let_go(tmp_path, commands):
    command(commands, f"echo $$ > {tmp_path}/holds; cat; rm {tmp_path}/holds")
    awake = host.Awake()
    for _ in range(2):
        awake.start()
        awake.start()
        until((tmp_path / "holds").is_file)
        until(lambda: (tmp_path / "holds").read_text().strip())
        holder = int((tmp_path / "holds").read_text())
        assert host.process_start(holder)
        awake.stop()
        awake.stop()
        assert host.process_start(holder) is None
        (tmp_path / "holds").unlink(missing_ok=True)


@pytest.mark.skipif(sys.platform != "linux", reason="on a Mac caffeinate watches the process")
def test_a_farm_that_is_killed_lets_the_machine_sleep(tmp_path, commands):
    command(commands, f"echo on > {tmp_path}/holds; cat; rm {tmp_path}/holds")
    script = "from scail2_farm.farm.host import Awake\nimport time\nAwake().start()\ntime.sleep(60)"
    farm = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[3])
    until((tmp_path / "holds").is_file)
    farm.kill()
    farm.wait()
    until(lambda: not (tmp_path / "holds").exists())


@pytest.mark.parametrize("body", ["exit 1", None])
def test_a_machine_that_cannot_be_kept_awake_says_so_once(tmp_path, commands, monkeypatch, caplog, body):
    if body is None:
        monkeypatch.setenv("PATH", str(commands))
    else:
        command(commands, body)
    awake = host.Awake()
    for times in range(3):
        awake.start()
        until(lambda: caplog.records)
        time.sleep(0.05 * times)
        awake.stop()
    assert [record.__dict__["event"] for record in caplog.records] == ["no-awake"]
