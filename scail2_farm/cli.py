"""The command line: words to the user, errors into exit codes. Nothing is decided here.

Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import redirect_stdout
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.markup import escape

from scail2_farm import __version__, operators, snapshots
from scail2_farm.errors import FarmError, SubmissionInvalid, Where, exit_code, storage_error
from scail2_farm.frames import FrameRange
from scail2_farm.operators import JsonOption, TierOption, WeightsOption, err, out, print_json, show_rows, tell
from scail2_farm.words import counted, duration

if TYPE_CHECKING:
    from fractions import Fraction

    from rich.console import Console
    from rich.table import Table

    from scail2_farm.documents import Submission
    from scail2_farm.editorial.cast import Casting
    from scail2_farm.footage import Looked
    from scail2_farm.job import Event, Outcome
    from scail2_farm.plan import Plan
    from scail2_farm.shots import Shot

app = typer.Typer(
    name="scail2-farm",
    help="Replace the people in an edit: an OTIO cut and a shot manifest in, rendered takes and the same cut out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(snapshots.app, name="weights")
app.add_typer(operators.app)

R = TypeVar("R")
S = TypeVar("S")

EditArgument = Annotated[
    Path,
    typer.Argument(
        help="an edit (.otio .otioz .otiod .xml .edl .aaf .fcpxml), or a shot manifest",
        show_default=False,
        readable=False,  # not asked here: the plan tells it with every other fault
    ),
]
ManifestOption = Annotated[
    Path | None,
    typer.Option(help="the shot manifest [EDIT_STEM.shots.yaml beside the edit]", show_default=False, readable=False),
]
TimelineOption = Annotated[
    str | None, typer.Option(help="the timeline to read when the file holds several", show_default=False)
]
RateOption = Annotated[
    str | None, typer.Option(help="frames a second of an EDL, which does not say [24]", show_default=False)
]
SearchOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="a folder searched for offline media, by reel and timecode; repeatable", show_default=False, readable=False
    ),
]


def main() -> None:
    """Run the command line and exit: 0 done, 2 usage, 3 input, 4 set-up, 5 storage, 6 resource, 7 engine."""
    try:
        app()
    except FarmError as error:
        tell([error])
        sys.exit(error.exit_code)


def _version(wanted: bool) -> None:
    if wanted:
        out().print(f"scail2-farm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    pass


# --------------------------------------------------------------------------- artists


@app.command()
def submit(
    edit: EditArgument,
    manifest: ManifestOption = None,
    timeline: TimelineOption = None,
    rate: RateOption = None,
    search: SearchOption = None,
    weights: WeightsOption = None,
    tier: TierOption = None,
    keep: Annotated[
        str | None, typer.Option(help="`raw` delivers the model's own frames too", show_default=False)
    ] = None,
    farm: Annotated[
        Path | None,
        typer.Option(
            help="queue it to the farm running in this folder [`farm` of the settings, else here]",
            show_default=False,
            readable=False,
        ),
    ] = None,
    here: Annotated[bool, typer.Option("--here", help="render in place, whatever the settings say")] = False,
    priority: Annotated[int, typer.Option(min=0, max=100, help="on a farm, higher goes first")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Render an edit's cast shots and return the cut with the takes linked: here, or on a farm.

    Stopped or killed, the same command goes on at the first unfinished segment.
    """
    from scail2_farm.settings import check_weights, load_settings

    if keep not in (None, "raw"):
        raise typer.BadParameter("--keep takes `raw`")
    if here and farm is not None:
        raise typer.BadParameter("--here renders in place, --farm on a farm; say one of them")
    root = None if here else load_settings(farm=farm).farm
    if root is not None:
        brought = _submission(edit, manifest, timeline, rate, search, raw=keep == "raw", priority=priority)
        raise typer.Exit(operators.queue(root.absolute(), brought, as_json=as_json))
    planned = _planned(edit, manifest, timeline, rate, search, casting_required=True, as_json=as_json)
    faults = list(planned.faults)
    folder: Path | None = None
    try:
        settings = load_settings(weights=weights, tier=tier)
        folder = check_weights(settings.weights, tier=settings.tier)
    except FarmError as fault:
        faults.append(fault)
    job = None
    try:
        from scail2_farm import job  # opens the array backend, which a machine may lack
    except FarmError as fault:
        faults.append(fault)
    if faults or folder is None or job is None:
        if as_json:
            _print_plan(planned, faults)
        tell(faults)
        raise typer.Exit(exit_code(faults))
    for note in planned.notes:
        err().print(f"scail2-farm: note: {note}", markup=False)
    for warning, shots in _warnings(planned.shots):
        err().print(f"scail2-farm: warning: {_few(shots)}: {warning}", markup=False)
    try:
        outcome = _watched(job.run(planned, weights=folder, raw=keep == "raw"))
    except KeyboardInterrupt:
        err().print("scail2-farm: stopped; finished segments are kept, submit again to go on", markup=False)
        raise typer.Exit(130) from None
    except FarmError as fault:
        if as_json:
            _print_plan(planned, [fault])
        raise
    if as_json:
        print_json(outcome.as_json())
    else:
        _show_outcome(outcome)
    tell(outcome.faults)
    raise typer.Exit(exit_code(outcome.faults))


