"""Every parameter of every operator: what it takes, what becomes of templates, and what is refused."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, BaseOperator

from airflow_provider_iterable import operators
from airflow_provider_iterable.engine.report import REPORT_KEY, Report
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import Column, Constant, Json
from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
    IterableEventOperator,
    IterableListOperator,
    IterableMergeOperator,
    IterablePrivacyOperator,
    IterableSubscriptionOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.operators import forms as forms_of
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.state import ObjectState, TableState
from tests.operators.test_base import OPERATORS

COMMON = {
    "sql",
    "table",
    "parameters",
    "sql_conn_id",
    "hook_params",
    "fields",
    "partitions",
    "repartition",
    "resync",
    "dry_run",
    "approved_plan",
    "allow_empty",
    "max_removed",
    "max_changed",
    "max_rejected",
    "deadline",
    "deadline_action",
    "canary",
    "canary_max_rejected",
    "iterable_conn_id",
}
TEMPLATED: dict[type[IterableModelOperator], set[str]] = {
    IterableUserSyncOperator: COMMON | {"max_deletes"},
    IterableEventOperator: COMMON | {"event_name"},
    IterableListOperator: COMMON | {"list_id", "list_name", "list_description"},
    IterableCatalogOperator: COMMON | {"catalog_name", "max_deletes"},
    IterableSubscriptionOperator: COMMON | {"subscription_id", "max_subscribed"},
    IterableMergeOperator: COMMON | {"max_merges"},
    IterablePrivacyOperator: COMMON | {"max_actions"},
}
"""What a run may want to decide."""

WITHOUT_FIELDS = (IterableMergeOperator, IterablePrivacyOperator, IterableSubscriptionOperator)

FLAG = ([(True, True), (False, False), ("true", True), (" False ", False)], ["yes", "1", 0, "", "None", "Falsch"])
LIMIT = (
    [(0.3, 0.3), (20, 20), (0, 0), ("20", 20), ("0.3", 0.3), ("1.0", 1.0), (" .5\n", 0.5)],
    ["1.5", -1, "-0.1", "1_000", "nan", "inf", "1e-1", "20%", "True", "", "0x10", [1]],
)
SIX = datetime(2026, 5, 31, 6, 0, tzinfo=UTC)
COUNT = ([(20, 20), ("20", 20), (0, 0), (None, None)], ["0.3", -1, "1_000", "True", "", 2.0, "many"])
TEXT = ([("some-text", "some-text")], ["", " ", "None"])
GOOD_AND_BAD: dict[str, tuple[list[tuple[Any, Any]], list[Any]]] = {
    "sql": ([("SELECT 1", "SELECT 1")], ["", "None"]),
    "table": TEXT,
    "parameters": ([], ["a", "", "1"]),
    "sql_conn_id": TEXT,
    "hook_params": ([], ["a", "1", "{}x"]),
    "fields": ([], ["name", "", "1"]),
    "partitions": ([], []),
    "repartition": FLAG,
    "resync": ([("full", "full"), ("baseline", "baseline")], ["Full", "", "None", "everything"]),
    "dry_run": FLAG,
    "approved_plan": ([("0a1b", "0a1b"), ("", "")], []),
    "allow_empty": FLAG,
    "max_removed": ([*LIMIT[0], (None, None)], LIMIT[1]),
    "max_changed": ([*LIMIT[0], (None, None)], LIMIT[1]),
    "max_rejected": (LIMIT[0], [*LIMIT[1], "None"]),
    "deadline": (
        [
            ("2026-05-31 06:00:00+00:00", SIX),
            ("2026-05-31T08:00+02:00 ", SIX),
            ("2026-05-31T06:00:00Z", SIX),
            ("None", None),
            (None, None),
        ],
        ["2026-05-31", "2026-05-31 06:00", "06:00+00:00", "soon", "", 5, "PT2H"],
    ),
    "deadline_action": ([("warn", "warn"), ("fail", "fail")], ["Fail", "", "None", "stop"]),
    "canary": ([(10, 10), ("10", 10), (0.01, 0.01), ("1.0", 1.0), ("None", None)], [*LIMIT[1], 0, "0", "0.0"]),
    "canary_max_rejected": (LIMIT[0], [*LIMIT[1], "None"]),
    "iterable_conn_id": TEXT,
    "max_deletes": COUNT,
    "max_actions": COUNT,
    "max_merges": COUNT,
    "event_name": TEXT,
    "list_id": ([(7, 7), ("42", 42)], ["0", "-1", "7.0", "seven", "True", "", "None", "1_0"]),
    "subscription_id": ([(7, 7), ("42", 42)], ["0", "-1", "7.0", "seven", "True", "", "None", "1_0"]),
    "max_subscribed": COUNT,
    "list_name": TEXT,
    "list_description": ([("about", "about"), ("", "")], ["None"]),
    "catalog_name": ([("shop-1", "shop-1")], ["my_shop", "", "None!", "a/b"]),
}
"""Of each templated parameter: values as a DAG's params have them, with what the sync uses; and values it refuses."""
OF_PYTHON = ("1_000", "1_0", "1e-1", "0x10")
"""Texts that are numbers by the time they come, where templates become native objects."""


