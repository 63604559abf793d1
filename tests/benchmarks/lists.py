"""``python -m tests.benchmarks.lists``: members from Postgres onto a list in a sandbox, first and unchanged.

Prints wall time, CPU time of the client process, rows per second and requests.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import Any

import psycopg

from tests.benchmarks.measuring import context, environment, sandbox, used
from tests.services import postgres_uri

SCHEMA = "iterable_bench_lists"


def seed(connection: psycopg.Connection[Any], rows: int) -> None:
    """Make a table of members."""
    connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    connection.execute(f"CREATE SCHEMA {SCHEMA}")
    connection.execute(
        f"CREATE TABLE {SCHEMA}.members AS SELECT n AS id, 'user' || n || '@example.com' AS email, n %% 37 AS orders "
        "FROM generate_series(1, %s) AS n",
        (rows,),
    )


def sync(name: str, rows: int, **parameters: Any) -> None:
    """Run the operator and print a line of the table."""
    from airflow_provider_iterable.operators import IterableListOperator
    from airflow_provider_iterable.state import TableState

    operator = IterableListOperator(
        task_id="sync",
        table=f"{SCHEMA}.members",
        sql_conn_id="warehouse",
        email_column="email",
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


def main() -> None:
    """Run all phases and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.lists", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    uri = postgres_uri()
    with psycopg.connect(uri, autocommit=True) as connection, tempfile.TemporaryDirectory() as home:
        seed(connection, rows)
        with sandbox("--no-rates") as served:
            os.environ |= environment(uri, served.url, home, unpaced=True) | {
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"
            }
            print(f"{rows:,} members from Postgres, sandbox rates off, {os.cpu_count()} cores")
            print(f"{'phase':<34} {'wall s':>8} {'CPU s':>8} {'rows/s':>10} {'requests':>9}")
            sync("first sync", rows)
            sync("unchanged sync", rows)
            sync("first sync, a field rides along", rows, sync_id="fields", list_name="fields", fields={"n": "orders"})
            sync("unchanged sync", rows, sync_id="fields", list_name="fields", fields={"n": "orders"})
            connection.execute(f"DELETE FROM {SCHEMA}.members WHERE id %% 10 = 0".replace("%%", "%"))
            sync("10 % left", rows)
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


if __name__ == "__main__":
    main()
