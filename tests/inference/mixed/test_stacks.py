"""Low-rank products by row, in groups, against the products written out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nertune.inference.mixed.adapters import Adapter
from nertune.inference.mixed.stacks import NO_ADAPTER, Rows, Segment, Stacks

CPU = torch.device("cpu")
I, O, LENGTH = 6, 9, 4  # noqa: E741


def adapter(rank: int, seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn((rank, I), generator=generator)
    return Adapter({"layer": (a, torch.randn((rank, O), generator=generator))}, {})


def segments_of(counts: Sequence[tuple[int, int]]) -> list[Segment]:
    """Of `(slot, rows)`."""
    segments: list[Segment] = []
    for slot, count in counts:
        start = segments[-1].end if segments else 0
        segments.append(Segment(start, start + count, slot))
    return segments


def added(
    stacks: Stacks,
    counts: Sequence[tuple[int, int]],
    input_BLI: Tensor,
    *,
    by_row: bool = False,
) -> Tensor:
    """What is added for segments of `(slot, rows)`."""
    output = torch.zeros((*input_BLI.shape[:2], O))
    rows = Rows(segments_of(counts), stacks.pairs, stacks.heads, CPU)
    rows._by_row = by_row  # as on a GPU
    rows.add("layer", input_BLI, output)
    return output


@given(
    ranks=st.lists(st.integers(1, 7), min_size=6, max_size=6),
    counts=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 3)), min_size=1, max_size=9),
    by_row=st.booleans(),
)
def test_rows_get_the_product_of_their_own_adapter(
    ranks: list[int], counts: list[tuple[int, int]], by_row: bool
) -> None:
    stacks = Stacks(6, CPU)
    adapters = {slot: adapter(rank, slot) for slot, rank in enumerate(ranks, 1)}
    for slot, one in adapters.items():
        stacks.put(slot, one)
    rows = sum(count for _, count in counts)
    input_BLI = torch.randn((rows, LENGTH, I), generator=torch.Generator().manual_seed(0))
    found = added(stacks, counts, input_BLI, by_row=by_row)
    slots = [slot for slot, count in counts for _ in range(count)]
    for row, slot in enumerate(slots):
        expected = torch.zeros((LENGTH, O))
        if slot != NO_ADAPTER:
            a, b = adapters[slot].pairs["layer"]
            expected = input_BLI[row] @ a.T @ b
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([(1, 1), (2, 1), (3, 1)], [(0, 3, [1, 2, 3])]),
        ([(1, 2), (3, 2), (5, 2), (6, 2)], [(0, 6, [1, 3, 5]), (6, 8, [6])]),
        ([(0, 4), (2, 1), (3, 2)], [(4, 5, [2]), (5, 7, [3])]),
        ([(4, 1), (2, 1), (0, 1), (3, 1)], [(0, 1, [4]), (1, 2, [2]), (3, 4, [3])]),
        ([(0, 3)], []),
    ],
)
def test_segments_at_equal_distances_are_one_product(
    counts: list[tuple[int, int]], expected: list[tuple[int, int, list[int]]]
) -> None:
    found = [
        (group.rows.start, group.rows.stop, list(range(7))[group.slots])
        for group in Rows(segments_of(counts), {}, {}, CPU)._adapted
    ]
    assert found == expected


def test_a_slot_holds_its_last_adapter_alone() -> None:
    """A smaller rank, or no adapter of this module, leaves nothing of the one before."""
    stacks = Stacks(1, CPU)
    input_BLI = torch.randn((1, LENGTH, I))
    stacks.put(1, adapter(5, 0))
    running = stacks.pairs  # of a batch that has begun
    stacks.put(1, adapter(2, 1))
    a, b = adapter(2, 1).pairs["layer"]
    torch.testing.assert_close(added(stacks, [(1, 1)], input_BLI)[0], input_BLI[0] @ a.T @ b)
    stacks.put(1, None)
    assert not added(stacks, [(1, 1)], input_BLI).any()
    assert not stacks.pairs["layer"].slots
    assert running["layer"].slots == {1}


def test_a_larger_rank_leaves_a_running_batch_what_it_took() -> None:
    stacks = Stacks(2, CPU)
    stacks.put(1, adapter(2, 0))
    running = stacks.pairs["layer"]
    before = running.a_NRI.clone()
    stacks.put(2, adapter(4, 1))
    torch.testing.assert_close(running.a_NRI, before)
    assert stacks.pairs["layer"].a_NRI.shape == (3, 4, I)
    torch.testing.assert_close(stacks.pairs["layer"].a_NRI[1, :2], before[1])


def test_a_module_that_sees_no_row_a_window_is_refused() -> None:
    stacks = Stacks(1, CPU)
    stacks.put(1, adapter(2, 0))
    with pytest.raises(RuntimeError, match="layer sees the shape"):
        added(stacks, [(1, 2)], torch.zeros((1, LENGTH, I)))


@given(
    tags=st.lists(st.integers(1, 5), min_size=3, max_size=3),
    counts=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=5),
    has_bias=st.booleans(),
)
def test_heads_are_each_rows_own(
    tags: list[int], counts: list[tuple[int, int]], has_bias: bool
) -> None:
    """Of different numbers of tags, with zeros behind a model's own."""
    generator = torch.Generator().manual_seed(0)
    stacks = Stacks(3, CPU)
    heads: dict[int, dict[str, Tensor]] = {}
    for slot, num_tags in enumerate(tags, 1):
        shapes = {"out.weight": (num_tags, I), "norm.weight": (I,)}
        shapes |= {"out.bias": (num_tags,), "norm.bias": (I,)} if has_bias else {}
        heads[slot] = {
            name: torch.randn(shape, generator=generator) for name, shape in shapes.items()
        }
        wider = {n: torch.ones(9, *t.shape[1:]) for n, t in heads[slot].items() if "out" in n}
        stacks.put(slot, Adapter({}, wider))  # what was there before
        stacks.put(slot, Adapter({}, heads[slot]))
    rows = Rows(segments_of(counts), stacks.pairs, stacks.heads, CPU)
    input_BLI = torch.randn((rows.num_rows, LENGTH, I), generator=generator)
    outputs = rows.apply_linear("out", input_BLI)
    scaled = rows.apply_norm("norm", input_BLI)
    for row, slot in enumerate(slot for slot, count in counts for _ in range(count)):
        head = heads[slot]
        num_tags = tags[slot - 1]
        expected = torch.nn.functional.linear(
            input_BLI[row], head["out.weight"], head.get("out.bias")
        )
        torch.testing.assert_close(outputs[row, :, :num_tags], expected)
        assert not outputs[row, :, num_tags:].any()
        shift = head.get("norm.bias", torch.zeros(I))
        torch.testing.assert_close(scaled[row], input_BLI[row] * head["norm.weight"] + shift)
