"""What every test may use: real files by others, required when SCAIL2_REQUIRE_ALL is set."""

import os
from pathlib import Path

import pytest

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
