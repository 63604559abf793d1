from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from airflow_provider_iterable.engine import deliver as deliver_module
from airflow_provider_iterable.engine.deliver import PROBES, SILENT_AT_ONCE, Delivery, Screen
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import (
    NEVER_EQUAL,
    Again,
    Batch,
    Call,
    Entry,
    Halt,
    Operation,
    Outcome,
    Reply,
    Settled,
    Split,
    Verdict,
)
from tests.fakes import Committer, Killed, Sender, a_call, accept, an_operation, outcomes_of

NO_ANSWER, LIMITED, REFUSED, OK = Reply(0), Reply(429, retry_after=7.0), Reply(400), Reply(200)
ONE_BY_ONE = Patience(tries=2, in_flight=1)


def judge(batch: Batch, reply: Reply) -> Verdict:
    """Judge as an endpoint without blame does; a body names the keys that are rejected."""
    match reply.status:
        case 0:
            return Again(Reason.NO_ANSWER)
        case 429:
            return Again(Reason.RATE_LIMITED, reply.retry_after)
        case 400:
            return Split(Reason.REFUSED, "HTTP 400")
        case 401:
            return Halt("No.")
        case 500 | 503:
            return Again(Reason.NO_ANSWER, reply.retry_after)
    rejected = reply.body.decode().split()
    return Settled(
        {
            number: Outcome(op.key, op.kind, Fate.REJECTED, operation=op)
            for number, op in enumerate(batch.operations)
            if op.key in rejected
        }
    )


class Told:
    """One delivery: what was sent, slept, committed and told."""

    def __init__(
        self,
        replies: Iterable[Reply | Exception] = (),
        errors: Iterable[Exception | None] = (),
        *,
        patience: Patience = ONE_BY_ONE,
        batch_size: int = 2,
        screen: Screen | None = None,
    ) -> None:
        self.sender, self.committer = Sender(deque(replies)), Committer(deque(errors))
        self.sleeps: list[float] = []
        self.stop = threading.Event()
        self.outcomes: list[Outcome] = []
        self.delivery = Delivery(
            self.sender,
            self.committer,
            screen=screen,
            patience=patience,
            batch_size=batch_size,
            stop=self.stop,
            sleep=self.sleeps.append,
        )

    def run(self, *waves: Sequence[Operation]) -> Told:
        """Deliver, and keep the outcomes."""
        for outcome in outcomes_of(self.delivery.run(waves)):
            self.outcomes.append(outcome)
        return self

    def keys(self, fate: Fate) -> list[str]:
        """Return who ended so."""
        return [outcome.key for outcome in self.outcomes if outcome.fate is fate]

    @property
    def sent(self) -> list[list[str]]:
        """The keys of each batch."""
        return self.sender.history


def people(call: Call | None, number: int, first: int = 0) -> list[Operation]:
    """Return operations named by their number."""
    return [an_operation(str(n), call) for n in range(first, first + number)]


CALL = a_call(judge)


def test_what_is_accepted_is_committed_and_then_told() -> None:
    """Every operation ends in one outcome, and the state holds what it carries."""
    told = Told().run(people(CALL, 5))
    assert [["0", "1"], ["2", "3"], ["4"]] == told.sent
    assert ["0", "1", "2", "3", "4"] == told.keys(Fate.ACCEPTED)
    assert {str(n): Entry(str(n).encode(), f"{n}@x.io") for n in range(5)} == told.committer.state
    assert [2, 2, 1] == [len(patch) for patch in told.committer.history]


def test_what_is_rejected_is_not_committed() -> None:
    """Of a batch only the accepted are remembered."""
    told = Told([Reply(200, b"1")]).run(people(CALL, 2))
    assert ["1"] == told.keys(Fate.REJECTED)
    assert ["0"] == list(told.committer.state)


def test_an_outcome_is_told_after_its_commit() -> None:
    """Whoever hears of an acceptance finds it committed."""
    told = Told(patience=Patience(in_flight=1, commit_batches=2))
    for outcome in outcomes_of(told.delivery.run([people(CALL, 7)])):
        assert outcome.key in told.committer.state


