from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.engine.deliver import Delivery
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.operators import (
    IterableMergeOperator,
    IterablePrivacyOperator,
    IterableSubscriptionOperator,
)
from airflow_provider_iterable.operators.explain import explain_row
from airflow_provider_iterable.sandbox.options import ProjectType
from airflow_provider_iterable.sandbox.project.subscriptions import Group, is_subscribed, subscribe, unsubscribe
from airflow_provider_iterable.state import TableState, XComState
from tests.operators.conftest import MATCH, Make, World, email, identifier, uid

PROJECTS: tuple[ProjectType, ...] = ("email", "user_id", "hybrid")
PUT = "PUT /api/subscriptions/{group}/{id}"
BULK = "POST /api/users/bulkUpdateSubscriptions"
TYPES = "GET /api/messageTypes"
OPT_OUT, OPT_IN, DOUBLE = 102165, 102168, 102169
CHANNEL = 102161
COLUMNS = ("id", "email", "uid", "about", "state", "since")
PAST, FUTURE = "2020-01-01 00:00:00", "2999-01-01 00:00:00"
ROADS = [False, True]
JOINED, LEFT = "subscribedMessageTypeIds", "unsubscribedMessageTypeIds"


def sub(number: int, about: Any = OPT_IN, state: Any = 1, since: Any = PAST) -> tuple[Any, ...]:
    """Return a row: a person, what it is about, whether they are subscribed, and since when they consent."""
    return (number, email(number), uid(number), about, state, since)


class Subscribers(World):
    """A world in which people are subscribed to things."""

    exclusive = False

    def make(self, **parameters: Any) -> IterableSubscriptionOperator:
        """Make the operator, matched by what the project uses."""
        defaults: dict[str, Any] = {
            "task_id": "sync_subscriptions",
            "sql": "SELECT * FROM users",
            "sql_conn_id": "warehouse",
            "subscription_type": "message_type",
            "subscription_id_column": "about",
            "subscribed_column": "state",
            "consent_at_column": "since",
            "exclusive": self.exclusive,
            "max_removed": 1.0,
            "allow_empty": True,
            "state": TableState(),
        }
        if "subscription_id" in parameters:
            del defaults["subscription_id_column"]
        if "email_column" not in parameters and "user_id_column" not in parameters:
            column = MATCH[self.project_type]
            defaults["email_column" if column == "email" else "user_id_column"] = column
        return IterableSubscriptionOperator(**{**defaults, **parameters})

    def says(self, *rows: tuple[Any, ...]) -> None:
        """Let the model be these rows."""
        self.rows(*rows, columns=COLUMNS)

    def known(self, *numbers: int) -> None:
        """Have Iterable know people."""
        for number in numbers:
            self.create(number)

    def subscribed(self, about: int = OPT_IN) -> list[str]:
        """Who is subscribed to a message type."""
        kind = self.sandbox.project.channels.get_type(about)
        assert kind is not None
        match = MATCH[self.project_type]
        return sorted(
            str(profile.email if match == "email" else profile.user_id)
            for profile in self.sandbox.project.profiles
            if is_subscribed(profile, kind)
        )

    def key(self, number: int, about: int = OPT_IN, group: str = "messageType") -> str:
        """Return the key of a person's subscription as the state has it."""
        return msgspec.json.encode([identifier(self.project_type, number), group, about]).decode()


@pytest.fixture
def make_subscribers(make_world: Make) -> Callable[..., Subscribers]:
    """Make worlds with subscriptions, on one road."""

    def make(project_type: ProjectType = "email", exclusive: bool = False, **options: Any) -> Subscribers:
        world = make_world(project_type, **options)
        found = Subscribers(world.sandbox, world.warehouse, world.project_type)
        found.exclusive = exclusive
        return found

    return make


Made = Callable[..., Subscribers]


@pytest.fixture
def world(make_subscribers: Made) -> Subscribers:
    """An email-based project on the additive road."""
    return make_subscribers()


