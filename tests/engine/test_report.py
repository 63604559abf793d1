from __future__ import annotations

import msgspec

from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.report import EXAMPLES, Report
from airflow_provider_iterable.engine.vocabulary import Outcome
from tests.fakes import a_call, an_operation


def test_outcomes_are_counted_by_fate_and_reason() -> None:
    """An accepted row has no reason; every other one has."""
    report = Report("sync", "run", {})
    report.add(Outcome("1", Kind.ADDED, Fate.ACCEPTED))
    report.add(Outcome("2", Kind.ADDED, Fate.REJECTED, Reason.CONFLICT))
    report.add(Outcome("3", Kind.CHANGED, Fate.REJECTED, Reason.CONFLICT))
    report.add(Outcome("4", Kind.REMOVED, Fate.DEFERRED, Reason.NO_ANSWER))
    told = report.to_dict()
    assert (1, 2, 0, 1) == (told["accepted"], told["rejected"], told["skipped"], told["deferred"])
    assert {"conflict": 2, "no_answer": 1} == told["reasons"]


def test_read_is_the_sum_of_what_became_of_rows() -> None:
    """Removed keys are not rows."""
    report = Report("sync", "run", {}, unchanged=4)
    report.counts.update({Kind.ADDED: 1, Kind.CHANGED: 2, Kind.INVALID: 3, Kind.REMOVED: 100})
    told = report.to_dict()
    assert 10 == told["read"] == told["added"] + told["changed"] + told["unchanged"] + told["invalid"]


def test_examples_name_rows_and_hold_no_profile() -> None:
    """A few outcomes of each reason are kept, without their operations."""
    report = Report("sync", "run", {})
    for number in range(EXAMPLES + 5):
        operation = an_operation(str(number), a_call())
        report.add(Outcome(str(number), Kind.ADDED, Fate.REJECTED, Reason.CONFLICT, "why", operation))
    examples = report.examples[Reason.CONFLICT]
    assert [str(number) for number in range(EXAMPLES)] == [example.key for example in examples]
    assert {None} == {example.operation for example in examples}
    assert EXAMPLES + 5 == report.reasons[Reason.CONFLICT]


def test_partial_acceptances_are_counted() -> None:
    """A row that went without some fields is accepted, and its reason says what it lacks."""
    report = Report("sync", "run", {})
    operation = msgspec.structs.replace(an_operation("1", a_call()), partial="field n")
    report.accept([operation, an_operation("2", a_call())])
    told = report.to_dict()
    assert (2, 1, {"partial": 1}) == (told["accepted"], told["partial"], told["reasons"])
    assert ["field n"] == [example.detail for example in report.examples[Reason.PARTIAL]]


def test_rows_without_fields_that_iterable_lacks_are_partial() -> None:
    """Once, if they lack others as well, whose values were wrong; both reasons are told."""
    report = Report("sync", "run", {})
    salvaged = msgspec.structs.replace(an_operation("2", a_call()), partial="field n")
    for operation in (an_operation("1", a_call()), salvaged):
        outcome = Outcome(operation.key, operation.kind, Fate.ACCEPTED, Reason.FIELDS_LEFT_OUT, "field m", operation)
        report.add(outcome)
    told = report.to_dict()
    assert (2, 2, {"fields_left_out": 2, "partial": 1}) == (told["accepted"], told["partial"], told["reasons"])


def test_the_report_is_small_json() -> None:
    """Enum members and floats are plain values in it; without time there is no rate."""
    report = Report("sync", "run", {"host": "h"}, seconds={"plan": 0.12345, "deliver": 0.5}, unchanged=10)
    told = report.to_dict()
    assert told == msgspec.json.decode(msgspec.json.encode(told))
    assert {"plan": 0.123, "deliver": 0.5} == told["seconds"]
    assert 16 == told["rows_per_second"]
    assert 0 == Report("sync", "run", {}).to_dict()["rows_per_second"]
