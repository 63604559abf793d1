"""The connection's form, for Airflow before 3.2, and what a connection's extra may hold."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any

SETTINGS = (
    "data_center",
    "project_type",
    "rate_share",
    "rates",
    "max_in_flight",
    "shared_pace",
    "update_only",
    "project",
    "links",
    "allow_http",
)
"""What is read of a connection's extra."""
NAMED = 10
"""Names in one warning."""
LONGEST_NAME = 50


def widgets() -> dict[str, Any]:
    """Return the form's extra fields.

    Only Airflow before 3.2 calls this, and brings these packages; none of them has types everywhere.
    """
    field_widgets = import_module("flask_appbuilder.fieldwidgets")
    wtforms = import_module("wtforms")
    lazy_gettext = import_module("flask_babel").lazy_gettext

    def text(label: str) -> Any:
        return wtforms.StringField(lazy_gettext(label), widget=field_widgets.BS3TextFieldWidget())

    return {
        "data_center": text("Data center (us or eu)"),
        "project_type": text("Project type (email, user_id or hybrid)"),
        "rate_share": text("Rate share (above 0, at most 1)"),
        "rates": text("Rates (requests per second by endpoint, as JSON)"),
        "max_in_flight": text("Requests in flight (1 to 1000)"),
        "shared_pace": text("Shared pace (true or false; empty: true)"),
        "update_only": wtforms.BooleanField(lazy_gettext("Update-only switch")),
        "project": text("Project (any name for it)"),
        "links": text("Links (addresses of project, list and catalog in Iterable's web app, as JSON)"),
    }


def behaviour() -> dict[str, Any]:
    """Return how the form shows the standard fields."""
    return {
        "hidden_fields": ["schema", "login"],
        "relabeling": {"password": "API key", "host": "API base URL"},
        "placeholders": {
            "host": "empty: the data centre's own address",
            "port": "empty; Airflow 3.3.1 and 3.3.2: 0, for the Test button",
        },
    }


def unknown(names: Iterable[str]) -> str:
    """Return which of some settings mean nothing here, for a warning; empty: none.

    They are told by their names alone, for their values may be secrets.
    """
    strange = sorted(str(name)[:LONGEST_NAME] for name in names if name not in SETTINGS)
    told = [f"{name}{_meant(name)}" for name in strange[:NAMED]]
    more = len(strange) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")


def _meant(name: str) -> str:
    near = get_close_matches(name.lower(), SETTINGS, n=1, cutoff=0.75)
    return f" (meant: {near[0]}?)" if near else ""
