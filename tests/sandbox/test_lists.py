"""Lists: making and reading them, who is put on and taken off, and what such calls answer."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.sandbox.options import Options, ProjectType
from airflow_provider_iterable.sandbox.service import Service

from .conftest import START, Client, Clock, Make, Reply
from .test_bulk_update import ARRAYS
from .test_faults_and_calls import ask, last, spoil

TYPES: list[ProjectType] = ["email", "user_id", "hybrid"]
EMPTY: dict[str, list[int]] = {
    "subscribedMessageTypeIds": [],
    "unsubscribedChannelIds": [],
    "unsubscribedMessageTypeIds": [],
}


def new_list(client: Client, name: str = "VIP") -> int:
    """Make a list and return its ID."""
    number: int = client.post("lists", {"name": name}).json["listId"]
    return number


def subscribe(client: Client, number: int, *users: Any, **rest: Any) -> Reply:
    """Put users on a list."""
    return client.post("lists/subscribe", {"listId": number, "subscribers": list(users), **rest})


def unsubscribe(client: Client, number: int, *users: Any, **rest: Any) -> Reply:
    """Take users off a list."""
    return client.post("lists/unsubscribe", {"listId": number, "subscribers": list(users), **rest})


def members(client: Client, number: int) -> list[str]:
    """Return who is on a list, as read."""
    return client.get(f"lists/getUsers?listId={number}").text.splitlines()


def test_a_new_list_is_listed(make: Make) -> None:
    """A new list is static, has an ID and a time in milliseconds, and a description if one was given."""
    client = make()
    assert client.get("lists").json == {"lists": []}
    reply = client.post("lists", {"name": "VIP"})
    number = reply.json["listId"]
    assert (reply.status, reply.json) == (200, {"listId": number})
    other = client.post("lists", {"name": "Other", "description": "the rest"}).json["listId"]
    made = {"createdAt": int(START * 1000), "listType": "Standard"}
    assert client.get("lists").json["lists"] == [
        {"id": number, "name": "VIP", **made},
        {"id": other, "name": "Other", "description": "the rest", **made},
    ]


def test_lists_may_be_twins(make: Make) -> None:
    """A second list of a name is another list; how often a name was made is remembered."""
    client = make()
    assert new_list(client) != new_list(client)
    assert [row["name"] for row in client.get("lists").json["lists"]] == ["VIP", "VIP"]
    assert ask(client, "GET", "/sandbox/lists").json["created"] == {"VIP": 2}


@pytest.mark.parametrize(
    ("body", "params"),
    [
        ({}, {"obj.name": "error.path.missing"}),
        ({"name": 5}, {"obj.name": "String value expected"}),
    ],
)
def test_a_list_needs_a_name(make: Make, body: Any, params: dict[str, str]) -> None:
    """Without a name no list is made."""
    client = make()
    reply = client.post("lists", body)
    assert (reply.status, reply.code, reply.json["params"]) == (400, "BadJsonBody", params)
    assert client.get("lists").json == {"lists": []}


def test_a_list_is_deleted(make: Make) -> None:
    """A deleted list is gone from the lists and from its members; its ID is not used again."""
    client = make()
    number, other = new_list(client), new_list(client)
    subscribe(client, number, {"email": "a@x.io"})
    subscribe(client, other, {"email": "a@x.io"})
    reply = client.send("DELETE", f"/api/lists/{number}")
    assert reply.json == {
        "msg": f"List {number} in Project 10216 was successfully deleted.",
        "code": "Success",
        "params": None,
    }
    assert [row["id"] for row in client.get("lists").json["lists"]] == [other]
    assert client.read("a@x.io")["user"]["dataFields"]["emailListIds"] == [other]
    assert new_list(client) not in (number, other)
    assert ask(client, "GET", "/sandbox/lists").json["deleted"] == [number]


@pytest.mark.parametrize("named", ["42", "VIP"])
def test_an_unknown_list_is_not_deleted(make: Make, named: str) -> None:
    """Deleting one that does not exist is refused in a sentence."""
    reply = make().send("DELETE", f"/api/lists/{named}")
    assert (reply.status, reply.code) == (400, "BadParams")
    assert reply.json["msg"] == f"Unable to delete list {named} in Project 10216, which does not exist."


def test_a_list_in_use_is_not_deleted(make: Make) -> None:
    """It is answered with 409 and stays."""
    client = make(lists_in_use=[3001])
    assert new_list(client) == 3001
    reply = client.send("DELETE", "/api/lists/3001")
    assert (reply.status, reply.code) == (409, "Conflict")
    assert len(client.project.lists) == 1


def test_subscribers_are_made_and_updated(make: Make) -> None:
    """A new user is created on the list, a known one keeps other fields; the answer is that of bulkUpdate."""
    client = make()
    client.bulk({"email": "a@x.io", "dataFields": {"kept": 1, "f": 1}})
    number = new_list(client)
    reply = subscribe(client, number, {"email": "A@x.io", "dataFields": {"f": 2, "g": "x"}}, {"email": "b@x.io"})
    assert (reply.status, reply.json) == (
        200,
        {
            "successCount": 2,
            "failCount": 0,
            "invalidEmails": [],
            "invalidUserIds": [],
            "filteredOutFields": [],
            "createdFields": ["g"],
            "noOpEmails": [],
            "noOpUserIds": [],
            "failedUpdates": ARRAYS,
        },
    )
    assert client.fields_of("a@x.io") == {"kept": 1, "f": 2, "g": "x", "emailListIds": [number], **EMPTY}
    assert client.fields_of("b@x.io") == {"emailListIds": [number], **EMPTY}
    assert members(client, number) == ["a@x.io", "b@x.io"]


@pytest.mark.parametrize("project_type", TYPES)
def test_the_profile_names_its_lists(make: Make, project_type: ProjectType) -> None:
    """The field is emailListIds in an email-based project and userListIds elsewhere; once is enough."""
    client = make(project_type)
    first, second = new_list(client), new_list(client)
    user = {"email": "a@x.io", "userId": "1"}
    for number in (first, second, first):
        assert subscribe(client, number, user).json["successCount"] == 1
    field = "emailListIds" if project_type == "email" else "userListIds"
    assert client.fields_of("1")[field] == [first, second]
    assert client.get("users/byUserId/1").json["user"]["dataFields"][field] == [first, second]
    assert client.get("users/getFields").json["fields"][field] == "long"


def test_unknown_subscribers_by_project_type(make: Make) -> None:
    """Whoever is identified as the project does is created; a made-up address needs preferUserId."""
    users = ({"email": "a@x.io"}, {"userId": "1"}, {"userId": "2", "preferUserId": True})
    reply = subscribe(client := make("email"), new_list(client), *users)
    assert (reply.json["successCount"], reply.json["failCount"]) == (2, 1)
    assert reply.json["failedUpdates"] == ARRAYS | {"notFoundUserIds": ["1"]}
    assert members(client, 3001)[0] == "a@x.io"
    assert members(client, 3001)[1].endswith("@placeholder.email")
    reply = subscribe(client := make("user_id"), new_list(client), *users)
    assert reply.json["failedUpdates"] == ARRAYS | {"notFoundEmails": ["a@x.io"]}
    assert members(client, 3001) == ["1", "2"]
    reply = subscribe(client := make("hybrid"), new_list(client), *users)
    assert (reply.json["successCount"], reply.json["failedUpdates"]) == (3, ARRAYS)
    assert members(client, 3001) == ["a@x.io", "1", "2"]


def test_why_subscribers_fail(make: Make) -> None:
    """Each reason has its array; the others are put on the list."""
    client = make("hybrid", invalid_data=["odd@x.io"])
    client.bulk({"email": "a@x.io", "userId": "1"}, {"email": "b@x.io", "userId": "2"})
    client.post("users/forget", {"email": "gone@x.io"})
    client.post("users/forget", {"userId": "9"})
    users: list[dict[str, Any]] = [
        {"email": "FOO@"},
        {"userId": "x "},
        {"email": "a@x.io", "userId": "2"},
        {"email": "gone@x.io"},
        {"userId": "9"},
        {"email": "odd@x.io"},
        {},
        {"email": "new@x.io"},
    ]
    reply = subscribe(client, new_list(client), *users)
    assert (reply.status, reply.json["successCount"], reply.json["failCount"]) == (200, 1, 7)
    assert reply.json["failedUpdates"] == ARRAYS | {
        "invalidEmails": ["foo@"],
        "invalidUserIds": ["x "],
        "conflictEmails": ["a@x.io"],
        "forgottenEmails": ["gone@x.io"],
        "forgottenUserIds": ["9"],
        "invalidDataEmails": ["odd@x.io"],
    }
    assert (reply.json["invalidEmails"], reply.json["invalidUserIds"]) == (["foo@"], ["x "])
    assert members(client, 3001) == ["new@x.io"]


def test_subscriptions_stay_as_they_are(make: Make) -> None:
    """Being put on a list changes no subscription that is there; every accepted call is a write of the profile."""
    client = make()
    number = new_list(client)
    client.post("users/updateSubscriptions", {"email": "a@x.io", "unsubscribedChannelIds": [102163]})
    subscribe(client, number, {"email": "a@x.io"})
    assert client.fields_of("a@x.io") == {"emailListIds": [number], **EMPTY, "unsubscribedChannelIds": [102163]}
    client.clock.pass_(60)
    unsubscribe(client, number, {"email": "a@x.io"})
    [profile] = client.project.profiles
    assert (profile.writes, profile.updated) == (3, START + 60)


def test_a_wrong_field_type_refuses_all_subscribers(make: Make) -> None:
    """A value of another type fails the whole request as it does in bulkUpdate, and nobody is put on."""
    client = make()
    client.bulk({"email": "a@x.io", "dataFields": {"f": 1}})
    number = new_list(client)
    reply = subscribe(client, number, {"email": "b@x.io"}, {"email": "a@x.io", "dataFields": {"f": "x"}})
    assert (reply.status, reply.code) == (400, "RequestFieldsTypesMismatched")
    assert reply.json["params"]["validationErrors"]["f"]["offendingValue"] == "x"
    assert ", or the input value is not within the correct range." in reply.json["msg"]
    assert members(client, number) == []
    assert last(client)["applied"] is False


@pytest.mark.parametrize(
    ("skipped", "counts", "named"),
    [
        ("success", (2, 0), []),
        ("listed", (2, 0), ["2"]),
        ("uncounted", (1, 0), []),
        ("not_found", (1, 1), ["2"]),
    ],
)
@pytest.mark.parametrize("project_type", ["user_id", "hybrid"])
def test_existing_users_only(
    make: Make, project_type: ProjectType, skipped: str, counts: tuple[int, int], named: list[str]
) -> None:
    """Unknown users are left out and reported as the option says."""
    client = make(project_type, skipped=skipped)
    client.bulk({"userId": "1"})
    number = new_list(client)
    reply = subscribe(client, number, {"userId": "1"}, {"userId": "2"}, updateExistingUsersOnly=True)
    assert (reply.json["successCount"], reply.json["failCount"]) == counts
    assert reply.json["failedUpdates"] == ARRAYS | {"notFoundUserIds": named}
    assert members(client, number) == ["1"]
    assert client.fields_of("2") is None


def test_existing_users_only_means_nothing_by_email(make: Make) -> None:
    """An email-based project creates unknown users all the same."""
    client = make("email")
    number = new_list(client)
    assert subscribe(client, number, {"email": "a@x.io"}, updateExistingUsersOnly=True).json["successCount"] == 1
    assert members(client, number) == ["a@x.io"]


@pytest.mark.parametrize("call", ["subscribe", "unsubscribe"])
def test_nobody_is_no_error(make: Make, call: str) -> None:
    """An empty list of subscribers answers zero counts."""
    client = make()
    reply = client.post(f"lists/{call}", {"listId": new_list(client), "subscribers": []})
    assert (reply.status, reply.json["successCount"], reply.json["failCount"]) == (200, 0, 0)


@pytest.mark.parametrize("call", ["subscribe", "unsubscribe"])
def test_an_unknown_list_takes_nobody(make: Make, call: str) -> None:
    """The whole request is refused with the code Success, and no user is made."""
    client = make()
    reply = client.post(f"lists/{call}", {"listId": 999, "subscribers": [{"email": "a@x.io"}]})
    assert reply.status == 400
    assert reply.json == {
        "msg": "error.lists.invalidListId(999)",
        "code": "Success",
        "params": {"projectId": "10216", "listId": "999"},
    }
    assert len(client.project.profiles) == 0


def test_a_fresh_list_is_not_ready(make: Make, clock: Clock) -> None:
    """For list_ready_after seconds a new list is unknown to subscribe; among the lists it shows sooner or later."""
    client = make(list_ready_after=5, lists_visible_after=9)
    number = new_list(client)
    clock.pass_(4.5)
    assert subscribe(client, number, {"email": "a@x.io"}).json["msg"] == f"error.lists.invalidListId({number})"
    clock.pass_(0.5)
    assert subscribe(client, number, {"email": "a@x.io"}).status == 200
    assert client.get("lists").json == {"lists": []}
    clock.pass_(4)
    assert [row["id"] for row in client.get("lists").json["lists"]] == [number]


def test_leaving_a_list(make: Make) -> None:
    """Who is taken off stays on other lists; one who was not on the list is a success, too."""
    client = make()
    first, second = new_list(client), new_list(client)
    for number in (first, second):
        subscribe(client, number, {"email": "a@x.io"}, {"email": "b@x.io", "dataFields": {"f": 1}})
    reply = unsubscribe(client, first, {"email": "B@x.io"})
    assert (reply.status, reply.json["successCount"], reply.json["failedUpdates"]) == (200, 1, ARRAYS)
    assert (members(client, first), members(client, second)) == (["a@x.io"], ["a@x.io", "b@x.io"])
    assert client.fields_of("b@x.io") == {"f": 1, "emailListIds": [second], **EMPTY}
    assert unsubscribe(client, first, {"email": "b@x.io"}).json["successCount"] == 1


def test_who_cannot_leave(make: Make) -> None:
    """Unknown, forgotten and malformed users are reported, and not created."""
    client = make("hybrid")
    client.post("users/forget", {"userId": "9"})
    number = new_list(client)
    users = [{"email": "A@x.io"}, {"userId": "1"}, {"userId": "9"}, {"email": "foo@"}, {"userId": ""}, {}]
    reply = unsubscribe(client, number, *users)
    assert (reply.json["successCount"], reply.json["failCount"]) == (0, 6)
    assert reply.json["failedUpdates"] == ARRAYS | {
        "notFoundEmails": ["a@x.io"],
        "notFoundUserIds": ["1"],
        "forgottenUserIds": ["9"],
        "invalidEmails": ["foo@"],
        "invalidUserIds": [""],
    }
    assert len(client.project.profiles) == 0
    assert last(client)["applied"] is False


def test_leaving_by_the_project_s_identifiers(make: Make) -> None:
    """A user leaves by email or user ID; in a userID-based project an email finds nobody."""
    for project_type in TYPES:
        client = make(project_type)
        number = new_list(client)
        subscribe(client, number, {"email": "a@x.io", "userId": "1"}, {"email": "b@x.io", "userId": "2"})
        assert unsubscribe(client, number, {"userId": "2"}).json["successCount"] == 1
        reply = unsubscribe(client, number, {"email": "a@x.io"})
        left = ["1"] if project_type == "user_id" else []
        assert (members(client, number), reply.json["failCount"]) == (left, len(left))


@pytest.mark.parametrize(
    ("rest", "channels", "said"),
    [
        ({}, [], "absent"),
        ({"channelUnsubscribe": None}, [], "absent"),
        ({"channelUnsubscribe": False}, [], "false"),
        ({"channelUnsubscribe": True, "campaignId": 5}, [102161], "true"),
    ],
)
def test_the_channel_is_left_only_on_demand(make: Make, rest: dict[str, Any], channels: list[int], said: str) -> None:
    """With channelUnsubscribe the user leaves the channel as well; what requests said is counted."""
    client = make()
    number = new_list(client)
    subscribe(client, number, {"email": "a@x.io"})
    for _ in range(2):
        unsubscribe(client, number, {"email": "a@x.io"}, **rest)
    assert client.fields_of("a@x.io")["unsubscribedChannelIds"] == channels
    [row] = ask(client, "GET", "/sandbox/lists").json["lists"]
    assert row["channelUnsubscribe"] == {"true": 0, "false": 0, "absent": 0} | {said: 2}


@pytest.mark.parametrize(
    ("call", "body", "params"),
    [
        ("subscribe", {"listId": "3001", "subscribers": []}, {"obj.listId": "Number value expected"}),
        ("subscribe", {"listId": True, "subscribers": []}, {"obj.listId": "Number value expected"}),
        ("subscribe", {"listId": 1.5, "subscribers": []}, {"obj.listId": "Number value expected"}),
        ("subscribe", {"subscribers": [{"dataFields": 1}]},
         {"obj.listId": "error.path.missing", "obj.subscribers[0].dataFields": "Object value expected"}),
        ("subscribe", {"listId": 3001, "subscribers": [], "updateExistingUsersOnly": "yes"},
         {"obj.updateExistingUsersOnly": "Boolean value expected"}),
        ("unsubscribe", {"listId": 3001}, {"obj.subscribers": "error.path.missing"}),
        ("unsubscribe", {"listId": 3001, "subscribers": [{"email": 1}], "channelUnsubscribe": 0},
         {"obj.subscribers[0].email": "String value expected", "obj.channelUnsubscribe": "Boolean value expected"}),
    ],
)  # fmt: skip
def test_wrong_json_types_take_nobody(make: Make, call: str, body: Any, params: dict[str, str]) -> None:
    """A value of the wrong JSON type refuses the request and says where."""
    client = make()
    new_list(client)
    reply = client.post(f"lists/{call}", body)
    assert reply.status == 400
    assert reply.json == {"msg": f"[/api/lists/{call}] Invalid JSON body", "code": "BadJsonBody", "params": params}


@pytest.mark.parametrize("call", ["subscribe", "unsubscribe"])
def test_batches_of_subscribers_have_sizes(make: Make, call: str) -> None:
    """The limits of bulk calls hold."""
    client = make(max_records=2)
    body = {"listId": new_list(client), "subscribers": [{"email": f"{name}@x.io"} for name in "abc"]}
    assert client.post(f"lists/{call}", body).code == "BatchTooLarge"
    assert last(client)["records"] == 3
    client = make()
    new_list(client)
    body["subscribers"] = [{"email": "a@x.io"}]
    raw = json.dumps(body).encode()
    assert client.post(f"lists/{call}", raw.ljust(4_000_000)).status == 200
    assert client.post(f"lists/{call}", raw.ljust(4_000_001)).status == 413


def test_members_are_read_as_text(make: Make) -> None:
    """One identifier a line with a trailing newline; a hybrid project gives user IDs on demand."""
    client = make("hybrid")
    number = new_list(client)
    assert client.get(f"lists/getUsers?listId={number}").text == ""
    subscribe(client, number, {"email": "a@x.io", "userId": "1"}, {"email": "b@x.io"}, {"userId": "3"})
    reply = client.get(f"lists/getUsers?listId={number}")
    assert (reply.text, reply.headers["Content-Type"]) == ("a@x.io\nb@x.io\n3\n", "text/plain; charset=utf-8")
    assert client.get(f"lists/getUsers?listId={number}&preferUserId=true").text == "1\nb@x.io\n3\n"
    assert client.get(f"lists/{number}/size").text == "3"


def test_members_are_named_as_the_project_does(make: Make) -> None:
    """preferUserId changes nothing where only one kind of identifier is unique."""
    for project_type, name in (("email", "a@x.io"), ("user_id", "1")):
        client = make(project_type)
        number = new_list(client)
        subscribe(client, number, {"email": "a@x.io", "userId": "1"})
        for prefer in ("true", "false"):
            assert client.get(f"lists/getUsers?listId={number}&preferUserId={prefer}").text == f"{name}\n"


def test_a_preview_is_a_sample(make: Make) -> None:
    """It names as many members as asked for, by default 1000, at most 5000, and not always the same."""
    client = make()
    number = new_list(client)
    subscribe(client, number, *({"email": f"u{n}@x.io"} for n in range(1200)))

    def preview(rest: str = "") -> list[str]:
        return client.get(f"lists/previewUsers?listId={number}{rest}").text.splitlines()

    assert len(set(preview())) == 1000
    assert len(set(preview("&size=5000"))) == 1200
    assert set(preview("&size=9")) < set(members(client, number))
    assert preview("&size=9") != preview("&size=9")
    for wrong in ("5001", "many", "-1"):
        assert client.get(f"lists/previewUsers?listId={number}&size={wrong}").code == "BadParams"


@pytest.mark.parametrize("target", ["lists/getUsers?listId={}", "lists/{}/size", "lists/previewUsers?listId={}"])
@pytest.mark.parametrize("named", ["42", "x"])
def test_an_unknown_list_is_not_read(make: Make, target: str, named: str) -> None:
    """Reading a list that does not exist is refused, with project and list in params."""
    reply = make().get(target.format(named))
    assert reply.status == 400
    assert reply.json == {
        "msg": "Invalid email list id",
        "code": "BadParams",
        "params": {"projectId": "10216", "listId": named},
    }


@pytest.mark.parametrize("target", ["lists/getUsers?listId=3001", "lists/3001/size", "lists/previewUsers?listId=3001"])
def test_members_are_read_five_times_a_minute(make: Make, clock: Clock, target: str) -> None:
    """Five reads pass at once, the next one twelve seconds later."""
    client = make(rates=True)
    new_list(client)
    assert [client.get(target).status for _ in range(6)] == [200] * 5 + [429]
    path = target.partition("?")[0]
    refused = f"Exceeded rate limit of 5.0 per minute for endpoint: /api/{path}, project: 10216 "
    assert client.get(target).json["msg"] == refused
    clock.pass_(11.9)
    assert client.get(target).status == 429
    clock.pass_(0.1)
    assert [client.get(target).status for _ in range(2)] == [200, 429]
    clock.pass_(60)
    assert [client.get(target).status for _ in range(6)] == [200] * 5 + [429]


def test_the_calls_about_lists_have_rates(make: Make) -> None:
    """A hundred reads of the lists pass in a second; what has no stated rate is not limited."""
    client = make(rates=True)
    assert [client.get("lists").status for _ in range(101)] == [200] * 100 + [429]
    numbers = [new_list(client) for _ in range(300)]
    assert {subscribe(client, number, {"email": "a@x.io"}).status for number in numbers} == {200}
    assert {client.send("DELETE", f"/api/lists/{number}").status for number in numbers} == {200}


def test_a_read_only_key_reads_lists_and_sizes(make: Make) -> None:
    """It may see lists and their sizes, not their members, and change nothing."""
    client = make(api_key="key", read_only_keys=["reader"])
    number = new_list(client)
    for name in ("lists", f"lists/{number}/size"):
        assert client.get(name, api_key="reader").status == 200
    for name in (f"lists/getUsers?listId={number}", f"lists/previewUsers?listId={number}"):
        assert client.get(name, api_key="reader").status == 401
    assert client.post("lists", {"name": "VIP"}, api_key="reader").status == 401
    assert client.send("DELETE", f"/api/lists/{number}", api_key="reader").status == 401


def test_membership_goes_with_the_profile(make: Make) -> None:
    """It moves with an address, and ends when the user is deleted or forgotten."""
    client = make("email")
    number = new_list(client)
    subscribe(client, number, *({"email": f"{name}@x.io"} for name in "abc"))
    client.post("users/updateEmail", {"currentEmail": "a@x.io", "newEmail": "z@x.io"})
    client.send("DELETE", "/api/users/b@x.io")
    client.post("users/forget", {"email": "c@x.io"})
    assert members(client, number) == ["z@x.io"]
    client.bulk({"email": "b@x.io"})
    assert client.get(f"lists/{number}/size").text == "1"


def test_an_update_may_write_the_field_of_lists(make: Make) -> None:
    """bulkUpdate can put users on lists and take them off by the field, which is no subscription."""
    client = make()
    number = new_list(client)
    client.bulk(
        {"email": "a@x.io", "dataFields": {"emailListIds": [number, 42]}},
        {"email": "b@x.io", "dataFields": {"emailListIds": number}},
    )
    assert members(client, number) == ["a@x.io", "b@x.io"]
    subscribe(client, number, {"email": "b@x.io"})
    client.bulk({"email": "a@x.io", "dataFields": {"emailListIds": None}})
    assert members(client, number) == ["b@x.io"]
    [row] = ask(client, "GET", "/sandbox/lists").json["lists"]
    assert (row["size"], row["subscribes"]) == (1, 1)


def test_new_members_take_as_long_as_new_profiles(make: Make, clock: Clock) -> None:
    """Within visible_after a new user is not among the members that are read."""
    client = make(visible_after=60)
    number = new_list(client)
    subscribe(client, number, {"email": "a@x.io"})
    clock.pass_(59)
    assert (members(client, number), client.get(f"lists/{number}/size").text) == ([], "0")
    clock.pass_(1)
    assert members(client, number) == ["a@x.io"]


def test_the_lists_can_be_inspected(make: Make) -> None:
    """Size, accepted writes and members of each list are shown, the members only on demand."""
    client = make("hybrid")
    number, other = new_list(client), new_list(client, "Other")
    subscribe(client, number, {"email": "a@x.io", "userId": "1"}, {"userId": "2"}, {"email": "foo@"})
    subscribe(client, number, {"userId": "2"}, {"userId": "3"})
    unsubscribe(client, number, {"userId": "3"}, {"userId": "4"}, channelUnsubscribe=False)
    client.send("DELETE", f"/api/lists/{other}")
    row = {
        "id": number,
        "name": "VIP",
        "description": None,
        "listType": "Standard",
        "size": 2,
        "subscribes": 4,
        "unsubscribes": 1,
        "channelUnsubscribe": {"true": 0, "false": 1, "absent": 0},
    }
    shown = {"lists": [row], "created": {"VIP": 1, "Other": 1}, "deleted": [other]}
    assert ask(client, "GET", "/sandbox/lists").json == shown
    row["members"] = [
        {"email": "a@x.io", "userId": "1", "writes": 1},
        {"email": None, "userId": "2", "writes": 2},
    ]
    assert ask(client, "GET", "/sandbox/lists?members=1").json == shown
    row["members"] = row["members"][:1]  # type: ignore[index]
    assert ask(client, "GET", "/sandbox/lists?members=1&limit=1").json == shown
    assert ask(client, "GET", "/sandbox/state").json["lists"] == 1


def test_lists_of_other_types_can_be_made_from_behind(make: Make) -> None:
    """They take members unless the option says that only static lists do."""
    client = make()
    number = ask(client, "POST", "/sandbox/lists", {"name": "VIP", "listType": "Dynamic"}).json["listId"]
    ask(client, "POST", "/sandbox/lists", {"name": "Bad", "listType": "Suppression"})
    rows = client.get("lists").json["lists"]
    assert [(row["listType"], row.get("isGlobalSuppressionEnabled")) for row in rows] == [
        ("Dynamic", None),
        ("Suppression", False),
    ]
    assert subscribe(client, number, {"email": "a@x.io"}).status == 200
    client.project.options = client.project.options.changed({"static_lists_only": True})
    assert subscribe(client, number, {"email": "b@x.io"}).code == "BadParams"
    assert unsubscribe(client, number, {"email": "a@x.io"}).code == "BadParams"
    assert members(client, number) == ["a@x.io"]
    assert ask(client, "POST", "/sandbox/lists", {"name": "VIP", "listType": "Static"}).status == 400


@pytest.mark.parametrize(
    ("kind", "status", "applied"),
    [
        ("429", 429, False),
        ("5xx_html", 503, False),
        ("drop_before", 0, False),
        ("drop_after", 0, True),
        ("malformed", 200, True),
        ("slow", 200, True),
    ],
)
def test_faults_befall_lists(make: Make, kind: str, status: int, applied: bool) -> None:
    """Making a list, subscribing and unsubscribing go wrong as other calls do, before or after being applied."""
    client = make()
    ready = new_list(client, "ready")
    subscribe(client, ready, {"email": "old@x.io"})
    spoil(client, {"kind": kind, "path": "/api/lists", "times": 3})
    assert client.post("lists", {"name": "VIP"}).status == status
    assert subscribe(client, ready, {"email": "a@x.io"}).status == status
    assert unsubscribe(client, ready, {"email": "old@x.io"}).status == status
    assert [call.applied for call in client.service.calls.after()[-3:]] == [applied] * 3
    assert len(client.project.lists) == (2 if applied else 1)
    assert members(client, ready) == (["a@x.io"] if applied else ["old@x.io"])


def test_a_false_429_of_a_list_read_names_its_rate(make: Make) -> None:
    """Its message is that of the endpoint."""
    client = make()
    spoil(client, {"kind": "429"})
    assert "5.0 per minute for endpoint: /api/lists/7/size," in client.get("lists/7/size").json["msg"]


def test_calls_about_lists_remember_whom_they_wrote(make: Make) -> None:
    """With record_identifiers the accepted subscribers are in the log, those refused are not."""
    client = make(record_identifiers=True)
    number = new_list(client)
    subscribe(client, number, {"email": "a@x.io"}, {"email": "foo@"})
    unsubscribe(client, number, {"email": "A@x.io"}, {"email": "b@x.io"})
    calls = ask(client, "GET", "/sandbox/calls?identifiers=1").json["calls"]
    assert [call["identifiers"] for call in calls[1:]] == [[["email", "a@x.io"]]] * 2
    assert [(call["template"], call["records"]) for call in calls[1:]] == [
        ("/api/lists/subscribe", 2),
        ("/api/lists/unsubscribe", 2),
    ]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["subscribe", "unsubscribe", "delete"]),
        st.integers(0, 1),
        st.lists(st.sampled_from(["a@x.io", "A@x.io", "b@x.io", "foo@"]), min_size=1, max_size=3),
    ),
    max_size=10,
)


@given(STEPS)
def test_members_are_those_put_on_and_not_taken_off(steps: list[tuple[str, int, list[str]]]) -> None:
    """After any calls a list holds exactly those who were last put on, and counts add up."""
    clock = Clock()
    client = Client(Service("email", options=Options().changed({"rates": False}), clock=clock), clock)
    numbers = [new_list(client), new_list(client)]
    expected: list[set[str]] = [set(), set()]
    for call, which, emails in steps:
        good = {email.lower() for email in emails if email != "foo@"}
        if call == "delete":
            for email in good:
                client.send("DELETE", f"/api/users/{email}")
            expected = [held - good for held in expected]
            continue
        body = {"listId": numbers[which], "subscribers": [{"email": email} for email in emails]}
        answer = client.post(f"lists/{call}", body).json
        assert answer["successCount"] + answer["failCount"] == len(emails)
        assert sum(map(len, answer["failedUpdates"].values())) == answer["failCount"]
        expected[which] = expected[which] | good if call == "subscribe" else expected[which] - good
    assert [set(members(client, number)) for number in numbers] == expected
