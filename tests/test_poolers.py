from __future__ import annotations

import shutil

import pytest

from tests.poolers import experiment
from tests.services import pooler, postgres_uri


@pytest.mark.slow
def test_behind_a_pooler_every_accepted_member_is_remembered() -> None:
    """Whatever connection each transaction gets; and the audit is written to its end."""
    outcome = experiment(rounds=2, rows=2_000, batch_size=50)
    assert outcome.failures == []
    assert outcome.remembered == outcome.accepted == 8_000


@pytest.mark.parametrize(("required", "outcome"), [("0", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_without_a_pooler_nothing_is_said_to_be_tested(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[BaseException]
) -> None:
    """The test is skipped, or fails where services are required."""
    postgres_uri()
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    monkeypatch.setenv("ITERABLE_TEST_REQUIRE_SERVICES", required)
    with pytest.raises(outcome, match="pgbouncer is not installed"), pooler():
        pass
