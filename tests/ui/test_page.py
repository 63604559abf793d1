"""The sync-runs page on a real API server: asked by HTTP, and clicked through in a browser as somebody would."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.browsers import chromium
from tests.ui.access import HIDDEN
from tests.ui.stage import HOLDER, PASSWORD, RUNNING

PATIENCE = 120.0
USERS, TASK = "example_iterable_users", "sync_users"


@dataclass
class Airflow:
    """A running API server, as one of its users."""

    url: str
    tokens: dict[str, str] = field(default_factory=dict)

    def token(self, user: str) -> str:
        """Log in."""
        if user not in self.tokens:
            answer = requests.post(
                f"{self.url}/auth/token", json={"username": user, "password": PASSWORD}, timeout=PATIENCE
            )
            answer.raise_for_status()
            self.tokens[user] = answer.json()["access_token"]
        return self.tokens[user]

    def get(self, path: str, user: str | None, **query: Any) -> requests.Response:
        """Ask for something below the page."""
        headers = {} if user is None else {"Authorization": f"Bearer {self.token(user)}"}
        return requests.get(f"{self.url}/iterable/{path}", params=query, headers=headers, timeout=PATIENCE)

    def lines(self, user: str, **query: Any) -> dict[tuple[str, str], Any]:
        """Return the lines of the list."""
        found = self.get("api/syncs", user, **query).json()["lines"]
        return {(line["dag_id"], line["task_id"]): line for line in found}


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """Give an API server with the runs of a demo, of which the last one failed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("airflow")
    log = home / "server.log"
    command = [sys.executable, "-m", "tests.ui.stage", str(home), str(port)]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        served, until = Airflow(f"http://127.0.0.1:{port}"), time.monotonic() + PATIENCE
        try:
            while True:
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < until, log.read_text()[-3000:]
                try:
                    if requests.get(f"{served.url}/api/v2/monitor/health", timeout=5).ok:
                        break
                except requests.ConnectionError:
                    time.sleep(0.5)
            yield served
        finally:
            process.terminate()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """Give a browser without a window."""
    with chromium(tmp_path / "profile") as made:
        yield made


def run_of(airflow: Airflow, number: int) -> dict[str, Any]:
    """Return what names a run of the users' sync, by how many were before it."""
    bar = airflow.lines("viewer")[USERS, TASK]["bars"][number]
    return {"run_id": bar["run_id"], "task_id": TASK}


def test_nobody_gets_anything_without_logging_in(airflow: Airflow) -> None:
    """Neither the page nor what it asks for."""
    which = run_of(airflow, 0)
    for path in ("", "run", "api/syncs", *(f"api/dags/{USERS}/{name}" for name in ("run", "rows", "requests", "row"))):
        assert airflow.get(path, None, **which, key="1").status_code == 401, path
        assert airflow.get(path, "viewer", **which, key="1").status_code == 200, path


def test_a_run_is_seen_by_who_may_see_its_dag(airflow: Airflow) -> None:
    """Others do not learn that it is there."""
    (task,) = (task for task in airflow.lines("viewer") if task[0] == HIDDEN)
    bar = airflow.lines("viewer")[task]["bars"][0]
    which = {"run_id": bar["run_id"], "task_id": task[1], "key": "1"}
    assert airflow.lines("viewer").keys() - airflow.lines("stranger").keys() == {task}
    assert airflow.lines("stranger", dag_id=HIDDEN) == {}
    for name in ("run", "rows", "requests", "row"):
        assert airflow.get(f"api/dags/{HIDDEN}/{name}", "viewer", **which).status_code == 200
        assert airflow.get(f"api/dags/{HIDDEN}/{name}", "stranger", **which).status_code == 403
        assert airflow.get(f"api/dags/{USERS}/{name}", "stranger", **which).status_code == 404, "another Dag's run"
        assert airflow.get(f"api/dags/~/{name}", "stranger", **which).status_code in (403, 404)


