"""Which endpoint a path is of, so that a request which a person writes shares its rate, and names nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.api.endpoints import Endpoint
from airflow_provider_iterable.errors import ConfigurationError

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

UNKNOWN_RATE = 10.0
"""Requests per second to an endpoint that is not known here, in each group of endpoints (``/api/campaigns``)."""

PER_MINUTE = 1 / 60

OTHERS = (
    Endpoint("POST", "/api/users/update", 500),
    Endpoint("GET", "/api/users/{email}", 100),
    Endpoint("GET", "/api/users/byUserId/{userId}", 100),
    Endpoint("GET", "/api/users/getSentMessages", 3),
    Endpoint("GET", "/api/users/forgotten", 3),
    Endpoint("GET", "/api/users/forgottenUserIds", 3),
    Endpoint("POST", "/api/users/updateSubscriptions", 0),
    Endpoint("PATCH", "/api/subscriptions/{group}/{id}/user/{email}", 0),
    Endpoint("PATCH", "/api/subscriptions/{group}/{id}/byUserId/{userId}", 0),
    Endpoint("DELETE", "/api/subscriptions/{group}/{id}/user/{email}", 0),
    Endpoint("DELETE", "/api/subscriptions/{group}/{id}/byUserId/{userId}", 0),
    Endpoint("POST", "/api/subscriptions/subscribeToDoubleOptIn", 0),
    Endpoint("POST", "/api/users/merge", 50),
    Endpoint("POST", "/api/events/track", 2000),
    Endpoint("GET", "/api/events/{email}", 100),
    Endpoint("GET", "/api/events/byUserId/{userId}", 100),
    Endpoint("DELETE", "/api/lists/{listId}", 0),
    Endpoint("GET", "/api/lists/{listId}/size", 5 * PER_MINUTE),
    Endpoint("GET", "/api/lists/getUsers", 5 * PER_MINUTE),
    Endpoint("GET", "/api/lists/previewUsers", 5 * PER_MINUTE),
    Endpoint("GET", "/api/catalogs", 100),
    Endpoint("DELETE", "/api/catalogs/{name}", 0),
    Endpoint("GET", "/api/catalogs/{name}/items", 100),
    Endpoint("GET", "/api/catalogs/{name}/items/{itemId}", 0),
    Endpoint("PUT", "/api/catalogs/{name}/items/{itemId}", 1000),
    Endpoint("PATCH", "/api/catalogs/{name}/items/{itemId}", 0),
    Endpoint("DELETE", "/api/catalogs/{name}/items/{itemId}", 0),
    Endpoint("GET", "/api/export/data.json", 4 * PER_MINUTE),
)
"""Endpoints that no sync calls, with the rates that Iterable documents; 0: none."""

_KNOWN = {
    each.name: each for each in (*OTHERS, *(row for row in vars(endpoints).values() if isinstance(row, Endpoint)))
}
_PARTS = [(each, each.template.split("/")) for each in _KNOWN.values()]
_GROUPS = frozenset(
    (
        "campaigns",
        "catalogs",
        "channels",
        "commerce",
        "email",
        "embedded-messaging",
        "events",
        "experiments",
        "export",
        "inApp",
        "journeys",
        "lists",
        "messageTypes",
        "metadata",
        "push",
        "sms",
        "snippets",
        "subscriptions",
        "templates",
        "users",
        "verify",
        "web",
        "webhooks",
        "webPush",
        "workflows",
    )
)
"""What may follow ``/api/`` in logs, where the rest of a path is not known."""
_PATH = re.compile(r"/api(?:/[^/\s\x00-\x1f\x7f?#\\]+)+")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

Query = Mapping[str, str | Sequence[str]]


def endpoint_of(method: str, path: str) -> Endpoint:
    """Return the endpoint that a path is of; one with fixed parts goes before one with variable ones.

    An endpoint that is not known has its group for a template, and a modest rate.
    """
    parts = path.split("/")
    found = [each for each, template in _PARTS if each.method == method and _matches(template, parts)]
    if found:
        return min(found, key=lambda each: each.template.count("{"))
    group = parts[2] if parts[2] in _GROUPS else "{}"
    return Endpoint(method, f"/api/{group}" + ("/{}" if len(parts) > 3 else ""), UNKNOWN_RATE)


def _matches(template: Sequence[str], parts: Sequence[str]) -> bool:
    return len(template) == len(parts) and all(
        name == part or (name.startswith("{") and part) for name, part in zip(template, parts, strict=True)
    )


def split(path: str, params: Mapping[str, Any] | None = None) -> tuple[str, Query]:
    """Return a path as it is sent, and the query, both that of the path and the parameters.

    :param params: texts, numbers, truth values, or lists of them; ``None`` is left out
    :raises ConfigurationError: it is no path of Iterable's API; the message does not repeat it
    """
    path, _, behind = path.partition("?")
    query: dict[str, str | list[str]] = {}
    for name, value in (*parse_qsl(behind, keep_blank_values=True), *_values(params or {})):
        known = query.get(name)
        query[name] = value if known is None else [*([known] if isinstance(known, str) else known), value]
    steps = any(unquote(part) in (".", "..") for part in path.split("/"))
    if not _PATH.fullmatch(path) or steps or "#" in behind:
        raise ConfigurationError(
            "A request takes the path of one of Iterable's endpoints, such as /api/lists, without a host; identifiers "
            "in it that hold a slash, a blank or a question mark have to be quoted (urllib.parse.quote), or go into "
            "params."
        )
    return quote(_LONE_PERCENT.sub("%25", path), safe="/%"), query


def _values(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, given in params.items():
        for value in given if isinstance(given, list | tuple | set | frozenset) else (given,):
            if isinstance(value, bool):
                yield name, "true" if value else "false"
            elif isinstance(value, str | int | float):
                yield name, str(value)
            elif value is not None:
                raise ConfigurationError(
                    f"The query parameter {name} is of type {type(value).__name__}: use a text, a number, a truth "
                    "value, or a list of them."
                )
