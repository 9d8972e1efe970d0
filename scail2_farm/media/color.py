"""Plate colour <-> model colour, and how a plate's space was decided.

The model wants what a viewer sees: sRGB code values in 0..1. Each kind of plate has its own way there and back:

    scene  scene-linear, camera log        the ACES 2.0 SDR view, and its inverse below a display ceiling
    sdr    Rec.709 code values             as they are, both ways: the model was trained on them
           other SDR (Display P3 ...)      colorimetric: a matrix and two curves, clipped to Rec.709
    hdr    PQ, HLG                         colorimetric to PQ, the inverse of the ACES 2.0 view for 1000 nits, then the
                                           SDR view; and back the same way

The ceiling is 0.975, because the inverse of display white is 128 times white, and the model's noise there would burst
(colour.md §2). ACES 2.0 and not a reversible tone curve, because the model invents saturated display colours, and every
other curve measured inverts those to negative or enormous light; `tone="shoulder"` is that curve, for those who ask.
Display P3 by a matrix and not by its own view: what lies inside Rec.709 comes back exactly, to full white, and nothing
is mapped twice. HLG by PQ and not by the one view the config has for it, which stops at P3: the display cube comes back
with a twentieth of the error.

The views are those of the pinned built-in config, whichever config has the plate's space (`spaces`). A space is said
by people or by the file, never guessed; the one exception, an SDR movie without tags, comes with a warning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from scail2_farm.documents import Tone
from scail2_farm.errors import ColorSpaceUnknown, Where
from scail2_farm.frames import FramePattern
from scail2_farm.media.canvas import finite
from scail2_farm.media.plates import ColorTag, PlateProbe
from scail2_farm.media.spaces import (
    OCIO_FAULTS,
    SCENE,
    ColorConfig,
    Kind,
    Space,
    find,
    knows,
    load_config,
    ocio,
    pinned,
    same_picture,
    unconvertible,
    unknown,
)

LINEAR = "Linear Rec.709 (sRGB)"
CODED = "sRGB Encoded Rec.709 (sRGB)"
MODEL_DISPLAY = "sRGB - Display"
MOVIE_DISPLAY = "Rec.1886 Rec.709 - Display"
HDR_DISPLAY = "Rec.2100-PQ - Display"
VIEW = "ACES 2.0 - SDR 100 nits (Rec.709)"
HDR_VIEW = "ACES 2.0 - HDR 1000 nits (Rec.2020)"
HDR_VIEW_OF_P3 = "ACES 2.0 - HDR 1000 nits (P3 D65)"
P3_DISPLAYS = ("ST2084-P3-D65 - Display", "Display P3 HDR - Display")
CEILING = 0.975  # of the display value that is inverted: 16 times white
SHOULDER_FROM = 0.5
SHOULDER_TO = 16.0
HDR_PEAK, HDR_WHITE = 1000.0, 203.0  # nits: of the view, and of what graphics call white (BT.2408)

RELATIVE = 0.01  # of the brightest channel: what a scene-linear pixel may be off and still count as come back
CODES = 0.5  # of 1023: the same for a coded one
FAINT = 1e-3  # light below which a relative error says nothing
ENOUGH = 0.98  # share of a picture that must come back before nobody is told
MOST_PIXELS = 1 << 16  # of a picture are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What people say of a plate's space, each a name: for this media, on its clip, and for its kind of file."""

    manifest: str | None = None
    editorial: str | None = None
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorDecision:
    """The space of a plate, by its name in `config`, and what decided it.

    `config` and `config_digest` are ColorConfig's name and digest. `encoding` is OCIO's word for how values are coded
    (scene-linear, log, sdr-video, hdr-video): a scene-linear picture is enlarged in log. `interop_id` is the name EXR's
    colorInteropID attribute has for the space, "" for none. `warnings` are what contradicts the decision.
    """

    config: str
    config_digest: str
    space: str
    kind: Kind
    decided_by: str
    encoding: str
    interop_id: str
    warnings: tuple[str, ...] = ()

    @classmethod
    def named(cls, space: str, *, config: str, config_digest: str, decided_by: str) -> ColorDecision:
        """The decision a plan already took, from what a Segment carries of it.

        Raises ColorSpaceUnknown for a config that is not what it was, or for a name that is no supported space of it;
        StorageError.
        """
        loaded = load_config(config)
        if loaded.digest != config_digest:
            raise ColorSpaceUnknown(
                f"the OCIO config {config} is not what it was when the shot was planned",
                why="takes of one plan are rendered with one config, down to its lookup tables",
                fix="submit again: the plan is made anew, with the config as it is now",
                where=Where(file=config),
            )
        return _decision(find(space, loaded, Where()), decided_by)


