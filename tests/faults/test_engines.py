"""Engines that go wrong, each in its own way, through a real farm: classed, told, tried again as long as it helps.

What is wrong with one shot is nobody else's affair: the other shots come back, and nothing bad is delivered.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from farmhouse import FULL, Books, Farm, books, pictures
from figures import record
from safetensors.numpy import load_file, save_file
from submissions import Cut, read_exr

from scail2_farm.documents import Segment, read_document
from scail2_farm.farm.dispatch import LOG_BYTES
from scail2_farm.farm.host import boot_id, process_start
from scail2_farm.farm.premises import MOST_LOSSES

SPOILING = Path(__file__).resolve().with_name("spoiling.py")
NOISE_MB = 1024 if FULL else 64
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")
CAGE_BYTES = 1 << 30
SLOW_S = 6.0
PATIENCE_S = 600.0 if FULL else 120.0


@dataclass(frozen=True)
class Ending:
    """What becomes of a shot whose engine goes wrong in one way: the class of each attempt, and the words."""

    classes: tuple[str, ...]
    code: str
    words: str

    pictures: bool = False
    """Whether what it hands in has pictures to be looked at."""

    @property
    def careful(self) -> tuple[int, ...]:
        """Which attempts are made in the safe policy: the second, where that can help."""
        return (0, 1) if self.classes[-1] in ("guard", "memory") else (0,) * len(self.classes)


def crashed(words: str) -> Ending:
    return Ending(("crash",) * 3, "SF-ENGINE-FAILED", words)


def refused(words: str, *, pictures: bool = True) -> Ending:
    return Ending(("guard",) * 2, "SF-GUARD-FAILED", words, pictures)


ENDINGS = {
    "silent": crashed("the engine ended with code 0 in the middle of segment 1"),
    "dying": crashed("the engine ended by signal 11 in the middle of segment 1"),
    "empty": refused("report.json is not there", pictures=False),
    "lacking": refused("frames, 1 of 5 frames (1005): not there"),
    "small": refused("raw, 5 of 5 frames (1001-1005): 32x32, where the canvas is 64x32"),
    "black": refused("the model's picture is black, in 5 of 5 frames (1001-1005)"),
    "frozen": refused("the model's picture is frozen, all alike to the last bit"),
    "overflow": refused("are not finite after solver step 1 of 2 of segment 1", pictures=False),
    "nan": refused("are not finite in decoded frame 1 of segment 1", pictures=False),
    "starving": Ending(("memory",) * 2, "SF-RESOURCE", "do not fit the memory of this machine"),
}
if FULL:
    lost = ("lost",) * MOST_LOSSES
    ENDINGS["killed"] = Ending((*lost, *["crash"] * 3), "SF-ENGINE-FAILED", "ended by signal 9")
if FULL and os.access(MEMORY_GROUPS, os.W_OK):
    ENDINGS["outgrowing"] = Ending(("memory",) * 2, "SF-RESOURCE", "there was no memory left")
GOOD = ("first", "loud", "last")
SPOILED = [*GOOD[:1], *ENDINGS, *GOOD[1:]]


def shots(folder: Path, weights: Path, names: Sequence[str]) -> Cut:
    """A cut of shots of one short segment each."""
    cut = Cut(folder, weights)
    cut.character("ada", "blue", (220, 30, 30))
    cut.manifest["handles"] = {"head": 0, "tail": 0}
    for seed, name in enumerate(names):
        cut.plate(name, 5, seed=seed)
        cut.matte(name, "ada", 5, (20, 10, 20, 30))
        cut.clip(name, first=0, count=5, available=5)
    cut.manifest["cast"] = [{"when": {"clip": "*"}, "characters": [{"id": "ada"}]}]
    return cut


@pytest.fixture(scope="module")
def broken(tmp_path_factory, weights) -> Path:
    """Snapshots whose weights are damaged so that the real engine computes what must not be delivered."""
    folder = tmp_path_factory.mktemp("broken")
    for name, file, values in (
        ("black", "vae.safetensors", {"decoder.head.2.weight": 0.0, "decoder.head.2.bias": -9.0}),
        ("nan", "vae.safetensors", {"decoder.head.2.bias": np.nan}),
        ("overflow", "dit.safetensors", {"head.head.bias": np.nan}),
    ):
        shutil.copytree(weights, folder / name)
        tensors = load_file(folder / name / file)
        for tensor, value in values.items():
            tensors[tensor][:] = value
        (folder / name / file).unlink()
        save_file(tensors, folder / name / file)
    return folder


@pytest.fixture(scope="module")
def cage() -> Iterator[Path]:
    """A control group with little memory, where they can be made."""
    if "outgrowing" not in ENDINGS:
        yield Path()
        return
    folder = MEMORY_GROUPS / f"scail2-farm-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / "memory.limit_in_bytes").write_text(str(CAGE_BYTES))
        yield folder
    finally:
        folder.rmdir()


@dataclass
class Ended:
    """A farm that is down after its job came back: what it told, and what it left."""

    farm: Farm
    cut: Cut
    receipt: dict[str, Any]
    status: dict[str, Any]
    why: dict[str, tuple[str, ...]]
    sweepable: tuple[str, ...]
    """What `gc --dry-run` lists."""

    @property
    def books(self) -> Books:
        return books(self.farm)

    def attempts(self, shot: str) -> list[tuple[Any, ...]]:
        """Class, safe policy, exit code, signal and worker of each attempt at a shot."""
        return self.books.rows(
            "SELECT attempt.class, attempt.careful, attempt.rc, attempt.signal, attempt.worker"
            f" FROM attempt JOIN shot ON shot.id = attempt.shot WHERE shot.name = '{shot}' ORDER BY attempt.id"
        )

    def classes(self, shot: str) -> tuple[str, ...]:
        return tuple(row[0] for row in self.attempts(shot))

    def logs(self, shot: str) -> list[Path]:
        rows = self.books.rows(
            f"SELECT attempt.id FROM attempt JOIN shot ON shot.id = attempt.shot WHERE shot.name = '{shot}'"
        )
        return [self.farm.places.log(f"{number:08d}") for (number,) in rows]

    def evidence(self, shot: str) -> list[Path]:
        """What is kept of a shot's segments that were refused twice."""
        return sorted(self.farm.places.evidence.glob(f"{shot}-*"))

    def linked(self) -> set[str]:
        """The clips of the returned cut that show a take."""
        cut = json.loads((self.cut.folder / "edit.scail2.otio").read_text())
        (track,) = cut["tracks"]["children"]
        return {
            clip["name"] for clip in track["children"] if clip["active_media_reference_key"] != "DEFAULT_MEDIA"
        }  # fmt: skip

    def delivered(self) -> set[str]:
        return {key.partition("/")[0] for key in pictures(self.cut.folder / "edit.scail2")}


