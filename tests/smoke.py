"""What an installed wheel does in an environment of its own; ``tests/matrix.py`` copies this file to an empty folder.

``python smoke.py alone`` needs the wheel and its declared dependencies; ``dag`` the extra ``sqlite``; ``pytest`` it.
It imports nothing of the tests, so that nothing of a checkout helps the package.
"""

from __future__ import annotations

import json
import os
import pkgutil
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any
from urllib.request import urlopen

NAME = "airflow_provider_iterable"
DISTRIBUTION = "airflow-provider-iterable"
VERSION = version(DISTRIBUTION)
AIRFLOW = tuple(int(part) for part in version("apache-airflow").split(".")[:2])
NOT_ALONE = {f"{NAME}.testing.plugin"}
"""Modules that need what only some people have: pytest."""
OF_AIRFLOW_3 = {f"{NAME}.ui.app", f"{NAME}.ui.history"}
"""The page, which Airflow 2 does without."""
PROVIDER_INFO = f"{NAME}.get_provider_info"
HERE = Path.cwd()
CUSTOMERS = [(1, "ada@example.com", "Ada"), (2, "grace@example.com", "Grace"), (3, "joan@example.com", "Joan")]
DAG = """
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_iterable.operators import IterableEventOperator, IterableUserSyncOperator
from airflow_provider_iterable.state import TableState

common = {"sql_conn_id": "warehouse", "primary_key": "id", "email_column": "email", "state": TableState()}
with DAG("smoke", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, max_active_runs=1):
    users = IterableUserSyncOperator(
        task_id="users", sql="SELECT * FROM customers", fields={"firstName": "first_name"}, **common
    )
    events = IterableEventOperator(
        task_id="events", event_type="custom", event_name="Visited", sql="SELECT id, email, page FROM visits", **common
    )
    users >> events
"""


