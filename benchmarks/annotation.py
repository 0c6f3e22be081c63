"""What `nertune annotate` promises: the same bytes after any kill, its speed, and its memory.

    python benchmarks/annotation.py kills  MODEL TEXTS [--times 20] [--engines local ray]
    python benchmarks/annotation.py speed  MODEL TEXTS [--repeats 3] [--engines local ray]
    python benchmarks/annotation.py memory MODEL [--sizes 10000 1000000]

MODEL is a trained tagger, TEXTS a file with a text a line; `--backend onnx-int8` after an export.

`kills` annotates once undisturbed with one worker. Then it kills a worker with SIGKILL at a random
moment, and in other starts the main process, which is resumed, until each was hit so many times.
All bytes of all files must be the same.

`speed` alternates `nertune predict` with one thread, and `annotate` with one and with two workers
of one thread; reported are medians of the wall-clock seconds of whole commands, and their ratios.

`memory` annotates generated short texts and reports the largest sum of the memory (USS) of all
processes.

Writes benchmarks/results/annotation-WHAT.json. Run `speed` with nothing else on the machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from machine import describe_machine

from nertune.storage.atomic import write_json

ROOT = Path(__file__).parent.parent
MARKS = ("nertune.scale.worker", "ray::_Actor")
NAMES = "王李张刘陈杨赵黄周吴"
PLACES = ("北京", "上海", "广州", "杭州", "成都")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["kills", "speed", "memory"])
    parser.add_argument("model")
    parser.add_argument("texts", nargs="?", type=Path)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 1_000_000])
    parser.add_argument("--engines", nargs="*", default=["local", "ray"])
    parser.add_argument("--victims", nargs="*", default=["worker", "parent"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.what != "memory" and arguments.texts is None:
        parser.error("name TEXTS")
    with tempfile.TemporaryDirectory() as folder:
        found = {"kills": kills, "speed": speed, "memory": memory}[arguments.what](
            arguments, Path(folder)
        )
    path = ROOT / "benchmarks" / "results" / f"annotation-{arguments.what}.json"
    told = {k: str(v) for k, v in vars(arguments).items() if k not in ("model", "texts")}
    found = {"arguments": told, "machine": describe_machine(), **found}
    if arguments.what == "kills" and path.exists():  # what was measured of other engines stays
        earlier = json.loads(path.read_text(encoding="utf-8"))["engines"]
        found["engines"] = earlier | found["engines"]
    write_json(path, found)
    print(json.dumps(found, indent=1))


def command(arguments: argparse.Namespace, output: Path, *more: object) -> list[str]:
    own = [sys.executable, "-m", "nertune", "annotate", arguments.texts, "-o", output, "--model",
           arguments.model, "--backend", arguments.backend, "--device", "cpu", *more]  # fmt: skip
    return [str(part) for part in own]


def run(parts: list[str]) -> float:
    """The seconds of a command."""
    started = time.perf_counter()
    subprocess.run(parts, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


# Kills


def kills(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    draw = random.Random(arguments.seed)
    small = ("--shard-size", 1000)
    run(command(arguments, folder / "expected", *small, "--workers", 1))
    expected = digest(folder / "expected")
    engines = {}
    for engine in arguments.engines:
        rows: list[dict[str, Any]] = []
        how = (*small, "--workers", arguments.workers, "--engine", engine)
        seconds = run(command(arguments, folder / f"{engine}-whole", *how))
        same = digest(folder / f"{engine}-whole") == expected
        rows.append({"killed": "nothing", "same": same, "seconds": seconds})
        for victim in arguments.victims:
            number = 0
            while sum(r["hit"] for r in rows if r["killed"] == victim) < arguments.times:
                number += 1
                output = folder / f"{engine}-{victim}-{number}"
                moment = draw.uniform(0, seconds)
                hit = kill_once(command(arguments, output, *how, "--resume"), victim, moment, draw)
                run(command(arguments, output, *how, "--resume"))  # goes on, or has nothing to do
                same = digest(output) == expected
                rows.append({"killed": victim, "moment": moment, "hit": hit, "same": same})
                print(engine, rows[-1], flush=True)
        engines[engine] = {"all_same": all(row["same"] for row in rows), "runs": rows}
    return {"engines": engines}


def kill_once(parts: list[str], victim: str, moment: float, draw: random.Random) -> bool:
    """Start a command and kill something at a moment; whether there was anything to kill.

    A killed worker must not end the command.
    """
    process = subprocess.Popen(parts, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(moment)
    if victim == "parent":
        hit = process.poll() is None
        process.kill()
        process.wait()
        return hit
    workers = list(workers_of(process.pid))
    if workers:
        draw.choice(workers).kill()
    if process.wait() != 0:
        raise SystemExit("the command ended with an error after the kill of a worker")
    return bool(workers)


def workers_of(pid: int) -> Iterator[psutil.Process]:
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for process in children:
        try:
            if any(mark in " ".join(process.cmdline()) for mark in MARKS):
                yield process
        except psutil.NoSuchProcess:
            continue


def digest(folder: Path) -> str:
    """Over all that was written, names included."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ".lock":
            found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


# Speed


def speed(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    predict = [sys.executable, "-m", "nertune", "predict", arguments.model, "--file",
               arguments.texts, "--format", "jsonl", "-o", folder / "predicted.jsonl",
               "--backend", arguments.backend, "--device", "cpu"]  # fmt: skip
    numbers = [0]

    def annotate(*more: object) -> Callable[[], float]:
        def start() -> float:
            numbers[0] += 1
            return run(command(arguments, folder / str(numbers[0]), *more))

        return start

    ways: dict[str, Callable[[], float]] = {
        "predict": lambda: run([str(part) for part in predict]),
        "one": annotate("--workers", 1),
        "several": annotate("--workers", arguments.workers),
    }
    if "ray" in arguments.engines:
        ways["ray"] = annotate("--workers", arguments.workers, "--engine", "ray")
    os.environ["OMP_NUM_THREADS"] = "1"
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, start in ways.items():
            seconds[name].append(start())
            print(name, seconds[name][-1], flush=True)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    ratios = {
        "one over predict (seconds)": medians["one"] / medians["predict"],
        f"{arguments.workers} workers over one (speed)": medians["one"] / medians["several"],
    }
    if "ray" in medians:
        ratios["ray over local (seconds)"] = medians["ray"] / medians["several"]
    return {"seconds": seconds, "medians": medians, "ratios": ratios}


# Memory


def memory(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    peaks = {}
    for size in arguments.sizes:
        arguments.texts = folder / f"{size}.txt"
        write_texts(arguments.texts, size, arguments.seed)
        started = time.perf_counter()
        peak = watch(command(arguments, folder / str(size), "--workers", arguments.workers))
        peaks[size] = {"bytes": peak, "seconds": time.perf_counter() - started}
        print(size, peaks[size], flush=True)
    first, *_, last = peaks.values()
    return {"peaks": peaks, "ratio": last["bytes"] / first["bytes"]}


def watch(parts: list[str]) -> int:
    """The largest memory of a command and its children at any moment, in bytes."""
    process = subprocess.Popen(parts, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        total = 0
        try:
            own = psutil.Process(process.pid)
            for one in (own, *own.children(recursive=True)):
                total += one.memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
        peak = max(peak, total)
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"the command failed: {parts}")
    return peak


def write_texts(path: Path, number: int, seed: int) -> None:
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as stream:
        for index in range(number):
            stream.write(f"{draw.choice(NAMES)}某在{draw.choice(PLACES)}说了第{index}句话。\n")


if __name__ == "__main__":
    main()
