"""State in tables, as DAG authors name it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.store import Store
from airflow_provider_iterable.state.tables.dialects import DIALECTS
from airflow_provider_iterable.state.tables.lease import MIN_SECONDS, SECONDS
from airflow_provider_iterable.state.tables.warehouse import Compare, WarehouseSession

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

ASKING = "TableState(untested_database=True) keeps it there all the same"
Auditing = bool | Literal["failures"]


@dataclass(frozen=True)
class TableState(Store):
    """State in tables of an Airflow SQL connection, committed batch by batch; the recommended store.

    ``docs/state.md`` says on which databases it runs, how far each of them was tried, and which have to be asked for.
    The tables (``sync_state``, ``sync_header``, ``sync_intents``, ``sync_lease``) and the schema are created when
    missing; without a schema their names begin with ``iterable_``. A sync is one run's at a time.

    :param conn_id: the connection; by default the model's own
    :param schema: the schema of the tables; ``None``: the connection's default
    :param compare: ``"auto"`` lets the database compare where the tables are on the model's own connection and it can,
        so that only rows with news leave it; ``"database"`` fails where it cannot; ``"worker"`` never asks it
    :param audit: what is written beside the state: ``"failures"`` runs, requests, and rows that were not accepted;
        ``True`` every row that makes a call, which is a row for each of the model in a first run; ``False`` nothing
    :param audit_retention_days: days for which it is kept; ``None``: for ever
    :param audit_fields: whether rows are written with what was sent, which is about people
    :param lease_seconds: seconds after which another run may start if this one is killed; renewed while it runs
    :param untested_database: whether the state may be kept in a Snowflake, Databricks or Redshift
    """

    conn_id: str | None = None
    schema: str | None = None
    compare: Compare = "auto"
    audit: Auditing = "failures"
    audit_retention_days: int | None = 30
    audit_fields: bool = False
    lease_seconds: float = SECONDS
    untested_database: bool = False

    @property
    def keeps_partitions(self) -> bool:
        """Always true."""
        return True

    @property
    def tables(self) -> TableState:
        """This store."""
        return self

    def open(self, scope: Scope) -> WarehouseSession:
        """Open the tables, creating them when missing.

        :raises LeaseHeld: another run of the sync is under way
        :raises StateUnavailable: the database is not there, or refuses
        :raises DestinationChanged: the state belongs to another destination
        :raises ConfigurationError: the database is not supported, or was tried by nobody; the name of the schema is not
            valid; the connection may not do what it takes
        """
        if self.compare not in get_args(Compare):
            raise ConfigurationError(f'compare must be "auto", "database" or "worker", not {self.compare!r}')
        if self.audit not in (True, False, "failures"):
            raise ConfigurationError(f'audit must be True, False or "failures", not {self.audit!r}')
        if self.audit_retention_days is not None and self.audit_retention_days < 1:
            raise ConfigurationError(f"audit_retention_days must be at least 1, not {self.audit_retention_days}")
        if self.lease_seconds < MIN_SECONDS:
            raise ConfigurationError(f"lease_seconds must be at least {MIN_SECONDS:.0f}, not {self.lease_seconds}")
        return WarehouseSession(
            scope, self.connect(scope), self.schema, self.lease_seconds, compare=self.compare, conn_id=self.conn_id
        )

    def connect(self, scope: Scope) -> DbApiHook:
        """Return a SQL hook of the connection.

        :raises ConfigurationError: there is none; or no such database was tried, and it is not asked for
        """
        if scope.hook is None:
            raise ConfigurationError("TableState needs a SQL connection")
        hook = scope.hook(self.conn_id)
        dialect = DIALECTS.get(hook.conn_type)
        if dialect is not None and dialect.untested and not self.untested_database:
            raise ConfigurationError(f"{dialect.untested}; {ASKING}.")
        return hook