def run(*command: str, code: int = 0) -> str:
    """Run a command of this environment to its end, and return what it printed."""
    print("$", *command, flush=True)
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=300)
    if done.returncode != code:
        raise SystemExit(f"{command} ended with {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def check(what: str, found: object, expected: object) -> None:
    """Say what was found; stop if it is not what should be."""
    if found != expected:
        raise SystemExit(f"{what}: found {found!r}, expected {expected!r}")
    print(f"{what}: as expected", flush=True)


def environment() -> dict[str, str]:
    """Return what Airflow needs to know to keep everything in this folder."""
    return {
        "AIRFLOW_HOME": str(HERE / "airflow"),
        "AIRFLOW__API_AUTH__JWT_SECRET": "of a smoke test, which serves nobody",
        "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "NO_COLOR": "1",
    }


def is_installed() -> None:
    """The package is the installed one, and nothing of a checkout can be imported."""
    package = Path(str(import_module(NAME).__file__)).parent
    check("where the package is", package.parent, Path(sysconfig.get_path("purelib")))
    check("checkouts on the path", [entry for entry in sys.path if (Path(entry) / "pyproject.toml").exists()], [])


def modules_import() -> None:
    """Each module that this Airflow has a use for is imported without any of the extras."""
    package = import_module(NAME)
    found = {module.name for module in pkgutil.walk_packages(package.__path__, f"{NAME}.")}
    check("modules that are known to need more", (NOT_ALONE | OF_AIRFLOW_3) - found, set())
    left_out = NOT_ALONE | (OF_AIRFLOW_3 if AIRFLOW < (3, 0) else set())
    wanted = sorted(name for name in found - left_out if not name.startswith(f"{NAME}.example_dags"))
    for name in wanted:
        import_module(name)
    print(f"{len(wanted)} modules imported", flush=True)


def airflow_knows_the_provider() -> None:
    """Its entry points load, and Airflow's commands show what the provider says of itself."""
    (provider,) = entry_points(group="apache_airflow_provider", name="provider_info").select(module=PROVIDER_INFO)
    info = provider.load()()
    (plugin,) = entry_points(group="airflow.plugins", name="iterable")
    check("the plugin", plugin.load().name, "iterable")
    listed = json.loads(run("airflow", "providers", "list", "--output", "json"))
    check("version listed", [one["version"] for one in listed if one["package_name"] == DISTRIBUTION], [VERSION])
    (shown,) = json.loads(run("airflow", "providers", "get", DISTRIBUTION, "--full", "--output", "json"))
    shown["description"] = info["description"]  # Airflow prints it without its markup
    check("provider info that is another", [key for key in info if texts(shown.get(key)) != texts(info[key])], [])


def texts(value: Any) -> Any:
    """Return a value with all that it holds as texts, which is how Airflow prints numbers and booleans."""
    if isinstance(value, dict):
        return {key: texts(one) for key, one in value.items()}
    return [texts(one) for one in value] if isinstance(value, list) else str(value)


def the_sql_for_administrators() -> None:
    """It needs no connection."""
    sql = run(f"{NAME}.state", "--ddl", "postgres", "--schema", "iterable_sync")
    check("tables in the SQL", 'CREATE TABLE IF NOT EXISTS "iterable_sync".sync_state' in sql, True)


@contextmanager
def sandbox() -> Iterator[str]:
    """Serve a local Iterable on a free port, and give its address."""
    command = [sys.executable, "-m", f"{NAME}.sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            yield line.rpartition(" ")[2].strip()
        finally:
            process.terminate()
    check("how the sandbox ended", process.returncode, 0)


def asked(url: str) -> Any:
    """Return the answer to a question, which is JSON."""
    with urlopen(url, timeout=30) as answer:
        return json.load(answer)


def the_sandbox_serves() -> None:
    """As a command, its page included."""
    with sandbox() as url:
        check("users of a new sandbox", asked(f"{url}/sandbox/state")["users"], 0)
        with urlopen(url, timeout=30) as answer:
            check("the page of the sandbox", b"</html>" in answer.read(), True)


def examples_are_found() -> None:
    """Each file of the package parses; from 3.3 on Airflow shows them when it loads examples."""
    folder = Path(str(import_module(NAME).__file__)).parent / "example_dags"
    module = import_module("airflow.dag_processing.dagbag" if AIRFLOW >= (3, 2) else "airflow.models.dagbag")
    bag = module.DagBag(str(folder), **({"include_examples": False} if AIRFLOW < (3, 0) else {}))
    check("examples that do not parse", bag.import_errors, {})
    files = {path.name for path in folder.glob("*.py")} - ({"approval.py"} if AIRFLOW < (3, 1) else set())
    check("examples", {Path(dag.fileloc).name for dag in bag.dags.values()}, files)
    if AIRFLOW >= (3, 3):
        os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "True"
        bundles = import_module("airflow.dag_processing.bundles.manager").DagBundlesManager().get_all_dag_bundles()
        mine = [bundle for bundle in bundles if bundle.name == f"{DISTRIBUTION}-example-dags"]
        os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
        check("where Airflow finds examples", [Path(bundle.path) for bundle in mine], [folder])


def a_dag_runs() -> None:
    """Users and events reach Iterable by Airflow's own runner, once; then a row is explained."""
    (HERE / "dags").mkdir(exist_ok=True)
    (HERE / "dags" / "smoke.py").write_text(DAG, "utf-8")
    warehouse = HERE / "warehouse.db"
    with closing(sqlite3.connect(warehouse)) as opened, opened:
        opened.execute("CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT, first_name TEXT)")
        opened.executemany("INSERT INTO customers VALUES (?, ?, ?)", CUSTOMERS)
        opened.execute("CREATE TABLE visits AS SELECT id, email, '/tea' AS page FROM customers WHERE id < 3")
    run("airflow", "db", "migrate")
    if AIRFLOW < (3, 0):  # whose tasks fail where no scheduler has made their asset aliases known
        run("airflow", "dags", "reserialize")
    with sandbox() as url:
        connection = {"conn_type": "iterable", "host": url, "password": "any-key-will-do"}
        connection["extra"] = json.dumps({"project_type": "email", "shared_pace": False})
        os.environ["AIRFLOW_CONN_ITERABLE_DEFAULT"] = json.dumps(connection)
        os.environ["AIRFLOW_CONN_WAREHOUSE"] = json.dumps({"conn_type": "sqlite", "host": str(warehouse)})
        run("airflow", "dags", "test", "smoke", "2026-03-01")
        users = asked(f"{url}/sandbox/users?q=")
        names = {user["email"]: user["dataFields"]["firstName"] for user in users["users"]}
        check("users at Iterable", names, {email: name for _, email, name in CUSTOMERS})
        events = asked(f"{url}/sandbox/events?name=Visited")
        check(
            "events at Iterable",
            sorted(event["email"] for event in events["events"]),
            [CUSTOMERS[0][1], CUSTOMERS[1][1]],
        )
        before = asked(f"{url}/sandbox/summary")
        run("airflow", "dags", "test", "smoke", "2026-03-02")
        check("calls after a run without changes", asked(f"{url}/sandbox/summary"), before)
        said = run(f"{NAME}.explain", "--dag", "smoke", "--task", "users", "--key", "1")
        verdict = "The next run does nothing"
        check("the row explained", said[: len(verdict)], verdict)


def pytest_finds_the_plugin() -> None:
    """By its entry point alone."""
    check("the option of the pytest plugin", "--iterable-update-plans" in run("pytest", "--help"), True)


PHASES = {
    "alone": (is_installed, modules_import, airflow_knows_the_provider, the_sql_for_administrators, the_sandbox_serves),
    "dag": (is_installed, examples_are_found, a_dag_runs),
    "pytest": (is_installed, pytest_finds_the_plugin),
}

if __name__ == "__main__":
    os.environ.update(environment())
    for step in PHASES[sys.argv[1]]:
        step()
