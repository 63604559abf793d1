"""Questions to Iterable, in tasks of a DAG's own: whether a project is what a sync expects, before the sync runs, and
what became of a list afterwards.

Needs the connection ``iterable_default``, of type ``iterable``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowFailException, task

from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.retry import IterableRetryPolicy

with DAG(
    dag_id="example_iterable_questions",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    # The policy is asked on Airflow 3.3 and later: a wrong key fails at once, and a retry waits as long as Iterable
    # wants. In default_args it does no harm before.
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1), "retry_policy": IterableRetryPolicy()},
    params={"list": "loyal_customers", "expected": {"orderCount": "long"}},
    doc_md=__doc__,
    tags=["example", "iterable"],
):

    @task
    def check_fields(params: dict[str, Any] | None = None) -> None:
        """Fail where a profile field has another type than expected: Iterable never changes one."""
        types = IterableHook().field_types()
        wrong = {
            name: types[name]
            for name, expected in (params or {})["expected"].items()
            if types.get(name, expected) != expected
        }
        if wrong:
            raise AirflowFailException(f"Fields with other types than expected: {wrong}.")

    @task
    def count_members(params: dict[str, Any] | None = None) -> int:
        """Return how many members a list has; 0 where there is no such list."""
        hook = IterableHook()
        number = hook.list_id((params or {})["list"])
        return 0 if number is None else hook.list_size(number)

    @task
    def describe_project() -> dict[str, int]:
        """Return what there is; ``run`` makes any request, at the pace that operators share."""
        hook = IterableHook()
        forgotten = hook.run("GET", "/api/users/forgotten")
        return {
            "lists": len(hook.lists()),
            "catalogs": len(hook.catalogs()),
            "channels": len(hook.channels()),
            "forgotten": len(forgotten["hashedEmails"]),
        }

    check_fields() >> [count_members(), describe_project()]
