"""`POST /v1/tag`: answers equal the predictor's, and what is wrong is told."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.serving import FakeEngine, make_engine, service, tiny_models
from helpers.tiny import SENTENCES
from nertune.data.corpus import load_corpus
from nertune.data.samples import resolve_data
from nertune.inference.predictor import Predictor
from nertune.serving.limits import Limits
from nertune.types import Document

pytestmark = pytest.mark.anyio

TEXTS = [document.text for document in SENTENCES]


def entities_of(document: Document) -> list[dict[str, Any]]:
    return [
        {"start": e.start, "end": e.end, "label": e.label, "text": document.surface(e)}
        for e in document.entities
    ]


@pytest.mark.parametrize("model", ["news", "law", "web"])
async def test_served_equals_predicted(model: str) -> None:
    sample = [d.text for d in load_corpus(resolve_data("sample:test")).documents[:60]]
    texts = [*TEXTS, *sample]
    expected = list(Predictor.load(tiny_models()[model], device="cpu").tag_texts(texts))
    async with service(make_engine()) as served:
        answer = (await served.tag(texts=texts, model=model)).json()
    assert answer["model"] == model
    assert sum(len(document.entities) for document in expected) > 50
    for document, found in zip(expected, answer["documents"], strict=True):
        scores = [entity.pop("score") for entity in found["entities"]]
        assert found["entities"] == entities_of(document)
        assert scores == pytest.approx([e.score for e in document.entities], abs=1e-5)


async def test_one_text_gives_one_document_of_the_default_model() -> None:
    async with service(make_engine("law", "news")) as served:
        answer = await served.tag(text=TEXTS[0])
    assert answer.status_code == 200
    assert answer.json()["model"] == "law"
    assert answer.json()["offsets"] == "codepoint"
    assert len(answer.json()["documents"]) == 1


async def test_empty_texts_are_answered() -> None:
    async with service(make_engine("news")) as served:
        for texts in ([], [""], ["", TEXTS[0], " \n"]):
            answer = await served.tag(texts=texts)
            assert answer.status_code == 200
            assert len(answer.json()["documents"]) == len(texts)


async def test_labels_and_scores_filter() -> None:
    async with service(make_engine("news")) as served:
        everything = (await served.tag(texts=TEXTS)).json()["documents"]
        few = (await served.tag(texts=TEXTS, labels=["PERSON"])).json()["documents"]
        sure = (await served.tag(texts=TEXTS, min_score=0.5)).json()["documents"]
        none = (await served.tag(texts=TEXTS, labels=[])).json()["documents"]
    flat = [e for d in everything for e in d["entities"]]
    assert [e for d in few for e in d["entities"]] == [e for e in flat if e["label"] == "PERSON"]
    assert [e for d in sure for e in d["entities"]] == [e for e in flat if e["score"] >= 0.5]
    assert 0 < sum(e["score"] >= 0.5 for e in flat) < len(flat)
    assert not [e for d in none for e in d["entities"]]


@pytest.mark.parametrize("offsets", ["codepoint", "utf16", "byte"])
async def test_offsets_count_what_is_asked_for(offsets: str) -> None:
    text = "😀王小明👨‍👩‍👧昨天到了北京é。𠮷田"
    codec = {"codepoint": "utf-32-le", "utf16": "utf-16-le", "byte": "utf-8"}[offsets]
    size = {"codepoint": 4, "utf16": 2, "byte": 1}[offsets]
    async with service(make_engine("web")) as served:
        (found,) = (await served.tag(text=text, offsets=offsets)).json()["documents"]
    assert any(entity["start"] > 1 for entity in found["entities"])
    data = text.encode(codec)
    for entity in found["entities"]:
        cut = data[entity["start"] * size : entity["end"] * size]
        assert cut.decode(codec) == entity["text"]


BAD: list[tuple[Any, int, str, str]] = [
    ({"text": "a", "texts": ["b"]}, 422, "invalid_request", "either 'text' or 'texts'"),
    ({}, 422, "invalid_request", "either 'text' or 'texts'"),
    ({"text": 3}, 422, "invalid_request", "text"),
    ({"text": "a", "min_scor": 0.4}, 422, "invalid_request", "min_score"),
    ({"text": "a", "min_score": 1.5}, 422, "invalid_request", "min_score"),
    ({"text": "a", "min_score": "0.5"}, 422, "invalid_request", "min_score"),
    ({"text": "a", "offsets": "utf8"}, 422, "invalid_request", "'codepoint', 'utf16' or 'byte'"),
    ({"text": "a", "model": "nws"}, 404, "unknown_model", "there are news"),
    ({"text": "a", "labels": ["PER"]}, 422, "unknown_label", "it has LOCATION, ORGANIZATION"),
    (["a"], 422, "invalid_request", "JSON object"),
    ("[", 400, "bad_json", "no JSON"),
    (b"\xff", 400, "bad_json", "JSON in UTF-8"),
    ("[" * 100_000, 400, "bad_json", "JSON"),
    ('{"text": "a", "min_score": NaN}', 422, "invalid_request", "min_score"),
    ('{"text": "\\ud800 a"}', 422, "not_unicode", "half a surrogate pair"),
    ('{"texts": ["a", "\\udfff"]}', 422, "not_unicode", "half a surrogate pair"),
    ("", 422, "invalid_request", "it is empty"),
    ({"text": "x" * 101}, 413, "text_too_long", "the server takes 100"),
    ({"texts": ["a"] * 6}, 413, "too_many_texts", "the server takes 5"),
    ({"text": "x" * 300_000}, 413, "body_too_long", "the server takes 200000"),
]


@pytest.mark.parametrize(("body", "status", "code", "told"), BAD)
async def test_what_is_wrong_is_told(body: Any, status: int, code: str, told: str) -> None:
    limits = Limits(max_characters=100, max_texts=5, max_body_bytes=200_000)
    async with service(make_engine("news"), limits=limits) as served:
        given = {"content": body} if isinstance(body, str | bytes) else {"json": body}
        headers = {"content-type": "application/json"}
        answer = await served.http.post("/v1/tag", headers=headers, **given)
        after = await served.tag(text=TEXTS[0])
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code
    assert told in answer.json()["error"]["message"]
    assert len(answer.json()["error"]["message"]) < 400
    assert after.status_code == 200


async def test_a_body_of_another_type_is_told_what_to_send() -> None:
    async with service(FakeEngine()) as served:
        answer = await served.http.post("/v1/tag", content='{"text": "a"}',
                                        headers={"content-type": "text/plain"})  # fmt: skip
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["error"]["message"]


async def test_a_compressed_body_is_refused() -> None:
    async with service(FakeEngine()) as served:
        answer = await served.http.post("/v1/tag", content=b"x",
                                        headers={"content-encoding": "gzip"})  # fmt: skip
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "text", ["".join(map(chr, range(32))), "a\x00b", "\u202e北京\ufeff", "\x7f" * 9]
)
async def test_control_characters_are_answered_as_predicted(text: str) -> None:
    expected = Predictor.load(tiny_models()["news"], device="cpu").tag(text)
    async with service(make_engine("news")) as served:
        answer = await served.tag(text=text)
    assert answer.status_code == 200
    found = answer.json()["documents"][0]["entities"]
    assert [(e["start"], e["end"], e["label"]) for e in found] == [
        (e.start, e.end, e.label) for e in expected.entities
    ]


@pytest.mark.slow
async def test_a_long_text_is_answered_as_predicted() -> None:
    text = "".join(TEXTS) * (100_000 // len("".join(TEXTS)) + 1)
    text = text[:100_000]
    expected = Predictor.load(tiny_models()["news"], device="cpu").tag(text)
    async with service(make_engine("news")) as served:
        answer = await served.tag(text=text)
        longer = await served.tag(text=text + "x")
    found = answer.json()["documents"][0]["entities"]
    assert [(e["start"], e["end"], e["label"]) for e in found] == [
        (e.start, e.end, e.label) for e in expected.entities
    ]
    assert longer.status_code == 413
