from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
import requests

from airflow_provider_iterable.demo import choices
from airflow_provider_iterable.demo.__main__ import Demo, RunFailed, arguments
from airflow_provider_iterable.demo.check import Check, expected
from airflow_provider_iterable.demo.choices import Choices
from airflow_provider_iterable.demo.console import WIDTH, Console
from airflow_provider_iterable.demo.local_airflow import Airflow, Run
from airflow_provider_iterable.demo.others import STEPS, Others
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
    assert first.change_some() == second.change_some()
    assert first.rows() == second.rows()


class Shop:
    """The second scene's warehouse, and a sandbox that was brought up to it by hand."""

    def __init__(self, sandbox: Sandbox, home: Path) -> None:
        self._sandbox, self.url = sandbox, sandbox.url
        self.warehouse = Warehouse(home / "warehouse.db", 100)
        self.others = Others(self.warehouse.path, sandbox.url)
        self.others.happen()

    def call(self, method: str, path: str, body: Any) -> Any:
        """Call the sandbox, and expect it to take it."""
        url, headers = f"{self._sandbox.url}/api/{path}", {"Api-Key": "any"}
        answer = requests.request(method, url, json=body, headers=headers, timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    def differences(self) -> list[str]:
        """Compare, as the demo does."""
        return self.others.differences(Check(self._sandbox.url), self.warehouse.rows())[0]

    def fill(self) -> None:
        """Send what the warehouse holds."""
        users = []
        for row in self.warehouse.rows():
            flat = expected(row)
            address = {name[8:]: flat.pop(name) for name in list(flat) if name.startswith("address.")}
            users.append({"email": flat.pop("email"), "dataFields": {**flat, "address": address}})
        self.call("POST", "users/bulkUpdate", {"users": users})
        customers = "JOIN customers ON customers.id = customer_id"
        self.call("POST", "events/trackBulk", {"events": [
            {"email": email, "eventName": kind, "dataFields": {"page": page}}
            for email, kind, page in self._rows(f"SELECT email, kind, page FROM visits {customers}")
        ]})  # fmt: skip
        for email, items in self._rows(f"SELECT email, carts.items FROM carts {customers}"):
            self.call("POST", "commerce/updateCart", {"user": {"email": email}, "items": json.loads(items)})
        orders = self._rows(f"SELECT order_number, email, items, total, coupon FROM orders {customers}")
        for number, email, items, total, coupon in orders:
            self.buy(number, email, json.loads(items), total, coupon)
        self.call("POST", "lists", {"name": "loyal"})
        loyal = self._rows("SELECT email FROM customers WHERE order_count >= 5")
        subscribers = [{"email": email} for (email,) in loyal]
        self.call("POST", "lists/subscribe", {"listId": self.list_id, "subscribers": subscribers})
        self.call("POST", "catalogs/products", {})
        items = self._rows("SELECT replace(sku, '_', '-'), name, price, attributes FROM products WHERE on_sale = 1")
        documents = {
            item: {"name": name, "price": price, "attributes": json.loads(attributes)}
            for item, name, price, attributes in items
        }
        self.call("POST", "catalogs/products/items", {"documents": documents, "replaceUploadedFieldsOnly": False})

    def buy(self, number: str, email: str, items: Any, total: float, coupon: str) -> None:
        """Send an order."""
        user = {"email": email, "dataFields": {"lastCoupon": coupon}}
        purchase = {"id": number, "user": user, "items": items, "total": total, "dataFields": {"coupon": coupon}}
        self.call("POST", "commerce/trackPurchase", purchase)

    @property
    def list_id(self) -> int:
        """The list's ID."""
        (found,) = self._sandbox.lists
        return int(found["id"])

    def somebody(self, condition: str) -> str:
        """Return the first address of whom a condition is true."""
        return str(self._rows(f"SELECT email FROM customers WHERE {condition} ORDER BY id")[0][0])

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.warehouse.path)) as database:
            return database.execute(query).fetchall()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop, and a sandbox that knows nothing of it."""
    with Sandbox("email") as empty:
        yield Shop(empty, tmp_path)


def named(differences: list[str]) -> list[str]:
    """Return what differs, without by how much."""
    return [difference.partition(":")[0] for difference in differences]


KINDS = ["events", "purchases", "carts", "cart updates", "members of the list", "items of the catalog"]


def test_what_did_not_arrive_is_a_difference(shop: Shop) -> None:
    """The second scene notices when users, events, purchases, carts, members or items are not at Iterable."""
    found = shop.differences()
    assert named(found)[5:] == KINDS
    assert all(difference.endswith("is not at Iterable") for difference in found[:5])
    shop.others.go_on()
    assert named(shop.differences())[5:] == [*KINDS, "forgotten people"]


Sabotage = Callable[[Shop], Any]
SABOTAGES: dict[str, Sabotage] = {
    "customer 1, field firstName": lambda shop: shop.call(
        "POST", "users/update", {"email": shop.somebody("id = 1"), "dataFields": {"firstName": "Nobody"}}
    ),
    "events": lambda shop: shop.call(
        "POST", "events/track", {"email": shop.somebody("id > 9"), "eventName": "Visited", "dataFields": {"page": "/"}}
    ),
    "purchases": lambda shop: shop.buy(
        "A-1", shop.somebody("id = (SELECT customer_id FROM orders WHERE id = 1)"), [], 0.5, "SPRING"
    ),
    "carts": lambda shop: shop.call(
        "POST",
        "commerce/updateCart",
        {"user": {"email": shop.somebody("id IN (SELECT customer_id FROM carts)")}, "items": []},
    ),
    "cart updates": lambda shop: shop.call(
        "POST", "events/track", {"email": shop.somebody("id > 9"), "eventName": "updateCart"}
    ),
    "members of the list": lambda shop: shop.call(
        "POST",
        "lists/unsubscribe",
        {"listId": shop.list_id, "subscribers": [{"email": shop.somebody("order_count > 4")}]},
    ),
    "items of the catalog": lambda shop: shop.call("DELETE", "catalogs/products/items", {"itemIds": ["sku-1"]}),
    "forgotten people": lambda shop: shop.call("POST", "users/forget", {"email": shop.somebody("id > 9")}),
}


@pytest.mark.parametrize("what", SABOTAGES)
def test_what_arrived_wrongly_is_a_difference(shop: Shop, what: str) -> None:
    """A sandbox that was brought up to the warehouse passes, and does so no more once anything is altered there."""
    shop.fill()
    assert shop.differences() == []
    SABOTAGES[what](shop)
    assert what in named(shop.differences())


Deed = Callable[[Shop, Choices], Any]
DEEDS: dict[str, Deed] = {
    "message types joined": lambda shop, made: shop.call(
        "POST",
        "users/updateSubscriptions",
        {"email": shop.somebody("id > 40"), "subscribedMessageTypeIds": [made.tips]},
    ),
    "message types left": lambda shop, made: shop.call(
        "POST", "users/updateSubscriptions", {"email": made.people[0][1], "unsubscribedMessageTypeIds": []}
    ),
    "who is there": lambda shop, made: shop.call("POST", "users/update", {"email": made.people[3][1]}),
    "visits of who was merged": lambda shop, made: shop.call(
        "POST", "events/track", {"email": made.people[5][1], "eventName": "Visited"}
    ),
}


@pytest.mark.parametrize("what", DEEDS)
def test_what_is_chosen_and_merged_wrongly_is_a_difference(shop: Shop, what: str) -> None:
    """The third scene notices what did not arrive, and, once it was brought there by hand, what is altered."""
    shop.fill()
    check, made = Check(shop.url), Choices(shop.warehouse.path, shop.url)
    made.happen()
    assert named(made.differences(check, [])[0]) == list(DEEDS)
    for _, address in made.people[:3]:
        body: dict[str, Any] = {"email": address, "subscribedMessageTypeIds": [made.tips]}
        body["unsubscribedMessageTypeIds"] = [made.push, *([made.receipts] if address == made.people[0][1] else [])]
        shop.call("POST", "users/updateSubscriptions", body)
    for (_, old), (_, kept) in zip(made.people[3:5], made.people[5:7], strict=True):
        shop.call("POST", "users/merge", {"sourceEmail": old, "destinationEmail": kept})
    assert made.differences(check, [])[0] == []
    DEEDS[what](shop, made)
    assert named(made.differences(check, [])[0]) == [what]


class IdleAirflow:
    """Runs nothing, and says that every run ended in some state; it may look at Iterable meanwhile.

    :param failing: the DAG whose runs fail
    :param url: the sandbox it looks at
    """

    def __init__(self, failing: str = "", url: str = "") -> None:
        self._failing, self._url = failing, url

    def run(self, dag_id: str = "example_iterable_users", leave_out: str | None = None) -> Run:
        """Return a run without reports."""
        if self._url:
            requests.get(f"{self._url}/api/lists", headers={"Api-Key": "any"}, timeout=10)
        return Run("failed" if dag_id == self._failing else "success", [], [], 0.0)


def idle_demo(sandbox: Sandbox, home: Path, airflow: IdleAirflow) -> Demo:
    """Return a demo of few customers in which no task does anything."""
    return Demo(Console(), sandbox, Warehouse(home / "warehouse.db", 100), cast("Airflow", airflow))


def test_differences_are_told_in_the_end(sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where runs succeed and Iterable does not equal the warehouse, the demo says so and has faults."""
    demo = idle_demo(sandbox, tmp_path, IdleAirflow())
    demo.run()
    told = capsys.readouterr().out
    assert len(demo.faults) > 500
    assert [fault for fault in demo.faults if "refused" in fault] == [f"{choices.MERGES} was to be refused and was not"]
    assert len([fault for fault in demo.faults if fault.startswith("message types joined: ")]) == 3
    assert len([fault for fault in demo.faults if fault.startswith("members of the list: ")]) == 3
    assert "Iterable equals the warehouse" not in told
    assert "Something is wrong\n   customer 1 (" in told
    assert told.count("   checked    customer 1 (") == 8
    assert re.findall(r"members of the list: (\d+) expected, 0 at Iterable; they differ", told) == ["18", "16", "16"]
    assert not [fault for fault in demo.faults if "nothing to say" in fault]


