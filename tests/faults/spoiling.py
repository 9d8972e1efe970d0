"""The farm's own command with engines that go wrong, each in its own way, whatever else they are asked for.

    python spoiling.py ROOT ...             the daemon, with this script as what starts its children
    python spoiling.py worker               a child of it

SPOIL is "SHOT=WAY SHOT=WAY ...": what the engine does at a shot; every other shot is rendered as ever. SPOIL_SLOTS is
a glob over slots: a child of one of these ends at its first task. SPOIL_EVIDENCE is a file: while it is not there, the
daemon makes it and is ended as soon as it has kept evidence, of which it has told nobody yet. It is the real worker
that goes wrong, with the real engine; BROKEN holds snapshots whose weights are damaged, a folder for each way that
needs one.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

WAYS = dict(pair.split("=") for pair in os.environ.get("SPOIL", "").split())
SLOTS = os.environ.get("SPOIL_SLOTS", "")
EVIDENCE = os.environ.get("SPOIL_EVIDENCE", "")
BROKEN = Path(os.environ.get("BROKEN", ""))
NOISE_MB = int(os.environ.get("NOISE_MB", "64"))
Render = Callable[[Any], Any]
Steps = Generator[Any, None, Any]


def own_slot(locks: Path) -> str:
    """The slot of this process: it inherits the lock of it and of no other."""
    mine: set[tuple[int, int]] = set()
    for descriptor in range(3, 64):
        try:
            found = os.fstat(descriptor)
        except OSError:
            continue
        mine.add((found.st_dev, found.st_ino))
    return next(lock.stem for lock in locks.glob("*.lock") if (lock.stat().st_dev, lock.stat().st_ino) in mine)


# --------------------------------------------------------------------------- ways of going wrong


def silent(render: Render, task: Any) -> Any:
    """Ends well, without a frame and without a word."""
    os._exit(0)


def empty(render: Render, task: Any) -> Any:
    """Says that it is done, and has not made anything."""
    from scail2_farm.documents import DoneSaid

    return DoneSaid(folder=task.folder)


def lacking(render: Render, task: Any) -> Any:
    """Hands in all frames but one, which its report has."""
    said = render(task)
    max(Path(task.folder).glob("frames/*.exr")).unlink()
    return said


def frozen(render: Render, task: Any) -> Any:
    """Computes one picture for every frame."""

    def still(steps: Steps) -> Steps:
        result = yield from steps
        result.frames[:] = result.frames[0]
        return result

    return _with_steps(still, render, task)


def dying(render: Render, task: Any) -> Any:
    """Makes a step and dies of a bad address."""
    return _after_a_step(render, task, lambda: ctypes.string_at(0))


def killed(render: Render, task: Any) -> Any:
    """Makes a step and is ended from outside, as if by the system."""
    return _after_a_step(render, task, lambda: os.kill(os.getpid(), signal.SIGKILL))


def hanging(render: Render, task: Any) -> Any:
    """Makes a step, and from then on is deaf to all but SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

    def hang() -> None:
        while True:
            time.sleep(3600)

    return _after_a_step(render, task, hang)


def dawdling(render: Render, task: Any) -> Any:
    """Makes the same step for ever."""

    def again(steps: Steps) -> Steps:
        step = next(steps)
        while True:
            time.sleep(0.2)
            yield step

    return _with_steps(again, render, task)


def starving(render: Render, task: Any) -> Any:
    """Finds no memory after its steps."""

    def starve(steps: Steps) -> Steps:
        yield from steps
        return np.ones(1 << 50)

    return _with_steps(starve, render, task)


def outgrowing(render: Render, task: Any) -> Any:
    """Takes more memory than there is, and is ended by the system: in a cage, where there is little."""
    (Path(os.environ["CAGE"]) / "cgroup.procs").write_text(str(os.getpid()))
    return _after_a_step(render, task, lambda: np.ones(1 << 29))


