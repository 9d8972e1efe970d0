"""One segment, from its document to frames on disk. The same command on a farm and at home, and idempotent.

The translation from the words of editorial to the words of the model happens here, once: plate -> driving (pose),
matte -> mask, character -> reference. What a segment leaves in its folder::

    frames/NUMBER.*          the plate with the characters comped in, in the plate's own class unless another is named
    comp_matte/NUMBER.exr    where the picture is not the plate's
    raw/NUMBER.exr           the model's picture, sRGB, at canvas size
    history.npy              the last frames of the window, as floats: the next segment starts from them
    report.json              written last; a segment without it is not done

NUMBER is the plate's frame, as the plate counts its frames: one by one, whatever the step between its file numbers;
delivering gives each the file number it must have. A plate's pixel outside comp_matte is never computed with: it is
copied, from the frame that stands in where the plate has none.
"""

from __future__ import annotations

import dataclasses
import io
import os
import platform
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from fractions import Fraction
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from scail2_farm import __version__
from scail2_farm import engine as engines
from scail2_farm.digests import sha256_of
from scail2_farm.documents import (
    HISTORY,
    KINDS,
    REPORT,
    Driving,
    FileDigest,
    Matted,
    Performer,
    PlateSource,
    Reference,
    Report,
    SealedShot,
    Segment,
    document_text,
    read_document,
    write_bytes,
    write_text,
)
from scail2_farm.engine import (
    Engine,
    Sampling,
    SegmentInputs,
    SegmentResult,
    Shape,
    Step,
    available_bytes,
    driving_background,
    paint,
    reference_background,
)
from scail2_farm.errors import FrameTruncated, InputError, SubmissionInvalid, Where, storage_error
from scail2_farm.frames import FramePattern, timecode
from scail2_farm.guards import file_name, form_of
from scail2_farm.media import exr, mattes, plates, stills
from scail2_farm.media.canvas import Canvas, Portrait, compose, extra_view
from scail2_farm.media.color import ColorDecision, ModelColor
from scail2_farm.media.comp import comp
from scail2_farm.settings import cache_folder, load_settings

Floats = NDArray[np.float32]
Labels = NDArray[np.uint8]
T = TypeVar("T")
R = TypeVar("R")

BLACK = (0, 0, 0)  # behind the character of an extra view, in every mode (engine.md §3.4)
MOST_FPS_OF_A_TIMECODE = 60  # SMPTE ST 12-1 counts pairs of at most 30; beyond, an EXR cannot say it
MODEL_SPACE = "srgb_rec709_display"
"""What a raw frame's header says of its colour (the colour interop id of what the model makes)."""


def finished(folder: Path, key: str) -> Report | None:
    """The report of the segment of this key in a folder when it is already rendered, every file of it there; else None.

    A damaged report is none: the segment is rendered again. Raises StorageError.
    """
    if not (folder / REPORT).is_file():
        return None
    try:
        report = read_document(folder / REPORT, Report)
    except SubmissionInvalid:
        return None
    if report.key != key or not all((folder / file.path).is_file() for file in report.frames):
        return None
    return report


def forget(folder: Path) -> None:
    """Make the segment of this folder an unfinished one, to be rendered again: its files are not what its report says.

    Raises StorageError.
    """
    with _writing(folder):
        (folder / REPORT).unlink(missing_ok=True)


def stage_of(folder: Path) -> Path:
    """Where what is to be a segment's folder is made."""
    return folder.with_name(f"{folder.name}.stage")


def publish(stage: Path, folder: Path) -> None:
    """Put what was made in a stage in its place, whole; an unfinished segment there is swept.

    Raises StorageError.
    """
    with _writing(folder):
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(stage, folder)


def engine_for(segment: Segment) -> Engine:
    """An engine with the weights and the precision a segment asks for.

    Raises SettingsInvalid, and as `engine.load` does.
    """
    weights, cache = segment.weights, cache_folder(load_settings())
    precision = segment.sampler.precision
    return engines.load(Path(weights.path), precision=precision, cache=cache, content=weights.sha256)


def suits(engine: Engine | None, segment: Segment) -> TypeGuard[Engine]:
    """Whether an engine has the weights, which may be changed in place, and the precision that a segment asks for."""
    weights = segment.weights
    wanted = Path(weights.path), weights.sha256, segment.sampler.precision
    return engine is not None and (engine.snapshot.folder, engine.content, engine.precision) == wanted