FARMS: dict[str, tuple[Sequence[str], dict[str, str]]] = {
    "spoiled": (
        SPOILED,
        {
            "SPOIL": " ".join(f"{way}={way}" for way in (*ENDINGS, "loud")),
            "NOISE_MB": str(NOISE_MB),
            "SCAIL2_SCRATCH_DAYS": "0",
        },
    ),
    "hanging": (("hanging", "last"), {"SPOIL": "hanging=hanging", "SCAIL2_QUIET_MINUTES": str(SLOW_S / 60)}),
    "dawdling": (("dawdling",), {"SPOIL": "dawdling=dawdling", "SCAIL2_RENDER_HOURS": str(SLOW_S / 3600)}),
    "one bad worker": (("sh010", "sh020", "sh030", "sh040"), {"SPOIL_SLOTS": "render-1", "SCAIL2_WORKERS": "2"}),
    "bad workers": (("sh010", "sh020", "sh030"), {"SPOIL_SLOTS": "render-*", "SCAIL2_WORKERS": "2"}),
}
"""The farms of this module with the shots they are given; they run at the same time, since they mostly wait."""


@pytest.fixture(scope="module")
def ended(tmp_path_factory, weights, broken, cage) -> dict[str, Ended]:
    """Every farm after its job came back."""
    found: dict[str, Ended] = {}
    with ExitStack() as running:
        begun: dict[str, tuple[Farm, Cut]] = {}
        for name, (names, environment) in FARMS.items():
            folder = tmp_path_factory.mktemp("farm")
            environment = environment | {
                "BROKEN": str(broken), "CAGE": str(cage), "LOCKS": str(folder / "farm/.farm/locks")
            }  # fmt: skip
            farm = Farm(folder / "farm", weights, environment=environment, script=SPOILING)
            cut = shots(folder / "show", weights, names)
            running.enter_context(farm).drop(cut)
            begun[name] = farm, cut
        for name, (farm, cut) in begun.items():
            receipt = farm.returned(within_s=PATIENCE_S)
            status = farm.ask("status").document
            why = {shot: farm.ask("why", f"edit/{shot}").said for shot in FARMS[name][0]}
            sweepable = farm.ask("gc", dry_run=True).said
            assert farm.end() == 0, farm.said[-4000:]
            found[name] = Ended(farm, cut, receipt, status, why, sweepable)
    return found


