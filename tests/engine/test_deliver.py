from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec
import pytest

from airflow_provider_iterable.engine import deliver as deliver_module
from airflow_provider_iterable.engine.deliver import SILENT_AT_ONCE, Delivery, Screen
from airflow_provider_iterable.engine.doubt import doubts_of
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
from tests.fakes import Committer, Killed, PlainSync, Sender, a_call, an_operation, outcomes_of

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


def test_what_is_accepted_is_committed_and_then_reported() -> None:
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


@pytest.mark.parametrize("commit_batches", [1, 3, 100])
@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("way", ["stop", "error of the caller", "error of a request"])
def test_what_was_answered_before_a_stop_is_committed(commit_batches: int, in_flight: int, way: str) -> None:
    """However many batches are committed together, and whether a stop is asked for or breaks in."""
    answered: set[str] = set()
    told, lock = Told(), threading.Lock()

    def send(batch: Batch) -> Reply:
        with lock:
            if len(answered) >= 10 and way == "error of a request":
                raise Killed
            if len(answered) >= 10 and way == "stop":
                told.stop.set()
            answered.update(operation.key for operation in batch.operations)
        return OK

    def wave() -> Iterable[Operation]:
        for operation in people(CALL, 60):
            if way == "error of the caller" and operation.key == "30":
                raise Killed
            yield operation

    patience = Patience(in_flight=in_flight, commit_batches=commit_batches)
    told.delivery = Delivery(send, told.committer, patience=patience, batch_size=2, stop=told.stop)
    if way == "stop":
        told.run(wave())  # type: ignore[arg-type]
    else:
        with pytest.raises(Killed):
            told.run(wave())  # type: ignore[arg-type]
    assert 10 <= len(answered) < 60
    assert set(told.committer.state) == answered
    assert NEVER_EQUAL not in {entry.fingerprint for entry in told.committer.state.values() if entry}


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
    monkeypatch.setattr(deliver_module, "POLL_SECONDS", 0.01)
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


def test_what_a_look_up_allowed_goes_before_more_is_looked_up() -> None:
    """Each change is announced before it is sent, and does not wait until everybody is looked up."""
    change = replace(a_call(judge, items=1, name="/change"), looks_back=True)
    look_up = a_call(judge, items=1, name="/look-up", then=change, reads=True)
    committer, sent = Committer(), list[tuple[str, str]]()

    def send(batch: Batch) -> Reply:
        sent.append((batch.call.template, batch.operations[0].key))
        return Reply(200)

    patience = Patience(in_flight=1)
    delivery = Delivery(send, committer, doubts=doubts_of(PlainSync(look_up, keeps_leavers=True)), patience=patience)
    assert len(list(outcomes_of(delivery.run([people(look_up, 200)])))) == 200
    waiting = most = 0
    for template, _ in sent:
        waiting += 1 if template == "/look-up" else -1
        most = max(most, waiting)
    assert most <= 2 * patience.window(look_up)
    announced = [doubt for intents in committer.intents for doubts in intents.begun.values() for doubt in doubts]
    assert {key: bytes.fromhex(found) for key, found, *_ in announced} == {
        str(number): NEVER_EQUAL + str(number).encode() for number in range(200)
    }
