"""What a type checker says of a DAG; checked with everything else, and never run.

Each line with a mistake is marked as one: an error that is not found is an unused mark, which is an error as well.
"""

from __future__ import annotations

from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
    IterableEventOperator,
    IterableListOperator,
    IterablePrivacyOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.state import TableState


def right() -> None:
    """No mistake."""
    IterableUserSyncOperator(
        task_id="users",
        retries=2,
        sql="SELECT 1",
        sql_conn_id="warehouse",
        primary_key="id",
        email_column="email",
        fields={"firstName": "first_name"},
        state=TableState(),
        max_removed="{{ params.most }}",
    )
    IterableListOperator(task_id="list", sql_conn_id="warehouse", table="members", email_column="email")


def mistyped() -> None:
    """A name that is none, one of another operator, and a value of another type."""
    IterableUserSyncOperator(task_id="a", sql_conn_id="w", primary_key="id", emial_column="email")  # type: ignore[call-arg]
    IterableUserSyncOperator(task_id="a", sql_conn_id="w", primarykey="id")  # type: ignore[call-arg]
    IterableUserSyncOperator(task_id="a", sql_conn_id="w", primary_key="id", retires=2)  # type: ignore[call-arg]
    IterableEventOperator(task_id="a", sql_conn_id="w", primary_key="id", max_deletes=2)  # type: ignore[call-arg]
    IterableCatalogOperator(task_id="a", sql_conn_id="w", primary_key="id")  # type: ignore[call-arg]
    IterablePrivacyOperator(task_id="a", sql_conn_id="w", primary_key="id", action="erase")  # type: ignore[arg-type]
    IterableListOperator(task_id="a", sql_conn_id=3)  # type: ignore[arg-type]