@pytest.mark.parametrize("exclusive", ROADS)
@pytest.mark.parametrize("project_type", PROJECTS)
@pytest.mark.parametrize("state", [TableState(), XComState()], ids=["table", "xcom"])
def test_the_life_of_a_subscription(
    make_subscribers: Made, project_type: ProjectType, state: Any, exclusive: bool
) -> None:
    """Added, changed, gone and back again: each run sends the difference, and an unchanged one calls nobody."""
    world = make_subscribers(project_type, exclusive)
    world.known(1, 2, 3)
    who = [identifier(project_type, number) for number in range(4)]
    world.says(sub(1), sub(2, state=0), sub(1, OPT_OUT, 0))
    report = world.run(state=state)
    assert (report["added"], report["accepted"], report["collapsed"]) == (3, 3, 0)
    assert (world.subscribed(), world.subscribed(OPT_OUT)) == ([who[1]], [who[2], who[3]])
    assert world.calls[TYPES] == 1

    world.forget_calls()
    report = world.run(state=state)
    assert not world.sandbox.calls
    assert (report["unchanged"], report["requests"]) == (3, {})

    world.says(sub(1, state=0), sub(2), sub(1, OPT_OUT))
    report = world.run(state=state)
    assert (report["changed"], report["accepted"]) == (3, 3)
    assert (world.subscribed(), world.subscribed(OPT_OUT)) == ([who[2]], who[1:])

    world.says(sub(1, state=0))
    world.forget_calls()
    report = world.run(state=state)
    assert (report["removed"], report["unchanged"]) == (2, 1)
    assert not world.sandbox.calls
    assert world.subscribed() == [who[2]]

    world.says(sub(1, state=0), sub(2), sub(1, OPT_OUT))
    report = world.run(state=state)
    assert (report["added"], report["unchanged"], report["accepted"]) == (2, 1, 2)
    assert world.subscribed() == [who[2]]


@pytest.mark.parametrize("exclusive", ROADS)
@pytest.mark.parametrize("project_type", PROJECTS)
def test_rows_that_left_unsubscribe(make_subscribers: Made, project_type: ProjectType, exclusive: bool) -> None:
    """Each by itself, though others of the person are there; none subscribes; who was unsubscribed is left alone."""
    world = make_subscribers(project_type, exclusive)
    world.known(1, 2)
    options: dict[str, Any] = {"on_removed": "unsubscribe"}
    world.says(sub(1), sub(1, OPT_OUT), sub(2), sub(2, OPT_OUT, 0))
    world.run(**options)
    world.says(sub(1, OPT_OUT))
    world.forget_calls()
    report = world.run(**options)
    assert (report["removed"], report["unchanged"], report["accepted"]) == (3, 1, 2)
    first = identifier(project_type, 1)
    assert (world.subscribed(), world.subscribed(OPT_OUT)) == ([], [first])
    assert exclusive or world.calls[PUT] == 1
    world.says()
    world.run(**options)
    assert world.subscribed(OPT_OUT) == []
    assert world.remembered == []


@pytest.mark.parametrize("exclusive", ROADS)
@pytest.mark.parametrize("project_type", PROJECTS)
def test_a_leaver_leaves_all_their_subscriptions_at_once(
    make_subscribers: Made, project_type: ProjectType, exclusive: bool
) -> None:
    """Several removals of one person do not bring back what another one took."""
    world = make_subscribers(project_type, exclusive)
    world.known(1)
    kinds = [world.sandbox.project.channels.add_type(f"t{n}", CHANNEL, "OptIn", now=0.0).id for n in range(5)]
    world.says(*(sub(1, kind) for kind in kinds))
    world.run(on_removed="unsubscribe")
    assert all(world.subscribed(kind) for kind in kinds)
    world.says()
    report = world.run(on_removed="unsubscribe")
    assert (report["removed"], report["accepted"]) == (5, 5)
    assert not any(world.subscribed(kind) for kind in kinds)


