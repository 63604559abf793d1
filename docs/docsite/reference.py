"""The reference: a page for each part of the public API, from `__all__` of its modules and from docstrings."""

from __future__ import annotations

import inspect
import io
import os
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from unittest.mock import patch

PACKAGE = "airflow_provider_iterable"
INDEX = "reference/index"


@dataclass(frozen=True)
class Part:
    """A page: what it is called, what is said first, which modules it has, and what it shows of classes."""

    name: str
    title: str
    about: str
    modules: tuple[str, ...] = ()
    members: bool = False
    bases: bool = False
    commands: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    """What a class gives, and nobody imports."""


PARTS = (
    Part(
        "operators",
        "Operators",
        "All take the parameters of the first class, and those about people the parameters of the second, too.",
        ("operators",),
        bases=True,
    ),
    Part("mapping", "Fields", "What may stand for a column in ``fields``.", ("mapping",)),
    Part("state", "State stores", "Where a sync remembers: the parameter ``state`` of an operator.", ("state",)),
    Part(
        "hook",
        "Hook",
        "Questions and requests in tasks of your own.",
        ("hooks.iterable",),
        members=True,
        also=("api.questions.ListInfo", "api.questions.ChannelInfo", "api.questions.MessageTypeInfo"),
    ),
    Part("retry", "Retry policy", "For Airflow 3.3 and newer.", ("retry",)),
    Part("errors", "Errors", "What a task fails with, and what the hook raises.", ("errors",)),
    Part("assets", "Assets", "What DAGs can be scheduled on.", ("assets",)),
    Part("testing", "Tests of DAGs", "What a test imports, and the fixtures of the pytest plugin.", ("testing",)),
    Part(
        "sandbox",
        "Sandbox",
        "A local Iterable, in a test or a program of your own.",
        ("sandbox",),
        members=True,
        also=("sandbox.calls.Call",),
    ),
    Part("commands", "Command lines", "What they say about themselves.", commands=("sandbox", "explain", "state")),
)


def pages() -> Iterator[tuple[str, str]]:
    """Give name and text of each page."""
    lines = [
        *_heading("Reference", "="),
        "From the code's own words; the pages before it say how things go together.",
        "",
        ".. toctree::",
        "",
        *(f"   {part.name}" for part in PARTS),
    ]
    yield INDEX, _text(lines)
    for part in PARTS:
        yield f"reference/{part.name}", _text(_page(part))


def _page(part: Part) -> Iterator[str]:
    yield from _heading(part.title, "=")
    yield from (part.about, "")
    for module in part.modules:
        yield from _module(part, f"{PACKAGE}.{module}")
    for name in part.also:
        yield from _heading(f"``{name.rpartition('.')[2]}``", "-")
        yield from (f".. autoclass:: {PACKAGE}.{name}", "   :members:", "")
    if part.name == "testing":
        yield from _fixtures()
    for command in part.commands:
        yield from _command(f"{PACKAGE}.{command}")


def _module(part: Part, name: str) -> Iterator[str]:
    module = import_module(name)
    public = [getattr(module, one) for one in module.__all__]
    if part.bases:
        public = [*_bases(public), *public]
    for one in public:
        kind = "class" if inspect.isclass(one) else "function"
        place = name if one.__name__ in vars(module) else one.__module__
        yield from (*_heading(f"``{one.__name__}``", "-"), f".. auto{kind}:: {place}.{one.__name__}")
        if part.members:
            yield "   :members:"
        if part.name == "errors":
            yield "   :show-inheritance:"
        yield ""


def _bases(public: list[type]) -> list[type]:
    """Return the classes of this package that others inherit parameters from, the most common first."""
    found = {base for one in public for base in one.__mro__[1:] if base.__module__.startswith(f"{PACKAGE}.")}
    own = [one for one in found if "__init__" in vars(one) and ":param " in (one.__doc__ or "")]
    return sorted(own, key=lambda one: len(one.__mro__))


def own_signature(
    app: Any, what: str, name: str, one: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, None] | None:
    """Return what an operator's own constructor takes by name: with all of Airflow's, nobody would find them."""
    if what != "class" or not name.startswith(f"{PACKAGE}.operators."):
        return None
    own = inspect.signature(one.__init__).parameters.values()
    shown = [each.replace(annotation=each.empty) for each in own if each.kind is each.KEYWORD_ONLY]
    return str(inspect.Signature(shown)), None


def _fixtures() -> Iterator[str]:
    """Give the fixtures that tests ask for by name."""
    plugin = import_module(f"{PACKAGE}.testing.plugin")
    for name, one in vars(plugin).items():
        if isinstance(one, type(plugin.iterable_sandbox)):
            yield from (*_heading(f"Fixture ``{name}``", "-"), inspect.getdoc(one) or "", "")
    yield from _heading("``Runs``", "-")
    yield from ("What ``iterable_run`` gives.", "")
    yield from (f".. autoclass:: {PACKAGE}.testing.running.Runs", "   :special-members: __call__", "")


def _command(module: str) -> Iterator[str]:
    """Give what a command prints when it is asked for help."""
    text = io.StringIO()
    main = import_module(f"{module}.__main__").main
    with patch.dict(os.environ, COLUMNS="100"), redirect_stdout(text), suppress(SystemExit):
        main(["--help"])
    yield from _heading(f"``python -m {module}``", "-")
    yield from (".. code-block:: none", "", *(f"   {line}" for line in text.getvalue().splitlines()), "")


def _heading(text: str, line: str) -> tuple[str, ...]:
    return text, line * len(text), ""


def _text(lines: Iterator[str] | list[str]) -> str:
    return "\n".join([*lines, ""])
