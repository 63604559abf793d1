"""``python -m tests.benchmarks.audit``: what the audit tables cost in a first sync, from Postgres into a sandbox.

Each way of auditing runs in processes of its own, in turn with the others, and its best CPU time counts.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from typing import Any

import psycopg

from tests.benchmarks.measuring import context, environment, phase, sandbox, used
from tests.services import postgres_uri

SCHEMA = "iterable_bench_audit"
TABLES = ("changelog", "snapshot", "requests", "runs")
WAYS: dict[str, dict[str, Any]] = {
    "audit=False": {"audit": False},
    'audit="failures"': {"audit": "failures"},
    "audit=True": {"audit": True},
    "audit=True, audit_fields=True": {"audit": True, "audit_fields": True},
}


def seed(connection: psycopg.Connection[Any], rows: int) -> None:
    """Make a table of users."""
    connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    connection.execute(f"CREATE SCHEMA {SCHEMA}")
    connection.execute(
        f"CREATE TABLE {SCHEMA}.users AS SELECT n AS id, 'user' || n || '@example.com' AS email, "
        "'First' || n %% 5000 AS first_name, 'Last' || n %% 7000 AS last_name, 'C' || n %% 200 AS country, "
        "timestamptz '2020-01-01' + n * interval '1 minute' AS signup_at, n %% 37 AS orders, n %% 3 = 0 AS subscribed "
        "FROM generate_series(1, %s) AS n",
        (rows,),
    )


def sync(options: dict[str, Any], sync_id: str) -> dict[str, float]:
    """Run one first sync in this process, faster than Iterable allows, and return its seconds."""
    from airflow_provider_iterable.operators import IterableUserSyncOperator
    from airflow_provider_iterable.state import TableState

    operator = IterableUserSyncOperator(
        task_id="sync", sync_id=sync_id, table=f"{SCHEMA}.users", sql_conn_id="warehouse", primary_key="id",
        email_column="email", state=TableState(schema=SCHEMA, **options),
    )  # fmt: skip
    operator._sql_hook(None).get_conn().close()  # what Airflow imports on the way is not the sync's doing
    return used(lambda: {"accepted": operator.execute(context())["accepted"]})


def main() -> None:
    """Run each way and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.audit", description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--phase", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.phase:
        print(json.dumps(sync(WAYS[arguments.phase[0]], arguments.phase[1])))
        return
    uri = postgres_uri()
    best: dict[str, dict[str, float]] = {}
    with psycopg.connect(uri, autocommit=True) as connection, tempfile.TemporaryDirectory() as home:
        seed(connection, arguments.rows)
        for turn in range(arguments.times):
            for way in WAYS:
                with sandbox("--no-rates") as served:
                    figures = phase("audit", [way, f"{way} {turn}"], environment(uri, served.url, home, unpaced=True))
                best[way] = {name: min(value, best.get(way, figures)[name]) for name, value in figures.items()}
        print(f"{arguments.rows:,} rows x 8 columns from Postgres, sandbox rates off, {os.cpu_count()} cores")
        for way, figures in best.items():
            share = figures["cpu"] / best["audit=False"]["cpu"] - 1
            print(f"{way:<32} wall {figures['wall']:6.1f} s   CPU {figures['cpu']:6.1f} s   {share:+6.1%}")
        for table in TABLES:
            query = f"SELECT count(*), pg_total_relation_size('{SCHEMA}.sync_{table}') FROM {SCHEMA}.sync_{table}"
            ((count, size),) = connection.execute(query).fetchall()
            print(f"sync_{table:<12} {count:>10,} rows, {size / max(count, 1):6.0f} bytes each")
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


if __name__ == "__main__":
    main()
