"""Reads and sets up an Iterable project before rows are sent: channels, profile fields, lists, catalogs.

Requests that may be repeated are, until there is a usable answer or the tries are used up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast
from urllib.parse import quote

import msgspec
import tenacity

from airflow_provider_iterable.api.answers import is_foreign, is_missing_catalog, is_success, not_enabled, parsed
from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.api.endpoints import (
    CATALOG_CREATE,
    CATALOG_GET_FIELDS,
    CATALOG_SET_FIELDS,
    CHANNELS_GET,
    HOSTS,
    LISTS_CREATE,
    LISTS_GET,
    USERS_GET_FIELDS,
    Endpoint,
)
from airflow_provider_iterable.api.refusals import in_words
from airflow_provider_iterable.engine.failed import UNREACHABLE
from airflow_provider_iterable.engine.vocabulary import Reply, Request
from airflow_provider_iterable.errors import ConfigurationError, Halted, IterableSyncError, WorthRetrying
from airflow_provider_iterable.masking import word

T = TypeVar("T")

TRIES = 5
"""How often a question is asked, and what is missing is made, before the run gives up."""


def tried(
    client: Client, work: Callable[[], T], enough: Callable[[T], bool], tries: int = TRIES, first: float = 1.0
) -> T:
    """Do some work until its result is enough, or it was done often enough; return the last result.

    :param client: waits between tries, no longer than until it is stopped
    :param first: seconds before the second try; each later wait is twice as long
    """
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(tries),
        wait=tenacity.wait_exponential(first),
        retry=tenacity.retry_if_result(lambda result: not enough(result)),
        sleep=client.pause,
        retry_error_callback=lambda state: cast("tenacity.Future", state.outcome).result(),
    )
    return retrying(work)


def get_channels(client: Client, tries: int = TRIES) -> list[int]:
    """Return the IDs of the project's message channels; none where the key may not read them.

    :param tries: how often to ask for a usable answer
    :raises Halted: Iterable refuses the API key
    :raises WorthRetrying: there is no usable answer
    """
    reply = tried(
        client,
        lambda: _request(client, CHANNELS_GET),
        lambda reply: _failure(reply) is ConfigurationError or isinstance(_member(reply, "channels"), list),
        tries,
    )
    channels = _member(reply, "channels")
    hopeless = in_words(CHANNELS_GET.method, CHANNELS_GET.template, reply)
    if hopeless is not None and (is_foreign(reply) or not (reply.status in (401, 403) or not_enabled(reply))):
        raise Halted(f"{client.host}: {hopeless} No row was sent.")
    if reply.status == 401:
        raise Halted(f"Iterable refused the API key ({_short(reply)}): {_explain(reply, client.host)} No row was sent.")
    if _failure(reply) is ConfigurationError and not is_foreign(reply):
        return []
    if reply.status != 200 or not isinstance(channels, list):
        raise WorthRetrying(
            f"GET {CHANNELS_GET.template} at {client.host} did not return the project's channels: {_short(reply)}. No "
            "row was sent."
        )
    numbers = [each.get("id") for each in channels if isinstance(each, dict)]
    return sorted(number for number in numbers if isinstance(number, int))


def get_fields(client: Client) -> dict[str, str]:
    """Return the project's profile fields and their types, nested ones with dots.

    :raises Halted: Iterable refuses the API key, or the endpoint is not there
    :raises WorthRetrying: Iterable does not answer with fields
    """
    # Other tasks of the project read them, too, so the rate may be used up.
    reply = tried(client, lambda: _call(client, USERS_GET_FIELDS), _unlimited)
    fields = _member(reply, "fields")
    if reply.status != 200 or not isinstance(fields, dict):
        raise WorthRetrying(
            f"GET {USERS_GET_FIELDS.template} at {client.host} did not return the project's fields: {_short(reply)}."
        )
    return {name: kind for name, kind in fields.items() if isinstance(kind, str)}


def get_catalog_types(client: Client, catalog: str) -> dict[str, str] | None:
    """Return the types that fields of a catalog have been given; ``None``: there is no such catalog.

    :raises IterableSyncError: Iterable does not answer with types
    """
    reply = _ask(client, CATALOG_GET_FIELDS, catalog)
    if is_missing_catalog(reply):
        return None
    params = _member(reply, "params")  # seen there; documented at the top
    defined = params.get("definedMappings") if isinstance(params, dict) else _member(reply, "definedMappings")
    if reply.status != 200 or not isinstance(defined, dict):
        raise _failure(reply)(
            f"GET {CATALOG_GET_FIELDS.template} at {client.host} did not return the fields of catalog {catalog}: "
            f"{_short(reply)}. Nothing was sent."
        )
    return {name: kind for name, kind in defined.items() if isinstance(kind, str)}


def create_catalog(client: Client, catalog: str) -> str:
    """Create a catalog; return what the answer was if it does not say so, which proves nothing.

    :raises Halted: Iterable refuses the API key
    """
    reply = _call(client, CATALOG_CREATE, catalog)
    return "" if is_success(reply) else _short(reply)


def set_catalog_types(client: Client, catalog: str, types: Mapping[str, str]) -> bool:
    """Give fields of a catalog their types, for ever; ``False``: there was no usable answer.

    :raises ConfigurationError: Iterable refuses
    """
    updates = [{"fieldName": name, "fieldType": kind} for name, kind in types.items()]
    reply = _call(client, CATALOG_SET_FIELDS, catalog, {"mappingsUpdates": updates})
    if _failure(reply) is ConfigurationError:
        raise ConfigurationError(
            f"Iterable refused the types of {', '.join(types)} in catalog {catalog} ({_short(reply)}). No item was "
            "sent. Compare field_types with the catalog's fields at Iterable, of which there may be about 350."
        )
    return is_success(reply)


def get_lists(client: Client, name: str) -> list[int]:
    """Return the IDs of the static lists of a name, of which there should be one at most.

    :raises ConfigurationError: only lists of other types have the name, which take no members
    :raises IterableSyncError: Iterable does not answer with lists
    """
    reply = _ask(client, LISTS_GET)
    lists = _member(reply, "lists")
    if reply.status != 200 or not isinstance(lists, list):
        raise _failure(reply)(
            f"GET {LISTS_GET.template} at {client.host} did not return the project's lists: {_short(reply)}. "
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


def create_list(client: Client, name: str, description: str | None = None) -> int | None:
    """Create a static list and return its ID; ``None``: it is not known whether that was done.

    :raises IterableSyncError: Iterable refuses
    """
    about = {"name": name} if description is None else {"name": name, "description": description}
    reply = tried(client, lambda: _call(client, LISTS_CREATE, body=about), _unlimited)
    number = _member(reply, "listId")
    if reply.status == 200 and isinstance(number, int) and not isinstance(number, bool):
        return number
    if reply.status == 429 or _failure(reply) is ConfigurationError:
        raise _failure(reply)(f"Iterable did not create the list {name!r}: {_short(reply)}. Nothing was sent.")
    return None


def trouble(client: Client) -> str | None:
    """Ask for the project's channels once, and say why they do not come; ``None``: they do.

    It is said in words a person can act on. Iterable's own text is left out, for it may echo what was sent.
    """
    reply = _request(client, CHANNELS_GET)
    well = reply.status == 200 and isinstance(_member(reply, "channels"), list)
    return None if well else _explain(reply, client.host)


def _request(client: Client, endpoint: Endpoint, catalog: str = "", body: Any = None) -> Reply:
    path = endpoint.template.replace("{name}", quote(catalog, safe=""))
    content = None if body is None else msgspec.json.encode(body)
    return client.request(Request(endpoint.method, path, endpoint.template, body=content), endpoint.rate)


def _call(client: Client, endpoint: Endpoint, catalog: str = "", body: Any = None) -> Reply:
    """Send a request; what is wrong with the key or the endpoint ends the run here, before a row is sent.

    :raises Halted: Iterable refuses the API key, or the endpoint is not there
    """
    reply = _request(client, endpoint, catalog, body)
    hopeless = in_words(endpoint.method, endpoint.template, reply)
    if hopeless is not None:
        raise Halted(f"{client.host}: {hopeless} No row was sent.")
    return reply


def _ask(client: Client, endpoint: Endpoint, catalog: str = "") -> Reply:
    """Send a request that changes nothing until there is a usable answer, or it was sent often enough."""
    return tried(
        client,
        lambda: _call(client, endpoint, catalog),
        lambda reply: _failure(reply) is ConfigurationError or (reply.status == 200 and bool(parsed(reply))),
    )


def _unlimited(reply: Reply) -> bool:
    return reply.status != 429


def _failure(reply: Reply) -> type[IterableSyncError]:
    """Return what an answer that is no success is raised as: what a retry could mend, or what it could not."""
    hopeless = 300 <= reply.status < 500 and reply.status not in (408, 429)
    return ConfigurationError if hopeless else WorthRetrying


def _member(reply: Reply, name: str) -> Any:
    return parsed(reply).get(name)


def _short(reply: Reply) -> str:
    if reply.status == 0:
        return f"no answer ({reply.error})"
    return f"{reply.status} {word(_member(reply, 'code'))}".rstrip()


def _explain(reply: Reply, host: str) -> str:
    match reply.status:
        case 0:
            why = UNREACHABLE.get(reply.error) or _UNANSWERED.get(reply.error, reply.error)
            return f"{host} cannot be reached: {why}."
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
                f"{host} is Iterable's API and knows the key, but Iterable has not enabled {CHANNELS_GET.method} "
                f"{CHANNELS_GET.template} for this project: ask Iterable to enable it."
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


_UNANSWERED = {"ReadTimeout": "it accepted the connection and did not answer in time"}
