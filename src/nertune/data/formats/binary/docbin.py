"""The bytes of spaCy's `DocBin`: zlib over msgpack over arrays of 64-bit attributes.

They are decoded here and not by `DocBin.from_bytes`, for two reasons. That unpacks without a limit,
and `Doc.from_array` trusts what an array says of heads and entities, so that damaged bytes can
crash the interpreter. Nothing is unpickled; objects of msgpack are plain values, since the hooks
that build numpy arrays are not used. The test compares with spaCy's own reader.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nertune.data.formats.covering import join_words
from nertune.errors import DataError, MissingDependencyError

__all__ = ["BinDocument", "DocBinFile", "GroupSpan", "Pairs", "inflate", "looks_like"]

_SPAN = struct.Struct(">QQQllll")
_FLOATS = re.compile(r"[<>|=]f[248]")
_HEAD = 256
SMALLEST_LIMIT, MOST_GROWTH = 64 << 20, 200


class Pairs(list[tuple[Any, Any]]):
    """A map whose keys no dict can hold, e.g. spaCy's `["._.", name, None, None]`."""


class GroupSpan(NamedTuple):
    """A span of a span group, in tokens, half-open."""

    first: int
    last: int
    label: str
    score: float | None


class BinDocument(NamedTuple):
    """A document of a DocBin.

    Attributes:
        text: as `Doc.text` has it.
        spans: of its words.
        entities: of `Doc.ents`, in tokens.
        is_annotated: whether any word says whether it is part of an entity.
        groups: the span groups by their keys.
        cats: categories.
        user_data: what `Doc.user_data` holds.
    """

    text: str
    spans: list[tuple[int, int]]
    entities: list[GroupSpan]
    is_annotated: bool
    groups: dict[str, list[GroupSpan]]
    cats: Any
    user_data: list[tuple[Any, Any]]


