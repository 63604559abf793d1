"""A gateway before the sandbox: it passes requests on, or answers them itself, as one before Iterable may do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.services import Answer, Heard, answering

Passes = Callable[[str, str], bool]


@dataclass
class Gateway:
    """What the gateway answers by itself, and what it passes on.

    :param passes: whether a request of this method and path is passed on; called for one request at a time
    """

    answer: Answer = field(default_factory=Answer)
    passes: Passes = lambda method, path: True
    url: str = ""
    answered: int = 0
    """Requests that it answered itself."""


def only(path: str) -> Passes:
    """Pass on requests of this path and no others."""
    return lambda method, asked: asked == path


def first(number: int, part: str) -> Passes:
    """Pass on all requests but those whose path has this part, of which only the first ones pass."""
    seen = 0

    def passes(method: str, path: str) -> bool:
        nonlocal seen
        seen += part in path
        return part not in path or seen <= number

    return passes


@contextmanager
def gateway_before(url: str) -> Iterator[Gateway]:
    """Serve a gateway before a server, on a free port of the loopback address, while the context lasts."""
    state, lock, target = Gateway(), threading.Lock(), urlsplit(url)

    def give(heard: Heard) -> Answer:
        with lock:
            passed = state.passes(heard.method, heard.path)
            state.answered += not passed
        return ask(heard) if passed else state.answer

    def ask(heard: Heard) -> Answer:
        with closing(http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)) as connection:
            connection.request(heard.method, heard.path, heard.body or None, heard.headers)
            found = connection.getresponse()
            return Answer(found.status, found.read(), {"Content-Type": found.headers.get("Content-Type", "")})

    with answering(give) as server:
        state.url = server.url
        yield state
