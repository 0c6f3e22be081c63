"""Marginals and the losses against a teacher, held against all tag sequences."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from brute import TAGSETS, legal_mask, path_scores, random_parameters, sequences
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nertune.errors import ConfigError
from nertune.labels.tagset import TagSet
from nertune.models.heads.base import soft_head
from nertune.models.heads.crf import Crf
from nertune.models.heads.decoding import Chain
from nertune.models.heads.marginals import Marginals, find_marginals, tag_marginals
from nertune.models.heads.softmax import SoftmaxHead
from nertune.tokens.batching import SoftBatch


def all_weights(
    tagset: TagSet, emission_UK: np.ndarray, parameters: tuple[np.ndarray, ...], temperature: float
) -> tuple[Tensor, Tensor]:
    """The legal sequences and their probabilities under the softened chain."""
    ids_SU = sequences(len(tagset), len(emission_UK))
    ids_SU = ids_SU[legal_mask(tagset, ids_SU)]
    scores_S = path_scores(ids_SU, torch.tensor(emission_UK), *map(torch.tensor, parameters))
    return ids_SU, (scores_S / temperature).softmax(dim=0)


def counted(ids_SU: Tensor, weight_S: Tensor, num_tags: int) -> Marginals:
    """Marginals by counting."""
    length = ids_SU.shape[1]
    tags_UK = np.zeros((length, num_tags))
    pairs_UKK = np.zeros((length, num_tags, num_tags))
    for ids, weight in zip(ids_SU.tolist(), weight_S.tolist(), strict=True):
        for unit, tag in enumerate(ids):
            tags_UK[unit, tag] += weight
            if unit:
                pairs_UKK[unit, ids[unit - 1], tag] += weight
    return Marginals(tags_UK, pairs_UKK)


@pytest.mark.parametrize("name", TAGSETS)
@given(
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    seed=st.integers(0, 10**6),
    temperature=st.sampled_from([1.0, 0.5, 3.0]),
    is_flat=st.booleans(),
)
def test_marginals_equal_all_sequences(
    name: str, lengths: list[int], seed: int, temperature: float, is_flat: bool
) -> None:
    tagset = TAGSETS[name]
    generator = np.random.default_rng(seed)
    parameters = random_parameters(tagset, generator)
    if is_flat:
        parameters = tuple(np.zeros_like(part) for part in parameters)
    emissions = [generator.normal(scale=2, size=(n, len(tagset))) for n in lengths]
    found = find_marginals(emissions, Chain.of(tagset, *parameters), temperature=temperature)
    tags = tag_marginals(emissions, Chain.of(tagset, *parameters), temperature=temperature)
    for emission_UK, marginals, tags_UK in zip(emissions, found, tags, strict=True):
        assert len(marginals) == len(emission_UK)
        np.testing.assert_array_equal(marginals.tags_UK, tags_UK)
        if len(emission_UK):
            weights = all_weights(tagset, emission_UK, parameters, temperature)
            expected = counted(*weights, len(tagset))
            np.testing.assert_allclose(marginals.tags_UK, expected.tags_UK, atol=1e-12)
            np.testing.assert_allclose(marginals.pairs_UKK, expected.pairs_UKK, atol=1e-12)


def test_temperature_must_be_positive() -> None:
    with pytest.raises(ValueError, match="temperature = 0"):
        tag_marginals([np.zeros((1, 3))], Chain.of(TAGSETS["BIO-1"]), temperature=0)


def learned(tagset: TagSet, seed: int) -> Crf:
    crf = Crf(tagset)
    for parameter, values in zip(
        crf.parameters(), random_parameters(tagset, np.random.default_rng(seed)), strict=True
    ):
        parameter.data.copy_(torch.tensor(values))
    return crf


def soft_batch(rows: list[Marginals], temperature: float = 1.0) -> tuple[SoftBatch, Tensor]:
    """Rows as one batch, and where it has units."""
    width, size = max(map(len, rows)), rows[0].tags_UK.shape[1]
    tags_RUK = torch.zeros(len(rows), width, size)
    pairs_RUKK = torch.zeros(len(rows), width, size, size)
    mask_RU = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        tags_RUK[i, : len(row)] = torch.tensor(row.tags_UK)
        pairs_RUKK[i, : len(row)] = torch.tensor(row.pairs_UKK)
        mask_RU[i, : len(row)] = True
    ids_R = torch.arange(len(rows))
    return (
        SoftBatch(
            ids_R, ids_R[:0], tags_RUK, torch.ones(len(rows)), pairs_RUKK, temperature=temperature
        ),
        mask_RU,
    )


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("name", TAGSETS)
def test_crf_loss_is_the_expected_one_of_the_teachers_sequences(
    name: str, temperature: float
) -> None:
    """Windows within a document, too: a teacher of the whole knows what stands before them."""
    tagset = TAGSETS[name]
    crf = learned(tagset, seed=1)
    generator = np.random.default_rng(2)
    rows, expected, firsts, lasts = [], [], [], []
    logits_RUK = torch.full((16, 4, len(tagset)), 1e3)  # loud padding
    for row, (length, first, last) in enumerate(
        product((1, 2, 3, 4), (True, False), (True, False))
    ):
        ids_SU = sequences(len(tagset), length)
        ids_SU = ids_SU[legal_mask(tagset, ids_SU, first=first, last=last)]
        teacher_S = torch.tensor(generator.dirichlet(np.ones(len(ids_SU))))
        # Marginals decide the expectation only up to what a chain can say, which is all it needs.
        rows.append(counted(ids_SU, teacher_S, len(tagset)))
        logits_RUK[row, :length] = torch.tensor(generator.normal(size=(length, len(tagset))))
        own = [p.detach().double() for p in crf.parameters()]
        logits_UK = logits_RUK[row, :length].double()
        student_S = path_scores(ids_SU, logits_UK, *own, first=first, last=last)
        log_S = (student_S / temperature).log_softmax(dim=0)
        expected.append(-float((teacher_S * log_S).sum()) * temperature**2)
        firsts.append(first)
        lasts.append(last)
    soft, mask_RU = soft_batch(rows, temperature)
    loss_R = crf.soft_loss(logits_RUK, soft, mask_RU, torch.tensor(firsts), torch.tensor(lasts))
    np.testing.assert_allclose(loss_R.detach(), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("kind", [Crf, SoftmaxHead])
def test_gradient_at_certain_targets_is_that_of_gold(kind: type) -> None:
    tagset = TAGSETS["BIO-2"]
    head = learned(tagset, seed=5) if kind is Crf else SoftmaxHead(tagset)
    tags = [[2, 0, 1, 3], [2, 2, 3, 4], [0]]
    rows = [counted(torch.tensor([ids]), torch.ones(1), len(tagset)) for ids in tags]
    soft, mask_RU = soft_batch(rows)
    targets_RU = torch.zeros(3, 4, dtype=torch.int64)
    for i, ids in enumerate(tags):
        targets_RU[i, : len(ids)] = torch.tensor(ids)
    first_R, last_R = torch.tensor([True, False, True]), torch.tensor([True, True, False])
    start = torch.randn(3, 4, len(tagset), generator=torch.Generator().manual_seed(0))
    results = []
    for is_soft in (True, False):
        logits_RUK = start.clone().requires_grad_()
        if is_soft:
            loss = head.soft_loss(logits_RUK, soft, mask_RU, first_R, last_R).sum()
        else:
            loss = head.loss(logits_RUK, targets_RU, mask_RU, first_R, last_R)
        parts = [logits_RUK, *head.parameters()]
        results.append([loss, *torch.autograd.grad(loss, parts)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_loss_is_least_where_the_student_says_what_the_teacher_says() -> None:
    """With a temperature, too: the gradient vanishes where both are the same."""
    tagset = TAGSETS["BIO-2"]
    crf = learned(tagset, seed=7)
    emission_UK = np.random.default_rng(8).normal(size=(4, len(tagset)))
    for head, temperature in product((crf, SoftmaxHead(tagset)), (1.0, 2.5)):
        if head is crf:
            rows = find_marginals([emission_UK], crf.chain(), temperature=temperature)
        else:
            plain_UK = torch.tensor(emission_UK / temperature).softmax(dim=1).numpy()
            rows = [Marginals(plain_UK, np.zeros((4, len(tagset), len(tagset))))]
        soft, mask_RU = soft_batch(rows, temperature)
        logits_RUK = torch.tensor(emission_UK[None], requires_grad=True)
        ends = torch.tensor([True])
        loss = head.soft_loss(logits_RUK, soft, mask_RU, ends, ends).sum()
        for gradient in torch.autograd.grad(loss, [logits_RUK, *head.parameters()]):
            assert gradient.abs().max() < 1e-4


def test_a_head_that_cannot_says_so() -> None:
    class Other:
        tagset = TAGSETS["BIO-1"]

    with pytest.raises(ConfigError, match="Other has no soft_loss"):
        soft_head(Other())  # type: ignore[arg-type]
