"""The privacy sync as an Airflow operator."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Unpack

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.operators.forms import COUNT, with_forms
from airflow_provider_iterable.operators.keywords import PeopleKeywords
from airflow_provider_iterable.operators.people import IterablePeopleOperator
from airflow_provider_iterable.runs.privacy import PrivacyRun
from airflow_provider_iterable.runs.run import SyncKind
from airflow_provider_iterable.syncs.privacy import Action, PrivacyOptions


@with_forms(max_actions=COUNT)
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
        self.action, self.requested_at_column = action, requested_at_column
        self.max_actions, self.allow_shared_user_id = max_actions, allow_shared_user_id
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
        # What depends on the project type is checked once the connection can be read.
        known = {"match": self.certain_match() or "email", "identifier_column": "", "project_type": "hybrid"}
        self._options(PrivacyOptions, **known)

    def destination(self, hook: IterableHook) -> dict[str, Any]:
        """Return host, sync type, action and matching identifier."""
        return {"host": hook.host, "type": "privacy", "action": self.action, "match": self.match(hook)}

    def identifying(self) -> Collection[int]:
        """Nothing in a key identifies anybody: it is a hash."""
        return ()

    def kind(self, hook: IterableHook) -> SyncKind:
        """Return the privacy sync for one run.

        :raises ConfigurationError: the project cannot do it
        """
        return PrivacyRun(self._options_for(PrivacyOptions, hook), hook)
