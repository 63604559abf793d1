from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.engine.doubt import with_receipts
from airflow_provider_iterable.engine.report import REPORT_KEY
from airflow_provider_iterable.engine.vocabulary import Intents, Patch
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import Constant, Json
from airflow_provider_iterable.sandbox.options import ProjectType
from airflow_provider_iterable.state import TableState, XComState
from airflow_provider_iterable.state.tables.dialects import DIALECTS
from airflow_provider_iterable.state.tables.session import TableSession
from tests.operators.conftest import BULK, CHANNELS, FIELDS, Make, World, email, identifier, person, uid

PROJECTS: tuple[ProjectType, ...] = ("email", "user_id", "hybrid")
DELETE = {
    "email": "DELETE /api/users/{email}",
    "user_id": "DELETE /api/users/byUserId/{userId}",
    "hybrid": "DELETE /api/users/byUserId/{userId}",
}
LOOK_UP = {
    "email": "GET /api/users/getByEmail",
    "user_id": "GET /api/users/byUserId",
    "hybrid": "GET /api/users/byUserId",
}


def adds_up(report: dict[str, Any]) -> bool:
    """Whether the report's sums hold."""
    read = report["added"] + report["changed"] + report["unchanged"] + report["invalid"]
    return bool(report["read"] == read)


def sent(number: int, **changes: Any) -> dict[str, Any]:
    """Return the profile fields that a person's row becomes."""
    return {"firstName": f"Name {number}", "age": number, "address": {"city": "London"}, **changes}


@pytest.mark.parametrize("project_type", PROJECTS)
@pytest.mark.parametrize("on_removed", ["keep", "clear", "delete"])
@pytest.mark.parametrize("state", [TableState(), XComState()], ids=["table", "xcom"])
def test_the_life_of_a_row(make_world: Make, project_type: ProjectType, on_removed: str, state: Any) -> None:
    """Added, changed, removed and added again: each run sends the difference, and an unchanged one nothing."""
    world = make_world(project_type)
    who = [identifier(project_type, number) for number in range(4)]
    options: dict[str, Any] = {"on_removed": on_removed, "state": state}

    world.people(1, 2)
    report = world.run(**options)
    assert world.profiles == {who[1]: sent(1), who[2]: sent(2)}
    assert (report["status"], report["added"], report["accepted"], report["read"]) == ("succeeded", 2, 2, 2)
    assert report["requests"] == {CHANNELS: {"200": 1}, FIELDS: {"200": 1}, BULK: {"200": 1}}

    world.forget_calls()
    report = world.run(**options)
    assert not world.sandbox.calls
    assert (report["unchanged"], report["accepted"], report["requests"]) == (2, 0, {})

    world.rows(person(1), person(2, name="New"), person(3))
    report = world.run(**options)
    assert world.profiles == {who[1]: sent(1), who[2]: sent(2, firstName="New"), who[3]: sent(3)}
    assert (report["added"], report["changed"], report["unchanged"], report["accepted"]) == (1, 1, 1, 2)
    assert adds_up(report)

    world.people(1, 3)
    world.forget_calls()
    report = world.run(**options)
    assert (report["removed"], report["unchanged"]) == (1, 2)
    left: dict[str, dict[str, Any]] = {
        "keep": {who[2]: sent(2, firstName="New")},
        "clear": {who[2]: {"address": {}}},
        "delete": {},
    }
    assert world.profiles == {who[1]: sent(1), who[3]: sent(3), **left[on_removed]}
    assert world.calls[DELETE[project_type]] == (on_removed == "delete")
    assert world.calls[LOOK_UP[project_type]] == (on_removed == "clear")
    if on_removed == "keep":
        assert not world.calls

    world.people(1, 2, 3)
    report = world.run(**options)
    assert (report["added"], report["unchanged"]) == (1, 2)
    assert world.profiles == {who[1]: sent(1), who[2]: sent(2), who[3]: sent(3)}


@pytest.mark.parametrize("project_type", PROJECTS)
def test_update_mode_creates_nobody(make_world: Make, project_type: ProjectType) -> None:
    """Unknown users are skipped, not remembered, and go again; once they exist they are updated."""
    world = make_world(project_type)
    who = [identifier(project_type, number) for number in range(3)]
    world.create(1, vip=True)
    world.people(1, 2)
    report = world.run(mode="update")
    assert world.profiles == {who[1]: sent(1, vip=True)}
    assert (report["accepted"], report["skipped"], report["rejected"]) == (1, 1, 0)
    assert report["reasons"] == {"unknown_user": 1}
    assert world.calls[LOOK_UP[project_type]] == 2
    assert world.remembered == ["[1]"]

    world.create(2)
    report = world.run(mode="update")
    assert (report["added"], report["accepted"], report["unchanged"]) == (1, 1, 1)
    assert world.profiles == {who[1]: sent(1, vip=True), who[2]: sent(2)}


