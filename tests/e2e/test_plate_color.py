"""The colour of plates through a submission: who says it, the config of the show, and each kind of picture its way."""

import shutil
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import OpenEXR
import opentimelineio as otio
import pytest
from submissions import (
    FIRST_FILE,
    FIRST_TC,
    HEIGHT,
    WIDTH,
    Cut,
    finish,
    integers,
    planned_shot,
    plate_pixels,
    read_exr,
    read_image,
    sealed,
    told,
    write_exr,
    write_image,
)

from scail2_farm.media.plates import open_plate
from scail2_farm.plan import plan
from scail2_farm.render import segment_inputs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "faults"))
from farmhouse import Farm

FRAMES = 5
CONFIG = """ocio_profile_version: 2.1
environment: {}
search_path: luts
roles:
  aces_interchange: ACES2065-1
  scene_linear: ACES2065-1
  default: raw
file_rules:
  - !<Rule> {name: plates, extension: exr, pattern: "*SH0*", colorspace: camera of the show}
  - !<Rule> {name: Default, colorspace: raw}
displays:
  none:
    - !<View> {name: raw, colorspace: raw}
colorspaces:
  - !<ColorSpace> {name: raw, isdata: true}
  - !<ColorSpace> {name: ACES2065-1, encoding: scene-linear}
  - !<ColorSpace>
    name: camera of the show
    encoding: log
    to_scene_reference: !<FileTransform> {src: show.spi1d, interpolation: linear}
"""


def write_config(cut: Cut, *, gain: float = 1.0) -> None:
    """The show's config in a folder of its own: its camera's curve is a lookup table beside it."""
    folder = cut.folder / "color"
    (folder / "luts").mkdir(parents=True, exist_ok=True)
    (folder / "show.ocio").write_text(CONFIG)
    steps = gain * (np.exp2(np.linspace(0, 6, 257)) - 1) / 8
    lines = "\n".join(f"  {value:.7f}" for value in steps)
    head = "Version 1\nFrom 0.0 1.0\nLength 257\nComponents 1\n{\n"
    (folder / "luts/show.spi1d").write_text(f"{head}{lines}\n}}\n")
    cut.manifest.setdefault("color", {})["config"] = "color/show.ocio"


def submit(cut: Cut, farm: Any) -> dict[str, Any]:
    """The report of a submission that went well."""
    said = farm("submit", cut.write(), "--weights", cut.weights, "--json")
    assert said.code == 0, said.err + said.out
    assert said.document["faults"] == []
    return said.document


def key(cut: Cut) -> str:
    """What the take of the one shot would be known by."""
    (shot,) = sealed([planned_shot(cut)], weights=cut.weights, work=cut.folder / "work")
    return shot.key


def unchanged_outside(cut: Cut, number: int, before: np.ndarray, after: np.ndarray) -> None:
    """Equal outside the matte, and another picture where it is whole."""
    matte = cut.comp_matte("SH010", number)
    assert (matte > 0).any()
    assert after.dtype == before.dtype
    assert (after[matte == 0] == before[matte == 0]).all()
    assert (after[matte == 1] != before[matte == 1]).any(axis=-1).mean() > 0.9


# --------------------------------------------------------------------------- who says it


