"""Colour: how a space is decided, and the way to the model and back."""

import json
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from scail2_farm.errors import ColorSpaceUnknown
from scail2_farm.frames import FrameRange
from scail2_farm.media import exr
from scail2_farm.media.color import CEILING, ColorDecision, ModelColor, Said, Tone, decide, doubts, invertibility
from scail2_farm.media.plates import ColorTag, PlateProbe, probe
from scail2_farm.media.spaces import CONFIG, IDENTITY_SPACES, load_config


@pytest.fixture
def found(exr_file) -> PlateProbe:
    """What a plate is that says nothing about its colour."""
    return replace(probe(exr_file(), rate=Fraction(24)), source="plate.####.exr", frames=FrameRange(1001, 2))


def tagged(found: PlateProbe, kind: str, source: str | None, value: str = "", pixel_type: str = "half") -> PlateProbe:
    tag = ColorTag(source, value) if source else None  # pyright: ignore[reportArgumentType]
    name = {"tiff": "tif", "movie": "mov"}.get(kind, kind)
    return replace(found, kind=kind, source=f"plate.{name}", color_tag=tag, pixel_type=pixel_type)


def decided(found: PlateProbe, **said: str) -> ColorDecision:
    return decide(found, said=Said(**said), config=load_config(None))


def colored(space: str, tone: Tone = "aces2") -> ModelColor:
    return ModelColor(ColorDecision.named(space, config=CONFIG, config_digest="", decided_by="a test"), tone=tone)


def cube(count: int) -> np.ndarray:
    axis = np.linspace(0, 1, count, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)


def greys(first: float, last: float) -> np.ndarray:
    return np.repeat(np.geomspace(first, last, 500, dtype=np.float32)[:, None], 3, axis=1)


# ------------------------------------------------------------------- deciding

VIDEO = "Rec.1886 Rec.709 - Display"
TAGS = [
    ("exr", "colorInteropID", "lin_ap1_scene", "ACEScg"),
    ("exr", "colorInteropID", "ocio:arrilogc4_awg4_scene", "ARRI LogC4"),
    ("exr", "acesImageContainerFlag", "lin_ap0_scene", "ACES2065-1"),
    ("exr", "chromaticities", "lin_rec709_scene", "Linear Rec.709 (sRGB)"),
    ("movie", "nclc", "1/1/1", VIDEO),
    ("movie", "nclc", "6/6/6", VIDEO),
    ("movie", "nclc", "5/6/5", VIDEO),
    ("movie", "nclc", "1/2/1", VIDEO),
    ("movie", "nclc", "1/13/1", "sRGB - Display"),
    ("movie", "nclc", "1/4/1", "Gamma 2.2 Rec.709 - Display"),
    ("movie", "nclc", "9/16/9", "Rec.2100-PQ - Display"),
    ("movie", "nclc", "9/18/9", "Rec.2100-HLG - Display"),
    ("movie", "nclc", "12/16/9", "ST2084-P3-D65 - Display"),
    ("movie", "nclc", "12/13/1", "Display P3 - Display"),
    ("png", "cICP", "9/16/0", "Rec.2100-PQ - Display"),
    ("png", "iCCP", "sRGB IEC61966-2.1", "sRGB - Display"),
    ("tiff", "iCCP", "Display P3", "Display P3 - Display"),
    ("png", "iCCP", "Rec. 709", VIDEO),
    ("png", "sRGB", "perceptual", "sRGB - Display"),
    ("png", "gAMA", "0.45455", "Gamma 2.2 Rec.709 - Display"),
    ("png", "gAMA", "0.45455 0.3127 0.329 0.64 0.33 0.3 0.6 0.15 0.06", "Gamma 2.2 Rec.709 - Display"),
    ("dpx", "dpx", "ITU-R 709-4", VIDEO),
]


@pytest.mark.parametrize(("kind", "source", "value", "space"), TAGS)
def test_a_file_that_says_its_space_is_believed(found, kind, source, value, space):
    decision = decided(tagged(found, kind, source, value), default="ACEScg")
    assert (decision.config, decision.config_digest, decision.space) == (CONFIG, "", space)
    assert decision.decided_by == f"the file: {source} {value}"
    assert decision.warnings == ()


