"""Settings to a tagger: the only module that knows all variants."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from nertune.config.run import LstmSettings, Settings
from nertune.errors import ConfigError
from nertune.labels.tagset import TagSet
from nertune.models.dropout import quicken_dropout
from nertune.models.encoder import (
    EncoderEmitter,
    position_limit,
    refuse_missing_embeddings,
)
from nertune.models.heads.base import build_head, register_head
from nertune.models.heads.crf import Crf
from nertune.models.heads.softmax import SoftmaxHead
from nertune.models.heads.transfer import Base, adopt_state, load_with_head
from nertune.models.lstm import BiLstmEmitter
from nertune.models.peft.adapters import add_adapter, count_virtual_tokens
from nertune.models.peft.tuning import add_lora, freeze_encoder, train_biases, train_top_layers
from nertune.models.tagger import Tagger
from nertune.tokens.tokenizer import CharTokenizer, EncoderTokenizer, Tokenizer, load_tokenizer
from nertune.tokens.units import Unit
from nertune.tokens.windows import Segmenter, open_segmenter
from nertune.types import Document

__all__ = [
    "LONGEST_DEFAULT_WINDOW",
    "build_lstm",
    "build_segmenter",
    "build_tagger",
    "build_tokenizer",
]

_LOG = logging.getLogger("nertune")
_LSTM_WINDOW = 512
register_head("softmax", SoftmaxHead)
register_head("crf", Crf)
LONGEST_DEFAULT_WINDOW = 512
"""Tokens; a window asked for in the settings may be longer where the encoder allows it."""


def build_tokenizer(settings: Settings, documents: Iterable[Document], unit: Unit) -> Tokenizer:
    """The tokenizer of a run; an LSTM's vocabulary comes from the training documents."""
    if settings.model.emitter == "encoder":
        return load_tokenizer(settings.model.encoder)
    if settings.lstm.chars:
        return CharTokenizer.from_file(Path(settings.lstm.chars), unit)
    return CharTokenizer.from_documents(documents, unit, min_count=settings.lstm.min_count)


def build_tagger(
    settings: Settings, tagset: TagSet, tokenizer: Tokenizer, base: Base | None = None
) -> Tagger:
    """A tagger ready to be trained, on the CPU.

    Seed torch before: new weights are drawn from its generator.

    Args:
        settings: the run's.
        tagset: the tags to be learned.
        tokenizer: gives the ids.
        base: what it is built on; by default what `model.encoder` names.

    Raises:
        ModelError: the encoder cannot be loaded, or has fewer embeddings than the tokenizer ids.
        ConfigError: the LoRA settings do not fit the encoder.
    """
    tagger = _build(settings, tagset, tokenizer, base)
    quicken_dropout(tagger)
    return tagger


def _build(settings: Settings, tagset: TagSet, tokenizer: Tokenizer, base: Base | None) -> Tagger:
    decoder = settings.model.decoder
    if settings.model.emitter == "lstm":
        emitter = build_lstm(settings.lstm, len(tagset), tokenizer.vocabulary_size)
        tagger = Tagger(emitter, build_head(decoder, tagset))
        return tagger if base is None else _keep(tagger, base, decoder)
    base = base or load_with_head(settings.model.encoder, tagset)
    model = base.model
    refuse_missing_embeddings(settings.model.encoder, model, tokenizer.vocabulary_size)
    tuning = settings.model.tuning
    if tuning == "frozen":
        freeze_encoder(model)
    elif tuning == "top":
        train_top_layers(model, settings.model.top_layers)
    elif tuning == "bitfit":
        train_biases(model)
    elif tuning == "lora":
        model = add_lora(model, settings.lora)
    elif tuning == "peft":
        model = add_adapter(model, settings.peft)
    return _keep(Tagger(EncoderEmitter(model), build_head(decoder, tagset)), base, decoder)


def _keep(tagger: Tagger, base: Base, name: str) -> Tagger:
    """Keep what the base learned about tags that are learned further, and say so."""
    if base.kept is None:
        return tagger
    if base.state is not None:
        emitter = tagger.emitter
        adopt_state(emitter.model if isinstance(emitter, EncoderEmitter) else emitter, base)
    if tagger.head.state_dict():
        old = base.heads.get(name)
        kept = tagger.head.keep(old, base.kept) if old else ""
        _LOG.info("the head %s %s", name, f"is kept: {kept}" if kept else "is new")
    for other in base.heads.keys() - {name}:
        _LOG.info('the head %s of the model is left out, since model.decoder = "%s"', other, name)
    return tagger


def build_lstm(settings: LstmSettings, num_tags: int, vocabulary_size: int) -> BiLstmEmitter:
    """A BiLSTM with new weights."""
    return BiLstmEmitter(
        vocabulary_size=vocabulary_size,
        num_tags=num_tags,
        embedding_size=settings.embedding_size,
        hidden_size=settings.hidden_size,
        num_layers=settings.layers,
        dropout=settings.dropout,
        unknown=settings.unknown,
    )


def build_segmenter(
    tagger: Tagger, tokenizer: Tokenizer, unit: Unit, *, max_pieces: int = 0, stride: int = -1
) -> Segmenter:
    """How a tagger reads text: windows as asked for, or what the encoder allows (512 at most).

    Raises:
        ConfigError: the window is longer than the encoder's positions, or the stride too long.
    """
    limit = _LSTM_WINDOW
    if isinstance(tagger.emitter, EncoderEmitter):
        virtual = count_virtual_tokens(tagger.emitter.model)
        positions = (position_limit(tagger.emitter.model) or LONGEST_DEFAULT_WINDOW) - virtual
        if max_pieces > positions:
            taken = f", {virtual} of them taken by the soft prompt" if virtual else ""
            raise ConfigError(
                f"model.max_pieces: {max_pieces}, but the encoder has {positions + virtual} "
                f"positions{taken}"
            )
        stated = tokenizer.max_pieces if isinstance(tokenizer, EncoderTokenizer) else None
        limit = min(positions, stated or positions, LONGEST_DEFAULT_WINDOW)
    return open_segmenter(tokenizer, unit, longest=max_pieces or limit, stride=stride)
