"""The main job, end to end: a cut and a manifest in; frames, movie, record and the returned cut out."""

import copy
import json
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import OpenEXR
import opentimelineio as otio
import pytest
from submissions import Cut, finish, read_exr, sealed
from submissions import time as time_of

from scail2_farm.documents import Take, read_document


def bits(picture: np.ndarray) -> np.ndarray:
    return picture.view(np.uint16)


def delivered(folder: Path) -> dict[str, bytes]:
    """Every delivered frame of a submission, by name."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "edit.scail2" / "shots").rglob("*.exr"))
    }


def strip_ours(node):
    """A document without what scail2-farm added."""
    if isinstance(node, list):
        return [strip_ours(child) for child in node]
    if not isinstance(node, dict):
        return node
    found = {key: strip_ours(value) for key, value in node.items()}
    references = found.get("media_references")
    if isinstance(references, dict) and "scail2_farm" in references:
        references.pop("scail2_farm")
        found.pop("active_media_reference_key")
    return found


def without_active(node, names: set[str]):
    found = copy.deepcopy(node)
    for clip in found["tracks"]["children"][0]["children"]:
        if clip["name"] in names:
            clip.pop("active_media_reference_key")
    return found


def test_the_main_job(one_shot: Cut, farm):
    edit = one_shot.write()
    said = farm("submit", edit, "--weights", one_shot.weights, "--json")
    assert said.code == 0, said.err
    outcome = said.document
    assert outcome["faults"] == []

    # frames in = frames out: 10 cut frames and handles 2/2, numbered as the plate
    numbers = range(1002, 1016)
    frames = sorted(one_shot.version("SH010").glob("*.exr"))
    assert frames == [one_shot.frame("SH010", n) for n in numbers]

    # outside comp_matte the plate's own bits, inside another picture
    for n in numbers:
        plate = read_exr(one_shot.folder / f"plates/SH010/SH010.{n}.exr")
        take = read_exr(one_shot.frame("SH010", n))
        matte = one_shot.comp_matte("SH010", n)
        assert take.dtype == plate.dtype == np.float16
        assert (bits(take)[matte == 0] == bits(plate)[matte == 0]).all()
        assert (take[matte == 1] != plate[matte == 1]).any(axis=-1).mean() > 0.99
        assert np.isfinite(take[matte > 0]).all()
        assert (matte > 0).sum() == 20 * 30

    # the header: the plate's own, timecode included
    header = OpenEXR.File(str(one_shot.frame("SH010", 1004))).parts[0].header
    assert header["colorInteropID"] == "lin_ap1_scene"
    assert header["cameraLabel"] == "A"
    assert (header["timeCode"].hours, header["timeCode"].seconds, header["timeCode"].frame) == (1, 0, 3)

    take = read_document(one_shot.version("SH010") / "take.json", Take)
    (use,) = take.uses
    assert (use.clip, use.cut.first, use.cut.count) == ("SH010", 1004, 10)
    assert (take.frames.first, take.frames.count) == (1002, 14)
    assert sum(segment.frames.count for segment in take.segments) == 14
    assert len(take.segments) == 3
    assert (one_shot.folder / "edit.scail2/sheets/SH010_scail2_v001.png").stat().st_size > 1000
    assert not list(one_shot.folder.rglob("*.part"))
    assert not [p for p in (one_shot.folder / "edit.scail2/.work").iterdir() if p.is_dir()]


def test_the_returned_cut(one_shot: Cut, farm):
    one_shot.clip("SH020", first=0, count=4, available=16)
    one_shot.manifest["cast"][0]["when"]["clip"] = "SH010"
    edit = one_shot.write()
    assert farm("submit", edit, "--weights", one_shot.weights).code == 0
    returned = one_shot.folder / "edit.scail2.otio"
    assert strip_ours(json.loads(returned.read_text())) == without_active(json.loads(edit.read_text()), {"SH010"})

    timeline = otio.adapters.read_from_file(str(returned))
    rendered, passed = timeline.find_clips()
    assert passed.active_media_reference_key == "DEFAULT_MEDIA"
    reference = rendered.media_reference
    assert rendered.active_media_reference_key == "scail2_farm"
    for n in range(reference.number_of_images_in_sequence()):
        assert (one_shot.folder / reference.target_url_for_image_number(n)).is_file()
    # the take lies in the original's time: the cut's first frame is plate frame 1004
    start = rendered.source_range.start_time
    assert reference.frame_for_time(start) == 1004
    assert reference.available_range == otio.opentime.TimeRange(
        otio.opentime.RationalTime(86401, 24), otio.opentime.RationalTime(14, 24)
    )


def test_a_returned_cut_can_be_submitted_again(one_shot: Cut, farm):
    edit = one_shot.write()
    assert farm("submit", edit, "--weights", one_shot.weights).code == 0
    first, returned = delivered(one_shot.folder), (one_shot.folder / "edit.scail2.otio").read_bytes()
    said = farm("submit", one_shot.folder / "edit.scail2.otio", "--weights", one_shot.weights, "--json")
    assert said.code == 0, said.err
    assert said.document["takes"][0]["rendered_before"] is True
    assert delivered(one_shot.folder) == first
    assert (one_shot.folder / "edit.scail2.otio").read_bytes() == returned


def test_a_delivered_frame_is_the_engines(one_shot: Cut, farm):
    """raw -> plate's space and size -> comp over the plate gives the delivered frame."""
    from scail2_farm.frames import FramePattern
    from scail2_farm.media.canvas import Canvas
    from scail2_farm.media.color import ModelColor, Said, decide
    from scail2_farm.media.comp import comp
    from scail2_farm.media.plates import probe
    from scail2_farm.media.spaces import load_config
    from scail2_farm.render import to_plate

    edit = one_shot.write()
    assert farm("submit", edit, "--weights", one_shot.weights, "--keep", "raw").code == 0
    take = read_document(one_shot.version("SH010") / "take.json", Take)
    pattern = FramePattern.parse(take.plate.path)
    assert pattern is not None
    color = ModelColor(decide(probe(pattern), said=Said(), config=load_config(None)))
    canvas = Canvas.fit(80, 48, pixel_aspect=1.0, budget=(64, 32))
    for n in (1002, 1008, 1015):
        raw = read_exr(one_shot.version("SH010") / f"raw/SH010_scail2_v001_raw.{n}.exr")
        assert raw.dtype == np.float32
        assert raw.std() > 0.02, "the model's picture is a picture"
        plate = read_exr(one_shot.folder / f"plates/SH010/SH010.{n}.exr")
        matte = one_shot.comp_matte("SH010", n)
        generated = to_plate(raw, canvas=canvas, color=color, box=(0, 0, 80, 48))
        again = comp(plate.astype(np.float32), generated, matte)
        again = np.clip(again, -65504, 65504).astype(np.float16)
        where = matte > 0
        assert (bits(again)[where] == bits(read_exr(one_shot.frame("SH010", n)))[where]).all()


