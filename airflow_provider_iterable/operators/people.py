"""Parameters that say who a row is about, and which identifier selects the profile; shared by all but catalogs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.operators.base import Chosen, IterableModelOperator
from airflow_provider_iterable.operators.forms import with_forms
from airflow_provider_iterable.syncs.identity import Match, matching


@with_forms()
class IterablePeopleOperator(IterableModelOperator):
    """Brings a model whose rows are about people to Iterable.

    :param email_column: the column with the email address
    :param user_id_column: the column with the user ID
    :param match_by: ``"email"`` or ``"user_id"``; default: the only one mapped, else what the project type uses
    """

    def __init__(
        self,
        *,
        email_column: str | None = None,
        user_id_column: str | None = None,
        match_by: Match | None = None,
        **kwargs: Any,
    ) -> None:
        self.email_column, self.user_id_column, self.match_by = email_column, user_id_column, match_by
        super().__init__(**kwargs)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self.certain_match()

    def certain_match(self) -> Match | None:
        """Return the identifier that selects the profile; ``None``: it depends on the project type.

        :raises ConfigurationError: whatever the project type, the columns and the choice do not fit
        """
        if self.email_column and self.user_id_column and self.match_by is None:
            return None
        return matching(self.match_by, self.email_column, self.user_id_column, None)

    def match(self, hook: IterableHook) -> Match:
        """Return the identifier that selects the profile.

        :raises ConfigurationError: the project type does not allow it, or is not set and would decide
        """
        return matching(self.match_by, self.email_column, self.user_id_column, hook.project_type)

    def _options_for(self, kind: type[Chosen], hook: IterableHook, **given: Any) -> Chosen:
        """Return the options of a sync for one run, with whom a row is about and what the connection says.

        :raises ConfigurationError: the project type does not allow the identifier, or is not set and would decide
        """
        match = self.match(hook)
        column = self.email_column if match == "email" else self.user_id_column
        known = {"match": match, "identifier_column": column, "project_type": hook.project_type}
        return self._options(kind, **known, update_only=hook.update_only, **given)

    def identifying(self) -> Collection[int]:
        """Return which parts of the key are identifiers of people, to be masked wherever rows are named."""
        people = {column.lower() for column in self.identifier_columns() if column}
        return [number for number, column in enumerate(self.primary_key) if column.lower() in people]

    def identifier_columns(self) -> Collection[str | None]:
        """Return the columns that hold identifiers of people."""
        return (self.email_column, self.user_id_column)
