"""Every JSON or YAML that crosses a disk or a process, and the one way each is read and written.

Documents people write: ShotManifest, CharacterLibrary (editorial.md §10 is the form). Documents the farm writes:
Segment, Report, Take. Each opens with its `schema`. Unknown keys are errors that name the nearest valid key;
every fault carries file and line. YAML scalars are read as strings and converted by the schema, because YAML 1.1
would read 01:02:03 as the integer 3723 and NO as a boolean.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import json
import os
import re
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from scail2_farm.errors import FarmError, SubmissionInvalid, Where, kind_of, storage_error
from scail2_farm.frames import FramePattern, FrameRange, exact_rate

Slot = Literal["blue", "red", "green", "magenta", "cyan", "yellow"]
SLOTS: tuple[Slot, ...] = ("blue", "red", "green", "magenta", "cyan", "yellow")
Mode = Literal["replacement", "animation"]
Solver = Literal["unipc", "dpmpp", "euler"]
Preset = Literal["preview", "lightning", "fast", "quality", "paper"]


def _read_size(value: object) -> object:
    if isinstance(value, str):
        sides = value.lower().split("x")
        if len(sides) != 2 or not all(side.strip().isdecimal() for side in sides):
            raise ValueError("a size is written WIDTHxHEIGHT, for example 832x480")
        return int(sides[0]), int(sides[1])
    return value


def _refuse_null(text: str) -> str:
    if "\0" in text:
        raise ValueError("a text cannot hold a null character")
    return text


def _read_rate(value: object) -> object:
    if isinstance(value, str | int | float | Fraction):
        try:
            return exact_rate(value)
        except (ValueError, ZeroDivisionError, OverflowError):
            raise ValueError("a rate is a number of frames a second, for example 24 or 24000/1001") from None
    return value


Side = Annotated[int, Field(ge=32, le=4096)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_read_size), Field(description="WIDTHxHEIGHT in pixels")]
Rate = Annotated[
    Fraction,
    BeforeValidator(_read_rate),
    PlainSerializer(lambda rate: str(rate), return_type=str),
    Field(description="frames a second: 24, 23.976 or 24000/1001"),
]
Text = Annotated[str, Field(min_length=1), AfterValidator(_refuse_null)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]


class Document(BaseModel):
    """The shape all documents share: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, arbitrary_types_allowed=False)


# --------------------------------------------------------------------------- what people write


class ColorIdMatte(Document):
    """One flat colour of an ID sequence."""

    path: Text
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$", description="#rrggbb")]


class CryptoMatte(Document):
    """Objects of a Cryptomatte layer."""

    path: Text
    layer: Text
    names: Annotated[tuple[Text, ...], Field(min_length=1)]


class MatteSource(Document):
    """Where a character is: exactly one source."""

    sequence: Text | None = Field(default=None, description="a sequence, {shot} and {character} filled in")
    color_id: ColorIdMatte | None = None
    cryptomatte: CryptoMatte | None = None
    whole_frame: bool | None = Field(default=None, description="true: the one character fills the frame")
    auto: Text | None = None

    @property
    def kind(self) -> str:
        """The name of the source that is given."""
        return next(name for name, value in self if value is not None)

    @model_validator(mode="after")
    def _exactly_one(self) -> MatteSource:
        if sum(value is not None for _, value in self) != 1:
            raise ValueError("a matte has exactly one of sequence, color_id, cryptomatte, whole_frame, auto")
        if self.whole_frame is False:
            raise ValueError("`whole_frame` is true, or another source is given in its place")
        return self


class CastMember(Document):
    """A character in a shot."""

    id: Text
    slot: Slot | None = None
    matte: MatteSource | None = None
    role: Text | None = Field(default=None, description="with `driving`, whose movements he takes; default: his own id")


class Performance(Document):
    """Movements that any character can take: a filmed clip, or one of a rendered pose or body mesh."""

    media: Text = Field(description="a sequence or a movie, {shot} filled in")
    roles: Annotated[dict[Text, MatteSource], Field(min_length=1)] = Field(
        description="who moves in it, and where: {shot} and {role} are filled in"
    )
    space: Text | None = Field(default=None, description="its colour space; default: as a plate's is decided")


class DrivingChoice(Document):
    """What the model is shown: a performance of the character library, one said here, or the plate after all."""

    name: Text | None = Field(default=None, description="one of `performances` in the character library")
    performance: Performance | None = None
    plate: bool | None = Field(default=None, description="true: the plate, where a farther level says a performance")
    start_frame: int | None = Field(
        default=None,
        description="of the performance, at the first frame of the plate that is used, transitions included and handles"
        " not; a movie counts from 0; default: its first",
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> DrivingChoice:
        if sum(bool(said) for said in (self.name, self.performance, self.plate)) != 1:
            raise ValueError("`driving` has a `name`, a `performance` or `plate: true`, one of them")
        return self


class Segmenting(Document):
    """The model's windows: both lengths are 4n + 1."""

    length: Annotated[int, Field(ge=5, le=81)] = 81
    overlap: Annotated[int, Field(ge=1, le=77)] = 5

    @model_validator(mode="after")
    def _windows_chain(self) -> Segmenting:
        if self.length % 4 != 1 or self.overlap % 4 != 1 or self.overlap >= self.length:
            raise ValueError("length and overlap are 4n + 1 (81 and 5), and the overlap is the shorter")
        return self


Precision = Literal["f32", "bf16", "f16"]


class Lora(Document):
    """An adapter of the transformer, by file or by the name the settings know it by, and its strength."""

    path: Text | None = Field(default=None, description="a file, relative to the manifest or the character library")
    name: Text | None = Field(default=None, description="one of `loras` in the settings: dpo, lightx2v, relight ...")
    strength: Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)] = 1.0

    @model_validator(mode="after")
    def _one_of_both(self) -> Lora:
        if (self.path is None) == (self.name is None):
            raise ValueError("a LoRA has a `path` or a `name`, one of the two")
        return self


