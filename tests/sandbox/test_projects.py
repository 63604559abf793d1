"""Keys of several projects on one sandbox."""

from typing import Any

import pytest

from airflow_provider_iterable.sandbox.options import ProjectType

from .conftest import Client, Make, Reply
from .test_faults_and_calls import ask

KEYS = {"second": 77, "rotated": 77, "third": 78}
ONE = {"users": [{"email": "a@x.io", "userId": "1", "dataFields": {"f": 1}}]}


def ids(client: Client, key: str) -> list[int]:
    """Return the IDs of the channels that a key sees."""
    return [channel["id"] for channel in client.get("channels", api_key=key).json["channels"]]


def test_the_channels_tell_projects_apart(make: Make) -> None:
    """Keys of one project see the same channels and message types, keys of two projects none in common."""
    client = make(project_keys=KEYS)
    assert ids(client, "second") == ids(client, "rotated")
    assert ids(client, "any") == ids(client, "other") == ids(make(), "any") == [102161, 102162, 102163, 102164]
    seen = [number for key in ("any", "second", "third") for number in ids(client, key)]
    assert len(seen) == len(set(seen)) == 12
    for key in ("any", "second", "third"):
        types = client.get("messageTypes", api_key=key).json["messageTypes"]
        assert {row["channelId"] for row in types} == set(ids(client, key))
        assert not {row["id"] for row in types} & set(seen)


def test_projects_share_nothing(make: Make) -> None:
    """Users, fields and lists of a project are seen with its keys alone."""
    client = make("hybrid", project_keys=KEYS)
    assert client.post("users/bulkUpdate", ONE, api_key="second").status == 200
    client.post("lists", {"name": "l"}, api_key="second")
    read = {key: client.get("users/a@x.io", api_key=key).json for key in ("any", "second", "rotated", "third")}
    assert {key for key, answer in read.items() if answer} == {"second", "rotated"}
    assert len(client.project.profiles) == 0
    assert client.get("lists", api_key="third").json == {"lists": []}
    other_type = {"users": [{"email": "a@x.io", "dataFields": {"f": "text"}}]}
    assert client.post("users/bulkUpdate", other_type).status == 200
    assert client.post("users/bulkUpdate", other_type, api_key="rotated").status == 400


@pytest.mark.parametrize(
    ("path", "shown"),
    [("state?users=1", "a@x.io"), ("lists?members=1", '"l"'), ("catalogs?items=1", '"c"'), ("events?", "Opened"),
     ("purchases?", "socks")],
)  # fmt: skip
def test_other_projects_can_be_inspected(make: Make, path: str, shown: str) -> None:
    """What a project holds is shown under its number; a number that no key has is an error."""
    client = make(project_keys=KEYS)
    user = {"email": "a@x.io"}
    item = {"id": "1", "name": "socks", "price": 1.5, "quantity": 1}
    for name, body in (
        ("users/bulkUpdate", ONE),
        ("lists", {"name": "l"}),
        ("catalogs/c", None),
        ("events/track", {**user, "eventName": "Opened"}),
        ("commerce/trackPurchase", {"user": user, "items": [item], "total": 1.5}),
    ):
        assert client.post(name, body, api_key="second").status < 300
    assert shown in ask(client, "GET", f"/sandbox/{path}&project=77").text
    assert shown not in ask(client, "GET", f"/sandbox/{path}&project=78").text
    assert shown not in ask(client, "GET", f"/sandbox/{path}").text
    assert ask(client, "GET", f"/sandbox/{path}&project=79").status == 400
    assert ask(client, "GET", f"/sandbox/{path}&project=x").status == 400


def test_rates_and_quotas_are_a_project_s_own(make: Make) -> None:
    """Keys of one project share them."""
    client = make(project_keys=KEYS, rates=True, forget_quota=1)
    keys = ("second", "rotated", "second", "rotated", "third", "any")
    assert [client.get("users/getFields", api_key=key).status for key in keys] == [200, 200, 200, 429, 200, 200]

    def forget(key: str) -> Reply:
        return client.post("users/forget", {"email": "a@x.io"}, api_key=key)

    assert [forget(key).status for key in keys] == [200, 429, 429, 429, 200, 200]
    assert "project: 77 " in forget("rotated").json["msg"]


def test_keys_of_projects_are_accepted_beside_the_one(make: Make) -> None:
    """They are server-side keys unless other options say so, and no inspection shows them."""
    client = make(api_key="right", project_keys=KEYS, disabled_keys=["third"])
    keys = ("right", "second", "third", "wrong")
    assert [client.get("channels", api_key=key).status for key in keys] == [200, 200, 401, 401]
    state = ask(client, "GET", "/sandbox/state")
    assert (state.json["options"]["project_keys"], "rotated" in state.text) == (3, False)
    calls = ask(client, "GET", "/sandbox/calls").json["calls"]
    assert [call["project"] for call in calls] == [10216, 77, 78, 10216]


def test_keys_may_move_while_it_runs(make: Make) -> None:
    """A key that is given to another project sees that one; options hold for all projects; a reset empties all."""
    client = make(project_keys=KEYS)
    client.post("users/bulkUpdate", ONE, api_key="second")
    moved: dict[str, Any] = {"project_keys": {"second": 78, "third": 77}, "create_new_fields": False}
    assert ask(client, "POST", "/sandbox/options", moved).status == 200
    assert client.get("users/a@x.io", api_key="second").json == {}
    assert client.get("users/a@x.io", api_key="third").json["user"]["userId"] == "1"
    reply = client.post("users/bulkUpdate", {"users": [{"email": "a@x.io", "dataFields": {"new": 1}}]}, api_key="third")
    assert reply.json["filteredOutFields"] == ["new"]
    for wrong in ({"": 1}, {"second": "x"}, ["second"]):
        assert ask(client, "POST", "/sandbox/options", {"project_keys": wrong}).status == 400
    ask(client, "POST", "/sandbox/reset")
    assert client.get("users/a@x.io", api_key="second").json == {}


def test_the_number_of_the_project_may_change(make: Make) -> None:
    """With another project_id it has other channels, and messages name it."""
    client = make(project_id=5)
    assert ids(client, "any") == [51, 52, 53, 54]
    assert ask(client, "POST", "/sandbox/options", {"project_id": 6}).status == 200
    assert ids(client, "any") == [61, 62, 63, 64]


@pytest.mark.parametrize(("project_type", "field"), [("email", "emailListIds"), ("hybrid", "userListIds")])
def test_other_projects_are_of_the_same_type(make: Make, project_type: ProjectType, field: str) -> None:
    """The type belongs to the sandbox."""
    client = make(project_type, project_keys=KEYS)
    number = client.post("lists", {"name": "l"}, api_key="second").json["listId"]
    body = {"listId": number, "subscribers": [{"email": "a@x.io"}]}
    assert client.post("lists/subscribe", body, api_key="second").status == 200
    assert client.get("users/a@x.io", api_key="second").json["user"]["dataFields"][field] == [number]
