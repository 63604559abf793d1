"""Merges against the sandbox, beside a model of what they do: either all that may go did, or nothing went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.engine.doubt import in_doubt
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.reasons import Kind, Reason
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.run import Options, run
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import Outcome
from airflow_provider_iterable.errors import ModelError, WorthRetrying
from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.state.memory import MemoryState
from airflow_provider_iterable.syncs.merges import MergeOptions, Merges
from tests.fakes import in_chunks
from tests.laws.test_sandbox import Time
from tests.merging import faults

PEOPLE = "abcdefgh"
KNOWN = PEOPLE[:7]
"""Those whom Iterable has; the last one never comes."""
Row = tuple[int, str, str]

rows = st.tuples(st.sampled_from(PEOPLE), st.sampled_from(PEOPLE))
"""Among eight people, most models of more than a few pairs are wrong."""
models = st.lists(rows, max_size=4) | st.lists(rows, max_size=9)
sound = st.permutations(PEOPLE).flatmap(
    lambda people: st.lists(st.sampled_from(people[:3]), min_size=5, max_size=5).map(
        lambda kept: list(zip(people[3:], kept, strict=True))
    )
)
"""Nobody is a source and a destination."""
troubles = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["429", "5xx_html", "drop_before", "drop_after", "malformed"]),
            "path": st.sampled_from(["/api/users/merge", "/api/users/getByEmail"]),
            "times": st.integers(1, 3),
            "after": st.integers(0, 3),
        }
    ),
    max_size=3,
)


def mail(person: str) -> str:
    """Return somebody's address."""
    return f"{person}@example.com"


class World:
    """A project with seven people, and what is known of it beside the sandbox."""

    def __init__(self, sandbox: Sandbox, client: Client) -> None:
        sandbox.reset()
        self.sandbox, self.client, self.state = sandbox, client, MemoryState()
        self.fields: dict[str, dict[str, Any]] = {mail(one): {f"own{one}": 1, "name": one} for one in KNOWN}
        users = [{"email": name, "dataFields": fields} for name, fields in self.fields.items()]
        answer = requests.post(
            f"{sandbox.url}/api/users/bulkUpdate", json={"users": users}, headers={"Api-Key": "laws"}, timeout=10
        )
        assert answer.json()["successCount"] == len(KNOWN)
        self.merged: dict[int, tuple[str, str]] = {}
        """Pairs that were merged, by key."""
        self.refused: dict[str, Reason] = {}

    def sources(self) -> set[str]:
        """Return who was merged away."""
        return {source for source, _ in self.merged.values()}

    def sync(self, model: Sequence[Row]) -> Report:
        """Run once; what is refused is noted by key."""
        options = MergeOptions(("id",), "email", "source", "email", "destination", "email")
        sync = Merges(options, ("id", "source", "destination"))
        refs = {sync.reference(("email", mail(one))) for one in self.sources()}
        self.refused = {}
        report = Report("laws", "run", {})

        def observe(observed: Any) -> None:
            if isinstance(observed, Outcome) and observed.reason in FAULTS and observed.reason is not None:
                assert observed.key not in self.refused
                self.refused[observed.key] = observed.reason

        def refuse(plan: Plan) -> Any:
            return sync.refuse(plan, lambda asked: (refs.intersection(asked), set()))

        chunks = in_chunks([(key, mail(source), mail(destination)) for key, source, destination in model], 3)
        patience = Patience(first_wait=0.0, longest_wait=0.0)
        run(
            sync,
            lambda: chunks,
            self.state,
            self.client.send,
            report,
            Options(patience=patience, refuse=refuse, observe=observe, max_rejected=1.0),
        )
        return report

    def expect(self, model: Sequence[Row]) -> dict[str, Reason]:
        """Say which rows are refused; if none is, apply the others in the order of their key text."""
        waiting = [row for row in model if row[0] not in self.merged]
        wrong: dict[str, Reason] = {}
        for (key, _, destination), fault in zip(waiting, faults([row[1:] for row in waiting]), strict=True):
            reason = fault or (Reason.MERGE_CHAIN if destination in self.sources() else None)
            if reason is not None:
                wrong[f"[{key}]"] = reason
        if wrong:
            return wrong
        for key, source, destination in sorted(waiting, key=lambda row: f"[{row[0]}]"):
            if mail(source) in self.fields and mail(destination) in self.fields:
                self.fields[mail(destination)] = {**self.fields.pop(mail(source)), **self.fields[mail(destination)]}
                self.merged[key] = (source, destination)
        return {}

    def presumed(self, model: Sequence[Row]) -> set[int]:
        """Take note of rows that count as merged because nobody has their source any more; nobody had it before.

        That can be where an answer was lost, for it cannot be told from a merge that was made.
        """
        keys = {f"[{key}]": (key, source, destination) for key, source, destination in model}
        found = self.state.recall(list(keys))
        accepted = {keys[name] for name, entry in found.items() if not in_doubt(entry)}
        presumed = {row for row in accepted if row[0] not in self.merged}
        assert all(mail(source) not in self.fields for _, source, _ in presumed)
        self.merged.update({key: (source, destination) for key, source, destination in presumed})
        return {key for key, *_ in presumed}

    @property
    def held(self) -> Mapping[str, Any]:
        """The profiles at the sandbox."""
        return {profile.email or "": profile.fields for profile in self.sandbox.project.profiles}


