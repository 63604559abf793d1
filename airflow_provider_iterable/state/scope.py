"""What a store is told about the sync it remembers for, and what a run asks of it; stores nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.vocabulary import State
from airflow_provider_iterable.errors import DestinationChanged

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook


@dataclass(frozen=True)
class Scope:
    """One sync's run, as its store sees it.

    :param sync_id: the sync's lasting name
    :param destination: what the state is about: host, sync type, match column; compared with the one remembered
    :param mapping: digest of the mapping; another one than remembered explains why rows go again
    :param hook: gives the SQL hook of a connection; ``None`` means the model's own
    :param pull: gives what the last completed run pushed, or ``None``
    :param push: hands a text to Airflow, to be found by the next run's ``pull``
    """

    sync_id: str
    destination: Mapping[str, Any]
    mapping: str = ""
    hook: Callable[[str | None], DbApiHook] | None = None
    pull: Callable[[], str | None] | None = None
    push: Callable[[str], None] | None = None


class Session(State, Protocol):
    """A store opened for one run."""

    resend_reason: str | None
    """Why unchanged rows would go again, if they do."""

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


def same_destination(scope: Scope, remembered: Mapping[str, Any]) -> None:
    """Refuse state that belongs to another destination.

    :raises DestinationChanged: the message names what differs and the choices
    """
    differing = [
        f"{name}: remembered {json.dumps(remembered.get(name))}, now {json.dumps(scope.destination.get(name))}"
        for name in sorted({*remembered, *scope.destination})
        if remembered.get(name) != scope.destination.get(name)
    ]
    if differing:
        raise DestinationChanged(
            f"The state of sync {scope.sync_id!r} belongs to another destination ({'; '.join(differing)}). Nothing "
            "was sent. Set another sync_id to start afresh there, or restore the former destination."
        )


MAPPING_CHANGED = "the mapping changed, so rows whose payload differs go again"
