from __future__ import annotations

import os

import pytest

from tests.kill import Where, experiment


@pytest.mark.slow
@pytest.mark.parametrize(("where", "kills"), [("postgres", 3), ("sqlite", 1), ("object", 3)])
def test_a_killed_sync_goes_on_where_it_stopped(where: Where, kills: int) -> None:
    """Killed again and again, it ends as the model says, and only what was in flight was sent twice."""
    seed = int(os.environ.get("PYTHONHASHSEED", "0").replace("random", "0"))
    outcome = experiment(rows=4000, kills=kills, batch_size=200, where=where, seed=seed)
    assert outcome.failures() == []
    assert [kill.kind for kill in outcome.kills].count("random") == kills + (where == "object")
    assert any(kill.in_flight for kill in outcome.kills), "something was in flight"
