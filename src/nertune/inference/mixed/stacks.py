"""The matrices of all adapters in memory, stacked, and how the rows of a batch use them.

Axes: N slots, R rank, I inputs and O outputs of a module, B windows, L tokens, S slots and M tokens
of a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nertune.inference.mixed.adapters import Adapter

__all__ = ["NO_ADAPTER", "Pair", "Rows", "Segment", "Stacks"]

NO_ADAPTER = 0
"""The slot that is all zeros: the bare base encoder."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The stacked matrices of one linear module.

    Attributes:
        a_NRI: the first product's, zero where an adapter has a smaller rank or none.
        b_NRO: the second product's, with the scale in it.
        slots: those whose adapter adapts this module.
    """

    a_NRI: Tensor
    b_NRO: Tensor
    slots: frozenset[int]


class Stacks:
    """A pair of stacked matrices for each linear module that some adapter adapts, and the heads.

    Slots are allocated ahead; a pair grows when an adapter of a larger rank comes, a classifier
    when one of more tags does. What a running batch took (`pairs`, `heads`) stays as it is for the
    slots that it uses.

    Args:
        num_slots: how many models fit, besides `NO_ADAPTER`.
        device: where the matrices are.

    Attributes:
        pairs: by the full name of the linear module.
        heads: by the full name of the parameter, `[N, …]`; a classifier's rows are zero behind
            those of a model's own tags.
    """

    def __init__(self, num_slots: int, device: torch.device):
        self._num = num_slots + 1
        self._device = device
        self.pairs: Mapping[str, Pair] = {}
        self.heads: Mapping[str, Tensor] = {}

    @torch.no_grad()
    def put(self, slot: int, adapter: Adapter | None) -> None:
        """Fill a slot that no batch uses, or with `None` empty it.

        Args:
            slot: from 1 on.
            adapter: what to put there.
        """
        assert slot != NO_ADAPTER
        pairs = dict(self.pairs)
        adapted = {} if adapter is None else adapter.pairs
        for name, pair in self.pairs.items():
            if slot in pair.slots:
                pair.a_NRI[slot].zero_()
                pair.b_NRO[slot].zero_()
                pairs[name] = Pair(pair.a_NRI, pair.b_NRO, pair.slots - {slot})
        for name, (a_RI, b_RO) in adapted.items():
            pair = self._with_rank(pairs.get(name), a_RI, b_RO)
            rank = len(a_RI)
            pair.a_NRI[slot, :rank] = a_RI.to(self._device)
            pair.b_NRO[slot, :rank] = b_RO.to(self._device)
            pairs[name] = Pair(pair.a_NRI, pair.b_NRO, pair.slots | {slot})
        self.pairs = pairs
        if adapter is not None:
            self._put_head(slot, adapter.heads)

    def _put_head(self, slot: int, parameters: Mapping[str, Tensor]) -> None:
        heads = dict(self.heads)
        for name, parameter in parameters.items():
            before = heads.get(name)
            if before is None or before.shape[1] < len(parameter):
                shape = (self._num, *parameter.shape)
                heads[name] = torch.zeros(shape, device=self._device)
                if before is not None:
                    heads[name][:, : before.shape[1]] = before
            heads[name][slot].zero_()
            heads[name][slot, : len(parameter)] = parameter.to(self._device)
        self.heads = heads

    def _with_rank(self, pair: Pair | None, a_RI: Tensor, b_RO: Tensor) -> Pair:
        """The pair itself, or a copy of it with room for a larger rank."""
        rank = len(a_RI)
        if pair is not None and pair.a_NRI.shape[1] >= rank:
            return pair
        a_NRI = torch.zeros((self._num, rank, a_RI.shape[1]), device=self._device)
        b_NRO = torch.zeros((self._num, rank, b_RO.shape[1]), device=self._device)
        if pair is None:
            return Pair(a_NRI, b_NRO, frozenset())
        smaller = pair.a_NRI.shape[1]
        a_NRI[:, :smaller] = pair.a_NRI
        b_NRO[:, :smaller] = pair.b_NRO
        return Pair(a_NRI, b_NRO, pair.slots)


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring rows of a batch that belong to one model.

    Attributes:
        start, end: its rows.
        slot: of the model.
    """

    start: int
    end: int
    slot: int


@dataclass(frozen=True, slots=True)
class _Group:
    """Neighbouring segments of as many rows each, whose slots are as far apart: one product.

    Attributes:
        rows: of the batch.
        slots: of the stacks.
        members: the same slots.
    """

    rows: slice
    slots: slice
    members: frozenset[int]


