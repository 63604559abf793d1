"""What the sandbox shows of events and purchases, what faults do to them, and how many it takes."""

import http.client
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.sandbox.options import Options, ProjectType
from airflow_provider_iterable.sandbox.service import Service

from .conftest import Client, Clock, Make
from .test_faults_and_calls import ask, last, spoil

ITEM = {"id": "i", "name": "Tea", "price": 2.5, "quantity": 2}
EVENT = {"email": "a@x.io", "eventName": "seen", "id": "e1", "dataFields": {"f": 1}}
CALLS: list[tuple[str, Any]] = [
    ("events/track", EVENT),
    ("events/trackBulk", {"events": [EVENT]}),
    ("commerce/trackPurchase", {"user": {"email": "a@x.io"}, "items": [ITEM], "total": 5, "id": "p1"}),
    ("commerce/updateCart", {"user": {"email": "a@x.io"}, "items": [ITEM]}),
]


def kept(client: Client) -> list[tuple[Any, int]]:
    """Return name and writes of all events and purchases."""
    return [(e.name, e.writes) for store in (client.project.events, client.project.purchases) for e in store]


def filled(client: Client) -> Client:
    """Make two users, three events, one of them written twice, and a purchase."""
    client.bulk({"email": "a@x.io", "userId": "1"}, {"email": "b@x.io"})
    other = {"email": "b@x.io", "eventName": "bought", "createdAt": 1_700_000_000}
    client.post("events/trackBulk", {"events": [EVENT, other, {**EVENT, "id": None}, EVENT]})
    client.post(*CALLS[2])
    return client


def test_events_can_be_listed(make: Make) -> None:
    """Each comes as it is stored, with its user and how often it was written."""
    found = ask(filled(make()), "GET", "/sandbox/events").json
    first, second, third = found["events"]
    assert first == {
        "id": "e1",
        "given": True,
        "eventName": "seen",
        "email": "a@x.io",
        "userId": "1",
        "createdAt": "2025-10-09 08:53:20 +00:00",
        "campaignId": None,
        "templateId": None,
        "dataFields": {"f": 1},
        "writes": 2,
    }
    assert (second["eventName"], second["given"], second["createdAt"]) == (
        "bought",
        False,
        "2023-11-14 22:13:20 +00:00",
    )
    assert (third["eventName"], third["given"]) == ("seen", False)
    assert (found["count"], found["writes"], found["accepted"]) == (3, 4, 4)
    assert found["fields"] == {"seen": {"f": "long"}, "bought": {}}


def test_purchases_can_be_listed(make: Make) -> None:
    """They have items and a total instead of a name."""
    found = ask(filled(make()), "GET", "/sandbox/purchases").json
    assert found == {
        "count": 1,
        "writes": 1,
        "accepted": 1,
        "purchases": [
            {
                "id": "p1",
                "given": True,
                "email": "a@x.io",
                "userId": "1",
                "createdAt": "2025-10-09 08:53:20 +00:00",
                "campaignId": None,
                "templateId": None,
                "total": 5.0,
                "items": [ITEM],
                "dataFields": {},
                "writes": 1,
            }
        ],
        "fields": {},
    }


@pytest.mark.parametrize(
    ("query", "names", "count"),
    [
        ("email=a@x.io", ["seen", "seen"], 2),
        ("userId=1", ["seen", "seen"], 2),
        ("userId=1&name=bought", [], 0),
        ("name=bought", ["bought"], 1),
        ("id=e1", ["seen"], 1),
        ("min_writes=2", ["seen"], 1),
        ("limit=2", ["seen", "bought"], 3),
        ("limit=0", [], 3),
        ("newest=2", ["seen", "bought"], 3),
        ("newest=1&name=bought", ["bought"], 1),
    ],
)
def test_events_can_be_asked_for(make: Make, query: str, names: list[str], count: int) -> None:
    """By user, name, ID and number of writes; `limit` and `newest` shorten the list, not the count."""
    found = ask(filled(make()), "GET", f"/sandbox/events?{query}").json
    assert ([event["eventName"] for event in found["events"]], found["count"]) == (names, count)


def test_the_newest_events_come_first(make: Make) -> None:
    """`newest` lists the event that was first written last, last."""
    found = ask(filled(make()), "GET", "/sandbox/events?newest=2").json
    assert [(event["eventName"], event["given"]) for event in found["events"]] == [("seen", False), ("bought", False)]


