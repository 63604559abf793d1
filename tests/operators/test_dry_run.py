"""What a dry run tells of the run that it plans: which values Iterable would refuse."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from airflow_provider_iterable.operators import IterableCatalogOperator, IterableListOperator, IterableUserSyncOperator
from airflow_provider_iterable.state import TableState
from tests.operators.conftest import FIELDS, Make, World, person

COMMON: dict[str, Any] = {"task_id": "sync_users", "sql_conn_id": "warehouse", "primary_key": "id"}
KINDS: dict[str, Any] = {
    "users": lambda **given: IterableUserSyncOperator(
        sql="SELECT * FROM users", email_column="email", fields={"age": "age"}, state=TableState(), **COMMON, **given
    ),
    "lists": lambda **given: IterableListOperator(
        sql="SELECT * FROM users", email_column="email", list_name="VIP", fields={"age": "age"}, state=TableState(),
        **COMMON, **given
    ),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, make_world: Make) -> World:
    """Give a project whose field ``age`` is a long, and a model in which two of five people have none."""
    made = make_world()
    made.create(99, age=1)
    made.rows(*(person(number, age="old" if number in (2, 4) else number) for number in range(1, 6)))
    made.make = KINDS[request.param]  # type: ignore[method-assign]
    return made


def test_a_dry_run_tells_what_would_be_refused(world: World) -> None:
    """For which reason, and which rows; it asks for the types and changes nothing. The run itself says the same."""
    planned = world.run(dry_run=True, max_rejected=0)
    assert world.calls == Counter({FIELDS: 1})
    assert (planned["status"], planned["accepted"], planned["rejected"]) == ("planned", 0, 2)
    assert planned["reasons"] == {"type_mismatch": 2}
    assert (len(world.profiles), world.sandbox.lists) == (1, [])
    done = world.run(max_rejected=1.0)
    assert (done["accepted"], done["rejected"], done["reasons"]) == (3, 2, planned["reasons"])


def test_a_dry_run_with_nothing_to_do_asks_for_nothing(world: World) -> None:
    """And one that does not compare types does not ask either."""
    world.run(max_rejected=1.0)
    world.rows(*(person(number, age=number) for number in (1, 3, 5)))
    world.forget_calls()
    assert world.run(dry_run=True, max_removed=None)["rejected"] == 0
    world.people(1)
    assert world.run(dry_run=True, check_types=False, max_removed=None)["rejected"] == 0
    assert not world.calls


def test_a_dry_run_without_an_answer_is_still_a_plan(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It says what it does not know."""
    world.sandbox.set(disabled_keys=("0123456789abcdef0123456789abcdef",))
    planned = world.run(dry_run=True)
    assert (planned["status"], planned["added"], planned["rejected"]) == ("planned", 5, 0)
    assert "Which rows Iterable would refuse for their values is not known" in caplog.text


def test_a_dry_run_makes_no_catalog(make_world: Make) -> None:
    """Types that are declared count, although nothing has them yet."""
    made = make_world()
    made.people(1, 2)

    def make(**given: Any) -> Any:
        return IterableCatalogOperator(
            table="users", catalog_name="Shop", item_id_column="uid", fields={"name": "name"}, state=TableState(),
            field_types={"name": "long"}, **COMMON, **given
        )  # fmt: skip

    made.make = make  # type: ignore[method-assign]
    planned = made.run(dry_run=True)
    assert (planned["rejected"], planned["reasons"], made.sandbox.catalogs) == (2, {"type_mismatch": 2}, [])
