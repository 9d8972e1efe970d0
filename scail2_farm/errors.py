"""The error tree: what went wrong, why, what to do, and where.

::

    FarmError
    ├─ InputError
    │    SubmissionInvalid · TimelineUnreadable · ClipUnsupported · PlateMissing · PlateUnreadable
    │    MatteMismatch · CharacterUnknown · ColorSpaceUnknown
    ├─ SetupError
    │    SettingsInvalid · WeightsMissing · WeightsMismatch · HostUnsupported · FarmNotRunning · FarmRunning
    ├─ StorageError
    │    DiskFull · ShareUnavailable · FrameTruncated · DeliveryBusy
    ├─ EngineError
    │    EngineFailed · GuardFailed
    └─ ResourceError

Every class below FarmError has a code, a docstring that is its default *why* and a *fix* that is an
instruction. Exit codes: 3 input, 4 setup, 5 storage, 6 resource, 7 engine (2 is usage, 130 interrupt).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Where:
    """The place of a fault; every field is optional and printed only when given."""

    file: str | None = None
    line: int | None = None
    field: str | None = None
    shot: str | None = None
    clip: str | None = None
    character: str | None = None
    frame: int | None = None

    @property
    def line_of_file(self) -> str:
        """FILE:LINE, or as much of it as is known."""
        return f"{self.file}:{self.line}" if self.file and self.line else self.file or ""

    def __str__(self) -> str:
        parts: list[str] = []
        if self.file:
            parts.append(self.line_of_file)
        if self.field:
            parts.append(f"at {self.field}")
        if self.shot:
            parts.append(f"in {self.shot}")
        if self.clip:
            parts.append(f'clip "{self.clip}"')
        if self.character:
            parts.append(f'character "{self.character}"')
        if self.frame is not None:
            parts.append(f"frame {self.frame}")
        return ", ".join(parts)


class FarmError(Exception):
    """Something scail2-farm can explain."""

    exit_code: ClassVar[int] = 1
    retry: ClassVar[bool] = False
    fix_by_default: ClassVar[str] = ""

    def __init__(self, what: str, *, fix: str | None = None, why: str | None = None, where: Where | None = None):
        super().__init__(what)
        self.what = what
        self.why = why or " ".join((type(self).__doc__ or "").split())
        self.fix = fix or self.fix_by_default
        self.where = where or Where()

    @property
    def code(self) -> str:
        """The stable code, made from the class name: PlateMissing -> SF-PLATE-MISSING."""
        name = type(self).__name__
        name = name.removesuffix("Error") if name.endswith("Error") else name
        return "SF-" + "-".join(re.findall(r"[A-Z][a-z0-9]*", name)).upper()

    def __str__(self) -> str:
        place = str(self.where)
        return f"{self.code}{' ' + place if place else ''}\n  what  {self.what}\n  why   {self.why}\n  fix   {self.fix}"

    def as_json(self) -> dict[str, object]:
        """The fault as it stands in --json output, report.json and logs."""
        where = {key: value for key, value in asdict(self.where).items() if value is not None}
        return {"code": self.code, "what": self.what, "why": self.why, "fix": self.fix, "where": where}


class InputError(FarmError):
    """What was submitted cannot be rendered as it is; the artist can mend it."""

    exit_code = 3
    fix_by_default = "correct the submission and submit it again"


class SubmissionInvalid(InputError):
    """The manifest and the character library must say exactly who plays whom, in the words of their schemas."""

    fix_by_default = (
        "correct the place named above; `scail2-farm schema` writes the schemas the files are checked against"
    )


class TimelineUnreadable(InputError):
    """The edit must hold one readable timeline; a broken file is never read in part."""

    fix_by_default = "export the timeline again from the NLE and submit that file"


class ClipUnsupported(InputError):
    """A clip is rendered exactly as the cut uses it, or not at all."""

    fix_by_default = "bake or remove the construct, or leave the clip uncast"


class PlateMissing(InputError):
    """Every frame of a plate must exist before anything is rendered; none is invented."""

    fix_by_default = (
        "put the missing frames in place, relink the clip, or look for its media with --search DIR; "
        "`missing: hold` in the manifest stands in for frames that cannot be had"
    )


class PlateUnreadable(InputError):
    """A plate must decode completely; a half-written frame is never used."""

    fix_by_default = "write the plate again, wait until the copy is complete, and submit again"


class MatteMismatch(InputError):
    """Mattes are matched to the plate frame for frame and pixel for pixel; none is invented or resized."""

    fix_by_default = "export the matte again for the frames and the size named above"


class CharacterUnknown(InputError):
    """Only characters of the library can be cast."""

    fix_by_default = "add the character to the library or correct the id"


class ColorSpaceUnknown(InputError):
    """A colour space is read from the manifest or the file, never guessed."""

    fix_by_default = "name the space in the manifest: color: {spaces: [{media: '*', space: ACEScg}]}"


class SetupError(FarmError):
    """This machine is not set up for the job; the operator can mend it."""

    exit_code = 4
    fix_by_default = "correct the set-up and submit again"


class SettingsInvalid(SetupError):
    """Settings come from the TOML file, the environment and the flags, in that order."""

    fix_by_default = "correct the setting named above"


class WeightsMissing(SetupError):
    """The engine needs a complete snapshot: config.json, dit, vae, t5_encoder and clip safetensors, tokenizer.json."""

    fix_by_default = (
        "name a snapshot folder: --weights DIR, SCAIL2_WEIGHTS or `weights` in the settings file; "
        "`--weights miniature` tries the farm without one"
    )


class WeightsMismatch(SetupError):
    """Weights are loaded strictly: every tensor known, none missing, every shape right."""

    fix_by_default = "use a snapshot in the published SCAIL-2 layout"


class HostUnsupported(SetupError):
    """The engine runs on MLX: on a Mac as it is, on Linux with one of two backends."""

    fix_by_default = "install a backend: pip install 'scail2-farm[cpu]' or pip install 'scail2-farm[cuda]'"


class FarmNotRunning(SetupError):
    """Jobs, shots and workers are known to the farm's own process alone, and it must be running to be asked."""

    fix_by_default = "start it with `scail2-farm up ROOT`, or leave out --farm to render in place"


