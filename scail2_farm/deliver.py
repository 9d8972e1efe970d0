"""Takes on disk: the frames of a shot's segments as one version, its movie and its record, renamed into place.

A version appears whole or not at all, and its frames are never overwritten. The same take (the key of its last segment)
is delivered once: delivering it again finds it, and brings its record and its review movie up to date. Frames keep the
plate's numbers; a movie's count from 1001.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scail2_farm.digests import sha256_of
from scail2_farm.documents import (
    Report,
    Span,
    Take,
    TakeFile,
    TakeSegment,
    Use,
    document_text,
    read_document,
    write_text,
)
from scail2_farm.errors import DiskFull, FrameTruncated, SubmissionInvalid, Where, storage_error
from scail2_farm.frames import FramePattern, timecode
from scail2_farm.media import exr, mattes, movies, plates
from scail2_farm.render import KINDS, color_of, forget, matte_reader, open_plate, versions
from scail2_farm.review.sheets import SheetRow, write_sheet
from scail2_farm.seal import Sealed
from scail2_farm.shots import Shot

FIRST_OF_A_MOVIE = 1001
TAKE = "take.json"
SHEET_ROWS = 4
MOST_TOLD = 3
"""Files that one line names; the others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a version holds beside its frames and their comp_matte."""

    raw: bool
    movie: bool


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
        """The take when its frames are whole, whatever is wrong with its review movie; that is made from them."""
        return None if self.take is None or self.lacks.keys() - {_movie_name(self.take)} else self.take

    @property
    def words(self) -> str:
        """What is lacking and what becomes of it, for the artist; empty when nothing is."""
        if not self.lacks:
            return ""
        told = [f"{name} {what}" for name, what in self.lacks.items()]
        more = f" and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
        does = "it is made again from the delivered frames" if self.usable else "the shot is rendered as a new version"
        return f"in {self.folder.name} {', '.join(told[:MOST_TOLD])}{more}: {does}"


def earlier(sealed: Sealed, *, folder: Path, wishes: Wishes) -> Earlier | None:
    """The take of this shot that is on disk: the newest usable one, else the newest that can be read, else the newest.

    None when there is none. Raises StorageError.
    """
    found: list[Earlier] = []
    for version in reversed(_versions(folder, sealed.shot.id)):
        path = _version_folder(folder, sealed.shot.id, version)
        try:
            take = read_document(path / TAKE, Take)
        except SubmissionInvalid:
            found.append(Earlier(folder=path, take=None, lacks={TAKE: "cannot be read"}))
            continue
        if take.key == sealed.key:
            found.append(Earlier(folder=path, take=take, lacks=_lacks(take, path, wishes)))
    found.sort(key=lambda one: (one.usable is None, one.take is None))
    return found[0] if found else None


def _lacks(take: Take, folder: Path, wishes: Wishes) -> dict[str, str]:
    """What of a take and of the wishes for it is not in its folder as it should be, and what is wrong with it.

    Files are known by their sizes. Raises StorageError.
    """
    lacks: dict[str, str] = {}
    for file in take.files:
        try:
            size = (folder / file.path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            lacks[file.path] = "is not there"
        except OSError as error:
            raise storage_error(error, folder / file.path) from error
        else:
            if size != file.bytes:
                lacks[file.path] = f"has {size} of {file.bytes} bytes"
    if wishes.movie and take.movie is None:
        lacks[_movie_name(take)] = "was not asked for"
    if wishes.raw and take.raw is None:
        lacks["raw frames"] = "were not kept"
    return lacks


def refresh(sealed: Sealed, take: Take, found: Earlier) -> Take:
    """A usable take brought up to date: its review movie made again where it lacks, its record told of today's cut.

    Raises StorageError.
    """
    movie, files = take.movie, take.files
    if found.lacks:
        movie = _movie_name(take)
        _write_movie(sealed, found.folder, movie)
        files = (*(file for file in files if file.path != movie), _file(found.folder, movie))
    fresh = take.model_copy(
        update={
            "uses": _uses(sealed.shot),
            "handles_asked": sealed.shot.handles_asked,
            "handles_given": sealed.shot.handles_given,
            "movie": movie,
            "files": files,
        }
    )
    if fresh != take:
        write_text(found.folder / TAKE, document_text(fresh))
    return fresh


def deliver(sealed: Sealed, reports: Sequence[Report], *, folder: Path, wishes: Wishes) -> tuple[Take, Path]:
    """Put a shot's frames into the next free version under `folder`/shots and return the take and its folder.

    Raises StorageError; nothing half-written is left under a version's name.
    """
    shot = sealed.shot
    version = (_versions(folder, shot.id) or [0])[-1] + 1
    final = _version_folder(folder, shot.id, version)
    part = final.with_name(final.name + ".part")
    name = f"{shot.id}_scail2_v{version:03d}"
    with _writing(part):
        shutil.rmtree(part, ignore_errors=True)
        kinds = KINDS if wishes.raw else tuple(kind for kind in KINDS if kind != "raw")
        for kind in kinds:
            (part if kind == "frames" else part / kind).mkdir(parents=True, exist_ok=True)
        files = _place_frames(sealed, reports, part, name, kinds)
        movie = f"{name}.mov" if wishes.movie else None
        if movie is not None:
            _write_movie(sealed, part, movie)
            files.append(_file(part, movie))
        take = _take(sealed, reports, version, name, movie, wishes.raw, files)
        write_text(part / TAKE, document_text(take))
        _write_shot_sheet(sealed, part, take, folder / "sheets" / f"{name}.png")
        _sync_folders(part)
        os.replace(part, final)
        _sync_folders(final.parent)
    return take, final


def room_needed(shots: Sequence[Sealed]) -> int:
    """The most bytes the shots will take while they are rendered and delivered, each frame twice for a while.

    Counted uncompressed: what a lossy plate becomes in ZIP is many times its own size. Raises FarmError for a plate
    that can no longer be read.
    """
    total = 0
    for sealed in shots:
        shot, pixels = sealed.shot, sealed.shot.plate.width * sealed.shot.plate.height
        canvas = max(scene.canvas.width * scene.canvas.height for scene in shot.scenes)
        native = plates.frame_bytes(shot.plate.source, shot.frames, missing=shot.plate.missing) or pixels * 12
        total += 2 * shot.frames.count * (native + pixels + canvas * 12)
    return total


def check_room(shots: Sequence[Sealed], *, folders: Sequence[Path]) -> None:
    """Raises DiskFull when a folder's disk cannot hold what the shots will take, and as room_needed does."""
    needed = room_needed(shots)
    for folder in folders:
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise DiskFull(
                f"the disk has {free / 1e9:.2f} GB free, the job may need {needed / 1e9:.2f} GB",
                where=Where(file=str(folder)),
            )


