from __future__ import annotations

import pytest

from tests.stops import KINDS, experiment


@pytest.mark.slow
def test_a_stopped_task_ends_in_time_and_accounts_for_every_row() -> None:
    """By SIGTERM and by its timeout, under answers of 30 s; what was answered is remembered, however many batches are
    committed together, what is left is in doubt, and one clean run mends it."""
    stops, failures = experiment(rounds=len(KINDS), rows=400)
    assert [stop.kind for stop in stops] == [kind for kind, _ in KINDS]
    assert [failure for failure in failures if " ended after " not in failure] == []
    # Whether five seconds are kept is for `python -m tests.stops` on a machine at rest: an answer takes thirty.
    assert all(stop.seconds < 15 for stop in stops)
    assert all(stop.exit_seconds < 25 for stop in stops)
