"""Fixtures that several packages' tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# A loaded machine is no fault of the code: time is measured in benchmarks, not here.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may take longest begins first, so that no worker waits for it in the end."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of public data sets, which are read in place and never copied.

    `$NERTUNE_DATA`, or `../shared/data` beside the project.
    """
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NERTUNE_DATA") or default)
    if not (folder / "peoples" / "test").is_file():
        pytest.skip(f"the public data sets are not in {folder} (set NERTUNE_DATA)")
    return folder


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts: it is ignored where tests run in the background, in children too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
