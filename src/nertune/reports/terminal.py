"""Scores and records as terminal tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nertune.evaluation.resampling import caveats

if TYPE_CHECKING:
    from nertune.comparison.search.advice import Advice
    from nertune.comparison.search.trials import SweepResult

__all__ = [
    "print_advice",
    "print_export",
    "print_pretraining",
    "print_record",
    "print_scores",
    "print_sweep",
]

_SHOWN_TRIALS = 8


def print_scores(scores: Mapping[str, Any], title: str, console: Console) -> None:
    """P, R, F1 by type, micro and macro; type-agnostic and overlap F1 beside them.

    Args:
        scores: `Scores.to_dict()`.
        title: what was scored.
        console: where to.
    """
    sources = scores.get("source_documents")  # not in what earlier versions wrote
    texts = f"{scores['documents']:,} {'sentences' if sources else 'documents'}"
    counted = f"{sources:,} documents, {texts}" if sources else texts
    console.print(Text(f"{title} ({counted})"), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True)
    table.add_column("type", overflow="fold")  # a long name is folded, a number never cut
    for name in ("P", "R", "F1", "gold", "pred.", "untyped", "overlap"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in scores["types"].items():
        table.add_row(Text(name), *_cells(row), _number(row["untyped"]["f1"]),
                      _number(row["overlap"]["f1"]))  # fmt: skip
    table.add_section()
    table.add_row("micro", *_cells(scores["micro"]), _number(scores["untyped"]["f1"]),
                  _number(scores["overlap"]["f1"]))  # fmt: skip
    table.add_row("macro", *_cells(scores["macro"]), "", "")
    console.print(table)
    console.print(
        "exact spans; untyped: F1 of spans of any type; overlap: F1 where one character is enough"
    )
    interval = scores["micro"].get("f1_ci95")
    if interval:
        over = f"{sources:,} documents ({texts})" if sources else texts
        console.print(
            f"micro-F1 {scores['micro']['f1']:.4f}, 95 % interval over {over} "
            f"[{interval[0]:.4f}, {interval[1]:.4f}]",
            soft_wrap=True,
        )
        for caveat in caveats(sources or scores["documents"], scores["micro"]["support"]):
            console.print(Text(f"Note: {caveat}", style="yellow"), soft_wrap=True)


def print_record(record: Mapping[str, Any], folder: Path, console: Console) -> None:
    """The end of a run: what trained, how long, how well, and what to do next."""
    parameters = record["parameters"]
    share = parameters["trainable"] / parameters["total"]
    summary = (
        f"{record['name']}: {parameters['trainable']:,} of {parameters['total']:,} parameters "
        f"trained ({share:.1%}), best epoch {record['best_epoch']} of {len(record['epochs'])}, "
        f"{record['seconds']:.0f} s, peak memory {_mebibytes(record['peak_memory_bytes'])}"
    )
    console.print(Text(summary))
    for split in ("dev", "test"):
        if record[split]:
            print_scores(record[split], f"{split}: {record['data'][split]['path']}", console)
    scored = [record[split]["micro"] for split in ("dev", "test") if record[split]]
    if any(row["support"] and not row["predicted"] for row in scored):
        console.print(Text(_say_nothing_found(record), style="yellow"), soft_wrap=True)
    lines = [f"model: {folder}/model"]
    test = record.get("settings", {}).get("data", {}).get("test")
    if test and not record["test"]:
        lines.append(f"test:  not scored; nertune evaluate {folder}/model {test}")
    lines.append(f"next:  nertune predict {folder}/model 'some text'")
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _say_nothing_found(record: Mapping[str, Any]) -> str:
    """What to try when a tagger predicts no entity: a rate that this encoder bears."""
    rates = record.get("rates") or {}
    told = "No entity was predicted. "
    rate = next((rates[group] for group in ("adapter", "encoder", "lstm") if group in rates), None)
    if rate is None:  # the head alone trains, which no rate of these can spoil
        return told + "The training is most likely too short: try more epochs."
    return (
        f"{told}Most often train.learning_rate ({rate:.3g}) is too high for what is trained, or "
        f"the training is too short: try --set train.learning_rate={rate / 4:.3g}, or more epochs. "
        "`nertune advise` searches rates."
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        *(_number(row[key]) for key in ("precision", "recall", "f1")),
        f"{row['support']:,}",
        f"{row['predicted']:,}",
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def print_pretraining(record: Mapping[str, Any], folder: Path, console: Console) -> None:
    """What came of pre-training, in a few lines.

    Args:
        record: `record.json`.
        folder: the run's folder.
        console: where to.
    """
    before, after = record["held_out"]["before"], record["held_out"]["after"]
    lines = [
        f"{record['tokens']:,} pieces in {record['steps']:,} steps, {record['seconds']:.0f} s "
        f"({record['tokens_per_second']:,.0f} tokens/s), {record['text_share']:.1%} of them text",
        f"held-out perplexity {before['perplexity']:,.1f} -> {after['perplexity']:,.1f} "
        f"({after['pieces']:,} hidden pieces)"
        if after
        else "no text was held out: perplexity not measured",
        f"encoder: {folder / 'model'}",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def print_export(report: Mapping[str, Any], model: str, console: Console) -> None:
    """The backends of an exported tagger side by side, and how to use them.

    Args:
        report: `parity.json`.
        model: its folder, as it was named.
        console: where to.
    """
    dev = report["dev"]
    title = f"{dev['path']} ({dev['documents']:,} documents, {dev['entities']:,} entities)"
    console.print(Text(title), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True)
    table.add_column("backend", no_wrap=True)
    for name in ("micro-F1", "same entities", "units/s", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("torch", "onnx", "onnx-int8"):
        row = report.get(name)
        if row is None or "units_per_second" not in row:
            continue
        found = row.get("agreement")
        same = f"{found['equal']:,} of {found['entities']:,}" if found else "–"
        size = f"{row['bytes'] / 1e6:.1f}" if "bytes" in row else "–"
        table.add_row(name, _number(row["f1"]), same, f"{row['units_per_second']:,}", size)
    console.print(table)
    for name in ("onnx", "onnx-int8"):
        if name in report and report[name].get("status") == "refused":
            console.print(Text(f"{name}: refused, since {report[name]['reason']}"), soft_wrap=True)
    best = "onnx-int8" if report.get("onnx-int8", {}).get("status") == "exported" else "onnx"
    console.print(Text(f"next:  nertune predict {model} --backend {best} 'some text'"),
                  soft_wrap=True)  # fmt: skip


def _mebibytes(count: int | None) -> str:
    return "not measured" if count is None else f"{count / 2**20:,.0f} MiB"


def print_sweep(console: Console, result: SweepResult) -> None:
    """The best trials, the recipe as it stands among them, and the verdict."""
    done = [t for t in result.trials if t.state == "complete" and t.f1 is not None]
    shown = sorted(done, key=lambda t: -(t.f1 or 0.0))[:_SHOWN_TRIALS]
    if result.base not in shown:
        shown.append(result.base)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True)
    for name in ("trial", "dev F1", "trained", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("settings", overflow="fold")
    for trial in shown:
        told = ", ".join(
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in trial.values.items()
        )
        table.add_row(str(trial.number), _number(trial.f1), f"{trial.trainable or 0:,}",
                      f"{trial.seconds or 0:.0f}",
                      Text(told or "the recipe as it stands"))  # fmt: skip
    console.print(table)
    states = [trial.state for trial in result.trials]
    console.print(
        f"{len(done)} trials complete, {states.count('pruned')} stopped early, "
        f"{states.count('failed')} failed or lost"
    )
    for name, scores in result.confirmed.items():
        told = ", ".join(f"{f1:.4f}" for f1 in scores)
        console.print(f"{name} with further seeds: {told}")
    console.print(Text(result.verdict), soft_wrap=True)
    console.print(f"winner: {result.winner}", markup=False, soft_wrap=True)


def print_advice(console: Console, advice: Advice) -> None:
    """What was tried, what either way costs, and the verdict."""
    from nertune.comparison.search.advice import cost_rows, outcome_rows

    first = advice.plan.first
    heads = ("tried", f"F1 at {first}", "best", "epochs", "trained", "s/epoch")
    console.print(_right_table(heads, outcome_rows(advice)))
    heads = ("best of either", "dev micro-F1", "trained", "s/epoch", "peak", "stored")
    console.print(_right_table(heads, cost_rows(advice)))
    for notice in advice.notices:
        console.print(Text(f"Note: {notice}", style="yellow"), soft_wrap=True)
    console.print(Text(advice.verdict, style="bold"), soft_wrap=True)
    if advice.has_learnt:
        console.print(Text(f"next:  nertune train {advice.recipe}"), soft_wrap=True)
    console.print(Text(f"took {advice.seconds / 60:.1f} min"))


def _right_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Its first column on the left, the others on the right."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left", no_wrap=number > 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
