from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.engine.pack import Packer
from airflow_provider_iterable.engine.vocabulary import Batch
from tests.fakes import a_call, an_operation
from tests.laws.world import budget

ENVELOPE = 10
sizes = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=40)


@budget(200)
@given(shape=sizes, batch_size=st.integers(1, 8), items=st.integers(1, 8), room=st.integers(60, 150))
def test_batches_in_order_are_the_operations_within_limits(
    shape: list[tuple[int, int]], batch_size: int, items: int, room: int
) -> None:
    """Nothing is lost or reordered; count and bytes are kept; no identity is twice in a batch."""
    call = a_call(items=items, size=room, envelope=ENVELOPE)
    operations = [
        an_operation(str(n), call, body=b"x" * size, identity=f"{who}@x.io") for n, (size, who) in enumerate(shape)
    ]
    packer = Packer(batch_size)
    batches: list[Batch] = []
    for operation in operations:
        closed = packer.add(operation, call)
        if closed is not None:
            batches.append(closed)
    batches.extend(packer.flush())
    assert operations == [operation for batch in batches for operation in batch.operations]
    for batch in batches:
        identities = [operation.handles[0] for operation in batch.operations]
        request = call.wrap(batch.operations)
        assert 0 < len(identities) <= min(batch_size, items)
        assert ENVELOPE + len(request.body or b"") <= room
        assert len(identities) == len(set(identities))


@budget(50)
@given(sides=st.lists(st.booleans(), max_size=30), batch_size=st.integers(1, 5))
def test_each_call_keeps_its_order(sides: list[bool], batch_size: int) -> None:
    """Batches of two calls are filled side by side, and each holds its own operations in order."""
    calls = {True: a_call(), False: a_call()}
    packer = Packer(batch_size)
    batches: list[Batch] = []
    for number, side in enumerate(sides):
        closed = packer.add(an_operation(str(number), calls[side]), calls[side])
        if closed is not None:
            batches.append(closed)
    batches.extend(packer.flush())
    for side, call in calls.items():
        expected = [str(number) for number, one in enumerate(sides) if one is side]
        packed = [operation.key for batch in batches if batch.call is call for operation in batch.operations]
        assert expected == packed
