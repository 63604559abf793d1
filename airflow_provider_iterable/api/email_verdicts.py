"""What answers mean while addresses change: whether a change was made, refused, or takes a look-up to know."""

from __future__ import annotations

import msgspec

from airflow_provider_iterable.api.answers import (
    code_of,
    in_iterables_form,
    is_success,
    names_nobody,
    parsed,
    values_at,
)
from airflow_provider_iterable.api.refusals import CODES, outcome_of, refusal
from airflow_provider_iterable.api.verdicts import judge_bulk_users, judge_lookup, judge_update_only
from airflow_provider_iterable.engine.reasons import Fate, Reason
from airflow_provider_iterable.engine.vocabulary import Again, Batch, Operation, Outcome, Reply, Settled, Split, Verdict

_TAKEN = ("EmailAlreadyExists", "ExternalKeyConflict", "Conflict")


def judge_update_email(batch: Batch, reply: Reply) -> Verdict:
    """Judge ``users/updateEmail``: accepted, refused, or left open where it takes a look-up to know.

    Sent again after a lost answer, it finds the old address gone or the new one taken, as it does when the user
    never existed or somebody else has the new address.
    """
    (operation,) = batch.operations
    if is_success(reply):
        return Settled({0: _accepted(operation)})
    body = in_iterables_form(reply)
    code = code_of(body)
    taken = code in _TAKEN or (reply.status == 409 and bool(body) and code not in CODES)
    if reply.status in (400, 404, 409) and (taken or names_nobody(reply)):
        return Settled()
    return refusal(batch, reply)


def judge_bulk_change_email(batch: Batch, reply: Reply) -> Verdict:
    """Judge ``users/bulkUpdate`` with another email: the one identifier that can conflict is the new address.

    Where the call has another one to go on to, it must not go twice: after it, the old address would make a new
    user. So whoever is not known to be changed or refused goes on to a look-up.
    """
    verdict = _of_addresses(judge_bulk_users(batch, reply))
    if batch.call.then is None:
        return verdict
    if isinstance(verdict, Settled):
        return Settled({n: verdict.outcomes.get(n) or _accepted(op) for n, op in enumerate(batch.operations)})
    applied = isinstance(verdict, Split) and 200 <= reply.status < 300
    lost = isinstance(verdict, Again) and verdict.reason is Reason.NO_ANSWER
    return Settled() if applied or lost else verdict


def judge_update_only_email(batch: Batch, reply: Reply) -> Verdict:
    """Judge ``users/bulkUpdate`` with another email and ``updateOnly``, which skips unknown users; it may go twice."""
    return _of_addresses(judge_update_only(batch, reply))


def _of_addresses(verdict: Verdict) -> Verdict:
    """Return a verdict about changes of address: a conflict is one of the new address."""
    if isinstance(verdict, Split) and verdict.reason is Reason.CONFLICT:
        return msgspec.structs.replace(verdict, reason=Reason.TARGET_EXISTS)
    if not isinstance(verdict, Settled):
        return verdict
    outcomes = dict(verdict.outcomes)
    for number, outcome in outcomes.items():
        if outcome.reason is Reason.CONFLICT:
            outcomes[number] = msgspec.structs.replace(outcome, reason=Reason.TARGET_EXISTS)
    return Settled(outcomes)


def judge_old_address(batch: Batch, reply: Reply) -> Verdict:
    """Judge the look-up of a current address when somebody has the new one: either they moved, or there are two."""
    return _found(batch, reply, (Reason.TARGET_EXISTS, Fate.REJECTED), (Reason.ALREADY_CHANGED, Fate.ACCEPTED))


def judge_address_of(batch: Batch, reply: Reply) -> Verdict:
    """Judge the look-up by user ID of somebody whose new address is taken: by themselves, or by another user."""
    body = parsed(reply)
    emails = values_at(body, ["user", "email"]) + values_at(body, ["user", "dataFields", "email"])
    own = batch.operations[0].handles[-1] in [("email", str(email).lower()) for email in emails]
    present = (Reason.ALREADY_CHANGED, Fate.ACCEPTED) if own else (Reason.TARGET_EXISTS, Fate.REJECTED)
    return _found(batch, reply, present, (Reason.UNKNOWN_USER, Fate.SKIPPED))


def judge_before_change(batch: Batch, reply: Reply) -> Verdict:
    """Judge the look-ups before an address changes: of the current one and, if that is nobody's, of the new one.

    An operation has the new address alone left once nobody has the current one. At the end of the tries, whoever
    still has the current address waits for the next run.
    """
    if len(batch.operations[0].handles) == 1:
        return _found(batch, reply, (Reason.ALREADY_CHANGED, Fate.ACCEPTED), (Reason.UNKNOWN_USER, Fate.SKIPPED))
    verdict = _found(batch, reply, None, (Reason.UNKNOWN_USER, Fate.SKIPPED))
    if isinstance(verdict, Settled) and verdict.outcomes and verdict.outcomes[0].reason is Reason.UNKNOWN_USER:
        detail = "field email: nobody has this address"
        return Split(Reason.UNKNOWN_USER, rejected={0: detail}, fields={0: frozenset({"email"})}, last=Fate.SKIPPED)
    if isinstance(verdict, Settled) and not verdict.outcomes and batch.call.then is None:
        return Settled({0: outcome_of(batch.operations[0], Reason.NO_ANSWER, Fate.DEFERRED)})
    return verdict


def _found(batch: Batch, reply: Reply, present: tuple[Reason, Fate] | None, absent: tuple[Reason, Fate]) -> Verdict:
    """Judge a look-up by what it means that the user exists, and that nobody does; ``None``: to go on."""
    verdict = judge_lookup(batch, reply)
    if not isinstance(verdict, Settled):
        return verdict
    outcome = verdict.outcomes.get(0)
    if outcome is not None and outcome.reason is not Reason.UNKNOWN_USER:
        return verdict
    meaning = present if outcome is None else absent
    return Settled() if meaning is None else Settled({0: outcome_of(batch.operations[0], *meaning)})


def _accepted(operation: Operation) -> Outcome:
    return Outcome(operation.key, operation.kind, Fate.ACCEPTED, operation=operation)
