#!/usr/bin/env python
"""Begin a BERT whose first layers look at neighbouring positions.

    python tools/neighbour_start.py FOLDER TEXT... [--shape small] [--length 128] [--seed 987]
    nertune pretrain TEXT --encoder FOLDER --output RUN --tokens 1000000 \\
        --set optimizer=muon --set rate=3e-3 --set embedding_factor=2 --set weight_decay=0.1

BERT learns positions, and on a small budget it learns them late. This one starts with sinusoidal
position embeddings in dimensions of their own, and with query and key weights of the first two
layers that look at the neighbours of each position. ModernBERT, the default of `nertune pretrain
--from-scratch`, needs no such start: its positions are rotary.

FOLDER gets the encoder with its prediction head and its tokenizer, as transformers writes them; the
vocabulary is learned from TEXT (plain, .gz or .xz, a sentence or paragraph a line).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nertune.pretraining.model import SHAPES, build_encoder
from nertune.pretraining.text import read_lines
from nertune.pretraining.vocabulary import build_tokenizer, learn_vocabulary

_POSITION_SCALE = 0.08
_SHARPNESS = 0.7  # about half of a head's attention falls on the neighbour that it looks at
_FASTEST = 2.6  # radians a position
_NEIGHBOURS = (-1, 1, -2, 2, 0, -3, 3, 0)  # offsets that the heads of a layer look at, repeated


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--shape", choices=list(SHAPES), default="small")
    parser.add_argument("--vocabulary", type=int, default=0, help="tokens at most; 0: the shape's")
    parser.add_argument("--length", type=int, default=128, help="longest input, in tokens")
    parser.add_argument("--seed", type=int, default=987)
    arguments = parser.parse_args()
    if arguments.folder.exists() and any(arguments.folder.iterdir()):
        parser.error(f"{arguments.folder}: exists and is not empty; name another folder")
    begin(**vars(arguments))


def begin(
    folder: Path, texts: list[Path], *, shape: str, vocabulary: int, length: int, seed: int
) -> None:
    """Write a new encoder and its tokenizer into a folder."""
    found = learn_vocabulary(
        (line.text for line in read_lines(texts)),
        max_tokens=vocabulary or SHAPES[shape].vocabulary,
    )
    model = build_encoder(
        SHAPES[shape], len(found.tokens), architecture="bert", max_tokens=length, seed=seed
    )
    start_bert(model)
    model.save_pretrained(folder)
    build_tokenizer(found, max_tokens=length).save_pretrained(folder)
    print(f"{folder}: {len(found.tokens):,} tokens, {model.num_parameters():,} parameters")


@torch.no_grad()
def start_bert(model: Any) -> None:
    """Put positions into dimensions of their own, and let two layers look at neighbours."""
    embeddings = model.bert.embeddings
    sines, cosines, frequencies = _position_dimensions(model.config.hidden_size)
    angles = torch.arange(embeddings.position_embeddings.weight.shape[0])[:, None] * frequencies
    positions = torch.zeros_like(embeddings.position_embeddings.weight)
    positions[:, sines] = angles.sin() * _POSITION_SCALE
    positions[:, cosines] = angles.cos() * _POSITION_SCALE
    embeddings.position_embeddings.weight.copy_(positions)
    embeddings.token_type_embeddings.weight.zero_()
    embeddings.word_embeddings.weight[:, torch.cat([sines, cosines])] = 0.0
    heads = int(model.config.num_attention_heads)
    for layer in model.bert.encoder.layer[:2]:
        attention = layer.attention.self
        _look_at_neighbours(attention.query.weight, attention.key.weight, heads)


def _position_dimensions(width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The dimensions of sines and of cosines, and their frequencies in radians a position.

    Two fifths of the width. The frequencies are spread evenly, so that neighbours are told apart
    sharply, and unevenly enough that no distance looks like another.
    """
    count = width // 5
    steps = torch.arange(count)
    frequencies = _FASTEST * (steps + (steps * 0.618) % 1.0 + 0.5) / (count + 1)
    return steps, steps + width // 2, frequencies


def _look_at_neighbours(query_DD: Tensor, key_DD: Tensor, heads: int) -> None:
    """Turn each head's query by one offset, so that it fits the key of that neighbour best.

    A head reads some of the position dimensions: its key takes their sines and cosines as they
    are, its query turned by `frequency * offset`, so the product of query i and key j is the sum
    of `cos(frequency * (i + offset - j))`, largest where j = i + offset.
    """
    sines, cosines, frequencies = _position_dimensions(query_DD.shape[1])
    size = query_DD.shape[0] // heads
    count = min(size // 2, len(sines))
    for head in range(heads):
        picked = torch.linspace(0, len(sines) - 1, count).round().long()
        turn = frequencies[picked] * _NEIGHBOURS[head % len(_NEIGHBOURS)]
        own = head * size + torch.arange(count)
        for rows, at_sine, at_cosine in (
            (own, turn.cos(), turn.sin()),
            (own + size // 2, -turn.sin(), turn.cos()),
        ):
            query_DD[rows, sines[picked]] += _SHARPNESS * at_sine
            query_DD[rows, cosines[picked]] += _SHARPNESS * at_cosine
        key_DD[own, sines[picked]] += _SHARPNESS
        key_DD[own + size // 2, cosines[picked]] += _SHARPNESS


if __name__ == "__main__":
    main()
