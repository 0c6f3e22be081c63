"""A teacher's distribution over its tag sequences, as one over a student's units and tags.

A teacher may cut text into other units, know labels by other names, and write tags in another
scheme. What a student's unit learns is defined by the teacher's entities alone:

- A unit has the label of the teacher's entity that covers its first character, renamed by the
  table, and `O` where there is none or its label is dropped.
- It is inside (`I-`) where that same entity covers the first character of the student's unit
  before it, too; else the entity begins there (`B-`).

So an entity that begins within a student's unit begins with the next one, and every sequence of the
teacher gives one legal BIO2 sequence. The probabilities of its tags and pairs are exact sums over
the teacher's sequences, by forward-backward over states that know what was covered last.

Axes: T teacher's units, U student's units, J teacher's tags, K student's tags, N states.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nertune.labels.tagset import TagSet
from nertune.models.heads.decoding import Chain
from nertune.models.heads.marginals import Marginals, find_marginals, soften_chain

__all__ = ["Conversion"]

Floats: TypeAlias = NDArray[np.float64]
Spans: TypeAlias = Sequence[tuple[int, int]]
_POSITIONAL = ("BIO", "BIOES", "BMES", "BILOU", "BIOS")  # a tag says by itself where it stands
_LEAST = -300.0  # of a unit's scores below its best one, so that no path has weight 0 by rounding


@dataclass(frozen=True, slots=True)
class _Step:
    """A teacher's unit, or the room between two of them in which a student's unit begins.

    Attributes:
        unit: the teacher's; `-1` for the room.
        num_students: how many of the student's units begin here.
    """

    unit: int
    num_students: int


class Conversion:
    """Converts what one teacher says.

    Args:
        chain: the teacher's.
        tagset: the student's BIO2 tags.
        renamed: the teacher's labels -> the student's; empty drops one. Others keep their name.
        temperature: softens the teacher.

    Raises:
        ValueError: the student lacks a label, or the temperature is not above 0.
    """

    def __init__(
        self, chain: Chain, tagset: TagSet, renamed: Mapping[str, str], temperature: float = 1.0
    ):
        self._chain, self._tagset, self._temperature = chain, tagset, temperature
        self._soft = soften_chain(chain, temperature)
        outside = tagset.find("O", "")
        assert outside is not None
        size = len(chain.tagset)
        self._first_J = np.full(size, outside)  # the student's tag where an entity begins
        self._later_J = np.full(size, outside)
        self._is_later_J = np.zeros(size, bool)
        for (role, label), tag in chain.tagset.parts.items():
            name = renamed.get(label, label)
            if role == "O" or not name:
                continue
            begin, inside = tagset.find("B", name), tagset.find("I", name)
            if begin is None or inside is None:
                raise ValueError(f"the student has no label {name!r}")
            self._first_J[tag], self._later_J[tag] = begin, inside
            self._is_later_J[tag] = role in ("I", "E")
        self._outside = outside
        self._is_positional = chain.tagset.scheme in _POSITIONAL
        self._prepare_states()

    def convert(
        self,
        emissions: Sequence[NDArray[np.floating]],
        teacher_units: Sequence[Spans],
        student_units: Sequence[Spans],
    ) -> list[Marginals]:
        """The marginals of documents in the student's units and tags.

        Args:
            emissions: the teacher's scores, `[T, J]` a document.
            teacher_units, student_units: character spans, in order, of each document.

        Raises:
            ValueError: a score is NaN or infinite.
        """
        units = zip(teacher_units, student_units, strict=True)
        alike = [self._is_positional and list(a) == list(b) for a, b in units]
        plain = find_marginals(
            [e if same else e[:0] for e, same in zip(emissions, alike, strict=True)],
            self._chain,
            temperature=self._temperature,
        )
        return [
            self._rename(found) if same else self._realign(emission_TJ, theirs, own)
            for found, same, emission_TJ, theirs, own in zip(
                plain, alike, emissions, teacher_units, student_units, strict=True
            )
        ]

    def _rename(self, found: Marginals) -> Marginals:
        """The same units in a scheme in which a tag says where it stands."""
        assert found.pairs_UKK is not None
        tags_J = np.where(self._is_later_J, self._later_J, self._first_J)
        to_JK = np.eye(len(self._tagset))[tags_J]
        return Marginals(found.tags_UK @ to_JK, to_JK.T @ found.pairs_UKK @ to_JK)

    def _prepare_states(self) -> None:
        """States (tag, c, d): c says whether the entity covers the student's unit before, d whether
        it goes on behind the room in which this step is."""
        size = len(self._chain.tagset)
        tag_N, rest_N = np.divmod(np.arange(4 * size), 4)
        covers_N, goes_on_N = rest_N // 2 == 1, rest_N % 2 == 1
        self._tag_N = tag_N
        self._is_unit_N, self._goes_on_N = ~goes_on_N, goes_on_N
        continues_NN = self._chain.tagset.continues_KK[np.ix_(tag_N, tag_N)]
        scores_NN = self._soft.transition_KK[np.ix_(tag_N, tag_N)]
        weight_NN = np.exp(scores_NN - np.max(scores_NN[np.isfinite(scores_NN)], initial=0.0))

        def covered(goes_on: NDArray[np.bool_], begins_here: bool) -> NDArray[np.bool_]:
            """Whether the flag c of the next state (columns) is what follows."""
            before = goes_on if begins_here else goes_on & covers_N[:, None]
            agrees: NDArray[np.bool_] = before == covers_N[None, :]
            return agrees

        is_unit = self._is_unit_N[:, None] & self._is_unit_N[None, :]
        same_NN = tag_N[:, None] == tag_N[None, :]
        stays = np.broadcast_to(goes_on_N[None, :], same_NN.shape)
        self._steps: dict[tuple[bool, bool, bool], Floats] = {}  # room before?, room?, student's?
        for student in (False, True):
            self._steps[False, False, student] = (
                weight_NN * is_unit * covered(continues_NN, student)
            )
            self._steps[False, True, student] = (
                1.0 * same_NN * self._is_unit_N[:, None] * covered(stays, student)
            )
        leaves = continues_NN == goes_on_N[:, None]
        self._steps[True, False, True] = (
            weight_NN * leaves * self._is_unit_N[None, :] * covered(continues_NN, True)
        )
        tags = len(self._tagset)
        begin_N, inside_N = self._first_J[tag_N], self._later_J[tag_N]
        self._unit_maps = tuple(
            np.eye(tags)[chosen] for chosen in (np.where(covers_N, inside_N, begin_N), inside_N)
        )
        self._room_maps = tuple(
            np.eye(tags)[np.where(goes_on_N, chosen, self._outside)]
            for chosen in (np.where(covers_N, inside_N, begin_N), inside_N)
        )

    def _realign(self, emission_TJ: NDArray[np.floating], theirs: Spans, own: Spans) -> Marginals:
        num_before, steps = _align(theirs, own)
        size = len(self._tagset)
        tags_UK = np.zeros((len(own), size))
        pairs_UKK = np.zeros((len(own), size, size))
        tags_UK[:num_before, self._outside] = 1.0
        pairs_UKK[1:num_before, self._outside, self._outside] = 1.0
        if not steps or num_before == len(own):
            return Marginals(tags_UK, pairs_UKK)
        alpha, beta, moves, factors = self._sweep(emission_TJ, steps)
        unit, last = num_before, -1
        for number, step in enumerate(steps):
            if not step.num_students:
                continue
            here_N = _normal(alpha[number] * beta[number])
            maps = self._unit_maps if step.unit >= 0 else self._room_maps
            for place in range(step.num_students):
                map_NK = maps[min(place, 1)]
                tags_UK[unit] = here_N @ map_NK
                if place:
                    pairs_UKK[unit] = maps[min(place - 1, 1)].T @ (here_N[:, None] * map_NK)
                elif last >= 0:
                    joint_NN = alpha[last][:, None] * moves[last + 1]
                    for between in range(last + 1, number):
                        joint_NN = (_normal(joint_NN) * factors[between]) @ moves[between + 1]
                    joint_NN = _normal(joint_NN * (factors[number] * beta[number]))
                    before = self._unit_maps if steps[last].unit >= 0 else self._room_maps
                    last_NK = before[min(steps[last].num_students - 1, 1)]
                    pairs_UKK[unit] = last_NK.T @ joint_NN @ map_NK
                elif unit:
                    pairs_UKK[unit, self._outside] = tags_UK[unit]
                unit += 1
            last = number
        return Marginals(tags_UK, pairs_UKK)

    def _sweep(
        self, emission_TJ: NDArray[np.floating], steps: Sequence[_Step]
    ) -> tuple[list[Floats], list[Floats], list[Floats], list[Floats]]:
        """Forward and backward weights of each step, the moves into it, and its own factors."""
        scores_TJ = emission_TJ.astype(np.float64) / self._temperature
        if not np.isfinite(scores_TJ).all():
            raise ValueError("the model's logits are not finite (NaN or infinity)")
        scores_TJ = np.maximum(scores_TJ - scores_TJ.max(axis=1, keepdims=True), _LEAST)
        weight_TN = np.exp(scores_TJ)[:, self._tag_N] * self._is_unit_N
        rooms_N = np.ones(len(self._tag_N))
        factors = [weight_TN[step.unit] if step.unit >= 0 else rooms_N for step in steps]
        moves = [np.zeros((0, 0))]
        for before, step in pairwise(steps):
            moves.append(self._steps[before.unit < 0, step.unit < 0, before.num_students > 0])
        begins_N = np.zeros(len(self._tag_N))
        begins_N[::4] = np.exp(self._soft.start_K)
        alpha = [_normal(begins_N * factors[0])]
        for move_NN, factor_N in zip(moves[1:], factors[1:], strict=True):
            alpha.append(_normal((alpha[-1] @ move_NN) * factor_N))
        ends_N = np.exp(self._soft.end_K)[self._tag_N] * ~self._goes_on_N
        beta = [_normal(ends_N)]
        for move_NN, factor_N in zip(moves[:0:-1], factors[:0:-1], strict=True):
            beta.append(_normal(move_NN @ (factor_N * beta[-1])))
        return alpha, beta[::-1], moves, factors


def _align(theirs: Spans, own: Spans) -> tuple[int, list[_Step]]:
    """Where the student's units begin.

    Returns:
        How many of them begin before the teacher's first unit; and the steps, in order.
    """
    starts = [start for start, _ in theirs]
    at_units = [0] * len(theirs)
    behind = [0] * len(theirs)
    num_before = 0
    for begin, _ in own:
        unit = bisect_right(starts, begin) - 1
        if unit < 0:
            num_before += 1
        elif begin < theirs[unit][1]:
            at_units[unit] += 1
        else:
            behind[unit] += 1
    steps = []
    for unit, (here, later) in enumerate(zip(at_units, behind, strict=True)):
        steps.append(_Step(unit, here))
        if later:
            steps.append(_Step(-1, later))
    return num_before, steps


def _normal(weights: Floats) -> Floats:
    """Summed to 1."""
    normal: Floats = weights / weights.sum()
    return normal