class Rows:
    """To which models the rows of a batch belong.

    Args:
        segments: in the order of the rows, without a gap; see `order`.
        pairs: the stacks of the linear modules.
        heads: the stacks of the heads.
        device: where the batch is.

    Attributes:
        num_rows: B.
        pairs: as given.
        slot_B: the slot of each row.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        pairs: Mapping[str, Pair],
        heads: Mapping[str, Tensor],
        device: torch.device,
    ):
        self.num_rows = segments[-1].end
        self.pairs = pairs
        self._heads = heads
        self._slots = {segment.slot for segment in segments}
        slots = [s.slot for s in segments for _ in range(s.end - s.start)]
        self.slot_B = torch.tensor(slots, device=device)
        self._by_row = device.type != "cpu"
        self._groups = list(_group(segments))
        self._adapted = [group for group in self._groups if NO_ADAPTER not in group.members]

    @staticmethod
    def order(num_rows: int, slot: int) -> tuple[int, int]:
        """Segments in this order come to the fewest products.

        Args:
            num_rows: of a segment.
            slot: of its adapter.
        """
        return num_rows, slot

    def add(self, name: str, input_BLI: Tensor, output_BLO: Tensor) -> Tensor:
        """A linear module's output with what each row's adapter adds to it.

        Args:
            name: of the module.
            input_BLI: what went into it.
            output_BLO: what the base encoder's module gave; changed in place.

        Raises:
            RuntimeError: the module does not see one row a window.
        """
        pair = self.pairs.get(name)
        if pair is None or pair.slots.isdisjoint(self._slots):
            return output_BLO
        if input_BLI.ndim != 3 or input_BLI.shape[0] != self.num_rows:
            raise RuntimeError(
                f"{name} sees the shape {tuple(input_BLI.shape)} in a batch of {self.num_rows}"
            )
        if self._by_row:  # one product, however many adapters: a GPU waits for each call
            a_BRI = pair.a_NRI.index_select(0, self.slot_B)
            b_BRO = pair.b_NRO.index_select(0, self.slot_B)
            narrow_BRL = torch.bmm(a_BRI, input_BLI.transpose(1, 2))
            return output_BLO.baddbmm_(narrow_BRL.transpose(1, 2), b_BRO)
        for group in self._adapted:
            if not group.members.isdisjoint(pair.slots):
                _add_group(group, pair, input_BLI[group.rows], output_BLO[group.rows])
        return output_BLO

    def apply_linear(self, name: str, input_BLI: Tensor) -> Tensor:
        """A linear module of the heads, each row's own, `[B, L, O]`.

        Args:
            name: of the module.
            input_BLI: what goes into it.
        """
        weight_NOI, bias_NO = self._heads[f"{name}.weight"], self._heads.get(f"{name}.bias")
        length, width = input_BLI.shape[1], weight_NOI.shape[1]
        outputs = []
        for group in self._groups:
            rows_BLI = input_BLI[group.rows]
            weight_SOI = weight_NOI[group.slots]
            input_SMI = rows_BLI.reshape(len(group.members), -1, input_BLI.shape[2])
            if bias_NO is None:
                output_SMO = torch.bmm(input_SMI, weight_SOI.transpose(1, 2))
            else:
                bias_S1O = bias_NO[group.slots].unsqueeze(1)
                output_SMO = torch.baddbmm(bias_S1O, input_SMI, weight_SOI.transpose(1, 2))
            outputs.append(output_SMO.view(-1, length, width))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def apply_norm(self, name: str, normal_BLI: Tensor) -> Tensor:
        """The scale and shift of a norm of the heads, each row's own.

        Args:
            name: of the norm.
            normal_BLI: of mean 0 and variance 1.
        """
        output_BLI = normal_BLI * self._row_vectors(f"{name}.weight")
        if f"{name}.bias" in self._heads:
            output_BLI = output_BLI + self._row_vectors(f"{name}.bias")
        return output_BLI

    def _row_vectors(self, name: str) -> Tensor:
        return self._heads[name].index_select(0, self.slot_B).unsqueeze(1)


def _group(segments: Sequence[Segment]) -> Iterator[_Group]:
    """Put segments together that the stacks hold at equal distances, so that none is copied."""
    left = list(segments)
    while left:
        chosen = left[:2] if len(left) > 1 and _follows(left[0], left[1]) else left[:1]
        step = chosen[-1].slot - chosen[0].slot or 1
        while len(chosen) > 1 and len(left) > len(chosen):
            following = left[len(chosen)]
            if not _follows(chosen[-1], following) or following.slot - chosen[-1].slot != step:
                break
            chosen.append(following)
        left = left[len(chosen) :]
        yield _Group(
            slice(chosen[0].start, chosen[-1].end),
            slice(chosen[0].slot, chosen[-1].slot + 1, step),
            frozenset(segment.slot for segment in chosen),
        )


def _follows(one: Segment, other: Segment) -> bool:
    same_size = one.end - one.start == other.end - other.start
    return same_size and NO_ADAPTER < one.slot < other.slot


def _add_group(group: _Group, pair: Pair, input_BLI: Tensor, output_BLO: Tensor) -> None:
    """Add a group's products to its rows of the output; S slots, M tokens of each."""
    a_SRI, b_SRO = pair.a_NRI[group.slots], pair.b_NRO[group.slots]
    num_slots, width = len(group.members), output_BLO.shape[2]
    # The narrow product with R rows and M columns is several times as fast as the other way round.
    if num_slots == 1:
        narrow_RM = torch.mm(a_SRI[0], input_BLI.flatten(0, 1).T)
        output_BLO.view(-1, width).addmm_(narrow_RM.T, b_SRO[0])  # a view, never a copy
        return
    input_SMI = input_BLI.reshape(num_slots, -1, input_BLI.shape[2])
    narrow_SRM = torch.bmm(a_SRI, input_SMI.transpose(1, 2))
    output_BLO.view(num_slots, -1, width).baddbmm_(narrow_SRM.transpose(1, 2), b_SRO)
