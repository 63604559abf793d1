from __future__ import annotations

import itertools
import json
import time as real
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_iterable.api import project
from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.errors import Halted, WorthRetrying
from tests.api.conftest import KEY, Time
from tests.services import Answer, Answering


def test_fields_are_names_and_types(server: Answering, client: Client) -> None:
    """The project's fields come as a plain dict; what is no text is left out."""
    server.answers.append(Answer(200, b'{"fields":{"email":"string","a.b":"long","odd":null}}'))
    assert project.get_fields(client) == {"email": "string", "a.b": "long"}
    assert (server.history[0].method, server.history[0].path) == ("GET", "/api/users/getFields")


def test_fields_are_waited_for_when_others_read_them_too(server: Answering, client: Client, time: Time) -> None:
    """Three calls a second are few for several tasks, so 429 is no reason to do without types."""
    server.answers += [Answer(429), Answer(429), Answer(200, b'{"fields":{"email":"string"}}')]
    assert project.get_fields(client) == {"email": "string"}
    assert time.sleeps == [1.0, 2.0]


CATALOG_TYPES = {"name": "string", "price": "double"}


@pytest.mark.parametrize(
    "body",
    [
        {"definedMappings": {**CATALOG_TYPES, "odd": None}, "undefinedFields": ["size"]},
        {"msg": "", "code": "Success", "params": {"definedMappings": CATALOG_TYPES, "undefinedFields": []}},
    ],
    ids=["bare", "wrapped"],
)
def test_types_of_a_catalog(server: Answering, client: Client, body: dict[str, Any]) -> None:
    """Documented bare and seen in an envelope; the catalog's name is quoted in the path."""
    server.answers.append(Answer(200, json.dumps(body).encode()))
    assert project.get_catalog_types(client, "a/b") == CATALOG_TYPES
    assert server.history[0].path == "/api/catalogs/a%2Fb/fieldMappings"


def test_a_catalog_that_is_not_created(server: Answering, client: Client) -> None:
    """Of a refusal that is not the key's it is only told what it was: the catalog may be there."""
    server.answers.append(Answer(400, b'{"msg":"x","code":"BadParams","params":null}'))
    assert project.create_catalog(client, "shop") == "400 BadParams"


CALLS: dict[str, Callable[[Client], Any]] = {
    "GET /api/users/getFields": lambda client: project.get_fields(client),
    "GET /api/lists": lambda client: project.get_lists(client, "members"),
    "POST /api/lists": lambda client: project.create_list(client, "members"),
    "GET /api/catalogs/{name}/fieldMappings": lambda client: project.get_catalog_types(client, "shop"),
    "POST /api/catalogs/{name}": lambda client: project.create_catalog(client, "shop"),
    "PUT /api/catalogs/{name}/fieldMappings": lambda client: project.set_catalog_types(client, "shop", {"a": "long"}),
}
NOT_ENABLED = b'{"msg":"Endpoint not found for project: 2158","code":"NotFound","params":null}'


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(401, b'{"msg":"ada@example.com","code":"BadApiKey"}'), "refused the API key (HTTP 401 BadApiKey)"),
        (Answer(401, b'{"msg":"","code":"Success"}'), "refused the API key (HTTP 401)"),
        (Answer(403, b'{"msg":"x","code":"Forbidden","params":null}'), "refused the API key (HTTP 403 Forbidden)"),
        (Answer(404, NOT_ENABLED), "has not enabled {call} for this project (HTTP 404 NotFound)"),
        (Answer(404, b"<html>nothing</html>"), "{call} is not there (HTTP 404): check the connection's host"),
        (Answer(302), "{call} is not there (HTTP 302): check the connection's host"),
    ],
    ids=["401", "401 Success", "403", "404 not enabled", "404 page", "302"],
)
def test_the_first_refusal_ends_the_run(
    server: Answering, client: Client, call: str, answer: Answer, words: str
) -> None:
    """Whatever call meets it: one request, and an error that a retry cannot mend."""
    server.answers.append(answer)
    with pytest.raises(Halted) as caught:
        CALLS[call](client)
    assert words.format(call=call) in str(caught.value)
    assert "No row was sent." in str(caught.value)
    assert "ada" not in str(caught.value)
    assert len(server.history) == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(500, b'{"msg":"ada@example.com","code":"GenericError","params":null}'), "500 GenericError"),
        (Answer(200, b"<html>"), "200"),
        (Answer(dropped=True), "no answer .ConnectionError."),
    ],
)
def test_fields_that_do_not_come_are_an_error(server: Answering, client: Client, answer: Answer, message: str) -> None:
    """The error names status and code, and none of Iterable's own text."""
    server.answers.append(answer)
    with pytest.raises(WorthRetrying, match=message) as caught:
        project.get_fields(client)
    assert "ada" not in str(caught.value)


