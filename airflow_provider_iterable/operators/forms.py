"""What each parameter of an operator must be, whether it is a literal or what a template became.

Jinja gives texts, unless the DAG renders native objects: one reader serves both, and whatever it does not understand is
refused, for a guess would allow what was forbidden.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from types import NoneType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

from airflow_provider_iterable.api.values import item_id
from airflow_provider_iterable.engine.forecast import DeadlineAction
from airflow_provider_iterable.engine.resync import Resync
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import Nulls

_Class = TypeVar("_Class")

_WHOLE = re.compile(r"[+-]?\d+")
_FRACTION = re.compile(r"[+-]?(\d+\.\d*|\.\d+)")
_SHOWN = 100


@dataclass(frozen=True)
class Form:
    """What a parameter must be.

    :param what: the same in words, after "must be"
    :param read: returns the value in the form that the sync uses; ``ValueError`` or ``TypeError``: it is none
    :param optional: whether the parameter may be left out
    :param none: whether ``None`` says something, so that a template may become it
    :param private: whether the value may be about people, so that it is not shown
    """

    what: str
    read: Callable[[Any], Any]
    optional: bool = False
    none: bool = False
    private: bool = False

    def take(self, name: str, value: Any) -> Any:
        """Return the value as the sync uses it.

        :raises ConfigurationError: it is another form; the message names parameter and value
        """
        if value is None and (self.optional or self.none):
            return None
        try:
            return self.read(value)
        except ConfigurationError:
            raise
        except (ValueError, TypeError, KeyError, OSError):
            kind = "type" if isinstance(value, type) else type(value).__name__
            found = kind if self.private or isinstance(value, type) else shown(value)
            raise ConfigurationError(f"{name} must be {self.what}, not {found}") from None


def shown(value: Any) -> str:
    """Return a value as a message shows it: not the whole of a long one."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise TypeError
    return {"true": True, "false": False}[value.strip().lower()]


def _number(value: Any) -> int | float | None:
    """Return a number as Python or Jinja write it: with a period, it is a float; no other form is one."""
    if isinstance(value, str):
        text = value.strip()
        if text == "None":
            return None
        if _WHOLE.fullmatch(text):
            return int(text)
        if _FRACTION.fullmatch(text):
            return float(text)
        raise ValueError
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return value


def _within(least: float, most: float | None, *, none: bool = False) -> Callable[[Any], int | None]:
    def read(value: Any) -> int | None:
        number = _number(value)
        if number is None and none:
            return None
        if not isinstance(number, int) or number < least or (most is not None and number > most):
            raise ValueError
        return number

    return read


def _limit(none: bool) -> Callable[[Any], int | float | None]:
    def read(value: Any) -> int | float | None:
        number = _number(value)
        if number is None and none:
            return None
        if number is None or not (number >= 0) or (isinstance(number, float) and number > 1):
            raise ValueError
        return number

    return read


def _some(value: Any) -> int | float | None:
    number = _limit(none=True)(value)
    if number == 0:
        raise ValueError
    return number


def _text(value: Any) -> str:
    """Return a text that says something; ``None`` is what Jinja writes for a value that is not there."""
    if not isinstance(value, str):
        raise TypeError
    if not value.strip() or value.strip() == "None":
        raise ValueError
    return value


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    if value.strip() == "None":
        raise ValueError
    return value


def _hash(value: Any) -> str:
    """Return the hash of a plan; what is none agrees with no plan, so that nothing is sent."""
    if not isinstance(value, str):
        raise TypeError
    return value


def _columns(value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)):
        raise TypeError
    return tuple(map(_text, names))


def _key(value: Any) -> tuple[str, ...]:
    columns = _columns(value)
    if not columns:
        raise ValueError
    return columns


def _store(value: Any) -> Any:
    if isinstance(value, type) or not callable(getattr(value, "open", None)):
        raise TypeError
    return value


def _zone(value: Any) -> str:
    ZoneInfo(_text(value))
    return str(value)


def _moment(value: Any) -> datetime | None:
    """Return a moment; one without a zone is none, for nobody knows when it is."""
    if isinstance(value, str):
        if value.strip() == "None":
            return None
        value = datetime.fromisoformat(value.strip())
    if not isinstance(value, datetime):
        raise TypeError
    if value.tzinfo is None:
        raise ValueError
    return value


def _bind_parameters(value: Any) -> Any:
    if not isinstance(value, (Mapping, list, tuple)):
        raise TypeError
    return value


