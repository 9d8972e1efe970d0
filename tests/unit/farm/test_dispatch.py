import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest
from farm_shots import StandingClock

from scail2_farm.documents import DoneSaid, FailedSaid, ReturnTask, StepSaid, Submission
from scail2_farm.farm import dispatch
from scail2_farm.farm.dispatch import Child, Gone, Heard, Noise, OrphanAlive, Watch, holder, orphans
from scail2_farm.farm.host import SystemClock, process_start

STEP = '{"said": "step", "what": "sh010", "step": 1, "of": 2}'
DONE = '{"said": "done", "folder": "there"}'
PATIENCE_S = 20.0


def a_task(name: str = "edit") -> ReturnTask:
    return ReturnTask(submission=Submission(name=name, manifest="edit.shots.yaml"), plan="plans/edit", takes=())


@dataclass
class Bench:
    """Children of a few lines of Python, and what is heard of them."""

    folder: Path
    events: SimpleQueue[Heard]
    started: list[Child]

    def child(self, script: str, slot: str = "x", *, start: bool = True) -> Child:
        command = [sys.executable, "-c", f"import os, sys, time\n{script}"]
        child = Child(slot, locks=self.folder / "locks", command=command, events=self.events, clock=SystemClock())
        if start:
            child.start(self.folder / f"{slot}.log")
            self.started.append(child)
        return child

    def hears(self, child: Child) -> Heard:
        heard = self.events.get(timeout=PATIENCE_S)
        assert child.hear(heard)
        return heard

    def until_gone(self, child: Child) -> list[object]:
        """Everything said to the end."""
        told: list[object] = []
        while child.alive:
            told.append(self.hears(child).said)
        return told

    def log(self, name: str = "x") -> bytes:
        return (self.folder / f"{name}.log").read_bytes()


@pytest.fixture
def bench(tmp_path) -> Iterator[Bench]:
    bench = Bench(tmp_path, SimpleQueue(), [])
    yield bench
    for child in bench.started:
        child.kill()
        assert child.wait(PATIENCE_S)


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


ECHO = f"""
for line in sys.stdin:
    sys.stderr.write("at " + str(len(line)) + "\\n")
    sys.stderr.flush()
    print('{STEP}\\n{DONE}', flush=True)
"""

# --------------------------------------------------------------------------- tasks and words


def test_a_task_is_given_and_answered(bench):
    child = bench.child(ECHO)
    task = a_task()
    before = time.monotonic()
    child.give(task, bench.folder / "one.log")
    assert child.busy is task
    assert before <= child.began == child.since
    assert isinstance(bench.hears(child).said, StepSaid)
    assert child.busy is task
    assert child.since > child.began
    assert bench.hears(child).said == DoneSaid(folder="there")
    assert child.busy is None
    assert child.alive
    child.stop()
    assert bench.until_gone(child) == [Gone(rc=0, signal=None)]
    assert not child.alive
    assert (child.pid, child.pid_start) == (0, "")


def test_each_task_has_its_own_log(bench):
    child = bench.child("sys.stderr.write('hello\\n')\nsys.stderr.flush()" + ECHO)
    until(bench.log)
    lengths: list[int] = []
    for index in range(30):
        task = a_task("x" * (index + 1))
        child.give(task, bench.folder / f"{index}.log")
        bench.hears(child)
        bench.hears(child)
        lengths.append(len(task.model_dump_json(by_alias=True)))
    child.stop()
    bench.until_gone(child)
    assert bench.log() == b"hello\n"
    written = [int(bench.log(str(index)).removeprefix(b"at ")) for index in range(30)]
    assert [number - written[0] for number in written] == [length - lengths[0] for length in lengths]


def test_a_large_task_is_given_without_waiting(bench):
    child = bench.child("time.sleep(0.5)" + ECHO)
    before = time.monotonic()
    child.give(a_task("x" * 10_000_000), bench.folder / "large.log")
    assert time.monotonic() - before < 0.4
    bench.hears(child)
    bench.hears(child)
    assert int(bench.log("large").removeprefix(b"at ")) > 10_000_000


def test_a_child_that_died_before_its_task_is_gone(bench):
    child = bench.child("sys.exit(3)")
    assert child.wait(PATIENCE_S)
    child.give(a_task("x" * 1_000_000), bench.folder / "late.log")
    assert child.busy is not None
    assert bench.until_gone(child) == [Gone(rc=3, signal=None)]
    assert child.busy is None