def test_batches_are_committed_together() -> None:
    """With commit_batches, that many batches make a patch; the rest is committed at the end."""
    told = Told(patience=Patience(in_flight=1, commit_batches=2)).run(people(CALL, 9))
    assert [4, 4, 1] == [len(patch) for patch in told.committer.history]


def test_a_wave_is_settled_before_the_next_begins() -> None:
    """What shares an identity across waves is never under way at the same time."""
    told = Told([NO_ANSWER, OK]).run(people(CALL, 1), people(CALL, 1, 1))
    assert [["0"], ["0"], ["1"]] == told.sent


def test_what_needs_no_call_is_committed_without_an_outcome() -> None:
    """Silent operations go to the state by the thousand, whatever becomes of the others."""
    told = Told([Reply(401)]).run([*people(CALL, 1), *people(None, SILENT_AT_ONCE + 1, 1)])
    assert [["0"]] == told.sent
    assert ["0"] == told.keys(Fate.DEFERRED)
    assert SILENT_AT_ONCE + 1 == len(told.committer.state)
    assert [SILENT_AT_ONCE, 1] == [len(patch) for patch in told.committer.history]


def test_a_removal_is_forgotten() -> None:
    """An operation without a memory takes its key out of the state."""
    told = Told().run([an_operation("1", CALL, kind=Kind.REMOVED, forget=True)])
    assert {"1": None} == told.committer.state


def test_a_batch_without_an_answer_goes_again_after_a_back_off() -> None:
    """The back-off is drawn from a growing span."""
    told = Told([NO_ANSWER] * 4, patience=Patience(in_flight=1, tries=5, first_wait=1, longest_wait=3)).run(
        people(CALL, 2)
    )
    assert [["0", "1"]] * 5 == told.sent
    assert 4 == len(told.sleeps)
    assert all(0 <= slept <= most for slept, most in zip(told.sleeps, (1, 2, 3, 3), strict=True))
    assert ["0", "1"] == told.keys(Fate.ACCEPTED)


def test_iterables_own_wait_goes_before_the_back_off() -> None:
    """A rate limit that says when to come back is believed."""
    told = Told([LIMITED]).run(people(CALL, 1))
    assert [7.0] == told.sleeps


def test_a_batch_that_is_never_answered_is_deferred() -> None:
    """After all tries the rows are deferred with the reason of the last one, and others go on."""
    told = Told([NO_ANSWER, LIMITED]).run(people(CALL, 4))
    assert [("0", Reason.RATE_LIMITED), ("1", Reason.RATE_LIMITED)] == [
        (outcome.key, outcome.reason) for outcome in told.outcomes if outcome.fate is Fate.DEFERRED
    ]
    assert ["2", "3"] == told.keys(Fate.ACCEPTED)
    assert ["2", "3"] == list(told.committer.state)


def test_a_wait_longer_than_a_batch_may_take_is_not_waited() -> None:
    """Rows that would have to wait too long are deferred at once."""
    told = Told([LIMITED], patience=Patience(in_flight=1, seconds=5)).run(people(CALL, 1))
    assert [] == told.sleeps
    assert ["0"] == told.keys(Fate.DEFERRED)


def test_after_three_unanswered_batches_the_rest_is_deferred() -> None:
    """A service that is down is not asked a thousand times."""
    told = Told([NO_ANSWER] * 6).run(people(CALL, 12))
    assert 6 == len(told.sent)
    assert [str(n) for n in range(12)] == sorted(told.keys(Fate.DEFERRED), key=int)
    assert Counter({Reason.NO_ANSWER: 12}) == Counter(outcome.reason for outcome in told.outcomes)
    assert {} == told.committer.state


def test_an_answer_in_between_starts_the_count_again() -> None:
    """Only batches in a row count as a service that is down."""
    told = Told([*[NO_ANSWER] * 4, OK, *[NO_ANSWER] * 4, OK]).run(people(CALL, 12))
    assert ["4", "5", "10", "11"] == told.keys(Fate.ACCEPTED)


