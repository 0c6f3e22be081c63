"""An advice: its steps, its budget, what it refuses, and that a kill loses little."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from helpers.advice import Ask
from helpers.shown import logged
from helpers.tiny import (
    SENTENCES,
    make_predictor,
    make_settings,
    save_predictor,
    tiny_bert,
    write_jsonl,
)
from nertune.comparison.results import Estimate
from nertune.comparison.search import advise as module
from nertune.comparison.search.advice import Outcome
from nertune.comparison.search.candidates import Plan
from nertune.config.run import load_settings
from nertune.errors import ConfigError, DataError, ModelError, NertuneError, TrainingError
from nertune.experiments.folder import RunFolder
from nertune.experiments.train import train
from nertune.reports.advice import advice_page, print_advice, save_advice
from nertune.reports.markdown import to_markdown


def test_it_tries_chooses_confirms_and_writes_a_recipe(ask: Ask, tmp_path: Path) -> None:
    with logged() as said:
        advice = ask()
    assert advice.plan.epochs == 6
    assert advice.plan.first == 2
    tried = advice.outcomes
    families = [o.candidate.method for o in tried]
    assert families[:6] == ["full", "lora"] * 3
    assert families[-4:] == ["lora"] * 4  # other shapes, at LoRA's best rate
    for family in ("full", "lora"):
        ladder = [o for o in tried[:-4] if o.candidate.method == family]
        best = max(ladder, key=lambda o: o.merit(2)).candidate.rate
        rates = [o.candidate.rate for o in ladder]
        assert min(rates) < best < max(rates) or len(rates) == 6
    whole = [o for o in tried if len(o.dev_f1) == 6]
    assert [o.candidate.method for o in whole].count("full") == 1
    assert [o.candidate.method for o in whole].count("lora") == 2
    assert all(len(o.dev_f1) == 2 for o in tried if o not in whole)  # stopped after a third
    for family in ("full", "lora"):  # those went on that were best when weighed
        weighed = sorted((o.merit(2) for o in tried if o.candidate.method == family), reverse=True)
        kept = [o.merit(2) for o in whole if o.candidate.method == family]
        assert sorted(kept, reverse=True) == weighed[: len(kept)]
    # The last comparison: other seeds, both ways, scored on dev; its recipe is the winner's.
    assert advice.confirmed
    assert advice.difference is not None
    assert advice.difference.num_seeds == 2
    assert advice.certainty is not None
    folder = tmp_path / "out" / "confirm" / "runs"
    assert sorted(str(p.parent.relative_to(folder)) for p in folder.rglob("record.json")) == [
        "full/seed-2", "full/seed-3", "lora/seed-2", "lora/seed-3"
    ]  # fmt: skip
    means = {family: advice.scores[family].mean for family in ("full", "lora")}
    lead = (means["lora"] or 0) - (means["full"] or 0)
    assert advice.difference.difference == pytest.approx(lead)
    assert advice.choice == ("lora" if lead > -0.005 else "full")
    settings = load_settings(advice.recipe)
    assert settings.model.tuning == advice.choice
    assert settings.train.learning_rate == advice.chosen[advice.choice].rate
    assert settings.data.train_share == 1.0
    assert settings.data.train.endswith("train.jsonl")
    assert settings.train.epochs == 6
    assert advice.costs["lora"]["share"] < advice.costs["full"]["share"] == 1.0
    assert advice.costs["lora"]["peak_bytes"] is not None
    assert any("dev F1" in line for line in said)


@pytest.mark.slow
def test_several_workers_find_the_same(ask: Ask, tmp_path: Path) -> None:
    found = {}
    for workers in (1, 2):
        advice = ask(workers=workers, output=tmp_path / str(workers))
        at_first = [o for o in advice.outcomes if o.candidate.method == "full"]
        found[workers] = [(o.candidate.name, o.dev_f1) for o in at_first]
        assert [len(run.folders) for run in advice.runs.values()] == [2, 2]
        told = "2 runs were trained at the same time" in " ".join(advice.notices)
        assert told == (workers == 2)
        assert {len(o.dev_f1) for o in advice.outcomes} == {2, 6}
    assert found[1] == found[2]


@pytest.mark.slow
def test_a_worker_that_dies(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its candidate has failed, and the search goes on."""
    train_beside = module.TrialProcesses.train

    def die(self: Any, settings: Any, *arguments: Any, **options: Any) -> Any:
        if settings["run"]["name"] == "lora-0.001-8-all-all-linear":
            raise TrainingError("its process has ended (signal 9): ")
        return train_beside(self, settings, *arguments, **options)

    monkeypatch.setattr(module.TrialProcesses, "train", die)
    advice = ask(workers=2)
    reasons = {o.candidate.name: o.reason for o in advice.outcomes if o.reason}
    assert reasons == {"lora-0.001-8-all-all-linear": "its process has ended (signal 9): "}, [
        o.candidate.name for o in advice.outcomes
    ]


