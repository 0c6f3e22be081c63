"""Two-column CoNLL: a token, a separator and a tag a line; a blank line between sentences."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal, NamedTuple, TextIO, get_args

from nertune.data.formats import slash
from nertune.errors import ConfigError, DataError
from nertune.labels.schemes import (
    SCHEMES,
    Repair,
    Scheme,
    SchemeError,
    TokenSpan,
    decode_tags,
    detect_scheme,
    encode_tags,
    normalize_tags,
    split_tag,
)
from nertune.storage.files import shell_command, shorten, split_lines
from nertune.types import Document, Entity

__all__ = [
    "CHARACTER_SHARE",
    "ConllFile",
    "ConllStyle",
    "Join",
    "Misfit",
    "SchemeChoice",
    "TagRepair",
    "read",
    "write",
]

SchemeChoice = Literal["auto", Scheme]
Join = Literal["auto", "none", "space"]
Misfit = Literal["error", "widen"]
Spans = Sequence[tuple[int, int]]
_Split = Callable[[str], tuple[str, str] | None]

CHARACTER_SHARE = 0.8
"""From this share of tokens that are one character on, a file holds characters, not words."""
_DOCSTART = "-DOCSTART-"
_SEPARATOR_SAMPLE = 50  # data lines that decide the separator
_NAMES = {"\t": "TAB", " ": "a space"}
# Tags that are read as bare types only because their prefix is not where it should be.
_MISPLACED_PREFIX = re.compile(r"[BIMELSU]|[bimelsu][-_].+|.+[-_][BIMELSU]", re.DOTALL)
_PREFIXED = re.compile(r"[BIMELSU][-_].+|.+[-_][BIMELSU]|[BIMELSU]", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"[BIMELSU][-_].+", re.DOTALL)
_COMMENT = re.compile(r"#+(\s|$)")
# What may stand behind the separator: anything without white space, or a prefix and any type.
_TAG_LIKE = re.compile(r"\S+\Z|[BIMELSU][-_]\S")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ConllStyle:
    """How a file was laid out, so that it can be written the same.

    Attributes:
        scheme: its tag scheme.
        separator: what stands between token and tag: a TAB or a space.
        mark: what stands between a tag's prefix and its type: `-` or `_`.
        newline: the line end.
        final_newlines: line ends behind the last token: 2 where a blank line closes every
            sentence, 1 where it only stands between them.
    """

    scheme: Scheme = "BIO"
    separator: str = "\t"
    mark: str = "-"
    newline: str = "\n"
    final_newlines: int = 2


@dataclass(frozen=True, slots=True)
class TagRepair:
    """A tag that broke its scheme and was read as conlleval reads it.

    Attributes:
        line: where it stands, counted from 1.
        tag: the tag.
        reason: what is wrong with it.
    """

    line: int
    tag: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConllFile:
    """What a two-column file holds.

    Attributes:
        documents: one per sentence.
        style: how the file is laid out.
        join: what joins the tokens of a text: nothing or a space.
        repairs: tags that were mended.
        notices: what was decided or mended, for the user to read.
    """

    documents: tuple[Document, ...]
    style: ConllStyle
    join: str
    repairs: tuple[TagRepair, ...]
    notices: tuple[str, ...]


class _Sentence(NamedTuple):
    """A sentence of the file, with the line of each token.

    `document` counts the `-DOCSTART-` lines above it.
    """

    lines: Sequence[int]
    tokens: list[str]
    tags: list[str]
    document: int = 0

    @property
    def line(self) -> int:
        return self.lines[0]


@dataclass(slots=True)
class _Lines:
    """What the lines of a file are.

    Attributes:
        sentences: in order.
        docstarts: how many `-DOCSTART-` lines were skipped.
        comments: the lines of comments, counted from 1.
        padded: how many lines ended in white space.
    """

    sentences: list[_Sentence]
    docstarts: int = 0
    comments: list[int] = field(default_factory=list)
    padded: int = 0


def read(
    text: str,
    path: Path,
    *,
    scheme: SchemeChoice = "auto",
    join: Join = "auto",
    strict: bool = False,
    ignore_tags: bool = False,
    prefer: SchemeChoice = "auto",
) -> ConllFile:
    """Read two-column CoNLL.

    The separator is a TAB or a single space, the same in the whole file; a token may itself be
    white space. `-DOCSTART-` lines are skipped; where they part the file, `Document.meta` has the
    number of each sentence's `document`. Comments are skipped: lines before a sentence that begin
    with `# ` and do not end in a tag. Any other `#` begins a token.

    A file that has `token/TAG` items, a sentence a line, is read as well.

    Args:
        text: the file's text.
        path: its name, for ids and messages.
        scheme: the tag scheme; `auto` recognises it from the tags.
        join: what joins tokens: `none`, a `space`, or `auto`: nothing where at least 80 % of the
            tokens are single characters.
        strict: refuse tags that break the scheme instead of mending them.
        ignore_tags: read the tokens alone, whatever stands behind them; the scheme counts as BIO.
        prefer: the scheme that `auto` takes where the tags fit it, e.g. that of the training file.

    Raises:
        DataError: a line cannot be read, or none holds a token.
        ConfigError: `scheme` or `join` is unknown.
    """
    _check_choice("scheme", scheme, ("auto", *SCHEMES))
    _check_choice("join", join, get_args(Join))
    lines = split_lines(text)
    if doubled := len(re.findall("\r\r+\n", text)):
        notices = [f"{doubled} lines end in \\r\\r\\n (converted twice?), read as line ends"]
    else:
        notices = []
    separator = _detect_separator(lines)
    if slash.fits(lines):
        found = _Lines([_Sentence(*row) for row in slash.read(lines, path)])
        notices.append("token/TAG items recognised, a sentence a line")
    else:
        found = _scan(lines, separator, path, bare_types=scheme == "IO")
    if not found.sentences:
        raise DataError("the file holds no sentence", path=path)
    notices += _say_skipped(found, lines)
    sentences = found.sentences
    if ignore_tags:
        sentences = [s._replace(tags=["O"] * len(s.tokens)) for s in sentences]
    _check_tags(sentences, separator, path)
    sentences, scheme, said = _settle_scheme(sentences, scheme, prefer, path)
    if not ignore_tags:
        notices += said
    glue, share = _choose_join(sentences, join)
    if join == "auto":
        how = "with a space" if glue else "without a space"
        notices.append(f"tokens joined {how} ({share:.0%} of them are single characters)")
    documents, repairs = _build(sentences, scheme, glue, path)
    if repairs:
        notices.append(_say_repairs(repairs, scheme, path, strict=strict))
    style = ConllStyle(
        scheme=scheme,
        separator=separator,
        mark=_detect_mark(sentences, scheme),
        newline="\r\n" if "\r\n" in text else "\n",
        final_newlines=_count_final_newlines(text),
    )
    return ConllFile(documents, style, glue, tuple(repairs), tuple(notices))


def _say_skipped(found: _Lines, lines: Sequence[str]) -> list[str]:
    notices = []
    if found.docstarts:
        notices.append(f"{found.docstarts} {_DOCSTART} line{_s(found.docstarts)} skipped")
    if found.comments:
        first = found.comments[0]
        notices.append(
            f"{len(found.comments)} comment{_s(len(found.comments))} skipped (first: line {first}, "
            f"{shorten(lines[first - 1])})"
        )
    if found.padded:
        notices.append(f"white space at the end of {found.padded} line{_s(found.padded)} dropped")
    return notices


def _say_repairs(repairs: Sequence[TagRepair], scheme: Scheme, path: Path, *, strict: bool) -> str:
    first = repairs[0]
    if strict:
        raise DataError(
            f"tag {first.tag!r}: {first.reason} in scheme {scheme}; strict reading refuses it "
            "(without strict it is mended as conlleval does)",
            path=path,
            line=first.line,
        )
    return (
        f"{len(repairs)} tag{_s(len(repairs))} mended as conlleval does "
        f"(first: line {first.line}, {first.tag}: {first.reason})"
    )


def _check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name}={value!r} is unknown, expected one of {', '.join(allowed)}")


def _s(count: int) -> str:
    return "" if count == 1 else "s"


# Lines to sentences


def _detect_separator(lines: Sequence[str]) -> str:
    """TAB or space, whichever splits more of the first data lines in two."""
    tabs = spaces = num_seen = 0
    first_has_tab = False
    # A comment says nothing, unless what looks like one is all there is.
    for line in [line for line in lines if not _COMMENT.match(line)] or lines:
        if _is_boundary(line):
            continue
        by_tab, by_space = _split(line, _split_at_tab), _split(line, _split_at_space)
        if by_tab is not None and _TAG_LIKE.match(by_tab[1]):
            tabs += 1
        elif by_space is not None and _TAG_LIKE.match(by_space[1]):
            spaces += 1
        first_has_tab |= num_seen == 0 and "\t" in line
        num_seen += 1
        if num_seen == _SEPARATOR_SAMPLE:
            break
    return "\t" if tabs > spaces or (tabs == spaces and first_has_tab) else " "


def _has_space(tag: str) -> bool:
    return any(character.isspace() for character in tag)


def _is_boundary(line: str) -> bool:
    """Whether a line holds no token: blank (also of spaces and TABs only) or `-DOCSTART-`."""
    return not line.strip(" \t") or _is_docstart(line)


def _is_docstart(line: str) -> bool:
    return line.startswith(_DOCSTART) and line.split(None, 1)[0] == _DOCSTART


def _split_at_tab(line: str) -> tuple[str, str] | None:
    token, _, tag = line.partition("\t")
    return (token, tag) if token and tag and "\t" not in tag and not tag.isspace() else None


def _split_at_space(line: str) -> tuple[str, str] | None:
    """Split from the right, since the token may be a space itself."""
    token, _, tag = line.rpartition(" ")
    one_token = " " not in token or not token.strip(" ")
    return (token, tag) if token and tag and one_token and not tag.isspace() else None


def _scan(lines: Sequence[str], separator: str, path: Path, *, bare_types: bool) -> _Lines:
    """The sentences, and what else stands between them.

    Args:
        bare_types: any word may be a tag, so that a line of two columns is never a comment.
    """
    split = _split_at_tab if separator == "\t" else _split_at_space
    found = _Lines([])
    first_data_line = 0
    numbers: list[int] = []
    tags_elsewhere: set[str] | None = None
    for number, line in enumerate(lines, 1):
        # A comment stands between sentences: behind a blank line, or another one.
        if not numbers and _COMMENT.match(line):
            row = _split(line, split)
            if row is not None and not bare_types and line.startswith("# "):
                tags_elsewhere = tags_elsewhere or _tags_elsewhere(lines, split)
                row = row if _is_tag(row[1], tags_elsewhere) else None
            if row is None:
                found.comments.append(number)
                continue
        row = _split(line, split)
        if row is None or row[0] == _DOCSTART:
            if not _is_boundary(line):
                why = _explain_line(line, separator, first_data_line, path, len(lines) == 1)
                raise DataError(why, path=path, line=number)
            found.docstarts += _is_docstart(line)
            numbers = []
            continue
        if not numbers:
            found.sentences.append(_Sentence(numbers, [], [], found.docstarts))
            first_data_line = first_data_line or number
        numbers.append(number)
        found.padded += line[-1] in " \t"
        found.sentences[-1].tokens.append(row[0])
        found.sentences[-1].tags.append(row[1])
    return found


def _split(line: str, split: _Split) -> tuple[str, str] | None:
    """Token and tag; white space at the line's end belongs to neither."""
    row = split(line.rstrip(" \t")) if line[-1:] in (" ", "\t") else split(line)
    return row if row is not None and row[1] else None


