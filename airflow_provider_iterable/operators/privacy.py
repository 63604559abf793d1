"""The privacy sync as an Airflow operator: the quota's ledger and the erasing state are tied in here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Unpack
from zoneinfo import ZoneInfo

from airflow_provider_iterable.engine.guards import Guards
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.operators.keywords import PeopleKeywords
from airflow_provider_iterable.operators.parameters import COUNT, FLAG, OPTIONAL_COLUMN, Form, choice
from airflow_provider_iterable.operators.people import IterablePeopleOperator
from airflow_provider_iterable.runs.privacy import PrivacyRun
from airflow_provider_iterable.runs.run import SyncKind
from airflow_provider_iterable.syncs.identity import Match
from airflow_provider_iterable.syncs.privacy import Action, PrivacyOptions, check

if TYPE_CHECKING:
    pass


class IterablePrivacyOperator(IterablePeopleOperator):
    """Delete, forget or unforget at Iterable everybody whom a SQL model asks for, once for each row.

    All parameters of :class:`~airflow_provider_iterable.operators.people.IterablePeopleOperator` but ``fields``, and:

    :param action: ``"delete"`` profiles; ``"forget"`` people, so that Iterable takes no more data about them; or
        ``"unforget"`` them
    :param requested_at_column: the column that says which request comes first where not all can be met in one run;
        default: the model's order
    :param max_actions: most requests acted on in one run; the others wait for a later one (templated)
    :param allow_shared_user_id: lets ``action="delete"`` by user ID run where several profiles may have one ID
    """

    sync_type = "privacy"
    changes_requests = ("requested_at_column", "max_actions")
    template_fields: Sequence[str] = (*IterablePeopleOperator.template_fields, "max_actions")
    forms: ClassVar[Mapping[str, Form]] = {
        **IterablePeopleOperator.forms,
        "action": choice(Action),
        "requested_at_column": OPTIONAL_COLUMN,
        "max_actions": COUNT,
        "allow_shared_user_id": FLAG,
    }
    max_actions: Any

    def __init__(
        self,
        *,
        action: Action,
        requested_at_column: str | None = None,
        max_actions: int | str | None = None,
        allow_shared_user_id: bool = False,
        **kwargs: Unpack[PeopleKeywords],
    ) -> None:
        self.action: Action = action
        self.requested_at_column, self.max_actions = requested_at_column, max_actions
        self.allow_shared_user_id = allow_shared_user_id
        super().__init__(**kwargs)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.state.tables is None:
            raise ConfigurationError(
                f"A privacy sync keeps the ledger of Iterable's daily quota, and erases people, in tables; "
                f"{type(self.state).__name__} has none. Use state=TableState()."
            )
        if self._has("fields"):
            raise ConfigurationError("A privacy sync sends an identifier and nothing else: leave fields out.")
        match = self.certain_match()
        # What depends on the project type is checked once the connection can be read.
        check(self._options(match or "email", "hybrid"))

    def needs_table_state(self) -> str | None:
        """Return why tables are needed."""
        return "a privacy sync keeps the ledger of Iterable's daily quota, and erases people, in tables"

    def cannot_resend(self, hook: IterableHook) -> str | None:
        """Return why requests do not go again."""
        return "each request is acted on once, and the daily quota counts them"

    def _options(self, match: Match, project_type: str | None, most: int | None = None) -> PrivacyOptions:
        return PrivacyOptions(
            primary_key=self.primary_key,
            action=self.action,
            match=match,
            column=self.identifier_column(match),
            requested_at_column=self.requested_at_column,
            max_actions=most,
            zone=ZoneInfo(self.timezone),
            project_type=project_type,
            allow_shared_user_id=self.allow_shared_user_id,
        )

    def destination(self, hook: IterableHook) -> dict[str, Any]:
        """Return host, sync type, action and matching identifier."""
        return {"host": hook.host, "type": "privacy", "action": self.action, "match": self.match(hook)}

    def identifying(self) -> Collection[int]:
        """Nothing in a key identifies anybody: it is a hash."""
        return ()

    def guards(self, hook: IterableHook) -> Guards:
        """Return no guards: a request that leaves the model costs nothing, and none may have been made."""
        return Guards(allow_empty=True, max_removed=None)

    def kind(self, hook: IterableHook) -> SyncKind:
        """Return the privacy sync for one run.

        :raises ConfigurationError: the project cannot do it
        """
        options = self._options(self.match(hook), hook.project_type, self.max_actions)
        check(options)
        return PrivacyRun(options, hook)
