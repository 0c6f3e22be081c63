"""What `benchmarks/label_errors.py` counts: places, hits, planted errors, recall by kind."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from nertune.types import Document, Entity

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "label_errors.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("label_errors", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["label_errors"] = module
    spec.loader.exec_module(module)
    return module


def test_places_are_runs_of_differing_entities(script: ModuleType) -> None:
    gold = Document("x" * 20, (Entity(0, 3, "A"), Entity(5, 7, "B"), Entity(10, 12, "A")))
    truth = Document("x" * 20, (Entity(1, 3, "A"), Entity(5, 7, "B"), Entity(15, 17, "C")))
    found = {(p.start, p.end): p.labels for p in script.find_places(gold, truth)}
    assert found == {(0, 3): {"A"}, (10, 12): {"A"}, (15, 17): {"C"}}


def test_a_place_counts_once(script: ModuleType) -> None:
    labels = frozenset({"A"})
    truth = [[script.Place(0, 2, labels), script.Place(5, 6, labels)], []]
    items = [
        script.Item(0.9, 0, 0, 1, labels),
        script.Item(0.8, 0, 1, 2, labels),  # the same place again: neither hit nor miss
        script.Item(0.7, 1, 0, 9, labels),
        script.Item(0.6, 0, 5, 9, labels),
    ]
    judged = script.judge_places(items, truth, lambda _: True)
    assert judged.hit_N.tolist() == [True, False, True]
    precision, area = judged.scores(np.ones(2, int))
    assert precision == pytest.approx(2 / 3)
    assert area == pytest.approx((1 + 2 / 3) / 2)
    assert judged.scores(np.array([2, 0]))[1] == 1.0  # the other document was not drawn
    sentences = script.judge_sentences(items, truth, lambda _: True)
    assert sentences.hit_N.tolist() == [True, False]


def test_recall_by_kind(script: ModuleType) -> None:
    labels = frozenset({"A"})
    truth = [[script.Place(0, 2, labels, "missed")], [script.Place(0, 2, labels, "type")]]
    items = [script.Item(0.9, 0, 0, 2, labels)]
    items += [script.Item(0.5 - n / 100, 1, 10 + n, 11 + n, labels) for n in range(9)]
    items += [script.Item(0.1, 1, 0, 2, labels)]
    found = script.recall_by_kind(items, truth, 0.5)
    truth_kinds = {kind: found[kind] for kind in ("missed", "type")}
    assert (found["items"], truth_kinds) == (2, {"missed": 1.0, "type": 0.0})


def test_planted_errors_are_what_differs(script: ModuleType, real_data: Path) -> None:
    gold = script.load_corpus(real_data / "peoples" / "train").documents
    documents, truth = script.read_planted()
    number = round(0.05 * sum(len(d.entities) for d in gold))
    kinds = [place.kind for places in truth for place in places]
    assert {kind: kinds.count(kind) for kind in script.KINDS} == dict.fromkeys(script.KINDS, number)
    for before, after, places in zip(gold, documents, truth, strict=True):
        differing = {e.key for e in before.entities} ^ {e.key for e in after.entities}
        assert all(
            any(p.start <= start and end <= p.end for p in places) for start, end, *_ in differing
        )
        assert len(places) <= len(differing)


def test_weibo_is_aligned_with_its_correction(script: ModuleType, real_data: Path) -> None:
    documents, truth = script.read_weibo()
    assert len(documents) == 1349  # one post has another number of tokens
    assert sum(map(bool, truth)) == 429
