"""Customers in a warehouse become user profiles at Iterable, once an hour, and only what changed is sent.

Needs two connections: ``warehouse``, any SQL database with the tables that ``models/users.sql`` reads, and
``iterable_default``, of type ``iterable``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_iterable.mapping import Constant, Json
from airflow_provider_iterable.operators import IterableUserSyncOperator
from airflow_provider_iterable.state import TableState

with DAG(
    dag_id="example_iterable_users",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # a run brings Iterable up to the model as it is now; runs of the past would find nothing to do
    max_active_runs=1,  # two runs at once would not see what the other one sends
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},  # a retry sends only what is left
    doc_md=__doc__,
    tags=["example", "iterable"],
):
    IterableUserSyncOperator(
        task_id="sync_users",
        # The model: one row per user. The file is looked for beside this one.
        sql="models/users.sql",
        sql_conn_id="warehouse",
        primary_key="id",
        # Which profile a row is about, and which of its fields come from where.
        email_column="email",
        fields={
            "firstName": "first_name",
            "lastName": "last_name",
            "birthDate": "birth_date",
            "signedUpAt": "signed_up_at",
            "lastOrderAt": "last_order_at",
            "orderCount": "order_count",
            "lifetimeValue": "lifetime_value",
            "address.street": "street",  # dots nest: {"address": {"street": ...}}
            "address.city": "city",
            "address.postalCode": "postal_code",
            "address.country": "country",
            "pets": Json("pets"),  # JSON text becomes an array of objects
            "source": Constant("warehouse"),  # the same in every profile
        },
        # What Iterable accepted is remembered in two tables beside the model.
        state=TableState(),
        # A customer who leaves the model leaves Iterable.
        on_removed="delete",
    )
