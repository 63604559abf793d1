"""What an answer means for every record that was in the request; pure functions, no request is made here."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from airflow_provider_iterable.api.values import fits, shape
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

BLAME: Mapping[str, tuple[Reason, Fate]] = {
    "invalid": (Reason.INVALID_EMAIL, Fate.REJECTED),
    "notFound": (Reason.UNKNOWN_USER, Fate.SKIPPED),
    "invalidData": (Reason.INVALID_DATA, Fate.REJECTED),
    "conflict": (Reason.CONFLICT, Fate.REJECTED),
    "forgotten": (Reason.FORGOTTEN_USER, Fate.SKIPPED),
}
"""What the arrays of ``failedUpdates`` mean, by the part of their names before ``Emails`` and ``UserIds``."""

UNSUBSCRIBED: Mapping[str, tuple[Reason, Fate]] = {
    **BLAME,
    "notFound": (Reason.ALREADY_GONE, Fate.ACCEPTED),
    "forgotten": (Reason.ALREADY_GONE, Fate.ACCEPTED),
}
"""What they mean when somebody was to leave a list: who does not exist is on none."""

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

NO_QUOTA = "NoQuota"
"""The error of a request that was not sent because Iterable's daily quota is used up."""
QUOTA_PATIENCE = 600.0
"""Seconds a run waits for the daily quota; what would have to wait longer waits for a later run."""

_NO_OPS = ("noOpEmails", "noOpUserIds")
_TAKEN = ("EmailAlreadyExists", "ExternalKeyConflict", "Conflict")
_GONE = ("UnknownEmailError", "UnknownUserIdError", "ForgottenUserError")
_NOBODY = re.compile(r"no users? with|user does not exist|noUserWithIdExists", re.IGNORECASE)
_NO_LIST = re.compile(r"invalidListId|invalid email list|not a static list", re.IGNORECASE)
_NOT_ENABLED = re.compile(r"endpoint not found for project", re.IGNORECASE)
_OF_THE_BODY = ("RequestFieldsTypesMismatched", "BatchTooLarge", "UniqueFieldsLimitExceeded")
"""Codes that are about what was sent: another try would get the same answer, whatever the status."""
_BODY_INDEX = re.compile(r"\[(\d{1,9})\]")
_DISALLOWED = b"is disallowed from tracking"
_NOT_TRACKED = "the project does not track events of this name"


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


def judge_bulk_users(batch: Batch, reply: Reply) -> Verdict:
    """Judge ``users/bulkUpdate``: counts, and arrays of blamed identifiers, in a 200."""
    if reply.status != 200:
        return refusal(batch, reply)
    body = parsed(reply)
    if _number(body.get("successCount")) < 0:
        return Again(Reason.NO_ANSWER)
    return counted(batch, body)


