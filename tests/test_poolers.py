from __future__ import annotations

import pytest

from tests.poolers import experiment


@pytest.mark.slow
def test_behind_a_pooler_every_accepted_member_is_remembered() -> None:
    """Whatever connection each transaction gets; and the audit is written to its end."""
    outcome = experiment(rounds=2, rows=2_000, batch_size=50)
    assert outcome.failures == []
    assert outcome.remembered == outcome.accepted == 8_000