@app.command()
def check(
    edit: EditArgument,
    manifest: ManifestOption = None,
    timeline: TimelineOption = None,
    rate: RateOption = None,
    search: SearchOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the plan of an edit, which rule casts whom, and every fault in it; renders nothing."""
    planned = _planned(edit, manifest, timeline, rate, search, casting_required=False, as_json=as_json)
    if as_json:
        _print_plan(planned, planned.faults)
    else:
        _show_plan(planned)
    tell(planned.faults)
    raise typer.Exit(exit_code(planned.faults))


@app.command()
def probe(
    file: Annotated[
        str,
        typer.Argument(help="a movie, a frame, a sequence as NAME.####.exr, a still, or a folder", show_default=False),
    ],
    rate: Annotated[
        str | None, typer.Option(help="frames a second, where frames have a timecode and no rate", show_default=False)
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="a color space to try, as a manifest would say it", show_default=False)
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help="the show's OCIO config: .ocio, .ocioz or its folder [built in]", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what media is: frames and those missing, size, rate, timecode, channels, color space and who says it.

    For example: scail2-farm probe plates/sh010.1001.exr; of the whole folder: scail2-farm probe plates
    """
    from scail2_farm.footage import look
    from scail2_farm.media.spaces import load_config

    looked = _drained(look(file, rate=_rate(rate), space=space, config=load_config(config)), str)
    if as_json:
        print_json(looked.as_json())
    else:
        _show_looked(looked)
    tell(looked.faults)
    raise typer.Exit(exit_code(looked.faults))


# --------------------------------------------------------------------------- machines


@app.command("render-segment")
def render_segment(
    segment: Annotated[Path, typer.Argument(help="a segment document", show_default=False)], as_json: JsonOption = False
) -> None:
    """Render one segment into its folder; a finished one is left as it is."""
    from contextlib import closing

    from scail2_farm.documents import Segment, read_document
    from scail2_farm.render import engine_for, finished, render

    document = read_document(segment, Segment)
    report = finished(Path(document.folder), document.key)
    if report is None:
        with closing(render(document, engine=engine_for(document))) as steps:
            while report is None:
                try:
                    step = next(steps)
                except StopIteration as stop:
                    report = stop.value
                else:
                    err().print(
                        f"{document.shot} segment {document.index + 1}/{document.count} step {step.step}/{step.of}"
                    )
    if as_json:
        print_json(report.model_dump(mode="json", by_alias=True))
    else:
        out().print(f"done: {len(report.frames)} files in {document.folder}", markup=False)


@app.command()
def worker() -> None:
    """Do what a farm says on standard input, one task after the other; a farm starts its own."""
    from scail2_farm.farm.worker import main as work

    work()


@app.command()
def schema(folder: Annotated[Path, typer.Argument(help="where the schemas are written")] = Path("schemas")) -> None:
    """Write the JSON Schemas of every document into a folder."""
    from scail2_farm.documents import json_schemas, write_text

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    for name, text in json_schemas().items():
        write_text(folder / name, text)
        out().print(str(folder / name), markup=False)


# --------------------------------------------------------------------------- telling


def _print_plan(plan: Plan | None, faults: Iterable[FarmError]) -> None:
    """The document of a plan and its faults; the plan is null where none could be made."""
    print_json({"plan": plan and plan.as_json(), "faults": [fault.as_json() for fault in faults]})


def _drained(steps: Generator[S, None, R], words: Callable[[S], str]) -> R:
    """Run a generator to its result, showing what it looks at on a terminal.

    What libraries print meanwhile goes to stderr: OpenEXR tells of damaged pixels on stdout, where the document is.
    """
    with err().status("reading") as status, redirect_stdout(sys.stderr):
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                return stop.value
            status.update(f"looking at {escape(words(step))}")


def _planned(
    edit: Path,
    manifest: Path | None,
    timeline: str | None,
    rate: str | None,
    search: list[Path] | None,
    *,
    casting_required: bool,
    as_json: bool,
) -> Plan:
    from scail2_farm.plan import is_manifest, plan
    from scail2_farm.settings import load_settings

    if manifest is not None and is_manifest(edit):
        raise typer.BadParameter(f"{edit.name} is a manifest itself; --manifest goes with an edit")
    steps = plan(
        edit,
        manifest=manifest,
        timeline=timeline,
        rate=_rate(rate),
        search=[folder.absolute() for folder in search or ()],
        casting_required=casting_required,
        loras={name: path.absolute() for name, path in load_settings().loras.items()},
    )
    try:
        return _drained(steps, lambda step: f"{step.what} ({step.done}/{step.of})")
    except FarmError as fault:
        if as_json:
            _print_plan(None, [fault])
        raise


def _rate(written: str | None) -> Fraction | None:
    from scail2_farm.frames import exact_rate

    try:
        return exact_rate(written) if written is not None else None
    except (ValueError, ZeroDivisionError, OverflowError):
        raise typer.BadParameter(
            f"--rate takes frames a second, for example 25 or 24000/1001, not {written!r}"
        ) from None


def _submission(
    edit: Path,
    manifest: Path | None,
    timeline: str | None,
    rate: str | None,
    search: list[Path] | None,
    *,
    raw: bool,
    priority: int,
) -> Submission:
    """What a farm needs to be told of a submission: its files, and the folder its relative paths are taken in.

    Raises SubmissionInvalid when there is no manifest, or one in another folder that does not say `source_dir`.
    """
    from scail2_farm.documents import Submission
    from scail2_farm.plan import find_manifest, is_manifest, job_name, no_manifest

    edit = edit.absolute()
    alone = is_manifest(edit)
    found = edit if alone else (manifest.absolute() if manifest else find_manifest(edit))
    missing = [path for path in (edit, found) if path is not None and not path.exists()]
    if missing:
        raise SubmissionInvalid(f"{missing[0].name} is not there", where=Where(file=str(missing[0])))
    if found is None:
        raise no_manifest(edit)
    return Submission(
        name=job_name(edit),
        edit=None if alone else str(edit),
        manifest=str(found),
        home=str(edit.parent),
        timeline=timeline,
        rate=_rate(rate),
        search=tuple(str(folder.absolute()) for folder in search or ()),
        raw=raw,
        priority=priority,
    )


def _watched(events: Generator[Event, None, Outcome]) -> Outcome:
    """Run a job, with a bar on a terminal and a line a segment elsewhere."""
    from contextlib import closing

    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from scail2_farm.job import Rendering, ShotDone, ShotFailed, TakeLacking
    from scail2_farm.plan import Probing

    console = err()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[eta]}", markup=False),
    )
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    with closing(events), progress, redirect_stdout(sys.stderr):  # as in _drained
        bar = progress.add_task("starting", total=1.0, eta="")
        while True:
            try:
                event = next(events)
            except StopIteration as stop:
                outcome: Outcome = stop.value
                progress.update(bar, completed=1.0, description="done", eta="")
                return outcome
            match event:
                case Probing(what=what):
                    progress.update(bar, description=what)
                case Rendering():
                    place = (
                        f"{event.shot}  segment {event.segment + 1}/{event.segments}  step {event.step}/{event.steps}"
                    )
                    eta = "" if event.eta_s is None else f"about {duration(event.eta_s)} left"
                    progress.update(bar, completed=event.done, description=place, eta=eta)
                    if not console.is_terminal and event.step == event.steps:
                        console.print(f"{place}  {event.done:4.0%}  {eta}", markup=False)
                case ShotDone():
                    word = "was delivered before" if event.again else "delivered"
                    console.print(f"{event.shot}  v{event.take.version:03d} {word}: {event.folder}", markup=False)
                    for note in event.take.notes:
                        console.print(f"{event.shot}  note: {note}", markup=False)
                case TakeLacking():
                    console.print(f"{event.shot}  {event.warning}", markup=False)
                case ShotFailed():
                    console.print(f"{event.shot}  failed: {event.fault.code} {event.fault.what}", markup=False)


