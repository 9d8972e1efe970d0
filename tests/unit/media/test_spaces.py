"""The show's own OCIO config: what it must have, where its names are looked up, what makes it another one."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import PyOpenColorIO as ocio  # pyright: ignore[reportMissingModuleSource]
import pytest

from scail2_farm.errors import ColorSpaceUnknown
from scail2_farm.media.color import ColorDecision, ModelColor, Said, decide
from scail2_farm.media.plates import ColorTag, PlateProbe, probe
from scail2_farm.media.spaces import CONFIG, ColorConfig, load_config

HALVED = "LUT_1D_SIZE 2\n0 0 0\n0.5 0.5 0.5\n"
SHOW = """ocio_profile_version: 2
environment: {SHOW: one}
search_path: luts
roles:
  default: raw
  scene_linear: work
  aces_interchange: aces
  cie_xyz_d65_interchange: xyz
file_rules:
  - !<Rule> {name: scans, colorspace: halved, pattern: "*scan*", extension: exr}
  - !<Rule> {name: Default, colorspace: work}
displays:
  monitor:
    - !<View> {name: Raw, colorspace: raw}
view_transforms:
  - !<ViewTransform>
    name: plain
    from_scene_reference: !<BuiltinTransform> {style: UTILITY - ACES-AP0_to_CIE-XYZ-D65_BFD}
display_colorspaces:
  - !<ColorSpace> {name: xyz}
  - !<ColorSpace>
    name: cinema
    encoding: sdr-video
    from_display_reference: !<BuiltinTransform> {style: DISPLAY - CIE-XYZ-D65_to_G2.6-P3-D65}
  - !<ColorSpace>
    name: grading
    encoding: hdr-video
    from_display_reference: !<BuiltinTransform> {style: DISPLAY - CIE-XYZ-D65_to_ST2084-P3-D65}
  - !<ColorSpace>
    name: house_monitor
    aliases: [srgb_display]
    encoding: sdr-video
    from_display_reference: !<BuiltinTransform> {style: DISPLAY - CIE-XYZ-D65_to_sRGB}
colorspaces:
  - !<ColorSpace> {name: raw, isdata: true}
  - !<ColorSpace> {name: aces}
  - !<ColorSpace>
    name: work
    aliases: [our work]
    to_scene_reference: !<BuiltinTransform> {style: ACEScg_to_ACES2065-1}
  - !<ColorSpace>
    name: coded
    to_scene_reference: !<BuiltinTransform> {style: ACEScct_to_ACES2065-1}
  - !<ColorSpace>
    name: halved
    to_scene_reference: !<GroupTransform>
      children:
        - !<FileTransform> {src: $SHOW.cube}
        - !<BuiltinTransform> {style: ACEScg_to_ACES2065-1}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a show's config, with the texts of `changes` replaced."""

    def written(changes: dict[str, str] | None = None) -> Path:
        text = SHOW
        for old, new in (changes or {}).items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "luts").mkdir(exist_ok=True)
        (tmp_path / "luts/one.cube").write_text(HALVED)
        (tmp_path / "config.ocio").write_text(text)
        return tmp_path / "config.ocio"

    return written


@pytest.fixture
def found(exr_file) -> PlateProbe:
    """What a plate is that says nothing about its colour."""
    return replace(probe(exr_file()), source="plate.####.exr")


def model(config: ColorConfig, space: str) -> ModelColor:
    named = ColorDecision.named(space, config=config.name, config_digest=config.digest, decided_by="a test")
    return ModelColor(named)


DIM = np.array([[0.18, 0.1, 0.3]], np.float32)
LIGHT = np.array([[0.18, 0.1, 0.3], [2.0, 1.0, 0.5]], np.float32)


