from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.engine import deliver
from airflow_provider_iterable.engine.reasons import Fate, Reason
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import NEVER_EQUAL, Batch, Entry, Operation, Reply
from tests.fakes import FAULTS, Committer, Killed, a_call, an_operation
from tests.laws.world import (
    OnRemoved,
    Person,
    World,
    budget,
    commit_faults,
    faults,
    mixed_models,
    models,
    refusals,
    sound,
    sound_models,
    ways,
)


@budget(250)
@given(
    before=models,
    after=models,
    on_removed=ways,
    troubles=st.lists(st.tuples(faults, commit_faults), min_size=1, max_size=3),
    refused=refusals,
    typed=st.sampled_from(["no", "with clues", "without"]),
    batch_size=st.integers(1, 5),
    in_flight=st.sampled_from([1, 2, 64]),
    commit_batches=st.integers(1, 3),
)
def test_state_holds_what_was_accepted_and_trouble_leaves_no_trace(
    before: list[Person],
    after: list[Person],
    on_removed: OnRemoved,
    troubles: list[tuple[list[str], list[str]]],
    refused: dict[str, str],
    typed: str,
    batch_size: int,
    in_flight: int,
    commit_batches: int,
) -> None:
    """Whatever goes wrong, state holds only what was accepted; then one run makes Iterable equal to the model."""
    world = World(on_removed, batch_size, in_flight, commit_batches)
    world.model = before
    world.settle()
    world.model = after
    for requests, commits in troubles:
        world.iterable.faults.extend(requests)
        world.iterable.refused.update(refused)
        world.iterable.typed, world.iterable.clues = typed != "no", typed == "with clues"
        world.state.faults.extend(commits)
        world.run()
        world.heal()
    world.settle()


@budget(80)
@given(data=st.data(), before=models, after=models, on_removed=ways, batch_size=st.integers(1, 5))
def test_row_order_does_not_matter(
    data: st.DataObject, before: list[Person], after: list[Person], on_removed: OnRemoved, batch_size: int
) -> None:
    """Two orders of the same rows give the same Iterable, the same state and the same plan."""
    worlds = [World(on_removed, batch_size), World(on_removed, batch_size)]
    orders = [after, data.draw(st.permutations(after))]
    for world, rows in zip(worlds, orders, strict=True):
        world.model = before
        assert world.run() is None
        world.model = rows
        assert world.run(dry_run=True) is None
    one, other = worlds
    assert one.report.plan_hash == other.report.plan_hash
    assert one.report.counts == other.report.counts
    for world in worlds:
        assert world.run() is None
    assert one.iterable.users == other.iterable.users
    assert one.state.entries == other.state.entries


@budget(80)
@given(before=models, after=models, on_removed=ways, batch_size=st.integers(1, 5))
def test_a_dry_run_predicts_the_run(
    before: list[Person], after: list[Person], on_removed: OnRemoved, batch_size: int
) -> None:
    """A dry run calls and stores nothing, and when nothing goes wrong the run does what it said."""
    world = World(on_removed, batch_size)
    world.model = before
    assert world.run() is None
    world.model = after
    requests, remembered, users = len(world.iterable.history), dict(world.state.entries), repr(world.iterable.users)
    assert world.run(dry_run=True) is None
    assert (requests, remembered, users) == (
        len(world.iterable.history),
        world.state.entries,
        repr(world.iterable.users),
    )
    planned = world.report.to_dict()
    assert world.run() is None
    done = world.report.to_dict()
    for count in ("read", "added", "changed", "removed", "unchanged", "invalid"):
        assert planned[count] == done[count]
    assert planned["rejected"] == done["rejected"]


