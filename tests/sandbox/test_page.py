"""The page in a browser: clicked through as somebody would, and left alone while it refreshes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.request import Request, urlopen

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from airflow_provider_iterable.sandbox import Sandbox
from tests.browsers import chromium

PATIENCE = 60
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser without a window."""
    with chromium(tmp_path_factory.mktemp("browser")) as made:
        yield made


class Page:
    """The page of a sandbox, as somebody sees it."""

    def __init__(self, browser: webdriver.Chrome, sandbox: Sandbox) -> None:
        """Open it."""
        self.browser, self.sandbox = browser, sandbox
        browser.get("about:blank")
        browser.get(f"{sandbox.url}/")

    def until(self, is_so: Callable[[], Any]) -> Any:
        """Wait for something, while the page changes."""
        ignored = [StaleElementReferenceException]
        return WebDriverWait(self.browser, PATIENCE, 0.1, ignored).until(lambda _: is_so())

    def shows(self, *texts: str) -> None:
        """Wait until all texts are seen."""
        self.until(lambda: all(text in self.text for text in texts))

    @property
    def text(self) -> str:
        """What is seen."""
        return self.browser.find_element(By.TAG_NAME, "body").text

    def click(self, text: str, kind: str = "*[self::a or self::button or self::summary]") -> None:
        """Click what has exactly this text, or begins with it and has a number behind."""
        self.until(
            lambda: self._clicked(f"//{kind}[normalize-space()='{text}' or (self::a and starts-with(., '{text} '))]")
        )

    def _clicked(self, path: str) -> bool:
        found = self.browser.find_elements(By.XPATH, path)
        for element in found[:1]:
            element.click()
        return bool(found)

    def type(self, name: str, text: str) -> WebElement:
        """Write into a field."""
        field = self.until(lambda: self.browser.find_element(By.NAME, name))
        field.clear()
        field.send_keys(text)
        return field  # type: ignore[no-any-return]

    def call(self, path: str, body: Any) -> None:
        """Make a call of the API."""
        request = Request(f"{self.sandbox.url}/api/{path}", json.dumps(body).encode(), {"Api-Key": "k"})
        urlopen(request, timeout=10).close()

    def refreshed(self) -> None:
        """Wait until the page has asked for news and shown them, twice."""
        for _ in range(2):
            self.call("users/update", {"email": "other@example.com"})
            turn = self.browser.execute_script("return turn")
            self.until(partial(self._is_at, turn + 2))

    def _is_at(self, turn: int) -> bool:
        return bool(self.browser.execute_script("return turn") >= turn)


@pytest.fixture
def page(driver: webdriver.Chrome) -> Iterator[Page]:
    """The page of an empty sandbox; its script makes no error."""
    with Sandbox("email", rates=False, record_identifiers=True) as sandbox:
        made = Page(driver, sandbox)
        yield made
        assert [line for line in driver.get_log("browser") if line["level"] == "SEVERE"] == []
        driver.get("about:blank")


def test_from_nothing_to_a_users_story(page: Page) -> None:
    """The empty state says how to begin; a seed, a call and a forgotten user are seen, with bodies once asked for."""
    page.shows("Nothing has called yet", "AIRFLOW_CONN_ITERABLE_DEFAULT=", "curl -X POST", page.sandbox.url)
    page.click("Add sample content")
    page.shows("ada@example.com", "grace@example.com", "2 users")
    page.type("q", "ADA").submit()
    page.until(lambda: "grace@example.com" not in page.text)
    page.click("ada@example.com")
    page.shows("Profile fields", "birthDate", "1815-12-10", "Newsletter", "signed_up", "Teapot", "none known")
    page.shows("Subscriptions", "SMS Marketing", "double opt-in", "not subscribed")

    page.call(
        "users/bulkUpdate", {"users": [{"email": "ada@example.com", "dataFields": {"firstName": "A"}}, {"email": "x"}]}
    )
    page.click("Calls")
    page.shows("POST /api/users/bulkUpdate", "200")
    cells = page.until(lambda: page.browser.find_elements(By.CSS_SELECTOR, "tbody tr")[0].text.split())
    assert cells[2:] == ["POST", "/api/users/bulkUpdate", "200", "2", "1", "1", cells[-1]]
    page.click("1", "td/a")
    page.shows("2: 1 accepted, 1 failed", "on request only")
    page.click("Record bodies from now on, of the newest 100 calls")
    page.shows("not recorded, or are no longer")
    page.call("users/forget", {"email": "ada@example.com"})
    page.click("Calls")
    page.click("2", "td/a")
    page.until(lambda: '"email": "ada@example.com"' in page.browser.find_element(By.ID, "request").text)
    assert '"Success"' in page.browser.find_element(By.ID, "answer").text
    page.click("Users")
    page.type("q", "ada@example.com").submit()
    page.click("the email")
    page.shows("forgotten", "not here", "POST /api/users/forget", "POST /api/users/bulkUpdate")


