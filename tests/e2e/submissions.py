"""Small whole submissions: real plates, mattes, references, an OTIO cut and a manifest, written to a folder."""

import json
import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import OpenEXR
import OpenImageIO as oiio
import yaml
from PIL import Image
from safetensors.numpy import save_file

from scail2_farm.documents import SealedShot, Take, read_document
from scail2_farm.seal import seal
from scail2_farm.shots import Shot

if TYPE_CHECKING:
    from scail2_farm.job import Outcome

R = TypeVar("R")
WIDTH, HEIGHT = 80, 48
FIRST_FILE, FIRST_TC = 1001, 86400
DIM, BLOCKS = 128, 4  # of the tiny snapshot


def plate_pixels(seed: int, frame: int) -> np.ndarray:
    """A scene-linear picture with grain and a light far above 1.0, as half floats."""
    rng = np.random.default_rng([seed, frame])
    ramp = np.linspace(0.02, 0.6, WIDTH, dtype=np.float32)[None, :, None] * np.array([1.0, 0.8, 0.6], np.float32)
    picture = np.repeat(ramp, HEIGHT, axis=0) + rng.normal(0, 0.01, (HEIGHT, WIDTH, 3)).astype(np.float32)
    picture[2:6, 2:8] = 37.5
    picture[0, 0] = -0.25
    return picture.astype(np.float16)


