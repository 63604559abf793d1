from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from airflow_provider_iterable.api.client import CallLog
from airflow_provider_iterable.engine.vocabulary import Request
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks import connection, form
from airflow_provider_iterable.hooks.iterable import IterableHook
from tests.api.test_project import NOT_ENABLED
from tests.services import Answer, Answering, answering

KEY = "0123456789abcdef0123456789abcdef"
PURCHASE = "POST /api/commerce/trackPurchase"
Connect = Callable[..., IterableHook]


@pytest.fixture
def server() -> Iterator[Answering]:
    """Serve queued answers on the loopback address."""
    with answering() as state:
        yield state


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Make an Airflow connection of these fields, and return its hook."""

    def connect(extra: dict[str, Any] | None = None, **fields: Any) -> IterableHook:
        connection = {"conn_type": "iterable", "password": KEY, "extra": extra or {}, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(connection))
        return IterableHook()

    return connect


def test_a_key_is_all_a_connection_needs(connect: Connect) -> None:
    """Everything else has a default that is safe for any project."""
    hook = connect()
    assert hook.host == "https://api.iterable.com"
    assert (hook.data_center, hook.project_type, hook.update_only, hook.rate_share) == ("us", None, False, 1.0)
    assert repr(hook.get_conn()) == "Client(api.iterable.com)"


def test_settings_are_read_from_extra(connect: Connect) -> None:
    """Data centre, project type, switch and share are the connection's."""
    hook = connect({"data_center": "eu", "project_type": "hybrid", "update_only": True, "rate_share": 0.25})
    assert hook.host == "https://api.eu.iterable.com"
    assert (hook.project_type, hook.update_only, hook.rate_share) == ("hybrid", True, 0.25)
    assert (hook.project, connect({"project": " production "}).project) == ("", "production")


@pytest.mark.parametrize("form", [dict, json.dumps])
def test_links_are_an_object_or_the_text_of_one(connect: Connect, form: Callable[[Any], Any]) -> None:
    """Each may be left out, and need not have a place to fill."""
    links = {"list": "https://app.example.com/{list_id}", "catalog": "http://app.example.com/all"}
    assert (connect({"links": form(links)}).links, connect().links) == (links, {})


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ([5], "links must be an object with addresses of project, list and catalog"),
        ("https://app.example.com", "links must be an object with addresses of project, list and catalog"),
        ({"user": "https://app.example.com"}, "links must be an object with addresses of project, list and catalog"),
        ({"project": "javascript:alert(1)"}, "the link project must be an http"),
        ({"project": 5}, "the link project must be an http"),
        ({"project": "https://app.example.com/{list_id}"}, "the link project must be an http"),
        ({"list": "https://app.example.com/{id}"}, "the link list must be an http"),
        ({"list": None}, "the link list must be an http"),
        ({"catalog": "https://app.example.com/ {catalog}"}, "the link catalog must be an http"),
    ],
)
def test_links_that_lead_nowhere_are_told_by_the_test(connect: Connect, links: Any, message: str) -> None:
    """A sync does without them, so a client is made all the same."""
    hook = connect({"links": links})
    hook.get_conn()
    good, words = hook.test_connection()
    assert (good, message in words) == (False, True)


@pytest.mark.parametrize("form", [dict, json.dumps])
def test_rates_are_an_object_or_the_text_of_one(connect: Connect, form: Callable[[Any], Any]) -> None:
    """As an environment or a form has it; requests in flight likewise."""
    hook = connect({"rates": form({PURCHASE: 12.5}), "max_in_flight": "9"})
    assert (hook.rates, hook.max_in_flight) == ({PURCHASE: 12.5}, 9)
    assert (connect().rates, connect().max_in_flight) == ({}, 64)
    assert (hook.get_conn().max_in_flight, hook.get_conn(max_in_flight=3).max_in_flight) == (9, 3)


