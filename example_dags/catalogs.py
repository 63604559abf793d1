"""Products in a warehouse become items of a catalog at Iterable, once an hour, and only what changed is sent.

Needs two connections: ``warehouse``, any SQL database with the table that ``models/catalogs.sql`` reads, and
``iterable_default``, of type ``iterable``. The catalog is created by the first run.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_iterable.mapping import Json
from airflow_provider_iterable.operators import IterableCatalogOperator
from airflow_provider_iterable.state import TableState

with DAG(
    dag_id="example_iterable_catalogs",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # a run brings Iterable up to the model as it is now; runs of the past would find nothing to do
    max_active_runs=1,  # two runs at once would not see what the other one sends
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},  # a retry sends only what is left
    doc_md=__doc__,
    tags=["example", "iterable"],
):
    IterableCatalogOperator(
        task_id="sync_products",
        # The model: one row per product. The file is looked for beside this one.
        sql="models/catalogs.sql",
        sql_conn_id="warehouse",
        primary_key="id",
        # Which item of which catalog a row is about, and which of its fields come from where.
        catalog_name="products",
        item_id_column="item_id",
        fields={
            "name": "name",
            "price": "price",
            "onSaleSince": "on_sale_since",
            "attributes": Json("attributes"),  # JSON text becomes an object
        },
        # Only fields that have a type can be searched by; Iterable does not guess types, and never changes them.
        field_types={"name": "string", "price": "double", "onSaleSince": "date", "attributes": "object"},
        # What Iterable accepted is remembered in two tables beside the model.
        state=TableState(),
        # A product that is no longer on sale leaves the catalog.
        on_removed="delete",
    )
