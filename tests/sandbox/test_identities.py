"""Who a record is about, by the rules of each project type."""

from typing import Any

import pytest

from airflow_provider_iterable.sandbox.options import ProjectType

from .conftest import Client, Make, Reply


def stored(client: Client) -> set[tuple[str | None, str | None]]:
    """Return the identifiers of all profiles."""
    return {(profile.email, profile.user_id) for profile in client.project.profiles}


def failed(reply: Reply) -> dict[str, list[str]]:
    """Return the arrays of failedUpdates that are not empty."""
    assert reply.status == 200
    return {name: values for name, values in reply.json["failedUpdates"].items() if values}


def test_email_project_finds_by_email_and_writes_the_user_id(make: Make) -> None:
    """Of both identifiers the email selects; the user ID is written over the old one, and may be shared."""
    client = make("email")
    client.bulk({"email": "a@x.io", "userId": "1"}, {"email": "b@x.io", "dataFields": {"userId": "1"}})
    assert stored(client) == {("a@x.io", "1"), ("b@x.io", "1")}
    client.bulk({"email": "a@x.io", "userId": "2"})
    client.bulk({"email": "a@x.io", "dataFields": {"f": 1}})
    assert stored(client) == {("a@x.io", "2"), ("b@x.io", "1")}


def test_email_project_knows_no_unknown_user_id(make: Make) -> None:
    """Only an unknown user ID is an error, in an array or as a code, unless the user ID is preferred."""
    client = make("email")
    reply = client.bulk({"userId": "u1", "dataFields": {"f": 1}})
    assert failed(reply) == {"notFoundUserIds": ["u1"]}
    assert (reply.json["successCount"], reply.json["failCount"]) == (0, 1)
    single = client.post("users/update", {"userId": "u1"})
    assert (single.status, single.code) == (400, "UnknownUserIdError")
    assert stored(client) == set()


def test_email_project_makes_up_an_address(make: Make) -> None:
    """A preferred unknown user ID makes a profile with a placeholder address, found again by its user ID."""
    client = make("email")
    assert failed(client.bulk({"userId": "User 123", "preferUserId": True, "dataFields": {"f": 1}})) == {}
    [(email, user_id)] = stored(client)
    assert user_id == "User 123"
    assert email is not None
    local, _, domain = email.partition("@")
    name, _, number = local.partition("+")
    assert (name, domain, number.isdecimal()) == ("user123", "placeholder.email", True)
    client.bulk({"userId": "User 123", "dataFields": {"g": 2}})
    assert client.fields_of(email) == {"f": 1, "g": 2}
    assert client.read(email)["user"]["userId"] == "User 123"


def test_email_project_keeps_the_address(make: Make) -> None:
    """An email in dataFields neither changes the address nor becomes a field."""
    client = make("email")
    client.bulk({"email": "a@x.io", "dataFields": {"email": "b@x.io"}})
    assert stored(client) == {("a@x.io", None)}
    assert client.fields_of("a@x.io") == {}


def test_user_id_project_finds_by_user_id_alone(make: Make) -> None:
    """An unknown user ID makes a profile; emails are written, select nothing, and may be shared."""
    client = make("user_id")
    client.bulk({"userId": "1", "email": "a@x.io"}, {"userId": "2", "dataFields": {"email": "A@x.io"}})
    assert stored(client) == {("a@x.io", "1"), ("a@x.io", "2")}
    assert failed(client.bulk({"email": "a@x.io", "dataFields": {"f": 1}})) == {"notFoundEmails": ["a@x.io"]}
    assert client.post("users/update", {"email": "a@x.io"}).code == "UnknownEmailError"


def test_hybrid_project_finds_by_either(make: Make) -> None:
    """Either identifier makes or finds a profile; a known profile gains the other one."""
    client = make("hybrid")
    client.bulk({"email": "a@x.io"}, {"userId": "2"}, {"email": "c@x.io", "userId": "3"})
    assert stored(client) == {("a@x.io", None), (None, "2"), ("c@x.io", "3")}
    client.bulk({"email": "a@x.io", "userId": "1"}, {"email": "b@x.io", "userId": "2"})
    assert stored(client) == {("a@x.io", "1"), ("b@x.io", "2"), ("c@x.io", "3")}
    assert len(client.project.profiles) == 3


