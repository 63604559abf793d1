from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from jinja2 import DictLoader, Environment

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.operators import IterableListOperator
from airflow_provider_iterable.runs import lists as module
from airflow_provider_iterable.sandbox.options import ProjectType
from airflow_provider_iterable.state import TableState, XComState
from tests.operators.conftest import CHANNELS, FIELDS, MATCH, Make, World, email, identifier, person, uid

PROJECTS: tuple[ProjectType, ...] = ("email", "user_id", "hybrid")
SUBSCRIBE = "POST /api/lists/subscribe"
UNSUBSCRIBE = "POST /api/lists/unsubscribe"
LISTS = "GET /api/lists"
CREATE = "POST /api/lists"
LOOK_UP = {
    "email": "GET /api/users/getByEmail",
    "user_id": "GET /api/users/byUserId",
    "hybrid": "GET /api/users/byUserId",
}
FIRST = {"name": "name", "age": "age"}


class ListWorld(World):
    """A world in which people are on lists."""

    def make(self, **parameters: Any) -> IterableListOperator:
        """Make the operator, matched by what the project uses."""
        defaults: dict[str, Any] = {
            "task_id": "sync_list",
            "sql": "SELECT * FROM users ORDER BY id",
            "sql_conn_id": "warehouse",
            "state": TableState(),
        }
        if "email_column" not in parameters and "user_id_column" not in parameters:
            column = MATCH[self.project_type]
            defaults["email_column" if column == "email" else "user_id_column"] = column
        return IterableListOperator(**{**defaults, **parameters})

    @property
    def members(self) -> dict[str, list[str]]:
        """Who is on each list, by what the project knows people by."""
        name = "email" if MATCH[self.project_type] == "email" else "userId"
        return {found["name"]: sorted(str(one[name]) for one in found["members"]) for found in self.sandbox.lists}

    def a_list(self, name: str = "VIP", kind: Any = "Standard") -> int:
        """Make a list at Iterable."""
        return self.sandbox.project.lists.create(name, None, kind, 0.0).id

    @property
    def note(self) -> str:
        """The notes in the state table's header."""
        with closing(sqlite3.connect(self.warehouse)) as connection:
            return str(connection.execute("SELECT notes FROM iterable_sync_header").fetchone()[0])


@pytest.fixture
def make_lists(make_world: Make) -> Callable[..., ListWorld]:
    """Make worlds with lists."""

    def make(*arguments: Any, **options: Any) -> ListWorld:
        world = make_world(*arguments, **options)
        return ListWorld(world.sandbox, world.warehouse, world.project_type)

    return make


@pytest.fixture
def world(make_lists: Callable[..., ListWorld]) -> ListWorld:
    """An email-based project without users and lists."""
    return make_lists()


Lists = Callable[..., ListWorld]


