from __future__ import annotations

import json
import random
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.errors import DataError
from nertune.evaluation.metrics import (
    Score,
    ScoreTable,
    bootstrap_interval,
    document_counts,
    f1_from_counts,
    judged_entities,
    score,
)
from nertune.labels.schemes import decode_tags
from nertune.types import Document, Entity, Scope

TEXT = "abcdefghijklmnopqrstuvwxyz"


def document(*entities: tuple[int, int, str], text: str = TEXT) -> Document:
    return Document(text, tuple(Entity(*entity) for entity in entities))


def from_tags(tags: Sequence[str]) -> Document:
    """One character a tag; spans read as conlleval does."""
    spans, _ = decode_tags(tags)
    return document(*spans, text="x" * len(tags))


def rows(table: ScoreTable) -> dict[str, Score]:
    return {**table.types, "micro avg": table.micro, "macro avg": table.macro}


def assert_equals_seqeval(gold: list[list[str]], predicted: list[list[str]]) -> None:
    from seqeval.metrics import classification_report

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = classification_report(gold, predicted, output_dict=True, zero_division=0)
    del expected["weighted avg"]
    ours = rows(score([from_tags(t) for t in gold], [from_tags(t) for t in predicted]).exact)
    assert set(ours) == set(expected)
    for name, row in expected.items():
        assert ours[name].precision == pytest.approx(row["precision"], abs=1e-12)
        assert ours[name].recall == pytest.approx(row["recall"], abs=1e-12)
        assert ours[name].f1 == pytest.approx(row["f1-score"], abs=1e-12)
        assert ours[name].support == row["support"]


tag = st.sampled_from(["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "I-ORG", "B-A-B"])
sentence_pair = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(tag, min_size=n, max_size=n), st.lists(tag, min_size=n, max_size=n)
    )
)


@settings(max_examples=100)
@given(st.lists(sentence_pair, min_size=1, max_size=6))
def test_equals_seqeval_on_random_tags(pairs: list[tuple[list[str], list[str]]]) -> None:
    gold, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if all(tag == "O" for sentence in gold + predicted for tag in sentence):
        return  # seqeval raises here; test_nothing_at_all_is_undefined
    assert_equals_seqeval(gold, predicted)


def read_tags(path: Path, separator: str) -> list[list[str]]:
    sentences: list[list[str]] = [[]]
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.strip():
            sentences[-1].append(line.rstrip("\r").split(separator)[-1])
        elif sentences[-1]:
            sentences.append([])
    return [sentence for sentence in sentences if sentence]


def corrupted(sentences: list[list[str]], seed: int) -> list[list[str]]:
    rng = random.Random(seed)
    tags = sorted({tag for sentence in sentences for tag in sentence})
    return [[rng.choice(tags) if rng.random() < 0.1 else tag for tag in s] for s in sentences]


@pytest.mark.parametrize(
    ("name", "separator"),
    [
        ("peoples/test", " "),
        ("weibo/test.conll", "\t"),
        ("resume/test.conll", "\t"),
        ("wnut17/test.conll", "\t"),
    ],
)
def test_equals_seqeval_on_real_gold(real_data: Path, name: str, separator: str) -> None:
    gold = read_tags(real_data / name, separator)
    assert sum(tag.startswith("B-") for sentence in gold for tag in sentence) > 300
    assert_equals_seqeval(gold, corrupted(gold, seed=3))


def test_hand_counted_example() -> None:
    gold = [document((0, 2, "PER"), (4, 8, "LOC")), document((1, 3, "ORG"))]
    predicted = [document((0, 2, "PER"), (5, 9, "LOC"), (10, 12, "PER")), document((1, 3, "LOC"))]
    scores = score(gold, predicted)
    assert scores.types["PER"] == Score(1 / 2, 1.0, 2 / 3, 1, 2, 1, 1)
    assert scores.types["LOC"] == Score(0.0, 0.0, 0.0, 1, 2, 0, 0)
    assert scores.types["ORG"] == Score(0.0, 0.0, 0.0, 1, 0, 0, 0)
    assert scores.micro.f1 == pytest.approx(2 / 7)
    assert scores.micro == Score(1 / 4, 1 / 3, scores.micro.f1, 3, 4, 1, 1)
    assert scores.macro.f1 == pytest.approx(2 / 9)
    # The span of the ORG was found under another name: right for LOC, found for ORG.
    assert (scores.untyped.micro.correct, scores.untyped.micro.found) == (2, 2)
    assert scores.untyped.types["LOC"].correct == 1
    assert scores.untyped.types["ORG"].found == 1
    # LOC [5, 9) touches LOC [4, 8); LOC [1, 3) meets only an ORG.
    assert (scores.overlap.micro.correct, scores.overlap.micro.found) == (2, 2)
    assert scores.overlap.types["LOC"] == Score(1 / 2, 1.0, 2 / 3, 1, 2, 1, 1)


