from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_iterable.columns import Columns, ColumnType
from airflow_provider_iterable.columns import Kind as ColumnKind
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Added,
    Changed,
    Entry,
    Invalid,
    Operation,
    Outcome,
    Record,
    Row,
)
from airflow_provider_iterable.errors import ConfigurationError, ModelError
from airflow_provider_iterable.mapping import key_text
from airflow_provider_iterable.syncs.privacy import Privacy, PrivacyOptions, rank

COLUMNS = ("id", "email", "uid", "asked_at")


def privacy(**options: Any) -> Privacy:
    """Return a privacy sync of an email-based project."""
    match = options.get("match", "email")
    defaults = {
        "primary_key": ("id",),
        "action": "forget",
        "match": match,
        "identifier_column": "email" if match == "email" else "uid",
        "project_type": "email" if match == "email" else "user_id",
    }
    return Privacy(PrivacyOptions(**{**defaults, **options}), COLUMNS)


def row(number: Any, email: Any = "ada@example.com", uid: Any = "u-1", asked_at: Any = None) -> Row:
    """Return a request."""
    return (number, email, uid, asked_at)


def taken(sync: Privacy, *chunks: Sequence[Row]) -> list[Operation]:
    """Let rows be new, a chunk at a time, as a run does: each key's first row alone is mapped."""
    operations, met = [], set[str]()
    for rows in chunks:
        named = [
            (key, found)
            for key, found in zip(sync.keys(rows), rows, strict=True)
            if isinstance(key, str) and not (key in met or met.add(key))  # type: ignore[func-returns-value]
        ]
        if named:
            records = sync.records([key for key, _ in named], [found for _, found in named])
            for number in range(len(named)):
                record = records.record(number)
                if isinstance(record, Record):
                    operations.append(sync.added(Added(record)))
    return operations


def hash_of(*values: Any) -> str:
    """Return the hash of a key."""
    text = key_text(values)
    assert text is not None
    return sha256(text.encode()).hexdigest()


def turns(sync: Privacy, operations: Sequence[Operation], allowance: int | None) -> list[Any]:
    """Return, for each operation, the reason why it has to wait, if it has to."""
    sync.begin(allowance)
    found = []
    for operation in operations:
        screened = sync.screen(operation)
        if isinstance(screened, Outcome):
            assert (screened.key, screened.fate) == (operation.key, Fate.DEFERRED)
            found.append(screened.reason)
        else:
            assert screened is operation
            found.append(None)
    return found


def test_instants_are_in_no_zone() -> None:
    """Their type says so; in a zone of the model an hour in spring would come after the next one."""
    options = PrivacyOptions(("id",), "forget", "email", "email", "asked_at", 1, ZoneInfo("Europe/Berlin"), "email")
    instant = ColumnType(ColumnKind.INSTANT, "timestamp", lambda value: value.replace(tzinfo=UTC))
    columns = Columns(COLUMNS, [*(ColumnType(ColumnKind.UNKNOWN) for _ in range(3)), instant])
    rows = [row(1, asked_at=datetime(2024, 3, 31, 2, 30)), row(2, "eve@example.com", asked_at=None)]
    rows.append(row(3, "bob@example.com", asked_at=datetime(2024, 3, 31, 3, 10)))
    sync = Privacy(options, columns)
    assert turns(sync, taken(sync, rows), 1)[0] is None
    plain = Privacy(options, COLUMNS)
    assert turns(plain, taken(plain, rows), 1)[2] is None


@pytest.mark.parametrize(
    ("action", "match", "call"),
    [
        ("delete", "email", "DELETE /api/users/ada%40example.com"),
        ("delete", "user_id", "DELETE /api/users/byUserId/u-1"),
        ("forget", "email", 'POST /api/users/forget {"email": "ada@example.com"}'),
        ("forget", "user_id", 'POST /api/users/forget {"userId": "u-1"}'),
        ("unforget", "email", 'POST /api/users/unforget {"email": "ada@example.com"}'),
        ("unforget", "user_id", 'POST /api/users/unforget {"userId": "u-1"}'),
    ],
)
def test_a_new_request_is_acted_on(action: str, match: str, call: str) -> None:
    """By the one identifier that matches, folded."""
    (operation,) = taken(privacy(action=action, match=match), [row(1, "Ada@Example.com")])
    assert operation.call is not None
    request = operation.call.wrap([operation])
    body = "" if request.body is None else " " + json.dumps(json.loads(request.body))
    assert f"{request.method} {request.path}{body}" == call
    assert "ada" not in request.template
    assert operation.kind is Kind.ADDED


def test_keys_are_hashes() -> None:
    """Also those that are too long; a null key has none."""
    long = "x" * 600
    keys = privacy().keys([row(1), row("ada@example.com"), row(None), row(long)])
    text = key_text([long])
    assert text is not None
    assert keys == [
        hash_of(1),
        hash_of("ada@example.com"),
        Invalid("", Reason.NULL_KEY),
        Invalid(sha256(text[:500].encode()).hexdigest(), Reason.KEY_TOO_LONG),
    ]


def test_an_entry_says_whom_to_erase() -> None:
    """The reference is the one that a user sync's entry has."""
    (operation,) = taken(privacy(), [row(1, "Ada@Example.com")])
    assert operation.remember is not None
    assert operation.remember.ref == '["email","ada@example.com"]'
    assert privacy().identity(operation.remember.ref) == ("email", "ada@example.com")