def parameters(operator: type) -> dict[str, Any]:
    """Return the parameters that our own classes of an operator take by name, with their defaults."""
    found: dict[str, Any] = {}
    for owner in operator.__mro__:
        if owner.__module__.startswith("airflow_provider_iterable") and "__init__" in vars(owner):
            for parameter in inspect.signature(owner.__init__).parameters.values():  # type: ignore[misc]
                if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                    found.setdefault(parameter.name, parameter.default)
    return found


def make(operator: type[IterableModelOperator], **given: Any) -> IterableModelOperator:
    """Make an operator with the least it needs, and these parameters."""
    least = {"task_id": "sync", "sql_conn_id": "nowhere", "sql": "SELECT 1", "primary_key": "id", **OPERATORS[operator]}
    if "table" in given:
        del least["sql"]
    if "event_name_column" in given:
        del least["event_name"]
    return operator(**{**least, **given})


def execute(made: IterableModelOperator) -> None:
    """Run an operator that is refused before it does anything: there is not even a connection."""
    pushed: dict[str, Any] = {}
    task_instance = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}), try_number=1)
    try:
        made.execute({"run_id": "run", "ti": task_instance})  # type: ignore[typeddict-item]
    finally:
        assert (pushed[REPORT_KEY]["status"], pushed[REPORT_KEY]["requests"]) == ("failed", {})


EVERY = [(operator, name) for operator in OPERATORS for name in sorted(parameters(operator))]
TEMPLATES = [(operator, name) for operator, names in TEMPLATED.items() for name in sorted(names)]


def test_every_operator_is_here() -> None:
    """No operator is added without these tests."""
    syncs = {getattr(operators, name) for name in operators.__all__} - {operators.IterableSyncSummaryOperator}
    assert syncs == set(OPERATORS) == set(TEMPLATED)


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_parameter_has_a_form(operator: type[IterableModelOperator]) -> None:
    """No parameter is added without saying what it must be, and whether it is templated."""
    assert set(operator.forms) == set(parameters(operator))
    assert set(operator.template_fields) == TEMPLATED[operator]
    assert set().union(*TEMPLATED.values()) == GOOD_AND_BAD.keys()


def test_a_form_follows_from_the_annotation_or_is_given() -> None:
    """A class with a parameter that has neither is an error where it is defined."""

    class Parent:
        forms: ClassVar[dict[str, forms_of.Form]] = {"sql": forms_of.SQL}

    @forms_of.with_forms(rows=forms_of.COUNT)
    class Child(Parent):
        def __init__(
            self,
            *,
            flag: bool = False,
            perhaps: bool | None = None,
            mode: Literal["a"] | Literal["b"] = "a",
            which: Literal["c", "d"] | None = None,
            item_column: str | None = None,
            rows: int | str | None = 7,
            **kwargs: Any,
        ) -> None: ...

    forms = Child.forms
    assert (forms["sql"], forms["rows"]) == (forms_of.SQL, forms_of.COUNT)
    assert (forms["flag"], forms["perhaps"]) == (forms_of.FLAG, forms_of.OPTIONAL_FLAG)
    assert (forms["mode"].what, forms["mode"].optional) == ('"a" or "b"', False)
    assert (forms["which"].what, forms["which"].optional) == ('"c" or "d"', True)
    assert forms["item_column"] is forms_of.OPTIONAL_COLUMN
    assert Parent.forms == {"sql": forms_of.SQL}
    with pytest.raises(TypeError, match="Other has no form for item, rows"):

        @forms_of.with_forms()
        class Other(Parent):
            def __init__(self, *, item: str, flag: bool, rows: int) -> None: ...


