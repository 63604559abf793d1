"""Who a row is about: email, user ID, project type; knows no endpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from airflow_provider_iterable.api import values
from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.errors import ConfigurationError

ProjectType = Literal["email", "user_id", "hybrid"]
Match = Literal["email", "user_id"]

CHECKS: dict[str, tuple[Callable[[Sequence[Any]], list[str | None]], Reason]] = {
    "email": (values.emails, Reason.INVALID_EMAIL),
    "user_id": (values.user_ids, Reason.INVALID_USER_ID),
}
"""How a column of each kind of identifier is normalised, and what is wrong with those that cannot be."""

FIELD_NAMES = {"email": "email", "user_id": "userId"}
"""Iterable's names of the identifiers."""


def shares_ids(match: Match, project_type: str | None) -> bool:
    """Whether several profiles may have the user ID that selects one: in email-based projects, and unless known."""
    return match == "user_id" and project_type in ("email", None)


def check_deletes(parameter: str, match: Match, project_type: str | None, allow_shared_user_id: bool) -> None:
    """Refuse to delete by a user ID that several profiles may have.

    :param parameter: what asks for the deletion, as it stands in a DAG
    :raises ConfigurationError: it is not allowed
    """
    if shares_ids(match, project_type) and not allow_shared_user_id:
        raise ConfigurationError(
            f"{parameter} by user ID removes every profile that has the ID, and in an email-based project several may. "
            "Match by email, say the project type in the connection, or set allow_shared_user_id=True."
        )


def matching(
    match_by: str | None, email_column: str | None, user_id_column: str | None, project_type: str | None
) -> Match:
    """Decide which identifier selects the profile.

    An explicit choice wins; else the only one that is mapped; else the project type decides: email in email-based
    projects, user ID in user-ID-based and hybrid ones.

    :raises ConfigurationError: neither is mapped, the chosen one is not mapped, both are and the project type is
        not set, or the project type cannot match by it
    """
    mapped = {"email": email_column, "user_id": user_id_column}
    if match_by is not None:
        if match_by not in mapped:
            raise ConfigurationError(f'match_by must be "email" or "user_id", not {match_by!r}')
        if not mapped[match_by]:
            raise ConfigurationError(f"match_by={match_by!r} needs {match_by}_column")
    if not email_column and not user_id_column:
        raise ConfigurationError("Map email_column, user_id_column or both: a user needs an identifier")
    chosen = match_by or ("email" if not user_id_column else "user_id" if not email_column else None)
    if chosen is None:
        if project_type is None:
            raise ConfigurationError(
                "Both email_column and user_id_column are mapped and the connection does not say the project type. "
                'Set project_type in the connection, or match_by="email" or "user_id" in the operator.'
            )
        chosen = "email" if project_type == "email" else "user_id"
    if chosen == "email" and project_type == "user_id":
        raise ConfigurationError(
            "A user-ID-based project cannot match by email: emails are not unique there. Map user_id_column."
        )
    return "email" if chosen == "email" else "user_id"
