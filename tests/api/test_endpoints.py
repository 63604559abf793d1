from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from urllib.parse import unquote

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.api.values import email, user_id
from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.vocabulary import Call, Entry, Operation, Request
from airflow_provider_iterable.sandbox.endpoints.routes import ROUTES, Table, query_of

BULK = endpoints.bulk_update_users()
ENDPOINTS = {name: row for name, row in vars(endpoints).items() if isinstance(row, endpoints.Endpoint)}
"""Each row of the table."""
ODD = ["a+b@x.io", "a/b@x.io", "a%2Fb@x.io", '"a b"@x.io', "ä@x.io", "a?b&c=d#e", "u 1", "u/1+2%", "50%25"]


def chain(call: Call | None) -> list[Call]:
    """Return a call and those that an operation may go on to."""
    return [] if call is None else [call, *chain(call.then)]


def operation(identifier: str, body: bytes = b"{}") -> Operation:
    """Return an operation about somebody."""
    kind = "email" if "@" in identifier else "user_id"
    return Operation("[1]", Kind.ADDED, BULK, body, ((kind, identifier),), Entry(b"fingerprint."))


@pytest.mark.parametrize(
    ("create", "update_only", "rest"),
    [
        (None, False, {}),
        (True, False, {"createNewFields": True}),
        (False, False, {"createNewFields": False}),
        (None, True, {"updateOnly": True}),
        (True, True, {"createNewFields": True, "updateOnly": True}),
    ],
)
def test_a_bulk_update_is_one_object(create: bool | None, update_only: bool, rest: dict[str, bool]) -> None:
    """The records travel as they are, options that are not said are not sent, and the envelope's size is known."""
    call = endpoints.bulk_update_users(create_new_fields=create, update_only=update_only)
    bodies = [b'{"email":"a@x.io"}', b'{"email":"b@x.io"}']
    request = call.wrap([operation("a@x.io", body) for body in bodies])
    assert (request.method, request.path, request.query) == ("POST", "/api/users/bulkUpdate", {})
    assert json.loads(request.body or b"") == {"users": [{"email": "a@x.io"}, {"email": "b@x.io"}], **rest}
    assert len(request.body or b"") <= call.envelope + sum(len(body) + 1 for body in bodies)


@pytest.mark.parametrize(
    ("make", "match", "template"),
    [
        (endpoints.delete_user, "email", "/api/users/{email}"),
        (endpoints.delete_user, "user_id", "/api/users/byUserId/{userId}"),
        (lambda match: endpoints.look_up_user(match, BULK), "email", "/api/users/getByEmail"),
        (lambda match: endpoints.look_up_user(match, BULK), "user_id", "/api/users/byUserId"),
    ],
)
def test_templates_hold_no_identifier(make: Callable[[str], Call], match: str, template: str) -> None:
    """What may be logged names the endpoint and nobody."""
    call = make(match)
    request = call.wrap([operation("ada@example.com" if match == "email" else "u-1")])
    assert request.template == call.template == template
    assert request.body is None


def reached(request: Request) -> tuple[str, str]:
    """Return the route that Iterable finds for a request, and the identifier it reads."""
    found = Table().find(request.method, request.path)
    assert found is not None
    route, variable = found
    named = {**dict(request.query), **variable}
    return route.template, str(named.get("email") or named["userId"])


@pytest.mark.parametrize("identifier", ODD)
def test_identifiers_arrive_as_they_are(identifier: str) -> None:
    """Slashes, plus signs, percents, spaces and question marks neither end a path nor change an identifier."""
    match = "email" if "@" in identifier else "user_id"
    request = endpoints.delete_user(match).wrap([operation(identifier)])
    assert reached(request) == (endpoints.delete_user(match).template, identifier)
    looked_up = endpoints.look_up_user(match, BULK).wrap([operation(identifier)])
    assert reached(looked_up)[1] == identifier


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=52))
def test_every_user_id_can_be_deleted(text: str) -> None:
    """Whatever Iterable takes as a user ID finds its way into a path and back."""
    if user_id(text) == text:
        request = endpoints.delete_user("user_id").wrap(
            [Operation("", Kind.REMOVED, None, b"", (("user_id", text),), None)]
        )
        assert reached(request) == ("/api/users/byUserId/{userId}", text)


@given(st.emails())
def test_every_address_can_be_deleted(text: str) -> None:
    """The same for addresses."""
    folded = email(text)
    if folded is not None:
        request = endpoints.delete_user("email").wrap([operation(folded)])
        assert reached(request) == ("/api/users/{email}", folded)