def test_a_failure_frees_the_child(bench):
    fault = '{"code": "SF-X", "what": "w", "why": "y", "fix": "f"}'
    child = bench.child(f'sys.stdin.readline()\nprint(\'{{"said": "failed", "kind": "guard", "fault": {fault}}}\')')
    child.give(a_task(), bench.folder / "x.log")
    heard = bench.hears(child).said
    assert isinstance(heard, FailedSaid)
    assert (heard.kind, heard.fault.code) == ("guard", "SF-X")
    assert child.busy is None


def test_what_nobody_asked_for_does_not_count(bench, caplog):
    child = bench.child(f"print('{DONE}')")
    heard = bench.events.get(timeout=PATIENCE_S)
    assert isinstance(heard.said, DoneSaid)
    assert not child.hear(heard)
    assert [record.__dict__["event"] for record in caplog.records] == ["odd"]
    bench.until_gone(child)


def test_words_of_an_earlier_process_do_not_count(bench):
    child = bench.child(ECHO)
    child.give(a_task(), bench.folder / "x.log")
    until(lambda: bench.events.qsize() == 2)
    late = bench.events.get()
    bench.hears(child)
    assert not child.ending
    child.kill()
    assert child.ending, "nothing is given to it any more"
    assert bench.until_gone(child) == [Gone(rc=None, signal=signal.SIGKILL)]
    assert not child.ending
    assert not child.hear(late)
    child.start(bench.folder / "x.log")
    child.give(a_task(), bench.folder / "x.log")
    assert child.serial == late.serial + 1
    assert not child.hear(late)
    assert child.busy is not None
    assert bench.hears(child).serial == child.serial


def test_the_last_words_come_before_the_end(bench):
    for _ in range(10):
        child = bench.child(f"sys.stdin.readline()\nprint('{STEP}\\n' * 500 + '{DONE}')")
        child.give(a_task(), bench.folder / "x.log")
        told = bench.until_gone(child)
        assert [type(said).__name__ for said in told] == ["StepSaid"] * 500 + ["DoneSaid", "Gone"]


@pytest.mark.parametrize(
    "said", ["what?", "{}", '{"said": "done"', '{"said": "done", "more": 1}', "\\xff\\x00", '["said"]', "", "x" * 300]
)
def test_noise_is_told_once_and_ends_the_conversation(bench, said):
    script = f"sys.stdin.readline()\nsys.stdout.buffer.write(b'{STEP}\\n{said}\\nmore\\n{DONE}\\n')"
    child = bench.child(script)
    child.give(a_task(), bench.folder / "x.log")
    step, noise, gone = bench.until_gone(child)
    assert isinstance(step, StepSaid)
    assert isinstance(noise, Noise)
    assert len(noise.line) <= 200
    assert gone == Gone(rc=0, signal=None)


def test_a_half_line_at_the_end_is_noise(bench):
    child = bench.child(f"sys.stdin.readline()\nsys.stdout.write('{STEP}\\n{DONE[:-1]}')")
    child.give(a_task(), bench.folder / "x.log")
    assert [type(said).__name__ for said in bench.until_gone(child)] == ["StepSaid", "Noise", "Gone"]


def test_a_last_line_without_its_end_is_a_word(bench):
    child = bench.child(f"sys.stdin.readline()\nsys.stdout.write('{DONE}')")
    child.give(a_task(), bench.folder / "x.log")
    assert [type(said).__name__ for said in bench.until_gone(child)] == ["DoneSaid", "Gone"]


@pytest.mark.parametrize(
    ("script", "gone", "outside"),
    [
        ("sys.exit(0)", Gone(rc=0, signal=None), False),
        ("sys.exit(7)", Gone(rc=7, signal=None), False),
        ("os.kill(os.getpid(), 11)", Gone(rc=None, signal=11), False),
        ("os.abort()", Gone(rc=None, signal=6), False),
        ("os.kill(os.getpid(), 9)", Gone(rc=None, signal=9), True),
        ("os.kill(os.getpid(), 15)", Gone(rc=None, signal=15), True),
    ],
)
def test_ends_are_told_apart(bench, script, gone, outside):
    (told,) = bench.until_gone(bench.child(script))
    assert told == gone
    assert told.from_outside is outside


def test_an_end_is_told_though_somebody_holds_the_pipes(bench):
    pid_file = bench.folder / "pid"
    script = f"""
import subprocess
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open({str(pid_file)!r}, "w").write(str(other.pid))
"""
    child = bench.child(script)
    assert bench.until_gone(child) == [Gone(rc=0, signal=None)]
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_kill_ends_those_it_started(bench):
    script = """
import subprocess
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
sys.stdin.readline()
print('{"said": "step", "what": "%d", "step": 0, "of": 1}' % other.pid, flush=True)
time.sleep(60)
"""
    child = bench.child(script)
    child.give(a_task(), bench.folder / "x.log")
    other = int(bench.hears(child).said.what)
    assert process_start(other)
    child.kill()
    assert bench.until_gone(child) == [Gone(rc=None, signal=9)]
    until(lambda: process_start(other) is None)


