"""What the calls under /api/subscriptions write and answer."""

from typing import Any

import pytest

from airflow_provider_iterable.sandbox.options import ProjectType

from .conftest import Client, Clock, Make, Reply
from .test_faults_and_calls import ask, last, spoil

CHANNEL, TRANSACTIONAL = 102161, 102162
OPT_OUT, OPT_IN, DOUBLE = 102165, 102168, 102169
ACCEPTED = {"msg": "", "code": "Success", "params": None}
LEFT, TYPES_LEFT, JOINED = "unsubscribedChannelIds", "unsubscribedMessageTypeIds", "subscribedMessageTypeIds"


def put(client: Client, group: str, number: object, action: str | None = None, **body: Any) -> Reply:
    """Subscribe or unsubscribe many users."""
    query = "" if action is None else f"?action={action}"
    return client.send("PUT", f"/api/subscriptions/{group}/{number}{query}", body)


def members(client: Client) -> list[tuple[str | None, str | None]]:
    """Return the identifiers of all profiles."""
    return [(profile.email, profile.user_id) for profile in client.project.profiles]


@pytest.mark.parametrize(
    ("group", "number", "subscribed", "unsubscribed"),
    [
        ("messageChannel", CHANNEL, {}, {LEFT: [CHANNEL]}),
        ("messageType", OPT_OUT, {}, {TYPES_LEFT: [OPT_OUT]}),
        ("messageType", OPT_IN, {JOINED: [OPT_IN]}, {JOINED: []}),
        ("messageType", DOUBLE, {JOINED: [DOUBLE]}, {JOINED: []}),
        ("emailList", 3001, {"emailListIds": [3001]}, {"emailListIds": []}),
    ],
)
def test_a_group_is_joined_and_left(
    make: Make, group: str, number: int, subscribed: dict[str, Any], unsubscribed: dict[str, Any]
) -> None:
    """Opt-out types and channels are left in the arrays of what is left, opt-in types and lists are joined."""
    client = make()
    client.post("lists", {"name": "l"})
    client.bulk({"email": "a@x.io", "dataFields": {"f": 1}})
    reply = put(client, group, number, "subscribe", users=["A@x.io"])
    assert (reply.status, reply.json) == (202, ACCEPTED)
    assert client.fields_of("a@x.io") == {"f": 1, **subscribed}
    for _ in range(2):
        assert put(client, group.upper(), number, "unsubscribe", users=["a@x.io"]).status == 202
        assert client.fields_of("a@x.io") == {"f": 1, **unsubscribed}
    for _ in range(2):
        assert put(client, group.lower(), number, users=["a@x.io"]).json == ACCEPTED
    after = client.fields_of("a@x.io")
    assert {name: value for name, value in after.items() if value} == {"f": 1, **subscribed}
    assert client.read("a@x.io")["user"]["dataFields"].items() >= after.items()


def test_an_opt_in_type_that_was_left_is_joined_again(make: Make) -> None:
    """It is then in one array only."""
    client = make()
    client.post("users/updateSubscriptions", {"email": "a@x.io", TYPES_LEFT: [OPT_IN, 5]})
    put(client, "messageType", OPT_IN, users=["a@x.io"])
    assert client.fields_of("a@x.io") == {TYPES_LEFT: [5], JOINED: [OPT_IN]}


@pytest.mark.parametrize("project_type", ["email", "user_id", "hybrid"])
def test_one_user_by_path(make: Make, project_type: ProjectType) -> None:
    """PATCH subscribes and DELETE unsubscribes, by email or user ID as the project has them, without a body."""
    client = make(project_type)
    client.bulk({"email": "a+b@x.io", "userId": "a/1"})
    by_email = f"/api/subscriptions/MessageChannel/{CHANNEL}/user/a%2Bb%40x.io"
    by_user_id = f"/api/subscriptions/messagechannel/{CHANNEL}/byUserId/a%2F1"
    for path in [by_user_id] if project_type == "user_id" else [by_email, by_user_id]:
        reply = client.send("DELETE", path)
        assert (reply.status, reply.json) == (202, ACCEPTED)
        assert client.fields_of("a/1") == {LEFT: [CHANNEL]}
        assert (last(client)["accepted"], last(client)["failed"]) == (1, 0)
        assert client.send("PATCH", path).json == ACCEPTED
        assert client.fields_of("a/1") == {LEFT: []}
    if project_type == "user_id":
        assert client.send("PATCH", by_email).code == "UnknownEmailError"


