"""The border to OpenTimelineIO's adapters: code of others, which raises anything and prints where it likes.

An adapter is imported when its kind of file is opened, runs with its warnings and prints kept from the user, and
whatever it raises becomes one fault of the file. What it returns is taken over as JSON at once: editing through
OpenTimelineIO's objects can crash (editorial.md §2.1).
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import opentimelineio as otio

from scail2_farm.editorial.otiojson import COLLECTIONS, MOST_LEVELS, Node, levels, unreadable
from scail2_farm.errors import FarmError, SettingsInvalid, Where, storage_error

_log = logging.getLogger(__name__)


def adapter(name: str, package: str, path: Path) -> Any:
    """An adapter's module, as OpenTimelineIO's registry has it; raises SettingsInvalid when it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return otio.adapters.from_name(name).module()
    except (ImportError, otio.exceptions.OTIOError) as error:
        raise SettingsInvalid(
            f"reading {path.suffix} needs {package}, which is not installed ({str(error)[:200]})",
            why="cuts that are not OpenTimelineIO are read by OpenTimelineIO's adapters, which are an extra",
            fix="pip install 'scail2-farm[nle]', or export the timeline as OpenTimelineIO (.otio)",
            where=Where(file=str(path)),
        ) from None


def translated(path: Path, read: Callable[[], Any]) -> Node:
    """What an adapter's `read` returns, as OTIO JSON; raises TimelineUnreadable for anything it raises."""
    quiet = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        document, fault = _attempt(path, read)
        if fault is not None:
            gc.collect()  # a broken AAF is left open, and found only by whoever collects it
            raise fault
    if not isinstance(document, dict):
        raise unreadable(f"{path.name} holds no timeline", path, fix="export the whole timeline, not clips or a bin")
    if levels(document) > MOST_LEVELS:
        raise unreadable(f"{path.name} is nested deeper than {MOST_LEVELS} levels", path, fix="flatten its compounds")
    return document


def _attempt(path: Path, read: Callable[[], Any]) -> tuple[object, FarmError | None]:
    try:
        found = read()
        return None if found is None else json.loads(found.to_json_string()), None
    except OSError as error:
        return None, storage_error(error, path)
    except Exception as error:  # noqa: BLE001 - adapters raise whatever their parsers do
        _log.debug("an adapter failed", exc_info=True, extra={"event": "adapter_failed", "file": str(path)})
        said = " ".join(str(error).split())[:300] or "nothing more is known"
        return None, unreadable(f"{path.name} cannot be read: {said} ({type(error).__name__})", path)


def is_a(node: object, *schemas: str) -> bool:
    """Whether a node is of one of these schemas, whatever its version."""
    return isinstance(node, dict) and str(node.get("OTIO_SCHEMA")).partition(".")[0] in schemas


def timelines(document: Node) -> Iterator[Node]:
    """Every timeline of a document, in order."""
    if is_a(document, "Timeline"):
        yield document
    elif is_a(document, *COLLECTIONS):
        for child in document.get("children") or []:
            yield from timelines(child)


def items(node: Node) -> Iterator[Node]:
    """A composable and everything in it, outermost first."""
    yield node
    for child in node.get("children") or []:
        yield from items(child)


def unknown_curve(words: str) -> Node:
    """The effect of a retime of which only the existence is known."""
    return {
        "OTIO_SCHEMA": "TimeEffect.1",
        "metadata": {},
        "name": words,
        "effect_name": "Unknown Time Warp Effect",
        "enabled": True,
    }


def linear(scalar: float) -> Node:
    """The effect of a constant speed."""
    return {
        "OTIO_SCHEMA": "LinearTimeWarp.1",
        "metadata": {},
        "name": "",
        "effect_name": "LinearTimeWarp",
        "enabled": True,
        "time_scalar": scalar,
    }


def rational_time(value: int, rate: Fraction) -> Node:
    """A RationalTime of whole frames."""
    return {"OTIO_SCHEMA": "RationalTime.1", "rate": float(rate), "value": float(value)}


def gap(count: int, rate: Fraction) -> Node:
    """A gap of `count` frames."""
    trim = {"OTIO_SCHEMA": "TimeRange.1", "start_time": rational_time(0, rate), "duration": rational_time(count, rate)}
    plain: Node = {"OTIO_SCHEMA": "Gap.1", "metadata": {}, "name": "", "source_range": trim}
    return plain | {"effects": [], "markers": [], "enabled": True}