def matte_pixels(box: tuple[int, int, int, int], size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """A box (left, top, width, height) with a soft rim, 8 bit, in a picture of a size (width, height)."""
    left, top, width, height = box
    matte = np.zeros((size[1], size[0]), np.uint8)
    matte[top : top + height, left : left + width] = 128
    matte[top + 1 : top + height - 1, left + 1 : left + width - 1] = 255
    return matte


def write_exr(path: Path, rgb: np.ndarray, *, frame: int, tag: str | None = "lin_ap1_scene") -> None:
    seconds, ff = divmod(frame, 24)
    header: dict[str, Any] = {
        "compression": OpenEXR.ZIP_COMPRESSION,
        "type": OpenEXR.scanlineimage,
        "framesPerSecond": Fraction(24),
        "timeCode": OpenEXR.TimeCode(seconds // 3600, seconds // 60 % 60, seconds % 60, ff, *[0] * 14),
        "cameraLabel": "A",
    }
    if tag:
        header["colorInteropID"] = tag
    path.parent.mkdir(parents=True, exist_ok=True)
    OpenEXR.File(header, {"RGB": rgb}).write(str(path))


def write_lora(path: Path, *, seed: int, dim: int = DIM) -> Path:
    """A LoRA of rank 4 on all self-attention queries, large enough to be seen."""
    random = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for block in range(BLOCKS):
        name = f"diffusion_model.blocks.{block}.self_attn.q"
        tensors[f"{name}.lora_down.weight"] = random.normal(0, 0.3, (4, dim)).astype(np.float32)
        tensors[f"{name}.lora_up.weight"] = random.normal(0, 0.3, (dim, 4)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


def integers(bits: int, channels: int, frame: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """A picture of codes (H, W, channels) over their whole range, grainy, brighter from frame to frame."""
    rng = np.random.default_rng([bits, channels, frame])
    ramp = np.linspace(0.1, 0.7, size[0])[None, :, None] * np.linspace(1.0, 0.8, channels)
    picture = ramp + 0.01 * frame + rng.normal(0, 0.02, (size[1], size[0], channels))
    picture[:2], picture[-2:] = 0, 1
    return np.rint(picture.clip(0, 1) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def write_image(path: Path, codes: np.ndarray, *, bits: int, **attributes: Any) -> None:
    """A DPX, TIFF or PNG of these codes (H, W, channels) by OpenImageIO; alpha is not multiplied in.

    Attributes are OpenImageIO's, their colons as __.
    """
    height, width, channels = codes.shape
    spec = oiio.ImageSpec(width, height, channels, oiio.UINT8 if bits == 8 else oiio.UINT16)
    spec["oiio:UnassociatedAlpha"] = 1
    spec["oiio:BitsPerSample"] = bits
    for name, value in attributes.items():
        key = name.replace("__", ":")
        spec.attribute(key, *value) if isinstance(value, tuple) else spec.attribute(key, value)
    if bits == 10:
        codes = codes << 6 | codes >> 4
    path.parent.mkdir(parents=True, exist_ok=True)
    image = oiio.ImageOutput.create(str(path))
    assert image is not None, oiio.geterror()
    assert image.open(str(path), spec), image.geterror()
    assert image.write_image(np.ascontiguousarray(codes)), image.geterror()
    assert image.close(), image.geterror()


def read_image(path: Path) -> tuple[np.ndarray, oiio.ImageSpec]:
    """The codes (H, W, channels) of a DPX, TIFF or PNG as OpenImageIO reads them, and its header."""
    as_stored = oiio.ImageSpec()
    as_stored["oiio:UnassociatedAlpha"] = 1
    image = oiio.ImageInput.open(str(path), as_stored)
    assert image is not None, oiio.geterror()
    spec = image.spec()
    codes = image.read_image(spec.format)
    assert codes is not None, image.geterror()
    image.close()
    codes = codes.reshape(spec.height, spec.width, -1)
    if spec.getattribute("oiio:BitsPerSample") == 10:
        codes = np.rint(codes.astype(np.float64) * 1023 / 65535).astype(np.uint16)
    return codes, spec


def read_exr(path: Path) -> np.ndarray:
    """The RGB of an EXR in its own type."""
    return OpenEXR.File(str(path)).channels()["RGB"].pixels


def read_gray(path: Path) -> np.ndarray:
    """The one channel of an EXR."""
    (channel,) = OpenEXR.File(str(path)).channels().values()
    return channel.pixels


def time(value: float, rate: float = 24.0) -> dict[str, Any]:
    return {"OTIO_SCHEMA": "RationalTime.1", "rate": rate, "value": value}


def span(start: float, duration: float) -> dict[str, Any]:
    return {"OTIO_SCHEMA": "TimeRange.1", "start_time": time(start), "duration": time(duration)}


@dataclass
class Cut:
    """One submission being built; `submit` and `check` run the command line on it."""

    folder: Path
    weights: Path
    clips: list[dict[str, Any]] = field(default_factory=list)
    manifest: dict[str, Any] = field(default_factory=dict)
    library: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.library = {"schema": "scail2-farm/characters@1", "characters": {}}
        self.manifest = {
            "schema": "scail2-farm/shot-manifest@1",
            "characters": "library.yaml",
            "handles": {"head": 2, "tail": 2},
            "defaults": {
                "preset": "preview",
                "steps": 2,
                "size": "64x32",
                "seed": 11,
                "segment": {"length": 9, "overlap": 5},
                "prompt": "a stage",
            },
            "cast": [],
        }

    def character(self, name: str, slot: str | None, color: Sequence[int], **more: Any) -> None:
        """A character whose reference is a flat figure of one colour on grey."""
        refs = self.folder / "refs"
        refs.mkdir(exist_ok=True)
        picture, mask = np.full((64, 48, 3), 119, np.uint8), np.zeros((64, 48), np.uint8)
        picture[8:60, 14:34], mask[8:60, 14:34] = color, 255
        Image.fromarray(picture).save(refs / f"{name}.png")
        Image.fromarray(mask).save(refs / f"{name}_mask.png")
        entry: dict[str, Any] = {
            "references": [{"image": f"refs/{name}.png", "mask": f"refs/{name}_mask.png"}],
            "prompt": f"{name} in plain clothes",
            "matte": {"sequence": "mattes/{shot}/{character}.####.png"},
        }
        self.library["characters"][name] = entry | ({"slot": slot} if slot else {}) | more

    def plate(self, shot: str, count: int, *, seed: int = 0, tag: str | None = "lin_ap1_scene") -> None:
        """A half-float EXR sequence from 1001, timecode from 01:00:00:00."""
        for index in range(count):
            path = self.folder / "plates" / shot / f"{shot}.{FIRST_FILE + index}.exr"
            write_exr(path, plate_pixels(seed, index), frame=FIRST_TC + index, tag=tag)

    def plate_file(self, shot: str, number: int, suffix: str = ".exr") -> Path:
        """The file of a plate's frame."""
        return self.folder / "plates" / shot / f"{shot}.{number}{suffix}"

    def matte(
        self,
        shot: str,
        name: str,
        count: int,
        box: tuple[int, int, int, int],
        first: int = FIRST_FILE,
        size: tuple[int, int] = (WIDTH, HEIGHT),
    ) -> None:
        """A PNG matte sequence; the box moves one pixel a frame to the right."""
        folder = self.folder / "mattes" / shot
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            moved = (min(box[0] + index, size[0] - box[2]), *box[1:])
            Image.fromarray(matte_pixels(moved, size)).save(folder / f"{name}.{first + index:04d}.png")

    def played(
        self,
        shot: str,
        count: int,
        *,
        suffix: str = ".exr",
        movie: str | None = None,
        size: tuple[int, int] = (WIDTH, HEIGHT),
        box: tuple[int, int, int, int] = (20, 10, 20, 30),
        **more: Any,
    ) -> dict[str, Any]:
        """All that a plate of `count` frames lacks to be a submission: a character, his mattes, and a clip of it all.

        The plate is a sequence with this suffix, or the movie at a relative path.
        """
        self.character("ada", "blue", (220, 30, 30))
        self.manifest["cast"] = [{"when": {"clip": "SH*"}, "characters": [{"id": "ada"}]}]
        self.matte(shot, "ada", count, box, first=1 if movie else FIRST_FILE, size=size)
        if movie is not None:
            reference = {
                "OTIO_SCHEMA": "ExternalReference.1",
                "metadata": {},
                "name": "",
                "available_range": span(FIRST_TC, count),
                "available_image_bounds": None,
                "target_url": movie,
            }
            more = {"media_references": {"DEFAULT_MEDIA": reference}} | more
        return self.clip(shot, first=0, count=count, available=count, suffix=suffix, **more)

    def clip(
        self, shot: str, *, first: int, count: int, available: int, suffix: str = ".exr", **more: Any
    ) -> dict[str, Any]:
        """A Clip.2 of an image sequence, `first` frames into it."""
        reference = {
            "OTIO_SCHEMA": "ImageSequenceReference.1",
            "metadata": {},
            "name": "",
            "available_range": span(FIRST_TC, available),
            "available_image_bounds": None,
            "target_url_base": f"plates/{shot}/",
            "name_prefix": f"{shot}.",
            "name_suffix": suffix,
            "start_frame": FIRST_FILE,
            "frame_step": 1,
            "rate": 24.0,
            "frame_zero_padding": 4,
            "missing_frame_policy": "error",
        }
        clip = {
            "OTIO_SCHEMA": "Clip.2",
            "metadata": {"show": {"note": "kept"}},
            "name": shot,
            "source_range": span(FIRST_TC + first, count),
            "effects": [],
            "markers": [],
            "enabled": True,
            "media_references": {"DEFAULT_MEDIA": reference},
            "active_media_reference_key": "DEFAULT_MEDIA",
        } | more
        self.clips.append(clip)
        return clip

    def timeline(self) -> dict[str, Any]:
        track = {
            "OTIO_SCHEMA": "Track.1",
            "metadata": {},
            "name": "V1",
            "source_range": None,
            "effects": [],
            "markers": [],
            "enabled": True,
            "children": self.clips,
            "kind": "Video",
        }
        stack = {
            "OTIO_SCHEMA": "Stack.1",
            "metadata": {},
            "name": "tracks",
            "source_range": None,
            "effects": [],
            "markers": [],
            "enabled": True,
            "children": [track],
        }
        return {
            "OTIO_SCHEMA": "Timeline.1",
            "metadata": {},
            "name": "cut",
            "global_start_time": time(FIRST_TC),
            "tracks": stack,
        }

    def write(self) -> Path:
        """Write edit, manifest and library; the edit's path."""
        edit = self.folder / "edit.otio"
        edit.write_text(json.dumps(self.timeline(), indent=4))
        (self.folder / "edit.shots.yaml").write_text(yaml.safe_dump(self.manifest, sort_keys=False))
        (self.folder / "library.yaml").write_text(yaml.safe_dump(self.library, sort_keys=False))
        return edit

    def version(self, shot: str, version: int = 1) -> Path:
        return self.folder / "edit.scail2" / "shots" / shot / f"v{version:03d}"

    def frame(self, shot: str, number: int, version: int = 1, suffix: str = ".exr") -> Path:
        return self.version(shot, version) / f"{shot}_scail2_v{version:03d}.{number:04d}{suffix}"

    def take(self, shot: str, version: int = 1) -> Take:
        return read_document(self.version(shot, version) / "take.json", Take)

    def comp_matte(self, shot: str, number: int, version: int = 1) -> np.ndarray:
        name = f"{shot}_scail2_v{version:03d}_comp_matte.{number:04d}.exr"
        return read_gray(self.version(shot, version) / "comp_matte" / name)

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """The command line in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "scail2_farm", *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=os.environ | (environment or {}),
            check=False,
        )


def sealed(shots: Sequence[Shot], *, weights: Path, work: Path) -> list[SealedShot]:
    """The shots of a plan, sealed."""
    return [step for step in seal(shots, weights=weights, work=work) if isinstance(step, SealedShot)]


def finish(steps: Generator[object, None, R]) -> R:
    """A generator run to its result."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def planned_shot(cut: Cut) -> Shot:
    """The one shot of a submission that has no fault."""
    from scail2_farm.plan import plan

    planned = finish(plan(cut.write()))
    assert not planned.faults, planned.faults
    (shot,) = planned.shots
    return shot


def submitted(cut: Cut, *, raw: bool = False) -> tuple["Outcome", list[object]]:
    """The outcome of a submission, and its events."""
    from scail2_farm.job import run
    from scail2_farm.plan import plan

    planned = finish(plan(cut.write()))
    assert not planned.faults, planned.faults
    return told(run(planned, weights=cut.weights, raw=raw))


def told(steps: Generator[object, None, R]) -> tuple[R, list[object]]:
    """A generator's result, and all that it yields from here on."""
    events: list[object] = []
    while True:
        try:
            events.append(next(steps))
        except StopIteration as stop:
            return stop.value, events
