"""The keywords that operators take, for editors and type checkers; made by ``python -m tests.keywords``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict

from airflow_provider_iterable.mapping import Fields, Nulls
from airflow_provider_iterable.state.store import Store
from airflow_provider_iterable.syncs.identity import Match


class TaskKeywords(TypedDict, total=False):
    """What Airflow's operators take."""

    task_id: str
    owner: str
    email: str | Sequence[str] | None
    email_on_retry: bool
    email_on_failure: bool
    retries: int | None
    retry_delay: timedelta | float
    retry_exponential_backoff: float
    max_retry_delay: timedelta | float | None
    retry_policy: Any
    start_date: datetime | None
    end_date: datetime | None
    depends_on_past: bool
    ignore_first_depends_on_past: bool
    wait_for_past_depends_before_skipping: bool
    wait_for_downstream: bool
    dag: Any
    params: Any
    default_args: dict[str, Any] | None
    priority_weight: int
    weight_rule: Any
    queue: str
    pool: str | None
    pool_slots: int
    sla: timedelta | None
    execution_timeout: timedelta | None
    on_execute_callback: Any
    on_failure_callback: Any
    on_success_callback: Any
    on_retry_callback: Any
    on_skipped_callback: Any
    pre_execute: Any
    post_execute: Any
    trigger_rule: str
    resources: dict[str, Any] | None
    run_as_user: str | None
    map_index_template: str | None
    max_active_tis_per_dag: int | None
    max_active_tis_per_dagrun: int | None
    executor: str | None
    executor_config: dict[str, Any] | None
    do_xcom_push: bool
    multiple_outputs: bool
    inlets: Any | None
    outlets: Any | None
    task_group: Any
    doc: str | None
    doc_md: str | None
    doc_json: str | None
    doc_yaml: str | None
    doc_rst: str | None
    task_display_name: str | None
    logger_name: str | None
    allow_nested_operators: bool
    render_template_as_native_obj: bool | None


class RowKeywords(TaskKeywords, total=False):
    """What syncs take, but for the key of a row."""

    sql_conn_id: str
    sql: str | None
    table: str | None
    parameters: Mapping[str, Any] | Sequence[Any] | None
    hook_params: Mapping[str, Any] | None
    fields: Fields | None
    nulls: Nulls
    timezone: str
    state: Store | None
    sync_id: str | None
    partition: str | int | None
    partitions: Sequence[str | int] | None
    repartition: bool | str
    resync: str
    dry_run: bool | str
    approved_plan: str | None
    allow_empty: bool | str
    max_removed: float | int | str | None
    max_changed: float | int | str | None
    max_rejected: float | int | str
    deadline: datetime | str | None
    deadline_action: str
    canary: float | int | str | None
    canary_max_rejected: float | int | str
    check_types: bool
    batch_size: int
    commit_batches: int | None
    max_in_flight: int | None
    spool_dir: str | None
    iterable_conn_id: str


class ModelKeywords(RowKeywords, total=False):
    """What syncs take whose rows must have a key."""

    primary_key: str | Sequence[str]


class PeopleRowKeywords(RowKeywords, total=False):
    """What syncs of people take, but for the key of a row."""

    email_column: str | None
    user_id_column: str | None
    match_by: Match | None


class PeopleKeywords(PeopleRowKeywords, total=False):
    """What syncs of people take."""

    primary_key: str | Sequence[str]
