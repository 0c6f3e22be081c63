"""One browser and one stub server for all tests of the page."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from stub_server import StubServer

if TYPE_CHECKING:
    from page_driver import PageDriver


@pytest.fixture(scope="session")
def stub() -> Iterator[StubServer]:
    server = StubServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageDriver]:
    if importlib.util.find_spec("selenium") is None:
        pytest.skip("selenium is not installed (pip install nertune[test])")
    from page_driver import BINARIES, PageDriver, start_browser

    if missing := [path for path in BINARIES if not Path(path).is_file()]:
        pytest.skip(f"there is no browser: {', '.join(missing)} is missing")
    folder = tmp_path_factory.mktemp("browser")
    browser = start_browser(folder)
    yield PageDriver(browser, folder / "downloads")
    browser.quit()


@pytest.fixture
def page(driver: PageDriver, stub: StubServer) -> Iterator[PageDriver]:
    """The page, just loaded, 1280 pixels wide, light, with nothing stored.

    When the test ends, it has logged no error.
    """
    stub.reset()
    driver.resize(1280)
    driver.prefer(prefers_color_scheme="light")
    driver.open(stub.url)
    driver.errors()
    yield driver
    if stub.hold is not None:
        stub.hold.set()
    logged = driver.errors()
    driver.forget()
    assert logged == []
