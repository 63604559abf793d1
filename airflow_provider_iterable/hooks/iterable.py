"""Turns an Airflow connection into a client, and answers questions about the project for tasks of one's own."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from airflow_provider_iterable.api import questions
from airflow_provider_iterable.api.asking import ask
from airflow_provider_iterable.api.client import CallLog, Client, OnCall
from airflow_provider_iterable.api.project import trouble
from airflow_provider_iterable.api.shared_paces import SharedPaces
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks import form
from airflow_provider_iterable.hooks.connection import ConnectionHook
from airflow_provider_iterable.masking import logger

__all__ = ["IterableHook"]

log = logger(__name__)


class IterableHook(ConnectionHook):
    """Turns an Airflow connection into a :class:`~airflow_provider_iterable.api.client.Client`.

    The connection is of type ``iterable``; ``generic``, or none, will do, and any other type is refused. Its password
    is the API key (a server-side key). Its host, when given, replaces the data centre's: a whole URL, or a name with
    the connection's schema (default ``https``, on this machine ``http``) and port. Extra:
    ``data_center`` (``us``, ``eu``; default ``us``), ``project_type`` (``email``, ``user_id``, ``hybrid``; default
    unset), ``rate_share`` (above 0, at most 1; default 1), ``rates`` (requests per second by endpoint, such as
    ``{"POST /api/commerce/trackPurchase": 100}``, where they are others than Iterable documents), ``max_in_flight``
    (requests of a task that may be under way at once; default 64), ``shared_pace`` (whether tasks of one machine keep
    the rates together; default true), ``update_only`` (default false), ``project`` (a name for the project, by which
    states know it whatever the key; default unset), ``links`` (addresses of pages in Iterable's own web app, such as
    ``{"list": "https://.../{list_id}"}``; default: none) and ``allow_http``.

    :param iterable_conn_id: the connection's ID (default ``iterable_default``).
    """

    def get_conn(
        self,
        on_call: OnCall | None = None,
        share: float = 1.0,
        stopped: threading.Event | None = None,
        max_in_flight: int | None = None,
    ) -> Client:
        """Return a new client for the connection; nothing is called yet.

        :param on_call: called with each request that was sent, for a log; default: none.
        :param share: of the connection's ``rate_share``, for one of several clients at the same time.
        :param stopped: stops the client from outside, when it is set.
        :param max_in_flight: most requests under way at once; default: the connection's.
        :raises ConfigurationError: when a setting of the connection makes no sense.
        """
        # Nonsense is refused before the first call, not half way.
        _ = self.project_type, self.update_only, self.project
        return Client(
            self.host,
            self.api_key,
            rate_share=share * self.rate_share,
            rates=self.rates,
            max_in_flight=max_in_flight or self.max_in_flight,
            on_call=on_call,
            stopped=stopped,
            shared=SharedPaces(f"{self.host} {self.api_key}") if self.shared_pace else None,
        )

    def run(
        self,
        method: str,
        path: str,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        repeatable: bool | None = None,
    ) -> Any:
        """Send one request to any of Iterable's endpoints, and return the JSON of its answer (``None``: it is empty).

        It waits for its turn as operators do, and shares the endpoint's rate with them where ``shared_pace`` is on
        (10 a second for endpoints that are not known here). Logs and errors name the endpoint and Iterable's code,
        never what stands in the path, the query or a body.

        :param method: ``GET``, ``POST``, ``PUT``, ``PATCH`` or ``DELETE``
        :param path: such as ``/api/lists``; identifiers go into ``params``, or are quoted
        :param json: the body; ``None``: there is none
        :param params: the query: texts, numbers, truth values, or lists of them
        :param repeatable: whether it may be sent again, up to 5 times, after a 429, a 5xx or no answer; default: GET,
            PUT and DELETE may
        :raises ConfigurationError: the connection or the request makes no sense; nothing was sent
        :raises RequestRefused: Iterable refused it; ``status`` and ``code`` say how
        :raises RequestUnanswered: there was no usable answer; ``retry_after`` says when to ask again
        """
        return ask(self._client, method, path, json, params, repeatable)

    def lists(self) -> list[questions.ListInfo]:
        """Return all lists of the project, newest first: ``id``, ``name`` and ``type`` of each."""
        return questions.lists(self._client)

    def list_id(self, name: str) -> int | None:
        """Return the ID of the static list of a name; ``None``: there is none.

        :raises ConfigurationError: several lists have the name
        """
        return questions.list_id(self._client, name)

    def list_size(self, list_id: int) -> int:
        """Return how many members a list has; Iterable answers this 5 times a minute."""
        return questions.list_size(self._client, list_id)

    def catalogs(self) -> list[str]:
        """Return the names of all catalogs."""
        return questions.catalogs(self._client)

    def user_exists(self, *, email: str | None = None, user_id: str | None = None) -> bool:
        """Return whether the project has a user, by one of the two identifiers."""
        return questions.user_exists(self._client, email, user_id)

    def channels(self) -> list[questions.ChannelInfo]:
        """Return the message channels: ``id``, ``name``, ``type`` and ``medium`` of each."""
        return questions.channels(self._client)

    def message_types(self) -> list[questions.MessageTypeInfo]:
        """Return the message types: ``id``, ``name``, ``channel_id`` and ``subscription_policy`` of each."""
        return questions.message_types(self._client)

    def field_types(self) -> dict[str, str]:
        """Return the profile fields and their types, nested ones with dots; Iterable answers this 3 times a second."""
        return questions.field_types(self._client)

    @cached_property
    def _client(self) -> Client:
        """The client of the hook's own requests, which keeps connections and paces from one to the next."""
        client = self.get_conn(on_call=_note)
        weakref.finalize(self, client.close)
        return client

    def test_connection(self) -> tuple[bool, str]:
        """Call ``GET /api/channels`` and say what came of it, in words a person can act on."""
        try:
            _ = self.links  # which a sync does without
            with self.get_conn() as client:
                wrong = trouble(client)
                if wrong is None:
                    return True, f"Connected to {client.host}. {self._advice()}".strip()
                return False, wrong
        except ConfigurationError as error:
            return False, str(error)

    def _advice(self) -> str:
        told = []
        if strange := form.unknown(self.connection.extra_dejson):
            told.append(f"Its extra has settings that mean nothing here: {strange}.")
        if not self.project_type:
            told.append(
                "The project type is not set: syncs behave safely for any type. Setting it lets a sync map both email "
                "and user ID without match_by, and refuses what the project cannot do before anything is sent."
            )
        return " ".join(told)

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's extra fields for Airflow before 3.2; later ones read the provider's metadata."""
        return form.widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form shows the standard fields, for Airflow before 3.2."""
        return form.behaviour()


def _note(call: CallLog) -> None:
    log.info("%s", call.line)