def judge_update_only(batch: Batch, reply: Reply) -> Verdict:
    """Judge ``users/bulkUpdate`` with ``updateOnly``, which skips unknown users.

    How it reports them is not documented: as failures or as successes with a name, as successes without one, which
    cannot be told from others, or not at all. Of a row that is in no count, nothing was written and nothing failed.
    """
    body = parsed(reply)
    failures, successes = _number(body.get("failCount")), _number(body.get("successCount"))
    if reply.status != 200 or min(failures, successes) < 0:
        return judge_bulk_users(batch, reply)
    blamed = list(_blamed(body, BLAME))
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
        emails, user_ids = (found if isinstance(found := body.get(name), list) else [] for name in _NO_OPS)
        unchanged = {("email", str(email).lower()) for email in emails} | {("user_id", str(name)) for name in user_ids}
        return Settled(
            {
                number: _told(operation, Reason.UNKNOWN_USER, Fate.SKIPPED)
                for number, operation in enumerate(batch.operations)
                if not unchanged.intersection(operation.handles)
            },
            _left_out(body),
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
        if len(batch.operations) == 1 and code_of(parsed(reply)) in _GONE:
            return Settled({0: _told(batch.operations[0], Reason.ALREADY_GONE, Fate.ACCEPTED)})
        return refusal(batch, reply)
    body = parsed(reply)
    if _number(body.get("successCount")) < 0:
        return Again(Reason.NO_ANSWER)
    return counted(batch, body, UNSUBSCRIBED)


def _no_list(reply: Reply, number: int | None, fresh: bool) -> Verdict | None:
    """Judge an answer that is about the list and not about its members; ``None`` when it is another one."""
    body = parsed(reply)
    params = body.get("params")
    named = reply.status < 500 and isinstance(params, dict) and "listId" in params
    about_a_list = reply.status in (400, 404) or reply.status >= 500
    if not about_a_list or not body or not (named or _NO_LIST.search(_message(reply))):
        return None
    if fresh:
        return Again(Reason.NO_ANSWER)
    return Halt(
        f"Iterable takes no members for list {number} (HTTP {reply.status}): it was deleted, belongs to another "
        "project, or is no static list. Mend list_id if it is wrong. To fill another list, or one of this name anew, "
        "set another sync_id: all rows are new to it, and a list_name that is missing is created."
    )


def counted(batch: Batch, body: Mapping[str, Any], meanings: Mapping[str, tuple[Reason, Fate]] = BLAME) -> Verdict:
    """Match blamed identifiers to operations; believe the match only when it adds up to both counts.

    Conflict arrays name the identifier that stood in the way, which may be that of another profile: a row that bears
    it as its own identity may be the innocent owner, and is only a suspect. Duplicates cannot be told apart, so blame
    that does not add up takes the batch apart, never passes for success. Whether ``successCount`` includes profiles
    that the request did not change is not documented, so those that ``noOp`` arrays name count as well.

    :param meanings: what the failure arrays mean
    """
    operations = batch.operations
    failures, successes = _number(body.get("failCount")), _number(body.get("successCount"))
    left_out = _left_out(body)
    successes += sum(len(found) for name in ("noOpEmails", "noOpUserIds") if isinstance(found := body.get(name), list))
    if failures == 0 and successes >= len(operations) and not any(True for _ in _blamed(body, meanings)):
        return Settled(left_out=left_out)
    blamed: dict[int, tuple[Reason, Fate]] = {}
    suspects: set[int] = set()
    by_handle: dict[tuple[str, str], list[int]] = {}
    for number, operation in enumerate(operations):
        for handle in operation.handles:
            by_handle.setdefault(handle, []).append(number)
    seen: tuple[Reason, Fate] | None = None
    for kind, value, meaning in _blamed(body, meanings):
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
    # Names that count as done explain a failure each, and do no harm where they were counted as successes.
    done = all(fate is Fate.ACCEPTED for _, fate in blamed.values()) and 0 <= failures <= len(blamed)
    if not suspects and (done or len(blamed) == failures) and len(operations) - failures <= successes:
        return Settled({number: _told(operations[number], *blame) for number, blame in blamed.items()}, left_out)
    if not batch.call.repeatable:
        return Settled({n: _told(op, Reason.UNATTRIBUTED, Fate.REJECTED) for n, op in enumerate(operations)})
    reason, fate = seen or (Reason.UNATTRIBUTED, Fate.REJECTED)
    if fate is Fate.ACCEPTED:
        reason, fate = Reason.UNATTRIBUTED, Fate.REJECTED
    return Split(reason, "Iterable's counts and names do not add up", suspects=frozenset(suspects), last=fate)


def _left_out(body: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the fields that Iterable left out, from whichever record; ``None`` where the answer does not tell.

    It does so where it is not to create new fields, and counts the records as successes. Of a field inside others, its
    parents may be named, too.
    """
    found = body.get("filteredOutFields")
    if not isinstance(found, list):
        return None
    names = frozenset(map(str, found))
    return names - {name[:end] for name in names for end, sign in enumerate(name) if sign == "."}


def _blamed(
    body: Mapping[str, Any], meanings: Mapping[str, tuple[Reason, Fate]]
) -> Iterator[tuple[str, str, tuple[Reason, Fate]]]:
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


def judge_delete(batch: Batch, reply: Reply) -> Verdict:
    """Judge a deletion: somebody who is gone or forgotten already counts as deleted."""
    (operation,) = batch.operations
    body = parsed(reply)
    if 200 <= reply.status < 300 and (body or not reply.body.strip()):
        return Settled()
    unknown = code_of(body) in _GONE or _NOBODY.search(_message(reply))
    if not_enabled(reply):
        return refusal(batch, reply)
    if reply.status in (400, 404, 409) and (unknown or (reply.status == 404 and body)):
        return Settled({0: _told(operation, Reason.ALREADY_GONE, Fate.ACCEPTED)})
    return refusal(batch, reply)


def judge_forget(batch: Batch, reply: Reply) -> Verdict:
    """Judge forgetting somebody: who does not exist, or is forgotten already, counts as done.

    The daily quota leaves nothing to wait for in this run: the request waits for a later one.
    """
    if reply.error == NO_QUOTA or (reply.status == 429 and (reply.retry_after or 0.0) > QUOTA_PATIENCE):
        return Settled({0: _told(batch.operations[0], Reason.QUOTA, Fate.DEFERRED)})
    return judge_delete(batch, reply)


def judge_unforget(batch: Batch, reply: Reply) -> Verdict:
    """Judge unforgetting somebody: who was not forgotten, or does not exist, counts as done."""
    verdict = judge_forget(batch, reply)
    if isinstance(verdict, Settled) and all(outcome.fate is Fate.ACCEPTED for outcome in verdict.told.values()):
        return Settled()
    return verdict


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


def judge_update_email(batch: Batch, reply: Reply) -> Verdict:
    """Judge ``users/updateEmail``: accepted, refused, or not told where it takes a look-up to know.

    Sent again after a lost answer, it finds the old address gone or the new one taken, as it does when the user
    never existed or somebody else has the new address.
    """
    (operation,) = batch.operations
    body, code = parsed(reply), code_of(parsed(reply))
    if 200 <= reply.status < 300 and body:
        return Settled({0: _accepted(operation)})
    taken = code in _TAKEN or (reply.status == 409 and code not in CODES)
    unknown = code in ("UnknownEmailError", "UnknownUserIdError") or _NOBODY.search(_message(reply))
    if reply.status in (400, 404, 409) and (taken or unknown):
        return Settled()
    return refusal(batch, reply)


def judge_bulk_change_email(batch: Batch, reply: Reply) -> Verdict:
    """Judge ``users/bulkUpdate`` with another email: the one identifier that can conflict is the new address.

    Where the call has another one to go on to, it must not go twice: after it, the old address would make a new
    user. So whoever is not known to be changed or refused goes on to a look-up.
    """
    verdict = judge_bulk_users(batch, reply)
    if isinstance(verdict, Split) and verdict.reason is Reason.CONFLICT:
        verdict = msgspec.structs.replace(verdict, reason=Reason.TARGET_EXISTS)
    if isinstance(verdict, Settled):
        told = dict(verdict.told)
        for number, outcome in told.items():
            if outcome.reason is Reason.CONFLICT:
                told[number] = msgspec.structs.replace(outcome, reason=Reason.TARGET_EXISTS)
        verdict = Settled(told)
    if batch.call.then is None:
        return verdict
    if isinstance(verdict, Settled):
        return Settled({n: verdict.told.get(n) or _accepted(op) for n, op in enumerate(batch.operations)})
    applied = isinstance(verdict, Split) and 200 <= reply.status < 300
    lost = isinstance(verdict, Again) and verdict.reason is Reason.NO_ANSWER
    return Settled() if applied or lost else verdict


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
    if isinstance(verdict, Settled) and verdict.told and verdict.told[0].reason is Reason.UNKNOWN_USER:
        detail = "field email: nobody has this address"
        return Split(Reason.UNKNOWN_USER, rejected={0: detail}, fields={0: frozenset({"email"})}, last=Fate.SKIPPED)
    if isinstance(verdict, Settled) and not verdict.told and batch.call.then is None:
        return Settled({0: _told(batch.operations[0], Reason.NO_ANSWER, Fate.DEFERRED)})
    return verdict


def _found(batch: Batch, reply: Reply, present: tuple[Reason, Fate] | None, absent: tuple[Reason, Fate]) -> Verdict:
    """Judge a look-up by what it means that the user exists, and that nobody does; ``None``: to go on."""
    verdict = judge_lookup(batch, reply)
    if not isinstance(verdict, Settled):
        return verdict
    told = verdict.told.get(0)
    if told is not None and told.reason is not Reason.UNKNOWN_USER:
        return verdict
    meaning = present if told is None else absent
    return Settled() if meaning is None else Settled({0: _told(batch.operations[0], *meaning)})


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
    if _number(body.get("successCount")) < 0:
        return Again(Reason.NO_ANSWER)
    names = body.get("disallowedEventNames")
    return _disallowed(batch, body, names) if isinstance(names, list) and names else counted(batch, body)


def _disallowed(batch: Batch, body: Mapping[str, Any], names: Sequence[Any]) -> Verdict:
    """Set the events with these names aside, and judge the others by themselves."""
    operations, call = batch.operations, replace(batch.call, repeatable=True)
    blamed = [n for n, op in enumerate(operations) if len(operations) == 1 or _event_name(op) in names]
    others = [n for n in range(len(operations)) if n not in set(blamed)]
    rest = Batch(call, [operations[number] for number in others])
    failures = _number(body.get("failCount"))
    for failed in (failures - len(blamed), failures) if blamed else ():
        verdict = counted(rest, {**body, "failCount": failed})
        if isinstance(verdict, Settled):
            told = {others[number]: outcome for number, outcome in verdict.told.items()}
            told.update((n, _told(operations[n], Reason.REFUSED, Fate.REJECTED, _NOT_TRACKED)) for n in blamed)
            return Settled(told, verdict.left_out)
    return counted(batch, {**body, "failCount": -1})


def _one_name_at_a_time(batch: Batch, verdict: Verdict) -> Verdict:
    """Suspect only events of one name at a time.

    A field has a type of its own in the events of each name, and the answer need not tell which name it means.
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
    if 200 <= reply.status < 300 and parsed(reply):
        if _DISALLOWED in reply.body:
            return Settled({0: _told(operation, Reason.REFUSED, Fate.REJECTED, _NOT_TRACKED)})
        return Settled()
    return refusal(batch, reply)


def judge_carts() -> Callable[[Batch, Reply], Verdict]:
    """Return a judge of ``commerce/updateCart`` that remembers lost answers.

    A cart that was accepted after one is told as repeated: the profile is right, its event may be there twice.
    """
    lost: set[str] = set()

    def judge(batch: Batch, reply: Reply) -> Verdict:
        verdict = judge_commerce(batch, reply)
        (operation,) = batch.operations
        if isinstance(verdict, Again) and verdict.reason is Reason.NO_ANSWER:
            lost.add(operation.key)
        elif operation.key in lost and isinstance(verdict, Settled) and not verdict.told:
            return Settled({0: _told(operation, Reason.REPEATED, Fate.ACCEPTED)})
        return verdict

    return judge


def judge_catalog(batch: Batch, reply: Reply) -> Verdict:
    """Judge a change of catalog items: Iterable takes a request as a whole, and says nothing about single items."""
    body = parsed(reply)
    if 200 <= reply.status < 300 and (body or not reply.body.strip()):
        return Settled()
    code = code_of(body)
    told = f"HTTP {reply.status} {code}".strip()
    if is_missing_catalog(reply):
        return Halt(
            f"The catalog is not at Iterable ({told}): it was deleted while this run went on. If that was meant, run "
            'once with resync="full", which creates the catalog anew and sends every row.'
        )
    if reply.status >= 400 and code == "UniqueFieldsLimitExceeded":
        return Halt(
            f"The catalog has no room for the new fields ({told}): map fewer, or ask Iterable to raise the limit, "
            "which is about 350 fields."
        )
    return refusal(batch, reply)


def is_missing_catalog(reply: Reply) -> bool:
    """Tell whether Iterable says that there is no such catalog; a page in HTML says something else."""
    body = parsed(reply)
    missing = code_of(body) == "error.catalogs.notFound" or (reply.status == 404 and bool(body))
    return missing and not not_enabled(reply)


def not_enabled(reply: Reply) -> bool:
    """Tell whether Iterable has to enable the endpoint for the project first; the host is right then."""
    return reply.status == 404 and bool(parsed(reply)) and bool(_NOT_ENABLED.search(_message(reply)))


def in_words(method: str, template: str, reply: Reply) -> str | None:
    """Say what is wrong with the key or the endpoint; ``None`` when the answer is about neither."""
    told = _status(reply)
    if reply.status in (401, 403):
        return (
            f"Iterable refused the API key ({told}): it is wrong, disabled, of another data centre, or may not make "
            f"this call ({method} {template})."
        )
    if not_enabled(reply):
        return (
            f"Iterable has not enabled {method} {template} for this project ({told}). The connection's host is right: "
            "ask Iterable to enable the endpoint."
        )
    if 300 <= reply.status < 400 or (reply.status == 404 and not parsed(reply)):
        return f"{method} {template} is not there ({told}): check the connection's host."
    return None


def refusal(batch: Batch, reply: Reply) -> Verdict:
    """Judge an answer that is no success. The status decides; codes are hints, for ``Success`` was seen on errors.

    Codes that are about what was sent stand above a 5xx.
    """
    status, body = reply.status, parsed(reply)
    code, detail = code_of(body), _status(reply)
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
        return Halt(hopeless)
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
    called, mapped = _called(batch), _mapped(batch)
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
    # Fields of events may be named alone or behind the event's name.
    return {body["eventName"]: fields, **fields} if fields and "eventName" in body else fields


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


def _called(batch: Batch) -> frozenset[str]:
    """Return what the people are called whom a batch is about: members of JSON, and so fields, may be named so."""
    return frozenset(name for operation in batch.operations for name in people(operation.handles))


def _mapped(batch: Batch) -> Collection[str]:
    """Return the fields that the sync maps: what is within them may be named by data."""
    body = msgspec.json.decode(batch.operations[0].body)
    fields = body.get("dataFields", {}) if isinstance(body, dict) else {}
    return fields.keys() if isinstance(fields, dict) else ()


def _field_limit(batch: Batch, body: Mapping[str, Any]) -> str:
    params = body.get("params") if isinstance(body.get("params"), dict) else {}
    assert isinstance(params, dict)
    fields = params.get("newFields")
    limit = params["limit"] if isinstance(params.get("limit"), int) else "not told"
    called, mapped = _called(batch), _mapped(batch)
    found = (
        [masked_name(str(name), called, mapped) for name in fields[:20]] if isinstance(fields, list) else ["not named"]
    )
    names = ", ".join(dict.fromkeys(found))
    return (
        f"Iterable's limit of unique fields ({limit}) is exceeded by new fields: {names}. "
        "Map fewer fields, have the limit raised, or set create_new_fields=False."
    )


def _status(reply: Reply) -> str:
    """Return status and code, to be shown; Iterable puts ``Success`` on errors too."""
    code = code_of(parsed(reply))
    return f"HTTP {reply.status}" + (f" {code}" if code and code != "Success" else "")


def _message(reply: Reply) -> str:
    """Return what an answer says, for matching only: it may echo identifiers, so it is never shown."""
    body = parsed(reply)
    parts = [body.get("msg"), body.get("message"), body.get("code"), body.get("error")]
    said = " ".join(part for part in parts if isinstance(part, str))
    return said or reply.body[:500].decode("utf-8", "replace")


def _number(value: Any) -> int:
    return value if isinstance(value, int) else -1


def _accepted(operation: Operation) -> Outcome:
    return Outcome(operation.key, operation.kind, Fate.ACCEPTED, operation=operation)


def _told(operation: Operation, reason: Reason, fate: Fate, detail: str = "") -> Outcome:
    if operation.kind is Kind.REMOVED and reason is Reason.UNKNOWN_USER:
        reason, fate = Reason.ALREADY_GONE, Fate.ACCEPTED  # who does not exist has no field to clear
    return Outcome(operation.key, operation.kind, fate, reason, detail, operation)
