"""What the end-to-end tests share: small weights and submissions."""

from pathlib import Path

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
