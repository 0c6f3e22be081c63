"""Each unit with its tag enters training exactly once, and no gold is lost unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.tiny import SENTENCES, make_predictor, make_settings
from nertune.labels.align import IGNORED, UNKNOWN, align_entities, continuation_ids
from nertune.tokens.batching import collate
from nertune.training.examples import prepare_examples
from nertune.types import Document, Entity


@pytest.mark.parametrize(("max_pieces", "stride"), [(0, -1), (10, 3), (3, 0), (20, 17)])
@pytest.mark.parametrize("variant", ["full", "lstm"])
def test_windows_put_together_are_the_document(
    variant: str, max_pieces: int, stride: int, tmp_path: Path
) -> None:
    overrides = {"model": {"max_pieces": max_pieces, "stride": stride}}
    predictor = make_predictor(make_settings(tmp_path, variant, overrides))
    examples = prepare_examples(SENTENCES, predictor.segmenter, predictor.tagger.head)
    assert not examples.coverage.lost
    tags: dict[int, list[int]] = {}
    for window, ids in zip(examples.windows, examples.targets, strict=True):
        assert len(ids) == window.num_units == len(window.positions)
        assert window.first_unit == len(tags.setdefault(window.document, []))
        tags[window.document] += ids
    for index, document in enumerate(SENTENCES):
        units = [(i, i + 1) for i in range(len(document.text))]
        expected = align_entities(document, units).tags
        assert [predictor.tagset.tags[i] for i in tags[index]] == expected
        assert predictor.tagset.decode(tags[index]) == align_entities(document, units).spans
    assert examples.num_units == sum(len(document.text) for document in SENTENCES)


def test_what_units_cannot_express_is_listed(tmp_path: Path) -> None:
    predictor = make_predictor(make_settings(tmp_path, "full", {"model": {"unit": "word"}}))
    inside = Entity(0, 2, "PERSON")  # "To" of "Tom"
    whole = Entity(4, 6, "LOCATION")
    document = Document("Tom 北京", (inside, whole), id="a.jsonl:1")
    examples = prepare_examples([document], predictor.segmenter, predictor.tagger.head)
    assert [(lost.document_id, lost.entity) for lost in examples.coverage.lost] == [
        ("a.jsonl:1", inside)
    ]
    assert "inside the unit 'Tom'" in examples.coverage.lost[0].reason
    known = predictor.tagset.encode(["B-LOCATION", "I-LOCATION"])
    assert examples.targets == [[UNKNOWN, *known]]
    assert (examples.num_units, examples.coverage.num_entities) == (2, 2)
    assert examples.count_targets(all_pieces=True) == [2]


def test_all_pieces_of_a_unit_without_a_tag_are_left_out(tmp_path: Path) -> None:
    predictor = make_predictor(make_settings(tmp_path, "full", {"model": {"unit": "word"}}))
    text = "abc OK def 北京"
    document = Document(text, (Entity(0, 2, "PERSON"), Entity(4, 10, "PERSON")))
    examples = prepare_examples([document], predictor.segmenter, predictor.tagger.head)
    batch = collate(
        examples.windows,
        pad_id=0,
        tags=examples.targets,
        continuation=continuation_ids(predictor.tagset.tags),
    )
    assert batch.piece_tags_BL is not None
    targets_L = batch.piece_tags_BL[0] >= 0
    assert set(batch.piece_tags_BL[0, ~targets_L].tolist()) == {IGNORED}
    sizes = [len(ids) for ids in predictor.segmenter.segment(document)[0].piece_ids]
    assert sizes[0] > 1
    assert targets_L.nonzero().flatten().tolist() == [*range(1 + sizes[0], 1 + sum(sizes))]
    assert examples.count_targets(all_pieces=True) == [sum(sizes[1:])] == [int(targets_L.sum())]
    assert examples.count_targets() == [4]


def test_texts_without_pieces_have_no_window(tmp_path: Path) -> None:
    predictor = make_predictor(make_settings(tmp_path, "full"))
    documents = [Document(""), Document("\u200b"), Document("北京", (Entity(0, 2, "LOCATION"),))]
    examples = prepare_examples(documents, predictor.segmenter, predictor.tagger.head)
    assert [window.document for window in examples.windows] == [2]


def test_a_label_that_is_not_in_the_tag_set(tmp_path: Path) -> None:
    predictor = make_predictor(make_settings(tmp_path, "lstm"))
    with pytest.raises(ValueError, match="'B-ANIMAL' is not among the model's"):
        prepare_examples(
            [Document("猫", (Entity(0, 1, "ANIMAL"),))], predictor.segmenter, predictor.tagger.head
        )
