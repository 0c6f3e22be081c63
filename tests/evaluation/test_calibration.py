"""Calibrations that are fitted on outcomes."""

from __future__ import annotations

import numpy as np
import pytest

from nertune.evaluation.calibration import fit_calibration
from nertune.evaluation.reliability import measure_reliability
from nertune.labels.schemes import encode_tags
from nertune.labels.tagset import TagSet
from nertune.models.heads.softmax import SoftmaxHead
from nertune.types import Document, Entity, Scope

TAGS = TagSet.from_labels(["A", "B"])


def overconfident(num_documents: int, seed: int, factor: float = 3.0) -> tuple[
    list[np.ndarray], list[Document], list[list[tuple[int, int]]]
]:  # fmt: skip
    """Documents whose tags are drawn from softmax(logits); scores are of `factor` × those."""
    generator = np.random.default_rng(seed)
    scores, documents, units = [], [], []
    for number in range(num_documents):
        logits_UK = generator.normal(scale=1.5, size=(8, len(TAGS)))
        logits_UK[:, 0] += 2.0
        spans = _draw(logits_UK, generator)
        units.append([(i, i + 1) for i in range(8)])
        entities = tuple(Entity(first, last, label) for first, last, label in spans)
        documents.append(Document("abcdefgh", entities, id=str(number)))
        hot_UK = factor * logits_UK
        hot_UK -= np.log(np.exp(hot_UK).sum(axis=1, keepdims=True))
        scores.append(hot_UK.astype(np.float32))
    return scores, documents, units


def _draw(logits_UK: np.ndarray, generator: np.random.Generator) -> list[tuple[int, int, str]]:
    """A legal sequence, drawn exactly: rejection of those that are not."""
    weights_UK = np.exp(logits_UK)
    weights_UK /= weights_UK.sum(axis=1, keepdims=True)
    while True:
        ids = [int(generator.choice(len(TAGS), p=row)) for row in weights_UK]
        spans = TAGS.decode(ids)
        tags = encode_tags(spans, len(ids))
        if list(TAGS.encode(tags)) == ids:
            return [(s.first, s.last, s.label) for s in spans]


def test_an_overconfident_tagger_is_calibrated() -> None:
    """The temperature is that which made it overconfident; unseen documents gain."""
    head = SoftmaxHead(TAGS)
    scores, documents, units = overconfident(400, seed=0)
    fitted = fit_calibration(head, scores, documents, units)
    assert fitted is not None
    assert fitted.calibration.temperature == pytest.approx(3.0, rel=0.15)
    assert fitted.ece_after < 0.4 * fitted.ece_before
    others, unseen, cut = overconfident(400, seed=1)
    spans = head.spans(others)

    def error(probabilities: list[list[float]]) -> float:
        predicted = [
            document.with_entities(
                Entity(s.first, s.last, s.label, p) for s, p in zip(row, own, strict=True)
            )
            for document, row, own in zip(unseen, spans, probabilities, strict=True)
        ]
        measured = measure_reliability(unseen, predicted, num_resamples=0)
        assert measured is not None
        return measured.ece

    before = error(head.probabilities(others, spans))
    after = error(fitted.calibration.probabilities(head, others, spans))
    assert before > 0.2
    assert after < 0.4 * before
    sure = np.array(fitted.calibration.confidences(head, others))
    exact = np.array(
        [
            {(s.first, s.last, s.label) for s in row} == {e.key for e in document.entities}
            for row, document in zip(spans, unseen, strict=True)
        ]
    )
    assert sure.mean() == pytest.approx(exact.mean(), abs=0.06)
    assert len(cut) == len(unseen)


def test_a_calibrated_tagger_stays_about_as_it_is() -> None:
    scores, documents, units = overconfident(400, seed=2, factor=1.0)
    fitted = fit_calibration(SoftmaxHead(TAGS), scores, documents, units)
    assert fitted is not None
    assert fitted.calibration.temperature == pytest.approx(1.0, abs=0.15)
    assert fitted.calibration.slope == pytest.approx(1.0, abs=0.35)


@pytest.mark.parametrize("scale", [1.0, 50.0])
@pytest.mark.parametrize("rival", [-1.0, -1e-6])
def test_a_tagger_that_is_as_sure_everywhere(scale: float, rival: float) -> None:
    """All spans alike: of even odds, or sure beyond what float64 tells from 1; half are right."""
    documents, scores, units = [], [], []
    for number in range(40):
        scores_UK = np.full((3, len(TAGS)), -scale)
        scores_UK[[0, 1, 2], [TAGS.encode(["B-A"])[0], 0, 0]] = 0.0
        scores_UK[0, 0] = scale * rival
        scores.append(scores_UK)
        units.append([(i, i + 1) for i in range(3)])
        documents.append(Document("abc", (Entity(0, 1, "A"),) if number % 2 else ()))
    fitted = fit_calibration(SoftmaxHead(TAGS), scores, documents, units)
    assert fitted is not None
    found = fitted.calibration.probabilities(
        SoftmaxHead(TAGS), scores, SoftmaxHead(TAGS).spans(scores)
    )
    assert found[0][0] == pytest.approx(0.5, abs=0.1)


def test_no_step_is_better_than_none() -> None:
    """Outcomes as probable as the scores say: cross-validation prefers no change."""
    tried = [
        fit_calibration(SoftmaxHead(TAGS), *overconfident(12, seed=seed, factor=1.0))
        for seed in range(30)
    ]
    assert any(fitted is not None and not fitted.steps for fitted in tried)


def test_one_label_is_worse_than_the_other() -> None:
    """Gold of B is thrown away at random: only an offset of that label can tell."""
    scores, documents, units = overconfident(600, seed=3, factor=1.0)
    generator = np.random.default_rng(0)
    spoilt = [
        document.with_entities(
            e for e in document.entities if e.label == "A" or generator.random() < 0.3
        )
        for document in documents
    ]
    fitted = fit_calibration(SoftmaxHead(TAGS), scores, spoilt, units)
    assert fitted is not None
    assert "label" in fitted.steps
    assert fitted.calibration.labels["B"] < fitted.calibration.labels["A"] - 0.5


def test_too_little_to_fit() -> None:
    head = SoftmaxHead(TAGS)
    scores, documents, units = overconfident(2, seed=0)
    assert fit_calibration(head, scores, documents, units) is None
    scores, documents, units = overconfident(100, seed=0)
    nothing_right = [Document(d.text, id=d.id) for d in documents]
    assert fit_calibration(head, scores, nothing_right, units) is None
    for scope in (Scope(complete=False), Scope(("A",)), Scope(("A", "B"), unknown=((0, 1),))):
        in_part = [Document(d.text, d.entities, scope=scope) for d in documents]
        assert fit_calibration(head, scores, in_part, units) is None


def test_a_scope_of_all_that_the_model_finds_leaves_nothing_open() -> None:
    head = SoftmaxHead(TAGS)
    scores, documents, units = overconfident(100, seed=0)
    named = [Document(d.text, d.entities, scope=Scope(("A", "B", "C"))) for d in documents]
    assert fit_calibration(head, scores, named, units) == fit_calibration(
        head, scores, documents, units
    )


def test_labels_that_the_model_does_not_know() -> None:
    """They are missed, and no reason to fail."""
    scores, documents, units = overconfident(100, seed=0)
    strange = [
        d.with_entities((*d.entities, Entity(0, 8, "NEW"))) if i % 2 else d
        for i, d in enumerate(documents)
    ]
    assert fit_calibration(SoftmaxHead(TAGS), scores, strange, units) is not None
