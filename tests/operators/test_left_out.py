"""Fields that a project does not have, and is not to create: it accepts rows without them, and names them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.engine.left_out import Standing
from airflow_provider_iterable.errors import Halted
from airflow_provider_iterable.mapping import Constant, Json
from airflow_provider_iterable.operators import IterableEventOperator, IterableListOperator
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.runs import run
from airflow_provider_iterable.state import ObjectState, TableState, XComState
from airflow_provider_iterable.state.store import Store
from tests.operators.conftest import BULK, FIELDS, KEY, Make, World, email, person
from tests.operators.test_resync import Dead, Deaths

pytestmark = pytest.mark.slow

SUBSCRIBE, TRACK = "POST /api/lists/subscribe", "POST /api/events/trackBulk"
TIER: dict[str, Any] = {"fields": {"tier": "name", "age": "age"}}
REASON = "fields_left_out"
STORES = ["worker", "database", "object", "xcom"]


class Project(World):
    """A world whose project has the field ``age``, and creates none."""

    def __init__(self, world: World) -> None:
        super().__init__(world.sandbox, world.warehouse, world.project_type)
        self.known(age=1)

    def known(self, **fields: Any) -> None:
        """Have the project's profiles know these fields."""
        self.post("users/update", {"email": email(999), "dataFields": fields, "createNewFields": True})

    def post(self, path: str, body: dict[str, Any]) -> None:
        """Do at Iterable what somebody else does."""
        answer = requests.post(f"{self.sandbox.url}/api/{path}", json=body, headers={"Api-Key": KEY}, timeout=10)
        assert answer.status_code == 200, answer.text
        self.forget_calls()

    def again(self, **parameters: Any) -> Any:
        """Run once more, and count calls from here on."""
        self.forget_calls()
        return self.run(**parameters)

    def values(self, field: str) -> dict[int, Any]:
        """Return what the profiles of the model's people have in a field."""
        numbers = range(1, 20)
        return {number: self.profiles[email(number)].get(field) for number in numbers if email(number) in self.profiles}

    @property
    def note(self) -> Any:
        """What the state table's header says about fields."""
        with closing(sqlite3.connect(self.warehouse)) as connection:
            ((text,),) = connection.execute("SELECT notes FROM iterable_sync_header").fetchall()
        return json.loads(json.loads(text).get("left_out") or "null")


class Members(Project):
    """A world in which people are on lists."""

    def make(self, **parameters: Any) -> IterableModelOperator:
        """Make the operator."""
        defaults: dict[str, Any] = {
            "task_id": "sync_users",
            "sql": "SELECT * FROM users ORDER BY id",
            "sql_conn_id": "warehouse",
            "email_column": "email",
            "list_name": "VIP",
        }
        return IterableListOperator(**{**defaults, **parameters})


class Events(Project):
    """A world in which people, whom the project knows, do something."""

    def make(self, **parameters: Any) -> IterableModelOperator:
        """Make the operator."""
        defaults: dict[str, Any] = {
            "task_id": "sync_users",
            "sql": "SELECT * FROM users ORDER BY id",
            "sql_conn_id": "warehouse",
            "primary_key": "id",
            "email_column": "email",
            "event_name": "Seen",
            "state": TableState(),
        }
        if "event_name_column" in parameters:
            del defaults["event_name"]
        return IterableEventOperator(**{**defaults, **parameters})

    def known(self, event: str = "Seen", **fields: Any) -> None:
        """Have the project's events of a name know these fields."""
        self.create(999)
        self.post(
            "events/track",
            {"email": email(999), "eventName": event, "dataFields": fields, "createNewFields": True},
        )

    @property
    def happened(self) -> list[tuple[str, str, Any]]:
        """What the people of the model did, and with which tier."""
        return sorted(
            (str(found["email"]), str(found["eventName"]), found["dataFields"].get("tier"))
            for found in self.sandbox.events
            if found["email"] != email(999)
        )


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Give each store, and each way of comparing."""
    stores: dict[str, Store] = {
        "worker": TableState(compare="worker"),
        "database": TableState(compare="database"),
        "object": ObjectState(f"file://{tmp_path}/state"),
        "xcom": XComState(),
    }
    return stores[request.param]


@pytest.fixture
def project(make_world: Make) -> Project:
    """A project that creates no fields."""
    return Project(make_world(create_new_fields=False))


def people(world: World, *numbers: int, **changes: Any) -> None:
    """Let the model be these people, of whom each third has no name."""
    world.rows(*(person(number, **{"name": None if number % 3 == 0 else "gold", **changes}) for number in numbers))


def settled(report: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a report says about rows and their fields."""
    return report["accepted"], report["changed"], report["unchanged"], report["partial"], report["left_out"]


