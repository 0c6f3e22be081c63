"""What a report says of what was compared."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from helpers.bench import Bench, documents
from helpers.comparisons import comparison
from nertune.comparison.configurations import (
    configuration_rows,
    data_rows,
    describe_rates,
    differing_settings,
)
from nertune.comparison.results import Comparison
from nertune.config.run import settings_of_record
from nertune.data.corpus import load_corpus, save_documents
from nertune.reports.comparison import comparison_page, print_comparison
from nertune.reports.markdown import to_markdown


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def write(path: Path, *lines: str) -> Path:
    path.write_text(path.read_text() + "\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def varied(bench: Bench, **options: int) -> Comparison:
    full = write(bench.recipe("full"), "epochs = 12")
    lora = write(
        bench.recipe("lora", 0.002), "epochs = 12", "batch_tokens = 256", "[model]",
        'tuning = "lora"', "[lora]", "rank = 4", 'targets = ["qv", "output"]', 'layers = "top-2"',
    )  # fmt: skip
    lstm = write(bench.recipe("lstm", 0.003), '[model]\nemitter = "lstm"\ndecoder = "crf"')
    return bench.compare(full, lora, lstm, **options)


def test_a_row_says_what_each_configuration_is(bench: Bench) -> None:
    record = bench.trainer.record

    def with_rates(settings: object, scores: object) -> dict[str, object]:
        found = record(settings, scores)  # type: ignore[arg-type]
        rates = {"adapter": 2e-3, "adapter_b": 2e-3, "head": 1e-3, "crf": 1e-2}
        return {**found, "rates": rates}

    bench.trainer.record = with_rates  # type: ignore[assignment, method-assign]
    full, lora, lstm = configuration_rows(varied(bench))
    rates = "adapter 2e-3, head 1e-3, crf 0.01"
    assert full == ["full", "mini-zh", "1,000", "fine-tuned in full", "softmax", rates,
                    "2, 3 of 12", "1,024", "1, 2"]  # fmt: skip
    assert lora[3] == "LoRA, rank 4, alpha 32, targets qv output, layers top-2"
    assert lora[7] == "256"
    assert lstm[1:5] == ["BiLSTM 2×256", "1,000", "from new weights", "crf"]


def test_the_settings_that_differ_and_no_others(bench: Bench) -> None:
    shown = varied(bench)
    rows = {row[0]: row[1:] for row in differing_settings(shown.configurations)}
    assert rows == {
        "model.emitter": ["encoder", "encoder", "lstm"],
        "model.tuning": ["full", "lora", "–"],  # of no effect on a BiLSTM
        "model.decoder": ["softmax", "softmax", "crf"],
        "train.epochs": ["12", "12", "20"],
        "train.batch_tokens": ["1024", "256", "1024"],
        "train.learning_rate": ["1e-3", "2e-3", "3e-3"],
    }
    markdown = to_markdown(comparison_page(shown))
    assert "| setting | full | lora | lstm |" in markdown
    assert "| train.batch\\_tokens |" in markdown or "| train.batch_tokens |" in markdown


def test_options_of_a_method_differ_one_by_one(bench: Bench) -> None:
    recipes = [
        write(bench.recipe(name), '[model]\ntuning = "peft"\n[peft]\nmethod = "vera"\n'
              f"options = {{r = {rank}, d_initial = 0.1}}")
        for name, rank in (("a", 64), ("b", 256))
    ]  # fmt: skip
    shown = bench.compare(*recipes)
    assert differing_settings(shown.configurations) == [["peft.options.r", "64", "256"]]
    assert configuration_rows(shown)[0][3].startswith("peft: vera, targets query key value, r 64")


def test_the_data_are_named_with_their_hashes(bench: Bench) -> None:
    other = bench.folder / "other.jsonl"
    save_documents(other, documents(7, 30))
    recipes = bench.recipe("a"), bench.recipe("b", train=str(other))
    rows = data_rows(bench.compare(*recipes, other_training_data=True))
    assert [row[0] for row in rows] == ["train", "train", "dev", "test"]
    assert [row[5] for row in rows] == ["a", "b", "all", "all"]
    assert rows[1][1:4] == [str(other), "30", "90"]
    assert rows[1][4] == f"{load_corpus(other).sha256[:12]}…"
    drawn = data_rows(bench.compare(recipes[0], overrides=["data.train_share=0.5"]))
    assert drawn[0][2] == "40"
    assert drawn[0][4] == "drawn by seed"


def test_a_report_says_what_was_compared_and_which_types_were_confused(bench: Bench) -> None:
    shown = bench.compare(bench.recipe("weak"), bench.recipe("strong", 0.002))
    markdown = to_markdown(comparison_page(shown))
    assert markdown.index("## What was compared") < markdown.index("## Cost")
    stream = io.StringIO()
    print_comparison(shown, Console(file=stream, width=80))
    assert "weak: mini-zh, fine-tuned in full" in stream.getvalue()
    assert "Confused types (gold types in rows" in stream.getvalue()
    section = markdown.split("## Confused types", 1)[1].split("\n## ", 1)[0]
    assert "mean over 2 seeds" in section
    table = section.split("### strong", 1)[1].strip().splitlines()
    rows = [line.strip("| ").split(" | ") for line in table]
    assert rows[0][1:] == ["LOC", "MISC", "PER", "(missed)", "gold"]
    strong = shown.configurations[1]
    cells = {row[0]: row[1:] for row in rows[2:]}
    for gold in ("LOC", "PER"):
        counted = sum(float(cell) for cell in cells[gold][:4] if cell != "·")
        assert counted == pytest.approx(shown.support(gold), abs=0.2)
        assert float(cells[gold][1]) == pytest.approx(strong.confused(gold, "MISC").mean, abs=0.05)
    written = json.loads(json.dumps(strong.to_dict()))
    pairs = {(c["gold"], c["predicted"]): c["count"]["mean"] for c in written["confusions"]}
    assert pairs["LOC", None] == strong.confused("LOC", "").mean
    assert written["settings"]["train"]["learning_rate"] == 0.002


def test_many_types_are_not_shown_in_a_terminal(bench: Bench) -> None:
    types = tuple(f"TYPE{n}" for n in range(7))
    stream = io.StringIO()
    print_comparison(comparison(types=types), Console(file=stream, width=200))
    assert "Confused types" not in stream.getvalue()


def test_a_run_of_an_earlier_version_differs_in_nothing_but_what_differs(bench: Bench) -> None:
    """Its record has other names of learning rates, and lacks settings that came later."""
    folder = Path(__file__).parents[1] / "fixtures" / "v0.1.0" / "runs" / "lora-crf"
    old = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    now = {**old, "settings": settings_of_record(old["settings"])}
    now["settings"]["lora"] = {**now["settings"]["lora"], "rank": 8}
    one = comparison(names=("a",), num_seeds=1).configurations[0]
    both = [
        replace(one, name=name, records=(record,)) for name, record in (("old", old), ("new", now))
    ]
    now["settings"]["train"] = {**now["settings"]["train"], "warmup": 0.100004}
    assert differing_settings(both) == [
        ["lora.rank", "2", "8"], ["train.warmup", "0.1", "0.100004"]
    ]  # fmt: skip
    assert configuration_rows(replace(comparison(), configurations=tuple(both), seeds=(987,)))[0][
        3
    ] == ("LoRA, rank 2, alpha 8, targets query key value")


def test_a_record_without_rates_or_settings_is_shown_as_far_as_it_goes() -> None:
    shown = comparison()
    assert describe_rates(shown.configurations[0]) == "–"
    assert configuration_rows(shown)[0][:2] == ["bert", "–"]
    assert "differ in no setting" in to_markdown(comparison_page(shown))
