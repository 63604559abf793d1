"""Single requests that a person writes: sent at their endpoint's pace until there is a usable answer, then read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from airflow_provider_iterable.api.answers import code_of, parsed, status_of
from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.api.paths import METHODS, endpoint_of, split
from airflow_provider_iterable.api.project import tried
from airflow_provider_iterable.api.refusals import in_words
from airflow_provider_iterable.engine.vocabulary import Reply, Request
from airflow_provider_iterable.errors import ConfigurationError, RequestRefused, RequestUnanswered
from airflow_provider_iterable.masking import masked

REPEATABLE = ("GET", "PUT", "DELETE")
"""Methods whose requests do the same when they are sent twice, by HTTP's own definition."""

Settled = Callable[[Reply], bool]


def ask(
    client: Client,
    method: str,
    path: str,
    body: Any = None,
    params: Mapping[str, Any] | None = None,
    repeatable: bool | None = None,
    settled: Settled = lambda reply: False,
) -> Any:
    """Send a request, and return the JSON of its answer; ``None`` for an empty one.

    :param body: what is sent as JSON; ``None``: nothing is
    :param repeatable: whether it may be sent again after a 429, a 5xx or no answer; default: as its method says
    :param settled: tells answers that are usable whatever their status, and are returned as they can be read
    :raises ConfigurationError: the request makes no sense; nothing was sent
    :raises RequestRefused: Iterable refused it
    :raises RequestUnanswered: there was no usable answer
    """
    method = method.upper()
    if method not in METHODS:
        raise ConfigurationError(f"A request is one of {', '.join(METHODS)}.")
    sent_path, query = split(path, params)
    endpoint = endpoint_of(method, sent_path)
    request = Request(method, sent_path, endpoint.template, query, _encoded(body))
    again = method in REPEATABLE if repeatable is None else repeatable

    def final(reply: Reply) -> bool:
        if reply.error in ("Held", "Stopped"):  # to be waited for longer than a try waits, or never sent
            return True
        return settled(reply) or not _unusable(reply) or (reply.sent and not again)

    reply = tried(client, lambda: client.request(request, endpoint.rate), final)
    if not settled(reply) and not 200 <= reply.status < 300:
        raise _failure(client.host, request, reply, again)
    return _decoded(request, reply)


def _encoded(body: Any) -> bytes | None:
    if body is None:
        return None
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, TypeError) else "a number that JSON does not have, or a circle"
        raise ConfigurationError(
            f"The body of the request cannot be written as JSON: {why}. Nothing was sent."
        ) from None


def _unusable(reply: Reply) -> bool:
    return reply.status in (0, 408, 429) or reply.status >= 500


def _failure(host: str, request: Request, reply: Reply, again: bool) -> RequestRefused | RequestUnanswered:
    what, code = f"{request.method} {request.template} at {host}", code_of(parsed(reply))
    if _unusable(reply):
        shown = f"no answer ({masked(reply.error)})" if reply.status == 0 else status_of(reply)
        doubt = (
            ""
            if again or not reply.sent or reply.status == 429
            else (" It may have been applied: it is sent again with repeatable=True only.")
        )
        late = RequestUnanswered(f"{what} got no usable answer: {shown}.{doubt}", reply.status, code)
        late.retry_after = reply.retry_after
        return late
    hopeless = in_words(request.method, request.template, reply)
    said = hopeless or f"Iterable refused {what}: {status_of(reply)}. Its words may hold values, and are not repeated."
    return RequestRefused(said, reply.status, code)


def _decoded(request: Request, reply: Reply) -> Any:
    if not reply.body.strip():
        return None
    try:
        return msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if reply.status >= 300:
            return None
        raise RequestRefused(
            f"{request.method} {request.template} was answered with {status_of(reply)} and something that is not "
            "JSON. Where the endpoint is one that returns JSON, a proxy may stand in between.",
            reply.status,
        ) from None
