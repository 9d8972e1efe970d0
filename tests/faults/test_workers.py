"""Real worker processes, and foreign ones in their place: what happened is known, and nothing is done twice."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from scail2_farm.documents import (
    CheckTask,
    DeliverTask,
    DoneSaid,
    FailedSaid,
    Planned,
    PlannedShot,
    PlanTask,
    RenderTask,
    ReturnTask,
    SealedShot,
    StepSaid,
    Submission,
    Task,
    read_document,
    segment_folder,
)
from scail2_farm.errors import (
    DiskFull,
    EngineFailed,
    FarmError,
    FrameTruncated,
    GuardFailed,
    PlateMissing,
    ResourceError,
    WeightsMissing,
    Where,
)
from scail2_farm.farm.dispatch import Child, Gone, Heard, Noise, OrphanAlive, Watch, holder, orphans
from scail2_farm.farm.host import SystemClock, boot_id, end_process, process_start
from scail2_farm.farm.worker import failure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
from submissions import Cut, planned_shot, plate_pixels, sealed, write_exr

HERE = Path(__file__).resolve().parent
FULL = bool(os.environ.get("SCAIL2_FULL"))
ORPHANS = 100 if FULL else 10
NOISE_MB = 1024 if FULL else 64
WORKER = (sys.executable, "-m", "scail2_farm", "worker")
PATIENCE_S = 60.0


@dataclass
class Bench:
    """Children with one queue, in a folder."""

    folder: Path
    events: SimpleQueue[Heard] = field(default_factory=SimpleQueue)
    children: list[Child] = field(default_factory=list)
    owners: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def locks(self) -> Path:
        return self.folder / "locks"

    def child(self, slot: str = "render-1", command: Sequence[str] = WORKER) -> Child:
        child = Child(
            slot,
            locks=self.locks,
            command=command,
            events=self.events,
            clock=SystemClock(),
            environment=dict(os.environ),
        )
        child.start(self.folder / f"{slot}.log")
        self.children.append(child)
        return child

    def foreign(self, name: str, *arguments: object) -> Child:
        """A script of commands/ in place of the worker, with a task."""
        script = str(HERE / "commands" / f"{name}.py")
        child = self.child(command=[sys.executable, script, *(str(argument) for argument in arguments)])
        submission = Submission(name="edit", manifest="edit.shots.yaml")
        child.give(ReturnTask(submission=submission, plan="", takes=()), self.folder / "task.log")
        return child

    def heard(self, child: Child, *, within_s: float = PATIENCE_S) -> object:
        heard = self.events.get(timeout=within_s)
        assert child.hear(heard), heard
        return heard.said

    def until_gone(self, child: Child) -> list[object]:
        told: list[object] = []
        while child.alive:
            told.append(self.heard(child))
        return told

    def done(self, child: Child, task: Task, log: str = "task") -> tuple[DoneSaid | FailedSaid, list[StepSaid]]:
        """What a task came to, and the steps on the way."""
        steps: list[StepSaid] = []
        child.give(task, self.folder / f"{log}.log")
        while isinstance(said := self.heard(child), StepSaid):
            steps.append(said)
        assert isinstance(said, DoneSaid | FailedSaid), said
        return said, steps


@pytest.fixture
def bench(tmp_path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "bench")
    bench.folder.mkdir()
    yield bench
    for process in bench.owners:
        process.kill()
        process.communicate()
    for child in bench.children:
        child.kill()
        assert child.wait(PATIENCE_S)


def one_shot(folder: Path, weights: Path) -> Cut:
    """A cut of one clip and one character: 14 frames, three segments."""
    cut = Cut(folder, weights)
    cut.character("ada", "blue", (220, 30, 30))
    cut.plate("SH010", 16)
    cut.matte("SH010", "ada", 16, (20, 10, 20, 30))
    cut.clip("SH010", first=3, count=10, available=16)
    cut.manifest["cast"] = [{"when": {"clip": "SH*"}, "characters": [{"id": "ada"}]}]
    return cut


@pytest.fixture
def cut(tmp_path, weights) -> Cut:
    return one_shot(tmp_path / "show", weights)


def until(true: Callable[[], object], *, within_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# --------------------------------------------------------------------------- the whole walk


@dataclass
class Walk:
    """A cut on its way through the worker, as the farm takes it."""

    bench: Bench
    cut: Cut
    child: Child

    folder: Path

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def plan(self) -> Path:
        return self.folder / "plan"

    @property
    def submission(self) -> Submission:
        edit = self.cut.write()
        manifest = str(edit.with_name("edit.shots.yaml"))
        return Submission(name="edit", edit=str(edit), manifest=manifest, home=str(self.cut.folder))

    def planned(self, **more: object) -> tuple[Planned, list[PlannedShot]]:
        task = PlanTask(
            submission=self.submission,
            weights=str(self.cut.weights),
            work=str(self.work),
            folder=str(self.plan),
            returned=str(self.folder / "returned"),
        )
        said, _ = self.bench.done(self.child, task.model_copy(update=more), "plan")
        assert isinstance(said, DoneSaid), said
        lines = (self.plan / "shots.jsonl").read_bytes().splitlines()
        shots = [PlannedShot.model_validate_json(line) for line in lines]
        planned = read_document(self.plan / "planned.json", Planned)
        assert planned.shots == len(shots)
        return planned, shots

    def stage(self, shot: SealedShot, index: int) -> Path:
        return segment_folder(self.work, shot.segments[index].key).with_suffix(".1")

    def render(self, shot: SealedShot, index: int, **more: object) -> tuple[DoneSaid | FailedSaid, list[StepSaid]]:
        task = RenderTask(shot=shot, index=index, work=str(self.work), folder=str(self.stage(shot, index)))
        return self.bench.done(self.child, task.model_copy(update=more), f"render-{index}")

    def check(self, shot: SealedShot, index: int) -> DoneSaid | FailedSaid:
        task = CheckTask(shot=shot, index=index, work=str(self.work), folder=str(self.stage(shot, index)))
        return self.bench.done(self.child, task, f"check-{index}")[0]

    def publish(self, shot: SealedShot, index: int) -> None:
        self.stage(shot, index).rename(segment_folder(self.work, shot.segments[index].key))

    def rendered(self, shot: SealedShot) -> None:
        for index in range(len(shot.segments)):
            said, _ = self.render(shot, index)
            assert isinstance(said, DoneSaid), said
            self.publish(shot, index)

    def deliver(self, shot: SealedShot, to: str) -> DoneSaid | FailedSaid:
        task = DeliverTask(shot=shot, work=str(self.work), to=to, raw=False, movie="prores")
        return self.bench.done(self.child, task, "deliver")[0]


@pytest.fixture(scope="module")
def staff(tmp_path_factory) -> Iterator[Bench]:
    """One worker that does the tasks of test after test, as it does those of a farm."""
    bench = Bench(tmp_path_factory.mktemp("staff"))
    bench.child()
    yield bench
    bench.children[0].stop()
    assert bench.until_gone(bench.children[0]) == [Gone(rc=None, signal=signal.SIGKILL)]


@pytest.fixture
def walk(staff, cut, tmp_path) -> Walk:
    return Walk(staff, cut, staff.children[0], tmp_path / "farm")


def test_a_cut_walks_through_the_worker_as_it_does_in_place(walk, tmp_path, weights):
    planned, (first,) = walk.planned()
    assert (planned.faults, planned.held, planned.cut) == ((), (), str(walk.cut.folder / "edit.scail2.otio"))
    assert (first.finished, first.delivered) == ((False,) * 3, False)
    shot = first.shot
    for index in range(3):
        said, steps = walk.render(shot, index, careful=index == 1)
        assert isinstance(said, DoneSaid), said
        assert [step.what for step in steps if step.step] == ["SH010", "SH010"]
        assert [(step.step, step.of) for step in steps[-2:]] == [(1, 2), (2, 2)]
        assert len(said.steps_seconds) == 2
        assert said.seconds > sum(said.steps_seconds) > 0
        assert said.peak_bytes > 0
        assert isinstance(walk.check(shot, index), DoneSaid)
        walk.publish(shot, index)
    delivered = walk.deliver(shot, planned.deliver_to)
    assert isinstance(delivered, DoneSaid), delivered
    assert (delivered.folder, delivered.version) == (str(walk.cut.version("SH010")), 1)
    assert walk.deliver(shot, planned.deliver_to) == delivered
    back = ReturnTask(submission=walk.submission, plan=str(walk.plan), takes=(delivered.folder,))
    returned, _ = walk.bench.done(walk.child, back)
    assert returned == DoneSaid(folder=planned.cut)
    report = json.loads(text_of(Path(planned.deliver_to) / "report.json"))
    assert report["returned"] == planned.cut
    assert [(take["shot"], take["version"]) for take in report["takes"]] == [("SH010", 1)]
    assert (report["faults"], report["rebased"]) == ([], [])

    again, (second,) = walk.planned()
    assert second.delivered
    assert again == planned

    here = one_shot(tmp_path / "here", weights)
    here.write()
    done = here.run("submit", "edit.otio", "--here", "--weights", str(weights))
    assert done.returncode == 0, done.stderr
    names = sorted(path.relative_to(here.version("SH010")) for path in here.version("SH010").rglob("*.exr"))
    assert len(names) == 2 * 14
    for name in names:
        assert (here.version("SH010") / name).read_bytes() == (walk.cut.version("SH010") / name).read_bytes(), name
    ours, theirs = (json.loads(text_of(folder / "edit.scail2.otio")) for folder in (walk.cut.folder, here.folder))
    assert ours == theirs


def test_a_cut_returned_elsewhere_leads_to_its_media(walk, tmp_path):
    walk.cut.manifest["deliver"] = {"to": str(tmp_path / "elsewhere")}
    planned, (first,) = walk.planned()
    assert planned.cut == str(tmp_path / "elsewhere" / "edit.scail2.otio")
    walk.rendered(first.shot)
    delivered = walk.deliver(first.shot, planned.deliver_to)
    back = ReturnTask(submission=walk.submission, plan=str(walk.plan), takes=(delivered.folder,))
    assert walk.bench.done(walk.child, back)[0] == DoneSaid(folder=planned.cut)
    plates = (walk.cut.folder / "plates" / "SH010").as_uri() + "/"
    report = json.loads(text_of(Path(planned.deliver_to) / "report.json"))
    assert report["rebased"] == [{"written": "plates/SH010/", "now": plates}]
    assert plates in text_of(Path(planned.cut))


def test_a_plan_with_faults_tells_them_all_and_seals_nothing(walk):
    walk.cut.manifest["cast"][0]["characters"] = [{"id": "eva"}]
    walk.cut.manifest["colour"] = {}
    planned, shots = walk.planned()
    assert shots == []
    assert sorted(fault.code for fault in planned.faults) == ["SF-CHARACTER-UNKNOWN", "SF-SUBMISSION-INVALID"]


def test_a_seed_outranks_the_manifest(walk):
    _, (own,) = walk.planned()
    _, (other,) = walk.planned(seeds={"SH010": 77})
    assert {segment.seed for segment in own.shot.segments} == {11}
    assert {segment.seed for segment in other.shot.segments} == {77}
    assert own.shot.key != other.shot.key


def test_a_shot_that_cannot_be_planned_is_held(walk):
    walk.cut.plate("SH020", 16, seed=2)
    walk.cut.matte("SH020", "ada", 16, (20, 10, 20, 30))
    walk.cut.clip("SH020", first=3, count=10, available=16)
    (walk.cut.folder / "plates" / "SH020" / "SH020.1007.exr").unlink()
    planned, (shot,) = walk.planned()
    assert shot.shot.id == "SH010"
    assert [(held.shot, held.fault.code) for held in planned.held] == [("SH020", "SF-PLATE-MISSING")]
    assert planned.faults == ()


# --------------------------------------------------------------------------- what goes wrong in a task


@pytest.fixture
def shot(walk) -> SealedShot:
    """The shot, sealed in this process."""
    (found,) = sealed([planned_shot(walk.cut)], weights=walk.cut.weights, work=walk.work)
    return found


def failed(said: object, kind: str, code: str) -> FailedSaid:
    assert isinstance(said, FailedSaid), said
    assert (said.kind, said.fault.code) == (kind, code), said
    return said


def test_a_plate_that_changed_is_told_before_and_after_rendering(walk, shot):
    plate = walk.cut.folder / "plates" / "SH010" / "SH010.1006.exr"
    whole = plate.read_bytes()
    write_exr(plate, plate_pixels(9, 5), frame=86405)
    said = failed(walk.render(shot, 0)[0], "changed", "SF-FRAME-TRUNCATED")
    assert said.fault.where["file"] == str(plate)
    plate.write_bytes(whole)
    assert isinstance(walk.render(shot, 0)[0], DoneSaid), "the same bytes again are no change"

    shutil.rmtree(walk.stage(shot, 0))
    task = RenderTask(shot=shot, index=0, work=str(walk.work), folder=str(walk.stage(shot, 0)))
    walk.child.give(task, walk.bench.folder / "late.log")
    while not isinstance(walk.bench.heard(walk.child), StepSaid):
        pass
    write_exr(plate, plate_pixels(9, 5), frame=86405)
    while isinstance(said := walk.bench.heard(walk.child), StepSaid):
        pass
    failed(said, "changed", "SF-FRAME-TRUNCATED")
    assert not (walk.stage(shot, 0) / "report.json").exists()


def test_what_went_wrong_is_told_by_its_kind(walk, shot, weights, tmp_path):
    gone = shot.model_copy(update={"weights": shot.weights.model_copy(update={"path": str(tmp_path / "no")})})
    task = PlanTask(
        submission=walk.submission,
        weights=str(tmp_path / "no"),
        work=str(walk.work),
        folder=str(walk.plan),
        returned="",
    )
    failed(walk.bench.done(walk.child, task)[0], "setup", "SF-WEIGHTS-MISSING")
    failed(walk.render(gone, 0)[0], "storage", "SF-SHARE-UNAVAILABLE")
    failed(walk.render(shot, 1)[0], "storage", "SF-FRAME-TRUNCATED")
    failed(walk.check(shot, 0), "guard", "SF-GUARD-FAILED")
    failed(walk.deliver(shot, str(tmp_path / "to")), "storage", "SF-SHARE-UNAVAILABLE")
    (tmp_path / "to").mkdir()
    failed(walk.deliver(shot, str(tmp_path / "to")), "storage", "SF-FRAME-TRUNCATED")
    walk.rendered(shot)
    beyond = RenderTask(shot=shot, index=7, work=str(walk.work), folder=str(walk.work / "beyond"))
    failed(walk.bench.done(walk.child, beyond, "beyond")[0], "crash", "SF-ENGINE-FAILED")
    lines = [json.loads(line) for line in text_of(walk.bench.folder / "beyond.log").splitlines()]
    assert [line["event"] for line in lines] == ["begun", "crashed"]
    assert "Traceback" in lines[1]["traceback"]
    assert "IndexError" in lines[1]["traceback"]
    assert all(line["at"].endswith("+00:00") for line in lines)
    assert walk.child.alive
    assert isinstance(walk.deliver(shot, str(tmp_path / "to")), DoneSaid), "the worker works on"


def test_a_history_that_was_damaged_is_a_matter_of_our_own_disk(walk, shot):
    assert isinstance(walk.render(shot, 0)[0], DoneSaid)
    walk.publish(shot, 0)
    folder = segment_folder(walk.work, shot.segments[0].key)
    history = np.load(folder / "history.npy")
    np.save(folder / "history.npy", history + 1)
    failed(walk.render(shot, 1)[0], "storage", "SF-FRAME-TRUNCATED")
    assert not (folder / "report.json").exists(), "it is one to be rendered again"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PlateMissing("x"), "input"),
        (FrameTruncated("x", where=Where(file=str(HERE / "plate.1001.exr"))), "changed"),
        (FrameTruncated("x", where=Where(file="/a/volume/that/is/away/plate.1001.exr")), "storage"),
        (FrameTruncated("x", where=Where(file="/volume/work/abc/history.npy")), "storage"),
        (FrameTruncated("x"), "storage"),
        (WeightsMissing("x"), "setup"),
        (DiskFull("x"), "storage"),
        (ResourceError("x"), "memory"),
        (GuardFailed("x"), "guard"),
        (EngineFailed("x"), "engine"),
    ],
)
def test_every_error_has_its_kind(error: FarmError, kind: str):
    assert failure(error, work="/volume/work") == kind


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are named in /proc alone")
def test_what_libraries_print_goes_to_the_log(bench):
    child = bench.child()
    wanted = [f"/proc/{child.pid}/fd/{number}" for number in range(3)]
    until(lambda: Path(wanted[0]).readlink() == Path("/dev/null"))
    until(lambda: Path(wanted[1]).readlink() == Path(wanted[2]).readlink())


# --------------------------------------------------------------------------- the farm dies


@pytest.fixture
def endless_task(tmp_path, weights) -> Path:
    """A task that keeps the tiny engine busy for minutes: 41 frames of 832x480."""
    cut = one_shot(tmp_path / "large", weights)
    cut.manifest["defaults"] |= {"size": "832x480", "segment": {"length": 41, "overlap": 5}}
    work = tmp_path / "work"
    (shot,) = sealed([planned_shot(cut)], weights=weights, work=work)
    path = tmp_path / "task.json"
    task = RenderTask(shot=shot, index=0, work=str(work), folder=str(work / "stage"))
    path.write_text(task.model_dump_json(by_alias=True))
    return path


@dataclass
class Owner:
    """A farm in little, with a worker that renders."""

    process: subprocess.Popen[str]
    worker: int

    def until_it_renders(self) -> None:
        """Until the engine is being opened: from there on it computes."""
        assert self.process.stdout is not None
        assert "loading" in self.process.stdout.readline()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def owner(bench: Bench, task: Path) -> Owner:
    command = [sys.executable, str(HERE / "commands" / "owner.py")]
    arguments = [str(bench.locks), str(task), str(bench.folder / "owned.log")]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True, cwd=HERE.parents[1])
    bench.owners.append(process)
    assert process.stdout is not None
    return Owner(process, int(process.stdout.readline()))


def started(bench: Bench) -> tuple[Child | None, int | None]:
    """A child in the orphan's slot, or the process that is in its way."""
    try:
        return bench.child(command=[sys.executable, "-c", "pass"]), None
    except OrphanAlive as alive:
        return None, alive.pid


