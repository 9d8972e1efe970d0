"""Takes on disk: the frames of a shot's segments as one version, its movie and its record, renamed into place.

A version appears whole or not at all, and its frames are never overwritten. The same take (the key of its last segment)
is delivered once: delivering it again finds it, and brings its record and its review movie up to date. Frames keep the
plate's numbers; a movie's count from 1001. With them stays the history of every segment, from which a longer version of
the shot goes on. So a segment that was delivered is put back into a work folder, and not rendered again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from scail2_farm.digests import sha256_of
from scail2_farm.documents import (
    HISTORY,
    KINDS,
    REPORT,
    FileDigest,
    MovieCodec,
    Report,
    SealedShot,
    Segment,
    Take,
    TakeFile,
    TakeSegment,
    document_text,
    segment_folder,
    sync_folder,
    write_text,
)
from scail2_farm.editorial.rates import Time
from scail2_farm.editorial.takes import TakeLink
from scail2_farm.errors import DeliveryBusy, DiskFull, FrameTruncated, Where, storage_error
from scail2_farm.frames import FramePattern, timecode
from scail2_farm.guards import file_name, form_of
from scail2_farm.media import mattes, movies, plates
from scail2_farm.render import (
    color_of,
    finished,
    forget,
    in_order,
    matte_reader,
    open_plate,
    publish,
    stage_of,
    versions,
)
from scail2_farm.review.sheets import Performed, SheetRow, sheet_row, write_sheet
from scail2_farm.versions import TAKE, newest_version, takes, version_folder

FIRST_OF_A_MOVIE = 1001
LOCK = ".lock"
SHEET_ROWS = 4
MOVIE_BYTES_OF_A_PIXEL = 2
"""More than a review movie takes for a pixel of one frame."""
MOVIES: Mapping[MovieCodec, str] = {"prores": "", "prores4444": "_4444", "dnxhr": "_dnxhr", "h264": ""}
"""What stands before a review movie's suffix: one in another codec is made beside the first, never in its place."""
MOST_TOLD = 3
"""Files that one line names; the others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a version holds beside its frames and their comp_matte."""

    raw: bool
    movie: MovieCodec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """The take of a shot that is on disk already; `lacks` says of what is not as it should be what is wrong with it.

    `take` is None where the record cannot be read: nobody knows what was rendered.
    """

    folder: Path
    take: Take | None
    lacks: Mapping[str, str]

    @property
    def usable(self) -> Take | None:
        """The take when its pictures are whole, whatever is wrong with its review movie; that is made from them."""
        movies = {_movie_name(self.take, codec) for codec in get_args(MovieCodec)} if self.take else set[str]()
        return None if self.lacks.keys() - movies else self.take

    @property
    def words(self) -> str:
        """What is lacking and what becomes of it, for the artist; empty when nothing is."""
        if not self.lacks:
            return ""
        told = [f"{name} {what}" for name, what in self.lacks.items()]
        more = f" and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
        does = "it is made from the delivered frames" if self.usable else "the shot is rendered as a new version"
        return f"in {self.folder.name} {', '.join(told[:MOST_TOLD])}{more}: {does}"


def earlier(shot: SealedShot, *, folder: Path, wishes: Wishes) -> Earlier | None:
    """The take of this shot that is on disk: the newest usable one, else the newest that can be read, else the newest.

    None when there is none. Raises StorageError.
    """
    found: list[Earlier] = []
    for path, take in takes(folder, shot.id):
        if take is None:
            found.append(Earlier(folder=path, take=None, lacks={TAKE: "cannot be read"}))
        elif take.key == shot.key:
            found.append(Earlier(folder=path, take=take, lacks=_lacks(take, path, wishes)))
            if found[-1].usable is not None:
                return found[-1]
    return min(found, key=lambda one: one.take is None, default=None)


