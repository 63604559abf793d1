"""What bulkUpdate takes, writes and answers beyond identities and types."""

import json
from typing import Any

import pytest

from .conftest import Make

ARRAYS: dict[str, list[str]] = {
    f"{reason}{kind}": []
    for reason in ("invalid", "notFound", "invalidData", "conflict", "forgotten")
    for kind in ("Emails", "UserIds")
}


def user(name: str, **fields: Any) -> dict[str, Any]:
    """Return a record with data fields."""
    return {"email": f"{name}@x.io", "dataFields": fields}


def test_the_whole_answer(make: Make) -> None:
    """The answer has the counts and all arrays, empty where there is nothing to report."""
    assert make().bulk(user("a", f=1)).json == {
        "successCount": 1,
        "failCount": 0,
        "invalidEmails": [],
        "invalidUserIds": [],
        "filteredOutFields": [],
        "createdFields": ["f"],
        "noOpEmails": [],
        "noOpUserIds": [],
        "failedUpdates": ARRAYS,
    }


def test_no_users_is_an_error(make: Make) -> None:
    """An empty list is refused as if its addresses were invalid."""
    reply = make().bulk()
    assert reply.status == 400
    assert reply.json == {"msg": "Emails invalid: ", "code": "InvalidEmailAddressError", "params": None}


def test_fields_not_mentioned_stay(make: Make) -> None:
    """A mentioned field is replaced, objects and lists whole; null removes it."""
    client = make()
    client.bulk(user("a", kept=1, gone=2, o={"x": 1, "y": 2}, l=[1, 2]))
    client.bulk(user("a", gone=None, o={"y": 3}, l=[3], absent=None))
    assert client.fields_of("a@x.io") == {"kept": 1, "o": {"y": 3}, "l": [3]}


def test_merging_goes_one_level_deep(make: Make) -> None:
    """With mergeNestedObjects, members not mentioned stay, null removes one, deeper objects are replaced."""
    client = make()
    client.bulk(user("a", o={"kept": 1, "gone": 2, "deep": {"x": 1, "y": 2}, "l": [1, 2]}, plain=1))
    merge = {"mergeNestedObjects": True}
    client.bulk(user("a", o={"gone": None, "deep": {"y": 3}, "l": [3]}, plain=2) | merge)
    assert client.fields_of("a@x.io") == {"o": {"kept": 1, "deep": {"y": 3}, "l": [3]}, "plain": 2}
    client.bulk(user("a", o=None) | merge)
    assert client.fields_of("a@x.io") == {"plain": 2}
    client.bulk(user("b", o={"kept": 1, "gone": None}) | merge)
    assert client.fields_of("b@x.io") == {"o": {"kept": 1}}


def test_merging_is_each_record_s_own_choice(make: Make) -> None:
    """Two records of one batch may differ in mergeNestedObjects."""
    client = make()
    client.bulk(user("a", o={"x": 1}), user("b", o={"x": 1}))
    client.bulk(user("a", o={"y": 2}) | {"mergeNestedObjects": True}, user("b", o={"y": 2}))
    assert client.fields_of("a@x.io") == {"o": {"x": 1, "y": 2}}
    assert client.fields_of("b@x.io") == {"o": {"y": 2}}


@pytest.mark.parametrize(("reverse", "last"), [(False, 2), (True, 1)])
def test_the_same_user_twice_is_written_twice(make: Make, reverse: bool, last: int) -> None:
    """Records are applied in order, or in reverse by option, and each counts."""
    client = make(reverse_order=reverse)
    reply = client.bulk(user("a", f=1), user("A", f=2))
    assert reply.json["successCount"] == 2
    assert client.fields_of("a@x.io") == {"f": last}
    [profile] = client.project.profiles
    assert profile.writes == 2


def test_unchanged_profiles_may_be_listed(make: Make) -> None:
    """noOp arrays are empty unless asked for; then they name profiles that stayed the same, as successes."""
    client = make("hybrid")
    client.bulk(user("a", f=1), {"userId": "1", "dataFields": {"f": 1}})
    again = [user("a", f=1), {"userId": "1", "dataFields": {"f": 1, "g": None}}, user("a", f=2)]
    assert client.bulk(*again[:2]).json["noOpEmails"] == []
    client.project.options = client.project.options.changed({"report_no_ops": True})
    body = client.bulk(*again).json
    assert (body["noOpEmails"], body["noOpUserIds"], body["successCount"]) == (["a@x.io"], ["1"], 3)


