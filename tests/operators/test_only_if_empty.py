"""``Column(..., only_if_empty=True)``: a profile gets the field once, and keeps what it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import Column, Source
from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
    IterableEventOperator,
    IterableListOperator,
)
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.sandbox.options import ProjectType
from airflow_provider_iterable.state import TableState
from tests.operators.conftest import BULK, FIELDS, Make, World, email, identifier, person
from tests.operators.test_explain import explained
from tests.operators.test_users import LOOK_UP, PROJECTS

ONCE: dict[str, Source] = {
    "firstName": Column("name", only_if_empty=True),
    "age": "age",
    "address.city": Column("city", only_if_empty=True),
}
SPARED: dict[str, Any] = {"fields": ONCE}
projects = pytest.mark.parametrize("project_type", PROJECTS)


def whole(number: int, **changes: Any) -> dict[str, Any]:
    """Return what a person's row is for a profile that has nothing."""
    return {"firstName": f"Name {number}", "age": number, "address": {"city": "London"}, **changes}


@projects
@pytest.mark.parametrize("mode", ["upsert", "update"])
def test_only_profiles_without_it_get_a_field(make_world: Make, project_type: ProjectType, mode: str) -> None:
    """Null and missing are empty, a blank text is not; the other fields arrive, and those beside a nested one stay."""
    world = make_world(project_type)
    who = [identifier(project_type, number) for number in range(7)]
    world.create(1, firstName="Ada", address={"city": "Paris", "street": "Rue"})
    world.create(2, address={"street": "Way"})
    world.create(3, firstName=None, address={"city": None, "street": "Path"})
    world.create(4, firstName="", address={"city": "Rome"})
    world.create(5, vip=True)
    world.people(*range(1, 7))
    report = world.run(**SPARED, mode=mode)
    known = {
        who[1]: {"firstName": "Ada", "age": 1, "address": {"city": "Paris", "street": "Rue"}},
        who[2]: whole(2, address={"street": "Way", "city": "London"}),
        who[3]: whole(3, address={"street": "Path", "city": "London"}),
        who[4]: {"firstName": "", "age": 4, "address": {"city": "Rome"}},
        who[5]: whole(5, vip=True),
    }
    created = mode == "upsert"
    assert world.profiles == ({**known, who[6]: whole(6)} if created else known)
    assert (report["accepted"], report["skipped"]) == (5 + created, 1 - created)
    assert world.calls[LOOK_UP[project_type]] == 6
    assert set(world.calls) == {FIELDS, LOOK_UP[project_type], BULK}


@pytest.mark.parametrize("compare", ["auto", "worker"])
def test_a_changed_value_is_not_sent_over_and_over(world: World, compare: Any) -> None:
    """It costs one look-up, which finds that the profile has a value; then the row is unchanged."""
    options: dict[str, Any] = {**SPARED, "state": TableState(compare=compare)}
    world.people(1)
    world.run(**options)
    world.people(1, name="Other")
    world.forget_calls()
    report = world.run(**options)
    assert (report["changed"], report["accepted"]) == (1, 1)
    assert world.calls[LOOK_UP["email"]] == 1
    world.forget_calls()
    assert world.run(**options)["unchanged"] == 1
    assert world.calls == {}
    assert world.profiles == {email(1): whole(1)}


@pytest.mark.parametrize("compare", ["auto", "worker"])
@pytest.mark.parametrize("nulls", ["send", "skip"])
def test_a_null_is_not_sent_and_a_later_value_is(world: World, compare: Any, nulls: str) -> None:
    """Whatever the policy of the sync: a null never empties the field, and what the model has later still fills it."""
    options: dict[str, Any] = {**SPARED, "state": TableState(compare=compare), "nulls": nulls}
    world.people(1, name=None, city=None)
    world.run(**options)
    assert world.profiles == {email(1): {"age": 1}}
    world.people(1)
    world.run(**options)
    assert world.profiles == {email(1): whole(1)}
    world.people(1, name=None, city=None)
    world.run(**options)
    assert world.profiles == {email(1): whole(1)}


@pytest.mark.parametrize(
    ("extra", "match", "flag"),
    [
        ({"update_only": True}, {"email_column": "email"}, b'"updateOnly":true'),
        ({}, {"user_id_column": "uid"}, b'"preferUserId":false'),
    ],
)
def test_the_writing_call_of_update_mode_stays_what_it_was(
    make_world: Make, extra: dict[str, Any], match: dict[str, Any], flag: bytes
) -> None:
    """A user deleted after the look-up is not created, where Iterable has a way to say so."""
    world = make_world(extra=extra, update_only_enabled=True, record_bodies=10)
    world.create(1, firstName="Ada")
    world.people(1)
    assert world.run(**SPARED, mode="update", **match)["accepted"] == 1
    (sent,) = [call.request for call in world.sandbox.calls if call.template == "/api/users/bulkUpdate"]
    assert flag in str(sent).encode()
    assert world.profiles == {email(1): {"firstName": "Ada", "age": 1, "address": {"city": "London"}}}


@projects
@pytest.mark.parametrize("path", ["/api/users/bulkUpdate", "/api/users"])
@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "malformed", "5xx_html"])
def test_lost_answers_do_no_harm(make_world: Make, project_type: ProjectType, kind: str, path: str) -> None:
    """Wherever answers are lost: what a profile had stays, and at the end all is as if nothing had happened."""
    world = make_world(project_type, seed=13)
    for number in (1, 2, 3):
        world.create(number, firstName="Ada")
    world.people(*range(1, 9))
    world.sandbox.faults({"kind": kind, "path": path, "times": 14, "probability": 0.5})
    world.patiently(**SPARED, batch_size=2, tries=12)
    expected = {identifier(project_type, n): whole(n, **({"firstName": "Ada"} if n < 4 else {})) for n in range(1, 9)}
    assert world.profiles == expected
    world.sandbox.service.faults.clear()
    world.forget_calls()
    assert world.run(**SPARED)["unchanged"] == 8
    assert world.calls == {}


