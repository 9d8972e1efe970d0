"""Plans of what was dropped or queued: read where it lies now, taken for where it was made."""

import json
import shutil
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from submissions import Cut, finish

from scail2_farm.documents import PlanTask, Submission
from scail2_farm.editorial.takes import rebased
from scail2_farm.editorial.timeline import Edit
from scail2_farm.errors import MatteMismatch, PlateMissing, PlateUnreadable, ShareUnavailable, SubmissionInvalid
from scail2_farm.plan import Plan, edit_of, plan


@pytest.fixture
def claimed(tmp_path: Path) -> Path:
    """Where a farm keeps what it claimed."""
    folder = tmp_path / "farm/accepted/edit"
    folder.mkdir(parents=True)
    return folder


def moved(cut: Cut, claimed: Path) -> Path:
    """The edit where it lies after it was claimed, its manifest beside it."""
    edit = cut.write()
    (cut.folder / "edit.shots.yaml").rename(claimed / "edit.shots.yaml")
    return edit.rename(claimed / "edit.otio")


def dropped(edit: Path, **more: Any) -> Plan:
    return finish(plan(edit, dropped=True, **more))


def faultless(edit: Path, **more: Any) -> Plan:
    found = dropped(edit, **more)
    assert not found.faults, [str(fault) for fault in found.faults]
    return found


def in_place(cut: Cut) -> Plan:
    cut.write()
    found = finish(plan(cut.folder / "edit.otio"))
    assert not found.faults
    return found


def edit_again(edit: Path, **more: Any) -> Edit:
    """The edit as it is read again to be returned."""
    found = edit_of(edit, dropped=True, **more)
    assert found is not None
    return found


# --------------------------------------------------------------------------- where paths begin


@pytest.mark.parametrize("said", ["source_dir", "home", "both"])
def test_a_dropped_submission_is_the_one_it_was(one_shot: Cut, claimed: Path, tmp_path: Path, said: str):
    """The same shots as in place, whether the manifest or whoever queued it says where it was made."""
    expected = in_place(one_shot).shots
    home = {} if said == "source_dir" else {"home": one_shot.folder if said == "home" else tmp_path}
    if said != "home":
        one_shot.manifest["source_dir"] = str(one_shot.folder) if said == "source_dir" else "show"
    found = faultless(moved(one_shot, claimed), **home)
    assert [shot.plate for shot in found.shots] == [shot.plate for shot in expected]
    assert [shot.performers for shot in found.shots] == [shot.performers for shot in expected]
    assert [shot.scenes for shot in found.shots] == [shot.scenes for shot in expected]
    base = home.get("home", one_shot.folder)
    assert (found.deliver_to, found.cut) == (base / "edit.scail2", base / "edit.scail2.otio")
    assert found.held == {}


def test_relative_paths_without_a_place_are_one_fault_that_says_what_to_add(one_shot: Cut, claimed: Path):
    one_shot.manifest["deliver"] = {"to": "../out"}
    one_shot.manifest["media"] = {"search": ["/abs", "found"]}
    found = dropped(moved(one_shot, claimed))
    (fault,) = found.faults
    assert isinstance(fault, SubmissionInvalid)
    assert fault.what == (
        "library.yaml (characters), ../out (deliver.to), found (media.search) are relative paths, "
        "and nothing says what to"
    )
    assert "add `source_dir: /the/folder/the/edit/was/in` to edit.shots.yaml" in fault.fix
    assert fault.where.file == str(claimed / "edit.shots.yaml")
    assert (found.shots, found.held) == ((), {})


def absolute(cut: Cut) -> None:
    """Everything but the media of the clips by absolute path."""
    cut.manifest["characters"] = str(cut.folder / "library.yaml")
    for clip in cut.clips:
        media = clip["media_references"]["DEFAULT_MEDIA"]
        media["target_url_base"] = (cut.folder / media["target_url_base"]).as_uri() + "/"