def _show_plan(plan: Plan) -> None:
    console = out()
    console.print(f"{plan.name}: {counted(len(plan.castings), 'clip')}", markup=False)
    if plan.castings:
        console.print(_casting_table(plan))
    for shot in plan.shots:
        _show_shot(console, shot, folder=plan.folder)
    nobody = sum(casting.state == "uncast" for casting in plan.castings)
    if plan.manifest is None and not plan.faults:
        names = ", ".join(f"{plan.name}.shots{suffix}" for suffix in (".yaml", ".yml", ".json"))
        console.print(f"nobody is cast: no manifest was named, and none of {names} is in {plan.folder}", markup=False)
    elif plan.manifest is not None and nobody:
        console.print(f"nobody is cast in {counted(nobody, 'clip')}", markup=False)
    for note in plan.notes:
        console.print(f"note: {_near(note, plan.folder)}", markup=False)
    console.print(f"{counted(len(plan.shots), 'shot')} to render, {counted(len(plan.faults), 'fault')}", markup=False)


def _casting_table(plan: Plan) -> Table:
    """Who plays in every clip, and why; clips in a row that nobody plays in, for one reason, share a line."""
    from rich.table import Column, Table

    table = Table(*(Column(name, overflow="fold") for name in ("clip", "track", "who plays", "why")))
    for _, same in groupby(enumerate(plan.castings), key=_line_of_table):
        castings = [casting for _, casting in same]
        first, clip = castings[0], castings[0].clip
        name = _clip_name(first) if len(castings) == 1 else _span_of([casting.shot for casting in castings])
        if first.state == "rendered":
            by = len(first.rules) > 1  # with one rule, the rule says it
            who = "\n".join(f"{one.id} ({one.slot}){f' by {_place(one.where)}' if by else ''}" for one in first.members)
            why = "\n".join(f"{_place(where)}: {says}" for where, says in first.rules)
        else:
            who, why = f"[{first.state}]", _near(first.reason, plan.folder)
        table.add_row(*map(escape, (name, clip.track if clip else "", who, why)))
    return table


