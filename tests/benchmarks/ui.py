"""``python -m tests.benchmarks.ui``: how long the sync-runs page takes, with few runs and with very many.

A real API server, asked over HTTP as the page asks, before and after 10,000 runs of one sync are in Airflow's
database, and 1,000,000 rows that were rejected, with as many runs, in the audit tables; both are in SQLite. Then what
the plugin adds to the start of a command and to what a task imports.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import requests

from tests.ui.stage import PASSWORD

DAG, TASK = "example_iterable_users", "sync_users"
SYNC = f"{DAG}.{TASK}"
PATIENCE, REPEATS = 120.0, 7
FIRST = datetime(2025, 1, 1, tzinfo=UTC)


@contextmanager
def server(home: Path) -> Iterator[Callable[..., Any]]:
    """Run an API server with a few runs of the example DAGs; gives what asks it as a viewer and returns JSON."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.ui.stage", str(home), str(port)]
    with (home / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process:
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
        try:
            while time.monotonic() < until and process.poll() is None:
                try:
                    if requests.get(f"{url}/api/v2/monitor/health", timeout=5).ok:
                        break
                except requests.ConnectionError:
                    time.sleep(0.5)
            session = requests.Session()
            token = session.post(
                f"{url}/auth/token", json={"username": "viewer", "password": PASSWORD}, timeout=PATIENCE
            )
            session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"

            def ask(path: str, **query: Any) -> Any:
                answer = session.get(f"{url}/iterable/{path}", params=query, timeout=PATIENCE)
                answer.raise_for_status()
                return answer.json()

            yield ask
        finally:
            process.terminate()


def fill(home: Path, runs: int, rows: int) -> None:
    """Put runs into Airflow's database, and as many with rejected rows into the audit tables."""
    moments = [FIRST + timedelta(minutes=number) for number in range(runs)]
    with closing(sqlite3.connect(home / "airflow.db", timeout=60)) as database:
        database.row_factory = sqlite3.Row
        (run,) = database.execute("SELECT * FROM dag_run WHERE dag_id = ? ORDER BY id LIMIT 1", (DAG,)).fetchall()
        (task,) = database.execute("SELECT * FROM task_instance WHERE run_id = ?", (run["run_id"],)).fetchall()
        (left,) = database.execute(
            "SELECT * FROM xcom WHERE run_id = ? AND key = 'iterable_report'", (run["run_id"],)
        ).fetchall()
        last = database.execute("SELECT max(id) FROM dag_run").fetchone()[0]
        made = [(last + 1 + number, f"many__{number}", str(moment)[:19]) for number, moment in enumerate(moments)]
        insert(database, "dag_run", run, [
            {"id": number, "run_id": name, "logical_date": at, "run_after": at, "start_date": at, "end_date": at}
            for number, name, at in made
        ])  # fmt: skip
        insert(database, "task_instance", task, [
            {"id": uuid.uuid4().hex, "run_id": name, "start_date": at, "end_date": at} for _, name, at in made
        ])  # fmt: skip
        insert(database, "xcom", left, [
            {"dag_run_id": number, "run_id": name, "timestamp": at} for number, name, at in made
        ])  # fmt: skip
        database.commit()
    each = rows // 100
    with closing(sqlite3.connect(home / "warehouse.db", timeout=60)) as database:
        database.row_factory = sqlite3.Row
        (run,) = database.execute("SELECT * FROM iterable_sync_runs WHERE sync_id = ? LIMIT 1", (SYNC,)).fetchall()
        (call,) = database.execute("SELECT * FROM iterable_sync_requests WHERE sync_id = ? LIMIT 1", (SYNC,)).fetchall()
        stamps = [(f"many__{number}", f"{moment:%Y-%m-%d %H:%M:%S.000000}") for number, moment in enumerate(moments)]
        insert(database, "iterable_sync_runs", run, [
            {"sync_run_id": name, "started_at": at, "finished_at": at[:17] + "59.000000", "status": "succeeded"}
            for name, at in stamps
        ])  # fmt: skip
        insert(database, "iterable_sync_requests", call, [
            {"sync_run_id": name, "recorded_at": at[:17] + "30.000000", "milliseconds": number % 900}
            for name, at in stamps for number in range(10)
        ])  # fmt: skip
        database.executemany(
            "INSERT INTO iterable_sync_changelog (sync_id, sync_run_id, row_id, op_type, status, failure_reason, "
            "failure_detail, recorded_at) VALUES (?, ?, ?, 'changed', 'failed', ?, 'field tier: string expected', ?)",
            (
                (SYNC, name, f"[{number + shift}]", f"{reason}: a value", at[:17] + "30.000000")
                for shift, (name, at) in enumerate(stamps[-100:])
                for number in range(each)
                for reason in [("type_mismatch", "invalid_email", "conflict", "refused")[number % 4]]
            ),
        )
        database.execute("ANALYZE")
        database.commit()


def insert(database: sqlite3.Connection, table: str, row: sqlite3.Row, changes: list[dict[str, Any]]) -> None:
    """Insert copies of a row, each with other values in some columns."""
    names = row.keys()
    marks = ", ".join("?" for _ in names)
    database.executemany(
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})",
        [[change.get(name, row[name]) for name in names] for change in changes],
    )


