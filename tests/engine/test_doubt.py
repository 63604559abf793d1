"""What a request would leave behind, and when the state is told."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from airflow_provider_iterable.engine.deliver import Delivery
from airflow_provider_iterable.engine.doubt import doubts_of, with_receipts
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import (
    NEVER_EQUAL,
    NO_INTENTS,
    Again,
    Batch,
    Call,
    Entry,
    Intents,
    Operation,
    Patch,
    Reply,
    Settled,
    Split,
    Verdict,
)
from tests.fakes import PlainSync, a_call, an_operation, outcomes_of

LOST, REFUSED, BUSY, OK = Reply(0), Reply(400), Reply(429), Reply(200)


def judge(batch: Batch, reply: Reply) -> Verdict:
    """Judge as an endpoint without blame does."""
    match reply.status:
        case 0:
            return Again(Reason.NO_ANSWER)
        case 429:
            return Again(Reason.RATE_LIMITED, 0.0)
        case 400:
            return Split(Reason.INVALID_DATA)
        case _:
            return Settled()


CALL = a_call(judge)
ONE = a_call(judge, items=1)


class Story:
    """A delivery of which commits and requests are told in their order."""

    def __init__(self, *replies: Reply | Exception, call: Call = CALL, leavers: bool = False, **patience: Any) -> None:
        self.call, self.replies = call, deque(replies)
        self.told: list[tuple[str, Any]] = []
        self.entries: dict[str, Entry | None] = {}
        self.open: dict[int, Any] = {}
        """Doubts that were announced and not settled."""
        self.fates: dict[str, Fate] = {}
        sync = PlainSync(call, call)
        sync.keeps_leavers = leavers
        self.delivery = Delivery(
            self.send,
            self.commit,
            doubts=doubts_of(sync),
            patience=Patience(tries=2, first_wait=0, longest_wait=0, in_flight=1, **patience),
            batch_size=2,
            sleep=lambda seconds: None,
        )

    def send(self, batch: Batch) -> Reply:
        """Answer a request as queued; it must have been announced, unless it changes nothing worth it."""
        keys = [operation.key for operation in batch.operations]
        self.told.append(("send", keys))
        reply = self.replies.popleft() if self.replies else OK
        if isinstance(reply, Exception):
            raise reply
        return reply

    def commit(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        """Keep what is stored."""
        patch = with_receipts(patch, intents)
        self.told.append(("commit", (sorted(patch), [key for some in intents.begun.values() for key, *_ in some])))
        self.entries |= patch
        for number in intents.ended:
            del self.open[number]
        assert not self.open.keys() & intents.begun.keys(), "a number is used again only once its request has ended"
        self.open |= intents.begun

    def run(self, *operations: Operation) -> Story:
        """Deliver."""
        for outcome in outcomes_of(self.delivery.run([operations])):
            self.fates[outcome.key] = outcome.fate
        return self

    def people(self, number: int) -> list[Operation]:
        """Return new rows."""
        return [an_operation(str(n), self.call) for n in range(number)]

    @property
    def doubtful(self) -> list[str]:
        """The keys of entries in doubt."""
        return sorted(key for key, entry in self.entries.items() if entry and entry.fingerprint == NEVER_EQUAL)


def test_a_request_is_announced_before_it_is_sent_and_settled_with_its_receipts() -> None:
    """Commits that announce requests store receipts, too; a kill has no more sent again than may be in flight."""
    story = Story()
    story.run(*story.people(6))
    assert story.told == [
        ("commit", ([], ["0", "1", "2", "3"])),
        ("send", ["0", "1"]),
        ("commit", (["0", "1"], ["4", "5"])),
        ("send", ["2", "3"]),
        ("commit", (["2", "3"], [])),
        ("send", ["4", "5"]),
        ("commit", (["4", "5"], [])),
    ]
    assert story.open == {}


@pytest.mark.parametrize(("call", "together"), [(CALL, 3), (ONE, 4)])
def test_several_requests_are_announced_together(call: Call, together: int) -> None:
    """As many as are committed together; of calls for single records, as many as may be in flight."""
    story = Story(call=call, commit_batches=3 if call is CALL else 1)
    story.run(*story.people(24))
    commits = [told for kind, told in story.told if kind == "commit"]
    announcing = [begun for _, begun in commits if begun]
    assert {len(begun) for begun in announcing} == {together * min(2, call.max_items)}
    sends = sum(kind == "send" for kind, _ in story.told)
    assert len(commits) <= sends * (1 + 1 / together) + 1
    assert all(one[0] == "commit" for one, other in pairwise(story.told) if other[1] == announcing[0])


def test_what_was_lost_is_in_doubt() -> None:
    """Its entry is in doubt, whatever it was; the others are remembered."""
    story = Story(LOST, LOST).run(*Story().people(0))
    story.run(*story.people(4))
    assert (story.doubtful, story.open) == (["0", "1"], {})
    assert story.fates == {"0": Fate.DEFERRED, "1": Fate.DEFERRED, "2": Fate.ACCEPTED, "3": Fate.ACCEPTED}
    assert story.delivery.in_doubt == 2


@pytest.mark.parametrize("replies", [(BUSY, BUSY), (REFUSED, REFUSED, REFUSED), (Reply(0, sent=False),) * 2])
def test_what_was_refused_or_never_left_is_not_in_doubt(replies: tuple[Reply, ...]) -> None:
    """Its entry stays as it was."""
    story = Story(*replies)
    story.run(*story.people(2))
    assert (story.entries, story.open, story.delivery.in_doubt) == ({}, {}, 0)


def test_one_lost_answer_among_the_tries_leaves_a_doubt() -> None:
    """The try whose answer was lost may have been applied, though a later one was refused, even in parts."""
    story = Story(LOST, BUSY)
    story.run(*story.people(2))
    assert story.doubtful == ["0", "1"]
    story = Story(LOST, REFUSED, OK, REFUSED)
    story.run(*story.people(2))
    assert (story.doubtful, story.fates) == (["1"], {"0": Fate.ACCEPTED, "1": Fate.REJECTED})


def test_a_look_up_leaves_no_doubt() -> None:
    """It changes nothing, so nothing is announced; the call it leads to is."""
    update = a_call(judge, name="/update")
    story = Story(call=replace(a_call(judge, items=1, then=update, name="/look"), reads=True))
    story.run(*story.people(2))
    announced = [key for kind, told in story.told if kind == "commit" for key in told[1]]
    assert announced == ["0", "1"]
    assert story.told[0] == ("send", ["0"])
    story = Story(LOST, LOST, call=story.call)
    story.run(*story.people(1))
    assert (story.entries, story.told[-1][0]) == ({}, "send")


def test_what_must_not_go_twice_is_announced_as_sent_and_alone() -> None:
    """For a worker that is killed then, it counts as sent; what was not sent yet is not announced."""
    once = replace(CALL, repeatable=False)
    story = Story(call=once, commit_batches=3)
    story.run(*story.people(6))
    assert [begun for kind, (_, begun) in story.told if kind == "commit" and begun] == [
        ["0", "1"],
        ["2", "3"],
        ["4", "5"],
    ]
    assert doubts_of(PlainSync(once, once))(once, [an_operation("a", once)]) == [("a", b"a".hex(), "a@x.io", "")]


def test_what_is_remembered_for_ever_is_sent_again_as_new() -> None:
    """A new row of such a sync leaves nothing; a changed one equals no row."""
    story = Story(LOST, LOST, leavers=True)
    story.run(*story.people(2))
    assert story.entries == {}
    story = Story(LOST, LOST, leavers=True)
    story.run(an_operation("0", CALL, kind=Kind.CHANGED))
    assert story.doubtful == ["0"]


def test_a_row_with_another_identity_leaves_two_entries() -> None:
    """Either may be at Iterable: the former under its key, the new one under a key that no row has."""
    doubts = doubts_of(PlainSync(CALL, CALL))
    moved = replace_before(an_operation("a", CALL, kind=Kind.CHANGED, identity="new@x.io"), "old@x.io")
    (first, nothing, old, _), (second, _, new, _) = doubts(CALL, [moved])
    assert (first, nothing, old, new) == ("a", "", "old@x.io", "new@x.io")
    assert not second.startswith("[")
    assert second != doubts(CALL, [replace_before(moved, "old@x.io"), an_operation("b", CALL)])[0][0]


def test_a_removal_is_in_doubt_with_what_is_remembered() -> None:
    """So that it is tried again if the row stays away."""
    removal = replace_before(an_operation("a", CALL, kind=Kind.REMOVED, forget=True), "who")
    assert doubts_of(PlainSync(CALL, CALL))(CALL, [removal]) == [("a", "", "who", "")]


def replace_before(operation: Operation, before: str) -> Operation:
    """Return an operation under whose key another reference is remembered."""
    from msgspec.structs import replace as changed

    return changed(operation, before=before)
