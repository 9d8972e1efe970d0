"""Damaged OpenEXR files, read by a process with little memory that must survive them all.

A file is refused, or decodes and can be written back with the same bits; nothing crashes, hangs, or takes a gigabyte.
"""

import random
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import OpenEXR
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit on a process's memory is Linux's")

SECONDS_EACH = 5
READER = """
import resource, sys, time
from pathlib import Path
import numpy as np
from scail2_farm.errors import PlateUnreadable
from scail2_farm.media import exr
at_rest = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (at_rest + 2**30, at_rest + 2**30))
with open(sys.argv[2], "w") as told:
    for path in sorted(Path(sys.argv[1]).glob("*.exr")):
        began = time.monotonic()
        try:
            pixels = exr.read(path)
            word = "decodes"
            rgb = exr.display_rgb(pixels)
            out = Path(sys.argv[2] + "-out")
            exr.write_back(out, pixels, rgb=rgb, where=np.zeros(rgb.shape[:2], np.bool_), attributes={})
            for old, new in zip(pixels.parts, exr.read(out).parts, strict=True):
                for name, plane in old.planes.items():
                    assert plane.tobytes() == new.planes[name].tobytes(), (path, name)
        except PlateUnreadable as fault:
            word = fault.code
        print(path.name, word, time.monotonic() - began, file=told, flush=True)
"""
COMPRESSIONS = [code for name, code in OpenEXR.Compression.__members__.items() if not name.startswith("NUM")]


def read_all(folder: Path) -> dict[str, str]:
    """What became of each file of a folder: `decodes`, or the code of its fault."""
    files = sorted(folder.glob("*.exr"))
    answers = folder / "answers"
    child = subprocess.Popen(
        [sys.executable, "-c", READER, str(folder), str(answers)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, said = child.communicate(timeout=20 + SECONDS_EACH * len(files) / 4)
    finally:
        child.kill()
    told = [line.split() for line in answers.read_text().splitlines()]
    assert child.returncode == 0, f"after {told[-1:]} of {len(files)}: {child.returncode} {said[-600:]!r}"
    slow = [name for name, _, seconds in told if float(seconds) > SECONDS_EACH]
    assert not slow
    return {name: word for name, word, _ in told}


def write(path: Path, header: dict, *, height: int = 48, width: int = 64) -> bytes:
    """A small file with channels of all three types."""
    dice = np.random.default_rng(1)
    half = (np.cumsum(dice.normal(0, 0.05, (height, width)), axis=1) + 1).astype(np.float16)
    planes = {"R": half, "G": half, "B": half, "Z": half.astype(np.float32), "id": (half * 99).astype(np.uint32)}
    OpenEXR.File({"type": OpenEXR.scanlineimage} | header, planes).write(str(path))
    return path.read_bytes()


def sound_files(folder: Path) -> list[bytes]:
    """One file of every kind a plate may come in."""
    tiles = OpenEXR.TileDescription()
    tiles.xSize, tiles.ySize = 32, 16
    files = [write(folder / "sound", {"compression": code}) for code in COMPRESSIONS]
    tiled = {"type": OpenEXR.tiledimage, "tiles": tiles, "compression": OpenEXR.ZIP_COMPRESSION}
    files.append(write(folder / "sound", tiled))
    plane = np.linspace(0, 1, 3072, dtype=np.float16).reshape(48, 64)
    storage = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.PIZ_COMPRESSION}
    depth = OpenEXR.Part(dict(storage), {"Z": plane.astype(np.float32)}, "depth")
    picture = OpenEXR.Part(storage, dict.fromkeys(("R", "G", "B"), plane), "rgba")
    OpenEXR.File([depth, picture]).write(str(folder / "sound"))
    return [*files, (folder / "sound").read_bytes()]


def test_known_attacks_are_refused(media, tmp_path):
    for path in (media / "damaged").glob("*.exr"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    told = read_all(tmp_path)
    assert told == dict.fromkeys(["heap_overflow.exr", "oom.exr"], "SF-PLATE-UNREADABLE")


def test_flipped_bytes_anywhere(tmp_path):
    dice = random.Random(6)
    sound = sound_files(tmp_path)
    for number in range(600):
        damaged = bytearray(dice.choice(sound))
        header = damaged.index(b"type\0")  # nearly the last attribute; the table of chunks is behind it
        first, end = dice.choice([(0, header), (header, header + 120), (header + 120, len(damaged))])
        for _ in range(dice.choice([1, 2, 4, 60])):
            damaged[dice.randrange(first, end)] = dice.choice([0, 1, 127, 128, 255, dice.randrange(256)])
        (tmp_path / f"{number:04d}.exr").write_bytes(damaged)
    told = Counter(read_all(tmp_path).values())
    assert told.keys() == {"decodes", "SF-PLATE-UNREADABLE"}
    assert told["SF-PLATE-UNREADABLE"] > 200


def test_every_truncation_is_refused(tmp_path):
    for number, whole in enumerate(sound_files(tmp_path)):
        for step in range(12):
            (tmp_path / f"{number:02d}_{step:02d}.exr").write_bytes(whole[: (len(whole) - 1) * step // 11])
    assert set(read_all(tmp_path).values()) == {"SF-PLATE-UNREADABLE"}


def test_a_header_that_promises_more_than_its_chunks_hold(tmp_path):
    """Windows of up to hundreds of megapixels over a few kilobytes; a display window is as much of a promise."""
    for code in COMPRESSIONS:
        whole = write(tmp_path / "sound", {"compression": code}, height=1)
        for name in ("dataWindow", "displayWindow"):
            place = whole.index(name.encode() + b"\0box2i\0") + len(name) + 11
            for width in (2**14, 2**18, 2**22, 2**26, 2**27):
                damaged = bytearray(whole)
                struct.pack_into("<i", damaged, place + 8, width - 1)
                (tmp_path / f"{name}_{int(code):02d}_{width:010d}.exr").write_bytes(damaged)
    told = read_all(tmp_path)
    assert "SF-PLATE-UNREADABLE" in told.values()
    assert {word for name, word in told.items() if name > "dis" and width_of(name) > 2**25} == {"SF-PLATE-UNREADABLE"}
    assert {word for name, word in told.items() if name < "dis"} == {"SF-PLATE-UNREADABLE"}


def width_of(name: str) -> int:
    return int(Path(name).stem.split("_")[-1])
