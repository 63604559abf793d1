"""Addresses and user IDs are everywhere in the data, and nowhere in what a run says about it."""

from __future__ import annotations

import json
import logging
import sqlite3
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, BaseOperator

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.engine.vocabulary import Reply
from airflow_provider_iterable.hooks import iterable as hooks
from airflow_provider_iterable.mapping import Json
from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
    IterableEventOperator,
    IterableListOperator,
    IterableMergeOperator,
    IterablePrivacyOperator,
    IterableSubscriptionOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.runs.users import UserRun
from airflow_provider_iterable.sandbox.options import ProjectType
from airflow_provider_iterable.state import ObjectState, TableState, XComState
from airflow_provider_iterable.state.xcom import XCOM_KEY
from tests.operators.conftest import OPT_IN, Make, World

pytestmark = pytest.mark.slow

ADA, GRACE, BRIEN = "Lovelace+Ada@secret.io", "grace.HOPPER@Secret.IO", "O'Brien_x@secret.io"
ENCODED, QUOTED, WIDE = "lovelace%40secret.io", '"grace hopper"@secret.io', "lovelace\uff20secret.io"
SPOILT = "lovelace at secret dot example"
ADA_ID, GRACE_ID, SPOILT_ID = "lovelace-7731", "HOPPER_4412", "brien-ü-1"
FRAGMENTS = ("lovelace", "hopper", "brien", "secret")
"""What is in every address and user ID here, and in no masked one, no digest and no time."""

COLUMNS = ("id", "who", "email", "uid", "contact", "data", "age", "items", "total", "at", "event", "sku")
ITEM = {"id": ADA, "name": GRACE, "price": 1.5, "quantity": 1}
GOOD: dict[str, Any] = {
    "who": "",
    "email": ADA,
    "uid": ADA_ID,
    "contact": GRACE,
    "data": {},
    "age": 1,
    "items": [ITEM],
    "total": 1.5,
    "at": "2026-05-31 18:20:00",
    "event": "Signed Up",
    "sku": "sku-1",
}
LONG = "x" * 480 + ADA


def row(number: Any, **changes: Any) -> tuple[Any, ...]:
    """Return a row of the model, by default a good one about Ada."""
    whole = {**GOOD, "id": number, **changes}
    return tuple(json.dumps(whole[name]) if name in ("data", "items") else whole[name] for name in COLUMNS)


@dataclass
class Scene:
    """A sync of one type, the rows of its runs, and what is to come of them."""

    operator: Callable[..., IterableModelOperator]
    parameters: dict[str, Any]
    runs: Sequence[Sequence[tuple[Any, ...]]]
    reasons: set[str]
    """Reasons that the runs must have told: otherwise there was nothing to hide."""
    project: ProjectType = "email"
    options: dict[str, Any] = field(default_factory=dict)
    failure: str = ""
    """Part of the message with which the last run fails."""
    shown: Sequence[str] = ()
    """What the log must say all the same, by which a row is found."""


FIELDS = {"data": Json("data"), "age": "age", "contact": "contact"}
USERS = {"primary_key": "who", "email_column": "email", "fields": FIELDS}
BY_ID = {"primary_key": "who", "user_id_column": "uid", "fields": FIELDS}
EVENTS = {"primary_key": ["id", "who"], "email_column": "email", "event_name_column": "event", "fields": FIELDS}
SHOP = {"primary_key": "who", "email_column": "email", "items_column": "items"}
NOTED = {ADA: 1, "lovelace@secret": 1.5}
WRONG = {ADA: "many", "lovelace@secret": "much"}
SUBSCRIBED = {
    "primary_key": ["contact", "id"],
    "subscription_type": "message_type",
    "subscription_id_column": "sku",
    "subscribed_column": "age",
    "consent_at_column": "at",
    "on_removed": "unsubscribe",
    "max_removed": None,
}