@pytest.mark.parametrize("project_type", PROJECTS)
@pytest.mark.parametrize("state", [TableState(), XComState()], ids=["table", "xcom"])
def test_the_life_of_a_member(make_lists: Lists, project_type: ProjectType, state: Any) -> None:
    """Added, changed, removed and back again: each run sends the difference, and an unchanged one nothing."""
    world = make_lists(project_type)
    who = [identifier(project_type, number) for number in range(4)]
    options: dict[str, Any] = {"state": state, "fields": FIRST, "list_name": "VIP"}

    world.people(1, 2)
    report = world.run(**options)
    assert world.members == {"VIP": [who[1], who[2]]}
    assert world.profiles[who[1]]["name"] == "Name 1"
    assert (report["status"], report["added"], report["accepted"], report["read"]) == ("succeeded", 2, 2, 2)
    assert report["requests"] == {name: {"200": 1} for name in (CHANNELS, LISTS, CREATE, FIELDS, SUBSCRIBE)}
    assert report["destination"]["list"] == "VIP"

    world.forget_calls()
    report = world.run(**options)
    assert not world.sandbox.calls
    assert (report["unchanged"], report["accepted"], report["requests"]) == (2, 0, {})

    world.rows(person(1), person(2, name="New"), person(3))
    report = world.run(**options)
    assert world.members == {"VIP": who[1:]}
    assert world.profiles[who[2]]["name"] == "New"
    assert (report["added"], report["changed"], report["unchanged"], report["accepted"]) == (1, 1, 1, 2)
    assert world.calls == {FIELDS: 1, SUBSCRIBE: 1}

    world.people(1, 3)
    world.forget_calls()
    report = world.run(**options)
    assert (report["removed"], report["unchanged"], report["accepted"]) == (1, 2, 1)
    assert world.members == {"VIP": [who[1], who[3]]}
    assert who[2] in world.profiles
    assert world.calls[UNSUBSCRIBE] == 1
    (found,) = world.sandbox.lists
    assert found["channelUnsubscribe"] == {"true": 0, "false": 1, "absent": 0}

    world.people(1, 2, 3)
    report = world.run(**options)
    assert (report["added"], report["unchanged"]) == (1, 2)
    assert world.members == {"VIP": who[1:]}
    assert found["id"] == world.sandbox.lists[0]["id"]


def test_nothing_rides_along_unasked(world: ListWorld) -> None:
    """Without ``fields``, members are identifiers; columns that change are no news."""
    world.people(1)
    world.run()
    assert set(world.profiles[email(1)]) <= {"emailListIds", "subscribedMessageTypeIds", "unsubscribedChannelIds"} | {
        "unsubscribedMessageTypeIds"
    }
    world.people(1, name="New")
    world.forget_calls()
    assert world.run()["unchanged"] == 1
    assert not world.sandbox.calls


@pytest.mark.parametrize(
    ("project_type", "by"),
    [
        ("email", "email"),
        ("email", "user_id"),
        ("hybrid", "email"),
        ("hybrid", "user_id"),
        ("user_id", "user_id"),
    ],
)
def test_both_identifiers(make_lists: Lists, project_type: ProjectType, by: str) -> None:
    """One matches, the other is set on the profile; who is matched by user ID leaves by user ID."""
    world = make_lists(project_type)
    world.people(1, 2)
    world.run(email_column="email", user_id_column="uid", match_by=by)
    found = {(profile.email, profile.user_id) for profile in world.sandbox.project.profiles}
    if (project_type, by) == ("email", "user_id"):  # where addresses change by a call of their own
        found = {(email(number), name) for number in (1, 2) for _, name in found if name == uid(number)}
    assert found == {(email(1), uid(1)), (email(2), uid(2))}
    assert world.remembered == [f'["{(email if by == "email" else uid)(number)}"]' for number in (1, 2)]
    world.people(1)
    world.run(email_column="email", user_id_column="uid", match_by=by)
    assert [len(members) for members in world.members.values()] == [1]


def test_who_gets_another_address_leaves_as_one_and_enters_as_another(world: ListWorld) -> None:
    """Membership belongs to the identifier, not to the row; removals go first."""
    world.people(1)
    world.run(primary_key="id", list_name="VIP")
    world.people(1, email="New@Example.com ")
    world.forget_calls()
    report = world.run(primary_key="id", list_name="VIP")
    assert (report["added"], report["changed"], report["removed"], report["accepted"]) == (1, 0, 1, 2)
    assert world.members == {"VIP": ["new@example.com"]}
    assert [call.template for call in world.sandbox.calls] == ["/api/lists/unsubscribe", "/api/lists/subscribe"]


