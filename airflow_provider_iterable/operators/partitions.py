"""Partitioned syncs as Airflow sees them: mapped tasks, each with its part of the model, and one that sums up."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, BaseOperator

from airflow_provider_iterable.assets import sync_asset, target_alias, tell
from airflow_provider_iterable.engine.report import NOTES, TEXT
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.operators.failures import for_airflow
from airflow_provider_iterable.operators.forms import AS_IT_IS
from airflow_provider_iterable.operators.parameters import is_template, rendered

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

log = logger(__name__)

COUNTS = (
    "read",
    "added",
    "changed",
    "removed",
    "unchanged",
    "invalid",
    "accepted",
    "rejected",
    "skipped",
    "deferred",
    "partial",
    "collapsed",
)
"""What is simply added up."""

NEEDS_TABLES = (
    "A mapped sync remembers which partitions it has, and moves entries between them, in tables; {} has none. Use "
    'state=TableState() or state=TableState(conn_id="...").'
)
_ENDS_LITERALS = re.compile(r"['\"`\\]")
NEEDS_PARTITION = (
    "Each task of a mapped sync needs a partition, or all of them would remember as one: "
    '.partial(...).expand(partition=[...]), or .expand_kwargs([{"partition": ..., ...}, ...]). Syncs that have nothing '
    'to do with each other need a sync_id each: .expand_kwargs([{"sync_id": ..., ...}, ...]).'
)


def check_query(partition: Any, query: str) -> None:
    """Refuse a query in whose text the name of a partition stands that may end a literal.

    :raises ConfigurationError: the name would be read as SQL
    """
    if isinstance(partition, str) and _ENDS_LITERALS.search(partition) and partition in query:
        raise ConfigurationError(
            f"The partition {partition!r} stands in the query's text, where its quotes would be read as SQL. Nothing "
            'was read or sent. Bind it: parameters={"part": "{{ task.partition }}"}, and in the query :part or '
            "%(part)s, as the database's driver writes it."
        )


def name_of(partition: Any) -> str:
    """Return a partition's name.

    :raises ConfigurationError: it cannot be one
    """
    if isinstance(partition, bool) or not isinstance(partition, (str, int)):
        raise ConfigurationError(
            f"A partition is a text or a whole number, not {type(partition).__name__}; it comes from "
            ".partial(...).expand(partition=[...])."
        )
    name = str(partition)
    if not re.fullmatch(r"[^\[\]\x00-\x1f]{1,100}", name) or name != name.strip():
        raise ConfigurationError(
            f"{name!r} cannot be a partition: 1 to 100 characters, no square brackets, no spaces around them."
        )
    return name


def names_of(partitions: Any) -> tuple[str, ...]:
    """Return the names of all partitions, each of which may come with other arguments of its task.

    :raises ConfigurationError: they are no list of partitions, or one of them is there twice
    """
    if isinstance(partitions, (str, Mapping)) or not isinstance(partitions, Iterable):
        raise ConfigurationError(f"partitions must be a list of all partitions, not {type(partitions).__name__}.")
    names = tuple(name_of(one.get("partition") if isinstance(one, Mapping) else one) for one in partitions)
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise ConfigurationError(f"Partitions must differ from each other, and there are several {', '.join(twice)}.")
    return names


def sync_ids_of(mapped: Any) -> tuple[str, ...]:
    """Return the ``sync_id`` of each of the syncs over which a task was expanded.

    :raises ConfigurationError: one has none, or two have the same
    """
    given = tuple(one.get("sync_id") if isinstance(one, Mapping) else None for one in _iterable(mapped))
    names = tuple(name for name in given if isinstance(name, str) and name.strip())
    if not names or len(names) < len(given):
        raise ConfigurationError(NEEDS_PARTITION)
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise ConfigurationError(
            f"Several tasks of a mapped sync have the sync_id {', '.join(map(repr, twice))}: each would remember, and "
            "remove, as if it were the only one. Give each a sync_id of its own, or a partition where they are parts "
            "of one sync."
        )
    return names


def _iterable(mapped: Any) -> Iterable[Any]:
    return () if isinstance(mapped, (str, Mapping)) or not isinstance(mapped, Iterable) else mapped


class Partial:
    """What ``partial()`` of a sync returns: to be expanded over partitions, all of which each task gets to know.

    Or over syncs of their own, by ``expand_kwargs`` with a ``sync_id`` for each, all of which each task gets to know.

    :param partial: what Airflow's own ``partial()`` returned
    """

    def __init__(self, partial: Any) -> None:
        self._partial = partial
        state = partial.kwargs.get("state")
        if state is None or not state.keeps_partitions:
            raise ConfigurationError(NEEDS_TABLES.format("XComState" if state is None else type(state).__name__))

    def expand(self, **mapped: Any) -> Any:
        """Return a mapped task: one task instance for each partition.

        :raises ConfigurationError: there is no ``partition`` in it, one is there twice, or there is something else
        """
        if "partition" not in mapped:
            raise ConfigurationError(NEEDS_PARTITION)
        if others := sorted(mapped.keys() - {"partition"}):
            raise ConfigurationError(
                f".expand() combines each partition with each of {', '.join(others)}: several tasks would be one "
                'partition, and remove each other\'s rows. Use .expand_kwargs([{"partition": ..., ...}, ...]).'
            )
        self._name_all(mapped["partition"])
        return self._partial.expand(**mapped)

    def expand_kwargs(self, kwargs: Any, **options: Any) -> Any:
        """Return a mapped task: one task instance for each dictionary, which names its partition or its sync.

        :raises ConfigurationError: one has neither ``partition`` nor ``sync_id``, or one is there twice
        """
        self._name_all(kwargs)
        return self._partial.expand_kwargs(kwargs, **options)

    def _name_all(self, partitions: Any) -> None:
        """Let each task know all partitions; those that an earlier task returns are known when it has run."""
        if isinstance(partitions, Sequence) and all(isinstance(one, (str, int, Mapping)) for one in partitions):
            without = [isinstance(one, Mapping) and "partition" not in one for one in partitions]
            if without and all(without):
                partitions = [{"sync_id": name} for name in sync_ids_of(partitions)]
            elif any(without):
                raise ConfigurationError(NEEDS_PARTITION)
            else:
                partitions = list(names_of(partitions))
        self._partial.kwargs.setdefault("partitions", partitions)


class IterableSyncSummaryOperator(BaseOperator):
    """Sum up the reports of a partitioned sync, and say once that it has run.

    The sync's asset gets one event for all partitions, with the sum; the partitions' own tasks leave it alone.

    :param reports: the output of the mapped sync: ``reports=sync.output`` (templated)
    :param partitions: all partitions; by default those over which the sync was expanded (templated)
    :raises AirflowFailException: partitions is no list of partitions, or was not rendered
    :raises AirflowException: a partition did not report; the message says which
    """

    template_fields: Sequence[str] = ("reports", "partitions")
    ui_color = "#f0e6ff"

    def __init__(self, *, reports: Any, partitions: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reports, self.partitions = reports, partitions
        self._follow(reports)

    def _follow(self, output: Any) -> None:
        """Learn from the mapped sync which asset it is about, and which partitions it has."""
        mapped = getattr(output, "operator", None)
        sync_type = getattr(getattr(mapped, "operator_class", None), "sync_type", "")
        if mapped is None or not sync_type or not hasattr(mapped, "partial_kwargs"):
            raise ConfigurationError(
                "reports must be the output of a sync that was expanded over its partitions: reports=sync.output, "
                "where sync = Iterable...Operator.partial(...).expand(partition=[...])."
            )
        arguments = mapped.partial_kwargs
        self.sync_id = arguments.get("sync_id") or f"{mapped.dag_id}.{mapped.task_id}"
        self.asset, self.target = sync_asset(sync_type, self.sync_id), target_alias(sync_type, self.sync_id)
        self.outlets = [*(self.outlets or []), self.asset, self.target]
        name = arguments.get("event_name")
        self._event_name = name if isinstance(name, str) and not is_template(name) else None
        self._expanded_over(arguments.get("partitions"))

    def _expanded_over(self, partitions: Any) -> None:
        if isinstance(partitions, list) and any(isinstance(one, Mapping) for one in partitions):
            raise ConfigurationError(
                "A summary is of one sync's partitions. These tasks are syncs of their own, each with its sync_id, and "
                "have no sum."
            )
        if self.partitions is None:
            self.partitions = partitions

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the sum."""
        reports = [report for report in self.reports or () if isinstance(report, Mapping)]
        try:
            names = names_of(rendered("partitions", AS_IT_IS, self.partitions, False) or ())
        except ConfigurationError as error:
            raise for_airflow(error) from None
        missing = [name for name in names if name not in {report.get("partition") for report in reports}]
        total = summed(self.sync_id, reports)
        failed = bool(missing) or not reports
        log.log(logging.ERROR if failed else logging.INFO, "%s", "\n".join(_lines(total, reports)))
        if failed:
            raise AirflowException(
                f"{len(missing)} of {len(names)} partitions of the sync {self.sync_id} did not report: "
                f"{', '.join(missing[:20])}. The sync's asset gets no event. Look at their tasks; when these "
                "have succeeded, clear this one."
            )
        if total["dry_run"]:
            self.outlets = []  # some partition has only made a plan
        else:
            context["outlet_events"][self.asset].extra = total
            tell(context["outlet_events"], self.target, total, self._event_name)
        return total


