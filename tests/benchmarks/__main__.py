"""``make bench``: a million users from Postgres into a sandbox, each phase in a process of its own.

Prints wall time, CPU time of the client process, rows per second and memory for fetching, for a first sync, for an
unchanged one and one with 1 % of changes, and for the importer that Iterable publishes, sending the same users.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from tests.benchmarks.measuring import environment, phase, sandbox
from tests.services import postgres_uri

SCHEMA = "iterable_bench"
SEED = f"""
DROP SCHEMA IF EXISTS {SCHEMA} CASCADE;
CREATE SCHEMA {SCHEMA};
CREATE TABLE {SCHEMA}.users AS
SELECT n AS id,
       'user' || n || '@example.com' AS email,
       'First' || n %% 5000 AS first_name,
       'Last' || n %% 7000 AS last_name,
       (ARRAY['Berlin', 'Paris', 'Lagos', 'Lima', 'Osaka'])[1 + n %% 5] AS city,
       CASE WHEN n %% 10 = 0 THEN NULL ELSE 'C' || n %% 200 END AS country,
       timestamptz '2020-01-01 00:00:00+00' + n * interval '1 minute' AS signup_at,
       (n %% 100000 / 100.0)::numeric(10, 2) AS lifetime_value,
       n %% 37 AS orders,
       n %% 3 = 0 AS subscribed
FROM generate_series(1, %(rows)s) AS n;
ALTER TABLE {SCHEMA}.users ADD PRIMARY KEY (id);
ANALYZE {SCHEMA}.users;
"""
CHANGE = f"UPDATE {SCHEMA}.users SET orders = orders + 1 WHERE id %% 100 = 0"


def measure(what: str, uri: str, url: str, home: str, **more: str) -> dict[str, Any]:
    """Run one phase in a process of its own and return what it measured."""
    return phase("phases", [what, uri, url, json.dumps(more)], environment(uri, url, home, unpaced=True))


def show(name: str, rows: int, figures: dict[str, Any]) -> None:
    """Print one line of the table."""
    wall, cpu, memory = figures["wall"], figures["cpu"], figures["more"]
    print(
        f"{name:<34} {wall:8.1f} {cpu:8.1f} {rows / wall:10,.0f} {memory / 1e6:9.0f} {memory / rows:8.0f}   "
        f"{figures.get('note', '')}",
        flush=True,
    )


def main() -> None:
    """Run all phases and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    uri = postgres_uri()
    with psycopg.connect(uri, autocommit=True) as connection:
        for statement in SEED.split(";"):
            if statement.strip():
                connection.execute(statement, {"rows": rows} if "%(rows)s" in statement else None)
        print(f"{rows:,} rows x 10 columns from Postgres, sandbox rates off, {os.cpu_count()} cores")
        print(f"{'phase':<34} {'wall s':>8} {'CPU s':>8} {'rows/s':>10} {'memory MB':>9} {'B/row':>8}")
        with tempfile.TemporaryDirectory() as home, sandbox("--no-rates") as served:
            url = served.url
            show("fetch the model", rows, measure("fetch_model", uri, url, home))
            first = measure("sync", uri, url, home)
            show("first sync, client unpaced", rows, first)
            both = measure("fetch_both", uri, url, home)
            show("fetch model and state", rows, both)
            unchanged = measure("sync", uri, url, home)
            show("unchanged sync", rows, unchanged)
            connection.execute(CHANGE.replace("%%", "%"))
            changed = measure("sync", uri, url, home)
            show("1 % changed", rows, changed)
            show(
                "worker compares, baseline", rows, measure("sync", uri, url, home, compare="worker", resync="baseline")
            )
            show("worker compares, unchanged", rows, measure("sync", uri, url, home, compare="worker"))
        with tempfile.TemporaryDirectory() as home, sandbox("--no-rates") as served:
            url = served.url
            users = str(Path(home) / "users.ndjson")
            measure("export", uri, url, home, path=users)
            importer = measure("importer", uri, url, home, path=users)
            show("iterable-data-import, sends only", rows, importer)
        print(f"first sync / iterable-data-import, CPU: {first['cpu'] / importer['cpu']:.2f}")
        print(f"unchanged / fetch model and state, wall: {unchanged['wall'] / both['wall']:.2f}")
        print(f"unchanged / fetch model and state, CPU: {unchanged['cpu'] / both['cpu']:.2f}")
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


if __name__ == "__main__":
    main()
