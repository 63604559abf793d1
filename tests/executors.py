"""Runs the partitions example on real executors: ``python -m tests.executors local celery``.

An Airflow 3 of its own (API server, DAG processor, scheduler, and for Celery two worker processes behind Redis) runs
``example_dags/partitions.py`` between Postgres and a sandbox: a first load, a run with changes, four partitions that
become six, and who left is found by the run after that. What Airflow's database, Iterable and the state tables say then
is compared with what should be. Everything listens on the loopback address only, and is gone at the end.

Needs Postgres and, for Celery, Redis (``ITERABLE_TEST_REDIS``, by default ``redis://127.0.0.1:6379/11``, which must be
empty), ``apache-airflow-providers-celery`` and ``redis``; up to 3.26 that provider does not import with Celery 5.7.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import urlopen

from airflow_provider_iterable.sandbox import Sandbox
from tests.kill import connect
from tests.services import postgres_uri

Executor = Literal["local", "celery"]
EXAMPLES = Path(__file__).parent.parent / "example_dags"
DAG_ID = "example_iterable_partitions"
DEADLINE = 180.0
"""Seconds for anything that is waited for."""
BULK = "/api/users/bulkUpdate"
SLOW = {"kind": "slow", "path": BULK, "times": -1, "seconds": 1.0}
"""How long a bulk request takes, so that partitions are there at the same time."""
REQUESTS = 40
"""Requests of the first load: more than Iterable takes at once."""
AT_ONCE = 4
"""Tasks that may run at the same time: four in one scheduler's processes, or two in each Celery worker."""


@dataclass
class Outcome:
    """What one run of the DAG came to.

    :param seconds: from the first start of a task to the last end
    :param processes: processes in which partitions ran
    :param together: most partitions that ran at the same time
    """

    what: str
    seconds: float
    processes: int
    together: int
    report: dict[str, Any]


