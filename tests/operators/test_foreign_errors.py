"""A model whose driver raises what is no error of a database: the run ends in words, and leaves its report."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.engine.report import REPORT_KEY
from airflow_provider_iterable.operators import execution
from airflow_provider_iterable.sql import model
from airflow_provider_iterable.state import XComState
from tests.operators.conftest import World, taken_as

SECRET = "ann.secret@example.com"


class BadRequest(Exception):
    """As google.api_core has it."""

    code = 400


class NaT(datetime):
    """As pandas has it: a date-time by its class, and none by anything else."""

    def date(self) -> Any:
        """Return itself, as pandas does."""
        return self

    def timetz(self) -> Any:
        """Refuse, as pandas does."""
        raise ValueError(f"NaTType of {SECRET} does not support timetz")


class StubHook(DbApiHook):
    """A hook whose cursor answers what it is asked in turn, with rows or with an error."""

    conn_name_attr = "stub_conn_id"

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = answers

    def get_conn(self) -> Any:
        """Return a connection with one cursor."""
        answers = iter(self.answers)

        def answer(*arguments: Any) -> Any:
            found: Any = next(answers, [])
            if isinstance(found, BaseException):
                raise found
            return found

        description = [("id",), ("email",), ("since",)]
        cursor = SimpleNamespace(description=description, execute=answer, fetchmany=answer, close=lambda: None)
        return SimpleNamespace(cursor=lambda: cursor, rollback=lambda: None, close=lambda: None)


def rows(first: int) -> list[tuple[Any, ...]]:
    """Return a chunk of rows."""
    return [(n, f"secret{n}@example.com", None) for n in range(first, first + 2000)]


PARAMETERS: dict[str, Any] = {"fields": {"since": "since"}, "state": XComState(), "sql": "SELECT 'A%' AS id"}


@pytest.mark.parametrize(
    ("answers", "kind", "told"),
    [
        ([BadRequest(f"400 Unrecognized name: emial at [1:8] for {SECRET}")], AirflowFailException, "emial, at [1:8]"),
        ([None, rows(0), rows(2000), RuntimeError(f"download failed for {SECRET}")], AirflowException, "RuntimeError"),
        ([None, rows(0), NotImplementedError(f"no type {SECRET}")], AirflowException, "NotImplementedError"),
        ([None, TypeError(f"{SECRET} has no length")], AirflowException, "TypeError"),
    ],
)
def test_a_run_that_a_foreign_error_ends(
    world: World,
    heard: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    answers: list[Any],
    kind: type[AirflowException],
    told: str,
) -> None:
    """It fails as the error deserves, sends nothing, names nobody and pushes its report."""
    monkeypatch.setattr(execution, "sql_hook", lambda *_: StubHook(*answers))
    with pytest.raises(kind) as failed:
        world.run(**PARAMETERS)
    assert taken_as(failed.value) is kind
    assert told in str(failed.value)
    assert "Nothing was sent" in str(failed.value)
    report = world.xcoms["run-1", REPORT_KEY]
    assert (report["status"], report["accepted"], world.profiles) == ("failed", 0, {})
    shown = "".join(traceback.format_exception(failed.value))
    assert "secret" not in f"{heard()}{report}{failed.value!r}{failed.value.__context__!r}{shown}".casefold()


def test_a_date_time_that_is_none(world: World, heard: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row is rejected, as that of a number that is none is; the others are sent."""
    people = [(1, "secret1@example.com", datetime(2026, 1, 1)), (2, "secret2@example.com", NaT(2026, 1, 1))]
    monkeypatch.setattr(execution, "sql_hook", lambda *_: StubHook(None, people))
    report = world.run(**PARAMETERS, max_rejected=1.0)
    assert (report["accepted"], report["reasons"]) == (1, {"invalid_value": 1})
    said = heard()
    assert "key [2]: field since: a date-time that is none" in said
    assert "secret2" not in said


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_task_from_outside_passes(
    world: World, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """It is no failure of the model, also where it comes in the midst of its rows; the report says that it stopped."""
    monkeypatch.setattr(execution, "sql_hook", lambda *_: StubHook(None, rows(0), error()))
    with pytest.raises(error):
        world.run(**PARAMETERS)
    assert world.xcoms["run-1", REPORT_KEY]["status"] == "stopped"


def test_a_mistake_of_our_own_is_not_disguised(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is raised over rows that have arrived is no failure of the model."""
    monkeypatch.setattr(execution, "sql_hook", lambda *_: StubHook(None, rows(0)))
    monkeypatch.setattr(model.Model, "chunks", _mistaken(model.Model.chunks))
    with pytest.raises(LookupError, match="a mistake"):
        world.run(**PARAMETERS)


def _mistaken(chunks: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def mistaken(self: Any) -> Any:
        for _ in chunks(self):
            raise LookupError("a mistake")
        yield

    return mistaken
