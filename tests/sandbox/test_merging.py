"""What merging two users writes and answers."""

from typing import Any

import pytest

from airflow_provider_iterable.sandbox.options import ProjectType

from .conftest import START, Client, Clock, Make, Reply
from .test_faults_and_calls import ask, last, spoil

A, B = {"email": "a@x.io"}, {"email": "b@x.io"}
SUCCESS = {"msg": "", "code": "Success", "params": None}


def merge(client: Client, **body: Any) -> Reply:
    """Merge two users."""
    return client.post("users/merge", body)


def a_into_b(client: Client, *array_merge: Any) -> Reply:
    """Merge one into the other."""
    return merge(client, sourceEmail="A@x.io", destinationEmail="B@x.io", arrayMerge=list(array_merge))


def members(client: Client) -> list[tuple[str | None, str | None]]:
    """Return the identifiers of all profiles."""
    return [(profile.email, profile.user_id) for profile in client.project.profiles]


def test_the_destination_keeps_what_it_has(make: Make, clock: Clock) -> None:
    """It gains the fields that it lacks, objects are not merged, that is a write, and the source is deleted."""
    client = make("hybrid")
    source = {"both": 1, "mine": [1], "object": {"x": 1, "y": 1}}
    client.bulk({**A, "dataFields": source}, {**B, "dataFields": {"both": 2, "object": {"x": 2}, "own": True}})
    clock.pass_(5)
    reply = a_into_b(client)
    assert (reply.status, reply.json) == (200, SUCCESS)
    [profile] = client.project.profiles
    assert (profile.writes, profile.updated, profile.created) == (2, START + 5, START)
    assert client.fields_of("b@x.io") == {"both": 2, "mine": [1], "object": {"x": 2}, "own": True}
    assert members(client) == [("b@x.io", None)]
    assert client.read("a@x.io") == {}
    assert a_into_b(client).code == "UnknownEmailError"
    assert client.bulk(A).json["successCount"] == 1


def test_events_and_purchases_go_along(make: Make) -> None:
    """Both users' are the destination's, with their IDs."""
    client = make("hybrid")
    item = {"id": "1", "name": "n", "price": 1, "quantity": 1}
    for user, name in ((A, "a"), (B, "b")):
        client.post("events/track", {**user, "eventName": "seen", "id": name})
        client.post("commerce/trackPurchase", {"user": user, "id": name, "total": 1, "items": [item]})
    assert a_into_b(client).status == 200
    events = client.get("events/b@x.io").json["events"]
    assert {(event["eventType"], event["_id"], event["email"]) for event in events} == {
        ("customEvent", "a", "b@x.io"),
        ("customEvent", "b", "b@x.io"),
        ("purchase", "a", "b@x.io"),
        ("purchase", "b", "b@x.io"),
    }
    client.post("events/track", {**B, "eventName": "seen again", "id": "a"})
    assert len(client.get("events/b@x.io").json["events"]) == 4
    client.send("DELETE", "/api/users/b@x.io")
    assert (len(client.project.events), len(client.project.purchases)) == (0, 0)


@pytest.mark.parametrize(
    ("options", "lists", "left"),
    [
        ({}, [3002, 3001], [102162]),
        ({"merge_lists": "destination"}, [3002], [102162]),
        ({"merge_subscriptions": "union"}, [3002, 3001], [102162, 102161]),
    ],
)
def test_lists_subscriptions_and_devices(make: Make, options: dict[str, Any], lists: Any, left: Any) -> None:
    """Lists of both, the destination's own subscriptions even where it has none, devices of both; two by option."""
    client = make(**options)
    for name in "ab":
        client.post("lists", {"name": name})
    phone, tablet = {"token": "p"}, {"token": "t"}
    client.bulk({**A, "dataFields": {"devices": [phone, tablet]}}, {**B, "dataFields": {"devices": [tablet]}})
    client.bulk({"email": "c@x.io"})
    subscriptions = [{**A, "emailListIds": [3001, 3002], "unsubscribedChannelIds": [102161, 102162]},
                     {**B, "emailListIds": [3002], "unsubscribedChannelIds": [102162]}]  # fmt: skip
    client.post("users/bulkUpdateSubscriptions", {"updateSubscriptionsRequests": subscriptions})
    assert a_into_b(client).status == 200
    expected = {"devices": [tablet, phone], "emailListIds": lists, "unsubscribedChannelIds": left}
    assert client.fields_of("b@x.io") == expected
    merge(client, sourceEmail="b@x.io", destinationEmail="c@x.io")
    found = client.fields_of("c@x.io")
    assert found.get("unsubscribedChannelIds") == (left if "merge_subscriptions" in options else None)
    assert found.get("emailListIds") == (None if "merge_lists" in options else lists)


