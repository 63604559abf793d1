"""The privacy sync as an Airflow operator: the quota's ledger and the erasing state are tied in here."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar
from zoneinfo import ZoneInfo

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.engine.guards import Guards
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.vocabulary import Send
from airflow_provider_iterable.errors import ConfigurationError, StateUnavailable
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.operators.parameters import COUNT, FLAG, OPTIONAL_COLUMN, Form, choice
from airflow_provider_iterable.state.erasure import ErasingSession
from airflow_provider_iterable.state.ledger import Ledger, Quota, project_of
from airflow_provider_iterable.state.project import PROJECT_NOTE, Project
from airflow_provider_iterable.state.scope import Scope, Session
from airflow_provider_iterable.state.table import TableState
from airflow_provider_iterable.syncs.identity import Match, matching
from airflow_provider_iterable.syncs.privacy import Action, Privacy, PrivacyOptions, check

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

DAILY = 1000
"""Requests to forget, and as many to unforget, that Iterable takes from a project in 24 hours."""
clock = time.time


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
        **kwargs: Any,
    ) -> None:
        self.action: Action = action
        self.email_column, self.user_id_column, self.match_by = email_column, user_id_column, match_by
        self.requested_at_column, self.max_actions = requested_at_column, max_actions
        self.allow_shared_user_id = allow_shared_user_id
        super().__init__(**kwargs)
        self._erasing: ErasingSession | None = None
        self._ledger: Ledger | None = None
        self._quota: Quota | None = None

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

    def guards(self) -> Guards:
        """Return no guards: a request that leaves the model costs nothing, and none may have been made."""
        return Guards(allow_empty=True, max_removed=None)

    def build_sync(self, hook: IterableHook, columns: Sequence[str]) -> Sync:
        """Return the privacy sync bound to the model's columns."""
        return Privacy(self._options(self._match(hook), hook.project_type, self.max_actions), columns)

    def _run(self, context: Context, hook: IterableHook, client: Client, report: Report) -> None:
        check(self._options(self._match(hook), hook.project_type))
        try:
            super()._run(context, hook, client, report)
        finally:
            self._account(report)
            if self._ledger is not None:
                self._ledger.close()

    def _open_state(self, scope: Scope, hook: IterableHook) -> Session:
        store = self.state
        assert isinstance(store, TableState)
        assert scope.hook is not None
        self._erasing = ErasingSession(store, scope, scope.hook(store.conn_id), lifts=self.action == "unforget")
        if self.action != "delete":
            try:
                project = project_of(hook.host, hook.api_key)
                self._ledger = Ledger(store, scope.hook(store.conn_id), project, self.action, DAILY, clock)
            except BaseException:
                self._erasing.close()
                raise
        return self._erasing

    def _sender(self, client: Client) -> Send:
        if self._ledger is None:
            return client.send
        assert self._stop is not None
        self._quota = Quota(self._ledger, client.send, self._stop)
        return self._quota.send

    def _prepare(self, hook: IterableHook, client: Client, sync: Sync) -> Callable[[], None] | None:
        assert isinstance(sync, Privacy)
        privacy = sync

        def begin() -> None:
            assert self._session is not None
            project = Project.noted(self._session.notes.get(PROJECT_NOTE))
            name = None if project is None else project.counted_as(hook.host)
            if self._ledger is not None and name is not None:
                self._ledger.rename(name)
            privacy.begin(None if self._quota is None else self._quota.allowance())

        return begin

    def _account(self, report: Report) -> None:
        """Say in the report how many wait and until when, and what became of what other syncs remember."""
        waiting = report.reasons[Reason.QUOTA]
        if waiting and self._ledger is not None:
            report.notes.append(f"{waiting} requests wait for Iterable's quota of {DAILY} in 24 hours.")
            with suppress(StateUnavailable):  # what was done is done, whether or not the ledger can be read again
                first, last = (f"{moment:%Y-%m-%d %H:%M} UTC" for moment in self._ledger.waiting(waiting))
                report.notes[-1] += f" The first can go from {first} on, the last from {last} on."
        if report.reasons[Reason.MAX_ACTIONS]:
            report.notes.append(
                f"{report.reasons[Reason.MAX_ACTIONS]} requests wait for the next run: max_actions={self.max_actions}."
            )
        if self._erasing is not None and self._erasing.touched:
            done = "may go to Iterable again" if self.action == "unforget" else "became tombstones"
            report.notes.append(f"{self._erasing.touched} entries of other syncs in the same tables {done}.")
