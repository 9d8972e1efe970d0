"""What the tests of faults measured, for whoever asked for it (`make faults`)."""

import json
import os
from pathlib import Path


def record(name: str, **figures: object) -> None:
    """Hand in the figures of one test; without anybody asking, nothing is written."""
    path = os.environ.get("SCAIL2_FIGURES")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({name: figures}) + "\n")
