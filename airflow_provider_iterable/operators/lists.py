"""The list sync as an Airflow operator: finds or makes the list, and leaves the members to the sync."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.api.endpoints import MailingList
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.errors import ConfigurationError, WorthRetrying
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.operators.parameters import (
    COLUMNS,
    DESCRIPTION,
    FLAG,
    LIST_ID,
    OPTIONAL_COLUMN,
    OPTIONAL_TEXT,
    Form,
    choice,
)
from airflow_provider_iterable.state.scope import Header, Session
from airflow_provider_iterable.state.table import TableSession
from airflow_provider_iterable.syncs.identity import Match, matching
from airflow_provider_iterable.syncs.lists import ListOptions, Lists

clock: Callable[[], float] = time.time

log = logger(__name__)

FRESH_SECONDS = 300.0
"""How long a list that was just made may refuse members before it counts as gone."""
LOOKS = (1.0, 2.0, 4.0)
"""Waits, in seconds, before each look for a list that may have been made by a request without an answer."""
NUMBER, MADE, SHARED = "list_id", "list_created", "shared_list"
"""Notes: the list's ID, when the sync made it, and whether other syncs may use it too."""


class IterableListOperator(IterableModelOperator):
    """Keep the members of a static list at Iterable equal to a SQL model: only the differences are sent.

    A member is an identifier. Who is in the model is subscribed, who has left it is unsubscribed from the list, and
    never from the list's channel. All parameters of
    :class:`~airflow_provider_iterable.operators.base.IterableModelOperator`, and:

    :param primary_key: optional here: names rows in the log, and the row of the greatest key speaks for a member
    :param email_column: the column with the email address
    :param user_id_column: the column with the user ID
    :param match_by: ``"email"`` or ``"user_id"``; default: the only one mapped, else what the project type uses
    :param list_id: the ID of a list that exists (templated)
    :param list_name: the name of a list, which is created when it is missing; default: the name of the ``.sql`` file
        without its ending, the table's name, or the task's ID (templated)
    :param list_description: the description of a list that is created (templated)
    :param fields: profile fields that ride along; default: none (what they come from is templated)
    :param update_existing_users_only: skip users whom Iterable does not know, instead of creating them
    :param shared_list: lets several syncs of the same state tables fill one list
    :param salvage: send a record without the fields whose values have the wrong type, instead of rejecting the row;
        it is counted as accepted and as ``partial``
    """

    sync_type = "lists"
    changes_requests = ("list_description", "update_existing_users_only", "salvage")
    template_fields: Sequence[str] = (
        *IterableModelOperator.template_fields,
        "list_id",
        "list_name",
        "list_description",
    )
    forms: ClassVar[Mapping[str, Form]] = {
        **IterableModelOperator.forms,
        "primary_key": COLUMNS,
        "email_column": OPTIONAL_COLUMN,
        "user_id_column": OPTIONAL_COLUMN,
        "match_by": choice(Match, optional=True),
        "list_id": LIST_ID,
        "list_name": OPTIONAL_TEXT,
        "list_description": DESCRIPTION,
        "update_existing_users_only": FLAG,
        "shared_list": FLAG,
        "salvage": FLAG,
    }
    list_id: Any

    def __init__(
        self,
        *,
        primary_key: str | Sequence[str] = (),
        email_column: str | None = None,
        user_id_column: str | None = None,
        match_by: Match | None = None,
        list_id: int | str | None = None,
        list_name: str | None = None,
        list_description: str | None = None,
        update_existing_users_only: bool = False,
        shared_list: bool = False,
        salvage: bool = False,
        **kwargs: Any,
    ) -> None:
        self.email_column, self.user_id_column, self.match_by = email_column, user_id_column, match_by
        self.list_id, self.list_name, self.list_description = list_id, list_name, list_description
        self.update_existing_users_only, self.shared_list = update_existing_users_only, shared_list
        self.salvage = salvage
        super().__init__(primary_key=primary_key, **kwargs)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not (self.email_column and self.user_id_column and self.match_by is None):
            matching(self.match_by, self.email_column, self.user_id_column, None)
        if self._has("list_id") and (self._has("list_name") or self._has("list_description")):
            raise ConfigurationError(
                "list_id names a list that exists: leave out list_name and list_description, or leave out list_id."
            )

    def _match(self, hook: IterableHook) -> Match:
        return matching(self.match_by, self.email_column, self.user_id_column, hook.project_type)

    def name_of_list(self) -> str:
        """Return the list's name: the one given, else the model's, else the task's."""
        if self.list_name is not None:
            return self.list_name
        return self.model_name() or self.task_id

    def destination(self, hook: IterableHook) -> dict[str, Any]:
        """Return host, sync type, list and matching identifier. The list is told as it was asked for: by ID or name."""
        chosen: int | str = self.name_of_list() if self.list_id is None else self.list_id
        return {"host": hook.host, "type": "lists", "list": chosen, "match": self._match(hook)}

    @property
    def _remembered(self) -> Session:
        assert self._session is not None
        return self._session

    def build_sync(self, hook: IterableHook, columns: Sequence[str]) -> Sync:
        """Return the list sync bound to the model's columns; a list that is known already is looked at here."""
        noted = self._remembered.notes.get(NUMBER)
        target = MailingList(self.list_id or (int(noted) if noted else None))
        if target.number is not None:
            self._refuse_to_share(hook, target.number)
        options = ListOptions(
            match=self._match(hook),
            primary_key=self.primary_key,
            email_column=self.email_column,
            user_id_column=self.user_id_column,
            project_type=hook.project_type,
            existing_only=self.update_existing_users_only,
            salvage=self.salvage,
        )
        members = Lists(options, Mapper(self.fields or {}, self.nulls, ZoneInfo(self.timezone)), columns, target)
        log.info("Members are matched by %s; way: %s.", options.match, members.way)
        return members

    def _prepare(self, hook: IterableHook, client: Client, sync: Sync) -> Callable[[], None] | None:
        assert isinstance(sync, Lists)
        members = sync

        def prepare() -> None:
            target, session = members.target, self._remembered
            # Of several partitions, one creates the list.
            with session.alone() if isinstance(session, TableSession) else nullcontext():
                if target.number is None:
                    target.number = self._known_to_siblings() or self._find_or_create(hook, client)
                self._remember(target)
            if self.check_types and self.fields:
                try:
                    members.learn_types(self._profile_fields(hook, client))
                except WorthRetrying as error:
                    log.warning("Values are sent without comparing them with Iterable's field types: %s", error)

        return prepare

    def _known_to_siblings(self) -> int | None:
        """Return the ID of the list that another partition of the sync has found or made."""
        session = self._remembered
        for header in session.siblings() if isinstance(session, TableSession) else ():
            if NUMBER in header.notes:
                if MADE in header.notes:
                    session.note(MADE, header.notes[MADE])
                return int(header.notes[NUMBER])
        return None

    def _find_or_create(self, hook: IterableHook, client: Client) -> int:
        """Return the ID of the list of that name. It is looked for before each creation, so that none is a twin."""
        name = self.name_of_list()
        found = self._look_up(hook, client, name)
        if found is not None:
            log.info("The list %r has the ID %d.", name, found)
            return found
        made = hook.create_list(client, name, self.list_description)
        for seconds in LOOKS if made is None else ():
            client.pause(seconds)
            made = self._look_up(hook, client, name)
            if made is not None:
                break
        if made is None:
            raise WorthRetrying(
                f"Iterable gave no usable answer to the creation of the list {name!r}, and does not show it yet. No "
                "member was sent. The next try looks for it once more before it creates it."
            )
        self._remembered.note(MADE, str(clock()))
        log.info("The list %r was created with the ID %d.", name, made)
        return made

    def _look_up(self, hook: IterableHook, client: Client, name: str) -> int | None:
        found = hook.get_lists(client, name)
        if len(found) > 1:
            raise ConfigurationError(
                f"Several lists have the name {name!r}: {', '.join(map(str, found))}. No member was sent. Set list_id "
                "to the one that is meant, or delete or rename the others at Iterable."
            )
        if found:
            self._refuse_to_share(hook, found[0])
        return found[0] if found else None

    def _remember(self, target: MailingList) -> None:
        session = self._remembered
        if self.list_id is None and NUMBER not in session.notes:
            session.note(NUMBER, str(target.number))
        if self.shared_list is not (session.notes.get(SHARED) == "true"):
            session.note(SHARED, "true" if self.shared_list else "false")
        if MADE in session.notes and not session.remembered:
            until = float(session.notes[MADE]) + FRESH_SECONDS
            target.fresh = lambda: clock() < until

    def _refuse_to_share(self, hook: IterableHook, number: int) -> None:
        """Refuse a list that another sync fills: each would unsubscribe members whom the other still wants."""
        for sync_id, header in {} if self.shared_list else self._remembered.others().items():
            if _fills(header, hook.host, number) and header.notes.get(SHARED) != "true":
                raise ConfigurationError(
                    f"List {number} is filled by the sync {sync_id!r} already: a member who left one model would be "
                    "unsubscribed in spite of the other. Nothing was sent. Give this sync a list of its own, or set "
                    f"shared_list=True if that is as it should be. If the sync {sync_id!r} is no more, delete its rows "
                    "from the state tables."
                )

    def outlook(self) -> str:
        """Return how the sync learns of fields that Iterable left out, and what can be done."""
        return (
            "Each run looks whether they are there by now, and if so sends the rows that carry them again. A user sync "
            "with create_new_fields=True creates them; a field that is not wanted there is left out of fields."
        )

    def _there(self, hook: IterableHook, client: Client, fields: Collection[str]) -> Collection[str]:
        """Return those of some fields that Iterable has by now."""
        return self._having(hook, client, fields)

    def identifying(self) -> Collection[int]:
        """The key is the member's identifier."""
        return (0,)


def _fills(header: Header, host: str, number: int) -> bool:
    """Whether the sync of a header fills a list."""
    about = header.destination
    filled = about.get("list")
    if not isinstance(filled, int):
        filled = header.notes.get(NUMBER)
    return about.get("type") == "lists" and about.get("host") == host and str(filled) == str(number)
