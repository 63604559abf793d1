"""What a sync does with a row: by what is remembered of it, and by what only the model decides.

A run notes it in its report, for whoever cannot make a plan because the DAG's code is not to be run there. It is asked
of the sync itself, by comparing rows that are made up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct, to_builtins

from airflow_provider_iterable.engine.compare import compare
from airflow_provider_iterable.engine.doubt import doubted
from airflow_provider_iterable.engine.forecast import chain, name
from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.references import is_made, made
from airflow_provider_iterable.engine.resync import VOID, for_resync
from airflow_provider_iterable.engine.vocabulary import (
    NEVER_EQUAL,
    Added,
    Changed,
    Entry,
    Fresh,
    Gone,
    Handle,
    Invalid,
    News,
    Operation,
    Pair,
    Present,
    Record,
    Records,
    Removed,
)
from airflow_provider_iterable.runs.explained import (
    ALL_AGAIN,
    ANOTHER_PAYLOAD,
    AS_ACCEPTED,
    FIRES_ONCE,
    LEFT,
    LEFT_ALONE,
    LEFT_ERASED,
    LEFT_FOR_EVER,
    LEFT_IN_DOUBT,
    NEVER_ACCEPTED,
    NOT_ANSWERED,
    Action,
    Memory,
)
from airflow_provider_iterable.syncs.identity import FIELD_NAMES
from airflow_provider_iterable.syncs.sync import BaseSync

Case = Literal["same", "other", "gone"]
"""The row is in the model as it was accepted; with another payload; or not at all."""
CASES: tuple[Case, ...] = ("same", "other", "gone")

_ACCEPTED, _OTHER = b"\1" * 12, b"\2" * 12
_REMEMBERED: Mapping[Memory, bytes | None] = {
    "nothing": None,
    "accepted": _ACCEPTED,
    "in_doubt": NEVER_EQUAL,
    "to_be_sent_again": VOID,
}


class Step(Struct, kw_only=True, omit_defaults=True):
    """What a run does with a row."""

    action: Action = "nothing"
    operation: str | None = None
    """What is done at Iterable, such as ``"upsert users"``."""
    endpoints: list[str] = []
    why: str = ""
    """Why, as a clause."""
    fate: Literal["skipped", "rejected"] | None = None
    """What a row counts as that is refused."""


Policy = dict[str, dict[str, Step]]
"""By what is remembered, as :func:`remembered` names it, and by case."""


def policy_of(sync: BaseSync) -> Policy:
    """Return what a sync does with any row, unless another row of the run bears on it."""
    skips = Step(action="refuse", why=Reason.ERASED_PERSON.sentence, fate="skipped")
    policy: Policy = {"erased": {"same": skips, "other": skips, "gone": Step(why=LEFT_ERASED)}}
    for memory, before in _REMEMBERED.items():
        handle = _handles(sync)[0]
        refs = [sync.reference(handle)] + [made(sync.reference(handle))] * bool(sync.spares)
        for ref in refs:
            policy[remembered(memory, ref)] = {case: _step(sync, memory, case, before, ref) for case in CASES}
    return policy


def remembered(memory: Memory, ref: str) -> str:
    """Return what a policy calls what is remembered of a row; of some syncs it matters who made the record.

    :param ref: the reference of the entry; empty: there is none
    """
    return f"{memory}, and made by the sync" if is_made(ref) else memory


def written(policy: Policy) -> dict[str, Any]:
    """Return a policy as JSON values."""
    found: dict[str, Any] = to_builtins(policy)
    return found


def _step(sync: BaseSync, memory: Memory, case: Case, before: bytes | None, ref: str) -> Step:
    """Return what the sync makes of a row that is made up."""
    probe = sync.apart()
    (key, body), handles = sync.made_up, _handles(sync)
    kind = handles[0][0]
    after = _OTHER if case == "other" else _ACCEPTED

    def records(keys: Sequence[str], rows: Sequence[Any], fingerprints: Sequence[bytes] = ()) -> Records:
        return Records(keys, [after] * len(keys), [body] * len(keys), kind, ["a"] * len(keys), {0: handles[1:]})

    probe.records = records
    if memory == "in_doubt" and probe.looks_back:
        before = doubted(_ACCEPTED)
    pairs: list[Pair] = []
    if case != "gone":
        pairs.append(Present([key], [()], [before], refs=[ref] if before else ()))
    elif before is not None:
        pairs.append(Gone(key, Entry(before, ref)))
    seen = for_resync(pairs, "changes", False, sync.keeps_leavers)
    for news in compare(probe, seen):
        operation = _operation(probe, news)
        if isinstance(operation, Invalid):
            return Step(action="refuse", why=operation.reason.sentence, fate="rejected")
        if operation is not None:
            return _told(memory, case, operation, sync.spares)
    if case == "gone":
        return Step(why=LEFT_FOR_EVER if before else "neither a row nor a memory has this key")
    return Step(why=AS_ACCEPTED)


def _operation(sync: BaseSync, news: News) -> Operation | Invalid | None:
    """Return what the sync makes of news; ``None``: there are none."""
    if isinstance(news, Fresh):
        record = news.records.record(0)
        assert isinstance(record, Record)
        return sync.added(Added(record))
    if isinstance(news, Added):
        return sync.added(news)
    if isinstance(news, Changed):
        return sync.changed(news)
    return sync.removed(news) if isinstance(news, Removed) else None


def _handles(sync: BaseSync) -> tuple[Handle, Handle]:
    """Return whom a row is about that is made up: two, for a change of address to the same one makes no call."""
    kind = next((kind for kind, field in FIELD_NAMES.items() if sync.sent_fields[0].name == field), "email")
    return (kind, "a"), ("email", "b")


def _told(memory: Memory, case: Case, operation: Operation, spares: str) -> Step:
    if operation.call is None:
        left = f"{LEFT}, and {spares}" if spares else LEFT_ALONE
        return Step(action="forget", why=left) if case == "gone" else Step(action="remember", why=FIRES_ONCE)
    calls = list(chain(operation.call))
    if calls[-1].reads:
        return Step(action="look_up", endpoints=[name(call) for call in calls], why=LEFT_IN_DOUBT)
    reasons = {"nothing": NEVER_ACCEPTED, "in_doubt": NOT_ANSWERED, "to_be_sent_again": ALL_AGAIN}
    return Step(
        action="remove" if case == "gone" else "send",
        operation=calls[-1].does,
        endpoints=[name(call) for call in calls],
        why=LEFT if case == "gone" else reasons.get(memory, ANOTHER_PAYLOAD),
    )
