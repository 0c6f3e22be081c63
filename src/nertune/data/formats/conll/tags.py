"""The tags of a file of columns: their scheme, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from nertune.data.formats.conll.layout import has_space
from nertune.data.formats.conll.lines import Sentence, plural
from nertune.data.formats.values import SchemeChoice, TagRepair
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

__all__ = ["check_tags", "decode", "detect_mark", "say_repairs", "settle_scheme"]

# Tags that are read as bare types only because their prefix is not where it should be.
_MISPLACED_PREFIX = re.compile(r"[BIMELSU]|[bimelsu][-_].+|.+[-_][BIMELSU]", re.DOTALL)
_TAG = re.compile(r"[BIMELSU][-_].+", re.DOTALL)


def check_tags(sentences: Sequence[Sentence], separator: str, path: Path) -> None:
    """Refuse white space in tags; in TAB-separated files a type may have blanks within."""

    def is_bad(tag: str) -> bool:
        return tag != tag.strip() or "\r" in tag or (separator == " " and has_space(tag))

    distinct: set[str] = set().union(*(sentence.tags for sentence in sentences))
    if any(map(is_bad, distinct)):
        _, line, tag = _find_tag(sentences, is_bad)
        message = f"white space in or around the tag {shorten(tag)}: remove it"
        raise DataError(message, path=path, line=line)


def _find_tag(
    sentences: Iterable[Sentence], wanted: Callable[[str], bool]
) -> tuple[Sentence, int, str]:
    """The first tag of that kind, with its sentence and line."""
    return next(
        (sentence, sentence.lines[position], tag)
        for sentence in sentences
        for position, tag in enumerate(sentence.tags)
        if wanted(tag)
    )


def _tagged(sentences: Iterable[Sentence]) -> list[Sentence]:
    """Sentences with a tag other than `O`."""
    return [s for s in sentences if s.tags.count("O") != len(s.tags)]


def settle_scheme(
    sentences: list[Sentence], asked: SchemeChoice, prefer: SchemeChoice, path: Path
) -> tuple[list[Sentence], Scheme, list[str]]:
    """Sentences with tags in their usual spelling, their scheme, and what was decided."""
    if asked == "IO" or (prefer == "IO" and asked == "auto" and _fits_bare(sentences)):
        return sentences, "IO", [] if asked == "IO" else ["scheme IO, as the training file"]
    sentences, notices = _spell_usually(sentences)
    if asked != "auto":
        return sentences, asked, notices
    try:
        scheme = _detect_scheme(sentences, path)
    except DataError:
        if prefer == "auto" or _count_repairs(sentences, prefer) is None:
            raise
        return sentences, prefer, [*notices, f"scheme {prefer}, as the training file"]
    if prefer == "auto" or prefer == scheme:
        return sentences, scheme, [*notices, f"scheme {scheme} recognised"]
    repairs = _count_repairs(sentences, prefer)
    # BIO and IOB1 have the same tags: a few sentences in one look as if they were in the other.
    are_alike = {prefer, scheme} == {"BIO", "IOB1"}
    if repairs is not None and (are_alike or repairs <= (_count_repairs(sentences, scheme) or 0)):
        return sentences, prefer, [*notices, f"scheme {prefer}, as the training file"]
    said = f"scheme {scheme} recognised: the tags do not fit {prefer}, the training file's scheme"
    return sentences, scheme, [*notices, said]


def _fits_bare(sentences: Iterable[Sentence]) -> bool:
    """Whether no tag has a prefix and a type."""
    return not any(_TAG.fullmatch(tag) for sentence in sentences for tag in set(sentence.tags))


def _count_repairs(sentences: Sequence[Sentence], scheme: Scheme) -> int | None:
    """How many tags break a scheme; `None` where some are not in it."""
    if scheme == "IO" and not _fits_bare(sentences):
        return None  # any tag can be read as a bare type
    try:
        return sum(len(decode_tags(sentence.tags, scheme)[1]) for sentence in _tagged(sentences))
    except ValueError:
        return None


def _spell_usually(sentences: list[Sentence]) -> tuple[list[Sentence], list[str]]:
    """Tags spelled `b-per`, `PER-B` or `B` as usual; see `labels.schemes.normalize_tags`."""
    distinct: set[str] = set().union(*(sentence.tags for sentence in sentences))
    usual = {tag: found or tag for tag, found in normalize_tags(sorted(distinct)).items()}
    changed = [tag for tag in sorted(distinct) if usual[tag] != tag]
    if not changed:
        return sentences, []
    shown = ", ".join(f"{tag} as {usual[tag]}" for tag in changed[:4])
    more = ", …" if len(changed) > 4 else ""
    spelled = [s._replace(tags=[usual[tag] for tag in s.tags]) for s in sentences]
    return spelled, [f"tags in another spelling: {shown}{more}"]


def _detect_scheme(sentences: Sequence[Sentence], path: Path) -> Scheme:
    tagged = _tagged(sentences)
    try:
        scheme = detect_scheme(sentence.tags for sentence in tagged)
    except SchemeError as error:
        line = tagged[error.sentence].lines[error.position]
        raise DataError(str(error), path=path, line=line) from error
    if scheme == "IO":
        _check_bare_types(sentences, tagged, path)
    return scheme


def _check_bare_types(
    sentences: Sequence[Sentence], tagged: Sequence[Sentence], path: Path
) -> None:
    """Refuse to guess IO where the second column is more likely something else."""

    def suspicious(tag: str) -> bool:
        return _MISPLACED_PREFIX.fullmatch(tag) is not None

    distinct: set[str] = set().union(*(sentence.tags for sentence in tagged))
    if any(map(suspicious, distinct - {"O"})):
        _, line, tag = _find_tag(tagged, lambda tag: tag != "O" and suspicious(tag))
        raise DataError(
            f"tag {tag!r} is not in a known scheme: expected O or a prefix and a type, such as "
            "B-PER; if the tags are bare types, say scheme IO",
            path=path,
            line=line,
        )
    if len(tagged) == len(sentences) and all("O" not in s.tags for s in sentences):
        raise DataError(
            f"no tag is O and none has a prefix (first: {shorten(sentences[0].tags[0])}): expected "
            "the token in column 1 and its tag in column 2; if the tags are bare types and O is "
            "not used, say scheme IO",
            path=path,
            line=sentences[0].line,
        )


def detect_mark(sentences: Iterable[Sentence], scheme: Scheme) -> str:
    """What stands between prefix and type in the first tag that has both: `-` or `_`."""
    if scheme == "IO":
        return "-"
    return next((tag[1] for s in sentences for tag in s.tags if tag != "O"), "-")


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
