"""The audit tables in each database: what is written when, how it ends, what is forgotten, and the page's queries."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_iterable.api.client import CallLog
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.spool import Spool
from airflow_provider_iterable.engine.vocabulary import (
    Accepted,
    Call,
    Entry,
    Operation,
    Outcome,
    Request,
    Settled,
)
from airflow_provider_iterable.errors import ConfigurationError, Stopped, TooManyRejected, Unfinished
from airflow_provider_iterable.runs import audit
from airflow_provider_iterable.runs.audit import Audit
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.tables import audit as audit_tables
from airflow_provider_iterable.state.tables.audit import OPERATIONS, RunRow, Task
from airflow_provider_iterable.state.tables.erasure import ErasingSession
from airflow_provider_iterable.state.tables.store import Auditing
from tests.state.contract import HERE, MAPPING, fresh
from tests.state.pages import as_the_page_says
from tests.state.test_table import Tables, Unsteady, execute

CALL = Call("POST", "/api/do", 10, 1000, lambda found: Request("POST", "/", "/"), lambda batch, reply: Settled(), 0.0)
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ROWS = "row_id, op_type, status, failure_reason, failure_detail, fields, person"
NAMES = ("runs", "changelog", "snapshot", "requests")
PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text("utf-8")


SPOOLS: list[Spool] = []

COUNTS = [name for name in RunRow.__struct_fields__ if re.match("num_(planned|attempted|succeeded|failed)_", name)]


@pytest.fixture(autouse=True)
def _closing() -> Iterator[None]:
    """Close what plans were kept in."""
    yield
    while SPOOLS:
        SPOOLS.pop().close()


@dataclass
class Clock:
    """The time, as it is set."""

    now: datetime = START

    def __call__(self) -> datetime:
        """Return it."""
        return self.now

    def pass_by(self, **time: float) -> None:
        """Let time pass."""
        self.now += timedelta(**time)


@dataclass
class Book:
    """The audit of one sync in one database, run by run."""

    tables: Tables
    sync_id: str = field(default_factory=fresh)
    clock: Clock = field(default_factory=Clock)
    destination: dict[str, Any] = field(default_factory=lambda: {"host": "h", "type": "users"})
    hook: Any = None
    known: Sequence[str] = ()
    anonymous: bool = False
    runs: int = 0
    report: Report | None = None

    def open(self, audit: Auditing = True, run_id: str | None = None, dry_run: bool = False, **options: Any) -> Audit:
        """Open the account of the next run."""
        self.runs += 1
        run_id = run_id or f"run-{self.runs}"
        self.report = Report(self.sync_id, run_id, self.destination, dry_run=dry_run)
        store = TableState("state", self.tables.schema, audit=audit, **options)
        hook = self.hook or self.tables.hook
        return Audit(
            store,
            lambda: hook,
            self.report,
            run_id,
            ("id", "country"),
            "people",
            self.clock,
            Task("crm", "sync_users", -1),
        )

    def run(self, *told: Any, audit: Auditing = True, calls: Sequence[CallLog] = (), **options: Any) -> None:
        """Give account of a run that ends well."""
        with self.open(audit, **options) as account:
            self.tell(account, *told, calls=calls)

    def tell(self, account: Audit, *told: Any, calls: Sequence[CallLog] = ()) -> None:
        """Tell an account of a run."""
        account.begin(lambda keys: {key: Entry(b"") for key in keys if key in self.known}, anonymous=self.anonymous)
        for call in calls:
            account.note(call)
        for item in told:
            if account.observe is not None:
                account.observe(item)

    def table(self, name: str) -> str:
        """Return the name of a table."""
        mark = "`" if self.tables.hook.conn_type == "mysql" else '"'
        return f"{mark}{self.tables.schema}{mark}.sync_{name}" if self.tables.schema else f"iterable_sync_{name}"

    def read(self, name: str, columns: str, order: str = "1") -> list[tuple[Any, ...]]:
        """Return the sync's rows of a table."""
        query = f"SELECT {columns} FROM {self.table(name)} WHERE sync_id = '{self.sync_id}' ORDER BY {order}"
        return [tuple(row) for row in execute(self.tables.hook, query)]

    def counts(self, run_id: str) -> dict[str, int]:
        """Return the numbers of a run that are not 0."""
        for row in self.read("runs", ", ".join(["sync_run_id", *COUNTS])):
            if row[0] == run_id:
                return {name[4:]: n for name, n in zip(COUNTS, row[1:], strict=True) if n}
        raise AssertionError(f"there is no run {run_id}")


@pytest.fixture
def book(tables: Tables) -> Book:
    """A sync in each database."""
    return Book(tables)


