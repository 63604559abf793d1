"""Channels and message types: those of a new project, those that are added, and who is subscribed to them."""

from typing import Any

import pytest

from airflow_provider_iterable.sandbox import Sandbox

from .conftest import Make
from .test_faults_and_calls import ask


def test_a_new_project_has_some_of_each_kind(make: Make) -> None:
    """Marketing and transactional channels, opt-in and opt-out types; a double opt-in reads as an opt-in."""
    client = make()
    channels = client.get("channels").json["channels"]
    assert [(row["id"], row["channelType"], row["messageMedium"]) for row in channels] == [
        (102161, "Marketing", "Email"),
        (102162, "Transactional", "Email"),
        (102163, "Marketing", "Push"),
        (102164, "Marketing", "SMS"),
    ]
    types = client.get("messageTypes").json["messageTypes"]
    assert [(row["id"], row["channelId"], row["subscriptionPolicy"]) for row in types] == [
        (102165, 102161, "OptOut"),
        (102166, 102162, "OptOut"),
        (102167, 102163, "OptOut"),
        (102168, 102161, "OptIn"),
        (102169, 102164, "OptIn"),
    ]
    members = {"id", "name", "channelId", "createdAt", "updatedAt", "subscriptionPolicy"}
    assert all(row.keys() == members and row["createdAt"] == 1_700_000_000_000 for row in types)
    shown = ask(client, "GET", "/sandbox/channels").json["channels"]
    assert [kind["subscriptionPolicy"] for row in shown for kind in row["messageTypes"]] == [
        "OptOut", "OptIn", "OptOut", "OptOut", "DoubleOptIn",
    ]  # fmt: skip


def test_channels_and_message_types_are_added(make: Make) -> None:
    """With the IDs that are said, or others; the API shows and takes them, in their project only."""
    client = make(project_keys={"second": 77})
    types = [{"name": "Alerts", "subscriptionPolicy": "OptIn", "id": 901}, {"name": "News"}]
    body = {"name": "Texts", "messageMedium": "SMS", "id": 900, "messageTypes": types}
    assert ask(client, "POST", "/sandbox/channels", body).json == {"channelId": 900, "messageTypeIds": [901, 10216001]}
    assert ask(client, "POST", "/sandbox/channels", {"name": "n"}).json["channelId"] == 10216002
    assert ask(client, "POST", "/sandbox/channels?project=77", {"name": "n"}).json["channelId"] == 77001
    added = {"channelId": 900, "name": "Codes", "subscriptionPolicy": "DoubleOptIn"}
    assert ask(client, "POST", "/sandbox/messageTypes", added).json == {"messageTypeId": 10216003}
    kinds = {row["id"]: row for row in client.get("messageTypes").json["messageTypes"]}
    assert (kinds[901]["channelId"], kinds[10216001]["subscriptionPolicy"]) == (900, "OptOut")
    assert [row["id"] for row in client.get("channels").json["channels"]][4:] == [900, 10216002]
    assert [row["id"] for row in client.get("channels", api_key="second").json["channels"]][4:] == [77001]
    for number, key, status in ((901, "key", 202), (10216003, "key", 202), (901, "second", 400)):
        put = {"users": ["a@x.io"]}
        assert client.send("PUT", f"/api/subscriptions/messageType/{number}", put, api_key=key).status == status
    assert client.fields_of("a@x.io") == {"subscribedMessageTypeIds": [901, 10216003]}
    client.service.reset()
    assert len(client.get("channels").json["channels"]) == 4


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("channels", {}),
        ("channels", {"name": "x", "channelType": "Other"}),
        ("channels", {"name": "x", "messageMedium": ""}),
        ("channels", {"name": "x", "id": 102161}),
        ("channels", {"name": "x", "messageTypes": [{"name": "y"}, {"name": "z", "id": 102165}]}),
        ("channels", {"name": "x", "messageTypes": [{"name": "y", "subscriptionPolicy": "DoubleOptIn"}]}),
        ("messageTypes", {"name": "x"}),
        ("messageTypes", {"name": "x", "channelId": 1}),
        ("messageTypes", {"name": "x", "channelId": 102161, "subscriptionPolicy": "Never"}),
        ("messageTypes", {"name": "x", "channelId": 102161, "subscriptionPolicy": "DoubleOptIn"}),
        ("messageTypes", {"name": "x", "channelId": 102161, "id": 102169}),
    ],
)
def test_wrong_additions(make: Make, path: str, body: dict[str, Any]) -> None:
    """IDs that are taken, unknown words and channels, a double opt-in elsewhere than in SMS: nothing is added."""
    client = make()
    before = ask(client, "GET", "/sandbox/channels").json
    assert ask(client, "POST", f"/sandbox/{path}", body).status == 400
    assert ask(client, "GET", "/sandbox/channels").json == before


