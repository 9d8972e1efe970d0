"""The farm's own command, of which a process is ended by SIGKILL at named moments, one after another.

    python crashing.py ROOT ...          the daemon, with this script as what starts its children
    python crashing.py worker            a child of it

CRASHES names the moments as POINT:NTH, after farm.md §6: the NTH time that it comes by once those before it have
happened. At POINT the process that is there ends; at POINT-daemon it is its daemon, and the child is left standing
where it was. The file CRASHED is told: a dot when a moment comes by, a line for each that has happened and whom it
ended. What is patched is Python's own doors (rename, unlink) and the seams between rooms; nothing of the farm knows.
"""

import fcntl
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CRASHES = [tuple(one.split(":")) for one in os.environ["CRASHES"].split()]
CRASHED = Path(os.environ["CRASHED"])
DAEMON = "CRASHING_DAEMON"


def here(point: str) -> None:
    """A moment: end the process it is for, when it is the next one's turn and it has come by often enough."""
    with CRASHED.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # a child of a daemon that is gone may still be there
        file.seek(0)
        told = file.read()
        happened = told.count("\n")
        if happened == len(CRASHES):
            return
        moment, nth = CRASHES[happened]
        ended = os.getpid() if moment == point else os.getppid()
        if moment not in (point, f"{point}-daemon") or (ended != os.getpid() and ended != int(os.environ[DAEMON])):
            return
        file.write(".")
        file.flush()
        if len(told) - len(told.rstrip(".")) + 1 < int(nth):
            return
        file.write(f"{moment}:{nth} ended {ended}\n")
        file.flush()
        os.kill(ended, signal.SIGKILL)
    threading.Event().wait()


def around(owner: Any, name: str, point: str, when: Callable[..., str]) -> None:
    """Make a moment of a function: `when`, of its arguments, says "before", "after", "given" (a result) or ""."""
    own = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        moment = when(*arguments, **named)
        if moment == "before":
            here(point)
        result = own(*arguments, **named)
        if moment == "after" or (moment == "given" and result is not None):
            here(point)
        return result

    setattr(owner, name, wrapped)


def always(moment: str) -> Callable[..., str]:
    return lambda *_, **__: moment


def in_daemon() -> None:
    from scail2_farm.farm import garbage  # noqa: F401  shutil has looked at what unlink can do, before it is wrapped
    from scail2_farm.farm.intake import Intake
    from scail2_farm.farm.ledger import Ledger
    from scail2_farm.farm.outbox import Outbox

    def claims(moment: str) -> Callable[..., str]:
        return lambda source, target, **_: moment if Path(target).parents[1].name == "claimed" else ""

    def publishes(moment: str) -> Callable[..., str]:
        return lambda source, target, **_: (
            moment if Path(source).parent.name == Path(target).parent.name == "work" else ""
        )

    own = Intake._shots

    def shots(*arguments: Any) -> Iterator[Any]:
        for shot in own(*arguments):
            yield shot
            here("P2")  # in the ledger's transaction, which has taken it

    setattr(Intake, "_shots", shots)  # noqa: B010  another signature
    around(os, "rename", "P0", claims("before"))
    around(os, "rename", "P1", claims("after"))
    around(Ledger, "lease", "P3", always("given"))
    around(os, "rename", "P7", publishes("before"))
    around(os, "rename", "P8", publishes("after"))
    around(Ledger, "finish", "P9", always("after"))
    around(Ledger, "delivered", "P11", always("before"))
    around(Ledger, "returned", "P11-cut", always("before"))
    around(Ledger, "returned", "P11-receipt", always("after"))
    around(Outbox, "post", "P12", always("before"))
    around(os, "unlink", "P13", lambda *_, **named: "after" if "dir_fd" in named else "")  # as rmtree does it


def in_worker() -> None:
    from scail2_farm import deliver, render
    from scail2_farm.documents import REPORT, StepSaid
    from scail2_farm.farm.worker import Worker
    from scail2_farm.media import plates

    around(Worker, "_say", "P4", lambda _, said: "after" if isinstance(said, StepSaid) and said.seconds else "")
    around(plates, "write", "P5", always("after"))
    around(render, "write_text", "P6", lambda path, _: "before" if path.name == REPORT else "")
    around(deliver, "_copy", "P10", always("after"))


def main() -> None:
    if sys.argv[1] == "worker":
        in_worker()
        from scail2_farm.farm.worker import main as work

        work()
        return
    os.environ[DAEMON] = str(os.getpid())
    in_daemon()
    from scail2_farm.farm.daemon import up

    assert up.__kwdefaults__ is not None
    up.__kwdefaults__["command"] = (sys.executable, __file__, "worker")
    from scail2_farm.cli import main as farm

    sys.argv = ["scail2-farm", "up", *sys.argv[1:]]
    farm()


if __name__ == "__main__":
    main()
