"""How much of a batch is text and how much padding: length buckets against random batches of 16.

    python benchmarks/padding.py

The batches that `nertune train` makes of each training set, in the bundled encoder's pieces
(weibo, resume and cluener lie beside peoples in the folder that NERTUNE_DATA names). What is left
of 1 is what packing sequences without padding could save. Writes benchmarks/results/padding.json.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from machine import settings_for, write_result

from nertune.data.corpus import load_corpus
from nertune.labels.tagset import TagSet
from nertune.models.build import build_segmenter, build_tagger, build_tokenizer
from nertune.tokens.grouping import epoch_batches
from nertune.training.examples import prepare_examples

SETS = ("peoples/train", "weibo/train.conll", "resume/train.conll", "cluener/train.conll")
BUDGETS = (512, 1024, 4096)
RANDOM = 16


def main() -> None:
    data = os.environ.get("NERTUNE_DATA")
    if not data:
        sys.exit("set NERTUNE_DATA to the folder that holds peoples/, weibo/, resume/, cluener/")
    found = {}
    for name in SETS:
        lengths = piece_lengths(Path(data) / name)
        batches: dict[str, list[list[int]]] = {
            str(budget): epoch_batches(lengths, budget_tokens=budget, seed=1, epoch=1)
            for budget in BUDGETS
        }
        order = np.random.default_rng(1).permutation(len(lengths)).tolist()
        batches[f"random {RANDOM}"] = [
            order[start : start + RANDOM] for start in range(0, len(order), RANDOM)
        ]
        found[name.split("/")[0]] = {
            way: round(sum(lengths) / sum(len(b) * max(lengths[i] for i in b) for b in made), 3)
            for way, made in batches.items()
        }
    print(json.dumps(found, indent=1))
    write_result("padding", {"text in a batch": found})


def piece_lengths(path: Path) -> list[int]:
    """Of every training window, [CLS] and [SEP] counted."""
    documents = load_corpus(path).documents
    settings = settings_for("mini-zh", "frozen")
    tagset = TagSet.from_labels(e.label for d in documents for e in d.entities)
    tokenizer = build_tokenizer(settings, documents, "char")
    tagger = build_tagger(settings, tagset, tokenizer)
    examples = prepare_examples(documents, build_segmenter(tagger, tokenizer, "char"), tagger.head)
    return [len(window.piece_ids) for window in examples.windows]


if __name__ == "__main__":
    main()