@pytest.mark.parametrize(
    ("enough", "tries", "result", "waits"),
    [(1, 5, 1, []), (4, 5, 4, [1.0, 2.0, 4.0]), (9, 5, 5, [1.0, 2.0, 4.0, 8.0]), (9, 1, 1, [])],
)
def test_work_is_tried_until_it_will_do(
    client: Client, time: Time, enough: int, tries: int, result: int, waits: list[float]
) -> None:
    """Waits double; the last result is returned, whether or not it will do."""
    numbers = itertools.count(1)
    assert project.tried(client, lambda: next(numbers), lambda number: number >= enough, tries) == result
    assert time.sleeps == waits


def test_an_error_is_not_tried_again(client: Client, time: Time) -> None:
    """It comes as it was raised, at once."""

    def fail() -> None:
        raise Halted("refused")

    with pytest.raises(Halted, match="refused"):
        project.tried(client, fail, bool)
    assert time.sleeps == []


def test_a_client_that_is_stopped_waits_for_nothing(server: Answering) -> None:
    """Neither for its turn nor between tries, and it sends nothing."""
    with Client(server.url, KEY) as client:
        client.stop()
        began = real.monotonic()
        with pytest.raises(WorthRetrying, match=r"no answer \(Stopped\)"):
            project.get_lists(client, "members")
    assert real.monotonic() - began < 0.9
    assert server.history == []


CHANNELS = b'{"channels":[{"id":9,"name":"b"},{"id":7},{"name":"without"},8]}'


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([Answer(200, CHANNELS)], [7, 9]),
        ([Answer(503), Answer(429), Answer(dropped=True), Answer(200, b"<html>"), Answer(200, CHANNELS)], [7, 9]),
        ([Answer(200, b'{"channels":[]}')], []),
        ([Answer(403, b'{"msg":"","code":"Forbidden","params":null}')], []),
        ([Answer(403, b"")], []),
        ([Answer(404, NOT_ENABLED)], []),
    ],
)
def test_channels_are_numbers(server: Answering, client: Client, answers: list[Answer], found: list[int]) -> None:
    """They are asked for until there is a usable answer; a key that may not read them finds none."""
    server.answers.extend(answers)
    assert project.get_channels(client) == found
    assert len(server.history) == len(answers)


@pytest.mark.parametrize(
    ("answer", "tries", "kind", "words"),
    [
        (Answer(401, b'{"msg":"ada@example.com","code":"BadApiKey"}'), 1, Halted, "refused the API key .401 BadApiKey"),
        (Answer(404, b"<html>ada@example.com"), 1, Halted, "GET /api/channels is not there"),
        (Answer(404, b'{"message":"no Route matched with those values"}'), 1, Halted, "GET /api/channels is not there"),
        (Answer(403, b"<html>ada@example.com"), 1, Halted, "not in Iterable's way"),
        (Answer(302), 1, Halted, "GET /api/channels is not there"),
        (Answer(400, b"<html>ada@example.com"), 1, WorthRetrying, "did not return the project's channels: 400"),
        (Answer(503, b'{"msg":"ada@example.com"}'), 5, WorthRetrying, "did not return the project's channels: 503"),
        (Answer(503), 1, WorthRetrying, "503"),
    ],
)
def test_channels_that_do_not_come_are_an_error(
    server: Answering,
    client: Client,
    answer: Answer,
    tries: int,
    kind: type[Exception],
    words: str,
) -> None:
    """A key that is refused is told at once; nothing of Iterable's own text is shown."""
    server.answers.extend([answer] * tries)
    with pytest.raises(kind, match=words) as caught:
        project.get_channels(client, tries=tries)
    assert client.host in str(caught.value)
    assert "ada" not in str(caught.value)
    assert len(server.history) == tries
