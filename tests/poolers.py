"""Runs two syncs at once through a pooler, and counts what is remembered: ``python -m tests.poolers --rounds 20``.

The pooler is pgbouncer in transaction mode, which gives each transaction another connection to Postgres: two of them,
which the syncs share with two more clients that are there to be in the way. In each round one sync gains all its rows
but one, and the other one loses them; then they change places. What Iterable accepted has to be remembered, whatever
the number of statements.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.request import Request, urlopen

from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.state import TableState
from tests.kill import connect
from tests.services import pooler, postgres_uri

KEY = "a-key-of-iterable"
DEADLINE = 300.0
"""Seconds for one run."""
NAMES = ("here", "there")
MANY = 5
"""Statements after which a driver would prepare the next one of its kind."""


@dataclass
class Outcome:
    """What the rounds came to."""

    rounds: int = 0
    accepted: int = 0
    """Members that Iterable took or let go."""
    remembered: int = 0
    """What the state says of them."""
    failures: list[str] = field(default_factory=list)
    """What should not be."""


@dataclass
class Scene:
    """The services of an experiment, and its tables."""

    iterable: Sandbox
    pooled: str
    folder: Path
    name: str
    database: Any
    batch_size: int

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement in Postgres, not through the pooler."""
        cursor = self.database.cursor()
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []

    def start(self, which: str) -> subprocess.Popen[bytes]:
        """Start a sync in a process of its own."""
        iterable = {"conn_type": "iterable", "host": self.iterable.url, "password": KEY}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        environment = kept | {
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.folder}/airflow.db",
            "AIRFLOW_CONN_WAREHOUSE": self.pooled,
            "AIRFLOW_CONN_ITERABLE_DEFAULT": json.dumps(iterable),
        }
        command = [sys.executable, "-m", "tests.poolers", "--sync", which, "--name", self.name]
        command += ["--batch-size", str(self.batch_size)]
        with (self.folder / f"log-{which}").open("wb") as log, (self.folder / f"report-{which}").open("wb") as report:
            return subprocess.Popen(command, env=environment, stdout=report, stderr=log, cwd=Path.cwd())

    def run(self, *names: str) -> list[dict[str, Any]]:
        """Run syncs at once, and return their reports."""
        processes = [self.start(name) for name in names]
        try:
            codes = [process.wait(DEADLINE) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        said = {name: (self.folder / f"log-{name}").read_text()[-3000:] for name in names}
        assert codes == [0] * len(names), said
        return [json.loads((self.folder / f"report-{name}").read_text().splitlines()[-1]) for name in names]

    def remembered(self, which: str) -> int:
        """Return how many members a sync remembers."""
        ((count,),) = self.query(f"SELECT count(*) FROM {self.name}.sync_state WHERE sync_id = '{which}'")
        return int(count)

    def members(self, which: str) -> int:
        """Return how many members a list has."""
        lists = json.loads(self._ask("lists"))["lists"]
        (number,) = (each["id"] for each in lists if each["name"] == which)
        return len(self._ask(f"lists/getUsers?listId={number}").split())

    def _ask(self, path: str) -> bytes:
        request = Request(f"{self.iterable.url}/api/{path}", headers={"Api-Key": KEY})
        with urlopen(request, timeout=DEADLINE) as answer:
            found: bytes = answer.read()
        return found


@contextmanager
def scene(rows: int, batch_size: int) -> Iterator[Scene]:
    """Set up two models, a pooler and a sandbox; leave nothing behind."""
    name = f"poolers_{uuid.uuid4().hex[:12]}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="poolers-")))
        pooled = stack.enter_context(pooler())
        database = stack.enter_context(closing(connect(postgres_uri())))
        database.autocommit = True
        made = Scene(stack.enter_context(Sandbox(rates=False)), pooled, folder, name, database, batch_size)
        made.query(f"CREATE SCHEMA {name}")
        stack.callback(made.query, f"SET lock_timeout = '5s'; DROP SCHEMA {name} CASCADE")
        for which in NAMES:
            made.query(
                f"CREATE TABLE {name}.{which} AS SELECT '{which}' || i || '@example.com' AS email, "
                f"{which == 'there'} OR i = 0 AS present FROM generate_series(0, {rows}) AS n(i)"
            )
        for _ in NAMES:
            stack.enter_context(talker(pooled))
        yield made


@contextmanager
def talker(uri: str) -> Iterator[None]:
    """Keep a connection busy for moments, so that the others do not get the same one twice."""
    over = threading.Event()

    def talk() -> None:
        with closing(connect(uri)) as connection:
            if hasattr(connection, "prepare_threshold"):
                connection.prepare_threshold = None  # it is the syncs that are tried
            while not over.is_set():
                connection.cursor().execute("SELECT pg_sleep(0.004)")
                connection.commit()

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def sync(name: str, which: str, batch_size: int) -> None:
    """Run one of the syncs as a task would, and print its report."""
    from airflow_provider_iterable.operators import IterableListOperator

    operator = IterableListOperator(
        task_id=which,
        sync_id=which,
        list_name=which,
        sql_conn_id="warehouse",
        sql=f"SELECT email FROM {name}.{which} WHERE present",
        email_column="email",
        batch_size=batch_size,
        max_removed=1.0,
        state=TableState(schema=name),
    )
    pushed = SimpleNamespace(xcom_push=lambda **kwargs: None, try_number=1)
    context = {"run_id": uuid.uuid4().hex, "ti": pushed, "outlet_events": defaultdict(SimpleNamespace)}
    print(json.dumps(operator.execute(cast("Any", context))))


def experiment(rounds: int, rows: int, batch_size: int, tell: Callable[[str], object] = print) -> Outcome:
    """Let both syncs run as often as that."""
    assert rows // batch_size > MANY, "no statement would be prepared anyway"
    outcome, started = Outcome(), time.monotonic()
    with scene(rows, batch_size) as at:
        at.run(*NAMES)
        for number in range(1, rounds + 1):
            for which in NAMES:
                at.query(f"UPDATE {at.name}.{which} SET present = NOT present WHERE email <> '{which}0@example.com'")
            reports = at.run(*NAMES)
            for which, report in zip(NAMES, reports, strict=True):
                expected = rows + 1 if (which == "here") is (number % 2 == 1) else 1
                outcome.accepted += report["accepted"]
                found = (report["accepted"], at.members(which), at.remembered(which), audited(at, which))
                outcome.remembered += rows - abs(expected - found[2])
                if found != (rows, expected, expected, "succeeded"):
                    outcome.failures.append(
                        f"round {number}: {which}: accepted {found[0]} of {rows}; {found[1]} members and {found[2]} "
                        f"entries of {expected}; the audit says {found[3]}"
                    )
            outcome.rounds += 1
            tell(f"{number:>3} {time.monotonic() - started:>5.0f} s  {len(outcome.failures)} failures")
    tell(f"{outcome.accepted} members accepted, {outcome.remembered} remembered as such.")
    for failure in outcome.failures:
        tell(failure)
    return outcome


def audited(at: Scene, which: str) -> str:
    """Return what the audit says of the last run of a sync: nothing else, if it stopped in its midst."""
    ((status,),) = at.query(
        f"SELECT status FROM {at.name}.sync_runs WHERE sync_id = '{which}' ORDER BY started_at DESC LIMIT 1"
    )
    return str(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.poolers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--sync", help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.sync:
        sync(given.name, given.sync, given.batch_size)
        return 0
    outcome = experiment(given.rounds, given.rows, given.batch_size, lambda line: print(line, flush=True))
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