def test_the_list_names_what_needs_somebody_first(airflow: Airflow) -> None:
    """With the age of the last success, and since when it fails."""
    listing = airflow.get("api/syncs", "viewer").json()
    first = listing["lines"][0]
    assert (first["dag_id"], first["state"]) == (USERS, "failed")
    assert first["succeeded_at"] < first["failing_since"] <= listing["now"]
    assert [bar["state"] for bar in first["bars"]] == ["success", "success", "success", "failed"]
    assert [bar["rejected"] for bar in first["bars"]] == [0, 4, 4, 0]
    others = {line["dag_id"]: line["state"] for line in listing["lines"][1:]}
    assert {dag for dag, state in others.items() if state != "success"} == {RUNNING}
    assert set(airflow.lines("viewer", type="events")) == {
        ("example_iterable_events", f"{name}") for name in ("track_visits", "track_purchases", "update_carts")
    }
    assert list(airflow.lines("viewer", state="failed")) == [(USERS, TASK)]
    assert list(airflow.lines("viewer", words="VISITS events")) == [("example_iterable_events", "track_visits")]


def test_a_run_has_its_report_and_that_of_the_run_before(airflow: Airflow) -> None:
    """And what the audit has of it."""
    account = airflow.get(f"api/dags/{USERS}/run", "viewer", **run_of(airflow, 1)).json()
    assert account["instance"]["report"]["rejected"] == 4
    assert account["before"]["report"]["added"] == 400
    assert (account["audit"]["status"], account["audit"]["primary_key"]) == ("succeeded", "id")
    failed = airflow.get(f"api/dags/{USERS}/run", "viewer", **run_of(airflow, 3)).json()
    assert failed["instance"]["state"] == "failed"
    assert "no rows" in failed["audit"]["error"]
    assert airflow.get(f"api/dags/{USERS}/run", "viewer", run_id="none", task_id=TASK).status_code == 404


def test_rows_that_were_rejected_are_told_apart_from_new_ones(airflow: Airflow) -> None:
    """By reason, under their keys, with what to do about them."""
    rows = airflow.get(f"api/dags/{USERS}/rows", "viewer", **run_of(airflow, 1)).json()["found"]
    found = {group["reason"]: (group["count"], group["new"]) for group in rows}
    assert found == {"duplicate_key": (2, 2), "invalid_email": (1, 1), "type_mismatch": (1, 1)}
    again = airflow.get(f"api/dags/{USERS}/rows", "viewer", **run_of(airflow, 2)).json()["found"]
    assert {group["reason"]: group["new"] for group in again} == dict.fromkeys(found, 0)
    by_reason = {group["reason"]: group for group in again}
    (row,) = by_reason["invalid_email"]["rows"]
    assert (row["key"], row["new"]) == ("[403]", False)
    assert by_reason["invalid_email"]["remedy"].startswith("mend the address")
    assert len(by_reason["duplicate_key"]["rows"]) == 1, "rows of one key share a line"
    first = airflow.get(f"api/dags/{USERS}/run", "viewer", **run_of(airflow, 1)).json()["audit"]
    assert first["started_at"] <= row["first_seen"] <= first["finished_at"]


def test_the_history_of_a_row_is_found_by_its_key(airflow: Airflow) -> None:
    """Written as the tables have it, or as somebody types it."""
    stories = [
        airflow.get(f"api/dags/{USERS}/row", "viewer", **run_of(airflow, 3), key=key).json()["found"]
        for key in ("403", "[403]", " 403 ")
    ]
    assert [[event["status"] for event in story["events"]] for story in stories] == [["failed", "failed"]] * 3
    nothing = airflow.get(f"api/dags/{USERS}/row", "viewer", **run_of(airflow, 3), key="999").json()["found"]
    assert (nothing["key"], nothing["events"], nothing["last"]) == ("[999]", [], None)


