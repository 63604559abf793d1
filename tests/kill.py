"""Kills a first sync again and again, and counts what that costs: ``python -m tests.kill --rows 200000 --kills 20``.

A model on Postgres is synced to a sandbox in a process of its own. Each attempt is a new process that runs the
operator and is killed with SIGKILL: while it reads the model, while it is about to commit, and at random instants while
requests are in flight. After each kill, what the sandbox accepted is compared with what the state remembers: the
difference is what was in flight, goes again, and must be small. Then one run is left alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import select
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast
from urllib.request import Request, urlopen

import msgspec

from airflow_provider_iterable.api.client import MAX_IN_FLIGHT
from airflow_provider_iterable.api.pacing import Pace
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.vocabulary import NEVER_EQUAL, Gone
from airflow_provider_iterable.state import ObjectState, TableState
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.store import Store
from tests.services import postgres_uri

BULK = "/api/users/bulkUpdate"
SYNC_ID = "kill.sync_users"
NOBODY = cast("Sync", None)
"""Whom to ask about no rows."""
RATE = 5.0
"""Bulk requests a second: Iterable's documented rate, which the operator keeps."""
LONGEST = 1.5
"""Seconds that such an answer takes at most."""
SLOW = [
    {"kind": "slow", "path": BULK, "times": -1, "probability": 0.3, "seconds": LONGEST},
    {"kind": "slow", "path": BULK, "times": -1, "seconds": 0.6},
]
"""How long bulk answers take, so that requests are in flight most of the time, and answers overtake each other."""
DEADLINE = 120.0
"""Seconds for anything that is waited for."""
Where = Literal["postgres", "sqlite", "object"]


def most_in_flight() -> int:
    """Return how many bulk requests the pace has in flight if all answers take as long as the longest."""
    pace = Pace(RATE)
    pace.answered(0.0, LONGEST)
    return pace.window(MAX_IN_FLIGHT)


class Profile(msgspec.Struct):
    """A profile as the sandbox shows it."""

    email: str
    dataFields: dict[str, Any]  # noqa: N815 (Iterable's name)
    writes: int


class Stored(msgspec.Struct):
    """What the sandbox holds."""

    profiles: list[Profile]


@dataclass
class Kill:
    """What was found after a kill."""

    kind: str
    seconds: float
    """Time since the first request of the attempt, or since it was started when it made none."""
    accepted: int
    """Rows that the sandbox holds."""
    remembered: int
    """Rows that the state holds."""
    in_flight: int
    """Rows that were accepted, and that the state neither remembers nor knew to be in doubt before."""
    requests: int
    """Bulk requests of the attempt that reached the sandbox."""
    resent: int
    """Rows that the attempt sent although the sandbox held them."""


@dataclass
class Outcome:
    """What the whole of it came to."""

    kills: list[Kill]
    rows: int
    bound: int
    """Most rows that may be in flight."""
    last: dict[str, Any]
    """Report of the run that was left alone."""
    after: dict[str, Any]
    """Report of the run after it."""
    requests_after: int
    """Requests that the run after it made."""
    differing: int
    """Rows whose profile is not as the model says, and profiles without a row."""
    forgotten: int
    """Rows that are not in the state."""
    unasked: int
    """Rows that were written more often than kills explain."""
    writes: Counter[int] = field(default_factory=Counter)
    """How many profiles were written how often."""
    seconds: float = 0.0

    def failures(self) -> list[str]:
        """Return what should not be."""
        checks = {
            "profiles that differ from the model": self.differing,
            "rows that are not remembered": self.forgotten,
            "rows written more often than kills explain": self.unasked,
            "requests of a run with nothing to do": self.requests_after,
            "kills with more in flight than may be": sum(not 0 <= kill.in_flight <= self.bound for kill in self.kills),
            "rows that the last run did not account for": self.rows - self.last["accepted"] - self.last["unchanged"],
            "rows that the run after it found changed": self.rows - self.after["unchanged"],
        }
        return [f"{what}: {count}" for what, count in checks.items() if count]


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["airflow_provider_iterable.operators", "airflow.providers.postgres.hooks.postgres"])