def _tags_elsewhere(lines: Iterable[str], split: _Split) -> set[str]:
    """The tags of lines that are no comments for sure."""
    rows = (_split(line, split) for line in lines if not line.startswith("#"))
    return {row[1] for row in rows if row is not None}


def _is_tag(tag: str, known: set[str]) -> bool:
    return tag in known or tag in ("O", "o") or _PREFIXED.fullmatch(tag) is not None


def _explain_line(
    line: str, separator: str, first_data_line: int, path: Path, is_only: bool
) -> str:
    """Why a line is not a token and a tag, and what to do about it."""
    fields = line.split("\t") if separator == "\t" else re.split(" +", line.strip(" "))
    shown = shorten(line)
    name = _NAMES[separator]
    other = " " if separator == "\t" else "\t"
    if "\r" in line:
        # Where other line ends are there too, no command knows which of them are meant.
        program = shell_command(path, "tr '\\r' '\\n'")
        hint = f"for an old Mac file: {program}" if is_only else "remove it"
        return f"a carriage return stands inside {shown}: lines end in \\n or \\r\\n; {hint}"
    if line.startswith("#") and len(fields) != 2:
        return (
            f"expected 2 columns (token, tag), got {len(fields)} in {shown}: a comment begins with "
            "'# ' and stands before a sentence; remove other ones"
        )
    if line.endswith(separator):
        return f"{shown} ends in {name}, so its tag is empty: expected 2 columns (token, tag)"
    if line.startswith(separator) and len(fields) <= 2:
        return f"{shown} begins with {name}, so its token is empty: expected 2 columns (token, tag)"
    if len(fields) > 2:
        return _explain_columns(fields, shown, separator, path)
    if len(fields) == 2:
        squeeze = shell_command(path, r"sed -E 's/([^ ]) +([^ ]+)$/\1 \2/'")
        return f"expected one space between token and tag in {shown}: squeeze them with {squeeze}"
    if other in line:
        where = f"as line {first_data_line} has it" if first_data_line else "as most lines have it"
        return f"expected {name} between token and tag, {where}, got {_NAMES[other]} in {shown}"
    return f"expected 2 columns (token, tag) with {name} between, got 1: {shown}"


