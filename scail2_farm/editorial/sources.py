"""The media references of a clip: which one it is rendered from, and the file or sequence that one names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast, get_args

from scail2_farm.documents import Missing, PathMapping
from scail2_farm.editorial.clips import MediaReference
from scail2_farm.editorial.otiojson import (
    DEFAULT_KEY,
    MEDIA,
    Node,
    Place,
    dict_of,
    range_of,
    schema_of,
    text_of,
    whole_of,
)
from scail2_farm.editorial.paths import MOST_DIGITS, MOVIES, Located, exists, local_path, locate
from scail2_farm.editorial.rates import Time
from scail2_farm.errors import ClipUnsupported, FarmError, PlateMissing
from scail2_farm.frames import FramePattern, FrameRange

KEY = "scail2_farm"  # our media reference, and our metadata on it
STILLS = frozenset({".png", ".jpg", ".jpeg", ".exr", ".dpx", ".tif", ".tiff", ".tga", ".bmp", ".psd", ".gif"})
SOUNDS = frozenset({".wav", ".bwf", ".aif", ".aiff", ".mp3", ".m4a", ".flac", ".ogg", ".wma"})


@dataclass(slots=True)
class Source:
    """What is known of a clip's media, and what is wrong with it.

    `constructs` cannot be rendered, `skipped` is why nothing is to be rendered, `offline` that nothing is named.
    """

    media: MediaReference | None = None
    reference: Node | None = None
    constructs: list[str] = field(default_factory=list[str])
    faults: list[FarmError] = field(default_factory=list[FarmError])
    notes: list[str] = field(default_factory=list[str])
    skipped: str | None = None
    offline: bool = False
    policy: Missing = "error"


def our_metadata(reference: object) -> Node | None:
    """What we wrote on a reference of ours; None for any other."""
    metadata = reference.get("metadata") if isinstance(reference, dict) else None
    ours = metadata.get(KEY) if isinstance(metadata, dict) else None
    return ours if isinstance(ours, dict) else None


def is_ours(reference: object) -> bool:
    """Whether a media reference is a take of ours."""
    return our_metadata(reference) is not None


def active_key(node: Node) -> str:
    """The key of the media the cut was made with: the active one, or what was active before our take."""
    key = str(node.get("active_media_reference_key") or DEFAULT_KEY)
    references = node.get("media_references") or {}
    ours = our_metadata(references.get(key))
    if ours is None:
        return key
    others = [name for name, reference in references.items() if not is_ours(reference)]
    for candidate in (ours.get("active_before"), DEFAULT_KEY, others[0] if len(others) == 1 else None):
        if candidate in others:
            return str(candidate)
    return key


@dataclass(slots=True)
class Sources:
    """Reads media references; one address is looked up once."""

    path: Path
    folder: Path
    path_map: tuple[PathMapping, ...]
    prefer: Sequence[str]
    found: dict[str, Located | PlateMissing] = field(default_factory=dict[str, "Located | PlateMissing"])
    folders: dict[str, Path | PlateMissing] = field(default_factory=dict[str, "Path | PlateMissing"])

    def chosen(self, node: Node, place: Place) -> tuple[str, Node | None]:
        """The key and the media reference to render from: a preferred one, else the cut's; never one of our takes."""
        if schema_of(node, {"Clip": 2}, self.path, place) and node["OTIO_SCHEMA"] == "Clip.1":
            return DEFAULT_KEY, self._reference(node.get("media_reference"), (*place, "media_reference"))
        text_of(node, "active_media_reference_key", self.path, place)
        references = dict_of(node, "media_references", self.path, place)
        key = active_key(node)
        for glob in self.prefer:
            better = (name for name in references if fnmatchcase(name, glob) and _is_media(references[name]))
            preferred = next(better, None)
            if preferred is not None:
                key = preferred
                break
        if is_ours(references.get(key)):
            return key, None
        return key, self._reference(references.get(key), (*place, "media_references", key))

    def _reference(self, reference: object, place: Place) -> Node | None:
        if reference is None:
            return None
        schema_of(reference, MEDIA, self.path, place)
        assert isinstance(reference, dict)
        return reference

    def read(self, node: Node, place: Place) -> Source:
        """The media of a clip."""
        key, reference = self.chosen(node, place)
        source = Source(reference=reference)
        references = dict_of(node, "media_references", self.path, place)
        if KEY in references and references[KEY] is not None and not is_ours(references[KEY]):
            source.constructs.append(f"a media reference named {KEY} that is none of our takes")
        if reference is None:
            known = ", ".join(repr(name) for name in references) or "none"
            what = f"the clip has no media under {key!r} (media references: {known})"
            source.faults.append(PlateMissing(what, fix=_RELINK))
            source.media = MediaReference(key=key, url="")
            source.offline = True
            return source
        if node["OTIO_SCHEMA"] != "Clip.1" and key != active_key(node):
            source.notes.append(f"rendered from the media reference {key!r}, which is not the cut's own")
        spot = (*place, "media_references", key)
        media = self._measured(reference, spot, key, source)
        schema = str(reference["OTIO_SCHEMA"]).partition(".")[0]
        try:
            if schema == "ExternalReference":
                source.media = self._external(reference, spot, media, source, node)
            elif schema == "ImageSequenceReference":
                source.media = self._sequence(reference, spot, media, source)
            else:
                source.media = media
                self._unnamed(reference, spot, schema, source)
        except PlateMissing as fault:
            source.faults.append(PlateMissing(fault.what, why=fault.why, fix=fault.fix))  # one address, many clips
            source.media = replace(media, url=self._url(reference, spot))
        return source

    def _measured(self, reference: Node, spot: Place, key: str, source: Source) -> MediaReference:
        """The media as far as its available range goes."""
        try:
            available = range_of(reference, "available_range", self.path, spot)
        except ValueError as error:
            source.constructs.append(f"media of which {error}")
            available = None
        if available is not None and available.frames < 1:
            source.notes.append("the available range is empty and not used")
            available = None
        if available is None:
            return MediaReference(key=key, url="")
        start, length = available.start, available.frames
        if available.rate != start.exact:
            length = round(available.duration.seconds * start.exact)
        return MediaReference(key=key, url="", rate=start.exact, start=start, length=length)

    def _unnamed(self, reference: Node, spot: Place, schema: str, source: Source) -> None:
        """Media without an address: a generator, or media that is offline."""
        if schema == "GeneratorReference":
            source.skipped = "a generator has no media to render from"
            return
        name = text_of(reference, "name", self.path, spot)
        what = f"the clip's media is offline{f' ({name})' if name else ''}"
        source.faults.append(PlateMissing(what, fix=_RELINK))
        source.offline = True

    def _url(self, reference: Node, place: Place) -> str:
        return text_of(reference, "target_url", self.path, place) or text_of(
            reference, "target_url_base", self.path, place
        )

    def _external(
        self, reference: Node, place: Place, media: MediaReference, source: Source, node: Node
    ) -> MediaReference:
        url = text_of(reference, "target_url", self.path, place)
        if not url.strip():
            source.offline = True
        found = self._located(url)
        suffix = found.path.suffix.lower() if found.path is not None else ""
        if suffix in SOUNDS:
            source.skipped = "its media is sound"
        if found.path is not None and suffix in STILLS - MOVIES:
            found = self._of_still(found.path, media, source, node)
        frames = FrameRange(0, media.length) if media.length is not None and found.pattern is None else None
        if found.frames is not None:
            frames = found.frames if media.length is None else FrameRange(found.frames.first, media.length)
        return replace(media, url=url, path=found.path, pattern=found.pattern, frames=frames)

    def _of_still(self, path: Path, media: MediaReference, source: Source, node: Node) -> Located:
        """A picture, or the sequence that a link to its first file stands for when the files after it are there."""
        numbered = _NUMBERED.fullmatch(path.name)
        length = 1 if _holds_still(node) else media.length or self._length(node)
        if length < 2 or numbered is None:
            source.constructs.append(f"one still picture ({path.name}) as its media")
            return Located(path=path)
        first = int(numbered[2])
        pattern = FramePattern(path.parent, numbered[1], len(numbered[2]), numbered[3])
        further = first + (media.length or 2) - 1
        if not exists(pattern.path(further)):
            what = f"the clip has one still picture ({path.name}) for {length} frames, and no {pattern.name(further)}"
            fix = f"link the sequence as {pattern.name_with_hashes}, or export it as a movie and link that"
            source.faults.append(ClipUnsupported(what, fix=fix))
            return Located(path=path)
        source.notes.append(f"{path.name} is read as the sequence {pattern.name_with_hashes} from {first}")
        return Located(pattern=pattern, frames=FrameRange(first, media.length) if media.length else None)

    def _length(self, node: Node) -> int:
        """The frames a clip uses; 1 when it does not say, or says what is told elsewhere to be no time."""
        try:
            trim = range_of(node, "source_range", self.path, ())
        except ValueError:
            return 1
        return trim.frames if trim is not None else 1

    def _sequence(self, reference: Node, place: Place, media: MediaReference, source: Source) -> MediaReference:
        base = text_of(reference, "target_url_base", self.path, place)
        prefix = text_of(reference, "name_prefix", self.path, place)
        suffix = text_of(reference, "name_suffix", self.path, place)
        first = whole_of(reference, "start_frame", 1, self.path, place)
        step = whole_of(reference, "frame_step", 1, self.path, place)
        padding = whole_of(reference, "frame_zero_padding", 0, self.path, place)
        policy = text_of(reference, "missing_frame_policy", self.path, place) or "error"
        for known in get_args(Missing):
            source.policy = known if policy == known else source.policy
        if step < 1:
            source.constructs.append(f"an image sequence with a frame_step of {step}")
            step = 1
        if not 0 <= padding <= MOST_DIGITS or "\0" in prefix + suffix or "/" in suffix:
            raise PlateMissing(f"{prefix}#{suffix} with {padding} digits is no name of an image sequence")
        folder = self._folder(base or ".")
        inside, slash, plain = prefix.rpartition("/")
        folder = folder / inside if slash else folder
        origin = first if step != 1 else 0
        pattern = FramePattern(folder, plain, max(1, padding), suffix, step=step, origin=origin)
        frames = FrameRange(first, media.length) if media.length is not None else None
        name = f"{base}{'' if not base or base.endswith('/') else '/'}{prefix}{'#' * max(1, padding)}{suffix}"
        rate = media.rate or _own_rate(reference)
        return replace(media, url=name, pattern=pattern, rate=rate, frames=frames)

    def _located(self, url: str) -> Located:
        if url not in self.found:
            try:
                self.found[url] = locate(url, folder=self.folder, path_map=self.path_map)
            except PlateMissing as fault:
                self.found[url] = fault
        known = self.found[url]
        if isinstance(known, PlateMissing):
            raise known
        return known

    def _folder(self, base: str) -> Path:
        if base not in self.folders:
            try:
                self.folders[base] = local_path(base, folder=self.folder, path_map=self.path_map)
            except PlateMissing as fault:
                self.folders[base] = fault
        known = self.folders[base]
        if isinstance(known, PlateMissing):
            raise known
        return known


