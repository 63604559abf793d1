"""Single updates, reads, deletions, changes of address and forgetting."""

import hashlib
from typing import Any

import pytest

from airflow_provider_iterable.sandbox.options import ProjectType

from .conftest import START, Clock, Make

NOW = "2025-10-09 08:53:20 +00:00"


def sha256(text: str) -> str:
    """Return the hash of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def test_an_update_answers_in_the_envelope(make: Make) -> None:
    """users/update writes one user and answers with a sentence."""
    client = make()
    reply = client.post("users/update", {"email": "a@x.io", "dataFields": {"f": 1}})
    assert reply.status == 200
    assert reply.json == {"msg": "User successfully created/updated.", "code": "Success", "params": None}
    assert client.fields_of("a@x.io") == {"f": 1}


def test_a_read_shows_system_fields(make: Make, clock: Clock) -> None:
    """dataFields repeats the identifiers and adds what Iterable keeps; storage stays free of it."""
    client = make("email")
    client.post("users/update", {"email": "A@x.io", "userId": "1", "dataFields": {"f": 1}})
    clock.pass_(60)
    client.post("users/update", {"email": "a@x.io", "dataFields": {"g": 2}})
    later = "2025-10-09 08:54:20 +00:00"
    assert client.read("a@x.io") == {
        "user": {
            "email": "a@x.io",
            "userId": "1",
            "dataFields": {
                "email": "a@x.io",
                "userId": "1",
                "f": 1,
                "g": 2,
                "signupDate": NOW,
                "signupSource": "API",
                "profileUpdatedAt": later,
                "itblInternal": {
                    "documentCreatedAt": NOW,
                    "documentUpdatedAt": later,
                    "emailDomain": "x.io",
                },
            },
        }
    }
    assert client.fields_of("a@x.io") == {"f": 1, "g": 2}


def test_the_signup_date_may_be_written_and_removed(make: Make) -> None:
    """signupDate is a field like others: a value replaces it, null removes it."""
    client = make()
    client.bulk({"email": "a@x.io", "dataFields": {"signupDate": "2020-08-19T20:50:04.000Z"}})
    assert client.read("a@x.io")["user"]["dataFields"]["signupDate"] == "2020-08-19 20:50:04 +00:00"
    client.bulk({"email": "a@x.io", "dataFields": {"signupDate": None}})
    fields = client.read("a@x.io")["user"]["dataFields"]
    assert ("signupDate" in fields, fields["signupSource"]) == (False, "API")


@pytest.mark.parametrize("target", ["users/getByEmail?email=a%2Bb%2Fc%40x.io", "users/A%2Bb%2Fc%40x.io"])
def test_reads_by_email(make: Make, target: str) -> None:
    """A user is read by email, folded, in path or query."""
    client = make()
    client.bulk({"email": "a+b/c@x.io"})
    assert client.get(target).json["user"]["email"] == "a+b/c@x.io"


def test_a_plus_sign_must_be_encoded(make: Make) -> None:
    """A bare plus sign in path or query is a space."""
    client = make()
    client.bulk({"email": "a+b@x.io"})
    assert client.get("users/a+b@x.io").json["msg"] == "Invalid email: a b@x.io"
    assert client.get("users/getByEmail?email=a+b@x.io").status == 400


def test_an_unknown_email_reads_as_an_empty_object(make: Make) -> None:
    """It is no error; a malformed one is."""
    client = make("hybrid")
    assert (client.get("users/b@x.io").status, client.read("b@x.io")) == (200, {})
    reply = client.get("users/getByEmail?email=foo@")
    assert (reply.status, reply.code) == (400, "InvalidEmailAddressError")
    assert client.get("users/getByEmail").json["msg"] == "Invalid email: "


@pytest.mark.parametrize("target", ["users/byUserId?userId=a%2Fb", "users/byUserId/a%2Fb"])
@pytest.mark.parametrize("project_type", ["email", "user_id", "hybrid"])
def test_reads_by_user_id(make: Make, target: str, project_type: ProjectType) -> None:
    """A user is read by user ID in every project type."""
    client = make(project_type)
    client.bulk({"userId": "a/b", "preferUserId": True, "dataFields": {"f": 1}})
    user = client.get(target).json["user"]
    assert (user["userId"], user["dataFields"]["f"]) == ("a/b", 1)


@pytest.mark.parametrize(
    ("options", "status", "body"),
    [
        ({}, 400, "error.users.noUserWithIdExists"),
        ({"unknown_user_id_status": 500}, 500, "error.users.noUserWithIdExists"),
        ({"unknown_user_id": "envelope"}, 400, '"No user exists with userId none","code":"UnknownUserIdError"'),
        ({"unknown_user_id": "text"}, 400, "No user with that id exists!"),
        ({"unknown_user_id": "empty"}, 200, "{}"),
    ],
)
def test_an_unknown_user_id_reads_as_the_options_say(
    make: Make, options: dict[str, Any], status: int, body: str
) -> None:
    """Two error codes, the oldest text, or an empty object have all been met."""
    reply = make(**options).get("users/byUserId/none")
    assert reply.status == status
    assert body in reply.text


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("email=A%40x.io", 200, None),
        ("userId=1&limit=1000&campaignIds=5", 200, None),
        ("userId=unknown", 200, None),
        ("", 400, "BadParams"),
        ("email=foo@", 400, "InvalidEmailAddressError"),
        ("email=a@x.io&limit=1001", 400, "BadParams"),
        ("email=a@x.io&limit=0", 400, "BadParams"),
    ],
)
def test_sent_messages_are_no_user(make: Make, query: str, status: int, code: str | None) -> None:
    """getSentMessages is an endpoint, not somebody's address; nobody is sent a message here."""
    client = make("hybrid")
    client.bulk({"email": "a@x.io", "userId": "1"})
    reply = client.get(f"users/getSentMessages?{query}")
    assert (reply.status, reply.json.get("code")) == (status, code)
    assert code is not None or reply.json == {"messages": []}