def test_invalid_data_can_be_injected(make: Make) -> None:
    """Records of the named identifiers are refused for their data, by email if they have one."""
    client = make("hybrid", invalid_data=["a@x.io", "2"])
    reply = client.bulk(user("a", f=1), {"userId": "2"}, {"email": "c@x.io", "userId": "2"}, user("d"))
    failed = reply.json["failedUpdates"]
    assert (failed["invalidDataEmails"], failed["invalidDataUserIds"]) == (["a@x.io", "c@x.io"], ["2"])
    assert (reply.json["successCount"], reply.json["failCount"]) == (1, 3)
    assert client.fields_of("a@x.io") is None


@pytest.mark.parametrize(
    ("body", "params"),
    [
        ({"users": [user("a"), user("b") | {"preferUserId": "yes"}]},
         {"obj.users[1].preferUserId": "Boolean value expected"}),
        ({"users": [user("a") | {"mergeNestedObjects": 1}]},
         {"obj.users[0].mergeNestedObjects": "Boolean value expected"}),
        ({"users": [{"email": 5, "userId": True}]},
         {"obj.users[0].email": "String value expected", "obj.users[0].userId": "String value expected"}),
        ({"users": [{"email": "a@x.io", "dataFields": []}]},
         {"obj.users[0].dataFields": "Object value expected"}),
        ({"users": [None, "a@x.io"]},
         {"obj.users[0]": "Object value expected", "obj.users[1]": "Object value expected"}),
        ({"users": {}}, {"obj.users": "Array value expected"}),
        ({"users": [user("a")], "createNewFields": "no"}, {"obj.createNewFields": "Boolean value expected"}),
        ({}, {"obj.users": "error.path.missing"}),
        ({"users": None}, {"obj.users": "error.path.missing"}),
        ([], {"obj": "Object value expected"}),
    ],
)  # fmt: skip
def test_wrong_json_types_fail_the_request(make: Make, body: Any, params: dict[str, str]) -> None:
    """A value of the wrong JSON type fails the whole request; params say where, counted from zero."""
    client = make()
    reply = client.post("users/bulkUpdate", body)
    assert reply.status == 400
    assert reply.json == {
        "msg": "[/api/users/bulkUpdate] Invalid JSON body",
        "code": "BadJsonBody",
        "params": params,
    }
    assert len(client.project.profiles) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"users",
        b'{"users":[{"email":"a@x.io","dataFields":{"f":NaN}}]}',
        b'{"users":[{"email":"\xff"}]}',
        b'{"users":' + b"[" * 100_000,
        b'{"users":[{"email":"a@x.io","dataFields":' + b'{"f":' * 5000 + b"1" + b"}" * 5001 + b"]}",
    ],
)
def test_what_is_no_json_fails_the_request(make: Make, body: bytes) -> None:
    """A body that is no JSON, or nested out of all measure, is refused without details."""
    client = make()
    reply = client.post("users/bulkUpdate", body)
    assert (reply.status, reply.code, reply.json["params"]) == (400, "BadJsonBody", None)
    assert client.project.schema.custom == {}


def test_optional_members_may_be_null_and_unknown_ones_are_ignored(make: Make) -> None:
    """null stands for an absent member; members Iterable does not know do no harm."""
    client = make()
    record = {"email": "a@x.io", "userId": None, "dataFields": None, "preferUserId": None, "extra": 1}
    assert client.bulk(record, createNewFields=None, other=[]).json["successCount"] == 1


def test_the_body_has_a_largest_size(make: Make) -> None:
    """A body of max_bytes passes; one byte more is refused with 413 and no JSON, whatever is in it."""
    body = json.dumps({"users": [user("a", f=1)]}).encode()
    client = make(max_bytes=len(body))
    assert client.post("users/bulkUpdate", body).status == 200
    reply = client.post("users/bulkUpdate", body + b" ")
    assert (reply.status, reply.headers["Content-Type"]) == (413, "text/html; charset=utf-8")
    client.project.options = client.project.options.changed({"too_large": "BatchTooLarge"})
    reply = client.post("users/bulkUpdate", body + b" ")
    assert (reply.status, reply.code) == (400, "BatchTooLarge")


def test_the_largest_size_is_four_million_bytes(make: Make) -> None:
    """By default a body of 4,000,000 bytes passes."""
    body = json.dumps({"users": [user("a", f="x")]}).encode()
    client = make()
    assert client.post("users/bulkUpdate", body.ljust(4_000_000)).status == 200
    assert client.post("users/bulkUpdate", body.ljust(4_000_001)).status == 413


def test_the_number_of_records_may_be_capped(make: Make) -> None:
    """There is no cap unless one is set."""
    client = make()
    assert client.bulk(*(user(f"u{n}") for n in range(1500))).json["successCount"] == 1500
    client.project.options = client.project.options.changed({"max_records": 2})
    assert client.bulk(user("a"), user("b")).status == 200
    reply = client.bulk(user("a"), user("b"), user("c"))
    assert (reply.status, reply.code) == (400, "BatchTooLarge")
