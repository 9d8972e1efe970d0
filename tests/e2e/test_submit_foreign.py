"""Cuts that are no .otio, and media that is not where the cut says: from the file an NLE wrote to delivered frames."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import opentimelineio as otio
import pytest
from submissions import HEIGHT, WIDTH, Cut, read_exr

from scail2_farm.media.movies import write_movie

FRAMES = 20

EDL = """TITLE: REEL 2
FCM: NON-DROP FRAME

001  A099C005 V     C        01:00:00:04 01:00:00:10 00:59:58:00 00:59:58:06
* FROM CLIP NAME: SH010
* LOC: 00:59:58:01 RED     CHAR:ADA
002  A099C005 V     C        01:00:00:12 01:00:00:16 00:59:58:06 00:59:58:10
* FROM CLIP NAME: SH020_NOFX
"""

XMEML = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE xmeml>
<xmeml version="5">
  <sequence id="s1"><name>reel 2</name><duration>6</duration>
    <rate><timebase>24</timebase><ntsc>FALSE</ntsc></rate>
    <timecode><rate><timebase>24</timebase><ntsc>FALSE</ntsc></rate><string>00:59:58:00</string>
      <frame>86352</frame><displayformat>NDF</displayformat></timecode>
    <media><video><track>
      <clipitem id="c1"><name>SH010</name><enabled>TRUE</enabled><duration>20</duration>
        <rate><timebase>24</timebase><ntsc>FALSE</ntsc></rate>
        <start>0</start><end>6</end><in>4</in><out>10</out>
        <file id="f1"><name>A099_C005.mov</name><pathurl>{url}</pathurl>
          <rate><timebase>24</timebase><ntsc>FALSE</ntsc></rate><duration>20</duration>
          <timecode><rate><timebase>24</timebase><ntsc>FALSE</ntsc></rate><string>01:00:00:00</string>
            <frame>86400</frame><displayformat>NDF</displayformat></timecode>
          <media><video/></media></file>
      </clipitem>
    </track></video></media>
  </sequence>
</xmeml>
"""


@pytest.fixture
def reel(cut: Cut) -> Cut:
    """A movie of 20 frames with timecode, each frame of its own brightness, somewhere under a media folder."""
    cut.character("ada", "blue", (220, 30, 30))
    movie = cut.folder / "storage" / "day 1" / "A099_C005.mov"
    movie.parent.mkdir(parents=True)
    pictures = (np.full((HEIGHT, WIDTH, 3), 0.2 + 0.03 * index, np.float32) for index in range(FRAMES))
    write_movie(movie, pictures, rate=Fraction(24), timecode="01:00:00:00")
    cut.matte("SH010", "ada", FRAMES, (20, 10, 20, 30), first=1)
    cut.manifest["handles"] = {"head": 1, "tail": 1}
    cut.manifest["defaults"] |= {"steps": 1}
    return cut


def submit(cut: Cut, edit: Path, farm: Any, *more: object) -> dict[str, Any]:
    otio_edit = cut.write()
    otio_edit.unlink()
    (cut.folder / "edit.shots.yaml").rename(edit.with_name(f"{edit.stem}.shots.yaml"))
    said = farm("submit", edit, "--weights", cut.weights, "--json", *more)
    assert said.code == 0, said.err
    return said.document


def expect_frames(cut: Cut, returned: Path) -> None:
    """Frames 4 to 9 of the movie, handles 1 and 1, in the brightness they were made with; linked in the cut."""
    folder = returned.with_suffix("") / "shots" / "SH010" / "v001"
    files = sorted(folder.glob("*.exr"))
    assert [path.name for path in files] == [f"SH010_scail2_v001.{1001 + index}.exr" for index in range(8)]
    for index, path in enumerate(files):
        assert read_exr(path)[0, 0] == pytest.approx(0.2 + 0.03 * (3 + index), abs=0.01)
    timeline: Any = otio.adapters.read_from_file(str(returned))
    first = next(iter(timeline.find_clips()))
    assert first.active_media_reference_key == "scail2_farm"
    assert first.media_reference.frame_for_time(first.source_range.start_time) == 1002
    assert (returned.parent / first.media_reference.target_url_base).resolve() == folder.resolve()


def test_an_edl_with_its_media_found_by_reel_and_timecode(reel: Cut, farm):
    edit = reel.folder / "reel2.edl"
    edit.write_text(EDL)
    reel.manifest["cast"] = [{"when": {"marker": "CHAR:*", "color": "RED"}, "characters": "from-marker"}]
    document = submit(reel, edit, farm, "--rate", "24", "--search", reel.folder / "storage")
    states = {clip["name"]: clip["state"] for clip in document["plan"]["clips"]}
    assert states == {"SH010": "rendered", "SH020_NOFX": "uncast"}
    assert document["plan"]["clips"][0]["record"] == {"first": 86352, "count": 6}
    expect_frames(reel, reel.folder / "reel2.scail2.otio")


def test_offline_media_without_a_place_to_look_is_told_of(reel: Cut, farm):
    edit = reel.folder / "reel2.edl"
    edit.write_text(EDL)
    reel.manifest["cast"] = [{"when": {"marker": "CHAR:*"}, "characters": "from-marker"}]
    reel.write().unlink()
    said = farm("check", edit, "--manifest", reel.folder / "edit.shots.yaml", "--json")
    assert (said.code, said.codes) == (3, ["SF-PLATE-MISSING"])
    assert "search" in said.document["faults"][0]["fix"]


def test_an_fcp7_xml_with_a_windows_drive_mapped(reel: Cut, farm):
    edit = reel.folder / "reel2.xml"
    edit.write_text(XMEML.format(url="file://localhost/P%3a/day%201/A099_C005.mov"))
    reel.manifest["cast"] = [{"when": {"track": "V1"}, "characters": [{"id": "ada"}]}]
    reel.manifest["path_map"] = [{"from": "P:\\", "to": str(reel.folder / "storage")}]
    submit(reel, edit, farm)
    expect_frames(reel, reel.folder / "reel2.scail2.otio")


def test_an_unmapped_drive_prints_the_line_to_add(reel: Cut, farm):
    edit = reel.folder / "reel2.xml"
    edit.write_text(XMEML.format(url="file://localhost/P%3a/day%201/A099_C005.mov"))
    reel.manifest["cast"] = [{"when": {"track": "V1"}, "characters": [{"id": "ada"}]}]
    reel.write().unlink()
    said = farm("check", edit, "--manifest", reel.folder / "edit.shots.yaml", "--json")
    assert (said.code, said.codes) == (3, ["SF-PLATE-MISSING"])
    assert "path_map: [{from: 'P:\\day 1'" in said.document["faults"][0]["fix"]


def test_a_returned_cut_of_a_foreign_edit_is_submitted_again_and_finds_its_take(reel: Cut, farm):
    edit = reel.folder / "reel2.edl"
    edit.write_text(EDL)
    reel.manifest["cast"] = [{"when": {"clip": "SH010"}, "characters": [{"id": "ada"}]}]
    reel.manifest["media"] = {"search": ["storage"]}
    submit(reel, edit, farm)
    returned = reel.folder / "reel2.scail2.otio"
    before = returned.read_bytes()
    said = farm("submit", returned, "--weights", reel.weights, "--json")
    assert said.code == 0, said.err
    assert [take["rendered_before"] for take in said.document["takes"]] == [True]
    assert returned.read_bytes() == before
