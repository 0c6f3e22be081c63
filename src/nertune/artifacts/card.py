"""The model card of a trained tagger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nertune.artifacts.manifest import (
    ADAPTED,
    Manifest,
)
from nertune.artifacts.parts import Extended
from nertune.data.formats.values import counted
from nertune.labels.tagset import TagSet

__all__ = [
    "extended_card",
    "model_card",
]


def model_card(manifest: Manifest) -> str:
    """README.md of the folder, with the metadata block that the hub reads."""
    labels = TagSet(manifest.tags, manifest.scheme).labels
    what = "BiLSTM" if manifest.emitter == "lstm" else f"{manifest.encoder}, {manifest.tuning}"
    lines = ["---", "library_name: nertune", "pipeline_tag: token-classification", "tags: [ner]"]
    lines += ["---", "", f"# Named-entity tagger ({what}, {manifest.decoder})", ""]
    lines += [f"Entity types: {', '.join(labels)}. Unit: {manifest.unit}.", ""]
    lines += ["    nertune predict FOLDER 'some text'", ""]
    if manifest.tuning in ADAPTED:
        kind = "A LoRA adapter" if manifest.tuning == "lora" else "An adapter (peft)"
        lines += [
            f"{kind} for `{manifest.encoder}` (sha256 of its weights "
            f"`{manifest.encoder_sha256[:16]}…`); the classifier is in the adapter.",
            "",
        ]
    if manifest.emitter == "encoder" and manifest.is_calibrated:
        lines += [
            "nertune calibrates the scores of entities; transformers alone shows them as the model "
            "gives them.",
            "",
        ]
    lines += _scores(manifest.metrics)
    if manifest.data:
        lines += ["## Data", ""]
        lines += [
            f"- {split}{_of_files(info)}: {counted(info['documents'], 'document')}, "
            f"{counted(info['entities'], 'entity')}, sha256 `{info['sha256'][:16]}…`"
            for split, info in manifest.data.items()
            if info
        ]
        lines.append("")
    lines.append(f"Trained with nertune {manifest.nertune}.")
    return "\n".join(lines) + "\n"


def extended_card(extended: Extended) -> str:
    """README.md of an extended model's folder."""
    lines = ["---", "library_name: nertune", "pipeline_tag: token-classification", "tags: [ner]"]
    lines += ["---", "", f"# Named-entity tagger, extended ({len(extended.parts)} parts)", ""]
    lines += [f"Entity types: {', '.join(extended.labels)}. Unit: {extended.unit}.", ""]
    lines += ["    nertune predict FOLDER 'some text'", ""]
    lines += [
        "Each part has its own head on the same frozen encoder, and answers as it does alone.",
        "",
        "| part | entity types | model | head | overlaps | MB |",
        "|---|---|---|---|---|---|",
    ]
    overlaps = ("", *extended.overlaps)
    for part, overlap in zip(extended.parts, overlaps, strict=True):
        told = {"": "", "keep": "kept", "old-wins": "the older entity wins"}[overlap]
        cells = [f"`{part.folder}`", ", ".join(part.labels), part.encoder, part.decoder, told]
        lines.append(f"| {' | '.join(cells)} | {part.bytes / 1e6:.1f} |")
    lines += ["", *_scores(extended.metrics), f"Written by nertune {extended.nertune}."]
    return "\n".join(lines) + "\n"


def _scores(metrics: Mapping[str, Any]) -> list[str]:
    """A table for each split that was scored."""
    lines: list[str] = []
    for split in ("dev", "test"):
        scores = metrics.get(split)
        if scores:
            lines += [
                f"## Scores on {split} (strict spans)",
                "",
                "| | P | R | F1 | support |",
                "|---|---|---|---|---|",
            ]
            rows = {"micro": scores["micro"], "macro": scores["macro"], **scores["types"]}
            for name, row in rows.items():
                cells = " | ".join(
                    "–" if row.get(k) is None else f"{row[k]:.4f}"
                    for k in ("precision", "recall", "f1")
                )
                lines.append(f"| {name} | {cells} | {row.get('support', '')} |")
            lines.append("")
            if interval := scores["micro"].get("f1_ci95"):
                number = scores.get("source_documents") or scores.get("documents")
                lines.append(
                    f"Micro F1: 95 % interval [{interval[0]:.4f}, {interval[1]:.4f}] over "
                    f"{number} documents (bootstrap); of this one training."
                )
                lines.append("")
    return lines


def _of_files(info: Mapping[str, Any]) -> str:
    """The names of several files, with the labels that each is labelled for."""
    told = [
        Path(file["path"]).name
        + (f" ({', '.join(file['labels'])})" if file.get("labels") is not None else "")
        for file in info.get("files") or ()
    ]
    return f", of {'; '.join(told)}" if told else ""
