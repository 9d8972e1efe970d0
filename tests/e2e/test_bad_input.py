"""What bad input gets: one error each with code, what, why, fix and place; all at once; nothing half-written."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from PIL import Image
from submissions import FIRST_FILE, Cut, finish, matte_pixels, read_exr, sealed, write_exr


def first_plate(cut: Cut) -> Path:
    return cut.folder / "plates/SH010/SH010.1004.exr"


def truncate_edit(cut: Cut) -> None:
    text = (cut.folder / "edit.otio").read_text()
    (cut.folder / "edit.otio").write_text(text[: len(text) // 2])


def no_timeline(cut: Cut) -> None:
    (cut.folder / "edit.otio").write_text(json.dumps({"OTIO_SCHEMA": "Clip.2", "name": "x", "metadata": {}}))


def no_manifest(cut: Cut) -> None:
    (cut.folder / "edit.shots.yaml").unlink()


def missing_plate(cut: Cut) -> None:
    first_plate(cut).unlink()


def half_written_plate(cut: Cut) -> None:
    content = first_plate(cut).read_bytes()
    first_plate(cut).write_bytes(content[: len(content) * 2 // 3])


def empty_plate(cut: Cut) -> None:
    first_plate(cut).write_bytes(b"")


def short_matte(cut: Cut) -> None:
    for n in (1014, 1015, 1016):
        (cut.folder / f"mattes/SH010/ada.{n}.png").unlink()


def other_matte_size(cut: Cut) -> None:
    Image.fromarray(matte_pixels((1, 1, 9, 9))[:-2]).save(cut.folder / "mattes/SH010/ada.1005.png")


def no_matte(cut: Cut) -> None:
    for path in (cut.folder / "mattes/SH010").iterdir():
        path.unlink()


def manifest_line(old: str, new: str) -> Callable[[Cut], None]:
    def change(cut: Cut) -> None:
        path = cut.folder / "edit.shots.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def seventh_identity(cut: Cut) -> None:
    for index in range(7):
        cut.character(f"p{index}", None, (index, 0, 0))
        cut.matte("SH010", f"p{index}", 16, (5 * index, 5, 5, 5))
    cut.manifest["cast"] = [{"when": {"clip": "*"}, "characters": [{"id": f"p{index}"} for index in range(7)]}]
    cut.write()


def no_reference(cut: Cut) -> None:
    (cut.folder / "refs/ada.png").unlink()


def broken_reference(cut: Cut) -> None:
    (cut.folder / "refs/ada.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")


def untagged_plate(cut: Cut) -> None:
    cut.plate("SH010", 16, tag=None)


def no_library(cut: Cut) -> None:
    (cut.folder / "library.yaml").unlink()


def absurd_speed(cut: Cut) -> None:
    cut.clips[0]["effects"] = [
        {"OTIO_SCHEMA": "LinearTimeWarp.1", "metadata": {}, "name": "", "effect_name": "", "time_scalar": 5000.0}
    ]
    cut.write()


def beyond_media(cut: Cut) -> None:
    cut.clips[0]["source_range"]["duration"]["value"] = 40
    cut.write()


def http_media(cut: Cut) -> None:
    cut.clips[0]["media_references"]["DEFAULT_MEDIA"]["target_url_base"] = "https://example.com/plates/"
    cut.write()


def no_time(cut: Cut) -> None:
    cut.manifest["cast"][0]["when"] = {"record_tc": "noon"}
    cut.write()


def other_matte(cut: Cut) -> None:
    cut.library["characters"]["ada"]["matte"] = {"auto": "people"}
    cut.write()


def half_a_reference(cut: Cut) -> None:
    content = (cut.folder / "refs/ada.png").read_bytes()
    (cut.folder / "refs/ada.png").write_bytes(content[: len(content) // 2])


def black_mask(cut: Cut) -> None:
    Image.new("L", (48, 64), 0).save(cut.folder / "refs/ada_mask.png")


def reference_without_an_image(cut: Cut) -> None:
    cut.library["characters"]["ada"]["references"] = [{"mask": "refs/ada_mask.png"}]
    cut.write()


def damaged_matte(cut: Cut) -> None:
    path = cut.folder / "mattes/SH010/ada.1002.png"
    content = bytearray(path.read_bytes())
    content[45:60] = bytes(byte ^ 255 for byte in content[45:60])
    path.write_bytes(content)


def matte_in_odd_channels(cut: Cut) -> None:
    cut.library["characters"]["ada"]["matte"] = {"sequence": "mattes/{shot}/{character}.####.exr"}
    cut.write()
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    layer = np.ones((48, 80), np.float32)
    for n in range(1001, 1017):
        path = cut.folder / f"mattes/SH010/ada.{n}.exr"
        OpenEXR.File(header, {"mask.x": layer, "mask.y": layer}).write(str(path))


def library_is_a_folder(cut: Cut) -> None:
    (cut.folder / "library.yaml").unlink()
    (cut.folder / "library.yaml").mkdir()


def manifest_text(text: str) -> Callable[[Cut], None]:
    def change(cut: Cut) -> None:
        (cut.folder / "edit.shots.yaml").write_text(text)

    return change


ALIASES = "a: &a [1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{after}: &{after} [{', '.join(['*' + before] * 8)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


def no_config(cut: Cut) -> None:
    cut.manifest["color"] = {"config": "show.ocio"}
    cut.write()


def movie_too_small(cut: Cut) -> None:
    cut.manifest["deliver"] = {"movie": "dnxhr"}
    cut.write()


CASES: dict[str, tuple[Callable[[Cut], None], str, str]] = {
    "a truncated edit": (truncate_edit, "SF-TIMELINE-UNREADABLE", "edit.otio"),
    "no timeline": (no_timeline, "SF-TIMELINE-UNREADABLE", "Clip"),
    "no manifest": (no_manifest, "SF-SUBMISSION-INVALID", "edit.shots.yaml"),
    "a missing plate": (missing_plate, "SF-PLATE-MISSING", "1004"),
    "a half-written plate": (half_written_plate, "SF-PLATE-UNREADABLE", "1004"),
    "an empty plate": (empty_plate, "SF-PLATE-UNREADABLE", "1004"),
    "a matte with too few frames": (short_matte, "SF-MATTE-MISMATCH", "1014-1015"),
    "a matte of another size": (other_matte_size, "SF-MATTE-MISMATCH", "80x46"),
    "no matte": (no_matte, "SF-MATTE-MISMATCH", "1002-1015"),
    "an unknown character": (manifest_line("id: ada", "id: adda"), "SF-CHARACTER-UNKNOWN", "ada"),
    "a seventh identity": (seventh_identity, "SF-SUBMISSION-INVALID", "p6"),
    "an unknown key": (manifest_line("handles:", "handels:"), "SF-SUBMISSION-INVALID", "did you mean `handles`?"),
    "nobody is cast": (manifest_line("clip: SH*", "clip: XX*"), "SF-SUBMISSION-INVALID", "casts nobody"),
    "no reference": (no_reference, "SF-SUBMISSION-INVALID", "ada.png"),
    "a broken reference": (broken_reference, "SF-SUBMISSION-INVALID", "ada.png"),
    "a plate without a colour space": (untagged_plate, "SF-COLOR-SPACE-UNKNOWN", "color"),
    "an unknown colour space": (
        manifest_line("cast:", "color: {spaces: [{media: '*', space: ACESgc}]}\ncast:"),
        "SF-COLOR-SPACE-UNKNOWN",
        "ACEScg",
    ),
    "no library": (no_library, "SF-SUBMISSION-INVALID", "library.yaml"),
    "an absurd speed": (absurd_speed, "SF-CLIP-UNSUPPORTED", "a speed of 5000"),
    "a cut beyond its media": (beyond_media, "SF-PLATE-MISSING", "27"),
    "media on the web": (http_media, "SF-PLATE-MISSING", "not local"),
    "a range that is no timecode": (no_time, "SF-SUBMISSION-INVALID", "record_tc"),
    "another kind of matte": (other_matte, "SF-SUBMISSION-INVALID", "`auto`"),
    "half a reference": (half_a_reference, "SF-SUBMISSION-INVALID", "ada.png"),
    "a mask without white": (black_mask, "SF-SUBMISSION-INVALID", "ada_mask.png"),
    "a reference without an image": (reference_without_an_image, "SF-SUBMISSION-INVALID", "image"),
    "a damaged matte": (damaged_matte, "SF-MATTE-MISMATCH", "1002"),
    "a matte in channels nobody knows": (matte_in_odd_channels, "SF-MATTE-MISMATCH", "mask.x"),
    "a folder for a library": (library_is_a_folder, "SF-SUBMISSION-INVALID", "folder"),
    "a manifest within itself": (manifest_text("a: &x [*x]\n"), "SF-SUBMISSION-INVALID", "without end"),
    "a manifest nested too deep": (manifest_text("[" * 5000), "SF-SUBMISSION-INVALID", "without end"),
    "a manifest of endless aliases": (manifest_text(ALIASES), "SF-SUBMISSION-INVALID", "without end"),
    "a null character": (
        manifest_line("characters: library.yaml", 'characters: "lib\\0.yaml"'),
        "SF-SUBMISSION-INVALID",
        "null character",
    ),
    "a scalar for a mapping": (
        manifest_line("  head: 2\n  tail: 2", "  8"),
        "SF-SUBMISSION-INVALID",
        "mapping of keys",
    ),
    "no OCIO config": (no_config, "SF-COLOR-SPACE-UNKNOWN", "show.ocio"),
    "a movie too small for its codec": (movie_too_small, "SF-SUBMISSION-INVALID", "256x120"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_error_an_artist_can_act_on(case, one_shot: Cut, farm):
    change, code, mention = CASES[case]
    edit = one_shot.write()
    change(one_shot)
    said = farm("submit", edit, "--weights", one_shot.weights, "--json")
    assert said.code == 3, said.err
    assert said.codes == [code], said.err
    (fault,) = said.document["faults"]
    assert all(fault[part] for part in ("what", "why", "fix", "where")), fault
    assert mention in json.dumps(fault, ensure_ascii=False), fault
    assert "Traceback" not in said.err
    assert not (one_shot.folder / "edit.scail2").exists()
    assert not (one_shot.folder / "edit.scail2.otio").exists()


def explicit(cut: Cut, **more: object) -> Path:
    """The submission as one explicit shot without a timeline."""
    cut.manifest["cast"] = []
    cut.library["characters"]["ada"]["matte"] = {"sequence": "mattes/SH010/{character}.####.png"}
    shot = {"id": "SH010", "media": "plates/SH010/SH010.####.exr", "characters": [{"id": "ada"}]}
    cut.manifest["shots"] = [shot | more]
    return cut.write().with_name("edit.shots.yaml")


@pytest.mark.parametrize(
    ("more", "code", "mention"),
    [
        ({"id": "a" * 300}, "SF-SUBMISSION-INVALID", "80 letters"),
        ({"range": [1001, 10**14]}, "SF-PLATE-MISSING", "the plate has 1001-1016"),
    ],
    ids=["an id no folder can have", "an endless range"],
)
def test_an_explicit_shot_that_cannot_be(more, code, mention, one_shot: Cut, farm):
    said = farm("check", explicit(one_shot, **more), "--json")
    assert (said.code, said.codes) == (3, [code])
    assert mention in said.err


def test_a_plate_without_a_rate_is_a_fault_among_others(one_shot: Cut, farm):
    manifest = explicit(one_shot)
    for path in (one_shot.folder / "plates/SH010").iterdir():
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header | {"colorInteropID": "lin_ap1_scene"}, {"RGB": read_exr(path)}).write(str(path))
    no_reference(one_shot)
    one_shot.manifest["shots"].append(one_shot.manifest["shots"][0] | {"id": "SH020", "media": "plates/none.####.exr"})
    one_shot.write()
    said = farm("check", manifest, "--json")
    assert sorted(said.codes) == ["SF-PLATE-MISSING", "SF-SUBMISSION-INVALID", "SF-SUBMISSION-INVALID"]
    assert "the plate does not say its frame rate" in said.err
    assert "ada.png is not there (so in 1 more shot)" in said.err


@pytest.mark.parametrize(("picture", "key"), [("ada.png", "image"), ("ada_mask.png", "mask")])
def test_a_still_that_is_not_there_is_named_with_its_path(picture, key, one_shot: Cut, farm):
    edit = one_shot.write()
    (one_shot.folder / "refs" / picture).unlink()
    (fault,) = farm("check", edit, "--json").document["faults"]
    assert fault["fix"] == f"put {one_shot.folder / 'refs' / picture} there, or correct `{key}:`"


def test_a_manifest_that_is_not_there(one_shot: Cut, farm):
    said = farm("check", one_shot.write(), "--manifest", one_shot.folder / "nope.yaml", "--json")
    assert said.code == 3
    assert [fault["fix"] for fault in said.document["faults"]] == ["correct --manifest, or put the file there"]


def test_a_matte_folder_that_cannot_be_read_is_a_fault_among_others(one_shot: Cut, farm):
    """A name no file system can hold stands for a folder without permissions, which root may read."""
    one_shot.clip("SH020", first=3, count=10, available=16)
    one_shot.library["characters"]["ada"]["matte"] = {"sequence": f"mattes/{'x' * 300}/ada.####.png"}
    said = farm("check", one_shot.write(), "--json")
    assert sorted(said.codes) == ["SF-PLATE-MISSING", "SF-SHARE-UNAVAILABLE"]
    (fault,) = [fault for fault in said.document["faults"] if fault["code"] == "SF-SHARE-UNAVAILABLE"]
    assert (fault["where"]["shot"], fault["where"]["character"]) == ("SH010", "ada")


def test_two_manifests(one_shot: Cut, farm):
    manifest = explicit(one_shot)
    said = farm("check", manifest, "--manifest", manifest)
    assert said.code == 2
    assert "--manifest" in said.err


def test_a_path_that_is_not_text(one_shot: Cut, farm):
    one_shot.write()
    odd = one_shot.folder.rename(os.fsdecode(os.fsencode(one_shot.folder) + b"_caf\xe9"))
    said = farm("check", odd / "edit.otio")
    assert said.code == 3
    assert "is not UTF-8" in said.err


def test_a_black_matte_is_told(one_shot: Cut, farm):
    for path in (one_shot.folder / "mattes/SH010").iterdir():
        Image.new("L", (80, 48), 0).save(path)
    said = farm("submit", one_shot.write(), "--weights", one_shot.weights, "--json")
    assert said.code == 0, said.err
    assert "ada is black in all 14 frames" in said.err
    assert any("ada" in warning for warning in said.document["plan"]["shots"][0]["warnings"])
    for n in range(1002, 1016):
        plate = read_exr(one_shot.folder / f"plates/SH010/SH010.{n}.exr")
        assert (read_exr(one_shot.frame("SH010", n)).view(np.uint16) == plate.view(np.uint16)).all()


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_rendered(one_shot: Cut, farm, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode, **more: Path(path) != one_shot.folder)
    said = farm("submit", one_shot.write(), "--weights", one_shot.weights, "--json")
    assert (said.code, said.codes) == (5, ["SF-SHARE-UNAVAILABLE"])
    assert len(said.document["plan"]["shots"]) == 1
    assert not (one_shot.folder / "edit.scail2").exists()


def test_all_faults_at_once(one_shot: Cut, farm):
    """Three things wrong in the submission and no weights: four errors, each with its own code."""
    one_shot.clip("SH020", first=0, count=4, available=8)
    edit = one_shot.write()
    half_written_plate(one_shot)
    short_matte(one_shot)
    said = farm("submit", edit, "--weights", one_shot.folder / "none", "--json")
    assert said.code == 3
    assert sorted(said.codes) == [
        "SF-MATTE-MISMATCH",
        "SF-PLATE-MISSING",
        "SF-PLATE-UNREADABLE",
        "SF-WEIGHTS-MISSING",
    ]
    assert [clip["shot"] for clip in said.document["plan"]["clips"]] == ["SH010", "SH020"]


def test_a_typing_mistake_does_not_hide_a_missing_plate(one_shot: Cut, farm):
    edit = one_shot.write()
    manifest_line("handles:", "handels:")(one_shot)
    missing_plate(one_shot)
    said = farm("submit", edit, "--weights", one_shot.weights, "--json")
    assert sorted(said.codes) == ["SF-PLATE-MISSING", "SF-SUBMISSION-INVALID"]


def test_an_unknown_character_lists_the_nearest(one_shot: Cut, farm):
    one_shot.character("adam", None, (1, 2, 3))
    edit = one_shot.write()
    manifest_line("id: ada", "id: adaa")(one_shot)
    (fault,) = farm("check", edit, "--json").document["faults"]
    lines = (one_shot.folder / "edit.shots.yaml").read_text().splitlines()
    assert "id: adaa" in lines[fault["where"]["line"] - 1]
    assert "ada" in fault["fix"]
    assert "adam" in fault["fix"]


def test_weights_that_are_not_there(one_shot: Cut, farm):
    edit = one_shot.write()
    said = farm("submit", edit, "--weights", one_shot.folder / "none", "--json")
    assert (said.code, said.codes) == (4, ["SF-WEIGHTS-MISSING"])


def test_damaged_weights(one_shot: Cut, farm, tmp_path):
    import shutil

    damaged = tmp_path / "damaged"
    shutil.copytree(one_shot.weights, damaged)
    content = (damaged / "dit.safetensors").read_bytes()
    (damaged / "dit.safetensors").write_bytes(content[: len(content) // 2])
    said = farm("submit", one_shot.write(), "--weights", damaged)
    assert said.code == 4
    assert "SF-WEIGHTS-MISMATCH" in said.err
    assert "dit.safetensors" in said.err
    assert not (one_shot.folder / "edit.scail2/shots").exists()


def limited(cut: Cut, size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process that cannot write files larger than `size`: the disk is full in mid-write."""
    code = (
        "import resource, signal, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "sys.argv = ['scail2-farm', *sys.argv[1:]]\n"
        "from scail2_farm.cli import main\nmain()\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cut.folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("size", [2_000, 20_000, 40_000])
def test_a_full_disk_leaves_nothing_half_written(size, one_shot: Cut):
    one_shot.write()
    arguments = ("submit", "edit.otio", "--weights", str(one_shot.weights))
    full = limited(one_shot, size, *arguments)
    assert full.returncode == 5, full.stderr
    assert "SF-DISK-FULL" in full.stderr
    assert "Traceback" not in full.stderr
    assert not list((one_shot.folder / "edit.scail2").rglob("*.part"))
    assert not list((one_shot.folder / "edit.scail2").glob("shots/*/v*"))
    done = one_shot.run(*arguments)
    assert done.returncode == 0, done.stderr
    assert len(list(one_shot.version("SH010").glob("*.exr"))) == 14


def test_a_disk_too_small_is_told_before_anything_is_rendered(one_shot: Cut, farm, monkeypatch):
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    said = farm("submit", one_shot.write(), "--weights", one_shot.weights)
    assert said.code == 5
    assert "SF-DISK-FULL" in said.err
    assert not (one_shot.folder / "edit.scail2/shots").exists()


def test_a_plate_that_changes_while_the_job_runs(one_shot: Cut):
    """Planned whole, cut short before it is read again: the shot fails in words, nothing of it is delivered."""
    from scail2_farm.engine import load
    from scail2_farm.errors import FrameTruncated
    from scail2_farm.plan import plan
    from scail2_farm.render import render

    planned = finish(plan(one_shot.write()))
    (shot,) = sealed(planned.shots, weights=one_shot.weights, work=one_shot.folder / "w")
    segment = shot.segment(0, work=one_shot.folder / "w")
    half_written_plate(one_shot)
    with pytest.raises(FrameTruncated, match="1004"):
        finish(render(segment, engine=load(one_shot.weights)))
    assert not (Path(segment.folder) / "report.json").exists()


def test_skipped_and_disabled_clips_are_listed(one_shot: Cut, farm):
    one_shot.clip("SH020_NOFX", first=0, count=4, available=8)
    one_shot.clip("SH030", first=0, count=4, available=8)["enabled"] = False
    one_shot.clip("XX040", first=0, count=4, available=8)
    one_shot.manifest["cast"].insert(0, {"when": {"clip": "*_NOFX"}, "skip": True, "stop": True})
    said = farm("check", one_shot.write(), "--json")
    assert said.code == 0, said.err
    clips = {clip["name"]: clip for clip in said.document["plan"]["clips"]}
    assert {name: clip["state"] for name, clip in clips.items()} == {
        "SH010": "rendered",
        "SH020_NOFX": "skipped",
        "SH030": "skipped",
        "XX040": "uncast",
    }
    assert "disabled" in clips["SH030"]["reason"]


def test_pixels_that_are_not_numbers_stay_where_they_are(one_shot: Cut, farm):
    """NaN, Inf and odd bits of the plate outside the matte come back bit for bit, and do not spread."""
    rgb = np.array(read_exr(first_plate(one_shot)))
    odd = np.array([0x7E01, 0xFC00, 0x8000, 0x0001, 0x7BFF], np.uint16).view(np.float16)
    rgb[40, 60:65, 0] = odd
    write_exr(first_plate(one_shot), rgb, frame=86400 + 1004 - FIRST_FILE)
    said = farm("submit", one_shot.write(), "--weights", one_shot.weights)
    assert said.code == 0, said.err
    take, matte = read_exr(one_shot.frame("SH010", 1004)), one_shot.comp_matte("SH010", 1004)
    assert (take[40, 60:65, 0].view(np.uint16) == odd.view(np.uint16)).all()
    assert (take.view(np.uint16)[matte == 0] == rgb.view(np.uint16)[matte == 0]).all()
    assert np.isfinite(take[matte > 0]).all()
