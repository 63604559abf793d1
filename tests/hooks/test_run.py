"""What DAG authors ask by the hook, of the sandbox."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_iterable.errors import ConfigurationError, RequestRefused
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.sandbox import Sandbox
from tests.services import Answer, answering

KEY = "0123456789abcdef0123456789abcdef"
ADA = "ada@example.com"


def connected(monkeypatch: pytest.MonkeyPatch, host: str) -> IterableHook:
    """Return the hook of a connection to a host."""
    connection = {"conn_type": "iterable", "password": KEY, "host": host, "extra": {"shared_pace": False}}
    monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(connection))
    return IterableHook()


@pytest.fixture(params=["email", "hybrid"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A local Iterable without rates."""
    with Sandbox(request.param, rates=False) as sandbox:
        yield sandbox


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> IterableHook:
    """The connection to it."""
    return connected(monkeypatch, sandbox.url)


def test_a_request_of_the_authors_own(hook: IterableHook, sandbox: Sandbox) -> None:
    """Is one line, and returns what Iterable answers."""
    body = {"email": ADA, "dataFields": {"tier": "gold"}}
    assert hook.run("POST", "/api/users/update", json=body)["code"] == "Success"
    found = hook.run("GET", "/api/users/getByEmail", params={"email": ADA})
    assert found["user"]["dataFields"]["tier"] == "gold"
    assert hook.run("GET", f"/api/users/getByEmail?email={ADA}") == found
    assert hook.run("DELETE", f"/api/users/{ADA}")["code"] == "Success"
    assert len(sandbox.users) == 0


def test_logs_name_nobody(hook: IterableHook, caplog: pytest.LogCaptureFixture) -> None:
    """They have the endpoint, the answer and the time."""
    with caplog.at_level(logging.DEBUG):
        hook.run("GET", "/api/users/zoey@example.com")
        with pytest.raises(RequestRefused) as failed:
            hook.run("GET", "/api/users/getByEmail", params={"email": "no address of zoey"})
    lines = [line for line in caplog.messages if line.startswith("GET ")]
    assert [line.partition(",")[0] for line in lines] == [
        "GET /api/users/{email}: 200",
        "GET /api/users/getByEmail: 400 InvalidEmailAddressError",
    ]
    for text in (*caplog.messages, repr(failed.value)):
        assert "zoey" not in text  # which no hexadecimal number of a request holds
        assert KEY not in text


def test_lists_and_their_sizes(hook: IterableHook) -> None:
    """By name and by ID."""
    number = hook.run("POST", "/api/lists", json={"name": "VIP"})["listId"]
    members = [{"email": ADA}, {"email": "bob@example.com"}]
    hook.run("POST", "/api/lists/subscribe", json={"listId": number, "subscribers": members})
    assert hook.lists() == [{"id": number, "name": "VIP", "type": "Standard"}]
    assert (hook.list_id("VIP"), hook.list_id(" VIP "), hook.list_id("vip")) == (number, number, None)
    assert hook.list_size(number) == 2
    twin = hook.run("POST", "/api/lists", json={"name": "VIP"})["listId"]
    with pytest.raises(ConfigurationError, match=f"'VIP': {number}, {twin}"):
        hook.list_id("VIP")


def test_users(hook: IterableHook, sandbox: Sandbox) -> None:
    """By either identifier, whichever way Iterable says that there is nobody."""
    user = {"email": ADA, "userId": "u-1"} if sandbox.project.type == "hybrid" else {"email": ADA}
    hook.run("POST", "/api/users/update", json={**user, "dataFields": {"userId": "u-1"}})
    assert (hook.user_exists(email=ADA), hook.user_exists(email="bob@example.com")) == (True, False)
    assert (hook.user_exists(user_id="u-1"), hook.user_exists(user_id="u-2")) == (True, False)
    for both in ({}, {"email": ADA, "user_id": "u-1"}):
        with pytest.raises(ConfigurationError, match="one of the two"):
            hook.user_exists(**both)


@pytest.mark.parametrize("body", [b"[]", b'{"ok":true}', b"null", b""])
def test_half_an_answer_is_no_answer(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """It says neither that somebody exists nor that nobody does; likewise of lists, and of all others."""
    with answering() as server:
        hook = connected(monkeypatch, server.url)
        questions: list[Any] = [hook.lists, hook.catalogs, hook.channels, hook.message_types, hook.field_types]
        for question in (*questions, lambda: hook.user_exists(email=ADA), lambda: hook.list_size(7)):
            server.answers.append(Answer(200, body))
            with pytest.raises(RequestRefused, match="something else than what Iterable documents"):
                question()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"{}"),
        Answer(400, b"No user with that id exists!"),
        Answer(500, b'{"msg":"","code":"error.users.noUserWithIdExists","params":null}'),
    ],
)
def test_nobody_has_a_user_id(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    """Iterable was seen to say so in three ways."""
    with answering() as server:
        server.answers.append(answer)
        assert connected(monkeypatch, server.url).user_exists(user_id="u-1") is False
        assert len(server.history) == 1


@pytest.mark.parametrize("count", [0, 1, 100, 101, 230])
def test_all_catalogs_are_named(hook: IterableHook, sandbox: Sandbox, count: int) -> None:
    """However many pages they take."""
    names = [f"shop-{number}" for number in range(count)]
    for name in names:
        sandbox.project.catalogs.create(name)
    assert sorted(hook.catalogs()) == sorted(names)


def test_catalogs_without_a_total_are_asked_for_to_the_last_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names were texts once, and the answer bare."""
    with answering() as server:
        full = json.dumps({"catalogNames": [f"c{number}" for number in range(100)]}).encode()
        server.answers += [Answer(200, full), Answer(200, b'{"catalogNames":[{"name":"last"}]}')]
        assert connected(monkeypatch, server.url).catalogs()[-1] == "last"


def test_channels_message_types_and_fields(hook: IterableHook) -> None:
    """In plain dictionaries, which can be returned from a task."""
    hook.run("POST", "/api/users/update", json={"email": ADA, "dataFields": {"age": 7, "pet": {"name": "x"}}})
    fields = hook.field_types()
    assert (fields["age"], fields["pet.name"]) == ("long", "string")
    channels, kinds = hook.channels(), hook.message_types()
    assert channels
    assert kinds
    assert {kind["channel_id"] for kind in kinds} <= {channel["id"] for channel in channels}
    assert json.loads(json.dumps([channels, kinds, fields])) == [channels, kinds, fields]


def test_the_pace_is_kept_from_one_request_to_the_next(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """The hook has one client for all of them, and closes it when nobody needs it any more."""
    hook = connected(monkeypatch, sandbox.url)
    hook.run("GET", "/api/lists")
    client = hook._client
    hook.lists()
    assert hook._client is client
    assert not client._stopped.is_set()
    del hook
    gc.collect()
    assert client._stopped.is_set()


def test_a_client_of_its_own_is_not_touched(hook: IterableHook) -> None:
    """``get_conn`` gives a new one to whoever closes it."""
    with hook.get_conn() as own:
        assert own is not hook._client
    assert hook.lists() == []
