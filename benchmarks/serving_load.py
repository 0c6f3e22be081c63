"""The service under load: its capacity, and what happens at a multiple of it.

    python benchmarks/serving_load.py [--model FOLDER] [--times 2] [--seconds 120] [--clients 50]

Starts `nertune serve` in a process of its own on this machine, and asks it from this one. Texts are
of 1 to 5,000 characters, cut from peoples' test file; each request holds one. Without --model it
serves two adapters of the bundled encoder with random weights.

1. Alone: `predict`'s tokens, here characters, per second on the texts, in the server's place.
2. Closed loop: a few clients, each of which asks again when it is answered; after a 503 it waits a
   moment. The best number of clients gives the capacity.
3. Open loop: requests leave at fixed times, at `--times` the capacity, whatever comes back, over at
   most `--clients` connections (a request that finds none free counts as late, and is told).

Goodput counts the characters of answers with status 200. The bound on waiting is the longest wait
and three full batches at the measured capacity. Writes benchmarks/results/serving_load.json.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import torch
from machine import describe_machine, load_documents, prepare_encoder, settings_for, write_result

from nertune.artifacts.save import Description, save_model
from nertune.inference.predictor import Predictor
from nertune.labels.tagset import TagSet
from nertune.models.build import build_segmenter, build_tagger, build_tokenizer
from nertune.serving.limits import Limits
from nertune.types import Document

LABELS = ("PERSON", "LOCATION", "ORGANIZATION", "TIME")
LONGEST = 5_000
CLOSED_CLIENTS = (2, 4, 8)
PAUSE_SECONDS = 0.05  # of a closed-loop client after a 503


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", help="a tagger's folder; repeatable")
    parser.add_argument("--times", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--clients", type=int, default=50)
    arguments = parser.parse_args()
    texts = make_texts(400)
    with tempfile.TemporaryDirectory() as folder:
        models = arguments.model or make_models(Path(folder), texts)
        alone = characters_per_second(models[0], texts[:40])
        result = asyncio.run(measure(models, texts, alone, arguments))
    write_result("serving_load", result)


def make_texts(number: int) -> list[str]:
    """Texts of 1 to `LONGEST` characters, all lengths alike, cut from one long text."""
    source = "".join(document.text for document in load_documents("test", 3_000))
    dice = random.Random(1)
    lengths = [dice.randint(1, LONGEST) for _ in range(number)]
    begins = [dice.randrange(len(source) - length) for length in lengths]
    return [source[a : a + n] for a, n in zip(begins, lengths, strict=True)]


def make_models(folder: Path, texts: list[str]) -> list[str]:
    """Two adapters of the bundled encoder with random weights."""
    models = []
    for seed in (1, 2):
        encoder = prepare_encoder("bundled", folder)
        settings = settings_for(encoder, "lora")
        torch.manual_seed(seed)
        documents = tuple(Document(text) for text in texts[:20])
        tokenizer = build_tokenizer(settings, documents, "char")
        tagset = TagSet.from_labels(LABELS)
        tagger = build_tagger(settings, tagset, tokenizer).eval()
        with torch.no_grad():
            for name, parameter in tagger.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.02)
            # So large that nearly nothing is found, as in most texts of a trained one.
            classifier = tagger.emitter.model.base_model.model.classifier
            classifier.modules_to_save.default.bias[tagset.tags.index("O")] += 3.0
        predictor = Predictor(tagger, build_segmenter(tagger, tokenizer, "char"), tagset)
        path = folder / f"model-{seed}"
        save_model(path, predictor, Description.from_settings(settings, encoder))
        models.append(str(path))
    return models


def characters_per_second(model: str, texts: list[str]) -> float:
    """What `predict` does with the same texts, in the same number of threads."""
    predictor = Predictor.load(model, device="cpu")
    list(predictor.tag_texts(texts[:4]))
    rates = []
    for _ in range(3):
        started = time.perf_counter()
        list(predictor.tag_texts(texts))
        rates.append(sum(map(len, texts)) / (time.perf_counter() - started))
    return statistics.median(rates)


@dataclass
class Tally:
    """What came back."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of accepted requests
    characters: int = 0  # of accepted requests
    late: int = 0

    def add(self, status: str, seconds: float, text: str) -> None:
        self.statuses[status] += 1
        if status == "200":
            self.seconds.append(seconds)
            self.characters += len(text)

    def to_dict(self, taken: float) -> dict[str, Any]:
        ranked = sorted(self.seconds) or [0.0]
        return {
            "statuses": dict(self.statuses),
            "seconds": round(taken, 1),
            "p50_seconds": round(ranked[len(ranked) // 2], 3),
            "p99_seconds": round(ranked[min(len(ranked) - 1, int(len(ranked) * 0.99))], 3),
            "characters_per_second": round(self.characters / taken, 1),
            "answered_per_second": round(len(self.seconds) / taken, 2),
            "late": self.late,
        }


async def ask(http: httpx.AsyncClient, text: str, model: str, tally: Tally) -> str:
    started = time.perf_counter()
    try:
        answer = await http.post("/v1/tag", json={"text": text, "model": model})
        status = str(answer.status_code)
    except httpx.HTTPError as error:
        status = type(error).__name__
    tally.add(status, time.perf_counter() - started, text)
    return status


async def closed_loop(
    http: httpx.AsyncClient, texts: list[str], names: list[str], clients: int, seconds: float
) -> dict[str, Any]:
    tally = Tally()
    started = time.perf_counter()

    async def client(number: int) -> None:
        dice = random.Random(number)
        while time.perf_counter() - started < seconds:
            if await ask(http, dice.choice(texts), dice.choice(names), tally) != "200":
                await asyncio.sleep(PAUSE_SECONDS)

    await asyncio.gather(*map(client, range(clients)))
    return {"clients": clients, **tally.to_dict(time.perf_counter() - started)}


async def open_loop(
    http: httpx.AsyncClient, texts: list[str], names: list[str], rate: float, arguments: Any
) -> dict[str, Any]:
    """Requests at fixed times; waiting for a free client is not part of a request's seconds."""
    tally, dice = Tally(), random.Random(7)
    free = asyncio.Semaphore(arguments.clients)
    running: set[asyncio.Task[None]] = set()

    async def send(text: str, model: str) -> None:
        if free.locked():
            tally.late += 1
        async with free:
            await ask(http, text, model, tally)

    started = time.perf_counter()
    number = 0
    while (due := number / rate) < arguments.seconds:
        await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
        task = asyncio.create_task(send(dice.choice(texts), dice.choice(names)))
        running.add(task)
        task.add_done_callback(running.discard)
        number += 1
    sent = time.perf_counter() - started
    if running:
        await asyncio.wait(running)
    return {"sent_per_second": round(number / sent, 2), **tally.to_dict(sent)}


async def measure(
    models: list[str], texts: list[str], alone: float, arguments: argparse.Namespace
) -> dict[str, Any]:
    named = [f"m{i}={model}" for i, model in enumerate(models)]
    process, url = start(named)
    try:
        limits = httpx.Limits(max_connections=arguments.clients)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120) as http:
            names = [name.partition("=")[0] for name in named]
            part = max(5.0, min(30.0, arguments.seconds / 4))
            await closed_loop(http, texts, names, 4, part)  # so that memory has grown
            loops = [await closed_loop(http, texts, names, n, part) for n in CLOSED_CLIENTS]
            best = max(loops, key=lambda loop: loop["characters_per_second"])
            before = await observe(http, process.pid)
            rate = arguments.times * best["answered_per_second"]
            loaded = await open_loop(http, texts, names, rate, arguments)
            after = await observe(http, process.pid)
    finally:
        process.terminate()
        process.wait(60)
    capacity = best["characters_per_second"]
    batch_seconds = after["batch_tokens"] / max(after["tokens_per_second"], 1.0)
    bound = Limits().wait_seconds + 3 * batch_seconds
    return {
        "machine": describe_machine(),
        "models": len(models),
        "texts": f"1 to {LONGEST} characters",
        "predict_characters_per_second": round(alone, 1),
        "closed_loop": loops,
        "saturation_against_predict": round(capacity / alone, 3),
        "open_loop": {"times": arguments.times, "clients": arguments.clients, **loaded},
        "goodput_against_capacity": round(loaded["characters_per_second"] / capacity, 3),
        "full_batch_seconds": round(batch_seconds, 3),
        "bound_seconds": round(bound, 3),
        "p99_against_bound": round(loaded["p99_seconds"] / bound, 3),
        "memory_mib": [before["memory_mib"], after["memory_mib"]],
        "memory_growth": round(after["memory_mib"] / before["memory_mib"] - 1, 4),
        "exit_code": process.returncode,
    }


def start(models: list[str]) -> tuple[subprocess.Popen[str], str]:
    code = "from nertune.cli.commands import main; main()"
    threads = str(torch.get_num_threads())
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (it is the process's)
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", *models, "--port", "0", "--device", "cpu",
         "--threads", threads],
        stderr=log, text=True, env={**os.environ, "OMP_NUM_THREADS": threads},
    )  # fmt: skip
    while process.poll() is None:
        time.sleep(0.2)
        log.seek(0)
        if found := re.search(r" on (http://\S+)", log.read()):
            return process, found[1]
    log.seek(0)
    sys.exit(f"the server ended: {log.read()}")


async def observe(http: httpx.AsyncClient, pid: int) -> dict[str, float]:
    """Memory of the process, and its batches."""
    text = (await http.get("/metrics")).text
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    tokens = _metric(text, "nertune_batch_tokens_sum")
    seconds = _metric(text, "nertune_batch_seconds_sum")
    return {
        "memory_mib": round(int(found[1]) / 1024, 1) if found else 0.0,
        "tokens_per_second": tokens / max(seconds, 1e-9),
        "batch_tokens": _metric(text, "nertune_full_batch_tokens"),
    }


def _metric(text: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


if __name__ == "__main__":
    main()
