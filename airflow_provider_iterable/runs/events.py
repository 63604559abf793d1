"""An event sync in one run."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from itertools import islice

import msgspec

from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.runs.fields import EVENTS_NOTE
from airflow_provider_iterable.runs.run import Run, SyncKind
from airflow_provider_iterable.syncs.event_options import EventOptions
from airflow_provider_iterable.syncs.events import Events

log = logger(__name__)

MOST_NAMES = 500
"""Names of events that are noted; events with others count as not sent before."""
_PLAIN = re.compile(r"[\w $:/.-]*", re.ASCII).fullmatch
"""What a path looks like that may be noted; where the keys of an object are data, they may name people."""


class EventRun(SyncKind):
    """An event sync in one run.

    :param mapper: the fields of the event
    :param user_mapper: the profile fields that ride along
    :param check_types: whether values are compared with Iterable's field types, as far as these are known
    """

    outlook = (
        "Which fields events have is not to be asked: once an answer about newer events shows that they are there, "
        "the next run sends the rows that carry them again. create_new_fields=True has them created by the next "
        "run; a field that is not wanted there is left out of fields."
    )

    def __init__(self, options: EventOptions, mapper: Mapper, user_mapper: Mapper, check_types: bool) -> None:
        self._options, self._mapper, self._user_mapper, self.checks_types = options, mapper, user_mapper, check_types
        self.harm = options.harm

    def build(self, run: Run, columns: Sequence[str]) -> Events:
        """Return the event sync bound to the model's columns."""
        events = Events(self._options, self._mapper, self._user_mapper, columns)
        log.info("Users are matched by %s; way: %s.", self._options.match, events.way)
        return events

    def learn(self, run: Run, sync: Sync) -> None:
        """Learn the types of Iterable's profile fields, and those of event fields that earlier runs learned."""
        if not self.checks_types or not isinstance(sync, Events):
            return
        if self._user_mapper.names or self._options.event_type == "cart":
            run.learn_profile_types(sync, self._options.create_new_fields is not False)
        known = _known(run.session.notes.get(EVENTS_NOTE))
        if run.report.resync == "full":
            known = {name: {} for name in known}
        sync.take_up(known, sync.unproven)

    def note(self, run: Run, sync: Sync) -> None:
        """Note which events were sent, and the types that Iterable told of their fields."""
        if not isinstance(sync, Events):
            return
        known = {
            **{name: {} for name in sorted(sync.names)},
            **_known(run.session.notes.get(EVENTS_NOTE)),
            **sync.known,
        }
        types = (
            (name, {path: kind for path, kind in found.items() if _PLAIN(path)})
            for name, found in known.items()
            if "@" not in name
        )
        run.session.notes[EVENTS_NOTE] = json.dumps(dict(islice(types, MOST_NAMES)))

    def existing_fields(self, run: Run, fields: Collection[str]) -> Collection[str]:
        """Return all fields, if Iterable is to create them: of events it shows none."""
        return fields if self._options.create_new_fields else ()


def _known(text: str | None) -> dict[str, dict[str, str]]:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, dict[str, str]])
    except msgspec.MsgspecError:
        return {}
