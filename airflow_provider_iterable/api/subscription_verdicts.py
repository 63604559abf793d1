"""What answers mean when people are subscribed to something, or unsubscribed: one by one or by whole arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping

from airflow_provider_iterable.api.answers import (
    count,
    in_iterables_form,
    is_success,
    message,
    names_forgotten,
    names_nobody,
    not_enabled,
    parsed,
    status_of,
)
from airflow_provider_iterable.api.blame import BLAME, Meaning, counted
from airflow_provider_iterable.api.refusals import outcome_of, refusal
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.vocabulary import Again, Batch, Halt, Reply, Settled, Verdict

_NO_GROUP = re.compile(r"subscription group", re.IGNORECASE)
"""How Iterable is thought to say that there is no such message type, channel or list."""
_FAILED: Mapping[str, Meaning] = {**BLAME, "failed": (Reason.SERVER_ERROR, Fate.DEFERRED)}


def judge_group(batch: Batch, reply: Reply) -> Verdict:
    """Judge ``/api/subscriptions``, which takes a request as a whole and says nothing about single people."""
    if is_success(reply, ("Success", "Accepted")) or (reply.status == 202 and not reply.body.strip()):
        return Settled()
    if not_enabled(reply):
        return Halt(
            f"Iterable has not enabled the Subscriptions API for this project ({status_of(reply)}). Ask Iterable to "
            "enable it, or set exclusive=True, which replaces the arrays of each person and looks everybody up first. "
            "Once that is mended, a new run sends what is left."
        )
    if _names_no_group(reply):
        detail = f"{status_of(reply)}, for all rows with this ID"
        return Settled(
            {
                number: outcome_of(operation, Reason.UNKNOWN_SUBSCRIPTION, Fate.REJECTED, detail)
                for number, operation in enumerate(batch.operations)
            }
        )
    return _gone(batch, reply) or refusal(batch, reply)


def judge_bulk_subscriptions(batch: Batch, reply: Reply) -> Verdict:
    """Judge ``users/bulkUpdateSubscriptions``: counts, and four arrays of blamed users.

    Two of them hold valid identifiers at which Iterable failed with an error of its own.
    """
    if reply.status != 200:
        return _gone(batch, reply) or refusal(batch, reply)
    body = parsed(reply)
    if count(body, "successCount") < 0:
        return Again(Reason.NO_ANSWER)
    blamed = {
        "invalidEmails": body.get("invalidEmails"),
        "invalidUserIds": body.get("invalidUserIds"),
        "failedEmails": body.get("validEmailFailures"),
        "failedUserIds": body.get("validUserIdFailures"),
    }
    return counted(batch, {**body, "failedUpdates": blamed}, _FAILED)


def _names_no_group(reply: Reply) -> bool:
    """Return whether Iterable says that there is no such message type, channel or list."""
    body = in_iterables_form(reply)
    if reply.status == 404:
        return body.get("code") == "NotFound" and not names_nobody(reply)
    return reply.status == 400 and bool(body) and bool(_NO_GROUP.search(message(reply)))


def _gone(batch: Batch, reply: Reply) -> Verdict | None:
    """Judge a refusal of somebody whose row has left: who is not there, or is forgotten, is subscribed to nothing."""
    (operation, *others) = batch.operations
    if others or operation.kind is not Kind.REMOVED:
        return None
    if reply.status in (400, 404, 409) and (names_nobody(reply) or names_forgotten(reply)):
        return Settled({0: outcome_of(operation, Reason.ALREADY_GONE, Fate.ACCEPTED)})
    return None
