"""Nothing that somebody else answers is taken for Iterable's word, by any call; what Iterable answers, is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import pytest

from airflow_provider_iterable.api import endpoints, project, verdicts
from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.vocabulary import Again, Batch, Call, Halt, Reply, Settled, Split
from airflow_provider_iterable.errors import Halted, IterableSyncError
from tests.api.conftest import KEY
from tests.api.foreign import FOREIGN
from tests.api.judging import chain, operations
from tests.fakes import an_operation, settled
from tests.services import Answer, Answering, answering

ADA = {
    "email": "ada@example.com",
    "userId": "u-1",
    "eventName": "seen",
    "dataFields": {"email": "lovelace@example.com"},
}
LIST = endpoints.MailingList(7)
DONE = {"msg": "", "code": "Success", "params": None}
COUNTS = {"successCount": 1, "failCount": 0}
FOUND = {"user": {"email": "ada@example.com", "dataFields": {}}}
changing, changing_by_id = chain(endpoints.update_email("email")), chain(endpoints.update_email("user_id"))
changing_in_bulk = chain(endpoints.bulk_change_email("email"))

CALLS: Mapping[str, tuple[Call, Any]] = {
    "users/bulkUpdate": (endpoints.bulk_update_users(), COUNTS),
    "users/bulkUpdate, updateOnly": (endpoints.bulk_update_users(update_only=True), COUNTS),
    "users/updateEmail": (changing[0], DONE),
    "look-up of a new address": (changing[1], FOUND),
    "look-up of an old address": (changing[2], FOUND),
    "look-up of an address by user ID": (changing_by_id[1], FOUND),
    "look-up before a change": (changing_in_bulk[0], FOUND),
    "users/bulkUpdate of an address": (changing_in_bulk[1], COUNTS),
    "users/bulkUpdate of an address by user ID": (chain(endpoints.bulk_change_email("user_id"))[1], COUNTS),
    "DELETE users by email": (endpoints.delete_user("email"), DONE),
    "DELETE users by user ID": (endpoints.delete_user("user_id"), DONE),
    "users/forget": (endpoints.forget_user(), DONE),
    "users/unforget": (endpoints.unforget_user(), DONE),
    "look-up by email": (endpoints.look_up_user("email", endpoints.bulk_update_users()), FOUND),
    "look-up by user ID": (endpoints.look_up_user("user_id", endpoints.bulk_update_users()), FOUND),
    "events/trackBulk": (endpoints.track_events(), COUNTS),
    "events/trackBulk without IDs": (endpoints.track_events(repeatable=False), COUNTS),
    "commerce/trackPurchase": (endpoints.track_purchase(), DONE),
    "commerce/updateCart": (endpoints.update_cart(), DONE),
    "lists/subscribe": (endpoints.subscribe_to_list(LIST), COUNTS),
    "lists/unsubscribe": (endpoints.unsubscribe_from_list(LIST), COUNTS),
    "catalog items, write": (endpoints.write_items("shop"), DONE),
    "catalog items, delete": (endpoints.delete_items("shop"), DONE),
}
"""Every call that rows go to, and Iterable's own success."""

UNTELLABLE = {name: ("object 200",) for name in CALLS if name.startswith("look-up")}
"""Iterable's own answer about somebody unknown is ``{}``, without anything by which it could be told."""


@pytest.fixture(scope="module")
def server() -> Iterator[Answering]:
    """Serve queued answers on the loopback address."""
    with answering() as state:
        yield state


@pytest.fixture
def client(server: Answering) -> Iterator[Client]:
    """Return a client that waits for nothing."""
    server.answers.clear()
    with Client(server.url, KEY, clock=lambda: 0.0, sleep=lambda seconds: None) as client:
        yield client


