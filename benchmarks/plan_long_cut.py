"""Reading, planning and sealing a 10,000-clip cut, against plain OpenTimelineIO reading the same file.

    python benchmarks/plan_long_cut.py [--clips 10000] [--plates 40] [--json]

Two cuts are made on the spot, over EXR plates with mattes, with markers and rules that cast everybody. In the first
clips of 5 frames, a third of them retimed, come to few renders. `check --json` runs on it in a process of its own; so
does the reference, which reads the file and asks OpenTimelineIO for every clip's range in its track. In the second
every clip is a render of its own, of 41 frames in three segments: it is planned and sealed as a farm does it, a shot
at a time, first with media nobody has hashed yet (cold), then with its digests known (warm). Seconds are of the clock,
start-up included; memory is the process's greatest resident size.
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
from importlib import metadata
from pathlib import Path

import numpy as np
import OpenEXR
import yaml
from PIL import Image

FRAMES, SIZE = 96, (64, 36)
REFERENCE = """
import sys, opentimelineio as otio
timeline = otio.adapters.read_from_file(sys.argv[1])
ranges = [(clip.name, clip.trimmed_range(), clip.range_in_parent()) for clip in timeline.find_clips()]
print(len(ranges))
"""
SEALED = """
import sys
from pathlib import Path
from scail2_farm.documents import SealedShot
from scail2_farm.plan import plan
from scail2_farm.seal import seal
from scail2_farm.settings import BUILT_IN_WEIGHTS
steps = plan(Path(sys.argv[1]))
while True:
    try:
        next(steps)
    except StopIteration as stop:
        planned = stop.value
        break
assert not planned.faults, planned.faults
shots = segments = 0
for step in seal(planned.shots, weights=BUILT_IN_WEIGHTS["miniature"], work=Path(sys.argv[2])):
    if isinstance(step, SealedShot):
        shots, segments = shots + 1, segments + len(step.segments)