@pytest.mark.parametrize("key", ["id", None])
def test_rows_with_one_identifier_count_once(world: ListWorld, key: str | None) -> None:
    """The greatest key's fields ride along, whatever the order of rows; without a key, the same row every time."""
    rows = [person(1), person(2, email=" PERSON1@example.com", name="Zoe"), person(3)]
    options: dict[str, Any] = {"fields": FIRST, "list_name": "VIP", **({} if key is None else {"primary_key": key})}
    world.rows(*rows)
    report = world.run(**options)
    assert (report["read"], report["accepted"], report["collapsed"]) == (2, 2, 1)
    assert world.members == {"VIP": [email(1), email(3)]}
    assert world.profiles[email(1)]["name"] == "Zoe"
    world.forget_calls()
    report = world.run(sql="SELECT * FROM users ORDER BY id DESC", **options)
    assert (report["unchanged"], report["collapsed"], world.sandbox.calls) == (2, 1, [])
    world.rows(rows[0], rows[2])
    report = world.run(**options)
    assert (report["changed"], report["removed"]) == (1, 0)
    assert world.profiles[email(1)]["name"] == "Name 1"


def test_bad_rows_are_named_by_their_key(world: ListWorld, heard: Callable[[], str]) -> None:
    """Good rows arrive; a bad one is named by primary key, and members by no more than two letters."""
    world.rows(person(1), person(42, email="nobody"), person(43, email=None), person(44, age=b"x"))
    report = world.run(primary_key="id", fields=FIRST, max_rejected=1.0)
    assert (report["accepted"], report["rejected"], report["invalid"]) == (1, 3, 3)
    assert report["reasons"] == {"invalid_email": 1, "invalid_value": 1, "no_identifier": 1}
    said = heard()
    for line in (
        "primary key [42]",
        "primary key [43]",
        'key ["pe***@ex***"]: field age: a value of type bytes; primary key [44]',
    ):
        assert line in said
    assert "person44" not in said


def test_a_member_whose_row_turned_bad_stays(world: ListWorld) -> None:
    """A value that cannot be sent is no reason to leave."""
    world.people(1, 2)
    world.run(fields=FIRST, list_name="VIP")
    world.rows(person(1), person(2, age=b"x"))
    report = world.run(fields=FIRST, list_name="VIP", max_rejected=1.0)
    assert (report["removed"], report["rejected"]) == (0, 1)
    assert world.members == {"VIP": [email(1), email(2)]}


@pytest.mark.parametrize("project_type", PROJECTS)
@pytest.mark.parametrize("skipped", ["success", "listed", "uncounted", "not_found"])
def test_unknown_users_are_skipped(make_lists: Lists, project_type: ProjectType, skipped: str) -> None:
    """Nobody is created; who is unknown is not remembered, and enters once known; however Iterable tells them."""
    world = make_lists(project_type, skipped=skipped)
    who = [identifier(project_type, number) for number in range(3)]
    options: dict[str, Any] = {"update_existing_users_only": True, "list_name": "VIP"}
    world.create(1)
    world.people(1, 2)
    report = world.run(**options)
    assert world.members == {"VIP": [who[1]]}
    assert set(world.profiles) == {who[1]}
    assert (report["accepted"], report["skipped"], report["reasons"]) == (1, 1, {"unknown_user": 1})
    assert world.calls[LOOK_UP[project_type]] == 2
    assert world.remembered == [f'["{who[1]}"]']
    world.create(2)
    report = world.run(**options)
    assert (report["unchanged"], report["accepted"]) == (1, 1)
    assert world.members == {"VIP": [who[1], who[2]]}


def test_unknown_user_ids_in_an_email_project_need_no_look_up(world: ListWorld) -> None:
    """Iterable creates nobody by user ID there unless asked to."""
    world.create(1)
    world.people(1, 2)
    report = world.run(update_existing_users_only=True, user_id_column="uid", list_name="VIP")
    assert (report["accepted"], report["skipped"]) == (1, 1)
    assert world.members == {"VIP": [email(1)]}
    assert world.calls == {LISTS: 1, CREATE: 1, SUBSCRIBE: 1}


