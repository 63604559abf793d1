from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_iterable.engine import churn
from airflow_provider_iterable.operators import IterableCatalogOperator
from airflow_provider_iterable.state import TableState, XComState
from airflow_provider_iterable.state.store import Store
from tests.operators.conftest import Make, TaskInstance, World

ROWS = 40
MODEL = "SELECT i AS id, 'p' || i || '@example.com' AS email, 'n' || i AS name, '{load}' AS loaded FROM ({numbers})"
NUMBERS = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 40) SELECT i FROM r"
STORES = [TableState(compare="database"), TableState(compare="worker"), XComState()]


@dataclass
class Loads:
    """A project, a state, and a model that is loaded anew."""

    world: World
    state: Store

    def run(self, load: str, **changes: Any) -> Any:
        """Run the sync after a load."""
        return self.world.run(**self.parameters(load, **changes))

    def parameters(self, load: str, **changes: Any) -> dict[str, Any]:
        """Return the parameters of a run after a load."""
        sql = MODEL.format(load=load, numbers=NUMBERS)
        fields = {"name": "name", "loaded": "loaded"}
        return {"sql": sql, "fields": fields, "state": self.state, **changes}


@pytest.fixture(params=STORES, ids=["database", "worker", "xcom"])
def loads(request: pytest.FixtureRequest, make_world: Make) -> Loads:
    """Give each state."""
    return Loads(make_world("email"), request.param)


def test_a_column_that_always_changes_is_named(loads: Loads, caplog: pytest.LogCaptureFixture) -> None:
    """By the rows that an earlier run noted: in all of them it differs, and the others do not."""
    assert loads.run("monday")["changed_fields"] == {}
    report = loads.run("tuesday")
    assert (report["changed"], report["accepted"], report["resend_reason"]) == (ROWS, ROWS, None)
    assert report["changed_fields"] == {"loaded": churn.SAMPLED}
    assert "40 of 40 remembered rows changed, and neither the mapping nor the way of comparing did." in caplog.text
    assert "these fields differ: loaded (20). A column with another value in each run, such as now()" in caplog.text
    assert loads.run("tuesday")["changed_fields"] == {}
    assert loads.run("wednesday")["changed_fields"] == {"loaded": churn.SAMPLED}


def test_a_dry_run_names_it_too(loads: Loads) -> None:
    """And notes nothing: the run after it finds the same."""
    loads.run("monday")
    for dry in (True, True, False):
        assert loads.run("tuesday", dry_run=dry)["changed_fields"] == {"loaded": churn.SAMPLED}


def test_a_mapping_that_changed_is_no_churn(loads: Loads) -> None:
    """The report says why rows go again."""
    loads.run("monday")
    report = loads.run("monday", fields={"title": "name", "loaded": "loaded"})
    assert (report["changed"], report["changed_fields"]) == (ROWS, {})
    assert report["resend_reason"] is not None


def test_a_run_can_be_kept_from_sending_so_much(loads: Loads) -> None:
    """The message says what differs, nothing is sent, and a higher limit lets it go."""
    loads.run("monday")
    calls = len(loads.world.sandbox.calls)
    message, _ = loads.world.failure(AirflowFailException, **loads.parameters("tuesday", max_changed=0.5))
    assert "40 of 40 remembered rows changed; max_changed=0.5 allows 20. Nothing was sent." in message
    assert "loaded (20)" in message
    assert len(loads.world.sandbox.calls) == calls
    assert loads.run("tuesday", max_changed="1.0")["accepted"] == ROWS


def test_a_note_that_is_none_is_no_sample() -> None:
    """Another version may have written it."""
    assert churn.noted('{"00": {"name": "3f"}}') == {"00": {"name": "3f"}}
    assert churn.noted(None) == churn.noted("nonsense") == churn.noted("[1]") == {}


def test_fields_of_items_are_named_and_items_are_not(make_world: Make) -> None:
    """A body of a catalog has the item under its ID, which is nobody's field."""
    world = make_world("email")

    def run(load: str) -> Any:
        fields = {"name": "name", "loaded": "loaded"}
        sql = MODEL.format(load=load, numbers=NUMBERS)
        operator = IterableCatalogOperator(
            task_id="items", sql=sql, sql_conn_id="warehouse", primary_key="id", fields=fields,
            catalog_name="shop", state=TableState(),
        )  # fmt: skip
        context: dict[str, Any] = {
            "run_id": load,
            "ti": TaskInstance(load, world.xcoms, 1),
            "inlet_events": {operator.asset: []},
            "outlet_events": {operator.asset: SimpleNamespace(extra=None)},
        }
        return operator.execute(context)  # type: ignore[arg-type]  # a context of dicts is enough

    assert run("monday")["changed_fields"] == {}
    assert run("tuesday")["changed_fields"] == {"loaded": churn.SAMPLED}
