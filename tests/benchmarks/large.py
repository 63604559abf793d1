"""``python -m tests.benchmarks.large``: millions of users from Postgres, which compares them with what is remembered.

The operator runs three times, each in a process of its own: first, unchanged, and with 1 % of the rows changed. Its
requests go to a server that says yes and counts, in a process of its own: the sandbox would keep all profiles in
memory. The connection's rate is lifted. Shown are wall and CPU time of the task's process, the most memory that was
resident and by how much that is more than before the run, the most that its temporary files had on disk, and what
Postgres keeps. At Iterable's rate, 5 requests of 1,000 users a second, a first run of ten million takes 33 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg

from tests.benchmarks.__main__ import CHANGE, SCHEMA, SEED
from tests.benchmarks.measuring import environment, phase, used
from tests.benchmarks.phases import sync
from tests.benchmarks.stub import stub
from tests.services import postgres_uri


def work() -> dict[str, Any]:
    """Run the operator, as the benchmark of a million users does."""
    run = sync("", "", {})
    return used(lambda: json.loads(run()))


class Spooled:
    """The most bytes that files without a name had in a folder, of those that a process has open."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.most = 0

    def look(self, pid: int) -> None:
        """Look at the files of a process, which may end meanwhile."""
        size = 0
        with suppress(OSError):
            for descriptor in os.scandir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    if os.readlink(descriptor.path).startswith(f"{self._folder}/"):
                        size += os.stat(descriptor.path).st_blocks * 512
        self.most = max(self.most, size)


def show(name: str, rows: int, figures: dict[str, Any], spooled: int, requests: int, records: int) -> None:
    """Print the line of a run."""
    seconds = " ".join(f"{part} {took:.0f}" for part, took in figures["seconds"].items())
    print(
        f"{name:<12} {figures['wall']:8.1f} {figures['cpu']:8.1f} {rows / figures['wall']:10,.0f} "
        f"{figures['cpu'] / rows * 1e6:9.1f} {figures['peak'] / 1e6:8.0f} {figures['more'] / 1e6:8.0f} "
        f"{spooled / 1e6:9.0f} {requests:9,} {records:11,}   {seconds}",
        flush=True,
    )


def main() -> None:
    """Make the table, run three times and print a line for each; with ``--phase``, run once."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.large", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--phase", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.phase:
        print(json.dumps(work()))
        return
    uri, rows = postgres_uri(), given.rows
    with (
        psycopg.connect(uri, autocommit=True) as connection,
        tempfile.TemporaryDirectory() as home,
        tempfile.TemporaryDirectory() as spool,
        stub() as server,
    ):
        try:
            _run(
                connection,
                rows,
                environment(uri, server.url, home, unpaced=True) | {"TMPDIR": spool},
                spool,
                server.counted,
            )
        finally:
            connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


def _run(
    connection: psycopg.Connection[Any],
    rows: int,
    env: dict[str, str],
    spool: str,
    counted: Callable[[], dict[str, int]],
) -> None:
    began = time.perf_counter()
    for statement in SEED.split(";"):
        if statement.strip():
            connection.execute(statement, {"rows": rows} if "%(rows)s" in statement else None)
    size = _size(connection, "users")
    print(
        f"{rows:,} rows x 10 columns, {size / 1e6:,.0f} MB in Postgres (made in {time.perf_counter() - began:.0f} s), "
        f"no rates, {os.cpu_count()} cores"
    )
    print(
        f"{'run':<12} {'wall s':>8} {'CPU s':>8} {'rows/s':>10} {'CPU s/1M':>9} {'peak MB':>8} {'more MB':>8} "
        f"{'spool MB':>9} {'requests':>9} {'records':>11}   seconds of its parts"
    )
    before = counted()
    for name in ("first", "unchanged", "1 % changed"):
        if name == "1 % changed":
            connection.execute(CHANGE.replace("%%", "%"))
        spooled = Spooled(spool)
        figures = phase("large", [], env, spooled.look)
        after = counted()
        requests, records = (after[what] - before[what] for what in ("requests", "records"))
        show(name, rows, figures, spooled.most, requests, records)
        before = after
    print(f"the state has {_size(connection, 'sync_state') / 1e6:,.0f} MB in Postgres")


def _size(connection: psycopg.Connection[Any], table: str) -> int:
    ((size,),) = connection.execute("SELECT pg_total_relation_size(%s)", (f"{SCHEMA}.{table}",)).fetchall()
    return int(size)


if __name__ == "__main__":
    main()
