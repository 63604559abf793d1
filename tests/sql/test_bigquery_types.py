from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_iterable.errors import ModelError
from airflow_provider_iterable.sql.databases import bigquery
from airflow_provider_iterable.sql.model import Model
from tests.sql.test_model import FakeHook
from tests.sql.typed import Returned, compare, description_of, hook_of, judge, mapped

Schema = dict[str, Any]


def field(name: str, kind: str, *fields: Schema, mode: str = "NULLABLE") -> Schema:
    """Return a field of a schema, as the API describes it."""
    return {"name": name, "type": kind, "mode": mode, **({"fields": list(fields)} if fields else {})}


def repeated(kind: str, *fields: Schema, name: str = "c") -> Schema:
    """Return a repeated field."""
    return field(name, kind, *fields, mode="REPEATED")


def cells(*values: Any) -> list[Any]:
    """Return values in the form of the API, in which a list is one of elements, and a tuple is a record."""
    return [{"v": wire(value)} for value in values]


def wire(value: Any) -> Any:
    """Return a value in the form of the API."""
    if isinstance(value, list):
        return cells(*value)
    return {"f": cells(*value)} if isinstance(value, tuple) else value


class Api:
    """The part of BigQuery's API that gives results: pages of rows.

    :param unfinished: how often it says first that the job is not complete
    """

    def __init__(self, fields: list[Schema], *pages: list[tuple[Any, ...]], unfinished: int = 0) -> None:
        self.fields, self.pages, self.unfinished = fields, pages, unfinished
        self.asked: list[dict[str, Any]] = []

    def jobs(self) -> Any:
        """Return the methods about jobs."""
        return SimpleNamespace(getQueryResults=self._request)

    def _request(self, **parameters: Any) -> Any:
        self.asked.append(parameters)
        return SimpleNamespace(execute=lambda num_retries: self._answer(parameters))

    def _answer(self, parameters: dict[str, Any]) -> Any:
        if self.unfinished:
            self.unfinished -= 1
            return {"jobComplete": False}
        number = int(parameters["pageToken"] or 0)
        answer: dict[str, Any] = {"jobComplete": True, "schema": {"fields": self.fields}}
        if self.pages:  # a result without rows has no member for them
            answer["rows"] = [{"f": cells(*row)} for row in self.pages[number]]
        if number + 1 < len(self.pages):
            answer["pageToken"] = str(number + 1)
        return answer


class Cursor:
    """Airflow's cursor, as far as it runs queries."""

    project_id, location, num_retries = "project", "EU", 3

    def __init__(self, service: Api) -> None:
        self.service = service
        self.job_id: str | None = None
        self.description: list[Any] = []

    def execute(self, operation: str, parameters: Any = None) -> None:
        """Run the query, and learn what the description tells of the schema: names and types."""
        self.job_id = "job"
        self.description = [description_of(one["name"], one["type"]) for one in self.service.fields]

    def close(self) -> None:
        """Do nothing, as Airflow's."""


class Connection:
    """Airflow's connection."""

    def __init__(self, service: Api) -> None:
        self.service = service

    def cursor(self) -> Cursor:
        """Return a cursor."""
        return Cursor(self.service)

    def rollback(self) -> None:
        """Refuse, as Airflow's."""
        raise NotImplementedError

    def close(self) -> None:
        """Do nothing, as Airflow's."""


def model_of(api: Api, chunk_size: int = 2000) -> Model:
    """Return a model that is read from the API."""

    class Hook(FakeHook):
        conn_type = "gcpbigquery"

        def get_conn(self) -> Any:
            return Connection(api)

    return Model(Hook(), "SELECT 1", chunk_size=chunk_size)


