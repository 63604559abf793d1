"""Knows Airflow: parameters in, run, report out, failures translated; knows no sync type."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import socket
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, cast, get_args
from zoneinfo import ZoneInfo

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    Asset,
    BaseOperator,
)
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.engine.plan import Guards
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.resync import Resync
from airflow_provider_iterable.engine.run import Options, run
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import Send, Sync
from airflow_provider_iterable.errors import CannotRetry, ConfigurationError, IterableSyncError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.mapping import Fields, Mapper, Nulls
from airflow_provider_iterable.model import Model, select_all
from airflow_provider_iterable.operators.connection import sql_hook
from airflow_provider_iterable.operators.partitions import NEEDS_PARTITION, NEEDS_TABLES, Partial, name_of, names_of
from airflow_provider_iterable.operators.summary import CallCounts, masked, summary
from airflow_provider_iterable.state import TableState, XComState
from airflow_provider_iterable.state.audit import Audit
from airflow_provider_iterable.state.scope import RESYNC_NOTE, Holder, Part, Scope, Session, Store
from airflow_provider_iterable.state.xcom import XCOM_KEY, latest

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_iterable.state.lease import Lease

log = logging.getLogger(__name__)

RESENT: Mapping[Resync, str | None] = {"full": 'resync="full" sends every row again', "baseline": None}

REPORT_KEY = "iterable_report"
"""XCom key under which a failed run leaves its report."""


class IterableModelOperator(BaseOperator):
    """Brings what a SQL model says to Iterable; the part that all sync types share.

    :param sql: the model's query, or the name of a ``.sql`` file (templated)
    :param table: instead of ``sql``: a table or view, all of it (templated)
    :param parameters: bind parameters of the query (templated)
    :param sql_conn_id: the Airflow connection of the model (templated)
    :param hook_params: arguments of that connection's hook (templated)
    :param primary_key: column or columns whose values name a row, unique and not null
    :param fields: Iterable field (dots nest) to a column's name, ``Column``, ``Json`` or ``Constant``; by default
        every column that no other parameter uses, under its own name
    :param nulls: ``"send"`` nulls, which removes the field at Iterable, or ``"skip"`` them
    :param timezone: the zone in which date-times without one are read
    :param state: where the sync remembers what Iterable accepted; default ``XComState()``, for small models
    :param sync_id: the sync's lasting name; default ``<dag_id>.<task_id>``. After renaming a DAG or task, set it to
        the old name, or every row goes again
    :param partition: the part of the model that this task syncs, of a sync in several: it comes from
        ``.partial(...).expand(partition=[...])``, and the query selects by it, as ``{{ task.partition }}``
    :param partitions: all partitions; by default those over which the task was expanded (templated)
    :param repartition: lets the partitions be others than before: what is remembered moves, and nobody is removed in
        that run (templated)
    :param resync: ``"changes"`` sends the differences; ``"full"`` sends every row again, and a retry goes on where the
        last try stopped; ``"baseline"`` remembers every valid row as delivered and sends nothing, for a state that was
        moved or lost (templated). The last two also take the state to another destination
    :param dry_run: plan, log and return the plan, call nothing
    :param approved_plan: apply only the plan with this hash (templated); a dry run's report has it
    :param allow_empty: whether a model without rows is believed
    :param max_removed: most rows that may leave in one run, from 20 on; a float is a share of the remembered rows
    :param max_rejected: most rejected rows before the task fails; a float is a share of the rows read
    :param check_types: compare values with Iterable's field types before sending
    :param batch_size: most records per request, at most 1000
    :param commit_batches: batches whose outcomes are committed together; ``None``: 1, or more where the state is in a
        database whose transactions take long, which the log says
    :param spool_dir: where the temporary file with the planned operations is made; default: the system's
    :param iterable_conn_id: the connection of type ``iterable`` (templated)
    :raises AirflowFailException: a retry could not help; the message says why, and what is remembered
    :raises AirflowException: rows were deferred; a retry sends what is left
    """

    template_fields: Sequence[str] = (
        "partitions",  # first, for queries tell them
        "sql",
        "table",
        "parameters",
        "sql_conn_id",
        "hook_params",
        "repartition",
        "resync",
        "approved_plan",
        "iterable_conn_id",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql", "parameters": "json"}
    ui_color = "#f0e6ff"
    sync_type: ClassVar[str] = ""

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
        dry_run: bool = False,
        approved_plan: str | None = None,
        allow_empty: bool = False,
        max_removed: float | int | None = 0.3,
        max_rejected: float | int = 0.1,
        check_types: bool = True,
        batch_size: int = 1000,
        commit_batches: int | None = None,
        spool_dir: str | None = None,
        iterable_conn_id: str = IterableHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        if partition is None:
            kwargs.setdefault("max_active_tis_per_dag", 1)
        super().__init__(**kwargs)
        self.sql, self.table, self.parameters = sql, table, parameters
        self.model_source: str | None = None
        self.sql_conn_id, self.hook_params = sql_conn_id, hook_params
        self.primary_key = (primary_key,) if isinstance(primary_key, str) else tuple(primary_key)
        self.fields, self.nulls, self.timezone = fields, nulls, timezone
        self.state: Store = XComState() if state is None else state
        self.sync_id = sync_id or f"{self.dag_id}.{self.task_id}"
        self.partition, self.partitions, self.repartition = partition, partitions, repartition
        self.resync = resync
        self.plan_only, self.approved_plan = dry_run, approved_plan
        self.allow_empty, self.max_removed, self.max_rejected = allow_empty, max_removed, max_rejected
        self.check_types, self.batch_size, self.commit_batches = check_types, batch_size, commit_batches
        self.spool_dir = spool_dir
        self.iterable_conn_id = iterable_conn_id
        self._check_parameters()
        self.asset = Asset(f"iterable://{self.sync_type}/{self.sync_id}")
        if partition is None:  # otherwise the summary of all partitions says that the sync has run
            self.inlets = [*(self.inlets or []), self.asset]
            self.outlets = [*(self.outlets or []), self.asset]
        self._stop: threading.Event | None = None
        self._session: Session | None = None
        self._audit: Audit | None = None

    def _batches(self, session: Session) -> int:
        """Return how many batches are committed together, and say so where the store decides."""
        if self.commit_batches is not None:
            return self.commit_batches
        batches: int = getattr(session, "commit_batches", 1)
        if batches > 1:
            log.info("The state is committed every %d batches: a transaction takes long there.", batches)
        return batches

    def _check_parameters(self) -> None:
        Mapper(self.fields, self.nulls, ZoneInfo(self.timezone))
        if not 1 <= self.batch_size <= 1000:
            raise ConfigurationError(f"batch_size must be from 1 to 1000, not {self.batch_size}")
        if self.commit_batches is not None and self.commit_batches < 1:
            raise ConfigurationError(f"commit_batches must be at least 1, not {self.commit_batches}")
        for name, limit in (("max_removed", self.max_removed), ("max_rejected", self.max_rejected)):
            if limit is not None and (limit < 0 or (isinstance(limit, float) and limit > 1)):
                raise ConfigurationError(f"{name} must be a share from 0.0 to 1.0 or a number of rows, not {limit!r}")
        if re.search(r"[\[\]]", self.sync_id):
            raise ConfigurationError(
                f"The sync_id {self.sync_id!r} has square brackets, which are for the partitions of a sync: "
                "a sync_id of its own would remember as one of these."
            )
        if self.partition is not None:
            name_of(self.partition)
            if not isinstance(self.state, TableState):
                raise ConfigurationError(NEEDS_TABLES.format(type(self.state).__name__))
        reason = self.needs_table_state()
        if reason and isinstance(self.state, XComState):
            raise ConfigurationError(
                f"XComState is written once, when the task has succeeded; {reason}. "
                'Use state=TableState() or state=TableState(conn_id="...").'
            )

    @classmethod
    def partial(cls, **kwargs: Any) -> Partial:  # type: ignore[override]  # Airflow's is a descriptor
        """Return what is to be expanded over partitions, each shown by its name in the Airflow UI."""
        return Partial(super().partial(**{"map_index_template": "{{ task.partition }}", **kwargs}))

    def needs_table_state(self) -> str | None:
        """Return why a state that forgets what a failed try delivered would do harm, as a clause; ``None``: it does
        none."""
        return None

    def cannot_resend(self, hook: IterableHook) -> str | None:
        """Return why sending every row again would do harm, as a clause; ``None``: it does none."""
        return None

    @abstractmethod
    def build_sync(self, hook: IterableHook, columns: Sequence[str]) -> Sync:
        """Return the sync type bound to the model's columns."""

    @abstractmethod
    def destination(self, hook: IterableHook) -> dict[str, Any]:
        """Return what the state is about, to be compared with what it was about before."""

    def guards(self) -> Guards:
        """Return what must not happen unasked."""
        return Guards(allow_empty=self.allow_empty, max_removed=self.max_removed)

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the sync and return its report."""
        hook = IterableHook(self.iterable_conn_id)
        report = Report(self.sync_id, str(context["run_id"]), {}, dry_run=self.plan_only)
        report.partition = None if self.partition is None else name_of(self.partition)
        audit = self._audit = self._auditing(context, report)
        calls = CallCounts(also=audit.note)
        stop = self._stop = threading.Event()
        try:
            with audit:
                part = self._part(context)
                report.destination = self.destination(hook)
                report.resync = self._checked_resync(hook)
                with hook.get_conn(on_call=calls.note, share=1 / self._at_once(part), stopped=stop) as client:
                    self._run(context, hook, client, report)
        except BaseException as error:
            report.requests = calls.counts
            self._leave(context, report, error)
            if not isinstance(error, IterableSyncError):
                raise
            raise (AirflowFailException if isinstance(error, CannotRetry) else AirflowException)(str(error)) from None
        report.requests = calls.counts
        self._tell(report)
        told = report.to_dict()
        if self.partition is None:
            context["outlet_events"][self.asset].extra = told
        return told

    def _leave(self, context: Context, report: Report, error: BaseException) -> None:
        """Say what became of a run that failed or was interrupted, in the log and in its report."""
        if report.status in ("running", "succeeded", "planned"):  # before the plan, or after the last batch
            report.status = "failed" if isinstance(error, Exception) else "stopped"
        self._tell(report)
        try:
            context["ti"].xcom_push(key=REPORT_KEY, value=report.to_dict())
        except Exception as failed:  # as when Airflow has ended the task already
            log.warning("The report could not be left in XCom: %s", type(failed).__name__)

    def on_kill(self) -> None:
        """Let no request start any more; those under way have a few seconds, and what they did is committed."""
        if self._stop is not None:
            self._stop.set()

    def _run(self, context: Context, hook: IterableHook, client: Client, report: Report) -> None:
        started = time.monotonic()
        model = self._model()
        # The state before the model: under the read lock of an open query, SQLite creates no tables.
        scope = replace(self._scope(context, report), model=model)
        session = self._session = self._open_state(scope, hook)
        assert self._audit is not None
        lease = session.lease
        client.ask(self._permitting(lease))
        try:
            self._audit.begin(session.recall)
            report.resend_reason = RESENT.get(report.resync, session.resend_reason)
            if report.resend_reason:
                log.info("Sync %s: %s.", self.sync_id, report.resend_reason)
            with model:
                sync = self.build_sync(hook, model.columns)
                report.seconds["open"] = time.monotonic() - started
                options = Options(
                    guards=self.guards(),
                    patience=Patience(commit_batches=self._batches(session)),
                    batch_size=self.batch_size,
                    max_rejected=self.max_rejected,
                    dry_run=self.plan_only,
                    approved_plan=self.approved_plan,
                    spool_dir=self.spool_dir,
                    check=session.check,
                    observe=self._audit.observe,
                    prepare=self._prepare(hook, client, sync),
                    stop=self._stop,
                    resync=report.resync,
                    distrust=_distrusting(session, report),
                )
                run(sync, model.chunks, session, self._sender(client), report, options)
            if not self.plan_only:
                if report.resync == "full":
                    session.note(RESYNC_NOTE, "")
                session.finish(delivered=True)
            elif lease is not None and lease.failure is not None:
                raise lease.failure  # the plan would be beside another run
        except IterableSyncError as error:
            failure = None if lease is None else lease.failure
            if failure is not None and not isinstance(error, type(failure)):
                report.status = "failed"
                raise failure from None  # whatever it led to, it comes first
            raise
        finally:
            # Who compares is known by now, and whether anything was remembered.
            report.resend_reason = RESENT.get(report.resync, session.resend_reason or report.resend_reason)
            session.close()

    def _auditing(self, context: Context, report: Report) -> Audit:
        """Return the run's account in the audit tables, which there are beside a state in tables only."""
        number = getattr(context["ti"], "try_number", 1)
        return Audit(
            self.state,
            lambda: self._sql_hook(getattr(self.state, "conn_id", None)),
            report,
            run_id=report.run_id if number <= 1 else f"{report.run_id}#{number}",
            primary_key=self.primary_key,
            model_name=self.model_name() or "",
            mask=masked,
        )

    def _part(self, context: Context) -> Part:
        """Return which part of the sync this run is about.

        :raises ConfigurationError: it cannot be told, or is none of the partitions
        """
        flag = {"true": True, "false": False}.get(str(self.repartition).strip().lower())
        if flag is None:
            raise ConfigurationError(f"repartition must be True or False, not {self.repartition!r}")
        run, dry, mapped = str(context["run_id"]), self.plan_only, getattr(context["ti"], "map_index", None)
        if self.partition is None:
            if (-1 if mapped is None else mapped) >= 0:
                raise ConfigurationError(f"{NEEDS_PARTITION} Nothing was read or sent.")
            return Part(self.sync_id, repartition=flag, run=run, dry=dry)
        name, names = name_of(self.partition), names_of(self.partitions or ())
        if name not in names:
            raise ConfigurationError(
                f"The partition {name!r} is none of partitions ({', '.join(names) or 'none'}). Nothing was read or "
                "sent. Leave partitions out where .expand(partition=[...]) tells them, or name all of them."
            )
        return Part(self.sync_id, name, names, flag, run, dry)

    def _at_once(self, part: Part) -> int:
        """Return how many partitions may run at the same time, and so share Iterable's rate limits."""
        limits = (self.max_active_tis_per_dagrun, self.max_active_tis_per_dag) if part.name else ()
        return max(1, min([len(part.names), *(limit for limit in limits if limit is not None)]))

    def resolve_template_files(self) -> None:
        """Put the text of a ``.sql`` file in the place of its name, and keep the name."""
        self.model_source = self.model_source or self.sql
        super().resolve_template_files()

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Render a field; of a mapped task this is where the name of its ``.sql`` file becomes the file's text."""
        if isinstance(content, str) and content is self.sql:
            self.model_source = self.model_source or content
        return super().render_template(content, *args, **kwargs)

    def model_name(self) -> str | None:
        """Return the model's name: that of its file or table; ``None`` where the query stands in the DAG."""
        source = self.model_source or self.sql
        if isinstance(source, str) and source.endswith(".sql") and "\n" not in source:
            return PurePosixPath(source).stem
        return self.table.rpartition(".")[2] if self.table else None

    def _checked_resync(self, hook: IterableHook) -> Resync:
        """Return the kind of resync, which is known only now.

        :raises ConfigurationError: it is none, or would do harm
        """
        if self.resync not in get_args(Resync):
            raise ConfigurationError(f'resync must be "changes", "full" or "baseline", not {self.resync!r}')
        harm = self.cannot_resend(hook) if self.resync == "full" else None
        if harm:
            raise ConfigurationError(
                f'resync="full" would send every row again; {harm}. Nothing was sent. To have some rows go again, give '
                "them new keys, or delete their entries from the state."
            )
        return cast("Resync", self.resync)

    def _open_state(self, scope: Scope, hook: IterableHook) -> Session:
        """Open the state for one run."""
        return self.state.open(scope)

    def _sender(self, client: Client) -> Send:
        """Return what performs the requests."""
        return client.send

    def _prepare(self, hook: IterableHook, client: Client, sync: Sync) -> Callable[[], None] | None:
        """Return what happens once before the first operation is sent."""
        return None

    def _model(self) -> Model:
        if (self.sql is None) is (self.table is None):
            raise ConfigurationError("Give the model as sql or as table, one of the two.")
        sql = self.sql if self.table is None else select_all(self.table)
        return Model(self._sql_hook(None), sql or "", self.parameters)

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
            holder=self._holder(task_instance, report.run_id),
        )

    def _holder(self, task_instance: Any, run_id: str) -> Holder:
        """Return what names this run of the sync to others."""
        number, mapped = getattr(task_instance, "try_number", 1), getattr(task_instance, "map_index", -1)
        instance = json.dumps([self.dag_id, self.task_id, run_id, mapped])
        which = f" (map index {mapped})" if mapped >= 0 else ""
        return Holder(
            instance=hashlib.sha256(instance.encode()).hexdigest(),
            attempt=number,
            label=f"task {self.dag_id}.{self.task_id}{which}, run {run_id}, try {number}, on {socket.gethostname()}",
        )

    def _permitting(self, lease: Lease | None) -> Callable[[], bool]:
        """Return what tells whether a request may start, and ends the delivery when none may."""
        stop = self._stop
        assert stop is not None

        def permitted() -> bool:
            if not stop.is_set() and (lease is None or lease.permits(stop.wait)):
                return True
            stop.set()
            return False

        return permitted

    def _tell(self, report: Report) -> None:
        lines = summary(report, masked_keys=self.keys_identify())
        log.log(logging.WARNING if report.reasons else logging.INFO, "%s", "\n".join(lines))

    def keys_identify(self) -> bool:
        """Whether the primary key holds an identifier of a person, to be masked in logs."""
        return False


def _distrusting(session: Session, report: Report) -> Callable[[], None] | None:
    """Return what voids the state, unless an earlier try of this run did so: it goes on where that one stopped."""
    if report.resync != "full":
        return None
    if session.notes.get(RESYNC_NOTE) == report.run_id:
        log.info("Sync %s: the full resync of an earlier try goes on.", report.sync_id)
        return None
    return lambda: session.void(RESYNC_NOTE, report.run_id)
