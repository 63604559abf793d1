"""What every operator promises: nothing private is told, and template fields are only kept until they are rendered."""

from __future__ import annotations

import ast
import inspect
import json
import logging
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.providers.sqlite.hooks.sqlite import SqliteHook

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import Constant
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
from airflow_provider_iterable.state import TableState, XComState
from tests.operators.conftest import KEY, Make, World, email, person, taken_as

OPERATORS: dict[type[IterableModelOperator], dict[str, Any]] = {
    IterableUserSyncOperator: {"email_column": "email"},
    IterableEventOperator: {"email_column": "email", "event_name": "seen"},
    IterableListOperator: {"email_column": "email"},
    IterableCatalogOperator: {"catalog_name": "shop"},
    IterableSubscriptionOperator: {
        "email_column": "email",
        "subscription_type": "message_type",
        "subscription_id": 1,
        "consent_waived": "a test",
    },
    IterableMergeOperator: {
        "source_email_column": "email",
        "destination_email_column": "kept",
        "state": TableState(),
    },
    IterablePrivacyOperator: {"email_column": "email", "action": "forget", "state": TableState()},
}
"""Every operator with the least it needs besides its model."""
NAME = "Lovelace-Byron"


def every_secret(world: World) -> list[str]:
    """Return the key, and all addresses and names that are in the model or at Iterable."""
    return [KEY, NAME, "@example.com", *(email(number) for number in range(1, 50)), "secret.person"]


def told(world: World, error: BaseException | None, heard: Callable[[], str], **kept: Any) -> str:
    """Return everything that a run told: log, exceptions with their causes, XComs, and how things print."""
    exception = "" if error is None else "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)
    operator = world.operator
    things = [operator, vars(operator) if operator else None, *kept.values()]
    return "\n".join([heard(), exception, json.dumps([*world.xcoms.values()]), *map(repr, things)])


FAILURES: dict[str, tuple[dict[str, Any], dict[str, Any], type[AirflowException]]] = {
    "unknown key": ({"api_key": "another"}, {}, AirflowFailException),
    "weak key": ({"disabled_keys": (KEY,)}, {}, AirflowFailException),
    "read-only key": ({"read_only_keys": (KEY,)}, {}, AirflowFailException),
    "field limit": ({"max_fields": 1}, {}, AirflowFailException),
    "guard": ({}, {"sql": "SELECT * FROM users WHERE FALSE"}, AirflowFailException),
    "missing column": ({}, {"email_column": "nope"}, AirflowFailException),
    "too many rejected": ({}, {"max_rejected": 0}, AirflowFailException),
    "approval": ({}, {"approved_plan": "0" * 32}, AirflowFailException),
}


@pytest.mark.parametrize("state", [TableState(), XComState()], ids=["table", "xcom"])
@pytest.mark.parametrize("case", FAILURES)
def test_failures_tell_nothing_private(make_world: Make, heard: Callable[[], str], case: str, state: Any) -> None:
    """Neither key nor address nor value is in log, exception, XCom or repr, at any level, whatever went wrong."""
    options, parameters, kind = FAILURES[case]
    world = make_world(**options)
    world.rows(person(1, name=NAME), person(2, name=NAME), person(3, email="secret.person@nowhere"))
    with pytest.raises(kind) as failed:
        world.run(**{"state": state, "max_rejected": 1.0, **parameters})
    assert taken_as(failed.value) is kind
    text = told(world, failed.value, heard)
    assert "Sync adhoc_airflow.sync_users" in text
    for secret in every_secret(world):
        assert secret not in text


@pytest.mark.parametrize("mode", ["upsert", "update"])
@pytest.mark.parametrize("kind", ["", "5xx_html", "drop_after", "drop_before", "malformed"])
@pytest.mark.parametrize("key", ["id", "email"])
def test_runs_tell_nothing_private(make_world: Make, heard: Callable[[], str], mode: str, kind: str, key: str) -> None:
    """Rejected, skipped, deleted and deferred people are named by masked keys; requests by their templates."""
    world = make_world(max_bytes=3000)
    for number in (1, 2, 3, 4, 5, 6):
        world.create(number, age=1)
    world.sandbox.set(invalid_data={email(4)})
    parameters = {"mode": mode, "primary_key": key, "max_rejected": 1.0, "on_removed": "delete", "batch_size": 3}
    people = [person(number, name=NAME, age=number if number != 5 else NAME) for number in range(1, 20)]
    world.rows(*people, person(40, email=f"secret.person@{NAME}"))
    world.run(**parameters)
    if kind:
        world.sandbox.faults({"kind": kind, "times": -1, "path": "/api/users"})
    world.rows(*people[2:], person(40, email=f"secret.person@{NAME}"))
    error = None
    try:
        world.run(**parameters, task_id="sync_users")
    except AirflowException as failed:
        error = failed
    assert (error is not None) is bool(kind)
    text = told(world, error, heard)
    assert "Sync adhoc_airflow.sync_users" in text
    assert "type_mismatch" in text
    for secret in every_secret(world):
        assert secret not in text