def test_hybrid_project_takes_both_identifiers_of_one_profile(make: Make) -> None:
    """Both identifiers of a known profile find it, whatever their new values."""
    client = make("hybrid")
    both = {"email": "a@x.io", "userId": "1"}
    for value in (1, 2):
        assert client.bulk({**both, "dataFields": {"f": value}}).json["successCount"] == 1
    assert client.fields_of("a@x.io") == {"f": 2}
    client.bulk({"userId": "2"})
    mixed = {"email": "a@x.io", "userId": "2", "dataFields": {"email": "c@x.io"}}
    assert failed(client.bulk(mixed)) == {"conflictEmails": ["a@x.io"]}
    assert stored(client) == {("a@x.io", "1"), (None, "2")}


def test_hybrid_project_refuses_two_known_profiles(make: Make) -> None:
    """Identifiers of two profiles conflict: in an array, or as 409."""
    client = make("hybrid")
    client.bulk({"email": "a@x.io"}, {"userId": "2"})
    record = {"email": "a@x.io", "userId": "2", "dataFields": {"f": 1}}
    assert failed(client.bulk(record)) == {"conflictEmails": ["a@x.io"]}
    assert client.post("users/update", record).status == 409
    assert client.fields_of("a@x.io") == {}


@pytest.mark.parametrize("project_type", ["user_id", "hybrid"])
def test_identifiers_change_through_data_fields(make: Make, project_type: ProjectType) -> None:
    """The current identifier on top and the new one in dataFields renames a profile, with its values."""
    client = make(project_type)
    client.bulk({"userId": "old", "dataFields": {"f": 1}})
    client.bulk({"userId": "old", "dataFields": {"userId": "new", "email": "New@x.io"}})
    assert stored(client) == {("new@x.io", "new")}
    assert client.fields_of("new") == {"f": 1}
    assert client.fields_of("old") is None


@pytest.mark.parametrize("project_type", ["user_id", "hybrid"])
def test_a_user_id_has_one_owner(make: Make, project_type: ProjectType) -> None:
    """A change to a user ID of another profile is refused, and reported by the identifier that exists."""
    client = make(project_type)
    client.bulk({"userId": "1"}, {"userId": "2"})
    record = {"userId": "1", "dataFields": {"userId": "2", "f": 1}}
    reply = client.bulk(record, {"userId": "1", "dataFields": {"f": 7}})
    assert failed(reply) == {"conflictUserIds": ["2"]}
    assert (reply.json["successCount"], reply.json["failCount"]) == (1, 1)
    single = client.post("users/update", record)
    assert (single.status, single.code) == (409, "ExternalKeyConflict")
    assert client.fields_of("1") == {"f": 7}


def test_a_hybrid_email_has_one_owner(make: Make) -> None:
    """A change to an email of another profile is reported under that email, folded."""
    client = make("hybrid")
    client.bulk({"userId": "1"}, {"email": "b@x.io"})
    assert failed(client.bulk({"userId": "1", "dataFields": {"email": "B@x.io"}})) == {"conflictEmails": ["b@x.io"]}
    assert failed(client.bulk({"email": "b@x.io", "dataFields": {"userId": "1"}})) == {"conflictUserIds": ["1"]}


@pytest.mark.parametrize("project_type", ["email", "hybrid"])
def test_emails_are_folded(make: Make, project_type: ProjectType) -> None:
    """Emails are stored and echoed in lower case; user IDs keep their case."""
    client = make(project_type)
    client.bulk({"email": "A@X.io", "dataFields": {"f": 1}}, {"email": "a@x.IO", "userId": "Ab"})
    assert stored(client) == {("a@x.io", "Ab")}
    assert failed(client.bulk({"email": "FOO@"})) == {"invalidEmails": ["foo@"]}


