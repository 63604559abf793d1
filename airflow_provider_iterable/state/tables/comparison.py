"""The SQL that compares a model with the entries of a sync."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from airflow_provider_iterable.engine.vocabulary import Recipe
from airflow_provider_iterable.mapping import MAX_KEY_TEXT
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.tables.dialects import Comparing

KEY, FINGERPRINT = -5, -1
"""Where key text and fingerprint stand in a line: after the model's columns, so that a line serves as a row."""


@dataclass(frozen=True)
class Comparison:
    """The statements that compare one model with one sync's state.

    :param model: the model, whose columns are known
    :param comparing: the kind of database
    :param rows: the model with key text ``k``, fingerprint ``f`` and its columns ``c0``, ``c1``, ...
    :param remembered: the state's keys and fingerprints, as ``record_key`` and ``fingerprint``
    :param identity: scheme and recipe, as noted beside the state
    """

    model: Model
    comparing: Comparing
    rows: str
    remembered: str
    identity: str

    @classmethod
    def of(cls, model: Model, comparing: Comparing, recipe: Recipe, table: str, sync_id: str) -> Comparison:
        """Write the parts of the statements.

        :raises NotInSql: the database cannot do it with such columns
        """
        columns = model.columns
        comparing.json = recipe.json
        parts = [comparing.key_part(number, columns[number]) for number in recipe.key]
        digested = sorted(set(recipe.columns), key=lambda number: columns[number])
        families = [(columns[number], comparing.family(number, columns[number])) for number in digested]
        digest = sha256(repr((recipe.text, families)).encode()).hexdigest()[:32]
        every = ", ".join(f"c{number}" for number in range(len(columns)))
        key, fingerprint = comparing.key(parts, MAX_KEY_TEXT), comparing.fingerprint(digest, digested)
        return cls(
            model,
            comparing,
            f"WITH iterable_model ({every}) AS (\n{model.sql}\n), "
            f"iterable_rows AS {comparing.once}(SELECT {key} AS k, {fingerprint} AS f, {every} FROM iterable_model)",
            f"iterable_remembered AS (SELECT record_key, fingerprint, ref FROM {table} "
            f"WHERE sync_id = {_literal(model, comparing, sync_id)} AND fingerprint <> '')",
            f"{comparing.scheme} {digest}",
        )

    @property
    def _columns(self) -> str:
        return ", ".join(f"r.c{number}" for number in range(len(self.model.columns)))

    def news(self, every: bool = False, again: Sequence[int] = ()) -> Statement:
        """Rows whose fingerprint is not remembered under their key, or every row, and remembered keys without a row.

        :param again: positions of columns: where one has a value, an unchanged row is returned as well, if it is the
            only one that has its key
        """
        full = self.comparing.joins_fully
        # Not IS DISTINCT FROM, which not every database has.
        news = f"{'r.f IS NULL OR ' if full else ''}s.fingerprint IS NULL OR r.f <> s.fingerprint"
        if again:
            carries = " OR ".join(f"r.c{number} IS NOT NULL" for number in again)
            single = "SELECT k FROM iterable_rows WHERE k IS NOT NULL GROUP BY k HAVING count(*) = 1"
            news = f"{news} OR (({carries}) AND r.k IN ({single}))"
        joined = (
            f"{self.rows}, {self.remembered} "
            f"SELECT {self._columns}, r.k, s.record_key, s.fingerprint, s.ref, r.f FROM iterable_rows AS r "
            f"{'FULL' if full else 'LEFT'} JOIN iterable_remembered AS s ON s.record_key = r.k "
            f"WHERE {'TRUE' if every else news}"
        )
        gone = "" if full else f" UNION ALL {self.comparing.gone(len(self.model.columns))}"
        return Statement(self, joined + gone, count=True)

    @property
    def _every(self) -> str:
        nothing = "NULL AS record_key, NULL AS fingerprint, NULL AS ref"
        return f"{self.rows} SELECT {self._columns}, r.k, {nothing}, r.f FROM iterable_rows AS r"

    def first(self) -> Statement:
        """All rows: nothing is remembered."""
        return Statement(self, self._every, count=True)

    def duplicates(self) -> Statement:
        """Keys that several rows have, how many, and how many of these are unchanged."""
        return Statement(
            self,
            f"{self.rows}, {self.remembered} "
            "SELECT r.k, count(*) AS n, count(s.record_key) AS quiet "
            "FROM iterable_rows AS r LEFT JOIN iterable_remembered AS s "
            "ON s.record_key = r.k AND s.fingerprint = r.f WHERE r.k IS NOT NULL GROUP BY r.k HAVING count(*) > 1",
        )

    def some(self, keys: Sequence[str]) -> Statement:
        """Rows with these keys."""
        literals = ", ".join(_literal(self.model, self.comparing, key) for key in keys)
        return Statement(self, f"{self._every} WHERE r.k IN ({literals})")


def _literal(model: Model, comparing: Comparing, text: str) -> str:
    """Return a literal; nothing can be bound beside the model's own parameters, whose style may give ``%`` a sense."""
    literal = comparing.quote(text)
    return literal.replace("%", "%%") if model.parameters and "%" in model.hook.placeholder else literal


class Statement(Model):
    """The model's query inside another one, with a count of its rows in the same snapshot where that is asked for."""

    def __init__(self, comparison: Comparison, sql: str, *, count: bool = False) -> None:
        model = comparison.model
        super().__init__(model.hook, model.sql, model.parameters, model.chunk_size)
        self.rows = 0
        """Rows that the model has; known once the first chunk is drawn."""
        self._counted = f"SELECT count(*) FROM (\n{self.sql}\n) AS iterable_model" if count else ""
        self._comparing = comparison.comparing
        self.sql, self._above = sql, None

    def _prepare(self, connection: Any, cursor: Any) -> None:
        plain = self._comparing.begin(connection, cursor)
        if self._counted:
            arguments = (self.parameters,) if self.parameters else ()
            plain.execute(self._counted, *arguments)
            ((self.rows,),) = plain.fetchall()