def believed(call: Call, size: int, kind: Kind, reply: Reply) -> list[str]:
    """Judge an answer to a request with so many rows; return the fates of those of which it is believed."""
    users = [{**ADA, "email": f"{letter}da@example.com"} for letter in "abc"[:size]]
    made = [msgspec.structs.replace(one, kind=kind) for one in operations(users, call)]
    verdict = call.judge(Batch(call, made), reply)
    if isinstance(verdict, Settled):
        if call.then is not None and call.then.reads and not call.reads and not verdict.outcomes:
            return []  # a look-up is to find out
        return [
            str(outcome.fate)
            for outcome in settled(verdict, made)
            if outcome.fate is not Fate.REJECTED or (call.reads and outcome.reason is Reason.TARGET_EXISTS)
        ]
    if isinstance(verdict, Split):
        return [] if verdict.last is Fate.REJECTED else [str(verdict.last)]
    assert isinstance(verdict, Again | Halt)
    if 300 <= reply.status < 400 or reply.status == 404:
        assert isinstance(verdict, Halt), "a wrong host halts"
    if isinstance(verdict, Halt):
        assert f"HTTP {reply.status}" in verdict.message
        assert "ada" not in verdict.message
    return []


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("foreign", FOREIGN)
def test_nobody_elses_answer_is_believed(server: Answering, client: Client, name: str, foreign: str) -> None:
    """Not of one row nor of several, not of rows that left; nowhere else than at a host that is not Iterable's."""
    call, _ = CALLS[name]
    if foreign in UNTELLABLE.get(name, ()):
        return
    server.answers.append(FOREIGN[foreign])
    reply = client.send(Batch(call, operations([ADA], call)))
    assert reply.status == FOREIGN[foreign].status
    for size in (1, 2) if call.max_items > 1 else (1,):
        for kind in (Kind.ADDED, Kind.CHANGED, Kind.REMOVED):
            assert believed(call, size, kind, reply) == []


@pytest.mark.parametrize("name", CALLS)
def test_iterables_success_is_believed(name: str) -> None:
    """Without it, the test of others' answers would be passed by judges that believe nothing."""
    call, body = CALLS[name]
    assert believed(call, 1, Kind.ADDED, Reply(200, json.dumps(body).encode())) != []


GONE = {
    "unknown user ID, 2017": (400, {"msg": "No users with userId u-1 exist", "code": "BadParams", "params": None}),
    "unknown user": (400, {"msg": "User does not exist. Email:  UserId: u-1", "code": "BadParams", "params": None}),
    "unknown user, shorter": (400, {"msg": "User does not exist", "code": "BadParams", "params": None}),
    "unknown user, 404": (404, {"msg": "User does not exist. Email: a UserId: ", "code": "NotFound", "params": None}),
    "unknown email, coded": (400, {"msg": "x", "code": "UnknownEmailError", "params": None}),
    "unknown user ID, coded": (
        400,
        {"msg": "No user exists with userId 1", "code": "UnknownUserIdError", "params": None},
    ),
    "no user ID, second form": (
        404,
        {"error": "NotFound", "message": "x", "code": "error.users.noUserWithIdExists", "data": {"args": []}},
    ),
    "forgotten": (409, {"msg": "x", "code": "ForgottenUserError", "params": None}),
    "forgotten, 400": (400, {"msg": "x", "code": "ForgottenUserError", "params": None}),
}


@pytest.mark.parametrize("name", ["DELETE users by email", "DELETE users by user ID", "users/forget", "users/unforget"])
@pytest.mark.parametrize("gone", GONE)
def test_iterables_words_for_somebody_who_is_gone_are_believed(name: str, gone: str) -> None:
    """Each form in which it was seen to say so."""
    status, body = GONE[gone]
    done = believed(CALLS[name][0], 1, Kind.ADDED, Reply(status, json.dumps(body).encode()))
    still_forgotten = name == "users/unforget" and "forgotten" in gone
    assert (done == ["accepted"]) is not still_forgotten


UNKNOWN = {
    "200": (200, b"{}"),
    "text of 2017": (400, b"No user with that id exists!"),
    "coded 500": (500, b'{"msg":"x","code":"error.users.noUserWithIdExists","params":null}'),
    "coded 400": (400, b'{"msg":"No user exists with userId 12345","code":"UnknownUserIdError","params":null}'),
}


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_iterables_words_for_an_unknown_user_are_believed(unknown: str) -> None:
    """Those of each year, by a look-up."""
    assert believed(CALLS["look-up by user ID"][0], 1, Kind.ADDED, Reply(*UNKNOWN[unknown])) == ["skipped"]


def test_a_catalog_accepts_without_a_body() -> None:
    """Of the 202 of catalogs no body is documented; of other statuses and of other calls one is."""
    for name, (call, _) in CALLS.items():
        catalog = name.startswith("catalog")
        for status in (200, 201, 202, 204):
            expected = ["accepted"] if catalog and status == 202 else []
            assert believed(call, 1, Kind.ADDED, Reply(status)) == expected
    for code in ("Success", "Accepted"):
        body = json.dumps({**DONE, "code": code}).encode()
        assert believed(CALLS["catalog items, write"][0], 1, Kind.ADDED, Reply(202, body)) == ["accepted"]


