from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_iterable import retry
from airflow_provider_iterable.errors import (
    ConfigurationError,
    Halted,
    IterableSyncError,
    LeaseHeld,
    StateUnavailable,
    Unfinished,
    WorthRetrying,
)
from airflow_provider_iterable.retry import IterableRetryPolicy
from tests.airflow_db import AIRFLOW, Dags, run_dag
from tests.services import Answer, answering

OLD_AIRFLOW = """
import sys
from importlib.abc import MetaPathFinder

class NoSdk(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "airflow.sdk":
            raise ImportError(name)

sys.meta_path.insert(0, NoSdk())
from airflow_provider_iterable import retry
policy = retry.IterableRetryPolicy()
print(retry.SUPPORTED, type(policy).__mro__[1].__name__, policy.serialize())
"""


def translated(error: IterableSyncError, kind: type[Exception] = AirflowException) -> Exception:
    """Return what an operator raises instead of an error of ours."""
    try:
        try:
            raise error
        except IterableSyncError as caught:
            raise kind(str(caught)) from None
    except Exception as raised:
        return raised


def waiting(seconds: float | None, kind: type[WorthRetrying] = Unfinished) -> WorthRetrying:
    """Return an error that says when a retry makes sense."""
    error = kind("rows were deferred")
    error.retry_after = seconds
    return error


def of_task(**settings: Any) -> dict[str, Any]:
    """Return the context of a task with these settings."""
    return {"task": SimpleNamespace(**{"retry_delay": timedelta(minutes=5), **settings})}


def decided(error: BaseException, context: Any = None, number: int = 1) -> tuple[str, float | None]:
    """Return what the policy decides, and after how many seconds the task is tried again."""
    decision = IterableRetryPolicy().evaluate(error, number, 3, context)
    delay = decision.retry_delay
    return decision.action.value, None if delay is None else delay.total_seconds()


def test_an_airflow_without_policies_can_have_one() -> None:
    """A DAG file that imports it, and makes one, is parsed."""
    ran = subprocess.run([sys.executable, "-c", OLD_AIRFLOW], capture_output=True, text=True, check=False)
    assert (ran.stdout.strip(), ran.returncode) == ("False object {}", 0), ran.stderr


def test_it_is_known_whether_airflow_asks() -> None:
    """It does from 3.3 on."""
    assert retry.SUPPORTED is (AIRFLOW >= (3, 3))


DAG_FILE = """
from datetime import UTC, datetime, timedelta
from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.operators import IterableListOperator
from airflow_provider_iterable.retry import IterableRetryPolicy

settings = {{"retries": 2, "retry_delay": timedelta(0)}} | {more}
with DAG(
    dag_id="{dag_id}", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), default_args=settings
) as dag:

    @task
    def ask() -> int:
        return len(IterableHook().lists())

    ask()
"""

