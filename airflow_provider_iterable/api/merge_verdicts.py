"""What answers mean while users are merged: whether a merge was made, refused, or takes a look-up to know."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from airflow_provider_iterable.api.answers import is_success, names_nobody, parsed
from airflow_provider_iterable.api.refusals import outcome_of, refusal
from airflow_provider_iterable.api.verdicts import judge_lookup, named_in, names_asked
from airflow_provider_iterable.engine.reasons import Fate, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Again,
    Batch,
    Handle,
    Operation,
    Outcome,
    Reply,
    Settled,
    Verdict,
)

DESTINATION, SOURCE, FORMER = 0, 1, 2
"""Which handle of a merge names whom."""
IsSource = Callable[[Handle], bool]
"""Returns whether somebody is merged into another by the same run."""


def judge_merge(batch: Batch, reply: Reply) -> Verdict:
    """Judge a merge that was not sent before: nobody there means that there is no source.

    A merge that may have arrived without an answer goes on to a look-up of the source, for it must not be taken for
    one whose source never was there.
    """
    return _merge(batch, reply, nobody=True)


def judge_merge_in_doubt(batch: Batch, reply: Reply) -> Verdict:
    """Judge a merge that may have been made before: when there is nobody, a look-up tells of the source."""
    return _merge(batch, reply, nobody=False)


def _merge(batch: Batch, reply: Reply, *, nobody: bool) -> Verdict:
    (operation,) = batch.operations
    if is_success(reply):
        return Settled({0: Outcome(operation.key, operation.kind, Fate.ACCEPTED, operation=operation)})
    if names_nobody(reply):
        return Settled({0: outcome_of(operation, Reason.UNKNOWN_USER, Fate.SKIPPED)} if nobody else {})
    verdict = refusal(batch, reply)
    lost = isinstance(verdict, Again) and verdict.reason is Reason.NO_ANSWER and reply.sent
    return Settled() if lost else verdict


def judge_destination(batch: Batch, reply: Reply, is_source: IsSource) -> Verdict:
    """Judge the look-up of a destination: without one, Iterable would rename the source instead of merging it.

    The answer names the destination by its other identifier, too, by which the run may merge it into somebody else.
    """
    (operation,) = batch.operations
    verdict = _looked_up(batch, reply, DESTINATION)
    if not isinstance(verdict, Settled):
        return verdict
    if verdict.outcomes:
        unknown = verdict.outcomes[0].reason is Reason.UNKNOWN_USER
        return Settled({0: outcome_of(operation, Reason.UNKNOWN_DESTINATION, Fate.SKIPPED)}) if unknown else verdict
    asked = replace(operation, handles=(operation.handles[DESTINATION],))
    if not names_asked(asked, reply):
        return Again(Reason.NO_ANSWER)
    others = named_in(parsed(reply)["user"]) - {operation.handles[DESTINATION]}
    if any(map(is_source, others)):
        detail = "the destination is a source of this run, by its other identifier"
        return Settled({0: outcome_of(operation, Reason.MERGE_CHAIN, Fate.REJECTED, detail)})
    return verdict


def judge_source(batch: Batch, reply: Reply) -> Verdict:
    """Judge the look-up of a source in doubt: gone, it is merged; there, it goes again, or waits for the next run."""
    verdict = _looked_up(batch, reply, SOURCE)
    if not isinstance(verdict, Settled):
        return verdict
    (operation,) = batch.operations
    if verdict.outcomes and verdict.outcomes[0].reason is Reason.UNKNOWN_USER:
        return Settled({0: outcome_of(operation, Reason.ALREADY_MERGED, Fate.ACCEPTED)})
    if not verdict.outcomes and batch.call.then is None:
        return Settled({0: outcome_of(operation, Reason.NO_ANSWER, Fate.DEFERRED)})
    return verdict


def judge_left(batch: Batch, reply: Reply) -> Verdict:
    """Judge the look-up of a source in doubt whose row has left: gone, it is merged; there, the pair is forgotten."""
    verdict = _found(batch, reply, SOURCE)
    if not isinstance(verdict, Settled):
        return verdict
    (operation,) = batch.operations
    if not verdict.outcomes:
        forgotten = replace(operation, remember=None)
        return Settled({0: Outcome(operation.key, operation.kind, Fate.ACCEPTED, operation=forgotten)})
    if verdict.outcomes[0].reason is Reason.ALREADY_GONE:  # what a removal is told of a user who is not there
        return Settled({0: outcome_of(operation, Reason.ALREADY_MERGED, Fate.ACCEPTED)})
    return verdict


def judge_former(batch: Batch, reply: Reply, merged: Callable[[Operation], Operation]) -> Verdict:
    """Judge the look-up of a source in doubt whose key names another pair by now: that one goes if it is there.

    :param merged: returns an operation that remembers the former pair as merged
    """
    verdict = _found(batch, reply, FORMER)
    if not isinstance(verdict, Settled):
        return verdict
    (operation,) = batch.operations
    if not verdict.outcomes:
        return Settled(onward={0: replace(operation, handles=operation.handles[:FORMER])})
    if verdict.outcomes[0].reason is Reason.UNKNOWN_USER:
        return Settled({0: outcome_of(merged(operation), Reason.PAIR_CHANGED, Fate.REJECTED)})
    return verdict


def _found(batch: Batch, reply: Reply, side: int) -> Verdict:
    """Judge a look-up of one side, of which an answer without their name is none."""
    (operation,) = batch.operations
    verdict = _looked_up(batch, reply, side)
    found = isinstance(verdict, Settled) and not verdict.outcomes
    if found and not names_asked(replace(operation, handles=(operation.handles[side],)), reply):
        return Again(Reason.NO_ANSWER)
    return verdict


def _looked_up(batch: Batch, reply: Reply, side: int) -> Verdict:
    """Judge a look-up of one side: an answer about the other one is none."""
    (operation,) = batch.operations
    asked = replace(operation, handles=(operation.handles[side],))
    verdict = judge_lookup(Batch(batch.call, [asked]), reply)
    if isinstance(verdict, Settled):
        return Settled({number: replace(outcome, operation=operation) for number, outcome in verdict.outcomes.items()})
    return verdict
