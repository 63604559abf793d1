from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.engine.vocabulary import Batch, Reply, Send
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.operators import IterableEventOperator, IterableUserSyncOperator
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.runs.run import SyncKind
from airflow_provider_iterable.runs.runner import BEGINS, GOES_ON, UNFINISHED
from airflow_provider_iterable.state import ObjectState, TableState, XComState
from airflow_provider_iterable.state.store import Store
from tests.operators.conftest import BULK, FIELDS, Make, World, email, person

pytestmark = pytest.mark.slow

TRACK = "POST /api/events/trackBulk"
CHOICES = ("another sync_id", 'resync="full"', 'resync="baseline"', "Nothing was sent")
NEW = "Nothing was remembered for this sync"


def objects(tmp_path: Path) -> ObjectState:
    """Return a store of objects in a folder."""
    return ObjectState(f"file://{tmp_path / 'objects'}")


@pytest.fixture(params=["table", "worker", "object"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Return a store that commits batch by batch."""
    stores: dict[str, Store] = {
        "table": TableState(),
        "worker": TableState(compare="worker"),
        "object": objects(tmp_path),
    }
    return stores[request.param]


class Events(World):
    """A world in which each person of the model signs up."""

    def make(self, **parameters: Any) -> IterableModelOperator:
        """Make the operator."""
        defaults: dict[str, Any] = {
            "task_id": "sync_users",
            "sql": "SELECT * FROM users ORDER BY id",
            "sql_conn_id": "warehouse",
            "primary_key": "id",
            "email_column": "email",
            "event_name": "Signed Up",
            "fields": {"plan": "city"},
            "state": TableState(),
        }
        return IterableEventOperator(**{**defaults, **parameters})

    @property
    def seen(self) -> list[str]:
        """Whose events Iterable has."""
        return sorted(str(found["email"]) for found in self.sandbox.events)


@pytest.fixture
def events(make_world: Make) -> Events:
    """A project that knows the people of the model."""
    world = make_world()
    events = Events(world.sandbox, world.warehouse, world.project_type)
    for number in range(1, 12):
        events.create(number)
    return events


class Dead(BaseException):
    """The worker was killed."""


class Deaths:
    """Kills the worker when so many requests were answered; counts the records that were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.after: int | None = None
        self.accepted: Counter[str] = Counter()
        self._lock = threading.Lock()
        monkeypatch.setattr(SyncKind, "sender", lambda kind, run: self._sender(run.client))

    def _sender(self, client: Client) -> Send:
        def send(batch: Batch) -> Reply:
            with self._lock:
                if self.after is not None:
                    if self.after == 0:
                        raise Dead
                    self.after -= 1
                reply = client.send(batch)
                assert reply.status == 200
                self.accepted.update(operation.key for operation in batch.operations)
                return reply

        return send


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> Deaths:
    """Let workers die."""
    return Deaths(monkeypatch)


def retry(world: World, **parameters: Any) -> Any:
    """Run once more what failed, as the same DAG run."""
    world.runs -= 1
    return world.run(**parameters)


def test_full_sends_every_row_again(world: World, store: Store, heard: Callable[[], str]) -> None:
    """Who left is removed; report and log say which run it was and why rows went again; the next run is quiet."""
    world.people(1, 2, 3)
    world.run(state=store, on_removed="delete")
    world.people(1, 2, 4)
    world.forget_calls()
    report = world.run(state=store, on_removed="delete", resync="full")
    assert (report["resync"], report["resend_reason"]) == ("full", 'resync="full" sends every row again')
    assert (report["added"], report["changed"], report["removed"], report["accepted"]) == (1, 2, 1, 4)
    assert sorted(world.profiles) == [email(1), email(2), email(4)]
    assert "(resync full)" in heard()
    world.forget_calls()
    report = world.run(state=store, on_removed="delete")
    assert (report["resync"], report["unchanged"], report["resend_reason"]) == ("changes", 3, None)
    assert not world.calls
    assert world.run(state=store, on_removed="delete", resync="full")["accepted"] == 3, "a later one begins anew"


def test_full_with_xcom_commits_at_the_end(world: World) -> None:
    """A try that fails forgets what it delivered, and the next sends everything again."""
    world.people(*range(1, 7))
    world.run(state=XComState())
    world.sandbox.faults({"kind": "5xx_html", "path": "/api/users/bulkUpdate", "after": 1, "times": -1})
    with pytest.raises(AirflowException):
        world.run(state=XComState(), resync="full", batch_size=2)
    world.sandbox.service.faults.clear()
    assert retry(world, state=XComState(), resync="full")["accepted"] == 6
    assert world.run(state=XComState())["unchanged"] == 6


def test_a_full_resync_that_was_killed_goes_on(world: World, store: Store, deaths: Deaths) -> None:
    """The retry sends what no try before it had accepted, whoever was killed how often, and no row goes twice."""
    world.people(*range(1, 11))
    world.run(state=store)
    deaths.accepted.clear()
    for _ in range(2):
        deaths.after = 2
        with pytest.raises(Dead):
            world.run(state=store, resync="full", batch_size=2)
        world.runs -= 1
    deaths.after = None
    report = world.run(state=store, resync="full", batch_size=2)
    assert (report["changed"], report["unchanged"], report["accepted"]) == (2, 8, 2)
    assert report["resend_reason"] == GOES_ON
    assert deaths.accepted == Counter(f"[{number}]" for number in range(1, 11))
    assert world.run(state=store)["unchanged"] == 10


def test_another_full_resync_begins_anew(world: World, store: Store, deaths: Deaths) -> None:
    """That of another DAG run, after one that was killed; and that of a task that is cleared after it succeeded."""
    world.people(*range(1, 11))
    world.run(state=store)
    deaths.after = 2
    with pytest.raises(Dead):
        world.run(state=store, resync="full", batch_size=2)
    deaths.after = None
    for begun in (world.run(state=store, resync="full"), retry(world, state=store, resync="full")):
        assert (begun["accepted"], begun["resend_reason"]) == (10, BEGINS)


def test_the_next_run_ends_a_full_resync_that_was_killed(events: Events, store: Store, deaths: Deaths) -> None:
    """Also where rows fire once only: those that did not yet fire again do."""
    events.people(*range(1, 11))
    events.run(state=store)
    deaths.accepted.clear()
    deaths.after = 2
    with pytest.raises(Dead):
        events.run(state=store, resync="full", batch_size=2)
    deaths.after = None
    report = events.run(state=store, batch_size=2)
    assert (report["added"], report["unchanged"], report["accepted"]) == (6, 4, 6)
    assert report["resend_reason"] == UNFINISHED
    assert deaths.accepted == Counter(f"[{number}]" for number in range(1, 11))
    assert events.seen == sorted(map(email, range(1, 11))), "an event with an ID is overwritten"
    assert events.run(state=store)["unchanged"] == 10


def test_rows_that_go_again_after_a_full_resync_that_did_not_end_have_that_reason(
    world: World, store: Store, deaths: Deaths, heard: Callable[[], str]
) -> None:
    """Report, log and guard say so, rather than that the rows changed, until a run has sent them; beside another reason
    if there is one."""
    world.people(*range(1, 51))
    world.run(state=store)
    deaths.after = 2
    with pytest.raises(Dead):
        world.run(state=store, resync="full", batch_size=5)
    deaths.after = None
    message, report = world.failure(AirflowFailException, state=store, max_changed=0.1)
    assert (
        f"40 of 50 remembered rows changed; max_changed=0.1 allows 5. Nothing was sent. The reason: {UNFINISHED}."
        in message
    )
    report = world.run(state=store)
    assert (report["changed"], report["unchanged"], report["accepted"]) == (40, 10, 40)
    assert (report["resend_reason"], report["changed_fields"]) == (UNFINISHED, {})
    assert UNFINISHED in heard()
    report = world.run(state=store)
    assert (report["unchanged"], report["resend_reason"]) == (50, None)
    world.people(*range(1, 50), 51)
    assert world.run(state=store)["resend_reason"] is None, "nor ever again"


def test_two_reasons_are_both_told(world: World, store: Store, deaths: Deaths) -> None:
    """A full resync did not end, and then the mapping changed."""
    world.people(*range(1, 11))
    world.run(state=store)
    deaths.after = 2
    with pytest.raises(Dead):
        world.run(state=store, resync="full", batch_size=2)
    deaths.after = None
    report = world.run(state=store, fields={"name": "name"})
    assert report["accepted"] == 10
    assert report["resend_reason"] == f"the mapping changed, so rows whose payload differs go again; {UNFINISHED}"


def test_a_guard_trips_before_a_full_resync_begins(world: World, store: Store) -> None:
    """Nothing is sent, and no row goes again afterwards."""
    world.people(*range(1, 41))
    world.run(state=store)
    world.people(*range(1, 3))
    world.forget_calls()
    message, report = world.failure(AirflowFailException, state=store, resync="full")
    assert ("max_removed" in message, report["resync"]) == (True, "full")
    world.people(*range(1, 41))
    assert world.run(state=store)["unchanged"] == 40
    assert not world.calls


def test_baseline_sends_nothing(world: World, store: Store, heard: Callable[[], str]) -> None:
    """Not even a question; valid rows are remembered as they are, and those that left are removed by the next run."""
    world.people(1, 2, 3)
    world.run(state=store, on_removed="delete")
    world.rows(person(1, city="Paris"), person(2), person(4), person(5, email="nobody"))
    world.forget_calls()
    report = world.run(state=store, on_removed="delete", resync="baseline", max_rejected=1)
    assert (report["resync"], report["status"], report["resend_reason"]) == ("baseline", "succeeded", None)
    counts = {name: report[name] for name in ("added", "changed", "removed", "unchanged", "rejected", "accepted")}
    assert counts == {"added": 1, "changed": 1, "removed": 0, "unchanged": 1, "rejected": 1, "accepted": 0}
    assert not world.calls
    assert "2 rows are recorded as delivered" in heard()
    report = world.run(state=store, on_removed="delete", max_rejected=1)
    assert (report["unchanged"], report["removed"], report["accepted"]) == (3, 1, 1)
    assert world.calls == {FIELDS: 1, "DELETE /api/users/{email}": 1}
    assert sorted(world.profiles) == [email(1), email(2)]


def test_the_run_after_a_baseline_is_guarded(world: World, store: Store) -> None:
    """A baseline of too small a model does no harm by itself, and an empty one is not believed."""
    world.people(*range(1, 41))
    world.run(state=store)
    world.rows()
    assert "allow_empty=True" in world.failure(AirflowFailException, state=store, resync="baseline")[0]
    world.people(1, 2)
    assert world.run(state=store, resync="baseline")["removed"] == 0
    assert "38 of 40" in world.failure(AirflowFailException, state=store)[0]


def test_a_dry_run_of_a_resync_changes_nothing(world: World, store: Store) -> None:
    """It tells the plan, whose hash is that kind's own."""
    world.people(1, 2)
    world.run(state=store)
    world.people(1, 3)
    kinds = ("changes", "full", "baseline")
    reports = {kind: world.run(state=store, resync=kind, dry_run=True) for kind in kinds}
    assert [reports[kind]["changed"] for kind in kinds] == [0, 2 - 1, 0]
    assert len({report["plan_hash"] for report in reports.values()}) == 3
    with pytest.raises(AirflowFailException, match="changed since it was approved"):
        world.run(state=store, approved_plan=reports["baseline"]["plan_hash"])
    world.forget_calls()
    world.run(state=store, resync="baseline", approved_plan=reports["baseline"]["plan_hash"])
    assert not world.calls
    assert world.run(state=store)["unchanged"] == 2


@pytest.mark.parametrize("kind", ["users", "events"])
def test_a_sync_may_move_from_store_to_store(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, heard: Callable[[], str]
) -> None:
    """With a baseline nothing is sent, there and back again, and each store knows what happened meanwhile."""
    moving: World = request.getfixturevalue("world" if kind == "users" else "events")
    moving.people(1, 2, 3)
    moving.run(state=XComState())
    moving.forget_calls()
    numbers = [1, 2, 3]
    stores: list[Store] = [
        TableState(compare="worker"),
        TableState(),
        objects(tmp_path),
        TableState(compare="worker"),
        XComState(),
    ]
    for step, store in enumerate(stores):
        report = moving.run(state=store, resync="baseline")
        assert (report["accepted"], report["removed"], report["read"]) == (0, 0, len(numbers))
        assert moving.run(state=store)["unchanged"] == len(numbers)
        assert not moving.calls
        numbers.append(4 + step)
        moving.people(*numbers)
        report = moving.run(state=store)
        assert (report["added"], report["changed"], report["accepted"]) == (1, 0, 1)
        moving.forget_calls()
    assert NEW not in heard().partition("resync baseline")[2]
    if isinstance(moving, Events):
        assert moving.seen == sorted(map(email, numbers))


def test_without_a_baseline_the_log_says_why_rows_go_again(
    world: World, tmp_path: Path, heard: Callable[[], str]
) -> None:
    """A store that knows nothing of the sync takes every row for new, and tells what would have prevented it."""
    world.people(1, 2)
    stores: list[Store] = [XComState(), TableState(), objects(tmp_path)]
    for store in stores:
        assert world.run(state=store)["accepted"] == 2
        assert heard().count(NEW) == stores.index(store) + 1
    assert 'resync="baseline" would have recorded the rows' in heard()
    world.run(state=stores[-1])
    assert heard().count(NEW) == 3


def test_a_baseline_after_a_moved_table_forgets_what_was_old(world: World, tmp_path: Path) -> None:
    """A table to which a sync returns still holds what it left there: who left meanwhile is removed once more."""
    world.people(1, 2, 3)
    world.run(state=TableState(), on_removed="delete")
    world.run(state=objects(tmp_path), on_removed="delete", resync="baseline")
    world.people(1, 2)
    world.run(state=objects(tmp_path), on_removed="delete")
    assert sorted(world.profiles) == [email(1), email(2)]
    world.run(state=TableState(), on_removed="delete", resync="baseline")
    report = world.run(state=TableState(), on_removed="delete")
    assert (report["removed"], report["accepted"]) == (1, 1)
    assert world.remembered == ["[1]", "[2]"]


def elsewhere(world: World, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Let the connection be of another host."""
    connection = {
        "conn_type": "iterable",
        "password": "0123456789abcdef0123456789abcdef",
        "host": host,
        "extra": {"project_type": "email"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(connection))


@pytest.mark.parametrize("kind", ["full", "baseline"])
def test_a_resync_goes_to_another_destination(
    make_world: Make, store: Store, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one the run is refused with the choices named; with one the header is the new destination's."""
    there, here = make_world(), make_world()
    here.people(1, 2)
    host = there.sandbox.url
    assert here.run(state=store)["accepted"] == 2
    elsewhere(here, monkeypatch, host)
    message, _ = here.failure(AirflowFailException, state=store)
    assert all(choice in message for choice in CHOICES)
    assert host in message
    report = here.run(state=store, resync=kind)
    assert report["accepted"] == (2 if kind == "full" else 0)
    assert len(there.profiles) == (2 if kind == "full" else 0)
    assert here.run(state=store)["unchanged"] == 2
    elsewhere(here, monkeypatch, here.sandbox.url)
    assert all(choice in here.failure(AirflowFailException, state=store)[0] for choice in CHOICES)


def test_a_baseline_elsewhere_counts_once_it_has_ended(
    make_world: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that failed half way leaves the state to its old destination, and is tried again."""
    there, here = make_world(), make_world()
    here.people(1, 2)
    here.run(state=store)
    elsewhere(here, monkeypatch, there.sandbox.url)
    here.rows(person(1, city="Rome"), person(2, email="nobody"))
    assert "were rejected" in here.failure(AirflowFailException, state=store, resync="baseline")[0]
    assert all(choice in here.failure(AirflowFailException, state=store)[0] for choice in CHOICES)
    here.people(1, 2)
    here.run(state=store, resync="baseline")
    assert here.run(state=store)["unchanged"] == 2


@pytest.mark.parametrize("on_removed", ["clear", "delete"])
def test_an_identifier_of_another_kind_names_nobody(world: World, on_removed: str) -> None:
    """What is remembered of who left was accepted for an email address, and is not looked for among user IDs."""
    world.rows(person(1, uid=email(1)), person(2, uid=email(2)))
    world.run(email_column="email", user_id_column="uid", match_by="email")
    world.rows(person(1, uid=email(1)))
    options: dict[str, Any] = {
        "email_column": None,
        "user_id_column": "uid",
        "on_removed": on_removed,
        "allow_shared_user_id": True,
    }
    report = world.run(resync="full", **options)
    assert (report["removed"], report["accepted"]) == (1, 1)
    assert world.profiles[email(2)]["firstName"] == "Name 2"
    assert world.run(**options)["removed"] == 0


@pytest.mark.parametrize("resync", ["", "none", "Full", "changes ", None])
def test_another_word_is_refused(world: World, resync: Any) -> None:
    """When the DAG is parsed; of a template, when the task runs."""
    with pytest.raises(ConfigurationError) as failed:
        world.make(resync=resync)
    assert all(part in str(failed.value) for part in ('"changes"', '"full"', '"baseline"', repr(resync)))


def test_resync_is_templated() -> None:
    """Such as by a parameter of the DAG run."""
    operator = IterableUserSyncOperator(
        task_id="sync",
        sql="SELECT 1",
        sql_conn_id="warehouse",
        primary_key="id",
        email_column="email",
        resync="{{ params.resync }}",
    )
    assert operator.render_template(operator.resync, {"params": {"resync": "full"}}) == "full"  # type: ignore[arg-type, typeddict-item, unused-ignore]
    assert "resync" in operator.template_fields


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("carts", {"event_type": "cart", "items_column": "city", "event_name": None, "fields": None}),
    ("events without ID", {"derive_ids": False}),
]


@pytest.mark.parametrize(("what", "options"), REFUSED)
def test_what_cannot_be_repeated_is_not(events: Events, what: str, options: dict[str, Any]) -> None:
    """A full resync of carts, and of events without ID, is refused in words, and a baseline is not."""
    events.people(1, 2, city=json.dumps([{"id": "1", "name": "Screw", "price": 1.0, "quantity": 1}]))
    message, _ = events.failure(AirflowFailException, resync="full", **options)
    assert all(part in message for part in (what, "second time", "Nothing was sent", 'resync="full"'))
    assert not events.calls
    report = events.run(resync="baseline", **options)
    assert (report["added"], report["accepted"]) == (2, 0)
    assert events.run(**options)["unchanged"] == 2
    assert not events.calls


def test_changes_of_email_by_email_are_not_repeated(world: World) -> None:
    """Those by user ID are."""
    world.rows((1, email(1), "user-1", "new@example.com"), columns=("id", "email", "uid", "new"))
    world.create(1)
    options: dict[str, Any] = {"mode": "change_email", "new_email_column": "new", "fields": None}
    message, _ = world.failure(AirflowFailException, resync="full", email_column="email", **options)
    assert "fires once for each key" in message
    assert not world.calls
    report = world.run(resync="full", user_id_column="uid", **options)
    assert report["accepted"] == 1


def test_a_baseline_asks_nothing_of_iterable(events: Events) -> None:
    """Neither field types nor anything else."""
    events.people(1, 2)
    events.run(resync="baseline")
    assert not events.calls
    events.people(1, 2, 3)
    events.run()
    assert events.calls == {TRACK: 1}
    assert events.seen == [email(3)]


def test_a_full_resync_reads_types_as_ever(world: World) -> None:
    """Once, before the first call."""
    world.people(1, 2)
    world.run()
    world.forget_calls()
    world.run(resync="full")
    assert world.calls == {FIELDS: 1, BULK: 1}


def test_a_state_of_objects_is_found_again(world: World, tmp_path: Path) -> None:
    """Runs go on where the last one stopped, and what is written names the sync's folder only."""
    store = objects(tmp_path)
    world.people(1, 2)
    world.run(state=store, sync_id="crm.users")
    world.people(1, 2, 3)
    assert world.run(state=store, sync_id="crm.users")["added"] == 1
    assert [path.name.startswith("crm.users-") for path in (tmp_path / "objects").iterdir()] == [True]
    assert msgspec.json.encode(world.run(state=store, sync_id="crm.users")["unchanged"]) == b"3"


def test_privacy_and_objects_do_not_go_together() -> None:
    """An unknown store is refused when the DAG is parsed where tables are needed."""
    from airflow_provider_iterable.operators.privacy import IterablePrivacyOperator

    with pytest.raises(ConfigurationError, match="TableState"):
        IterablePrivacyOperator(
            task_id="forget",
            action="forget",
            sql="SELECT 1",
            sql_conn_id="warehouse",
            primary_key="id",
            email_column="email",
            state=ObjectState("memory://state"),
        )
