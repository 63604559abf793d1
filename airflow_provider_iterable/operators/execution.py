"""Knows Airflow: a run of a task, from rendered parameters to a report, failures translated; knows no sync type."""

from __future__ import annotations

import hashlib
import threading
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.providers.common.compat.sdk import Asset, AssetAlias
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.assets import tell
from airflow_provider_iterable.engine.canary import Canary
from airflow_provider_iterable.engine.forecast import Horizon
from airflow_provider_iterable.engine.guards import Guards
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.run import Options
from airflow_provider_iterable.errors import ConfigurationError, IterableSyncError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.mapping import Nulls
from airflow_provider_iterable.operators import metrics
from airflow_provider_iterable.operators.failures import for_airflow, leave, leave_report, unforeseen
from airflow_provider_iterable.operators.instances import about_plan, about_state, at_once, holder_of, part_of
from airflow_provider_iterable.operators.lineage import Ran, lineage_of
from airflow_provider_iterable.operators.links import leave_app_link, leave_run_link
from airflow_provider_iterable.operators.parameters import check_spool_dir, checked_resync
from airflow_provider_iterable.operators.partitions import check_query, name_of
from airflow_provider_iterable.operators.plan_text import plan_text
from airflow_provider_iterable.operators.rendering import StrictOperator
from airflow_provider_iterable.operators.running import Running
from airflow_provider_iterable.operators.summary import CallCounts, log_summary
from airflow_provider_iterable.runs.audit import Audit
from airflow_provider_iterable.runs.run import SyncKind
from airflow_provider_iterable.runs.runner import Job, carry_out
from airflow_provider_iterable.sql.hook import sql_hook
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.sql.statement import select_all
from airflow_provider_iterable.state.scope import Part, Scope
from airflow_provider_iterable.state.store import Store
from airflow_provider_iterable.state.tables.audit import Task
from airflow_provider_iterable.state.xcom import XCOM_KEY, latest

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage


class SyncOperator(StrictOperator):
    """A task whose run is one run of a sync."""

    sync_type: ClassVar[str] = ""
    changes_requests: ClassVar[tuple[str, ...]] = ()
    """Parameters that change what requests say or do, beside rows and target."""
    sql_conn_id: str
    parameters: Mapping[str, Any] | Sequence[Any] | None
    hook_params: Mapping[str, Any] | None
    primary_key: tuple[str, ...]
    nulls: Nulls
    timezone: str
    state: Store
    sync_id: str
    partition: str | int | None
    partitions: Sequence[str | int] | None
    approved_plan: str | None
    check_types: bool
    batch_size: int
    commit_batches: int | None
    max_in_flight: int | None
    spool_dir: str | None
    iterable_conn_id: str
    asset: Asset
    target: AssetAlias
    app_link: str
    _ran: Ran | None
    _stop: threading.Event | None
    # Texts, perhaps, until they are rendered and read.
    allow_empty: Any
    canary: Any
    canary_max_rejected: Any
    fields: Any
    max_rejected: Any
    max_removed: Any
    max_changed: Any
    deadline: Any
    deadline_action: Any
    repartition: Any
    resync: Any
    # Of sync types that have these parameters; the others delete nothing.
    on_removed: str = "keep"
    max_deletes: Any = None
    max_subscribed: Any = None
    # Likewise; the others merge nobody.
    max_merges: Any = None

    @abstractmethod
    def kind(self, hook: IterableHook) -> SyncKind:
        """Return what this kind of sync does its own way, for one run."""

    @abstractmethod
    def destination(self, hook: IterableHook) -> dict[str, Any]:
        """Return what the state is about, to be compared with what it was about before."""

    def _check_state(self, harm: str | None) -> None:
        """Refuse a state that forgets what a failed try has sent, where sending it again does harm.

        :param harm: which, as a clause; ``None``: it does none
        """
        if harm and not self.state.batchwise:
            raise ConfigurationError(
                f"{type(self.state).__name__} is written once, when the task has succeeded, so that what a failed try "
                f'has sent goes again; {harm}. Use state=TableState() or state=TableState(conn_id="...").'
            )

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the sync and return its report."""
        report = Report(self.sync_id, str(context["run_id"]), {})
        self._ran = Ran(report)
        leave_run_link(self, context)
        wrong = self._read_rendered(report)
        report.partition = None if self.partition is None else name_of(self.partition)
        report.identifying, report.forgets = self.identifying(), not self.state.batchwise
        report.state = about_state(self.state, self.sql_conn_id, report.identifying)
        audit = self._auditing(context, report)
        calls = CallCounts(also=audit.note)
        running = Running(cast("Mapping[str, Any]", context).get("task_state_store"), report)
        stop = self._stop = threading.Event()
        try:
            running.begin()
            with audit:
                if wrong is not None:
                    raise wrong
                check_spool_dir(self.spool_dir)
                hook = IterableHook(self.iterable_conn_id)
                part = self._part(context)
                report.destination = self.destination(hook)
                self._ran.hook = hook
                kind = self._ran.kind = self.kind(hook)
                self._check_state(kind.harm)
                report.resync = checked_resync(self.resync, kind.harm)
                share, most = 1 / at_once(self, part), self.max_in_flight
                with hook.get_conn(on_call=calls.note, share=share, stopped=stop, max_in_flight=most) as client:
                    job = replace(self._job(context, hook, report, kind), observe=running.observe)
                    carry_out(job, hook, client, report, audit, stop)
        except BaseException as error:
            report.requests = calls.counts
            leave(context["ti"], report, error)
            self._show(context, report, running, error)
            if isinstance(error, IterableSyncError):
                raise for_airflow(error) from None
            if isinstance(error, Exception) and (said := unforeseen(error)) is not error:
                raise said from None
            raise
        report.requests = calls.counts
        if report.dry_run:
            report.plan_text = plan_text(report)
        log_summary(report)
        self._show(context, report, running)
        account = report.to_dict()
        leave_report(context["ti"], account)
        if self.dry_run:
            self.outlets = []  # nothing has changed, and what is scheduled on changes is not to start
        elif self.asset in self.outlets:
            context["outlet_events"][self.asset].extra = account
            tell(context["outlet_events"], self.target, account, getattr(self, "event_name", None))
        return account

    def _show(self, context: Context, report: Report, running: Running, error: BaseException | None = None) -> None:
        """Show Airflow what became of the run: its task state, its metrics, and the link to what was filled."""
        running.end()
        metrics.count(report, error, {"dag_id": self.dag_id, "task_id": self.task_id, "sync_type": self.sync_type})
        if self._ran is not None:
            self.app_link = leave_app_link(context, self._ran)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """Return what the run read and wrote, for OpenLineage's provider, which asks when it has failed, too."""
        return None if self._ran is None else lineage_of(self, self._ran, lambda: self._sql_hook(None))

    def on_kill(self) -> None:
        """Let no request start any more; those under way have a few seconds, and what they did is committed."""
        if self._stop is not None:
            self._stop.set()

    def _job(self, context: Context, hook: IterableHook, report: Report, kind: SyncKind) -> Job:
        """Return what the run is to do."""
        model, how = self._model(), ("check_types", *self.changes_requests)
        scope = replace(self._scope(context, report), model=model)
        if self._ran is not None:
            self._ran.model = model
        options = Options(
            guards=Guards(
                allow_empty=self.allow_empty,
                max_removed=self.max_removed,
                max_changed=self.max_changed,
                max_deletes=self.max_deletes if self.on_removed == "delete" else None,
                max_subscribed=self.max_subscribed,
                max_merges=self.max_merges,
            ),
            batch_size=self.batch_size,
            max_rejected=self.max_rejected,
            canary=None if self.canary is None else Canary(self.canary, self.canary_max_rejected),
            dry_run=self.dry_run,
            approved_plan=self.approved_plan,
            horizon=Horizon(deadline=self.deadline, action=self.deadline_action),
            about=about_plan(hook, report.destination, {name: getattr(self, name) for name in how}),
            spool_dir=self.spool_dir,
        )
        return Job(kind, self.state, scope, model, options, self.commit_batches)

    def _auditing(self, context: Context, report: Report) -> Audit:
        """Return the run's account in the audit tables, which there are beside a state in tables only."""
        number, tables = getattr(context["ti"], "try_number", 1), self.state.tables
        return Audit(
            tables,
            lambda: self._sql_hook(None if tables is None else tables.conn_id),
            report,
            run_id=report.run_id if number <= 1 else f"{report.run_id}#{number}",
            primary_key=self.primary_key,
            model_name=self.model_name() or "",
            task=Task(self.dag_id, self.task_id, getattr(context["ti"], "map_index", -1)),
        )

    def _part(self, context: Context) -> Part:
        """Return which part of the sync this run is about.

        :raises ConfigurationError: it is not known, or is none of the partitions
        """
        mapped, dry = getattr(context["ti"], "map_index", None), self.dry_run
        partitions = self.partitions or ()
        return part_of(self.sync_id, self.partition, partitions, mapped, self.repartition, str(context["run_id"]), dry)

    def _model(self) -> Model:
        sql = (self.sql if self.table is None else select_all(self.table)) or ""
        check_query(self.partition, sql)
        return Model(self._sql_hook(None), sql, self.parameters)

    def _sql_hook(self, conn_id: str | None) -> DbApiHook:
        own = conn_id is None or conn_id == self.sql_conn_id
        return sql_hook(conn_id or self.sql_conn_id, self.hook_params if own else None)

    def _scope(self, context: Context, report: Report) -> Scope:
        task_instance, part = context["ti"], self._part(context)
        mapping = repr((sorted((name, repr(source)) for name, source in (self.fields or {}).items()), self.nulls))
        return Scope(
            sync_id=part.state_id(),
            part=part,
            destination=report.destination,
            mapping=hashlib.sha256(f"{mapping} {self.timezone}".encode()).hexdigest()[:32],
            resync=report.resync,
            hook=self._sql_hook,
            pull=lambda: latest(context, self.asset),
            push=lambda text: task_instance.xcom_push(key=XCOM_KEY, value=text),
            holder=holder_of(task_instance, report.run_id, self.dag_id, self.task_id),
        )

    def identifying(self) -> Collection[int]:
        """Return which parts of the key are identifiers of people, to be masked wherever rows are named."""
        return ()