@pytest.mark.parametrize(("pixel_type", "space"), [("uint10", "ADX10"), ("uint16", "ADX16")])
def test_a_film_scan_in_adx_is_of_its_depth(found, pixel_type, space):
    assert decided(tagged(found, "dpx", "dpx", "ADX", pixel_type)).space == space


UNUSABLE = [
    ("exr", "colorInteropID", "house_space"),
    ("exr", "chromaticities", "1 0 0 1 0 0 0.3333 0.3333"),
    ("movie", "nclc", "9/14/9"),
    ("movie", "nclc", "9/2/9"),
    ("png", "cICP", "1/1/0 narrow"),
    ("png", "iCCP", "EPSON SC-P800 Matte"),
    ("png", "gAMA", "1"),
    ("png", "gAMA", "0.45455 0.3127 0.329 0.68 0.32 0.265 0.69 0.15 0.06"),
    ("tiff", "iCCP", "a profile without a name"),
    ("dpx", "dpx", "Logarithmic"),
    ("dpx", "dpx", "Printing density"),
    ("dpx", "dpx", "Linear"),
    ("dpx", "dpx", "ADX"),
]


@pytest.mark.parametrize(("kind", "source", "value"), UNUSABLE)
def test_a_tag_that_names_no_space_decides_nothing_and_is_told(found, kind, source, value):
    plate = tagged(found, kind, source, value)
    with pytest.raises(ColorSpaceUnknown, match="does not say") as caught:
        decided(plate)
    assert f"{source} {value}" in caught.value.what
    by_default = decided(plate, default="ARRI LogC4")
    assert by_default.space == "ARRI LogC4"
    assert f"{source} {value}" in by_default.warnings[0]


def test_who_speaks_first_is_believed_and_who_contradicts_is_told(found):
    plate = tagged(found, "exr", "colorInteropID", "lin_ap0_scene")
    decision = decided(plate, manifest="ACEScg", editorial="lin_ap1", default="ARRI LogC4")
    assert (decision.space, decision.decided_by) == ("ACEScg", "the manifest: ACEScg")
    file_says = "the manifest says ACEScg, the file says colorInteropID lin_ap0_scene: the manifest is believed"
    assert decision.warnings == (file_says,)
    both = decided(plate, manifest="ACEScg", editorial="ARRI LogC4")
    assert both.warnings == ("the manifest says ACEScg, the edit says ARRI LogC4: the manifest is believed", file_says)
    decision = decided(plate, editorial="ACEScg", default="ARRI LogC4")
    assert decision.decided_by == "the edit: ACEScg"
    assert decided(plate, default="ARRI LogC4").decided_by == "the file: colorInteropID lin_ap0_scene"
    silent = tagged(found, "exr", None)
    assert decided(silent, default="ARRI LogC4").decided_by == "the default for EXR: ARRI LogC4"


def test_what_is_one_picture_is_no_contradiction(found):
    video = tagged(found, "movie", "nclc", "1/1/1")
    assert decided(video, manifest="sRGB - Display").warnings == ()
    assert decided(video, manifest="srgb_tx").warnings == ()
    assert decided(video, manifest="ARRI LogC4").warnings == (), "tags have no word for a log curve"
    assert len(decided(video, manifest="ACEScg").warnings) == 1
    assert len(decided(video, manifest="Rec.2100-PQ - Display").warnings) == 1


def test_every_name_of_a_space_is_known(found):
    for name in ("ACEScg", "acescg", "lin_ap1_scene", "ACES - ACEScg", "scene_linear"):
        assert decided(found, manifest=name).space == "ACEScg"
    log = decided(found, manifest="logc3ei800_alexawide")
    assert (log.space, log.kind, log.encoding) == ("ARRI LogC3 (EI800)", "scene", "log")
    linear = decided(found, manifest="ACEScg")
    assert (linear.encoding, linear.interop_id) == ("scene-linear", "lin_ap1_scene")
    assert decided(found, manifest="hlg_rec2020_display").kind == "hdr"
    assert decided(found, manifest="srgb_p3d65").kind == "sdr"


@pytest.mark.parametrize("tag", [(None, ""), ("nclc", "2/2/2")])
def test_a_movie_without_tags_is_rec709_unless_somebody_says(found, tag):
    movie = tagged(found, "movie", *tag)
    decision = decided(movie)
    assert (decision.space, decision.kind) == (VIDEO, "sdr")
    assert "without tags" in decision.decided_by
    assert "does not say its colour" in decision.warnings[0]
    assert decided(movie, default="ARRI LogC4").space == "ARRI LogC4"
    assert decided(movie, manifest="ACEScct").warnings == ()