def test_options_come_from_the_parameters() -> None:
    """An option that is neither given nor a parameter is an error, also where it has a default."""

    @dataclass
    class Options:
        primary_key: tuple[str, ...]
        mode: str
        sqll: str = ""

    made = make(IterableUserSyncOperator)
    assert forms_of.options_of(made, Options, {"sqll": "x", "mode": "y", "z": 1}) == Options(("id",), "y", "x")
    with pytest.raises(AttributeError, match="sqll"):
        forms_of.options_of(made, Options, {})


@pytest.mark.parametrize(("operator", "name"), EVERY)
def test_defaults_have_the_form(operator: type[IterableModelOperator], name: str) -> None:
    """What is left out is read like what is given."""
    made = make(operator)
    default = parameters(operator)[name]
    if default is not inspect.Parameter.empty and name not in OPERATORS[operator] and name not in ("sql", "state"):
        assert getattr(made, name) == default or name in ("sync_id", "primary_key")


@pytest.mark.parametrize(("operator", "name"), EVERY)
def test_nothing_that_is_not_rendered_is_used(operator: type[IterableModelOperator], name: str) -> None:
    """A template where nothing renders it is told when the DAG is parsed; one that is left over, when the task runs."""
    if name == "fields" and operator in WITHOUT_FIELDS:
        return
    if name not in TEMPLATED[operator]:
        for template in ("{{ params.x }}", "a {% if x %}b", ["{{ x }}"], {"a": {"{{ x }}": 1}}):
            with pytest.raises(ConfigurationError, match=f"^{name} holds a template, .* and is not templated"):
                make(operator, **{name: template})
        return
    for template in ("{{ params.x }}", "a {% if x %}b", "x {{"):
        made = make(operator, **{name: template})
        with pytest.raises(AirflowFailException, match=f"^{name} still holds ") as failed:
            execute(made)
        assert template[-2:] in str(failed.value) or "{%" in str(failed.value)


@pytest.mark.parametrize("state", [TableState("{{ x }}"), TableState(schema="{{ x }}"), ObjectState("s3://{{ x }}/a")])
def test_stores_are_not_templated(state: Any) -> None:
    """Nothing renders what they are made with."""
    with pytest.raises(ConfigurationError, match=r"state holds a template, '{{ x }}', and is not templated"):
        make(IterableUserSyncOperator, state=state)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"fields": {"a": Constant("{{ run_id }}")}}, r"fields\['a'\]"),
        ({"fields": {"a": Constant({"deep": ["{{ run_id }}"]})}}, r"fields\['a'\]\['deep'\]"),
        ({"fields": {"a": Column("{{ run_id }}")}}, r"fields\['a'\]"),
        ({"fields": {"a": Json("{% x %}")}}, r"fields\['a'\]"),
        ({"fields": {"a": "{{ run_id }}"}}, r"fields\['a'\]"),
        ({"parameters": {"a": "{{ run_id }}"}}, r"parameters\['a'\]"),
        ({"parameters": ["x", "{{ run_id }}"]}, "parameters"),
        ({"hook_params": {"a": "{{ run_id }}"}}, r"hook_params\['a'\]"),
        ({"hook_params": {"{{ run_id }}": 1}}, "a name in hook_params"),
        ({"partitions": ["{{ run_id }}"]}, "partitions"),
    ],
)
def test_templates_inside_of_values_are_found(given: dict[str, Any], place: str) -> None:
    """However deep: the message tells where, and the template alone of what is there."""
    with pytest.raises(AirflowFailException, match=f"^{place} still holds '{{[{{%].*[%}}]}}' after its templates"):
        execute(make(IterableUserSyncOperator, **given))


