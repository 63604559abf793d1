"""What an answer means for every record that was in the request; pure functions, no request is made here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from airflow_provider_iterable.api.values import fits, shape
from airflow_provider_iterable.engine.vocabulary import (
    Again,
    Batch,
    Fate,
    Halt,
    Operation,
    Outcome,
    Reason,
    Reply,
    Settled,
    Split,
    Verdict,
)

BLAME: Mapping[str, tuple[Reason, Fate]] = {
    "invalid": (Reason.INVALID_EMAIL, Fate.REJECTED),
    "notFound": (Reason.UNKNOWN_USER, Fate.SKIPPED),
    "invalidData": (Reason.INVALID_DATA, Fate.REJECTED),
    "conflict": (Reason.CONFLICT, Fate.REJECTED),
    "forgotten": (Reason.FORGOTTEN_USER, Fate.SKIPPED),
}
"""What the arrays of ``failedUpdates`` mean, by the part of their names before ``Emails`` and ``UserIds``."""

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

_GONE = ("UnknownEmailError", "UnknownUserIdError", "ForgottenUserError")
_NOBODY = re.compile(r"no users? with|user does not exist|noUserWithIdExists", re.IGNORECASE)
_BODY_INDEX = re.compile(r"\[(\d{1,9})\]")


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
    return code if isinstance(code, str) else ""


def judge_bulk_users(batch: Batch, reply: Reply) -> Verdict:
    """Judge ``users/bulkUpdate``: counts, and arrays of blamed identifiers, in a 200."""
    if reply.status != 200:
        return refusal(batch, reply)
    body = parsed(reply)
    if _number(body.get("successCount")) < 0:
        return Again(Reason.NO_ANSWER)
    return counted(batch, body)


def counted(batch: Batch, body: Mapping[str, Any]) -> Verdict:
    """Match blamed identifiers to operations; believe the match only when it adds up to both counts.

    Conflict arrays name the identifier that stood in the way, which may be that of another profile: a row that bears
    it as its own identity may be the innocent owner, and is only a suspect. Duplicates cannot be told apart, so blame
    that does not add up takes the batch apart, never passes for success. Whether ``successCount`` includes profiles that the
    request did not change is not documented, so those that ``noOp`` arrays name count as well.
    """
    operations = batch.operations
    failures, successes = _number(body.get("failCount")), _number(body.get("successCount"))
    successes += sum(len(found) for name in ("noOpEmails", "noOpUserIds") if isinstance(found := body.get(name), list))
    if failures == 0 and successes >= len(operations) and not any(True for _ in _blamed(body)):
        return Settled()
    blamed: dict[int, tuple[Reason, Fate]] = {}
    suspects: set[int] = set()
    by_handle: dict[tuple[str, str], list[int]] = {}
    for number, operation in enumerate(operations):
        for handle in operation.handles:
            by_handle.setdefault(handle, []).append(number)
    seen: tuple[Reason, Fate] | None = None
    for kind, value, meaning in _blamed(body):
        seen = seen or meaning
        handle = (kind, value.strip().lower() if kind == "email" else value)
        bearers = by_handle.get(handle, ())
        if meaning[0] is Reason.CONFLICT and len(operations) > 1:
            own = [number for number in bearers if operations[number].handles[0] == handle]
            bearers = [number for number in bearers if number not in own]
            suspects.update(own if not bearers else ())
        for number in bearers:
            blamed.setdefault(number, meaning)
    suspects -= blamed.keys()
    if not suspects and len(blamed) == failures and len(operations) - failures <= successes:
        return Settled({number: _told(operations[number], *blame) for number, blame in blamed.items()})
    if not batch.call.repeatable:
        return Settled({n: _told(op, Reason.UNATTRIBUTED, Fate.REJECTED) for n, op in enumerate(operations)})
    reason, fate = seen or (Reason.UNATTRIBUTED, Fate.REJECTED)
    return Split(reason, "Iterable's counts and names do not add up", suspects=frozenset(suspects), last=fate)


def _blamed(body: Mapping[str, Any]) -> Iterator[tuple[str, str, tuple[Reason, Fate]]]:
    """Yield ``(handle kind, identifier, meaning)`` for every identifier in a failure array."""
    failed = body.get("failedUpdates")
    arrays = (
        failed if isinstance(failed, dict) else {name: body.get(name) for name in ("invalidEmails", "invalidUserIds")}
    )
    for name, identifiers in arrays.items():
        for suffix, kind in (("Emails", "email"), ("UserIds", "user_id")):
            if name.endswith(suffix) and isinstance(identifiers, list):
                reason, fate = BLAME.get(name.removesuffix(suffix), (Reason.REFUSED, Fate.REJECTED))
                if reason is Reason.INVALID_EMAIL and kind == "user_id":
                    reason = Reason.INVALID_USER_ID
                for identifier in identifiers:
                    yield kind, str(identifier), (reason, fate)


def judge_delete(batch: Batch, reply: Reply) -> Verdict:
    """Judge a deletion: somebody who is gone or forgotten already counts as deleted."""
    (operation,) = batch.operations
    body = parsed(reply)
    if 200 <= reply.status < 300 and (body or not reply.body.strip()):
        return Settled()
    unknown = code_of(body) in _GONE or _NOBODY.search(_message(reply))
    if reply.status in (400, 404, 409) and (unknown or (reply.status == 404 and body)):
        return Settled({0: _told(operation, Reason.ALREADY_GONE, Fate.ACCEPTED)})
    return refusal(batch, reply)


def judge_lookup(batch: Batch, reply: Reply) -> Verdict:
    """Judge a look-up: accepted when the user exists, skipped when not.

    An unknown user ID was seen as a 200 with ``{}``, as a 400 in plain text, and as a coded error of another
    status; all three mean that nobody has it.
    """
    (operation,) = batch.operations
    body = parsed(reply)
    if reply.status == 200 and isinstance(body.get("user"), dict):
        return Settled()
    if reply.status == 200 and reply.body.strip() == b"{}":
        return Settled({0: _told(operation, Reason.UNKNOWN_USER, Fate.SKIPPED)})
    if reply.status >= 400 and _NOBODY.search(_message(reply)):
        return Settled({0: _told(operation, Reason.UNKNOWN_USER, Fate.SKIPPED)})
    if reply.status == 200:
        return Again(Reason.NO_ANSWER)
    return refusal(batch, reply)


def refusal(batch: Batch, reply: Reply) -> Verdict:
    """Judge an answer that is no success. The status decides; codes are hints, for ``Success`` was seen on errors."""
    status, body = reply.status, parsed(reply)
    code = code_of(body)
    detail = f"HTTP {status}" + (f" {code}" if code and code != "Success" else "")
    if status == 429:
        return Again(Reason.RATE_LIMITED, reply.retry_after)
    if status in (0, 408) or status >= 500 or 200 <= status < 300:
        return Again(Reason.NO_ANSWER, reply.retry_after)
    if status == 413 or code == "BatchTooLarge":
        return Split(Reason.TOO_LARGE, detail)
    if code == "RequestFieldsTypesMismatched":
        return _mismatch(batch, body, detail)
    if code == "UniqueFieldsLimitExceeded":
        return Halt(_field_limit(body))
    if status in (401, 403):
        return Halt(
            f"Iterable refused the API key ({detail}): it is wrong, disabled, of another data centre, or may not make "
            f"this call ({batch.call.method} {batch.call.template})."
        )
    if 300 <= status < 400 or (status == 404 and not body):
        return Halt(f"{batch.call.method} {batch.call.template} is not there ({detail}): check the connection's host.")
    reason, fate = CODES.get(code, (Reason.REFUSED, Fate.REJECTED))
    if status == 409 and code not in CODES:
        reason = Reason.CONFLICT
    if len(batch.operations) == 1:
        return Settled({0: _told(batch.operations[0], reason, fate, detail)})
    return Split(reason, detail, suspects=_indices(body, len(batch.operations)), last=fate)


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
    for field, error in _validation_errors(body):
        expected = str(error.get("expectedType") or "")
        offending = error.get("offendingValue")
        named = [offending, *offending] if isinstance(offending, list) else [offending]
        confirmed = bool(expected) and any(not fits(value, expected) for value in named)
        for number, payload in enumerate(payloads):
            for value in values_at(payload, field.split(".")):
                if confirmed and not fits(value, expected):
                    rejected[number] = f"field {field}: {expected} expected, {shape(value)}"
                    fields.setdefault(number, set()).add(field)
                elif value is not None and any(_same(value, other) for other in named):
                    suspects.add(number)
    if len(batch.operations) == 1 and not rejected:
        named_in_words = [f"field {name}: {e.get('expectedType')} expected" for name, e in _validation_errors(body)]
        return Split(Reason.TYPE_MISMATCH, ", ".join(named_in_words) or detail)
    return Split(
        Reason.TYPE_MISMATCH,
        detail,
        rejected=rejected,
        fields={number: frozenset(names) for number, names in fields.items()},
        suspects=frozenset() if rejected else frozenset(suspects),
    )


def _validation_errors(body: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    params = body.get("params")
    errors = params.get("validationErrors") if isinstance(params, dict) else None
    if not isinstance(errors, dict):
        return []
    return [(str(name).rpartition(":::")[2], error) for name, error in errors.items() if isinstance(error, dict)]


def _data_fields(operation: Operation) -> Any:
    body = msgspec.json.decode(operation.body)
    return body.get("dataFields", {}) if isinstance(body, dict) else {}


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


def _field_limit(body: Mapping[str, Any]) -> str:
    params = body.get("params") if isinstance(body.get("params"), dict) else {}
    assert isinstance(params, dict)
    fields = params.get("newFields")
    names = ", ".join(str(name) for name in fields[:20]) if isinstance(fields, list) else "not named"
    return (
        f"Iterable's limit of unique fields ({params.get('limit', 'not told')}) is exceeded by new fields: {names}. "
        "Map fewer fields, have the limit raised, or set create_new_fields=False."
    )


def _message(reply: Reply) -> str:
    """Return what an answer says, for matching only: it may echo identifiers, so it is never shown."""
    body = parsed(reply)
    parts = [body.get("msg"), body.get("message"), body.get("code"), body.get("error")]
    said = " ".join(part for part in parts if isinstance(part, str))
    return said or reply.body[:500].decode("utf-8", "replace")


def _number(value: Any) -> int:
    return value if isinstance(value, int) else -1


def _told(operation: Operation, reason: Reason, fate: Fate, detail: str = "") -> Outcome:
    return Outcome(operation.key, operation.kind, fate, reason, detail, operation)
