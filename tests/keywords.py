"""Writes ``operators/keywords.py`` from the signatures that it repeats: ``python -m tests.keywords``."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_iterable.operators import base, keywords

FILE = Path(keywords.__file__)
PLAIN = {"str", "int", "bool", "float", "None", "Any", "Sequence", "Mapping", "timedelta", "datetime", "dict", "list"}
"""What may stand in an annotation of Airflow's; where anything else does, the keyword takes anything."""
HEAD = '''"""The keywords that operators take, for editors and type checkers; made by ``python -m tests.keywords``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict

from airflow_provider_iterable.mapping import Fields, Nulls
from airflow_provider_iterable.state.scope import Store
'''


def of(function: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """Yield the keywords of a function with their annotations."""
    for name, parameter in inspect.signature(function).parameters.items():
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
            yield name, str(parameter.annotation)


def plain(annotation: str) -> str:
    """Return an annotation that needs no import of Airflow's."""
    annotation = re.sub(r"\bdict\b(?!\[)", "dict[str, Any]", annotation)
    return annotation if set(re.findall(r"[A-Za-z_.]+", annotation)) <= PLAIN else "Any"


def written() -> str:
    """Return what the file has to say for the Airflow that is installed."""
    task = {name: plain(annotation) for name, annotation in of(BaseOperator.__init__)}
    model = {name: annotation for name, annotation in of(base.IterableModelOperator.__init__) if name != "primary_key"}
    key = {"primary_key": dict(of(base.IterableModelOperator.__init__))["primary_key"]}
    parts = [HEAD]
    for name, parent, words, members in (
        ("TaskKeywords", "TypedDict, total=False", "What Airflow's operators take.", task),
        ("RowKeywords", "TaskKeywords, total=False", "What syncs take, but for the key of a row.", model),
        ("ModelKeywords", "RowKeywords, total=False", "What syncs take whose rows must have a key.", key),
    ):
        lines = "\n".join(f"    {member}: {annotation}" for member, annotation in members.items())
        parts.append(f'\n\nclass {name}({parent}):\n    """{words}"""\n\n{lines}\n')
    return "".join(parts)


def main() -> None:
    """Write the file."""
    FILE.write_text(written())
    subprocess.run([sys.executable, "-m", "ruff", "format", str(FILE)], check=True)


if __name__ == "__main__":
    main()
