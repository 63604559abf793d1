"""What operators know of when a retry makes sense, and whose settings count."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, BaseOperator

from airflow_provider_iterable import retry
from airflow_provider_iterable.operators import IterableListOperator, IterableUserSyncOperator
from airflow_provider_iterable.retry import IterableRetryPolicy
from airflow_provider_iterable.state import TableState
from tests.operators.conftest import World
from tests.operators.test_lease import FAR

COMMON: dict[str, Any] = {"task_id": "sync", "sql_conn_id": "warehouse", "primary_key": "id", "email_column": "email"}
LIMITED = {"kind": "429", "path": "/api/users/bulkUpdate", "times": -1, "seconds": 5400}


def asked(world: World, **parameters: Any) -> Any:
    """Return what the policy of an operator decides about the failure of its run."""
    with pytest.raises(AirflowException) as failed:
        world.run(**parameters)
    policy: Any = world.operator.retry_policy  # type: ignore[union-attr]  # there is one by now
    return policy.evaluate(failed.value, 1, 3, {"task": world.operator})


if retry.SUPPORTED:

    def test_a_retry_waits_as_long_as_iterable_asks(world: World) -> None:
        """And no longer counts on the task's delay, in which it would be refused again."""
        world.people(1, 2)
        world.sandbox.faults(LIMITED)
        decision = asked(world, retry_delay=timedelta(seconds=10))
        assert decision.action.value == "retry"
        assert 5300 < decision.retry_delay.total_seconds() <= 5400
        assert asked(world, retry_delay=timedelta(hours=2)).action.value == "default"

    def test_a_retry_waits_for_the_end_of_the_lease(world: World) -> None:
        """Which is known to the second."""
        world.people(1)
        world.run()
        with closing(sqlite3.connect(world.warehouse)) as connection:
            now = connection.execute("SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)").fetchone()[0]
            connection.execute(
                "INSERT INTO iterable_sync_lease VALUES ('adhoc_airflow.sync_users', 'other', '', 1, 'another', ?)",
                (now + 240_000,),
            )
            connection.commit()
        decision = asked(world, retry_delay=timedelta(seconds=10))
        assert decision.action.value == "retry"
        assert 100 < decision.retry_delay.total_seconds() <= 240
        assert asked(world).action.value == "default", "five minutes are longer"
        assert now < FAR

    def test_other_failures_go_by_the_tasks_settings(world: World) -> None:
        """Nobody has told a time."""
        world.people(1)
        world.sandbox.faults({"kind": "5xx_html", "path": "/api/users/bulkUpdate", "times": -1})
        assert asked(world, retry_delay=timedelta(seconds=10)).action.value == "default"

    def test_an_operator_has_a_policy_unless_it_is_given_another() -> None:
        """By itself, by the DAG's ``default_args``, or mapped."""
        from airflow.sdk import ExceptionRetryPolicy

        own, of_dag = ExceptionRetryPolicy(rules=[]), ExceptionRetryPolicy(rules=[])
        with DAG("dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
            plain = IterableListOperator(**COMMON, table="users", retries=4)
            given = IterableUserSyncOperator(**{**COMMON, "task_id": "b"}, table="users", retry_policy=own)
        assert isinstance(plain.retry_policy, IterableRetryPolicy)
        assert (plain.retries, plain.has_retry_policy, given.retry_policy) == (4, True, own)
        with DAG(
            "other", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), default_args={"retry_policy": of_dag}
        ):
            inherited = IterableListOperator(**COMMON, table="users")
            mapped = IterableListOperator.partial(
                **{**COMMON, "task_id": "m"}, table="users", state=TableState()
            ).expand(partition=[1])
        assert inherited.retry_policy is of_dag
        assert mapped.retry_policy is of_dag

    def test_a_mapped_task_has_one_as_well(dag: DAG) -> None:
        """Its instances are made where they run."""
        mapped = IterableListOperator.partial(**COMMON, table="users", state=TableState()).expand(partition=[1])
        made = mapped.unmap({"partition": 1, "partitions": [1]})
        assert isinstance(made.retry_policy, IterableRetryPolicy)


@pytest.fixture
def dag() -> Any:
    """Give tasks a DAG."""
    with DAG("dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        yield dag


@pytest.mark.usefixtures("dag")
def test_an_airflow_without_policies_lets_it_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """One DAG file is good for every version: the keyword that tasks do not take there goes no further."""
    given: list[set[str]] = []
    constructor = BaseOperator.__init__

    def init(self: Any, **kwargs: Any) -> None:
        given.append(set(kwargs))
        constructor(self, **kwargs)

    monkeypatch.setattr(retry, "SUPPORTED", False)
    mapped = IterableListOperator.partial(
        **{**COMMON, "task_id": "m"}, table="users", state=TableState(), retry_policy=IterableRetryPolicy()
    ).expand(partition=[1])
    assert not isinstance(mapped.partial_kwargs.get("retry_policy"), IterableRetryPolicy)
    monkeypatch.setattr(BaseOperator, "__init__", init)
    IterableListOperator(**COMMON, table="users", retry_policy=IterableRetryPolicy())
    assert given
    assert all("retry_policy" not in names for names in given)
