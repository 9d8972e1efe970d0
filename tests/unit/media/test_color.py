"""Colour: how a space is decided, and the way to the model and back."""

import json
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from scail2_farm.errors import ColorSpaceUnknown
from scail2_farm.frames import FrameRange
from scail2_farm.media.color import CEILING, CONFIG, IDENTITY_SPACES, ColorDecision, ModelColor, decide
from scail2_farm.media.plates import ColorTag, PlateProbe


def probe(kind: Literal["exr", "movie"] = "exr", tag: ColorTag | None = None, height: int = 1080) -> PlateProbe:
    return PlateProbe(
        kind=kind,
        source="plate",
        width=1920,
        height=height,
        pixel_aspect=1.0,
        rate=None,
        frames=FrameRange(0, 1),
        missing=(),
        timecode_start=None,
        drop_frame=False,
        pixel_type="half",
        color_tag=tag,
        warnings=(),
    )


def named(space):
    return ColorDecision.named(space, config=CONFIG, decided_by="a test")


def cube(count):
    axis = np.linspace(0, 1, count, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)


# ------------------------------------------------------------------- deciding


@pytest.mark.parametrize(
    ("tag", "space"),
    [
        (ColorTag("colorInteropID", "lin_ap1_scene"), "ACEScg"),
        (ColorTag("colorInteropID", "ocio:arrilogc4_awg4_scene"), "ARRI LogC4"),
        (ColorTag("acesImageContainerFlag", "lin_ap0_scene"), "ACES2065-1"),
        (ColorTag("chromaticities", "lin_rec709_scene"), "Linear Rec.709 (sRGB)"),
        (ColorTag("nclc", "1/1/1"), "Rec.1886 Rec.709 - Display"),
        (ColorTag("nclc", "6/6/6"), "Rec.1886 Rec.709 - Display"),
        (ColorTag("nclc", "5/6/5"), "Rec.1886 Rec.709 - Display"),
        (ColorTag("nclc", "1/13/1"), "sRGB - Display"),
        (ColorTag("nclc", "1/2/1"), "Rec.1886 Rec.709 - Display"),
    ],
)
def test_a_file_that_says_its_space_is_believed(tag, space):
    decision = decide(manifest_space=None, probe=probe("movie" if tag.source == "nclc" else "exr", tag))
    assert (decision.config, decision.space) == (CONFIG, space)
    assert str(tag) in decision.decided_by
    assert decision.kind == ("display" if "Display" in space else "scene")


def test_the_manifest_wins_and_knows_every_name_of_a_space():
    tagged = probe(tag=ColorTag("colorInteropID", "lin_ap0_scene"))
    for name in ("ACEScg", "acescg", "lin_ap1_scene", "ACES - ACEScg"):
        decision = decide(manifest_space=name, probe=tagged)
        assert (decision.space, decision.decided_by) == ("ACEScg", "the manifest")
    log = decide(manifest_space="logc3ei800_alexawide", probe=probe("movie", ColorTag("nclc", "1/1/1")))
    assert (log.space, log.kind, log.encoding) == ("ARRI LogC3 (EI800)", "scene", "log")
    assert decide(manifest_space="ACEScg", probe=probe()).encoding == "scene-linear"
    assert decide(manifest_space="ACEScg", probe=probe()).interop_id == "lin_ap1_scene"


def test_an_untagged_movie_is_rec709_and_an_untagged_exr_stops_and_asks():
    decision = decide(manifest_space=None, probe=probe("movie"))
    assert (decision.space, decision.kind) == ("Rec.1886 Rec.709 - Display", "display")
    assert "untagged" in decision.decided_by
    with pytest.raises(ColorSpaceUnknown, match="does not say") as caught:
        decide(manifest_space=None, probe=probe())
    assert "color: {spaces:" in caught.value.fix


@pytest.mark.parametrize(
    ("manifest_space", "tag", "words"),
    [
        ("ACEScgg", None, "nearest: ACEScg"),
        ("logc4", None, "nearest: ARRI LogC4"),
        ("Raw", None, "is data"),
        ("Rec.2100-PQ - Display", None, "HDR"),
        (None, ColorTag("nclc", "9/16/9"), "HDR"),
        (None, ColorTag("nclc", "9/18/9"), "HDR"),
        (None, ColorTag("nclc", "12/13/1"), "wide-gamut"),
        (None, ColorTag("nclc", "9/14/9"), "no supported space"),
        (None, ColorTag("chromaticities", "1 0 0 1 0 0 0.3333 0.3333"), "no linear space"),
        (None, ColorTag("colorInteropID", "house_space"), "no colour space 'house_space'"),
    ],
)
def test_what_is_not_known_or_not_supported_is_refused_in_words(manifest_space, tag, words):
    with pytest.raises(ColorSpaceUnknown, match=words) as caught:
        decide(manifest_space=manifest_space, probe=probe("movie" if tag and tag.source == "nclc" else "exr", tag))
    assert caught.value.where.file == "plate"


