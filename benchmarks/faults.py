"""Every fault the farm must survive, in full: hours where `make test` takes minutes. Stopped, it goes on.

    python benchmarks/faults.py [--again] [NAME ...]

Runs the files of tests/faults one by one with SCAIL2_FULL=1. What each came to is kept in benchmarks/receipts/
faults.json as soon as it is known: a file that passed at this commit is not run again, unless --again or by name. The
figures are the tests' own (see `record` in tests/faults/figures.py).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECEIPTS = ROOT / "benchmarks" / "receipts" / "faults.json"
FILES = {path.stem.removeprefix("test_"): path for path in sorted((ROOT / "tests" / "faults").glob("test_*.py"))}


def commit() -> str:
    """The commit that is run, with a mark when files differ from it."""
    command = ("git", "describe", "--always", "--dirty", "--exclude", "*")
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def machine() -> dict[str, object]:
    """What it was run on."""
    system = f"{platform.system()} {platform.machine()}"
    return {"system": system, "cores": os.cpu_count(), "python": platform.python_version()}


def run(path: Path) -> dict[str, Any]:
    """One file in full: whether it passed, how long it took, and its figures."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.jsonl"
        environment = os.environ | {"SCAIL2_FULL": "1", "SCAIL2_FIGURES": str(figures)}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
        passed = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0
        lines = figures.read_text(encoding="utf-8").splitlines() if figures.is_file() else []
    found: dict[str, Any] = {}
    for line in lines:
        found |= json.loads(line)
    return {
        "passed": passed,
        "seconds": round(time.monotonic() - began, 1),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "figures": found,
    }


def main() -> int:
    """Run what has not passed yet; 1 when anything failed."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("names", nargs="*", choices=[*FILES, []], help="files, as tests/faults/test_NAME.py")
    arguments.add_argument("--again", action="store_true", help="run also what passed at this commit")
    given = arguments.parse_args()
    receipts: dict[str, Any] = json.loads(RECEIPTS.read_text(encoding="utf-8")) if RECEIPTS.is_file() else {}
    for name in given.names or FILES:
        known = receipts.get(name)
        if known and known["passed"] and known["commit"] == commit() and not (given.again or given.names):
            print(f"{name}: passed before, {known['seconds']} s")
            continue
        print(f"{name}: running", flush=True)
        receipts[name] = run(FILES[name])
        RECEIPTS.parent.mkdir(parents=True, exist_ok=True)
        part = RECEIPTS.with_suffix(".part")
        part.write_text(json.dumps(receipts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(RECEIPTS)
        print(f"{name}: {'passed' if receipts[name]['passed'] else 'FAILED'} in {receipts[name]['seconds']} s")
    return 0 if all(receipts[name]["passed"] for name in given.names or FILES) else 1


if __name__ == "__main__":
    sys.exit(main())