def test_a_broken_model_tells_nothing_private(world: World, heard: Callable[[], str]) -> None:
    """An error of the database goes through as it is, after the connections were closed."""
    world.people(1)
    parameters = (email(1),)
    with pytest.raises(Exception, match="no such table") as failed:
        world.run(sql="SELECT * FROM nowhere WHERE email = ?", parameters=parameters)
    text = heard() + "".join(traceback.format_exception(failed.value))
    assert email(1) not in text
    assert KEY not in text


def test_the_capture_captures(world: World, heard: Callable[[], str]) -> None:
    """What these tests search is really what loggers say at DEBUG, those of Airflow's tasks included."""
    logging.getLogger("urllib3.connectionpool").debug("one %s", KEY)
    world.people(1)
    world.run()
    assert world.operator is not None
    world.operator.log.warning("two %s", email(1))
    print("three", NAME)
    text = heard()
    for secret in (f"one {KEY}", f"two {email(1)}", f"three {NAME}", "way: bulk upsert", "rows read"):
        assert secret in text


@pytest.mark.parametrize("operator", OPERATORS)
def test_template_fields_may_be_templates(operator: type[IterableModelOperator]) -> None:
    """Before rendering, each of them is a text of braces; the constructor looks at none."""
    jinja = {name: f"{{{{ params.{name} }}}}" for name in operator.template_fields}
    alternatives = [("table", "list_id"), ("sql", "list_name", "list_description"), ("table", "list_id", "fields")]
    kept: set[str] = set()
    without_fields = (IterableMergeOperator, IterablePrivacyOperator, IterableSubscriptionOperator)
    for without in alternatives:  # what excludes one another, or means nothing to an operator
        given: dict[str, Any] = {name: text for name, text in jinja.items() if name not in without}
        if operator in without_fields:
            given.pop("fields", None)
        made = operator(**{"task_id": "sync", "primary_key": "id", **OPERATORS[operator], **given})
        for name, text in given.items():
            assert getattr(made, name) == text
        kept |= given.keys()
    assert kept == jinja.keys() - ({"fields"} if operator in without_fields else set())


def loads(node: ast.AST, names: set[str]) -> list[str]:
    """Return the uses of these names, or of attributes of self with these names, that are no assignments to self."""
    kept: set[int] = set()
    for assign in ast.walk(node):
        if isinstance(assign, ast.Assign):
            (target,) = assign.targets
            pairs = (
                zip(target.elts, assign.value.elts, strict=True)
                if isinstance(target, ast.Tuple) and isinstance(assign.value, ast.Tuple)
                else [(target, assign.value)]
            )
            for left, right in pairs:
                if isinstance(left, ast.Attribute) and isinstance(right, ast.Name) and left.attr == right.id:
                    kept.add(id(right))
    found = []
    for used in ast.walk(node):
        if isinstance(used, ast.Name) and used.id in names and id(used) not in kept:
            found.append(used.id)
        if isinstance(used, ast.Attribute) and used.attr in names and isinstance(used.ctx, ast.Load):
            found.append(used.attr)
    return found


def methods_of_init(operator: type) -> list[Callable[..., Any]]:
    """Return the constructors of our own classes, and the methods that they call on self."""
    own = [cls for cls in operator.__mro__ if cls.__module__.startswith("airflow_provider_iterable")]
    found, waiting = [], ["__init__"]
    while waiting:
        name = waiting.pop()
        for cls in own:
            method = vars(cls).get(name)
            if callable(method) and method not in found:
                found.append(method)
                tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
                waiting += [
                    call.func.attr
                    for call in ast.walk(tree)
                    if isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Attribute)
                    and isinstance(call.func.value, ast.Name)
                    and call.func.value.id == "self"
                ]
    return found


@pytest.mark.parametrize("operator", OPERATORS)
def test_constructors_only_keep_template_fields(operator: type[IterableModelOperator]) -> None:
    """What is rendered later is assigned under its own name, and not looked at, here or in what is called from here."""
    names = set(operator.template_fields)
    methods = methods_of_init(operator)
    assert {"__init__", "_check_parameters", "_check_literals"} <= {method.__name__ for method in methods}
    for method in methods:
        assert loads(ast.parse(textwrap.dedent(inspect.getsource(method))), names) == []


