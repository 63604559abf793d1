from __future__ import annotations

import pytest

from tests.histories import STATES, ForgetfulState, failures

SEED = 20_261_130


@pytest.mark.parametrize("compares", STATES)
def test_a_lost_answer_or_a_killed_worker_leaves_no_trace(compares: str) -> None:
    """Once nothing goes wrong, one run makes Iterable equal to the model, and the next sends nothing."""
    assert [] == failures(150, SEED, STATES[compares])


def test_the_histories_notice_an_engine_without_write_ahead() -> None:
    """Rows that were in flight when the worker died are taken for unchanged, or forgotten."""
    assert failures(150, SEED, ForgetfulState)
