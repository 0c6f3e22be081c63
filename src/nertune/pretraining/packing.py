"""Text as one long row of tokens, cut into rows of equal length without any padding.

The text is prepared in blocks, each written to disk once, so that memory stays bounded, a
resumed run finds its blocks again, and a corpus can be prepared on one machine and trained on
another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import compress, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from nertune.errors import CheckpointError, DataError
from nertune.pretraining.text import Line
from nertune.pretraining.words import Word, WordTagger, plain_words
from nertune.storage.atomic import write_text, write_whole
from nertune.storage.files import shorten
from nertune.tokens.tokenizer import EncoderTokenizer, encode_document
from nertune.tokens.units import Unit
from nertune.types import Document

__all__ = [
    "Block",
    "EncodedLine",
    "ExclusionReport",
    "LineEncoder",
    "LineSelection",
    "PreparedText",
    "RowCursor",
    "next_rows",
    "row_order",
]

Ids = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]
Tags = npt.NDArray[np.uint8]

_HASH_RANGE = 1 << 32
_NUM_EXAMPLES = 5
_CHUNK_LINES = 512  # that a word tagger may tag together

EncodedLine = tuple[list[int], list[bool], list[int]]
"""Token ids, word starts and word tags of a line; equally long."""


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of text in tokens, `[N]` each.

    Attributes:
        ids: token ids. Nothing stands between two lines: a line ends as its last word does, and
            an end token each would take a position of every forty.
        starts: where a word begins.
        tags: the word tag of each token, `2 * kind + inside`; zeros without a word tagger.
    """

    ids: Ids
    starts: Bools
    tags: Tags

    def __len__(self) -> int:
        return len(self.ids)

    def shaped(self, num_rows: int, length: int) -> Block:
        """The same as `[num_rows, length]` arrays."""
        shape = (num_rows, length)
        return Block(self.ids.reshape(shape), self.starts.reshape(shape), self.tags.reshape(shape))


class LineEncoder:
    """Lines to tokens, cut into units the way that a tagger will cut its input.

    Args:
        tokenizer: of the encoder.
        unit: `char` or `word`.
        word_share: with `char`, the share of lines in which runs of letters and digits are read
            as words, so that an encoder serves both units.
        words: gives word boundaries and tags; without one a run of letters or digits is a word,
            and so is every other character.
    """

    def __init__(
        self,
        tokenizer: EncoderTokenizer,
        unit: Unit,
        *,
        word_share: float = 0.0,
        words: WordTagger | None = None,
    ):
        self._tokenizer = tokenizer
        self._unit = unit
        self._word_share = word_share
        self._words = words
        self._kinds = {} if words is None else {tag: i for i, tag in enumerate(words.tags)}

    def encode(self, lines: Sequence[Line]) -> Iterator[EncodedLine]:
        """The tokens of each line, in order.

        Raises:
            DataError: the word tagger's words do not cover a line.
        """
        if self._words is None:
            for line in lines:
                yield self._encode(line.text, None)
            return
        for line, words in zip(lines, self._words.cut(lines), strict=True):
            if sum(length for length, _ in words) != len(line.text):
                raise DataError(f"{self._words.name} lost characters of {line.text[:40]!r}")
            yield self._encode(line.text, words)

    def _encode(self, text: str, words: Sequence[Word] | None) -> EncodedLine:
        reads_words = self._unit == "word" or _hash(text, 1) < self._word_share * _HASH_RANGE
        encoding = encode_document(
            Document(text), self._tokenizer, "word" if reads_words else "char"
        )
        starts_at, kind_at = self._spread(text, words)
        ids: list[int] = []
        starts: list[bool] = []
        tags: list[int] = []
        word = -1
        for (start, _), tokens in zip(encoding.units, encoding.piece_ids, strict=True):
            begins = starts_at[start] != word
            word = starts_at[start]
            ids += tokens
            starts += [begins, *([False] * (len(tokens) - 1))]
            kind = 2 * kind_at[start] if kind_at else 0
            inside = kind + 1 if kind_at else 0
            tags += [kind if begins else inside, *([inside] * (len(tokens) - 1))]
        return ids, starts, tags

    def _spread(self, text: str, words: Sequence[Word] | None) -> tuple[list[int], list[int]]:
        """For every character the start of its word and, with a tagger, the word's kind."""
        starts: list[int] = []
        kinds: list[int] = []
        lengths = plain_words(text) if words is None else [length for length, _ in words]
        for length in lengths:
            starts += [len(starts)] * length
        for length, tag in words or ():
            kinds += [self._kinds[tag]] * length
        return starts, kinds


