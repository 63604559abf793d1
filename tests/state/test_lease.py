from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_iterable.engine.vocabulary import Entry
from airflow_provider_iterable.errors import ConfigurationError, LeaseHeld, LeaseLost, StateUnavailable
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.scope import Holder, Scope
from airflow_provider_iterable.state.tables import connection as state_tables
from airflow_provider_iterable.state.tables import lease as leases
from airflow_provider_iterable.state.tables.lease import PATIENCE, Lease
from airflow_provider_iterable.state.tables.session import TableSession
from tests.state.contract import HERE, MAPPING, entry, fresh, kept
from tests.state.test_table import (
    Tables,
    Time,
    Unsteady,
    execute,
    postgres_hook,
    postgres_tables,
    sqlite_hook,
)

FIRST = Holder("one instance", 1, "the first run")
SECOND = Holder("another instance", 1, "the second run")
SECONDS = 300.0


def opened(
    tables: Tables,
    sync_id: str,
    holder: Holder = FIRST,
    hook: Any = None,
    patience: float = 0.0,
) -> TableSession:
    """Open the tables as a run does."""
    scope = Scope(sync_id, HERE, MAPPING, holder=holder)
    return TableSession(scope, hook or tables.hook, tables.schema, patience=patience)


def name(tables: Tables) -> str:
    """Return the name of the table with the leases."""
    return f'"{tables.schema}".sync_lease' if tables.schema else "iterable_sync_lease"


def row(tables: Tables, sync_id: str) -> tuple[str, int] | None:
    """Return who has the lease of a sync, and until when."""
    found = execute(tables.hook, f"SELECT label, expires_at FROM {name(tables)} WHERE sync_id = '{sync_id}'")
    return found[0] if found else None


def holder_of(tables: Tables, sync_id: str) -> str | None:
    """Return who has the lease of a sync."""
    found = row(tables, sync_id)
    return None if found is None else found[0]


def expire(tables: Tables, sync_id: str) -> None:
    """Let the lease of a sync have run out."""
    execute(tables.hook, f"UPDATE {name(tables)} SET expires_at = 1 WHERE sync_id = '{sync_id}'")


def test_a_second_run_is_told_who_is_first(tables: Tables) -> None:
    """It fails at once, is worth retrying, and leaves the first one alone; other syncs are nobody's business."""
    sync_id = fresh()
    with closing(opened(tables, sync_id)) as session:
        before = row(tables, sync_id)
        with pytest.raises(LeaseHeld, match=f"'{sync_id}'.*the first run.*Nothing was read or sent.*30?0? s") as caught:
            opened(tables, sync_id, SECOND)
        assert "runs out in 300 s" in str(caught.value) or "runs out in 299 s" in str(caught.value)
        assert row(tables, sync_id) == before
        opened(tables, fresh(), SECOND).close()
        session.commit({"[1]": entry(1)})
    opened(tables, sync_id, SECOND).close()
    assert holder_of(tables, sync_id) is None
    assert kept(tables, sync_id) == {"[1]": entry(1)}


WRITES: dict[str, Callable[[TableSession], None]] = {
    "commit": lambda session: session.commit({"[1]": entry(9), "[2]": entry(2)}),
    "forget": lambda session: session.commit({"[1]": None}),
    "note": lambda session: session.note("list_id", "9"),
    "void": lambda session: session.void("resync", "run"),
    "finish": lambda session: session.finish(True),
}


@pytest.mark.parametrize("what", WRITES)
@pytest.mark.parametrize("ended", [False, True], ids=["runs", "has ended"])
def test_who_lost_the_lease_writes_nothing(tables: Tables, what: str, ended: bool) -> None:
    """Neither entries nor the header, while the new holder is at work and when it has ended; the error names it."""
    sync_id = fresh()
    lost = opened(tables, sync_id)
    lost.commit({"[1]": entry(1)})
    expire(tables, sync_id)
    winner = opened(tables, sync_id, SECOND)
    winner.note("list_id", "7")
    if ended:
        winner.close()
    with pytest.raises(LeaseLost) as caught:
        WRITES[what](lost)
    assert ("nobody holds it now" if ended else "the second run holds it now") in str(caught.value)
    assert "[1]" not in str(caught.value)
    assert lost.lease.failure is caught.value
    lost.close()
    assert holder_of(tables, sync_id) == (None if ended else "the second run"), "what is lost is not let go"
    winner.close()
    with closing(opened(tables, sync_id)) as session:
        assert session.notes == {"list_id": "7"}
        assert session.recall(["[1]", "[2]"]) == {"[1]": entry(1)}


