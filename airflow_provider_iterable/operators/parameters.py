"""Reads parameters strictly: literals when the DAG is parsed, what templates became when the task runs."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, cast

from airflow_provider_iterable.engine.resync import Resync
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import check_fields
from airflow_provider_iterable.operators.forms import FIELDS, Form, shown

_OPENING = re.compile(r"\{\{|\{%|\{#")
_LEFT = re.compile(r"\{\{(?:.*?\}\})?|\{%(?:.*?%\})?", re.DOTALL)


def check_spool_dir(path: str | None) -> None:
    """Make a file in ``spool_dir`` before anything is read: there, on the worker, it has to be possible.

    :param path: ``None``: the system's temporary directory
    :raises ConfigurationError: it is not
    """
    try:
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        place = "the system's temporary directory" if path is None else repr(path)
        raise ConfigurationError(
            f"No file can be made in spool_dir, {place}: {error.strerror}. Nothing was read or sent. Have the "
            "directory on every worker, and let the user of the tasks write there, or name another one."
        ) from None


def checked_resync(resync: str, harm: str | None) -> Resync:
    """Return the kind of resync.

    :param harm: why sending every row again would do harm, as a clause; ``None``: it does none
    :raises ConfigurationError: it would do harm
    """
    if resync == "full" and harm:
        raise ConfigurationError(
            f'resync="full" would send every row again; {harm}. Nothing was sent. To have some rows go again, give '
            "them new keys, or delete their entries from the state."
        )
    return cast("Resync", resync)


def is_template(value: Any) -> bool:
    """Whether Airflow makes another value of it before the task runs: Jinja, another task's output, a callable."""
    if isinstance(value, str):
        return bool(_OPENING.search(value))
    if isinstance(value, (type, os.PathLike)):
        return False
    return callable(getattr(value, "resolve", None)) or callable(value)


def take(name: str, form: Form, value: Any) -> Any:
    """Return a parameter as the sync uses it.

    :raises ConfigurationError: it is another form
    """
    if form is FIELDS and value is not None:
        return check_fields(name, value, is_template)
    return form.take(name, value)


def check_literals(forms: Mapping[str, Form], templated: Collection[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check what is known when the DAG is parsed; return it in the form that the sync uses, templated ones left out.

    :raises ConfigurationError: one is another form, or holds Jinja where nothing renders it
    """
    read = {}
    for name, value in given.items():
        if name in templated:
            if not is_template(value):
                take(name, forms[name], value)
        else:
            for _, text in texts(name, value):
                raise ConfigurationError(
                    f"{name} holds a template, {text}, and is not templated: it would be used as it stands. "
                    f"Templated are {', '.join(sorted(templated))}."
                )
            read[name] = take(name, forms[name], value)
    return read


NOTHING = object()
"""What stands for the value of a constant whose template gave none."""


def is_nothing(value: Any) -> bool:
    """Whether a template gave nothing: ``None``, which Jinja also writes as a text, or blanks."""
    return value is None or (isinstance(value, str) and value.strip() in ("", "None"))


def rendered(name: str, form: Form, value: Any, was_template: bool) -> Any:
    """Return what became of a templated parameter, in the form that the sync uses.

    :param was_template: whether it was more than a value when the DAG was parsed
    :raises ConfigurationError: it is another form, or is not rendered
    """
    for place, text in texts(name, value):
        raise ConfigurationError(
            f"{place} still holds {text} after its templates were rendered. Nothing was read or sent. If that is a "
            "template, have it rendered: Jinja inside of what Jinja gives is not. If it is meant as it stands, put the "
            "braces together where they are used, in SQL as '{' || '{', or let a column of the model hold them."
        )
    for field, source in value.items() if isinstance(value, Mapping) else ():
        if getattr(source, "value", None) is NOTHING:
            raise ConfigurationError(
                f"The template of the constant in {name}[{field!r}] gave nothing. Nothing was read or sent: every row "
                "would have been given that. Have it give a value, or leave the field out."
            )
    if value is None and was_template and not form.none:
        raise ConfigurationError(
            f"The template of {name} became None. Nothing was read or sent. Have it give a value, or leave {name} out."
        )
    return take(name, form, value)


def texts(place: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield every template inside a value, and where it stands; dicts, lists and dataclasses are entered."""
    match value:
        case str():
            found = _LEFT.search(value)
            if found is not None:
                yield place, shown(found[0])
        case Mapping():
            for name, member in value.items():
                yield from texts(f"a name in {place}", name)
                yield from texts(f"{place}[{name!r}]", member)
        case list() | tuple() | set() | frozenset():
            for member in value:
                yield from texts(place, member)
        case _ if is_dataclass(value) and not isinstance(value, type):
            for member in fields(value):
                yield from texts(place, getattr(value, member.name))
