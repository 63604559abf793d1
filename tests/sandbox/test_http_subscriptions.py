"""What holds of subscriptions and merges over real connections, whatever the profiles are."""

import http.client
import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.sandbox.options import ProjectType

KEY = {"Api-Key": "key"}
LIST = 3001
GROUPS = {
    "messageChannel": [102161, 102162, 102163, 102164],
    "messageType": [102165, 102166, 102167, 102168, 102169],
    "emailList": [LIST, LIST + 1],
}
OPT_IN = {102168, 102169}
ARRAYS = {
    "unsubscribedChannelIds": GROUPS["messageChannel"],
    "unsubscribedMessageTypeIds": [102165, 102166, 102167],
    "subscribedMessageTypeIds": sorted(OPT_IN),
    "emailListIds": GROUPS["emailList"],
}
HELD = st.fixed_dictionaries({}, optional={n: st.lists(st.sampled_from(v), unique=True) for n, v in ARRAYS.items()})
CHANGES = st.lists(
    st.tuples(
        st.sampled_from([(group, number) for group, numbers in GROUPS.items() for number in numbers]),
        st.booleans(),
        st.sampled_from(["PUT", "one"]),
    ),
    max_size=6,
)
OBJECTS = st.dictionaries(st.sampled_from("xy"), st.integers(0, 2), max_size=2)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "f": st.one_of(st.integers(0, 3), st.lists(st.integers(0, 3), max_size=3)),
        "g": st.one_of(OBJECTS, st.lists(OBJECTS, max_size=3)),
        "h": st.booleans(),
    },
)


