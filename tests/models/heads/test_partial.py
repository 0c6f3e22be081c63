"""Partially labelled gold: losses and expected ratios against all legal tag sequences.

What agrees with a document's gold is judged here by decoded entities, not by sets of tags: every
gold entity is there as it is, and nothing where the scope says that there is nothing.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from brute import legal_mask, path_scores, random_parameters, sequences
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nertune.labels.align import UNKNOWN, align_entities, continuation_ids
from nertune.labels.tagset import TagSet
from nertune.models.heads.allowed import AllowedTags
from nertune.models.heads.base import SequenceHead
from nertune.models.heads.crf import Crf
from nertune.models.heads.entity_ratio import EntityRatio
from nertune.models.heads.softmax import SoftmaxHead
from nertune.models.tagger import Tagger
from nertune.tokens.batching import Batch, collate
from nertune.tokens.windows import Window
from nertune.types import Document, Entity, Scope

TAGSET = TagSet.from_labels(["A", "B"])  # O B-A I-A B-B I-B
LONGEST = 5


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A text of a few characters, with entities apart, and any scope."""
    length = draw(st.integers(1, LONGEST))
    borders = sorted(draw(st.sets(st.integers(0, length), max_size=4)))
    entities = [
        Entity(start, end, draw(st.sampled_from("AB")))
        for start, end in zip(borders[::2], borders[1::2], strict=False)
    ]
    if draw(st.booleans()) and length > 1 and not entities:  # two that touch
        entities = [Entity(0, 1, "A"), Entity(1, 2, draw(st.sampled_from("AB")))]
    labels = draw(st.none() | st.sets(st.sampled_from("ABC")).map(tuple))
    unknown = sorted(draw(st.sets(st.integers(0, length), max_size=2)))
    spans = (tuple(unknown),) if len(unknown) == 2 else ()
    return Document("x" * length, tuple(entities), scope=Scope(labels, draw(st.booleans()), spans))


def units_of(document: Document) -> list[tuple[int, int]]:
    return [(i, i + 1) for i in range(len(document.text))]


def agrees(document: Document, ids: list[int]) -> bool:
    """Whether the entities of a tag sequence are possible, given the gold."""
    scope = document.scope
    found = {(s.first, s.last, s.label) for s in TAGSET.decode(ids)}
    if not {e.key for e in document.entities} <= found:
        return False
    covered = {i for e in document.entities for i in range(e.start, e.end)}
    others = {i: label for first, last, label in found for i in range(first, last)}
    for i, label in others.items():
        is_unknown = any(start <= i < end for start, end in scope.unknown)
        if i in covered or is_unknown or not scope.complete:
            continue
        if scope.labels is None or label in scope.labels:
            return False
    return True


def learned(seed: int) -> Crf:
    crf = Crf(TAGSET)
    values = random_parameters(TAGSET, np.random.default_rng(seed))
    with torch.no_grad():
        for parameter, value in zip(crf.parameters(), values, strict=True):
            parameter.copy_(torch.tensor(value))
    return crf


def loss_of(head: SequenceHead, logits_BUK: Tensor, targets: list[int]) -> Tensor:
    mask_BU = torch.ones(1, len(targets), dtype=torch.bool)
    yes = torch.tensor([True])
    return head.loss(logits_BUK, torch.tensor([targets]), mask_BU, yes, yes)


@settings(max_examples=60, deadline=None)
@given(documents(), st.integers(0, 99))
def test_crf_sums_over_what_agrees_with_the_gold(document: Document, seed: int) -> None:
    crf = learned(seed)
    length = len(document.text)
    logits_UK = torch.randn(length, len(TAGSET), generator=torch.Generator().manual_seed(seed))
    logits_UK.requires_grad_()
    ids_SU = sequences(len(TAGSET), length)
    ids_SU = ids_SU[legal_mask(TAGSET, ids_SU)]
    scores_S = path_scores(ids_SU, logits_UK.double(), *(p.double() for p in crf.parameters()))
    gold = torch.tensor([agrees(document, ids) for ids in ids_SU.tolist()])
    expected = scores_S.logsumexp(0) - scores_S[gold].logsumexp(0)
    (wanted,) = torch.autograd.grad(expected, logits_UK)

    targets = crf.targets(document, units_of(document))
    loss = loss_of(crf, logits_UK[None], list(targets.values))
    (found,) = torch.autograd.grad(loss, logits_UK)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-4)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)


