"""The list sync as an Airflow operator."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Unpack

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.operators.forms import COLUMNS, DESCRIPTION, LIST_ID, OPTIONAL_TEXT, with_forms
from airflow_provider_iterable.operators.keywords import PeopleRowKeywords
from airflow_provider_iterable.operators.people import IterablePeopleOperator
from airflow_provider_iterable.runs.lists import ListChoice, ListRun
from airflow_provider_iterable.runs.run import SyncKind
from airflow_provider_iterable.syncs.lists import ListOptions


@with_forms(primary_key=COLUMNS, list_id=LIST_ID, list_name=OPTIONAL_TEXT, list_description=DESCRIPTION)
class IterableListOperator(IterablePeopleOperator):
    """Keep the members of a static list at Iterable equal to a SQL model: only the differences are sent.

    A member is an identifier. Who is in the model is subscribed, who has left it is unsubscribed from the list, and
    never from the list's channel. All parameters of
    :class:`~airflow_provider_iterable.operators.people.IterablePeopleOperator`, and:

    :param primary_key: optional here: names rows in the log, and the row of the greatest key speaks for a member
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
        *IterablePeopleOperator.template_fields,
        "list_id",
        "list_name",
        "list_description",
    )
    list_id: Any

    def __init__(
        self,
        *,
        primary_key: str | Sequence[str] = (),
        list_id: int | str | None = None,
        list_name: str | None = None,
        list_description: str | None = None,
        update_existing_users_only: bool = False,
        shared_list: bool = False,
        salvage: bool = False,
        **kwargs: Unpack[PeopleRowKeywords],
    ) -> None:
        self.list_id, self.list_name, self.list_description = list_id, list_name, list_description
        self.update_existing_users_only, self.shared_list = update_existing_users_only, shared_list
        self.salvage = salvage
        super().__init__(primary_key=primary_key, **kwargs)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self._has("list_id") and (self._has("list_name") or self._has("list_description")):
            raise ConfigurationError(
                "list_id names a list that exists: leave out list_name and list_description, or leave out list_id."
            )

    def name_of_list(self) -> str:
        """Return the list's name: the one given, else the model's, else the task's."""
        if self.list_name is not None:
            return self.list_name
        return self.model_name() or self.task_id

    def destination(self, hook: IterableHook) -> dict[str, Any]:
        """Return host, sync type, list, by the ID or the name that was given, and matching identifier."""
        chosen: int | str = self.name_of_list() if self.list_id is None else self.list_id
        return {"host": hook.host, "type": "lists", "list": chosen, "match": self.match(hook)}

    def kind(self, hook: IterableHook) -> SyncKind:
        """Return the list sync for one run."""
        chosen = ListChoice(self.list_id, self.name_of_list(), self.list_description, self.shared_list)
        options, mapper = self._options_for(ListOptions, hook), self._mapper(self.fields or {})
        return ListRun(options, chosen, mapper, check_types=bool(self.check_types and self.fields))

    def identifying(self) -> Collection[int]:
        """The key is the member's identifier."""
        return (0,)
