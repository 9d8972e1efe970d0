"""What `test_drops` runs in processes of their own: watchers that race, and a hot folder that is killed at one call."""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from farm_shots import StandingClock

from scail2_farm.documents import Fault
from scail2_farm.errors import FarmError, SubmissionInvalid
from scail2_farm.farm.host import SystemClock
from scail2_farm.farm.hotfolder import Claim, HotFolder, Refused, Waiting

CAST = (
    "schema: scail2-farm/shot-manifest@1\ncharacters: /shows/x/characters.yaml\n"
    "cast:\n- when: {clip: '*'}\n  characters: [{id: ada}]\n"
)
CHANGING_CALLS = frozenset({"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir"})
Found = list[Claim | Refused | Waiting]


@dataclass
class Stepper:
    """A hot folder on a clock that stands; every look is five seconds after the one before."""

    root: Path
    clock: StandingClock = field(default_factory=StandingClock)
    unreadable: Callable[[Path], FarmError | None] = lambda path: None

    def __post_init__(self) -> None:
        self.hot = HotFolder(
            self.root, clock=self.clock, network=False, suffixes=(".otio", ".edl", ".xml"), unreadable=self.unreadable
        )

    def look(self, seconds: float) -> Found:
        found: Found = []
        for _ in range(int(seconds // 5) + 1):
            found += self.hot.poll()
            self.clock.pass_by(5)
        return found


def vouch(path: Path) -> None:
    """The sidecar of a file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")


def drop(inbox: Path, name: str, text: str = "a cut\n") -> None:
    """A cut, its manifest and their sidecars."""
    (inbox / f"{name}.otio").write_text(text)
    (inbox / f"{name}.shots.yaml").write_text(CAST)
    for path in (inbox / f"{name}.otio", inbox / f"{name}.shots.yaml"):
        vouch(path)


def race(root: Path, until: Path, told: Path) -> None:
    """Claim until a file appears; which names were claimed goes into another."""
    os.fsync = lambda descriptor: None  # no power is cut here
    hot = HotFolder(
        root, clock=SystemClock(), network=False, suffixes=(".otio",), unreadable=lambda path: None, settle_s=0.2
    )
    names: list[str] = []
    refused = 0
    while not until.exists():
        found = hot.poll()
        names += [one.name for one in found if isinstance(one, Claim)]
        refused += sum(isinstance(one, Refused) for one in found)
        time.sleep(0.02)
    told.write_text(json.dumps({"names": names, "refused": refused}))


def killed_everywhere(root: Path, what: str) -> None:
    """Take a drop one way to its end in ROOT/1, ROOT/2 and so on, killed before the first call that changes a folder,
    before the second, until it comes to its end.
    """
    at = 0
    while True:
        at += 1
        inbox = Stepper(root / str(at)).hot.inbox
        drop(inbox, "cut")
        if what == "torn":  # without a sidecar, so that it is parsed, and written to while it is
            (inbox / "cut.otio.sha256").unlink()
        child = os.fork()
        if child == 0:
            _on_its_way(root / str(at), what, at)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            return
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            sys.exit(1)


def _on_its_way(root: Path, what: str, at: int) -> None:
    """Die before the `at`th call on this way that changes a folder."""
    calls = 0
    begun = what in ("claim", "torn")

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal calls
        writing = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if begun and (event in CHANGING_CALLS or writing):
            calls += 1
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)

    def written_to(path: Path) -> None:
        if what == "torn" and "torn" not in path.read_text():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "ab") as file:
                file.write(b"torn\n")

    stepper = Stepper(root, unreadable=written_to)
    sys.addaudithook(count)
    (claim, *_) = [one for one in stepper.look(60) if isinstance(one, Claim)]
    begun = True
    if what == "accept":
        stepper.hot.accept(claim, "cut")
    elif what == "duplicate":
        stepper.hot.duplicate(claim, "cut")
    elif what == "reject":
        stepper.hot.reject(claim, [Fault.of(SubmissionInvalid("no"))])
    elif what == "back":
        stepper.hot.put_back(claim)