def test_requests_without_news_are_faults(sandbox: Sandbox, tmp_path: Path) -> None:
    """Where nothing changed, a request is one too many: in the second run, and in the last of each DAG."""
    demo = idle_demo(sandbox, tmp_path, IdleAirflow(url=sandbox.url))
    demo.run()
    talkative = [fault for fault in demo.faults if "had nothing to say and made" in fault]
    assert talkative == [
        "run 2 had nothing to say and made 1 requests",
        *(f"{step.dag_id} had nothing to say and made 1 requests" for step in (*STEPS, *choices.STEPS)),
    ]


@pytest.mark.parametrize("dag_id", [step.dag_id for step in (*STEPS, *choices.STEPS)])
def test_a_failed_run_ends_the_story(sandbox: Sandbox, tmp_path: Path, dag_id: str) -> None:
    """Nothing is told of what would come after a run that did not succeed."""
    with pytest.raises(RunFailed, match="ended as failed"):
        idle_demo(sandbox, tmp_path, IdleAirflow(failing=dag_id)).run()


def test_long_lines_are_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    """No line is wider than the console, and a wrapped line goes on under its beginning."""
    console = Console()
    console.item("label", "    " + "word " * 60)
    console.line("word " * 60)
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
    """Three scenes, in each a round without news, within 100 columns; nothing stays in the temporary folder."""
    done = demo(tmp_path, "--users", "300", "--project-type", project_type)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= WIDTH
    assert "\033" not in done.stdout
    assert re.findall(r"^(\d+)\. ", done.stdout, re.MULTILINE) == [str(number) for number in range(1, 12)]
    assert re.findall(r"requests +none", done.stdout) == ["requests   none"]
    assert "field lastOrderAt: date expected, string like 0000-00-00 00:00:00" in done.stdout
    told = " ".join(done.stdout.split())
    compared = re.findall(r"Iterable equals the warehouse: (\d+) users .*? values\), (.*?) members", told)
    assert compared == [
        ("298", "300 events, 40 purchases, 5 carts, 5 cart updates, 47"),
        *[("296", "296 events, 38 purchases, 5 carts, 6 cart updates, 45")] * 2,
    ]
    last, _, third = told.partition("8. An hour later")[2].partition("The third scene")
    assert (last.count("no requests"), last.count("no requests 2 erased_person")) == (2, 1)
    assert re.findall(r"warehouse: (\d+) message types joined, (\d+) left", third) == [
        ("3", "4"),
        ("3", "5"),
        ("3", "5"),
    ]
    assert third.count("2 profiles gone, with their 9 visits in those kept") == 3
    assert "no news merges" in third.partition("10. ")[2].partition("11. ")[0]
    assert re.findall(r"merge_chain, (\d) rows.*?(no requests|POST)", third) == [("2", "no requests")]
    assert "29 runs of 8 DAGs" in third
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
