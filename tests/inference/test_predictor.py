"""Texts of all kinds through a tiny BERT and a tiny LSTM: offsets, order, streams, lengths."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tiny import SENTENCES, make_predictor, make_settings, session_folder
from nertune.errors import ModelError
from nertune.inference.predictor import Predictor
from nertune.labels.align import align_entities
from nertune.types import Document, Entity

AWKWARD = {
    "empty": "",
    "one space": " ",
    "blanks": " \t\n\r\u3000\xa0",
    "leading spaces": "   王小明在北京",
    "trailing spaces": "王小明在北京   \n",
    "digits": "在1998年3月15日12:30",
    "Latin": "Tom Smith在New York的IBM工作",
    "full width": "ＡＢＣ１２３，王小明！？",
    "emoji": "王🙂小明👨‍👩‍👧在🇨🇳北京",
    "astral ideographs": "𠮷野家𪚥",
    "combining marks": "e\u0301cole n\u0303 a\u0300\u0301\u0302 가\u0301",
    "decomposed": "\u1112\u1161\u11ab\u1100\u116e\u11a8 ﬁ ½ ㍿",
    "zero width": "王\u200b小\u200c明\u200d在\ufeff北\u2060京",
    "controls": "王\x00小\x01明\x07\x08\x1b[31m在\x7f\x85北京",
    "line ends": "王小明\r\n在北京\u2028和\u2029上海\x0b\x0c",
    "right to left": "\u202eمحمد\u202c في بكين שלום",
    "lone surrogate": "王\ud83d在\udc00北京",
    "special pieces": "[CLS]王[SEP][PAD][UNK][MASK]小明</s><s>",
    "markup": "[bold]王[/bold] <b>&amp;</b> :smile: %s {0} \\n",
    "unknown": "龘靐齉爩",
    "replacement": "\ufffd\ufffc\ue000\U0010ffff",
    "long word": "a" * 700,
    "long number": "9" * 700,
    "many windows": "王小明在北京。" * 60,
}


@cache
def tagger(variant: str, unit: str = "char") -> Predictor:
    """A shaken tagger, which finds entities everywhere."""
    overrides = {"model": {"unit": unit}, "run": {"seed": 3}}
    return make_predictor(make_settings(session_folder(), variant, overrides), noise=1.0)


KINDS = [("full", "char"), ("full", "word"), ("lora-crf", "char"), ("lstm", "char"),
         ("lstm-crf", "word")]  # fmt: skip


def assert_sound(document: Document, text: str, predictor: Predictor) -> None:
    """The text is untouched; entities are sorted, apart, on unit borders, with probabilities."""
    assert document.text == text
    units = predictor.segmenter.segment(Document(text))[0].units
    starts, ends = {start for start, _ in units}, {end for _, end in units}
    previous_end = 0
    for entity in document.entities:
        assert previous_end <= entity.start < entity.end <= len(text)
        assert entity.start in starts
        assert entity.end in ends
        assert entity.label in predictor.tagset.labels
        assert entity.score is not None
        assert 0 < entity.score <= 1
        assert document.surface(entity) == text[entity.start : entity.end] != ""
        previous_end = entity.end
    # What was predicted can be expressed in units again, nothing was rounded; but a blank alone,
    # which these untrained taggers find too, is no gold that one would train on.
    assert all(item.text.isspace() for item in align_entities(document, units).lost)


@pytest.mark.parametrize(("variant", "unit"), KINDS)
@pytest.mark.parametrize("case", AWKWARD)
def test_awkward_texts(case: str, variant: str, unit: str) -> None:
    predictor = tagger(variant, unit)
    assert_sound(predictor.tag(AWKWARD[case]), AWKWARD[case], predictor)


def test_the_taggers_of_these_tests_find_something() -> None:
    for variant, unit in KINDS:
        found = list(tagger(variant, unit).tag_texts(AWKWARD.values()))
        assert sum(len(document.entities) for document in found) > 100


@pytest.mark.parametrize("variant", ["full", "lstm-crf"])
@settings(max_examples=60)
@given(text=st.text(st.characters(), max_size=200))
def test_any_text(variant: str, text: str) -> None:
    predictor = tagger(variant)
    assert_sound(predictor.tag(text), text, predictor)


@pytest.mark.parametrize("variant", ["full", "lstm"])
def test_each_character_of_a_digit_run_can_begin_an_entity(variant: str) -> None:
    """The reference's bug: one label a token, so that all behind `1998` were shifted."""
    predictor = tagger(variant)
    units = predictor.segmenter.segment(Document("在1998年Tom"))[0].units
    assert units == [(i, i + 1) for i in range(9)]


def test_a_surrogate_pair_is_one_character() -> None:
    units = tagger("full").segmenter.segment(Document("🙂北京"))[0].units
    assert units == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize(("variant", "length"), [("lstm-crf", 50_000), ("full", 20_000)])
