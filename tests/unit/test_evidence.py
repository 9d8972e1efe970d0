import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import pytest
from farm_shots import sealed

from scail2_farm import evidence
from scail2_farm.documents import Segment, read_document
from scail2_farm.errors import GuardFailed, ShareUnavailable, Where

KEY = "1a2b3c4d" * 8
BLACK = "the model's picture is black"


def attempt(stage: Path, *, key: str = KEY, made: bytes | None = b"black") -> Segment:
    """A segment of two frames as an attempt left it: with its pictures, or with empty folders for them."""
    for kind in ("frames", "comp_matte", "raw"):
        (stage / kind).mkdir(parents=True)
        for frame in (1001, 1002) if made is not None else ():
            (stage / kind / f"{frame:07d}.exr").write_bytes(made or b"")
    if made is not None:
        (stage / "history.npy").write_bytes(made)
        (stage / "report.json").write_text("{}")
    return sealed("SH010", [key]).segment(0, work=stage.parent, folder=stage)


def black(stage: Path) -> GuardFailed:
    return GuardFailed(BLACK, where=Where(file=str(stage / "raw/0001001.exr"), frame=1001))


@pytest.fixture
def stage(tmp_path) -> Path:
    return tmp_path / "work" / f"{KEY[:24]}.7"


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "evidence"


def kept(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_was_handed_in_is_moved_whole_and_named(stage, root):
    segment = attempt(stage)
    inode = (stage / "frames/0001001.exr").stat().st_ino
    told = evidence.keep(black(stage), segment=segment, root=root)
    folder = root / "SH010-1-1a2b3c4d"
    assert [path.name for path in root.iterdir()] == [folder.name]
    assert evidence.NAME.fullmatch(folder.name)
    assert not stage.exists()
    assert (folder / "frames/0001001.exr").stat().st_ino == inode, "nothing is copied"
    assert kept(folder) == [
        "FAULT.txt",
        *(f"comp_matte/{frame:07d}.exr" for frame in (1001, 1002)),
        *(f"frames/{frame:07d}.exr" for frame in (1001, 1002)),
        "history.npy",
        *(f"raw/{frame:07d}.exr" for frame in (1001, 1002)),
        "report.json",
        "segment.json",
    ]
    assert (folder / "FAULT.txt").read_text() == f"{told}\n"
    assert read_document(folder / "segment.json", Segment) == segment
    assert (type(told), told.what) == (GuardFailed, BLACK)
    assert told.fix.startswith(f"look at frames/ in {folder}, which is what was refused; then try another seed")
    assert told.where == Where(file=str(folder / "raw/0001001.exr"), shot="SH010", frame=1001)


@pytest.mark.parametrize("made", ["empty folders", "nothing"])
def test_without_a_picture_the_words_are_kept(stage, root, made):
    segment = attempt(stage, made=None)
    if made == "nothing":
        shutil.rmtree(stage)
    fault = GuardFailed("12 of 99 values are not finite after solver step 1 of 2 of segment 1")
    told = evidence.keep(fault, segment=segment, root=root)
    folder = root / "SH010-1-1a2b3c4d"
    assert kept(folder) == ["FAULT.txt", "segment.json"]
    assert "after solver step 1 of 2" in (folder / "FAULT.txt").read_text()
    assert f"no picture was made: FAULT.txt in {folder} says where it stopped" in told.fix
    assert told.where == Where(file=str(folder), shot="SH010")
    assert list(folder.glob("*/")) == []


def test_a_file_that_is_not_there_is_not_named(stage, root):
    segment = attempt(stage)
    fault = GuardFailed("1 of 2 frames: not there", where=Where(file=str(stage / "frames/0001003.exr")))
    assert evidence.keep(fault, segment=segment, root=root).where.file == str(root / "SH010-1-1a2b3c4d")


def test_refused_again_it_takes_the_place_of_what_was_kept_and_of_nothing_else(stage, root):
    other = "5e6f7081" * 8
    evidence.keep(black(stage), segment=attempt(stage, key=other, made=b"other"), root=root)
    evidence.keep(black(stage), segment=attempt(stage, made=b"first"), root=root)
    later = stage.with_suffix(".8")
    told = evidence.keep(black(later), segment=attempt(later, made=b"second"), root=root)
    found = {path.name: (path / "frames/0001001.exr").read_bytes() for path in root.iterdir()}
    assert found == {"SH010-1-1a2b3c4d": b"second", "SH010-1-5e6f7081": b"other"}
    assert "/evidence/SH010-1-1a2b3c4d/raw/" in (told.where.file or "")


def test_keeping_the_same_attempt_again_changes_nothing(stage, root):
    """A farm whose ledger could not be written to handles what it heard again, from its beginning."""
    segment = attempt(stage)
    first = evidence.keep(black(stage), segment=segment, root=root)
    before = kept(root)
    again = evidence.keep(black(stage), segment=segment, root=root)
    assert str(again) == str(first)
    assert kept(root) == before


def test_a_disk_that_is_full_keeps_none_and_says_so(stage, root, monkeypatch: pytest.MonkeyPatch):
    segment = attempt(stage)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9, 9, 1000))
    told = evidence.keep(black(stage), segment=segment, root=root, kept_free=2_000)
    assert told.what == BLACK
    assert "what it made could not be kept: the disk has 0.00 GB free" in told.why
    assert "evidence" not in told.fix
    assert told.where == Where(frame=1001), "no file is named that goes"
    assert kept(stage), "whoever keeps the stage removes it"
    assert not root.exists()