@settings(max_examples=60, deadline=None)
@given(documents().filter(lambda d: not (d.scope.unknown and d.scope.labels)), st.integers(0, 99))
def test_softmax_sums_over_each_unit_s_tags(document: Document, seed: int) -> None:
    """Of a unit alone, what agrees is the union over the sequences that agree with the gold.

    Where spans of which nothing is known stand beside known absence of some labels, it is wider.
    """
    head = SoftmaxHead(TAGSET)
    length = len(document.text)
    logits_UK = torch.randn(length, len(TAGSET), generator=torch.Generator().manual_seed(seed))
    logits_UK.requires_grad_()
    ids_SU = sequences(len(TAGSET), length)
    ids_SU = ids_SU[legal_mask(TAGSET, ids_SU)]
    ids_SU = ids_SU[torch.tensor([agrees(document, ids) for ids in ids_SU.tolist()])]
    possible_UK = torch.zeros(length, len(TAGSET), dtype=torch.bool)
    possible_UK[torch.arange(length).expand_as(ids_SU), ids_SU] = True
    shares_UK = logits_UK.double().softmax(dim=1)
    expected = -(shares_UK * possible_UK).sum(dim=1).log().sum()
    (wanted,) = torch.autograd.grad(expected, logits_UK)

    targets = head.targets(document, units_of(document))
    loss = loss_of(head, logits_UK[None], list(targets.values))
    (found,) = torch.autograd.grad(loss, logits_UK)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-4)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, LONGEST), st.integers(1, LONGEST), st.integers(0, 99))
def test_expected_entity_units_equal_all_sequences(one: int, other: int, seed: int) -> None:
    crf, softmax = learned(seed), SoftmaxHead(TAGSET)
    longest = max(one, other)
    generator = torch.Generator().manual_seed(seed)
    logits_BUK = torch.randn(2, longest, len(TAGSET), generator=generator).requires_grad_()
    mask_BU = torch.arange(longest) < torch.tensor([[one], [other]])
    first_B, last_B = torch.tensor([True, False]), torch.tensor([False, True])
    inside_K = torch.tensor([tag != "O" for tag in TAGSET.tags])
    wanted = []
    for row, length in enumerate((one, other)):
        is_first, is_last = bool(first_B[row]), bool(last_B[row])
        ids_SU = sequences(len(TAGSET), length)
        ids_SU = ids_SU[legal_mask(TAGSET, ids_SU, first=is_first, last=is_last)]
        scores_S = path_scores(
            ids_SU, logits_BUK[row, :length], *crf.parameters(), first=is_first, last=is_last
        )
        wanted.append((scores_S.softmax(0) * inside_K[ids_SU].sum(dim=1)).sum())
    expected_B = torch.stack(wanted)
    found_B = crf.expected_entity_units(logits_BUK, mask_BU, first_B, last_B)
    torch.testing.assert_close(found_B, expected_B, atol=1e-4, rtol=1e-4)
    inputs = [logits_BUK, *crf.parameters()]
    gradients = [
        torch.autograd.grad(v.sum(), inputs, allow_unused=True, materialize_grads=True)
        for v in (found_B, expected_B)
    ]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)

    units_B = softmax.expected_entity_units(logits_BUK, mask_BU, first_B, last_B)
    inside_BU = logits_BUK.softmax(-1)[..., inside_K].sum(-1)
    torch.testing.assert_close(units_B, torch.stack([inside_BU[0, :one].sum(),
                                                     inside_BU[1, :other].sum()]))  # fmt: skip


@pytest.mark.parametrize("head", [Crf(TAGSET), SoftmaxHead(TAGSET)], ids=["crf", "softmax"])
def test_a_scope_of_all_labels_gives_the_targets_of_full_gold(head: SequenceHead) -> None:
    full = Document("xxxx", (Entity(1, 2, "A"),))
    for scope in (Scope(), Scope(("A", "B")), Scope(("A", "B", "C"))):
        document = Document(full.text, full.entities, scope=scope)
        assert head.targets(document, units_of(full)).values == [0, 1, 0, 0]
    assert len(head.allowed or ()) == 0


def test_an_entity_cannot_grow_into_what_is_unknown() -> None:
    head = SoftmaxHead(TAGSET)
    document = Document("xxxx", (Entity(0, 1, "A"),), scope=Scope(complete=False))
    values = torch.tensor(list(head.targets(document, units_of(document)).values))
    allowed_UK = head.allowed.agree(values)
    by_unit = [{t for t, k in zip(TAGSET.tags, row, strict=True) if k} for row in allowed_UK]
    assert by_unit[0] == {"B-A"}
    assert by_unit[1] == {"O", "B-A", "B-B"}
    assert by_unit[2] == by_unit[3] == set(TAGSET.tags)
    assert head.allowed.is_open(values).tolist() == [False, True, True, True]


def test_what_lost_gold_covers_stays_unknown_and_is_not_open() -> None:
    """Units of gold that cannot be said have no ratio to keep: full labels train as ever."""
    head = Crf(TAGSET)
    document = Document("xxxx", (Entity(0, 3, "A"), Entity(2, 4, "B")))
    values = head.targets(document, units_of(document)).values
    assert list(values) == [1, 2, 2, UNKNOWN]
    assert not head.allowed.is_open(torch.tensor([values])).any()
    open_ = Document(document.text, document.entities, scope=Scope(complete=False))
    assert head.targets(open_, units_of(open_)).values[3] == UNKNOWN


