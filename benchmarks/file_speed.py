"""From a file of texts to a file of entities, against the graph alone.

    python benchmarks/file_speed.py MODEL [--backend onnx-int8] [--lines 100000] [--rounds 3]

MODEL is a folder that `nertune export` has seen. The texts are sentences of peoples' training file,
as often as it takes. `graph`: their windows, cut and padded before, through the graph with all
threads. `file to file`: `nertune predict MODEL --file … -o ….jsonl`, a process of its own, start
included. In turn; medians. Tokens are counted without padding and without [CLS] and [SEP].
Writes benchmarks/results/file-speed.json.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import describe_machine, load_documents, take_turns, write_result

from nertune.inference.predictor import Predictor
from nertune.models.graphs.tagger import GraphTagger
from nertune.tokens.grouping import sorted_batches
from nertune.tokens.padding import PaddedWindows, pad_windows

CHUNK = 512  # documents that are sorted by length together, as `predict` does it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--backend", default="onnx-int8")
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    sentences = itertools.cycle(load_documents("train", 2000))
    documents = list(itertools.islice(sentences, arguments.lines))
    predictor = Predictor.load(arguments.model, device="cpu", backend=arguments.backend)
    computer = predictor.computer
    assert isinstance(computer, GraphTagger)
    chunks: list[list[PaddedWindows]] = []
    tokens = 0
    for start in range(0, len(documents), CHUNK):
        batches, count = cut(predictor, documents[start : start + CHUNK])
        chunks.append(batches)
        tokens += count

    def graph() -> None:
        for batches in chunks:
            computer.emit_batches(
                lambda b: computer.emitter(b.piece_ids_BL, b.attention_BL), batches
            )

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "texts.txt", Path(folder) / "tagged.jsonl"
        source.write_text("".join(f"{d.text}\n" for d in documents), encoding="utf-8")
        command = [sys.executable, "-m", "nertune", "predict", arguments.model]
        command += ["--file", str(source), "--output", str(target), "--device", "cpu"]
        command += ["--backend", arguments.backend]

        def file_to_file() -> None:
            subprocess.run(command, check=True, env=os.environ)

        seconds = take_turns({"graph": graph, "file to file": file_to_file}, arguments.rounds)
        written = sum(1 for _ in target.open(encoding="utf-8"))
    if written != len(documents):
        sys.exit(f"{written} lines were written, not {len(documents)}")
    middle = {name: statistics.median(taken) for name, taken in seconds.items()}
    result: dict[str, Any] = {
        "backend": arguments.backend, "lines": arguments.lines, "tokens": tokens,
        "rounds": arguments.rounds, "machine": describe_machine(),
        "tokens_per_second": {name: round(tokens / taken) for name, taken in middle.items()},
        "share": round(middle["graph"] / middle["file to file"], 3),
    }  # fmt: skip
    write_result("file-speed", result)


def cut(predictor: Predictor, documents: list[Any]) -> tuple[list[PaddedWindows], int]:
    """Batches of windows as `predict` makes them, and how many tokens they hold."""
    windows, tokens = [], 0
    for index, document in enumerate(documents):
        encoding, own = predictor.segmenter.segment(document, index)
        windows += own
        tokens += encoding.num_pieces
    lengths = [len(window.piece_ids) for window in windows]
    batches = sorted_batches(lengths, budget_tokens=predictor.computer.batch_tokens)[::-1]
    pad_id = predictor.segmenter.tokenizer.pad_id
    return [pad_windows([windows[i] for i in batch], pad_id=pad_id) for batch in batches], tokens


if __name__ == "__main__":
    main()
