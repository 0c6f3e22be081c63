"""doccano's auto labelling, with requests as it sends them and its mapping of the answer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Template
from starlette.testclient import TestClient

from helpers.annotation_service import FAILS

PAGE = (Path(__file__).parents[3] / "docs" / "annotation-tools.md").read_text(encoding="utf-8")
(MAPPING,) = re.findall(r"```jinja\n(.*?)```", PAGE, re.DOTALL)


def ask(client: TestClient, text: str, body: dict[str, Any] | None = None) -> Any:
    """As `CustomRESTRequestModel.send`: the text in its place, no look at the status."""
    asked = {"text": "{{ text }}"} if body is None else body
    filled = {k: text if v == "{{ text }}" else v for k, v in asked.items()}
    return client.post("/doccano/news", json=filled).json()


def labels_of(answer: Any) -> list[dict[str, Any]]:
    """As `MappingTemplate.render` and `SequenceLabel`."""
    found = json.loads(Template(MAPPING).render(input=answer))
    for label in found:
        assert isinstance(label["label"], str)
        assert type(label["start_offset"]) is type(label["end_offset"]) is int
    return found


def in_javascript(text: str, start: int, end: int) -> str:
    """`text.substring(start, end)` in the browser."""
    return text.encode("utf-16-le")[2 * start : 2 * end].decode("utf-16-le")


def test_offsets_are_those_of_the_browser(client: TestClient) -> None:
    text = "👩王明 '在' <北京>"
    labels = labels_of(ask(client, text))
    shown = [in_javascript(text, la["start_offset"], la["end_offset"]) for la in labels]
    assert shown == ["王明", "北京"]
    assert [label["label"] for label in labels] == ["PER", "LOC"]
    assert labels[0]["start_offset"] == 2
    body = {"text": "{{ text }}", "offsets": "codepoint"}
    assert labels_of(ask(client, text, body))[0]["start_offset"] == 1


def test_graphemes(client: TestClient) -> None:
    """👩‍👩 is one grapheme of three code points; an entity that cuts one is left out, and said."""
    body = {"text": "{{ text }}", "offsets": "grapheme"}
    (label,) = labels_of(ask(client, "👩\u200d👩王明", body))
    assert (label["start_offset"], label["end_offset"]) == (1, 3)
    answer = ask(client, "Ada\u0301 北京", body)
    assert [label["label"] for label in labels_of(answer)] == ["LOC"]
    assert answer["notices"] == ["an entity is left out: it begins or ends inside a grapheme"]


def test_a_least_score(client: TestClient) -> None:
    body = {"text": "{{ text }}", "min_score": 0.6}
    assert [label["label"] for label in labels_of(ask(client, "王明 北京", body))] == ["PER"]


@pytest.mark.parametrize("text", [FAILS, "x" * 100_001])
def test_an_error_of_the_server_is_an_error_in_doccano(client: TestClient, text: str) -> None:
    """The mapping fails, where one that loops would find no label."""
    answer = ask(client, text)
    assert answer["error"]["message"]
    with pytest.raises(TypeError, match="Undefined"):
        labels_of(answer)


@pytest.mark.parametrize("body", [{}, {"text": 3}, {"text": "x", "min_score": 2}, {"text": None}])
def test_other_bodies_are_refused(client: TestClient, body: dict[str, Any]) -> None:
    answer = client.post("/doccano/news", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid_request"
    assert client.post("/doccano/sport", json={"text": ""}).status_code == 404
