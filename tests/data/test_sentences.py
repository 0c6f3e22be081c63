"""Documents in sentences, and their entities back at the document's offsets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.shown import logged
from helpers.tiny import make_predictor, make_settings
from nertune.data.sentences import join_sentences, split_document, split_sentences
from nertune.inference.predictor import Predictor
from nertune.types import Document, Entity


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return make_predictor(make_settings(tmp_path_factory.mktemp("sentences"), "full"))


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("他来了。“真的？”她说。", ["他来了。", "“真的？”", "她说。"]),
        ("好……不！走", ["好……", "不！", "走"]),
        ("He came. Dr. Smith left!  J. Doe (b. May 3) won.\nEnd", [
            "He came.", "Dr. Smith left!", "J. Doe (b. May 3) won.", "End"]),
        ("3.14 and a.b stay. So?", ["3.14 and a.b stay.", "So?"]),
        ("\n \n", []),
        ("", []),
    ],
)  # fmt: skip
def test_where_sentences_end(text: str, sentences: list[str]) -> None:
    assert [text[a:b] for a, b in split_sentences(text)] == sentences


@given(st.text(st.sampled_from("ab。！.?\n ”'王A1"), max_size=40))
def test_nothing_but_white_space_is_left_out(text: str) -> None:
    spans = split_sentences(text)
    covered = [i for a, b in spans for i in range(a, b)]
    assert covered == sorted(set(covered))
    assert all(text[i].isspace() for i in set(range(len(text))) - set(covered))


def test_entities_come_back_at_the_document_s_offsets() -> None:
    document = Document("\n甲来。 乙走！", id="d", meta={"id": 3})
    tagged = [
        (start, sentence.with_entities([Entity(0, 1, "X", 0.5)]))
        for start, sentence in split_document(document)
    ]
    joined = join_sentences(document, tagged)
    assert [joined.surface(e) for e in joined.entities] == ["甲", "乙"]
    assert (joined.text, joined.id, joined.meta) == (document.text, "d", {"id": 3})
    own = Document("甲。乙", tokens=((0, 1), (1, 2), (2, 3)))
    assert split_document(own) == [(0, own)]


def test_a_sentence_is_tagged_as_if_it_stood_alone(predictor: Predictor) -> None:
    sentences = ["王小明到了北京。", "李华在上海！"]
    (whole,) = predictor.tag_sentences([Document("\n".join(sentences))])
    expected, offset = [], 0
    for text in sentences:
        found = predictor.tag(text).entities
        expected += [(e.start + offset, e.end + offset, e.label) for e in found]
        offset += len(text) + 1
    assert [e.key for e in whole.entities] == expected != []


def test_scores_below_the_least_are_left_out(predictor: Predictor) -> None:
    documents = [Document("王小明到了北京。李华在上海！")]
    everything = next(predictor.tag_documents(documents)).entities
    least = sorted(e.score or 0.0 for e in everything)[len(everything) // 2]
    (found,) = predictor.tag_batches([documents], min_score=least)
    assert list(found.entities) == [e for e in everything if (e.score or 0.0) >= least]
    assert 0 < len(found.entities) < len(everything)


def test_texts_much_longer_than_those_of_training_are_said_once(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {"train": {"p95_characters": 2}}
    monkeypatch.setattr(predictor, "manifest", SimpleNamespace(data=described))
    batches = [[Document("王" * 10)], [Document("王" * 11)], [Document("王" * 12)]]
    with logged() as said:
        list(predictor.tag_batches(batches))
    assert said == [
        "a text of 11 characters, while 95 % of the training texts have 2 or fewer: --sentences "
        "tags a sentence at a time"
    ]
    with logged() as said:
        list(predictor.tag_batches(batches, by_sentence=True))
        described["train"] = {}
        list(predictor.tag_batches(batches))
    assert said == []