def test_names_are_those_of_the_show_then_the_built_in_ones(write, found):
    config = load_config(write())
    for name in ("work", "our work", "scene_linear", "WORK"):
        decision = decide(found, said=Said(manifest=name), config=config)
        assert (decision.config, decision.space) == (config.name, "work")
        assert (decision.config_digest, decision.encoding) == (config.digest, "scene-linear")
    assert decide(found, said=Said(manifest="coded"), config=config).encoding == "log"
    decision = decide(found, said=Said(manifest="ARRI LogC4"), config=config)
    assert (decision.config, decision.config_digest, decision.space) == (CONFIG, "", "ARRI LogC4")
    assert decision.decided_by == "the manifest: ARRI LogC4 (of the built-in config)"
    movie = replace(found, kind="movie", source="a.mov", color_tag=ColorTag("nclc", "1/13/1"))
    assert decide(movie, said=Said(), config=config).config == CONFIG
    with pytest.raises(ColorSpaceUnknown, match="nearest: work"):
        decide(found, said=Said(manifest="wrok"), config=config)
    with pytest.raises(ColorSpaceUnknown, match="does not say whether SDR or HDR"):
        decide(found, said=Said(manifest="xyz"), config=config)


def test_file_rules_of_the_show_are_believed_except_its_default(write, found):
    config = load_config(write())
    scan = replace(found, source="/show/scan_a.####.exr")
    decision = decide(scan, said=Said(default="ACEScg"), config=config)
    assert (decision.space, decision.decided_by) == ("halved", "file rule 'scans' of config.ocio: halved")
    assert decide(scan, said=Said(editorial="work"), config=config).space == "work"
    assert decide(found, said=Said(default="ACEScg"), config=config).decided_by.startswith("the default for EXR")
    with pytest.raises(ColorSpaceUnknown, match="does not say"):
        decide(found, said=Said(), config=config)
    with pytest.raises(ColorSpaceUnknown, match="does not say"):
        decide(scan, said=Said(), config=load_config("builtin"))


def test_colours_of_the_show_meet_the_model_where_the_built_in_ones_do(write):
    config, built_in = load_config(write()), load_config(None)
    shown = model(built_in, "ACEScg").to_model(LIGHT)
    assert np.abs(model(config, "work").to_model(LIGHT) - shown).max() < 1e-6
    assert np.abs(model(config, "halved").to_model(LIGHT * 2)[0] - shown[0]).max() < 1e-5
    for space in ("work", "coded", "cinema", "grading"):
        color = model(config, space)
        plate = color.from_model(shown)
        assert np.abs(color.to_model(plate) - shown).max() < 1e-4
    for own, twin in (("cinema", "P3-D65 - Display"), ("grading", "ST2084-P3-D65 - Display")):
        code = np.array([[0.5, 0.4, 0.3]], np.float32)
        assert np.abs(model(config, own).to_model(code) - model(built_in, twin).to_model(code)).max() < 5e-3
    monitor = model(config, "house_monitor")
    assert np.array_equal(monitor.to_model(shown), shown), "sRGB under another name is taken as it is"
    assert (monitor.decision.kind, monitor.decision.interop_id) == ("sdr", "srgb_rec709_display")


def test_a_changed_table_is_another_config_at_once(write):
    path = write()
    before = load_config(path)
    shown = model(before, "halved").to_model(DIM)
    assert load_config(path) is before
    assert load_config(path.parent) == before, "a folder means the config.ocio in it"
    table = path.parent / "luts/one.cube"
    table.write_text(HALVED.replace("0.5", "0.25"))
    os.utime(table, ns=(1, 1))
    after = load_config(path)
    assert after.digest != before.digest
    assert model(after, "halved").to_model(DIM).max() < shown.max() - 0.01
    with pytest.raises(ColorSpaceUnknown, match="not what it was"):
        model(before, "halved")
    path.write_text(SHOW + "# a remark\n")
    assert load_config(path).digest not in (before.digest, after.digest)


def test_the_same_config_elsewhere_is_the_same_by_its_digest(write, tmp_path):
    here = load_config(write())
    (tmp_path / "copy").mkdir()
    (tmp_path / "luts").rename(tmp_path / "copy/luts")
    (tmp_path / "config.ocio").rename(tmp_path / "copy/config.ocio")
    assert load_config(tmp_path / "copy").digest == here.digest