def test_own_heads_get_unknown_and_never_a_number_that_they_do_not_know() -> None:
    class Own(torch.nn.Module, SequenceHead):
        def __init__(self) -> None:
            super().__init__()
            self.tagset = TAGSET

        loss = scores = chain = None  # type: ignore[assignment]

    document = Document("xxx", (Entity(0, 1, "A"),), scope=Scope(("A",)))
    assert list(Own().targets(document, units_of(document)).values) == [1, UNKNOWN, UNKNOWN]
    assert align_entities(document, units_of(document)).tags == ["B-A", None, None]
    assert align_entities(document, units_of(document), ["A"]).tags == ["B-A", "O", "O"]


def test_a_copied_head_keeps_its_numbers() -> None:
    head = Crf(TAGSET)
    document = Document("xxx", (Entity(0, 1, "A"),), scope=Scope(("A",)))
    values = list(head.targets(document, units_of(document)).values)
    logits_BUK = torch.randn(1, 3, len(TAGSET))
    assert torch.equal(
        loss_of(head, logits_BUK, values), loss_of(copy.deepcopy(head), logits_BUK, values)
    )
    with pytest.raises(ValueError, match="a set that the head has named"):
        loss_of(head, logits_BUK, [UNKNOWN - 5] * 3)


def _window(num_pieces: int, positions: list[int]) -> Window:
    return Window(
        document=0, piece_ids=[1] * num_pieces, positions=positions, first_unit=0,
        owned_end=num_pieces, is_first=True, is_last=True,
    )  # fmt: skip


def test_later_pieces_learn_how_each_allowed_tag_goes_on() -> None:
    document = Document("xx", scope=Scope(("A",)))
    head = SoftmaxHead(TAGSET)
    allowed = head.allowed
    values = list(head.targets(document, units_of(document)).values)
    continuation = allowed.continuations(continuation_ids(TAGSET.tags))
    batch = collate([_window(4, [0, 2])], pad_id=0, tags=[values], continuation=continuation)
    assert batch.piece_tags_BL is not None
    allowed_LK = allowed.agree(batch.piece_tags_BL)[0]
    by_piece = [{t for t, k in zip(TAGSET.tags, row, strict=True) if k} for row in allowed_LK]
    assert by_piece == [{"O", "B-B"}, {"O", "I-B"}, {"O", "B-B", "I-B"}, {"O", "I-B"}]


class _Fixed(torch.nn.Module):
    """Gives the same logits for everything."""

    def __init__(self, logits_BLK: Tensor):
        super().__init__()
        self.logits_BLK = torch.nn.Parameter(logits_BLK)

    def forward(self, piece_ids_BL: Tensor, attention_BL: Tensor) -> Tensor:
        return self.logits_BLK


def _batch(head: SequenceHead, documents: list[Document]) -> Batch:
    units = units_of(documents[0])
    windows = [_window(len(units), list(range(len(units)))) for _ in documents]
    return collate(windows, pad_id=0, tags=[head.targets(d, units).values for d in documents])


@pytest.mark.parametrize("kind", [Crf, SoftmaxHead])
def test_the_penalty_is_of_the_windows_with_unknown_units(kind: type) -> None:
    head = kind(TAGSET)
    full = Document("xxx", (Entity(0, 1, "A"),))
    partial = Document("xxx", (Entity(0, 1, "A"),), scope=Scope(complete=False))
    by_label = Document("xxx", (Entity(0, 1, "A"),), scope=Scope(("A",)))
    batch = _batch(head, [full, partial, by_label])
    logits_BLK = torch.randn(3, 3, len(TAGSET), generator=torch.Generator().manual_seed(1))
    tagger = Tagger(_Fixed(logits_BLK), head)
    without = tagger(batch)
    yes = torch.tensor([True])
    share = head.expected_entity_units(logits_BLK[1:2], yes.expand(1, 3), yes, yes) / 3
    for ratio, margin in ((0.1, 0.05), (0.9, 0.02), (float(share), 0.05)):
        tagger.entity_ratio = EntityRatio(ratio, margin, 10.0)
        penalty = 10 * max(0.0, abs(float(share) - ratio) - margin)
        assert float(tagger(batch) - without) == pytest.approx(penalty, abs=1e-4)
    tagger.entity_ratio = EntityRatio(0.05, 0.0, 10.0)
    tagger(batch).backward()
    gradient = tagger.emitter.logits_BLK.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    only_full = _batch(head, [full, full, by_label])
    with_ratio = tagger(only_full)
    tagger.entity_ratio = None
    assert torch.equal(with_ratio, tagger(only_full))


def test_numbers_of_sets_are_in_the_order_of_the_documents() -> None:
    """So that a resumed run, which reads them again, means the same by them."""
    allowed = AllowedTags(TAGSET)
    texts = [Document("xxx", (Entity(0, 1, x),), scope=Scope((x,))) for x in "ABA"]
    found = [
        [allowed.find(u) for u in align_entities(d, units_of(d)).unmarked.values()] for d in texts
    ]
    first, second, third, fourth = range(UNKNOWN - 1, UNKNOWN - 5, -1)
    assert found == [[first, second], [third, fourth], [first, second]]
    assert len(allowed) == 4
