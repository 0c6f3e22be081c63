"""Text to tokens: a character vocabulary for the LSTM, or any fast Hugging Face tokenizer.

Both see one unit at a time, so a unit's tokens depend on nothing but the unit and whether white
space stands before it, and a token always knows the unit that it belongs to. That takes the place
of offset arithmetic.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from nertune.errors import DataError, MissingDependencyError, TokenizerError
from nertune.tokens.units import Unit, cut_units, is_marked_character
from nertune.types import Document

__all__ = [
    "CharTokenizer",
    "EncoderTokenizer",
    "Encoding",
    "EncodingStyle",
    "Tokenizer",
    "encode_document",
    "load_tokenizer",
]

EncodingStyle = Literal["isolated", "running"]
"""`isolated`: every unit is a word of its own, as version 0.1.0 read all text. `running`: a unit is
encoded as in running text, so with the sign for a word's start (SentencePiece's `▁`, byte-level
BPE's `Ġ`) only behind white space and at the text's start, and never by that sign alone. Without
such a sign (WordPiece) both are the same."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_CACHE_LIMIT = 200_000  # units; about 40 MB


@dataclass(frozen=True, slots=True)
class Encoding:
    """A document in tokens.

    Attributes:
        units: spans of the units that have at least one token, in code points. A unit that the
            tokenizer drops (white space, control characters, …) has none and is not listed.
        piece_ids: for each such unit its token ids, at least one.
    """

    units: list[tuple[int, int]]
    piece_ids: list[list[int]]

    @property
    def num_pieces(self) -> int:
        return sum(map(len, self.piece_ids))


class Tokenizer(Protocol):
    """What turns units into token ids."""

    @property
    def vocabulary_size(self) -> int:
        """One more than the largest id: so many embeddings a model must have."""
        ...

    @property
    def pad_id(self) -> int:
        """The id that fills a batch."""
        ...

    @property
    def mask_id(self) -> int | None:
        """The id that stands for a masked token: the mask token, else the unknown one."""
        ...

    @property
    def prefix_ids(self) -> list[int]:
        """Special tokens before a window, e.g. [CLS]."""
        ...

    @property
    def suffix_ids(self) -> list[int]:
        """Special tokens behind a window, e.g. [SEP]."""
        ...

    @property
    def style(self) -> EncodingStyle:
        """How units are encoded; stored with the model."""
        ...

    def encode_units(
        self, units: Sequence[str], begins: Sequence[bool] | None = None
    ) -> list[list[int]]:
        """The token ids of each unit; empty where the tokenizer drops it.

        Args:
            units: their texts.
            begins: whether each stands behind white space or at the text's start; `None`: all do.
        """
        ...

    def fingerprint(self) -> str:
        """A sha256 over everything that decides the tokens."""
        ...

    def save(self, folder: Path) -> None:
        """Write the files from which it can be loaded again."""
        ...


def encode_document(document: Document, tokenizer: Tokenizer, unit: Unit) -> Encoding:
    """Cut a document into units and each unit into tokens.

    Example:
        With a BERT tokenizer and `unit="char"`, `"在1998"` gives four digits a token each:
        units `(0,1) (1,2) (2,3) (3,4) (4,5)`.
    """
    spans = cut_units(document, unit)
    text = document.text
    follows_space = [True, *map(str.isspace, text)]  # the first: what begins the text
    begins = [follows_space[start] for start, _ in spans]
    pieces = tokenizer.encode_units([text[start:end] for start, end in spans], begins)
    if all(pieces):
        return Encoding(units=spans, piece_ids=pieces)
    kept = [(span, ids) for span, ids in zip(spans, pieces, strict=True) if ids]
    return Encoding(units=[span for span, _ in kept], piece_ids=[ids for _, ids in kept])


