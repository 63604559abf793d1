from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes import close_spools


@pytest.fixture(autouse=True)
def closed_spools() -> Iterator[None]:
    """Close the spools that a test opened."""
    yield
    close_spools()
