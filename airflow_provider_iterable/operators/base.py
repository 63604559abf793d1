"""The parameters that all syncs have, and what is refused of them; knows no sync type."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, TypeVar, Unpack, cast
from zoneinfo import ZoneInfo

from airflow.providers.common.compat.sdk import BaseOperatorLink

from airflow_provider_iterable import retry
from airflow_provider_iterable.assets import sync_asset, target_alias
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.mapping import Fields, Mapper, Nulls, spared_fields
from airflow_provider_iterable.operators.execution import SyncOperator
from airflow_provider_iterable.operators.forms import COMMON_FORMS, Form, options_of
from airflow_provider_iterable.operators.keywords import TaskKeywords
from airflow_provider_iterable.operators.lineage import Ran
from airflow_provider_iterable.operators.links import LINKS
from airflow_provider_iterable.operators.parameters import check_literals
from airflow_provider_iterable.operators.partitions import NEEDS_TABLES, Partial, name_of
from airflow_provider_iterable.operators.signature import FullSignature
from airflow_provider_iterable.state import XComState
from airflow_provider_iterable.state.store import Store
from airflow_provider_iterable.syncs import only_if_empty

Chosen = TypeVar("Chosen")


class IterableModelOperator(SyncOperator):
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
    looks_up_profiles: ClassVar[bool] = False
    """Whether it can send a field only to profiles without it."""
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql", "parameters": "json"}
    operator_extra_links: Collection[BaseOperatorLink] = LINKS
    __signature__ = FullSignature()
    ui_color = "#f0e6ff"
    forms: ClassVar[Mapping[str, Form]] = COMMON_FORMS

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
        self._check_spared(self._mapping("fields"), self._mapping("user_fields"))
        if re.search(r"[\[\]]", self.sync_id):
            raise ConfigurationError(
                f"The sync_id {self.sync_id!r} has square brackets, which are for the partitions of a sync: "
                "a sync_id of its own would remember as one of these."
            )
        if self.partition is not None:
            name_of(self.partition)
            if not self.state.keeps_partitions:
                raise ConfigurationError(NEEDS_TABLES.format(type(self.state).__name__))

    @classmethod
    def partial(cls, **kwargs: Any) -> Partial:  # type: ignore[override]  # Airflow's is a descriptor
        """Return what is to be expanded over partitions, or syncs, each shown by its name in the Airflow UI."""
        check_literals(cls.forms, cls.template_fields, {name: kwargs[name] for name in kwargs if name in cls.forms})
        if not retry.SUPPORTED:
            kwargs.pop("retry_policy", None)
        shown = "{{ task.sync_id if task.partition is none else task.partition }}"
        return Partial(super().partial(**{"map_index_template": shown, **kwargs}))

    def _options(self, kind: type[Chosen], **given: Any) -> Chosen:
        """Return the options of a sync: each is given here, or is this operator's parameter of its name."""
        return options_of(self, kind, {"zone": ZoneInfo(self.timezone), **given})

    def _check_spared(self, *mappings: Fields | None) -> None:
        """Refuse fields that only profiles without them are to get, where no profile is looked up."""
        if not self.looks_up_profiles:
            for mapping in mappings:
                only_if_empty.refuse(spared_fields(mapping), f"records of {self.sync_type}")

    def _mapper(self, fields: Fields | None, *used: str | None, offset: str = "+00:00") -> Mapper:
        """Return what makes the fields of a row.

        :param fields: ``None``: every column but the primary key
        :param used: further columns that are none by default
        """
        columns = frozenset(name for name in (*self.primary_key, *used) if name is not None)
        self._check_spared(fields)
        mapper = Mapper(fields, self.nulls, ZoneInfo(self.timezone), columns, offset)
        if self._ran is not None:
            self._ran.mappers.append(mapper)
        return mapper