@pytest.mark.slow
def test_it_is_shown_and_kept(ask: Ask, tmp_path: Path) -> None:
    advice = ask()
    console = Console(width=80, record=True, file=io.StringIO())
    print_advice(advice, console)
    save_advice(advice, tmp_path / "out")
    text = console.export_text()
    assert advice.verdict in " ".join(text.split("\n"))
    tables = text[: text.index(advice.notices[0] if advice.notices else advice.verdict)]
    assert max(map(len, tables.split("\n"))) <= 80
    markdown = (tmp_path / "out" / "advice.md").read_text(encoding="utf-8")
    assert advice.verdict in markdown.replace("\\", "")
    for outcome in advice.outcomes:
        best = f"{outcome.best():.4f} | {len(outcome.dev_f1)} | {outcome.trainable:,} |"
        row = next(line for line in markdown.split("\n") if best in line
                   and line.startswith(f"| {outcome.candidate.title} |"))  # fmt: skip
        assert f"| {outcome.best(advice.plan.first):.4f} |" in row
    for method, candidate in advice.chosen.items():
        scores = advice.scores[method]
        told = f"| {candidate.title} | {scores.mean:.4f} ± {scores.deviation:.4f} |"
        row = next(line for line in markdown.split("\n") if line.startswith(told))
        assert row.endswith(f" | {advice.costs[method]['stored_bytes'] / 1e6:.1f} |")
    kept = json.loads((tmp_path / "out" / "advise.json").read_text(encoding="utf-8"))
    assert kept["advice"] == json.loads(json.dumps(advice.to_dict()))
    assert kept["advice"]["verdict"] == advice.verdict
    assert not [p for p in (tmp_path / "out").glob(".*") if p.is_file() and p.name != ".lock"]


def refuse_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever trains from now on fails the test."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("nertune.experiments.train.train", fail)
    monkeypatch.setattr(module, "run_in_subprocess", fail)