def test_update_by_user_id_in_an_email_project_needs_no_look_up(world: World) -> None:
    """Iterable creates nobody there unless asked to, so bulk requests alone do."""
    world.create(1)
    world.people(1, 2)
    report = world.run(mode="update", user_id_column="uid")
    assert world.profiles == {email(1): sent(1)}
    assert (report["accepted"], report["skipped"]) == (1, 1)
    assert world.calls == {FIELDS: 1, BULK: 1}


def test_update_only_needs_no_look_up(make_world: Make) -> None:
    """With the account's switch, bulk requests alone do."""
    world = make_world(extra={"update_only": True}, update_only_enabled=True, skipped="not_found")
    world.create(1)
    world.people(1, 2)
    report = world.run(mode="update")
    assert world.profiles == {email(1): sent(1)}
    assert (report["accepted"], report["skipped"]) == (1, 1)
    assert world.calls == {FIELDS: 1, BULK: 1}


@pytest.mark.parametrize("skipped", ["not_found", "listed", "uncounted"])
@pytest.mark.parametrize("known", [range(1, 9), range(5, 6), ()])
def test_users_skipped_by_update_only_are_not_remembered(make_world: Make, skipped: str, known: Iterable[int]) -> None:
    """However Iterable reports them, short of calling them successes: they are skipped, and go again."""
    world = make_world(extra={"update_only": True}, update_only_enabled=True, skipped=skipped)
    for number in known:
        world.create(number)
    world.people(*range(1, 11))
    report = world.run(mode="update")
    there = len([*known])
    assert (report["accepted"], report["skipped"], report["rejected"]) == (there, 10 - there, 0)
    assert report["reasons"] == {"unknown_user": 10 - there}
    assert world.profiles == {email(number): sent(number) for number in known}
    assert len(world.remembered) == there

    for number in set(range(1, 11)) - set(known):
        world.create(number)
    report = world.run(mode="update")
    assert (report["accepted"], report["unchanged"]) == (10 - there, there)
    assert world.profiles == {email(number): sent(number) for number in range(1, 11)}


def test_users_that_update_only_calls_successes_are_remembered(make_world: Make) -> None:
    """Nothing tells them from others, so they go again only when their row changes."""
    world = make_world(extra={"update_only": True}, update_only_enabled=True, skipped="success")
    world.people(1)
    assert world.run(mode="update")["accepted"] == 1
    assert (world.profiles, world.remembered) == ({}, ["[1]"])
    world.create(1)
    assert world.run(mode="update")["unchanged"] == 1
    world.people(1, name="New")
    assert world.run(mode="update")["changed"] == 1
    assert world.profiles == {email(1): sent(1, firstName="New")}


@pytest.mark.parametrize("project_type", ["user_id", "hybrid"])
@pytest.mark.parametrize("user_id", [".", ".."])
def test_a_user_id_that_no_path_can_hold_is_not_deleted(
    make_world: Make, project_type: ProjectType, user_id: str
) -> None:
    """It is written and looked up as any other; its removal is refused, and nothing else is deleted for it."""
    world = make_world(project_type)
    world.rows(person(1), person(2), person(3, uid=user_id))
    options: dict[str, Any] = {"on_removed": "delete", "max_rejected": 1.0}
    assert world.run(**options)["accepted"] == 3
    assert user_id in world.profiles
    world.people(1)
    for removed in (2, 1):
        report = world.run(**options)
        assert (report["removed"], report["reasons"]) == (removed, {"invalid_user_id": 1})
        assert set(world.profiles) == {uid(1), user_id}
        assert world.remembered == ["[1]", "[3]"]
    assert world.calls[DELETE[project_type]] == 1
    assert {call.template for call in world.sandbox.calls} <= {
        "/api/channels",
        "/api/users/bulkUpdate",
        "/api/users/getFields",
        "/api/users/byUserId/{userId}",
    }
    world.rows(person(1), person(3, uid=user_id, name="New"))
    assert world.run(mode="update", **options)["accepted"] == 1
    assert world.profiles[user_id]["firstName"] == "New"


def test_known_users_need_no_second_look(world: World) -> None:
    """With ``recheck_known_users="never"`` a changed row is sent without asking."""
    world.create(1)
    world.people(1)
    world.run(mode="update", recheck_known_users="never")
    world.people(1, name="New")
    world.forget_calls()
    world.run(mode="update", recheck_known_users="never")
    assert world.calls == {FIELDS: 1, BULK: 1}
    assert world.profiles == {email(1): sent(1, firstName="New")}


