"""What the matrix tries is what the project says that it supports."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests import matrix
from tests.matrix import MARKS, ROWS, TESTS, Failed, Outcome, Row, outcome_of, summary

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_every_python_that_is_claimed_is_tried() -> None:
    """By a row whose failure counts."""
    claimed = {one.rpartition(" ")[2] for one in PROJECT["classifiers"] if one.startswith("Programming Language")}
    assert {row.python for row in ROWS if not row.early} == {one for one in claimed if one.startswith("3.")}


def test_the_oldest_airflow_that_is_allowed_is_tried() -> None:
    """Raising the bound raises the row."""
    (bound,) = (one for one in PROJECT["dependencies"] if one.startswith("apache-airflow>="))
    oldest = bound.removeprefix("apache-airflow>=").rpartition(".")[0]
    assert f"apache-airflow=={oldest}.*" in {one for row in ROWS for one in row.requirements}
    assert [row.name for row in ROWS if row.lowest] == ["lowest"]


def test_tests_that_are_run_are_there() -> None:
    """A file that is renamed is not left out in silence."""
    assert [path for path in TESTS if not (ROOT / path).exists()] == []


def test_the_page_has_rows_that_there_are() -> None:
    """In their order, each with what came of it."""
    table = (ROOT / "docs" / "versions.md").read_text("utf-8").partition(MARKS[0])[2].partition(MARKS[1])[0]
    shown = [line.split(" | ")[0].strip("| ") for line in table.splitlines()[2:]]
    assert shown
    assert shown == [row.name for row in ROWS if row.name in shown]


@pytest.mark.parametrize(("early", "result", "bad"), [(False, "failed: it", True), (True, "warned: it", False)])
def test_a_row_about_what_is_to_come_fails_nobody(
    early: bool, result: str, bad: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it did."""

    def fail(*_: Any) -> None:
        raise Failed("it")

    monkeypatch.setattr(matrix, "LOGS", tmp_path)
    monkeypatch.setattr(matrix, "take", fail)
    monkeypatch.setattr(matrix, "is_published", lambda *_: True)
    found = outcome_of("uv", Row("some", "3.11", early=early), tmp_path, tmp_path, True)
    assert (found.result, found.is_bad) == (result, bad)
    monkeypatch.setattr(matrix, "is_published", lambda *_: False)
    found = outcome_of("uv", Row("some", "3.11", early=early), tmp_path, tmp_path, True)
    assert found.result == ("not in the package index" if early else "failed: it")


def test_what_pytest_counted_is_in_the_table() -> None:
    """Whether all passed or not."""
    assert summary("...\n12 passed, 3 skipped in 4.5s\n") == "12 passed, 3 skipped"
    assert summary("== short ==\n1 failed, 11 passed in 130.25s (0:02:10)\n") == "1 failed, 11 passed"
    assert summary("") == Outcome(ROWS[0]).tests