def _mapping(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise TypeError
    return value


def _words(value: Any) -> Any:
    if not isinstance(value, Mapping) or not value:
        raise TypeError
    folded: dict[str, bool] = {}
    for word, meaning in value.items():
        if not isinstance(word, str) or not isinstance(meaning, bool):
            raise TypeError
        if folded.setdefault(word.strip().casefold(), meaning) is not meaning:
            raise ValueError
    return value


def _array_merge(value: Any) -> Mapping[str, str | None]:
    if not isinstance(value, Mapping):
        raise TypeError
    return {_text(name): None if member is None else _text(member) for name, member in value.items()}


def _catalog(value: Any) -> str:
    if item_id(_any_text(value)) != value:
        raise ValueError
    return str(value)


def one_of(*allowed: str, optional: bool = False) -> Form:
    """Return the form of a choice."""
    names = [f'"{name}"' for name in allowed]

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError
        return value

    return Form(f"{', '.join(names[:-1])} or {names[-1]}", read, optional)


def choice(literal: Any, *, optional: bool = False) -> Form:
    """Return the form of a choice between the values of a ``Literal``."""
    return one_of(*get_args(literal), optional=optional)


FLAG = Form("True or False", _flag)
OPTIONAL_FLAG = Form("True, False or None", _flag, optional=True)
COUNT = Form("a number of rows", _within(0, None, none=True), none=True)
LIMIT = Form("a share from 0.0 to 1.0 or a number of rows", _limit(none=False))
CANARY = Form("a number of rows from 1, a share above 0.0, or None", _some, none=True)
LIMIT_OR_NONE = Form("a share from 0.0 to 1.0 or a number of rows", _limit(none=True), none=True)
MOMENT_OR_NONE = Form('a date-time with its zone, such as "2026-05-31 06:00+00:00"', _moment, none=True)
TEXT = Form("a text that is not blank, and not None", _text)
OPTIONAL_TEXT = Form("a text that is not blank, and not None", _text, optional=True)
DESCRIPTION = Form("a text, and not None", _any_text, optional=True)
PLAN_HASH = Form("the hash of a plan", _hash, optional=True)
OPTIONAL_COLUMN = Form("the name of a column", _text, optional=True)
KEY = Form("a column, or a list of at least one column", _key)
COLUMNS = Form("a column, or a list of columns", _columns)
SQL = Form("the text of one query, or the name of its file", _text, optional=True, private=True)
BIND_PARAMETERS = Form("a dict or a list", _bind_parameters, optional=True, private=True)
HOOK_PARAMS = Form("a dict", _mapping, optional=True, private=True)
FIELDS = Form("a dict", lambda value: value, optional=True, private=True)
"""The fields themselves are read by :func:`~airflow_provider_iterable.operators.parameters.take`, for their messages
name them."""
FIELD_TYPES = Form("a dict of field to type", _mapping, optional=True)
ARRAY_MERGE = Form("a dict of field to the name of a member, or to None", _array_merge, optional=True)
STATE = Form("a store such as TableState()", _store)
ZONE = Form('the name of a time zone, such as "UTC"', _zone)
BATCH_SIZE = Form("from 1 to 1000", _within(1, 1000))
IN_FLIGHT = Form("from 1 to 1000", _within(1, 1000), optional=True)
COMMIT_BATCHES = Form("at least 1", _within(1, None), optional=True)
PATH = Form("a path", os.fspath, optional=True)
LIST_ID = Form("a number", _within(1, None), optional=True)
WORDS = Form("a dict of words to True or False", _words, optional=True)
CATALOG = Form("letters, digits and dashes, at most 255 of them", _catalog)
AS_IT_IS = Form("anything", lambda value: value, optional=True, none=True)
"""What has a reader of its own."""


COMMON_FORMS: Mapping[str, Form] = {
    "sql": SQL,
    "table": OPTIONAL_TEXT,
    "parameters": BIND_PARAMETERS,
    "sql_conn_id": TEXT,
    "hook_params": HOOK_PARAMS,
    "primary_key": KEY,
    "fields": FIELDS,
    "nulls": choice(Nulls),
    "timezone": ZONE,
    "state": STATE,
    "sync_id": TEXT,
    "partition": AS_IT_IS,
    "partitions": AS_IT_IS,
    "repartition": FLAG,
    "resync": choice(Resync),
    "dry_run": FLAG,
    "approved_plan": PLAN_HASH,
    "allow_empty": FLAG,
    "max_removed": LIMIT_OR_NONE,
    "max_changed": LIMIT_OR_NONE,
    "max_rejected": LIMIT,
    "deadline": MOMENT_OR_NONE,
    "deadline_action": choice(DeadlineAction),
    "canary": CANARY,
    "canary_max_rejected": LIMIT,
    "check_types": FLAG,
    "batch_size": BATCH_SIZE,
    "commit_batches": COMMIT_BATCHES,
    "max_in_flight": IN_FLIGHT,
    "spool_dir": PATH,
    "iterable_conn_id": TEXT,
}
"""What each parameter must be that all syncs have."""


def with_forms(**others: Form) -> Callable[[type[_Class]], type[_Class]]:
    """Add the forms of a class's own parameters to those that it inherits, as its ``forms``.

    A flag, a choice between literals and the name of a column follow from the annotation and the name.

    :param others: the forms of all other parameters
    :raises TypeError: a parameter has no form
    """

    def add(cls: type[_Class]) -> type[_Class]:
        constructor: Any = vars(cls)["__init__"]
        own = {name: hint for name, hint in get_type_hints(constructor).items() if name not in ("return", "kwargs")}
        forms = {name: others.get(name) or _annotated(name, hint) for name, hint in own.items()}
        if missing := [name for name, form in forms.items() if form is None]:
            raise TypeError(f"{cls.__name__} has no form for {', '.join(missing)}")
        cls.forms = {**cls.forms, **forms}  # type: ignore[attr-defined]
        return cls

    return add


def _annotated(name: str, annotation: Any) -> Form | None:
    parts = (annotation, *get_args(annotation))
    optional = NoneType in parts
    if choices := [value for part in parts if get_origin(part) is Literal for value in get_args(part)]:
        return one_of(*choices, optional=optional)
    if bool in parts:
        return OPTIONAL_FLAG if optional else FLAG
    return OPTIONAL_COLUMN if name.endswith("_column") else None


def options_of(operator: object, kind: type[_Class], given: Mapping[str, Any]) -> _Class:
    """Return the options of a sync, a dataclass: each is given, or is the operator's parameter of its name.

    :param given: may have more than the sync has options
    :raises AttributeError: an option is neither, whether or not it has a default
    """
    names = [option.name for option in fields(cast("Any", kind))]
    return kind(**{name: given[name] if name in given else getattr(operator, name) for name in names})
