from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.api.endpoints import Merging
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.vocabulary import Again, Batch, Call, Entry, Halt, Operation, Reply, Settled
from tests.api.judging import bodies, chain, codes

NEW, DOUBTFUL = Merging("email", "email").calls()
CALLS = {
    "destination": chain(NEW)[0],
    "merge": chain(NEW)[1],
    "source": DOUBTFUL,
    "merge in doubt": chain(DOUBTFUL)[2],
    "source, last": chain(DOUBTFUL)[-1],
}
NOBODY = b'{"msg":"User does not exist with email","code":"UnknownEmailError","params":null}'
FORGOTTEN = b'{"msg":"","code":"ForgottenUserError","params":null}'
DONE = b'{"msg":"","code":"Success","params":null}'


def pair(call: Call) -> Operation:
    """Return a merge of somebody into somebody."""
    handles = (("email", "kept@x.io"), ("email", "old@x.io"))
    return Operation("[1]", Kind.ADDED, call, b"{}", handles, Entry(b"fingerprint."))


def judged(name: str, reply: Reply) -> tuple[Fate, Reason | None] | str:
    """Return what becomes of a merge: its fate and reason, or that it goes on, again, or ends the run."""
    call = CALLS[name]
    verdict = call.judge(Batch(call, [pair(call)]), reply)
    if isinstance(verdict, Settled):
        outcome = verdict.outcomes.get(0)
        return "on" if outcome is None else (outcome.fate, outcome.reason)
    return "again" if isinstance(verdict, Again) else "halt" if isinstance(verdict, Halt) else "split"


def user(name: str) -> Reply:
    """Return an answer about somebody."""
    return Reply(200, b'{"user":{"email":"%s"}}' % name.encode())


@pytest.mark.parametrize(
    ("name", "reply", "meaning"),
    [
        ("destination", user("kept@x.io"), "on"),
        ("destination", user("old@x.io"), "again"),  # the answer is about the other one
        ("destination", Reply(400, NOBODY), (Fate.SKIPPED, Reason.UNKNOWN_DESTINATION)),
        ("destination", Reply(409, FORGOTTEN), (Fate.SKIPPED, Reason.FORGOTTEN_USER)),
        ("merge", Reply(200, DONE), (Fate.ACCEPTED, None)),
        ("merge", Reply(400, NOBODY), (Fate.SKIPPED, Reason.UNKNOWN_USER)),
        ("merge", Reply(409, FORGOTTEN), (Fate.SKIPPED, Reason.FORGOTTEN_USER)),
        ("merge", Reply(400, b'{"msg":"","code":"BadParams","params":null}'), (Fate.REJECTED, Reason.REFUSED)),
        ("merge", Reply(403, b'{"msg":"","code":"BadApiKey","params":null}'), "halt"),
        ("merge", Reply(429), "again"),
        ("merge", Reply(0), "on"),
        ("merge", Reply(0, sent=False), "again"),
        ("merge", Reply(503), "on"),
        ("merge", Reply(200, b"<html>"), "on"),
        ("merge in doubt", Reply(400, NOBODY), "on"),
        ("merge in doubt", Reply(200, DONE), (Fate.ACCEPTED, None)),
        ("source", user("old@x.io"), "on"),
        ("source", user("kept@x.io"), "again"),
        ("source", Reply(400, NOBODY), (Fate.ACCEPTED, Reason.ALREADY_MERGED)),
        ("source", Reply(404, b"<html>not here</html>"), "halt"),
        ("source, last", user("old@x.io"), (Fate.DEFERRED, Reason.NO_ANSWER)),
        ("source, last", Reply(400, NOBODY), (Fate.ACCEPTED, Reason.ALREADY_MERGED)),
    ],
)
def test_what_an_answer_means(name: str, reply: Reply, meaning: object) -> None:
    """Of the merge, and of the look-ups before and after it."""
    assert judged(name, reply) == meaning


@given(
    body=bodies | codes,
    status=st.sampled_from([0, 200, 202, 302, 400, 401, 403, 404, 408, 409, 413, 429, 500, 503]),
    name=st.sampled_from(sorted(CALLS)),
)
def test_every_answer_about_merges_has_a_verdict(body: bytes, status: int, name: str) -> None:
    """Judging is total, and only an answer that says so lets a merge pass for made."""
    meaning = judged(name, Reply(status, body))
    if meaning == (Fate.ACCEPTED, None):
        assert 200 <= status < 300
        assert name.startswith("merge")
    assert meaning != (Fate.ACCEPTED, Reason.ALREADY_MERGED) or name.startswith("source")


def test_a_pair_goes_a_few_times_at_most() -> None:
    """Each further try follows a look-up, and the last call is one, so that the run knows what is in doubt."""
    does = [call.does for call in chain(NEW)]
    assert does == ["look up users", "merge users", *["look up users", "look up users", "merge users"] * 2, does[0]]
    assert [call.does for call in chain(DOUBTFUL)] == does[2:]
    merges = [call for call in chain(NEW) if not call.reads]
    assert all(call.looks_back and call.rate == 50 for call in merges)
