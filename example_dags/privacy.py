"""People who asked to be forgotten are forgotten at Iterable, once an hour, the earliest requests first.

Iterable takes 1000 of them in 24 hours; more of them wait for a later run. Needs two connections: ``warehouse``, any
SQL database with the table that ``models/forget_requests.sql`` reads, and ``iterable_default``, of type ``iterable``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_iterable.operators import IterablePrivacyOperator
from airflow_provider_iterable.state import TableState

with DAG(
    dag_id="example_iterable_privacy",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # a run acts on all requests there are; runs of the past would find nothing to do
    max_active_runs=1,  # two runs at once would not see what the other one does
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},  # a retry does only what is left
    doc_md=__doc__,
    tags=["example", "iterable"],
):
    IterablePrivacyOperator(
        task_id="forget_people",
        # The other two are "unforget", which takes it back, and "delete", which lets people come again.
        action="forget",
        # The model: one row per request. The file is looked for beside this one.
        sql="models/forget_requests.sql",
        sql_conn_id="warehouse",
        # The key names the request, not the person: who asks again later is forgotten again.
        primary_key="request_id",
        email_column="email",
        requested_at_column="requested_at",
        # Needs tables. Those of the other syncs, so that these leave forgotten people out from now on.
        state=TableState(),
    )