def timed(work: Callable[[], Any]) -> float:
    """Return how many milliseconds something takes, in the middle of several times."""
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1000)
    return median(taken)


def pages(ask: Callable[..., Any]) -> dict[str, float]:
    """Return how long each view takes, of the last run that is no failure."""
    line = next(line for line in ask("api/syncs", words=TASK)["lines"])
    run = next(bar["run_id"] for bar in reversed(line["bars"]) if bar["state"] == "success")
    which = {"run_id": run, "task_id": TASK}
    return {
        "list": timed(lambda: ask("api/syncs")),
        "run": timed(lambda: ask(f"api/dags/{DAG}/run", **which)),
        "rejected rows": timed(lambda: ask(f"api/dags/{DAG}/rows", **which)),
        "requests": timed(lambda: ask(f"api/dags/{DAG}/requests", **which)),
        "find a row": timed(lambda: ask(f"api/dags/{DAG}/row", **which, key="150")),
    }


def many(home: Path, ask: Callable[..., Any], runs: int) -> dict[str, float]:
    """Return how long each view takes, of one of very many runs, which has very many rejected rows."""
    which = {"run_id": f"many__{runs - 1}", "task_id": TASK}
    return {
        "list": timed(lambda: ask("api/syncs")),
        "run": timed(lambda: ask(f"api/dags/{DAG}/run", **which)),
        "rejected rows": timed(lambda: ask(f"api/dags/{DAG}/rows", **which)),
        "requests": timed(lambda: ask(f"api/dags/{DAG}/requests", **which)),
        "find a row": timed(lambda: ask(f"api/dags/{DAG}/row", **which, key="150")),
    }


STARTS = {
    "airflow version": "import sys; sys.argv = ['airflow', 'version']; from airflow.__main__ import main; main()",
    "task, plugins loaded": "from airflow.sdk import ObjectStoragePath; import airflow.sdk.execution_time.task_runner\n"
    "from airflow.plugins_manager import get_fastapi_plugins as load; load()",
}
HIDING = """
import importlib.metadata as metadata
kept, HIDDEN = metadata.Distribution.entry_points.fget, {hidden!r}
metadata.Distribution.entry_points = property(
    lambda self: metadata.EntryPoints(e for e in kept(self) if (e.group, e.name) != HIDDEN)
)
"""
"""What has Python see all entry points but one; nothing is hidden by one that is not there."""


def starts(home: Path) -> None:
    """Print how long starts take with the plugin and without it, in turn."""
    env = {**os.environ, "AIRFLOW_HOME": str(home / "start"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    for name, code in STARTS.items():
        taken: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(REPEATS):
            for plugin in (True, False):
                started = time.perf_counter()
                source = HIDING.format(hidden=("airflow.plugins", "none" if plugin else "iterable")) + code
                subprocess.run([sys.executable, "-c", source], env=env, stdout=subprocess.DEVNULL, check=True)
                taken[plugin].append(time.perf_counter() - started)
        with_it, without = (min(taken[plugin]) for plugin in (True, False))
        print(f"{name:<22} {without * 1000:9.0f} {with_it * 1000:9.0f} {with_it / without:6.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ui", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with server(home) as ask:
            few = pages(ask)
            fill(home, given.runs, given.rows)
            lots = many(home, ask, given.runs)
        if given.json:
            print(json.dumps({"few": few, "many": lots}))
            return
        print(f"{given.runs:,} runs and {given.rows:,} rejected rows, {os.cpu_count()} cores")
        print(f"{'view':<22} {'few, ms':>9} {'many, ms':>9} {'ratio':>6}")
        for name, before in few.items():
            print(f"{name:<22} {before:9.0f} {lots[name]:9.0f} {lots[name] / before:6.1f}")
        print(f"{'start':<22} {'without':>9} {'with, ms':>9} {'ratio':>6}")
        starts(home)


if __name__ == "__main__":
    main()