# --------------------------------------------------------------------------- locks


def test_the_lock_is_held_as_long_as_the_child_lives(bench):
    locks = bench.folder / "locks"
    assert not orphans(locks, "x")
    assert holder(locks, "x") is None
    child = bench.child(ECHO)
    assert orphans(locks, "x")
    assert not orphans(locks, "y")
    known = holder(locks, "x")
    assert known is not None
    assert (known.pid, known.pid_start) == (child.pid, child.pid_start) == (child.pid, process_start(child.pid))
    with pytest.raises(OrphanAlive) as alive:
        bench.child(ECHO, start=False).start(bench.folder / "second.log")
    assert (alive.value.slot, alive.value.pid) == ("x", child.pid)
    child.kill()
    bench.until_gone(child)
    assert not orphans(locks, "x")


def test_children_hold_only_their_own_lock_and_pipes(bench):
    """The descriptors of ten children: three pipes, one lock each."""
    script = """
for line in sys.stdin:
    lines = []
    for fd in os.listdir("/dev/fd"):
        try:
            name = os.readlink("/proc/self/fd/" + fd)
        except OSError:
            continue
        lines.append(os.path.basename(name))
    print('{"said": "step", "what": "%s", "step": 0, "of": 1}' % " ".join(sorted(lines)), flush=True)
"""
    if sys.platform != "linux":
        pytest.skip("descriptors are named in /proc alone")
    children = [bench.child(script, slot=f"s{number}") for number in range(10)]
    for child in children:
        child.give(a_task(), bench.folder / "x.log")
        names = [name for name in bench.hears(child).said.what.split() if name != "fd"]
        assert [name for name in names if name.endswith(".lock")] == [f"{child.slot}.lock"]
        assert sum(name.startswith("pipe:") for name in names) == 3, names


def test_a_lock_outlives_a_child_that_left_somebody_behind(bench):
    pid_file = bench.folder / "pid"
    script = f"""
import subprocess
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False,
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
open({str(pid_file)!r}, "w").write(str(other.pid))
"""
    child = bench.child(script)
    bench.until_gone(child)
    assert orphans(bench.folder / "locks", "x")
    other = int(pid_file.read_text())
    os.kill(other, signal.SIGKILL)
    until(lambda: not orphans(bench.folder / "locks", "x"))


# --------------------------------------------------------------------------- logs


@pytest.fixture
def small_logs(monkeypatch) -> int:
    monkeypatch.setattr(dispatch, "LOG_BYTES", 1 << 16)
    return 1 << 16