class Attempt:
    """The operator in a process of its own, forked from one that has Airflow imported already; as a ``Popen`` is."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], log: Path, report: Path) -> None:
        self._process = FORKS.Process(target=_begin, args=(arguments, environment, log, report), daemon=True)
        self._process.start()

    def poll(self) -> int | None:
        """Return how it ended, if it has."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return how it ended, when it has."""
        self._process.join(timeout)
        code = self._process.exitcode
        assert code is not None, f"It has not ended after {timeout} s."
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self._process.exitcode is None and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End it, whatever it is doing."""
        self.send_signal(signal.SIGKILL)


def _begin(arguments: Sequence[str], environment: dict[str, str], log: Path, report: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for path, flags, number in ((report, os.O_TRUNC, 1), (log, os.O_APPEND, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600), number)
    sys.exit(main(arguments))


@dataclass
class Scene:
    """The services of an experiment, seen from outside."""

    rows: int
    batch_size: int
    where: Where
    postgres: str
    iterable: str
    folder: Path
    name: str
    database: Any
    lease_seconds: float = 300.0
    tries: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """Return what the operator's process needs to know."""
        separator = "&" if "?" in self.postgres else "?"
        mine = f"{self.postgres}{separator}application_name={self.name}"
        sqlite = json.dumps({"conn_type": "sqlite", "host": str(self.folder / "state.db")})
        iterable = {"conn_type": "iterable", "host": self.iterable, "password": "a-key-of-iterable"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        return kept | {
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.folder}/airflow.db",
            "AIRFLOW_CONN_WAREHOUSE": mine,
            "AIRFLOW_CONN_STATE": mine if self.where == "postgres" else sqlite,
            "AIRFLOW_CONN_ITERABLE_DEFAULT": json.dumps(iterable),
        }

    def ask(self, path: str, body: Any = None) -> bytes:
        """Ask the sandbox behind Iterable's back."""
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{self.iterable}/sandbox/{path}", data), timeout=DEADLINE) as answer:
            found: bytes = answer.read()
        return found

    def received(self) -> int:
        """Return how many bulk requests the sandbox has received: each is slowed down first."""
        return sum(fault["fired"] for fault in json.loads(self.ask("faults"))["faults"])

    def answered(self) -> int:
        """Return how many bulk requests the sandbox has done with."""
        calls = json.loads(self.ask("summary"))["calls"]
        return sum(call["count"] for call in calls if call["template"] == BULK)

    def calls(self) -> int:
        """Return how many calls of any kind the sandbox has done with."""
        return int(json.loads(self.ask("summary"))["total"])

    def profiles(self) -> dict[str, Profile]:
        """Return all profiles, by email address."""
        stored = msgspec.json.decode(self.ask("state?users=1"), type=Stored)
        return {profile.email: profile for profile in stored.profiles}

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement in Postgres."""
        cursor = self.database.cursor()
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []

    def connections(self, condition: str = "TRUE") -> int:
        """Return how many connections of the operator's process Postgres has."""
        found = self.query(
            f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{self.name}' AND {condition}"
        )
        return int(found[0][0])

    def state_table(self) -> str:
        """Return the name of the state table."""
        return f"{self.name}.sync_state" if self.where == "postgres" else "iterable_sync_state"

    def state(self) -> tuple[set[str], set[str]]:
        """Return the email addresses of the rows that are remembered, and of those in doubt."""
        if self.where == "object":
            # Read only, wherever it belongs: none of what a baseline would do is done.
            session = ObjectState(f"file://{self.folder}/objects").open(Scope(SYNC_ID, {}, resync="baseline"))
            with closing(session):
                pairs = [pair for pair in session.pair(NOBODY, []) if isinstance(pair, Gone)]
            entries = [(pair.key, pair.before.fingerprint.hex()) for pair in pairs]
            announced: list[str] = []
        else:
            entries = self._stored(f"SELECT record_key, fingerprint FROM {{}} WHERE sync_id = '{SYNC_ID}'", "state")
            found = self._stored(f"SELECT doubts FROM {{}} WHERE sync_id = '{SYNC_ID}'", "intents")
            announced = [key for (doubts,) in found for key, *_ in json.loads(doubts)]
        doubtful = {email(int(key[1:-1])) for key, digest in entries if digest == NEVER_EQUAL.hex()}
        remembered = {email(int(key[1:-1])) for key, _ in entries} - doubtful
        return remembered, doubtful | {email(int(key[1:-1])) for key in announced}

    def remembered(self) -> set[str]:
        """Return the email addresses of the rows that are remembered."""
        return self.state()[0]

    def _stored(self, statement: str, table: str) -> list[tuple[Any, ...]]:
        """Ask one of the state's tables, if it is there."""
        if self.where == "postgres":
            name = f"{self.name}.sync_{table}"
            return (
                [] if self.query(f"SELECT to_regclass('{name}')") == [(None,)] else self.query(statement.format(name))
            )
        name = f"iterable_sync_{table}"
        with closing(sqlite3.connect(self.folder / "state.db")) as connection:
            there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchall()
            return connection.execute(statement.format(name)).fetchall() if there else []

    @contextmanager
    def locked_model(self) -> Iterator[None]:
        """Let nobody read past the middle of the model."""
        with self._locked(self.name):
            yield

    @contextmanager
    def locked_gate(self) -> Iterator[None]:
        """Let no attempt begin."""
        with self._locked(f"{self.name} gate"):
            yield

    @contextmanager
    def _locked(self, what: str) -> Iterator[None]:
        with closing(connect(self.postgres)) as connection:
            connection.cursor().execute("SELECT pg_advisory_lock(hashtext(%s))", (what,))
            yield

    @contextmanager
    def locked_state(self) -> Iterator[None]:
        """Let nobody write to the state table."""
        if self.where == "sqlite":
            with closing(sqlite3.connect(self.folder / "state.db", isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                yield
            return
        with closing(connect(self.postgres)) as connection:
            connection.cursor().execute(f"LOCK TABLE {self.state_table()} IN SHARE MODE")
            yield

    def start(self, run: str = "run", number: int | None = None, told: str = "") -> Attempt:
        """Start the operator in a process of its own, by default as the next try of the same task instance.

        :param told: end of the names of the files that it writes to
        """
        self.tries += 1
        command = ["--attempt", "--batch-size", str(self.batch_size)]
        command += ["--rows", str(self.rows), "--state", self.where, "--name", self.name, "--run", run]
        command += ["--try", str(number or self.tries), "--lease-seconds", str(self.lease_seconds)]
        return Attempt(command, self.environment, self.folder / f"log{told}", self.folder / f"report{told}")

    def run(self) -> dict[str, Any]:
        """Run the operator to its end and return its report."""
        process = self.start()
        try:
            assert process.wait(DEADLINE + 2 * self.rows / self.batch_size / RATE) == 0, self.said()
        finally:
            process.kill()
        found: dict[str, Any] = json.loads((self.folder / "report").read_text().splitlines()[-1])
        return found

    def said(self) -> str:
        """Return the end of what the operator's processes said."""
        return "\n".join(path.read_text()[-3000:] for path in (self.folder / "log", self.folder / "report"))

    def until(self, met: Callable[[], bool], process: Attempt | subprocess.Popen[bytes] | None = None) -> None:
        """Poll until a condition is met; it is an error when the process ends before."""
        deadline = time.monotonic() + DEADLINE
        while not met():
            assert process is None or process.poll() is None, f"The operator ended by itself.\n{self.said()}"
            assert time.monotonic() < deadline, f"Waited for {DEADLINE:.0f} s in vain.\n{self.said()}"
            select.select([], [], [], 0.005)

    def settle(self) -> None:
        """Wait until neither the sandbox nor Postgres is at work for a process that is no more."""
        self.until(lambda: self.connections() == 0)
        self.until(lambda: self.received() == self.answered())


def email(number: int) -> str:
    """Return the address of a row."""
    return f"u{number}@example.com"


def fields(number: int) -> dict[str, Any]:
    """Return what the profile of a row should hold."""
    return {"name": f'O\'Neill "{number}" 👋', "score": number % 1000, "active": number % 2 == 0}


def connect(uri: str) -> Any:
    """Connect to Postgres with the driver that is there."""
    driver = "psycopg" if find_spec("psycopg") else "psycopg2"
    return import_module(driver).connect(uri)


@contextmanager
def scene(
    rows: int,
    batch_size: int,
    where: Where,
    slow: Sequence[dict[str, Any]] = tuple(SLOW),
    lease_seconds: float = 300.0,
) -> Iterator[Scene]:
    """Set up a model, a place for the state and a sandbox; leave nothing behind."""
    name = f"kill_{uuid.uuid4().hex[:12]}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kill-")))
        database = stack.enter_context(closing(connect(postgres_uri())))
        database.autocommit = True
        iterable = subprocess.Popen(
            [sys.executable, "-m", "airflow_provider_iterable.sandbox", "--port", "0", "--no-rates"],
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(iterable.wait)
        stack.callback(iterable.kill)
        assert iterable.stdout is not None
        stack.callback(iterable.stdout.close)
        found = re.search(r"http://\S+", iterable.stdout.readline())
        assert found, "the sandbox does not say where it is"
        made = Scene(rows, batch_size, where, postgres_uri(), found.group(), folder, name, database, lease_seconds)
        made.query(f"CREATE SCHEMA {name}")
        stack.callback(made.query, f"SET lock_timeout = '5s'; DROP SCHEMA {name} CASCADE")
        made.query(
            f"CREATE TABLE {name}.people AS SELECT i AS id, 'u' || i || '@example.com' AS email, "
            "'O''Neill \"' || i || '\" 👋' AS name, i % 1000 AS score, i % 2 = 0 AS active "
            f"FROM generate_series(1, {rows}) AS n(i)"
        )
        made.ask("faults", list(slow))
        yield made


def store(scene_name: str, where: Where, lease_seconds: float) -> Store:
    """Return where the operator's process remembers."""
    if where == "object":
        return ObjectState(f"file://{os.environ['AIRFLOW_HOME']}/objects")
    return TableState("state", schema=scene_name if where == "postgres" else None, lease_seconds=lease_seconds)


def attempt(
    scene_name: str, rows: int, batch_size: int, where: Where, run: str, number: int, lease_seconds: float
) -> None:
    """Run the operator as a task would, and print its report; a gate keeps it waiting that others may have shut."""
    from airflow_provider_iterable.operators import IterableUserSyncOperator

    # The row in the middle waits for a lock that is free, unless somebody wants to kill who reads it.
    lock = f"pg_advisory_xact_lock_shared(hashtext('{scene_name}')) IS NOT NULL"
    operator = IterableUserSyncOperator(
        task_id="sync_users",
        sync_id=SYNC_ID,
        sql_conn_id="warehouse",
        sql=f"SELECT * FROM {scene_name}.people WHERE CASE WHEN id = {rows // 2} THEN {lock} ELSE TRUE END",
        primary_key="id",
        email_column="email",
        batch_size=batch_size,
        state=store(scene_name, where, lease_seconds),
    )
    with closing(connect(os.environ["AIRFLOW_CONN_WAREHOUSE"])) as gate:
        gate.cursor().execute("SELECT pg_advisory_lock_shared(hashtext(%s))", (f"{scene_name} gate",))
    pushed = SimpleNamespace(xcom_push=lambda **kwargs: None, try_number=number)
    context = {"run_id": run, "ti": pushed, "outlet_events": defaultdict(SimpleNamespace)}
    print(json.dumps(operator.execute(cast("Any", context))))


@dataclass
class Experiment:
    """Kills, one after the other, and what is known after each."""

    scene: Scene
    random: random.Random
    kills: list[Kill] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    """At how many kills a row was in flight, by email address."""
    accepted: int = 0
    writes: int = 0
    doubtful: set[str] = field(default_factory=set)
    """Rows that were accepted and not remembered at the kill before."""

    def kill(
        self,
        kind: str,
        wait: Callable[[Attempt], float],
        lock: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> Kill:
        """Start an attempt, kill it when the wait is over and while the lock is held, and look."""
        scene, remembered = self.scene, self.scene.remembered()
        received, calls = scene.received(), scene.calls()
        with lock():
            process = scene.start()
            try:
                seconds = wait(process)
            finally:
                process.kill()
                process.wait()
        # Only now: Postgres notices that a client is gone when it is done waiting for a lock.
        scene.settle()
        profiles, (now, doubtful) = scene.profiles(), scene.state()
        assert now >= remembered, "a kill does not make the state forget"
        assert now <= profiles.keys(), "the state holds only what was accepted"
        lost = profiles.keys() - now
        assert lost <= doubtful, "what was accepted and is not remembered is in doubt"
        if kind == "plan":
            assert scene.calls() == calls, "while the model is read nothing is sent"
        elif kind == "commit":
            assert now == remembered, "what could not be committed is not remembered"
        writes = sum(profile.writes for profile in profiles.values())
        new = len(profiles) - self.accepted
        kill = Kill(
            kind,
            seconds,
            len(profiles),
            len(now),
            len(lost - self.doubtful),
            scene.received() - received,
            writes - self.writes - new,
        )
        self.accepted, self.writes = len(profiles), writes
        self.lost.update(lost)
        self.doubtful = lost
        self.kills.append(kill)
        return kill

    def in_plan(self) -> Kill:
        """Kill who has read half of the model."""
        scene = self.scene

        def wait(process: Attempt) -> float:
            started = time.monotonic()
            scene.until(lambda: scene.connections("wait_event_type = 'Lock'") > 0, process)
            return time.monotonic() - started

        return self.kill("plan", wait, scene.locked_model)

    def before_commit(self) -> Kill:
        """Kill who has an answer and cannot commit."""
        scene = self.scene
        answered = scene.answered()
        locks, model = ExitStack(), ExitStack()
        model.enter_context(scene.locked_model())
        locks.callback(model.close)

        def wait(process: Attempt) -> float:
            # Not sooner: it has to take the lease first, and does so before it reads.
            scene.until(lambda: scene.connections("wait_event_type = 'Lock'") > 0, process)
            if scene.where == "sqlite":  # its lock is on everything, and what is sent has to be announced first
                model.close()
                started = self._first_request(process)
                locks.enter_context(scene.locked_state())
            else:
                locks.enter_context(scene.locked_state())
                model.close()
                started = self._first_request(process)
            scene.until(lambda: scene.answered() > answered, process)
            if scene.where == "postgres":
                scene.until(lambda: scene.connections("wait_event_type = 'Lock'") > 0, process)
            return time.monotonic() - started

        return self.kill("commit", wait, lambda: locks)

    def at_random(self, kills_left: int) -> Kill:
        """Kill at a random instant after the first request; what is left is spread over the kills that are left."""
        scene = self.scene
        expected = (scene.rows - len(scene.remembered())) / scene.batch_size / RATE
        longest = min(2 / (kills_left + 1), 0.8) * expected

        def wait(process: Attempt) -> float:
            started = self._first_request(process)
            moment = started + self.random.uniform(0, longest)
            scene.until(lambda: time.monotonic() >= moment, process)
            return time.monotonic() - started

        return self.kill("random", wait)

    def _first_request(self, process: Attempt) -> float:
        received = self.scene.received()
        self.scene.until(lambda: self.scene.received() > received, process)
        return time.monotonic()


def experiment(
    rows: int, kills: int, batch_size: int, where: Where, seed: int, tell: Callable[[str], None] = print
) -> Outcome:
    """Kill as often as that at random, once in the plan and once before a commit; then see to the end."""
    started = time.monotonic()
    tell(
        f"{rows} rows in batches of {batch_size}, state on {where}, seed {seed}. Killed once while the model is read, "
        f"once before a commit (objects: at random), {kills} times at random; at most {most_in_flight()} batches "
        "in flight."
    )
    tell("   killed at   after  requests   resent   accepted  remembered  in flight")
    with scene(rows, batch_size, where) as at:
        trial = Experiment(at, random.Random(seed))
        for number in range(kills + 2):
            if number == 0:
                kill = trial.in_plan()
            elif number == (kills + 2) // 2 and where != "object":  # a folder cannot be locked
                kill = trial.before_commit()
            else:
                kill = trial.at_random(kills + 2 - number - (number < (kills + 2) // 2))
            tell(
                f"{number + 1:>2} {kill.kind:<8} {kill.seconds:>6.2f} s {kill.requests:>9} {kill.resent:>8} "
                f"{kill.accepted:>10} {kill.remembered:>11} {kill.in_flight:>10}"
            )
        last = at.run()
        at.settle()
        calls = at.calls()
        after = at.run()
        profiles, remembered = at.profiles(), at.remembered()
        expected = {email(number): fields(number) for number in range(1, rows + 1)}
        found = {address: profile.dataFields for address, profile in profiles.items()}
        differing = sum(found.get(address) != values for address, values in expected.items())
        outcome = Outcome(
            kills=trial.kills,
            rows=rows,
            bound=most_in_flight() * batch_size,
            last=last,
            after=after,
            requests_after=at.calls() - calls,
            differing=differing + len(found.keys() - expected.keys()),
            forgotten=len(expected.keys() - remembered),
            unasked=sum(profile.writes > 1 + trial.lost[address] for address, profile in profiles.items()),
            writes=Counter(profile.writes for profile in profiles.values()),
            seconds=time.monotonic() - started,
        )
    summarize(outcome, tell)
    return outcome


def summarize(outcome: Outcome, tell: Callable[[str], None]) -> None:
    """Tell how it ended."""
    last, after = outcome.last, outcome.after
    resent = sum((times - 1) * count for times, count in outcome.writes.items())
    tell(
        f"Left alone: {last['unchanged']} rows unchanged, {last['accepted']} accepted. Once more: {after['requests']}."
    )
    tell(
        f"Profiles by number of writes: {dict(sorted(outcome.writes.items()))}; {resent} rows sent again by "
        f"{len(outcome.kills)} kills ({resent / outcome.rows:.1%} of the model); most in flight at a kill: "
        f"{max(kill.in_flight for kill in outcome.kills)} of {outcome.bound}. {outcome.seconds:.0f} s."
    )
    tell("\n".join(outcome.failures()) or "Nothing lost, nothing sent twice but what was in flight.")


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--kills", type=int, default=20, help="at random instants; two more are not random")
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--state", choices=("postgres", "sqlite", "object"), default="postgres")
    parser.add_argument("--seed", type=int, default=None, help="of the instants; printed, to be repeated")
    parser.add_argument("--attempt", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--try", dest="number", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--lease-seconds", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.attempt:
        attempt(given.name, given.rows, given.batch_size, given.state, given.run, given.number, given.lease_seconds)
        return 0
    seed = random.randrange(10**6) if given.seed is None else given.seed
    outcome = experiment(
        given.rows, given.kills, given.batch_size, given.state, seed, lambda line: print(line, flush=True)
    )
    return 1 if outcome.failures() else 0


if __name__ == "__main__":
    sys.exit(main())