@pytest.mark.parametrize(
    ("project_type", "body", "status", "made"),
    [
        ("email", {"users": ["a@x.io"]}, 202, [("a@x.io", None)]),
        ("email", {"users": ["a@x.io"], "usersByUserId": ["1"]}, 400, []),
        ("user_id", {"usersByUserId": ["1", "2"]}, 202, [(None, "1"), (None, "2")]),
        ("user_id", {"users": ["a@x.io"], "usersByUserId": ["1"]}, 400, []),
        ("hybrid", {"users": ["a@x.io"], "usersByUserId": ["1"]}, 202, [("a@x.io", None), (None, "1")]),
    ],
)
@pytest.mark.parametrize("action", ["subscribe", "unsubscribe"])
def test_unknown_users(
    make: Make, project_type: ProjectType, body: dict[str, Any], status: int, made: list[Any], action: str
) -> None:
    """They are created where the project can create them; one whom it cannot refuses all, before anything is written.

    By option they are refused everywhere, or ignored everywhere.
    """
    client = make(project_type)
    reply = put(client, "messageType", OPT_IN, action, **body)
    assert (reply.status, members(client)) == (status, made)
    assert reply.code == ("Success" if status == 202 else _unknown(project_type))
    client = make(project_type, unknown_subscribers="refuse")
    assert put(client, "messageType", OPT_IN, action, **body).code in ("UnknownEmailError", "UnknownUserIdError")
    assert members(client) == []
    client = make(project_type, unknown_subscribers="ignore")
    assert put(client, "messageType", OPT_IN, action, **body).json == ACCEPTED
    known = sum(map(len, body.values()))
    assert (members(client), last(client)["accepted"], last(client)["failed"]) == ([], 0, known)


def _unknown(project_type: ProjectType) -> str:
    return "UnknownUserIdError" if project_type == "email" else "UnknownEmailError"


def test_a_malformed_identifier_among_good_ones(make: Make) -> None:
    """It is ignored and the call counts it as failed; by option it refuses all; in a path it is refused always."""
    client = make("hybrid")
    reply = put(client, "messageChannel", CHANNEL, "unsubscribe", users=["foo@", "a@x.io"], usersByUserId=["1", "x "])
    assert (reply.status, reply.json) == (202, ACCEPTED)
    assert members(client) == [("a@x.io", None), (None, "1")]
    call = last(client)
    assert (call["records"], call["accepted"], call["failed"], call["applied"]) == (4, 2, 2, True)
    client = make("hybrid", malformed_subscribers="refuse")
    reply = put(client, "messageChannel", CHANNEL, "unsubscribe", users=["a@x.io", "FOO@"])
    assert (reply.status, reply.code, reply.json["msg"]) == (400, "InvalidEmailAddressError", "Invalid email: foo@")
    assert put(client, "messageChannel", CHANNEL, usersByUserId=["1", ""]).code == "InvalidUserIdError"
    assert (members(client), last(client)["failed"]) == ([], 2)
    for one in (client, make("hybrid")):
        path = f"/api/subscriptions/messageType/{OPT_OUT}"
        assert one.send("PATCH", f"{path}/user/foo%40").code == "InvalidEmailAddressError"
        assert one.send("DELETE", f"{path}/byUserId/x%20").code == "InvalidUserIdError"


def test_a_forgotten_user_among_others(make: Make) -> None:
    """Refuses all with 409, or is left out by option; alone always refused."""
    for choice in ("refuse", "ignore"):
        client = make(forgotten_subscribers=choice)
        client.post("users/forget", {"email": "gone@x.io"})
        reply = put(client, "messageType", OPT_IN, users=["a@x.io", "gone@x.io"])
        if choice == "refuse":
            assert (reply.status, reply.code, members(client)) == (409, "ForgottenUserError", [])
        else:
            assert (reply.status, members(client)) == (202, [("a@x.io", None)])
        assert client.send("PATCH", f"/api/subscriptions/messageType/{OPT_IN}/user/gone@x.io").status == 409


