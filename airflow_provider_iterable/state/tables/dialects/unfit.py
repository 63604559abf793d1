"""Databases in which no state can be kept, and why."""

from __future__ import annotations

from collections.abc import Mapping

UNFIT: Mapping[str, tuple[str, str]] = {
    "gcpbigquery": (
        "BigQuery",
        "its Airflow connection commits each statement by itself, and in a session the transaction of a killed worker "
        "would keep every other run out for up to a day",
    ),
    "trino": (
        "Trino",
        "it has transactions only as far as the database behind it has them, and most of these commit each statement "
        "by itself",
    ),
}
"""Name of the database, and why not, by connection type. A commit stores entries, header and lease, or nothing."""
