"""What was chosen from a pool to be labelled next, for a terminal."""

from __future__ import annotations

from rich.console import Console

from nertune.reports.content import NOTHING, Row, Table
from nertune.reports.terminal import print_lines, to_rich
from nertune.semisupervised.selection.select import Selection

__all__ = ["print_selection", "selection_table"]


def selection_table(selection: Selection) -> Table:
    """Documents, units, mean score and entities of what was chosen, beside those of the pool."""
    pool, unit = selection.pool, selection.wanted.unit
    units = "characters" if unit == "char" else "words"
    rows: list[Row] = [
        ["documents", f"{len(selection.chosen):,}", f"{pool.documents:,}"],
        [units, f"{selection.num_units:,}", f"{pool.units:,}"],
    ]
    if selection.wanted.strategy != "random":
        before = NOTHING if selection.wanted.strategy == "diversity" else f"{pool.mean_score:.4f}"
        rows.append(["mean score", f"{selection.mean_score:.4f}", before])
    groups = [rows]
    if selection.labels and selection.wanted.predictions:
        counts = selection.count_entities()
        total: Row = ["entities found", f"{sum(counts.values()):,}", NOTHING]
        groups.append([total, *([n, f"{counts.get(n, 0):,}", NOTHING] for n in selection.labels)])
    return Table(["", "chosen", "pool"], groups)


def print_selection(selection: Selection, console: Console) -> None:
    """Print what was chosen, and why other texts were not."""
    console.print(to_rich(selection_table(selection), look="wide"))
    pool = selection.pool
    reasons = {
        "labelled already": pool.labelled,
        "equal to another one": pool.repeated,
        "nearly equal to a labelled or a chosen one": selection.near,
        "longer than the budget": pool.too_long,
        "without text": pool.empty,
    }
    left_out = "; ".join(f"{count:,} {why}" for why, count in reasons.items() if count)
    wanted = selection.wanted
    seed = f", seed {wanted.seed}" if wanted.strategy == "random" else ""
    print_lines([f"chosen by {wanted.strategy}{seed}"], console)
    if left_out:
        print_lines([f"left out: {left_out}"], console)