class Chosen(Document):
    """How it is rendered, as far as a level says; defaults < character < rule < shot < segment."""

    mode: Mode | None = None
    preset: Preset | None = None
    negative_prompt: str | None = None
    seed: Seed | None = None
    size: Size | None = None
    solver: Solver | None = None
    steps: Annotated[int, Field(ge=1, le=200)] | None = None
    shift: Annotated[float, Field(gt=0, le=100)] | None = None
    guidance: Annotated[float, Field(ge=0, le=30)] | None = None
    precision: Precision | None = Field(default=None, description="of products in the transformer; default f32")
    loras: tuple[Lora, ...] | None = Field(default=None, description="in place of the preset's own; [] for none at all")
    pose_strength: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] | None = Field(
        default=None, description="how strongly the movements are followed; default 1"
    )
    pose_start: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="the share of all steps from which on the model is shown the movements; default 0"
    )
    pose_end: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="the share of all steps up to which the model is shown the movements; default 1"
    )


PRESET_NUMBERS = ("solver", "steps", "shift", "guidance", "loras")
"""What a preset decides; said farther away than the preset is, they are the preset's own again."""


class Directed(Chosen):
    """How a scene is rendered, and its prompt; what is appended adds up over the levels."""

    prompt: str | None = None
    prompt_append: str | None = None


class Settled(Directed):
    """What may be said of a shot: its scene, what moves its characters, and the windows it is rendered in."""

    segment: Segmenting | None = None
    driving: DrivingChoice | None = Field(default=None, description="default: the plate itself")


class SegmentSettings(Directed):
    """What differs in the segments that show any of these plate frames; the first entry that does decides."""

    frames: tuple[int, int] = Field(description="first and last plate frame, both included")

    @model_validator(mode="after")
    def _in_order(self) -> SegmentSettings:
        if self.frames[1] < self.frames[0]:
            raise ValueError("the frames are written [first, last], both included")
        return self


class When(Document):
    """Which clips a rule is for; every condition given must hold."""

    clip: Text | None = Field(default=None, description="glob over clip names")
    track: Text | None = Field(default=None, description="glob over track names")
    marker: Text | None = Field(default=None, description="glob over marker names, in any case")
    color: Text | None = Field(default=None, description="colour of that marker, in any case")
    record_tc: Text | None = Field(default=None, description="IN-OUT, IN+ or -OUT in the timeline's timecode")
    source_tc: Text | None = Field(default=None, description="IN-OUT, IN+ or -OUT in the media's timecode")
    media: Text | None = Field(default=None, description="glob over media addresses and file names")
    metadata: Text | None = Field(default=None, description="dotted path of a metadata key")
    equals: str | None = Field(default=None, description="the value that key must have")

    @model_validator(mode="after")
    def _says_something(self) -> When:
        if all(value is None for _, value in self):
            raise ValueError("`when` needs a condition; `clip: '*'` matches every clip")
        if self.equals is not None and self.metadata is None:
            raise ValueError("`equals` compares a `metadata` key, and none is named")
        return self


class CastRule(Settled):
    """Who plays in the clips that match."""

    when: When
    characters: tuple[CastMember, ...] | Literal["from-marker"] = ()
    skip: bool = False
    stop: bool = False


class ShotOverride(Settled):
    """An explicit shot (with media), or what differs in one shot of the timeline."""

    id: Text
    media: Text | None = None
    range: tuple[int, int] | None = Field(default=None, description="first and last frame, both included")
    characters: tuple[CastMember, ...] | None = None
    segments: tuple[SegmentSettings, ...] = ()
    skip: bool = False


class PathMapping(Document):
    """One prefix of another machine and where it is here."""

    from_: Annotated[str, Field(min_length=1, alias="from")]
    to: Text


class Tracks(Document):
    """Video tracks by name glob."""

    include: tuple[Text, ...] = ("*",)
    exclude: tuple[Text, ...] = ()


Missing = Literal["error", "hold", "black"]


class MediaChoice(Document):
    """Which media a clip is rendered from when it has several or none."""

    prefer: tuple[Text, ...] = Field(default=(), description="globs over media reference keys, the best first")
    search: tuple[Text, ...] = Field(default=(), description="folders searched for offline media")


MOST_HANDLES = 1000


class Handles(Document):
    """Extra frames either side, clamped to the media."""

    head: Annotated[int, Field(ge=0, le=MOST_HANDLES)] = 8
    tail: Annotated[int, Field(ge=0, le=MOST_HANDLES)] = 8


PlateKind = Literal["exr", "dpx", "tiff", "png", "movie"]
FrameFormat = Literal["plate", "exr-half", "exr-float", "dpx10", "tiff16", "png16"]
Compression = Literal["zip", "zips", "piz", "zstd", "none", "dwaa"]
MovieCodec = Literal["prores", "prores4444", "dnxhr", "h264"]
Tone = Literal["aces2", "shoulder"]


class MediaSpace(Document):
    """The colour space of the media a glob matches."""

    media: Text
    space: Text


class KindSpaces(Document):
    """The colour space of media that say nothing of it, by what they are."""

    exr: Text | None = None
    dpx: Text | None = None
    tiff: Text | None = None
    png: Text | None = None
    movie: Text | None = None

    def of(self, kind: PlateKind) -> str | None:
        """The space for one kind of plate; None when nothing is said of it."""
        found: str | None = getattr(self, kind)
        return found