def _explain_columns(fields: Sequence[str], shown: str, separator: str, path: Path) -> str:
    """More than two columns: a command that keeps two of them, and other lines as they are."""
    count = len(fields)
    is_counted = fields[0].isdecimal() and not fields[1].isdecimal()
    token = 2 if is_counted else 1
    tag = next((n for n in range(count, token, -1) if _is_tag(fields[n - 1], set())), count)
    between = r" -F '\t'" if separator == "\t" else ""
    program = f"""awk{between} 'NF=={count} {{print ${token} "\\t" ${tag}; next}} {{print}}'"""
    return (
        f"expected 2 columns (token, tag), got {count} in {shown}; if columns {token} and {tag} "
        f"are meant: {shell_command(path, program)}"
    )


def _check_tags(sentences: Sequence[_Sentence], separator: str, path: Path) -> None:
    """Refuse white space in tags; in TAB-separated files a type may have blanks within."""

    def is_bad(tag: str) -> bool:
        return tag != tag.strip() or "\r" in tag or (separator == " " and _has_space(tag))

    distinct: set[str] = set().union(*(sentence.tags for sentence in sentences))
    if any(map(is_bad, distinct)):
        _, line, tag = _find_tag(sentences, is_bad)
        message = f"white space in or around the tag {shorten(tag)}: remove it"
        raise DataError(message, path=path, line=line)