SCENES: dict[str, Scene] = {
    "users, wrong rows of every kind": Scene(
        IterableUserSyncOperator,
        USERS,
        [
            [
                row(1, who=ADA),
                row(2, who=GRACE, email=SPOILT),
                row(3, who=BRIEN, email=QUOTED),
                row(4, who=ENCODED, email=ENCODED),
                row(5, who=WIDE, email=WIDE),
                row(6, who=QUOTED, email=None),
                row(7, who=LONG),
                row(8, who=None),
                row(9, who="twice " + ADA),
                row(10, who="twice " + ADA, email=GRACE),
                row(11, who=SPOILT, email=SPOILT),
                row(12, who="b-12", email=GRACE, contact=b"\xff lovelace"),
                row(13, who="b-13", email=BRIEN, contact=ADA),
            ]
        ],
        {"invalid_email", "no_identifier", "key_too_long", "null_key", "duplicate_key", "invalid_value"},
        shown=['key ["gr***@Se***"]', 'key ["b-12"]: field contact: a value of type bytes', "2 rows"],
    ),
    "users, types": Scene(
        IterableUserSyncOperator,
        USERS,
        [
            [row(1, who=ADA, data=NOTED)],
            [
                row(1, who=ADA, data=WRONG),
                row(2, who=GRACE, email=GRACE, data=WRONG),
                row(3, who="c", email=BRIEN, age=GRACE),
            ],
        ],
        {"type_mismatch"},
        shown=["field data.lo***@se***: double expected", "field age: long expected, string like", 'key ["c"]'],
    ),
    "users, types that only Iterable tells": Scene(
        IterableUserSyncOperator,
        {**USERS, "check_types": False},
        [
            [row(1, who=ADA, data=NOTED)],
            [row(2, who=GRACE, email=GRACE, data=WRONG), row(3, who="c", email=BRIEN, data=WRONG)],
        ],
        {"type_mismatch"},
        shown=["field data.lo***@se***: double expected", 'key ["c"]'],
    ),
    "users, salvaged": Scene(
        IterableUserSyncOperator,
        {**USERS, "salvage": True},
        [
            [row(1, who=ADA, data={ADA_ID: 1})],
            [row(2, who=GRACE, email=GRACE, age=ADA), row(3, who="c", email=BRIEN, age=BRIEN)],
        ],
        {"partial"},
        shown=["field age: long expected"],
    ),
    "users, the limit of fields": Scene(
        IterableUserSyncOperator,
        USERS,
        [
            [
                row(1, who=ADA, data=NOTED),
                row(2, who=GRACE, email=GRACE, data={BRIEN: 1, ENCODED: 2, QUOTED: 3, WIDE: 4}),
            ]
        ],
        {"halted"},
        options={"max_fields": 2},
        failure="limit of unique fields",
        shown=["data.lo***@se***", "age"],
    ),
    "users by ID, the limit of fields": Scene(
        IterableUserSyncOperator,
        BY_ID,
        [[row(1, who="a", data={ADA_ID: {"score": 1}, GRACE_ID: 1}), row(2, who="b", uid=GRACE_ID, data=NOTED)]],
        {"halted"},
        "hybrid",
        {"max_fields": 1},
        failure="limit of unique fields",
        shown=["data.lo***.score"],
    ),
    "users by ID, under a key of another name": Scene(
        IterableUserSyncOperator,
        BY_ID,
        [
            [row(1, who=ADA_ID, data={**NOTED, ADA_ID: 1})],
            [
                row(1, who=ADA_ID, data={**NOTED, ADA_ID: "many"}),
                row(2, who=SPOILT_ID, uid=SPOILT_ID),
                row(3, who=GRACE_ID, uid=GRACE_ID, age=ADA),
                row(4, who=BRIEN, uid="brien-3"),
                row(5, who=BRIEN, uid="brien-4"),
                row(6, who="brien-5", uid="brien-5"),
                row(7, who="brien-5", uid="brien-5"),
            ],
        ],
        {"invalid_user_id", "type_mismatch", "duplicate_key"},
        "hybrid",
        shown=['key ["HO***"]: field age: long expected', 'key ["br***"]: 2 rows', "field data.lo***: long expected"],
    ),
    "users by ID, under a key of the same column in capitals": Scene(
        IterableUserSyncOperator,
        {**BY_ID, "primary_key": ["id", "UID"]},
        [[row(1, uid=SPOILT_ID), row(2, uid=GRACE_ID), row(2, uid=GRACE_ID)]],
        {"invalid_user_id", "duplicate_key"},
        "hybrid",
        shown=['key [1,"br***"]', 'key [2,"HO***"]: 2 rows'],
    ),
    "users who are unknown": Scene(
        IterableUserSyncOperator,
        {**USERS, "mode": "update", "on_removed": "clear", "max_removed": None, "allow_empty": True},
        [[row(1, who=ADA), row(2, who=GRACE, email=GRACE)], []],
        {"unknown_user"},
        shown=["/api/users"],
    ),
    "users with data that Iterable finds wrong": Scene(
        IterableUserSyncOperator,
        USERS,
        [[row(1, who=ADA), row(2, who="b", email=GRACE)]],
        {"invalid_data"},
        options={"invalid_data": frozenset({ADA.lower(), GRACE.lower()})},
        shown=['key ["b"]'],
    ),
    "changes of address": Scene(
        IterableUserSyncOperator,
        {"primary_key": "who", "email_column": "email", "new_email_column": "contact", "mode": "change_email"},
        [
            [
                row(1, who=ADA),
                row(2, who=GRACE, email=SPOILT),
                row(3, who=BRIEN, contact=SPOILT),
                row(4, who="d", email=BRIEN),
            ]
        ],
        {"invalid_email", "unknown_user"},
        shown=['key ["d"]', "the new address"],
    ),
    "changes of address by ID": Scene(
        IterableUserSyncOperator,
        {"primary_key": "who", "user_id_column": "uid", "new_email_column": "contact", "mode": "change_email"},
        [
            [
                row(1, who=ADA_ID),
                row(2, who=SPOILT_ID, uid=SPOILT_ID),
                row(3, who=GRACE_ID, uid=GRACE_ID, contact=SPOILT),
            ]
        ],
        {"invalid_email", "invalid_user_id", "unknown_user"},
        "hybrid",
        shown=['key ["lo***"]'],
    ),
    "events": Scene(
        IterableEventOperator,
        EVENTS,
        [
            [row(1, who=ADA, data=NOTED, event=ADA)],
            [
                row(2, who=ADA, data=WRONG, event=ADA),
                row(3, who=GRACE, email=SPOILT),
                row(4, who=SPOILT, email=SPOILT),
                row(5, who=BRIEN, event=None),
                row(6, who=ADA, email=BRIEN, event="x", contact=b"lovelace"),
            ],
        ],
        {"invalid_email", "invalid_event", "type_mismatch", "invalid_value"},
        shown=['key [6,"Lo***@se***"]: field contact: a value of type bytes'],
    ),
    "events with IDs and times that are none": Scene(
        IterableEventOperator,
        {**EVENTS, "event_id_column": "contact", "timestamp_column": "at"},
        [[row(1, who=ADA), row(2, who=WIDE, contact=ENCODED), row(3, who="c", contact="ok", at=GRACE)]],
        {"invalid_event"},
        shown=['key [3,"c"]: column at: a time expected'],
    ),
    "events, the limit of fields": Scene(
        IterableEventOperator,
        EVENTS,
        [[row(1, who=ADA, data=NOTED, event=GRACE)]],
        {"halted"},
        options={"max_event_fields": 1},
        failure="limit of unique fields",
    ),
    "purchases": Scene(
        IterableEventOperator,
        {**SHOP, "event_type": "purchase", "total_column": "total", "fields": FIELDS, "user_fields": {"vip": "age"}},
        [
            [row(1, who=ADA, data=NOTED)],
            [
                row(2, who=GRACE, data=WRONG),
                row(3, who=BRIEN, items=[{**ITEM, "price": ADA}]),
                row(4, who=ENCODED, items=[{QUOTED: GRACE}]),
                row(5, who=QUOTED, items=ADA),
                row(6, who=WIDE, total=GRACE),
                row(7, who="g", email="lovelace@", age=ADA),
                row(8, who="h", age=GRACE),
            ],
        ],
        {"invalid_event", "invalid_email", "type_mismatch"},
        shown=["item 1, field price", "field vip: long expected"],
    ),
    "carts": Scene(
        IterableEventOperator,
        {**SHOP, "event_type": "cart", "user_fields": {"vip": "age"}},
        [
            [row(1, who=ADA)],
            [row(2, who=GRACE, age=ADA), row(3, who=BRIEN, items=[ADA]), row(4, who=ENCODED, email=WIDE)],
        ],
        {"type_mismatch", "invalid_event"},
        shown=["field vip: long expected"],
    ),
    "lists": Scene(
        IterableListOperator,
        {"primary_key": "contact", "email_column": "email", "list_name": "VIP", "fields": {**FIELDS, "contact": "at"}},
        [
            [row(1, data=NOTED)],
            [
                row(2, contact=GRACE, email=SPOILT),
                row(3, contact=QUOTED, email=ENCODED),
                row(4, contact="d", email=GRACE, data=WRONG, age=ADA),
                row(5, contact=BRIEN, email=BRIEN, at=b"lovelace"),
                row(6, contact=SPOILT, email=SPOILT),
            ],
        ],
        {"invalid_email", "type_mismatch", "invalid_value"},
        shown=['primary key ["gr***@Se***"]', 'key ["gr***@se***"]: field data.lo***@se***: double expected'],
    ),
    "lists by ID": Scene(
        IterableListOperator,
        {"primary_key": "who", "user_id_column": "uid", "list_name": "VIP", "fields": FIELDS},
        [
            [row(1, who=ADA_ID, data={**NOTED, GRACE_ID: 1})],
            [
                row(2, who=SPOILT_ID, uid=SPOILT_ID),
                row(3, who=GRACE_ID, uid=GRACE_ID, data={**NOTED, GRACE_ID: "many"}),
            ],
        ],
        {"invalid_user_id", "type_mismatch"},
        "hybrid",
        shown=['primary key ["br***"]', "field data.HO***"],
    ),
    "catalogs": Scene(
        IterableCatalogOperator,
        {
            "primary_key": "who",
            "item_id_column": "sku",
            "catalog_name": "Shop",
            "fields": FIELDS,
            "field_types": {"age": "long"},
        },
        [
            [row(1, who=ADA)],
            [
                row(2, who=ADA, sku="sku-2", data={ADA: 1}),
                row(3, who=GRACE, sku=GRACE),
                row(4, who=BRIEN, sku="sku-4", age=ADA),
                row(5, who=QUOTED, sku="sku-5", contact=b"lovelace"),
            ],
        ],
        {"invalid_item_id", "type_mismatch", "invalid_value"},
        shown=["field age: long expected"],
    ),
    "catalogs, the limit of fields": Scene(
        IterableCatalogOperator,
        {"primary_key": "who", "item_id_column": "sku", "catalog_name": "Shop", "fields": FIELDS},
        [[row(1, who=ADA, data={ADA_ID: 1})]],
        {"halted"},
        options={"catalog_max_fields": 1},
        failure="no room for the new fields",
    ),
    "deletions": Scene(
        IterablePrivacyOperator,
        {"primary_key": "contact", "email_column": "email", "action": "delete"},
        [[row(1), row(2, contact=BRIEN, email=SPOILT), row(3, contact=QUOTED, email=None), row(4, contact=LONG)]],
        {"invalid_email", "no_identifier", "key_too_long"},
    ),
    "merges": Scene(
        IterableMergeOperator,
        {"primary_key": ["contact", "id"], "source_email_column": "contact", "destination_email_column": "email"},
        [[row(1, contact=BRIEN, email=SPOILT), row(2, contact=QUOTED, email=None)]],
        {"invalid_email", "no_identifier"},
    ),
    "merges of who is not there": Scene(
        IterableMergeOperator,
        {"primary_key": "who", "source_email_column": "contact", "destination_email_column": "email"},
        [[row(1, who=ADA), row(2, who="b", contact=BRIEN, email="lovelace.two@secret.io")]],
        {"unknown_destination"},
    ),
    "subscriptions": Scene(
        IterableSubscriptionOperator,
        {**SUBSCRIBED, "email_column": "email"},
        [
            [row(1, sku=OPT_IN), row(2, email=GRACE, sku=GRACE), row(3, email=BRIEN, sku=OPT_IN, age=GRACE)],
            [
                row(2, email=SPOILT, sku=OPT_IN),
                row(3, email=BRIEN, sku=99),
                row(4, email=GRACE, sku=OPT_IN, at=ADA),
                row(5, email=None, sku=OPT_IN),
            ],
        ],
        {"invalid_email", "no_identifier", "invalid_subscription", "no_consent", "unknown_subscription"},
        shown=['key ["o\'***@se***","messageType",99]: there is no message type 99', 'primary key ["gr***@Se***",4]'],
    ),
    "subscriptions by ID, replaced": Scene(
        IterableSubscriptionOperator,
        {**SUBSCRIBED, "user_id_column": "uid", "exclusive": True},
        [[row(1, sku=OPT_IN), row(2, uid=SPOILT_ID, sku=OPT_IN), row(3, uid=GRACE_ID, sku=99)]],
        {"invalid_user_id", "unknown_user", "unknown_subscription"},
        "hybrid",
    ),
    "chains of merges": Scene(
        IterableMergeOperator,
        {"primary_key": "uid", "source_user_id_column": "uid", "destination_user_id_column": "who"},
        [[row(1, uid=ADA_ID, who=GRACE_ID), row(2, uid=GRACE_ID, who=ADA_ID)]],
        {"merge_cycle"},
        "hybrid",
        failure="cannot be made beside one another",
    ),
    "requests to forget": Scene(
        IterablePrivacyOperator,
        {"primary_key": "uid", "user_id_column": "uid", "action": "forget"},
        [[row(1), row(2, uid=SPOILT_ID), row(3, uid=GRACE_ID), row(4, uid=GRACE_ID)]],
        {"invalid_user_id", "duplicate_key"},
        "hybrid",
    ),
}


