"""What every test stands on: an Airflow of its own, its database for those who ask, and repeatable randomness."""

from __future__ import annotations

import atexit
import os
import shutil
import sysconfig
import tempfile
from collections.abc import Generator, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.airflow_db import Dags, migrate

# SQLite commits many thousand times in these tests, and on a disk waits for it each time; no test cuts the power.
MEMORY = Path("/dev/shm")
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 1 << 30:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

# Before anything imports airflow, which reads its settings once. Subprocesses inherit all of it.
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="airflow-home-"))
atexit.register(shutil.rmtree, AIRFLOW_HOME, ignore_errors=True)
for variable in [name for name in os.environ if name.startswith("AIRFLOW_")]:
    del os.environ[variable]  # a developer's own Airflow is not test data
os.environ.update(
    AIRFLOW_HOME=str(AIRFLOW_HOME),
    AIRFLOW__API_AUTH__JWT_SECRET="of the tests, and the same in every process of theirs",
    AIRFLOW__CORE__DAGS_FOLDER=str(AIRFLOW_HOME / "dags"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__TEST_CONNECTION="Enabled",
    AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS="False",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{AIRFLOW_HOME}/airflow.db",
    AIRFLOW__LOGGING__BASE_LOG_FOLDER=str(AIRFLOW_HOME / "logs"),
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
)
(AIRFLOW_HOME / "dags").mkdir()

settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("dev"), max_examples=20)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, max_examples=100, print_blob=True)
HYPOTHESIS_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "dev")
settings.load_profile(HYPOTHESIS_PROFILE)

# These come with the dev extra alone: a Snowflake that is none brings half a cloud along, and a browser a browser.
NEEDED = {"state/test_snowflake.py": "fakesnow", "ui/test_page.py": "selenium", "sandbox/test_page.py": "selenium"}
collect_ignore = [path for path, package in NEEDED.items() if not find_spec(package)]

LONG = ("stops", "approval", "executors", "leases", "kill", "demo", "retry", "example_dags")
"""Tests of whole processes, `tests/test_*.py`, some of which take a minute."""
if os.environ.get("ITERABLE_TEST_INSTALLED") == "1":  # by tests/matrix.py, which tests wheels
    found = find_spec("airflow_provider_iterable")
    assert found is not None
    assert str(found.origin).startswith(sysconfig.get_path("purelib")), f"not the installed package: {found.origin}"

REQUIRE_SERVICES = os.environ.get("ITERABLE_TEST_REQUIRE_SERVICES") == "1"


def pytest_report_header() -> list[str]:
    """Say what a repetition of this run would need to know."""
    seed = os.environ.get("PYTHONHASHSEED", "not set; `make test` sets it")
    services = "required" if REQUIRE_SERVICES else "skipped when they are not there"
    return [
        f"airflow {version('apache-airflow')}, AIRFLOW_HOME={AIRFLOW_HOME}",
        f"PYTHONHASHSEED={seed}, hypothesis profile {HYPOTHESIS_PROFILE}",
        f"databases are {services} (ITERABLE_TEST_REQUIRE_SERVICES)",
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count what needs Airflow's database among the slow: making it takes seconds, and so does every DAG run.

    What takes longest comes first: at the end, one worker would wait for the other.
    """
    for item in items:
        if "airflow_db" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")
    first = {f"test_{name}.py": turn for turn, name in enumerate(LONG)}
    items.sort(key=lambda item: first.get(item.path.name, len(first)))


def refuse_to_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure where services are required, unless its reason begins with "Airflow"."""
    if not (REQUIRE_SERVICES and report.skipped) or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if not reason.removeprefix("Skipped: ").startswith("Airflow"):
        report.outcome = "failed"
        report.longrepr = f"{reason} (not to be skipped: ITERABLE_TEST_REQUIRE_SERVICES=1)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Watch the skips of single tests."""
    report = yield
    refuse_to_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Watch the skips of whole files."""
    report = yield
    refuse_to_skip(report)
    return report


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Airflow's database is there."""
    migrate()


@pytest.fixture
def dags(airflow_db: None) -> Iterator[Dags]:
    """Airflow's folder of DAGs, empty again afterwards."""
    from airflow.configuration import conf

    found = Dags(Path(conf.get("core", "dags_folder")))
    found.folder.mkdir(exist_ok=True)
    yield found
    for path in found.files:
        path.unlink()
