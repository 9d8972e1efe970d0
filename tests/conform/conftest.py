"""What the conform tests share: one returned cut."""

import pytest
from returned import Returned, render


@pytest.fixture(scope="session")
def returned(tmp_path_factory) -> Returned:
    """A cut of two tracks and a gap, rendered once."""
    return render(tmp_path_factory.mktemp("conform"))