class Stage(World):
    """A world in which one scene is played."""

    scene: Scene
    state: Any

    def make(self, **parameters: Any) -> IterableModelOperator:
        """Make the operator."""
        defaults: dict[str, Any] = {
            "task_id": "sync",
            "sql": "SELECT * FROM users ORDER BY id",
            "sql_conn_id": "warehouse",
            "state": self.state,
            "max_rejected": 1.0,
        }
        return self.scene.operator(**{**defaults, **self.scene.parameters, **parameters})

    def play(self) -> tuple[set[str], BaseException | None]:
        """Run the scene; return the reasons that were told, and the error at its end."""
        reasons, error = set[str](), None
        for rows in self.scene.runs:
            self.rows(*rows, columns=COLUMNS)
            try:
                report = self.run()
            except AirflowException as failed:
                error, report = failed, self.xcoms[f"run-{self.runs}", "iterable_report"]
            reasons.update(report["reasons"])
        return reasons, error

    def tables(self) -> str:
        """Return all that is in the audit tables but the keys of rows, which are as the state has them."""
        found = []
        with closing(sqlite3.connect(self.warehouse)) as connection:
            for name in ("runs", "changelog", "snapshot", "requests"):
                cursor = connection.execute(f"SELECT * FROM iterable_sync_{name}")
                columns = [column for column, *_ in cursor.description]
                found += [repr({c: v for c, v in zip(columns, one, strict=True) if c != "row_id"}) for one in cursor]
        return "\n".join(found)


