"""Knows what an Airflow connection of type ``iterable`` means; refuses to know what is sent through it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, cast, get_args
from urllib.parse import quote, urlsplit

import msgspec
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_iterable.api.client import Client, OnCall, is_loopback
from airflow_provider_iterable.api.verdicts import in_words, is_missing_catalog, not_enabled, parsed
from airflow_provider_iterable.engine.vocabulary import Reply, Request
from airflow_provider_iterable.errors import ConfigurationError, Halted, IterableSyncError, WorthRetrying
from airflow_provider_iterable.masking import word

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

ProjectType = Literal["email", "user_id", "hybrid"]
DataCenter = Literal["us", "eu"]

HOSTS: dict[DataCenter, str] = {"us": "https://api.iterable.com", "eu": "https://api.eu.iterable.com"}
"""Base URL of each data centre; a key belongs to exactly one."""

_CHANNELS = Request("GET", "/api/channels", "/api/channels")
_CHANNELS_RATE = 100
_FIELDS = Request("GET", "/api/users/getFields", "/api/users/getFields")
_FIELDS_RATE = 3
_CATALOG = "/api/catalogs/{name}"
_CATALOG_FIELDS = "/api/catalogs/{name}/fieldMappings"
_LISTS = Request("GET", "/api/lists", "/api/lists")
_TRIES = 5
_OF_NO_SERVICE = ("iterable", "generic", "")
"""Connection types whose password may be an API key of Iterable: its own, and those that name no service."""


class IterableHook(BaseHook):
    """Turns an Airflow connection into a :class:`~airflow_provider_iterable.api.client.Client`.

    The connection is of type ``iterable``; ``generic``, or none, will do, and any other type is refused. Its password
    is the API key (a server-side key). Its host, when given, replaces the data centre's: a whole URL, or a name with
    the connection's schema (default ``https``, on this machine ``http``) and port. Extra:
    ``data_center`` (``us``, ``eu``; default ``us``), ``project_type`` (``email``, ``user_id``, ``hybrid``; default
    unset), ``rate_share`` (above 0, at most 1; default 1), ``update_only`` (default false), ``project`` (a name for the
    project, by which states know it whatever the key; default unset) and ``allow_http``.

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
        """How the project tells users apart; None when the connection does not say.

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

    def get_conn(
        self, on_call: OnCall | None = None, share: float = 1.0, stopped: threading.Event | None = None
    ) -> Client:
        """Return a new client for the connection; nothing is called yet.

        :param on_call: told about each request (default: nobody is).
        :param share: of the connection's ``rate_share``, for one of several clients at the same time.
        :param stopped: stops the client from outside, when it is set.
        :raises ConfigurationError: when a setting of the connection makes no sense.
        """
        # Nonsense is refused before the first call, not half way.
        _ = self.project_type, self.update_only, self.project
        share *= self.rate_share
        return Client(self.host, self.api_key, rate_share=share, on_call=on_call, stopped=stopped)

    def get_channels(self, client: Client, tries: int = _TRIES) -> list[int]:
        """Return the IDs of the project's message channels; none where the key may not read them.

        :param client: the client to use.
        :param tries: how often to ask for a usable answer.
        :raises Halted: when Iterable refuses the API key.
        :raises WorthRetrying: when there is no usable answer.
        """
        reply = client.request(_CHANNELS, _CHANNELS_RATE)
        for attempt in range(tries - 1):
            if _failure(reply) is ConfigurationError or isinstance(_member(reply, "channels"), list):
                break
            client.pause(2.0**attempt)
            reply = client.request(_CHANNELS, _CHANNELS_RATE)
        channels = _member(reply, "channels")
        if reply.status == 401:
            raise Halted(
                f"Iterable refused the API key ({_short(reply)}): {_explain(reply, client.host)} No row was sent."
            )
        if _failure(reply) is ConfigurationError:
            return []
        if reply.status != 200 or not isinstance(channels, list):
            raise WorthRetrying(
                f"GET {_CHANNELS.path} at {client.host} did not return the project's channels: {_short(reply)}. No row "
                "was sent."
            )
        numbers = [each.get("id") for each in channels if isinstance(each, dict)]
        return sorted(number for number in numbers if isinstance(number, int))

    def get_fields(self, client: Client | None = None) -> dict[str, str]:
        """Return the project's profile fields and their types, nested ones with dots (3 calls per second).

        :param client: the client to use, so that its pace is kept (default: a new one).
        :raises Halted: when Iterable refuses the API key, or the endpoint is not there.
        :raises WorthRetrying: when Iterable does not answer with fields.
        """
        if client is None:
            with self.get_conn() as own:
                return self.get_fields(own)
        reply = _call(client, _FIELDS, _FIELDS_RATE)
        for attempt in range(_TRIES - 1):  # other tasks of the project read them, too
            if reply.status != 429:
                break
            client.pause(2.0**attempt)
            reply = _call(client, _FIELDS, _FIELDS_RATE)
        fields = _member(reply, "fields")
        if reply.status != 200 or not isinstance(fields, dict):
            raise WorthRetrying(
                f"GET {_FIELDS.path} at {client.host} did not return the project's fields: {_short(reply)}."
            )
        return {name: kind for name, kind in fields.items() if isinstance(kind, str)}

    def get_catalog_types(self, client: Client, catalog: str) -> dict[str, str] | None:
        """Return the types that fields of a catalog have been given; None when there is no such catalog.

        :raises IterableSyncError: when Iterable does not answer with types.
        """
        reply = _ask(client, _about_catalog("GET", _CATALOG_FIELDS, catalog))
        if is_missing_catalog(reply):
            return None
        params = _member(reply, "params")  # seen there; documented at the top
        defined = params.get("definedMappings") if isinstance(params, dict) else _member(reply, "definedMappings")
        if reply.status != 200 or not isinstance(defined, dict):
            raise _failure(reply)(
                f"GET {_CATALOG_FIELDS} at {client.host} did not return the fields of catalog {catalog}: "
                f"{_short(reply)}. Nothing was sent."
            )
        return {name: kind for name, kind in defined.items() if isinstance(kind, str)}

    def create_catalog(self, client: Client, catalog: str) -> str:
        """Create a catalog; return what the answer was if it does not say so, which proves nothing.

        :raises Halted: when Iterable refuses the API key.
        """
        reply = _call(client, _about_catalog("POST", _CATALOG, catalog))
        return "" if _done(reply) else _short(reply)

    def set_catalog_types(self, client: Client, catalog: str, types: Mapping[str, str]) -> bool:
        """Give fields of a catalog their types, for ever; False when there was no usable answer.

        :raises ConfigurationError: when Iterable refuses.
        """
        updates = [{"fieldName": name, "fieldType": kind} for name, kind in types.items()]
        body = msgspec.json.encode({"mappingsUpdates": updates})
        reply = _call(client, _about_catalog("PUT", _CATALOG_FIELDS, catalog, body))
        if _failure(reply) is ConfigurationError:
            raise ConfigurationError(
                f"Iterable refused the types of {', '.join(types)} in catalog {catalog} ({_short(reply)}). No item was "
                "sent. Compare field_types with the catalog's fields at Iterable, of which there may be about 350."
            )
        return _done(reply)

    def get_lists(self, client: Client, name: str) -> list[int]:
        """Return the IDs of the static lists of a name, of which there should be one at most.

        :raises ConfigurationError: when only lists of other types have the name, which take no members.
        :raises IterableSyncError: when Iterable does not answer with lists.
        """
        reply = _ask(client, _LISTS)
        lists = _member(reply, "lists")
        if reply.status != 200 or not isinstance(lists, list):
            raise _failure(reply)(
                f"GET {_LISTS.path} at {client.host} did not return the project's lists: {_short(reply)}. "
                "Nothing was sent."
            )
        found = [each for each in lists if isinstance(each, dict) and str(each.get("name")).strip() == name.strip()]
        static = [each for each in found if each.get("listType") in ("Standard", None)]
        if found and not static:
            kinds = ", ".join(f"{each.get('id')} ({each.get('listType')})" for each in found)
            raise ConfigurationError(
                f"The list {name!r} is no static list, so it takes no members: {kinds}. Nothing was sent. Set another "
                "list_name, or list_id."
            )
        return sorted(each["id"] for each in static if isinstance(each.get("id"), int))

    def create_list(self, client: Client, name: str, description: str | None = None) -> int | None:
        """Create a static list and return its ID; None when it is not known whether that was done.

        :raises IterableSyncError: when Iterable refuses.
        """
        body = {"name": name} if description is None else {"name": name, "description": description}
        request = Request("POST", _LISTS.path, _LISTS.template, body=msgspec.json.encode(body))
        reply = _call(client, request)
        for attempt in range(_TRIES - 1):
            if reply.status != 429:
                break
            client.pause(2.0**attempt)
            reply = _call(client, request)
        number = _member(reply, "listId")
        if reply.status == 200 and isinstance(number, int):
            return number
        if reply.status == 429 or _failure(reply) is ConfigurationError:
            raise _failure(reply)(f"Iterable did not create the list {name!r}: {_short(reply)}. Nothing was sent.")
        return None

    def test_connection(self) -> tuple[bool, str]:
        """Call ``GET /api/channels`` and say what came of it, in words a person can act on."""
        try:
            with self.get_conn() as client:
                reply = client.request(_CHANNELS, _CHANNELS_RATE)
                if reply.status == 200 and _member(reply, "channels") is not None:
                    return True, f"Connected to {client.host}. {self._advice()}".strip()
                return False, _explain(reply, client.host)
        except ConfigurationError as error:
            return False, str(error)

    def _advice(self) -> str:
        if self.project_type:
            return ""
        return (
            "The project type is not set: syncs behave safely for any type. Setting it lets a sync map both email and "
            "user ID without match_by, and refuses what the project cannot do before anything is sent."
        )

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

    def _flag(self, name: str) -> bool:
        value = self._setting(name, False)
        flag = {"true": True, "false": False}.get(str(value).lower())
        if flag is None:
            raise ConfigurationError(
                f"Connection {self.iterable_conn_id}: {name} must be true or false, not {value!r}."
            )
        return flag

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's extra fields for Airflow before 3.2; later ones read the provider's metadata."""
        # Only Airflow before 3.2 calls this, and brings these packages; none of them has types everywhere.
        field_widgets = import_module("flask_appbuilder.fieldwidgets")
        wtforms = import_module("wtforms")
        lazy_gettext = import_module("flask_babel").lazy_gettext

        def text(label: str) -> Any:
            return wtforms.StringField(lazy_gettext(label), widget=field_widgets.BS3TextFieldWidget())

        return {
            "data_center": text("Data center (us or eu)"),
            "project_type": text("Project type (email, user_id or hybrid)"),
            "rate_share": text("Rate share (above 0, at most 1)"),
            "update_only": wtforms.BooleanField(lazy_gettext("Update-only switch")),
            "project": text("Project (any name for it)"),
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form shows the standard fields, for Airflow before 3.2."""
        return {
            "hidden_fields": ["schema", "login", "port"],
            "relabeling": {"password": "API key", "host": "API base URL"},
            "placeholders": {"host": "empty: the data centre's own address"},
        }


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


def _about_catalog(method: str, template: str, catalog: str, body: bytes | None = None) -> Request:
    return Request(method, template.replace("{name}", quote(catalog, safe="")), template, body=body)


def _call(client: Client, request: Request, rate: float = 0) -> Reply:
    """Send a request; what is wrong with the key or the endpoint ends the run here, before a row is sent.

    :raises Halted: Iterable refuses the API key, or the endpoint is not there
    """
    reply = client.request(request, rate)
    hopeless = in_words(request.method, request.template, reply)
    if hopeless is not None:
        raise Halted(f"{hopeless} No row was sent.")
    return reply


def _ask(client: Client, request: Request) -> Reply:
    """Send a request that changes nothing until there is a usable answer, or it was sent often enough."""
    reply = _call(client, request)
    for attempt in range(_TRIES - 1):
        if _failure(reply) is ConfigurationError or (reply.status == 200 and parsed(reply)):
            break
        client.pause(2.0**attempt)
        reply = _call(client, request)
    return reply


def _done(reply: Reply) -> bool:
    """Tell whether a call that changes something says that it did; a page in HTML, or half an answer, does not."""
    return 200 <= reply.status < 300 and (bool(parsed(reply)) or not reply.body.strip())


def _failure(reply: Reply) -> type[IterableSyncError]:
    """Return what an answer that is no success is raised as: what a retry could mend, or what it could not."""
    hopeless = 300 <= reply.status < 500 and reply.status not in (408, 429)
    return ConfigurationError if hopeless else WorthRetrying


def _member(reply: Reply, name: str) -> Any:
    """Read one member of a JSON object; None when the body is no such thing."""
    try:
        body = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return body.get(name) if isinstance(body, dict) else None


def _short(reply: Reply) -> str:
    if reply.status == 0:
        return f"no answer ({reply.error})"
    return f"{reply.status} {word(_member(reply, 'code'))}".rstrip()


def _explain(reply: Reply, host: str) -> str:
    """Say why a test call failed; Iterable's own text is left out, for it may echo what was sent."""
    match reply.status:
        case 0:
            return f"{host} cannot be reached: {_UNREACHABLE.get(reply.error, reply.error)}."
        case 401 | 403 if reply.status == 403 or _lacks_privileges(reply):
            return (
                f"{host} knows the API key, but it is disabled or lacks privileges. Use an enabled server-side key of "
                "the project; syncs need one that may write."
            )
        case 401:
            return (
                f"{host} does not know the API key. Check the key, and check the data centre too: a key belongs to one "
                f"of {' (us) or '.join(HOSTS.values())} (eu), and fails at the other."
            )
        case 429:
            return f"{host} answers, but is limiting this project's requests right now; test again in a minute."
        case 404 if not_enabled(reply):
            return (
                f"{host} is Iterable's API and knows the key, but Iterable has not enabled {_CHANNELS.method} "
                f"{_CHANNELS.path} for this project: ask Iterable to enable it."
            )
        case status if status >= 500:
            return f"{host} answers with an error of its own ({_short(reply)}); test again in a few minutes."
    what = "a web page" if reply.body.lstrip().startswith(b"<") else "something else"
    return (
        f"{host} is not Iterable's API: it answers with {what} (status {reply.status}). Check the connection's host, "
        "and whether a proxy stands in between."
    )


def _lacks_privileges(reply: Reply) -> bool:
    params, message = _member(reply, "params"), str(_member(reply, "msg"))
    return "privileges" in message or (isinstance(params, dict) and "apiKeyIdentifier" in params)


_UNREACHABLE = {
    "ConnectionError": "the name does not resolve, nothing listens there, or a firewall is in the way",
    "ConnectTimeout": "connecting took too long; a firewall may be in the way",
    "ReadTimeout": "it accepted the connection and did not answer in time",
    "SSLError": "the encrypted connection failed; check the certificate, or whether the host speaks https at all",
    "ProxyError": "the proxy named in the worker's environment refused or failed",
}