@pytest.mark.parametrize(
    ("unknown", "status"), [("coded", 400), ("coded", 404), ("coded", 500), ("text", 400), ("empty", 200)]
)
def test_unknown_users_are_recognised_in_every_form(make_world: Make, unknown: str, status: int) -> None:
    """However Iterable says that nobody has a user ID, the row is skipped."""
    world = make_world("user_id", unknown_user_id=unknown, unknown_user_id_status=status)
    world.people(1)
    report = world.run(mode="update")
    assert (report["skipped"], report["reasons"], world.profiles) == (1, {"unknown_user": 1}, {})


@pytest.mark.parametrize("project_type", PROJECTS)
def test_clearing_creates_nobody(make_world: Make, project_type: ProjectType) -> None:
    """Somebody who was deleted at Iterable meanwhile stays deleted, has nothing to clear, and is forgotten."""
    world = make_world(project_type)
    world.people(1, 2)
    world.run(on_removed="clear")
    world.sandbox.project.delete(list(world.sandbox.project.profiles))
    world.people(1)
    report = world.run(on_removed="clear")
    assert world.profiles == {}
    assert (report["removed"], report["accepted"], report["reasons"]) == (1, 1, {"already_gone": 1})
    assert world.remembered == ["[1]"]


def test_clearing_spares_what_is_not_mapped(world: World) -> None:
    """Other fields and siblings of a nested one stay."""
    world.create(1, vip=True, address={"street": "Dorset Street"})
    world.people(1, 2)
    world.run(on_removed="clear")
    world.people(2)
    world.run(on_removed="clear")
    assert world.profiles[email(1)] == {"vip": True, "address": {"street": "Dorset Street"}}


def test_both_identifiers_are_written(make_world: Make) -> None:
    """One matches, the other is set on the profile."""
    for project_type in PROJECTS:
        world = make_world(project_type)
        world.people(1)
        world.run(email_column="email", user_id_column="uid")
        (profile,) = world.sandbox.project.profiles
        assert (profile.email, profile.user_id) == (email(1), uid(1))


def test_everything_a_row_can_hold(world: World) -> None:
    """JSON, constants and default columns arrive as Iterable types them."""
    world.rows((1, email(1), '[{"name":"Rex","age":3}]', 1.5), columns=("id", "email", "pets", "score"))
    world.run(fields={"pets": Json("pets"), "score": "score", "source": Constant("warehouse")})
    assert world.profiles[email(1)] == {"pets": [{"name": "Rex", "age": 3}], "score": 1.5, "source": "warehouse"}
    world.rows((1, email(1), "x", None), columns=("id", "EMAIL", "note", "score"))
    world.run(fields=None, task_id="defaults")
    assert world.profiles[email(1)]["note"] == "x"
    assert world.sandbox.project.schema.custom.keys() == {"pets", "pets.name", "pets.age", "score", "source", "note"}


def test_a_table_is_a_model(world: World) -> None:
    """Instead of a query, a table; never both, nor neither."""
    world.people(1)
    assert world.run(sql=None, table="users")["accepted"] == 1
    for wrong in ({"table": "users"}, {"sql": None}):
        with pytest.raises(ConfigurationError, match="Give the model as sql or as table, one of the two"):
            world.make(**wrong)


def test_bad_rows_are_named_and_go_again(world: World, heard: Callable[[], str]) -> None:
    """Good rows arrive; bad ones are named by key and reason, and tried again by every run until they are mended."""
    bad = [person(2, email="nobody"), person(3, email=None), person(None), person(4), person(4), person(5, age=b"x")]  # type: ignore[arg-type]
    world.rows(person(1), *bad)
    for run in range(2):
        report = world.run(max_rejected=1.0)
        assert (report["accepted"], report["rejected"], report["invalid"]) == (1 - run, 6, 6)
        assert report["reasons"] == {
            "duplicate_key": 2,
            "invalid_email": 1,
            "invalid_value": 1,
            "no_identifier": 1,
            "null_key": 1,
        }
        assert adds_up(report)
    said = heard()
    for line in ("key [2]", "key [3]", "key (null)", "key [4]: 2 rows", "key [5]: field age: a value of type bytes"):
        assert line in said
    world.rows(person(1), person(2), person(3))
    report = world.run()
    assert (report["added"], report["accepted"], report["removed"]) == (2, 2, 0)
    assert set(world.profiles) == {email(1), email(2), email(3)}


def test_a_row_that_turned_bad_is_no_removal(world: World) -> None:
    """Its profile is not deleted, and its entry stays."""
    world.people(1, 2)
    world.run(on_removed="delete")
    world.rows(person(1), person(2, email="nobody"))
    report = world.run(on_removed="delete", max_rejected=1.0)
    assert (report["removed"], report["rejected"]) == (0, 1)
    assert set(world.profiles) == {email(1), email(2)}
    assert world.remembered == ["[1]", "[2]"]