def everything(stage: Stage, heard: str, error: BaseException | None) -> str:
    """Return all that a run said, wherever it said it."""
    pushed = {key: value for key, value in stage.xcoms.items() if key[1] != XCOM_KEY}
    extra = [*(getattr(event, "extra", None) for event in stage.events), *(extra for _, extra in stage.told.events)]
    failed = "" if error is None else "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)
    texts = json.dumps([*pushed.values(), extra], ensure_ascii=False)
    audit = stage.tables() if isinstance(stage.state, TableState) else ""
    return "\n".join((heard, texts, failed, audit))


def nobody_in(text: str) -> None:
    """Assert that no part of an address or a user ID is in a text."""
    lines = [line for line in text.splitlines() if any(fragment in line.casefold() for fragment in FRAGMENTS)]
    assert lines == []


@pytest.fixture
def set_stage(make_world: Make) -> Callable[[Scene, Any], Stage]:
    """Set a stage for a scene."""

    def set_stage(scene: Scene, state: Any) -> Stage:
        world = make_world(scene.project, **scene.options)
        stage = Stage(world.sandbox, world.warehouse, world.project_type)
        stage.scene, stage.state = scene, state
        return stage

    return set_stage


SetStage = Callable[[Scene, Any], Stage]


@pytest.mark.parametrize("audit", ["failures", True])
@pytest.mark.parametrize("name", SCENES)
def test_nobody_is_named(set_stage: SetStage, heard: Callable[[], str], name: str, audit: Any) -> None:
    """Log, report, XCom, audit tables and exceptions tell which rows and fields, and of nobody who it is."""
    scene = SCENES[name]
    stage = set_stage(scene, TableState(audit=audit))
    reasons, error = stage.play()
    said = everything(stage, heard(), error)
    assert scene.reasons <= reasons
    assert scene.failure in str(error) if scene.failure else error is None
    nobody_in(said)
    for words in scene.shown:
        assert words in said


