from __future__ import annotations

import os

import pytest

from tests.kill import Where, experiment


@pytest.mark.slow
@pytest.mark.parametrize("where", ["postgres", "sqlite"])
def test_a_killed_sync_goes_on_where_it_stopped(where: Where) -> None:
    """Killed five times, it ends with every profile as the model says, and only what was in flight was sent twice."""
    seed = int(os.environ.get("PYTHONHASHSEED", "0").replace("random", "0"))
    outcome = experiment(rows=4000, kills=3, batch_size=200, where=where, seed=seed)
    assert outcome.failures() == []
    assert [kill.kind for kill in outcome.kills].count("random") == 3
    assert any(kill.in_flight for kill in outcome.kills), "something was in flight"