def test_with_resume_nothing_is_trained_twice(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ask()

    refuse_training(monkeypatch)
    again = ask(resume=True)
    assert again.verdict == first.verdict
    assert again.outcomes == first.outcomes
    assert again.costs == first.costs
    assert again.seconds >= first.seconds  # of both lives


@pytest.mark.slow
def test_a_resumed_advice_whose_time_is_up_changes_nothing(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was begun in an earlier life is not left out for want of time in a later one."""
    first = ask()
    state = tmp_path / "out" / "advise.json"
    kept = json.loads(state.read_text(encoding="utf-8"))
    state.write_text(json.dumps(kept | {"spent": 10_000.0}), encoding="utf-8")

    refuse_training(monkeypatch)
    again = ask(resume=True)
    assert again.outcomes == first.outcomes
    assert again.notices == first.notices
    assert again.verdict == first.verdict


def test_a_run_that_was_paused_when_time_was_up_does_not_go_on(ask: Ask) -> None:
    first = ask(minutes=0.0001)
    assert [len(o.dev_f1) for o in first.outcomes] == [1, 1]  # of two epochs
    again = ask(minutes=0.0001, resume=True)
    assert again.outcomes == first.outcomes
    assert again.notices == first.notices


def test_what_the_plan_leaves_out_is_still_said_after_a_kill(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "possible_plans", lambda *_: iter([Plan(0.5, 3, 1, False, 0, seconds=1.0)])
    )

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module._Search, "_train", killed)
        with pytest.raises(KeyboardInterrupt):
            ask()
    assert [n for n in ask(resume=True).notices if n.startswith("trained on 50%")]


def test_too_few_minutes_still_give_an_answer_that_says_so(ask: Ask) -> None:
    advice = ask(minutes=0.0001)
    assert not advice.confirmed
    assert len(advice.outcomes) == 2  # one of either way, in any case
    assert advice.difference is None
    notices = " ".join(advice.notices)
    for part in (
        "too few for a sound answer",
        "no time was left to train",
        "the scores are optimistic",
    ):
        assert part in notices
    assert advice.verdict.startswith("no advice: nothing that was tried found an entity")
    found = replace(advice, scores={f: Estimate.of([0.5]) for f in ("full", "lora")})
    assert "0.5000 of LoRA, one run each, after 1 epoch" in found.verdict
    assert load_settings(advice.recipe).model.tuning == advice.choice


def test_what_had_no_time_is_named_once(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the best so far is also the highest so far, the next rate up is skipped a second time."""
    monkeypatch.setattr(Outcome, "best", lambda self, epochs=None: 0.5)
    notices = ask(minutes=0.0001).notices
    skipped = next(n for n in notices if n.startswith("no time was left to train "))
    titles = skipped.removeprefix("no time was left to train ").split("; ")
    assert len(titles) == len(set(titles)) >= 4


def test_what_is_set_aside_is_read_back_whatever_the_source_was(ask: Ask, tmp_path: Path) -> None:
    data = tmp_path / "all.txt"
    lines = [f"{number}\tO\n北\tB-LOC\n京\tE-LOC\n" for number in range(40)]
    data.write_text("\n".join(lines), encoding="utf-8")
    advice = ask(data=data, minutes=0.0001, overrides=["data.format=conll", "data.scheme=BIOES"])
    assert all(outcome.dev_f1 for outcome in advice.outcomes), advice.outcomes
    assert load_settings(advice.recipe).data.format == "jsonl"


def test_a_refused_advice_leaves_the_data_of_another_alone(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "out" / "data").mkdir(parents=True)
    kept = write_jsonl(tmp_path / "out" / "data" / "train.jsonl", SENTENCES[:1])
    (tmp_path / "out" / "advise.json").write_text("{}")
    before = kept.read_bytes()
    with pytest.raises(ConfigError, match="holds an advice already"):
        ask(data=write_jsonl(tmp_path / "all.jsonl"), minutes=1)
    assert kept.read_bytes() == before
    asked = {"settings": {}, "data": {}, "minutes": 1}
    (tmp_path / "out" / "advise.json").write_text(json.dumps({"request": asked, "spent": 0.0}))
    with pytest.raises(ConfigError, match="holds an advice on other settings"):
        ask(data="sample:train", minutes=1, resume=True)
    assert kept.read_bytes() == before


@pytest.mark.slow
def test_with_less_time_the_best_rates_go_to_whole_runs_at_once(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "possible_plans", lambda *_: iter([Plan(1.0, 6, 2, False, 1, seconds=1.0)])
    )
    advice = ask()
    assert all(len(o.dev_f1) == 2 for o in advice.outcomes)  # none went on to the end
    assert {o.candidate.rank for o in advice.outcomes} == {8}
    for family, chosen in advice.chosen.items():
        found = [o for o in advice.outcomes if o.candidate.method == family]
        assert max(found, key=lambda o: o.merit()).candidate == chosen
    assert advice.confirmed
    assert advice.difference is not None


@pytest.mark.slow
def test_a_finalist_that_is_killed_behind_its_last_epoch_is_finished(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: RunFolder, record: Any) -> None:
        if not folder.path.name.startswith("pilot"):
            raise KeyboardInterrupt
        finish(folder, record)

    finish = RunFolder.finish
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            ask()
    advice = ask(resume=True)
    done = [o.candidate.name for o in advice.outcomes if len(o.dev_f1) == advice.plan.epochs]
    assert len(done) == 3
    assert all((tmp_path / "out/runs" / name / "record.json").exists() for name in done)


def test_large_data_are_cut_down(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(share=0.5, epochs=3, first=1, shapes=False, seeds=1, seconds=0.0)
    monkeypatch.setattr(module, "possible_plans", lambda *_: iter([plan]))
    advice = ask()
    record = json.loads((tmp_path / "out/confirm/runs/lora/seed-2/record.json").read_text())
    assert record["data"]["train"]["documents"] == 4
    assert "trained on 50% of the documents" in " ".join(advice.notices)
    assert load_settings(advice.recipe).data.train_share == 1.0


def failing(tuning: str, monkeypatch: pytest.MonkeyPatch, *, spared: str = "-") -> None:
    """No run of this way succeeds but those in folders of that name."""
    real = train

    def fail(settings: Any, **options: Any) -> dict[str, Any]:
        if settings.model.tuning == tuning and spared not in Path(settings.run.dir).name:
            raise NertuneError("it does not go")
        return real(settings, **options)

    monkeypatch.setattr("nertune.experiments.train.train", fail)


def test_what_cannot_be_trained_is_left_out(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    failing("lora", monkeypatch, spared="pilot")
    advice = ask()
    assert advice.choice == "full"
    assert list(advice.chosen) == ["full"]
    assert "LoRA could not be trained: it does not go" in advice.notices
    assert advice.difference is None
    page = to_markdown(advice_page(advice))
    rows = [line for line in page.split("\n") if line.startswith("| LoRA, ")]
    assert [row.split(" | ")[1] for row in rows] == ["failed"] * 3
    assert "against" not in advice.verdict
    assert advice.confirmed
    assert len(advice.scores["full"].values) == 2  # of the last comparison, not of the search
    again = ask(resume=True)
    assert again.outcomes == advice.outcomes
    assert again.notices == advice.notices


@pytest.mark.parametrize(("tuning", "other"), [("lora", "full"), ("full", "lora")])
def test_a_way_whose_pilot_fails_is_left_out(
    tuning: str, other: str, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(tuning, monkeypatch, spared="none")
    advice = ask()
    assert {o.candidate.method for o in advice.outcomes} == {other}
    assert list(advice.chosen) == [other]
    assert [n for n in advice.notices if n.endswith("could not be trained: it does not go")]
    assert load_settings(advice.recipe).model.tuning == other
    again = ask(resume=True)
    assert again.notices == advice.notices
    assert again.outcomes == advice.outcomes


def test_if_neither_can_be_trained_the_reason_is_told(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(settings: Any, **_: Any) -> dict[str, Any]:
        raise NertuneError(f"no {settings.model.tuning}")

    monkeypatch.setattr("nertune.experiments.train.train", fail)
    with pytest.raises(NertuneError, match="no full"):
        ask()


def test_another_advice_in_the_folder_is_refused(ask: Ask) -> None:
    with pytest.raises(ConfigError, match="holds no advice to resume"):
        ask(resume=True)
    ask(minutes=0.0001)
    with pytest.raises(ConfigError, match="holds an advice already"):
        ask(minutes=0.0001)
    with pytest.raises(ConfigError, match="other minutes"):
        ask(minutes=0.0002, resume=True)
    with pytest.raises(ConfigError, match="other settings"):
        ask(minutes=0.0001, resume=True, overrides=["run.device=cpu"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"minutes": 0}, ConfigError, "more than 0"),
        ({"overrides": ["lora.rank=4"]}, ConfigError, "chooses lora.rank itself"),
        ({"overrides": ["model.encoder=x"]}, ConfigError, "name the encoder with --encoder"),
        ({"overrides": ["lora.ranks.3=4"]}, ConfigError, "chooses lora.ranks.3 itself"),
        ({"overrides": ["train.rte=4"]}, ConfigError, "train.rte"),
        ({"data": "/nowhere/train"}, DataError, "/nowhere/train"),
    ],
)
def test_wrong_arguments_are_refused(
    ask: Ask, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ask(**options)


@pytest.mark.slow
def test_a_killed_advice_goes_on(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl")
    output = tmp_path / "out"
    command = [sys.executable, "-m", "nertune", "advise", str(tmp_path), "-o", str(output)]
    command += ["--minutes", "0.15", "--encoder", str(tiny_bert())]
    command += ["--dev", str(write_jsonl(tmp_path / "held-out.jsonl", SENTENCES[:6]))]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("LoRA, rank 8"):  # full tuning's first candidate is weighed, too
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it was still at work
    process.stderr.close()
    logs = sorted((output / "runs").glob("*/log.jsonl"))
    finished = {log: log.read_bytes() for log in logs[:1]}
    assert any(finished.values())
    spent = json.loads((output / "advise.json").read_text())["spent"]
    done = subprocess.run(
        [*command, "--resume", "--json"], env=environment, capture_output=True, check=True,
        text=True,
    )  # fmt: skip
    advice = json.loads(done.stdout)
    assert advice["choice"] in ("full", "lora")
    assert advice["seconds"] > spent > 0
    for log, content in finished.items():
        assert log.read_bytes().startswith(content)
    assert not [p for p in output.glob(".*") if p.is_file() and p.name != ".lock"]


def test_an_adapter_is_an_encoder_too(ask: Ask, tmp_path: Path) -> None:
    """What `train` merges into its base; rates and layers are those of the base."""
    settings = make_settings(tmp_path, "lora")
    adapter = tmp_path / "adapter"
    save_predictor(adapter, make_predictor(settings), settings)
    advice = ask(encoder=str(adapter), minutes=0.0001)
    plain = ask(output=tmp_path / "plain", minutes=0.0001)
    assert all(outcome.dev_f1 for outcome in advice.outcomes), advice.outcomes
    assert [o.candidate for o in advice.outcomes] == [o.candidate for o in plain.outcomes]
    assert advice.outcomes[0].losses != plain.outcomes[0].losses  # it begins with other weights
    assert load_settings(advice.recipe).model.encoder == str(adapter)
    (adapter / "nertune.json").unlink()
    with pytest.raises(ModelError, match="holds a plain peft adapter; merge it into its base"):
        ask(encoder=str(adapter), minutes=0.0001, output=tmp_path / "other")
