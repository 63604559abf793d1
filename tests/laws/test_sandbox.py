from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.engine.guards import Guards
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.run import Options, run
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.errors import IterableSyncError
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.state.memory import MemoryState
from airflow_provider_iterable.syncs.users import UserOptions, Users
from tests.fakes import in_chunks
from tests.laws.world import COLUMNS, OnRemoved, Person, budget, ideal, sound_models, ways

KINDS = ["429", "5xx_html", "drop_before", "drop_after", "malformed"]
sandbox_faults = st.lists(
    st.fixed_dictionaries({"kind": st.sampled_from(KINDS), "times": st.integers(1, 4), "after": st.integers(0, 3)}),
    max_size=4,
)


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0.0

    def clock(self) -> float:
        """Return the present moment."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        with self._lock:
            self._now += seconds


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Serve an email-based project without rates."""
    with Sandbox("email", rates=False) as served:
        yield served


class Stage:
    """A user sync against the sandbox, through the real door."""

    def __init__(self, sandbox: Sandbox, client: Client, on_removed: OnRemoved) -> None:
        sandbox.reset()
        self.sandbox, self.client, self.on_removed = sandbox, client, on_removed
        self.state = MemoryState({})

    @property
    def users(self) -> dict[str, dict[str, Any]]:
        """Profiles without what Iterable itself adds."""
        return {
            str(profile.email): {name: value for name, value in profile.fields.items() if name in ("n", "s")}
            for profile in self.sandbox.project.profiles
        }

    def run(self, model: list[Person]) -> Exception | None:
        """Run once; return how it failed, if it did."""
        options = UserOptions(("id",), "email", "email", on_removed=self.on_removed, project_type="email")
        sync = Users(options, Mapper({"n": "n", "s": "s"}), COLUMNS)
        how = Options(
            guards=Guards(allow_empty=True, max_removed=None),
            patience=Patience(tries=3, first_wait=0, longest_wait=0, in_flight=2),
            batch_size=2,
            max_rejected=1.0,
            stop=Instant(),
        )
        try:
            run(sync, lambda: in_chunks(model), self.state, self.client.send, Report("sync", "run", {}), how)
        except IterableSyncError as error:
            return error
        return None


class Instant(threading.Event):
    """An event for which waiting takes no time."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return at once."""
        return self.is_set()


@settings(budget(25), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(models=st.lists(sound_models, min_size=1, max_size=3), spoilt=sandbox_faults, on_removed=ways)
def test_over_http_iterable_becomes_the_model(
    sandbox: Sandbox, models: list[list[Person]], spoilt: list[dict[str, Any]], on_removed: OnRemoved
) -> None:
    """Against the sandbox, one run after the last fault makes the profiles equal to the model; the next is silent."""
    time = Time()
    with Client(sandbox.url, "key", clock=time.clock, sleep=time.sleep) as client:
        stage = Stage(sandbox, client, on_removed)
        for model in models:
            sandbox.faults(*spoilt)
            stage.run(model)
            with sandbox.service.lock:
                sandbox.service.faults.clear()
            wanted = ideal(stage.users, stage.state.entries, model, on_removed)
            assert stage.run(model) is None
            assert wanted == stage.users
            calls = len(sandbox.calls)
            assert stage.run(model) is None
            assert calls == len(sandbox.calls)