def _find_tag(
    sentences: Iterable[_Sentence], wanted: Callable[[str], bool]
) -> tuple[_Sentence, int, str]:
    """The first tag of that kind, with its sentence and line."""
    return next(
        (sentence, sentence.lines[position], tag)
        for sentence in sentences
        for position, tag in enumerate(sentence.tags)
        if wanted(tag)
    )


# Tags to entities


def _tagged(sentences: Iterable[_Sentence]) -> list[_Sentence]:
    """Sentences with a tag other than `O`."""
    return [s for s in sentences if s.tags.count("O") != len(s.tags)]


def _settle_scheme(
    sentences: list[_Sentence], asked: SchemeChoice, prefer: SchemeChoice, path: Path
) -> tuple[list[_Sentence], Scheme, list[str]]:
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


def _fits_bare(sentences: Iterable[_Sentence]) -> bool:
    """Whether no tag has a prefix and a type."""
    return not any(_TAG.fullmatch(tag) for sentence in sentences for tag in set(sentence.tags))


def _count_repairs(sentences: Sequence[_Sentence], scheme: Scheme) -> int | None:
    """How many tags break a scheme; `None` where some are not in it."""
    if scheme == "IO" and not _fits_bare(sentences):
        return None  # any tag can be read as a bare type
    try:
        return sum(len(decode_tags(sentence.tags, scheme)[1]) for sentence in _tagged(sentences))
    except ValueError:
        return None


