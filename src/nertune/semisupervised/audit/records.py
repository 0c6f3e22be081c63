"""Suspicions as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nertune.semisupervised.audit.suspicions import Suspicion
from nertune.types import Document, Entity

__all__ = ["describe_readings", "suspicion_to_dict"]

_AROUND = 20  # characters that are shown on either side


def suspicion_to_dict(suspicion: Suspicion, document: Document) -> dict[str, Any]:
    """For JSON: offsets count code points of the document's text."""
    gold, suggested = describe_readings(suspicion, document)
    values: dict[str, Any] = {
        "document": suspicion.document,
        "kind": suspicion.kind,
        "probability": round(suspicion.probability, 6),
        "gold": _entities(suspicion.gold, document),
        "suggested": _entities(suspicion.suggested, document),
        "gold_probability": round(suspicion.gold_probability, 6),
        "suggested_probability": round(suspicion.suggested_probability, 6),
        "gold_in_context": gold,
        "suggested_in_context": suggested,
        "reason": suspicion.reason,
    }
    return values | ({"other": suspicion.other} if suspicion.other else {})


def describe_readings(suspicion: Suspicion, document: Document) -> tuple[str, str]:
    """The place as gold and as the suggestion read it: `…在[北京 GPE]的…`."""
    start, end = suspicion.span
    left, right = max(0, start - _AROUND), min(len(document.text), end + _AROUND)
    return (
        _bracket(document.text, left, right, suspicion.gold),
        _bracket(document.text, left, right, suspicion.suggested),
    )


def _bracket(text: str, left: int, right: int, entities: Sequence[Entity]) -> str:
    parts, position = ["…" if left else ""], left
    for entity in sorted(entities, key=lambda e: e.key):
        if entity.start < position:  # overlaps the one before: named behind it
            parts.append(f"[+ {text[entity.start : entity.end]} {entity.label}]")
            continue
        parts += [text[position : entity.start], f"[{text[entity.start : entity.end]} "
                  f"{entity.label}]"]  # fmt: skip
        position = entity.end
    parts += [text[position:right], "…" if right < len(text) else ""]
    return "".join(parts)


def _entities(entities: Sequence[Entity], document: Document) -> list[Mapping[str, Any]]:
    return [
        {
            "start": e.start,
            "end": e.end,
            "label": e.label,
            "text": document.surface(e),
            **({} if e.score is None else {"score": round(e.score, 6)}),
        }
        for e in entities
    ]
