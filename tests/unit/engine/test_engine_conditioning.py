"""Conditionings on disk: a second job reads nothing of the encoders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scail2_farm import engine
from scail2_farm.engine.conditioning import ABANDONED_S, Answers
from scail2_farm.errors import WeightsMissing

MakeSegment = Callable[..., engine.SegmentInputs]
Render = Callable[..., engine.SegmentResult]
ENCODERS = ("t5_encoder.safetensors", "clip.safetensors")


@pytest.fixture
def own(snapshot_folder: Path, tmp_path: Path) -> Path:
    """A snapshot to spoil."""
    return Path(shutil.copytree(snapshot_folder, tmp_path / "own"))


def rows(seed: int, length: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((length, 64)).astype(np.float32)


def test_a_second_job_reads_nothing_of_the_encoders(
    own: Path, tmp_path: Path, segment: MakeSegment, render: Render
) -> None:
    """Another engine, the two files gone: the same prompt and reference give the same pixels; another prompt cannot."""
    first = render(segment(guidance=3.0), engine.load(own, cache=tmp_path / "cache"))
    second = engine.load(own, cache=tmp_path / "cache")
    for name in ENCODERS:
        (own / name).unlink()
    np.testing.assert_array_equal(render(segment(guidance=3.0), second).frames, first.frames)
    with pytest.raises(WeightsMissing, match="t5_encoder"):
        render(segment(prompt="someone else"), second)
    with pytest.raises(WeightsMissing, match="clip"):
        render(segment(reference=np.zeros((32, 64, 3), np.float32)), second)


def test_other_encoders_are_asked_again(own: Path, tmp_path: Path, segment: MakeSegment) -> None:
    """Files of another time are other files, unless the caller knows their content."""
    for content in ("", "0" * 64):
        engine.load(own, cache=tmp_path / "cache", content=content).condition(segment())
    for name in ENCODERS:
        os.utime(own / name, (1, 1))
    by_time, by_content, by_other = (
        engine.load(own, cache=tmp_path / "cache", content=content) for content in ("", "0" * 64, "1" * 64)
    )
    for name in ENCODERS:
        (own / name).unlink()
    assert by_content.condition(segment()).text.size
    for asked in (by_time, by_other):
        with pytest.raises(WeightsMissing):
            asked.condition(segment())


def test_nothing_is_kept_without_a_folder(own: Path, tmp_path: Path, segment: MakeSegment) -> None:
    before = sorted(tmp_path.rglob("*"))
    engine.load(own).condition(segment())
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("spoil", ["cut", "flip", "other", "empty"])
def test_a_damaged_answer_is_made_again(tmp_path: Path, spoil: str) -> None:
    """Cut short, one bit wrong, another file, nothing: none is believed, and a new one takes its place."""
    answers = Answers(tmp_path)
    answers.put("key", rows(1))
    path = tmp_path / "key.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes({"cut": content[:-9], "flip": content, "other": b"{}", "empty": b""}[spoil])
    assert answers.get("key") is None
    answers.put("key", rows(2))
    np.testing.assert_array_equal(answers.get("key"), rows(2))  # pyright: ignore[reportArgumentType]


def test_the_folder_is_bounded(tmp_path: Path) -> None:
    """The answers unused longest go; the newest stays even if it alone is too large; old leftovers are swept."""
    answers = Answers(tmp_path, limit_bytes=3 * 2200)
    leftover = tmp_path / "dead.safetensors.1.part"
    leftover.write_bytes(b"half")
    os.utime(leftover, (1, 1))
    assert ABANDONED_S < 1e5
    for age, name in enumerate("abc"):
        answers.put(name, rows(age))
        os.utime(tmp_path / f"{name}.safetensors", (100 + age, 100 + age))
    assert answers.get("a") is not None  # used again, so b is the oldest
    answers.put("d", rows(4))
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "c", "d"}
    Answers(tmp_path, limit_bytes=1).put("e", rows(5))
    assert [path.stem for path in tmp_path.iterdir()] == ["e"]


def test_a_disk_that_fails_costs_nothing_but_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file where the folder should be: nothing is kept or found, and the log says so."""
    place = tmp_path / "cache"
    place.write_text("a file")
    answers = Answers(place)
    answers.put("key", rows(1))
    assert answers.get("key") is None
    assert [record.event for record in caplog.records] == ["answer_not_kept", "answer_unreadable"]  # pyright: ignore
