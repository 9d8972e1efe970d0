"""The numbers of ayon-core's plate extraction (EXPECTED_RANGES.tsv), through the editorial wing alone.

ALLOWED names the rows that differ, by one frame at one end as editorial.md §3 allows, and why. Fractions of a frame at
the end of a movie are rounded up. Nowhere is a frame lost: where they differ, one more is rendered than AYON extracts.
"""

import csv
import os
from math import ceil, floor
from pathlib import Path

import pytest

from scail2_farm.documents import Handles, PathMapping
from scail2_farm.editorial.timeline import read_edit, read_fragment
from scail2_farm.errors import TimelineUnreadable
from scail2_farm.frames import FrameRange

AYON = Path(__file__).resolve().parents[4] / "shared" / "editorial" / "ayon"
TABLE = AYON / "EXPECTED_RANGES.tsv"
LINES = TABLE.read_text(encoding="utf-8").splitlines() if TABLE.is_file() else []
ROWS = list(csv.DictReader(LINES, delimiter="\t"))
MAP = (PathMapping.model_validate({"from": "C:\\", "to": "/mnt/c"}),)

ALLOWED = {
    # file: frames more at the head, at the tail
    "img_seq_2x_speed.json": (0, 1),  # 22 frames of 23.976 are 22.94 of 25, which lie on 23; AYON rounds down to 22
    "img_seq_tw_beyond_range.json": (1, 0),  # -5 frames of 23.976 are -5.2 of 25; AYON adds them as frames of 25
}


def test_the_table_is_there():
    if not ROWS:
        reason = "the folder shared/editorial is not beside the repository"
        if os.environ.get("SCAIL2_REQUIRE_ALL"):
            pytest.fail(reason)
        pytest.skip(reason)
    assert len(ROWS) == 15


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_the_frames_and_handles_ayon_extracts(row: dict[str, str]):
    (clip,) = read_fragment(AYON / row["file"], path_map=MAP).clips
    used = clip.used()
    head, tail = ALLOWED.get(row["file"], (0, 0))
    expected = FrameRange.from_last(floor(float(row["media_in"])), ceil(float(row["media_out"])))
    assert used.frames == expected.grown(head, tail)
    assert used.notes == ()
    asked = clip.handles(Handles(head=int(row["asked_handle_start"]), tail=int(row["asked_handle_end"])))
    assert clip.media is not None
    media = clip.media.frames
    assert media is not None
    given = min(asked.head, used.frames.first - media.first), min(asked.tail, media.last - used.frames.last)
    assert given == (int(row["handle_start"]), int(row["handle_end"]))
    curved = clip.speed is None  # a TimeWarp has no one speed; AYON says 1
    assert curved or float(clip.speed or 0) == pytest.approx(float(row["speed"]))
    assert curved == ("tw_" in row["file"] or "timewarp" in row["file"])


@pytest.mark.skipif(not ROWS, reason="the folder shared/editorial is not beside the repository")
def test_a_lone_track_is_read_as_a_timeline_of_one_track():
    edit = read_fragment(AYON / "multiple_review_clips_gap.json", path_map=MAP)
    told = [(clip.used().frames, clip.record_start, clip.record_count) for clip in edit.clips]
    assert told == [(FrameRange(1000, 88), 2, 88), (FrameRange(1000, 11), 90, 11)]


@pytest.mark.skipif(not ROWS, reason="the folder shared/editorial is not beside the repository")
def test_a_lone_clip_is_no_submission():
    with pytest.raises(TimelineUnreadable):
        read_edit(AYON / "legacy_img_sequence.json")


@pytest.mark.skipif(not ROWS, reason="the folder shared/editorial is not beside the repository")
@pytest.mark.parametrize(
    ("file", "space"),
    [
        ("img_seq_2x_speed.json", "ACES - ACES2065-1"),
        ("qt_reverse_speed_2x.json", "Gamma2.2"),
        ("img_seq_embedded_tc.json", None),
    ],
)
def test_the_colour_space_the_edit_notes(file: str, space: str | None):
    (clip,) = read_fragment(AYON / file, path_map=MAP).clips
    assert clip.space == space
