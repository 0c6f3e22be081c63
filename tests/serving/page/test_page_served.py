"""The page of the service itself, with small models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from page_driver import PageDriver

    from nertune.types import Document

missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if not find_spec(name)]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {missing}")

TEXT = "🎉 王小明昨天到了北京。👩‍🔬 Tom和李华在上海,OK。\n𠮷野家在香港大学。"


@contextmanager
def served(*names: str, key: str) -> Iterator[str]:
    """The tiny models' service in a thread; its address."""
    from helpers.serving import in_thread, make_engine
    from nertune.serving.app import build_app
    from nertune.serving.gate import Keys
    from nertune.serving.limits import Limits
    from nertune.serving.server import bind
    from nertune.serving.tagging import Tagging

    gate = build_app(Tagging(make_engine(*names)), Keys(api=key))
    with bind("127.0.0.1", 0) as listener, in_thread(gate, listener, Limits()) as url:
        yield url


def is_shown(marks: list[str], document: Document) -> bool:
    """Whether the marks are the document's entities; scores are rounded to hundredths."""
    assert marks[::2] == [document.surface(entity) for entity in document.entities]
    tags = [mark.split(" · ")[0].rsplit(" ", 1) for mark in marks[1::2]]
    assert [label for label, _ in tags] == [entity.label for entity in document.entities]
    scores = [entity.score for entity in document.entities]
    return [float(score) for _, score in tags] == pytest.approx(scores, abs=0.006)


@pytest.mark.timeout(120)
def test_the_page_shows_what_the_models_find(driver: PageDriver) -> None:
    from helpers.serving import tiny_models
    from nertune.inference.predictor import Predictor

    models = tiny_models()
    law, web = (Predictor.load(models[name], device="cpu").tag(TEXT) for name in ("law", "web"))
    assert law.entities
    assert web.entities
    with served("law", "web", key="s3cret") as url:
        driver.resize(1280)
        driver.open(url)
        driver.wait(lambda: driver.one("#key").is_displayed())
        driver.one("#key").send_keys("s3cret\n")
        driver.wait(lambda: driver.one("#tag").is_enabled())
        driver.tag(TEXT)
        assert is_shown(driver.marks(), law)
        driver.choose("other", "web")
        driver.wait(lambda: driver.all("article.compare"))
        assert is_shown(driver.marks(column=0), law)
        assert is_shown(driver.marks(column=1), web)
        assert driver.errors() == []
        driver.forget()
