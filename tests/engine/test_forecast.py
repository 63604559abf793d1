from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_iterable.engine.forecast import Expected, Forecast, Horizon, Waiting, forecast, lasting, moment
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.spool import Spool
from airflow_provider_iterable.engine.vocabulary import Call, Row
from airflow_provider_iterable.errors import DeadlineMissed
from tests.engine.test_run import PEOPLE, Stage
from tests.fakes import a_call, an_operation

SIX = datetime(2026, 5, 31, 6, 0, tzinfo=UTC)


def known(call: Call, requests: int) -> Expected:
    """Expect the rate of a call, and answers of a second."""
    return Expected(call.rate, True, requests / call.rate + 1, None, 1.0)


def foreseen(*counts: tuple[Call, int], removals: Sequence[tuple[Call, int]] = (), **horizon: Any) -> Forecast:
    """Return the forecast of a plan that makes some calls for so many rows each."""
    with closing(Spool()) as rows, closing(Spool()) as removed:
        plan = Plan(rows, removed)
        for kind, calls in ((Kind.ADDED, counts), (Kind.REMOVED, removals)):
            for call, number in calls:
                for key in range(number):
                    plan.count(an_operation(str(key), call, kind=kind, body=b"[" + b"1" * 98), call)
        return forecast(plan, 500, Horizon(**{"outlook": known, "now": lambda: SIX, **horizon}))


def looking_up(then: Call) -> Call:
    """Return a look-up, 100 a second."""
    return a_call(items=1, rate=100, then=then, name="/look", reads=True)


def test_requests_are_full_batches() -> None:
    """As many rows as the operator allows, or the endpoint."""
    found = foreseen((a_call(rate=5), 1001), removals=[(a_call(items=1, rate=100, name="/delete"), 200)])
    assert [(line.endpoint, line.rows, line.requests) for line in found.lines] == [
        ("POST /call", 1001, 3),
        ("POST /delete", 200, 200),
    ]


def test_requests_of_large_rows_are_full_of_bytes() -> None:
    """A hundred bytes a row: ten rows in a thousand bytes, less the envelope."""
    assert foreseen((a_call(rate=5, size=1050, envelope=50), 100)).lines[0].requests == 10


def test_rows_that_are_not_sent_after_all_count_for_nothing() -> None:
    """Neither they nor their bytes."""
    call = a_call(rate=5, size=100)
    with closing(Spool()) as rows, closing(Spool()) as removed:
        plan, large = Plan(rows, removed), an_operation("1", call, body=b"1" * 1000)
        plan.count(large, call)
        plan.count(an_operation("2", call, body=b"1"), call)
        plan.uncount(large, call)
        assert forecast(plan, 500, Horizon()).lines[0].requests == 1


def test_what_removes_comes_after_what_writes() -> None:
    """So both count; and two endpoints that write go side by side, so that the slower one counts."""
    write, event = a_call(items=1, rate=10), a_call(items=1, rate=20, name="/event")
    delete = a_call(items=1, rate=100, name="/delete")
    found = foreseen((write, 100), (event, 100), removals=[(delete, 100)])
    assert found.seconds == (100 / 10 + 1) + (100 / 100 + 1)
    assert found.decisive == {"POST /call", "POST /delete"}


def test_an_endpoint_that_writes_and_removes_is_told_once() -> None:
    """Its rows, requests and seconds are those of both."""
    found = foreseen((a_call(items=1, rate=10), 100), removals=[(a_call(items=1, rate=10), 50)])
    assert [(line.rows, line.requests, line.expected.seconds) for line in found.lines] == [(150, 150, 17.0)]
    assert found.seconds == 17.0


def test_a_look_up_goes_on_to_its_update() -> None:
    """Both calls are made, one beside the other: the slower one counts, and the last answer of the other one."""
    update = a_call(rate=5, name="/update", then=a_call(items=1, rate=1, name="/doubt"))
    found = foreseen((looking_up(update), 1000))
    assert [(line.endpoint, line.requests) for line in found.lines] == [("POST /look", 1000), ("POST /update", 2)]
    assert found.seconds == 1000 / 100 + 1 + 1


def test_what_follows_a_write_is_not_foreseen() -> None:
    """It is for answers that leave something open."""
    found = foreseen((a_call(items=1, rate=10, then=a_call(items=1, rate=1, name="/doubt")), 10))
    assert [line.endpoint for line in found.lines] == ["POST /call"]


def test_users_that_are_looked_up_and_users_that_are_not_share_the_update() -> None:
    """Its requests are those of both."""
    update, known_users = a_call(rate=5, name="/update"), a_call(rate=5, name="/update")
    found = foreseen((looking_up(update), 500), (known_users, 600))
    assert [(line.endpoint, line.rows, line.requests) for line in found.lines] == [
        ("POST /look", 500, 500),
        ("POST /update", 1100, 3),
    ]


