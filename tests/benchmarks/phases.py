"""The phases of the benchmark, each run in a process of its own so that CPU time and memory are its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

from tests.benchmarks.measuring import context, used

COLUMNS = "id, email, first_name, last_name, city, country, signup_at, lifetime_value, orders, subscribed"
QUERY = f"SELECT {COLUMNS} FROM iterable_bench.users"
STATE = "SELECT record_key, fingerprint FROM iterable_bench.sync_state WHERE sync_id = 'bench.auto'"


def drain(uri: str, query: str) -> int:
    """Fetch every row of a query through a bare named cursor."""
    import psycopg

    fetched = 0
    with psycopg.connect(uri) as connection, connection.cursor(name="bare") as cursor:
        cursor.execute(query)
        while chunk := cursor.fetchmany(5000):
            fetched += len(chunk)
    return fetched


def fetch_model(uri: str, url: str, more: dict[str, str]) -> Callable[[], str]:
    """Fetch the model and do nothing."""
    return lambda: f"{drain(uri, QUERY):,} rows"


def fetch_both(uri: str, url: str, more: dict[str, str]) -> Callable[[], str]:
    """Fetch the model and the state and do nothing."""
    return lambda: f"{drain(uri, STATE) + drain(uri, QUERY):,} rows"


def sync(uri: str, url: str, more: dict[str, str]) -> Callable[[], str]:
    """Run the operator.

    ``compare``, ``resync``: who compares, and what is sent.
    """
    from airflow_provider_iterable.operators import IterableUserSyncOperator
    from airflow_provider_iterable.state import TableState

    compare: Any = more.get("compare", "auto")
    fields = {
        "firstName": "first_name", "lastName": "last_name", "city": "city", "country": "country",
        "signupAt": "signup_at", "lifetimeValue": "lifetime_value", "orders": "orders", "subscribed": "subscribed",
    }  # fmt: skip
    operator = IterableUserSyncOperator(
        task_id="sync", sync_id=f"bench.{compare}", resync=more.get("resync", "changes"), sql=QUERY,
        sql_conn_id="warehouse", primary_key="id",
        email_column="email", fields=fields, state=TableState(schema="iterable_bench", compare=compare),
    )  # fmt: skip

    operator._sql_hook(None).get_conn().close()  # what Airflow imports on the way is not the sync's doing

    def work() -> str:
        report = operator.execute(context())
        return json.dumps({name: report[name] for name in ("accepted", "unchanged", "seconds")})

    return work


def export(uri: str, url: str, more: dict[str, str]) -> Callable[[], str]:
    """Write the users as the importer's source file."""
    import psycopg

    def work() -> str:
        names = ("firstName", "lastName", "city", "country", "signupAt", "lifetimeValue", "orders", "subscribed")
        with (
            psycopg.connect(uri) as connection,
            connection.cursor(name="bare") as cursor,
            open(more["path"], "w") as file,
        ):
            cursor.itersize = 5000
            for _, email, *values in cursor.execute(QUERY):
                values[4], values[5] = values[4].strftime("%Y-%m-%d %H:%M:%S +00:00"), float(values[5])
                file.write(json.dumps({"email": email, "fields": dict(zip(names, values, strict=True))}) + "\n")
        return ""

    return work


def importer(uri: str, url: str, more: dict[str, str]) -> Callable[[], str]:
    """Send the same users with the importer that Iterable publishes."""
    from iterable_data_import import (
        FileFormat,
        FileSystem,
        IterableDataImport,
        NoOpApiErrorRecorder,
        NoOpMapErrorRecorder,
        SyncApiClient,
        SyncApiImporter,
        UpdateUserProfile,
        UserProfile,
    )

    client = SyncApiClient("benchmark", base_url=f"{url}/api", timeout=60)
    source = FileSystem(more["path"], FileFormat.NEWLINE_DELIMITED_JSON)
    sending = IterableDataImport(source, SyncApiImporter(client, NoOpApiErrorRecorder()), NoOpMapErrorRecorder())
    sent = count()

    def to_action(record: dict[str, Any]) -> Any:
        next(sent)
        return UpdateUserProfile(UserProfile(email=record["email"], data_fields=record["fields"]))

    def work() -> str:
        sending.run(to_action)
        return f"{next(sent):,} users"

    return work


def main() -> None:
    """Run one phase and print its figures as JSON."""
    what, uri, url, more = sys.argv[2:]
    import psycopg  # noqa: F401 (as above)

    work = globals()[what](uri, url, json.loads(more))
    print(json.dumps(used(lambda: {"note": work()})))


if __name__ == "__main__":
    main()
