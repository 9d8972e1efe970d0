"""The ledger with 10,000 shots of 3 segments, against the plainest table that does the same.

    python benchmarks/ledger.py [--shots 10000] [--segments 3] [--turns 2000] [--json]

The job is accepted with its documents, streamed as the daemon streams them; then segments are leased and finished by
four workers, a transaction each, and status and why are asked. The reference is one table without an index: a segment
is claimed by the query anybody would write first, and finished by its key with the one after it; its rows are inserted
in one transaction, and some once more with a transaction each. Both write to the same disk with every commit synced.
Memory is the greatest resident size of a process that accepts the job and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scail2_farm.documents import SealedShot
from scail2_farm.farm.host import SystemClock
from scail2_farm.farm.ledger import Ledger, NewJob, NewShot

WORKERS = 4
REFERENCE_TURNS = 200


def document(number: int, segments: int) -> str:
    """A sealed shot as its plan's file has it: some 5 KB."""
    name = f"SH{number:05d}"
    frames = {"first": 1001, "count": 76 * segments + 5}
    sampler = {"preset": "quality", "solver": "unipc", "steps": 20, "shift": 5.0, "guidance": 5.0}
    prompt = "a woman in a red coat walks towards the camera, overcast light, 35mm, shallow depth of field"
    scene = {
        "mode": "replacement",
        "prompt": prompt,
        "negative_prompt": "blurred, distorted hands, watermark, text",
        "seed": 42,
        "sampler": sampler,
        "canvas": {"width": 832, "height": 480, "active": [0, 6, 832, 468]},
    }
    chain = [
        scene
        | {
            "key": key(number, index),
            "window": {"first": 1001 + 76 * index, "count": 81},
            "overlap": 5 if index else 0,
            "keep": {"first": 1001 + 76 * index + (5 if index else 0), "count": 76 if index else 81},
            "leave": 5,
        }
        for index in range(segments)
    ]
    folder = f"/mnt/show/sequences/{name[:4]}/{name}"
    shot = {
        "schema": "scail2-farm/shot@1",
        "id": name,
        "uses": [{"clip": name, "clip_id": f"V1/{number}", "cut": frames, "start": {"value": "86400", "rate": "24"}}],
        "frames": frames,
        "handles_asked": {"head": 8, "tail": 8},
        "handles_given": {"head": 8, "tail": 8},
        "plate": {
            "kind": "exr",
            "path": f"{folder}/plates/v003/{name}_plate_v003.####.exr",
            "frames": frames,
            "width": 3840,
            "height": 2160,
            "rate": "24",
            "timecode_start": 86400,
        },
        "color": {"config": "/mnt/show/config.ocio", "space": "ACEScg", "decided_by": "the file's own attribute"},
        "performers": [
            {
                "id": person,
                "slot": slot,
                "references": [{"image": f"/mnt/show/characters/{person}/front.png", "mask": None}],
                "seen": {"left": 900, "top": 200, "width": 640, "height": 1700},
                "prompt": prompt,
                "matte": f"{folder}/mattes/{person}/{name}_{person}.####.png",
                "matte_offset": 0,
            }
            for person, slot in (("ada", "blue"), ("ben", "red"))
        ],
        "segments": chain,
        "weights": {"path": "/mnt/models/scail2", "sha256": "0" * 64},
        "inputs": [{"path": f"{folder}/input.{part}.####.exr", "sha256": "1" * 64} for part in range(6)],
    }
    return json.dumps(shot)


def key(number: int, index: int) -> str:
    """The key of a segment."""
    return hashlib.sha256(f"{number}/{index}".encode()).hexdigest()


def job(name: str) -> NewJob:
    """The job all shots are in."""
    return NewJob(
        id=name,
        name=name,
        sha256=hashlib.sha256(name.encode()).hexdigest(),
        priority=50,
        folder=f"/mnt/show/plans/{name}",
        deliver_to="/mnt/show/cut.scail2",
        cut="/mnt/show/cut.scail2.otio",
        raw=False,
        movie="prores",
        submission="{}",
        warnings=(),
        seen=0,
    )


