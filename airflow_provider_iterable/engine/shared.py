"""Operations that share an identity with another one: what of them may be remembered, and when; sends nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from airflow_provider_iterable.engine.doubt import in_doubt
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.reasons import Fate, Kind
from airflow_provider_iterable.engine.vocabulary import NEVER_EQUAL, Call, Entry, Operation, Outcome, Patch


class Shared:
    """The rows of a plan that overwrite one another at Iterable, one after the other in the order of their keys.

    What Iterable accepted of a row is no longer there once the next one may have arrived. Were the run cut short just
    then, and the next row gone before another run, no comparison would find that. So they are remembered as in doubt
    before the last one is settled; until then all of them would go again. Calls that must not go twice are remembered
    at once.
    """

    def __init__(self, plan: Plan) -> None:
        self._identities: dict[str, int] = {}
        """By key."""
        self._last: dict[int, str] = {}
        """By identity: the greatest key, whose row is sent last."""
        for _, operation in plan.present() if plan.shared else ():
            if operation.call is None or _looks_back(operation.call):
                continue  # nothing of it is overwritten
            if (identity := hash(operation.handles[0])) in plan.shared:
                if operation.call.repeatable:
                    self._identities[operation.key] = identity
                self._last[identity] = max(self._last.get(identity, ""), operation.key)
        self._withheld: defaultdict[int, Patch] = defaultdict(dict)
        self._unknown: set[int] = set()
        """Identities of operations of which it is not known whether they arrived."""
        self._met: set[int] = set()
        self.surplus = 0
        """Accepted rows beyond the first of each identity."""

    def committable(self, patch: Patch) -> Patch:
        """Return what of a patch may be remembered now, with what waited for it; the rest is in doubt."""
        if not self._identities:
            return patch
        due: Patch = {}
        for key, entry in patch.items():
            identity = self._identities.get(key)
            if identity is None:
                due[key] = entry
                continue
            if entry is not None and in_doubt(entry):
                self._unknown.add(identity)
                due[key] = entry
                continue
            self._withheld[identity][key] = entry
            if entry is not None:
                due[key] = Entry(NEVER_EQUAL, entry.ref)
            if key == self._last[identity]:
                due.update(self._withheld.pop(identity))
        return due

    def accept(self, operations: Sequence[Operation]) -> None:
        """Count what was accepted."""
        for operation in operations if self._last else ():
            identity = hash(operation.handles[0])
            if operation.kind is not Kind.REMOVED and identity in self._last:
                self.surplus += identity in self._met
                self._met.add(identity)

    def settle_refused(self, outcome: Outcome) -> Patch:
        """Take notice of a row that was not accepted; return what may be remembered now that nothing follows."""
        identity = self._identities.get(outcome.key)
        if identity is None:
            return {}
        if outcome.fate is Fate.DEFERRED:
            self._unknown.add(identity)
        if outcome.key != self._last[identity] or identity in self._unknown:
            return {}
        return self._withheld.pop(identity, {})


def _looks_back(call: Call) -> bool:
    """Whether a call, or one that an operation goes on to, looks back."""
    return call.looks_back or (call.then is not None and _looks_back(call.then))
