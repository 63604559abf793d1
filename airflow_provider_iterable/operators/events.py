"""The event sync as an Airflow operator."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.mapping import Constant, Fields
from airflow_provider_iterable.operators.forms import FIELDS, OPTIONAL_TEXT, with_forms
from airflow_provider_iterable.operators.keywords import PeopleKeywords
from airflow_provider_iterable.operators.people import IterablePeopleOperator
from airflow_provider_iterable.runs.events import EventRun
from airflow_provider_iterable.runs.run import SyncKind
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.syncs.event_options import EventOptions, EventType, check

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


@with_forms(event_name=OPTIONAL_TEXT, user_fields=FIELDS)
class IterableEventOperator(IterablePeopleOperator):
    """Track what a SQL model says that users did: each row once, when its key first appears.

    All parameters of :class:`~airflow_provider_iterable.operators.people.IterablePeopleOperator`, and:

    :param event_type: ``"custom"`` tracks custom events, in bulk; ``"purchase"`` tracks purchases; ``"cart"`` replaces
        shopping carts, which Iterable tracks as events named ``updateCart``
    :param event_name: the name of all custom events (templated)
    :param event_name_column: instead of it, the column with their names
    :param event_id_column: the column with an ID by which Iterable knows an event, or a purchase, again; a changed row
        then overwrites what it sent before. Those of custom events have letters, digits and dashes; at most 512 bytes
    :param timestamp_column: the column with the time at which it happened: a date-time, a date, ISO text, or a number
        of seconds or milliseconds; where it is empty, Iterable uses the time of arrival
    :param items_column: the column with the items of a purchase or cart: JSON text, an array of objects or structs
    :param total_column: the column with a purchase's amount
    :param user_fields: profile fields that ride along with a purchase or cart, as ``fields`` are given; default: none
    :param campaign_id_column: the column with the ID of the campaign that it is attributed to
    :param template_id_column: the column with the ID of the template that it is attributed to
    :param derive_ids: where no ID is mapped, make one from ``sync_id`` and the row's key, so that nothing is counted
        twice after a lost answer, a killed worker or a restored state
    :param retry_unsafe: whether events without any ID go again after a lost answer, at the risk of being there twice
    :param create_new_fields: whether Iterable creates unknown fields; default: as the project's setting says
    :raises ConfigurationError: when the DAG is parsed: parameters that make no sense together, or ``XComState`` for
        carts and for events without any ID
    """

    sync_type = "events"
    changes_requests = ("retry_unsafe", "create_new_fields")
    template_fields: Sequence[str] = (*IterablePeopleOperator.template_fields, "event_name")

    def __init__(
        self,
        *,
        event_type: EventType = "custom",
        event_name: str | None = None,
        event_name_column: str | None = None,
        event_id_column: str | None = None,
        timestamp_column: str | None = None,
        items_column: str | None = None,
        total_column: str | None = None,
        user_fields: Fields | None = None,
        campaign_id_column: str | None = None,
        template_id_column: str | None = None,
        derive_ids: bool = True,
        retry_unsafe: bool = False,
        create_new_fields: bool | None = None,
        **kwargs: Unpack[PeopleKeywords],
    ) -> None:
        self.event_type: EventType = event_type
        self.event_name, self.event_name_column = event_name, event_name_column
        self.event_id_column, self.timestamp_column = event_id_column, timestamp_column
        self.items_column, self.total_column, self.user_fields = items_column, total_column, user_fields
        self.campaign_id_column, self.template_id_column = campaign_id_column, template_id_column
        self.derive_ids, self.retry_unsafe, self.create_new_fields = derive_ids, retry_unsafe, create_new_fields
        super().__init__(**kwargs)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        options = self._named_options()
        check(options, self._has("fields"), self.user_fields)
        self._check_state(options.harm)

    def _named_options(self) -> EventOptions:
        """Return the options without what the connection says."""
        return self._options(EventOptions, match="email", identifier_column="", project_type=None)

    def destination(self, hook: IterableHook) -> dict[str, Any]:
        """Return host, sync type, event type and matching identifier."""
        return {"host": hook.host, "type": "events", "event_type": self.event_type, "match": self.match(hook)}

    def kind(self, hook: IterableHook) -> SyncKind:
        """Return the event sync for one run."""
        options, fields = self._options_for(EventOptions, hook), {} if self.event_type == "cart" else self.fields
        riding = [source for source in (self.user_fields or {}).values() if not isinstance(source, Constant)]
        columns = [source if isinstance(source, str) else source.name for source in riding]
        mapper = self._mapper(fields, *options.columns, *columns, self.email_column, self.user_id_column)
        return EventRun(options, mapper, self._mapper(self.user_fields or {}), self.check_types)

    def _scope(self, context: Context, report: Report) -> Scope:
        scope = super()._scope(context, report)
        if self.event_id_column is None:
            return replace(scope, mapping="")  # whatever is mapped, no row goes again for it
        riding = sorted((name, repr(source)) for name, source in (self.user_fields or {}).items())
        more = repr((scope.mapping, riding, self.event_name, self._named_options().columns))
        return replace(scope, mapping=hashlib.sha256(more.encode()).hexdigest()[:32])