def test_absolute_paths_need_no_place(one_shot: Cut, claimed: Path, tmp_path: Path):
    absolute(one_shot)
    found = faultless(moved(one_shot, claimed), fallback=tmp_path / "farm/returned/edit")
    assert len(found.shots) == 1
    assert found.deliver_to == tmp_path / "farm/returned/edit/edit.scail2"
    assert found.cut == tmp_path / "farm/returned/edit/edit.scail2.otio"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"source_dir": "show"}, "show (source_dir)"),
        ({"deliver": {"to": "out"}}, "out (deliver.to)"),
        ({"media": {"search": ["a", "b"]}}, "a (media.search), b (media.search)"),
        ({"path_map": [{"from": "P:\\", "to": "p"}]}, "p (path_map)"),
        (
            {
                "shots": [
                    {"id": "X1", "media": "x.mov", "characters": [{"id": "ada", "matte": {"sequence": "m.####.png"}}]}
                ]
            },
            "m.####.png (the matte of ada), x.mov (the media of X1)",
        ),
        (
            {"cast": [{"when": {"clip": "*"}, "characters": [{"id": "ada", "matte": {"sequence": "m/#.png"}}]}]},
            "m/#.png (the matte of ada)",
        ),
    ],
)
def test_every_key_that_holds_a_path_is_looked_at(one_shot: Cut, claimed: Path, change: dict[str, Any], told: str):
    absolute(one_shot)
    one_shot.manifest |= change
    (fault,) = dropped(moved(one_shot, claimed)).faults
    assert fault.what.startswith(f"{told} ")


def test_relative_media_of_cast_clips_needs_a_place(one_shot: Cut, claimed: Path):
    one_shot.clip("SH020", first=0, count=4, available=16)
    one_shot.clip("B010", first=0, count=4, available=16)
    one_shot.manifest["characters"] = str(one_shot.folder / "library.yaml")
    found = dropped(moved(one_shot, claimed))
    (fault,) = found.faults
    assert fault.what.startswith("plates/SH010/SH010.####.exr (the media of SH010), plates/SH020/SH020.####.exr (the ")
    assert "B010" not in fault.what


def test_relative_media_may_be_searched_for(one_shot: Cut, claimed: Path, tmp_path: Path):
    """A list names files without folders; where they are is for the search to find."""
    one_shot.manifest["characters"] = str(one_shot.folder / "library.yaml")
    found = faultless(moved(one_shot, claimed), search=[one_shot.folder / "plates"])
    assert Path(found.shots[0].plate.path).parent == one_shot.folder / "plates/SH010"
    assert found.edit is not None
    assert found.edit.folder is None
    assert rebased(found.edit, beside=tmp_path) == (found.edit, ()), "the addresses stay as they were written"


def test_a_manifest_alone(one_shot: Cut, claimed: Path, tmp_path: Path):
    """Its explicit shots are found under source_dir; it has no cut to return. One that names an edit has."""
    explicit = {"id": "X1", "media": "plates/SH010/SH010.####.exr", "characters": [{"id": "ada"}]}
    explicit["characters"][0]["matte"] = {"sequence": "mattes/SH010/ada.####.png"}
    one_shot.manifest |= {"shots": [explicit], "cast": []}
    one_shot.write()
    manifest = (one_shot.folder / "edit.shots.yaml").rename(claimed / "edit.shots.yaml")
    (fault,) = dropped(manifest).faults
    assert fault.what.startswith(
        "library.yaml (characters), mattes/SH010/ada.####.png (the matte of ada), plates/SH010/"
    )
    found = faultless(manifest, home=one_shot.folder, fallback=tmp_path)
    assert [shot.id for shot in found.shots] == ["X1"]
    assert (found.deliver_to, found.cut) == (one_shot.folder / "edit.scail2", None)