def test_who_speaks_first_is_believed(cut: Cut, farm):
    """Everybody says something else; as each falls silent, the next is heard."""
    cut.plate("SH010", FRAMES)
    clip = cut.played("SH010", FRAMES, metadata={"ayon.source.colorspace": "Linear Rec.709 (sRGB)"})
    write_config(cut)
    cut.manifest["color"] |= {
        "spaces": [{"media": "SH010.*", "space": "ARRI LogC4"}],
        "defaults": {"exr": "Linear Rec.2020"},
    }

    def decided() -> tuple[str, str, int]:
        shot = planned_shot(cut)
        return shot.color.space, shot.color.decided_by, sum("is believed" in warning for warning in shot.warnings)

    assert decided() == ("ARRI LogC4", "the manifest: ARRI LogC4 (of the built-in config)", 2)
    del cut.manifest["color"]["spaces"]
    space = "Linear Rec.709 (sRGB)"
    assert decided() == (space, f"the edit: {space} (of the built-in config)", 1)
    del clip["metadata"]["ayon.source.colorspace"]
    assert decided() == ("ACEScg", "the file: colorInteropID lin_ap1_scene (of the built-in config)", 0)
    cut.plate("SH010", FRAMES, tag=None)
    camera = "camera of the show"
    assert decided() == (camera, f"file rule 'plates' of show.ocio: {camera}", 0)
    cut.manifest["color"]["config"] = "builtin"
    assert decided() == ("Linear Rec.2020", "the default for EXR: Linear Rec.2020", 0)
    del cut.manifest["color"]["defaults"]
    said = farm("check", cut.write(), "--json")
    assert (said.code, said.codes) == (3, ["SF-COLOR-SPACE-UNKNOWN"])
    (fault,) = said.document["faults"]
    assert fault["what"] == "the EXR does not say its colour space"
    assert "color: {spaces: [{media: 'SH010.####.exr', space: ACEScg}]}" in fault["fix"]
    assert fault["where"]["shot"] == "SH010"


def test_the_media_reference_may_say_the_space(cut: Cut):
    cut.plate("SH010", FRAMES, tag=None)
    clip = cut.played("SH010", FRAMES)
    clip["media_references"]["DEFAULT_MEDIA"]["metadata"] = {"ayon.source.colorspace": "ACES - ACEScg"}
    color = planned_shot(cut).color
    assert (color.space, color.decided_by) == ("ACEScg", "the edit: ACES - ACEScg")


def test_who_said_the_same_space_makes_no_other_render(cut: Cut):
    """One clip names the space that the file says itself, the next one nothing: they are one shot."""
    cut.plate("SH010", 9)
    cut.played("SH010", 9)
    cut.clips.clear()
    cut.clip("SH010", first=0, count=5, available=9, metadata={"ayon.source.colorspace": "ACEScg"})
    cut.clip("SH010", first=4, count=5, available=9)
    shot = planned_shot(cut)
    assert (len(shot.uses), shot.frames.count, shot.color.space) == (2, 9, "ACEScg")


def test_a_space_of_the_edit_that_nobody_knows_is_a_warning(cut: Cut, farm):
    cut.plate("SH010", FRAMES)
    cut.played("SH010", FRAMES, metadata={"ayon.source.colorspace": "Gamma Fantastica"})
    shot = planned_shot(cut)
    assert shot.color.decided_by == "the file: colorInteropID lin_ap1_scene"
    assert any("the edit" in warning and "'Gamma Fantastica'" in warning for warning in shot.warnings)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            {"spaces": [{"media": "*", "space": "ARRI LogC5"}]},
            "has no colour space 'ARRI LogC5'; the nearest: ARRI Log",
        ),
        ({"defaults": {"exr": "Raw"}}, "Raw is data"),
        ({"config": "color/none.ocio"}, "there is no OCIO config"),
    ],
)
def test_what_cannot_be_is_refused_in_words(cut: Cut, farm, said, words):
    cut.plate("SH010", FRAMES, tag=None)
    cut.played("SH010", FRAMES)
    cut.manifest["color"] = said
    answer = farm("check", cut.write(), "--json")
    assert (answer.code, answer.codes) == (3, ["SF-COLOR-SPACE-UNKNOWN"])
    (fault,) = answer.document["faults"]
    assert words in fault["what"]
    assert fault["fix"]
    if "config" in said:
        assert Path(fault["where"]["file"]).name == "edit.shots.yaml"
        assert fault["where"]["line"] > 1


# --------------------------------------------------------------------------- the show's own config


