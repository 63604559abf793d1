"""What events/track, trackBulk and the reads of events take, store and answer."""

import json
from typing import Any

import pytest

from airflow_provider_iterable.sandbox.options import ProjectType

from .conftest import START, Client, Clock, Make, Reply

NOW = "2025-10-09 08:53:20 +00:00"
ARRAYS: dict[str, list[str]] = {
    f"{reason}{kind}": [] for reason in ("invalid", "notFound", "forgotten") for kind in ("Emails", "UserIds")
}


def event(name: str = "seen", email: str | None = "a@x.io", **rest: Any) -> dict[str, Any]:
    """Return an event; `data` are its data fields."""
    fields = {"dataFields": rest.pop("data")} if "data" in rest else {}
    return {"eventName": name, **({} if email is None else {"email": email}), **fields, **rest}


def track(client: Client, *events: Any) -> Reply:
    """Make a trackBulk."""
    return client.post("events/trackBulk", {"events": list(events)})


def known(client: Client) -> Client:
    """Make users who exist: an email, a user ID, and one with both."""
    client.bulk({"email": "a@x.io", "userId": "1"}, {"email": "b@x.io", "userId": "2"})
    return client


def stored(client: Client) -> list[tuple[str, Any, str | None]]:
    """Return ID, data fields and email of all events."""
    return [(found.id, found.fields, found.profile.email) for found in client.project.events]


def failed(reply: Reply) -> dict[str, list[str]]:
    """Return the arrays of failedUpdates that are not empty."""
    assert reply.status == 200
    return {name: values for name, values in reply.json["failedUpdates"].items() if values}


def counts(reply: Reply) -> tuple[int, int]:
    """Return successCount and failCount."""
    assert reply.status == 200
    return reply.json["successCount"], reply.json["failCount"]


def test_one_event_is_answered_with_its_id(make: Make) -> None:
    """events/track names the ID in message and params, the given one or 30 hexadecimal digits."""
    client = known(make())
    reply = client.post("events/track", event(id="e-1", data={"f": 1}))
    assert reply.status == 200
    assert reply.json == {"msg": "Event with id: e-1 tracked.", "code": "Success", "params": {"id": "e-1"}}
    made = client.post("events/track", event()).json["params"]["id"]
    assert (len(made), int(made, 16) > 0) == (30, True)
    assert stored(client) == [("e-1", {"f": 1}, "a@x.io"), (made, {}, "a@x.io")]


def test_the_whole_answer_to_many(make: Make) -> None:
    """trackBulk has counts and all arrays, six of them in failedUpdates, and no IDs."""
    assert track(known(make()), event(data={"f": 1}, id="e1")).json == {
        "successCount": 1,
        "failCount": 0,
        "invalidEmails": [],
        "invalidUserIds": [],
        "disallowedEventNames": [],
        "filteredOutFields": [],
        "createdFields": ["f"],
        "failedUpdates": ARRAYS,
    }


def test_no_events_are_no_error(make: Make) -> None:
    """An empty list answers 200 with zero counts."""
    client = make()
    reply = track(client)
    assert (counts(reply), failed(reply)) == ((0, 0), {})
    assert client.service.calls.after()[-1].applied is False


def test_events_without_an_id_repeat(make: Make) -> None:
    """The same event sent twice is two events, each with an ID of its own."""
    client = known(make())
    track(client, event(), event())
    track(client, event())
    assert len({event_id for event_id, _, _ in stored(client)}) == 3


def test_an_event_with_an_id_is_overwritten(make: Make, clock: Clock) -> None:
    """The ID is one over all events of the project: the later one takes the place with all it says, whoever it is."""
    client = known(make())
    track(client, event(id="e1", data={"f": 1, "g": 1}, campaignId=7, createdAt=1))
    clock.pass_(10)
    track(client, event("bought", "b@x.io", id="e1", data={"f": 2}))
    assert stored(client) == [("e1", {"f": 2}, "b@x.io")]
    [found] = client.project.events
    assert (found.name, found.campaign_id, found.created, found.writes) == ("bought", None, START + 10, 2)
    assert client.get("events/a@x.io").json == {"events": []}
    assert len(client.get("events/b@x.io").json["events"]) == 1


