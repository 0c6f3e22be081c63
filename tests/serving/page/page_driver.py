"""A browser with the page in it, and what a user does there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

__all__ = ["BINARIES", "PageDriver", "start_browser"]

BINARIES = ("/usr/bin/chromium", "/usr/bin/chromedriver")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--lang=en",
)  # fmt: skip
_PATIENCE = 30.0  # seconds; a loaded machine is no fault of the page

# In order of the text: what the marks cover, and what their tags say.
_MARKS = """
return [...arguments[0].querySelectorAll(".seg, .tag")].map((element) => element.matches(".tag")
  ? element.dataset.tag : element.textContent);
"""
_PLACE = """
const scroll = arguments[0].querySelector(".scroll");
const walker = document.createTreeWalker(scroll.querySelector(".flow"), NodeFilter.SHOW_TEXT);
let left = arguments[1];
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  if (left < node.length || (arguments[2] && left === node.length)) {
    const range = document.createRange();
    range.setStart(node, arguments[2] ? left - 1 : left);
    range.setEnd(node, arguments[2] ? left : left + 1);
    if (!arguments[2]) node.parentElement.scrollIntoView({block: "center"});
    const rects = range.getClientRects();
    const rect = rects[arguments[2] ? rects.length - 1 : 0];
    return [rect.left, rect.right, rect.top + rect.height / 2];
  }
  left -= node.length;
}
"""


def start_browser(folder: Path) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = BINARIES[0]
    for flag in (*_FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(BINARIES[1]))
    behaviour = {"behavior": "allow", "downloadPath": str(folder / "downloads")}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    return browser


class PageDriver:
    """The page of a server.

    Args:
        browser: where it is shown.
        downloads: where its downloads come.
    """

    def __init__(self, browser: webdriver.Chrome, downloads: Path) -> None:
        self.browser = browser
        self.downloads = downloads

    # What is there

    def open(self, url: str) -> None:
        """Load the page, and wait until it knows the models."""
        self.browser.get(url)
        self.wait(lambda: not self.all("#cancel:not([hidden])"))

    def forget(self) -> None:
        """Delete what the page stored."""
        self.run("localStorage.clear(); sessionStorage.clear()")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def wait(self, is_done: Callable[[], Any], what: str = "") -> Any:
        until = time.monotonic() + _PATIENCE
        while not (found := is_done()):
            assert time.monotonic() < until, what or f"not within {_PATIENCE} s; {self.state()}"
            time.sleep(0.02)
        return found

    def wait_text(self, selector: str, part: str) -> None:
        self.wait(lambda: part in self.text(selector), f"no {part!r} in {selector}: {self.state()}")

    def state(self) -> str:
        return f"status {self.text('#status')!r}, alert {self.text('#alert')!r}"

    def marks(self, number: int = 0, column: int = 0) -> list[str]:
        """Covered text and tags of a result, in the order of the text."""
        flow = self.all("article")[number].find_elements(By.CSS_SELECTOR, ".flow")[column]
        return list(self.run(_MARKS, flow))

    @property
    def focused(self) -> WebElement:
        return self.browser.switch_to.active_element

    def is_scrolled_sideways(self) -> bool:
        return bool(self.run("return document.documentElement.scrollWidth > innerWidth"))

    def errors(self) -> list[str]:
        """What the page logged since the last call, without answers other than 200."""
        logged = [entry["message"] for entry in self.browser.get_log("browser")]
        return [message for message in logged if "Failed to load resource" not in message]

    # What the user does

    def type_text(self, text: str) -> None:
        """Put a text in, as pasting it does; keys cannot type emojis through the driver."""
        self.run(
            "const box = document.getElementById('text'); box.value = arguments[0];"
            "box.dispatchEvent(new Event('input', {bubbles: true}))",
            text,
        )

    def tag(self, text: str) -> None:
        """Put a text in, press Tag, and wait for the result."""
        self.type_text(text)
        self.run("document.querySelectorAll('article').forEach((old) => { old.dataset.old = '' })")
        self.one("#tag").click()
        self.wait(lambda: self.all("article:not([data-old])"))

    def choose(self, name: str, value: str) -> None:
        Select(self.one(f"#{name}")).select_by_visible_text(value)

    def compare(self, text: str, one: str, other: str) -> None:
        self.choose("model", one)
        self.choose("other", other)
        self.tag(text)

    def press(self, *keys: str, holding: str = "") -> None:
        chain = ActionChains(self.browser, duration=0)
        if holding:
            chain.key_down(holding)
        for key in keys:
            chain.send_keys(key)
        if holding:
            chain.key_up(holding)
        chain.perform()

    def place_of(self, offset: int, *, behind: bool = False) -> tuple[float, float, float]:
        """Left, right and middle of a character of the first result; `behind`: the one before."""
        left, right, middle = self.run(_PLACE, self.one("article"), offset, behind)
        return left, right, middle

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        chain = ActionChains(self.browser, duration=0)
        chain.w3c_actions.pointer_action.move_to_location(*map(round, start))
        chain.w3c_actions.pointer_action.pointer_down()
        chain.w3c_actions.pointer_action.move_to_location(*map(round, end))
        chain.w3c_actions.pointer_action.pointer_up()
        chain.perform()

    def select(self, start: int, end: int) -> None:
        """Select characters of the first result with the mouse."""
        left, _, top = self.place_of(start)
        _, right, bottom = self.place_of(end, behind=True)
        self.drag((left + 1, top), (right - 1, bottom))
        self.wait(lambda: self.all(".bar.used"))

    def click_mark(self, text: str) -> None:
        mark = next(m for m in self.all(".seg") if m.text == text)
        mark.click()

    def click_label(self, label: str) -> None:
        next(b for b in self.all(".bar .chip") if b.get_attribute("data-label") == label).click()

    def click(self, text: str) -> None:
        """Press the button that is called so."""
        xpath = f"//button[normalize-space()='{text}' and not(@disabled)]"
        self.browser.find_element(By.XPATH, xpath).click()

    def keep(self) -> None:
        next(b for b in self.all("article button") if b.text.startswith("Keep")).click()

    def download(self, kind: str, name: str) -> Path:
        path = self.downloads / name
        path.unlink(missing_ok=True)
        self.one(f".download[data-format='{kind}']").click()
        self.wait(path.exists, f"{name} did not come")
        return path

    def resize(self, width: int, height: int = 900) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, **features: str) -> None:
        """What the system asks for: `prefers_color_scheme="dark"`."""
        told = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": told})