def test_rows_may_have_to_wait() -> None:
    """The requests are those of this run, and the end is when the last row can go."""
    until = SIX + timedelta(days=2)

    def waiting(rows: int) -> list[Waiting]:
        return [Waiting(rows - 1000, "a quota", until), Waiting(5, "later runs")]

    found = foreseen((a_call(items=1, rate=10), 2500), waiting=waiting)
    assert (found.lines[0].requests, found.rows, found.done, found.end) == (
        995,
        995,
        SIX + timedelta(seconds=100.5),
        until,
    )
    assert found.sentences()[1:] == [
        "1,500 rows wait for a quota: the last can go in 2 days, from 2026-06-02 06:00 UTC on.",
        "5 rows wait for later runs.",
        "All of this run is expected to be done in 1.7 min, at 2026-05-31 06:01 UTC.",
    ]
    assert found.to_list()[0]["waiting"] == 1505
    assert found.to_list()[0]["end"] == "2026-06-02T06:00:00Z"


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (Expected(2.5, True, 200.0), "200 requests, 3.3 min at the rate limit of 2.5 a second."),
        (
            Expected(300.0, False, 4.0, 8.0),
            "200 requests, 4 s at the pace that is tried where no rate is documented, up to 300 a second; 8 s at the "
            "pace measured in an earlier run.",
        ),
    ],
)
def test_an_endpoint_is_told_with_its_pace(expected: Expected, words: str) -> None:
    """What is measured decides when all is done, and the report has both."""
    found = foreseen((a_call(items=1), 200), outlook=lambda call, requests: expected)
    assert found.sentences()[0] == f"200 rows through POST /call: about {words}"
    assert found.seconds == expected.likely
    entry = found.to_list()[0]
    assert (entry["rate"], entry["documented"]) == (expected.rate, expected.known)
    assert (entry["seconds"], entry["measured_seconds"]) == (expected.seconds, expected.measured)
    assert json.loads(json.dumps(entry)) == entry


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.64, "0.6 s"),
        (12.3, "12 s"),
        (89, "89 s"),
        (90, "1.5 min"),
        (5400, "1.5 h"),
        (3 * 86_400, "3 days"),
    ],
)
def test_lengths_of_time_are_for_people(seconds: float, words: str) -> None:
    """Two digits are enough."""
    assert lasting(seconds) == words


def test_moments_are_told_in_utc() -> None:
    """Whatever zone they are in."""
    assert moment(datetime(2026, 5, 31, 8, 0, tzinfo=timezone(timedelta(hours=2)))) == "2026-05-31 06:00 UTC"


ROWS: list[Row] = [(str(n), f"{n}@x.io", 1) for n in range(1200)]


def test_a_deadline_that_would_be_missed_lets_nothing_go() -> None:
    """The message says how many rows would be done when, and what helps; state and Iterable stay as they are."""
    for dry_run in (False, True):
        stage = Stage(("9", "9@x.io", 1))
        horizon = Horizon(deadline=SIX + timedelta(minutes=1), action="fail", now=lambda: SIX)
        with pytest.raises(DeadlineMissed) as caught:
            stage.run(*ROWS, horizon=horizon, dry_run=dry_run)
        assert str(caught.value).startswith(
            "1,199 rows would be done at 2026-05-31 06:02 UTC, 60 s after the deadline (2026-05-31 06:01 UTC). 1,199 "
            "rows through POST /write: about 600 requests, 2 min at the rate limit of 5 a second. Nothing was sent. "
        )
        for words in ("rate_share", "max_in_flight", "partitions", 'deadline_action="warn"'):
            assert words in str(caught.value)
        assert ([], []) == (stage.sender.history, stage.state.patches)
        assert caught.value.report is not None
        assert (caught.value.report["status"], caught.value.report["forecast"][0]["requests"]) == ("failed", 600)


def test_a_deadline_that_would_be_missed_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Everything goes all the same."""
    stage = Stage()
    horizon = Horizon(deadline=SIX - timedelta(days=3), now=lambda: SIX)
    assert stage.run(*PEOPLE, horizon=horizon)["accepted"] == len(PEOPLE)
    assert any(
        "5 rows would be done at 2026-05-31 06:00 UTC, 3 days after the deadline" in note for note in stage.report.notes
    )
    assert [record.levelname for record in caplog.records if "after the deadline" in record.message] == ["WARNING"]


@pytest.mark.parametrize("rows", [PEOPLE, []])
def test_a_deadline_that_is_kept_is_not_told(rows: list[Row]) -> None:
    """Also one that is over, if there is nothing to send."""
    stage = Stage(*([] if rows else PEOPLE))
    deadline = SIX + timedelta(seconds=0.6) if rows else SIX - timedelta(days=1)
    stage.run(*(rows or PEOPLE), horizon=Horizon(deadline=deadline, action="fail", now=lambda: SIX))
    assert not [note for note in stage.report.notes if "deadline" in note]


def test_the_log_tells_the_forecast_before_the_first_request(caplog: pytest.LogCaptureFixture) -> None:
    """And not when there is nothing to send."""
    caplog.set_level("INFO")
    stage = Stage()
    stage.run(*PEOPLE, horizon=Horizon(now=lambda: SIX))
    told = [message for message in caplog.messages if "is expected to be done" in message]
    assert told == [
        "Sync sync:\n  5 rows through POST /write: about 3 requests, 0.6 s at the rate limit of 5 a second.\n"
        "  All is expected to be done in 0.6 s, at 2026-05-31 06:00 UTC."
    ]
    stage.run(*PEOPLE)
    assert stage.report.to_dict()["forecast"] == []
    assert len([message for message in caplog.messages if "expected" in message]) == 1