class ColorChoice(Document):
    """The OCIO config, the spaces it cannot know, and how scene light becomes what the model sees."""

    config: Text = Field(
        default="builtin", description="`builtin` (the pinned ACES studio config), or the show's .ocio or .ocioz file"
    )
    spaces: tuple[MediaSpace, ...] = Field(default=(), description="what outranks the edit and the file itself")
    defaults: KindSpaces = Field(default=KindSpaces(), description="for media of which nobody says anything")
    tone: Tone = Field(
        default="aces2", description="the ACES 2.0 view and its inverse, or a soft shoulder that more colours survive"
    )


class Deliver(Document):
    """Where takes go and in which form."""

    to: Text | None = None
    format: FrameFormat = Field(
        default="plate",
        description="`plate`: the plate's own class, exact outside the mattes; no other is",
    )
    compression: Compression = Field(default="zip", description="of EXR frames; `dwaa` alone loses anything")
    movie: MovieCodec | Literal["none"] = Field(default="prores", description="what people look at, beside the frames")


class ShotManifest(Document):
    """Who plays whom in a cut, and how it is rendered (editorial.md §10)."""

    schema_: Literal["scail2-farm/shot-manifest@1"] = Field(alias="schema")
    timeline: Text | None = None
    rate: Rate | None = None
    source_dir: Text | None = None
    path_map: tuple[PathMapping, ...] = ()
    tracks: Tracks = Tracks()
    handles: Handles = Handles()
    retime: Literal["keep", "bake"] = "keep"
    numbering: Literal["plate", "1001"] = "plate"
    missing: Missing | None = Field(
        default=None, description="frames the cut uses and the media lacks; default: what the sequence says, else error"
    )
    strict: bool = Field(default=False, description="true: a transition beyond the media is an error, not a warning")
    include_disabled: bool = Field(default=False, description="true: disabled clips and tracks are rendered too")
    media: MediaChoice = MediaChoice()
    color: ColorChoice = ColorChoice()
    deliver: Deliver = Deliver()
    supersede: bool = Field(
        default=False, description="true: shots that an earlier revision had are not rendered any more"
    )
    characters: Text
    defaults: Settled = Settled()
    cast: tuple[CastRule, ...] = ()
    shots: tuple[ShotOverride, ...] = ()


class ReferenceImage(Document):
    """A still of the character; white in the mask is the character."""

    image: Text
    mask: Text | None = None
    primary: bool = False
    view: Text | None = None


class Character(Chosen):
    """A person to put in; how he is rendered holds unless a rule, a shot or a segment says otherwise."""

    name: str | None = None
    references: Annotated[tuple[ReferenceImage, ...], Field(min_length=1)]
    prompt: str = Field(default="", description="a line of the prompt, only where the character is seen")
    slot: Slot | None = None
    matte: MatteSource | None = None
    consent: str | None = None

    @model_validator(mode="after")
    def _one_primary(self) -> Character:
        if sum(reference.primary for reference in self.references) > 1:
            raise ValueError("one reference is the primary one; the others are extra views")
        return self

    @property
    def ordered(self) -> tuple[ReferenceImage, ...]:
        """The references, the primary one (else the first) in front."""
        return tuple(sorted(self.references, key=lambda reference: not reference.primary))


class CharacterLibrary(Document):
    """Characters by id, and performances by name."""

    schema_: Literal["scail2-farm/characters@1"] = Field(alias="schema")
    characters: Annotated[dict[Text, Character], Field(min_length=1)]
    performances: dict[Text, Performance] = {}


# --------------------------------------------------------------------------- what the farm writes


class Span(Document):
    """`count` consecutive frames from `first`."""

    first: int
    count: Annotated[int, Field(ge=0)]

    @classmethod
    def of(cls, frames: FrameRange) -> Span:
        """A range of frames as a document has it."""
        return cls(first=frames.first, count=frames.count)

    @property
    def range(self) -> FrameRange:
        """The frames."""
        return FrameRange(self.first, self.count)


class FileDigest(Document):
    """One file by content."""

    path: str
    sha256: str


class TakeFile(FileDigest):
    """One delivered file, by content and size."""

    bytes: Annotated[int, Field(ge=0)]


class PlateSource(Document):
    """The plate of a shot, as the renderer opens it."""

    kind: PlateKind
    path: str = Field(description="a file, or a sequence with its number as ####")
    frames: Span = Field(description="file numbers of a sequence; frames from 0 of a movie")
    width: int
    height: int
    pixel_aspect: float = 1.0
    rate: Rate
    timecode_start: int | None = Field(
        description="frames since midnight of frames.first; none when the plate has none"
    )
    drop_frame: bool = False
    step: int = Field(default=1, description="how far file numbers are apart; frames are counted one by one")
    origin: int = Field(default=0, description="with a step, the frame that is the file of its own number")
    missing: tuple[int, ...] = Field(default=(), description="frames the media lacks, which are stood in for")
    stand_in: Literal["hold", "black"] | None = Field(
        default=None, description="what stands in: the frame before, black"
    )

    @property
    def source(self) -> Path | FramePattern:
        """The plate's file, or its sequence counted as `frames` is; a file of that very name is one, whatever it is."""
        path = Path(self.path)
        pattern = None if self.kind == "movie" or path.is_file() else FramePattern.parse(self.path)
        return path if pattern is None else pattern.counted(step=self.step, origin=self.origin)

    def number(self, frame: int) -> int:
        """The number of a frame in its file's name; a movie's frame itself."""
        return self.origin + (frame - self.origin) * self.step


class PlateColor(Document):
    """How the plate's colour was decided, and how the model is shown it."""

    config: str
    digest: str = Field(default="", description="sha256 of the show's own config and of all it reads; none of ours")
    space: str
    decided_by: str
    tone: Tone = "aces2"


