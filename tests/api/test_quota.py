from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from airflow_provider_iterable.api.quota import Quota
from airflow_provider_iterable.engine.vocabulary import Batch, Reply
from airflow_provider_iterable.state.tables.ledger import TRAVEL
from tests.fakes import a_call, an_operation
from tests.state.test_ledger import DAY, Clock, Place
from tests.state.test_table import sqlite_hook

DONE = b'{"msg":"","code":"Success","params":null}'
BATCH = Batch(a_call(), [an_operation("[1]", None)])


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A SQLite database with room for ledgers."""
    return Place(sqlite_hook(tmp_path, monkeypatch), None, Clock())


@dataclass
class Iterable:
    """Gives the queued replies, then successes."""

    replies: list[Reply] = field(default_factory=list)
    calls: int = 0

    def send(self, batch: Batch) -> Reply:
        """Answer a request."""
        self.calls += 1
        return self.replies.pop(0) if self.replies else Reply(200, DONE)


def test_requests_pass_while_there_is_room(beside: Place) -> None:
    """Then they come back unsent, and no later one tries again."""
    iterable = Iterable()
    with beside.ledger() as ledger:
        quota = Quota(ledger, iterable.send, threading.Event(), beside.clock.sleep)
        assert quota.allowance() == 3
        assert [quota.send(BATCH).status for _ in range(5)] == [200, 200, 200, 0, 0]
        assert quota.send(BATCH).error == "NoQuota"
        assert (iterable.calls, len(ledger.attempts()), quota.allowance()) == (3, 3, 0)
        assert beside.clock.slept == []


def test_a_short_wait_is_waited(beside: Place) -> None:
    """A run that comes some minutes too early stays for them, and counts on them."""
    iterable, clock = Iterable(), beside.clock
    with beside.ledger() as ledger:
        quota = Quota(ledger, iterable.send, threading.Event(), clock.sleep)
        for _ in range(3):
            quota.send(BATCH)
        clock.now += DAY + TRAVEL - 599
        assert quota.allowance() == 3
        assert quota.send(BATCH).status == 200
        assert clock.slept == [pytest.approx(599)]
        assert quota.send(BATCH).status == 200


def test_a_long_wait_is_left_to_a_later_run(beside: Place) -> None:
    """Ten minutes are the most."""
    iterable, clock = Iterable(), beside.clock
    with beside.ledger() as ledger:
        quota = Quota(ledger, iterable.send, threading.Event(), clock.sleep)
        for _ in range(3):
            quota.send(BATCH)
        clock.now += DAY + TRAVEL - 601
        assert quota.allowance() == 0
        assert quota.send(BATCH).error == "NoQuota"
        assert clock.slept == []


def test_a_long_429_ends_it(beside: Place) -> None:
    """Somebody else used the quota; a short one is another matter."""
    iterable = Iterable([Reply(429, retry_after=5.0), Reply(429, retry_after=3600.0)])
    with beside.ledger(limit=9) as ledger:
        quota = Quota(ledger, iterable.send, threading.Event(), beside.clock.sleep)
        assert [quota.send(BATCH).status for _ in range(4)] == [429, 429, 0, 0]
        assert (iterable.calls, len(ledger.attempts())) == (2, 2)


def test_what_is_stopped_is_not_sent(beside: Place) -> None:
    """Neither before its turn nor in a wait; nothing is left in the ledger of it."""
    iterable, stop, clock = Iterable(), threading.Event(), beside.clock

    def sleep(seconds: float) -> None:
        stop.set()

    with beside.ledger() as ledger:
        quota = Quota(ledger, iterable.send, stop, sleep)
        for _ in range(3):
            quota.send(BATCH)
        clock.now += DAY
        assert [quota.send(BATCH).error for _ in range(2)] == ["Stopped"] * 2
        assert (iterable.calls, len(ledger.attempts())) == (3, 3)


@pytest.mark.parametrize(
    ("reply", "counted"),
    [
        (Reply(200, DONE), 1),
        (Reply(400, b'{"msg":"Invalid email: foo@","code":"InvalidEmailAddressError","params":null}'), 1),
        (Reply(429, b"slow down"), 1),
        (Reply(503, b"<html>"), 1),
        (Reply(0, error="ReadTimeout"), 1),
        (Reply(200, b'{"msg":"","code":"Succ'), 1),
        (Reply(200, b"<html>"), 0),
        (Reply(200, b'{"status":"ok"}'), 0),
        (Reply(404, b'{"message":"no Route matched with those values"}'), 0),
        (Reply(302), 0),
    ],
)
def test_what_iterable_did_not_get_is_not_counted(beside: Place, reply: Reply, counted: int) -> None:
    """An answer that is somebody else's says so; where it is not known, the attempt counts."""
    with beside.ledger() as ledger:
        Quota(ledger, Iterable([reply]).send, threading.Event(), beside.clock.sleep).send(BATCH)
        assert len(ledger.attempts()) == counted