@pytest.mark.parametrize(
    ("mine", "other", "dedupe_by", "joined"),
    [
        ([1, 2], [2, 3], None, [2, 3, 1]),
        ([1, 1], [2], None, [2, 1, 1]),
        (40, 41, None, [41, 40]),
        (40, 40, None, [40]),
        ([True], [1], None, [1, True]),
        ([[1, 2], [2, 1]], [[1, 2]], None, [[1, 2], [2, 1]]),
        ([{"a": 1, "b": 2}], [{"b": 2, "a": 1}], None, [{"b": 2, "a": 1}]),
        ([{"a": 1}], [{"a": 1, "b": 2}], None, [{"a": 1, "b": 2}, {"a": 1}]),
        ([{"a": 1, "b": 1}, {"a": 2}], [{"a": 1, "b": 2}], "a", [{"a": 1, "b": 2}, {"a": 2}]),
        ([{"b": 1}], [{"b": 1}, {"a": 1}], "a", [{"b": 1}, {"a": 1}, {"b": 1}]),
        ({"a": 1}, {"a": 2}, "a", [{"a": 2}, {"a": 1}]),
        ([{"a": 1}], [], "a", [{"a": 1}]),
        (None, 5, None, [5]),
        (5, None, None, [5]),
        ([{"a": 1}], None, "a", [{"a": 1}]),
    ],
)
def test_arrays_are_joined_where_that_is_asked_for(
    make: Make, mine: Any, other: Any, dedupe_by: str | None, joined: Any
) -> None:
    """The destination's elements, then the source's but those that equal one, or have the member's value in common."""
    client = make()
    client.bulk(A, B)
    for email, value in (("a@x.io", mine), ("b@x.io", other)):
        profile = client.project.profiles.with_email(email)
        assert profile is not None
        profile.fields = {} if value is None else {"f": value}
    reply = a_into_b(client, {"field": "f"} if dedupe_by is None else {"field": "f", "dedupeBy": dedupe_by})
    assert (reply.status, client.fields_of("b@x.io")) == (200, {"f": joined})


def test_an_array_that_neither_has(make: Make) -> None:
    """Is not made."""
    client = make()
    client.bulk(A, B)
    assert a_into_b(client, {"field": "f"}, {"field": "g", "dedupeBy": "x"}).status == 200
    assert client.fields_of("b@x.io") == {}


@pytest.mark.parametrize("where", ["a@x.io", "b@x.io"])
@pytest.mark.parametrize("held", [["text"], "text", [{"x": 1}, 5]])
def test_dedupe_by_needs_objects(make: Make, where: str, held: Any) -> None:
    """On either side; otherwise nothing is merged."""
    client = make()
    client.bulk({**A, "dataFields": {"g": 1}}, {**B, "dataFields": {"h": 1}})
    client.fields_of(where)["f"] = held
    reply = a_into_b(client, {"field": "g"}, {"field": "f", "dedupeBy": "x"})
    assert (reply.status, reply.code) == (400, "BadParams")
    assert client.fields_of("a@x.io").keys() - {"f"} == {"g"}
    assert client.fields_of("b@x.io").keys() - {"f"} == {"h"}


