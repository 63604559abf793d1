"""Calls that go wrong on purpose, and what is remembered of all calls."""

import hashlib
import json
from typing import Any

import pytest

from airflow_provider_iterable.sandbox.endpoints.routes import query_of
from airflow_provider_iterable.sandbox.inspection.inspections import inspect

from .conftest import START, Client, Clock, Make, Reply

ONE = {"users": [{"email": "a@x.io", "dataFields": {"f": 1}}]}
BULK = "/api/users/bulkUpdate"


def ask(client: Client, method: str, target: str, body: Any = None) -> Reply:
    """Make an inspection."""
    path, _, query = target.partition("?")
    raw = b"" if body is None else json.dumps(body).encode()
    answer = inspect(client.service, method, path, query_of(query), raw)
    return Reply(answer.status, answer.body.decode(), {})


def spoil(client: Client, *faults: dict[str, Any]) -> None:
    """Make coming calls go wrong."""
    assert ask(client, "POST", "/sandbox/faults", list(faults)).status == 200


def last(client: Client) -> Any:
    """Return what is remembered of the last call."""
    return ask(client, "GET", "/sandbox/calls?newest=1").json["calls"][0]


def test_dropped_before_is_not_applied(make: Make) -> None:
    """The connection ends without an answer and nothing is written."""
    client = make()
    spoil(client, {"kind": "drop_before"})
    assert client.post("users/bulkUpdate", ONE).status == 0
    assert client.fields_of("a@x.io") is None
    call = last(client)
    assert (call["status"], call["applied"], call["fault"]) == (0, False, "drop_before")


def test_dropped_after_is_applied(make: Make) -> None:
    """The connection ends without an answer though everything is written."""
    client = make()
    spoil(client, {"kind": "drop_after"})
    assert client.post("users/bulkUpdate", ONE).status == 0
    assert client.fields_of("a@x.io") == {"f": 1}
    call = last(client)
    assert (call["status"], call["code"], call["applied"], call["records"]) == (0, None, True, 1)


def test_malformed_is_applied(make: Make) -> None:
    """The answer is 200 and no JSON, though everything is written."""
    client = make()
    spoil(client, {"kind": "malformed"})
    reply = client.post("users/bulkUpdate", ONE)
    assert reply.status == 200
    with pytest.raises(json.JSONDecodeError):
        _ = reply.json
    assert client.fields_of("a@x.io") == {"f": 1}
    assert last(client)["applied"] is True


