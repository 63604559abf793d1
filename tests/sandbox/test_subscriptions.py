"""What updateSubscriptions and its bulk form write and answer."""

from typing import Any

import pytest

from airflow_provider_iterable.sandbox.options import ProjectType

from .conftest import Client, Make, Reply
from .test_faults_and_calls import ask, last, spoil

NOBODY: dict[str, Any] = {
    "successCount": 0,
    "failCount": 0,
    "invalidEmails": [],
    "invalidUserIds": [],
    "validEmailFailures": [],
    "validUserIdFailures": [],
}


def one(client: Client, **body: Any) -> Reply:
    """Replace the subscriptions of one user."""
    return client.post("users/updateSubscriptions", body)


def many(client: Client, *bodies: Any) -> Reply:
    """Replace the subscriptions of many users."""
    return client.post("users/bulkUpdateSubscriptions", {"updateSubscriptionsRequests": list(bodies)})


def test_an_array_replaces_the_stored_one(make: Make) -> None:
    """Arrays that are absent or null stay, an empty one clears; other fields are left alone."""
    client = make()
    client.bulk({"email": "a@x.io", "dataFields": {"f": 1}})
    reply = one(client, email="A@x.io", emailListIds=[1, 2], unsubscribedChannelIds=[102161])
    assert (reply.status, reply.code) == (200, "Success")
    one(client, email="a@x.io", emailListIds=[3], unsubscribedChannelIds=None, unsubscribedMessageTypeIds=[102165])
    assert client.fields_of("a@x.io") == {
        "f": 1,
        "emailListIds": [3],
        "unsubscribedChannelIds": [102161],
        "unsubscribedMessageTypeIds": [102165],
    }
    one(client, email="a@x.io", emailListIds=[], campaignId=1, templateId=2)
    assert client.read("a@x.io")["user"]["dataFields"]["emailListIds"] == []


def test_lists_follow_subscriptions(make: Make) -> None:
    """Whoever is given other lists leaves the former ones."""
    client = make()
    first, second = (client.post("lists", {"name": name}).json["listId"] for name in "ab")
    client.post("lists/subscribe", {"listId": first, "subscribers": [{"email": "a@x.io"}]})
    one(client, email="a@x.io", emailListIds=[second])
    assert [client.get(f"lists/{number}/size").text for number in (first, second)] == ["0", "1"]


@pytest.mark.parametrize(
    ("project_type", "field", "lists"),
    [("email", "emailListIds", [1]), ("user_id", "userListIds", [2]), ("hybrid", "userListIds", [2])],
)
def test_the_field_of_lists_is_the_project_s(
    make: Make, project_type: ProjectType, field: str, lists: list[int]
) -> None:
    """userListIds counts where users are known by user ID, and goes before emailListIds there."""
    client = make(project_type)
    client.bulk({"email": "a@x.io", "userId": "1"})
    body = {"email": "a@x.io", "userId": "1"}
    one(client, **body, emailListIds=[1], userListIds=[2])
    assert client.fields_of("1") == {field: lists}
    one(client, **body, emailListIds=[3])
    assert client.fields_of("1") == {field: [3]}


def test_unknown_users_by_project_type(make: Make) -> None:
    """Users are created by the project's identifier; an email-based project creates none by user ID."""
    client = make("email")
    assert one(client, email="a@x.io", emailListIds=[1]).status == 200
    assert one(client, userId="1", emailListIds=[1]).code == "UnknownUserIdError"
    assert len(client.project.profiles) == 1
    assert one(make("user_id"), userId="1").status == 200
    assert one(make("hybrid"), email="a@x.io").status == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"email": "foo@"}, 400, "InvalidEmailAddressError"),
        ({"userId": ""}, 400, "InvalidUserIdError"),
        ({"email": "gone@x.io"}, 409, "ForgottenUserError"),
        ({"email": "a@x.io", "userId": "2"}, 409, "ExternalKeyConflict"),
        ({}, 400, "BadParams"),
        ({"email": "a@x.io", "emailListIds": ["1"]}, 400, "BadJsonBody"),
        ({"email": "a@x.io", "subscribedMessageTypeIds": [102165]}, 400, "BadParams"),
    ],
)
def test_why_one_is_refused(make: Make, body: dict[str, Any], status: int, code: str) -> None:
    """Identifiers, shape and opt-in are judged as in other single calls, and nothing is written."""
    client = make("hybrid", opt_in=False)
    client.bulk({"email": "a@x.io", "userId": "1"}, {"userId": "2"})
    client.post("users/forget", {"email": "gone@x.io"})
    reply = one(client, **{"userListIds": [1], **body})
    assert (reply.status, reply.code) == (status, code)
    assert [profile.fields for profile in client.project.profiles] == [{}, {}]


def test_opting_in_needs_the_feature_and_the_channel(make: Make) -> None:
    """A new project has the feature: a type is subscribed unless its channel is left and alignment is validated."""
    client = make()
    assert one(client, email="a@x.io", subscribedMessageTypeIds=[102165]).status == 200
    one(client, email="a@x.io", unsubscribedChannelIds=[102161])
    assert one(client, email="a@x.io", subscribedMessageTypeIds=[102166]).status == 200
    assert one(client, email="a@x.io", subscribedMessageTypeIds=[102165]).code == "BadParams"
    body = {"subscribedMessageTypeIds": [102166], "unsubscribedChannelIds": [102162]}
    assert one(client, email="b@x.io", **body).code == "BadParams"
    assert client.fields_of("b@x.io") is None
    assert one(client, email="a@x.io", subscribedMessageTypeIds=[102165], unsubscribedChannelIds=[]).status == 200
    assert one(client, email="b@x.io", **body, validateChannelAlignment=False).status == 200