# --------------------------------------------------------------------------- versions


def _shot_folder(folder: Path, shot: str) -> Path:
    return folder / "shots" / shot


def _version_folder(folder: Path, shot: str, version: int) -> Path:
    return _shot_folder(folder, shot) / f"v{version:03d}"


def _versions(folder: Path, shot: str) -> list[int]:
    """Every version on disk, in order."""
    place = _shot_folder(folder, shot)
    if not place.is_dir():
        return []
    return sorted(int(entry.name[1:]) for entry in place.iterdir() if re.fullmatch(r"v\d{3,}", entry.name))


# --------------------------------------------------------------------------- what is in a version


def _file_number(shot: Shot, frame: int) -> int:
    """The number a plate frame is delivered under: a sequence's own; a movie's are counted from 1001."""
    plate = shot.plate
    if plate.kind == "movie":
        return FIRST_OF_A_MOVIE + frame - shot.frames.first
    return plate.number(frame)


def _place_frames(
    sealed: Sealed, reports: Sequence[Report], part: Path, name: str, kinds: Sequence[str]
) -> list[TakeFile]:
    """Copy every segment's frames under their delivered names, each checked against its report as it is read back."""
    shot = sealed.shot
    placed: list[TakeFile] = []
    for segment, report in zip(sealed.segments, reports, strict=True):
        for file in report.frames:
            kind, _, number = file.path.partition("/")
            if kind not in kinds:
                continue
            inner = _inner_name(name, _file_number(shot, int(Path(number).stem)), kind)
            _copy(Path(segment.folder) / file.path, part / inner)
            copied = _file(part, inner)
            if copied.sha256 != file.sha256:
                forget(Path(segment.folder))
                raise FrameTruncated(
                    f"{file.path} changed after it was rendered",
                    fix="submit again; the segment is rendered again",
                    where=Where(file=segment.folder),
                )
            placed.append(copied)
    wanted = shot.frames.count * len(kinds)
    if len(placed) != wanted:
        raise FrameTruncated(f"{len(placed)} files were rendered, {wanted} are needed", where=Where(shot=shot.id))
    return placed


def _inner_name(name: str, number: int, kind: str) -> str:
    """The name of one file in its version."""
    if kind == "frames":
        return FramePattern(Path(), f"{name}.", 4, ".exr").name(number)
    return f"{kind}/{FramePattern(Path(), f'{name}_{kind}.', 4, '.exr').name(number)}"


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as write:
        shutil.copyfileobj(read, write, 1 << 20)
        write.flush()
        os.fsync(write.fileno())