@pytest.fixture(params=[False, True], ids=["text", "native"])
def dag(request: pytest.FixtureRequest) -> Iterator[DAG]:
    """A DAG whose templates become texts, or what Python would read them as."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with DAG(dag_id="dag", schedule=None, start_date=start, render_template_as_native_obj=request.param) as made:
        yield made


def render(made: BaseOperator, **params: Any) -> None:
    """Render the templates of a task."""
    made.render_template_fields({"params": params, "task": made})


def read(made: IterableModelOperator) -> None:
    """Read what was rendered."""
    wrong = made._read_rendered(Report("sync", "run", {}))
    if wrong is not None:
        raise wrong


@pytest.mark.parametrize(("operator", "name"), TEMPLATES)
def test_what_templates_become_is_read(dag: DAG, operator: type[IterableModelOperator], name: str) -> None:
    """Texts, or native objects: each becomes what a literal would have been."""
    for value, expected in GOOD_AND_BAD[name][0]:
        native = dag.render_template_as_native_obj
        if value is None and native and name.startswith("list"):
            continue
        made = make(operator, task_id=f"sync_{len(dag.task_dict)}", **{name: "{{ params.value }}"})
        render(made, value=value)
        read(made)
        found = getattr(made, name)
        assert (found, type(found)) == (expected, type(expected)), value
        literal = make(operator, task_id=f"sync_{len(dag.task_dict)}", **{name: value})
        read(literal)
        assert (getattr(literal, name), type(getattr(literal, name))) == (expected, type(expected))


@pytest.mark.parametrize(("operator", "name"), TEMPLATES)
def test_what_is_misread_is_refused(dag: DAG, operator: type[IterableModelOperator], name: str) -> None:
    """The message names the parameter and the value; as a literal, it is told when the DAG is parsed."""
    if name == "fields" and operator in WITHOUT_FIELDS:
        return
    for value in GOOD_AND_BAD[name][1]:
        made = make(operator, task_id=f"sync_{len(dag.task_dict)}", **{name: "{{ params.value }}"})
        render(made, value=value)
        if dag.render_template_as_native_obj and value in OF_PYTHON:
            continue
        with pytest.raises(ConfigurationError, match=f"{name} (must be|became None)") as failed:
            read(made)
        private = name in ("sql", "parameters", "hook_params", "fields")
        assert private or str(value).strip() in str(failed.value)
        if dag.render_template_as_native_obj:
            continue
        with pytest.raises(ConfigurationError, match=f"{name} must be"):
            make(operator, task_id=f"sync_{len(dag.task_dict)}", **{name: value})


@pytest.mark.parametrize(("operator", "name"), TEMPLATES)
def test_nothing_is_not_taken_for_left_out(dag: DAG, operator: type[IterableModelOperator], name: str) -> None:
    """A template that becomes None says nothing, unless None means something."""
    counts = {"max_removed", "max_changed", "max_deletes", "max_actions", "max_merges", "max_subscribed"}
    means_something = counts | {"deadline", "canary", "partitions"}
    if name in means_something or (name == "fields" and operator in WITHOUT_FIELDS):
        return
    if name == "approved_plan" and not dag.render_template_as_native_obj:
        return  # "None" is the hash of no plan, so nothing is sent
    made = make(operator, **{name: "{{ none }}"})
    render(made)
    with pytest.raises(ConfigurationError, match=name):
        read(made)


def test_fields_are_rendered(dag: DAG) -> None:
    """What a field comes from is a template like others, and what the DAG's author wrote is left as it was."""
    fields = {
        "plain": "{{ params.column }}",
        "column": Column("{{ params.column }}", nulls="skip"),
        "json": Json("{{ params.column }}"),
        "constant": Constant("run of {{ params.day }}"),
        "deep": Constant({"list": ["{{ params.column }}", 1]}),
        "number": Constant(1),
    }
    made = make(IterableUserSyncOperator, fields=dict(fields))
    render(made, column="first_name", day="Monday")
    read(made)
    assert made.fields == {
        "plain": "first_name",
        "column": Column("first_name", nulls="skip"),
        "json": Json("first_name"),
        "constant": Constant("run of Monday"),
        "deep": Constant({"list": ["first_name", 1]}),
        "number": Constant(1),
    }
    assert fields["column"] == Column("{{ params.column }}", nulls="skip")
    assert fields["constant"] == Constant("run of {{ params.day }}")


@pytest.mark.parametrize("day", [None, "", " \n"])
def test_a_constant_whose_template_gave_nothing_is_refused(dag: DAG, day: str | None) -> None:
    """Every row would be given it; a constant that was written as nothing is as its author wants it."""
    made = make(
        IterableUserSyncOperator, fields={"a": "b", "when": Constant("{{ params.day }}"), "none": Constant(None)}
    )
    render(made, day=day)
    with pytest.raises(
        ConfigurationError, match=r"constant in fields\['when'\] gave nothing. Nothing was read or sent"
    ):
        read(made)


