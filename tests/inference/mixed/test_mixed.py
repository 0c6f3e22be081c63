"""Models that share batches find what each finds alone."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from helpers.mixed import MIXED, OWN
from helpers.tiny import SENTENCES
from nertune.errors import NertuneError
from nertune.inference.mixed import MultiPredictor
from nertune.inference.predictor import Predictor
from nertune.types import Document

LONG = Document("".join(d.text for d in SENTENCES) * 3)
TEXTS = (*SENTENCES, LONG, Document(""), Document(" "), Document("北"), Document("New York"))


def expected(folder: Path, documents: Sequence[Document], **options: str) -> list[Document]:
    return list(Predictor.load(folder, device="cpu", **options).tag_documents(documents))


def assert_same(found: Sequence[Document | NertuneError], wanted: Sequence[Document]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert isinstance(one, Document), one
        assert [e.key for e in one.entities] == [e.key for e in other.entities]
        for a, b in zip(one.entities, other.entities, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-5)


@pytest.fixture(scope="module")
def alone(mixed: Mapping[str, Path], own: Mapping[str, Path]) -> dict[str, list[Document]]:
    """What each model finds in `TEXTS` by itself."""
    return {name: expected(folder, TEXTS) for name, folder in {**mixed, **own}.items()}


@pytest.fixture(scope="module")
def served(base: Path, mixed: Mapping[str, Path], own: Mapping[str, Path]) -> MultiPredictor:
    return MultiPredictor.load(base, {**mixed, **own}, device="cpu")


def test_every_model_finds_in_mixed_batches_what_it_finds_alone(
    served: MultiPredictor, alone: Mapping[str, list[Document]]
) -> None:
    jobs = [(name, i) for name in alone for i in range(len(TEXTS))]
    random.Random(0).shuffle(jobs)
    found = served.tag([TEXTS[i] for _, i in jobs], [name for name, _ in jobs])
    assert_same(found, [alone[name][i] for name, i in jobs])
    assert all(any(d.entities for d in documents) for documents in alone.values())


def test_what_mixes_and_what_does_not_is_said(served: MultiPredictor) -> None:
    assert served.names == (*MIXED, *OWN)
    for name, (labels, _) in MIXED.items():
        told = served.describe(name)
        assert (told.mixes, told.why_not) == (True, ""), told
        assert set(told.labels) == set(labels)
    for name, (why_not, _) in OWN.items():
        told = served.describe(name)
        assert not told.mixes
        assert why_not in told.why_not
    methods = {name: served.describe(name).method for name in served.names}
    assert methods == {
        "plain": "lora", "crf": "lora", "io": "lora", "many": "lora", "rslora": "rslora",
        "adalora": "adalora", "frozen": "frozen", "dora": "dora", "pissa": "lora", "ia3": "ia3",
        "full": "full", "lstm": "lstm", "prompt": "prompt_tuning",
    }  # fmt: skip
