"""Does `nertune data audit` find label errors, and better than the token scores of cleanlab?

    python benchmarks/label_errors.py weibo   [--seeds 1] [--documents N]
                                              [--label top --set model.tuning=top]
    python benchmarks/label_errors.py planted [--seeds 1] [--documents N]

`weibo` audits weibo/v1/train, the first annotation of posts that their authors corrected later;
what differs from weibo/train.conll is the truth. Entities named (.NAM) and nominal (.NOM) are
scored apart: most errors of the latter are a change of guideline. `planted` audits peoples/train
with errors of each kind in 5 % of its entities. Both write
benchmarks/results/label-errors-NAME.json. NERTUNE_DATA names the folder that holds the data.

Scored are places, which are runs of entities that differ between the gold and the truth, and
sentences that have one. A place is found by an item of a ranking that overlaps it; further items of
a place that was found count neither way. The peer is the lowest token score of a span or a sentence
(`cleanlab.token_classification`, self-confidence), with the same models, folds and seeds; it needs
`pip install cleanlab`, and is left out where that is missing. 95 % intervals come from 1,000
resamples of the documents.

Runs lie in runs/label-errors/NAME; finished ones are reused, a killed one goes on. `weibo` takes
about 25 minutes a seed on one core of two that are quiet, `planted` about 40.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nertune.data.corpus import Corpus, load_corpus
from nertune.labels.align import align_entities
from nertune.labels.schemes import decode_tags
from nertune.semisupervised.audit.audit import rank
from nertune.semisupervised.audit.candidates import Candidates, collect_candidates
from nertune.semisupervised.audit.copies import find_copies
from nertune.semisupervised.audit.folds import make_folds
from nertune.semisupervised.audit.out_of_fold import FoldScores, Training, score_out_of_fold
from nertune.semisupervised.audit.recipe import audit_settings
from nertune.semisupervised.audit.suspicions import find_suspicions
from nertune.storage.atomic import write_json
from nertune.types import Document, Entity

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("NERTUNE_DATA") or ROOT.parent / "shared" / "data")
RESAMPLES = 1000
FIRST = 100
KINDS = ("missed", "spurious", "boundary", "type")
SHARE = 0.05  # of the entities that get a planted error of each kind


@dataclass(frozen=True)
class Item:
    """Something in a ranking: the higher the value, the more suspicious."""

    value: float
    document: int
    start: int
    end: int
    labels: frozenset[str]


@dataclass(frozen=True)
class Place:
    """Where gold and truth differ; the kind is that of a planted error."""

    start: int
    end: int
    labels: frozenset[str]
    kind: str = ""


Truth = Sequence[Sequence[Place]]


# Data


def read_weibo() -> tuple[list[Document], Truth]:
    """The first annotation, and where the corrected one differs.

    The first has emojis in two surrogates, which are no UTF-8: tokens are taken from the corrected
    file. Posts with another number of tokens are left out.
    """
    before = _read_columns(DATA / "weibo" / "v1" / "train")
    after = _read_columns(DATA / "weibo" / "train.conll")
    documents, truth = [], []
    for old, new in zip(before, after, strict=True):
        if len(old) != len(new):
            continue
        tokens = [token for token, _ in new]
        gold, corrected = (_document(tokens, [tag for _, tag in rows]) for rows in (old, new))
        documents.append(replace(gold, id=f"v1/train:{len(documents)}"))
        truth.append(find_places(gold, corrected))
    return documents, truth


def _read_columns(path: Path) -> list[list[tuple[str, str]]]:
    sentences: list[list[tuple[str, str]]] = [[]]
    with path.open(encoding="utf-8", errors="surrogatepass") as lines:
        for line in lines:
            token, tab, tag = line.rstrip("\r\n").rpartition("\t")
            if tab:
                sentences[-1].append((token, tag))
            elif sentences[-1]:
                sentences.append([])
    return [rows for rows in sentences if rows]


def _document(tokens: Sequence[str], tags: Sequence[str]) -> Document:
    bounds = np.cumsum([0, *map(len, tokens)]).tolist()
    spans = decode_tags(tags, "BIO")[0]
    entities = tuple(Entity(bounds[s.first], bounds[s.last], s.label) for s in spans)
    pairs = tuple(pairwise(bounds))
    return Document("".join(tokens), entities, tokens=pairs)


def find_places(gold: Document, truth: Document) -> list[Place]:
    """Runs of overlapping entities that only one of the two has."""
    differing = {e.key for e in gold.entities} ^ {e.key for e in truth.entities}
    places: list[Place] = []
    for start, end, label, *_ in sorted(differing):
        touched = [p for p in places if p.start < end and start < p.end]
        places = [p for p in places if p not in touched]
        labels = frozenset({label}).union(*(p.labels for p in touched))
        bounds = [(start, end), *((p.start, p.end) for p in touched)]
        places.append(Place(min(a for a, _ in bounds), max(b for _, b in bounds), labels))
    return places


def read_planted(seed: int = 1) -> tuple[list[Document], Truth]:
    """`peoples` with errors of each kind in 5 % of its entities, each in another one."""
    documents = list(load_corpus(DATA / "peoples" / "train").documents)
    draw = random.Random(seed)
    labels = sorted({e.label for d in documents for e in d.entities})
    places = [(i, e) for i, document in enumerate(documents) for e in document.entities]
    draw.shuffle(places)
    number = round(SHARE * len(places))
    entities = [list(document.entities) for document in documents]
    truth: list[list[Place]] = [[] for _ in documents]
    for kind in KINDS:
        planted = 0
        while planted < number:
            index, entity = places.pop()
            made = _plant(kind, documents[index], entity, entities[index], labels, draw)
            if made is None:
                continue
            gone, new = made
            if gone is not None:
                entities[index].remove(gone)
            if new is not None:
                entities[index].append(new)
            found = [e for e in (gone, new) if e is not None]
            truth[index].append(
                Place(min(e.start for e in found), max(e.end for e in found),
                      frozenset(e.label for e in found), kind)
            )  # fmt: skip
            planted += 1
    wrong = [d.with_entities(e) for d, e in zip(documents, entities, strict=True)]
    return wrong, truth


def _plant(
    kind: str,
    document: Document,
    entity: Entity,
    held: Sequence[Entity],
    labels: Sequence[str],
    draw: random.Random,
) -> tuple[Entity | None, Entity | None] | None:
    """What goes and what comes; `None` where an error of this kind cannot be made of the entity."""
    others = [e for e in held if e != entity]
    if entity not in held:
        return None
    if kind == "missed":
        return entity, None
    if kind == "type":
        label = draw.choice([label for label in labels if label != entity.label])
        return entity, replace(entity, label=label)
    if kind == "boundary":
        side, step = draw.choice(("start", "end")), draw.choice((-1, 1))
        start, end = entity.start + step * (side == "start"), entity.end + step * (side == "end")
        if not 0 <= start < end <= len(document.text):
            return None
        new = Entity(start, end, entity.label)
        return None if any(_overlap(new, other) for other in others) else (entity, new)
    length = entity.end - entity.start  # spurious: as long as an entity, where there is none
    start = draw.randrange(max(1, len(document.text) - length))
    new = Entity(start, min(len(document.text), start + length), draw.choice(labels))
    return None if any(_overlap(new, other) for other in held) else (None, new)


def _overlap(one: Entity | Place | Item, other: Entity | Place | Item) -> bool:
    return one.start < other.end and other.start < one.end


# Rankings


def rank_suspicions(documents: Sequence[Document], found: Mapping[int, Candidates]) -> list[Item]:
    """What the command shows."""
    suspicions = rank(documents, found, find_copies(documents))
    return [Item(-n, s.index, *s.span, frozenset(s.labels)) for n, s in enumerate(suspicions)]


def rank_plainly(documents: Sequence[Document], found: Mapping[int, Candidates]) -> list[Item]:
    """1 minus the probability of the gold's reading, whatever its length; without copies."""
    suspicions = [s for i, d in enumerate(documents) for s in find_suspicions(i, d, found[i])]
    return [Item(1 - s.gold_probability, s.index, *s.span, frozenset(s.labels)) for s in suspicions]