def _line_of_table(numbered: tuple[int, Casting]) -> tuple[object, ...]:
    """What clips in a row share when they share a line of the table: nothing, where somebody plays."""
    index, casting = numbered
    if casting.state == "rendered":
        return (index,)
    return casting.state, casting.reason, casting.clip.track if casting.clip else None


def _span_of(names: list[str]) -> str:
    """The first and the last of several clips, and how many there are."""
    return f"{names[0]} to {names[-1]} ({len(names)})" if len(names) > 2 else ", ".join(names)


def _clip_name(casting: Casting) -> str:
    """What a clip's files are called, and its own name where that could not be used."""
    own = casting.clip.name if casting.clip else ""
    return casting.shot if not own or casting.shot.startswith(own) else f"{casting.shot} ({own})"


def _place(where: Where) -> str:
    """A line of a document, as file:line."""
    return f"{Path(where.file or '').name}:{where.line}"


def _near(words: str, folder: Path) -> str:
    """Words in which paths below the edit's folder are written from there."""
    return words.replace(f"{folder}{os.sep}", "")


def _few(names: list[str]) -> str:
    """The first names of many, and how many more there are."""
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def _warnings(shots: Iterable[Shot]) -> list[tuple[str, list[str]]]:
    """Every warning of a plan once, with the shots it is of."""
    found: dict[str, list[str]] = {}
    for shot in shots:
        for warning in shot.warnings:
            found.setdefault(warning, []).append(shot.id)
    return list(found.items())


