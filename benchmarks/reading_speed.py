"""How fast each format is read, in megabytes of its file a second, and in documents a second.

    python benchmarks/reading_speed.py                  # all formats, sentences of the sample
    python benchmarks/reading_speed.py jsonl --long     # of texts of about 2,000 characters

The files are made of the bundled sample corpus, repeated; each is read three times, and the median
counts. One process and one core. Beside JSON lines stands what `json.loads` alone needs for the
same file. Writes benchmarks/results/reading_speed.json (reading_speed_long.json).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from machine import describe_machine, write_result

import nertune
from nertune.data.convert import how_to_read
from nertune.data.corpus import load_with, save_with
from nertune.data.formats import WriteOptions, all_formats
from nertune.errors import MissingDependencyError
from nertune.types import Document, Entity


def _documents(count: int, *, long: bool) -> list[Document]:
    sample = nertune.read("sample:train")
    if long:
        sample = [_join(sample[i : i + 80]) for i in range(0, len(sample), 80)]
    return [sample[i % len(sample)] for i in range(count)]


def _join(parts: list[Document]) -> Document:
    text, entities = "", []
    for part in parts:
        shift = len(text)
        entities += [Entity(e.start + shift, e.end + shift, e.label) for e in part.entities]
        text += part.text
    return Document(text, tuple(entities))


def _seconds(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def main() -> int:
    """Print a line of JSON for each format."""
    parser = argparse.ArgumentParser(description="How fast each format is read.")
    parser.add_argument("formats", nargs="*", help="all by default")
    parser.add_argument("--long", action="store_true", help="texts of about 2,000 characters")
    parser.add_argument("--documents", type=int, default=0, help="20,000; 1,000 with --long")
    given = parser.parse_args()
    documents = _documents(given.documents or (1_000 if given.long else 20_000), long=given.long)
    options = WriteOptions(tokenize=lambda text: [(i, i + 1) for i in range(len(text))])
    results = {}
    for format in all_formats():
        is_asked = not given.formats or format.name in given.formats
        if not (format.reads and format.writes and is_asked):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"x{(format.suffixes or ('.x',))[0]}"
            fitted = [format.fit(document, options).document for document in documents]
            try:
                save_with(path, [d for d in fitted if d], options, format=format.name)
            except MissingDependencyError as error:
                print(f"{format.name}: left out: {error}")
                continue
            results[format.name] = _measure(path, format.name, options)
            print(format.name, json.dumps(results[format.name]), flush=True)
    if not given.formats:
        content = {"machine": describe_machine(), "formats": results}
        write_result("reading_speed" + "_long" * given.long, content)
    return 0


def _measure(path: Path, name: str, options: WriteOptions) -> dict[str, float]:
    format = next(f for f in all_formats() if f.name == name)
    how = how_to_read(format, options)
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    size = sum(file.stat().st_size for file in files)
    seconds = _seconds(lambda: load_with(path, how, format=name))
    tracemalloc.start()
    count = len(load_with(path, how, format=name).documents)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    found = {
        "megabytes": round(size / 1e6, 2),
        "megabytes_per_second": round(size / 1e6 / seconds, 2),
        "documents_per_second": round(count / seconds),
        "peak_memory_per_byte": round(peak / size, 1),
    }
    if path.suffix == ".jsonl":
        lines = path.read_text(encoding="utf-8").splitlines()
        alone = _seconds(lambda: [json.loads(line) for line in lines])
        found["json_loads_megabytes_per_second"] = round(size / 1e6 / alone, 2)
    return found


if __name__ == "__main__":
    sys.exit(main())