def test_a_changed_request_is_no_new_one() -> None:
    """Nothing is called and nobody is erased; the new fingerprint is kept."""
    sync = privacy()
    key = hash_of(1)
    record = sync.records([key], [row(1, "eve@example.com")]).record(0)
    assert isinstance(record, Record)
    change = Changed(Entry(b"before"), record)
    operation = sync.changed(change)
    assert (operation.call, operation.remember) == (None, Entry(record.fingerprint, ""))
    assert sync.moved(change) is None


def test_requests_are_kept_for_ever() -> None:
    """A request that leaves and comes back does not fire again."""
    assert Privacy.keeps_leavers
    assert not Privacy.collapses


def test_without_moments_the_model_has_the_order() -> None:
    """The first rows go first, whatever chunks they come in."""
    sync = privacy()
    operations = taken(sync, [row(3), row(1)], [row(2), row(4)])
    assert turns(sync, operations, 3) == [None, None, None, Reason.QUOTA]
    assert turns(sync, operations, None) == [None] * 4
    assert turns(sync, operations, 0) == [Reason.QUOTA] * 4


def test_with_moments_the_earliest_goes_first() -> None:
    """Those of one moment in the order of the model."""
    sync = privacy(requested_at_column="asked_at")
    first, second = datetime(2026, 1, 1), datetime(2026, 1, 2)
    operations = taken(
        sync, [row(1, asked_at=second), row(2)], [row(3, asked_at=first), row(4, asked_at=second), row(5)]
    )
    quota = Reason.QUOTA
    assert turns(sync, operations, 1) == [quota, quota, None, quota, quota]
    assert turns(sync, operations, 2) == [None, quota, None, quota, quota]
    assert turns(sync, operations, 4) == [None, None, None, None, quota]


def test_max_actions_binds_before_the_quota() -> None:
    """The reason tells which of the two a request waits for."""
    sync = privacy(max_actions=2)
    operations = taken(sync, [row(number) for number in range(4)])
    assert turns(sync, operations, None) == [None, None, Reason.MAX_ACTIONS, Reason.MAX_ACTIONS]
    assert turns(sync, operations, 1) == [None, Reason.QUOTA, Reason.MAX_ACTIONS, Reason.MAX_ACTIONS]


@pytest.mark.parametrize(
    "chunks",
    [
        [[row(1), row(1), row(2)]],
        [[row(1)], [row(1), row(2)]],
        [[row(1)], [row(2)], [row(1)], [row(1)]],
        [[row(2), row(1)], [row(1), row(3, None)]],
    ],
)
def test_requests_of_one_key_take_no_turn(chunks: list[list[Row]]) -> None:
    """None of them is sent, so the next one goes in their place."""
    sync = privacy()
    operations = [operation for operation in taken(sync, *chunks) if operation.key == hash_of(2)]
    assert turns(sync, operations, 1) == [None]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (datetime(2026, 1, 1), datetime(2026, 1, 1, 0, 0, 1)),
        (datetime(2026, 1, 1, 0, tzinfo=UTC), datetime(2026, 1, 1, 0, 30)),  # naive: an hour earlier than it looks
        (datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=3))), datetime(2026, 1, 1, 0, tzinfo=UTC)),
        (date(2026, 1, 1), date(2026, 1, 2)),
        (date(2026, 1, 1), datetime(2026, 1, 1, 0, 1)),
        ("2026-01-01", "2026-01-02 10:00:00"),
        ("2026-01-01T10:00:00+02:00", "2026-01-01 10:00:00+00:00"),
        (2, 10),
        (Decimal("1.5"), 1.75),
        (1, None),
        ("next week", None),
        (datetime(2026, 1, 1), "next week"),
        (datetime.max, float("nan")),
        ("2026", None),
    ],
)
def test_moments_of_every_form_have_an_order(earlier: Any, later: Any) -> None:
    """As databases return them; what is no moment comes last."""
    zone = ZoneInfo("Europe/Berlin")
    if isinstance(earlier, datetime) and earlier.tzinfo is UTC:
        earlier, later = later, earlier
    assert rank(earlier, zone) < rank(later, zone)


@pytest.mark.parametrize("action", ["forget", "unforget"])
def test_email_based_projects_forget_by_email(action: str) -> None:
    """By user ID they cannot; where the project type is not told, Iterable decides."""
    with pytest.raises(ConfigurationError, match="Map email_column"):
        privacy(action=action, match="user_id", project_type="email")
    for project_type in ("user_id", "hybrid", None):
        privacy(action=action, match="user_id", project_type=project_type)


def test_deleting_shared_user_ids_must_be_asked_for() -> None:
    """In email-based projects, and where the type is not told."""
    for project_type in ("email", None):
        with pytest.raises(ConfigurationError, match="allow_shared_user_id=True"):
            privacy(action="delete", match="user_id", project_type=project_type)
        privacy(action="delete", match="user_id", project_type=project_type, allow_shared_user_id=True)
    privacy(action="delete", match="user_id", project_type="hybrid")
    privacy(action="delete", match="email", project_type="email")


@pytest.mark.parametrize(
    "options", [{"identifier_column": "mail"}, {"primary_key": ("nope",)}, {"requested_at_column": "when"}]
)
def test_columns_must_be_there(options: dict[str, Any]) -> None:
    """The model's columns are named in the error."""
    with pytest.raises(ModelError, match="Its columns are: id, email, uid, asked_at"):
        privacy(**options)


def test_rows_without_a_person_are_refused() -> None:
    """As in any sync."""
    sync = privacy()
    rows = [row(1, "nobody"), row(2, None)]
    records = sync.records([key for key in sync.keys(rows) if isinstance(key, str)], rows)
    found = [fingerprint.reason for fingerprint in records.fingerprints if isinstance(fingerprint, Invalid)]
    assert found == [Reason.INVALID_EMAIL, Reason.NO_IDENTIFIER]
