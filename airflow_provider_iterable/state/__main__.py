"""Prints what a database administrator runs before a first sync; knows no connection of Airflow and opens none."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.state.tables.audit import AUDIT
from airflow_provider_iterable.state.tables.dialects import DIALECTS
from airflow_provider_iterable.state.tables.entries import STATE
from airflow_provider_iterable.state.tables.erasure import ERASURE
from airflow_provider_iterable.state.tables.layout import ROLE, Nowhere, script
from airflow_provider_iterable.state.tables.ledger import LEDGER

LAYOUTS = (STATE, AUDIT, LEDGER, ERASURE)
"""All tables that any sync needs."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_iterable.state",
        description="Print the SQL that makes the tables of TableState, of the audit and of privacy syncs, and that "
        "grants a role what syncs need: SELECT, INSERT, UPDATE and DELETE. Nothing is connected to and nothing is "
        "executed: hand the output to somebody who may create tables.",
    )
    parser.add_argument(
        "--ddl",
        required=True,
        choices=sorted(DIALECTS),
        metavar="DATABASE",
        help=f"the type of the Airflow connection: {', '.join(sorted(DIALECTS))} (MariaDB is mysql)",
    )
    parser.add_argument(
        "--schema",
        help="the schema of TableState(schema=...); without it the tables are in the default schema of whoever runs "
        "the SQL, and their names begin with iterable_",
    )
    parser.add_argument(
        "--role",
        default=ROLE,
        help="who is granted the rights: the login of the Airflow connection, or a role that it has; in MySQL "
        "user@host, or a role (default: %(default)s)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the statements, each of which ends with a semicolon at the end of a line."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        print(script(Nowhere(given.ddl, given.schema), LAYOUTS, given.role))
    except ConfigurationError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
