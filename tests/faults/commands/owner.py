"""A farm in little: gives one task to a real worker and waits; whoever tests it ends it, by SIGKILL.

owner.py LOCKS TASK.json LOG: prints the worker's process, then everything it says.
"""

import sys
from pathlib import Path
from queue import SimpleQueue

from pydantic import TypeAdapter

from scail2_farm.documents import Task
from scail2_farm.farm.dispatch import Child, Gone, Heard
from scail2_farm.farm.host import SystemClock

locks, task, log = (Path(name) for name in sys.argv[1:])
events: SimpleQueue[Heard] = SimpleQueue()
command = [sys.executable, "-m", "scail2_farm", "worker"]
child = Child("render-1", locks=locks, command=command, events=events, clock=SystemClock())
child.start(log)
child.give(TypeAdapter(Task).validate_json(task.read_bytes()), log)
sys.stdout.write(f"{child.pid}\n")
sys.stdout.flush()
while child.alive:
    heard = events.get()
    child.hear(heard)
    sys.stdout.write(f"{heard.said}\n" if isinstance(heard.said, Gone) else f"{heard.said!r}\n")
    sys.stdout.flush()
