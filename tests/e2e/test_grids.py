"""A shot that changed after it was delivered: what its versions hold is put back, and only the rest is rendered."""

import copy
import errno
import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from submissions import Cut, planned_shot, read_exr, sealed, span, submitted

from scail2_farm import deliver, render
from scail2_farm.documents import Take, read_document
from scail2_farm.engine import load
from scail2_farm.errors import FrameTruncated
from scail2_farm.job import Rendering
from scail2_farm.media import movies

MEDIA = 24
FIRST_TC = 86400


@pytest.fixture(scope="module")
def first_version(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Cut:
    """A shot of 14 frames in three segments, of media with more; delivered, and its work folder swept."""
    cut = Cut(tmp_path_factory.mktemp("first") / "show", weights)
    cut.character("ada", "blue", (220, 30, 30))
    cut.plate("SH010", MEDIA)
    cut.matte("SH010", "ada", MEDIA, (20, 10, 20, 30))
    cut.clip("SH010", first=0, count=14, available=MEDIA)
    cut.manifest["handles"] = {"head": 0, "tail": 0}
    cut.manifest["deliver"] = {"movie": "none"}
    cut.manifest["cast"] = [{"when": {"clip": "SH*"}, "characters": [{"id": "ada"}]}]
    assert rendered(cut) == [0, 1, 2]
    return cut


@pytest.fixture
def delivered(first_version: Cut, tmp_path: Path) -> Cut:
    """A copy of it."""
    cut = Cut(tmp_path / "show", first_version.weights)
    shutil.copytree(first_version.folder, cut.folder, dirs_exist_ok=True)
    documents = first_version.clips, first_version.manifest, first_version.library
    cut.clips, cut.manifest, cut.library = copy.deepcopy(documents)
    return cut


def rendered(cut: Cut, *, raw: bool = False) -> list[int]:
    """Submit a cut; which segments were rendered. Nothing fails, and nothing is left in the work folder."""
    outcome, events = submitted(cut, raw=raw)
    assert not outcome.faults, outcome.faults
    assert not [entry for entry in (cut.folder / "edit.scail2/.work").iterdir() if entry.is_dir()]
    return sorted({event.segment for event in events if isinstance(event, Rendering)})


def lasts(cut: Cut, count: int) -> None:
    """The cut shows `count` frames of the shot."""
    cut.clips[0]["source_range"] = span(FIRST_TC, count)


def record(cut: Cut, version: int) -> Take:
    return read_document(cut.version("SH010", version) / "take.json", Take)


def frames(cut: Cut, version: int, count: int) -> list[bytes]:
    """The frames and comp mattes of a version, which has no others."""
    folder, name = cut.version("SH010", version), f"SH010_scail2_v{version:03d}"
    assert len(list(folder.glob("*.exr"))) == len(list((folder / "comp_matte").iterdir())) == count
    found = [cut.frame("SH010", 1001 + index, version).read_bytes() for index in range(count)]
    return found + [
        (folder / f"comp_matte/{name}_comp_matte.{1001 + index}.exr").read_bytes() for index in range(count)
    ]


def shared(one: list[bytes], other: list[bytes], count: int) -> bool:
    """Whether two versions agree in their first frames and mattes."""
    half, there = len(one) // 2, len(other) // 2
    return one[:count] == other[:count] and one[half : half + count] == other[there : there + count]


def test_a_version_keeps_the_history_of_every_segment(delivered: Cut):
    take = record(delivered, 1)
    files = {file.path: file for file in take.files}
    for index, segment in enumerate(take.segments):
        assert segment.history == f"history/{index}.npy"
        history = np.load(delivered.version("SH010") / segment.history)
        assert history.dtype == np.float32
        assert history.shape == (5, 32, 64, 3)
        assert files[segment.history].bytes == (delivered.version("SH010") / segment.history).stat().st_size
    assert [segment.window.first for segment in take.segments] == [1001, 1005, 1009]
    assert (take.segmenting.length, take.segmenting.overlap) == (9, 5)


def test_a_longer_shot_is_rendered_from_where_it_ended(delivered: Cut):
    lasts(delivered, 20)
    assert rendered(delivered) == [3, 4]
    before, after = record(delivered, 1), record(delivered, 2)
    assert [segment.key for segment in after.segments[:3]] == [segment.key for segment in before.segments]
    assert [(s.window.first, s.window.count, s.frames.first, s.frames.count) for s in after.segments[3:]] == [
        (1010, 9, 1015, 4),
        (1014, 9, 1019, 2),
    ]
    assert shared(frames(delivered, 1, 14), frames(delivered, 2, 20), 14)
    lasts(delivered, 21)
    assert rendered(delivered) == [5], "and again from there"
    assert shared(frames(delivered, 2, 20), frames(delivered, 3, 21), 20)


def test_the_frames_behind_the_old_end_start_from_its_last_ones(delivered: Cut):
    """An extended chain is what one rendering of it would be: its work folder is all that is needed, or its version."""
    lasts(delivered, 18)
    shot, work = planned_shot(delivered), delivered.folder / "again"
    (long,) = sealed([shot], weights=delivered.weights, work=work)
    loaded = load(delivered.weights)
    for index in range(len(long.segments)):
        for _ in render.render(long.segment(index, work=work), engine=loaded):
            pass
    assert rendered(delivered) == [3]
    last = Path(long.segment(3, work=work).folder)
    for n in range(1015, 1019):
        assert (last / f"frames/{n:07d}.exr").read_bytes() == delivered.frame("SH010", n, 2).read_bytes()


def test_a_shorter_shot_is_rendered_where_it_is_cut(delivered: Cut):
    lasts(delivered, 11)
    assert rendered(delivered) == [1]
    assert shared(frames(delivered, 1, 14), frames(delivered, 2, 11), 9)
    assert [segment.frames.count for segment in record(delivered, 2).segments] == [9, 2]
    lasts(delivered, 9)
    assert rendered(delivered) == [], "cut between two segments nothing is"
    assert frames(delivered, 3, 9)[:9] == frames(delivered, 1, 14)[:9]
    lasts(delivered, 14)
    assert rendered(delivered) == [], "as it was, it is the first version"
    assert not delivered.version("SH010", 4).exists()


def test_a_shot_is_rendered_from_its_first_changed_segment(delivered: Cut):
    delivered.matte("SH010", "ada", 1, (30, 12, 20, 30), first=1012)
    assert rendered(delivered) == [1, 2]
    assert shared(frames(delivered, 1, 14), frames(delivered, 2, 14), 9)
    delivered.matte("SH010", "ada", 1, (31, 10, 20, 30), first=1012)
    assert rendered(delivered) == [], "and as it was it is there"


CHANGES: dict[str, Callable[[Cut], object]] = {
    "another seed": lambda cut: cut.manifest["defaults"].update(seed=12),
    "other windows": lambda cut: cut.manifest["defaults"].update(segment={"length": 13, "overlap": 5}),
    "another overlap": lambda cut: cut.manifest["defaults"].update(segment={"length": 9, "overlap": 1}),
    "an earlier start": lambda cut: cut.clips[0].update(source_range=span(FIRST_TC + 1, 19)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_where_nothing_would_be_saved_windows_are_equal(delivered: Cut, change: str):
    lasts(delivered, 20)
    CHANGES[change](delivered)
    shot = planned_shot(delivered)
    (found,) = sealed([shot], weights=delivered.weights, work=delivered.folder / "w")
    first = shot.frames.first
    assert [one.window.first - first for one in found.segments] == [one.frames.first for one in shot.windows]
    assert not {one.key for one in found.segments} & {one.key for one in record(delivered, 1).segments}


def damaged_frame(cut: Cut) -> None:
    """One bit of a frame of the first segment, its size as it was."""
    path = cut.frame("SH010", 1003)
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(bytes(content))


DAMAGES: dict[str, Callable[[Cut], object]] = {
    "a bit of a frame": damaged_frame,
    "a frame": lambda cut: cut.frame("SH010", 1003).unlink(),
    "its history": lambda cut: (cut.version("SH010") / "history/0.npy").unlink(),
    "half its history": lambda cut: os.truncate(cut.version("SH010") / "history/0.npy", 100),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_segment_is_not_put_back(delivered: Cut, damage: str):
    whole = frames(delivered, 1, 14)
    DAMAGES[damage](delivered)
    delivered.matte("SH010", "ada", 1, (30, 12, 20, 30), first=1014)
    assert rendered(delivered) == [0, 2], "what is not as it was recorded is made again"
    assert shared(whole, frames(delivered, 2, 14), 13)


def test_a_lost_history_is_no_lost_picture(delivered: Cut):
    shutil.rmtree(delivered.version("SH010") / "history")
    outcome, events = submitted(delivered)
    assert outcome.warnings == []
    assert not [event for event in events if isinstance(event, Rendering)]


def test_the_models_own_frames_are_put_back_when_they_are_there(delivered: Cut):
    assert rendered(delivered, raw=True) == [0, 1, 2], "they were not kept"
    delivered.matte("SH010", "ada", 1, (30, 12, 20, 30), first=1014)
    assert rendered(delivered, raw=True) == [2]
    for n in range(1001, 1014):
        one, other = (delivered.version("SH010", v) / f"raw/SH010_scail2_v{v:03d}_raw.{n}.exr" for v in (2, 3))
        assert one.read_bytes() == other.read_bytes()
    delivered.matte("SH010", "ada", 1, (33, 12, 20, 30), first=1014)
    assert rendered(delivered) == [2], "and they need not be"


def test_a_segment_without_them_is_forgotten_where_they_are_wished_for(delivered: Cut, tmp_path: Path):
    lasts(delivered, 20)
    (shot,) = sealed([planned_shot(delivered)], weights=delivered.weights, work=tmp_path / "work")
    places = {"folder": delivered.folder / "edit.scail2", "work": tmp_path / "work"}
    without, wished = deliver.Wishes(raw=False, movie=None), deliver.Wishes(raw=True, movie=None)
    there = (True, True, True, False, False)
    assert deliver.restore(shot, **places, wishes=without) == there
    assert deliver.restore(shot, **places, wishes=without) == there, "they stay"
    with pytest.raises(FrameTruncated, match="segment 4 of 5 is not rendered"):
        deliver.deliver(shot, **places, wishes=without)
    assert deliver.restore(shot, **places, wishes=wished) == (False,) * 5


def test_on_another_disk_files_are_copied(delivered: Cut, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", refused)
    lasts(delivered, 16)
    assert rendered(delivered) == [3]
    assert shared(frames(delivered, 1, 14), frames(delivered, 2, 16), 14)


def test_a_movie_plate_is_put_back_by_its_own_numbers(delivered: Cut):
    pictures = [np.full((48, 80, 3), 0.03 * (index + 1)) for index in range(MEDIA)]
    movies.write_movie(delivered.folder / "a.mov", pictures, rate=Fraction(24), timecode="01:00:00:00")
    delivered.matte("MV010", "ada", MEDIA, (20, 10, 20, 30))
    delivered.manifest["cast"] = []
    shot = {"id": "MV010", "media": "a.mov", "range": [2, 15], "characters": [{"id": "ada"}]}
    delivered.manifest["shots"] = [shot]
    delivered.clips.clear()
    assert rendered(delivered) == [0, 1, 2]
    shot["range"] = [2, 19]
    assert rendered(delivered) == [3]
    one, other = (delivered.version("MV010", v) / f"MV010_scail2_v{v:03d}.1014.exr" for v in (1, 2))
    assert (read_exr(one) == read_exr(other)).all()


def test_delivering_again_finds_what_was_delivered(delivered: Cut):
    """Killed between its rename and its word, a delivery is found; another one is never made of the same take."""
    (shot,) = sealed([planned_shot(delivered)], weights=delivered.weights, work=delivered.folder / "w")
    wishes = deliver.Wishes(raw=False, movie=None)
    places = {"folder": delivered.folder / "edit.scail2", "work": delivered.folder / "w"}
    take, folder = deliver.deliver(shot, **places, wishes=wishes)
    assert (take, folder) == (record(delivered, 1), delivered.version("SH010"))
    assert not delivered.version("SH010", 2).exists()
    (link,) = deliver.links([(take, folder)]).values()
    assert (link.prefix, link.first_file, link.count, link.start.value) == ("SH010_scail2_v001.", 1001, 14, FIRST_TC)