def test_rows_that_iterable_rejects_are_named_and_go_again(make_world: Make) -> None:
    """Failures in a 200 belong to their rows alone."""
    world = make_world(invalid_data={email(2)})
    world.sandbox.project.forget(email(3), None)
    world.rows(*map(person, range(1, 5)), person(5, email="a@x.notatld"))
    for run in range(2):
        report = world.run(max_rejected=1.0)
        assert (report["accepted"], report["rejected"], report["skipped"]) == (2 - 2 * run, 2, 1)
        assert report["reasons"] == {"forgotten_user": 1, "invalid_data": 1, "invalid_email": 1}
        assert world.calls[BULK] == run + 1
    assert world.remembered == ["[1]", "[4]"]


def test_a_conflict_costs_its_row(make_world: Make) -> None:
    """An identifier that belongs to another profile rejects the row that wanted it, and no other."""
    world = make_world("hybrid")
    world.create(9)
    world.rows(*map(person, range(1, 9)), person(10, email=email(9)))
    report = world.run(email_column="email", user_id_column="uid", max_rejected=1.0)
    assert (report["accepted"], report["reasons"]) == (8, {"conflict": 1})
    assert set(world.profiles) == {uid(number) for number in range(1, 10)}


def test_rows_with_one_identity_are_written_in_key_order(world: World) -> None:
    """The greatest key has the last word, whatever the order of rows; the report counts the surplus."""
    world.rows(person(3, email=email(1)), person(1), person(2, email=email(1)))
    report = world.run(sql="SELECT * FROM users ORDER BY id DESC")
    assert world.profiles == {email(1): sent(3)}
    assert (report["accepted"], report["collapsed"]) == (3, 2)
    world.forget_calls()
    assert world.run()["unchanged"] == 3
    assert not world.calls


def test_a_changed_address_leaves_the_old_profile_alone(world: World, heard: Callable[[], str]) -> None:
    """The new identity is written, the old one is not touched, and the log says so."""
    world.people(1)
    world.run(on_removed="delete")
    world.people(1, email="new@example.com")
    report = world.run(on_removed="delete")
    assert (report["changed"], report["removed"], set(world.profiles)) == (1, 0, {email(1), "new@example.com"})
    assert "1 rows have another identity than before" in heard()


def test_another_mapping_sends_again_and_says_why(world: World) -> None:
    """All rows differ now; the report gives the reason."""
    world.people(1, 2)
    world.run(fields={"firstName": "name"})
    report = world.run(fields={"firstName": "name", "age": "age"})
    assert (report["changed"], report["accepted"]) == (2, 2)
    assert report["resend_reason"] == "the mapping changed, so rows whose payload differs go again"


def test_another_destination_is_refused(make_world: Make) -> None:
    """State says what is where; it is not believed about elsewhere."""
    world = make_world("hybrid")
    world.people(1)
    world.run()
    world.forget_calls()
    message, _ = world.failure(AirflowFailException, email_column="email")
    assert 'match: remembered "user_id", now "email"' in message
    assert not world.calls


GUARDS: list[tuple[list[int], dict[str, Any], str]] = [
    ([], {}, "The model returned no rows (40 are remembered). Nothing was sent"),
    (list(range(1, 21)), {}, "20 of 40 remembered rows have left the model; max_removed=0.3 allows 12"),
    (list(range(1, 21)), {"max_removed": 19}, "max_removed=19 allows 19"),
    (
        list(range(1, 21)),
        {"max_removed": 0.5, "on_removed": "delete", "max_deletes": 19},
        "The run would delete 20 users or items; max_deletes allows 19",
    ),
    ([], {"allow_empty": True}, "40 of 40 remembered rows have left"),
]


@pytest.mark.parametrize(("left", "options", "message"), GUARDS)
def test_guards(world: World, left: list[int], options: dict[str, Any], message: str) -> None:
    """Too much that would go is asked about before anything is called; nothing is forgotten."""
    world.people(*range(1, 41))
    world.run()
    world.forget_calls()
    world.people(*left)
    said, report = world.failure(AirflowFailException, **options)
    assert message in said
    assert (report["status"], report["requests"]) == ("failed", {})
    assert not world.calls
    assert len(world.remembered) == 40


def test_what_the_guards_let_pass(world: World) -> None:
    """Fewer than twenty removals, and more when allowed."""
    world.people(*range(1, 41))
    world.run()
    world.people(*range(1, 22))
    assert world.run()["removed"] == 19
    world.people()
    assert world.run(allow_empty=True, max_removed=1.0, on_removed="delete")["removed"] == 21
    assert world.remembered == []


