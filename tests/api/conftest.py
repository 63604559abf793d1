from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_iterable.api.client import Client
from tests.services import Answering, answering

KEY = "0123456789abcdef0123456789abcdef"


class Time:
    """A clock that only sleeping moves, and a history of the sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleeps: list[float] = []

    def clock(self) -> float:
        """Return the present moment."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        self.sleeps.append(round(seconds, 6))
        self.now += seconds


@pytest.fixture
def server() -> Iterator[Answering]:
    """Serve queued answers on the loopback address."""
    with answering() as state:
        yield state


@pytest.fixture
def time() -> Time:
    """Time as a parameter."""
    return Time()


@pytest.fixture
def client(server: Answering, time: Time) -> Iterator[Client]:
    """Talk to the server, and live in the test's time."""
    with Client(server.url, KEY, clock=time.clock, sleep=time.sleep) as opened:
        yield opened
