"""Reads a reply: its body, code and words, and what is in it under some name; draws no conclusion about rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from airflow_provider_iterable.engine.vocabulary import Reply
from airflow_provider_iterable.masking import word

_NOT_ENABLED = re.compile(r"endpoint not found for project", re.IGNORECASE)
_NOBODY = re.compile(r"no users? with|user does not exist|noUserWithIdExists", re.IGNORECASE)


def parsed(reply: Reply) -> dict[str, Any]:
    """Return the body as an object; empty when it is HTML, text, broken or no object."""
    try:
        body = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def code_of(body: Mapping[str, Any]) -> str:
    """Return the code an answer bears, whichever of Iterable's two error shapes it has."""
    code = body.get("code") or body.get("error") or ""
    return word(code)  # a sentence may echo what was sent


def status_of(reply: Reply) -> str:
    """Return status and code, to be shown; Iterable puts ``Success`` on errors too."""
    code = code_of(parsed(reply))
    return f"HTTP {reply.status}" + (f" {code}" if code and code != "Success" else "")


def message(reply: Reply) -> str:
    """Return what an answer says, for matching only: it may echo identifiers, so it is never shown."""
    body = parsed(reply)
    parts = [body.get("msg"), body.get("message"), body.get("code"), body.get("error")]
    said = " ".join(part for part in parts if isinstance(part, str))
    return said or reply.body[:500].decode("utf-8", "replace")


def count(body: Mapping[str, Any], name: str) -> int:
    """Return one of an answer's counts; -1: it has none."""
    value = body.get(name)
    return value if isinstance(value, int) else -1


def values_at(payload: Any, path: Sequence[str]) -> list[Any]:
    """Return the values a dotted path leads to; arrays are entered."""
    if isinstance(payload, list) and path:
        return [value for element in payload for value in values_at(element, path)]
    if not path:
        return [payload]
    if isinstance(payload, dict):
        if path[0] in payload:
            return values_at(payload[path[0]], path[1:])
        whole = ".".join(path)
        return [payload[whole]] if whole in payload else []
    return []


def is_missing_catalog(reply: Reply) -> bool:
    """Return whether Iterable says that there is no such catalog; a page in HTML says something else."""
    body = parsed(reply)
    missing = code_of(body) == "error.catalogs.notFound" or (reply.status == 404 and bool(body))
    return missing and not not_enabled(reply)


def not_enabled(reply: Reply) -> bool:
    """Return whether Iterable has to enable the endpoint for the project first; the host is right then."""
    return reply.status == 404 and bool(parsed(reply)) and bool(_NOT_ENABLED.search(message(reply)))


def names_nobody(reply: Reply) -> bool:
    """Return whether an answer says in words that there is no such user."""
    return bool(_NOBODY.search(message(reply)))