_RELINK = "relink the clip and export the timeline again, or name folders to search with --search"


def _is_media(reference: Any) -> bool:
    """Whether a reference may be preferred: it names media, and is not a take of ours."""
    if not isinstance(reference, dict) or is_ours(reference):
        return False
    return str(reference.get("OTIO_SCHEMA")).partition(".")[0] in ("ExternalReference", "ImageSequenceReference")


def _own_rate(reference: Node) -> Any:
    """The rate a sequence itself says, used where nothing else does; 1.0 stands in real files that are not 1 fps."""
    written = reference.get("rate")
    try:
        rate = Time.read(0, written).exact if written is not None else None
    except ValueError:
        return None
    return rate if rate is not None and rate > 1 else None


_NUMBERED = re.compile(r"(.*?)(\d{1,20})(\.[^.]+)")


def _holds_still(node: Node) -> bool:
    """Whether a clip shows one picture for as long as it lasts: frozen, or a still as FCP 7 XML marks it."""
    listed = node.get("effects")
    effects = [effect for effect in listed if isinstance(effect, dict)] if isinstance(listed, list) else []
    frozen = any(
        str(one.get("OTIO_SCHEMA")).startswith("FreezeFrame.") or one.get("time_scalar") == 0 for one in effects
    )
    return frozen or str(_at(node.get("metadata"), ("fcp_xml", "stillframe"))).upper() == "TRUE"


