"""What of a delivery is remembered, and when, so that entries are right even if the run stops at any point."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from airflow_provider_iterable.engine.doubt import in_doubt
from airflow_provider_iterable.engine.left_out import LeftOut, Standing
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import State
from airflow_provider_iterable.engine.reasons import Fate
from airflow_provider_iterable.engine.resync import VOID
from airflow_provider_iterable.engine.shared import Shared
from airflow_provider_iterable.engine.vocabulary import NO_INTENTS, Accepted, Entry, Intents, Operation, Outcome, Patch

VOID_AT_ONCE = 10_000
"""Entries of incomplete rows that are voided in one commit."""


def prepare_state(plan: Plan, state: State, distrust: Callable[[], None] | None, left_out: LeftOut | None) -> None:
    """Before the first call, make sure that what a run cut short does not reach goes with the next one."""
    if distrust is not None:
        distrust()
    if plan.doubted:
        state.commit(plan.doubted)
    if left_out is not None and left_out.again:
        _void(plan, state)
        left_out.mark(left_out.again, Standing.RESENT)
        left_out.write()


def _void(plan: Plan, state: State) -> None:
    """Void the entries of rows that go again because of fields that were left out."""
    patch: Patch = {}
    for operation in plan.incomplete():
        if operation.remember is not None:
            patch[operation.key] = Entry(VOID, operation.remember.ref)
        if len(patch) >= VOID_AT_ONCE:
            state.commit(patch)
            patch = {}
    if patch:
        state.commit(patch)


class Remembering:
    """Commits what a delivery settles, unless it depends on other operations of the plan.

    Rows that share an identity are remembered together (:class:`Shared`). The former identity of a row that moved is
    remembered together with the new one, and is not removed before that.
    """

    def __init__(self, plan: Plan, state: State, left_out: LeftOut | None) -> None:
        self._plan, self._state, self._left_out = plan, state, left_out
        self._shared = Shared(plan)
        self._held = {key for key, _ in plan.former.values()}
        """Keys of former identities whose row is not accepted yet."""

    @property
    def surplus(self) -> int:
        """Accepted rows beyond the first of each identity."""
        return self._shared.surplus

    def holds_back(self, key: str) -> bool:
        """Whether a removal has to wait because the row's new identity is not accepted."""
        return key in self._held

    def commit(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        """Store a patch and intents, all or nothing."""
        if self._left_out is not None:
            self._left_out.write()
        self._store(self._shared.committable(patch), intents)

    def settle(self, outcome: Outcome | Accepted) -> None:
        """Take notice of what was settled and committed."""
        if isinstance(outcome, Outcome) and outcome.fate is not Fate.ACCEPTED:
            self._store(self._shared.settle_refused(outcome))
            return
        operations: Sequence[Operation] = ()
        if isinstance(outcome, Accepted):
            operations = outcome.operations
        elif outcome.operation is not None:
            operations = (outcome.operation,)
        self._shared.accept(operations)
        self._plan.accept(operations)

    def _store(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        former: list[tuple[str, Entry]] = []
        if self._plan.former:
            accepted = {key for key, entry in patch.items() if entry is None or not in_doubt(entry)}
            former = [self._plan.former[key] for key in self._plan.former.keys() & accepted]
        if patch or intents.begun or intents.ended:
            self._state.commit({**patch, **dict(former)} if former else patch, intents)
        self._held.difference_update(key for key, _ in former)