class Output(Document):
    """What delivered frames are made of."""

    format: FrameFormat = "plate"
    compression: Compression = "zip"


class CanvasSize(Document):
    """The model's picture, and where the plate lies in it."""

    width: int
    height: int
    active: tuple[int, int, int, int] = Field(description="left, top, width, height of the plate in the canvas")


class Reference(Document):
    """A still of a performer, by path."""

    image: str
    mask: str | None


class Box(Document):
    """A rectangle in pixels."""

    left: int
    top: int
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Left, top, width, height: a box as pictures are worked on with."""
        return self.left, self.top, self.width, self.height


class Matted(Document):
    """Where somebody is in a clip, the plate or a performance."""

    matte: str | None = Field(description="a sequence, its number as ####; none: the whole frame")
    matte_offset: int = Field(description="what is added to a frame of the clip to get its matte's number")

    def mattes(self, clip: PlateSource) -> FramePattern | None:
        """The matte sequence, counted as the clip is: frame n of the clip is its frame n + matte_offset."""
        if self.matte is None:
            return None
        pattern = FramePattern.parse(self.matte)
        assert pattern is not None, "planning lets only sequences through"
        return pattern.counted(step=clip.step, origin=clip.origin + self.matte_offset)


class Performer(Matted):
    """A character of a shot, ready to render; his matte says where the plate gives way."""

    id: str
    slot: Slot
    references: Annotated[tuple[Reference, ...], Field(min_length=1)] = Field(description="the primary one first")
    seen: Box | None = Field(
        description="of the matte in pixels of what drives him, at the first frame he is seen; none: never seen"
    )
    prompt: str
    consent: str | None = None


class Driving(Document):
    """A performance as the renderer opens it, which the model is shown in place of the plate."""

    clip: PlateSource
    color: PlateColor
    offset: int = Field(description="what is added to a plate frame to get the clip's")
    roles: Annotated[tuple[Matted, ...], Field(min_length=1, max_length=6)] = Field(
        description="where each performer of the shot is in it, in their order"
    )


class Sampler(Document):
    """The numbers of a preset after overrides."""

    preset: Preset
    solver: Solver
    steps: int
    shift: float
    guidance: float
    precision: Precision = "f32"
    pose_strength: float = 1.0
    pose_start: float = 0.0
    pose_end: float = 1.0


class LoraFile(Document):
    """An adapter in force."""

    path: str
    strength: float


class Segment(Document):
    """One window of a shot: all that `render-segment` needs, and nothing else."""

    schema_: Literal["scail2-farm/segment@1"] = Field(default="scail2-farm/segment@1", alias="schema")
    key: str = Field(description="sha256 over what decides the pixels, chained through the previous segment")
    shot: str
    index: int
    count: int = Field(description="segments of the shot")
    window: Span = Field(description="plate frames the window covers; those beyond `keep` repeat its last frame")
    overlap: int = Field(description="history frames taken from the previous segment; 0 for the first")
    keep: Span = Field(description="plate frames this segment hands in")
    leave: int = Field(description="last frames left as history for a segment after this one")
    plate: PlateSource
    color: PlateColor
    output: Output = Output()
    canvas: CanvasSize
    mode: Mode
    prompt: str
    negative_prompt: str
    seed: int
    sampler: Sampler
    loras: tuple[LoraFile, ...] = ()
    performers: Annotated[tuple[Performer, ...], Field(min_length=1, max_length=6)]
    driving: Driving | None = Field(default=None, description="none: the plate drives its own characters")
    weights: FileDigest
    folder: str = Field(description="where this segment leaves its frames, history and report")
    history: str | None = Field(description="the folder of the previous segment")

    @property
    def driver(self) -> Driving:
        """What moves the characters: the performance, or the plate as if it were one."""
        return self.driving or Driving(clip=self.plate, color=self.color, offset=0, roles=self.performers)


class Report(Document):
    """What rendering a segment came to; written last, beside its frames."""

    schema_: Literal["scail2-farm/report@1"] = Field(default="scail2-farm/report@1", alias="schema")
    key: str
    state: Literal["done"]
    frames: tuple[FileDigest, ...] = Field(description="every file of the segment, relative to its folder")
    seconds: float
    steps_seconds: tuple[float, ...]
    peak_bytes: int
    finished: str = Field(description="UTC, ISO 8601")
    versions: dict[str, str]


Exact = Annotated[Fraction, PlainSerializer(str, return_type=str)]


class Moment(Document):
    """A time of the cut: a count at a rate, both as the cut has them."""

    value: Exact
    rate: Exact


class Use(Document):
    """One place of the cut that shows a take."""

    clip: str | None = Field(description="the clip's name in the edit; none for an explicit shot")
    clip_id: str | None = Field(default=None, description="the clip in the edit; none for an explicit shot")
    cut: Span = Field(description="plate frames it uses")
    start: Moment | None = Field(default=None, description="the time of the take's first frame in the clip's own time")


class Scene(Document):
    """What one segment is rendered with."""

    mode: Mode
    prompt: str
    negative_prompt: str
    seed: int
    sampler: Sampler
    loras: tuple[LoraFile, ...] = ()
    canvas: CanvasSize


class SealedSegment(Scene):
    """One window of a shot, known by content; frames are the plate's."""

    key: str = Field(description="sha256 over what decides the pixels, chained through the previous segment")
    window: Span = Field(description="plate frames the window covers; those beyond `keep` repeat its last frame")
    overlap: int = Field(description="history frames taken from the previous segment; 0 for the first")
    keep: Span = Field(description="plate frames it hands in")
    leave: int = Field(description="last frames left as history for a segment after this one")


