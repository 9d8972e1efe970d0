"""Frames a second of one core between plate and model, beside the straightforward way in the same run.

    python benchmarks/plates.py [--sizes HD 4K] [--formats exr dpx prores] [--frames 5] [--json]

In: a plate frame is read, brought to the canvas and to the model's colours. Out: the frame is read again, the model's
picture brought back to the plate's colours and size where the matte is (21 % of the frame), comped, and written in the
plate's own class. Beside: what else a frame takes, its matte read and made into labels, comp matte and raw picture
written. Together they are what a segment does with every frame, by the same functions; one frame after another.

The reference does the same jobs as anybody would first: the whole frame converted to the model's colours in float and
then reduced; the whole picture enlarged, converted back and mixed with the whole plate. It reads and writes by the
same libraries. Plates are grainy pictures made on the spot: EXR half ZIP in ACEScg, DPX of 10 bits in ARRI LogC3,
ProRes 422 HQ in Rec.709 (its frames are written as float EXR). The model's picture is of the budget 832x480.

Each row runs in a process of its own. Seconds are of the processor (user and system, all threads), of the quickest
frame; memory is the process's greatest resident size.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from importlib import metadata
from pathlib import Path

import av
import numpy as np
import OpenEXR
import OpenImageIO as oiio
from PIL import Image

from scail2_farm.frames import FramePattern
from scail2_farm.media import exr, mattes, movies, plates, rasters
from scail2_farm.media.canvas import Canvas, resize, resize_nearest
from scail2_farm.media.color import ModelColor, Said, decide, load_config
from scail2_farm.media.comp import comp
from scail2_farm.render import to_plate

SIZES = {"HD": (1920, 1080), "4K": (4096, 2160)}
SPACES = {"exr": "ACEScg", "dpx": "ARRI LogC3 (EI800)", "prores": "Rec.1886 Rec.709 - Display"}
GOALS = {("HD", "in"): 4.0, ("HD", "out"): 3.0, ("4K", "in"): 2.5, ("4K", "out"): 0.75}  # frames a second, EXR ZIP
BUDGET = (832, 480)
COVERED = 0.21
WAYS = ("ours", "plain")
SLOT = mattes.SLOT_NUMBERS["blue"]


@dataclass(frozen=True, slots=True)
class Shot:
    """What a row works on."""

    folder: Path
    plate_format: str
    canvas: Canvas
    color: ModelColor

    @classmethod
    def of(cls, folder: Path, plate_format: str) -> Shot:
        found = plates.probe(source(folder, plate_format))
        said = Said(manifest=SPACES[plate_format])
        color = ModelColor(decide(found, said=said, config=load_config(None)))
        return cls(folder, plate_format, Canvas.fit(found.width, found.height, pixel_aspect=1.0, budget=BUDGET), color)

    @property
    def source(self) -> FramePattern | Path:
        return source(self.folder, self.plate_format)

    @property
    def matte(self) -> Path:
        return self.folder / "matte.png"

    def generated(self) -> np.ndarray:
        """A picture of the model's."""
        picture = grainy(self.canvas.width, self.canvas.height, seed=9)
        return np.clip(picture, 0.0, 1.0) ** np.float32(0.45)


def source(folder: Path, plate_format: str) -> FramePattern | Path:
    """The plate of this format."""
    return folder / "plate.mov" if plate_format == "prores" else FramePattern(folder, "plate.", 4, f".{plate_format}")


# --------------------------------------------------------------------------- the footage


def grainy(width: int, height: int, *, seed: int) -> np.ndarray:
    """A scene-linear picture (height, width, 3) float32: soft shapes, lights up to 20, and a sensor's grain."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for across in (4, 16, 64, 256):
        coarse = random.random((max(2, across * height // width), across, 3), dtype=np.float32)
        picture += resize(coarse, width, height) / np.float32(across**0.5)
    picture = np.maximum(picture / picture.mean() * np.float32(0.8) - np.float32(0.4), np.float32(0.05)) ** 2
    lights = random.random((height // 40, width // 40, 3), dtype=np.float32) ** 40
    picture += np.maximum(resize(lights, width, height), 0) * np.float32(20)
    grain = random.standard_normal(picture.shape, dtype=np.float32)
    return picture + grain * (np.sqrt(picture) * np.float32(0.1) + np.float32(0.002))


def covering(width: int, height: int) -> np.ndarray:
    """A matte (height, width) uint8 that is not black in 21 % of the frame: a leaning figure with a soft edge."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = (y - height / 2) / height, (x - width / 2) / height
    along, aside = x * np.float32(0.35) + y * np.float32(0.94), x * np.float32(0.94) - y * np.float32(0.35)
    away = (along / np.float32(0.46)) ** 2 + (aside / np.float32(0.26)) ** 2
    inside = np.quantile(away, COVERED)
    return (np.clip((inside - away) / inside * 12, 0, 1) * 255).round().astype(np.uint8)


def write_plainly(path: Path, channels: dict[str, np.ndarray]) -> None:
    """An EXR, ZIP."""
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(path))


