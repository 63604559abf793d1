from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_iterable.demo.check import Check
from airflow_provider_iterable.demo.warehouse import Warehouse
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.sandbox import Sandbox
from tests.airflow_db import AIRFLOW, Dags, run_dag

EXAMPLES = Path(__file__).parent.parent / "example_dags"
DAG_IDS = {
    "users.py": "example_iterable_users",
    "email_change_order.py": "example_iterable_email_change_order",
    "lists.py": "example_iterable_lists",
    "subscriptions.py": "example_iterable_subscriptions",
    "after_users.py": "example_iterable_after_users",
    "events.py": "example_iterable_events",
    "catalogs.py": "example_iterable_catalogs",
    "privacy.py": "example_iterable_privacy",
    "merges.py": "example_iterable_merges",
    "partitions.py": "example_iterable_partitions",
    "approval.py": "example_iterable_approval",
    "questions.py": "example_iterable_questions",
}
"""The DAG that each example file defines."""
PRESENT = [dag_id for dag_id in DAG_IDS.values() if AIRFLOW >= (3, 1) or dag_id != "example_iterable_approval"]
"""Those that there are in this Airflow: before 3.1 nobody can be asked."""
CUSTOMERS = 150


def connect(monkeypatch: pytest.MonkeyPatch, name: str, **connection: Any) -> None:
    """Define an Airflow connection, here and in subprocesses."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A local Iterable, behind the connection ``iterable_default``."""
    with Sandbox("email") as sandbox:
        extra = {"data_center": "us", "project_type": "email"}
        connect(
            monkeypatch, "iterable_default", conn_type="iterable", host=sandbox.url, password="only-a-test", extra=extra
        )
        yield sandbox


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """A shop's customers in SQLite, behind the connection ``warehouse``."""
    path = tmp_path / "warehouse.db"
    connect(monkeypatch, "warehouse", conn_type="sqlite", host=str(path))
    return Warehouse(path, CUSTOMERS)


