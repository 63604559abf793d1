"""Whom an answer blames: its counts, and the arrays of identifiers beside them; believed only where they add up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_iterable.api.answers import count
from airflow_provider_iterable.api.refusals import outcome_of
from airflow_provider_iterable.engine.reasons import Fate, Reason
from airflow_provider_iterable.engine.vocabulary import Batch, Operation, Settled, Split, Verdict

Meaning = tuple[Reason, Fate]

BLAME: Mapping[str, Meaning] = {
    "invalid": (Reason.INVALID_EMAIL, Fate.REJECTED),
    "notFound": (Reason.UNKNOWN_USER, Fate.SKIPPED),
    "invalidData": (Reason.INVALID_DATA, Fate.REJECTED),
    "conflict": (Reason.CONFLICT, Fate.REJECTED),
    "forgotten": (Reason.FORGOTTEN_USER, Fate.SKIPPED),
}
"""What the arrays of ``failedUpdates`` mean, by the part of their names before ``Emails`` and ``UserIds``."""

UNSUBSCRIBED: Mapping[str, Meaning] = {
    **BLAME,
    "notFound": (Reason.ALREADY_GONE, Fate.ACCEPTED),
    "forgotten": (Reason.ALREADY_GONE, Fate.ACCEPTED),
}
"""What they mean when somebody was to leave a list: who does not exist is on none."""


@dataclass(frozen=True, slots=True)
class Blamed:
    """Which operations an answer blames: their numbers in the batch, and what is said about them."""

    meanings: Mapping[int, Meaning]
    suspects: frozenset[int] = frozenset()
    """Those that bear a blamed identifier and may be innocent."""
    first: Meaning | None = None
    """What the answer says first, about whomever."""


def counted(batch: Batch, body: Mapping[str, Any], meanings: Mapping[str, Meaning] = BLAME) -> Verdict:
    """Match blamed identifiers to operations; believe the match only when it adds up to both counts.

    Duplicates cannot be kept apart, so blame that does not add up takes the batch apart, never passes for success.

    :param meanings: what the failure arrays mean
    """
    blamed = blame(batch.operations, body, meanings)
    if adds_up(len(batch.operations), body, blamed):
        found = {number: outcome_of(batch.operations[number], *meaning) for number, meaning in blamed.meanings.items()}
        return Settled(found, left_out(body))
    if not batch.call.repeatable:
        rejected = [outcome_of(operation, Reason.UNATTRIBUTED, Fate.REJECTED) for operation in batch.operations]
        return Settled(dict(enumerate(rejected)))
    reason, fate = blamed.first or (Reason.UNATTRIBUTED, Fate.REJECTED)
    if fate is Fate.ACCEPTED:
        reason, fate = Reason.UNATTRIBUTED, Fate.REJECTED
    return Split(reason, "Iterable's counts and names do not add up", suspects=blamed.suspects, last=fate)


def blame(operations: Sequence[Operation], body: Mapping[str, Any], meanings: Mapping[str, Meaning]) -> Blamed:
    """Find the operations that bear the identifiers in failure arrays.

    Conflict arrays name the identifier that stood in the way, which may be that of another profile: a row that bears
    it as its own identity may be the innocent owner, and is only a suspect.
    """
    named = list(blamed_by(body, meanings))
    if not named:
        return Blamed({})
    by_handle: dict[tuple[str, str], list[int]] = {}
    for number, operation in enumerate(operations):
        for handle in operation.handles:
            by_handle.setdefault(handle, []).append(number)
    found: dict[int, Meaning] = {}
    suspects: set[int] = set()
    for kind, value, meaning in named:
        handle = (kind, value.strip().lower() if kind == "email" else value)
        bearers = by_handle.get(handle, [])
        if meaning[0] is Reason.CONFLICT and len(operations) > 1:
            own = [number for number in bearers if operations[number].handles[0] == handle]
            bearers = [number for number in bearers if number not in own]
            suspects.update(own if not bearers else ())
        for number in bearers:
            found.setdefault(number, meaning)
    return Blamed(found, frozenset(suspects - found.keys()), named[0][2])


def adds_up(size: int, body: Mapping[str, Any], blamed: Blamed) -> bool:
    """Return whether an answer's counts fit a batch of this size and the operations that are blamed.

    Whether ``successCount`` includes profiles that the request did not change is not documented, so those that
    ``noOp`` arrays name count as well. Names that count as done explain a failure each, and do no harm where they were
    counted as successes.
    """
    failures, reported = count(body, "failCount"), count(body, "successCount")
    successes = reported + sum(map(len, no_ops(body)))
    done = all(fate is Fate.ACCEPTED for _, fate in blamed.meanings.values()) and 0 <= failures <= len(blamed.meanings)
    explained = not blamed.suspects and (done or failures == len(blamed.meanings))
    return explained and size - failures <= successes and reported <= size


def no_ops(body: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Return the email addresses and user IDs of profiles that a request did not change."""
    emails, user_ids = (
        found if isinstance(found := body.get(f"noOp{name}"), list) else [] for name in ("Emails", "UserIds")
    )
    return emails, user_ids


def left_out(body: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the fields that Iterable left out, from whichever record; ``None`` where the answer does not say.

    It does so where it is not to create new fields, and counts the records as successes. Of a field inside others, its
    parents may be named, too.
    """
    found = body.get("filteredOutFields")
    if not isinstance(found, list):
        return None
    names = frozenset(map(str, found))
    return names - {name[:end] for name in names for end, sign in enumerate(name) if sign == "."}


def blamed_by(body: Mapping[str, Any], meanings: Mapping[str, Meaning]) -> Iterator[tuple[str, str, Meaning]]:
    """Yield ``(handle kind, identifier, meaning)`` for every identifier in a failure array."""
    failed = body.get("failedUpdates")
    arrays = (
        failed if isinstance(failed, dict) else {name: body.get(name) for name in ("invalidEmails", "invalidUserIds")}
    )
    for name, identifiers in arrays.items():
        for suffix, kind in (("Emails", "email"), ("UserIds", "user_id")):
            if name.endswith(suffix) and isinstance(identifiers, list):
                reason, fate = meanings.get(name.removesuffix(suffix), (Reason.REFUSED, Fate.REJECTED))
                if reason is Reason.INVALID_EMAIL and kind == "user_id":
                    reason = Reason.INVALID_USER_ID
                for identifier in identifiers:
                    yield kind, str(identifier), (reason, fate)