@pytest.mark.parametrize("kind", ["exr", "dpx", "tiff", "png"])
def test_a_still_without_tags_stops_and_asks(found, kind):
    with pytest.raises(ColorSpaceUnknown, match="does not say") as caught:
        decided(tagged(found, kind, None))
    assert "color: {spaces:" in caught.value.fix
    assert f"color: {{defaults: {{{kind}: " in caught.value.fix
    assert caught.value.where.file == tagged(found, kind, None).source


@pytest.mark.parametrize(
    ("space", "words"),
    [("ACEScgg", "nearest: ACEScg"), ("logc4", "nearest: ARRI LogC4"), ("Raw", "is data"), ("data", "is data")],
)
def test_what_is_not_known_or_not_colour_is_refused_in_words(found, space, words):
    for said in ({"manifest": space}, {"editorial": space}, {"default": space}):
        with pytest.raises(ColorSpaceUnknown, match=words) as caught:
            decided(found, **said)
        assert caught.value.where.file == "plate.####.exr"


def test_a_plan_is_read_back_as_it_was(found):
    decision = decided(found, manifest="ACEScg")
    again = ColorDecision.named(
        "ACEScg", config=decision.config, config_digest=decision.config_digest, decided_by=decision.decided_by
    )
    assert again == decision
    with pytest.raises(ColorSpaceUnknown, match="not what it was"):
        ColorDecision.named("ACEScg", config=CONFIG, config_digest="0" * 64, decided_by="a test")


# ------------------------------------------------------------------- converting


@pytest.mark.parametrize(
    "space", ["ACEScg", "ACES2065-1", "Linear Rec.709 (sRGB)", "ARRI LogC4", "S-Log3 S-Gamut3.Cine"]
)
def test_display_cube_comes_back_below_the_ceiling(space):
    color = colored(space)
    display = cube(33) if space == "ACEScg" else cube(9)
    error = np.abs(color.to_model(color.from_model(display)) - np.minimum(display, CEILING))
    assert error.max() <= 5e-4
    assert error.mean() <= 1e-5


def test_what_the_model_paints_stays_bounded():
    scene = colored("ACEScg").from_model(cube(9))
    assert scene.min() >= 0
    assert 16.0 < scene.max() < 18.5
    white = colored("ACEScg").from_model(np.ones((1, 3), np.float32))
    assert np.allclose(white, 16.2, atol=0.2)


@pytest.mark.parametrize(("tone", "grey"), [("aces2", 0.349), ("shoulder", 0.461)])
def test_grey_and_black_are_where_the_tone_puts_them(tone, grey):
    shown = colored("ACEScg", tone).to_model(np.array([[0.18] * 3, [0.0] * 3], np.float32))
    assert np.allclose(shown, [[grey] * 3, [0.0] * 3], atol=1e-3)


@pytest.mark.parametrize("space", ["ACEScg", "Linear Rec.2020"])
def test_neutral_scene_values_come_back_up_to_sixteen_times_white(space):
    color, scene = colored(space), greys(1e-3, 16)
    assert np.abs(color.from_model(color.to_model(scene)) / scene - 1).max() <= 1e-4


LOG = ["ARRI LogC3 (EI800)", "ARRI LogC4", "S-Log3 S-Gamut3.Cine", "Log3G10 REDWideGamutRGB"]
LINEAR = ["Linear Rec.709 (sRGB)", "Linear Rec.2020", "ACEScg"]


@pytest.fixture
def chart(media) -> dict[str, np.ndarray]:
    """The ColorChecker in every space, computed without OpenColorIO."""
    oracle = json.loads((media / "oracle/chart.json").read_text())
    values = {space: oracle[space] for space in ("ACEScg", "ACES2065-1")}
    values |= {space: found["values"] for space, found in oracle["expected"].items()}
    return {space: np.array(rows, np.float32) for space, rows in values.items()}