def test_iterable_s_own_arrays_are_not_for_array_merge(make: Make) -> None:
    """They refuse the merge, or are merged as ever by option."""
    for choice, status in (("refuse", 400), ("ignore", 200)):
        client = make("hybrid", merge_managed_arrays=choice, merge_lists="destination")
        client.bulk({**A, "dataFields": {"userListIds": [1]}}, {**B, "dataFields": {"userListIds": [2]}})
        assert a_into_b(client, {"field": "userListIds"}).status == status
        assert client.fields_of("b@x.io") == {"userListIds": [2]}
        assert len(members(client)) == (2 if status == 400 else 1)
        assert a_into_b(client, {"field": "devices"}).status == 400


@pytest.mark.parametrize(
    ("project_type", "names", "members_", "code"),
    [
        ("email", {"destinationEmail": "new@x.io"}, [("b@x.io", None), ("new@x.io", "1")], None),
        ("email", {"destinationUserId": "9"}, [("a@x.io", "9"), ("b@x.io", None)], None),
        ("user_id", {"destinationUserId": "9"}, [("b@x.io", "2"), ("a@x.io", "9")], None),
        ("user_id", {"destinationEmail": "new@x.io"}, None, "UnknownEmailError"),
        ("user_id", {"destinationEmail": "b@x.io"}, None, "UnknownEmailError"),
        ("hybrid", {"destinationEmail": "NEW@x.io"}, [("b@x.io", None), ("new@x.io", "1")], None),
        ("hybrid", {"destinationUserId": "9"}, [("a@x.io", "9"), ("b@x.io", None)], None),
        ("hybrid", {"destinationEmail": "foo@"}, None, "InvalidEmailAddressError"),
        ("hybrid", {"destinationUserId": "x "}, None, "InvalidUserIdError"),
    ],
)
def test_an_unknown_destination(
    make: Make, project_type: ProjectType, names: dict[str, str], members_: Any, code: str | None
) -> None:
    """The source takes its identifier and keeps all else; an email names nobody where users are known by ID."""
    client = make(project_type)
    other = {**B, "userId": "2"} if project_type == "user_id" else B
    client.bulk({**A, "userId": "1", "dataFields": {"f": 1}}, other)
    client.post("events/track", {"userId": "1", "eventName": "seen"})
    before = members(client)
    reply = merge(client, sourceUserId="1", **names)
    if code is not None:
        assert (reply.status, reply.code, members(client)) == (400, code, before)
        return
    assert (reply.json, sorted(members(client))) == (SUCCESS, sorted(members_))
    kept = next(profile for profile in client.project.profiles if profile.fields == {"f": 1})
    assert (len(client.project.events.of(kept)), kept.writes) == (1, 2)


@pytest.mark.parametrize(
    ("project_type", "source", "code"),
    [
        ("email", {"sourceEmail": "z@x.io"}, "UnknownEmailError"),
        ("email", {"sourceUserId": "9"}, "UnknownUserIdError"),
        ("user_id", {"sourceUserId": "9"}, "UnknownUserIdError"),
        ("user_id", {"sourceEmail": "a@x.io"}, "UnknownEmailError"),
        ("hybrid", {"sourceEmail": "z@x.io"}, "UnknownEmailError"),
        ("hybrid", {"sourceUserId": "9"}, "UnknownUserIdError"),
        ("hybrid", {"sourceEmail": "foo@"}, "InvalidEmailAddressError"),
        ("hybrid", {"sourceUserId": ""}, "InvalidUserIdError"),
    ],
)
def test_an_unknown_source(make: Make, project_type: ProjectType, source: dict[str, str], code: str) -> None:
    """Is an error, whether or not there is a destination."""
    client = make(project_type)
    client.bulk({**A, "userId": "1"})
    for destination in ("1", "2"):
        reply = merge(client, **source, destinationUserId=destination)
        assert (reply.status, reply.code) == (400, code)
    assert members(client) == [("a@x.io", "1")]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"sourceEmail": "a@x.io"},
        {"destinationEmail": "b@x.io"},
        {"sourceEmail": "a@x.io", "sourceUserId": "1", "destinationEmail": "b@x.io"},
        {"sourceEmail": "a@x.io", "destinationEmail": "b@x.io", "destinationUserId": "2"},
        {"sourceEmail": "a@x.io", "destinationUserId": "1"},
        {"sourceEmail": "a@x.io", "destinationEmail": "A@x.io"},
    ],
)
def test_each_side_is_named_once(make: Make, body: dict[str, str]) -> None:
    """By one identifier, and the two are not the same user."""
    client = make("hybrid")
    client.bulk({**A, "userId": "1"}, {**B, "userId": "2"})
    reply = merge(client, **body)
    assert (reply.status, reply.code, len(members(client))) == (400, "BadParams", 2)


