"""What every test may use: real files by others (required when SCAIL2_REQUIRE_ALL is set), and the command line."""

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="scail2-farm-cache-")  # no test knows what another computed
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # two threads round otherwise than one, and bits made by either are compared
SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared_folder(name: str) -> Path:
    """A folder of real files beside the repository; without it the test is skipped, or fails when all is required."""
    folder = SHARED / name
    if not folder.is_dir():
        reason = f"the folder shared/{name} is not beside the repository"
        if os.environ.get("SCAIL2_REQUIRE_ALL"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def editorial() -> Path:
    """The folder of real timelines."""
    return shared_folder("editorial")


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of real pictures and movies."""
    return shared_folder("media")


@dataclass
class Said:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def codes(self) -> list[str]:
        return [fault["code"] for fault in self.document["faults"]]


@pytest.fixture
def farm(monkeypatch, capsys):
    """Run the command line in this process."""

    def call(*arguments: object) -> Said:
        from scail2_farm.cli import main

        monkeypatch.setattr(sys, "argv", ["scail2-farm", *(str(argument) for argument in arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return Said(code=int(stop.value.code or 0), out=said.out, err=said.err)

    return call
