"""How far scores can be relied on: what `evaluate` shows of them."""

from __future__ import annotations

from rich.console import Console

from nertune.evaluation.reliability import Reliability
from nertune.reports.content import Table
from nertune.reports.numbers import number
from nertune.reports.terminal import print_lines, to_rich

__all__ = ["print_reliability"]


def print_reliability(found: Reliability, *, is_calibrated: bool, console: Console) -> None:
    """The expected calibration error, and precision and recall at each threshold.

    Args:
        found: what was measured.
        is_calibrated: whether the scores are those of a calibrated model.
        console: where to.
    """
    interval = found.ece_ci95
    told = f", 95 % interval [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    kind = "calibrated scores" if is_calibrated else "scores as the model gives them"
    exact = f"exact scores would show about {found.ece_by_chance:.3f} with as many entities"
    print_lines([f"{kind}: expected calibration error {found.ece:.3f}{told}", exact], console)
    rows = [
        [
            f"{row.threshold:g}",
            f"{100 * row.kept:.0f} %",
            *map(number, (row.precision, row.recall, row.f1)),
        ]
        for row in found.thresholds
    ]
    headings = ("--min-score", "kept", "P", "R", "F1")
    console.print(to_rich(Table(headings, [rows]), look="wide"))