def looks_like(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a DocBin."""
    if head[:1] != b"\x78":
        return False
    try:
        start = zlib.decompressobj().decompress(head, _HEAD)
    except zlib.error:
        return False
    return b"\xa5attrs" in start[:64] and b"\xa6tokens" in start


def inflate(data: bytes, limit: int, path: Path) -> bytes:
    """What zlib packed.

    Args:
        data: the file's bytes.
        limit: the most bytes that may come out.
        path: its name, for messages.

    Raises:
        DataError: it is no zlib data, damaged, or more than that.
    """
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        told = f"expected a DocBin of spaCy, which is zlib data, but this is none ({error})"
        raise DataError(told, path=path) from error
    if len(found) > limit:
        raise DataError(
            f"its {len(data)} bytes unpack to more than {limit}: if the file can be trusted, say "
            "the option limit=MIB with as many MiB as it may need",
            path=path,
        )
    if not unpacker.eof:
        raise DataError("the zlib data is cut short: is the file whole?", path=path)
    return found


def _as_map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any] | Pairs:
    try:
        return dict(pairs)
    except TypeError:
        return Pairs(pairs)


class DocBinFile:
    """A DocBin.

    Args:
        data: its bytes, inflated.
        path: its name, for messages.

    Raises:
        DataError: the bytes are damaged.
        MissingDependencyError: spaCy is not installed.
    """

    def __init__(self, data: bytes, path: Path):
        try:
            from spacy.attrs import IDS
            from spacy.strings import StringStore
        except ImportError as error:
            purpose = "reading .spacy files"
            raise MissingDependencyError("spacy", extra="spacy", purpose=purpose) from error
        self._path = path
        message = self._unpack(data)
        if not isinstance(message, dict):
            raise self._damaged("it is no map")
        self._message: dict[Any, Any] = message
        strings = self._get("strings", list)
        if not all(isinstance(string, str) for string in strings):
            raise self._damaged('"strings" are no strings')
        self._strings: Callable[[int], str] = StringStore(strings).__getitem__
        names = {number: name for name, number in IDS.items()}
        attrs = self._get("attrs", list)
        if not attrs or not all(type(number) is int for number in attrs):
            raise self._damaged('"attrs" are no integers')
        self._columns = {names.get(number, str(number)): i for i, number in enumerate(attrs)}
        if "ORTH" not in self._columns:
            raise self._damaged("it holds no words (ORTH)")
        self._lengths = self._array("lengths", "<i4")
        self._spaces = self._array("spaces", "?")
        tokens = self._array("tokens", "<u8")
        if tokens.size % len(attrs) or (self._lengths < 0).any():
            raise self._damaged("its arrays do not fit each other")
        self._tokens = tokens.reshape(-1, len(attrs))
        if not len(self._tokens) == len(self._spaces) == self._lengths.sum(dtype=np.int64):
            raise self._damaged("its arrays do not fit each other")
        self._lists = {
            name: self._list(name) for name in ("cats", "flags", "span_groups", "user_data")
        }

    def _damaged(self, why: str) -> DataError:
        return DataError(f"this DocBin is damaged: {why}", path=self._path)

    def _unpack(self, data: Any) -> Any:
        from srsly.msgpack import unpackb

        if not isinstance(data, bytes):
            raise self._damaged("packed data is no bytes")
        try:
            return unpackb(data, raw=False, object_pairs_hook=_as_map)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise self._damaged(f"msgpack cannot be read ({error})") from error

    def _get(self, name: str, kind: type) -> Any:
        value = self._message.get(name)
        if not isinstance(value, kind):
            raise self._damaged(f'"{name}" is missing, or no {kind.__name__}')
        return value

    def _array(self, name: str, kind: str) -> NDArray[Any]:
        try:
            return np.frombuffer(self._get(name, bytes), dtype=kind)
        except ValueError as error:
            raise self._damaged(f'"{name}": {error}') from error

    def _list(self, name: str) -> list[Any]:
        """A value of each document; older files do not have all of them."""
        if name not in self._message:
            return [None] * len(self._lengths)
        found = self._get(name, list)
        if len(found) != len(self._lengths):
            raise self._damaged(f'"{name}" is not as long as there are documents')
        return list(found)

    def _string(self, number: Any) -> str:
        try:
            return self._strings(int(number))
        except (KeyError, ValueError, OverflowError) as error:
            raise self._damaged(f"the string {number} is not there") from error

    def used_attributes(self) -> list[str]:
        """The names of those that some word has; every first word begins a sentence."""
        columns = {name: self._tokens[:, column] for name, column in self._columns.items()}
        if "SENT_START" in columns:
            is_first = np.zeros(len(self._tokens) + 1, dtype=bool)
            is_first[np.cumsum(self._lengths, dtype=np.int64) - self._lengths] = True
            columns["SENT_START"] = (columns["SENT_START"] == 1) & ~is_first[:-1]
        return [name for name, column in columns.items() if column.any()]

    def documents(self) -> Iterator[BinDocument]:
        """The documents, in order.

        Raises:
            DataError: the bytes of one are damaged.
        """
        end = 0
        for number, length in enumerate(self._lengths.tolist()):
            start, end = end, end + length
            yield self._document(number, self._tokens[start:end], self._spaces[start:end].tolist())

    def _document(self, number: int, rows: NDArray[Any], spaces: list[bool]) -> BinDocument:
        words = [self._string(word) for word in rows[:, self._columns["ORTH"]].tolist()]
        flags = self._lists["flags"][number]
        if isinstance(flags, dict) and flags.get("has_unknown_spaces"):
            spaces = [True] * len(words)  # as spaCy takes them
        text, spans = join_words(words, spaces)
        entities, is_annotated = self._entities(rows)
        given = self._lists["user_data"][number]
        user_data = {} if given is None else self._unpack(given)
        if not isinstance(user_data, dict | Pairs):
            raise self._damaged("user data is no map")
        pairs = list(user_data.items()) if isinstance(user_data, dict) else list(user_data)
        groups = self._groups(self._lists["span_groups"][number], len(words))
        cats = self._lists["cats"][number]
        return BinDocument(text, spans, entities, is_annotated, groups, cats, pairs)

    def _entities(self, rows: NDArray[Any]) -> tuple[list[GroupSpan], bool]:
        """The entities as `Doc.ents` has them, and whether the words say anything."""
        if not {"ENT_IOB", "ENT_TYPE"} <= set(self._columns):
            return [], False
        roles = rows[:, self._columns["ENT_IOB"]].tolist()
        types = rows[:, self._columns["ENT_TYPE"]].tolist()
        found: list[tuple[int, int, int]] = []
        start = -1
        for i, role in enumerate([*roles, 2]):
            if role == 1 and start < 0:
                raise self._damaged("a word continues an entity that none begins")
            if role == 1:
                continue
            if start >= 0:
                found.append((start, i, types[start]))
            start = i if role == 3 else -1
        named = [(a, b, self._string(kind)) for a, b, kind in found]
        # spaCy keeps words that must not be entities as entities without a label.
        return [GroupSpan(a, b, label, None) for a, b, label in named if label], any(roles)

    def _groups(self, given: Any, num_words: int) -> dict[str, list[GroupSpan]]:
        if not given:
            return {}
        message = self._unpack(given)
        groups = {}
        if isinstance(message, list):  # of older versions: the groups name themselves
            for packed in message:
                group = self._map(packed)
                groups[str(group.get("name"))] = self._group(group, num_words)
        elif isinstance(message, dict):
            for packed, keys in message.items():
                if not isinstance(keys, list):
                    raise self._damaged("a span group has no key")
                for key in keys:
                    groups[str(key)] = self._group(self._map(packed), num_words)
        else:
            raise self._damaged("span groups are no map")
        return groups

    def _map(self, packed: Any) -> dict[Any, Any]:
        found = self._unpack(packed)
        if not isinstance(found, dict):
            raise self._damaged("a span group is no map")
        return found

    def _group(self, group: dict[Any, Any], num_words: int) -> list[GroupSpan]:
        packed = group.get("spans")
        if not isinstance(packed, list):
            raise self._damaged("a span group has no spans")
        attrs = group.get("attrs")
        scores = _numbers(attrs.get("scores") if isinstance(attrs, dict) else None)
        if len(scores) != len(packed):
            scores = [None] * len(packed)
        found = []
        for item, score in zip(packed, scores, strict=True):
            if not isinstance(item, bytes) or len(item) != _SPAN.size:
                raise self._damaged(f"a span is not {_SPAN.size} bytes")
            _, _, label, first, last, _, _ = _SPAN.unpack(item)
            if not 0 <= first < last <= num_words:
                raise self._damaged(f"a span of words [{first}, {last}) is not in its text")
            found.append(GroupSpan(first, last, self._string(label), score))
        return found


def _numbers(given: Any) -> list[float | None]:
    """Scores from 0 to 1, of a list or of a numpy array as spaCy packs it."""
    if isinstance(given, dict) and _FLOATS.fullmatch(str(given.get(b"type"))):
        packed, kind = given.get(b"data"), str(given[b"type"])
        if not isinstance(packed, bytes) or len(packed) % int(kind[-1]):
            return []
        given = np.frombuffer(packed, dtype=kind).tolist()
    if not isinstance(given, list):
        return []
    return [
        float(n) if isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n <= 1 else None
        for n in given
    ]
