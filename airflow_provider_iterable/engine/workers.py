"""A pool of daemon threads.

Threads of an executor keep a process from ending until the last of them is done; a request that hangs would take longer
than a stopped task has left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Workers(Generic[T, R]):
    """Threads that work on what they are given; what comes of it is fetched by one thread.

    :param work: done for each item, in whichever thread is free
    :param most: most threads
    """

    def __init__(self, work: Callable[[T], R], most: int) -> None:
        self._work, self._most = work, most
        self._given: SimpleQueue[T | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[T, R | BaseException]] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._owed = 0
        """Items that were given and not fetched."""

    def give(self, item: T) -> None:
        """Have an item worked on as soon as a thread is free."""
        self._owed += 1
        if len(self._threads) < min(self._owed, self._most):
            name = f"iterable_{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._run, name=name, daemon=True))
            self._threads[-1].start()
        self._given.put(item)

    def next(self, seconds: float) -> tuple[T, R | BaseException] | None:
        """Return the next item that is done, with what came of it; ``None``: there was none in that time."""
        try:
            done = self._done.get(timeout=max(seconds, 0.0))
        except Empty:
            return None
        self._owed -= 1
        return done

    def close(self, wait: bool) -> None:
        """Have the threads end when they are done."""
        for _ in self._threads:
            self._given.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _run(self) -> None:
        while (item := self._given.get()) is not None:
            try:
                result: R | BaseException = self._work(item)
            except BaseException as error:
                result = error
            self._done.put((item, result))
