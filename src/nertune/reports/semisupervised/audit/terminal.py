"""What an audit found, and what became of its corrections, on a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from nertune.data.formats.values import counted
from nertune.reports.content import Table
from nertune.reports.corpora.conversion import print_outcome
from nertune.reports.semisupervised.audit.tables import kinds_table, say_how, say_notices
from nertune.reports.terminal import print_lines, to_rich
from nertune.semisupervised.audit.audit import Audit
from nertune.semisupervised.audit.records import describe_readings
from nertune.semisupervised.audit.tasks import Applied, Tasks, source_files
from nertune.storage.files import shorten

__all__ = ["print_applied", "print_audit"]

_SHOWN = 10  # suspicions; all of them are in audit.jsonl
_MAX_LINES = 20  # of changes; --json has all


def print_audit(audit: Audit, console: Console, *, page: Path, tasks: Tasks | None) -> None:
    """Counts by kind, the first suspicions, and where all of them are.

    Args:
        audit: what was found.
        console: where to.
        page: the HTML page.
        tasks: the file to correct, if one was written.
    """
    print_lines([say_how(audit)], console)
    print_lines(say_notices(audit), console, "yellow")
    console.print(to_rich(kinds_table(audit), look="wide"))
    rows = []
    for found in audit.suspicions[:_SHOWN]:
        gold, suggested = describe_readings(found, audit.corpus.documents[found.index])
        rows.append([f"{found.probability:.2f}", found.kind, found.document, gold, suggested])
    if rows:
        table = Table(("p", "kind", "document", "gold", "suggestion"), [rows], align="rllll")
        console.print(to_rich(table, look="wide"))
    print_lines([f"all of them: {page}, {page.with_suffix('.jsonl')}"], console)
    if tasks is not None:
        print_lines(
            [f"to correct:  {tasks.path} ({counted(tasks.documents, 'document')})"], console
        )
        left = tasks.left_out
        if left:
            told = f"{len(left):,} documents are left out, which {tasks.format} cannot hold, e.g. "
            print_lines([told + left[0]], console, "yellow")
        first, *others = source_files(audit.corpus)
        file, each = ("FILE", ", for each FILE") if others else (first, "")
        print_lines(
            [f"then:        nertune data audit {file} --apply CORRECTED -o FIXED{each}"], console
        )


def print_applied(applied: Applied, console: Console) -> None:
    """What was changed, entity by entity, and what was written."""
    print_lines(applied.notices, console, "yellow")
    lines = []
    for change in applied.changes:
        for sign, entities in (("-", change.removed), ("+", change.added)):
            lines += [f"  {change.document}: {sign} {e.label} [{e.start}, {e.end}) {shorten(text)}"
                      for e, text in entities]  # fmt: skip
    print_lines(lines[:_MAX_LINES], console)
    if len(lines) > _MAX_LINES:
        print_lines([f"  … and {len(lines) - _MAX_LINES:,} more (--json lists all)"], console)
    counts = f"{len(applied.changes):,} of {applied.documents:,} corrected documents differ"
    print_lines([counts], console)
    print_outcome(applied.written, console)
