"""An advice on tiny data, for the tests of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.advice import Ask, run_here
from helpers.tiny import SENTENCES, tiny_bert, write_jsonl
from nertune.comparison.search import advise as search
from nertune.comparison.search.advice import Advice


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Advice on a folder with tiny data, with few epochs and seeds."""
    data = tmp_path / "data"
    data.mkdir()
    # Of different content, as a dev file is.
    write_jsonl(data / "train.jsonl", SENTENCES)
    write_jsonl(data / "dev.jsonl", SENTENCES[:6])
    (data / "test.jsonl").write_text("not to be read", encoding="utf-8")
    monkeypatch.setattr(search, "_MOST_SEEDS", 2)
    monkeypatch.setattr(search, "run_in_subprocess", run_here)
    monkeypatch.setattr("nertune.comparison.search.candidates.ideal_epochs", lambda documents: 6)
    monkeypatch.setattr(search, "ideal_epochs", lambda documents: 6)

    def call(**options: Any) -> Advice:
        asked: dict[str, Any] = {
            "data": data,
            "minutes": 10.0,
            "encoder": str(tiny_bert()),
            "overrides": ["run.device=cpu", "run.threads=1", "train.batch_tokens=40"],
        }
        asked |= {
            key: options.pop(key) for key in (*asked, "dev", "workers", "engine") if key in options
        }
        question = search.Question(**asked | {"data": str(asked["data"])})
        return search.advise(question, **{"output": tmp_path / "out"} | options)

    return call
