"""What DAG authors ask about a project: lists, catalogs, users, channels, message types, fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from airflow_provider_iterable.api.answers import names_nobody
from airflow_provider_iterable.api.asking import ask
from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.engine.vocabulary import Reply
from airflow_provider_iterable.errors import ConfigurationError, RequestRefused

PAGE = 100
"""Catalogs in one answer."""


class ListInfo(TypedDict):
    """A list of users."""

    id: int
    name: str
    type: str
    """``Standard`` (static, takes members), ``Dynamic``, ``Suppression`` or ``Internal``."""


class ChannelInfo(TypedDict):
    """A message channel."""

    id: int
    name: str
    type: str
    """``Marketing`` or ``Transactional``."""
    medium: str
    """``Email``, ``Push``, ``SMS`` or another one."""


class MessageTypeInfo(TypedDict):
    """A message type."""

    id: int
    name: str
    channel_id: int
    subscription_policy: str
    """``OptIn`` or ``OptOut``; empty where the project does not say."""


def lists(client: Client) -> list[ListInfo]:
    """Return all lists of the project, newest first."""
    return [
        ListInfo(id=each["id"], name=str(each.get("name") or ""), type=str(each.get("listType") or "Standard"))
        for each in _members(ask(client, "GET", "/api/lists"), "GET /api/lists", "lists")
    ]


def list_id(client: Client, name: str) -> int | None:
    """Return the ID of the static list of a name; ``None``: there is none.

    :raises ConfigurationError: several lists have the name
    """
    found = [
        each["id"] for each in lists(client) if each["name"].strip() == name.strip() and each["type"] == "Standard"
    ]
    if len(found) > 1:
        raise ConfigurationError(f"Several lists have the name {name!r}: {', '.join(map(str, sorted(found)))}.")
    return found[0] if found else None


def list_size(client: Client, number: int) -> int:
    """Return how many members a list has."""
    size = ask(client, "GET", f"/api/lists/{int(number)}/size")
    if not isinstance(size, int):
        raise _other("GET /api/lists/{listId}/size")
    return size


def catalogs(client: Client) -> list[str]:
    """Return the names of all catalogs."""
    return list(_catalogs(client))


def _catalogs(client: Client) -> Iterator[str]:
    page = seen = 0
    while True:
        page += 1
        answer = ask(client, "GET", "/api/catalogs", params={"page": page, "pageSize": PAGE})
        told = answer.get("params") if isinstance(answer, dict) and "catalogNames" not in answer else answer
        names = told.get("catalogNames") if isinstance(told, dict) else None
        if not isinstance(told, dict) or not isinstance(names, list):
            raise _other("GET /api/catalogs")
        yield from (str(each.get("name")) if isinstance(each, dict) else str(each) for each in names)
        seen += len(names)
        total = told.get("totalCatalogsCount")
        if not names or (seen >= total if isinstance(total, int) else len(names) < PAGE):
            return


def user_exists(client: Client, email: str | None = None, user_id: str | None = None) -> bool:
    """Return whether the project has a user.

    :raises ConfigurationError: not one of the two is given
    """
    if (email is None) is (user_id is None):
        raise ConfigurationError("Ask for a user by email or by user_id, one of the two.")
    given: Mapping[str, Any] = {"email": email} if email is not None else {"userId": user_id}
    path = "/api/users/getByEmail" if email is not None else "/api/users/byUserId"

    refused = False

    def nobody(reply: Reply) -> bool:
        nonlocal refused
        refused = reply.status >= 400 and names_nobody(reply)
        return refused

    answer = ask(client, "GET", path, params=given, settled=nobody)
    if isinstance(answer, dict) and isinstance(answer.get("user"), dict):
        return True
    if answer != {} and not refused:
        raise _other(f"GET {path}")
    return False


def channels(client: Client) -> list[ChannelInfo]:
    """Return the message channels."""
    return [
        ChannelInfo(
            id=each["id"],
            name=str(each.get("name") or ""),
            type=str(each.get("channelType") or ""),
            medium=str(each.get("messageMedium") or ""),
        )
        for each in _members(ask(client, "GET", "/api/channels"), "GET /api/channels", "channels")
    ]


def message_types(client: Client) -> list[MessageTypeInfo]:
    """Return the message types."""
    return [
        MessageTypeInfo(
            id=each["id"],
            name=str(each.get("name") or ""),
            channel_id=each.get("channelId", 0),
            subscription_policy=str(each.get("subscriptionPolicy") or ""),
        )
        for each in _members(ask(client, "GET", "/api/messageTypes"), "GET /api/messageTypes", "messageTypes")
    ]


def field_types(client: Client) -> dict[str, str]:
    """Return the profile fields and their types, nested ones with dots."""
    answer = ask(client, "GET", "/api/users/getFields")
    fields = answer.get("fields") if isinstance(answer, dict) else None
    if not isinstance(fields, dict):
        raise _other("GET /api/users/getFields")
    return {str(name): kind for name, kind in fields.items() if isinstance(kind, str)}


def _members(answer: Any, what: str, name: str) -> list[dict[str, Any]]:
    """Return the objects with an ID that an answer lists under a name."""
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise _other(what)
    return [each for each in found if isinstance(each, dict) and isinstance(each.get("id"), int)]


def _other(what: str) -> RequestRefused:
    return RequestRefused(f"{what} was answered with something else than what Iterable documents.", 200)
