"""What rows are called whose key is an identifier: by a primary key that only names them; knows no endpoint."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.vocabulary import Invalid, Records, Row
from airflow_provider_iterable.masking import masked_key
from airflow_provider_iterable.syncs.chunk import namer
from airflow_provider_iterable.syncs.identity import CHECKS, Match


class RowNames:
    """Says which row is meant, where a primary key is given and identifies nobody.

    :param columns: the model's columns
    :param primary_key: columns that name a row; empty: nothing does
    :param people: columns that identify people
    """

    def __init__(self, columns: Sequence[str], primary_key: Sequence[str], people: Sequence[str | None]) -> None:
        self._names = namer(columns, primary_key) if primary_key else None
        self._names_nobody = not {*primary_key} & {*people}

    def texts(self, rows: Sequence[Row]) -> list[str]:
        """Return the primary keys of rows as texts, empty where a row has none."""
        if self._names is None:
            return [""] * len(rows)
        return [name if isinstance(name, str) else "" for name in self._names(rows)]

    def told(self, row: Row) -> str:
        """Return what a row is called in logs."""
        if self._names is None or not self._names_nobody:
            return ""
        (name,) = self.texts([row])
        return f"primary key {masked_key(name)}" if name else ""

    def refused(self, row: Row, kind: Match, value: object) -> Invalid:
        """Refuse a row for its identifier."""
        blank = value is None or (isinstance(value, str) and not value.strip())
        names = () if blank else (str(value),)
        return Invalid("", Reason.NO_IDENTIFIER if blank else CHECKS[kind][1], self.told(row), names=names)

    def named(self, records: Records, rows: Sequence[Row]) -> Records:
        """Add to each row that is refused what it is called."""
        if self._names is None or set(map(type, records.fingerprints)) == {bytes}:
            return records
        named = [
            msgspec.structs.replace(found, detail="; ".join(filter(None, (found.detail, self.told(row)))))
            if isinstance(found, Invalid)
            else found
            for found, row in zip(records.fingerprints, rows, strict=True)
        ]
        return msgspec.structs.replace(records, fingerprints=named)