def operation(number: int, kind: Kind = Kind.ADDED, call: Call | None = CALL, **options: Any) -> Operation:
    """Return an operation about a person."""
    handle = ("email", f"person{number}@example.com")
    remember = None if kind is Kind.REMOVED else Entry(b"f" * 12, json.dumps(handle, separators=(",", ":")))
    body = b'{"n":%d}' % number if call else b""
    whole = {"key": f"[{number}]", "kind": kind, "call": call, "body": body, "handles": (handle,)}
    return Operation(**{**whole, "remember": remember, **options})


def who(number: int) -> str:
    """Return what a person's rows are found by."""
    return sha256(f'["email","person{number}@example.com"]'.encode()).hexdigest()


def accepted(*numbers: int, kind: Kind = Kind.ADDED) -> Accepted:
    """Return what is told of rows that were accepted."""
    return Accepted([operation(number, kind) for number in numbers])


def refused(
    number: int, fate: Fate = Fate.REJECTED, reason: Reason = Reason.REFUSED, detail: str = "", kind: Kind = Kind.ADDED
) -> Outcome:
    """Return what is told of a row that was not."""
    return Outcome(f"[{number}]", kind, fate, reason, detail, operation(number, kind))


def invalid(number: int, reason: Reason = Reason.INVALID_EMAIL, detail: str = "") -> Outcome:
    """Return what is told of a row that could not be sent."""
    return Outcome(f"[{number}]", Kind.INVALID, Fate.REJECTED, reason, detail)


def planned(*operations: Operation, invalid: Sequence[Outcome] = (), erased: Sequence[Outcome] = ()) -> Plan:
    """Return a plan."""
    rows, removals = Spool(), Spool()
    SPOOLS.extend([rows, removals])
    plan = Plan(rows, removals, invalid=list(invalid), erased=list(erased))
    for item in operations:
        plan.counts[item.kind] += 1
        if item.call is not None:
            plan.calls[item.call] += 1
        (plan.removals if item.kind is Kind.REMOVED else plan.rows).append(item)
    plan.counts[Kind.ADDED] += len(erased)
    plan.counts[Kind.INVALID] = len(invalid)
    return plan


def words(reason: Reason) -> str:
    """Return the reason as it is written."""
    return f"{reason}: {reason.sentence}"


def call(number: int, status: int = 200, milliseconds: float = 20.0) -> CallLog:
    """Return a call."""
    return CallLog("POST", "/api/users/bulkUpdate", status, "Success", number, 99, milliseconds, f"id-{number}")


def test_every_row_of_a_run(book: Book) -> None:
    """With its fate, its reason and its person; the details masked, and nothing of what was sent."""
    book.known = ["[8]"]
    wrong = [invalid(8), invalid(9, Reason.TYPE_MISMATCH, "field x of ann@example.com")]
    gone = Outcome("[7]", Kind.ADDED, Fate.SKIPPED, Reason.ERASED_PERSON)
    told = [
        accepted(1, 2),
        Accepted([operation(3, Kind.REMOVED), operation(4, Kind.CHANGED, partial="field y")]),
        refused(5),
        refused(6, Fate.DEFERRED, Reason.NO_ANSWER, kind=Kind.CHANGED),
    ]
    operations = [
        *(operation(n) for n in (1, 2, 5)),
        operation(3, Kind.REMOVED),
        *(operation(n, Kind.CHANGED) for n in (4, 6)),
    ]
    book.run(planned(*operations, invalid=wrong, erased=[gone]), *wrong, gone, *told)
    expected = [
        ("[1]", "added", "succeeded", None, None, None, who(1)),
        ("[2]", "added", "succeeded", None, None, None, who(2)),
        ("[3]", "removed", "succeeded", None, None, None, who(3)),
        ("[4]", "changed", "succeeded", words(Reason.PARTIAL), "field y", None, who(4)),
        ("[5]", "added", "failed", words(Reason.REFUSED), None, None, who(5)),
        ("[6]", "changed", "aborted", words(Reason.NO_ANSWER), None, None, who(6)),
        ("[8]", "changed", "failed", words(Reason.INVALID_EMAIL), None, None, None),
        ("[9]", "added", "failed", words(Reason.TYPE_MISMATCH), "field x of an***@ex***", None, None),
        (sha256(b"[7]").hexdigest(), "added", "aborted", words(Reason.ERASED_PERSON), None, None, None),
    ]
    for name in ("changelog", "snapshot"):
        assert sorted(expected) == sorted(book.read(name, ROWS))
    assert book.counts("run-1") == {
        "planned_add": 5, "planned_change": 3, "planned_remove": 1,
        "attempted_add": 4, "attempted_change": 2, "attempted_remove": 1,
        "succeeded_add": 2, "succeeded_change": 1, "succeeded_remove": 1,
        "failed_add": 2, "failed_change": 1,
    }  # fmt: skip


