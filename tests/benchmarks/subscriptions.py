"""``python -m tests.benchmarks.subscriptions``: people and message types from Postgres into a sandbox, and unchanged.

Prints wall time, CPU time of the client process, rows per second and requests; fails where the first sync takes more
requests than its rows need.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from typing import Any

import psycopg

from tests.benchmarks.measuring import context, environment, sandbox, used
from tests.services import postgres_uri

SCHEMA = "iterable_bench_subscriptions"
TYPES = (102165, 102167, 102168)
"""Message types that each project of a sandbox has."""
BESIDE = 20
"""Requests that a first sync may take beside those that carry its rows."""


def seed(connection: psycopg.Connection[Any], people: int) -> None:
    """Make a table of subscriptions, of which nine in ten stand."""
    connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    connection.execute(f"CREATE SCHEMA {SCHEMA}")
    connection.execute(
        f"CREATE TABLE {SCHEMA}.subscriptions AS SELECT 'user' || n || '@example.com' AS email, kind, n %% 10 > 0 AS "
        "subscribed, timestamp '2026-01-01' AS since FROM generate_series(1, %s) AS n, unnest(%s::bigint[]) AS kind",
        (people, list(TYPES)),
    )


def sync(name: str, rows: int, **parameters: Any) -> int:
    """Run the operator, print a line of the table and return how many requests it took."""
    from airflow_provider_iterable.operators import IterableSubscriptionOperator
    from airflow_provider_iterable.state import TableState

    operator = IterableSubscriptionOperator(
        task_id="sync",
        table=f"{SCHEMA}.subscriptions",
        sql_conn_id="warehouse",
        email_column="email",
        subscription_type="message_type",
        subscription_id_column="kind",
        subscribed_column="subscribed",
        consent_at_column="since",
        max_subscribed=None,
        state=TableState(schema=SCHEMA),
        **parameters,
    )
    operator._sql_hook(None).get_conn().close()  # what Airflow imports on the way is not the sync's doing
    report = used(lambda: operator.execute(context()))
    wall, cpu = report["wall"], report["cpu"]
    requests = sum(number for statuses in report["requests"].values() for number in statuses.values())
    print(
        f"{name:<34} {wall:8.1f} {cpu:8.1f} {rows / wall:10,.0f} {requests:9,}   accepted {report['accepted']:,}, "
        f"unchanged {report['unchanged']:,}",
        flush=True,
    )
    return int(requests)


def main() -> None:
    """Run all phases and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.subscriptions", description=__doc__)
    parser.add_argument("--people", type=int, default=100_000)
    people = parser.parse_args().people
    rows = people * len(TYPES)
    uri = postgres_uri()
    with psycopg.connect(uri, autocommit=True) as connection, tempfile.TemporaryDirectory() as home:
        seed(connection, people)
        with sandbox("--no-rates") as served:
            os.environ |= environment(uri, served.url, home, unpaced=True) | {
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"
            }
            print(f"{rows:,} subscriptions from Postgres, sandbox rates off, {os.cpu_count()} cores")
            print(f"{'phase':<34} {'wall s':>8} {'CPU s':>8} {'rows/s':>10} {'requests':>9}")
            taken, most = sync("first sync", rows), math.ceil(rows / 1000) + BESIDE
            sync("unchanged sync", rows)
            connection.execute(f"UPDATE {SCHEMA}.subscriptions SET subscribed = NOT subscribed WHERE kind = {TYPES[0]}")
            sync("a third changed", rows)
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
    if taken > most:
        raise SystemExit(f"{taken} requests, where {most} are enough")


if __name__ == "__main__":
    main()
