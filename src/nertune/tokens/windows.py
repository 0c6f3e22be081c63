"""Long documents: overlapping windows for the encoder, each unit owned by one of them.

Nothing is ever truncated. Where two windows overlap, the units in the first half of the overlap
belong to the earlier window and the rest to the later one, so every unit is read with context on
both sides. Emissions of the owned units, put one behind the other, are the document's emissions:
there is one decode per document, and each unit enters the training loss once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise

from nertune.errors import ConfigError
from nertune.tokens.tokenizer import Encoding, Tokenizer, encode_document
from nertune.tokens.units import Unit
from nertune.types import Document

__all__ = ["Segmenter", "Window", "cut_windows", "open_segmenter"]


@dataclass(frozen=True, slots=True)
class Window:
    """One input of the encoder.

    Attributes:
        document: index of its document.
        piece_ids: tokens with the special ones around them.
        positions: for each owned unit the index of its first token in `piece_ids`.
        owned_end: index behind the last token of the last owned unit.
        first_unit: index of the first owned unit in the document's `Encoding.units`.
        is_first, is_last: whether the owned units begin or end the document.
    """

    document: int
    piece_ids: list[int]
    positions: list[int]
    owned_end: int
    first_unit: int
    is_first: bool
    is_last: bool

    @property
    def num_units(self) -> int:
        """How many units it owns."""
        return len(self.positions)


def cut_windows(
    encoding: Encoding, tokenizer: Tokenizer, *, max_pieces: int, stride: int, document: int = 0
) -> list[Window]:
    """Cut one document's tokens into windows.

    A unit is never cut; one of more tokens than fit in a window keeps its first ones.

    Args:
        encoding: the document in tokens.
        tokenizer: gives the special tokens.
        max_pieces: the longest window, special tokens counted.
        stride: how many tokens neighbouring windows share.
        document: the document's index, passed on.

    Returns:
        The windows in order; none for a document without tokens.

    Raises:
        ValueError: no token fits, or the stride leaves no way forward.
    """
    prefix, suffix = tokenizer.prefix_ids, tokenizer.suffix_ids
    capacity = max_pieces - len(prefix) - len(suffix)
    if capacity < 1 or not 0 <= stride < capacity:
        raise ValueError(
            f"windows of {max_pieces} tokens with stride {stride} leave no room: expected "
            f"max_pieces > {len(prefix) + len(suffix)} and 0 <= stride < {max(capacity, 1)}"
        )
    lengths = list(map(len, encoding.piece_ids))
    if 0 < sum(lengths) <= capacity:  # one window, as a rule
        positions = list(accumulate(lengths, initial=len(prefix)))
        ids = [*prefix, *chain.from_iterable(encoding.piece_ids), *suffix]
        return [Window(document, ids, positions, positions.pop(), 0, True, True)]
    piece_ids = [ids[:capacity] for ids in encoding.piece_ids]
    ranges = list(_ranges([len(ids) for ids in piece_ids], capacity, stride))
    # The middle of an overlap parts the owners.
    borders = [0, *((b[0] + a[1] + 1) // 2 for a, b in pairwise(ranges))]
    borders.append(len(piece_ids))
    windows = []
    for (first, last), owned_first, owned_last in zip(ranges, borders, borders[1:], strict=False):
        if owned_first == owned_last:
            continue
        begin_at = list(
            accumulate((len(ids) for ids in piece_ids[first:last]), initial=len(prefix))
        )
        windows.append(
            Window(
                document=document,
                piece_ids=[*prefix, *(i for ids in piece_ids[first:last] for i in ids), *suffix],
                positions=begin_at[owned_first - first : owned_last - first],
                owned_end=begin_at[owned_last - first],
                first_unit=owned_first,
                is_first=owned_first == 0,
                is_last=owned_last == len(piece_ids),
            )
        )
    return windows


def _ranges(lengths: Sequence[int], capacity: int, stride: int) -> Iterator[tuple[int, int]]:
    """Unit ranges of at most `capacity` tokens, neighbours sharing about `stride` tokens."""
    first, num_units = 0, len(lengths)
    while first < num_units:
        last, used = first, 0
        while last < num_units and used + lengths[last] <= capacity:
            used += lengths[last]
            last += 1
        yield first, last
        if last == num_units:
            return
        following, shared = last, 0
        while following > first + 1 and shared + lengths[following - 1] <= stride:
            following -= 1
            shared += lengths[following]
        first = following


@dataclass(frozen=True, slots=True)
class Segmenter:
    """How a model reads a document: its units, tokens and windows. Stored with the model.

    Attributes:
        tokenizer: units to tokens.
        unit: what is labelled.
        max_pieces: the longest window, special tokens counted.
        stride: tokens that neighbouring windows share.
    """

    tokenizer: Tokenizer
    unit: Unit
    max_pieces: int
    stride: int

    def segment(self, document: Document, index: int = 0) -> tuple[Encoding, list[Window]]:
        """A document's units and windows; `index` is stored in the windows."""
        encoding = encode_document(document, self.tokenizer, self.unit)
        windows = cut_windows(
            encoding,
            self.tokenizer,
            max_pieces=self.max_pieces,
            stride=self.stride,
            document=index,
        )
        return encoding, windows


def open_segmenter(tokenizer: Tokenizer, unit: Unit, *, longest: int, stride: int) -> Segmenter:
    """How a model reads text with windows of a length.

    Args:
        tokenizer: units to tokens.
        unit: what is labelled.
        longest: tokens of a window, special ones counted.
        stride: tokens that neighbouring windows share; below 0: a quarter of a window.

    Raises:
        ConfigError: a window has no room for text, or no more than the stride.
    """
    room = longest - len(tokenizer.prefix_ids) - len(tokenizer.suffix_ids)
    shared = room // 4 if stride < 0 else stride
    if room < 1 or shared >= room:
        raise ConfigError(
            f"model.max_pieces = {longest} with model.stride = {shared} leaves no room: each "
            f"window holds {max(room, 0)} tokens besides the special ones"
        )
    return Segmenter(tokenizer, unit, max_pieces=longest, stride=shared)
