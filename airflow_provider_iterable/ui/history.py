"""What Airflow's own database knows of syncs: their task instances, and the reports that these left in XCom.

It is read in the API server, where the database may be read, and only for Dags that the caller names: those that the
user may see.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from msgspec import Struct, field
from sqlalchemy import Select, and_, func, or_, select, tuple_, union
from sqlalchemy.orm import Session

from airflow_provider_iterable.engine.report import REPORT_KEY
from airflow_provider_iterable.operators.running import KEY as RUNNING_KEY

try:
    from airflow.models.task_state_store import TaskStateStoreModel as State
except ImportError:  # before 3.3
    State = None  # type: ignore[assignment,misc]

OPERATORS = tuple(
    f"Iterable{kind}Operator" for kind in ("UserSync", "Event", "List", "Catalog", "Privacy", "Subscription", "Merge")
)
"""By these a task is known that has left no report: its first run, and one whose worker was lost."""
RUNS_SHOWN = 20
PAGE = 50
NAMED = ("running", "failed", "up_for_retry")

Task = tuple[str, str]
"""``dag_id`` and ``task_id``."""
Report = Mapping[str, Any]


class Instance(Struct, kw_only=True):
    """A task instance, and the report that its last try left, if it did."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int
    state: str | None
    try_number: int
    started_at: datetime | None
    ended_at: datetime | None
    host: str | None
    shown_as: str | None
    """What a mapped task instance is called."""
    report: Report | None

    @property
    def count(self) -> Counter[str]:
        """The numbers of its report."""
        report = self.report or {}
        return Counter({name: report.get(name) or 0 for name in COUNTS})


class Bar(Struct, kw_only=True):
    """One run of a task, with all of its partitions."""

    run_id: str
    state: str | None
    started_at: datetime | None
    accepted: int
    rejected: int
    instances: int


class Line(Struct, kw_only=True):
    """A sync as the list shows it."""

    dag_id: str
    task_id: str
    syncs: list[str]
    destination: Report = field(default_factory=dict)
    state: str | None = None
    started_at: datetime | None = None
    succeeded_at: datetime | None = None
    failing_since: datetime | None = None
    accepted: int = 0
    rejected: int = 0
    bars: list[Bar] = field(default_factory=list)


class Listing(Struct, kw_only=True):
    """A page of the list."""

    total: int
    page: int
    pages: int
    lines: list[Line]


COUNTS = (
    *("read", "added", "changed", "removed", "unchanged", "invalid"),
    *("accepted", "rejected", "skipped", "deferred", "partial"),
)
WORST = ("running", "failed", "up_for_retry", "queued", "scheduled", "upstream_failed", "skipped", "success")
"""Of several partitions, the state that is found first here is that of the run."""


def tasks(session: Session, dags: Collection[str], dag_id: str | None, run_id: str | None) -> list[Task]:
    """Return the tasks that are syncs.

    :param dags: the Dags that may be shown
    :param dag_id: only those of this Dag
    :param run_id: only those that have an instance in this run of it
    """
    if dag_id is not None:
        dags = {dag_id}.intersection(dags)
    reported = select(XComModel.dag_id, XComModel.task_id).where(XComModel.key == REPORT_KEY)
    known = select(TaskInstance.dag_id, TaskInstance.task_id).where(
        TaskInstance.state.in_(NAMED),
        or_(TaskInstance.operator.in_(OPERATORS), TaskInstance.custom_operator_name.in_(OPERATORS)),
    )
    if run_id is not None:
        reported, known = reported.where(XComModel.run_id == run_id), known.where(TaskInstance.run_id == run_id)
    both = union(reported.where(XComModel.dag_id.in_(dags)), known.where(TaskInstance.dag_id.in_(dags))).subquery()
    return sorted((str(dag), str(task)) for dag, task in session.execute(select(both)))