def test_overlap_counts_each_side_once() -> None:
    gold = [document((0, 10, "A"), (12, 14, "A"))]
    predicted = [document((0, 2, "A"), (3, 5, "A"), (9, 13, "A"), (14, 16, "A"))]
    overlap = score(gold, predicted).overlap.micro
    assert (overlap.correct, overlap.found) == (3, 2)  # [14, 16) only touches the end
    assert (overlap.precision, overlap.recall) == (3 / 4, 1.0)
    assert score(predicted, gold).overlap.micro.correct == 2  # the sides trade places


@settings(max_examples=100)
@given(st.data())
def test_matches_equal_brute_force(data: st.DataObject) -> None:
    entity = st.tuples(st.integers(0, 8), st.integers(1, 5), st.sampled_from("AB")).map(
        lambda e: (e[0], e[0] + e[1], e[2])
    )
    gold, predicted = data.draw(st.lists(entity, max_size=7)), data.draw(st.lists(entity))
    scores = score([document(*gold, text=TEXT * 2)], [document(*predicted, text=TEXT * 2)])

    def matches(a: tuple[int, int, str], others: list[tuple[int, int, str]], way: str) -> bool:
        return any(
            {
                "exact": a == b,
                "untyped": a[:2] == b[:2],
                "overlap": a[2] == b[2] and bool(set(range(*a[:2])) & set(range(*b[:2]))),
            }[way]
            for b in others
        )

    for way in ("exact", "untyped", "overlap"):
        micro = getattr(scores, way).micro
        assert micro.correct == sum(matches(p, gold, way) for p in set(predicted))
        assert micro.found == sum(matches(g, predicted, way) for g in set(gold))


def test_duplicates_count_once_and_scores_do_not_matter() -> None:
    gold = [document((0, 2, "A"), (0, 2, "A"), (0, 2, "B"))]
    predicted = [Document(TEXT, (Entity(0, 2, "A", 0.9), Entity(0, 2, "A", 0.4)))]
    assert score(gold, predicted).micro == Score(1.0, 1 / 2, 2 / 3, 2, 1, 1, 1)


def test_gold_or_prediction_alone_scores_zero() -> None:
    found, nothing = [document((0, 2, "A"))], [document()]
    assert score(found, nothing).micro == Score(0.0, 0.0, 0.0, 1, 0, 0, 0)
    assert score(nothing, found).micro == Score(0.0, 0.0, 0.0, 0, 1, 0, 0)
    assert score(nothing, found).types["A"].support == 0


def test_nothing_at_all_is_undefined() -> None:
    scores = score([document()] * 3, [document()] * 3, types=["PER"])
    undefined = Score(None, None, None, 0, 0, 0, 0)
    assert scores.micro == scores.macro == scores.types["PER"] == undefined
    assert scores.micro_f1_ci95 is None
    assert json.loads(json.dumps(scores.to_dict(), allow_nan=False))["micro"]["f1"] is None
    assert score([], []).micro == undefined


def test_named_types_are_shown_but_not_averaged() -> None:
    same = [document((0, 2, "A"))]
    scores = score(same, same, types=["UNUSED", "A"])
    assert list(scores.types) == ["A", "UNUSED"]
    assert scores.macro.f1 == 1.0


def test_other_documents_are_refused() -> None:
    with pytest.raises(DataError, match="2 gold documents but 1 predicted"):
        score([document(), document()], [document()])
    other = Document("abcXefg", id="pred:2")
    with pytest.raises(DataError, match=r"document 2 \(gold:2\).*from character 3.*'defg'.*'Xefg'"):
        score([document(), Document("abcdefg", id="gold:2")], [document(), other])
    with pytest.raises(DataError, match="from character 3"):
        document_counts([Document("abc")], [Document("abcd")])