def test_a_halt_keeps_what_was_accepted_and_defers_the_rest() -> None:
    """Nothing is sent any more, and the message is kept."""
    told = Told([OK, Reply(401)]).run(people(CALL, 6), people(CALL, 1, 6))
    assert [["0", "1"], ["2", "3"]] == told.sent
    assert ["0", "1"] == told.keys(Fate.ACCEPTED)
    assert ["0", "1"] == list(told.committer.state)
    assert {Reason.HALTED} == {one.reason for one in told.outcomes if one.fate is Fate.DEFERRED}
    assert 5 == len(told.keys(Fate.DEFERRED))
    assert "No." == told.delivery.halted


def test_stopping_finishes_what_is_in_flight() -> None:
    """What was accepted meanwhile is committed, the rest deferred."""
    told = Told()
    sends: list[int] = []

    def send(batch: Batch) -> Reply:
        sends.append(len(batch.operations))
        told.stop.set()
        return OK

    told.delivery = Delivery(
        send, told.committer, patience=ONE_BY_ONE, batch_size=2, stop=told.stop, sleep=told.sleeps.append
    )
    told.run(people(CALL, 6))
    assert [2] == sends
    assert ["0", "1"] == told.keys(Fate.ACCEPTED)
    assert ["0", "1"] == list(told.committer.state)
    assert {Reason.STOPPED} == {one.reason for one in told.outcomes if one.fate is Fate.DEFERRED}
    assert "" == told.delivery.halted


def test_stopping_ends_the_tries_of_a_batch() -> None:
    """A batch that waits to go again does not, and what was not packed yet is not looked at."""
    told = Told([NO_ANSWER] * 5, patience=Patience(tries=5, in_flight=1))
    told.delivery = Delivery(
        told.sender,
        told.committer,
        patience=Patience(tries=5, in_flight=1),
        batch_size=2,
        stop=told.stop,
        sleep=lambda seconds: told.stop.set(),
    )
    told.run(people(CALL, 9))
    assert len(told.sent) < 5
    assert told.keys(Fate.DEFERRED)[:2] == ["0", "1"]
    assert {Reason.STOPPED} == {one.reason for one in told.outcomes}
    unseen = Told()
    unseen.stop.set()
    unseen.run(people(CALL, 9))
    assert ([], []) == (unseen.sent, unseen.outcomes)


def test_a_failing_commit_ends_the_delivery() -> None:
    """Nothing more is sent or committed, for nobody knows what is remembered."""
    told = Told(errors=[None, Killed()])
    with pytest.raises(Killed):
        told.run(people(CALL, 100))
    assert ["0", "1"] == list(told.committer.state)
    assert 3 >= len(told.sent)
    assert [] == list(told.committer.errors)


def test_a_failing_send_commits_what_was_accepted() -> None:
    """An error that is no answer ends the delivery, and the accepted are remembered first."""
    told = Told([OK, Killed()], patience=Patience(in_flight=1, commit_batches=10))
    with pytest.raises(Killed):
        told.run(people(CALL, 6))
    assert ["0", "1"] == list(told.committer.state)
    assert told.stop.is_set()


def test_an_interrupted_caller_finds_the_accepted_committed() -> None:
    """Whoever stops listening stops the delivery, and the batch in flight is still committed."""
    told = Told(patience=Patience(in_flight=2))
    outcomes = outcomes_of(told.delivery.run([people(CALL, 20)]))
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    sent = [key for batch in told.sent for key in batch]
    assert sorted(sent) == sorted(told.committer.state)
    assert 20 > len(sent)


