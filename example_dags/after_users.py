"""Loyal customers become the members of a list at Iterable whenever profiles have been written there, by whichever DAG.

Scheduled on an asset: every user sync that has run, for this project's host, updates it. ``example_iterable_users`` is
one. Needs two connections: ``warehouse``, any SQL database with the table that ``models/loyal_customers.sql`` reads,
and ``iterable_default``, of type ``iterable``, in the data centre ``us``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_iterable.assets import create_asset
from airflow_provider_iterable.operators import IterableListOperator
from airflow_provider_iterable.state import TableState

with DAG(
    dag_id="example_iterable_after_users",
    # Profiles in the EU are create_asset("users", host="api.eu.iterable.com").
    schedule=[create_asset("users")],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # several user syncs may end while a run is under way: the next one waits for it
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},  # a retry sends only what is left
    doc_md=__doc__,
    tags=["example", "iterable"],
):
    IterableListOperator(
        task_id="sync_loyal_customers",
        sql="models/loyal_customers.sql",
        sql_conn_id="warehouse",
        email_column="email",
        list_name="Loyal customers",
        # Profiles are written by the user sync; a customer who is not there yet enters the list after it.
        update_existing_users_only=True,
        state=TableState(),
    )
