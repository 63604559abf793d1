"""What whoever is woken by a failed task reads: what failed and where, whose rows, and what is to be done."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.engine import progress
from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.operators.pages import page_of
from airflow_provider_iterable.state import ObjectState, TableState, XComState
from tests.operators.conftest import KEY, Make, World, email, person

BULK = "/api/users/bulkUpdate"
SUMMARY = "airflow_provider_iterable.operators.summary"
LEFT = "What was accepted is remembered. A retry or the next run sends what is left."


def lead_to(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Let the connection lead to another host."""
    connection = {"conn_type": "iterable", "password": KEY, "host": host, "extra": {"project_type": "email"}}
    monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(connection))


def nowhere() -> str:
    """Return an address at which nothing listens."""
    with closed() as found:
        return f"127.0.0.1:{found.getsockname()[1]}"


def closed() -> socket.socket:
    """Return a socket that has a port, and lets nobody in."""
    found = socket.socket()
    found.bind(("127.0.0.1", 0))
    return found


def summary(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    """Return the last summary that was logged."""
    return [record for record in caplog.records if record.name == SUMMARY and " rows read " in record.getMessage()][-1]


def test_a_host_that_cannot_be_reached(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its name comes first, with the port and the error; nothing is in doubt, for nothing was sent."""
    world.people(*range(40))
    host = nowhere()
    lead_to(monkeypatch, f"http://{host}")
    message, report = world.failure(AirflowException)
    assert message == (
        f"{host} could not be reached: ConnectionError (nothing listens there, its name does not resolve, or a "
        f"firewall is in the way; POST {BULK}, 5 tries). 40 rows were deferred (no_answer 40); accepted 0, rejected 0, "
        f"skipped 0. {LEFT}"
    )
    assert (report["deferred"], report["reasons"]) == (40, {"no_answer": 40})
    assert f"  failed    {host} could not be reached: ConnectionError (" in summary(caplog).getMessage()


def test_a_host_whose_name_does_not_resolve(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is said apart from a host that lets nobody in."""
    world.people(1)
    lead_to(monkeypatch, "https://iterable.invalid")
    message, _ = world.failure(AirflowException)
    assert re.match(
        r"iterable\.invalid could not be reached: NameResolutionError \(the host's name does not resolve; POST", message
    )


def test_a_host_that_does_not_speak_https(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a certificate is wrong."""
    world.people(1)
    host = urlsplit(world.sandbox.url).netloc
    lead_to(monkeypatch, f"https://{host}")
    message, _ = world.failure(AirflowException)
    assert message.startswith(f"{host} could not be reached: SSLError (the encrypted connection failed; ")


ANSWERS: dict[str, tuple[dict[str, Any], str, str]] = {
    "dropped": ({"kind": "drop_before"}, " did not answer POST {}: ConnectionError (5 tries). ", "no_answer"),
    "limited": ({"kind": "429"}, " limits the rate of POST {}: HTTP 429 (5 tries). ", "rate_limited"),
    "broken": ({"kind": "5xx_html"}, " gave no usable answer to POST {}: HTTP 503 (5 tries). ", "no_answer"),
    "malformed": ({"kind": "malformed"}, " gave no usable answer to POST {}: HTTP 200 (5 tries). ", "no_answer"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_endpoint_that_gives_no_usable_answer(world: World, answer: str) -> None:
    """Host, endpoint, what came back and how often come first, then the rows by what became of them."""
    fault, words, reason = ANSWERS[answer]
    world.rows(person(1), person(2), person(3, email="nobody"))
    world.sandbox.faults({**fault, "path": BULK, "times": -1})
    message, _ = world.failure(AirflowException, max_rejected=1.0)
    host = urlsplit(world.sandbox.url).netloc
    assert message == (
        f"{host}{words.format(BULK)}2 rows were deferred ({reason} 2); accepted 0, rejected 1 (invalid_email 1), "
        f"skipped 0. {LEFT}"
    )


@pytest.mark.parametrize("path", [BULK, "/api/users/getFields"])
def test_a_key_that_is_refused(world: World, path: str) -> None:
    """By whichever call comes first: the host is told, for the key may be right at another one."""
    world.people(1, 2)
    keys = {"disabled_keys": (KEY,)}

    def revoke(seconds: float) -> None:
        world.sandbox.service.project.options = world.sandbox.service.project.options.changed(keys)

    world.sandbox._server.sleep = revoke
    before = "/api/users/getFields" if path == BULK else "/api/channels"
    world.sandbox.faults({"kind": "slow", "path": before, "seconds": 1})
    message, _ = world.failure(AirflowFailException)
    host = urlsplit(world.sandbox.url).netloc
    assert message.startswith(f"{host}: Iterable refused the API key (HTTP 401 BadApiKey): it is wrong, disabled, ")
    if path == BULK:
        rows = "2 rows were not sent; accepted 0, rejected 0, skipped 0. What was accepted is remembered."
        assert message.endswith(f"{rows} Clear the task when this is mended.")
    else:
        assert message.endswith("No row was sent.")


def test_xcom_remembers_nothing_of_a_failed_try(world: World) -> None:
    """So nothing else is said."""
    world.rows(person(1), person(2, email="nobody"))
    message, _ = world.failure(AirflowFailException, state=XComState(), max_rejected=0)
    assert "accepted 1, skipped 0, deferred 0. XComState remembers nothing of a try that fails, so what was" in message
    assert "is remembered" not in message


def test_too_many_rejected_rows_while_others_are_not_answered(world: World) -> None:
    """Not everything else was delivered then."""
    world.rows(person(1), person(2, email="nobody"))
    world.sandbox.faults({"kind": "5xx_html", "path": BULK, "times": -1})
    message, _ = world.failure(AirflowFailException, max_rejected=0)
    assert "1 of 2 rows were rejected (invalid_email 1; 0 rejected before, 1 new); max_rejected=0 allows 0. " in message
    assert f" gave no usable answer to POST {BULK}: HTTP 503 (5 tries). Of the others: accepted 0, " in message
    assert "deferred 1 (no_answer 1)" in message
    assert "All else was delivered" not in message


def test_the_summary_tells_rejected_rows_apart_from_deferred_ones(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """With what each reason means and where that is explained; rows that were put off with all others have no names."""
    world.rows(person(1), person(2), person(3, email="nobody"), person(4, email=None))
    world.sandbox.faults({"kind": "5xx_html", "path": BULK, "times": -1})
    world.failure(AirflowException, max_rejected=1.0)
    told = summary(caplog).getMessage().splitlines()
    assert told[-10:] == [
        "  rejected: 2 rows (0 rejected before, 2 new)",
        *reason("invalid_email", "1 row (0 rejected before, 1 new)", "the email address is malformed", "key [3]"),
        *reason(
            "no_identifier",
            "1 row (0 rejected before, 1 new)",
            "the column that identifies the user is null or blank",
            "key [4]",
        ),
        "  deferred: 2 rows",
        *reason("no_answer", "2 rows", Reason.NO_ANSWER.sentence),
    ]
    assert sum(line.startswith("  rejected:") for line in told) == 1


def reason(name: str, rows: str, sentence: str, *keys: str) -> list[str]:
    """Return the lines of a reason."""
    return [f"    {name}, {rows}: {sentence}", f"      see {page_of(Reason(name))}", *(f"      {key}" for key in keys)]


@pytest.mark.parametrize(
    ("prepare", "parameters", "kind", "level"),
    [
        (None, {}, None, "INFO"),
        (None, {"sql": "SELECT * FROM users UNION ALL SELECT 9, 'nobody', 'u', 'n', 1, 'c'"}, None, "WARNING"),
        ("401", {}, AirflowFailException, "ERROR"),
        ("503", {}, AirflowException, "ERROR"),
        (None, {"sql": "SELECT * FROM users WHERE 1 = 0"}, AirflowFailException, "ERROR"),
        (None, {"sql": "SELECT nope FROM users"}, AirflowFailException, "ERROR"),
    ],
)
def test_the_summary_of_a_failed_run_is_an_error(
    world: World,
    caplog: pytest.LogCaptureFixture,
    prepare: str | None,
    parameters: dict[str, Any],
    kind: type[AirflowException] | None,
    level: str,
) -> None:
    """Whatever it failed for; that of one that succeeded is none."""
    caplog.set_level(logging.INFO)
    world.people(1, 2)
    if prepare:
        world.sandbox.faults({"kind": "5xx_html", "status": int(prepare), "path": BULK, "times": -1})
    parameters = {"max_rejected": 1.0, **parameters}
    if kind is None:
        world.run(**parameters)
    else:
        world.failure(kind, **parameters)
    assert summary(caplog).levelname == level


def requests(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return the level and the beginning of what was logged of each request."""
    lines = [record for record in caplog.records if re.match(r"(GET|POST|DELETE) /api/\S+: ", record.getMessage())]
    return [(record.levelname, record.getMessage().partition(",")[0]) for record in lines]


def test_requests_are_told_to_who_looks_for_them(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG, but for the first that goes wrong."""
    caplog.set_level(logging.DEBUG)
    world.people(1, 2)
    world.sandbox.faults({"kind": "5xx_html", "path": BULK, "times": 2})
    world.run(sync_id="one")
    assert [line for line in requests(caplog) if BULK in line[1]] == [
        ("INFO", f"POST {BULK}: 503"),
        ("DEBUG", f"POST {BULK}: 503"),
        ("DEBUG", f"POST {BULK}: 200"),
    ]
    assert {level for level, line in requests(caplog) if line.endswith("200")} == {"DEBUG"}


def test_where_an_error_comes_from_is_told_at_debug(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """What led to it is no part of what Airflow shows; no message is, for it may hold values."""
    caplog.set_level(logging.DEBUG)
    world.people(1)
    world.failure(AirflowFailException, sql="SELECT nope FROM users WHERE email = 'secret@example.com'")
    told = [record for record in caplog.records if ", raised in:\n" in record.getMessage()]
    assert {record.levelname for record in told} == {"DEBUG"}
    assert told[0].getMessage().startswith("ModelError, raised in:\n  File ")
    assert "secret" not in "".join(record.getMessage() for record in told)


@pytest.mark.parametrize("audit", ["failures", True])
def test_rows_that_are_rejected_again_are_counted_apart(
    world: World, caplog: pytest.LogCaptureFixture, audit: Any
) -> None:
    """From the audit tables: by the row's key, whatever the reason was; who was accepted since is new."""
    state = TableState(audit=audit)

    def run(*bad: int, **parameters: Any) -> tuple[int, int | None]:
        world.rows(*(person(n, **({"email": "nobody"} if n in bad else {})) for n in range(1, 21)))
        report = world.run(state=state, max_rejected=1.0, **parameters)
        return report["rejected"], report["rejected_before"]

    assert run(1, 2, 3) == (3, 0)
    assert run(1, 2, 3, 4) == (4, 3)
    told = summary(caplog).getMessage()
    assert "  rejected: 4 rows (3 rejected before, 1 new)" in told
    assert "    invalid_email, 4 rows (3 rejected before, 1 new): the email address is malformed" in told
    assert run(4) == (1, 1)
    assert run(1, 4) == (2, 1)
    assert run() == (0, 0)
    assert run(4, dry_run=True) == (1, None)
    message, report = world.failure(AirflowFailException, state=state, max_rejected=0, email_column="name")
    # What is as it was accepted is not tried: of rows 1 and 4 the last that is known is that they were rejected.
    assert (report["rejected"], report["rejected_before"]) == (20, 2)
    assert "20 of 20 rows were rejected (invalid_email 20; 2 rejected before, 18 new)" in message
    message, _ = world.failure(AirflowFailException, state=state, max_rejected=0, email_column="name")
    assert "20 of 20 rows were rejected (invalid_email 20; 20 rejected before, 0 new)" in message


def test_who_is_skipped_now_is_not_rejected_again(world: World) -> None:
    """Though the row was rejected when it was last tried."""
    state = TableState()
    for bad, expected in ((True, (1, 0, 0)), (False, (0, 1, 0)), (True, (1, 0, 0)), (True, (1, 0, 1))):
        world.rows(person(1, **({"email": "nobody"} if bad else {})))
        report = world.run(state=state, mode="update", max_rejected=1.0)
        assert (report["rejected"], report["skipped"], report["rejected_before"]) == expected


@pytest.mark.parametrize("state", ["xcom", "objects", "no audit"])
def test_a_state_that_does_not_know_who_was_rejected_says_nothing(world: World, tmp_path: Any, state: str) -> None:
    """It is not taken for none."""
    stores = {
        "xcom": XComState(),
        "objects": ObjectState(f"file://{tmp_path / 'objects'}"),
        "no audit": TableState(audit=False),
    }
    world.rows(person(1), person(2, email="nobody"))
    for _ in range(2):
        report = world.run(state=stores[state], max_rejected=1.0)
        assert (report["rejected"], report["rejected_before"]) == (1, None)
    message, _ = world.failure(AirflowFailException, state=stores[state], max_rejected=0)
    assert "1 of 2 rows were rejected (invalid_email 1); max_rejected=0 allows 0" in message


def test_what_is_shown_of_many_rejected_rows_is_masked(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The rows are spread over the keys, and nobody is named, where the key is an identifier."""
    world.rows(*(person(n, email=f"person{n}@example..com") for n in range(1, 500)))
    world.run(primary_key="email", max_rejected=1.0)
    told = summary(caplog).getMessage()
    assert told.count("      key [") == 5
    assert "and 494 more" in told
    assert email(1).partition("@")[0] not in told
    assert "@example" not in told


def test_a_run_that_waits_says_so(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it waits for, without a row being settled: an answer comes here once that was said."""
    said = threading.Event()

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "0 of 2 rows settled, waiting for Iterable's answers" in record.getMessage():
                said.set()

    listening = Listening()
    progress.log.addHandler(listening)
    monkeypatch.setattr(progress.log, "level", logging.INFO)
    monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0.001)
    world = make_world(sleep=lambda seconds: said.wait(60.0))
    world.people(1, 2)
    world.sandbox.faults({"kind": "slow", "path": BULK})
    try:
        assert world.run()["accepted"] == 2
    finally:
        progress.log.removeHandler(listening)
    assert said.is_set()
    assert "progress" not in {thread.name for thread in threading.enumerate()}
