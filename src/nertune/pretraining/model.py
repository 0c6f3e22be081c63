"""The model that is pre-trained: an encoder, its masked-language-model head, and a word tagger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nertune.errors import ConfigError, ModelError
from nertune.models.encoder import loading_errors, quiet_transformers
from nertune.models.weights import load_checkpoint, name_some
from nertune.storage.encoders import resolve_encoder

__all__ = ["SHAPES", "Losses", "PretrainingModel", "Shape", "build_encoder", "load_for_pretraining"]


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of an encoder from scratch.

    Attributes:
        layers: transformer layers.
        hidden: width.
        heads: attention heads.
        vocabulary: tokens, at most.
    """

    layers: int
    hidden: int
    heads: int
    vocabulary: int


SHAPES: dict[str, Shape] = {
    "tiny": Shape(layers=2, hidden=128, heads=2, vocabulary=6000),
    "small": Shape(layers=4, hidden=320, heads=5, vocabulary=6000),
    "medium": Shape(layers=8, hidden=512, heads=8, vocabulary=8000),
    "base": Shape(layers=12, hidden=768, heads=12, vocabulary=12000),
}
"""What `--from-scratch` takes."""

_WEIGHT_SCALE = 0.04


@dataclass(frozen=True, slots=True)
class Losses:
    """Mean losses of a batch, nats, each a scalar tensor.

    Attributes:
        masked: over masked tokens.
        tags: over all tokens, weighted by `tag_weights`; 0 without a word tagger.
    """

    masked: Tensor
    tags: Tensor


class PretrainingModel(nn.Module):
    """An encoder with the heads that pre-training needs.

    Args:
        encoder: a transformers masked-language model.
        num_tags: word tags; 0 for none.
        tag_weights: the weight of each word tag in the mean of their losses; all 1 by default.

    Shape legend:
        B rows, L tokens, N masked tokens, D width, V vocabulary, T tags.
    """

    tag_weights_T: Tensor | None

    def __init__(
        self, encoder: Any, num_tags: int = 0, *, tag_weights: Sequence[float] | None = None
    ):
        super().__init__()
        self.encoder = encoder
        width = int(encoder.config.hidden_size)
        self.tagger = nn.Linear(width, num_tags) if num_tags else None
        if self.tagger is not None:
            nn.init.normal_(self.tagger.weight, std=0.02)
            nn.init.zeros_(self.tagger.bias)
        weights = None if tag_weights is None else torch.tensor(tag_weights)
        self.register_buffer("tag_weights_T", weights, persistent=False)

    def forward(
        self, ids_BL: Tensor, positions_N: Tensor, targets_N: Tensor, tags_BL: Tensor | None = None
    ) -> Losses:
        """Losses of a batch without padding.

        Args:
            ids_BL: input, masked tokens replaced.
            positions_N: where they are in the flattened batch.
            targets_N: what they were.
            tags_BL: word tags; -100 where there is none.
        """
        model = self.encoder
        plain = model.get_base_model() if hasattr(model, "get_base_model") else model
        backbone = getattr(plain, plain.base_model_prefix)
        states_BLD = backbone(input_ids=ids_BL, return_dict=True).last_hidden_state
        chosen_ND = states_BLD.flatten(0, 1)[positions_N]
        masked = F.cross_entropy(_predict(plain, chosen_ND).float(), targets_N)
        tags = masked.new_zeros(())
        if self.tagger is not None and tags_BL is not None:
            tags = F.cross_entropy(
                self.tagger(states_BLD).flatten(0, 1).float(),
                tags_BL.flatten(),
                weight=self.tag_weights_T,
                ignore_index=-100,
            )
        return Losses(masked, tags)


def _predict(model: Any, states_ND: Tensor) -> Tensor:
    """Logits `[N, V]` of masked tokens alone, which saves most of the head's work."""
    if hasattr(model, "cls"):  # BERT and its kin
        logits: Tensor = model.cls(states_ND)
    elif hasattr(model, "lm_head"):  # RoBERTa and its kin
        logits = model.lm_head(states_ND)
    elif hasattr(model, "head") and hasattr(model, "decoder"):  # ModernBERT
        logits = model.decoder(model.head(states_ND))
    elif hasattr(model, "vocab_transform"):  # DistilBERT
        states_ND = model.vocab_layer_norm(model.activation(model.vocab_transform(states_ND)))
        logits = model.vocab_projector(states_ND)
    else:
        raise ModelError(
            f"{type(model).__name__}: how it predicts masked tokens is not known to nertune; BERT, "
            "RoBERTa, DistilBERT, ModernBERT and RoFormer can be pre-trained"
        )
    return logits


def load_for_pretraining(name: str) -> tuple[Any, bool]:
    """An encoder with its masked-language-model head, in float32.

    Returns:
        The model, and whether its head is a new one since the encoder came without.

    Raises:
        ModelError: nothing can be loaded from there, or a parameter of the encoder is missing or of
            another shape.
    """
    from transformers import AutoModelForMaskedLM

    location = resolve_encoder(name)
    with loading_errors(name, location, "masked-language"), quiet_transformers():
        model, head = load_checkpoint(AutoModelForMaskedLM, name, new_head=True)
    if head.mismatched:
        raise ModelError(
            f"{name}: its prediction head is of another shape than config.json says: "
            f"{name_some(key for key, _ in head.mismatched)}"
        )
    return model, bool(head.new)


def build_encoder(
    shape: Shape, vocabulary_size: int, *, architecture: str, max_tokens: int, seed: int
) -> Any:
    """A new masked-language model.

    Args:
        shape: its size.
        vocabulary_size: tokens.
        architecture: `bert` or `modernbert`.
        max_tokens: the longest input.
        seed: of the weights.

    Raises:
        ConfigError: another architecture, or a width that the heads do not divide.
    """
    if shape.hidden % shape.heads:
        raise ConfigError(
            f"hidden = {shape.hidden} is not a multiple of heads = {shape.heads}: each head takes "
            "an equal share of the width"
        )
    torch.manual_seed(seed)
    common: dict[str, Any] = {
        "vocab_size": vocabulary_size,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": max_tokens,
        "pad_token_id": 0,
    }
    if architecture == "bert":
        from transformers import BertConfig, BertForMaskedLM

        return BertForMaskedLM(
            BertConfig(
                **common, intermediate_size=4 * shape.hidden, initializer_range=_WEIGHT_SCALE
            )
        )
    if architecture == "modernbert":
        from transformers import ModernBertConfig, ModernBertForMaskedLM

        return ModernBertForMaskedLM(
            ModernBertConfig(
                **common,
                # A gated layer has three matrices, so two thirds of the width cost the same.
                intermediate_size=shape.hidden * 8 // 3 // 32 * 32,
                cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3,
                embedding_dropout=0.1, mlp_dropout=0.1, attention_dropout=0.1,
                classifier_dropout=0.1,
            )
        )  # fmt: skip
    raise ConfigError(f"architecture {architecture!r}: expected bert or modernbert")
