"""Documents that configurations disagree on, as texts with marked entities."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from nertune.comparison.results import Comparison
from nertune.comparison.results import Example as Disagreement
from nertune.reports.content import Example, Examples, Segment
from nertune.types import Document, Entity

__all__ = ["disagreements"]

_CONTEXT = 240  # characters of a long document that are shown around its entities


def disagreements(comparison: Comparison) -> Examples | None:
    """Documents that one configuration gets right and another wrong; `None` without any."""
    if not comparison.examples:
        return None
    num_seeds = len(comparison.seeds)
    text = (
        "Documents that most seeds of one configuration get wholly right and most of the other's "
        "wrong; the prediction is that of the wrong one's first such seed."
        if num_seeds > 1
        else "Documents that one trained model gets wholly right and the other wrong."
    )
    groups = groupby(comparison.examples, key=lambda e: f"{e.right} right, {e.wrong} wrong")
    return Examples(text, [(title, [_show(e, num_seeds) for e in g]) for title, g in groups])


def _show(example: Disagreement, num_seeds: int) -> Example:
    gold, found = example.gold, example.found
    window = _window(gold, found)
    right = {entity.key for entity in gold.entities}
    answered = {entity.key for entity in found.entities}
    taken = {i for e in found.entities for i in range(e.start, e.end)}
    marks = [(e, "" if e.key in right else "wrong") for e in found.entities]
    marks += [
        (e, "missed")
        for e in gold.entities
        if e.key not in answered and taken.isdisjoint(range(e.start, e.end))
    ]
    seeds_right, seeds_wrong = (
        f", {number} of {num_seeds} seeds" if num_seeds > 1 else ""
        for number in (example.seeds_right, example.seeds_wrong)
    )
    return Example(
        f"{example.right}{seeds_right}: as gold",
        _segments(gold.text, [(e, "") for e in gold.entities], *window),
        f"{example.wrong}{seeds_wrong}: wrong",
        _segments(gold.text, marks, *window),
    )


def _window(*documents: Document) -> tuple[int, int]:
    """The part of a long text that holds what differs."""
    text = documents[0].text
    if len(text) <= 2 * _CONTEXT:
        return 0, len(text)
    keys = [{entity.key for entity in document.entities} for document in documents]
    start, end, *_ = min(keys[0] ^ keys[1])
    first = max(0, start - _CONTEXT // 2)
    return first, min(len(text), max(end, first) + _CONTEXT)


def _segments(
    text: str, marks: Iterable[tuple[Entity, str]], first: int, last: int
) -> list[Segment]:
    parts = [Segment("… " if first else "")]
    position = first
    for entity, kind in sorted(marks, key=lambda mark: mark[0].key):
        if position <= entity.start and entity.end <= last:
            parts.append(Segment(text[position : entity.start]))
            parts.append(Segment(text[entity.start : entity.end], entity.label, kind))
            position = entity.end
    return [*parts, Segment(text[position:last]), Segment(" …" if last < len(text) else "")]
