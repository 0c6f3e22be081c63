"""What readers and writers of formats are given, and what they give back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from nertune.data.formats.offsets import Offsets
from nertune.errors import DataError
from nertune.labels.schemes import Scheme
from nertune.storage.files import shorten
from nertune.types import Document, Entity

__all__ = [
    "Findings",
    "Fitted",
    "Holds",
    "Join",
    "Loss",
    "LossKind",
    "Misfit",
    "ReadOptions",
    "Reading",
    "RepeatedKeyError",
    "SchemeChoice",
    "Spans",
    "TagRepair",
    "WriteOptions",
    "as_probability",
    "counted",
    "name_by_id",
    "plural",
    "say_counts",
    "unique_keys",
]

SchemeChoice = Literal["auto", Scheme]
Join = Literal["auto", "none", "space"]
Misfit = Literal["error", "widen"]
Spans = Sequence[tuple[int, int]]
LossKind = Literal["document", "entity", "text", "scope", "score", "tokens", "metadata", "id"]
"""What a format cannot hold, in the order in which it is told."""


@dataclass(frozen=True, slots=True)
class Holds:
    """What a format can hold; the table of formats in the documentation is made of these.

    Attributes:
        entities: labelled spans; without them it is a format of plain text.
        overlap: entities that share characters.
        fragments: entities of several tokens of text.
        scores: probabilities of entities.
        tokens: the source's own tokens: `none`, `optional`, or `required`.
        ids: an id of each document.
        metadata: any other JSON values of a document.
        borders: of metadata, where a source document begins (the key `document`), not its name.
        scope: of which labels (and parts) a document is labelled (`Document.scope`): `none` of it,
            its `labels` and whether it is complete, or `all` of it, unknown spans too.
        text: `any` text; what fits in one `line`; a `title` and an abstract, a line each; or
            `tokens` alone, not what is between them.
        offsets: what offsets in the file count; `none` where it has no offsets.
        end: whether the end offset in the file is that behind the last unit, or of the last unit.
    """

    entities: bool = True
    overlap: bool = False
    fragments: bool = False
    scores: bool = False
    tokens: Literal["none", "optional", "required"] = "none"
    ids: bool = False
    metadata: bool = False
    borders: bool = False
    scope: Literal["none", "labels", "all"] = "none"
    text: Literal["any", "line", "title", "tokens"] = "any"
    offsets: Literal["codepoint", "utf16", "grapheme", "byte", "token", "none"] = "codepoint"
    end: Literal["exclusive", "inclusive"] = "exclusive"


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file was read, so that another one is read alike; `auto` where it does not say.

    Attributes:
        scheme: the tag scheme of a file of tags.
        join: what joins its source tokens to a text.
        offsets: what the offsets of a file of spans count.
    """

    scheme: SchemeChoice = "auto"
    join: Join = "auto"
    offsets: Offsets = "auto"

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> Reading:
        """What a run's record says of a data file; older ones do not say all of it."""
        known = {"scheme": get_args(Scheme), "join": get_args(Join), "offsets": get_args(Offsets)}
        return cls(**{k: values[k] for k, choices in known.items() if values.get(k) in choices})


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a user asked for; a format looks at what concerns it.

    Attributes:
        scheme: the tag scheme; `auto` recognises it.
        join: what joins source tokens to a text: `none`, a `space`, or `auto`.
        offsets: what offsets count; `auto` finds out.
        strict: refuse tags that break their scheme instead of repairing them.
        ignore_tags: give the texts (and source tokens) alone, whatever they are labelled.
        like: how the training file was read: what `auto` takes where it fits.
        more: the format's own options, whose names are in `Format.options`.
        reject: is told of a record that cannot be read, after which the next one is read, where
            the format has a record a line (`lines`, `jsonl`); `None`: the error is raised.
    """

    scheme: SchemeChoice = "auto"
    join: Join = "auto"
    offsets: Offsets = "auto"
    strict: bool = False
    ignore_tags: bool = False
    like: Reading = Reading()
    more: Mapping[str, str] = field(default_factory=dict)
    reject: Callable[[DataError], None] | None = None


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How to write; a format looks at what concerns it.

    Attributes:
        scheme: the tag scheme of a file of tags.
        separator: what stands between token and tag.
        misfit: an entity that begins or ends inside a source token is an `error`, or made to
            `widen` to the whole token.
        tokenize: gives the token spans of a text, for documents that have none of their own.
        scores: write scores where the format can hold them.
        predicted: the entities are a model's, not gold; a format that tells the two apart says so.
        style: the layout of the file that the documents come from, as its reader left it in
            `Findings.style`; a format that does not know it ignores it.
        more: the format's own options, whose names are in `Format.options`.
    """

    scheme: Scheme = "BIO"
    separator: Literal[" ", "\t"] = "\t"
    misfit: Misfit = "error"
    tokenize: Callable[[str], Spans] | None = None
    scores: bool = False
    predicted: bool = False
    style: object = None
    more: Mapping[str, str] = field(default_factory=dict)


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


@dataclass(slots=True)
class Findings:
    """What a reader decided, skipped and repaired; complete when its documents are all read.

    Attributes:
        reading: how the file was read, where `auto` was asked for too.
        style: the layout, so that the format writes the file the same; `None` where it has one.
        repairs: tags that broke their scheme.
        notices: what was recognised, skipped, dropped or repaired, for the user to read.
    """

    reading: Reading = Reading()
    style: object = None
    repairs: list[TagRepair] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Loss:
    """Something of a document that a format cannot hold.

    Attributes:
        document: the document's id.
        kind: what is lost.
        reason: what and why, in words.
        entity: the entity, where it is about one.
    """

    document: str
    kind: LossKind
    reason: str
    entity: Entity | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A document as a format can hold it, and what had to go.

    Attributes:
        document: what can be written; `None` where nothing is left.
        losses: what the source document says beyond that.
    """

    document: Document | None
    losses: tuple[Loss, ...] = ()


def as_probability(value: Any) -> float | None:
    """A score from 0 to 1, of a number or of its digits; `None` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        score = float(value)
    except (ValueError, OverflowError):
        return None
    return score if 0 <= score <= 1 else None


def name_by_id(given: Any, otherwise: str) -> str:
    """What a document is called: the id that the source gives, if that is one, or another name."""
    is_id = (isinstance(given, str) and given != "") or type(given) is int
    return str(given) if is_id else otherwise


def say_counts(seen: Counter[str]) -> list[str]:
    """A notice for each thing that was counted."""
    return [f"{count} {what}" for what, count in seen.items() if count]


def plural(count: int) -> str:
    """The ending of a noun that is counted."""
    return "" if count == 1 else "s"


def counted(count: int, noun: str) -> str:
    """A number with its noun, e.g. `1 document` or `2,000 entities`."""
    if count != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun}"


class RepeatedKeyError(ValueError):
    """A key stands twice in an object of JSON."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, without a second value of one key, which `json` would take silently.

    Raises:
        RepeatedKeyError: there is one.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        told = f"the key {shorten(twice)} stands twice in one object: keep one of them"
        raise RepeatedKeyError(told)
    return found
