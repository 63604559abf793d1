"""The user sync as an Airflow operator; boring on purpose."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal, Unpack
from zoneinfo import ZoneInfo

from airflow_provider_iterable.engine.guards import Guards
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.operators.keywords import PeopleKeywords
from airflow_provider_iterable.operators.parameters import COUNT, FLAG, OPTIONAL_COLUMN, OPTIONAL_FLAG, Form, choice
from airflow_provider_iterable.operators.people import IterablePeopleOperator
from airflow_provider_iterable.runs.run import SyncKind
from airflow_provider_iterable.runs.users import EmailChangeRun, UserRun
from airflow_provider_iterable.syncs.change_email import EmailChangeOptions
from airflow_provider_iterable.syncs.users import Mode, OnRemoved, Recheck, UserOptions

log = logger(__name__)

ONCE = 'mode="change_email" matched by email fires once for each key, and a failed try would forget that it did'

NOT_ABOUT_PROFILES = frozenset({"mode", "new_email_column", "max_deletes"})
"""Parameters of the user sync alone that may be given with ``mode="change_email"``; its others are about profiles."""


class IterableUserSyncOperator(IterablePeopleOperator):
    """Keep Iterable's user profiles equal to a SQL model: only the differences are sent.

    With ``mode="change_email"`` it moves profiles to other email addresses instead.

    All parameters of :class:`~airflow_provider_iterable.operators.people.IterablePeopleOperator`, and:

    :param mode: ``"upsert"`` creates unknown users; ``"update"`` skips them; ``"change_email"`` gives known users the
        address in ``new_email_column``, and takes no parameter that is about profile fields or removals
    :param new_email_column: with ``mode="change_email"``: the column with the address the profile is to have
    :param on_removed: what happens to a profile whose row has left the model: ``"keep"`` it, ``"clear"`` the mapped
        fields, ``"delete"`` it
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
    changes_requests = (
        "mode",
        "on_removed",
        "merge_nested_objects",
        "create_new_fields",
        "recheck_known_users",
        "salvage",
    )
    template_fields: Sequence[str] = (*IterablePeopleOperator.template_fields, "max_deletes")
    forms: ClassVar[Mapping[str, Form]] = {
        **IterablePeopleOperator.forms,
        "mode": choice(Mode, "change_email"),
        "new_email_column": OPTIONAL_COLUMN,
        "on_removed": choice(OnRemoved),
        "merge_nested_objects": OPTIONAL_FLAG,
        "create_new_fields": OPTIONAL_FLAG,
        "recheck_known_users": choice(Recheck),
        "max_deletes": COUNT,
        "allow_shared_user_id": FLAG,
        "salvage": FLAG,
    }
    max_deletes: Any

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
        if self.mode == "change_email":
            own = [name for name in IterableUserSyncOperator.forms if name not in IterablePeopleOperator.forms]
            about_profiles = ["fields", "nulls", *(name for name in own if name not in NOT_ABOUT_PROFILES)]
            known = inspect.signature(IterableUserSyncOperator).parameters
            out_of_place = [name for name in about_profiles if getattr(self, name) != known[name].default]
            if out_of_place:
                raise ConfigurationError(
                    f'mode="change_email" changes addresses and nothing else: leave out {", ".join(out_of_place)}. '
                    "Profile fields are synced by an operator of their own, after this one."
                )

    def destination(self, hook: IterableHook) -> dict[str, Any]:
        """Return host, sync type and matching identifier."""
        match = self.match(hook)
        if self.mode == "change_email":
            return {"host": hook.host, "type": "users", "action": self.mode, "match": match}
        return {"host": hook.host, "type": "users", "match": match}

    def needs_table_state(self) -> str | None:
        """Return why a change of email that fires once needs a table, if the match is certain already."""
        return ONCE if self.mode == "change_email" and self.certain_match() == "email" else None

    def cannot_resend(self, hook: IterableHook) -> str | None:
        """Return why changes of email by email must not be repeated."""
        once = self.mode == "change_email" and self.match(hook) == "email"
        return 'mode="change_email" matched by email fires once for each key' if once else None

    def guards(self, hook: IterableHook) -> Guards:
        """Return the guards; deletions have one of their own."""
        fires_once = self.mode == "change_email" and self.match(hook) == "email"
        return Guards(
            allow_empty=self.allow_empty or fires_once,
            max_removed=self.max_removed,
            max_deletes=self.max_deletes if self.on_removed == "delete" else None,
        )

    def kind(self, hook: IterableHook) -> SyncKind:
        """Return the sync of users, or of their email changes, for one run."""
        match = self.match(hook)
        if self.mode == "change_email":
            if match == "email" and not self.state.batchwise:
                raise ConfigurationError(f'{ONCE}. Use state=TableState() or state=TableState(conn_id="...").')
            return EmailChangeRun(
                EmailChangeOptions(
                    primary_key=self.primary_key,
                    match=match,
                    identifier_column=self.identifier_column(match),
                    new_email_column=str(self.new_email_column),
                    project_type=hook.project_type,
                )
            )
        options = UserOptions(
            primary_key=self.primary_key,
            match=match,
            email_column=self.email_column,
            user_id_column=self.user_id_column,
            mode=self.mode,
            on_removed=self.on_removed,
            project_type=hook.project_type,
            update_only=hook.update_only,
            merge_nested_objects=self.merge_nested_objects,
            create_new_fields=self.create_new_fields,
            recheck_known_users=self.recheck_known_users,
            allow_shared_user_id=self.allow_shared_user_id,
            salvage=self.salvage,
        )
        used = {*self.primary_key, self.email_column, self.user_id_column} - {None}
        mapper = Mapper(self.fields, self.nulls, ZoneInfo(self.timezone), frozenset(map(str, used)))
        return UserRun(options, mapper, self.check_types)

    def identifier_columns(self) -> Collection[str | None]:
        """Return the columns that hold identifiers of people."""
        return (*super().identifier_columns(), self.new_email_column)
