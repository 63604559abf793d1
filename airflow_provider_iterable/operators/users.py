"""The user sync as an Airflow operator."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import Any, Literal, Unpack

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.mapping import spared_fields
from airflow_provider_iterable.operators.forms import COUNT, with_forms
from airflow_provider_iterable.operators.keywords import PeopleKeywords
from airflow_provider_iterable.operators.people import IterablePeopleOperator
from airflow_provider_iterable.runs.run import SyncKind
from airflow_provider_iterable.runs.users import EmailChangeRun, UserRun
from airflow_provider_iterable.syncs import only_if_empty
from airflow_provider_iterable.syncs.change_email import FIRES_ONCE, EmailChangeOptions
from airflow_provider_iterable.syncs.users import Mode, OnRemoved, Recheck, UserOptions


@with_forms(max_deletes=COUNT)
class IterableUserSyncOperator(IterablePeopleOperator):
    """Keep Iterable's user profiles equal to a SQL model: only the differences are sent.

    With ``mode="change_email"`` it moves profiles to other email addresses instead.

    All parameters of :class:`~airflow_provider_iterable.operators.people.IterablePeopleOperator`, and:

    :param mode: ``"upsert"`` creates unknown users; ``"update"`` skips them; ``"create"`` creates them and leaves known
        ones as they are; ``"change_email"`` gives known users the address in ``new_email_column``, and takes no
        parameter that is about profile fields or removals
    :param new_email_column: with ``mode="change_email"``: the column with the address the profile is to have
    :param on_removed: what happens to a profile whose row has left the model: ``"keep"`` it, ``"clear"`` the mapped
        fields, ``"delete"`` it; with ``mode="create"`` only to one that the sync created
    :param merge_nested_objects: merge objects one level deep instead of replacing them; default: on when a dotted
        field name is mapped
    :param create_new_fields: whether Iterable creates unknown fields; default: as the project's setting says
    :param recheck_known_users: in update mode, ``"never"`` spares look-ups of users that the state knows, at the
        risk of creating one again that was deleted at Iterable
    :param max_deletes: most profiles deleted in one run; ``None``: no limit (templated)
    :param salvage: send a record without the fields whose values have the wrong type, instead of rejecting the row;
        it is counted as accepted and as ``partial``
    :param allow_shared_user_id: lets ``on_removed="delete"`` by user ID run where several profiles may have one ID
    """

    sync_type = "users"
    looks_up_profiles = True
    changes_requests = (
        "mode",
        "on_removed",
        "merge_nested_objects",
        "create_new_fields",
        "recheck_known_users",
        "salvage",
    )
    template_fields: Sequence[str] = (*IterablePeopleOperator.template_fields, "max_deletes")

    def __init__(
        self,
        *,
        mode: Mode | Literal["change_email"] = "upsert",
        new_email_column: str | None = None,
        on_removed: OnRemoved = "keep",
        merge_nested_objects: bool | None = None,
        create_new_fields: bool | None = None,
        recheck_known_users: Recheck = "always",
        max_deletes: int | str | None = 1000,
        allow_shared_user_id: bool = False,
        salvage: bool = False,
        **kwargs: Unpack[PeopleKeywords],
    ) -> None:
        self.mode, self.on_removed, self.new_email_column = mode, on_removed, new_email_column
        self.merge_nested_objects, self.create_new_fields = merge_nested_objects, create_new_fields
        self.recheck_known_users, self.max_deletes = recheck_known_users, max_deletes
        self.allow_shared_user_id, self.salvage = allow_shared_user_id, salvage
        super().__init__(**kwargs)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if (self.mode == "change_email") is not bool(self.new_email_column):
            raise ConfigurationError('mode="change_email" and new_email_column go together: set both or neither.')
        if self.mode != "change_email":
            spared = spared_fields(self._mapping("fields"))
            only_if_empty.check(spared, self.mode, self.merge_nested_objects, self.recheck_known_users)
        if self.mode == "change_email":
            self._check_state(FIRES_ONCE if self.certain_match() == "email" else None)
            meant = {*IterablePeopleOperator.forms, "mode", "new_email_column", "max_deletes"} - {"fields", "nulls"}
            defaults = inspect.getfullargspec(IterableUserSyncOperator).kwonlydefaults or {}
            own = [name for name in self.forms if name not in meant]
            out_of_place = [name for name in own if getattr(self, name) != defaults[name]]
            if out_of_place:
                raise ConfigurationError(
                    f'mode="change_email" changes addresses and nothing else: leave out {", ".join(out_of_place)}. '
                    "Profile fields are synced by an operator of their own, after this one."
                )

    def destination(self, hook: IterableHook) -> dict[str, Any]:
        """Return host, sync type and matching identifier."""
        action = {"action": self.mode} if self.mode == "change_email" else {}
        return {"host": hook.host, "type": "users", **action, "match": self.match(hook)}

    def kind(self, hook: IterableHook) -> SyncKind:
        """Return the sync of users, or of their email changes, for one run."""
        if self.mode == "change_email":
            return EmailChangeRun(self._options_for(EmailChangeOptions, hook))
        mapper = self._mapper(self.fields, self.email_column, self.user_id_column)
        return UserRun(self._options_for(UserOptions, hook), mapper, self.check_types)

    def identifier_columns(self) -> Collection[str | None]:
        """Return the columns that hold identifiers of people."""
        return (*super().identifier_columns(), self.new_email_column)
