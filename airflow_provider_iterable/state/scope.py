"""What a store is told about the sync it remembers for, and what a run asks of it; stores nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import State
from airflow_provider_iterable.engine.resync import Resync
from airflow_provider_iterable.errors import DestinationChanged

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    from airflow_provider_iterable.sql.model import Model
    from airflow_provider_iterable.state.lease import Lease


RESYNC_NOTE = "resync"
"""Note that holds the run whose full resync has begun and not ended."""


LEFT_OUT_NOTE = "left_out"
"""Note that holds the fields that were left out of accepted rows, and how it stands with each."""


@dataclass(frozen=True)
class Holder:
    """A run, as other runs of the same sync get to know it.

    :param instance: names the task instance without its try; empty: none that another run could belong to
    :param attempt: the number of the try; of one task instance, a later try takes over from an earlier one at once
    :param label: what people are told
    """

    instance: str = ""
    attempt: int = 1
    label: str = "a run without a name"


@dataclass(frozen=True)
class Part:
    """Which part of a sync a run is about.

    :param sync_id: the whole sync
    :param name: the partition; empty: the sync is not partitioned
    :param names: all partitions of the sync, as the run knows them
    :param repartition: whether these may be others than before
    :param run: names the DAG run
    :param dry: whether nothing may be written
    """

    sync_id: str
    name: str = ""
    names: tuple[str, ...] = ("",)
    repartition: bool = False
    run: str = ""
    dry: bool = False

    def state_id(self, name: str | None = None) -> str:
        """Return under which ``sync_id`` a partition remembers; by default this one."""
        name = self.name if name is None else name
        return f"{self.sync_id}[{name}]" if name else self.sync_id


@dataclass(frozen=True)
class Scope:
    """One sync's run, as its store sees it.

    :param sync_id: the sync's lasting name, with that of the partition, if it is one
    :param destination: what the state is about: host, sync type, match column; compared with the one remembered
    :param mapping: digest of the mapping; another one than remembered explains why rows go again
    :param model: the model, not opened yet; ``None`` where the store is not to see it
    :param hook: gives the SQL hook of a connection; ``None`` means the model's own
    :param pull: gives what the last completed run pushed, or ``None``
    :param resync: unless ``"changes"``, the run takes the state to another destination, if it belongs to another one
    :param push: hands a text to Airflow, to be found by the next run's ``pull``
    :param holder: the run
    :param part: which part of the sync it is; ``None``: all of it
    """

    sync_id: str
    destination: Mapping[str, Any]
    mapping: str = ""
    model: Model | None = None
    hook: Callable[[str | None], DbApiHook] | None = None
    pull: Callable[[], str | None] | None = None
    push: Callable[[str], None] | None = None
    resync: Resync = "changes"
    holder: Holder = Holder()
    part: Part | None = None


@dataclass(frozen=True)
class Header:
    """What is remembered of a sync itself, beside its entries."""

    destination: Mapping[str, Any]
    notes: Mapping[str, str]


class Session(State, Protocol):
    """A store opened for one run."""

    resend_reason: str | None
    """Why unchanged rows would go again, if they do."""

    @property
    def notes(self) -> Mapping[str, str]:
        """What runs of the sync noted about it, such as the ID of a list they made."""
        ...

    @property
    def lease(self) -> Lease | None:
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


def same_destination(scope: Scope, remembered: Mapping[str, Any]) -> bool:
    """Tell whether state belongs to the run's destination; refuse it when not, unless the run resyncs it.

    Notes are about a destination: those of another one do not count.

    :raises DestinationChanged: the message names what differs and the choices
    """
    differing = [
        f"{name}: remembered {json.dumps(remembered.get(name))}, now {json.dumps(scope.destination.get(name))}"
        for name in sorted({*remembered, *scope.destination})
        if remembered.get(name) != scope.destination.get(name)
    ]
    if differing and scope.resync == "changes":
        raise DestinationChanged(
            f"The state of sync {scope.sync_id!r} belongs to another destination ({'; '.join(differing)}). Nothing "
            'was sent. Set another sync_id to start afresh there, resync="full" to send every row there, or '
            'resync="baseline" if Iterable holds the rows there already; or restore the former destination.'
        )
    return not differing


MAPPING_CHANGED = "the mapping changed, so rows whose payload differs go again"
