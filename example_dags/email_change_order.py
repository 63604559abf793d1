"""Several syncs about the same people, in the order in which Iterable needs them.

An address changes before anything is written under the new one, or Iterable would make a second profile for it. A cart
goes before the purchase that empties it. A list takes its members after their profiles are there.

Needs two connections: ``warehouse``, any SQL database with the tables named below, and ``iterable_default``, of type
``iterable`` and with its project type set.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_iterable.operators import (
    IterableEventOperator,
    IterableListOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.state import TableState

with DAG(
    dag_id="example_iterable_email_change_order",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
        "sql_conn_id": "warehouse",  # the same for every sync
        "state": TableState(),
    },
    doc_md=__doc__,
    tags=["example", "iterable"],
):
    # One row per change, not per person: matched by email, each key fires once ever.
    change_emails = IterableUserSyncOperator(
        task_id="change_emails",
        mode="change_email",
        table="email_changes",
        primary_key="change_id",
        email_column="old_email",
        new_email_column="new_email",
    )

    @task(max_active_tis_per_dag=1)
    def let_it_settle(seconds: float) -> None:
        """Wait: Iterable answers before it is done, and asks for a minute before a call that depends on another."""
        time.sleep(seconds)

    sync_profiles = IterableUserSyncOperator(
        task_id="sync_profiles",
        sql="SELECT id, email, first_name FROM customers",
        primary_key="id",
        email_column="email",
        fields={"firstName": "first_name"},
    )
    # One row per state of a cart: a cart, too, fires once for each key.
    sync_carts = IterableEventOperator(
        task_id="sync_carts",
        event_type="cart",
        sql="SELECT cart_version, email, items FROM carts JOIN customers ON customers.id = carts.customer_id",
        primary_key="cart_version",
        email_column="email",
        items_column="items",
    )
    sync_purchases = IterableEventOperator(
        task_id="sync_purchases",
        event_type="purchase",
        sql="SELECT order_id, email, items, total FROM orders JOIN customers ON customers.id = orders.customer_id",
        primary_key="order_id",
        email_column="email",
        items_column="items",
        total_column="total",
    )
    sync_buyers = IterableListOperator(
        task_id="sync_buyers",
        list_name="Buyers",
        sql="SELECT DISTINCT email FROM orders JOIN customers ON customers.id = orders.customer_id",
        email_column="email",
    )

    change_emails >> let_it_settle(60) >> sync_profiles >> sync_carts >> sync_purchases
    sync_profiles >> sync_buyers