@pytest.mark.parametrize("exclusive", ROADS)
@pytest.mark.parametrize("project_type", PROJECTS)
def test_lists_and_channels(make_subscribers: Made, project_type: ProjectType, exclusive: bool) -> None:
    """Both are joined and left, and what else a person is on stays."""
    world = make_subscribers(project_type, exclusive)
    world.known(1)
    project, who = world.sandbox.project, identifier(project_type, 1)
    first, other = (project.lists.create(name, None, "Standard", 0.0) for name in "ab")
    [profile] = project.profiles
    unsubscribe(profile, _channel(world, 102163), project)
    subscribe(profile, other, project)
    field = project.lists.field
    lists: dict[str, Any] = {"subscription_type": "list", "subscription_id": first.id, "sync_id": "lists"}
    channels: dict[str, Any] = {"subscription_type": "channel", "subscription_id": CHANNEL, "sync_id": "channels"}
    for state in (0, 1, 0):
        world.says(sub(1, state=state))
        assert world.run(**lists)["accepted"] == 1
        assert world.run(**channels, allow_channels=True)["accepted"] == 1
        assert set(world.profiles[who][field]) == {other.id, *([first.id] if state else [])}
        left = {102163, *([] if state else [CHANNEL])}
        assert set(world.profiles[who]["unsubscribedChannelIds"]) == left


def _channel(world: World, number: int) -> Group:
    found = world.sandbox.project.channels.get(number)
    assert found is not None
    return found


def forty(world: Subscribers) -> list[int]:
    """Make forty message types, half of them opt-in, and have two people subscribed to every third."""
    project = world.sandbox.project
    kinds = [
        project.channels.add_type(f"t{number}", CHANNEL, "OptIn" if number % 2 else "OptOut", now=0.0)
        for number in range(40)
    ]
    for profile in project.profiles:
        for number, kind in enumerate(kinds):
            (unsubscribe if number % 3 else subscribe)(profile, kind, project)
    return [kind.id for kind in kinds]