def _hash(text: str, salt: int) -> int:
    """The same for the same text everywhere, 0 … 2**32 - 1."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=4, salt=bytes([salt])).digest())


@dataclass(slots=True)
class ExclusionReport:
    """What was left out since it stands in an evaluation file.

    Attributes:
        lines_seen: lines that were looked at.
        lines: of them, those that were left out.
        characters: in those lines.
        examples: the first few: `[file number, line number, text]`, shortened.
    """

    lines_seen: int = 0
    lines: int = 0
    characters: int = 0
    examples: list[list[Any]] = field(default_factory=list)

    def add(self, line: Line) -> None:
        """Count a line."""
        self.lines += 1
        self.characters += len(line.text)
        if len(self.examples) < _NUM_EXAMPLES:
            self.examples.append([line.file, line.number, shorten(line.text)])

    def plus(self, other: ExclusionReport) -> ExclusionReport:
        """Both together."""
        return ExclusionReport(
            self.lines_seen + other.lines_seen,
            self.lines + other.lines,
            self.characters + other.characters,
            (self.examples + other.examples)[:_NUM_EXAMPLES],
        )


@dataclass(frozen=True, slots=True)
class LineSelection:
    """Which lines of a text are used, and for what; chosen by their text alone.

    Attributes:
        held_out: share of lines that are kept for measuring.
        sample: share of lines that are used at all.
        excludes: whether a line must not be used, e.g. since it is an evaluation file's.
    """

    held_out: float = 0.0
    sample: float = 1.0
    excludes: Callable[[str], bool] = lambda text: False

    def is_sampled(self, text: str) -> bool:
        """Whether a line is looked at."""
        return _hash(text, 2) < self.sample * _HASH_RANGE

    def is_held_out(self, text: str) -> bool:
        """Whether a line is kept for measuring."""
        return _hash(text, 0) < self.held_out * _HASH_RANGE


class _Encodes(Protocol):
    def encode(self, lines: Sequence[Line]) -> Iterable[EncodedLine]: ...


class PreparedText:
    """The blocks of a text, on disk, made when they are first asked for.

    Args:
        folder: where the blocks lie.
        lines: opens the text behind a line: `(file number, line number)`.
        encoder: turns lines into tokens.
        block_tokens: size of a block; two are held in memory at most.
        selection: which lines are used.
        on_progress: is told how many tokens of a block are ready.

    Raises:
        DataError: the text holds no token at all.
    """

    def __init__(
        self,
        folder: Path,
        lines: Callable[[tuple[int, int]], Iterable[Line]],
        encoder: _Encodes,
        *,
        block_tokens: int,
        selection: LineSelection,
        on_progress: Callable[[int, int], None] = lambda block, tokens: None,
    ):
        self._folder = folder
        self._lines = lines
        self._encoder = encoder
        self._block_tokens = block_tokens
        self._selection = selection
        self._on_progress = on_progress
        self._loaded: dict[str, Block] = {}

    def block(self, number: int) -> Block | None:
        """Block `number`, counted from 0; `None` behind the last."""
        if number:
            before = self._header(number - 1)
            if before is None:
                self.block(number - 1)
                before = self._header(number - 1)
            if before is None or before["is_last"]:
                return None
        if self._header(number) is None:
            self._prepare(number)
        return self._load(f"block-{number:05d}")

    def held_out(self) -> Block:
        """Lines that no block holds, of the first block's stretch of text."""
        self.block(0)
        return self._load("held-out")

    def exclusions(self) -> ExclusionReport:
        """What was left out of the blocks that are ready."""
        total = ExclusionReport()
        number = 0
        while (header := self._header(number)) is not None:
            total = total.plus(ExclusionReport(**header["excluded"]))
            number += 1
        return total

    def _load(self, name: str) -> Block:
        if name not in self._loaded:
            if len(self._loaded) > 1:
                self._loaded.pop(next(key for key in self._loaded if key != "held-out"))
            path = self._folder / f"{name}.safetensors"
            try:
                tensors = load_file(path)
                self._loaded[name] = Block(
                    ids=tensors["ids"].astype(np.int32),
                    starts=tensors["starts"].astype(np.bool_),
                    tags=tensors["tags"],
                )
            except (OSError, SafetensorError, KeyError) as error:
                raise CheckpointError(
                    f"{path}: is damaged ({error}); start again with --overwrite"
                ) from error
        return self._loaded[name]

    def _header(self, number: int) -> dict[str, Any] | None:
        path = self._folder / f"block-{number:05d}.json"
        if not path.exists():
            return None
        try:
            header: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(
                f"{path}: is damaged ({error}); start again with --overwrite"
            ) from error
        return header

    def _prepare(self, number: int) -> None:
        before = self._header(number - 1) if number else None
        behind = (0, 0) if before is None else (before["end"][0], before["end"][1])
        block, held = _Buffer(), _Buffer()
        excluded = ExclusionReport()
        end, is_last = behind, True
        for line, is_excluded, encoded in self._encoded(behind):
            if len(block) >= self._block_tokens:
                is_last = False
                break
            end = (line.file, line.number)
            excluded.lines_seen += is_excluded or encoded is not None
            if is_excluded:
                excluded.add(line)
            if encoded is not None:
                is_held = self._selection.is_held_out(line.text)
                (held if is_held else block).add(*next(encoded))
                self._on_progress(number, len(block))
        if not number and not len(block):
            raise DataError("the text holds no line that can be trained on")
        self._folder.mkdir(parents=True, exist_ok=True)
        if not number:
            self._write("held-out", held)
        self._write(f"block-{number:05d}", block)
        header = {"end": list(end), "is_last": is_last, "pieces": len(block), "lines": block.lines,
                  "excluded": asdict(excluded)}  # fmt: skip
        write_text(self._folder / f"block-{number:05d}.json", json.dumps(header) + "\n")

    def _encoded(
        self, behind: tuple[int, int]
    ) -> Iterator[tuple[Line, bool, Iterator[EncodedLine] | None]]:
        """Lines, whether they are excluded, and what gives a line's tokens if it is used.

        Many are handed to the encoder together, since a word tagger may be a model that wants
        batches. Those for which a block has no room are handed over again for the next block.
        """
        lines = iter(self._lines(behind))
        while chunk := list(islice(lines, _CHUNK_LINES)):
            sampled = [self._selection.is_sampled(line.text) for line in chunk]
            excluded = [
                is_sampled and self._selection.excludes(line.text)
                for line, is_sampled in zip(chunk, sampled, strict=True)
            ]
            used = [s and not e for s, e in zip(sampled, excluded, strict=True)]
            encoded = iter(self._encoder.encode(list(compress(chunk, used))))
            for line, is_excluded, is_used in zip(chunk, excluded, used, strict=True):
                yield line, is_excluded, encoded if is_used else None

    def _write(self, name: str, buffer: _Buffer) -> None:
        tensors = buffer.tensors()
        write_whole(self._folder / f"{name}.safetensors", lambda part: save_file(tensors, part))


