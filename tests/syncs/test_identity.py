from __future__ import annotations

from itertools import product

import pytest

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.syncs.identity import matching

NO_MAPPING = "Map email_column, user_id_column or both"
NO_TYPE = "the connection does not say the project type"
BY_EMAIL = "A user-ID-based project cannot match by email"

# match_by, which of the two columns are mapped, project type: the identifier that matches, or the error.
DECISIONS: dict[tuple[str | None, str, str | None], str] = {
    (None, "email", None): "email",
    (None, "email", "email"): "email",
    (None, "email", "hybrid"): "email",
    (None, "email", "user_id"): BY_EMAIL,
    (None, "user_id", None): "user_id",
    (None, "user_id", "email"): "user_id",
    (None, "user_id", "hybrid"): "user_id",
    (None, "user_id", "user_id"): "user_id",
    (None, "both", None): NO_TYPE,
    (None, "both", "email"): "email",
    (None, "both", "hybrid"): "user_id",
    (None, "both", "user_id"): "user_id",
    ("email", "email", None): "email",
    ("email", "email", "email"): "email",
    ("email", "email", "hybrid"): "email",
    ("email", "email", "user_id"): BY_EMAIL,
    ("email", "both", None): "email",
    ("email", "both", "email"): "email",
    ("email", "both", "hybrid"): "email",
    ("email", "both", "user_id"): BY_EMAIL,
    ("user_id", "user_id", None): "user_id",
    ("user_id", "user_id", "email"): "user_id",
    ("user_id", "user_id", "hybrid"): "user_id",
    ("user_id", "user_id", "user_id"): "user_id",
    ("user_id", "both", None): "user_id",
    ("user_id", "both", "email"): "user_id",
    ("user_id", "both", "hybrid"): "user_id",
    ("user_id", "both", "user_id"): "user_id",
    **{
        ("email", "user_id", project): "match_by='email' needs email_column"
        for project in (None, "email", "hybrid", "user_id")
    },
    **{
        ("user_id", "email", project): "match_by='user_id' needs user_id_column"
        for project in (None, "email", "hybrid", "user_id")
    },
    **{(None, "none", project): NO_MAPPING for project in (None, "email", "hybrid", "user_id")},
    **{("email", "none", project): "needs email_column" for project in (None, "email", "hybrid", "user_id")},
    **{("user_id", "none", project): "needs user_id_column" for project in (None, "email", "hybrid", "user_id")},
}


def test_every_combination_is_decided() -> None:
    """The table has no hole."""
    every = product(
        (None, "email", "user_id"), ("email", "user_id", "both", "none"), (None, "email", "hybrid", "user_id")
    )
    assert set(DECISIONS) == set(every)


@pytest.mark.parametrize(("match_by", "mapped", "project"), DECISIONS)
def test_which_identifier_matches(match_by: str | None, mapped: str, project: str | None) -> None:
    """An explicit choice wins, else the only one mapped, else the project type decides; the rest is said in words."""
    email = "mail" if mapped in ("email", "both") else None
    user_id = "uid" if mapped in ("user_id", "both") else None
    expected = DECISIONS[match_by, mapped, project]
    if expected in ("email", "user_id"):
        assert matching(match_by, email, user_id, project) == expected
        return
    with pytest.raises(ConfigurationError) as refused:
        matching(match_by, email, user_id, project)
    assert expected in str(refused.value)


def test_a_match_that_is_none() -> None:
    """There are two identifiers."""
    with pytest.raises(ConfigurationError, match='"email" or "user_id", not \'userId\''):
        matching("userId", "mail", "uid", "hybrid")


def test_the_remedies_are_named() -> None:
    """Who maps both without a project type reads what to set, and where."""
    with pytest.raises(ConfigurationError, match='project_type in the connection, or match_by="email" or "user_id"'):
        matching(None, "mail", "uid", None)
