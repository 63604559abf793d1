from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, AirflowFailException

from airflow_provider_iterable.assets import sync_asset, target_alias
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.operators import (
    IterableListOperator,
    IterablePrivacyOperator,
    IterableSyncSummaryOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.operators.partitions import COUNTS, summed
from airflow_provider_iterable.state import ObjectState, TableState, XComState
from tests.airflow_db import Dags, run_dag
from tests.operators.conftest import Told, World, email, person

DAG_FILE = """
from datetime import UTC, datetime
from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_iterable.operators import *
from airflow_provider_iterable.state import TableState

with DAG(dag_id="{dag_id}", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
    common = dict(sql_conn_id="warehouse", primary_key="id", email_column="email", state=TableState(), allow_empty=True)
    {body}
    IterableSyncSummaryOperator(task_id="summary", reports=sync.output)
"""
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def run(dag: Any, hour: int = 12) -> tuple[dict[str, Any], dict[str, str]]:
    """Run a DAG; return the summary, and how Airflow shows each partition."""
    dag_run = run_dag(dag, NOON.replace(hour=hour))
    tasks = dag_run.get_task_instances()
    assert {(task.task_id, task.state) for task in tasks if task.state != "success"} == set()
    (summary,) = [task for task in tasks if task.task_id == "summary"]
    shown = {str(task.map_index): task.rendered_map_index for task in tasks if task.task_id == "sync"}
    return summary.xcom_pull(task_ids="summary"), shown


def test_partitions_that_an_earlier_task_returns(world: World, dags: Dags) -> None:
    """Each task gets its own and knows all; other ones next time are noticed."""
    body = """make = task(lambda: {made}, task_id="make")()
    sync = IterableUserSyncOperator.partial(
        task_id="sync",
        sql="SELECT * FROM users WHERE city = '{{{{ task.partition }}}}' AND {{{{ task.partitions | length }}}} > 1",
        **common,
    ).expand(partition=make)"""
    world.people(1, 2, 3, city="de")
    with closing(sqlite3.connect(world.warehouse)) as database, database:
        database.execute("UPDATE users SET city = 'fr' WHERE id = 3")
    told = {"dag_id": "made_partitions"}
    source = DAG_FILE.format(**told, body=body.format(made=["de", "fr"]))
    report, shown = run(dags.write("made_partitions", source))
    assert (report["partitions"], report["accepted"], report["sync_id"]) == (2, 3, "made_partitions.sync")
    assert shown == {"0": "de", "1": "fr"}
    calls = len(world.sandbox.calls)
    source = DAG_FILE.format(**told, body=body.format(made=["de", "it"]))
    failed = run_dag(dags.write("made_partitions", source), NOON.replace(hour=13))
    dags.files.pop()  # it is the same file
    assert failed.state == "failed"
    states = {task.task_id: task.state for task in failed.get_task_instances()}
    assert states == {"make": "success", "sync": "failed", "summary": "upstream_failed"}
    assert len(world.sandbox.calls) == calls


NASTY = ["O'Brien", "x' OR '1' = '1", 'say "ah"', "back\\slash", "'; DROP TABLE users; --"]


def test_partitions_whose_names_hold_quotes_are_bound(world: World, dags: Dags) -> None:
    """As the documentation has it: each selects its own rows, and no name is read as SQL."""
    body = """sync = IterableUserSyncOperator.partial(
        task_id="sync",
        sql="SELECT * FROM users WHERE city = :part",
        parameters={"part": "{{ task.partition }}"},
        **common,
    ).expand(partition=NAMES)""".replace("NAMES", repr(NASTY))
    world.rows(*(person(number, city=name) for number, name in enumerate([*NASTY, "elsewhere"], 1)))
    report, _ = run(dags.write("nasty_partitions", DAG_FILE.format(dag_id="nasty_partitions", body=body)))
    assert (report["partitions"], report["read"], report["accepted"]) == (len(NASTY), len(NASTY), len(NASTY))
    assert email(6) not in world.profiles


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("quote", ["'", '"', ""])
def test_a_partition_in_the_text_of_a_query_may_not_end_a_literal(world: World, name: str, quote: str) -> None:
    """Its name would be read as SQL; the message says how to bind it, and nothing is read."""
    world.people(1)
    sql = f"SELECT * FROM users WHERE city = {quote}{name}{quote}"
    message, _ = world.failure(
        AirflowFailException, sql=sql, partition=name, partitions=[name, "other"], state=TableState()
    )
    assert "stands in the query's text" in message
    assert 'parameters={"part": "{{ task.partition }}"}' in message
    assert world.calls == {}


@pytest.mark.parametrize("made", [False, True])
def test_partitions_with_arguments_of_their_own(world: World, dags: Dags, made: bool) -> None:
    """``expand_kwargs`` gives each partition what its query needs; a file's name is the list's name here too."""
    arguments = [{"partition": number, "parameters": {"rest": number}} for number in (0, 1)]
    given = "task(lambda: arguments, task_id='make')()" if made else "arguments"
    body = f"""arguments = {arguments}
    sync = IterableListOperator.partial(task_id="sync", sql="remainders.sql", **common).expand_kwargs({given})"""
    dag_id = f"own_arguments_{made}"
    (dags.folder / "remainders.sql").write_text("SELECT * FROM users WHERE id % 2 = :rest", "utf-8")
    world.people(*range(1, 8))
    report, shown = run(dags.write(dag_id, DAG_FILE.format(dag_id=dag_id, body=body)))
    assert (report["partitions"], report["accepted"], report["destination"]["list"]) == (2, 7, "remainders")
    assert shown == {"0": "0", "1": "1"}
    (found,) = world.sandbox.lists
    assert (found["name"], len(found["members"])) == ("remainders", 7)


SYNCS = """syncs = {syncs}
    sync = IterableListOperator.partial(task_id="sync", table="users", **common).expand_kwargs({given})"""
ALONE = DAG_FILE.replace('IterableSyncSummaryOperator(task_id="summary", reports=sync.output)', "")


@pytest.mark.parametrize("made", [False, True])
def test_mapped_syncs_of_their_own(world: World, dags: Dags, made: bool) -> None:
    """One task fills several lists: each remembers what it sent, and is shown, by its own ``sync_id``."""
    syncs = [{"sync_id": f"list-{name}", "list_name": name} for name in ("gold", "silver")]
    given = "task(lambda: syncs, task_id='make')()" if made else "syncs"
    source = ALONE.format(dag_id=f"own_syncs_{made}", body=SYNCS.format(syncs=syncs, given=given))
    dag = dags.write(f"own_syncs_{made}", source)
    world.people(1, 2, 3)
    for hour, requests in ((1, 2), (2, 0)):
        before = world.calls["POST /api/lists/subscribe"]
        done = run_dag(dag, NOON.replace(hour=hour))
        tasks = [each for each in done.get_task_instances() if each.task_id == "sync"]
        assert [each.state for each in tasks] == ["success", "success"]
        assert {each.rendered_map_index for each in tasks} == {"list-gold", "list-silver"}
        assert world.calls["POST /api/lists/subscribe"] - before == requests
    with closing(sqlite3.connect(world.warehouse)) as database:
        known = database.execute("SELECT sync_id, count(*) FROM iterable_sync_state GROUP BY 1 ORDER BY 1").fetchall()
    assert known == [("list-gold", 3), ("list-silver", 3)]
    assert {found["name"]: len(found["members"]) for found in world.sandbox.lists} == {"gold": 3, "silver": 3}


@pytest.mark.parametrize(
    "syncs",
    [
        [{"list_name": "gold"}, {"list_name": "silver"}],
        [{"sync_id": "s", "list_name": "gold"}, {"sync_id": "s", "list_name": "silver"}],
        [{"sync_id": "s", "list_name": "gold"}, {"list_name": "silver"}],
    ],
    ids=["none", "same", "some"],
)
def test_mapped_tasks_that_share_a_sync_by_accident_send_nothing(world: World, dags: Dags, syncs: Any) -> None:
    """Where an earlier task returns them, it is found when they run: each would remove what the other sent."""
    body = SYNCS.format(syncs=syncs, given="task(lambda: syncs, task_id='make')()")
    dag_id = f"shared_{len(str(syncs))}"
    world.people(1, 2, 3)
    done = run_dag(dags.write(dag_id, ALONE.format(dag_id=dag_id, body=body)), NOON)
    tasks = [each for each in done.get_task_instances() if each.task_id == "sync"]
    assert [each.state for each in tasks] == ["failed", "failed"]
    assert len(world.sandbox.calls) == 0


@pytest.fixture
def dag() -> Iterator[DAG]:
    """A DAG that is being parsed."""
    with DAG(dag_id="dag", schedule=None, start_date=NOON) as made:
        yield made


COMMON: dict[str, Any] = {"task_id": "sync", "sql_conn_id": "w", "primary_key": "id", "email_column": "email"}


@pytest.mark.parametrize("state", [{}, {"state": XComState()}, {"state": ObjectState("memory://state")}])
def test_partitions_need_tables_when_the_dag_is_parsed(state: dict[str, Any]) -> None:
    """Where nothing is expanded yet, and no operator made."""
    with pytest.raises(ConfigurationError, match="moves entries between them, in tables; "):
        IterableUserSyncOperator.partial(**COMMON, **state)


@pytest.mark.parametrize(
    ("expand", "message"),
    [
        (lambda partial: partial.expand(table=["a", "b"]), "Each task of a mapped sync needs a partition"),
        (lambda partial: partial.expand_kwargs([{"partition": 1}, {"table": "b"}]), "needs a partition"),
        (lambda partial: partial.expand(partition=[1, 2, "1"]), "there are several 1"),
        (lambda partial: partial.expand(partition=[1, 2], table=["a", "b"]), "each partition with each of table"),
        (lambda partial: partial.expand(partition=["a", "b]"]), "cannot be a partition"),
        (lambda partial: partial.expand_kwargs([{"partition": 2}, {"partition": 2}]), "there are several 2"),
        (
            lambda partial: partial.expand_kwargs([{"sync_id": "a"}, {"sync_id": "a"}]),
            "have the sync_id 'a': each would",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Task 'sync' was never mapped:UserWarning")
def test_partitions_are_looked_at_when_the_dag_is_parsed(expand: Any, message: str) -> None:
    """What stands in the DAG file need not wait for a task to fail."""
    with pytest.raises(ConfigurationError, match=message):
        expand(IterableUserSyncOperator.partial(**COMMON, state=TableState()))


@pytest.mark.parametrize(
    "mapped",
    [
        [{"table": "a"}, {"table": "b"}],
        [{"sync_id": "a"}, {"table": "b"}],
        [{"sync_id": "a"}, {"sync_id": " "}],
        [{"sync_id": "a"}, {"partition": 1}],
        [{"sync_id": 1}, {"sync_id": 2}],
    ],
    ids=["none", "one", "blank", "mixed", "numbers"],
)
@pytest.mark.filterwarnings("ignore:Task 'sync' was never mapped:UserWarning")
def test_mapped_tasks_that_are_not_told_apart_are_refused(mapped: Any) -> None:
    """When the DAG is parsed, and with both ways out."""
    partial = IterableUserSyncOperator.partial(**COMMON, state=TableState())
    with pytest.raises(ConfigurationError, match=r"needs a partition.* need a sync_id each"):
        partial.expand_kwargs(mapped)


@pytest.mark.usefixtures("dag")
def test_a_list_that_happens_to_be_empty_is_parsed() -> None:
    """As Airflow has it: there is nothing to be run."""
    partial = IterableUserSyncOperator.partial(**{**COMMON, "table": "users"}, state=TableState())
    assert partial.expand_kwargs([]).partial_kwargs["partitions"] == []


@pytest.mark.usefixtures("dag")
def test_a_mapped_task_emits_no_event_and_waits_for_none() -> None:
    """The asset is the summary's."""
    mapped = IterablePrivacyOperator.partial(**COMMON, state=TableState(), action="forget").expand(partition=[1, 2])
    assert (list(mapped.outlets or ()), list(mapped.inlets or ())) == ([], [])
    assert (mapped.max_active_tis_per_dag, mapped.partial_kwargs["partitions"]) == (None, ["1", "2"])
    summary = IterableSyncSummaryOperator(task_id="summary", reports=mapped.output)
    assert summary.outlets == [sync_asset("privacy", "dag.sync"), target_alias("privacy", "dag.sync")]


def test_a_mapped_sync_of_its_own_has_no_asset(world: World) -> None:
    """Airflow knows the assets in a DAG file, where mapped tasks are none yet, and refuses others when a task runs."""
    world.people(1)
    made = IterableUserSyncOperator(
        **{**COMMON, "sql_conn_id": "warehouse", "table": "users"},
        state=TableState(),
        sync_id="a",
        partitions=[{"sync_id": "a"}, {"sync_id": "b"}],  # type: ignore[list-item]  # as it comes from ``expand_kwargs``
    )
    assert (made.inlets, made.outlets) == ([], [])
    ti: Any = SimpleNamespace(run_id="r", map_index=0, try_number=1, xcom_push=lambda **_: None)
    context: Any = {"run_id": "r", "ti": ti, "outlet_events": {}}
    report = made.execute(context)
    assert (report["sync_id"], report["accepted"]) == ("a", 1)


@pytest.mark.usefixtures("dag")
def test_a_summary_is_about_a_partitioned_sync() -> None:
    """Of anything else it does not know which asset it is about."""
    whole = IterableListOperator(**COMMON, table="users", state=TableState())
    others: list[Any] = [whole.output, [], None]
    for number, reports in enumerate(others):
        with pytest.raises(ConfigurationError, match=r"reports=sync\.output"):
            IterableSyncSummaryOperator(task_id=f"summary_{number}", reports=reports)


@pytest.mark.usefixtures("dag")
def test_syncs_of_their_own_have_no_summary() -> None:
    """Rows of different syncs are not added up."""
    mapped = IterableListOperator.partial(**COMMON, table="users", state=TableState()).expand_kwargs(
        [{"sync_id": "a", "list_name": "a"}, {"sync_id": "b", "list_name": "b"}]
    )
    with pytest.raises(ConfigurationError, match="syncs of their own"):
        IterableSyncSummaryOperator(task_id="summary", reports=mapped.output)


def report(partition: str, **changes: Any) -> dict[str, Any]:
    """Return the report of a partition."""
    whole = {
        "sync_id": "s",
        "partition": partition,
        "run_id": "r",
        "destination": {"host": "https://api.iterable.com", "type": "users"},
        "status": "succeeded",
        "resync": "changes",
        "dry_run": False,
        "resend_reason": None,
        **dict.fromkeys(COUNTS, 1),
        "left_out": {"tier": 1},
        "reasons": {"null_key": 2},
        "requests": {"POST /a": {"200": 3, "429": 1}},
        "seconds": {"plan": 0.5, "deliver": 1.0},
        "rows_per_second": 10,
        "plan_hash": None,
    }
    return {**whole, **changes}


def test_forecasts_of_partitions_are_for_side_by_side() -> None:
    """Rows, requests and rates add up; the longest and the last of them count."""
    line = {"endpoint": "POST /a", "rows": 10, "requests": 2, "rate": 2.5, "documented": True, "seconds": 4.0}
    line |= {"measured_seconds": None, "waiting": 1, "end": "2026-05-31T06:00:00Z"}
    later = {**line, "seconds": 3.0, "measured_seconds": 9.0, "end": "2026-05-31T07:00:00Z"}
    told = summed("s", [report("a", forecast=[line]), report("b", forecast=[later]), report("c")])
    both = {"rows": 20, "requests": 4, "rate": 5.0, "waiting": 2, "measured_seconds": 9.0}
    assert told["forecast"] == [{**line, **both, "end": "2026-05-31T07:00:00Z"}]


def test_the_sum() -> None:
    """Counts, fields, reasons, requests and seconds are added up; what differs is told together."""
    other = report(
        "b", resend_reason="why", status="unfinished", reasons={"conflict": 1}, requests={"POST /a": {"200": 1}}
    )
    told = summed("s", [report("a"), other])
    assert [told[name] for name in COUNTS] == [2] * len(COUNTS)
    assert told["reasons"] == {"conflict": 1, "null_key": 2}
    assert told["requests"] == {"POST /a": {"200": 4, "429": 1}}
    assert told["left_out"] == {"tier": 2}
    assert told["seconds"] == {"plan": 1.0, "deliver": 2.0}
    assert (told["rows_per_second"], told["partitions"], told["partition"]) == (20, 2, None)
    assert (told["resend_reason"], told["status"], told["run_id"]) == ("why", "failed", "r")
    assert summed("s", [report("a"), report("b")])["status"] == "succeeded"
    assert report("a").keys() <= told.keys()
    before = report("b")
    del before["left_out"]  # of a version that did not know it, which ran the partitions
    assert summed("s", [report("a"), before])["left_out"] == {"tier": 1}


def test_rows_rejected_before_are_summed_where_all_partitions_know_them() -> None:
    """Otherwise it is not known how many they are."""
    assert summed("s", [report("a", rejected_before=2), report("b", rejected_before=3)])["rejected_before"] == 5
    assert summed("s", [report("a", rejected_before=2), report("b", rejected_before=None)])["rejected_before"] is None
    assert summed("s", [report("a", rejected_before=2), report("b")])["rejected_before"] is None


def test_the_sum_has_the_form_of_a_report(world: World) -> None:
    """Consumers of the asset's events read one like the other."""
    world.people(1)
    one = world.run()
    assert summed("s", [{**one, "partition": "a"}]).keys() == {*one, "partitions"}


@pytest.mark.usefixtures("dag")
def test_a_summary_fails_when_a_partition_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    """It names it, tells nobody that the sync has run, and its sum is an ERROR in the log."""
    mapped = IterableUserSyncOperator.partial(**COMMON, state=TableState()).expand(partition=["a", "b", "c"])
    summary: Any = IterableSyncSummaryOperator(task_id="summary", reports=mapped.output, trigger_rule="all_done")
    event: Any = SimpleNamespace(extra=None)
    target = Told()
    context = {"outlet_events": {summary.asset: event, summary.target: target}}
    summary.reports = [report("a"), None, report("c")]
    with pytest.raises(AirflowException, match=r"1 of 3 partitions of the sync dag.sync did not report: b\."):
        summary.execute(context)
    assert [record.levelname for record in caplog.records if ", 2 partitions: " in record.getMessage()] == ["ERROR"]
    assert (event.extra, target.events) == (None, [])
    summary.reports = [report(name) for name in "abc"]
    told = summary.execute(context)
    assert (told["partitions"], event.extra) == (3, told)
    ((asset, extra),) = target.events
    assert (asset.uri, extra["sync_id"]) == ("iterable://api.iterable.com/users", "dag.sync")