def test_the_lookup_tables_of_a_config_are_part_of_the_key(cut: Cut, farm):
    cut.plate("SH010", FRAMES, tag=None)
    cut.played("SH010", FRAMES)
    write_config(cut)
    first = key(cut)
    assert key(cut) == first
    write_config(cut, gain=1.25)
    assert key(cut) != first
    write_config(cut)
    assert key(cut) == first
    document = submit(cut, farm)
    take = cut.take("SH010")
    assert (take.color.space, take.color.config) == ("camera of the show", str(cut.folder / "color/show.ocio"))
    assert len(take.color.digest) == 64
    assert document["takes"][0]["key"] == first
    for number in range(FIRST_FILE, FIRST_FILE + FRAMES):
        before = read_exr(cut.plate_file("SH010", number)).view(np.uint16)
        unchanged_outside(cut, number, before, read_exr(cut.frame("SH010", number)).view(np.uint16))
    write_config(cut, gain=1.25)
    (take,) = submit(cut, farm)["takes"]
    assert (take["version"], take["rendered_before"]) == (2, False)


def test_a_lookup_table_that_changes_after_planning_is_noticed(cut: Cut):
    from scail2_farm.job import run

    cut.plate("SH010", FRAMES, tag=None)
    cut.played("SH010", FRAMES)
    write_config(cut)
    planned = finish(plan(cut.write()))
    assert not planned.faults
    write_config(cut, gain=1.25)
    outcome, _ = told(run(planned, weights=cut.weights, raw=False))
    (fault,) = outcome.faults
    assert fault.code == "SF-COLOR-SPACE-UNKNOWN"
    assert "is not what it was when the shot was planned" in fault.what
    assert fault.fix.startswith("submit again")
    assert (fault.where.shot, outcome.done) == ("SH010", [])
    outcome, _ = told(run(finish(plan(cut.write())), weights=cut.weights, raw=False))
    assert not outcome.faults
    assert len(outcome.done) == 1


def test_a_farm_renders_a_dpx_as_it_is_rendered_at_home(tmp_path, weights):
    """The same bytes, in the space of a config that the dropped manifest names beside the plates."""
    home, away = Cut(tmp_path / "home", weights), Cut(tmp_path / "away", weights)
    for index in range(FRAMES):
        path = home.plate_file("SH010", FIRST_FILE + index, ".dpx")
        write_image(path, integers(10, 3, index), bits=10, dpx__TimeCode=f"01:00:00:{index:02d}")
    shutil.copytree(home.folder / "plates", away.folder / "plates")
    for cut in (home, away):
        cut.played("SH010", FRAMES, suffix=".dpx")
        write_config(cut)
        cut.manifest["color"]["defaults"] = {"dpx": "camera of the show"}
    said = home.run("submit", str(home.write()), "--weights", str(home.weights))
    assert said.returncode == 0, said.stderr
    with Farm(tmp_path / "farm", weights) as running:
        running.up()
        running.drop(away)
        receipt = running.returned()
        assert receipt["state"] == "done", receipt
        assert running.end() == 0
    assert away.take("SH010").key == home.take("SH010").key
    for number in range(FIRST_FILE, FIRST_FILE + FRAMES):
        frames = [cut.frame("SH010", number, suffix=".dpx").read_bytes() for cut in (home, away)]
        assert frames[0] == frames[1]
    (clip,) = otio.adapters.read_from_file(str(away.folder / "edit.scail2.otio")).find_clips()
    assert clip.media_reference.name_suffix == ".dpx"


# --------------------------------------------------------------------------- each its own way


def shown_to_the_model(cut: Cut) -> np.ndarray:
    """The driving frames of the shot's first segment, sRGB."""
    (shot,) = sealed([planned_shot(cut)], weights=cut.weights, work=cut.folder / "work")
    return segment_inputs(shot.segment(0, work=cut.folder / "work")).driving


def review(cut: Cut, version: int = 1) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The luma of a review movie's first frame in 0..1, and its primaries, transfer and matrix."""
    movie = cut.version("SH010", version) / f"SH010_scail2_v{version:03d}.mov"
    with av.open(str(movie)) as container:
        frame = next(container.decode(video=0))
        context = container.streams.video[0].codec_context
        luma = np.frombuffer(bytes(frame.planes[0]), np.uint16).reshape(frame.height, -1)[:, : frame.width]
        return (luma / 4 - 16) / 219, (context.color_primaries, context.color_trc, int(frame.colorspace))


