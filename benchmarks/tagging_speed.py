"""Tagging: nertune's backends against transformers' pipeline and plain ONNX Runtime, in turn.

    python benchmarks/tagging_speed.py bundled|6x384|bert-base|lstm [--sentences 200] [--rounds 5]
    python benchmarks/tagging_speed.py bert-base --device cuda --sentences 4000
    python benchmarks/tagging_speed.py lstm --flair PYTHON   # of an environment that has flair

The same weights everywhere (a random head that says O mostly, as a trained one does), the same
threads, sentences of peoples' test file in the order of the file. Tokens are pieces without padding
and without [CLS] and [SEP]; the peers cut texts at the tokenizer's limit and are credited with all
of them. The outputs are compared: where both cut a text into the same pieces, every piece must get
the same tag, or nothing is written. The int8 graph is not the one that `nertune export` admits,
which may keep layers in float32. OpenVINO computes in bfloat16 where the processor has it. On a GPU
ONNX Runtime and OpenVINO stay out, and the pipeline's batches are larger. Writes
benchmarks/results/tagging-SHAPE[-cuda].json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import (
    SHAPES,
    describe_machine,
    load_documents,
    matrix_rate,
    prepare_encoder,
    rates,
    settings_for,
    take_turns,
    write_result,
)
from safetensors.torch import save_file

from nertune.artifacts.exported import under_head
from nertune.artifacts.save import Description, save_model
from nertune.inference.predictor import Predictor
from nertune.labels.tagset import TagSet
from nertune.models.build import build_segmenter, build_tagger, build_tokenizer
from nertune.models.graphs.onnx import OnnxEmitter
from nertune.models.graphs.openvino import OpenVinoEmitter
from nertune.models.graphs.quantization import quantize
from nertune.models.graphs.tracing import write_onnx
from nertune.storage.telemetry import forbid_telemetry

LABELS = ("PERSON", "LOCATION", "ORGANIZATION", "TIME")
BATCHES = (4, 8, 16, 32)
GPU_BATCHES = (16, 64, 256)
OPTIMUM_BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=("bundled", *SHAPES, "lstm"))
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--flair", help="the python of an environment that has flair; with lstm")
    arguments = parser.parse_args()
    documents = load_documents("test", arguments.sentences)
    texts = [document.text for document in documents]
    with tempfile.TemporaryDirectory() as folder:
        result = run(arguments, texts, Path(folder))
    suffix = "" if arguments.device == "cpu" else f"-{arguments.device}"
    write_result(f"tagging-{arguments.shape}{suffix}", result)


def run(arguments: argparse.Namespace, texts: list[str], folder: Path) -> dict[str, Any]:
    device: str = arguments.device
    predictor = make_predictor(arguments.shape, texts, folder)
    graphs = folder / "model" / "onnx"
    backends = {"nertune torch": predictor}
    if device == "cpu":
        graphs.mkdir()
        write_onnx(predictor.tagger.emitter, graphs / "model.onnx")
        quantize(graphs / "model.onnx", graphs / "model-int8.onnx")
        exact, small = graphs / "model.onnx", graphs / "model-int8.onnx"
        openvino = OpenVinoEmitter(exact)
        backends["nertune onnx"] = with_emitter(predictor, OnnxEmitter(exact))
        backends["nertune onnx-int8"] = with_emitter(predictor, OnnxEmitter(small, quantized=True))
        backends[f"nertune openvino {openvino.precision}"] = with_emitter(predictor, openvino)
    predictor.tagger.to(device)
    documents = [document(text) for text in texts]
    encodings, emissions = predictor.emissions(documents)
    tokens = sum(encoding.num_pieces for encoding in encodings)
    cases: dict[str, Callable[[], object]] = {}
    agreement: dict[str, float] = {}
    for name, backend in backends.items():
        cases[name] = lambda backend=backend: list(backend.tag_texts(texts))
        cases[f"{name}, one by one"] = lambda backend=backend: [backend.tag(t) for t in texts]
        agreement[name] = same_tags(emissions, backend.emissions(documents)[1])
    if arguments.shape != "lstm":
        peers, agreement["pipeline"] = peer_cases(
            folder / "model", graphs, texts, predictor, device
        )
        cases |= peers
    if arguments.flair:
        peers, agreement["flair"] = flair_cases(
            arguments.flair, predictor, texts, emissions, folder
        )
        cases |= peers
    for name in ("nertune onnx", "pipeline", "flair"):
        if agreement.get(name, 1.0) != 1.0:
            sys.exit(
                f"{name} gives other tags than nertune's torch: {agreement[name]} are the same"
            )
    seconds = take_turns(cases, arguments.rounds)
    found = rates(seconds, tokens)
    for peer in ("pipeline", "flair"):
        if peers := [name for name in found if name.startswith(peer)]:
            best = max(found[name]["tokens_per_second"] for name in peers)
            for row in found.values():
                row[f"against_best_{peer}"] = round(row["tokens_per_second"] / best, 2)
    result: dict[str, Any] = {"shape": arguments.shape, "sentences": len(texts), "tokens": tokens,
              "rounds": arguments.rounds, "machine": describe_machine(), "rates": found,
              "same_tags": agreement}  # fmt: skip
    if arguments.shape in SHAPES:
        layers, width, _, inner = SHAPES[arguments.shape]
        ceiling = matrix_rate(width, inner, device=device)
        work = 2 * layers * (4 * width * width + 2 * width * inner)  # a token, attention left out
        result["matrix_gflops_per_second"] = round(ceiling / 1e9, 1)
        for row in found.values():
            row["share_of_matrix_rate"] = round(row["tokens_per_second"] * work / ceiling, 3)
    return result


def make_predictor(shape: str, texts: list[str], folder: Path) -> Predictor:
    """A tagger with random weights, saved so that the peers load the same ones."""
    is_lstm = shape == "lstm"
    encoder = "" if is_lstm else prepare_encoder(shape, folder / "encoder")
    sections = {"model": {"emitter": "lstm"}} if is_lstm else {}
    settings = settings_for(encoder or "mini-zh", "full", **sections)
    torch.manual_seed(1)
    tokenizer = build_tokenizer(settings, tuple(map(document, texts)), "char")
    tagset = TagSet.from_labels(LABELS)
    tagger = build_tagger(settings, tagset, tokenizer).eval()
    with torch.no_grad():
        head = tagger.emitter.classifier if is_lstm else tagger.emitter.model.classifier
        head.bias[tagset.tags.index("O")] += 1.0
    predictor = Predictor(tagger, build_segmenter(tagger, tokenizer, "char"), tagset)
    save_model(folder / "model", predictor, Description.from_settings(settings, encoder))
    return predictor


def document(text: str) -> Any:
    from nertune.types import Document

    return Document(text)


def with_emitter(predictor: Predictor, emitter: Any) -> Predictor:
    return Predictor(
        under_head(emitter, predictor.tagger.head), predictor.segmenter, predictor.tagset
    )


def same_tags(emissions: list[Any], others: list[Any]) -> float:
    """Share of units whose likeliest tag is the same."""
    pairs = zip(emissions, others, strict=True)
    same = [a.argmax(axis=1) == b.argmax(axis=1) for a, b in pairs if len(a)]
    return round(float(np.concatenate(same).mean()), 5)


def peer_cases(
    model: Path, graphs: Path, texts: list[str], predictor: Predictor, device: str
) -> tuple[dict[str, Callable[[], object]], float]:
    """What users run today, and the share of their tags that are nertune's too."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

    tokenizer = AutoTokenizer.from_pretrained(model)
    module = AutoModelForTokenClassification.from_pretrained(model).eval()
    pipe = pipeline("token-classification", model=module, tokenizer=tokenizer, device=device,
                    ignore_labels=[])  # fmt: skip
    cases: dict[str, Callable[[], object]] = {
        "pipeline, one by one": lambda: [pipe(t) for t in texts]
    }
    for size in BATCHES if device == "cpu" else GPU_BATCHES:
        cases[f"pipeline, batch {size}"] = lambda size=size: pipe(texts, batch_size=size)
    if device == "cpu":
        cases["onnxruntime as optimum calls it"] = like_optimum(graphs, texts, tokenizer)
    return cases, pipeline_agreement(pipe, texts, predictor)