CHANGES = {
    "seed": lambda cut: cut.manifest["defaults"].update(seed=12),
    "prompt": lambda cut: cut.manifest["defaults"].update(prompt="a street in heavy rain at night"),
    "reference": lambda cut: cut.character("ada", "blue", (20, 200, 60)),
    "slot": lambda cut: cut.library["characters"]["ada"].update(slot="red"),
    "mode": lambda cut: cut.manifest["defaults"].update(mode="animation"),
}


@pytest.fixture(scope="module")
def as_it_was(tmp_path_factory, weights):
    """A small submission rendered once, to compare changed ones with."""
    cut = Cut(tmp_path_factory.mktemp("was") / "show", weights)
    cut.character("ada", "blue", (220, 30, 30))
    cut.plate("SH010", 5)
    cut.matte("SH010", "ada", 5, (20, 10, 20, 30))
    cut.clip("SH010", first=0, count=5, available=5)
    cut.manifest["cast"] = [{"when": {"clip": "SH*"}, "characters": [{"id": "ada"}]}]
    cut.write()
    done = cut.run("submit", "edit.otio", "--weights", str(weights))
    assert done.returncode == 0, done.stderr
    return cut


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_asked_for_changes_pixels_inside_and_none_outside(change, as_it_was, tmp_path):
    cut = Cut(tmp_path / "show", as_it_was.weights)
    shutil.copytree(as_it_was.folder, cut.folder, dirs_exist_ok=True)
    cut.clips, cut.manifest, cut.library = copy.deepcopy((as_it_was.clips, as_it_was.manifest, as_it_was.library))
    CHANGES[change](cut)
    cut.write()
    done = cut.run("submit", "edit.otio", "--weights", str(cut.weights))
    assert done.returncode == 0, done.stderr
    for n in range(1001, 1006):
        before, after = read_exr(cut.frame("SH010", n, 1)), read_exr(cut.frame("SH010", n, 2))
        matte = cut.comp_matte("SH010", n, 2)
        assert (bits(before)[matte == 0] == bits(after)[matte == 0]).all()
        assert (before[matte == 1] != after[matte == 1]).any(axis=-1).mean() > 0.5


