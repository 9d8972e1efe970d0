"""A job looks at what it rendered and at what it rendered it from: neither black frames nor changed plates pass."""

import errno
import os
import shutil
from collections import namedtuple
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from submissions import Cut, finish, read_exr, read_gray, span, submitted, told, write_exr

from scail2_farm import engine
from scail2_farm.documents import Report, Segment, read_document
from scail2_farm.job import Outcome, Rendering, ShotDone, ShotFailed, run
from scail2_farm.plan import plan


def blacken(frames: np.ndarray) -> None:
    frames[:] = 0


def freeze(frames: np.ndarray) -> None:
    frames[:] = frames[0]


class Failing(engine.Engine):
    """An engine whose first segments are spoiled; it notes in how many rows at a time it worked."""

    def __init__(self, snapshot, *, times: int, spoil: Callable[[np.ndarray], None] = blacken):
        super().__init__(snapshot)
        self.times, self.spoil = times, spoil
        self.worked_in: list[int] = []

    def render(self, inputs, *, noise=None, conditioning=None):
        self.worked_in.append(self.rows)
        result = yield from super().render(inputs, noise=noise, conditioning=conditioning)
        if len(self.worked_in) <= self.times:
            self.spoil(result.frames)
        return result


@pytest.fixture
def two_shots(cut: Cut) -> Cut:
    """Two shots of one segment each."""
    cut.character("ada", "blue", (220, 30, 30))
    cut.manifest["handles"] = {"head": 0, "tail": 0}
    for seed, shot in enumerate(("SH010", "SH020")):
        cut.plate(shot, 5, seed=seed)
        cut.matte(shot, "ada", 5, (20, 10, 20, 30))
        cut.clip(shot, first=0, count=5, available=5)
    cut.manifest["cast"] = [{"when": {"clip": "SH*"}, "characters": [{"id": "ada"}]}]
    return cut


