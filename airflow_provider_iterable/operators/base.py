"""Knows Airflow: parameters in, run, report out, failures translated; knows no sync type."""

from __future__ import annotations

import hashlib
import re
import threading
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Unpack, cast
from zoneinfo import ZoneInfo

from airflow.providers.common.compat.sdk import BaseOperatorLink
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable import retry
from airflow_provider_iterable.assets import sync_asset, target_alias, tell
from airflow_provider_iterable.engine.canary import Canary
from airflow_provider_iterable.engine.forecast import Horizon
from airflow_provider_iterable.engine.guards import Guards
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.run import Options
from airflow_provider_iterable.errors import ConfigurationError, IterableSyncError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.mapping import Fields, Mapper, Nulls
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.operators import metrics
from airflow_provider_iterable.operators.failures import for_airflow, leave, leave_report, unforeseen
from airflow_provider_iterable.operators.forms import COMMON_FORMS, Form, options_of
from airflow_provider_iterable.operators.instances import about_plan, about_state, at_once, holder_of, part_of
from airflow_provider_iterable.operators.keywords import TaskKeywords
from airflow_provider_iterable.operators.lineage import Ran, lineage_of
from airflow_provider_iterable.operators.links import LINKS, leave_app_link, leave_run_link
from airflow_provider_iterable.operators.parameters import check_literals, check_spool_dir, checked_resync
from airflow_provider_iterable.operators.partitions import NEEDS_TABLES, Partial, check_query, name_of
from airflow_provider_iterable.operators.plan_text import plan_text
from airflow_provider_iterable.operators.rendering import StrictOperator
from airflow_provider_iterable.operators.running import Running
from airflow_provider_iterable.operators.signature import FullSignature
from airflow_provider_iterable.operators.summary import CallCounts, log_summary
from airflow_provider_iterable.runs.audit import Audit
from airflow_provider_iterable.runs.run import SyncKind
from airflow_provider_iterable.runs.runner import Job, carry_out
from airflow_provider_iterable.sql.hook import sql_hook
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.sql.statement import select_all
from airflow_provider_iterable.state import XComState
from airflow_provider_iterable.state.scope import Part, Scope
from airflow_provider_iterable.state.store import Store
from airflow_provider_iterable.state.tables.audit import Task
from airflow_provider_iterable.state.xcom import XCOM_KEY, latest

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage


log = logger(__name__)
Chosen = TypeVar("Chosen")


