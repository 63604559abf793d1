"""What a store has to do, and what a run asks of it; stores nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import State
from airflow_provider_iterable.errors import IterableSyncError
from airflow_provider_iterable.state.scope import Scope


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


class Store(Protocol):
    """Where a sync remembers, as DAG authors name it."""

    def open(self, scope: Scope) -> Session:
        """Open the store for one run.

        :raises DestinationChanged: the state belongs to another destination
        """
        ...
