"""A list sync in one run: finds or makes the list, and notes its number."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat

from airflow_provider_iterable.api import project
from airflow_provider_iterable.api.endpoints import MailingList
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.errors import ConfigurationError, WorthRetrying
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.runs.run import Run, SyncKind
from airflow_provider_iterable.state.store import Header
from airflow_provider_iterable.syncs.lists import ListOptions, Lists

clock: Callable[[], float] = time.time

log = logger(__name__)

FRESH_SECONDS = 300.0
"""How long a list that was just made may refuse members before it counts as gone."""
LOOKS = 3
"""How often a list is looked for that may have been made by a request without an answer."""
NUMBER, MADE, SHARED = "list_id", "list_created", "shared_list"
"""Notes: the list's ID, when the sync made it, and whether other syncs may use it too."""


@dataclass(frozen=True)
class ListChoice:
    """Which list a sync fills.

    :param number: the ID of a list that exists; ``None``: the list has a name
    :param name: the name of the list, which is created when it is missing
    :param description: the description of a list that is created
    :param shared: whether several syncs of the same state tables may fill the list
    """

    number: int | None
    name: str
    description: str | None = None
    shared: bool = False


class ListRun(SyncKind):
    """A list sync in one run.

    :param mapper: the profile fields that ride along
    :param check_types: whether these are compared with Iterable's field types
    """

    outlook = (
        "Each run looks whether they are there by now, and if so sends the rows that carry them again. A user sync "
        "with create_new_fields=True creates them; a field that is not wanted there is left out of fields."
    )

    def __init__(self, options: ListOptions, chosen: ListChoice, mapper: Mapper, check_types: bool) -> None:
        self._options, self._chosen, self._mapper, self.checks_types = options, chosen, mapper, check_types
        self._target = MailingList(chosen.number)

    def build(self, run: Run, columns: Sequence[str]) -> Lists:
        """Return the list sync bound to the model's columns; a list that is known already is looked at here."""
        noted = run.session.notes.get(NUMBER)
        target = self._target = MailingList(self._chosen.number or (int(noted) if noted else None))
        if target.number is not None:
            self._refuse_to_share(run, target.number)
        members = Lists(self._options, self._mapper, columns, target)
        log.info("Members are matched by %s; way: %s.", self._options.match, members.way)
        return members

    def prepare(self, run: Run, sync: Sync) -> None:
        """Find or make the list, and learn the types of Iterable's profile fields."""
        assert isinstance(sync, Lists)
        target, session = sync.target, run.session
        # Of several partitions, one creates the list.
        with session.alone():
            if target.number is None:
                target.number = _known_to_siblings(run) or self._find_or_create(run)
            self._remember(run, target)
        self.learn(run, sync)

    def learn(self, run: Run, sync: Sync) -> None:
        """Learn the types of Iterable's profile fields."""
        if self.checks_types and isinstance(sync, Lists):
            run.learn_profile_types(sync)

    def filled(self) -> Mapping[str, object]:
        """Return the ID of the list, once it is known."""
        return {"list_id": self._target.number}

    def existing_fields(self, run: Run, fields: Collection[str]) -> Collection[str]:
        """Return those of some fields that Iterable has by now."""
        return run.existing_profile_fields(fields)

    def _find_or_create(self, run: Run) -> int:
        """Return the ID of the list of that name. It is looked for before each creation, so that none is a twin."""
        name = self._chosen.name
        found = self._look_up(run, name)
        if found is not None:
            log.info("The list %r has the ID %d.", name, found)
            return found
        create = partial(project.create_list, run.client, name, self._chosen.description)
        steps = chain([create], repeat(partial(self._look_up, run, name)))  # created once, then looked for
        made = project.tried(run.client, lambda: next(steps)(), lambda made: made is not None, tries=1 + LOOKS)
        if made is None:
            raise WorthRetrying(
                f"Iterable gave no usable answer to the creation of the list {name!r}, and does not show it yet. No "
                "member was sent. The next try looks for it once more before it creates it."
            )
        run.session.note(MADE, str(clock()))
        log.info("The list %r was created with the ID %d.", name, made)
        return made

    def _look_up(self, run: Run, name: str) -> int | None:
        found = project.get_lists(run.client, name)
        if len(found) > 1:
            raise ConfigurationError(
                f"Several lists have the name {name!r}: {', '.join(map(str, found))}. No member was sent. Set list_id "
                "to the one that is meant, or delete or rename the others at Iterable."
            )
        if found:
            self._refuse_to_share(run, found[0])
        return found[0] if found else None

    def _remember(self, run: Run, target: MailingList) -> None:
        session = run.session
        if self._chosen.number is None and NUMBER not in session.notes:
            session.note(NUMBER, str(target.number))
        if self._chosen.shared is not (session.notes.get(SHARED) == "true"):
            session.note(SHARED, "true" if self._chosen.shared else "false")
        if MADE in session.notes and not session.remembered:
            until = float(session.notes[MADE]) + FRESH_SECONDS
            target.fresh = lambda: clock() < until

    def _refuse_to_share(self, run: Run, number: int) -> None:
        """Refuse a list that another sync fills: each would unsubscribe members whom the other still wants."""
        for sync_id, header in {} if self._chosen.shared else run.session.others().items():
            if _fills(header, run.hook.host, number) and header.notes.get(SHARED) != "true":
                raise ConfigurationError(
                    f"List {number} is filled by the sync {sync_id!r} already: a member who left one model would be "
                    "unsubscribed in spite of the other. Nothing was sent. Give this sync a list of its own, or set "
                    f"shared_list=True if that is as it should be. If the sync {sync_id!r} is no more, delete its rows "
                    "from the state tables."
                )


def _known_to_siblings(run: Run) -> int | None:
    """Return the ID of the list that another partition of the sync has found or made."""
    session = run.session
    for header in session.siblings():
        if NUMBER in header.notes:
            if MADE in header.notes:
                session.note(MADE, header.notes[MADE])
            return int(header.notes[NUMBER])
    return None


def _fills(header: Header, host: str, number: int) -> bool:
    """Whether the sync of a header fills a list."""
    about = header.destination
    filled = about.get("list")
    if not isinstance(filled, int):
        filled = header.notes.get(NUMBER)
    return about.get("type") == "lists" and about.get("host") == host and str(filled) == str(number)