ADDRESS = (field("street", "STRING"), field("number", "INTEGER"))
OBJECT = '{"street":"Main St","number":12}'
EXAMPLES = [
    Returned("STRING", field("c", "STRING"), "text", '"text"'),
    Returned("INT64", field("c", "INTEGER"), "42", "42"),
    Returned("FLOAT64", field("c", "FLOAT"), "1.5", "1.5"),
    Returned("NUMERIC", field("c", "NUMERIC"), "1.50", "1.5"),
    Returned("BIGNUMERIC", field("c", "BIGNUMERIC"), "1.50", "1.5"),
    Returned("BOOL", field("c", "BOOLEAN"), "true", "true"),
    Returned("DATE", field("c", "DATE"), "2026-05-31", '"2026-05-31"'),
    Returned("DATETIME", field("c", "DATETIME"), "2026-05-31T18:20:00.123456", '"2026-05-31 18:20:00 +00:00"'),
    Returned("TIMESTAMP", field("c", "TIMESTAMP"), "1.780251600123456E9", '"2026-05-31 18:20:00 +00:00"'),
    Returned("TIME", field("c", "TIME"), "18:20:00", '"18:20:00"'),
    Returned("JSON", field("c", "JSON"), '{"a":[1]}', '{"a":[1]}'),
    Returned("ARRAY<STRING>", repeated("STRING"), ["a", "b"], '["a","b"]'),
    Returned("ARRAY<INT64>", repeated("INTEGER"), ["1", "2"], "[1,2]"),
    Returned("STRUCT<street STRING, number INT64>", field("c", "RECORD", *ADDRESS), ("Main St", "12"), OBJECT),
    Returned(
        "ARRAY<STRUCT<street STRING, number INT64>>", repeated("RECORD", *ADDRESS), [("Main St", "12")], f"[{OBJECT}]"
    ),
    Returned("BYTES", field("c", "BYTES"), "eA==", "TO_BASE64(c)", refused=True),
    Returned("GEOGRAPHY", field("c", "GEOGRAPHY"), "POINT(1 2)", "PARSE_JSON(ST_ASGEOJSON(c))", refused=True),
    Returned("INTERVAL", field("c", "INTERVAL"), "1-2 3 4:5:6", "CAST(c AS STRING)", refused=True),
    Returned(
        "RANGE<DATE>",
        field("c", "RANGE"),
        "[2026-05-31, UNBOUNDED)",
        "RANGE_START(c) AS start, RANGE_END(c) AS finish",
        refused=True,
    ),
]
"""The page lists these in this order."""

EVERY = field(
    "c",
    "STRUCT",
    field("i", "INT64"),
    field("f", "FLOAT64"),
    field("b", "BOOL"),
    field("n", "NUMERIC"),
    field("at", "TIMESTAMP"),
    field("d", "DATETIME"),
    field("j", "JSON"),
    repeated("INTEGER", name="list"),
    repeated("RECORD", field("k", "STRING"), repeated("BOOLEAN", name="flags"), name="parts"),
    field("none", "RECORD", field("x", "STRING")),
    field("null", "INTEGER"),
)
OTHERS = [
    Returned("the other names of types", field("c", "INT64"), "42", "42"),
    Returned("FLOAT64's other name", field("c", "FLOAT64"), "1.5", "1.5"),
    Returned("BOOL's other name", field("c", "BOOL"), "false", "false"),
    Returned("not a number", field("c", "FLOAT"), "NaN", "number nan", refused=True),
    Returned("infinity", field("c", "FLOAT"), "-Infinity", "number -inf", refused=True),
    Returned("not a number in an array", repeated("FLOAT"), ["1.5", "NaN"], "number nan", refused=True),
    Returned("infinity in an array", repeated("FLOAT"), ["Infinity"], "number inf", refused=True),
    Returned("before 1970", field("c", "TIMESTAMP"), "-6.21355968E10", '"0001-01-01 00:00:00 +00:00"'),
    Returned("the last microsecond", field("c", "TIMESTAMP"), "2.53402300799999999E11", '"9999-12-31 23:59:59 +00:00"'),
    Returned("instants in an array", repeated("TIMESTAMP"), ["1.7802516E9"], '["2026-05-31 18:20:00 +00:00"]'),
    Returned("instants as text in an array", repeated("TIMESTAMP"), ["x"], "text that is no date-time", refused=True),
    Returned("dates that are none", field("c", "DATE"), "soon", "text that is no date", refused=True),
    Returned("binaries in an array", repeated("BYTES"), ["eA=="], "TO_BASE64(c)", refused=True),
    Returned("an empty array", repeated("RECORD", *ADDRESS), [], "[]"),
    Returned("text that looks like the API's form", field("c", "JSON"), '{"v": 1}', '{"v":1}'),
    Returned("a type that is not known yet", field("c", "FOREIGN"), "text", '"text"'),
    Returned(
        "everything in a struct",
        EVERY,
        (
            "1",
            "1.5",
            "true",
            "2.50",
            "1.7802516E9",
            "2026-05-31T18:20:00",
            '[{"a":1}]',
            ["1", "2"],
            [("x", ["true", "false"])],
            None,
            None,
        ),
        '{"i":1,"f":1.5,"b":true,"n":2.5,"at":"2026-05-31 18:20:00 +00:00","d":"2026-05-31 18:20:00 +00:00",'
        '"j":[{"a":1}],"list":[1,2],"parts":[{"k":"x","flags":[true,false]}],"none":null,"null":null}',
    ),
    *(Returned(f"null of type {name}", field("c", name), None, "null") for name in bigquery.TYPES),
    Returned("null of type STRUCT", field("c", "RECORD", *ADDRESS), None, "null"),
]