@pytest.mark.parametrize("tone", ["aces2", "shoulder"])
@pytest.mark.parametrize("space", [*LOG, *LINEAR])
def test_the_chart_is_one_picture_in_every_space(chart, space, tone):
    """Shown from ACES2065-1 and brought into the space, it must be what was computed for that; and the way there."""
    shown = colored("ACES2065-1", tone).to_model(chart["ACES2065-1"])
    color, bound = colored(space, tone), 5e-4 if "709" in space else 1e-5
    assert np.abs(color.from_model(shown) - chart[space]).max() <= bound
    assert np.abs(color.to_model(chart[space]) - shown).max() <= bound


def test_the_shoulder_below_its_start_is_plain_srgb(chart):
    light = chart["Linear Rec.709 (sRGB)"]
    dark = (light.max(axis=1) < 0.5) & (light.min(axis=1) > 0.2 * light.max(axis=1))
    shown = colored("ACES2065-1", "shoulder").to_model(chart["ACES2065-1"][dark])
    assert dark.sum() >= 8
    assert np.abs(shown - chart["sRGB Encoded Rec.709 (sRGB)"][dark]).max() <= 5e-4


@pytest.mark.parametrize("tone", ["aces2", "shoulder"])
@pytest.mark.parametrize("space", LOG)
def test_a_chart_in_camera_log_comes_back_to_a_twentieth_of_a_code(chart, space, tone):
    color = colored(space, tone)
    assert np.abs(color.from_model(color.to_model(chart[space])) - chart[space]).max() * 1023 <= 0.05


def test_the_soft_shoulder_is_what_it_says():
    """f from its definition, sought apart from the module: 1 at 16, slope 1 at a half."""
    low, high = 1e-3, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 + middle * math.log(1 + 15.5 / middle) < 1 else (low, middle)
    s = high
    light = greys(1e-3, 16).astype(np.float64)
    curved = np.where(light <= 0.5, light, 0.5 + s * np.log1p(np.maximum(light - 0.5, 0) / s))
    srgb = np.where(curved <= 0.0031308, curved * 12.92, 1.055 * curved ** (1 / 2.4) - 0.055)
    color = colored("Linear Rec.709 (sRGB)", "shoulder")
    assert np.abs(color.to_model(light) - srgb).max() < 2e-5
    assert np.abs(color.from_model(srgb) / light - 1).max() < 5e-4


def test_the_soft_shoulder_brings_back_what_it_should():
    """The row of it in colour.md §2."""
    color = colored("ACEScg", "shoulder")
    for first, last, bound in ((1e-3, 1, 3e-6), (1, 4, 5e-6), (4, 16, 1e-5)):
        light = greys(first, last)
        assert np.abs(color.from_model(color.to_model(light)) / light - 1).max() <= bound
    random = np.random.default_rng(3)
    vivid = random.random((2000, 3)) * np.exp(random.uniform(-6, math.log(4), (2000, 1)))
    back = color.from_model(color.to_model(vivid.astype(np.float32)))
    assert (np.abs(back - vivid).max(axis=1) / vivid.max(axis=1)).max() <= 1e-5
    assert np.allclose(color.from_model(np.array([[1, 0, 0], [1, 1, 1]])), [[5.48, 0, 0], [16] * 3], atol=0.01)


@pytest.mark.parametrize(("space", "black"), [("ARRI LogC3 (EI800)", 0.0928), ("Rec.2100-PQ - Display", 0.0)])
def test_what_the_shoulder_gives_is_not_below_black(space, black):
    color = colored(space, "shoulder")
    assert color.from_model(cube(9)).min() == pytest.approx(black, abs=1e-4)
    display = 0.4 + 0.2 * cube(5)
    assert np.abs(color.to_model(color.from_model(display)) - display).max() < 2e-4


@pytest.mark.parametrize("space", IDENTITY_SPACES)
def test_display_plates_are_untouched_both_ways(space):
    values = np.random.default_rng(1).random((7, 5, 3)).astype(np.float32)
    for tone in ("aces2", "shoulder"):
        color = colored(space, tone)
        assert np.array_equal(color.to_model(values), values)
        assert np.array_equal(color.from_model(values), values)
        assert np.array_equal(color.to_display(values), values)


@pytest.mark.parametrize("space", ["Display P3 - Display", "P3-D65 - Display", "sRGB Encoded P3-D65"])
def test_what_rec709_holds_of_another_display_comes_back_to_full_white(space):
    color, display = colored(space), cube(17)
    plate = color.from_model(display)
    assert plate.min() >= 0
    assert plate.max() <= 1
    assert np.abs(color.to_model(plate) - display).max() < 1e-5
    assert np.array_equal(color.to_display(plate), color.to_model(plate))
    assert invertibility(color, plate).share == 1.0