def test_a_refresh_disturbs_nobody(page: Page) -> None:
    """Text stays selected while rows come in above it and when the sandbox ends; so does what is open or typed."""
    for number in range(60):
        page.call("users/update", {"email": f"p{number}@example.com"})
    page.shows("60, newest first")
    page.click("By endpoint")
    page.type("q", "half a wo")
    row = page.browser.find_element(By.CSS_SELECTOR, 'tr[data-key="31"] code')
    page.browser.execute_script("getSelection().selectAllChildren(arguments[0]); scrollTo(0, 400)", row)
    selected = page.browser.execute_script("return String(getSelection())")
    assert selected == "POST /api/users/update"
    page.refreshed()
    page.shows("62, newest first")
    assert page.browser.execute_script("return String(getSelection())") == selected
    assert page.browser.execute_script("return getSelection().anchorNode === arguments[0]", row)
    assert row.is_displayed()
    assert page.browser.find_element(By.CSS_SELECTOR, "details").get_attribute("open") is not None
    assert page.browser.find_element(By.NAME, "q").get_attribute("value") == "half a wo"
    assert page.browser.execute_script("return scrollY") >= 400
    page.sandbox.stop()
    page.shows("No answer from the sandbox")
    assert page.browser.execute_script("return String(getSelection())") == selected
    page.browser.get_log("browser")  # the requests without an answer are in it


def test_controls(page: Page) -> None:
    """Faults come and go, options change, a seed is added or refused, and a reset empties the sandbox."""
    page.click("Controls")
    page.type("path", "/api/users")
    page.type("times", "2")
    page.click("Add", "button")
    page.shows("0 of 0")
    assert [(fault["kind"], fault["times"]) for fault in page.sandbox.service.faults.listed()] == [("429", 2)]
    page.click("Remove", "button")
    page.until(lambda: page.sandbox.service.faults.listed() == [])
    page.type("value", "true")
    page.click("Change", "button")
    page.until(lambda: page.sandbox.project.options.rates)
    page.type("value", '"many"')
    page.click("Change", "button")
    page.shows("Expected `bool`")
    page.type("seed", '{"users": [{"email": "foo@"}]}')
    page.click("Add to what is there")
    page.shows("foo@")
    page.type("seed", '{"users": [{"email": "foo@example.com"}]}')
    page.click("Add to what is there")
    page.shows("Added: users 1")
    page.click("Reset", "button")
    page.until(lambda: page.browser.switch_to.alert).accept()
    page.shows("as at its start")
    assert page.sandbox.users == []
    page.browser.get_log("browser")  # the two refusals are in it


@pytest.mark.parametrize("width", [390, 1280])
def test_no_view_is_wider_than_the_screen(page: Page, width: int) -> None:
    """Of a phone, or of a desk; whatever the values are, and values are text."""
    evil = "<img src=x onerror=document.title='broken'>" + "w" * 300
    page.sandbox.seed(
        users=[
            {"email": f"{'l' * 60}@example.com", "userId": "1", "dataFields": {"note": evil, "o": {"k" * 60: evil}}}
        ],
        lists=[{"name": evil, "members": [{"userId": "1"}]}],
        catalogs=[{"name": "C" * 200, "items": {"i" * 200: {"v": evil}}}],
        events=[{"userId": "1", "eventName": evil, "dataFields": {"v": evil}}],
    )
    page.sandbox.faults({"kind": "slow", "text": evil, "seconds": 0})
    page.call("users/update", {"email": "b@example.com", "dataFields": {"note": evil}})
    device = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    person = f"user?email={'l' * 60}@example.com"
    views = ["calls", "call?seq=1", "users", person, "events", "lists", "list?id=3001", "catalogs", "controls"]
    try:
        for view in [*views, f"catalog?name={'C' * 200}"]:
            page.browser.execute_script("location.hash = arguments[0]", view)
            key = f'#main > [data-key="#{view}"]'
            page.until(partial(page.browser.find_elements, By.CSS_SELECTOR, key))
            assert page.browser.execute_script("return document.documentElement.scrollWidth") <= width, view
            assert page.browser.title == "Iterable sandbox"
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
