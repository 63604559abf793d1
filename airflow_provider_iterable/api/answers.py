"""Reads a reply: its body, code and words, and what is in it under some name; draws no conclusion about rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from airflow_provider_iterable.engine.vocabulary import Reply
from airflow_provider_iterable.masking import word

_UNKNOWN = ("UnknownEmailError", "UnknownUserIdError")
_UNKNOWN_WHATEVER_THE_STATUS = "error.users.noUserWithIdExists"
"""Clients match this code, and one of them saw it with a 500."""
_FORGOTTEN = "ForgottenUserError"
_NOT_ENABLED = re.compile(r"endpoint not found for project", re.IGNORECASE)
_NOBODY = re.compile(
    r"No users with userId .* exist|User does not exist\b|No user exists with |No user with that id exists!",
    re.IGNORECASE | re.DOTALL,
)
"""How Iterable was seen to begin what it says of a user who does not exist, beside one of these codes."""
_CODES_OF_WORDS = ("BadParams", "NotFound", "Success", *_UNKNOWN)
_NOBODY_IN_TEXT = b"No user with that id exists!"
"""All that it said in 2017, without JSON."""


def parsed(reply: Reply) -> dict[str, Any]:
    """Return the body as an object; empty when it is HTML, text, broken or no object."""
    try:
        body = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def in_iterables_form(reply: Reply) -> dict[str, Any]:
    """Return the body if it is an object of one of the two forms that Iterable's API documents; empty otherwise.

    They are ``{msg, code, params}`` and, of errors, ``{error, message, code, data}``. What stands before Iterable or in
    its place, as gateways, proxies and login pages do, has other ones, whatever the status.
    """
    body = parsed(reply)
    says = isinstance(body.get("msg"), str | list)  # a list was seen in errors
    second = all(isinstance(body.get(name), str) for name in ("error", "message"))
    return body if isinstance(body.get("code"), str) and (says or second) else {}


def is_success(reply: Reply, codes: Sequence[str] = ("Success",)) -> bool:
    """Return whether Iterable says of a call that is not counted that it did what was asked.

    Its status alone does not say so, for anybody can answer 200; nor does its code, which was seen on errors too.
    """
    body = in_iterables_form(reply)
    return 200 <= reply.status < 300 and "msg" in body and body["code"] in codes


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
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


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
    """Return whether Iterable says that there is no such catalog; anybody else's 404 says something else."""
    body = in_iterables_form(reply)
    missing = reply.status >= 400 and body.get("code") == "error.catalogs.notFound"
    return missing or (reply.status == 404 and body.get("code") == "NotFound" and not not_enabled(reply))


def not_enabled(reply: Reply) -> bool:
    """Return whether Iterable has to enable the endpoint for the project first; the host is right then."""
    return reply.status == 404 and bool(in_iterables_form(reply)) and bool(_NOT_ENABLED.search(message(reply)))


def names_nobody(reply: Reply) -> bool:
    """Return whether Iterable says, by a code or in words of its own, that there is no such user.

    Status and form count as much as words: a 404 that says something else, or says it in another form, is no answer of
    Iterable's about a user.
    """
    if reply.status < 400 or reply.status in (401, 403, 429):
        return False
    body = in_iterables_form(reply)
    if not body:
        return reply.status == 400 and reply.body.strip() == _NOBODY_IN_TEXT
    if body["code"] == _UNKNOWN_WHATEVER_THE_STATUS:
        return True
    if reply.status not in (400, 404, 409):
        return False
    said = body.get("msg", body.get("message"))
    in_words = body["code"] in _CODES_OF_WORDS and isinstance(said, str) and bool(_NOBODY.match(said))
    return in_words or body["code"] in _UNKNOWN


def names_forgotten(reply: Reply) -> bool:
    """Return whether Iterable says that the user is forgotten."""
    return reply.status in (400, 404, 409) and in_iterables_form(reply).get("code") == _FORGOTTEN


def is_foreign(reply: Reply) -> bool:
    """Return whether somebody else than Iterable gave an answer that, from Iterable, would have one of its forms.

    Of errors of a server, of 408 and of 429 it is not known: Iterable's own need not be JSON. Nor is it of a key that
    is refused without a body, and of an answer that is cut off.
    """
    text = reply.body.strip()
    if reply.status in (0, 408, 429) or reply.status >= 500 or in_iterables_form(reply):
        return False
    if not text and reply.status in (401, 403):
        return False
    return bool(parsed(reply)) or not text.startswith(b"{") or text == b"{}"


def outline(reply: Reply) -> str:
    """Return what kind of answer came, and the server's name for itself; nothing of the body, which may echo names."""
    text = reply.body.lstrip()
    if in_iterables_form(reply):
        kind = "JSON in Iterable's form"
    elif not text:
        kind = "nothing"
    elif text.startswith(b"<"):
        kind = "a web page"
    elif text[:1] in (b"{", b"["):
        kind = "JSON of another form than Iterable's"
    else:
        kind = "a text"
    return f"{kind}, from a server that calls itself {reply.server}" if reply.server else kind