def summed(sync_id: str, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the reports of all partitions as one, in the form of each."""
    first: Mapping[str, Any] = reports[0] if reports else {}
    statuses = {report["status"] for report in reports}
    reasons, left_out, changed, seconds = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    new: dict[str, str] = {}
    before = [report.get("rejected_before") for report in reports]  # none of a version that did not count it
    requests: dict[str, Counter[str]] = {}
    for report in reports:
        reasons.update(report["reasons"])
        left_out.update(report.get("left_out", {}))  # none of a version that did not know it
        changed.update(report.get("changed_fields", {}))
        new |= report.get("new_fields", {})
        seconds.update(report["seconds"])
        for name, answers in report["requests"].items():
            requests.setdefault(name, Counter()).update(answers)
    return {
        "sync_id": sync_id,
        "partition": None,
        "partitions": len(reports),
        "run_id": first.get("run_id"),
        "destination": first.get("destination"),
        "state": first.get("state"),
        "policy": first.get("policy"),
        "status": statuses.pop() if len(statuses) == 1 else "failed",
        "error": "; ".join(report["error"] for report in reports if report.get("error"))[:TEXT] or None,
        "resync": first.get("resync"),
        "dry_run": any(report.get("dry_run") for report in reports),
        "resend_reason": "; ".join(sorted({str(report["resend_reason"]) for report in reports} - {"None"})) or None,
        **{name: sum(report[name] for report in reports) for name in COUNTS},
        "rejected_before": None if None in before else sum(rows for rows in before if rows is not None),
        "left_out": dict(sorted(left_out.items())),
        "new_fields": new,
        "changed_fields": dict(changed.most_common()),
        "reasons": dict(sorted(reasons.items())),
        "forecast": _foreseen(reports),
        "requests": {name: dict(answers) for name, answers in sorted(requests.items())},
        "seconds": {phase: round(spent, 3) for phase, spent in seconds.items()},
        "rows_per_second": sum(report["rows_per_second"] for report in reports),
        "plan_hash": None,
        "notes": list(dict.fromkeys(note for report in reports for note in report.get("notes", ())))[:NOTES],
        "plan": None,
        "plan_text": None,
    }


def _foreseen(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what was expected of each endpoint by partitions that run side by side: the longest of them counts."""
    total: dict[str, dict[str, Any]] = {}
    for report in reports:
        for line in report.get("forecast", ()):
            known = total.setdefault(line["endpoint"], {**line, "rows": 0, "requests": 0, "rate": 0.0, "waiting": 0})
            known |= {name: known[name] + line[name] for name in ("rows", "requests", "rate", "waiting")}
            known |= {name: max(known[name], line[name]) for name in ("seconds", "end")}
            known["measured_seconds"] = max(known["measured_seconds"] or 0, line["measured_seconds"] or 0) or None
    return list(total.values())


def _lines(total: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the sum as lines for people, and a line for each partition."""

    def counts(report: Mapping[str, Any]) -> str:
        return ", ".join(f"{name} {report[name]:,}" for name in COUNTS if report[name] or name in ("read", "accepted"))

    lines = [f"Sync {total['sync_id']}, {len(reports)} partitions: {counts(total)}"]
    lines += [f"  {report['partition']}: {counts(report)}" for report in reports]
    lines += [f"  {reason}: {count:,} rows" for reason, count in total["reasons"].items()]
    if total["left_out"]:
        lines.append(f"  fields that Iterable does not have: {', '.join(total['left_out'])}")
    return lines
