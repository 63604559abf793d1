"""What a store has to do, and what a run asks of it; stores nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import State
from airflow_provider_iterable.errors import IterableSyncError
from airflow_provider_iterable.state.scope import Scope

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook


@dataclass(frozen=True)
class Header:
    """What is remembered of a sync itself, beside its entries."""

    destination: Mapping[str, Any]
    notes: Mapping[str, str]


class Hold(Protocol):
    """A run's hold on its sync, where the store can give one."""

    @property
    def failure(self) -> IterableSyncError | None:
        """Why the run may not go on."""
        ...

    def permits(self, pause: Callable[[float], object]) -> bool:
        """Tell whether a request may start.

        :param pause: waits some seconds; something true means that there is no need to wait any more
        """
        ...


class Session(State, Protocol):
    """A store opened for one run."""

    resend_reason: str | None
    """Why unchanged rows would go again, if they do."""

    @property
    def notes(self) -> Mapping[str, str]:
        """What runs of the sync noted about it, such as the ID of a list they made."""
        ...

    @property
    def lease(self) -> Hold | None:
        """The run's hold on the sync; none where the store cannot give one."""
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
        """Store a note at once, as far as the store can, whatever becomes of the run.

        :raises StateUnavailable: it could not be stored
        """
        ...

    def note_along(self, name: str, value: str) -> None:
        """Store a note at once where the state is the run's already, otherwise with the first entries.

        :raises StateUnavailable: it could not be stored
        """
        ...

    def move(self) -> None:
        """Have the state be about another project, once a resync stores something: its notes are left behind."""
        ...

    def void(self, name: str, value: str) -> None:
        """Void every entry's fingerprint, take the state to the run's destination and store a note, all or nothing.

        :raises StateUnavailable: it could not be stored
        """
        ...

    def others(self) -> Mapping[str, Header]:
        """Return the other syncs that the same store remembers, by ``sync_id``; none where it cannot know."""
        ...

    def check(self, plan: Plan) -> None:
        """Refuse a plan whose result the store could not hold, before the first call.

        :raises StateTooLarge: the message names the store that could
        """
        ...

    def finish(self, delivered: bool) -> None:
        """End the run; ``delivered`` says that it came to its end, with or without rejected rows."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...


class Undivided:
    """The part of a session that is the same for all stores that keep no partitions."""

    commit_batches = 1

    def alone(self) -> AbstractContextManager[None]:
        """There are no other partitions that could do the same."""
        return nullcontext()

    def siblings(self) -> Sequence[Header]:
        """There are no other partitions."""
        return ()


class InTables(Protocol):
    """State in tables, beside which others may be kept: an audit, the ledger of a quota."""

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
        """How long a run that was lost keeps other runs of the sync out."""
        ...

    @property
    def audit(self) -> bool | Literal["failures"]:
        """What is written of the rows of a run."""
        ...

    @property
    def audit_retention_days(self) -> int | None:
        """Days for which it is kept; ``None``: for ever."""
        ...

    @property
    def audit_fields(self) -> bool:
        """Whether rows are written with what was sent."""
        ...


class Store(Protocol):
    """Where a sync remembers, as DAG authors name it; a store that derives from this says only what it can do more."""

    @property
    def batchwise(self) -> bool:
        """Whether it is written as a run goes; otherwise a failed try forgets what it delivered."""
        return True

    @property
    def keeps_partitions(self) -> bool:
        """Whether it knows the partitions of a sync, and moves entries between them."""
        return False

    @property
    def tables(self) -> InTables | None:
        """The state's tables, if it is in tables."""
        return None

    def open(self, scope: Scope) -> Session:
        """Open the store for one run.

        :raises DestinationChanged: the state belongs to another destination
        """
        ...
