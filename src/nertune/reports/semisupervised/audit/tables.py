"""Tables and sentences that the page and the terminal share."""

from __future__ import annotations

from nertune.data.formats.values import counted
from nertune.reports.content import Table
from nertune.semisupervised.audit.audit import Audit
from nertune.semisupervised.audit.suspicions import KINDS

__all__ = ["MEANINGS", "kinds_table", "say_how", "say_notices"]

MEANINGS = {
    "missed": "the gold lacks an entity",
    "spurious": "the gold has an entity where there is none",
    "boundary": "the entity begins or ends elsewhere",
    "type": "the entity has another label",
    "copy": "the same passage is labelled otherwise elsewhere",
}
_WEAK = 0.5  # an out-of-fold micro-F1 below which suspicions say little


def kinds_table(audit: Audit) -> Table:
    """How many suspicions there are of each kind, from a probability on."""
    levels = (0.9, 0.5, 0.0)
    counts = [audit.count(least) for least in levels]
    rows = [[kind, *(f"{found[kind]:,}" for found in counts), MEANINGS[kind]] for kind in KINDS]
    total = ["all", *(f"{sum(found.values()):,}" for found in counts), ""]
    headings = ("kind", "p ≥ .9", "p ≥ .5", "listed", "what seems to be wrong")
    return Table(headings, [rows, [total]], align="lrrrl")


def say_how(audit: Audit) -> str:
    """What was audited, and how."""
    corpus, options = audit.corpus, audit.options
    f1 = "not defined" if audit.f1 is None else f"{audit.f1:.3f}"
    models = f"{options.folds} folds" + (f" × {options.seeds} seeds" if options.seeds > 1 else "")
    return (
        f"{corpus.path}: {counted(len(corpus.documents), 'document')}, "
        f"{counted(corpus.num_entities, 'entity')}; "
        f"{models}. Micro-F1 of the models on documents that they were not trained on: {f1}. "
        "p comes from their probabilities; it ranks places, and is no calibrated share of errors."
    )


def say_notices(audit: Audit) -> list[str]:
    """What a reader has to know."""
    told = list(audit.notices)
    if audit.f1 is None or audit.f1 < _WEAK:
        told.append(
            "The models are weak on these data, so many suspicions are errors of theirs: a better "
            "encoder, more epochs or several --seeds help."
        )
    if audit.not_judged:
        name, entity, why = audit.not_judged[0]
        told.append(
            f"{len(audit.not_judged):,} gold entities were not judged, e.g. {entity.label} "
            f"[{entity.start}, {entity.end}) in {name}: {why}."
        )
    return told