def test_display_p3_is_shown_by_its_published_matrix():
    """P3 and sRGB share curve and white; the rows are those of the linear P3-D65 to sRGB matrix."""
    color = colored("Display P3 - Display")
    code = np.array([[0.5, 0.4, 0.3]], np.float32)
    light = ((code + 0.055) / 1.055) ** 2.4
    rows = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
    expected = 1.055 * (light @ rows.T) ** (1 / 2.4) - 0.055
    assert np.abs(color.to_model(code) - expected).max() < 2e-4


@pytest.mark.parametrize(
    ("space", "last", "mean"),
    [
        ("Rec.2100-PQ - Display", 0.71, 1e-4),
        ("Rec.2100-HLG - Display", 0.94, 1e-4),
        ("ST2084-P3-D65 - Display", 0.71, 2e-3),
        ("Display P3 HDR - Display", 1.0, 2e-3),
    ],
)
def test_hdr_plates_come_back_to_where_the_ceiling_is(space, last, mean):
    """`last` is the brightest code of the grey ramp that does; the display cube does on the whole."""
    color = colored(space)
    ramp = np.repeat(np.linspace(0, last, 400, dtype=np.float32)[:, None], 3, axis=1)
    assert np.abs(color.from_model(color.to_model(ramp)) - ramp).max() * 1023 <= 0.5
    display = cube(17)
    plate = color.from_model(display)
    assert plate.min() >= 0
    assert np.abs(color.to_model(plate) - np.minimum(display, CEILING)).mean() <= mean


@pytest.mark.parametrize("tone", ["aces2", "shoulder"])
def test_pq_and_hlg_of_one_light_are_one_picture(tone):
    """Grey of so many nits by the formulas of BT.2100, HLG on a display of 1000 nits."""
    nits = np.geomspace(1, 500, 40)
    power = (nits / 10000) ** 0.1593017578125
    pq = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    scene = (nits / 1000) ** (1 / 1.2)
    above = np.log(12 * np.maximum(scene, 1 / 12) - 0.28466892)
    hlg = np.where(scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * above + 0.55991073)
    shown = [
        colored(space, tone).to_model(np.repeat(codes[:, None], 3, axis=1))
        for space, codes in (("Rec.2100-PQ - Display", pq), ("Rec.2100-HLG - Display", hlg))
    ]
    assert np.abs(shown[0] - shown[1]).max() < 1e-3
    assert 0.5 < shown[0][-1, 0] < 1


@pytest.mark.parametrize("tone", ["aces2", "shoulder"])
@pytest.mark.parametrize(
    "space", ["ACEScg", "ARRI LogC4", "ACEScct", "ADX10", "Rec.2100-PQ - Display", "Rec.2100-HLG - Display"]
)
def test_nothing_in_a_plate_upsets_the_model(space, tone):
    wild = np.array([[np.nan, 0.5, 0.5], [np.inf, -np.inf, 0.1], [-1, 0.5, 0.5], [65504] * 3, [-65504] * 3], np.float32)
    kept = wild.copy()
    color = colored(space, tone)
    for shown in (color.to_model(wild), color.to_display(wild), colored("sRGB - Display").to_model(wild)):
        assert np.isfinite(shown).all()
        assert shown.min() >= 0
        assert shown.max() <= 1
        assert shown[3].min() > 0.9, "too bright is white"
        assert shown[4].max() < 0.1, "too dark is black"
    assert np.array_equal(wild, kept, equal_nan=True), "the plate's own values are left alone"


def test_any_layout_of_array_is_taken():
    color = colored("ACEScg")
    values = np.random.default_rng(1).random((6, 8, 3))
    straight = color.to_model(values.astype(np.float32))
    assert np.array_equal(color.to_model(values), straight)
    assert np.array_equal(color.to_model(np.asfortranarray(values.astype(np.float32))), straight)
    assert np.array_equal(color.to_model(values[::-1].astype(np.float32))[::-1], straight)
    assert np.array_equal(color.to_model(values.reshape(-1, 3)), straight.reshape(-1, 3))
    back = color.from_model(straight)
    assert np.array_equal(color.from_model(np.asfortranarray(straight)), back)