@dataclass
class Stage:
    """An Airflow, a warehouse and an Iterable."""

    executor: Executor
    folder: Path
    uri: str
    name: str
    port: int
    redis: str
    sandbox: Sandbox
    airflow: Any = None
    warehouse: Any = None
    outcomes: list[Outcome] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def database(self, which: str) -> str:
        """Return the URI of a database that belongs to the experiment."""
        return urlunsplit(urlsplit(self.uri)._replace(path=f"/{self.name}_{which}"))

    @property
    def environment(self) -> dict[str, str]:
        """Return what every process of Airflow needs to know."""
        extra = {"project_type": "email"}
        iterable = {"conn_type": "iterable", "host": self.sandbox.url, "password": "only-a-test", "extra": extra}
        airflow = self.database("airflow").replace("postgresql://", "postgresql+psycopg2://")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        return kept | {
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW_CONN_ITERABLE_DEFAULT": json.dumps(iterable),
            "AIRFLOW_CONN_WAREHOUSE": self.database("warehouse"),
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{self.port}",
            "AIRFLOW__API_AUTH__JWT_SECRET": uuid.uuid4().hex * 2,
            "AIRFLOW__CELERY__BROKER_URL": self.redis,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{airflow}",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.folder / "dags"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
            "AIRFLOW__CORE__EXECUTOR": {"local": "LocalExecutor", "celery": "CeleryExecutor"}[self.executor],
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": str(AT_ONCE),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "3",
            "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": airflow,
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.folder / "logs"),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }

    def start(self, stack: ExitStack, environment: dict[str, str], name: str, *command: str) -> None:
        """Start a process of Airflow, which ends with the experiment, and all that it started."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", *command],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        stack.callback(_end, process)
        self.processes[name] = process

    def command(self, environment: dict[str, str], *command: str) -> None:
        """Run a command of Airflow to its end."""
        run = [sys.executable, "-m", "airflow", *command]
        done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    def ask(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask Airflow's own database."""
        cursor = self.airflow.cursor()
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())

    def change(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement in the warehouse."""
        cursor = self.warehouse.cursor()
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []

    def expect(self, what: str, expected: object, actual: object) -> None:
        """Note what differs."""
        if expected != actual:
            self.failures.append(f"{self.executor}: {what}: expected {expected}, found {actual}")

    def until(self, what: str, met: Callable[[], bool]) -> None:
        """Poll until a condition is met."""
        deadline = time.monotonic() + DEADLINE
        while not met():
            gone = [name for name, process in self.processes.items() if process.poll() is not None]
            assert not gone, f"{gone} ended.\n{self.said()}"
            assert time.monotonic() < deadline, f"Waited for {what} in vain.\n{self.said()}"
            select.select([], [], [], 0.2)

    def said(self) -> str:
        """Return the ends of what the processes said."""
        return "\n".join(f"{path.name}: {path.read_text('utf-8')[-1500:]}" for path in self.folder.glob("*.log"))

    def ended(self, what: str, number: int) -> Outcome:
        """Wait for the end of the run of that number, counted from 1, and look at it."""

        def over() -> bool:
            states = [state for (state,) in self.ask("SELECT state FROM dag_run ORDER BY id")]
            return len(states) == number and states[-1] in ("success", "failed")

        self.until(what, over)
        ((run_id, state),) = self.ask("SELECT run_id, state FROM dag_run ORDER BY id DESC LIMIT 1")
        self.expect(f"state of the run {what!r}", "success", state)
        tasks = self.ask(
            "SELECT pid, extract(epoch FROM start_date), extract(epoch FROM end_date) FROM task_instance "
            "WHERE run_id = %s AND task_id = 'sync_users' ORDER BY map_index",
            run_id,
        )
        events = self.ask(
            "SELECT asset_event.extra FROM asset_event JOIN asset ON asset.id = asset_id WHERE uri = %s "
            "ORDER BY asset_event.id",
            f"iterable://users/{DAG_ID}.sync_users",
        )
        self.expect("asset events", number, len(events))
        together = max((sum(start <= moment < end for _, start, end in tasks) for _, moment, _ in tasks), default=0)
        seconds = max(end for _, _, end in tasks) - min(start for _, start, _ in tasks)
        report = events[-1][0] if events else {}
        outcome = Outcome(what, float(seconds), len({pid for pid, _, _ in tasks}), together, report)
        self.expect(f"processes of {len(tasks)} partitions", len(tasks), outcome.processes)
        self.outcomes.append(outcome)
        return outcome

    def compare(self) -> None:
        """Compare Iterable with the warehouse, and the state with both."""
        rows = dict(self.change("SELECT email, first_name FROM customers"))
        users = {user["email"]: user["dataFields"].get("firstName") for user in self.sandbox.users}
        self.expect("profiles that differ", [], sorted(rows.items() ^ users.items())[:5])
        keys = self.change("SELECT count(*), count(DISTINCT record_key) FROM iterable_sync_state")
        self.expect("entries", [(len(rows), len(rows))], keys)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started here, and those of its own session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def unscheduled(example: str) -> str:
    """Return the source of an example DAG that runs only when it is told to."""
    source = (EXAMPLES / example).read_text("utf-8")
    found = re.search(r'schedule="@\w+"', source)
    assert found is not None
    return source.replace(found[0], "schedule=None")


@contextmanager
def stage(executor: Executor, rows: int, example: str, source: str) -> Iterator[Stage]:
    """Set everything up, and leave nothing behind.

    :param rows: customers in the warehouse
    :param example: the name of the file of an example DAG
    :param source: what is in it
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="executors-", ignore_cleanup_errors=True)))
        shutil.copytree(EXAMPLES / "models", folder / "dags" / "models")
        (folder / "dags" / example).write_text(source, "utf-8")
        sandbox = stack.enter_context(Sandbox("email"))
        sandbox.faults(SLOW)
        redis = os.environ.get("ITERABLE_TEST_REDIS", "redis://127.0.0.1:6379/11")
        name = f"executors_{uuid.uuid4().hex[:12]}"
        made = Stage(executor, folder, postgres_uri(), name, free_port(), redis, sandbox)
        server = stack.enter_context(closing(connect(made.uri)))
        server.autocommit = True
        for which in ("airflow", "warehouse"):
            server.cursor().execute(f"CREATE DATABASE {name}_{which}")
            stack.callback(server.cursor().execute, f"DROP DATABASE {name}_{which} WITH (FORCE)")
            connection = stack.enter_context(closing(connect(made.database(which))))
            connection.autocommit = True
            setattr(made, which, connection)
        made.change(
            "CREATE TABLE customers AS SELECT i AS id, 'customer' || i || '@example.com' AS email, 'First ' || i AS "
            f"first_name, 'Last' AS last_name, i % 9 AS order_count FROM generate_series(1, {rows}) AS n(i)"
        )
        if executor == "celery":
            _own_redis(stack, redis)
        _start(made, stack)
        yield made


