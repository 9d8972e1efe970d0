"""Which files of the inbox belong together: a cut and its manifest, in whatever order they came.

A manifest belongs to the cut that its `timeline` names; without one, to the cut of its own name. Names are the same
when some file system holds them for the same (case, accents written in one or two letters), but those spelled alike go
together first, and what is not clear is asked and not guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from scail2_farm.documents import ShotManifest
from scail2_farm.farm.arrivals import Arrival, same, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Files of the inbox that belong together; `missing` tells what is waited for besides."""

    name: str
    edit: Arrival | None = None
    manifest: Arrival | None = None
    other: Arrival | None = None
    elsewhere: Path | None = None
    missing: str = ""

    @property
    def parts(self) -> tuple[Arrival, ...]:
        """The files, the one whose rename decides first."""
        return tuple(one for one in (self.edit, self.manifest, self.other) if one is not None)


def drops(arrivals: Iterable[Arrival]) -> Iterator[Drop]:
    """Everything in an inbox, sorted into drops."""
    everything = tuple(arrivals)
    edits = {one.name: one for one in everything if one.kind == "edit"}
    alike: dict[str, tuple[list[Arrival], list[Arrival]]] = {}
    named: dict[str, list[Arrival]] = {}
    for one in everything:
        timeline = one.document.timeline if one.document is not None else None
        if one.kind == "manifest" and timeline is not None:
            edit, elsewhere = _named(one.document, timeline, edits)
            if edit is not None:
                named.setdefault(edit, []).append(one)
            else:
                yield _naming(one, timeline, elsewhere)
        elif one.kind in ("edit", "manifest"):
            alike.setdefault(same(one.drop), ([], []))[one.kind == "manifest"].append(one)
        else:
            yield Drop(name=one.drop, other=one)
    for name, manifests in named.items():
        edit = edits[name]
        alike[same(edit.drop)][0].remove(edit)
        yield from _paired([edit], manifests)
    for edits_, manifests in alike.values():
        yield from _by_name(edits_, manifests)


def _named(
    document: ShotManifest | None, timeline: str, edits: Mapping[str, Arrival]
) -> tuple[str | None, Path | None]:
    """The cut that a `timeline` means: a bare name one of the inbox, or of `source_dir`; a path one that is there."""
    source = Path(document.source_dir) if document is not None and document.source_dir else None
    beside = source / timeline if source is not None and source.is_absolute() else Path(timeline)
    elsewhere = Path(os.path.normpath(beside)) if beside.is_absolute() else None
    if re.search(r"[/\\]", timeline):
        return None, elsewhere
    found = [name for name in edits if name == timeline] or [name for name in edits if same(name) == same(timeline)]
    if len(found) == 1:
        return found[0], None
    return None, elsewhere if elsewhere is not None and os.access(elsewhere, os.F_OK) else None


def _naming(manifest: Arrival, timeline: str, elsewhere: Path | None) -> Drop:
    """A manifest whose `timeline` is not in the inbox; a path that leads nowhere is for planning to tell."""
    if elsewhere is not None or re.search(r"[/\\]", timeline):
        return Drop(name=manifest.drop, manifest=manifest, elsewhere=elsewhere)
    missing = f"{shown(manifest.name)} waits for {timeline}, which its `timeline` names: put it beside it"
    return Drop(name=manifest.drop, manifest=manifest, missing=missing)


def _by_name(edits: list[Arrival], manifests: list[Arrival]) -> Iterator[Drop]:
    """Cuts and manifests of names that are the same but for case and accents; those spelled alike first."""
    if edits and manifests and len(edits) + len(manifests) > 2:
        for spelled in sorted({one.drop for one in manifests}):
            cuts = [one for one in edits if one.drop == spelled]
            casts = [one for one in manifests if one.drop == spelled]
            if len(cuts) == len(casts) == 1:
                edits.remove(cuts[0])
                manifests.remove(casts[0])
                yield from _paired(cuts, casts)
    yield from _paired(edits, manifests)


def _paired(edits: Sequence[Arrival], manifests: Sequence[Arrival]) -> Iterator[Drop]:
    """A cut and its manifest, or what either waits for."""
    if len(edits) == len(manifests) == 1:
        yield Drop(name=edits[0].drop, edit=edits[0], manifest=manifests[0])
        return
    if edits and manifests:
        names = ", ".join(shown(one.name) for one in chain(edits, manifests))
        missing = (
            f"it is not clear which cut and which manifest belong together: {names}; take away what is not meant, or "
            f"name the cut in its manifest (`timeline: {shown(edits[0].name)}`)"
        )
        yield from (Drop(name=one.drop, edit=one, missing=missing) for one in edits)
        yield from (Drop(name=one.drop, manifest=one, missing=missing) for one in manifests)
        return
    for one in edits:
        missing = f"{shown(one.name)} waits for its manifest, {one.drop}.shots.yaml: put it beside it"
        yield Drop(name=one.drop, edit=one, missing=missing)
    for one in manifests:
        cut = f"put {one.drop}.otio (or .xml, .aaf, .edl ...) beside it, or name the cut in `timeline:`"
        missing = "" if _stands_alone(one.document) else f"{shown(one.name)} waits for its cut: {cut}"
        yield Drop(name=one.drop, manifest=one, missing=missing)


def _stands_alone(document: ShotManifest | None) -> bool:
    """Whether a manifest lists its shots by their media, and none of a cut."""
    return document is not None and not document.cast and any(shot.media for shot in document.shots)
