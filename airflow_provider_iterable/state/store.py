"""The interface of a store, and of a store that is opened for one run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import State, Sync
from airflow_provider_iterable.engine.vocabulary import Pair
from airflow_provider_iterable.errors import IterableSyncError
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.scope import Scope

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook


@dataclass(frozen=True)
class Header:
    """What is remembered of a sync as a whole, besides its entries."""

    destination: Mapping[str, Any]
    notes: Mapping[str, str]


class Hold(Protocol):
    """The lease that a run has on its sync, where the store has leases."""

    @property
    def failure(self) -> IterableSyncError | None:
        """Why the run may not go on."""
        ...

    def permits(self, pause: Callable[[float], object]) -> bool:
        """Return whether a request may start.

        :param pause: waits some seconds; a true result ends the waiting
        """
        ...


class Session(State, Protocol):
    """A store opened for one run."""

    resend_reason: str | None
    """Why unchanged rows go again; ``None``: they do not."""

    @property
    def notes(self) -> dict[str, str]:
        """What runs of the sync noted about it, such as the ID of a list they made; stored when the run finishes."""
        ...

    @property
    def lease(self) -> Hold | None:
        """The run's lease; ``None`` where the store has no leases."""
        ...

    @property
    def commit_batches(self) -> int:
        """Batches that are committed together unless the operator says otherwise."""
        ...

    def alone(self) -> AbstractContextManager[None]:
        """Keep other partitions of the sync from doing this at the same time; they wait for their turn.

        :raises LeaseHeld: waiting took too long
        """
        ...

    def siblings(self) -> Sequence[Header]:
        """Return the headers of the other partitions of the sync that are about the run's destination and project.

        :raises StateUnavailable: they could not be read
        """
        ...

    def note(self, name: str, value: str) -> None:
        """Store a note at once where the store can, so that it stays if the run fails.

        :raises StateUnavailable: it could not be stored
        """
        ...

    def note_along(self, name: str, value: str) -> None:
        """Store a note at once if the state is about the run's destination already, otherwise with the first entries.

        :raises StateUnavailable: it could not be stored
        """
        ...

    def move(self) -> None:
        """Drop the notes: the state is about another project from the next write of a resync on."""
        ...

    def void(self, name: str, value: str) -> None:
        """Void every entry's fingerprint, and store a note and the run's destination, all or nothing.

        :raises StateUnavailable: it could not be stored
        """
        ...

    def others(self) -> Mapping[str, Header]:
        """Return the other syncs that the same store remembers, by ``sync_id``; empty where it cannot list them."""
        ...

    def bearing(self, refs: Sequence[str]) -> Collection[str]:
        """Return the keys that are remembered with one of some references."""
        ...

    def partition_of(self, key: str) -> str | None:
        """Return the other partition of the sync that remembers a key; ``None``: none does."""
        ...

    def pair_some(self, sync: Sync, model: Model, keys: Collection[str]) -> Iterator[Pair]:
        """Pair the rows that have some keys as :meth:`pair` would, and what is remembered under these keys.

        :param model: the model, or as much of it as has the rows
        """
        ...

    def check(self, plan: Plan) -> None:
        """Refuse a plan whose result the store could not hold, before the first call.

        :raises StateTooLarge: the message names the store that could
        """
        ...

    def finish(self, delivered: bool) -> None:
        """End the run.

        :param delivered: whether every operation was settled, with or without rejected rows
        """
        ...

    def close(self) -> None:
        """Close connections."""
        ...


class Undivided:
    """What sessions of all stores without partitions have in common."""

    commit_batches = 1

    def alone(self) -> AbstractContextManager[None]:
        """Do nothing: there are no other partitions."""
        return nullcontext()

    def partition_of(self, key: str) -> str | None:
        """There are no other partitions."""
        return None

    def siblings(self) -> Sequence[Header]:
        """There are no other partitions."""
        return ()


class InTables(Protocol):
    """State in tables, where other tables may be as well: the audit, and the ledger of a daily quota."""

    @property
    def conn_id(self) -> str | None:
        """The connection; ``None``: the model's own."""
        ...

    @property
    def schema(self) -> str | None:
        """The schema of the tables; ``None``: the connection's default."""
        ...

    def connect(self, scope: Scope) -> DbApiHook:
        """Return a SQL hook of the connection, for one of those that write to the tables.

        :raises ConfigurationError: the state cannot be kept there, or only if that is asked for
        """
        ...

    @property
    def lease_seconds(self) -> float:
        """Seconds for which a run that was killed keeps other runs of the sync from starting."""
        ...

    @property
    def audit(self) -> bool | Literal["failures"]:
        """What is written to the audit tables."""
        ...

    @property
    def audit_retention_days(self) -> int | None:
        """Days for which the audit is kept; ``None``: for ever."""
        ...

    @property
    def audit_fields(self) -> bool:
        """Whether the audit holds the fields that were sent."""
        ...


class Store(Protocol):
    """Where a sync remembers, as DAG authors write it. Subclasses override what they can do beyond these defaults."""

    @property
    def batchwise(self) -> bool:
        """Whether each batch is committed; otherwise a run that fails remembers nothing of what it delivered."""
        return True

    @property
    def found_by_events(self) -> bool:
        """Whether the state is found through the sync's own asset events, so that the task has to read these."""
        return False

    @property
    def keeps_partitions(self) -> bool:
        """Whether partitions of a sync can be kept, with entries moving between them."""
        return False

    @property
    def tables(self) -> InTables | None:
        """This store if it is in tables, otherwise ``None``."""
        return None

    def open(self, scope: Scope) -> Session:
        """Open the store for one run.

        :raises DestinationChanged: the state belongs to another destination
        """
        ...
