"""Operations into waves and batches: by call, count and bytes, no handle twice; sends nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.vocabulary import Batch, Call, Handle, Operation


class Packer:
    """Open batches, one per call; a batch comes out when nothing more fits in.

    :param batch_size: most operations per batch, where the call allows as many
    """

    def __init__(self, batch_size: int) -> None:
        self._size = batch_size
        self._open: dict[Call, _Open] = {}

    def add(self, operation: Operation, call: Call) -> Batch | None:
        """Put an operation in; return the batch that had to be closed for it, if any."""
        batch = self._open.get(call)
        if batch is None:
            batch = self._open[call] = _Open(min(self._size, call.max_items), call.max_bytes - call.envelope)
        identity = operation.handles[0]
        size = len(operation.body) + 1
        closed = None
        if batch.operations and (batch.room < 1 or batch.bytes < size or identity in batch.identities):
            closed = Batch(call, batch.operations)
            batch = self._open[call] = _Open(min(self._size, call.max_items), call.max_bytes - call.envelope)
        batch.operations.append(operation)
        batch.identities.add(identity)
        batch.room -= 1
        batch.bytes -= size
        return closed

    def flush(self) -> Iterator[Batch]:
        """Close what is open."""
        for call, batch in self._open.items():
            if batch.operations:
                yield Batch(call, batch.operations)
        self._open.clear()


class _Open:
    """A batch that is being packed, and the room that is left in it."""

    __slots__ = ("bytes", "identities", "operations", "room")

    def __init__(self, room: int, size: int) -> None:
        self.operations: list[Operation] = []
        self.identities: set[Handle] = set()
        self.room = room
        self.bytes = size


def waves(plan: Plan, removals_first: bool, first: Sequence[Sequence[int]] = ()) -> Iterator[Iterable[Operation]]:
    """Yield the plan's operations in waves; one wave must be settled before the next begins.

    The first wave holds everything that stands alone, but for what goes before it. Operations that share an identity
    follow, one per identity and wave in the order of their key text, so that the row of the greatest key is sent last,
    whatever the row order.
    Removals make a wave of their own, before or after. Those that call nothing because another row bears their identity
    come last: whether they may be forgotten depends on what became of that row.

    :param first: positions of operations that stand alone and go before all others of rows that are there, by wave
    """
    removals = [plan.leaving()] if plan.removals.size else []
    if removals_first:
        yield from removals
    yield from _present(plan, first)
    if not removals_first:
        yield from removals
    if plan.borne:
        yield plan.forgettable()


def _present(plan: Plan, first: Sequence[Sequence[int]]) -> Iterator[Iterable[Operation]]:
    before = {position for positions in first for position in positions}
    crowd: list[tuple[int, str, int]] = []

    def alone() -> Iterator[Operation]:
        if not plan.shared and not before:
            yield from (operation for _, operation in plan.present())
            return
        for position, operation in plan.present():
            if position in before:
                continue
            if operation.call is not None:
                identity = hash(operation.handles[0])
                if identity in plan.shared:
                    crowd.append((identity, operation.key, position))
                    continue
            yield operation

    for positions in first:
        yield (plan.rows.at(position) for position in positions)
    if plan.rows.size:
        yield alone()
    crowd.sort()
    ranks: list[list[int]] = []
    identity_before, rank = None, 0
    for identity, _, position in crowd:
        rank = rank + 1 if identity == identity_before else 0
        identity_before = identity
        if rank == len(ranks):
            ranks.append([])
        ranks[rank].append(position)
    for positions in ranks:
        yield (plan.rows.at(position) for position in positions)
