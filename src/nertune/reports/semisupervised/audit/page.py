"""What an audit found, as a page: the most probable errors with both readings in context."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nertune.reports.content import Page, Paragraph, Place, Places, Section, Segment
from nertune.reports.html import to_html
from nertune.reports.semisupervised.audit.tables import MEANINGS, kinds_table, say_how, say_notices
from nertune.semisupervised.audit.audit import Audit
from nertune.semisupervised.audit.suspicions import Suspicion
from nertune.storage.atomic import write_text
from nertune.types import Document, Entity

__all__ = ["audit_page", "save_page"]

_MOST = 500  # suspicions on a page; all of them are in audit.jsonl
_AROUND = 60  # characters that are shown on either side


def save_page(audit: Audit, path: Path) -> Path:
    """Write the page; returns its path."""
    return write_text(path, to_html(audit_page(audit)))


def audit_page(audit: Audit) -> Page:
    """Counts by kind, and the most probable errors."""
    documents = audit.corpus.documents
    shown = audit.suspicions[:_MOST]
    told = "The most probable error first."
    if len(audit.suspicions) > _MOST:
        told += f" The first {_MOST} of {len(audit.suspicions):,}; audit.jsonl has all."
    notices = [Paragraph(n, "notice") for n in say_notices(audit)]
    return Page(
        f"Audit of {audit.corpus.path}",
        [
            Section("", [Paragraph(say_how(audit)), *notices, kinds_table(audit)]),
            Section(
                "Suspicions",
                [Paragraph(told), Places([_place(s, documents[s.index]) for s in shown])],
            ),
        ],
    )


def _place(suspicion: Suspicion, document: Document) -> Place:
    return Place(
        kind=suspicion.kind,
        meaning=MEANINGS[suspicion.kind],
        probability=f"{suspicion.probability:.2f}",
        document=suspicion.document,
        gold=_segments(suspicion, document, suspicion.gold, "wrong"),
        suggested=_segments(suspicion, document, suspicion.suggested),
        reason=suspicion.reason,
    )


def _segments(
    suspicion: Suspicion, document: Document, entities: Sequence[Entity], kind: str = ""
) -> list[Segment]:
    """The text around a place as one reading has it; of overlapping entities the first is cut."""
    start, end = suspicion.span
    left, right = max(0, start - _AROUND), min(len(document.text), end + _AROUND)
    text, position = document.text, left
    parts = [Segment("…")] if left else []
    for entity in sorted(entities, key=lambda e: e.key):
        first = max(entity.start, position)
        if first >= entity.end:  # inside the one before
            parts.append(Segment("", entity.label, kind))
            continue
        parts += [
            Segment(text[position:first]),
            Segment(text[first : entity.end], entity.label, kind),
        ]
        position = entity.end
    parts.append(Segment(text[position:right] + ("…" if right < len(text) else "")))
    return parts
