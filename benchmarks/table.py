"""The measured speeds of tagging and training as one table (Markdown), from benchmarks/results.

    python benchmarks/table.py [FOLDER]

For each program its tokens per second without padding, the ratio to its peer in the same run (the
pipeline of transformers at its best batch size, or the Trainer with batches in random order), and
the share of the rate at which this machine multiplies matrices of the shape: of float32 in tagging,
which int8 and bfloat16 may exceed, and of the program's own precision in training. Each file is one
run on one machine; compare ratios, not speeds, between files.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from machine import RESULTS

PEERS = {"tagging": "against_best_pipeline", "training": "against trainer"}
TITLES = {"tagging": "tagging", "training": "training, LoRA"}


class Row(NamedTuple):
    """One program in one run."""

    task: str
    shape: str
    device: str
    program: str
    tokens_per_second: float
    against_peer: float | None
    share_of_matrix_rate: float | None


def read_rows(folder: Path) -> Iterator[Row]:
    """What the JSON files of tagging_speed.py and training_speed.py say."""
    for task, peer in PEERS.items():
        for path in sorted(folder.glob(f"{task}-*.json")):
            result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if "rates" not in result:
                continue
            name = path.stem
            title = TITLES[task] + (", frozen layers run once" if "-cache" in name else "")
            title += ", each in its default precision" if "-auto" in name else ""
            device = "GPU" if name.endswith("-cuda") else "CPU"
            for program, row in result["rates"].items():
                yield Row(
                    title,
                    result["shape"],
                    device,
                    program,
                    row["tokens_per_second"],
                    row.get(peer),
                    row.get("share_of_matrix_rate"),
                )


def to_markdown(rows: list[Row]) -> str:
    """One table, in the order of the rows."""
    lines = [
        "| task | shape | device | program | tokens/s | against peer | share of matrix rate |",
        "|---|---|---|---|---:|---:|---:|",
    ]
    for row in rows:
        ratio = "" if row.against_peer is None else f"{row.against_peer:.2f} ×"
        share = "" if row.share_of_matrix_rate is None else f"{row.share_of_matrix_rate:.2f}"
        lines.append(
            f"| {row.task} | {row.shape} | {row.device} | {row.program} | "
            f"{row.tokens_per_second:,.0f} | {ratio} | {share} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    print(to_markdown(list(read_rows(arguments.folder))))


if __name__ == "__main__":
    main()