def test_a_server_error_is_html(make: Make) -> None:
    """5xx_html answers with its status and a page; nothing is written."""
    client = make()
    spoil(client, {"kind": "5xx_html", "status": 502}, {"kind": "5xx_html"})
    for status in (502, 503):
        reply = client.post("users/bulkUpdate", ONE)
        assert (reply.status, reply.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert client.fields_of("a@x.io") is None


def test_a_false_429_has_the_form_of_the_endpoint(make: Make) -> None:
    """It comes with numbers or words as a true one would, and `seconds` as the reset."""
    client = make()
    spoil(client, {"kind": "429", "seconds": 7, "times": 2})
    assert client.post("users/bulkUpdate", ONE).json["params"]["rateLimitReset"] == 7
    assert client.get("channels").json["msg"].startswith("Exceeded rate limit of 100.0 per second")
    assert client.fields_of("a@x.io") is None


def test_slow_answers_late(make: Make, clock: Clock) -> None:
    """The answer is the true one, `seconds` later."""
    client = make()
    spoil(client, {"kind": "slow", "seconds": 30})
    assert client.post("users/bulkUpdate", ONE).json["successCount"] == 1
    call = last(client)
    assert (call["started"], call["finished"]) == (START, START + 30)
    assert clock.now == START + 30


POISONED = {"users": [{"email": "b@x.io", "dataFields": {"word": "p\u00f6ison"}}]}


def test_poison_refuses_whatever_names_it(make: Make) -> None:
    """Each request whose body or target holds the text is a 500, until the faults end; nothing of it is stored."""
    client = make()
    spoil(client, {"kind": "poison", "text": "b@x.io"})
    for _ in range(30):
        reply = client.post("users/bulkUpdate", {"users": [{"email": "a@x.io"}, {"email": "b@x.io"}]})
        assert (reply.status, reply.code) == (500, "GenericError")
    assert client.project.profiles.with_email("a@x.io") is None
    assert last(client)["fault"] == "poison"
    assert client.post("users/bulkUpdate", ONE).status == 200
    targets = ["users/b@x.io", "users/b%40x.io", "users/getByEmail?email=b%40x.io", "users/a@x.io"]
    assert [client.get(target).status for target in targets] == [500, 500, 500, 200]
    ask(client, "DELETE", "/sandbox/faults")
    assert client.post("users/bulkUpdate", POISONED).status == 200


def test_poison_may_be_told_apart(make: Make) -> None:
    """It takes a path, a status and a number of times as other faults do, and any fault takes a text."""
    client = make()
    spoil(client, {"kind": "poison", "text": "p\u00f6ison", "path": BULK, "status": 502, "times": 1})
    sent = json.dumps(POISONED, ensure_ascii=False).encode()
    replies = [client.get("users/p%C3%B6ison@x.io"), *(client.post("users/bulkUpdate", sent) for _ in range(2))]
    assert [reply.status for reply in replies] == [200, 502, 200]
    spoil(client, {"kind": "drop_after", "text": "a@x.io"})
    assert [client.post("users/bulkUpdate", body).status for body in (POISONED, ONE, ONE)] == [200, 0, 200]


def test_drip_is_the_true_answer(make: Make) -> None:
    """The call is applied and answered as ever, only sent slowly."""
    client = make()
    spoil(client, {"kind": "drip", "seconds": 2})
    reply = client.post("users/bulkUpdate", ONE)
    assert (reply.json["successCount"], client.fields_of("a@x.io")) == (1, {"f": 1})


def test_faults_are_counted(make: Make) -> None:
    """`after` lets calls pass, `times` ends a fault, -1 never does; then comes the next fault."""
    client = make()
    spoil(client, {"kind": "drop_before", "after": 2, "times": 2}, {"kind": "5xx_html", "times": -1, "after": 1})
    assert [client.get("channels").status for _ in range(6)] == [200, 503, 0, 0, 503, 503]
    listed = ask(client, "GET", "/sandbox/faults").json["faults"]
    assert [(fault["matched"], fault["fired"]) for fault in listed] == [(6, 2), (4, 3)]
    ask(client, "DELETE", "/sandbox/faults")
    assert client.get("channels").status == 200


@pytest.mark.parametrize(
    ("path", "hits"),
    [
        ("", [True, True, True, True]),
        ("/api/users", [True, True, True, False]),
        ("/api/users/update", [True, False, False, False]),
        ("/api/users/{email}", [False, False, True, False]),
        ("/api/users/a@x.io", [False, False, True, False]),
    ],
)
def test_faults_have_a_path(make: Make, path: str, hits: list[bool]) -> None:
    """A fault befalls a path, a template, or a folder; a path is not the start of a longer name."""
    client = make()
    spoil(client, {"kind": "5xx_html", "path": path, "times": -1})
    replies = [
        client.post("users/update", {"email": "a@x.io"}),
        client.post("users/updateEmail", {}),
        client.get("users/a@x.io"),
        client.get("channels"),
    ]
    assert [reply.status == 503 for reply in replies] == hits


def test_chance_follows_the_seed(make: Make) -> None:
    """With a probability some calls go wrong, the same ones for the same seed."""

    def outcome(seed: int) -> list[int]:
        client = make(seed=seed)
        spoil(client, {"kind": "5xx_html", "times": -1, "probability": 0.3})
        return [client.get("channels").status for _ in range(200)]

    assert outcome(1) == outcome(1) != outcome(2)
    assert 30 < outcome(1).count(503) < 90


def test_a_fault_of_no_times_never_comes(make: Make) -> None:
    """With `times` 0 no call goes wrong; without anything said, one does, and takes a second."""
    client = make()
    spoil(client, {"kind": "slow", "times": 0}, {"kind": "slow"})
    assert [client.get("channels").status for _ in range(2)] == [200, 200]
    listed = ask(client, "GET", "/sandbox/faults").json["faults"]
    assert [fault["fired"] for fault in listed] == [0, 1]
    assert client.clock.now == START + 1


@pytest.mark.parametrize(
    "fault", [{"kind": "none"}, {"kind": "slow", "second": 1}, {"kind": ["slow"]}, {"kind": "poison"}, {}, 5]
)
def test_wrong_faults_are_refused(make: Make, fault: Any) -> None:
    """An unknown kind or member is an error, and no fault of the list is taken in."""
    client = make()
    assert ask(client, "POST", "/sandbox/faults", [{"kind": "slow"}, fault]).status == 400
    assert ask(client, "GET", "/sandbox/faults").json == {"faults": []}


def test_calls_are_remembered_without_their_keys(make: Make) -> None:
    """A call keeps what it was, how it ended and the digest of its body."""
    client = make(api_key="secret-key")
    client.bulk({"email": "a@x.io"}, {"email": "foo@"}, secret=True)
    client.post("users/bulkUpdate", ONE, api_key="secret-key")
    client.get("users/a%40x.io?api_key=secret-key", api_key="secret-key")
    client.post("users/bulkUpdate", {"users": [{"email": "foo@"}]}, api_key="secret-key")
    body = json.dumps(ONE).encode()
    reply = ask(client, "GET", "/sandbox/calls")
    first, second, third, fourth = reply.json["calls"]
    assert (first["status"], first["code"], first["applied"]) == (401, "BadApiKey", False)
    assert second == {
        "seq": 2,
        "method": "POST",
        "path": BULK,
        "template": BULK,
        "status": 200,
        "code": None,
        "records": 1,
        "bytes": len(body),
        "applied": True,
        "accepted": 1,
        "failed": 0,
        "body_sha256": hashlib.sha256(body).hexdigest(),
        "project": 10216,
        "started": START,
        "finished": START,
        "fault": None,
    }
    assert (third["template"], third["applied"], third["bytes"]) == ("/api/users/{email}", False, 0)
    assert (fourth["status"], fourth["applied"]) == (200, False)
    assert "secret-key" not in reply.text
    assert "secret-key" not in ask(client, "GET", "/sandbox/state").text


def test_calls_can_be_read_on(make: Make) -> None:
    """`after` leaves out what was read; numbers go on after the calls are forgotten."""
    client = make()
    for _ in range(5):
        client.get("channels")

    def seqs(query: str) -> list[int]:
        return [call["seq"] for call in ask(client, "GET", f"/sandbox/calls?{query}").json["calls"]]

    assert (seqs("after=3"), seqs("newest=2"), seqs("after=9")) == ([4, 5], [4, 5], [])
    ask(client, "DELETE", "/sandbox/calls")
    assert seqs("after=0") == []
    client.get("channels")
    assert (seqs("after=0"), seqs("after=5"), seqs("after=6")) == ([6], [6], [])


def test_accepted_identifiers_are_remembered_on_demand(make: Make) -> None:
    """With record_identifiers a call keeps whom it wrote, also when it got no answer."""
    client = make("hybrid", record_identifiers=True)
    spoil(client, {"kind": "drop_after"})
    client.bulk({"email": "A@x.io"}, {"email": "foo@"}, {"email": "b@x.io", "userId": "2"})
    [call] = ask(client, "GET", "/sandbox/calls?identifiers=1").json["calls"]
    assert call["identifiers"] == [["email", "a@x.io"], ["email", "b@x.io"], ["user_id", "2"]]
    assert "identifiers" not in last(client)
    client = make("hybrid")
    client.bulk({"email": "a@x.io"})
    [call] = ask(client, "GET", "/sandbox/calls?identifiers=1").json["calls"]
    assert call["identifiers"] is None


def test_refused_batches_count_their_records(make: Make) -> None:
    """A batch that fails as a whole is remembered with its size and code, as not applied."""
    client = make()
    client.bulk({"email": "a@x.io", "dataFields": {"f": 1}})
    client.bulk({"email": "a@x.io"}, {"email": "b@x.io", "dataFields": {"f": "x"}})
    call = last(client)
    assert (call["records"], call["code"], call["applied"]) == (2, "RequestFieldsTypesMismatched", False)


def test_the_summary_counts_calls(make: Make) -> None:
    """Calls are counted by method, template and status."""
    client = make()
    for name in "abc":
        client.get(f"users/{name}@x.io")
    client.get("users/foo@")
    client.post("users/bulkUpdate", ONE)
    assert ask(client, "GET", "/sandbox/summary").json == {
        "calls": [
            {"method": "GET", "template": "/api/users/{email}", "status": 200, "count": 3},
            {"method": "GET", "template": "/api/users/{email}", "status": 400, "count": 1},
            {"method": "POST", "template": BULK, "status": 200, "count": 1},
        ],
        "total": 5,
    }


def test_the_state_shows_profiles_as_stored(make: Make) -> None:
    """Profiles come without system fields and with the number of accepted writes."""
    client = make("hybrid")
    client.bulk({"email": "a@x.io", "dataFields": {"f": 1}}, {"userId": "2"})
    client.bulk({"email": "a@x.io", "dataFields": {"f": 2}}, {"email": "foo@"})
    client.post("users/forget", {"email": "z@x.io"})
    state = ask(client, "GET", "/sandbox/state?users=1").json
    assert state["profiles"] == [
        {"email": "a@x.io", "userId": None, "dataFields": {"f": 2}, "writes": 2},
        {"email": None, "userId": "2", "dataFields": {}, "writes": 1},
    ]
    assert (state["project_type"], state["users"], state["fields"]) == ("hybrid", 2, {"f": "long"})
    assert len(state["forgotten"]["emails"]) == 1
    assert state["options"]["api_key"] is None
    assert state["forgotten"]["user_ids"] == []
    assert "profiles" not in ask(client, "GET", "/sandbox/state").json
    assert len(ask(client, "GET", "/sandbox/state?users=1&limit=1").json["profiles"]) == 1


def test_options_change_while_it_runs(make: Make) -> None:
    """Options named in the body change, the others stay; a wrong one changes nothing."""
    client = make(max_records=9)
    reply = ask(client, "POST", "/sandbox/options", {"max_fields": 3, "rates": True})
    assert (reply.json["max_fields"], reply.json["rates"], reply.json["max_records"]) == (3, True, 9)
    for wrong in ({"max_field": 1}, {"max_fields": "many"}, {"burst_seconds": 0}, [1], None):
        assert ask(client, "POST", "/sandbox/options", wrong).status == 400
    assert client.project.options.max_fields == 3


def test_a_reset_goes_back_to_the_start(make: Make) -> None:
    """Users, fields, forgotten users, calls, faults, buckets and options are as in the beginning."""
    client = make("email", rates=True)
    client.bulk({"email": "a@x.io", "dataFields": {"f": 1}})
    client.post("users/forget", {"email": "b@x.io"})
    ask(client, "POST", "/sandbox/options", {"max_fields": 1})
    spoil(client, {"kind": "slow", "times": -1})
    for _ in range(4):
        client.get("users/getFields")
    assert ask(client, "POST", "/sandbox/reset").status == 200
    state = ask(client, "GET", "/sandbox/state").json
    assert (state["project_type"], state["users"], state["fields"]) == ("email", 0, {})
    assert (state["forgotten"], state["options"]["max_fields"]) == ({"emails": [], "user_ids": []}, 1000)
    assert ask(client, "GET", "/sandbox/summary").json["total"] == 0
    assert ask(client, "GET", "/sandbox/faults").json == {"faults": []}
    assert client.get("users/getFields").status == 200


def test_a_reset_may_change_the_project_type(make: Make) -> None:
    """The type named in the body is that of the new project; an unknown one is an error."""
    client = make("email")
    assert ask(client, "POST", "/sandbox/reset", {"project_type": "none"}).status == 400
    assert ask(client, "POST", "/sandbox/reset", {"project_type": "hybrid"}).status == 200
    assert ask(client, "GET", "/sandbox/state").json["project_type"] == "hybrid"


def test_unknown_inspections_are_not_found(make: Make) -> None:
    """They answer 404 with JSON; a number that is none answers 400."""
    client = make()
    assert ask(client, "GET", "/sandbox/nothing").status == 404
    assert ask(client, "GET", "/sandbox/calls?after=x").status == 400
