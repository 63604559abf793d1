"""A batch on its way to Iterable, and what is known of it besides its operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_provider_iterable.engine.apart import Search
from airflow_provider_iterable.engine.vocabulary import Batch, Doubt


@dataclass(eq=False)
class Parcel:
    """A batch on its way: what it leaves behind if it is never answered, and whether the state knows that."""

    batch: Batch
    doubts: Sequence[Doubt]
    doubtful: bool = False
    """Whether a request with these operations was sent and not answered."""
    intent: int | None = None
    """The number under which the state knows the doubts."""
    search: Search | None = None
    """Of what batch it is a part, if that is taken apart because the server failed at it; the state knows the whole."""
    sample: bool = False
    """Whether it is a row of a batch that is not settled, sent only to see whether the endpoint answers."""
    trial: bool = False
    """Whether it goes although its endpoint seems to be down, to see whether that is so."""
    answers: int | None = None
    """How often its endpoint had answered when it was first sent."""
    follows: bool = False
    """Whether it is what a look-up allowed: it goes before more is looked up, and waits for no others to be announced
    with it, for these wait behind it."""
    detail: str = ""
    """How the server failed at it."""

    @property
    def ready(self) -> bool:
        """Whether it may be sent."""
        return self.intent is not None or not self.doubts