FAULTS = {Reason.MERGES_ITSELF, Reason.SOURCE_TWICE, Reason.SAME_MERGE, Reason.MERGE_CYCLE, Reason.MERGE_CHAIN}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Serve an email-based project without rates."""
    with Sandbox("email", rates=False) as served:
        yield served


@pytest.fixture(scope="module")
def client(sandbox: Sandbox) -> Iterator[Client]:
    """Open the real client, whose waiting takes no time."""
    time = Time()
    with Client(sandbox.url, "laws", clock=time.clock, sleep=time.sleep) as opened:
        yield opened


def generations(first: list[tuple[str, str]], second: list[tuple[str, str]]) -> tuple[list[Row], list[Row]]:
    """Give pairs keys; the second model has some rows of the first one."""
    one = [(number * 7 % 23, *pair) for number, pair in enumerate(first)]
    other = [(100 + number * 7 % 23, *pair) for number, pair in enumerate(second)]
    return one, [*one[::2], *other]


@given(first=models | sound, second=models, trouble=troubles)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_merges_are_made_in_order_or_nothing_is_sent(
    sandbox: Sandbox,
    client: Client,
    first: list[tuple[str, str]],
    second: list[tuple[str, str]],
    trouble: list[dict[str, Any]],
) -> None:
    """Each model is either refused before the first call, with every row that is wrong and no other, or it is applied.

    Lost answers change nothing of that. Only whose value stays where several go into one may differ then, for a row
    that is deferred goes after those it should have gone before; and a source that never was there may count as merged.
    """
    world = World(sandbox, client)
    for model in generations(first, second):
        before = {name: dict(fields) for name, fields in world.held.items()}
        wrong = world.expect(model)
        sandbox.service.calls.clear()
        if wrong:
            with pytest.raises(ModelError) as failed:
                world.sync(model)
            assert world.refused == wrong
            assert (world.held, list(sandbox.calls)) == (before, [])
            assert all(f"{key} {reason}" in str(failed.value) for key, reason in wrong.items())
            continue
        if trouble:
            sandbox.faults(*trouble)
            for _ in range(4):
                with suppress(WorthRetrying):
                    world.sync(model)
            sandbox.service.faults.clear()
        world.sync(model)
        assert world.refused == {}
        held, expected = world.held, world.fields
        if trouble:
            assert {name: set(fields) for name, fields in held.items()} == {n: set(f) for n, f in expected.items()}
        else:
            assert held == expected
        presumed = world.presumed(model)
        assert trouble or not presumed
        sandbox.service.calls.clear()
        report = world.sync(model)
        left = [row for row in model if row[0] not in world.merged]
        assert (report.unchanged, len(left)) == (len(model) - len(left), report.counts[Kind.ADDED])
        assert world.held.keys() == expected.keys()
