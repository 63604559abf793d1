from __future__ import annotations

import pytest

from airflow_provider_iterable.engine.references import forms, is_made, made, plain


@pytest.mark.parametrize("ref", ['["email","a@x.io"]', '["user_id","1"]', '["user_id",",1]"]', '["user_id","made"]'])
def test_a_reference_may_say_who_made_somebody(ref: str) -> None:
    """It does so once, it can be taken back, and no identifier looks like it."""
    assert not is_made(ref)
    assert is_made(made(ref))
    assert made(made(ref)) == made(ref) != ref
    assert plain(made(ref)) == plain(ref) == ref
    assert forms(ref) == forms(made(ref)) == (ref, made(ref))
