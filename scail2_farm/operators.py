"""The verbs of whoever runs a farm: up, status, why, job, gc. Words and tables only; the farm itself decides."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from scail2_farm.errors import FarmError, SettingsInvalid, exit_code
from scail2_farm.words import duration

if TYPE_CHECKING:
    from rich.console import Group

    from scail2_farm.documents import Reply, Submission, Verb

app = typer.Typer(rich_markup_mode=None)
job_app = typer.Typer(no_args_is_help=True, help="Jobs, shots and segments of a running farm.", rich_markup_mode=None)
app.add_typer(job_app, name="job")

FarmOption = Annotated[
    Path | None,
    typer.Option("--farm", help="the farm's folder [`farm` of the settings]", show_default=False, readable=False),
]
WeightsOption = Annotated[str | None, typer.Option(help="a snapshot folder, or `miniature`", show_default=False)]
TierName = Literal["q4", "q8", "bf16"]
"""The tiers of a published snapshot, as options take them."""
TierOption = Annotated[
    TierName | None, typer.Option("--tier", help="which of the tiers a folder holds", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON document and nothing else")]
RefArgument = Annotated[
    str, typer.Argument(help="JOB, JOB/SHOT, JOB/SHOT/SEGMENT, or a SHOT of one job alone", show_default=False)
]
FACTS = ("job", "shot", "segment", "drop", "what", "why", "fix")
PLANNED_WITHIN_S = 3600.0


def out() -> Console:
    """What a command has to say."""
    return Console(highlight=False, soft_wrap=True, emoji=False)


def err() -> Console:
    """How far a command is, and what is wrong."""
    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def tell(faults: Iterable[FarmError]) -> None:
    """What is wrong, in full."""
    for fault in faults:
        err().print(f"scail2-farm: {fault}", markup=False)


def show_rows(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """One thing, line by line."""
    from rich.table import Column, Table

    table = Table.grid(Column(style="dim", no_wrap=True), Column(overflow="fold"), padding=(0, 3, 0, 0))
    for name, words in rows:
        table.add_row(f"  {name}", escape(words), style="yellow" if name == "warning" else None)
    out().print(title, markup=False, style="bold")
    out().print(table)


def print_json(document: object) -> None:
    """The one document of `--json`."""
    pieces = json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(document)
    while some := "".join(islice(pieces, 10_000)):  # a long cut is a million pieces, which `dumps` holds at once
        print(some, end="")
    print()


@app.command()
def up(
    root: Annotated[Path, typer.Argument(help="the farm's folder; made if it is not there", show_default=False)],
    weights: WeightsOption = None,
    tier: TierOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="engines side by side, each with its own weights [1]", show_default=False)
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(help="a folder on a local disk, when ROOT is on a share [ROOT/.farm]", show_default=False),
    ] = None,
) -> None:
    """Run a farm in ROOT: drop a cut and its manifest in ROOT/inbox, find the returned cut later.

    Ctrl-C (or SIGTERM) once: what is being rendered is finished first; twice: stop now, and the next start goes on.
    """
    from scail2_farm.editorial.suffixes import SUFFIXES
    from scail2_farm.farm.daemon import up as run_farm
    from scail2_farm.settings import check_weights, load_settings

    settings = load_settings(weights=weights, tier=tier, workers=workers, ledger=ledger)
    folder = check_weights(settings.weights, tier=settings.tier)
    _log_to(root)
    run_farm(root, settings=settings, weights=folder, suffixes=tuple(SUFFIXES))


@app.command()
def status(
    farm: FarmOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="stay, and show it again every second")] = False,
    as_json: JsonOption = False,
) -> None:
    """What the farm is doing: jobs, running segments, workers, and when it will be done."""
    from rich.live import Live

    root = farm_root(farm)
    document = _asked(root, "status").document
    if as_json:
        print_json(document)
        return
    if not watch:
        out().print(_status_view(document))
        return
    with Live(_status_view(document), console=out(), auto_refresh=False) as live:
        try:
            while True:
                time.sleep(1)
                live.update(_status_view(_asked(root, "status").document), refresh=True)
        except KeyboardInterrupt:
            return


@app.command()
def why(shot: RefArgument, farm: FarmOption = None, as_json: JsonOption = False) -> None:
    """Why a shot, job or segment is not running, or what it waits for."""
    _told(_asked(farm_root(farm), "why", ref=shot), as_json)


@job_app.command("pause")
def job_pause(ref: RefArgument, farm: FarmOption = None, as_json: JsonOption = False) -> None:
    """Stop rendering it; a segment in the middle is begun again later."""
    _told(_asked(farm_root(farm), "pause", ref=ref), as_json)


@job_app.command("resume")
def job_resume(ref: RefArgument, farm: FarmOption = None, as_json: JsonOption = False) -> None:
    """Go on with what was paused."""
    _told(_asked(farm_root(farm), "resume", ref=ref), as_json)


@job_app.command("cancel")
def job_cancel(ref: RefArgument, farm: FarmOption = None, as_json: JsonOption = False) -> None:
    """Give it up; takes that are delivered stay, and `job retry` brings it back."""
    _told(_asked(farm_root(farm), "cancel", ref=ref), as_json)


@job_app.command("retry")
def job_retry(
    ref: RefArgument,
    seed: Annotated[
        int | None, typer.Option(min=0, help="another seed: the shot is rendered as a new version", show_default=False)
    ] = None,
    farm: FarmOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at its inputs again and render what failed, was held or cancelled."""
    _told(_asked(farm_root(farm), "retry", ref=ref, seed=seed), as_json)


