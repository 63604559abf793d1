"""How fast endpoints answered in a run, noted beside the state: the next run's forecast reckons with it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.api.endpoints import NAMES
from airflow_provider_iterable.api.pacing import NEAR
from airflow_provider_iterable.api.turns import Measured
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.state.store import Session

NOTE = "pace"
"""The note beside the state that holds it."""


def noted(text: str | None) -> Mapping[str, Measured]:
    """Return what was measured of each endpoint; nothing of a note that is none."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Measured])
    except msgspec.MsgspecError:
        return {}


def note(session: Session, client: Client, report: Report) -> None:
    """Note what the run measured, over what earlier ones did; it is stored when the run finishes.

    A rate is noted where it decided how long the run took, and was less than what the endpoint allows: then something
    else limits it, be it Iterable, others on the project, or the worker.
    """
    known = dict(noted(session.notes.get(NOTE)))
    for endpoint, (measured, expected) in client.measured().items():
        rate = known[endpoint].rate if endpoint in known else None
        if measured.rate is not None and endpoint in report.decisive:
            rate = measured.rate if measured.rate < NEAR * expected else None
        known[endpoint] = Measured(measured.seconds, rate)
    kept = {endpoint: known[endpoint] for endpoint in NAMES if endpoint in known}
    if kept:
        session.notes[NOTE] = msgspec.json.encode(kept).decode()
