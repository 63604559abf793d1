"""``python -m tests.benchmarks.events``: purchases from Postgres into a sandbox, one request each.

Prints, for a first sync, an unchanged one, and a bare loop over ``requests.Session`` that posts the same bodies: wall
time, CPU time of the client process, rows per second, requests, and CPU milliseconds per request. Each phase runs in a
process of its own.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg

from tests.benchmarks.measuring import context, environment, phase, sandbox, used
from tests.services import postgres_uri

SCHEMA = "iterable_bench_events"
SEED = f"""
DROP SCHEMA IF EXISTS {SCHEMA} CASCADE;
CREATE SCHEMA {SCHEMA};
CREATE TABLE {SCHEMA}.purchases AS
SELECT n AS id,
       'user' || n %% 20000 || '@example.com' AS email,
       timestamptz '2026-01-01 00:00:00+00' + n * interval '1 second' AS bought_at,
       (n %% 10000 / 100.0)::numeric(10, 2) AS total,
       json_build_array(
           json_build_object('id', 'sku-' || n %% 500, 'name', 'Product ' || n %% 500, 'price', 9.5, 'quantity', 1),
           json_build_object('id', 'sku-' || n %% 700, 'name', 'Product ' || n %% 700, 'price', 5, 'quantity', n %% 3)
       )::text AS items,
       'C' || n %% 200 AS coupon
FROM generate_series(1, %(rows)s) AS n;
ALTER TABLE {SCHEMA}.purchases ADD PRIMARY KEY (id);
ANALYZE {SCHEMA}.purchases;
"""
QUERY = f"SELECT id, email, bought_at, total, items, coupon FROM {SCHEMA}.purchases"
PATH = "/api/commerce/trackPurchase"


def operator() -> Any:
    """Return the operator of the benchmark."""
    from airflow_provider_iterable.operators import IterableEventOperator
    from airflow_provider_iterable.state import TableState

    return IterableEventOperator(
        task_id="sync", sync_id="bench.purchases", sql=QUERY, sql_conn_id="warehouse", primary_key="id",
        event_type="purchase", email_column="email", timestamp_column="bought_at", items_column="items",
        total_column="total", fields={"coupon": "coupon"}, state=TableState(schema=SCHEMA),
    )  # fmt: skip


def sync(url: str, more: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Run the operator; ``log``: with its log in a file, which has a line for each request."""
    made = operator()
    if "log" in more:
        logging.basicConfig(filename=more["log"], level=logging.INFO, force=True)  # after Airflow's own
    with closing(made._sql_hook(None).get_conn()):  # what Airflow imports on the way is not the sync's doing
        pass

    def work() -> dict[str, Any]:
        report = made.execute(context())
        requests = sum(sum(statuses.values()) for statuses in report["requests"].values())
        return {"requests": requests, "accepted": report["accepted"], "seconds": report["seconds"]}

    return work


def bare(url: str, more: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Post the same bodies, one after the other, through one session."""
    import requests

    from airflow_provider_iterable.hooks.iterable import IterableHook

    made, bodies = operator(), []
    no_run: Any = None
    with made._model() as model:
        events = made.kind(IterableHook()).build(no_run, model.columns)
        for rows in model.chunks():
            bodies.extend(events.records(events.keys(rows), rows).bodies)
    session = requests.Session()
    session.headers.update({"Api-Key": "benchmark", "Content-Type": "application/json"})

    def work() -> dict[str, Any]:
        accepted = sum(session.post(url + PATH, data=body, timeout=60).status_code == 200 for body in bodies)
        return {"requests": len(bodies), "accepted": accepted}

    return work


def run_phase(name: str, url: str, more: dict[str, Any]) -> None:
    """Run one phase and print its figures as JSON."""
    work = {"sync": sync, "bare": bare}[name](url, more)
    print(json.dumps(used(work)))


def measure(name: str, uri: str, url: str, home: str, **more: Any) -> dict[str, Any]:
    """Run one phase in a process of its own and return what it measured."""
    return phase("events", [name, url, json.dumps(more)], environment(uri, url, home, unpaced=True))


def show(name: str, rows: int, figures: dict[str, Any]) -> None:
    """Print one line of the table."""
    wall, cpu, requests = figures["wall"], figures["cpu"], figures["requests"]
    each = f"{cpu / requests * 1000:9.3f}" if requests else f"{'-':>9}"
    print(
        f"{name:<34} {wall:8.1f} {cpu:8.1f} {rows / wall:10,.0f} {requests:9,} {each}   {figures.get('seconds', '')}",
        flush=True,
    )


def main() -> None:
    """Run all phases and print the table; with ``--phase``, run that one."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.events", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--phase", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.phase:
        name, url, more = given.phase
        run_phase(name, url, json.loads(more))
        return
    uri, rows = postgres_uri(), given.rows
    with psycopg.connect(uri, autocommit=True) as connection:
        for statement in SEED.split(";"):
            if statement.strip():
                connection.execute(statement, {"rows": rows} if "%(rows)s" in statement else None)
        print(f"{rows:,} purchases x 6 columns from Postgres, sandbox rates off, {os.cpu_count()} cores")
        print(f"{'phase':<34} {'wall s':>8} {'CPU s':>8} {'rows/s':>10} {'requests':>9} {'CPU ms/rq':>9}")
        with tempfile.TemporaryDirectory() as home:
            with sandbox("--no-rates") as served:
                url = served.url
                first = measure("sync", uri, url, home)
                show("first sync, nobody reads its log", rows, first)
                show("unchanged sync", rows, measure("sync", uri, url, home))
            connection.execute(f"DROP TABLE {SCHEMA}.sync_state, {SCHEMA}.sync_header CASCADE")
            with sandbox("--no-rates") as served:
                url = served.url
                logged = measure("sync", uri, url, home, log=f"{home}/sync.log")
                with open(f"{home}/sync.log") as log:
                    assert sum(PATH in line for line in log) >= rows
                show("first sync, log in a file", rows, logged)
            with sandbox("--no-rates") as served:
                url = served.url
                loop = measure("bare", uri, url, home)
                show("bare requests.Session loop", rows, loop)
        for name, figures in (("first sync", first), ("first sync with log", logged)):
            print(f"{name} / bare loop, CPU per request: {figures['cpu'] / loop['cpu']:.2f}")
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


if __name__ == "__main__":
    main()
