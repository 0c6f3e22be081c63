"""Files of columns to documents."""

from __future__ import annotations

from collections.abc import Iterator

from nertune.data.formats.base import ReadOptions, Source, check_choice
from nertune.data.formats.conll.joining import JoinVote, token_spans
from nertune.data.formats.conll.layout import ConllStyle
from nertune.data.formats.conll.sentences import Sentences
from nertune.data.formats.conll.tags import (
    TagFacts,
    check_tags,
    decode,
    mark_of,
    say_repairs,
    settle_scheme,
    spell,
)
from nertune.data.formats.values import TagRepair
from nertune.labels.schemes import SCHEMES
from nertune.types import Document, Entity

__all__ = ["ConllFile"]


class ConllFile:
    """A file of columns, two or more, that was looked through and can be read.

    The separator is a TAB or a single space, the same in the whole file; a token may itself be
    white space. `-DOCSTART-` lines are skipped; where they part the file, `Document.meta` has the
    number of each sentence's `document`. Comments are skipped: lines before a sentence that begin
    with `# ` and do not end in a tag. Any other `#` begins a token. One comment is read:
    `# nertune: labels=PER,LOC complete=false` gives the scope of the sentences below it, up to the
    next such line (`scope_text`).

    A file of more columns is read as well: the tag is in the last column that holds nothing but
    tags, the token in the first, or behind it where that counts tokens; a notice says so. The
    option `columns` names others. So is a file that has `token/TAG` items, a sentence a line.

    A file of a few megabytes is held in memory. A larger one is read twice: what its tags mean and
    what joins its tokens is decided first.

    Args:
        source: the file.
        options: `join` `auto` joins without a space where at least 80 % of the tokens are single
            characters; with `ignore_tags` the scheme counts as BIO.

    Attributes:
        style: how the file is laid out.
        join: what joins the tokens of a text: nothing or a space.
        notices: what was decided, for the user to read; also what was repaired, when all was read.
        repairs: tags that were repaired, when all was read.
        inner: the option `columns` for each further layer of nested entities.

    Raises:
        DataError: a line cannot be read, or none holds a token.
        ConfigError: `scheme` or `join` is unknown.
    """

    def __init__(self, source: Source, options: ReadOptions):
        check_choice("scheme", options.scheme, ("auto", *SCHEMES))
        self.notices: list[str] = []
        self.repairs: list[TagRepair] = []
        self._options, self._path = options, source.path
        self._sentences = Sentences(source, options)
        columns = self._sentences.columns
        facts, vote, documents = TagFacts(), JoinVote(options.join), set[int]()
        for sentence in self._sentences:
            facts.add(sentence.tags)
            vote.add(sentence.tokens)
            if len(documents) < 2:
                documents.add(sentence.document)
        # One such line, on top of the file, says nothing of borders.
        self._has_borders = len(documents) > 1
        self.notices += self._sentences.say()
        check_tags(self._sentences, facts, columns.separator, self._path)
        self._settled = settle_scheme(
            self._sentences, facts, self._path, options.scheme, options.like.scheme
        )
        if not options.ignore_tags:
            self.notices += self._settled.notices
        self.join = vote.settle(self.notices)
        self.style = ConllStyle(
            scheme=self._settled.scheme,
            separator="\t" if columns.separator == "," else columns.separator,
            mark=mark_of(facts, self._settled),
            newline=self._sentences.newline,
            final_newlines=self._sentences.final_newlines,
            layers=1 + len(columns.inner),
        )
        inner = () if options.ignore_tags else columns.inner
        self.inner = tuple(f"{columns.token},{tag}" for tag in inner)

    def documents(self) -> Iterator[Document]:
        """The sentences, each a document.

        Raises:
            DataError: a tag is not in the scheme, or breaks it where `strict` was asked for.
        """
        scheme, strict = self._settled.scheme, self._options.strict
        glue = " " if self.join == "space" else ""
        for sentence in self._sentences:
            text = glue.join(sentence.tokens)
            tokens = token_spans(sentence.tokens, text, len(glue))
            entities: tuple[Entity, ...] = ()
            if sentence.tags.count("O") != len(sentence.tags):
                spelled = spell(sentence, self._settled.spelling)
                spans, repaired = decode(spelled, scheme, self._path)
                entities = tuple(
                    [Entity(tokens[a][0], tokens[b - 1][1], label) for a, b, label in spans]
                )
                self.repairs += (
                    TagRepair(sentence.lines[r.position], r.tag, r.reason) for r in repaired
                )
                if repaired and strict:
                    say_repairs(self.repairs, scheme, self._path, strict=True)
            meta = {"document": sentence.document} if self._has_borders else {}
            name = f"{self._path.name}:{sentence.lines[0]}"
            yield Document(text, entities, name, tokens, meta, sentence.scope)
        if self.repairs:
            self.notices.append(say_repairs(self.repairs, scheme, self._path, strict=False))