def test_forms_and_environments_write_text(connect: Connect) -> None:
    """Empty fields are unset, and texts stand for the values they spell."""
    hook = connect({"data_center": "", "project_type": None, "update_only": "True", "rate_share": "0.5"})
    assert (hook.data_center, hook.project_type, hook.update_only, hook.rate_share) == ("us", None, True, 0.5)


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ({"host": "http://127.0.0.1:8080"}, "http://127.0.0.1:8080"),
        ({"host": "127.0.0.1", "port": 8080}, "http://127.0.0.1:8080"),
        ({"host": "http://127.0.0.1:8080", "port": 0}, "http://127.0.0.1:8080"),
        ({"host": "api.eu.iterable.com", "port": 0}, "https://api.eu.iterable.com"),
        ({"host": "", "port": 0}, "https://api.iterable.com"),
        ({"host": "", "port": 443}, "https://api.iterable.com"),
        ({"host": "localhost:8080"}, "http://localhost:8080"),
        ({"host": "127.0.0.1", "schema": "https", "port": 1}, "https://127.0.0.1:1"),
        ({"host": "http://[::1]", "port": 8080}, "http://[::1]:8080"),
        ({"host": "http://[::1]:80", "port": 8080}, "http://[::1]:80"),
        ({"host": "api.eu.iterable.com"}, "https://api.eu.iterable.com"),
        ({"host": "https://api.iterable.com/"}, "https://api.iterable.com"),
        ({"host": "https://api.iterable.com/api/"}, "https://api.iterable.com"),
        ({"host": "https://proxy.example.com/iterable/"}, "https://proxy.example.com/iterable"),
        ({"host": "http://proxy", "extra": {"allow_http": True}}, "http://proxy"),
    ],
)
def test_the_connections_host_replaces_the_data_centres(connect: Connect, fields: dict[str, Any], host: str) -> None:
    """A URL, or a name with schema and port, leads to the sandbox or a proxy."""
    assert connect(**fields).host == host


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"password": None}, "has no API key"),
        ({"password": "  "}, "has no API key"),
        ({"password": "a b"}, "API key is empty or holds blanks"),
        ({"extra": {"data_center": "asia"}}, "data_center must be one of us, eu, not 'asia'"),
        ({"extra": {"project_type": "mail"}}, "project_type must be one of email, user_id, hybrid, not 'mail'"),
        ({"extra": {"data_center": "eu", "project_type": "email"}}, "no email-based projects"),
        ({"extra": {"rate_share": 0}}, "rate_share must be a number above 0 and at most 1, not 0"),
        ({"extra": {"rate_share": 1.5}}, "rate_share must be a number above 0 and at most 1, not 1.5"),
        ({"extra": {"rate_share": "half"}}, "rate_share must be a number above 0 and at most 1, not 'half'"),
        ({"extra": {"rate_share": True}}, "rate_share must be a number above 0 and at most 1, not True"),
        ({"extra": {"rates": [5]}}, "rates must be an object of requests per second by endpoint"),
        ({"extra": {"rates": "5"}}, "rates must be an object of requests per second by endpoint"),
        ({"extra": {"rates": {"POST /api/users/update": 5}}}, "rates names 'POST /api/users/update', which is none of"),
        ({"extra": {"rates": {PURCHASE: 0}}}, f"the rate of {PURCHASE} must be a number above 0, not 0"),
        ({"extra": {"rates": {PURCHASE: "5"}}}, f"the rate of {PURCHASE} must be a number above 0, not '5'"),
        ({"extra": {"shared_pace": "machine"}}, "shared_pace must be true or false, not 'machine'"),
        ({"extra": {"max_in_flight": 0}}, "max_in_flight must be a number from 1 to 1000, not 0"),
        ({"extra": {"max_in_flight": 2.5}}, "max_in_flight must be a number from 1 to 1000, not 2.5"),
        ({"extra": {"max_in_flight": True}}, "max_in_flight must be a number from 1 to 1000, not True"),
        ({"extra": {"project": 7}}, "project must be a text of at most 100 characters"),
        ({"extra": {"project": "x" * 101}}, "project must be a text of at most 100 characters"),
        ({"extra": {"update_only": "maybe"}}, "update_only must be true or false, not 'maybe'"),
        ({"host": "http://api.iterable.com"}, "would carry the API key unencrypted"),
        ({"host": "ftp://api.iterable.com"}, "the host must be a name or a URL"),
        ({"host": "http://[::1"}, "the host must be a name or a URL"),
        ({"host": "https://api.iterable.com:secret"}, "the host must be a name or a URL"),
        ({"host": "https://me:secret@api.iterable.com"}, "the host must be a name or a URL"),
        ({"host": "https://api.iterable.com?key=secret"}, "the host must be a name or a URL"),
    ],
)
def test_nonsense_is_refused_before_any_call(connect: Connect, fields: dict[str, Any], message: str) -> None:
    """The error names the setting, and the test button shows the same words."""
    hook = connect(**fields)
    with pytest.raises(ConfigurationError, match=message) as caught:
        hook.get_conn()
    assert "secret" not in str(caught.value)
    assert hook.test_connection() == (False, str(caught.value))


