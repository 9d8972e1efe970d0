"""The reel a piece of media says it comes from: read from headers alone, for finding offline media again."""

from __future__ import annotations

from pathlib import Path

import av.error

from scail2_farm.errors import PlateMissing, PlateUnreadable, Where, storage_error
from scail2_farm.frames import FramePattern
from scail2_farm.media import exr
from scail2_farm.media.containers import opened
from scail2_farm.media.plates import kind_of

KEYS = ("reel_name", "reel", "tape", "com.apple.proapps.reel", "com.apple.quicktime.reel")


def reel_of(source: Path | FramePattern) -> str | None:
    """The reel in a movie's metadata or in the header of an EXR sequence's first frame; None when nothing says it.

    Raises PlateMissing, PlateUnreadable, StorageError.
    """
    if isinstance(source, Path):
        return _movie_reel(source)
    if kind_of(source) != "exr":
        return None
    numbers = source.on_disk()
    if not numbers:
        raise PlateMissing(f"there is no file {source.name_with_hashes}", where=Where(file=str(source)))
    path = source.path(numbers[0])
    parts = exr.examine(path)
    reel = parts[exr.picture_part(parts, path)].text("reelName")
    return (reel or "").strip() or None


def _movie_reel(path: Path) -> str | None:
    try:
        with opened(path) as container:
            places = [stream.metadata for stream in container.streams] + [container.metadata]
    except (av.error.InvalidDataError, av.error.EOFError, ValueError) as error:
        where = Where(file=str(path))
        raise PlateUnreadable(f"{path.name} is not a complete movie: {error}", where=where) from None
    except OSError as error:
        raise storage_error(error, path) from error
    for place in places:
        said = {key.lower(): value.strip() for key, value in place.items()}
        reel = next((said[key] for key in KEYS if said.get(key)), None)
        if reel:
            return reel
    return None