@pytest.mark.parametrize("exclusive", ROADS)
@pytest.mark.parametrize("project_type", PROJECTS)
@pytest.mark.parametrize("how", ["answered", "drop_after", "drop_before", "malformed", "5xx_html", "killed"])
def test_types_that_the_model_does_not_name_stay(
    make_subscribers: Made, project_type: ProjectType, exclusive: bool, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of forty change, whatever becomes of requests; the next run sends nothing."""
    world = make_subscribers(project_type, exclusive)
    world.known(1, 2)
    kinds = forty(world)
    before = {kind: world.subscribed(kind) for kind in kinds}
    named = kinds[1], kinds[2], kinds[3]
    wanted = {named[0]: 1, named[1]: 1, named[2]: 0}
    world.says(*(sub(who, kind, state) for kind, state in wanted.items() for who in (1, 2)))
    path = (BULK if exclusive else PUT).partition(" ")[2]
    if how == "killed":
        with monkeypatch.context() as patched:
            send = Client.send

            def die(client: Client, batch: Any) -> Any:
                send(client, batch)
                if not batch.call.reads:
                    raise KeyboardInterrupt
                return send(client, batch)

            patched.setattr(Client, "send", die)
            patched.setattr(Delivery, "_rescue", lambda delivery: None)
            with pytest.raises(KeyboardInterrupt):
                world.run()
        assert len(world.remembered) < 6
    elif how != "answered":
        world.sandbox.faults({"kind": how, "path": path, "times": 7, "after": 1})
    world.patiently()
    both = sorted(identifier(project_type, number) for number in (1, 2))
    after = {kind: world.subscribed(kind) for kind in kinds}
    assert {kind: after[kind] for kind in named} == {kind: both if state else [] for kind, state in wanted.items()}
    assert {kind: after[kind] for kind in kinds if kind not in named} == {
        kind: before[kind] for kind in kinds if kind not in named
    }
    assert (len(world.remembered), world.in_doubt) == (6, [])
    world.forget_calls()
    world.run()
    assert not world.sandbox.calls


def replaced(world: Subscribers, **parameters: Any) -> list[Any]:
    """Run, and return what the requests that replace arrays say of each person, in the order of their addresses."""
    bodies: list[Any] = []
    send = Client.send

    def keep(client: Client, batch: Any) -> Any:
        if not batch.call.reads:
            bodies.extend(msgspec.json.decode(batch.call.wrap(batch.operations).body)["updateSubscriptionsRequests"])
        return send(client, batch)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Client, "send", keep)
        world.run(**parameters)
    return sorted(bodies, key=lambda body: str(body.get("email", body.get("userId"))))


def test_arrays_that_would_not_change_are_not_sent(make_subscribers: Made) -> None:
    """Whoever is as the model wants them is looked up and accepted; of others only the array that changes goes."""
    world = make_subscribers(exclusive=True)
    world.known(1, 2)
    for profile in world.sandbox.project.profiles:
        unsubscribe(profile, _channel(world, CHANNEL), world.sandbox.project)
    world.says(sub(1, OPT_OUT), sub(2, OPT_IN, 0))
    report = world.run()
    assert (report["accepted"], report["reasons"]) == (2, {"already_changed": 2})
    assert BULK not in world.calls
    world.says(sub(1, OPT_OUT, 0), sub(2, OPT_IN))
    assert replaced(world) == [
        {"email": email(1), LEFT: [OPT_OUT]},
        {"email": email(2), JOINED: [OPT_IN], "validateChannelAlignment": False},
    ]
    assert email(2) in world.subscribed(), "though they have left the channel"


def test_lists_go_by_both_names_where_profiles_have_the_other_one(make_subscribers: Made) -> None:
    """Projects by user ID show ``userListIds``; for requests, only ``emailListIds`` is documented."""
    world = make_subscribers("user_id", exclusive=True)
    world.known(1)
    lists = world.sandbox.project.lists
    first, other = (lists.create(name, None, "Standard", 0.0).id for name in "ab")
    world.says(sub(1, first))
    world.run(subscription_type="list")
    world.says(sub(1, first), sub(1, other))
    both = [first, other]
    assert replaced(world, subscription_type="list") == [
        {"userId": uid(1), "userListIds": both, "emailListIds": both},
    ]


def test_a_person_is_in_one_request_at_a_time(make_subscribers: Made) -> None:
    """They are looked up again only once what was made of the last look-up is written; others go beside them."""
    world = make_subscribers(exclusive=True)
    world.known(1, 2, 3)
    kinds = [world.sandbox.project.channels.add_type(f"t{n}", CHANNEL, "OptIn", now=0.0).id for n in range(4)]
    steps: dict[str, list[str]] = {}
    send = Client.send

    def note(client: Client, batch: Any) -> Any:
        for operation in batch.operations:
            steps.setdefault(operation.handles[0][1], []).append("looked up" if batch.call.reads else "written")
        return send(client, batch)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Client, "send", note)
        for state in (1, None):
            world.says(*(sub(who, kind) for kind in kinds for who in (1, 2, 3) if state))
            world.run(on_removed="unsubscribe")
    assert steps == {email(who): ["looked up", "written"] * 8 for who in (1, 2, 3)}


def test_a_stale_profile_does_not_take_back_what_the_run_did(make_subscribers: Made) -> None:
    """Iterable may show a profile as it was before the run's own requests; what they did counts all the same."""
    world = make_subscribers(exclusive=True)
    world.known(1)
    kinds = [world.sandbox.project.channels.add_type(f"t{n}", CHANNEL, "OptIn", now=0.0).id for n in range(3)]
    world.says(*(sub(1, kind) for kind in kinds))
    first: list[Any] = []
    send = Client.send

    def stale(client: Client, batch: Any) -> Any:
        reply = send(client, batch)
        if batch.call.reads:
            first.append(reply)
            return first[0]
        return reply

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Client, "send", stale)
        world.run()
    assert all(world.subscribed(kind) == [email(1)] for kind in kinds)


@pytest.mark.parametrize("state", [0, 1])
@pytest.mark.parametrize(
    "user", [{"email": email(1)}, {"dataFields": {"name": "x"}}, {"userId": "1", "dataFields": {}}]
)
def test_a_profile_that_tells_too_little_is_not_replaced(make_subscribers: Made, user: Any, state: int) -> None:
    """An answer that does not tell the arrays, or whose they are, leaves them alone, and the row goes again."""
    world = make_subscribers(exclusive=True)
    world.known(1)
    world.says(sub(1, state=state))
    send = Client.send

    def bare(client: Client, batch: Any) -> Any:
        reply = send(client, batch)
        body = msgspec.json.encode({"user": user})
        return msgspec.structs.replace(reply, body=body) if batch.call.reads else reply

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Client, "send", bare)
        world.failure(AirflowException)
    assert BULK not in world.calls


