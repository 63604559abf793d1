"""What the page tells: one user's story, what became of the rows of calls, bodies on request."""

from typing import Any

import pytest

from .conftest import Client, Make
from .test_faults_and_calls import ask, last, spoil

ADA = {"email": "ada@x.io", "userId": "1"}
PURCHASE = {"user": ADA, "items": [{"id": "i", "name": "n", "price": 2, "quantity": 1}], "total": 2}


def story(client: Client, query: str) -> Any:
    """Return a story."""
    return ask(client, "GET", f"/sandbox/user?{query}").json


def test_a_story_has_all_there_is_about_a_user(make: Make) -> None:
    """Profile, lists, events, purchases and calls, the newest first; by either identifier, and only this user's."""
    client = make("hybrid", record_identifiers=True)
    client.bulk({**ADA, "dataFields": {"f": 1}}, {"email": "b@x.io"})
    number = client.post("lists", {"name": "VIP"}).json["listId"]
    client.post("lists/subscribe", {"listId": number, "subscribers": [ADA]})
    client.post("events/track", {**ADA, "eventName": "first"})
    client.post("events/track", {**ADA, "eventName": "second"})
    client.post("events/track", {"email": "b@x.io", "eventName": "other"})
    client.post("commerce/trackPurchase", PURCHASE)
    client.get("users/ada%40x.io")
    found = story(client, "email=ADA@x.io")
    [profile] = found["profiles"]
    assert (profile["email"], profile["userId"], profile["dataFields"]["f"]) == ("ada@x.io", "1", 1)
    assert profile["lists"] == [{"id": number, "name": "VIP"}]
    assert [event["eventName"] for event in profile["events"]] == ["second", "first"]
    assert (profile["eventCount"], profile["purchaseCount"], profile["purchases"][0]["total"]) == (2, 1, 2)
    assert [call["seq"] for call in found["calls"]] == [8, 7, 5, 4, 3, 1]
    assert (found["forgotten"], found["recorded"]) == ([], True)
    assert story(client, "userId=1") == found
    assert "request" not in found["calls"][0]


@pytest.mark.parametrize("how", ["forget", "delete by email", "delete by user ID"])
def test_a_story_goes_on_without_the_user(make: Make, how: str) -> None:
    """Who was deleted or forgotten has a story of calls, by both identifiers."""
    client = make("hybrid", record_identifiers=True)
    client.bulk(ADA)
    if how == "forget":
        client.post("users/forget", {"email": "ada@x.io"})
    else:
        client.send("DELETE", "/api/users/ada%40x.io" if "email" in how else "/api/users/byUserId/1")
    for query in ("email=ada@x.io", "userId=1"):
        found = story(client, query)
        assert (found["profiles"], [call["seq"] for call in found["calls"]]) == ([], [2, 1])
    assert story(client, "email=ada@x.io")["forgotten"] == (["ada@x.io"] if how == "forget" else [])


def test_an_address_that_changed_is_in_both_stories(make: Make) -> None:
    """The call that moved a profile is about the old and the new address."""
    client = make("email", record_identifiers=True)
    client.bulk({"email": "old@x.io"})
    client.post("users/updateEmail", {"currentEmail": "old@x.io", "newEmail": "new@x.io"})
    assert [call["seq"] for call in story(client, "email=old@x.io")["calls"]] == [2, 1]
    assert [call["seq"] for call in story(client, "email=new@x.io")["calls"]] == [2]


def test_profiles_that_share_a_user_id_share_a_story(make: Make) -> None:
    """In an email-based project there may be several."""
    client = make("email")
    client.bulk({"email": "a@x.io", "userId": "1"}, {"email": "b@x.io", "userId": "1"})
    assert [one["email"] for one in story(client, "userId=1")["profiles"]] == ["a@x.io", "b@x.io"]
    assert [one["email"] for one in story(client, "email=b@x.io")["profiles"]] == ["b@x.io"]
    assert story(client, "userId=1")["recorded"] is False


@pytest.mark.parametrize("query", ["", "email=a@x.io&userId=1"])
def test_a_story_is_about_one_identifier(make: Make, query: str) -> None:
    """None, or two, is an error."""
    assert ask(make(), "GET", f"/sandbox/user?{query}").status == 400


def test_users_are_searched_by_parts(make: Make) -> None:
    """Of email or user ID, in any case; the number is that of all."""
    client = make("hybrid")
    client.bulk({"email": "ada@x.io"}, {"userId": "Ada-2"}, {"email": "bob@x.io", "userId": "3"})

    def found(query: str) -> tuple[int, list[str]]:
        answer = ask(client, "GET", f"/sandbox/users?{query}").json
        return answer["count"], [user["email"] or user["userId"] for user in answer["users"]]

    assert found("q=aDA") == (2, ["ada@x.io", "Ada-2"])
    assert found("q=3") == (1, ["bob@x.io"])
    assert found("limit=1") == (3, ["ada@x.io"])
    assert found("q=nobody") == (0, [])