def test_the_same_submission_gives_the_same_bytes(one_shot: Cut, tmp_path):
    one_shot.write()
    other = tmp_path / "again"
    shutil.copytree(one_shot.folder, other)
    for folder in (one_shot.folder, other):
        cut = Cut(folder, one_shot.weights)
        done = cut.run("submit", "edit.otio", "--weights", str(cut.weights), "--keep", "raw")
        assert done.returncode == 0, done.stderr
    assert delivered(one_shot.folder) == delivered(other)


def test_killed_and_repeated_it_goes_on(one_shot: Cut, tmp_path):
    one_shot.write()
    whole = tmp_path / "whole"
    shutil.copytree(one_shot.folder, whole)
    assert Cut(whole, one_shot.weights).run("submit", "edit.otio", "--weights", str(one_shot.weights)).returncode == 0

    command = [sys.executable, "-m", "scail2_farm", "submit", "edit.otio", "--weights", str(one_shot.weights)]
    job = subprocess.Popen(command, cwd=one_shot.folder, stderr=subprocess.DEVNULL)
    work = one_shot.folder / "edit.scail2" / ".work"
    until = time.monotonic() + 120
    while not list(work.glob("*/report.json")) and time.monotonic() < until:
        assert job.poll() is None, "the job ended before it could be killed"
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    job.wait()
    kept = {path: path.stat().st_mtime_ns for path in work.glob("*/report.json")}
    assert kept
    assert not (one_shot.folder / "edit.scail2" / "shots").exists()

    done = one_shot.run("submit", "edit.otio", "--weights", str(one_shot.weights), "--json")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "segment" in line]
    assert len(said) == 3 - len(kept), "finished segments are not rendered again"
    assert delivered(one_shot.folder) == delivered(whole)


def rendered_half(cut: Cut) -> Path:
    """A submission of which the first segment is rendered and nothing delivered; that segment's folder."""
    from scail2_farm.engine import load
    from scail2_farm.plan import plan
    from scail2_farm.render import render

    planned, work = finish(plan(cut.write())), cut.folder / "edit.scail2/.work"
    (shot,) = sealed(planned.shots, weights=cut.weights, work=work)
    segment = shot.segment(0, work=work)
    finish(render(segment, engine=load(cut.weights)))
    return Path(segment.folder)