class SealedShot(Document):
    """A shot whose inputs are known by content: its segments can be rendered and delivered anywhere."""

    schema_: Literal["scail2-farm/shot@1"] = Field(default="scail2-farm/shot@1", alias="schema")
    id: str
    uses: Annotated[tuple[Use, ...], Field(min_length=1)] = Field(description="every place of the cut that shows it")
    frames: Span = Field(description="plate frames of the shot, handles included")
    handles_asked: Handles
    handles_given: Handles
    plate: PlateSource
    color: PlateColor
    output: Output = Output()
    performers: Annotated[tuple[Performer, ...], Field(min_length=1, max_length=6)]
    driving: Driving | None = Field(default=None, description="none: the plate drives its own characters")
    segmenting: Segmenting = Segmenting()
    segments: Annotated[tuple[SealedSegment, ...], Field(min_length=1)]
    weights: FileDigest
    inputs: tuple[FileDigest, ...] = Field(
        description="a file by its content; a sequence, its number as ####, by the digests of the frames that are used"
    )

    @property
    def key(self) -> str:
        """What the take is known by: the key of the last segment."""
        return self.segments[-1].key

    def segment(self, index: int, *, work: Path, folder: Path | None = None) -> Segment:
        """The document `render-segment` needs; `folder` is where it renders to, by default its place under `work`."""
        own = self.segments[index]
        before = segment_folder(work, self.segments[index - 1].key) if index else None
        return Segment(
            key=own.key,
            shot=self.id,
            index=index,
            count=len(self.segments),
            window=own.window,
            overlap=own.overlap,
            keep=own.keep,
            leave=own.leave,
            plate=self.plate,
            color=self.color,
            output=self.output,
            canvas=own.canvas,
            mode=own.mode,
            prompt=own.prompt,
            negative_prompt=own.negative_prompt,
            seed=own.seed,
            sampler=own.sampler,
            loras=own.loras,
            performers=self.performers,
            driving=self.driving,
            weights=self.weights,
            folder=str(folder or segment_folder(work, own.key)),
            history=None if before is None else str(before),
        )


REPORT = "report.json"
"""What a folder came to: of a segment its Report; of a job, beside its takes, what became of each shot."""
HISTORY = "history.npy"
"""In a segment's folder the last frames as floats, which the next segment starts from."""
KINDS = ("frames", "comp_matte", "raw")
"""In a segment's folder a folder each, with a file for every plate frame."""


def segment_folder(work: Path, key: str) -> Path:
    """Where a rendered segment lies in a work folder."""
    return work / key[:24]


class TakeSegment(Scene):
    """One segment of a take, and what it was rendered with."""

    key: str
    window: Span = Field(description="plate frames its window covered")
    overlap: int = Field(description="history frames taken from the segment before")
    frames: Span = Field(description="plate frames it handed in")
    history: str = Field(description="the file of its last frames as floats, for a segment after it")


class Take(Document):
    """How a take was made, enough to make it again."""

    schema_: Literal["scail2-farm/take@1"] = Field(default="scail2-farm/take@1", alias="schema")
    key: str = Field(description="the key of the last segment: the same key is the same take")
    shot: str
    version: int
    uses: Annotated[tuple[Use, ...], Field(min_length=1)] = Field(description="every place of the cut that shows it")
    frames: Span = Field(description="plate frames delivered, handles included")
    stood_in: tuple[int, ...] = Field(default=(), description="delivered frames the media lacks: held or black")
    handles_asked: Handles
    handles_given: Handles
    pattern: str
    first_file: int
    movie: str | None = Field(description="the review movie that was asked for last; its name says its codec")
    notes: tuple[str, ...] = Field(default=(), description="what the movie's viewer should know: sound left out")
    raw: str | None
    comp_matte: str
    exact: bool = Field(description="whether frames are in the plate's own class")
    plate: PlateSource
    color: PlateColor
    output: Output = Output()
    performers: tuple[Performer, ...]
    driving: Driving | None = Field(default=None, description="what moved them; none: the plate itself")
    weights: FileDigest
    segmenting: Segmenting
    segments: tuple[TakeSegment, ...]
    inputs: tuple[FileDigest, ...]
    files: tuple[TakeFile, ...]
    seconds: float
    peak_bytes: int
    finished: str
    versions: dict[str, str]


# --------------------------------------------------------------------------- what the farm's processes say


class Submission(Document):
    """What was dropped or submitted, where it lies now, and how it is to be read."""

    schema_: Literal["scail2-farm/submission@1"] = Field(default="scail2-farm/submission@1", alias="schema")
    name: Text = Field(description="the stem of the edit: what its products are called")
    edit: Text | None = Field(default=None, description="the edit; none for a manifest with explicit shots alone")
    manifest: Text
    home: Text | None = Field(
        default=None,
        description="the folder relative paths are taken in; none: only `source_dir` says, if anything does",
    )
    timeline: Text | None = None
    rate: Rate | None = None
    search: tuple[Text, ...] = ()
    raw: bool = Field(default=False, description="true: the model's own frames are delivered too")
    priority: Annotated[int, Field(ge=0, le=100)] = 50


def _as_text(value: object) -> object:
    """A text without what UTF-8 has no place for: half characters, and the bytes Python keeps as such."""
    if not isinstance(value, str):
        return value
    told = re.sub("[\udc80-\udcff]", lambda half: f"\\x{ord(half[0]) - 0xDC00:02x}", value)
    return told.encode("utf-8", "backslashreplace").decode("utf-8")


