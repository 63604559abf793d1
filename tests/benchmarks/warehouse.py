"""What it costs to let the database compare: ``python -m tests.benchmarks.warehouse --rows 2000000``.

A table of eight columns, one of them jsonb, and what is remembered of it, both in Postgres. Each phase runs in a
process of its own: fetching the rows and nothing else; the comparison as somebody would write it by hand, with its
news fetched; and the run of a sync up to its plan, unchanged and with 1 % of the rows changed. Nothing is sent.
``--database duckdb`` does the same in a file, ``--database mysql`` in MySQL or MariaDB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from tests.services import mysql_uri, postgres_uri

SCHEMA = "iterable_bench_warehouse"
SYNC = "bench.users"
COLUMNS = ("id", "email", "first_name", "city", "signup_at", "lifetime_value", "orders", "profile")
QUERY = f"SELECT {', '.join(COLUMNS)} FROM {SCHEMA}.users"
SEED = {
    "postgres": f"""
DROP SCHEMA IF EXISTS {SCHEMA} CASCADE;
CREATE SCHEMA {SCHEMA};
CREATE TABLE {SCHEMA}.users AS
SELECT n AS id,
       'user' || n || '@example.com' AS email,
       'First' || n % 5000 AS first_name,
       (ARRAY['Berlin', 'Paris', 'Lagos', 'Lima', 'Osaka'])[1 + n % 5] AS city,
       timestamptz '2020-01-01 00:00:00+00' + n * interval '1 minute' AS signup_at,
       (n % 100000 / 100.0)::numeric(10, 2) AS lifetime_value,
       n % 37 AS orders,
       jsonb_build_object('tier', n % 4, 'pets', jsonb_build_array(
           jsonb_build_object('name', 'Pet' || n % 100, 'age', n % 15))) AS profile
FROM generate_series(1::bigint, ROWS) AS n;
ANALYZE {SCHEMA}.users
""",
    "duckdb": f"""
CREATE SCHEMA {SCHEMA};
CREATE TABLE {SCHEMA}.users AS
SELECT n AS id,
       'user' || n || '@example.com' AS email,
       'First' || n % 5000 AS first_name,
       ['Berlin', 'Paris', 'Lagos', 'Lima', 'Osaka'][1 + n % 5] AS city,
       TIMESTAMP '2020-01-01' + to_minutes(n) AS signup_at,
       (n % 100000 / 100.0)::DECIMAL(10, 2) AS lifetime_value,
       n % 37 AS orders,
       {{'tier': n % 4, 'pets': [{{'name': 'Pet' || n % 100, 'age': n % 15}}]}}::JSON AS profile
FROM range(1, ROWS + 1) AS t(n)
""",
    "mysql": f"""
DROP DATABASE IF EXISTS {SCHEMA};
CREATE DATABASE {SCHEMA};
CREATE TABLE {SCHEMA}.users AS
WITH d (d) AS (SELECT 0 UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6
    UNION SELECT 7 UNION SELECT 8 UNION SELECT 9),
n (n) AS (SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d + 100000 * g.d + 1000000 * h.d + 1
    FROM d AS a, d AS b, d AS c, d AS e, d AS f, d AS g, d AS h)
SELECT n AS id,
       CONCAT('user', n, '@example.com') AS email,
       CONCAT('First', n % 5000) AS first_name,
       ELT(1 + n % 5, 'Berlin', 'Paris', 'Lagos', 'Lima', 'Osaka') AS city,
       TIMESTAMP '2020-01-01 00:00:00' + INTERVAL n MINUTE AS signup_at,
       CAST(n % 100000 / 100.0 AS DECIMAL(10, 2)) AS lifetime_value,
       n % 37 AS orders,
       JSON_OBJECT('tier', n % 4, 'pets', JSON_ARRAY(
           JSON_OBJECT('name', CONCAT('Pet', n % 100), 'age', n % 15))) AS profile
FROM n WHERE n <= ROWS;
ANALYZE TABLE {SCHEMA}.users
""",
}
CHANGE = f"UPDATE {SCHEMA}.users SET orders = orders + 1 WHERE id % 100 = 0"
BY_HAND = {
    "postgres": f"""
SELECT n.*, s.record_key FROM (
    SELECT md5(ROW({", ".join(COLUMNS)})::text) AS digest, u.* FROM {SCHEMA}.users AS u) AS n
FULL JOIN {SCHEMA}.by_hand AS s ON s.record_key = n.id::text
WHERE s.digest IS DISTINCT FROM n.digest
""",
    "duckdb": f"""