class IterableModelOperator(StrictOperator):
    """Brings what a SQL model says to Iterable; the part that all sync types share.

    :param sql: the model's query, or the name of a ``.sql`` file (templated)
    :param table: instead of ``sql``: a table or view, all of it (templated)
    :param parameters: bind parameters of the query (templated)
    :param sql_conn_id: the Airflow connection of the model (templated)
    :param hook_params: arguments of that connection's hook (templated)
    :param primary_key: column or columns whose values name a row, unique and not null
    :param fields: Iterable field (dots nest) to a column's name, ``Column``, ``Json`` or ``Constant``; by default
        every column that no other parameter uses, under its own name (what the fields come from is templated)
    :param nulls: ``"send"`` nulls, which removes the field at Iterable, or ``"skip"`` them
    :param timezone: the zone in which date-times without one are read
    :param state: where the sync remembers what Iterable accepted; default ``XComState()``, for small models
    :param sync_id: the sync's lasting name; default ``<dag_id>.<task_id>``. After renaming a DAG or task, set it to
        the old name, or every row goes again
    :param partition: the part of the model that this task syncs, of a sync in several: it comes from
        ``.partial(...).expand(partition=[...])``, and the query selects by it, as ``{{ task.partition }}``; a text is
        bound: ``parameters={"part": "{{ task.partition }}"}``
    :param partitions: all partitions; by default those over which the task was expanded (templated)
    :param repartition: lets the partitions be others than before: what is remembered moves, and nobody is removed in
        that run (templated)
    :param resync: ``"changes"`` sends the differences; ``"full"`` sends every row again, and a retry goes on where the
        last try stopped; ``"baseline"`` remembers every valid row as delivered and sends nothing, for a state that was
        moved or lost (templated). The last two also take the state to another destination
    :param dry_run: plan, log and return the plan, call nothing; the sync's asset gets no event (templated)
    :param approved_plan: apply only the plan with this hash (templated); a dry run's report has it
    :param allow_empty: whether a model without rows is believed (templated)
    :param max_removed: most rows that may leave in one run, from 20 on; a float is a share of the remembered rows
        (templated)
    :param max_changed: most remembered rows that may have changed in one run, from 20 on, likewise; default: any number
        (templated)
    :param max_rejected: most rejected rows before the task fails; a float is a share of the rows read (templated)
    :param deadline: when all of it is to be done: a ``datetime`` with its zone, or its ISO text, such as
        ``"{{ data_interval_end.add(hours=2) }}"`` (templated); default: whenever it is
    :param deadline_action: what comes of it if that will not be: ``"warn"`` in log and report, or ``"fail"`` before
        anything is sent (templated)
    :param canary: rows of each wave that go alone first, a number or a float: a share; the others follow unless more
        of them are rejected than ``canary_max_rejected``, or they make fields that nobody approved. Default: all go at
        once (templated)
    :param canary_max_rejected: most of these rows that may be rejected; a float is a share of them (templated)
    :param check_types: compare values with Iterable's field types before sending
    :param batch_size: most records per request, at most 1000
    :param commit_batches: batches whose outcomes are committed together; ``None``: 1, or more where the state is in a
        database whose transactions take long, which the log says
    :param max_in_flight: most requests under way at once; default: the connection's, which is 64 if it does not say. No
        more are than Iterable's rates need
    :param spool_dir: where the temporary file with the planned operations is made; default: the system's
    :param iterable_conn_id: the connection of type ``iterable`` (templated)
    :raises CannotRetry: as an ``AirflowFailException``, too: a retry could not help; the message says why, and what is
        remembered
    :raises WorthRetrying: as an ``AirflowException``, too: rows were deferred, or what is needed was away; a retry
        sends what is left
    """

    template_fields: Sequence[str] = (
        "partitions",  # first, for queries may name them
        "sql",
        "table",
        "parameters",
        "sql_conn_id",
        "hook_params",
        "fields",
        "repartition",
        "resync",
        "dry_run",
        "approved_plan",
        "allow_empty",
        "max_removed",
        "max_changed",
        "max_rejected",
        "deadline",
        "deadline_action",
        "canary",
        "canary_max_rejected",
        "iterable_conn_id",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql", "parameters": "json"}
    operator_extra_links: Collection[BaseOperatorLink] = LINKS
    __signature__ = FullSignature()
    ui_color = "#f0e6ff"
    sync_type: ClassVar[str] = ""
    changes_requests: ClassVar[tuple[str, ...]] = ()
    """Parameters that change what requests say or do, beside rows and target."""
    forms: ClassVar[Mapping[str, Form]] = COMMON_FORMS
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

    def __init__(
        self,
        *,
        sql_conn_id: str,
        primary_key: str | Sequence[str],
        sql: str | None = None,
        table: str | None = None,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        hook_params: Mapping[str, Any] | None = None,
        fields: Fields | None = None,
        nulls: Nulls = "send",
        timezone: str = "UTC",
        state: Store | None = None,
        sync_id: str | None = None,
        partition: str | int | None = None,
        partitions: Sequence[str | int] | None = None,
        repartition: bool | str = False,
        resync: str = "changes",
        dry_run: bool | str = False,
        approved_plan: str | None = None,
        allow_empty: bool | str = False,
        max_removed: float | int | str | None = 0.3,
        max_changed: float | int | str | None = None,
        max_rejected: float | int | str = 0.1,
        deadline: datetime | str | None = None,
        deadline_action: str = "warn",
        canary: float | int | str | None = None,
        canary_max_rejected: float | int | str = 0.1,
        check_types: bool = True,
        batch_size: int = 1000,
        commit_batches: int | None = None,
        max_in_flight: int | None = None,
        spool_dir: str | None = None,
        iterable_conn_id: str = IterableHook.default_conn_name,
        **kwargs: Unpack[TaskKeywords],
    ) -> None:
        if partition is None:
            kwargs.setdefault("max_active_tis_per_dag", 1)
        if not retry.SUPPORTED:
            kwargs.pop("retry_policy", None)
        super().__init__(**kwargs)
        if retry.SUPPORTED and self.retry_policy is None:  # not before: default_args may have one
            self.retry_policy = retry.IterableRetryPolicy()
        self.sql, self.table, self.parameters = sql, table, parameters
        self.sql_conn_id, self.hook_params = sql_conn_id, hook_params
        self.primary_key = cast("tuple[str, ...]", primary_key)
        self.fields, self.nulls, self.timezone = fields, nulls, timezone
        self.state: Store = XComState() if state is None else state
        self.sync_id = f"{self.dag_id}.{self.task_id}" if sync_id is None else sync_id
        self.partition, self.partitions, self.repartition = partition, partitions, repartition
        self.resync = resync
        self.dry_run, self.approved_plan = dry_run, approved_plan
        self.allow_empty, self.max_removed, self.max_changed = allow_empty, max_removed, max_changed
        self.max_rejected, self.deadline, self.deadline_action = max_rejected, deadline, deadline_action
        self.canary, self.canary_max_rejected = canary, canary_max_rejected
        self.check_types, self.batch_size, self.commit_batches = check_types, batch_size, commit_batches
        self.max_in_flight, self.spool_dir = max_in_flight, spool_dir
        self.iterable_conn_id = iterable_conn_id
        self._check_literals()
        self._check_parameters()
        self.asset = sync_asset(self.sync_type, self.sync_id)
        self.target = target_alias(self.sync_type, self.sync_id)
        if partition is None and not self._has("partitions"):  # of mapped tasks, a summary says that they have run
            if self.state.found_by_events:
                self.inlets = [*(self.inlets or []), self.asset]
            self.outlets = [*(self.outlets or []), self.asset, self.target]
        self._ran: Ran | None = None
        self.app_link = ""
        self._stop: threading.Event | None = None

    def _check_parameters(self) -> None:
        """Refuse parameters that make no sense together."""
        if self._has("sql") is self._has("table"):
            raise ConfigurationError("Give the model as sql or as table, one of the two.")
        if re.search(r"[\[\]]", self.sync_id):
            raise ConfigurationError(
                f"The sync_id {self.sync_id!r} has square brackets, which are for the partitions of a sync: "
                "a sync_id of its own would remember as one of these."
            )
        if self.partition is not None:
            name_of(self.partition)
            if not self.state.keeps_partitions:
                raise ConfigurationError(NEEDS_TABLES.format(type(self.state).__name__))

    def _check_state(self, harm: str | None) -> None:
        """Refuse a state that forgets what a failed try has sent, where sending it again does harm.

        :param harm: which, as a clause; ``None``: it does none
        """
        if harm and not self.state.batchwise:
            raise ConfigurationError(
                f"{type(self.state).__name__} is written once, when the task has succeeded, so that what a failed try "
                f'has sent goes again; {harm}. Use state=TableState() or state=TableState(conn_id="...").'
            )

    @classmethod
    def partial(cls, **kwargs: Any) -> Partial:  # type: ignore[override]  # Airflow's is a descriptor
        """Return what is to be expanded over partitions, or syncs, each shown by its name in the Airflow UI."""
        check_literals(cls.forms, cls.template_fields, {name: kwargs[name] for name in kwargs if name in cls.forms})
        if not retry.SUPPORTED:
            kwargs.pop("retry_policy", None)
        shown = "{{ task.sync_id if task.partition is none else task.partition }}"
        return Partial(super().partial(**{"map_index_template": shown, **kwargs}))

    @abstractmethod
    def kind(self, hook: IterableHook) -> SyncKind:
        """Return what this kind of sync does its own way, for one run."""

    @abstractmethod
    def destination(self, hook: IterableHook) -> dict[str, Any]:
        """Return what the state is about, to be compared with what it was about before."""

    def _options(self, kind: type[Chosen], **given: Any) -> Chosen:
        """Return the options of a sync: each is given here, or is this operator's parameter of its name."""
        return options_of(self, kind, {"zone": ZoneInfo(self.timezone), **given})

    def _mapper(self, fields: Fields | None, *used: str | None, offset: str = "+00:00") -> Mapper:
        """Return what makes the fields of a row.

        :param fields: ``None``: every column but the primary key
        :param used: further columns that are none by default
        """
        columns = frozenset(name for name in (*self.primary_key, *used) if name is not None)
        mapper = Mapper(fields, self.nulls, ZoneInfo(self.timezone), columns, offset)
        if self._ran is not None:
            self._ran.mappers.append(mapper)
        return mapper

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