@budget(60)
@given(before=sound_models, after=sound_models, batch_size=st.integers(1, 5))
def test_a_dry_run_predicts_the_requests(before: list[Person], after: list[Person], batch_size: int) -> None:
    """Where no two rows share an identity, the forecast tells the number of requests."""
    world = World("keep", batch_size)
    world.model = list({person.identity: person for person in before}.values())
    assert world.run() is None
    world.model = list({person.identity: person for person in after}.values())
    assert world.run(dry_run=True) is None
    forecast = [note for note in world.report.notes if "requests" in note or "Nothing to send" in note]
    requests = len(world.iterable.history)
    assert world.run() is None
    made = len(world.iterable.history) - requests
    assert [f"about {made} requests" in note if made else note == "Nothing to send." for note in forecast] == [True]


BLAMED = {
    "invalidEmails": (Fate.REJECTED, Reason.INVALID_EMAIL),
    "invalidDataEmails": (Fate.REJECTED, Reason.INVALID_DATA),
    "forgottenEmails": (Fate.SKIPPED, Reason.FORGOTTEN_USER),
    "notFoundEmails": (Fate.SKIPPED, Reason.UNKNOWN_USER),
}


@budget(120)
@given(model=mixed_models, refused=refusals, typed=st.booleans(), clues=st.booleans(), batch_size=st.integers(1, 5))
def test_the_innocent_arrive_and_the_others_are_told_why(
    model: list[Person], refused: dict[str, str], typed: bool, clues: bool, batch_size: int
) -> None:
    """Whoever shares a batch with refused records is accepted in the same run, and each refused one has its reason."""
    world = World("keep", batch_size)
    world.model = sound({person.identity: person for person in model}.values())
    world.iterable.refused.update(refused)
    world.iterable.typed, world.iterable.clues = typed, clues
    assert world.run() is None
    expected: dict[str, tuple[Fate, Reason]] = {}
    for person in world.model:
        if typed and isinstance(person.n, str):
            expected[person.key] = (Fate.REJECTED, Reason.TYPE_MISMATCH)
        elif person.identity in refused:
            expected[person.key] = BLAMED[refused[str(person.identity)]]
    told = [sample.outcome for samples in world.report.samples.values() for sample in samples]
    assert expected == {outcome.key: (outcome.fate, outcome.reason) for outcome in told}
    assert {person.key for person in world.model} - expected.keys() == world.state.entries.keys()


@pytest.mark.parametrize("fault", sorted(FAULTS))
@pytest.mark.parametrize("on_removed", ["clear", "delete"])
@pytest.mark.parametrize("when", [0, 1])
def test_any_single_fault_befalls_a_removal(fault: str, on_removed: OnRemoved, when: int) -> None:
    """Somebody is forgotten only when removed, whatever happens to the first or the second request."""
    world = World(on_removed)
    world.model = [Person(1, "a@x.io", 1), Person(2, "b@x.io", 2)]
    world.settle()
    world.model = []
    world.iterable.faults.extend([""] * when + [fault, fault])
    world.run()
    world.settle()
    assert {} == {name: fields for name, fields in world.iterable.users.items() if fields or on_removed == "delete"}


def test_a_request_that_hangs_when_a_run_is_killed_is_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows go again: nobody waits for the answer, and no answer is no acceptance."""
    monkeypatch.setattr(deliver, "RESCUE_SECONDS", 0.5)
    hanging, released = threading.Event(), threading.Event()
    call, committer = a_call(), Committer()

    def send(batch: Batch) -> Reply:
        if batch.operations[0].key == "1":
            hanging.set()
            released.wait(30)
        return Reply(200)

    def wave() -> Iterator[Operation]:
        yield from (an_operation(key, call) for key in "012")
        assert hanging.wait(30)
        raise Killed

    delivery = deliver.Delivery(
        send,
        committer,
        patience=Patience(tries=1, in_flight=2),
        batch_size=1,
        doubts=lambda call, operations: [(operation.key, "", "", "") for operation in operations],
    )
    with pytest.raises(Killed):
        list(delivery.run([wave()]))
    assert not released.is_set()
    released.set()
    assert {"0": an_operation("0", call).remember, "1": Entry(NEVER_EQUAL)} == committer.state