@pytest.mark.parametrize("project_type", PROJECTS)
def test_who_is_gone_has_left(make_lists: Lists, project_type: ProjectType) -> None:
    """Unsubscribing somebody whom Iterable does not know, or was told to forget, counts as done."""
    world = make_lists(project_type)
    world.people(1, 2, 3)
    world.run(list_name="VIP")
    gone, forgotten = [
        p for p in world.sandbox.project.profiles if identifier(project_type, 3) not in (p.email, p.user_id)
    ]
    world.sandbox.project.delete([gone])
    world.sandbox.project.forget(
        forgotten.email if project_type == "email" else None, None if project_type == "email" else forgotten.user_id
    )
    world.people(3)
    report = world.run(list_name="VIP")
    assert (report["removed"], report["accepted"], report["reasons"]) == (2, 2, {"already_gone": 2})
    assert len(world.remembered) == 1


def test_forgotten_users_are_skipped(world: ListWorld) -> None:
    """They are not subscribed, not remembered, and no reason to fail."""
    world.sandbox.project.forget(email(2), None)
    world.people(1, 2)
    report = world.run(max_rejected=0)
    assert (report["accepted"], report["skipped"], report["reasons"]) == (1, 1, {"forgotten_user": 1})
    assert world.remembered == [f'["{email(1)}"]']


def test_rows_that_iterable_rejects_go_again(make_lists: Lists) -> None:
    """Failures in a 200 belong to their rows alone."""
    world = make_lists(invalid_data={email(2)})
    world.people(1, 2, 3)
    for run in range(2):
        report = world.run(max_rejected=1.0)
        assert (report["accepted"], report["reasons"]) == (2 - 2 * run, {"invalid_data": 1})
    assert len(world.remembered) == 2


def test_a_value_of_the_wrong_type_costs_its_row(world: ListWorld) -> None:
    """It is compared with Iterable's types first; with ``salvage`` only the field is left out."""
    world.people(1)
    world.run(fields=FIRST, list_name="VIP")
    world.rows(person(1), person(2, age="old"), person(3))
    report = world.run(fields=FIRST, list_name="VIP", max_rejected=1.0)
    assert (report["accepted"], report["reasons"]) == (1, {"type_mismatch": 1})
    report = world.run(fields=FIRST, list_name="VIP", salvage=True)
    assert (report["accepted"], report["partial"]) == (1, 1)
    assert world.members == {"VIP": [email(1), email(2), email(3)]}


# --- which list


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"list_name": "VIP customers"}, "VIP customers"),
        ({"sql": "models/gold members.sql"}, "gold members"),
        ({"sql": None, "table": "users"}, "users"),
        ({"sql": None, "table": "main.users"}, "users"),
        ({}, "sync_list"),
    ],
)
def test_the_name_of_a_list(world: ListWorld, options: dict[str, Any], name: str) -> None:
    """The one given, else that of the model's file, its table, or the task."""
    world.people(1)
    operator = world.make(**options)
    if operator.sql and operator.sql.endswith(".sql"):
        files = DictLoader({operator.sql: "SELECT * FROM users"})
        operator.get_template_env = lambda dag=None: Environment(loader=files)  # type: ignore[method-assign]
        operator.resolve_template_files()
        assert operator.sql == "SELECT * FROM users"
    world.make = lambda **parameters: operator  # type: ignore[method-assign]
    report = world.run()
    assert (world.members, report["destination"]["list"]) == ({name: [email(1)]}, name)


def test_a_list_with_a_description(world: ListWorld) -> None:
    """It is given to a list that is created."""
    world.people(1)
    world.run(list_description="Made by a test")
    assert world.sandbox.lists[0]["description"] == "Made by a test"


