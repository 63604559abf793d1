"""Loyal customers in a warehouse become the members of a list at Iterable, once an hour: who is new among them enters,
and who is not among them any more leaves.

Needs two connections: ``warehouse``, any SQL database with the table that ``models/loyal_customers.sql`` reads, and
``iterable_default``, of type ``iterable``. The list is created by the first run.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_iterable.operators import IterableListOperator
from airflow_provider_iterable.state import TableState

with DAG(
    dag_id="example_iterable_lists",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # a run brings the list up to the model as it is now; runs of the past would find nothing to do
    max_active_runs=1,  # two runs at once would not see what the other one sends
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},  # a retry sends only what is left
    doc_md=__doc__,
    tags=["example", "iterable"],
):
    IterableListOperator(
        task_id="sync_loyal_customers",
        # The model: one row per member. The file is looked for beside this one, and the list gets its name,
        # loyal_customers; list_name gives it another one, and list_id takes a list that exists.
        sql="models/loyal_customers.sql",
        sql_conn_id="warehouse",
        # Who is a member. The primary key only names rows in the log.
        email_column="email",
        primary_key="id",
        # Profile fields that ride along; without this, none do.
        fields={"orderCount": "order_count"},
        # Who was subscribed is remembered in two tables beside the model.
        state=TableState(),
    )
