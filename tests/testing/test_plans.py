"""Expected plans and contracts, about reports as operators return them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_iterable.engine.report import REPORT_KEY
from airflow_provider_iterable.errors import CannotRetry
from airflow_provider_iterable.operators import IterableUserSyncOperator
from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.testing import assert_fields
from airflow_provider_iterable.testing.plans import assert_plan, stable_parts
from airflow_provider_iterable.testing.running import Runs, TaskInstance
from tests.operators.conftest import Make, make_world

__all__ = ["make_world"]


@pytest.fixture
def report(make_world: Make) -> dict[str, Any]:
    """The report of a dry run, of four people of whom one has no name."""
    world = make_world("email")
    world.people(1, 2, 3)
    world.rows((1, "a@example.com", "1", "Ada", 1, "Rome"), (2, "b@example.com", "2", None, 2, "Oslo"))
    return Runs()(world.make(), dry_run=True)


FIELDS = {"firstName": "string", "age": "long", "address.city": "string"}


def test_a_kept_contract_passes(report: dict[str, Any]) -> None:
    """Types by field, and nothing else where that is said."""
    assert_fields(report, FIELDS, of="profile", only=True, filled=["age"])
    assert_fields(report, {"email": "string", "age": "long"})


@pytest.mark.parametrize(
    ("expected", "options", "said"),
    [
        ({**FIELDS, "age": "string"}, {}, "age: expected string, found long (from age: integer)"),
        ({**FIELDS, "pets": "object"}, {}, "pets: expected object, found no row that sends it"),
        ({"age": "long"}, {"of": "profile", "only": True}, "firstName: expected nothing, found string (from name"),
        ({"email": "string"}, {"of": "profile"}, "email: expected string, found no row that sends it"),
        (FIELDS, {"filled": ["firstName"]}, "firstName: expected a value in each of 2 rows, found one in 1"),
        (FIELDS, {"filled": ["pets"]}, "pets: expected a value in each of 2 rows, found one in 0"),
    ],
)
def test_a_broken_contract_names_what_breaks_it(
    report: dict[str, Any], expected: dict[str, str], options: dict[str, Any], said: str
) -> None:
    """Field, expected, found."""
    with pytest.raises(AssertionError) as failed:
        assert_fields(report, expected, **options)
    assert said in str(failed.value)


def test_a_field_that_may_not_be_made_is_no_field(make_world: Make) -> None:
    """It would be left out, so the contract is broken."""
    world = make_world("email")
    world.people(1)
    report = Runs()(world.make(create_new_fields=False, max_rejected=10), dry_run=True)
    with pytest.raises(AssertionError, match="age: expected long, found a field that Iterable does not have"):
        assert_fields(report, {"age": "long"})


def test_a_run_has_no_plan(make_world: Make) -> None:
    """Only a dry run does, and that is said."""
    world = make_world("email")
    world.people(1)
    report = Runs()(world.make())
    for check in (lambda: stable_parts(report), lambda: assert_fields(report, {})):
        with pytest.raises(ValueError, match="dry_run=True"):
            check()


def test_a_plan_is_the_same_twice(make_world: Make, tmp_path: Path) -> None:
    """Of the same rows, whatever the time, the run and the batches."""
    world = make_world("email")
    world.people(*range(1, 30))
    runs, path = Runs(), tmp_path / "deep" / "plan.json"
    assert_plan(runs(world.make(), dry_run=True), path, update=True)
    assert_plan(runs(world.make(batch_size=7), dry_run=True), path)
    world.people(*range(1, 31))
    with pytest.raises(AssertionError) as failed:
        assert_plan(runs(world.make(), dry_run=True), path)
    assert {'-    "added": 29,', '+    "added": 30,'} <= set(str(failed.value).splitlines())
    assert json.loads(path.read_text("utf-8"))["rows"]["added"] == 29


def test_a_plan_shows_all_fields(make_world: Make) -> None:
    """Also those beyond the 50 that a report has in production."""
    world = make_world("email")
    names = [f"f{number}" for number in range(60)]
    world.rows((1, "a@example.com", *range(60)), columns=("id", "email", *names))
    report = Runs()(world.make(fields={name: name for name in names}), dry_run=True)
    assert_fields(report, dict.fromkeys(names, "long"))


def test_runs_follow_each_other(make_world: Make) -> None:
    """What XCom remembers is there in the next run; a dry run remembers nothing, and the operator stays as it was."""
    from airflow_provider_iterable.state import XComState

    world = make_world("email")
    world.people(1, 2)
    runs, operator = Runs(), world.make(state=XComState())
    assert runs(operator, dry_run=True)["added"] == 2
    assert not operator.dry_run
    assert runs(operator)["accepted"] == 2
    report = runs(operator)
    assert (report["unchanged"], report["accepted"]) == (2, 0)


def test_templates_are_rendered(make_world: Make) -> None:
    """By the context of the run, the DAG's parameters and what the caller adds; the operator keeps its templates."""
    world = make_world("email")
    world.people(1, 2, 3)
    with DAG("d", params={"most": 2}):
        operator = world.make(sql="SELECT * FROM users WHERE id <= {{ params.most }} AND '{{ ds }}' = '2024-05-01'")
    assert isinstance(operator, IterableUserSyncOperator)
    assert Runs()(operator, dry_run=True, ds="2024-05-01", allow_empty=True)["read"] == 2
    assert "{{ ds }}" in str(operator.sql)


def test_a_failure_is_raised(make_world: Make) -> None:
    """As in Airflow, with the report left in XCom."""
    world = make_world("email")
    world.rows()
    operator = world.make()
    instance = TaskInstance("r", operator)
    with pytest.raises(CannotRetry, match="no rows"):
        Runs()(operator, ti=instance)
    found: Mapping[str, Any] = instance.xcom_pull(key=REPORT_KEY)
    assert (found["status"], instance.dag_id, instance.task_id) == ("failed", operator.dag_id, "sync_users")


def test_the_sandbox_takes_content(make_world: Make) -> None:
    """What a project has already decides about types."""
    world = make_world("email")
    sandbox: Sandbox = world.sandbox
    sandbox.seed(users=[{"email": "z@example.com", "dataFields": {"age": "old"}}])
    world.people(1)
    report = Runs()(world.make(max_rejected=10), dry_run=True)
    assert_fields(report, {"age": "string"})
