"""What customers chose in a preference centre becomes their subscriptions at Iterable, once an hour.

Needs two connections: ``warehouse``, any SQL database with the table that ``models/preferences.sql`` reads, and
``iterable_default``, of type ``iterable``, for a project in which Iterable has enabled the Subscriptions API.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_iterable.operators import IterableSubscriptionOperator
from airflow_provider_iterable.state import TableState

with DAG(
    dag_id="example_iterable_subscriptions",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # a run brings subscriptions up to the model as it is now; runs of the past would find nothing to do
    max_active_runs=1,  # two runs at once would not see what the other one sends
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},  # a retry sends only what is left
    params={"max_subscribed": 1000},
    doc_md=__doc__,
    tags=["example", "iterable"],
):
    IterableSubscriptionOperator(
        task_id="sync_subscriptions",
        # The model: one row per person and message type. The file is looked for beside this one.
        sql="models/preferences.sql",
        sql_conn_id="warehouse",
        # Who chose. The primary key only names rows in the log.
        email_column="email",
        primary_key=["customer_id", "message_type_id"],
        # What they chose; subscription_id instead if all rows are about one message type.
        subscription_type="message_type",
        subscription_id_column="message_type_id",
        subscribed_column="choice",
        subscribed_words={"in": True, "out": False},
        # Nobody is subscribed without consent that lies in the past.
        consent_at_column="consented_at",
        # Nothing is sent if more rows than this would subscribe; a run may be started by hand with another number.
        max_subscribed="{{ params.max_subscribed }}",
        # What was sent is remembered in two tables beside the model. A row that leaves changes nothing at Iterable.
        state=TableState(),
    )
