"""Does tagging cost the same for each text of a thousand and of a hundred thousand? And the start?

    python benchmarks/growth.py streaming [--backend onnx-int8] [--sizes 1000 10000 100000]
    python benchmarks/growth.py start [--rounds 5]

`streaming`: texts come from a generator (sentences of peoples' training file, over and over, in a
fresh order each time), and the results are counted and dropped, each size in a process of its own.
Characters per second without loading, and the process's peak memory. `start`: from nothing to the
first tagged text in a process of its own, in turn with transformers' pipeline on the same weights:
seconds and peak memory. The model is the bundled encoder with a random head. Writes
benchmarks/results/tagging-streaming-BACKEND.json or tagging-start.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from machine import describe_machine, load_documents, write_result

TEXT = "本报北京讯"
STARTS = {
    "nertune torch": "from nertune import Predictor; "
    "Predictor.load({model!r}, device='cpu').tag({text!r})",
    "nertune onnx": "from nertune import Predictor; "
    "Predictor.load({model!r}, backend='onnx').tag({text!r})",
    "transformers pipeline": "from transformers import pipeline; "
    "pipeline('token-classification', {model!r}, device='cpu')({text!r})",
    "nothing but import torch": "import torch",
}
_PEAK = (
    "\nfrom nertune.experiments.record import peak_memory_bytes; print(peak_memory_bytes('cpu'))"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("streaming", "start"))
    parser.add_argument("--backend", default="onnx-int8", choices=("torch", "onnx", "onnx-int8"))
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a size, in a process of its own
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(stream(int(arguments.one), arguments.backend)))
        return
    if arguments.part == "start":
        write_result("tagging-start", start(arguments.rounds))
        return
    found = {}
    for size in arguments.sizes:
        command = [sys.executable, __file__, "streaming", "--one", str(size)]
        command += ["--backend", arguments.backend]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        found[size] = json.loads(done.stdout.splitlines()[-1])
        print(size, found[size], file=sys.stderr)
    result = {"backend": arguments.backend, "machine": describe_machine(), "texts": found}
    write_result(f"tagging-streaming-{arguments.backend}", result)


def stream(size: int, backend: str) -> dict[str, Any]:
    """Tag so many texts as they come."""
    from tagging_speed import make_predictor, with_emitter

    from nertune.experiments.record import peak_memory_bytes
    from nertune.models.graphs.onnx import OnnxEmitter
    from nertune.models.graphs.quantization import quantize
    from nertune.models.graphs.tracing import write_onnx

    texts = [document.text for document in load_documents("train", 2000)]
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        predictor = make_predictor("bundled", texts[:10], Path(folder))
        if backend != "torch":
            write_onnx(predictor.tagger.emitter, graph)
            if backend == "onnx-int8":
                quantize(graph, graph.with_name("model-int8.onnx"))
                graph = graph.with_name("model-int8.onnx")
            emitter = OnnxEmitter(graph, quantized=backend == "onnx-int8")
            predictor = with_emitter(predictor, emitter)
        for _ in predictor.tag_texts(texts[:512]):
            pass
        started, units, entities = time.perf_counter(), 0, 0
        for document in predictor.tag_texts(_endless(texts, size)):
            units += len(document.text)
            entities += len(document.entities)
        seconds = time.perf_counter() - started
    return {"characters": units, "entities": entities, "seconds": round(seconds, 2),
            "characters_per_second": round(units / seconds),
            "peak_mib": round(peak_memory_bytes("cpu") / 2**20)}  # fmt: skip


def _endless(texts: list[str], size: int) -> Iterator[str]:
    generator = random.Random(1)
    order: list[str] = []
    for _ in range(size):
        if not order:
            order = generator.sample(texts, len(texts))
        yield order.pop()


def start(rounds: int) -> dict[str, Any]:
    """Seconds and peak memory from nothing to the first entities."""
    from tagging_speed import make_predictor

    from nertune.data.corpus import save_documents
    from nertune.export.onnx import export

    documents = load_documents("train", 50)
    with tempfile.TemporaryDirectory() as folder:
        make_predictor("bundled", [d.text for d in documents], Path(folder))
        model = Path(folder) / "model"
        save_documents(Path(folder) / "dev.jsonl", documents)
        export(model, dev=str(Path(folder) / "dev.jsonl"), rounds=1)
        seconds: dict[str, list[float]] = {name: [] for name in STARTS}
        peaks: dict[str, list[float]] = {name: [] for name in STARTS}
        for number in range(rounds + 1):
            for name, code in STARTS.items():
                program = code.format(model=str(model), text=TEXT) + _PEAK
                started = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, "-c", program], capture_output=True, check=True, text=True
                )
                if number:  # the first one fills the disk's cache
                    seconds[name].append(time.perf_counter() - started)
                    peaks[name].append(int(done.stdout.split()[-1]) / 2**20)
    return {
        "machine": describe_machine(), "rounds": rounds,
        "start": {name: {"seconds": round(statistics.median(seconds[name]), 2),
                         "peak_mib": round(statistics.median(peaks[name]))} for name in STARTS},
    }  # fmt: skip


if __name__ == "__main__":
    main()
