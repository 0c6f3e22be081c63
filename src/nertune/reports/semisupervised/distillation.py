"""What came of a distillation, as a table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from nertune.reports.terminal import print_lines
from nertune.semisupervised.distillation.distill import Distillation

__all__ = ["print_distillation"]


def print_distillation(found: Distillation, console: Console) -> None:
    """Teachers, the student with and without them, and the share of the gap that is closed."""
    splits = [s for s in ("dev", "test") if any(s in one.f1 for one in found.taggers)]
    table = Table("tagger", *(f"{split} F1" for split in splits), "steps", "seconds")
    for column in table.columns[1:]:
        column.justify = "right"
    for one in found.taggers:
        scores = [f"{100 * one.f1[split]:.2f}" if split in one.f1 else "–" for split in splits]
        table.add_row(one.name, *scores, f"{one.steps:,}" if one.steps else "–",
                      f"{one.seconds:.0f}")  # fmt: skip
    console.print(table)
    lines = []
    for split in splits:
        share = found.share_closed(split)
        if share is not None:
            lines.append(f"gap to the teachers closed on {split}: {100 * share:.0f} %")
    lines += [*found.notices, f"model: {found.folder}/model"]
    print_lines(lines, console)