def test_an_event_with_an_id_may_be_merged(make: Make, clock: Clock) -> None:
    """With event_update="merge", what the later event does not mention stays."""
    client = known(make(event_update="merge"))
    track(client, event(id="e1", data={"f": 1, "g": 1}, campaignId=7, templateId=8, createdAt=1))
    clock.pass_(10)
    track(client, event(id="e1", data={"f": 2}, templateId=9))
    [found] = client.project.events
    assert found.fields == {"f": 2, "g": 1}
    assert (found.campaign_id, found.template_id, found.created) == (7, 9, 1.0)


@pytest.mark.parametrize("good", ["e", "A-b-9", "x" * 512])
def test_ids_of_events(make: Make, good: str) -> None:
    """An ID is up to 512 letters, digits and hyphens."""
    assert counts(track(known(make()), event(id=good))) == (1, 0)


@pytest.mark.parametrize("bad", ["", "a_b", "a b", "a.b", "é", "x" * 513, "a\n"])
def test_ill_formed_ids_refuse_the_request(make: Make, bad: str) -> None:
    """Another character, none, or too many refuse the call, or a whole batch, or only the event; or nothing."""
    client = known(make())
    for reply in (client.post("events/track", event(id=bad)), track(client, event(id="good"), event(id=bad))):
        assert (reply.status, reply.code, reply.json["msg"]) == (400, "BadParams", f"Invalid event id: {bad}")
    assert stored(client) == []
    client = known(make(bad_event_ids="fail"))
    assert client.post("events/track", event(id=bad)).status == 400
    reply = track(client, event(id="good"), event(id=bad))
    assert (counts(reply), failed(reply), len(stored(client))) == ((1, 1), {}, 1)
    client = known(make(bad_event_ids="accept"))
    assert client.post("events/track", event(id=bad)).json["params"] == {"id": bad}


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        (None, NOW),
        (1_700_000_000, "2023-11-14 22:13:20 +00:00"),
        (1_700_000_000_999, "2023-11-14 22:13:20 +00:00"),
        (99_999_999_999, "5138-11-16 09:46:39 +00:00"),
        (100_000_000_000, "1973-03-03 09:46:40 +00:00"),
        (0, "1970-01-01 00:00:00 +00:00"),
        (-1, "1969-12-31 23:59:59 +00:00"),
        (2**63 - 1, "9999-12-31 23:59:59 +00:00"),
        (-(2**63), "1000-01-01 00:00:00 +00:00"),
    ],
)
def test_times_are_in_seconds_or_milliseconds(make: Make, created: int | None, shown: str) -> None:
    """From 100,000,000,000 on, createdAt is in milliseconds; without it, an event is of its arrival."""
    client = known(make())
    assert counts(track(client, event(createdAt=created))) == (1, 0)
    [read] = client.get("events/a@x.io").json["events"]
    assert read["createdAt"] == shown


@pytest.mark.parametrize(
    ("body", "params"),
    [
        ({"events": [event(), event() | {"eventName": None}]}, {"obj.events[1].eventName": "error.path.missing"}),
        ({"events": [event(), {"email": "a@x.io"}]}, {"obj.events[1].eventName": "error.path.missing"}),
        ({"events": [event(), 5]}, {"obj.events[1]": "Object value expected"}),
        ({"events": [event(createdAt="2024-01-01")]}, {"obj.events[0].createdAt": "Number value expected"}),
        ({"events": [event(createdAt=1.5)]}, {"obj.events[0].createdAt": "Number value expected"}),
        ({"events": [event(createdAt=2**63)]}, {"obj.events[0].createdAt": "Number value expected"}),
        ({"events": [event(campaignId=True, templateId="1")]},
         {"obj.events[0].campaignId": "Number value expected", "obj.events[0].templateId": "Number value expected"}),
        ({"events": [event(id=5, userId=1)]},
         {"obj.events[0].id": "String value expected", "obj.events[0].userId": "String value expected"}),
        ({"events": [event(data=[], createNewFields=1)]},
         {"obj.events[0].dataFields": "Object value expected",
          "obj.events[0].createNewFields": "Boolean value expected"}),
        ({"events": None}, {"obj.events": "error.path.missing"}),
        ({}, {"obj.events": "error.path.missing"}),
    ],
)  # fmt: skip
def test_wrong_json_types_fail_the_batch(make: Make, body: Any, params: dict[str, str]) -> None:
    """A value of the wrong JSON type, or a missing name, fails the whole request; params say where."""
    client = known(make())
    reply = client.post("events/trackBulk", body)
    assert reply.status == 400
    assert reply.json == {"msg": "[/api/events/trackBulk] Invalid JSON body", "code": "BadJsonBody", "params": params}
    assert stored(client) == []