def test_an_orphan_is_gone_in_a_second_and_nothing_starts_before(bench, endless_task):
    chance = random.Random(7)
    seconds: list[float] = []
    refused = 0
    for _ in range(ORPHANS):
        farm = owner(bench, endless_task)
        if chance.random() < 0.7:
            farm.until_it_renders()
        time.sleep(chance.uniform(0, 0.6))
        assert process_start(farm.worker)
        before = time.monotonic()
        farm.process.kill()
        child: Child | None = None
        while child is None:
            child, known = started(bench)
            refused += known is not None
            assert known in (None, farm.worker)
            assert time.monotonic() - before < 10
            time.sleep(0.002)
        assert process_start(farm.worker) is None, "the lock was free while the orphan lived"
        seconds.append(time.monotonic() - before)
        farm.kill()
        assert bench.until_gone(child) == [Gone(rc=0, signal=None)]
    sys.stdout.write(f"orphans gone after {max(seconds):.3f} s at worst of {ORPHANS}, {refused} starts refused\n")
    assert max(seconds) < 1.0
    assert refused >= ORPHANS


def test_a_stopped_orphan_is_ended_by_what_it_is(bench, endless_task):
    farm = owner(bench, endless_task)
    farm.until_it_renders()
    os.kill(farm.worker, signal.SIGSTOP)
    time.sleep(0.2)  # until it stands still
    known = holder(bench.locks, "render-1")
    assert known is not None
    assert (known.pid, known.boot) == (farm.worker, boot_id())
    farm.kill()
    time.sleep(0.2)
    with pytest.raises(OrphanAlive):
        bench.child()
    assert not end_process(known.pid, known.pid_start + "1", known.boot)
    assert not end_process(known.pid, known.pid_start, "another boot")
    assert not end_process(os.getpid(), known.pid_start, known.boot)
    assert orphans(bench.locks, "render-1")
    assert end_process(known.pid, known.pid_start, known.boot)
    until(lambda: not orphans(bench.locks, "render-1"))
    assert not end_process(known.pid, known.pid_start, known.boot)


