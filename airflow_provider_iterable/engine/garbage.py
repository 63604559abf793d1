"""When Python's garbage collector runs while a sync plans and delivers."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from airflow_provider_iterable.engine.vocabulary import Row


@contextmanager
def gc_disabled() -> Iterator[None]:
    """Keep the collector from running by itself: as often as it usually does, it takes an eighth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def gc_frozen() -> Iterator[None]:
    """Exempt the objects that are there by now, which are most of the heap and stay, from being collected.

    The collector itself keeps running, since requests are in flight: what is alive when another batch is committed is
    looked at again only by a full collection, and answers are part of cycles.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def collect_per_chunk(chunks: Iterable[Sequence[Row]]) -> Iterator[Sequence[Row]]:
    """Yield chunks, and collect the youngest objects after each."""
    for chunk in chunks:
        yield chunk
        gc.collect(0)
