"""What the tests of faults share: small weights."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """A small snapshot in the published layout."""
    from scail2_farm.engine import write_tiny_snapshot

    folder = tmp_path_factory.mktemp("weights") / "tiny"
    write_tiny_snapshot(folder, seed=5)
    return folder