def render(segment: Segment, *, engine: Engine) -> Generator[Step, None, Report]:
    """Render one segment; yields the engine's steps, returns the report that is then on disk.

    A segment whose report is there is not rendered again. Closing the generator cancels; what is left without a
    report is swept by the next try. Raises FarmError.
    """
    folder = Path(segment.folder)
    done = finished(folder, segment.key)
    if done is not None:
        return done
    started = time.monotonic()
    with _writing(folder):
        shutil.rmtree(folder, ignore_errors=True)
        for kind in KINDS:
            (folder / kind).mkdir(parents=True)
    inputs = segment_inputs(segment)
    engine.adapt([(Path(lora.path), lora.strength) for lora in segment.loras])
    engine.admit(_shape(inputs), available=available_bytes())
    result: SegmentResult = yield from engine.render(inputs)
    with _writing(folder):
        _write_frames(segment, result.frames)
        _write_history(segment, inputs, result.frames)
    files = [path for kind in KINDS for path in sorted((folder / kind).iterdir())] + [folder / HISTORY]
    report = Report(
        key=segment.key,
        state="done",
        frames=tuple(FileDigest(path=str(path.relative_to(folder)), sha256=sha256_of(path)) for path in files),
        seconds=time.monotonic() - started,
        steps_seconds=result.steps_seconds,
        peak_bytes=result.peak_bytes,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
    )
    write_text(folder / REPORT, document_text(report))
    return report


def _shape(inputs: SegmentInputs) -> Shape:
    """What decides the memory a segment takes."""
    frames, height, width, _ = inputs.driving.shape
    return Shape(
        width=width,
        height=height,
        frames=frames,
        extra_references=len(inputs.extra_references),
        history=0 if inputs.history is None else len(inputs.history),
        guidance=inputs.sampling.guidance,
    )


def versions() -> dict[str, str]:
    """The versions a take depends on."""
    packages = ("mlx", "numpy", "opencolorio", "OpenEXR", "av", "OpenImageIO", "pillow")
    return {
        "scail2-farm": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    } | {name: metadata.version(name) for name in packages}


# --------------------------------------------------------------------------- towards the model


def segment_inputs(segment: Segment) -> SegmentInputs:
    """Everything the engine needs, read from disk and brought into the model's terms.

    Raises FrameTruncated when an input that was whole at planning no longer reads.
    """
    replace = segment.mode == "replacement"
    slots = [mattes.SLOT_NUMBERS[performer.slot] for performer in segment.performers]
    driving = segment.driver
    canvas, color = _canvas_driven(segment), color_of(driving)
    read_mattes = matte_reader(driving.roles, driving.clip)
    pictures: list[Floats] = []
    labels: list[Labels] = []
    with open_plate(driving.clip) as clip:

        def look(frame: int) -> tuple[Floats, Labels]:
            picture = color.to_model(canvas.to_canvas(_read_plate(clip, frame + driving.offset).rgb))
            people = mattes.identity_map(read_mattes(frame + driving.offset), slots=slots)
            return picture, canvas.labels_to_canvas(people)

        for picture, people in in_order(look, _window_frames(segment), at_once=_at_once(driving.clip)):
            pictures.append(picture)
            labels.append(people)
    reference, reference_labels = compose([_primary(performer) for performer in segment.performers], canvas)
    sampler = segment.sampler
    return SegmentInputs(
        driving=np.stack(pictures),
        driving_mask=paint(np.stack(labels), background=driving_background(replace=replace)),
        reference=reference,
        reference_mask=paint(reference_labels, background=reference_background(replace=replace)),
        extra_references=tuple(_extra_views(segment, canvas)),
        history=_history(segment, canvas_of(segment)),
        prompt=segment.prompt,
        negative_prompt=segment.negative_prompt,
        replace=replace,
        sampling=Sampling(
            solver=sampler.solver,
            steps=sampler.steps,
            shift=sampler.shift,
            guidance=sampler.guidance,
            pose_strength=sampler.pose_strength,
            pose_start=sampler.pose_start,
            pose_end=sampler.pose_end,
        ),
        seed=segment.seed,
        segment=segment.index,
    )


def open_plate(plate: PlateSource) -> plates.Plate:
    """The plate, with what stands in for the frames it lacks.

    Raises PlateMissing, PlateUnreadable, StorageError.
    """
    return plates.open_plate(plate.source, missing=plate.missing, stand_in=plate.stand_in)


def canvas_of(segment: Segment) -> Canvas:
    """The geometry between plate and model."""
    return Canvas(
        plate_width=segment.plate.width,
        plate_height=segment.plate.height,
        width=segment.canvas.width,
        height=segment.canvas.height,
        active=segment.canvas.active,
    )


