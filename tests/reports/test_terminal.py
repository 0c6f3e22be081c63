"""Tables on a terminal and in a pipe."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nertune.comparison.search.trials import SweepResult, Trial
from nertune.evaluation.metrics import score
from nertune.reports.terminal import print_record, print_scores, print_sweep
from nertune.types import Document, Entity


def scores_of(
    gold: list[tuple[int, int, str]], found: list[tuple[int, int, str]]
) -> dict[str, Any]:
    text = "王小明在北京。" * 2
    return score(
        [Document(text, tuple(Entity(*e) for e in gold)), Document("无")],
        [Document(text, tuple(Entity(*e) for e in found)), Document("无")],
        types=["TIME"],
    ).to_dict()


def shown(scores: dict[str, Any], title: str = "test", width: int = 100) -> str:
    stream = io.StringIO()
    print_scores(scores, title, Console(file=stream, width=width))
    return stream.getvalue()


def rows(text: str) -> dict[str, list[str]]:
    """The cells of each line, by the first one."""
    cells = [line.replace("│", " ").replace("┃", " ").split() for line in text.splitlines()]
    return {line[0]: line[1:] for line in cells if line}


def test_what_the_cells_say() -> None:
    text = shown(scores_of([(0, 3, "PER"), (4, 6, "LOC")], [(0, 3, "PER"), (4, 7, "LOC")]))
    table = rows(text)
    assert table["PER"] == ["1.0000", "1.0000", "1.0000", "1", "1", "1.0000", "1.0000"]
    assert table["LOC"] == ["0.0000", "0.0000", "0.0000", "1", "1", "0.0000", "1.0000"]
    assert table["TIME"] == ["–", "–", "–", "0", "0", "–", "–"]  # neither gold nor prediction
    assert table["micro"] == ["0.5000", "0.5000", "0.5000", "2", "2", "0.5000", "1.0000"]
    assert table["macro"] == ["0.5000", "0.5000", "0.5000", "2", "2"]
    assert "test (2 documents)" in text
    assert "95 % interval" in text


def test_what_the_interval_was_resampled_over() -> None:
    scores = scores_of([(0, 3, "PER")], [(0, 3, "PER")])
    text = shown(scores | {"documents": 231, "source_documents": 17})
    assert "test (17 documents, 231 sentences)" in text
    assert "95 % interval over 17 documents (231 sentences) [" in text
    assert "to resample" not in text
    text = shown(scores | {"documents": 231})
    assert "95 % interval over 231 documents [" in text
    few = shown(scores | {"documents": 231, "source_documents": 3}, width=200)
    assert "3 documents: with fewer than 10 to resample the interval is unreliable" in few
    assert "1 gold entity: with fewer than 50" in few


def test_nothing_to_score() -> None:
    text = shown(scores_of([], []))
    assert rows(text)["micro"][:3] == ["–", "–", "–"]
    assert "interval" not in text


@pytest.mark.parametrize("label", ["[bold]", "[/PER]", "[red]X[/red]", "人名", ":smile:"])
def test_labels_and_files_are_text_and_no_markup(label: str) -> None:
    """Rich reads `[…]` as its own markup unless told otherwise; `[/X]` would even raise."""
    text = shown(scores_of([(0, 3, label)], []), title=f"data/{label}.jsonl", width=120)
    assert text.count(label) == 2


def test_a_pipe_of_80_columns_cuts_no_number() -> None:
    label = "GEOPOLITICAL_ENTITY_OF_ANY_KIND"
    text = shown(scores_of([(0, 3, label)], [(0, 3, label)]), width=80)
    lines = [line.split() for line in text.splitlines() if line.split()]
    lines = [line for line in lines if line[0] in label]
    assert lines[0][1:] == ["1.0000", "1.0000", "1.0000", "1", "1", "1.0000", "1.0000"]
    assert "".join(line[0] for line in lines) == label  # folded, whole


def record(name: str, **changes: Any) -> dict[str, Any]:
    scores = scores_of([(0, 3, "PER")], [(0, 3, "PER")])
    return {
        "name": name,
        "parameters": {"trainable": 1234, "total": 100_000},
        "best_epoch": 3,
        "epochs": [{}] * 7,
        "seconds": 61.7,
        "peak_memory_bytes": 300 * 2**20,
        "dev": scores,
        "test": None,
        "data": {"dev": {"path": "dev.jsonl"}, "test": None},
    } | changes


@pytest.mark.parametrize(
    ("rates", "advice"),
    [
        ({"adapter": 2e-3, "adapter_b": 2e-3, "head": 2e-3}, "learning_rate=0.0005, or"),
        ({"encoder": 4e-4, "head": 1e-3, "crf": 1e-2}, "learning_rate=0.0001, or"),
        ({"lstm": 4e-3, "crf": 1e-2}, "learning_rate=0.001, or"),
        ({"head": 2e-3}, "more epochs"),
        ({}, "more epochs"),  # of a run by an earlier version
    ],
)  # fmt: skip
def test_a_tagger_that_finds_nothing_comes_with_advice(
    rates: dict[str, float], advice: str
) -> None:
    def shown_of(gold: list[tuple[int, int, str]], predicted: list[tuple[int, int, str]]) -> str:
        stream = io.StringIO()
        changes = {
            "dev": scores_of(gold, predicted),
            "rates": rates,
        }
        print_record(record("a", **changes), Path("runs/a"), Console(file=stream, width=200))
        return stream.getvalue()

    gold = [(0, 3, "PER")]
    assert "No entity was predicted" in shown_of(gold, [])
    assert advice in shown_of(gold, [])
    assert "No entity was predicted" not in shown_of(gold, [(0, 2, "PER")])  # wrong, but something
    assert "No entity was predicted" not in shown_of([], [])  # rightly none


@pytest.mark.parametrize("name", ["lora", "[/lora]", "[red]"])
def test_the_end_of_a_run(name: str) -> None:
    stream = io.StringIO()
    folder = Path("runs") / name.strip("[/]")
    print_record(record(name), folder, Console(file=stream, width=200))
    text = stream.getvalue()
    assert f"{name}: 1,234 of 100,000 parameters trained (1.2%), best epoch 3 of 7" in text
    assert "62 s, peak memory 300 MiB" in text
    assert "dev: dev.jsonl" in text
    assert "test" not in text.replace("predict", "")
    assert f"nertune predict {folder}/model 'some text'" in text


def test_no_colour_codes_in_a_pipe() -> None:
    assert "\x1b" not in shown(scores_of([(0, 3, "PER")], []))


def test_a_sweep_is_told_with_the_recipe_among_its_best() -> None:
    def trial(number: int, f1: float | None, state: str = "complete", **values: Any) -> Trial:
        return Trial(number, state, f1, values, 1234, 5.6, None)

    base = trial(0, 0.2)
    others = [trial(n, 0.3 + n / 100, **{"train.learning_rate": 0.00123456, "lora.rank": n})
              for n in range(1, 30)]  # fmt: skip
    result = SweepResult(
        trials=(base, *others, trial(30, 0.1, "pruned"), trial(31, None, "failed")),
        base=base,
        best=others[-1],
        confirmed={"base": [0.21, 0.22], "best": [0.5, 0.51]},
        winner=Path("[b]/best.toml"),
        importance={},
    )
    stream = io.StringIO()
    print_sweep(Console(file=stream, width=100), result)
    text = stream.getvalue()
    cells = rows(text)
    assert cells["29"] == [
        "0.5900",
        "1,234",
        "6",
        "train.learning_rate",
        "0.00123,",
        "lora.rank",
        "29",
    ]
    assert cells["0"][:1] == ["0.2000"]  # far from the best, but it is what they are held against
    assert "the recipe as it stands" in text
    assert "1" not in cells
    assert "30 trials complete, 1 stopped early, 1 failed or lost" in text
    assert "best with further seeds: 0.5000, 0.5100" in text
    assert result.verdict in text
    assert "winner: [b]/best.toml" in text
