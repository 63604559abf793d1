"""Users who turned out to be one person are merged at Iterable, once a night, before any other sync writes.

A merge cannot be taken back: chains, cycles and repeated pairs fail the task before anything is sent. Needs two
connections: ``warehouse``, any SQL database with the table that ``models/merges.sql`` reads, and ``iterable_default``,
of type ``iterable``, which says the project type.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_iterable.operators import IterableMergeOperator
from airflow_provider_iterable.state import TableState

with DAG(
    dag_id="example_iterable_merges",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # a run merges all pairs there are; runs of the past would find nothing to do
    max_active_runs=1,  # two runs at once would not see what the other one does
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},  # a retry does only what is left
    doc_md=__doc__,
    tags=["example", "iterable"],
):
    IterableMergeOperator(
        task_id="merge_users",
        # The model: one row per merge. The file is looked for beside this one.
        sql="models/merges.sql",
        sql_conn_id="warehouse",
        # The key names the merge, not a person: it is merged once ever.
        primary_key="merge_id",
        # Who is gone afterwards, and who stays. User-ID-based projects have source_user_id_column instead.
        source_email_column="old_email",
        destination_email_column="kept_email",
        # The contents of both arrays are kept, but for pets that the one who stays has already.
        array_merge={"pets": "id"},
        # More than these in one night are looked at by somebody first.
        max_merges=500,
        # Needs tables. Those of the other syncs, so that these do not make the sources anew.
        state=TableState(),
    )
