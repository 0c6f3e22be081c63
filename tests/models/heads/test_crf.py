"""The CRF's loss and gradient against all tag sequences, and the two decoders side by side."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from brute import TAGSETS, legal_mask, path_scores, random_parameters, sequences
from torch import Tensor
from torch.nn import functional

from nertune.labels.align import IGNORED, UNKNOWN
from nertune.labels.tagset import TagSet
from nertune.models.heads.base import Head
from nertune.models.heads.crf import Crf
from nertune.models.heads.decoding import log_partitions, viterbi
from nertune.models.heads.softmax import SoftmaxHead

ENDS = list(product((True, False), repeat=2))  # whether a window begins, ends its document
LENGTHS = range(1, 6)


def learned_crf(tagset: TagSet, seed: int) -> Crf:
    crf = Crf(tagset)
    start_K, transition_KK, end_K = random_parameters(tagset, np.random.default_rng(seed))
    with torch.no_grad():
        crf.start_K.copy_(torch.tensor(start_K))
        crf.transition_KK.copy_(torch.tensor(transition_KK))
        crf.end_K.copy_(torch.tensor(end_K))
    return crf


def loss_of(
    decoder: Head, emissions_BUK: Tensor, tags_BU: Tensor, first_B: Tensor, last_B: Tensor
) -> Tensor:
    return decoder.loss(emissions_BUK, tags_BU, tags_BU != IGNORED, first_B, last_B)


def padded_batch(
    tagset: TagSet, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[tuple[int, bool, bool]]]:
    """Each length with each kind of window; gold drawn from the legal sequences; loud padding."""
    generator = torch.Generator().manual_seed(seed)
    rows = [(length, *ends) for length in LENGTHS for ends in ENDS]
    emissions_BUK = 2 * torch.randn(len(rows), max(LENGTHS), len(tagset), generator=generator)
    tags_BU = torch.full((len(rows), max(LENGTHS)), IGNORED)
    for row, (length, first, last) in enumerate(rows):
        ids_SU = sequences(len(tagset), length)
        ids_SU = ids_SU[legal_mask(tagset, ids_SU, first=first, last=last)]
        tags_BU[row, :length] = ids_SU[torch.randint(len(ids_SU), (), generator=generator)]
        emissions_BUK[row, length:] = 1e3
    first_B = torch.tensor([first for _, first, _ in rows])
    last_B = torch.tensor([last for *_, last in rows])
    return emissions_BUK, tags_BU, first_B, last_B, rows


def forget(tags_BU: Tensor, share: float) -> Tensor:
    """The same gold with so many of its units unknown."""
    generator = torch.Generator().manual_seed(8)
    drawn_BU = torch.rand(tags_BU.shape, generator=generator) < share
    return tags_BU.masked_fill(drawn_BU & (tags_BU != IGNORED), UNKNOWN)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", TAGSETS)
def test_loss_and_gradient_equal_all_sequences(name: str, share: float) -> None:
    """With units of unknown tags, those of all sequences that agree with the known ones."""
    tagset = TAGSETS[name]
    crf = learned_crf(tagset, seed=3)
    emissions_BUK, tags_BU, first_B, last_B, rows = padded_batch(tagset, seed=4)
    tags_BU = forget(tags_BU, share)

    wide = [p.detach().double().requires_grad_() for p in crf.parameters()]
    wide_BUK = emissions_BUK.double().requires_grad_()
    expected = torch.zeros((), dtype=torch.float64)
    for row, (length, first, last) in enumerate(rows):
        ids_SU = sequences(len(tagset), length)
        ids_SU = ids_SU[legal_mask(tagset, ids_SU, first=first, last=last)]
        scores_S = path_scores(ids_SU, wide_BUK[row, :length], *wide, first=first, last=last)
        tags_U = tags_BU[row, :length]
        gold = ((ids_SU == tags_U) | (tags_U == UNKNOWN)).all(dim=1)
        assert (gold.sum() == 1) if share == 0 else gold.any()
        nll = scores_S.logsumexp(dim=0) - scores_S[gold].logsumexp(dim=0)
        assert nll >= 0
        expected = expected + nll
    expected.backward()

    emissions_BUK.requires_grad_()
    loss = loss_of(crf, emissions_BUK, tags_BU, first_B, last_B)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-4)
    for actual, wanted in zip([emissions_BUK, *crf.parameters()], [wide_BUK, *wide], strict=True):
        assert actual.grad is not None
        assert wanted.grad is not None
        torch.testing.assert_close(actual.grad.double(), wanted.grad, atol=1e-4, rtol=1e-4)
    # Padding and what is forbidden learn nothing.
    assert emissions_BUK.grad is not None
    assert crf.transition_KK.grad is not None
    assert not emissions_BUK.grad[tags_BU == IGNORED].any()
    assert not crf.transition_KK.grad[~torch.tensor(tagset.legal_KK)].any()


def test_padding_is_where_the_mask_says() -> None:
    """Whatever stands in the tags there, for tags may be unknown within a row, too."""
    tagset = TAGSETS["BIO-2"]
    emissions_BUK, tags_BU, first_B, last_B, _ = padded_batch(tagset, seed=5)
    mask_BU = tags_BU != IGNORED
    for decoder in (learned_crf(tagset, seed=2), SoftmaxHead(tagset)):
        for gold_BU in (tags_BU, forget(tags_BU, 0.3)):
            expected = decoder.loss(emissions_BUK, gold_BU, mask_BU, first_B, last_B)
            for filling in (0, 3, UNKNOWN):
                filled_BU = gold_BU.masked_fill(~mask_BU, filling)
                found = decoder.loss(emissions_BUK, filled_BU, mask_BU, first_B, last_B)
                torch.testing.assert_close(found, expected)


def test_what_is_not_known_teaches_nothing() -> None:
    tagset = TAGSETS["BIO-2"]
    emissions_BUK, tags_BU, first_B, last_B, _ = padded_batch(tagset, seed=5)
    for decoder in (learned_crf(tagset, seed=2), SoftmaxHead(tagset)):
        leaf_BUK = emissions_BUK.clone().requires_grad_()
        loss = loss_of(decoder, leaf_BUK, forget(tags_BU, 1.0), first_B, last_B)
        loss.backward()
        assert loss.item() == 0
        assert leaf_BUK.grad is not None
        assert not leaf_BUK.grad.any()


def test_extreme_emissions_against_the_gold_are_finite() -> None:
    """An emission cannot outweigh that its tag contradicts the gold."""
    tagset = TAGSETS["BIO-2"]
    o, b = tagset.encode(["O", "B-B"])
    emissions_BUK = torch.zeros(1, 3, len(tagset))
    emissions_BUK[0, :, o] = 5e4
    emissions_BUK.requires_grad_()
    yes = torch.tensor([True])
    loss = loss_of(Crf(tagset), emissions_BUK, torch.tensor([[b, UNKNOWN, b]]), yes, yes)
    loss.backward()
    assert loss.item() == pytest.approx(2 * 5e4)
    assert emissions_BUK.grad is not None
    assert torch.isfinite(emissions_BUK.grad).all()


def test_each_row_counts_by_itself() -> None:
    tagset = TAGSETS["BIO-2"]
    crf = learned_crf(tagset, seed=1)
    emissions_BUK, tags_BU, first_B, last_B, rows = padded_batch(tagset, seed=2)
    alone = [
        loss_of(
            crf,
            emissions_BUK[i : i + 1, :length],
            tags_BU[i : i + 1, :length],
            first_B[i : i + 1],
            last_B[i : i + 1],
        ).item()
        for i, (length, *_) in enumerate(rows)
    ]
    together = loss_of(crf, emissions_BUK, tags_BU, first_B, last_B).item()
    assert together == pytest.approx(sum(alone), rel=1e-5)


def test_the_trained_distribution_is_the_decoded_one() -> None:
    """exp(−loss) of all legal sequences sums to 1 under the Chain's own log Z."""
    tagset = TAGSETS["BIO-2"]
    crf = learned_crf(tagset, seed=6)
    emission_UK = torch.randn(3, len(tagset))
    ids_SU = sequences(len(tagset), 3)
    ids_SU = ids_SU[legal_mask(tagset, ids_SU)]
    yes = torch.tensor([True])
    losses = torch.stack(
        [loss_of(crf, emission_UK[None], row[None], yes, yes) for row in ids_SU]
    ).detach()
    assert torch.exp(-losses).sum().item() == pytest.approx(1, abs=1e-4)
    (best,) = viterbi([emission_UK.numpy()], crf.chain())
    assert best.tolist() == ids_SU[losses.argmin()].tolist()
    gold_score = path_scores(
        ids_SU[:1], emission_UK, crf.start_K, crf.transition_KK, crf.end_K
    ).item()
    log_z = log_partitions([emission_UK.numpy()], crf.chain())[0]
    assert losses[0].item() == pytest.approx(log_z - gold_score, abs=1e-4)