def test_a_log_scan_is_shown_by_the_aces_view(cut: Cut, farm):
    """18 % grey is code 400 of ARRI LogC3, and 0.349 on an sRGB display by the ACES 2.0 view (colour.md §2)."""
    grey = np.full((HEIGHT, WIDTH, 3), 400, np.uint16)
    for index in range(FRAMES):
        codes = grey + np.random.default_rng(index).integers(-2, 3, (HEIGHT, WIDTH, 1), np.int16).astype(np.uint16)
        path = cut.plate_file("SH010", FIRST_FILE + index, ".dpx")
        write_image(path, codes, bits=10, dpx__Transfer="Logarithmic", dpx__FrameRate=("float", 24.0))
    cut.played("SH010", FRAMES, suffix=".dpx")
    said = farm("check", cut.write(), "--json")
    assert said.codes == ["SF-COLOR-SPACE-UNKNOWN"]
    assert "Logarithmic" in said.document["faults"][0]["what"]
    cut.manifest["color"] = {"defaults": {"dpx": "ARRI LogC3 (EI800)"}}
    assert np.median(shown_to_the_model(cut)) == pytest.approx(0.349, abs=0.003)
    submit(cut, farm)
    assert cut.take("SH010").color.decided_by == "the default for DPX: ARRI LogC3 (EI800)"
    luma, tags = review(cut)
    assert tags == (1, 1, 1)
    assert np.median(luma[:, :10]) == pytest.approx(0.349 ** (2.2 / 2.4), abs=0.03)
    for number in range(FIRST_FILE, FIRST_FILE + FRAMES):
        before, _ = read_image(cut.plate_file("SH010", number, ".dpx"))
        unchanged_outside(cut, number, before, read_image(cut.frame("SH010", number, suffix=".dpx"))[0])


