"""``python -m tests.benchmarks.pace``: how near each kind of sync comes to the rate that Iterable allows.

Each family of endpoints has a sandbox in a process of its own, with the documented rates, whose every answer takes
``--latency`` seconds longer; the operator runs in another process, from Postgres. What is shown is what the sandbox
wrote down, but for the seconds that the report of this first run forecast. Steady is what came later than two seconds
after the first call: by then a bucket's burst is spent. The sandbox is a threading server in Python, so that a few
hundred calls per second are a good part of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.benchmarks.measuring import SandboxProcess, context, environment, phase, sandbox, used
from tests.services import postgres_uri

SCHEMA = "iterable_bench_pace"
SEED = f"""
DROP SCHEMA IF EXISTS {SCHEMA} CASCADE;
CREATE SCHEMA {SCHEMA};
CREATE TABLE {SCHEMA}.model AS
SELECT n AS id,
       'user' || n || '@example.com' AS email,
       'new' || n || '@example.com' AS new_email,
       'First' || n % 5000 AS first_name,
       n % 37 AS orders,
       timestamptz '2026-01-01 00:00:00+00' + n * interval '1 second' AS happened_at,
       9.5::numeric(10, 2) AS total,
       json_build_array(json_build_object(
           'id', 'sku-' || n % 500, 'name', 'Product ' || n % 500, 'price', 9.5, 'quantity', 1))::text AS items
