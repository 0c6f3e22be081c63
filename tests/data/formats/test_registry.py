"""Formats of other packages, and what is asked of all of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from helpers.toy_format import Csv
from nertune.data import formats
from nertune.data.formats import registry
from nertune.errors import ConfigError


@dataclass(frozen=True)
class Point:
    """An entry point."""

    name: str
    found: Any
    value: str = "somewhere:Format"

    def load(self) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Point]]:
    """Entry points that are there, until the test ends."""
    points: list[Point] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group else [])
    registry._load_entry_points.cache_clear()
    yield points
    formats.unregister("csv")
    registry._load_entry_points.cache_clear()


@pytest.mark.parametrize("found", [Csv, Csv()])
def test_installed_packages_offer_formats(installed: list[Point], found: Any) -> None:
    installed.append(Point("csv", found))
    assert "csv" in formats.format_names(reads=True, entities=True)
    assert formats.find_format("csv").suffixes == (".csv",)


def test_one_that_fails_is_left_out_with_a_warning(
    installed: list[Point], caplog: pytest.LogCaptureFixture
) -> None:
    installed += [Point("broken", ImportError("no such module")), Point("csv", Csv)]
    with caplog.at_level(logging.WARNING, "nertune"):
        assert "csv" in formats.format_names()
    (record,) = caplog.records
    assert "format broken (somewhere:Format) is left out: no such module" in record.getMessage()


def test_what_formats_can_do_decides_which_are_named() -> None:
    assert formats.format_names(reads=True, entities=True)[:2] == ("conll", "jsonl")
    assert "lines" not in formats.format_names(entities=True)
    assert "predictions" not in formats.format_names(reads=True)
    with pytest.raises(ConfigError, match=r"--to 'lines': expected conll, jsonl, .* or \w"):
        formats.find_format("lines", writes=True, option="--to ")


@pytest.mark.parametrize("format", formats.all_formats(), ids=lambda format: format.name)
def test_each_format_describes_itself(format: formats.Format) -> None:
    assert format.title
    assert format.reads or format.writes
    assert all(s.startswith(".") and s == s.lower() for s in format.suffixes)
    assert format.holds.text != "tokens" or format.holds.tokens == "required"
