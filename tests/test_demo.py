from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_iterable.demo.__main__ import arguments
from airflow_provider_iterable.demo.check import Check, expected
from airflow_provider_iterable.demo.others import Others
from airflow_provider_iterable.demo.paper import WIDTH, Paper
from airflow_provider_iterable.demo.warehouse import Warehouse
from airflow_provider_iterable.sandbox import Sandbox

CUSTOMER: dict[str, Any] = {
    "id": 7,
    "email": "Ada.Berg.7@Example.com",
    "first_name": "Ada",
    "last_name": None,
    "birth_date": "1990-02-03",
    "signed_up_at": "2025-01-02 03:04:05",
    "last_order_at": None,
    "order_count": 2,
    "lifetime_value": 5.0,
    "pets": '[{"name": "Coco", "species": "cat", "bornOn": "2020-05-06", "weightKg": 4.1}]',
    "street": "Mill Lane 3",
    "city": None,
    "postal_code": "9000",
    "country": "BE",
}
PROFILE: dict[str, Any] = {
    "email": "ada.berg.7@example.com",
    "firstName": "Ada",
    "birthDate": "1990-02-03 00:00:00 +00:00",
    "signedUpAt": "2025-01-02 03:04:05 +00:00",
    "orderCount": 2,
    "lifetimeValue": 5.0,
    "pets": [{"name": "Coco", "species": "cat", "bornOn": "2020-05-06 00:00:00 +00:00", "weightKg": 4.1}],
    "address": {"street": "Mill Lane 3", "postalCode": "9000", "country": "BE"},
    "source": "warehouse",
}


def store(sandbox: Sandbox, **changes: Any) -> None:
    """Put the profile of the customer into a sandbox, with some fields changed."""
    fields = {name: value for name, value in {**PROFILE, **changes}.items() if name != "email"}
    profile = sandbox.project.profiles.with_email(PROFILE["email"])
    assert profile is not None
    profile.fields = fields


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox that knows the customer."""
    with Sandbox("email") as sandbox:
        body = {"users": [{"email": PROFILE["email"], "dataFields": {"source": "warehouse"}}]}
        requests.post(f"{sandbox.url}/api/users/bulkUpdate", json=body, headers={"Api-Key": "any"}, timeout=10)
        yield sandbox


def test_what_is_expected_is_told_without_the_mapping() -> None:
    """Addresses are folded, dates are in Iterable's form, nulls are not there, and dots stand for objects."""
    address = {f"address.{name}": value for name, value in PROFILE["address"].items()}
    assert expected(CUSTOMER) == {name: value for name, value in PROFILE.items() if name != "address"} | address


def test_a_profile_that_equals_its_row_passes(sandbox: Sandbox) -> None:
    """An equal profile is counted with all its values."""
    store(sandbox)
    found = Check(sandbox.url)([CUSTOMER])
    assert (found.users, found.equal, found.fields, found.differences) == (1, 1, 11, [])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("firstName", "Eva"),
        ("lastName", "Berg"),
        ("lifetimeValue", 5),
        ("orderCount", "2"),
        ("birthDate", "1990-02-03"),
        ("pets", []),
        ("address", {**PROFILE["address"], "city": "Ghent"}),
        ("unheardOf", None),
    ],
)
def test_any_other_value_is_a_difference(sandbox: Sandbox, field: str, value: Any) -> None:
    """A value that differs in anything, even in its type, and a field too many are found and named."""
    store(sandbox, **{field: value})
    differences = Check(sandbox.url)([CUSTOMER]).differences
    assert len(differences) == (value is not None)
    assert all(f"field {field}" in difference for difference in differences)


def test_a_profile_too_few_or_too_many_is_a_difference(sandbox: Sandbox) -> None:
    """Who is missing at Iterable is named, and so is who should not be there."""
    store(sandbox)
    check = Check(sandbox.url)
    assert len(check([CUSTOMER, {**CUSTOMER, "id": 8, "email": "eva@example.com"}]).differences) == 1
    assert check([]).differences == [f"{PROFILE['email']} is at Iterable and should not be"]