FROM generate_series(1, ROWS) AS n;
ALTER TABLE {SCHEMA}.model ADD PRIMARY KEY (id);
ANALYZE {SCHEMA}.model
"""
UNDOCUMENTED = 300.0
"""Calls per second for which a family has rows, where no rate is documented and a call takes one record."""
UNDOCUMENTED_BULK = 100.0
STEADY_AFTER = 2.0
"""Seconds after which the burst that a full bucket allows is over."""
SEEDED = 1000
"""Users that are put into the sandbox in one call."""


@dataclass(frozen=True)
class Family:
    """An endpoint by method and template, how fast a sync of it is asked for, and what the operator is to do.

    :param rate: requests per second that are documented; ``None``: none
    :param bulk: whether a request takes a batch
    :param known: whether the users are in the project beforehand
    """

    endpoint: str
    rate: float | None
    operator: str
    parameters: dict[str, Any]
    bulk: bool = False
    known: bool = False
    columns: str = "id, email, first_name, orders"

    def rows(self, seconds: float, batch_size: int, limit: float | None) -> int:
        """Return how many rows take about so many seconds."""
        rate = self.rate or limit or (UNDOCUMENTED_BULK if self.bulk else UNDOCUMENTED)
        return round(rate * seconds) * (batch_size if self.bulk else 1)


FIELDS = {"firstName": "first_name", "orders": "orders"}
EVENTS: dict[str, Any] = {"email_column": "email", "timestamp_column": "happened_at", "fields": FIELDS}
COLUMNS = "id, email, happened_at, total, items, first_name, orders"
USERS: dict[str, Any] = {"email_column": "email", "fields": FIELDS}
DELETING = {**USERS, "on_removed": "delete", "max_deletes": None, "max_removed": None, "allow_empty": True}
FAMILIES = {
    "users": Family("POST /api/users/bulkUpdate", 5, "IterableUserSyncOperator", USERS, bulk=True),
    "events": Family(
        "POST /api/events/trackBulk",
        10,
        "IterableEventOperator",
        {**EVENTS, "event_name": "seen"},
        bulk=True,
        known=True,
        columns=COLUMNS,
    ),
    "deletes": Family("DELETE /api/users/{email}", 100, "IterableUserSyncOperator", DELETING, known=True),
    "lookups": Family(
        "GET /api/users/getByEmail", 100, "IterableUserSyncOperator", {**USERS, "mode": "update"}, known=True
    ),
    "forget": Family(
        "POST /api/users/forget",
        3,
        "IterablePrivacyOperator",
        {"email_column": "email", "action": "forget"},
        known=True,
        columns="id, email",
    ),
    "purchases": Family(
        "POST /api/commerce/trackPurchase",
        None,
        "IterableEventOperator",
        {**EVENTS, "event_type": "purchase", "items_column": "items", "total_column": "total"},
        columns=COLUMNS,
    ),
    "carts": Family(
        "POST /api/commerce/updateCart",
        None,
        "IterableEventOperator",
        {"email_column": "email", "event_type": "cart", "items_column": "items"},
        columns="id, email, items",
    ),
    "update_email": Family(
        "POST /api/users/updateEmail",
        None,
        "IterableUserSyncOperator",
        {"email_column": "email", "mode": "change_email", "new_email_column": "new_email"},
        known=True,
        columns="id, email, new_email",
    ),
    "lists": Family(
        "POST /api/lists/subscribe",
        None,
        "IterableListOperator",
        {"email_column": "email", "list_name": "pace"},
        bulk=True,
        columns="id, email",
    ),
    "catalogs": Family(
        "POST /api/catalogs/{name}/items",
        100,
        "IterableCatalogOperator",
        {"catalog_name": "pace", "fields": FIELDS},
        bulk=True,
        columns="id, first_name, orders",
    ),
}


def work(name: str, first: int, last: int, batch_size: int) -> dict[str, Any]:
    """Run the operator of a family in this process, with the rows of a part; for deletes, after a baseline."""
    from airflow_provider_iterable import operators
    from airflow_provider_iterable.state import TableState

    family = FAMILIES[name]

    def operator(last: int, **more: Any) -> Any:
        given = {**family.parameters, **more}
        if name != "lists":
            given["primary_key"] = "id"
        return getattr(operators, family.operator)(
            task_id="sync", sync_id=f"pace.{name}.{first}", sql_conn_id="warehouse", batch_size=batch_size,
            sql=f"SELECT {family.columns} FROM {SCHEMA}.model WHERE id BETWEEN {first} AND {last} ORDER BY id",
            state=TableState(schema=SCHEMA), **given,
        )  # fmt: skip

    made = operator(last)
    with closing(made._sql_hook(None).get_conn()):  # what Airflow imports on the way is not the sync's doing
        pass
    if name == "deletes":
        operator(last, resync="baseline").execute(context())
        made = operator(first - 1)

    def run() -> dict[str, Any]:
        report = made.execute(context())
        return {name: report[name] for name in ("accepted", "seconds", "forecast")}

    return used(run)


def prepare(served: SandboxProcess, family: Family, rows: int, latency: float, limit: float | None) -> None:
    """Put users into the project if they are to be known, then turn rates and latency on, and forget the calls."""
    served.inspect("POST", "options", {"rates": False, "forget_quota": None})
    for first in range(1, rows + 1, SEEDED) if family.known else ():
        numbers = range(first, min(first + SEEDED, rows + 1))
        served.post("users/bulkUpdate", {"users": [{"email": f"user{number}@example.com"} for number in numbers]})
    served.inspect("DELETE", "calls")
    limits = {family.endpoint: limit} if limit and family.rate is None else {}
    served.inspect("POST", "options", {"rates": True, "rate_overrides": limits})
    if latency:
        served.inspect("POST", "faults", {"kind": "slow", "times": -1, "seconds": latency})


def figures(
    family: Family, rows: int, calls: Sequence[dict[str, Any]], client: dict[str, Any], limit: float | None
) -> dict[str, Any]:
    """Work out the line of a family from the sandbox's calls and the client's own figures."""
    own = [call for call in calls if f"{call['method']} {call['template']}" == family.endpoint]
    starts = sorted(call["started"] for call in own)
    rate = family.rate or limit
    taken = sorted(call["started"] for call in own if call["status"] != 429)
    later = [start for start in taken if start > starts[0] + STEADY_AFTER]
    steady = (len(later) - 1) / (later[-1] - later[0]) if len(later) > 1 else None
    foreseen = [line["seconds"] for line in client["forecast"] if line["endpoint"] == family.endpoint]
    return {
        "rows": rows,
        "accepted": client["accepted"],
        "requests": len(own),
        "forecast": sum(foreseen),
        "seconds": max(call["finished"] for call in own) - starts[0],
        "steady": steady,
        "rate": rate,
        "share": steady / rate if steady and rate else None,
        "refused": sum(call["status"] == 429 for call in own) / len(own),
        "cpu_ms_per_call": client["cpu"] / len(calls) * 1000,
        "most_at_once": most_at_once(own),
        "wall": client["wall"],
        "cpu": client["cpu"],
    }


def added_up(tasks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of several tasks as those of one; a forecast does not know of the other tasks."""
    return {
        "accepted": sum(task["accepted"] for task in tasks),
        "cpu": sum(task["cpu"] for task in tasks),
        "wall": max(task["wall"] for task in tasks),
        "forecast": max((task["forecast"] for task in tasks), key=lambda lines: sum(line["seconds"] for line in lines)),
    }