@pytest.mark.parametrize(
    ("group", "number"),
    [("messageType", CHANNEL), ("messageChannel", OPT_IN), ("emailList", 1), ("emailLists", 3001), ("messageType", "x"),
     ("messageType", "-1"), ("messageType", "9" * 30), ("list", 3001)],
)  # fmt: skip
def test_an_unknown_group(make: Make, group: str, number: object) -> None:
    """Is refused and nobody is created; by option a good group without that ID is accepted and nothing is written."""
    for choice in ("refuse", "ignore"):
        client = make(unknown_group=choice)
        client.post("lists", {"name": "l"})
        ignored = choice == "ignore" and group != "list" and group != "emailLists" and isinstance(number, int)
        replies = [
            put(client, group, number, users=["a@x.io"]),
            client.send("PATCH", f"/api/subscriptions/{group}/{number}/user/a@x.io"),
            client.send("DELETE", f"/api/subscriptions/{group}/{number}/byUserId/1"),
        ]
        wrong = (400, {"msg": "Invalid subscription group", "code": "BadParams", "params": None})
        assert [(reply.status, reply.json) for reply in replies] == [(202, ACCEPTED) if ignored else wrong] * 3
        assert (members(client), last(client)["accepted"], last(client)["applied"]) == ([], 0, False)


@pytest.mark.parametrize("action", ["", "Subscribe", "remove"])
def test_another_action_is_refused(make: Make, action: str) -> None:
    """It is subscribe or unsubscribe."""
    client = make()
    assert put(client, "messageType", OPT_IN, action, users=["a@x.io"]).code == "BadParams"
    assert members(client) == []


@pytest.mark.parametrize(
    ("body", "params"),
    [
        (b"", None),
        (b"[]", {"obj": "Object value expected"}),
        (b'{"users": "a@x.io"}', {"obj.users": "Array value expected"}),
        (b'{"users": ["a@x.io", 5], "usersByUserId": [null]}',
         {"obj.users[1]": "String value expected", "obj.usersByUserId[0]": "String value expected"}),
    ],
)  # fmt: skip
def test_a_body_of_another_shape(make: Make, body: bytes, params: Any) -> None:
    """Refuses all."""
    client = make()
    reply = client.send("PUT", f"/api/subscriptions/messageType/{OPT_IN}", body)
    assert (reply.status, reply.code, reply.json["params"]) == (400, "BadJsonBody", params)
    assert members(client) == []


@pytest.mark.parametrize("body", [{}, {"users": []}, {"users": None, "usersByUserId": []}])
def test_nobody_is_accepted(make: Make, body: dict[str, Any]) -> None:
    """Neither member is required."""
    client = make()
    assert put(client, "messageType", OPT_IN, **body).json == ACCEPTED
    assert (last(client)["records"], last(client)["accepted"], last(client)["applied"]) == (0, 0, False)


def test_the_answer_by_option(make: Make) -> None:
    """Both statuses are documented, and the official client takes both codes."""
    client = make(subscriptions_status=200, subscriptions_code="Accepted")
    reply = put(client, "messageType", OPT_IN, users=["a@x.io"])
    assert (reply.status, reply.code, last(client)["code"]) == (200, "Accepted", "Accepted")
    reply = client.send("DELETE", f"/api/subscriptions/messageType/{OPT_IN}/user/a@x.io")
    assert (reply.status, reply.code) == (200, "Accepted")


