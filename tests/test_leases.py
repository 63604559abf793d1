from __future__ import annotations

import pytest

from tests.leases import experiment


@pytest.mark.slow
def test_one_run_at_a_time() -> None:
    """Of two that start at once one runs; who was killed or stopped is taken over, and does no harm when it is back."""
    assert experiment(rounds=2, losses=1).failures == []
