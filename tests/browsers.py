"""A browser without a window, for tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.services import lacking


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """Give Debian's Chromium; skip, or fail where services are required, without one.

    :param profile: a folder of its own
    """
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        lacking("no chromium and chromedriver: Debian has both as packages")
    options = webdriver.ChromeOptions()
    options.binary_location = str(program)
    # In a small window Airflow's own page leaves no height to what it embeds, and what is not shown has no text.
    shown = ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000")
    for argument in (*shown, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(str(driver), env=dict(os.environ)))
    try:
        yield made
    finally:
        made.quit()
