"""CoNLL-U sentences to documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nertune.data.formats.base import ReadOptions, check_choice
from nertune.data.formats.conll.lines import Sentence as Tagged
from nertune.data.formats.conll.tags import (
    TagFacts,
    check_tags,
    decode,
    say_repairs,
    settle_scheme,
    spell,
)
from nertune.data.formats.conllu.brackets import Brackets, Mention
from nertune.data.formats.conllu.columns import Column, Columns, find_sources
from nertune.data.formats.conllu.comments import Said, read_comments
from nertune.data.formats.conllu.lines import Sentence, group_words, scan
from nertune.data.formats.conllu.spaces import SPACES, decode_spaces, drop_items, misc_items
from nertune.data.formats.values import SchemeChoice, TagRepair, name_by_id, say_counts
from nertune.labels.schemes import SCHEMES
from nertune.storage.files import split_lines
from nertune.types import Document, Entity

__all__ = ["ConlluFile", "read"]

_WIDENED = "entities that begin or end inside a multiword token, widened to all of it"
_OTHER_TEXT = "sentences whose '# text' is not made of their words, of which the words are taken"
_OTHER_SPACES = "sentences whose '# text' has other spaces than SpaceAfter says, which are taken"
_EDGES = "sentences with white space at their ends in MISC, which is not read"


@dataclass(slots=True)
class ConlluFile:
    """What a file holds.

    Attributes:
        documents: one per sentence.
        columns: of the file, without those of entities.
        scheme: of its tags; `auto` where it has none.
        repairs: tags that were repaired.
        notices: what was decided or repaired.
    """

    documents: list[Document]
    columns: tuple[str, ...]
    scheme: SchemeChoice = "auto"
    repairs: list[TagRepair] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Words:
    """A sentence as it was laid out.

    Attributes:
        text: the sentence.
        tokens: their spans.
        groups: the rows of each token, see `group_words`.
    """

    text: str
    tokens: list[tuple[int, int]]
    groups: list[list[int]]

    def units(self) -> list[tuple[int, int]]:
        """The row and the token of each word."""
        return [
            (row, token) for token, group in enumerate(self.groups) for row in group[1:] or group
        ]


@dataclass(slots=True)
class _Part:
    """A sentence, what is known of it, and the entities found so far."""

    sentence: Sentence
    words: _Words
    said: Said
    entities: list[Entity] = field(default_factory=list)


def read(text: str, path: Path, options: ReadOptions) -> ConlluFile:
    """Read CoNLL-U Plus or CoNLL-U; see `ConlluPlus`.

    Raises:
        DataError: a line cannot be read, or none holds a word.
        ConfigError: `scheme` or `column` is unknown.
    """
    check_choice("scheme", options.scheme, ("auto", *SCHEMES))
    table = scan(split_lines(text), path)
    columns, seen = table.columns, Counter[str]()
    sources: list[Column] = []
    notices = list(table.notices)
    if not options.ignore_tags:
        rows = [row.cells for sentence in table.sentences for row in sentence.rows]
        sources, told = find_sources(columns, rows, options.more.get("column", ""), path)
        notices += told
    said = Said()
    parts: list[_Part] = []
    for sentence in table.sentences:
        said = read_comments([comment for _, comment in sentence.comments], said)
        words = _settle_text(_lay_out(sentence, columns, path), said, sentence, columns, seen)
        parts.append(_Part(sentence, words, said))
    taken = [source.name for source in sources if not source.key]
    names = tuple(name for name in columns.names if name not in taken)
    file = ConlluFile([], names, notices=notices)
    for source in sources:
        if source.key == "Entity":
            _add_mentions(parts, columns, seen)
        else:
            _add_tagged(parts, columns, source, options, path, file)
    for part in parts:
        kept = _other_columns(part.sentence, part.words.groups, columns, sources)
        file.documents.append(_document(part, kept, path, seen))
    file.notices += say_counts(seen)
    return file


def _document(
    part: _Part, columns: dict[str, list[str]], path: Path, seen: Counter[str]
) -> Document:
    unique = {entity.key: entity for entity in part.entities}
    seen["identical entities dropped"] += len(part.entities) - len(unique)
    meta = dict(part.said.meta)
    if columns:
        meta.setdefault("columns", columns)
    name = name_by_id(meta.get("id"), f"{path.name}:{part.sentence.rows[0].line}")
    words = part.words
    return Document(words.text, tuple(unique.values()), name, tuple(words.tokens), meta)


def _lay_out(sentence: Sentence, columns: Columns, path: Path) -> _Words:
    """The text of a sentence and its tokens, by what MISC says of spaces."""
    place = columns.place("ID")
    lines = [row.line for row in sentence.rows]
    ids = [row.cells[place] if place >= 0 else str(n + 1) for n, row in enumerate(sentence.rows)]
    groups = group_words(ids, lines, path)
    form, misc = columns.place("FORM"), columns.place("MISC")
    parts: list[str] = []
    tokens: list[tuple[int, int]] = []
    position, gap = 0, ""
    for group in groups:
        cells = sentence.rows[group[0]].cells
        values = dict(misc_items(cells[misc])) if misc >= 0 and cells[misc] != "_" else {}
        gap += decode_spaces(values.get("SpacesBefore") or "")
        token = decode_spaces(values.get("SpacesInToken") or "") or cells[form]
        parts += (gap, token)
        position += len(gap)
        tokens.append((position, position + len(token)))
        position += len(token)
        gap = decode_spaces(values["SpacesAfter"] or "") if "SpacesAfter" in values else " "
        if "SpacesAfter" not in values and values.get("SpaceAfter") == "No":
            gap = ""
    # What stands at the ends belongs between sentences.
    first = tokens[0][0]
    return _Words("".join(parts)[first:], [(a - first, b - first) for a, b in tokens], groups)


def _settle_text(
    words: _Words, said: Said, sentence: Sentence, columns: Columns, seen: Counter[str]
) -> _Words:
    """The words with the text that is told, with white space at its ends."""
    form, misc = columns.place("FORM"), columns.place("MISC")
    forms, plain, edges = [], "", set()
    for number, group in enumerate(words.groups):
        cells = sentence.rows[group[0]].cells
        values = dict(misc_items(cells[misc])) if misc >= 0 and cells[misc] != "_" else {}
        forms.append(cells[form])
        plain += cells[form] + ("" if values.get("SpaceAfter") == "No" else " ")
        if (number == 0 and values.get("SpacesBefore")) or (
            number == len(words.groups) - 1 and values.get("SpacesAfter")
        ):
            edges.add(number)
    seen[_EDGES] += bool(edges)
    if said.text is not None and said.text not in (words.text.strip(), plain.strip()):
        spans = _align(forms, said.text)
        seen[_OTHER_TEXT if spans is None else _OTHER_SPACES] += 1
        if spans is not None:
            words = _Words(said.text, spans, words.groups)
    if said.before or said.after:
        start = len(said.before)
        tokens = [(a + start, b + start) for a, b in words.tokens]
        words = _Words(f"{said.before}{words.text}{said.after}", tokens, words.groups)
    return words


def _align(forms: Sequence[str], text: str) -> list[tuple[int, int]] | None:
    """Where words stand in a text, with white space alone between; `None` if they do not."""
    spans = []
    position = 0
    for form in forms:
        while text[position : position + 1].isspace() and not text.startswith(form, position):
            position += 1
        if not text.startswith(form, position):
            return None
        spans.append((position, position + len(form)))
        position += len(form)
    return spans if not text[position:].strip() else None


def _add_tagged(
    parts: Sequence[_Part],
    columns: Columns,
    source: Column,
    options: ReadOptions,
    path: Path,
    file: ConlluFile,
) -> None:
    """Add the entities of a column of tags."""
    units = [_tagged_units(part, columns, source) for part in parts]
    tagged: list[Tagged] = []
    form = columns.place("FORM")
    for part, found in zip(parts, units, strict=True):
        rows = [part.sentence.rows[row] for row, _, _ in found]
        words = [row.cells[form] for row in rows]
        tagged.append(Tagged([row.line for row in rows], words, [tag for _, _, tag in found]))
    facts = TagFacts.of(tagged)
    check_tags(tagged, facts, "\t", path)
    settled = settle_scheme(tagged, facts, path, options.scheme, options.like.scheme)
    scheme = settled.scheme
    repairs: list[TagRepair] = []
    num_widened = 0
    for part, found, tags in zip(parts, units, tagged, strict=True):
        spans, repaired = decode(spell(tags, settled.spelling), scheme, path)
        repairs += (TagRepair(tags.lines[r.position], r.tag, r.reason) for r in repaired)
        tokens_of = [token for _, token, _ in found]
        for span in spans:
            num_widened += _is_widened(span.first, span.last, tokens_of)
            start = part.words.tokens[tokens_of[span.first]][0]
            end = part.words.tokens[tokens_of[span.last - 1]][1]
            part.entities.append(Entity(start, end, span.label))
    file.scheme = scheme
    file.repairs += repairs
    file.notices += settled.notices
    if num_widened:
        file.notices.append(f"{num_widened} {_WIDENED}")
    if repairs:
        file.notices.append(say_repairs(repairs, scheme, path, strict=options.strict))


def _is_widened(first: int, last: int, tokens_of: Sequence[int]) -> bool:
    """Whether a span of words parts a token."""
    return (first > 0 and tokens_of[first - 1] == tokens_of[first]) or (
        last < len(tokens_of) and tokens_of[last] == tokens_of[last - 1]
    )


def _tagged_units(part: _Part, columns: Columns, source: Column) -> list[tuple[int, int, str]]:
    """Row, token and tag of what is tagged: words, or a token of several where it has the tag."""
    place = columns.place(source.name)

    def tag_of(row: int) -> str:
        cell = part.sentence.rows[row].cells[place]
        if source.key:
            return dict(misc_items(cell)).get(source.key) or "O"
        return "O" if cell == "_" else cell

    units: list[tuple[int, int, str]] = []
    for token, group in enumerate(part.words.groups):
        inner = group[1:] or group
        if len(group) > 1 and tag_of(group[0]) != "O" and all(tag_of(r) == "O" for r in inner):
            inner = group[:1]
        units += ((row, token, tag_of(row)) for row in inner)
    return units


def _add_mentions(parts: Sequence[_Part], columns: Columns, seen: Counter[str]) -> None:
    """Add the entities of `Entity=`."""
    place = columns.place("MISC")
    brackets = Brackets(seen)
    for part in parts:
        units = part.words.units()
        behind = {row: position + 1 for position, (row, _) in enumerate(units)}
        cells, position = [], 0
        for row, line in enumerate(part.sentence.rows):
            first, position = position, behind.get(row, position)
            given = dict(misc_items(line.cells[place])).get("Entity")
            if given:
                cells.append((first, position, given))
        if cells and not {"etype", "entity"} & set(part.said.entity):
            seen["sentences with Entity= of which no '# global.Entity' names the type"] += 1
        for mention in brackets.read(cells, part.said.entity):
            tokens_of = [token for _, token in units]
            part.entities.append(_entity(mention, part.words, tokens_of, seen))


def _entity(
    mention: Mention, words: _Words, tokens_of: Sequence[int], seen: Counter[str]
) -> Entity:
    spans = []
    for first, last in mention.spans:
        seen[_WIDENED] += _is_widened(first, last, tokens_of)
        begin, end = words.tokens[tokens_of[first]][0], words.tokens[tokens_of[last - 1]][1]
        spans.append((begin, end))
    # Parts that only white space parts are one.
    spans.sort()
    joined = spans[:1]
    for begin, end in spans[1:]:
        if not words.text[joined[-1][1] : begin].strip():
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return Entity.of_fragments(joined, mention.label)


def _other_columns(
    sentence: Sentence, groups: Sequence[Sequence[int]], columns: Columns, sources: Sequence[Column]
) -> dict[str, list[str]]:
    """The cells that say nothing of text and entities, by their columns.

    They follow the tokens; where rows are more than that, or otherwise numbered, the rows, whose
    ID and FORM are there as well.
    """
    place = columns.place("ID")
    ids = [row.cells[place] for row in sentence.rows] if place >= 0 else []
    is_plain = not ids or ids == [str(n) for n in range(1, len(ids) + 1)]
    taken = [source.name for source in sources if not source.key]
    keys = tuple(source.key for source in sources if source.key)
    own = {group[0] for group in groups}
    kept: dict[str, list[str]] = {}
    for number, name in enumerate(columns.names):
        if name in taken or (is_plain and name in ("ID", "FORM")):
            continue
        cells = [row.cells[number] for row in sentence.rows]
        if name == "MISC":
            cells = [
                drop_items(cell, (*keys, *SPACES) if row in own else keys)
                for row, cell in enumerate(cells)
            ]
        if any(cell != "_" for cell in cells):
            kept[name] = cells
    return kept