def test_it_may_not_be_switched_on(make: Make) -> None:
    """Then calls with a good key are a 404 in the envelope, whatever their body; an option switches it."""
    client = make(subscriptions_api=False, api_key="key")
    path = f"/api/subscriptions/messageType/{OPT_IN}"
    shut = (404, {"msg": "Endpoint not found for project: 10216", "code": "NotFound", "params": None})
    calls = [("PUT", path), ("PATCH", f"{path}/user/a@x.io"), ("DELETE", f"{path}/user/a@x.io"),
             ("PATCH", f"{path}/byUserId/1"), ("DELETE", f"{path}/byUserId/1")]  # fmt: skip
    for method, target in calls:
        reply = client.send(method, target, b"no JSON")
        assert (reply.status, reply.json) == shut
        assert client.send(method, target, api_key="other").status == 401
    assert members(client) == []
    assert ask(client, "POST", "/sandbox/options", {"subscriptions_api": True}).status == 200
    assert put(client, "messageType", OPT_IN, users=["a@x.io"]).status == 202
    double = {"email": "a@x.io", "messageTypeIds": [DOUBLE]}
    assert client.post("subscriptions/subscribeToDoubleOptIn", double).status == 202
    client = make(double_opt_in_api=False)
    assert client.post("subscriptions/subscribeToDoubleOptIn", b"").json == shut[1]
    assert put(client, "messageType", OPT_IN, users=["a@x.io"]).status == 202


@pytest.mark.parametrize(
    ("option", "group", "number", "action"),
    [
        ({"transactional_unsubscribe": "refuse"}, "messageChannel", TRANSACTIONAL, "unsubscribe"),
        ({"opt_in": False}, "messageType", OPT_IN, "subscribe"),
        ({"opt_in": False}, "messageType", DOUBLE, "subscribe"),
        ({"double_opt_in_direct": "refuse"}, "messageType", DOUBLE, "subscribe"),
        ({"static_lists_only": True}, "emailList", 3001, "subscribe"),
    ],
)
def test_what_a_project_may_not_allow(make: Make, option: dict[str, Any], group: str, number: int, action: str) -> None:
    """Leaving a transactional channel, opting in without the feature, past a confirmation, and dynamic lists."""
    for options, status in (({}, 202), (option, 400)):
        client = make(**options)
        ask(client, "POST", "/sandbox/lists", {"name": "l", "listType": "Dynamic"})
        assert put(client, group, number, action, users=["a@x.io"]).status == status
        assert len(members(client)) == (status == 202)
    others = {"transactional_unsubscribe": CHANNEL, "opt_in": OPT_OUT, "double_opt_in_direct": OPT_IN}
    name = next(iter(option))
    others["static_lists_only"] = client.post("lists", {"name": "standard"}).json["listId"]
    assert put(client, group, others[name], action, users=["a@x.io"]).status == 202


def test_a_fresh_list_is_not_known_yet(make: Make, clock: Clock) -> None:
    """As lists/subscribe does not know it."""
    client = make(list_ready_after=5)
    number = client.post("lists", {"name": "l"}).json["listId"]
    assert put(client, "emailList", number, users=["a@x.io"]).status == 400
    clock.pass_(5)
    assert put(client, "emailList", number, users=["a@x.io"]).status == 202
    assert client.get(f"lists/{number}/size").text == "1"


def test_sizes_and_rates(make: Make) -> None:
    """A body is limited as those of bulk calls, and no rate is stated; one can be set."""
    client = make(rates=True)
    path = f"/api/subscriptions/messageType/{OPT_IN}"
    assert client.send("PUT", path, b'{"users":[]}'.ljust(4_000_000)).status == 202
    assert client.send("PUT", path, b'{"users":[]}'.ljust(4_000_001)).status == 413
    assert {client.send("PATCH", f"{path}/user/a@x.io").status for _ in range(600)} == {202}
    client = make(max_records=2)
    assert put(client, "messageType", OPT_IN, users=["a@x.io", "b@x.io"], usersByUserId=["1"]).code == "BatchTooLarge"
    client = make(rates=True, rate_overrides={"PUT /api/subscriptions/{group}/{id}": 1})
    assert [put(client, "messageType", number, users=["a@x.io"]).status for number in (OPT_IN, OPT_OUT)] == [202, 429]