class Speaker:
    """A sandbox of each project type, each with a connection that stays open."""

    def __init__(self) -> None:
        """Start them."""
        types: tuple[ProjectType, ...] = get_args(ProjectType)
        self.sandboxes = {each: Sandbox(each, rates=False).start() for each in types}
        self.connections = {
            each: http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=30)
            for each, sandbox in self.sandboxes.items()
        }

    def __call__(self, where: ProjectType, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Make a request and return its answer."""
        connection = self.connections[where]
        connection.request(method, f"/api/{path}", None if body is None else json.dumps(body), KEY)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def stop(self) -> None:
        """End them."""
        for connection in self.connections.values():
            connection.close()
        for sandbox in self.sandboxes.values():
            sandbox.stop()


@pytest.fixture(scope="module")
def ask() -> Iterator[Speaker]:
    """Sandboxes that serve."""
    speaker = Speaker()
    yield speaker
    speaker.stop()


def stored(ask: Speaker, where: ProjectType, user_id: str) -> dict[str, Any]:
    """Return the fields of a user as the API reads them, without those that Iterable adds and those of identity."""
    status, answer = ask(where, "GET", f"users/byUserId/{user_id}")
    assert status == 200
    fields = answer["user"]["dataFields"]
    added = {"itblInternal", "profileUpdatedAt", "signupSource", "signupDate", "itblUserId", "email", "userId"}
    return {name: value for name, value in fields.items() if name not in added}


def is_in(fields: dict[str, Any], lists: str, group: str, number: int) -> bool:
    """Return whether somebody is subscribed, by what the profile says."""
    if group == "messageChannel":
        return number not in fields.get("unsubscribedChannelIds", [])
    if group == "emailList":
        return number in fields.get(lists, [])
    if number in OPT_IN:
        return number in fields.get("subscribedMessageTypeIds", [])
    return number not in fields.get("unsubscribedMessageTypeIds", [])


def subscribed(fields: dict[str, Any], lists: str) -> set[tuple[str, int]]:
    """Return all that somebody is subscribed to."""
    return {(group, each) for group, numbers in GROUPS.items() for each in numbers if is_in(fields, lists, group, each)}


@settings(deadline=None, max_examples=60)
@given(where=st.sampled_from(get_args(ProjectType)), held=HELD, changes=CHANGES, data=FIELDS)
def test_only_the_named_group_is_touched(
    ask: Speaker, where: ProjectType, held: dict[str, Any], changes: list[Any], data: dict[str, Any]
) -> None:
    """By PUT, PATCH and DELETE alike: this user's one subscription becomes what was asked, and all else stays."""
    sandbox = ask.sandboxes[where]
    sandbox.reset()
    sandbox.seed(lists=[{"name": "a"}, {"name": "b"}])
    lists = sandbox.project.lists.field
    people = [{"email": f"u{number}@x.io", "userId": str(number)} for number in (1, 2)]
    updates = [{"userId": each["userId"], **held} for each in people]
    assert (
        ask(where, "POST", "users/bulkUpdate", {"users": [{**each, "dataFields": data} for each in people]})[0] == 200
    )
    body = {"updateSubscriptionsRequests": [{**each, "validateChannelAlignment": False} for each in updates]}
    assert ask(where, "POST", "users/bulkUpdateSubscriptions", body)[1]["successCount"] == 2
    other, arrays = stored(ask, where, "2"), {lists, *ARRAYS}
    for (group, number), wanted, how in changes:
        before = stored(ask, where, "1")
        path = f"subscriptions/{group}/{number}"
        if how == "PUT":
            action = "subscribe" if wanted else "unsubscribe"
            answer = ask(where, "PUT", f"{path}?action={action}", {"usersByUserId": ["1"]})
        else:
            answer = ask(where, "PATCH" if wanted else "DELETE", f"{path}/byUserId/1")
        assert answer == (202, {"msg": "", "code": "Success", "params": None})
        after = stored(ask, where, "1")
        expected = subscribed(before, lists) - {(group, number)} | ({(group, number)} if wanted else set())
        assert subscribed(after, lists) == expected
        assert {name: value for name, value in after.items() if name not in arrays} == data
        changed = {name for name in arrays if after.get(name) != before.get(name)}
        assert len(changed) == (subscribed(before, lists) != expected)
    assert stored(ask, where, "2") == other


def twins(one: Any, other: Any) -> bool:
    """Return whether two values are the same JSON, by their text."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def merged(source: dict[str, Any], destination: dict[str, Any], joined: set[str]) -> dict[str, Any]:
    """Return what the destination has after the merge."""
    found = {**source, **destination}
    for name in joined & found.keys():
        mine, there = (
            value if isinstance(value, list) else [value] for value in (source.get(name, []), destination.get(name, []))
        )
        found[name] = there + [each for each in mine if not any(twins(each, one) for one in there)]
    return found


@settings(deadline=None, max_examples=60)
@given(
    where=st.sampled_from(get_args(ProjectType)),
    fields=st.tuples(FIELDS, FIELDS),
    joined=st.sets(st.sampled_from(["f", "g", "h", "none"])),
    lists=st.tuples(*[st.lists(st.sampled_from([LIST, LIST + 1]), unique=True)] * 2),
    named=st.sampled_from(["source", "destination", "both", "neither"]),
)
def test_a_merged_profile_is_what_both_were(
    ask: Speaker, where: ProjectType, fields: Any, joined: set[str], lists: Any, named: str
) -> None:
    """The destination's fields, the source's that it lacks, the arrays that are to be joined, and the lists of both."""
    sandbox = ask.sandboxes[where]
    sandbox.reset()
    sandbox.seed(lists=[{"name": "a"}, {"name": "b"}])
    for number, (data, held) in enumerate(zip(fields, lists, strict=True)):
        profile = {"email": f"u{number}@x.io", "userId": str(number)}
        assert ask(where, "POST", "users/update", {**profile, "dataFields": data})[0] == 200
        assert ask(where, "POST", "users/updateSubscriptions", {**profile, "emailListIds": held})[0] == 200
        event = {"userId": str(number), "eventName": "seen", "id": f"e{number}"}
        assert ask(where, "POST", "events/track", event)[0] == 200
    body: dict[str, Any] = {"arrayMerge": [{"field": name} for name in sorted(joined)]}
    for number, side in enumerate(("source", "destination")):
        by_email = where != "user_id" and named in (side, "both")
        body |= {f"{side}Email": f"U{number}@x.io"} if by_email else {f"{side}UserId": str(number)}
    assert ask(where, "POST", "users/merge", body) == (200, {"msg": "", "code": "Success", "params": None})
    found = stored(ask, where, "1")
    on = found.pop(sandbox.project.lists.field)
    assert set(on) == set(lists[0]) | set(lists[1])
    assert found == merged(fields[0], fields[1], joined)
    assert [user["userId"] for user in sandbox.users] == ["1"]
    events = ask(where, "GET", "events/byUserId/1")[1]["events"]
    assert {event["_id"] for event in events} == {"e0", "e1"}
