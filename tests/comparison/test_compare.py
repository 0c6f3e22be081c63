"""Orchestration, with a double in the place of training (`helpers.bench`): it invents figures and
predictions and leaves them where a run does."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from helpers.bench import Bench, documents
from helpers.tiny import write_jsonl
from nertune.comparison.compare import RunOptions, compare, configuration_names
from nertune.comparison.results import Estimate
from nertune.config.run import Settings, load_settings
from nertune.data.corpus import load_corpus, save_documents
from nertune.data.splits import load_splits
from nertune.errors import ConfigError, DataError, ModelError, TrainingError
from nertune.experiments.folder import RunFolder
from nertune.experiments.processes.subprocess import RunRequest
from nertune.reports.comparison import comparison_page, print_comparison
from nertune.reports.html import to_html
from nertune.reports.markdown import to_markdown
from nertune.types import Document, Entity


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def no_weights(name: str) -> str:
    """In the place of `hash_encoder`, for a hub's encoder that is not fetched yet."""
    raise ModelError(f"{name}: holds no safetensors weights")


def test_trains_each_configuration_with_each_seed_and_tells_them_apart(bench: Bench) -> None:
    weak, strong = bench.recipe("weak", 0.001), bench.recipe("strong", 0.002)
    comparison = bench.compare(weak, strong, seeds=3)
    assert bench.starts == [
        (name, seed, "new") for seed in (1, 2, 3) for name in ("weak", "strong")
    ]
    assert bench.trainer.requests[0].folder == bench.folder / "out/runs/weak/seed-1"
    assert (comparison.baseline, comparison.seeds, comparison.split) == ("weak", (1, 2, 3), "test")
    first, second = comparison.configurations
    assert first.difference is None
    assert second.difference is not None
    assert second.difference.verdict == "better"
    gained = [
        strong["test"]["micro"]["f1"] - weak["test"]["micro"]["f1"]
        for weak, strong in zip(first.records, second.records, strict=True)
    ]
    assert second.difference.difference == pytest.approx(sum(gained) / 3)
    assert comparison.data["documents"] == 80
    assert comparison.types == ("LOC", "MISC", "PER")
    assert comparison.support("MISC") == 0
    assert comparison.notices == ()


def test_with_one_seed_models_are_told_apart_and_no_methods(bench: Bench) -> None:
    weak, strong = bench.recipe("weak", 0.001), bench.recipe("strong", 0.002)
    shown = bench.compare(weak, strong, seeds=1)
    difference = shown.configurations[1].difference
    assert difference is not None
    assert difference.ci95[0] > 0
    assert difference.verdict == "models differ"
    like = bench.compare(weak, bench.recipe("like", 0.003), seeds=1).configurations[1].difference
    assert like is not None
    assert like.verdict == "models cannot be told apart"
    stream = io.StringIO()
    print_comparison(shown, Console(file=stream, width=100))
    for text in (
        stream.getvalue(),
        to_markdown(comparison_page(shown)),
        to_html(comparison_page(shown)),
    ):
        assert not re.search(r"better|worse", text)
        plain = " ".join(text.split())
        assert "these two models differ; another seed may give another order" in plain
        assert "Not tested: the methods" in plain


def test_document_borders_of_the_test_data_decide_what_is_resampled(bench: Bench) -> None:
    """From the file over the runs to the report; only the borders differ."""
    made = documents(2, 80)
    found = {}
    for name, size in (("sentences", 80), ("documents", 5)):
        lines = []
        for index, document in enumerate(made):
            if index % size == 0:
                lines += ["-DOCSTART- O", ""]
            tags = ["O"] * len(document.text)
            for entity in document.entities:
                tags[entity.start : entity.end] = [f"B-{entity.label}", f"I-{entity.label}"]
            lines += [f"{c}\t{t}" for c, t in zip(document.text, tags, strict=True)] + [""]
        path = bench.folder / f"{name}.conll"
        path.write_text("\n".join(lines).replace("-DOCSTART- O", "-DOCSTART-\tO"))
        recipes = [bench.recipe(n, r, test=str(path)) for n, r in (("a", 0.001), ("b", 0.002))]
        found[name] = bench.compare(*recipes, output=bench.folder / name)
    one, other = (found[name].configurations[1].difference for name in ("sentences", "documents"))
    assert one is not None
    assert other is not None
    assert one.difference == other.difference
    assert one.ci95 != other.ci95
    assert found["sentences"].data["source_documents"] is None
    assert found["documents"].data["source_documents"] == 16
    markdown = to_markdown(comparison_page(found["documents"]))
    assert "(16 documents, 80 sentences, 240 entities" in markdown
    assert "Field & Welsh, 2007" in markdown
    assert "Every text counts as a document of its own" in to_markdown(
        comparison_page(found["sentences"])
    )