# --------------------------------------------------------------------------- each in its own way


@pytest.mark.parametrize("way", ENDINGS)
def test_what_goes_wrong_is_classed_and_told(ended, way):
    spoiled, ending = ended["spoiled"], ENDINGS[way]
    attempts = spoiled.attempts(way)
    assert tuple(row[0] for row in attempts) == ending.classes
    if ending.classes[0] != "lost":
        assert tuple(row[1] for row in attempts) == ending.careful
    told = spoiled.books.rows(
        "SELECT json_extract(facts, '$.kind'), json_extract(facts, '$.fault.code'),"
        " json_extract(facts, '$.fault.what')"
        f" FROM event WHERE what = 'segment-failed' AND subject = 'edit/{way}/1' ORDER BY seq"
    )
    assert [(kind, code) for kind, code, _ in told] == [
        (kind, ending.code) for kind in ending.classes if kind != "lost"
    ]  # fmt: skip
    assert all(ending.words in what for _, _, what in told)
    assert spoiled.books.told("failed")[f"edit/{way}"] == 1

    (trouble,) = [one for one in spoiled.receipt["trouble"] if one["shot"] == way]
    assert trouble["state"] == "failed"
    assert not trouble["goes_on_by_itself"]
    assert trouble["fault"]["code"] == ending.code
    assert ending.words in trouble["fault"]["what"]
    assert ending.words in trouble["why"]
    assert f"`scail2-farm job retry edit/{way}`" in trouble["why"]
    if file := trouble["fault"]["where"].get("file"):
        assert Path(file).exists(), "what it points to is there"

    first, *others = spoiled.why[way]
    assert first.startswith(f"edit/{way} failed: ")
    assert ending.words in first
    assert f"({ending.code})" in first
    assert first.count(f"`scail2-farm job retry edit/{way}`") == 1
    assert len(others) == min(len(ending.classes), 10)
    for line, log, kind in zip(reversed(others), spoiled.logs(way)[-10:], ending.classes[-10:], strict=True):
        assert f": {kind} after " in line
        assert line.endswith(f"(.farm/logs/{log.name})")
        assert log.is_file()


@pytest.mark.parametrize("way", ENDINGS)
def test_what_is_refused_twice_can_be_looked_at(ended, way):
    spoiled, ending = ended["spoiled"], ENDINGS[way]
    if ending.code != "SF-GUARD-FAILED":
        assert spoiled.evidence(way) == [], "what was not handed in cannot be refused"
        return
    (folder,) = spoiled.evidence(way)
    segment = read_document(folder / "segment.json", Segment)
    assert folder.name == f"{way}-1-{segment.key[:8]}"
    text = (folder / "FAULT.txt").read_text()
    (trouble,) = [one for one in spoiled.receipt["trouble"] if one["shot"] == way]
    assert ending.words in text
    assert trouble["fault"]["fix"] in text
    looked_at = f"look at frames/ in {folder}" if ending.pictures else f"FAULT.txt in {folder} says where it stopped"
    assert looked_at in trouble["why"]
    assert looked_at in spoiled.why[way][0]
    assert Path(trouble["fault"]["where"]["file"]).is_relative_to(folder)
    assert any(line.startswith(f"{folder}: ") and "evidence of a segment" in line for line in spoiled.sweepable)
    pictures = [read_exr(path) for path in sorted(folder.glob("raw/*.exr"))]
    assert len(pictures) == (5 if ending.pictures else 0)
    assert len(list(folder.glob("comp_matte/*.exr"))) == len(pictures)
    assert len(list(folder.glob("frames/*.exr"))) == len(pictures) - (way == "lacking")
    assert (folder / "report.json").is_file() == ending.pictures
    if way == "black":
        assert max(picture.max() for picture in pictures) < 1 / 255
    if way == "frozen":
        assert all((picture == pictures[0]).all() for picture in pictures)