def test_who_lost_the_lease_writes_no_header_either(tables: Tables) -> None:
    """Also not the first one."""
    sync_id = fresh()
    lost = opened(tables, sync_id)
    expire(tables, sync_id)
    opened(tables, sync_id, SECOND).close()
    with pytest.raises(LeaseLost):
        lost.commit({"[1]": entry(1)})
    lost.close()
    assert execute(tables.hook, f"SELECT * FROM {name(tables).replace('lease', 'header')}") == []


def test_a_lease_that_ran_out_and_was_not_taken_is_still_the_runs_own(tables: Tables) -> None:
    """The run was away for long and nobody took over: it goes on, and the lease lasts as long as ever."""
    sync_id = fresh()
    with closing(opened(tables, sync_id)) as session:
        expire(tables, sync_id)
        session.commit({"[1]": entry(1)})
        with pytest.raises(LeaseHeld):
            opened(tables, sync_id, SECOND)
        expire(tables, sync_id)
        session.note("list_id", "7")
        with pytest.raises(LeaseHeld):
            opened(tables, sync_id, SECOND)
    assert kept(tables, sync_id) == {"[1]": entry(1)}


@pytest.mark.parametrize(
    ("holder", "takes_over"),
    [
        (Holder("one instance", 2, "the second try"), True),
        (Holder("one instance", 9, "the ninth try"), True),
        (Holder("one instance", 1, "the same try, started twice"), False),
        (Holder("one instance", 0, "a try before"), False),
        (Holder("another instance", 2, "another task instance's second try"), False),
        (Holder(), False),
    ],
    ids=lambda value: value.label if isinstance(value, Holder) else "",
)
def test_a_later_try_takes_over_at_once(tables: Tables, holder: Holder, takes_over: bool) -> None:
    """Airflow starts one when it has given the earlier up; that one can write no more. Nobody else can do so."""
    sync_id = fresh()
    earlier = opened(tables, sync_id)
    if not takes_over:
        with pytest.raises(LeaseHeld):
            opened(tables, sync_id, holder)
        earlier.commit({"[1]": entry(1)})
        earlier.close()
        return
    later = opened(tables, sync_id, holder)
    with pytest.raises(LeaseLost, match=holder.label):
        earlier.commit({"[1]": entry(1)})
    earlier.close()
    later.commit({"[2]": entry(2)})
    later.close()
    assert kept(tables, sync_id) == {"[2]": entry(2)}


def test_runs_without_a_name_do_not_take_over(tables: Tables) -> None:
    """They do not belong together."""
    sync_id = fresh()
    with closing(opened(tables, sync_id, Holder())), pytest.raises(LeaseHeld, match="a run without a name"):
        opened(tables, sync_id, Holder())


def test_a_lease_that_cannot_be_taken_is_worth_retrying(tables: Tables, time: Time) -> None:
    """Nothing was read by then, and no connection stays."""
    sync_id, hook = fresh(), Unsteady(tables.hook)
    opened(tables, sync_id).close()
    hook.breaks.extend(["INSERT INTO"] * 100)
    with pytest.raises(StateUnavailable, match=f"'{sync_id}' could not be taken .BrokenError.. Nothing was read"):
        opened(tables, sync_id, hook=hook, patience=30.0)
    for connection in hook.connections:
        with pytest.raises(Exception, match=r"clos|not available"):
            connection.cursor().execute("SELECT 1")


def test_a_session_that_is_refused_lets_the_lease_go(tables: Tables) -> None:
    """Another destination is noticed with the lease in hand."""
    sync_id = fresh()
    with closing(opened(tables, sync_id)) as session:
        session.commit({"[1]": entry(1)})
    scope = Scope(sync_id, {**HERE, "host": "elsewhere"}, MAPPING, hook=lambda conn_id: tables.hook)
    with pytest.raises(Exception, match="another destination"):
        TableState(schema=tables.schema).open(scope)
    assert holder_of(tables, sync_id) is None