def test_an_edit_that_a_dropped_manifest_names_lies_where_it_was_made(one_shot: Cut, claimed: Path, tmp_path: Path):
    one_shot.manifest |= {"timeline": "edit.otio", "characters": str(one_shot.folder / "library.yaml")}
    edit = one_shot.write()
    manifest = (one_shot.folder / "edit.shots.yaml").rename(claimed / "edit.shots.yaml")
    (fault,) = dropped(manifest).faults
    assert fault.what == "edit.otio (timeline) is a relative path, and nothing says what to"
    one_shot.manifest["timeline"] = str(edit)
    one_shot.write()
    shutil.move(one_shot.folder / "edit.shots.yaml", manifest)
    for submission, named in ((manifest, None), (edit, manifest)):
        found = faultless(submission, manifest=named, fallback=tmp_path / "returned")
        assert Path(found.shots[0].plate.path).parent == one_shot.folder / "plates/SH010"
        assert found.cut == tmp_path / "returned/edit.scail2.otio"
        assert found.edit is not None
        assert found.edit.folder == one_shot.folder


def test_a_bundle_has_its_media_with_it(one_shot: Cut, claimed: Path, tmp_path: Path):
    one_shot.manifest["characters"] = str(one_shot.folder / "library.yaml")
    one_shot.clips[0]["media_references"]["DEFAULT_MEDIA"]["target_url_base"] = "media/SH010/"
    edit = moved(one_shot, claimed)
    with zipfile.ZipFile(claimed / "edit.otioz", "w") as bundle:
        bundle.write(edit, "content.otio")
        for path in sorted((one_shot.folder / "plates/SH010").iterdir()):
            bundle.write(path, f"media/SH010/{path.name}")
    edit.unlink()
    returned = tmp_path / "returned"
    found = faultless(claimed / "edit.otioz", fallback=returned)
    unpacked = claimed / "edit.scail2/media/SH010"
    assert Path(found.shots[0].plate.path).parent == unpacked
    assert (found.deliver_to, found.cut) == (returned / "edit.scail2", returned / "edit.scail2.otio")
    _, (told,) = rebased(edit_again(claimed / "edit.otioz"), beside=returned)
    assert told.now == unpacked.as_uri() + "/"


# --------------------------------------------------------------------------- where takes go


@pytest.mark.parametrize(
    ("to", "home", "source", "fallback", "expected"),
    [
        ("/elsewhere", True, True, True, "/elsewhere"),
        ("out", True, False, True, "show/out"),
        ("../out", False, True, True, "out"),
        (None, True, True, True, "show"),
        (None, False, True, True, "show"),
        (None, False, False, True, "farm/returned/edit"),
    ],
)
def test_takes_and_the_cut_go_to_one_folder(
    one_shot: Cut,
    claimed: Path,
    tmp_path: Path,
    to: str | None,
    home: bool,
    source: bool,
    fallback: bool,
    expected: str,
):
    if not home and not source:
        absolute(one_shot)
    one_shot.manifest |= {"source_dir": str(one_shot.folder)} if source else {}
    one_shot.manifest |= {"deliver": {"to": to}} if to else {}
    found = faultless(
        moved(one_shot, claimed),
        home=one_shot.folder if home else None,
        fallback=tmp_path / "farm/returned/edit" if fallback else None,
    )
    assert found.deliver_to == tmp_path / expected / "edit.scail2"
    assert found.cut == tmp_path / expected / "edit.scail2.otio"


def test_in_place_the_cut_stays_beside_the_edit(one_shot: Cut, tmp_path: Path):
    one_shot.manifest["deliver"] = {"to": str(tmp_path / "out")}
    found = in_place(one_shot)
    assert found.deliver_to == tmp_path / "out/edit.scail2"
    assert found.cut == one_shot.folder / "edit.scail2.otio"


