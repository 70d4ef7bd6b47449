"""A real browser without a window: pages that people look at are looked at.

A test module takes the fixture by `pytest_plugins = ["tests.browser"]`, which comes too late for pytest to rewrite the
asserts here, hence PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
)


class Browser:
    """A page as a test sees it.

    Attributes:
        driver: selenium's.
    """

    def __init__(self, driver: webdriver.Chrome):
        self.driver = driver
        self._requested: list[str] = []
        self._said: list[str] = []

    def open(self, page: Path | str) -> None:
        """Show a file or an address; what was noted of pages before is forgotten."""
        self.look()
        self.driver.get("about:blank")
        for kind in ("performance", "browser"):
            self.driver.get_log(kind)
        self._requested, self._said = [], []
        self.driver.get(page.resolve().as_uri() if isinstance(page, Path) else page)

    def look(self, width: int = 1200, scheme: str = "light", *, scripts: bool = True) -> None:
        """Set the width of the window, light or dark, and whether JavaScript runs in pages opened from now on."""
        command = self.driver.execute_cdp_cmd
        command("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        command("Emulation.setDeviceMetricsOverride", size)
        command("Emulation.setScriptExecutionDisabled", {"value": not scripts})

    def all(self, selector: str) -> list[WebElement]:
        """The elements that match a CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The only element that matches."""
        found = self.all(selector)
        assert len(found) == 1, f"{len(found)} elements match {selector!r}"
        return found[0]

    def text(self, selector: str) -> str:
        """What stands in the first element that matches, at this moment; empty while there is none."""
        return self.run("return document.querySelector(arguments[0])?.innerText.trim() ?? ''", selector)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def requested(self) -> list[str]:
        """The addresses that the page has asked for."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._requested.append(message["params"]["request"]["url"])
        return list(self._requested)

    def said(self) -> list[str]:
        """What stands in the browser's console."""
        self._said += [entry["message"] for entry in self.driver.get_log("browser")]
        return list(self._said)

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
        """The condition's value as soon as it is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.05)
        pytest.fail(f"waited {seconds} s for {what}; the page shows:\n{self.one('body').text[:2000]}")

    def screenshot(self, path: Path, *, height: int | None = None) -> Path:
        """The page from its top, whole or `height` pixels of it, as PNG."""
        size = self.run("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": min(height or size[1], 8000), "scale": 1}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        path.write_bytes(base64.b64decode(shot["data"]))
        return path


def start_browser() -> Browser:
    """Start one; the caller ends it by `driver.quit()`.

    Raises:
        FileNotFoundError: there is none on this machine. Nothing is fetched.
    """
    program = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        missing = "chromedriver" if program else f"browser ({', '.join(_BROWSERS)})"
        raise FileNotFoundError(f"there is no {missing} on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return Browser(webdriver.Chrome(options=options, service=Service(driver)))


@pytest.fixture(scope="session")
def _browser() -> Iterator[Browser]:
    try:
        browser = start_browser()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(_browser: Browser) -> Browser:
    """A headless Chromium, wide and light; skips where there is none."""
    _browser.look()
    return _browser
