"""`pytest tests/parity --golden DIR` walks any folder of golden files; a line a file says how near the engine came."""

from __future__ import annotations

from pathlib import Path

import pytest
from parity_harness import Comparison

OWN = Path(__file__).parent / "golden"
COMPARISONS = pytest.StashKey[dict[str, list[Comparison]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", type=Path, default=None, metavar="DIR", help="a folder of golden .safetensors files")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[COMPARISONS] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_file" in metafunc.fixturenames:
        folder: Path = metafunc.config.getoption("--golden", default=None) or OWN
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise pytest.UsageError(f"{folder} holds no .safetensors file")
        metafunc.parametrize("golden_file", files, ids=[file.name for file in files])


@pytest.fixture
def comparisons(request: pytest.FixtureRequest) -> dict[str, list[Comparison]]:
    """Where a test leaves its comparisons for the report at the end."""
    return request.config.stash[COMPARISONS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.stash[COMPARISONS]:
        return
    terminalreporter.section("parity: the worst difference of each file")
    for name, comparisons in config.stash[COMPARISONS].items():
        worst = max(comparisons, key=lambda comparison: comparison.share)
        terminalreporter.line(
            f"{name:<34} {worst.difference:.2e} of {worst.tolerance:.0e} in {worst.tensor} ({len(comparisons)} tensors)"
        )