def test_a_new_crf_without_rules_is_a_softmax() -> None:
    """IO forbids nothing, so with zero transitions units are independent."""
    tagset = TAGSETS["IO"]
    emissions_BUK, tags_BU, first_B, last_B, _ = padded_batch(tagset, seed=1)
    crf, softmax = Crf(tagset), SoftmaxHead(tagset)
    torch.testing.assert_close(
        loss_of(crf, emissions_BUK, tags_BU, first_B, last_B),
        loss_of(softmax, emissions_BUK, tags_BU, first_B, last_B),
        rtol=1e-5,
        atol=1e-4,
    )


def test_rules_only_lower_the_loss() -> None:
    tagset = TAGSETS["BIO-2"]
    emissions_BUK, tags_BU, first_B, last_B, _ = padded_batch(tagset, seed=1)
    bound = loss_of(SoftmaxHead(tagset), emissions_BUK, tags_BU, first_B, last_B)
    assert 0 < loss_of(Crf(tagset), emissions_BUK, tags_BU, first_B, last_B) < bound


def test_softmax_is_the_sum_of_cross_entropies() -> None:
    tagset = TAGSETS["BIO-2"]
    emissions_BUK, tags_BU, first_B, last_B, _ = padded_batch(tagset, seed=9)
    kept = tags_BU != IGNORED
    expected = sum(
        -torch.log_softmax(emission_K, 0)[tag]
        for emission_K, tag in zip(emissions_BUK[kept], tags_BU[kept], strict=True)
    )
    softmax = SoftmaxHead(tagset)
    torch.testing.assert_close(loss_of(softmax, emissions_BUK, tags_BU, first_B, last_B), expected)
    scores_BUK = softmax.scores(emissions_BUK)
    torch.testing.assert_close(scores_BUK, functional.log_softmax(emissions_BUK, dim=-1))
    chain = softmax.chain()
    assert set(np.unique(chain.transition_KK)) == {0.0, -np.inf}
    assert (np.isfinite(chain.transition_KK) == tagset.legal_KK).all()