def test_a_place_that_cannot_be_written_to_is_told(stage, root):
    segment = attempt(stage)
    root.write_bytes(b"a file")
    told = evidence.keep(black(stage), segment=segment, root=root)
    assert f"what it made could not be kept: {root}: " in told.why


def test_it_goes_by_age(stage, root):
    for key, days in (("1a2b3c4d" * 8, 15), ("5e6f7081" * 8, 13)):
        evidence.keep(black(stage), segment=attempt(stage, key=key), root=root)
        folder = root / f"SH010-1-{key[:8]}"
        then = time.time() - days * 86400
        os.utime(folder, (then, then))
    (root / "notes of the artist").mkdir()
    os.utime(root / "notes of the artist", (0, 0))
    evidence.sweep(root, older_than_days=14)
    assert sorted(path.name for path in root.iterdir()) == ["SH010-1-5e6f7081", "notes of the artist"]
    evidence.sweep(root / "none", older_than_days=14)


def test_a_share_that_is_away_is_told_by_the_sweep(root, monkeypatch: pytest.MonkeyPatch):
    (root / "SH010-1-1a2b3c4d").mkdir(parents=True)
    os.utime(root / "SH010-1-1a2b3c4d", (0, 0))

    def away(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shutil, "rmtree", away)
    (fault,) = evidence.sweep(root, older_than_days=14)
    assert isinstance(fault, ShareUnavailable)
    assert "Input/output error" in fault.what


def test_the_sweep_follows_no_link_and_goes_on_past_what_stays(stage, root):
    own = root.parent / "the artist's own"
    own.mkdir(parents=True)
    (own / "kept.txt").write_text("kept")
    evidence.keep(black(stage), segment=attempt(stage), root=root)
    (root / "A-1-00000000").symlink_to(own)
    for path in (own, root / "SH010-1-1a2b3c4d"):
        os.utime(path, (0, 0))
    assert evidence.sweep(root, older_than_days=14) == []
    assert [path.name for path in root.iterdir()] == ["A-1-00000000"]
    assert (own / "kept.txt").is_file()
    (root.parent / "linked").symlink_to(root)
    assert evidence.sweep(root.parent / "linked", older_than_days=0) == []


def test_what_was_kept_stays_until_the_next_takes_its_place(stage, root, monkeypatch: pytest.MonkeyPatch):
    evidence.keep(black(stage), segment=attempt(stage), root=root)
    before = kept(root)

    def refuse(path: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", refuse)
    told = evidence.keep(black(stage), segment=attempt(stage), root=root)
    assert "what it made could not be kept" in told.why
    assert kept(root) == before
