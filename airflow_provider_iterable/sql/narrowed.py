"""A model as far as the rows of some keys or identities need it: the database leaves the others out where it can."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from airflow_provider_iterable.sql.model import Model

MOST_CONDITIONS = 200
"""Keys and identities that are asked for by a condition each; for more, the whole model is read."""
_QUOTES: Mapping[str, str] = {"mysql": "`", "gcpbigquery": "`", "databricks": "`"}
_TEXT: Mapping[str, str] = {"mysql": "CHAR", "gcpbigquery": "STRING", "databricks": "STRING"}
"""The type that a value is cast to, to be compared as text."""
_MOMENT = re.compile(r"\d{4}-\d\d").match
"""How a key begins that may be a date or a date-time, which has another form in the database."""


def narrowed(
    model: Model,
    key_columns: Sequence[int],
    keys: Collection[str],
    identity_column: int | None = None,
    identities: Collection[str] = (),
) -> Model | None:
    """Return a model with all rows that have one of some keys or identities, and perhaps some more.

    ``None``: no condition is known to find them all, so that the whole model has to be read.

    :param model: the model, whose columns are known
    :param key_columns: positions of the columns of the key
    :param keys: key texts
    :param identity_column: position of the column with the identity
    :param identities: identities as they are sent to Iterable
    """
    if not keys and not identities:
        return None
    if len(keys) + len(identities) > MOST_CONDITIONS or (identities and identity_column is None):
        return None
    binding = _Binding(model)
    conditions = []
    for key in keys:
        values = _bindable(key)
        if values is None or len(values) != len(key_columns):
            return None
        parts = [
            f"{_quoted(model, number)} = {binding.bind(value)}"
            for number, value in zip(key_columns, values, strict=True)
        ]
        conditions.append(f"({' AND '.join(parts)})")
    for identity in identities:
        if identity_column is None or not identity.isascii() or "\\" in identity:
            return None
        text = f"LOWER(CAST({_quoted(model, identity_column)} AS {_TEXT.get(_kind(model), 'VARCHAR')}))"
        # What is around it in the model is taken off by whoever reads the row.
        conditions.append(f"{text} LIKE {binding.bind(f'%{identity.lower()}%')}")
    if binding.parameters is None:
        return None
    sql = f"SELECT * FROM (\n{binding.sql}\n) AS iterable_model WHERE {' OR '.join(conditions)}"
    found = Model(model.hook, sql, binding.parameters, model.chunk_size)
    found.columns = model.columns
    return found


class _Binding:
    """Values that are bound behind the model's own, in the style that these have."""

    def __init__(self, model: Model) -> None:
        self._mark = str(model.hook.placeholder)
        own = model.parameters
        self.sql = model.sql
        if not own and "%" in self._mark:  # without parameters, a percent sign is not special
            self.sql = self.sql.replace("%", "%%")
        self._named: dict[str, Any] | None = dict(own) if isinstance(own, Mapping) and own else None
        self._listed: list[Any] = list(own) if own and not isinstance(own, Mapping) else []
        self._fits = self._mark in ("%s", "?") and (self._named is None or self._mark == "%s")

    @property
    def parameters(self) -> Sequence[Any] | Mapping[str, Any] | None:
        """What is bound; ``None``: it is not known how."""
        if not self._fits:
            return None
        return self._listed if self._named is None else self._named

    def bind(self, value: Any) -> str:
        """Return what stands for a value."""
        if self._named is None:
            self._listed.append(value)
            return self._mark
        name = f"iterable_{len(self._named)}"
        self._named[name] = value
        return f"%({name})s"


def _bindable(key: str) -> list[Any] | None:
    """Return the values of a key; ``None``: the database may have them in another form."""
    try:
        values = json.loads(key)
    except ValueError:
        return None
    if not isinstance(values, list):
        return None
    fine = all(type(value) is int or (isinstance(value, str) and not _MOMENT(value)) for value in values)
    return values if fine else None


def _kind(model: Model) -> str:
    return str(model.hook.conn_type)


def _quoted(model: Model, number: int) -> str:
    quote = _QUOTES.get(_kind(model), '"')
    return f"{quote}{model.columns[number].replace(quote, quote * 2)}{quote}"