def test_a_terminal_that_interrupts_the_farm_leaves_its_workers_alone(bench, endless_task):
    farm = owner(bench, endless_task)
    farm.until_it_renders()
    assert os.getpgid(farm.worker) == farm.worker != os.getpgid(farm.process.pid)
    farm.kill()


def test_a_stopped_worker_is_killed_in_the_middle_of_a_step(bench, endless_task):
    from pydantic import TypeAdapter

    child = bench.child()
    task: Task = TypeAdapter(Task).validate_json(endless_task.read_bytes())
    for end in (child.stop, child.kill):
        if not child.alive:
            child.start(bench.folder / "again.log")
        child.give(task, bench.folder / "task.log")
        assert isinstance(bench.heard(child), StepSaid)
        time.sleep(0.5)
        before = time.monotonic()
        end()
        (gone,) = bench.until_gone(child)
        assert gone == Gone(rc=None, signal=signal.SIGKILL)
        assert time.monotonic() - before < 1.0


# --------------------------------------------------------------------------- others in its place


def test_one_that_ends_well_without_a_word_is_gone(bench):
    assert bench.until_gone(bench.foreign("silent")) == [Gone(rc=0, signal=None)]


def test_one_that_dies_is_gone_by_its_signal(bench):
    step, gone = bench.until_gone(bench.foreign("dies"))
    assert isinstance(step, StepSaid)
    assert gone == Gone(rc=None, signal=signal.SIGSEGV)
    assert not gone.from_outside


