"""Tag schemes: token tags to entities and back.

Every scheme becomes entities once, at the edge. Inside nertune only BIO2 tags exist.

| scheme | first | inside | last | single | remark                                     |
|--------|-------|--------|------|--------|--------------------------------------------|
| BIO    | B     | I      | I    | B      | IOB2 (Tjong Kim Sang & Veenstra, 1999)     |
| IOB1   | I     | I      | I    | I      | B only behind an entity of the same type   |
| BIOES  | B     | I      | E    | S      | also called IOBES                          |
| BIOS   | B     | I      | I    | S      | CLUENER's models (Xu et al., 2020)         |
| BMES   | B     | M      | E    | S      | usual in Chinese data                      |
| BILOU  | B     | I      | L    | U      | Ratinov & Roth, 2009                       |
| IO     |       |        |      |        | the bare type; neighbours of a type merge  |

A prefix is followed by `-` or `_`; `normalize_tags` brings other spellings (`b-per`, `PER-B`, a
bare `B`) into this form. Reading is lenient as conlleval is: an inside tag without a beginning
opens an entity; what was repaired is counted, and `strict` readers refuse it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

__all__ = [
    "CLOSING_SCHEMES",
    "SCHEMES",
    "UNTYPED_LABEL",
    "Repair",
    "Scheme",
    "SchemeError",
    "TokenSpan",
    "bio_tags",
    "decode_tags",
    "detect_scheme",
    "encode_tags",
    "normalize_tags",
    "split_tag",
]

Scheme = Literal["BIO", "IOB1", "BIOES", "BIOS", "BMES", "BILOU", "IO"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
CLOSING_SCHEMES: tuple[Scheme, ...] = ("BIOES", "BMES", "BILOU")
"""Those in which an entity of several tokens has a last tag of its own."""
UNTYPED_LABEL = "ENTITY"
"""The label of entities whose tags name no type (`B`, `I`, `O`)."""

_PREFIXES: dict[Scheme, str] = {
    "BIO": "BI",
    "IOB1": "BI",
    "BIOES": "BIES",
    "BIOS": "BIS",
    "BMES": "BMES",
    "BILOU": "BILU",
    "IO": "",
}
_TAG = re.compile(r"([BIMELSU])[-_](.+)", re.DOTALL)
_LOOSE_TAG = re.compile(r"([BIMELSU])[-_/](.+)", re.DOTALL | re.IGNORECASE)
_SUFFIXED_TAG = re.compile(r"(.+)[-_/]([BIMELSU])", re.DOTALL | re.IGNORECASE)
_BARE_TAG = re.compile(r"[BIMELSU]", re.IGNORECASE)
# What stands for padding and the tokenizer's own tokens. In brackets it can be nothing else.
_BRACKETED = re.compile(
    r"\[(pad|cls|sep|unk|mask|bos|eos|start|stop|end|ignored?|unused\d*)\]"
    r"|</?(pad|cls|sep|unk|mask|s|bos|eos|start|stop|end|ignored?)>",
    re.IGNORECASE,
)
_SPECIAL_WORDS = ("x", "pad", "cls", "sep", "bos", "eos", "start", "stop", "ignore", "ignored")
_FIRST, _INSIDE, _LAST, _SINGLE = "BIES"
_ROLE = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}


class SchemeError(ValueError):
    """A tag does not belong to the scheme.

    Attributes:
        sentence, position: where it stands, counted from 0.
    """

    def __init__(self, message: str, sentence: int, position: int):
        super().__init__(message)
        self.sentence = sentence
        self.position = position


class TokenSpan(NamedTuple):
    """An entity in tokens: half-open `[first, last)` and its label."""

    first: int
    last: int
    label: str


@dataclass(frozen=True, slots=True)
class Repair:
    """A tag that breaks its scheme and was read as conlleval reads it.

    Attributes:
        position: the token, counted from 0.
        tag: the tag that stands there.
        reason: what is wrong with it.
    """

    position: int
    tag: str
    reason: str


@lru_cache(maxsize=4096)  # a file has few tags, many times
def split_tag(tag: str, scheme: Scheme) -> tuple[str, str]:
    """A tag's role (`B`, `I`, `E`, `S` or `O`) and label.

    Raises:
        ValueError: the tag does not belong to the scheme.
    """
    if tag == "O":
        return "O", ""
    if scheme == "IO":
        return "I", tag
    match = _TAG.fullmatch(tag)
    if match is None or match[1] not in _PREFIXES[scheme]:
        allowed = ", ".join(f"{prefix}-TYPE" for prefix in _PREFIXES[scheme])
        raise ValueError(f"tag {tag!r} is not in scheme {scheme} (expected O, {allowed})")
    return _ROLE[match[1]], match[2]


def normalize_tags(tags: Iterable[str]) -> dict[str, str | None]:
    """What each tag of an inventory (a model's outputs, a file's distinct tags) stands for.

    Recognised are lower case (`o`, `b-per`; the label stays as it is), `/` behind the prefix, the
    type before the letter (`PER-B`, `PER_I`), and letters without a type (`B`, `I`), which are of
    the label `UNTYPED_LABEL`. A spelling counts only if all tags but `O` and special ones have it:
    `B` beside `LOC` is a type. Special are `[PAD]`, `<pad>`, `[CLS]`, … and, where the other tags
    have such letters, `X`, `PAD`, `IGNORE`, …: they name no unit's tag.

    Args:
        tags: the inventory; its order does not matter.

    Returns:
        Tag -> a tag as `split_tag` reads it, or `None` for a special one. What is of no known
        spelling stands for itself; `detect_scheme` refuses it where others have a prefix.
    """
    inventory = list(dict.fromkeys(tags))
    normal: dict[str, str | None] = {tag: "O" for tag in inventory if tag in ("O", "o")}
    normal |= {tag: None for tag in inventory if _BRACKETED.fullmatch(tag)}
    rest = [tag for tag in inventory if tag not in normal]
    words = [tag for tag in rest if tag.lower() in _SPECIAL_WORDS]
    typed = [tag for tag in rest if tag not in words]
    spell = _spelling(typed)
    if spell is None:  # bare types, or a mixture
        prefixed = any(_LOOSE_TAG.fullmatch(tag) for tag in typed)
        return normal | {tag: None if prefixed and tag in words else tag for tag in rest}
    return normal | {tag: spell(tag) for tag in typed} | dict.fromkeys(words)


def _spelling(tags: Sequence[str]) -> Callable[[str], str] | None:
    """How to bring tags, all spelled alike, into the form that `split_tag` reads."""

    def letters(pattern: re.Pattern[str], group: int) -> set[str]:
        """Those of the tags, or none where some tag is not of the pattern."""
        found = [pattern.fullmatch(tag) for tag in tags]
        return {m[group].upper() for m in found if m} if all(found) else set()

    def by_prefix(tag: str) -> str:
        match = _LOOSE_TAG.fullmatch(tag)
        assert match is not None
        return tag if _TAG.fullmatch(tag) else f"{match[1].upper()}-{match[2]}"

    def by_suffix(tag: str) -> str:
        match = _SUFFIXED_TAG.fullmatch(tag)
        assert match is not None
        return f"{match[2].upper()}-{match[1]}"

    if letters(_TAG, 1):
        return by_prefix
    # Other spellings are types as well (`e-mail`, `vitamin-e`, `S`): B or I must be among them.
    if letters(_LOOSE_TAG, 1) & set("BI"):
        return by_prefix
    if letters(_SUFFIXED_TAG, 2) & set("BI"):
        return by_suffix
    if letters(_BARE_TAG, 0) & set("BI"):
        return lambda tag: f"{tag.upper()}-{UNTYPED_LABEL}"
    return None


def detect_scheme(
    sentences: Iterable[Sequence[str]], pairs: Collection[tuple[str, str]] | None = None
) -> Scheme:
    """The scheme of a file's tags, from its prefixes and from how they follow each other.

    Args:
        sentences: the tags of each sentence.
        pairs: all pairs of a tag and the one before it (`O` before the first one of a sentence),
            where they are known already; `sentences` are then gone through only to name a tag that
            fits no scheme.

    Raises:
        SchemeError: prefixes of several schemes are mixed, or only some tags have one.
    """
    held = sentences
    if pairs is None:
        held = list(sentences)
        pairs = {pair for tags in held for pair in zip(("O", *tags), tags, strict=False)}
    parts = {tag: _prefix_and_label(tag) for _, tag in pairs} | {"O": ("O", "")}
    inside_opens = begin_spurious = False
    for previous, tag in pairs:
        (previous_prefix, previous_label), (prefix, label) = parts[previous], parts[tag]
        follows = previous_prefix != "O" and previous_label == label
        inside_opens |= prefix == "I" and not follows
        begin_spurious |= prefix == "B" and not follows
    prefixes = {prefix for prefix, _ in parts.values()} - {"O"}
    if not prefixes:
        return "BIO"
    if prefixes == {""}:
        return "IO"
    first_seen = _first_seen(held) if "" in prefixes else {}
    if first_seen:
        sentence, position, tag = first_seen[""]
        raise SchemeError(
            f"tag {tag!r} has no prefix, others do (e.g. {_example(first_seen, prefixes)}): "
            "expected one scheme in a file",
            sentence,
            position,
        )
    if prefixes <= {"B", "I"}:
        iob1 = inside_opens and not begin_spurious
        return "IOB1" if iob1 else "BIO"
    if prefixes <= {"B", "I", "S"} and "I" in prefixes:  # nothing could end what I goes on with
        return "BIOS"
    for scheme in CLOSING_SCHEMES:
        if prefixes <= set(_PREFIXES[scheme]):
            return scheme
    # Name the prefix that appeared last: the one that made the file fit no scheme.
    first_seen = _first_seen(held)
    sentence, position, tag = max(first_seen[prefix] for prefix in prefixes)
    raise SchemeError(
        f"tag {tag!r} mixes schemes: this file has prefixes {', '.join(sorted(prefixes))}; "
        "expected those of one of BIO, BIOES, BIOS, BMES, BILOU",
        sentence,
        position,
    )


def _prefix_and_label(tag: str) -> tuple[str, str]:
    """`O` for `O`; an empty prefix for a tag without one."""
    match = None if tag == "O" else _TAG.fullmatch(tag)
    return (match[1], match[2]) if match else ("O" if tag == "O" else "", "")


def _first_seen(sentences: Iterable[Sequence[str]]) -> dict[str, tuple[int, int, str]]:
    """Sentence, position and tag at which each prefix appears first."""
    found: dict[str, tuple[int, int, str]] = {}
    for sentence, tags in enumerate(sentences):
        for position, tag in enumerate(tags):
            found.setdefault(_prefix_and_label(tag)[0], (sentence, position, tag))
    return found


def _example(first_seen: dict[str, tuple[int, int, str]], prefixes: set[str]) -> str:
    return repr(min(first_seen[prefix] for prefix in prefixes if prefix)[2])


def decode_tags(
    tags: Sequence[str], scheme: Scheme = "BIO"
) -> tuple[list[TokenSpan], list[Repair]]:
    """The entities that a sentence's tags name, as conlleval and seqeval (default mode) read them.

    An inside or last tag that nothing opened opens an entity; a change of type closes one.

    Args:
        tags: one tag per token.
        scheme: the scheme that the tags are in.

    Returns:
        The spans in order, and what had to be repaired.

    Raises:
        ValueError: a tag is not in the scheme.
    """
    spans: list[TokenSpan] = []
    repairs: list[Repair] = []
    has_last = scheme in CLOSING_SCHEMES
    start, label, role = -1, "", "O"  # the open entity and the role of its last token

    def close(position: int) -> None:
        if has_last and role not in (_LAST, _SINGLE):
            repairs.append(Repair(position - 1, tags[position - 1], "entity is not closed"))
        spans.append(TokenSpan(start, position, label))

    last = -2  # the last token with a tag other than O
    for position in [i for i, tag in enumerate(tags) if tag != "O"]:
        tag = tags[position]
        tag_role, tag_label = split_tag(tag, scheme)
        continues = (
            position == last + 1
            and tag_role in (_INSIDE, _LAST)
            and tag_label == label
            and role in (_FIRST, _INSIDE)
        )
        if start >= 0 and not continues:
            close(last + 1)
            start = -1
        last = position
        if not continues:
            if tag_role in (_INSIDE, _LAST) and scheme not in ("IO", "IOB1"):
                repairs.append(Repair(position, tag, "nothing opened this entity"))
            start, label = position, tag_label
        role = tag_role
    if start >= 0:
        close(last + 1)
    return spans, repairs


def encode_tags(spans: Iterable[TokenSpan], num_tokens: int, scheme: Scheme = "BIO") -> list[str]:
    """The tags that name these entities; the inverse of `decode_tags`.

    `IO` cannot keep neighbours of one type apart; every other scheme can.

    Args:
        spans: entities in tokens, not overlapping.
        num_tokens: the sentence's length.
        scheme: the scheme to write.

    Raises:
        ValueError: spans overlap or reach beyond the sentence.
    """
    tags = ["O"] * num_tokens
    previous = TokenSpan(0, 0, "")
    for span in sorted(spans):
        if not previous.last <= span.first < span.last <= num_tokens:
            raise ValueError(f"{span} overlaps {previous} or does not fit {num_tokens} tokens")
        for position in range(span.first, span.last):
            prefix = _prefix(scheme, position, span, previous)
            tags[position] = f"{prefix}-{span.label}" if prefix else span.label
        previous = span
    return tags


def _prefix(scheme: Scheme, position: int, span: TokenSpan, previous: TokenSpan) -> str:
    is_first, is_last = position == span.first, position == span.last - 1
    if scheme == "IO":
        return ""
    if scheme == "IOB1":
        touches = previous.last == span.first and previous.label == span.label
        return "B" if is_first and touches else "I"
    if scheme == "BIO":
        return "B" if is_first else "I"
    if scheme == "BIOS":
        return ("S" if is_last else "B") if is_first else "I"
    inside, last, single = tuple(_PREFIXES[scheme].replace("B", ""))
    if is_first:
        return single if is_last else "B"
    return last if is_last else inside


def bio_tags(labels: Iterable[str]) -> tuple[str, ...]:
    """The tag set of a BIO2 model: `O`, then `B-X`, `I-X` for each label in sorted order."""
    return ("O", *(f"{prefix}-{label}" for label in sorted(set(labels)) for prefix in "BI"))
