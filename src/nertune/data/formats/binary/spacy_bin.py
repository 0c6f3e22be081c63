"""spaCy's binary `.spacy`, a `DocBin`: what `spacy train` reads.

Entities are those of `doc.ents` and of one span group, `doc.spans["sc"]`, which may overlap and
have scores. A document without overlaps is written to `doc.ents`; as soon as one of the file
overlaps or has scores, all are written to the span group as well, and `doc.ents` of a document with
overlaps stays unset, which spaCy takes for missing, not for "no entity".

Metadata and id are `doc.user_data`. What words are source tokens is marked there under `nertune`,
where not all of them are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from nertune.data.formats.base import (
    Findings,
    Fitted,
    Format,
    Glimpse,
    Holds,
    ReadOptions,
    Source,
    WriteOptions,
)
from nertune.data.formats.binary.docbin import (
    MOST_GROWTH,
    SMALLEST_LIMIT,
    BinDocument,
    DocBinFile,
    GroupSpan,
    inflate,
    looks_like,
)
from nertune.data.formats.covering import cover, source_tokens, widen_to_tokens
from nertune.data.formats.fitting import fit
from nertune.data.formats.values import Loss, name_by_id, say_counts
from nertune.data.statistics import has_overlap
from nertune.errors import ConfigError, MissingDependencyError
from nertune.storage.files import shorten
from nertune.types import Document, Entity

__all__ = ["SpacyBin"]

_MARK = "nertune"
_EXTENSION = "._."  # of the keys of spaCy's custom attributes
_READ = ("ORTH", "NORM", "ENT_IOB", "ENT_TYPE")
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1


class SpacyBin(Format):
    """spaCy's DocBin."""

    name = "spacy"
    title = "spaCy .spacy (DocBin)"
    suffixes = (".spacy",)
    holds = Holds(
        overlap=True, scores=True, tokens="optional", ids=True, metadata=True, offsets="token"
    )
    container = "binary"
    options = MappingProxyType(
        {
            "spans_key": "the span group that holds entities which may overlap; sc",
            "lang": "the language whose norms (norm_) the words get, e.g. zh; xx",
            "limit": "the most MiB that a file may unpack to; 64, or 200 times the file",
        }
    )

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether its first bytes unpack to the keys of a DocBin."""
        return "its bytes are a DocBin of spaCy" if looks_like(seen.head) else None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The documents.

        Raises:
            DataError: the bytes are damaged, or unpack to more than the limit.
            ConfigError: the limit is no number.
            MissingDependencyError: spaCy is not installed.
        """
        data = source.read_bytes()
        file = DocBinFile(inflate(data, _limit(options, len(data)), source.path), source.path)
        key = options.more.get("spans_key", "sc")
        seen: Counter[str] = Counter()
        for number, found in enumerate(file.documents(), 1):
            name = f"{source.path.name}:{number}"
            yield _document(found, name, seen, None if options.ignore_tags else key)
        findings.notices += say_counts(seen)
        if others := [name for name in file.used_attributes() if name not in _READ]:
            findings.notices.append(
                f"attributes of words that are not kept: {', '.join(sorted(others))}"
            )

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """One DocBin, which spaCy can only write at once.

        Raises:
            ConfigError: spaCy does not know the language.
            MissingDependencyError: spaCy is not installed.
        """
        vocab = _vocabulary(options.more.get("lang", "xx"))
        from spacy.tokens import DocBin

        held = list(documents)
        has_groups = any(_needs_group(document) for document in held)
        key = options.more.get("spans_key", "sc") if has_groups else ""
        packed = DocBin(store_user_data=True)
        for document in held:
            packed.add(_doc(document, vocab, key, options))
        target.write(packed.to_bytes())

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """With entities of whole tokens, where there are tokens, and metadata of 64-bit numbers."""
        document, losses = widen_to_tokens(document)
        taken = [k for k, v in document.meta.items() if k == _MARK or not _can_pack(v)]
        losses += (Loss(document.id, "metadata", f"its key {shorten(key)}") for key in taken)
        if taken:
            meta = {k: v for k, v in document.meta.items() if k not in taken}
            document = replace(document, meta=meta)
        fitted = fit(document, self.holds, options)
        return Fitted(fitted.document, (*losses, *fitted.losses))


def _limit(options: ReadOptions, size: int) -> int:
    given = options.more.get("limit")
    if given is None:
        return max(SMALLEST_LIMIT, MOST_GROWTH * size)
    if not given.isdecimal() or not 0 < int(given) < 1 << 20:
        raise ConfigError(f"limit={given!r}: expected a number of MiB")
    return int(given) << 20


