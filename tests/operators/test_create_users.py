"""``mode="create"``: who is at Iterable is left alone, and who was created is looked after as the sync says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_iterable.operators import IterablePrivacyOperator
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.sandbox.options import ProjectType
from airflow_provider_iterable.state import TableState, XComState
from tests.operators.conftest import BULK, FIELDS, Make, World, email, identifier, person, uid
from tests.operators.test_explain import explained
from tests.operators.test_users import DELETE, LOOK_UP, PROJECTS, sent

CREATE: dict[str, Any] = {"mode": "create"}
compares = pytest.mark.parametrize("compare", ["auto", "worker"])
projects = pytest.mark.parametrize("project_type", PROJECTS)


@projects
@pytest.mark.parametrize("state", [TableState(), TableState(compare="worker"), XComState()])
def test_only_who_is_not_there_is_created(make_world: Make, project_type: ProjectType, state: Any) -> None:
    """A known user keeps what they have; nobody is looked up twice, and a changed row sends nothing."""
    world = make_world(project_type)
    who = [identifier(project_type, number) for number in range(4)]
    world.create(1, vip=True)
    world.people(1, 2)
    report = world.run(**CREATE, state=state)
    assert world.profiles == {who[1]: {"vip": True}, who[2]: sent(2)}
    assert (report["added"], report["accepted"], report["skipped"]) == (2, 2, 0)
    assert report["reasons"] == {"already_exists": 1}
    assert world.calls == {FIELDS: 1, LOOK_UP[project_type]: 2, BULK: 1}

    world.forget_calls()
    assert world.run(**CREATE, state=state)["unchanged"] == 2
    world.people(1, 2, name="New")
    report = world.run(**CREATE, state=state)
    assert (report["changed"], report["accepted"]) == (2, 0)
    assert world.run(**CREATE, state=state)["unchanged"] == 2
    assert world.calls == {}
    assert world.profiles == {who[1]: {"vip": True}, who[2]: sent(2)}

    world.people(1, 2, 3, name="New")
    assert world.run(**CREATE, state=state)["added"] == 1
    assert world.calls == {FIELDS: 1, LOOK_UP[project_type]: 1, BULK: 1}
    assert world.profiles[who[3]] == sent(3, firstName="New")


@projects
@compares
@pytest.mark.parametrize("on_removed", ["keep", "clear", "delete"])
def test_only_who_was_created_is_removed(
    make_world: Make, project_type: ProjectType, compare: Any, on_removed: str
) -> None:
    """Even after the rows changed: whoever was there before keeps everything."""
    world = make_world(project_type)
    who = [identifier(project_type, number) for number in range(4)]
    options: dict[str, Any] = {**CREATE, "on_removed": on_removed, "state": TableState(compare=compare)}
    world.create(1, age=70)
    world.people(1, 2, 3)
    world.run(**options)
    world.people(1, 2, 3, city="Paris")
    world.run(**options)
    world.people(3, city="Paris")
    world.forget_calls()
    report = world.run(**options, max_removed=1.0)
    assert (report["removed"], report["unchanged"]) == (2, 1)
    left: dict[str, dict[str, Any]] = {"keep": {who[2]: sent(2)}, "clear": {who[2]: {"address": {}}}, "delete": {}}
    assert world.profiles == {who[1]: {"age": 70}, who[3]: sent(3), **left[on_removed]}
    assert world.calls[DELETE[project_type]] == (on_removed == "delete")
    assert world.remembered == ["[3]"]


@projects
@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "malformed", "5xx_html"])
def test_the_row_of_a_lost_answer_finds_its_own_user(make_world: Make, project_type: ProjectType, kind: str) -> None:
    """It counts as accepted, and as somebody of whom it is not known that the sync made them."""
    world = make_world(project_type)
    options: dict[str, Any] = {**CREATE, "on_removed": "delete"}
    world.people(1, 2)
    world.sandbox.faults({"kind": kind, "path": "/api/users/bulkUpdate", "times": -1})
    world.failure(AirflowException, **options)
    assert world.in_doubt == ["[1]", "[2]"]
    applied = kind in ("drop_after", "malformed")
    assert bool(world.profiles) is applied

    world.sandbox.service.faults.clear()
    world.people(1, 2, name="New")
    report = world.retry(**options)
    assert (report["accepted"], report["reasons"]) == (2, {"already_exists": 2} if applied else {})
    name = {} if applied else {"firstName": "New"}
    whole = {identifier(project_type, number): sent(number, **name) for number in (1, 2)}
    assert (world.profiles, world.remembered, world.in_doubt) == (whole, ["[1]", "[2]"], [])
    world.people(1)
    world.run(**options)
    assert len(world.profiles) == (2 if applied else 1)


def test_somebody_who_may_not_be_the_syncs_is_not_removed(world: World) -> None:
    """A request was lost, and the row left before a look-up could tell anything."""
    options: dict[str, Any] = {**CREATE, "on_removed": "delete"}
    world.people(1)
    world.sandbox.faults({"kind": "drop_after", "path": "/api/users/bulkUpdate", "times": -1})
    world.failure(AirflowException, **options)
    world.sandbox.service.faults.clear()
    world.forget_calls()
    world.people()
    report = world.run(**options, allow_empty=True)
    assert (report["removed"], world.calls, world.remembered, world.in_doubt) == (1, {}, [], [])
    assert world.profiles == {email(1): sent(1)}


@projects
@pytest.mark.parametrize("path", ["/api/users/bulkUpdate", "/api/users"])
@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "malformed", "5xx_html"])
def test_lost_answers_do_no_harm(make_world: Make, project_type: ProjectType, kind: str, path: str) -> None:
    """Wherever answers are lost, who was there keeps what they have, and everybody else is there at the end."""
    world = make_world(project_type, seed=11)
    for number in (1, 2, 3):
        world.create(number, vip=True)
    world.people(*range(1, 9))
    world.sandbox.faults({"kind": kind, "path": path, "times": 14, "probability": 0.5})
    world.patiently(**CREATE, batch_size=2, tries=12)
    known = {identifier(project_type, number): {"vip": True} for number in (1, 2, 3)}
    new = {identifier(project_type, number): sent(number) for number in range(4, 9)}
    assert world.profiles == {**known, **new}
    world.sandbox.service.faults.clear()
    world.forget_calls()
    assert world.run(**CREATE)["unchanged"] == 8
    assert world.calls == {}


@projects
def test_another_identity_is_another_person(make_world: Make, project_type: ProjectType) -> None:
    """They are created unless they are there; whoever the row was about before is left alone."""
    world = make_world(project_type)
    world.create(7, vip=True)
    world.people(1, 2)
    world.run(**CREATE)
    world.rows(person(1, email=email(7), uid=uid(7)), person(2, email=email(8), uid=uid(8)))
    report = world.run(**CREATE)
    assert (report["changed"], report["accepted"], report["reasons"]) == (2, 2, {"already_exists": 1})
    who = [identifier(project_type, number) for number in range(9)]
    assert world.profiles == {who[1]: sent(1), who[2]: sent(2), who[7]: {"vip": True}, who[8]: sent(2)}


@compares
def test_a_full_resync_creates_who_has_gone_since(world: World, compare: Any) -> None:
    """Everybody is looked up once more; whom the sync made is still remembered as such."""
    options: dict[str, Any] = {**CREATE, "on_removed": "delete", "state": TableState(compare=compare)}
    world.create(1, vip=True)
    world.people(1, 2, 3)
    world.run(**options)
    project = world.sandbox.project
    (gone,) = [profile for profile in project.profiles if profile.email == email(3)]
    project.profiles.remove(gone)
    report = world.run(**options, resync="full")
    assert (report["changed"], report["accepted"], report["reasons"]) == (3, 3, {"already_exists": 2})
    assert world.profiles == {email(1): {"vip": True}, email(2): sent(2), email(3): sent(3)}
    world.people()
    world.run(**options, allow_empty=True, max_removed=1.0)
    assert world.profiles == {email(1): {"vip": True}}


def test_who_was_recorded_by_a_baseline_is_not_removed(world: World) -> None:
    """The sync did not create them."""
    options: dict[str, Any] = {**CREATE, "on_removed": "delete"}
    world.create(1, vip=True)
    world.people(1)
    world.run(**options, resync="baseline")
    world.people()
    world.run(**options, allow_empty=True)
    assert world.profiles == {email(1): {"vip": True}}


@compares
def test_nobody_is_removed_whom_another_row_bears(world: World, compare: Any) -> None:
    """Of two rows about one person, one created them and the other found them; each may leave first."""
    options: dict[str, Any] = {**CREATE, "on_removed": "delete", "state": TableState(compare=compare)}
    for stays in (1, 2):
        options["sync_id"] = who = f"stays{stays}@example.com"
        world.rows(person(1, email=who))
        world.run(**options)
        world.rows(person(1, email=who), person(2, email=who))
        assert world.run(**options)["reasons"] == {"already_exists": 1}
        world.rows(person(stays, email=who))
        report = world.run(**options)
        assert (report["unchanged"], report["removed"]) == (1, 1)
        assert who in world.profiles


def test_several_new_rows_about_one_person(world: World) -> None:
    """The smallest key creates them, and the others find them there."""
    world.rows(person(3, email=email(1)), person(1), person(2, email=email(1)))
    report = world.run(**CREATE)
    assert (report["accepted"], report["reasons"]) == (3, {"already_exists": 2})
    assert world.profiles == {email(1): sent(1)}
    world.forget_calls()
    assert world.run(**CREATE)["unchanged"] == 3
    assert world.calls == {}


def test_changing_the_mode_has_rows_go_again(world: World) -> None:
    """To upsert, all rows are sent, for they were not kept equal; to create, none of them is."""
    world.create(1, vip=True)
    world.people(1, 2)
    world.run(**CREATE)
    report = world.run()
    assert (report["changed"], report["accepted"]) == (2, 2)
    assert world.profiles == {email(1): sent(1, vip=True), email(2): sent(2)}
    world.forget_calls()
    assert world.run(**CREATE)["changed"] == 2
    assert world.calls == {}


class Erasing(World):
    """A world whose operator deletes people."""

    def make(self, **parameters: Any) -> IterableModelOperator:
        """Make the operator."""
        return IterablePrivacyOperator(
            task_id="erase",
            sync_id="erase",
            sql="SELECT * FROM users",
            sql_conn_id="warehouse",
            primary_key="id",
            email_column="email",
            action="delete",
            state=TableState(),
            **parameters,
        )


def test_who_was_erased_is_not_created_again(world: World) -> None:
    """Neither somebody whom the sync created nor somebody whom it found: not even by a full resync."""
    world.create(1, vip=True)
    world.people(1, 2, 3)
    world.run(**CREATE)
    world.people(1, 2)
    erasing = Erasing(world.sandbox, world.warehouse, world.project_type, runs=50)
    assert erasing.run()["accepted"] == 2
    world.people(1, 2, 3)
    world.forget_calls()
    report = world.run(**CREATE, resync="full")
    assert (report["reasons"], report["skipped"]) == ({"already_exists": 1, "erased_person": 2}, 2)
    assert set(world.profiles) == {email(3)}


def test_fields_that_are_left_out_bring_nobody_back(make_world: Make) -> None:
    """The rows say so, and do not go again once the field is there: they were written once."""
    world = make_world()
    world.people(1)
    report = world.run(**CREATE, create_new_fields=False, fields={"tier": "city"})
    assert report["reasons"] == {"fields_left_out": 1}
    assert any("a row is written once" in note for note in report["notes"])
    world.create(9, tier="Gold")
    world.forget_calls()
    report = world.run(**CREATE, create_new_fields=False, fields={"tier": "city"})
    assert (report["unchanged"], report["changed"], world.calls) == (1, 0, {})
    world.people(1, 2)
    assert world.run(**CREATE, create_new_fields=False, fields={"tier": "city"})["reasons"] == {}
    report = world.run(**CREATE, create_new_fields=False, fields={"tier": "city"})
    assert (report["unchanged"], report["changed"]) == (2, 0)


def test_what_a_dry_run_and_the_log_say(world: World, heard: Callable[[], str]) -> None:
    """What it costs, and that only the run knows who is there."""
    world.people(1, 2)
    report = world.run(**CREATE, dry_run=True)
    assert any("already_exists" in note for note in report["notes"])
    assert [line["endpoint"] for line in report["forecast"]] == [LOOK_UP["email"], BULK]
    assert world.calls == {FIELDS: 1}
    text = heard()
    assert "each new row is looked up first (100 a second), and created in bulk if nobody is there" in text
    assert "2 rows through GET /api/users/getByEmail" in text


def test_a_row_is_explained(world: World) -> None:
    """A new one, a changed one, and those that left."""
    options: dict[str, Any] = {**CREATE, "on_removed": "delete"}
    world.create(1, vip=True)
    world.people(1, 2)
    told = explained(world, "2", **options)
    assert (told.action, told.operation) == ("send", "create users")
    assert told.endpoints == [LOOK_UP["email"], BULK]
    assert any("already_exists" in note for note in told.notes)
    world.run(**options)
    world.people(1, 2, name="New")
    told = explained(world, "2", **options)
    assert (told.change, told.action) == ("changed", "remember")
    world.people()
    assert explained(world, "2", **options, allow_empty=True).action == "remove"
    told = explained(world, "1", **options, allow_empty=True)
    assert (told.action, told.why) == (
        "forget",
        "its row has left the model, and the sync did not create the user, or cannot know whether it did",
    )


def test_a_new_identifier_beside_one_of_somebody_else_is_a_conflict(make_world: Make) -> None:
    """The look-up is about the one that matches; who has the other one keeps everything."""
    world = make_world("hybrid")
    world.create(7, vip=True)
    world.people(1, email=email(7))
    report = world.run(**CREATE, email_column="email", user_id_column="uid", max_rejected=1.0)
    assert report["reasons"] == {"conflict": 1}
    assert world.profiles == {uid(7): {"vip": True}}
    assert world.remembered == []
