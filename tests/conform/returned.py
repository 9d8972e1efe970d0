"""A returned cut of two tracks and a gap, and which delivered frame it must show at every record frame."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scail2_farm.engine import write_tiny_snapshot

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
from submissions import FIRST_FILE, HEIGHT, WIDTH, Cut, read_exr, span

AVAILABLE = 16  # frames of every plate, of which each clip uses some and its take two more at each end


@dataclass(frozen=True)
class Placed:
    """A clip: on `track`, at record frame `record`, `count` frames of the plate from file `first`."""

    shot: str
    track: int
    record: int
    first: int
    count: int


# two takes are used twice, every clip begins elsewhere in its media, and V2 lies over a gap and inside a clip of V1
PLACED = (
    Placed("SH010", track=1, record=0, first=1004, count=5),
    Placed("SH020", track=1, record=5, first=1001, count=4),
    Placed("SH010", track=1, record=12, first=1008, count=4),
    Placed("SH030", track=1, record=16, first=1010, count=7),
    Placed("SH040", track=2, record=10, first=1006, count=2),
    Placed("SH040", track=2, record=18, first=1009, count=3),
)
LENGTH = 23
SHOTS = sorted({clip.shot for clip in PLACED})


@dataclass(frozen=True)
class Returned:
    """A returned cut and the frame it shows at each record frame: (shot, file number), None for black."""

    cut: Cut
    edit: Path
    shown: tuple[tuple[str, int] | None, ...]

    def picture(self, record: int) -> np.ndarray:
        """The delivered frame at a record frame, half floats; zeros in a gap."""
        frame = self.shown[record]
        if frame is None:
            return np.zeros((HEIGHT, WIDTH, 3), np.float16)
        return read_exr(self.cut.frame(*frame))

    def differing(self, pictures: Sequence[np.ndarray]) -> list[int]:
        """The record frames at which a host showed any bit of another picture."""
        assert len(pictures) == LENGTH, f"{len(pictures)} frames came out of a cut of {LENGTH}"
        return [k for k, picture in enumerate(pictures) if not np.array_equal(self.picture(k), picture)]

    def slipped(self) -> tuple[Path, list[int]]:
        """A copy of the cut in which one clip shows one frame later than it should, and the record frames of it."""
        document = json.loads(self.edit.read_text(encoding="utf-8"))
        clip = document["tracks"]["children"][0]["children"][1]
        clip["source_range"]["start_time"]["value"] += 1
        path = self.edit.with_name("slipped.otio")
        path.write_text(json.dumps(document), encoding="utf-8")
        return path, list(range(PLACED[1].record, PLACED[1].record + PLACED[1].count))


def shown() -> tuple[tuple[str, int] | None, ...]:
    """The topmost clip at every record frame."""
    found: list[tuple[str, int] | None] = [None] * LENGTH
    for clip in sorted(PLACED, key=lambda clip: clip.track):
        found[clip.record : clip.record + clip.count] = [(clip.shot, clip.first + k) for k in range(clip.count)]
    return tuple(found)


def timeline(cut: Cut) -> dict[str, Any]:
    """The cut as PLACED says, gaps between."""
    document = cut.timeline()
    (track,) = document["tracks"]["children"]
    tracks = [track | {"name": f"V{number}", "children": []} for number in (1, 2)]
    for clip in PLACED:
        children = tracks[clip.track - 1]["children"]
        until = sum(int(child["source_range"]["duration"]["value"]) for child in children)
        if clip.record > until:
            gap = {"OTIO_SCHEMA": "Gap.1", "metadata": {}, "name": "", "source_range": span(0, clip.record - until)}
            children.append(gap | {"effects": [], "markers": [], "enabled": True})
        children.append(cut.clip(clip.shot, first=clip.first - FIRST_FILE, count=clip.count, available=AVAILABLE))
    document["tracks"]["children"] = tracks
    return document


def render(folder: Path) -> Returned:
    """The cut of PLACED through `submit`, with small random weights."""
    write_tiny_snapshot(folder / "tiny", seed=5)
    cut = Cut(folder / "show", folder / "tiny")
    cut.character("ada", "blue", (220, 30, 30))
    for seed, shot in enumerate(SHOTS):
        cut.plate(shot, AVAILABLE, seed=seed)
        cut.matte(shot, "ada", AVAILABLE, (20, 10, 20, 30))
    cut.manifest["cast"] = [{"when": {"clip": "SH*"}, "characters": [{"id": "ada"}]}]
    cut.manifest["defaults"]["steps"] = 1
    edit = cut.write()
    edit.write_text(json.dumps(timeline(cut)), encoding="utf-8")
    done = cut.run("submit", str(edit), "--weights", str(cut.weights))
    assert done.returncode == 0, done.stderr
    return Returned(cut, cut.folder / "edit.scail2.otio", shown())


def absent(what: str) -> None:
    """Skip a test whose host is not on this machine, or fail it when all is required."""
    if os.environ.get("SCAIL2_REQUIRE_ALL"):
        pytest.fail(what)
    pytest.skip(what)