@pytest.mark.parametrize("tone", ["aces2", "shoulder"])
def test_the_movie_shows_what_a_rec709_monitor_shows(tone):
    """The same light from both displays: sRGB decoded by its own curve, BT.1886 by a power of 2.4."""
    scene = np.random.default_rng(4).uniform(0.02, 1, (50, 3)).astype(np.float32)
    srgb, video = colored("ACEScg").to_model(scene), colored("ACEScg", tone).to_display(scene)
    light = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    assert np.abs(video**2.4 - light).max() < 1e-3


# ------------------------------------------------------------------- what does not come back


def test_a_plate_within_the_display_comes_back_and_nobody_is_told():
    random = np.random.default_rng(5)
    plate = np.exp2(random.uniform(-9, 2, (48, 64, 1))).astype(np.float32) * np.array([1.0, 0.9, 0.8], np.float32)
    share = invertibility(colored("ACEScg"), plate)
    assert (share.share, share.relative) == (1.0, True)
    assert share.worst < 1e-3
    assert doubts(colored("ACEScg"), plate) is None
    plate[0, 0] = np.nan
    assert invertibility(colored("ACEScg"), plate) == replace(
        share, worst=invertibility(colored("ACEScg"), plate).worst
    )
    assert invertibility(colored("ACEScg"), np.full((2, 2, 3), np.nan, np.float32)).share == 1.0


def test_a_plate_beyond_the_display_is_told_with_the_shoulder_as_the_way_out():
    plate = np.zeros((40, 50, 3), np.float32)
    plate[:20], plate[20:] = [0.2, 0.1, 0.1], [3.0, 0.2, 0.1]
    found = invertibility(colored("ACEScg"), plate)
    assert found.share == 0.5
    assert found.worst > 0.01
    words = doubts(colored("ACEScg"), plate)
    assert words is not None
    assert "only 50.0%" in words
    assert "`tone: shoulder` 100.0% come back" in words
    assert doubts(colored("ACEScg", "shoulder"), plate) is None
    bright = np.full((4, 4, 3), 60.0, np.float32)
    words = doubts(colored("ACEScg"), bright)
    assert words is not None
    assert "shoulder" not in words, "it brings back no more"


def test_coded_plates_are_judged_by_half_a_code():
    below_black = np.full((8, 8, 3), 0.02, np.float32)
    below_black[:6] = 0.4
    found = invertibility(colored("ARRI LogC3 (EI800)"), below_black)
    assert (found.share, found.relative) == (0.75, False)
    assert found.worst == pytest.approx((0.0928 - 0.02) * 1023, abs=1)
    wide = np.broadcast_to(np.array([1.0, 0.0, 0.0], np.float32), (4, 4, 3))
    words = doubts(colored("Display P3 - Display"), wide)
    assert words is not None
    assert "half a 10-bit code" in words
    assert "shoulder" not in words
    assert doubts(colored("sRGB - Display"), wide) is None


def test_a_large_plate_is_judged_by_an_even_grid():
    plate = np.full((1, 1, 3), 60.0, np.float32) * np.ones((600, 800, 1), np.float32)
    plate[:, :400] = 0.2
    assert invertibility(colored("ACEScg"), plate).share == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("name", "space", "share"),
    [
        ("Carrots", "ACES2065-1", 1.0),
        ("Rec709", "Linear Rec.709 (sRGB)", 0.999),
        ("WideColorGamut", "Linear Rec.709 (sRGB)", 0.849),
        ("BrightRings", "Linear Rec.709 (sRGB)", 0.902),
    ],
)
def test_the_pictures_of_others_come_back_as_was_measured(media, name, space, share):
    """The shares of colour.md §2, each in the space the file says."""
    rgb = exr.display_rgb(exr.read(media / "exr" / f"{name}.exr"))
    assert invertibility(colored(space), rgb).share == pytest.approx(share, abs=0.03)


def test_an_edit_that_names_a_space_nobody_has_leaves_it_to_the_file(found):
    decision = decided(tagged(found, "exr", "colorInteropID", "lin_ap1_scene"), editorial="Gamma2.2")
    assert decision.space == "ACEScg"
    assert any("'Gamma2.2'" in warning and "decides nothing" in warning for warning in decision.warnings)