# --------------------------------------------------------------------------- deciding


def decide(probe: PlateProbe, *, said: Said, config: ColorConfig) -> ColorDecision:
    """The colour space of a plate; who speaks first is believed.

    In order: the manifest, the edit, the file, the file rules of the show's own config, the default of the project for
    this kind of file, and for a movie without tags Rec.709 video. A name is looked up in `config`, then among those of
    the built-in one. What the file or the edit says to the contrary is a warning, except for the tags of a movie in
    camera log, which have no word for it. What the probe warns of is not repeated.

    Raises ColorSpaceUnknown: for a name nobody knows (with the nearest), a space that is not supported (data), a space
    that cannot be converted both ways, and when nobody says.
    """
    where = Where(file=probe.source)
    in_file, remark = _of_tag(probe, config)
    in_edit, strange = _of_edit(said.editorial, config)
    explicit = (
        ("the manifest", said.manifest, said.manifest),
        ("the edit", in_edit, in_edit),
        ("the file", in_file, str(probe.color_tag)),
    )
    spoken = [(source, name, value or name) for source, name, value in explicit if name is not None]
    if spoken:
        source, name, value = spoken[0]
        space = find(name, config, where)
        against = (*strange, *_contradictions(space, spoken, config, probe))
        return _usable(_decision(space, _words(source, value, space, config), against), where)
    notes = (*strange, f"{remark}; that decides nothing") if remark else strange
    for source, name, value in _implicit(probe, said, config):
        space = find(name, config, where)
        if source == UNTAGGED:
            notes += ("the movie does not say its colour: taken as Rec.709 video; if it is not, name its space",)
        return _usable(_decision(space, _words(source, value, space, config), notes), where)
    raise _unsaid(probe, "; ".join([remark, *strange] if remark else strange))


UNTAGGED = "the rule for movies without tags"


def _of_edit(name: str | None, config: ColorConfig) -> tuple[str | None, tuple[str, ...]]:
    """The space an edit names; one of a config that nobody here has, such as an NLE's own, is a warning."""
    if name is None or knows(name, config):
        return name, ()
    return None, (f"what the edit says of its colour decides nothing: {unknown(name, config)}",)


def _implicit(probe: PlateProbe, said: Said, config: ColorConfig) -> Iterator[tuple[str, str, str]]:
    """Who else may decide, in order: source, name of the space, and the source's own words."""
    if config.digest:
        pattern = FramePattern.parse(probe.source)
        path = str(pattern.path(probe.frames.first)) if pattern else probe.source
        if not config.own.filepathOnlyMatchesDefaultRule(path):
            name, index = config.own.getColorSpaceFromFilepath(path)
            yield f"file rule {config.own.getFileRules().getName(index)!r} of {config.title}", name, name
    if said.default is not None:
        yield f"the default for {KINDS[probe.kind]}", said.default, said.default
    if probe.kind == "movie" and (probe.color_tag is None or _unspecified(probe.color_tag)):
        yield UNTAGGED, MOVIE_DISPLAY, f"{MOVIE_DISPLAY}, {probe.height} lines"


def _words(source: str, value: str, space: Space, config: ColorConfig) -> str:
    """What decided, as a report tells it."""
    return f"{source}: {value}" + ("" if space.config == config else f" (of {space.config.title})")


def _decision(space: Space, decided_by: str, warnings: tuple[str, ...] = ()) -> ColorDecision:
    return ColorDecision(
        config=space.config.name,
        config_digest=space.config.digest,
        space=space.name,
        kind=space.kind,
        decided_by=decided_by,
        encoding=space.encoding,
        interop_id=space.interop_id,
        warnings=warnings,
    )


def _contradictions(
    space: Space, spoken: list[tuple[str, str, str]], config: ColorConfig, probe: PlateProbe
) -> Iterator[str]:
    """What those say who were not asked any more, where it would have been another picture."""
    first = spoken[0][0]
    for source, name, value in spoken[1:]:
        tag = probe.color_tag
        no_word_for_it = source == "the file" and tag is not None and tag.source == "nclc" and space.encoding == "log"
        if not no_word_for_it and not same_picture(name, space, config):
            yield f"{first} says {space.name}, {source} says {value}: {first} is believed"


