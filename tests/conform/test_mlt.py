"""MLT, the engine of Kdenlive and Shotcut, conforms a returned cut: every picture is the delivered frame, bit for bit.

MLT reads no EXR and works in 8 bits. Each delivered EXR is therefore written as a PNG of the same number, the high
bytes of its half floats beside the low bytes, and what MLT shows is put together again: nothing is rounded.
Without a display melt writes wrong pictures and exits 0, so it runs under Xvfb.
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
from PIL import Image
from returned import Returned, absent
from strips import Strip, read_strips
from submissions import HEIGHT, WIDTH, read_exr


def write_as_bytes(exr: Path, folder: Path) -> Path:
    """A delivered frame as PNG, (H, 2W, 3) bytes; the file has the same name but for its suffix."""
    path = folder / exr.with_suffix(".png").name
    if not path.exists():
        halves = read_exr(exr).view(np.uint16)
        Image.fromarray(np.hstack([halves >> 8, halves & 255]).astype(np.uint8)).save(path)
    return path


def from_bytes(png: Path) -> np.ndarray:
    """The half floats (H, W, 3) of a picture written so."""
    high, low = np.split(np.asarray(Image.open(png).convert("RGB")).astype(np.uint16), 2, axis=1)
    return (high << 8 | low).view(np.float16)


def mlt_document(strips: Sequence[Strip]) -> Xml.Element:
    """Strips as an MLT project: a producer of all the media of each, a playlist for each channel, black below them."""
    mlt = Xml.Element("mlt")
    size = {"width": str(2 * WIDTH), "height": str(HEIGHT), "sample_aspect_num": "1", "sample_aspect_den": "1"}
    Xml.SubElement(mlt, "profile", size, frame_rate_num="24", frame_rate_den="1", progressive="1", colorspace="709")
    last = max(strip.record + strip.count for strip in strips) - 1
    add_producer(mlt, "black", mlt_service="color", resource="black", length=str(last + 1))
    playlists = {0: Xml.Element("playlist", id="channel0")}
    Xml.SubElement(playlists[0], "entry", {"in": "0", "out": str(last), "producer": "black"})
    until: dict[int, int] = {}
    for number, strip in enumerate(strips):
        prefix, digits, suffix = strip.files[0].name.rsplit(".", 2)
        pattern = strip.files[0].with_name(f"{prefix}.%0{len(digits)}d.{suffix}?begin={digits}")
        media = f"media{number}"
        add_producer(mlt, media, mlt_service="qimage", resource=str(pattern), ttl="1", length=str(len(strip.files)))
        playlist = playlists.setdefault(strip.channel, Xml.Element("playlist", id=f"channel{strip.channel}"))
        if blank := strip.record - until.get(strip.channel, 0):
            Xml.SubElement(playlist, "blank", length=str(blank))
        span = {"in": str(strip.index), "out": str(strip.index + strip.count - 1)}
        Xml.SubElement(playlist, "entry", span, producer=media)
        until[strip.channel] = strip.record + strip.count
    mlt.extend(playlists.values())
    multitrack = Xml.SubElement(Xml.SubElement(mlt, "tractor"), "multitrack")
    for channel in sorted(playlists):
        Xml.SubElement(multitrack, "track", producer=f"channel{channel}")
    return mlt


def add_producer(mlt: Xml.Element, name: str, **properties: str) -> None:
    """Media of a project."""
    producer = Xml.SubElement(mlt, "producer", id=name)
    for key, value in properties.items():
        Xml.SubElement(producer, "property", name=key).text = value


@pytest.fixture
def melt(tmp_path):
    """Conform a cut in MLT: the picture of every record frame, half floats."""
    if not shutil.which("melt") or not shutil.which("xvfb-run"):
        absent("no MLT on this machine: install melt and xvfb")

    def conform(edit: Path) -> list[np.ndarray]:
        folder = tmp_path / edit.stem
        folder.mkdir()
        strips = [
            replace(strip, files=tuple(write_as_bytes(exr, folder) for exr in strip.files))
            for strip in read_strips(edit)
        ]
        project, out = folder / "cut.mlt", folder / "out"
        out.mkdir()
        Xml.ElementTree(mlt_document(strips)).write(project)
        consumer = [f"avformat:{out}/%04d.png", "f=image2", "vcodec=png", "real_time=-1"]
        arguments = ["xvfb-run", "-a", "melt", str(project), "-consumer", *consumer]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "failed" not in done.stderr
        return [from_bytes(path) for path in sorted(out.glob("*.png"))]

    return conform


def test_melt_shows_every_delivered_frame_where_the_cut_says(returned: Returned, melt):
    assert returned.differing(melt(returned.edit)) == []


def test_melt_shows_a_clip_that_slipped_by_one_frame(returned: Returned, melt):
    edit, where = returned.slipped()
    assert returned.differing(melt(edit)) == where