def _canvas_driven(segment: Segment) -> Canvas:
    """The geometry between what drives a segment and the model: a performance may have other proportions."""
    if segment.driving is None:
        return canvas_of(segment)
    clip, size = segment.driving.clip, (segment.canvas.width, segment.canvas.height)
    return Canvas.around(clip.width, clip.height, pixel_aspect=clip.pixel_aspect, size=size)


def color_of(clip: Segment | SealedShot | Driving) -> ModelColor:
    """The colour transform between a plate, or a performance, and the model."""
    color = clip.color
    decision = ColorDecision.named(
        color.space, config=color.config, config_digest=color.digest, decided_by=color.decided_by
    )
    return ModelColor(decision, tone=color.tone)


def _window_frames(segment: Segment) -> list[int]:
    """The plate frame behind each of the window's frames; beyond what is kept the last kept frame is repeated."""
    last = segment.keep.first + segment.keep.count - 1
    return [min(segment.window.first + index, last) for index in range(segment.window.count)]


def _read_plate(plate: plates.Plate, frame: int) -> plates.PlateFrame:
    try:
        return plate.read(frame)
    except InputError as fault:
        raise FrameTruncated(fault.what, why=None, where=fault.where) from fault


def matte_reader(people: Sequence[Matted], clip: PlateSource) -> Callable[[int], list[Floats]]:
    """What reads the matte of each of these people at one frame of a clip, in their order, 0..1 at the clip's size.

    A matte has the file number of its clip's frame, plus its offset. At a frame that the clip lacks, without a matte of
    its own, it is that of the frame that stands in, or nobody is there; who is the whole frame is there always. Both
    raise StorageError; reading raises FrameTruncated.
    """
    everywhere, nowhere = (np.full((clip.height, clip.width), value, np.float32) for value in (1, 0))
    sources: list[tuple[FramePattern | None, int, Mapping[int, int | None]]] = []
    for one in people:
        pattern, offset = one.mattes(clip), one.matte_offset
        missing = [lacking + offset for lacking in clip.missing]
        others = {} if pattern is None else mattes.stand_ins(pattern, missing, clip.stand_in)
        sources.append((pattern, offset, others))

    def read(frame: int) -> list[Floats]:
        found: list[Floats] = []
        for pattern, offset, others in sources:
            if pattern is None:
                found.append(everywhere)
                continue
            shown = others.get(frame + offset, frame + offset)
            try:
                found.append(nowhere if shown is None else mattes.read_matte(pattern.path(shown)))
            except InputError as fault:
                raise FrameTruncated(fault.what, where=fault.where) from fault
        return found

    return read


def _primary(performer: Performer) -> Portrait:
    """The performer's first still, and where he is to stand."""
    seen = performer.seen
    return dataclasses.replace(_portrait(performer, performer.references[0]), seen=seen.sides if seen else None)


def _extra_views(segment: Segment, canvas: Canvas) -> Iterator[tuple[Floats, Labels]]:
    """The performers' further stills in their order, with masks in the identity colours on black."""
    for performer in segment.performers:
        for reference in performer.references[1:]:
            picture, labels = extra_view(_portrait(performer, reference), canvas)
            yield picture, paint(labels, background=BLACK)


def _portrait(performer: Performer, reference: Reference) -> Portrait:
    return Portrait(
        image=stills.read_still(Path(reference.image)).rgb,
        mask=stills.read_mask(Path(reference.mask)) if reference.mask else None,
        slot=mattes.SLOT_NUMBERS[performer.slot],
    )


def _history(segment: Segment, canvas: Canvas) -> Floats | None:
    """The last frames of the segment before, on this segment's canvas."""
    if segment.history is None:
        return None
    folder = Path(segment.history)
    path = folder / HISTORY
    try:
        report = read_document(folder / REPORT, Report)
        content = path.read_bytes()
    except (OSError, SubmissionInvalid) as error:
        raise _no_history(path, "cannot be read") from error
    if sha256(content).hexdigest() not in {file.sha256 for file in report.frames if file.path == HISTORY}:
        forget(folder)
        raise _no_history(path, "changed after it was rendered")
    frames: Floats = np.load(io.BytesIO(content), allow_pickle=False)
    if frames.shape[1:3] == (canvas.height, canvas.width):
        return frames
    plate = segment.plate
    size = (frames.shape[2], frames.shape[1])
    theirs = Canvas.around(plate.width, plate.height, pixel_aspect=plate.pixel_aspect, size=size)
    return np.stack([canvas.from_another(frame, theirs) for frame in frames])


