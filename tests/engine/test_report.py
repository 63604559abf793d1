from __future__ import annotations

from itertools import pairwise

import msgspec

from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.samples import MOST
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


def rejected(*keys: str, detail: str = "why") -> Report:
    """Return the report of a run in which Iterable refused rows with these keys, in this order."""
    report = Report("sync", "run", {})
    for key in keys:
        outcome = Outcome(key, Kind.ADDED, Fate.REJECTED, Reason.CONFLICT, detail, an_operation(key, a_call()))
        report.add(outcome)
    return report


def shown(report: Report) -> list[tuple[str, int]]:
    """Return the keys of the samples, and how many rows have each."""
    return [(sample.outcome.key, sample.rows) for sample in report.samples[Reason.CONFLICT]]


def test_samples_name_rows_and_hold_no_profile() -> None:
    """A few outcomes of each reason are kept, without their operations."""
    report = rejected(*map(str, range(MOST + 5)))
    assert MOST == len(shown(report))
    assert {None} == {sample.outcome.operation for sample in report.samples[Reason.CONFLICT]}
    assert MOST + 5 == report.reasons[Reason.CONFLICT]


def test_samples_are_spread_over_keys() -> None:
    """They are no row of the first batch or the last, or of each stretch, and the same in whatever order rows come."""
    keys = [f"[{number}]" for number in range(10_000)]
    samples = shown(rejected(*keys))
    assert samples == shown(rejected(*reversed(keys)))
    assert samples == shown(rejected(*keys[5000:], *keys[:5000]))
    numbers = sorted(int(key.strip("[]")) for key, _ in samples)
    assert MOST == len(numbers)
    assert numbers[0] > 0
    assert numbers[-1] - numbers[0] > 3000
    assert max(b - a for a, b in pairwise(numbers)) < 8000


def test_rows_that_are_left_show_again() -> None:
    """Of the rows that were shown, those that are not mended are shown in the next run, too."""
    keys = [f"[{number}]" for number in range(1000)]
    before = [key for key, _ in shown(rejected(*keys))]
    after = [key for key, _ in shown(rejected(*(key for key in keys if key not in before[:2])))]
    assert before[2:] == after[: MOST - 2]


def test_rows_of_one_key_are_one_sample() -> None:
    """It says how many they are, wherever they come among the others."""
    report = rejected(*["[7]", *map(str, range(3)), "[7]", "[7]"])
    assert dict(shown(report))["[7]"] == 3


def test_rows_without_a_key_are_told_by_their_detail() -> None:
    """As members of lists are, whose identifier is missing: the detail has their primary key."""
    report = Report("sync", "run", {})
    for number in range(1000):
        report.add(Outcome("", Kind.INVALID, Fate.REJECTED, Reason.CONFLICT, f"primary key [{number}]"))
    details = [sample.outcome.detail for sample in report.samples[Reason.CONFLICT]]
    assert MOST == len(set(details))
    assert "primary key [0]" not in details


def test_reasons_are_counted_for_each_fate() -> None:
    """Those of rejected rows apart from those of deferred ones."""
    report = rejected("1", "2")
    report.add(Outcome("3", Kind.ADDED, Fate.DEFERRED, Reason.NO_ANSWER))
    report.defer(4)
    assert [(Reason.CONFLICT, 2)] == report.of_fate(Fate.REJECTED)
    assert [(Reason.STOPPED, 4), (Reason.NO_ANSWER, 1)] == report.of_fate(Fate.DEFERRED)
    assert {"conflict": 2, "stopped": 4, "no_answer": 1} == report.to_dict()["reasons"]


def test_partial_acceptances_are_counted() -> None:
    """A row that went without some fields is accepted, and its reason says what it lacks."""
    report = Report("sync", "run", {})
    operation = msgspec.structs.replace(an_operation("1", a_call()), partial="field n")
    report.accept([operation, an_operation("2", a_call())])
    told = report.to_dict()
    assert (2, 1, {"partial": 1}) == (told["accepted"], told["partial"], told["reasons"])
    assert ["field n"] == [sample.outcome.detail for sample in report.samples[Reason.PARTIAL]]


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