def test_a_dry_run_changes_nothing(world: World) -> None:
    """It reports what would be done, asks for types, and leaves state and project alone."""
    world.rows(person(1), person(2), person(3, email="nobody"))
    report = world.run(dry_run=True)
    assert world.calls == {FIELDS: 1}
    assert (report["status"], report["dry_run"], report["requests"]) == ("planned", True, {FIELDS: {"200": 1}})
    assert (report["added"], report["invalid"], report["accepted"]) == (2, 1, 0)
    assert [len(part) for part in report["plan_hash"].split("-")] == [32, 8, 8, 8, 8, 8, 8]
    assert world.remembered == []
    assert world.run(max_rejected=1.0)["added"] == 2


@pytest.mark.parametrize("state", [TableState(), XComState()], ids=["table", "xcom"])
def test_an_approved_plan_is_applied(world: World, state: Any) -> None:
    """The hash stands for the plan: as long as the rows say the same, in whatever order, it is applied."""
    world.people(1, 2)
    planned = world.run(dry_run=True, state=state)
    world.people(2, 1)
    report = world.run(approved_plan=planned["plan_hash"], sql="SELECT * FROM users", state=state)
    assert (report["plan_hash"], report["accepted"]) == (planned["plan_hash"], 2)


@pytest.mark.parametrize("change", ["rows", "value", "none", "nothing"])
def test_another_plan_is_not_applied(world: World, change: str) -> None:
    """A row more, another value, or an approval that came out empty: nothing is sent."""
    world.people(1, 2)
    approved = world.run(dry_run=True)["plan_hash"]
    if change == "rows":
        world.people(1, 2, 3)
    elif change == "value":
        world.people(1, 2, name="New")
    else:
        approved = {"none": "None", "nothing": ""}[change]
    message, report = world.failure(AirflowFailException, approved_plan=approved)
    changed = "The plan changed since it was approved; what differs: the rows and what is sent of them"
    assert (changed if change in ("rows", "value") else "What was approved is not the hash of a plan") in message
    assert "Nothing was sent" in message
    assert (report["plan_hash"], report["plan_hash"] != approved) == (report["plan_hash"], True)
    assert all(call.method == "GET" for call in world.sandbox.calls)


@pytest.mark.parametrize(
    ("limit", "bad", "fails"),
    [(0.1, 2, False), (0.1, 3, True), (2, 2, False), (2, 3, True), (0, 1, True), (1.0, 20, False)],
)
def test_too_many_rejected_rows_fail_the_task(world: World, limit: float, bad: int, fails: bool) -> None:
    """Up to the limit the task succeeds; above it, it fails after all that could be delivered is remembered."""
    world.rows(*(person(number, **({"email": "nobody"} if number <= bad else {})) for number in range(1, 21)))
    if fails:
        message, report = world.failure(AirflowFailException, max_rejected=limit)
        assert f"{bad} of 20 rows were rejected (invalid_email {bad}; 0 rejected before, {bad} new)" in message
        assert report["status"] == "too_many_rejected"
    else:
        report = world.run(max_rejected=limit)
    assert (report["accepted"], report["rejected"]) == (20 - bad, bad)
    assert len(world.profiles) == len(world.remembered) == 20 - bad


def test_removals_that_are_rejected_are_not_counted_among_the_rows(world: World) -> None:
    """Who left is none of the rows that were read, so more may be rejected than those are."""
    world.people(1, 2)
    world.run(on_removed="delete")
    world.rows(person(3, email="nobody"))
    world.sandbox.faults({"kind": "5xx_html", "status": 400, "path": "/api/users/{email}", "times": 1})
    message, report = world.failure(AirflowFailException, on_removed="delete", max_rejected=0, max_removed=1.0)
    assert "1 of 1 rows and 1 of 2 removals were rejected (" in message
    assert (report["read"], report["rejected"], report["accepted"]) == (1, 2, 1)


def test_skipped_rows_are_no_rejected_rows(world: World) -> None:
    """Nothing that is nobody's fault fails a task."""
    world.people(*range(1, 6))
    assert world.run(mode="update", max_rejected=0)["skipped"] == 5


