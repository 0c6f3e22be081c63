"""Vectors of texts: the mean of an encoder's hidden states. Axes: N texts, D width."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nertune.errors import ConfigError
from nertune.inference.predictor import Predictor
from nertune.labels.tagset import TagSet
from nertune.models.build import build_segmenter
from nertune.models.device import choose_device, fast_batch_tokens
from nertune.models.encoder import EncoderEmitter, load_encoder, refuse_missing_embeddings
from nertune.models.heads.softmax import SoftmaxHead
from nertune.models.lstm import BiLstmEmitter
from nertune.models.tagger import Tagger
from nertune.tokens.batching import Batch, collate
from nertune.tokens.grouping import sorted_batches
from nertune.tokens.tokenizer import load_tokenizer
from nertune.tokens.units import Unit
from nertune.tokens.windows import Segmenter, Window
from nertune.types import Document

__all__ = ["TextVectors"]


class TextVectors:
    """Gives the mean hidden state of texts.

    Args:
        tagger: a tagger with an encoder or a BiLSTM; what its head has learned does not matter.
        segmenter: how it reads text.

    Raises:
        ConfigError: it is an exported graph, which gives no hidden states.
    """

    def __init__(self, tagger: Tagger, segmenter: Segmenter):
        if not isinstance(tagger.emitter, EncoderEmitter | BiLstmEmitter):
            raise ConfigError(
                "--strategy diversity: an exported graph gives no hidden states; use the torch "
                "backend"
            )
        self._tagger, self._segmenter = tagger, segmenter

    @classmethod
    def of_predictor(cls, predictor: Predictor) -> TextVectors:
        """From a trained tagger."""
        return cls(predictor.tagger, predictor.segmenter)

    @classmethod
    def load(cls, encoder: str, unit: Unit, *, device: str = "auto") -> TextVectors:
        """From an encoder that is no tagger yet.

        Raises:
            ModelError: it cannot be loaded.
        """
        tagset = TagSet.from_labels(["none"])  # of a head that is never asked
        tokenizer = load_tokenizer(encoder)
        model = load_encoder(encoder, tagset, announce=False)
        refuse_missing_embeddings(encoder, model, tokenizer.vocabulary_size)
        tagger = Tagger(EncoderEmitter(model), SoftmaxHead(tagset)).eval()
        tagger.to(choose_device(device))
        return cls(tagger, build_segmenter(tagger, tokenizer, unit))

    @torch.inference_mode()
    def of(self, documents: Sequence[Document]) -> NDArray[np.float32]:
        """`[N, D]`: the mean over a text's units, each at its first token; 0 without units."""
        windows: list[Window] = []
        for index, document in enumerate(documents):
            windows += self._segmenter.segment(document, index)[1]
        device = self._tagger.device
        batches = sorted_batches(
            [len(window.piece_ids) for window in windows], budget_tokens=fast_batch_tokens(device)
        )
        sums: NDArray[np.float32] | None = None
        counts = np.zeros((len(documents), 1), np.float32)
        for chosen in batches:
            rows = [windows[i] for i in chosen]
            batch = collate(rows, pad_id=self._segmenter.tokenizer.pad_id).to(device)
            found_BD = self._sum(batch)
            if sums is None:
                sums = np.zeros((len(documents), found_BD.shape[1]), np.float32)
            for window, row_D in zip(rows, found_BD, strict=True):
                sums[window.document] += row_D
                counts[window.document] += window.num_units
        if sums is None:
            return np.zeros((len(documents), 1), np.float32)
        sums /= np.maximum(counts, 1)
        return sums

    def _sum(self, batch: Batch) -> NDArray[np.float32]:
        """`[B, D]`: the states at the windows' own units, summed."""
        states_BLD = self._states(batch)
        index_BUD = batch.positions_BU.unsqueeze(2).expand(-1, -1, states_BLD.shape[2])
        states_BUD = states_BLD.gather(1, index_BUD) * batch.mask_BU.unsqueeze(2)
        summed: NDArray[np.float32] = states_BUD.sum(dim=1).float().cpu().numpy()
        return summed

    def _states(self, batch: Batch) -> Tensor:
        """`[B, L, D]`: what the encoder's last layer gives."""
        emitter = self._tagger.emitter
        if isinstance(emitter, EncoderEmitter):
            output = emitter.model(
                input_ids=batch.piece_ids_BL,
                attention_mask=batch.attention_BL,
                output_hidden_states=True,
                return_dict=True,
            )
            # A soft prompt's tokens come first.
            states: Tensor = output.hidden_states[-1][:, -batch.piece_ids_BL.shape[1] :]
            return states
        assert isinstance(emitter, BiLstmEmitter)
        seen: list[Tensor] = []
        hook = emitter.classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            emitter(batch.piece_ids_BL, batch.attention_BL)
        finally:
            hook.remove()
        return seen[0]
