"""What partitions could lose: removals that two of them leave to each other, people whom another one has, lists."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.errors import LeaseHeld
from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
    IterableEventOperator,
    IterableListOperator,
    IterablePrivacyOperator,
    IterableSubscriptionOperator,
)
from airflow_provider_iterable.state.tables.entries import Entries
from airflow_provider_iterable.state.tables.lease import Lease
from airflow_provider_iterable.state.tables.partitions import Partitions
from airflow_provider_iterable.state.tables.session import TableSession
from tests.operators.conftest import BULK, OPT_IN, email, taken_as
from tests.operators.partitions.conftest import DELETE, FOUR, SIX, SYNC, Killed, Shop, addresses, held, killed, total

LISTS: dict[str, Any] = {"operator": IterableListOperator}
pytestmark = pytest.mark.slow  # each is many runs


def members(shop: Shop) -> dict[str, set[str]]:
    """Return who is in which list at Iterable."""
    return {made["name"]: {member["email"] for member in made["members"]} for made in shop.world.sandbox.lists}


@pytest.mark.parametrize("together", [False, True])
def test_another_list_is_not_taken_for_the_former_one(large: Shop, together: bool) -> None:
    """After a resync to another list, what other partitions have noted about the former one counts no more."""
    large.people(range(1, 31))
    large.run(FOUR, **LISTS)
    large.runs += 1
    to_another: Any = {"list_name": "Others", "resync": "full", **LISTS}
    if together:
        with ThreadPoolExecutor(4) as pool:
            reports = list(pool.map(lambda partition: large.task(partition, FOUR, **to_another), FOUR))
    else:
        reports = large.again(FOUR, **to_another)
    assert total(reports, "accepted") == 30
    assert members(large) == {"Everyone": addresses(range(1, 31)), "Others": addresses(range(1, 31))}
    assert large.world.calls["POST /api/lists"] == 2


def test_the_number_of_another_list_is_noted_with_the_destination(
    small: Shop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that is killed when it has found the list leaves no state of the former list with the other's number."""
    small.people(range(1, 11))
    small.run(None, **LISTS)
    with monkeypatch.context() as patched:
        patched.setattr(Lease, "permits", lambda *_: True)
        patched.setattr("airflow_provider_iterable.runs.runner.distrusting", lambda *_: killed)
        with pytest.raises(Killed):
            small.run(None, list_name="Others", resync="full", **LISTS)
    small.sql("UPDATE iterable_sync_lease SET expires_at = 1")
    with pytest.raises(AirflowFailException, match="belongs to another destination"):
        small.run(None, **LISTS)
    assert total(small.run(None, list_name="Others", **LISTS), "accepted") == 10
    assert members(small)["Others"] == addresses(range(1, 11))


def same_person(shop: Shop, *numbers: int) -> None:
    """Let rows be about the first one's person."""
    for number in numbers:
        shop.sql(f"UPDATE users SET email = '{email(numbers[0])}' WHERE id = {number}")


def test_whom_a_row_of_another_partition_is_about_is_not_removed(shop: Shop) -> None:
    """A row that left while the partitions changed is with no partition; another row may bear its identity."""
    shop.people(range(1, 41))
    same_person(shop, 1, 5)  # with four partitions they are together, with six they are not
    shop.run(FOUR)
    shop.people(range(2, 41))
    shop.sql(f"UPDATE users SET email = '{email(1)}' WHERE id = 5")
    shop.run(SIX, repartition=True)
    shop.world.forget_calls()
    shop.run(SIX)
    assert shop.world.calls[DELETE] == 0
    assert email(1) in shop.world.profiles
    assert shop.remembered == held(SIX, range(2, 41))
    shop.people([*range(2, 5), *range(6, 41)])
    assert total(shop.run(SIX), "removed") == 1
    assert email(1) not in shop.world.profiles


@pytest.mark.parametrize("operator", ["lists", "users"])
def test_of_two_partitions_that_lose_one_person_the_last_one_remembers(
    large: Shop,
    monkeypatch: pytest.MonkeyPatch,
    operator: str,
) -> None:
    """Each was silent, for the other one had them: who left is removed by the next run, and not forgotten."""
    more: Any = LISTS if operator == "lists" else {}
    large.people(range(1, 9))
    same_person(large, 1, 2)
    large.run(FOUR, **more)
    large.people(range(3, 9))
    finish, late = TableSession.finish, [True]

    def later(session: TableSession, delivered: bool) -> None:
        if late:
            late.clear()
            large.task(2, FOUR, **more)
        finish(session, delivered)

    monkeypatch.setattr(TableSession, "finish", later)
    large.runs += 1
    large.task(1, FOUR, **more)
    gone = email(1)
    assert total(large.run(FOUR, **more), "removed") == 1
    assert gone not in (members(large)["Everyone"] if operator == "lists" else large.world.profiles)
    assert total(large.run(FOUR, **more), "removed") == 0
    assert len(large.remembered) == 6


