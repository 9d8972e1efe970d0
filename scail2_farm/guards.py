"""What a worker hands in, looked at before it counts: every file there, whole, of the right size, and a picture.

An engine can end well and leave nothing, or noise that is not a number, or black. None of that is believed from what
it says: the files are read again, a few frames at a time, by whoever did not write them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scail2_farm.digests import sha256_of
from scail2_farm.documents import HISTORY, KINDS, REPORT, Report, SealedShot, Segment, Take, read_document
from scail2_farm.errors import (
    FrameTruncated,
    GuardFailed,
    InputError,
    ShareUnavailable,
    SubmissionInvalid,
    Where,
    storage_error,
)
from scail2_farm.frames import describe_frames
from scail2_farm.media import exr, plates

Floats = NDArray[np.float32]

DARKEST = 1 / 255
"""A picture with nothing as bright as this is black."""
LEAST_MOVING = 3
"""Frames that must not all be the same; two may be, in a held plate."""
AT_ONCE = 4
NO_NUMBER = "NaN or Inf"

_AGAIN = "submit again: the segment is rendered again; if it happens again, check the disk of the work folder"


def form_of(segment: Segment | SealedShot | Take) -> plates.Form:
    """What delivered frames are made of."""
    return plates.Form(format=segment.output.format, compression=segment.output.compression)


def file_name(segment: Segment | SealedShot | Take, kind: str, frame: int) -> str:
    """What the file of a plate frame is called in the folder of one of KINDS: all but the delivered frames are EXR."""
    suffix = form_of(segment).suffix(segment.plate.source) if kind == "frames" else ".exr"
    return f"{frame:07d}{suffix}"


def check(segment: Segment) -> None:
    """Look at everything a rendered segment left in its folder.

    Raises GuardFailed for what must not be delivered, FrameTruncated for a plate that no longer reads, StorageError.
    """
    folder = Path(segment.folder)
    digests = _reported(segment)

    def look(frame: int) -> _Look:
        return _look(segment, frame, digests)

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        looks = list(pool.map(look, segment.keep.range.numbers))
    _refuse_faults(segment, looks)
    words = _history_fault(segment, folder / HISTORY, digests[HISTORY])
    if words is not None:
        raise GuardFailed(
            f"{HISTORY}, which the next segment starts from: {words}",
            fix=_AGAIN,
            where=Where(file=str(folder / HISTORY), shot=segment.shot),
        )
    _refuse_dead(segment, looks)


# --------------------------------------------------------------------------- what was reported


def _reported(segment: Segment) -> Mapping[str, str]:
    """The sha256 of every file that must be there, by its path in the segment's folder."""
    folder = Path(segment.folder)
    if not folder.parent.is_dir():
        raise ShareUnavailable(f"{folder.parent} is not there", where=Where(file=str(folder.parent)))
    where = Where(file=str(folder / REPORT), shot=segment.shot)
    try:
        report = read_document(folder / REPORT, Report)
    except SubmissionInvalid as fault:
        raise GuardFailed(f"the worker called the segment done, and {fault.what}", fix=_AGAIN, where=where) from None
    if report.key != segment.key:
        raise GuardFailed(f"{REPORT} is that of another segment", fix=_AGAIN, where=where)
    digests = {file.path: file.sha256 for file in report.frames}
    frames = segment.keep.range.numbers
    wanted = {f"{kind}/{file_name(segment, kind, frame)}" for kind in KINDS for frame in frames} | {HISTORY}
    lacking, strange = sorted(wanted - digests.keys()), sorted(digests.keys() - wanted)
    if lacking or strange:
        words = [f"lacks {_some(lacking)} of {len(wanted)} files"] if lacking else []
        words += [f"names {_some(strange)} too many"] if strange else []
        raise GuardFailed(f"{REPORT} {' and '.join(words)}", fix=_AGAIN, where=where)
    return digests


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{' ...' if len(names) > 3 else ''})"


# --------------------------------------------------------------------------- one frame


class _Unusable(Exception):
    """What is wrong with a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What one frame came to: `faults` in words by kind, and without any what the model's picture is like."""

    frame: int
    faults: Mapping[str, str]
    shown: bool = False
    black: bool = False
    flat: bool = False
    digest: str = ""


def _look(segment: Segment, frame: int, digests: Mapping[str, str]) -> _Look:
    """Read the three files of a frame."""
    faults: dict[str, str] = {}
    raw = np.zeros((0, 0, 3), np.float32)
    matte: Floats | None = None
    for kind in ("comp_matte", "frames", "raw"):
        inner = f"{kind}/{file_name(segment, kind, frame)}"
        path = Path(segment.folder) / inner
        try:
            _check_bytes(path, digests[inner])
            if kind == "comp_matte":
                matte = _matte(segment, path)
            elif kind == "frames":
                _check_frame(segment, path, matte)
            else:
                raw = _raw(segment, path)
        except _Unusable as fault:
            faults[kind] = str(fault)
        except InputError as fault:  # the words of a reader of plates
            faults[kind] = fault.what.removeprefix(path.name).strip()
    if faults or matte is None:
        return _Look(frame=frame, faults=faults)
    return _Look(
        frame=frame,
        faults={},
        shown=bool(matte.any()),
        black=bool(raw.max() < DARKEST),
        flat=_is_flat(raw),
        digest=_digest(raw),
    )


def _check_bytes(path: Path, digest: str) -> None:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise _Unusable("not there") from None
    except OSError as error:
        raise storage_error(error, path) from error
    if sha256_of(path) != digest:
        raise _Unusable("not what was reported, the sha256 differs")


