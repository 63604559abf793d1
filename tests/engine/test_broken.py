from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_iterable.engine.broken import PROBES
from airflow_provider_iterable.engine.deliver import Delivery
from airflow_provider_iterable.engine.reasons import Fate, Reason
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import NEVER_EQUAL, Again, Batch, Call, Reply, Verdict
from tests.engine.test_deliver import CALL, NO_ANSWER, OK, Told, judge, people
from tests.engine.test_settle import splitting
from tests.fakes import Committer, a_call, outcomes_of


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
