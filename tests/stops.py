"""Stops syncs in their midst, by SIGTERM and by Airflow's timeout: ``python -m tests.stops --rounds 10``.

A model on Postgres is synced to a sandbox by a DAG that Airflow's own task runner runs, in a process of its own. Some
batches are answered; then each answer takes 30 s. Two of three tasks are stopped by SIGTERM, as Airflow does when one
is cleared or a worker shuts down, the third by its ``execution_timeout``. How long each takes to end is measured,
and what it left is compared: the report in XCom, the audit, the state, and what the sandbox holds. In the end answers
are quick again, and one run makes the sandbox equal to the model.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.kill import BULK, DEADLINE, Profile, Scene, scene

DAG_ID, SYNC_ID = "stops", "stops.sync_users"
ANSWER_SECONDS = 30.0
"""How long an answer takes when somebody is to be stopped."""
QUICK = 4
"""Batches that are answered before."""
LIMIT = 5.0
"""Seconds in which a task that is stopped has ended and accounted for itself."""
NEVER_EQUAL = "00" * 12
TIMEOUT = 8.0
"""Seconds of an ``execution_timeout``: by then some batches are answered, on a slow machine too."""
KINDS = (("SIGTERM", 1), ("timeout", 1), ("SIGTERM", 100))
"""How a run is stopped, and how many batches it commits together."""

DAG_FILE = """
import time
from datetime import UTC, datetime, timedelta
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_iterable.operators import IterableUserSyncOperator
from airflow_provider_iterable.state import TableState


class Timed(IterableUserSyncOperator):
    def execute(self, context):
        print("begins", time.time(), flush=True)
        try:
            return super().execute(context)
        finally:
            print("ends", time.time(), flush=True)


