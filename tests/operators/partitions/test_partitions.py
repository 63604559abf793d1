from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks import iterable as hooks
from airflow_provider_iterable.operators import (
    IterableEventOperator,
    IterableListOperator,
    IterablePrivacyOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.operators.partitions import summed
from airflow_provider_iterable.state import ObjectState, TableState, XComState
from airflow_provider_iterable.state.tables import partitions as partitioning
from airflow_provider_iterable.state.tables.lease import Lease
from tests.operators.conftest import BULK, Make, email, taken_as
from tests.operators.partitions.conftest import (
    DELETE,
    EVERY,
    FOUR,
    SIX,
    SUBSCRIBE,
    SYNC,
    Shop,
    Task,
    Transactions,
    addresses,
    held,
    open_shop,
    total,
)

pytestmark = pytest.mark.slow


def test_partitions_remember_each_for_itself(shop: Shop) -> None:
    """Run by run: all rows, nothing at all, and the differences, removals included."""
    shop.people(range(1, 41))
    reports = shop.run(FOUR)
    assert [report["partition"] for report in reports] == ["0", "1", "2", "3"]
    assert {report["sync_id"] for report in reports} == {SYNC}
    assert [report["accepted"] for report in reports] == [10] * 4
    assert shop.remembered == held(FOUR, range(1, 41))
    shop.world.forget_calls()
    assert total(shop.run(FOUR), "unchanged") == 40
    assert shop.world.calls == Counter()
    shop.people([*range(1, 31), 44])
    reports = shop.run(FOUR[::-1])
    assert [total(reports, name) for name in ("added", "removed", "accepted")] == [1, 10, 11]
    assert set(shop.world.profiles) == addresses([*range(1, 31), 44])
    assert shop.remembered == held(FOUR, [*range(1, 31), 44])
    assert shop.leases == []


def test_partitions_know_each_for_itself_which_fields_are_missing(shop: Shop) -> None:
    """One looks, finds them and sends its rows again, whatever the others do; new partitions know what these knew."""
    fields = {"firstName": "name"}
    shop.people(range(1, 13))
    reports = shop.run(FOUR, create_new_fields=False, fields=fields)
    assert [report["left_out"] for report in reports] == [{"firstName": 3}] * 4
    assert summed(SYNC, reports)["left_out"] == {"firstName": 12}
    shop.world.create(99, firstName="x")
    shop.runs += 1
    report = shop.task(2, FOUR, create_new_fields=False, fields=fields)
    assert (report["changed"], report["accepted"], report["left_out"]) == (3, 3, {})
    assert {name for name, notes in shop.headers().items() if "awaited" in notes.get("left_out", "")} == {
        f"{SYNC}[{number}]" for number in (0, 1, 3)
    }
    reports = shop.run(SIX, create_new_fields=False, fields=fields, repartition=True)
    assert [total(reports, name) for name in ("changed", "accepted", "unchanged")] == [12, 12, 0]
    assert {shop.world.profiles[email(number)]["firstName"] for number in range(1, 13)} == {"Name"}
    reports = shop.run(SIX, create_new_fields=False, fields=fields)
    assert [total(reports, name) for name in ("changed", "unchanged")] == [0, 12]


@pytest.mark.parametrize("back", [True, False])
def test_a_sync_that_becomes_partitioned_knows_which_fields_are_missing(small: Shop, back: bool) -> None:
    """And one that becomes whole again."""
    ways: list[Any] = [FOUR, None] if back else [None, FOUR]
    small.people(range(1, 9))
    small.run(ways[0], create_new_fields=False)
    small.world.create(99, firstName="x")
    reports = small.run(ways[1], create_new_fields=False, repartition=True)
    assert (total(reports, "changed"), total(reports, "accepted")) == (8, 8)
    reports = small.run(ways[0], create_new_fields=False, repartition=True)
    assert (total(reports, "changed"), total(reports, "unchanged")) == (0, 8), "what was missing once is no more"


def test_four_partitions_become_six(shop: Shop) -> None:
    """Nobody is deleted, nothing goes again that did not change; who really left is found in the next run, once."""
    become_six(shop)


@pytest.mark.slow
def test_four_partitions_become_six_in_duckdb(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose tables cannot be written to as freely as others."""
    for shop in open_shop("duckdb", "database", make_world, monkeypatch):
        become_six(shop)


def become_six(shop: Shop) -> None:
    """Change the partitions, without leave and with it, and see who is removed when."""
    shop.people(range(1, 61))
    shop.run(FOUR)
    shop.people([*range(1, 51), 61])
    shop.sql("UPDATE users SET name = 'Changed' WHERE id = 7")
    shop.world.forget_calls()

    with pytest.raises(AirflowFailException) as refused:
        shop.run(SIX)
    assert f"The sync '{SYNC}' was run with 4 partitions (0, 1, 2, 3) before, and is run with 6" in str(refused.value)
    assert "repartition=True" in str(refused.value)
    for partition in SIX:
        with pytest.raises(AirflowFailException, match="repartition=True"):
            shop.task(partition, SIX)
    assert shop.world.calls == Counter()
    assert shop.remembered == held(FOUR, range(1, 61))

    reports = shop.run(SIX, repartition=True)
    assert [total(reports, name) for name in ("changed", "added", "removed", "accepted")] == [1, 1, 0, 2]
    assert total(reports, "unchanged") == 49
    assert {report["resend_reason"] for report in reports} == {None}
    assert shop.world.calls[DELETE] == 0
    assert set(shop.world.profiles) == addresses(range(1, 62))
    there = shop.remembered
    assert len(there) == 61
    assert not held(SIX, [*range(1, 51), 61]) - there

    shop.world.forget_calls()
    reports = shop.run(SIX)
    assert (total(reports, "removed"), total(reports, "accepted")) == (10, 10)
    assert shop.world.calls[BULK] == 0
    assert set(shop.world.profiles) == addresses([*range(1, 51), 61])
    assert shop.remembered == held(SIX, [*range(1, 51), 61])
    shop.world.forget_calls()
    assert total(shop.run(SIX), "unchanged") == 51
    assert shop.world.calls == Counter()


@pytest.mark.parametrize("after", [(0, 1, 2), ("a", "b"), None])
def test_partitions_that_are_no_more_leave_nothing_behind(shop: Shop, after: Sequence[Any] | None) -> None:
    """Fewer partitions, others, or none: their entries are claimed, and the rest is removed in the next run."""
    shop.people(range(1, 61))
    shop.run(SIX)
    shop.people(range(1, 51))
    shop.world.forget_calls()
    by_name = {"a": "id % 2 = 0", "b": "id % 2 = 1"}

    def run(**parameters: Any) -> list[Any]:
        shop.runs += 1
        if after != ("a", "b"):
            return shop.again(after, **parameters)
        sql = "SELECT * FROM {} WHERE {}"
        return [shop.task(name, after, sql=sql.format(shop.table, by_name[name]), **parameters) for name in after]

    with pytest.raises(AirflowFailException, match="repartition=True"):
        run()
    reports = run(repartition=True)
    assert total(reports, "unchanged") == 50
    assert shop.world.calls == Counter()
    assert len(shop.remembered) == 60
    names = {SYNC} if after is None else {f"{SYNC}[{name}]" for name in after}
    assert {sync_id for sync_id, _ in shop.remembered} == names
    assert shop.headers().keys() == {SYNC} | names
    assert total(run(), "removed") == 10
    assert set(shop.world.profiles) == addresses(range(1, 51))
    assert len(shop.remembered) == 50


def test_a_sync_becomes_partitioned(shop: Shop) -> None:
    """What it remembered as a whole moves to its partitions."""
    shop.people(range(1, 41))
    shop.run(None)
    shop.people(range(1, 36))
    shop.world.forget_calls()
    with pytest.raises(AirflowFailException, match="was run without partitions before, and is run with 4"):
        shop.run(FOUR)
    assert total(shop.run(FOUR, repartition=True), "unchanged") == 35
    assert shop.world.calls == Counter()
    assert total(shop.run(FOUR), "removed") == 5
    assert shop.remembered == held(FOUR, range(1, 36))
    with pytest.raises(AirflowFailException, match=r"was run with 4 partitions \(0, 1, 2, 3\) before, .* without"):
        shop.run(None)


def test_members_of_a_list_stay(shop: Shop) -> None:
    """A list sync names rows by identifiers: partitions 4 -> 6, nobody is unsubscribed; later, who left is."""
    lists: Any = {"operator": IterableListOperator}
    shop.lenient = True
    shop.people(range(1, 61))
    shop.run(FOUR, **lists)
    (made,) = shop.world.sandbox.lists
    assert len(made["members"]) == 60
    shop.people(range(1, 51))
    shop.world.forget_calls()
    with pytest.raises(AirflowFailException, match="repartition=True"):
        shop.run(SIX, **lists)
    assert shop.world.calls == Counter()
    assert total(shop.run(SIX, repartition=True, **lists), "unchanged") == 50
    assert shop.world.calls == Counter()
    reports = shop.run(SIX, **lists)
    assert (total(reports, "removed"), shop.world.calls[SUBSCRIBE]) == (10, 0)
    (found,) = shop.world.sandbox.lists
    assert {member["email"] for member in found["members"]} == addresses(range(1, 51))
    assert total(shop.run(SIX, **lists), "unchanged") == 50


def test_removals_wait_for_the_last_partition(small: Shop) -> None:
    """One that fails keeps the others from removing anybody, in later runs too; its retry lets them."""
    small.people(range(1, 61))
    small.run(FOUR)
    small.people(range(1, 51))
    small.world.forget_calls()
    small.runs += 1
    for partition in range(5):
        small.task(partition, SIX, repartition=True)
    with pytest.raises(AirflowException):
        small.task(5, SIX, repartition=True, sql="SELECT * FROM nothing")
    assert total([small.task(partition, SIX) for partition in range(5)], "removed") == 0
    small.runs += 1
    assert total([small.task(partition, SIX) for partition in range(5)], "removed") == 0
    assert small.world.calls == Counter()
    assert set(small.world.profiles) == addresses(range(1, 61))
    assert small.task(5, SIX)["unchanged"] == 8
    assert total(small.run(SIX), "removed") == 10
    assert set(small.world.profiles) == addresses(range(1, 51))


def test_what_a_killed_partition_announced_moves_as_well(small: Shop) -> None:
    """A row in doubt goes again from where it is now; a person in doubt without a row is removed in the next run."""
    small.people(range(1, 61))
    small.run(FOUR)
    small.world.create(61)
    doubts = json.dumps([[f"[{number}]", "", f'["email","{email(number)}"]', ""] for number in (1, 61)])
    small.sql(f"INSERT INTO iterable_sync_intents VALUES ('{SYNC}[1]', 0, 0, '{doubts}')")
    reports = small.run(SIX, repartition=True)
    assert [total(reports, name) for name in ("changed", "unchanged", "removed")] == [1, 59, 0]
    assert total(small.run(SIX), "removed") == 1
    assert set(small.world.profiles) == addresses(range(1, 61))
    assert small.sql("SELECT * FROM iterable_sync_intents") == []


def test_a_retry_of_the_same_run_removes_nobody(small: Shop) -> None:
    """Even when every partition has claimed what is its own: removals are for the next run."""
    small.people(range(1, 61))
    small.run(FOUR)
    small.people(range(1, 51))
    small.run(SIX, repartition=True)
    assert total(small.again(SIX, repartition=True), "removed") == 0
    assert total(small.run(SIX, repartition=True), "removed") == 10


@pytest.mark.slow
def test_a_crash_at_any_moment_of_a_repartition(small: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after each transaction; whatever was done by then, the retry ends it and nobody is lost."""
    transactions = Transactions(monkeypatch)

    def story(number: int, after: bool) -> int:
        """Return how many transactions the repartition takes."""
        sync_id = f"story-{number}-{after}"
        small.people(range(1, 31))
        small.run(FOUR, sync_id=sync_id, audit=False)
        small.people(range(1, 25))
        small.sql("UPDATE users SET name = 'Changed' WHERE id = 7")
        small.world.forget_calls()
        small.tries = 1
        with transactions.killing(number, after):
            small.run(SIX, sync_id=sync_id, repartition=True, audit=False)
        took = transactions.count
        small.sql("UPDATE iterable_sync_lease SET expires_at = 1")  # what a killed run held runs out
        small.tries = 2
        reports = small.again(SIX, sync_id=sync_id, repartition=True, audit=False)
        assert total(reports, "removed") == 0
        assert total(reports, "accepted") + total(reports, "unchanged") == 24
        assert small.world.calls[DELETE] == 0
        assert sum(call.records for call in small.world.sandbox.calls if call.template == "/api/users/bulkUpdate") <= 2
        assert total(small.run(SIX, sync_id=sync_id, audit=False), "removed") == 6
        assert set(small.world.profiles) == addresses(range(1, 25))
        assert Counter({k: n for k, n in small.remembered.items() if k[0].startswith(sync_id)}) == held(
            SIX, range(1, 25), sync_id
        )
        return took

    def made(*given: Any, audit: bool = True, **parameters: Any) -> IterableModelOperator:
        return make(*given, **{"state": TableState(audit=audit), **parameters})

    make = small.make
    monkeypatch.setattr(small, "make", made)
    took = story(0, False)
    assert took > 100
    for number in range(1, took + 1, EVERY):
        story(number, number % 2 == 0)


def test_partitions_that_run_at_the_same_time(large: Shop) -> None:
    """Six at once, in Postgres: all agree about what changed, and none loses or removes anything."""
    large.people(range(1, 301))
    large.run(FOUR)
    large.people(range(1, 281))
    large.world.forget_calls()
    large.runs += 1
    with ThreadPoolExecutor(6) as pool:
        reports = list(pool.map(lambda partition: large.task(partition, SIX, repartition=True), SIX))
    assert (total(reports, "unchanged"), total(reports, "removed")) == (280, 0)
    assert large.world.calls == Counter()
    large.runs += 1
    with ThreadPoolExecutor(6) as pool:
        assert total(pool.map(lambda partition: large.task(partition, SIX), SIX), "removed") == 20
    assert large.remembered == held(SIX, range(1, 281))
    assert large.leases == []


def test_one_list_is_made_by_many(large: Shop) -> None:
    """In a first run, at the same time, one makes it and all fill it; they need not see it at Iterable to know it."""
    large.people(range(1, 61))
    with ThreadPoolExecutor(6) as pool:
        reports = list(pool.map(lambda partition: large.task(partition, SIX, operator=IterableListOperator), SIX))
    assert total(reports, "accepted") == 60
    (made,) = large.world.sandbox.lists
    assert len(made["members"]) == 60
    assert (large.world.calls["GET /api/lists"], large.world.calls["POST /api/lists"]) == (1, 1)


def test_who_still_runs_an_old_partition_is_waited_for(small: Shop) -> None:
    """A repartition begins when nobody holds a former partition; a retry may then be luckier."""
    small.people(range(1, 21))
    small.run(FOUR)
    columns = "sync_id, holder, instance, attempt, label, expires_at"
    row = f"'{SYNC}[3]', 'it', 'that', 1, 'the old run', 4102444800000"
    small.sql(f"INSERT INTO iterable_sync_lease ({columns}) VALUES ({row})")
    for partition in (3, 0):
        with pytest.raises(AirflowException, match="is being run by another run: the old run") as failed:
            small.task(partition, SIX, repartition=True)
        assert taken_as(failed.value) is AirflowException
        assert json.loads(small.headers()[SYNC]["partitions"]) == ["0", "1", "2", "3"]
    assert small.remembered == held(FOUR, range(1, 21))
    small.sql("UPDATE iterable_sync_lease SET expires_at = 1")
    small.run(SIX, repartition=True)
    assert small.leases == []
    assert small.remembered == held(SIX, range(1, 21))


def test_whoever_waits_too_long_for_the_others_fails(small: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition was lost while it made a change, and another one does not wait for ever; without a change, none."""
    monkeypatch.setattr(partitioning, "MUTEX_PATIENCE", 0.0)
    small.people(range(1, 21))
    small.run(FOUR)
    columns = "sync_id, holder, instance, attempt, label, expires_at"
    row = f"'{SYNC}', 'it', 'that', 1, 'another partition', 4102444800000"
    small.sql(f"INSERT INTO iterable_sync_lease ({columns}) VALUES ({row})")
    assert total(small.run(FOUR), "unchanged") == 20
    with pytest.raises(AirflowException, match="another partition") as failed:
        small.run(SIX, repartition=True)
    assert taken_as(failed.value) is AirflowException


def test_partitions_that_change_at_this_very_moment(small: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a look and the lease another run may have changed them: the lease comes first, then another look."""
    small.people(range(1, 21))
    small.run(FOUR)
    take = Lease.take

    def late(lease: Lease) -> None:
        monkeypatch.setattr(Lease, "take", take)
        small.world.forget_calls()
        small.task(1, SIX, repartition=True)
        take(lease)

    monkeypatch.setattr(Lease, "take", late)
    with pytest.raises(AirflowException, match="were just changed by another run") as failed:
        small.task(0, FOUR)
    assert taken_as(failed.value) is AirflowException
    assert small.leases == []


def test_a_key_that_another_partition_remembers_is_no_removal(shop: Shop) -> None:
    """A row that moved, and was met by its new partition first, is there; the old one forgets it and is silent."""
    sql = f"SELECT * FROM {shop.table} WHERE name = "

    def run(*names: str) -> list[Any]:
        shop.runs += 1
        return [shop.task(name, ("de", "fr"), sql=f"{sql}'{name}'") for name in names]

    shop.people(range(1, 11), name="de")
    run("de", "fr")
    shop.sql("UPDATE users SET name = 'fr' WHERE id = 3")
    shop.sql("DELETE FROM users WHERE id = 4")
    shop.world.forget_calls()
    changed, left = run("fr", "de")
    assert (changed["added"], left["removed"], shop.world.calls[DELETE]) == (1, 1, 1)
    assert set(shop.world.profiles) == addresses({*range(1, 11)} - {4})
    assert shop.remembered == Counter(
        (f"{SYNC}[{'fr' if number == 3 else 'de'}]", f"[{number}]") for number in range(1, 11) if number != 4
    )


def test_of_two_entries_of_one_row_the_partitions_own_stays(small: Shop) -> None:
    """A row moved, was met in its new partition, and the old one has not run since: its entry is the older one."""

    def run(*names: str, also: Sequence[str] = (), **more: Any) -> list[Any]:
        small.runs += 1
        sql = "SELECT * FROM users WHERE name = "
        return [small.task(name, ("de", "fr", *also), sql=f"{sql}'{name}'", **more) for name in names]

    small.people(range(1, 6), name="de")
    run("de", "fr")
    small.sql("UPDATE users SET name = 'fr' WHERE id = 3")
    run("fr")
    assert len(small.remembered) == 6
    small.world.forget_calls()
    assert total(run("fr", "it", "de", also=["it"], repartition=True), "unchanged") == 5
    assert small.world.calls == Counter()
    assert len(small.remembered) == 5


def test_who_was_erased_stays_erased(small: Shop) -> None:
    """Tombstones move with their rows, and go when these have left the model."""
    small.people(range(1, 21))
    small.run(FOUR)
    small.sql("CREATE TABLE requests AS SELECT * FROM users WHERE id IN (4, 9)")
    erase: Any = {"operator": IterablePrivacyOperator, "sql": "SELECT * FROM requests", "sync_id": "erase"}
    small.run(None, **erase)
    assert set(small.world.profiles) == addresses({*range(1, 21)} - {4, 9})
    small.world.forget_calls()
    reports = small.run(SIX, repartition=True)
    assert (total(reports, "skipped"), total(reports, "unchanged")) == (2, 18)
    assert total(small.run(SIX), "skipped") == 2
    assert small.world.calls == Counter()
    small.people({*range(1, 21)} - {9})
    small.run(SIX)
    assert len([key for sync_id, key in small.remembered if sync_id.startswith(f"{SYNC}[") and key[0] != "["]) == 1


def test_events_do_not_fire_again(small: Shop) -> None:
    """What is remembered for ever moves too; and an event's ID does not depend on its partition."""
    events: Any = {"operator": IterableEventOperator, "event_name": "Signed up", "sync_id": "events"}
    small.people(range(1, 21))
    small.run(FOUR)
    assert total(small.run(FOUR, **events), "accepted") == 20
    small.people(range(1, 16))
    assert total(small.run(SIX, repartition=True, **events), "unchanged") == 15
    small.people(range(1, 21))
    assert total(small.run(SIX, **events), "accepted") == 0
    small.sql("DELETE FROM iterable_sync_state WHERE sync_id LIKE 'events%'")
    assert total(small.run(range(5), **events), "accepted") == 20
    assert [event["writes"] for event in small.world.sandbox.events] == [2] * 20


def test_a_set_of_which_nothing_is_remembered_may_change(small: Shop) -> None:
    """There is nothing that could be lost: a first run that failed commits nobody to its partitions."""
    small.people([])
    small.run(SIX)
    small.people(range(1, 21))
    assert total(small.run(FOUR), "accepted") == 20
    assert json.loads(small.headers()[SYNC]["partitions"]) == ["0", "1", "2", "3"]
    assert small.headers().keys() == {SYNC, *(f"{SYNC}[{number}]" for number in FOUR)}


def test_new_partitions_know_where_their_entries_belong(small: Shop) -> None:
    """What they take over is about the former destination, so that another one is refused by them, too."""
    lists: Any = {"operator": IterableListOperator}
    small.people(range(1, 31))
    small.run(FOUR, **lists)
    for partition in SIX:
        with pytest.raises(AirflowFailException, match="belongs to another destination"):
            small.task(partition, SIX, repartition=True, list_name="Others", **lists)
    small.world.forget_calls()
    assert total(small.run(SIX, repartition=True, **lists), "unchanged") == 30
    assert small.world.calls == Counter()
    assert len({notes["list_id"] for sync_id, notes in small.headers().items() if sync_id != SYNC}) == 1


def test_a_dry_run_moves_nothing(small: Shop) -> None:
    """It plans for the partitions that there are, and says that others have to be moved to first."""
    small.people(range(1, 21))
    assert total(small.run(FOUR, dry_run=True), "added") == 20
    assert small.headers() == {}
    small.run(FOUR)
    assert total(small.run(FOUR, dry_run=True), "unchanged") == 20
    with pytest.raises(AirflowFailException, match="was run with 4 partitions"):
        small.run(SIX, dry_run=True)
    with pytest.raises(AirflowFailException, match="repartition=True moves what is remembered"):
        small.run(SIX, dry_run=True, repartition=True)
    assert small.remembered == held(FOUR, range(1, 21))
    small.runs += 1
    small.task(0, SIX, repartition=True)
    with pytest.raises(AirflowFailException, match="has to move before a run can be planned"):
        small.run(SIX, dry_run=True)


def test_guards_are_a_partitions_own(small: Shop) -> None:
    """An empty partition, and a partition that loses too much, fail by themselves."""
    small.people(range(1, 201))
    small.run(FOUR)
    small.people(number for number in range(1, 201) if number % 4)
    with pytest.raises(AirflowFailException, match="The model returned no rows"):
        small.task(0, FOUR, allow_empty=False)
    with pytest.raises(AirflowFailException, match="50 of 50 remembered rows have left the model"):
        small.task(0, FOUR, max_removed=0.3)
    assert small.task(1, FOUR, allow_empty=False, max_removed=0.3)["unchanged"] == 50


@pytest.mark.parametrize(
    ("number", "limits", "share"),
    [
        (4, {}, 0.125),
        (4, {"max_active_tis_per_dagrun": 2}, 0.25),
        (4, {"max_active_tis_per_dag": 1}, 0.5),
        (1, {"max_active_tis_per_dagrun": 8}, 0.5),
        (None, {}, 0.5),
        (None, {"max_active_tis_per_dag": 3}, 0.5),
    ],
)
def test_partitions_share_the_projects_rate(
    make_world: Make, monkeypatch: pytest.MonkeyPatch, number: int | None, limits: dict[str, int], share: float
) -> None:
    """Each gets as much of the connection's share as there may be others at the same time."""
    world = make_world(extra={"rate_share": 0.5})
    shop = Shop(world, "sqlite", None, "auto")
    shop.people([1])
    given: list[float] = []
    client: Any = vars(hooks)["Client"]

    def noted(*arguments: Any, **options: Any) -> Any:
        given.append(options["rate_share"])
        return client(*arguments, **options)

    monkeypatch.setattr(hooks, "Client", noted)
    shop.task(None if number is None else 0, range(number or 0), operator=IterableUserSyncOperator, **limits)
    assert given == [share]


def test_the_audit_tells_partitions_apart(small: Shop) -> None:
    """Each has runs of its own."""
    small.people(range(1, 9))
    small.run(FOUR)
    runs = small.sql("SELECT sync_id, status, num_succeeded_add FROM iterable_sync_runs ORDER BY 1")
    assert runs == [(f"{SYNC}[{number}]", "succeeded", 2) for number in FOUR]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"state": XComState()}, "XComState has none"),
        ({"state": ObjectState("memory://state")}, "ObjectState has none"),
        ({"partition": "a[b]"}, "cannot be a partition"),
        ({"partition": " a"}, "cannot be a partition"),
        ({"partition": ""}, "cannot be a partition"),
        ({"partition": "x" * 101}, "cannot be a partition"),
        ({"partition": True}, "a text or a whole number, not bool"),
        ({"partition": 1.5}, "a text or a whole number, not float"),
    ],
)
def test_what_cannot_be_is_refused_when_the_operator_is_made(parameters: dict[str, Any], message: str) -> None:
    """Partitions need tables, and names that can be part of a sync's."""
    given = {"partition": 1, "table": "users", "state": TableState(), **parameters}
    with pytest.raises(ConfigurationError, match=message.replace("[", r"\[")):
        IterableUserSyncOperator(task_id="t", sql_conn_id="w", primary_key="id", email_column="email", **given)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"partitions": None}, "is none of partitions (none)"),
        ({"partitions": [1, 2]}, "'0' is none of partitions (1, 2)"),
        ({"partitions": [0, "0"]}, "Partitions must differ from each other, and there are several 0"),
        ({"partitions": "0"}, "partitions must be a list of all partitions, not str"),
        ({"partitions": [0, None]}, "not NoneType"),
        ({"repartition": "{{ params.perhaps }}"}, "repartition still holds '{{ params.perhaps }}'"),
        ({"sync_id": "x" * 249}, "a state table holds 250"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    small: Shop, parameters: dict[str, Any], message: str
) -> None:
    """Whatever is only known in the task."""
    with pytest.raises(AirflowFailException) as failed:
        small.task(0, FOUR, sql="SELECT * FROM nothing", **parameters)
    assert message in str(failed.value)


def test_a_mapped_task_without_a_partition_is_refused(small: Shop) -> None:
    """Its instances would remember as one, and remove each other's rows."""
    made = small.make(None, (), IterableUserSyncOperator, sql="SELECT * FROM nothing")
    for index in (0, 3):
        context: Any = {"run_id": "run", "ti": Task("run", index)}
        with pytest.raises(AirflowFailException, match="needs a partition"):
            made.execute(context)


def test_one_task_at_a_time_is_for_syncs_without_partitions() -> None:
    """Of those with partitions, the lease of each keeps a second run out, and no limit keeps the others waiting."""
    common: Any = {"table": "users", "sql_conn_id": "w", "primary_key": "id", "email_column": "email"}
    common["state"] = TableState()
    whole = IterableUserSyncOperator(task_id="whole", **common)
    part = IterableUserSyncOperator(task_id="part", partition=1, **common)
    assert (whole.max_active_tis_per_dag, part.max_active_tis_per_dag) == (1, None)
    assert (part.inlets, part.outlets) == ([], [])