def test_a_forgotten_side(make: Make) -> None:
    """Is a 409 on either side."""
    client = make("hybrid")
    client.bulk(A, B)
    client.post("users/forget", A)
    for names in (("a@x.io", "b@x.io"), ("b@x.io", "a@x.io")):
        reply = merge(client, sourceEmail=names[0], destinationEmail=names[1])
        assert (reply.status, reply.code) == (409, "ForgottenUserError")
    assert members(client) == [("b@x.io", None)]


def test_identifiers_that_the_destination_lacks(make: Make) -> None:
    """Are fields that it lacks, and copied, but not by option; those it has stay."""
    for copied in (True, False):
        client = make("hybrid", merge_identifiers=copied)
        client.bulk({**A, "userId": "1"}, {"userId": "2"}, {**B, "userId": "3"})
        assert merge(client, sourceUserId="1", destinationUserId="2").status == 200
        assert ("a@x.io" if copied else None, "2") in members(client)
        assert bool(client.read("a@x.io")) == copied
        assert merge(client, sourceUserId="2", destinationUserId="3").status == 200
        assert members(client) == [("b@x.io", "3")]
    client = make("email")
    client.bulk({**A, "userId": "1"}, B)
    a_into_b(client)
    assert members(client) == [("b@x.io", "1")]


def test_fifty_a_second_for_each_key(make: Make, clock: Clock) -> None:
    """Another key of the same project has its own; a read-only one may not merge."""
    client = make(rates=True, read_only_keys=["reads"])
    statuses = [merge(client, sourceEmail="a@x.io", destinationEmail="b@x.io").status for _ in range(51)]
    assert statuses == [400] * 50 + [429]
    body = {"sourceEmail": "a@x.io", "destinationEmail": "b@x.io"}
    assert client.post("users/merge", body, api_key="other").status == 400
    assert client.post("users/merge", body, api_key="reads").status == 401
    clock.pass_(0.02)
    assert [merge(client, **body).status for _ in range(2)] == [400, 429]


def test_a_body_of_another_shape(make: Make) -> None:
    """Says where."""
    reply = make().post("users/merge", {"sourceEmail": 1, "arrayMerge": [{"dedupeBy": "x"}, 5]})
    assert (reply.status, reply.code) == (400, "BadJsonBody")
    assert reply.json["params"] == {
        "obj.sourceEmail": "String value expected",
        "obj.arrayMerge[0].field": "error.path.missing",
        "obj.arrayMerge[1]": "Object value expected",
    }


@pytest.mark.parametrize(
    ("kind", "status", "applied"),
    [("429", 429, False), ("5xx_html", 503, False), ("drop_before", 0, False), ("drop_after", 0, True)],
)
def test_faults(make: Make, kind: str, status: int, applied: bool) -> None:
    """Before or after the merge; a merge whose answer was lost meets an unknown source when it is sent again."""
    client = make(record_identifiers=True)
    client.bulk(A, B)
    spoil(client, {"kind": kind, "path": "/api/users/merge"})
    assert a_into_b(client).status == status
    assert (len(members(client)), last(client)["applied"]) == ((1, True) if applied else (2, False))
    again = a_into_b(client)
    assert again.code == ("UnknownEmailError" if applied else "Success")
    for email in ("a@x.io", "b@x.io"):
        calls = ask(client, "GET", f"/sandbox/user?email={email}").json["calls"]
        assert [call["accepted"] for call in calls if call["template"] == "/api/users/merge"] == [1]