def test_wrong_json_types_fail_the_call(make: Make) -> None:
    """So it is for events/track, where the path starts at the event."""
    reply = known(make()).post("events/track", {"email": "a@x.io", "createdAt": "now"})
    assert (reply.status, reply.code) == (400, "BadJsonBody")
    assert reply.json["params"] == {
        "obj.eventName": "error.path.missing",
        "obj.createdAt": "Number value expected",
    }


def test_optional_members_may_be_null(make: Make) -> None:
    """null stands for an absent member, zero is a campaign, unknown members do no harm."""
    nulls: dict[str, Any] = dict.fromkeys(("userId", "id", "createdAt", "dataFields", "templateId", "createNewFields"))
    client = known(make())
    assert counts(track(client, event(campaignId=0, other=1, **nulls))) == (1, 0)
    assert stored(client)[0][1] == {}


def test_field_types_are_the_event_s_own(make: Make) -> None:
    """A field has a type per event name, apart from profiles, other events and other letters of the name."""
    client = known(make())
    client.bulk({"email": "a@x.io", "dataFields": {"f": "text"}})
    reply = track(client, event(data={"f": 1}), event("bought", data={"f": True}), event("Seen", data={"f": "x"}))
    assert (counts(reply), reply.json["createdFields"]) == ((3, 0), ["f"])
    assert client.project.event_schema.custom == {
        "seen": {"f": "long"},
        "bought": {"f": "boolean"},
        "Seen": {"f": "string"},
    }
    assert client.project.schema.custom == {"f": "string"}
    assert client.get("users/getFields").json["fields"]["f"] == "string"


def test_one_bad_value_fails_the_batch(make: Make) -> None:
    """Nothing of such a batch is stored, it types no field and makes no user; the answer names field and value."""
    client = make("hybrid")
    track(client, event(data={"at": "2024-11-25"}))
    reply = track(client, event("new", data={"x": 1}), event("seen", "b@x.io", data={"at": "0000-00-00"}))
    assert reply.status == 400
    assert reply.json == {
        "msg": "Project 10216: The request does not have the same data types as the data previously submitted,"
        " or the input value is not within the correct range. Field 'at' already exists for type 'customEvent'"
        " and has a data type of 'date' but possible types 'string, keyword' in the request.",
        "code": "RequestFieldsTypesMismatched",
        "params": {
            "validationErrors": {
                "at": {
                    "incomingTypes": ["string", "keyword"],
                    "expectedType": "date",
                    "category": "customEvent",
                    "offendingValue": "0000-00-00",
                    "_type": "UnexpectedType",
                }
            }
        },
    }
    assert client.project.event_schema.custom == {"seen": {"at": "date"}}
    assert (len(stored(client)), len(client.project.profiles)) == (1, 1)
    single = client.post("events/track", event(data={"at": 5}))
    assert (single.status, single.code) == (400, "RequestFieldsTypesMismatched")
    assert "correct range" not in single.json["msg"]


def test_a_batch_may_disagree_with_itself(make: Make) -> None:
    """The first event of a batch types a new field for the others of its name, and leaves no trace when refused."""
    client = known(make())
    reply = track(client, event(data={"f": 1}), event("bought", data={"f": "x"}), event(data={"f": "x"}))
    assert reply.json["params"]["validationErrors"]["f"]["expectedType"] == "long"
    assert client.project.event_schema.custom == {}
    assert len(client.project.event_schema) == 0
    assert counts(track(client, event(data={"f": "x"}))) == (1, 0)