def test_refused_again_it_replaces_what_was_kept_until_gc(tmp_path, weights, broken):
    """The same take asked for again is refused again; then the evidence goes as other scratch does."""
    environment = {"SPOIL": "black=black", "BROKEN": str(broken), "SCAIL2_SCRATCH_DAYS": "0"}
    cut = shots(tmp_path / "show", weights, ("black", "last"))
    with Farm(tmp_path / "farm", weights, environment=environment, script=SPOILING) as farm:
        farm.drop(cut)
        farm.returned(within_s=PATIENCE_S)
        (folder,) = farm.places.evidence.iterdir()
        first = read_document(folder / "segment.json", Segment)
        farm.ask("retry", "edit/black")
        farm.until(lambda: books(farm).told("failed")["edit/black"] == 2, "second end", within_s=PATIENCE_S)
        second = read_document(folder / "segment.json", Segment)
        assert second.key == first.key
        assert second.folder != first.folder, "it is that of another attempt"
        assert list(farm.places.evidence.iterdir()) == [folder]
        said = farm.ask("gc").said
        assert any(line.startswith(f"{folder}: ") for line in said)
        assert list(farm.places.evidence.iterdir()) == []
        assert farm.end() == 0, farm.said[-4000:]


def test_a_farm_that_dies_with_the_evidence_has_it_all_the_same(tmp_path, weights, broken):
    """Ended between keeping it and telling of it, the farm makes and keeps it again; nobody is blamed for that."""
    died = tmp_path / "died"
    environment = {"SPOIL": "black=black", "BROKEN": str(broken), "SPOIL_EVIDENCE": str(died)}
    cut = shots(tmp_path / "show", weights, ("black",))
    with Farm(tmp_path / "farm", weights, environment=environment, script=SPOILING) as farm:
        farm.drop(cut)
        assert farm.process is not None
        farm.process.wait(PATIENCE_S)
        assert died.exists()
        (folder,) = farm.places.evidence.iterdir()
        lost = read_document(folder / "segment.json", Segment)
        farm.alone()
        farm.start()
        assert farm.returned(within_s=PATIENCE_S)["state"] == "failed"
        assert list(farm.places.evidence.iterdir()) == [folder]
        assert read_document(folder / "segment.json", Segment).folder != lost.folder
        assert f"look at frames/ in {folder}" in farm.ask("why", "edit/black").said[0]
        assert books(farm).rows("SELECT class, careful FROM attempt ORDER BY id") == [
            ("guard", 0), ("lost", 1), ("guard", 1)
        ]  # fmt: skip
        assert farm.end() == 0, farm.said[-4000:]


def test_signals_and_exit_codes_are_kept(ended):
    def endings(way: str) -> set[tuple[int | None, int | None]]:
        return {(rc, signal) for _, _, rc, signal, _ in ended["spoiled"].attempts(way)}

    assert endings("silent") == {(0, None)}
    assert endings("dying") == {(None, 11)}
    assert endings("lacking") == {(None, None)}
    assert "Fatal Python error: Segmentation fault" in ended["spoiled"].logs("dying")[0].read_text()


def test_the_others_come_back_and_nothing_bad_does(ended):
    spoiled = ended["spoiled"]
    assert spoiled.receipt["state"] == "failed"
    assert spoiled.receipt["why"] == f"{len(GOOD)} of {len(SPOILED)} shots are back, {len(ENDINGS)} failed"
    assert [take["shot"] for take in spoiled.receipt["takes"]] == list(GOOD)
    assert spoiled.delivered() == spoiled.linked() == set(GOOD)
    assert {path.name for path in (spoiled.cut.folder / "edit.scail2" / "shots").iterdir()} == set(GOOD)
    for shot in GOOD:
        assert spoiled.classes(shot) == ("done",)
    report = json.loads((spoiled.cut.folder / "edit.scail2" / "report.json").read_text())
    assert {fault["where"].get("shot") for fault in report["faults"]} >= {"silent", "black"}
    assert len(report["faults"]) == len(ENDINGS)
    assert len(list(spoiled.farm.places.work.glob("*/report.json"))) == len(GOOD), "and nothing bad is kept"
    assert not list(spoiled.farm.places.work.glob("*.*/"))
    assert spoiled.books.integrity == "ok"
    counts = {way: len(ending.classes) for way, ending in ENDINGS.items()}
    record("engines", ways=counts, shots_back=len(GOOD), attempts=spoiled.books.attempts)