def test_emails_select_nothing_in_a_user_id_project(make: Make) -> None:
    """Reading, deleting and changing by email are refused where emails are not unique."""
    client = make("user_id")
    client.bulk({"userId": "1", "email": "a@x.io"})
    assert client.get("users/a@x.io").code == "BadParams"
    assert client.send("DELETE", "/api/users/a@x.io").code == "BadParams"
    assert client.post("users/updateEmail", {"currentUserId": "1", "newEmail": "b@x.io"}).code == "BadParams"
    assert len(client.project.profiles) == 1


def test_a_new_profile_may_take_time_to_appear(make: Make, clock: Clock) -> None:
    """Within visible_after a new profile reads as an empty object."""
    client = make("hybrid", visible_after=60)
    client.bulk({"email": "a@x.io", "userId": "1"})
    clock.pass_(59)
    assert (client.read("a@x.io"), client.get("users/byUserId/1").json) == ({}, {})
    clock.pass_(1)
    assert client.read("a@x.io")["user"]["userId"] == "1"


def test_deleting_by_email(make: Make) -> None:
    """A deleted user is gone and may come again; an unknown one is as good as deleted."""
    client = make()
    client.bulk({"email": "a@x.io", "dataFields": {"f": 1}})
    reply = client.send("DELETE", "/api/users/A%40x.io")
    assert (reply.status, reply.json) == (200, {"msg": "", "code": "Success", "params": None})
    assert client.read("a@x.io") == {}
    assert client.send("DELETE", "/api/users/a@x.io").status == 200
    assert client.send("DELETE", "/api/users/foo@").code == "InvalidEmailAddressError"
    client.bulk({"email": "a@x.io"})
    assert client.fields_of("a@x.io") == {}


def test_deleting_by_user_id_takes_all_who_share_it(make: Make) -> None:
    """In an email-based project several profiles may go; an unknown user ID is an error."""
    client = make("email")
    client.bulk(*({"email": f"{name}@x.io", "userId": "1"} for name in "abc"), {"email": "d@x.io"})
    reply = client.send("DELETE", "/api/users/byUserId/1")
    assert reply.json["msg"] == "All users associated with 1 were successfully deleted"
    assert [profile.email for profile in client.project.profiles] == ["d@x.io"]
    reply = client.send("DELETE", "/api/users/byUserId/1")
    assert (reply.status, reply.code) == (400, "BadParams")
    assert reply.json["msg"] == "User does not exist. Email:  UserId: 1"


def test_a_shared_user_id_outlives_its_first_bearer(make: Make) -> None:
    """When the oldest of those who share a user ID goes, the next one is found by it."""
    client = make("email")
    client.bulk(*({"email": f"{name}@x.io", "userId": "1"} for name in "abc"))
    client.send("DELETE", "/api/users/b@x.io")
    client.send("DELETE", "/api/users/a@x.io")
    client.bulk({"userId": "1", "dataFields": {"f": 1}})
    assert client.fields_of("c@x.io") == {"f": 1}


def test_an_address_changes_with_the_profile(make: Make, clock: Clock) -> None:
    """updateEmail moves the values, the signupDate among them, into a new document; the old address is unknown then."""
    client = make()
    client.bulk({"email": "a@x.io", "userId": "1", "dataFields": {"f": 1}})
    clock.pass_(3600)
    reply = client.post("users/updateEmail", {"currentEmail": "A@x.io", "newEmail": "B@x.io"})
    assert (reply.status, reply.code) == (200, "Success")
    assert client.read("a@x.io") == {}
    fields = client.read("b@x.io")["user"]["dataFields"]
    assert (fields["f"], fields["userId"], fields["signupDate"]) == (1, "1", NOW)
    assert fields["itblInternal"]["documentCreatedAt"] == "2025-10-09 09:53:20 +00:00"