def test_half_precision_emissions_are_summed_in_single() -> None:
    """Under autocast emissions come in bfloat16; the loss must not be."""
    tagset = TAGSETS["BIO-2"]
    emissions_BUK, tags_BU, first_B, last_B, _ = padded_batch(tagset, seed=3)
    narrow_BUK = emissions_BUK.bfloat16()
    for decoder in (Crf(tagset), SoftmaxHead(tagset)):
        loss = loss_of(decoder, narrow_BUK, tags_BU, first_B, last_B)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(
            loss, loss_of(decoder, narrow_BUK.float(), tags_BU, first_B, last_B)
        )
        assert decoder.scores(narrow_BUK).dtype == torch.float32


def test_a_very_long_row_stays_finite() -> None:
    tagset = TAGSETS["BIO-1"]
    crf = learned_crf(tagset, seed=2)
    emission_UK = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    tags_U = torch.tensor(viterbi([emission_UK.numpy()], crf.chain())[0])
    yes = torch.tensor([True])
    with torch.no_grad():
        loss = loss_of(crf, emission_UK[None], tags_U[None], yes, yes)
    assert torch.isfinite(loss)
    score = path_scores(
        tags_U[None],
        emission_UK.double(),
        *(p.detach().double() for p in (crf.start_K, crf.transition_KK, crf.end_K)),
    ).item()
    log_z = log_partitions([emission_UK.numpy()], crf.chain())[0]
    assert loss.item() == pytest.approx(log_z - score, rel=1e-3)


def test_extreme_emissions_have_finite_gradients() -> None:
    tagset = TAGSETS["BIOES"]
    crf = Crf(tagset)
    emissions_BUK = torch.zeros(1, 3, 5)
    emissions_BUK[0, :, 2] = 5e3  # inside, inside, inside: illegal at both ends
    emissions_BUK.requires_grad_()
    yes = torch.tensor([True])
    loss = loss_of(crf, emissions_BUK, torch.tensor([[0, 0, 0]]), yes, yes)
    loss.backward()
    for tensor in (emissions_BUK, *crf.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("tags", [[IGNORED, IGNORED], [IGNORED, 0], [0, IGNORED, 0]])
def test_rows_with_gaps_are_refused(tags: list[int]) -> None:
    yes = torch.tensor([True])
    with pytest.raises(ValueError, match="run of units"):
        loss_of(Crf(TAGSETS["BIO-1"]), torch.zeros(1, len(tags), 3), torch.tensor([tags]), yes, yes)


def test_only_the_scores_are_stored() -> None:
    """What is legal follows from the tags, so it is not in the file."""
    assert set(Crf(TAGSETS["BIO-1"]).state_dict()) == {"start_K", "transition_KK", "end_K"}