def test_a_very_long_text(variant: str, length: int) -> None:
    text = "王小明昨天到了北京。" * (length // 10)
    predictor = tagger(variant)
    started = time.process_time()
    document = predictor.tag(text)
    seconds = time.process_time() - started
    assert_sound(document, text, predictor)
    assert len(document.entities) > length / 100
    assert max(e.end for e in document.entities) > length - 100  # nothing was cut off
    assert seconds < 25  # about 7: what grows with the square of the length would take hours


def test_one_word_of_100_000_characters() -> None:
    for variant, unit in (("full", "word"), ("lstm-crf", "word")):
        predictor = tagger(variant, unit)
        text = "北京 " + "a" * 100_000 + " 上海"
        assert_sound(predictor.tag(text), text, predictor)


# Order and streams


@pytest.mark.parametrize(("variant", "unit"), KINDS)
def test_neighbours_in_a_batch_do_not_matter(variant: str, unit: str) -> None:
    """Alone, together and in small batches: the same entities; scores within rounding."""
    predictor = tagger(variant, unit)
    texts = [*AWKWARD.values(), *(d.text for d in SENTENCES)]
    alone = [predictor.tag(text) for text in texts]
    together = list(predictor.tag_texts(texts))
    small = Predictor(predictor.tagger, predictor.segmenter, predictor.tagset, batch_tokens=1)
    for others in (together, list(small.tag_texts(texts))):
        assert [d.text for d in others] == texts  # in order
        for one, other in zip(alone, others, strict=True):
            assert [e.key for e in one.entities] == [e.key for e in other.entities]
            for a, b in zip(one.entities, other.entities, strict=True):
                assert a.score == pytest.approx(b.score, abs=1e-4)


def test_the_same_text_twice_gives_the_same() -> None:
    predictor = tagger("lora-crf")
    assert predictor.tag(SENTENCES[0].text) == predictor.tag(SENTENCES[0].text)


def test_texts_are_taken_as_they_are_needed() -> None:
    """An endless stream can be tagged, and order is kept across chunks."""
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"王{taken}" + "在北京" * (taken % 7)

    stream = tagger("lstm").tag_texts(endless())
    assert taken == 0  # nothing is read before something is asked for
    for number in range(1, 1101):
        assert next(stream).text.startswith(f"王{number}" + "在" * (number % 7 > 0))
    assert taken < 1100 + 600


def test_no_texts() -> None:
    assert list(tagger("full").tag_texts([])) == []
    assert [d.entities for d in tagger("full").tag_texts(["", "", " \u200b"])] == [(), (), ()]


def test_documents_keep_their_identity_and_tokens() -> None:
    document = Document("ab 北京", (Entity(0, 2, "GOLD"),), id="x:1", tokens=((0, 2), (3, 5)))
    found = next(tagger("full", "word").tag_documents([document]))
    assert (found.id, found.tokens) == ("x:1", document.tokens)
    assert all(e.label != "GOLD" for e in found.entities)
    (raw,) = tagger("full", "word").tag_texts([document.text])
    assert found.entities == raw.entities  # the source's tokens are not what is labelled


def test_without_scores_the_same_entities() -> None:
    predictor = tagger("lstm-crf")
    for document, bare in zip(
        predictor.tag_documents(SENTENCES),
        predictor.tag_documents(SENTENCES, with_scores=False),
        strict=True,
    ):
        assert [e.key for e in document.entities] == [e.key for e in bare.entities]
        assert all(e.score is None for e in bare.entities)


def test_visible_units_are_those_that_can_be_seen() -> None:
    document = Document(" 王 a\t\u3000b")
    spans = tagger("lstm").visible_units(document)
    assert [document.text[a:b] for a, b in spans] == ["王", "a", "b"]


# State and failure


def test_tagging_changes_nothing() -> None:
    """Neither the mode nor the random numbers: evaluation must not disturb training."""
    predictor = make_predictor(make_settings(session_folder(), "lstm-crf"))
    predictor.tagger.train()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = predictor.tag("王小明在北京"), predictor.tag("王小明在北京")
    assert torch.equal(torch.rand(3), expected)
    assert predictor.tagger.training
    assert first == second  # and no dropout
    predictor.tagger.eval()
    predictor.tag("王")
    assert not predictor.tagger.training


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_said_and_not_decoded(value: float) -> None:
    predictor = make_predictor(make_settings(session_folder(), "lstm"))
    with torch.no_grad():
        predictor.tagger.emitter.classifier.bias[0] = value
    with pytest.raises(ModelError, match="weights are not finite, or too large") as caught:
        predictor.tag("王小明")
    assert "\n" not in str(caught.value)


def test_scores_of_single_tags_agree_with_softmax() -> None:
    """A text of one character: its entity's probability is that of its tag."""
    predictor = tagger("lstm")
    legal = predictor.tagset.legal_start_K
    found = 0
    for text in "王小明昨天到了北京李华在上海":
        emissions = predictor._emit(1, predictor.segmenter.segment(Document(text))[1])[0]
        probabilities = np.exp(emissions[0].astype(np.float64))
        document = predictor.tag(text)
        best = int(np.where(legal, probabilities, 0).argmax())
        if predictor.tagset.tags[best] == "O":
            assert document.entities == ()
        else:
            expected = probabilities[best] / probabilities[legal].sum()
            assert document.entities[0].score == pytest.approx(expected, rel=1e-5)
            found += 1
    assert found