class Fault(Document):
    """A FarmError as it crosses a process."""

    code: str
    what: str
    why: str
    fix: str
    where: dict[str, str | int] = {}

    @classmethod
    def of(cls, error: FarmError) -> Fault:
        """The fault of an error; bytes that are no text, as file names may hold them, stand in it as \\xNN."""
        told = error.as_json()
        where = {key: _as_text(value) for key, value in cast("dict[str, object]", told["where"]).items()}
        return cls.model_validate({key: _as_text(value) for key, value in told.items()} | {"where": where})

    def error(self) -> FarmError:
        """The error again, on the other side."""
        return kind_of(self.code)(self.what, why=self.why, fix=self.fix, where=Where(**cast("Any", self.where)))


class PlanTask(Document):
    """Read a submission and seal its shots; what comes of it is written into `folder`, `Planned` last."""

    task: Literal["plan"] = "plan"
    submission: Submission
    weights: str
    work: str
    folder: str
    returned: str = Field(description="where takes go when neither `deliver.to` nor a home says")
    seeds: dict[str, Seed] = Field(default={}, description="seeds that outrank the manifest's, by shot")
    loras: dict[str, str] = Field(default={}, description="LoRA files by the names manifests and presets call them")


class RenderTask(Document):
    """Render one segment into `folder`."""

    task: Literal["render"] = "render"
    shot: SealedShot
    index: int
    work: str
    folder: str
    careful: bool = Field(default=False, description="true: the safe policy, smaller pieces at a time")


class CheckTask(Document):
    """Look at what a worker handed in, in `folder`."""

    task: Literal["check"] = "check"
    shot: SealedShot
    index: int
    work: str
    folder: str


class DeliverTask(Document):
    """Put a shot whose segments are rendered into the next version under `to`, or find that it is there."""

    task: Literal["deliver"] = "deliver"
    shot: SealedShot
    work: str
    to: str = Field(description="the folder that holds shots/ and sheets/")
    raw: bool
    movie: MovieCodec | None = Field(description="of the review movie; none: there is none")


class ReturnTask(Document):
    """Write the cut with these takes linked, and the report beside them."""

    task: Literal["return"] = "return"
    submission: Submission
    plan: str = Field(description="the folder of the PlanTask")
    takes: tuple[str, ...] = Field(description="folders of takes")
    faults: tuple[Fault, ...] = Field(default=(), description="what became of the other shots")


Task = Annotated[PlanTask | RenderTask | CheckTask | DeliverTask | ReturnTask, Field(discriminator="task")]


class Held(Document):
    """A shot that cannot be rendered as things are, while the others can."""

    shot: str
    fault: Fault


PLANNED, PLANNED_SHOTS, PLAN = "planned.json", "shots.jsonl", "plan.json"
"""What planning leaves in its folder: see Planned, which is written last."""


class Planned(Document):
    """What planning came to: `shots.jsonl` beside it holds a PlannedShot a line, `plan.json` the plan in full."""

    schema_: Literal["scail2-farm/planned@1"] = Field(default="scail2-farm/planned@1", alias="schema")
    faults: tuple[Fault, ...] = Field(default=(), description="with any of them the submission is rejected")
    held: tuple[Held, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    shots: int = 0
    deliver_to: str = Field(default="", description="the folder that holds shots/ and sheets/")
    cut: str | None = Field(default=None, description="where the returned cut goes; none without an edit")
    movie: MovieCodec | None = Field(default="prores", description="of the review movies; none: there are none")
    supersede: bool = Field(default=False, description="true: shots of earlier revisions that are gone are cancelled")


class PlannedShot(Document):
    """A shot of a plan, in the order of the cut."""

    shot: SealedShot
    finished: tuple[bool, ...] = Field(description="which segments are on disk already")
    delivered: bool = Field(description="whether the take is")


class StepSaid(Document):
    """How far a worker is: a step of a segment, or what it is looking at (`what`)."""

    said: Literal["step"] = "step"
    what: str
    step: int
    of: int
    seconds: float = Field(default=0.0, description="of this step")


class DoneSaid(Document):
    """A task is done; what it came to is on disk already."""

    said: Literal["done"] = "done"
    folder: str = Field(default="", description="of the take or the segment; the path of the returned cut")
    version: int = Field(default=0, description="of a take")
    seconds: float = 0.0
    steps_seconds: tuple[float, ...] = ()
    peak_bytes: int = 0


Failure = Literal["input", "changed", "setup", "storage", "memory", "engine", "guard", "crash"]
"""Sorts of failures of a task, which decide what becomes of it."""


class FailedSaid(Document):
    """A task failed."""

    said: Literal["failed"] = "failed"
    fault: Fault
    kind: Failure


Said = Annotated[StepSaid | DoneSaid | FailedSaid, Field(discriminator="said")]


Verb = Literal["status", "why", "submitted", "pause", "resume", "cancel", "retry", "priority", "gc"]
"""What a running farm can be asked."""


class Request(Document):
    """What somebody asks of a running farm; `ref` is JOB, JOB/SHOT, JOB/SHOT/SEGMENT or a shot of one job alone."""

    schema_: Literal["scail2-farm/request@1"] = Field(default="scail2-farm/request@1", alias="schema")
    verb: Verb
    ref: Text | None = None
    seed: Seed | None = Field(default=None, description="with `retry`: the shot is rendered as another take")
    priority: Annotated[int, Field(ge=0, le=100)] | None = None
    dry_run: bool = Field(default=False, description="with `gc`: nothing is removed")


class Reply(Document):
    """The farm's answer to a Request."""

    schema_: Literal["scail2-farm/reply@1"] = Field(default="scail2-farm/reply@1", alias="schema")
    said: tuple[str, ...] = Field(default=(), description="what was done or found, a sentence each")
    document: dict[str, object] = Field(default={}, description="what `--json` prints")
    fault: Fault | None = None


PROMISED: Mapping[str, type[Document]] = {
    "request.v1.json": Request,
    "reply.v1.json": Reply,
    "submission.v1.json": Submission,
    "shot.v1.json": SealedShot,
    "shot-manifest.v1.json": ShotManifest,
    "characters.v1.json": CharacterLibrary,
    "segment.v1.json": Segment,
    "report.v1.json": Report,
    "take.v1.json": Take,
}


def json_schemas() -> dict[str, str]:
    """The text of every file of schemas/, by name."""
    texts: dict[str, str] = {}
    for name, model in PROMISED.items():
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | model.model_json_schema(by_alias=True)
        texts[name] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return texts


# --------------------------------------------------------------------------- reading and writing

DocumentT = TypeVar("DocumentT", bound=Document)
Place = tuple[str | int, ...]
MOST_NODES = 100_000  # of a document; aliases within aliases make more of a few lines than memory holds


@dataclass(frozen=True, slots=True)
class Loaded(Generic[DocumentT]):
    """A document and where its parts stand in the file."""

    path: Path
    document: DocumentT
    lines: Mapping[Place, int]

    def where(self, *place: str | int, **more: Any) -> Where:
        """The Where of a part: the line of the nearest enclosing part that has one."""
        return Where(file=str(self.path), line=_line_of(self.lines, place), **more)

    def beside(self, written: str) -> Path:
        """A path written in the document, relative to the document's folder."""
        return Path(os.path.normpath(self.path.parent / written))


def _line_of(lines: Mapping[Place, int], place: Place) -> int | None:
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place)


