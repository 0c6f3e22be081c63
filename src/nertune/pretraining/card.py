"""The model card of a pre-trained encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["encoder_card"]


def encoder_card(record: dict[str, Any]) -> str:
    """A model card: data, steps, cost, limits.

    Args:
        record: of the run, as in `record.json`.
    """
    settings = record["settings"]["pretrain"]
    origin = settings["encoder"] or f"from scratch ({settings['from_scratch']})"
    after = record["held_out"]["after"]
    quality = (
        f"Held-out perplexity {after['perplexity']:.1f} ({after['loss']:.3f} nats per masked "
        f"token, {after['pieces']} of them)."
        if after
        else "No text was held out to measure it."
    )
    lengths = [length for key in ("length", "long_length") if (length := settings[key])]
    limits = (
        f"Positions beyond {max(lengths)} were not trained."
        if settings["from_scratch"]
        else f"It was trained further in rows of {' and '.join(map(str, lengths))} tokens."
    )
    share = settings["entity_mask_share"]
    entities = f"; whole entities, {share:.0%}" if share else ""
    return f"""# Model card

An encoder for nertune and transformers, pre-trained with `nertune pretrain` {record["nertune"]}.

- Begun: {origin}.
- Text: {", ".join(Path(p).name for p in settings["files"])}.
- Budget: {record["tokens"]:,} tokens in {record["steps"]:,} steps, {_duration(record["seconds"])} \
on {record["device"]}.
- Masking: {settings["masking"]}, {settings["mask_share"]:.0%}{entities}.
- {_card_of_words(record["word_tags"])}
- {quality}

**Limits.** {limits} It knows what its text knows.
"""


def _card_of_words(word_tags: dict[str, Any] | None) -> str:
    if word_tags is None:
        return "No second task."
    entities = ", ".join(word_tags["entity_tags"]) or "none"
    return (
        f"Second task: the word tags of {word_tags['tagger']} ({len(word_tags['tags'])} tags; of "
        f"entities: {entities}). They are another tagger's, with its mistakes, and the encoder "
        "knows what that tagger was trained on."
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
