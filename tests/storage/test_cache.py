"""What is prepared once is kept as long as somebody asks for it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from nertune.storage.cache import make_once

DAY = 24 * 60 * 60


def put(folder: Path, days_ago: float = 0) -> Path:
    make_once(folder, lambda draft: (draft / "data").write_text("1", encoding="utf-8"))
    then = time.time() - days_ago * DAY
    os.utime(folder, (then, then))
    return folder


def test_what_nobody_asked_for_in_a_month_is_removed(tmp_path: Path) -> None:
    recent, asked_for, unused = (put(tmp_path / name) for name in ("recent", "asked-for", "unused"))
    put(recent, days_ago=29)
    for folder in (asked_for, unused):
        put(folder, days_ago=31)
    assert make_once(asked_for, lambda _: None) == asked_for
    assert unused.is_dir()  # until something else is made
    new = put(tmp_path / "new")
    assert not unused.exists()
    assert all((folder / "data").is_file() for folder in (recent, asked_for, new))
    put(unused)
    assert (unused / "data").is_file()
