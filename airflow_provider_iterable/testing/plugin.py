"""The pytest plugin; pytest loads it at every start, so it imports nothing until a test asks for a fixture.

Hooks and fixtures are pytest's: https://docs.pytest.org/en/stable/how-to/writing_plugins.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_provider_iterable.sandbox import Sandbox
    from airflow_provider_iterable.testing.running import Runs

UPDATE = "--iterable-update-plans"
MARKER = "iterable_sandbox"
BODIES = 1000
"""Calls whose bodies a test can look at."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes expected plans."""
    group = parser.getgroup("iterable", "syncs to Iterable")
    group.addoption(
        UPDATE, action="store_true", help="write the files of expected plans instead of comparing with them"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(project_type='email', conn_id='iterable_default', extra={{}}, **options): "
        "the project of the fixture iterable_sandbox, its connection, and options of the sandbox",
    )


@pytest.fixture(scope="session")
def iterable_sandbox_server() -> Iterator[Sandbox]:
    """Serve one sandbox, on a free port of 127.0.0.1, for all tests of the session."""
    from airflow_provider_iterable.sandbox import Sandbox

    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def iterable_sandbox(
    request: pytest.FixtureRequest, iterable_sandbox_server: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> Sandbox:
    """Give an empty local Iterable, to which the connection `iterable_default` leads during the test.

    Rates are off, and the newest calls have their bodies; the marker of the same name chooses otherwise.
    """
    marker = request.node.get_closest_marker(MARKER)
    options = dict(marker.kwargs) if marker is not None else {}
    project_type = options.pop("project_type", "email")
    conn_id, extra = options.pop("conn_id", "iterable_default"), options.pop("extra", {})
    iterable_sandbox_server.reset(project_type)
    iterable_sandbox_server.set(**{"rates": False, "record_bodies": BODIES, "record_identifiers": True, **options})
    connection = {
        "conn_type": "iterable",
        "host": iterable_sandbox_server.url,
        "password": options.get("api_key") or "any-key-will-do",
        "extra": {"project_type": project_type, **extra},
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
    return iterable_sandbox_server


@pytest.fixture
def iterable_run(iterable_sandbox: Sandbox) -> Runs:
    """Give a function that runs an operator against the sandbox and returns its report, one run after another."""
    from airflow_provider_iterable.testing.running import Runs

    return Runs()


@pytest.fixture
def iterable_plan(request: pytest.FixtureRequest) -> Callable[[dict[str, Any], str | Path], None]:
    """Give a function that compares the plan of a dry run with a file; the path is relative to the test's file."""
    from airflow_provider_iterable.testing.plans import assert_plan

    update = bool(request.config.getoption(UPDATE))

    def compare(report: dict[str, Any], path: str | Path) -> None:
        __tracebackhide__ = True
        assert_plan(report, request.path.parent / path, update=update)

    return compare
