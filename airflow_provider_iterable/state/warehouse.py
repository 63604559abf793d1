"""The same table, where the database does the comparing: only rows with news leave it; knows SQL, not what rows mean.

When the state tables are on the model's own connection, one statement joins the model with what is remembered. It
names each row as the worker would (:func:`airflow_provider_iterable.mapping.key_text`), digests the columns that the
sync reads, and returns the rows whose digest is not remembered and the keys that no row has. Such a digest begins with
its scheme, so that it never equals one that the worker or another database made.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.vocabulary import (
    Duplicate,
    Entry,
    Erased,
    Gone,
    Invalid,
    Pair,
    Present,
    Quiet,
    Recipe,
    Row,
)
from airflow_provider_iterable.errors import ConfigurationError, ModelError, ModelUnavailable
from airflow_provider_iterable.mapping import MAX_KEY_TEXT
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.sql.drivers import wrap_error
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.dialects import DIALECTS, Comparing, NotInSql
from airflow_provider_iterable.state.memory import tombstone
from airflow_provider_iterable.state.scope import MAPPING_CHANGED, Scope
from airflow_provider_iterable.state.table import COMMIT_PATIENCE, TableSession

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    from airflow_provider_iterable.state.table import TableState

log = logger(__name__)

NOTE = "comparison"
"""The note that tells which scheme and recipe the sync's fingerprints are of; none where the worker made them."""
KEYS_AT_ONCE = 20_000
"""Keys in one statement that reads rows again: each statement runs the model."""
_KEY, _FINGERPRINT = -5, -1
"""Where key text and fingerprint stand in a line: after the model's columns, so that a line serves as a row."""
_ONCE = 'so each row goes again once, unless a run with resync="baseline" comes first'
BY_THE_DATABASE = f"rows are compared by the database now, and were by the worker before, {_ONCE}"
BY_THE_WORKER = f"rows are compared by the worker now, and were by the database before, {_ONCE}"
BY_ANOTHER_DATABASE = f"rows are compared by another kind of database than before, {_ONCE}"


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

    def news(self, every: bool = False, again: Sequence[int] = ()) -> _Statement:
        """Rows whose fingerprint is not remembered under their key, or every row, and remembered keys without a row.

        :param again: positions of columns: where one has a value, an unchanged row is returned as well, if it is the
            only one that has its key
        """
        full = self.comparing.joins_fully
        # Not IS DISTINCT FROM, which not every database knows.
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
        return _Statement(self, joined + gone, count=True)

    @property
    def _every(self) -> str:
        nothing = "NULL AS record_key, NULL AS fingerprint, NULL AS ref"
        return f"{self.rows} SELECT {self._columns}, r.k, {nothing}, r.f FROM iterable_rows AS r"

    def first(self) -> _Statement:
        """All rows: nothing is remembered."""
        return _Statement(self, self._every, count=True)

    def duplicates(self) -> _Statement:
        """Keys that several rows have, how many, and how many of these are unchanged."""
        return _Statement(
            self,
            f"{self.rows}, {self.remembered} "
            "SELECT r.k, count(*) AS n, count(s.record_key) AS quiet "
            "FROM iterable_rows AS r LEFT JOIN iterable_remembered AS s "
            "ON s.record_key = r.k AND s.fingerprint = r.f WHERE r.k IS NOT NULL GROUP BY r.k HAVING count(*) > 1",
        )

    def some(self, keys: Sequence[str]) -> _Statement:
        """Rows with these keys."""
        literals = ", ".join(_literal(self.model, self.comparing, key) for key in keys)
        return _Statement(self, f"{self._every} WHERE r.k IN ({literals})")


def _literal(model: Model, comparing: Comparing, text: str) -> str:
    """Return a literal; nothing can be bound beside the model's own parameters, whose style may give ``%`` a sense."""
    literal = comparing.quote(text)
    return literal.replace("%", "%%") if model.parameters and "%" in model.hook.placeholder else literal