def small(render: Render, task: Any) -> Any:
    """Works on a canvas half as wide as it should."""
    from scail2_farm import render as rendering

    own = rendering.render

    def narrow(segment: Any, **named: Any) -> Any:
        return own(_narrow(segment), **named)

    rendering.render = narrow
    try:
        return render(task)
    finally:
        rendering.render = own


def _narrow(segment: Any) -> Any:
    canvas = segment.canvas
    width = canvas.width // 2
    left, top, _, height = canvas.active
    smaller = canvas.model_copy(update={"width": width, "active": (min(left, width // 2), top, width // 2, height)})
    return segment.model_copy(update={"canvas": smaller})


def loud(render: Render, task: Any) -> Any:
    """Renders well, and fills its log: with lines and without, on stderr and on what libraries hold for stdout."""
    for number in range(NOISE_MB):
        os.write(1 + number % 2, b"x" * (1 << 20) if number % 3 else (b"." * 63 + b"\n") * (1 << 14))
    os.write(2, b"\nthe last line\n")
    return render(task)


BY_NAME: dict[str, Callable[[Render, Any], Any]] = {
    way.__name__: way
    for way in (
        silent, empty, lacking, frozen, dying, killed, hanging, dawdling, starving, outgrowing, small, loud
    )
}  # fmt: skip
"""Any other name is that of a snapshot in BROKEN."""


def _after_a_step(render: Render, task: Any, then: Callable[[], object]) -> Any:
    def once(steps: Steps) -> Steps:
        yield next(steps)
        then()
        return (yield from steps)

    return _with_steps(once, render, task)


def _with_steps(change: Callable[[Steps], Steps], render: Render, task: Any) -> Any:
    """Render with other steps than the engine's own."""
    from scail2_farm.engine import Engine

    own = Engine._segment
    Engine._segment = lambda *arguments: change(own(*arguments))  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return render(task)
    finally:
        Engine._segment = own


# --------------------------------------------------------------------------- the worker


def spoil() -> None:
    """Have the worker go wrong at the shots that are named."""
    from scail2_farm.farm.worker import Worker

    rendered, loaded = Worker._render, Worker._loaded
    now = ""

    def _render(self: Worker, task: Any) -> Any:
        nonlocal now
        now = WAYS.get(task.shot.id, "")
        way = BY_NAME.get(now)
        return rendered(self, task) if way is None else way(lambda asked: rendered(self, asked), task)

    def _loaded(self: Worker, segment: Any) -> Any:
        broken = BROKEN / now
        if now and broken.is_dir():
            weights = segment.weights.model_copy(update={"path": str(broken)})
            segment = segment.model_copy(update={"weights": weights})
        return loaded(self, segment)

    Worker._render, Worker._loaded = _render, _loaded  # pyright: ignore[reportAttributeAccessIssue]


def spoil_evidence() -> None:
    """Have the daemon die when it has kept evidence, once."""
    from scail2_farm import evidence

    own = evidence.keep

    def keep(*arguments: Any, **named: Any) -> Any:
        told = own(*arguments, **named)
        if not Path(EVIDENCE).exists():
            Path(EVIDENCE).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return told

    evidence.keep = keep


def main() -> None:
    if sys.argv[1] == "worker":
        if SLOTS and fnmatch(own_slot(Path(os.environ["LOCKS"])), SLOTS):
            from scail2_farm.documents import StepSaid

            sys.stdin.readline()
            sys.stdout.write(StepSaid(what="a bad worker", step=0, of=1).model_dump_json() + "\n")
            sys.stdout.flush()
            sys.exit(1)
        spoil()
        from scail2_farm.farm.worker import main as work

        work()
        return
    if EVIDENCE:
        spoil_evidence()
    from scail2_farm.farm import daemon

    daemon.up.__kwdefaults__["command"] = (sys.executable, __file__, "worker")  # pyright: ignore
    from scail2_farm.cli import main as farm

    sys.argv = ["scail2-farm", "up", *sys.argv[1:]]
    farm()


if __name__ == "__main__":
    main()
