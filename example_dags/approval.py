"""Nothing goes to Iterable before a person has seen the plan and approved it in the Airflow UI.

One task makes a plan, which sends nothing. If it has something to do, the next one shows it and waits for an answer.
The last one sends what was approved, and only that: if rows, mapping or project are others by then, it fails and names
what differs; clear ``plan`` with all that follows it, and the new plan is shown. Whoever rejects the plan, or does not
answer in time, sends nothing.

Needs Airflow 3.1, and two connections: ``warehouse``, any SQL database with the tables that ``models/users.sql`` reads,
and ``iterable_default``, of type ``iterable``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowException, task

from airflow_provider_iterable.operators import IterableUserSyncOperator
from airflow_provider_iterable.state import TableState

try:
    from airflow.providers.standard.operators.hitl import ApprovalOperator
except (ImportError, AirflowException):  # Airflow before 3.1 asks nobody, and does not get this DAG
    ApprovalOperator = None  # type: ignore[assignment, misc]

SYNC: dict[str, Any] = {
    # Both tasks are one sync: they have the same name, remember in the same place, and take the same parameters.
    "sync_id": "approved_users",
    "state": TableState(),
    "sql": "models/users.sql",
    "sql_conn_id": "warehouse",
    "primary_key": "id",
    "email_column": "email",
    "fields": {
        "firstName": "first_name",
        "lastName": "last_name",
        "birthDate": "birth_date",
        "orderCount": "order_count",
    },
    "on_removed": "delete",
}

if ApprovalOperator is not None:
    with DAG(
        dag_id="example_iterable_approval",
        schedule="@daily",
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,  # while a plan waits for its answer, none is made that it would make void
        default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
        doc_md=__doc__,
        tags=["example", "iterable"],
    ):
        plan = IterableUserSyncOperator(task_id="plan", dry_run=True, **SYNC)

        @task.short_circuit
        def has_something_to_do(report: Any) -> bool:
            """Ask nobody about a plan that does nothing."""
            return bool(report["plan"]["operations"])

        approve = ApprovalOperator(
            task_id="approve",
            subject="Users to Iterable: {{ ti.xcom_pull(task_ids='plan')['plan']['summary'] }}",
            body="{{ ti.xcom_pull(task_ids='plan')['plan_text'] }}",  # Markdown
            defaults=["Reject"],  # which is what silence means
            response_timeout=timedelta(hours=12),
        )
        apply = IterableUserSyncOperator(
            task_id="apply",
            approved_plan="{{ ti.xcom_pull(task_ids='plan')['plan_hash'] }}",
            **SYNC,
        )
        has_something_to_do(plan.output) >> approve >> apply