def shoot(folder: Path, plate_format: str, size: tuple[int, int], count: int) -> None:
    """The plate and its matte; a sequence is one frame under every number."""
    Image.fromarray(covering(*size)).save(folder / "matte.png")
    picture = grainy(*size, seed=1)
    display = np.clip(picture, 0.0, 1.0) ** np.float32(0.45)
    found = source(folder, plate_format)
    if not isinstance(found, FramePattern):
        movies.write_movie(found, [display] * count, rate=Fraction(24), timecode=None)
        return
    first = found.path(0)
    if plate_format == "exr":
        write_plainly(first, {"RGB": picture.astype(np.float16)})
    else:
        rasters.write_rgb(first, display * np.float32(0.8) + np.float32(0.1), format="dpx10", attributes={})
    for number in range(1, count):
        os.link(first, found.path(number))


# --------------------------------------------------------------------------- as the farm does it

Work = Callable[[int], object]


class Laps:
    """Processor seconds by stage, the least of all frames."""

    def __init__(self) -> None:
        self.least: dict[str, float] = {}
        self.since = time.process_time()

    def start(self) -> None:
        self.since = time.process_time()

    def lap(self, stage: str) -> None:
        now = time.process_time()
        self.least[stage] = min(self.least.get(stage, 1e9), now - self.since)
        self.since = now


def ours_in(shot: Shot, plate: plates.Plate, laps: Laps) -> Work:
    def look(frame: int) -> object:
        rgb = plate.read(frame).rgb
        laps.lap("read")
        shown = shot.canvas.to_canvas(rgb)
        laps.lap("canvas")
        picture = shot.color.to_model(shown)
        laps.lap("color")
        return picture

    return look


def ours_out(shot: Shot, plate: plates.Plate, laps: Laps) -> Work:
    picture, form, read = shot.generated(), plates.Form(), mattes.read_matte(shot.matte)

    def write(frame: int) -> object:
        native = plate.read(frame)
        laps.lap("read")
        matte = np.where(native.covered, read, np.float32(0))
        box = mattes.reach(matte)
        assert box is not None, "there is somebody"
        generated = to_plate(picture, canvas=shot.canvas, color=shot.color, box=box)
        laps.lap("color and canvas")
        rgb = comp(native.rgb, generated, matte, box=box)
        laps.lap("comp")
        path = shot.folder / f"out{form.suffix(shot.source)}"
        plates.write(path, native, rgb=rgb, where=matte > 0, attributes={}, form=form)
        laps.lap("write")
        return path

    return write


def ours_beside(shot: Shot, _: plates.Plate, laps: Laps) -> Work:
    picture = shot.generated()

    def keep(frame: int) -> object:
        read = [mattes.read_matte(shot.matte)]
        labels = shot.canvas.labels_to_canvas(mattes.identity_map(read, slots=[SLOT]))
        laps.lap("labels")
        exr.write_matte(shot.folder / "comp_matte.exr", mattes.comp_matte(read), attributes={})
        laps.lap("comp matte")
        exr.write_rgb(shot.folder / "raw.exr", picture, attributes={})
        laps.lap("raw")
        return labels

    return keep


# --------------------------------------------------------------------------- as anybody would


def plain_frames(shot: Shot) -> Callable[[int], np.ndarray]:
    """A reader of whole frames, (H, W, 3) float32."""
    found = shot.source
    if not isinstance(found, FramePattern):
        decoded = av.open(str(found)).decode(video=0)
        return lambda _: next(decoded).to_ndarray(format="rgb48le").astype(np.float32) / np.float32(65535)
    if shot.plate_format == "exr":
        return lambda n: OpenEXR.File(str(found.path(n))).channels()["RGB"].pixels.astype(np.float32)
    return lambda n: np.asarray(oiio.ImageBuf(str(found.path(n))).get_pixels(oiio.FLOAT))


def plain_matte(shot: Shot) -> np.ndarray:
    return np.asarray(Image.open(shot.matte)).astype(np.float32) / np.float32(255)


def plain_in(shot: Shot, _: plates.Plate, laps: Laps) -> Work:
    frame_of, (width, height) = plain_frames(shot), shot.canvas.active[2:]

    def look(frame: int) -> object:
        rgb = np.nan_to_num(frame_of(frame))
        laps.lap("read")
        shown = shot.color.to_model(rgb)
        laps.lap("color")
        picture = resize(shown, width, height)
        laps.lap("canvas")
        return picture

    return look


def plain_out(shot: Shot, _: plates.Plate, laps: Laps) -> Work:
    frame_of, canvas, picture = plain_frames(shot), shot.canvas, shot.generated()
    (left, top, width, height), weight = canvas.active, plain_matte(shot)[..., None]

    def write(frame: int) -> object:
        rgb = frame_of(frame)
        laps.lap("read")
        shown = resize(picture[top : top + height, left : left + width], canvas.plate_width, canvas.plate_height)
        laps.lap("canvas")
        generated = shot.color.from_model(shown)
        laps.lap("color")
        mixed = rgb * (1 - weight) + generated * weight
        laps.lap("comp")
        path = shot.folder / ("out.dpx" if shot.plate_format == "dpx" else "out.exr")
        if shot.plate_format == "dpx":
            written = oiio.ImageBuf(mixed)
            written.specmod().attribute("oiio:BitsPerSample", 10)
            written.write(str(path), oiio.UINT16)
        else:
            write_plainly(path, {"RGB": mixed.astype(np.float16) if shot.plate_format == "exr" else mixed})
        laps.lap("write")
        return path

    return write


