"""Texts that are nearly equal: the Jaccard similarity of their sets of character shingles.

Candidates come from MinHash signatures in bands (Broder, 1997; Leskovec, Rajaraman & Ullman,
*Mining of Massive Datasets*, ch. 3). Those whose signatures, of which 8 bits are kept (Li & König,
2010), make a similarity at the threshold unlikely are left out; that of the others is computed
exactly. A pair at the threshold is missed with a probability of about 0.001.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from math import ceil, log, log1p

import numpy as np
from numpy.typing import NDArray

from nertune.errors import ConfigError

__all__ = ["SimilarTexts", "check_threshold", "normalize"]

_SHINGLE = 3  # characters
_MOST_HASHES = 320
_NUM_KEPT = 128  # of the hashes, to estimate similarities
_MOST_MISSED = 1e-3
_MOST_COMPARED = 20  # earlier members of one bucket: keeps the time linear
_TOLERANCE = 0.14  # four standard errors of a similarity of 0.8 that 128 hashes estimate
_CHUNK = 1 << 17  # characters that are hashed at a time
# White space, and characters that are not seen.
_IGNORED = re.compile(
    "[\\s\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]+"
)
_U64 = np.uint64


def normalize(text: str) -> str:
    """A text as it is compared: NFKC, case folded, without white space and invisible characters."""
    return _IGNORED.sub("", unicodedata.normalize("NFKC", text).casefold())


def check_threshold(threshold: float) -> None:
    """Refuse a similarity from which on texts count as nearly equal.

    Raises:
        ConfigError: it is not in [0.5, 1].
    """
    if not 0.5 <= threshold <= 1:
        raise ConfigError(f"--near {threshold:g}: expected a similarity from 0.5 to 1")


class SimilarTexts:
    """Finds earlier texts that are similar to one; those that are to be found are added.

    A text shares a bucket with every text that it is likely to be similar to. Of each bucket the
    20 texts that were added last are compared, so that many copies cost no more than their number.

    Args:
        texts: what `normalize` gives; best without repetitions.
        threshold: the Jaccard similarity from which on two texts are similar, in [0.5, 1].

    Raises:
        ConfigError: the threshold is out of range.
    """

    def __init__(self, texts: Sequence[str], threshold: float):
        check_threshold(threshold)
        self._texts = texts
        self._threshold = threshold
        self._signatures, keys = _hash_texts(texts, *_choose_bands(threshold))
        buckets = _find_buckets(keys)
        rows, bands = np.nonzero(buckets >= 0)
        self._buckets = buckets[rows, bands]
        self._first = np.searchsorted(rows, np.arange(len(texts) + 1))
        self._members: dict[int, list[int]] = {}
        self._shingles = lru_cache(maxsize=4096)(self._cut)

    def add(self, index: int) -> None:
        """Let a text be found from now on."""
        for bucket in self._buckets_of(index):
            self._members.setdefault(bucket, []).append(index)

    def find(self, index: int, skip: Callable[[int], bool] | None = None) -> Iterator[int]:
        """The texts added before that are similar to one, by their index.

        Args:
            index: of the text.
            skip: texts that are not compared; asked before each.
        """
        members = (self._members.get(b, ())[-_MOST_COMPARED:] for b in self._buckets_of(index))
        found = {other for some in members for other in some}
        for other in self._likeliest(index, sorted(found)):
            if skip is not None and skip(other):
                continue
            if self.similarity(index, other) >= self._threshold:
                yield other

    def _likeliest(self, index: int, others: list[int]) -> list[int]:
        """Those that may be similar to a text, the likeliest first."""
        if not others:
            return []
        candidates = np.array(others)
        same = (self._signatures[candidates] == self._signatures[index]).sum(axis=1)
        likely = same >= (self._threshold - _TOLERANCE) * self._signatures.shape[1]
        order = np.argsort(-same[likely], kind="stable")
        likeliest: list[int] = candidates[likely][order].tolist()
        return likeliest

    def similarity(self, one: int, other: int) -> float:
        """The Jaccard similarity of two texts, in [0, 1]."""
        first, second = self._shingles(one), self._shingles(other)
        shared = len(first & second)
        return shared / (len(first) + len(second) - shared)

    def _buckets_of(self, index: int) -> list[int]:
        found: list[int] = self._buckets[self._first[index] : self._first[index + 1]].tolist()
        return found

    def _cut(self, index: int) -> frozenset[str]:
        text = _pad(self._texts[index])
        return frozenset(text[i : i + _SHINGLE] for i in range(len(text) - _SHINGLE + 1))


def _pad(text: str) -> str:
    return text.ljust(_SHINGLE, "\0")


def _choose_bands(threshold: float) -> tuple[int, int]:
    """The number of bands and the rows of each: as many rows as miss few enough pairs."""
    if threshold == 1:
        return 1, 8
    for rows in range(16, 1, -1):
        bands = ceil(log(_MOST_MISSED) / log1p(-(threshold**rows)))
        if bands * rows <= _MOST_HASHES:
            return bands, rows
    raise AssertionError(threshold)


def _find_buckets(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """`[num_texts, num_bands]`: the bucket of each text in each band; -1 where it is alone."""
    buckets = np.empty(keys.shape, dtype=np.int64)
    behind = 0
    for band in range(keys.shape[1]):
        values, inverse, counts = np.unique(keys[:, band], return_inverse=True, return_counts=True)
        inverse = inverse.reshape(-1)
        buckets[:, band] = np.where(counts[inverse] > 1, inverse + behind, -1)
        behind += len(values)
    return buckets


def _hash_texts(
    texts: Sequence[str], num_bands: int, num_rows: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """The MinHash values of texts: 8 bits of each, and one key for each band.

    Returns:
        `[num_texts, num_kept]`; and `[num_texts, num_bands]`, equal where all values of the band
        are.
    """
    size = (num_bands * num_rows, 2)
    drawn = np.random.default_rng(20_111).integers(0, 2**63, size=size, dtype=_U64)
    bits = np.empty((len(texts), min(len(drawn), _NUM_KEPT)), dtype=np.uint8)
    keys = np.zeros((len(texts), num_bands), dtype=_U64)
    done = 0
    for chunk in _chunks(texts):
        hashes, starts = _hash_shingles(chunk)
        here = slice(done, done + len(chunk))
        for number, (factor, addend) in enumerate(drawn):
            values = hashes * (factor | _U64(1)) + addend
            values ^= values >> _U64(31)
            least = np.minimum.reduceat(values, starts)
            if number < _NUM_KEPT:
                bits[here, number] = least & _U64(0xFF)
            band = number // num_rows
            keys[here, band] = keys[here, band] * _U64(0x9E3779B97F4A7C15) + least
        done += len(chunk)
    return bits, keys


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in map(_pad, texts):
        if chunk and size + len(text) > _CHUNK:
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text)
    if chunk:
        yield chunk


def _hash_shingles(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The hashes of all shingles of some texts, one after the other, and where each begins."""
    data = "".join(texts).encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(data, dtype="<u4").astype(_U64)
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    ends = np.cumsum(lengths)
    hashes = points[: len(points) - _SHINGLE + 1].copy()
    for i in range(1, _SHINGLE):
        hashes = hashes * _U64(0x100000001B3) + points[i : len(points) - _SHINGLE + 1 + i]
    hashes ^= hashes >> _U64(30)
    hashes *= _U64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> _U64(27)
    inside = np.ones(len(points), dtype=bool)  # but for shingles that reach into the next text
    for i in range(1, _SHINGLE):
        inside[ends - i] = False
    starts = np.concatenate(([0], np.cumsum(lengths - _SHINGLE + 1)[:-1]))
    return hashes[inside[: len(hashes)]], starts
