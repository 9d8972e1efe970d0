"""The farm's own command on a clock that can be set, with workers whose disk is filled in the middle of a frame.

    python disturbing.py ROOT ...           the daemon, with this script as what starts its children
    python disturbing.py worker             a child of it

CLOCK names a file of seconds that the wall is off by. FILL names a folder on the disk to be filled, FILL_AT a file of
lines `rendered NUMBER` and `delivered NUMBER`: before that frame is written, everything left of the disk is taken by
FILL/filler, and the line is struck out. What is patched only tells the moment; that the disk is full is the system's.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILLER = "filler"


class SetClock:
    """This machine's clocks, the wall as far off as a file says."""

    def __init__(self, path: Path):
        self._path = path

    def wall(self) -> float:
        return time.time() + float(self._path.read_text())

    def monotonic(self) -> float:
        return time.monotonic()


def written(path: Path, text: str) -> None:
    """Write a file that others read at any moment."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)


def fill(folder: Path) -> None:
    """Take everything that is left of a disk."""
    with (folder / FILLER).open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def full_at(moment: str, number: int) -> None:
    """Fill the disk if this is the next moment to do so and it is not full, once."""
    plan = Path(os.environ["FILL_AT"])
    first, *rest = plan.read_text().splitlines() or [""]
    if first == f"{moment} {number}" and not Path(os.environ["FILL"], FILLER).exists():
        written(plan, "".join(f"{line}\n" for line in rest))
        fill(Path(os.environ["FILL"]))


def before(owner: Any, name: str, tell: Callable[..., None]) -> None:
    """Have `tell` called with the arguments of a function before it is."""
    own = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        tell(*arguments)
        return own(*arguments, **named)

    setattr(owner, name, wrapped)


def in_worker() -> None:
    from scail2_farm import deliver
    from scail2_farm.media import plates

    def rendered(path: Path, *_: object) -> None:
        full_at("rendered", int(path.stem))

    def delivered(source: Path, target: Path) -> None:
        if source.parent.name == "frames":
            full_at("delivered", int(source.stem))

    before(plates, "write", rendered)
    before(deliver, "_copy", delivered)


def main() -> None:
    if sys.argv[1] == "worker":
        if "FILL_AT" in os.environ:
            in_worker()
        from scail2_farm.farm.worker import main as work

        work()
        return
    from scail2_farm.farm import daemon

    named: Any = daemon.up.__kwdefaults__
    named["command"] = (sys.executable, __file__, "worker")
    if "CLOCK" in os.environ:
        named["clock"] = SetClock(Path(os.environ["CLOCK"]))
    from scail2_farm.cli import main as farm

    sys.argv = ["scail2-farm", "up", *sys.argv[1:]]
    farm()


if __name__ == "__main__":
    main()