def _file(folder: Path, path: str) -> TakeFile:
    return TakeFile(path=path, sha256=sha256_of(folder / path), bytes=(folder / path).stat().st_size)


def _movie_name(take: Take) -> str:
    return f"{_name(take)}.mov"


def _name(take: Take) -> str:
    """What the files of a take begin with."""
    return take.pattern.removesuffix(".####.exr")


def _uses(shot: Shot) -> tuple[Use, ...]:
    return tuple(Use(clip=use.clip.name if use.clip else None, cut=Span.of(use.frames)) for use in shot.uses)


def _take(
    sealed: Sealed,
    reports: Sequence[Report],
    version: int,
    name: str,
    movie: str | None,
    raw: bool,
    files: Sequence[TakeFile],
) -> Take:
    shot = sealed.shot
    return Take(
        key=sealed.key,
        shot=shot.id,
        version=version,
        uses=_uses(shot),
        frames=Span.of(shot.frames),
        stood_in=tuple(frame for frame in shot.plate.missing if frame in shot.frames),
        handles_asked=shot.handles_asked,
        handles_given=shot.handles_given,
        pattern=f"{name}.####.exr",
        first_file=_file_number(shot, shot.frames.first),
        movie=movie,
        raw="raw" if raw else None,
        comp_matte="comp_matte",
        exact=True,
        plate=shot.plate,
        color=shot.color,
        performers=shot.performers,
        weights=sealed.segments[0].weights,
        segments=tuple(
            TakeSegment(frames=segment.keep, **dict(scene))
            for segment, scene in zip(sealed.segments, shot.scenes, strict=True)
        ),
        inputs=sealed.inputs,
        files=tuple(files),
        seconds=sum(report.seconds for report in reports),
        peak_bytes=max(report.peak_bytes for report in reports),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
    )


# --------------------------------------------------------------------------- what people look at


def _frame_path(folder: Path, shot: Shot, name: str, frame: int) -> Path:
    """The delivered file of one plate frame of a shot."""
    return folder / _inner_name(name, _file_number(shot, frame), "frames")


def _write_movie(sealed: Sealed, folder: Path, movie: str) -> None:
    """The review movie: the delivered frames as a display shows them, with the plate's timecode."""
    shot, name = sealed.shot, movie.removesuffix(".mov")
    color = color_of(sealed.segments[0])

    def pictures() -> Iterator[NDArray[np.float32]]:
        for frame in shot.frames.numbers:
            yield color.to_display(exr.read_rgb(_frame_path(folder, shot, name, frame)))

    start = shot.plate.timecode_start
    code = None
    if start is not None:
        code = timecode(
            start + shot.frames.first - shot.plate.frames.first, shot.plate.rate, drop=shot.plate.drop_frame
        )
    movies.write_movie(
        folder / movie, pictures(), rate=shot.plate.rate, timecode=code, pixel_aspect=shot.plate.pixel_aspect
    )


def _write_shot_sheet(sealed: Sealed, version: Path, take: Take, path: Path) -> None:
    """The sheet of a shot: before, after, difference and mattes at a few frames."""
    segment, shot = sealed.segments[0], sealed.shot
    color = color_of(segment)
    used = sorted({frame for use in shot.uses for frame in use.frames.numbers})
    picks = sorted({used[round(step * (len(used) - 1) / (SHEET_ROWS - 1))] for step in range(SHEET_ROWS)})
    name = _name(take)
    slots = [mattes.SLOT_NUMBERS[performer.slot] for performer in take.performers]
    read_mattes = matte_reader(segment)
    rows: list[SheetRow] = []
    with open_plate(segment) as plate:
        for frame in picks:
            rows.append(
                SheetRow(
                    label=str(_file_number(shot, frame)),
                    before=color.to_display(plate.read(frame).rgb),
                    after=color.to_display(exr.read_rgb(_frame_path(version, shot, name, frame))),
                    labels=mattes.identity_map(read_mattes(frame), slots=slots),
                )
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"{take.shot} v{take.version:03d}  {segment.mode}  seed {segment.seed}"
    cast = {performer.id: performer.slot for performer in take.performers}
    write_sheet(path, title=title, rows=rows, cast=cast, pixel_aspect=take.plate.pixel_aspect)


def _sync_folders(top: Path) -> None:
    """Make names durable: fsync of a folder and those in it."""
    for folder in (top, *(path for path in top.iterdir() if path.is_dir())):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
