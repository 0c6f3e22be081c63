"""The curve of a pre-training run, from its record.

    python benchmarks/curve.py runs/mini-zh/record.json benchmarks/results/mini-zh

Writes the losses as OUTPUT.json (settings, steps, cost and held-out losses beside them) and
OUTPUT.png. Needs nertune[report].
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

KEPT = ("nertune", "versions", "vocabulary", "parameters", "device", "threads", "steps", "tokens",
        "text_share", "epochs", "seconds", "tokens_per_second", "peak_memory_bytes",
        "held_out", "word_tags")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    record = json.loads(arguments.record.read_text(encoding="utf-8"))
    settings = record["settings"]["pretrain"]
    for key in ("files", "word_tags", "exclude"):
        settings[key] = [Path(file).name for file in settings.get(key, ())]
    for key in ("teacher", "encoder"):
        settings[key] = Path(settings.get(key, "")).name
    settings["output"] = Path(settings["output"]).name
    kept = {"settings": settings, **{key: record.get(key) for key in KEPT}}
    history = "[\n " + ",\n ".join(json.dumps(rounded(line)) for line in record["history"]) + "\n]"
    head = json.dumps(kept, ensure_ascii=False, indent=1).removesuffix("\n}")
    arguments.output.with_suffix(".json").write_text(
        f'{head},\n "history": {history}\n}}\n', encoding="utf-8"
    )
    draw(record["history"], arguments.output.with_suffix(".png"))


def rounded(line: dict[str, float]) -> dict[str, Any]:
    return {
        key: value if isinstance(value, int) else round(value, 4) for key, value in line.items()
    }


def draw(history: list[dict[str, float]], path: Path) -> None:
    """Both losses over the pieces trained on."""
    millions = [line["tokens"] / 1e6 for line in history]
    figure, left = plt.subplots(figsize=(7, 4), layout="constrained")
    left.plot(millions, [line["loss"] for line in history], color="tab:blue")
    left.set_xlabel("million tokens")
    left.set_ylabel("masked tokens, nats", color="tab:blue")
    if any(line["tag_loss"] for line in history):
        right = left.twinx()
        right.plot(millions, [line["tag_loss"] for line in history], color="tab:orange")
        right.set_ylabel("word tags, nats", color="tab:orange")
        right.set_ylim(bottom=0)
    left.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