def test_the_client_has_the_key_and_the_callback(connect: Connect, server: Answering) -> None:
    """What the hook returns is ready to call Iterable, and to tell about it."""
    heard: list[CallLog] = []
    with connect(host=server.url).get_conn(on_call=heard.append) as client:
        assert client.request(Request("GET", "/api/lists", "/api/lists"), 0).status == 200
    assert server.history[0].headers["api-key"] == KEY
    assert [entry.template for entry in heard] == ["/api/lists"]


def test_settings_that_mean_nothing_are_warned_about(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """Once, and by their names alone: a slip would otherwise change nothing, and nobody would know."""
    hook = connect({"rate_shar": 0.5, "api_key": "a-secret", "ada@example.com": 1, "data_center": "us"})
    hook.get_conn()
    hook.get_conn()
    (line,) = [line for line in caplog.messages if "mean nothing here" in line]
    assert line.endswith("ad***@ex***, api_key, rate_shar (meant: rate_share?)")
    assert "a-secret" not in caplog.text
    assert "0.5" not in caplog.text


def test_settings_that_are_known_are_not(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """Neither those of the form, nor the one that is not in it, nor those of forms that send null."""
    connect({**dict.fromkeys(form.SETTINGS), "allow_http": True}).get_conn()
    assert "mean nothing" not in caplog.text


def test_many_settings_are_counted() -> None:
    """As when somebody pasted another service's extra."""
    assert form.unknown([f"x{number:02}" for number in range(13)]).endswith("x09 and 3 more")
    assert form.unknown(["y" * 500]) == "y" * 50


def test_the_key_is_masked(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the connection has Airflow hide its key in logs."""
    masked: list[str] = []
    monkeypatch.setattr(connection, "_mask", masked.append)
    hook = connect()
    hook.get_conn()
    hook.get_conn()
    assert masked == [KEY]


def test_airflow_hides_what_is_masked(connect: Connect) -> None:
    """The masking reaches Airflow's own redaction, on this version of it."""
    from airflow.providers.common.compat.sdk import redact

    hook = connect(password="a-key-that-no-other-test-has")
    hook.get_conn()
    assert "no-other-test" not in str(redact("key: a-key-that-no-other-test-has"))


@pytest.mark.parametrize("conn_type", ["postgres", "http", "snowflake", "aws"])
def test_a_connection_of_another_service_is_refused(
    monkeypatch: pytest.MonkeyPatch, server: Answering, conn_type: str
) -> None:
    """Its password is no API key, and goes nowhere."""
    connection = {"conn_type": conn_type, "password": "of-another-service", "host": server.url}
    monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(connection))
    with pytest.raises(ConfigurationError, match=f"is of type '{conn_type}'.* no API key of Iterable") as caught:
        IterableHook().get_conn()
    assert "of-another-service" not in str(caught.value)
    good, message = IterableHook().test_connection()
    assert (good, message) == (False, str(caught.value))
    assert server.history == []


@pytest.mark.parametrize(
    "uri",
    ["iterable://:key@", "generic://:key@", '{"password": "key"}', '{"conn_type": "iterable", "password": "key"}'],
)
def test_a_connection_that_names_no_service_may_be_iterables(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    """Nothing is known against it."""
    monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", uri)
    assert IterableHook().api_key == "key"


def test_a_good_connection_says_where_it_leads(connect: Connect, server: Answering) -> None:
    """The test calls a harmless endpoint that any server-side key may read."""
    server.answers.append(Answer(200, b'{"channels":[]}'))
    good, message = connect({"project_type": "hybrid"}, host=server.url).test_connection()
    assert (good, message) == (True, f"Connected to {server.url.removeprefix('http://')}.")
    assert (server.history[0].method, server.history[0].path) == ("GET", "/api/channels")


def test_a_good_connection_says_what_a_project_type_would_gain(connect: Connect, server: Answering) -> None:
    """The project type is optional, and worth setting."""
    server.answers.append(Answer(200, b'{"channels":[]}'))
    good, message = connect(host=server.url).test_connection()
    assert good
    assert "project type is not set" in message


def test_a_good_connection_says_which_settings_mean_nothing(connect: Connect, server: Answering) -> None:
    """Whoever presses the button has just written them."""
    server.answers.append(Answer(200, b'{"channels":[]}'))
    _, message = connect({"project_type": "email", "rateshare": "a-secret"}, host=server.url).test_connection()
    assert message.endswith("Its extra has settings that mean nothing here: rateshare (meant: rate_share?).")


DISABLED = b'{"msg":"Disabled API key or insufficient privileges","code":"BadApiKey","params":{"apiKeyType":"x"}}'


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(401, b'{"msg":"Invalid API key","code":"BadApiKey","params":{"ip":"1.2.3.4"}}'), "data centre"),
        (Answer(401, b'{"msg":"","code":"Success"}'), "does not know the API key"),
        (Answer(401, DISABLED), "lacks privileges"),
        (Answer(403, b'{"msg":"ada@example.com","code":"Forbidden"}'), "lacks privileges"),
        (
            Answer(404, b"<!DOCTYPE html><title>Action not found</title>"),
            "is not Iterable's API: it answers with a web page",
        ),
        (Answer(404, NOT_ENABLED), "has not enabled GET /api/channels for this project"),
        (Answer(200, b"\n<html>Log in</html>"), "a web page"),
        (Answer(200, b'{"ok":true}'), "is not Iterable's API"),
        (Answer(302), "is not Iterable's API"),
        (Answer(429, b"slow down"), "limiting this project's requests"),
        (Answer(503, b'{"code":"GenericError"}'), "an error of its own (503 GenericError)"),
        (Answer(dropped=True), "cannot be reached: nothing listens there"),
    ],
)
def test_a_bad_connection_says_what_to_do(connect: Connect, server: Answering, answer: Answer, words: str) -> None:
    """Each failure is told in words a person can act on, with neither the key nor Iterable's own text."""
    server.answers.append(answer)
    good, message = connect(host=server.url).test_connection()
    assert not good
    assert words in message
    assert KEY not in message
    assert "ada" not in message


def test_the_hook_is_registered_by_its_names() -> None:
    """Airflow finds the connection's ID by these class attributes."""
    assert IterableHook(iterable_conn_id="other").iterable_conn_id == "other"
    assert IterableHook.conn_name_attr == "iterable_conn_id"
    assert IterableHook().iterable_conn_id == IterableHook.default_conn_name == "iterable_default"
    assert (IterableHook.conn_type, IterableHook.hook_name) == ("iterable", "Iterable")


if find_spec("flask_appbuilder"):  # Airflow 2 brings it

    def test_the_old_form_has_the_same_fields() -> None:
        """Before Airflow 3.2 the hook draws the form."""
        assert list(IterableHook.get_connection_form_widgets()) == [
            "data_center",
            "project_type",
            "rate_share",
            "rates",
            "max_in_flight",
            "shared_pace",
            "update_only",
            "project",
            "links",
        ]