def test_how_event_fields_are_named_may_differ(make: Make) -> None:
    """With event_field_names="named", answers tell fields together with their events."""
    client = known(make(event_field_names="named", event_category="event"))
    reply = track(client, event(data={"f": 1}), event("bought", data={"f": "x"}))
    assert reply.json["createdFields"] == ["seen.f", "bought.f"]
    reply = track(client, event(data={"f": "x"}), event("bought", data={"f": 1}))
    errors = reply.json["params"]["validationErrors"]
    assert {name: error["category"] for name, error in errors.items()} == {"seen.f": "event", "bought.f": "event"}
    assert "'seen.f'" in reply.json["msg"]


def test_dates_in_events_are_stored_in_the_normal_form(make: Make) -> None:
    """Every date, nested or in a list, is kept in one form."""
    client = known(make())
    track(client, event(data={"d": "2024-11-25", "o": {"d": "2024-11-25"}, "l": [{"d": "2024-11-25"}]}))
    normal = "2024-11-25 00:00:00 +00:00"
    assert stored(client)[0][1] == {"d": normal, "o": {"d": normal}, "l": [{"d": normal}]}


def test_each_event_says_whether_it_makes_fields(make: Make) -> None:
    """createNewFields is the event's own, and the project's setting when it says nothing."""
    client = known(make(create_new_fields=False))
    reply = track(
        client,
        event(data={"f": 1, "o": {"x": 1}}, createNewFields=True),
        event(data={"f": 2, "g": 2, "o": {"x": 2, "y": 2}}),
        event("new", data={"h": 3}, createNewFields=False),
    )
    assert counts(reply) == (3, 0)
    assert (reply.json["createdFields"], set(reply.json["filteredOutFields"])) == (["f", "o", "o.x"], {"g", "o.y", "h"})
    assert [data for _, data, _ in stored(client)] == [{"f": 1, "o": {"x": 1}}, {"f": 2, "o": {"x": 2}}, {}]
    assert client.post("events/track", event(data={"z": 1})).status == 200
    assert stored(client)[-1][1] == {}


def test_the_number_of_event_fields_is_limited(make: Make) -> None:
    """Event names and nested names count, over all events; the request that goes over it fails as a whole."""
    client = known(make(max_event_fields=4))
    assert counts(track(client, event(data={"f": 1, "o": {"x": 1}}))) == (1, 0)
    reply = track(client, event(data={"g": 1}), event("bought", data={"f": {"x": 1}}))
    assert reply.status == 400
    assert reply.json == {
        "msg": "Project 10216: The request would increase the number of object fields to 8 by adding"
        " [seen.g, bought, bought.f, bought.f.x], which exceeds the limit of 4",
        "code": "UniqueFieldsLimitExceeded",
        "params": {"limit": 4, "requestedTotal": 8, "newFields": ["seen.g", "bought", "bought.f", "bought.f.x"]},
    }
    assert client.project.event_schema.custom == {"seen": {"f": "long", "o": "object", "o.x": "long"}}
    assert counts(track(client, event(data={"f": 2}))) == (1, 0)
    assert client.bulk({"email": "a@x.io", "dataFields": {"p": 1}}).status == 200


def test_disallowed_events_are_no_error(make: Make) -> None:
    """They answer 200, say so in message or array, count as failed, and leave neither event nor field."""
    client = known(make(disallowed_events=["secret"]))
    reply = client.post("events/track", event("secret", data={"f": 1}))
    assert (reply.status, reply.json["params"]) == (200, None)
    assert "secret is disallowed from tracking" in reply.json["msg"]
    reply = track(client, event("secret", "foo@"), event("secret", data={"f": 1}), event())
    assert (reply.json["disallowedEventNames"], counts(reply), failed(reply)) == (["secret"], (1, 2), {})
    assert len(stored(client)) == 1
    assert client.project.event_schema.custom == {"seen": {}}


@pytest.mark.parametrize(("disallowed", "expected"), [("success", (2, 0)), ("uncounted", (1, 0))])
def test_disallowed_events_may_count_otherwise(make: Make, disallowed: str, expected: tuple[int, int]) -> None:
    """Whether they are failures is not known."""
    client = known(make(disallowed_events=["secret"], disallowed=disallowed))
    assert counts(track(client, event("secret"), event())) == expected


