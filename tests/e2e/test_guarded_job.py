"""A job looks at what it rendered and at what it rendered it from: neither black frames nor changed plates pass."""

import shutil
from collections import namedtuple
from collections.abc import Generator

import numpy as np
import pytest
from submissions import Cut, finish, span, submitted, told, write_exr

from scail2_farm import engine
from scail2_farm.job import Outcome, Rendering, ShotDone, ShotFailed, run
from scail2_farm.plan import plan


class Failing(engine.Engine):
    """An engine whose first pictures are black; it notes in how many rows at a time it worked."""

    def __init__(self, snapshot, *, black: int):
        super().__init__(snapshot)
        self.black = black
        self.worked_in: list[int] = []

    def render(self, inputs, *, noise=None, conditioning=None):
        self.worked_in.append(self.rows)
        result = yield from super().render(inputs, noise=noise, conditioning=conditioning)
        if len(self.worked_in) <= self.black:
            result.frames[:] = 0
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
    failing = Failing(engine.load(two_shots.weights).snapshot, black=black)
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
