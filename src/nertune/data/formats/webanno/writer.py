"""A document as a WebAnno TSV file, and what has to go for that."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, pairwise
from typing import Any, NamedTuple

from nertune.data.formats.fitting import keep_entities, lose
from nertune.data.formats.layers import written_layer
from nertune.data.formats.offsets import count_units
from nertune.data.formats.values import Fitted, Loss, Spans, WriteOptions
from nertune.data.formats.webanno.escapes import escape_form, escape_text, escape_value
from nertune.data.formats.webanno.header import FORMAT
from nertune.errors import DataError
from nertune.storage.files import shorten
from nertune.types import Document, Entity

__all__ = ["fit_sentences", "fit_text", "lines_of"]

_GAP = re.compile(r"\n *\Z")  # what can stand between two sentences


class _Sentence(NamedTuple):
    start: int
    end: int
    id: str = ""


def fit_text(document: Document, options: WriteOptions) -> Fitted:
    """The document on tokens, with a text that the format can hold.

    Entities are cut to begin and end in a token, since nothing between two tokens can be marked.
    """
    if "\0" in document.text:
        return lose(document, "its text holds a NUL")
    tokens: Spans | None = document.tokens
    if tokens is None and options.tokenize is not None:
        tokens = tuple(options.tokenize(document.text))
    if tokens is None or (document.text and not tokens):
        why = "it has no tokens: say how to cut its text, e.g. tokenize="
        return lose(document, why if tokens is None else "it has no token")
    document, losses = _fit_start(replace(document, tokens=tuple(tokens)))
    document, dropped = keep_entities(document, _refuse_label)
    losses += dropped
    document, dropped = _cut_to_tokens(document)
    return Fitted(document, (*losses, *dropped))


def _fit_start(document: Document) -> tuple[Document, list[Loss]]:
    """The text begins with spaces and a token, since the format has nothing else before one."""
    tokens = document.tokens or ()
    first = tokens[0][0] if tokens else 0
    before = document.text[:first]
    losses = []
    if outside := before.strip():
        start = len(before) - len(before.lstrip())
        added = (start, start + len(outside))
        told = f"a token is added for {shorten(outside)}, which stands before the first one"
        losses.append(Loss(document.id, "tokens", told))
        document = replace(document, tokens=(added, *tokens))
        before = before[:start]
    if before.strip(" "):
        told = f"its white space before the first token, {shorten(before)}: spaces instead"
        losses.append(Loss(document.id, "text", told))
        text = " " * len(before) + document.text[len(before) :]
        document = replace(document, text=text)
    return document, losses


def _refuse_label(entity: Entity) -> str:
    return "its label holds a carriage return or a NUL" if set("\r\0") & set(entity.label) else ""


def _cut_to_tokens(document: Document) -> tuple[Document, list[Loss]]:
    tokens = document.tokens or ()
    starts, ends = [start for start, _ in tokens], [end for _, end in tokens]
    kept, losses = [], []
    for entity in document.entities:
        if entity.fragments:
            kept.append(entity)  # refused for its fragments
            continue
        first, last = bisect_right(ends, entity.start), bisect_left(starts, entity.end) - 1
        if first > last:
            losses.append(Loss(document.id, "entity", "no token holds any of it", entity))
            continue
        start, end = max(starts[first], entity.start), min(ends[last], entity.end)
        kept.append(replace(entity, start=start, end=end))
        if (start, end) != (entity.start, entity.end):
            told = f"cut to what tokens hold of it: {shorten(document.text[start:end])}"
            losses.append(Loss(document.id, "entity", told, entity))
    return document.with_entities(kept), losses


def fit_sentences(document: Document) -> tuple[Any, list[Loss]]:
    """The value of `meta["sentences"]` as the format can hold it, `None` if it cannot."""
    if "sentences" not in document.meta:
        return None, []
    given = document.meta["sentences"]
    asked = _asked(document)
    if asked is None:
        told = "sentences, which do not each begin with a token and hold whole ones"
        return None, [Loss(document.id, "metadata", told)]
    held = [[s.start, s.end, *([s.id] if s.id else [])] for s in _ends(document, asked)]
    same = [list(sentence) for sentence in given] == held
    told = "where sentences end, which is before the next one"
    return held, [] if same else [Loss(document.id, "metadata", told)]


def _asked(document: Document) -> list[_Sentence] | None:
    """The sentences that the document names, if the format can have them."""
    given = document.meta.get("sentences")
    tokens = document.tokens or ()
    if not isinstance(given, list | tuple) or not given or not tokens:
        return None
    found: list[_Sentence] = []
    for item in given:
        if not isinstance(item, list | tuple) or not 2 <= len(item) <= 3:
            return None
        start, end, id = item if len(item) == 3 else (*item, "")
        if type(start) is not int or type(end) is not int or not isinstance(id, str):
            return None
        previous = found[-1].end if found else 0
        if not previous <= start < end <= len(document.text) or re.search("[\0\ud800-\udfff]", id):
            return None
        found.append(_Sentence(start, end, id if id.strip() else ""))
    ends = [end for _, end in tokens]
    for sentence in found:
        first = bisect_right(ends, sentence.start)
        if first == len(tokens) or tokens[first][0] != sentence.start:
            return None
    bounds = [s.start for s in found]
    holders = [bisect_right(bounds, start) - 1 for start, _ in tokens]
    fits = all(h >= 0 and t[1] <= found[h].end for h, t in zip(holders, tokens, strict=True))
    return found if fits else None


def _lines(document: Document) -> list[_Sentence]:
    """A sentence for each line that begins with a token."""
    found: list[_Sentence] = []
    previous = 0
    for start, end in document.tokens or ():
        if not found or _GAP.search(document.text, previous, start):
            found.append(_Sentence(start, end))
        previous = end
    return found


def _ends(document: Document, sentences: Sequence[_Sentence]) -> Iterator[_Sentence]:
    """The sentences, each up to what can stand before the next one."""
    text = document.text
    ends = [end for _, end in document.tokens or ()]
    for sentence, following in pairwise(sentences):
        behind = ends[bisect_right(ends, following.start) - 1]  # its last token
        between = text[sentence.end : following.start]
        if sentence.end < behind or re.fullmatch(r"(\n *)?", between) is None:
            gap = _GAP.search(text, behind, following.start)
            sentence = sentence._replace(end=gap.start() if gap else following.start)
        yield sentence
    yield from (sentence._replace(end=len(text)) for sentence in sentences[-1:])


class _Unit(NamedTuple):
    """A token, or a part of it."""

    token: int
    start: int
    end: int


def lines_of(document: Document, options: WriteOptions) -> Iterator[str]:
    """The lines of a file, without line ends.

    Raises:
        DataError: the format cannot hold the document; see `fit`.
    """
    tokens = document.tokens
    if tokens is None or (document.text and not tokens):
        raise DataError(f"document {document.id!r} has no tokens, which WebAnno TSV needs")
    if fit_text(document, options).losses or any(e.fragments for e in document.entities):
        raise DataError(f"WebAnno TSV cannot hold document {document.id!r} as it is: see fit")
    layer, feature = written_layer(options.more)
    yield f"{FORMAT}3.3"
    yield f"#T_SP={layer}|{feature}"
    yield ""
    cells, parts = _cells(document, tokens)
    places = count_units(document.text, "utf16")
    sentences = list(_ends(document, _asked(document) or _lines(document)))
    number = 0
    for order, sentence in enumerate(sentences, 1):
        yield ""
        if sentence.id:
            yield f"#Sentence.id={escape_text(sentence.id)}"
        text = document.text[sentence.start : sentence.end]
        yield from (f"#Text={escape_text(line)}" for line in text.split("\n"))
        in_sentence = count(1)
        while number < len(tokens) and tokens[number][0] < sentence.end:
            name = f"{order}-{next(in_sentence)}"
            whole = _Unit(number, *tokens[number])
            for part, unit in enumerate((whole, *parts.get(number, ()))):
                form = escape_form(document.text[unit.start : unit.end])
                span = f"{places[unit.start]}-{places[unit.end]}"
                yield (
                    f"{name}.{part}\t{span}\t{form}\t{cells[unit]}\t"
                    if part
                    else (f"{name}\t{span}\t{form}\t{cells.get(unit, '_')}\t")
                )
            number += 1


def _cells(document: Document, tokens: Spans) -> tuple[dict[_Unit, str], dict[int, list[_Unit]]]:
    """What stands in the column of a unit, and the parts of a token that have entities."""
    stacks: dict[_Unit, list[int]] = defaultdict(list)
    ends = [end for _, end in tokens]
    several: set[int] = set()  # entities that need an id
    for number, entity in enumerate(document.entities):
        units = list(_units(entity, tokens, bisect_right(ends, entity.start)))
        for unit in units:
            stacks[unit].append(number)
        if len(units) > 1:
            several.add(number)
    for stack in stacks.values():
        if len(stack) > 1:
            several.update(stack)
    ids = {number: f"[{id}]" for id, number in enumerate(sorted(several), 1)}
    labels = [escape_value(entity.label) for entity in document.entities]
    cells = {u: "|".join(labels[n] + ids.get(n, "") for n in stack) for u, stack in stacks.items()}
    parts: dict[int, list[_Unit]] = defaultdict(list)
    for unit in sorted(cells):
        if (unit.start, unit.end) != tokens[unit.token]:
            parts[unit.token].append(unit)
    return cells, parts


def _units(entity: Entity, tokens: Spans, first: int) -> Iterator[_Unit]:
    for token in range(first, len(tokens)):
        start, end = tokens[token]
        if start >= entity.end:
            break
        yield _Unit(token, max(start, entity.start), min(end, entity.end))