# --------------------------------------------------------------------------- the reel

_REELS: tuple[tuple[str, ...], ...] = (
    ("cmx_3600", "reel"),
    ("fcp_xml", "timecode", "reel", "name"),
    ("fcp_xml", "file", "timecode", "reel", "name"),
    ("ALE", "Tape"),
    ("ALE", "Reel"),
    ("ALE", "Source File"),
    ("AAF", "UserComments", "Tape"),
    ("AAF", "UserComments", "TapeID"),
    ("AAF", "UserComments", "Reel"),
)
"""Where adapters leave the reel, in the metadata of a clip or of its media."""


def reel_of(node: Node, reference: Node | None) -> str | None:
    """The reel or tape of a clip, as its adapter left it; None when it did not."""
    references = node.get("media_references") or {}
    for metadata in (node.get("metadata"), (reference or {}).get("metadata")):
        known = cast("dict[str, object]", metadata) if isinstance(metadata, dict) else {}
        for way in _REELS if known else ():
            found = _at(known, way) if way[0] in known else None
            if isinstance(found, str) and found.strip():
                return found.strip()
    for one in references.values() if isinstance(references, dict) else ():
        if isinstance(one, dict) and _at(one.get("metadata"), ("AAF", "EssenceDescription", "ClassName")) in _TAPES:
            name = _at(one.get("metadata"), ("AAF", "Name"))
            return str(name) if name else None
    return None


_TAPES = ("TapeDescriptor", "FilmDescriptor")

_SPACES: tuple[str, ...] = (
    "ayon.source.colorspace",
    "foundry.source.colourtransform",
    "openpype.source.colourtransform",
)
"""Where Hiero and the pipelines around it write the colour space of a clip's media."""


def space_of(node: Node, reference: Node | None) -> str | None:
    """The colour space of a clip's media in the words of the edit; None when it says nothing."""
    for metadata in ((reference or {}).get("metadata"), node.get("metadata")):
        known = cast("dict[str, object]", metadata) if isinstance(metadata, dict) else {}
        for key in _SPACES if known else ():
            found = known.get(key)
            if isinstance(found, str) and found.strip():
                return found.strip()
    return None


def _at(metadata: object, way: Sequence[str]) -> object:
    for step in way:
        if not isinstance(metadata, Mapping):
            return None
        metadata = metadata.get(step)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] - JSON
    return metadata  # pyright: ignore[reportUnknownVariableType] - JSON
