"""What the speed benchmarks share: the machine, its matrix rate, taking turns, models to time."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from nertune.config.run import Settings, parse_settings
from nertune.data.corpus import load_corpus
from nertune.experiments.record import software_versions
from nertune.types import Document

RESULTS = Path(__file__).parent / "results"
SHAPES = {  # layers, width, heads, inner width
    "6x384": (6, 384, 6, 1536),
    "bert-base": (12, 768, 12, 3072),
}
VOCABULARY_OF = "mini-zh"  # random encoders read text with the bundled one's tokenizer


def describe_machine() -> dict[str, Any]:
    """Processor, threads and versions."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n")
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        pass
    capability = torch.backends.cpu.get_cpu_capability()
    versions = software_versions() | {"onnxruntime": version("onnxruntime")}
    if torch.cuda.is_available():
        versions["gpu"] = torch.cuda.get_device_name()
    return {"processor": name, "vectors": capability, "cores": os.cpu_count(),
            "threads": torch.get_num_threads(), "versions": versions}  # fmt: skip


def matrix_rate(
    width: int, inner: int, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> float:
    """Floating-point operations per second of the shape's own products, the fastest of them."""
    best = 0.0
    rows, repeats = (1024, 5) if device == "cpu" else (16_384, 20)
    for a, b in ((width, width), (width, inner), (inner, width)):
        left = torch.randn(rows, a, device=device, dtype=dtype)
        right = torch.randn(a, b, device=device, dtype=dtype)
        torch.mm(left, right)
        for _ in range(repeats):
            wait(device)
            started = time.perf_counter()
            for _ in range(4):
                torch.mm(left, right)
            wait(device)
            best = max(best, 4 * 2 * rows * a * b / (time.perf_counter() - started))
    return best


def wait(device: str) -> None:
    """Until a GPU has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def take_turns(cases: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every case in every round; all cases run once before the first, untimed."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, case in cases.items():
            started = time.perf_counter()
            case()
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            taken = time.perf_counter() - started
            if number:
                seconds[name].append(taken)
            print(f"round {number}: {name}: {taken:.2f} s", file=sys.stderr)
    return seconds


def rates(seconds: Mapping[str, list[float]], tokens: int) -> dict[str, dict[str, float]]:
    """Tokens per second by the median round, with the slowest and the fastest."""
    return {
        name: {
            "tokens_per_second": round(tokens / statistics.median(taken), 1),
            "slowest": round(tokens / max(taken), 1),
            "fastest": round(tokens / min(taken), 1),
        }
        for name, taken in seconds.items()
    }


def load_documents(split: str, count: int) -> list[Document]:
    """The first documents of a split of peoples."""
    data = os.environ.get("NERTUNE_DATA")
    if not data:
        sys.exit("set NERTUNE_DATA to the folder that holds peoples/")
    return list(load_corpus(Path(data) / "peoples" / split).documents[:count])


def prepare_encoder(shape: str, folder: Path) -> str:
    """The bundled encoder's name, or the folder of a BERT of that shape with random weights."""
    if shape == "bundled":
        return VOCABULARY_OF
    from transformers import BertConfig, BertModel

    from nertune.tokens.tokenizer import load_tokenizer

    layers, width, heads, inner = SHAPES[shape]
    tokenizer = load_tokenizer(VOCABULARY_OF)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=21128, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=inner, max_position_embeddings=512,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save(folder)
    return str(folder)


def settings_for(encoder: str, tuning: str, **sections: Mapping[str, Any]) -> Settings:
    """A tagger on an encoder, in characters."""
    values: dict[str, dict[str, Any]] = {
        "run": {"name": tuning, "dir": "unused", "device": "cpu", "seed": 1},
        "data": {"train": "unused"},
        "model": {"encoder": encoder, "tuning": tuning, "unit": "char"},
    }
    for section, changes in sections.items():
        values[section] = {**values.get(section, {}), **changes}
    return parse_settings(values)


def write_result(name: str, result: Mapping[str, Any]) -> None:
    """Keep it as JSON, and show it."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, ensure_ascii=False, indent=1) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
    print(text, end="")
