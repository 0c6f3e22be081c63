"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nertune.storage.paths import user_path


def test_a_home_folder_that_exists_and_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("USERPROFILE", "/somewhere")
    assert user_path("~/a.conll") == Path("/somewhere/a.conll")
    for name in ("~no-such-user-here.conll", "~$a.jsonl", "a.conll"):
        assert user_path(name) == Path(name)