@pytest.mark.parametrize(
    "name", ["users, wrong rows of every kind", "users, the limit of fields", "lists", "subscriptions"]
)
@pytest.mark.parametrize("store", ["xcom", "objects"])
def test_nobody_is_named_whatever_the_store(
    set_stage: SetStage, heard: Callable[[], str], tmp_path: Any, name: str, store: str
) -> None:
    """What is remembered elsewhere than in tables makes no difference to what is said."""
    state = XComState() if store == "xcom" else ObjectState(f"file://{tmp_path}/state")
    stage = set_stage(SCENES[name], state)
    _, error = stage.play()
    nobody_in(everything(stage, heard(), error))


ECHOES: dict[str, tuple[int, Any]] = {
    "a code that is a sentence": (400, {"code": f"Invalid email: {ADA}", "msg": f"{ADA}", "params": None}),
    "an error that is a sentence": (400, {"error": f"no user {GRACE_ID}", "message": f"{GRACE_ID}"}),
    "a key that is refused": (401, {"code": f"BadApiKey for {ADA}", "msg": GRACE}),
    "a type that is a value": (
        400,
        {
            "code": "RequestFieldsTypesMismatched",
            "params": {"validationErrors": {f"x:::{GRACE_ID} {ADA}": {"expectedType": f"not {BRIEN}"}}},
        },
    ),
    "a limit that is a value": (
        400,
        {"code": "UniqueFieldsLimitExceeded", "params": {"limit": ADA, "newFields": [ADA]}},
    ),
    "identifiers of others": (200, {"successCount": 0, "failCount": 1, "failedUpdates": {"conflictEmails": [BRIEN]}}),
    "no JSON": (500, f"<html>{ADA}</html>"),
}


