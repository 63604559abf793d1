"""State tables whose database compares the rows: only new, changed and removed ones leave it.

When the state tables are on the model's own connection, one statement joins the model with what is remembered. It
makes the key of each row as the worker would (:func:`airflow_provider_iterable.mapping.key_text`), digests columns that
the sync reads, and returns the rows whose digest is not remembered and the keys that no row has. A digest begins with
the ID of its scheme, so that it never equals one that the worker or another kind of database made.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.vocabulary import (
    Duplicate,
    Entry,
    Erased,
    Gone,
    Invalid,
    Pair,
    Present,
    Recipe,
    Row,
    UnchangedInDatabase,
)
from airflow_provider_iterable.errors import ConfigurationError, ModelError, ModelUnavailable
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.sql.errors import is_driver_error, wrap_error
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.pairing import tombstone
from airflow_provider_iterable.state.scope import MAPPING_CHANGED, Scope
from airflow_provider_iterable.state.tables.comparison import FINGERPRINT, KEY, Comparison
from airflow_provider_iterable.state.tables.connection import COMMIT_PATIENCE
from airflow_provider_iterable.state.tables.dialects import Comparing, NotInSql
from airflow_provider_iterable.state.tables.lease import SECONDS
from airflow_provider_iterable.state.tables.session import TableSession

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

log = logger(__name__)

Compare = Literal["auto", "database", "worker"]
NOTE = "comparison"
"""The note with the scheme and recipe of the sync's fingerprints; none where the worker made them."""
KEYS_AT_ONCE = 20_000
"""Keys in one statement that reads rows again: each statement runs the model."""
_ONCE = 'so each row goes again once, unless a run with resync="baseline" comes first'
BY_THE_DATABASE = f"rows are compared by the database now, and were by the worker before, {_ONCE}"
BY_THE_WORKER = f"rows are compared by the worker now, and were by the database before, {_ONCE}"
BY_ANOTHER_DATABASE = f"rows are compared by another kind of database than before, {_ONCE}"


