"""A user sync, or one of email changes, in one run."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.runs.run import Run, SyncKind
from airflow_provider_iterable.syncs.change_email import FIRES_ONCE, ChangeEmail, EmailChangeOptions
from airflow_provider_iterable.syncs.new_users import NewUsers
from airflow_provider_iterable.syncs.users import UserOptions, Users

log = logger(__name__)

CREATED_ONCE = 'With mode="create" a row is written once, so that it does not go again when they are there.'
"""What comes of fields that Iterable left out of those who were created."""


class UserRun(SyncKind):
    """A user sync in one run.

    :param mapper: the profile fields
    :param check_types: whether values are compared with Iterable's field types
    """

    outlook = (
        "Each run looks whether they are there by now, and if so sends the rows that carry them again. "
        "create_new_fields=True has them created by the next run; a field that is not wanted there is left out of "
        "fields."
    )

    def __init__(self, options: UserOptions, mapper: Mapper, check_types: bool) -> None:
        if options.mode == "create":
            self.outlook = CREATED_ONCE
        self._options, self._mapper, self.checks_types = options, mapper, check_types

    def build(self, run: Run, columns: Sequence[str]) -> Users:
        """Return the user sync bound to the model's columns."""
        kind = NewUsers if self._options.mode == "create" else Users
        users = kind(self._options, self._mapper, columns)
        log.info("Users are matched by %s; way: %s.", self._options.match, users.way)
        if self._options.project_type is None:
            log.info(
                "The connection does not say the project type; with it, both identifiers could be mapped without "
                "match_by, and updates by user ID may be faster."
            )
        return users

    def learn(self, run: Run, sync: Sync) -> None:
        """Learn the types of Iterable's profile fields."""
        if self.checks_types and isinstance(sync, Users):
            run.learn_profile_types(sync, self._options.create_new_fields is not False)

    def existing_fields(self, run: Run, fields: Collection[str]) -> Collection[str]:
        """Return those of some fields that Iterable has by now, or is to create."""
        if self._options.mode == "create":
            return ()
        return fields if self._options.create_new_fields else run.existing_profile_fields(fields)


class EmailChangeRun(SyncKind):
    """A sync of email changes in one run."""

    def __init__(self, options: EmailChangeOptions) -> None:
        self._options = options
        self.harm = FIRES_ONCE if options.match == "email" else None

    def build(self, run: Run, columns: Sequence[str]) -> ChangeEmail:
        """Return the sync of email changes bound to the model's columns."""
        sync = ChangeEmail(self._options, columns)
        log.info("Users are matched by %s; way: %s.", self._options.match, sync.way)
        return sync
