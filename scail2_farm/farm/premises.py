"""What every room of a running farm works with: its places, ledger, clock, settings, and the children it may start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from scail2_farm.errors import FarmError
from scail2_farm.farm.dispatch import Child, Heard, Watch
from scail2_farm.farm.host import Clock
from scail2_farm.farm.hotfolder import Claim, Refused, Waiting
from scail2_farm.farm.ledger import Ledger
from scail2_farm.farm.outbox import Sent, Unsent
from scail2_farm.farm.places import Places
from scail2_farm.settings import Settings

MOST_LOSSES = 25
"""Deaths that were nobody's fault, as it seemed; a task that loses its worker so often is at fault itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a look at the inbox came to, or why it could not be looked at."""

    found: tuple[Claim | Refused | Waiting, ...] = ()
    fault: FarmError | None = None


Heardable = Heard | Sent | Unsent | Looked


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """A running farm, as its rooms see it; only the daemon's main thread touches the ledger."""

    places: Places
    settings: Settings
    weights: Path
    ledger: Ledger
    clock: Clock
    boot: str
    command: Sequence[str]
    """What starts a child process."""
    events: SimpleQueue[Heardable]
    """What children, hooks and the inbox came to, in the order it was heard."""

    def child(self, slot: str) -> Child:
        """A child of this farm, not started yet."""
        return Child(slot, locks=self.places.locks, command=self.command, events=self.events, clock=self.clock)

    def watch(self, *, silent: bool = False) -> Watch:
        """What tells a child that hangs: by the time its task takes, and by its silence unless the task is `silent`."""
        wall_s = self.settings.render_hours * 3600
        return Watch(self.clock, wall_s=wall_s, quiet_s=wall_s if silent else self.settings.quiet_minutes * 60)

    @property
    def kept_free(self) -> int:
        """Bytes that stay free on every disk."""
        return int(self.settings.min_free_gb * 1e9)