def test_what_jinja_gives_is_not_rendered_again(dag: DAG) -> None:
    """A template in a value that a template took from somewhere is refused."""
    made = make(IterableListOperator, list_name="{{ params.name }}")
    render(made, name="{{ evil }}")
    with pytest.raises(ConfigurationError, match=r"list_name still holds '{{ evil }}'.* Jinja inside of what Jinja"):
        read(made)


def test_the_output_of_another_task_is_no_literal(dag: DAG) -> None:
    """It is known when the task runs."""
    first: Any = make(IterableListOperator, task_id="first")
    made = make(IterableUserSyncOperator, max_removed=first.output["limit"], fields={"a": first.output["column"]})
    assert made.upstream_task_ids == {"first"}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"state": "table"}, "state must be a store such as TableState(), not 'table'"),
        ({"state": TableState}, "state must be a store such as TableState(), not type"),
        ({"fields": ["a", "b"]}, "fields must be a dict of Iterable's field to a column's name, Column, Json or Con"),
        ({"fields": {"a": 5}}, "The field 'a' comes from a int"),
        ({"fields": {"a": Column(5)}}, "The field 'a' comes from 5, which is not the name of a column"),  # type: ignore[arg-type]
        ({"fields": {"{{ x }}": "a"}}, "fields names the field '{{ x }}': names are texts as they stand"),
        ({"fields": {5: "a"}}, "fields names the field 5"),
        ({"primary_key": 5}, "primary_key must be a column, or a list of"),
        ({"primary_key": [5]}, "primary_key must be a column, or a list of"),
        ({"primary_key": None}, "primary_key must be a column, or a list of"),
        ({"primary_key": {"a": 1}}, "primary_key must be a column, or a list of"),
        ({"primary_key": [""]}, "primary_key must be a column, or a list of"),
        ({"sql": None}, "Give the model as sql or as table, one of the two."),
        ({"sql": "SELECT 1", "table": "users"}, "Give the model as sql or as table, one of the two."),
        ({"sql": ["SELECT 1", "SELECT 2"]}, "sql must be the text of one query, or the name of its file, not list"),
        ({"sql": Path("users.sql")}, "sql must be the text of one query"),
        ({"resync": "everything"}, 'resync must be "changes", "full" or "baseline", not \'everything\''),
        ({"resync": True}, "resync must be"),
        ({"nulls": "drop"}, 'nulls must be "send" or "skip", not \'drop\''),
        ({"parameters": "id = 5"}, "parameters must be a dict or a list, not str"),
        ({"hook_params": ["a"]}, "hook_params must be a dict, not list"),
        ({"timezone": "Mars/Base"}, "timezone must be the name of a time zone, such as \"UTC\", not 'Mars/Base'"),
        ({"timezone": UTC}, "timezone must be the name of a time zone"),
        ({"batch_size": "many"}, "batch_size must be from 1 to 1000, not 'many'"),
        ({"commit_batches": 1.5}, "commit_batches must be at least 1, not 1.5"),
        ({"check_types": "no"}, "check_types must be True or False, not 'no'"),
        ({"spool_dir": 5}, "spool_dir must be a path, not 5"),
        ({"sync_id": 5}, "sync_id must be a text"),
        ({"sync_id": ""}, "sync_id must be a text that is not blank, and not None, not ''"),
        ({"iterable_conn_id": None}, "iterable_conn_id must be a text"),
        ({"max_removed": True}, "max_removed must be a share"),
        ({"dry_run": 1}, "dry_run must be True or False, not 1"),
    ],
)
def test_wrong_shapes_are_told_when_the_dag_is_parsed(
    operator: type[IterableModelOperator], given: dict[str, Any], message: str
) -> None:
    """In words, and by no error of Python's."""
    if "sql" in given and given["sql"] is None:
        given = {**given, "table": None}
    with pytest.raises(ConfigurationError) as failed:
        make(operator, **given)
    assert message in str(failed.value)


