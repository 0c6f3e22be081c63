"""What came of an extension, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from nertune.reports.content import NOTHING, Table
from nertune.reports.numbers import number
from nertune.reports.terminal import print_lines, to_rich

__all__ = ["print_extension"]

_ROWS = {
    "old_before": "old types, before",
    "old": "old types, now",
    "new": "new types",
    "all": "all types",
}


def print_extension(record: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Scores of old types before and after and of new ones, what was added, what to do next.

    Args:
        record: `record.json`.
        folder: the extension's.
        console: where to.
    """
    labels, parameters, size = record["labels"], record["parameters"], record["bytes"]
    old, new = (", ".join(labels[key]) for key in ("old", "new"))
    print_lines(
        [
            f"{record['extends']['model']} ({old}) extended by {new}: "
            f"{parameters['trainable']:,} parameters and {size['added'] / 1e6:.1f} MB added, "
            f"{record['seconds']:.0f} s, best epoch {record['best_epoch']}"
        ],
        console,
    )
    for split in ("dev", "test"):
        if record[split]:
            _print_split(record[split], f"{split}: {record['data'][split]['path']}", console)
    compared = record["compared"]
    lines = [
        f"old answers: {compared['old_entities']:,} entities in {compared['documents']:,} "
        "documents, all the same to the last bit of their probabilities"
    ]
    lines += [f"model: {folder}/model", f"next:  nertune predict {folder}/model 'some text'"]
    print_lines(lines, console)


def _print_split(scores: Mapping[str, Any], title: str, console: Console) -> None:
    print_lines([title], console)
    groups: list[list[list[str]]] = []
    for key, name in _ROWS.items():
        found = scores[key]
        if found is None:
            groups.append([[name, *[NOTHING] * 5]])
            continue
        rows = [_row(name, found["micro"])]
        if key == "new" and len(found["types"]) > 1:
            rows += [_row(f"  {label}", row) for label, row in found["types"].items()]
        groups.append(rows)
    headings = ("", "P", "R", "F1", "gold", "pred.")
    console.print(to_rich(Table(headings, groups), look="wide"))
    if scores["old"] is None:
        print_lines(
            ["no entity of an old type is labelled there, so these are not scored"], console
        )
    overlaps = scores["overlaps"]
    if overlaps["overlap_old"]:
        print_lines(
            [
                f"{overlaps['overlap_old']:,} of {overlaps['new_entities']:,} new entities overlap "
                "an old one"
            ],
            console,
        )


def _row(name: str, row: Mapping[str, Any]) -> list[str]:
    figures = [number(row[key]) for key in ("precision", "recall", "f1")]
    return [name, *figures, f"{row['support']:,}", f"{row['predicted']:,}"]
