"""An advice as a page and on a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from nertune.comparison.search.advice import Advice
from nertune.reports.content import NOTHING, Cell, Page, Paragraph, Section, Table
from nertune.reports.markdown import to_markdown
from nertune.reports.numbers import fraction, number
from nertune.reports.terminal import print_lines, to_rich
from nertune.storage.atomic import write_text

__all__ = ["advice_page", "print_advice", "save_advice"]


def save_advice(advice: Advice, folder: Path) -> Path:
    """Writes `advice.md`, the evidence."""
    return write_text(folder / "advice.md", to_markdown(advice_page(advice)))


def advice_page(advice: Advice) -> Page:
    """The advice and its evidence."""
    notices = [Paragraph(notice, "notice") for notice in advice.notices]
    return Page(
        "Advice",
        [
            Section("", [Paragraph(advice.verdict), *notices, _costs(advice)]),
            Section("What was tried", [_tried(advice)]),
        ],
    )


def print_advice(advice: Advice, console: Console) -> None:
    """What was tried, what the best of either method costs, and the verdict."""
    for table in (_tried(advice), _costs(advice)):
        console.print(to_rich(table, look="wide"))
    print_lines((f"Note: {notice}" for notice in advice.notices), console, "yellow")
    print_lines([advice.verdict], console, "bold")
    if advice.has_learnt:
        print_lines([f"next:  nertune train {advice.recipe}"], console)
    print_lines([f"took {advice.seconds / 60:.1f} min"], console)


def _costs(advice: Advice) -> Table:
    """Of the best of either method."""
    rows = []
    for method, candidate in advice.chosen.items():
        cost = advice.costs.get(method, {})
        figures = [
            NOTHING if cost.get(key) is None else f"{cost[key] / unit:{form}}"
            for key, unit, form in (
                ("share", 1, ".1%"), ("seconds_per_epoch", 1, ".1f"),
                ("peak_bytes", 2**20, ",.0f"), ("stored_bytes", 1e6, ".1f"),
            )
        ]  # fmt: skip
        rows.append([candidate.title, fraction(advice.scores[method]), *figures])
    seconds, peak = Cell("seconds per epoch", "s/epoch"), Cell("peak memory MiB", "peak MiB")
    best = Cell("best of either method", "best of either")
    headings = (best, "dev micro-F1", "trained", seconds, peak, "stored MB")
    return Table(headings, [rows])


def _tried(advice: Advice) -> Table:
    """Of every candidate: F1 when weighed, best F1, epochs, parameters, seconds an epoch."""
    first = advice.plan.first
    rows = [
        [
            outcome.candidate.title,
            number(outcome.best(first)),
            number(outcome.best()),
            str(len(outcome.dev_f1)),
            f"{outcome.trainable:,}",
            f"{outcome.seconds_per_epoch or 0.0:.1f}",
        ]
        if outcome.dev_f1
        else [outcome.candidate.title, "failed", NOTHING, "0", NOTHING, NOTHING]
        for outcome in advice.outcomes
    ]
    weighed = Cell(f"dev micro-F1 after {first} epochs", f"F1 at {first}")
    seconds = Cell("seconds per epoch", "s/epoch")
    return Table(("tried", weighed, "best", "epochs", "trained", seconds), [rows])