def test_a_log_within_its_size_is_kept_whole(bench, small_logs):
    bench.until_gone(bench.child(f"sys.stderr.write('abcdefg\\n' * {small_logs // 16})"))
    assert bench.log() == b"abcdefg\n" * (small_logs // 16)
    assert sorted(path.name for path in bench.folder.glob("x.log*")) == ["x.log"]


def test_of_a_long_log_both_ends_are_kept(bench, small_logs):
    number = 100_000
    bench.until_gone(bench.child(f"for i in range({number}): sys.stderr.write('%07d\\n' % i)"))
    kept = bench.log()
    assert len(kept) <= small_logs + 100
    assert kept.startswith(b"0000000\n0000001\n")
    assert kept.endswith(b"%07d\n" % (number - 1))
    head, between, tail = kept.partition(b"\n[")
    assert between
    words, _, tail = tail.partition(b"]\n")
    assert int(words.split()[0]) + len(head) + len(tail) == number * 8
    assert len(head) == small_logs // 2
    assert len(tail) >= small_logs // 4
    lines = tail.partition(b"\n")[2].split()
    assert [int(line) for line in lines] == list(range(number - len(lines), number))
    assert sorted(path.name for path in bench.folder.glob("x.log*")) == ["x.log"]


def test_a_log_that_is_used_again_stays_in_bounds(bench, small_logs):
    child = bench.child(f"sys.stderr.write('x' * {small_logs})")
    bench.until_gone(child)
    for _ in range(4):
        child.start(bench.folder / "x.log")
        bench.until_gone(child)
    assert sum(path.stat().st_size for path in bench.folder.glob("x.log*")) <= 2 * small_logs + 200


def test_what_a_crash_left_of_a_log_is_put_together(bench, small_logs):
    for name, text in (("x.log", b"first\n"), ("x.log.old", b"last\n"), ("x.log.tail", b"words\n")):
        (bench.folder / name).write_bytes(text)
    bench.until_gone(bench.child("sys.stderr.write('again\\n')"))
    assert bench.log() == b"first\n\n[some of this log was left out here]\nlast\nwords\nagain\n"


def test_a_child_works_on_without_its_log(bench, caplog):
    (bench.folder / "no").write_text("a file where a folder should be")
    child = bench.child(ECHO)
    for name in ("no/one.log", "two.log"):
        child.give(a_task(), bench.folder / name)
        assert isinstance(bench.hears(child).said, StepSaid)
        assert isinstance(bench.hears(child).said, DoneSaid)
    child.stop()
    bench.until_gone(child)
    assert bench.log("two").startswith(b"at ")
    assert [record.__dict__["event"] for record in caplog.records] == ["no-log"]


# --------------------------------------------------------------------------- judging


@dataclass
class Worked:
    """A child as a Watch sees it."""

    began: float
    since: float
    busy: object = "a task"


def looked(
    watch: Watch, clock: StandingClock, child: Worked, *, for_s: float, steps_every: float | None = None
) -> str | None:
    """The first verdict within a time, looked for every second."""
    end = clock.monotonic() + for_s
    while clock.monotonic() < end:
        clock.pass_by(1)
        if steps_every is not None and clock.monotonic() - child.since >= steps_every:
            child.since = clock.monotonic()
        if verdict := watch.verdict(child):
            return verdict
    return None


def watched(*, quiet_s: float, wall_s: float = 21_600) -> tuple[Watch, StandingClock, Worked]:
    clock = StandingClock()
    return Watch(clock, wall_s=wall_s, quiet_s=quiet_s), clock, Worked(began=clock.monotonic(), since=clock.monotonic())


def test_a_silent_child_is_stalled_after_the_quiet_time():
    watch, clock, child = watched(quiet_s=300)
    assert looked(watch, clock, child, for_s=10_000) == "stalled"
    assert 300 < clock.monotonic() - child.since < 305


def test_a_child_that_makes_steps_has_the_wall_time():
    watch, clock, child = watched(quiet_s=300, wall_s=2000)
    assert looked(watch, clock, child, for_s=10_000, steps_every=299) == "timeout"
    assert 2000 < clock.monotonic() - child.began < 2005


def test_a_child_without_a_task_is_left_alone():
    watch, clock, child = watched(quiet_s=300, wall_s=2000)
    child.busy = None
    assert looked(watch, clock, child, for_s=10_000) is None


@pytest.mark.parametrize("jump", [24 * 3600.0, -48 * 3600.0])
def test_a_wall_clock_that_jumps_changes_nothing(jump):
    watch, clock, child = watched(quiet_s=300)
    assert looked(watch, clock, child, for_s=200) is None
    clock.jump(jump)
    assert looked(watch, clock, child, for_s=99) is None
    assert looked(watch, clock, child, for_s=10) == "stalled"


def test_time_in_which_nobody_looked_is_nobodys_fault():
    """The farm was stopped for a day; what its child said meanwhile is heard first, then it has its time again."""
    watch, clock, child = watched(quiet_s=300, wall_s=90_000)
    assert looked(watch, clock, child, for_s=250) is None
    clock.pass_by(86_400)
    assert looked(watch, clock, child, for_s=290) is None
    assert looked(watch, clock, child, for_s=20) == "stalled"


def test_after_a_day_stopped_even_the_wall_time_waits_for_what_was_said():
    watch, clock, child = watched(quiet_s=300, wall_s=3600)
    assert looked(watch, clock, child, for_s=100, steps_every=10) is None
    clock.pass_by(86_400)
    assert looked(watch, clock, child, for_s=50, steps_every=10) is None
    assert looked(watch, clock, child, for_s=50, steps_every=10) == "timeout"


def test_limits_shorter_than_the_time_for_reading_hold_too():
    watch, clock, child = watched(quiet_s=3, wall_s=5)
    assert looked(watch, clock, child, for_s=20) == "stalled"
    assert clock.monotonic() - child.since <= 8
    watch, clock, child = watched(quiet_s=300, wall_s=5)
    assert looked(watch, clock, child, for_s=20) == "timeout"


@pytest.mark.parametrize(
    ("seconds", "expected", "suspicious"),
    [(100, 100, False), (11, 100, False), (9, 100, True), (0.01, 100, True), (0.01, 4, False), (500, 100, False)],
)
def test_too_fast_is_a_small_part_of_what_was_expected(seconds: float, expected: float, suspicious: bool):
    assert Watch.suspiciously_fast(seconds, expected) is suspicious


def test_the_queue_holds_nothing_more(bench):
    child = bench.child("pass")
    bench.until_gone(child)
    with pytest.raises(Empty):
        bench.events.get_nowait()