def test_the_search_for_uses_finds_them() -> None:
    """Logic on a template field would be seen in each of its forms."""
    for line in (
        "self.sql = sql or ''",
        "self.sql = sql.strip()",
        "if sql: pass",
        "self.x = self.sql",
        "self.table = sql",
    ):
        assert loads(ast.parse(line), {"sql"}) == ["sql"]
    for line in ("self.sql = sql", "self.sql, self.table = sql, table"):
        assert loads(ast.parse(line), {"sql", "table"}) == []


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_template_field_is_kept(operator: type[IterableModelOperator]) -> None:
    """A template field that no constructor assigns would not be rendered."""
    made = operator(task_id="sync", sql_conn_id="w", primary_key="id", table="t", **OPERATORS[operator])
    assert set(operator.template_fields) <= set(vars(made))
    assert operator.template_ext == (".sql",)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"batch_size": 0}, "batch_size must be from 1 to 1000, not 0"),
        ({"batch_size": 1001}, "batch_size must be from 1 to 1000, not 1001"),
        ({"commit_batches": 0}, "commit_batches must be at least 1, not 0"),
        ({"max_rejected": 1.5}, "max_rejected must be a share from 0.0 to 1.0 or a number of rows, not 1.5"),
        ({"max_rejected": -1}, "max_rejected must be"),
        ({"max_removed": -0.1}, "max_removed must be a share"),
        ({"nulls": "drop"}, 'nulls must be "send" or "skip"'),
        ({"fields": {"a..b": "c"}}, "is not a field name"),
        ({"fields": {"a": "c", "a.b": "c"}}, "both mapped"),
        ({"email_column": None}, "a user needs an identifier"),
        ({"match_by": "user_id"}, "needs user_id_column"),
        ({"match_by": "id"}, 'match_by must be "email" or "user_id", not'),
        ({"primary_key": ()}, "primary_key must be a column, or a list of at least one column"),
        ({"mode": "insert"}, 'mode must be "upsert", "update", "create" or "change_email", not'),
        ({"on_removed": "drop"}, 'on_removed must be "keep", "clear" or "delete", not'),
        ({"recheck_known_users": "daily"}, 'recheck_known_users must be "always" or "never", not'),
        ({"merge_nested_objects": "yes"}, "merge_nested_objects must be True, False or None, not"),
        ({"salvage": None}, "salvage must be True or False, not"),
        ({"user_id_column": " "}, "user_id_column must be the name of a column, not"),
    ],
)
def test_mistakes_are_found_when_the_dag_is_parsed(world: World, parameters: dict[str, Any], message: str) -> None:
    """What can be known without connections is said at once."""
    with pytest.raises(ConfigurationError, match=message.replace("(", r"\(")):
        world.make(**{"email_column": "email", **parameters})


def test_defaults(world: World) -> None:
    """One task instance at a time, a lasting name, state in XCom, and an asset that the sync reads and writes."""
    made = IterableUserSyncOperator(
        task_id="sync", table="users", sql_conn_id="w", primary_key=["a", "b"], email_column="email"
    )
    assert (made.max_active_tis_per_dag, made.sync_id, made.state) == (1, "adhoc_airflow.sync", XComState())
    assert made.primary_key == ("a", "b")
    assert made.asset.uri == "iterable://users/adhoc_airflow.sync"
    assert made.asset in made.inlets
    assert made.asset in made.outlets
    assert world.make(sync_id="mine", max_active_tis_per_dag=2).max_active_tis_per_dag == 2
    assert world.make(fields={"a": Constant(1)}, sync_id="mine").sync_id == "mine"


@pytest.mark.parametrize("given", ["missing", "file", "path"])
def test_a_spool_dir_that_does_not_do_is_told_before_anything_is_read(world: World, tmp_path: Path, given: str) -> None:
    """By the task, for the directory is the worker's; and it is made into no other one."""
    (tmp_path / "file").touch()
    directory = tmp_path / "missing" if given == "path" else str(tmp_path / given)
    world.people(1, 2)
    message, report = world.failure(AirflowFailException, spool_dir=directory)
    reason = "Not a directory" if given == "file" else "No such file or directory"
    assert f"No file can be made in spool_dir, {str(directory)!r}: {reason}. Nothing was read or sent." in message
    assert (report["status"], report["reasons"]) == ("failed", {})
    assert (world.sandbox.calls, [*tmp_path.glob("missing")]) == ([], [])
    (tmp_path / "missing").mkdir()
    assert world.run(spool_dir=tmp_path / "missing")["accepted"] == 2
    assert [*tmp_path.glob("missing/*")] == []


@pytest.mark.parametrize("conn_id", [None, "warehouse", "elsewhere"])
def test_hook_params_are_for_every_hook_of_the_models_connection(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, conn_id: str | None
) -> None:
    """The state's and its audit's too, where they are there as well; another connection is not given them."""
    elsewhere = {"conn_type": "sqlite", "host": str(tmp_path / "elsewhere.db")}
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", json.dumps(elsewhere))
    made: set[tuple[str, bool]] = set()

    class Noted(SqliteHook):
        def __init__(self, *, sqlite_conn_id: str, log_sql: bool = True) -> None:
            made.add((sqlite_conn_id, log_sql))
            super().__init__(sqlite_conn_id, log_sql=log_sql)

    monkeypatch.setattr("airflow.providers.sqlite.hooks.sqlite.SqliteHook", Noted)
    world.people(1)
    world.run(hook_params={"log_sql": False}, state=TableState(conn_id=conn_id))
    assert made == {("warehouse", False)} | ({("elsewhere", True)} if conn_id == "elsewhere" else set())