class FarmRunning(SetupError):
    """One farm watches one folder: two would render everything twice."""

    fix_by_default = "use the farm that is running, or stop it first"


class StorageError(FarmError):
    """A disk or share failed; the same job may succeed later."""

    exit_code = 5
    retry = True
    fix_by_default = "check the disk or share named above and submit again; finished segments are kept"


class DiskFull(StorageError):
    """The disk has no room for the frames; nothing half-written was left in the delivery."""

    fix_by_default = "free some space and submit again; finished segments are kept"


class ShareUnavailable(StorageError):
    """A file or folder on a disk or share cannot be reached, read or written."""

    fix_by_default = (
        "reconnect the share, or correct the path or its permissions, and submit again; finished segments are kept"
    )


class FrameTruncated(StorageError):
    """A frame changed or was cut short while the job was running."""

    fix_by_default = "write the frame again and submit again; finished segments are kept"


class DeliveryBusy(StorageError):
    """Two jobs in one delivery folder would write the same takes; the second waits."""

    fix_by_default = "wait for the other job to finish, or stop it, and submit again"


class ResourceError(FarmError):
    """The job is too big for this machine."""

    exit_code = 6
    retry = True
    fix_by_default = "use a smaller size or a shorter segment"


class EngineError(FarmError):
    """The engine gave no usable picture; nothing of it was delivered."""

    exit_code = 7
    retry = True
    fix_by_default = "submit again; if it happens again, try another seed or report it with the log"


class EngineFailed(EngineError):
    """The engine stopped in the middle, hung, or computed something that is not a number."""


class GuardFailed(EngineError):
    """A rendered frame must be a picture: there, whole, finite, not black, not frozen; else it is not delivered."""

    fix_by_default = "try another seed for this shot; if it happens again, report it with the log"


def storage_error(error: OSError, path: object) -> StorageError:
    """The StorageError that an OSError on `path` amounts to."""
    where = Where(file=str(path))
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"no space left while writing {path}", where=where)
    return ShareUnavailable(f"{path}: {error.strerror or error}", where=where)


def kind_of(code: str) -> type[FarmError]:
    """The class with this code, by which an error that crossed a process is known again; else FarmError itself."""
    kinds = [FarmError]
    for kind in kinds:  # grows as it is walked
        kinds += kind.__subclasses__()
    return next((kind for kind in kinds if kind("").code == code), FarmError)


def exit_code(errors: Iterable[FarmError]) -> int:
    """The exit code of a run that ended with these errors; an artist's fault is named first. 0 for none."""
    return min((error.exit_code for error in errors), default=0)