def most_at_once(calls: Sequence[dict[str, Any]]) -> int:
    """Return how many calls were under way at the same time, at most."""
    now = most = 0
    for _, step in sorted([(call["started"], 1) for call in calls] + [(call["finished"], -1) for call in calls]):
        now += step
        most = max(most, now)
    return most


def measure(name: str, rows: int, given: argparse.Namespace, uri: str, home: str) -> dict[str, Any]:
    """Run one family and return its line."""
    family, limit = FAMILIES[name], given.limit
    part = -(-rows // given.tasks)
    ends = [(first, min(first + part - 1, rows)) for first in range(1, rows + 1, part)]
    with sandbox() as served, ThreadPoolExecutor(len(ends)) as tasks:
        prepare(served, family, rows, given.latency, limit)
        before = served.cpu()
        env = environment(uri, served.url, home, shared=not given.alone)

        def task(ends: tuple[int, int]) -> dict[str, Any]:
            return phase("pace", [name, *map(str, ends), str(given.batch_size)], env)

        client = added_up(list(tasks.map(task, ends)))
        busy = served.cpu() - before
        line = figures(family, rows, served.inspect("GET", "calls")["calls"], client, limit)
    return {"family": name, **line, "sandbox_cores": busy / line["wall"]}


def show(line: dict[str, Any]) -> None:
    """Print the line of a family."""
    steady = "-" if line["steady"] is None else f"{line['steady']:.2f}"
    rate = "-" if line["rate"] is None else f"{line['rate']:g}"
    share = "-" if line["share"] is None else f"{line['share']:.1%}"
    print(
        f"{line['family']:<13} {line['rows']:8,} {line['accepted']:8,} {line['requests']:8,} "
        f"{line['forecast']:8.1f} {line['seconds']:8.1f} "
        f"{steady:>8} {rate:>6} {share:>7} {line['refused']:6.1%} {line['most_at_once']:8} "
        f"{line['cpu_ms_per_call']:9.2f} {line['sandbox_cores']:7.2f}",
        flush=True,
    )


def main() -> None:
    """Run the families and print the table; with ``--phase``, run the operator of one."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pace", description=__doc__)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that each answer takes longer")
    parser.add_argument("--families", default=",".join(FAMILIES), help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=20, help="that the rows take at the documented rate")
    parser.add_argument("--limit", type=float, help="calls per second where no rate is documented; default: any number")
    parser.add_argument("--batch-size", type=int, default=100, help="of bulk requests")
    parser.add_argument("--tasks", type=int, default=1, help="that share the rows, at the same time")
    parser.add_argument("--alone", action="store_true", help="they do not share a pace, as if on machines of their own")
    parser.add_argument("--json", action="store_true", help="print the lines as JSON instead")
    parser.add_argument("--phase", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.phase:
        name, first, last, batch_size = given.phase
        print(json.dumps(work(name, int(first), int(last), int(batch_size))))
        return
    names = given.families.split(",")
    if unknown := set(names) - set(FAMILIES):
        parser.error(f"no such family: {', '.join(sorted(unknown))}")
    rows = {name: FAMILIES[name].rows(given.seconds, given.batch_size, given.limit) for name in names}
    uri = postgres_uri()
    if not given.json:
        tasks = f"{given.tasks} tasks{' that know nothing of each other' * given.alone}, " * (given.tasks > 1)
        print(
            f"{tasks}each answer {given.latency:g} s late, {given.batch_size} records per batch, {os.cpu_count()} cores"
        )
        print(
            f"{'family':<13} {'rows':>8} {'accepted':>8} {'requests':>8} {'forecast':>8} {'seconds':>8} "
            f"{'steady/s':>8} {'rate':>6} {'of rate':>7} {'429':>6} {'at once':>8} {'CPU ms/rq':>9} {'sandbox':>7}"
        )
    with psycopg.connect(uri, autocommit=True) as connection, tempfile.TemporaryDirectory() as home:
        for statement in SEED.replace("ROWS", str(max(rows.values()))).split(";"):
            connection.execute(statement)
        for name in names:
            line = measure(name, rows[name], given, uri, home)
            print(json.dumps(line), flush=True) if given.json else show(line)
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


if __name__ == "__main__":
    main()
