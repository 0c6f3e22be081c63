"""The page's file, without a browser."""

from __future__ import annotations

import re

from stub_server import PAGE


def test_the_file_asks_for_nothing_from_outside() -> None:
    """One script and one style, both inside; no address but those of the server's own API."""
    html = PAGE.read_text(encoding="utf-8")
    assert len(re.findall(r"<script\b", html)) == len(re.findall(r"<style\b", html)) == 1
    assert not re.search(r"<script[^>]*\bsrc|<link[^>]*stylesheet|@import|\burl\(", html)
    assert set(re.findall(r"https?://[^'\"\s]*", html)) == {"http://www.w3.org/2000/svg"}
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    assert not re.search(forbidden, html)
    assert set(re.findall(r'"(v1/\w+)"', html)) == {"v1/models", "v1/tag"}