@pytest.mark.parametrize(
    ("written", "after"),
    [
        ("2020-08-19", "2020-08-19 00:00:00 +00:00"),
        (None, "2025-10-09 09:53:20 +00:00"),
    ],
)
def test_a_new_address_makes_a_signup_date_only_where_there_is_none(
    make: Make, clock: Clock, written: str | None, after: str
) -> None:
    """One that was written is kept, one that was removed comes anew, and stays from then on."""
    client = make()
    client.bulk({"email": "a@x.io", "dataFields": {"signupDate": "2020-01-01"}})
    client.bulk({"email": "a@x.io", "dataFields": {"signupDate": written}})
    for old, new in (("a@x.io", "b@x.io"), ("b@x.io", "c@x.io")):
        clock.pass_(3600)
        client.post("users/updateEmail", {"currentEmail": old, "newEmail": new})
        assert client.read(new)["user"]["dataFields"]["signupDate"] == after


def test_the_current_email_wins(make: Make) -> None:
    """Of both currentEmail and currentUserId the email selects; either will do."""
    client = make()
    client.bulk({"email": "a@x.io", "userId": "1"}, {"email": "b@x.io", "userId": "2"})
    both = {"currentEmail": "a@x.io", "currentUserId": "2", "newEmail": "c@x.io"}
    assert client.post("users/updateEmail", both).status == 200
    assert client.post("users/updateEmail", {"currentUserId": "2", "newEmail": "d@x.io"}).status == 200
    assert {p.email: p.user_id for p in client.project.profiles} == {"c@x.io": "1", "d@x.io": "2"}


@pytest.mark.parametrize(
    ("body", "status", "code", "msg"),
    [
        ({"currentEmail": "foo@", "newEmail": "c@x.io"}, 400, "InvalidEmailAddressError",
         "Invalid currentEmail foo@"),
        ({"currentEmail": "a@x.io", "newEmail": "foo@"}, 400, "InvalidEmailAddressError",
         "Invalid newEmail foo@"),
        ({"currentEmail": "z@x.io", "newEmail": "c@x.io"}, 400, "UnknownEmailError",
         "No user exists with email z@x.io"),
        ({"currentUserId": "z", "newEmail": "c@x.io"}, 400, "UnknownUserIdError",
         "No user exists with userId z"),
        ({"currentEmail": "a@x.io", "newEmail": "B@x.io"}, 400, "EmailAlreadyExists", None),
        ({"newEmail": "c@x.io"}, 400, "BadParams", None),
        ({"currentEmail": "a@x.io"}, 400, "BadJsonBody", None),
        ({"currentEmail": "a@x.io", "newEmail": 5}, 400, "BadJsonBody", None),
        ({"currentEmail": "a@x.io", "newEmail": "gone@x.io"}, 409, "ForgottenUserError", None),
        ({"currentEmail": "gone@x.io", "newEmail": "c@x.io"}, 409, "ForgottenUserError", None),
    ],
)  # fmt: skip
def test_a_change_of_address_is_refused(
    make: Make, body: dict[str, Any], status: int, code: str, msg: str | None
) -> None:
    """Bad, unknown, taken and forgotten addresses are refused, and nothing moves."""
    client = make()
    client.bulk({"email": "a@x.io"}, {"email": "b@x.io"})
    client.post("users/forget", {"email": "gone@x.io"})
    reply = client.post("users/updateEmail", body)
    assert (reply.status, reply.code) == (status, code)
    assert msg in (None, reply.json["msg"])
    assert {profile.email for profile in client.project.profiles} == {"a@x.io", "b@x.io"}


def test_a_forgotten_user_is_gone_and_barred(make: Make) -> None:
    """Bulk calls list them in arrays, single calls answer 409; unforgetting lifts the bar, not the loss."""
    client = make("hybrid")
    client.bulk({"email": "a@x.io", "dataFields": {"f": 1}}, {"userId": "2"}, {"userId": "3"})
    assert client.post("users/forget", {"email": "A@x.io"}).json["code"] == "Success"
    client.post("users/forget", {"userId": "2"})
    assert client.read("a@x.io") == {}
    rename = {"userId": "3", "dataFields": {"email": "a@x.io"}}
    reply = client.bulk({"email": "a@x.io"}, {"userId": "2", "email": "b@x.io"}, {"userId": "4"}, rename)
    failed = reply.json["failedUpdates"]
    assert failed["forgottenEmails"] == ["a@x.io", "a@x.io"]
    assert failed["forgottenUserIds"] == ["2"]
    assert (reply.json["successCount"], reply.json["failCount"]) == (1, 3)
    single = client.post("users/update", {"email": "a@x.io"})
    assert (single.status, single.code) == (409, "ForgottenUserError")
    client.project.options = client.project.options.changed({"forgotten_status": 400})
    assert client.post("users/update", {"email": "a@x.io"}).status == 400
    assert client.post("users/unforget", {"email": "a@x.io"}).status == 200
    assert client.bulk({"email": "a@x.io"}).json["successCount"] == 1
    assert client.fields_of("a@x.io") == {}