@pytest.mark.parametrize("exclusive", ROADS)
def test_the_log_says_which_road_is_taken(make_subscribers: Made, exclusive: bool, heard: Callable[[], str]) -> None:
    """And what the other one costs; of the additive one, that nothing is reported about single people."""
    world = make_subscribers(exclusive=exclusive)
    world.known(1)
    world.says(sub(1))
    world.run()
    said = heard()
    assert ("Iterable reports nothing about single people" in said) is not exclusive
    assert ("arrays are replaced as they were read" in said) is exclusive
    assert "is looked up first (100 a second)" in said


@pytest.mark.parametrize("options", [{"subscriptions_status": 200}, {"subscriptions_code": "Accepted"}, {}])
def test_every_documented_success_counts(make_subscribers: Made, options: dict[str, Any]) -> None:
    """200 and 202, Success and Accepted."""
    world = make_subscribers(**options)
    world.says(sub(1), sub(2))
    assert world.run()["accepted"] == 2
    assert (world.subscribed(), world.calls[PUT]) == ([email(1), email(2)], 1)


def test_a_project_without_the_subscriptions_api_halts(make_subscribers: Made) -> None:
    """The message says who has to enable it, and names the other road."""
    world = make_subscribers(subscriptions_api=False)
    world.known(1)
    world.says(sub(1))
    said, report = world.failure(AirflowFailException)
    assert "Ask Iterable to enable it, or set exclusive=True" in said
    assert report["reasons"] == {"halted": 1}
    assert world.run(exclusive=True)["accepted"] == 1


@pytest.mark.parametrize("exclusive", ROADS)
def test_rows_of_an_unknown_message_type_are_rejected(make_subscribers: Made, exclusive: bool) -> None:
    """Before they are sent; rows of other types go."""
    world = make_subscribers(exclusive=exclusive)
    world.known(1, 2)
    world.says(sub(1, 7), sub(2, 7), sub(1), sub(2))
    report = world.run(max_rejected=1.0)
    assert (report["accepted"], report["reasons"].get("unknown_subscription")) == (2, 2)
    assert world.subscribed() == [email(1), email(2)]
    plan = world.run(dry_run=True)
    assert plan["reasons"] == {"unknown_subscription": 2}


@pytest.mark.parametrize("exclusive", ROADS)
def test_message_types_that_are_not_told(make_subscribers: Made, exclusive: bool, heard: Callable[[], str]) -> None:
    """Without them no array can be chosen, so nothing is sent; one thing can be added all the same."""
    world = make_subscribers(exclusive=exclusive)
    world.known(1)
    world.says(sub(1))
    world.sandbox.faults({"kind": "5xx_html", "path": "/api/messageTypes", "times": -1})
    if exclusive:
        said, _ = world.failure(AirflowException)
        assert "GET /api/messageTypes" in said
        assert world.subscribed() == []
    else:
        assert world.run()["accepted"] == 1
        assert "It is not known beforehand which of the IDs Iterable has" in heard()


def test_rows_of_an_unknown_list_are_rejected_by_the_answer(world: Subscribers) -> None:
    """One request for each ID says it; rows of other lists go."""
    there = world.sandbox.project.lists.create("a", None, "Standard", 0.0).id
    world.says(sub(1, 7), sub(2, 7), sub(1, there), sub(2, there))
    report = world.run(max_rejected=1.0, subscription_type="list")
    assert (report["accepted"], report["reasons"]) == (2, {"unknown_subscription": 2})
    assert world.calls[PUT] == 2