def test_a_refused_row_leaves_its_profile_as_it_was(sandbox: Sandbox) -> None:
    """Once a row cannot be sent, the profile has to equal what the row said before."""
    store(sandbox)
    check = Check(sandbox.url)
    check([CUSTOMER])
    later = {**CUSTOMER, "first_name": "Eva"}
    found = check([later], refused={7})
    assert (found.kept, found.equal, found.differences) == (1, 0, [])
    assert len(check([later]).differences) == 1


def test_the_warehouse_is_the_same_every_time(tmp_path: Path) -> None:
    """Customers and what happens to them are drawn by lot, and always the same lots are drawn."""
    first, second = (Warehouse(tmp_path / name, 120) for name in ("first.db", "second.db"))
    assert first.rows() == second.rows()
    assert first.live_a_little() == second.live_a_little()
    assert first.rows() == second.rows()


def test_what_did_not_arrive_is_a_difference(sandbox: Sandbox, tmp_path: Path) -> None:
    """The second scene notices when events, purchases, carts, members or items are not at Iterable."""
    warehouse = Warehouse(tmp_path / "warehouse.db", 120)
    others = Others(warehouse.path, sandbox.url)
    others.happen()
    names = [difference.partition(":")[0] for difference in others.differences()[0]]
    assert names == ["events", "purchases", "carts", "members of the list", "items of the catalog"]
    others.go_on()
    assert others.differences()[0][-1].startswith("forgotten people")


def test_long_lines_are_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    """No line is wider than the paper, and a wrapped line goes on under its beginning."""
    paper = Paper()
    paper.item("label", "    " + "word " * 60)
    paper.line("word " * 60)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert "\033" not in "".join(lines)


def test_too_few_customers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The story needs enough customers to change, remove and spoil."""
    with pytest.raises(SystemExit):
        arguments(["--users", "10"])
    assert "at least 100" in capsys.readouterr().err


def demo(home: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the demo as ``make demo`` does, with a temporary folder to look at afterwards."""
    command = [sys.executable, "-m", "airflow_provider_iterable.demo", *options]
    variables = {**os.environ, "TMPDIR": str(home), **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=variables)


@pytest.mark.slow
@pytest.mark.parametrize("project_type", ["email", "hybrid"])
def test_the_demo_ends_well_and_leaves_nothing(tmp_path: Path, project_type: str) -> None:
    """Two scenes, in each a run without requests, within 100 columns; nothing stays in the temporary folder."""
    done = demo(tmp_path, "--users", "300", "--project-type", project_type)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= WIDTH
    assert "\033" not in done.stdout
    assert re.findall(r"^(\d)\. ", done.stdout, re.MULTILINE) == list("12345678")
    assert re.findall(r"requests +none", done.stdout) == ["requests   none"]
    assert "field lastOrderAt: date expected, string like 0000-00-00 00:00:00" in done.stdout
    assert "Iterable equals the warehouse: 298 users" in done.stdout
    assert len(re.findall("equal to the warehouse: 30[01] events, 40 purchases, 5 carts", done.stdout)) == 3
    assert len(re.findall("none\n", done.stdout.partition("8. An hour later")[2])) == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_failing_run_is_told_with_what_airflow_said(tmp_path: Path) -> None:
    """Where Airflow cannot start, the demo shows its output and exits with 1."""
    broken = tmp_path / "broken"
    (broken / "airflow").mkdir(parents=True)
    (broken / "airflow" / "__init__.py").write_text("print('a sign of life')\nraise OSError('no such luck')\n", "utf-8")
    home = tmp_path / "home"
    home.mkdir()
    done = demo(home, "--users", "100", PYTHONPATH=str(broken))
    assert done.returncode == 1
    assert "no such luck" in done.stderr
    assert "a sign of life" in done.stderr
    assert list(home.iterdir()) == []