def test_a_submission_document_has_all_that_planning_needs(one_shot: Cut, claimed: Path, tmp_path: Path):
    """As a worker calls it: the document crossed a process, and the edit is read once more to be returned."""
    edit = moved(one_shot, claimed)
    submission = Submission(name="edit", edit=str(edit), manifest=str(claimed / "edit.shots.yaml"), home="/nowhere")
    task = PlanTask(
        submission=submission, weights="w", work="k", folder="f", returned=str(tmp_path), seeds={"SH010": 4}
    )
    task = PlanTask.model_validate_json(json.dumps(task.model_dump(mode="json", by_alias=True)))
    read = {
        "manifest": Path(task.submission.manifest),
        "timeline": task.submission.timeline,
        "rate": task.submission.rate,
        "home": one_shot.folder,
    }
    found = faultless(edit, **read, search=(), fallback=Path(task.returned), seeds=task.seeds)
    assert [scene.seed for scene in found.shots[0].scenes] == [4, 4, 4]
    again = edit_again(edit, **read)
    assert found.edit is not None
    assert (again.clips, again.folder) == (found.edit.clips, one_shot.folder)


def test_the_edit_is_returned_though_the_library_is_gone(one_shot: Cut, claimed: Path):
    edit = moved(one_shot, claimed)
    (one_shot.folder / "library.yaml").unlink()
    assert edit_again(edit, home=one_shot.folder).folder == one_shot.folder
    edit.write_text("{")
    with pytest.raises(Exception, match="cut short"):
        edit_of(edit, dropped=True, home=one_shot.folder)


# --------------------------------------------------------------------------- held shots


@pytest.fixture
def three_shots(cut: Cut) -> Cut:
    cut.character("ada", "blue", (220, 30, 30))
    for number, shot in enumerate(("SH010", "SH020", "SH030")):
        cut.plate(shot, 16, seed=number)
        cut.matte(shot, "ada", 16, (20, 10, 20, 30))
        cut.clip(shot, first=3, count=10, available=16)
    cut.manifest["cast"] = [{"when": {"clip": "SH*"}, "characters": [{"id": "ada"}]}]
    return cut


def remove_plate(cut: Cut) -> None:
    (cut.folder / "plates/SH020/SH020.1008.exr").unlink()


def remove_plates(cut: Cut) -> None:
    shutil.rmtree(cut.folder / "plates/SH020")


def truncate_plate(cut: Cut) -> None:
    path = cut.folder / "plates/SH020/SH020.1008.exr"
    path.write_bytes(path.read_bytes()[:-10])


def remove_matte(cut: Cut) -> None:
    (cut.folder / "mattes/SH020/ada.1008.png").unlink()


def lose_media(cut: Cut) -> None:
    cut.clips[1]["media_references"]["DEFAULT_MEDIA"] = {
        "OTIO_SCHEMA": "MissingReference.1",
        "name": "x",
        "metadata": {},
    }


def lock_mattes(cut: Cut) -> None:
    shutil.rmtree(cut.folder / "mattes/SH020")
    (cut.folder / "mattes/SH020").mkdir()
    for frame in range(1001, 1017):
        (cut.folder / f"mattes/SH020/ada.{frame}.png").symlink_to(
            f"ada.{frame}.png"
        )  # a loop: no such file for anybody


@pytest.mark.parametrize(
    ("breaking", "kind"),
    [
        (remove_plate, PlateMissing),
        (remove_plates, PlateMissing),
        (lose_media, PlateMissing),
        (truncate_plate, PlateUnreadable),
        (remove_matte, MatteMismatch),
        (lock_mattes, ShareUnavailable),
    ],
)
def test_a_shot_that_lacks_something_is_held_and_the_others_go_on(
    three_shots: Cut, claimed: Path, breaking: Any, kind: type[Exception]
):
    breaking(three_shots)
    edit = moved(three_shots, claimed)
    found = faultless(edit, home=three_shots.folder)
    assert [shot.id for shot in found.shots] == ["SH010", "SH030"]
    assert list(found.held) == ["SH020"]
    assert type(found.held["SH020"]) is kind
    assert found.held["SH020"].where.shot == "SH020"
    assert len(found.held["SH020"].what) < 600, "a share that is gone is told in a line, not once a frame"
    shutil.copytree(claimed, three_shots.folder, dirs_exist_ok=True)
    refused = finish(plan(three_shots.folder / "edit.otio"))
    assert {type(fault) for fault in refused.faults} == {kind}, "in place it refuses the whole"
    assert refused.held == {}