def test_borders_that_are_marked_later_count_in_a_run_that_is_reused(bench: Bench) -> None:
    """They decide what is resampled, and not what the documents hold."""
    made = documents(2, 80)
    path = write_jsonl(bench.folder / "own.jsonl", made)
    recipe = bench.recipe("a", 0.001, test=str(path))
    before = bench.compare(recipe, seeds=1)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    marked = [json.dumps({**line, "document": str(i // 5)}) for i, line in enumerate(lines)]
    path.write_text("\n".join(marked) + "\n")
    after = bench.compare(recipe, seeds=1)
    assert bench.starts == []
    assert (before.data["source_documents"], after.data["source_documents"]) == (None, 16)
    assert before.configurations[0].interval != after.configurations[0].interval
    several = bench.compare(recipe, seeds=2)
    assert several.configurations[0].interval is None  # it would be of one of the two


def test_configurations_that_are_the_same_are_named(bench: Bench) -> None:
    copy = bench.folder / "copy.jsonl"
    save_documents(copy, documents(0))
    one, two = bench.recipe("one"), bench.recipe("two", train=str(copy))
    two.write_text(two.read_text() + "\n[lora]\nrank = 4\n")  # of no effect without LoRA
    shown = bench.compare(one, two, bench.recipe("other", 0.002))
    assert "one and two are the same configuration" in " ".join(shown.notices)
    told = " ".join(bench.compare(one, bench.recipe("other", 0.002)).notices)
    assert "same configuration" not in told


def test_little_test_data_is_said(bench: Bench) -> None:
    few = bench.folder / "few.jsonl"
    save_documents(few, documents(3, 9))
    recipes = [bench.recipe(name, test=str(few)) for name in "ab"]
    notices = bench.compare(*recipes).notices
    assert any("Test data of 9 documents: with fewer" in notice for notice in notices)
    assert any("Test data of 27 gold entities: with fewer than 50" in n for n in notices)


def test_other_baseline_turns_the_verdict(bench: Bench) -> None:
    recipes = bench.recipe("weak", 0.001), bench.recipe("strong", 0.002)
    turned = bench.compare(*recipes, baseline="strong").configurations[0].difference
    plain = bench.compare(*recipes).configurations[1].difference
    assert turned is not None
    assert plain is not None
    assert turned.verdict == "worse"
    assert turned.difference == -plain.difference


def test_like_configurations_are_not_told_apart(bench: Bench) -> None:
    comparison = bench.compare(bench.recipe("a", 0.001), bench.recipe("b", 0.003), seeds=3)
    difference = comparison.configurations[1].difference
    assert difference is not None
    assert difference.verdict == "not distinguishable"


def test_figures_over_seeds(bench: Bench) -> None:
    found = bench.compare(bench.recipe("a")).configurations[0]
    assert (found.trainable_parameters, found.total_parameters, found.trainable_share) == (
        250,
        1000,
        0.25,
    )
    # Seed 1 has epochs of 2 and 3 seconds, seed 2 one more of 4.
    assert found.seconds_per_epoch == Estimate(2.75, pytest.approx(0.5**0.5 / 2), (2.5, 3.0))
    assert found.peak_memory_bytes.mean == 2**20 * 101.5
    assert found.best_epochs == (1, 2)
    assert [epoch.loss.values for epoch in found.epochs] == [
        (1.0, 1 / 2), (1 / 2, 1 / 3), (None, 1 / 4)
    ]  # fmt: skip
    assert found.epochs[2].loss == Estimate(0.25, None, (None, 0.25))
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert written["scores"]["types"]["PER"]["overlap"]["f1"]["sd"] > 0
    assert written["scores"]["micro"]["support"] == 240


def test_finished_runs_are_reused_and_said_so(bench: Bench) -> None:
    recipes = bench.recipe("a"), bench.recipe("b", 0.002)
    first = bench.compare(*recipes)
    again = bench.compare(*recipes)
    assert bench.starts == []
    assert len([line for line in bench.messages if "reused" in line]) == 4
    assert again.to_dict() == first.to_dict()
    bench.compare(*recipes, seeds=3)
    assert bench.starts == [("a", 3, "new"), ("b", 3, "new")]
    bench.compare(*recipes, fresh=True)
    assert [start for _, _, start in bench.starts] == ["new"] * 4


def test_another_encoder_behind_the_same_name(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = bench.recipe("a")
    bench.compare(recipe)
    for place in ("nertune.comparison.runs", "helpers.bench"):
        monkeypatch.setattr(f"{place}.hash_encoder", lambda name: "other weights")
    bench.compare(recipe)
    assert bench.starts == [("a", 1, "new"), ("a", 2, "new")]
    assert "the weights of mini-zh have changed" in bench.messages[0]


def test_changed_settings_or_data_are_trained_again(bench: Bench) -> None:
    recipes = bench.recipe("a"), bench.recipe("b", 0.002)
    bench.compare(*recipes)
    bench.recipe("b", 0.003)
    bench.compare(*recipes)
    assert bench.starts == [("b", 1, "new"), ("b", 2, "new")]
    assert bench.messages[1].endswith("training again, train.learning_rate was 0.002, is 0.003")
    bench.compare(*recipes, overrides=["train.epochs=3"])
    assert len(bench.starts) == 4
    assert bench.trainer.requests[0].overrides == ("train.epochs=3",)
    save_documents(bench.folder / "train.jsonl", documents(99))
    bench.compare(*recipes, overrides=["train.epochs=3"])
    assert len(bench.starts) == 4
    assert all("data.train holds other data now" in line for line in bench.messages)
    (bench.folder / "out/runs/a/seed-1/test.predictions.jsonl").unlink()
    bench.compare(*recipes, overrides=["train.epochs=3"])
    assert bench.starts == [("a", 1, "new")]
    assert "its predictions are missing" in bench.messages[0]


def test_a_recipe_that_changes_meanwhile_is_refused(bench: Bench) -> None:
    recipe = bench.recipe("a")

    def edited(request: RunRequest) -> None:
        bench.recipe("a", 0.002)
        bench.trainer(request)

    with pytest.raises(
        TrainingError, match=r"a, seed 1: train.learning_rate was 0.002, is 0.001: the rec"
    ):
        compare([recipe], seeds=2, output=bench.folder / "out", options=RunOptions(run=edited))
    assert (
        bench.compare(recipe).configurations[0].records[0]["settings"]["train"]["learning_rate"]
        == 0.002
    )


def test_splits_are_read_as_a_run_reads_them(bench: Bench) -> None:
    """A test file that alone would be joined with spaces, beside a training file of characters."""
    for split, share in (("train", 9), ("dev", 9), ("test", 6)):
        tokens = ["我"] * share + ["iPhone"] * (10 - share)
        lines = [f"{token}\tB-{kind}" for kind in ("PER", "LOC") for token in tokens]
        (bench.folder / f"{split}.conll").write_text("\n".join(lines), encoding="utf-8")
    assert load_corpus(bench.folder / "test.conll").join == " "
    files = {split: str(bench.folder / f"{split}.conll") for split in ("train", "dev", "test")}
    recipe = bench.recipe("a", **files)
    comparison = bench.compare(recipe)
    settings = load_settings(recipe)
    assert comparison.data["sha256"] == load_splits(settings.data)["test"].sha256
    assert comparison.data["sha256"] != load_corpus(files["test"]).sha256
    bench.compare(recipe)
    assert bench.starts == []


def test_a_killed_run_on_another_encoder_starts_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = bench.recipe("a")
    bench.compare(recipe, seeds=1)
    (bench.folder / "out/runs/a/seed-1/record.json").unlink()
    for place in ("nertune.comparison.runs", "helpers.bench"):
        monkeypatch.setattr(f"{place}.hash_encoder", lambda name: "other weights")
    bench.compare(recipe, seeds=1)
    assert bench.starts == [("a", 1, "new")]


def test_an_encoder_that_was_not_there_yet_does_not_keep_a_run_from_being_resumed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = bench.recipe("a")
    with monkeypatch.context() as patch:
        patch.setattr("nertune.comparison.runs.hash_encoder", no_weights)
        bench.compare(recipe, seeds=1)
    bench.compare(recipe, seeds=1)
    assert bench.starts == []
    (bench.folder / "out/runs/a/seed-1/record.json").unlink()
    bench.compare(recipe, seeds=1)
    assert bench.starts == [("a", 1, "resume")]


def test_what_was_begun_is_gone_before_the_new_request_is_there(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, changed = bench.recipe("a"), ["train.epochs=4"]
    bench.compare(recipe, seeds=1)
    (bench.folder / "out/runs/a/seed-1/record.json").unlink()

    def killed(folder: RunFolder) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "remove_run", killed)
        with pytest.raises(KeyboardInterrupt):
            bench.compare(recipe, seeds=1, overrides=changed)
    bench.compare(recipe, seeds=1, overrides=changed)
    assert bench.starts == [("a", 1, "new")]  # and does not resume what had other settings


def test_other_configurations_may_be_trained_in_the_same_folder_meanwhile(bench: Bench) -> None:
    one, two = bench.recipe("a"), bench.recipe("b")

    def beside(request: RunRequest) -> None:
        if request.seed == 1:
            compare(
                [two], seeds=1, output=bench.folder / "out", options=RunOptions(run=bench.trainer)
            )
        bench.trainer(request)

    compare([one], seeds=2, output=bench.folder / "out", options=RunOptions(run=beside))
    assert [(r.name, r.seed) for r in bench.trainer.requests] == [("b", 1), ("a", 1), ("a", 2)]


def test_a_hash_that_is_not_known_for_the_moment_loses_no_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = bench.recipe("a")
    bench.compare(recipe, seeds=1)
    (bench.folder / "out/runs/a/seed-1/record.json").unlink()

    monkeypatch.setattr("nertune.comparison.runs.hash_encoder", no_weights)
    bench.compare(recipe, seeds=1)
    assert bench.starts == [("a", 1, "resume")]


def test_two_comparisons_in_one_folder_are_refused(bench: Bench) -> None:
    recipe = bench.recipe("a")

    def another(request: RunRequest) -> None:
        bench.compare(recipe, overrides=["train.epochs=4"])

    with pytest.raises(ConfigError, match=r"output: another process is at work in .*out"):
        compare([recipe], seeds=2, output=bench.folder / "out", options=RunOptions(run=another))


def test_what_cannot_be_trained_is_refused_before_anything_is(bench: Bench) -> None:
    recipes = bench.recipe("a"), bench.recipe("b")
    recipes[1].write_text(recipes[1].read_text() + '\n[model]\nencoder = "./typo"\n')
    with pytest.raises(ModelError, match=r"\./typo: no such folder"):
        bench.compare(*recipes)
    (bench.folder / "file").touch()
    with pytest.raises(ConfigError, match=r"output: .*file/runs/a cannot be written to"):
        bench.compare(recipes[0], output=bench.folder / "file")
    with pytest.raises(ConfigError, match=r"data\.train is empty"):
        bench.compare(bench.recipe("c", train=""))
    assert bench.starts == []


def test_configurations_with_different_dev_data_are_said(bench: Bench) -> None:
    recipes = bench.recipe("a"), bench.recipe("b", 0.002, dev="")
    notices = "\n".join(bench.compare(*recipes).notices)
    assert "best epoch on different development data" in notices
    assert f"a on {bench.folder / 'dev.jsonl'}, b on none." in notices
    same = bench.compare(bench.recipe("a"), bench.recipe("b"))
    assert "development data" not in "\n".join(same.notices)


def test_how_many_names_are_seen_is_said_only_where_it_is_the_same_for_all(bench: Bench) -> None:
    assert bench.compare(bench.recipe("a"), bench.recipe("b")).novelty is not None
    other = bench.folder / "other.jsonl"
    save_documents(other, [Document("PERx", (Entity(0, 3, "PER"),)), *documents(2)[:5]])
    recipes = bench.recipe("a"), bench.recipe("b", train=str(other))
    comparison = bench.compare(*recipes, other_training_data=True)
    assert comparison.novelty is None
    assert "| configuration | seen | other type | unseen |" in to_markdown(
        comparison_page(comparison)
    )
    assert comparison.to_dict()["gold_by_novelty"] is None


def test_killed_runs_are_resumed(bench: Bench) -> None:
    recipe = bench.recipe("a")
    kill_after = iter([False, True])

    def killed(request: RunRequest) -> None:
        if next(kill_after):
            (request.folder / "checkpoints").mkdir(parents=True)
            raise KeyboardInterrupt
        bench.trainer(request)

    with pytest.raises(KeyboardInterrupt):
        compare([recipe], seeds=2, output=bench.folder / "out", options=RunOptions(run=killed))
    bench.compare(recipe)
    assert bench.starts == [("a", 2, "resume")]
    assert any("reused" in line for line in bench.messages)


def test_a_killed_run_with_other_settings_starts_again(bench: Bench) -> None:
    recipe = bench.recipe("a")
    bench.compare(recipe, seeds=1)
    folder = bench.folder / "out/runs/a/seed-1"
    (folder / "record.json").unlink()
    bench.compare(recipe, seeds=1, overrides=["train.epochs=4"])
    assert bench.starts == [("a", 1, "new")]


def test_other_test_data_is_refused_before_anything_is_trained(bench: Bench) -> None:
    other = str(bench.folder / "other.jsonl")
    save_documents(Path(other), documents(7))
    with pytest.raises(ConfigError, match=r"different data.*a on test.*b on test"):
        bench.compare(bench.recipe("a"), bench.recipe("b", test=other))
    with pytest.raises(ConfigError, match=r"b on dev.*names no data.test"):
        bench.compare(bench.recipe("a"), bench.recipe("b", test=""))
    assert bench.starts == []


def test_other_training_data_is_refused_unless_it_is_what_is_compared(bench: Bench) -> None:
    other = bench.folder / "other.jsonl"
    save_documents(other, documents(7))
    recipes = bench.recipe("a"), bench.recipe("b", train=str(other))
    hashes = [load_corpus(bench.folder / f"{n}.jsonl").sha256[:12] for n in ("train", "other")]
    with pytest.raises(ConfigError, match=f"a on .*{hashes[0]}.*b on .*{hashes[1]}.*--other"):
        bench.compare(*recipes)
    assert bench.starts == []
    assert len(bench.compare(*recipes, other_training_data=True).configurations) == 2


def test_the_same_test_data_may_lie_in_two_files(bench: Bench) -> None:
    copy = bench.folder / "copy.jsonl.gz"
    save_documents(copy, documents(2))
    assert bench.compare(bench.recipe("a"), bench.recipe("b", test=str(copy))).split == "test"


def test_without_test_data_dev_is_scored_and_that_is_said(bench: Bench) -> None:
    comparison = bench.compare(bench.recipe("a", test=""), bench.recipe("b", 0.002, test=""))
    assert comparison.split == "dev"
    assert "optimistic" in comparison.notices[0]
    with pytest.raises(ConfigError, match=r"neither data.test nor data.dev"):
        bench.compare(bench.recipe("a", test="", dev=""))


def test_what_spoils_a_comparison_is_said(bench: Bench) -> None:
    dev = str(bench.folder / "dev.jsonl")
    recipes = [bench.recipe(name, test=dev) for name in "abc"]
    notices = "\n".join(bench.compare(*recipes, seeds=1).notices)
    assert "Development and test data are the same" in notices
    assert "One training each (seed 1)" in notices
    assert "--seeds 3 or more" in notices
    assert "corrected for their number (Holm" in notices


def test_a_configuration_that_was_not_trained_well_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the reference study concluded from came of two epochs at a rate for another way."""
    record = bench.trainer.record

    def changed(settings: Settings, scores: dict[str, Any]) -> dict[str, Any]:
        found = record(settings, scores)
        if settings.run.name in ("weak", "strong"):
            found["best_epoch"] = len(found["epochs"])
        return found

    monkeypatch.setattr(bench.trainer, "record", changed)
    recipes = [bench.recipe("strong", 0.002), bench.recipe("weak"), bench.recipe("silent", 0.5)]
    _, silent, weak = bench.compare(recipes[0], recipes[2], recipes[1]).notices
    assert silent.startswith("silent predicted no entity with 2 of 2 seeds")
    assert weak.startswith("weak was best on dev in its last epoch with every seed")


def test_a_configuration_whose_best_epoch_was_earlier_with_one_seed_is_not_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = bench.trainer.record

    def changed(settings: Settings, scores: dict[str, Any]) -> dict[str, Any]:
        found = record(settings, scores)
        return found | ({"best_epoch": len(found["epochs"])} if settings.run.seed == 1 else {})

    monkeypatch.setattr(bench.trainer, "record", changed)
    assert bench.compare(bench.recipe("strong", 0.002), bench.recipe("weak")).notices == ()


@pytest.mark.parametrize("dev", [None, {"precision": None, "recall": 0.0, "f1": 0.0}])
def test_a_last_epoch_that_dev_did_not_choose_says_nothing(
    dev: dict[str, Any] | None, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dev, and as long as nothing right is found, the last epoch counts as the best."""
    record = bench.trainer.record

    def changed(settings: Settings, scores: dict[str, Any]) -> dict[str, Any]:
        found = record(settings, scores)
        epochs = [epoch | {"dev": dev} for epoch in found["epochs"]]
        return found | {"epochs": epochs, "best_epoch": len(epochs)}

    monkeypatch.setattr(bench.trainer, "record", changed)
    assert bench.compare(bench.recipe("strong", 0.002), bench.recipe("weak")).notices == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "c"}, "baseline 'c' is no configuration; expected one of a, b"),
        ({"seeds": 0}, "seeds = 0"),
        ({"overrides": ["run.seed=3"]}, "compare sets run.seed"),
        ({"overrides": ["train.epoch=3"]}, "did you mean epochs"),
    ],
)
def test_wrong_arguments_are_refused(bench: Bench, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bench.compare(bench.recipe("a"), bench.recipe("b"), **options)
    assert bench.starts == []


def test_configuration_names_are_unique() -> None:
    def names(*paths: str) -> tuple[str, ...]:
        return configuration_names([Path(path) for path in paths])

    assert names("x/bert.toml", "x/lora.toml") == ("bert", "lora")
    assert names("x/bert.toml", "y/bert.toml", "y/lora.toml") == ("x-bert", "y-bert", "lora")
    assert names("p/x/bert.toml", "q/x/bert.toml") == ("p-x-bert", "q-x-bert")
    assert len(set(names("/x/b.toml", "/x-b.toml", "/b.toml"))) == 3
    with pytest.raises(ConfigError, match="given twice"):
        names("x/bert.toml", "x/../x/bert.toml")
    with pytest.raises(ConfigError, match="at least one"):
        names()


def test_predictions_that_do_not_fit_their_record_are_refused(bench: Bench) -> None:
    recipe = bench.recipe("a")
    bench.compare(recipe)
    path = bench.folder / "out/runs/a/seed-2/test.predictions.jsonl"
    predicted = list(load_corpus(path).documents)
    save_documents(path, [d.with_entities(()) for d in predicted], format="predictions")
    with pytest.raises(DataError, match=r"seed-2.*record.json beside it says"):
        bench.compare(recipe)
    save_documents(path, predicted[:-1], format="predictions")
    with pytest.raises(DataError, match=r"seed-2.*80 gold documents but 79"):
        bench.compare(recipe)


def test_a_run_without_a_record_is_an_error(bench: Bench) -> None:
    with pytest.raises(TrainingError, match=r"a, seed 1: .*no finished record"):
        compare(
            [bench.recipe("a")], output=bench.folder / "out", options=RunOptions(run=lambda _: None)
        )


def test_examples_are_what_most_seeds_tell_apart(bench: Bench) -> None:
    shown = bench.compare(bench.recipe("weak", 0.001), bench.recipe("strong", 0.002), seeds=3)
    found = {e.right: [x for x in shown.examples if x.right == e.right] for e in shown.examples}
    assert len(found["strong"]) == 10  # there are more
    for example in shown.examples:
        assert {example.right, example.wrong} == {"weak", "strong"}
        assert example.seeds_right / 3 - (3 - example.seeds_wrong) / 3 > 0.5
        keys = [{e.key for e in d.entities} for d in (example.gold, example.found)]
        assert keys[0] != keys[1]
        assert example.gold.text == example.found.text
    leads = [example.seeds_right + example.seeds_wrong for example in found["strong"]]
    assert leads == sorted(leads, reverse=True)  # those first where the seeds agree
    turned = bench.compare(bench.recipe("strong", 0.002), bench.recipe("weak", 0.001), seeds=3)
    assert {e.right for e in turned.examples} >= {"strong"}


def test_runs_on_different_machines_are_said(bench: Bench) -> None:
    recipes = bench.recipe("a"), bench.recipe("b", 0.002)
    assert "numbers of threads" not in " ".join(bench.compare(*recipes).notices)
    path = bench.folder / "out" / "runs" / "a" / "seed-1" / "record.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"threads": 2, "nertune": "0.0.9"}))
    assert "different devices or numbers of threads" in " ".join(bench.compare(*recipes).notices)
    assert any("(trained by nertune 0.0.9)" in message for message in bench.messages)
