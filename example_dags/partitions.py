"""Customers become user profiles at Iterable in four partitions, side by side on whatever workers Airflow has.

Each partition is a task of its own, reads its part of the model and remembers for itself; the last task sums up. Needs
two connections: ``warehouse``, any SQL database with the table ``customers``, and ``iterable_default``, of type
``iterable``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_iterable.operators import IterableSyncSummaryOperator, IterableUserSyncOperator
from airflow_provider_iterable.state import TableState

with DAG(
    dag_id="example_iterable_partitions",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # a run brings Iterable up to the model as it is now; runs of the past would find nothing to do
    max_active_runs=1,  # two runs at once would be in each other's way
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},  # a retry sends only what is left
    # For the one run after the number of partitions has changed: trigger it with {"repartition": true}.
    params={"repartition": False},
    doc_md=__doc__,
    tags=["example", "iterable"],
):
    sync = IterableUserSyncOperator.partial(
        task_id="sync_users",
        # A row belongs to a partition by something that never changes, such as its key.
        sql="models/users_by_part.sql",
        sql_conn_id="warehouse",
        primary_key="id",
        email_column="email",
        fields={"firstName": "first_name", "lastName": "last_name", "orderCount": "order_count"},
        # Partitions need a state in tables. Each has entries of its own there.
        state=TableState(),
        on_removed="delete",
        repartition="{{ params.repartition }}",
    ).expand(partition=list(range(4)))

    # One report, and one asset event, for all of them.
    IterableSyncSummaryOperator(task_id="summary", reports=sync.output)