CULPRIT = 567


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        ({}, 2),
        ({"offending_value": "array"}, 2),
        ({"field_key_prefix": "my_project_etl:::"}, 2),
        ({"offending_value": "array", "field_key_prefix": "my_project_etl:::"}, 2),
        ({"hide_clues": True}, 21),
    ],
)
@pytest.mark.parametrize("bad", [{"age": "old"}, {"since": "0000-00-00 00:00:00"}])
def test_one_bad_value_in_a_thousand(
    make_world: Make, options: dict[str, Any], extra: int, bad: dict[str, Any]
) -> None:
    """Unscreened, it fails its whole batch; the other 999 arrive for a few more requests, whatever clues there are."""
    world = make_world(**options)
    world.create(0, age=1, since="2024-01-01")
    columns = ("id", "email", "age", "since")
    rows: list[tuple[Any, ...]] = [(number, email(number), number, "2024-11-25") for number in range(1, 1001)]
    wrong = dict(zip(columns, rows[CULPRIT], strict=True)) | bad
    rows[CULPRIT] = tuple(wrong[column] for column in columns)
    world.rows(*rows, columns=columns)
    report = world.run(fields={"age": "age", "since": "since"}, check_types=False)
    assert (report["accepted"], report["rejected"], report["reasons"]) == (999, 1, {"type_mismatch": 1})
    assert world.calls[BULK] - 1 <= extra
    assert set(world.profiles) == {email(number) for number in range(1001)} - {email(CULPRIT + 1)}


def test_a_bad_value_that_was_screened_costs_nothing(world: World, heard: Callable[[], str]) -> None:
    """With the types read once, the row is held back and named; the batch passes at once."""
    world.create(0, age=1)
    world.rows(*(person(number, age="old" if number == 7 else number) for number in range(1, 101)))
    report = world.run()
    assert (report["accepted"], report["rejected"]) == (99, 1)
    assert world.calls == {FIELDS: 1, BULK: 1}
    assert "key [7]: field age: long expected, string like xxx" in heard()


def test_without_types_the_sync_goes_on(world: World, heard: Callable[[], str]) -> None:
    """If the types cannot be read, values are sent unscreened, and the log says so."""
    world.sandbox.faults({"kind": "5xx_html", "path": "/api/users/getFields", "times": -1})
    world.people(1)
    assert world.run()["accepted"] == 1
    assert "Values are sent without comparing them" in heard()


@pytest.mark.parametrize("status", [401, 403])
def test_the_first_refusal_of_the_key_ends_the_run(world: World, status: int) -> None:
    """Whoever refuses that the types are read may refuse writing too: no profile is sent to find out."""
    world.people(1)
    world.sandbox.faults({"kind": "5xx_html", "status": status, "path": "/api/users/getFields", "times": 1})
    message, report = world.failure(AirflowFailException)
    assert f"{FIELDS} was refused, and not in Iterable's way (HTTP {status})" in message
    assert "a web page" in message
    assert "No row was sent." in message
    assert world.calls == {FIELDS: 1}
    assert (report["status"], report["accepted"]) == ("failed", 0)