def test_a_lease_that_cannot_be_let_go_runs_out(
    tables: Tables,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The run has ended well all the same; the log says what it means."""
    sync_id, hook = fresh(), Unsteady(tables.hook)
    session = opened(tables, sync_id, hook=hook)
    hook.breaks.extend(["DELETE", "DELETE"])
    session.close()
    assert f"The lease of sync {sync_id} could not be released (BrokenError)" in caplog.text
    assert "up to 300 s" in caplog.text
    assert holder_of(tables, sync_id) == "the first run"
    expire(tables, sync_id)
    opened(tables, sync_id, SECOND).close()


def test_a_lease_is_let_go_although_the_connection_was_closed_meanwhile(tables: Tables) -> None:
    """A run that read its model for an hour and then failed has not used it since."""
    sync_id, hook = fresh(), Unsteady(tables.hook)
    session = opened(tables, sync_id, hook=hook)
    hook.connections[-1].close()
    session.close()
    assert holder_of(tables, sync_id) is None


@pytest.mark.parametrize("seconds", [0, 0.9, -1])
def test_a_lease_lasts_a_second_at_least(tables: Tables, seconds: float) -> None:
    """Anything less would be a mistake."""
    scope = Scope(fresh(), HERE, hook=lambda conn_id: tables.hook)
    with pytest.raises(ConfigurationError, match="lease_seconds must be at least 1"):
        TableState(schema=tables.schema, lease_seconds=seconds).open(scope)


@pytest.mark.parametrize("database", ["postgres", "sqlite"])
def test_of_many_who_try_at_once_one_gets_it(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the lease is free, has run out or is held by an earlier try."""
    if database == "sqlite":
        contend(Tables(sqlite_hook(tmp_path, monkeypatch)))
        return
    with postgres_tables(postgres_hook(monkeypatch)) as made:
        contend(made)


def contend(tables: Tables) -> None:
    """Let six runs at once try to take a lease, again and again."""
    with ThreadPoolExecutor(6) as pool:
        for number in range(12):
            sync_id = fresh()
            if number % 3:
                opened(tables, sync_id, Holder("one instance", 0))
            if number % 3 == 1:
                expire(tables, sync_id)
            barrier = threading.Barrier(6)

            def run(who: int, sync_id: str = sync_id, barrier: threading.Barrier = barrier) -> bool:
                hook = type(tables.hook)("state")
                barrier.wait()
                try:
                    session = opened(tables, sync_id, Holder("one instance", 1, f"run {who}"), hook, patience=60.0)
                except LeaseHeld:
                    return False
                session.tables.close()  # and keep the lease
                return True

            assert sorted(pool.map(run, range(6))) == [False] * 5 + [True]
            assert (holder_of(tables, sync_id) or "").startswith("run ")


def test_runs_may_create_the_tables_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them does; the others find them."""
    hook = postgres_hook(monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            barrier = threading.Barrier(4)

            def run(made: Tables, barrier: threading.Barrier = barrier) -> None:
                own = type(hook)("state")
                barrier.wait()
                opened(made, fresh(), hook=own).close()

            with postgres_tables(hook) as made:
                assert list(pool.map(run, [made] * 4)) == [None] * 4


def test_a_second_run_need_not_write_to_learn_who_is_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first one reads its model, SQLite lets nobody write."""
    made, sync_id = Tables(sqlite_hook(tmp_path, monkeypatch)), fresh()
    with closing(opened(made, sync_id)) as session:
        session.commit({f"[{number}]": entry(number) for number in range(3)})
        with closing(made.hook.get_conn()) as reading:
            cursor = reading.cursor()
            cursor.execute("SELECT * FROM iterable_sync_state")
            assert cursor.fetchone()
            with pytest.raises(LeaseHeld, match="the first run"):
                opened(made, sync_id, SECOND)
            cursor.close()


def test_a_second_run_does_not_wait_for_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """In whose midst the lease's row is locked."""
    with postgres_tables(postgres_hook(monkeypatch)) as made:
        sync_id = fresh()
        with closing(opened(made, sync_id)), closing(made.hook.get_conn()) as committing:
            committing.cursor().execute(f"SELECT * FROM {name(made)} FOR UPDATE")
            with pytest.raises(LeaseHeld, match="the first run"):
                opened(made, sync_id, SECOND)
            committing.rollback()


def test_postgres_ends_transactions_of_those_who_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time of a lease, and only in these transactions: they would lock the new holder out."""
    with postgres_tables(postgres_hook(monkeypatch)) as made:
        session = opened(made, fresh())
        asked = "SELECT current_setting('idle_in_transaction_session_timeout')"
        with session.lease.written() as renew:

            def work() -> str:
                renew()
                return str(session.tables.find(asked)[0][0])

            assert session.tables.transact(work) in ("300s", "5min")
        assert session.tables.transact(lambda: session.tables.find(asked)) == [("0",)]
        session.close()


class At:
    """A lease on a real database whose thread is the test, and whose time stands still."""

    def __init__(self, place: Tables, in_background: bool = False, breaks: Iterable[str] = ()) -> None:
        self.place, self.sync_id, self.now = place, fresh(), 1000.0
        opened(place, self.sync_id).close()  # there are tables
        self.hook = Unsteady(place.hook)
        self.tables = state_tables.Tables(self.hook, place.schema, patience=30.0)  # type: ignore[arg-type]  # as good as one
        apart = state_tables.Tables(self.hook, place.schema, patience=0.0)  # type: ignore[arg-type]
        self.lease = Lease(self.tables, apart, self.sync_id, FIRST, SECONDS, lambda: self.now, in_background)
        self.hook.breaks.extend(breaks)
        before = set(threading.enumerate())
        self.lease.take()
        self.thread = next(iter({*threading.enumerate()} - before), None)
        del self.hook.statements[:]

    def beaten(self) -> bool:
        """Return whether the lease was renewed since this was asked last."""
        found = any(statement.startswith("UPDATE") for statement in self.hook.statements)
        del self.hook.statements[:]
        return found

    def lose(self) -> None:
        """Let another run take over."""
        expire(self.place, self.sync_id)
        opened(self.place, self.sync_id, SECOND)  # and go on holding it

    def write(self) -> None:
        """Commit something."""
        with self.lease.written() as renew:
            self.tables.transact(renew)


@pytest.fixture
def at(tables: Tables) -> Iterator[At]:
    """A lease that was taken just now."""
    at = At(tables)
    yield at
    at.hook.broken = False
    at.lease.release()
    at.tables.close()


def test_it_is_renewed_three_times_in_its_life(at: At) -> None:
    """Counted from the last renewal, whoever did it; each on a connection of its own that is closed again."""
    assert at.lease.renew_if_due() == 100.0
    at.now += 99.0
    assert at.lease.renew_if_due() == 1.0
    assert not at.beaten()
    at.now += 1.0
    expire(at.place, at.sync_id)
    opened_before = len(at.hook.connections)
    assert at.lease.renew_if_due() == 100.0
    assert at.beaten()
    assert len(at.hook.connections) == opened_before + 1
    with pytest.raises(Exception, match=r"clos|not available"):
        at.hook.connections[-1].cursor().execute("SELECT 1")
    with pytest.raises(LeaseHeld):
        opened(at.place, at.sync_id, SECOND)
    at.now += 60.0
    at.write()
    at.now += 60.0
    at.beaten()
    assert at.lease.renew_if_due() == 40.0
    assert not at.beaten()


def test_while_a_commit_is_under_way_the_thread_does_nothing(at: At) -> None:
    """The commit renews; two at once would be in each other's way. It looks again soon."""
    at.now += 150.0
    with at.lease.written() as renew:
        assert at.lease.renew_if_due() == 10.0
        assert not at.beaten()
        at.tables.transact(renew)
    assert at.lease.renew_if_due() == 100.0


def test_it_is_renewed_while_a_model_is_read(at: At) -> None:
    """By a connection beside the one that reads. SQLite lets nobody write meanwhile, and is asked again afterwards."""
    with closing(opened(at.place, fresh())) as session:
        session.commit({f"[{number}]": entry(number) for number in range(3)})
    state = name(at.place).replace("lease", "state")
    chunks = Model(at.place.hook, f"SELECT * FROM {state}", chunk_size=1).chunks()
    assert next(chunks)
    at.now += 100.0
    expire(at.place, at.sync_id) if at.tables.kind != "sqlite" else None
    assert at.lease.renew_if_due() == (10.0 if at.tables.kind == "sqlite" else 100.0)
    assert at.lease.failure is None
    assert len(list(chunks)) == 2
    at.now += 100.0
    assert at.lease.renew_if_due() == 100.0
    with pytest.raises(LeaseHeld):
        opened(at.place, at.sync_id, SECOND)


def test_a_renewal_that_fails_is_tried_again_soon(at: At, caplog: pytest.LogCaptureFixture) -> None:
    """The log says so once, and the run goes on until the lease has run out."""
    caplog.set_level(logging.INFO)
    at.now += 100.0
    at.hook.breaks.extend(["UPDATE", "connect", "COMMIT"])
    assert [at.lease.renew_if_due() for _ in range(3)] == [10.0] * 3
    assert caplog.text.count("could not be renewed (BrokenError); it is tried again") == 1
    assert at.lease.failure is None
    assert at.lease.permits(no_pause)
    assert at.lease.renew_if_due() == 100.0
    at.now += 100.0
    at.hook.breaks.append("UPDATE")
    at.lease.renew_if_due()
    assert caplog.text.count("it is tried again") == 2


def no_pause(seconds: float) -> bool:
    """Refuse to wait."""
    raise AssertionError("there is nothing to wait for")


def test_a_request_may_start_until_the_lease_runs_out(at: At) -> None:
    """As seen from here, since before the last renewal was begun; nobody is asked."""
    at.now += 299.9
    assert at.lease.permits(no_pause)
    assert at.hook.statements == []


def test_the_time_of_a_renewal_is_that_of_its_beginning(at: At) -> None:
    """An answer that took long says nothing about now."""
    hear = at.hook.hear

    def slowly(statement: str, parameters: Any) -> bool:
        if statement.startswith("UPDATE"):
            at.now += 200.0
        return hear(statement, parameters)

    at.hook.hear = slowly  # type: ignore[method-assign]
    at.now += 100.0
    at.lease.renew_if_due()  # begun at 100, over at 300
    at.now += 99.0
    assert at.lease.permits(no_pause)
    at.now += 2.0
    assert not at.lease.permits(lambda seconds: True)


def test_a_renewal_that_was_not_committed_is_none(at: At) -> None:
    """Nobody knows whether it was."""
    at.now += 200.0
    at.hook.breaks.append("COMMIT")
    with pytest.raises(Exception, match="COMMIT"):
        at.write()
    at.now += 101.0
    assert not at.lease.permits(lambda seconds: True)
    assert at.lease.failure is None, "whoever asked did not want to wait"


def test_a_lease_that_ran_out_is_renewed_before_a_request(at: At) -> None:
    """The run may have been away, and nobody took over."""
    at.now += 1000.0
    paused = list[float]()

    def pause(seconds: float) -> bool:
        paused.append(seconds)
        at.lease.renew_if_due()
        return False

    assert at.lease.permits(pause)
    assert len(paused) == 1


def test_a_lost_lease_permits_nothing(at: At, caplog: pytest.LogCaptureFixture) -> None:
    """Also not later; the log names the new holder."""
    at.lose()
    assert at.lease.permits(no_pause), "nobody knows"
    at.now += 300.0

    def pause(seconds: float) -> bool:
        at.lease.renew_if_due()
        return False

    assert not at.lease.permits(pause)
    assert isinstance(at.lease.failure, LeaseLost)
    assert "the second run holds it now" in str(at.lease.failure)
    assert "the second run holds it now" in caplog.text
    at.now = 1000.0
    assert not at.lease.permits(no_pause)
    at.beaten()
    at.now += 200.0
    at.lease.renew_if_due()
    assert not at.beaten(), "it is over"


def test_while_a_commit_is_tried_again_no_request_starts(at: At) -> None:
    """As long as that takes; what is in flight already is to stay all that could be lost."""
    paused = list[float]()

    def pause(seconds: float) -> bool:
        at.now += 20.0
        paused.append(seconds)
        if len(paused) == 5:
            at.write()
        return False

    with at.lease.written() as renew:
        at.tables.transact(renew)
        assert at.lease.permits(no_pause), "nothing failed"
        at.lease.hold()
    assert at.lease.permits(no_pause), "it succeeded at last"
    at.hook.breaks.append("COMMIT")
    with pytest.raises(Exception, match="COMMIT"):
        at.write()
    assert at.lease.permits(pause)
    assert len(paused) == 5
    assert at.lease.failure is None


def test_a_commit_that_waits_to_be_tried_again_says_so(tables: Tables, time: Time) -> None:
    """And a commit that succeeds lets requests start again."""
    hook, told = Unsteady(tables.hook), list[bool]()
    session = opened(tables, fresh(), hook=hook, patience=30.0)
    sleep = time.sleep

    def look(seconds: float) -> None:
        told.append(session.lease.permits(lambda seconds: True))
        sleep(seconds)

    time.sleep = look  # type: ignore[method-assign]
    hook.breaks.extend(["INSERT", "COMMIT"])
    session.commit({"[1]": entry(1)})
    assert told == [False, False]
    assert session.lease.permits(no_pause)
    hook.breaks.extend(["INSERT"] * 100)
    with pytest.raises(StateUnavailable):
        session.commit({"[2]": entry(2)})
    assert not session.lease.permits(lambda seconds: True), "nobody may be told otherwise before the run has ended"
    hook.breaks.clear()
    session.close()


def test_a_lease_noticed_to_be_lost_permits_nothing_even_before_it_ran_out(at: At) -> None:
    """A later try of the same task instance took it."""
    at.lose()
    at.now += 100.0
    at.lease.renew_if_due()
    assert not at.lease.permits(no_pause)


def test_a_database_that_is_away_ends_the_run(at: At) -> None:
    """A request waits 30 s for a renewal; then the run fails, and its next try goes on."""
    at.now += 300.0
    at.hook.breaks.extend(["connect"] * 10_000)

    def pause(seconds: float) -> bool:
        at.now += seconds
        at.lease.renew_if_due()
        return False

    assert not at.lease.permits(pause)
    assert at.now - 1000.0 == pytest.approx(300.0 + PATIENCE)
    assert isinstance(at.lease.failure, StateUnavailable)
    assert "could not be renewed for 330 s" in str(at.lease.failure)
    at.hook.breaks.clear()


def test_a_machine_that_sleeps_while_a_request_waits_has_not_waited(at: At) -> None:
    """It finds its lease as it left it, if nobody took over."""
    at.now += 300.0
    at.hook.breaks.append("connect")
    looks = iter([100_000.0, 0.0])

    def pause(seconds: float) -> bool:
        at.now += next(looks)
        at.lease.renew_if_due()
        return False

    assert at.lease.permits(pause)
    assert at.lease.failure is None
    assert list(looks) == []


def test_who_is_stopped_does_not_wait(at: At) -> None:
    """The pause says so."""
    at.now += 300.0
    assert not at.lease.permits(lambda seconds: True)


def test_after_the_end_nothing_is_permitted(at: At) -> None:
    """Another run may begin at once."""
    at.lease.release()
    assert not at.lease.permits(no_pause)
    assert holder_of(at.place, at.sync_id) is None


@pytest.mark.parametrize("what", ["INSERT INTO", "COMMIT", "after COMMIT", "connect"])
def test_taking_is_tried_again(tables: Tables, time: Time, what: str) -> None:
    """Also when it had succeeded and nobody heard of it."""
    at = At(tables, breaks=[what])
    assert not at.hook.breaks
    assert holder_of(tables, at.sync_id) == "the first run"
    at.write()
    at.lease.release()
    at.tables.close()


def a_minute() -> Callable[[float], bool]:
    """Return a pause that gives another thread a minute altogether."""
    stop, left = threading.Event(), iter(range(600))

    def pause(seconds: float) -> bool:
        next(left)
        return stop.wait(seconds)

    return pause


def test_a_thread_renews(tables: Tables) -> None:
    """It is woken when a request wants to start, and ends with the lease."""
    at = At(tables, in_background=True)
    assert at.thread is not None
    at.now += 1000.0  # and stands still: the request waits as long as it takes
    assert at.lease.permits(a_minute())
    assert at.lease.failure is None
    at.lease.release()
    at.thread.join(60)
    assert not at.thread.is_alive()
    at.tables.close()


def test_a_thread_that_lost_the_lease_ends(tables: Tables) -> None:
    """There is nothing left to do."""
    at = At(tables, in_background=True)
    assert at.thread is not None
    at.lose()
    at.now += 1000.0
    assert not at.lease.permits(a_minute())
    assert isinstance(at.lease.failure, LeaseLost)
    at.thread.join(60)
    assert not at.thread.is_alive()
    at.lease.release()
    at.tables.close()


def test_time_also_passes_while_the_machine_sleeps() -> None:
    """Seconds that never run backwards."""
    assert leases.elapsing() <= leases.elapsing()


def test_entries_are_as_they_were(tables: Tables) -> None:
    """A lease is no entry."""
    sync_id = fresh()
    with closing(opened(tables, sync_id)) as session:
        session.commit({"[1]": Entry(b"f" * 12, "ref")})
        assert session.others() == {}
