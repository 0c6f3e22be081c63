"""From a pool of texts those that are to be labelled next.

The pool is read once. Each text gets a score by the strategy; the highest ranked texts, four times
as many as the budget pays for, stay in memory. From these near-duplicates are dropped, and the
budget is spent from the top.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from nertune.data.editing.similarity import check_threshold
from nertune.data.inputs import in_batches
from nertune.errors import ConfigError, DataError
from nertune.inference.predictor import Predictor
from nertune.semisupervised.selection.coverage import farthest_first
from nertune.semisupervised.selection.pool import (
    Budget,
    Candidate,
    Pool,
    RankedTexts,
    draw,
    drop_similar,
    text_key,
)
from nertune.semisupervised.selection.states import TextVectors
from nertune.semisupervised.selection.uncertainty import MEASURES, measure
from nertune.tokens.units import Unit, cut_units
from nertune.types import Document

__all__ = ["DEFAULT", "STRATEGIES", "Chosen", "Selection", "Strategy", "Wanted", "select_documents"]

Strategy = Literal["least-token", "mnlp", "span-entropy", "diversity", "random"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
DEFAULT: Strategy = "span-entropy"
"""With a model."""
_RESERVE = 4  # times the budget: what is left when near-duplicates are dropped
_PRESELECTED = 3  # times the budget: among these `diversity` looks
_MOST_VECTORS = 20_000
_BATCH = 512


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for.

    Attributes:
        budget: what can be paid.
        strategy: how texts are ranked.
        unit: what the budget counts; a model's own where there is one.
        near: the similarity from which on texts are nearly equal, in [0.5, 1].
        seed: draws for `random`, and between equal scores.
        predictions: whether chosen texts get the model's entities.

    Raises:
        ConfigError: a value is out of range.
    """

    budget: Budget
    strategy: Strategy
    unit: Unit
    near: float = 0.8
    seed: int = 0
    predictions: bool = True

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ConfigError(f"--strategy {self.strategy}: expected {', '.join(STRATEGIES)}")
        for name, value in (("budget", self.budget.units), ("documents", self.budget.documents)):
            if value < 0:
                raise ConfigError(f"--{name} {value}: expected 1 or more")
        if not self.budget.units and not self.budget.documents:
            raise ConfigError("expected --budget UNITS or --documents NUMBER, or both")
        check_threshold(self.near)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A text to label.

    Attributes:
        document: the text, with the model's entities where they are wanted.
        rank: 1 for the first to label.
        score: by the strategy.
        num_units: what labelling it costs.
    """

    document: Document
    rank: int
    score: float
    num_units: int

    def task(self) -> Document:
        """The document with its rank and score in `meta`."""
        said = {"selection_rank": self.rank, "selection_score": self.score}
        return replace(self.document, meta={**self.document.meta, **said})


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be labelled next, the first first.

    Attributes:
        wanted: what was asked for.
        chosen: the texts.
        pool: what became of the others.
        near: texts that were dropped since they are nearly equal to a labelled or a chosen one.
        labels: what the model can find; empty without a model.
    """

    wanted: Wanted
    chosen: tuple[Chosen, ...]
    pool: Pool
    near: int
    labels: tuple[str, ...]

    @property
    def num_units(self) -> int:
        """What labelling all of it costs."""
        return sum(c.num_units for c in self.chosen)

    @property
    def mean_score(self) -> float:
        """Of the chosen texts."""
        return sum(c.score for c in self.chosen) / len(self.chosen)

    def count_entities(self) -> dict[str, int]:
        """The entities of the chosen texts by label."""
        return dict(Counter(e.label for c in self.chosen for e in c.document.entities))

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with ids in the place of texts."""
        return {
            "strategy": self.wanted.strategy,
            "seed": self.wanted.seed,
            "unit": self.wanted.unit,
            "near": self.wanted.near,
            "budget": asdict(self.wanted.budget),
            "documents": len(self.chosen),
            "units": self.num_units,
            "entities": self.count_entities(),
            "mean_score": self.mean_score,
            "pool": {**asdict(self.pool), "mean_score": self.pool.mean_score, "near": self.near},
            "chosen": [
                {"id": c.document.id, "rank": c.rank, "score": c.score, "units": c.num_units}
                for c in self.chosen
            ],
        }


def select_documents(
    pool: Callable[[], Iterable[Document]],
    wanted: Wanted,
    *,
    predictor: Predictor | None = None,
    vectors: TextVectors | None = None,
    labelled: Sequence[Document] = (),
    observer: Callable[[Pool], None] = lambda _: None,
) -> Selection:
    """Choose the texts to label next.

    Args:
        pool: gives the texts from the first on, each time that it is called: once, or again where
            near-duplicates leave less than the budget.
        wanted: what is asked for.
        predictor: the model; `random` and `diversity` can do without.
        vectors: what `diversity` compares texts by.
        labelled: texts that are labelled already.
        observer: is told how far the reading is.

    Raises:
        DataError: the pool holds no text that can be chosen.
        ConfigError: the strategy needs a model, or the budget is less than any text costs.
        NotFiniteError: the model gives NaN or infinity.
    """
    if wanted.strategy in MEASURES and predictor is None:
        raise ConfigError(
            f"--strategy {wanted.strategy} needs --model; random and diversity do without"
        )
    if wanted.strategy == "diversity" and vectors is None:
        raise ConfigError("--strategy diversity needs --model, or --encoder, e.g. mini-zh")
    factor = _RESERVE
    while True:
        seen, texts = _read(pool(), wanted, predictor, labelled, factor, observer)
        candidates, num_near = drop_similar(
            texts.ranked(), (document.text for document in labelled), wanted.near
        )
        held = sum(c.num_units for c in candidates)
        if not texts.num_evicted or wanted.budget.is_spent(held, len(candidates)):
            break
        factor *= 4
    _refuse_nothing(candidates, seen, wanted)
    if wanted.strategy == "diversity":
        assert vectors is not None
        taken = _cover(candidates, wanted.budget, vectors, labelled)
    else:
        taken = _spend(candidates, wanted.budget)
    documents = [c.document.with_entities(()) for c in taken]
    if predictor is not None and wanted.predictions:
        documents = list(predictor.tag_documents(documents))
    chosen = tuple(
        Chosen(document, rank, candidate.score, candidate.num_units)
        for rank, (document, candidate) in enumerate(zip(documents, taken, strict=True), 1)
    )
    labels = () if predictor is None else predictor.labels
    return Selection(wanted, chosen, seen, num_near, labels)


def _read(
    documents: Iterable[Document],
    wanted: Wanted,
    predictor: Predictor | None,
    labelled: Sequence[Document],
    factor: int,
    observer: Callable[[Pool], None],
) -> tuple[Pool, RankedTexts]:
    """Score the texts of a pool and keep the highest ranked."""
    seen, texts = Pool(), RankedTexts(wanted.budget.times(factor))
    known = {text_key(document.text) for document in labelled}
    name = "span-entropy" if wanted.strategy == "diversity" else wanted.strategy
    for batch in in_batches(documents, _BATCH):
        fresh = [c for d in batch if (c := _admit(d, wanted, seen, known, texts)) is not None]
        if predictor is not None and name != "random":
            scores = measure(predictor, [c.document for c in fresh], name)
        else:
            scores = [c.lot for c in fresh]
        for candidate, score in zip(fresh, scores, strict=True):
            # The last digits depend on the texts that were computed in the same batch.
            _enter(replace(candidate, score=float(f"{score:.5g}")), seen, texts)
        observer(seen)
    return seen, texts


def _admit(
    document: Document, wanted: Wanted, seen: Pool, known: set[bytes], texts: RankedTexts
) -> Candidate | None:
    """A text as a candidate without a score, if it can be one; it is counted either way."""
    text = document.text
    num_units = sum(not text[a:b].isspace() for a, b in cut_units(document, wanted.unit))
    seen.documents += 1
    seen.units += num_units
    if not num_units:
        seen.empty += 1
        return None
    key = text_key(text)
    if key in known:
        seen.labelled += 1
    elif not wanted.budget.allows(num_units, 1):
        seen.too_long += 1
        seen.shortest = min(seen.shortest or num_units, num_units)
    elif key in texts:
        seen.repeated += 1
    else:
        return Candidate(document, key, num_units, 0.0, draw(key, wanted.seed))
    return None


def _enter(candidate: Candidate, seen: Pool, texts: RankedTexts) -> None:
    if candidate.key in texts:  # twice in one batch
        seen.repeated += 1
    elif candidate.score == float("-inf"):  # the tokenizer drops all of its units
        seen.empty += 1
    else:
        seen.scored += 1
        seen.units_scored += candidate.num_units
        seen.total_score += candidate.score
        texts.add(candidate)


def _refuse_nothing(candidates: Sequence[Candidate], seen: Pool, wanted: Wanted) -> None:
    if candidates:
        return
    if seen.documents == seen.empty:
        raise DataError("the pool holds no text")
    if seen.too_long:
        raise ConfigError(
            f"--budget {wanted.budget.units}: every text that is left costs more; the shortest of "
            f"them has {seen.shortest} units"
        )
    raise DataError("every text of the pool is labelled already, or nearly equal to one that is")


def _spend(candidates: Sequence[Candidate], budget: Budget) -> list[Candidate]:
    """From the top, what can still be paid; a text that is too long for the rest is passed over."""
    taken: list[Candidate] = []
    units = 0
    for candidate in candidates:
        if budget.is_spent(units, len(taken)):
            break
        if budget.allows(units + candidate.num_units, len(taken) + 1):
            taken.append(candidate)
            units += candidate.num_units
    return taken


def _cover(
    candidates: Sequence[Candidate],
    budget: Budget,
    vectors: TextVectors,
    labelled: Sequence[Document],
) -> list[Candidate]:
    """Of the highest ranked, those that are far from each other and from the labelled ones."""
    most = max(_MOST_VECTORS, len(_spend(candidates, budget)))  # as many as can be paid, at least
    some = _spend(candidates, budget.times(_PRESELECTED))[:most]
    there = vectors.of(labelled) if labelled else None
    found = farthest_first(
        vectors.of([c.document for c in some]), [c.num_units for c in some], budget, there
    )
    return [replace(some[i], score=distance) for i, distance in found]