def listing(session: Session, found: Sequence[Task], given: Mapping[str, str], page: int) -> Listing:
    """Return a page of the list, those that need somebody first.

    :param given: ``words`` that the name has, ``state`` of the last run, ``type`` of the sync
    """
    last = {(each.dag_id, each.task_id): each for each in _latest(session, found)}
    chosen = [task for task in found if task in last and _matches(last[task], given)]
    chosen.sort(key=lambda task: (last[task].state not in ("failed", "up_for_retry"), task))
    pages = max(1, -(-len(chosen) // PAGE))
    page = min(max(page, 1), pages)
    shown = chosen[(page - 1) * PAGE : page * PAGE]
    instances = _of_tasks(session, shown)
    successes, since = _successes(session, shown), {}
    failing = [task for task in shown if last[task].state in ("failed", "up_for_retry")]
    since = _failing_since(session, failing, successes)
    lines = [_line(task, instances.get(task, []), successes.get(task), since.get(task)) for task in shown]
    return Listing(total=len(chosen), page=page, pages=pages, lines=lines)


def instances(session: Session, dag_id: str, run_id: str, task_id: str) -> list[Instance]:
    """Return the instances of a task in a run, the partitions of a sync."""
    query = _instances().where(
        TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id, TaskInstance.task_id == task_id
    )
    return _read(session, query.order_by(TaskInstance.map_index))


def progress(session: Session, instance: Instance) -> Report | None:
    """Return the counts that a task under way has left in its state store, where Airflow has one."""
    if State is None or instance.state != "running":
        return None
    index: Any = State.map_index if hasattr(State, "map_index") else State.region_index  # as 3.4 calls it
    query = select(State.value).where(
        State.dag_id == instance.dag_id,
        State.run_id == instance.run_id,
        State.task_id == instance.task_id,
        index == instance.map_index,
        State.key == RUNNING_KEY,
    )
    query = query.order_by(State.updated_at.desc()).limit(1)
    value = session.scalar(query)
    try:
        counts = value if value is None else json.loads(value)
    except ValueError:
        return None
    return counts if isinstance(counts, dict) and counts.get("phase") == "running" else None


def latest(session: Session, instance: Instance) -> Instance | None:
    """Return an instance if it has left a report, otherwise :func:`newest`: its sync remembers where it did before."""
    return instance if instance.report is not None else newest(session, instance)


def newest(session: Session, instance: Instance) -> Instance | None:
    """Return the last run of the same task, or partition, that tells what its sync does; or at least left a report."""
    query = _instances().where(
        TaskInstance.dag_id == instance.dag_id,
        TaskInstance.task_id == instance.task_id,
        TaskInstance.map_index == instance.map_index,
        XComModel.value.is_not(None),
    )
    found = _read(session, query.order_by(DagRun.run_after.desc(), DagRun.id.desc()).limit(RUNS_SHOWN))
    reported = [each for each in found if each.report is not None]
    return next((each for each in reported if each.report and each.report.get("policy")), next(iter(reported), None))


def assets(session: Session, instance: Instance) -> list[dict[str, Any]]:
    """Return the assets that a task instance updated: their IDs and URIs."""
    query = (
        select(AssetModel.id, AssetModel.uri)
        .join(AssetEvent, AssetEvent.asset_id == AssetModel.id)
        .where(
            AssetEvent.source_dag_id == instance.dag_id,
            AssetEvent.source_run_id == instance.run_id,
            AssetEvent.source_task_id == instance.task_id,
            AssetEvent.source_map_index == instance.map_index,
        )
        .distinct()
        .order_by(AssetModel.id)
    )
    return [{"id": number, "uri": uri} for number, uri in session.execute(query)]


def before(session: Session, instance: Instance) -> Instance | None:
    """Return the same task, or partition, in the run before."""
    ran = select(DagRun.run_after).where(DagRun.dag_id == instance.dag_id, DagRun.run_id == instance.run_id)
    query = _instances().where(
        TaskInstance.dag_id == instance.dag_id,
        TaskInstance.task_id == instance.task_id,
        TaskInstance.map_index == instance.map_index,
        TaskInstance.run_id != instance.run_id,
        DagRun.run_after <= ran.scalar_subquery(),
        TaskInstance.state.is_not(None),
    )
    found = _read(session, query.order_by(DagRun.run_after.desc(), DagRun.id.desc()).limit(1))
    return found[0] if found else None


def _instances() -> Select[Any]:
    columns: list[Any] = [
        *(TaskInstance.dag_id, TaskInstance.task_id, TaskInstance.run_id, TaskInstance.map_index),
        *(TaskInstance.state, TaskInstance.try_number, TaskInstance.start_date, TaskInstance.end_date),
        *(TaskInstance.hostname, TaskInstance._rendered_map_index),
        XComModel.value,
    ]
    return (
        select(*columns)
        .join(DagRun, and_(DagRun.dag_id == TaskInstance.dag_id, DagRun.run_id == TaskInstance.run_id))
        .outerjoin(
            XComModel,
            and_(
                XComModel.dag_run_id == DagRun.id,
                XComModel.task_id == TaskInstance.task_id,
                XComModel.map_index == TaskInstance.map_index,
                XComModel.key == REPORT_KEY,
            ),
        )
    )


def _read(session: Session, query: Select[Any]) -> list[Instance]:
    return [
        Instance(
            dag_id=dag, task_id=task, run_id=run, map_index=number, state=None if state is None else str(state),
            try_number=tried, started_at=started, ended_at=ended, host=host, shown_as=name, report=_report(value),
        )
        for dag, task, run, number, state, tried, started, ended, host, name, value in session.execute(query)
    ]  # fmt: skip


def _report(value: Any) -> Report | None:
    """Return a report as it was left; what a custom XCom backend wrote instead of it is none."""
    return value if isinstance(value, dict) and "sync_id" in value else None


def _ranked(found: Sequence[Task], most: int) -> Select[Any]:
    """Return the query of the last runs of some tasks: their keys, and how many runs came later."""
    rank = func.dense_rank().over(
        partition_by=(TaskInstance.dag_id, TaskInstance.task_id), order_by=(DagRun.run_after.desc(), DagRun.id.desc())
    )
    ranked = (
        select(TaskInstance.id, rank.label("later"))
        .join(DagRun, and_(DagRun.dag_id == TaskInstance.dag_id, DagRun.run_id == TaskInstance.run_id))
        .where(_among(found), TaskInstance.state.is_not(None))
        .subquery()
    )
    return select(ranked.c.id).where(ranked.c.later <= most)


def _among(found: Iterable[Task]) -> Any:
    return tuple_(TaskInstance.dag_id, TaskInstance.task_id).in_(list(found))


def _of_tasks(session: Session, found: Sequence[Task]) -> dict[Task, list[list[Instance]]]:
    """Return the last runs of some tasks, the newest first, each with its instances."""
    if not found:
        return {}
    query = _instances().where(TaskInstance.id.in_(_ranked(found, RUNS_SHOWN)))
    runs: dict[Task, dict[str, list[Instance]]] = {}
    for each in _read(session, query.order_by(DagRun.run_after.desc(), DagRun.id.desc(), TaskInstance.map_index)):
        runs.setdefault((each.dag_id, each.task_id), {}).setdefault(each.run_id, []).append(each)
    return {task: list(by_run.values()) for task, by_run in runs.items()}


def _latest(session: Session, found: Sequence[Task]) -> Iterable[Instance]:
    """Yield of each task the worst instance of its last run."""
    if not found:
        return
    query = _instances().where(TaskInstance.id.in_(_ranked(found, 1)))
    worst: dict[Task, Instance] = {}
    for each in _read(session, query):
        task = (each.dag_id, each.task_id)
        if task not in worst or _badness(each.state) < _badness(worst[task].state):
            worst[task] = each
    yield from worst.values()


def _badness(state: str | None) -> int:
    return WORST.index(state) if state in WORST else len(WORST)


def _matches(last: Instance, given: Mapping[str, str]) -> bool:
    report = last.report or {}
    names = f"{last.dag_id} {last.task_id} {report.get('sync_id', '')}".lower()
    kind = str((report.get("destination") or {}).get("type", ""))
    return (
        all(word in names for word in given.get("words", "").lower().split())
        and given.get("state", "") in ("", last.state)
        and given.get("type", "") in ("", kind)
    )


def _successes(session: Session, found: Sequence[Task]) -> dict[Task, datetime]:
    """Return when each task succeeded last."""
    if not found:
        return {}
    query = (
        select(TaskInstance.dag_id, TaskInstance.task_id, func.max(TaskInstance.end_date))
        .where(_among(found), TaskInstance.state == "success")
        .group_by(TaskInstance.dag_id, TaskInstance.task_id)
    )
    return {(dag, task): moment for dag, task, moment in session.execute(query) if moment is not None}


def _failing_since(
    session: Session, found: Sequence[Task], successes: Mapping[Task, datetime]
) -> dict[Task, datetime | None]:
    """Return of each task that fails when it first did so since it succeeded."""
    since: dict[Task, datetime | None] = {}
    for dag, task in found:
        query = select(func.min(TaskInstance.start_date)).where(
            TaskInstance.dag_id == dag,
            TaskInstance.task_id == task,
            TaskInstance.state.in_(("failed", "up_for_retry")),
        )
        if (dag, task) in successes:
            query = query.where(TaskInstance.start_date > successes[dag, task])
        since[dag, task] = session.scalar(query)
    return since


def _line(task: Task, runs: Sequence[Sequence[Instance]], succeeded: datetime | None, since: datetime | None) -> Line:
    bars = [_bar(run) for run in runs]
    reports = [each.report for run in runs for each in run if each.report is not None]
    last = bars[0] if bars else None
    names = {str(each.report["sync_id"]) for run in runs[:1] for each in run if each.report is not None}
    return Line(
        dag_id=task[0],
        task_id=task[1],
        syncs=sorted(names) or [str(report["sync_id"]) for report in reports[:1]] or [f"{task[0]}.{task[1]}"],
        destination=dict(reports[0].get("destination") or {}) if reports else {},
        state=last.state if last else None,
        started_at=last.started_at if last else None,
        succeeded_at=succeeded,
        failing_since=since,
        accepted=last.accepted if last else 0,
        rejected=last.rejected if last else 0,
        bars=bars[::-1],
    )


def _bar(run: Sequence[Instance]) -> Bar:
    counts = sum((each.count for each in run), Counter[str]())
    started = [each.started_at for each in run if each.started_at is not None]
    return Bar(
        run_id=run[0].run_id,
        state=min((each.state for each in run), key=_badness),
        started_at=min(started, default=None),
        accepted=counts["accepted"],
        rejected=counts["rejected"],
        instances=len(run),
    )