@pytest.mark.parametrize(
    ("operator", "given", "message"),
    [
        (
            IterableUserSyncOperator,
            {"mode": "insert"},
            'mode must be "upsert", "update", "create" or "change_email", not',
        ),
        (IterableUserSyncOperator, {"on_removed": "drop"}, 'on_removed must be "keep", "clear" or "delete", not'),
        (IterableUserSyncOperator, {"recheck_known_users": False}, 'recheck_known_users must be "always" or "never"'),
        (IterableUserSyncOperator, {"match_by": "phone"}, 'match_by must be "email" or "user_id", not'),
        (IterableUserSyncOperator, {"email_column": 5}, "email_column must be the name of a column, not 5"),
        (IterableUserSyncOperator, {"create_new_fields": "maybe"}, "create_new_fields must be True, False or None"),
        (IterableUserSyncOperator, {"salvage": None}, "salvage must be True or False, not None"),
        (IterableCatalogOperator, {"on_removed": "clear"}, 'on_removed must be "keep" or "delete", not'),
        (IterableCatalogOperator, {"field_types": ["a"]}, "field_types must be a dict of field to type, not ['a']"),
        (IterableEventOperator, {"user_fields": ["a"]}, "user_fields must be a dict"),
        (IterableEventOperator, {"event_type": "sale"}, 'event_type must be "custom", "purchase" or "cart", not'),
        (IterablePrivacyOperator, {"action": "erase"}, 'action must be "delete", "forget" or "unforget", not'),
        (IterablePrivacyOperator, {"primary_key": []}, "primary_key must be a column, or a list of at least one"),
        (IterableUserSyncOperator, {"primary_key": []}, "primary_key must be a column, or a list of at least one"),
    ],
)
def test_unknown_choices_are_told_when_the_dag_is_parsed(
    operator: type[IterableModelOperator], given: dict[str, Any], message: str
) -> None:
    """With those there are."""
    with pytest.raises(ConfigurationError) as failed:
        make(operator, **given)
    assert message in str(failed.value)


def test_flags_are_never_mere_truth() -> None:
    """Texts of them are read, whether or not the parameter is templated."""
    made = make(IterableUserSyncOperator, check_types="False", salvage="true", batch_size="500", primary_key="id")
    assert (made.check_types, made.salvage, made.batch_size) == (False, True, 500)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("partitions", "message"),
    [
        ("{{ params.x }}", "partitions still holds '{{ params.x }}'"),
        (["a", "{{ params.x }}"], "partitions still holds '{{ params.x }}'"),
        ("['a', 'b']", "partitions must be a list of all partitions, not str"),
        (["a", "a"], "there are several a"),
    ],
)
def test_a_summary_reads_its_partitions(partitions: Any, message: str) -> None:
    """What is no list of partitions could not be found among the reports, whatever they say."""
    with DAG(dag_id="dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        common = {
            **OPERATORS[IterableUserSyncOperator],
            "sql": "SELECT 1",
            "sql_conn_id": "nowhere",
            "primary_key": "id",
        }
        partial = IterableUserSyncOperator.partial(task_id="sync", state=TableState(), **common)
        sync = partial.expand(partition=["a", "b"])
        summary = operators.IterableSyncSummaryOperator(task_id="sum", reports=sync.output, partitions=partitions)
    assert set(summary.template_fields) == {"reports", "partitions"}
    assert set(parameters(type(summary))) == {"reports", "partitions"}
    summary.reports = []
    with pytest.raises(AirflowFailException) as failed:
        summary.execute({})
    assert message in str(failed.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "insert"}, 'mode must be "upsert", "update", "create" or "change_email", not'),
        ({"timezone": "{{ params.zone }}"}, "timezone holds a template, '{{ params.zone }}', and is not templated"),
        ({"dry_run": "perhaps"}, "dry_run must be True or False, not 'perhaps'"),
        ({"fields": ["a"]}, "fields must be a dict"),
    ],
)
@pytest.mark.filterwarnings("ignore:Task 'sync' was never mapped:UserWarning")
def test_what_is_mapped_is_read_when_the_dag_is_parsed(given: dict[str, Any], message: str) -> None:
    """The operator itself is only made when its task runs."""
    common: dict[str, Any] = {"sql": "SELECT 1", "sql_conn_id": "nowhere", "primary_key": "id", "email_column": "email"}
    with pytest.raises(ConfigurationError) as failed:
        IterableUserSyncOperator.partial(task_id="sync", state=TableState(), **common, **given)
    assert message in str(failed.value)
    IterableUserSyncOperator.partial(task_id="sync", state=TableState(), **common, dry_run="{{ params.dry }}")
