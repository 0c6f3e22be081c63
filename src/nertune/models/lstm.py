"""The BiLSTM emitter (Huang, Xu & Yu, 2015; Lample et al., 2016, without the word vectors)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

__all__ = ["BiLstmEmitter"]


class BiLstmEmitter(nn.Module):
    """Embeddings, a bidirectional LSTM and a linear layer.

    Each direction is an LSTM of its own that reads left-aligned rows (the backward one reads
    each row's tokens in reverse), so padding never influences a result, and the fast unpacked
    kernels can be used: about twice the speed of packed sequences on a CPU.

    Args:
        vocabulary_size: number of token ids.
        num_tags: number of outputs K.
        embedding_size: width of an embedding.
        hidden_size: width of each direction.
        num_layers: layers.
        dropout: on embeddings, between layers and before the linear layer.
        unknown: share of tokens that are read as unknown (id 1) while training, so that its
            embedding means something when an unseen character comes.

    Shape legend:
        B windows, L tokens, K tags, D features.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_tags: int,
        embedding_size: int = 256,
        hidden_size: int = 256,
        num_layers: int = 2,
        dropout: float = 0.5,
        unknown: float = 0.01,
    ):
        super().__init__()
        self.unknown = unknown
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)
        widths = [embedding_size] + [2 * hidden_size] * (num_layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(w, hidden_size, batch_first=True) for w in widths)
        self.backwards = nn.ModuleList(nn.LSTM(w, hidden_size, batch_first=True) for w in widths)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * hidden_size, num_tags)

    def forward(self, piece_ids_BL: Tensor, attention_BL: Tensor) -> Tensor:
        """Emissions `[B, L, K]`; rows at padding are meaningless.

        Args:
            piece_ids_BL: int64 ids, rows left-aligned.
            attention_BL: 1 at tokens, 0 at padding.
        """
        if self.training and self.unknown:
            dropped_BL = torch.rand(piece_ids_BL.shape, device=piece_ids_BL.device) < self.unknown
            piece_ids_BL = piece_ids_BL.masked_fill(dropped_BL & (piece_ids_BL > 1), 1)
        hidden_BLD = self.dropout(self.embedding(piece_ids_BL))
        reversed_BL = _reversal(attention_BL)
        with _computable(hidden_BLD.device):
            for forward, backward in zip(self.forwards, self.backwards, strict=True):
                ahead_BLD, _ = forward(hidden_BLD)
                behind_BLD, _ = backward(_reorder(hidden_BLD, reversed_BL))
                hidden_BLD = torch.cat([ahead_BLD, _reorder(behind_BLD, reversed_BL)], dim=-1)
                hidden_BLD = self.dropout(hidden_BLD)
        emissions: Tensor = self.classifier(hidden_BLD)
        return emissions


def _computable(device: torch.device) -> AbstractContextManager[object]:
    """Float32 where bf16 was asked for and the processor has no LSTM in it (oneDNN's, on a CPU)."""
    is_asked = device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if is_asked and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.autocast("cpu", enabled=False)
    return nullcontext()


def _reversal(attention_BL: Tensor) -> Tensor:
    """Indices that reverse each row's tokens and leave its padding where it is."""
    steps_L = torch.arange(attention_BL.shape[1], device=attention_BL.device)
    lengths_B1 = attention_BL.sum(dim=1, keepdim=True)
    return torch.where(steps_L < lengths_B1, lengths_B1 - 1 - steps_L, steps_L)


def _reorder(hidden_BLD: Tensor, order_BL: Tensor) -> Tensor:
    return hidden_BLD.gather(1, order_BL.unsqueeze(-1).expand_as(hidden_BLD))