def _usable(decision: ColorDecision, where: Where) -> ColorDecision:
    """The decision, when its space converts both ways; those of the built-in config do."""
    if decision.config_digest:
        try:
            ModelColor(decision)
        except OCIO_FAULTS as error:
            raise unconvertible(decision.space, decision.config, error, where) from error
    return decision


KINDS = {"exr": "EXR", "dpx": "DPX", "tiff": "TIFF", "png": "PNG", "movie": "movies"}
LIKELY = {"exr": "ACEScg", "dpx": "ARRI LogC3 (EI800)", "movie": "ARRI LogC4"}


def _unsaid(probe: PlateProbe, remark: str) -> ColorSpaceUnknown:
    kind = {"movie": "movie"}.get(probe.kind, KINDS[probe.kind])
    name = Path(probe.source).name
    likely = LIKELY.get(probe.kind, MODEL_DISPLAY)
    fix = (
        f"ask whoever made it, and name its space in the manifest, as in color: {{spaces: [{{media: '{name}', "
        f"space: {likely}}}]}}, or of all such files, as in color: {{defaults: {{{probe.kind}: {likely}}}}}"
    )
    what = f"the {kind} does not say its colour space" + (f": {remark}" if remark else "")
    return ColorSpaceUnknown(what, fix=fix, where=Where(file=probe.source))


# --------------------------------------------------------------------------- what files say

UNSAID = (0, 2)
SDR_TRANSFERS = (1, 6)  # BT.709, BT.601: one curve
PROFILES = {
    "srgb": MODEL_DISPLAY,
    "srgbiec6196621": MODEL_DISPLAY,
    "srgb2014": MODEL_DISPLAY,
    "srgbbuiltin": MODEL_DISPLAY,
    "gimpbuiltinsrgb": MODEL_DISPLAY,
    "displayp3": "Display P3 - Display",
    "rec709": MOVIE_DISPLAY,
    "bt709": MOVIE_DISPLAY,
    "iturbt709": MOVIE_DISPLAY,
    "iturbt7095": MOVIE_DISPLAY,
}
"""ICC profiles by their names in small letters and digits."""

REC709 = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)

DPX_OF_VIDEO = ("ITU-R 709", "ITU-R 601", "SMPTE 274M")  # how its transfer words begin
DPX_OF_FILM = {"uint10": "ADX10", "uint16": "ADX16"}  # of the word ADX (SMPTE ST 2065-3)


def _of_tag(probe: PlateProbe, config: ColorConfig) -> tuple[str | None, str]:
    """The space a file's tag stands for; or None and, when the tag says something, why it decides nothing."""
    tag = probe.color_tag
    if tag is None or _unspecified(tag):
        return None, ""
    name = DPX_OF_FILM.get(probe.pixel_type) if tag == ColorTag("dpx", "ADX") else _meant(tag)
    if name is not None and knows(name, config):
        return name, ""
    return None, f"{tag.source} {tag.value} in it names no space that is known"


def _meant(tag: ColorTag) -> str | None:
    """The space's name, of a tag that says something."""
    if tag.source in ("nclc", "cICP"):
        return _of_code_points(tag.value)
    if tag.source == "iCCP":
        return PROFILES.get(re.sub(r"[^a-z0-9]", "", tag.value.lower()))
    if tag.source == "sRGB":
        return MODEL_DISPLAY
    if tag.source == "gAMA":
        return _of_gamma(tag.value)
    if tag.source == "dpx":
        return MOVIE_DISPLAY if tag.value.startswith(DPX_OF_VIDEO) else None
    return tag.value


def _unspecified(tag: ColorTag) -> bool:
    """Whether a movie's tags are there and say nothing."""
    return tag.source == "nclc" and all(int(part) in UNSAID for part in tag.value.split("/")[:2])


def _of_gamma(value: str) -> str | None:
    """The space of a PNG's gamma, and the chromaticities of its white, red, green and blue when it says them."""
    gamma, *primaries = (float(number) for number in value.split())
    of_displays = math.isclose(gamma, 1 / 2.2, abs_tol=1e-3)
    as_rec709 = all(math.isclose(a, b, abs_tol=2e-3) for a, b in zip(primaries, REC709, strict=False))
    return "Gamma 2.2 Rec.709 - Display" if of_displays and as_rec709 else None


