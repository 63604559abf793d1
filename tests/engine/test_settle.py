from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec
import pytest

from airflow_provider_iterable.engine.deliver import Delivery
from airflow_provider_iterable.engine.reasons import Fate, Reason
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import (
    Batch,
    Call,
    Operation,
    Outcome,
    Reply,
    Settled,
    Split,
    Verdict,
)
from tests.engine.test_deliver import LIMITED, NO_ANSWER, ONE_BY_ONE, Told, judge, people
from tests.fakes import a_call, accept

ONCE = replace(a_call(judge), repeatable=False)


def splitting(culprits: set[str], named: bool = False, suspected: bool = False) -> Call:
    """Return a call that refuses batches with culprits as a whole."""

    def judge_culprits(batch: Batch, reply: Reply) -> Verdict:
        found = {n: "to blame" for n, op in enumerate(batch.operations) if op.key in culprits}
        if not found:
            return accept(batch, reply)
        if named:
            return Split(Reason.TYPE_MISMATCH, "HTTP 400", rejected=found)
        return Split(Reason.TYPE_MISMATCH, "HTTP 400", suspects=frozenset(found) if suspected else frozenset())

    return a_call(judge_culprits)


@pytest.mark.parametrize("culprit", ["0", "1", "499", "500", "998", "999"])
@pytest.mark.parametrize(("named", "suspected", "most"), [(True, False, 2), (False, True, 3), (False, False, 21)])
def test_one_culprit_among_a_thousand_costs_few_requests(culprit: str, named: bool, suspected: bool, most: int) -> None:
    """Named, two requests; suspected, three; without a clue, 21; the other 999 arrive either way."""
    call = splitting({culprit}, named, suspected)
    told = Told(batch_size=1000).run(people(call, 1000))
    assert most >= len(told.sent)
    assert [culprit] == told.keys(Fate.REJECTED)
    assert 999 == len(set(told.keys(Fate.ACCEPTED))) == len(told.committer.state)
    assert culprit not in told.committer.state
    (outcome,) = [outcome for outcome in told.outcomes if outcome.fate is Fate.REJECTED]
    assert (Reason.TYPE_MISMATCH, "to blame" if named else "HTTP 400") == (outcome.reason, outcome.detail)


def test_culprits_that_are_all_named_cost_no_request() -> None:
    """When nobody is left over, nothing is sent again."""
    told = Told(batch_size=3).run(people(splitting({"0", "1", "2"}, named=True), 3))
    assert 1 == len(told.sent)
    assert ["0", "1", "2"] == told.keys(Fate.REJECTED)


def test_suspects_that_are_all_there_is_are_halved() -> None:
    """A clue that points at everybody is none."""
    told = Told(batch_size=4).run(people(splitting({"0", "1", "2", "3"}, suspected=True), 4))
    assert ["0", "1", "2", "3"] == sorted(told.keys(Fate.REJECTED))
    assert 7 == len(told.sent)


def test_who_stands_alone_ends_as_the_split_says() -> None:
    """The last one of a batch that was taken apart is rejected, or skipped where that is what its refusal means."""

    def skip(batch: Batch, reply: Reply) -> Verdict:
        return Split(Reason.UNKNOWN_USER, last=Fate.SKIPPED)

    told = Told().run(people(a_call(skip), 2))
    assert ["0", "1"] == told.keys(Fate.SKIPPED)


def test_taking_apart_is_budgeted() -> None:
    """A misconfigured sync does not become a thousand single calls: what is over the budget is deferred."""
    everybody = {str(n) for n in range(64)}
    told = Told(batch_size=64, patience=Patience(in_flight=1, splits=20)).run(people(splitting(everybody), 64))
    assert 21 == len(told.sent)
    assert 64 == len(told.keys(Fate.REJECTED)) + len(told.keys(Fate.DEFERRED))
    assert {Reason.SPLIT_BUDGET} == {one.reason for one in told.outcomes if one.fate is Fate.DEFERRED}