def test_one_that_hangs_is_stalled(bench):
    child = bench.foreign("hangs")
    watch = Watch(SystemClock(), wall_s=PATIENCE_S, quiet_s=0.3)
    until(lambda: watch.verdict(child) == "stalled", within_s=5)
    assert child.busy is not None
    child.stop()
    assert not child.wait(0.2), "it is deaf to the end of its input"
    child.kill()
    assert bench.until_gone(child) == [Gone(rc=None, signal=signal.SIGKILL)]


def test_garbage_is_noise(bench):
    child = bench.foreign("garbage")
    assert isinstance(bench.heard(child), StepSaid)
    noise = bench.heard(child)
    assert isinstance(noise, Noise)
    assert "Loading: 3%" in noise.line
    assert child.busy is not None
    child.kill()
    assert bench.until_gone(child) == [Gone(rc=None, signal=signal.SIGKILL)]


def test_an_endless_line_is_noise_and_takes_no_memory(bench):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    noise, gone = bench.until_gone(bench.foreign("endless", NOISE_MB))
    assert isinstance(noise, Noise)
    assert noise.line == "y" * 200
    assert gone == Gone(rc=0, signal=None)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10


def test_a_flood_of_log_neither_stalls_nor_fills_the_disk(bench):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = bench.foreign("loud", NOISE_MB)
    most = 0
    while bench.events.empty():
        files = [path for path in bench.folder.glob("task.log*") if path.exists()]
        most = max(most, sum(path.stat().st_size for path in files if path.exists()))
        time.sleep(0.01)
    done, gone = bench.until_gone(child)
    assert (done, gone) == (DoneSaid(), Gone(rc=0, signal=None))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10
    log = (bench.folder / "task.log").read_bytes()
    assert log.startswith(b"." * 63 + b"\n")
    assert log.endswith(b"xthe end\n")
    words = log[log.index(b"\n[") + 2 :].partition(b"]")[0]
    assert int(words.split()[0]) + len(log) - len(b"\n[]\n") - len(words) == (NOISE_MB << 20) + len(b"the end\n")
    assert max(most, len(log)) <= (16 << 20) + 100