def flair_cases(
    python: str, predictor: Predictor, texts: list[str], emissions: list[Any], folder: Path
) -> tuple[dict[str, Callable[[], object]], float]:
    """flair with the same BiLSTM, in a process of its own, and the share of its tags."""
    weights = folder / "lstm.safetensors"
    save_file(predictor.tagger.emitter.state_dict(), weights)
    encodings = [predictor.segmenter.segment(document(text))[0] for text in texts]
    sentences = [
        [text[start:end] for start, end in encoding.units]
        for text, encoding in zip(texts, encodings, strict=True)
    ]
    task = {
        "weights": str(weights), "characters": predictor.segmenter.tokenizer.characters,  # type: ignore[attr-defined]
        "tags": predictor.tagset.tags, "sentences": sentences, "threads": torch.get_num_threads(),
    }  # fmt: skip
    worker = subprocess.Popen(
        [python, str(Path(__file__).with_name("flair_peer.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def ask(line: str) -> str:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(line + "\n")
        worker.stdin.flush()
        return worker.stdout.readline()

    print(ask(json.dumps(task)).strip(), file=sys.stderr)
    found = json.loads(ask("check"))
    ours = [[predictor.tagset.tags[i] for i in e.argmax(axis=1)] for e in emissions]
    pairs = [(a, b) for x, y in zip(ours, found, strict=True) for a, b in zip(x, y, strict=True)]
    cases = {f"flair, batch {size}": lambda size=size: ask(f"tag {size}") for size in BATCHES}
    return {**cases, "flair, one by one": lambda: ask("tag 1")}, round(
        sum(a == b for a, b in pairs) / len(pairs), 5
    )


def like_optimum(graphs: Path, texts: list[str], tokenizer: Any) -> Callable[[], object]:
    """Batches in the order of the texts, padded, all threads for each."""
    forbid_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        str(graphs / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )

    def run() -> None:
        for first in range(0, len(texts), OPTIMUM_BATCH):
            batch = tokenizer(texts[first : first + OPTIMUM_BATCH], padding=True, truncation=True,
                              return_tensors="np", return_offsets_mapping=True)  # fmt: skip
            (logits_BLK,) = session.run(
                None, {"piece_ids": batch["input_ids"], "attention": batch["attention_mask"]}
            )
            logits_BLK.argmax(axis=-1)

    return run


def pipeline_agreement(pipe: Any, texts: list[str], predictor: Predictor) -> float:
    """Over texts that both cut into the same pieces; 1 where everything is right."""
    same = total = 0
    for text in texts:
        _, windows = predictor.segmenter.segment(document(text))
        if [window.piece_ids for window in windows] != [pipe.tokenizer(text)["input_ids"]]:
            continue  # a number or a Latin word, or more than a window
        _, (emissions_UK,) = predictor.emissions([document(text)])
        found = pipe(text)
        tags = [predictor.tagset.tags[i] for i in emissions_UK.argmax(axis=1)]
        same += sum(a == row["entity"] for a, row in zip(tags, found, strict=True))
        total += len(tags)
    return round(same / total, 5) if total else 1.0


if __name__ == "__main__":
    main()