class _Duplicate(Exception):
    def __init__(self, key: str, line: int):
        super().__init__(key)
        self.key, self.line = key, line


class _Endless(Exception):
    pass


def _plain(node: yaml.Node, place: Place, lines: dict[Place, int]) -> object:
    if len(lines) > MOST_NODES:
        raise _Endless
    lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in mapping:
                raise _Duplicate(key, key_node.start_mark.line + 1)
            mapping[key] = _plain(value_node, (*place, key), lines)
            lines[(*place, key)] = key_node.start_mark.line + 1
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, (*place, index), lines) for index, child in enumerate(node.value)]
    if getattr(node, "style", None) is None and node.value in ("", "~", "null"):
        return None
    return str(node.value)


def _yaml_from_json(text: str) -> str:
    """JSON as YAML reads it, every line where it was: no tabs between tokens, surrogate pairs as one character."""
    json.loads(text)
    pair = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
    return pair.sub(lambda match: json.loads(f'"{match[0]}"'), text.replace("\t", " "))


def load_document(path: Path, model: type[DocumentT]) -> tuple[Loaded[DocumentT] | None, list[FarmError]]:
    """Read a YAML or JSON document people wrote; the document, or None, and every fault in it.

    When unknown keys are all that is wrong, the document comes without them beside the faults, so that what else is
    wrong with the submission can be told in the same breath.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        fix = "put it there, or correct the path that names it"
        return None, [SubmissionInvalid(f"{path.name} is not there", fix=fix, where=Where(file=str(path)))]
    except UnicodeDecodeError as error:
        return None, [SubmissionInvalid(f"{path.name} is not UTF-8 text: {error.reason}", where=Where(file=str(path)))]
    except IsADirectoryError:
        return None, [SubmissionInvalid(f"{path.name} is a folder", where=Where(file=str(path)))]
    except OSError as error:
        return None, [storage_error(error, path)]
    lines: dict[Place, int] = {}
    try:
        if path.suffix.lower() == ".json":
            text = _yaml_from_json(text)
        tree = yaml.SafeLoader(text).get_single_node()
        found: object = {} if tree is None else _plain(tree, (), lines)
    except _Duplicate as twice:
        what = f"the key `{twice.key}` is given twice"
        return None, [SubmissionInvalid(what, where=Where(file=str(path), line=twice.line), fix="keep one of the two")]
    except (RecursionError, _Endless):
        what = f"{path.name} is nested without end, or holds more than {MOST_NODES} values"
        return None, [SubmissionInvalid(what, fix="write its aliases (`*name`) out", where=Where(file=str(path)))]
    except json.JSONDecodeError as error:
        where = Where(file=str(path), line=error.lineno)
        return None, [SubmissionInvalid(f"{path.name} cannot be read: {error.msg}", where=where)]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        where = Where(file=str(path), line=mark.line + 1 if mark else None)
        return None, [SubmissionInvalid(f"{path.name} cannot be read: {problem}", where=where)]
    try:
        return Loaded(path, model.model_validate(found, by_alias=True, by_name=False), lines), []
    except ValidationError as error:
        faults = _faults(error, path, model, lines)
        unknown = [item["loc"] for item in error.errors(include_url=False) if item["type"] == "extra_forbidden"]
        try:
            known = model.model_validate(_without(found, unknown), by_alias=True, by_name=False)
        except ValidationError:
            return None, faults
        return Loaded(path, known, lines), faults


def _without(found: object, unknown: Iterable[Place]) -> object:
    """A copy of what was read, without the keys at these places; steps that are not in the file are passed over."""
    copied = copy.deepcopy(found)
    for place in unknown:
        part: Any = copied
        for step in place[:-1]:
            with contextlib.suppress(KeyError, IndexError, TypeError):  # a union's member names stand in `place` too
                part = part[step]
        if isinstance(part, dict):
            cast("dict[str | int, object]", part).pop(place[-1], None)
    return copied


_KINDS: Mapping[str, str] = {
    "model_type": "this must be a mapping of keys to values",
    "dict_type": "this must be a mapping of keys to values",
    "tuple_type": "this must be a list",
    "string_type": "this must be a text",
    "string_pattern_mismatch": "a colour is written #rrggbb, for example #ff8000",
    "string_too_short": "this must not be empty",
    "too_short": "this must not be empty",
    "too_long": "this must not have more than {max_length} entries",
    "int_type": "this must be a whole number",
    "int_parsing": "this must be a whole number",
    "int_parsing_size": "this number is too large",
    "int_from_float": "this must be a whole number",
    "float_type": "this must be a number",
    "float_parsing": "this must be a number",
    "finite_number": "this must be a number",
    "bool_type": "this must be true or false",
    "bool_parsing": "this must be true or false",
    "greater_than": "this must be more than {gt}",
    "greater_than_equal": "this must be {ge} or more",
    "less_than_equal": "this must be {le} or less",
    "literal_error": "this must be {expected}",
}
"""What pydantic says of Python types, in the words of the file; in braces what it says beside it."""


def _faults(error: ValidationError, path: Path, model: type[Document], lines: Mapping[Place, int]) -> list[FarmError]:
    faults: dict[tuple[int | None, str], FarmError] = {}
    for item in error.errors(include_url=False):
        if item["type"] == "literal_error" and isinstance(item["input"], list):
            continue  # a list that is one branch of a union; the faults inside it are told by the other branch
        if item["type"] == "too_short" and item["input"]:
            continue  # it is not empty: its entries have faults, which are told
        # pydantic adds the names of union members and tags to `loc`; only steps that exist in the file are kept
        place: Place = ()
        missing: str | None = None
        for step in item["loc"]:
            if (*place, step) in lines:
                place = (*place, step)
            elif item["type"] == "missing":
                missing = str(step)
        line = _line_of(lines, place) or 1
        field = ".".join(str(step) for step in place) or None
        told: dict[str, Any] = item.get("ctx", {})
        kind = _KINDS.get(item["type"])
        message = str(item["msg"]).removeprefix("Value error, ") if kind is None else kind.format_map(told)
        fix: str | None = None
        if item["type"] == "extra_forbidden":
            key = str(item["loc"][-1])
            known = _known_keys(model, item["loc"][:-1])
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            what = f"unknown key `{key}`"
            fix = f"did you mean `{near[0]}`?" if near else f"known keys here: {', '.join(known)}"
        elif missing is not None and isinstance(item["loc"][-1], int):
            what, fix = "this list has too few entries", "add what is missing"
        elif missing is not None:
            what = f"the key `{missing}` is missing"
            fix = f"add `{missing}:`"
        elif item["type"] == "literal_error" and item["loc"][-1] in ("schema", "schema_"):
            what = f"the schema is {item['input']!r}"
            fix = f"this version reads {told['expected']}"
        else:
            given: object = item["input"]
            got = "nothing" if given is None else repr(given)
            what = f"{message} (got {got})" if not isinstance(given, dict | list) else message
            if item["type"] == "literal_error" and isinstance(given, str):
                allowed = re.findall(r"'([^']+)'", told["expected"])
                near = difflib.get_close_matches(given.lower(), allowed, n=1, cutoff=0.5)
                fix = f"did you mean `{near[0]}`?" if near else None
        fault = SubmissionInvalid(what, fix=fix, where=Where(file=str(path), line=line, field=field))
        faults.setdefault((line, what), fault)
    return list(faults.values())


def _known_keys(model: type[Document], place: Place) -> list[str]:
    """The keys valid at a place of a document, found by walking its JSON schema."""
    schema: dict[str, Any] = model.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = schema.get("$defs", {})

    def resolve(part: dict[str, Any]) -> list[dict[str, Any]]:
        if "$ref" in part:
            return resolve(definitions[part["$ref"].rsplit("/", 1)[-1]])
        members: list[dict[str, Any]] = part.get("anyOf", []) + part.get("allOf", [])
        return [found for member in members for found in resolve(member)] if members else [part]

    here = resolve(schema)
    for step in place:
        following: list[dict[str, Any]] = []
        for part in here:
            if isinstance(step, int):
                following += resolve(part["items"]) if "items" in part else []
            elif step in part.get("properties", {}):
                following += resolve(part["properties"][step])
            elif isinstance(part.get("additionalProperties"), dict):
                following += resolve(part["additionalProperties"])
        here = following or here
    return sorted({key for part in here for key in part.get("properties", {})})


def read_document(path: Path, model: type[DocumentT]) -> DocumentT:
    """Read a JSON document the farm wrote.

    Raises SubmissionInvalid when it is absent, not JSON or not of this schema.
    """
    why, fix = "a document of the farm is read whole or not at all", "submit the edit again: the farm writes it anew"
    try:
        return model.model_validate_json(path.read_bytes(), by_alias=True, by_name=False)
    except FileNotFoundError:
        raise SubmissionInvalid(f"{path.name} is not there", why=why, fix=fix, where=Where(file=str(path))) from None
    except OSError as error:
        raise storage_error(error, path) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        name = model.model_fields["schema_"].default
        what = f"{path.name} is not a {name} document: {first['msg']} {f'at {place}' if place else ''}".rstrip()
        raise SubmissionInvalid(what, why=why, fix=fix, where=Where(file=str(path))) from None


def document_text(document: Document) -> str:
    """The JSON text of a document, the same bytes for the same content."""
    return json.dumps(document.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears whole: NAME.part, fsync, rename.

    Raises StorageError.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that appears whole: NAME.part, fsync, rename.

    Raises StorageError.
    """
    with written_whole(path) as part:
        part.write_bytes(content)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Raises OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def written_whole(path: Path) -> Generator[Path]:
    """A file that appears whole or not at all: what is written to the NAME.part handed out is synced and renamed.

    Raises StorageError; after any exception nothing is left behind.
    """
    part = path.with_name(path.name + ".part")
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise storage_error(error, path) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