class CharTokenizer:
    """One id per unit (a character; a word with `unit = "word"`), for taggers without an encoder.

    A character with marks that is no entry has the id of the character without them.

    Args:
        characters: the vocabulary; ids 0 and 1 are `[PAD]` and `[UNK]`, the rest follow in order.
            `[SPACE]` stands for every white-space character.
    """

    PAD, UNK, SPACE = "[PAD]", "[UNK]", "[SPACE]"

    def __init__(self, characters: Iterable[str]):
        special = (self.PAD, self.UNK)
        rest = dict.fromkeys(c for c in characters if c not in special)
        self.characters: tuple[str, ...] = (*special, *rest)
        # The text "[PAD]" is a word like any other, not padding.
        self._ids = {c: i for i, c in enumerate(self.characters) if c != self.PAD}

    @classmethod
    def from_documents(
        cls, documents: Iterable[Document], unit: Unit = "char", *, min_count: int = 1
    ) -> CharTokenizer:
        """The units of a training set, the most frequent first."""
        counts = Counter(
            surface
            for document in documents
            for start, end in cut_units(document, unit)
            if _is_entry(surface := document.text[start:end])
        )
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls([cls.SPACE, *(c for c, n in ordered if n >= min_count)])

    @classmethod
    def from_file(cls, path: Path, unit: Unit = "char") -> CharTokenizer:
        """Read a `chars.txt`: one entry a line.

        Raises:
            DataError: the file is missing, not UTF-8, or an entry has several characters.
        """
        try:
            lines = path.read_bytes().decode("utf-8-sig").split("\n")
        except OSError as error:
            raise DataError(f"cannot read the vocabulary: {error.strerror}", path=path) from error
        except UnicodeDecodeError as error:
            raise DataError("the vocabulary is not UTF-8", path=path) from error
        entries = []
        for number, line in enumerate(lines, 1):
            entry = line if line == "\r" else line.removesuffix("\r")
            if unit == "char" and not _is_character(entry):
                raise DataError(
                    f"got {entry[:20]!r}, expected one character (with its combining marks) or a "
                    "name like [UNK] a line",
                    path=path,
                    line=number,
                )
            if entry:
                entries.append(entry)
        if not entries:
            raise DataError("the vocabulary is empty: expected one character a line", path=path)
        return cls(entries)

    @property
    def vocabulary_size(self) -> int:
        return len(self.characters)

    @property
    def pad_id(self) -> int:
        return 0

    @property
    def mask_id(self) -> int | None:
        return 1

    @property
    def prefix_ids(self) -> list[int]:
        return []

    @property
    def suffix_ids(self) -> list[int]:
        return []

    @property
    def style(self) -> EncodingStyle:
        return "isolated"

    def encode_units(
        self, units: Sequence[str], begins: Sequence[bool] | None = None
    ) -> list[list[int]]:
        return [[self._id(unit)] for unit in units]

    def _id(self, unit: str) -> int:
        found = self._ids.get(unit)
        if found is None and unit.isspace():
            found = self._ids.get(self.SPACE)
        if found is None and is_marked_character(unit):
            found = self._ids.get(unit[0])
        return 1 if found is None else found

    def fingerprint(self) -> str:
        return hashlib.sha256("\n".join(self.characters).encode()).hexdigest()

    def save(self, folder: Path) -> None:
        (folder / "chars.txt").write_text("\n".join(self.characters) + "\n", encoding="utf-8")


def _is_character(entry: str) -> bool:
    """Whether a line of chars.txt is one character with its marks, or the name of an entry."""
    return (
        len(entry) <= 1
        or is_marked_character(entry)
        or re.fullmatch(r"[\[<]\w+[\]>]", entry) is not None
    )


def _is_entry(surface: str) -> bool:
    """Whether a unit can stand on a line of chars.txt and be read again as it was."""
    return not (
        surface.isspace()
        or "\n" in surface
        or surface.endswith("\r")
        or _LONE_SURROGATE.search(surface)
    )


