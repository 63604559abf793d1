"""What a store is given about the run that it is opened for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_iterable.engine.resync import Resync
from airflow_provider_iterable.errors import DestinationChanged

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    from airflow_provider_iterable.sql.model import Model


RESYNC_NOTE = "resync"
"""Note that holds the run whose full resync has begun and not ended."""
LEFT_OUT_NOTE = "left_out"
"""Note that holds the fields that were left out of accepted rows, each with its status."""
MAPPING_CHANGED = "the mapping changed, so rows whose payload differs go again"


@dataclass(frozen=True)
class Holder:
    """A run, as the lease shows it to other runs of the same sync.

    :param instance: the task instance without its try; empty: unknown, so no other run is a try of the same
    :param attempt: the number of the try; of one task instance, a later try takes over from an earlier one at once
    :param label: the run's name in messages
    """

    instance: str = ""
    attempt: int = 1
    label: str = "a run without a name"


@dataclass(frozen=True)
class Part:
    """The partition of a sync that a run is about.

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
        """Return the ``sync_id`` of a partition's entries; by default of this one's."""
        name = self.name if name is None else name
        return f"{self.sync_id}[{name}]" if name else self.sync_id


@dataclass(frozen=True)
class Scope:
    """One sync's run, as its store sees it.

    :param sync_id: the sync's lasting name, with that of the partition, if it is one
    :param destination: what the state is about: host, sync type, match column; compared with the one remembered
    :param mapping: digest of the mapping; where it differs from the one remembered, rows go again
    :param model: the model, not opened yet; ``None`` where the store is not to see it
    :param hook: gives the SQL hook of a connection; ``None`` means the model's own
    :param pull: gives what the last completed run pushed, or ``None``
    :param resync: unless ``"changes"``, the state may be of another destination, and becomes that of the run's
    :param push: hands a text to Airflow, to be found by the next run's ``pull``
    :param holder: the run
    :param part: which part of the sync it is; ``None``: all of it
    :param reading: whether the store is only looked at: no lease is taken, and nothing is made or written
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
    reading: bool = False


def same_destination(scope: Scope, remembered: Mapping[str, Any]) -> bool:
    """Return whether state belongs to the run's destination; refuse it when not, unless the run resyncs it.

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
