"""Rows that Iterable always answers with an error of its own, and an Iterable that answers nothing else, over HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_iterable.engine.broken import PROBES
from airflow_provider_iterable.engine.report import REPORT_KEY
from airflow_provider_iterable.engine.tries import Patience
from tests.operators.conftest import STORES, WRITES, Scene

MODEL = """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
    SELECT i AS id, 'person' || i || '@example.com' AS email, 'sku-' || i AS sku, 'name' || i AS name FROM n
"""
TEXTS = {"users": "person{}@", "lists": "person{}@", "catalogs": '"sku-{}"'}
"""What stands in a request that holds a row, and in no other."""
BATCHES, HALVES = 8, 10


def sync(scene: Scene, rows: int) -> Any:
    """Run with so many people as the model, in eight batches."""
    return scene.run(sql=MODEL.format(rows=rows), batch_size=rows // BATCHES)


def fail(scene: Scene, rows: int) -> tuple[str, Any]:
    """Run into an error that is worth a retry; return what it says, and the report."""
    with pytest.raises(AirflowException) as failed:
        sync(scene, rows)
    return str(failed.value), scene.xcoms[f"run-{scene.runs}", REPORT_KEY]


def writes(scene: Scene) -> int:
    """Return how many requests with rows were made."""
    return sum(count for call, count in scene.calls.items() if call.endswith(WRITES[scene.kind]))


MANY = pytest.param("sqlite, database", 8000, marks=pytest.mark.slow)
LARGE = [MANY, *((store, 80) for store in STORES)]


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize(("scene", "rows"), LARGE, indirect=["scene"])
def test_four_poisonous_rows_cost_four_rows(scene: Scene, kind: str, rows: int) -> None:
    """All others arrive in the same run, for a few requests each; the four are in doubt, and go when they can."""
    scene.kind, batch = kind, rows // BATCHES
    culprits = {1, batch + batch // 2, 3 * batch, 3 * batch + 1}  # each in another one of the first batches
    for number in culprits:
        scene.sandbox.faults({"kind": "poison", "text": TEXTS[kind].format(number)})
    message, report = fail(scene, rows)
    assert (
        f" gave no usable answer to POST {WRITES[kind]}: HTTP 500 (5 tries). 4 rows were deferred (server_error 4)"
        in message
    )
    assert (report["accepted"], report["deferred"], report["reasons"]) == (rows - 4, 4, {"server_error": 4})
    everybody = set(range(1, rows + 1))
    assert scene.held.keys() == everybody - culprits
    made, tries = writes(scene), Patience().tries
    # Besides the tries of whole batches: for each row its halves, itself twice, and the others of its batch.
    assert made <= BATCHES + 4 * (tries - 1) + 4 * (HALVES + 3) + PROBES
    scene.sandbox.service.faults.clear()
    scene.forget_calls()
    assert sync(scene, rows)["accepted"] == 4
    assert scene.held.keys() == everybody
    assert writes(scene) == 1
    scene.forget_calls()
    assert sync(scene, rows)["unchanged"] == rows
    assert not scene.calls


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize(("scene", "rows"), [MANY, ("sqlite, database", 8)], indirect=["scene"])
def test_an_endpoint_that_is_dead_ends_the_run(scene: Scene, kind: str, rows: int) -> None:
    """It is not taken for poison, however many rows there are, and a later run delivers everything."""
    scene.kind = kind
    scene.sandbox.faults({"kind": "5xx_html", "path": WRITES[kind], "times": -1, "status": 503})
    message, report = fail(scene, rows)
    assert message.startswith(
        f"{urlsplit(scene.sandbox.url).netloc} gave no usable answer to POST {WRITES[kind]}: HTTP 503"
    )
    assert f"(5 tries). {rows} rows were deferred (no_answer {rows})" in message
    assert report["accepted"] == 0
    patience = Patience()
    # The rows that go first come before all that, for the fields are new.
    alone = patience.tries + PROBES
    assert writes(scene) <= alone + (patience.in_flight + patience.unanswered - 1) * patience.tries + PROBES
    scene.sandbox.service.faults.clear()
    assert sync(scene, rows)["accepted"] == rows
    assert scene.held.keys() == set(range(1, rows + 1))


def test_a_poisonous_removal_stops_no_other(scene: Scene) -> None:
    """Somebody who cannot be deleted now is deleted by a later run."""
    people = dict.fromkeys(range(1, 21), "x")
    scene.sync(people)
    scene.sandbox.faults({"kind": "poison", "text": "person7@"})
    with pytest.raises(AirflowException, match=r"1 rows were deferred \(server_error 1\)"):
        scene.run(sql=f"{MODEL.format(rows=20)} WHERE i > 10", max_removed=None)
    assert scene.held.keys() == {7, *range(11, 21)}
    scene.sandbox.service.faults.clear()
    scene.run(sql=f"{MODEL.format(rows=20)} WHERE i > 10", max_removed=None)
    assert scene.held.keys() == set(range(11, 21))


@pytest.mark.parametrize("scene", ["sqlite, database"], indirect=True)
def test_a_rate_limit_that_asks_for_a_longer_wait_than_there_is_time(scene: Scene) -> None:
    """All rows are put off at once, and the task's message says for how long Iterable wants to be left alone."""
    scene.sandbox.faults({"kind": "429", "path": WRITES["users"], "times": 1, "seconds": 900})
    message, report = fail(scene, 80)
    accepted = report["accepted"]
    assert f"{80 - accepted} rows were deferred (rate_limited {80 - accepted})" in message
    assert "Iterable asks to come back in 900 s." in message
    assert report["seconds"]["deliver"] < 60
    assert writes(scene) <= Patience().in_flight
