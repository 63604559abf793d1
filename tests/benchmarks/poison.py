"""``python -m tests.benchmarks.poison``: what bad rows cost in batches of 1,000 users, for the operator and others.

The rows have a text that is no date for a field of dates, and Iterable refuses the batch that holds one. The operator
is told not to compare types beforehand, so that it learns of them as it would of anything else that is refused. Beside
it the importer that Iterable publishes gets the same users. Shown are requests beyond one for each batch, and good rows
that did not arrive; the operator has deferred those, and a retry sends them. Answers may name field and value, or
nothing but a code, or be an error of the server.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from tests.benchmarks.measuring import SandboxProcess, context, environment, phase, sandbox, used
from tests.benchmarks.phases import importer as importing
from tests.services import postgres_uri

SCHEMA = "iterable_bench_poison"
BATCH = 1000
BAD_ROWS = (0, 1, 10, 100)
"""In each batch, and spread evenly over it."""
ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "named": ("400, which names field and value", {}),
    "unnamed": ("400, which says nothing but a code", {"hide_clues": True}),
    "error": ("500", {}),
}
"""What Iterable says to a batch with bad rows, in words and as the sandbox's options."""
BAD = "unknown "
COLUMNS = "id, email, signup_at, orders"
QUERY = f"SELECT {COLUMNS} FROM {SCHEMA}.users ORDER BY id"
ENDPOINT = "/api/users/bulkUpdate"


def seed(connection: psycopg.Connection[Any], batches: int, bad: int) -> None:
    """Make a table of users, in which so many of each batch are bad."""
    connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    connection.execute(f"CREATE SCHEMA {SCHEMA}")
    connection.execute(
        f"CREATE TABLE {SCHEMA}.users AS SELECT n AS id, 'user' || n || '@example.com' AS email, n %% 37 AS orders, "
        "CASE WHEN n %% %s = %s THEN %s || n ELSE '2026-01-02 03:04:05 +00:00' END AS signup_at "
        "FROM generate_series(1, %s) AS n",
        (BATCH // bad if bad else BATCH, BATCH // bad // 2 if bad else -1, BAD, batches * BATCH),
    )


def sync() -> Callable[[], dict[str, Any]]:
    """Run the operator."""
    from airflow_provider_iterable.operators import IterableUserSyncOperator
    from airflow_provider_iterable.state import TableState

    operator = IterableUserSyncOperator(
        task_id="sync", sync_id="bench.poison", sql=QUERY, sql_conn_id="warehouse", primary_key="id",
        email_column="email", fields={"signupAt": "signup_at", "orders": "orders"}, state=TableState(schema=SCHEMA),
        check_types=False, max_rejected=1.0,
    )  # fmt: skip
    with closing(operator._sql_hook(None).get_conn()):  # what Airflow imports on the way is not the sync's doing
        pass

    def work() -> dict[str, Any]:
        try:
            report = operator.execute(context())
        except Exception as error:
            return {"note": str(error).partition(";")[0]}
        return {"note": json.dumps({name: report[name] for name in ("accepted", "rejected")})}

    return work


def importer(path: str, url: str) -> Callable[[], dict[str, Any]]:
    """Run the importer; it tells nothing about what became of the rows."""
    run = importing("", url, {"path": path})

    def work() -> dict[str, Any]:
        run()
        return {"note": ""}

    return work


def export(connection: psycopg.Connection[Any], path: Path) -> None:
    """Write the users as the importer's source file."""
    with path.open("w") as file:
        for _, email, signup_at, orders in connection.execute(QUERY):
            file.write(json.dumps({"email": email, "fields": {"signupAt": signup_at, "orders": orders}}) + "\n")


def told(served: SandboxProcess, client: dict[str, Any], batches: int, bad: int) -> dict[str, Any]:
    """Return what became of a case, as the sandbox knows it."""
    summary = served.inspect("GET", "summary")["calls"]
    requests = sum(row["count"] for row in summary if row["template"] == ENDPOINT)
    arrived = served.inspect("GET", "state")["users"] - 1
    return {
        "requests": requests - batches,
        "missing": batches * (BATCH - bad) - arrived,
        "wall": client["wall"],
        "cpu": client["cpu"],
        "note": client["note"],
    }


def main() -> None:
    """Run all cases and print the table; with ``--phase``, one."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.poison", description=__doc__)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--answers", default=",".join(ANSWERS), help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the lines as JSON instead")
    parser.add_argument("--phase", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.phase:
        who, *rest = given.phase
        print(json.dumps(used(sync() if who == "operator" else importer(*rest))))
        return
    uri, batches = postgres_uri(), given.batches
    clients = ["operator", *(["iterable-data-import"] if find_spec("iterable_data_import") else [])]
    if not given.json:
        print(f"{batches} batches of {BATCH:,} users from Postgres, sandbox rates off, {os.cpu_count()} cores")
        print(
            f"{'client':<22} {'bad rows per batch':>18} {'extra requests':>14} {'per bad batch':>13} "
            f"{'good rows missing':>17} {'share':>7} {'wall s':>7} {'CPU s':>7}"
        )
    with psycopg.connect(uri, autocommit=True) as connection, tempfile.TemporaryDirectory() as home:
        for answer in given.answers.split(","):
            words, options = ANSWERS[answer]
            if not given.json:
                print(f"answered with {words}:")
            for bad in BAD_ROWS:
                seed(connection, batches, bad)
                users = Path(home) / "users.ndjson"
                export(connection, users)
                for client in clients:
                    with sandbox("--no-rates") as served:
                        first = {"email": "first@example.com", "dataFields": {"signupAt": "2026-01-02 03:04:05 +00:00"}}
                        served.post("users/update", first)  # a field's first value is its type
                        served.inspect("POST", "options", options)
                        if answer == "error":
                            served.inspect("POST", "faults", {"kind": "poison", "text": BAD})
                        rest = [str(users), served.url] if client != "operator" else []
                        measured = phase("poison", [client, *rest], environment(uri, served.url, home, unpaced=True))
                        line = told(served, measured, batches, bad)
                    if given.json:
                        print(json.dumps({"answer": answer, "client": client, "bad": bad, **line}), flush=True)
                        continue
                    share = line["missing"] / (batches * (BATCH - bad))
                    print(
                        f"{client:<22} {bad:18} {line['requests']:14,} {line['requests'] / batches:13.1f} "
                        f"{line['missing']:17,} {share:7.1%} {line['wall']:7.1f} {line['cpu']:7.2f}   {line['note']}",
                        flush=True,
                    )
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


if __name__ == "__main__":
    main()