@pytest.mark.parametrize(
    ("transfer", "space", "interop_id"),
    [(16, "Rec.2100-PQ - Display", "pq_rec2020_display"), (18, "Rec.2100-HLG - Display", "hlg_rec2020_display")],
    ids=["pq", "hlg"],
)
def test_an_hdr_movie_is_rendered_by_its_own_way(cut: Cut, farm, transfer, space, interop_id):
    movie = cut.folder / "media/plate.mov"
    movie.parent.mkdir()
    with av.open(str(movie), "w") as container:
        stream: Any = container.add_stream("prores_ks", rate=Fraction(24), options={"profile": "3"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv422p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, transfer, 9, 1
        stream.metadata["timecode"] = "01:00:00:00"
        for index in range(FRAMES):
            codes = integers(8, 3, index) // 3 + 60
            frame = av.VideoFrame.from_ndarray(codes.astype(np.uint8), format="rgb24")
            frame = frame.reformat(format="yuv422p10le", dst_colorspace="ITU709")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    cut.played("SH010", FRAMES, movie="media/plate.mov")
    submit(cut, farm)
    take = cut.take("SH010")
    assert (take.color.space, take.color.decided_by) == (space, f"the file: nclc 9/{transfer}/9")
    with open_plate(movie) as plate:
        for index in range(FRAMES):
            path = cut.frame("SH010", FIRST_FILE + index)
            after = read_exr(path)
            unchanged_outside(cut, FIRST_FILE + index, plate.read(index).rgb, after)
            assert ((after >= 0) & (after <= 1))[cut.comp_matte("SH010", FIRST_FILE + index) == 1].all()
            assert OpenEXR.File(str(path)).parts[0].header["colorInteropID"] == interop_id
    luma, tags = review(cut)
    assert tags == (1, 1, 1)
    assert 0.05 < np.median(luma[:, :10]) < 0.95


def chunks(path: Path) -> dict[str, bytes]:
    """The chunks of a PNG, by name."""
    content, place, found = path.read_bytes(), 8, {}
    while place < len(content):
        size = int.from_bytes(content[place : place + 4])
        found[content[place + 4 : place + 8].decode()] = content[place + 8 : place + 8 + size]
        place += 12 + size
    return found


def test_a_display_p3_png_keeps_its_tag(cut: Cut, farm):
    for index in range(FRAMES):
        path = cut.plate_file("SH010", FIRST_FILE + index, ".png")
        write_image(path, integers(16, 3, index), bits=16, oiio__ColorSpace="srgb_p3d65_display")
    before = chunks(cut.plate_file("SH010", FIRST_FILE, ".png"))
    assert before["cICP"] == bytes([12, 13, 0, 1])
    cut.played("SH010", FRAMES, suffix=".png")
    submit(cut, farm)
    assert cut.take("SH010").color.space == "Display P3 - Display"
    after = chunks(cut.frame("SH010", FIRST_FILE, suffix=".png"))
    assert {name: after[name] for name in before if name != "IDAT"} == {
        name: content for name, content in before.items() if name != "IDAT"
    }
    unchanged_outside(
        cut,
        FIRST_FILE,
        read_image(cut.plate_file("SH010", FIRST_FILE, ".png"))[0],
        read_image(cut.frame("SH010", FIRST_FILE, suffix=".png"))[0],
    )


# --------------------------------------------------------------------------- tone


def test_the_soft_shoulder_is_another_take(cut: Cut, farm):
    cut.plate("SH010", FRAMES)
    cut.played("SH010", FRAMES)
    submit(cut, farm)
    cut.manifest["color"] = {"tone": "shoulder"}
    (take,) = submit(cut, farm)["takes"]
    assert (take["version"], take["rendered_before"]) == (2, False)
    first, second = cut.take("SH010", 1), cut.take("SH010", 2)
    assert (first.color.tone, second.color.tone) == ("aces2", "shoulder")
    assert first.key != second.key
    for number in range(FIRST_FILE, FIRST_FILE + FRAMES):
        one, other = (read_exr(cut.frame("SH010", number, version)) for version in (1, 2))
        matte = cut.comp_matte("SH010", number)
        assert (one.view(np.uint16)[matte == 0] == other.view(np.uint16)[matte == 0]).all()
        assert (one[matte == 1] != other[matte == 1]).any()


def test_colours_that_do_not_come_back_are_told_before_rendering(cut: Cut):
    cut.plate("SH010", FRAMES)
    cut.played("SH010", FRAMES)
    assert not [one for one in planned_shot(cut).warnings if "come back" in one]
    for index in range(FRAMES):
        rgb = plate_pixels(0, index) * np.array([12, -0.5, 9], np.float16)
        write_exr(cut.plate_file("SH010", FIRST_FILE + index), rgb, frame=FIRST_TC + index)
    (warning,) = [one for one in planned_shot(cut).warnings if "come back" in one]
    assert warning.startswith("only ")
    assert "the others are too bright, too dark or too saturated" in warning


@pytest.mark.parametrize("stand_in", ["hold", "black"])
def test_a_cut_of_frames_that_are_all_stood_in_for_is_judged_by_what_stands_in(cut: Cut, stand_in):
    for index in range(9):
        rgb = plate_pixels(0, index) * np.array([12, -0.5, 9], np.float16)
        if not 3 <= index < 8:
            write_exr(cut.plate_file("SH010", FIRST_FILE + index), rgb, frame=FIRST_TC + index)
    cut.played("SH010", 9)
    cut.clips.clear()
    cut.clip("SH010", first=3, count=5, available=9)
    cut.manifest |= {"missing": stand_in, "handles": {"head": 0, "tail": 0}}
    shot = planned_shot(cut)
    assert shot.plate.missing == tuple(range(FIRST_FILE + 3, FIRST_FILE + 8))
    assert any("come back" in warning for warning in shot.warnings) == (stand_in == "hold")