def rank_tokens(
    documents: Sequence[Document], models: Sequence[Sequence[FoldScores]]
) -> list[Item] | None:
    """Spans by cleanlab's lowest token score: gold, what the models find, and single tokens."""
    try:
        from cleanlab.token_classification.rank import get_label_quality_scores
    except ImportError:
        sys.stderr.write("cleanlab is not installed (pip install cleanlab): no peer\n")
        return None
    items: list[Item] = []
    for group in models:  # label sets may differ between folds
        tagset, first = group[0].head.tagset, group[0]
        tags, chances = [], []
        for place, index in enumerate(first.indices):
            mean_UK = np.mean([np.exp(m.scores[place].astype(float)) for m in group], axis=0)
            chances.append(mean_UK / mean_UK.sum(axis=1, keepdims=True))
            values = first.head.targets(documents[index], first.units[place]).values
            tags.append([max(0, int(value)) for value in values])
        _, scores = get_label_quality_scores(tags, chances)
        for place, index in enumerate(first.indices):
            score_U = np.asarray(scores[place], dtype=float)
            names = [tag.partition("-")[2] for tag in tagset.tags]
            units = first.units[place]
            items += _token_items(index, documents[index], units, chances[place], score_U, names)
    return items


def _token_items(
    index: int,
    document: Document,
    units: Sequence[tuple[int, int]],
    chance_UK: NDArray[np.float64],
    score_U: NDArray[np.float64],
    names: Sequence[str],
) -> list[Item]:
    likeliest = [names[k] for k in chance_UK.argmax(axis=1)]
    second = [names[k] for k in chance_UK.argsort(axis=1)[:, -2]]
    gold = [(s.first, s.last, {s.label}) for s in align_entities(document, units).spans]
    covered = {u for first, last, _ in gold for u in range(first, last)}
    runs = list(gold)
    free = [u for u in range(len(units)) if u not in covered]
    marked = [u for u in free if likeliest[u]]
    for _, run in groupby(enumerate(marked), key=lambda pair: pair[1] - pair[0]):
        members = [u for _, u in run]
        runs.append((members[0], members[-1] + 1, set()))
    runs += [(u, u + 1, {second[u]}) for u in free if not likeliest[u]]
    return [
        Item(
            -float(score_U[first:last].min()), index, units[first][0], units[last - 1][1],
            frozenset({*labels, *likeliest[first:last]} - {""}),
        )
        for first, last, labels in runs
    ]  # fmt: skip


