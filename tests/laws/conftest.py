"""How much the laws look for, and how little they log."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings

if os.environ.get("ITERABLE_TEST_MUTANT"):
    # A mutant is to be found, not explained.
    settings.register_profile("mutant", settings(), phases=[Phase.explicit, Phase.generate], database=None)
    settings.load_profile("mutant")


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """Log warnings only while the laws run: a line per example helps nobody."""
    logger = logging.getLogger("airflow_provider_iterable")
    before = logger.level
    logger.setLevel(logging.WARNING)
    yield
    logger.setLevel(before)