def _own_redis(stack: ExitStack, uri: str) -> None:
    """See that the database of Redis is empty, and leave it so."""
    client: Any = import_module("redis").Redis.from_url(uri)
    assert client.dbsize() == 0, f"{uri} is somebody's"
    stack.callback(client.close)
    stack.callback(client.flushdb)


def _start(made: Stage, stack: ExitStack) -> None:
    environment = made.environment
    made.command(environment, "db", "migrate")
    port = str(made.port)
    made.start(stack, environment, "api", "api-server", "--host", "127.0.0.1", "--port", port, "--workers", "1")
    made.start(stack, environment, "processor", "dag-processor")
    made.start(stack, environment, "scheduler", "scheduler", "--skip-serve-logs")
    for worker in ("one", "two") if made.executor == "celery" else ():
        pid = str(made.folder / f"{worker}.pid")
        options = ("--celery-hostname", f"{worker}@%h", "--concurrency", str(AT_ONCE // 2), "--pid", pid)
        made.start(stack, environment, f"worker-{worker}", "celery", "worker", *options, "--skip-serve-logs")

    def answers() -> bool:
        with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{made.port}/api/v2/version", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    made.until("the API server", answers)


def experiment(
    executor: Executor, rows: int = 2000, tell: Callable[[str], object] = print, whole: bool = True
) -> Stage:
    """Run the story on one executor.

    :param whole: whether other changes are made than that of the partitions
    """
    started = time.monotonic()
    many = f'on_removed="delete", batch_size={max(1, rows // REQUESTS)},'
    source = unscheduled("partitions.py").replace('on_removed="delete",', many)
    with stage(executor, rows, "partitions.py", source) as at:
        environment = at.environment
        tell(f"{executor}: Airflow is there after {time.monotonic() - started:.0f} s")

        def trigger(what: str, expected: dict[str, int], *options: str) -> None:
            at.command(environment, "dags", "trigger", DAG_ID, *options)
            outcome = at.ended(what, len(at.outcomes) + 1)
            at.expect(what, expected, {name: outcome.report.get(name) for name in expected})
            tell(
                f"{executor}: {what}: {outcome.report.get('partitions')} partitions in {outcome.processes} processes, "
                f"{outcome.together} at once, {outcome.seconds:.1f} s; read {outcome.report.get('read')}, accepted "
                f"{outcome.report.get('accepted')}, removed {outcome.report.get('removed')}"
            )

        version = "SELECT max(version_number) FROM dag_version"
        at.until("the DAG", lambda: at.ask(version) == [(1,)])
        trigger("first load", {"partitions": 4, "read": rows, "accepted": rows})
        statuses = at.outcomes[0].report.get("requests", {}).get(f"POST {BULK}", {})
        at.expect("answers to all partitions together", {"200"}, set(statuses))
        at.compare()
        gone = 0
        if whole:
            at.change("UPDATE customers SET first_name = 'New' WHERE id <= 10")
            at.change("DELETE FROM customers WHERE id BETWEEN 11 AND 15")
            trigger("changes", {"changed": 10, "removed": 5, "accepted": 15, "unchanged": rows - 15})
            at.compare()
            gone = 5
        dag = at.folder / "dags" / "partitions.py"
        dag.write_text(dag.read_text("utf-8").replace("list(range(4))", "list(range(6))"), "utf-8")
        at.until("six partitions", lambda: at.ask(version) == [(2,)])
        at.change("DELETE FROM customers WHERE id BETWEEN 16 AND 20")
        there = {"partitions": 6, "unchanged": rows - gone - 5}
        trigger("four become six", {**there, "removed": 0, "accepted": 0}, "--conf", '{"repartition": true}')
        if whole:
            trigger("who left", {**there, "removed": 5, "accepted": 5})
            at.compare()
        if executor == "celery":
            for log in at.folder.glob("worker-*.log"):
                taken = log.read_text("utf-8").count(" received")
                tell(f"{executor}: {log.stem} took {taken} tasks")
                at.expect(f"that {log.stem} took tasks", True, taken > 0)
        tell(f"{executor}: {time.monotonic() - started:.0f} s in all, {len(at.failures)} failures")
    for failure in at.failures:
        tell(failure)
    return at


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.executors", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("executors", nargs="*", choices=["local", "celery"], default=["local", "celery"])
    parser.add_argument("--rows", type=int, default=2000)
    given = parser.parse_args(argv)
    found = [experiment(one, given.rows, lambda line: print(line, flush=True)) for one in given.executors]
    return 1 if any(at.failures for at in found) else 0


if __name__ == "__main__":
    sys.exit(main())