# Scores


@dataclass(frozen=True)
class Judged:
    """A ranking against the truth: whether each item is a hit, its document, errors by document."""

    hit_N: NDArray[np.bool_]
    document_N: NDArray[np.intp]
    errors_D: NDArray[np.intp]

    def scores(self, times_D: NDArray[np.intp]) -> tuple[float, float]:
        """Precision in the first 100, and area under precision and recall, documents repeated."""
        hit_N = np.repeat(self.hit_N, times_D[self.document_N])
        total = int((self.errors_D * times_D).sum())
        precision_N = np.cumsum(hit_N) / np.arange(1, len(hit_N) + 1)
        return float(hit_N[:FIRST].mean()), float((precision_N * hit_N).sum() / max(1, total))


def judge_places(items: Iterable[Item], truth: Truth, counts: Callable[[Any], bool]) -> Judged:
    """Every place counts once, with the first item that overlaps it."""
    wanted = [[place for place in places if counts(place)] for places in truth]
    seen: set[tuple[int, int]] = set()
    hits, documents = [], []
    for item in sorted(filter(counts, items), key=lambda item: -item.value):
        touched = {(item.document, n) for n, place in enumerate(wanted[item.document])
                   if _overlap(place, item)}  # fmt: skip
        if touched and touched <= seen:
            continue
        seen |= touched
        hits.append(bool(touched))
        documents.append(item.document)
    return Judged(np.array(hits, bool), np.array(documents, int), np.array([*map(len, wanted)]))


def judge_sentences(items: Iterable[Item], truth: Truth, counts: Callable[[Any], bool]) -> Judged:
    """Every sentence counts, with its most suspicious item."""
    wrong = np.array([any(map(counts, places)) for places in truth])
    best = np.full(len(truth), -np.inf)
    for item in filter(counts, items):
        best[item.document] = max(best[item.document], item.value)
    order = np.argsort(-best, kind="stable")
    return Judged(wrong[order], order, wrong.astype(int))


def compare(rankings: Mapping[str, Judged], num_documents: int) -> dict[str, Any]:
    """Scores of each ranking with intervals, and those of the differences to the peer."""
    draw = np.random.default_rng(1)
    ones = np.ones(num_documents, dtype=int)
    resamples = draw.multinomial(num_documents, ones / num_documents, size=RESAMPLES)
    drawn = {name: np.array([j.scores(t) for t in resamples]) for name, j in rankings.items()}
    names = (f"precision_at_{FIRST}", "average_precision")
    report: dict[str, Any] = {}
    for name, judged in rankings.items():
        own = dict(zip(names, judged.scores(ones), strict=True))
        report[name] = {k: {"value": v, "ci95": _interval(drawn[name][:, n])}
                        for n, (k, v) in enumerate(own.items())}  # fmt: skip
        if "cleanlab" in rankings and name != "cleanlab":
            gains = drawn[name] - drawn["cleanlab"]
            report[name]["minus_cleanlab_ci95"] = {
                k: _interval(gains[:, n]) for n, k in enumerate(names)
            }
    return report


def _interval(values: NDArray[np.float64]) -> list[float]:
    return [float(v) for v in np.quantile(values, [0.025, 0.975])]