class WarehouseSession(TableSession):
    """The state tables, opened for one run; the database compares where it can."""

    def __init__(
        self,
        scope: Scope,
        hook: DbApiHook,
        schema: str | None = None,
        lease_seconds: float = SECONDS,
        patience: float = COMMIT_PATIENCE,
        *,
        compare: Compare = "auto",
        conn_id: str | None = None,
    ) -> None:
        super().__init__(scope, hook, schema, lease_seconds, patience)
        self._model, self._compare = scope.model, compare
        self._comparing: Comparing | None = None
        self._why_not = 'compare="worker"'
        self._comparison: Comparison | None = None
        try:
            if scope.model is not None and compare != "worker":
                self._describe(scope.model, conn_id)
        except BaseException:
            self.close()
            raise

    def _describe(self, model: Model, conn_id: str | None) -> None:
        """Read the model's columns and their types without running it."""
        dialect = self.tables.dialect
        try:
            own = str(getattr(model.hook, model.hook.conn_name_attr))
            if conn_id not in (None, own):
                raise NotInSql(f"the state is in connection {conn_id}, the model in {own}")
            if dialect.untested and self._compare == "auto":
                raise NotInSql(
                    f'comparing in {self.tables.kind} was run on no real server yet; compare="database" asks for it'
                )
            comparing = dialect.comparing()
            model.describe(comparing.describe)
            self._comparing = comparing
        except NotInSql as error:
            self._why_not = str(error)
        except ModelError:
            raise
        except Exception as error:
            if is_driver_error(error) and isinstance(away := wrap_error(error), ModelUnavailable):
                raise away from None
            # What is wrong with the model itself is reported when it is read.
            self._why_not = f"the query cannot stand inside another one ({type(error).__name__})"

    def _pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Let the database compare; where it cannot, pair the rows with fingerprints held in memory, and say so."""
        self._choose(sync)
        return super()._pair(sync, chunks) if self._comparison is None else self._compared(sync, self._comparison)

    def _choose(self, sync: Sync) -> None:
        """Find out whether the database compares, and say so."""
        recipe: Recipe | None = sync.recipe
        try:
            self._comparison = self._comparison_of(recipe)
            log.info("Rows are compared by the database; only those with news leave it.")
        except NotInSql as error:
            if self._compare == "database":
                raise ConfigurationError(
                    f'The database cannot compare the rows of this sync: {error}. Set compare="auto".'
                ) from None
            log.info("Rows are compared by the worker: %s.", error)
        self._say_why_rows_go_again()

    def _pair_some(self, sync: Sync, model: Model, keys: Collection[str]) -> Iterator[Pair]:
        """Let the database make the fingerprints of the rows, if it is the one that compares."""
        self._model = model
        self._choose(sync)
        if self._comparison is None:
            yield from super()._pair_some(sync, model, keys)
            return
        lines = [line for chunk in self._comparison.some(sorted(keys)).chunks() for line in chunk]
        lines = list(self._with_agreed_keys(sync.keys(lines), lines)) if lines else []
        entries = self.recall([*keys, *map(tombstone, keys)])
        rows: dict[str, list[Row]] = {}
        for line in lines:
            rows.setdefault(line[KEY], []).append(line)
        for key in keys:
            found, entry = rows.get(key, ()), entries.get(key)
            if found and tombstone(key) in entries:
                yield Erased([key] * len(found))
            elif found:
                before = None if entry is None else entry.fingerprint
                prints = [bytes.fromhex(line[FINGERPRINT]) for line in found]
                # Of the rows of a duplicate key, the first one counts that leaves the database.
                news = (n for n, one in enumerate(prints) if one != before or self._scope.resync == "full")
                first = next(news, 0)
                yield Present([key], [found[first]], [before], [prints[first]])
                if len(found) > 1:
                    yield Duplicate(key, len(found))
            elif entry is not None:
                yield Gone(key, entry)

    def _comparison_of(self, recipe: Recipe | None) -> Comparison:
        if self._comparing is None or self._model is None:
            raise NotInSql(self._why_not)
        if recipe is None:
            raise NotInSql("rows of this type of sync are named by the worker")
        return Comparison.of(self._model, self._comparing, recipe, self.tables.names["state"], self._scope.sync_id)

    def _say_why_rows_go_again(self) -> None:
        """Log why rows go again that did not change, unless a resync is the reason, which is logged elsewhere."""
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
        """Remember the mapping that was delivered, and whether the database compared."""
        self.notes.pop(NOTE, None)
        if self._comparison is not None:
            self.notes[NOTE] = self._comparison.identity
        super().finish(delivered)

    def _compared(self, sync: Sync, comparison: Comparison) -> Iterator[Pair]:
        yield UnchangedInDatabase(0, self)
        sync_id, entries = self._scope.sync_id, self._entries
        erased = dict.fromkeys(entries.read(lambda: entries.keys(sync_id, erased=True)), 0)
        self.remembered = entries.read(lambda: entries.count(sync_id))
        every = self._scope.resync == "full"
        recipe: Recipe | None = sync.recipe
        again = () if recipe is None else recipe.again
        statement = comparison.news(every, again) if self.remembered else comparison.first()
        tally = _Tally()
        for chunk in statement.chunks():
            yield from self._pairs_of(sync, chunk, erased, tally)
        unchanged = statement.rows - tally.rows
        repeats = self._repeats(comparison, erased) if tally.repeats(unchanged, self.remembered) else []
        for _, rows, same in repeats if not every else ():
            # Of the rows of a duplicate key the first one is counted, as news or as none.
            unchanged -= same - (same == rows)
        yield UnchangedInDatabase(unchanged, self)
        for key, rows, _ in repeats:
            yield Duplicate(key, rows)
        if not sync.keeps_leavers:
            self._tombstones_without_row = [name for name, rows in erased.items() if not rows]

    def _pairs_of(self, sync: Sync, chunk: Sequence[Row], erased: dict[str, int], tally: _Tally) -> Iterator[Pair]:
        """Separate rows from keys that no row has, and make the keys of the rows."""
        lines: Sequence[Row] = chunk
        if self.remembered and any(line[FINGERPRINT] is None for line in chunk):
            for *_, key, fingerprint, ref, absent in chunk:
                if absent is None:
                    tally.gone += 1
                    yield Gone(key, Entry(bytes.fromhex(fingerprint), ref))
            lines = [line for line in chunk if line[FINGERPRINT] is not None]
            if not lines:
                return
        tally.rows += len(lines)
        names = sync.keys(lines)
        if list(names) != [line[KEY] for line in lines]:
            yield from (name for name in names if isinstance(name, Invalid))
            lines = self._with_agreed_keys(names, lines)
        erased_keys = [line[KEY] for line in lines if tombstone(line[KEY]) in erased] if erased else []
        if erased_keys:
            for key in erased_keys:
                erased[tombstone(key)] += 1
            yield Erased(erased_keys)
            lines = [line for line in lines if tombstone(line[KEY]) not in erased]
        if not lines:
            return
        *_, keys, _, remembered, refs, fingerprints = zip(*lines, strict=True)
        tally.keys.extend(map(hash, keys))
        before = [None if text is None else bytes.fromhex(text) for text in remembered]
        tally.changed += len(before) - before.count(None)
        yield Present(keys, lines, before, list(map(bytes.fromhex, fingerprints)), refs)

    def _with_agreed_keys(self, names: Sequence[str | Invalid], lines: Sequence[Row]) -> Sequence[Row]:
        """Return the lines with a valid key, after checking that database and worker made the same key for each.

        :raises ModelError: they did not
        """
        here = [name if isinstance(name, str) else None for name in names]
        differing = sum(name != line[KEY] for name, line in zip(here, lines, strict=True))
        if differing:
            raise ModelError(
                f"The database names {differing} rows otherwise than the worker does. Nothing was sent. Compare in the "
                'worker with TableState(compare="worker").'
            )
        return [line for name, line in zip(here, lines, strict=True) if name is not None]

    def _repeats(self, comparison: Comparison, erased: Mapping[str, int]) -> list[tuple[str, int, int]]:
        """Return the keys that several rows have, how many, and how many of these are unchanged."""
        return [
            (key, rows, same)
            for chunk in comparison.duplicates().chunks()
            for key, rows, same in chunk
            if not erased or tombstone(key) not in erased
        ]

    def bearers(self, refs: Sequence[str]) -> Mapping[str, str]:
        """Return the keys whose entries have one of these references, with the reference."""
        return dict(self._entries.read(lambda: self._entries.bearers(self._scope.sync_id, refs)))

    def present(self, keys: Sequence[str]) -> Iterator[Present]:
        """Read rows by their keys, with their fingerprints."""
        assert self._comparison is not None
        for start in range(0, len(keys), KEYS_AT_ONCE):
            for chunk in self._comparison.some(keys[start : start + KEYS_AT_ONCE]).chunks():
                found = [bytes.fromhex(line[FINGERPRINT]) for line in chunk]
                yield Present([line[KEY] for line in chunk], chunk, [None] * len(chunk), found)


class _Tally:
    """Counts of the lines that were read, from which follows whether a key has several rows."""

    def __init__(self) -> None:
        self.rows = self.changed = self.gone = 0
        self.keys = array("q")

    def repeats(self, unchanged: int, remembered: int) -> bool:
        """Return whether some key must have several rows.

        Keys that were read are compared by their hashes. The others need only be counted: without duplicates, as many
        rows have an entry as there are entries with a row.
        """
        if unchanged + self.changed != remembered - self.gone:
            return True
        return len(set(self.keys)) < len(self.keys)