def test_email_project_makes_no_user_for_an_event(make: Make) -> None:
    """An unknown user is listed as not found, or the single call only seems to succeed."""
    client = make("email")
    reply = track(client, event(email="N@x.io"), event(email=None, userId="9"), event(email="n@x.io", userId="9"))
    assert (counts(reply), failed(reply)) == (
        (0, 3),
        {"notFoundEmails": ["n@x.io", "n@x.io"], "notFoundUserIds": ["9"]},
    )
    single = client.post("events/track", event(id="e1"))
    assert (single.status, single.json["params"]) == (200, {"id": "e1"})
    assert client.service.calls.after()[-1].applied is False
    assert (stored(client), len(client.project.profiles)) == ([], 0)
    client = make("email", unknown_event_user="refuse")
    assert client.post("events/track", event()).code == "UnknownEmailError"
    assert client.post("events/track", event(email=None, userId="9")).code == "UnknownUserIdError"


def test_email_project_tracks_known_users(make: Make) -> None:
    """Either identifier finds a user; of both the email does, and the user ID is written."""
    client = known(make("email"))
    assert counts(track(client, event(), event(email=None, userId="2"), event(email="b@x.io", userId="3"))) == (3, 0)
    assert [email for _, _, email in stored(client)] == ["a@x.io", "b@x.io", "b@x.io"]
    assert {(p.email, p.user_id) for p in client.project.profiles} == {("a@x.io", "1"), ("b@x.io", "3")}


def test_user_id_project_makes_users_for_events(make: Make) -> None:
    """An unknown user ID makes a profile; an email finds nobody."""
    client = make("user_id")
    reply = track(client, event(email="a@x.io", userId="1"), event())
    assert (counts(reply), failed(reply)) == ((1, 1), {"notFoundEmails": ["a@x.io"]})
    [profile] = client.project.profiles
    assert (profile.email, profile.user_id, profile.fields, profile.writes) == ("a@x.io", "1", {}, 1)
    assert client.post("events/track", event()).code == "UnknownEmailError"


def test_hybrid_project_makes_users_for_events(make: Make) -> None:
    """Either unknown identifier makes a profile, by option only a user ID; a known one gains the other."""
    client = make("hybrid")
    assert counts(track(client, event(), event(email=None, userId="2"), event(userId="1"))) == (3, 0)
    assert {(p.email, p.user_id) for p in client.project.profiles} == {("a@x.io", "1"), (None, "2")}
    client = make("hybrid", events_make_emails=False)
    reply = track(client, event(), event(email=None, userId="2"), event(email="c@x.io", userId="3"))
    assert (counts(reply), failed(reply)) == ((2, 1), {"notFoundEmails": ["a@x.io"]})


def test_an_event_of_two_users(make: Make) -> None:
    """Identifiers of two profiles fail an event, in no array; by option the user ID decides."""
    client = known(make("hybrid"))
    reply = track(client, event(userId="2"), event())
    assert (counts(reply), failed(reply)) == ((1, 1), {})
    assert client.post("events/track", event(userId="2")).status == 409
    client = known(make("hybrid", event_conflict="user_id"))
    assert counts(track(client, event(userId="2"))) == (1, 0)
    assert stored(client)[0][2] == "b@x.io"


@pytest.mark.parametrize("project_type", ["email", "user_id", "hybrid"])
def test_bad_identifiers_fail_their_event(make: Make, project_type: ProjectType) -> None:
    """They are listed, twice told, folded; an event without any is only counted."""
    client = known(make(project_type))
    reply = track(client, event(userId="1"), event(email="FOO@", userId="1"), event(userId="x "), event(email=None))
    assert (counts(reply), failed(reply)) == ((1, 3), {"invalidEmails": ["foo@"], "invalidUserIds": ["x "]})
    assert (reply.json["invalidEmails"], reply.json["invalidUserIds"]) == (["foo@"], ["x "])
    assert client.post("events/track", event(email="foo@")).json["msg"] == "Invalid email: foo@"
    assert client.post("events/track", event(email=None, userId="")).code == "InvalidUserIdError"
    nobody = client.post("events/track", event(email=None))
    assert (nobody.status, nobody.code) == (400, "BadParams")
    assert nobody.json["msg"] == "Either email or userId must be specified in a track call"


