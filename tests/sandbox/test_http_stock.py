"""Lists and catalogs over real connections, and at the size they have in practice."""

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_iterable.sandbox import Sandbox

KEY = {"Api-Key": "key"}
MANY = 100_000
BATCH = 1000


class Speaker:
    """One connection to a sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        """Connect when first asked."""
        self.sandbox = sandbox
        self.connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=30)

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Make a request and read its answer."""
        self.connection.request(method, path, None if body is None else json.dumps(body), KEY)
        response = self.connection.getresponse()
        return response.status, response.read().decode()


@pytest.fixture
def ask() -> Iterator[Speaker]:
    """A connection to a sandbox that serves."""
    with Sandbox("hybrid", rates=False) as sandbox:
        speaker = Speaker(sandbox)
        yield speaker
        speaker.connection.close()


def batches(prefix: str) -> Iterator[list[str]]:
    """Yield so many names in batches."""
    for start in range(0, MANY, BATCH):
        yield [f"{prefix}{number}" for number in range(start, start + BATCH)]


def test_a_list_over_http(ask: Speaker) -> None:
    """A list is made, filled, read as text, and deleted."""
    number = json.loads(ask("POST", "/api/lists", {"name": "VIP"})[1])["listId"]
    users = {"listId": number, "subscribers": [{"email": "a@x.io"}, {"userId": "2"}]}
    assert ask("POST", "/api/lists/subscribe", users)[0] == 200
    assert ask("GET", f"/api/lists/getUsers?listId={number}") == (200, "a@x.io\n2\n")
    assert ask("GET", f"/api/lists/{number}/size") == (200, "2")
    assert [row["members"] for row in ask.sandbox.lists] == [
        [
            {"email": "a@x.io", "userId": None, "writes": 1},
            {"email": None, "userId": "2", "writes": 1},
        ]
    ]
    assert ask("DELETE", f"/api/lists/{number}")[0] == 200
    assert ask.sandbox.lists == []


def test_a_catalog_over_http(ask: Speaker) -> None:
    """Methods with and without bodies arrive, and the statuses of accepted changes come back."""
    assert ask("POST", "/api/catalogs/shops")[0] == 201
    types = {"mappingsUpdates": [{"fieldName": "f", "fieldType": "long"}]}
    assert ask("PUT", "/api/catalogs/shops/fieldMappings", types)[0] == 200
    documents = {"documents": {"a": {"f": 1}, "b": {}}, "replaceUploadedFieldsOnly": False}
    assert ask("POST", "/api/catalogs/shops/items", documents)[0] == 202
    assert ask("PATCH", "/api/catalogs/shops/items/c", {"update": {"g": 1}})[0] == 202
    assert ask("DELETE", "/api/catalogs/shops/items", {"itemIds": ["b"]})[0] == 202
    assert ask("DELETE", "/api/catalogs/shops/items/c")[0] == 202
    [catalog] = ask.sandbox.catalogs
    assert catalog["values"] == [{"id": "a", "value": {"f": 1}, "indexed": ["f"], "writes": 1}]
    assert ask("GET", "/api/catalogs/none/items")[0] == 404


def test_a_dropped_connection_may_leave_a_twin(ask: Speaker) -> None:
    """The list is there though its ID got lost, so making it again makes two."""
    ask.sandbox.faults({"kind": "drop_after", "path": "/api/lists"})
    with pytest.raises(http.client.RemoteDisconnected):
        ask("POST", "/api/lists", {"name": "VIP"})
    assert ask("POST", "/api/lists", {"name": "VIP"})[0] == 200
    assert [row["name"] for row in ask.sandbox.lists] == ["VIP", "VIP"]


@pytest.mark.slow
def test_large_lists_go_through_quickly(ask: Speaker) -> None:
    """A list takes, tells and loses 100,000 members, and the last batch costs no more than the first."""
    number = json.loads(ask("POST", "/api/lists", {"name": "VIP"})[1])["listId"]
    took: dict[str, list[float]] = {"subscribe": [], "unsubscribe": []}
    for call, times in took.items():
        for names in batches("u"):
            subscribers = [{"email": f"{name}@x.io"} for name in names]
            began = time.perf_counter()
            status, answer = ask("POST", f"/api/lists/{call}", {"listId": number, "subscribers": subscribers})
            times.append(time.perf_counter() - began)
            assert (status, json.loads(answer)["successCount"]) == (200, BATCH)
        if call == "subscribe":
            assert ask("GET", f"/api/lists/{number}/size")[1] == str(MANY)
            assert ask("GET", f"/api/lists/getUsers?listId={number}")[1].count("\n") == MANY
    assert ask("GET", f"/api/lists/{number}/size")[1] == "0"
    for times in took.values():
        assert min(times[-20:]) < 5 * min(times[:20])
        assert sum(times) < 30


@pytest.mark.slow
def test_large_catalogs_go_through_quickly(ask: Speaker) -> None:
    """A catalog takes, shows and loses 100,000 items, and the last batch costs no more than the first."""
    ask("POST", "/api/catalogs/shops")
    times = []
    for names in batches("i"):
        documents = {name: {"name": name, "n": 1} for name in names}
        body = {"documents": documents, "replaceUploadedFieldsOnly": True}
        began = time.perf_counter()
        assert ask("POST", "/api/catalogs/shops/items", body)[0] == 202
        times.append(time.perf_counter() - began)
    seen, page, began = 0, "/api/catalogs/shops/items?pageSize=1000", time.perf_counter()
    while page:
        params = json.loads(ask("GET", page)[1])["params"]
        seen += len(params["catalogItemsWithProperties"])
        page = params.get("nextPageUrl", "")
    for names in batches("i"):
        assert ask("DELETE", "/api/catalogs/shops/items", {"itemIds": names})[0] == 202
    assert (seen, ask.sandbox.catalogs[0]["items"]) == (MANY, 0)
    assert min(times[-20:]) < 5 * min(times[:20])
    assert sum(times) + time.perf_counter() - began < 30
