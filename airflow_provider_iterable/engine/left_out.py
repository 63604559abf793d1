"""Fields that were left out of accepted records: which these are, and whose rows go again once the fields are there.

Knows records as bytes; callers pass what finds the fields of one, and what stores a note.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import StrEnum

from airflow_provider_iterable.engine.reasons import Fate, Reason
from airflow_provider_iterable.engine.vocabulary import Operation, Outcome

Carried = Callable[[bytes, frozenset[str]], Collection[str]]

MOST = 500
"""Fields that are remembered: more than a project has room for."""


class Standing(StrEnum):
    """What is known of a field that was left out."""

    AWAITED = "awaited"
    """It is not there yet."""
    ARRIVED = "arrived"
    """It is there, and the rows that carry it are to go again."""
    RESENT = "resent"
    """They are on their way, or arrived with it."""
    REFUSED = "refused"
    """It was left out again after that: rows go again only once an answer shows that it is taken."""


_WAITING = (Standing.AWAITED, Standing.REFUSED)
_URGENT = (Standing.AWAITED, Standing.ARRIVED, Standing.REFUSED, Standing.RESENT)


class LeftOut:
    """The fields that were left out of accepted records, as one run gets to know them.

    :param carried: returns those of the sync's fields that some names are about, and of which a body has values
    :param note: stores what the next run is to know
    :param noted: what an earlier run stored
    """

    def __init__(self, carried: Carried, note: Callable[[str], None], noted: str = "") -> None:
        self._carried, self._note = carried, note
        self._noted = self.standings = decode(noted)
        self.again: frozenset[str] = frozenset()
        """Fields that are there by now: unchanged rows that carry one go again."""
        self.rows: Counter[str] = Counter()
        """Rows that were accepted in this run without the field."""
        self._waiting = self._of(*_WAITING)

    def _of(self, *standings: Standing) -> frozenset[str]:
        return frozenset(field for field, standing in self.standings.items() if standing in standings)

    @property
    def awaited(self) -> frozenset[str]:
        """Fields to be looked for."""
        return self._of(Standing.AWAITED)

    @property
    def arrived(self) -> frozenset[str]:
        """Fields that are known to be there, whose rows have not gone again yet."""
        return self._of(Standing.ARRIVED)

    @property
    def refused(self) -> frozenset[str]:
        """Fields that were left out once more, after their rows had gone again."""
        return self._of(Standing.REFUSED)

    def keep(self, fields: Collection[str]) -> None:
        """Forget all fields but these."""
        self._settle({field: standing for field, standing in self.standings.items() if field in fields})

    def mark(self, fields: Iterable[str], standing: Standing) -> None:
        """Set what is known of some fields."""
        self._settle({**self.standings, **dict.fromkeys(fields, standing)})

    def _settle(self, standings: dict[str, Standing]) -> None:
        self.standings = standings
        self._waiting = self._of(*_WAITING)

    def goes_again(self, body: bytes) -> bool:
        """Return whether an unchanged row with this body goes again."""
        return bool(self._carried(body, self.again))

    def part(
        self, operations: Sequence[Operation], names: frozenset[str]
    ) -> tuple[Sequence[Operation], Sequence[Outcome]]:
        """Part accepted operations: those that were taken whole, and outcomes for the others.

        :param names: what was left out according to the answer, from whichever of them
        """
        if not names and not self._waiting:
            return operations, ()
        whole: list[Operation] = []
        outcomes: list[Outcome] = []
        lost: Counter[str] = Counter()
        taken = set[str]()
        for operation in operations:
            missing = self._carried(operation.body, names) if names else ()
            if self._waiting > taken:
                taken.update(set(self._carried(operation.body, self._waiting)).difference(missing))
            if missing:
                lost.update(missing)
                detail = ("field " if len(missing) == 1 else "fields ") + ", ".join(missing)
                fate, reason = Fate.ACCEPTED, Reason.FIELDS_LEFT_OUT
                outcomes.append(Outcome(operation.key, operation.kind, fate, reason, detail, operation))
            else:
                whole.append(operation)
        if taken:
            self.mark(taken, Standing.ARRIVED)
        if lost:
            self._lose(lost)
        return whole, outcomes

    def _lose(self, lost: Counter[str]) -> None:
        self.rows.update(lost)
        again = {field for field in lost if self.standings.get(field) is Standing.RESENT}
        new = [field for field in lost if field not in self.standings][: max(MOST - len(self.standings), 0)]
        if again or new:
            self._settle({**self.standings, **dict.fromkeys(again, Standing.REFUSED)})
            self.mark(new, Standing.AWAITED)

    def write(self) -> None:
        """Store what is known, if it changed; to be done before what was accepted without a field is remembered."""
        if self.standings != self._noted:
            self._note(encode(self.standings))
            self._noted = self.standings


def encode(standings: dict[str, Standing]) -> str:
    """Return standings as the text of a note; empty where there is nothing to know."""
    return json.dumps(standings, sort_keys=True) if standings else ""


def decode(text: str) -> dict[str, Standing]:
    """Read the text of a note."""
    return {field: Standing(standing) for field, standing in json.loads(text).items()} if text else {}


def joined(texts: Iterable[str]) -> str:
    """Return several notes as one; what is more to be done counts."""
    standings: dict[str, Standing] = {}
    for text in texts:
        for field, standing in decode(text).items():
            standings[field] = min(standings.get(field, standing), standing, key=_URGENT.index)
    return encode(standings)
