"""The same text is cut, tagged and scored the same, whatever carried it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers.tiny import write_jsonl
from nertune.config.run import parse_settings
from nertune.data.corpus import load_corpus
from nertune.evaluation.metrics import score
from nertune.experiments.train import train
from nertune.inference.predictor import Predictor
from nertune.types import Document

Tagged = list[tuple[str, str]]
NAMES = {
    "PER": ["@mira_k", "J.R.", "O'Neill", "Elena"],
    "LOC": ["U.S.", "St.-Denis", "Oslo"],
    "ORG": ["AT&T", "Rock'n'Roll", "Yahoo!", "Q-Tel"],
}
KOREAN = {"PER": ["정도윤", "한소라"], "LOC": ["광주", "속초"], "ORG": ["한빛전자"]}


def english(random_: random.Random) -> Tagged:
    def name(label: str) -> tuple[str, str]:
        return random_.choice(NAMES[label]), f"B-{label}"

    return random_.choice(
        [
            [name("PER"), ("joined", "O"), name("ORG"), (",", "O"), ("41.5", "O"), ("km", "O")],
            [name("PER"), ("flew", "O"), ("to", "O"), name("LOC"), ("don't", "O")],
            [("the", "O"), name("ORG"), ("of", "O"), name("LOC"), (".", "O")],
        ]
    )


def korean(random_: random.Random) -> Tagged:
    tagged: Tagged = []
    for label, particle in (("PER", "씨는 "), ("LOC", "에서 "), ("ORG", "에 갔다")):
        name = random_.choice(KOREAN[label])
        tagged += [(c, f"{'I' if i else 'B'}-{label}") for i, c in enumerate(name)]
        tagged += [(c, "O") for c in particle]
    return tagged


def write_columns(path: Path, sentences: Sequence[Tagged]) -> Path:
    lines = ["".join(f"{token}\t{tag}\n" for token, tag in s) for s in sentences]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("language", "unit"), [(english, "word"), (korean, "char")])
def test_columns_jsonl_and_raw_text_score_the_same(
    language: object, unit: str, tmp_path: Path
) -> None:
    random_ = random.Random(0)
    sentences = [language(random_) for _ in range(60)]  # type: ignore[operator]
    settings = parse_settings(
        {
            "run": {"dir": str(tmp_path / "run"), "device": "cpu", "threads": 1},
            "data": {"train": str(write_columns(tmp_path / "train.conll", sentences[:40]))},
            "model": {"emitter": "lstm"},
            "lstm": {"embedding_size": 32, "hidden_size": 32, "layers": 1},
            "train": {"epochs": 20, "learning_rate": 0.02, "batch_tokens": 200},
        }
    )
    train(settings)
    predictor = Predictor.load(settings.run.dir, device="cpu")
    assert predictor.segmenter.unit == unit

    columns = load_corpus(write_columns(tmp_path / "test.conll", sentences[40:])).documents
    assert columns[0].tokens is not None
    jsonl = load_corpus(write_jsonl(tmp_path / "test.jsonl", columns)).documents
    raw = [Document(document.text) for document in columns]
    found = [list(predictor.tag_documents(documents)) for documents in (columns, jsonl, raw)]
    keys = [[[e.key for e in d.entities] for d in documents] for documents in found]
    assert keys[0] == keys[1] == keys[2]
    scores = [score(columns, documents, num_resamples=0).micro.f1 or 0.0 for documents in found]
    assert scores[0] == scores[1] == scores[2]
    assert scores[0] > 0.9