def test_events_can_be_counted_by_user(make: Make) -> None:
    """With by_user=1 each user comes with the number of events and of writes; others are left out."""
    client = filled(make())
    assert ask(client, "GET", "/sandbox/events?by_user=1&limit=0").json["users"] == [
        {"email": "a@x.io", "userId": "1", "count": 2, "writes": 3},
        {"email": "b@x.io", "userId": None, "count": 1, "writes": 1},
    ]
    assert ask(client, "GET", "/sandbox/purchases?by_user=1&email=b@x.io").json["users"] == []


def test_accepted_writes_outlive_their_user(make: Make) -> None:
    """Events of a deleted user are gone, but counted among the writes ever accepted; a reset ends that too."""
    client = filled(make())
    client.send("DELETE", "/api/users/a@x.io")
    found = ask(client, "GET", "/sandbox/events").json
    assert (found["count"], found["writes"], found["accepted"]) == (1, 1, 4)
    state = ask(client, "GET", "/sandbox/state").json
    assert (state["events"], state["purchases"]) == (1, 0)
    ask(client, "POST", "/sandbox/reset")
    found = ask(client, "GET", "/sandbox/events").json
    assert (found["count"], found["accepted"], found["fields"]) == (0, 0, {})


@pytest.mark.parametrize(("name", "body"), CALLS)
@pytest.mark.parametrize(("kind", "applied"), [("drop_before", False), ("drop_after", True), ("malformed", True)])
def test_lost_answers(make: Make, name: str, body: Any, kind: str, applied: bool) -> None:
    """A lost or broken answer leaves the event stored or not, as the fault says; sent again, an ID is overwritten."""
    client = make("hybrid")
    spoil(client, {"kind": kind, "path": f"/api/{name}"})
    assert client.post(name, body).status == (200 if kind == "malformed" else 0)
    assert len(kept(client)) == applied
    assert (last(client)["applied"], last(client)["records"]) == (applied, applied)
    assert client.post(name, body).status == 200
    with_id = name != "commerce/updateCart"
    assert [writes for _, writes in kept(client)] == ([1 + applied] if with_id else [1] * (1 + applied))


@pytest.mark.parametrize(("name", "body"), CALLS)
def test_refusals_by_fault(make: Make, name: str, body: Any) -> None:
    """429 and 5xx store nothing; their path may be a folder."""
    client = make("hybrid")
    folder = f"/api/{name.partition('/')[0]}"
    spoil(client, {"kind": "429", "path": folder}, {"kind": "5xx_html", "path": folder, "status": 502})
    replies = [client.post(name, body) for _ in range(3)]
    assert [reply.status for reply in replies] == [429, 502, 200]
    assert replies[0].code == "RateLimitExceeded"
    assert [writes for _, writes in kept(client)] == [1]


def test_who_was_written_is_remembered_on_demand(make: Make) -> None:
    """With record_identifiers a call keeps the users of the events it stored."""
    client = make("hybrid", record_identifiers=True)
    for name, body in CALLS:
        client.post(name, body)
    client.post("events/trackBulk", {"events": [EVENT, {**EVENT, "email": "foo@"}]})
    calls = ask(client, "GET", "/sandbox/calls?identifiers=1").json["calls"]
    assert [call["identifiers"] for call in calls] == [[["email", "a@x.io"]]] * 5
    assert [call["records"] for call in calls] == [1, 1, 1, 1, 2]


EMAILS = st.sampled_from([None, "a@x.io", "A@x.io", "b@x.io", "foo@"])
USER_IDS = st.sampled_from([None, "1", "2", "x "])
DATA = st.dictionaries(
    st.sampled_from("fg"), st.one_of(st.integers(0, 2), st.just("x"), st.just({"h": 1}), st.just([1])), max_size=2
)
IDS = st.sampled_from([None, None, "e1", "e2", "bad_id"])
EVENTS = st.fixed_dictionaries(
    {
        "eventName": st.sampled_from(["seen", "bought", "secret"]),
        "email": EMAILS,
        "userId": USER_IDS,
        "id": IDS,
        "dataFields": DATA,
    }
)
USERS = st.fixed_dictionaries({"email": EMAILS, "userId": USER_IDS, "dataFields": DATA})
ITEMS = st.lists(st.fixed_dictionaries({**{n: st.just(v) for n, v in ITEM.items()}, "dataFields": DATA}), max_size=2)
ANY_CALLS = st.one_of(
    st.tuples(st.just("events/track"), EVENTS),
    st.tuples(st.just("events/trackBulk"), st.fixed_dictionaries({"events": st.lists(EVENTS, max_size=4)})),
    st.tuples(st.just("commerce/updateCart"), st.fixed_dictionaries({"user": USERS, "items": ITEMS})),
    st.tuples(
        st.just("commerce/trackPurchase"),
        st.fixed_dictionaries({"user": USERS, "items": ITEMS, "total": st.just(1), "id": IDS, "dataFields": DATA}),
    ),
    st.tuples(st.just("users/forget"), USERS),
)


