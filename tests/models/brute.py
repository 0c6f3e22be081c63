"""The linear chain by counting all tag sequences: slow, and plain enough to be believed."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

from nertune.labels.tagset import TagSet

TAGSETS = {
    "BIO-1": TagSet(("O", "B-A", "I-A"), "BIO"),
    "BIO-2": TagSet(("B-A", "I-A", "O", "B-B", "I-B"), "BIO"),
    "BIOES": TagSet(("O", "B-A", "I-A", "E-A", "S-A"), "BIOES"),
    "BIOS": TagSet(("O", "B-A", "I-A", "S-A"), "BIOS"),
    "BMES_": TagSet(("O", "B_A", "M_A", "E_A", "S_A"), "BMES"),
    "IOB1": TagSet(("O", "I-A", "B-A", "I-B"), "IOB1"),
    "IO": TagSet(("O", "A", "B"), "IO"),
}


def sequences(num_tags: int, length: int) -> Tensor:
    """All `[S, length]` tag sequences."""
    return torch.tensor(list(product(range(num_tags), repeat=length)))


def legal_mask(tagset: TagSet, ids_SU: Tensor, *, first: bool = True, last: bool = True) -> Tensor:
    """Which sequences the scheme allows; `first`, `last`: whether both ends are the document's."""
    legal_S = torch.ones(len(ids_SU), dtype=torch.bool)
    if first:
        legal_S &= torch.tensor(tagset.legal_start_K)[ids_SU[:, 0]]
    if last:
        legal_S &= torch.tensor(tagset.legal_end_K)[ids_SU[:, -1]]
    return legal_S & torch.tensor(tagset.legal_KK)[ids_SU[:, :-1], ids_SU[:, 1:]].all(dim=1)


def path_scores(
    ids_SU: Tensor,
    emission_UK: Tensor,
    start_K: Tensor,
    transition_KK: Tensor,
    end_K: Tensor,
    *,
    first: bool = True,
    last: bool = True,
) -> Tensor:
    """Each sequence's score, with nothing forbidden."""
    scores_S = emission_UK[torch.arange(ids_SU.shape[1]), ids_SU].sum(dim=1)
    scores_S = scores_S + transition_KK[ids_SU[:, :-1], ids_SU[:, 1:]].sum(dim=1)
    if first:
        scores_S = scores_S + start_K[ids_SU[:, 0]]
    if last:
        scores_S = scores_S + end_K[ids_SU[:, -1]]
    return scores_S


def random_parameters(
    tagset: TagSet, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, transition and end scores; large where something is forbidden, which must not show."""
    size = len(tagset)

    def drawn(legal: np.ndarray) -> np.ndarray:
        return np.where(legal, generator.normal(scale=1.5, size=legal.shape), 40.0)

    return (
        drawn(tagset.legal_start_K),
        drawn(tagset.legal_KK).reshape(size, size),
        drawn(tagset.legal_end_K),
    )