def test_an_interrupted_delivery_does_not_wait_for_slow_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers in time is committed; a request that hangs keeps nobody from ending."""
    monkeypatch.setattr(deliver_module, "RESCUE_SECONDS", 0.01)
    hanging, released = threading.Event(), threading.Event()

    def send(batch: Batch) -> Reply:
        if batch.operations[0].key == "0":
            return OK
        hanging.set()
        released.wait(30)
        return OK

    told = Told()
    told.delivery = Delivery(send, told.committer, patience=ONE_BY_ONE, batch_size=1)
    outcomes = outcomes_of(told.delivery.run([people(CALL, 3)]))
    assert "0" == next(outcomes).key
    assert hanging.wait(30)
    outcomes.close()  # type: ignore[attr-defined]
    assert not released.is_set()
    assert ["0"] == list(told.committer.state)
    released.set()


def test_a_few_batches_are_in_flight() -> None:
    """As many bulk requests as allowed are under way at once, and no more."""
    arrived = threading.Barrier(3, timeout=5)
    lock = threading.Lock()
    flying: list[int] = [0, 0]

    def send(batch: Batch) -> Reply:
        with lock:
            flying[0] += 1
            flying[1] = max(flying)
        arrived.wait()
        with lock:
            flying[0] -= 1
        return OK

    told = Told()
    told.delivery = Delivery(send, told.committer, patience=Patience(in_flight=3), batch_size=1)
    told.run(people(CALL, 9))
    assert 3 == flying[1]
    assert 9 == len(told.keys(Fate.ACCEPTED))


def test_single_calls_have_four_times_as_many_in_flight() -> None:
    """Calls about one record are small, and documented at higher rates."""
    arrived = threading.Barrier(4, timeout=5)

    def send(batch: Batch) -> Reply:
        arrived.wait()
        return OK

    told = Told()
    told.delivery = Delivery(send, told.committer, patience=Patience(in_flight=1))
    told.run(people(a_call(judge, items=1), 8))
    assert 8 == len(told.keys(Fate.ACCEPTED))


def test_a_record_larger_than_a_request_is_rejected_alone() -> None:
    """It is never sent, and the others are."""
    call = a_call(judge, size=30, envelope=10)
    operations = [
        *people(call, 1),
        an_operation("big", call, body=b"x" * 21),
        an_operation("fits", call, body=b"x" * 19),
    ]
    told = Told(batch_size=9).run(operations)
    assert [("big", Reason.TOO_LARGE, "21 bytes")] == [
        (one.key, one.reason, one.detail) for one in told.outcomes if one.fate is Fate.REJECTED
    ]
    assert [["0"], ["fits"]] == told.sent


def test_a_screened_operation_is_sent_as_it_came_out() -> None:
    """The last look may change an operation or end it."""

    def screen(operation: Operation) -> Operation | Outcome:
        if operation.key == "0":
            return Outcome("0", operation.kind, Fate.REJECTED, Reason.TYPE_MISMATCH)
        return msgspec.structs.replace(operation, body=b"coerced")

    bodies: list[bytes] = []

    def send(batch: Batch) -> Reply:
        bodies.extend(operation.body for operation in batch.operations)
        return OK

    told = Told()
    told.delivery = Delivery(send, told.committer, screen=screen)
    told.run(people(CALL, 2))
    assert [b"coerced"] == bodies
    assert [Reason.TYPE_MISMATCH, None] == [outcome.reason for outcome in told.outcomes]


def test_an_operation_goes_on_to_the_next_call() -> None:
    """A look-up that is accepted is no outcome yet; what is not accepted ends there."""
    update = a_call(judge, name="/update")
    look_up = a_call(judge, items=1, name="/look-up", then=update)
    templates: list[tuple[str, list[str]]] = []

    def send(batch: Batch) -> Reply:
        keys = [operation.key for operation in batch.operations]
        templates.append((batch.call.template, keys))
        return Reply(200, b"1" if batch.call is look_up else b"2")

    told = Told()
    told.delivery = Delivery(send, told.committer, patience=ONE_BY_ONE)
    told.run(people(look_up, 4))
    assert [["0"], ["1"], ["2"], ["3"]] == sorted(keys for template, keys in templates if template == "/look-up")
    assert ["0", "2", "3"] == sorted(key for template, keys in templates if template == "/update" for key in keys)
    assert {"0": Fate.ACCEPTED, "1": Fate.REJECTED, "2": Fate.REJECTED, "3": Fate.ACCEPTED} == {
        outcome.key: outcome.fate for outcome in told.outcomes
    }
    assert ["0", "3"] == sorted(told.committer.state)


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


ONCE = replace(a_call(judge), repeatable=False)


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


class Poisoned:
    """An endpoint that fails at whatever holds one of these keys, and after so many requests at everything."""

    def __init__(self, keys: Iterable[str], dies_after: int | None = None) -> None:
        self.keys, self.dies_after = set(keys), dies_after
        self.history: list[list[str]] = []
        self.lock = threading.Lock()

    def __call__(self, batch: Batch) -> Reply:
        """Answer a batch."""
        sent = [operation.key for operation in batch.operations]
        with self.lock:
            self.history.append(sent)
            dead = self.dies_after is not None and len(self.history) > self.dies_after
        return Reply(500) if dead or self.keys.intersection(sent) else OK


def deliver(
    send: Poisoned, rows: int, call: Call = CALL, batch_size: int = 1000, **patience: Any
) -> tuple[dict[Reason | None, list[str]], Committer]:
    """Deliver so many rows; return who ended for which reason, and the state."""
    committer = Committer()
    how = replace(Patience(first_wait=0, longest_wait=0), **patience)
    delivery = Delivery(
        send,
        committer,
        patience=how,
        batch_size=batch_size,
        doubts=lambda call, operations: [(op.key, NEVER_EQUAL.hex(), "", "") for op in operations],
    )
    found: dict[Reason | None, list[str]] = {}
    for outcome in outcomes_of(delivery.run([people(call, rows)])):
        found.setdefault(outcome.reason, []).append(outcome.key)
    assert sorted(key for keys in found.values() for key in keys) == sorted(map(str, range(rows)))
    begun = [number for intents in committer.intents for number in intents.begun]
    ended = [number for intents in committer.intents for number in intents.ended]
    assert sorted(begun) == sorted(ended), "every announced request is settled"
    return found, committer


SPREAD = {
    "one in each of the first batches": ["3", "1500", "2999", "3000"],
    "first of their batches": ["0", "1000", "2000", "3000"],
    "last of their batches": ["999", "1999", "2999", "3999"],
    "middle of their batches": ["500", "1500", "2500", "3500"],
    "all in one batch": ["5001", "5002", "5500", "5998"],
    "in the last batch": ["7000", "7300", "7600", "7999"],
}


@pytest.mark.parametrize("which", SPREAD)
@pytest.mark.parametrize("in_flight", [1, 4])
def test_poisonous_rows_cost_only_themselves(which: str, in_flight: int) -> None:
    """All others arrive, they are in doubt, and each costs little more requests than halving takes."""
    culprits = SPREAD[which]
    send = Poisoned(culprits)
    found, committer = deliver(send, 8000, in_flight=in_flight)
    assert sorted(found[Reason.SERVER_ERROR], key=int) == culprits
    assert len(found[None]) == 7996
    state = {key: entry for key, entry in committer.state.items() if entry is not None}
    assert {key for key, entry in state.items() if entry.fingerprint == NEVER_EQUAL} == set(culprits)
    broken = len({len(keys) for keys in send.history if len(keys) == 1000 and set(culprits) & set(keys)})
    tries = sum(len(keys) == 1000 for keys in send.history)
    assert broken
    # Ten halves, twice the culprit alone, the others of its batch; and rows to see whether anybody is there.
    assert len(send.history) - tries <= 4 * (10 + 2 + 1) + PROBES
    assert tries <= 8 + 4 * 4


@pytest.mark.parametrize("rows", [1, 2, 3, 1000, 8000])
def test_a_dead_endpoint_ends_the_delivery(rows: int) -> None:
    """It is known after the tries of the batches that went out meanwhile and a few single rows."""
    send = Poisoned([], dies_after=0)
    found, committer = deliver(send, rows)
    assert found.keys() == {Reason.NO_ANSWER}
    batches = min(-(-rows // 1000), Patience().in_flight + Patience().unanswered - 1)
    assert len(send.history) <= batches * Patience().tries + PROBES
    assert all(entry is not None and entry.fingerprint == NEVER_EQUAL for entry in committer.state.values())


@pytest.mark.parametrize("after", [1, 2, 5, 8, 20, 30, 37, 44])
def test_an_endpoint_that_dies_while_batches_are_taken_apart(after: int) -> None:
    """The delivery ends soon, and nobody is lost."""
    send = Poisoned(["3", "1500", "2999", "3000"], dies_after=after)
    found, _ = deliver(send, 20_000)
    assert len(send.history) <= after + 100
    assert len(found.get(Reason.SERVER_ERROR, [])) <= 8
    assert found[Reason.NO_ANSWER]


def test_a_single_poisonous_row_among_single_calls() -> None:
    """It is told from an endpoint that is dead by the answers to others."""
    call = a_call(judge, items=1)
    found, _ = deliver(Poisoned(["7"]), 40, call)
    assert {reason: len(keys) for reason, keys in found.items()} == {None: 39, Reason.SERVER_ERROR: 1}


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("culprits", [3, 16])
@pytest.mark.parametrize("first", [0, 30])
def test_neighbours_that_are_poisonous_among_single_calls(first: int, culprits: int, reads: bool) -> None:
    """However many are in flight at once: others are tried before the endpoint counts as dead."""
    call = replace(a_call(judge, items=1), reads=reads)
    wrong = [str(number) for number in range(first, first + culprits)]
    found, _ = deliver(Poisoned(wrong), 200, call)
    assert sorted(found[Reason.SERVER_ERROR]) == sorted(wrong)
    assert len(found[None]) == 200 - culprits


def test_a_dead_endpoint_of_single_calls_ends_the_delivery() -> None:
    """After the tries of what was in flight, and three of others."""
    send = Poisoned([], dies_after=0)
    found, _ = deliver(send, 500, a_call(judge, items=1))
    assert found.keys() == {Reason.NO_ANSWER}
    tried = Patience().in_flight * 4 + Patience().unanswered - 1
    assert len(send.history) <= tried * Patience().tries + PROBES


def test_a_look_up_that_the_server_fails_at_leaves_nothing_in_doubt() -> None:
    """It changes nothing."""
    call = replace(a_call(judge, items=1), reads=True)
    found, committer = deliver(Poisoned(["7"]), 40, call)
    assert found[Reason.SERVER_ERROR] == ["7"]
    assert "7" not in committer.state


def test_who_is_poisonous_with_nobody_to_compare_is_found_all_the_same() -> None:
    """A batch alone in its run is tried row by row first: the endpoint answers one of them."""
    found, _ = deliver(Poisoned(["1"]), 3)
    assert {None: ["0", "2"], Reason.SERVER_ERROR: ["1"]} == {reason: sorted(keys) for reason, keys in found.items()}


def test_looking_for_poison_is_budgeted() -> None:
    """Where a hundred rows are poisonous the rest is put off."""
    send = Poisoned(map(str, range(9, 1000, 10)))
    found, _ = deliver(send, 2000, splits=50)
    assert len(send.history) <= 1 + 5 + 50 + 50 + PROBES
    assert 0 < len(found[Reason.SERVER_ERROR]) <= 5
    assert len(found[None]) + len(found[Reason.SERVER_ERROR]) + len(found[Reason.SPLIT_BUDGET]) == 2000
    assert len(found[None]) > 1000


def test_timeouts_are_not_taken_apart() -> None:
    """An answer that never came says nothing about the rows, and each part would take as long again."""
    told = Told([NO_ANSWER, NO_ANSWER, OK], patience=Patience(tries=2, in_flight=1)).run(people(CALL, 4))
    assert [["0", "1"], ["0", "1"], ["2", "3"]] == told.sent
    assert {Reason.NO_ANSWER} == {one.reason for one in told.outcomes if one.fate is Fate.DEFERRED}


def test_what_must_not_go_twice_is_not_taken_apart() -> None:
    """The server may have applied it before it failed."""
    send = Poisoned(["1"])
    found, _ = deliver(send, 6, replace(CALL, repeatable=False), 2, in_flight=1)
    assert [["0", "1"], ["2", "3"], ["4", "5"]] == send.history
    assert found[Reason.UNCONFIRMED] == ["0", "1"]


def test_a_part_that_is_refused_for_another_reason_goes_on_as_such() -> None:
    """Two kinds of culprits in one batch are both found."""

    def judge_both(batch: Batch, reply: Reply) -> Verdict:
        if reply.status == 500:
            return Again(Reason.NO_ANSWER)
        return splitting({"900"}).judge(batch, reply)

    found, _ = deliver(Poisoned(["100"]), 2000, a_call(judge_both))
    assert (found[Reason.SERVER_ERROR], found[Reason.TYPE_MISMATCH]) == (["100"], ["900"])
    assert len(found[None]) == 1998


def test_a_wait_that_is_too_long_puts_off_all_that_would_have_to_wait() -> None:
    """At once, with the time; other endpoints go on, and it is no sign of a service that is down."""
    other = a_call(judge, name="/other")
    long = Reply(429, retry_after=900.0)
    told = Told([long], patience=Patience(in_flight=1)).run([*people(CALL, 10), *people(other, 4, 10)])
    assert [["0", "1"], ["10", "11"], ["12", "13"]] == told.sent
    assert {(Reason.RATE_LIMITED, "Iterable asks to come back in 900 s")} == {
        (one.reason, one.detail) for one in told.outcomes if one.fate is Fate.DEFERRED
    }
    assert 10 == len(told.keys(Fate.DEFERRED))
    assert [] == told.sleeps


def test_a_request_that_is_held_back_is_no_try() -> None:
    """What waits for another one's 429 has all its tries afterwards."""
    held = Reply(429, retry_after=60.0, sent=False)
    told = Told([held, held, held, NO_ANSWER], patience=Patience(in_flight=1, tries=2)).run(people(CALL, 1))
    assert [60.0] * 3 == told.sleeps[:3]
    assert ["0"] == told.keys(Fate.ACCEPTED)