def test_a_row_is_explained_without_its_dag(airflow: Airflow) -> None:
    """By what is remembered and what became of it; whichever run somebody looks at, it is about the next one."""
    for number in (0, 3):
        which = run_of(airflow, number)
        found = airflow.get(f"api/dags/{USERS}/row", "viewer", **which, key="7").json()["found"]["explained"]
        assert (found["memory"], found["identity"][:8]) == ("accepted", "email to")
        assert [case["action"] for case in found["cases"]] == ["nothing", "send", "remove"]
        assert [case["endpoints"] for case in found["cases"]] == [
            [], ["POST /api/users/bulkUpdate"], ["DELETE /api/users/{email}"],
        ]  # fmt: skip
    bad = airflow.get(f"api/dags/{USERS}/row", "viewer", **run_of(airflow, 3), key="403").json()["found"]
    assert (bad["explained"]["memory"], bad["last"]["reason"]) == ("nothing", "invalid_email")
    assert bad["last"]["remedy"].startswith("mend the address")
    assert [case["action"] for case in bad["explained"]["cases"]] == ["refuse", "send", "nothing"]


def test_a_run_under_way_tells_how_far_it_is(airflow: Airflow) -> None:
    """As the task itself wrote it down; nobody else is asked."""
    ((task, line),) = airflow.lines("viewer", dag_id=RUNNING).items()
    run = {"run_id": line["bars"][0]["run_id"], "task_id": task[1]}
    account = airflow.get(f"api/dags/{RUNNING}/run", "viewer", **run).json()
    assert (account["instance"]["state"], account["instance"]["host"]) == ("running", "worker-7")
    assert (account["progress"]["accepted"], account["progress"]["to_send"]) == (9, 40)
    assert account["holder"] == HOLDER
    assert airflow.get(f"api/dags/{USERS}/run", "viewer", **run_of(airflow, 0)).json()["progress"] is None


def test_keys_that_name_people_are_masked(airflow: Airflow) -> None:
    """Members of a list are known by their addresses."""
    bar = airflow.lines("viewer")["example_iterable_lists", "sync_loyal_customers"]["bars"][0]
    which = {"run_id": bar["run_id"], "task_id": "sync_loyal_customers"}
    said = airflow.get(f"api/dags/{HIDDEN}/row", "viewer", **which, key="ada.lovelace@example.com")
    assert said.json()["found"]["key"] == '["ad***@ex***"]'
    assert "lovelace" not in said.text


def test_requests_are_counted_and_the_slowest_named(airflow: Airflow) -> None:
    """By endpoint and status."""
    groups, slowest = airflow.get(f"api/dags/{USERS}/requests", "viewer", **run_of(airflow, 0)).json()["found"]
    assert {(group["endpoint"], group["status"]) for group in groups} >= {("POST /api/users/bulkUpdate", 200)}
    taken = [call["milliseconds"] for call in slowest]
    assert taken == sorted(taken, reverse=True)
    assert all(call["request_id"] for call in slowest)


def test_answers_are_kept_nowhere_and_shown_on_no_other_site(airflow: Airflow) -> None:
    """They hold keys, if masked ones."""
    for path in ("", "api/syncs"):
        headers = airflow.get(path, "viewer").headers
        assert headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]


def waited(browser: webdriver.Chrome, selector: str, text: str = "") -> WebElement:
    """Return the first element that has a text, once there is one."""

    def found(browser: webdriver.Chrome) -> WebElement | None:
        return next((each for each in browser.find_elements(By.CSS_SELECTOR, selector) if text in each.text), None)

    element = WebDriverWait(browser, PATIENCE, ignored_exceptions=[Exception]).until(found)
    assert element is not None
    return element


def log_in(browser: webdriver.Chrome, airflow: Airflow, user: str) -> None:
    """Let the browser be a user."""
    browser.get(f"{airflow.url}/iterable/")
    browser.add_cookie({"name": "_token", "value": airflow.token(user), "path": "/"})