def test_the_snapshot_is_the_latest_of_each_row(book: Book) -> None:
    """Also of a row that is told of twice at once; a row without a key is not in it."""
    book.run(accepted(1, 2), refused(2, kind=Kind.CHANGED))
    book.run(accepted(1, kind=Kind.CHANGED), Outcome("", Kind.INVALID, Fate.REJECTED, Reason.NULL_KEY))
    assert book.read("snapshot", "row_id, sync_run_id, op_type, status") == [
        ("[1]", "run-2", "changed", "succeeded"),
        ("[2]", "run-1", "changed", "failed"),
    ]
    assert book.read("changelog", "row_id, sync_run_id, status", "sync_run_id, row_id, status DESC") == [
        ("[1]", "run-1", "succeeded"),
        ("[2]", "run-1", "succeeded"),
        ("[2]", "run-1", "failed"),
        ("", "run-2", "failed"),
        ("[1]", "run-2", "succeeded"),
    ]


def test_failures_alone(book: Book) -> None:
    """Rejected and skipped rows are written, and again when they are accepted; deferred ones are counted only."""
    deferred = refused(4, Fate.DEFERRED, Reason.HALTED)
    skipped = refused(3, Fate.SKIPPED, Reason.UNKNOWN_USER)
    remark = Outcome("[6]", Kind.REMOVED, Fate.ACCEPTED, Reason.ALREADY_GONE, "", operation(6, Kind.REMOVED))
    book.run(accepted(1), refused(2), skipped, deferred, remark, audit="failures")
    first = [("[2]", "failed"), ("[3]", "aborted")]
    assert first == book.read("changelog", "row_id, status") == book.read("snapshot", "row_id, status")
    assert book.counts("run-1") == {
        "attempted_add": 2, "attempted_remove": 1, "succeeded_add": 1, "succeeded_remove": 1, "failed_add": 1,
    }  # fmt: skip
    mended = Outcome("[3]", Kind.ADDED, Fate.ACCEPTED, Reason.ALREADY_CHANGED, "", operation(3))
    book.run(accepted(1, 2, 5), mended, audit="failures")
    assert book.read("changelog", "row_id, status", "recorded_at, sync_run_id, row_id")[2:] == [
        ("[2]", "succeeded"),
        ("[3]", "succeeded"),
    ]
    book.run(accepted(2, 3), audit="failures")
    assert len(book.read("changelog", "row_id")) == 4
    assert book.read("snapshot", "row_id, status") == [("[2]", "succeeded"), ("[3]", "succeeded")]
    book.run(Accepted([operation(1), operation(7, partial="field y")]), audit="failures")
    assert book.read("changelog", "row_id, failure_reason, failure_detail")[4:] == [
        ("[7]", words(Reason.PARTIAL), "field y")
    ]