def test_a_plan_for_another_config_is_refused():
    with pytest.raises(ColorSpaceUnknown, match="config"):
        ColorDecision.named("ACEScg", config="ocio://default", decided_by="a test")
    decision = decide(manifest_space="ACEScg", probe=probe())
    assert named("ACEScg") == replace(decision, decided_by="a test")


# ------------------------------------------------------------------- converting


@pytest.mark.parametrize(
    "space", ["ACEScg", "ACES2065-1", "Linear Rec.709 (sRGB)", "ARRI LogC4", "S-Log3 S-Gamut3.Cine"]
)
def test_display_cube_comes_back_below_the_ceiling(space):
    color = ModelColor(named(space))
    display = cube(33) if space == "ACEScg" else cube(9)
    scene = color.from_model(display)
    error = np.abs(color.to_model(scene) - np.minimum(display, CEILING))
    assert error.max() <= 5e-4
    assert error.mean() <= 1e-5


def test_what_the_model_paints_stays_bounded():
    scene = ModelColor(named("ACEScg")).from_model(cube(9))
    assert scene.min() >= 0
    assert 16.0 < scene.max() < 18.5
    white = ModelColor(named("ACEScg")).from_model(np.ones((1, 3), np.float32))
    assert np.allclose(white, 16.2, atol=0.2)


def test_grey_and_black_are_where_aces_2_puts_them():
    color = ModelColor(named("ACEScg"))
    shown = color.to_model(np.array([[0.18] * 3, [0.0] * 3], np.float32))
    assert np.allclose(shown, [[0.349] * 3, [0.0] * 3], atol=1e-3)


def test_a_scene_plate_there_and_back_within_half_a_ten_bit_code():
    random = np.random.default_rng(2)
    plate = np.exp2(random.uniform(-9, 2, (500, 1)).astype(np.float32)) * np.array([1.0, 0.9, 0.8], np.float32)
    color = ModelColor(named("ACEScg"))
    back = color.from_model(color.to_model(plate))
    assert np.abs(back / plate - 1).max() < 2e-4


CHARTED = ["ARRI LogC3 (EI800)", "ARRI LogC4", "S-Log3 S-Gamut3.Cine", "Log3G10 REDWideGamutRGB"]
CHARTED += ["Linear Rec.709 (sRGB)", "Linear Rec.2020", "ACEScg"]


@pytest.mark.parametrize("space", CHARTED)
def test_every_space_shows_the_same_chart(media, space):
    """The values of the chart in each space were computed without OCIO; shown, they must be one picture."""
    oracle = json.loads((media / "oracle/chart.json").read_text())
    values = oracle["ACEScg"] if space == "ACEScg" else oracle["expected"][space]["values"]
    shown = ModelColor(named(space)).to_model(np.array(values, np.float32))
    expected = ModelColor(named("ACES2065-1")).to_model(np.array(oracle["ACES2065-1"], np.float32))
    assert np.abs(shown - expected).max() < 0.05 / 255 * (4 if "709" in space else 1)


@pytest.mark.parametrize("space", IDENTITY_SPACES)
def test_display_plates_are_untouched_both_ways(space):
    values = np.random.default_rng(1).random((7, 5, 3)).astype(np.float32)
    color = ModelColor(named(space))
    assert np.array_equal(color.to_model(values), values)
    assert np.array_equal(color.from_model(values), values)
    assert np.array_equal(color.to_display(values), values)


@pytest.mark.parametrize("space", ["ACEScg", "ARRI LogC4", "sRGB - Display"])
def test_nothing_in_a_plate_upsets_the_model(space):
    wild = np.array([[np.nan, 0.5, 0.5], [np.inf, -np.inf, 0.1], [-1, 0.5, 0.5], [65504] * 3, [-65504] * 3], np.float32)
    kept = wild.copy()
    color = ModelColor(named(space))
    for shown in (color.to_model(wild), color.to_display(wild)):
        assert np.isfinite(shown).all()
        assert shown.min() >= 0
        assert shown.max() <= 1
    assert np.array_equal(wild, kept, equal_nan=True), "the plate's own values are left alone"


def test_any_layout_of_array_is_taken():
    color = ModelColor(named("ACEScg"))
    values = np.random.default_rng(1).random((6, 8, 3))
    straight = color.to_model(values.astype(np.float32))
    assert np.array_equal(color.to_model(values), straight)
    assert np.array_equal(color.to_model(np.asfortranarray(values.astype(np.float32))), straight)
    assert np.array_equal(color.to_model(values[::-1].astype(np.float32))[::-1], straight)


def test_the_movie_shows_what_a_rec709_monitor_shows():
    """The same light from both displays: sRGB decoded by its own curve, BT.1886 by a power of 2.4."""
    color = ModelColor(named("ACEScg"))
    scene = np.random.default_rng(4).uniform(0.02, 1, (50, 3)).astype(np.float32)
    srgb, video = color.to_model(scene), color.to_display(scene)
    light = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    assert np.abs(video**2.4 - light).max() < 1e-3