def shots(path: Path, segments: int) -> Iterator[NewShot]:
    """The shots of a plan's file, one by one."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield NewShot(
                document=SealedShot.model_validate_json(line, by_alias=True, by_name=False),
                finished=(False,) * segments,
                delivered=False,
                work=(832.0 * 480 * 81 * 24,) * segments,
                need_memory=40 << 30,
                need_disk=2 << 30,
                seed=None,
            )


def accept(database: Path, plan: Path, segments: int) -> dict[str, float]:
    """Accept the job in this process: seconds for it, seconds for reading the plan alone, greatest resident bytes."""
    ledger = Ledger(database, clock=SystemClock())
    started = time.monotonic()
    ledger.accept(job("LONG"), shots(plan, segments), supersede=False)
    seconds = time.monotonic() - started
    ledger.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    started = time.monotonic()
    for _ in shots(plan, segments):
        pass
    return {"accept_s": seconds, "read_s": time.monotonic() - started, "rss_mb": peak / 1e6}


def timed(call: Callable[[], object], found: list[float]) -> object:
    """The result of a call; its milliseconds are added to `found`."""
    started = time.perf_counter()
    result = call()
    found.append((time.perf_counter() - started) * 1e3)
    return result


def p(found: list[float], percent: int) -> float:
    """A percentile."""
    return statistics.quantiles(found, n=100, method="inclusive")[percent - 1] if len(found) > 1 else found[0]


def work(database: Path, turns: int) -> dict[str, float]:
    """Lease and finish segments in turn; milliseconds."""
    ledger = Ledger(database, clock=SystemClock())
    leases: list[float] = []
    beats: list[float] = []
    finishes: list[float] = []
    empty: list[float] = []
    statuses: list[float] = []
    whys: list[float] = []
    at_work: dict[str, tuple[str, int]] = {}
    for turn in range(turns):
        worker = f"render-{turn % WORKERS + 1}"
        if worker in at_work:
            token = at_work.pop(worker)
            timed(lambda token=token: ledger.beat(*token, step=10, of=20), beats)
            timed(
                lambda token=token: ledger.finish(
                    *token, seconds=600.0, steps_seconds=(25.0,) * 20, peak_bytes=40 << 30
                ),
                finishes,
            )
        lease = timed(
            lambda worker=worker: ledger.lease(
                worker, boot="b", pid=1, pid_start="1", free_memory=96 << 30, free_disk=1 << 40
            ),
            leases,
        )
        assert lease is not None
        at_work[worker] = lease.key, lease.token  # pyright: ignore[reportAttributeAccessIssue]
    for _ in range(20):
        timed(
            lambda: ledger.lease("render-9", boot="b", pid=1, pid_start="1", free_memory=1, free_disk=1), empty
        )  # nothing fits: the whole queue is walked
        timed(ledger.status, statuses)
        timed(lambda: ledger.why("SH09000"), whys)
    ledger.close()
    return {
        "lease_p50_ms": p(leases, 50),
        "lease_p99_ms": p(leases, 99),
        "beat_p50_ms": p(beats, 50),
        "finish_p50_ms": p(finishes, 50),
        "finish_p99_ms": p(finishes, 99),
        "lease_of_nothing_ms": p(empty, 50),
        "status_ms": p(statuses, 50),
        "why_ms": p(whys, 50),
        "ledger_mb": database.stat().st_size / 1e6,
    }


def reference(database: Path, plan: Path, count: int, segments: int) -> dict[str, float]:
    """The plainest table: no index, claimed by asking for the first that is ready and whose previous one is done."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE segment (key TEXT, prev TEXT, shot TEXT, idx INTEGER, state TEXT, document TEXT)")
    rows: list[tuple[str, str | None, str, int, str, str]] = []
    with plan.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            for index in range(segments):
                before = key(number, index - 1) if index else None
                state = "blocked" if index else "ready"
                rows.append((key(number, index), before, f"SH{number:05d}", index, state, "" if index else line))
    insert = "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?)"
    started = time.monotonic()
    connection.execute("BEGIN")
    connection.executemany(insert, rows)
    connection.execute("COMMIT")
    at_once = time.monotonic() - started
    claims: list[float] = []
    finishes: list[float] = []
    statuses: list[float] = []
    claim = """UPDATE segment SET state = 'leased' WHERE rowid = (
        SELECT rowid FROM segment WHERE state = 'ready' ORDER BY shot, idx LIMIT 1) RETURNING key"""
    finish = "UPDATE segment SET state = iif(key = :key, 'done', 'ready') WHERE key = :key OR prev = :key"
    for _ in range(REFERENCE_TURNS):
        found = timed(lambda: connection.execute(claim).fetchone(), claims)
        name = found[0]  # pyright: ignore[reportIndexIssue]
        timed(lambda name=name: connection.execute(finish, {"key": name}), finishes)
        timed(lambda: connection.execute("SELECT state, count(*) FROM segment GROUP BY state").fetchall(), statuses)
    started = time.monotonic()
    for row in rows[:REFERENCE_TURNS]:
        connection.execute(insert, row)
    one_by_one = (time.monotonic() - started) / REFERENCE_TURNS * count * segments
    connection.close()
    return {
        "accept_s": at_once,
        "accept_row_by_row_s": one_by_one,
        "lease_p50_ms": p(claims, 50),
        "lease_p99_ms": p(claims, 99),
        "finish_p50_ms": p(finishes, 50),
        "finish_p99_ms": p(finishes, 99),
        "status_ms": p(statuses, 50),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shots", type=int, default=10_000)
    parser.add_argument("--segments", type=int, default=3)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--accept", nargs=2, metavar=("LEDGER", "PLAN"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.accept:
        print(json.dumps(accept(Path(options.accept[0]), Path(options.accept[1]), options.segments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        plan, database = Path(folder) / "shots.jsonl", Path(folder) / "ledger.db"
        with plan.open("w", encoding="utf-8") as lines:
            lines.writelines(f"{document(number, options.segments)}\n" for number in range(options.shots))
        command = [sys.executable, __file__, "--segments", str(options.segments), "--accept", str(database), str(plan)]
        own = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        own |= work(database, options.turns)
        plain = reference(Path(folder) / "plain.db", plan, options.shots, options.segments)
        kilobytes = plan.stat().st_size / options.shots / 1e3
    record = {
        "shots": options.shots,
        "segments": options.shots * options.segments,
        "document_kb": round(kilobytes, 2),
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "ledger": {name: round(value, 3) for name, value in own.items()},
        "reference": {name: round(value, 3) for name, value in plain.items()},
    }
    if options.json:
        print(json.dumps(record, indent=2))
        return
    print(f"{options.shots} shots, {record['segments']} segments, {kilobytes:.1f} KB a document")
    print(f"{'':24}{'ledger':>12}{'plain table':>14}")
    for name in dict.fromkeys([*own, *plain]):
        told = [f"{values[name]:.2f}" if name in values else "" for values in (own, plain)]
        print(f"{name:24}{told[0]:>12}{told[1]:>14}")


if __name__ == "__main__":
    main()