def _lacks(take: Take, folder: Path, wishes: Wishes) -> dict[str, str]:
    """What of a take and of the wishes for it is not in its folder as it should be, and what is wrong with it.

    Files are known by their sizes. The histories are not looked at: no picture is lost with them. Raises StorageError.
    """
    lacks: dict[str, str] = {}
    histories = {segment.history for segment in take.segments}
    for file in take.files:
        if file.path in histories:
            continue
        try:
            size = (folder / file.path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            lacks[file.path] = "is not there"
        except OSError as error:
            raise storage_error(error, folder / file.path) from error
        else:
            if size != file.bytes:
                lacks[file.path] = f"has {size} of {file.bytes} bytes"
    if wishes.movie is not None and take.movie != (wanted := _movie_name(take, wishes.movie)):
        lacks.setdefault(wanted, "was not asked for before")
    if wishes.raw and take.raw is None:
        lacks["raw frames"] = "were not kept"
    return lacks


def refresh(shot: SealedShot, take: Take, found: Earlier, *, wishes: Wishes) -> Take:
    """A usable take brought up to date: its review movie made again where it lacks, its record told of today's cut.

    Raises StorageError.
    """
    files = [file for file in take.files if file.path not in found.lacks]
    movie, notes = None if take.movie in found.lacks else take.movie, take.notes
    if wishes.movie is not None and found.lacks:
        movie = _movie_name(take, wishes.movie)
        notes = _write_movie(shot, found.folder, _name(take), movie, wishes.movie)
        files = [*(file for file in files if file.path != movie), _file(found.folder, movie)]
    fresh = take.model_copy(
        update={
            "uses": shot.uses,
            "handles_asked": shot.handles_asked,
            "handles_given": shot.handles_given,
            "movie": movie,
            "notes": notes,
            "files": tuple(files),
        }
    )
    if fresh != take:
        write_text(found.folder / TAKE, document_text(fresh))
    return fresh


def deliver(shot: SealedShot, *, folder: Path, work: Path, wishes: Wishes) -> tuple[Take, Path]:
    """The take of a shot and its folder: the one that is there, else its segments in `work` as the next version.

    Delivering again what was delivered finds it, also after a crash. Raises StorageError: DiskFull before anything is
    written, FrameTruncated for a segment that is not rendered, or not as its report says (which is then one to be
    rendered again); nothing half-written is left under a version's name.
    """
    found = earlier(shot, folder=folder, wishes=wishes)
    if found is not None and found.usable is not None:
        return refresh(shot, found.usable, found, wishes=wishes), found.folder
    reports = [_report(shot, index, work, wishes) for index in range(len(shot.segments))]
    version = newest_version(folder, shot.id) + 1
    final = version_folder(folder, shot.id, version)
    part = final.with_name(final.name + ".part")
    name = f"{shot.id}_scail2_v{version:03d}"
    kinds = KINDS if wishes.raw else tuple(kind for kind in KINDS if kind != "raw")
    with _writing(part):
        shutil.rmtree(part, ignore_errors=True)
        for inner in ("", *(kind for kind in kinds if kind != "frames"), "history"):
            (part / inner).mkdir(parents=True, exist_ok=True)
        _check_free(part, _bytes_of(shot, reports, work, wishes), what=shot.id)
        files = _place_files(shot, reports, part, name, kinds, work)
        movie, notes = None, ()
        if wishes.movie is not None:
            movie = _movie_of(name, wishes.movie)
            notes = _write_movie(shot, part, name, movie, wishes.movie)
            files.append(_file(part, movie))
        take = _take(shot, reports, version, name, movie, notes, wishes.raw, files)
        write_text(part / TAKE, document_text(take))
        _write_shot_sheet(shot, part, take, folder / "sheets" / f"{name}.png")
        _sync_folders(part)
        os.replace(part, final)
        _sync_folders(final.parent)
    return take, final


def restore(shot: SealedShot, *, folder: Path, work: Path, wishes: Wishes) -> tuple[bool, ...]:
    """Put the segments that earlier versions of a shot hold back into `work`; which segments are finished there then.

    A segment is put back whole, every file of it by its digest, or left to be rendered. With `wishes.raw` only one that
    has the model's own frames counts, and one in `work` that lacks them is forgotten. Raises StorageError.
    """
    wanted = {index: segment.key for index, segment in enumerate(shot.segments)}
    for index, key in list(wanted.items()):
        place = segment_folder(work, key)
        report = finished(place, key)
        if report is None:
            continue
        if wishes.raw and not _has_raw(report):
            forget(place)
        else:
            del wanted[index]
    if wanted:
        for version, take in takes(folder, shot.id):
            if take is None or (wishes.raw and take.raw is None):
                continue
            there = {one.key: one for one in take.segments}
            for index, key in list(wanted.items()):
                if key in there and _put_back(shot.segment(index, work=work), there[key], take, version):
                    del wanted[index]
            if not wanted:
                break
    return tuple(index not in wanted for index in range(len(shot.segments)))


def links(delivered: Iterable[tuple[Take, Path]]) -> dict[str, TakeLink]:
    """What the clips of a cut are linked to, by clip id: takes and their folders, as their records say of the cut."""
    found: dict[str, TakeLink] = {}
    for take, folder in delivered:
        for use in take.uses:
            if use.clip_id is None or use.start is None:
                continue
            found[use.clip_id] = TakeLink(
                folder=folder,
                prefix=take.pattern.partition("####")[0],
                padding=4,
                suffix=Path(take.pattern).suffix,
                first_file=take.first_file,
                frame_step=take.plate.step,
                count=take.frames.count,
                start=Time(use.start.value, use.start.rate),
                metadata={"take": take.key, "shot": take.shot, "version": take.version, "movie": take.movie},
            )
    return found


@contextmanager
def alone(folder: Path) -> Generator[None]:
    """Hold a delivery folder: two processes never write versions into it at the same time.

    Raises DeliveryBusy when another process holds it, StorageError when it cannot be made.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise storage_error(error, path) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what = "this cut is being rendered or delivered by another process"
            raise DeliveryBusy(what, where=Where(file=str(folder))) from None
        except OSError as error:  # some network file systems know no locks
            raise storage_error(error, path) from error
        yield


# --------------------------------------------------------------------------- room


def room_needed(shots: Iterable[SealedShot]) -> int:
    """The most bytes the shots will take while they are rendered and delivered, each frame twice for a while.

    Counted uncompressed: what a lossy plate becomes in ZIP is many times its own size. Raises FarmError for a plate
    that can no longer be read.
    """
    total = 0
    for shot in shots:
        pixels = shot.plate.width * shot.plate.height
        canvas = max(segment.canvas.width * segment.canvas.height for segment in shot.segments)
        own = plates.frame_bytes(shot.plate.source, shot.frames.range, missing=shot.plate.missing)
        native = own if own is not None and shot.output.format == "plate" else pixels * 12
        left = sum(segment.leave for segment in shot.segments)
        total += 2 * (shot.frames.count * (native + pixels + canvas * 12) + left * canvas * 12)
    return total


def check_room(shots: Iterable[SealedShot], *, folders: Sequence[Path]) -> None:
    """Raises DiskFull when a folder's disk cannot hold what the shots will take, and as room_needed does."""
    needed = room_needed(shots)
    for folder in folders:
        _check_free(folder, needed, what="the job")


def _check_free(folder: Path, needed: int, *, what: str) -> None:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise storage_error(error, folder) from error
    if free < needed:
        raise DiskFull(
            f"the disk has {free / 1e9:.2f} GB free, {what} may need {needed / 1e9:.2f} GB",
            where=Where(file=str(folder)),
        )


def _bytes_of(shot: SealedShot, reports: Sequence[Report], work: Path, wishes: Wishes) -> int:
    """What a version will take on disk; raises FrameTruncated for a file that is gone."""
    total = 0
    for segment, report in zip(shot.segments, reports, strict=True):
        folder = segment_folder(work, segment.key)
        for file in report.frames:
            if wishes.raw or not file.path.startswith("raw/"):
                total += (folder / file.path).stat().st_size
    pixels = shot.plate.width * shot.plate.height
    return total + (shot.frames.count * pixels * MOVIE_BYTES_OF_A_PIXEL if wishes.movie else 0)


# --------------------------------------------------------------------------- what is in a version


def _file_number(take: SealedShot | Take, frame: int) -> int:
    """The number a plate frame is delivered under: a sequence's own; a movie's are counted from 1001."""
    if take.plate.kind == "movie":
        return FIRST_OF_A_MOVIE + frame - take.frames.first
    return take.plate.number(frame)


def _has_raw(report: Report) -> bool:
    """Whether a segment has the model's own frames; one that was put back from a version without them has not."""
    return any(file.path.startswith("raw/") for file in report.frames)


def _report(shot: SealedShot, index: int, work: Path, wishes: Wishes) -> Report:
    """The report of a rendered segment."""
    key = shot.segments[index].key
    folder = segment_folder(work, key)
    report = finished(folder, key)
    if report is None or (wishes.raw and not _has_raw(report)):
        forget(folder)
        raise FrameTruncated(
            f"segment {index + 1} of {len(shot.segments)} is not rendered, or lost a file",
            fix="submit again; the segment is rendered again",
            where=Where(file=str(folder), shot=shot.id),
        )
    return report


def _place_files(
    shot: SealedShot, reports: Sequence[Report], part: Path, name: str, kinds: Sequence[str], work: Path
) -> list[TakeFile]:
    """Copy every segment's frames and history under their delivered names, each checked as it is read back."""
    placed: list[TakeFile] = []
    for index, (segment, report) in enumerate(zip(shot.segments, reports, strict=True)):
        folder = segment_folder(work, segment.key)
        for file in report.frames:
            kind, _, number = file.path.partition("/")
            if file.path == HISTORY:
                inner = _history_name(index)
            elif kind in kinds:
                inner = _inner_name(shot, name, int(Path(number).stem), kind)
            else:
                continue
            _copy(folder / file.path, part / inner)
            copied = _file(part, inner)
            if copied.sha256 != file.sha256:
                forget(folder)
                raise FrameTruncated(
                    f"{file.path} changed after it was rendered",
                    fix="submit again; the segment is rendered again",
                    where=Where(file=str(folder)),
                )
            placed.append(copied)
    wanted = shot.frames.count * len(kinds) + len(shot.segments)
    if len(placed) != wanted:
        raise FrameTruncated(f"{len(placed)} files were rendered, {wanted} are needed", where=Where(shot=shot.id))
    return placed


def _history_name(index: int) -> str:
    return f"history/{index}.npy"


def _inner_name(take: SealedShot | Take, name: str, frame: int, kind: str) -> str:
    """The name of one plate frame's file in a version, whose files begin with `name`."""
    number = _file_number(take, frame)
    if kind == "frames":
        return FramePattern(Path(), f"{name}.", 4, _suffix(take)).name(number)
    return f"{kind}/{FramePattern(Path(), f'{name}_{kind}.', 4, '.exr').name(number)}"


def _suffix(take: SealedShot | Take) -> str:
    """What the names of delivered frames end with."""
    return form_of(take).suffix(take.plate.source)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as write:
        shutil.copyfileobj(read, write, 1 << 20)
        write.flush()
        os.fsync(write.fileno())


def _file(folder: Path, path: str) -> TakeFile:
    return TakeFile(path=path, sha256=sha256_of(folder / path), bytes=(folder / path).stat().st_size)


def _movie_name(take: Take, codec: MovieCodec) -> str:
    return _movie_of(_name(take), codec)


def _movie_of(name: str, codec: MovieCodec) -> str:
    """The review movie of a version whose files begin with `name`."""
    return f"{name}{MOVIES[codec]}{movies.movie_suffix(codec)}"


def _name(take: Take) -> str:
    """What the files of a take begin with."""
    return take.pattern.rpartition(".####.")[0]


def _take(
    shot: SealedShot,
    reports: Sequence[Report],
    version: int,
    name: str,
    movie: str | None,
    notes: tuple[str, ...],
    raw: bool,
    files: Sequence[TakeFile],
) -> Take:
    return Take(
        key=shot.key,
        shot=shot.id,
        version=version,
        uses=shot.uses,
        frames=shot.frames,
        stood_in=tuple(frame for frame in shot.plate.missing if frame in shot.frames.range),
        handles_asked=shot.handles_asked,
        handles_given=shot.handles_given,
        pattern=f"{name}.####{_suffix(shot)}",
        first_file=_file_number(shot, shot.frames.first),
        movie=movie,
        notes=notes,
        raw="raw" if raw else None,
        comp_matte="comp_matte",
        exact=form_of(shot).exact,
        plate=shot.plate,
        color=shot.color,
        output=shot.output,
        performers=shot.performers,
        driving=shot.driving,
        weights=shot.weights,
        segmenting=shot.segmenting,
        segments=tuple(
            TakeSegment(
                key=segment.key,
                window=segment.window,
                overlap=segment.overlap,
                frames=segment.keep,
                history=_history_name(index),
                mode=segment.mode,
                prompt=segment.prompt,
                negative_prompt=segment.negative_prompt,
                seed=segment.seed,
                sampler=segment.sampler,
                loras=segment.loras,
                canvas=segment.canvas,
            )
            for index, segment in enumerate(shot.segments)
        ),
        inputs=shot.inputs,
        files=tuple(files),
        seconds=sum(report.seconds for report in reports),
        peak_bytes=max(report.peak_bytes for report in reports),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
    )


# --------------------------------------------------------------------------- back into the work folder


def _put_back(segment: Segment, own: TakeSegment, take: Take, version: Path) -> bool:
    """Whether a segment of a take could be put back into its folder: every file linked or copied, and as recorded."""
    known = {file.path: file for file in take.files}
    kinds = [kind for kind in KINDS if kind != "raw" or take.raw is not None]
    sources = {
        f"{kind}/{file_name(take, kind, frame)}": _inner_name(take, _name(take), frame, kind)
        for kind in kinds
        for frame in own.frames.range.numbers
    } | {HISTORY: own.history}
    if not all(inner in known for inner in sources.values()):
        return False
    folder = Path(segment.folder)
    stage = stage_of(folder)
    with _writing(stage):
        shutil.rmtree(stage, ignore_errors=True)
        for kind in kinds:
            (stage / kind).mkdir(parents=True)
        for path, inner in sources.items():
            if not _linked(version / inner, stage / path, known[inner]):
                shutil.rmtree(stage)
                return False
        report = Report(
            key=segment.key,
            state="done",
            frames=tuple(FileDigest(path=path, sha256=known[inner].sha256) for path, inner in sources.items()),
            seconds=0.0,
            steps_seconds=(),
            peak_bytes=0,
            finished=take.finished,
            versions=take.versions,
        )
        write_text(stage / REPORT, document_text(report))
    publish(stage, folder)
    return True


def _linked(source: Path, target: Path, known: TakeFile) -> bool:
    """Whether a delivered file is now also `target`, with the size and the content its record says."""
    try:
        if source.stat().st_size != known.bytes:
            return False
        try:
            os.link(source, target)
        except OSError:  # another disk, or one without links
            _copy(source, target)
    except FileNotFoundError:
        return False
    return sha256_of(target) == known.sha256


# --------------------------------------------------------------------------- what people look at


def _frame_path(folder: Path, shot: SealedShot, name: str, frame: int) -> Path:
    """The delivered file of one plate frame of a shot."""
    return folder / _inner_name(shot, name, frame, "frames")


def _write_movie(shot: SealedShot, folder: Path, name: str, movie: str, codec: MovieCodec) -> tuple[str, ...]:
    """The review movie: the delivered frames as a display shows them, with the plate's timecode and its sound.

    Returns what its viewer should know.
    """
    plate, color = shot.plate, color_of(shot)

    def picture(frame: int) -> NDArray[np.float32]:
        return color.to_display(plates.read_rgb(_frame_path(folder, shot, name, frame)))

    code = None
    if plate.timecode_start is not None:
        first = plate.timecode_start + shot.frames.first - plate.frames.first
        code = timecode(first, plate.rate, drop=plate.drop_frame)
    pictures = in_order(picture, shot.frames.range.numbers, at_once=os.cpu_count() or 1)
    written = movies.write_movie(
        folder / movie,
        pictures,
        rate=plate.rate,
        timecode=code,
        pixel_aspect=plate.pixel_aspect,
        codec=codec,
        audio=movies.Sound(path=Path(plate.path), frames=shot.frames.range) if plate.kind == "movie" else None,
    )
    return written.notes


def _write_shot_sheet(shot: SealedShot, version: Path, take: Take, path: Path) -> None:
    """The sheet of a shot: before, after, difference and mattes at a few frames."""
    color, first = color_of(shot), shot.segments[0]
    used = sorted({frame for use in shot.uses for frame in use.cut.range.numbers})
    picks = sorted({used[round(step * (len(used) - 1) / (SHEET_ROWS - 1))] for step in range(SHEET_ROWS)})
    name = _name(take)
    slots = [mattes.SLOT_NUMBERS[performer.slot] for performer in take.performers]
    read_mattes = matte_reader(shot.performers, shot.plate)
    rows: list[SheetRow] = []
    with open_plate(shot.plate) as plate, _performance(shot, slots) as performed:
        for frame in picks:
            people = read_mattes(frame)
            before = plate.read(frame)
            rows.append(
                sheet_row(
                    str(_file_number(shot, frame)),
                    before=before.rgb,
                    after=plates.read_rgb(_frame_path(version, shot, name, frame)),
                    labels=mattes.identity_map(people, slots=slots),
                    matte=np.where(before.covered, mattes.comp_matte(people), np.float32(0)),
                    to_display=color.to_display,
                    pixel_aspect=take.plate.pixel_aspect,
                    exact=take.exact,
                    performed=performed(frame),
                )
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    form = "" if take.output.format == "plate" else f"  as {take.output.format}"
    title = f"{take.shot} v{take.version:03d}  {first.mode}  seed {first.seed}  {take.color.space}{form}"
    cast = {performer.id: performer.slot for performer in take.performers}
    write_sheet(path, title=title, rows=rows, cast=cast)


@contextmanager
def _performance(shot: SealedShot, slots: Sequence[int]) -> Generator[Callable[[int], Performed | None]]:
    """What moved the characters at a frame of the plate; None where the plate itself did."""
    driving = shot.driving
    if driving is None:
        yield lambda frame: None
        return
    clip, color, read_mattes = driving.clip, color_of(driving), matte_reader(driving.roles, driving.clip)
    with open_plate(clip) as opened:

        def look(frame: int) -> Performed:
            return Performed(
                picture=opened.read(frame + driving.offset).rgb,
                labels=mattes.identity_map(read_mattes(frame + driving.offset), slots=slots),
                to_display=color.to_display,
                pixel_aspect=clip.pixel_aspect,
            )

        yield look


def _sync_folders(top: Path) -> None:
    """Make the names in a folder and in those below it durable."""
    for folder in (top, *(path for path in top.iterdir() if path.is_dir())):
        sync_folder(folder)


@contextmanager
def _writing(part: Path) -> Generator[None]:
    """Leaves nothing of a version that could not be finished."""
    try:
        yield
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise storage_error(error, part) from error
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
