"""The tags of a file of columns: their scheme, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from nertune.data.formats.conll.layout import has_space
from nertune.data.formats.conll.lines import Sentence
from nertune.data.formats.values import SchemeChoice, TagRepair, plural
from nertune.errors import DataError
from nertune.labels.schemes import (
    Repair,
    Scheme,
    SchemeError,
    TokenSpan,
    decode_tags,
    detect_scheme,
    normalize_tags,
    split_tag,
)
from nertune.storage.files import shorten

__all__ = [
    "Settled",
    "TagFacts",
    "check_tags",
    "decode",
    "mark_of",
    "say_repairs",
    "settle_scheme",
    "spell",
]

# Tags that are read as bare types only because their prefix is not where it should be.
_MISPLACED_PREFIX = re.compile(r"[BIMELSU]|[bimelsu][-_].+|.+[-_][BIMELSU]", re.DOTALL)
_TAG = re.compile(r"[BIMELSU][-_].+", re.DOTALL)


@dataclass(slots=True)
class TagFacts:
    """What of the tags of a file decides how they are read.

    Attributes:
        tags: those that occur.
        pairs: each with the one before it, `O` before the first one of a sentence; pairs of `O`
            may be missing.
        first: the first one that is neither `O` nor `o`; empty where there is none.
    """

    tags: set[str] = field(default_factory=set)
    pairs: set[tuple[str, str]] = field(default_factory=set)
    first: str = ""

    @classmethod
    def of(cls, sentences: Iterable[Sentence]) -> TagFacts:
        """Those of a file."""
        facts = cls()
        for sentence in sentences:
            facts.add(sentence.tags)
        return facts

    def add(self, tags: Sequence[str]) -> None:
        """Look at the tags of one more sentence."""
        if tags.count("O") == len(tags):
            self.tags.update(tags[:1])
            return
        self.tags.update(tags)
        self.pairs.update(zip(("O", *tags), tags, strict=False))
        if not self.first:
            self.first = next((tag for tag in tags if tag not in ("O", "o")), "")

    def spelled(self, spelling: Mapping[str, str]) -> TagFacts:
        """The same in the usual spelling."""

        def usual(tag: str) -> str:
            return spelling.get(tag, tag)

        pairs = {(usual(one), usual(other)) for one, other in self.pairs}
        return TagFacts({*map(usual, self.tags)}, pairs, usual(self.first))


def spell(sentence: Sentence, spelling: Mapping[str, str]) -> Sentence:
    """A sentence with its tags in the usual spelling."""
    if not spelling:
        return sentence
    return sentence._replace(tags=[spelling.get(tag, tag) for tag in sentence.tags])


def check_tags(sentences: Iterable[Sentence], facts: TagFacts, separator: str, path: Path) -> None:
    """Refuse white space in tags; in TAB-separated files a type may have blanks within.

    Raises:
        DataError: a tag has some.
    """

    def is_bad(tag: str) -> bool:
        return tag != tag.strip() or "\r" in tag or (separator == " " and has_space(tag))

    if any(map(is_bad, facts.tags)):
        line, tag = _find_tag(sentences, is_bad)
        message = f"white space in or around the tag {shorten(tag)}: remove it"
        raise DataError(message, path=path, line=line)


def _find_tag(sentences: Iterable[Sentence], wanted: Callable[[str], bool]) -> tuple[int, str]:
    """The line of the first tag of that kind, and the tag."""
    return next(
        (sentence.lines[position], tag)
        for sentence in sentences
        for position, tag in enumerate(sentence.tags)
        if wanted(tag)
    )


@dataclass(frozen=True, slots=True)
class Settled:
    """How the tags of a file are read.

    Attributes:
        scheme: their scheme.
        spelling: the usual spelling of tags that have another one.
        notices: what was decided.
    """

    scheme: Scheme
    spelling: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def settle_scheme(
    sentences: Iterable[Sentence],
    facts: TagFacts,
    path: Path,
    asked: SchemeChoice = "auto",
    prefer: SchemeChoice = "auto",
) -> Settled:
    """The scheme of a file and the usual spelling of its tags.

    Args:
        sentences: of the file; they are gone through where the facts do not decide.
        facts: of their tags.
        path: for messages.
        asked: the scheme, or `auto`.
        prefer: what `auto` takes where it fits.

    Raises:
        DataError: the tags are of no scheme, or of several.
    """
    if asked == "IO" or (prefer == "IO" and asked == "auto" and _fits_bare(facts)):
        return Settled("IO", notices=() if asked == "IO" else ("scheme IO, as the training file",))
    spelling, said = _spell_usually(facts)
    if asked != "auto":
        return Settled(asked, spelling, said)
    spelled = _Spelled(sentences, spelling)
    facts = facts.spelled(spelling)
    as_training = Settled(prefer if prefer != "auto" else "BIO", spelling,
                          (*said, f"scheme {prefer}, as the training file"))  # fmt: skip
    try:
        scheme = _detect_scheme(spelled, facts, path)
    except DataError:
        if prefer == "auto" or _count_repairs(spelled, facts, prefer) is None:
            raise
        return as_training
    if prefer == "auto" or prefer == scheme:
        return Settled(scheme, spelling, (*said, f"scheme {scheme} recognised"))
    repairs = _count_repairs(spelled, facts, prefer)
    # BIO and IOB1 have the same tags: a few sentences in one look as if they were in the other.
    are_alike = {prefer, scheme} == {"BIO", "IOB1"}
    if repairs is not None and (
        are_alike or repairs <= (_count_repairs(spelled, facts, scheme) or 0)
    ):
        return as_training
    why = f"scheme {scheme} recognised: the tags do not fit {prefer}, the training file's scheme"
    return Settled(scheme, spelling, (*said, why))


@dataclass(frozen=True, slots=True)
class _Spelled:
    """Sentences with a tag other than `O`, in the usual spelling."""

    sentences: Iterable[Sentence]
    spelling: Mapping[str, str]

    def __iter__(self) -> Iterator[Sentence]:
        for sentence in self.sentences:
            if sentence.tags.count("O") != len(sentence.tags):
                yield spell(sentence, self.spelling)


def _fits_bare(facts: TagFacts) -> bool:
    """Whether no tag has a prefix and a type."""
    return not any(map(_TAG.fullmatch, facts.tags))


def _count_repairs(tagged: Iterable[Sentence], facts: TagFacts, scheme: Scheme) -> int | None:
    """How many tags break a scheme; `None` where some are not in it."""
    if scheme == "IO" and not _fits_bare(facts):
        return None  # any tag can be read as a bare type
    try:
        return sum(len(decode_tags(sentence.tags, scheme)[1]) for sentence in tagged)
    except ValueError:
        return None


def _spell_usually(facts: TagFacts) -> tuple[dict[str, str], tuple[str, ...]]:
    """Tags spelled `b-per`, `PER-B` or `B` as usual; see `labels.schemes.normalize_tags`."""
    usual = {tag: found or tag for tag, found in normalize_tags(sorted(facts.tags)).items()}
    changed = {tag: usual[tag] for tag in sorted(facts.tags) if usual[tag] != tag}
    if not changed:
        return {}, ()
    shown = ", ".join(f"{tag} as {other}" for tag, other in [*changed.items()][:4])
    more = ", …" if len(changed) > 4 else ""
    return changed, (f"tags in another spelling: {shown}{more}",)


def _detect_scheme(tagged: Iterable[Sentence], facts: TagFacts, path: Path) -> Scheme:
    try:
        scheme = detect_scheme((sentence.tags for sentence in tagged), facts.pairs)
    except SchemeError as error:
        sentence = next(islice(tagged, error.sentence, None))
        line = sentence.lines[error.position]
        raise DataError(str(error), path=path, line=line) from error
    if scheme == "IO":
        _check_bare_types(tagged, facts, path)
    return scheme


def _check_bare_types(tagged: Iterable[Sentence], facts: TagFacts, path: Path) -> None:
    """Refuse to guess IO where the second column is more likely something else."""

    def suspicious(tag: str) -> bool:
        return _MISPLACED_PREFIX.fullmatch(tag) is not None

    if any(map(suspicious, facts.tags - {"O"})):
        line, tag = _find_tag(tagged, lambda tag: tag != "O" and suspicious(tag))
        raise DataError(
            f"tag {tag!r} is not in a known scheme: expected O or a prefix and a type, such as "
            "B-PER; if the tags are bare types, say scheme IO",
            path=path,
            line=line,
        )
    if "O" not in facts.tags:
        first = next(iter(tagged))
        raise DataError(
            f"no tag is O and none has a prefix (first: {shorten(first.tags[0])}): expected "
            "the token in column 1 and its tag in column 2; if the tags are bare types and O is "
            "not used, say scheme IO",
            path=path,
            line=first.line,
        )


def mark_of(facts: TagFacts, settled: Settled) -> str:
    """What stands between prefix and type in the first tag that has both: `-` or `_`."""
    first = settled.spelling.get(facts.first, facts.first)
    return "_" if settled.scheme != "IO" and first[1:2] == "_" else "-"


def decode(sentence: Sentence, scheme: Scheme, path: Path) -> tuple[list[TokenSpan], list[Repair]]:
    """The spans of a sentence, and what of its tags had to be repaired.

    Raises:
        DataError: a tag is not in the scheme; names its line.
    """
    try:
        return decode_tags(sentence.tags, scheme)
    except ValueError as error:
        for position, tag in enumerate(sentence.tags):
            try:
                split_tag(tag, scheme)
            except ValueError as first_error:
                line = sentence.lines[position]
                raise DataError(str(first_error), path=path, line=line) from error
        raise


def say_repairs(repairs: Sequence[TagRepair], scheme: Scheme, path: Path, *, strict: bool) -> str:
    """One line about repaired tags, of which there is at least one.

    Raises:
        DataError: with `strict`.
    """
    first = repairs[0]
    if strict:
        raise DataError(
            f"tag {first.tag!r}: {first.reason} in scheme {scheme}; strict reading refuses it "
            "(without strict it is repaired as conlleval does)",
            path=path,
            line=first.line,
        )
    return (
        f"{len(repairs)} tag{plural(len(repairs))} repaired as conlleval does "
        f"(first: line {first.line}, {first.tag}: {first.reason})"
    )
