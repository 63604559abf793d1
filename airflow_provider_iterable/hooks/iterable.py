"""Knows what an Airflow connection of type ``iterable`` means; refuses to know what is sent through it."""

from __future__ import annotations

import json
import re
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, cast, get_args
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_iterable.api import questions
from airflow_provider_iterable.api.asking import ask
from airflow_provider_iterable.api.client import MAX_IN_FLIGHT, CallLog, Client, OnCall
from airflow_provider_iterable.api.connections import is_loopback
from airflow_provider_iterable.api.endpoints import HOSTS, NAMES
from airflow_provider_iterable.api.project import trouble
from airflow_provider_iterable.api.shared_paces import SharedPaces
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks import form
from airflow_provider_iterable.masking import logger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

__all__ = ["IterableHook"]

log = logger(__name__)

ProjectType = Literal["email", "user_id", "hybrid"]
DataCenter = Literal["us", "eu"]

_OF_NO_SERVICE = ("iterable", "generic", "")
"""Connection types whose password may be an API key of Iterable: its own, and those that name no service."""
_LINKS = {"project": "", "list": "{list_id}", "catalog": "{catalog}"}
"""What a link may be about, and what is filled in."""


class IterableHook(BaseHook):
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

    conn_name_attr = "iterable_conn_id"
    default_conn_name = "iterable_default"
    conn_type = "iterable"
    hook_name = "Iterable"

    def __init__(self, iterable_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.iterable_conn_id = iterable_conn_id

    @cached_property
    def connection(self) -> Connection:
        """The Airflow connection, read once; its key is masked in logs from then on.

        :raises ConfigurationError: it is another service's, so its password is no API key.
        """
        connection = self.get_connection(self.iterable_conn_id)
        if connection.password:
            _mask(connection.password)
        kind = connection.conn_type or ""
        if kind not in _OF_NO_SERVICE:
            raise ConfigurationError(
                f"Connection {self.iterable_conn_id} is of type {kind!r}, so its password is no API key of Iterable: "
                "it was not used, and nothing was sent. Name a connection of type iterable, or correct its type."
            )
        if strange := form.unknown(connection.extra_dejson):
            log.warning("Connection %s: its extra has settings that mean nothing here: %s", connection.conn_id, strange)
        return connection

    @property
    def api_key(self) -> str:
        """The project's API key.

        :raises ConfigurationError: when the connection has none.
        """
        key = (self.connection.password or "").strip()
        if not key:
            raise ConfigurationError(
                f"Connection {self.iterable_conn_id} has no API key: put a server-side key of the Iterable project "
                "into its password field."
            )
        return key

    @property
    def data_center(self) -> DataCenter:
        """Where the project lives (default ``us``).

        :raises ConfigurationError: when it is neither ``us`` nor ``eu``.
        """
        return cast("DataCenter", self._choice("data_center", get_args(DataCenter)) or "us")

    @property
    def project_type(self) -> ProjectType | None:
        """What identifies users in the project; None when the connection does not say.

        :raises ConfigurationError: for an unknown type, and for an email-based project in the EU, which Iterable does
            not offer.
        """
        chosen = cast("ProjectType | None", self._choice("project_type", get_args(ProjectType)))
        if chosen == "email" and self.data_center == "eu":
            raise ConfigurationError(
                f"Connection {self.iterable_conn_id}: Iterable's European data centre has no email-based projects; "
                "set project_type to user_id or hybrid, or data_center to us."
            )
        return chosen

    @property
    def project(self) -> str:
        """What the connection calls the project; empty when it does not.

        :raises ConfigurationError: when it is no short text.
        """
        name = self._setting("project", "")
        if not isinstance(name, str) or len(name) > 100:
            raise ConfigurationError(
                f"Connection {self.iterable_conn_id}: project must be a text of at most 100 characters."
            )
        return name.strip()

    @property
    def update_only(self) -> bool:
        """Whether Iterable has switched on bulk updates that never create users (default false).

        :raises ConfigurationError: when the setting is not a boolean.
        """
        return self._flag("update_only")

    @property
    def shared_pace(self) -> bool:
        """Whether the tasks of one machine keep Iterable's rates together (default true).

        :raises ConfigurationError: when the setting is not a boolean.
        """
        return self._flag("shared_pace", True)

    @property
    def rate_share(self) -> float:
        """The share of each documented rate that one task may use (default 1).

        :raises ConfigurationError: when it is no number above 0 and at most 1.
        """
        value = self._setting("rate_share", 1.0)
        try:
            share = float(value)
        except (TypeError, ValueError):
            share = 0.0
        if isinstance(value, bool) or not 0 < share <= 1:
            raise ConfigurationError(
                f"Connection {self.iterable_conn_id}: rate_share must be a number above 0 and at most 1, not {value!r}."
            )
        return share

    @property
    def host(self) -> str:
        """The base URL of the API, without a slash at its end.

        :raises ConfigurationError: when the connection's host is no http(s) URL, or would carry the key unencrypted
            to another machine and ``allow_http`` is not set.
        """
        url = self._host_override() or HOSTS[self.data_center]
        if url.startswith("http://") and not is_loopback(url) and not self._flag("allow_http"):
            raise ConfigurationError(
                f"Connection {self.iterable_conn_id}: {url} would carry the API key unencrypted. Use https, or set "
                '"allow_http": true in extra if the way there is safe.'
            )
        return url

    @property
    def rates(self) -> Mapping[str, float]:
        """Requests per second by endpoint, such as ``POST /api/users/bulkUpdate``, where they are set (default: none).

        :raises ConfigurationError: when they are no such thing, or name no endpoint that is called.
        """
        value = self._setting("rates", {})
        with suppress(ValueError):  # a form has a text for it
            value = json.loads(value) if isinstance(value, str) else value
        if not isinstance(value, dict):
            raise ConfigurationError(
                f"Connection {self.iterable_conn_id}: rates must be an object of requests per second by endpoint, such "
                'as {"POST /api/commerce/trackPurchase": 100}.'
            )
        for name, rate in value.items():
            if name not in NAMES:
                raise ConfigurationError(
                    f"Connection {self.iterable_conn_id}: rates names {name!r}, which is none of the endpoints "
                    f"that are called: {', '.join(NAMES)}."
                )
            if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < float("inf"):
                raise ConfigurationError(
                    f"Connection {self.iterable_conn_id}: the rate of {name} must be a number above 0, not {rate!r}."
                )
        return value

    @property
    def links(self) -> Mapping[str, str]:
        """Addresses of the ``project``, a ``list`` and a ``catalog`` in Iterable's own web app (default: none).

        :raises ConfigurationError: when they are no http(s) URLs, or have other places to fill than the list's ID, as
            ``{list_id}``, and the catalog's name, as ``{catalog}``.
        """
        value = self._setting("links", {})
        with suppress(ValueError):  # a form has a text for it
            value = json.loads(value) if isinstance(value, str) else value
        if not isinstance(value, dict) or not value.keys() <= _LINKS.keys():
            raise ConfigurationError(
                f"Connection {self.iterable_conn_id}: links must be an object with addresses of project, list and "
                'catalog, such as {"list": "https://.../{list_id}"}.'
            )
        for name, url in value.items():
            rest = url.replace(_LINKS[name], "") if isinstance(url, str) and _LINKS[name] else url
            if not isinstance(rest, str) or not rest.startswith(("https://", "http://")) or re.search(r"[{}\s]", rest):
                places = f"with {_LINKS[name]} in it or nothing to fill" if _LINKS[name] else "with nothing to fill"
                raise ConfigurationError(
                    f"Connection {self.iterable_conn_id}: the link {name} must be an http(s) URL {places}."
                )
        return value

    @property
    def max_in_flight(self) -> int:
        """How many requests of a task may be under way at once (default 64).

        :raises ConfigurationError: when it is no whole number from 1 to 1000.
        """
        value = self._setting("max_in_flight", MAX_IN_FLIGHT)
        if isinstance(value, bool) or not str(value).isdecimal() or not 1 <= int(value) <= 1000:
            raise ConfigurationError(
                f"Connection {self.iterable_conn_id}: max_in_flight must be a number from 1 to 1000, not {value!r}."
            )
        return int(value)

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

    def _host_override(self) -> str:
        host, port = (self.connection.host or "").strip(), self.connection.port
        if not host:
            return ""
        try:
            return _base_url(host, self.connection.schema, port)
        except ValueError:
            raise ConfigurationError(
                f"Connection {self.iterable_conn_id}: the host must be a name or a URL such as {HOSTS['us']}, without "
                "user, password or '?'."
            ) from None

    def _setting(self, name: str, default: Any = None) -> Any:
        value = self.connection.extra_dejson.get(name)
        return default if value is None or value == "" else value

    def _choice(self, name: str, allowed: tuple[str, ...]) -> str | None:
        value = self._setting(name)
        if value is not None and value not in allowed:
            raise ConfigurationError(
                f"Connection {self.iterable_conn_id}: {name} must be one of {', '.join(allowed)}, not {value!r}."
            )
        return cast("str | None", value)

    def _flag(self, name: str, default: bool = False) -> bool:
        value = self._setting(name, default)
        flag = {"true": True, "false": False}.get(str(value).lower())
        if flag is None:
            raise ConfigurationError(
                f"Connection {self.iterable_conn_id}: {name} must be true or false, not {value!r}."
            )
        return flag

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


def _mask(secret: str) -> None:
    """Have Airflow hide the key in logs, where its version lets us; it masks a connection's password by itself too."""
    for module in ("airflow.providers.common.compat.sdk", "airflow.utils.log.secrets_masker"):
        with suppress(ImportError, AttributeError):
            import_module(module).mask_secret(secret)
            return


def _base_url(host: str, schema: str | None, port: int | None) -> str:
    """Join a connection's fields; ValueError when they are no URL that leads to an API and nothing else."""
    if "://" not in host:
        host = f"{schema or ('http' if is_loopback(f'//{host}') else 'https')}://{host}"
    url = urlsplit(host.rstrip("/").removesuffix("/api"))
    own_port = url.port  # raises ValueError itself when it is no number
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or "@" in url.netloc:
        raise ValueError
    added = f":{port}" if port and own_port is None else ""
    return f"{url.scheme}://{url.netloc}{added}{url.path}".rstrip("/")