def test_events_of_forgotten_users(make: Make) -> None:
    """Forgetting takes the events along; later ones are listed, or refused with 409."""
    client = known(make("hybrid"))
    track(client, event(), event(email=None, userId="2"))
    client.post("users/forget", {"email": "a@x.io"})
    client.post("users/forget", {"userId": "2"})
    assert stored(client) == []
    reply = track(client, event(), event(email=None, userId="2"), event(email="b@x.io", userId="2"))
    assert failed(reply) == {"forgottenEmails": ["a@x.io"], "forgottenUserIds": ["2", "2"]}
    single = client.post("events/track", event())
    assert (single.status, single.code) == (409, "ForgottenUserError")
    client.project.options = client.project.options.changed({"forgotten_status": 400})
    assert client.post("events/track", event()).status == 400


def test_single_calls_judge_the_user_first(make: Make) -> None:
    """A bad user is told before a bad value, in a batch after it, and its values count all the same."""
    client = known(make())
    track(client, event(data={"f": 1}))
    assert client.post("events/track", event(email="foo@", data={"f": "x"})).code == "InvalidEmailAddressError"
    assert track(client, event(email="foo@", data={"f": "x"})).code == "RequestFieldsTypesMismatched"
    track(client, event(email="foo@", data={"g": 1}))
    assert client.project.event_schema.custom["seen"] == {"f": "long", "g": "long"}


@pytest.mark.parametrize(("reverse", "last"), [(False, 2), (True, 1)])
def test_one_id_twice_in_a_batch(make: Make, reverse: bool, last: int) -> None:
    """Both are written and count, in order or in reverse."""
    client = known(make(reverse_order=reverse))
    assert counts(track(client, event(id="e", data={"f": 1}), event(id="e", data={"f": 2}))) == (2, 0)
    [found] = client.project.events
    assert (found.fields, found.writes) == ({"f": last}, 2)


def test_the_size_of_a_batch_is_limited(make: Make) -> None:
    """A batch has at most 4,000,000 bytes and as many events as wanted; a single call has no limit."""
    client = known(make())
    body = json.dumps({"events": [event()]}).encode()
    assert client.post("events/trackBulk", body.ljust(4_000_000)).status == 200
    assert client.post("events/trackBulk", body.ljust(4_000_001)).status == 413
    assert client.post("events/track", json.dumps(event()).encode().ljust(4_000_001)).status == 200
    client.project.options = client.project.options.changed({"max_records": 2})
    assert track(client, *[event()] * 2).status == 200
    assert track(client, *[event()] * 3).code == "BatchTooLarge"


@pytest.mark.parametrize(
    ("name", "body", "rate"),
    [
        ("events/track", event(), 2000),
        ("events/trackBulk", {"events": []}, 10),
        ("events/a@x.io", None, 100),
        ("events/byUserId/1", None, 100),
    ],
)
def test_rates_of_events(make: Make, clock: Clock, name: str, body: Any, rate: int) -> None:
    """An endpoint takes a second's worth at once; the refusal is in words."""
    client = make(rates=True)

    def call() -> Reply:
        return client.get(name) if body is None else client.post(name, body)

    assert {call().status for _ in range(rate)} == {200}
    reply = call()
    assert (reply.status, reply.json["params"]) == (429, {})
    assert reply.json["msg"].startswith(f"Exceeded rate limit of {rate}.0 per second for endpoint: /api/{name}, ")
    clock.pass_(1 / rate)
    assert call().status == 200


def test_a_read_of_an_event(make: Make) -> None:
    """It has the identifiers, the time, the name, the kind, and the fields in an object."""
    client = known(make())
    track(client, event(id="e1", data={"f": 1}, createdAt=1_700_000_000, campaignId=0, templateId=8), event(id="e2"))
    newest, oldest = client.get("events/A%40x.io").json["events"]
    assert oldest == {
        "_id": "e1",
        "email": "a@x.io",
        "userId": "1",
        "campaignId": 0,
        "templateId": 8,
        "createdAt": "2023-11-14 22:13:20 +00:00",
        "eventName": "seen",
        "eventType": "customEvent",
        "dataFields": {"f": 1},
    }
    assert "campaignId" not in newest
    assert client.get("events/byUserId/1").json["events"] == [newest, oldest]