def test_a_list_by_id(world: ListWorld) -> None:
    """No list is looked for or created; the destination names the ID."""
    number = world.a_list()
    world.people(1)
    report = world.run(list_id=number)
    assert (world.members, report["destination"]["list"]) == ({"VIP": [email(1)]}, number)
    assert world.calls == {SUBSCRIBE: 1}
    message, _ = world.failure(AirflowFailException, list_id=number + 1)
    assert f"list: remembered {number}, now {number + 1}" in message


def test_a_list_that_exists_is_found_by_its_name(world: ListWorld) -> None:
    """Lists of other types do not matter; the ID is remembered, so that the list may be renamed."""
    world.a_list(kind="Dynamic")
    number = world.a_list()
    world.people(1)
    world.run(list_name="VIP")
    assert json.loads(world.note)["list_id"] == str(number)
    found = world.sandbox.project.lists.get(number)
    assert found is not None
    found.name = "Renamed"
    world.people(1, 2)
    world.forget_calls()
    world.run(list_name="VIP")
    assert world.members["Renamed"] == [email(1), email(2)]
    assert world.calls == {SUBSCRIBE: 1}


@pytest.mark.parametrize("state", [TableState(), XComState()], ids=["table", "xcom"])
def test_another_name_with_a_full_resync_is_another_list(world: ListWorld, state: Any) -> None:
    """What was noted about the former list does not count; that one keeps its members."""
    world.people(1, 2)
    world.run(list_name="VIP", state=state)
    message, _ = world.failure(AirflowFailException, list_name="other", state=state)
    assert 'list: remembered "VIP", now "other"' in message
    world.run(list_name="other", state=state, resync="full")
    world.people(1)
    world.run(list_name="other", state=state)
    assert world.members == {"VIP": [email(1), email(2)], "other": [email(1)]}


def test_a_list_of_another_type_is_refused(world: ListWorld) -> None:
    """It takes no members, so a name that only such a list has is a mistake."""
    number = world.a_list(kind="Dynamic")
    world.people(1)
    message, _ = world.failure(AirflowFailException, list_name="VIP")
    assert f"no static list, so it takes no members: {number} (Dynamic)" in message
    assert world.calls == {LISTS: 1}


def test_twins_are_told_apart_by_a_person(world: ListWorld) -> None:
    """Of two lists with one name, none is chosen; both IDs are listed."""
    one, other = world.a_list(), world.a_list()
    world.people(1)
    message, _ = world.failure(AirflowFailException, list_name="VIP")
    assert f"Several lists have the name 'VIP': {one}, {other}" in message
    assert world.members == {"VIP": []}
    assert world.run(list_id=other, sync_id="another")["accepted"] == 1


def test_nothing_to_send_creates_nothing(world: ListWorld) -> None:
    """An empty model, and a dry run, call nobody and note nothing."""
    world.rows()
    world.run(allow_empty=True)
    world.people(1)
    assert world.run(dry_run=True)["status"] == "planned"
    assert not world.sandbox.calls
    assert world.sandbox.lists == []


@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "5xx_html", "malformed"])
@pytest.mark.parametrize("state", [TableState(), XComState()], ids=["table", "xcom"])
@pytest.mark.parametrize("late", [0, 30])
def test_a_lost_answer_makes_no_twin(make_lists: Lists, fault: str, state: Any, late: float) -> None:
    """A list whose creation was not answered is looked for before it is created again, also if it shows late."""
    now = [0.0]
    world = make_lists(clock=lambda: now[0], lists_visible_after=late)
    world.sandbox.faults({"kind": fault, "path": "/api/lists", "after": 1})
    world.people(1)
    if fault in ("drop_before", "5xx_html") or late:
        message, _ = world.failure(AirflowException, list_name="VIP", state=state)
        assert "The next try looks for it once more" in message
        now[0] += 60
    world.run(list_name="VIP", state=state)
    assert world.sandbox.project.lists.created == {"VIP": 1}
    assert world.members == {"VIP": [email(1)]}