def _spell_usually(sentences: list[_Sentence]) -> tuple[list[_Sentence], list[str]]:
    """Tags spelled `b-per`, `PER-B` or `B` as usual; see `labels.scheme.normalize_tags`."""
    distinct: set[str] = set().union(*(sentence.tags for sentence in sentences))
    usual = {tag: found or tag for tag, found in normalize_tags(sorted(distinct)).items()}
    changed = [tag for tag in sorted(distinct) if usual[tag] != tag]
    if not changed:
        return sentences, []
    shown = ", ".join(f"{tag} as {usual[tag]}" for tag in changed[:4])
    more = ", …" if len(changed) > 4 else ""
    spelled = [s._replace(tags=[usual[tag] for tag in s.tags]) for s in sentences]
    return spelled, [f"tags in another spelling: {shown}{more}"]


def _detect_scheme(sentences: Sequence[_Sentence], path: Path) -> Scheme:
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
    sentences: Sequence[_Sentence], tagged: Sequence[_Sentence], path: Path
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


def _detect_mark(sentences: Iterable[_Sentence], scheme: Scheme) -> str:
    if scheme == "IO":
        return "-"
    return next((tag[1] for s in sentences for tag in s.tags if tag != "O"), "-")


def _choose_join(sentences: Iterable[_Sentence], join: Join) -> tuple[str, float]:
    """What joins the tokens, and the share of tokens that are one character."""
    num_tokens = num_single = 0
    for sentence in sentences:
        lengths = list(map(len, sentence.tokens))
        num_tokens += len(lengths)
        num_single += lengths.count(1)
    share = num_single / num_tokens
    if join == "auto":
        join = "none" if share >= CHARACTER_SHARE else "space"
    return ("" if join == "none" else " "), share


def _build(
    sentences: Sequence[_Sentence], scheme: Scheme, glue: str, path: Path
) -> tuple[tuple[Document, ...], list[TagRepair]]:
    documents: list[Document] = []
    repairs: list[TagRepair] = []
    # One such line, on top of the file, says nothing of borders.
    has_borders = len({sentence.document for sentence in sentences}) > 1
    for sentence in sentences:
        meta = {"document": sentence.document} if has_borders else {}
        tokens = tuple(_token_spans(sentence.tokens, len(glue)))
        entities: tuple[Entity, ...] = ()
        if sentence.tags.count("O") != len(sentence.tags):
            spans, mended = _decode(sentence, scheme, path)
            entities = tuple(
                Entity(tokens[span.first][0], tokens[span.last - 1][1], span.label)
                for span in spans
            )
            repairs += (TagRepair(sentence.lines[r.position], r.tag, r.reason) for r in mended)
        text = glue.join(sentence.tokens)
        name = f"{path.name}:{sentence.line}"
        documents.append(Document(text, entities, name, tokens, meta))
    return tuple(documents), repairs


def _token_spans(tokens: Sequence[str], gap: int) -> Iterator[tuple[int, int]]:
    """Where tokens stand in their text when `gap` characters stand between them."""
    ends = accumulate(len(token) + gap for token in tokens)
    return ((end - gap - len(token), end - gap) for token, end in zip(tokens, ends, strict=True))


def _decode(
    sentence: _Sentence, scheme: Scheme, path: Path
) -> tuple[list[TokenSpan], list[Repair]]:
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


def _count_final_newlines(text: str) -> int:
    tail = text[len(text.rstrip("\r\n \t")) :]
    return tail.count("\n")


# Documents to lines


def write(
    stream: TextIO,
    documents: Iterable[Document],
    *,
    style: ConllStyle | None = None,
    misfit: Misfit = "error",
    tokenize: Callable[[str], Spans] | None = None,
) -> None:
    """Write two-column CoNLL, such that `read` gives back the same tokens and entities.

    Args:
        stream: where to; opened so that it does not translate line ends.
        documents: what to write; only their tokens are written, not the text between them.
        style: the layout.
        misfit: what to do where an entity begins or ends inside a token: an `error`, or `widen`
            it to the whole token.
        tokenize: gives the token spans of a text, for documents that have none of their own.

    Raises:
        DataError: a document has no tokens, or the format cannot hold a token or an entity.
    """
    style = style or ConllStyle()
    _check_choice("misfit", misfit, get_args(Misfit))
    # Each document is written up to its end at once, so that it can be flushed.
    at_once = min(style.final_newlines, 2)
    empty = True
    for document in documents:
        lines = _document_lines(document, style, misfit, tokenize)
        if empty:
            # A reader takes one leading U+FEFF for a byte order mark.
            stream.write("\ufeff" if lines[0].startswith("\ufeff") else "")
        else:
            stream.write((2 - at_once) * style.newline)
        stream.write(style.newline.join(lines) + at_once * style.newline)
        empty = False
    if not empty:
        stream.write((style.final_newlines - at_once) * style.newline)


