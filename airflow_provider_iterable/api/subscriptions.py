"""The two ways to subscribe people to something: adding one thing, or replacing whole arrays as they were read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from airflow_provider_iterable.api.answers import parsed
from airflow_provider_iterable.api.endpoints import SUBSCRIPTIONS_CHANGE, USERS_BULK_SUBSCRIPTIONS, look_up_user
from airflow_provider_iterable.api.refusals import outcome_of
from airflow_provider_iterable.api.verdicts import judge_lookup, names_asked
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.vocabulary import Again, Batch, Call, Operation, Reply, Request, Settled, Verdict

Group = Literal["messageType", "messageChannel", "emailList"]
"""What people are subscribed to, as Iterable's paths name it."""
Arrays = dict[str, list[int]]
_JOINED, _LEFT, _CHANNELS_LEFT = "subscribedMessageTypeIds", "unsubscribedMessageTypeIds", "unsubscribedChannelIds"
_LISTS, _USER_LISTS = "emailListIds", "userListIds"
"""A profile has one of them: the second in projects that are not email-based."""
_encode = msgspec.json.encode


@dataclass(frozen=True)
class Subscription:
    """One thing that people are subscribed to, or not."""

    group: Group
    number: int


def change_subscriptions(match: str, about: Subscription, *, wanted: bool) -> Call:
    """Subscribe many people to one thing, or unsubscribe them, and leave all else alone.

    :param match: what they are known by
    """
    endpoint = SUBSCRIPTIONS_CHANGE
    path = endpoint.template.replace("{group}", about.group).replace("{id}", str(about.number))
    query = {"action": "subscribe" if wanted else "unsubscribe"}
    member = "users" if match == "email" else "usersByUserId"

    def wrap(operations: Sequence[Operation]) -> Request:
        body = _encode({member: [operation.handles[0][1] for operation in operations]})
        return Request(endpoint.method, path, endpoint.template, query, body)

    return endpoint.call(wrap, does=_does(wanted), subscribes=wanted)


class WholeArrays:
    """Calls that replace the arrays of a profile so that nothing but one subscription changes.

    What a run has changed of a person before counts as done, for Iterable may show a profile as it was a while ago.
    Whom it does not show is skipped: of a profile that was just made, the arrays would be replaced unread. A person may
    be in one request under way at a time.

    :param match: what people are known by
    :param opt_in: whether somebody is subscribed to a message type only if they are in an array; ``None``: not known
    """

    def __init__(self, match: str, opt_in: Callable[[int], bool | None]) -> None:
        self._match, self._opt_in = match, opt_in
        self._writes = {wanted: self._write(wanted) for wanted in (True, False)}
        self._done: dict[str, dict[Subscription, bool]] = {}
        """What was changed of a person in this run."""
        self._changed: dict[str, Arrays] = {}
        """By person: the arrays that are to be sent."""

    def change(self, about: Subscription, *, wanted: bool) -> Call:
        """Return the call that looks somebody up, and goes on to replace what has to change."""

        def judge(batch: Batch, reply: Reply) -> Verdict:
            return self._look(batch, reply, about, wanted)

        return replace(look_up_user(self._match, self._writes[wanted]), judge=judge, subscribes=wanted)

    def _write(self, wanted: bool) -> Call:
        """Return the call that replaces arrays, of whatever subscriptions."""
        endpoint = USERS_BULK_SUBSCRIPTIONS
        name = "email" if self._match == "email" else "userId"

        def wrap(operations: Sequence[Operation]) -> Request:
            requests = [self._request(name, operation) for operation in operations]
            body = _encode({"updateSubscriptionsRequests": requests})
            return Request(endpoint.method, endpoint.template, endpoint.template, body=body)

        return endpoint.call(wrap, does=_does(wanted))

    def _request(self, name: str, operation: Operation) -> dict[str, Any]:
        arrays = dict(self._changed[operation.handles[0][1]])
        if _USER_LISTS in arrays:
            arrays.setdefault(_LISTS, arrays[_USER_LISTS])  # the one name that is documented for requests
        aligned = {"validateChannelAlignment": False} if _JOINED in arrays else {}
        return {name: operation.handles[0][1], **arrays, **aligned}

    def _look(self, batch: Batch, reply: Reply, about: Subscription, wanted: bool) -> Verdict:
        """Judge a look-up, and work out what has to be sent; where nothing has, all is as it should be."""
        (operation,) = batch.operations
        verdict = judge_lookup(batch, reply)
        if not isinstance(verdict, Settled) or verdict.outcomes:
            return verdict
        present, person = _arrays_of(parsed(reply)), operation.handles[0][1]
        if present is None or not names_asked(operation, reply):
            return Again(Reason.NO_ANSWER)
        done = self._done.setdefault(person, {})
        done[about] = wanted
        after = {name: list(numbers) for name, numbers in present.items()}
        for each, subscribed in done.items():
            self._apply(after, each, subscribed)
        changed = {name: numbers for name, numbers in after.items() if set(numbers) != set(present.get(name, ()))}
        if not changed:
            fate = Fate.ACCEPTED
            reason = Reason.ALREADY_GONE if operation.kind is Kind.REMOVED else Reason.ALREADY_CHANGED
            return Settled({0: outcome_of(operation, reason, fate)})
        self._changed[person] = changed
        return Settled()

    def _apply(self, arrays: Arrays, about: Subscription, wanted: bool) -> None:
        """Let one subscription stand in the arrays, or not."""
        match about.group:
            case "messageChannel":
                _hold(arrays, _CHANNELS_LEFT, about.number, there=not wanted)
            case "emailList":
                name = _USER_LISTS if _USER_LISTS in arrays else _LISTS
                _hold(arrays, name, about.number, there=wanted)
            case "messageType" if self._opt_in(about.number):
                _hold(arrays, _JOINED, about.number, there=wanted)
                if wanted:
                    _hold(arrays, _LEFT, about.number, there=False)
            case "messageType":
                _hold(arrays, _LEFT, about.number, there=not wanted)


def _does(wanted: bool) -> str:
    return "subscribe people" if wanted else "unsubscribe people"


def _arrays_of(body: Mapping[str, Any]) -> Arrays | None:
    """Return the arrays of a profile; ``None`` where they cannot be told, so that none must be replaced."""
    fields = body["user"].get("dataFields")
    if not isinstance(fields, dict):
        return None
    names = (_JOINED, _LEFT, _CHANNELS_LEFT, _LISTS, _USER_LISTS)
    arrays = {name: fields[name] for name in names if fields.get(name) is not None}
    whole = all(isinstance(found, list) and all(type(each) is int for each in found) for found in arrays.values())
    return arrays if whole else None


def _hold(arrays: Arrays, name: str, number: int, *, there: bool) -> None:
    held = arrays.get(name, [])
    if there is not (number in held):
        arrays[name] = [*held, number] if there else [each for each in held if each != number]