def _no_history(path: Path, what: str) -> FrameTruncated:
    return FrameTruncated(
        f"the history of the segment before {what}",
        fix="submit again; the segment before is rendered again",
        where=Where(file=str(path)),
    )


# --------------------------------------------------------------------------- back to the plate


def _write_frames(segment: Segment, frames: Floats) -> None:
    """Write the frames this segment hands in; `frames` are the engine's, history already dropped."""
    first = segment.window.first + segment.overlap
    canvas, color = canvas_of(segment), color_of(segment)
    folder = Path(segment.folder)
    frame_header, form = _frame_header(segment, color), form_of(segment)
    read_mattes = matte_reader(segment.performers, segment.plate)
    with open_plate(segment.plate) as plate:

        def write(frame: int) -> None:
            paths = {kind: folder / kind / file_name(segment, kind, frame) for kind in KINDS}
            attributes = _attributes(segment, frame)
            picture = frames[frame - first]
            native = _read_plate(plate, frame)
            matte = np.where(native.covered, mattes.comp_matte(read_mattes(frame)), np.float32(0))
            rgb = native.rgb
            if (box := mattes.reach(matte)) is not None:
                rgb = comp(native.rgb, to_plate(picture, canvas=canvas, color=color, box=box), matte, box=box)
            exr.write_rgb(paths["raw"], picture, attributes={**attributes, "colorInteropID": MODEL_SPACE})
            exr.write_matte(paths["comp_matte"], matte, attributes=attributes)
            attributes |= frame_header
            plates.write(paths["frames"], native, rgb=rgb, where=matte > 0, attributes=attributes, form=form)

        for _ in in_order(write, segment.keep.range.numbers, at_once=_at_once(segment.plate)):
            pass


def to_plate(picture: Floats, *, canvas: Canvas, color: ModelColor, box: mattes.Box) -> Floats:
    """A box of the plate as the model's picture (canvas height, canvas width, 3) sRGB shows it, in its space and size.

    Only what the box depends on is converted: the inverse of the view is what a frame costs most.
    """
    rows, columns = canvas.beneath(box)
    light = np.zeros_like(picture, np.float32)
    light[rows, columns] = color.from_model(picture[rows, columns])
    return canvas.from_canvas(light, log=color.decision.encoding == "scene-linear", box=box)


def _frame_header(segment: Segment, color: ModelColor) -> dict[str, object]:
    """What a frame must say of its picture where its own header does not: a movie's has none, a new file's neither."""
    found: dict[str, object] = {"pixelAspectRatio": segment.plate.pixel_aspect}
    if color.decision.interop_id:
        found["colorInteropID"] = color.decision.interop_id
    return found


def _attributes(segment: Segment, frame: int) -> dict[str, object]:
    """Provenance, rate and timecode; where the frame's own header has one of them, its word stands."""
    found: dict[str, object] = {
        "framesPerSecond": Fraction(segment.plate.rate),
        "scail2_farm:segment": segment.key,
        "scail2_farm:version": __version__,
        "scail2_farm:mode": segment.mode,
        "scail2_farm:seed": str(segment.seed),
    }
    if segment.plate.stand_in is not None and frame in segment.plate.missing:
        found["scail2_farm:stand_in"] = segment.plate.stand_in
    if segment.plate.timecode_start is not None and segment.plate.rate <= MOST_FPS_OF_A_TIMECODE:
        count = segment.plate.timecode_start + frame - segment.plate.frames.first
        found["timeCode"] = timecode(count, segment.plate.rate, drop=segment.plate.drop_frame)
    return found


def _write_history(segment: Segment, inputs: SegmentInputs, frames: Floats) -> None:
    """Keep the last valid frames of the window for the segment after; never read back from the delivery."""
    valid = segment.keep.first + segment.keep.count - (segment.window.first + segment.overlap)
    known = frames[:valid] if inputs.history is None else np.concatenate([inputs.history, frames[:valid]])
    content = io.BytesIO()
    np.save(content, known[-segment.leave :], allow_pickle=False)
    write_bytes(Path(segment.folder) / HISTORY, content.getvalue())


# --------------------------------------------------------------------------- many frames at once


def _at_once(clip: PlateSource) -> int:
    """How many frames are worked on together: a sequence's one a core, a movie's decoder knows only one."""
    return 1 if clip.kind == "movie" else os.cpu_count() or 1


def in_order(work: Callable[[T], R], items: Iterable[T], *, at_once: int) -> Iterator[R]:
    """The results of `work` in the order of the items, at most two ahead of each core."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def _writing(folder: Path) -> Generator[None]:
    """Turns a full disk or a lost share into the StorageError that says so."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, folder) from error
