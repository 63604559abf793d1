"""How much the laws look for, and how little they log."""

from __future__ import annotations

import logging
import os

from hypothesis import Phase, settings

# A line per example helps nobody.
logging.getLogger("airflow_provider_iterable").setLevel(logging.WARNING)

if os.environ.get("ITERABLE_TEST_MUTANT"):
    # A mutant is to be found, not explained.
    settings.register_profile("mutant", settings(), phases=[Phase.explicit, Phase.generate], database=None)
    settings.load_profile("mutant")
