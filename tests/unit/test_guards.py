"""What an engine may hand in and must not: every way is told in words, and a picture that is one passes."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scail2_farm import guards
from scail2_farm.documents import (
    HISTORY,
    KINDS,
    REPORT,
    CanvasSize,
    FileDigest,
    Performer,
    PlateColor,
    PlateSource,
    Reference,
    Report,
    Sampler,
    Segment,
    Span,
    document_text,
)
from scail2_farm.errors import DiskFull, FrameTruncated, GuardFailed, ShareUnavailable
from scail2_farm.guards import file_name
from scail2_farm.media import exr

WIDTH, HEIGHT, CANVAS_WIDTH, CANVAS_HEIGHT = 24, 16, 32, 32
FIRST, FRAMES, LEAVE = 1001, 6, 5
NOBODY = np.zeros((HEIGHT, WIDTH), np.float32)


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


@dataclass
class Rendered:
    """A segment as a worker leaves it; files are changed by the tests, and `report` tells of what is there."""

    segment: Segment
    folder: Path
    plates: Path

    def path(self, kind: str, frame: int) -> Path:
        return self.folder / kind / file_name(self.segment, kind, frame)

    def raw(self, frame: int, picture: np.ndarray) -> None:
        exr.write_rgb(self.path("raw", frame), picture, attributes={"timeCode": f"01:00:00:{frame - FIRST:02d}"})

    def frame(self, frame: int, picture: np.ndarray) -> None:
        exr.write_rgb(self.path("frames", frame), picture, attributes={})

    def matte(self, frame: int, matte: np.ndarray) -> None:
        exr.write_matte(self.path("comp_matte", frame), matte, attributes={})

    def plate(self, frame: int, picture: np.ndarray) -> None:
        exr.write_rgb(self.plates / f"p.{frame}.exr", picture, attributes={})

    def history(self, frames: np.ndarray) -> None:
        np.save(self.folder / HISTORY, frames)

    def write(self) -> None:
        matte = NOBODY.copy()
        matte[4:12, 6:14] = 1
        for frame in self.frames:
            self.plate(frame, noise(frame, HEIGHT, WIDTH, 3))
            self.frame(frame, noise(frame, HEIGHT, WIDTH, 3))
            self.matte(frame, matte)
            self.raw(frame, noise(frame, CANVAS_HEIGHT, CANVAS_WIDTH, 3))
        self.history(noise(0, LEAVE, CANVAS_HEIGHT, CANVAS_WIDTH, 3))
        self.report()

    @property
    def frames(self) -> range:
        return self.segment.keep.range.numbers

    def report(self, *, key: str = "k", without: tuple[str, ...] = (), **more: str) -> None:
        """A true report of the files there, or of what `more` says."""
        there = [path for path in sorted(self.folder.rglob("*")) if path.is_file() and path.name != REPORT]
        digests = {str(path.relative_to(self.folder)): sha256(path.read_bytes()).hexdigest() for path in there}
        told = {path: digest for path, digest in (digests | more).items() if path not in without}
        report = Report(
            key=key,
            state="done",
            frames=tuple(FileDigest(path=path, sha256=digest) for path, digest in told.items()),
            seconds=1.0,
            steps_seconds=(1.0,),
            peak_bytes=1,
            finished="2026-01-01T00:00:00+00:00",
            versions={},
        )
        (self.folder / REPORT).write_text(document_text(report))

    def refused(self) -> GuardFailed:
        with pytest.raises(GuardFailed) as fault:
            guards.check(self.segment)
        assert fault.value.where.shot == "SH010"
        return fault.value


@pytest.fixture
def rendered(tmp_path: Path) -> Callable[..., Rendered]:
    def make(frames: int = FRAMES, **plate: Any) -> Rendered:
        (tmp_path / "plates").mkdir(exist_ok=True)
        source: dict[str, Any] = {
            "kind": "exr",
            "path": str(tmp_path / "plates/p.####.exr"),
            "frames": Span(first=FIRST, count=frames),
            "width": WIDTH,
            "height": HEIGHT,
            "rate": Fraction(24),
            "timecode_start": None,
        }
        segment = Segment(
            key="k",
            shot="SH010",
            index=0,
            count=1,
            window=Span(first=FIRST, count=9),
            overlap=0,
            keep=Span(first=FIRST, count=frames),
            leave=LEAVE,
            plate=PlateSource(**(source | plate)),
            color=PlateColor(config="builtin", space="ACEScg", decided_by="test"),
            canvas=CanvasSize(width=CANVAS_WIDTH, height=CANVAS_HEIGHT, active=(0, 5, 32, 21)),
            mode="replacement",
            prompt="",
            negative_prompt="",
            seed=1,
            sampler=Sampler(preset="preview", solver="euler", steps=1, shift=5.0, guidance=1.0),
            performers=(
                Performer(
                    id="ada",
                    slot="blue",
                    references=(Reference(image="a.png", mask=None),),
                    seen=None,
                    prompt="",
                    matte="m.####.png",
                    matte_offset=0,
                ),
            ),
            weights=FileDigest(path="w", sha256="0"),
            folder=str(tmp_path / "work/k"),
            history=None,
        )
        for kind in KINDS:
            (tmp_path / "work/k" / kind).mkdir(parents=True, exist_ok=True)
        made = Rendered(segment, tmp_path / "work/k", tmp_path / "plates")
        made.write()
        return made

    return make


def test_what_is_whole_passes(rendered):
    guards.check(rendered().segment)


# --------------------------------------------------------------------------- files and report


def test_an_engine_that_ends_well_and_leaves_nothing(rendered):
    one = rendered()
    (one.folder / REPORT).unlink()
    assert "the worker called the segment done, and report.json is not there" in one.refused().what
    for path in sorted(one.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    one.folder.rmdir()
    assert "report.json is not there" in one.refused().what


def test_a_work_folder_that_is_gone_is_no_fault_of_the_engine(rendered):
    one = rendered()
    one.folder.parent.rename(one.folder.parent.with_name("unmounted"))
    with pytest.raises(ShareUnavailable):
        guards.check(one.segment)


def test_a_report_that_cannot_be_read_or_is_of_something_else(rendered):
    one = rendered()
    text = (one.folder / REPORT).read_text()
    (one.folder / REPORT).write_text(text[: len(text) // 2])
    assert "report.json is not a" in one.refused().what
    one.report(key="another")
    assert one.refused().what == "report.json is that of another segment"


def test_a_report_that_does_not_tell_of_every_file(rendered):
    one = rendered()
    one.report(without=("raw/0001003.exr", HISTORY))
    assert one.refused().what == "report.json lacks 2 (history.npy, raw/0001003.exr) of 19 files"
    one.report(**{"raw/0001009.exr": "0", "../../etc/passwd": "0"})
    assert one.refused().what == "report.json names 2 (../../etc/passwd, raw/0001009.exr) too many"


def test_files_that_are_not_there_are_told_with_their_numbers(rendered):
    one = rendered()
    for frame in (1002, 1003, 1005):
        one.path("raw", frame).unlink()
    one.path("frames", 1006).unlink()
    fault = one.refused()
    assert fault.what == "frames, 1 of 6 frames (1006): not there; raw, 3 of 6 frames (1002-1003, 1005): not there"
    assert (fault.where.file, fault.where.frame) == (str(one.path("frames", 1006)), 1006)
    assert "disk" in fault.fix


def test_numbers_are_those_in_the_names_of_the_plate(rendered):
    one = rendered(step=2, origin=FIRST)
    one.path("raw", 1003).unlink()
    fault = one.refused()
    assert "raw, 1 of 6 frames (1005): not there" in fault.what
    assert fault.where.frame == 1005


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_what_was_reported(rendered, kind: str):
    one = rendered()
    path = one.path(kind, 1004)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    fault = one.refused()
    assert fault.what == f"{kind}, 1 of 6 frames (1004): not what was reported, the sha256 differs"
    assert fault.where.file == str(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[:-1], "is incomplete"),
        (lambda content: content[:100], "cut short or damaged in its header"),
        (lambda _: b"", "is cut short or damaged in its header"),
        (lambda _: b"\x89PNG and so on", "is not an OpenEXR file"),
        (lambda content: content[:-40] + bytes(40), "does not decode"),
    ],
)
def test_a_truly_reported_file_that_does_not_decode(rendered, kind: str, damage: Callable[[bytes], bytes], words: str):
    one = rendered()
    ramp = np.linspace(0, 1, WIDTH, dtype=np.float32)[None, :, None] * np.ones((HEIGHT, 1, 3), np.float32)
    one.frame(1004, ramp)  # what can be packed can be damaged
    one.raw(1004, np.pad(ramp, ((8, 8), (4, 4), (0, 0))))
    path = one.path(kind, 1004)
    path.write_bytes(damage(path.read_bytes()))
    one.report()
    fault = one.refused()
    assert fault.what.startswith(f"{kind}, 1 of 6 frames (1004): ")
    assert words in fault.what


# --------------------------------------------------------------------------- pictures


def test_pictures_of_another_size(rendered):
    one = rendered()
    small = noise(0, HEIGHT, WIDTH - 2, 3)
    for frame in one.frames:
        one.frame(frame, small)
    one.matte(1002, small[..., 0])
    one.raw(1003, small)
    one.report()
    assert one.refused().what == (
        "comp_matte, 1 of 6 frames (1002): 22x16, where the plate is 24x16; "
        "frames, 6 of 6 frames (1001-1006): 22x16, where the plate is 24x16; "
        "raw, 1 of 6 frames (1003): 22x16, where the canvas is 32x32"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_inside_the_matte(rendered, value: float):
    one = rendered()
    picture = noise(1002, HEIGHT, WIDTH, 3)
    picture[6, 8, 1] = value
    one.frame(1002, picture)
    one.report()
    assert one.refused().what == "frames, 1 of 6 frames (1002): NaN or Inf inside the matte"


def test_what_is_no_number_outside_the_matte_is_the_plates_own(rendered):
    one = rendered()
    picture = noise(1002, HEIGHT, WIDTH, 3)
    picture[0, 0], picture[15, 23, 2] = np.nan, np.inf
    one.plate(1002, picture)
    one.frame(1002, picture)
    one.report()
    guards.check(one.segment)


def test_a_raw_frame_that_is_no_number_anywhere(rendered):
    one = rendered()
    picture = noise(1006, CANVAS_HEIGHT, CANVAS_WIDTH, 3)
    picture[31, 31, 0] = np.nan
    one.raw(1006, picture)
    one.report()
    assert one.refused().what == "raw, 1 of 6 frames (1006): NaN or Inf"
    assert "another seed" in one.refused().fix


@pytest.mark.parametrize("value", [np.nan, -0.5, 1.5, np.inf])
def test_a_matte_is_between_0_and_1(rendered, value: float):
    one = rendered()
    matte = NOBODY.copy()
    matte[3, 3] = value
    one.matte(1001, matte)
    one.report()
    assert "values that are not between 0 and 1" in one.refused().what


def test_a_frame_without_pixels_where_the_matte_is(rendered):
    """Its display window is right and its data window too small."""
    import OpenEXR

    one = rendered()
    header: dict[str, Any] = {
        "compression": OpenEXR.ZIP_COMPRESSION,
        "type": OpenEXR.scanlineimage,
        "displayWindow": (np.array([0, 0], np.int32), np.array([WIDTH - 1, HEIGHT - 1], np.int32)),
        "dataWindow": (np.array([0, 0], np.int32), np.array([9, 7], np.int32)),
    }
    OpenEXR.File(header, {"RGB": noise(0, 8, 10, 3)}).write(str(one.path("frames", 1001)))
    one.report()
    assert one.refused().what == "frames, 1 of 6 frames (1001): no pixels in a part of the matte"


# --------------------------------------------------------------------------- black, flat, frozen


def same(value: float) -> np.ndarray:
    return np.full((CANVAS_HEIGHT, CANVAS_WIDTH, 3), value, np.float32)


def dark(frame: int) -> np.ndarray:
    return noise(frame, CANVAS_HEIGHT, CANVAS_WIDTH, 3) / 256


def frozen(_: int) -> np.ndarray:
    return noise(7, CANVAS_HEIGHT, CANVAS_WIDTH, 3)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (lambda _: same(0), "black"),
        (dark, "black"),
        (lambda frame: same(frame / 2000), "one flat colour"),
        (lambda _: same(1) * np.array([0.2, 0.5, 1], np.float32), "one flat colour"),
        (frozen, "frozen, all alike to the last bit"),
    ],
)
def test_a_dead_picture(rendered, picture: Callable[[int], np.ndarray], words: str):
    one = rendered()
    for frame in one.frames:
        one.raw(frame, picture(frame))
    one.report()
    fault = one.refused()
    assert fault.what == f"the model's picture is {words}, in 6 of 6 frames (1001-1006)"
    assert "seed" in fault.fix
    assert (fault.where.file, fault.where.frame) == (str(one.path("raw", 1001)), 1001)
    one.raw(1004, noise(1, CANVAS_HEIGHT, CANVAS_WIDTH, 3))
    one.report()
    guards.check(one.segment)  # one frame that lives is a shot that does: a flash of black is no fault


@pytest.mark.parametrize("picture", [lambda _: same(0), lambda _: same(0.5), frozen])
def test_a_plate_may_be_as_dead_as_the_picture(rendered, picture: Callable[[int], np.ndarray]):
    one = rendered()
    for frame in one.frames:
        one.raw(frame, picture(frame))
        one.plate(frame, np.full((HEIGHT, WIDTH, 3), 0.25, np.float32))
    one.report()
    guards.check(one.segment)


def test_a_held_plate_makes_a_frozen_picture_and_no_black_one(rendered):
    one = rendered()
    for frame in one.frames:
        one.raw(frame, frozen(frame))
        one.plate(frame, noise(5, HEIGHT, WIDTH, 3))
    one.report()
    guards.check(one.segment)
    for frame in one.frames:
        one.raw(frame, same(0))
    one.report()
    assert "black" in one.refused().what


def test_frames_that_stand_in_are_the_same_to_the_last_bit(rendered):
    one = rendered(missing=tuple(range(FIRST + 1, FIRST + FRAMES)), stand_in="hold")
    for frame in one.frames:
        one.raw(frame, frozen(frame))
    for frame in one.frames[1:]:
        (one.plates / f"p.{frame}.exr").unlink()
    one.report()
    guards.check(one.segment)


@pytest.mark.parametrize("frames", [1, 2])
def test_a_still_or_two_frames_may_be_the_same(rendered, frames: int):
    one = rendered(frames)
    for frame in one.frames:
        one.raw(frame, frozen(frame))
    one.history(noise(0, frames, CANVAS_HEIGHT, CANVAS_WIDTH, 3))
    one.report()
    guards.check(one.segment)


def test_where_nobody_is_shown_the_picture_is_of_no_account(rendered):
    one = rendered()
    for frame in one.frames:
        one.raw(frame, same(0))
        one.matte(frame, NOBODY)
    one.report()
    guards.check(one.segment)


def test_a_plate_that_changed_meanwhile_is_not_the_engines_fault(rendered):
    one = rendered()
    for frame in one.frames:
        one.raw(frame, same(0))
    one.report()
    (one.plates / "p.1001.exr").unlink()
    with pytest.raises(FrameTruncated):
        guards.check(one.segment)


# --------------------------------------------------------------------------- history


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((LEAVE, CANVAS_HEIGHT, CANVAS_WIDTH, 3), np.float64, "float64 of (5, 32, 32, 3)"),
        ((LEAVE - 1, CANVAS_HEIGHT, CANVAS_WIDTH, 3), np.float32, "where 5 to 5 float32 of (32, 32, 3) belong"),
        ((LEAVE + 1, CANVAS_HEIGHT, CANVAS_WIDTH, 3), np.float32, "float32 of (6, 32, 32, 3)"),
        ((LEAVE, HEIGHT, WIDTH, 3), np.float32, "float32 of (5, 16, 24, 3)"),
        ((0,), np.float32, "float32 of (0,)"),
        ((), np.float32, "float32 of ()"),
    ],
)
def test_a_history_of_another_shape(rendered, shape: tuple[int, ...], dtype: Any, words: str):
    one = rendered()
    one.history(np.ones(shape, dtype))
    one.report()
    fault = one.refused()
    assert fault.what.startswith("history.npy, which the next segment starts from: ")
    assert words in fault.what


def test_a_history_that_is_none(rendered):
    one = rendered()
    frames = noise(0, LEAVE, CANVAS_HEIGHT, CANVAS_WIDTH, 3)
    frames[2, 3, 4, 0] = np.nan
    one.history(frames)
    one.report()
    assert one.refused().what.endswith(": NaN or Inf")
    path = one.folder / HISTORY
    whole = path.read_bytes()
    for content in (b"", b"no array", whole[:-8], whole[:60]):
        path.write_bytes(content)
        one.report()
        assert "which the next segment starts from: " in one.refused().what
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    one.report()
    assert "which the next segment starts from: " in one.refused().what
    path.unlink()
    assert one.refused().what.endswith(": not there")


# --------------------------------------------------------------------------- manners


def test_storage_is_told_as_storage(rendered, monkeypatch: pytest.MonkeyPatch):
    one = rendered()

    def full(path: Path) -> str:
        raise DiskFull(f"no space left while reading {path}")

    monkeypatch.setattr(guards, "sha256_of", full)
    with pytest.raises(DiskFull):
        guards.check(one.segment)


def test_guards_load_neither_the_engine_nor_editorial():
    code = "import json, sys, scail2_farm.guards; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not [name for name in loaded if name.split(".")[0] in ("mlx", "opentimelineio")]
    assert not [name for name in loaded if name.startswith(("scail2_farm.engine", "scail2_farm.editorial"))]