def test_who_is_subscribed(make: Make) -> None:
    """A story says it by message type, and the channels say how many are; it follows every change."""
    client = make()
    client.bulk({"email": "a@x.io"}, {"email": "b@x.io"})
    client.send("DELETE", "/api/subscriptions/messageChannel/102161/user/a@x.io")
    client.send("DELETE", "/api/subscriptions/messageType/102167/user/a@x.io")
    client.send("PATCH", "/api/subscriptions/messageType/102168/user/a@x.io")
    [profile] = ask(client, "GET", "/sandbox/user?email=a@x.io").json["profiles"]
    assert [(row["messageTypeId"], row["inChannel"], row["subscribed"]) for row in profile["subscriptions"]] == [
        (102165, False, True),
        (102166, True, True),
        (102167, True, False),
        (102168, False, True),
        (102169, True, False),
    ]
    assert profile["subscriptions"][4] == {
        "channelId": 102164,
        "channel": "SMS Marketing",
        "channelType": "Marketing",
        "messageMedium": "SMS",
        "inChannel": True,
        "messageTypeId": 102169,
        "messageType": "Offers by SMS",
        "subscriptionPolicy": "DoubleOptIn",
        "subscribed": False,
    }
    shown = ask(client, "GET", "/sandbox/channels").json["channels"]
    assert [row["subscribed"] for row in shown] == [1, 2, 2, 2]
    counts = {kind["id"]: kind["subscribed"] for row in shown for kind in row["messageTypes"]}
    assert counts == {102165: 2, 102166: 2, 102167: 1, 102168: 1, 102169: 0}


def test_a_channel_without_message_types_counts_too(make: Make) -> None:
    """Everybody is in it from the start."""
    client = make()
    client.bulk({"email": "a@x.io"}, {"email": "b@x.io"})
    number = ask(client, "POST", "/sandbox/channels", {"name": "n"}).json["channelId"]
    client.send("DELETE", f"/api/subscriptions/messageChannel/{number}/user/a@x.io")
    assert ask(client, "GET", "/sandbox/channels").json["channels"][-1]["subscribed"] == 1


def test_message_types_of_a_channel_that_is_gone(make: Make) -> None:
    """With another number the project has other channels; a type added to a former one is in nobody's story."""
    client = make()
    client.bulk({"email": "a@x.io"})
    ask(client, "POST", "/sandbox/messageTypes", {"name": "x", "channelId": 102161})
    ask(client, "POST", "/sandbox/options", {"project_id": 5})
    [profile] = ask(client, "GET", "/sandbox/user?email=a@x.io").json["profiles"]
    assert [row["messageTypeId"] for row in profile["subscriptions"]] == [55, 56, 57, 58, 59]
    assert len(ask(client, "GET", "/sandbox/channels").json["channels"]) == 4


@pytest.mark.parametrize(
    "array",
    [{"emailListIds": [1]}, {"unsubscribedChannelIds": [102165]}, {"unsubscribedMessageTypeIds": [102161]},
     {"subscribedMessageTypeIds": [1]}],
)  # fmt: skip
def test_unknown_ids_in_arrays(make: Make, array: dict[str, list[int]]) -> None:
    """Are stored; by option they refuse one user and fail among many, and known ones pass."""
    user, good = {"email": "a@x.io", **array}, {"email": "b@x.io", "unsubscribedChannelIds": [102161]}
    assert make().post("users/updateSubscriptions", user).status == 200
    client = make(unknown_subscriptions="refuse")
    reply = client.post("users/updateSubscriptions", user)
    assert (reply.status, reply.code) == (400, "BadParams")
    assert client.post("users/updateSubscriptions", good).status == 200
    reply = client.post("users/bulkUpdateSubscriptions", {"updateSubscriptionsRequests": [user, good]})
    assert (reply.json["successCount"], reply.json["validEmailFailures"]) == (1, ["a@x.io"])
    assert client.fields_of("a@x.io") is None


def test_channels_in_process() -> None:
    """They are a property, and a seed in Python takes them."""
    with Sandbox("email") as sandbox:
        sandbox.seed(channels=[{"name": "Texts", "id": 900}])
        assert sandbox.channels[-1]["name"] == "Texts"