def recall_by_kind(items: Sequence[Item], truth: Truth, precision: float) -> dict[str, Any]:
    """Recall of each kind at the lowest cut of the whole ranking that has this precision."""
    judged = judge_places(items, truth, lambda _: True)
    precision_N = np.cumsum(judged.hit_N) / np.arange(1, len(judged.hit_N) + 1)
    cuts = np.flatnonzero(precision_N >= precision)
    if not len(cuts):
        return {"items": 0, **dict.fromkeys(KINDS, 0.0)}
    hits_left, kept = int(judged.hit_N[: cuts[-1] + 1].sum()), []
    seen: set[tuple[int, int]] = set()
    for item in sorted(items, key=lambda item: -item.value):
        new = {(item.document, n) for n, p in enumerate(truth[item.document]) if _overlap(p, item)}
        if new - seen:
            if not hits_left:
                break
            hits_left -= 1
            kept += [truth[i][n].kind for i, n in new - seen]
            seen |= new
    every = [place.kind for places in truth for place in places]
    return {"items": int(cuts[-1] + 1)} | {k: kept.count(k) / max(1, every.count(k)) for k in KINDS}


# The whole of it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", choices=("weibo", "planted"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=0, help="the first so many; 0: all")
    parser.add_argument("--recipe", type=Path, help="of the models; that of the command by default")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--label", default="", help="of folder and results, for other settings")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "label-errors")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    documents, truth = read_weibo() if arguments.data == "weibo" else read_planted()
    if arguments.documents:
        documents, truth = documents[: arguments.documents], truth[: arguments.documents]
    corpus = Corpus.from_documents(documents, name=arguments.data)
    settings = audit_settings(arguments.data, arguments.recipe, arguments.set)
    folds = make_folds(documents, arguments.folds, seed=1)
    training = Training(settings, range(1, 1 + arguments.seeds), resume=True)
    part = f"first-{arguments.documents}" if arguments.documents else ""
    name = "-".join(filter(None, (arguments.data, part, arguments.label)))
    scored = score_out_of_fold(corpus, folds, training, arguments.output / name)
    models = [list(group) for _, group in groupby(scored, key=lambda scores: scores.fold)]
    found: dict[int, Candidates] = {}
    for group in models:
        own = [documents[i] for i in group[0].indices]
        found.update(zip(group[0].indices, collect_candidates(own, group), strict=True))
    rankings = {"audit": rank_suspicions(documents, found), "plain": rank_plainly(documents, found)}
    if (tokens := rank_tokens(documents, models)) is not None:
        rankings["cleanlab"] = tokens
    report = make_report(arguments, documents, truth, rankings)
    report["settings"] = {k: v for k, v in settings.to_dict().items() if k in ("model", "train")}
    write_json(ROOT / "benchmarks" / "results" / f"label-errors-{name}.json", report)
    show(report)


def make_report(
    arguments: argparse.Namespace,
    documents: Sequence[Document],
    truth: Truth,
    rankings: Mapping[str, Sequence[Item]],
) -> dict[str, Any]:
    parts = ("NAM", "NOM", "") if arguments.data == "weibo" else ("",)
    report: dict[str, Any] = {
        "documents": len(documents),
        "seeds": arguments.seeds,
        "folds": arguments.folds,
        "places": sum(map(len, truth)),
        "scores": {},
    }
    for part in parts:

        def counts(thing: Item | Place, part: str = part) -> bool:
            return any(label.endswith(part) for label in thing.labels)

        for level, judge in (("places", judge_places), ("sentences", judge_sentences)):
            judged = {name: judge(items, truth, counts) for name, items in rankings.items()}
            name = f"{part or 'all'}, {level}"
            report["scores"][name] = compare(judged, len(documents))
            report["scores"][name]["errors"] = int(judged["audit"].errors_D.sum())
    if arguments.data == "planted":
        report["recall_at_precision_50"] = {
            name: recall_by_kind(items, truth, 0.5) for name, items in rankings.items()
        }
    return report


def show(report: Mapping[str, Any]) -> None:
    for name, scores in report["scores"].items():
        print(f"{name}: {scores['errors']} errors")
        for ranking, own in scores.items():
            if ranking == "errors":
                continue
            cells = [f"{own[k]['value']:.3f} [{own[k]['ci95'][0]:.3f}, {own[k]['ci95'][1]:.3f}]"
                     for k in (f"precision_at_{FIRST}", "average_precision")]  # fmt: skip
            gains = own.get("minus_cleanlab_ci95", {})
            told = "; ".join(f"{a:+.3f} to {b:+.3f}" for a, b in gains.values())
            print(f"  {ranking:9s} P@{FIRST} {cells[0]}  AP {cells[1]}  minus cleanlab: {told}")
    for ranking, own in report.get("recall_at_precision_50", {}).items():
        print(f"recall at precision .5: {ranking:9s} {own}")


if __name__ == "__main__":
    main()
