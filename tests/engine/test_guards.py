from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_iterable.engine.guards import Guards, guard
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.vocabulary import Row
from airflow_provider_iterable.errors import GuardTripped
from tests.engine.test_plan import planned
from tests.fakes import a_call, remembering


def plan_of(removed: int, kept: int) -> tuple[Plan, int]:
    """Return a plan that removes some rows and keeps some, and how many are remembered."""
    everybody: list[Row] = [(str(n), f"{n}@x.io", 1) for n in range(removed + kept)]
    return planned(everybody[removed:], remembering(*everybody)), removed + kept


def tripped(plan: Plan, guards: Guards, remembered: int) -> str:
    """Return why a guard trips; empty when none does."""
    try:
        guard(plan, guards, remembered)
    except GuardTripped as error:
        return str(error)
    return ""


def test_an_empty_model_is_not_believed() -> None:
    """No rows at all are taken for a mistake unless allowed."""
    plan, remembered = plan_of(3, 0)
    assert "allow_empty=True" in tripped(plan, Guards(), remembered)
    assert "" == tripped(plan, Guards(allow_empty=True), remembered)


def test_a_model_of_invalid_rows_is_not_empty() -> None:
    """Rows that cannot be sent are rows."""
    assert "" == tripped(planned([("1", None, 1)]), Guards(), 0)


@pytest.mark.parametrize(
    ("limit", "removed", "kept", "trips"),
    [
        (0.3, 19, 0, False),
        (0.3, 20, 20, True),
        (0.5, 20, 20, False),
        (0.5, 21, 20, True),
        (20, 20, 5, False),
        (20, 21, 500, True),
        (0, 19, 5, False),
        (0, 20, 5, True),
        (1.0, 25, 5, False),
        (None, 25, 5, False),
    ],
)
def test_max_removed_holds_from_twenty_removals(
    limit: float | int | None, removed: int, kept: int, trips: bool
) -> None:
    """A float is a share of what is remembered, an int a number of rows, None no limit."""
    plan, remembered = plan_of(removed, kept)
    message = tripped(plan, Guards(allow_empty=True, max_removed=limit), remembered)
    assert trips is ("max_removed" in message)


def test_max_deletes_counts_calls() -> None:
    """Deletions count from the first on; removals that make no call do not."""
    plan, remembered = plan_of(3, 5)
    assert "max_deletes allows 2" in tripped(plan, Guards(max_deletes=2), remembered)
    assert "" == tripped(plan, Guards(max_deletes=3), remembered)
    borne = planned([("2", "a@x.io", 1)], remembering(("1", "a@x.io", 1)))
    assert "" == tripped(borne, Guards(max_deletes=0), 1)


def test_max_subscribed_counts_calls_that_subscribe() -> None:
    """Rows that unsubscribe, and removals, are none of them; None allows any number."""
    plan, remembered = plan_of(2, 0)
    plan.calls.update({replace(a_call(), subscribes=True): 3, a_call(): 5})
    assert plan.subscribed == 3
    allowed = Guards(allow_empty=True, max_removed=None)
    assert tripped(plan, replace(allowed, max_subscribed=3), remembered) == ""
    assert "max_subscribed allows 2" in tripped(plan, replace(allowed, max_subscribed=2), remembered)
    assert tripped(plan, allowed, remembered) == ""