def plain_beside(shot: Shot, _: plates.Plate, laps: Laps) -> Work:
    picture, (width, height) = shot.generated(), shot.canvas.active[2:]

    def keep(frame: int) -> object:
        matte = plain_matte(shot)
        labels = resize_nearest((matte >= 0.5).astype(np.uint8) * SLOT, width, height)
        laps.lap("labels")
        write_plainly(shot.folder / "comp_matte.exr", {"Y": matte})
        laps.lap("comp matte")
        write_plainly(shot.folder / "raw.exr", {"RGB": picture})
        laps.lap("raw")
        return labels

    return keep


LEGS = {"in": (ours_in, plain_in), "out": (ours_out, plain_out), "beside": (ours_beside, plain_beside)}


# --------------------------------------------------------------------------- measuring


def row(folder: Path, plate_format: str, leg: str, way: str, count: int) -> dict[str, object]:
    """One way of one leg, in this process: processor seconds of the quickest frame, its stages, greatest memory."""
    shot, laps = Shot.of(folder, plate_format), Laps()
    with plates.open_plate(shot.source) as plate:
        work = LEGS[leg][WAYS.index(way)](shot, plate, laps)
        least = 1e9
        for frame in range(count):
            began = time.process_time()
            laps.start()
            work(frame)
            least = min(least, time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    stages = {stage: round(seconds * 1e3, 1) for stage, seconds in laps.least.items()}
    return {"seconds": least, "stages_ms": stages, "peak_mb": round(peak / 1e6)}


def apart(*asked: str, frames: int) -> str:
    """What this file prints when it is asked so; in a process of its own, which starts with little memory."""
    command = [sys.executable, __file__, "--frames", str(frames), *asked]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def measured(folder: Path, plate_format: str, size: str, leg: str, count: int) -> dict[str, object]:
    """One leg, both ways."""

    ours, plain = (json.loads(apart("--row", str(folder), plate_format, leg, way, frames=count)) for way in WAYS)
    rate, reference = (1 / float(str(found["seconds"])) for found in (ours, plain))
    goal = GOALS.get((size, leg)) if plate_format == "exr" else None
    return {
        "size": size,
        "format": plate_format,
        "leg": leg,
        "frames_per_s": round(rate, 2),
        "goal": goal,
        "reference_frames_per_s": round(reference, 2),
        "ratio": round(rate / reference, 2),
        "peak_mb": ours["peak_mb"],
        "reference_peak_mb": plain["peak_mb"],
        "stages_ms": ours["stages_ms"],
        "reference_stages_ms": plain["stages_ms"],
    }


def told(record: dict[str, object]) -> str:
    """A record as a line of the table."""
    leg = f"{record['size']:4}{record['format']:8}{record['leg']:8}"
    goal = "" if record["goal"] is None else f"{record['goal']}"
    rates = f"{record['frames_per_s']:>9}{goal:>7}{record['reference_frames_per_s']:>11}{record['ratio']:>7}"
    return f"{leg}{rates}{record['peak_mb']:>9}{record['reference_peak_mb']:>11}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--formats", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--row", nargs=4, metavar=("FOLDER", "FORMAT", "LEG", "WAY"), help=argparse.SUPPRESS)
    parser.add_argument("--shoot", nargs=3, metavar=("FOLDER", "FORMAT", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.shoot:
        folder, plate_format, size = options.shoot
        shoot(Path(folder), plate_format, SIZES[size], options.frames)
        return
    if options.row:
        folder, plate_format, leg, way = options.row
        print(json.dumps(row(Path(folder), plate_format, leg, way, options.frames)))
        return
    records: list[dict[str, object]] = []
    if not options.json:
        print(f"{'':20}{'frames/s':>9}{'goal':>7}{'reference':>11}{'ratio':>7}{'peak MB':>9}{'reference':>11}")
    for size in options.sizes:
        for plate_format in options.formats:
            with tempfile.TemporaryDirectory() as folder:
                apart("--shoot", folder, plate_format, size, frames=options.frames)
                for leg in LEGS:
                    records.append(measured(Path(folder), plate_format, size, leg, options.frames))
                    if not options.json:
                        print(told(records[-1]), flush=True)
    if options.json:
        machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
        names = ("scail2-farm", "numpy", "pillow", "OpenEXR", "OpenImageIO", "av", "opencolorio")
        versions = {name: metadata.version(name) for name in names}
        print(json.dumps([record | {"machine": machine, "versions": versions} for record in records], indent=2))


if __name__ == "__main__":
    main()