@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
def test_what_a_lost_request_wrote_is_found_by_the_next_run(world: World, kind: str) -> None:
    """The model says something else meanwhile: it counts only if the first request did not arrive."""
    world.people(1)
    world.sandbox.faults({"kind": kind, "path": "/api/users/bulkUpdate", "times": -1})
    world.failure(AirflowException, **SPARED)
    assert world.in_doubt == ["[1]"]
    world.sandbox.service.faults.clear()
    world.people(1, name="Other", age=50)
    assert world.retry(**SPARED)["accepted"] == 1
    arrived = kind == "drop_after"
    assert world.profiles == {email(1): whole(1, age=50, **({} if arrived else {"firstName": "Other"}))}


def test_clearing_spares_it(world: World) -> None:
    """What the profile has there may not come from the model."""
    world.create(1, firstName="Ada")
    world.people(1)
    world.run(**SPARED, on_removed="clear")
    world.people()
    world.run(**SPARED, on_removed="clear", allow_empty=True)
    assert world.profiles == {email(1): {"firstName": "Ada", "address": {"city": "London"}}}


@pytest.mark.parametrize("compare", ["auto", "worker"])
def test_turning_it_off_has_rows_go_again(world: World, compare: Any) -> None:
    """The field was not kept equal, though the row is what it was."""
    options: dict[str, Any] = {"nulls": "skip", "state": TableState(compare=compare)}
    world.create(1, firstName="Ada")
    world.people(1)
    world.run(**SPARED, **options)
    report = world.run(**options)
    assert (report["changed"], report["accepted"]) == (1, 1)
    assert world.profiles == {email(1): whole(1)}


def test_several_rows_about_one_person(world: World) -> None:
    """The smallest key fills the field, and the others leave it alone."""
    world.rows(person(3, email=email(1)), person(1), person(2, email=email(1)))
    assert world.run(**SPARED)["accepted"] == 3
    assert world.profiles == {email(1): whole(1, age=3)}


def test_a_value_of_the_wrong_type_is_rejected_first(world: World) -> None:
    """The field has a type, whether or not the profile has a value; ``salvage`` lets the rest go."""
    world.create(9, firstName=5)
    world.people(1)
    report = world.run(**SPARED, max_rejected=1.0)
    assert report["reasons"] == {"type_mismatch": 1}
    assert world.run(**SPARED, salvage=True)["partial"] == 1
    assert world.profiles[email(1)] == {"age": 1, "address": {"city": "London"}}


def test_a_field_that_the_profile_has_is_not_left_out(make_world: Make) -> None:
    """Iterable names fields that it left out: only of rows that carried them."""
    world = make_world()
    world.create(1, firstName="Ada")
    world.people(1)
    report = world.run(
        fields={"firstName": Column("name", only_if_empty=True), "tier": "city"}, create_new_fields=False
    )
    assert report["left_out"] == {"tier": 1}


def test_what_the_log_a_dry_run_and_an_explanation_say(world: World, heard: Callable[[], str]) -> None:
    """What it costs, what would be faster, and which fields the run decides about."""
    world.people(1, 2)
    report = world.run(**SPARED, dry_run=True)
    said = "Only profiles without them get the fields firstName, address.city, which only the run finds out."
    assert said in report["notes"]
    assert [line["endpoint"] for line in report["forecast"]] == [LOOK_UP["email"], BULK]
    text = heard()
    assert (
        "each user is looked up first (100 a second), for only_if_empty (firstName, address.city); "
        "faster without it, up to 5,000 rows a second" in text
    )
    told = explained(world, "1", **SPARED)
    assert (told.operation, told.endpoints) == ("upsert users", [LOOK_UP["email"], BULK])
    assert said in told.notes


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (IterableEventOperator, {"event_name": "Seen", "email_column": "email"}),
        (IterableListOperator, {"list_name": "VIP", "email_column": "email"}),
        (IterableCatalogOperator, {"catalog_name": "Shop"}),
        (
            IterableEventOperator,
            {
                "event_type": "cart",
                "items_column": "items",
                "email_column": "email",
                "fields": None,
                "user_fields": ONCE,
                "state": TableState(),
            },
        ),
    ],
)
def test_other_syncs_refuse_it(kind: type[IterableModelOperator], parameters: dict[str, Any]) -> None:
    """When the DAG is parsed: nothing of theirs looks at a profile first."""
    options = {"task_id": "t", "table": "t", "sql_conn_id": "w", "primary_key": "id", "fields": ONCE, **parameters}
    with pytest.raises(
        ConfigurationError, match=r"only_if_empty \(firstName, address.city\) is for the profile fields"
    ):
        kind(**options)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"mode": "create"}, 'says nothing with mode="create"'),
        ({"mode": "update", "recheck_known_users": "never"}, 'recheck_known_users="never" is not to'),
        ({"merge_nested_objects": False}, r"only_if_empty \(address.city\) needs objects to be merged"),
        ({"fields": {"a": Column("a", nulls="send", only_if_empty=True)}}, "never sends a null"),
        ({"fields": {"a": Column("a", only_if_empty="yes")}}, "must be True or False"),  # type: ignore[arg-type]
    ],
)
def test_what_it_does_not_go_together_with(world: World, parameters: dict[str, Any], message: str) -> None:
    """Said when the DAG is parsed."""
    with pytest.raises(ConfigurationError, match=message):
        world.make(**{**SPARED, **parameters})