def _document_lines(
    document: Document,
    style: ConllStyle,
    misfit: Misfit,
    tokenize: Callable[[str], Spans] | None,
) -> list[str]:
    spans: Spans | None = document.tokens
    if spans is None and tokenize is not None:
        spans = tokenize(document.text)
    if spans is None:
        raise _unwritable(document, "it has no tokens: say how to cut its text, e.g. tokenize=")
    if not spans:
        raise _unwritable(document, "it has no token, and the format cannot hold an empty sentence")
    tokens = [document.text[start:end] for start, end in spans]
    for token in set(tokens):
        _check_token(document, token, style.separator)
    tags = _tags(document, _in_tokens(document, spans, misfit), len(tokens), style)
    return [f"{token}{style.separator}{tag}" for token, tag in zip(tokens, tags, strict=True)]


def _unwritable(document: Document, reason: str) -> DataError:
    name = document.id or shorten(document.text)
    return DataError(f"document {name} cannot be written as two columns: {reason}")


def _check_token(document: Document, token: str, separator: str) -> None:
    problem = ""
    if "\n" in token:
        problem = "holds a line end"
    elif separator in token and not (separator == " " and not token.strip(" ")):
        problem = f"holds the separator ({_NAMES[separator]})"
    elif token == _DOCSTART:
        problem = "marks the start of a document in this format"
    elif "\0" in token:
        problem = "holds a NUL"
    elif _SURROGATE.search(token):
        problem = "holds half a surrogate pair, which is no character"
    if problem:
        raise _unwritable(document, f"its token {shorten(token)} {problem}")


def _in_tokens(document: Document, spans: Spans, misfit: Misfit) -> list[TokenSpan]:
    """The entities in tokens."""
    starts = [start for start, _ in spans]
    ends = [end for _, end in spans]
    found = []
    for entity in document.entities:
        # The tokens that the entity touches.
        first, last = bisect_right(ends, entity.start), bisect_left(starts, entity.end)
        name = f"{entity.label} {shorten(document.surface(entity))}"
        fits = first < last and starts[first] == entity.start and ends[last - 1] == entity.end
        if first >= last or (not fits and misfit == "error"):
            hint = "" if first >= last else "; widen it (misfit widen) or cut the text otherwise"
            raise _unwritable(
                document,
                f"{name} at [{entity.start}, {entity.end}) does not begin and end with a token"
                f"{hint}",
            )
        found.append(TokenSpan(first, last, entity.label))
        if len(found) > 1 and found[-2].last > first:
            raise _unwritable(document, f"{name} overlaps the entity before it")
    return found


def _tags(
    document: Document, found: list[TokenSpan], num_tokens: int, style: ConllStyle
) -> list[str]:
    for span in found:
        if _breaks_tag(span.label, style):
            raise _unwritable(document, f"the label {span.label!r} cannot stand in a tag")
    if style.scheme == "IO":
        for one, other in pairwise(found):
            if one.last == other.first and one.label == other.label:
                raise _unwritable(
                    document,
                    f"scheme IO cannot keep two {one.label} entities apart that touch: "
                    "choose another scheme",
                )
    tags = encode_tags(found, num_tokens, style.scheme)
    if style.mark != "-" and style.scheme != "IO":
        tags = [tag if tag == "O" else f"{tag[0]}{style.mark}{tag[2:]}" for tag in tags]
    return tags


def _breaks_tag(label: str, style: ConllStyle) -> bool:
    if style.scheme == "IO" and label == "O":
        return True
    if style.separator == " " and _has_space(label):
        return True
    edge = label.strip() if style.scheme == "IO" else label.rstrip()
    return label != edge or bool(re.search("[\t\n\r\0\ud800-\udfff]", label))
