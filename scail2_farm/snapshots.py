"""The verbs of `weights`: what snapshots there are, whether they are whole, and how to make or fetch one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import typer
from rich.markup import escape

from scail2_farm.errors import FarmError, SettingsInvalid, storage_error
from scail2_farm.operators import JsonOption, TierName, TierOption, err, out, print_json, show_rows, tell
from scail2_farm.words import counted

if TYPE_CHECKING:
    from rich.table import Table

    from scail2_farm.engine.pull import Announced
    from scail2_farm.engine.store import Progress as Carried
    from scail2_farm.engine.weights import Verified

app = typer.Typer(no_args_is_help=True, help="Snapshots of the model.", rich_markup_mode=None)
R = TypeVar("R")


@app.command("list")
def list_(
    places: Annotated[
        list[Path] | None,
        typer.Argument(
            help="folders to look in [the one the settings name, and the one around it]", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What snapshots there are, and whether each is whole."""
    from scail2_farm.engine.weights import found
    from scail2_farm.settings import BUILT_IN_WEIGHTS, load_settings

    if not places:
        named = load_settings().weights
        own = [Path(named).absolute()] if named and named not in BUILT_IN_WEIGHTS else []
        places = [*BUILT_IN_WEIGHTS.values(), *own, *(folder.parent for folder in own)]
    with err().status("looking for snapshots") as status:
        snapshots: list[Verified] = []
        for one in found(places):
            status.update(f"found {escape(str(one.folder))}")
            snapshots.append(one)
    if as_json:
        print_json({"snapshots": [one.as_json() for one in snapshots]})
    elif snapshots:
        out().print(_snapshot_table(snapshots))
    else:
        out().print(f"no snapshot in {', '.join(map(str, places))}", markup=False)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="a snapshot, or a root of tiers", show_default=False)],
    tier: TierOption = None,
    deep: Annotated[bool, typer.Option("--deep", help="hash every file, and compare with SHA256SUMS")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare a snapshot with the published layout: names, shapes and types from the headers, in a moment."""
    from scail2_farm.engine import weights

    try:
        verified = _carried(weights.verify(folder, tier=tier, deep=deep))
    except FarmError as fault:
        if as_json:
            print_json({"faults": [fault.as_json()]})
        raise
    if as_json:
        print_json(verified.as_json())
    else:
        _show_verified(verified)
    if verified.error:
        tell([verified.error])
        raise typer.Exit(verified.error.exit_code)


@app.command()
def tiny(
    folder: Annotated[Path, typer.Argument(help="a new folder", show_default=False)],
    seed: Annotated[int, typer.Option(help="the same seed writes the same bytes", min=0)] = 0,
) -> None:
    """Write a small snapshot of random weights in the published layout, to try the farm without the real ones."""
    from scail2_farm.engine import write_tiny_snapshot

    with _into_a_new_folder(folder):
        write_tiny_snapshot(folder, seed=seed)
    size = sum(path.stat().st_size for path in folder.iterdir())
    out().print(
        f"wrote {folder} ({size / 1e6:.1f} MB): random weights, they make coloured noise, not people", markup=False
    )


@app.command()
def quantize(
    source: Annotated[Path, typer.Argument(help="a dense snapshot (bf16)", show_default=False)],
    target: Annotated[Path, typer.Argument(help="a new folder", show_default=False)],
    bits: Annotated[int, typer.Option(help="4 or 8", show_default=False)],
) -> None:
    """Pack a dense snapshot into 4 or 8 bits; memory holds one tensor at a time."""
    from scail2_farm.engine.quantize import quantize_snapshot

    if bits not in (4, 8):
        raise typer.BadParameter("--bits takes 4 or 8")
    with _into_a_new_folder(target):
        _carried(quantize_snapshot(source, target, bits=bits))
    out().print(f"wrote {target}", markup=False)


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="a folder with the checkpoints as their authors published them", show_default=False)
    ],
    target: Annotated[Path, typer.Argument(help="a new folder", show_default=False)],
    bits: Annotated[
        int | None, typer.Option(help="4 or 8: pack the transformer [bfloat16]", show_default=False)
    ] = None,
) -> None:
    """Make a snapshot of the published checkpoints (.pt, .pth); nothing in them is run, and torch is not needed."""
    from scail2_farm.engine.convert import import_checkpoints

    if bits not in (None, 4, 8):
        raise typer.BadParameter("--bits takes 4 or 8")
    with _into_a_new_folder(target):
        _carried(import_checkpoints(source, target, bits=bits))
    out().print(f"wrote {target}", markup=False)


@app.command()
def pull(
    repo: Annotated[str, typer.Argument(help="OWNER/NAME on the hub", show_default=False)],
    tier: Annotated[TierName, typer.Option(help="which of its tiers", show_default=False)],
    target: Annotated[Path | None, typer.Option("--to", help="a new folder [NAME-TIER]", show_default=False)] = None,
    revision: Annotated[str, typer.Option(help="a branch, tag or commit")] = "main",
    endpoint: Annotated[str | None, typer.Option(help="another hub [the library's]", show_default=False)] = None,
) -> None:
    """Fetch a published snapshot: the one command that opens a connection to the outside. Run again, it goes on."""
    from scail2_farm.engine import pull as hub

    def say(step: Announced | Carried) -> Carried | None:
        if not isinstance(step, hub.Announced):
            return step
        size = f"{step.bytes / 1e9:.1f} GB" if step.bytes > 1e8 else f"{step.bytes / 1e6:.1f} MB"
        if step.exact:
            kept = f"; {step.kept / 1e9:.1f} GB are here from an earlier run" if step.kept else ""
            err().print(f"{', '.join(step.files)}: {size}{kept}", markup=False)
        else:
            err().print(f"connecting to {step.endpoint} for {step.repo} ({step.revision})", markup=False)
            err().print(f"to fetch {tier}: {', '.join(step.files)}, about {size}", markup=False)
        return None

    folder = target or Path(f"{repo.rpartition('/')[2]}-{tier}")
    with _into_a_new_folder(folder):
        verified = _carried(hub.pull(repo, tier=tier, target=folder, revision=revision, endpoint=endpoint), say=say)
    _show_verified(verified)
    out().print(f"fetched and checked: {folder}", markup=False)


# --------------------------------------------------------------------------- telling


@contextmanager
def _into_a_new_folder(folder: Path) -> Generator[None]:
    """Says what stands in the way of writing a snapshot."""
    try:
        yield
    except FileExistsError as error:
        raise SettingsInvalid(
            str(error), why="a snapshot is never overwritten", fix="name a folder that does not exist yet"
        ) from None
    except OSError as error:
        raise storage_error(error, folder) from error


def _carried(steps: Generator[Any, None, R], say: Callable[[Any], Carried | None] = lambda step: step) -> R:
    """Run what reads or writes snapshots to its result, with a bar of bytes on a terminal."""
    from contextlib import closing

    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = err()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    progress = Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True
    )
    with closing(steps), progress:
        bar = progress.add_task("starting", total=None)
        while True:
            try:
                step = say(next(steps))
            except StopIteration as stop:
                return stop.value
            if step is not None:
                progress.update(bar, description=step.what, completed=step.done, total=step.of)


def _snapshot_table(snapshots: Iterable[Verified]) -> Table:
    from rich import box
    from rich.table import Column, Table

    table = Table(
        *("name", "tier", Column("bytes", justify="right"), "whole", Column("folder", overflow="fold")),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for one in snapshots:
        name = one.folder.name
        name = f"{one.folder.parent.name}/{name}" if name in get_args(TierName) else name
        state = "yes" if one.error is None else f"no: {one.error.what}"
        table.add_row(*map(escape, (name, one.tier or "?", f"{one.bytes / 1e9:.2f} GB", state, str(one.folder))))
    return table


def _show_verified(verified: Verified) -> None:
    packed = f", Linears of {verified.bits} bits" if verified.bits else ""
    rows = [("tier", f"{verified.tier or 'unknown'}{packed}"), ("bytes", f"{verified.bytes:,}")]
    for name, size in verified.sizes.items():
        tensors = f"  {counted(verified.tensors[name], 'tensor')}" if name in verified.tensors else ""
        digest = f"  sha256 {verified.digests[name][:16]}…" if name in verified.digests else ""
        rows.append((name, f"{size:,} bytes{tensors}{digest}"))
    show_rows(str(verified.folder), rows)