def _matte(segment: Segment, path: Path) -> Floats:
    """The comp matte of a frame, (H, W) at plate size."""
    _, _, channels = exr.read_channels(path)
    if "Y" not in channels:
        raise _Unusable("no channel Y")
    matte: Floats = channels["Y"]
    _check_size(matte, segment.plate.width, segment.plate.height, "plate")
    if not ((matte >= 0) & (matte <= 1)).all():
        raise _Unusable("values that are not between 0 and 1")
    return matte


def _check_frame(segment: Segment, path: Path, matte: Floats | None) -> None:
    """A delivered frame; where the matte is 0 it is the plate, whose NaN and Inf are its own affair."""
    frame = plates.read_frame(path)
    _check_size(frame.rgb, segment.plate.width, segment.plate.height, "plate")
    if matte is None:
        return
    inside = matte > 0
    if not frame.covered[inside].all():
        raise _Unusable("no pixels in a part of the matte")
    if not np.isfinite(frame.rgb[inside]).all():
        raise _Unusable(f"{NO_NUMBER} inside the matte")


def _raw(segment: Segment, path: Path) -> Floats:
    """The model's picture, (canvas H, canvas W, 3)."""
    raw: Floats = exr.read_rgb(path)
    _check_size(raw, segment.canvas.width, segment.canvas.height, "canvas")
    if not np.isfinite(raw).all():
        raise _Unusable(NO_NUMBER)
    return raw


def _check_size(picture: Floats, width: int, height: int, of: str) -> None:
    if picture.shape[:2] != (height, width):
        raise _Unusable(f"{picture.shape[1]}x{picture.shape[0]}, where the {of} is {width}x{height}")


def _is_flat(picture: Floats) -> bool:
    """Whether every pixel is the same."""
    return bool((picture == picture[0, 0]).all())


def _digest(picture: Floats) -> str:
    return sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()


def _refuse_faults(segment: Segment, looks: Sequence[_Look]) -> None:
    """One fault that tells every kind of damage, with the numbers of the frames that have it."""
    damaged: dict[tuple[str, str], list[int]] = {}
    for look in looks:
        for kind, words in look.faults.items():
            damaged.setdefault((kind, words), []).append(look.frame)
    if not damaged:
        return
    number = segment.plate.number
    told = [
        f"{kind}, {len(frames)} of {len(looks)} frames ({describe_frames(number(frame) for frame in frames)}): {words}"
        for (kind, words), frames in sorted(damaged.items())
    ]
    (kind, _), frames = min(damaged.items())
    path = Path(segment.folder) / kind / file_name(segment, kind, frames[0])
    fix = None if all(NO_NUMBER in words for _, words in damaged) else _AGAIN
    raise GuardFailed("; ".join(told), fix=fix, where=Where(file=str(path), shot=segment.shot, frame=number(frames[0])))


# --------------------------------------------------------------------------- all of them


def _history_fault(segment: Segment, path: Path, digest: str) -> str | None:
    """What is wrong with the frames left for the next segment; None when nothing is."""
    try:
        _check_bytes(path, digest)
        with path.open("rb") as file:
            history = np.load(file, allow_pickle=False)
    except _Unusable as fault:
        return str(fault)
    except (ValueError, EOFError) as error:
        return str(error)
    except OSError as error:
        raise storage_error(error, path) from error
    size = (segment.canvas.height, segment.canvas.width, 3)
    least = min(segment.leave, segment.keep.count)
    if history.dtype != np.float32 or history.shape[1:] != size or not least <= len(history) <= segment.leave:
        return f"{history.dtype} of {history.shape}, where {least} to {segment.leave} float32 of {size} belong"
    return None if np.isfinite(history).all() else NO_NUMBER


def _refuse_dead(segment: Segment, looks: Sequence[_Look]) -> None:
    """A picture that is black, one colour or frozen in every frame, while what drives it is not.

    Where nobody is shown the plate alone is delivered, and the picture may be what it likes.
    """
    if not any(look.shown for look in looks):
        return
    if all(look.black for look in looks) or all(look.flat for look in looks):
        words = "black" if all(look.black for look in looks) else "one flat colour"
        driver_is_so = all(map(_is_flat, _driver(segment)))
    elif len(looks) >= LEAST_MOVING and len({look.digest for look in looks}) == 1:
        words = "frozen, all alike to the last bit"
        driver_is_so = len({_digest(picture) for picture in _driver(segment)}) == 1
    else:
        return
    if driver_is_so:
        return
    frame = segment.plate.number(looks[0].frame)
    where = Where(
        file=str(Path(segment.folder) / "raw" / file_name(segment, "raw", looks[0].frame)),
        shot=segment.shot,
        frame=frame,
    )
    numbers = describe_frames(segment.plate.number(look.frame) for look in looks)
    raise GuardFailed(
        f"the model's picture is {words}, in {len(looks)} of {len(looks)} frames ({numbers})", where=where
    )


def _driver(segment: Segment) -> Iterator[Floats]:
    """The frames of the plate, or of the performance that is shown in its place, one at a time."""
    clip, offset = segment.driver.clip, segment.driver.offset
    try:
        with plates.open_plate(clip.source, missing=clip.missing, stand_in=clip.stand_in) as opened:
            for frame in segment.keep.range.numbers:
                yield opened.read(frame + offset).rgb
    except InputError as fault:
        raise FrameTruncated(fault.what, where=fault.where) from fault
