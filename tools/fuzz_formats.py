"""Reads damaged files: each must give documents or a `NertuneError`, soon and in little memory.

    python tools/fuzz_formats.py                      # every format, 10 seconds each
    python tools/fuzz_formats.py --seconds 600 conll  # one of them, for ten minutes

The files are what nertune writes itself, with bytes changed, deleted, repeated, swapped or cut off,
and with what breaks parsers put in between. Each case has a number: `--first N --cases 1` runs it
again. Needs the extras `parquet` and `spacy` for these formats; without one its format is left out.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nertune.data.corpus import load_with, save_with
from nertune.data.formats import Format, ReadOptions, WriteOptions, all_formats
from nertune.errors import MissingDependencyError, NertuneError
from nertune.types import Document, Entity

__all__ = ["Outcome", "damage", "fuzz", "readable", "samples"]

SECONDS = 20  # that one file may take; it has a few kilobytes
_FACTOR, _FLOOR = 10, 32 << 20  # of the file's size, and bytes that any reader may take
_BREAKERS = (
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n", b"\n\n", b"\t", b" ", b"\\", b'"', b"'"),
    *(b"{", b"}", b"[", b"]", b",", b":", b"|", b";", b"#", b"<", b">", b"&", b"-", b"_", b"*"),
    *(b"null", b"true", b"NaN", b"-1", b"1e999", b"0.5", b"9" * 5000, b"18446744073709551616"),
    *(b"\\ud83d", b"\xed\xa0\xbd", b"\xf0\x9f\x98\x80", b"\xe2\x80\xa8", b"e\xcc\x81"),
    *(b"[" * 3000, b"{" * 3000, b'{"a":' * 2000, b"<a>" * 2000, b"O\tO", b"B-X", b"-DOCSTART-"),
    *(b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"<![CDATA[", b"]]>", b"<!--", b"PK\x03\x04"),
    *(b"#Text=", b"1-1\t0-1\ta", b"#T_SP=", b"T1\tX 0 1\ta", b"1|t|", b"1|a|", b"# text = "),
)


@dataclass
class Outcome:
    """What became of the cases of a format."""

    read: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)


def readable() -> list[Format]:
    """The formats that can be read and written."""
    return [format for format in all_formats() if format.reads and format.writes]


def samples() -> list[Document]:
    """Documents with all that a format may have to hold."""
    text = "王小明 🎉 lives\tin São Paulo (巴西).\nHe's 42 & <b>"
    words, position = [], 0
    for word in text.split():
        position = text.index(word, position)
        words.append((position, position + len(word)))
        position += len(word)
    entities = (
        Entity(0, 3, "PER", 0.5),
        Entity(15, 24, "LOC"),
        Entity(19, 24, "地点"),
        Entity.of_fragments([(0, 3), (15, 18)], "X"),
    )
    first = Document(text, entities, "d-1", tuple(words), {"id": "d-1", "n": [1, None]})
    plain = Document("来自上海", (Entity(2, 4, "LOC"),), "d-2", tuple((i, i + 1) for i in range(4)))
    return [first, plain, Document("nothing here", (), "d-3", ((0, 7), (8, 12)))]


def damage(data: bytes, chance: random.Random) -> bytes:
    """A file with one to four faults."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at, other = (chance.randint(0, len(found)) for _ in range(2))
        a, b = min(at, other), max(at, other)
        kind = chance.randrange(8)
        if kind == 0 and at < len(found):
            found[at] = chance.randrange(256)
        elif kind == 1:
            del found[a : min(b, a + chance.choice((1, 8, 10_000)))]
        elif kind == 2:
            found[a:a] = found[a : a + chance.choice((1, 16, 200))] * chance.choice((1, 2, 50))
        elif kind == 3:
            del found[at:]
        elif kind == 4:
            size = chance.choice((1, 4, 30))
            found[a : a + size], found[b : b + size] = found[b : b + size], found[a : a + size]
        elif kind == 5:
            digits = [i for i, byte in enumerate(found) if byte in b"0123456789"]
            if digits:
                found[(i := chance.choice(digits)) : i + 1] = str(
                    chance.choice((0, 7, 99))
                ).encode()
        else:
            found[at:at] = chance.choice(_BREAKERS)
    return bytes(found)


def fuzz(
    format: Format, folder: Path, cases: range, until: Callable[[], bool] = lambda: False
) -> Outcome:
    """Read damaged files of a format.

    Args:
        format: the format.
        folder: for files.
        cases: numbers of the cases to run; each is the same every time.
        until: stops before the last.
    """
    outcome = Outcome()
    options = WriteOptions(scores=True, tokenize=_words)
    target = folder / f"whole{(format.suffixes or ('.x',))[0]}"
    fitted = [format.fit(document, options).document for document in samples()]
    save_with(target, [d for d in fitted if d is not None], options, format=format.name)
    for number in cases:
        if until():
            break
        chance = random.Random(f"{format.name} {number}")
        path = folder / f"damaged{target.suffix}"
        if target.is_dir():
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(target, path)
            victim = chance.choice(sorted(p for p in path.rglob("*") if p.is_file()))
        else:
            path.write_bytes(target.read_bytes())
            victim = path
        victim.write_bytes(damage(victim.read_bytes(), chance))
        problem = _try(format, path, outcome, number)
        if problem:
            outcome.failures.append(f"{format.name}, case {number}: {problem}")
    return outcome


def _words(text: str) -> list[tuple[int, int]]:
    return [(i, i + 1) for i, character in enumerate(text) if not character.isspace()]


def _try(format: Format, path: Path, outcome: Outcome, number: int) -> str:
    """What is wrong with how a file is read; empty where nothing is."""
    how = ReadOptions(offsets="codepoint") if number % 2 else ReadOptions()
    measured = number % 10 == 0
    before = signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(SECONDS)
    if measured:
        tracemalloc.start()
    try:
        load_with(path, how, format="auto" if number % 5 == 0 else format.name)
        outcome.read += 1
    except NertuneError:
        outcome.refused += 1
    except BaseException:  # whatever it is, it should have been a NertuneError
        if isinstance(sys.exc_info()[1], KeyboardInterrupt):
            raise
        return traceback.format_exc(limit=-4)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        peak = tracemalloc.get_traced_memory()[1] if measured else 0
        tracemalloc.stop()
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    allowed = _FLOOR + _FACTOR * sum(file.stat().st_size for file in files)
    return f"takes {peak:,} bytes, {allowed:,} are allowed" if peak > allowed else ""


def _too_slow(signum: int, frame: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} seconds")


def main() -> int:
    """Run it; the exit code is 1 if any case failed."""
    parser = argparse.ArgumentParser(description="Reads damaged files of each format.")
    parser.add_argument("formats", nargs="*", help="all by default")
    parser.add_argument("--seconds", type=float, default=10, help="for each format (10)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, default=10**9, help="at most so many")
    given = parser.parse_args()
    failed = 0
    for format in readable():
        if given.formats and format.name not in given.formats:
            continue
        end = time.monotonic() + given.seconds
        with tempfile.TemporaryDirectory() as folder:
            cases = range(given.first, given.first + given.cases)
            try:
                found = fuzz(format, Path(folder), cases, lambda end=end: time.monotonic() > end)
            except MissingDependencyError as error:
                print(f"{format.name}: left out: {error}")
                continue
        count = found.read + found.refused + len(found.failures)
        print(
            f"{format.name}: {count} damaged files, {found.read} read, {found.refused} refused, "
            f"{len(found.failures)} failed",
            flush=True,
        )
        for failure in found.failures[:5]:
            print(failure, flush=True)
        failed += len(found.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