def outcome(client: Client) -> tuple[int, int, int]:
    """Return rows, accepted and failed of the last call."""
    call = last(client)
    return call["records"], call["accepted"], call["failed"]


def test_calls_count_what_became_of_their_rows(make: Make) -> None:
    """As bulk answers count; all or none of other writes; reads have none. A lost answer does not change what was."""
    client = make("email")
    client.bulk({"email": "a@x.io", "dataFields": {"f": 1}}, {"email": "foo@"})
    assert outcome(client) == (2, 1, 1)
    client.bulk({"email": "a@x.io"}, {"email": "b@x.io", "dataFields": {"f": "x"}})
    assert outcome(client) == (2, 0, 2)
    client.post("users/update", {"email": "a@x.io"})
    assert outcome(client) == (1, 1, 0)
    client.post("users/update", {"email": "foo@"})
    assert outcome(client) == (1, 0, 1)
    client.post("events/track", {"email": "unknown@x.io", "eventName": "e"})
    assert outcome(client) == (1, 0, 0)
    client.post("catalogs/Shop")
    client.post("catalogs/Shop/items", {"documents": {"a": {}, "b": {}}, "replaceUploadedFieldsOnly": False})
    assert outcome(client) == (2, 2, 0)
    client.get("users/a%40x.io")
    assert outcome(client) == (0, 0, 0)
    spoil(client, {"kind": "drop_after"})
    client.bulk({"email": "a@x.io"}, {"email": "foo@"})
    assert outcome(client) == (2, 1, 1)
    spoil(client, {"kind": "drop_before"})
    client.bulk({"email": "a@x.io"})
    assert outcome(client) == (0, 0, 0)


def one_call(client: Client, seq: int) -> Any:
    """Return a call with all that is recorded."""
    return ask(client, "GET", f"/sandbox/call?seq={seq}").json


def test_bodies_are_recorded_on_request(make: Make) -> None:
    """Those of the newest calls, cut; none before, none by default, and none in the list of calls."""
    client = make("email", api_key="secret-key")

    def send(user: dict[str, Any]) -> None:
        client.post("users/bulkUpdate", {"users": [user]}, api_key="secret-key")

    send({"email": "a@x.io"})
    assert (one_call(client, 1)["request"], one_call(client, 1)["answer"]) == (None, None)
    ask(client, "POST", "/sandbox/options", {"record_bodies": 2})
    for name in "bcd":
        send({"email": f"{name}@x.io", "dataFields": {"t": "x" * 200_000}})
    assert [one_call(client, seq)["request"] is None for seq in (1, 2, 3, 4)] == [True, True, False, False]
    call = one_call(client, 4)
    assert "d@x.io" in call["request"]
    assert len(call["request"]) == 100_000
    assert '"successCount":1' in call["answer"]
    assert "secret-key" not in str(call)
    assert "d@x.io" not in ask(client, "GET", "/sandbox/calls").text
    spoil(client, {"kind": "drop_after"})
    send({"email": "e@x.io"})
    assert one_call(client, 5)["answer"] == ""
    ask(client, "POST", "/sandbox/options", {"record_bodies": 0})
    client.get("channels")
    assert one_call(client, 5)["request"] is None
    assert ask(client, "GET", "/sandbox/call?seq=99").status == 400
    assert ask(client, "GET", "/sandbox/call").status == 400


def test_one_fault_is_ended(make: Make) -> None:
    """By its position; a wrong one is an error, and the others stay."""
    client = make()
    spoil(client, {"kind": "slow"}, {"kind": "429"}, {"kind": "malformed"})
    found = ask(client, "DELETE", "/sandbox/faults?position=1").json["faults"]
    assert [fault["kind"] for fault in found] == ["slow", "malformed"]
    for position in ("2", "-1", "x"):
        assert ask(client, "DELETE", f"/sandbox/faults?position={position}").status == 400
    assert len(ask(client, "GET", "/sandbox/faults").json["faults"]) == 2


def test_one_list_and_one_catalog_are_asked_for(make: Make) -> None:
    """By ID, and by name."""
    client = make()
    numbers = [client.post("lists", {"name": name}).json["listId"] for name in "ab"]
    for name in ("Shop", "Attic"):
        client.post(f"catalogs/{name}")
    assert [row["name"] for row in ask(client, "GET", f"/sandbox/lists?id={numbers[1]}").json["lists"]] == ["b"]
    assert [row["name"] for row in ask(client, "GET", "/sandbox/catalogs?name=Shop").json["catalogs"]] == ["Shop"]
