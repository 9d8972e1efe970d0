"""From a segment's document to what the engine is given, and back to frames: real small files, no weights."""

import sys
from collections.abc import Callable
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from submissions import FIRST_TC, HEIGHT, WIDTH, finish, matte_pixels, plate_pixels, read_exr, write_exr

from scail2_farm import engine, render
from scail2_farm.documents import (
    Box,
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
from scail2_farm.errors import FrameTruncated
from scail2_farm.media import exr, movies
from scail2_farm.media.canvas import Canvas
from scail2_farm.media.color import Said, decide
from scail2_farm.media.plates import probe
from scail2_farm.media.spaces import load_config

FRAMES = 5
IDENTITY = {"blue": (0, 0, 255), "red": (255, 0, 0)}
MATTE = (20, 10, 16, 30)


def matte_box(frame: int) -> tuple[int, int, int, int]:
    """Where the matte of `ada` is: it moves one pixel a frame."""
    return (MATTE[0] + frame - 1001, *MATTE[1:])


def still(folder: Path, name: str, color: tuple[int, int, int]) -> Reference:
    """A flat figure of one colour, 20x52 in a still of 48x64."""
    picture, mask = np.full((64, 48, 3), 119, np.uint8), np.zeros((64, 48), np.uint8)
    picture[8:60, 14:34], mask[8:60, 14:34] = color, 255
    Image.fromarray(picture).save(folder / f"{name}.png")
    Image.fromarray(mask).save(folder / f"{name}_mask.png")
    return Reference(image=str(folder / f"{name}.png"), mask=str(folder / f"{name}_mask.png"))


@pytest.fixture
def shot(tmp_path: Path) -> Callable[..., Segment]:
    """Five frames of 80x48 from 1001, one performer in blue; `more` replaces fields of the segment."""
    for index in range(FRAMES):
        number = 1001 + index
        write_exr(tmp_path / f"plates/sh.{number}.exr", plate_pixels(3, index), frame=FIRST_TC + index)
        (tmp_path / "mattes").mkdir(exist_ok=True)
        Image.fromarray(matte_pixels(matte_box(number))).save(tmp_path / f"mattes/ada.{number}.png")
    canvas = Canvas.fit(WIDTH, HEIGHT, pixel_aspect=1.0, budget=(96, 64))
    color = decide(probe(tmp_path / "plates/sh.1001.exr"), said=Said(), config=load_config(None))

    def make(**more: Any) -> Segment:
        fields: dict[str, Any] = {
            "key": "k",
            "shot": "sh",
            "index": 0,
            "count": 1,
            "window": Span(first=1001, count=FRAMES),
            "overlap": 0,
            "keep": Span(first=1001, count=FRAMES),
            "leave": 1,
            "plate": plate(tmp_path),
            "color": PlateColor(config=color.config, space=color.space, decided_by=color.decided_by),
            "canvas": CanvasSize(width=canvas.width, height=canvas.height, active=canvas.active),
            "mode": "replacement",
            "prompt": "",
            "negative_prompt": "",
            "seed": 1,
            "sampler": Sampler(preset="preview", solver="euler", steps=1, shift=5.0, guidance=1.0),
            "performers": (performer(tmp_path, still(tmp_path, "ada", (220, 30, 30))),),
            "weights": FileDigest(path="tiny", sha256="0"),
            "folder": str(tmp_path / "work/sh"),
            "history": None,
        }
        return Segment(**(fields | more))

    return make


def plate(folder: Path, **more: Any) -> PlateSource:
    fields: dict[str, Any] = {
        "kind": "exr",
        "path": str(folder / "plates/sh.####.exr"),
        "frames": Span(first=1001, count=FRAMES),
        "width": WIDTH,
        "height": HEIGHT,
        "rate": Fraction(24),
        "timecode_start": FIRST_TC,
    }
    return PlateSource(**(fields | more))


def performer(folder: Path, *references: Reference, **more: Any) -> Performer:
    left, top, width, height = MATTE
    fields: dict[str, Any] = {
        "id": "ada",
        "slot": "blue",
        "references": references,
        "seen": Box(left=left, top=top, width=width, height=height),
        "prompt": "",
        "matte": str(folder / "mattes/ada.####.png"),
        "matte_offset": 0,
    }
    return Performer(**(fields | more))


def where(mask: NDArray[np.uint8], color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The box of one colour in a painted mask."""
    rows, columns = np.nonzero((mask == color).all(axis=-1))
    return columns.min(), rows.min(), columns.max() - columns.min() + 1, rows.max() - rows.min() + 1


def test_the_reference_stands_like_the_performer(shot):
    inputs = render.segment_inputs(shot())
    assert inputs.driving.shape == (FRAMES, *inputs.reference.shape)
    left, top, width, height = where(inputs.reference_mask, IDENTITY["blue"])
    driven = where(inputs.driving_mask[0], IDENTITY["blue"])
    assert abs(height - driven[3]) <= 1
    assert abs(top + height - driven[1] - driven[3]) <= 1, "the same ground line"
    assert abs(left + width / 2 - driven[0] - driven[2] / 2) <= 1
    assert np.allclose(inputs.reference[top + height // 2, left + width // 2] * 255, (220, 30, 30), atol=1)
    assert inputs.extra_references == ()
    assert inputs.history is None


def test_extra_views_follow_in_order_on_black(shot, tmp_path):
    views = [still(tmp_path, name, (20, 20 * n, 200)) for n, name in enumerate(("side", "back", "ben", "ben_back"), 1)]
    ada = still(tmp_path, "ada", (220, 30, 30))
    people = (
        performer(tmp_path, ada, *views[:2]),
        performer(tmp_path, *views[2:], id="ben", slot="red", seen=Box(left=50, top=5, width=10, height=40)),
    )
    for mode in ("replacement", "animation"):
        inputs = render.segment_inputs(shot(performers=people, mode=mode))
        assert len(inputs.extra_references) == 3
        colors = [(20, 20, 200), (20, 40, 200), (20, 80, 200)]
        for (picture, mask), color, slot in zip(inputs.extra_references, colors, ("blue", "blue", "red"), strict=True):
            assert picture.shape == mask.shape == inputs.reference.shape
            assert (picture.dtype, mask.dtype) == (np.float32, np.uint8)
            left, top, width, height = where(mask, IDENTITY[slot])
            assert {tuple(c) for c in mask.reshape(-1, 3)} == {(0, 0, 0), IDENTITY[slot]}
            assert (picture[: top - 2] == 0).all()
            assert np.allclose(picture[top + height // 2, left + width // 2] * 255, color, atol=1)
        one, other = (where(inputs.reference_mask, IDENTITY[slot]) for slot in ("blue", "red"))
        assert one[0] + one[2] <= other[0]
        corner = (0, 0, 0) if mode == "replacement" else (255, 255, 255)
        assert tuple(inputs.reference_mask[0, 0]) == corner, "behind the primary reference the mode decides"


def history_of(folder: Path, frames: NDArray[np.float32]) -> str:
    """The folder of a segment that left these frames."""
    folder.mkdir(parents=True)
    np.save(folder / render.HISTORY, frames, allow_pickle=False)
    digest = sha256((folder / render.HISTORY).read_bytes()).hexdigest()
    report = Report(
        key="before",
        state="done",
        frames=(FileDigest(path=render.HISTORY, sha256=digest),),
        seconds=1.0,
        steps_seconds=(),
        peak_bytes=0,
        finished="",
        versions={},
    )
    (folder / render.REPORT).write_text(document_text(report))
    return str(folder)


def test_history_of_the_same_size_is_the_same_bits(shot, tmp_path):
    frames = np.random.default_rng(0).random((1, 64, 96, 3)).astype(np.float32)
    inputs = render.segment_inputs(shot(history=history_of(tmp_path / "before", frames), overlap=1))
    assert inputs.history is not None
    assert np.array_equal(inputs.history.view(np.uint32), frames.view(np.uint32))


def test_history_of_another_canvas_is_brought_onto_this_one(shot, tmp_path):
    other = Canvas.fit(WIDTH, HEIGHT, pixel_aspect=1.0, budget=(192, 128))
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    picture = np.stack([x / WIDTH, y / HEIGHT, np.full_like(x, 0.5)], axis=-1)
    segment = shot(history=history_of(tmp_path / "before", other.to_canvas(picture)[None]), overlap=1)
    inputs = render.segment_inputs(segment)
    assert inputs.history is not None
    assert inputs.history.shape == (1, 64, 96, 3)
    assert np.abs(inputs.history[0] - render.canvas_of(segment).to_canvas(picture)).max() < 0.03


def test_missing_frames_are_held_with_their_mattes(shot, tmp_path):
    (tmp_path / "plates/sh.1003.exr").unlink()
    (tmp_path / "mattes/ada.1003.png").unlink()
    segment = shot(plate=plate(tmp_path, missing=(1003,), stand_in="hold"))
    inputs = render.segment_inputs(segment)
    assert np.array_equal(inputs.driving[2], inputs.driving[1])
    assert np.array_equal(inputs.driving_mask[2], inputs.driving_mask[1])
    assert not np.array_equal(inputs.driving_mask[3], inputs.driving_mask[1])
    Image.fromarray(matte_pixels(matte_box(1003))).save(tmp_path / "mattes/ada.1003.png")
    assert not np.array_equal(render.segment_inputs(segment).driving_mask[2], inputs.driving_mask[2]), "one of its own"


def test_missing_frames_are_black_and_nobody_is_there(shot, tmp_path):
    (tmp_path / "plates/sh.1003.exr").unlink()
    (tmp_path / "mattes/ada.1003.png").unlink()
    inputs = render.segment_inputs(shot(plate=plate(tmp_path, missing=(1003,), stand_in="black")))
    assert inputs.driving[2].max() < 1e-6
    assert (inputs.driving_mask[2] == 255).all(), "in replacement the background is white"


def test_what_went_missing_after_planning_is_told(shot, tmp_path):
    (tmp_path / "mattes/ada.1003.png").unlink()
    with pytest.raises(FrameTruncated, match=r"ada\.1003\.png is not there"):
        render.segment_inputs(shot())
    (tmp_path / "plates/sh.1002.exr").unlink()
    with pytest.raises(FrameTruncated, match=r"sh\.1002\.exr is not there"):
        render.segment_inputs(shot())


def test_file_numbers_with_a_step_are_counted_and_mattes_follow_the_numbers(shot, tmp_path):
    straight = render.segment_inputs(shot())
    for kind, name in (("plates", "sh.{}.exr"), ("mattes", "ada.{}.png")):
        for index in reversed(range(FRAMES)):
            path = tmp_path / kind / name.format(1001 + index)
            path.rename(tmp_path / kind / name.format(1001 + 4 * index + (100 if kind == "mattes" else 0)))
    ada = performer(tmp_path, still(tmp_path, "ada", (220, 30, 30)), matte_offset=100)
    stepped = render.segment_inputs(shot(plate=plate(tmp_path, step=4, origin=1001), performers=(ada,)))
    assert np.array_equal(stepped.driving, straight.driving)
    assert np.array_equal(stepped.driving_mask, straight.driving_mask)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> engine.Engine:
    folder = tmp_path_factory.mktemp("weights")
    engine.write_tiny_snapshot(folder, seed=1)
    return engine.load(folder)


def test_an_engine_suits_what_it_was_loaded_with_alone(shot, tmp_path):
    """Weights may be changed in place: the folder is the same, and the network in memory another."""
    folder = tmp_path / "weights"
    engine.write_tiny_snapshot(folder, seed=1)
    segment = shot(weights=FileDigest(path=str(folder), sha256="a" * 64))
    loaded = render.engine_for(segment)
    assert render.suits(loaded, segment)
    for other in (
        segment.model_copy(update={"weights": FileDigest(path=str(folder), sha256="b" * 64)}),
        segment.model_copy(update={"weights": FileDigest(path=str(tmp_path), sha256="a" * 64)}),
        segment.model_copy(update={"sampler": segment.sampler.model_copy(update={"precision": "bf16"})}),
    ):
        assert not render.suits(loaded, other)
    assert not render.suits(None, segment)


def timecode_of(path: Path) -> str | None:
    return exr.timecode_of(exr.examine(path)[0], Fraction(24))


def test_a_held_frame_is_written_with_its_own_timecode(shot, tmp_path, tiny):
    (tmp_path / "plates/sh.1003.exr").unlink()
    segment = shot(plate=plate(tmp_path, missing=(1003,), stand_in="hold"))
    finish(render.render(segment, engine=tiny))
    frames = {n: Path(segment.folder) / f"frames/{n:07d}.exr" for n in range(1001, 1006)}
    assert [timecode_of(path) for path in frames.values()] == [f"01:00:00:{n:02d}" for n in range(FRAMES)]
    held = OpenEXR.File(str(frames[1003])).header()
    assert held["scail2_farm:stand_in"] == "hold"
    assert held["cameraLabel"] == "A"
    assert "scail2_farm:stand_in" not in OpenEXR.File(str(frames[1002])).header()
    left, top, width, height = matte_box(1003)
    outside = np.ones((HEIGHT, WIDTH), np.bool_)
    outside[top : top + height, left : left + width] = False
    before = plate_pixels(3, 1).view(np.uint16)
    assert np.array_equal(read_exr(frames[1003]).view(np.uint16)[outside], before[outside]), "its bits are those held"


def test_a_movie_is_held_beyond_its_end(shot, tmp_path, tiny):
    pictures = [np.full((HEIGHT, WIDTH, 3), 0.1 * (index + 1)) for index in range(4)]
    movies.write_movie(tmp_path / "a.mov", pictures, rate=Fraction(24), timecode="01:00:00:00")
    found = probe(tmp_path / "a.mov")
    color = decide(found, said=Said(), config=load_config(None))
    span = Span(first=0, count=FRAMES)
    source = plate(
        tmp_path,
        kind="movie",
        path=str(tmp_path / "a.mov"),
        frames=Span(first=0, count=4),
        missing=(4,),
        stand_in="hold",
    )
    people = (performer(tmp_path, still(tmp_path, "ada", (220, 30, 30)), matte_offset=1001),)
    segment = shot(
        plate=source,
        color=PlateColor(config=color.config, space=color.space, decided_by=color.decided_by),
        window=span,
        keep=span,
        performers=people,
    )
    finish(render.render(segment, engine=tiny))
    last = Path(segment.folder) / "frames/0000004.exr"
    assert timecode_of(last) == "01:00:00:04"
    assert read_exr(last)[0, 0, 0] == read_exr(last.with_name("0000003.exr"))[0, 0, 0]
