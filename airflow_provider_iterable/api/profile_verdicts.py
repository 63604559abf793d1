"""What look-ups mean that decide what is written: nothing, all of a record, or what the profile does not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_iterable.api.answers import parsed
from airflow_provider_iterable.api.refusals import outcome_of
from airflow_provider_iterable.api.verdicts import judge_lookup, names_asked
from airflow_provider_iterable.engine.reasons import Fate, Reason
from airflow_provider_iterable.engine.vocabulary import Again, Batch, Operation, Reply, Settled, Verdict

Spare = Callable[[Operation, Mapping[str, Any]], Operation]
"""Returns an operation as it goes on, given the fields of the profile."""


def judge_before_create(sure: Callable[[Operation], Operation]) -> Callable[[Batch, Reply], Verdict]:
    """Return a judge of the look-up before somebody is created: who is there already needs nothing.

    :param sure: returns the operation as it goes on if nobody is there
    """

    def judge(batch: Batch, reply: Reply) -> Verdict:
        (operation,) = batch.operations
        verdict = judge_lookup(batch, reply)
        if not isinstance(verdict, Settled):
            return verdict
        if _is_unknown(verdict):
            return Settled(onward={0: sure(operation)})
        if verdict.outcomes:
            return verdict
        return Settled({0: outcome_of(operation, Reason.ALREADY_EXISTS, Fate.ACCEPTED)})

    return judge


def judge_profile(spare: Spare, *, creates: bool) -> Callable[[Batch, Reply], Verdict]:
    """Return a judge of the look-up before a write that is to leave alone what the profile has.

    Of a user without ``dataFields`` it is not known what they have: Iterable always sends these.

    :param creates: whether who is not there is written as a whole, or skipped
    """

    def judge(batch: Batch, reply: Reply) -> Verdict:
        (operation,) = batch.operations
        verdict = judge_lookup(batch, reply)
        if not isinstance(verdict, Settled):
            return verdict
        if verdict.outcomes:
            return Settled() if creates and _is_unknown(verdict) else verdict
        profile = parsed(reply)["user"].get("dataFields")
        if not isinstance(profile, dict) or not names_asked(operation, reply):
            return Again(Reason.NO_ANSWER)
        return Settled(onward={0: spare(operation, profile)})

    return judge


def _is_unknown(verdict: Settled) -> bool:
    outcome = verdict.outcomes.get(0)
    return outcome is not None and outcome.reason is Reason.UNKNOWN_USER