def test_to_dict_has_the_contract() -> None:
    gold = [document((0, 2, "PER")), document((4, 6, "LOC"))]
    predicted = [document((0, 2, "PER")), document((4, 7, "LOC"))]
    written = json.loads(json.dumps(score(gold, predicted).to_dict(), allow_nan=False))
    assert set(written) == {"documents", "micro", "macro", "types", "untyped", "overlap"}
    assert written["micro"]["f1"] == 0.5
    assert len(written["micro"]["f1_ci95"]) == 2
    assert written["types"]["LOC"]["f1"] == 0.0
    assert written["types"]["LOC"]["overlap"]["f1"] == 1.0
    assert written["overlap"]["f1"] == 1.0
    assert written["untyped"]["f1"] == 0.5


def test_document_counts_sum_to_micro() -> None:
    gold = [document((0, 2, "A")), document((0, 3, "B"), (4, 6, "A")), document()]
    predicted = [document((0, 2, "A"), (4, 6, "A")), document((4, 6, "A")), document()]
    counts = document_counts(gold, predicted)
    assert counts.tolist() == [[1, 2, 1], [2, 1, 1], [0, 0, 0]]
    assert f1_from_counts(counts.sum(axis=0)) == pytest.approx(score(gold, predicted).micro.f1)
    assert np.isnan(f1_from_counts(counts)[2])


def test_bootstrap_equals_resampling_documents_one_by_one() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 4, 60)
    correct = rng.binomial(gold, 0.7)
    counts = np.stack([gold, correct + rng.integers(0, 2, 60), correct], axis=1)
    drawn = rng.integers(60, size=(20_000, 60))
    expected = np.quantile(f1_from_counts(counts[drawn].sum(axis=1)), [0.025, 0.975])
    interval = bootstrap_interval(counts, num_resamples=20_000)
    assert interval == pytest.approx(expected, abs=0.003)
    assert interval == bootstrap_interval(counts, num_resamples=20_000)
    assert interval != bootstrap_interval(counts, num_resamples=20_000, seed=1)


def test_bootstrap_interval_covers_the_true_value() -> None:
    """Counts are drawn so that F1 is 2·0.8 / (1 + 1.1) in the long run."""
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        gold = rng.poisson(2, 150)
        correct = rng.binomial(gold, 0.8)
        counts = np.stack([gold, correct + rng.binomial(gold, 0.3), correct], axis=1)
        interval = bootstrap_interval(counts, num_resamples=400)
        assert interval is not None
        covered += interval[0] <= 1.6 / 2.1 <= interval[1]
    assert 0.90 <= covered / 200 <= 0.985


def test_bootstrap_needs_two_documents() -> None:
    assert bootstrap_interval(np.array([[1, 1, 1]])) is None
    same = [document((0, 2, "A"))]
    assert score(same, same).micro_f1_ci95 is None
    assert score(same * 2, same * 2).micro_f1_ci95 == (1.0, 1.0)
    assert score(same * 2, same * 2, num_resamples=0).micro_f1_ci95 is None


@pytest.mark.parametrize(
    ("scope", "judged"),
    [
        (Scope(), 4),
        (Scope(("PER",)), 3),  # not the LOC
        (Scope(("PER", "LOC")), 4),
        (Scope(complete=False), 2),  # what the gold has, and what overlaps it
        (Scope(unknown=((4, 8),)), 3),
        (Scope(("LOC",), unknown=((6, 8),)), 2),
    ],
)
def test_partial_gold_judges_what_it_knows(scope: Scope, judged: int) -> None:
    gold = Document("x" * 8, (Entity(0, 2, "PER"),), scope=scope)
    predicted = gold.with_entities(
        [Entity(0, 2, "PER"), Entity(1, 3, "PER"), Entity(3, 4, "LOC"), Entity(6, 8, "PER")]
    )
    assert len(judged_entities(gold, predicted)) == judged
    scores = score([gold], [predicted])
    assert (scores.micro.predicted, scores.micro.correct, scores.micro.support) == (judged, 1, 1)
    assert scores.num_ignored == (None if scope.is_full else 4 - judged)
    assert ("ignored_predictions" in scores.to_dict()) == (not scope.is_full)
    assert document_counts([gold], [predicted]).tolist() == [[1, judged, 1]]
