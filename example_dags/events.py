"""What customers did becomes events at Iterable: visits as custom events, carts and orders as carts and purchases.

Needs two connections: ``warehouse``, any SQL database with the tables that the models read, and
``iterable_default``, of type ``iterable``. A row fires once, when its key first appears. In an email-based project
Iterable takes custom events of known users only, so let ``example_iterable_users`` run before.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_iterable.operators import IterableEventOperator
from airflow_provider_iterable.state import TableState

with DAG(
    dag_id="example_iterable_events",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # a run sends what is new; runs of the past would find nothing to do
    max_active_runs=1,  # two runs at once would not see what the other one sends
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},  # a retry sends only what is left
    doc_md=__doc__,
    tags=["example", "iterable"],
):
    IterableEventOperator(
        task_id="track_visits",
        event_type="custom",
        sql="models/visits.sql",
        sql_conn_id="warehouse",
        primary_key="id",
        email_column="email",
        event_name_column="kind",  # or event_name="Visited", the same for all rows
        timestamp_column="happened_at",
        fields={"page": "page"},
        # What Iterable accepted is remembered beside the model. The event IDs are made from sync and key, so that
        # nothing is counted twice, whatever happens.
        state=TableState(),
    )

    carts = IterableEventOperator(
        task_id="update_carts",
        event_type="cart",
        sql="models/carts.sql",
        sql_conn_id="warehouse",
        # A cart fires when its key first appears. With the time of its last change in the key, each change fires.
        primary_key=["customer_id", "changed_at"],
        email_column="email",
        items_column="items",
        state=TableState(),  # carts cannot do without
    )

    purchases = IterableEventOperator(
        task_id="track_purchases",
        event_type="purchase",
        sql="models/orders.sql",
        sql_conn_id="warehouse",
        primary_key="id",
        email_column="email",
        event_id_column="order_number",  # an order that changes is overwritten at Iterable
        timestamp_column="ordered_at",
        items_column="items",
        total_column="total",
        fields={"coupon": "coupon"},
        user_fields={"lastCoupon": "coupon"},  # profile fields that ride along
        state=TableState(),
    )

    carts >> purchases  # a purchase empties the user's cart
