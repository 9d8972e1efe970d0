"""Plate colour <-> model colour, and how a plate's space was decided.

The model wants what a viewer sees: sRGB code values in 0..1. A display-referred SDR plate is that already and goes
through unchanged, both ways. A scene-referred plate goes through the ACES 2.0 SDR view and back through its inverse,
below a ceiling of 0.975: the inverse of display white is 128 times white, and the model's noise there would burst
(colour.md §2). ACES 2.0 and not a reversible tone curve, because the model invents saturated display colours, and
every other curve measured inverts those to negative or enormous light.

Spaces are those of one pinned OCIO config. `ocio://default` has no camera spaces, and `latest` differs between
library versions. A space is read from the manifest or the file, never guessed; the one exception, an untagged SDR
movie, comes with a warning in its probe.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import PyOpenColorIO

from scail2_farm.errors import ColorSpaceUnknown, Where
from scail2_farm.media.canvas import finite
from scail2_farm.media.plates import PlateProbe

ocio: Any = PyOpenColorIO  # ships no types; `Any` stops at this module
CONFIG = "ocio://studio-config-v4.0.0_aces-v2.0_ocio-v2.5"
VIEW = "ACES 2.0 - SDR 100 nits (Rec.709)"
MODEL_DISPLAY = "sRGB - Display"
MOVIE_DISPLAY = "Rec.1886 Rec.709 - Display"
CEILING = 0.975  # of the display value that is inverted: 16 times white
IDENTITY_SPACES = (
    "sRGB - Display",
    "Rec.1886 Rec.709 - Display",
    "Gamma 2.2 Rec.709 - Display",
    "Camera Rec.709",
    "sRGB Encoded Rec.709 (sRGB)",
    "Gamma 2.2 Encoded Rec.709",
    "Gamma 2.4 Encoded Rec.709",
)
"""SDR pictures with Rec.709 primaries: the model was trained on their code values as they are."""

SDR_TRANSFERS = (1, 6, 14, 15)  # BT.709, BT.601, BT.2020 10 and 12 bit: one curve
UNSAID = (0, 2)


@dataclass(frozen=True, slots=True)
class ColorDecision:
    """The space of a plate, by its name in `config`, and what decided it.

    `encoding` is OCIO's word for how values are coded (scene-linear, log, sdr-video): a scene-linear picture is
    enlarged in log. `interop_id` is the name EXR's colorInteropID attribute has for the space.
    """

    config: str
    space: str
    kind: Literal["scene", "display"]
    decided_by: str
    encoding: str
    interop_id: str

    @classmethod
    def named(cls, space: str, *, config: str, decided_by: str) -> ColorDecision:
        """The decision a plan already took, from what a Segment carries of it.

        Raises ColorSpaceUnknown for another config, or for a name that is no supported space of it.
        """
        if config != CONFIG:
            raise ColorSpaceUnknown(f"the plan is for the OCIO config {config}, this version has {CONFIG}")
        return _decision(space, decided_by, Where())


# --------------------------------------------------------------------------- deciding


def decide(*, manifest_space: str | None, probe: PlateProbe) -> ColorDecision:
    """The colour space of a plate: from the manifest, else from what the file says, else Rec.709 for an SDR movie.

    Raises ColorSpaceUnknown: for a name the config does not know (with the nearest), a space that is not supported
    (data, HDR or wide-gamut display), and for a file that does not say.
    """
    where = Where(file=probe.source)
    if manifest_space is not None:
        return _decision(manifest_space, "the manifest", where)
    tag = probe.color_tag
    if tag is None and probe.kind == "movie":
        return _decision(MOVIE_DISPLAY, f"the rule for untagged movies ({probe.height} lines)", where)
    if tag is None:
        raise ColorSpaceUnknown("the EXR does not say its colour space", where=where)
    if tag.source == "nclc":
        return _decision(_of_nclc(tag.value, where), f"the file: nclc {tag.value}", where)
    if tag.source == "chromaticities" and _config().getColorSpace(tag.value) is None:
        what = f"the chromaticities of the EXR ({tag.value}) are of no linear space that has a name"
        raise ColorSpaceUnknown(what, where=where)
    return _decision(tag.value, f"the file: {tag}", where)


def _decision(name: str, decided_by: str, where: Where) -> ColorDecision:
    found = _config().getColorSpace(name)
    if found is None:
        near = difflib.get_close_matches(name.lower(), list(_names()), n=3, cutoff=0.5)
        nearest = list(dict.fromkeys(_names()[key] for key in near))
        hint = f"; the nearest: {', '.join(nearest)}" if nearest else ""
        raise ColorSpaceUnknown(f"the config has no colour space {name!r}{hint}", where=where)
    if found.isData():
        raise ColorSpaceUnknown(f"{found.getName()} is data, not colour", where=where)
    is_display = found.getReferenceSpaceType() == ocio.REFERENCE_SPACE_DISPLAY
    if found.getName() not in IDENTITY_SPACES and (is_display or found.getEncoding() == "hdr-video"):
        what = f"{found.getName()} is an HDR or wide-gamut display space, which is not supported as a plate"
        fix = "convert the plate to a scene-referred space (ACEScg, or the camera's log) or to Rec.709 video"
        raise ColorSpaceUnknown(what, fix=fix, where=where)
    return ColorDecision(
        config=CONFIG,
        space=found.getName(),
        kind="display" if found.getName() in IDENTITY_SPACES else "scene",
        decided_by=decided_by,
        encoding=found.getEncoding(),
        interop_id=found.getInteropID(),
    )


def _of_nclc(value: str, where: Where) -> str:
    """The space that a movie's primaries/transfer/matrix stand for (colour.md, the nclc map)."""
    primaries, transfer, _ = (int(part) for part in value.split("/"))
    if transfer == 16:
        return "Rec.2100-PQ - Display"
    if transfer == 18:
        return "Rec.2100-HLG - Display"
    if primaries in (11, 12):
        return "Display P3 - Display"
    if primaries in (1, 5, 6, *UNSAID) and transfer == 13:
        return MODEL_DISPLAY
    if primaries in (1, 5, 6, *UNSAID) and (transfer in SDR_TRANSFERS or transfer in UNSAID):
        return MOVIE_DISPLAY
    raise ColorSpaceUnknown(f"the movie's colour tags {value} stand for no supported space", where=where)


