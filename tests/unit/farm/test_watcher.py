"""One farm watches one folder."""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scail2_farm.errors import FarmRunning
from scail2_farm.farm.host import SystemClock
from scail2_farm.farm.watcher import Watcher, wakeups

POLL_S = 0.05


@pytest.fixture(autouse=True)
def farm(tmp_path) -> None:
    """The folder the farm made before it watches."""
    (tmp_path / ".farm").mkdir()


def watcher(root: Path) -> Watcher:
    return Watcher(root, clock=SystemClock(), poll_s=POLL_S)


def record(root: Path) -> Path:
    return root / ".farm" / "watcher.json"


def of_another_boot(root: Path) -> dict[str, object]:
    """The record of a machine that nobody here can ask."""
    found = json.loads(record(root).read_text()) | {"host": "render-07", "boot": "another", "pid": 4711}
    record(root).write_text(json.dumps(found))
    return found


def test_a_second_watcher_of_this_machine_is_refused_at_once(tmp_path):
    watcher(tmp_path).hold()
    began = time.monotonic()
    with pytest.raises(FarmRunning, match=r"is watched by a farm on .* \(process \d+\), last seen \d+ s ago"):
        watcher(tmp_path).hold()
    assert time.monotonic() - began < POLL_S


def test_a_process_that_is_gone_holds_nothing(tmp_path):
    code = (
        "import sys; from pathlib import Path; from scail2_farm.farm.host import SystemClock\n"
        "from scail2_farm.farm.watcher import Watcher\n"
        "Watcher(Path(sys.argv[1]), clock=SystemClock(), poll_s=5.0).hold()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert json.loads(record(tmp_path).read_text())["generation"] == 1
    began = time.monotonic()
    watcher(tmp_path).hold()
    assert time.monotonic() - began < 1
    assert json.loads(record(tmp_path).read_text())["generation"] == 2


def test_another_machine_that_beats_is_left_alone(tmp_path):
    watcher(tmp_path).hold()
    found = of_another_boot(tmp_path)
    stop = threading.Event()

    def beats() -> None:
        while not stop.wait(POLL_S):
            found["beats"] = int(str(found["beats"])) + 1
            part = tmp_path / "part"
            part.write_text(json.dumps(found))
            part.replace(record(tmp_path))

    thread = threading.Thread(target=beats)
    thread.start()
    try:
        with pytest.raises(FarmRunning, match="render-07") as refused:
            watcher(tmp_path).hold()
    finally:
        stop.set()
        thread.join()
    assert "kill 4711" in refused.value.fix


@pytest.mark.parametrize("beat", [0.0, 4_000_000_000.0])
def test_another_machine_that_does_not_beat_is_gone_whatever_its_clock_said(tmp_path, beat):
    watcher(tmp_path).hold()
    record(tmp_path).write_text(json.dumps(of_another_boot(tmp_path) | {"beat": beat}))
    began = time.monotonic()
    watcher(tmp_path).hold()
    assert 3 * POLL_S <= time.monotonic() - began < 3
    assert json.loads(record(tmp_path).read_text())["pid"] != 4711


def test_a_slow_watcher_is_given_its_own_time(tmp_path):
    watcher(tmp_path).hold()
    record(tmp_path).write_text(json.dumps(of_another_boot(tmp_path) | {"poll_s": 0.2}))
    began = time.monotonic()
    watcher(tmp_path).hold()
    assert time.monotonic() - began >= 0.6


def test_who_was_taken_over_finds_out(tmp_path):
    first = watcher(tmp_path)
    first.hold()
    first.beat()
    assert json.loads(record(tmp_path).read_text())["beats"] == 2
    of_another_boot(tmp_path)
    with pytest.raises(FarmRunning, match="render-07"):
        first.beat()
    first.release()
    assert record(tmp_path).is_file()


def test_released_is_free(tmp_path):
    first = watcher(tmp_path)
    first.hold()
    first.release()
    assert not record(tmp_path).exists()
    first.release()
    watcher(tmp_path).hold()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": "a"}'])
def test_a_record_that_is_none_is_nobodys(tmp_path, text, caplog):
    record(tmp_path).write_text(text)
    watcher(tmp_path).hold()
    assert "not understood" in caplog.text


def test_a_drop_wakes(tmp_path):
    (tmp_path / "inbox").mkdir()
    bell = wakeups(tmp_path, network=False)
    (tmp_path / "inbox" / "cut.otio").write_text("a cut\n")
    assert bell.wait(10)


@pytest.mark.skipif(sys.platform != "linux", reason="only inotify needs file descriptors")
def test_an_inbox_without_watches_is_only_polled(tmp_path, caplog):
    (tmp_path / "inbox").mkdir()
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        bell = wakeups(tmp_path, network=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not bell.is_set()
    assert "inbox is polled only" in caplog.text


def test_a_network_volume_is_only_polled(tmp_path):
    (tmp_path / "inbox").mkdir()
    threads = threading.active_count()
    bell = wakeups(tmp_path, network=True)
    assert threading.active_count() == threads
    assert not bell.is_set()