with DAG(dag_id="stops", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
    Timed(
        task_id="sync_users",
        sql="SELECT * FROM {name}.people",
        sql_conn_id="warehouse",
        primary_key="id",
        email_column="email",
        batch_size={batch_size},
        commit_batches={commit_batches},
        state=TableState("state", schema="{name}"),
        execution_timeout={timeout},
    )
"""


@dataclass
class Stop:
    """What was found after a task was stopped."""

    kind: str
    seconds: float
    """From the signal, or from when the time was over, to the end of the operator."""
    exit_seconds: float
    """To the end of its process, with what Airflow has to do."""
    report: dict[str, Any]
    accepted: int
    """Rows that were sent in this run and are remembered as accepted."""
    in_doubt: int
    failures: list[str] = field(default_factory=list)

    def expect(self, what: str, expected: object, actual: object) -> None:
        """Note what differs."""
        if expected != actual:
            self.failures.append(f"{self.kind}: {what}: expected {expected}, found {actual}")


@dataclass
class Trial:
    """Stops, one after the other."""

    scene: Scene
    tell: Callable[[str], object]
    runs: int = 0
    commit_batches: int = 1

    @property
    def environment(self) -> dict[str, str]:
        """Return what the process of a DAG needs to know."""
        made = self.scene.environment
        return made | {
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.scene.folder / "dags"),
            "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.scene.folder / "logs"),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__API_AUTH__JWT_SECRET": "of the tests, and the same in every process of theirs",
        }

    def faults(self, *faults: dict[str, Any]) -> None:
        """Let these things go wrong, and no others."""
        with urlopen(Request(f"{self.scene.iterable}/sandbox/faults", method="DELETE"), timeout=DEADLINE):
            pass
        if faults:
            self.scene.ask("faults", list(faults))

    def start(self, timeout: float | None = None) -> subprocess.Popen[bytes]:
        """Start a run of the DAG in a process of its own."""
        self.runs += 1
        limit = None if timeout is None else f"timedelta(seconds={timeout})"
        source = DAG_FILE.format(
            name=self.scene.name,
            batch_size=self.scene.batch_size,
            commit_batches=self.commit_batches,
            timeout=limit,
        )
        dags = self.scene.folder / "dags"
        dags.mkdir(exist_ok=True)
        (dags / "stops.py").write_text(source, "utf-8")
        command = [sys.executable, "-m", "tests.stops", "--attempt", str(self.runs)]
        with (self.scene.folder / "log").open("wb") as log:
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=Path.cwd())

    def said(self, word: str) -> float | None:
        """Return when the operator began, or ended."""
        found = re.search(rf"{word} (\d+\.\d+)", (self.scene.folder / "log").read_text("utf-8", "replace"))
        return float(found[1]) if found else None

    def report(self) -> dict[str, Any]:
        """Return the report of the last run, as it is in XCom."""
        with closing(sqlite3.connect(self.scene.folder / "airflow.db")) as database:
            found = database.execute(
                "SELECT value FROM xcom WHERE key IN ('iterable_report', 'return_value') "
                "ORDER BY timestamp DESC LIMIT 1"
            ).fetchall()
        value: Any = json.loads(found[0][0]) if found else {}
        return dict(json.loads(value) if isinstance(value, str) else value)

    def entries(self) -> dict[str, str]:
        """Return the fingerprints in the state by address."""
        found = self.scene.query(f"SELECT ref, fingerprint FROM {self.scene.name}.sync_state")
        return {json.loads(ref)[1]: fingerprint for ref, fingerprint in found}

    def clean(self) -> dict[str, Any]:
        """Run without anything that goes wrong, and return the report."""
        self.faults()
        process = self.start()
        try:
            process.wait(DEADLINE)
        finally:
            process.kill()
        return self.report()

    def stop(self, kind: str, commit_batches: int) -> Stop:
        """Start a run, stop it when an answer is waited for, and look."""
        scene, self.commit_batches = self.scene, commit_batches
        slow = {"kind": "slow", "path": BULK, "after": QUICK, "times": -1, "seconds": ANSWER_SECONDS}
        self.faults(slow)
        before = self.entries() if self.runs else {}
        process = self.start(timeout=TIMEOUT if kind == "timeout" else None)
        try:
            scene.until(lambda: scene.received() > 0, process)
            time.sleep(0.3)  # so that several are waited for
            if kind == "SIGTERM":
                over = time.time()
                process.send_signal(signal.SIGTERM)
            else:
                begun = self.said("begins")
                assert begun is not None
                over = begun + TIMEOUT
            process.wait(DEADLINE)
            exited = time.time()
        finally:
            process.kill()
        ended = self.said("ends")
        assert ended is not None, scene.said()
        return self.looked(kind, ended - over, exited - over, before)

    def looked(self, kind: str, seconds: float, exit_seconds: float, before: dict[str, str]) -> Stop:
        """Compare what a stopped run left."""
        scene, report, entries = self.scene, self.report(), self.entries()
        accepted = {address for address, held in entries.items() if held != NEVER_EQUAL and before.get(address) != held}
        doubtful = {address for address, held in entries.items() if held == NEVER_EQUAL}
        found = Stop(kind, seconds, exit_seconds, report, len(accepted), len(doubtful))
        found.expect("status", "stopped", report.get("status"))
        found.expect("rows accepted", len(accepted), report.get("accepted"))
        found.expect("rows put off", scene.rows - len(accepted), report.get("deferred"))
        found.expect("reasons", {"stopped": report.get("deferred")}, report.get("reasons"))
        answered = (QUICK - 1) * scene.batch_size  # one of the quick answers may be about a few rows that go first
        found.expect("that what was answered is accepted", True, len(accepted) >= answered)
        found.expect("that something is in doubt", True, len(doubtful) > 0)
        newest = self.runs
        there = {address for address, profile in self.profiles().items() if profile.dataFields["score"] == newest}
        found.expect("rows at Iterable that are neither remembered nor in doubt", set(), there - accepted - doubtful)
        runs = scene.query(f"SELECT status FROM {scene.name}.sync_runs ORDER BY started_at DESC LIMIT 1")
        found.expect("status in the audit", [("aborted",)], runs)
        found.expect("leases", [], scene.query(f"SELECT label FROM {scene.name}.sync_lease"))
        found.expect("intents", [], scene.query(f"SELECT number FROM {scene.name}.sync_intents"))
        if seconds > LIMIT:
            found.failures.append(f"{kind}: ended after {seconds:.1f} s")
        return found

    def profiles(self) -> dict[str, Profile]:
        """Return all profiles by address."""
        return self.scene.profiles()


def experiment(rounds: int, rows: int = 2000, tell: Callable[[str], object] = print) -> tuple[list[Stop], list[str]]:
    """Stop so many runs, one kind after the other; return what was found, and what should not be."""
    with scene(rows, rows // 20, "postgres", slow=()) as at:
        trial = Trial(at, tell)
        stops: list[Stop] = []
        for number in range(rounds):
            # Every row is news, with a value that no round had before.
            at.query(f"UPDATE {at.name}.people SET score = {number + 1}")
            stops.append(trial.stop(*KINDS[number % len(KINDS)]))
            stop = stops[-1]
            tell(
                f"{number + 1:>2} {stop.kind:<8} ended after {stop.seconds:4.1f} s, its process after "
                f"{stop.exit_seconds:4.1f} s; {stop.accepted} rows accepted, {stop.in_doubt} in doubt, "
                f"{stop.report.get('deferred')} put off"
            )
        failures = [failure for stop in stops for failure in stop.failures]
        last, after = trial.clean(), trial.clean()
        model = {f"u{number}@example.com": rounds for number in range(1, rows + 1)}
        held = {address: profile.dataFields.get("score") for address, profile in trial.profiles().items()}
        checks = {
            "status of the clean run": ("succeeded", last.get("status")),
            "profiles that differ": (0, len(model.items() ^ held.items())),
            "entries in doubt": (0, list(trial.entries().values()).count(NEVER_EQUAL)),
            "rows unchanged after it": (rows, after.get("unchanged")),
            "requests after it": ({}, after.get("requests")),
        }
        failures += [f"{what}: expected {one}, found {two}" for what, (one, two) in checks.items() if one != two]
        tell(f"One clean run: {last.get('accepted')} accepted, {last.get('unchanged')} unchanged. Then: {after}")
    tell("\n".join(failures) or "Everybody ended in time and accounted for every row.")
    return stops, failures


def attempt(number: int) -> None:
    """Run the DAG once, with Airflow's own task runner."""
    from airflow.configuration import conf

    from tests.airflow_db import Dags, migrate, run_dag

    migrate()
    folder = Path(conf.get("core", "dags_folder"))
    dag = Dags(folder).write(DAG_ID, (folder / "stops.py").read_text("utf-8"))
    run_dag(dag, datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=number))


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.stops", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--attempt", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.attempt:
        attempt(given.attempt)
        return 0
    _, failures = experiment(given.rounds, given.rows, lambda line: print(line, flush=True))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
