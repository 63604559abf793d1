"""Operations into waves and batches: by call, count and bytes, no handle twice; sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from airflow_provider_iterable.engine.canary import Trials
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.spool import Spool
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


def waves(
    plan: Plan, removals_first: bool, first: Sequence[Sequence[int]] = (), trials: Trials | None = None
) -> Iterator[Iterable[Operation]]:
    """Yield the plan's operations in waves; one wave must be settled before the next begins.

    The first wave holds everything that stands alone, but for what goes before it. Operations that share an identity
    follow, one per identity and wave in the order of their key text, so that the row of the greatest key is sent last,
    whatever the row order. Where rows that share an identity take turns, all waves are made so, those of removals too.
    Removals make a wave of their own, before or after. Those that call nothing because another row bears their identity
    come last: whether they may be forgotten depends on what became of that row.

    :param first: positions of operations that stand alone and go before all others of rows that are there, by wave
    :param trials: lets a few rows of each wave go before its others; among those that stand alone, the first of
        ``first`` are some
    """
    if plan.in_turn:
        for spool in (plan.removals, plan.rows) if removals_first else (plan.rows, plan.removals):
            yield from _in_turn(plan, spool, trials)
        return
    if removals_first:
        yield from _leaving(plan, trials)
    yield from _present(plan, first, trials)
    if not removals_first:
        yield from _leaving(plan, trials)
    if plan.borne:
        yield plan.forgettable()


def _leaving(plan: Plan, trials: Trials | None) -> Iterator[Iterable[Operation]]:
    if not plan.removals.size:
        return
    if trials is None:
        yield plan.leaving()
    else:
        yield from _apart(lambda: enumerate(plan.leaving()), trials)


def _in_turn(plan: Plan, spool: Spool, trials: Trials | None) -> Iterator[Iterable[Operation]]:
    """Yield the operations of rows, or of removals, in waves in which each identity is once."""
    chosen = spool.read() if spool is plan.removals else plan.present()
    crowd = [
        (hash(operation.key if operation.call is None else operation.handles[0]), operation.key, position)
        for position, operation in chosen
    ]
    for positions in _ranks(crowd):
        if trials is None:
            yield map(spool.at, sorted(positions))
        else:
            yield from _apart(partial(_at, spool, sorted(positions)), trials)


def _apart(read: Callable[[], Iterable[tuple[int, Operation]]], trials: Trials) -> Iterator[Iterable[Operation]]:
    """Yield a wave in two: the rows that go first, and the others."""
    chosen = set(trials.choose(read()))
    yield from trials.judged(len(chosen), (operation for number, operation in read() if number in chosen))
    yield (operation for number, operation in read() if number not in chosen)


def _present(plan: Plan, first: Sequence[Sequence[int]], trials: Trials | None) -> Iterator[Iterable[Operation]]:
    before = {position for positions in first for position in positions}
    if trials is not None:
        foremost = first[0] if first else ()
        chosen = trials.choose(plan.alone(), foremost)
        parts = [chosen[: len(foremost)], chosen[len(foremost) :]]
        yield from trials.judged(len(chosen), *(map(plan.rows.at, part) for part in parts if part))
        first = [[position for position in positions if position not in chosen] for positions in first]
        before.update(chosen)
    crowd: list[tuple[int, str, int]] = []

    def alone() -> Iterator[Operation]:
        if not plan.shared and not before:
            yield from (operation for _, operation in plan.present())
            return
        for position, operation in plan.present():
            if position in before:
                continue
            if plan.is_shared(operation):
                crowd.append((hash(operation.handles[0]), operation.key, position))
            else:
                yield operation

    for positions in first:
        if positions:
            yield map(plan.rows.at, positions)
    if plan.rows.size:
        yield alone()
    for positions in _ranks(crowd):
        if trials is None:
            yield map(plan.rows.at, positions)
        else:
            yield from _apart(partial(_at, plan.rows, positions), trials)


def _at(spool: Spool, positions: Sequence[int]) -> Iterator[tuple[int, Operation]]:
    return ((position, spool.at(position)) for position in positions)


def _ranks(crowd: list[tuple[int, str, int]]) -> list[list[int]]:
    """Return the positions of operations that share identities, so that each identity is in a wave once."""
    crowd.sort()
    ranks: list[list[int]] = []
    identity_before, rank = None, 0
    for identity, _, position in crowd:
        rank = rank + 1 if identity == identity_before else 0
        identity_before = identity
        if rank == len(ranks):
            ranks.append([])
        ranks[rank].append(position)
    return ranks