@pytest.mark.parametrize("case", ECHOES)
def test_what_a_server_echoes_is_not_repeated(
    set_stage: SetStage, heard: Callable[[], str], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Codes, types, limits and IDs of requests may be anything; only words are told, and only numbers."""
    status, said = ECHOES[case]
    body = said.encode() if isinstance(said, str) else json.dumps(said).encode()

    class Echo(Client):
        def _exchange(self, request: Any, started: float) -> Reply:
            if "getFields" in request.path:
                return Reply(200, b'{"fields": {}}')
            return Reply(status, body, request_id=f"request of {ADA}")

    scene = Scene(IterableUserSyncOperator, USERS, [[row(1, who=ADA), row(2, who="b", email=GRACE)]], set())
    stage = set_stage(scene, TableState(audit=True))
    monkeypatch.setattr(hooks, "Client", partial(Echo, clock=lambda: 0.0, sleep=lambda seconds: None))
    monkeypatch.setattr(hooks, "SharedPaces", lambda project: None)
    _, error = stage.play()
    nobody_in(everything(stage, heard(), error))


class DatabaseError(Exception):
    """As drivers call theirs, by which they are known."""


def _chained() -> None:
    try:
        raise KeyError(f"user {ADA}")
    except KeyError:
        raise RuntimeError("something else") from None


def _led_to() -> None:
    try:
        raise KeyError(f"user {ADA}")
    except KeyError as error:
        raise RuntimeError("it broke") from error


def _driver() -> None:
    raise DatabaseError(f"Key (record_key)=({GRACE_ID}) exists already")


def _own() -> None:
    raise AirflowFailException(f"no such thing as {ADA}")


@pytest.mark.parametrize(
    ("work", "kind", "message"),
    [
        (_led_to, AirflowException, "RuntimeError: it broke"),
        (_driver, AirflowException, "DatabaseError: its message may hold values"),
        (_own, AirflowFailException, "no such thing as Lo***@se***"),
        (_chained, RuntimeError, "something else"),
    ],
)
def test_errors_that_nobody_foresaw_name_nobody(
    set_stage: SetStage,
    heard: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[], None],
    kind: type[Exception],
    message: str,
) -> None:
    """Neither by their message nor by that of what led to them; where they were raised is told."""
    scene = Scene(IterableUserSyncOperator, USERS, [[row(1, who=ADA)]], set())
    stage = set_stage(scene, TableState())
    stage.rows(row(1, who=ADA), columns=COLUMNS)
    monkeypatch.setattr(UserRun, "build", lambda *_: work())
    with pytest.raises(kind, match=message.replace("*", r"\*")) as failed:
        stage.run()
    assert type(failed.value) is kind
    text = everything(stage, heard(), failed.value)
    assert work.__name__ in text
    nobody_in(text)


def test_whoever_is_called_on_failure_learns_of_nobody(set_stage: SetStage) -> None:
    """A callback gets the exception: nobody is in it, nor in what it is made of."""
    stage = set_stage(SCENES["users, the limit of fields"], TableState())
    _, error = stage.play()
    while error is not None:
        nobody_in(f"{error} {error!r} {error.args} {getattr(error, 'report', None)}")
        error = error.__context__


def test_the_search_finds(set_stage: SetStage, heard: Callable[[], str]) -> None:
    """What these tests search is really all that is said: a loggers' word, one of Airflow's task, and the audit's."""
    stage = set_stage(SCENES["users, types"], TableState(audit=True, audit_fields=True))
    stage.play()
    logging.getLogger("urllib3.connectionpool").debug("one %s", ADA)
    BaseOperator(task_id="other").log.warning("two %s", GRACE)
    text = everything(stage, heard(), None)
    assert f"one {ADA}" in text
    assert f"two {GRACE}" in text
    assert json.dumps(ADA) in text.replace("\\\\", "\\") or ADA in text
    with pytest.raises(AssertionError):
        nobody_in(stage.tables())
