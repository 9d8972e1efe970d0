"""A 10,000-clip cut through a real farm: dropped, planned, accepted, asked about, dropped again, trimmed.

    python benchmarks/farm_long_cut.py [--clips 10000] [--plates 40] [--turns 2000] [--json]

The cut is the second one of plan_long_cut.py: every clip is a render of its own in three segments. The farm is a
daemon in a process of its own with the smallest weights there are; more room is to be kept free than any disk has, so
nothing of it is rendered. It is dropped with media nobody has hashed yet; then the very same files again, under another
name. Then every segment gets a report, as if it had been rendered, one clip loses its last frames, and the cut is
dropped as its next revision: nothing but that clip's tail may be queued.

Seconds are of the clock, and beside them those of the processor, which other work on the machine lengthens less:
planning from the drop's place in accepted/ to the plan's last file, accepting from there until the ledger has the job.
Memory is the greatest resident size. A request's time is that of the command line's own asking, from the request to its
answer. Segments are leased and finished in a copy of the farm's ledger. Beside it, in the same run: OpenTimelineIO
reading the same file and giving every clip its range, and benchmarks/ledger.py's plain table with as many segments.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "faults"))

from farmhouse import Farm
from ledger import WORKERS, p, reference, timed
from plan_long_cut import REFERENCE, measured, write_cut

from scail2_farm.documents import PlannedShot, Report, document_text, segment_folder
from scail2_farm.engine import write_tiny_snapshot
from scail2_farm.farm.host import SystemClock
from scail2_farm.farm.ledger import Ledger

FULL_DISK = {"SCAIL2_MIN_FREE_GB": "1000000"}
"""More is to be kept free than there is, so nothing is begun."""
AT_LEISURE = {"SCAIL2_POLL_S": "1"}
"""The inbox is looked at as often as in earnest, where it is measured what that takes."""
TRIMMED = 4
LOOKED_EVERY_S = 0.1
PATIENCE_S = 600.0


def resident(pid: int, what: str = "VmHWM") -> float:
    """Megabytes of a process; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith(what)), 0.0)