class WarehouseSession(TableSession):
    """The state tables opened for one run, whose database compares where it can."""

    def __init__(
        self,
        store: TableState,
        scope: Scope,
        hook: DbApiHook,
        patience: float = COMMIT_PATIENCE,
    ) -> None:
        super().__init__(store, scope, hook, patience)
        self._model, self._compare = scope.model, store.compare
        self._comparing: Comparing | None = None
        self._why_not = 'compare="worker"'
        self._comparison: Comparison | None = None
        try:
            if scope.model is not None and self._compare != "worker":
                self._describe(scope.model, store.conn_id)
        except BaseException:
            self.close()
            raise

    def _describe(self, model: Model, conn_id: str | None) -> None:
        """Learn the model's columns and their types without running it."""
        kind = self._hook.conn_type
        try:
            own = str(getattr(model.hook, model.hook.conn_name_attr))
            if conn_id not in (None, own):
                raise NotInSql(f"the state is in connection {conn_id}, the model in {own}")
            if kind not in DIALECTS:
                raise NotInSql(f"connections of type {kind!r} are not supported")
            if not DIALECTS[kind].tried and self._compare == "auto":
                raise NotInSql(f'comparing in {kind} was run on no real server yet; compare="database" asks for it')
            comparing = DIALECTS[kind].comparing()
            model.describe(comparing.describe)
            self._comparing = comparing
        except NotInSql as error:
            self._why_not = str(error)
        except ModelError:
            raise
        except Exception as error:
            if isinstance(away := wrap_error(error), ModelUnavailable):
                raise away from None
            # What is wrong with the model itself is told when it is read.
            self._why_not = f"the query cannot stand inside another one ({type(error).__name__})"

    def _pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Let the database compare; where it cannot, pair the rows with fingerprints held in memory, and say so."""
        recipe: Recipe | None = getattr(sync, "recipe", None)
        try:
            self._comparison = self._compose(recipe)
            log.info("Rows are compared by the database; only those with news leave it.")
        except NotInSql as error:
            if self._compare == "database":
                raise ConfigurationError(
                    f'The database cannot compare the rows of this sync: {error}. Set compare="auto".'
                ) from None
            log.info("Rows are compared by the worker: %s.", error)
        self._explain()
        return super()._pair(sync, chunks) if self._comparison is None else self._compared(sync, self._comparison)

    def _compose(self, recipe: Recipe | None) -> Comparison:
        if self._comparing is None or self._model is None:
            raise NotInSql(self._why_not)
        if recipe is None:
            raise NotInSql("rows of this type of sync are named by the worker")
        return Comparison.of(self._model, self._comparing, recipe, self._names["state"], self._scope.sync_id)

    def _explain(self) -> None:
        """Say why rows go again that did not change: a resync says so itself."""
        before, now = self.notes.get(NOTE, ""), "" if self._comparison is None else self._comparison.identity
        if self._new:
            self.notes |= {NOTE: now} if now else {}
        elif before != now and self._scope.resync == "changes" and self._scope.mapping:
            # Without a mapping no row goes again.
            scheme, former = now.partition(" ")[0], before.partition(" ")[0]
            if not now:
                reason = BY_THE_WORKER
            elif not before:
                reason = BY_THE_DATABASE
            else:
                reason = MAPPING_CHANGED if scheme == former else BY_ANOTHER_DATABASE
            if reason != self.resend_reason:
                self.resend_reason = reason
                log.info("Sync %s: %s.", self._scope.sync_id, reason)

    def finish(self, delivered: bool) -> None:
        """Remember the mapping that was delivered, and who compared."""
        self.notes.pop(NOTE, None)
        if self._comparison is not None:
            self.notes[NOTE] = self._comparison.identity
        super().finish(delivered)

    def _compared(self, sync: Sync, comparison: Comparison) -> Iterator[Pair]:
        yield Quiet(0, self)
        tombstones = self._query("SELECT record_key FROM {state} WHERE sync_id = {p} AND fingerprint = ''")
        erased = {name: 0 for (name,) in tombstones}
        ((self.remembered,),) = self._query("SELECT count(*) FROM {state} WHERE sync_id = {p} AND fingerprint <> ''")
        every = self._scope.resync == "full"
        recipe: Recipe | None = getattr(sync, "recipe", None)
        again = () if recipe is None else recipe.again
        statement = comparison.news(every, again) if self.remembered else comparison.first()
        tally = _Tally()
        for chunk in statement.chunks():
            yield from self._sorted(sync, chunk, erased, tally)
        unchanged = statement.rows - tally.rows
        repeats = self._repeats(comparison, erased) if tally.repeats(unchanged, self.remembered) else []
        for _, rows, quiet in repeats if not every else ():
            # Of the rows of a duplicate key the first one is counted, as news or as none.
            unchanged -= quiet - (quiet == rows)
        yield Quiet(unchanged, self)
        for key, rows, _ in repeats:
            yield Duplicate(key, rows)
        if not sync.keeps_leavers:
            self._lapsed = [name for name, rows in erased.items() if not rows]

    def _sorted(self, sync: Sync, chunk: Sequence[Row], erased: dict[str, int], tally: _Tally) -> Iterator[Pair]:
        """Tell rows from keys without one, and name the rows."""
        lines: Sequence[Row] = chunk
        if self.remembered and any(line[_FINGERPRINT] is None for line in chunk):
            for *_, key, fingerprint, ref, absent in chunk:
                if absent is None:
                    tally.gone += 1
                    yield Gone(key, Entry(bytes.fromhex(fingerprint), ref))
            lines = [line for line in chunk if line[_FINGERPRINT] is not None]
            if not lines:
                return
        tally.rows += len(lines)
        names = sync.keys(lines)
        if list(names) != [line[_KEY] for line in lines]:
            yield from (name for name in names if isinstance(name, Invalid))
            lines = self._agreeing(names, lines)
        buried = [line[_KEY] for line in lines if tombstone(line[_KEY]) in erased] if erased else []
        if buried:
            for key in buried:
                erased[tombstone(key)] += 1
            yield Erased(buried)
            lines = [line for line in lines if tombstone(line[_KEY]) not in erased]
        if not lines:
            return
        *_, keys, _, remembered, refs, fingerprints = zip(*lines, strict=True)
        tally.keys.extend(map(hash, keys))
        before = [None if text is None else bytes.fromhex(text) for text in remembered]
        tally.changed += len(before) - before.count(None)
        yield Present(keys, lines, before, list(map(bytes.fromhex, fingerprints)), refs)

    def _agreeing(self, names: Sequence[str | Invalid], lines: Sequence[Row]) -> Sequence[Row]:
        """Return the lines whose key is one, once database and worker agree about each.

        :raises ModelError: they do not
        """
        here = [name if isinstance(name, str) else None for name in names]
        differing = sum(name != line[_KEY] for name, line in zip(here, lines, strict=True))
        if differing:
            raise ModelError(
                f"The database names {differing} rows otherwise than the worker does. Nothing was sent. Compare in the "
                'worker with TableState(compare="worker").'
            )
        return [line for name, line in zip(here, lines, strict=True) if name is not None]

    def _repeats(self, comparison: Comparison, erased: Mapping[str, int]) -> list[tuple[str, int, int]]:
        """Return the keys that several rows have, how many, and how many of these are unchanged."""
        return [
            (key, rows, quiet)
            for chunk in comparison.duplicates().chunks()
            for key, rows, quiet in chunk
            if not erased or tombstone(key) not in erased
        ]

    def bearers(self, refs: Sequence[str]) -> Mapping[str, str]:
        """Return the keys that remember one of these references, and which."""
        query = "SELECT record_key, ref FROM {state} WHERE sync_id = {p} AND fingerprint <> '' AND ref IN ({keys})"
        return dict(self._read(lambda: self.find(query, (self._scope.sync_id, list(refs)))))

    def present(self, keys: Sequence[str]) -> Iterator[Present]:
        """Read rows by their keys, with their fingerprints."""
        assert self._comparison is not None
        for start in range(0, len(keys), KEYS_AT_ONCE):
            for chunk in self._comparison.some(keys[start : start + KEYS_AT_ONCE]).chunks():
                found = [bytes.fromhex(line[_FINGERPRINT]) for line in chunk]
                yield Present([line[_KEY] for line in chunk], chunk, [None] * len(chunk), found)

    def _query(self, statement: str) -> list[tuple[Any, ...]]:
        query = self._sql(statement)
        return self._read(lambda: self._fetch(query, (self._scope.sync_id,)))


class _Statement(Model):
    """The model's query inside another one, with a count of its rows in the same snapshot where that is asked for."""

    def __init__(self, comparison: Comparison, sql: str, *, count: bool = False) -> None:
        model = comparison.model
        super().__init__(model.hook, model.sql, model.parameters, model.chunk_size)
        self.rows = 0
        """Rows that the model has; known once the first chunk is drawn."""
        self._counted = f"SELECT count(*) FROM (\n{self.sql}\n) AS iterable_model" if count else ""
        self._comparing = comparison.comparing
        self.sql = sql

    def _prepare(self, connection: Any, cursor: Any) -> None:
        plain = self._comparing.begin(connection, cursor)
        if self._counted:
            arguments = (self.parameters,) if self.parameters else ()
            plain.execute(self._counted, *arguments)
            ((self.rows,),) = plain.fetchall()


class _Tally:
    """What came across, as far as it takes to notice a key that several rows have."""

    def __init__(self) -> None:
        self.rows = self.changed = self.gone = 0
        self.keys = array("q")

    def repeats(self, unchanged: int, remembered: int) -> bool:
        """Tell whether some key must have several rows.

        Keys that came across are compared by their hashes. Of the others it is enough to count: as many rows met a
        memory as there are memories that met a row, or one of them met several.
        """
        if unchanged + self.changed != remembered - self.gone:
            return True
        return len(set(self.keys)) < len(self.keys)