class EncoderTokenizer:
    """A fast Hugging Face tokenizer, asked for one unit at a time; threads may share it.

    Args:
        backend: a `transformers` tokenizer.
        name: where it came from, for messages.
        style: how units are encoded.

    Raises:
        TokenizerError: the tokenizer is a slow (Python) one, or knows no token at all.
    """

    def __init__(self, backend: Any, name: str, style: EncodingStyle = "running"):
        if not getattr(backend, "is_fast", False):
            raise TokenizerError(
                f"{name}: its tokenizer ({type(backend).__name__}) is a slow one, which cannot "
                "tell to which word a token belongs, so labels would shift; use a model with a "
                "tokenizer.json (most BERT-like models have one)"
            )
        special_ids = set(backend.all_special_ids)
        if len(backend) <= len(special_ids):
            raise TokenizerError(
                f"{name}: its tokenizer knows nothing but {len(backend)} special tokens; expected "
                "a tokenizer.json or the vocabulary's file (e.g. vocab.txt) beside the weights"
            )
        self.backend = backend
        self.name = name
        self.style: EncodingStyle = style
        # Replaced when it is full and never emptied, so that a thread which reads it can go on.
        self._cache: dict[str | tuple[str, bool], list[int]] = {}
        self._lock = threading.Lock()
        # A unit that spells a special token ("</s>") is text; a Unigram vocabulary holds it whole.
        unknown = backend.unk_token_id
        self._plain = {} if unknown is None else dict.fromkeys(special_ids, unknown)
        self._start = _word_start(backend)
        self._lacks_word_start = _lacks_word_start(backend, self._start, style)
        self._inside: Any = None  # the same tokenizer for units that continue a word
        special: list[int] = backend("", add_special_tokens=True)["input_ids"]
        if len(special) == 2:
            self._prefix, self._suffix = special[:1], special[1:]
        else:  # e.g. a GPT-like tokenizer without specials, or one with only an end mark
            marks = [backend.cls_token_id, backend.bos_token_id]
            self._prefix = [i for i in special[:1] if i in marks]
            self._suffix = special[len(self._prefix) :]

    @property
    def vocabulary_size(self) -> int:
        return max(self.backend.get_vocab().values(), default=-1) + 1  # ids may have holes

    @property
    def pad_id(self) -> int:
        return int(self.backend.pad_token_id or 0)

    @property
    def mask_id(self) -> int | None:
        found = self.backend.mask_token_id
        found = self.backend.unk_token_id if found is None else found
        return None if found is None else int(found)

    @property
    def prefix_ids(self) -> list[int]:
        return self._prefix

    @property
    def suffix_ids(self) -> list[int]:
        return self._suffix

    @property
    def max_pieces(self) -> int | None:
        """The longest input in tokens that its authors state, if they do."""
        stated = int(min(self.backend.model_max_length, 10**9))
        return stated if stated < 10**9 else None

    def encode_units(
        self, units: Sequence[str], begins: Sequence[bool] | None = None
    ) -> list[list[int]]:
        keys: Sequence[str | tuple[str, bool]] = units
        if self._reads_running_text:
            keys = list(zip(units, begins or [True] * len(units), strict=True))
        cache = self._cache
        with contextlib.suppress(KeyError):  # as a rule, all were met before
            return [cache[key] for key in keys]
        found = {key: ids for key in dict.fromkeys(keys) if (ids := cache.get(key)) is not None}
        new = [key for key in dict.fromkeys(keys) if key not in found]
        if new:
            with self._lock:  # the tokenizer's own settings change while it encodes
                encoded = dict(zip(new, self._encode(new), strict=True))
                if len(self._cache) + len(encoded) > _CACHE_LIMIT:
                    self._cache = encoded
                else:
                    self._cache.update(encoded)
            found |= encoded
        return [found[key] for key in keys]

    @property
    def _reads_running_text(self) -> bool:
        return self.style == "running" and self._start is not None

    def _encode(self, keys: Sequence[str | tuple[str, bool]]) -> list[list[int]]:
        """The tokens of units, which are not in the cache."""
        units = [key if isinstance(key, str) else key[0] for key in keys]
        as_words = self._encode_words(units)
        if not self._reads_running_text:
            return as_words
        inside = self._encode_inside(units)
        return [
            self._choose(unit, word if key[1] else None, rest)
            for key, unit, word, rest in zip(keys, units, as_words, inside, strict=True)
        ]

    def _choose(self, unit: str, word: list[int] | None, inside: list[int]) -> list[int]:
        """A unit's tokens: of two ways to spell it, if it begins a word; else `word` is `None`."""
        assert self._start is not None
        if unit.isspace():
            return []  # the sign in the token behind it says that it was there
        ids = inside if word is None else word
        is_known = len(inside) == 1 and inside[0] not in (self._start.id, self.backend.unk_token_id)
        if len(ids) > 1 and is_known:
            return inside  # one token, where the vocabulary knows the unit without the sign alone
        if ids[:1] == [self._start.id] and self._start.sign not in unit:
            return ids[1:]
        return ids

    def _encode_words(self, units: Sequence[str]) -> list[list[int]]:
        # A lone surrogate cannot be written as UTF-8, which the tokenizer works in.
        words = [[_LONE_SURROGATE.sub("\ufffd", self._begin_word(unit))] for unit in units]
        encoded = self.backend(
            words,
            is_split_into_words=True,
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        return [[self._plain.get(i, i) for i in ids] for ids in encoded]

    def _encode_inside(self, units: Sequence[str]) -> list[list[int]]:
        if self._inside is None:
            self._inside = _without_word_start(self.backend.backend_tokenizer)
        texts = [_LONE_SURROGATE.sub("\ufffd", unit) for unit in units]
        encoded = self._inside.encode_batch_fast(texts, add_special_tokens=False)
        return [[self._plain.get(i, i) for i in found.ids] for found in encoded]

    def _begin_word(self, unit: str) -> str:
        return " " + unit if self._lacks_word_start and not unit.startswith(" ") else unit

    def fingerprint(self) -> str:
        state = json.loads(self.backend.backend_tokenizer.to_str())
        state.pop("truncation", None)
        state.pop("padding", None)
        if self._reads_running_text:
            state["style"] = self.style
        text = json.dumps(state, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def save(self, folder: Path) -> None:
        for key in ("is_local", "local_files_only"):  # how it was once fetched
            self.backend.init_kwargs.pop(key, None)
        self.backend.save_pretrained(folder)


def load_tokenizer(
    name_or_folder: str | Path, style: EncodingStyle = "running"
) -> EncoderTokenizer:
    """The fast tokenizer of a bundled encoder, a folder, or a hub name.

    Args:
        name_or_folder: where it is.
        style: how it encodes units; a trained tagger's is in its manifest.

    Raises:
        TokenizerError: there is none, or only a slow one.
        ModelError: there is no such folder, and the hub cannot be reached.
        MissingDependencyError: transformers is not installed.
    """
    from nertune.storage.encoders import reach_hub, resolve_encoder

    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingDependencyError("transformers", purpose="an encoder") from error
    location = resolve_encoder(str(name_or_folder))
    reach_hub(location)
    try:
        backend = AutoTokenizer.from_pretrained(location, use_fast=True, trust_remote_code=False)
        if _is_byte_level(backend):
            # Byte-level BPE marks a word's start by the space before it; units come without.
            backend = AutoTokenizer.from_pretrained(
                location, use_fast=True, add_prefix_space=True, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        first_line = str(error).strip().split("\n")[0]
        raise TokenizerError(
            f"{name_or_folder}: no tokenizer can be loaded from there ({first_line})"
        ) from error
    return EncoderTokenizer(backend, str(name_or_folder), style)


def _is_byte_level(backend: Any) -> bool:
    inner = getattr(backend, "backend_tokenizer", None)
    return inner is not None and "ByteLevel" in repr(inner.pre_tokenizer)


class _WordStart(NamedTuple):
    """The sign that a vocabulary has for the white space before a word, and its token's id."""

    sign: str
    id: int | None


def _word_start(backend: Any) -> _WordStart | None:
    """`▁` (SentencePiece), `Ġ` (byte-level BPE), or `None` (WordPiece, …)."""
    inner = backend.backend_tokenizer
    parts = repr(inner.pre_tokenizer) + repr(inner.normalizer)
    if "ByteLevel" in parts:
        sign = "\u0120"
    elif "Metaspace" in parts or "Prepend" in parts:
        sign = "\u2581"
    else:
        return None
    return _WordStart(sign, inner.token_to_id(sign))


def _lacks_word_start(backend: Any, start: _WordStart | None, style: EncodingStyle) -> bool:
    """Whether a word on its own is read without the sign (ModernBERT, Qwen, …)."""
    inner = backend.backend_tokenizer
    if start is None or (style == "isolated" and not _is_byte_level(backend)):
        return False
    text = "a" if inner.normalizer is None else inner.normalizer.normalize_str("a")
    if inner.pre_tokenizer is not None:
        text = inner.pre_tokenizer.pre_tokenize_str(text)[0][0]
    return not text.startswith(start.sign)


def _without_word_start(tokenizer: Any) -> Any:
    """The same tokenizer, but it puts no sign before a text."""
    from tokenizers import Tokenizer as FastTokenizer

    state = json.loads(tokenizer.to_str())
    state |= {"truncation": None, "padding": None}
    for part in ("normalizer", "pre_tokenizer"):
        state[part] = _without_prefix(state[part])
    changed = FastTokenizer.from_str(json.dumps(state))
    changed.encode_special_tokens = True  # a unit that spells a special token is text
    return changed


def _without_prefix(part: dict[str, Any] | None) -> dict[str, Any] | None:
    """A normalizer or pre-tokenizer, as in a tokenizer.json, that adds nothing before a text."""
    kind = None if part is None else part["type"]
    if part is None or kind == "Prepend":
        return None
    if kind == "Metaspace":
        return {**part, "prepend_scheme": "never"}
    if kind == "ByteLevel":
        return {**part, "add_prefix_space": False}
    if kind == "Sequence":
        name = "normalizers" if "normalizers" in part else "pretokenizers"
        changed = [_without_prefix(inner) for inner in part[name]]
        return {**part, name: [inner for inner in changed if inner is not None]}
    return part
