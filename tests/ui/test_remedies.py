from __future__ import annotations

import re
from pathlib import Path

from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.ui.remedies import REMEDIES

PAGE = Path(__file__).parents[2] / "docs" / "reasons.md"


def test_the_page_and_the_docs_say_the_same() -> None:
    """Of each reason, what to do about it."""
    rows = re.findall(r"^\| `(\w+)`<a [^|]*></a> \| .*? \| (.*?) \|$", PAGE.read_text(), re.MULTILINE)
    said = {name: re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", todo).replace("`", "") for name, todo in rows}
    documented = {reason: said[reason] for reason in Reason if reason in said}
    assert documented == dict(REMEDIES)
    assert set(documented) == set(Reason)