@pytest.mark.parametrize(
    ("make", "rest"),
    [
        (endpoints.subscribe_to_list, {}),
        (partial(endpoints.subscribe_to_list, existing_only=True), {"updateExistingUsersOnly": True}),
        (endpoints.unsubscribe_from_list, {"channelUnsubscribe": False}),
    ],
)
def test_members_travel_with_their_list(make: Callable[[endpoints.MailingList], Call], rest: dict[str, bool]) -> None:
    """The ID is looked at when the request is made, the channel is left alone, and the envelope's size is known."""
    target = endpoints.MailingList()
    call = make(target)
    bodies = [b'{"email":"a@x.io"}', b'{"email":"b@x.io"}']
    target.number = 2**63 - 1
    request = call.wrap([operation("a@x.io", body) for body in bodies])
    assert request.path == request.template == call.template
    assert json.loads(request.body or b"") == {
        "listId": 2**63 - 1,
        "subscribers": [{"email": "a@x.io"}, {"email": "b@x.io"}],
        **rest,
    }
    assert len(request.body or b"") <= call.envelope + sum(len(body) + 1 for body in bodies)


def test_look_ups_go_on_to_the_update() -> None:
    """Whoever was found is updated by the call that was named."""
    call = endpoints.look_up_user("email", BULK)
    assert call.then is BULK
    assert BULK.then is None
    assert query_of("email=a%2Bb%40x.io") == {"email": "a+b@x.io"}


def test_a_change_of_email_by_email_is_sent_only_after_a_look_up() -> None:
    """Sent again as it is, it would make a new user of the old address; the last call is a look-up again."""
    calls = [call.template for call in chain(endpoints.bulk_change_email("email"))]
    assert calls == [*["/api/users/getByEmail", "/api/users/bulkUpdate"] * 2, "/api/users/getByEmail"]


def test_the_same_endpoint_has_the_same_limits_wherever_it_is_called() -> None:
    """A change of email asks and writes through the endpoints that other syncs use, at their rates."""
    known = {BULK.template: BULK}
    for match in ("email", "user_id"):
        look_up = endpoints.look_up_user(match, BULK)
        known[look_up.template] = look_up
    for match in ("email", "user_id"):
        for call in [*chain(endpoints.update_email(match))[1:], *chain(endpoints.bulk_change_email(match))]:
            usual = known[call.template]
            assert (usual.method, usual.max_items, usual.max_bytes, usual.rate) == (
                call.method,
                call.max_items,
                call.max_bytes,
                call.rate,
            )
            assert usual.envelope == call.envelope


def test_user_ids_that_no_path_can_hold_are_known() -> None:
    """A client resolves single and double dots in a path, also encoded ones; every other ID arrives as it is."""
    for odd in (".", "..", "...", ".a", "a.", "./.", "%2E", "..%2f"):
        request = endpoints.delete_user("user_id").wrap([operation(odd)])
        sent = requests.Request("DELETE", "http://localhost" + request.path).prepare().path_url
        arrives = unquote(sent) == "/api/users/byUserId/" + odd
        assert arrives is (odd not in endpoints.UNADDRESSABLE)


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_rate_of_an_endpoint_is_that_of_iterable(name: str) -> None:
    """The sandbox, which is written apart, has the same rate for each row of the table; where it has none, it is 0."""
    endpoint = ENDPOINTS[name]
    (route,) = [one for one in ROUTES if (one.method, one.template) == (endpoint.method, endpoint.template)]
    assert endpoint.rate == (route.rate or 0)


@pytest.mark.parametrize(
    "call",
    [
        BULK,
        *(endpoints.delete_user(match) for match in ("email", "user_id")),
        endpoints.subscribe_to_list(endpoints.MailingList()),
        endpoints.unsubscribe_from_list(endpoints.MailingList()),
        endpoints.track_events(),
        endpoints.track_purchase(),
        endpoints.update_cart(),
        endpoints.forget_user(),
        endpoints.unforget_user(),
        *(endpoints.look_up_user(match, BULK) for match in ("email", "user_id")),
        endpoints.update_email("email"),
    ],
    ids=lambda call: f"{call.method} {call.template}",
)
def test_limits_are_those_of_iterable(call: Call) -> None:
    """A bulk call takes 1000 records and 4 MB, others one; the rate is that of the table."""
    (route,) = [route for route in ROUTES if (route.method, route.template) == (call.method, call.template)]
    assert call.rate == (route.rate or 0)
    assert call.max_items == (1000 if route.bulk else 1)
    assert call.max_bytes <= 4_000_000
    assert call.repeatable