def test_a_worker_alone_is_never_blocked(ended):
    """It failed more often in a row than two together may, and went on."""
    (worker,) = [one for one in ended["spoiled"].status["workers"] if one["slot"].startswith("render")]
    assert worker["blocked_until"] is None
    assert worker["failures"] == 0, "the last shot was good"
    assert not ended["spoiled"].books.told("worker-blocked")
    classes = [row[0] for row in ended["spoiled"].books.rows("SELECT class FROM attempt ORDER BY id")]
    assert max(len(run) for run in " ".join(classes).split("done")) > len("crash crash crash ")


def test_a_loud_engine_fills_no_disk(ended):
    (log,) = ended["spoiled"].logs("loud")
    assert log.stat().st_size < LOG_BYTES + 4096
    text = log.read_bytes()
    assert b"bytes of this log were left out here]" in text
    assert b"the last line" in text[-4096:]
    assert not list(log.parent.glob(f"{log.name}.*"))


# --------------------------------------------------------------------------- hanging


@pytest.mark.parametrize(
    ("way", "kind", "words"),
    [
        ("hanging", "stalled", "segment 1 made no step for 0.1 minutes (`quiet_minutes`)"),
        ("dawdling", "timeout", "segment 1 was not done in 0.00166667 hours (`render_hours`)"),
    ],
)
def test_an_engine_that_hangs_is_ended(ended, way, kind, words):
    slow = ended[way]
    assert slow.classes(way) == (kind,) * 3
    assert {(rc, signal) for _, _, rc, signal, _ in slow.attempts(way)} == {(None, 9)}
    assert f"{way} failed: {words}" in slow.why[way][0]
    rows = slow.books.rows(f"SELECT pid, pid_start, boot, t1 - t0 FROM attempt WHERE class = '{kind}'")
    assert len({row[:3] for row in rows}) == 3, "each attempt has a process of its own"
    assert not [pid for pid, start, boot, _ in rows if boot == boot_id() and process_start(pid) == start]
    assert min(seconds for *_, seconds in rows) >= SLOW_S


def test_the_next_shot_is_rendered_after_one_that_hangs(ended):
    slow = ended["hanging"]
    assert slow.classes("last")[-1] == "done"
    assert slow.delivered() == slow.linked() == {"last"}


# --------------------------------------------------------------------------- bad workers


def test_a_worker_that_keeps_failing_is_blocked_and_the_other_does_its_work(ended):
    bad = ended["one bad worker"]
    assert bad.receipt["state"] == "done"
    assert bad.delivered() == bad.linked() == set(FARMS["one bad worker"][0])
    by = {row[0]: (row[1], row[2]) for row in bad.books.rows(
        "SELECT worker, count(*), count(*) FILTER (WHERE class = 'done') FROM attempt GROUP BY worker"
    )}  # fmt: skip
    assert by["render-1"] == (3, 0), "three in a row, then never again"
    assert by["render-2"] == (4, 4)
    assert bad.books.told("worker-blocked").total() == 1
    (one, other) = [worker for worker in bad.status["workers"] if worker["slot"].startswith("render")]
    assert one["blocked_until"] is not None
    assert one["failures"] == 3
    assert other["blocked_until"] is None


def test_of_workers_that_all_fail_the_last_one_goes_on(ended):
    bad = ended["bad workers"]
    assert bad.receipt["state"] == "failed"
    assert {shot: bad.classes(shot) for shot in FARMS["bad workers"][0]} == dict.fromkeys(
        FARMS["bad workers"][0], ("crash",) * 3
    )
    assert bad.books.told("worker-blocked").total() == 1
    blocked = [w["slot"] for w in bad.status["workers"] if w["blocked_until"] is not None]
    assert len(blocked) == 1
    assert bad.receipt["returned"] is None
    assert not (bad.cut.folder / "edit.scail2.otio").exists(), "a cut without a take is no cut to return"
    assert bad.receipt["why"] == "0 of 3 shots are back, 3 failed"