def _of_code_points(value: str) -> str | None:
    """The space that primaries/transfer/matrix stand for (ITU-T H.273; colour.md, the nclc map)."""
    if value.endswith("narrow"):
        return None  # a still whose codes leave room at both ends, which no space of ours says
    primaries, transfer = (int(part) for part in value.split("/")[:2])
    rec709ish = primaries in (1, 5, 6, *UNSAID)
    found = {
        (9, 16): HDR_DISPLAY,
        (9, 18): "Rec.2100-HLG - Display",
        (12, 16): "ST2084-P3-D65 - Display",
        (12, 13): "Display P3 - Display",
    }.get((primaries, transfer))
    if rec709ish and (transfer in SDR_TRANSFERS or transfer in UNSAID):
        found = MOVIE_DISPLAY
    if rec709ish and transfer == 13:
        found = MODEL_DISPLAY
    if rec709ish and transfer == 4:
        found = "Gamma 2.2 Rec.709 - Display"
    return found


# --------------------------------------------------------------------------- converting


class ModelColor:
    """The way to the model and back for plates of one space.

    All ways take and give (..., 3) float32 and leave their argument alone; OpenColorIO lets other threads run.

    `tone` chooses how scene-referred and HDR plates are shown to the model; for SDR it changes nothing. "aces2" is the
    ACES 2.0 SDR view. "shoulder" is, on linear Rec.709 light (of HDR: 1.0 is 203 nits):

        the ACES 1.3 gamut compression with limits 1.7, thresholds .8 and power 1.2 for all three, then per channel
        f(x) = x                           up to a = 0.5
        f(x) = a + s ln(1 + (x - a) / s)   above, with s such that f(M) = 1, and M = 16 (of HDR: 1000 / 203)
        and the sRGB curve

    f and its slope are continuous, and plates come back from it to M. What the model invents comes back brighter and
    more saturated than from ACES 2.0; what of it would be negative light is clamped to 0: in ACEScg, and in the space
    of a log or HDR plate itself.
    """

    def __init__(self, decision: ColorDecision, *, tone: Tone = "aces2"):
        self.decision = decision
        self.tone: Tone = tone
        self._ways = _ways(find(decision.space, load_config(decision.config), Where()), tone)
        self._ceiling = CEILING if tone == "aces2" and decision.kind != "sdr" else 1.0

    def to_model(self, rgb: np.ndarray) -> np.ndarray:
        """Plate values -> sRGB in 0..1.

        NaN, Inf and codes far off any scale are made harmless first. Negatives are colours outside the space's gamut:
        the view maps them into the display's, where clamping them beforehand would turn their hue.
        """
        return self._shown(self._ways and self._ways.to_model, rgb)

    def from_model(self, srgb: np.ndarray) -> np.ndarray:
        """sRGB in 0..1 -> plate values; below the display ceiling, when it is the ACES 2.0 view that is inverted.

        Video codes are kept in their range, and log codes that the shoulder gives at black or above.
        """
        if self._ways is None:
            return srgb.astype(np.float32)
        values = np.array(srgb, np.float32, order="C", copy=True)
        self._ways.from_model.applyRGB(np.clip(values, 0.0, self._ceiling, out=values))
        return np.clip(values, self._ways.least, self._ways.most, out=values)

    def to_display(self, rgb: np.ndarray) -> np.ndarray:
        """Plate values -> Rec.709 video in 0..1, what people look at: the movie is tagged so, and sheets show it.

        Always by the ACES 2.0 view. An SDR plate's code values are its own.
        """
        return self._shown(self._ways and self._ways.to_display, rgb)

    def _shown(self, way: Any, rgb: np.ndarray) -> np.ndarray:
        """A converted copy in 0..1; OpenColorIO works in place and only on contiguous float32."""
        values = np.array(finite(rgb), np.float32, order="C", copy=True)
        if way is not None:
            way.applyRGB(np.clip(values, *SENSIBLE.get(self.decision.encoding, (None, None)), out=values))
        return np.clip(values, 0.0, 1.0, out=values)


SENSIBLE = {"log": (-1.0, 2.0), "hdr-video": (-0.1, 1.1)}
"""Codes beyond these are no light, and their curves overflow."""