def test_failures_have_a_limit(book: Book, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """In each run; the log says so, and the counts are of all."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(audit, "MOST_FAILURES", 3)
    book.run(*map(refused, range(3)), audit="failures")
    assert "are in the audit tables" not in caplog.text
    book.run(*map(refused, range(9)), audit="failures")
    assert caplog.text.count("3 rows that were not accepted are in the audit tables, and the rest of them is not") == 1
    assert len(book.read("changelog", "row_id")) == 6
    assert book.counts("run-2") == {"attempted_add": 9, "failed_add": 9}


def test_fields_are_written_when_asked_for(book: Book) -> None:
    """As they were sent, of those that were."""
    partial = Accepted([operation(2, partial="field y")])
    silent = operation(4, call=None)
    book.run(accepted(1), partial, refused(3), invalid(5), Accepted([silent]), audit_fields=True)
    assert book.read("changelog", "row_id, fields, failure_detail") == [
        ("[1]", '{"n":1}', None),
        ("[2]", '{"n":2}', "field y"),
        ("[3]", '{"n":3}', None),
        ("[4]", None, None),
        ("[5]", None, None),
    ]


@pytest.mark.parametrize("fields", [False, True])
def test_a_privacy_sync_keeps_nobody(book: Book, fields: bool) -> None:
    """Neither whom a request was about nor what was sent, whatever was asked for."""
    book.anonymous = True
    book.run(accepted(1), refused(2), Accepted([operation(3, partial="x")]), audit_fields=fields)
    rows = book.read("changelog", "row_id, fields, person")
    assert rows == [(f"[{n}]", None, None) for n in (1, 2, 3)]


def test_items_are_nobody(book: Book) -> None:
    """What a catalog holds is not found by a person."""
    item = operation(1, handles=(("item", "a"),), remember=Entry(b"", '["item","a"]'))
    book.run(Accepted([item, operation(2, remember=None, handles=(("user_id", "u"),)), operation(3, handles=())]))
    assert book.read("changelog", "person", "row_id") == [(None,), (sha256(b'["user_id","u"]').hexdigest(),), (None,)]


def test_a_run_from_start_to_end(book: Book) -> None:
    """It runs, and then has succeeded."""
    book.clock.now = START + timedelta(microseconds=7)
    with book.open() as account:
        book.tell(account)
        columns = "sync_run_id, primary_key, destination, model_name, error, status"
        about = ("run-1", "id, country", '{"host": "h", "type": "users"}', "people", None)
        assert book.read("runs", columns) == [(*about, "running")]
        book.clock.pass_by(minutes=5)
    assert book.read("runs", columns) == [(*about, "succeeded")]
    (moments,) = book.read("runs", "started_at, finished_at")
    assert [clean(moment) for moment in moments] == ["2026-03-01 12:00:00.000007", "2026-03-01 12:05:00.000007"]
    for name in ("changelog", "snapshot", "requests"):
        assert book.read(name, "*") == []


def clean(moment: Any) -> str:
    """Return a time as text in UTC, however a driver gives it."""
    if isinstance(moment, datetime):
        return (moment.astimezone(UTC) if moment.tzinfo else moment).strftime("%Y-%m-%d %H:%M:%S.%f")
    return str(moment)


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (TooManyRejected("7 rows of ann@example.com"), "failed", "7 rows of an***@ex***"),
        (Unfinished("3 rows were deferred"), "failed", "3 rows were deferred"),
        (Stopped("3 rows were deferred"), "aborted", "3 rows were deferred"),
        (ValueError("ann@example.com"), "failed", "ValueError"),
        (SystemExit("ann@example.com"), "aborted", "SystemExit"),
    ],
)
def test_how_a_run_ends(book: Book, error: BaseException, status: str, told: str) -> None:
    """The error of the task is written, or the class of any other; what was told before it is not lost."""

    def work() -> None:
        with book.open() as account:
            book.tell(account, accepted(1))
            raise error

    with pytest.raises(type(error)):
        work()
    assert book.read("runs", "status, error") == [(status, told)]
    assert book.counts("run-1") == {"attempted_add": 1, "succeeded_add": 1}
    assert book.read("changelog", "row_id") == [("[1]",)]


def test_a_run_that_never_began(book: Book) -> None:
    """Its error is written all the same; a run that has the sync meanwhile goes on running."""
    with book.open() as running:
        book.tell(running)
        with pytest.raises(ConfigurationError), book.open():
            raise ConfigurationError("no such connection")
        assert book.read("runs", "sync_run_id, status, error") == [
            ("run-1", "running", None),
            ("run-2", "failed", "no such connection"),
        ]


def test_a_lost_run(book: Book) -> None:
    """The next run of the sync says so of it, and of no other sync's."""
    other = Book(book.tables)
    for one in (book, other):
        one.tell(one.open())
    book.run()
    assert book.read("runs", "sync_run_id, status, error, finished_at")[0] == ("run-1", "aborted", audit.LOST, None)
    assert other.read("runs", "status") == [("running",)]


def test_a_second_account_of_one_try(book: Book) -> None:
    """Takes the place of the first."""
    book.tell(book.open(run_id="run"))
    book.clock.pass_by(days=1)
    book.run(accepted(1), run_id="run")
    assert book.read("runs", "sync_run_id, status") == [("run", "succeeded")]
    assert clean(book.read("runs", "started_at")[0][0]).startswith("2026-03-02")


def test_requests(book: Book) -> None:
    """Each one, from whatever thread, with the time at which it was answered; long texts are cut."""

    def note() -> None:
        account.note(CallLog("GET", "/api/lists", 0, "ReadTimeout" * 50, 0, 0, 60_000.1234, "x" * 300))

    with book.open("failures") as account:
        book.tell(account, calls=[call(1)])
        book.clock.pass_by(minutes=1)
        thread = threading.Thread(target=note)
        thread.start()
        thread.join()
        book.clock.pass_by(minutes=1)
    columns = "sync_run_id, method, path_template, status, code, num_rows, num_bytes, milliseconds, request_id"
    assert book.read("requests", columns, "recorded_at") == [
        ("run-1", "POST", "/api/users/bulkUpdate", 200, "Success", 1, 99, 20.0, "id-1"),
        ("run-1", "GET", "/api/lists", 0, ("ReadTimeout" * 50)[:200], 0, 0, 60_000.123, "x" * 200),
    ]
    assert [clean(moment)[11:16] for (moment,) in book.read("requests", "recorded_at")] == ["12:00", "12:01"]


def test_rows_are_written_together(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many of them, or so many bytes, or after so many seconds; in a statement for each table."""
    monkeypatch.setattr(audit, "AT_ONCE", 5)
    monkeypatch.setattr(audit, "BYTES_AT_ONCE", 20)
    book.hook = Unsteady(book.tables.hook)

    def inserts() -> int:
        found = sum("INTO" in statement and "changelog" in statement for statement in book.hook.statements)
        book.hook.statements.clear()
        return found

    with book.open(audit_fields=True) as account:
        book.tell(account, accepted(1, 2))
        assert inserts() == 0
        account.observe(accepted(3))  # type: ignore[misc]  # it observes
        assert inserts() == 1
    with book.open() as account:
        book.tell(account, accepted(1, 2, 3, 4))
        assert inserts() == 0
        account.observe(accepted(5))  # type: ignore[misc]
        account.observe(accepted(6))  # type: ignore[misc]
        assert inserts() == 1
        book.clock.pass_by(seconds=11)
        account.observe(accepted(7))  # type: ignore[misc]
        assert inserts() == 1
        account.observe(accepted(8))  # type: ignore[misc]
        assert inserts() == 0
    assert inserts() == 1
    assert len(book.read("changelog", "row_id")) == 11


@pytest.mark.parametrize("audit", [True, "failures"])
def test_old_rows_are_forgotten(book: Book, audit: Auditing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some at a time, of this sync alone; a complete snapshot keeps rows that are still there."""
    monkeypatch.setattr(audit_tables, "DELETED_AT_ONCE", 2)
    other = Book(book.tables)
    told = [*map(refused, range(5)), accepted(5), accepted(6, kind=Kind.REMOVED)]
    for one in (book, other):
        one.run(*told, calls=[call(n) for n in range(5)])
    book.clock.pass_by(days=29)
    book.run(refused(7), audit=audit)
    assert len(book.read("changelog", "1")) == 8
    book.clock.pass_by(days=2)
    book.run(audit=audit)
    assert book.read("changelog", "row_id") == [("[7]",)]
    assert book.read("snapshot", "row_id") == ([("[5]",), ("[7]",)] if audit is True else [("[7]",)])
    assert book.read("runs", "sync_run_id") == [("run-2",), ("run-3",)]
    assert book.read("requests", "1") == []
    assert [len(other.read(name, "1")) for name in ("changelog", "snapshot", "runs", "requests")] == [7, 7, 1, 5]


def test_very_many_old_rows(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run deletes some of them, or as many as it takes to keep up with what it writes."""
    for module in (audit, audit_tables):
        monkeypatch.setattr(module, "DELETED_AT_ONCE", 2)
    monkeypatch.setattr(audit, "MOST_DELETED", 4)
    book.run(*map(refused, range(20)))
    book.clock.pass_by(days=31)
    book.run()
    assert len(book.read("changelog", "1")) == 16
    book.run(*map(refused, range(100, 105)))
    assert len(book.read("changelog", "1")) == 16 + 5 - 10


def test_rows_may_be_kept_for_ever(book: Book) -> None:
    """Or for as long as one likes."""
    book.run(refused(1))
    book.clock.pass_by(days=10_000)
    book.run(audit_retention_days=None)
    assert len(book.read("changelog", "1")) == 1
    book.run(audit_retention_days=1)
    assert book.read("changelog", "1") == []


def test_what_a_run_leaves_alone(book: Book) -> None:
    """Nothing is touched without an audit, in a dry run, or where the state is not in tables."""
    book.hook = Unsteady(book.tables.hook)
    book.run(accepted(1), audit=False, calls=[call(1)])
    with book.open(dry_run=True) as account:
        book.tell(account, accepted(1))
        assert account.observe is None
    with Audit(None, lambda: book.hook, Report("s", "r", {}), "r") as account:
        book.tell(account, accepted(1), calls=[call(1)])
    assert book.hook.statements == []


PLANS: dict[str, tuple[list[Operation], dict[str, int]]] = {
    "all": (
        [operation(1), operation(2, Kind.CHANGED), operation(3, Kind.REMOVED)],
        {"add": 1, "change": 1, "remove": 1},
    ),
    "removals keep": ([operation(1), operation(3, Kind.REMOVED, None)], {"add": 1}),
    "changes are silent": ([operation(1), operation(2, Kind.CHANGED, None), operation(4)], {"add": 2}),
    "baseline": ([operation(1, call=None), operation(2, Kind.CHANGED, None)], {}),
    "nothing": ([], {}),
}


@pytest.mark.parametrize("name", PLANS)
def test_what_was_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Counts what makes a call, of each kind."""
    operations, expected = PLANS[name]
    found = audit._calling(planned(*operations))
    assert expected == {OPERATIONS[kind]: count for kind, count in found.items() if count}


BREAKS = [
    "connect",
    "UPDATE",
    "INSERT INTO {runs}",
    "SELECT row_id",
    "INSERT INTO {changelog}",
    "INSERT INTO {snapshot}",
    "INSERT INTO {requests}",
    "SELECT count",
    "DELETE",
]


@pytest.mark.parametrize("what", BREAKS)
def test_what_breaks_is_said_once(book: Book, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """And fails nothing; the log has the class of the error alone, and the run's end is written if it can be."""
    book.run(refused(1))
    book.clock.pass_by(days=40)
    names = {name: book.table(name) for name in ("runs", "changelog", "snapshot", "requests")}
    book.hook = Unsteady(book.tables.hook, deque([what.format(**names)] * (30 if what == "connect" else 2)))
    caplog.set_level(logging.DEBUG)
    with caplog.at_level(logging.DEBUG), pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit_tables, "CREATION_PATIENCE", 0.01)
        with book.open("failures") as account:
            book.tell(account, *map(refused, range(2, 6)), calls=[call(1)])
            account.note(call(2))
            for number in range(20):
                book.clock.pass_by(seconds=11)
                if account.observe is not None:
                    account.observe(refused(number))
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [
        f"The audit tables of sync {book.sync_id} could not be written (BrokenError), and are not in the rest of this "
        "run. The sync goes on."
    ]
    assert "example.com" not in caplog.text
    book.hook.breaks.clear()
    if what != "connect":
        assert ("run-2", "succeeded") in book.read("runs", "sync_run_id, status")
    if what not in ("SELECT count", "DELETE"):
        assert len(book.read("changelog", "1")) == 1  # all that there was


@pytest.mark.parametrize("what", [*BREAKS, "COMMIT", "after COMMIT"])
def test_a_lost_session_costs_the_rows_in_hand_at_most(book: Book, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """Another one goes on, without a warning; a row that may be stored already is not written twice."""
    book.run(refused(1))
    book.clock.pass_by(days=40)
    names = {name: book.table(name) for name in ("runs", "changelog", "snapshot", "requests")}
    book.hook = Unsteady(book.tables.hook)
    with book.open("failures") as account:
        book.tell(account)
        book.hook.breaks.append(what.format(**names))
        for number in range(2, 6):
            book.clock.pass_by(seconds=11)
            account.note(call(number))
            assert account.observe is not None
            account.observe(refused(number))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert ("run-2", "succeeded") in book.read("runs", "sync_run_id, status")
    lost = 1 if what == "COMMIT" else 0
    assert book.read("changelog", "row_id") == [(f"[{number}]",) for number in range(2 + lost, 6)]
    assert len(book.read("requests", "1")) == 4 - lost


def test_tables_that_cannot_be_made(
    book: Book, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Are tried again for a moment, as another run may make them; then there are none in this run."""
    execute(book.tables.hook, *(f"DROP TABLE IF EXISTS {book.table(name)}" for name in NAMES))
    book.hook = Unsteady(book.tables.hook, deque(["CREATE TABLE"]))
    book.run(accepted(1))
    assert book.read("changelog", "row_id") == [("[1]",)]
    assert caplog.records == []
    execute(book.tables.hook, f"DROP TABLE {book.table('requests')}")
    monkeypatch.setattr(audit_tables, "CREATION_PATIENCE", 0.01)
    book.hook.breaks.extend(["CREATE TABLE"] * 30)
    book.run(accepted(2))
    assert book.read("changelog", "row_id") == [("[1]",)]
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]


def test_tables_that_are_there_are_not_made_again(book: Book) -> None:
    """Making an index, even one that is there, waits in Postgres for all who write."""
    book.run()
    book.hook = Unsteady(book.tables.hook)
    book.run(accepted(1))
    assert [statement for statement in book.hook.statements if statement.startswith("CREATE")] == []


def test_a_transaction_is_whole(book: Book) -> None:
    """Rows are in both tables or in none."""
    book.hook = Unsteady(book.tables.hook, deque([f"INSERT INTO {book.table('snapshot')}"] * 2))
    book.run(accepted(1), calls=[call(1)])
    assert [book.read(name, "1") for name in ("changelog", "snapshot", "requests")] == [[], [], []]


def test_a_database_that_is_none_of_those(caplog: pytest.LogCaptureFixture) -> None:
    """Is said once, and what is told after it is not kept."""

    class Hook:
        conn_type, placeholder, log_sql = "oracle", "?", True

    with Audit(TableState(), Hook, Report("s", "r", {}), "r") as account:  # type: ignore[arg-type]
        account.begin(lambda keys: {}, anonymous=False)
        account.note(call(1))
        assert account.observe is None
        assert account._requests == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "TableState runs on" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [({"audit": "all"}, "audit must be"), ({"audit_retention_days": 0}, "audit_retention_days must be at least 1")],
)
def test_parameters_that_make_no_sense(tables: Tables, options: dict[str, Any], message: str) -> None:
    """Are refused before anything is read."""
    scope = Scope("s", HERE, MAPPING, hook=lambda conn_id: tables.hook)
    with pytest.raises(ConfigurationError, match=message):
        TableState("state", tables.schema, **options).open(scope)


def test_keys_as_odd_as_they_come(book: Book) -> None:
    """They are what they are."""
    keys = ['["\\u0000"]', '["%s {p} \';--"]', '["\u540d\U0001f600"]', '["\\""]', "x" * 500]
    book.run(Accepted([operation(1, key=key) for key in keys]))
    assert {key for (key,) in book.read("snapshot", "row_id")} == set(keys)


# --- people


def erase(book: Book, *numbers: int, sync_id: str = "") -> None:
    """Let a privacy sync erase people."""
    scope = Scope(sync_id or fresh(), {**HERE, "type": "privacy"}, MAPPING)
    session = ErasingSession(scope, book.tables.hook, book.tables.schema, unforgets=False)
    session.commit({f"h{n}": Entry(b"f" * 12, f'["email","person{n}@example.com"]') for n in numbers})
    session.close()


def test_who_is_erased_leaves_the_tables(book: Book) -> None:
    """Found by the identifier, also where the state knows nothing of the row any more; others stay."""
    other = Book(book.tables)
    book.run(accepted(1, 2), refused(3), accepted(1, kind=Kind.REMOVED))
    other.run(refused(1), accepted(4))
    erase(book, 1)
    for name in ("changelog", "snapshot"):
        assert book.read(name, "row_id") == [("[2]",), ("[3]",)]
        assert other.read(name, "row_id") == [("[4]",)]


def test_rows_without_an_identifier_are_found_by_the_key(book: Book) -> None:
    """Where the state remembers the person under it, in the same sync."""
    other = Book(book.tables)
    session = book.tables.open(book.sync_id)
    session.commit({"[1]": Entry(b"f" * 12, '["email","person1@example.com"]')})
    session.close()
    for one in (book, other):
        one.run(invalid(1), invalid(2))
    erase(book, 1)
    assert book.read("changelog", "row_id") == book.read("snapshot", "row_id") == [("[2]",)]
    assert len(other.read("changelog", "row_id")) == 2


def test_erasing_without_audit_tables(book: Book) -> None:
    """Works, and so does what is written afterwards."""
    erase(book, 1)
    book.run(accepted(1))
    assert book.read("changelog", "row_id") == [("[1]",)]


# --- the page

HOUR = timedelta(hours=1)
USERS = "crm.sync_users"
MAIL = words(Reason.INVALID_EMAIL)


@pytest.fixture
def history(page_tables: Tables) -> Book:
    """A sync with a history: row 42 enters, changes, leaves and comes back; row 7 fails by turns."""
    book = Book(page_tables)
    book.sync_id = USERS
    book.run(audit=True)  # makes the tables
    tables = map(book.table, ("runs", "changelog", "snapshot", "requests"))
    execute(book.tables.hook, *(f"DELETE FROM {table} WHERE sync_id = '{USERS}'" for table in tables))
    book.runs = 0
    days: list[list[Any]] = [
        [accepted(1, 42), invalid(7), invalid(8)],
        [accepted(42, kind=Kind.CHANGED), accepted(7)],
        [accepted(42, kind=Kind.REMOVED), invalid(7), invalid(8)],
        [accepted(42), accepted(7, kind=Kind.CHANGED)],
    ]
    for number, told in enumerate(days):
        book.run(*told, calls=[call(number, 200 if number else 500, 20.0 + number)])
        book.clock.pass_by(days=1 if number % 2 else 0, hours=1)
    with suppress(TooManyRejected), book.open() as account:
        book.tell(account, invalid(8))
        raise TooManyRejected("1 of 1 rows was rejected")
    return book


EXPECTED: Mapping[str, list[tuple[Any, ...]]] = {
    "Top errors": [(MAIL, None, 2, "2026-03-03 16:00")],
    "Rows that fail now": [("[8]", "added", "failed", MAIL, None, "2026-03-03 16:00")],
    "History of a key": [
        ("2026-03-01 12:00", "run-1", "added", "succeeded", None),
        ("2026-03-01 13:00", "run-2", "changed", "succeeded", None),
        ("2026-03-02 14:00", "run-3", "removed", "succeeded", None),
        ("2026-03-02 15:00", "run-4", "added", "succeeded", None),
    ],
    "Rows that come and go": [("[42]", 2, "2026-03-01 12:00", "2026-03-02 15:00")],
    "Rows that fail and succeed by turns": [("[7]", 3)],
    "Success rate by day": [
        ("2026-03-01", 2, 2, 4, 2, 66.67),
        ("2026-03-02", 2, 2, 3, 2, 60.0),
        ("2026-03-03", 1, 0, 0, 1, 0.0),
    ],
    "Runs that did not succeed": [(USERS, "run-5", "2026-03-03 16:00", "failed", "1 of 1 rows was rejected")],
    "Tasks of a Dag": [("sync_users", -1, USERS, 5, "2026-03-03 16:00", 1, 5)],
    "Slowest requests": [
        (20.0 + n, "POST", "/api/users/bulkUpdate", 200 if n else 500, "Success", n, 99, f"id-{n}", when)
        for n, when in reversed(
            list(enumerate(["2026-03-01 12:00", "2026-03-01 13:00", "2026-03-02 14:00", "2026-03-02 15:00"]))
        )
    ],
    "Endpoints and their answers": [
        ("POST", "/api/users/bulkUpdate", 200, "Success", 3, 6, 22.0),
        ("POST", "/api/users/bulkUpdate", 500, "Success", 1, 0, 20.0),
    ],
}


def plain(value: Any) -> Any:
    """Return a value without the ways of a driver."""
    if isinstance(value, datetime) or (isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d \d\d:", value)):
        return clean(value)[:16]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return (float(value) if value % 1 else int(value)) if isinstance(value, Decimal) else value


def test_the_page_has_these_queries() -> None:
    """And no others."""
    found = re.findall(r"^### (.+?)(?: †)?$", PAGE.partition("\n## Queries\n")[2].partition("\n## ")[0], re.MULTILINE)
    assert found == list(EXPECTED)


@pytest.mark.parametrize("title", EXPECTED)
def test_queries_of_the_page(history: Book, title: str) -> None:
    """Each finds what it is for, in each database."""
    section = re.split(r"\n### |\n## ", PAGE.partition(f"\n### {title}")[2])[0]
    (query,) = re.findall(r"```sql\n(.*?);\n```", section, re.DOTALL)
    found = [tuple(map(plain, row)) for row in execute(history.tables.hook, as_the_page_says(query, history.tables))]
    assert EXPECTED[title] == found


def test_somebody_is_taken_out_by_key(history: Book) -> None:
    """With the statements of the page."""
    (statements,) = re.findall(r"To take somebody out by key:\n```sql\n(.*?)```", PAGE, re.DOTALL)
    statements = as_the_page_says(statements, history.tables)
    execute(history.tables.hook, *(each for each in statements.split(";") if each.strip()))
    assert {key for (key,) in history.read("changelog", "row_id")} == {"[1]", "[7]", "[8]"}
    assert {key for (key,) in history.read("snapshot", "row_id")} == {"[1]", "[7]", "[8]"}


def test_columns_are_those_of_the_page(history: Book) -> None:
    """Each column is explained, and each that is explained is there."""
    told: dict[str, set[str]] = {}
    text = PAGE.partition("\n## Tables\n")[2].partition("\n## Queries")[0].replace("`_change`, `_remove`", "")
    for block in text.split("\n**")[1:]:
        names = re.findall(r"`sync_(\w+)`\*\*", block.partition("\n")[0])
        found = set(re.findall(r"`([a-z_]+(?:\.\.\.)?)`", "\n".join(
            line.split(" | ")[0] if line.startswith("|") else line for line in block.splitlines()
        )))  # fmt: skip
        for name in names or re.findall(r"^`?sync_(\w+)", block):
            told[name] = found - {f"sync_{each}" for each in ("runs", "changelog", "snapshot", "requests")}
    assert sorted(told) == ["changelog", "requests", "runs", "snapshot"]
    for name, explained in told.items():
        connection = history.tables.hook.get_conn()
        try:
            cursor = connection.cursor()
            cursor.execute(f"SELECT * FROM {history.table(name)}")
            columns = {
                re.sub(r"^(num_(?:attempted|planned|succeeded|failed))_.*", r"\1", column[0])
                for column in cursor.description
            }
        finally:
            connection.close()
        assert {re.sub(r"^(num_(?:attempted|planned|succeeded|failed))_.*", r"\1", one) for one in explained} == columns