def _document(found: BinDocument, name: str, seen: Counter[str], key: str | None) -> Document:
    """A document of a DocBin; without entities if `key` is `None`."""
    meta: dict[str, Any] = {}
    mark = None
    for given, value in found.user_data:
        if given == _MARK:
            mark = value
            continue
        is_own = isinstance(given, list) and len(given) == 4 and given[2:] == [None, None]
        field = given[1] if is_own and given[0] == _EXTENSION else given
        if isinstance(field, str) and _can_pack(value):
            meta[field] = value
        else:
            seen["values of user data that are not kept"] += 1
    if found.cats and _can_pack(found.cats):
        meta["cats"] = found.cats
    entities = [] if key is None else _entities(found, seen, key)
    tokens = source_tokens(found.spans, mark)
    return Document(found.text, tuple(entities), name_by_id(meta.get("id"), name), tokens, meta)


def _entities(found: BinDocument, seen: Counter[str], key: str) -> list[Entity]:
    for other in sorted(set(found.groups) - {key}):
        seen[f"span groups {shorten(other)}, which are not read (see the option spans_key)"] += 1
    group = found.groups.get(key, [])
    if found.spans and not found.is_annotated and key not in found.groups:
        seen["documents that say nothing about entities, read as texts without"] += 1
    entities: dict[tuple[Any, ...], Entity] = {}
    for span in (*found.entities, *group):
        start, end = found.spans[span.first][0], found.spans[span.last - 1][1]
        if start == end or not span.label:
            seen["spans without a label or text, which are not read"] += 1
            continue
        entity = Entity(start, end, span.label, span.score)
        entities[entity.key] = entity
    if key in found.groups and not set(_bounds(found.entities)) <= set(_bounds(group)):
        seen[f"documents whose doc.ents and doc.spans[{key!r}] differ, read together"] += 1
    return list(entities.values())


def _bounds(spans: Iterable[GroupSpan]) -> Iterator[tuple[int, int, str]]:
    return (span[:3] for span in spans)


def _can_pack(value: Any) -> bool:
    """Whether a value is one of JSON that msgpack can hold."""
    try:
        if isinstance(value, str):
            value.encode()
            return True
        if isinstance(value, dict):
            are_names = all(isinstance(key, str) and _can_pack(key) for key in value)
            return are_names and all(map(_can_pack, value.values()))
        if isinstance(value, list):
            return all(map(_can_pack, value))
    except (UnicodeEncodeError, RecursionError):
        return False
    if isinstance(value, int):
        return _SMALLEST <= value <= _LARGEST
    return value is None or isinstance(value, float)


# Documents to a DocBin


def _vocabulary(language: str) -> Any:
    try:
        from spacy.util import get_lang_class
        from spacy.vocab import create_vocab
    except ImportError as error:
        purpose = "writing .spacy files"
        raise MissingDependencyError("spacy", extra="spacy", purpose=purpose) from error
    try:
        return create_vocab(language, get_lang_class(language).Defaults)
    except ImportError as error:
        told = f"lang={language!r}: spaCy has no such language; expected e.g. xx, en or zh"
        raise ConfigError(told) from error


def _needs_group(document: Document) -> bool:
    return has_overlap(document) or any(e.score is not None for e in document.entities)


def _doc(document: Document, vocab: Any, key: str, options: WriteOptions) -> Any:
    """The document of spaCy, with a span group if there is a key."""
    import numpy as np
    from spacy.tokens import Doc, Span, SpanGroup

    words = cover(document, options.tokenize)
    surfaces = [document.text[start:end] for start, end in words.spans]
    doc = Doc(vocab, words=surfaces, spaces=list(words.spaces))
    firsts = {start: i for i, (start, _) in enumerate(words.spans)}
    lasts = {end: i for i, (_, end) in enumerate(words.spans, 1)}
    spans = [Span(doc, firsts[e.start], lasts[e.end], label=e.label) for e in document.entities]
    if len(doc) and not has_overlap(document):
        doc.set_ents(spans, default="outside")
    if key:
        scores = [entity.score for entity in document.entities]
        is_scored = any(score is not None for score in scores)
        packed = scores if None in scores else np.array(scores, dtype="<f8")
        attrs = {"scores": packed} if is_scored else {}
        doc.spans[key] = SpanGroup(doc, name=key, spans=spans, attrs=attrs)
    meta = dict(document.meta)
    if _are_cats(meta.get("cats")):
        doc.cats = meta.pop("cats")
    doc.user_data.update(meta)
    if words.mark:
        doc.user_data[_MARK] = words.mark
    return doc


def _are_cats(value: Any) -> bool:
    """Whether these are categories as spaCy has them."""
    return isinstance(value, dict) and all(isinstance(v, int | float) for v in value.values())