def test_many_are_counted(make: Make) -> None:
    """The bulk answer has counts and four arrays, malformed identifiers apart from good ones that failed."""
    client = make("email", invalid_data=["odd@x.io"], opt_in=False)
    assert many(client).json == NOBODY
    reply = many(
        client,
        {"email": "A@x.io", "emailListIds": [1]},
        {"email": "FOO@", "subscribedMessageTypeIds": [102165]},
        {"userId": "x "},
        {"userId": "unknown"},
        {"email": "odd@x.io"},
        {"email": "B@x.io", "subscribedMessageTypeIds": [102165]},
        {},
    )
    assert (reply.status, reply.json) == (
        200,
        {
            "successCount": 1,
            "failCount": 6,
            "invalidEmails": ["foo@"],
            "invalidUserIds": ["x "],
            "validEmailFailures": ["odd@x.io", "b@x.io"],
            "validUserIdFailures": ["unknown"],
        },
    )
    assert client.fields_of("a@x.io") == {"emailListIds": [1]}
    assert len(client.project.profiles) == 1
    assert (last(client)["records"], last(client)["applied"]) == (7, True)


@pytest.mark.parametrize(
    ("bad", "kind", "value"),
    [
        ({"email": "gone@x.io"}, "validEmailFailures", "gone@x.io"),
        ({"userId": "9"}, "validUserIdFailures", "9"),
        ({"email": "a@x.io", "userId": "2"}, "validEmailFailures", "a@x.io"),
        ({"userId": "9", "subscribedMessageTypeIds": [1]}, "validUserIdFailures", "9"),
    ],
)
def test_a_forgotten_user_or_a_conflict_refuses_all(make: Make, bad: dict[str, Any], kind: str, value: str) -> None:
    """The whole request is answered with 409 and nothing is written; by option such a record fails alone."""
    client = make("hybrid", forgotten_status=400)
    client.bulk({"email": "a@x.io", "userId": "1"}, {"userId": "2"})
    client.post("users/forget", {"email": "gone@x.io"})
    client.post("users/forget", {"userId": "9"})
    good = {"userId": "2", "userListIds": [1]}
    reply = many(client, good, bad)
    assert (reply.status, reply.code in ("ForgottenUserError", "ExternalKeyConflict")) == (409, True)
    assert client.fields_of("2") == {}
    client.project.options = client.project.options.changed({"subscriptions_conflict": "listed"})
    reply = many(client, good, bad)
    assert (reply.status, reply.json) == (200, NOBODY | {"successCount": 1, "failCount": 1, kind: [value]})
    assert client.fields_of("2") == {"userListIds": [1]}


@pytest.mark.parametrize(
    ("body", "params"),
    [
        ({}, {"obj.updateSubscriptionsRequests": "error.path.missing"}),
        ({"updateSubscriptionsRequests": [{"emailListIds": 1, "campaignId": "x"}]},
         {"obj.updateSubscriptionsRequests[0].emailListIds": "Array value expected",
          "obj.updateSubscriptionsRequests[0].campaignId": "Number value expected"}),
        ({"updateSubscriptionsRequests": [{"emailListIds": [1, "2", True]}]},
         {"obj.updateSubscriptionsRequests[0].emailListIds[1]": "Number value expected",
          "obj.updateSubscriptionsRequests[0].emailListIds[2]": "Number value expected"}),
    ],
)  # fmt: skip
def test_wrong_json_types_refuse_all(make: Make, body: Any, params: dict[str, str]) -> None:
    """A value of the wrong JSON type refuses the request and says where."""
    reply = make().post("users/bulkUpdateSubscriptions", body)
    assert (reply.status, reply.code, reply.json["params"]) == (400, "BadJsonBody", params)


def test_bulk_subscriptions_have_sizes_and_no_rate(make: Make) -> None:
    """The limits of bulk calls hold; no rate is stated."""
    client = make(rates=True)
    user = {"email": "a@x.io", "emailListIds": [1]}
    assert {many(client, user).status for _ in range(600)} == {200}
    assert {one(client, **user).status for _ in range(600)} == {200}
    raw = b'{"updateSubscriptionsRequests":[]}'
    assert client.post("users/bulkUpdateSubscriptions", raw.ljust(4_000_000)).status == 200
    assert client.post("users/bulkUpdateSubscriptions", raw.ljust(4_000_001)).status == 413
    client = make(max_records=1)
    assert many(client, user, user).code == "BatchTooLarge"


@pytest.mark.parametrize(
    ("kind", "status", "applied"),
    [("429", 429, False), ("drop_before", 0, False), ("drop_after", 0, True), ("malformed", 200, True)],
)
def test_faults_befall_subscriptions(make: Make, kind: str, status: int, applied: bool) -> None:
    """Both calls go wrong before or after being applied, and the log tells which."""
    client = make(record_identifiers=True)
    spoil(client, {"kind": kind, "times": 2})
    assert one(client, email="a@x.io", emailListIds=[1]).status == status
    assert many(client, {"email": "b@x.io", "emailListIds": [1]}).status == status
    assert len(client.project.profiles) == (2 if applied else 0)
    calls = ask(client, "GET", "/sandbox/calls?identifiers=1").json["calls"]
    named = [[["email", "a@x.io"]], [["email", "b@x.io"]]] if applied else [[], []]
    assert [(call["applied"], call["identifiers"] or []) for call in calls] == [(applied, name) for name in named]