def test_looks_for_a_lost_list_are_apart(make_lists: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that shows after some seconds is found by the same run."""
    now = [0.0]

    def pause(client: Client, seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(Client, "pause", pause)
    world = make_lists(clock=lambda: now[0], lists_visible_after=6)
    world.sandbox.faults({"kind": "drop_after", "path": "/api/lists", "after": 1})
    world.people(1)
    world.run(list_name="VIP")
    assert world.members == {"VIP": [email(1)]}
    assert world.calls == {LISTS: 4, CREATE: 1, SUBSCRIBE: 1}


def test_a_limited_creation_is_tried_again(world: ListWorld) -> None:
    """A 429 created nothing; if it stays, a retry may help."""
    world.people(1)
    world.sandbox.faults({"kind": "429", "path": "/api/lists", "after": 1, "times": 2, "seconds": 1})
    world.run(list_name="VIP")
    assert world.calls == {LISTS: 1, CREATE: 3, SUBSCRIBE: 1}
    world.sandbox.faults({"kind": "429", "path": "/api/lists", "after": 1, "times": -1, "seconds": 1})
    message, _ = world.failure(AirflowException, list_name="other", sync_id="other")
    assert "did not create the list 'other': 429" in message


def test_a_refused_creation_says_so(world: ListWorld) -> None:
    """A retry could not help."""
    world.people(1)
    world.sandbox.set(read_only_keys=["0123456789abcdef0123456789abcdef"])
    message, _ = world.failure(AirflowFailException, list_name="VIP")
    assert "Iterable refused the API key (HTTP 401 BadApiKey)" in message
    assert f"({CREATE}). No row was sent." in message
    assert world.calls == {LISTS: 1, CREATE: 1}


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("path", ["/api/lists", "/api/users/getFields"])
def test_the_first_refusal_of_the_key_ends_the_run(world: ListWorld, path: str, status: int) -> None:
    """Whether it is met by a look for the list, or by a look at the types: no member is sent."""
    world.people(1)
    world.sandbox.faults({"kind": "5xx_html", "status": status, "path": path, "times": 1})
    message, report = world.failure(AirflowFailException, list_name="VIP", fields={"age": "age"})
    assert f"GET {path} was refused, and not in Iterable's way (HTTP {status})" in message
    assert "a web page" in message
    assert "No row was sent." in message
    assert SUBSCRIBE not in world.calls
    assert report["status"] == "failed"


@pytest.mark.parametrize("fault", ["5xx_html", "429", "drop_before", "malformed"])
def test_looking_for_a_list_is_tried_again(world: ListWorld, fault: str) -> None:
    """A few answers that are none cost nothing; if it stays so, a retry may help."""
    world.people(1)
    world.sandbox.faults({"kind": fault, "path": "/api/lists", "times": 3})
    world.run(list_name="VIP")
    assert world.members == {"VIP": [email(1)]}
    world.sandbox.faults({"kind": fault, "path": "/api/lists", "times": -1})
    message, _ = world.failure(AirflowException, list_name="other", sync_id="other")
    assert "did not return the project's lists" in message


def test_a_killed_first_run_finds_its_list(world: ListWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the creation and the note, only the name tells."""

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    world.people(1)
    with monkeypatch.context() as patch:
        patch.setattr(module.ListRun, "_remember", killed)
        with pytest.raises(KeyboardInterrupt):
            world.run(list_name="VIP")
    world.run(list_name="VIP")
    assert world.sandbox.project.lists.created == {"VIP": 1}
    assert world.members == {"VIP": [email(1)]}


class Ticking:
    """A clock that goes on by a second at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        self.now += 1
        return self.now


def test_a_fresh_list_is_waited_for(make_lists: Lists) -> None:
    """Iterable may not know a list a moment after it was made."""
    world = make_lists(clock=Ticking(), list_ready_after=12)
    world.people(1)
    report = world.run(list_name="VIP")
    assert world.members == {"VIP": [email(1)]}
    assert set(report["requests"][SUBSCRIBE]) == {"200", "400"}


def test_a_fresh_list_is_not_waited_for_for_ever(make_lists: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tries are bounded, a retry goes on, and in the end the list counts as gone."""
    now = [1000.0]
    monkeypatch.setattr(module, "clock", lambda: now[0])
    world = make_lists(clock=lambda: now[0], list_ready_after=10_000)
    world.people(1)
    for _ in range(2):
        message, _ = world.failure(AirflowException, list_name="VIP")
        assert "1 rows were deferred (no_answer 1)" in message
        assert world.calls[SUBSCRIBE] <= 10
        now[0] += 200
    message, _ = world.failure(AirflowFailException, list_name="VIP")
    assert "Iterable takes no members for list 3001" in message
    assert world.sandbox.project.lists.created == {"VIP": 1}


@pytest.mark.parametrize("by", ["name", "id"])
@pytest.mark.parametrize("leaving", [True, False])
def test_a_list_that_vanished_halts_the_run(world: ListWorld, by: str, leaving: bool) -> None:
    """Whether members come or go; the message names the list and the choices, and another sync starts afresh."""
    chosen: dict[str, Any] = {"list_name": "VIP"} if by == "name" else {"list_id": world.a_list()}
    world.people(1, 2)
    world.run(**chosen)
    (found,) = world.sandbox.project.lists
    world.sandbox.project.lists.delete(found, world.sandbox.project.profiles)
    world.people(*((1,) if leaving else (1, 2, 3)))
    message, report = world.failure(AirflowFailException, **chosen)
    assert f"Iterable takes no members for list {found.id} (HTTP 400): it was deleted" in message
    assert "another sync_id" in message
    assert report["status"] == "halted"
    assert len(world.remembered) == 2
    if by == "name":
        world.run(**chosen, sync_id="another")
        assert world.members == {"VIP": [email(1)] if leaving else [email(1), email(2), email(3)]}


def test_a_list_that_takes_no_members_halts_the_run(make_lists: Lists) -> None:
    """By ID, the first request tells."""
    world = make_lists(static_lists_only=True)
    world.people(*range(1, 6))
    message, _ = world.failure(AirflowFailException, list_id=world.a_list(kind="Dynamic"))
    assert "or is no static list" in message
    assert world.calls == {SUBSCRIBE: 1}


# --- lists that syncs share


def test_a_second_sync_on_a_list_is_refused(world: ListWorld) -> None:
    """By name or by ID, before anything is sent; the first one goes on, and other lists are free."""
    world.people(1)
    world.run(list_name="VIP")
    number = world.sandbox.lists[0]["id"]
    for chosen in ({"list_name": "VIP"}, {"list_id": number}):
        world.forget_calls()
        message, _ = world.failure(AirflowFailException, sync_id="second", **chosen)
        assert f"List {number} is filled by the sync 'adhoc_airflow.sync_list' already" in message
        assert "shared_list=True" in message
        assert set(world.calls) <= {LISTS}
    world.people(1, 2)
    assert world.run(list_name="VIP")["accepted"] == 1
    assert world.run(list_name="other", sync_id="third")["accepted"] == 2


def test_a_list_may_be_shared(world: ListWorld) -> None:
    """With ``shared_list``, both go on; without it, the second does not, and the first never fails for its sake."""
    number = world.a_list()
    world.people(1)
    world.run(list_id=number)
    world.people(2)
    world.run(list_name="VIP", sync_id="second", shared_list=True)
    assert world.members == {"VIP": [email(1), email(2)]}
    world.people(1, 3)
    world.run(list_id=number)
    assert world.members == {"VIP": [email(1), email(2), email(3)]}
    message, _ = world.failure(AirflowFailException, list_name="VIP", sync_id="second")
    assert "is filled by the sync" in message


def test_sharing_may_end(world: ListWorld) -> None:
    """Once a sync runs without ``shared_list``, nobody else may join it."""
    number = world.a_list()
    world.people(1)
    world.run(list_id=number, shared_list=True)
    world.people(1, 2)
    world.run(list_id=number)
    message, _ = world.failure(AirflowFailException, list_id=number, sync_id="second")
    assert "is filled by the sync" in message


def test_lists_of_other_hosts_are_others(world: ListWorld, make_lists: Lists) -> None:
    """An ID says something in its project alone."""
    number = world.a_list()
    world.people(1)
    world.run(list_id=number)
    other = make_lists()
    other.warehouse.write_bytes(world.warehouse.read_bytes())
    assert other.a_list() == number
    assert other.run(list_id=number, sync_id="second")["accepted"] == 1


# --- failures of other kinds


@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "5xx_html", "malformed", "429", "slow"])
@pytest.mark.parametrize("path", ["/api/lists/subscribe", "/api/lists/unsubscribe", "/api/users/getByEmail"])
def test_lost_answers_change_nothing_in_the_end(world: ListWorld, fault: str, path: str) -> None:
    """Whatever is lost on the way, the list ends up as the model."""
    options: dict[str, Any] = {
        "list_name": "VIP",
        "update_existing_users_only": path.endswith("Email"),
        "batch_size": 2,
        "max_removed": None,
    }
    for number in range(1, 9):
        world.create(number)
    world.people(*range(1, 6))
    world.run(**options)
    world.people(*range(4, 9))
    world.sandbox.faults({"kind": fault, "path": path, "times": 6, "seconds": 0.01})
    world.patiently(**options)
    assert world.members == {"VIP": [email(number) for number in range(4, 9)]}
    assert world.remembered == [f'["{email(number)}"]' for number in range(4, 9)]
    world.forget_calls()
    assert world.run(**options)["unchanged"] == 5
    assert not world.sandbox.calls


