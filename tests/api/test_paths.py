from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.api.endpoints import BatchEndpoint, Endpoint
from airflow_provider_iterable.api.paths import UNKNOWN_RATE, endpoint_of, split
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.sandbox.endpoints.routes import ROUTES

TABLE = {row.name: row for row in vars(endpoints).values() if isinstance(row, Endpoint)}


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_a_path_of_what_operators_call_shares_its_rate(row: Endpoint) -> None:
    """Paces are kept by method, template and rate; the three are the same."""
    path = row.template.replace("{email}", "ada%40x.io").replace("{userId}", "7").replace("{name}", "shop")
    found = endpoint_of(row.method, path)
    assert (found.method, found.template, found.rate) == (row.method, row.template, row.rate)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.endpoint)
def test_other_endpoints_are_known_with_what_is_documented(route: Any) -> None:
    """As the sandbox has it, which was written apart from this."""
    path = "/".join("x1" if part.startswith("{") else part for part in route.template.split("/"))
    found = endpoint_of(route.method, path)
    assert found.template == route.template
    assert found.rate == pytest.approx(route.rate or 0)


def test_a_fixed_path_goes_before_a_variable_one() -> None:
    """``getFields`` is nobody's address."""
    assert endpoint_of("GET", "/api/users/getFields").template == "/api/users/getFields"
    assert endpoint_of("GET", "/api/users/ada%40x.io").template == "/api/users/{email}"
    assert not isinstance(endpoint_of("GET", "/api/users/ada%40x.io"), BatchEndpoint)


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/api/campaigns/ada/metrics", "/api/campaigns/{}"),
        ("/api/campaigns", "/api/campaigns"),
        ("/api/users/query/ada", "/api/users/{}"),
        ("/api/ada%40example.com", "/api/{}"),
        ("/api/ada%40example.com/events", "/api/{}/{}"),
    ],
)
def test_a_path_that_is_not_known_tells_its_group_alone(path: str, template: str) -> None:
    """Whoever stands in it stays out of logs; all of a group wait for each other."""
    found = endpoint_of("GET", path)
    assert (found.template, found.rate) == (template, UNKNOWN_RATE)


@pytest.mark.parametrize(
    ("path", "params", "sent"),
    [
        ("/api/lists", None, ("/api/lists", {})),
        ("/api/users/getByEmail?email=a%2Bb@x.io", None, ("/api/users/getByEmail", {"email": "a+b@x.io"})),
        ("/api/a?x=1", {"y": 2, "z": None}, ("/api/a", {"x": "1", "y": "2"})),
        ("/api/a?x=1&x=2", {"x": 3}, ("/api/a", {"x": ["1", "2", "3"]})),
        ("/api/a", {"x": [1, 2], "y": True, "z": 1.5}, ("/api/a", {"x": ["1", "2"], "y": "true", "z": "1.5"})),
        ("/api/users/a+b@x.io", None, ("/api/users/a%2Bb%40x.io", {})),
        ("/api/users/a%2Bb%40x.io", None, ("/api/users/a%2Bb%40x.io", {})),
        ("/api/catalogs/100%", None, ("/api/catalogs/100%25", {})),
        ("/api/catalogs/größe", None, ("/api/catalogs/gr%C3%B6%C3%9Fe", {})),
    ],
)
def test_a_path_is_quoted_and_its_query_joins_the_parameters(path: str, params: Any, sent: Any) -> None:
    """What is quoted already stays as it is; a plus sign is one."""
    assert split(path, params) == sent


@pytest.mark.parametrize(
    "path",
    [
        "",
        "api/lists",
        "/lists",
        "/api",
        "/api/",
        "/api/lists/",
        "/api//lists",
        "/api/../admin",
        "/api/users/%2e%2E/x",
        "/api/users/.",
        "/api/users/ada lovelace",
        "/api/users/a\nb",
        "/api/users/a\\b",
        "/api/users#ada",
        "/api/users?x=1#ada",
        "https://other.example.com/api/users",
        "//other.example.com/api/users",
    ],
)
def test_what_is_no_path_is_refused(path: str) -> None:
    """Nothing leads to another host, or out of the API; the path is not repeated, for somebody may stand in it."""
    with pytest.raises(ConfigurationError, match="takes the path of one of Iterable's endpoints") as failed:
        split(path)
    assert "ada" not in str(failed.value)


def test_parameters_are_plain_values() -> None:
    """An object would be sent as Python writes it."""
    with pytest.raises(ConfigurationError, match="parameter filter is of type dict"):
        split("/api/lists", {"filter": {"a": 1}})