@pytest.mark.parametrize(
    ("kind", "status", "applied"),
    [("429", 429, False), ("5xx_html", 503, False), ("drop_before", 0, False), ("drop_after", 0, True),
     ("malformed", 200, True)],
)  # fmt: skip
def test_faults(make: Make, kind: str, status: int, applied: bool) -> None:
    """Calls go wrong before or after being applied, and the log and the story tell which."""
    client = make(record_identifiers=True)
    spoil(client, {"kind": kind, "path": "/api/subscriptions", "times": 2})
    assert put(client, "messageType", OPT_IN, users=["a@x.io", "b@x.io"]).status == status
    assert client.send("PATCH", f"/api/subscriptions/messageType/{OPT_IN}/user/a@x.io").status == status
    assert len(members(client)) == (2 if applied else 0)
    calls = ask(client, "GET", "/sandbox/calls?identifiers=1").json["calls"]
    assert [(call["applied"], call["accepted"]) for call in calls] == [(applied, 2 * applied), (applied, 1 * applied)]
    story = ask(client, "GET", "/sandbox/user?email=a@x.io").json
    assert len(story["calls"]) == (2 if applied else 1)


TYPES = "Invalid messageTypeIds: SMS message types with double opt-in expected"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"email": "b@x.io", "messageTypeIds": [DOUBLE]}, "User not found for userId:  or email: b@x.io"),
        ({"userId": "9", "messageTypeIds": [DOUBLE]}, "User not found for userId: 9 or email: "),
        ({"email": "gone@x.io", "messageTypeIds": [DOUBLE]}, "User not found for userId:  or email: gone@x.io"),
        ({"messageTypeIds": [DOUBLE]}, "User not found for userId:  or email: "),
        ({"email": "a@x.io", "messageTypeIds": [DOUBLE, OPT_IN]}, TYPES),
        ({"email": "a@x.io", "messageTypeIds": [1]}, TYPES),
        ({"email": "a@x.io", "messageTypeIds": []}, TYPES),
    ],
)
def test_who_cannot_be_asked_to_confirm(make: Make, body: dict[str, Any], said: str) -> None:
    """Only somebody who exists, for SMS types with double opt-in; the refusal is plain text."""
    client = make("hybrid", double_opt_in_confirmed=True)
    client.bulk({"email": "a@x.io"})
    client.post("users/forget", {"email": "gone@x.io"})
    reply = client.post("subscriptions/subscribeToDoubleOptIn", {"phoneNumber": "+15550001", **body})
    assert (reply.status, reply.text, reply.headers["Content-Type"][:10]) == (400, said, "text/plain")
    assert (members(client), client.fields_of("a@x.io")) == ([("a@x.io", None)], {})
    assert (last(client)["accepted"], last(client)["failed"]) == (0, 1)


def test_a_double_opt_in(make: Make) -> None:
    """Plain text says that it is accepted; the number is written, and the subscription when it is confirmed."""
    client = make()
    client.bulk({"email": "a@x.io"}, {"email": "b@x.io"})
    body = {"email": "a@x.io", "messageTypeIds": [DOUBLE], "phoneNumber": "+15550001", "brandName": "B"}
    reply = client.post("subscriptions/subscribeToDoubleOptIn", body)
    assert (reply.status, reply.text) == (202, "Request for double opt-in subscription accepted")
    assert (client.fields_of("a@x.io"), last(client)["accepted"]) == ({"phoneNumber": "+15550001"}, 1)
    client.project.options = client.project.options.changed({"double_opt_in_confirmed": True})
    client.post("subscriptions/subscribeToDoubleOptIn", {"email": "b@x.io", "messageTypeIds": [DOUBLE]})
    assert client.fields_of("b@x.io") == {JOINED: [DOUBLE]}


def test_a_double_opt_in_of_another_shape(make: Make) -> None:
    """Is refused in the second form of errors."""
    reply = make().post("subscriptions/subscribeToDoubleOptIn", {"email": 5})
    assert reply.status == 400
    assert reply.json == {
        "error": "BadRequest",
        "message": "[/api/subscriptions/subscribeToDoubleOptIn] Invalid JSON body",
        "code": "BadJsonBody",
        "data": {"obj.messageTypeIds": "error.path.missing", "obj.email": "String value expected"},
    }
