from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.engine.reasons import Fate
from airflow_provider_iterable.engine.vocabulary import Batch, Reply, Settled
from tests.api.judging import bodies, call_of, codes, operations


@given(
    body=bodies | codes,
    status=st.sampled_from([0, 200, 202, 302, 400, 401, 403, 404, 408, 409, 413, 429, 500, 503]),
    name=st.sampled_from(
        ["users/updateEmail", "old address", "address of", "before change", "bulk change", "before change, last"]
    ),
    by=st.sampled_from(["email", "userId"]),
)
def test_every_answer_about_addresses_has_a_verdict(body: bytes, status: int, name: str, by: str) -> None:
    """Judging is total, and only an answer that says so lets a change pass for made."""
    user = {by: "u@x.io", "dataFields": {"email": "new@x.io"}}
    call = call_of(name, user)
    made = operations([user], call)
    verdict = call.judge(Batch(call, made), Reply(status, body))
    if isinstance(verdict, Settled):
        accepted = [outcome for outcome in verdict.outcomes.values() if outcome.fate is Fate.ACCEPTED]
        if accepted and name in ("users/updateEmail", "bulk change"):
            assert 200 <= status < 300
        assert verdict.outcomes or call.then is not None or 200 <= status < 300