def test_a_double_opt_in_that_is_told_is_refused(world: Subscribers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is to be subscribed is rejected, who is to be unsubscribed goes; the word for it is not known."""
    from airflow_provider_iterable.api import questions

    ask = questions.message_types

    def telling(client: Client) -> Any:
        return [
            {**found, "subscription_policy": "DoubleOptIn"} if found["id"] == DOUBLE else found for found in ask(client)
        ]

    monkeypatch.setattr(questions, "message_types", telling)
    world.known(1, 2)
    world.says(sub(1, DOUBLE), sub(2, DOUBLE, 0), sub(1))
    report = world.run(max_rejected=1.0)
    assert (report["accepted"], report["reasons"]) == (2, {"unknown_subscription": 1})
    assert world.subscribed(DOUBLE) == []


@pytest.mark.parametrize("exclusive", ROADS)
@pytest.mark.parametrize("project_type", PROJECTS)
def test_a_forgotten_user_is_skipped(make_subscribers: Made, project_type: ProjectType, exclusive: bool) -> None:
    """The others of the batch arrive."""
    world = make_subscribers(project_type, exclusive)
    world.known(*range(1, 9))
    match = MATCH[project_type]
    key = {"email": email(4)} if match == "email" else {"userId": uid(4)}
    _post(world, "/api/users/forget", key)
    world.forget_calls()
    world.says(*(sub(number) for number in range(1, 9)))
    report = world.run()
    assert (report["accepted"], report["skipped"], report["rejected"]) == (7, 1, 0)
    assert report["reasons"].keys() == {"unknown_user" if exclusive else "forgotten_user"}
    assert len(world.subscribed()) == 7


def _post(world: World, path: str, body: Any) -> None:
    import requests

    from tests.operators.conftest import KEY

    answer = requests.post(f"{world.sandbox.url}{path}", json=body, headers={"Api-Key": KEY}, timeout=10)
    assert answer.status_code == 200


@pytest.mark.parametrize("exclusive", ROADS)
def test_an_unknown_user_whom_nobody_creates_is_skipped(make_subscribers: Made, exclusive: bool) -> None:
    """By user ID in an email-based project; it goes again once the user exists."""
    world = make_subscribers("email", exclusive)
    world.known(1, 3)
    world.says(sub(1), sub(2), sub(3))
    report = world.run(user_id_column="uid")
    assert (report["accepted"], report["skipped"], report["reasons"]) == (2, 1, {"unknown_user": 1})
    world.known(2)
    assert world.run(user_id_column="uid")["accepted"] == 1
    assert len(world.subscribed()) == 3


def test_a_malformed_identifier_that_iterable_finds_is_rejected(make_subscribers: Made) -> None:
    """A batch that is refused for it is taken apart; nobody else of it is lost."""
    world = make_subscribers(malformed_subscribers="refuse")
    world.rows(*(sub(number) for number in range(1, 6)), (9, "a@x.notatld", "u", OPT_IN, 1, PAST), columns=COLUMNS)
    report = world.run(max_rejected=1.0)
    assert (report["accepted"], report["rejected"]) == (5, 1)
    assert report["reasons"] == {"invalid_email": 1}


def test_rows_that_contradict_each_other_unsubscribe(world: Subscribers) -> None:
    """Whatever their order and the case of the address; the surplus is counted."""
    world.known(1, 2)
    for rows in ([1, 0], [0, 1], [1, 0, 1]):
        world.says(*(sub(1, state=state) for state in rows), sub(2))
        report = world.run(sync_id="".join(map(str, rows)))
        assert (report["collapsed"], report["accepted"]) == (len(rows) - 1, 2)
        assert world.subscribed() == [email(2)]


def test_of_rows_that_subscribe_the_one_that_may_not_counts(world: Subscribers) -> None:
    """A row that says nothing, or has no consent, keeps another from subscribing."""
    for bad, reason in ((sub(1, state="?"), "invalid_subscription"), (sub(1, since=None), "no_consent")):
        for rows in ([bad, sub(1)], [sub(1), bad]):
            world.says(*rows)
            report = world.run(max_rejected=1.0)
            assert (report["accepted"], report["reasons"], report["collapsed"]) == (0, {reason: 1}, 1)
    assert not world.calls


def test_words_say_who_is_subscribed(world: Subscribers) -> None:
    """In any case; an unknown one and a null reject the row."""
    world.known(1, 2, 3, 4)
    words = {"Yes": True, "no": False}
    world.says(sub(1, state=" YES "), sub(2, OPT_OUT, "No"), sub(3, state="maybe"), sub(4, state=None))
    report = world.run(subscribed_words=words, max_rejected=1.0)
    assert (report["accepted"], report["reasons"]) == (2, {"invalid_subscription": 2})
    assert (world.subscribed(), email(2) in world.subscribed(OPT_OUT)) == ([email(1)], False)


def test_without_a_column_each_row_subscribes(world: Subscribers) -> None:
    """The model is the people who are subscribed to one thing."""
    world.says(sub(1, state=0), sub(2))
    world.run(subscription_id=OPT_IN, subscribed_column=None)
    assert world.subscribed() == [email(1), email(2)]


@pytest.mark.parametrize("since", [None, "", FUTURE, "soon", 5])
def test_nobody_is_subscribed_without_consent(world: Subscribers, since: Any) -> None:
    """Who is to be unsubscribed needs none; consent that comes later lets the row go, and is no news by itself."""
    world.known(1, 2)
    world.says(sub(1, since=since), sub(2, OPT_OUT, 0, None))
    report = world.run(max_rejected=1.0)
    assert (report["accepted"], report["reasons"]) == (1, {"no_consent": 1})
    assert world.subscribed() == []
    world.says(sub(1, since="2021-01-01T00:00:00+00:00"), sub(2, OPT_OUT, 0, None))
    assert world.run()["accepted"] == 1
    world.says(sub(1, since=PAST), sub(2, OPT_OUT, 0, None))
    assert world.run()["unchanged"] == 2


def test_consent_may_be_waived_in_words(world: Subscribers, heard: Callable[[], str]) -> None:
    """The words are in log and report."""
    why = "the shop asks at the till"
    world.says(sub(1, since=None))
    report = world.run(consent_at_column=None, consent_waived=why)
    assert report["accepted"] == 1
    assert why in heard()
    assert any(why in note for note in report["notes"])


def test_rows_with_a_state_need_consent_to_subscribe(world: Subscribers) -> None:
    """Where nothing is said about consent, rows may unsubscribe and nothing else."""
    world.known(1, 2)
    world.says(sub(1), sub(2, OPT_OUT, 0))
    report = world.run(consent_at_column=None, max_rejected=1.0)
    assert (report["accepted"], report["reasons"]) == (1, {"no_consent": 1})


@pytest.mark.parametrize("exclusive", ROADS)
def test_too_many_subscriptions_fail_before_the_first_call(make_subscribers: Made, exclusive: bool) -> None:
    """Who is unsubscribed does not count; a template may allow more, and None any number."""
    world = make_subscribers(exclusive=exclusive)
    world.known(1, 2, 3, 4)
    world.says(sub(1), sub(2), sub(3), sub(4, OPT_OUT, 0))
    said, report = world.failure(AirflowFailException, max_subscribed=2)
    assert "max_subscribed allows 2" in said
    assert "would subscribe 3" in said
    assert (report["requests"], world.sandbox.calls) == ({}, [])
    assert world.run(max_subscribed=3)["accepted"] == 4
    world.says(sub(1), sub(2), sub(3))
    assert world.run(max_subscribed=0)["unchanged"] == 3
    assert world.run(max_subscribed=None, resync="full")["accepted"] == 3


@pytest.mark.parametrize("action", ["delete", "forget", "merge"])
def test_an_erased_person_has_no_subscriptions(world: Subscribers, action: Any) -> None:
    """Nor has one who was merged: entries become tombstones, rows are skipped without a call; another person's stay."""
    world.known(1, 2)
    rows = [sub(1), sub(1, OPT_OUT, 0), sub(2)]
    world.says(*rows)
    world.run(on_removed="unsubscribe")
    eraser = Subscribers(world.sandbox, world.warehouse, world.project_type)
    common: dict[str, Any] = {
        "task_id": "erase",
        "sql_conn_id": "warehouse",
        "primary_key": "id",
        "state": TableState(),
    }
    if action == "merge":
        pair = f"SELECT 1 AS id, 'PERSON1@example.com' AS email, '{email(2)}' AS kept"
        common |= {"sql": pair, "source_email_column": "email", "destination_email_column": "kept"}
        eraser.make = lambda **parameters: IterableMergeOperator(**common)  # type: ignore[method-assign,assignment]
    else:
        common |= {"sql": "SELECT 1 AS id, 'PERSON1@example.com' AS email", "email_column": "email", "action": action}
        eraser.make = lambda **parameters: IterablePrivacyOperator(**common)  # type: ignore[method-assign,assignment]
    assert "2 entries of other syncs" in str(eraser.run()["notes"])
    assert world.key(1) not in world.remembered
    assert world.key(2) in world.remembered
    for state in (1, 0):
        world.says(sub(1, state=state), sub(1, OPT_OUT, state), sub(2))
        world.forget_calls()
        report = world.run(on_removed="unsubscribe")
        assert (report["skipped"], report["reasons"], report["unchanged"]) == (2, {"erased_person": 2}, 1)
        assert not world.sandbox.calls
    assert email(1) not in world.profiles


def test_a_plan_is_approved_and_a_canary_goes_first(make_subscribers: Made) -> None:
    """A dry run sends nothing, shows what each row does, and its hash lets the same plan through."""
    world = make_subscribers()
    world.says(*(sub(number, state=number % 2) for number in range(1, 9)))
    plan = world.run(dry_run=True)
    assert PUT not in world.calls
    lines = {line["operation"]: line["added"] for line in plan["plan"]["operations"]}
    assert lines == {"subscribe people": 4, "unsubscribe people": 4}
    assert [field["field"] for field in plan["plan"]["fields"]] == ["email", "messageType", "subscribed"]
    said, _ = world.failure(AirflowFailException, approved_plan="other")
    assert "What was approved is not the hash of a plan" in said
    report = world.run(approved_plan=plan["plan_hash"], canary=2)
    assert report["accepted"] == 8
    assert world.calls[PUT] >= 3


@pytest.mark.parametrize("exclusive", ROADS)
def test_a_row_is_explained(make_subscribers: Made, exclusive: bool) -> None:
    """By its whole key, or by the person alone where all rows are about one thing."""
    world = make_subscribers(exclusive=exclusive)
    world.known(1)
    world.says(sub(1), sub(1, OPT_OUT, 0))
    operator = world.make()
    context: Any = {"run_id": "r", "ti": None, "inlet_events": {}}
    told = explain_row(operator, context, world.key(1).replace("person", "Person"))
    assert (told.change, told.action, told.operation) == ("added", "send", "subscribe people")
    assert (told.rows, told.remembered.status) == (1, "nothing")
    assert "Iterable keeps the last" not in str(told.notes)
    told = explain_row(world.make(subscription_id=OPT_IN, sql="SELECT * FROM users LIMIT 1"), context, email(1))
    assert (told.change, told.action) == ("added", "send")


def test_what_makes_no_sense_is_refused_when_the_dag_is_parsed(world: Subscribers) -> None:
    """Each with what to do instead."""
    for wrong, said in (
        ({"fields": {"a": "b"}}, "leave fields out"),
        ({"subscription_id": 1, "subscription_id_column": "about"}, "one of the two"),
        ({"subscription_id_column": None}, "one of the two"),
        ({"subscription_type": "channel"}, "allow_channels=True"),
        ({"subscribed_column": None, "subscribed_words": {"a": True}}, "subscribed_words"),
        ({"subscribed_column": None, "consent_at_column": None}, "consent_at_column"),
        ({"consent_waived": "because"}, "leave out consent_at_column or consent_waived"),
        ({"exclusive": True, "partition": 1}, "Run it as one task"),
        ({"subscribed_words": {"Yes": True, "yes": False}}, "must be a dict of words"),
        ({"subscribed_words": {"yes": 1}}, "must be a dict of words"),
        ({"subscription_type": "topic"}, "subscription_type must be"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            world.make(**wrong)


def test_the_state_belongs_to_what_is_subscribed_to(world: Subscribers) -> None:
    """Another type of subscription, or another ID, does not take over what is remembered."""
    world.says(sub(1))
    world.run(subscription_id=OPT_IN)
    said, _ = world.failure(AirflowFailException, subscription_id=OPT_OUT)
    assert "belongs to another destination" in said
    (asset, _), *_ = world.told.events
    assert asset.uri.endswith("/subscriptions/message_type")