@pytest.mark.parametrize("black", [1, 2])
def test_a_black_segment_is_tried_once_more_with_care(two_shots: Cut, black: int, monkeypatch: pytest.MonkeyPatch):
    failing = Failing(engine.load(two_shots.weights).snapshot, times=black)
    rows = failing.rows
    monkeypatch.setattr(engine, "load", lambda folder, **_: failing)
    outcome, events = submitted(two_shots)
    assert failing.worked_in == [rows, rows // 4, rows], "smaller pieces, for that segment alone"
    done = [event.shot for event in events if isinstance(event, ShotDone)]
    if black == 1:
        assert done == ["SH010", "SH020"]
        assert outcome.faults == []
        return
    assert done == ["SH020"], "the other shot goes on"
    (fault,) = outcome.faults
    assert (fault.code, fault.where.shot) == ("SF-GUARD-FAILED", "SH010")
    monkeypatch.undo()
    outcome, events = submitted(two_shots)
    assert [event.shot for event in events if isinstance(event, Rendering)] == ["SH010"] * 2
    assert outcome.faults == [], "nothing black was kept to be found again"


def evidence_of(cut: Cut) -> list[Path]:
    """What is kept of segments that were refused twice."""
    return sorted((cut.folder / "edit.scail2/.work/evidence").glob("*"))


@pytest.mark.parametrize(("spoil", "words"), [(blacken, "is black"), (freeze, "is frozen")])
def test_what_was_refused_twice_can_be_looked_at(two_shots: Cut, spoil, words, farm, monkeypatch: pytest.MonkeyPatch):
    failing = Failing(engine.load(two_shots.weights).snapshot, times=2, spoil=spoil)
    monkeypatch.setattr(engine, "load", lambda folder, **_: failing)
    said = farm("submit", two_shots.write(), "--weights", two_shots.weights, "--json")
    assert (said.code, [take["shot"] for take in said.document["takes"]]) == (7, ["SH020"])
    (fault,) = said.document["faults"]
    (folder,) = evidence_of(two_shots)
    segment = read_document(folder / "segment.json", Segment)
    assert folder.name == f"SH010-1-{segment.key[:8]}"
    assert words in fault["what"]
    assert fault["fix"].startswith(f"look at frames/ in {folder}, which is what was refused; then ")
    assert fault["fix"] in said.err
    assert Path(fault["where"]["file"]) == folder / f"raw/{segment.keep.first:07d}.exr"
    assert fault["fix"] in (folder / "FAULT.txt").read_text()
    report = read_document(folder / "report.json", Report)
    assert len(report.frames) == 3 * 5 + 1
    pictures = [read_exr(folder / f"raw/{frame:07d}.exr") for frame in segment.keep.range.numbers]
    assert all((picture == (0 if spoil is blacken else pictures[0])).all() for picture in pictures)
    assert read_exr(folder / f"frames/{segment.keep.first:07d}.exr").shape == (48, 80, 3)
    assert read_gray(folder / f"comp_matte/{segment.keep.first:07d}.exr").max() == 1
    assert not list((two_shots.folder / "edit.scail2/.work").glob("*.stage")), "it is nowhere twice"


def test_evidence_outlives_success_until_it_is_old(two_shots: Cut, monkeypatch: pytest.MonkeyPatch):
    spoiled = Failing(engine.load(two_shots.weights).snapshot, times=2)
    monkeypatch.setattr(engine, "load", lambda folder, **_: spoiled)
    submitted(two_shots)
    (first,) = evidence_of(two_shots)
    frozen = Failing(spoiled.snapshot, times=2, spoil=freeze)
    monkeypatch.setattr(engine, "load", lambda folder, **_: frozen)
    submitted(two_shots)
    assert evidence_of(two_shots) == [first], "refused again, it takes the place of what was kept"
    assert "is frozen" in (first / "FAULT.txt").read_text()
    monkeypatch.undo()
    outcome, _ = submitted(two_shots)
    assert [shot.shot for shot in outcome.done] == ["SH010", "SH020"]
    assert outcome.faults == []
    work = two_shots.folder / "edit.scail2/.work"
    assert [path.name for path in work.iterdir() if path.is_dir()] == ["evidence"]
    assert evidence_of(two_shots) == [first]
    os.utime(first, (0, 0))
    submitted(two_shots)
    assert evidence_of(two_shots) == [], "it is as old as scratch may be"


def test_what_is_no_number_leaves_words(two_shots: Cut, tmp_path, farm):
    broken = shutil.copytree(two_shots.weights, tmp_path / "nan")
    tensors = load_file(broken / "dit.safetensors")
    tensors["head.head.bias"][:] = np.nan
    (broken / "dit.safetensors").unlink()
    save_file(tensors, broken / "dit.safetensors")
    said = farm("submit", two_shots.write(), "--weights", broken, "--json")
    assert said.code == 7
    assert [fault["where"]["shot"] for fault in said.document["faults"]] == ["SH010", "SH020"]
    for fault, folder in zip(said.document["faults"], evidence_of(two_shots), strict=True):
        assert "not finite after solver step 1 of 2 of segment 1" in fault["what"]
        assert fault["fix"].endswith(
            f"no picture was made: FAULT.txt in {folder} says where it stopped, segment.json what was asked"
        )
        assert fault["where"]["file"] == str(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["FAULT.txt", "segment.json"]
        assert "after solver step 1 of 2" in (folder / "FAULT.txt").read_text()
        assert read_document(folder / "segment.json", Segment).shot == fault["where"]["shot"]


def test_a_full_disk_is_no_evidence(two_shots: Cut, monkeypatch: pytest.MonkeyPatch):
    real = os.replace

    def full(source: Path, target: Path) -> None:
        if target.parent.suffix == ".stage" and target.name == "report.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    outcome, _ = submitted(two_shots)
    assert [fault.code for fault in outcome.faults] == ["SF-DISK-FULL"] * 2
    assert evidence_of(two_shots) == []


def stopped_at_first_step(job: Generator[object, None, Outcome]) -> None:
    while not isinstance(next(job), Rendering):
        pass


@pytest.mark.parametrize("gone", [False, True])
def test_a_plate_that_changes_while_it_is_rendered_from_fails_its_shot(two_shots: Cut, gone: bool):
    job = run(finish(plan(two_shots.write())), weights=two_shots.weights, raw=False)
    stopped_at_first_step(job)
    path = two_shots.folder / "plates/SH010/SH010.1003.exr"
    if gone:
        path.unlink()
    else:
        write_exr(path, np.zeros((48, 80, 3), np.float16), frame=86402)
    outcome = finish(job)
    (fault,) = outcome.faults
    assert (fault.code, fault.where.shot) == ("SF-FRAME-TRUNCATED", "SH010")
    assert "SH010.1003.exr" in fault.what
    assert [shot.shot for shot in outcome.done] == ["SH020"]
    assert not two_shots.version("SH010").exists()


def test_a_plate_that_changes_before_its_turn_fails_its_shot(two_shots: Cut):
    job = run(finish(plan(two_shots.write())), weights=two_shots.weights, raw=False)
    stopped_at_first_step(job)
    write_exr(two_shots.folder / "plates/SH020/SH020.1003.exr", np.zeros((48, 80, 3), np.float16), frame=86402)
    outcome, events = told(job)
    assert [fault.where.shot for fault in outcome.faults] == ["SH020"]
    assert "SH020" not in {event.shot for event in events if isinstance(event, Rendering)}, "it is not even begun"
    assert [event.shot for event in events if isinstance(event, ShotFailed)] == ["SH020"]
    outcome, _ = submitted(two_shots)
    assert outcome.faults == [], "planned with it as it is now, it is rendered"


def test_a_disk_that_fills_up_before_delivery_is_told_and_nothing_is_lost(
    two_shots: Cut, monkeypatch: pytest.MonkeyPatch
):
    two_shots.clips[0]["source_range"] = span(86400, 4)
    usage = namedtuple("usage", "total used free")
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9, 9, 1000) if "v001" in str(path) else real(path))
    outcome, _ = submitted(two_shots)
    assert {fault.code for fault in outcome.faults} == {"SF-DISK-FULL"}
    assert "SH010 may need" in outcome.faults[0].what
    assert not list((two_shots.folder / "edit.scail2/shots").rglob("*.exr"))
    monkeypatch.undo()
    outcome, events = submitted(two_shots)
    assert outcome.faults == []
    assert not [event for event in events if isinstance(event, Rendering)], "finished segments are kept"
