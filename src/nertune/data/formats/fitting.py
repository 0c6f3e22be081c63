"""Documents as a format can hold them: what has to go is listed, never dropped silently."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace

from nertune.data.formats.values import Fitted, Holds, Loss, Spans, WriteOptions
from nertune.data.statistics import has_overlap
from nertune.storage.files import shorten
from nertune.types import Document, Entity, Scope

__all__ = ["difference", "drop_overlaps", "fit", "fit_tokens", "keep_entities", "lose",
           "refuse_fragments"]  # fmt: skip


_SURROGATE = re.compile("[\ud800-\udfff]")


def fit(document: Document, holds: Holds, options: WriteOptions) -> Fitted:
    """What a format that holds this can hold of a document.

    Args:
        document: the source.
        holds: what the format declares.
        options: `tokenize` cuts texts for formats that need tokens; without `scores` scores go.
    """
    if _SURROGATE.search(document.text):
        return lose(document, "its text holds half a surrogate pair, which is no character")
    document, losses = keep_entities(document, _refuse_label)
    document, dropped = _drop_repeated(document)
    losses += dropped
    if holds.text == "line" and any(end in document.text for end in "\n\r"):
        return lose(document, "its text has line ends, which the format cannot hold", losses)
    if not holds.entities:
        document, dropped = keep_entities(document, lambda e: "the format holds no entities")
        losses += dropped
    if holds.entities and not holds.fragments:
        document, dropped = keep_entities(document, refuse_fragments)
        losses += dropped
    if holds.tokens == "required":
        tokens = document.tokens
        if tokens is None and options.tokenize is not None:
            tokens = tuple(options.tokenize(document.text))
        if not tokens:
            why = "it has no tokens: say how to cut its text, e.g. tokenize="
            return lose(document, why if tokens is None else "it has no token", losses)
        document, dropped = fit_tokens(document, tokens, keeps_text=holds.text != "tokens")
        losses += dropped
        if holds.overlap:  # two that are widened to one; where none may overlap, the likelier stays
            document, dropped = _drop_repeated(document)
            losses += dropped
    elif holds.tokens == "none" and document.tokens is not None:
        losses.append(Loss(document.id, "tokens", f"{len(document.tokens)} source tokens"))
        document = replace(document, tokens=None)
    if not holds.overlap:
        document, dropped = drop_overlaps(document)
        losses += dropped
    if not (holds.scores and options.scores):
        scored = [e for e in document.entities if e.score is not None]
        losses += (Loss(document.id, "score", f"score {e.score:.3g}", e) for e in scored)
        document = document.with_entities(replace(e, score=None) for e in document.entities)
    document, dropped = _fit_meta(document, holds)
    losses += dropped
    document, dropped = _fit_scope(document, holds)
    losses += dropped
    return Fitted(document, tuple(losses))


def _refuse_label(entity: Entity) -> str:
    return "its label holds half a surrogate pair" if _SURROGATE.search(entity.label) else ""


def refuse_fragments(entity: Entity) -> str:
    """Why a format without fragments cannot hold an entity; empty for a continuous one."""
    count = len(entity.fragments)
    return f"it is discontinuous ({count} fragments), which the format cannot hold" if count else ""


def _drop_repeated(document: Document) -> tuple[Document, list[Loss]]:
    """Without a second entity of the same span and label."""
    first = {entity.key: entity for entity in reversed(document.entities)}
    if len(first) == len(document.entities):
        return document, []
    repeated = [e for e in document.entities if first[e.key] is not e]
    losses = [Loss(document.id, "entity", "it stands there twice", e) for e in repeated]
    return document.with_entities(first.values()), losses


def lose(document: Document, reason: str, before: Sequence[Loss] = ()) -> Fitted:
    """Nothing of a document, since the format cannot hold it at all; `before` is lost as well."""
    losses = [Loss(document.id, "document", reason), *before]
    losses += (Loss(document.id, "entity", "its document is lost", e) for e in document.entities)
    return Fitted(None, tuple(losses))


def keep_entities(
    document: Document, refuse: Callable[[Entity], str]
) -> tuple[Document, list[Loss]]:
    """The document without the entities for which `refuse` gives a reason."""
    reasons = [(entity, refuse(entity)) for entity in document.entities]
    losses = [Loss(document.id, "entity", reason, e) for e, reason in reasons if reason]
    if not losses:
        return document, []
    return document.with_entities(e for e, reason in reasons if not reason), losses


def fit_tokens(
    document: Document, tokens: Spans, *, keeps_text: bool = False
) -> tuple[Document, list[Loss]]:
    """The document on these tokens: entities are widened to whole ones, those of none are lost.

    With `keeps_text` what stands between tokens is not lost.
    """
    starts, ends = [start for start, _ in tokens], [end for _, end in tokens]
    kept, losses = [], []
    for entity in document.entities:
        touched = range(bisect_right(ends, entity.start), bisect_left(starts, entity.end))
        if not touched:
            losses.append(Loss(document.id, "entity", "no token holds any of it", entity))
            continue
        start, end = starts[touched[0]], ends[touched[-1]]
        kept.append(replace(entity, start=start, end=end))
        if (start, end) != (entity.start, entity.end):
            whole = shorten(document.text[start:end])
            losses.append(Loss(document.id, "entity", f"widened to whole tokens: {whole}", entity))
    on_tokens = replace(document, entities=tuple(kept), tokens=tuple(tokens))
    words = [document.text[start:end] for start, end in tokens]
    if not keeps_text and document.text not in ("".join(words), " ".join(words)):
        losses.append(Loss(document.id, "text", "what stands between its tokens"))
    return on_tokens, losses


def drop_overlaps(document: Document) -> tuple[Document, list[Loss]]:
    """The document with no two entities that share a character."""
    if not has_overlap(document):
        return document, []
    taken: list[Entity] = []
    losses = []
    # The likeliest first; of gold, whose scores are not known, the earlier, then the longer.
    for entity in sorted(document.entities, key=lambda e: (-(e.score or 0.0), e.start, -e.end)):
        other = next((t for t in taken if t.start < entity.end and entity.start < t.end), None)
        if other is None:
            taken.append(entity)
        else:
            reason = f"overlaps {other.label} {shorten(document.surface(other))}, which is kept"
            losses.append(Loss(document.id, "entity", reason, entity))
    return document.with_entities(taken), losses


def _fit_meta(document: Document, holds: Holds) -> tuple[Document, list[Loss]]:
    held = {"id": holds.ids, "document": holds.borders or holds.metadata}
    kept = {k: v for k, v in document.meta.items() if held.get(k, holds.metadata)}
    losses = []
    if len(kept) < len(document.meta):
        others = [k for k in document.meta if k != "id" and k not in kept]
        if "id" in document.meta and "id" not in kept:
            losses.append(Loss(document.id, "id", f"its id {document.meta['id']!r}"))
        if others:
            losses.append(Loss(document.id, "metadata", ", ".join(map(shorten, others))))
        document = replace(document, meta=kept)
    return document, losses


def _fit_scope(document: Document, holds: Holds) -> tuple[Document, list[Loss]]:
    """With the scope that can be held.

    Where a part cannot, what is written says less: all unmarked text is unknown.
    """
    scope = document.scope
    losses = []
    if any(map(_SURROGATE.search, scope.labels or ())):
        losses.append(Loss(document.id, "scope", "a label of it holds half a surrogate pair"))
        labels = tuple(x for x in scope.labels or () if not _SURROGATE.search(x))
        scope = replace(scope, labels=labels)
        document = replace(document, scope=scope)
    if scope == Scope() or holds.scope == "all":
        return document, losses
    if holds.scope == "none":
        told = "of what it is labelled: unmarked text reads as text without entities"
        return replace(document, scope=Scope()), [Loss(document.id, "scope", told)]
    if not scope.unknown:
        return document, losses
    told = "its unknown spans: all of its unmarked text is written as unknown"
    fitted = replace(document, scope=Scope(scope.labels, False))
    return fitted, [*losses, Loss(document.id, "scope", told)]


def difference(expected: Document, found: Document, holds: Holds) -> str:
    """Where a document that was written and read again differs, as far as the format can say.

    Args:
        expected: what was written, as `fit` gave it.
        found: what was read.
        holds: what the format declares.

    Returns:
        What differs, in words; empty where nothing does.
    """
    pairs: list[tuple[str, object, object]]
    if holds.text == "tokens":
        pairs = [
            ("tokens", _words(expected), _words(found)),
            ("entities", _in_tokens(expected), _in_tokens(found)),
        ]
    else:
        pairs = [
            ("text", expected.text, found.text),
            ("entities", [e.key for e in expected.entities], [e.key for e in found.entities]),
        ]
        if holds.tokens != "none":
            pairs.append(("tokens", expected.tokens, found.tokens))
    if holds.scores:
        scores = [[e.score for e in d.entities] for d in (expected, found)]
        pairs.append(("scores", scores[0], scores[1]))
    if holds.metadata:
        pairs.append(("metadata", dict(expected.meta), dict(found.meta)))
    if holds.scope != "none":
        pairs.append(("scope", expected.scope, found.scope))
    for what, one, other in pairs:
        if one != other:
            return f"{what}: {one!r} were written, {other!r} read"
    return ""


def _words(document: Document) -> list[str]:
    return [document.text[start:end] for start, end in document.tokens or ()]


def _in_tokens(document: Document) -> list[tuple[int, int, str]]:
    """Entities as half-open ranges of tokens."""
    tokens: Sequence[tuple[int, int]] = document.tokens or ()
    starts, ends = (
        {a: i for i, (a, _) in enumerate(tokens)},
        {b: i for i, (_, b) in enumerate(tokens)},
    )
    return [(starts.get(e.start, -1), ends.get(e.end, -1) + 1, e.label) for e in document.entities]