print(shots, segments)
"""


def write_plates(folder: Path, count: int) -> None:
    """Plates and mattes, one file linked under every number: planning reads headers and mattes, not pictures."""
    width, height = SIZE
    matte = np.zeros((height, width), np.uint8)
    matte[8:30, 20:40] = 255
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, "colorInteropID": "lin_ap1_scene"}
    for number in range(count):
        plates, mattes = folder / f"plates/P{number:03d}", folder / f"mattes/P{number:03d}"
        plates.mkdir(parents=True)
        mattes.mkdir(parents=True)
        picture = np.full((height, width, 3), 0.1 + number / 1000, np.float16)
        OpenEXR.File(header, {"RGB": picture}).write(str(plates / "p.1001.exr"))
        Image.fromarray(matte).save(mattes / "hero.1001.png")
        for frame in range(1002, 1001 + FRAMES):
            os.link(plates / "p.1001.exr", plates / f"p.{frame}.exr")
            os.link(mattes / "hero.1001.png", mattes / f"hero.{frame}.png")


def moment(value: float) -> dict[str, object]:
    return {"OTIO_SCHEMA": "RationalTime.1", "rate": 24.0, "value": float(value)}


def span(start: float, count: float) -> dict[str, object]:
    return {"OTIO_SCHEMA": "TimeRange.1", "start_time": moment(start), "duration": moment(count)}


def clip(index: int, plates: int, *, apart: bool) -> dict[str, object]:
    """A clip of a cut; `apart` from all others, or one of many that show a few renders."""
    plate, first = index % plates, index // plates * 13 % 50 if apart else index // plates % 80
    media = {
        "OTIO_SCHEMA": "ImageSequenceReference.1",
        "available_range": span(86400, FRAMES),
        "target_url_base": f"plates/P{plate:03d}/",
        "name_prefix": "p.",
        "name_suffix": ".exr",
        "start_frame": 1001,
        "frame_step": 1,
        "rate": 24.0,
        "frame_zero_padding": 4,
        "missing_frame_policy": "error",
        "metadata": {"show": {"camera": "A", "take": index}},
        "name": "",
        "available_image_bounds": None,
    }
    warp = {"OTIO_SCHEMA": "LinearTimeWarp.1", "metadata": {}, "name": "", "effect_name": "", "time_scalar": 2.0}
    marker = {
        "OTIO_SCHEMA": "Marker.2",
        "metadata": {},
        "name": f"CHAR:hero{index // plates if apart else 0}",
        "color": "RED",
        "marked_range": span(0, 1),
    }
    return {
        "OTIO_SCHEMA": "Clip.2",
        "metadata": {"show": {"note": "kept"}},
        "name": f"P{plate:03d}",
        "source_range": span(86400 + first, 37 if apart else 5),
        "effects": [warp] if index % 3 == 0 and not apart else [],
        "markers": [marker],
        "enabled": True,
        "media_references": {"DEFAULT_MEDIA": media},
        "active_media_reference_key": "DEFAULT_MEDIA",
    }


def write_cut(folder: Path, *, clips: int, plates: int, apart: bool) -> Path:
    """Plates, cut, manifest and library; the cut's path."""
    write_plates(folder, plates)
    common = {"metadata": {}, "source_range": None, "effects": [], "markers": [], "enabled": True}
    children = [clip(index, plates, apart=apart) for index in range(clips)]
    track = common | {"OTIO_SCHEMA": "Track.1", "name": "V1", "kind": "Video", "children": children}
    stack = common | {"OTIO_SCHEMA": "Stack.1", "name": "tracks", "children": [track]}
    timeline = {"OTIO_SCHEMA": "Timeline.1", "name": "long", "metadata": {}, "global_start_time": moment(86400)}
    (folder / "cut.otio").write_text(json.dumps(timeline | {"tracks": stack}))
    rules = [{"when": {"clip": f"X{number:03d}*"}, "skip": True} for number in range(20)]
    rules.append({"when": {"marker": "CHAR:*", "color": "RED"}, "characters": "from-marker"})
    manifest = {
        "schema": "scail2-farm/shot-manifest@1",
        "characters": "library.yaml",
        "handles": {"head": 2, "tail": 2},
        "defaults": {"preset": "preview", "size": "64x32", "segment": {"length": 17, "overlap": 5}},
        "cast": rules,
    }
    matte = {"sequence": "mattes/{shot}/hero.####.png"}
    names = [f"hero{number}" for number in range(-(-clips // plates) if apart else 1)]
    people = {name: {"references": [{"image": f"{name}.png"}], "matte": matte} for name in names}
    library = {"schema": "scail2-farm/characters@1", "characters": people}
    (folder / "cut.shots.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    (folder / "library.yaml").write_text(yaml.safe_dump(library, sort_keys=False))
    for number, name in enumerate(names):
        Image.fromarray(np.full((64, 48, 3), (119, number % 256, number // 256), np.uint8)).save(folder / f"{name}.png")
    return folder / "cut.otio"


def measured(command: list[str]) -> tuple[float, int, str]:
    """Seconds of the clock, greatest resident bytes, and what was printed; raises when the command fails."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"{command} failed")
        out.seek(0)
        scale = 1 if sys.platform == "darwin" else 1024
        return seconds, usage.ru_maxrss * scale, out.read()


def checked(folder: Path, *, clips: int, plates: int) -> dict[str, object]:
    """`check --json` of a cut, beside OpenTimelineIO reading it."""
    cut = write_cut(folder, clips=clips, plates=plates, apart=False)
    seconds, peak, printed = measured([sys.executable, "-m", "scail2_farm", "check", str(cut), "--json"])
    document = json.loads(printed)
    cast = sum(row["state"] == "rendered" for row in document["plan"]["clips"])
    if document["faults"] or cast != clips:
        raise SystemExit(f"{cast} clips cast, faults {document['faults'][:2]}")
    theirs, their_peak, counted = measured([sys.executable, "-c", REFERENCE, str(cut)])
    if int(counted) != clips:
        raise SystemExit(f"the reference found {counted} clips")
    return {
        "what": "check --json of a long cut",
        "clips": clips,
        "plates": plates,
        "renders": len(document["plan"]["shots"]),
        "seconds": round(seconds, 2),
        "reference_seconds": round(theirs, 2),
        "ratio": round(seconds / theirs, 2),
        "peak_mb": round(peak / 1e6),
        "reference_peak_mb": round(their_peak / 1e6),
    }


def sealed(folder: Path, *, clips: int, plates: int) -> dict[str, object]:
    """A cut planned and sealed: with media nobody has hashed, then with its digests known."""
    cut = write_cut(folder, clips=clips, plates=plates, apart=True)
    command = [sys.executable, "-c", SEALED, str(cut), str(folder / "work")]
    (cold, _, _), (warm, peak, counted) = measured(command), measured(command)
    theirs, _, _ = measured([sys.executable, "-c", REFERENCE, str(cut)])
    shots, segments = (int(number) for number in counted.split())
    if (shots, segments) != (clips, 3 * clips):
        raise SystemExit(f"{shots} shots of {segments} segments sealed")
    return {
        "what": "a long cut planned and sealed",
        "clips": clips,
        "plates": plates,
        "renders": shots,
        "segments": segments,
        "seconds": round(warm, 2),
        "cold_seconds": round(cold, 2),
        "reference_seconds": round(theirs, 2),
        "ratio": round(warm / theirs, 2),
        "peak_mb": round(peak / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--plates", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    records: list[dict[str, object]] = []
    for row in (checked, sealed):
        with tempfile.TemporaryDirectory() as folder:
            records.append(row(Path(folder), clips=options.clips, plates=options.plates))
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    versions = {name: metadata.version(name) for name in ("scail2-farm", "OpenTimelineIO", "numpy")}
    if options.json:
        print(json.dumps([record | {"machine": machine, "versions": versions} for record in records], indent=2))
        return
    for record in records:
        print(
            f"{record['what']}: {record['clips']} clips, {record['renders']} renders: {record['seconds']} s and "
            f"{record['peak_mb']} MB; OpenTimelineIO alone {record['reference_seconds']} s"
        )


if __name__ == "__main__":
    main()