@lru_cache(maxsize=1)
def _config() -> Any:
    return ocio.Config.CreateFromFile(CONFIG)


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    """Every name and alias in lower case, to the name proper."""
    names: dict[str, str] = {}
    for found in _config().getColorSpaces():
        for name in (found.getName(), *found.getAliases()):
            names.setdefault(name.lower(), found.getName())
    return names


# --------------------------------------------------------------------------- converting


class ModelColor:
    """The way to the model and back for plates of one space.

    Both ways take and give (..., 3) float32 and leave their argument alone.
    """

    def __init__(self, decision: ColorDecision):
        self.decision = decision
        self._forward: Any = None
        self._inverse: Any = None
        if decision.kind == "scene":
            self._forward = _processor(decision.space, MODEL_DISPLAY, inverse=False)
            self._inverse = _processor(decision.space, MODEL_DISPLAY, inverse=True)

    def to_model(self, rgb: np.ndarray) -> np.ndarray:
        """Plate values -> sRGB in 0..1.

        NaN and Inf are made harmless first. Negatives are colours outside the space's gamut: the view maps them into
        the display's, where clamping them beforehand would turn their hue.
        """
        clean = finite(rgb)
        if self._forward is None:
            return np.clip(clean, 0.0, 1.0)
        return np.clip(_apply(self._forward, clean), 0.0, 1.0)

    def from_model(self, srgb: np.ndarray) -> np.ndarray:
        """sRGB in 0..1 -> plate values; a scene plate's are bounded by what the display ceiling inverts to."""
        if self._inverse is None:
            return srgb.astype(np.float32)
        return _apply(self._inverse, np.clip(srgb, 0.0, CEILING))

    def to_display(self, rgb: np.ndarray) -> np.ndarray:
        """Plate values -> Rec.709 video in 0..1, what people look at: the movie is tagged so, and sheets show it.

        A display plate's code values are its own.
        """
        clean = finite(rgb)
        if self._forward is None:
            return np.clip(clean, 0.0, 1.0)
        return np.clip(_apply(_processor(self.decision.space, MOVIE_DISPLAY, inverse=False), clean), 0.0, 1.0)


@lru_cache(maxsize=32)
def _processor(name: str, display: str, *, inverse: bool) -> Any:
    transform = ocio.DisplayViewTransform(src=name, display=display, view=VIEW)
    direction = ocio.TRANSFORM_DIR_INVERSE if inverse else ocio.TRANSFORM_DIR_FORWARD
    return _config().getProcessor(transform, direction).getDefaultCPUProcessor()


def _apply(processor: Any, rgb: np.ndarray) -> np.ndarray:
    """A converted copy; OCIO works in place and only on contiguous float32."""
    values = np.array(rgb, np.float32, order="C", copy=True)
    processor.applyRGB(values)
    return values
