"""Iterable's error answers to requests about users or events."""

from typing import Any

from ..options import Options
from ..project.identity import Refusal
from ..project.project import Project
from ..project.schema import Mismatch, Ruling
from ..shapes.answers import Answer, refusal

_TYPES_DIFFER = "The request does not have the same data types as the data previously submitted"
_OR_RANGE = ", or the input value is not within the correct range"
_CLUE = " Field '{}' already exists for type '{}' and has a data type of '{}' but possible types '{}' in the request."


def ruled_out(project: Project, ruling: Ruling, *, bulk: bool) -> Answer:
    """Refuse a request as a whole for the types, or the number, of its fields."""
    return _mismatched(project, ruling, bulk) if ruling.mismatches else _too_many(project, ruling)


def _too_many(project: Project, ruling: Ruling) -> Answer:
    number, limit = project.options.project_id, ruling.limit
    msg = (
        f"Project {number}: The request would increase the number of object fields to {ruling.total}"
        f" by adding [{', '.join(ruling.over_limit)}], which exceeds the limit of {limit}"
    )
    params = {"limit": limit, "requestedTotal": ruling.total, "newFields": ruling.over_limit}
    return refusal(400, "UniqueFieldsLimitExceeded", msg, params)


def _mismatched(project: Project, ruling: Ruling, bulk: bool) -> Answer:
    """Name the first wrong field in words, and each with its first wrong value in params."""
    options = project.options
    name, first = next(iter(ruling.mismatches.items()))
    msg = f"Project {options.project_id}: {_TYPES_DIFFER}{_OR_RANGE if bulk else ''}."
    if options.hide_clues:
        return refusal(400, "RequestFieldsTypesMismatched", msg, {})
    category = options.event_category if ruling.about == "event" else ruling.about
    msg += _CLUE.format(name, category, first.expected, ", ".join(first.incoming))
    errors = {
        options.field_key_prefix + field: {
            "incomingTypes": mismatch.incoming,
            "expectedType": mismatch.expected,
            "category": category,
            "offendingValue": _offending(mismatch, options),
            "_type": "UnexpectedType",
        }
        for field, mismatch in ruling.mismatches.items()
    }
    return refusal(400, "RequestFieldsTypesMismatched", msg, {"validationErrors": errors})


def _offending(mismatch: Mismatch, options: Options) -> Any:
    if options.offending_value == "array":
        return [*mismatch.first, mismatch.culprit]
    return mismatch.culprit


def refused(project: Project, reason: Refusal) -> Answer:
    """Refuse a single call for the user it is about."""
    kind, value = reason.kind, reason.value
    match reason.reason:
        case "invalid" if kind == "email":
            return bad_email(value)
        case "invalid":
            return bad_user_id(value)
        case "notFound" if kind == "email":
            return refusal(400, "UnknownEmailError", f"No user exists with email {value}")
        case "notFound":
            return refusal(400, "UnknownUserIdError", f"No user exists with userId {value}")
        case "conflict":
            return refusal(409, "ExternalKeyConflict", f"Email/userId conflict: {value}")
        case "forgotten":
            return forgotten(project, value)
        case "invalidData":
            return refusal(400, "BadParams", f"Invalid data in dataFields for {value}")
        case _:
            return no_identifier()


def bad_email(email: str) -> Answer:
    """Refuse a malformed address."""
    return refusal(400, "InvalidEmailAddressError", f"Invalid email: {email}")


def bad_user_id(user_id: str) -> Answer:
    """Refuse a malformed user ID."""
    return refusal(400, "InvalidUserIdError", f"Invalid userId: {user_id}")


def forgotten(project: Project, value: str) -> Answer:
    """Refuse to write about a forgotten user."""
    status = project.options.forgotten_status
    return refusal(status, "ForgottenUserError", f"User is GDPR forgotten: {value}")


def no_identifier() -> Answer:
    """Refuse to write a user when the call names none."""
    msg = "Either email or userId must be set: ApiUserUpdateRequest(None,None,None,None)"
    return refusal(400, "BadParams", msg)


def wrong_project(project: Project, call: str) -> Answer:
    """Refuse a call that does not exist in projects of this type."""
    return refusal(400, "BadParams", f"{call} is not available in {project.type} projects")
