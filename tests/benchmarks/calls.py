"""``python -m tests.benchmarks.calls``: the CPU time of one call with one record, from bare sockets to the engine.

All send the same purchases to a server in a process of its own that says yes to everything, without any rate. Each way
runs in processes of its own, in turn with the others, and its best CPU time counts.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from tests.benchmarks.measuring import UNPACED, phase, used
from tests.benchmarks.stub import stub

PATH = "/api/commerce/trackPurchase"
HEADERS = {"Api-Key": "benchmark", "Content-Type": "application/json"}


def bodies(calls: int) -> list[bytes]:
    """Return as many purchases."""
    item = {"id": "sku-1", "name": "Product 1", "price": 9.5, "quantity": 1}
    return [
        json.dumps(
            {"id": str(n), "user": {"email": f"user{n}@example.com"}, "items": [item], "total": 9.5, "createdAt": n}
        ).encode()
        for n in range(calls)
    ]


def http_client(url: str, sent: Sequence[bytes]) -> Callable[[], int]:
    """The standard library's client, which is the least that Python needs."""
    connection = HTTPConnection(urlsplit(url).netloc)

    def send(body: bytes) -> bool:
        connection.request("POST", PATH, body, HEADERS)
        response = connection.getresponse()
        response.read()
        return response.status == 200

    return lambda: sum(map(send, sent))


def urllib3(url: str, sent: Sequence[bytes]) -> Callable[[], int]:
    """A pool of urllib3, without retries."""
    from urllib3 import connection_from_url

    pool = connection_from_url(url, retries=False)
    return lambda: sum(pool.request("POST", PATH, body=body, headers=HEADERS).status == 200 for body in sent)


def requests_session(url: str, sent: Sequence[bytes]) -> Callable[[], int]:
    """A session of requests."""
    import requests

    session = requests.Session()
    session.headers.update(HEADERS)
    return lambda: sum(session.post(url + PATH, data=body, timeout=60).status_code == 200 for body in sent)


def batches(sent: Sequence[bytes]) -> list[Any]:
    """Return purchases as the engine packs them."""
    from airflow_provider_iterable.api.endpoints import track_purchase
    from airflow_provider_iterable.engine.reasons import Kind
    from airflow_provider_iterable.engine.vocabulary import Batch, Entry, Operation

    call = replace(track_purchase(), rate=UNPACED)
    entry = Entry(b"123456789012")
    return [
        Batch(call, [Operation(str(n), Kind.ADDED, call, body, (("id", str(n)),), entry)])
        for n, body in enumerate(sent)
    ]


def client(url: str, sent: Sequence[bytes]) -> Callable[[], int]:
    """The provider's client, in the thread that asks it."""
    from airflow_provider_iterable.api.client import Client

    made, packed = Client(url, "benchmark"), batches(sent)
    return lambda: sum(made.send(batch).status == 200 for batch in packed)


def counted(url: str, sent: Sequence[bytes]) -> Callable[[], int]:
    """The same with each call counted, as an operator does, and no log."""
    run = logged(url, sent)
    logging.getLogger("airflow_provider_iterable").setLevel(logging.WARNING)
    return run


def logged(url: str, sent: Sequence[bytes]) -> Callable[[], int]:
    """The same with each call counted and logged, as Airflow has it by default; the log goes into a file."""
    from airflow_provider_iterable.api.client import Client
    from airflow_provider_iterable.operators.summary import CallCounts

    made, packed = Client(url, "benchmark", on_call=CallCounts().note), batches(sent)
    return lambda: sum(made.send(batch).status == 200 for batch in packed)


def delivery(url: str, sent: Sequence[bytes]) -> Callable[[], int]:
    """The engine on top of that: packed, sent by a few threads, judged, and committed to nothing."""
    from airflow_provider_iterable.api.client import Client
    from airflow_provider_iterable.engine.deliver import Delivery
    from airflow_provider_iterable.engine.vocabulary import Accepted
    from airflow_provider_iterable.operators.summary import CallCounts

    operations = [batch.operations[0] for batch in batches(sent)]
    made = Client(url, "benchmark", on_call=CallCounts().note)
    run = Delivery(made.send, lambda *patch: None)
    return lambda: sum(
        len(settled.operations) if isinstance(settled, Accepted) else 0 for settled in run.run([operations])
    )


WAYS: dict[str, tuple[str, Callable[[str, Sequence[bytes]], Callable[[], int]]]] = {
    "http.client": ("http.client, bare", http_client),
    "urllib3": ("urllib3, bare", urllib3),
    "requests": ("requests.Session, bare", requests_session),
    "client": ("Client.send", client),
    "counted": ("Client.send, counted", counted),
    "logged": ("Client.send, counted and logged", logged),
    "delivery": ("Delivery, counted and logged", delivery),
}
BESIDE = "requests"


def work(way: str, url: str, calls: int) -> dict[str, Any]:
    """Make the calls in one way."""
    sent = bodies(calls)
    run = WAYS[way][1](url, sent)

    def made() -> dict[str, Any]:
        accepted = run()
        if accepted != calls:
            raise RuntimeError(f"{accepted} of {calls} calls were answered with 200")
        return {}

    return used(made)


def main() -> None:
    """Run each way and print a table; with ``--phase``, one."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.calls", description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print the lines as JSON instead")
    parser.add_argument("--phase", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.phase:
        way, url, calls = given.phase
        print(json.dumps(work(way, url, int(calls))))
        return
    best: dict[str, dict[str, Any]] = {}
    with stub() as server:
        for _ in range(given.times):
            for way in WAYS:
                told = phase("calls", [way, server.url, str(given.calls)], dict(os.environ))
                best[way] = min(told, best.get(way, told), key=lambda figures: figures["cpu"])
    if not given.json:
        print(f"{given.calls:,} calls of one record, no rate, best of {given.times}, {os.cpu_count()} cores")
        print(f"{'way':<31} {'calls/s':>8} {'CPU ms each':>11} {'CPU s per million':>17} {'x requests':>10}")
    for way, (words, _) in WAYS.items():
        wall, cpu = best[way]["wall"] / given.calls, best[way]["cpu"] / given.calls
        ratio = best[way]["cpu"] / best[BESIDE]["cpu"]
        if given.json:
            print(json.dumps({"way": way, "wall": wall, "cpu": cpu, "ratio": ratio}))
        else:
            print(f"{words:<31} {1 / wall:8,.0f} {cpu * 1000:11.3f} {cpu * 1e6:17,.0f} {ratio:10.2f}")


if __name__ == "__main__":
    main()