@dataclass(frozen=True, slots=True)
class _Ways:
    """OpenColorIO's own of each way, ready to be applied; and the range of what comes from the model."""

    to_model: Any
    from_model: Any
    to_display: Any
    least: float
    most: float


@lru_cache(maxsize=32)
def _ways(space: Space, tone: Tone) -> _Ways | None:
    """The ways of a space; None where code values are taken as they are."""
    if space.identity:
        return None
    own = space.config.own
    on_display = own.getColorSpace(space.name).getReferenceSpaceType() == ocio.REFERENCE_SPACE_DISPLAY
    sdr = MODEL_DISPLAY if on_display else CODED
    meeting = {"scene": SCENE, "hdr": HDR_DISPLAY, "sdr": sdr}[space.kind]
    if space.config == pinned():
        arriving, leaving = _cast(space.name, meeting), _cast(meeting, space.name)
    else:
        arriving = ocio.Config.GetProcessorFromConfigs(own, space.name, pinned().own, meeting).createGroupTransform()
        leaving = ocio.Config.GetProcessorFromConfigs(pinned().own, meeting, own, space.name).createGroupTransform()
    to_scene, from_scene = [], []
    if space.kind == "hdr":
        view = HDR_VIEW_OF_P3 if space.twin in P3_DISPLAYS else HDR_VIEW
        to_scene, from_scene = [_view(HDR_DISPLAY, view, inverse=True)], [_view(HDR_DISPLAY, view)]
    if space.kind == "sdr":
        there, back, seen = [], [], []
    elif tone == "shoulder":
        there, back = _shoulder_ways(space.kind)
        seen = [*to_scene, _view(MOVIE_DISPLAY)]
    else:
        there = [*to_scene, _view(MODEL_DISPLAY)]
        back = [_view(MODEL_DISPLAY, inverse=True), *from_scene]
        seen = [*to_scene, _view(MOVIE_DISPLAY)]
    home = _ready(*back, leaving)
    black = np.zeros((1, 3), np.float32)
    home.applyRGB(black)
    bounded = space.kind != "scene" or (space.encoding == "log" and tone == "shoulder")
    least = float(black.min()) if bounded else -math.inf
    most = 1.0 if space.encoding in ("sdr-video", "hdr-video") else math.inf
    return _Ways(_ready(arriving, *there), home, _ready(arriving, *seen), least, most)


def _shoulder_ways(kind: Kind) -> tuple[list[Any], list[Any]]:
    """From where the kind's plates meet the built-in config to sRGB by the soft shoulder, and back."""
    forwards, backwards = ocio.TRANSFORM_DIR_FORWARD, ocio.TRANSFORM_DIR_INVERSE
    if kind == "scene":
        to_linear = [_cast(SCENE, LINEAR)]
        positive = ocio.RangeTransform(minInValue=0.0, minOutValue=0.0)
        from_linear = [_cast(LINEAR, "ACEScg"), positive, _cast("ACEScg", SCENE)]
        curve = _shoulder(SHOULDER_TO)
    else:  # the display's curve, mirrored below 0, is undone; 1.0 is 100 nits there
        to_linear = [_cast(HDR_DISPLAY, MODEL_DISPLAY), _srgb_curve(backwards), _scaled(100.0 / HDR_WHITE)]
        from_linear = [_scaled(HDR_WHITE / 100.0), _srgb_curve(forwards), _cast(MODEL_DISPLAY, HDR_DISPLAY)]
        curve = _shoulder(HDR_PEAK / HDR_WHITE)
    limits = [1.7, 1.7, 1.7, 0.8, 0.8, 0.8, 1.2]
    compress = ocio.FixedFunctionTransform(ocio.FIXED_FUNCTION_ACES_GAMUT_COMP_13, limits)
    expand = ocio.FixedFunctionTransform(ocio.FIXED_FUNCTION_ACES_GAMUT_COMP_13, limits, backwards)
    uncurved = ocio.GroupTransform([curve], backwards)
    there = [*to_linear, compress, curve, _cast(LINEAR, CODED)]
    return there, [_cast(CODED, LINEAR), uncurved, expand, *from_linear]