def everything(client: Client) -> Any:
    """Return all that the project holds of users and events, as text."""
    project = client.project
    stores = [
        [(e.id, e.name, e.fields, e.writes, e.profile.email, e.profile.user_id) for e in store]
        for store in (project.events, project.purchases)
    ]
    profiles = [(p.email, p.user_id, p.fields, p.writes) for p in project.profiles]
    types = (project.schema.types, project.event_schema.custom, project.purchase_schema.custom)
    return json.dumps([stores, profiles, types, list(project.forgotten_emails)])


@given(st.sampled_from(["email", "user_id", "hybrid"]), st.lists(ANY_CALLS, max_size=10))
def test_any_calls_leave_sound_events(project_type: ProjectType, calls: list[tuple[str, Any]]) -> None:
    """Counts add up, a refused call changes nothing, events are of users who exist, and reads agree with the store."""
    clock = Clock()
    options = Options().changed({"rates": False, "disallowed_events": ["secret"]})
    client = Client(Service(project_type, options=options, clock=clock), clock)
    accepted = 0
    for name, body in calls:
        before = everything(client)
        reply = client.post(name, body)
        assert reply.status in (200, 400, 409)
        if reply.status != 200:
            assert everything(client) == before
        elif name == "events/trackBulk":
            assert reply.json["successCount"] + reply.json["failCount"] == len(body["events"])
            accepted += reply.json["successCount"]
        assert all(None not in e.fields.values() for e in client.project.purchases)
    project = client.project
    profiles = list(project.profiles)
    for store in (project.events, project.purchases):
        assert sum(event.writes for event in store) <= store.accepted
        assert all(any(event.profile is profile for profile in profiles) for event in store)
        assert sum(len(store.of(profile)) for profile in profiles) == len(store) == len({e.id for e in store})
    assert project.events.accepted >= accepted


@pytest.mark.slow
def test_a_hundred_thousand_of_each(make: Make) -> None:
    """100,000 events and 100,000 purchases, many of one user, are taken at more than 3,000 a second each."""
    client = make("hybrid")
    began = time.perf_counter()
    for start in range(0, 100_000, 1000):
        events = [
            {"userId": str(n % 7 and n), "eventName": "seen", "id": f"e{n}", "dataFields": {"n": n, "at": "2024-11-25"}}
            for n in range(start, start + 1000)
        ]
        assert client.post("events/trackBulk", {"events": events}).json["successCount"] == 1000
    tracked = time.perf_counter() - began
    began = time.perf_counter()
    body = {"user": {"userId": "0"}, "items": [ITEM], "total": 5, "dataFields": {"shop": "B"}}
    for n in range(100_000):
        body["user"] = {"userId": str(n % 7 and n)}
        client.post("commerce/trackPurchase", body)
    purchased = time.perf_counter() - began
    assert (len(client.project.events), len(client.project.purchases)) == (100_000, 100_000)
    assert len(client.get("events/byUserId/0?limit=200").json["events"]) == 200
    assert (tracked < 33, purchased < 33) == (True, True)


def test_events_over_http() -> None:
    """Events and purchases arrive over a socket, and the sandbox shows them in the process too."""
    with Sandbox("hybrid", rates=False) as sandbox:
        connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=10)

        def call(method: str, path: str, body: Any = None) -> Any:
            connection.request(method, path, None if body is None else json.dumps(body), {"Api-Key": "key"})
            response = connection.getresponse()
            return json.loads(response.read())

        for name, body in CALLS:
            call("POST", f"/api/{name}", body)
        assert [
            event["eventName"] for event in call("GET", "/api/events/a%40x.io")["events"] if "eventName" in event
        ] == [
            "updateCart",
            "seen",
        ]
        sandbox.faults({"kind": "drop_after"})
        with pytest.raises(http.client.RemoteDisconnected):
            call("POST", "/api/events/track", EVENT)
        connection.close()
        assert [(event["id"], event["writes"]) for event in sandbox.events if event["given"]] == [("e1", 3)]
        assert [(found["id"], found["total"]) for found in sandbox.purchases] == [("p1", 5.0)]
        connection.close()
