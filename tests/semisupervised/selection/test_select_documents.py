"""From a pool to what is labelled next."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.tiny import SENTENCES, make_predictor, make_settings
from nertune.errors import ConfigError, DataError
from nertune.inference.predictor import Predictor
from nertune.semisupervised.selection.pool import Budget, Pool
from nertune.semisupervised.selection.select import STRATEGIES, Wanted, select_documents
from nertune.semisupervised.selection.states import TextVectors
from nertune.semisupervised.selection.uncertainty import MEASURES, measure
from nertune.types import Document


def make_pool(count: int) -> list[Document]:
    """Different texts of 4 to 25 characters, with gold that must not matter."""
    shuffler = random.Random(3)
    letters = sorted({c for d in SENTENCES for c in d.text})
    texts = ("".join(shuffler.choices(letters, k=shuffler.randint(4, 25))) for _ in range(count))
    return [Document(text, id=f"pool:{i}") for i, text in enumerate(texts)]


POOL = make_pool(60)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return make_predictor(make_settings(tmp_path_factory.mktemp("model"), "lstm-crf"))


def wanted(strategy: str = "random", units: int = 120, **more) -> Wanted:
    return Wanted(more.pop("budget", Budget(units)), strategy, "char", **more)  # type: ignore[arg-type]


def select(documents, want: Wanted, predictor: Predictor, **more):
    vectors = TextVectors.of_predictor(predictor) if want.strategy == "diversity" else None
    return select_documents(lambda: documents, want, predictor=predictor, vectors=vectors, **more)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("units", [30, 120, 10_000])
def test_the_budget_holds_and_is_used(strategy: str, units: int, predictor: Predictor) -> None:
    found = select(POOL, wanted(strategy, units), predictor)
    assert found.num_units == sum(len("".join(c.document.text.split())) for c in found.chosen)
    assert found.num_units <= units
    assert found.num_units > units - 25 or len(found.chosen) == len(POOL)
    assert [c.rank for c in found.chosen] == list(range(1, len(found.chosen) + 1))
    assert len({c.document.id for c in found.chosen}) == len(found.chosen)


@pytest.mark.parametrize("strategy", MEASURES)
def test_the_most_uncertain_come_first(strategy: str, predictor: Predictor) -> None:
    found = select(POOL, wanted(strategy), predictor)
    scores = dict(zip((d.id for d in POOL), measure(predictor, POOL, strategy), strict=True))
    chosen = [c.document.id for c in found.chosen]
    assert [c.score for c in found.chosen] == pytest.approx([scores[i] for i in chosen], rel=1e-4)
    assert [c.score for c in found.chosen] == sorted((c.score for c in found.chosen), reverse=True)
    # Greedy from the top: whatever was passed over was too long for what was left.
    left, rest = 120, [*chosen]
    for id in sorted(scores, key=lambda i: -scores[i]):
        length = len("".join(next(d.text for d in POOL if d.id == id).split()))
        if length <= left and rest:
            assert rest.pop(0) == id
            left -= length
    assert not rest
    assert found.mean_score > found.pool.mean_score
    assert found.pool.mean_score == pytest.approx(sum(scores.values()) / len(POOL), rel=1e-3)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_order_of_the_pool_does_not_matter(strategy: str, predictor: Predictor) -> None:
    shuffled = [*POOL]
    random.Random(4).shuffle(shuffled)
    gold = [replace(d, entities=SENTENCES[0].entities[:1]) for d in shuffled]
    first, again, other = (select(p, wanted(strategy), predictor) for p in (POOL, POOL, gold))
    assert first.chosen == again.chosen
    assert [c.document.id for c in first.chosen] == [c.document.id for c in other.chosen]
    assert first.chosen == other.chosen  # the gold neither


def test_the_seed_draws(predictor: Predictor) -> None:
    ids = {
        seed: [c.document.id for c in select(POOL, wanted(seed=seed), predictor).chosen]
        for seed in (0, 1)
    }
    assert ids[0] != ids[1]
    flat = [Document("来" * 4 + str(i) * 9) for i in range(9)]
    tied = [
        select(flat, wanted(units=26, seed=seed, near=1), predictor).chosen[0].document.text
        for seed in range(8)
    ]
    assert len(set(tied)) > 2


def test_copies_are_taken_once(predictor: Predictor) -> None:
    copies = [Document(" ".join(d.text), id=f"copy {d.id}") for d in POOL]
    for strategy in STRATEGIES:
        found = select([*POOL, *copies], wanted(strategy, 10_000), predictor)
        texts = ["".join(c.document.text.split()) for c in found.chosen]
        assert len(texts) == len(set(texts)) == len(POOL)
        assert found.pool.repeated == len(POOL)


def test_labelled_texts_are_left_out(predictor: Predictor) -> None:
    labelled = [Document(d.text + " ") for d in POOL[:20]]
    long = Document("一二三四五六七八九十" * 2 + "。")
    near = Document(long.text + "！")
    for strategy in STRATEGIES:
        pool = [*POOL, near]
        found = select(pool, wanted(strategy, 10_000), predictor, labelled=[*labelled, long])
        assert {c.document.id for c in found.chosen} == {d.id for d in POOL[20:]}
        assert (found.pool.labelled, found.near) == (20, 1)


def test_near_copies_do_not_leave_the_budget_unspent(predictor: Predictor) -> None:
    """Many near-copies of one text fill the reserve; the pool is then read with a larger one."""
    text = "王小明昨天到了北京大学上海香港外交部新华社开会"
    copies = [Document(text + c) for c in "一二三四五六七八九十甲乙丙丁戊己庚辛壬癸" * 2]
    reads = []

    def pool() -> list[Document]:
        reads.append(1)
        return [*copies, *POOL]

    found = select_documents(pool, wanted("mnlp", 100, near=0.8), predictor=predictor)
    assert len(reads) > 1
    assert found.num_units > 75
    assert sum(c.document.text.startswith(text) for c in found.chosen) <= 1


def test_documents_as_a_budget(predictor: Predictor) -> None:
    assert len(select(POOL, wanted(budget=Budget(documents=7)), predictor).chosen) == 7
    both = select(POOL, wanted(budget=Budget(units=40, documents=30)), predictor)
    assert both.num_units <= 40
    assert len(both.chosen) < 30


def test_predictions_and_tasks(predictor: Predictor) -> None:
    documents = [replace(d, meta={"source": 7}) for d in POOL]
    found = select(documents, wanted("mnlp"), predictor)
    entities = [e for c in found.chosen for e in c.document.entities]
    assert entities
    assert all(e.score is not None for e in entities)
    assert sum(found.count_entities().values()) == len(entities)
    expected = predictor.tag(found.chosen[0].document.text)
    assert [e.key for e in found.chosen[0].document.entities] == [e.key for e in expected.entities]
    task = found.chosen[1].task()
    assert task.meta == {
        "source": 7, "selection_rank": 2, "selection_score": found.chosen[1].score,
    }  # fmt: skip
    without = select(documents, wanted("mnlp", predictions=False), predictor)
    assert [c.document.id for c in without.chosen] == [c.document.id for c in found.chosen]
    assert not without.count_entities()
    assert found.to_dict()["chosen"][0]["rank"] == 1


def test_the_observer_is_told(predictor: Predictor) -> None:
    seen: list[int] = []

    def observe(pool: Pool) -> None:
        seen.append(pool.documents)

    many = make_pool(700)
    select_documents(lambda: many, wanted(), observer=observe)
    assert seen == [512, 700]


@pytest.mark.parametrize(
    ("documents", "want", "error", "told"),
    [
        ([Document(" "), Document("")], {}, DataError, "holds no text"),
        ([Document("长" * 9)], {"units": 5}, ConfigError, "the shortest of them has 9 units"),
        (POOL[:1], {"labelled": True}, DataError, "labelled already"),
    ],
)
def test_nothing_to_choose(documents, want, error, told, predictor: Predictor) -> None:
    labelled = documents if want.pop("labelled", False) else []
    with pytest.raises(error, match=told):
        select(documents, wanted(**want), predictor, labelled=labelled)


def test_the_shortest_text_that_is_too_long_is_named() -> None:
    documents = [Document("一二"), Document("一二三四五六"), Document("一二三四五六七")]
    with pytest.raises(ConfigError, match="costs more; the shortest of them has 6 units"):
        select_documents(lambda: documents, wanted(units=3), labelled=documents[:1])


def test_diversity_spends_a_budget_that_is_larger_than_what_it_compares(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nertune.semisupervised.selection.select._MOST_VECTORS", 3)
    want = wanted("diversity", budget=Budget(documents=7))
    assert len(select(POOL, want, predictor).chosen) == 7


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"budget": Budget()}, "--budget UNITS or --documents"),
        ({"budget": Budget(-1)}, "--budget -1: expected 1 or more"),
        ({"budget": Budget(0, -2)}, "--documents -2: expected 1 or more"),
        ({"strategy": "guess"}, "--strategy guess: expected least-token, mnlp"),
        ({"near": 0.1}, "--near 0.1"),
    ],
)
def test_wrong_wishes(values, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        wanted(**values)


def test_strategies_without_a_model() -> None:
    assert len(select_documents(lambda: POOL, wanted()).chosen) > 3
    for strategy in MEASURES:
        with pytest.raises(ConfigError, match="needs --model"):
            select_documents(lambda: POOL, wanted(strategy))
    with pytest.raises(ConfigError, match="needs --model, or --encoder"):
        select_documents(lambda: POOL, wanted("diversity"))


def test_diversity_passes_near_meanings_over(tmp_path: Path) -> None:
    """Of three clusters of texts, three texts are one of each."""
    from helpers.tiny import tiny_bert

    vectors = TextVectors.load(str(tiny_bert()), "char", device="cpu")
    clusters = ["王小明李华张三", "北京上海香港", "1998年3月"]
    pool = [
        Document(text[i:] + text[:i], id=str(n))
        for n, text in enumerate(clusters)
        for i in range(5)
    ]
    want = wanted("diversity", budget=Budget(documents=3), near=1)
    found = select_documents(lambda: pool, want, vectors=vectors)
    assert {c.document.id for c in found.chosen} == {"0", "1", "2"}