@job_app.command("priority")
def job_priority(
    ref: RefArgument,
    priority: Annotated[int, typer.Argument(min=0, max=100, help="higher goes first; 50 is the usual")],
    farm: FarmOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what goes first."""
    _told(_asked(farm_root(farm), "priority", ref=ref, priority=priority), as_json)


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list what would be removed, and remove nothing")] = False,
    farm: FarmOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove scratch that nothing needs any more (`scratch_days`); deliveries and drops are never touched."""
    _told(_asked(farm_root(farm), "gc", dry_run=dry_run), as_json)


# --------------------------------------------------------------------------- asking


def farm_root(named: Path | None) -> Path:
    """The farm that is meant: the one named, else that of the settings.

    Raises SettingsInvalid when there is neither.
    """
    from scail2_farm.settings import load_settings

    root = load_settings(farm=named).farm
    if root is None:
        raise SettingsInvalid(
            "no farm is named", fix="name its folder: --farm ROOT, SCAIL2_FARM or `farm` in the settings file"
        )
    return root.absolute()


def queue(root: Path, submission: Submission, *, as_json: bool) -> int:
    """Bring a submission to a running farm and wait for its word; the exit code.

    Raises FarmNotRunning, StorageError.
    """
    from scail2_farm.documents import Request
    from scail2_farm.farm.control import ask, bring

    ask(root, Request(verb="status"))  # nothing is left with a farm that is not there
    console = err()
    with console.status("the farm looks at its timeline, plates, mattes and stills"):
        reply = ask(root, Request(verb="submitted", ref=bring(root, submission)), within_s=PLANNED_WITHIN_S)
    if as_json:
        print_json(reply.document | ({"fault": reply.fault.model_dump(mode="json")} if reply.fault else {}))
    faults = [_fault(one) for one in _listed(reply.document.get("faults"))]
    if reply.fault is not None and not faults:
        faults = [reply.fault.error()]
    for fault in faults:
        console.print(f"scail2-farm: {fault}", markup=False)
    if not as_json:
        _say(reply)
    return exit_code(faults)


def _asked(root: Path, verb: Verb, **more: Any) -> Reply:
    """The farm's answer to a Request; what it says is wrong is raised here."""
    from scail2_farm.documents import Request
    from scail2_farm.farm.control import ask

    reply = ask(root, Request(verb=verb, **more))
    if reply.fault is not None:
        raise reply.fault.error()
    return reply


def _told(reply: Reply, as_json: bool) -> None:
    if as_json:
        print_json(reply.document or {"said": list(reply.said)})
    else:
        _say(reply)


def _say(reply: Reply) -> None:
    for line in reply.said:
        out().print(line, markup=False)


def _fault(document: object) -> FarmError:
    from scail2_farm.documents import Fault

    return Fault.model_validate(document).error()


def _listed(found: object) -> Sequence[object]:
    return found if isinstance(found, list) else []


# --------------------------------------------------------------------------- looking


def _status_view(document: Mapping[str, Any]) -> Group:
    """The status as tables: jobs, then what is running now."""
    from rich.console import Group
    from rich.table import Column, Table

    jobs = Table(*(Column(name, overflow="fold") for name in ("job", "state", "shots", "segments", "left", "trouble")))
    for job in document["jobs"]:
        shots: Mapping[str, int] = job["shots"]
        trouble = ", ".join(f"{shots[state]} {state}" for state in ("held", "failed", "cancelled") if shots.get(state))
        cells = (
            job["id"],
            "paused" if job["paused"] and job["state"] == "open" else job["state"],
            f"{shots.get('done', 0)}/{sum(shots.values())}",
            f"{job['segments_done']}/{job['segments']}",
            "" if job["eta_s"] is None else duration(job["eta_s"]),
            trouble,
        )
        jobs.add_row(*(escape(str(cell)) for cell in cells))
    running = Table(*(Column(name, overflow="fold") for name in ("worker", "shot", "segment", "step", "left")))
    for one in document["running"]:
        cells = (
            one["worker"],
            f"{one['job']}/{one['shot']}",
            f"{one['segment']}/{one['segments']}",
            f"{one['step']}/{one['of']}" if one["of"] and one["state"] == "leased" else one["state"],
            "" if one["eta_s"] is None else duration(one["eta_s"]),
        )
        running.add_row(*(escape(str(cell)) for cell in cells))
    eta = document.get("eta_s")
    waiting = any(job["state"] == "open" for job in document["jobs"])
    idle = "nothing is being rendered; `scail2-farm why JOB` says why" if waiting else "nothing to do"
    words = "rendering" if document["running"] else idle
    left = "" if eta is None or not document["running"] else f", about {duration(eta)} left in all"
    ending = "; ending when what runs is done" if document.get("draining") else ""
    lines: list[Any] = [f"{escape(str(document['root']))}: {words}{left}{ending}"]
    lines += [jobs] if document["jobs"] else ["no jobs yet: drop a cut and its manifest in inbox/"]
    lines += [running] if document["running"] else []
    return Group(*lines)


# --------------------------------------------------------------------------- logging


class _ForPeople(logging.Formatter):
    """A line for the terminal: the sentence and the facts an operator asks for first."""

    def format(self, record: logging.LogRecord) -> str:
        facts = "  ".join(f"{name} {getattr(record, name)}" for name in FACTS if hasattr(record, name))
        at = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        return f"{at} {record.getMessage()}{'  ' + facts if facts else ''}"


def _log_to(root: Path) -> None:
    """What the farm has to say: for people on the terminal, for machines in .farm/logs/farm.log."""
    from logging.handlers import RotatingFileHandler

    from scail2_farm.errors import storage_error
    from scail2_farm.farm.journal import JsonLine
    from scail2_farm.farm.places import own_of

    folder = own_of(root) / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = RotatingFileHandler(folder / "farm.log", maxBytes=16 << 20, backupCount=3, encoding="utf-8")
    except OSError as error:
        raise storage_error(error, folder) from error
    people = logging.StreamHandler(sys.stderr)
    people.setFormatter(_ForPeople())
    file.setFormatter(JsonLine())
    logging.raiseExceptions = False  # a full disk costs the log, and is told of once by whoever meets it
    logging.basicConfig(level=logging.INFO, handlers=[people, file], force=True)