def test_reads_show_the_newest_first(make: Make, clock: Clock) -> None:
    """By time, then by arrival; 30 unless `limit` says otherwise, at most 200."""
    client = known(make())
    track(client, *(event(id=f"e{number}", createdAt=1000 + number % 250) for number in range(300)))

    def ids(query: str) -> list[str]:
        return [found["_id"] for found in client.get(f"events/a@x.io{query}").json["events"]]

    assert ids("?limit=3") == ["e249", "e248", "e247"]
    assert (len(ids("")), len(ids("?limit=200")), ids("")[0]) == (30, 200, "e249")
    assert ids("?limit=200")[199] == "e50"
    track(client, event(id="same", createdAt=1249))
    assert ids("?limit=2") == ["same", "e249"]
    for wrong in ("0", "201", "-1", "x", "", "1.5", "٣"):
        assert client.get(f"events/a@x.io?limit={wrong}").code == "BadParams"


@pytest.mark.parametrize("name", ["events/n@x.io", "events/byUserId/9"])
def test_reads_of_unknown_users(make: Make, name: str) -> None:
    """There are no events, or by option an error; a malformed address is one anyway."""
    client = make()
    assert client.get(name).json == {"events": []}
    assert client.get("events/foo@").code == "InvalidEmailAddressError"
    client = make(unknown_user_events="refuse")
    assert client.get(name).code in ("UnknownEmailError", "UnknownUserIdError")


def test_a_user_id_project_reads_no_events_by_email(make: Make) -> None:
    """Emails select nothing there."""
    client = make("user_id")
    track(client, event(userId="1"))
    assert client.get("events/a@x.io").code == "BadParams"
    assert len(client.get("events/byUserId/1").json["events"]) == 1


def test_new_events_may_take_time_to_appear(make: Make, clock: Clock) -> None:
    """Within visible_after they are not read, and an update hides nothing."""
    client = known(make(visible_after=60))
    track(client, event(id="e1", createdAt=5))
    clock.pass_(59)
    assert client.get("events/a@x.io").json == {"events": []}
    clock.pass_(1)
    track(client, event(id="e1", data={"f": 1}))
    [read] = client.get("events/a@x.io").json["events"]
    assert read["dataFields"] == {"f": 1}


def test_events_move_and_go_with_their_user(make: Make) -> None:
    """A change of address takes them along, a deletion ends them, and a new user of that name has none."""
    client = known(make())
    track(client, event(id="e1"), event(email="b@x.io", id="e2"))
    client.post("users/updateEmail", {"currentEmail": "a@x.io", "newEmail": "c@x.io"})
    assert [found["email"] for found in client.get("events/c@x.io").json["events"]] == ["c@x.io"]
    client.send("DELETE", "/api/users/c@x.io")
    client.bulk({"email": "c@x.io"}, {"email": "a@x.io"})
    assert client.get("events/c@x.io").json == client.get("events/a@x.io").json == {"events": []}
    assert stored(client) == [("e2", {}, "b@x.io")]
    client.send("DELETE", "/api/users/byUserId/2")
    assert stored(client) == []


def test_events_leave_the_profile_alone(make: Make, clock: Clock) -> None:
    """An event of a known user is no write to it."""
    client = known(make())
    before = client.read("a@x.io")
    clock.pass_(60)
    track(client, event(data={"f": 1}))
    assert client.read("a@x.io") == before
    assert client.project.profiles.with_email("a@x.io").writes == 1  # type: ignore[union-attr]


def test_an_event_nested_out_of_all_measure_leaves_no_trace(make: Make) -> None:
    """It is refused as no JSON, and the fields of the events before it stay unknown; less deep, it passes."""
    statuses = []
    for depth in range(800, 1020):
        client = known(make())
        deep = b'{"f":' * depth + b"1" + b"}" * depth
        body = b'{"events":[{"eventName":"a","email":"a@x.io","dataFields":{"f":1}},'
        body += b'{"eventName":"b","email":"a@x.io","dataFields":' + deep + b"}]}"
        reply = client.post("events/trackBulk", body)
        statuses.append(reply.status)
        if reply.status == 400:
            assert (reply.code, client.project.event_schema.custom, stored(client)) == ("BadJsonBody", {}, [])
        else:
            assert len(stored(client)) == 2
    assert set(statuses) == {200, 400}