if retry.SUPPORTED:

    @pytest.mark.parametrize(("more", "tries"), [('{"retry_policy": IterableRetryPolicy()}', 1), ("{}", 3)])
    def test_a_wrong_key_is_not_tried_again(dags: Dags, monkeypatch: pytest.MonkeyPatch, more: str, tries: int) -> None:
        """By a task of the author's own, in Airflow itself; without the policy it is."""
        with answering() as server:
            server.answers += [Answer(401, b'{"code":"BadApiKey"}')] * 3
            connection = {"conn_type": "iterable", "password": "0123456789abcdef", "host": server.url}
            monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(connection))
            dag = dags.write(f"wrong_key_{tries}", DAG_FILE.format(dag_id=f"wrong_key_{tries}", more=more))
            assert str(run_dag(dag, datetime(2026, 3, 1, tzinfo=UTC)).state) == "failed"
            assert len(server.history) == tries

    @pytest.mark.parametrize("kind", [ConfigurationError, Halted])
    def test_what_no_retry_mends_fails_at_once(kind: type[IterableSyncError]) -> None:
        """Raised by a hook in a task of the author's own, or the cause of what was."""
        error = kind("Iterable refused the API key")
        caused = RuntimeError("no lists")
        caused.__cause__ = error
        assert decided(error) == decided(caused) == ("fail", None)
        reason = IterableRetryPolicy().evaluate(error, 1, 3).reason
        assert reason == f"{kind.__name__}: Iterable refused the API key"

    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError("of the author's own"),
            AirflowException("likewise"),
            StateUnavailable("the table could not be written"),
            waiting(None),
            waiting(0.0),
        ],
    )
    def test_everything_else_goes_by_the_tasks_settings(error: Exception) -> None:
        """What nobody has told a time for."""
        assert decided(error) == ("default", None)

    def test_what_happened_before_is_not_why_it_failed() -> None:
        """An error while another was dealt with is one of its own; one that stands for the other is not."""
        later = KeyError("no such key")
        later.__context__ = Halted("refused")
        assert decided(later) == ("default", None)
        assert decided(translated(Halted("refused"), ValueError)) == ("fail", None)

    @pytest.mark.parametrize("kind", [Unfinished, LeaseHeld])
    def test_a_retry_waits_for_the_time_that_is_told(kind: type[WorthRetrying]) -> None:
        """In whole seconds, and not a moment sooner; from the hook, and from an operator."""
        error = waiting(3599.2, kind)
        assert decided(error) == decided(translated(error), of_task()) == ("retry", 3600.0)

    @pytest.mark.parametrize(
        ("settings", "number", "own"),
        [
            ({}, 1, 300),
            ({}, 4, 300),
            ({"retry_exponential_backoff": 2.0}, 3, 1200),
            ({"retry_exponential_backoff": True}, 2, 600),
            ({"retry_exponential_backoff": 3.0, "max_retry_delay": timedelta(seconds=500)}, 9, 500),
            ({"retry_exponential_backoff": 2.0, "max_retry_delay": timedelta(hours=1)}, 100_000, 3600),
            ({"retry_delay": timedelta(0)}, 1, 0),
        ],
    )
    def test_a_task_that_waits_longer_by_itself_does(settings: dict[str, Any], number: int, own: int) -> None:
        """So that no try is spent on finding the other run still at work."""
        context = of_task(**settings)
        assert decided(waiting(own or 0.0), context, number) == ("default", None)
        assert decided(waiting(own + 1.0), context, number) == ("retry", own + 1.0)

    @pytest.mark.skipif(not retry.RESCHEDULES, reason="Airflow before 3.4 has no reschedule by a policy")
    @pytest.mark.parametrize("kind", [Unfinished, LeaseHeld])
    def test_waiting_for_a_told_time_uses_no_retry(kind: type[WorthRetrying]) -> None:
        """Where there are retries at all; the later of the told time and the task's own counts, and it has an end."""
        context = of_task(retries=2)
        assert decided(waiting(3599.2, kind), context) == ("reschedule", 3600.0)
        assert decided(waiting(1.0, kind), context) == ("reschedule", 300.0)
        decision: Any = IterableRetryPolicy().evaluate(waiting(1.0, kind), 1, 3, context)
        assert decision.reschedule_timeout == retry.PATIENCE
        assert decided(waiting(3599.2, kind), of_task(retries=0)) == ("retry", 3600.0)
        assert decided(waiting(None, kind), context) == ("default", None)

    def test_airflow_asks_it() -> None:
        """As the task runner does; what the policy says is what becomes of the task."""
        from airflow.sdk.definitions.retry_policy import RetryAction
        from airflow.sdk.execution_time import task_runner

        log: Any = SimpleNamespace(info=lambda *_, **__: None, exception=lambda *_, **__: pytest.fail("it raised"))
        ti: Any = SimpleNamespace(
            task=SimpleNamespace(retry_policy=IterableRetryPolicy()), try_number=1, _ti_context_from_server=None
        )
        decision = task_runner._evaluate_retry_policy(ti, ConfigurationError("no API key"), log)
        assert decision is not None
        assert (decision.action, decision.reason) == (RetryAction.FAIL, "ConfigurationError: no API key")

    def test_no_person_is_in_its_reasons() -> None:
        """Airflow keeps them, and shows them."""
        reason = IterableRetryPolicy().evaluate(Halted("about ada@example.com"), 1, 3).reason
        assert reason is not None
        assert "ada@" not in reason
