"""An event sync in one run."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.runs.run import Run, SyncKind
from airflow_provider_iterable.syncs.event_options import EventOptions
from airflow_provider_iterable.syncs.events import Events

log = logger(__name__)


class EventRun(SyncKind):
    """An event sync in one run.

    :param mapper: the fields of the event
    :param user_mapper: the profile fields that ride along
    :param check_types: whether the user's fields are compared with Iterable's field types
    """

    outlook = (
        "Which fields events have is not to be asked: once an answer about newer events shows that they are there, "
        "the next run sends the rows that carry them again. create_new_fields=True has them created by the next "
        "run; a field that is not wanted there is left out of fields."
    )

    def __init__(self, options: EventOptions, mapper: Mapper, user_mapper: Mapper, check_types: bool) -> None:
        self._options, self._mapper, self._user_mapper, self._check_types = options, mapper, user_mapper, check_types
        self.harm = options.harm

    def build(self, run: Run, columns: Sequence[str]) -> Events:
        """Return the event sync bound to the model's columns."""
        events = Events(self._options, self._mapper, self._user_mapper, columns)
        log.info("Users are matched by %s; way: %s.", self._options.match, events.way)
        return events

    def prepare(self, run: Run, sync: Sync) -> None:
        """Learn the types of Iterable's profile fields."""
        if self._check_types and isinstance(sync, Events):
            run.learn_profile_types(sync, self._options.create_new_fields is not False)

    def existing_fields(self, run: Run, fields: Collection[str]) -> Collection[str]:
        """Return all fields, if Iterable is to create them: of events it shows none."""
        return fields if self._options.create_new_fields else ()
