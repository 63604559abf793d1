"""Starts two runs of one sync, and counts what each does: ``python -m tests.leases --rounds 50``.

The runs are real processes between Postgres and a sandbox, as in :mod:`tests.kill`. They are let go at the same moment;
or the first one is killed with SIGKILL while its requests are in flight; or it is stopped with SIGSTOP until its lease
has run out and another run has taken over, and is then continued: while requests are in flight, or in the midst of a
commit. What the second run does, and what the first does when it is back, is compared with what each may do.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_iterable.engine.tries import Patience
from tests.kill import BULK, DEADLINE, SYNC_ID, Scene, email, scene

SHORT = 2.0
"""Seconds of a lease that is to run out; who is slower than that has to ask whether it is still its own."""
SLOW = ({"kind": "slow", "path": BULK, "times": -1, "seconds": 2.0},)
"""How long requests are in flight, so that the moment when all are is long enough to be met."""
IN_FLIGHT = Patience().in_flight


@dataclass
class Outcome:
    """What the whole of it came to."""

    rounds: int
    failures: list[str] = field(default_factory=list)
    """What should not be."""


class Running:
    """A run that goes on in a process."""

    def __init__(self, at: Scene, run: str, number: int = 1) -> None:
        self.at, self.run = at, run
        self._told = f"-{run}-{number}"
        self.process = at.start(run, number, self._told)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def until(self, met: Callable[[], bool]) -> None:
        """Wait until something is so, while it runs."""
        self.at.until(met, self.process)

    def ends(self) -> bool:
        """Wait until it has ended; return whether it succeeded."""
        return self.process.wait(DEADLINE) == 0

    @property
    def report(self) -> dict[str, Any]:
        """Return what it reported."""
        found: dict[str, Any] = json.loads((self.at.folder / f"report{self._told}").read_text().splitlines()[-1])
        return found

    @property
    def said(self) -> str:
        """Return what it logged."""
        names = (f"log{self._told}", f"report{self._told}")
        return "\n".join((self.at.folder / name).read_text() for name in names)


@dataclass
class Round:
    """One experiment: processes that end with it, and what was not as it should be."""

    at: Scene
    name: str
    stack: ExitStack
    failures: list[str] = field(default_factory=list)

    def start(self, which: str, number: int = 1) -> Running:
        """Start a run in a process of its own."""
        running = Running(self.at, f"{self.name}-{which}", number)
        self.stack.callback(running.process.wait)
        self.stack.callback(running.process.kill)
        return running

    def expect(self, what: str, expected: object, actual: object, run: Running | None = None) -> None:
        """Note what differs."""
        if expected != actual:
            said = "" if run is None else f"\n{run.said[-2000:]}"
            self.failures.append(f"{self.name}: {what}: expected {expected}, found {actual}{said}")

    def fails(self, run: Running, *words: str) -> None:
        """Expect that a run fails, and says these words."""
        self.expect(f"{run.run} ends well", False, run.ends(), run)
        for word in words:
            self.expect(f"{run.run} says {word!r}", True, word in run.said, run)

    def succeeds(self, run: Running) -> None:
        """Expect that a run ends well, and leaves nothing undone."""
        if not run.ends():
            self.failures.append(f"{self.name}: {run.run} failed\n{run.said[-2000:]}")
        else:
            done = run.report["accepted"] + run.report["unchanged"]
            self.expect(f"rows that {run.run} accounts for", self.at.rows, done)

    def change(self) -> list[int]:
        """Let every row of the model differ from what is remembered; return how often profiles were written so far."""
        self.at.query(f"UPDATE {self.at.name}.people SET score = score + 1")
        return self._writes()

    def _writes(self) -> list[int]:
        profiles = self.at.profiles()
        return [profiles[email(number)].writes for number in range(1, self.at.rows + 1)]

    def written(self, before: Sequence[int]) -> list[int]:
        """Return how often each profile was written since."""
        return [now - then for now, then in zip(self._writes(), before, strict=True)]

    def expect_once_but_in_flight(self, before: Sequence[int]) -> None:
        """Expect that each profile was written once, and those in flight perhaps twice."""
        found = self.written(before)
        self.expect("profiles not written once or twice", 0, sum(times not in (1, 2) for times in found))
        most, twice = IN_FLIGHT * self.at.batch_size, sum(times == 2 for times in found)
        self.expect(f"of {twice} profiles written twice at most {most} were in flight", True, twice <= most)

    def waiting(self, many: int = 1) -> Callable[[], bool]:
        """Return what tells whether so many connections of runs wait for a lock."""
        return lambda: self.at.connections("wait_event_type = 'Lock'") >= many

    def expired(self) -> bool:
        """Return whether the lease has run out."""
        found = self.at.query(
            f"SELECT expires_at < extract(epoch FROM clock_timestamp()) * 1000 FROM {self.at.name}.sync_lease "
            f"WHERE sync_id = '{SYNC_ID}'"
        )
        return found == [(True,)]

    def in_flight(self) -> int:
        """Return how many requests are in flight."""
        return self.at.received() - self.at.answered()

    def killed(self) -> Running:
        """Return a run that was killed with requests in flight."""
        run = self.start("a")
        run.until(lambda: self.in_flight() > 0)
        run.signal(signal.SIGKILL)
        run.process.wait()
        self.at.settle()
        return run

    def stopped(self) -> tuple[Running, list[int]]:
        """Return a run that was stopped until its lease ran out, and how often profiles were written before it.

        As many requests as may be are in flight then, so that none is just about to start.
        """
        for which in "acdef":
            before = self.change()
            run = self.start(which)
            run.until(lambda: self.in_flight() == IN_FLIGHT)
            run.signal(signal.SIGSTOP)
            if self.in_flight() == IN_FLIGHT:
                self.at.until(lambda: self.in_flight() == 0)
                self.at.until(self.expired)
                return run, before
            run.signal(signal.SIGCONT)
            run.ends()
        raise AssertionError("This machine is too slow to stop a run at the right moment.")

    def goes_on(self, run: Running, *words: str) -> None:
        """Continue a run that was stopped, and expect that it sends and writes nothing, and says these words."""
        before = self._traces()
        run.signal(signal.SIGCONT)
        self.fails(run, "LeaseLost", "is lost", *words)
        self.expect(f"state and requests when {run.run} is back", before, self._traces(), run)

    def _traces(self) -> list[tuple[Any, ...]]:
        """Return all that a run leaves: requests, and what is in the tables, by the transactions that wrote it."""
        name = self.at.name
        found = self.at.query(
            f"SELECT 's', record_key, fingerprint, xmin::text FROM {name}.sync_state UNION ALL "
            f"SELECT 'h', destination, notes, xmin::text FROM {name}.sync_header UNION ALL "
            f"SELECT 'a', row_id, status, xmin::text FROM {name}.sync_snapshot UNION ALL "
            f"SELECT 'c', row_id, status, xmin::text FROM {name}.sync_changelog UNION ALL "
            f"SELECT 'r', path_template, sync_run_id, xmin::text FROM {name}.sync_requests ORDER BY 1, 2, 3, 4"
        )
        return [*found, (self.at.received(), self.at.calls())]


def at_once(this: Round) -> None:
    """Two runs are let go at the same moment: one of them runs, the other says who does, and sends nothing."""
    at, before, received = this.at, this.change(), this.at.received()
    with at.locked_model():  # so that the first is there when the second arrives, however slow the machine
        with at.locked_gate():
            runs = [this.start(which) for which in ("a", "b")]
            at.until(this.waiting(2))
        at.until(lambda: any(run.process.poll() is not None for run in runs))
        calls = at.received() - received
    loser, winner = sorted(runs, key=lambda run: run.process.poll() is None)
    this.fails(loser, "is being run by another run", f"run {winner.run}, try 1")
    this.expect("requests before the second run had failed", 0, calls)
    this.succeeds(winner)
    this.expect("profiles not written once", 0, sum(times != 1 for times in this.written(before)))


def killed_and_tried_again(this: Round) -> None:
    """The holder is killed: another run has to wait, and a later try takes over at once."""
    before = this.change()
    first = this.killed()
    this.fails(this.start("b"), "is being run by another run", f"run {first.run}, try 1")
    this.succeeds(this.start("a", 2))
    this.expect_once_but_in_flight(before)


def killed_and_expired(this: Round) -> None:
    """The holder is killed: when its lease has run out, another run takes over."""
    this.at.lease_seconds = SHORT
    before = this.change()
    this.killed()
    this.at.until(this.expired)
    this.succeeds(this.start("b"))
    this.expect_once_but_in_flight(before)


def stopped_in_flight(this: Round) -> None:
    """The holder is stopped while requests are in flight, and continued when another run has come and gone."""
    this.at.lease_seconds = SHORT
    first, before = this.stopped()
    this.succeeds(this.start("b"))
    this.goes_on(first, "nobody holds it now")
    this.expect_once_but_in_flight(before)


def stopped_beside_another(this: Round) -> None:
    """The holder is stopped likewise, and continued while another run holds the lease and reads its model."""
    this.at.lease_seconds = SHORT
    first, before = this.stopped()
    with this.at.locked_model():
        second = this.start("b")
        second.until(this.waiting())
        this.goes_on(first, f"run {second.run}, try 1", "holds it now")
    this.succeeds(second)
    this.expect_once_but_in_flight(before)


def stopped_in_a_commit(this: Round) -> None:
    """The holder is stopped in a transaction that locks the lease and rows of the state: Postgres ends it."""
    at = this.at
    at.lease_seconds = SHORT
    before, received = this.change(), at.received()
    first = this.start("a")
    with at.locked_state():
        first.until(lambda: at.received() > received)
        first.until(this.waiting())
        first.until(lambda: at.received() == at.answered())  # nothing starts while a commit waits
        first.signal(signal.SIGSTOP)
    at.until(this.expired)
    this.succeeds(this.start("b"))
    this.goes_on(first, "nobody holds it now")
    this.expect_once_but_in_flight(before)


LOSSES = (killed_and_tried_again, killed_and_expired, stopped_in_flight, stopped_beside_another, stopped_in_a_commit)


def experiment(rounds: int, losses: int, rows: int = 120, batch_size: int = 20, tell: Any = print) -> Outcome:
    """Start two at once as often as that, then lose a holder in each of the ways as often as that."""
    kinds = [at_once] * rounds + list(LOSSES) * losses
    outcome, started = Outcome(len(kinds)), time.monotonic()
    with scene(rows, batch_size, "postgres", SLOW) as at:
        at.run()
        for number, kind in enumerate(kinds, 1):
            at.lease_seconds = 300.0
            with ExitStack() as stack:
                this = Round(at, f"{kind.__name__}-{number}", stack)
                kind(this)
            at.settle()
            outcome.failures.extend(this.failures)
            tell(f"{number:>3} {kind.__name__:<24} {time.monotonic() - started:>5.0f} s  {len(this.failures)} failures")
    for failure in outcome.failures:
        tell(failure)
    return outcome


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.leases", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50, help="in which two runs start at once")
    parser.add_argument("--losses", type=int, default=5, help="in each way in which a holder is lost")
    given = parser.parse_args(argv)
    outcome = experiment(given.rounds, given.losses, tell=lambda line: print(line, flush=True))
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
