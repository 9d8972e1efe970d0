"""A long cut through a real farm: planned once, known when it comes again, and of a revision only the tail queued."""

import sys
from pathlib import Path

from farmhouse import FULL
from figures import record

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from farm_long_cut import figures, references

CLIPS, PLATES = (10_000, 40) if FULL else (300, 8)
HEADROOM = 2
"""Goals are for an idle machine; here others may be at work."""


def test_a_long_cut(tmp_path):
    asked = {"turns": 2000, "questions": 30, "idle_s": 10.0} if FULL else {"turns": 50, "questions": 3, "idle_s": 0.0}
    found = figures(tmp_path, clips=CLIPS, plates=PLATES, **asked)
    first, again, trimmed = found["first"], found["again"], found["trimmed"]
    assert first["shots"] == CLIPS
    assert first["queued"] == first["segments"] == 3 * CLIPS
    assert first["why_p50_ms"] > 0
    assert again["jobs"] == 1
    assert again["queued"] == 0
    assert trimmed["reported"] == 3 * CLIPS
    assert trimmed["segments"] == 1
    assert trimmed["queued"] == 1
    assert trimmed["found"] == 3 * CLIPS - 1
    if FULL:
        assert min(first["plan_cpu_s"], first["plan_s"]) < 10 * HEADROOM
        assert max(first["plan_mb"], trimmed["plan_mb"], first["daemon_mb"]) < 300
        assert found["claims"]["claim_p99_ms"] < 5 * HEADROOM
        assert first["status_p50_ms"] < 100 * HEADROOM
        assert max(first["idle_percent"], first["full_queue_percent"]) < 2 * HEADROOM
        found |= references(tmp_path, clips=CLIPS)
        rounded = {part: {name: round(value, 3) for name, value in own.items()} for part, own in found.items()}
        record("long_cut", clips=CLIPS, **rounded)