class _Buffer:
    """Grows a block line by line, in compact arrays."""

    _CHUNK = 1 << 16

    def __init__(self) -> None:
        self.lines = 0
        self._size = 0
        self._ids: list[int] = []
        self._starts: list[bool] = []
        self._tags: list[int] = []
        self._done: list[tuple[npt.NDArray[Any], ...]] = []

    def __len__(self) -> int:
        return self._size

    def add(self, ids: list[int], starts: list[bool], tags: list[int]) -> None:
        if not ids:
            return
        self._ids += ids
        self._starts += starts
        self._tags += tags
        self._size += len(ids)
        self.lines += 1
        if len(self._ids) >= self._CHUNK:
            self._compact()

    def _compact(self) -> None:
        self._done.append(
            (
                np.array(self._ids, dtype=np.int32),
                np.array(self._starts, dtype=np.uint8),
                np.array(self._tags, dtype=np.uint8),
            )
        )
        self._ids, self._starts, self._tags = [], [], []

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        self._compact()
        ids, starts, tags = (np.concatenate(column) for column in zip(*self._done, strict=True))
        if not len(ids) or ids.max() < 1 << 16:
            ids = ids.astype(np.uint16)
        return {"ids": ids, "starts": starts, "tags": tags}


@dataclass(frozen=True, slots=True)
class RowCursor:
    """Where in the text a run stands: rows of `length` tokens of a shuffled block.

    Attributes:
        epoch: times that the whole text has been gone through.
        block: which block.
        row: rows of it that are used.
        length: tokens of text in a row.
    """

    epoch: int = 0
    block: int = 0
    row: int = 0
    length: int = 0


@lru_cache(maxsize=2)
def row_order(
    num_rows: int, seed: int, epoch: int, block: int, length: int
) -> npt.NDArray[np.int64]:
    """The order of a block's rows: the same for the same arguments, on every machine."""
    return np.random.default_rng([seed, epoch, block, length]).permutation(num_rows)


def next_rows(
    text: PreparedText, cursor: RowCursor, *, num_rows: int, length: int, seed: int
) -> tuple[Block, RowCursor]:
    """Take `num_rows` rows of `length` tokens from where the cursor stands.

    Returns:
        The rows, as a block of `[num_rows, length]` arrays, and the cursor behind them.

    Raises:
        DataError: no block is as long as a row.
    """
    if length != cursor.length:
        cursor = RowCursor(cursor.epoch, cursor.block, 0, length)
    parts: list[Block] = []
    missing = num_rows
    empty = 0
    while missing:
        block = text.block(cursor.block)
        if block is None:
            cursor = RowCursor(cursor.epoch + 1, 0, 0, length)
            empty += 1
            if empty > 1 and not parts:
                raise DataError(
                    f"the text is shorter than one row of {length} tokens: give more text, or set "
                    "a smaller length"
                )
            continue
        total = len(block) // length
        chosen = row_order(total, seed, cursor.epoch, cursor.block, length)
        chosen = chosen[cursor.row : cursor.row + missing]
        if len(chosen):
            where = chosen[:, None] * length + np.arange(length)
            parts.append(Block(block.ids[where], block.starts[where], block.tags[where]))
            missing -= len(chosen)
        row = cursor.row + len(chosen)
        done = row >= total
        cursor = RowCursor(cursor.epoch, cursor.block + done, 0 if done else row, length)
    return _stack(parts), cursor


def _stack(parts: list[Block]) -> Block:
    return Block(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.starts for part in parts]),
        np.concatenate([part.tags for part in parts]),
    )