def test_a_refused_row_goes_again_without_the_fields_to_blame() -> None:
    """Where rows are salvaged, the rest of a row goes with the innocent, and says what it lacks."""

    def judge_fields(batch: Batch, reply: Reply) -> Verdict:
        found = {n: "field n" for n, op in enumerate(batch.operations) if op.key == "1" and not op.partial}
        fields = {n: frozenset({"n"}) for n in found}
        return Split(Reason.TYPE_MISMATCH, rejected=found, fields=fields) if found else accept(batch, reply)

    def salvage(operation: Operation, fields: Iterable[str], detail: str) -> Operation | None:
        assert ["n"] == list(fields)
        return msgspec.structs.replace(operation, body=b"", partial=detail)

    told = Told()
    told.delivery = Delivery(told.sender, told.committer, patience=ONE_BY_ONE, salvage=salvage)
    told.run(people(a_call(judge_fields), 3))
    assert [["0", "1", "2"], ["0", "2", "1"]] == told.sent
    assert ["", "", "field n"] == [outcome.operation.partial for outcome in told.outcomes if outcome.operation]
    assert [] == told.keys(Fate.REJECTED)


def test_what_a_refusal_tells_of_types_is_known_to_the_next_screening() -> None:
    """Rows that are screened later need not be refused as well."""
    known: dict[str, str] = {}

    def judge_types(batch: Batch, reply: Reply) -> Verdict:
        found = {n: "field n" for n, op in enumerate(batch.operations) if op.key in "135"}
        return Split(Reason.TYPE_MISMATCH, rejected=found, types={"n": "long"}) if found else accept(batch, reply)

    def learn(operations: Sequence[Operation], types: Mapping[str, str]) -> None:
        assert [operation.key for operation in operations] == ["1"]
        known.update(types)

    def screen(operation: Operation) -> Operation | Outcome:
        if known and operation.key in "135":
            return Outcome(operation.key, operation.kind, Fate.REJECTED, Reason.TYPE_MISMATCH, "known", operation)
        return operation

    told, call = Told(), a_call(judge_types)
    told.delivery = Delivery(told.sender, told.committer, patience=ONE_BY_ONE, screen=screen, learn=learn)
    told.run(people(call, 2), people(call, 4, 2))
    assert [["0", "1"], ["0"], ["2", "4"]] == told.sent
    assert ["1", "3", "5"] == told.keys(Fate.REJECTED)


def test_a_single_row_is_salvaged_too() -> None:
    """A batch of one has its second chance."""

    def judge_fields(batch: Batch, reply: Reply) -> Verdict:
        if batch.operations[0].partial:
            return accept(batch, reply)
        return Split(Reason.TYPE_MISMATCH, rejected={0: "field n"}, fields={0: frozenset({"n"})})

    told = Told()
    told.delivery = Delivery(
        told.sender,
        told.committer,
        salvage=lambda operation, _, detail: msgspec.structs.replace(operation, partial=detail),
    )
    told.run(people(a_call(judge_fields), 1))
    assert [["0"], ["0"]] == told.sent
    assert ["0"] == told.keys(Fate.ACCEPTED)


def test_what_must_not_go_twice_is_remembered_when_nobody_knows_whether_it_arrived() -> None:
    """A lost answer is not tried again, and the rows are told as unconfirmed; a refusal by rate may go again."""
    told = Told([LIMITED, NO_ANSWER], patience=Patience(in_flight=1, tries=5)).run(people(ONCE, 3))
    assert [["0", "1"], ["0", "1"], ["2"]] == told.sent
    assert [("0", Reason.UNCONFIRMED), ("1", Reason.UNCONFIRMED)] == [
        (outcome.key, outcome.reason) for outcome in told.outcomes if outcome.fate is Fate.REJECTED
    ]
    assert ["0", "1", "2"] == sorted(told.committer.state)


def test_what_must_not_go_twice_and_was_not_refused_for_good_is_not_remembered() -> None:
    """What Iterable's rate limit kept out is deferred like any other."""
    told = Told([LIMITED] * 2, patience=Patience(in_flight=1, tries=2)).run(people(ONCE, 2))
    assert ["0", "1"] == told.keys(Fate.DEFERRED)
    assert {} == told.committer.state


def test_an_unattributed_failure_of_what_must_not_go_twice_is_remembered() -> None:
    """Somebody in the batch was not taken and nobody knows who: none of them goes again."""

    def unattributed(batch: Batch, reply: Reply) -> Verdict:
        return Settled(
            {
                n: Outcome(op.key, op.kind, Fate.REJECTED, Reason.UNATTRIBUTED, "", op)
                for n, op in enumerate(batch.operations)
            }
        )

    for repeatable, remembered in ((False, ["0", "1"]), (True, [])):
        told = Told().run(people(replace(a_call(unattributed), repeatable=repeatable), 2))
        assert ["0", "1"] == told.keys(Fate.REJECTED)
        assert remembered == sorted(told.committer.state)