@pytest.fixture
def examples(dags: Dags) -> Iterator[dict[str, Any]]:
    """The example DAGs by ID, as Airflow finds them in its folder of DAGs."""
    shutil.copytree(EXAMPLES, dags.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    yield load(dags.folder)
    shutil.rmtree(dags.folder)
    dags.folder.mkdir()


def load(folder: Path) -> dict[str, Any]:
    """Parse a folder as Airflow does, and fail where it would show an import error."""
    module = import_module("airflow.dag_processing.dagbag" if AIRFLOW >= (3, 2) else "airflow.models.dagbag")
    bag = module.DagBag(str(folder), **({"include_examples": False} if AIRFLOW < (3, 0) else {}))
    assert bag.import_errors == {}
    return dict(bag.dags)


def test_every_example_is_known_here() -> None:
    """No file is added to the examples without being run by these tests."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(DAG_IDS)


def test_the_examples_import_without_any_connection(examples: dict[str, Any]) -> None:
    """Airflow parses every example where neither the warehouse nor Iterable is known, and finds it in order."""
    assert not [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]
    assert set(examples) == set(PRESENT)
    for dag in examples.values():
        dag.validate()


def test_where_nobody_can_be_asked_there_is_no_approval(monkeypatch: pytest.MonkeyPatch, dags: Dags) -> None:
    """The file is parsed all the same, whether Airflow has no such operator or one that refuses to be imported."""
    shutil.copy(EXAMPLES / "approval.py", dags.folder)
    name = "airflow.providers.standard.operators.hitl"
    monkeypatch.setitem(sys.modules, name, None)
    assert load(dags.folder) == {}
    refuses = ModuleType(name)

    def refuse(attribute: str) -> Any:
        raise AirflowException("Human in the loop functionality needs Airflow 3.1+.")

    refuses.__getattr__ = refuse  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, name, refuses)
    assert load(dags.folder) == {}
    (dags.folder / "approval.py").unlink()


@pytest.mark.parametrize("dag_id", PRESENT)
def test_runs_of_an_example_do_not_overlap_and_do_not_catch_up(dag_id: str, examples: dict[str, Any]) -> None:
    """An example shows what a sync wants of its DAG: one run at a time, none for the past, and retries."""
    dag = examples[dag_id]
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    for task in dag.tasks:
        # Partitions run side by side, questions are no syncs, and who asks a person sends nothing.
        together = "partitions" in dag_id or "questions" in dag_id
        free = together or task.task_id in ("has_something_to_do", "approve")
        assert task.max_active_tis_per_dag == (None if free else 1)
        assert task.retries > 0


def test_the_users_example_brings_iterable_up_to_the_model(
    examples: dict[str, Any], sandbox: Sandbox, warehouse: Warehouse
) -> None:
    """Run by run: all customers, nothing at all, the differences without the bad rows, and the mended rows."""
    dag, check = examples["example_iterable_users"], Check(sandbox.url)
    dag.get_task("sync_users").retries = 0  # a failure is to be seen at once

    def run(hour: int) -> int:
        before = len(sandbox.calls)
        dag_run = run_dag(dag, datetime(2026, 3, 1, hour, tzinfo=UTC))
        assert dag_run.state == "success"
        return len(sandbox.calls) - before

    assert run(1) > 0
    found = check(warehouse.rows())
    assert (found.differences, found.users, found.equal) == ([], CUSTOMERS, CUSTOMERS)

    assert run(2) == 0

    story = warehouse.change_some()
    assert run(3) > 0
    found = check(warehouse.rows(), story.spoilt)
    assert found.differences == []
    assert found.kept == 2  # a customer with two addresses, one with a date that is none; the third is new

    warehouse.mend()
    run(4)
    found = check(warehouse.rows())
    assert (found.differences, found.equal) == ([], found.users)
    assert run(5) == 0

    with closing(sqlite3.connect(warehouse.path)) as database, database:  # as docs/state.md says
        database.execute("UPDATE iterable_sync_state SET fingerprint = '00' WHERE record_key = '[1]'")
    assert run(6) > 0
    assert sandbox.calls[-1].records == 1


TEA = '[{"id":"tea-1","name":"Tea","price":2.5,"quantity":2}]'
POT = '[{"id":"pot-1","name":"Pot","price":19,"quantity":1}]'
HAPPENED = """
    CREATE TABLE visits (id, customer_id, kind, page, happened_at);
    CREATE TABLE carts (customer_id, changed_at, items);
    CREATE TABLE orders (id, order_number, customer_id, ordered_at, items, total, coupon);
"""


def test_the_events_example_brings_iterable_up_to_the_model(
    examples: dict[str, Any], sandbox: Sandbox, warehouse: Warehouse
) -> None:
    """Run by run: all that happened, nothing at all, what is new; a changed order overwrites, a changed cart fires."""
    dag = examples["example_iterable_events"]
    for task in dag.tasks:
        task.retries = 0  # a failure is to be seen at once

    def sql(script: str) -> None:
        with closing(sqlite3.connect(warehouse.path)) as database:
            database.executescript(script)

    def run(hour: int, dag: Any = dag) -> int:
        before = len(sandbox.calls)
        dag_run = run_dag(dag, datetime(2026, 3, 1, hour, tzinfo=UTC))
        assert dag_run.state == "success"
        return sum(call.status == 200 for call in sandbox.calls[before:])  # types may be asked for too often

    def cart(email: str) -> Any:
        return next(user["dataFields"]["shoppingCartItems"] for user in sandbox.users if user["email"] == email)

    names = {row["id"]: row["email"].lower() for row in warehouse.rows()}
    assert run(1, examples["example_iterable_users"]) > 0
    sql(
        f"""{HAPPENED}
        INSERT INTO visits VALUES (1, 1, 'Visited', '/tea', '2026-02-28 10:00:00'), (2, 2, 'Left', '/', NULL);
        INSERT INTO carts VALUES (1, '2026-02-28 11:00:00', '{TEA}'), (2, '2026-02-28 11:00:00', '{TEA}');
        INSERT INTO orders VALUES (1, 'A-1', 1, '2026-02-28 12:00:00', '{TEA}', 5, 'SPRING');"""
    )
    assert run(2) == 3 + 1 + 2 + 1 + 2  # whose key it is, thrice; carts and orders read field types
    told = {(found["eventName"], found["email"], found["dataFields"].get("page")) for found in sandbox.events}
    assert told == {
        ("Visited", names[1], "/tea"),
        ("Left", names[2], "/"),
        *(("updateCart", names[number], None) for number in (1, 2)),
    }
    assert [(found["id"], found["total"], found["email"]) for found in sandbox.purchases] == [("A-1", 5.0, names[1])]
    assert (cart(names[1]), len(cart(names[2]))) == ([], 1)

    assert run(3) == 0

    sql(
        f"""UPDATE carts SET items = '{POT}', changed_at = '2026-02-28 13:00:00' WHERE customer_id = 2;
        UPDATE orders SET total = 4 WHERE id = 1;
        DELETE FROM visits WHERE id = 1;"""
    )
    assert run(4) == 3 + 1  # carts read field types
    assert cart(names[2])[0]["id"] == "pot-1"
    assert [(found["id"], found["total"], found["writes"]) for found in sandbox.purchases] == [("A-1", 4.0, 2)]
    assert Counter(found["eventName"] for found in sandbox.events) == {"Visited": 1, "Left": 1, "updateCart": 3}
    sql("INSERT INTO visits VALUES (1, 1, 'Visited', '/tea', '2026-02-28 10:00:00')")
    assert run(5) == 0


PRODUCTS = [
    (1, "tea_1", "Tea", 2.5, "2026-05-31 08:00:00", '{"origin":"Assam"}', 1),
    (2, "pot_1", "Pot", 19.0, "2026-06-01 08:00:00", None, 1),
    (3, "cup_1", "Cup", 4.0, "2026-06-02 08:00:00", '{"colours":["red"]}', 1),
    (4, "old_1", "Jug", 9.0, "2026-01-01 08:00:00", None, 0),
]


def test_the_catalogs_example_brings_iterable_up_to_the_model(
    examples: dict[str, Any], sandbox: Sandbox, warehouse: Warehouse
) -> None:
    """Run by run: the products on sale, nothing at all, and the differences; every field is found by its type."""
    dag = examples["example_iterable_catalogs"]
    dag.get_task("sync_products").retries = 0  # a failure is to be seen at once

    def sql(statement: str, *rows: tuple[Any, ...]) -> None:
        with closing(sqlite3.connect(warehouse.path)) as database, database:
            database.executemany(statement, rows or [()])

    def run(hour: int) -> int:
        before = len(sandbox.calls)
        dag_run = run_dag(dag, datetime(2026, 3, 1, hour, tzinfo=UTC))
        assert dag_run.state == "success"
        return len(sandbox.calls) - before

    def prices() -> dict[str, float]:
        (catalog,) = sandbox.catalogs
        assert catalog["name"] == "products"
        for item in catalog["values"]:
            given = {name for name, value in item["value"].items() if value is not None}
            assert set(item["indexed"]) == given
        return {item["id"]: item["value"]["price"] for item in catalog["values"]}

    sql("CREATE TABLE products (id, sku, name, price, on_sale_since, attributes, on_sale)")
    sql("INSERT INTO products VALUES (?, ?, ?, ?, ?, ?, ?)", *PRODUCTS)
    assert run(1) > 0
    assert prices() == {"tea-1": 2.5, "pot-1": 19.0, "cup-1": 4.0}
    assert run(2) == 0
    sql("UPDATE products SET on_sale = 1 - on_sale WHERE id > 2")
    sql("UPDATE products SET price = 3.5 WHERE id = 1")
    assert run(3) > 0
    assert prices() == {"tea-1": 3.5, "pot-1": 19.0, "old-1": 9.0}
    assert run(4) == 0


def test_the_lists_example_brings_iterable_up_to_the_model(
    examples: dict[str, Any], sandbox: Sandbox, warehouse: Warehouse
) -> None:
    """Run by run: the loyal customers, nothing at all, and the differences without the bad row, then with it."""
    dag = examples["example_iterable_lists"]
    dag.get_task("sync_loyal_customers").retries = 0  # a failure is to be seen at once

    def sql(statement: str) -> None:
        with closing(sqlite3.connect(warehouse.path)) as database, database:
            database.execute(statement)

    def run(hour: int) -> int:
        before = len(sandbox.calls)
        dag_run = run_dag(dag, datetime(2026, 3, 1, hour, tzinfo=UTC))
        assert dag_run.state == "success"
        return len(sandbox.calls) - before

    def members() -> dict[str, int]:
        (found,) = sandbox.lists
        assert found["name"] == "loyal_customers"
        orders = {user["email"]: user["dataFields"]["orderCount"] for user in sandbox.users}
        return {member["email"]: orders[member["email"]] for member in found["members"]}

    def loyal() -> dict[str, int]:
        return {row["email"].lower(): row["order_count"] for row in warehouse.rows() if row["order_count"] >= 5}

    assert run(1) > 0
    assert members() == loyal()
    assert 10 < len(loyal()) < CUSTOMERS
    assert run(2) == 0

    before = loyal()
    (leaving,) = sorted(before)[:1]
    warehouse.change_some()
    sql(f"UPDATE customers SET order_count = 1 WHERE lower(email) = '{leaving}'")
    sql("UPDATE customers SET order_count = 7 WHERE email = 'pia.novak@example'")
    assert run(3) > 0
    expected = loyal()
    assert expected.pop("pia.novak@example") == 7
    assert members() == expected != before
    assert leaving not in expected

    warehouse.mend()
    assert run(4) > 0
    assert members() == loyal()
    assert run(5) == 0


def test_the_subscriptions_example_does_what_customers_chose(
    examples: dict[str, Any], sandbox: Sandbox, warehouse: Warehouse
) -> None:
    """Who joined with consent is subscribed, who left is unsubscribed, and a second run sends nothing."""
    dag = examples["example_iterable_subscriptions"]
    dag.get_task("sync_subscriptions").retries = 0  # a failure is to be seen at once
    opt_out, opt_in = 102165, 102168
    rows = [
        (1, "ada@example.com", opt_in, "in", "2026-01-01 10:00:00"),
        (1, "ada@example.com", opt_out, "OUT", None),
        *((n, f"c{n}@example.com", opt_in, "in", "2026-01-01 10:00:00") for n in range(2, 20)),
        (20, "bob@example.com", opt_in, "in", None),
    ]
    with closing(sqlite3.connect(warehouse.path)) as database, database:
        database.execute("CREATE TABLE message_preferences (customer_id, email, message_type_id, choice, consented_at)")
        database.executemany("INSERT INTO message_preferences VALUES (?, ?, ?, ?, ?)", rows)
    assert run_dag(dag, datetime(2026, 3, 1, 1, tzinfo=UTC)).state == "success"
    found = {user["email"]: user["dataFields"] for user in sandbox.users}
    assert {name for name, fields in found.items() if opt_in in fields.get("subscribedMessageTypeIds", ())} == {
        "ada@example.com",
        *(f"c{n}@example.com" for n in range(2, 20)),
    }
    assert found["ada@example.com"]["unsubscribedMessageTypeIds"] == [opt_out]
    before = len(sandbox.calls)
    assert run_dag(dag, datetime(2026, 3, 1, 2, tzinfo=UTC)).state == "success"
    assert len(sandbox.calls) == before


def test_the_privacy_example_forgets_people_for_good(
    examples: dict[str, Any], sandbox: Sandbox, warehouse: Warehouse
) -> None:
    """Who asks is forgotten once, and the users example leaves them out although they are in its model."""
    forgetting, users = examples["example_iterable_privacy"], examples["example_iterable_users"]

    def run(dag: Any, hour: int) -> Counter[str]:
        before = len(sandbox.calls)
        assert run_dag(dag, datetime(2026, 3, 1, hour, tzinfo=UTC)).state == "success"
        return Counter(call.template or "" for call in sandbox.calls[before:])

    def ask(*customers: int) -> None:
        with closing(sqlite3.connect(warehouse.path)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS forget_requests (request_id, email, requested_at)")
            database.executemany(
                "INSERT INTO forget_requests SELECT 'r' || id, email, '2026-03-01' FROM customers WHERE id = ?",
                [(customer,) for customer in customers],
            )

    run(users, 1)
    ask(3, 5)
    assert run(forgetting, 2) == {"/api/channels": 1, "/api/users/forget": 2}
    assert len(sandbox.users) == CUSTOMERS - 2
    assert run(forgetting, 3) == run(users, 4) == {}
    ask(7)
    assert run(forgetting, 5) == {"/api/users/forget": 1}
    with closing(sqlite3.connect(warehouse.path)) as database, database:
        database.execute("UPDATE customers SET first_name = 'New' WHERE id IN (3, 4)")
    assert run(users, 6)["/api/users/bulkUpdate"] == 1
    assert sandbox.calls[-1].records == 1
    assert len(sandbox.users) == CUSTOMERS - 3


def test_the_merges_example_merges_each_pair_once(
    examples: dict[str, Any], sandbox: Sandbox, warehouse: Warehouse
) -> None:
    """The sources are gone, also for the users example that has them in its model; a chain keeps all from being sent.

    The queries of the docs name the rows of the chain, and resolve it.
    """
    merging, users = examples["example_iterable_merges"], examples["example_iterable_users"]
    page = (EXAMPLES.parent / "docs" / "merges.md").read_text("utf-8")
    finds, resolves = (part.partition("```")[0] for part in page.split("```sql\n")[1:])

    def run(dag: Any, hour: int, state: str = "success") -> Counter[str]:
        before = len(sandbox.calls)
        assert run_dag(dag, datetime(2026, 3, 1, hour, tzinfo=UTC)).state == state
        return Counter(call.template or "" for call in sandbox.calls[before:])

    def sql(*statements: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(warehouse.path)) as database, database:
            return [row for statement in statements for row in database.execute(statement)]

    def names(*pairs: tuple[int, int, int]) -> str:
        mail = "(SELECT lower(trim(email)) FROM customers WHERE id = {})"
        return ", ".join(f"({key}, {mail.format(one)}, {mail.format(other)})" for key, one, other in pairs)

    run(users, 1)
    sql("CREATE TABLE merges (merge_id, old_email, kept_email)", f"INSERT INTO merges VALUES {names((1, 3, 4))}")
    assert run(merging, 2) == {"/api/channels": 1, "/api/users/getByEmail": 1, "/api/users/merge": 1}
    assert run(merging, 3) == run(users, 4) == {}
    sql("UPDATE customers SET first_name = 'New' WHERE id IN (3, 4)")
    assert run(users, 5)["/api/users/bulkUpdate"] == 1
    assert sandbox.calls[-1].records == 1
    assert len(sandbox.users) == CUSTOMERS - 1
    sql("DELETE FROM merges", f"INSERT INTO merges VALUES {names((2, 5, 6), (3, 6, 7), (4, 8, 9), (5, 8, 9))}")
    merging.get_task("merge_users").retries = 0
    assert run(merging, 6, "failed") == {}
    assert {key for row in sql(finds) for key in row} == {2, 3, 4, 5}
    assert {key for key, *_ in sql(resolves)} == {2, 3, 4}
    sql(f"CREATE TABLE resolved AS {resolves}", "DROP TABLE merges", "ALTER TABLE resolved RENAME TO merges")
    assert run(merging, 7) == {"/api/users/getByEmail": 3, "/api/users/merge": 3}
    assert len(sandbox.users) == CUSTOMERS - 4


def test_the_partitions_example_brings_iterable_up_to_the_model(
    examples: dict[str, Any], sandbox: Sandbox, warehouse: Warehouse
) -> None:
    """Run by run: all customers, nothing at all, and the differences; one event for each run, with the sum."""
    dag = examples["example_iterable_partitions"]
    dag.get_task("sync_users").partial_kwargs["retries"] = 0  # a failure is to be seen at once

    def sql(statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(warehouse.path)) as database, database:
            return database.execute(statement).fetchall()

    def run(hour: int) -> dict[str, Any]:
        dag_run = run_dag(dag, datetime(2026, 3, 1, hour, tzinfo=UTC))
        assert dag_run.state == "success"
        tasks = dag_run.get_task_instances()
        (summary,) = [task for task in tasks if task.task_id == "summary"]
        assert sorted(task.map_index for task in tasks if task.task_id == "sync_users") == [0, 1, 2, 3]
        found: dict[str, Any] = summary.xcom_pull(task_ids="summary")
        return found

    report = run(1)
    assert [report[name] for name in ("partitions", "read", "accepted", "status")] == [
        4,
        CUSTOMERS,
        CUSTOMERS,
        "succeeded",
    ]
    assert {user["email"] for user in sandbox.users} == {row["email"].lower() for row in warehouse.rows()}
    assert sql("SELECT count(DISTINCT sync_id) FROM iterable_sync_state") == [(4,)]
    calls = len(sandbox.calls)
    assert run(2)["unchanged"] == CUSTOMERS
    assert len(sandbox.calls) == calls
    sql("UPDATE customers SET first_name = 'New' WHERE id IN (3, 4)")
    sql("DELETE FROM customers WHERE id = 7")
    report = run(3)
    assert [report[name] for name in ("changed", "removed", "accepted")] == [2, 1, 3]
    assert len(sandbox.users) == CUSTOMERS - 1
    assert [extra["accepted"] for extra in asset_events(f"iterable://users/{dag.dag_id}.sync_users")] == [
        CUSTOMERS,
        0,
        3,
    ]


def test_a_dag_that_waits_for_profiles_fills_its_list_with_those_there_are(
    examples: dict[str, Any], sandbox: Sandbox, warehouse: Warehouse
) -> None:
    """It is scheduled on what every user sync updates, and before these have run nobody enters the list."""
    dag = examples["example_iterable_after_users"]
    assert "iterable://api.iterable.com/users" in repr(
        getattr(dag.timetable, f"{'asset' if AIRFLOW >= (3, 0) else 'dataset'}_condition")
    )
    dag.get_task("sync_loyal_customers").retries = 0  # a failure is to be seen at once
    dags = {True: examples["example_iterable_users"], False: dag}
    for hour, users in enumerate((False, True, False)):
        assert run_dag(dags[users], datetime(2026, 3, 1, hour, tzinfo=UTC)).state == "success"
    (found,) = sandbox.lists
    loyal = {row["email"].lower() for row in warehouse.rows() if row["order_count"] >= 5}
    assert (found["name"], {member["email"] for member in found["members"]}) == ("Loyal customers", loyal)


def asset_events(uri: str) -> list[dict[str, Any]]:
    """Return what the events of an asset say, in the order of their runs."""
    from airflow.utils.session import create_session

    module = import_module("airflow.models.asset" if AIRFLOW >= (3, 0) else "airflow.models.dataset")
    event, asset = (
        (module.AssetEvent, module.AssetModel) if AIRFLOW >= (3, 0) else (module.DatasetEvent, module.DatasetModel)
    )
    key = "asset_id" if AIRFLOW >= (3, 0) else "dataset_id"
    with create_session() as session:
        found = session.query(event).join(asset, getattr(event, key) == asset.id).filter(asset.uri == uri)
        return [one.extra for one in found.order_by(event.id)]


SCREW = '[{"id":"s-1","name":"Screw","price":0.5,"quantity":10}]'


def test_the_order_of_several_syncs_keeps_one_profile_for_each_person(
    examples: dict[str, Any], sandbox: Sandbox, warehouse: Warehouse
) -> None:
    """An address moves before its profile is written, a cart is filled before it is bought, a list comes last."""
    dag = examples["example_iterable_email_change_order"]
    dag.get_task("let_it_settle").op_args = (0,)
    for task in dag.tasks:
        task.retries = 0  # a failure is to be seen at once

    def sql(statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(warehouse.path)) as database, database:
            database.execute(statement, values)

    def run(hour: int) -> list[str]:
        before = len(sandbox.calls)
        assert run_dag(dag, datetime(2026, 3, 1, hour, tzinfo=UTC)).state == "success"
        reads = ("/api/channels", "/api/users/getFields", "/api/lists")
        made = [call.template or "" for call in sandbox.calls[before:] if call.template not in reads]
        return list(dict.fromkeys(made))

    def customer(number: int) -> str:
        return str(next(row["email"] for row in warehouse.rows() if row["id"] == number)).lower()

    sql("CREATE TABLE email_changes (change_id, old_email, new_email)")
    sql("CREATE TABLE carts (cart_version, customer_id, items)")
    sql("CREATE TABLE orders (order_id, customer_id, items, total)")
    sql("INSERT INTO orders VALUES (1, 2, ?, 5.0)", SCREW)
    profiles, cart, purchase = "/api/users/bulkUpdate", "/api/commerce/updateCart", "/api/commerce/trackPurchase"
    assert set(run(1)) == {profiles, purchase, "/api/lists/subscribe"}
    people = len(sandbox.users)

    sql("INSERT INTO email_changes VALUES (1, ?, 'moved@example.com')", customer(1))
    sql("UPDATE customers SET email = 'moved@example.com', first_name = 'Moved' WHERE id = 1")
    sql("INSERT INTO carts VALUES ('1-1', 1, ?)", SCREW)
    sql("INSERT INTO orders VALUES (2, 1, ?, 5.0)", SCREW)
    made = run(2)
    assert [call for call in made if call != "/api/lists/subscribe"] == [
        "/api/users/updateEmail",
        profiles,
        cart,
        purchase,
    ]
    assert made.index("/api/lists/subscribe") > made.index(profiles)
    assert len(sandbox.users) == people
    (moved,) = [user for user in sandbox.users if user["email"] == "moved@example.com"]
    assert moved["dataFields"]["firstName"] == "Moved"
    assert not moved["dataFields"].get("shoppingCartItems")
    (members,) = [found["members"] for found in sandbox.lists]
    assert {member["email"] for member in members} == {"moved@example.com", customer(2)}
    assert run(3) == []


def bought(orders: Any) -> IterableHook:
    """Have Iterable know a list of three people with their orders, and return the connection."""
    hook = IterableHook()
    number = hook.run("POST", "/api/lists", json={"name": "loyal_customers"})["listId"]
    members = [{"email": f"customer{each}@example.com", "dataFields": {"orderCount": orders}} for each in (1, 2, 3)]
    hook.run("POST", "/api/lists/subscribe", json={"listId": number, "subscribers": members})
    return hook


def test_the_questions_example_asks(examples: dict[str, Any], sandbox: Sandbox) -> None:
    """What tasks of an author's own return is what Iterable has."""
    hook = bought(7)
    done = run_dag(examples["example_iterable_questions"], datetime(2026, 3, 1, 1, tzinfo=UTC))
    assert done.state == "success"
    told = done.get_task_instances()[0]
    assert told.xcom_pull(task_ids="count_members") == 3
    counts = {"lists": 1, "catalogs": 0, "channels": len(hook.channels()), "forgotten": 0}
    assert told.xcom_pull(task_ids="describe_project") == counts


def test_the_questions_example_finds_a_wrong_type(examples: dict[str, Any], sandbox: Sandbox) -> None:
    """Which no retry mends, and nothing comes after it."""
    bought("seven")
    done = run_dag(examples["example_iterable_questions"], datetime(2026, 3, 1, 2, tzinfo=UTC))
    assert done.state == "failed"
    states = {each.task_id: str(each.state) for each in done.get_task_instances()}
    assert states["check_fields"] == "failed"
    assert states["count_members"] == "upstream_failed"


@pytest.mark.slow
@pytest.mark.usefixtures("airflow_db")
def test_the_users_example_runs_from_the_command_line(
    sandbox: Sandbox, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``airflow dags test`` on the folder of examples does what the scheduler would do."""
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(EXAMPLES))
    command = [sys.executable, "-m", "airflow", "dags", "test", "example_iterable_users", "2026-04-01T00:00:00+00:00"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    found = Check(sandbox.url)(warehouse.rows())
    assert (found.differences, found.users) == ([], CUSTOMERS)