def spent(pid: int) -> float:
    """Seconds of the processor that a process has had; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy(pid: int, seconds: float) -> float:
    """The share of one core that a process takes, in percent; 0 when nobody waits to see it."""
    before = spent(pid)
    time.sleep(seconds)
    return 100 * (spent(pid) - before) / seconds if seconds else 0.0


class LongCut:
    """The cut, its farm, and what is asked of them."""

    def __init__(self, folder: Path, *, clips: int, plates: int, idle_s: float):
        self.show = folder / "show"
        self.show.mkdir()
        self.clips = clips
        self.edit = write_cut(self.show, clips=clips, plates=plates, apart=True)
        manifest = self.show / "cut.shots.yaml"
        said = yaml.safe_load(manifest.read_text(encoding="utf-8"))
        manifest.write_text(yaml.safe_dump(said | {"source_dir": str(self.show)}), encoding="utf-8")
        write_tiny_snapshot(folder / "tiny", seed=5)
        self.farm = Farm(folder / "farm", folder / "tiny", environment=FULL_DISK | (AT_LEISURE if idle_s else {}))
        self.database = self.farm.root / ".farm" / "ledger.db"

    @property
    def pid(self) -> int:
        """Of the daemon."""
        assert self.farm.process is not None
        return self.farm.process.pid

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """What the ledger of the running farm says."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as ledger:
            return ledger.execute(query).fetchall()

    def drop(self, name: str) -> None:
        """Drop the cut as it is."""
        inbox = self.farm.root / "inbox"
        for suffix in (".otio", ".shots.yaml"):
            part = inbox / f"{name}{suffix}.part"
            shutil.copyfile(self.show / f"cut{suffix}", part)
            part.rename(inbox / f"{name}{suffix}")

    def accepted(self, name: str, job: str) -> dict[str, float]:
        """Drop it and wait until it is in the ledger: seconds, and the megabytes of the child that plans."""
        megabytes = seconds = 0.0
        planned = self.farm.root / ".farm" / "plans" / job / "planned.json"

        def has(true: Callable[[], object]) -> Callable[[], object]:
            def seen() -> object:
                nonlocal megabytes, seconds
                time.sleep(LOOKED_EVERY_S)  # whoever looks takes of the same cores
                for pid, slot in self.farm.children().items():
                    if slot == "plan":
                        megabytes, seconds = max(megabytes, resident(pid)), max(seconds, spent(pid))
                return true()

            return seen

        daemon = spent(self.pid)
        self.drop(name)
        dropped = time.monotonic()
        self.farm.until(has((self.farm.root / "accepted" / job).is_dir), "place in accepted/", within_s=PATIENCE_S)
        begun = time.monotonic()
        self.farm.until(has(planned.is_file), "plan", within_s=PATIENCE_S)
        done = time.monotonic()
        in_ledger = f"SELECT 1 FROM job WHERE id = '{job}'"
        self.farm.until(has(lambda: self.rows(in_ledger)), "job", within_s=PATIENCE_S)
        now = time.monotonic()
        return {
            "settle_s": begun - dropped,
            "plan_s": done - begun,
            "accept_s": now - done,
            "in_all_s": now - begun,
            "plan_mb": megabytes,
            "plan_cpu_s": seconds,
            "accept_cpu_s": spent(self.pid) - daemon,
        }

    def facts(self, job: str) -> dict[str, int]:
        """What accepting a job came to."""
        ((text,),) = self.rows(f"SELECT facts FROM event WHERE what = 'accepted' AND job = '{job}'")
        return json.loads(str(text))

    @property
    def segments(self) -> int:
        """All that the ledger knows."""
        return int(str(self.rows("SELECT count(*) FROM segment")[0][0]))

    def asked(self, verb: str, ref: str | None = None, *, times: int) -> list[float]:
        """Milliseconds until a question is answered."""
        found: list[float] = []
        for _ in range(times):
            reply = timed(lambda: self.farm.ask(verb, ref), found)
            assert reply.fault is None, reply.fault  # pyright: ignore[reportAttributeAccessIssue]
        return found

    def reported(self) -> int:
        """Give every planned segment the report of a rendered one; how many there are."""
        count = 0
        work = self.farm.root / ".farm" / "work"
        with (self.farm.root / ".farm" / "plans" / "cut" / "shots.jsonl").open("rb") as lines:
            for line in lines:
                shot = PlannedShot.model_validate_json(line, by_alias=True, by_name=False).shot
                for segment in shot.segments:
                    folder = segment_folder(work, segment.key)
                    folder.mkdir()
                    report = Report(
                        key=segment.key,
                        state="done",
                        frames=(),
                        seconds=1.0,
                        steps_seconds=(0.1,),
                        peak_bytes=1,
                        finished="2026-01-01T00:00:00+00:00",
                        versions={},
                    )
                    (folder / "report.json").write_text(document_text(report), encoding="utf-8")
                    count += 1
        return count

    def trim(self) -> None:
        """Take the last frames off the clip in the middle."""
        timeline = json.loads(self.edit.read_text(encoding="utf-8"))
        clip = timeline["tracks"]["children"][0]["children"][self.clips // 2]
        clip["source_range"]["duration"]["value"] -= TRIMMED
        self.edit.write_text(json.dumps(timeline), encoding="utf-8")


def leased(database: Path, turns: int) -> dict[str, float]:
    """Lease, publish and finish segments of this ledger in turn; milliseconds."""
    leases: list[float] = []
    finishes: list[float] = []
    at_work: dict[str, tuple[str, int]] = {}
    with closing(Ledger(database, clock=SystemClock())) as ledger:
        for turn in range(turns):
            worker = f"render-{turn % WORKERS + 1}"
            if worker in at_work:
                token = at_work.pop(worker)
                ledger.publish(*token)
                done = {"seconds": 60.0, "steps_seconds": (10.0,) * 6, "peak_bytes": 1 << 30}
                assert timed(lambda token=token, done=done: ledger.finish(*token, **done), finishes)
            room = {"free_memory": 1 << 40, "free_disk": 1 << 40}
            lease = timed(
                lambda worker=worker, room=room: ledger.lease(worker, boot="b", pid=1, pid_start="1", **room), leases
            )
            assert lease is not None
            at_work[worker] = lease.key, lease.token  # pyright: ignore[reportAttributeAccessIssue]
    return {
        "claim_p50_ms": p(leases, 50),
        "claim_p99_ms": p(leases, 99),
        "finish_p50_ms": p(finishes, 50),
        "finish_p99_ms": p(finishes, 99),
    }


def first_drop(cut: LongCut, *, questions: int, idle_s: float) -> dict[str, float]:
    """The cut as nobody has seen it before: planned, accepted, and asked about while nothing can be begun."""
    found: dict[str, float] = {"idle_percent": busy(cut.pid, idle_s)}
    found |= cut.accepted("cut", "cut")
    statuses, whys = cut.asked("status", times=questions), cut.asked("why", "cut", times=questions)
    found |= {"status_p50_ms": p(statuses, 50), "status_p99_ms": p(statuses, 99)}
    found |= {"why_p50_ms": p(whys, 50), "why_p99_ms": p(whys, 99)}
    found["full_queue_percent"] = busy(cut.pid, idle_s)
    found |= {"shots": cut.facts("cut")["shots"], "queued": cut.facts("cut")["queued"], "segments": cut.segments}
    return found


def same_again(cut: LongCut) -> dict[str, float]:
    """The same files under another name: seconds until it is told that they are known, and what was queued."""
    before = cut.segments
    cut.drop("again")
    dropped = time.monotonic()
    cut.farm.until(lambda: cut.farm.receipt("again").get("state") == "duplicate", "duplicate", within_s=PATIENCE_S)
    seconds, jobs = time.monotonic() - dropped, int(str(cut.rows("SELECT count(*) FROM job")[0][0]))
    return {"seconds": seconds, "jobs": jobs, "queued": cut.segments - before}


def trimmed(cut: LongCut) -> dict[str, float]:
    """A finished cut whose middle clip lost its last frames: what is to be rendered of it."""
    before, reported = cut.segments, cut.reported()
    cut.trim()
    found = cut.accepted("cut", "cut.r2")
    facts = cut.facts("cut.r2")
    return found | {
        "reported": reported,
        "queued": facts["queued"],
        "found": facts["found"],
        "segments": cut.segments - before,
    }


def figures(
    folder: Path, *, clips: int, plates: int, turns: int, questions: int, idle_s: float
) -> dict[str, dict[str, float]]:
    """What a farm in this folder comes to; `idle_s` 0 leaves out what an idle one takes."""
    cut = LongCut(folder, clips=clips, plates=plates, idle_s=idle_s)
    with cut.farm as farm:
        farm.until(lambda: "the farm is up" in farm.said, "farm")
        first = first_drop(cut, questions=questions, idle_s=idle_s)
        again = same_again(cut)
        with closing(sqlite3.connect(cut.database)) as own, closing(sqlite3.connect(folder / "copy.db")) as copy:
            own.backup(copy)
        farm.ask("pause", "cut")
        first["paused_percent"] = busy(cut.pid, idle_s)
        revision = trimmed(cut)
        first["daemon_mb"] = resident(cut.pid)
    return {"first": first, "again": again, "trimmed": revision, "claims": leased(folder / "copy.db", turns)}


def references(folder: Path, *, clips: int) -> dict[str, dict[str, float]]:
    """What others come to, with the cut and the plan that are in this folder now."""
    edit, plan = folder / "show" / "cut.otio", folder / "farm" / ".farm" / "plans" / "cut" / "shots.jsonl"
    seconds, peak, _ = measured([sys.executable, "-c", REFERENCE, str(edit)])
    plain = reference(folder / "plain.db", plan, clips, 3)
    return {"opentimelineio": {"seconds": seconds, "mb": peak / 1e6}, "plain_table": plain}


ROWS = (
    ("plan, never seen before, s", ("first", "plan_s"), 10.0, ("opentimelineio", "seconds")),
    ("plan, never seen before, s of a core", ("first", "plan_cpu_s"), 10.0, ("opentimelineio", "seconds")),
    ("plan, mostly rendered, s", ("trimmed", "plan_s"), 10.0, ("opentimelineio", "seconds")),
    ("plan, mostly rendered, s of a core", ("trimmed", "plan_cpu_s"), 10.0, ("opentimelineio", "seconds")),
    ("accept, s", ("first", "accept_s"), None, ("plain_table", "accept_s")),
    ("accept the next revision, s", ("trimmed", "accept_s"), None, ("plain_table", "accept_s")),
    ("accept, s of the daemon's core", ("first", "accept_cpu_s"), None, ("plain_table", "accept_s")),
    ("accept the next revision, s of its core", ("trimmed", "accept_cpu_s"), None, ("plain_table", "accept_s")),
    ("planning child, MB", ("first", "plan_mb"), 300.0, ("opentimelineio", "mb")),
    ("daemon, MB", ("first", "daemon_mb"), 300.0, ("opentimelineio", "mb")),
    ("claim p50, ms", ("claims", "claim_p50_ms"), None, ("plain_table", "lease_p50_ms")),
    ("claim p99, ms", ("claims", "claim_p99_ms"), 5.0, ("plain_table", "lease_p99_ms")),
    ("finish p99, ms", ("claims", "finish_p99_ms"), None, ("plain_table", "finish_p99_ms")),
    ("status p50, ms", ("first", "status_p50_ms"), 100.0, ("plain_table", "status_ms")),
    ("status p99, ms", ("first", "status_p99_ms"), None, ("plain_table", "status_ms")),
    ("why p50, ms", ("first", "why_p50_ms"), None, None),
    ("daemon, nothing to do, % of a core", ("first", "idle_percent"), 2.0, None),
    ("daemon, all queued and no room, %", ("first", "full_queue_percent"), 2.0, None),
    ("daemon, all queued and paused, %", ("first", "paused_percent"), 2.0, None),
    ("the same drop again, s", ("again", "seconds"), 10.0, None),
    ("the same drop again, segments queued", ("again", "queued"), 0.0, None),
    ("one clip trimmed, segments queued", ("trimmed", "queued"), 1.0, None),
)
"""What is told, where it is in the figures, its goal, and what it is compared with."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--plates", type=int, default=40)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        size = {"clips": options.clips, "plates": options.plates, "turns": options.turns}
        found = figures(Path(folder), **size, questions=30, idle_s=10.0)
        found |= references(Path(folder), clips=options.clips)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    if options.json:
        rounded = {part: {name: round(value, 3) for name, value in own.items()} for part, own in found.items()}
        print(json.dumps({"clips": options.clips, "machine": machine} | rounded, indent=2))
        return
    print(f"{options.clips} clips, {found['first']['segments']:.0f} segments, {machine}")
    print(f"{'':42}{'farm':>10}{'goal':>8}{'plain':>10}{'ratio':>8}")
    for words, (part, name), goal, plain in ROWS:
        own, theirs = found[part][name], found[plain[0]][plain[1]] if plain else None
        compared = "" if theirs is None else f"{theirs:10.2f}{own / theirs:8.2f}"
        print(f"{words:42}{own:10.2f}{'' if goal is None else f'{goal:g}':>8}{compared}")


if __name__ == "__main__":
    main()