def test_the_environment_of_the_machine_is_not_looked_at(write, monkeypatch):
    monkeypatch.setenv("SHOW", "elsewhere")
    config = load_config(write())
    assert config.warnings == ("config.ocio: its variables stand at their own defaults on every machine: SHOW = one",)
    assert np.abs(model(config, "halved").to_model(DIM) - model(config, "work").to_model(DIM / 2)).max() < 1e-5
    monkeypatch.setenv("SHOW", "one")
    with pytest.raises(ColorSpaceUnknown, match=r"\$SHOW\.cube") as caught:
        load_config(write({"environment: {SHOW: one}\n": ""}))
    assert "environment:" in caught.value.fix


def test_an_archive_is_a_config(write, tmp_path):
    plain = write({"environment: {SHOW: one}\n": "", "$SHOW": "one"})
    ocio.Config.CreateFromFile(str(plain)).archive(str(tmp_path / "show.ocioz"))  # pyright: ignore
    config = load_config(tmp_path / "show.ocioz")
    assert config.digest
    assert config.warnings == ()
    assert np.array_equal(model(config, "halved").to_model(LIGHT), model(load_config(plain), "halved").to_model(LIGHT))


@pytest.mark.parametrize(
    ("changes", "what", "fix"),
    [
        ({"  aces_interchange: aces\n": ""}, "no role aces_interchange", "aces_interchange: aces"),
        ({"colorspace: halved": "colorspace: nobody"}, "not a valid OCIO config", "ociocheck"),
        ({"colorspaces:": "colourspaces:"}, "not a valid OCIO config", "ociocheck"),
    ],
)
def test_a_config_that_cannot_be_believed_is_refused_in_words(write, changes, what, fix):
    path = write(changes)
    with pytest.raises(ColorSpaceUnknown, match=what) as caught:
        load_config(path)
    assert fix in caught.value.fix
    assert caught.value.where.file == str(path)


def test_a_display_needs_the_role_that_says_where_displays_meet(write, found):
    config = load_config(write({"  cie_xyz_d65_interchange: xyz\n": ""}))
    with pytest.raises(ColorSpaceUnknown, match="cinema is a display") as caught:
        decide(found, said=Said(manifest="cinema"), config=config)
    assert "cie_xyz_d65_interchange" in caught.value.fix
    assert decide(found, said=Said(manifest="house_monitor"), config=config).kind == "sdr"


def test_a_space_that_has_no_way_back_is_refused(write, found):
    squashed = "!<CDLTransform> {slope: [0, 0, 0]}"
    config = load_config(write({"!<BuiltinTransform> {style: ACEScct_to_ACES2065-1}": squashed}))
    with pytest.raises(ColorSpaceUnknown, match="cannot be converted"):
        decide(found, said=Said(manifest="coded"), config=config)


@pytest.mark.parametrize("where", ["ocio://default", "ocio://studio-config-latest", "ocio://my-config", "no/such.ocio"])
def test_what_is_no_config_or_not_always_the_same_is_refused(where):
    with pytest.raises(ColorSpaceUnknown):
        load_config(where)


def test_a_newer_built_in_config_may_be_named(found):
    config = load_config("ocio://studio-config-v5.0.0_aces-v2.1_ocio-v2.6")
    decision = decide(found, said=Said(manifest="Apple Log 2"), config=config)
    assert (decision.config, decision.kind) == (config.name, "scene")
    color, codes = ModelColor(decision), np.array([[0.5, 0.48, 0.45]], np.float32)
    assert np.abs(color.from_model(color.to_model(codes)) - codes).max() < 1e-4


def test_a_table_that_is_not_there_is_missed_by_who_needs_it_alone(write, found):
    path = write()
    table = path.parent / "luts/one.cube"
    table.unlink()
    config = load_config(path)
    assert decide(found, said=Said(manifest="work"), config=config).space == "work"
    with pytest.raises(ColorSpaceUnknown, match=r"halved of .* cannot be converted") as caught:
        decide(found, said=Said(manifest="halved"), config=config)
    assert "search path" in caught.value.fix
    table.write_text(HALVED)
    there = load_config(path)
    assert there.digest != config.digest
    assert decide(found, said=Said(manifest="halved"), config=there).space == "halved"