SELECT n.*, s.record_key FROM (
    SELECT md5(ROW({", ".join(COLUMNS)})::VARCHAR) AS digest, u.* FROM {SCHEMA}.users AS u) AS n
FULL JOIN {SCHEMA}.by_hand AS s ON s.record_key = n.id::VARCHAR
WHERE s.digest IS DISTINCT FROM n.digest
""",
    "mysql": f"""
SELECT n.*, s.record_key FROM (
    SELECT MD5(CONCAT_WS(',', {", ".join(COLUMNS)})) AS digest, u.* FROM {SCHEMA}.users AS u) AS n
LEFT JOIN {SCHEMA}.by_hand AS s ON s.record_key = CAST(n.id AS CHAR)
WHERE NOT s.digest <=> n.digest
UNION ALL SELECT NULL{", NULL" * len(COLUMNS)}, record_key FROM {SCHEMA}.by_hand
WHERE record_key NOT IN (SELECT CAST(id AS CHAR(20)) FROM {SCHEMA}.users)
""",
}
"""A key that is the column's text, one digest of the whole row, one join: no key text, no null keys, no duplicates."""
REMEMBER_BY_HAND = {
    "postgres": f"""
CREATE TABLE {SCHEMA}.by_hand AS SELECT id::text AS record_key, md5(ROW({", ".join(COLUMNS)})::text) AS digest
FROM {SCHEMA}.users;
ALTER TABLE {SCHEMA}.by_hand ADD PRIMARY KEY (record_key);
ANALYZE {SCHEMA}.by_hand
""",
    "duckdb": f"""
CREATE TABLE {SCHEMA}.by_hand AS SELECT id::VARCHAR AS record_key, md5(ROW({", ".join(COLUMNS)})::VARCHAR) AS digest
FROM {SCHEMA}.users
""",
    "mysql": f"""
CREATE TABLE {SCHEMA}.by_hand (record_key VARCHAR(20) NOT NULL PRIMARY KEY, digest VARCHAR(32)) AS
SELECT CAST(id AS CHAR(20)) AS record_key, MD5(CONCAT_WS(',', {", ".join(COLUMNS)})) AS digest FROM {SCHEMA}.users;
ANALYZE TABLE {SCHEMA}.by_hand
""",
}


def _drain(query: str) -> int:
    """Fetch all rows of a query as the provider fetches a model."""
    from airflow_provider_iterable.sql.model import Model

    return sum(len(chunk) for chunk in Model(_hook(), query).chunks())


def _hook() -> Any:
    from airflow.providers.common.sql.operators.sql import BaseSQLOperator

    return BaseSQLOperator.get_hook("warehouse")


def _plan(compare: str, commit: bool) -> dict[str, Any]:
    """Plan a run; keep what it would have delivered if asked to."""
    from airflow_provider_iterable.engine.plan import Planner
    from airflow_provider_iterable.engine.run import _collector_at_rest, _plan
    from airflow_provider_iterable.engine.spool import Spool
    from airflow_provider_iterable.engine.vocabulary import Kind
    from airflow_provider_iterable.mapping import Mapper
    from airflow_provider_iterable.sql.model import Model
    from airflow_provider_iterable.state import TableState
    from airflow_provider_iterable.state.scope import Scope
    from airflow_provider_iterable.syncs.users import UserOptions, Users

    hook = _hook()
    model = Model(hook, QUERY)
    scope = Scope(SYNC, {"host": "x"}, "m", model=model, hook=lambda conn_id: hook)
    session = TableState(schema=SCHEMA, compare=compare).open(scope)  # type: ignore[arg-type]
    with model, _collector_at_rest():
        options = UserOptions(("id",), "email", "email", project_type="email")
        sync = Users(options, Mapper(None, used=frozenset({"id", "email"})), model.columns)
        plan = _plan(Planner(sync, Spool(), Spool()), sync, model.chunks, session)
    if commit:
        patch = {}
        for one in plan.patch():
            patch.update(one)
            if len(patch) == 20_000:
                session.commit(patch)
                patch = {}
        session.commit(patch)
        session.finish(True)
    session.close()
    return {"changed": plan.counts[Kind.CHANGED], "added": plan.counts[Kind.ADDED], "unchanged": plan.unchanged}