def test_large_lists_travel_in_batches(world: ListWorld) -> None:
    """A thousand members a request."""
    world.people(*range(2500))
    report = world.run(list_name="VIP")
    assert report["requests"][SUBSCRIBE] == {"200": 3}
    world.people(*range(500))
    report = world.run(list_name="VIP", max_removed=1.0)
    assert report["requests"] == {UNSUBSCRIBE: {"200": 2}}
    assert len(world.members["VIP"]) == 500


def test_guards(world: ListWorld) -> None:
    """Members who leave in numbers are asked about first."""
    world.people(*range(40))
    world.run(list_name="VIP")
    world.people(*range(20))
    message, _ = world.failure(AirflowFailException, list_name="VIP")
    assert "20 of 40 remembered rows have left the model" in message
    world.rows()
    message, _ = world.failure(AirflowFailException, list_name="VIP")
    assert "The model returned no rows" in message
    assert len(world.members["VIP"]) == 40


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"list_id": 7, "list_name": "VIP"}, "leave out list_name"),
        ({"list_id": 7, "list_description": "x"}, "leave out list_name and list_description"),
        ({"list_id": "seven"}, "list_id must be a number"),
        ({"list_id": True}, "list_id must be a number"),
        ({"list_id": 0}, "list_id must be a number"),
        ({"list_name": " "}, "list_name must be a text that is not blank"),
        ({"email_column": None, "user_id_column": None}, "a user needs an identifier"),
        ({"email_column": "email", "match_by": "user_id"}, "needs user_id_column"),
    ],
)
def test_parameters_that_contradict_each_other(world: ListWorld, options: dict[str, Any], words: str) -> None:
    """They are told where the DAG is parsed."""
    with pytest.raises(ConfigurationError, match=words):
        world.make(**options)


def test_fields_do_not_name_identifiers(world: ListWorld) -> None:
    """They have parameters of their own."""
    world.people(1)
    message, _ = world.failure(AirflowFailException, fields={"email": "email"})
    assert "mapped twice" in message
