"""What the end-to-end tests share: small weights, submissions, and the command line in this process."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from submissions import Cut


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """A small snapshot in the published layout."""
    from scail2_farm.engine import write_tiny_snapshot

    folder = tmp_path_factory.mktemp("weights") / "tiny"
    write_tiny_snapshot(folder, seed=5)
    return folder


@pytest.fixture
def cut(tmp_path, weights) -> Cut:
    """An empty submission."""
    return Cut(tmp_path / "show", weights)


@pytest.fixture
def one_shot(cut) -> Cut:
    """One shot of 14 frames with handles: two segments, one character."""
    cut.character("ada", "blue", (220, 30, 30))
    cut.plate("SH010", 16)
    cut.matte("SH010", "ada", 16, (20, 10, 20, 30))
    cut.clip("SH010", first=3, count=10, available=16)
    cut.manifest["cast"] = [{"when": {"clip": "SH*"}, "characters": [{"id": "ada"}]}]
    return cut


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