@pytest.mark.parametrize("place", ["small", "large"])
def test_of_two_partitions_that_lose_one_person_at_the_same_time_one_remembers(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The second one looks for who else has them when the first one has forgotten them, and not a moment before."""
    shop: Shop = request.getfixturevalue(place)
    shop.people(range(1, 9))
    same_person(shop, 1, 2)
    shop.run(FOUR)
    shop.people(range(3, 9))
    store, take, others = Partitions.store, Lease.take, ThreadPoolExecutor(1)
    has_to_wait = threading.Event()
    second: list[Any] = []

    def late(partitions: Partitions, work: Callable[[], object]) -> None:
        if not second:  # the first one is about to forget
            second.append(others.submit(shop.task, 2, FOUR))
            second[0].add_done_callback(lambda _: has_to_wait.set())  # it had not to, and is through
            assert has_to_wait.wait(60)
        store(partitions, work)

    def held(lease: Lease) -> None:
        try:
            take(lease)
        except LeaseHeld:
            has_to_wait.set()
            raise

    monkeypatch.setattr(Partitions, "store", late)
    monkeypatch.setattr(Lease, "take", held)
    shop.runs += 1
    with others:
        shop.task(1, FOUR)
        assert second[0].result()["removed"] == 0
    assert [key for _, key in shop.remembered if key in ("[1]", "[2]")] == ["[2]"]
    assert total(shop.run(FOUR), "removed") == 1
    assert email(1) not in shop.world.profiles
    assert len(shop.remembered) == 6


def test_a_change_that_was_begun_too_long_ago_is_not_written(
    large: Shop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A partition that stood still in the midst of a change finds what it held with others, and begins anew."""
    large.people(range(1, 41))
    large.run(FOUR)
    monkeypatch.setattr(Partitions, "store", _before_renewal(Partitions.store, large, monkeypatch))
    large.runs += 1
    with pytest.raises(AirflowException, match="were just changed by another run") as failed:
        large.task(5, SIX, repartition=True)
    assert taken_as(failed.value) is AirflowException
    assert json.loads(large.headers()[SYNC]["partitions"]) == ["0", "1", "2", "3"]
    assert large.remembered == held(FOUR, range(1, 41))


def _before_renewal(store: Callable[..., None], shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let an old partition be run before the first write of a change, for which what was held has run out."""

    def late(partitions: Partitions, work: Callable[[], object]) -> None:
        monkeypatch.setattr(Partitions, "store", store)
        shop.sql(f"UPDATE {shop.schema}.sync_lease SET expires_at = 1 WHERE sync_id <> '{SYNC}[5]'")
        assert shop.task(1, FOUR)["unchanged"] == 10
        store(partitions, work)

    return late


def test_a_partition_whose_lease_is_held_for_a_change_waits_for_its_end(
    large: Shop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The new partitions can be read a moment before they are let go: that is no other run."""
    large.people(range(1, 41))
    large.run(FOUR)
    release, take, others = Lease.release, Lease.take, ThreadPoolExecutor(1)
    begun: list[Any] = []
    tried = threading.Event()

    def late(lease: Lease) -> None:
        if lease._sync_id == f"{SYNC}[0]" and not begun:
            begun.append(others.submit(large.task, 0, SIX))
            assert tried.wait(60)
        release(lease)

    def taken(lease: Lease) -> None:
        try:
            take(lease)
        finally:
            if begun and lease._sync_id == f"{SYNC}[0]":
                tried.set()

    monkeypatch.setattr(Lease, "release", late)
    monkeypatch.setattr(Lease, "take", taken)
    large.runs += 1
    assert large.task(5, SIX, repartition=True)["removed"] == 0
    assert begun[0].result()["unchanged"] == 6
    others.shutdown()


def test_partitions_of_two_destinations_do_not_mix(small: Shop) -> None:
    """A resync to another list that ended in some partitions only is ended first: or rows would not be sent there."""
    small.people(range(1, 31))
    small.run(FOUR, **LISTS)
    small.runs += 1
    small.task(3, FOUR, list_name="Others", resync="full", **LISTS)
    for resync in ("changes", "full"):
        for partition in SIX:
            with pytest.raises(AirflowFailException, match="belong to another destination than the others"):
                small.task(partition, SIX, list_name="Others", repartition=True, resync=resync, **LISTS)
    small.run(FOUR, list_name="Others", resync="full", **LISTS)
    assert total(small.run(SIX, list_name="Others", repartition=True, **LISTS), "unchanged") == 30
    assert members(small)["Others"] == addresses(range(1, 31))


def test_partitions_of_two_projects_do_not_mix(small: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resync to another project that ended in some partitions only is ended first; a list of it is its own."""
    small.world.sandbox.set(project_keys={"other": 77})
    for taken in range(3):  # so that the numbers of lists differ
        small.world.sandbox.service.numbered(77).lists.create(f"taken {taken}", None, "Standard", 0.0)
    small.people(range(1, 31))
    small.run(FOUR, **LISTS)
    connection = {"conn_type": "iterable", "password": "other", "host": small.world.sandbox.url}
    whole = {**connection, "extra": {"project_type": small.world.project_type}}
    monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(whole))
    small.runs += 1
    small.task(3, FOUR, resync="full", **LISTS)
    for partition in SIX:
        with pytest.raises(AirflowFailException, match="than the others, or to another project"):
            small.task(partition, SIX, repartition=True, resync="full", **LISTS)
    small.run(FOUR, resync="full", **LISTS)
    assert total(small.run(SIX, repartition=True, **LISTS), "unchanged") == 30
    there = small.world.sandbox.service.numbered(77)
    (made,) = [each for each in there.lists if each.name == "Everyone"]
    assert len(list(there.lists.members(made, there.profiles))) == 30


def test_a_full_resync_begins_anew_with_other_partitions(
    small: Shop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of what a partition takes over, some was sent by the resync and some was not."""
    small.people(range(1, 31))
    small.run(FOUR)
    small.runs += 1
    with monkeypatch.context() as patched:
        patched.setattr(TableSession, "commit", killed)
        with pytest.raises(Killed):
            small.task(3, FOUR, resync="full")
    assert small.headers()[f"{SYNC}[3]"]["resync"] == "run-2"
    small.world.forget_calls()
    assert total(small.again(SIX, resync="full", repartition=True), "accepted") == 30


@pytest.mark.parametrize("operator", ["users", "lists", "subscriptions", "catalogs", "events"])
@pytest.mark.parametrize("then", [(3,), (4,), (6, 4), (4, 6)])
def test_a_change_that_never_ended_and_another_one(
    small: Shop,
    operator: str,
    then: tuple[int, ...],
) -> None:
    """4 to 6, of which only some were run; then 3, back to 4, or 6 and 4: nobody is lost, who left is removed once."""
    more: Any = {
        "users": {},
        "lists": LISTS,
        "catalogs": {
            "operator": IterableCatalogOperator,
            "catalog_name": "Things",
            "on_removed": "delete",
        },
        "events": {"operator": IterableEventOperator, "event_name": "Signed up"},
        "subscriptions": {
            "operator": IterableSubscriptionOperator,
            "subscription_type": "message_type",
            "subscription_id": OPT_IN,
            "consent_waived": "a test",
            "on_removed": "unsubscribe",
            "fields": None,
        },
    }[operator]
    small.people(range(1, 61))
    small.run(None, sync_id="known")  # events are for people whom Iterable knows
    small.run(FOUR, **more)
    small.people(range(1, 51))
    small.runs += 1
    for partition in (1, 4):
        small.task(partition, SIX, repartition=True, **more)
    with suppress(AirflowException):
        small.task(5, SIX, repartition=True, **{**more, "sql": "SELECT * FROM nothing"})
    small.world.forget_calls()
    for number in then[:-1]:
        small.runs += 1
        assert small.task(0, range(number), repartition=True, **more)["removed"] == 0
    last = range(then[-1])
    reports = small.run(last, repartition=True, **more)
    assert (total(reports, "removed"), total(reports, "unchanged")) == (0, 50)
    assert small.world.calls == Counter()
    removed = total(small.run(last, **more), "removed")
    assert removed == (0 if operator == "events" else 10)
    assert total(small.run(last, **more), "unchanged") == 50
    names = {f"{SYNC}[{partition}]" for partition in last}
    assert {sync_id for sync_id, _ in small.remembered} == names | {"known"}
    assert small.headers().keys() == {SYNC, "known"} | names
    assert small.leases == []


def test_whoever_is_erased_while_entries_move_stays_erased(
    large: Shop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tombstone that is set between looking for an entry and moving it moves instead."""
    large.people(range(1, 13))
    large.run(FOUR)
    large.sql("CREATE TABLE requests AS SELECT * FROM users WHERE id = 4")
    erase: Any = {"sql": f"SELECT * FROM {large.schema}.requests", "sync_id": "erase"}
    find, later = Entries.find, [True]

    def interrupted(entries: Entries, sync_id: str, keys: Any) -> Any:
        found = find(entries, sync_id, keys)
        if later and sync_id == f"{SYNC}[0]" and any(key == "[4]" for key, _, _ in found) and moving:
            later.clear()
            large.task(None, (), operator=IterablePrivacyOperator, **erase)
        return found

    take_over, moving = Entries.take_over, []

    def moved(entries: Entries, *given: Any) -> None:
        moving.append(True)
        take_over(entries, *given)

    monkeypatch.setattr(Entries, "find", interrupted)
    monkeypatch.setattr(Entries, "take_over", moved)
    large.runs += 1
    report = large.task(4, SIX, repartition=True)
    assert not later
    assert (report["skipped"], report["unchanged"]) == (1, 1)
    assert not any(key == "[4]" for _, key in large.remembered)
    assert email(4) not in large.world.profiles


def test_whose_entry_moves_while_they_are_erased_is_erased(
    large: Shop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An entry that a partition takes over at the very moment leaves no tombstone beside itself."""
    large.people(range(1, 13))
    large.run(FOUR)
    large.sql("CREATE TABLE requests AS SELECT * FROM users WHERE id = 4")
    drop = Entries.drop_known

    def late(entries: Entries, sync_id: str, keys: list[str]) -> None:
        monkeypatch.setattr(Entries, "drop_known", drop)
        assert large.task(4, SIX, repartition=True)["unchanged"] == 2
        drop(entries, sync_id, keys)

    monkeypatch.setattr(Entries, "drop_known", late)
    large.runs += 1
    erase: Any = {"sql": f"SELECT * FROM {large.schema}.requests", "sync_id": "erase"}
    large.task(None, (), operator=IterablePrivacyOperator, **erase)
    assert not any(key == "[4]" and sync_id != "erase" for sync_id, key in large.remembered)
    large.runs += 1
    assert large.task(4, SIX, repartition=True)["skipped"] == 1


@pytest.mark.parametrize("name", ["50%'{x}", 'a"b\\', "%s", "_", "{x}", "ä ö", "a:b?", "--"])
def test_names_are_only_names(shop: Shop, name: str) -> None:
    """Whatever a partition's name has in it, no statement takes it for anything else."""
    names = (name, "%", "x")
    shop.people(range(1, 11))

    def run(count: int, **more: Any) -> list[Any]:
        shop.runs += 1
        sql = f"SELECT * FROM {shop.table} WHERE id % {count} = "
        return [shop.task(one, names[:count], sql=f"{sql}{number}", **more) for number, one in enumerate(names[:count])]

    assert total(run(2), "accepted") == 10
    assert total(run(2), "unchanged") == 10
    assert total(run(3, repartition=True), "unchanged") == 10
    shop.people(range(1, 10))
    assert total(run(3), "removed") == 1
    assert len(shop.remembered) == 9


def test_names_are_only_names_beside_parameters(large: Shop) -> None:
    """The model's own parameters give percent signs a sense."""
    large.people(range(1, 11))
    sql = f"SELECT * FROM {large.table} WHERE id %% 2 = %(rest)s"
    for _ in range(2):
        reports = [
            large.task(name, ("50%", "%s"), sql=sql, parameters={"rest": number})
            for number, name in enumerate(("50%", "%s"))
        ]
    assert total(reports, "unchanged") == 10


@pytest.mark.parametrize("sync_id", ["crm.users[de]", "a[", "b]"])
def test_a_sync_cannot_pass_for_a_partition(small: Shop, sync_id: str) -> None:
    """Its entries would be those of another sync's partition."""
    with pytest.raises(Exception, match="has square brackets"):
        small.make(None, (), type(small.make(0, FOUR, IterableListOperator)), sync_id=sync_id)


def test_every_partition_has_to_fit(small: Shop) -> None:
    """Also the others: they could never be run, and removals would wait for them for ever."""
    with pytest.raises(AirflowFailException, match="a state table holds 250"):
        small.task(0, (0, "y" * 100), sync_id="x" * 200)


def test_a_resync_is_each_partitions_own(shop: Shop) -> None:
    """Full: every row once; baseline: none, and what left is a removal later."""
    shop.people(range(1, 21))
    shop.run(FOUR)
    assert total(shop.run(FOUR, resync="full"), "accepted") == 20
    shop.world.forget_calls()
    shop.people(range(1, 19))
    shop.sql("UPDATE users SET name = 'Changed' WHERE id = 7")
    reports = shop.run(SIX, resync="baseline", repartition=True)
    assert shop.world.calls == Counter()
    assert total(reports, "removed") == 0
    assert total(shop.run(SIX, resync="baseline"), "removed") == 0
    assert total(shop.run(SIX), "removed") == 2
    assert shop.world.calls[BULK] == 0
    shop.sql("DELETE FROM users WHERE id = 1")
    assert total(shop.run(FOUR, resync="full", repartition=True), "accepted") == 17
    assert total(shop.run(FOUR), "removed") == 1
