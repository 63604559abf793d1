"""Turns the verdict about a batch into an outcome for each operation, or into smaller batches; sends nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import assert_never

from airflow_provider_iterable.engine.batches import Queue
from airflow_provider_iterable.engine.broken import Broken
from airflow_provider_iterable.engine.failed import Failure
from airflow_provider_iterable.engine.parcels import Parcel
from airflow_provider_iterable.engine.pending import Pending
from airflow_provider_iterable.engine.reasons import Fate, Reason
from airflow_provider_iterable.engine.tries import Attempted
from airflow_provider_iterable.engine.vocabulary import Again, Batch, Halt, Operation, Settled, Split

Salvage = Callable[[Operation, Collection[str], str], Operation | None]
Learn = Callable[[Sequence[Operation], Mapping[str, str]], None]


class Settler:
    """Settles batches that were tried.

    :param salvage: gives a rejected operation without the fields that are to blame, or ``None`` to let it be
    :param learn: told which types fields have at Iterable, with rejected operations whose values have others
    :param stop: set from outside to end the delivery
    """

    def __init__(
        self,
        queue: Queue,
        pending: Pending,
        broken: Broken,
        salvage: Salvage | None,
        learn: Learn | None,
        stop: threading.Event,
    ) -> None:
        self._queue, self._pending, self._broken = queue, pending, broken
        self._salvage, self._learn, self._stop = salvage, learn, stop
        self.halted = ""
        """Why nothing more can be sent; empty as long as something can."""
        self.failure: Failure | None = None
        """The request to which no usable answer came in spite of most tries; of several the last one."""

    def settle(self, parcel: Parcel, attempted: Attempted) -> None:
        """Settle a batch that was tried."""
        pending, batch = self._pending, parcel.batch
        parcel.doubtful = parcel.doubtful or attempted.unanswered
        match attempted.verdict:
            case Again(reason):
                self._settle_unanswered(parcel, attempted, reason)
                return
            case Settled() | Split() if parcel.sample:
                pass  # the endpoint answers, and the row goes again with its batch
            case Settled(outcomes, left_out, onward):
                pending.answered += 1
                rest = batch.operations
                if outcomes or onward:
                    rest = [onward.get(n, operation) for n, operation in enumerate(rest) if n not in outcomes]
                self._accept(parcel, rest, left_out)
                for outcome in outcomes.values():
                    pending.keep(outcome, parcel)
                    unsure = outcome.reason is Reason.UNATTRIBUTED and not batch.call.repeatable
                    if outcome.operation and (unsure or outcome.reason is Reason.PAIR_CHANGED):
                        pending.patch[outcome.key] = outcome.operation.remember
            case Split() as split:
                self._split(parcel, split)
            case Halt(message):
                self.halted = self.halted or message
                self._queue.stopped_by = self._queue.stopped_by or Reason.HALTED
                pending.give_up(parcel, Reason.HALTED)
                parcel.search = None  # the rest of its batch was put off with it
            case _:
                assert_never(attempted.verdict)
        pending.end(parcel)
        self._broken.answered(parcel)

    def _accept(self, parcel: Parcel, operations: Sequence[Operation], left_out: frozenset[str] | None) -> None:
        """Remember what was accepted, or have it go on to its next call."""
        then = parcel.batch.call.then
        if then is None:
            self._pending.accept(parcel, operations, left_out)
            return
        if operations:
            self._pending.carry(parcel)
        for operation in operations:
            self._queue.follow(operation, then)

    def _settle_unanswered(self, parcel: Parcel, attempted: Attempted, reason: Reason) -> None:
        """Settle a batch to which nothing usable came back in spite of all tries."""
        queue, pending, call = self._queue, self._pending, parcel.batch.call
        if self._stop.is_set():
            pending.give_up(parcel, Reason.STOPPED)
            return
        failure = attempted.failure
        if failure is not None and (self.failure is None or failure.tries >= self.failure.tries):
            self.failure = failure
        if attempted.wait is not None:
            queue.closed[call] = reason, f"Iterable asks to come back in {attempted.wait:.0f} s"
            pending.give_up(parcel, *queue.closed[call])
        elif parcel.sample:
            return
        elif attempted.broken and call.repeatable:
            parcel.detail = f"HTTP {attempted.broken}"
            self._broken.failed(parcel)
        else:
            if call.repeatable or not parcel.doubtful:
                pending.give_up(parcel, reason)
            else:
                pending.end(parcel)
                pending.presume(parcel.batch.operations)
            self._broken.unanswered(reason)

    def _split(self, parcel: Parcel, split: Split) -> None:
        """Reject the operations that are to blame, and send the others again in smaller batches."""
        pending, batch, operations = self._pending, parcel.batch, parcel.batch.operations
        salvaged: list[Operation] = []
        if split.types and self._learn is not None:
            self._learn([operations[index] for index in split.rejected], split.types)
        for index, detail in split.rejected.items():
            fields = split.fields.get(index)
            rest = self._salvage(operations[index], fields, detail) if self._salvage and fields else None
            if rest is None:
                pending.leave_in_doubt(parcel, [operations[index]])
                pending.refuse(operations[index], split.reason, detail, Fate.REJECTED)
            else:
                salvaged.append(rest)
        if len(operations) == 1:
            if not split.rejected:
                pending.leave_in_doubt(parcel, operations)
                pending.refuse(operations[0], split.reason, split.detail, split.last)
            parts: Sequence[Sequence[Operation]] = [[operation] for operation in salvaged]
        else:
            parts = parts_of(operations, split, salvaged)
            if not self._queue.spend(len(parts)):
                for part in parts:
                    pending.defer(pending.parcel(Batch(batch.call, part), parcel.doubtful), Reason.SPLIT_BUDGET)
                return
        parcels = (pending.parcel(Batch(batch.call, part), parcel.doubtful) for part in reversed(parts))
        self._queue.ready.extendleft(parcels)


def parts_of(
    operations: Sequence[Operation], split: Split, salvaged: Sequence[Operation]
) -> Sequence[Sequence[Operation]]:
    """Return what goes again of a batch: first suspects, then the rest; without a clue, halves."""
    rest = [op for i, op in enumerate(operations) if i not in split.rejected and i not in split.suspects]
    suspects = [operations[i] for i in sorted(split.suspects) if i not in split.rejected]
    rest.extend(salvaged)
    if not split.rejected and not (suspects and rest):
        half = len(operations) // 2
        suspects, rest = list(operations[:half]), list(operations[half:])
    return [part for part in (suspects, rest) if part]
