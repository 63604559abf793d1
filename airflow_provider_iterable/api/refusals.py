"""What an answer that is no success means for the records of its request: which of them are to blame."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from airflow_provider_iterable.api.answers import (
    code_of,
    in_iterables_form,
    is_foreign,
    is_missing_catalog,
    names_nobody,
    not_enabled,
    outline,
    parsed,
    status_of,
    values_at,
)
from airflow_provider_iterable.api.field_types import fits
from airflow_provider_iterable.api.values import shape
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Again,
    Batch,
    Halt,
    Operation,
    Outcome,
    Reply,
    Settled,
    Split,
    Verdict,
    people,
)
from airflow_provider_iterable.masking import masked_name, word

CODES: Mapping[str, tuple[Reason, Fate]] = {
    "InvalidEmailAddressError": (Reason.INVALID_EMAIL, Fate.REJECTED),
    "InvalidUserIdError": (Reason.INVALID_USER_ID, Fate.REJECTED),
    "ForgottenUserError": (Reason.FORGOTTEN_USER, Fate.SKIPPED),
    "UnknownEmailError": (Reason.UNKNOWN_USER, Fate.SKIPPED),
    "UnknownUserIdError": (Reason.UNKNOWN_USER, Fate.SKIPPED),
    "EmailAlreadyExists": (Reason.TARGET_EXISTS, Fate.REJECTED),
    "UserIdAlreadyExists": (Reason.CONFLICT, Fate.REJECTED),
    "ExternalKeyConflict": (Reason.CONFLICT, Fate.REJECTED),
    "Conflict": (Reason.CONFLICT, Fate.REJECTED),
    "UniqueFieldsLimitExceeded": (Reason.REFUSED, Fate.REJECTED),
}
"""What a code says about the one record it is about."""

_OF_THE_BODY = ("RequestFieldsTypesMismatched", "BatchTooLarge", "UniqueFieldsLimitExceeded")
"""Codes that are about what was sent: another try would get the same answer, whatever the status."""
CART = "shoppingCartItems"
"""What Iterable calls the items of purchases and carts, in events and in profiles."""
_NOT_THERE = (404, 405, 407, 410, 421, 451)
"""Statuses that Iterable does not have for a row: it has 404 for paths and catalogs, and gateways have all of them."""
_BETWEEN = "whether a gateway, a proxy or a login page stands before Iterable"
_BODY_INDEX = re.compile(r"\[(\d{1,9})\]")


def refusal(batch: Batch, reply: Reply) -> Verdict:
    """Judge an answer that is no success. The status decides; codes are hints, for ``Success`` was seen on errors.

    Codes that are about what was sent stand above a 5xx.
    """
    status, body = reply.status, parsed(reply)
    code, detail = code_of(body), status_of(reply)
    if status == 429:
        return Again(Reason.RATE_LIMITED, reply.retry_after)
    judged = status >= 500 and code in _OF_THE_BODY
    if status in (0, 408) or (status >= 500 and not judged) or 200 <= status < 300:
        return Again(Reason.NO_ANSWER, reply.retry_after)
    if status == 413 or code == "BatchTooLarge":
        return Split(Reason.TOO_LARGE, detail)
    if code == "RequestFieldsTypesMismatched":
        return _mismatch(batch, body, detail)
    if code == "UniqueFieldsLimitExceeded":
        return Halt(_field_limit(batch, body))
    hopeless = in_words(batch.call.method, batch.call.template, reply)
    if hopeless is not None:
        return Halt(f"{hopeless} Once that is mended, a new run sends what is left.")
    code = code_of(in_iterables_form(reply))  # what is skipped is nobody's to say but Iterable's
    reason, fate = CODES.get(code, (Reason.REFUSED, Fate.REJECTED))
    if status == 409 and code not in CODES:
        reason = Reason.CONFLICT
    if len(batch.operations) == 1:
        return Settled({0: outcome_of(batch.operations[0], reason, fate, detail)})
    return Split(reason, detail, suspects=_indices(body, len(batch.operations)), last=fate)


def in_words(method: str, template: str, reply: Reply) -> str | None:
    """Say what is wrong with the key, the endpoint or the host; ``None`` when the answer is about none of them.

    A 404 in whatever form says that something else than Iterable's endpoint was reached, unless Iterable says in its
    own words what it means.
    """
    shown = status_of(reply)
    if reply.status in (401, 403):
        if is_foreign(reply):
            return (
                f"{method} {template} was refused, and not in Iterable's way ({shown}): check the connection's host, "
                f"and {_BETWEEN}. What answered is {outline(reply)}."
            )
        return (
            f"Iterable refused the API key ({shown}): it is wrong, disabled, of another data centre, or may not make "
            f"this call ({method} {template})."
        )
    if not_enabled(reply):
        return (
            f"Iterable has not enabled {method} {template} for this project ({shown}). The connection's host is right: "
            "ask Iterable to enable the endpoint."
        )
    meant = names_nobody(reply) or (template.startswith("/api/catalogs/") and is_missing_catalog(reply))
    if 300 <= reply.status < 400 or (reply.status in _NOT_THERE and not meant):
        return (
            f"{method} {template} is not there ({shown}): check the connection's host, and {_BETWEEN}. What answered "
            f"is {outline(reply)}."
        )
    return None


def _mismatch(batch: Batch, body: Mapping[str, Any], detail: str) -> Split:
    """Find the rows that hold a value which Iterable names.

    The array form of ``offendingValue`` lists good values too (the first belongs to the first record), so each
    value is tested against the expected type before its row is blamed. Once a named value fails that test, every
    row whose value for the field fails it is set aside at once: each would fail the next request by itself.
    """
    rejected: dict[int, str] = {}
    fields: dict[int, set[str]] = {}
    suspects: set[int] = set()
    payloads = [_data_fields(operation) for operation in batch.operations]
    called, mapped, types = _called(batch), _mapped(batch), dict[str, str]()
    errors = [(_held(name, payloads), error) for name, error in _validation_errors(body)]
    for field, error in errors:
        expected = str(error.get("expectedType") or "")
        offending = error.get("offendingValue")
        named = [offending, *offending] if isinstance(offending, list) else [offending]
        shown = masked_name(field, called, mapped)
        confirmed = bool(expected) and any(not fits(value, expected) for value in named)
        for number, payload in enumerate(payloads):
            for value in values_at(payload, field.split(".")):
                if confirmed and not fits(value, expected):
                    rejected[number] = f"field {shown}: {expected} expected, {shape(value)}"
                    fields.setdefault(number, set()).add(field)
                    types[field] = expected
                elif value is not None and any(_same(value, other) for other in named):
                    suspects.add(number)
    if len(batch.operations) == 1 and not rejected:
        named_in_words = [
            f"field {masked_name(name, called, mapped)}: {word(error.get('expectedType')) or 'another type'} expected"
            for name, error in errors
        ]
        return Split(Reason.TYPE_MISMATCH, ", ".join(named_in_words) or detail)
    return Split(
        Reason.TYPE_MISMATCH,
        detail,
        rejected=rejected,
        fields={number: frozenset(names) for number, names in fields.items()},
        types=types,
        suspects=frozenset() if rejected else frozenset(suspects),
    )


def _validation_errors(body: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    params = body.get("params")
    errors = params.get("validationErrors") if isinstance(params, dict) else None
    if not isinstance(errors, dict):
        return []
    return [(str(name), error) for name, error in errors.items() if isinstance(error, dict)]


def _held(name: str, payloads: Sequence[Any]) -> str:
    """Return the field that a name means: itself if some record has it, else what is behind a ``:::``."""
    parts = name.split(":::")
    found = [":::".join(parts[skipped:]) for skipped in range(len(parts))]
    return next((field for field in found if any(values_at(sent, field.split(".")) for sent in payloads)), found[-1])


def _data_fields(operation: Operation) -> Any:
    body = msgspec.json.decode(operation.body)
    fields = body.get("dataFields", {}) if isinstance(body, dict) else {}
    if isinstance(body, dict) and "items" in body and "user" in body:  # a purchase or a cart writes its user, too
        return {CART: body["items"], **(body["user"].get("dataFields") or {}), **fields}
    # Fields of events may be named alone or behind the event's name.
    return {body["eventName"]: fields, **fields} if fields and "eventName" in body else fields


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and bool(value == other)


def _indices(body: Mapping[str, Any], size: int) -> frozenset[int]:
    """Return the records that a ``BadJsonBody`` points at; whether it counts from zero or one is not certain."""
    params = body.get("params")
    found: set[int] = set()
    for name in params if isinstance(params, dict) else ():
        for digits in _BODY_INDEX.findall(str(name))[:1]:
            found.update({int(digits), int(digits) - 1})
    return frozenset(number for number in found if 0 <= number < size)


def _field_limit(batch: Batch, body: Mapping[str, Any]) -> str:
    params = body.get("params") if isinstance(body.get("params"), dict) else {}
    assert isinstance(params, dict)
    fields = params.get("newFields")
    limit = params["limit"] if isinstance(params.get("limit"), int) else "not given"
    called, mapped = _called(batch), _mapped(batch)
    found = (
        [masked_name(str(name), called, mapped) for name in fields[:20]] if isinstance(fields, list) else ["not named"]
    )
    names = ", ".join(dict.fromkeys(found))
    return (
        f"Iterable's limit of unique fields ({limit}) is exceeded by new fields: {names}. "
        "Map fewer fields, have the limit raised, or set create_new_fields=False."
    )


def _called(batch: Batch) -> frozenset[str]:
    """Return what the people are called whom a batch is about: members of JSON, and so fields, may be named so."""
    return frozenset(name for operation in batch.operations for name in people(operation.handles))


def _mapped(batch: Batch) -> Collection[str]:
    """Return the fields that the sync maps: what is within them may be named by data."""
    body = msgspec.json.decode(batch.operations[0].body)
    fields = body.get("dataFields", {}) if isinstance(body, dict) else {}
    return fields.keys() if isinstance(fields, dict) else ()


def outcome_of(operation: Operation, reason: Reason, fate: Fate, detail: str = "") -> Outcome:
    """Return what became of a record that an answer says something about."""
    if operation.kind is Kind.REMOVED and reason is Reason.UNKNOWN_USER:
        reason, fate = Reason.ALREADY_GONE, Fate.ACCEPTED  # who does not exist has no field to clear
    return Outcome(operation.key, operation.kind, fate, reason, detail, operation)
