"""What an answer means for every record that was in the request; pure functions, no request is made here.

What is no success is judged in ``refusals``, and what is about a change of address in ``email_verdicts``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from airflow_provider_iterable.api.answers import (
    code_of,
    count,
    in_iterables_form,
    is_missing_catalog,
    is_success,
    message,
    names_forgotten,
    names_nobody,
    parsed,
)
from airflow_provider_iterable.api.blame import BLAME, UNSUBSCRIBED, blamed_by, counted, left_out, no_ops
from airflow_provider_iterable.api.quota import NO_QUOTA, QUOTA_PATIENCE
from airflow_provider_iterable.api.refusals import outcome_of, refusal
from airflow_provider_iterable.engine.reasons import Fate, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Again,
    Batch,
    Halt,
    Handle,
    Operation,
    Reply,
    Settled,
    Split,
    Verdict,
)

_NO_LIST = re.compile(r"invalidListId|invalid email list|not a static list", re.IGNORECASE)
_DISALLOWED = b"is disallowed from tracking"
_NOT_TRACKED = "the project does not track events of this name"


def judge_bulk_users(batch: Batch, reply: Reply) -> Verdict:
    """Judge ``users/bulkUpdate``: counts, and arrays of blamed identifiers, in a 200."""
    if reply.status != 200:
        return refusal(batch, reply)
    body = parsed(reply)
    if count(body, "successCount") < 0:
        return Again(Reason.NO_ANSWER)
    return counted(batch, body)


def judge_update_only(batch: Batch, reply: Reply) -> Verdict:
    """Judge ``users/bulkUpdate`` with ``updateOnly``, which skips unknown users.

    How it reports them is not documented: as failures or as successes with a name, as successes without one, which
    look like any other, or not at all. Of a row that is in no count, nothing was written and nothing failed.
    """
    body = parsed(reply)
    failures, successes = count(body, "failCount"), count(body, "successCount")
    if reply.status != 200 or min(failures, successes) < 0:
        return judge_bulk_users(batch, reply)
    blamed = list(blamed_by(body, BLAME))
    unknown = [name for *name, meaning in blamed if meaning[0] is Reason.UNKNOWN_USER]
    if unknown and len(unknown) == len(blamed) - failures:  # they are named, and counted as no failures
        body = {**body, "failCount": len(blamed)}
        return counted(batch, body)
    if not blamed and failures == 0 and successes < len(batch.operations):
        return _uncounted(batch, body, successes)
    return counted(batch, body)


def _uncounted(batch: Batch, body: Mapping[str, Any], successes: int) -> Verdict:
    """Find the skipped rows where no count speaks of them; whether one speaks of unchanged profiles is not known."""
    if successes == 0:
        emails, user_ids = no_ops(body)
        unchanged = {("email", str(email).lower()) for email in emails} | {("user_id", str(name)) for name in user_ids}
        return Settled(
            {
                number: outcome_of(operation, Reason.UNKNOWN_USER, Fate.SKIPPED)
                for number, operation in enumerate(batch.operations)
                if not unchanged.intersection(operation.handles)
            },
            left_out(body),
        )
    return Split(Reason.UNKNOWN_USER, "Iterable did not say whom it skipped", last=Fate.SKIPPED)


def judge_subscribe(batch: Batch, reply: Reply, number: int | None = None, fresh: bool = False) -> Verdict:
    """Judge ``lists/subscribe``: counts and blame as for users, and a list that may not be there.

    :param number: the list's ID
    :param fresh: whether the list was made a moment ago, so that Iterable may not take members for it yet
    """
    return _no_list(reply, number, fresh) or judge_bulk_users(batch, reply)


def judge_unsubscribe(batch: Batch, reply: Reply, number: int | None = None, fresh: bool = False) -> Verdict:
    """Judge ``lists/unsubscribe``: who does not exist, or was forgotten, has left the list."""
    verdict = _no_list(reply, number, fresh)
    if verdict is not None:
        return verdict
    if reply.status != 200:
        if len(batch.operations) == 1 and _is_gone(reply):
            return Settled({0: outcome_of(batch.operations[0], Reason.ALREADY_GONE, Fate.ACCEPTED)})
        return refusal(batch, reply)
    body = parsed(reply)
    if count(body, "successCount") < 0:
        return Again(Reason.NO_ANSWER)
    return counted(batch, body, UNSUBSCRIBED)


def _no_list(reply: Reply, number: int | None, fresh: bool) -> Verdict | None:
    """Judge an answer that is about the list and not about its members; ``None`` when it is another one."""
    body = parsed(reply)
    params = body.get("params")
    named = reply.status < 500 and isinstance(params, dict) and "listId" in params
    about_a_list = reply.status in (400, 404) or reply.status >= 500
    if not about_a_list or not body or not (named or _NO_LIST.search(message(reply))):
        return None
    if fresh:
        return Again(Reason.NO_ANSWER)
    return Halt(
        f"Iterable takes no members for list {number} (HTTP {reply.status}): it was deleted, belongs to another "
        "project, or is no static list. Mend list_id if it is wrong. To fill another list, or one of this name anew, "
        "set another sync_id: all rows are new to it, and a list_name that is missing is created."
    )


def judge_delete(batch: Batch, reply: Reply) -> Verdict:
    """Judge a deletion: it is done when Iterable says so, or says that there is nobody, or that they are forgotten.

    Nobody else's answer counts, whatever its status: a person whom it is believed of would stay at Iterable for ever.
    """
    (operation,) = batch.operations
    if is_success(reply):
        return Settled()
    if _is_gone(reply):
        return Settled({0: outcome_of(operation, Reason.ALREADY_GONE, Fate.ACCEPTED)})
    return refusal(batch, reply)


def _is_gone(reply: Reply) -> bool:
    """Return whether Iterable says of the one user of a request that there is nobody to remove."""
    return reply.status in (400, 404, 409) and (names_nobody(reply) or names_forgotten(reply))


def judge_forget(batch: Batch, reply: Reply) -> Verdict:
    """Judge forgetting somebody: who does not exist, or is forgotten already, counts as done.

    The daily quota leaves nothing to wait for in this run: the request waits for a later one.
    """
    if reply.error == NO_QUOTA or (reply.status == 429 and (reply.retry_after or 0.0) > QUOTA_PATIENCE):
        return Settled({0: outcome_of(batch.operations[0], Reason.QUOTA, Fate.DEFERRED)})
    return judge_delete(batch, reply)


def judge_unforget(batch: Batch, reply: Reply) -> Verdict:
    """Judge unforgetting somebody: who was not forgotten, or does not exist, counts as done; who still is, does not."""
    if names_forgotten(reply):
        return refusal(batch, reply)
    verdict = judge_forget(batch, reply)
    if isinstance(verdict, Settled) and all(outcome.fate is Fate.ACCEPTED for outcome in verdict.outcomes.values()):
        return Settled()
    return verdict


def judge_lookup(batch: Batch, reply: Reply) -> Verdict:
    """Judge a look-up: accepted when the user exists, skipped when not.

    An unknown user ID was seen as a 200 with ``{}``, as a 400 in plain text, and as a coded error of another
    status; all three mean that nobody has it. Of an answer ``{}`` it cannot be told who gave it.
    """
    (operation,) = batch.operations
    user = parsed(reply).get("user")
    if reply.status == 200 and isinstance(user, dict) and not user.keys().isdisjoint(("email", "userId", "dataFields")):
        return Settled() if _is_asked_for(operation, user) else Again(Reason.NO_ANSWER)
    if reply.status == 200 and reply.body.strip() == b"{}":
        return Settled({0: outcome_of(operation, Reason.UNKNOWN_USER, Fate.SKIPPED)})
    if names_nobody(reply):
        return Settled({0: outcome_of(operation, Reason.UNKNOWN_USER, Fate.SKIPPED)})
    if reply.status == 200:
        return Again(Reason.NO_ANSWER)
    return refusal(batch, reply)


def named_in(user: Mapping[str, Any]) -> set[Handle]:
    """Return the identifiers of a user in an answer, as handles; some answers have them among the fields alone."""
    fields = user.get("dataFields")
    places = (user, fields if isinstance(fields, dict) else {})
    said = [(kind, place.get(name)) for place in places for kind, name in (("email", "email"), ("user_id", "userId"))]
    return {
        (kind, name.strip().lower() if kind == "email" else name.strip())
        for kind, name in said
        if isinstance(name, str) and name.strip()
    }


def names_asked(operation: Operation, reply: Reply) -> bool:
    """Return whether an answer says that it is about the one whom an operation is about.

    What is written by what a profile has must not rest on an answer that may be about anybody.
    """
    user = parsed(reply).get("user")
    return isinstance(user, dict) and operation.handles[0] in named_in(user)


def _is_asked_for(operation: Operation, user: Mapping[str, Any]) -> bool:
    """Return whether a user is the one who was asked for, as far as the answer says who it is.

    A cache between the worker and Iterable may answer for somebody else, and an update must not create users.
    """
    named = {(kind, name.lower()) for kind, name in named_in(user)}
    asked = {(kind, name.strip().lower()) for kind, name in operation.handles}
    untold = {kind for kind, _ in named}.isdisjoint(kind for kind, _ in asked)
    return untold or not named.isdisjoint(asked)


def judge_bulk_events(batch: Batch, reply: Reply) -> Verdict:
    """Judge ``events/trackBulk``: counts, six arrays of blamed users, and names of events that are not tracked.

    A blamed user blames each of their events. Whether events of a name that is not tracked count as failures is not
    documented: the answer is believed when it adds up in either way.
    """
    if not reply.sent:
        return Again(Reason.RATE_LIMITED, reply.retry_after)
    if reply.status != 200:
        return _one_name_at_a_time(batch, refusal(batch, reply))
    body = parsed(reply)
    if count(body, "successCount") < 0:
        return Again(Reason.NO_ANSWER)
    names = body.get("disallowedEventNames")
    return _disallowed(batch, body, names) if isinstance(names, list) and names else counted(batch, body)


def _disallowed(batch: Batch, body: Mapping[str, Any], names: Sequence[Any]) -> Verdict:
    """Set the events with these names aside, and judge the others by themselves."""
    operations, call = batch.operations, replace(batch.call, repeatable=True)
    blamed = [n for n, op in enumerate(operations) if len(operations) == 1 or _event_name(op) in names]
    others = [n for n in range(len(operations)) if n not in set(blamed)]
    rest = Batch(call, [operations[number] for number in others])
    failures, successes = count(body, "failCount"), count(body, "successCount")
    if successes <= len(operations):  # and may count those that are not tracked
        successes = min(successes, len(others))
    for failed in (failures - len(blamed), failures) if blamed else ():
        verdict = counted(rest, {**body, "failCount": failed, "successCount": successes})
        if isinstance(verdict, Settled):
            outcomes = {others[number]: outcome for number, outcome in verdict.outcomes.items()}
            outcomes.update((n, outcome_of(operations[n], Reason.REFUSED, Fate.REJECTED, _NOT_TRACKED)) for n in blamed)
            return Settled(outcomes, verdict.left_out)
    return counted(batch, {**body, "failCount": -1})


def _one_name_at_a_time(batch: Batch, verdict: Verdict) -> Verdict:
    """Suspect only events of one name at a time.

    A field has a type of its own in the events of each name, and the answer may not say which name it means.
    """
    if not isinstance(verdict, Split) or not verdict.rejected:
        return verdict
    names = [_event_name(operation) for operation in batch.operations]
    if len(set(names)) == 1:
        return verdict
    first = names[min(verdict.rejected)]
    suspects = frozenset(number for number in verdict.rejected if names[number] == first)
    return Split(verdict.reason, verdict.detail, suspects=suspects, last=verdict.last)


def _event_name(operation: Operation) -> Any:
    return msgspec.json.decode(operation.body).get("eventName")


def judge_commerce(batch: Batch, reply: Reply) -> Verdict:
    """Judge ``commerce/trackPurchase`` and ``updateCart``: an event that is not tracked comes back as a 200 too."""
    (operation,) = batch.operations
    if not reply.sent:
        return Again(Reason.RATE_LIMITED, reply.retry_after)
    if 200 <= reply.status < 300 and in_iterables_form(reply):
        if _DISALLOWED in reply.body:
            return Settled({0: outcome_of(operation, Reason.REFUSED, Fate.REJECTED, _NOT_TRACKED)})
        if is_success(reply):
            return Settled()
    return refusal(batch, reply)


def judge_carts() -> Callable[[Batch, Reply], Verdict]:
    """Return a judge of ``commerce/updateCart`` that remembers lost answers.

    A cart that was accepted after one counts as repeated: the profile is right, its event may be there twice.
    """
    lost: set[str] = set()

    def judge(batch: Batch, reply: Reply) -> Verdict:
        verdict = judge_commerce(batch, reply)
        (operation,) = batch.operations
        if isinstance(verdict, Again) and verdict.reason is Reason.NO_ANSWER:
            lost.add(operation.key)
        elif operation.key in lost and isinstance(verdict, Settled) and not verdict.outcomes:
            return Settled({0: outcome_of(operation, Reason.REPEATED, Fate.ACCEPTED)})
        return verdict

    return judge


def judge_catalog(batch: Batch, reply: Reply) -> Verdict:
    """Judge a change of catalog items: Iterable takes a request as a whole, and says nothing about single items.

    It documents a 202 for that, and no body, so an empty one counts with this status alone.
    """
    if is_success(reply, ("Success", "Accepted")) or (reply.status == 202 and not reply.body.strip()):
        return Settled()
    code = code_of(parsed(reply))
    shown = f"HTTP {reply.status} {code}".strip()
    if is_missing_catalog(reply):
        return Halt(
            f"The catalog is not at Iterable ({shown}): it was deleted while this run went on. If that was meant, run "
            'once with resync="full", which creates the catalog anew and sends every row.'
        )
    if reply.status >= 400 and code == "UniqueFieldsLimitExceeded":
        return Halt(
            f"The catalog has no room for the new fields ({shown}): map fewer, or ask Iterable to raise the limit, "
            "which is about 350 fields."
        )
    return refusal(batch, reply)