def _phase(what: str, kind: str) -> None:
    """Run one phase and print what it took."""
    phases: dict[str, Callable[[], Any]] = {
        "start": lambda: _hook().get_conn().close(),
        "fetch": lambda: _drain(QUERY),
        "by_hand": lambda: _drain(BY_HAND[kind]),
        "remember": lambda: _plan("database", True),
        "database": lambda: _plan("database", False),
        "worker": lambda: _plan("worker", False),
    }
    phases["start"]()
    import airflow_provider_iterable.engine.run  # what every task imports is nobody's cost
    import airflow_provider_iterable.state  # noqa: F401

    began = time.perf_counter()
    found = phases[what]()
    wall = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"wall": wall, "memory": memory, "found": found}))


@contextmanager
def database(kind: str, rows: int) -> Iterator[tuple[Callable[[str], None], str]]:
    """Give a database with the users in it: a function that runs statements, and the connection."""
    seed = SEED[kind].replace("ROWS", str(rows))
    if kind == "postgres":
        import psycopg

        uri = postgres_uri()
        with psycopg.connect(uri, autocommit=True) as connection:

            def run(statements: str) -> None:
                for statement in filter(str.strip, statements.split(";")):
                    connection.execute(statement)

            run(seed)
            try:
                yield run, uri.replace("postgresql://", "postgres://")
            finally:
                run(f"DROP SCHEMA {SCHEMA} CASCADE")
        return
    if kind == "mysql":
        yield from _mysql(seed)
        return
    import duckdb

    with tempfile.TemporaryDirectory() as home:
        path = f"{home}/warehouse.duckdb"

        def run_in_file(statements: str) -> None:
            with duckdb.connect(path) as connection:
                for statement in filter(str.strip, statements.split(";")):
                    connection.execute(statement)

        run_in_file(seed)
        yield run_in_file, json.dumps({"conn_type": "duckdb", "host": path})


def _mysql(seed: str) -> Iterator[tuple[Callable[[str], None], str]]:
    """Give the users in MySQL or MariaDB; mysqlclient reads them, if it is there."""
    from mysql.connector import connect

    uri = mysql_uri()
    address = urlsplit(uri)
    with connect(
        host=address.hostname, port=address.port, user=address.username, password=address.password or ""
    ) as connection:

        def run(statements: str) -> None:
            cursor = connection.cursor(buffered=True)
            for statement in filter(str.strip, statements.split(";")):
                cursor.execute(statement)
            connection.commit()

        run(seed)
        try:
            driver = "mysqlclient" if find_spec("MySQLdb") else "mysql-connector-python"
            yield run, f"{uri}?client={driver}"
        finally:
            run(f"DROP DATABASE {SCHEMA}")


ANALYZE = {
    "postgres": f"ANALYZE {SCHEMA}.sync_state",
    "duckdb": "CHECKPOINT",
    "mysql": f"ANALYZE TABLE {SCHEMA}.sync_state",
}


def main() -> None:
    """Run all phases and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.warehouse", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--database", choices=sorted(SEED), default="postgres")
    parser.add_argument("--worker", action="store_true", help="compare in the worker, too")
    parser.add_argument("--phase", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.phase:
        _phase(arguments.phase, arguments.database)
        return
    kind = arguments.database
    for rows in sorted({arguments.rows, min(arguments.rows, 200_000)}):
        with tempfile.TemporaryDirectory() as home, database(kind, rows) as (run, uri):
            environment = {
                **os.environ,
                "AIRFLOW_HOME": home,
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
                "AIRFLOW_CONN_WAREHOUSE": uri,
            }

            def measure(name: str, phase: str) -> dict[str, Any]:
                command = [sys.executable, "-m", "tests.benchmarks.warehouse", "--database", kind, "--phase", phase]
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: B023
                figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
                print(
                    f"{name:<34} {figures['wall']:8.2f} {figures['memory'] / 1e6:9.0f}   {figures['found']}", flush=True
                )
                return figures

            print(f"{rows:,} rows x {len(COLUMNS)} columns in {kind}, {os.cpu_count()} cores")
            print(f"{'phase':<34} {'wall s':>8} {'memory MB':>9}")
            measure("start", "start")
            measure("first run, remembered", "remember")
            run(REMEMBER_BY_HAND[kind])
            run(ANALYZE[kind])
            for share in ("unchanged", "1 % changed"):
                if share != "unchanged":
                    run(CHANGE)
                fetched = measure("fetch the rows", "fetch")
                by_hand = measure(f"{share}, by hand", "by_hand")
                compared = measure(f"{share}, in the database", "database")
                if arguments.worker:
                    measure(f"{share}, in the worker", "worker")
                print(
                    f"{share}: {compared['wall'] / fetched['wall']:.2f} x fetching, "
                    f"{compared['wall'] / by_hand['wall']:.2f} x by hand"
                )


if __name__ == "__main__":
    main()
