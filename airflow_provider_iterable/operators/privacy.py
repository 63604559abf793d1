"""The privacy sync as an Airflow operator: the quota's ledger and the erasing state are tied in here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Unpack
from zoneinfo import ZoneInfo

from airflow_provider_iterable.engine.guards import Guards
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.operators.keywords import ModelKeywords
from airflow_provider_iterable.operators.parameters import COUNT, FLAG, OPTIONAL_COLUMN, Form, choice
from airflow_provider_iterable.runs.privacy import PrivacyRun
from airflow_provider_iterable.runs.run import Kind
from airflow_provider_iterable.state.table import TableState
from airflow_provider_iterable.syncs.identity import Match, matching
from airflow_provider_iterable.syncs.privacy import Action, PrivacyOptions, check

if TYPE_CHECKING:
    pass


class IterablePrivacyOperator(IterableModelOperator):
    """Delete, forget or unforget at Iterable everybody whom a SQL model asks for, once for each row.

    All parameters of :class:`~airflow_provider_iterable.operators.base.IterableModelOperator` but ``fields``, and:

    :param action: ``"delete"`` profiles; ``"forget"`` people, so that Iterable takes no more data about them; or
        ``"unforget"`` them
    :param email_column: the column with the email address
    :param user_id_column: the column with the user ID
    :param match_by: ``"email"`` or ``"user_id"``; default: the only one mapped, else what the project type uses
    :param requested_at_column: the column that says which request comes first where not all can be met in one run;
        default: the model's order
    :param max_actions: most requests acted on in one run; the others wait for a later one (templated)
    :param allow_shared_user_id: lets ``action="delete"`` by user ID run where several profiles may have one ID
    """

    sync_type = "privacy"
    changes_requests = ("requested_at_column", "max_actions")
    template_fields: Sequence[str] = (*IterableModelOperator.template_fields, "max_actions")
    forms: ClassVar[Mapping[str, Form]] = {
        **IterableModelOperator.forms,
        "action": choice(Action),
        "email_column": OPTIONAL_COLUMN,
        "user_id_column": OPTIONAL_COLUMN,
        "match_by": choice(Match, optional=True),
        "requested_at_column": OPTIONAL_COLUMN,
        "max_actions": COUNT,
        "allow_shared_user_id": FLAG,
    }
    max_actions: Any

    def __init__(
        self,
        *,
        action: Action,
        email_column: str | None = None,
        user_id_column: str | None = None,
        match_by: Match | None = None,
        requested_at_column: str | None = None,
        max_actions: int | str | None = None,
        allow_shared_user_id: bool = False,
        **kwargs: Unpack[ModelKeywords],
    ) -> None:
        self.action: Action = action
        self.email_column, self.user_id_column, self.match_by = email_column, user_id_column, match_by
        self.requested_at_column, self.max_actions = requested_at_column, max_actions
        self.allow_shared_user_id = allow_shared_user_id
        super().__init__(**kwargs)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not isinstance(self.state, TableState):
            raise ConfigurationError(
                f"A privacy sync keeps the ledger of Iterable's daily quota, and erases people, in tables; "
                f"{type(self.state).__name__} has none. Use state=TableState()."
            )
        if self._has("fields"):
            raise ConfigurationError("A privacy sync sends an identifier and nothing else: leave fields out.")
        match = self.match_by
        if not (self.email_column and self.user_id_column and match is None):
            match = matching(match, self.email_column, self.user_id_column, None)
        # What depends on the project type is checked once the connection can be read.
        check(self._options(match or "email", "hybrid"))

    def needs_table_state(self) -> str | None:
        """Return why tables are needed."""
        return "a privacy sync keeps the ledger of Iterable's daily quota, and erases people, in tables"

    def cannot_resend(self, hook: IterableHook) -> str | None:
        """Return why requests do not go again."""
        return "each request is acted on once, and the daily quota counts them"

    def _match(self, hook: IterableHook) -> Match:
        return matching(self.match_by, self.email_column, self.user_id_column, hook.project_type)

    def _options(self, match: Match, project_type: str | None, most: int | None = None) -> PrivacyOptions:
        return PrivacyOptions(
            primary_key=self.primary_key,
            action=self.action,
            match=match,
            column=(self.email_column if match == "email" else self.user_id_column) or "",
            requested_at_column=self.requested_at_column,
            max_actions=most,
            zone=ZoneInfo(self.timezone),
            project_type=project_type,
            allow_shared_user_id=self.allow_shared_user_id,
        )

    def destination(self, hook: IterableHook) -> dict[str, Any]:
        """Return host, sync type, action and matching identifier."""
        return {"host": hook.host, "type": "privacy", "action": self.action, "match": self._match(hook)}

    def identifying(self) -> Collection[int]:
        """Nothing in a key identifies anybody: it is a hash."""
        return ()

    def guards(self, hook: IterableHook) -> Guards:
        """Return no guards: a request that leaves the model costs nothing, and none may have been made."""
        return Guards(allow_empty=True, max_removed=None)

    def kind(self, hook: IterableHook) -> Kind:
        """Return the privacy sync for one run.

        :raises ConfigurationError: the project cannot do it
        """
        options = self._options(self._match(hook), hook.project_type, self.max_actions)
        check(options)
        return PrivacyRun(options, hook)