@pytest.mark.parametrize("project_type", ["email", "user_id", "hybrid"])
def test_malformed_identifiers_are_listed(make: Make, project_type: ProjectType) -> None:
    """A malformed identifier on top or in dataFields fails its record, under that identifier, twice told."""
    client = make(project_type)
    good = {"email": "a@x.io", "userId": "1"}
    reply = client.bulk(
        good,
        {"email": "foo@", "userId": "2"},
        {"email": "b@x.io", "userId": "x" * 53},
        good | {"dataFields": {"email": "bar@"}},
        good | {"dataFields": {"userId": "trailing "}},
        good | {"dataFields": {"email": None}},
        good | {"dataFields": {"userId": None}},
        {"email": ""},
    )
    body = reply.json
    assert (body["successCount"], body["failCount"]) == (1, 7)
    assert failed(reply) == {
        "invalidEmails": ["foo@", "bar@", "", ""],
        "invalidUserIds": ["x" * 53, "trailing ", ""],
    }
    assert body["invalidEmails"] == body["failedUpdates"]["invalidEmails"]
    assert body["invalidUserIds"] == body["failedUpdates"]["invalidUserIds"]
    assert stored(client) == {("a@x.io", "1")}


def test_a_list_is_no_identifier(make: Make) -> None:
    """An email in dataFields that is a list of texts passes the types, but not as an address."""
    client = make("hybrid")
    assert failed(client.bulk({"userId": "1", "dataFields": {"email": ["a@x.io"]}})) == {"invalidEmails": [""]}


def test_a_record_without_identifier_is_only_counted(make: Make) -> None:
    """Nothing names it in a bulk answer; a single call says what is missing."""
    client = make("hybrid")
    reply = client.bulk({"dataFields": {"f": 1}}, {"email": None, "userId": "1"})
    assert (reply.json["successCount"], reply.json["failCount"], failed(reply)) == (1, 1, {})
    single = client.post("users/update", {"dataFields": {"f": 1}})
    assert (single.status, single.code) == (400, "BadParams")
    assert single.json["msg"].startswith("Either email or userId must be set: ")


@pytest.mark.parametrize(
    ("user", "code", "msg"),
    [
        ({"email": "foo@"}, "InvalidEmailAddressError", "Invalid email: foo@"),
        ({"email": ""}, "InvalidEmailAddressError", "Invalid email: "),
        ({"userId": "x "}, "InvalidUserIdError", "Invalid userId: x "),
        (
            {"userId": "1", "dataFields": {"email": "bar@"}},
            "InvalidEmailAddressError",
            "Invalid email: bar@",
        ),
    ],
)
def test_a_single_call_refuses_malformed_identifiers(make: Make, user: dict[str, Any], code: str, msg: str) -> None:
    """A single call answers 400 with the identifier in the message."""
    reply = make("hybrid").post("users/update", user)
    assert (reply.status, reply.code, reply.json["msg"], reply.json["params"]) == (400, code, msg, None)


def test_update_only_needs_iterables_switch(make: Make) -> None:
    """updateOnly is ignored like any unknown key until it is switched on; then unknown users are skipped."""
    record = {"email": "new@x.io", "dataFields": {"f": 1}}
    client = make("hybrid")
    client.bulk(record, updateOnly=True)
    assert stored(client) == {("new@x.io", None)}

    client = make("hybrid", update_only_enabled=True)
    client.bulk({"email": "old@x.io"})
    reply = client.bulk(record, {"email": "old@x.io", "dataFields": {"f": 2}}, updateOnly=True)
    assert (reply.json["successCount"], reply.json["failCount"], failed(reply)) == (2, 0, {})
    assert stored(client) == {("old@x.io", None)}
    assert client.service.calls.after()[-1].applied is True
    client.bulk(record, updateOnly=True)
    assert client.service.calls.after()[-1].applied is False
    client.bulk({"userId": "2"})
    clash = {"userId": "2", "dataFields": {"email": "old@x.io"}}
    assert failed(client.bulk(clash, updateOnly=True)) == {"conflictEmails": ["old@x.io"]}
    assert client.bulk(record, updateOnly="yes").json["successCount"] == 1
    assert len(client.project.profiles) == 3


@pytest.mark.parametrize(
    ("skipped", "counts", "arrays"),
    [("uncounted", (0, 0), {}), ("not_found", (0, 1), {"notFoundEmails": ["new@x.io"]})],
)
def test_skipped_users_may_be_reported_otherwise(
    make: Make, skipped: str, counts: tuple[int, int], arrays: dict[str, list[str]]
) -> None:
    """Skipped users count as success by default, or not at all, or as not found."""
    client = make("hybrid", update_only_enabled=True, skipped=skipped)
    reply = client.bulk({"email": "new@x.io"}, updateOnly=True)
    assert (reply.json["successCount"], reply.json["failCount"]) == counts
    assert failed(reply) == arrays