def test_a_stopped_delivery_does_not_wait_for_slow_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody raises anything: it ends by itself after a few seconds, and what hangs is in doubt."""
    monkeypatch.setattr(deliver_module, "RESCUE_SECONDS", 0.05)
    monkeypatch.setattr(deliver_module, "LOOKS", 0.01)
    stop, released = threading.Event(), threading.Event()

    def send(batch: Batch) -> Reply:
        if batch.operations[0].key == "0":
            return OK
        stop.set()
        released.wait(30)
        return OK

    committer = Committer()
    delivery = Delivery(
        send,
        committer,
        patience=ONE_BY_ONE,
        batch_size=1,
        stop=stop,
        doubts=lambda call, operations: [(op.key, NEVER_EQUAL.hex(), "", "") for op in operations],
    )
    told = list(outcomes_of(delivery.run([people(CALL, 9)])))
    assert not released.is_set()
    assert ("0", None) == (told[0].key, told[0].reason)
    assert {Reason.STOPPED} == {outcome.reason for outcome in told[1:]}
    assert committer.state["1"] == Entry(NEVER_EQUAL, "")
    released.set()


def test_what_hangs_does_not_keep_the_process() -> None:
    """Threads that wait for an answer are no reason to stay."""
    code = (
        "import threading\n"
        "from airflow_provider_iterable.engine.workers import Workers\n"
        "workers = Workers(lambda item: threading.Event().wait(), 1)\n"
        "workers.give(1)\n"
        "assert workers.next(0.1) is None\n"
        "workers.close(wait=False)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