def _show_shot(console: Console, shot: Shot, *, folder: Path) -> None:
    plate, handles = shot.plate, shot.handles_given
    extent = f"{_files(shot, shot.frames)} ({shot.frames.count}, handles {handles.head}/{handles.tail})"
    lines = [
        f"{shot.id}: frames {extent}, {counted(len(shot.windows), 'segment')}",
        f"  plate {plate.path}",
        f"  {plate.width}x{plate.height}, {shot.color.space} ({shot.color.decided_by})",
    ]
    if len(shot.uses) > 1:
        uses = [f"{use.casting.shot} ({_files(shot, use.frames)})" for use in shot.uses[1:]]
        lines.append(f"  also shown by {_few(uses)}")
    for performer in shot.performers:
        stills = ", ".join(reference.image for reference in performer.references)
        where = "the whole frame" if performer.matte is None else f"matte {performer.matte}"
        lines.append(f"  {performer.id} ({performer.slot}): {stills}, {where}")
    if (driving := shot.driving) is not None:
        moving = shot.frames.moved(driving.offset)
        lines.append(f"  driven by {driving.clip.path}, frames {moving}, {driving.color.space}")
    lines += [f"  {line}" for line in _scene_lines(shot)]
    lines += [f"  warning: {warning}" for warning in shot.warnings]
    for line in lines:
        console.print(_near(line, folder), markup=False)


def _files(shot: Shot, frames: FrameRange) -> str:
    """Plate frames by the numbers their files have."""
    first, last = shot.plate.number(frames.first), shot.plate.number(frames.last)
    step = f" by {shot.plate.step}" if shot.plate.step != 1 else ""
    return f"{first}-{last}{step}" if frames.count != 1 else str(first)


def _scene_lines(shot: Shot) -> list[str]:
    """What the segments are rendered with; segments in a row that agree share a line."""
    lines: list[str] = []
    for scene, same in groupby(zip(shot.scenes, shot.windows, strict=True), key=lambda pair: pair[0]):
        keeps = [window.keep for _, window in same]
        frames = FrameRange.from_last(shot.frames.first + keeps[0].first, shot.frames.first + keeps[-1].last)
        sampler = f"{scene.sampler.preset} {scene.sampler.solver} {counted(scene.sampler.steps, 'step')}"
        words = f"{scene.mode} at {scene.canvas.width}x{scene.canvas.height}, {sampler}, seed {scene.seed}"
        where = "" if frames == shot.frames else f"frames {_files(shot, frames)}: "
        lines.append(f"{where}{words}, prompt {scene.prompt!r}")
    return lines


def _show_outcome(outcome: Outcome) -> None:
    console = out()
    for shot in outcome.done:
        console.print(f"{shot.shot}: {counted(shot.take.frames.count, 'frame')} in {shot.folder}", markup=False)
    sheets = outcome.plan.deliver_to / "sheets"
    if sheets.is_dir():
        console.print(f"sheets: {sheets}", markup=False)
    if outcome.returned is not None:
        console.print(f"returned cut: {outcome.returned}", markup=False)


def _show_looked(looked: Looked) -> None:
    """One thing line by line, with the sequence it belongs to; several as a table and what they warn of."""
    from rich import box
    from rich.table import Column, Table

    from scail2_farm.footage import COLUMNS

    if len(looked.found) == 1:
        (footage,) = looked.found
        rows = footage.rows()
        show_rows(str(footage.source), rows)
        if footage.sequence is not None:
            show_rows(
                f"one frame of {footage.sequence.name}", [row for row in footage.sequence.rows() if row not in rows]
            )
        return
    narrow = {"name": 16, "color space": 12, "kind": 6}  # what folds on a narrow terminal, and how far
    columns = (
        Column(name, overflow="fold", no_wrap=name not in narrow, min_width=narrow.get(name)) for name in COLUMNS
    )
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for footage in looked.found:
        table.add_row(*map(escape, footage.cells()))
    if looked.found:
        out().print(table)
    for footage in looked.found:
        for warning in footage.warnings:
            out().print(f"{footage.name}: warning: {warning}", markup=False)
    unsaid = [footage.name for footage in looked.found if footage.unsaid]
    if unsaid:
        out().print(f"no color space: {_few(unsaid)}; probe one alone to see what to write", markup=False)
