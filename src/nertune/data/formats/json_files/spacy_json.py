"""spaCy's training JSON of version 2, which `spacy convert` still reads.

    [{"id": 1, "paragraphs": [{"raw": "王明 来", "sentences": [{"tokens": [
      {"orth": "王明", "space": " ", "ner": "U-PER"}, {"orth": "来", "space": "", "ner": "O"}]}]}]}]

A paragraph is a document. Its entities are the BILUO tags of `ner`, as in spaCy; `entities`, which
spaCy writes beside them and does not read, counts only where no token has a tag.

What spaCy does not know stands under keys that it ignores: `meta` and `id` of a paragraph, and
`nertune` for words that are no source tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
from nertune.data.formats.conll.tags import say_repairs
from nertune.data.formats.covering import cover, join_words, source_tokens, widen_to_tokens
from nertune.data.formats.fitting import fit
from nertune.data.formats.json_files.records import stream_records
from nertune.data.formats.json_files.values import (
    RecordIds,
    WriteArray,
    has_key,
    read_span,
    require_text,
    seen_keys,
)
from nertune.data.formats.offsets import MisplacedSpan, Span, place
from nertune.data.formats.values import Reading, TagRepair
from nertune.errors import DataError
from nertune.labels.schemes import TokenSpan, decode_tags, encode_tags
from nertune.storage.files import shorten
from nertune.types import Document, Entity

__all__ = ["SpacyJson"]

_PARAGRAPH = ("raw", "sentences", "entities", "meta", "id", "nertune")
_TOKEN = ("id", "orth", "space", "ner")
_MISSING = (None, "", "-")
_ID = (int, str)

Paragraph = dict[str, Any]
Tokens = list[dict[str, Any]]
_Word = tuple[dict[str, Any], tuple[int, int]]
"""A token and its span."""


class SpacyJson(Format):
    """spaCy's JSON of documents with paragraphs, sentences and tokens."""

    name = "spacy-json"
    title = "spaCy JSON (version 2)"
    holds = Holds(tokens="optional", ids=True, metadata=True, offsets="token")

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether it has documents with paragraphs, sentences and tokens."""
        keys = ("sentences", "tokens", "orth")
        if seen_keys(seen, "paragraphs") and all(has_key(seen.text, key) for key in keys):
            return "it has paragraphs with sentences of tokens"
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """A document of each paragraph.

        Raises:
            DataError: a paragraph cannot be used.
        """
        reader = _Reader(source.path, options.ignore_tags)
        findings.reading = Reading(scheme="BILOU")
        for line, record in stream_records(source):
            yield from reader.read_record(record, line)
        findings.repairs += reader.repairs
        findings.notices += reader.say(strict=options.strict)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """An object a line; documents of one source document are its paragraphs."""
        array = WriteArray(target)
        group: list[Document] = []
        for document in documents:
            if group and not _belong_together(group[-1], document):
                array.add(_record(group, options))
                group = []
            group.append(document)
        if group:
            array.add(_record(group, options))
        array.close()

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """With entities of whole tokens, where the document has tokens."""
        document, losses = widen_to_tokens(document)
        fitted = fit(document, self.holds, options)
        return Fitted(fitted.document, (*losses, *fitted.losses))


# Paragraphs to documents


@dataclass
class _Reader:
    """Reads documents of spaCy, and counts what is not read of them."""

    path: Path
    ignores_tags: bool
    seen: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    repairs: list[TagRepair] = field(default_factory=list)
    ids: RecordIds = field(init=False)

    def __post_init__(self) -> None:
        self.ids = RecordIds(self.path)

    def say(self, *, strict: bool) -> list[str]:
        """What was skipped and repaired.

        Raises:
            DataError: something was repaired, with `strict`.
        """
        notices = [f"{count} {what}" for what, count in self.seen.items()]
        if self.keys:
            notices.append(f"keys of tokens that are not kept: {', '.join(sorted(self.keys))}")
        if self.repairs:
            notices.append(say_repairs(self.repairs, "BILOU", self.path, strict=strict))
        return notices

    def read_record(self, record: dict[str, Any], line: int) -> Iterator[Document]:
        """The documents of one object.

        Raises:
            DataError: it cannot be used.
        """
        paragraphs = self._list(record.get("paragraphs"), '"paragraphs"', line)
        own = self.ids.of({}, line)
        for number, paragraph in enumerate(paragraphs, 1):
            meta = self._meta(paragraph)
            name = own
            if len(paragraphs) > 1 or "id" in paragraph:
                if "id" in record:
                    meta["document"] = record["id"]
                    name = str(record["id"])
                name = f"{name}:{number}"
                if "id" in paragraph:
                    meta["id"] = paragraph["id"]
            elif "id" in record:
                meta["id"] = record["id"]
            given = meta.get("id")
            if isinstance(given, _ID) and given != "" and not isinstance(given, bool):
                name = str(given)
            yield self._document(paragraph, name, meta, line)

    def _meta(self, paragraph: Paragraph) -> dict[str, Any]:
        given = paragraph.get("meta", {})
        meta = dict(given) if isinstance(given, dict) else {"meta": given}
        others = {k: v for k, v in paragraph.items() if k not in _PARAGRAPH and v not in ([], {})}
        return {**others, **meta}

    def _document(
        self, paragraph: Paragraph, name: str, meta: dict[str, Any], line: int
    ) -> Document:
        tokens: Tokens = []
        sentences = self._list(paragraph.get("sentences"), '"sentences"', line)
        if len(sentences) > 1:
            self.seen["paragraphs of several sentences, whose borders are not kept"] += 1
        for sentence in sentences:
            tokens += self._list(sentence.get("tokens"), '"tokens"', line)
            if sentence.get("brackets"):
                self.seen["sentences with brackets, which are not kept"] += 1
        for token in tokens:
            require_text(token.get("orth"), '"orth" of a token', self.path, line)
            self.keys.update(key for key in token if key not in _TOKEN)
        text, spans = self._place(tokens, paragraph.get("raw"), line)
        words = list(zip(tokens, spans, strict=True))
        found = () if self.ignores_tags else self._entities(paragraph, words, text, line)
        own = source_tokens(spans, paragraph.get("nertune"))
        return Document(text, tuple(found), name, own, meta)

    def _place(self, tokens: Tokens, raw: Any, line: int) -> tuple[str, list[tuple[int, int]]]:
        """The text, and where the tokens stand in it."""
        words = [token["orth"] for token in tokens]
        spaces = [token.get("space") for token in tokens]
        is_known = all(space in ("", " ") for space in spaces)
        text, spans = join_words(words, [space == " " for space in spaces])
        if raw is None and not is_known:
            self.seen["texts whose tokens are joined by a space, since there is no other text"] += 1
            text, spans = join_words(words, [True] * len(words))
            return text.removesuffix(" "), spans
        if raw is None or (is_known and raw == text):
            return text, spans
        raw = require_text(raw, '"raw"', self.path, line)
        return raw, self._align(words, raw, line)

    def _align(self, words: Sequence[str], raw: str, line: int) -> list[tuple[int, int]]:
        """Where words stand in a text, with white space between them."""
        spans, position = [], 0
        for word in words:
            while not raw.startswith(word, position):
                if not raw[position : position + 1].isspace():
                    told = (
                        f'the token {shorten(word)} does not stand in "raw" at character '
                        f"{position + 1} (there: {shorten(raw[position : position + 20])}): "
                        "its tokens have to cover it, but for white space"
                    )
                    raise DataError(told, path=self.path, line=line)
                position += 1
            spans.append((position, position + len(word)))
            position += len(word)
        return spans

    def _entities(
        self, paragraph: Paragraph, words: Sequence[_Word], text: str, line: int
    ) -> Iterable[Entity]:
        tagged = self._tagged(words, line)
        given = paragraph.get("entities")
        if not isinstance(given, list) or not given:
            return tagged
        listed = {e.key: e for e in (self._entity(item, text, line) for item in given)}
        if any(token.get("ner") not in _MISSING for token, _ in words):
            if {e.key for e in tagged} != set(listed):
                self.seen['paragraphs whose "entities" differ from "ner", which is read'] += 1
            return tagged
        return listed.values()

    def _tagged(self, words: Sequence[_Word], line: int) -> list[Entity]:
        tags = [token.get("ner") for token, _ in words]
        missing = sum(tag in _MISSING for tag in tags)
        if missing:
            self.seen["tokens without a tag, read as outside"] += missing
        known = ["O" if tag in _MISSING else tag for tag in tags]
        for tag in known:
            require_text(tag, '"ner" of a token', self.path, line)
        try:
            found, repaired = decode_tags(known, "BILOU")
        except ValueError as error:
            raise DataError(str(error), path=self.path, line=line) from error
        self.repairs += (TagRepair(line, repair.tag, repair.reason) for repair in repaired)
        bounds = [(words[f.first][1][0], words[f.last - 1][1][1], f.label) for f in found]
        if any(start == end for start, end, _ in bounds):
            self.seen["entities of empty tokens, which are not read"] += 1
        return [Entity(start, end, label) for start, end, label in bounds if start < end]

    def _entity(self, item: Any, text: str, line: int) -> Entity:
        if not isinstance(item, list) or len(item) != 3:
            told = f'{shorten(repr(item))} under "entities" is not [start, end, label]'
            raise DataError(told, path=self.path, line=line)
        start, end = read_span(item[0], item[1], self.path, line, is_inclusive=False)
        label = require_text(item[2], "a label", self.path, line)
        try:
            if not label:
                raise MisplacedSpan(f"the label of [{start}, {end}] is empty")
            shown = f"{label} [{start}, {end}]"
            return place(Span(start, end, label, None, None, shown), text, "codepoint")
        except MisplacedSpan as error:
            raise DataError(str(error), path=self.path, line=line) from error

    def _list(self, value: Any, name: str, line: int) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise DataError(f"{name} is not a list of objects", path=self.path, line=line)
        return value


# Documents to paragraphs


def _belong_together(one: Document, other: Document) -> bool:
    names = [document.meta.get("document") for document in (one, other)]
    are_names = all(isinstance(name, _ID) and not isinstance(name, bool) for name in names)
    return are_names and names[0] == names[1] and type(names[0]) is type(names[1])


def _record(group: Sequence[Document], options: WriteOptions) -> dict[str, Any]:
    """An object with a paragraph of each document."""
    if len(group) == 1:
        given = {"id": group[0].meta["id"]} if "id" in group[0].meta else {}
        meta = {k: v for k, v in group[0].meta.items() if k != "id"}
        return {**given, "paragraphs": [_paragraph(group[0], meta, options)]}
    paragraphs = []
    for document in group:
        given = {"id": document.meta["id"]} if "id" in document.meta else {}
        meta = {k: v for k, v in document.meta.items() if k not in ("id", "document")}
        paragraphs.append({**given, **_paragraph(document, meta, options)})
    return {"id": group[0].meta["document"], "paragraphs": paragraphs}


def _paragraph(document: Document, meta: dict[str, Any], options: WriteOptions) -> Paragraph:
    words = cover(document, options.tokenize)
    firsts = {start: i for i, (start, _) in enumerate(words.spans)}
    lasts = {end: i for i, (_, end) in enumerate(words.spans, 1)}
    spans = [TokenSpan(firsts[e.start], lasts[e.end], e.label) for e in document.entities]
    tags = encode_tags(spans, len(words.spans), "BILOU")
    tokens = [
        {"id": i, "orth": document.text[start:end], "space": " " * has_space, "ner": tag}
        for i, ((start, end), has_space, tag) in enumerate(
            zip(words.spans, words.spaces, tags, strict=True)
        )
    ]
    entities = [[e.start, e.end, e.label] for e in document.entities]
    paragraph: Paragraph = {"raw": document.text, "sentences": [{"tokens": tokens, "brackets": []}]}
    cats = meta.get("cats")
    if _are_cats(cats):
        meta = {k: v for k, v in meta.items() if k != "cats"}
    paragraph |= {"cats": cats if _are_cats(cats) else [], "entities": entities}
    paragraph |= {"meta": meta} if meta else {}
    return paragraph | ({"nertune": words.mark} if words.mark else {})


def _are_cats(value: Any) -> bool:
    """Whether these are categories as spaCy has them."""
    return (
        isinstance(value, list)
        and value != []
        and all(isinstance(v, dict) and set(v) == {"label", "value"} for v in value)
    )
