"""Explains a row of an operator whose parameters are rendered: the run it would be, opened for reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.errors import IterableSyncError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.masking import masked
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.operators.parameters import check_spool_dir, checked_resync
from airflow_provider_iterable.operators.partitions import name_of
from airflow_provider_iterable.runs.explain import Question, explain
from airflow_provider_iterable.runs.explained import Explanation, sentence
from airflow_provider_iterable.state.xcom import latest

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

PLANS_ONLY = "dry_run=True: the run of this task plans and sends nothing; this is what it would do without it."
APPROVAL = "The run sends nothing unless approved_plan is the hash of its plan."


def explain_row(
    operator: IterableModelOperator,
    context: Context,
    key: str,
    *,
    types: bool = True,
    pull: Callable[[Any], Any] | None = None,
) -> Explanation:
    """Say what the operator's next run would do with one row, and why.

    It takes no lease, writes nothing, and sends nothing. Of Iterable it asks the types of fields, at most.

    :param operator: its templates are rendered
    :param context: of a run, or of one that might be; of a mapped task, its task instance has the map index
    :param key: the key as the state has it, such as ``[42]``; or the value of a key of one column
    :param types: whether to ask Iterable for the types of its fields
    :param pull: of ``XComState``, outside of a task: gives what the run of an asset event pushed
    """
    report = Report(operator.sync_id, str(context["run_id"]), {})
    try:
        wrong = operator._read_rendered(report)
        if wrong is not None:
            raise wrong
        plans_only, report.dry_run = report.dry_run, True
        report.partition = None if operator.partition is None else name_of(operator.partition)
        report.identifying = operator.identifying()
        check_spool_dir(operator.spool_dir)
        hook = IterableHook(operator.iterable_conn_id)
        report.destination = operator.destination(hook)
        kind = operator.kind(hook)
        operator._check_state(kind.harm)
        report.resync = checked_resync(operator.resync, kind.harm)
        job = operator._job(context, hook, report, kind)
        part = None if job.scope.part is None else replace(job.scope.part, dry=True)
        scope = replace(job.scope, part=part, reading=True, push=lambda text: None)
        if pull is not None:
            scope = replace(scope, pull=lambda: latest(context, operator.asset, pull))
        question = Question(key, operator.primary_key, report.identifying, types and operator.check_types)
        with hook.get_conn() as client:
            told = explain(replace(job, scope=scope), hook, client, report, question)
    except IterableSyncError as error:
        told = Explanation(sync_id=report.sync_id, partition=report.partition, action="fail", error=masked(str(error)))
        told.verdict = sentence(told)
        return told
    told.notes[:0] = [PLANS_ONLY] * plans_only + [APPROVAL] * (operator.approved_plan is not None)
    return told