def test_a_viewer_clicks_from_the_list_to_the_row(airflow: Airflow, browser: webdriver.Chrome) -> None:
    """Who was paged finds the row and its reason, and nothing goes wrong in the browser on the way."""
    log_in(browser, airflow, "viewer")
    browser.get(f"{airflow.url}/iterable/")
    waited(browser, "td", "failing since")
    waited(browser, ".strip a.partly").click()
    waited(browser, ".funnel", "accepted")
    assert "[object" not in browser.find_element(By.TAG_NAME, "body").text
    waited(browser, ".tabs a", "Rejected rows").click()
    waited(browser, "summary", "invalid_email")
    waited(browser, "td", "[403]")
    waited(browser, ".tabs a", "Requests").click()
    waited(browser, "td", "/api/")
    waited(browser, ".tabs a", "Find a row").click()
    waited(browser, "input[name=key]").send_keys("403\n")
    waited(browser, "td", "invalid_email")
    waited(browser, "h2", "Explain")
    waited(browser, "dd", "nothing: it was never accepted")
    waited(browser, "td", "it is rejected again unless")
    waited(browser, "pre", f"airflow_provider_iterable.explain --dag {USERS} --task {TASK} --key '403'")
    waited(browser, "a", "Run before").click()
    waited(browser, "h1", f"{USERS}.{TASK}")
    waited(browser, "p a", "Iterable syncs").click()
    waited(browser, "span", "8 syncs")
    waited(browser, "td a", "forget_people").click()
    waited(browser, ".box", "10 of 40 rows are settled")
    waited(browser, "p", f"held by {HOLDER}")
    wrong = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert [entry for entry in wrong if "favicon" not in entry["message"] and "401" not in entry["message"]] == []


def test_the_tab_of_a_dag_shows_its_syncs(airflow: Airflow, browser: webdriver.Chrome) -> None:
    """Within Airflow's own page, in its colours; the tab of a run with one sync shows the run."""
    log_in(browser, airflow, "viewer")
    run = run_of(airflow, 1)["run_id"]
    for path, expected in (("", f"Iterable syncs of {USERS}"), (f"/runs/{run}", f"{USERS}.{TASK}")):
        tab = "iterable_syncs_of_run" if path else "iterable_syncs_of_dag"
        browser.get(f"{airflow.url}/dags/{USERS}{path}/plugin/{tab}")
        browser.switch_to.frame(waited(browser, "iframe"))
        waited(browser, "h1", expected)
        browser.switch_to.default_content()


LINKS = {
    "Log": (f"/tasks/{TASK}", "Log message source details"),
    "SQL as rendered": (f"/tasks/{TASK}/rendered_templates", "customers.first_name"),
    "Asset of the sync": ("/assets/", f"iterable://users/{USERS}.{TASK}"),
    "Asset written": ("/assets/", "iterable://127.0.0.1"),
}
"""By what a link says: how Airflow's address goes on, and what is to be seen there."""


def test_links_lead_where_they_say(airflow: Airflow, browser: webdriver.Chrome) -> None:
    """Into Airflow's own pages about the run, and about its Dag."""
    log_in(browser, airflow, "viewer")
    for text, (address, shown) in LINKS.items():
        browser.get(f"{airflow.url}/iterable/run?{urlencode({'dag_id': USERS, **run_of(airflow, 1)})}")
        waited(browser, ".links a", text).click()
        waited(browser, "body", shown)
        assert browser.current_url.endswith(address) or (address == "/assets/" and address in browser.current_url)
    browser.get(f"{airflow.url}/iterable/")
    waited(browser, "td small a", USERS).click()
    waited(browser, "body", "Latest Run")
    assert browser.current_url.split("?")[0] == f"{airflow.url}/dags/{USERS}"


def test_a_stranger_is_refused_in_words(airflow: Airflow, browser: webdriver.Chrome) -> None:
    """The page says why it shows nothing."""
    log_in(browser, airflow, "stranger")
    browser.get(f"{airflow.url}/iterable/")
    waited(browser, "span", "7 syncs")
    browser.get(f"{airflow.url}/iterable/run?dag_id={HIDDEN}&run_id=x&task_id=y")
    waited(browser, ".box", "You may not see this Dag")