@pytest.mark.parametrize("project_type", ["user_id", "hybrid"])
def test_forgetting_by_user_id(make: Make, project_type: ProjectType) -> None:
    """It deletes the user, bars the user ID, and is undone by its own kind of identifier."""
    client = make(project_type)
    client.bulk({"userId": "1", "dataFields": {"f": 1}}, {"userId": "2"})
    client.post("users/forget", {"userId": "1"})
    assert [profile.user_id for profile in client.project.profiles] == ["2"]
    assert client.post("users/update", {"userId": "1"}).code == "ForgottenUserError"
    client.post("users/unforget", {"userId": "1"})
    assert client.post("users/update", {"userId": "1"}).status == 200
    assert client.fields_of("1") == {}


def test_forgotten_users_are_listed_as_hashes(make: Make) -> None:
    """The hash is the SHA-256 of the trimmed identifier in lower case."""
    client = make("hybrid")
    client.post("users/forget", {"email": "A@x.io"})
    client.post("users/forget", {"userId": "U2"})
    assert client.get("users/forgotten").json == {"hashedEmails": [sha256("a@x.io")]}
    assert client.get("users/forgottenUserIds").json == {"hashedUserIds": [sha256("u2")]}
    assert client.get("users/forgotten").status == 200


@pytest.mark.parametrize(
    ("project_type", "works", "fails", "good", "bad"),
    [
        ("email", "forgotten", "forgottenUserIds", {"email": "a@x.io"}, {"userId": "1"}),
        ("user_id", "forgottenUserIds", "forgotten", {"userId": "1"}, {"email": "a@x.io"}),
    ],
)
def test_forgetting_goes_by_the_project_s_identifier(
    make: Make,
    project_type: ProjectType,
    works: str,
    fails: str,
    good: dict[str, str],
    bad: dict[str, str],
) -> None:
    """Email-based projects forget by email, userID-based ones by user ID, and list accordingly."""
    client = make(project_type)
    assert client.post("users/forget", good).status == 200
    assert client.post("users/forget", bad).code == "BadParams"
    assert client.get(f"users/{works}").status == 200
    assert client.get(f"users/{fails}").status == 400


def test_forgetting_an_unknown_user(make: Make) -> None:
    """It bars the user all the same, or is refused by option; a malformed address is refused."""
    client = make()
    assert client.post("users/forget", {"email": "a@x.io"}).status == 200
    assert client.bulk({"email": "a@x.io"}).json["failedUpdates"]["forgottenEmails"] == ["a@x.io"]
    assert client.post("users/forget", {"email": "foo@"}).code == "InvalidEmailAddressError"
    client = make(forget_unknown="refuse")
    reply = client.post("users/forget", {"email": "a@x.io"})
    assert (reply.status, reply.code) == (400, "BadParams")
    assert client.bulk({"email": "a@x.io"}).json["successCount"] == 1


def test_a_thousand_a_day_are_forgotten(make: Make, clock: Clock) -> None:
    """1000 calls to forget, and as many to unforget, are taken in any 24 hours."""
    client = make()
    for number in range(1000):
        assert client.post("users/forget", {"email": f"u{number}@x.io"}).status == 200
        clock.pass_(1)
    reply = client.post("users/forget", {"email": "late@x.io"})
    assert (reply.status, reply.code) == (429, "RateLimitExceeded")
    assert client.post("users/unforget", {"email": "u1@x.io"}).status == 200
    clock.now = START + 86_399.5
    assert client.post("users/forget", {"email": "late@x.io"}).status == 429
    clock.now = START + 86_400
    assert client.post("users/forget", {"email": "late@x.io"}).status == 200
    assert client.post("users/forget", {"email": "later@x.io"}).status == 429


def test_channels_and_message_types(make: Make) -> None:
    """A few fixed ones exist."""
    client = make()
    channels = client.get("channels").json["channels"]
    assert {"id", "name", "channelType", "messageMedium"} == set(channels[0])
    types = client.get("messageTypes").json["messageTypes"]
    assert {kind["channelId"] for kind in types} <= {channel["id"] for channel in channels}