def _shoulder(peak: float) -> Any:
    """The soft shoulder f (see ModelColor) that reaches 1 at `peak`."""
    start = SHOULDER_FROM
    low, high = 1e-6, peak
    while high - low > 1e-12:
        scale = (low + high) / 2
        low, high = (low, scale) if start + scale * math.log1p((peak - start) / scale) > 1 else (scale, high)
    each = [1.0, 1.0, 1.0]
    return ocio.LogCameraTransform(
        linSideBreak=[start] * 3,
        base=math.e,
        logSideSlope=[high] * 3,
        logSideOffset=[start] * 3,
        linSideSlope=[1 / high] * 3,
        linSideOffset=[1 - start / high] * 3,
        linearSlope=each,
    )


def _srgb_curve(direction: Any) -> Any:
    """Light -> sRGB code, or the inverse; negatives as their mirror image."""
    decoding = ocio.CombineTransformDirections(direction, ocio.TRANSFORM_DIR_INVERSE)
    gamma, offset = [2.4, 2.4, 2.4, 1], [0.055, 0.055, 0.055, 0]
    return ocio.ExponentWithLinearTransform(gamma, offset, ocio.NEGATIVE_MIRROR, decoding)


def _cast(source: str, target: str) -> Any:
    """From one space of the built-in config to another, colorimetrically."""
    return ocio.ColorSpaceTransform(src=source, dst=target)


def _view(display: str, view: str = VIEW, *, inverse: bool = False) -> Any:
    direction = ocio.TRANSFORM_DIR_INVERSE if inverse else ocio.TRANSFORM_DIR_FORWARD
    return ocio.DisplayViewTransform(src=SCENE, display=display, view=view, direction=direction)


def _scaled(factor: float) -> Any:
    return ocio.MatrixTransform(matrix=[factor, 0, 0, 0, 0, factor, 0, 0, 0, 0, factor, 0, 0, 0, 0, 1])


def _ready(*transforms: Any) -> Any:
    """Applied without shortcuts: the default ones are ten times less exact and hardly faster."""
    whole = pinned().own.getProcessor(ocio.GroupTransform(list(transforms)))
    return whole.getOptimizedCPUProcessor(ocio.OPTIMIZATION_LOSSLESS)


# --------------------------------------------------------------------------- what does not come back


@dataclass(frozen=True, slots=True)
class Invertibility:
    """How much of a plate survives the way to the model and back.

    `share` of its pixels are within tolerance, `worst` is the largest error of one: of scene-linear values relative to
    the brightest channel (tolerance 1 %), of all others in 10-bit codes (tolerance half a code).
    """

    share: float
    worst: float
    relative: bool

    @property
    def tolerance(self) -> str:
        """In words, what is still called come back."""
        return "1 %" if self.relative else "half a 10-bit code"

    @property
    def worst_in_words(self) -> str:
        """The largest error, in its unit."""
        return f"{self.worst:.0%}" if self.relative else f"{self.worst:.1f} codes"


def invertibility(color: ModelColor, rgb: np.ndarray) -> Invertibility:
    """How much of a plate picture (H, W, 3) comes back, judged by an even grid of at most 65536 of its pixels."""
    step = math.isqrt(max(0, rgb.shape[0] * rgb.shape[1] - 1) // MOST_PIXELS) + 1
    plate = rgb[::step, ::step].reshape(-1, 3).astype(np.float32)
    plate = plate[np.isfinite(plate).all(axis=1)]
    relative = color.decision.encoding == "scene-linear"
    if not len(plate):
        return Invertibility(1.0, 0.0, relative)
    error = np.abs(color.from_model(color.to_model(plate)) - plate).max(axis=1)
    error = error / np.maximum(np.abs(plate).max(axis=1), FAINT) if relative else error * 1023
    return Invertibility(float((error <= (RELATIVE if relative else CODES)).mean()), float(error.max()), relative)


def doubts(color: ModelColor, rgb: np.ndarray) -> str | None:
    """What a submitter should know of a plate picture (H, W, 3) when too little of it comes back; else None."""
    found = invertibility(color, rgb)
    if found.share >= ENOUGH:
        return None
    words = (
        f"only {found.share:.1%} of its pixels come back from the model's display within {found.tolerance}, the worst "
        f"is off by {found.worst_in_words}: the others are too bright, too dark or too saturated for it. Outside the "
        "mattes the plate's own pixels stay; inside them such colours are lost"
    )
    if color.tone == "shoulder" or color.decision.kind == "sdr":
        return words
    other = invertibility(ModelColor(color.decision, tone="shoulder"), rgb)
    return f"{words}; with `tone: shoulder` {other.share:.1%} come back" if other.share > found.share else words