DAMAGES = {
    "report": lambda folder: (folder / "report.json").write_text("{"),
    "frames": lambda folder: shutil.rmtree(folder / "frames"),
    "one frame": lambda folder: next((folder / "frames").iterdir()).write_bytes(b"x"),
    "history": lambda folder: (folder / "history.npy").write_bytes(
        (folder / "history.npy").read_bytes()[:-4] + b"abcd"
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_segment_is_rendered_again(damage, one_shot: Cut, farm):
    """At once, or by the next submit, as the error says; never used, and never in the way for ever."""
    DAMAGES[damage](rendered_half(one_shot))
    edit = one_shot.folder / "edit.otio"
    said = farm("submit", edit, "--weights", one_shot.weights)
    if said.code:
        assert said.code == 5
        assert "submit again" in said.err
        said = farm("submit", edit, "--weights", one_shot.weights)
    assert said.code == 0, said.err
    assert len(list(one_shot.version("SH010").glob("*.exr"))) == 14


def test_a_take_that_is_not_whole_is_made_again(one_shot: Cut, farm):
    """A frame is gone, then a record is damaged: the next version is whole, the others are left as they are."""
    arguments = ("submit", one_shot.write(), "--weights", one_shot.weights)
    assert farm(*arguments).code == 0
    whole = [one_shot.frame("SH010", n).read_bytes() for n in range(1002, 1016)]
    one_shot.frame("SH010", 1006).unlink()
    assert farm(*arguments).code == 0
    assert [one_shot.frame("SH010", n, 2).read_bytes() for n in range(1002, 1016)] == whole
    assert not one_shot.frame("SH010", 1006).exists()
    (one_shot.version("SH010", 2) / "take.json").write_text("{")
    assert farm(*arguments).code == 0
    assert [one_shot.frame("SH010", n, 3).read_bytes() for n in range(1002, 1016)] == whole


def test_a_drop_frame_plate_in_an_edit_of_rate_30(one_shot: Cut, farm):
    """Editors round 29.97 to 30; the timecode is the file's."""
    for index in range(16):
        path = one_shot.folder / f"plates/SH010/SH010.{1001 + index}.exr"
        header = dict(OpenEXR.File(str(path)).parts[0].header) | {
            "framesPerSecond": Fraction(30000, 1001),
            "timeCode": OpenEXR.TimeCode(1, 0, 0, index, True, *[0] * 13),
        }
        header.pop("channels")
        OpenEXR.File(header, {"RGB": read_exr(path)}).write(str(path))

    def span(start: float, count: float) -> dict[str, object]:
        return {"OTIO_SCHEMA": "TimeRange.1", "start_time": time_of(start, 30.0), "duration": time_of(count, 30.0)}

    one_shot.clips[0]["media_references"]["DEFAULT_MEDIA"] |= {"available_range": span(108000, 16), "rate": 30.0}
    one_shot.clips[0]["source_range"] = span(108003, 10)
    said = farm("check", one_shot.write(), "--json")
    assert said.code == 0, said.err
    (shot,) = said.document["plan"]["shots"]
    assert (shot["rate"], shot["timecode"]) == ("30000/1001", "01:00:00;01")


def test_a_plate_named_like_a_pattern(one_shot: Cut, farm):
    """The last number sign is the frame's; what stands before it is the shot's own name."""
    for path in list((one_shot.folder / "plates/SH010").iterdir()):
        path.rename(path.with_name(path.name.replace("SH010.", "sh#1_[2-3].")))
    one_shot.clips[0]["media_references"]["DEFAULT_MEDIA"]["name_prefix"] = "sh#1_[2-3]."
    said = farm("submit", one_shot.write(), "--weights", one_shot.weights)
    assert said.code == 0, said.err
    assert len(list(one_shot.version("SH010").glob("*.exr"))) == 14


def test_one_file_with_a_number_sign_in_its_name(one_shot: Cut, farm):
    (one_shot.folder / "plates/SH010/SH010.1004.exr").rename(one_shot.folder / "still#2.1004.exr")
    one_shot.manifest["cast"] = []
    one_shot.manifest["shots"] = [{"id": "SH010", "media": "still#2.1004.exr", "characters": [{"id": "ada"}]}]
    one_shot.write()
    said = farm("submit", one_shot.folder / "edit.shots.yaml", "--weights", one_shot.weights)
    assert said.code == 0, said.err
    assert sorted(one_shot.version("SH010").glob("*.exr")) == [one_shot.frame("SH010", 1004)]


def test_frame_numbers_below_zero(one_shot: Cut, farm):
    """They are delivered under the names OpenTimelineIO gives them."""
    for folder, name in (("plates/SH010", "SH010"), ("mattes/SH010", "ada")):
        for path in list((one_shot.folder / folder).iterdir()):
            number = int(path.stem.rpartition(".")[2]) - 1006
            path.rename(path.with_name(f"{name}.{'-' if number < 0 else ''}{abs(number):04d}{path.suffix}"))
    one_shot.clips[0]["media_references"]["DEFAULT_MEDIA"]["start_frame"] = -5
    said = farm("submit", one_shot.write(), "--weights", one_shot.weights)
    assert said.code == 0, said.err
    (clip,) = otio.adapters.read_from_file(str(one_shot.folder / "edit.scail2.otio")).find_clips()
    urls = [clip.media_reference.target_url_for_image_number(n) for n in range(14)]
    assert urls[0].endswith(".-0004.exr")
    assert all((one_shot.folder / url).is_file() for url in urls)


def test_a_rate_no_exr_timecode_can_count(one_shot: Cut, farm):
    """At 120 frames a second a frame keeps its rate and has no timeCode."""
    for path in (one_shot.folder / "plates/SH010").iterdir():
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header | {"colorInteropID": "lin_ap1_scene"}, {"RGB": read_exr(path)}).write(str(path))

    def span(start: float, count: float) -> dict[str, object]:
        return {"OTIO_SCHEMA": "TimeRange.1", "start_time": time_of(start, 120.0), "duration": time_of(count, 120.0)}

    one_shot.clips[0]["media_references"]["DEFAULT_MEDIA"] |= {"available_range": span(432110, 16), "rate": 120.0}
    one_shot.clips[0]["source_range"] = span(432113, 10)
    said = farm("submit", one_shot.write(), "--weights", one_shot.weights)
    assert said.code == 0, said.err
    header = OpenEXR.File(str(one_shot.frame("SH010", 1004))).parts[0].header
    assert header["framesPerSecond"] == Fraction(120)
    assert "timeCode" not in header


def test_an_address_with_its_range_is_that_range(one_shot: Cut, farm):
    one_shot.manifest["cast"] = []
    media = "plates/SH010/SH010.[1004-1006].exr"
    one_shot.manifest["shots"] = [{"id": "SH010", "media": media, "characters": [{"id": "ada"}]}]
    one_shot.write()
    said = farm("check", one_shot.folder / "edit.shots.yaml", "--json")
    (shot,) = said.document["plan"]["shots"]
    assert shot["uses"] == [{"shot": "SH010", "cut": {"first": 1004, "count": 3}}]


def test_two_jobs_on_one_cut(one_shot: Cut):
    import fcntl

    one_shot.write()
    delivery = one_shot.folder / "edit.scail2"
    delivery.mkdir()
    with (delivery / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = one_shot.run("submit", "edit.otio", "--weights", str(one_shot.weights))
    assert done.returncode == 5
    assert "SF-DELIVERY-BUSY" in done.stderr
    assert "Traceback" not in done.stderr


def test_several_characters_and_shots(cut: Cut, farm):
    cut.character("ada", "blue", (220, 30, 30))
    cut.character("ben", None, (30, 60, 220))
    cut.manifest["handles"] = {"head": 0, "tail": 0}
    for shot, people in (("SH010", ("ada", "ben")), ("SH020", ("ben",))):
        cut.plate(shot, 5, seed=len(people))
        for index, name in enumerate(people):
            cut.matte(shot, name, 5, (10 + 40 * index, 10, 20, 30))
        cut.clip(shot, first=1, count=3, available=5)
    cut.manifest["cast"] = [
        {"when": {"clip": "SH010"}, "characters": [{"id": "ada"}, {"id": "ben"}]},
        {"when": {"clip": "SH020"}, "characters": [{"id": "ben"}], "prompt_append": "closer"},
    ]
    said = farm("submit", cut.write(), "--weights", cut.weights, "--json")
    assert said.code == 0, said.err
    shots = {shot["shot"]: shot for shot in said.document["plan"]["shots"]}
    assert [c["slot"] for c in shots["SH010"]["characters"]] == ["blue", "red"]
    assert [c["slot"] for c in shots["SH020"]["characters"]] == ["red"], "a colour belongs to a character"
    for n in range(1002, 1005):
        assert (cut.comp_matte("SH010", n) > 0).sum() == 2 * 20 * 30
        assert (cut.comp_matte("SH020", n) > 0).sum() == 20 * 30


def test_render_segment_is_idempotent(one_shot: Cut, farm):
    from scail2_farm.documents import document_text
    from scail2_farm.plan import plan

    planned, work = finish(plan(one_shot.write())), one_shot.folder / "w"
    (shot,) = sealed(planned.shots, weights=one_shot.weights, work=work)
    segments = [shot.segment(index, work=work) for index in range(len(shot.segments))]
    for segment in segments:
        document = one_shot.folder / f"segment{segment.index}.json"
        document.write_text(document_text(segment))
        first = farm("render-segment", document, "--json")
        assert first.code == 0, first.err
        report = Path(segment.folder) / "report.json"
        written = report.stat().st_mtime_ns
        again = farm("render-segment", document, "--json")
        assert again.code == 0
        assert again.document == first.document
        assert report.stat().st_mtime_ns == written
    last = Path(segments[-1].folder)
    assert np.load(last / "history.npy").shape == (5, 32, 64, 3)


def test_explicit_shots_need_no_timeline(one_shot: Cut, farm):
    one_shot.manifest["cast"] = []
    one_shot.manifest["shots"] = [
        {
            "id": "SH010",
            "media": "plates/SH010/SH010.[1001-1016].exr",
            "range": [1003, 1007],
            "characters": [{"id": "ada"}],
        }
    ]
    one_shot.write()
    (one_shot.folder / "edit.otio").unlink()
    said = farm("submit", one_shot.folder / "edit.shots.yaml", "--weights", one_shot.weights, "--json")
    assert said.code == 0, said.err
    assert said.document["returned"] is None
    assert [p.name[-8:-4] for p in sorted(one_shot.version("SH010").glob("*.exr"))] == [
        str(n) for n in range(1001, 1010)
    ]


def test_a_still_image(one_shot: Cut, farm):
    one_shot.manifest["handles"] = {"head": 0, "tail": 0}
    one_shot.clips[0]["source_range"]["duration"]["value"] = 1
    said = farm("submit", one_shot.write(), "--weights", one_shot.weights, "--json")
    assert said.code == 0, said.err
    assert sorted(one_shot.version("SH010").glob("*.exr")) == [one_shot.frame("SH010", 1004)]


def test_check_renders_nothing(one_shot: Cut, farm):
    edit = one_shot.write()
    lines = (one_shot.folder / "edit.shots.yaml").read_text().splitlines()
    said = farm("check", edit, "--json")
    assert said.code == 0, said.err
    (clip,) = said.document["plan"]["clips"]
    assert clip["state"] == "rendered"
    assert clip["rules"][0]["where"].endswith(f"edit.shots.yaml:{lines.index('cast:') + 2}")
    (shot,) = said.document["plan"]["shots"]
    assert shot["frames"] == {"first": 1002, "count": 14}
    assert shot["timecode"] == "01:00:00:01"
    assert not (one_shot.folder / "edit.scail2").exists()
    assert farm("check", one_shot.folder / "edit.otio").code == 0


def test_check_without_a_manifest_lists_every_clip(one_shot: Cut, farm):
    edit = one_shot.write()
    (one_shot.folder / "edit.shots.yaml").unlink()
    said = farm("check", edit, "--json")
    assert said.code == 0
    assert [clip["state"] for clip in said.document["plan"]["clips"]] == ["uncast"]
    assert farm("submit", edit, "--weights", one_shot.weights, "--json").codes == ["SF-SUBMISSION-INVALID"]


def test_no_movie_when_none_is_asked_for_and_raw_when_it_is(one_shot: Cut, farm):
    one_shot.manifest["deliver"] = {"movie": "none"}
    assert farm("submit", one_shot.write(), "--weights", one_shot.weights).code == 0
    take = read_document(one_shot.version("SH010") / "take.json", Take)
    assert (take.movie, take.raw) == (None, None)
    assert not list(one_shot.version("SH010").glob("*.mov"))
    assert farm("submit", one_shot.folder / "edit.otio", "--weights", one_shot.weights, "--keep", "raw").code == 0
    assert len(list((one_shot.version("SH010", 2) / "raw").iterdir())) == 14
    for n in range(1002, 1016):
        assert one_shot.frame("SH010", n, 1).read_bytes() == one_shot.frame("SH010", n, 2).read_bytes()


def test_delivery_elsewhere(one_shot: Cut, farm, tmp_path):
    """Takes go where `deliver.to` says; the returned cut stays beside the edit, so relative plates still resolve."""
    one_shot.manifest["deliver"] = {"to": str(tmp_path / "renders, new"), "movie": "none"}
    assert farm("submit", one_shot.write(), "--weights", one_shot.weights).code == 0
    clip = next(iter(otio.adapters.read_from_file(str(one_shot.folder / "edit.scail2.otio")).find_clips()))
    for n in range(14):
        url = clip.media_reference.target_url_for_image_number(n)
        assert Path(otio.url_utils.filepath_from_url(url)).is_file()
    assert not (one_shot.folder / "edit.scail2").exists()


def test_handles_are_clamped_to_the_media(one_shot: Cut, farm):
    one_shot.manifest["handles"] = {"head": 8, "tail": 1}
    said = farm("check", one_shot.write(), "--json")
    (shot,) = said.document["plan"]["shots"]
    assert (shot["handles"], shot["handles_asked"]) == ({"head": 3, "tail": 1}, {"head": 8, "tail": 1})
    assert shot["frames"] == {"first": 1001, "count": 14}


def test_a_clip_cut_in_two_is_one_render_of_two_uses(one_shot: Cut, farm):
    one_shot.clip("SH010", first=11, count=3, available=16)
    said = farm("check", one_shot.write(), "--json")
    assert said.code == 0, said.err
    (shot,) = said.document["plan"]["shots"]
    assert [use["cut"] for use in shot["uses"]] == [{"first": 1004, "count": 10}, {"first": 1012, "count": 3}]
    assert [use["shot"].partition("-")[0] for use in shot["uses"]] == ["SH010", "SH010"]
    assert shot["frames"] == {"first": 1002, "count": 15}