def fired(report: dict[str, Any]) -> tuple[Any, ...]:
    """Return the same of events, which go again as new ones."""
    return report["accepted"], report["added"], report["unchanged"], report["partial"], report["left_out"]


def test_rows_go_again_once_the_field_is_there(
    project: Project, store: Store, heard: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    """Those that carry it, and no others; until then it is looked for once a run, and told in each."""
    people(project, 1, 2, 3, 4)
    report = project.run(state=store, **TIER)
    assert settled(report) == (4, 0, 0, 3, {"tier": 3})
    assert report["reasons"] == {REASON: 3}
    assert project.values("tier") == dict.fromkeys(range(1, 5))
    assert project.values("age") == {number: number for number in range(1, 5)}
    said = heard()
    assert "field tier" in said
    assert "Fields tier: Iterable does not have them, and left them out." in said
    caplog.clear()
    report = project.again(state=store, **TIER)
    assert settled(report) == (0, 0, 4, 0, {"tier": 0})
    assert [record.levelname for record in caplog.records if "Fields tier: Iterable does" in record.message] == [
        "WARNING"
    ]
    assert project.calls == {FIELDS: 1}

    project.known(tier="x")
    people(project, 1, 2, 3, 4, 5, age=None)
    project.rows(*(person(n, name=None if n == 3 else "gold", age=7 if n == 4 else n) for n in range(1, 6)))
    writes = {found["email"]: found["writes"] for found in project.sandbox.users}
    report = project.again(state=store, **TIER)
    assert settled(report) == (4, 3, 1, 0, {}), "1 and 2 go again, 4 changed, 5 is new, 3 carries nothing"
    assert project.calls == {FIELDS: 1, BULK: 1}
    assert project.values("tier") == {1: "gold", 2: "gold", 3: None, 4: "gold", 5: "gold"}
    assert [found["writes"] - writes.get(found["email"], 0) for found in project.sandbox.users] == [0, 1, 1, 0, 1, 1]
    assert "2 unchanged rows go again: Iterable has fields by now" in heard()

    caplog.clear()
    report = project.again(state=store, **TIER)
    assert settled(report) == (0, 0, 5, 0, {})
    assert not project.sandbox.calls
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_members_go_again_once_the_field_is_there(make_world: Make, store: Store) -> None:
    """Of two rows with one identifier, the one that speaks decides."""
    if isinstance(store, TableState) and store.compare == "database":
        store = TableState()
    world = Members(make_world(create_new_fields=False))
    options: dict[str, Any] = {"state": store, "primary_key": "id", **TIER}
    rows = [person(1), person(2, name=None), person(3, email=email(1), name="gold"), person(4, email=email(2))]
    world.rows(*rows, person(5, name=None))
    report = world.run(**options)
    assert settled(report) == (3, 0, 0, 2, {"tier": 2})
    assert settled(world.again(**options)) == (0, 0, 3, 0, {"tier": 0})
    assert world.calls == {FIELDS: 1}
    world.known(tier="x")
    report = world.again(**options)
    assert settled(report) == (2, 2, 1, 0, {})
    assert world.calls == {FIELDS: 1, SUBSCRIBE: 1}
    assert world.values("tier") == {1: "gold", 2: "Name 4", 5: None}
    assert settled(world.again(**options)) == (0, 0, 3, 0, {})
    assert not world.calls


def test_events_go_again_once_an_answer_shows_the_field(make_world: Make, store: Store) -> None:
    """Iterable tells no fields of events, so that nothing is asked; an event with an ID is overwritten."""
    world = Events(make_world(create_new_fields=False))
    for number in range(1, 7):
        world.create(number)
    options: dict[str, Any] = {"state": store, "fields": {"tier": "name"}}
    people(world, 1, 2, 3)
    assert settled(world.run(**options)) == (3, 0, 0, 2, {"tier": 2})
    assert settled(world.again(**options)) == (0, 0, 3, 0, {"tier": 0})
    assert not world.sandbox.calls

    people(world, 1, 2, 3, 4)
    assert settled(world.again(**options)) == (1, 0, 3, 1, {"tier": 1})
    world.known(tier="x")
    assert settled(world.again(**options)) == (0, 0, 4, 0, {"tier": 0}), "nobody knows yet"
    people(world, *range(1, 7))
    report = world.again(**options)
    assert (report["added"], *settled(report)) == (2, 2, 0, 4, 0, {"tier": 0}), "the newer one tells"
    report = world.again(**options)
    assert fired(report) == (4, 4, 2, 0, {}), "the newer ones again, too"
    assert world.happened == [(email(n), "Seen", None if n % 3 == 0 else "gold") for n in range(1, 7)]
    assert settled(world.again(**options)) == (0, 0, 6, 0, {})
    assert not world.sandbox.calls


@pytest.mark.parametrize("names", ["bare", "named"])
@pytest.mark.parametrize("compare", ["worker", "database"])
def test_events_of_each_name_have_fields_of_their_own(make_world: Make, names: str, compare: Any) -> None:
    """A field that events of one name have may be missing in those of another, however the answer names it."""
    world = Events(make_world(create_new_fields=False, event_field_names=names))
    for number in range(1, 7):
        world.create(number)
    options: dict[str, Any] = {
        "event_name_column": "city",
        "fields": {"tier": "name"},
        "state": TableState(compare=compare),
    }
    rows = [person(number, name="gold", city="Seen" if number < 3 else "v1.Bought") for number in range(1, 5)]
    world.rows(*rows)
    assert world.run(**options)["left_out"] == {"Seen.tier": 2, "v1.Bought.tier": 2}
    world.known("v1.Bought", tier="x")
    world.rows(*rows, person(5, name="gold", city="v1.Bought"))
    report = world.again(**options)
    assert (report["partial"], report["left_out"]) == (0, {"Seen.tier": 0, "v1.Bought.tier": 0})
    report = world.again(**options)
    assert (report["added"], report["left_out"]) == (3, {"Seen.tier": 0})
    assert [tier for _, event, tier in world.happened if event == "v1.Bought"] == ["gold"] * 3
    assert [tier for _, event, tier in world.happened if event == "Seen"] == [None] * 2


def test_events_without_id_do_not_go_again(make_world: Make, heard: Callable[[], str]) -> None:
    """They would be there twice: it is told, and no more than that."""
    world = Events(make_world(create_new_fields=False))
    for number in range(1, 4):
        world.create(number)
    options: dict[str, Any] = {"derive_ids": False, "fields": {"tier": "name"}}
    world.people(1, 2)
    assert settled(world.run(**options)) == (2, 0, 0, 2, {"tier": 2})
    said = "Rows do not go again for them: events without ID would be tracked a second time."
    assert said in heard()
    world.known(tier="x")
    world.people(1, 2, 3)
    assert settled(world.again(**options)) == (1, 0, 2, 0, {})
    assert settled(world.again(**options)) == (0, 0, 3, 0, {})
    assert [tier for *_, tier in world.happened] == [None, None, "Name 3"]


def test_the_parameter_creates_the_fields_and_rows_go_again_at_once(project: Project, store: Store) -> None:
    """No field comes to be by itself where nothing else is sent; nobody is asked, for the answer is known."""
    people(project, 1, 2, 3)
    project.run(state=store, **TIER)
    report = project.again(state=store, create_new_fields=True, check_types=False, **TIER)
    assert settled(report) == (2, 2, 1, 0, {})
    assert project.calls == {BULK: 1}
    assert project.values("tier") == {1: "gold", 2: "gold", 3: None}
    report = project.again(state=store, **TIER)
    assert settled(report) == (0, 0, 3, 0, {})


@pytest.mark.parametrize("compare", ["worker", "database"])
def test_the_parameter_creates_the_fields_of_events(make_world: Make, compare: Any) -> None:
    """It is said in each event, so that all of them count as changed; those that carry the field go, once more."""
    world = Events(make_world(create_new_fields=False))
    for number in range(1, 4):
        world.create(number)
    people(world, 1, 2, 3)
    options: dict[str, Any] = {"fields": {"tier": "name"}, "state": TableState(compare=compare)}
    world.run(**options)
    report = world.again(**options, create_new_fields=True)
    assert (settled(report), report["added"]) == ((2, 1, 0, 0, {}), 2)
    assert [tier for *_, tier in world.happened] == ["gold", "gold", None]
    assert settled(world.again(**options, create_new_fields=True)) == (0, 0, 3, 0, {})
    assert not world.sandbox.calls


@pytest.mark.parametrize("how", ["fails", "dies"])
def test_a_run_that_is_cut_short_goes_on(
    project: Project, store: Store, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was accepted does not go once more; XCom forgets all that such a run did, and sends all of it again."""
    project.people(*range(1, 11))
    project.run(state=store, **TIER)
    project.known(tier="x")
    if how == "dies":
        deaths = Deaths(monkeypatch)
        deaths.after = 2
        with pytest.raises(Dead):
            project.run(state=store, batch_size=2, **TIER)
        deaths.after = None
    else:
        project.sandbox.faults({"kind": "5xx_html", "path": "/api/users/bulkUpdate", "after": 2, "times": -1})
        with pytest.raises(AirflowException):
            project.run(state=store, batch_size=2, **TIER)
        project.sandbox.service.faults.clear()
    writes = {found["email"]: found["writes"] for found in project.sandbox.users}
    report = project.again(state=store, batch_size=2, **TIER)
    assert project.values("tier") == {number: f"Name {number}" for number in range(1, 11)}
    gone = [found["email"] for found in project.sandbox.users if found["writes"] > writes[found["email"]]]
    if isinstance(store, XComState):
        assert (settled(report), len(gone)) == ((10, 10, 0, 0, {}), 10)
    else:
        assert len(gone) == report["accepted"]
        assert len(gone) < 10
    assert settled(project.again(state=store, **TIER)) == (0, 0, 10, 0, {})


@pytest.mark.parametrize("fault", ["drop_before", "drop_after"])
@pytest.mark.parametrize("kind", [Project, Events])
def test_answers_that_are_lost_leave_no_row_without_the_field(
    make_world: Make, store: Store, fault: str, kind: type[Project]
) -> None:
    """Whether the request arrived or not, the next run sends what was not accepted, and an event is there once."""
    world = kind(make_world(create_new_fields=False))
    for number in range(1, 7):
        world.create(number)
    options: dict[str, Any] = {"state": store, "fields": {"tier": "name"}, "batch_size": 2}
    world.people(*range(1, 7))
    world.run(**options)
    world.known(tier="x")
    if kind is Events:
        world.create(7)
        world.people(*range(1, 8))
        world.run(**options)
    world.sandbox.faults({"kind": fault, "path": TRACK[5:] if kind is Events else BULK[5:], "after": 1, "times": -1})
    world.failure(AirflowException, **options)
    world.sandbox.service.faults.clear()
    report = world.again(**options)
    assert report["left_out"] == {}
    if isinstance(world, Events):
        assert world.happened == [(email(number), "Seen", f"Name {number}") for number in range(1, 8)]
    else:
        assert world.values("tier") == {number: f"Name {number}" for number in range(1, 7)}
    world.again(**options)
    assert not world.sandbox.calls


def test_a_rejected_row_does_not_keep_the_others_going(project: Project, store: Store) -> None:
    """The field came to be with another type: the rows that do not fit go in each run, and only they."""
    project.rows(*(person(number, name="5" if number < 9 else "gold") for number in range(1, 11)))
    project.run(state=store, **TIER)
    project.known(tier=5)
    report = project.again(state=store, max_rejected=0.5, **TIER)
    assert (report["accepted"], report["rejected"], report["reasons"]) == (8, 2, {"type_mismatch": 2})
    report = project.again(state=store, max_rejected=0.5, **TIER)
    assert (report["accepted"], report["rejected"], report["unchanged"]) == (0, 2, 8)


def test_a_dry_run_does_not_look_and_an_approved_plan_is_kept_to(
    project: Project, store: Store, heard: Callable[[], str]
) -> None:
    """A plan has the rows of a field that is known to be there; a run that applies one looks for the next."""
    people(project, 1, 2, 3)
    project.run(state=store, **TIER)
    project.known(tier="x")
    plan = project.again(state=store, dry_run=True, **TIER)
    assert settled(plan) == (0, 0, 3, 0, {"tier": 0})
    assert not project.sandbox.calls
    assert "A dry run does not look" in heard()
    report = project.again(state=store, approved_plan=plan["plan_hash"], **TIER)
    assert settled(report) == (0, 0, 3, 0, {"tier": 0})
    assert project.calls == {FIELDS: 1}
    assert "The rows go again with the next run." in heard()
    plan = project.again(state=store, dry_run=True, **TIER)
    assert (plan["changed"], plan["unchanged"]) == (2, 1)
    assert project.calls == {FIELDS: 1}, "it asks for types only to tell what would be refused"
    report = project.again(state=store, approved_plan=plan["plan_hash"], **TIER)
    assert settled(report) == (2, 2, 1, 0, {})
    assert project.values("tier") == {1: "gold", 2: "gold", 3: None}


@pytest.mark.parametrize("resync", ["full", "baseline"])
def test_a_resync_has_done_with_it(project: Project, store: Store, resync: str) -> None:
    """A full one sends every row, with the field where it is there; after a baseline, rows count as delivered."""
    people(project, 1, 2, 3)
    project.run(state=store, **TIER)
    project.known(tier="x")
    report = project.again(state=store, resync=resync, **TIER)
    assert report["left_out"] == {}
    assert settled(project.again(state=store, **TIER)) == (0, 0, 3, 0, {})
    assert not project.sandbox.calls
    assert project.values("tier") == ({1: "gold", 2: "gold", 3: None} if resync == "full" else dict.fromkeys((1, 2, 3)))


def test_a_full_resync_finds_what_is_missing_still(project: Project, store: Store) -> None:
    """Rows that it sent without the field go again when that is there."""
    people(project, 1, 2, 3)
    project.run(state=store, **TIER)
    assert project.again(state=store, resync="full", **TIER)["left_out"] == {"tier": 2}
    project.known(tier="x")
    assert settled(project.again(state=store, **TIER)) == (2, 2, 1, 0, {})


def test_a_field_that_is_mapped_no_more_is_no_concern(project: Project) -> None:
    """Nobody looks for it, and nobody is warned."""
    people(project, 1, 2)
    project.run(**TIER)
    assert project.note == {"tier": "awaited"}
    assert project.again(fields={"age": "age"})["left_out"] == {}
    report = project.again(fields={"age": "age"})
    assert (report["left_out"], report["unchanged"], project.calls) == ({}, 2, {})
    assert project.note is None


@pytest.mark.parametrize("compare", ["worker", "database"])
def test_fields_inside_others_are_told_as_they_are_mapped(project: Project, compare: Any) -> None:
    """Iterable may name the object, or what is in it; of an object that is mapped whole, a part may be missing."""
    project.known(pets={"name": "Rex"})
    options: dict[str, Any] = {
        "state": TableState(compare=compare),
        "fields": {"address.city": "city", "address.street": "uid", "pets": Json("name"), "source": Constant("crm")},
    }
    pets = [{"name": "Tom", "kind": None}, {"name": "Ben", "kind": "dog"}, {"name": "Ann", "a@x.io": 1}]
    project.rows(*(person(n, name=json.dumps(pets[n - 1]), city="London" if n == 1 else None) for n in (1, 2, 3)))
    report = project.run(**options)
    assert report["left_out"] == {"address.city": 1, "address.street": 3, "pets": 1, "pets.kind": 1, "source": 3}
    project.known(address={"city": "x"}, pets={"kind": "x"})
    report = project.again(**options)
    assert report["changed"] == 3, "pets is there, of which a part is told as the whole, for its name looks like data"
    assert project.values("address") == {1: {"city": "London"}, 2: {}, 3: {}}
    assert project.profiles[email(2)]["pets"] == {"name": "Ben", "kind": "dog"}
    report = project.again(**options)
    assert report["left_out"] == {"address.street": 0, "pets": 0, "source": 0}
    assert (report["changed"], project.calls) == (0, {FIELDS: 1})
    project.known(source="x")
    report = project.again(**options)
    assert report["changed"] == 3, "each row carries a constant"
    assert project.values("source") == dict.fromkeys((1, 2, 3), "crm")


@pytest.mark.parametrize("compare", ["worker", "database"])
def test_duplicate_keys_do_not_disturb_the_count(project: Project, compare: Any) -> None:
    """Rows that share a key are rejected, carry they a field or not."""
    options: dict[str, Any] = {"state": TableState(compare=compare), "max_rejected": 1.0, **TIER}
    people(project, *range(1, 6))
    project.run(**options)
    project.known(tier="x")
    project.rows(*(person(n, name=None if n == 3 else "gold") for n in (1, 1, 2, 3, 3, 4, 5)), person(5, name="new"))
    report = project.again(**options)
    assert (report["changed"], report["unchanged"], report["invalid"], report["accepted"]) == (2, 0, 6, 2)
    assert (report["read"], project.values("tier")) == (8, {1: None, 2: "gold", 3: None, 4: "gold", 5: None})


def test_a_look_that_fails_is_told_and_tried_again(project: Project, heard: Callable[[], str]) -> None:
    """Everything else goes on."""
    people(project, 1, 2)
    project.run(**TIER)
    project.known(tier="x")
    project.sandbox.faults({"kind": "5xx_html", "path": "/api/users/getFields", "times": -1})
    people(project, 1, 2, 4)
    assert settled(project.again(**TIER)) == (1, 0, 2, 0, {"tier": 0})
    assert "It is not known whether Iterable has the fields" in heard()
    project.sandbox.service.faults.clear()
    assert settled(project.again(**TIER)) == (3, 3, 0, 0, {}), "all that carry it, whenever they were sent"


def test_a_look_that_is_refused_ends_the_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing after it would be taken; the rows go again when the key is mended."""
    people(project, 1, 2)
    project.run(**TIER)
    project.known(tier="x")

    def refused(client: Any) -> dict[str, str]:
        raise Halted("Iterable refused the API key.")

    with monkeypatch.context() as patched:
        patched.setattr(run, "get_fields", refused)
        project.failure(AirflowFailException, **TIER)
    assert not project.sandbox.calls
    assert settled(project.again(**TIER)) == (2, 2, 0, 0, {})


def test_a_run_that_halts_remembers_what_is_missing(project: Project, store: Store) -> None:
    """The rows that were accepted before are remembered, and so is the field; XCom remembers neither."""
    project.people(1, 2, 3, 4)
    project.sandbox.faults({"kind": "5xx_html", "path": "/api/users/bulkUpdate", "after": 1, "times": -1})
    _, report = project.failure(AirflowException, state=store, batch_size=1, **TIER)
    project.sandbox.service.faults.clear()
    assert report["left_out"] == {"tier": report["accepted"]}
    project.known(tier="x")
    report = project.again(state=store, **TIER)
    assert (report["accepted"], report["left_out"]) == (4, {})
    assert project.values("tier") == {number: f"Name {number}" for number in range(1, 5)}


def test_a_guard_that_trips_leaves_it_to_the_next_run(project: Project, store: Store) -> None:
    """Nothing is voided, and nothing is forgotten."""
    project.people(*range(1, 31))
    project.run(state=store, **TIER)
    project.known(tier="x")
    project.people(1)
    project.failure(AirflowFailException, state=store, **TIER)
    project.people(*range(1, 31))
    assert settled(project.again(state=store, **TIER)) == (30, 30, 0, 0, {})


def test_nobody_reads_what_is_not_mapped(make_world: Make) -> None:
    """Names of the answer that no row has values of are no fields of the sync."""
    world = Project(make_world(create_new_fields=False))
    world.rows(person(1, name=None, city="x"))
    report = world.run(fields={"tier": "name", "age": "age"})
    assert settled(report) == (1, 0, 0, 0, {})


@pytest.mark.parametrize("compare", ["worker", "database"])
def test_rows_of_one_identity_keep_their_order(project: Project, compare: Any) -> None:
    """One that goes again does not get the last word from an unchanged one with a greater key."""
    rows: Sequence[Any] = [person(1, name="gold"), person(2, email=email(1), name=None, age=50)]
    options: dict[str, Any] = {"state": TableState(compare=compare), "nulls": "skip", **TIER}
    project.rows(*rows)
    project.run(**options)
    project.known(tier="x")
    project.again(**options)
    assert project.profiles[email(1)] == {"tier": "gold", "age": 50}


def test_the_standing_of_a_field_is_noted_as_it_changes(project: Project) -> None:
    """From awaited to sent again; a field that is there is no news any more."""
    people(project, 1, 2)
    project.run(**TIER)
    assert project.note == {"tier": Standing.AWAITED}
    project.known(tier="x")
    project.again(**TIER)
    assert project.note == {"tier": Standing.RESENT}