ASKED: Mapping[str, tuple[Callable[[Client], Any], Any]] = {
    "GET /api/channels": (project.get_channels, None),
    "GET /api/channels, test of the connection": (lambda client: project.trouble(client) or "well", "well"),
    "GET /api/users/getFields": (project.get_fields, None),
    "GET /api/lists": (lambda client: project.get_lists(client, "members"), None),
    "POST /api/lists": (lambda client: project.create_list(client, "members") is not None, True),
    "GET /api/catalogs/{name}/fieldMappings": (lambda client: project.get_catalog_types(client, "shop"), None),
    "POST /api/catalogs/{name}": (lambda client: project.create_catalog(client, "shop") == "", True),
    "PUT /api/catalogs/{name}/fieldMappings": (
        lambda client: project.set_catalog_types(client, "shop", {"a": "long"}),
        True,
    ),
}
"""Every call before rows go, and what it returns when it believes the answer; ``None``: anything."""


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("foreign", FOREIGN)
def test_nothing_is_learned_from_somebody_else(server: Answering, client: Client, name: str, foreign: str) -> None:
    """Neither that a list or a catalog is missing, nor that it was made, nor that the key may not read."""
    ask, believing = ASKED[name]
    answer = FOREIGN[foreign]
    server.answers.extend([answer] * project.TRIES)
    found: Any = None
    error: IterableSyncError | None = None
    try:
        found = ask(client)
    except IterableSyncError as caught:
        error = caught
    if error is None:
        assert believing is not None
        assert found != believing
    else:
        assert "ada" not in str(error)
    if (300 <= answer.status < 400 or answer.status == 404) and "test" not in name:
        assert isinstance(error, Halted)


@pytest.mark.parametrize("server_name", ["kong/3.4.1", "cloudflare", "awselb/2.0", "Microsoft-Azure-Gateway/v2"])
def test_what_answered_is_named(server: Answering, client: Client, server_name: str) -> None:
    """By what it calls itself and the kind of its answer; nothing of the answer is shown, which may echo names."""
    call = endpoints.forget_user()
    server.answers.append(Answer(404, b'{"message":"ada@example.com"}', {"Server": server_name}))
    verdict = call.judge(Batch(call, operations([ADA], call)), client.send(Batch(call, operations([ADA], call))))
    assert isinstance(verdict, Halt)
    assert verdict.message == (
        "POST /api/users/forget is not there (HTTP 404): check the connection's host, and whether a gateway, a proxy "
        "or a login page stands before Iterable. What answered is JSON of another form than Iterable's, from a server "
        f"that calls itself {server_name}. Once that is mended, a new run sends what is left."
    )


@pytest.mark.parametrize("server_name", ["ada@example.com", "u-1 kong", "", "x" * 200, "<script>", "1.2.3.4"])
def test_a_strange_name_of_a_server_is_not_shown(server: Answering, client: Client, server_name: str) -> None:
    """Only what looks like a product's name is."""
    call = endpoints.forget_user()
    server.answers.append(Answer(404, b"", {"Server": server_name}))
    assert client.send(Batch(call, operations([ADA], call))).server == ""


@pytest.mark.parametrize(
    ("user", "fates"),
    [
        ({"email": "u0@example.com", "dataFields": {}}, ["accepted"]),
        ({"email": "U0@Example.com ", "userId": "another"}, ["accepted"]),
        ({"dataFields": {}}, ["accepted"]),
        ({"email": "somebody.else@example.com", "userId": "u-9"}, []),
    ],
)
def test_who_was_looked_up_is_who_was_found(user: dict[str, object], fates: list[str]) -> None:
    """A cache between may answer for somebody else, and an update creates nobody."""
    call, _ = CALLS["look-up by email"]
    one = an_operation("u0", call, identity="u0@example.com")
    verdict = verdicts.judge_lookup(Batch(call, [one]), Reply(200, json.dumps({"user": user}).encode()))
    assert isinstance(verdict, Settled if fates else Again)


@pytest.mark.parametrize(("successes", "failures"), [(1000, 0), (4, 0), (3, 1)])
def test_more_successes_than_rows_are_not_believed(successes: int, failures: int) -> None:
    """What answers counts something else than the rows of this request."""
    body = {"successCount": successes, "failCount": failures, "failedUpdates": {}}
    call, _ = CALLS["users/bulkUpdate"]
    three = Batch(call, [an_operation(f"u{number}", call) for number in range(3)])
    assert isinstance(verdicts.judge_bulk_users(three, Reply(200, json.dumps(body).encode())), Split)