@pytest.mark.parametrize("example", [*EXAMPLES, *OTHERS], ids=str)
def test_each_type_becomes_the_json_that_it_means(example: Returned) -> None:
    """What the API answers is sent as what the schema says."""
    judge(example, model_of(Api([example.described], [(example.value,)])))


def test_keys_are_what_airflows_cursor_makes() -> None:
    """What stands at the top of a row is cast as ever, so that rows keep the keys under which they are remembered."""
    kinds = ("INTEGER", "FLOAT", "BOOLEAN", "TIMESTAMP", "STRING", "NUMERIC", "DATE")
    values = ("1", "1.5", "true", "1.7802516E9", "x", "1.50", "2026-05-31")
    api = Api([field(f"c{number}", kind) for number, kind in enumerate(kinds)], [values])
    assert list(model_of(api)) == [(1, 1.5, True, 1780251600.0, "x", "1.50", "2026-05-31")]


@pytest.mark.parametrize("size", [1, 2, 3, 2000])
def test_every_page_is_read_once(size: int) -> None:
    """Chunks do not end where pages do, and a page is asked for when the one before it is through."""
    api = Api([field("id", "INTEGER")], [("1",), ("2",), ("3",)], [("4",)], [("5",), ("6",)], unfinished=2)
    assert list(model_of(api, chunk_size=size)) == [(number,) for number in range(1, 7)]
    same = {"projectId": "project", "jobId": "job", "location": "EU", "maxResults": bigquery.PAGE}
    assert api.asked == [{**same, "pageToken": token} for token in (None, None, None, "1", "2")]


def test_a_model_without_rows_has_its_columns() -> None:
    """A result of no rows is read as one."""
    with Model(model_of(Api([field("id", "INTEGER")])).hook, "SELECT 1") as model:
        assert (model.columns, list(model)) == (("id",), [])


def test_a_statement_without_columns_is_no_model() -> None:
    """What returns no rows, such as DDL, is refused."""
    with pytest.raises(ModelError, match="no columns"):
        list(model_of(Api([])))


GUARDED = [
    Returned("an array", "STRING", [{"v": "a"}, {"v": "b"}], "TO_JSON_STRING(c)", refused=True),
    Returned("a struct", "RECORD", {"f": [{"v": "Main"}]}, 'Json("c")', refused=True),
    Returned("an array of a type that is not told", (), [{"v": "a"}], "TO_JSON_STRING(c)", refused=True),
    Returned("no array", "STRING", "a", '"a"'),
    Returned("an empty array", "STRING", [], "[]"),
    Returned("JSON", "JSON", '{"v": [1]}', '{"v":[1]}'),
    Returned("seconds", "TIMESTAMP", 1780251600.0, '"2026-05-31 18:20:00 +00:00"'),
    Returned("decimals", "NUMERIC", "1.50", "1.5"),
    Returned("binaries", "BYTES", "eA==", "TO_BASE64(c)", refused=True),
    Returned("null", "STRING", None, "null"),
]


@pytest.mark.parametrize("example", GUARDED, ids=str)
def test_the_form_of_the_api_is_never_sent(example: Returned) -> None:
    """Where the schema cannot be had, arrays and structs are refused: no field is ever named v or f."""
    hook = hook_of("gcpbigquery", [[example.value]], description=[description_of("c", example.described)])
    judge(example, Model(hook, "SELECT 1"))


def test_a_description_of_names_alone_will_do() -> None:
    """What says nothing of types is read by what values are."""
    hook = hook_of("gcpbigquery", [[1, [{"v": "a"}]]], description=[("id",), ("tags",)])
    found = mapped(Model(hook, "SELECT 1"))
    assert found["id"] == "1"
    assert "TO_JSON_STRING" in found["tags"]


def test_the_page_tells_what_each_type_becomes() -> None:
    """The table of types has the examples, and every type is among them."""
    compare("bigquery.md", EXAMPLES, lambda example: model_of(Api([example.described], [(example.value,)])))
    assert {kind.native for kind in bigquery.TYPES.values()} <= {example.name.partition("<")[0] for example in EXAMPLES}