def test_another_services_connection_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its password does not even go to a sandbox."""
    world.people(1)
    connection = {"conn_type": "postgres", "password": "of-the-database", "host": world.sandbox.url}
    monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(connection))
    message, _ = world.failure(AirflowFailException)
    assert "Connection iterable_default is of type 'postgres'" in message
    assert world.calls == {}


@pytest.mark.parametrize("too_large", ["413", "BatchTooLarge"])
def test_batches_that_are_too_large_are_halved(make_world: Make, too_large: str) -> None:
    """Where Iterable takes less than documented, everything arrives all the same."""
    world = make_world(max_bytes=2000, too_large=too_large)
    world.people(*range(1, 101))
    assert world.run()["accepted"] == len(world.profiles) == 100


def test_a_limit_of_fields_halts_the_run(make_world: Make) -> None:
    """No further request could mend it; the message names the new fields."""
    world = make_world(max_fields=1)
    world.people(1)
    message, report = world.failure(AirflowFailException)
    assert "limit of unique fields (1)" in message
    assert "firstName, age, address, address.city" in message
    assert (report["status"], report["deferred"], world.remembered) == ("halted", 1, [])


@pytest.mark.parametrize("kind", ["5xx_html", "drop_before", "malformed", "429"])
def test_no_usable_answer_is_worth_a_retry(world: World, kind: str) -> None:
    """The task fails in a way that Airflow retries; the report is in XCom, and the retry sends what is left."""
    world.sandbox.set(exact_reset=True)
    world.sandbox.faults({"kind": kind, "path": "/api/users/bulkUpdate", "times": -1, "seconds": 0.0})
    world.people(1, 2)
    message, report = world.failure(AirflowException)
    assert "2 rows were deferred" in message
    assert (report["status"], report["deferred"], report["accepted"]) == ("unfinished", 2, 0)
    assert world.remembered == []
    # Whether it is one of the rows that the server fails at is looked for with each of them alone.
    assert world.calls[BULK] == (7 if kind == "5xx_html" else 5)
    world.sandbox.service.faults.clear()
    assert world.run()["accepted"] == 2
    assert world.profiles == {email(1): sent(1), email(2): sent(2)}


@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "malformed", "5xx_html"])
@pytest.mark.parametrize("path", ["/api/users/bulkUpdate", "/api/users/getByEmail", "/api/users"])
@pytest.mark.parametrize("on_removed", ["clear", "delete"])
def test_lost_answers_do_no_harm(make_world: Make, kind: str, path: str, on_removed: str) -> None:
    """A few calls whose answers are lost or broken, anywhere: once it is over, all is as if nothing had happened."""
    world = make_world(seed=7)
    for number in range(1, 7):
        world.create(number, vip=True)
    options: dict[str, Any] = {"mode": "update", "on_removed": on_removed, "batch_size": 2}
    world.people(*range(1, 7), name="Old")
    world.run(**options)
    world.sandbox.faults({"kind": kind, "path": path, "times": 12, "probability": 0.4})
    world.people(*range(1, 4), name="New")
    report = world.patiently(**options)
    expected = {email(number): sent(number, firstName="New", vip=True) for number in range(1, 4)}
    if on_removed == "clear":
        expected |= {email(number): {"vip": True, "address": {}} for number in range(4, 7)}
    assert world.profiles == expected
    assert (report["rejected"], report["deferred"], world.remembered) == (0, 0, ["[1]", "[2]", "[3]"])
    world.sandbox.service.faults.clear()
    world.forget_calls()
    world.run(**options)
    assert not world.calls


@pytest.mark.parametrize("project_type", PROJECTS)
@pytest.mark.parametrize("kind", ["drop_after", "malformed"])
def test_a_deletion_whose_answer_was_lost_is_done(make_world: Make, project_type: ProjectType, kind: str) -> None:
    """The second try finds nobody, which is what was wanted."""
    world = make_world(project_type)
    world.people(1, 2)
    world.run(on_removed="delete")
    world.sandbox.faults({"kind": kind, "path": DELETE[project_type].partition(" ")[2], "times": 1})
    world.people(1)
    report = world.run(on_removed="delete")
    assert (report["accepted"], report["rejected"], report["skipped"]) == (1, 0, 0)
    assert set(world.profiles) == {identifier(project_type, 1)}
    assert world.calls[DELETE[project_type]] == 2


def test_what_was_accepted_before_a_halt_is_remembered(make_world: Make) -> None:
    """A key that is disabled half way: the first batches are not sent again."""
    world = make_world()
    world.people(*range(1, 41))
    slow = {"kind": "slow", "path": "/api/users/bulkUpdate", "after": 9, "times": 1}
    world.sandbox.faults(slow)
    service = world.sandbox.service
    service.calls.clear()

    def revoke(seconds: float) -> None:
        service.project.options = service.project.options.changed(
            {"disabled_keys": ("0123456789abcdef0123456789abcdef",)}
        )

    world.sandbox._server.sleep = revoke
    message, report = world.failure(AirflowFailException, batch_size=1)
    assert "Iterable refused the API key (HTTP 401 BadApiKey)" in message
    assert report["status"] == "halted"
    assert 10 <= report["accepted"] == len(world.profiles) == len(world.remembered) < 40
    assert report["accepted"] + report["deferred"] == 40


def test_killing_ends_the_delivery(make_world: Make) -> None:
    """What is in flight is finished and remembered, nothing else starts, and a retry sends the rest."""
    world = make_world(sleep=lambda seconds: kill())

    def kill() -> None:
        assert world.operator is not None
        world.operator.on_kill()

    world.people(*range(1, 101))
    world.sandbox.faults({"kind": "slow", "path": "/api/users/bulkUpdate", "after": 9, "times": 1})
    message, report = world.failure(AirflowException, batch_size=1)
    assert message.startswith("The task was stopped: ")
    assert report["status"] == "stopped"
    assert report["accepted"] == len(world.profiles) == len(world.remembered)
    assert 10 <= report["accepted"] < 100
    assert report["accepted"] + report["deferred"] == 100
    assert world.run()["accepted"] == report["deferred"]
    assert len(world.profiles) == 100


def test_killing_before_anything_runs(world: World) -> None:
    """Airflow may kill a task that has not begun."""
    world.make().on_kill()


def test_xcom_state_forgets_what_a_failed_try_delivered(world: World) -> None:
    """It is stored once, at the end: after a failure the next try sends everything again, which does no harm."""
    world.people(1, 2)
    world.sandbox.faults({"kind": "5xx_html", "path": "/api/users/bulkUpdate", "after": 1, "times": 4 + 1})
    _, report = world.failure(AirflowException, state=XComState(), batch_size=1)
    assert (report["accepted"], report["deferred"]) == (1, 1)
    assert world.run(state=XComState())["accepted"] == 2
    assert world.profiles == {email(1): sent(1), email(2): sent(2)}


def test_a_state_that_would_not_fit_is_refused_first(world: World) -> None:
    """Before the first call, with the way out."""
    world.people(1, 2, 3)
    message, report = world.failure(AirflowFailException, state=XComState(max_rows=2))
    assert "TableState" in message
    assert (report["requests"], world.sandbox.calls) == ({}, [])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"email_column": "nope"}, "The model has no column 'nope'. Its columns are: id, email, uid"),
        ({"primary_key": "nope"}, "no column 'nope'"),
        ({"fields": {"x": "nope"}}, "no column 'nope'"),
        ({"fields": {"x": Constant(b"x")}}, "A Constant cannot be sent: field x: a value of type bytes"),
        ({"fields": {"a.b.c": "name"}}, "nested deeper than Iterable merges"),
        ({"sql": "SELECT 1; SELECT 2"}, "several statements"),
        ({"sql": "SELECT nope"}, "query is wrong (OperationalError): no such column: nope. Nothing was sent"),
        ({"sql_conn_id": "iterable_default"}, "no SQL connection"),
        ({"user_id_column": "uid", "email_column": None, "on_removed": "delete"}, "allow_shared_user_id=True"),
    ],
)
def test_mistakes_are_found_before_the_first_call(world: World, parameters: dict[str, Any], message: str) -> None:
    """What no retry can help fails for good, in words."""
    world.people(1)
    said, report = world.failure(AirflowFailException, **parameters)
    assert message in said
    assert (report["requests"], world.sandbox.calls) == ({}, [])


def test_a_table_that_is_not_there_may_come(world: World) -> None:
    """A retry may help: an upstream job may be making it again."""
    said, report = world.failure(AirflowException, sql="SELECT * FROM nope")
    assert "not there (OperationalError): no such table: nope. Nothing was sent" in said
    assert (report["status"], report["requests"], world.sandbox.calls) == ("failed", {}, [])


@pytest.mark.parametrize(("asked", "fewest"), [(None, 3), (5, 5)])
def test_where_a_transaction_takes_long_several_batches_are_committed_together(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, asked: int | None, fewest: int
) -> None:
    """The database says how many, and the log repeats it; whoever sets ``commit_batches`` has the say."""
    patches: list[Patch] = []
    commit = TableSession.commit

    def counted(session: TableSession, patch: Patch, intents: Intents) -> None:
        patches.append(with_receipts(patch, intents))
        commit(session, patch, intents)

    monkeypatch.setitem(DIALECTS, "sqlite", replace(DIALECTS["sqlite"], batches=3))
    monkeypatch.setattr(TableSession, "commit", counted)
    world.people(0, name="former")
    world.run(commit_batches=asked)  # new fields would go alone first
    patches.clear()
    world.people(*range(12))
    world.run(batch_size=1, commit_batches=asked)
    assert sum(map(len, patches)) == 12
    # At the beginning there is nothing to store but what is announced, and that twice.
    assert 1 < len(patches) <= 12 // fewest + 2
    assert ("committed every 3 batches" in caplog.text) == (asked is None)


def test_a_connection_without_key_is_a_mistake(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is left in XCom even when nothing could begin."""
    monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", '{"conn_type": "iterable"}')
    message, report = world.failure(AirflowFailException)
    assert "has no API key" in message
    assert (report["status"], REPORT_KEY) == ("failed", "iterable_report")


def test_clearing_a_profile_is_no_deletion(world: World) -> None:
    """The most that may be deleted says nothing about profiles that are cleared."""
    world.people(1, 2)
    world.run(on_removed="clear")
    world.people(1)
    assert world.run(on_removed="clear", max_deletes=0)["removed"] == 1


@pytest.mark.parametrize("compare", ["worker", "database"])
def test_nobody_is_deleted_whom_the_second_row_of_a_duplicate_key_is_about(world: World, compare: Any) -> None:
    """Even if the first row of that key shares its identity with rows that go again."""
    parameters: dict[str, Any] = {"on_removed": "delete", "max_removed": None, "max_rejected": 1.0}
    parameters["state"] = TableState(compare=compare)
    world.rows(person(1), person(2), person(7, email=email(1)))
    world.run(**parameters)
    double = (person(3, email=email(1)), person(3, email=email(2)))
    world.rows(person(1), *double, person(7, email=email(1), name="Changed"))
    report = world.run(**parameters)
    assert (1, 2) == (report["removed"], report["reasons"]["duplicate_key"])
    assert {email(1), email(2)} == set(world.profiles)