def test_each_held_shot_has_its_own_fault_and_tells_all_of_it(three_shots: Cut, claimed: Path):
    remove_plate(three_shots)
    remove_matte(three_shots)
    shutil.rmtree(three_shots.folder / "plates/SH030")
    found = faultless(moved(three_shots, claimed), home=three_shots.folder)
    assert [shot.id for shot in found.shots] == ["SH010"]
    both = found.held["SH020"].what
    assert "SH020.####.exr: 1 of 14 frames are not there: 1008" in both
    assert "; " in both
    assert "ada" in both
    assert "SH030" in found.held["SH030"].what


def test_one_cause_of_many_shots_is_told_of_each(three_shots: Cut, claimed: Path):
    for clip in three_shots.clips:
        clip["media_references"]["DEFAULT_MEDIA"]["target_url_base"] = "plates/gone/"
        clip["media_references"]["DEFAULT_MEDIA"]["name_prefix"] = "gone."
    found = faultless(moved(three_shots, claimed), home=three_shots.folder)
    assert found.shots == ()
    assert list(found.held) == ["SH010", "SH020", "SH030"]
    assert not any("more shot" in fault.what for fault in found.held.values())
    assert [fault.where.shot for fault in found.held.values()] == ["SH010", "SH020", "SH030"]


def test_what_is_wrong_with_the_submission_stops_all_of_it(three_shots: Cut, claimed: Path):
    """A still that is not there, a clip that cannot be rendered: no disk will mend them; what is held is told too."""
    remove_plate(three_shots)
    three_shots.clips[2]["effects"] = [
        {"OTIO_SCHEMA": "TimeEffect.1", "metadata": {}, "name": "curve", "effect_name": "x"}
    ]
    (three_shots.folder / "refs/ada.png").unlink()
    found = dropped(moved(three_shots, claimed), home=three_shots.folder)
    assert [type(fault) for fault in found.faults][:1] == [SubmissionInvalid]
    assert list(found.held) == ["SH020"]


# --------------------------------------------------------------------------- seeds


def test_a_seed_of_the_operator_outranks_every_level(three_shots: Cut, claimed: Path):
    three_shots.manifest["shots"] = [
        {"id": "SH020", "seed": 5, "segments": [{"frames": [1001, 1004], "seed": 6}]},
        {"id": "SH030", "segments": [{"frames": [1001, 1004], "seed": 6}]},
    ]
    edit = moved(three_shots, claimed)
    home = three_shots.folder
    plain = {shot.id: [scene.seed for scene in shot.scenes] for shot in faultless(edit, home=home).shots}
    assert plain == {"SH010": [11, 11, 11], "SH020": [6, 5, 5], "SH030": [6, 11, 11]}
    found = faultless(edit, home=home, seeds={"SH020": 99, "SH010": 0})
    assert {shot.id: [scene.seed for scene in shot.scenes] for shot in found.shots} == {
        "SH010": [0, 0, 0],
        "SH020": [99, 99, 99],
        "SH030": [6, 11, 11],
    }
    assert found.shots[2] == faultless(edit, home=home).shots[2]


def test_a_seed_is_that_of_a_render_whoever_shows_it(one_shot: Cut, claimed: Path):
    """Two uses of one source are one shot still."""
    one_shot.clip("SH010", first=8, count=6, available=16)["name"] = "SH015"
    one_shot.library["characters"]["ada"]["matte"] = {"sequence": "mattes/SH010/{character}.####.png"}
    (shot,) = faultless(moved(one_shot, claimed), home=one_shot.folder, seeds={"SH010": 7}).shots
    assert len(shot.uses) == 2
    assert {scene.seed for scene in shot.scenes} == {7}
    assert shot.plate.rate == Fraction(24)
