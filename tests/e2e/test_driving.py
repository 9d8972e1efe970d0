"""What moves a character in place of the plate: rendered poses and stored performances, and how strongly."""

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from submissions import FIRST_FILE, Cut, finish, integers, matte_pixels, planned_shot, read_exr, sealed, write_image

from scail2_farm.documents import SealedShot, Segment
from scail2_farm.errors import FrameTruncated
from scail2_farm.media.movies import write_movie
from scail2_farm.plan import plan
from scail2_farm.render import segment_inputs
from scail2_farm.seal import memory_of, unchanged

CLIP = (64, 64)  # width, height: of other proportions than the plate
COUNT, FRAMES = 10, 16
LAST = FIRST_FILE + COUNT - 1


def pose_pixels(frame: int) -> np.ndarray:
    """A stick in a colour that tells the frame, on black."""
    picture = np.zeros((CLIP[1], CLIP[0], 3), np.uint8)
    picture[10:56, 20 + frame : 26 + frame] = (40 + 10 * frame, 200, 90)
    return picture


def write_performance(folder: Path, name: str, *roles: str, count: int = FRAMES, first: int = 1) -> None:
    """PNG frames of moving sticks, and a matte a role: the roles stand side by side."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(pose_pixels(index)).save(folder / f"{name}.{first + index:04d}.png")
        for place, role in enumerate(roles):
            box = (4 + 28 * place + index, 8, 12, 50)
            Image.fromarray(matte_pixels(box, CLIP)).save(folder / f"{name}_{role}.{first + index:04d}.png")


@pytest.fixture
def driven(cut: Cut) -> Cut:
    """One shot of ten frames without handles, driven by the stored performance `walk`; its plate has no mattes."""
    cut.character("ada", "blue", (220, 30, 30))
    cut.character("bo", "red", (30, 30, 220))
    cut.plate("SH010", COUNT)
    cut.clip("SH010", first=0, count=COUNT, available=COUNT)
    write_performance(cut.folder / "performances", "walk", "lead")
    cut.library["performances"] = {
        "walk": {
            "media": "performances/walk.####.png",
            "roles": {"lead": {"sequence": "performances/walk_{role}.####.png"}},
            "space": "sRGB - Display",
        }
    }
    cut.manifest["defaults"] |= {"mode": "animation", "driving": {"name": "walk"}}
    cut.manifest["cast"] = [{"when": {"clip": "*"}, "characters": [{"id": "ada"}]}]
    return cut


def planned(cut: Cut) -> SealedShot:
    """The one shot of a submission, sealed."""
    (shot,) = sealed([planned_shot(cut)], weights=cut.weights, work=cut.folder / "work")
    return shot


def segment_of(cut: Cut, index: int = 0) -> Segment:
    return planned(cut).segment(index, work=cut.folder / "work")


def submitted(cut: Cut, farm: Any, *more: str) -> Any:
    said = farm("submit", cut.write(), "--weights", cut.weights, "--json", *more)
    assert said.code == 0, said.err
    return said.document


def keys(cut: Cut) -> list[str]:
    return [segment.key for segment in planned(cut).segments]


# --------------------------------------------------------------------------- what the model is shown


def test_the_model_is_shown_the_performance_and_its_mattes(driven: Cut):
    driven.manifest["defaults"]["driving"]["start_frame"] = 3
    inputs = segment_inputs(segment_of(driven))
    assert inputs.driving.shape == (9, 32, 64, 3)
    middle = inputs.driving[:, :, 16:48]
    assert not inputs.driving[:, :, :14].any(), "a clip of other proportions is letterboxed in black"
    for index in range(9):
        shown = pose_pixels(index + 2) / 255
        assert np.isclose(middle[index].max(), shown.max(), atol=0.02)
        across = np.flatnonzero(middle[index, 16, :, 1] > 0.4)
        stick = (20 + index + 2, 25 + index + 2)
        assert (across.min(), across.max()) == pytest.approx((stick[0] / 2, stick[1] / 2), abs=1)
        painted = np.flatnonzero((inputs.driving_mask[index, 16] == (0, 0, 255)).all(axis=-1)) - 16
        assert (painted.min(), painted.max()) == pytest.approx(((6 + index) / 2, (17 + index) / 2), abs=1)
    assert not inputs.replace
    assert (inputs.driving_mask[:, 0, 0] == 0).all()
    assert (inputs.reference_mask[0, 0] == 255).all()


def test_a_movie_drives_as_a_sequence_does(driven: Cut):
    movie = driven.folder / "walk.mov"
    pictures = [pose_pixels(index).astype(np.float32) / 255 for index in range(FRAMES)]
    write_movie(movie, pictures, rate=Fraction(24), timecode=None)
    frames = segment_inputs(segment_of(driven))
    driven.library["performances"]["walk"] |= {"media": "walk.mov", "space": "Rec.1886 Rec.709 - Display"}
    shot = planned(driven)
    assert shot.driving is not None
    assert (shot.driving.clip.kind, shot.driving.roles[0].matte_offset) == ("movie", 1)
    inputs = segment_inputs(shot.segment(0, work=driven.folder / "work"))
    assert np.array_equal(inputs.driving_mask, frames.driving_mask)
    assert np.abs(inputs.driving - frames.driving).max() < 0.25, "the tone curves differ, and ProRes at edges"
    shape, wanted = (one.driving[:, :, :, 1] > 0.4 for one in (inputs, frames))
    assert (shape == wanted).mean() > 0.99


# --------------------------------------------------------------------------- what is delivered


def test_in_animation_the_whole_frame_is_the_models(driven: Cut, farm):
    submitted(driven, farm)
    take = driven.take("SH010")
    assert take.driving is not None
    assert take.driving.clip.path.endswith("performances/walk.####.png")
    assert [
        (one.matte is None, role.matte is not None)
        for one, role in zip(take.performers, take.driving.roles, strict=True)
    ] == [(True, True)]
    for number in range(FIRST_FILE, LAST + 1):
        assert (driven.comp_matte("SH010", number) == 1).all()
        frame, plate = (read_exr(path) for path in (driven.frame("SH010", number), driven.plate_file("SH010", number)))
        assert frame.shape == plate.shape
        assert frame.dtype == plate.dtype
        assert (frame != plate).any(axis=-1).mean() > 0.99
    assert (driven.folder / "edit.scail2.otio").is_file()


def test_a_matte_said_in_the_manifest_keeps_the_plate_outside_it(driven: Cut, farm):
    driven.matte("SH010", "ada", COUNT, (20, 10, 20, 30))
    driven.manifest["defaults"]["mode"] = "replacement"
    driven.manifest["cast"][0]["characters"] = [
        {"id": "ada", "role": "lead", "matte": {"sequence": "mattes/{shot}/{character}.####.png"}}
    ]
    submitted(driven, farm)
    for number in (FIRST_FILE, LAST):
        matte = driven.comp_matte("SH010", number)
        frame, plate = (read_exr(path) for path in (driven.frame("SH010", number), driven.plate_file("SH010", number)))
        outside = matte == 0
        assert 0.5 < outside.mean() < 1
        assert np.array_equal(frame.view(np.uint16)[outside], plate.view(np.uint16)[outside])
        assert (frame != plate).any(axis=-1)[matte == 1].all()


def test_one_performance_moves_whoever_is_cast(driven: Cut, farm):
    submitted(driven, farm)
    ada = read_exr(driven.frame("SH010", FIRST_FILE))
    driven.manifest["cast"][0]["characters"] = [{"id": "bo"}]
    submitted(driven, farm)
    bo = read_exr(driven.frame("SH010", FIRST_FILE, 2))
    assert not np.array_equal(ada, bo)
    assert driven.take("SH010").driving == driven.take("SH010", 2).driving


def test_one_character_may_be_the_whole_frame_of_a_plate(one_shot: Cut, farm):
    one_shot.library["characters"]["ada"]["matte"] = {"whole_frame": True}
    shutil.rmtree(one_shot.folder / "mattes")
    submitted(one_shot, farm)
    assert (one_shot.comp_matte("SH010", 1004) == 1).all()
    assert (segment_inputs(segment_of(one_shot)).driving_mask == (0, 0, 255)).all(axis=-1).mean() > 0.8


# --------------------------------------------------------------------------- what a segment is known by


def test_a_key_holds_what_is_seen_of_the_performance(driven: Cut):
    before = keys(driven)
    assert keys(driven) == before
    folder = driven.folder / "performances"
    moved = driven.folder / "elsewhere"
    shutil.copytree(folder, moved)
    driven.library["performances"]["walk"]["media"] = "elsewhere/walk.####.png"
    assert keys(driven) == before, "a path is not what it is known by"
    Image.fromarray(pose_pixels(3)).save(moved / "walk.0010.png")
    first, *others = keys(driven)
    assert first == before[0], "only the last window sees its tenth frame"
    assert others != before[1:]
    driven.manifest["defaults"]["driving"]["start_frame"] = 2
    assert not set(keys(driven)) & {first, *others, *before}


@pytest.mark.parametrize(
    "change",
    [
        lambda cut: cut.manifest["defaults"].pop("driving") and cut.matte("SH010", "ada", COUNT, (20, 10, 20, 30)),
        lambda cut: write_performance(cut.folder / "performances", "walk", "lead", "other"),
        lambda cut: cut.manifest["cast"][0].update(characters=[{"id": "ada", "matte": {"sequence": "m/a.####.png"}}]),
        lambda cut: cut.manifest["defaults"].update(pose_strength=0.7),
        lambda cut: cut.manifest["defaults"].update(pose_end=0.5),
        lambda cut: cut.manifest["shots"][0]["segments"][0].update(pose_start=0.5),
    ],
    ids=["the plate", "the same", "a matte", "strength", "end", "start of a segment"],
)
def test_what_else_changes_a_key(driven: Cut, change, request):
    for index in range(COUNT):
        path = driven.folder / "m" / f"a.{FIRST_FILE + index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(matte_pixels((1, 1, 8, 8))).save(path)
    driven.manifest["shots"] = [{"id": "SH010", "segments": [{"frames": [FIRST_FILE, LAST], "seed": 3}]}]
    before = keys(driven)
    change(driven)
    same = request.node.callspec.id == "the same"
    assert (keys(driven) == before) == same


def test_a_performance_that_changes_while_it_is_rendered_is_noticed(driven: Cut):
    shot = planned(driven)
    unchanged(shot, 0, digests=memory_of(driven.folder / "work"))
    (driven.folder / "performances/walk_lead.0002.png").write_bytes(b"")
    with pytest.raises(FrameTruncated, match=r"walk_lead\.0002\.png changed since the shot was planned"):
        unchanged(shot, 0, digests=memory_of(driven.folder / "work"))


# --------------------------------------------------------------------------- where in it


def test_handles_end_where_the_performance_does(cut: Cut, driven: Cut):
    driven.clips.clear()
    driven.clip("SH010", first=2, count=6, available=COUNT)
    shot = planned(driven)
    assert (shot.handles_given.head, shot.handles_given.tail) == (0, 2), "its first frame is the first of the cut"
    driven.manifest["defaults"]["driving"]["start_frame"] = 2
    shot = planned(driven)
    assert (shot.handles_given.head, shot.handles_given.tail) == (1, 2)
    driven.manifest["defaults"]["driving"]["start_frame"] = FRAMES - 5
    shot = planned(driven)
    assert (shot.handles_given.head, shot.handles_given.tail) == (2, 0)


def test_two_uses_of_one_plate_that_start_over_are_two_renders(driven: Cut):
    driven.clips.clear()
    driven.manifest["handles"] = {"head": 0, "tail": 0}
    for first in (0, 5):
        driven.clip("SH010", first=first, count=5, available=COUNT)
    found = finish(plan(driven.write()))
    assert not found.faults
    assert [(shot.frames.first, shot.driving and shot.driving.offset) for shot in found.shots] == [
        (FIRST_FILE, 1 - FIRST_FILE),
        (FIRST_FILE + 5, 1 - FIRST_FILE - 5),
    ]


def test_the_plan_tells_what_drives(driven: Cut, farm):
    said = farm("check", driven.write(), "--json")
    (shot,) = said.document["plan"]["shots"]
    assert shot["driving"]["frames"] == {"first": 1, "count": COUNT}
    assert shot["driving"]["media"].endswith("performances/walk.####.png")
    said = farm("check", driven.write())
    assert "driven by performances/walk.####.png, frames 1-10" in said.out
    assert "ada (blue): refs/ada.png, the whole frame" in said.out


def test_a_range_of_the_media_is_all_there_is_of_it(driven: Cut):
    driven.library["performances"]["walk"]["media"] = "performances/walk.[0005-0016].png"
    shot = planned(driven)
    assert shot.driving is not None
    assert shot.driving.offset == 5 - FIRST_FILE
    driven.library["performances"]["walk"]["media"] = "performances/walk.[0005-0008].png"
    (fault,) = finish(plan(driven.write())).faults
    assert "it has 5-8: 6 missing" in fault.what


def test_a_shot_may_have_its_own_plate_after_all(driven: Cut):
    driven.matte("SH010", "ada", COUNT, (20, 10, 20, 30))
    driven.manifest["shots"] = [{"id": "SH010", "driving": {"plate": True}}]
    shot = planned(driven)
    assert shot.driving is None
    assert shot.performers[0].matte is not None


def test_each_number_of_the_pose_is_said_for_itself(driven: Cut):
    driven.manifest["defaults"]["pose_strength"] = 0.5
    driven.manifest["cast"][0]["pose_end"] = 0.5
    (segment, *_) = planned(driven).segments
    sampler = segment.sampler
    assert (sampler.pose_strength, sampler.pose_start, sampler.pose_end) == (0.5, 0.0, 0.5)


def test_what_is_odd_about_a_performance_is_told(driven: Cut):
    movie = driven.folder / "walk.mov"
    pictures = [pose_pixels(index).astype(np.float32) / 255 for index in range(FRAMES)]
    write_movie(movie, pictures, rate=Fraction(48), timecode=None)
    driven.library["performances"]["walk"] |= {"media": "walk.mov", "space": "ACEScg"}
    warnings = planned_shot(driven).warnings
    assert [note for note in warnings if note.startswith("the performance walk: ") and "ACEScg" in note]
    assert "the performance walk: it runs at 48 frames a second, the plate at 24; taken one for one" in warnings
    for path in (driven.folder / "performances").glob("walk.*.png"):
        with Image.open(path) as picture:
            picture.convert("RGBA").save(path)
    driven.library["performances"]["walk"] |= {"media": "performances/walk.####.png", "space": "sRGB - Display"}
    warnings = planned_shot(driven).warnings
    assert "the performance walk: its alpha is not read; the model sees what lies under it" in warnings


def test_paths_of_a_performance_on_another_machine_are_mapped(driven: Cut):
    performance = driven.library.pop("performances")["walk"]
    performance |= {
        "media": "P:\\perf\\walk.####.png",
        "roles": {"lead": {"sequence": "P:\\perf\\walk_{role}.####.png"}},
    }
    driven.manifest["defaults"]["driving"] = {"performance": performance}
    driven.manifest["path_map"] = [{"from": "P:\\perf", "to": str(driven.folder / "performances")}]
    shot = planned(driven)
    assert shot.driving is not None
    assert Path(shot.driving.clip.path) == driven.folder / "performances/walk.####.png"
    assert shot.driving.roles[0].matte == str(driven.folder / "performances/walk_lead.####.png")
    found = finish(plan(driven.write(), dropped=True))
    assert not [fault for fault in found.faults if "P:" in fault.what], "an absolute path begins nowhere else"


# --------------------------------------------------------------------------- bad input


def short(cut: Cut) -> None:
    cut.manifest["defaults"]["driving"]["start_frame"] = 12


def hole(cut: Cut) -> None:
    (cut.folder / "performances/walk.0005.png").unlink()


def no_matte(cut: Cut) -> None:
    (cut.folder / "performances/walk_lead.0005.png").unlink()


def of_another_size(cut: Cut) -> None:
    Image.new("L", (32, 32), 255).save(cut.folder / "performances/walk_lead.0005.png")


def nowhere(cut: Cut) -> None:
    cut.library["performances"]["walk"]["media"] = "performances/run.####.png"


def unknown(cut: Cut) -> None:
    cut.manifest["defaults"]["driving"]["name"] = "wlak"


def no_role(cut: Cut) -> None:
    cut.manifest["cast"][0]["characters"] = [{"id": "ada", "role": "leader"}]


def one_role_for_two(cut: Cut) -> None:
    cut.manifest["cast"][0]["characters"] = [{"id": "ada", "role": "lead"}, {"id": "bo", "role": "lead"}]


def roles_unsaid(cut: Cut) -> None:
    cut.manifest["cast"][0]["characters"] = [{"id": "ada"}, {"id": "bo"}]


def undriven(cut: Cut) -> None:
    del cut.manifest["defaults"]["driving"]
    cut.manifest["cast"][0]["characters"] = [{"id": "ada", "role": "lead"}]


def two_whole(cut: Cut) -> None:
    cut.library["performances"]["walk"]["roles"] = {"ada": {"whole_frame": True}, "bo": {"whole_frame": True}}
    cut.manifest["cast"][0]["characters"] = [{"id": "ada"}, {"id": "bo"}]


def one_of_two_shots_mistyped(cut: Cut) -> None:
    cut.clips.clear()
    cut.clip("SH010", first=0, count=5, available=COUNT)
    cut.clip("SH010", first=5, count=5, available=COUNT, name="SH020")
    cut.manifest["cast"] = [
        {"when": {"clip": "SH010"}, "characters": [{"id": "ada", "role": "lead"}]},
        {"when": {"clip": "SH020"}, "characters": [{"id": "ada", "role": "laed"}]},
    ]


def two_modes(cut: Cut) -> None:
    cut.manifest["shots"] = [{"id": "SH010", "segments": [{"frames": [FIRST_FILE, LAST], "mode": "replacement"}]}]


def wrong_space(cut: Cut) -> None:
    cut.library["performances"]["walk"]["space"] = "sRGP"


def guessed(cut: Cut) -> None:
    cut.library["performances"]["walk"]["roles"] = {"lead": {"auto": "people"}}


def both(cut: Cut) -> None:
    cut.manifest["defaults"]["driving"]["performance"] = {"media": "a.mov", "roles": {"a": {"whole_frame": True}}}


def no_step(cut: Cut) -> None:
    cut.manifest["defaults"]["pose_start"] = 0.6


def never(cut: Cut) -> None:
    cut.manifest["defaults"] |= {"pose_start": 0.5, "pose_end": 0.5}


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (short, "SF-PLATE-MISSING", "the performance walk: the shot takes its frames 12-21, it has 1-16: 5 missing"),
        (hole, "SF-PLATE-MISSING", "the performance walk: "),
        (no_matte, "SF-MATTE-MISMATCH", "walk_lead.####.png has 9 of 10 frames; not there: 5"),
        (of_another_size, "SF-MATTE-MISMATCH", "at 5 is 32x32, the plate 64x64"),
        (nowhere, "SF-PLATE-MISSING", "the performance walk: there is no file run.####.png"),
        (unknown, "SF-SUBMISSION-INVALID", "the character library has no performance called wlak"),
        (no_role, "SF-SUBMISSION-INVALID", "has not got the role leader"),
        (one_role_for_two, "SF-SUBMISSION-INVALID", "ada and bo both take the role lead"),
        (roles_unsaid, "SF-SUBMISSION-INVALID", "has not got a role for ada"),
        (one_of_two_shots_mistyped, "SF-SUBMISSION-INVALID", "has not got the role laed"),
        (
            two_modes,
            "SF-SUBMISSION-INVALID",
            "is driven by a performance in animation, and a part of it is replacement",
        ),
        (wrong_space, "SF-COLOR-SPACE-UNKNOWN", "the performance walk: "),
        (undriven, "SF-SUBMISSION-INVALID", "no performance drives the shot"),
        (two_whole, "SF-MATTE-MISMATCH", "is the whole frame"),
        (guessed, "SF-SUBMISSION-INVALID", "`auto` mattes"),
        (both, "SF-SUBMISSION-INVALID", "a `name`, a `performance` or `plate: true`, one of them"),
        (no_step, "SF-SUBMISSION-INVALID", "none of 2 steps is between `pose_start` 0.6 and `pose_end` 1.0"),
        (never, "SF-SUBMISSION-INVALID", "none of 2 steps is between `pose_start` 0.5 and `pose_end` 0.5"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_bad_performance_is_told(driven: Cut, farm, spoil, code: str, words: str):
    spoil(driven)
    said = farm("check", driven.write(), "--json")
    assert said.code == 3
    assert code in said.codes
    told = [fault for fault in said.document["faults"] if words in fault["what"]]
    assert told, said.document["faults"]
    assert all(fault["fix"] for fault in told)
    if spoil in (unknown, no_role):
        assert len(said.document["faults"]) == 1, "what follows from a fault is not told beside it"


# --------------------------------------------------------------------------- how strongly


@pytest.mark.parametrize("pose", [{"pose_strength": 0.2}, {"pose_start": 0.5}, {"pose_end": 0.5}], ids=str)
def test_a_looser_pose_gives_other_pixels(driven: Cut, farm, pose: dict[str, float]):
    submitted(driven, farm)
    driven.manifest["defaults"] |= pose
    submitted(driven, farm)
    firm, loose = (read_exr(driven.frame("SH010", FIRST_FILE, version)) for version in (1, 2))
    assert not np.array_equal(firm, loose)
    (segment, *_) = driven.take("SH010", 2).segments
    assert (
        segment.sampler.model_dump().items()
        >= ({"pose_strength": 1.0, "pose_start": 0.0, "pose_end": 1.0} | pose).items()
    )


# --------------------------------------------------------------------------- mattes of sequences that are no EXR


def test_mattes_of_a_dpx_plate_may_cover_the_cut_alone(cut: Cut, farm):
    """They have the plate's own numbers, as those of an EXR do."""
    for index in range(12):
        write_image(cut.plate_file("SH010", FIRST_FILE + index, ".dpx"), integers(10, 3, index), bits=10)
    cut.character("ada", "blue", (220, 30, 30))
    cut.manifest["cast"] = [{"when": {"clip": "SH*"}, "characters": [{"id": "ada"}]}]
    cut.manifest["color"] = {"defaults": {"dpx": "ARRI LogC3 (EI800)"}}
    cut.manifest["handles"] = {"head": 0, "tail": 0}
    cut.matte("SH010", "ada", 5, (20, 10, 20, 30), first=FIRST_FILE + 3)
    cut.clip("SH010", first=3, count=5, available=12, suffix=".dpx")
    assert planned(cut).performers[0].matte_offset == 0
